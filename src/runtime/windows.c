#include "runtime/windows.h"

#include <string.h>

#include "base/memory.h"
#include "runtime/program.h"

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
        else spans[(*count)++] = (bf_span){o, 1, k0, k1, start + k0 * dilation, padded};
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
        spans[o] = (bf_span){o, 1, 0, end - start, start, end - start};
    }
    return spans;
}

bnff_status bf_windows_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    const bf_node *node = &plan->graph.nodes[task->node];
    const bool depthwise = task->kind == BF_TASK_DEPTHWISE || task->kind == BF_TASK_DEPTHWISE_BWD;
    const bool backward = task->kind == BF_TASK_DEPTHWISE_BWD || task->kind == BF_TASK_POOL_BWD;
    const bf_value *x = &plan->graph.values[task->x >= 0 ? task->x : task->out], *y = &plan->graph.values[backward ? task->dy : task->out];
    bf_windows *w = &task->windows;
    *w = (bf_windows){.n = x->n, .h = x->h, .w = x->w, .oh = y->h, .ow = y->w, .depthwise = depthwise, .dh = 1, .dw = 1};
    int rows;
    if (depthwise) {
        const bf_conv_attr *a = &node->a.conv;
        w->kh = a->kh, w->kw = a->kw, w->sh = a->sh, w->sw = a->sw, w->dh = a->dh, w->dw = a->dw;
        w->rows = slide(w->h, w->oh, a->kh, a->sh, a->ph, a->dh, false, &rows);
        w->columns = slide(w->w, w->ow, a->kw, a->sw, a->pw, a->dw, true, &w->column_count);
        task->flops = 2.0 * w->n * bf_nominal_pixels(a, w->oh, w->ow) * x->c * a->kh * a->kw * (backward && a->want_dx && a->want_dw ? 2 : 1);
    } else {
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
    }
    if (!w->rows || !w->columns) return bf_fail(error, BNFF_E_MEMORY, "no memory to set up %s", task->name);
    int tall = 1, wide = 1;
    for (int i = 0; i < w->oh; i++) tall = w->rows[i].k1 - w->rows[i].k0 > tall ? w->rows[i].k1 - w->rows[i].k0 : tall;
    for (int i = 0; i < w->column_count; i++) wide = w->columns[i].k1 - w->columns[i].k0 > wide ? w->columns[i].k1 - w->columns[i].k0 : wide;
    w->taps = tall * wide;
    return BNFF_OK;
}

/* -- a cell's memory -- */

typedef struct memory {
    float *x, *dy, *tile, *temps; /* one block of one image each */
    float *weights, *products;    /* taps x lanes: a window's weights, and weight gradients */
    ptrdiff_t *offsets;
} memory;

static bool is_backward(const bf_task *task) { return task->kind == BF_TASK_DEPTHWISE_BWD || task->kind == BF_TASK_POOL_BWD; }

static memory take(bf_scratch *s, const bf_task *task)
{
    const bf_windows *w = &task->windows;
    const size_t in = (size_t)w->h * (size_t)w->w * BF_BLOCK * sizeof(float), out = (size_t)w->oh * (size_t)w->ow * BF_BLOCK * sizeof(float);
    size_t temps = 0;
    const bf_program *programs[3] = {&task->load[0], &task->load[1], &task->epilogue};
    for (int i = 0; i < 3; i++) temps = bf_program_scratch(programs[i]) > temps ? bf_program_scratch(programs[i]) : temps;
    memory m = {.offsets = bf_take(s, (size_t)w->taps * sizeof *m.offsets)};
    m.temps = bf_take(s, temps);
    if (w->depthwise) {
        m.weights = bf_take(s, (size_t)w->taps * BF_BLOCK * sizeof *m.weights);
        m.products = bf_take(s, 2 * (size_t)(w->kh * w->kw) * BF_BLOCK * sizeof *m.products);
    }
    if (task->load[0].count) m.x = bf_take(s, in);
    if (task->load[1].count) m.dy = bf_take(s, out);
    if (task->epilogue.count) m.tile = bf_take(s, is_backward(task) ? in : out);
    return m;
}

