/* Which images of a data set are evaluated. A folder that has no validation split of its own is divided for a training; evaluated
 * later, it must give the part that the training had not seen, and an unknown one must count whole. The weight file's metadata
 * "held_out" says what was divided: "ratio seed images". */
#ifndef BF_TRAIN_HELD_OUT_H
#define BF_TRAIN_HELD_OUT_H

#include <bnff/data.h>
#include <bnff/weights.h>

typedef struct bf_held_out {
    double ratio;
    uint64_t seed;
    int64_t images; /* training and validation together; 0: the data set had its own split */
} bf_held_out;

/* After training and validation images were opened with `options`: were they divided from one folder? */
bnff_status bf_held_out_find(const char *spec, const bnff_dataset_options *options, const bnff_dataset *train, const bnff_dataset *val,
                             bf_held_out *held_out, bnff_error *error);
bnff_status bf_held_out_store(const bf_held_out *held_out, bnff_weights *weights, bnff_error *error);
/* Absent or senseless metadata is as none. */
void bf_held_out_read(const bnff_weights *weights, bf_held_out *held_out);
/* The images to evaluate: the split for validation, or all of a folder that is not the one divided in training. */
bnff_status bf_held_out_open(const char *spec, int channels, const bf_held_out *held_out, bnff_dataset **dataset, bnff_error *error);

#endif
