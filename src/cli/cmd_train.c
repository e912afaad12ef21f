/* bnff train: a thin client of the trainer. Flags in, progress out, signals turned into wishes that the trainer obeys. */
#define _GNU_SOURCE
#include "cli.h"

#include <dirent.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "network.h"
#include "profile.h"
#include "progress.h"
#include "train_options.h"

/* -- Signals ------------------------------------------------------------------------------------------------------- */

static volatile int stop_wish, save_wish;
static volatile sig_atomic_t stop_signal;

/* The first SIGINT or SIGTERM asks for a stop after the step; the second leaves at once: the checkpoints on disk are whole. */
static void on_stop(int signal_number)
{
    static const char waiting[] = "\nbnff: finishing the step, then saving; once more to leave at once\n";
    if (stop_signal) _exit(128 + signal_number);
    stop_signal = signal_number;
    stop_wish = 1;
    if (write(STDERR_FILENO, waiting, sizeof waiting - 1) < 0) return; /* nobody is there to read it */
}

static void on_save(int signal_number)
{
    (void)signal_number;
    save_wish = 1;
}

static void catch_signals(void)
{
    struct sigaction action = {.sa_flags = SA_RESTART};
    sigemptyset(&action.sa_mask);
    action.sa_handler = on_stop;
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    action.sa_handler = on_save;
    sigaction(SIGUSR1, &action, NULL);
    action.sa_handler = SIG_IGN; /* a reader of our output that goes away must not cost the training */
    sigaction(SIGPIPE, &action, NULL);
}

/* -- Which run to resume ------------------------------------------------------------------------------------------- */

static bool changed_at(const char *folder, const char *file, struct timespec *when)
{
    char *path = cli_format("%s/%s", folder, file);
    struct stat info;
    const bool there = stat(path, &info) == 0 && S_ISREG(info.st_mode);
    if (there) *when = info.st_mtim;
    free(path);
    return there;
}

/* The run in `folder` whose checkpoint is the newest; NULL if none has one. The caller frees it. */
static char *newest_run(const char *folder)
{
    char *newest = NULL;
    struct timespec best = {0}, when;
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir && (entry = readdir(dir));) {
        if (entry->d_name[0] == '.') continue;
        char *run = cli_format("%s/%s", folder, entry->d_name);
        const bool newer = changed_at(run, "weights/last.state.safetensors", &when) &&
                           (!newest || when.tv_sec > best.tv_sec || (when.tv_sec == best.tv_sec && when.tv_nsec > best.tv_nsec));
        if (newer) free(newest), newest = run, best = when;
        else free(run);
    }
    if (dir) closedir(dir);
    return newest;
}

/* The run folder that --resume means: given as a folder, or as a file of its weights, or not at all. NULL after a message. */
static char *run_to_resume(const train_arguments *args)
{
    const char *parent = args->train.output_dir ? args->train.output_dir : "runs";
    if (!*args->resume) {
        char *run = newest_run(parent);
        if (!run) cli_fail_text("name the run: bnff train --resume RUN", "%s: no run there has a checkpoint to resume", parent);
        return run;
    }
    struct stat info;
    const bool there = stat(args->resume, &info) == 0;
    if (there && S_ISDIR(info.st_mode)) return cli_format("%s", args->resume);
    const char *weights = strstr(args->resume, "/weights/");
    if (there && weights) return cli_format("%.*s", (int)(weights - args->resume), args->resume);
    cli_fail_text("name the run's folder, such as runs/train", "%s: no such run", args->resume);
    return NULL;
}

/* -- The command --------------------------------------------------------------------------------------------------- */

/* --max-bad in percent becomes a number of files, which needs the data set's size. */
static bnff_status resolve_max_bad(train_arguments *args, bnff_error *error)
{
    if (args->max_bad_percent < 0 || !args->train.data) return BNFF_OK;
    const bnff_dataset_options options = {.size = sizeof options, .channels = args->train.in_channels, .val_ratio = args->train.val_ratio,
                                          .seed = args->train.seed};
    bnff_dataset *dataset = NULL;
    const bnff_status status = bnff_dataset_open(args->train.data, BNFF_SPLIT_TRAIN, &options, &dataset, error);
    if (status == BNFF_OK) args->train.max_bad = (int64_t)(args->max_bad_percent / 100 * (double)bnff_dataset_size(dataset));
    bnff_dataset_destroy(&dataset);
    return status;
}

static int print_json(const progress *p, const char *run_dir, const char *status)
{
    const bnff_event *e = &p->last;
    json_t *best = p->best_epoch ? json_pack("{s:f, s:i}", "acc1", p->best_acc1, "epoch", p->best_epoch) : json_null();
    return cli_json_print(json_pack("{s:s, s:o, s:i, s:I, s:f, s:f, s:f, s:o, s:f, s:f, s:I}", "status", status, "run", cli_json_string(run_dir), "epochs",
                                    p->epochs_done, "steps", (json_int_t)e->total_step, "acc1", p->acc1, "acc5", p->acc5, "loss", p->val_loss, "best", best,
                                    "seconds", e->elapsed_s, "images_per_s", e->images_per_s, "peak_rss_bytes", (json_int_t)p->rss_peak));
}

/* What listens to a training: the progress, and the profile of a step. */
struct listener {
    progress shown;
    bnff_context *context;
    const char *profile; /* file, or NULL */
    int profile_code;
};

