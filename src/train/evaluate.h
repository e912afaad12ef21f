/* One pass over a data set with running statistics: accuracy, loss, confusion, mistakes. */
#ifndef BF_TRAIN_EVALUATE_H
#define BF_TRAIN_EVALUATE_H

#include <bnff/data.h>

#include "train/metrics.h"
#include "train/train_network.h"

typedef struct bf_evaluation {
    bf_metrics metrics;
    int classes;
    int64_t *confusion;               /* [label][predicted] */
    bf_mistake mistakes[BF_MISTAKES]; /* surest first */
    int mistake_count;
    double seconds;
} bf_evaluation;

bnff_status bf_evaluation_create(int classes, bf_evaluation *evaluation, bnff_error *error);
void bf_evaluation_destroy(bf_evaluation *evaluation);

/**
 * Evaluate all batches of the loader, from nothing. map (may be NULL) turns the data set's labels into the network's.
 * *stop (may be NULL) is polled between batches: BNFF_E_INTERRUPTED. Images are size x size.
 * The loss is the plain cross-entropy, without label smoothing.
 */
bnff_status bf_evaluate(bf_network *network, bnff_loader *loader, int size, const int *map, volatile int *stop, bf_evaluation *evaluation,
                        bnff_error *error);

#endif
