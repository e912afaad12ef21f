/* Data and weight gradient in one visit per tile of input rows [row0, row1):
 *     dy rows that touch them are made visible once, halo included
 *     per block of input channels: x rows (recomputed by the prologue where they are virtual)
 *         dW[tap] += x * dy      products over pixels, into this cell's partial sums
 *         dx = W^T * dy          into storage, or a tile for the epilogue
 * An input row meets each (filter row, output row) pair once, so every product is computed once although dy has the halo. */
#include <string.h>

#include "runtime/conv_backward.h"
#include "runtime/program.h"

/* -- sizes -- */

static int tile_images(const bf_grid *g) { return g->images > 1 ? g->images : 1; }

static size_t tile_x_pixels(const bf_conv *c, const bf_grid *g)
{
    return c->line ? (size_t)g->rows * (size_t)c->xstep : (size_t)g->rows * c->x_row * (size_t)tile_images(g);
}

/* Output rows visible to a tile of input rows: those with a tap in it, and its share of all rows (for the bias gradient). */
static void dy_rows(const bf_conv *c, int row0, int row1, int *first, int *last)
{
    int low = row0 + c->ph - (c->kh - 1) * c->dh, high = (row1 - 1 + c->ph) / c->sh + 1;
    low = low > 0 ? (low + c->sh - 1) / c->sh : 0;
    const int own0 = bf_share(c->oh, c->h, row0), own1 = bf_share(c->oh, c->h, row1);
    if (high > c->oh) high = c->oh;
    if (low > high) low = high;
    *first = low < own0 || own0 == own1 ? low : own0;
    *last = high > own1 || own0 == own1 ? high : own1;
}

static size_t tile_dy_pixels(const bf_conv *c, const bf_grid *g)
{
    if (c->line) return (size_t)g->rows;
    int most = 0;
    for (int row = 0; row < c->h; row += g->rows) {
        int first, last;
        dy_rows(c, row, row + g->rows < c->h ? row + g->rows : c->h, &first, &last);
        if (last - first > most) most = last - first;
    }
    return (size_t)most * (size_t)c->ow * (size_t)tile_images(g);
}

static int widest(const bf_layout *layout)
{
    int ld = 0;
    for (int b = 0; b < layout->count; b++) ld = layout->blocks[b].ld > ld ? layout->blocks[b].ld : ld;
    return ld;
}

static bf_visit_memory take(bf_scratch *s, const bnff_plan *plan, const bf_task *task)
{
    const bf_conv *c = &task->conv;
    const bf_layout *x = &plan->layouts[task->x], *y = &plan->layouts[task->dy];
    const bf_program *programs[3] = {&task->load[0], &task->load[1], &task->epilogue};
    size_t temps = 0, pairs = (size_t)c->taps * (size_t)y->count;
    for (int i = 0; i < 3; i++) temps = bf_program_scratch(programs[i]) > temps ? bf_program_scratch(programs[i]) : temps;
    const size_t rows = c->line ? 1 : (size_t)task->grid.rows * (size_t)tile_images(&task->grid);
    if (rows > pairs) pairs = rows;
    bf_visit_memory m = {.dy = {.blocks = y->blocks, .count = y->count}};
    m.dy.base = bf_take(s, (size_t)y->count * sizeof *m.dy.base);
    m.taps = bf_take(s, (size_t)c->taps * sizeof *m.taps);
    m.pairs = bf_take(s, pairs * sizeof *m.pairs);
    m.temps = bf_take(s, temps);
    if (task->load[1].count) m.dy_scratch = bf_take(s, tile_dy_pixels(c, &task->grid) * (size_t)y->lanes * sizeof(float));
    if (task->load[0].count) m.x_scratch = bf_take(s, tile_x_pixels(c, &task->grid) * (size_t)widest(x) * sizeof(float));
    if (c->gather) {
        m.gathered = bf_take(s, tile_dy_pixels(c, &task->grid) * (size_t)widest(x) * sizeof(float));
        m.line = bf_take(s, tile_dy_pixels(c, &task->grid) * (size_t)widest(x) * sizeof(float));
    }
    if (task->epilogue.count) m.tile = bf_take(s, tile_x_pixels(c, &task->grid) * (size_t)widest(x) * sizeof(float));
    if (c->algorithm != BF_DIRECT) {
        m.dy_positions = bf_take_transformed(s, task, y->count);
        m.block = bf_take_transformed(s, task, 1);
    }
    return m;
}

