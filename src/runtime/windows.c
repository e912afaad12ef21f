#include "runtime/windows.h"

#include <string.h>

#include "base/memory.h"
#include "runtime/conv.h"
#include "runtime/program.h"
#include "runtime/rows.h"

static bool is_backward(const bf_task *task) { return task->kind == BF_TASK_POOL_BWD; }

/* -- set-up -- */

/* One axis of a sliding window; *count spans. */
static bf_span *slide(int in, int out, int kernel, int stride, int pad, int dilation, bool merge, int *count)
{
    bf_span *spans = bf_alloc((size_t)out * sizeof *spans);
    *count = 0;
    for (int o = 0; spans && o < out; o++) {
        const int start = o * stride - pad;
        int k0 = start < 0 ? (-start + dilation - 1) / dilation : 0, k1 = start >= in ? 0 : (in - 1 - start) / dilation + 1;
        if (k1 > kernel) k1 = kernel;
        if (k0 > k1) k0 = k1;
        const int padded = in + pad - start < kernel ? in + pad - start : kernel;
        bf_span *last = *count ? &spans[*count - 1] : NULL;
        if (merge && last && last->k0 == k0 && last->k1 == k1 && last->padded == padded) last->count++;
        else spans[(*count)++] = (bf_span){.first = o, .count = 1, .k0 = k0, .k1 = k1, .from = start + k0 * dilation, .padded = padded};
    }
    return spans;
}

/* One axis of adaptive pooling: cell o covers [floor(o in / out), ceil((o + 1) in / out)). */
static bf_span *adapt(int in, int out, int *count)
{
    bf_span *spans = bf_alloc((size_t)out * sizeof *spans);
    *count = out;
    for (int o = 0; spans && o < out; o++) {
        const int start = (int)((long long)o * in / out), end = (int)(((long long)(o + 1) * in + out - 1) / out);
        spans[o] = (bf_span){.first = o, .count = 1, .k1 = end - start, .from = start, .padded = end - start};
    }
    return spans;
}

/* Windows need not begin in order (dilation and padding): the first row that a window or a later one sees, and the last so far. */
static void reach(bf_windows *w)
{
    for (int i = 0, end = 0; i < w->oh; i++) {
        const bf_span *r = &w->rows[i];
        const int last = r->k1 > r->k0 ? r->from + (r->k1 - r->k0 - 1) * w->dh + 1 : 0;
        w->rows[i].end = end = last > end ? last : end;
    }
    for (int i = w->oh, least = w->h; i-- > 0;) {
        if (w->rows[i].k1 > w->rows[i].k0 && w->rows[i].from < least) least = w->rows[i].from;
        w->rows[i].least = least;
    }
}

bnff_status bf_windows_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    const bf_node *node = &plan->graph.nodes[task->node];
    const bool backward = is_backward(task);
    const bf_value *x = &plan->graph.values[task->x >= 0 ? task->x : task->out], *y = &plan->graph.values[backward ? task->dy : task->out];
    bf_windows *w = &task->windows;
    *w = (bf_windows){.n = x->n, .h = x->h, .w = x->w, .oh = y->h, .ow = y->w, .dh = 1, .dw = 1};
    int rows;
    const bf_pool_attr *a = &node->a.pool;
    w->average = node->op == BF_OP_AVGPOOL || node->op == BF_OP_AVGPOOL_BWD;
    w->exclude_pad = a->exclude_pad || a->out_h;
    if (a->out_h) {
        w->rows = adapt(w->h, w->oh, &rows);
        w->columns = adapt(w->w, w->ow, &w->column_count);
    } else {
        w->kh = a->kh, w->kw = a->kw, w->sh = a->sh, w->sw = a->sw, w->dh = a->dh, w->dw = a->dw;
        w->rows = slide(w->h, w->oh, a->kh, a->sh, a->ph, a->dh, false, &rows);
        w->columns = slide(w->w, w->ow, a->kw, a->sw, a->pw, a->dw, true, &w->column_count);
    }
    if (!w->rows || !w->columns) return bf_fail(error, BNFF_E_MEMORY, "no memory to set up %s", task->name);
    int tall = 1, wide = 1;
    for (int i = 0; i < w->oh; i++) tall = w->rows[i].k1 - w->rows[i].k0 > tall ? w->rows[i].k1 - w->rows[i].k0 : tall;
    for (int i = 0; i < w->column_count; i++) wide = w->columns[i].k1 - w->columns[i].k0 > wide ? w->columns[i].k1 - w->columns[i].k0 : wide;
    w->taps = tall * wide;
    reach(w);
    return BNFF_OK;
}

