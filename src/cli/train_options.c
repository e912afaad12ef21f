/* The flags of `bnff train`. Names are those of torchvision's reference scripts; timm's and ultralytics' are aliases. */
#include "train_options.h"

#include <stdlib.h>
#include <string.h>

static bool parse_batch(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    char *end;
    const long batch = !strcmp(text, "auto") || !strcmp(text, "-1") ? -1 : strtol(text, &end, 10);
    if (batch != -1 && (end == text || *end || batch < 1 || batch > 65536)) return snprintf(why, size, "a number from 1 to 65536, or auto"), false;
    args->train.batch = (int)batch;
    return true;
}

static bool parse_optimizer(void *arguments, const char *text, char *why, size_t size)
{
    static const struct { const char *name; bnff_optimizer_kind kind; bool nesterov; } known[] = {
        {"sgd", BNFF_SGD, false}, {"sgd_nesterov", BNFF_SGD, true}, {"adam", BNFF_ADAM, false}, {"adamw", BNFF_ADAMW, false},
        {"nesterov", BNFF_SGD, true}, {"SGD", BNFF_SGD, false}, {"Adam", BNFF_ADAM, false}, {"AdamW", BNFF_ADAMW, false},
    };
    train_arguments *args = arguments;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(text, known[i].name)) continue;
        args->train.optimizer.kind = known[i].kind;
        args->train.optimizer.nesterov = known[i].nesterov;
        return true;
    }
    return snprintf(why, size, "one of sgd sgd_nesterov adam adamw"), false;
}

static bool parse_warmup_method(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    args->train.schedule.warmup_constant = !strcmp(text, "constant");
    if (args->train.schedule.warmup_constant || !strcmp(text, "linear")) return true;
    return snprintf(why, size, "one of linear constant"), false;
}

static bool parse_image_size(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    char *end;
    const long side = strtol(text, &end, 10);
    if (end == text || *end || side < 1 || side > 4096) return snprintf(why, size, "a number of pixels from 1 to 4096"), false;
    args->train.train_crop_size = args->train.val_crop_size = (int)side;
    return true;
}

static bool parse_checkpoint_seconds(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    char *end;
    const double seconds = strtod(text, &end);
    if (end == text || *end || !((seconds > 0 && seconds <= 1e9) || seconds == -1))
        return snprintf(why, size, "a number of seconds above 0 and up to 1e9, or -1: never"), false;
    args->train.checkpoint_seconds = seconds;
    return true;
}

static bool parse_max_bad(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    char *end;
    const double value = strtod(text, &end);
    const bool percent = *end == '%' && end[1] == '\0';
    if (end == text || (*end && !percent) || !(value >= 0) || (percent ? value > 100 : value > 1e15 || value != (double)(int64_t)value))
        return snprintf(why, size, "a number of files, or a share such as 1%%"), false;
    args->max_bad_percent = percent ? value : -1;
    if (!percent) args->train.max_bad = (int64_t)value;
    return true;
}

static bool parse_interpolation(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    args->train.interpolation = !strcmp(text, "bicubic") ? BNFF_BICUBIC : BNFF_BILINEAR;
    if (args->train.interpolation == BNFF_BICUBIC || !strcmp(text, "bilinear")) return true;
    return snprintf(why, size, "one of bilinear bicubic"), false;
}

static bool parse_freeze_bn(void *arguments, const char *text, char *why, size_t size)
{
    train_arguments *args = arguments;
    args->train.freeze_bn = text;
    if (!strcmp(text, "stats") || !strcmp(text, "all")) return true;
    return snprintf(why, size, "one of stats all"), false;
}

/* bnff_schedule_kind in its order, then other spellings. */
static const char *const schedules[] = {"constant", "steplr", "cosineannealinglr", "onecycle", "none=constant", "step=steplr",
                                        "cosine=cosineannealinglr", "onecyclelr=onecycle", NULL};

#define TRAIN(field) offsetof(train_arguments, train.field)
#define OWN(field) offsetof(train_arguments, field)