size_t bf_conv_backward_scratch(const bnff_plan *plan, const bf_task *task);
size_t bf_conv_backward_scratch(const bnff_plan *plan, const bf_task *task)
{
    bf_scratch s = {0};
    (void)take(&s, plan, task);
    return s.used;
}

/* -- making operands visible -- */

/* Pixels of dy that a tile reads. */
static void dy_range(const bf_conv *c, const bf_tile *tile, size_t *first, size_t *last)
{
    *first = (size_t)tile->row0;
    *last = (size_t)tile->row1;
    if (c->line) return;
    int row0, row1;
    dy_rows(c, tile->row0, tile->row1, &row0, &row1);
    *first = ((size_t)tile->image0 * (size_t)c->oh + (size_t)row0) * (size_t)c->ow;
    *last = ((size_t)(tile->image1 - 1) * (size_t)c->oh + (size_t)row1) * (size_t)c->ow;
}

static void load_dy(bf_visit *w, const bf_tile *tile)
{
    bf_visit_memory *m = &w->m;
    if (!m->dy_scratch) {
        for (int b = 0; b < m->dy.count; b++) m->dy.base[b] = bf_block_at(w->cell->run, w->task->dy, b);
        return;
    }
    size_t first, last;
    dy_range(w->c, tile, &first, &last);
    float *at = m->dy_scratch;
    for (int b = 0; b < m->dy.count; b++) {
        const ptrdiff_t ld = m->dy.blocks[b].ld;
        if (last > first) {
            const bf_stretch s = {.block = b, .pixel = first, .count = last - first, .result = at, .result_ld = ld};
            bf_program_run(w->cell, &w->task->load[1], &s, m->temps);
        }
        m->dy.base[b] = at - (ptrdiff_t)first * ld;
        at += (ptrdiff_t)(last - first) * ld;
    }
}

/* Pixel 0 of block b of x: only the tile's pixels may be read. */
static const float *load_x(bf_visit *w, const bf_tile *tile, int b)
{
    if (!w->m.x_scratch) return bf_block_at(w->cell->run, w->task->x, b);
    size_t count;
    const size_t first = bf_x_range(w->c, tile, &count);
    const ptrdiff_t ld = w->x->blocks[b].ld;
    const bf_stretch s = {.block = b, .pixel = first, .count = count, .result = w->m.x_scratch, .result_ld = ld};
    bf_program_run(w->cell, &w->task->load[0], &s, w->m.temps);
    return w->m.x_scratch - (ptrdiff_t)first * ld;
}

static void transform_dy(bf_visit *w, const bf_tile *tile)
{
    const bf_conv *c = w->c;
    bf_plane plane = {.height = c->oh, .width = c->ow, .ph = 2 - c->ph, .pw = 2 - c->pw};
    dy_rows(c, tile->row0, tile->row1, &plane.first, &plane.last);
    for (int b = 0; b < w->y->count; b++) {
        plane.pixels = w->m.dy.base[b];
        plane.ld = w->y->blocks[b].ld;
        bf_winograd_over(w->task, tile, w->cell->k->winograd_input, &plane, &w->m.dy_positions, b, NULL);
    }
}

/* -- a block of dx, and its epilogue -- */

static void data_gradient(bf_visit *w, const bf_tile *tile, int xb)
{
    size_t count;
    const size_t first = bf_x_range(w->c, tile, &count);
    const ptrdiff_t ld = w->x->blocks[xb].ld;
    float *at = w->m.tile ? w->m.tile : bf_block_at(w->cell->run, w->task->out, xb) + (ptrdiff_t)first * ld;
    bf_data_gradient(w, tile, xb, at, first);
    if (!w->m.tile) return;
    const bf_stretch s = {.block = xb, .pixel = first, .count = count, .tile = w->m.tile, .tile_ld = ld};
    bf_program_run(w->cell, &w->task->epilogue, &s, w->m.temps);
}

