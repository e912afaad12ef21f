/* The inside of a plan: where every value lives, and the tasks of a step in order. Immutable once made.
 *
 * Storage. A value's channels are cut into blocks of at most BF_BLOCK channels; block b of an N x H x W value is a matrix of
 * N*H*W pixels by ld floats. A view owns no storage: its blocks are blocks of its parts. The arena of a run:
 *
 *     | values, per-channel numbers, packed weights: placed by lifetime | scratch, one part a cell |
 *
 * Per-channel numbers (vectors) have a lane a channel, in the block order of the value they describe.
 */
#ifndef BF_PLAN_H
#define BF_PLAN_H

#include <bnff/plan.h>

#include "base/context.h"
#include "graph/ir.h"
#include "kernels/kernels.h"
#include "passes/passes.h"

typedef struct bf_block {
    int first, channels; /* of the value */
    int ld;              /* floats from pixel to pixel */
    int lane;            /* where its channels begin in per-channel vectors */
    int owner;           /* value whose storage it lies in */
    size_t offset;       /* floats from the start of that storage; of vectors: its first lane there */
} bf_block;

typedef struct bf_layout {
    bf_block *blocks;
    int count, lanes;
    int pad_w;           /* > 0: image input with zero columns on both sides, ld = channels (see layout.c) */
    bool stored;         /* owns memory in the arena, or is a view of values that do */
    size_t floats;       /* of storage it owns */
    size_t arena;        /* byte offset of that storage in the arena */
    int first_task, last_task; /* lifetime of that storage */
} bf_layout;

/* -- programs: elementwise work on one block's piece, in the order written (program.c) -- */

typedef enum bf_step_kind {
    BF_STEP_COPY, BF_STEP_AFFINE_ACT, BF_STEP_ACT, BF_STEP_ADD_ACT, BF_STEP_AFFINE_ADD_ACT, BF_STEP_ACT_GRAD, BF_STEP_AFFINE_ACT_GRAD,
    BF_STEP_BN_DX, BF_STEP_AFFINE_ACT_BN_DX, BF_STEP_DEFERRED, BF_STEP_SCALE, BF_STEP_SCALE_TO, BF_STEP_MUL, BF_STEP_GATE, BF_STEP_DROPOUT, BF_STEP_STORE, BF_STEP_COMPLETE, BF_STEP_ZERO, BF_STEP_STATS, BF_STEP_BN_SUMS
} bf_step_kind;

typedef enum bf_operand_kind { BF_NOTHING, BF_VALUE, BF_TEMP, BF_TILE, BF_RESULT } bf_operand_kind;
typedef struct bf_operand {
    bf_operand_kind kind;
    int index; /* value, or temporary */
    int shift; /* block of the value = block of the piece + shift */
} bf_operand;

typedef struct bf_step {
    bf_step_kind kind;
    bf_act act;
    bf_operand dst, a, b;
    int coefs, grad_coefs; /* vector values, or -1 */
    int sums;              /* vector value written by STATS and BN_SUMS; by AFFINE_ACT_GRAD, unless -1: those of its result */
    bool pivot_given;      /* STATS: the mean is known from a sweep before */
    bool owner;            /* only where the stretch is its pixels' owner: what a prologue stores for others */
    bool stream;           /* its result goes past the caches, into a value that does not fit them */
    bool *add_block;       /* STORE, SCALE_TO, COMPLETE, ZERO: per block, whether something is there to add to (to keep) */
    int gate;              /* value of the gate */
    int dropout;           /* id */
    float p;               /* dropout probability */
} bf_step;

typedef struct bf_program {
    bf_step *steps;
    int count, capacity;
    int temps;
    int over;              /* value whose blocks and pixels it runs over */
    bool by_image;         /* pieces may not cross images */
} bf_program;

/* -- tasks -- */

typedef enum bf_task_kind {
    BF_TASK_IMPORT, BF_TASK_EXPORT, BF_TASK_SWEEP, BF_TASK_CONV, BF_TASK_CONV_BWD, BF_TASK_DEPTHWISE, BF_TASK_DEPTHWISE_BWD,
    BF_TASK_POOL, BF_TASK_POOL_BWD, BF_TASK_RESIZE, BF_TASK_RESIZE_BWD, BF_TASK_SHUFFLE, BF_TASK_GATE_REDUCE, BF_TASK_STATS_MEAN, BF_TASK_FINALIZE, BF_TASK_GRAD_FINALIZE, BF_TASK_COLLECT, BF_TASK_CONST,
    BF_TASK_KIND_COUNT
} bf_task_kind;

/* Packed weights: [outer block][panel of 16 of its lanes][inner block, if linked][tap][inner channel][lanes of the panel].
 * Weight gradients: [outer block][inner block, if linked][tap][inner channel][lanes of the outer block], of the same size.
 * Winograd's algorithms: [outer block][position][panel][inner block, if linked][inner channel][lanes], and the same without panels.
 * Forward and weight gradient: outer = output channels; data gradient: outer = input channels. */
