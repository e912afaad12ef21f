/* A classifier network in use: graph, state, memory, and plans by mode and shape. Shared by training and evaluation. */
#ifndef BF_TRAIN_TRAIN_NETWORK_H
#define BF_TRAIN_TRAIN_NETWORK_H

#include <bnff/model.h>
#include <bnff/plan.h>

enum { BF_PLAN_CACHE = 8 };

typedef struct bf_network {
    bnff_context *context;
    bnff_graph *graph;
    bnff_state *state;
    bnff_pool *pool;
    bnff_plan_options options; /* level, algorithm, cells, frozen parts: what all plans share */
    int classes, channels;
    struct bf_cached_plan {
        bnff_plan *plan;
        bnff_mode mode;
        int batch, height, width;
    } plans[BF_PLAN_CACHE];
    int next_plan;             /* slot to reuse when the cache is full; plans hold no arena */
} bf_network;

/* Build a model of the zoo. options' pointers must outlive the network; batch, size and mode in it are ignored. */
bnff_status bf_network_create(bnff_context *context, const char *model, int classes, int channels, const bnff_plan_options *options,
                              bf_network *network, bnff_error *error);
/* Accepts a zeroed network. */
void bf_network_destroy(bf_network *network);
/* The plan of that shape, made now or earlier. Valid until BF_PLAN_CACHE others were asked for. */
bnff_status bf_network_plan(bf_network *network, bnff_mode mode, int batch, int height, int width, const bnff_plan **plan, bnff_error *error);
/* Forget all plans: options have changed. */
void bf_network_forget_plans(bf_network *network);
/* logits [batch x classes] of images [batch x height x width x channels], with running statistics. */
bnff_status bf_network_infer(bf_network *network, const float *images, int batch, int height, int width, float *logits, bnff_error *error);
/* Trainable elements, buffers excluded. */
int64_t bf_network_parameters(const bf_network *network);

/* -- Gradients ------------------------------------------------------------------------------------------------------ */

/* One aligned block; NULL where nothing is computed: buffers and frozen parameters. */
typedef struct bf_gradients {
    float **of;     /* per parameter index */
    float **all;    /* the same before any was hidden */
    void *block;
    size_t bytes;
} bf_gradients;
bnff_status bf_gradients_create(const bf_network *network, const bool *frozen, bf_gradients *gradients, bnff_error *error);
/* Show those that are not frozen, of those that were not when they were made. */
void bf_gradients_show(const bf_network *network, const bool *frozen, bf_gradients *gradients);
void bf_gradients_destroy(const bf_network *network, bf_gradients *gradients);

#endif
