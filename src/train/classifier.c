/* A trained network for evaluation and prediction, from a weight file and what the file says of itself. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "runtime/plan.h"
#include "train/batch_fit.h"
#include "train/card.h"
#include "train/checkpoint.h"
#include "train/evaluate.h"
#include "train/held_out.h"
#include "train/train_network.h"
#include <bnff/train.h>

struct bnff_classifier {
    bnff_context *context;
    char *path;
    bf_card card;
    bf_network network;
    int batch, workers;
    bool knows_images; /* the file says how images are prepared */
    int least_size;    /* where nobody says their size: what a data set's must be to be taken; 0: somebody does */
    float *pixels, *logits; /* of one image */
};

/* -- Opening ---------------------------------------------------------------------------------------------------------- */

/* Classes of a foreign state dict: rows of the head's weight. */
static bnff_status infer_classes(bnff_classifier *c, const bnff_weights *weights, const bnff_model_info *model, bnff_error *error)
{
    if (c->card.classes) return BNFF_OK;
    char name[256];
    snprintf(name, sizeof name, "%s.weight", model->classifier);
    bnff_weights_entry head;
    if (!bnff_weights_get(weights, bnff_weights_find(weights, name), &head) || head.rank != 2 || head.shape[0] < 1 || head.shape[0] > 1000000) {
        bf_fail(error, BNFF_E_FORMAT, "%s: no tensor '%s' of two dimensions, so these are not weights of %s", c->path, name, c->card.model);
        return bf_hint(error, BNFF_E_FORMAT, "`bnff info %s` lists what is there; --model names the architecture", c->path);
    }
    c->card.classes = (int)head.shape[0];
    return BNFF_OK;
}

/* Image channels of a foreign state dict: second dimension of the first convolution's weight, found by building the model. */
static bnff_status infer_channels(bnff_classifier *c, const bnff_weights *weights, bnff_error *error)
{
    if (c->card.channels) return BNFF_OK;
    c->card.channels = 3;
    bnff_graph *graph = NULL;
    const bnff_model_options options = {.classes = c->card.classes, .channels = 3};
    BF_TRY(bnff_graph_create(&graph, error));
    const bnff_status status = bnff_model_build(graph, c->card.model, &options, error);
    bnff_param_info first;
    bnff_weights_entry stem;
    if (status == BNFF_OK && bnff_graph_param(graph, 0, &first) && bnff_weights_get(weights, bnff_weights_find(weights, first.name), &stem) &&
        stem.rank == 4 && stem.shape[1] == 1) c->card.channels = 1;
    bnff_graph_destroy(&graph);
    return status;
}

/* What neither file nor caller says: ImageNet's way. */
static void fill_preprocessing(bnff_classifier *c, const bnff_model_info *model, const bnff_classifier_options *options)
{
    bf_card *card = &c->card;
    const bool known = card->crop_size > 0;
    if (options->crop_size > 0 && options->crop_size != card->crop_size) card->crop_size = options->crop_size, card->resize_size = 0;
    if (!card->crop_size && options->resize_size <= 0) c->least_size = model->min_size;
    if (!card->crop_size) card->crop_size = model->default_size;
    if (options->resize_size > 0) card->resize_size = options->resize_size;
    if (!card->resize_size) card->resize_size = !known && model->default_size < 64 ? card->crop_size : (card->crop_size * 8 + 3) / 7; /* 256 for 224 */
    c->knows_images = card->std[0] > 0;
    if (!c->knows_images) bf_imagenet_normalization(card->channels, card->mean, card->std);
}

static bnff_status choose_model(bnff_classifier *c, const char *wanted, bnff_model_info *model, bnff_error *error)
{
    if (wanted) {
        bf_free(c->card.model);
        if (!(c->card.model = bf_strdup(wanted))) return bf_fail(error, BNFF_E_MEMORY, "no memory for a model's name");
    }
    if (!c->card.model) {
        bf_fail(error, BNFF_E_ARG, "%s: the file does not say which model it belongs to", c->path);
        return bf_hint(error, BNFF_E_ARG, "name it with --model, such as --model resnet50");
    }
    if (bnff_model_find(c->card.model, model)) return BNFF_OK;
    bf_fail(error, BNFF_E_ARG, "%s: '%s' is no model of this library", c->path, c->card.model);
    return bf_hint(error, BNFF_E_ARG, "did you mean '%s'?", bnff_model_nearest(c->card.model));
}

static bnff_status check_options(const bnff_classifier_options *o, bnff_error *error)
{
    if (o->batch < 0 || o->batch > 1000000) return bf_fail(error, BNFF_E_ARG, "--batch-size %d: must be in [1, 1000000]", o->batch);
    if (o->crop_size < 0 || o->crop_size > 16384 || o->resize_size < 0 || o->resize_size > 16384)
        return bf_fail(error, BNFF_E_ARG, "crop size %d, resize size %d: must be in [1, 16384]", o->crop_size, o->resize_size);
    if (o->workers < -1 || o->workers > 1024) return bf_fail(error, BNFF_E_ARG, "--workers %d: must be in [-1, 1024]", o->workers);
    return BNFF_OK;
}

