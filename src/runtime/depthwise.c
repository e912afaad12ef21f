/* Depthwise convolution, and that of small groups, in strips of rows that stay in L1: a cell walks through a block of channels image by image, a strip at a time.
 *
 * Forward: the rows of x that a strip of outputs sees come from storage, or through the prologue into a ring; the strip goes through
 * the epilogue while it is near. Backward, in one visit to each strip of input rows: dx gathers from the rows of dy that saw it, and
 * the weight gradient takes the products of the same rows with x. The input columns of one phase (column % stride) see the same taps.
 *
 * A convolution of groups of G channels is G depthwise ones, whose i-th reads channel i of each lane's own group: rows are spread
 * into G rows (kernel `spread`), and every filter row has G lines. Backward the same with dy. */
#include "runtime/depthwise.h"

#include <string.h>

#include "base/memory.h"
#include "runtime/conv.h"
#include "runtime/program.h"
#include "runtime/rows.h"

enum { FOLD_ROWS = 64 }; /* rows whose products are added in float, before they go to the doubles */

/* -- set-up -- */

/* The taps k that input columns phase, phase + stride, ... see, downwards from `top` by `gap`: their columns of dy go upwards. */
static bf_dw_phase make_phase(const bf_depthwise *d, int phase, int first)
{
    bf_dw_phase p = {.first = first, .columns = phase < d->w ? (d->w - phase - 1) / d->sw + 1 : 0, .dilation = 1, .gap = 1};
    for (int k = d->kw; k-- > 0;) {
        if ((phase + d->pw - k * d->dw) % d->sw) continue;
        if (p.taps == 0) p.top = k, p.pad = -(phase + d->pw - k * d->dw) / d->sw;
        if (p.taps == 1) p.gap = p.top - k, p.dilation = p.gap * d->dw / d->sw;
        p.taps++;
    }
    return p;
}

bnff_status bf_depthwise_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    const bf_node *node = &plan->graph.nodes[task->node];
    const bf_conv_attr *a = &node->a.conv;
    const bool backward = task->kind == BF_TASK_DEPTHWISE_BWD;
    const bf_value *x = &plan->graph.values[task->x], *y = &plan->graph.values[backward ? task->dy : task->out];
    bf_depthwise *d = &task->depthwise;
    *d = (bf_depthwise){.n = x->n, .h = x->h, .w = x->w, .oh = y->h, .ow = y->w, .kh = a->kh, .kw = a->kw, .sh = a->sh, .sw = a->sw, .ph = a->ph, .pw = a->pw,
                        .dh = a->dh, .dw = a->dw, .group = bf_group_width(&plan->graph, node)};
    task->flops = 2.0 * d->n * bf_nominal_pixels(a, d->oh, d->ow) * x->c * d->group * a->kh * a->kw * (backward && a->want_dx && a->want_dw ? 2 : 1);
    if (!backward) return BNFF_OK;
    d->phases = bf_alloc((size_t)d->sw * sizeof *d->phases);
    if (!d->phases) return bf_fail(error, BNFF_E_MEMORY, "no memory to set up %s", task->name);
    for (int r = 0, first = 0; r < d->sw; first += d->phases[r++].taps) d->phases[r] = make_phase(d, r, first);
    return BNFF_OK;
}

/* -- a cell's memory -- */

typedef struct memory {
    float *x, *dy, *tile, *temps; /* rings of rows, and a strip of results */
    float *spread;                /* groups: a ring of spread rows, of x or of dy */
    float *products;              /* weight gradient: taps x channels of a group x lanes */
    bf_dw_line *lines;
    bf_ahead ahead;               /* what the next strip adds */
} memory;

/* Weights of a channel, and its bias. */
static int numbers_of(const bf_depthwise *d) { return d->kh * d->kw * d->group + 1; }

/* Rows of dy that a strip of input rows sees; rows of x that a strip of outputs sees. */
static int dy_rows(const bf_depthwise *d) { const int rows = (d->strip - 1 + (d->kh - 1) * d->dh) / d->sh + 1; return rows < d->oh ? rows : d->oh; }
static int x_rows(const bf_depthwise *d) { const int rows = (d->strip - 1) * d->sh + (d->kh - 1) * d->dh + 1; return rows < d->h ? rows : d->h; }

