/* Plans and runs: a graph made executable for one batch size, image size and mode.
 *
 *     plan  immutable, shareable between threads: tasks, arena layout, order
 *     run   the memory and state of one forward and its backward: arena, statistics, packed weights
 *
 * The caller owns parameters, gradients, inputs and outputs, all float32: a step is
 *     bnff_forward(run, ...)  inputs -> outputs
 *     bnff_backward(run, ...) output gradients -> parameter gradients (and input gradients when asked)
 * Neither allocates, and neither fails for other reasons than misuse.
 */
#ifndef BNFF_PLAN_H
#define BNFF_PLAN_H

#include <stdio.h>
#include <bnff/context.h>
#include <bnff/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_plan bnff_plan;
typedef struct bnff_run bnff_run;
typedef struct bnff_pool bnff_pool;

typedef enum bnff_mode {
    BNFF_EVALUATE, /* running statistics, no dropout, no backward */
    BNFF_TRAIN     /* batch statistics, dropout, backward */
} bnff_mode;

typedef struct bnff_plan_options {
    size_t size;         /* sizeof(bnff_plan_options) */
    int batch;           /* N >= 1 */
    int height, width;   /* of all inputs that have no size of their own; may be 0 when each has one */
    bnff_mode mode;
    const char *level;   /* "layerwise", "tuned", ...: see bnff_level_name; NULL: the default */
    const char *algorithm; /* how convolutions multiply, "direct", "auto", ...: see bnff_algorithm_name; NULL: the default */
    int cells;           /* parts the work is cut into; equal cells give equal bits. 0: the context's threads */
    const bool *frozen_params; /* per parameter index: no gradient is computed. NULL: none is frozen */
    const bool *frozen_stats;  /* per parameter index of a BN's running_mean: it normalises with running statistics in
                                  training too. NULL: none does */
    bool input_gradients; /* also compute gradients of the inputs */
    const int (*input_sizes)[2]; /* H, W of each graph input; {0, 0}: height and width. NULL: of all */
} bnff_plan_options;

/** Names of levels by index, least restructured first; NULL past the end. */
BNFF_API const char *bnff_level_name(int index);
/** The level used where none is named. */
BNFF_API const char *bnff_default_level(void);
/** Names of convolution algorithms by index; NULL past the end. "direct" computes every convolution by its definition; "auto" takes per
 *  convolution what is fastest of the algorithms whose error is about that of "direct"; "fast" takes less exact ones too; "f2", "f2x4"
 *  and "f4" are Winograd's, each wherever it can run. With all but "direct",
 *  average pooling moves in front of a 1x1 convolution that nothing else reads. */
BNFF_API const char *bnff_algorithm_name(int index);
/** The algorithm used where none is named. */
BNFF_API const char *bnff_default_algorithm(void);

/**
 * Plan a graph. The graph is copied and may be destroyed; the context must outlive the plan.
 * @return BNFF_OK; BNFF_E_ARG: an option, or an unknown level or algorithm (hint names the nearest); BNFF_E_SHAPE: the images are
 *         smaller than the network allows, or a training BN sees a single value per channel; BNFF_E_MEMORY.
 */
BNFF_API bnff_status bnff_plan_create(bnff_context *context, const bnff_graph *graph, const bnff_plan_options *options,
                                      bnff_plan **plan, bnff_error *error);
/** Runs of it that are still out can only be released after that. */
BNFF_API void bnff_plan_destroy(bnff_plan **plan);

typedef struct bnff_plan_info {
    size_t size;             /* set by the caller to sizeof(bnff_plan_info) */
    int batch, height, width, cells;
    int tasks;
    size_t arena_bytes;      /* activations, gradients and scratch of one run */
    size_t weight_bytes;     /* parameters, gradients and buffers that the caller holds for it */
    double forward_flops;    /* nominal: of the graph as given, convolved directly; padding taps counted, 2 per multiply-add */
    double backward_flops;
    double traffic_bytes;    /* modelled main-memory bytes of one step, forward and backward */
    int batchnorms, batchnorms_fused; /* BNs in the graph; those without a sweep of their own */
    double line_bytes;       /* modelled cache lines that enter the last-level cache, in bytes: what a count of its misses sees */
} bnff_plan_info;
BNFF_API void bnff_plan_describe(const bnff_plan *plan, bnff_plan_info *info);
/** Print the plan: every task, what was fused where or why not, arena and traffic. json: one JSON document. */
BNFF_API bnff_status bnff_plan_print(const bnff_plan *plan, bool json, char **text, bnff_error *error);
/**
 * Draw two plans of one network side by side as SVG: their tasks in order, what is fused into each, and its sweeps over main memory.
 * Repeated stretches are drawn once.
 * @param[out] svg  free it with bnff_free
 */
BNFF_API bnff_status bnff_plan_draw(const bnff_plan *before, const bnff_plan *after, char **svg, bnff_error *error);