/* -- bias gradient: the sum of dy, each row by the tile that owns it -- */

static void bias_gradient(bf_visit *w, const bf_tile *tile)
{
    const bf_conv *c = w->c;
    for (int image = tile->image0; image < tile->image1; image++) {
        size_t first = (size_t)tile->row0, last = (size_t)tile->row1;
        if (!c->line) {
            const size_t row = (size_t)image * (size_t)c->oh;
            first = (row + (size_t)bf_share(c->oh, c->h, tile->row0)) * (size_t)c->ow;
            last = (row + (size_t)bf_share(c->oh, c->h, tile->row1)) * (size_t)c->ow;
        }
        for (int b = 0; b < w->y->count; b++)
            for (size_t pixel = first; pixel < last; pixel += BF_STATS_PIXELS) {
                const ptrdiff_t ld = w->y->blocks[b].ld;
                const int n = last - pixel < BF_STATS_PIXELS ? (int)(last - pixel) : BF_STATS_PIXELS;
                w->cell->k->sum(w->m.dy.base[b] + (ptrdiff_t)pixel * ld, ld, n, (int)ld, w->bias + w->y->blocks[b].lane);
            }
    }
}

/* While block xb of [first, last) is computed: fetch what its epilogue reads, the next block's x, or the next tile's first, and a share of
 * the next tile's dy. */
static void fetch_next(bf_visit *w, const bf_tile *tile, const bf_tile *next, int xb, int first, int last)
{
    bf_prefetch *p = &w->m.prefetch;
    size_t count, from, to;
    const bf_tile *x_tile = xb + 1 < last ? tile : next;
    const size_t half = w->cell->plan->context->target.l2 / 2;
    p->count = 0;
    if (w->want_dx) {
        from = bf_x_range(w->c, tile, &count);
        if (count * (size_t)w->x->blocks[xb].ld * sizeof(float) <= half / 2) bf_prefetch_epilogue(w->cell, p, &w->task->epilogue, xb, from, from + count);
    }
    if (w->partial && x_tile) {
        from = bf_x_range(w->c, x_tile, &count);
        const int b = xb + 1 < last ? xb + 1 : first;
        if (count * (size_t)w->x->blocks[b].ld * sizeof(float) <= half / 2) bf_prefetch_load(w->cell, p, &w->task->load[0], w->task->x, b, b + 1, from, from + count);
    }
    if (next) {
        dy_range(w->c, next, &from, &to);
        if ((to - from) * (size_t)w->y->lanes * sizeof(float) <= half)
            bf_prefetch_load(w->cell, p, &w->task->load[1], w->task->dy, bf_share(w->y->count, last - first, xb - first), bf_share(w->y->count, last - first, xb - first + 1), from, to);
    }
    (void)bf_x_range(w->c, tile, &count);
    const double products = (double)count * w->x->blocks[xb].channels * w->y->lanes * w->c->products / (w->c->line ? w->c->xstep : w->c->sh * w->c->sw);
    bf_prefetch_pace(w->cell, p, products * ((w->partial != NULL) + w->want_dx));
}

/* -- cells -- */

static float *partial_at(const bnff_run *run, const bf_task *task, int pixel_cell)
{
    return (float *)(run->arena + task->shared_arena) + task->conv.transposed.floats + (size_t)pixel_cell * task->conv.forward.floats;
}

static double *bias_at(const bnff_run *run, const bf_task *task, int pixel_cell)
{
    return (double *)partial_at(run, task, task->grid.pixel_cells) + (size_t)pixel_cell * (size_t)run->plan->layouts[task->dy].lanes;
}

static void pack_cell(const bf_cell *cell)
{
    const int blocks = cell->plan->layouts[cell->task->x].count, cells = cell->plan->cells;
    bf_pack_transposed(cell->run, cell->task, (float *)(cell->run->arena + cell->task->shared_arena), bf_share(blocks, cells, cell->index), bf_share(blocks, cells, cell->index + 1));
}