static memory take(bf_scratch *s, const bf_task *task)
{
    const bf_depthwise *d = &task->depthwise;
    const bool backward = task->kind == BF_TASK_DEPTHWISE_BWD;
    const size_t in = (size_t)d->w * BF_BLOCK * sizeof(float), out = (size_t)d->ow * BF_BLOCK * sizeof(float);
    const bf_program *programs[3] = {&task->load[0], &task->load[1], &task->epilogue};
    size_t temps = 0;
    for (int i = 0; i < 3; i++) temps = bf_program_scratch(programs[i]) > temps ? bf_program_scratch(programs[i]) : temps;
    memory m = {.temps = bf_take(s, temps), .lines = bf_take(s, (size_t)(d->kh * d->group) * sizeof *m.lines)};
    if (task->load[0].count) m.x = bf_take(s, (size_t)(backward ? d->strip : x_rows(d)) * in);
    if (task->load[1].count) m.dy = bf_take(s, (size_t)dy_rows(d) * out);
    if (task->epilogue.count) m.tile = bf_take(s, (size_t)d->strip * (backward ? in : out));
    if (d->group > 1) m.spread = bf_take(s, (size_t)d->group * (backward ? (size_t)dy_rows(d) * out : (size_t)x_rows(d) * in));
    if (backward) m.products = bf_take(s, (size_t)(d->kh * d->kw * d->group) * BF_BLOCK * sizeof *m.products);
    return m;
}

/* Bytes of a strip of results. With programs it is what stays in L1 from one to the next. Without, only how far ahead rows are fetched: fetched late,
 * they are still near when their turn comes. Groups: rows are spread, and spread once where they stay. */
static size_t near_bytes(const bnff_plan *plan, const bf_task *task)
{
    const bool programs = task->load[0].count || task->load[1].count || task->epilogue.count > 1 || (task->epilogue.count && !task->epilogue.steps->stream);
    return task->depthwise.group > 1 ? plan->context->target.l2 / 8 : programs ? plan->context->target.l1 / 2 : 4096;
}

void bf_depthwise_divide(const bnff_plan *plan, bf_task *task)
{
    bf_depthwise *d = &task->depthwise;
    const bool backward = task->kind == BF_TASK_DEPTHWISE_BWD;
    const bf_layout *x = &plan->layouts[task->x];
    const int height = backward ? d->h : d->oh;
    const size_t row = (size_t)(backward ? d->w : d->ow) * BF_BLOCK * sizeof(float), fit = near_bytes(plan, task) / (row * (size_t)d->group);
    d->strip = fit < 1 ? 1 : fit < (size_t)height ? (int)fit : height;
    bf_divide_images(plan, &task->grid, d->n, height, x->count);
    bf_scratch s = {0};
    (void)take(&s, task);
    task->scratch = s.used;
    const size_t weights = (size_t)x->lanes * (size_t)numbers_of(d);
    task->shared = weights * sizeof(float) + (backward ? (size_t)task->grid.pixel_cells * weights * sizeof(double) : 0);
}

/* -- weights -- */

/* Weights of a block: forward [kh][i][kw][lanes], then the bias; backward [phase][kh][i][tap of the phase][lanes]. i counts the
 * channels of a group: inputs forward, where lanes are outputs, outputs backward. */
static float *packed_at(const bnff_run *run, const bf_task *task, int block)
{
    const bf_layout *x = &run->plan->layouts[task->x];
    return (float *)(run->arena + task->shared_arena) + (size_t)x->blocks[block].lane * (size_t)numbers_of(&task->depthwise);
}

/* Where tap (kh, kw) of channel i of the group is kept, in lanes. */
static int place_of(const bf_depthwise *d, int kh, int i, int kw)
{
    if (!d->phases) return (kh * d->group + i) * d->kw + kw;
    const int r = ((kw * d->dw - d->pw) % d->sw + d->sw) % d->sw;
    const bf_dw_phase *p = &d->phases[r];
    return p->first * d->kh * d->group + (kh * d->group + i) * p->taps + (p->top - kw) / p->gap;
}

/* The caller's weight [C, G, KH, KW] of lane channel c and channel i of its group. */
static size_t weight_of(const bf_depthwise *d, int c, int i, int t)
{
    const int out = d->phases ? c / d->group * d->group + i : c, in = d->phases ? c % d->group : i;
    return ((size_t)out * (size_t)d->group + (size_t)in) * (size_t)(d->kh * d->kw) + (size_t)t;
}