/** N, H, W, C of output `index`; false if there is none. */
BNFF_API bool bnff_plan_output_shape(const bnff_plan *plan, int index, int shape[4]);

/* -- Runs --------------------------------------------------------------------------------------------------------- */

/** Memory shared by all plans of a model: grown to the largest run, kept until destroyed. Not for several threads. */
BNFF_API bnff_status bnff_pool_create(bnff_context *context, bnff_pool **pool, bnff_error *error);
BNFF_API void bnff_pool_destroy(bnff_pool **pool);

/** Take a run of plan from the pool. Several runs may be out at once. @return BNFF_E_MEMORY if it cannot grow. */
BNFF_API bnff_status bnff_run_acquire(bnff_pool *pool, const bnff_plan *plan, bnff_run **run, bnff_error *error);
/** Give a run back, at any time; its forward state is dropped. */
BNFF_API void bnff_run_release(bnff_run **run);

/** A caller's tensor: element (n, h, w, c) at data[n*stride[0] + h*stride[1] + w*stride[2] + c*stride[3]], in floats. */
typedef struct bnff_tensor {
    float *data;
    ptrdiff_t stride[4];
} bnff_tensor;
/** A dense channels_last tensor. */
static inline bnff_tensor bnff_nhwc(float *data, int height, int width, int channels)
{
    bnff_tensor t = {data, {(ptrdiff_t)height * width * channels, (ptrdiff_t)width * channels, channels, 1}};
    return t;
}
/** A dense contiguous (NCHW) tensor. */
static inline bnff_tensor bnff_nchw(float *data, int height, int width, int channels)
{
    bnff_tensor t = {data, {(ptrdiff_t)height * width * channels, width, 1, (ptrdiff_t)height * width}};
    return t;
}

typedef struct bnff_forward_args {
    size_t size;                /* sizeof(bnff_forward_args) */
    const bnff_tensor *inputs;  /* one per graph input */
    bnff_tensor *outputs;       /* one per graph output, written; data NULL: not wanted */
    float *const *params;       /* per parameter index; running statistics are updated in training */
    uint64_t seed, step;        /* of dropout */
} bnff_forward_args;
/** @return BNFF_OK; BNFF_E_STATE or BNFF_E_ARG on misuse. Weights must stay as they are until the backward. */
BNFF_API bnff_status bnff_forward(bnff_run *run, const bnff_forward_args *args, bnff_error *error);

typedef struct bnff_backward_args {
    size_t size;
    const bnff_tensor *output_gradients; /* one per graph output; data NULL: zero */
    float *const *param_gradients;       /* per parameter index; NULL: not computed. Buffers are ignored */
    bnff_tensor *input_gradients;        /* NULL, or one per input (needs the plan's input_gradients) */
    bool accumulate;                     /* add to param_gradients instead of overwriting them */
} bnff_backward_args;
/** Once per forward of a BNFF_TRAIN plan. @return BNFF_OK; BNFF_E_STATE; BNFF_E_ARG. */
BNFF_API bnff_status bnff_backward(bnff_run *run, const bnff_backward_args *args, bnff_error *error);

/** Start recording time per task, and per cell within it. Those of the last forward and backward are then available below. Off until asked for,
 *  and off again in the next run that is acquired. */
BNFF_API void bnff_run_profile(bnff_run *run, bool enable);
typedef struct bnff_task_profile {
    const char *name;   /* operator and layer, "conv_bwd features.conv0"; owned by the plan */
    const char *kind;   /* "conv_fwd", "conv_bwd", "sweep", "pool", ... */
    double start_s, seconds;
    double flops;       /* nominal */
    double bytes;       /* modelled main-memory traffic */
} bnff_task_profile;
BNFF_API int bnff_run_profile_count(const bnff_run *run);
BNFF_API bool bnff_run_profile_get(const bnff_run *run, int index, bnff_task_profile *profile);
/** What one cell did in one parallel part of a task (weights put in order, the work, partial sums merged). */
typedef struct bnff_cell_profile {
    int cell, thread;   /* thread of bnff's own pool that ran it; with a caller's parallel-for, the cell */
    int part;           /* of the task, from 0 */
    double start_s, seconds;
} bnff_cell_profile;
/** The index-th cell of a task's parts, in order; false past the end. Tasks that have no parallel part have none. */
BNFF_API bool bnff_run_profile_cell(const bnff_run *run, int task, int index, bnff_cell_profile *profile);
/** Name of the first layer whose forward value, or parameter gradient, was not finite in the last step, or NULL.
 *  Looks through the run's memory: for reporting a divergence, not for every step. */
BNFF_API const char *bnff_run_first_nonfinite(const bnff_run *run, float *const *params, float *const *param_gradients);

#ifdef __cplusplus
}
#endif
#endif
