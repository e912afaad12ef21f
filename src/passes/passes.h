/* Passes: from the user's network to a training graph whose nodes know where they run.
 *
 *   expand     scales and biases in the form the other passes know
 *   pool_first average pooling in front of the 1x1 convolution it follows, unless convolutions are to be direct (math.md 6)
 *   autodiff   appends the backward nodes
 *   fission    bn -> statistics + normalise; its backward -> sums + input gradient     (math.md 1)
 *   views      concat, slice and gradient joins become views where the level says so
 *   share      statistics once per feature map, one deferred input gradient for all BNs that read it (math.md 4)
 *   fuse       gives each node a role: a task of its own, in its consumers' prologue, or in its producer's epilogue
 *
 * Each pass is a file, prints with BNFF_DUMP, and is followed by the verifier.
 */
#ifndef BF_PASSES_H
#define BF_PASSES_H

#include <bnff/plan.h>

#include "base/target.h"
#include "graph/ir.h"

typedef enum bf_level {
    BF_LAYERWISE, /* every layer a sweep of its own, two-sweep variance, concat copied */
    BF_MVF,       /* + mean and variance in one sweep */
    BF_RCF,       /* + ReLU in the next convolution's prologue, its mask in that convolution's backward epilogue */
    BF_BNFF,      /* + fission and fusion of batch normalization into both neighbours */
    BF_ICF,       /* + across concat, split and joins: no copies */
    BF_TUNED,     /* the strongest engine that does not restructure: BN+ReLU in one sweep, no concat copies */
    BF_LEVEL_COUNT
} bf_level;

typedef struct bf_settings {
    bf_level level;
    bool train;
    bool pool_first;
    const bool *frozen_params, *frozen_stats; /* per parameter, or NULL */
    bool input_gradients;
} bf_settings;

typedef enum bf_role {
    BF_ROLE_TASK,     /* runs on its own */
    BF_ROLE_PROLOGUE, /* its value is never stored: consumers compute it from its inputs as they load */
    BF_ROLE_EPILOGUE, /* runs on the tiles of the task `anchor` while they are in cache */
    BF_ROLE_CARRIED   /* its first consumer, the task `anchor`, computes it while loading and stores it for the others */
} bf_role;

typedef struct bf_placement {
    bf_role role;
    int anchor;         /* node index of the task, for BF_ROLE_EPILOGUE and BF_ROLE_CARRIED */
    const char *reason; /* why, in words, or why a fusion was declined */
} bf_placement;

bnff_status bf_pass_expand(bf_graph *g, const bf_settings *settings, bnff_error *error);
bnff_status bf_pass_pool_first(bf_graph *g, const bf_settings *settings, bnff_error *error);
bnff_status bf_pass_autodiff(bf_graph *g, const bf_settings *settings, bnff_error *error);
bnff_status bf_pass_fission(bf_graph *g, const bf_settings *settings, bnff_error *error);
bnff_status bf_pass_views(bf_graph *g, const bf_settings *settings, bnff_error *error);
bnff_status bf_pass_share(bf_graph *g, const bf_settings *settings, bnff_error *error);
/* placement: one per node, written. */
bnff_status bf_pass_fuse(const bf_graph *g, const bf_settings *settings, bf_placement *placement, bnff_error *error);

/* All of them in order; *placement (free with bf_free) has one entry per node of the result. */
bnff_status bf_run_passes(bf_graph *g, const bf_settings *settings, bf_placement **placement, bnff_error *error);

#endif
