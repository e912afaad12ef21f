/* dW[tap] += x * dy over the pixels of a tile. */
#include "runtime/conv_backward.h"

static void spread_x(bf_visit *w, const bf_tile *tile, const float *x, int xb)
{
    const bf_plane plane = bf_x_plane(w, tile, xb, (float *)x);
    bf_winograd_over(w->task, tile, w->cell->k->winograd_spread, &plane, &w->m.block, 0, NULL);
}

/* The partial gradient between two blocks. */
static float *partial_of(const bf_visit *w, int ob, int xb)
{
    const bf_packing *p = &w->c->forward;
    return w->partial + p->outer[ob] + p->inner[ob * p->inner_count + xb];
}

/* dW[tap] += sum over pairs of pixels; `columns` > channels when taps of the dense input are taken together. */
static void add_weight_product(bf_visit *w, int ob, int xb, int tap, int count, int columns, ptrdiff_t x_step)
{
    const int lanes = w->y->blocks[ob].ld;
    const bf_gemm g = {.m = lanes, .n = columns, .count = count, .pairs = w->m.pairs, .lda = lanes, .a_panel = BF_LANES, .bk = x_step, .bn = 1,
                       .c = partial_of(w, ob, xb) + tap * w->x->blocks[xb].channels * lanes, .ldc = lanes, .accumulate = true,
                       .prefetch = w->m.prefetch.count ? &w->m.prefetch : NULL};
    w->cell->k->gemm(&g);
}

static void weight_gradient_rows(bf_visit *w, const bf_tile *tile, const float *x, int xb, int ob)
{
    const bf_conv *c = w->c;
    const ptrdiff_t ld = w->x->blocks[xb].ld, dy_ld = w->y->blocks[ob].ld;
    for (int kh = 0; kh < c->kh; kh++)
        for (int r = 0; r < c->column_count; r++) {
            const bf_columns *run = &c->columns[r];
            const bool together = c->dense && c->dw == 1 && run->taps == c->kw;
            for (int i = 0; i < (together ? 1 : run->taps); i++) {
                int count = 0;
                for (int image = tile->image0; image < tile->image1; image++)
                    for (int ih = tile->row0; ih < tile->row1; ih++) {
                        const int oh = bf_out_row(c, ih, kh);
                        if (oh < 0) continue;
                        const size_t from_dy = ((size_t)image * (size_t)c->oh + (size_t)oh) * (size_t)c->ow + (size_t)run->first;
                        const size_t from_x = ((size_t)image * (size_t)c->h + (size_t)ih) * c->x_row + (size_t)run->from[i];
                        w->m.pairs[count++] = (bf_gemm_pair){w->m.dy.base[ob] + (ptrdiff_t)from_dy * dy_ld, x + (ptrdiff_t)from_x * ld, run->count};
                    }
                const int columns = together ? c->kw * (int)ld : w->x->blocks[xb].channels;
                if (count) add_weight_product(w, ob, xb, kh * c->kw + run->kw[i], count, columns, c->sw * ld);
            }
        }
}

static void weight_gradient_line(bf_visit *w, const bf_tile *tile, const float *x, int xb, int ob)
{
    const bf_conv *c = w->c;
    const ptrdiff_t ld = w->x->blocks[xb].ld, dy_ld = w->y->blocks[ob].ld;
    for (int t = 0; t < c->taps; t++) {
        w->m.pairs[0] = (bf_gemm_pair){w->m.dy.base[ob] + tile->row0 * dy_ld, x + ((ptrdiff_t)tile->row0 * c->xstep + t) * ld, tile->row1 - tile->row0};
        add_weight_product(w, ob, xb, t, 1, w->x->blocks[xb].channels, c->xstep * ld);
    }
}

static void weight_gradient_gathered(bf_visit *w, const bf_tile *tile, int xb, int ob)
{
    const bf_gathering g = bf_visit_gathered(w, tile);
    if (!g.count) return;
    w->m.pairs[0] = (bf_gemm_pair){w->m.dy.base[ob] + (ptrdiff_t)g.first * w->y->blocks[ob].ld, w->m.gathered, (int)g.count};
    add_weight_product(w, ob, xb, 0, 1, w->x->blocks[xb].channels, w->x->blocks[xb].ld);
}

/* The first columns of what the next product adds to; those behind it are fetched by the product itself. */
static void fetch_sums(const bf_visit *w, int ob, int xb)
{
    const bf_packing *p = &w->c->forward;
    if (ob + 1 >= w->y->count || p->inner[(ob + 1) * p->inner_count + xb] == SIZE_MAX) return;
    const float *c = partial_of(w, ob + 1, xb);
    for (int i = 0; i < 8; i++) __builtin_prefetch(c + i * w->y->blocks[ob + 1].ld, 0, 2);
}

void bf_add_weight_gradient(bf_visit *w, const bf_tile *tile, const float *x, int xb)
{
    if (w->c->gather) {
        const bf_gathering g = bf_visit_gathered(w, tile);
        bf_gather(w->cell, &g, tile->image0, tile->image1, x, w->x->blocks[xb].ld, w->m.gathered);
    }
    const bf_packing *p = &w->c->forward;
    if (w->c->algorithm != BF_DIRECT) {
        spread_x(w, tile, x, xb);
        bf_winograd_add_gradient(w->cell, xb, w->x, w->y, &w->m.dy_positions, &w->m.block, bf_tiles_of(w, tile), w->partial, &w->m.prefetch);
        return;
    }
    for (int ob = 0; ob < w->y->count; ob++) {
        if (p->inner[ob * p->inner_count + xb] == SIZE_MAX) continue;
        fetch_sums(w, ob, xb);
        if (w->c->gather) weight_gradient_gathered(w, tile, xb, ob);
        else (w->c->line ? weight_gradient_line : weight_gradient_rows)(w, tile, x, xb, ob);
    }
}