void bf_windows_divide(const bnff_plan *plan, bf_task *task)
{
    const bf_windows *w = &task->windows;
    const bf_layout *layout = &plan->layouts[is_backward(task) ? task->dy : task->out];
    bf_grid *g = &task->grid;
    g->image_count = g->tiles = w->n;
    g->height = is_backward(task) ? w->h : w->oh;
    g->tiles_per_image = g->images = 1;
    g->rows = g->height;
    g->units = layout->count;
    double best = 1e30;
    for (int channel = 1; channel <= plan->cells && channel <= g->units; channel++) {
        const int pixel = plan->cells / channel;
        const double share = (double)((g->tiles + pixel - 1) / pixel) / g->tiles * ((g->units + channel - 1) / channel) / g->units;
        if (share > best * 0.999) continue;
        best = share;
        g->pixel_cells = pixel;
        g->channel_cells = channel;
    }
    bf_scratch s = {0};
    (void)take(&s, task);
    task->scratch = s.used;
    if (w->depthwise) {
        task->shared = (size_t)layout->lanes * (size_t)(w->kh * w->kw + 1) * sizeof(float);
        if (is_backward(task)) task->shared += (size_t)g->pixel_cells * (size_t)layout->lanes * (size_t)(w->kh * w->kw + 1) * sizeof(double);
    }
}

/* -- one image, one block -- */

/* The block of an image of `value`: in storage, or computed into `scratch` by the program. */
static const float *see(const bf_cell *cell, const bf_program *program, int value, int image, int block, float *scratch, float *temps)
{
    const bf_value *v = &cell->plan->graph.values[value];
    const size_t pixels = (size_t)v->h * (size_t)v->w, first = (size_t)image * pixels;
    const ptrdiff_t ld = cell->plan->layouts[value].blocks[block].ld;
    if (!program->count) return bf_block_at(cell->run, value, block) + (ptrdiff_t)first * ld;
    const bf_stretch s = {.block = block, .pixel = first, .count = pixels, .result = scratch, .result_ld = ld};
    bf_program_run(cell, program, &s, temps);
    return scratch;
}

/* Taps of the windows of one output row and run of columns, relative to the first window's first tap. */
static bf_taps taps_of(const bf_windows *w, const bf_span *row, const bf_span *column, ptrdiff_t ld, ptrdiff_t *offsets)
{
    int count = 0;
    for (int i = row->k0; i < row->k1; i++)
        for (int j = column->k0; j < column->k1; j++) offsets[count++] = ((ptrdiff_t)(i - row->k0) * w->dh * w->w + (ptrdiff_t)(j - column->k0) * w->dw) * ld;
    return (bf_taps){count, offsets};
}

static float average_scale(const bf_windows *w, const bf_span *row, const bf_span *column)
{
    return 1.0f / (float)(w->exclude_pad ? (row->k1 - row->k0) * (column->k1 - column->k0) : row->padded * column->padded);
}

/* The weights of the taps that a window sees: all of them in place, a part copied together. */
static const float *weights_of(const bf_windows *w, const bf_span *row, const bf_span *column, const float *packed, int lanes, float *to)
{
    if (row->k1 - row->k0 == w->kh && column->k1 - column->k0 == w->kw) return packed;
    float *at = to;
    for (int i = row->k0; i < row->k1; i++)
        for (int j = column->k0; j < column->k1; j++, at += lanes) memcpy(at, packed + (size_t)(i * w->kw + j) * (size_t)lanes, (size_t)lanes * sizeof *at);
    return to;
}

typedef struct site {
    const bf_cell *cell;
    const bf_windows *w;
    memory *m;
    const float *x, *dy;    /* block of the image; dy backward only */
    float *y;               /* block of the image: output forward, dx backward */
    const float *packed;    /* [tap][lanes] of depthwise weights, then the bias */
    float *products;        /* [tap][lanes] weight gradient, or NULL */
    ptrdiff_t ld;
    bool want_dx;
} site;

