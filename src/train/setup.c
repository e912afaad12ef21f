/* Making a trainer: data, network, memory, run folder. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/random.h"
#include "base/target.h"
#include "train/run_folder.h"
#include "train/trainer.h"

enum { KEY_LOADER = 1 /* sub-stream of the seed */ };

/* -- Data ------------------------------------------------------------------------------------------------------------- */

static bnff_status open_data(bnff_trainer *t, int channels, bnff_error *error)
{
    bnff_train_options *o = &t->config.options;
    const bnff_dataset_options options = {
        .size = sizeof options, .channels = o->in_channels ? o->in_channels : channels, .val_ratio = o->val_ratio ? o->val_ratio : 0.2, .seed = o->seed,
    };
    BF_TRY(bnff_dataset_open(o->data, BNFF_SPLIT_TRAIN, &options, &t->train_data, error));
    BF_TRY(bnff_dataset_open(o->data, BNFF_SPLIT_VAL, &options, &t->val_data, error));
    o->in_channels = bnff_dataset_channels(t->train_data);
    if (!o->val_ratio) o->val_ratio = options.val_ratio;
    const char *first;
    const int64_t unread = bnff_dataset_unsupported(t->train_data, &first);
    if (unread) bf_warn(t, "%" PRId64 " file%s not read, such as %s: JPEG, PNG, PPM and BMP are", unread, unread == 1 ? " is" : "s are", first);
    return bf_held_out_find(o->data, &options, t->train_data, t->val_data, &t->card.held_out, error);
}

