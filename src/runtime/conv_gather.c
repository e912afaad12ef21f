/* 1x1 convolutions with strides: a row of an image has few pixels that they read, so those of all of a tile are brought together. */
#include "runtime/conv.h"

bf_gathering bf_gathered(const bf_conv *c, int image0, int image1, int x_row0, int x_row1)
{
    bf_gathering g = {.row0 = (x_row0 + c->sh - 1) / c->sh, .row1 = (x_row1 - 1) / c->sh + 1};
    if (g.row1 > c->oh) g.row1 = c->oh;
    if (g.row0 > g.row1) g.row0 = g.row1;
    g.first = ((size_t)image0 * (size_t)c->oh + (size_t)g.row0) * (size_t)c->ow;
    /* several images are whole ones: their rows follow one another */
    g.count = (size_t)(image1 - image0) * (size_t)(g.row1 - g.row0) * (size_t)c->ow;
    return g;
}

void bf_gather(const bf_cell *cell, const bf_gathering *g, int image0, int image1, const float *x, int ld, float *to)
{
    const bf_conv *c = &cell->task->conv;
    for (int image = image0; image < image1; image++)
        for (int row = g->row0; row < g->row1; row++, to += c->ow * ld) {
            const size_t pixel = ((size_t)image * (size_t)c->h + (size_t)row * (size_t)c->sh) * c->x_row;
            cell->k->copy(to, ld, x + (ptrdiff_t)pixel * ld, (ptrdiff_t)c->sw * ld, c->ow, ld);
        }
}
