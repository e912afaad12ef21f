/* Defaults of a training and the rules its options obey. docs/training.md says why each default is what it is. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "train/config.h"

void bnff_train_options_init(bnff_train_options *options)
{
    *options = (bnff_train_options){
        .size = sizeof *options,
        .interpolation = BNFF_BILINEAR,
        .hflip = -1,
        .crop_padding = -1,
        .optimizer = {.size = sizeof options->optimizer, .kind = BNFF_SGD, .momentum = 0.9f, .nesterov = true,
                      .weight_decay = -1, .norm_weight_decay = -1, .bias_weight_decay = -1},
        .schedule = {.size = sizeof options->schedule, .kind = (bnff_schedule_kind)-1, .step_size = 30, .gamma = 0.1, .warmup_decay = 0.01},
        .label_smoothing = 0.1f,
        .grad_accum_steps = 1,
        .workers = -1,
        .max_bad = -1,
        .report = true,
    };
}

/* -- Copies with owned strings -------------------------------------------------------------------------------------- */

bnff_status bf_config_string(const char **field, const char *value, bnff_error *error)
{
    char *copy = value ? bf_strdup(value) : NULL;
    if (value && !copy) return bf_fail(error, BNFF_E_MEMORY, "no memory for the options");
    bf_free((void *)*field);
    *field = copy;
    return BNFF_OK;
}

bnff_status bf_config_copy(bf_config *config, const bnff_train_options *options, bnff_error *error)
{
    bnff_train_options_init(&config->options);
    const size_t known = options->size && options->size < sizeof *options ? options->size : sizeof *options;
    memcpy(&config->options, options, known);
    config->options.size = sizeof config->options;
    bnff_train_options borrowed = config->options;
    for (int i = 0; bf_args_string(&config->options, i); i++) *bf_args_string(&config->options, i) = NULL;
    for (int i = 0; bf_args_string(&config->options, i); i++) {
        const bnff_status status = bf_config_string(bf_args_string(&config->options, i), *bf_args_string(&borrowed, i), error);
        if (status != BNFF_OK) return bf_config_free(config), status;
    }
    return BNFF_OK;
}

void bf_config_free(bf_config *config)
{
    for (int i = 0; bf_args_string(&config->options, i); i++) {
        bf_free((void *)*bf_args_string(&config->options, i));
        *bf_args_string(&config->options, i) = NULL;
    }
}

/* -- Rules ----------------------------------------------------------------------------------------------------------- */

static bnff_status check_number(const char *flag, double value, double low, double high, bnff_error *error)
{
    if (value >= low && value <= high) return BNFF_OK; /* NaN fails both */
    return bf_fail(error, BNFF_E_ARG, "--%s %g: must be in [%g, %g]", flag, value, low, high);
}

static bnff_status check_recipe(const bnff_train_options *o, bnff_error *error)
{
    BF_TRY(check_number("lr", o->schedule.lr, 0, 1e6, error));
    BF_TRY(check_number("lr-min", o->schedule.lr_min, 0, 1e6, error));
    BF_TRY(check_number("lr-gamma", o->schedule.gamma, 0, 1e6, error));
    BF_TRY(check_number("lr-step-size", o->schedule.step_size, 1, 1e6, error));
    BF_TRY(check_number("lr-warmup-epochs", o->schedule.warmup_epochs, 0, 1e5, error));
    BF_TRY(check_number("lr-warmup-decay", o->schedule.warmup_decay, 0, 1, error));
    BF_TRY(check_number("momentum", o->optimizer.momentum, 0, 0.999999, error));
    BF_TRY(check_number("weight-decay", o->optimizer.weight_decay, -1, 1e3, error));
    BF_TRY(check_number("norm-weight-decay", o->optimizer.norm_weight_decay, -1, 1e3, error));
    BF_TRY(check_number("bias-weight-decay", o->optimizer.bias_weight_decay, -1, 1e3, error));
    BF_TRY(check_number("label-smoothing", o->label_smoothing, 0, 0.999999, error));
    BF_TRY(check_number("grad-accum-steps", o->grad_accum_steps, 0, 1e5, error));
    BF_TRY(check_number("clip-grad-norm", o->clip_grad_norm, 0, 1e12, error));
    BF_TRY(check_number("freeze-epochs", o->freeze_epochs, 0, 1e6, error));
    if (o->freeze_bn && strcmp(o->freeze_bn, "stats") && strcmp(o->freeze_bn, "all"))
        return bf_fail(error, BNFF_E_ARG, "--freeze-bn '%s': must be stats or all", o->freeze_bn);
    return BNFF_OK;
}

