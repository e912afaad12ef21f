/* Data sets of class folders: DIR/CLASS/..., or DIR/train/CLASS/... and DIR/val/CLASS/... */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "data/dataset.h"
#include "data/listing.h"

/* Names of the folders of a split, in any case, best first. */
static const char *const train_names[] = {"train", "training", NULL};
static const char *const val_names[] = {"val", "valid", "validation", "test", "testing", NULL};

/* Where the class folders of each split are. One of them may be missing; both being the same folder means it has to be divided. */
typedef struct layout {
    char *train, *val;
} layout;

static char *join(const char *folder, const char *name)
{
    bf_text path = {0};
    bf_text_add(&path, "%s/%s", folder, name);
    return bf_text_take(&path);
}

static void free_layout(layout *l)
{
    if (l->val != l->train) bf_free(l->val);
    bf_free(l->train);
    *l = (layout){0};
}

static bool is_named(const char *name, const char *const *names)
{
    for (; *names; names++)
        if (!strcasecmp(name, *names)) return true;
    return false;
}

/* *path = folder/name if there are folders in it, else NULL: a class may be called "test" too. */
static bnff_status take_if_split(const char *folder, const char *name, char **path, bnff_error *error)
{
    bf_listing listing;
    char *candidate = join(folder, name);
    if (!candidate) return bf_dataset_no_memory(error);
    const bnff_status status = bf_listing_read(candidate, &listing, error);
    if (status == BNFF_OK && bf_listing_count(&listing, BF_ENTRY_FOLDER) > 0) *path = candidate;
    else bf_free(candidate);
    bf_listing_free(&listing);
    return status;
}

static bnff_status find_split(const char *folder, const bf_listing *listing, const char *const *names, char **path, bnff_error *error)
{
    for (; *names && !*path; names++)
        for (int i = 0; i < listing->count && !*path; i++) {
            const char *name = bf_listing_name(listing, i);
            if (listing->entries[i].kind == BF_ENTRY_FOLDER && !strcasecmp(name, *names)) BF_TRY(take_if_split(folder, name, path, error));
        }
    return BNFF_OK;
}

/* Without a train folder, folders named val or test are splits only if there is nothing else. */
static bool all_val_names(const bf_listing *listing)
{
    for (int i = 0; i < listing->count; i++)
        if (listing->entries[i].kind == BF_ENTRY_FOLDER && !is_named(bf_listing_name(listing, i), val_names)) return false;
    return true;
}

static bnff_status find_layout(const char *folder, const bf_listing *listing, layout *l, bnff_error *error)
{
    BF_TRY(find_split(folder, listing, train_names, &l->train, error));
    if (l->train || all_val_names(listing)) BF_TRY(find_split(folder, listing, val_names, &l->val, error));
    if (!l->train && !l->val && !(l->train = bf_strdup(folder))) return bf_dataset_no_memory(error);
    if (!l->val) l->val = l->train;
    return BNFF_OK;
}

static bnff_status no_classes(const char *folder, const bf_listing *listing, bnff_error *error)
{
    const int images = bf_listing_count(listing, BF_ENTRY_IMAGE) + bf_listing_count(listing, BF_ENTRY_UNSUPPORTED);
    if (images) bf_fail(error, BNFF_E_FORMAT, "%s: %d image%s but no class folders", folder, images, images == 1 ? "" : "s");
    else bf_fail(error, BNFF_E_FORMAT, "%s: no class folders in it%s", folder, listing->count ? "" : ", it is empty");
    return bf_hint(error, BNFF_E_FORMAT, "put the images of each class into a folder with its name: %s/CLASS/image.jpg", folder);
}