/* Clear the partial weight gradient of this cell's input blocks. */
static void clear_partial(const bf_visit *w, int first, int last)
{
    const bf_packing *p = &w->c->forward;
    const int parts = w->c->algorithm == BF_DIRECT ? 1 : w->c->products; /* a pair of blocks lies in one piece, or in positions */
    for (int ob = 0; ob < w->y->count; ob++)
        for (int q = 0; q < parts; q++)
            for (int xb = first; xb < last; xb++)
                if (p->inner[ob * p->inner_count + xb] != SIZE_MAX)
                    memset(w->partial + p->outer[ob] + (size_t)q * p->tap[ob] + p->inner[ob * p->inner_count + xb], 0,
                           (size_t)(w->c->products / parts * w->x->blocks[xb].channels * w->y->blocks[ob].ld) * sizeof(float));
}

static void backward_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_grid *g = &task->grid;
    const bf_node *node = &cell->plan->graph.nodes[task->node];
    bf_portion part;
    if (!bf_begin_portion(cell, &part)) return;
    bf_scratch s = {.at = cell->scratch};
    bf_visit w = {.cell = cell, .task = task, .c = &task->conv, .x = &cell->plan->layouts[task->x], .y = &cell->plan->layouts[task->dy], .m = take(&s, cell->plan, task),
              .packed = (const float *)(cell->run->arena + task->shared_arena), .want_dx = task->out >= 0};
    const int first = part.unit, last = part.unit_end, end = part.tile_end;
    if (node->a.conv.want_dw) {
        w.partial = partial_at(cell->run, task, part.pixel_cell);
        clear_partial(&w, first, last);
        if (node->param[1] >= 0 && part.channel_cell == 0) memset(w.bias = bias_at(cell->run, task, part.pixel_cell), 0, (size_t)w.y->lanes * sizeof *w.bias);
    }
    for (int i = part.tile; i < end; i++) {
        const bf_tile tile = bf_tile_at(g, i), next = i + 1 < end ? bf_tile_at(g, i + 1) : tile;
        load_dy(&w, &tile);
        if (w.c->algorithm != BF_DIRECT) transform_dy(&w, &tile);
        if (w.bias) bias_gradient(&w, &tile);
        for (int xb = first; xb < last; xb++) {
            const float *x = w.partial ? load_x(&w, &tile, xb) : NULL;
            fetch_next(&w, &tile, i + 1 < end ? &next : NULL, xb, first, last);
            if (w.partial) bf_add_weight_gradient(&w, &tile, x, xb);
            if (w.want_dx) data_gradient(&w, &tile, xb);
        }
    }
}

static void merge_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_node *node = &cell->plan->graph.nodes[task->node];
    const bf_layout *y = &cell->plan->layouts[task->dy];
    const int first = bf_share(y->count, cell->plan->cells, cell->index), last = bf_share(y->count, cell->plan->cells, cell->index + 1);
    float *const *gradients = cell->run->param_gradients;
    if (gradients[node->param[0]]) bf_unpack_gradient(cell->run, task, partial_at(cell->run, task, 0), first, last);
    float *bias = node->param[1] >= 0 ? gradients[node->param[1]] : NULL;
    for (int b = first; bias && b < last; b++)
        for (int i = 0; i < y->blocks[b].channels; i++) {
            double sum = 0;
            for (int p = 0; p < task->grid.pixel_cells; p++) sum += bias_at(cell->run, task, p)[y->blocks[b].lane + i];
            float *to = &bias[y->blocks[b].first + i];
            *to = cell->run->accumulate ? *to + (float)sum : (float)sum;
        }
}

void bf_conv_backward(bnff_run *run, const bf_task *task)
{
    if (task->out >= 0) bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, backward_cell);
    if (run->plan->graph.nodes[task->node].a.conv.want_dw) bf_parallel_cells(run, task, merge_cell);
}
