/* How much memory a training needs, before it needs it, and the batch that fits. */
#ifndef BF_TRAIN_BATCH_FIT_H
#define BF_TRAIN_BATCH_FIT_H

#include "train/train_network.h"

typedef struct bf_memory_need {
    size_t arena;   /* the larger of the training and the evaluation plan's */
    size_t state;   /* parameters, buffers, gradients, moments */
    size_t loading; /* batches being filled, decoded images */
    size_t total;
} bf_memory_need;

typedef struct bf_fit_request {
    int train_size, val_size;   /* sides of the images */
    int moments;                /* floats the optimizer keeps per parameter: 1 SGD, 2 Adam */
    int workers;
    int64_t train_images;
    size_t available;           /* bytes; 0: unknown, everything fits */
} bf_fit_request;

/* What a training with this batch needs, from its plans. */
bnff_status bf_memory_need_of(bf_network *network, const bf_fit_request *request, int batch, bf_memory_need *need, bnff_error *error);
/* @return BNFF_E_MEMORY: "needs 3.1 GiB, 2.0 GiB free", hint: the largest batch that fits. */
bnff_status bf_memory_check(bf_network *network, const bf_fit_request *request, int batch, bf_memory_need *need, bnff_error *error);
/* The same of an evaluation alone, whose network is there already, with images of `size` pixels a side. */
bnff_status bf_memory_check_evaluation(bf_network *network, int size, int workers, int batch, bnff_error *error);
/* For --batch-size auto: the largest of 256, 192, 128, 96, ... that fits in nine tenths of the available memory and leaves
 * eight optimizer steps an epoch; 1 when nothing larger fits. */
bnff_status bf_batch_auto(bf_network *network, const bf_fit_request *request, int *batch, bnff_error *error);

/* "3.1 GiB", "820 MiB" into text (at least 32 bytes); returns it. */
const char *bf_bytes_text(size_t bytes, char *text);

#endif
