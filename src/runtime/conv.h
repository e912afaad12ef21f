/* Convolutions as tiles of small GEMMs: set-up when the plan is made, packing, and the loops of the step.
 *
 * Forward, per tile of output pixels and block of output channels:
 *     y[row] = sum over filter rows, runs of columns, input blocks:  W[tap][block] * x[shifted row]      one batched GEMM a run
 * Taps that fall into the padding are not computed (exact taps), except in wide rows, which lie in scratch between zeros. Backward does
 * data and weight gradient in one visit per tile of input rows: the halo is on dy only.
 *
 * Every cell owns a range of tiles and a range of channel blocks (output blocks forward, input blocks backward).
 */
#ifndef BF_CONV_H
#define BF_CONV_H

#include "kernels/winograd.h"
#include "runtime/plan.h"

/* Fill task->conv from its node; flops and such as well. */
bnff_status bf_conv_setup(bnff_plan *plan, bf_task *task, bnff_error *error);
void bf_conv_free(bf_conv *conv);
/* conv_choice.c: its algorithm and its grid. */
void bf_conv_choose(const bnff_plan *plan, bf_task *task);
/* conv_grid.c: the best way to divide it by an algorithm, and what that costs over its products alone. No tiles: there is none. */
double bf_conv_grid(const bnff_plan *plan, const bf_task *task, bf_algorithm algorithm, bf_grid *grid);
/* The bytes of scratch and shared memory. */
void bf_conv_book(const bnff_plan *plan, bf_task *task);

void bf_conv_forward(bnff_run *run, const bf_task *task);
void bf_conv_backward(bnff_run *run, const bf_task *task);

/* -- shared by the loops -- */

/* A tensor as a cell sees it: block b, pixel q at base[b] + q*ld(b), in storage or in the cell's scratch. */
typedef struct bf_sight {
    float **base;
    const bf_block *blocks;
    int count;
} bf_sight;

typedef struct bf_tile {
    int image0, image1, row0, row1; /* rows of the grid's images */
} bf_tile;
bf_tile bf_tile_at(const bf_grid *grid, int index);
/* Add to *p what loading pixels [first, last) of blocks [first_block, last_block) of `value` will read, in storage. */
void bf_prefetch_load(const bf_cell *cell, bf_prefetch *p, const bf_program *load, int value, int first_block, int last_block, size_t first, size_t last);
/* Add what the epilogue reads, in storage, over pixels [first, last) of a block. */
void bf_prefetch_epilogue(const bf_cell *cell, bf_prefetch *p, const bf_program *epilogue, int block, size_t first, size_t last);
/* Spread the lines of *p over GEMMs of so many multiply-adds. */
void bf_prefetch_pace(const bf_cell *cell, bf_prefetch *p, double products);

/* Store so many floats past the caches meanwhile; the pace of all; what is left, at once. */
void bf_store_add(const bf_cell *cell, bf_prefetch *p, const float *from, float *to, size_t floats);
void bf_store_pace(const bf_cell *cell, bf_prefetch *p, double products);
void bf_store_rest(const bf_cell *cell, bf_prefetch *p);
/* For a GEMM: NULL where there is nothing to do meanwhile. */
static inline bf_prefetch *bf_meanwhile(bf_prefetch *p) { return p && (p->count || p->storing < p->stores) ? p : NULL; }

/* Where the first panel of a tap of an inner block of so many channels begins; the next panel is bf_panel_floats further. */
static inline const float *bf_packed_at(const bf_packing *p, const float *packed, int outer, int lanes, size_t inner, int channels, int tap)
{
    return packed + p->outer[outer] + (lanes > BF_LANES ? inner / 2 : inner) + (size_t)tap * (size_t)channels * BF_LANES;
}
static inline size_t bf_panel_floats(const bf_packing *p, const bf_conv *conv, int outer, int lanes)
{
    const size_t floats = (size_t)conv->taps * p->tap[outer];
    return lanes > BF_LANES ? floats / 2 : floats;
}

/* Output rows that read rows of x in the tile, of a gathering convolution; the pixels of dy before them, and how many there are. */
typedef struct bf_gathering {
    int row0, row1;
    size_t first, count;
} bf_gathering;
bf_gathering bf_gathered(const bf_conv *c, int image0, int image1, int x_row0, int x_row1);
/* What they read of a block of x, whose pixel 0 is at x, side by side in `to`. */
void bf_gather(const bf_cell *cell, const bf_gathering *g, int image0, int image1, const float *x, int ld, float *to);

/* Weights of the caller into forward or transposed packing at `packed`; blocks [first, last) of the outer side. */
void bf_pack_forward(const bnff_run *run, const bf_task *task, float *packed, int first, int last);
void bf_pack_transposed(const bnff_run *run, const bf_task *task, float *packed, int first, int last);
/* Sum the partial weight gradients of all pixel cells, in order and in double, into the caller's array (outer blocks [first, last)). */
void bf_unpack_gradient(const bnff_run *run, const bf_task *task, const float *partial, int first, int last);

/* -- Winograd's algorithms (conv_winograd.c) -- */

/* The positions of the tiles of a visit, [position][block][tile][BF_BLOCK lanes]: operands of GEMMs lie side by side. */
typedef struct bf_transformed {
    float *at;
    ptrdiff_t position, block; /* floats from one to the next */
} bf_transformed;

/* One block of images that rows of tiles lie over, shifted up and left by the padding. */
typedef struct bf_plane {
    float *pixels;         /* pixel 0 of image 0; only rows [first, last) of images of the visit are touched */
    int height, width;
    ptrdiff_t ld;
    int first, last;
    int ph, pw;
} bf_plane;

/* Tiles that cover `rows` rows of results of `images` images. */
int bf_winograd_tiles(const bf_task *task, int images, int rows);
/* Room for the largest visit. */
bf_transformed bf_take_transformed(bf_scratch *s, const bf_task *task, int blocks);
/* A transform of the kernel table for all tiles of a visit, between `plane` and a block of t. */
void bf_winograd_over(const bf_task *task, const bf_tile *tile, void (*transform)(const bf_winograd *), const bf_plane *plane, const bf_transformed *t,
                      int block, const float *bias);
/* out = packed weights of block `outer` * in, position by position. */
void bf_winograd_multiply(const bf_cell *cell, const bf_packing *p, int outer, const float *packed, int lanes, const bf_layout *inner, const bf_transformed *in,
                          const bf_transformed *out, int tiles, bf_gemm_pair *pairs, bf_prefetch *prefetch);
/* Add to the partial gradient of the transformed weights between dy and block xb of x, from B^T dy B and A x A^T: x is the output gradient
 * of the convolution that makes dx from dy, so that its tiles need no halo. */
void bf_winograd_add_gradient(const bf_cell *cell, int xb, const bf_layout *x, const bf_layout *dy, const bf_transformed *transformed_dy,
                              const bf_transformed *spread_x, int tiles, float *partial, bf_prefetch *prefetch);

#endif