static bnff_status check_images(const bnff_train_options *o, bnff_error *error)
{
    BF_TRY(check_number("train-crop-size", o->train_crop_size, 0, 16384, error));
    BF_TRY(check_number("val-resize-size", o->val_resize_size, 0, 16384, error));
    BF_TRY(check_number("val-crop-size", o->val_crop_size, 0, 16384, error));
    BF_TRY(check_number("crop-padding", o->crop_padding, -1, 1024, error));
    if (o->hflip >= 0) BF_TRY(check_number("hflip", o->hflip, 0, 1, error));
    BF_TRY(check_number("vflip", o->vflip, 0, 1, error));
    BF_TRY(check_number("scale", o->scale[0], 0, 1, error));
    BF_TRY(check_number("scale", o->scale[1], 0, 1, error));
    BF_TRY(check_number("ratio", o->ratio[0], 0, 100, error));
    BF_TRY(check_number("ratio", o->ratio[1], 0, 100, error));
    if (o->scale[0] > o->scale[1] || o->ratio[0] > o->ratio[1])
        return bf_fail(error, BNFF_E_ARG, "--scale %g %g --ratio %g %g: the first of each pair is the smaller one", o->scale[0], o->scale[1],
                       o->ratio[0], o->ratio[1]);
    if (o->in_channels != 0 && o->in_channels != 1 && o->in_channels != 3)
        return bf_fail(error, BNFF_E_ARG, "--in-chans %d: images have 1 or 3 channels", o->in_channels);
    return BNFF_OK;
}

bnff_status bf_config_check(const bnff_train_options *o, bnff_error *error)
{
    if (!o->data || !*o->data) {
        bf_fail(error, BNFF_E_ARG, "no data set named");
        return bf_hint(error, BNFF_E_ARG, "name a folder of class folders, fashion-mnist, or cifar10:DIR");
    }
    bnff_model_info info;
    if (o->model && !bnff_model_find(o->model, &info)) {
        bf_fail(error, BNFF_E_ARG, "--model '%s': no such model", o->model);
        return bf_hint(error, BNFF_E_ARG, "did you mean '%s'? `bnff models` lists them all", bnff_model_nearest(o->model));
    }
    BF_TRY(check_number("epochs", o->epochs, 0, 1000000, error));
    BF_TRY(check_number("batch-size", o->batch, -1, 1000000, error));
    BF_TRY(check_number("workers", o->workers, -1, 1024, error));
    BF_TRY(check_number("cells", o->cells, 0, 4096, error));
    BF_TRY(check_number("val-ratio", o->val_ratio, 0, 0.95, error));
    BF_TRY(check_number("save-period", o->save_period, 0, 1e6, error));
    BF_TRY(check_number("checkpoint-hist", o->checkpoint_hist, 0, 1e6, error));
    if (o->eval_metric && strcmp(o->eval_metric, "acc1") && strcmp(o->eval_metric, "loss"))
        return bf_fail(error, BNFF_E_ARG, "--eval-metric '%s': must be acc1 or loss", o->eval_metric);
    if (o->name && (!*o->name || strchr(o->name, '/') || !strcmp(o->name, ".") || !strcmp(o->name, "..")))
        return bf_fail(error, BNFF_E_ARG, "--name '%s': must be the name of a folder, without '/'", o->name);
    BF_TRY(check_images(o, error));
    return check_recipe(o, error);
}

/* -- Defaults --------------------------------------------------------------------------------------------------------- */

enum { SMALL_IMAGE = 40 /* pixels a side that get the CIFAR networks */, PHOTO_CROP = 128 };

/* Digits and made-up images have a handedness; clothes and photographs do not. */
static bool flips_by_default(const char *data)
{
    return strncmp(data, "mnist", 5) && strncmp(data, "synthetic", 9);
}

static int default_crop(const bnff_model_info *model, const bf_data_facts *facts)
{
    if (facts->weights_crop) return facts->weights_crop;
    if (facts->fixed_size) return facts->image_size;
    if (facts->fine_tune) return model->default_size;
    /* From scratch on a CPU: 128 pixels cost a third of 224, and small sets lose little by it. */
    int crop = model->default_size < PHOTO_CROP ? model->default_size : PHOTO_CROP;
    if (facts->image_size && facts->image_size < crop) crop = facts->image_size < 32 ? 32 : facts->image_size / 16 * 16;
    return crop < model->min_size ? model->min_size : crop;
}