const cli_option train_option_table[] = {
    {"Data", CLI_GROUP},
    {"data-path,data,data-dir", CLI_STRING, TRAIN(data), "DATA", "The data set, instead of the first argument."},
    {"synthetic", CLI_FLAG, OWN(synthetic), NULL, "Made-up images that can be learnt: a trial without data."},
    {"val-ratio,val-split", CLI_DOUBLE, TRAIN(val_ratio), "R", "Share held out, by class, where there is no val folder (0.2).", 0.001, 0.95},
    {"in-chans", CLI_INT, TRAIN(in_channels), "N", "Read images as gray (1) or colour (3). Default: by the data.", 1, 3},
    {"workers,j", CLI_INT, TRAIN(workers), "N", "Threads that decode and augment. Default: by the machine.", -1, 1024},
    {"max-bad", CLI_CUSTOM, 0, "N|P%", "Damaged files to skip before giving up (1%).", .parse = parse_max_bad},

    {"Augmentation", CLI_GROUP},
    {"img-size,imgsz", CLI_CUSTOM, 0, "N", "Side of the images, for training and validation.", .parse = parse_image_size},
    {"train-crop-size", CLI_INT, TRAIN(train_crop_size), "N", "Side of the training images.", 1, 4096},
    {"val-resize-size", CLI_INT, TRAIN(val_resize_size), "N", "Shorter side before the centre crop of validation.", 1, 8192},
    {"val-crop-size", CLI_INT, TRAIN(val_crop_size), "N", "Side of the validation images.", 1, 4096},
    {"interpolation", CLI_CUSTOM, 0, "NAME", "bilinear (default) or bicubic.", .parse = parse_interpolation},
    {"hflip,fliplr", CLI_DOUBLE, TRAIN(hflip), "P", "Chance of a mirror image. Default: by the data.", 0, 1},
    {"vflip,flipud", CLI_DOUBLE, TRAIN(vflip), "P", "Chance of an upside-down image (0).", 0, 1},
    {"scale", CLI_PAIR, TRAIN(scale), "MIN MAX", "Area of the random crop, as a share.", 0.001, 1},
    {"ratio", CLI_PAIR, TRAIN(ratio), "MIN MAX", "Aspect ratio of the random crop (0.75 1.333).", 0.01, 100},
    {"crop-padding", CLI_INT, TRAIN(crop_padding), "N", "Pad by N and crop, instead of the resized crop. Default: by the data.", 0, 1024},

    {"Model", CLI_GROUP},
    {"model,m", CLI_STRING, TRAIN(model), "NAME", "An architecture that 'bnff models' lists. Default: by the data."},
    {"weights,pretrained,pretrained-path,initial-checkpoint", CLI_STRING, TRAIN(weights), "FILE|NAME",
     "Start from these (.safetensors, .pth, or DEFAULT, IMAGENET1K_V1, ... in PyTorch's cache); the head is replaced for the data's classes."},
    {"freeze", CLI_STRING, TRAIN(freeze), "WHAT", "backbone, a number of leading layers, or a regular expression on parameter names; frozen parts cost no backward."},
    {"freeze-epochs", CLI_INT, TRAIN(freeze_epochs), "N", "End the freeze after N epochs.", 0, 1000000},
    {"freeze-bn", CLI_CUSTOM, 0, "WHAT", "stats: normalise with the running statistics; all: also keep weight and bias.", .parse = parse_freeze_bn},

    {"Optimization", CLI_GROUP},
    {"epochs", CLI_INT, TRAIN(epochs), "N", "Times through the data. Default: by the data.", 1, 1000000},
    {"batch-size,batch,b", CLI_CUSTOM, 0, "N|auto", "Images a step; auto: the most that fit into memory.", .parse = parse_batch},
    {"opt,optimizer", CLI_CUSTOM, 0, "NAME", "sgd, sgd_nesterov, adam or adamw.", .parse = parse_optimizer},
    {"lr,lr0", CLI_DOUBLE, TRAIN(schedule.lr), "X", "Learning rate. Default: by optimizer and batch; 0.01 with --weights.", 1e-12},
    {"momentum", CLI_FLOAT, TRAIN(optimizer.momentum), "X", "Of SGD (0.9).", 0, 0.9999},
    {"weight-decay,wd", CLI_FLOAT, TRAIN(optimizer.weight_decay), "X", "Default: by the optimizer.", 0, 1000},
    {"norm-weight-decay", CLI_FLOAT, TRAIN(optimizer.norm_weight_decay), "X", "Of weights and biases of batch normalizations. Default: the same.", 0, 1000},
    {"bias-weight-decay", CLI_FLOAT, TRAIN(optimizer.bias_weight_decay), "X", "Of the other biases. Default: the same.", 0, 1000},
    {"lr-scheduler,sched", CLI_CHOICE, TRAIN(schedule.kind), "NAME", "constant, steplr, cosineannealinglr or onecycle.", .choices = schedules},
    {"lr-step-size,decay-epochs", CLI_INT, TRAIN(schedule.step_size), "N", "steplr: epochs between steps (30).", 1, 1000000},
    {"lr-gamma,decay-rate", CLI_DOUBLE, TRAIN(schedule.gamma), "X", "steplr: factor (0.1).", 0, 1},
    {"lr-min,min-lr", CLI_DOUBLE, TRAIN(schedule.lr_min), "X", "cosineannealinglr: where it ends (0).", 0},
    {"lr-warmup-epochs,warmup-epochs", CLI_INT, TRAIN(schedule.warmup_epochs), "N", "Epochs of warm-up (0).", 0, 1000000},
    {"lr-warmup-method", CLI_CUSTOM, 0, "NAME", "linear or constant.", .parse = parse_warmup_method},
    {"lr-warmup-decay", CLI_DOUBLE, TRAIN(schedule.warmup_decay), "X", "First learning rate as a share of --lr (0.01).", 0, 1},
    {"label-smoothing,smoothing", CLI_FLOAT, TRAIN(label_smoothing), "X", "Share of the target spread over all classes (0).", 0, 0.9999},
    {"grad-accum-steps", CLI_INT, TRAIN(grad_accum_steps), "N",
     "Batches whose gradients make one step; batch normalization sees each batch alone (1).", 1, 65536},
    {"clip-grad-norm,clip-grad", CLI_DOUBLE, TRAIN(clip_grad_norm), "X", "Longest gradient, all parameters together (none).", 0},
    {"max-steps", CLI_INT64, TRAIN(max_steps), "N", "Stop after N steps in all.", 1},
    {"seed", CLI_SEED, TRAIN(seed), "N", "Of weights, order, augmentation, dropout: equal seeds give equal bits."},

    {"Engine", CLI_GROUP},
    {"threads,t", CLI_INT, OWN(threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"cells", CLI_INT, TRAIN(cells), "N", "Parts the work is cut into; equal cells give equal bits (threads).", 1, 4096},
    {"level", CLI_STRING, TRAIN(level), "NAME", "How far batch normalization is restructured; 'bnff plan' shows what it does."},
    {"conv", CLI_STRING, TRAIN(algorithm), "NAME", CLI_CONV_HELP},
    {"profile", CLI_STRING, OWN(profile), "FILE", "Write the third step as trace events, which Perfetto and chrome://tracing open, and print where its time went."},

    {"Run", CLI_GROUP},
    {"output-dir,project,output", CLI_STRING, TRAIN(output_dir), "DIR", "Where run folders are made (runs)."},
    {"name", CLI_STRING, TRAIN(name), "NAME", "Of the run folder (train); a number is appended if it is taken."},
    {"exist-ok", CLI_FLAG, TRAIN(exist_ok), NULL, "Use the folder even if it exists; its files are replaced."},
    {"resume", CLI_OPTIONAL, OWN(resume), "[RUN]", "Go on with a run, bit for bit as if it had not stopped; without RUN the newest one."},
    {"save-period", CLI_INT, TRAIN(save_period), "N", "Also keep a checkpoint every N epochs.", 1, 1000000},
    {"checkpoint-hist", CLI_INT, TRAIN(checkpoint_hist), "N", "Of those, keep the newest N (all).", 0, 1000000},
    {"eval-metric", CLI_STRING, TRAIN(eval_metric), "NAME", "What makes the best epoch: acc1 (default) or loss."},
    {"checkpoint-seconds", CLI_CUSTOM, 0, "S", "Save every S seconds in mid-epoch too (300; -1: never).", .parse = parse_checkpoint_seconds},
    {"report", CLI_FLAG, TRAIN(report), NULL, "Write report.html at the end (default)."},
    {"no-report", CLI_UNFLAG, TRAIN(report), NULL, "Do not."},
    {"dry-run", CLI_FLAG, OWN(dry_run), NULL, "Show the plan, its memory and FLOPs, and stop."},
    {"print-freq,log-interval", CLI_INT, OWN(print_freq), "N", "Not on a terminal: a line every N steps (every 30 s).", 1, 1000000000},
    {"quiet,q", CLI_FLAG, OWN(quiet), NULL, "No progress; warnings, errors and the result only."},
    {"json", CLI_FLAG, OWN(json), NULL, "At the end, one JSON document on stdout."},
    {0},
};
