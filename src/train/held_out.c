#include "train/held_out.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"

/* A split of the data set's own stays as it is whatever ratio is asked for. */
static bnff_status is_divided_by_us(const char *spec, const bnff_dataset_options *options, int64_t val_images, bool *divided, bnff_error *error)
{
    *divided = false;
    if (!strncmp(spec, "synthetic", 9)) return BNFF_OK; /* made up: as much as is asked for, and never the same images */
    bnff_dataset_options other = *options;
    other.val_ratio = fabs(options->val_ratio - 0.5) < 0.2 ? 0.1 : 0.5;
    bnff_dataset *probe = NULL;
    BF_TRY(bnff_dataset_open(spec, BNFF_SPLIT_VAL, &other, &probe, error));
    *divided = bnff_dataset_size(probe) != val_images;
    bnff_dataset_destroy(&probe);
    return BNFF_OK;
}

bnff_status bf_held_out_find(const char *spec, const bnff_dataset_options *options, const bnff_dataset *train, const bnff_dataset *val,
                             bf_held_out *held_out, bnff_error *error)
{
    *held_out = (bf_held_out){0};
    bool divided;
    BF_TRY(is_divided_by_us(spec, options, bnff_dataset_size(val), &divided, error));
    if (divided) *held_out = (bf_held_out){options->val_ratio, options->seed, bnff_dataset_size(train) + bnff_dataset_size(val)};
    return BNFF_OK;
}

bnff_status bf_held_out_store(const bf_held_out *held_out, bnff_weights *weights, bnff_error *error)
{
    if (!held_out->images) return BNFF_OK;
    char text[96];
    snprintf(text, sizeof text, "%.17g %" PRIu64 " %" PRId64, held_out->ratio, held_out->seed, held_out->images);
    return bnff_weights_set_metadata(weights, "held_out", text, error);
}

void bf_held_out_read(const bnff_weights *weights, bf_held_out *held_out)
{
    const char *text = bnff_weights_metadata(weights, "held_out");
    bf_held_out read;
    *held_out = (bf_held_out){0};
    if (text && sscanf(text, "%lf %" SCNu64 " %" SCNd64, &read.ratio, &read.seed, &read.images) == 3 && read.ratio > 0 && read.ratio < 1 && read.images > 0)
        *held_out = read;
}

bnff_status bf_held_out_open(const char *spec, int channels, const bf_held_out *held_out, bnff_dataset **dataset, bnff_error *error)
{
    *dataset = NULL;
    const bnff_dataset_options options = {
        .size = sizeof options, .channels = channels, .val_ratio = held_out->images ? held_out->ratio : 0.2, .seed = held_out->seed,
    };
    bnff_dataset *val = NULL, *all = NULL;
    BF_TRY(bnff_dataset_open(spec, BNFF_SPLIT_VAL, &options, &val, error));
    bool divided = false;
    bnff_status status = is_divided_by_us(spec, &options, bnff_dataset_size(val), &divided, error);
    if (status == BNFF_OK && divided) {
        status = bnff_dataset_open(spec, BNFF_SPLIT_ALL, &options, &all, error);
        const bool same = status == BNFF_OK && bnff_dataset_size(all) == held_out->images;
        bnff_dataset_destroy(same ? &all : &val);
    }
    if (status != BNFF_OK) bnff_dataset_destroy(&val);
    *dataset = all ? all : val;
    return status;
}