static void forward_windows(const site *s, const bf_span *row, const bf_span *column)
{
    const bf_windows *w = s->w;
    const bf_kernels *k = s->cell->k;
    const int lanes = (int)s->ld;
    const bf_taps taps = taps_of(w, row, column, s->ld, s->m->offsets);
    float *out = s->y + ((ptrdiff_t)row->first * w->ow + column->first) * s->ld;
    if (w->depthwise) k->copy(out, s->ld, s->packed + (size_t)(w->kh * w->kw) * (size_t)lanes, 0, column->count, lanes);
    if (!taps.count) {
        if (!w->depthwise) k->fill(out, s->ld, w->average ? 0 : -__builtin_inff(), column->count, lanes);
        return;
    }
    const float *src = s->x + ((ptrdiff_t)row->from * w->w + column->from) * s->ld;
    const ptrdiff_t step = w->sw * s->ld;
    if (w->depthwise) k->dw_taps(out, s->ld, src, step, taps, weights_of(w, row, column, s->packed, lanes, s->m->weights), column->count, lanes, true);
    else if (w->average) k->sum_taps(out, s->ld, src, step, taps, average_scale(w, row, column), column->count, lanes);
    else k->max_taps(out, s->ld, src, step, taps, column->count, lanes);
}

static void backward_windows(const site *s, const bf_span *row, const bf_span *column)
{
    const bf_windows *w = s->w;
    const bf_kernels *k = s->cell->k;
    const int lanes = (int)s->ld, n = column->count;
    const bf_taps taps = taps_of(w, row, column, s->ld, s->m->offsets);
    if (!taps.count) return;
    const float *g = s->dy + ((ptrdiff_t)row->first * w->ow + column->first) * s->ld;
    const ptrdiff_t first = ((ptrdiff_t)row->from * w->w + column->from) * s->ld, step = w->sw * s->ld;
    if (!w->depthwise) {
        if (w->average) k->sum_taps_grad(s->y + first, step, taps, average_scale(w, row, column), g, s->ld, n, lanes);
        else k->max_taps_grad(s->y + first, s->x + first, step, taps, g, s->ld, n, lanes);
        return;
    }
    if (s->want_dx) k->dw_taps_grad(s->y + first, step, taps, weights_of(w, row, column, s->packed, lanes, s->m->weights), g, s->ld, n, lanes);
    if (!s->products) return;
    if (taps.count == w->kh * w->kw) {
        k->dw_taps_weight_grad(s->products, s->x + first, step, taps, g, s->ld, n, lanes);
        return;
    }
    float *part = s->products + (size_t)(w->kh * w->kw) * BF_BLOCK;
    memset(part, 0, (size_t)taps.count * (size_t)lanes * sizeof *part);
    k->dw_taps_weight_grad(part, s->x + first, step, taps, g, s->ld, n, lanes);
    for (int i = row->k0; i < row->k1; i++)
        for (int j = column->k0; j < column->k1; j++, part += lanes)
            for (int l = 0; l < lanes; l++) s->products[(size_t)(i * w->kw + j) * (size_t)lanes + (size_t)l] += part[l];
}

static void for_windows(const site *s, void (*visit)(const site *, const bf_span *, const bf_span *))
{
    for (int r = 0; r < s->w->oh; r++)
        for (int c = 0; c < s->w->column_count; c++) visit(s, &s->w->rows[r], &s->w->columns[c]);
}

/* -- cells -- */

static float *packed_at(const bnff_run *run, const bf_task *task, int block)
{
    const bf_layout *x = &run->plan->layouts[task->x];
    return (float *)(run->arena + task->shared_arena) + (size_t)x->blocks[block].lane * (size_t)(task->windows.kh * task->windows.kw + 1);
}