/* -- a cell's memory -- */

/* Most rows of x that outputs [row, row + strip) and what comes after them still need at once. */
static int rows_seen(const bf_windows *w, int strip)
{
    int most = 1;
    for (int row = 0; row < w->oh; row += strip) {
        const int last = row + strip < w->oh ? row + strip - 1 : w->oh - 1, rows = w->rows[last].end - w->rows[row].least;
        if (rows > most) most = rows;
    }
    return most;
}

/* Rings of rows, and what a strip of results needs. Backward, dx is a ring too: a window adds to rows that later ones add to. */
typedef struct memory {
    float *x, *dy, *tile, *temps;
    bf_ahead ahead;
    ptrdiff_t *offsets, *dx_offsets;
    int x_rows, dy_rows, tile_rows;
} memory;

static memory take(bf_scratch *s, const bf_task *task)
{
    const bf_windows *w = &task->windows;
    const size_t in = (size_t)w->w * BF_BLOCK * sizeof(float), out = (size_t)w->ow * BF_BLOCK * sizeof(float);
    size_t temps = 0;
    const bf_program *programs[3] = {&task->load[0], &task->load[1], &task->epilogue};
    for (int i = 0; i < 3; i++) temps = bf_program_scratch(programs[i]) > temps ? bf_program_scratch(programs[i]) : temps;
    memory m = {.offsets = bf_take(s, (size_t)w->taps * sizeof *m.offsets), .dx_offsets = bf_take(s, (size_t)w->taps * sizeof *m.dx_offsets)};
    m.temps = bf_take(s, temps);
    m.x_rows = rows_seen(w, is_backward(task) ? 1 : w->strip);
    m.dy_rows = w->ow < BF_PIECE_PIXELS ? BF_PIECE_PIXELS / w->ow : 1;
    m.tile_rows = is_backward(task) ? w->strip - 1 + m.x_rows : w->strip;
    if (is_backward(task) && m.tile_rows > w->h) m.tile_rows = w->h;
    if (task->load[0].count) m.x = bf_take(s, (size_t)m.x_rows * in);
    if (task->load[1].count) m.dy = bf_take(s, (size_t)m.dy_rows * out);
    if (task->epilogue.count) m.tile = bf_take(s, (size_t)m.tile_rows * (is_backward(task) ? in : out));
    return m;
}

void bf_windows_divide(const bnff_plan *plan, bf_task *task)
{
    bf_windows *w = &task->windows;
    const bf_layout *layout = &plan->layouts[is_backward(task) ? task->dy : task->out];
    const int height = is_backward(task) ? w->h : w->oh;
    const size_t row = (size_t)(is_backward(task) ? w->w : w->ow) * BF_BLOCK * sizeof(float), fit = plan->context->target.l1 / 2 / row;
    w->strip = fit < 1 ? 1 : fit < (size_t)height ? (int)fit : height;
    bf_divide_images(plan, &task->grid, w->n, height, layout->count);
    bf_scratch s = {0};
    (void)take(&s, task);
    task->scratch = s.used;
}

/* -- one row of windows -- */

/* Taps of the windows of one output row and run of columns, in a ring of rows, relative to the first window's first tap. */
static bf_taps taps_of(const bf_windows *w, const bf_rows *in, const bf_span *row, const bf_span *column, ptrdiff_t *offsets, bf_prefetch *prefetch)
{
    int count = 0;
    for (int i = row->k0; i < row->k1; i++) {
        const ptrdiff_t line = bf_row(in, row->from + (i - row->k0) * w->dh) - bf_row(in, row->from);
        for (int j = column->k0; j < column->k1; j++) offsets[count++] = line + (ptrdiff_t)(j - column->k0) * w->dw * in->ld;
    }
    return (bf_taps){count, offsets, prefetch};
}