/* The class folders of `folder`, or why they are none. */
static bnff_status list_classes(const char *folder, bnff_dataset *d, bnff_error *error)
{
    bf_listing listing;
    BF_TRY(bf_listing_read(folder, &listing, error));
    bnff_status status = BNFF_OK;
    for (int i = 0; status == BNFF_OK && i < listing.count; i++)
        if (listing.entries[i].kind == BF_ENTRY_FOLDER) status = bf_dataset_add_class(d, bf_listing_name(&listing, i), error);
    if (status == BNFF_OK && d->classes == 0) status = no_classes(folder, &listing, error);
    if (status == BNFF_OK && d->classes == 1) {
        bf_fail(error, BNFF_E_FORMAT, "%s: only one class, '%s', at least two are needed to tell them apart", folder, d->class_names[0]);
        status = bf_hint(error, BNFF_E_FORMAT, "name the folder above the class folders, or add a folder of images that are not '%s'", d->class_names[0]);
    }
    bf_listing_free(&listing);
    return status;
}

static bool has_class(const bnff_dataset *d, const char *name)
{
    for (int i = 0; i < d->classes; i++)
        if (!strcmp(d->class_names[i], name)) return true;
    return false;
}

/* At most eight names of a that b lacks. */
static void list_missing(bf_text *text, const char *label, const bnff_dataset *a, const bnff_dataset *b)
{
    int missing = 0;
    for (int i = 0; i < a->classes; i++) {
        if (has_class(b, a->class_names[i])) continue;
        if (missing++ < 8) bf_text_add(text, "%s%s'%s'", missing == 1 ? label : "", missing == 1 ? "" : ", ", a->class_names[i]);
    }
    if (missing > 8) bf_text_add(text, " and %d more", missing - 8);
}

static bnff_status check_same_classes(const layout *l, const bnff_dataset *d, bnff_split split, bnff_error *error)
{
    if (!l->train || l->val == l->train) return BNFF_OK;
    bnff_dataset *other = bf_calloc(1, sizeof *other);
    if (!other) return bf_dataset_no_memory(error);
    bf_text text = {0};
    bnff_status status = list_classes(split == BNFF_SPLIT_VAL ? l->train : l->val, other, error);
    if (status == BNFF_OK) {
        const bnff_dataset *train = split == BNFF_SPLIT_VAL ? other : d, *val = split == BNFF_SPLIT_VAL ? d : other;
        list_missing(&text, "; only in train: ", train, val);
        list_missing(&text, "; only in val: ", val, train);
        if (text.failed) status = bf_dataset_no_memory(error);
        else if (text.length) {
            bf_fail(error, BNFF_E_FORMAT, "%s and %s hold different classes%s", l->train, l->val, text.data);
            status = bf_hint(error, BNFF_E_FORMAT, "give both the same class folders, spelled alike");
        }
    }
    bf_text_free(&text);
    bnff_dataset_destroy(&other);
    return status;
}

typedef struct adding {
    bnff_dataset *d;
    int label;
} adding;

static bnff_status add_file(void *user, const char *path, bf_entry_kind kind, bnff_error *error)
{
    const adding *a = user;
    if (kind == BF_ENTRY_IMAGE) return bf_dataset_add(a->d, a->label, path, error);
    if (!a->d->unsupported_path && !(a->d->unsupported_path = bf_strdup(path))) return bf_dataset_no_memory(error);
    a->d->unsupported++;
    return BNFF_OK;
}

static bnff_status empty_class(const char *folder, const char *name, int64_t unsupported, bnff_error *error)
{
    if (unsupported) {
        bf_fail(error, BNFF_E_FORMAT, "%s/%s: class '%s' has no image that can be read, but %lld of formats not supported (WebP, TIFF, ...)", folder,
                name, name, (long long)unsupported);
        return bf_hint(error, BNFF_E_FORMAT, "convert them to JPEG or PNG");
    }
    bf_fail(error, BNFF_E_FORMAT, "%s/%s: class '%s' is empty: no .jpg, .png, .ppm, .pgm or .bmp file in it", folder, name, name);
    return bf_hint(error, BNFF_E_FORMAT, "add images to it or remove the folder");
}