/* Weight and bias gradients of one pixel cell and block: [place, then bias][lanes] doubles. */
static double *sums_at(const bnff_run *run, const bf_task *task, int pixel_cell, int block)
{
    const bf_layout *x = &run->plan->layouts[task->x];
    const size_t numbers = (size_t)numbers_of(&task->depthwise), all = (size_t)x->lanes * numbers;
    double *first = (double *)((float *)(run->arena + task->shared_arena) + all);
    return first + (size_t)pixel_cell * all + (size_t)x->blocks[block].lane * numbers;
}

static void pack_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    const bf_depthwise *d = &task->depthwise;
    const bf_layout *x = &cell->plan->layouts[task->x];
    const int *param = cell->plan->graph.nodes[task->node].param, taps = d->kh * d->kw;
    for (int b = bf_share(x->count, cell->plan->cells, cell->index); b < bf_share(x->count, cell->plan->cells, cell->index + 1); b++) {
        const bf_block *block = &x->blocks[b];
        float *to = packed_at(cell->run, task, b);
        memset(to, 0, (size_t)numbers_of(d) * (size_t)block->ld * sizeof *to);
        for (int q = 0; q < taps * d->group; q++) {
            const int t = q % taps, i = q / taps, place = place_of(d, t / d->kw, i, t % d->kw);
            for (int l = 0; l < block->channels; l++) to[place * block->ld + l] = cell->run->params[param[0]][weight_of(d, block->first + l, i, t)];
        }
        for (int l = 0; param[1] >= 0 && l < block->channels; l++) to[taps * d->group * block->ld + l] = cell->run->params[param[1]][block->first + l];
    }
}

/* -- fetching what the next strip touches while this one is computed -- */

/* Results that are not stored past the caches: the lines they go to. */
static void fetch_results(const bf_cell *cell, memory *m, int block, size_t first, size_t count)
{
    static const bf_program as_stored = {0};
    const size_t all = bf_pixels(&cell->plan->graph.values[cell->task->out]);
    bf_prefetch_load(cell, &m->ahead.prefetch, &as_stored, cell->task->out, block, block + 1, first, first + count < all ? first + count : all);
}

/* Steps that the kernels have for `rows` rows: one with each vector of blocks of outputs. */
static size_t steps_of(const bf_cell *cell, int rows, int width, ptrdiff_t ld)
{
    return (size_t)rows * (size_t)((width - 1) / BF_DW_BLOCK + 1) * (size_t)(ld / cell->k->vector);
}

/* -- spreading the rows of groups -- */

/* Row `row` of the ring of spread rows, for channel i of each group. */
static float *spread_row(const memory *m, const bf_depthwise *d, const bf_rows *rows, int capacity, int row, int i)
{
    return m->spread + (ptrdiff_t)((size_t)(row % capacity * d->group + i) * rows->width) * rows->ld;
}

/* Spread rows [first, last), of which the last `capacity` stay. */
static void spread_rows(const bf_cell *cell, const memory *m, const bf_rows *rows, int capacity, int first, int last)
{
    const bf_depthwise *d = &cell->task->depthwise;
    for (int row = first; d->group > 1 && row < last; row++)
        cell->k->spread(spread_row(m, d, rows, capacity, row, 0), bf_row(rows, row), (int)rows->width, (int)rows->ld, d->group);
}

/* The lines of row `row`, with the weights (and their gradients) of `taps` taps each. @return their number. */
static int add_lines(const memory *m, const bf_depthwise *d, const bf_rows *rows, int capacity, int row, bf_dw_line *lines, const float *w, float *dw, int taps)
{
    for (int i = 0; i < d->group; i++) {
        const ptrdiff_t at = (ptrdiff_t)i * taps * rows->ld;
        lines[i] = (bf_dw_line){.x = d->group > 1 ? spread_row(m, d, rows, capacity, row, i) : bf_row(rows, row), .w = w + at, .dw = dw ? dw + at : NULL};
    }
    return d->group;
}

/* -- results -- */

/* Where results go: to a strip for the epilogue or to storage, and past the caches. Either may be NULL. */
typedef struct results {
    float *near, *past;
} results;

static results results_at(const results *r, size_t floats) { return (results){r->near ? r->near + floats : NULL, r->past ? r->past + floats : NULL}; }

