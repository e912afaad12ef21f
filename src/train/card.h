/* A card: what a weight file says of itself in its metadata, so that prediction needs no flags. Holds no time, path or run
 * name: equal training gives equal bytes.
 *     model         "densenet-bc-22-12"             input_size   "[1, 28, 28]" (channels, height, width)
 *     num_classes   "10"                            resize_size  "28" (shorter side before the centre crop)
 *     label_names   JSON array of strings           mean, std    JSON arrays, in 0..1, one number a channel
 *     interpolation "bilinear" or "bicubic"         format       "pt"
 *     held_out      see held_out.h
 */
#ifndef BF_TRAIN_CARD_H
#define BF_TRAIN_CARD_H

#include <bnff/data.h>
#include <bnff/weights.h>

#include "train/held_out.h"

typedef struct bf_card {
    char *model;        /* NULL: unknown */
    int classes;        /* 0: unknown */
    char **class_names; /* `classes` of them, or NULL */
    int channels, crop_size, resize_size; /* 0: unknown */
    bnff_interpolation interpolation;
    float mean[3], std[3]; /* std[0] = 0: unknown */
    bf_held_out held_out;
} bf_card;

bnff_status bf_card_store(const bf_card *card, bnff_weights *weights, bnff_error *error);
/* What the file does not say stays unknown; what it says wrongly is BNFF_E_FORMAT. */
bnff_status bf_card_read(const bnff_weights *weights, const char *path, bf_card *card, bnff_error *error);
void bf_card_free(bf_card *card);

/* Take model and class names from a data set. */
bnff_status bf_card_describe(bf_card *card, const char *model, const bnff_dataset *dataset, bnff_error *error);
/* How images are prepared for evaluation. */
bnff_transform bf_card_transform(const bf_card *card);

/**
 * Match a data set's labels to the card's by class name: map[label of the data set] = label of the network.
 * @return BNFF_E_ARG: the sets of names differ, or the counts where names are unknown; the message lists what is missing.
 */
bnff_status bf_card_match(const bf_card *card, const char *weights_name, const bnff_dataset *dataset, const char *data_name, int *map, bnff_error *error);

#endif