static void on_event(void *user, const bnff_event *event)
{
    enum { PROBES = 20 };
    struct listener *l = user;
    progress_event(&l->shown, event);
    if (!event->profile || !l->profile) return;
    double peak = 0; /* the best of some short looks */
    for (int i = 0; i < PROBES; i++) {
        const double rate = bnff_measure_fma(l->context, 0.005);
        if (rate > peak) peak = rate;
    }
    progress_clear(&l->shown);
    if (!l->shown.quiet) profile_print(stderr, event->profile, peak);
    l->profile_code = profile_write(event->profile, l->profile);
}

static int train(bnff_context *context, bnff_trainer *trainer, const train_arguments *args)
{
    enum { PROFILED = 3 }; /* the first steps page in */
    struct listener listener = {.context = context, .profile = args->profile};
    bnff_error error;
    progress_begin(&listener.shown, args->quiet, args->json, args->print_freq);
    if (args->profile) bnff_trainer_profile(trainer, PROFILED);
    const bnff_status status = bnff_trainer_run(trainer, on_event, &listener, &stop_wish, &save_wish, &error);
    const char *run_dir = bnff_trainer_run_dir(trainer);
    progress_clear(&listener.shown);
    if (status == BNFF_E_INTERRUPTED) {
        fprintf(stderr, "bnff: %s\nto go on: %s\n", error.message, error.hint);
        if (args->json) print_json(&listener.shown, run_dir, "interrupted");
        return 128 + (stop_signal ? stop_signal : SIGINT);
    }
    if (status) {
        const int code = cli_fail(&error);
        return status == BNFF_E_ARG ? EXIT_FAILED : code; /* the arguments were fine before the first step */
    }
    const int code = args->json ? print_json(&listener.shown, run_dir, "done") : EXIT_DONE;
    return code == EXIT_DONE ? listener.profile_code : code;
}

/* --dry-run: everything but the training. */
static int describe(bnff_context *context, const train_arguments *args)
{
    bnff_error error;
    char *text = NULL;
    if (bnff_trainer_describe(context, &args->train, &text, &error)) return cli_fail(&error);
    if (args->json) {
        const int code = cli_json_print(json_pack("{s:s, s:o}", "status", "dry run", "text", cli_json_string(text)));
        bnff_free(text);
        return code;
    }
    puts(text);
    bnff_free(text);
    return EXIT_DONE;
}

/* Train, resume, or show what would be trained, with arguments that are in order. */
static int start(bnff_context *context, train_arguments *args)
{
    bnff_error error;
    bnff_trainer *trainer = NULL;
    if (resolve_max_bad(args, &error)) return cli_fail(&error);
    if (args->dry_run) return describe(context, args);
    char *run_dir = NULL;
    if (args->resume && !(run_dir = run_to_resume(args))) return EXIT_FAILED;
    const bnff_status status = run_dir ? bnff_trainer_resume(context, run_dir, &args->train, &trainer, &error)
                                       : bnff_trainer_create(context, &args->train, &trainer, &error);
    const int code = status ? cli_fail(&error) : train(context, trainer, args);
    bnff_trainer_destroy(&trainer);
    free(run_dir);
    return code;
}

static int run(const cli_command *self, int argc, char **argv)
{
    train_arguments args = {.max_bad_percent = -1};
    cli_positionals words;
    bnff_train_options_init(&args.train);
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code >= 0) return code;
    if (args.synthetic && !args.train.data) args.train.data = "synthetic";
    if ((code = cli_expect(self, &words, 0, args.train.data ? 0 : 1)) >= 0) return code;
    if (words.count) args.train.data = words.items[0];
    if (args.dry_run && args.resume) return cli_usage_error(self, "--dry-run shows a new training, --resume goes on with an old one");
    if (!args.train.data && !args.resume) return cli_usage_error(self, "no data named: a folder of class folders, fashion-mnist or cifar10:DIR");

    char *weights = args.train.weights ? cli_find_weights(args.train.weights, args.train.model) : NULL;
    if (args.train.weights && !(args.train.weights = weights)) return EXIT_FAILED;
    if (weights && !args.train.model) args.train.model = cli_recognise(weights);
    catch_signals();
    bnff_error error;
    bnff_context *context = NULL;
    code = cli_context(args.threads, &context, &error) ? cli_fail(&error) : start(context, &args);
    bnff_context_destroy(&context);
    free(weights);
    return code;
}

const cli_command cli_train = {
    .name = "train", .usage = "DATA [options]", .summary = "Train a model on a data set", .options = train_option_table, .run = run,
    .text = "DATA is a folder of class folders (or DIR/train and DIR/val), fashion-mnist, mnist:DIR, cifar10:DIR.\n"
            "With nothing but DATA, model, image size, schedule and batch are chosen to suit it. The run folder\n"
            "gets args.json, results.csv, events.jsonl, report.html and weights/{last,best}.safetensors, which load in\n"
            "torchvision. Options may also be written name=value. Ctrl-C ends the step, saves and tells how to go on;\n"
            "SIGUSR1 saves and goes on.",
    .examples = "  bnff train photos/\n"
                "  bnff train fashion-mnist --model densenet-bc-22-12 --epochs 3 -b 128\n"
                "  bnff train photos/ --weights resnet50.pth --model resnet50 --freeze backbone\n"
                "  bnff train data=photos/ model=densenet121 epochs=30 batch=auto\n"
                "  bnff train --resume runs/train\n",
};
