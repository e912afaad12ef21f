#define _GNU_SOURCE
#include "data/dataset.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/random.h"

#define FASHION_FOLDER "/usr/share/datasets/fashion-mnist"

bnff_status bf_dataset_no_memory(bnff_error *error) { return bf_fail(error, BNFF_E_MEMORY, "no memory to list the data set"); }

static bool make_room(bnff_dataset *d)
{
    if (d->count < d->capacity) return true;
    const int64_t larger = d->capacity ? d->capacity * 2 : 1024;
    int32_t *labels = bf_realloc(d->labels, (size_t)larger, sizeof *labels);
    if (labels) d->labels = labels;
    size_t *names = bf_realloc(d->names, (size_t)larger, sizeof *names);
    if (names) d->names = names;
    if (!labels || !names) return false;
    d->capacity = larger;
    return true;
}

bnff_status bf_dataset_add(bnff_dataset *d, int label, const char *name, bnff_error *error)
{
    if (!make_room(d)) return bf_dataset_no_memory(error);
    d->labels[d->count] = label;
    d->names[d->count] = d->name_text.length;
    bf_text_append(&d->name_text, name, strlen(name) + 1);
    if (d->name_text.failed) return bf_dataset_no_memory(error);
    d->count++;
    return BNFF_OK;
}

bnff_status bf_dataset_add_class(bnff_dataset *d, const char *name, bnff_error *error)
{
    char **grown = bf_realloc(d->class_names, (size_t)d->classes + 1, sizeof *grown);
    if (!grown) return bf_dataset_no_memory(error);
    d->class_names = grown;
    if (!(grown[d->classes] = bf_strdup(name))) return bf_dataset_no_memory(error);
    d->classes++;
    return BNFF_OK;
}

void bf_dataset_set_normalization(bnff_dataset *d, const float mean[3], const float std[3])
{
    memcpy(d->mean, mean, sizeof d->mean);
    memcpy(d->std, std, sizeof d->std);
}

void bf_imagenet_normalization(int channels, float mean[3], float std[3])
{
    static const float means[3] = {0.485f, 0.456f, 0.406f}, deviations[3] = {0.229f, 0.224f, 0.225f};
    for (int c = 0; c < 3; c++) {
        mean[c] = channels == 3 ? means[c] : 0.449f;
        std[c] = channels == 3 ? deviations[c] : 0.226f;
    }
}

/* -- The held-out share ------------------------------------------------------------------------------------------- */

uint64_t bf_text_key(uint64_t seed, const char *text)
{
    uint64_t key = bf_random_key(seed, 0x73706C6974); /* "split" */
    for (const unsigned char *c = (const unsigned char *)text; *c; c++) key = (key ^ *c) * 0x100000001B3u; /* FNV-1a's step */
    return bf_mix64(key);
}

typedef struct ranked {
    int32_t label;
    uint64_t key;
    int64_t item;
} ranked;

static int compare_ranked(const void *pa, const void *pb)
{
    const ranked *a = pa, *b = pb;
    if (a->label != b->label) return a->label < b->label ? -1 : 1;
    if (a->key != b->key) return a->key < b->key ? -1 : 1;
    return a->item < b->item ? -1 : a->item > b->item;
}

static int64_t held_of(int64_t n, double ratio)
{
    const int64_t share = llrint((double)n * ratio);
    return n < 2 ? 0 : share < 1 ? 1 : share > n - 1 ? n - 1 : share;
}

bnff_status bf_stratify(const int32_t *labels, const uint64_t *keys, int64_t count, int classes, double ratio, uint8_t *held, bnff_error *error)
{
    ranked *order = bf_calloc((size_t)count, sizeof *order);
    int64_t *sizes = bf_calloc((size_t)classes, sizeof *sizes);
    bnff_status status = order && sizes ? BNFF_OK : bf_dataset_no_memory(error);
    if (status == BNFF_OK) {
        for (int64_t i = 0; i < count; i++) order[i] = (ranked){labels[i], keys[i], i}, sizes[labels[i]]++;
        qsort(order, (size_t)count, sizeof *order, compare_ranked);
        memset(held, 0, (size_t)count);
        for (int64_t i = 0, c = 0; c < classes; i += sizes[c++])
            for (int64_t k = 0; k < held_of(sizes[c], ratio); k++) held[order[i + k].item] = 1;
    }
    bf_free(order);
    bf_free(sizes);
    return status;
}

/* -- Opening ------------------------------------------------------------------------------------------------------- */