/* Does the epilogue begin by storing the results as they are, past the caches? The kernel does that, line by line as they come: a burst of such
 * stores behind each strip waits for memory. */
static bool streams(const bf_task *task, int block)
{
    const bf_step *first = task->epilogue.steps;
    if (!task->epilogue.count || !first->stream || first->a.kind != BF_TILE || first->dst.kind != BF_VALUE || first->dst.index != task->out) return false;
    return first->kind == BF_STEP_COPY || (first->kind == BF_STEP_STORE && !first->add_block[block]);
}

/* Of a strip that begins at `pixel`. */
static results begin_results(const bf_cell *cell, const memory *m, int block, size_t pixel)
{
    const bf_task *task = cell->task;
    const bool past = streams(task, block);
    float *stored = bf_block_at(cell->run, task->out, block) + pixel * (size_t)cell->plan->layouts[task->out].blocks[block].ld;
    return (results){task->epilogue.count > past ? m->tile : past ? NULL : stored, past ? stored : NULL};
}

/* What else the epilogue does. */
static void end_results(const bf_cell *cell, const memory *m, int block, size_t pixel, size_t count, const results *r)
{
    const bf_stretch s = {.block = block, .pixel = pixel, .count = count, .skipped = r->past != NULL, .tile = m->tile, .tile_ld = cell->plan->layouts[cell->task->out].blocks[block].ld};
    if (cell->task->epilogue.count > s.skipped) bf_program_run(cell, &cell->task->epilogue, &s, m->temps);
}

/* -- forward -- */

static void forward_row(const bf_cell *cell, memory *m, const bf_rows *x, const float *packed, int oh, results to)
{
    const bf_depthwise *d = &cell->task->depthwise;
    const int lanes = (int)x->ld;
    bf_dw f = {.lines = m->lines, .taps = d->kw, .step = d->sw, .pad = d->pw, .dilation = d->dw, .width = d->w, .past = to.past, .prefetch = &m->ahead.prefetch};
    for (int kh = 0; kh < d->kh; kh++) {
        const int ih = oh * d->sh - d->ph + kh * d->dh;
        if (ih >= 0 && ih < d->h) f.count += add_lines(m, d, x, x_rows(d), ih, m->lines + f.count, packed + kh * d->group * d->kw * lanes, NULL, d->kw);
    }
    cell->k->dw_row(to.near, x->ld, &f, packed + d->kh * d->group * d->kw * lanes, d->ow, lanes);
}

static void forward_image(const bf_cell *cell, memory *m, int image, int block)
{
    const bf_task *task = cell->task;
    const bf_depthwise *d = &task->depthwise;
    const float *packed = packed_at(cell->run, task, block);
    bf_rows x = bf_rows_of(cell, &task->load[0], task->x, block, image, m->x, x_rows(d), m->temps);
    for (int row = 0, end, seen = 0; row < d->oh; row = end) {
        end = row + d->strip < d->oh ? row + d->strip : d->oh;
        const size_t pixel = ((size_t)image * (size_t)d->oh + (size_t)row) * (size_t)d->ow, count = (size_t)(end - row) * (size_t)d->ow;
        const int reach = (end - 1) * d->sh - d->ph + (d->kh - 1) * d->dh + 1, last = reach < 0 ? 0 : reach < d->h ? reach : d->h;
        bf_rows_until(&x, last);
        spread_rows(cell, m, &x, x_rows(d), seen > last - x_rows(d) ? seen : last - x_rows(d), last);
        seen = last;
        m->ahead.prefetch.count = 0;
        bf_ahead_rows(cell, &m->ahead, 0, block, x.first + (size_t)last * x.width, x.first + (size_t)(last + x_rows(d)) * x.width);
        const results to = begin_results(cell, m, block, pixel);
        if (!to.past) fetch_results(cell, m, block, pixel + count, (size_t)d->strip * (size_t)d->ow);
        bf_ahead_pace(&m->ahead, steps_of(cell, end - row, d->ow, x.ld));
        for (int oh = row; oh < end; oh++) forward_row(cell, m, &x, packed, oh, results_at(&to, (size_t)(oh - row) * (size_t)d->ow * (size_t)x.ld));
        end_results(cell, m, block, pixel, count, &to);
    }
}

