/* The backward of a convolution, as its parts see it: a visit to one tile of input rows after another (conv_backward.c), in which the weight
 * gradient (conv_weight_gradient.c) and the data gradient (conv_data_gradient.c) of each block of input channels are computed. */
#ifndef BF_CONV_BACKWARD_H
#define BF_CONV_BACKWARD_H

#include "runtime/conv.h"

typedef struct bf_tap_at {
    int tap;
    size_t pixel; /* of dy */
} bf_tap_at;

/* The scratch of a cell. */
typedef struct bf_visit_memory {
    bf_sight dy;
    float *dy_scratch, *x_scratch, *tile, *temps;
    bf_transformed dy_positions, block; /* of Winograd's algorithms: all of dy; a block of x, then of dx */
    float *gathered, *line; /* of a gathering convolution: x and dx at the pixels of dy */
    bf_gemm_pair *pairs;
    bf_tap_at *taps;
    bf_prefetch prefetch; /* x of the next block of input channels, and a share of the next tile's dy */
} bf_visit_memory;

typedef struct bf_visit {
    const bf_cell *cell;
    const bf_task *task;
    const bf_conv *c;
    const bf_layout *x, *y;     /* of x and dy */
    bf_visit_memory m;
    const float *packed;        /* transposed weights */
    float *partial;             /* this pixel cell's weight gradient, or NULL */
    double *bias;               /* this pixel cell's bias gradient, or NULL */
    bool want_dx;
} bf_visit;

/* Add x * dy to the partial weight gradient of block xb; x: its pixel 0, of which only the tile's pixels are read. */
void bf_add_weight_gradient(bf_visit *w, const bf_tile *tile, const float *x, int xb);
/* Block xb of dx = W^T * dy over the tile, at `at`: storage, or a tile for the epilogue; `first`: its first pixel. */
void bf_data_gradient(bf_visit *w, const bf_tile *tile, int xb, float *at, size_t first);

/* First pixel of x (and dx) in the tile, and how many. */
static inline size_t bf_x_range(const bf_conv *c, const bf_tile *tile, size_t *count)
{
    if (c->line) {
        *count = (size_t)(tile->row1 - tile->row0) * (size_t)c->xstep;
        return (size_t)tile->row0 * (size_t)c->xstep;
    }
    *count = ((size_t)(tile->image1 - tile->image0 - 1) * (size_t)c->h + (size_t)(tile->row1 - tile->row0)) * c->x_row;
    return ((size_t)tile->image0 * (size_t)c->h + (size_t)tile->row0) * c->x_row;
}

/* Output row that filter row kh of input row ih belongs to, or -1. */
static inline int bf_out_row(const bf_conv *c, int ih, int kh)
{
    const int at = ih + c->ph - kh * c->dh;
    if (c->sh == 1) return at >= 0 && at < c->oh ? at : -1;
    return at >= 0 && at % c->sh == 0 && at / c->sh < c->oh ? at / c->sh : -1;
}

static inline bf_gathering bf_visit_gathered(const bf_visit *w, const bf_tile *tile) { return bf_gathered(w->c, tile->image0, tile->image1, tile->row0, tile->row1); }

/* -- Winograd's algorithms -- */

static inline int bf_tiles_of(const bf_visit *w, const bf_tile *tile) { return bf_winograd_tiles(w->task, tile->image1 - tile->image0, tile->row1 - tile->row0); }

/* A block of x, or of dx; `pixels` is pixel 0. */
static inline bf_plane bf_x_plane(const bf_visit *w, const bf_tile *tile, int xb, float *pixels)
{
    return (bf_plane){.pixels = pixels, .height = w->c->h, .width = w->c->w, .ld = w->x->blocks[xb].ld, .first = tile->row0, .last = tile->row1};
}

#endif