static bnff_status open_weights(bnff_classifier *c, const bnff_weights *weights, const bnff_classifier_options *options, bnff_error *error)
{
    bnff_model_info model;
    BF_TRY(bf_card_read(weights, c->path, &c->card, error));
    BF_TRY(choose_model(c, options->model, &model, error));
    BF_TRY(infer_classes(c, weights, &model, error));
    BF_TRY(infer_channels(c, weights, error));
    fill_preprocessing(c, &model, options);
    if (c->card.resize_size < c->card.crop_size) c->card.resize_size = c->card.crop_size;
    bf_algorithm algorithm;
    BF_TRY(bf_find_algorithm(options->algorithm, &algorithm, error));
    const bnff_plan_options shared = {.size = sizeof shared, .algorithm = bf_algorithm_text(algorithm)};
    BF_TRY(bf_network_create(c->context, c->card.model, c->card.classes, c->card.channels, &shared, &c->network, error));
    bnff_load_report report = {0};
    BF_TRY(bf_network_load(&c->network, weights, NULL, &report, error));
    const size_t pixels = (size_t)c->card.crop_size * (size_t)c->card.crop_size * (size_t)c->card.channels;
    c->pixels = bf_calloc(pixels, sizeof(float));
    c->logits = bf_calloc((size_t)c->card.classes, sizeof(float));
    return c->pixels && c->logits ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for an image of %d pixels a side", c->card.crop_size);
}

static bnff_status open_file(bnff_classifier *c, const char *path, const bnff_classifier_options *options, bnff_error *error)
{
    BF_TRY(check_options(options, error));
    const int threads = bnff_context_threads(c->context);
    c->batch = options->batch ? options->batch : 32;
    c->workers = options->workers >= 0 ? options->workers : threads < 8 ? threads : 8;
    if (!(c->path = bf_strdup(path))) return bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    bnff_weights *weights = NULL;
    BF_TRY(bnff_weights_open(path, &weights, error));
    const bnff_status status = open_weights(c, weights, options, error);
    bnff_weights_destroy(&weights);
    return status;
}

bnff_status bnff_classifier_open(bnff_context *context, const char *weights, const bnff_classifier_options *options, bnff_classifier **classifier,
                                 bnff_error *error)
{
    *classifier = NULL;
    static const bnff_classifier_options defaults = {.size = sizeof defaults, .workers = -1};
    bnff_classifier *c = bf_calloc(1, sizeof *c);
    if (!c) return bf_fail(error, BNFF_E_MEMORY, "no memory for a classifier");
    c->context = context;
    const bnff_status status = open_file(c, weights, options ? options : &defaults, error);
    if (status != BNFF_OK) bnff_classifier_destroy(&c);
    *classifier = c;
    return status;
}

void bnff_classifier_destroy(bnff_classifier **classifier)
{
    bnff_classifier *c = *classifier;
    if (!c) return;
    bf_network_destroy(&c->network);
    bf_card_free(&c->card);
    bf_free(c->pixels);
    bf_free(c->logits);
    bf_free(c->path);
    bf_free(c);
    *classifier = NULL;
}

int bnff_classifier_classes(const bnff_classifier *classifier) { return classifier->card.classes; }
int bnff_classifier_channels(const bnff_classifier *classifier) { return classifier->card.channels; }
const char *bnff_classifier_model(const bnff_classifier *classifier) { return classifier->card.model; }
bool bnff_classifier_knows_images(const bnff_classifier *classifier) { return classifier->knows_images; }

const char *bnff_classifier_class_name(const bnff_classifier *classifier, int label)
{
    const bf_card *card = &classifier->card;
    return card->class_names && label >= 0 && label < card->classes ? card->class_names[label] : NULL;
}

static bnff_status not_finite(const bnff_classifier *c, bnff_error *error)
{
    bf_fail(error, BNFF_E_FORMAT, "%s: the network's results are not finite numbers", c->path);
    return bf_hint(error, BNFF_E_FORMAT, "the weights are damaged, or of a training that had diverged; an earlier checkpoint may be whole");
}

/* -- Evaluating ------------------------------------------------------------------------------------------------------- */

struct pass {
    bnff_dataset *data;
    bnff_loader *loader;
    int *map;
    bf_evaluation evaluation;
};

/* As the file says; what it does not say, as a training on the data set would. */
static bnff_transform evaluation_transform(const bnff_classifier *c, const bnff_dataset *data)
{
    bnff_transform transform = bf_card_transform(&c->card);
    const int side = bnff_dataset_image_size(data);
    if (!c->knows_images) bnff_dataset_normalization(data, transform.mean, transform.std);
    if (c->least_size && side >= c->least_size) transform.width = transform.height = transform.resize = side;
    return transform;
}