/* -- backward -- */

typedef struct site {
    const bf_cell *cell;
    const bf_depthwise *d;
    memory *m;
    bf_rows x, dy;
    const float *packed;
    double *sums;    /* of weights and bias, or NULL */
    bool bias, want_dx;
} site;

/* Make rows of dy before `last` ready, and add each to the bias gradient as it comes by. */
static void dy_until(site *s, int last, int *summed)
{
    const bf_depthwise *d = s->d;
    const int lanes = (int)s->dy.ld;
    while (*summed < last) {
        const int next = *summed + dy_rows(d) < last ? *summed + dy_rows(d) : last;
        bf_rows_until(&s->dy, next);
        spread_rows(s->cell, s->m, &s->dy, dy_rows(d), *summed, next);
        for (; *summed < next; ++*summed)
            for (int first = 0; s->bias && first < d->ow; first += BF_STATS_PIXELS)
                s->cell->k->sum(bf_row(&s->dy, *summed) + first * s->dy.ld, s->dy.ld, d->ow - first < BF_STATS_PIXELS ? d->ow - first : BF_STATS_PIXELS, lanes,
                                s->sums + (numbers_of(d) - 1) * lanes);
    }
}

/* Data and weight gradient of input row ih, a phase of columns at a time; x: the row, to: of dx. */
static void backward_row(site *s, int ih, const float *x, results to)
{
    const bf_depthwise *d = s->d;
    const ptrdiff_t ld = s->dy.ld;
    for (int r = 0; r < d->sw && r < d->w; r++) {
        const bf_dw_phase *p = &d->phases[r];
        bf_dw f = {.lines = s->m->lines, .taps = p->taps, .step = 1, .pad = p->pad, .dilation = p->dilation, .width = d->ow, .prefetch = &s->m->ahead.prefetch};
        for (int kh = 0; kh < d->kh; kh++) {
            const int at = ih + d->ph - kh * d->dh;
            if (at < 0 || at % d->sh || at / d->sh >= d->oh) continue;
            const ptrdiff_t place = (ptrdiff_t)((p->first * d->kh + kh * p->taps) * d->group) * ld;
            f.count += add_lines(s->m, d, &s->dy, dy_rows(d), at / d->sh, s->m->lines + f.count, s->packed + place, s->m->products + place, p->taps);
        }
        const results phase = results_at(&to, (size_t)(r * ld));
        f.past = phase.past;
        if (s->want_dx) s->cell->k->dw_row(phase.near, d->sw * ld, &f, NULL, p->columns, (int)ld);
        if (s->sums && f.count && p->taps) s->cell->k->dw_row_weight_grad(&f, x + r * ld, d->sw * ld, p->columns, (int)ld);
    }
}

static void backward_image(site *s, int image, int block)
{
    const bf_cell *cell = s->cell;
    const bf_task *task = cell->task;
    const bf_depthwise *d = s->d;
    memory *m = s->m;
    int summed = 0;
    s->dy = bf_rows_of(cell, &task->load[1], task->dy, block, image, m->dy, dy_rows(d), m->temps);
    s->x = bf_rows_of(cell, &task->load[0], task->x, block, image, m->x, d->strip, m->temps);
    for (int row = 0, end; row < d->h; row = end) {
        end = row + d->strip < d->h ? row + d->strip : d->h;
        const size_t pixel = ((size_t)image * (size_t)d->h + (size_t)row) * (size_t)d->w, count = (size_t)(end - row) * (size_t)d->w;
        const int last = (end - 1 + d->ph) / d->sh + 1;
        dy_until(s, last < d->oh ? last : d->oh, &summed);
        if (s->sums) bf_rows_until(&s->x, end);
        m->ahead.prefetch.count = 0;
        if (s->sums) bf_ahead_rows(cell, &m->ahead, 0, block, pixel + count, pixel + count + (size_t)d->strip * s->x.width);
        bf_ahead_rows(cell, &m->ahead, 1, block, s->dy.first + (size_t)summed * s->dy.width, s->dy.first + (size_t)(summed + dy_rows(d)) * s->dy.width);
        const results to = s->want_dx ? begin_results(cell, m, block, pixel) : (results){0};
        if (s->want_dx && !to.past) fetch_results(cell, m, block, pixel + count, (size_t)d->strip * (size_t)d->w);
        bf_ahead_pace(&m->ahead, steps_of(cell, end - row, d->w, s->dy.ld));
        for (int ih = row; ih < end; ih++)
            backward_row(s, ih, s->sums ? bf_row(&s->x, ih) : NULL, results_at(&to, (size_t)(ih - row) * (size_t)d->w * (size_t)s->dy.ld));
        if (s->want_dx) end_results(cell, m, block, pixel, count, &to);
    }
    dy_until(s, d->oh, &summed);
}

