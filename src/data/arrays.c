/* Data sets that are a few files of raw pixels: idx (MNIST, Fashion-MNIST and their kin) and CIFAR-10's binary batches. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "data/idx.h"

typedef char file_path[PATH_MAX];

/* Is there a file folder/name? Its path is left in `path`; one too long for the system is not there. */
static bool is_there(file_path path, const char *folder, const char *name)
{
    const int length = snprintf(path, PATH_MAX, "%s/%s", folder, name);
    return length > 0 && length < PATH_MAX && bf_is_file(path);
}

static const char *file_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Add `count` items named "FILE[i]" whose labels are bytes `step` apart. */
static bnff_status add_items(bnff_dataset *d, const char *path, const uint8_t *labels, size_t step, int64_t count, bnff_error *error)
{
    bf_text name = {0};
    bnff_status status = BNFF_OK;
    for (int64_t i = 0; status == BNFF_OK && i < count; i++) {
        name.length = 0;
        bf_text_add(&name, "%s[%lld]", file_name(path), (long long)i);
        status = name.failed ? bf_dataset_no_memory(error) : bf_dataset_add(d, labels[(size_t)i * step], name.data, error);
    }
    bf_text_free(&name);
    return status;
}

bnff_status bf_array_split(bnff_dataset *d, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    const size_t n = (size_t)d->count;
    uint64_t *keys = bf_calloc(n, sizeof *keys);
    uint8_t *held = bf_calloc(n, 1);
    d->pick = bf_calloc(n, sizeof *d->pick);
    bnff_status status = keys && held && d->pick ? BNFF_OK : bf_dataset_no_memory(error);
    for (size_t i = 0; status == BNFF_OK && i < n; i++) keys[i] = bf_text_key(options->seed, bnff_dataset_item_name(d, (int64_t)i));
    if (status == BNFF_OK) status = bf_stratify(d->labels, keys, d->count, d->classes, options->val_ratio, held, error);
    int64_t kept = 0;
    for (size_t i = 0; status == BNFF_OK && i < n; i++) {
        if (held[i] != (split == BNFF_SPLIT_VAL)) continue;
        d->labels[kept] = d->labels[i];
        d->names[kept] = d->names[i];
        d->pick[kept++] = (int64_t)i;
    }
    bf_free(keys);
    bf_free(held);
    if (status == BNFF_OK && kept == 0) status = bf_fail(error, BNFF_E_FORMAT, "too few images to hold some out for validation");
    if (status == BNFF_OK) d->count = kept;
    return status;
}

/* -- idx ----------------------------------------------------------------------------------------------------------- */

typedef enum idx_part { IMAGES, LABELS } idx_part;

/* The path of the file of `prefix` in `path`; false if there is none. */
static bool find_idx(const char *folder, const char *prefix, idx_part part, file_path path)
{
    static const char *const forms[2][4] = {{"images-idx3-ubyte", "images-idx3-ubyte.gz", "images.idx3-ubyte", "images.idx3-ubyte.gz"},
                                            {"labels-idx1-ubyte", "labels-idx1-ubyte.gz", "labels.idx1-ubyte", "labels.idx1-ubyte.gz"}};
    for (int i = 0; i < 4; i++) {
        char name[64];
        snprintf(name, sizeof name, "%s-%s", prefix, forms[part][i]);
        if (is_there(path, folder, name)) return true;
    }
    return false;
}

static const char *find_val_prefix(const char *folder)
{
    static const char *const prefixes[] = {"val", "valid", "validation", "t10k", "test"};
    file_path path;
    for (size_t i = 0; i < sizeof prefixes / sizeof prefixes[0]; i++)
        if (find_idx(folder, prefixes[i], IMAGES, path)) return prefixes[i];
    return NULL;
}

bool bf_has_idx(const char *folder)
{
    file_path path;
    return find_idx(folder, "train", IMAGES, path) || find_val_prefix(folder);
}

static bnff_status read_part(const char *folder, const char *prefix, idx_part part, bf_idx *idx, file_path path, bnff_error *error)
{
    if (find_idx(folder, prefix, part, path)) return bf_idx_read(path, part == LABELS ? 1 : 3, idx, error);
    bf_fail(error, BNFF_E_IO, "%s: no %s-%s (or .gz) in it", folder, prefix, part == LABELS ? "labels-idx1-ubyte" : "images-idx3-ubyte");
    return bf_hint(error, BNFF_E_IO, "images and labels of each part belong into one folder, under the names of MNIST's files");
}

static bnff_status append_images(bnff_dataset *d, const bf_idx *images, const char *path, bnff_error *error)
{
    if (d->pixels && (images->size[1] != d->height || images->size[2] != d->width))
        return bf_fail(error, BNFF_E_FORMAT, "%s: images of %lld x %lld pixels, those before have %d x %d", path, (long long)images->size[2],
                       (long long)images->size[1], d->width, d->height);
    d->height = (int)images->size[1], d->width = (int)images->size[2];
    const size_t each = (size_t)d->height * (size_t)d->width, before = (size_t)d->count * each, more = (size_t)images->size[0] * each;
    size_t total;
    uint8_t *grown = bf_size_add(before, more, &total) ? bf_realloc(d->pixels, total, 1) : NULL;
    if (!grown) return bf_dataset_no_memory(error);
    memcpy(grown + before, images->data, more);
    d->pixels = grown;
    return BNFF_OK;
}

