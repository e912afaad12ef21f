/* Resizing. An output row blends two input rows, then an output pixel two pixels of that; nearest is a blend with weight 0. Backward each
 * row of dy is spread over columns first, then added to its two rows of dx. A tile is some output rows, backward some rows of dx, of an
 * image and a block of channels: the rows that it is made of are a range, as both coordinates rise together. */
#include <math.h>
#include <string.h>

#include "base/memory.h"
#include "runtime/conv.h"
#include "runtime/program.h"
#include "runtime/tasks.h"

/* -- set-up -- */

/* PyTorch computes nearest coordinates in float: which pixel is nearest depends on it. */
static bf_blend nearest(int o, int in, int out, double scale)
{
    const float step = scale > 0 ? (float)(1 / scale) : (float)in / (float)out;
    const float at = floorf((float)o * step);
    const int pixel = at < (float)in ? (int)at : in - 1;
    return (bf_blend){pixel, pixel, 0};
}

static bf_blend bilinear(int o, int in, int out, double scale, bool align_corners)
{
    double at = (o + 0.5) * (scale > 0 ? 1 / scale : (double)in / out) - 0.5;
    if (align_corners) at = out > 1 ? (double)o * (in - 1) / (out - 1) : 0;
    if (at < 0) at = 0;
    if (at > in - 1) at = in - 1;
    const int pixel = (int)at;
    return (bf_blend){pixel, pixel + (pixel < in - 1), (float)(at - pixel)};
}

static bf_blend *blends(const bf_resize_attr *a, int in, int out, double scale)
{
    bf_blend *list = bf_alloc((size_t)out * sizeof *list);
    for (int o = 0; list && o < out; o++) list[o] = a->mode == BNFF_RESIZE_NEAREST ? nearest(o, in, out, scale) : bilinear(o, in, out, scale, a->align_corners);
    return list;
}

static bool is_backward(const bf_task *task) { return task->kind == BF_TASK_RESIZE_BWD; }
static const bf_value *small(const bnff_plan *plan, const bf_task *task) { return &plan->graph.values[is_backward(task) ? task->out : task->x]; }
static const bf_value *large(const bnff_plan *plan, const bf_task *task) { return &plan->graph.values[is_backward(task) ? task->dy : task->out]; }

typedef struct range {
    int first, last;
} range;

/* Rows that a tile is made of: of x for rows [row0, row1) of the result, of dy for those of dx. */
static range rows_of(const bf_task *task, int row0, int row1, int large_rows)
{
    const bf_blend *rows = task->resize.rows;
    if (!is_backward(task)) return (range){rows[row0].first, rows[row1 - 1].second + 1};
    range r = {0, 0};
    while (r.first < large_rows && rows[r.first].second < row0) r.first++;
    for (r.last = r.first; r.last < large_rows && rows[r.last].first < row1;) r.last++;
    return r;
}

typedef struct memory {
    float *in, *row, *tile, *temps; /* rows a tile is made of, if computed; one row blended, or spread; the tile, if there is an epilogue */
} memory;

static memory take(bf_scratch *s, const bnff_plan *plan, const bf_task *task)
{
    const bf_program *load = &task->load[is_backward(task)];
    const size_t epilogue = bf_program_scratch(&task->epilogue), loading = bf_program_scratch(load);
    const size_t in_row = (size_t)(is_backward(task) ? large(plan, task) : small(plan, task))->w * BF_BLOCK * sizeof(float);
    const size_t out_row = (size_t)(is_backward(task) ? small(plan, task) : large(plan, task))->w * BF_BLOCK * sizeof(float);
    memory m = {.row = bf_take(s, (size_t)small(plan, task)->w * BF_BLOCK * sizeof(float))};
    if (load->count) m.in = bf_take(s, (size_t)task->resize.most_rows * in_row);
    if (task->epilogue.count) m.tile = bf_take(s, (size_t)task->grid.rows * out_row);
    m.temps = bf_take(s, loading > epilogue ? loading : epilogue);
    return m;
}

enum { TILE_ROWS = 16, TILES_A_CELL = 4 };

static void divide(const bnff_plan *plan, bf_task *task)
{
    const bf_value *out = &plan->graph.values[task->out];
    bf_grid *g = &task->grid;
    g->image_count = out->n;
    g->height = out->h;
    g->images = g->channel_cells = 1;
    g->pixel_cells = plan->cells;
    g->units = plan->layouts[task->out].count;
    const long long rows = (long long)out->n * out->h / ((long long)plan->cells * TILES_A_CELL);
    g->rows = rows < 1 ? 1 : rows > TILE_ROWS ? TILE_ROWS : (int)rows;
    if (g->rows > g->height) g->rows = g->height;
    g->tiles_per_image = (g->height - 1) / g->rows + 1;
    g->tiles = g->image_count * g->tiles_per_image;
}

bnff_status bf_resize_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    const bf_resize_attr *a = &plan->graph.nodes[task->node].a.resize;
    const bf_value *x = small(plan, task), *y = large(plan, task);
    bf_resize *r = &task->resize;
    r->rows = blends(a, x->h, y->h, a->scale_h);
    r->columns = blends(a, x->w, y->w, a->scale_w);
    if (!r->rows || !r->columns) return bf_fail(error, BNFF_E_MEMORY, "no memory to set up %s", task->name);
    divide(plan, task);
    for (int t = 0; t < task->grid.tiles_per_image; t++) {
        const bf_tile tile = bf_tile_at(&task->grid, t);
        const range rows = rows_of(task, tile.row0, tile.row1, y->h);
        if (rows.last - rows.first > r->most_rows) r->most_rows = rows.last - rows.first;
    }
    bf_scratch s = {0};
    (void)take(&s, plan, task);
    task->scratch = s.used;
    return BNFF_OK;
}

