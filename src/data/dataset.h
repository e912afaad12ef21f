/* The inside of a data set: names and labels of its items, and where their pixels come from. */
#ifndef BF_DATASET_H
#define BF_DATASET_H

#include <bnff/data.h>

#include "base/text.h"
#include "data/image.h"
#include "data/resample.h"

typedef enum bf_source { BF_SOURCE_FILES, BF_SOURCE_ARRAY, BF_SOURCE_SYNTHETIC } bf_source;

struct bnff_dataset {
    bf_source source;
    char *spec;         /* as it was opened */
    int64_t count;
    int32_t *labels;    /* count */
    size_t *names;      /* count offsets into name_text: paths of files */
    bf_text name_text;  /* NUL-terminated strings */
    int64_t capacity;   /* of labels and names */
    char **class_names;
    int classes;
    int channels;       /* of the images handed out */
    int side;           /* of square images of one size, else 0 */
    float mean[3], std[3];
    /* arrays: item i is record pick[i] (record i if pick is NULL) of records of height x width x stored_channels bytes */
    uint8_t *pixels;
    int64_t *pick;
    int width, height, stored_channels;
    uint64_t seed;      /* of synthetic images */
    int64_t unsupported; /* images of formats that are not read */
    char *unsupported_path; /* the first of them, or NULL */
};

/* Add an item; `name` is copied. */
bnff_status bf_dataset_add(bnff_dataset *dataset, int label, const char *name, bnff_error *error);
bnff_status bf_dataset_add_class(bnff_dataset *dataset, const char *name, bnff_error *error);
void bf_dataset_set_normalization(bnff_dataset *dataset, const float mean[3], const float std[3]);
/* ImageNet's mean and deviation; of gray images, the means of the three channels'. */
void bf_imagenet_normalization(int channels, float mean[3], float std[3]);
bnff_status bf_dataset_no_memory(bnff_error *error); /* "no memory to list the data set" */

/* Mark the share `ratio` of the items as held out, by class: of n items of a class round(n * ratio), but 1 at least and n - 1 at most
 * (none of a single one). keys[i] decides which: those with the smallest keys are held out. held: count flags, filled. */
bnff_status bf_stratify(const int32_t *labels, const uint64_t *keys, int64_t count, int classes, double ratio, uint8_t *held, bnff_error *error);
/* A key of a text under a seed. */
uint64_t bf_text_key(uint64_t seed, const char *text);

/* An item with the data set's channels, or with one that the others would repeat; shrink may be NULL. */
bnff_status bf_dataset_stored_image(const bnff_dataset *dataset, int64_t index, bf_shrink *shrink, bnff_image *image, bnff_error *error);
/* The pixels of an item of an array, with channels as above, without a copy; false for any other. */
bool bf_dataset_view(const bnff_dataset *dataset, int64_t index, bf_view *view);

/* The openers fill an empty data set, and leave what they made in it on failure. options is complete: val_ratio > 0. */
typedef bnff_status bf_open(bnff_dataset *dataset, const char *folder, bnff_split split, const bnff_dataset_options *options, bnff_error *error);
bf_open bf_open_folder, bf_open_cifar, bf_open_mnist, bf_open_fashion, bf_open_idx;
bnff_status bf_open_synthetic(bnff_dataset *dataset, const char *numbers, bnff_split split, const bnff_dataset_options *options, bnff_error *error);
void bf_synthetic_image(const bnff_dataset *dataset, int64_t index, bnff_image *image);
/* Keep the part of an array set that belongs to `split` when the files have no val part of their own. */
bnff_status bf_array_split(bnff_dataset *dataset, bnff_split split, const bnff_dataset_options *options, bnff_error *error);
/* Does the folder hold such files? */
bool bf_has_idx(const char *folder);
bool bf_has_cifar(const char *folder);

#endif