static void fold_products(const site *s)
{
    const int count = (numbers_of(s->d) - 1) * (int)s->dy.ld;
    for (int i = 0; i < count; i++) s->sums[i] += (double)s->m->products[i];
    memset(s->m->products, 0, (size_t)count * sizeof *s->m->products);
}

static void backward_block(const bf_cell *cell, memory *m, int pixel_cell, int block, int first, int last)
{
    const bf_task *task = cell->task;
    const bf_node *node = &cell->plan->graph.nodes[task->node];
    site s = {.cell = cell, .d = &task->depthwise, .m = m, .packed = packed_at(cell->run, task, block), .want_dx = task->out >= 0};
    const size_t ld = (size_t)cell->plan->layouts[task->x].blocks[block].ld, count = (size_t)(numbers_of(s.d) - 1) * ld;
    if (node->a.conv.want_dw) {
        s.sums = sums_at(cell->run, task, pixel_cell, block);
        s.bias = node->param[1] >= 0;
        memset(s.sums, 0, (count + ld) * sizeof *s.sums);
        memset(m->products, 0, count * sizeof *m->products);
    }
    int rows = 0;
    for (int image = first; image < last; image++) {
        backward_image(&s, image, block);
        rows += s.d->h;
        if (!s.sums || (rows < FOLD_ROWS && image + 1 < last)) continue;
        fold_products(&s);
        rows = 0;
    }
}

/* -- cells -- */

static void depthwise_cell(const bf_cell *cell)
{
    const bf_task *task = cell->task;
    bf_portion part;
    if (!bf_begin_portion(cell, &part)) return;
    bf_scratch s = {.at = cell->scratch};
    memory m = take(&s, task);
    for (int b = part.unit; b < part.unit_end; b++) {
        m.ahead.fetched[0] = m.ahead.fetched[1] = 0;
        if (task->kind == BF_TASK_DEPTHWISE_BWD) backward_block(cell, &m, part.pixel_cell, b, part.tile, part.tile_end);
        for (int image = part.tile; task->kind == BF_TASK_DEPTHWISE && image < part.tile_end; image++) forward_image(cell, &m, image, b);
    }
    bf_store_rest(cell, &m.ahead.prefetch);
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
    const bf_depthwise *d = &task->depthwise;
    const bf_layout *x = &cell->plan->layouts[task->x];
    const int *param = cell->plan->graph.nodes[task->node].param, taps = d->kh * d->kw;
    const bool add = cell->run->accumulate;
    float *weight = cell->run->param_gradients[param[0]], *bias = param[1] >= 0 ? cell->run->param_gradients[param[1]] : NULL;
    for (int b = bf_share(x->count, cell->plan->cells, cell->index); b < bf_share(x->count, cell->plan->cells, cell->index + 1); b++)
        for (int l = 0; l < x->blocks[b].channels; l++) {
            const int channel = x->blocks[b].first + l, ld = x->blocks[b].ld;
            for (int q = 0; weight && q < taps * d->group; q++) {
                const int t = q % taps, i = q / taps;
                float *to = &weight[weight_of(d, channel, i, t)];
                *to = (add ? *to : 0) + (float)merged(cell->run, task, b, place_of(d, t / d->kw, i, t % d->kw) * ld + l);
            }
            if (bias) bias[channel] = (add ? bias[channel] : 0) + (float)merged(cell->run, task, b, taps * d->group * ld + l);
        }
}

void bf_depthwise_forward(bnff_run *run, const bf_task *task)
{
    bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, depthwise_cell);
}

void bf_depthwise_backward(bnff_run *run, const bf_task *task)
{
    bf_parallel_cells(run, task, pack_cell);
    bf_parallel_cells(run, task, depthwise_cell);
    if (run->plan->graph.nodes[task->node].a.conv.want_dw) bf_parallel_cells(run, task, merge_cell);
}
