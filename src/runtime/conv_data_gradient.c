/* dx = W^T * dy over the pixels of a tile. */
#include "runtime/conv_backward.h"

/* Output blocks [first, last) taken now: a portion whose weights stay in L2 while the rows go by. */
typedef struct portion {
    int first, last;
} portion;

/* n pixels of dx from c on: the products of all taps and a portion of the output blocks. */
static void multiply(bf_visit *w, int xb, portion part, int tap_count, int n, float *c, ptrdiff_t ldc, bool accumulate)
{
    const bf_packing *p = &w->c->transposed;
    const size_t *inner = p->inner + (size_t)xb * (size_t)p->inner_count;
    const int lanes = w->x->blocks[xb].ld;
    bool any = accumulate;
    for (int ld = BF_LANES; ld <= BF_BLOCK; ld += BF_BLOCK - BF_LANES) {
        bf_gemm g = {.m = lanes, .n = n, .pairs = w->m.pairs, .lda = BF_LANES, .a_panel = (ptrdiff_t)bf_panel_floats(p, w->c, xb, lanes), .bk = 1, .bn = ld, .c = c, .ldc = ldc, .accumulate = any,
                     .prefetch = w->m.prefetch.count ? &w->m.prefetch : NULL};
        for (int b = part.first; b < part.last; b++) {
            const int channels = w->y->blocks[b].channels;
            for (int i = 0; i < tap_count && w->y->blocks[b].ld == ld && inner[b] != SIZE_MAX; i++)
                w->m.pairs[g.count++] = (bf_gemm_pair){bf_packed_at(p, w->packed, xb, lanes, inner[b], channels, w->m.taps[i].tap),
                                                       w->m.dy.base[b] + (ptrdiff_t)w->m.taps[i].pixel * ld, channels};
        }
        if (!g.count) continue;
        w->cell->k->gemm(&g);
        any = true;
    }
}

static void data_gradient_row(bf_visit *w, portion part, int image, int ih, int xb, float *row)
{
    const bf_conv *c = w->c;
    const ptrdiff_t ld = w->x->blocks[xb].ld;
    bool any_row = false;
    for (int kh = 0; kh < c->kh; kh++) any_row |= bf_out_row(c, ih, kh) >= 0;
    const bool begun = part.first > 0 || !c->back_covers || !any_row;
    if (begun && part.first == 0) w->cell->k->fill(row, ld, 0, c->w, (int)ld);
    const int storing = c->sw < c->w ? c->sw : c->w; /* runs that cover their phase come first */
    for (int r = 0; any_row && r < c->back_column_count; r++) {
        const bf_columns *run = &c->back_columns[r];
        int count = 0;
        for (int kh = 0; kh < c->kh; kh++) {
            const int oh = bf_out_row(c, ih, kh);
            if (oh < 0) continue;
            const size_t out = ((size_t)image * (size_t)c->oh + (size_t)oh) * (size_t)c->ow;
            for (int i = 0; i < run->taps; i++) w->m.taps[count++] = (bf_tap_at){kh * c->kw + run->kw[i], out + (size_t)run->from[i]};
        }
        multiply(w, xb, part, count, run->count, row + (ptrdiff_t)(run->phase + c->sw * run->first) * ld, c->sw * ld, begun || r >= storing);
    }
}

/* dx of block xb at `at`, pixel `first` of x. */
static void data_gradient_winograd(bf_visit *w, const bf_tile *tile, int xb, float *at, size_t first)
{
    const int lanes = w->x->blocks[xb].ld;
    bf_winograd_multiply(w->cell, &w->c->transposed, xb, w->packed, lanes, w->y, &w->m.dy_positions, &w->m.block, bf_tiles_of(w, tile), w->m.pairs, &w->m.prefetch);
    const bf_plane plane = bf_x_plane(w, tile, xb, at - (ptrdiff_t)first * lanes);
    bf_winograd_over(w->task, tile, w->cell->k->winograd_output, &plane, &w->m.block, 0, NULL);
}

/* dx at the pixels of dy, then each in its place among zeros. */
static void data_gradient_gathered(bf_visit *w, const bf_tile *tile, int xb, float *row)
{
    const bf_conv *c = w->c;
    const ptrdiff_t ld = w->x->blocks[xb].ld;
    const bf_gathering g = bf_visit_gathered(w, tile);
    portion part = {0, 0};
    for (; g.count && part.first < w->y->count; part.first = part.last) {
        part.last = part.first + c->transposed.portion < w->y->count ? part.first + c->transposed.portion : w->y->count;
        w->m.taps[0] = (bf_tap_at){0, g.first};
        multiply(w, xb, part, 1, (int)g.count, w->m.line, ld, part.first > 0);
    }
    const float *from = w->m.line;
    for (int image = tile->image0; image < tile->image1; image++)
        for (int ih = tile->row0; ih < tile->row1; ih++, row += c->w * ld) {
            w->cell->k->fill(row, ld, 0, c->w, (int)ld);
            if (bf_out_row(c, ih, 0) < 0) continue;
            w->cell->k->copy(row, c->sw * ld, from, ld, c->ow, (int)ld);
            from += c->ow * ld;
        }
}

static void data_gradient_direct(bf_visit *w, const bf_tile *tile, int xb, float *at)
{
    const bf_conv *c = w->c;
    const ptrdiff_t ld = w->x->blocks[xb].ld;
    portion part = {0, 0};
    for (; part.first < w->y->count; part.first = part.last) {
        part.last = part.first + c->transposed.portion < w->y->count ? part.first + c->transposed.portion : w->y->count;
        for (int t = 0; c->line && t < c->taps; t++) {
            w->m.taps[0] = (bf_tap_at){t, (size_t)tile->row0};
            multiply(w, xb, part, 1, tile->row1 - tile->row0, at + t * ld, c->xstep * ld, part.first > 0);
        }
        float *row = at;
        for (int image = tile->image0; !c->line && image < tile->image1; image++)
            for (int ih = tile->row0; ih < tile->row1; ih++, row += c->w * ld) data_gradient_row(w, part, image, ih, xb, row);
    }
}

void bf_data_gradient(bf_visit *w, const bf_tile *tile, int xb, float *at, size_t first)
{
    if (w->c->algorithm != BF_DIRECT) data_gradient_winograd(w, tile, xb, at, first);
    else (w->c->gather ? data_gradient_gathered : data_gradient_direct)(w, tile, xb, at);
}