/* Weight and bias gradients of one pixel cell: [block][tap, then bias][lanes] doubles. */
static double *sums_at(const bnff_run *run, const bf_task *task, int pixel_cell, int block)
{
    const bf_layout *x = &run->plan->layouts[task->x];
    const size_t all = (size_t)x->lanes * (size_t)(task->windows.kh * task->windows.kw + 1);
    double *first = (double *)((float *)(run->arena + task->shared_arena) + all);
    return first + (size_t)pixel_cell * all + (size_t)x->blocks[block].lane * (size_t)(task->windows.kh * task->windows.kw + 1);
}

/* Depthwise weights [C, 1, KH, KW] to [block][tap][lanes], then the bias. */
static void pack_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_layout *x = &cell->plan->layouts[task->x];
    const int *param = cell->plan->graph.nodes[task->node].param, taps = task->windows.kh * task->windows.kw;
    for (int b = bf_share(x->count, cell->plan->cells, cell->index); b < bf_share(x->count, cell->plan->cells, cell->index + 1); b++) {
        const bf_block *block = &x->blocks[b];
        float *to = packed_at(cell->run, task, b);
        memset(to, 0, (size_t)(taps + 1) * (size_t)block->ld * sizeof *to);
        for (int i = 0; i < block->channels; i++) {
            for (int t = 0; t < taps; t++) to[t * block->ld + i] = cell->run->params[param[0]][(size_t)(block->first + i) * (size_t)taps + (size_t)t];
            if (param[1] >= 0) to[taps * block->ld + i] = cell->run->params[param[1]][block->first + i];
        }
    }
}

static void forward_image(const bf_cell *cell, memory *m, int image, int block)
{
    const bf_task *task = cell->task;
    const bf_windows *w = &task->windows;
    const ptrdiff_t ld = cell->plan->layouts[task->out].blocks[block].ld;
    const size_t pixels = (size_t)w->oh * (size_t)w->ow, first = (size_t)image * pixels;
    site s = {.cell = cell, .w = w, .m = m, .ld = ld, .x = see(cell, &task->load[0], task->x, image, block, m->x, m->temps),
              .y = m->tile ? m->tile : bf_block_at(cell->run, task->out, block) + (ptrdiff_t)first * ld};
    if (w->depthwise) s.packed = packed_at(cell->run, task, block);
    for_windows(&s, forward_windows);
    if (!m->tile) return;
    const bf_stretch stretch = {.block = block, .pixel = first, .count = pixels, .tile = m->tile, .tile_ld = ld};
    bf_program_run(cell, &task->epilogue, &stretch, m->temps);
}

/* Fold the image's float sums into the cell's doubles; the bias gradient is the sum of dy. */
static void fold_products(const site *s, int pixel_cell, int block, bool bias)
{
    const int lanes = (int)s->ld, taps = s->w->kh * s->w->kw;
    double *sums = sums_at(s->cell->run, s->cell->task, pixel_cell, block);
    for (int i = 0; i < taps * lanes; i++) sums[i] += (double)s->products[i];
    const int pixels = s->w->oh * s->w->ow;
    for (int first = 0; bias && first < pixels; first += BF_STATS_PIXELS) {
        float sum[BF_BLOCK] __attribute__((aligned(64))) = {0};
        s->cell->k->sum(s->dy + first * s->ld, s->ld, pixels - first < BF_STATS_PIXELS ? pixels - first : BF_STATS_PIXELS, lanes, sum);
        for (int i = 0; i < lanes; i++) sums[taps * lanes + i] += (double)sum[i];
    }
}