static void resolve_images(bnff_train_options *o, const bnff_model_info *model, const bf_data_facts *facts)
{
    if (!o->train_crop_size) o->train_crop_size = o->val_crop_size ? o->val_crop_size : default_crop(model, facts);
    if (!o->val_crop_size) o->val_crop_size = o->train_crop_size;
    if (!o->val_resize_size) {
        if (facts->fixed_size && o->val_crop_size == facts->image_size) o->val_resize_size = o->val_crop_size;
        else if (facts->weights_resize && o->val_crop_size == facts->weights_crop) o->val_resize_size = facts->weights_resize;
        else o->val_resize_size = (o->val_crop_size * 8 + 3) / 7; /* 256 for 224 */
    }
    if (o->hflip < 0) o->hflip = flips_by_default(o->data) ? 0.5 : 0;
    /* Small images used whole: CIFAR's are shifted by up to 4 pixels, the centred gray ones of MNIST's kind are left as they are. */
    const bool whole = facts->fixed_size && o->train_crop_size == facts->image_size && facts->image_size <= SMALL_IMAGE;
    if (o->crop_padding < 0) o->crop_padding = whole && o->in_channels != 1 ? 4 : 0;
    if (o->scale[1] == 0) o->scale[0] = whole ? 1 : 0.25, o->scale[1] = 1;
    if (o->ratio[1] == 0) o->ratio[0] = whole ? 1 : 3.0 / 4, o->ratio[1] = whole ? 1 : 4.0 / 3;
}

static void resolve_recipe(bnff_train_options *o, const bf_data_facts *facts, bool small)
{
    if (!o->batch) o->batch = small ? (facts->train_images < 10000 ? 64 : 128) : facts->train_images < 320 ? 16 : 32;
    if (o->batch > facts->train_images) o->batch = (int)facts->train_images;
    if (!o->epochs) o->epochs = facts->fine_tune ? 10 : small ? 10 : 30;
    if (!o->grad_accum_steps) o->grad_accum_steps = 1;
    if ((int)o->schedule.kind < 0) o->schedule.kind = facts->fine_tune ? BNFF_COSINE : BNFF_ONECYCLE;
    if (o->optimizer.weight_decay < 0) {
        o->optimizer.weight_decay = o->optimizer.kind == BNFF_ADAMW ? 0.01f : o->optimizer.kind == BNFF_ADAM ? 0 : facts->fine_tune ? 1e-4f : 5e-4f;
    }
    if (o->optimizer.momentum == 0) o->optimizer.nesterov = false;
    o->schedule.epochs = o->epochs;
}

bnff_status bf_config_resolve(bf_config *config, const bf_data_facts *facts, bnff_error *error)
{
    bnff_train_options *o = &config->options;
    const bool tiny = facts->image_size && facts->image_size <= SMALL_IMAGE;
    if (!o->model) BF_TRY(bf_config_string(&o->model, tiny ? "densenet-bc-22-12" : "resnet18", error));
    if (!o->output_dir) BF_TRY(bf_config_string(&o->output_dir, "runs", error));
    if (!o->name) BF_TRY(bf_config_string(&o->name, "train", error));
    if (!o->level) BF_TRY(bf_config_string(&o->level, bnff_default_level(), error));
    if (!o->algorithm) BF_TRY(bf_config_string(&o->algorithm, bnff_default_algorithm(), error));
    bnff_model_info model;
    if (!bnff_model_find(o->model, &model)) return bf_fail(error, BNFF_E_ARG, "model '%s' is unknown", o->model);
    resolve_images(o, &model, facts);
    const int smallest = o->train_crop_size < o->val_crop_size ? o->train_crop_size : o->val_crop_size;
    if (smallest < model.min_size) {
        bf_fail(error, BNFF_E_SHAPE, "%s needs images of at least %d pixels a side, these are %d", o->model, model.min_size, smallest);
        return bf_hint(error, BNFF_E_SHAPE, "--train-crop-size %d --val-crop-size %d enlarges them; or take a network for small images (densenet-bc-22-12)",
                       model.min_size, model.min_size);
    }
    resolve_recipe(o, facts, o->train_crop_size <= SMALL_IMAGE);
    if (o->workers < 0) o->workers = facts->threads < 8 ? facts->threads : 8;
    if (!o->cells) o->cells = facts->threads;
    if (o->checkpoint_seconds == 0) o->checkpoint_seconds = 300;
    if (o->batch > 0) bf_config_resolve_lr(config, facts->fine_tune);
    return BNFF_OK;
}

void bf_config_resolve_lr(bf_config *config, bool fine_tune)
{
    bnff_train_options *o = &config->options;
    if (o->schedule.lr > 0) return;
    const bool sgd = o->optimizer.kind == BNFF_SGD;
    if (fine_tune) {
        o->schedule.lr = sgd ? 0.01 : 1e-4;
        return;
    }
    /* Proportional to the images of an optimizer step (Goyal et al. 2017), with a ceiling where that rule breaks down. */
    const double images = (double)o->batch * o->grad_accum_steps, scaled = (sgd ? 0.1 : 1e-3) * images / 64, most = sgd ? 0.4 : 4e-3;
    o->schedule.lr = scaled < most ? scaled : most;
}