static bnff_status run_pass(bnff_classifier *c, const char *spec, struct pass *pass, bnff_error *error)
{
    BF_TRY(bf_held_out_open(spec, c->card.channels, &c->card.held_out, &pass->data, error));
    pass->map = bf_calloc((size_t)bnff_dataset_classes(pass->data), sizeof *pass->map);
    if (!pass->map) return bf_fail(error, BNFF_E_MEMORY, "no memory for the classes");
    BF_TRY(bf_card_match(&c->card, c->path, pass->data, spec, pass->map, error));
    const int64_t images = bnff_dataset_size(pass->data);
    const bnff_loader_options loading = {.size = sizeof loading, .batch = c->batch < images ? c->batch : (int)images, .threads = c->workers, .max_bad = -1};
    const bnff_transform transform = evaluation_transform(c, pass->data);
    BF_TRY(bf_memory_check_evaluation(&c->network, transform.width, c->workers, loading.batch, error));
    BF_TRY(bnff_loader_create(pass->data, &transform, &loading, &pass->loader, error));
    BF_TRY(bf_evaluation_create(c->card.classes, &pass->evaluation, error));
    return bf_evaluate(&c->network, pass->loader, transform.width, pass->map, NULL, &pass->evaluation, error);
}

bnff_status bnff_classifier_evaluate(bnff_classifier *classifier, const char *data, bnff_evaluation *result, bnff_error *error)
{
    *result = (bnff_evaluation){0};
    struct pass pass = {0};
    bnff_status status = run_pass(classifier, data, &pass, error);
    if (status == BNFF_OK && !isfinite(pass.evaluation.metrics.loss_sum)) status = not_finite(classifier, error);
    if (status == BNFF_OK) {
        const bf_evaluation *e = &pass.evaluation;
        *result = (bnff_evaluation){
            .acc1 = bf_metrics_acc1(&e->metrics), .acc5 = bf_metrics_acc5(&e->metrics), .loss = bf_metrics_loss(&e->metrics),
            .images = e->metrics.images, .bad = bnff_loader_bad(pass.loader), .seconds = e->seconds, .classes = e->classes, .confusion = e->confusion,
        };
        pass.evaluation.confusion = NULL; /* the caller's now */
    }
    bf_evaluation_destroy(&pass.evaluation);
    bnff_loader_destroy(&pass.loader);
    bnff_dataset_destroy(&pass.data);
    bf_free(pass.map);
    return status;
}

/* -- Predicting ------------------------------------------------------------------------------------------------------- */

/* Pillow's convert: gray is replicated; colour becomes ITU-R 601 luma in 16-bit fixed point. */
static bnff_status convert(const bnff_image *image, int channels, bnff_image *converted, bnff_error *error)
{
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    size_t bytes;
    *converted = (bnff_image){.width = image->width, .height = image->height, .channels = channels};
    if (!bf_size_mul(pixels, (size_t)channels, &bytes) || !(converted->pixels = bf_alloc(bytes)))
        return bf_fail(error, BNFF_E_MEMORY, "no memory for %d x %d pixels", image->width, image->height);
    for (size_t i = 0; i < pixels; i++) {
        if (channels == 3) {
            memset(converted->pixels + 3 * i, image->pixels[i], 3);
        } else {
            const uint8_t *p = image->pixels + 3 * i;
            converted->pixels[i] = (uint8_t)((p[0] * 19595 + p[1] * 38470 + p[2] * 7471 + 0x8000) >> 16);
        }
    }
    return BNFF_OK;
}

bnff_status bnff_classifier_predict(bnff_classifier *classifier, const bnff_image *image, float *probabilities, bnff_error *error)
{
    bnff_classifier *c = classifier;
    if (!image->pixels || image->width < 1 || image->height < 1 || (image->channels != 1 && image->channels != 3))
        return bf_fail(error, BNFF_E_ARG, "an image of %d x %d pixels and %d channels", image->width, image->height, image->channels);
    const bnff_transform transform = bf_card_transform(&c->card);
    bnff_image converted = {0};
    const bnff_image *input = image;
    if (image->channels != c->card.channels) {
        BF_TRY(convert(image, c->card.channels, &converted, error));
        input = &converted;
    }
    bnff_status status = bnff_transform_apply(&transform, input, 0, c->pixels, error);
    bf_free(converted.pixels);
    if (status == BNFF_OK) status = bf_network_infer(&c->network, c->pixels, 1, c->card.crop_size, c->card.crop_size, c->logits, error);
    for (int k = 0; status == BNFF_OK && k < c->card.classes; k++)
        if (!isfinite(c->logits[k])) status = not_finite(c, error);
    if (status == BNFF_OK) bf_softmax(c->logits, c->card.classes, probabilities);
    return status;
}