/* Add the images and labels of one part to the data set. */
static bnff_status append_part(bnff_dataset *d, const char *folder, const char *prefix, bnff_error *error)
{
    bf_idx images = {0}, labels = {0};
    file_path path;
    bnff_status status = read_part(folder, prefix, LABELS, &labels, path, error);
    if (status == BNFF_OK) status = read_part(folder, prefix, IMAGES, &images, path, error);
    if (status == BNFF_OK && images.size[0] != labels.size[0])
        status = bf_fail(error, BNFF_E_FORMAT, "%s: %lld images but %lld labels", path, (long long)images.size[0], (long long)labels.size[0]);
    if (status == BNFF_OK) status = append_images(d, &images, path, error);
    if (status == BNFF_OK) status = add_items(d, path, labels.data, 1, labels.size[0], error);
    bf_free(images.data);
    bf_free(labels.data);
    return status;
}

/* Classes 0..largest label of `labels`; each must occur, or the largest is a mistake. */
static bnff_status count_classes(const bf_idx *labels, const char *path, int *classes, bnff_error *error)
{
    int64_t seen[256] = {0}, first[256] = {0};
    *classes = 0;
    for (int64_t i = 0; i < labels->size[0]; i++) {
        const int label = labels->data[i];
        if (!seen[label]++) first[label] = i;
        if (label >= *classes) *classes = label + 1;
    }
    for (int c = 0; c < *classes; c++) {
        if (seen[c]) continue;
        bf_fail(error, BNFF_E_FORMAT, "%s: label %d of item %lld is out of range: no item has label %d", path, *classes - 1,
                (long long)first[*classes - 1], c);
        return bf_hint(error, BNFF_E_FORMAT, "labels count from 0 without gaps");
    }
    if (*classes >= 2) return BNFF_OK;
    bf_fail(error, BNFF_E_FORMAT, "%s: only one class, at least two are needed", path);
    return bf_hint(error, BNFF_E_FORMAT, "is this the right file?");
}

static bnff_status classes_of(const char *folder, const char *prefix, int *classes, bnff_error *error)
{
    bf_idx labels = {0};
    file_path path;
    bnff_status status = read_part(folder, prefix, LABELS, &labels, path, error);
    if (status == BNFF_OK) status = count_classes(&labels, path, classes, error);
    bf_free(labels.data);
    return status;
}

static bnff_status check_labels(const bnff_dataset *d, bnff_error *error)
{
    for (int64_t i = 0; i < d->count; i++) {
        if (d->labels[i] < d->classes) continue;
        bf_fail(error, BNFF_E_FORMAT, "%s: label %d is out of range, there are %d classes: 0 to %d", bnff_dataset_item_name(d, i), d->labels[i],
                d->classes, d->classes - 1);
        return bf_hint(error, BNFF_E_FORMAT, "are images and labels from the same data set?");
    }
    return BNFF_OK;
}

static bnff_status add_number_classes(bnff_dataset *d, int classes, bnff_error *error)
{
    for (int i = 0; i < classes; i++) {
        char name[16];
        snprintf(name, sizeof name, "%d", i);
        BF_TRY(bf_dataset_add_class(d, name, error));
    }
    return BNFF_OK;
}

static void set_array(bnff_dataset *d, int channels, int stored, const float mean[3], const float std[3])
{
    d->source = BF_SOURCE_ARRAY;
    d->channels = channels;
    d->stored_channels = stored;
    bf_dataset_set_normalization(d, mean, std);
}

/* names: of the classes, or NULL where the train labels decide how many there are. */
static bnff_status open_idx(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, float mean, float std,
                            const char *const names[10], bnff_error *error)
{
    file_path path;
    const char *val = find_val_prefix(folder);
    const bool train = find_idx(folder, "train", IMAGES, path) || !val;
    set_array(d, options->channels ? options->channels : 1, 1, (float[]){mean, mean, mean}, (float[]){std, std, std});
    for (int i = 0; names && i < 10; i++) BF_TRY(bf_dataset_add_class(d, names[i], error));
    if (!names) {
        int classes;
        BF_TRY(classes_of(folder, train ? "train" : val, &classes, error));
        BF_TRY(add_number_classes(d, classes, error));
    }
    if (split != BNFF_SPLIT_VAL || !val) BF_TRY(append_part(d, folder, "train", error));
    if (val && split != BNFF_SPLIT_TRAIN) BF_TRY(append_part(d, folder, val, error));
    BF_TRY(check_labels(d, error));
    d->side = d->width == d->height ? d->width : 0;
    return val || split == BNFF_SPLIT_ALL ? BNFF_OK : bf_array_split(d, split, options, error);
}

bnff_status bf_open_fashion(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    static const char *const names[10] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"};
    return open_idx(d, folder, split, options, 0.2860f, 0.3530f, names, error);
}

