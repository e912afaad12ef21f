/* Finding the files that a training would skip, before it starts. */
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/threads.h"
#include "data/dataset.h"
#include "data/listing.h"

typedef void report_fn(void *user, const char *path, const char *reason);

typedef struct checking {
    report_fn *report;
    void *user;
    bnff_dataset *files; /* images to decode, and the unsupported ones reported on the way */
    int64_t bad, unsupported; /* bad counts those unsupported too */
} checking;

static void tell(checking *c, const char *path, const char *reason)
{
    const size_t length = strlen(path);
    if (!strncmp(reason, path, length) && !strncmp(reason + length, ": ", 2)) reason += length + 2;
    c->bad++;
    if (c->report) c->report(c->user, path, reason);
}

static void on_bad(void *user, const char *path, const char *reason) { tell(user, path, reason); }

static bnff_status add_file(void *user, const char *path, bf_entry_kind kind, bnff_error *error)
{
    checking *c = user;
    if (kind == BF_ENTRY_IMAGE) return bf_dataset_add(c->files, 0, path, error);
    c->unsupported++;
    tell(c, path, "format not supported: convert it to JPEG or PNG");
    return BNFF_OK;
}

/* Load all of a data set as a training would, to images of one pixel. */
static bnff_status load_all(checking *c, const bnff_dataset *d, bnff_error *error)
{
    if (bnff_dataset_size(d) == 0) return BNFF_OK;
    const bnff_transform transform = {.size = sizeof transform, .width = 1, .height = 1, .std = {1, 1, 1}};
    const bnff_loader_options options = {.size = sizeof options, .batch = 64, .threads = bf_threads_available() - 1, .max_bad = INT64_MAX,
                                         .on_bad = on_bad, .on_bad_user = c};
    bnff_loader *loader;
    BF_TRY(bnff_loader_create(d, &transform, &options, &loader, error));
    bnff_status status = bnff_loader_start(loader, 0, 0, error);
    bnff_batch batch = {.count = 1};
    while (status == BNFF_OK && batch.count > 0) status = bnff_loader_next(loader, &batch, error);
    bnff_loader_destroy(&loader);
    return status;
}

static bnff_status check_tree(checking *c, const char *folder, bnff_error *error)
{
    c->files->source = BF_SOURCE_FILES;
    c->files->channels = 3;
    if (!(c->files->spec = bf_strdup(folder))) return bf_dataset_no_memory(error);
    BF_TRY(bf_walk(folder, add_file, c, error));
    return load_all(c, c->files, error);
}

/* Everything that is no plain folder of images is checked by opening it. */
static bnff_status check_spec(checking *c, const char *spec, int64_t *images, bnff_error *error)
{
    const bnff_dataset_options options = {.size = sizeof options};
    bnff_dataset *d;
    BF_TRY(bnff_dataset_open(spec, BNFF_SPLIT_ALL, &options, &d, error));
    *images = bnff_dataset_size(d);
    const bnff_status status = load_all(c, d, error);
    bnff_dataset_destroy(&d);
    return status;
}

/* Would a training take the folder? A folder of nothing but images is fine, it may be one class of many. */
static bnff_status check_layout(const char *folder, bnff_error *error)
{
    bf_listing listing;
    BF_TRY(bf_listing_read(folder, &listing, error));
    const bool flat = bf_listing_count(&listing, BF_ENTRY_FOLDER) == 0 && bf_listing_count(&listing, BF_ENTRY_IMAGE) > 0;
    bf_listing_free(&listing);
    if (flat) return BNFF_OK;
    const bnff_dataset_options options = {.size = sizeof options};
    bnff_dataset *d;
    for (int split = BNFF_SPLIT_TRAIN; split <= BNFF_SPLIT_VAL; split++) {
        BF_TRY(bnff_dataset_open(folder, (bnff_split)split, &options, &d, error));
        bnff_dataset_destroy(&d);
    }
    return BNFF_OK;
}

static bnff_status check_file(checking *c, const char *path, bnff_error *error)
{
    bnff_image image;
    bnff_error reason;
    const bnff_status status = bnff_image_read(path, 3, &image, &reason);
    bnff_image_free(&image);
    if (status == BNFF_E_MEMORY) {
        if (error) *error = reason;
        return status;
    }
    if (status != BNFF_OK) tell(c, path, reason.message);
    return BNFF_OK;
}

bnff_status bnff_data_check(const char *spec, void (*report)(void *user, const char *path, const char *reason), void *user, int64_t *good,
                            int64_t *bad, bnff_error *error)
{
    checking c = {.report = report, .user = user};
    int64_t images = 0;
    bnff_status status;
    if (!(c.files = bf_calloc(1, sizeof *c.files))) return bf_dataset_no_memory(error);
    if (bf_is_file(spec)) {
        images = 1;
        status = check_file(&c, spec, error);
    } else if (bf_is_folder(spec) && !bf_has_idx(spec) && !bf_has_cifar(spec)) {
        status = check_tree(&c, spec, error);
        images = c.files->count;
        if (status == BNFF_OK) status = check_layout(spec, error);
    } else {
        status = check_spec(&c, spec, &images, error);
    }
    if (bad) *bad = c.bad;
    if (good) *good = images - (c.bad - c.unsupported);
    bnff_dataset_destroy(&c.files);
    return status;
}