static float average_scale(const bf_windows *w, const bf_span *row, const bf_span *column)
{
    return 1.0f / (float)(w->exclude_pad ? (row->k1 - row->k0) * (column->k1 - column->k0) : row->padded * column->padded);
}

static void forward_row(const bf_cell *cell, memory *m, const bf_rows *x, const bf_span *row, float *to)
{
    const bf_windows *w = &cell->task->windows;
    const bf_kernels *k = cell->k;
    const int lanes = (int)x->ld;
    for (const bf_span *column = w->columns; column < w->columns + w->column_count; column++) {
        const bf_taps taps = taps_of(w, x, row, column, m->offsets, &m->ahead.prefetch);
        const float *from = bf_row(x, row->from) + column->from * x->ld;
        float *out = to + column->first * x->ld;
        if (!taps.count) k->fill(out, x->ld, w->average ? 0 : -__builtin_inff(), column->count, lanes);
        else if (w->average) k->sum_taps(out, x->ld, from, w->sw * x->ld, taps, average_scale(w, row, column), column->count, lanes);
        else k->max_taps(out, x->ld, from, w->sw * x->ld, taps, column->count, lanes);
    }
}

static void backward_row(const bf_cell *cell, memory *m, const bf_rows *x, const bf_rows *dx, const bf_span *row, const float *dy)
{
    const bf_windows *w = &cell->task->windows;
    const bf_kernels *k = cell->k;
    const ptrdiff_t ld = dx->ld, step = w->sw * ld;
    for (const bf_span *column = w->columns; column < w->columns + w->column_count; column++) {
        const bf_taps taps = taps_of(w, dx, row, column, m->dx_offsets, &m->ahead.prefetch);
        if (!taps.count) continue;
        float *to = bf_row(dx, row->from) + column->from * ld;
        const float *g = dy + column->first * ld;
        if (w->average) k->sum_taps_grad(to, step, taps, average_scale(w, row, column), g, ld, column->count, (int)ld);
        else k->max_taps_grad(to, taps.offset, bf_row(x, row->from) + column->from * ld, step, taps_of(w, x, row, column, m->offsets, &m->ahead.prefetch), g, ld, column->count, (int)ld);
    }
}

/* -- one image, one block -- */

/* Rows of x that windows before row `last` of an image have seen, counted on through the next image. */
static int seen_before(const bf_windows *w, int last)
{
    if (last <= w->oh) return w->rows[last - 1].end;
    return w->h + w->rows[last - w->oh < w->oh ? last - w->oh - 1 : w->oh - 1].end;
}

static void forward_image(const bf_cell *cell, memory *m, int image, int block)
{
    const bf_task *task = cell->task;
    const bf_windows *w = &task->windows;
    bf_rows x = bf_rows_of(cell, &task->load[0], task->x, block, image, m->x, m->x_rows, m->temps);
    for (int row = 0, end; row < w->oh; row = end) {
        end = row + w->strip < w->oh ? row + w->strip : w->oh;
        const size_t pixel = ((size_t)image * (size_t)w->oh + (size_t)row) * (size_t)w->ow;
        bf_rows_until(&x, w->rows[end - 1].end);
        m->ahead.prefetch.count = 0;
        bf_ahead_rows(cell, &m->ahead, 0, block, x.first + (size_t)seen_before(w, end) * x.width, x.first + (size_t)seen_before(w, end + w->strip) * x.width);
        bf_ahead_pace(&m->ahead, (size_t)(end - row) * (size_t)w->ow);
        float *to = m->tile ? m->tile : bf_block_at(cell->run, task->out, block) + (ptrdiff_t)pixel * x.ld;
        for (int oh = row; oh < end; oh++) forward_row(cell, m, &x, &w->rows[oh], to + (ptrdiff_t)(oh - row) * w->ow * x.ld);
        if (!m->tile) continue;
        const bf_stretch s = {.block = block, .pixel = pixel, .count = (size_t)(end - row) * (size_t)w->ow, .tile = m->tile, .tile_ld = x.ld};
        bf_program_run(cell, &task->epilogue, &s, m->temps);
    }
}