typedef struct bf_packing {
    size_t *outer;         /* floats from the start to an outer block */
    size_t *tap;           /* floats of one tap of all of an outer block */
    size_t *inner;         /* [outer][inner] floats of the outer block's weight gradient (or of one position of it) before an inner block;
                            * SIZE_MAX: no group of the convolution links the two */
    int outer_count, inner_count;
    int portion;           /* inner blocks whose weights, for one outer block and all taps, stay in a quarter of L2 */
    size_t floats;
} bf_packing;

/* Output columns [first, first + count) see the filter columns `kw[0..taps)`; their input column is j*step + from[i] for j counted
 * from `first`. Runs of one `phase` share a column set of the result: columns phase, phase + stride, ... (data gradient only). */
typedef struct bf_columns {
    int phase, first, count, taps;
    int *kw, *from;
} bf_columns;

/* A convolution as its loops see it. */
typedef struct bf_conv {
    int n, h, w, oh, ow, c, oc, kh, kw, sh, sw, ph, pw, dh, dw, groups;
    bf_algorithm algorithm;
    const char *why;       /* this algorithm, in words */
    double gain;           /* modelled speed over BF_DIRECT */
    bool line;             /* a 1x1 or whole-image kernel: one line of `ow` output pixels, output j reads pixels j*xstep + tap */
    bool gather;           /* a 1x1 kernel with strides: the pixels of x that it reads are brought together, a tile then is a line */
    bool depthwise;
    bool dense;            /* x is the dense image input: taps of a filter row are contiguous */
    int xstep, taps;
    int products;          /* matrices of packed weights: taps, or positions of a Winograd tile */
    size_t x_row;          /* pixels from one input row to the next */
    size_t padded_row;     /* forward: rows of x go through scratch, between zeros: pixels of one there. 0: they do not */
    bf_packing forward, transposed;
    bf_columns *columns, *back_columns; /* forward and weight gradient; data gradient */
    int column_count, back_column_count;
    bool covers, back_covers; /* every output (input) column is stored by some run before others add to it */
} bf_conv;

/* Output positions [first, first + count) of one axis that see the same taps [k0, k1); tap k0 of `first` is input position `from`. */
typedef struct bf_span {
    int first, count, k0, k1, from;
    int padded;            /* positions of the window inside the padded image (average pooling's divisor) */
    int least, end;        /* of rows: first input row that this or a later window sees; end of those seen so far */
} bf_span;

/* Windows of a pool: rows one by one, columns in runs of equal taps. */
typedef struct bf_windows {
    int n, h, w, oh, ow, kh, kw, sh, sw, dh, dw;
    bool average, exclude_pad;
    int strip;             /* rows of results that stay near until they go through the epilogue */
    int taps;              /* most taps of a window */
    bf_span *rows, *columns;
    int column_count;
} bf_windows;

/* Resizing: each output row is made of two input rows, each output column of two input columns. */
typedef struct bf_resize {
    bf_blend *rows, *columns; /* one an output row, column */
    int most_rows;            /* of the input that the rows of a tile are made of (forward), or the rows of dy made of a tile's (backward) */
} bf_resize;

/* Input columns phase, phase + stride, ... of a depthwise convolution, whose gradient gathers from the same taps: column j of the
 * phase gets tap top - m*gap from column j - pad + m*dilation of dy. `first`: taps of the phases before. */
typedef struct bf_dw_phase {
    int first, columns, taps, top, gap, pad, dilation;
} bf_dw_phase;

/* Depthwise, or a convolution of small groups: that many depthwise ones of x with its channels moved within their groups. */
typedef struct bf_depthwise {
    int n, h, w, oh, ow, kh, kw, sh, sw, ph, pw, dh, dw;
    int group;             /* channels of a group: 1, or 2, 4, 8 */
    int strip;             /* rows of results that stay near until they go through the epilogue */
    bf_dw_phase *phases;   /* backward: sw of them */
} bf_depthwise;

/* Channels of a group where a convolution, its backward or a transposed one can run as depthwise ones; 0 where it cannot. */
static inline int bf_group_width(const bf_graph *g, const bf_node *node)
{
    const int from = g->values[node->in[0]].c, to = g->values[node->op == BF_OP_CONV_BWD ? node->in[1] : node->out[0]].c;
    const int width = node->a.conv.groups > 1 && from == to ? from / node->a.conv.groups : 0;
    return width == 1 || width == 2 || width == 4 || width == 8 ? width : 0;
}

/* How a task's work is divided: pixel_cells x channel_cells cells; a tile is rows of an image, or whole images, or pixels of a line. */
typedef struct bf_grid {
    int pixel_cells, channel_cells;
    int tiles, tiles_per_image, rows, images; /* rows: per tile; images: per tile, > 1 only for whole images */
    int height, image_count;                  /* rows of an image, and images, that tiles divide */
    int units;                                /* channel blocks divided among channel_cells */
} bf_grid;