static void backward_image(const bf_cell *cell, memory *m, int pixel_cell, int image, int block)
{
    const bf_task *task = cell->task;
    const bf_node *node = &cell->plan->graph.nodes[task->node];
    const bf_windows *w = &task->windows;
    const ptrdiff_t ld = cell->plan->layouts[task->dy].blocks[block].ld;
    const size_t pixels = (size_t)w->h * (size_t)w->w, first = (size_t)image * pixels;
    site s = {.cell = cell, .w = w, .m = m, .ld = ld, .want_dx = task->out >= 0, .dy = see(cell, &task->load[1], task->dy, image, block, m->dy, m->temps)};
    if (task->x >= 0) s.x = see(cell, &task->load[0], task->x, image, block, m->x, m->temps);
    if (s.want_dx) {
        s.y = m->tile ? m->tile : bf_block_at(cell->run, task->out, block) + (ptrdiff_t)first * ld;
        cell->k->fill(s.y, ld, 0, (int)pixels, (int)ld);
    }
    if (w->depthwise) {
        s.packed = packed_at(cell->run, task, block);
        if (node->a.conv.want_dw) memset(s.products = m->products, 0, (size_t)(w->kh * w->kw) * (size_t)ld * sizeof *s.products);
    }
    for_windows(&s, backward_windows);
    if (s.products) fold_products(&s, pixel_cell, block, node->param[1] >= 0);
    if (!m->tile) return;
    const bf_stretch stretch = {.block = block, .pixel = first, .count = pixels, .tile = m->tile, .tile_ld = ld};
    bf_program_run(cell, &task->epilogue, &stretch, m->temps);
}

static void windows_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_grid *g = &task->grid;
    bf_program_clear_sums(cell, &task->epilogue);
    if (cell->index >= g->pixel_cells * g->channel_cells) return;
    const int p = cell->index / g->channel_cells, o = cell->index % g->channel_cells;
    bf_scratch s = {.at = cell->scratch};
    memory m = take(&s, task);
    const int first = bf_share(g->units, g->channel_cells, o), last = bf_share(g->units, g->channel_cells, o + 1);
    if (task->kind == BF_TASK_DEPTHWISE_BWD)
        for (int b = first; b < last; b++)
            memset(sums_at(cell->run, task, p, b), 0, (size_t)cell->plan->layouts[task->x].blocks[b].ld * (size_t)(task->windows.kh * task->windows.kw + 1) * sizeof(double));
    for (int image = bf_share(g->tiles, g->pixel_cells, p); image < bf_share(g->tiles, g->pixel_cells, p + 1); image++)
        for (int b = first; b < last; b++) {
            if (is_backward(task)) backward_image(cell, &m, p, image, b);
            else forward_image(cell, &m, image, b);
        }
}

static double merged(const bnff_run *run, const bf_task *task, int block, int index)
{
    double sum = 0;
    for (int p = 0; p < task->grid.pixel_cells; p++) sum += sums_at(run, task, p, block)[index];
    return sum;
}

static void merge_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_layout *x = &cell->plan->layouts[task->x];
    const int *param = cell->plan->graph.nodes[task->node].param, taps = task->windows.kh * task->windows.kw;
    const bool add = cell->run->accumulate;
    float *weight = cell->run->param_gradients[param[0]], *bias = param[1] >= 0 ? cell->run->param_gradients[param[1]] : NULL;
    for (int b = bf_share(x->count, cell->plan->cells, cell->index); b < bf_share(x->count, cell->plan->cells, cell->index + 1); b++)
        for (int i = 0; i < x->blocks[b].channels; i++) {
            const int channel = x->blocks[b].first + i, ld = x->blocks[b].ld;
            for (int t = 0; weight && t < taps; t++) {
                float *to = &weight[(size_t)channel * (size_t)taps + (size_t)t];
                *to = (add ? *to : 0) + (float)merged(cell->run, task, b, t * ld + i);
            }
            if (bias) bias[channel] = (add ? bias[channel] : 0) + (float)merged(cell->run, task, b, taps * ld + i);
        }
}

void bf_windows_forward(bnff_run *run, const bf_task *task)
{
    if (task->windows.depthwise) bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, windows_cell);
}

void bf_windows_backward(bnff_run *run, const bf_task *task)
{
    if (task->windows.depthwise) bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, windows_cell);
    if (task->windows.depthwise && run->plan->graph.nodes[task->node].a.conv.want_dw) bf_parallel_cells(run, task, merge_cell);
}