/* Rows of dx: `ready` counts those that have been cleared, `flushed` those that went through the epilogue. */
static void clear_until(bf_rows *dx, int last)
{
    for (; dx->ready < last; dx->ready++) dx->cell->k->fill(bf_row(dx, dx->ready), dx->ld, 0, (int)dx->width, (int)dx->ld);
}

/* Rows before `last` are complete: through the epilogue with them, a strip at a time; `all`: the rest too. */
static void flush_until(bf_rows *dx, int last, bool all, int *flushed)
{
    const bf_task *task = dx->cell->task;
    const int strip = task->windows.strip;
    while (*flushed < last && (all || last - *flushed >= strip)) {
        const int room = dx->capacity - *flushed % dx->capacity, most = room < strip ? room : strip, count = last - *flushed < most ? last - *flushed : most;
        clear_until(dx, *flushed + count);
        const bf_stretch s = {.block = dx->block, .pixel = dx->first + (size_t)*flushed * dx->width, .count = (size_t)count * dx->width,
                              .tile = bf_row(dx, *flushed), .tile_ld = dx->ld};
        if (task->epilogue.count) bf_program_run(dx->cell, &task->epilogue, &s, dx->temps);
        *flushed += count;
    }
}

/* While windows of row oh are worked on: the rows that the next one adds, of dy, which is here up to row `chunk`, and of what dx is made with. */
static void fetch_next(const bf_cell *cell, memory *m, const bf_rows *dx, const bf_rows *dy, int oh, int chunk)
{
    const bf_task *task = cell->task;
    const bf_windows *w = &task->windows;
    const size_t first = dx->first + (size_t)seen_before(w, oh + 1) * dx->width, last = dx->first + (size_t)seen_before(w, oh + 2) * dx->width;
    const size_t all = bf_pixels(&cell->plan->graph.values[task->out]);
    m->ahead.prefetch.count = 0;
    bf_ahead_rows(cell, &m->ahead, 1, dx->block, dy->first + (size_t)chunk * dy->width, dy->first + (size_t)(chunk + m->dy_rows) * dy->width);
    if (w->average) bf_prefetch_epilogue(cell, &m->ahead.prefetch, &task->epilogue, dx->block, first, last < all ? last : all);
    else bf_ahead_rows(cell, &m->ahead, 0, dx->block, first, last);
    bf_ahead_pace(&m->ahead, (size_t)w->ow);
}

static void backward_image(const bf_cell *cell, memory *m, int image, int block)
{
    static const bf_program in_place;
    const bf_task *task = cell->task;
    const bf_windows *w = &task->windows;
    bf_rows x = {0}, dy = bf_rows_of(cell, &task->load[1], task->dy, block, image, m->dy, m->dy_rows, m->temps);
    bf_rows dx = bf_rows_of(cell, m->tile ? &task->epilogue : &in_place, task->out, block, image, m->tile, m->tile_rows, m->temps);
    dx.ready = 0;
    if (!w->average) x = bf_rows_of(cell, &task->load[0], task->x, block, image, m->x, m->x_rows, m->temps);
    int flushed = 0;
    for (int oh = 0; oh < w->oh; oh++) {
        const bf_span *row = &w->rows[oh];
        const int chunk = (oh / m->dy_rows + 1) * m->dy_rows;
        flush_until(&dx, row->least, false, &flushed);
        clear_until(&dx, row->end);
        bf_rows_until(&dy, chunk < w->oh ? chunk : w->oh);
        if (!w->average) bf_rows_until(&x, row->end);
        fetch_next(cell, m, &dx, &dy, oh, chunk);
        backward_row(cell, m, &x, &dx, row, bf_row(&dy, oh));
    }
    flush_until(&dx, w->h, true, &flushed);
}

/* -- cells -- */

static void windows_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    bf_portion part;
    if (!bf_begin_portion(cell, &part)) return;
    bf_scratch s = {.at = cell->scratch};
    memory m = take(&s, task);
    for (int b = part.unit; b < part.unit_end; b++) {
        m.ahead = (bf_ahead){0};
        for (int image = part.tile; image < part.tile_end; image++)
            (is_backward(task) ? backward_image : forward_image)(cell, &m, image, b);
    }
}

void bf_windows_run(bnff_run *run, const bf_task *task) { bf_parallel_cells(run, task, windows_cell); }