static bnff_status list_files(bnff_dataset *d, const char *folder, bnff_error *error)
{
    for (int i = 0; i < d->classes; i++) {
        adding a = {d, i};
        const int64_t before = d->count, unsupported = d->unsupported;
        char *path = join(folder, d->class_names[i]);
        if (!path) return bf_dataset_no_memory(error);
        bnff_status status = bf_walk(path, add_file, &a, error);
        bf_free(path);
        if (status == BNFF_OK && d->count == before) status = empty_class(folder, d->class_names[i], d->unsupported - unsupported, error);
        BF_TRY(status);
    }
    return BNFF_OK;
}

/* Leave the items of one split; which they are depends on the seed and the paths below `folder`, not on where it is. */
static bnff_status keep_split(bnff_dataset *d, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    uint64_t *keys = bf_calloc((size_t)d->count, sizeof *keys);
    uint8_t *held = bf_calloc((size_t)d->count, 1);
    bnff_status status = keys && held ? BNFF_OK : bf_dataset_no_memory(error);
    for (int64_t i = 0; status == BNFF_OK && i < d->count; i++)
        keys[i] = bf_text_key(options->seed, bnff_dataset_item_name(d, i) + strlen(folder));
    if (status == BNFF_OK) status = bf_stratify(d->labels, keys, d->count, d->classes, options->val_ratio, held, error);
    int64_t kept = 0;
    for (int64_t i = 0; status == BNFF_OK && i < d->count; i++) {
        if (held[i] != (split == BNFF_SPLIT_VAL)) continue;
        d->labels[kept] = d->labels[i];
        d->names[kept++] = d->names[i];
    }
    bf_free(keys);
    bf_free(held);
    BF_TRY(status);
    d->count = kept;
    if (kept) return BNFF_OK;
    bf_fail(error, BNFF_E_FORMAT, "%s: no class has the two images that it takes to hold one out for validation", folder);
    return bf_hint(error, BNFF_E_FORMAT, "add images");
}

static bnff_status open_layout(bnff_dataset *d, const layout *l, const char *folder, bnff_split split, const bnff_dataset_options *options,
                               bnff_error *error)
{
    const char *place = split == BNFF_SPLIT_VAL ? l->val : l->train;
    if (!l->train && split == BNFF_SPLIT_ALL) place = l->val;
    if (!place || (!l->train && split == BNFF_SPLIT_TRAIN)) {
        bf_fail(error, BNFF_E_FORMAT, "%s: no train folder in it, only %s", folder, l->val);
        return bf_hint(error, BNFF_E_FORMAT, "put the images to train with into %s/train/CLASS", folder);
    }
    BF_TRY(list_classes(place, d, error));
    BF_TRY(check_same_classes(l, d, split, error));
    BF_TRY(list_files(d, place, error));
    if (split == BNFF_SPLIT_ALL) return l->train && l->val != l->train ? list_files(d, l->val, error) : BNFF_OK;
    return l->val == l->train ? keep_split(d, place, split, options, error) : BNFF_OK;
}

bnff_status bf_open_folder(bnff_dataset *d, const char *spec, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    d->source = BF_SOURCE_FILES;
    d->channels = options->channels ? options->channels : 3;
    bf_imagenet_normalization(d->channels, d->mean, d->std);
    char *folder = bf_strdup(spec);
    if (!folder) return bf_dataset_no_memory(error);
    for (size_t n = strlen(folder); n > 1 && folder[n - 1] == '/'; n--) folder[n - 1] = '\0';
    layout l = {0};
    bf_listing listing;
    bnff_status status = bf_listing_read(folder, &listing, error);
    if (status == BNFF_OK) status = find_layout(folder, &listing, &l, error);
    bf_listing_free(&listing);
    if (status == BNFF_OK) status = open_layout(d, &l, folder, split, options, error);
    free_layout(&l);
    bf_free(folder);
    return status;
}