static bnff_status check_options(const bnff_dataset_options *given, bnff_dataset_options *options, bnff_error *error)
{
    *options = (bnff_dataset_options){.size = sizeof *options};
    if (given) memcpy(options, given, given->size < sizeof *options ? given->size : sizeof *options);
    if (options->channels != 0 && options->channels != 1 && options->channels != 3)
        return bf_fail(error, BNFF_E_ARG, "%d channels asked for, images have 1 or 3", options->channels);
    if (!(options->val_ratio >= 0 && options->val_ratio < 1))
        return bf_fail(error, BNFF_E_ARG, "share of images held out is %g, it must be at least 0 and less than 1", options->val_ratio);
    if (options->val_ratio == 0) options->val_ratio = 0.2;
    return BNFF_OK;
}

static bnff_status check_folder(const char *path, bnff_error *error)
{
    struct stat info;
    if (stat(path, &info)) {
        const int cause = errno;
        bf_fail(error, BNFF_E_IO, "%s: cannot open this data set: %s", path, strerror(cause));
        return bf_hint(error, BNFF_E_IO, "give a folder that holds one folder of images a class, or fashion-mnist, mnist:DIR, cifar10:DIR, synthetic");
    }
    if (S_ISDIR(info.st_mode)) return BNFF_OK;
    bf_fail(error, BNFF_E_IO, "%s: not a folder", path);
    return bf_hint(error, BNFF_E_IO, "give the folder that holds one folder of images a class%s", strstr(path, ".zip") || strstr(path, ".tar") ? "; unpack archives first" : "");
}

static bnff_status open_fashion(bnff_dataset *d, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    if (bf_is_folder(FASHION_FOLDER)) return bf_open_fashion(d, FASHION_FOLDER, split, options, error);
    bf_fail(error, BNFF_E_IO, "%s: Fashion-MNIST is not installed", FASHION_FOLDER);
    return bf_hint(error, BNFF_E_IO, "install it with `apt-get install dataset-fashion-mnist`, or name its folder: fashion-mnist:DIR");
}

static bnff_status open_known(bnff_dataset *d, bf_open *open, const char *folder, bnff_split split, const bnff_dataset_options *options,
                              bnff_error *error)
{
    BF_TRY(check_folder(folder, error));
    return open(d, folder, split, options, error);
}

static bool takes_prefix(const char *spec, const char *prefix, const char **rest)
{
    const size_t length = strlen(prefix);
    if (strncmp(spec, prefix, length)) return false;
    *rest = spec + length;
    return true;
}

static bnff_status open_spec(bnff_dataset *d, const char *spec, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    const char *rest;
    if (!strcmp(spec, "fashion-mnist")) return open_fashion(d, split, options, error);
    if (!strcmp(spec, "synthetic")) return bf_open_synthetic(d, "", split, options, error);
    if (takes_prefix(spec, "synthetic:", &rest)) return bf_open_synthetic(d, rest, split, options, error);
    if (takes_prefix(spec, "fashion-mnist:", &rest)) return open_known(d, bf_open_fashion, rest, split, options, error);
    if (takes_prefix(spec, "mnist:", &rest)) return open_known(d, bf_open_mnist, rest, split, options, error);
    if (takes_prefix(spec, "cifar10:", &rest)) return open_known(d, bf_open_cifar, rest, split, options, error);
    BF_TRY(check_folder(spec, error));
    if (bf_has_idx(spec)) return bf_open_idx(d, spec, split, options, error);
    if (bf_has_cifar(spec)) return bf_open_cifar(d, spec, split, options, error);
    return bf_open_folder(d, spec, split, options, error);
}

bnff_status bnff_dataset_open(const char *spec, bnff_split split, const bnff_dataset_options *given, bnff_dataset **dataset, bnff_error *error)
{
    *dataset = NULL;
    bnff_dataset_options options;
    BF_TRY(check_options(given, &options, error));
    if (!spec || !*spec) {
        bf_fail(error, BNFF_E_ARG, "no data set is named");
        return bf_hint(error, BNFF_E_ARG, "give a folder of class folders, or fashion-mnist, mnist:DIR, cifar10:DIR, synthetic");
    }
    bnff_dataset *d = bf_calloc(1, sizeof *d);
    if (!d) return bf_dataset_no_memory(error);
    d->spec = bf_strdup(spec);
    const bnff_status status = d->spec ? open_spec(d, spec, split, &options, error) : bf_dataset_no_memory(error);
    if (status == BNFF_OK) *dataset = d;
    else bnff_dataset_destroy(&d);
    return status;
}

