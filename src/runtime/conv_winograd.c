/* What Winograd's algorithms put between the prologue and the epilogue of a convolution: pixels to positions, a GEMM a position,
 * positions to pixels. Forward and data gradient are the same code: dx is dy convolved with the filter turned by 180 degrees. */
#include "runtime/conv.h"

/* The products of a weight gradient's positions are larger than what becomes of them; sums of few tiles at a time keep its error below that
 * of a direct one. */
enum { SUM_TILES = 32 };

int bf_winograd_tiles(const bf_task *task, int images, int rows)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(task->conv.algorithm);
    const int width = task->kind == BF_TASK_CONV_BWD ? task->conv.w : task->conv.ow;
    return images * ((rows - 1) / shape.mh + 1) * ((width - 1) / shape.mw + 1);
}

bf_transformed bf_take_transformed(bf_scratch *s, const bf_task *task, int blocks)
{
    const bf_grid *g = &task->grid;
    const size_t block = (size_t)bf_winograd_tiles(task, g->images > 1 ? g->images : 1, g->rows) * BF_BLOCK;
    size_t position = block * (size_t)blocks;
    if (position / BF_LANES % 2 == 0) position += BF_LANES; /* multiples of 4 KiB would meet in one set of L1 */
    float *at = bf_take(s, position * (size_t)bf_winograd_shape_of(task->conv.algorithm).positions * sizeof *at);
    return (bf_transformed){at, (ptrdiff_t)position, (ptrdiff_t)block};
}

void bf_winograd_over(const bf_task *task, const bf_tile *tile, void (*transform)(const bf_winograd *), const bf_plane *plane, const bf_transformed *t,
                      int block, const float *bias)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(task->conv.algorithm);
    const int side_by_side = bf_winograd_tiles(task, 1, 1);
    bf_winograd w = {.algorithm = task->conv.algorithm, .tiles = side_by_side, .lanes = (int)plane->ld, .row = plane->width * plane->ld, .ld = plane->ld,
                     .left = plane->pw, .right = plane->width + plane->pw, .cells = t->at + block * t->block, .position = t->position, .bias = bias};
    for (int image = tile->image0; image < tile->image1; image++)
        for (int row = tile->row0; row < tile->row1; row += shape.mh, w.cells += side_by_side * BF_BLOCK) {
            const ptrdiff_t corner = row - plane->ph; /* of image rows */
            w.pixels = plane->pixels + (((ptrdiff_t)image * plane->height + corner) * plane->width - plane->pw) * plane->ld;
            w.top = plane->first - (int)corner;
            w.bottom = plane->last - (int)corner;
            transform(&w);
        }
}

void bf_winograd_multiply(const bf_cell *cell, const bf_packing *p, int outer, const float *packed, int lanes, const bf_layout *inner, const bf_transformed *in,
                          const bf_transformed *out, int tiles, bf_gemm_pair *pairs, bf_prefetch *prefetch)
{
    const int positions = bf_winograd_shape_of(cell->task->conv.algorithm).positions, panels = lanes / BF_LANES;
    const size_t *linked = p->inner + (size_t)outer * (size_t)p->inner_count;
    bf_gemm g = {.m = lanes, .n = tiles, .pairs = pairs, .lda = BF_LANES, .a_panel = (ptrdiff_t)p->tap[outer] / panels, .bk = 1, .bn = BF_BLOCK, .ldc = BF_BLOCK,
                 .prefetch = bf_meanwhile(prefetch)};
    for (int q = 0; q < positions; q++) {
        const float *weights = packed + p->outer[outer] + (size_t)q * p->tap[outer];
        g.c = out->at + q * out->position;
        g.count = 0;
        for (int b = 0; b < inner->count; b++)
            if (linked[b] != SIZE_MAX) pairs[g.count++] = (bf_gemm_pair){weights + linked[b] / (size_t)panels, in->at + q * in->position + b * in->block, inner->blocks[b].channels};
        cell->k->gemm(&g);
    }
}

void bf_winograd_add_gradient(const bf_cell *cell, int xb, const bf_layout *x, const bf_layout *dy, const bf_transformed *transformed_dy,
                              const bf_transformed *spread_x, int tiles, float *partial, bf_prefetch *prefetch)
{
    const bf_packing *p = &cell->task->conv.forward;
    const int positions = bf_winograd_shape_of(cell->task->conv.algorithm).positions, parts = (tiles + SUM_TILES - 1) / SUM_TILES;
    bf_gemm_pair pair;
    bf_gemm g = {.n = x->blocks[xb].channels, .count = 1, .pairs = &pair, .lda = BF_BLOCK, .a_panel = BF_LANES, .bk = BF_BLOCK, .bn = 1, .accumulate = true, .apart = true,
                 .prefetch = prefetch && prefetch->count ? prefetch : NULL};
    for (int q = 0; q < positions; q++)
        for (int ob = 0; ob < dy->count; ob++) {
            const size_t at = p->inner[ob * p->inner_count + xb];
            if (at == SIZE_MAX) continue;
            g.m = dy->blocks[ob].ld, g.ldc = g.m;
            g.c = partial + p->outer[ob] + (size_t)q * p->tap[ob] + at;
            for (int part = 0; part < parts; part++) {
                const int first = bf_share(tiles, parts, part);
                pair = (bf_gemm_pair){transformed_dy->at + q * transformed_dy->position + ob * transformed_dy->block + first * BF_BLOCK,
                                      spread_x->at + q * spread_x->position + first * BF_BLOCK, bf_share(tiles, parts, part + 1) - first};
                cell->k->gemm(&g);
            }
        }
}
