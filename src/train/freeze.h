/* Which parameters are not trained, and which batch normalizations use their running statistics in training. */
#ifndef BF_TRAIN_FREEZE_H
#define BF_TRAIN_FREEZE_H

#include <bnff/model.h>

typedef struct bf_freeze {
    bool *params;      /* per parameter index: as bnff_plan_options.frozen_params; buffers are false */
    bool *lasting;     /* those of them that stay frozen after a thaw: what `bn` froze */
    bool *stats;       /* per parameter index: as frozen_stats */
    int frozen, total; /* parameters, buffers not counted */
    int bn_frozen;     /* batch normalizations that use running statistics */
} bf_freeze;

/**
 * what: "backbone" (all but the layer `classifier`), a count of leading layers, or a POSIX extended regular expression that a
 * parameter's name must contain; NULL: nothing.
 * A leading layer is a child of the model in torchvision's sense: conv1, bn1, layer1, ...; features.conv0, features.norm0,
 * features.denseblock1, ...
 * bn: "stats": every batch normalization uses running statistics; "all": their weights and biases are not trained either; NULL.
 */
bnff_status bf_freeze_create(const bnff_graph *graph, const char *what, const char *bn, const char *classifier, bf_freeze *freeze, bnff_error *error);
void bf_freeze_destroy(bf_freeze *freeze);
/* Train again what `what` froze. */
void bf_freeze_thaw(bf_freeze *freeze, int count);

#endif