/* -- a tile of one block -- */

/* Rows [r.first, r.last) of an image of `value`: in storage, or computed. */
static const float *see(const bf_cell *cell, const memory *m, const bf_program *load, int value, int image, int block, range r)
{
    const bf_value *v = &cell->plan->graph.values[value];
    const ptrdiff_t ld = cell->plan->layouts[value].blocks[block].ld;
    const size_t first = ((size_t)image * (size_t)v->h + (size_t)r.first) * (size_t)v->w, count = (size_t)(r.last - r.first) * (size_t)v->w;
    if (!load->count) return bf_block_at(cell->run, value, block) + (ptrdiff_t)first * ld;
    const bf_stretch s = {.block = block, .pixel = first, .count = count, .result = m->in, .result_ld = ld};
    if (count) bf_program_run(cell, load, &s, m->temps);
    return m->in;
}

/* first * (1 - weight) + second * weight, of rows of w pixels; `first` itself where the weight is 0. */
static const float *blend_rows(const bf_cell *cell, const memory *m, const float *first, const float *second, float weight, int w, ptrdiff_t ld)
{
    if (weight == 0) return first;
    cell->k->scale_add(m->row, ld, first, ld, 1 - weight, NULL, 0, w, (int)ld);
    cell->k->scale_add(m->row, ld, second, ld, weight, m->row, ld, w, (int)ld);
    return m->row;
}

static void forward_rows(const bf_cell *cell, const memory *m, const bf_tile *tile, int block, float *y)
{
    const bf_task *task = cell->task;
    const bf_value *x = &cell->plan->graph.values[task->x];
    const int ow = cell->plan->graph.values[task->out].w;
    const ptrdiff_t ld = cell->plan->layouts[task->x].blocks[block].ld;
    const range from = rows_of(task, tile->row0, tile->row1, 0);
    const float *rows = see(cell, m, &task->load[0], task->x, tile->image0, block, from);
    for (int row = tile->row0; row < tile->row1; row++, y += ow * ld) {
        const bf_blend *b = &task->resize.rows[row];
        const float *first = rows + (ptrdiff_t)(b->first - from.first) * x->w * ld, *second = rows + (ptrdiff_t)(b->second - from.first) * x->w * ld;
        cell->k->blend_pixels(y, ld, blend_rows(cell, m, first, second, b->weight, x->w, ld), ld, task->resize.columns, ow, (int)ld);
    }
}

static void backward_rows(const bf_cell *cell, const memory *m, const bf_tile *tile, int block, float *dx)
{
    const bf_task *task = cell->task;
    const bf_value *dy = &cell->plan->graph.values[task->dy];
    const int w = cell->plan->graph.values[task->out].w;
    const ptrdiff_t ld = cell->plan->layouts[task->dy].blocks[block].ld;
    const range from = rows_of(task, tile->row0, tile->row1, dy->h);
    const float *g = see(cell, m, &task->load[1], task->dy, tile->image0, block, from);
    cell->k->fill(dx, ld, 0, (tile->row1 - tile->row0) * w, (int)ld);
    for (int row = from.first; row < from.last; row++, g += dy->w * ld) {
        const bf_blend *b = &task->resize.rows[row];
        float *first = dx + (ptrdiff_t)(b->first - tile->row0) * w * ld, *second = dx + (ptrdiff_t)(b->second - tile->row0) * w * ld;
        cell->k->fill(m->row, ld, 0, w, (int)ld);
        cell->k->blend_pixels_grad(m->row, ld, task->resize.columns, g, ld, dy->w, (int)ld);
        if (b->first >= tile->row0 && b->first < tile->row1) cell->k->scale_add(first, ld, m->row, ld, 1 - b->weight, first, ld, w, (int)ld);
        if (b->weight != 0 && b->second >= tile->row0 && b->second < tile->row1) cell->k->scale_add(second, ld, m->row, ld, b->weight, second, ld, w, (int)ld);
    }
}

/* -- cells -- */

static void resize_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_value *out = &cell->plan->graph.values[task->out];
    const bf_layout *layout = &cell->plan->layouts[task->out];
    bf_scratch s = {.at = cell->scratch};
    const memory m = take(&s, cell->plan, task);
    bf_program_clear_sums(cell, &task->epilogue);
    for (int t = bf_share(task->grid.tiles, cell->plan->cells, cell->index); t < bf_share(task->grid.tiles, cell->plan->cells, cell->index + 1); t++) {
        const bf_tile tile = bf_tile_at(&task->grid, t);
        const size_t first = ((size_t)tile.image0 * (size_t)out->h + (size_t)tile.row0) * (size_t)out->w, count = (size_t)(tile.row1 - tile.row0) * (size_t)out->w;
        for (int b = 0; b < layout->count; b++) {
            const ptrdiff_t ld = layout->blocks[b].ld;
            (is_backward(task) ? backward_rows : forward_rows)(cell, &m, &tile, b, m.tile ? m.tile : bf_block_at(cell->run, task->out, b) + (ptrdiff_t)first * ld);
            if (!m.tile) continue;
            const bf_stretch stretch = {.block = b, .pixel = first, .count = count, .tile = m.tile, .tile_ld = ld};
            bf_program_run(cell, &task->epilogue, &stretch, m.temps);
        }
    }
}

void bf_resize_forward(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, resize_cell); }
void bf_resize_backward(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, resize_cell); }