typedef struct bf_task {
    bf_task_kind kind;
    int node;              /* of the graph */
    bool backward;
    int x, dy, out;        /* values: input, output gradient, result; -1: none */
    bf_conv conv;
    bf_windows windows;
    bf_resize resize;
    bf_depthwise depthwise;
    bf_grid grid;
    bf_program load[2];    /* prologues of the tensor inputs (x; or dy, x); empty: read in place */
    bf_program epilogue;   /* sweeps: all of their work. Empty: results go straight to storage */
    bool *add_block;       /* IMPORT: per block of `out`, add to what is stored */
    size_t scratch;        /* bytes of scratch a cell needs */
    size_t shared;         /* bytes of shared scratch: packed weights and partial weight gradients */
    size_t shared_arena;   /* their byte offset */
    double flops, bytes;   /* nominal; modelled main-memory bytes */
    double line_bytes;     /* modelled lines that enter the cache, in bytes (traffic.c) */
    double pixels;         /* of GRAD_FINALIZE: M of its batch normalization */
    char *name;
} bf_task;

struct bnff_plan {
    bnff_context *context;
    bf_graph graph;
    bf_settings settings;
    bf_placement *placement;
    bf_layout *layouts;    /* per value */
    bf_task *tasks;
    int task_count, task_capacity, forward_tasks;
    int cells;
    bf_algorithm algorithm; /* asked for */
    int batch, height, width;
    size_t values_bytes, scratch_at, scratch_bytes, arena_bytes; /* scratch_bytes: of one cell */
    bool *param_covered;   /* per parameter: some task writes its gradient */
    bool *frozen_params;   /* copies of the options */
    bool *frozen_stats;
    double forward_flops, backward_flops, traffic_bytes, traffic_lines;
    int batchnorms, batchnorms_fused;
};

enum { BF_PROFILE_PARTS = 4 }; /* parallel parts of a task that a profile has room for */

/* A run's memory and the caller's arrays of the call under way. */
struct bnff_run {
    bnff_pool *pool;
    const bnff_plan *plan;
    char *arena;
    size_t arena_bytes;
    bool forwarded;
    bool profiling;
    int parts;             /* parallel parts that the task under way has begun */
    double *times;         /* per task: start, seconds */
    double *cell_times;    /* per task, part (BF_PROFILE_PARTS) and cell: start, seconds */
    const bnff_tensor *inputs;
    bnff_tensor *outputs;
    float *const *params;
    const bnff_tensor *output_gradients;
    bnff_tensor *input_gradients;
    float *const *param_gradients;
    bool accumulate;
    uint64_t seed, step;
    bnff_run *next;        /* free list of the pool */
};

/* What a cell of a task works with. */
typedef struct bf_cell {
    bnff_run *run;
    const bnff_plan *plan;
    const bf_task *task;
    const bf_kernels *k;
    int index;             /* 0 .. cells-1 */
    char *scratch;
} bf_cell;

/* One parallel region of a task: fn once for every cell 0 .. plan->cells - 1. Returns when all are through. */
typedef void (*bf_cell_fn)(const bf_cell *cell);
void bf_parallel_cells(bnff_run *run, const bf_task *task, bf_cell_fn fn);

/* Items [bf_share(i), bf_share(i + 1)) of `total` go to part i of `parts`. */
static inline int bf_share(int total, int parts, int i) { return (int)((long long)total * i / parts); }

/* Memory handed out from a cell's scratch, aligned to 64 bytes. With `at` NULL it only measures: the same code sizes scratch when
 * the plan is made and divides it in the step. */
typedef struct bf_scratch {
    char *at;
    size_t used;
} bf_scratch;
static inline void *bf_take(bf_scratch *s, size_t bytes)
{
    void *p = s->at ? s->at + s->used : NULL;
    s->used += (bytes + 63) / 64 * 64;
    return p;
}

/* Where block b of a value begins in memory. */
static inline float *bf_block_at(const bnff_run *run, int value, int b)
{
    const bf_block *block = &run->plan->layouts[value].blocks[b];
    return (float *)(run->arena + run->plan->layouts[block->owner].arena) + block->offset;
}
static inline size_t bf_pixels(const bf_value *v) { return (size_t)v->n * (size_t)v->h * (size_t)v->w; }

/* The names by which a plan is asked for an algorithm; NULL is the default's. */
bnff_status bf_find_algorithm(const char *name, bf_algorithm *algorithm, bnff_error *error);
const char *bf_algorithm_text(bf_algorithm algorithm);
/* Is a value too large to be in cache still when the next task reads it? */
bool bf_leaves_cache(const bnff_plan *plan, int value);
/* layout.c: cut all values into blocks. */
bnff_status bf_make_layouts(bnff_plan *plan, bnff_error *error);
/* lower.c: nodes to tasks with their programs. */
bnff_status bf_lower(bnff_plan *plan, bnff_error *error);
/* arena.c: lifetimes to offsets. */
bnff_status bf_place_memory(bnff_plan *plan, bnff_error *error);
/* traffic.c: modelled main-memory bytes of each task. */
bnff_status bf_model_traffic(bnff_plan *plan, bnff_error *error);

#endif