static int compare_ints(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Median shorter side of a few images spread over the data set; 0 if none could be read. */
static int probe_image_size(const bnff_dataset *data)
{
    enum { PROBES = 5 };
    int sides[PROBES], count = 0;
    const int64_t images = bnff_dataset_size(data);
    for (int i = 0; i < PROBES; i++) {
        bnff_image image;
        if (bnff_dataset_image(data, images * i / PROBES, &image, NULL) != BNFF_OK) continue; /* damaged: the loader reports it */
        sides[count++] = image.width < image.height ? image.width : image.height;
        bnff_image_free(&image);
    }
    qsort(sides, (size_t)count, sizeof *sides, compare_ints);
    return count ? sides[count / 2] : 0;
}

static bf_data_facts gather_facts(const bnff_trainer *t, bool fine_tune, const bf_card *weights_card)
{
    const int fixed = bnff_dataset_image_size(t->train_data);
    return (bf_data_facts){
        .train_images = bnff_dataset_size(t->train_data),
        .image_size = fixed ? fixed : probe_image_size(t->train_data),
        .fixed_size = fixed > 0,
        .fine_tune = fine_tune,
        .weights_crop = weights_card->crop_size,
        .weights_resize = weights_card->resize_size,
        .threads = bnff_context_threads(t->context),
    };
}

/* Preprocessing: the options' sizes; mean and deviation of the weights gone on from, else the data set's. */
static bnff_status write_card(bnff_trainer *t, const bf_card *weights_card, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    BF_TRY(bf_card_describe(&t->card, o->model, t->train_data, error));
    t->card.channels = o->in_channels;
    t->card.crop_size = o->val_crop_size;
    t->card.resize_size = o->val_resize_size;
    t->card.interpolation = o->interpolation;
    bnff_dataset_normalization(t->train_data, t->card.mean, t->card.std);
    if (weights_card->std[0] > 0 && weights_card->channels == o->in_channels) {
        memcpy(t->card.mean, weights_card->mean, sizeof t->card.mean);
        memcpy(t->card.std, weights_card->std, sizeof t->card.std);
    }
    t->val_map = bf_calloc((size_t)bnff_dataset_classes(t->val_data), sizeof *t->val_map);
    if (!t->val_map) return bf_fail(error, BNFF_E_MEMORY, "no memory for the classes");
    return bf_card_match(&t->card, "the training images", t->val_data, "the validation images", t->val_map, error);
}

static void on_bad(void *user, const char *path, const char *reason)
{
    const bool named = !strncmp(reason, path, strlen(path));
    bf_warn(user, "skipped %s%s%s", named ? "" : path, named ? "" : ": ", reason);
}

static bnff_transform training_transform(const bnff_trainer *t)
{
    const bnff_train_options *o = &t->config.options;
    bnff_transform transform = bf_card_transform(&t->card);
    transform.width = transform.height = o->train_crop_size;
    transform.resize = o->train_crop_size;
    transform.augment = true;
    memcpy(transform.scale, o->scale, sizeof transform.scale);
    memcpy(transform.ratio, o->ratio, sizeof transform.ratio);
    transform.crop_padding = o->crop_padding;
    transform.hflip = o->hflip;
    transform.vflip = o->vflip;
    return transform;
}

static bnff_status open_loaders(bnff_trainer *t, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    bnff_loader_options options = {
        .size = sizeof options, .batch = o->batch, .threads = o->workers, .shuffle = true, .seed = bf_random_key(o->seed, KEY_LOADER),
        .max_bad = o->max_bad, .on_bad = on_bad, .on_bad_user = t,
    };
    const bnff_transform train = training_transform(t), val = bf_card_transform(&t->card);
    BF_TRY(bnff_loader_create(t->train_data, &train, &options, &t->train_loader, error));
    options.shuffle = false;
    BF_TRY(bnff_loader_create(t->val_data, &val, &options, &t->val_loader, error));
    t->batches = bnff_loader_batches(t->train_loader);
    t->steps = (t->batches + o->grad_accum_steps - 1) / o->grad_accum_steps;
    t->config.options.schedule.steps_per_epoch = t->steps;
    t->identity = (bf_checkpoint_identity){bf_args_identity(o), bnff_dataset_size(t->train_data), bnff_dataset_size(t->val_data), t->batches};
    return BNFF_OK;
}

/* -- Network ---------------------------------------------------------------------------------------------------------- */

/* Into freshly initialised parameters; says what became of the head. */
static bnff_status load_weights(bnff_trainer *t, const bnff_weights *weights, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    bnff_model_info model;
    bnff_model_find(o->model, &model);
    bnff_load_report report = {0};
    BF_TRY(bf_network_load(&t->network, weights, model.classifier, &report, error));
    bf_text_add(&t->notes, "weights from %s: %d tensors", o->weights, report.loaded);
    if (report.head_replaced) {
        bf_text_add(&t->notes, "; head %s replaced, ", model.classifier);
        if (report.file_classes) bf_text_add(&t->notes, "%" PRId64 " classes there and ", report.file_classes);
        bf_text_add(&t->notes, "%d here", t->network.classes);
    }
    bf_text_add(&t->notes, "\n");
    return BNFF_OK;
}

static bnff_status build_network(bnff_trainer *t, const bnff_weights *weights, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    const bnff_plan_options options = {.level = o->level, .algorithm = o->algorithm, .cells = o->cells};
    BF_TRY(bf_network_create(t->context, o->model, t->card.classes, t->card.channels, &options, &t->network, error));
    BF_TRY(bnff_state_init(t->network.state, o->model, o->seed, error));
    if (weights) BF_TRY(load_weights(t, weights, error));
    bnff_model_info model;
    bnff_model_find(o->model, &model);
    BF_TRY(bf_freeze_create(t->network.graph, o->freeze, o->freeze_bn, model.classifier, &t->freeze, error));
    t->network.options.frozen_params = t->freeze.params;
    t->network.options.frozen_stats = t->freeze.stats;
    if (t->freeze.frozen || t->freeze.bn_frozen)
        bf_text_add(&t->notes, "frozen: %d of %d parameters, %d batch normalizations on running statistics", t->freeze.frozen, t->freeze.total,
                    t->freeze.bn_frozen);
    if (t->freeze.frozen && o->freeze_epochs) bf_text_add(&t->notes, "; for %d epoch%s only", o->freeze_epochs, o->freeze_epochs > 1 ? "s" : "");
    if (t->freeze.frozen || t->freeze.bn_frozen) bf_text_add(&t->notes, "\n");
    return BNFF_OK;
}

/* What is never trained; the freeze may end before the training does. */
static const bool *lasting_freeze(const bnff_trainer *t) { return t->config.options.freeze_epochs ? t->freeze.lasting : t->freeze.params; }

static bnff_status fit_memory(bnff_trainer *t, bool fine_tune, bnff_error *error)
{
    bnff_train_options *o = &t->config.options;
    t->network.options.frozen_params = lasting_freeze(t);
    const bf_fit_request request = {
        .train_size = o->train_crop_size, .val_size = o->val_crop_size, .moments = o->optimizer.kind == BNFF_SGD ? 1 : 2, .workers = o->workers,
        .train_images = bnff_dataset_size(t->train_data), .available = bf_memory_available(),
    };
    if (o->batch < 0) {
        BF_TRY(bf_batch_auto(&t->network, &request, &o->batch, error));
        bf_config_resolve_lr(&t->config, fine_tune);
    }
    t->memory_free = request.available;
    const bnff_status status = bf_memory_check(&t->network, &request, o->batch, &t->need, error);
    t->network.options.frozen_params = t->freeze.params;
    return status;
}

static bnff_status make_buffers(bnff_trainer *t, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    BF_TRY(bf_gradients_create(&t->network, lasting_freeze(t), &t->gradients, error));
    bf_gradients_show(&t->network, t->freeze.params, &t->gradients);
    BF_TRY(bnff_optimizer_create(t->context, t->network.graph, &o->optimizer, lasting_freeze(t), &t->optimizer, error));
    BF_TRY(bf_evaluation_create(t->card.classes, &t->evaluation, error));
    BF_TRY(bf_evaluation_create(t->card.classes, &t->best_evaluation, error));
    const size_t floats = (size_t)o->batch * (size_t)t->card.classes;
    t->logits = bf_calloc(floats, sizeof(float));
    t->logit_gradients = bf_calloc(floats, sizeof(float));
    return t->logits && t->logit_gradients ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for %zu logits", floats);
}

bnff_status bf_trainer_prepare(bnff_trainer *t, const bnff_weights *weights, const bf_card *weights_card, bnff_error *error)
{
    BF_TRY(open_data(t, weights_card->channels, error));
    const bool fine_tune = t->config.options.weights != NULL;
    const int asked = t->config.options.batch;
    const bf_data_facts facts = gather_facts(t, fine_tune, weights_card);
    BF_TRY(bf_config_resolve(&t->config, &facts, error));
    if (asked > t->config.options.batch)
        bf_text_add(&t->notes, "batch %d: there are only %" PRId64 " training images, so it is %d\n", asked, facts.train_images, t->config.options.batch);
    BF_TRY(write_card(t, weights_card, error));
    BF_TRY(build_network(t, weights, error));
    BF_TRY(fit_memory(t, fine_tune, error));
    BF_TRY(make_buffers(t, error));
    return open_loaders(t, error);
}

/* -- A new run -------------------------------------------------------------------------------------------------------- */

static void describe_machine(bnff_trainer *t)
{
    bf_cpu_name(t->machine.cpu, sizeof t->machine.cpu);
    snprintf(t->machine.isa, sizeof t->machine.isa, "%s", bnff_context_isa(t->context));
    t->machine.threads = bnff_context_threads(t->context);
}

bnff_status bf_trainer_write_args(bnff_trainer *t, const bf_machine *machine, bnff_error *error)
{
    char *path = bf_run_path(t->folder, "args.json");
    bf_text text = {0};
    bf_args_write(&text, &t->config.options, machine);
    bnff_status status;
    if (!path || text.failed) status = bf_fail(error, BNFF_E_MEMORY, "no memory for args.json");
    else status = bf_file_replace(path, text.data, text.length, error);
    bf_text_free(&text);
    bf_free(path);
    return status;
}

/* A run must be able to go on from another folder: keep a data folder's whole path ("cifar10:DIR" too). */
static bnff_status absolute_data(bf_config *config, bnff_error *error)
{
    const char *data = config->options.data, *colon = strchr(data, ':');
    const size_t prefix = !bf_is_folder(data) && colon ? (size_t)(colon + 1 - data) : 0;
    if (!bf_is_folder(data + prefix)) return BNFF_OK;
    char *whole = realpath(data + prefix, NULL);
    if (!whole) return BNFF_OK; /* then as it was given */
    bf_text text = {0};
    bf_text_append(&text, data, prefix);
    bf_text_add(&text, "%s", whole);
    free(whole);
    const bnff_status status = text.failed ? bf_fail(error, BNFF_E_MEMORY, "no memory for the data set's path")
                                           : bf_config_string(&config->options.data, text.data, error);
    bf_text_free(&text);
    return status;
}

static bnff_status start_new(bnff_trainer *t, const bnff_weights *weights, const bf_card *card, bnff_error *error)
{
    BF_TRY(bf_trainer_prepare(t, weights, card, error));
    if (t->describing) return BNFF_OK;
    BF_TRY(absolute_data(&t->config, error));
    const bnff_train_options *o = &t->config.options;
    BF_TRY(bf_run_folder_create(o->output_dir, o->name, o->exist_ok, &t->folder, error));
    BF_TRY(bf_run_folder_lock(t->folder, &t->lock, error));
    bf_run_folder_sweep(t->folder);
    BF_TRY(bf_trainer_write_args(t, &t->machine, error));
    return bf_journal_begin(t, error);
}

bnff_trainer *bf_trainer_allocate(bnff_context *context)
{
    bnff_trainer *t = bf_calloc(1, sizeof *t);
    if (!t) return NULL;
    t->context = context;
    t->saved_step = -1;
    t->lock = -1;
    bnff_train_options_init(&t->config.options);
    describe_machine(t);
    return t;
}

static bnff_status create_with_weights(bnff_trainer *t, const bnff_train_options *options, bnff_error *error)
{
    BF_TRY(bf_config_copy(&t->config, options, error));
    BF_TRY(bf_config_check(&t->config.options, error));
    const char *path = t->config.options.weights;
    if (!path) return start_new(t, NULL, &(bf_card){0}, error);
    bnff_weights *weights = NULL;
    bf_card card = {0};
    bnff_status status = bnff_weights_open(path, &weights, error);
    if (status == BNFF_OK) status = bf_card_read(weights, path, &card, error);
    if (status == BNFF_OK && !t->config.options.model && card.model) status = bf_config_string(&t->config.options.model, card.model, error);
    if (status == BNFF_OK) status = bf_config_check(&t->config.options, error); /* the file's model may be unknown here */
    if (status == BNFF_OK) status = start_new(t, weights, &card, error);
    bf_card_free(&card);
    bnff_weights_destroy(&weights);
    return status;
}

bnff_status bnff_trainer_create(bnff_context *context, const bnff_train_options *options, bnff_trainer **trainer, bnff_error *error)
{
    *trainer = NULL;
    bnff_trainer *t = bf_trainer_allocate(context);
    if (!t) return bf_fail(error, BNFF_E_MEMORY, "no memory for a trainer");
    const bnff_status status = create_with_weights(t, options, error);
    if (status != BNFF_OK) bnff_trainer_destroy(&t);
    *trainer = t;
    return status;
}

bnff_status bnff_trainer_describe(bnff_context *context, const bnff_train_options *options, char **text, bnff_error *error)
{
    *text = NULL;
    bnff_trainer *t = bf_trainer_allocate(context);
    if (!t) return bf_fail(error, BNFF_E_MEMORY, "no memory for a trainer");
    t->describing = true;
    bnff_status status = create_with_weights(t, options, error);
    if (status == BNFF_OK && !(*text = bf_start_text(t))) status = bf_fail(error, BNFF_E_MEMORY, "no memory for the description");
    bnff_trainer_destroy(&t);
    return status;
}

const char *bnff_trainer_run_dir(const bnff_trainer *trainer) { return trainer->folder; }

void bnff_trainer_destroy(bnff_trainer **trainer)
{
    bnff_trainer *t = *trainer;
    if (!t) return;
    bnff_loader_destroy(&t->train_loader);
    bnff_loader_destroy(&t->val_loader);
    bnff_dataset_destroy(&t->train_data);
    bnff_dataset_destroy(&t->val_data);
    bnff_optimizer_destroy(&t->optimizer);
    bf_gradients_destroy(&t->network, &t->gradients);
    bf_network_destroy(&t->network);
    bf_freeze_destroy(&t->freeze);
    bf_evaluation_destroy(&t->evaluation);
    bf_evaluation_destroy(&t->best_evaluation);
    bf_card_free(&t->card);
    bf_config_free(&t->config);
    bf_text_free(&t->warnings);
    bf_text_free(&t->notes);
    bf_free(t->history);
    bf_free(t->logits);
    bf_free(t->logit_gradients);
    bf_free(t->val_map);
    bf_run_folder_unlock(t->lock);
    bf_free(t->folder);
    bf_free(t);
    *trainer = NULL;
}
