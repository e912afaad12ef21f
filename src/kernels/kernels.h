/* Tile kernels: everything that touches floats in a step. No graph, no threads, no malloc; they cannot fail.
 *
 * One plain C source (GCC vector extensions where the compiler needs help) is compiled once per instruction set; the table
 * below holds the pointers of one of them. kernels.def lists the functions once and makes prototypes, table and test entries.
 *
 * Blocks. A feature map is stored in blocks of at most BF_BLOCK channels, each block n pixels by `ld` floats, ld a multiple of
 * BF_LANES and >= the channels; lanes past the last channel hold anything. Elementwise kernels work on a block's piece:
 * n >= 1 consecutive pixels by c lanes, c in {16, 32}, each operand with its own ld (floats from pixel to pixel).
 * Per-channel vectors have c floats. Blocks are 64-byte aligned; dst may equal a source (same ld), else they do not overlap.
 * Names and equations are those of docs/math.md: y = fma(s, x - p, t) is batch normalization with pivot p.
 */
#ifndef BF_KERNELS_H
#define BF_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bnff/graph.h>

enum {
    BF_LANES = 16, /* channels are stored in multiples of this */
    BF_BLOCK = 32, /* channels of a full block */
    BF_DW_BLOCK = 7, /* outputs of a depthwise row that share loads: divides rows of 7, 14, 28, 56, 112 */
    BF_STATS_PIXELS = 256 /* most pixels of one call of a summing kernel: bounds the error of its float sums */
};

typedef struct bf_act {
    bnff_activation kind;
    float slope; /* of leaky relu */
} bf_act;

/* How a convolution multiplies: directly, or by Winograd's algorithms on tiles of 2x2, 2x4 or 4x4 results. */
typedef enum bf_algorithm {
    BF_DIRECT, BF_F2, BF_F2X4, BF_F4, BF_ALGORITHM_COUNT,
    BF_AUTO = BF_ALGORITHM_COUNT, /* asked of a plan: per convolution, among those about as exact as BF_DIRECT */
    BF_FAST                       /* among all of them */
} bf_algorithm;

/* Memory traffic while a kernel computes, a cache line at a time: `ranges` of bytes to fetch into L2, floats to copy past the caches. */
typedef struct bf_prefetch {
    struct { const char *at, *end; } range[16];
    int count, current;
    int lines_per_step; /* cache lines every 16 k of a register tile: a GEMM has about m*n / gemm_tile * k / 16 such steps */
    struct { const float *from; float *to, *end; } store[8]; /* forward form of gemm only; aligned to 64 bytes */
    int stores, storing, stores_per_step;
} bf_prefetch;

/* One product of a batch: c[j][i] += sum_k a[row(i) + k*lda] * b[k*bk + j*bn], row(i) = i/16 * a_panel + i%16. */
typedef struct bf_gemm_pair {
    const float *a, *b;
    int k; /* >= 1 */
} bf_gemm_pair;

/* Batch-reduce GEMM of one tile:  c[j*ldc + i] = (accumulate ? c : 0) + sum over pairs and k,   0 <= i < m, 0 <= j < n.
 * The vector runs along i (output channels), b is broadcast. m in {16, 32}; n >= 1, any; a aligned to 64 bytes, lda and a_panel
 * multiples of 16.
 *   forward, data gradient: a = packed weights, [k][16] for every panel of 16 rows, bk = 1, bn = pixel stride of the activation
 *   weight gradient:        a = output gradient [pixel][m] (a_panel = 16), b = activation [pixel][j]: bk = pixel stride, bn = 1
 * bk = 1 and bn = 1 are the fast cases; others are correct. */
typedef struct bf_gemm {
    int m, n, count;
    const bf_gemm_pair *pairs;
    ptrdiff_t lda, a_panel, bk, bn;
    float *c;
    ptrdiff_t ldc;
    bool accumulate;
    bool apart;            /* with accumulate: c is added to the sum of all products, not they to c: short sums round less. bn = 1 only */
    bf_prefetch *prefetch; /* or NULL */
} bf_gemm;

/* A pixel (or row) made of two: (1 - weight) * first + weight * second. Offsets are pixels. */
typedef struct bf_blend {
    int first, second;
    float weight;
} bf_blend;
typedef struct bf_winograd bf_winograd; /* a row of tiles: winograd.h */

/* Window kernels work on a run of n output pixels that all see the same taps: tap t of output pixel j is at
 * src + j*step + offset[t] (floats). 1 <= taps. */
typedef struct bf_taps {
    int count;
    const ptrdiff_t *offset;
    bf_prefetch *prefetch; /* or NULL; a step with each output pixel */
} bf_taps;

/* A row of a depthwise convolution: output j sees, in each line, the columns j*step - pad + k*dilation, k < taps, that lie in
 * [0, width). Column q of a line is at x + q*c: lines are blocks of c lanes. */
typedef struct bf_dw_line {
    const float *x, *w; /* w: [taps][c] */
    float *dw;          /* of the weight gradient, as w */
} bf_dw_line;
typedef struct bf_dw {
    const bf_dw_line *lines;
    int count, taps, step, pad, dilation, width;
    float *past;           /* or NULL: aligned storage, ld as dst, that also gets the results, past the caches */
    bf_prefetch *prefetch; /* or NULL; a step with each vector of BF_DW_BLOCK outputs */
} bf_dw;

#define BF_KERNEL(name, args) void (*name) args;
typedef struct bf_kernels {
    const char *isa;
    int vector; /* floats in a vector register */
    int gemm_tile; /* elements of c in a full register tile of gemm */
#include "kernels/kernels.def"
} bf_kernels;
#undef BF_KERNEL

/* The table of an instruction set by name, NULL if this build or this machine has none of that name. */
const bf_kernels *bf_kernels_find(const char *isa);
/* The best table this machine can run that is not better than `isa`; NULL if this build knows no table of that name. */
const bf_kernels *bf_kernels_at_most(const char *isa);
/* Tables this machine can run, best first; NULL past the end. The last one is always "plain". */
const bf_kernels *bf_kernels_at(int index);

/* Derivative factors, masks and formulas shared by every kernel are in formulas.h, so that all levels agree bit for bit. */

#endif