bnff_status bf_open_mnist(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    return open_idx(d, folder, split, options, 0.1307f, 0.3081f, NULL, error);
}

/* Of any other data set in this form nothing is known: half and half, as MedMNIST has it. */
bnff_status bf_open_idx(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    return open_idx(d, folder, split, options, 0.5f, 0.5f, NULL, error);
}

/* -- CIFAR-10 ------------------------------------------------------------------------------------------------------ */

enum { CIFAR_SIDE = 32, CIFAR_PLANE = CIFAR_SIDE * CIFAR_SIDE, CIFAR_RECORD = 1 + 3 * CIFAR_PLANE };
#define CIFAR_FOLDER "cifar-10-batches-bin/"

/* Where the batches are below or at `folder`, as a prefix of file names: "" or the folder inside; NULL if there are none. */
static const char *find_cifar(const char *folder)
{
    file_path path;
    if (is_there(path, folder, "data_batch_1.bin") || is_there(path, folder, "test_batch.bin")) return "";
    if (is_there(path, folder, CIFAR_FOLDER "data_batch_1.bin") || is_there(path, folder, CIFAR_FOLDER "test_batch.bin")) return CIFAR_FOLDER;
    return NULL;
}

bool bf_has_cifar(const char *folder) { return find_cifar(folder) != NULL; }

/* Planes R, G, B of a record to interleaved pixels. */
static void interleave(const uint8_t *planes, uint8_t *pixels)
{
    for (int i = 0; i < CIFAR_PLANE; i++)
        for (int c = 0; c < 3; c++) pixels[3 * i + c] = planes[c * CIFAR_PLANE + i];
}

static bnff_status append_records(bnff_dataset *d, const char *path, const uint8_t *bytes, size_t size, bnff_error *error)
{
    if (size == 0 || size % CIFAR_RECORD)
        return bf_fail(error, BNFF_E_FORMAT, "%s: %zu bytes, records have %d: cut off, or not CIFAR-10's binary version", path, size, CIFAR_RECORD);
    const int64_t records = (int64_t)(size / CIFAR_RECORD);
    uint8_t *grown = bf_realloc(d->pixels, (size_t)(d->count + records), 3 * CIFAR_PLANE);
    if (!grown) return bf_dataset_no_memory(error);
    d->pixels = grown;
    for (int64_t i = 0; i < records; i++)
        interleave(bytes + i * CIFAR_RECORD + 1, d->pixels + (size_t)(d->count + i) * 3 * CIFAR_PLANE);
    return add_items(d, path, bytes, CIFAR_RECORD, records, error);
}

static bnff_status append_batch(bnff_dataset *d, const char *folder, const char *inside, const char *name, bnff_error *error)
{
    file_path path;
    char file[64];
    void *bytes;
    size_t size;
    snprintf(file, sizeof file, "%s%s", inside, name);
    is_there(path, folder, file); /* reading says why not */
    bnff_status status = bf_file_read(path, (size_t)1 << 30, &bytes, &size, error);
    if (status == BNFF_E_IO) bf_hint(error, status, "CIFAR-10's binary version has data_batch_1.bin to data_batch_5.bin and test_batch.bin");
    if (status == BNFF_OK) status = append_records(d, path, bytes, size, error);
    bf_free(bytes);
    return status;
}

static bnff_status no_cifar(const char *folder, bnff_error *error)
{
    file_path path;
    const bool python = is_there(path, folder, "data_batch_1") || is_there(path, folder, "cifar-10-batches-py/data_batch_1");
    bf_fail(error, BNFF_E_IO, "%s: no data_batch_1.bin in it or in its folder " CIFAR_FOLDER "%s", folder,
            python ? ", but CIFAR-10's Python version" : "");
    return bf_hint(error, BNFF_E_IO, "unpack the binary version, cifar-10-binary.tar.gz, and name its folder");
}

bnff_status bf_open_cifar(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    static const char *const names[10] = {"airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"};
    static const float mean[3] = {0.4914f, 0.4822f, 0.4465f}, std[3] = {0.2470f, 0.2435f, 0.2616f};
    static const float gray_mean[3] = {0.4809f, 0.4809f, 0.4809f}, gray_std[3] = {0.2392f, 0.2392f, 0.2392f};
    const int channels = options->channels ? options->channels : 3;
    const char *inside = find_cifar(folder);
    if (!inside) return no_cifar(folder, error);
    set_array(d, channels, 3, channels == 3 ? mean : gray_mean, channels == 3 ? std : gray_std);
    d->width = d->height = d->side = CIFAR_SIDE;
    for (int i = 0; i < 10; i++) BF_TRY(bf_dataset_add_class(d, names[i], error));
    for (int i = 1; split != BNFF_SPLIT_VAL && i <= 5; i++) {
        char name[32];
        snprintf(name, sizeof name, "data_batch_%d.bin", i);
        BF_TRY(append_batch(d, folder, inside, name, error));
    }
    if (split != BNFF_SPLIT_TRAIN) BF_TRY(append_batch(d, folder, inside, "test_batch.bin", error));
    return check_labels(d, error);
}