void bnff_dataset_destroy(bnff_dataset **dataset)
{
    bnff_dataset *d = dataset ? *dataset : NULL;
    if (!d) return;
    for (int i = 0; i < d->classes; i++) bf_free(d->class_names[i]);
    bf_free(d->class_names);
    bf_free(d->spec);
    bf_free(d->labels);
    bf_free(d->names);
    bf_text_free(&d->name_text);
    bf_free(d->pixels);
    bf_free(d->pick);
    bf_free(d->unsupported_path);
    bf_free(d);
    *dataset = NULL;
}

/* -- What it says -------------------------------------------------------------------------------------------------- */

int64_t bnff_dataset_size(const bnff_dataset *d) { return d->count; }
int bnff_dataset_classes(const bnff_dataset *d) { return d->classes; }
const char *bnff_dataset_class_name(const bnff_dataset *d, int label) { return label >= 0 && label < d->classes ? d->class_names[label] : NULL; }
int bnff_dataset_channels(const bnff_dataset *d) { return d->channels; }
int bnff_dataset_label(const bnff_dataset *d, int64_t index) { return index >= 0 && index < d->count ? d->labels[index] : -1; }
int bnff_dataset_image_size(const bnff_dataset *d) { return d->side; }

const char *bnff_dataset_item_name(const bnff_dataset *d, int64_t index)
{
    return index >= 0 && index < d->count ? d->name_text.data + d->names[index] : NULL;
}

int64_t bnff_dataset_unsupported(const bnff_dataset *d, const char **path)
{
    if (path) *path = d->unsupported_path;
    return d->unsupported;
}

void bnff_dataset_normalization(const bnff_dataset *d, float mean[3], float std[3])
{
    memcpy(mean, d->mean, sizeof d->mean);
    memcpy(std, d->std, sizeof d->std);
}

/* -- Pixels -------------------------------------------------------------------------------------------------------- */

/* First byte of an item of an array, whose items have *bytes bytes each. */
static const uint8_t *record(const bnff_dataset *d, int64_t index, size_t *bytes)
{
    *bytes = (size_t)d->width * (size_t)d->height * (size_t)d->stored_channels;
    return d->pixels + (size_t)(d->pick ? d->pick[index] : index) * *bytes;
}

bool bf_dataset_view(const bnff_dataset *d, int64_t index, bf_view *view)
{
    if (d->source != BF_SOURCE_ARRAY || d->channels < d->stored_channels) return false;
    size_t bytes;
    const uint8_t *pixels = record(d, index, &bytes);
    *view = (bf_view){pixels, (size_t)d->width * (size_t)d->stored_channels, d->width, d->height, d->stored_channels};
    return true;
}

static bnff_status array_image(const bnff_dataset *d, int64_t index, bnff_image *image, bnff_error *error)
{
    size_t bytes;
    const uint8_t *pixels = record(d, index, &bytes);
    BF_TRY(bf_image_reserve(bnff_dataset_item_name(d, index), d->width, d->height, d->stored_channels, image, error));
    memcpy(image->pixels, pixels, bytes);
    return BNFF_OK;
}

static bnff_status synthetic_image(const bnff_dataset *d, int64_t index, bnff_image *image, bnff_error *error)
{
    BF_TRY(bf_image_reserve(bnff_dataset_item_name(d, index), d->width, d->height, 3, image, error));
    bf_synthetic_image(d, index, image);
    return BNFF_OK;
}

bnff_status bf_dataset_stored_image(const bnff_dataset *d, int64_t index, bf_shrink *shrink, bnff_image *image, bnff_error *error)
{
    const char *name = bnff_dataset_item_name(d, index);
    bnff_status status = BNFF_OK;
    *image = (bnff_image){0};
    switch (d->source) {
    case BF_SOURCE_FILES: status = bf_image_read(name, shrink, image, error); break;
    case BF_SOURCE_ARRAY: status = array_image(d, index, image, error); break;
    case BF_SOURCE_SYNTHETIC: status = synthetic_image(d, index, image, error); break;
    }
    if (status == BNFF_OK && image->channels > d->channels) status = bf_image_convert(name, d->channels, image, error);
    if (status != BNFF_OK) bnff_image_free(image);
    return status;
}

bnff_status bnff_dataset_image(const bnff_dataset *d, int64_t index, bnff_image *image, bnff_error *error)
{
    *image = (bnff_image){0};
    if (index < 0 || index >= d->count)
        return bf_fail(error, BNFF_E_ARG, "item %lld of a data set of %lld", (long long)index, (long long)d->count);
    BF_TRY(bf_dataset_stored_image(d, index, NULL, image, error));
    const bnff_status status = bf_image_convert(bnff_dataset_item_name(d, index), d->channels, image, error);
    if (status != BNFF_OK) bnff_image_free(image);
    return status;
}
