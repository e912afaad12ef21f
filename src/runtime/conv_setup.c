/* What a convolution needs to know before the first step: packings and runs of columns. */
#include "runtime/conv.h"

#include "base/memory.h"
#include "runtime/program.h"

/* -- packings -- */

/* Do any output channels of the one block and input channels of the other share a group? */
static bool linked(const bf_conv *conv, const bf_block *oc, const bf_block *ic)
{
    const int oc_group = conv->oc / conv->groups, ic_group = conv->c / conv->groups;
    const int oc_from = oc->first / oc_group, oc_to = (oc->first + oc->channels - 1) / oc_group;
    const int ic_from = ic->first / ic_group, ic_to = (ic->first + ic->channels - 1) / ic_group;
    return oc_from <= ic_to && ic_from <= oc_to;
}

static bool make_packing(const bnff_plan *plan, const bf_conv *conv, const bf_layout *outer, const bf_layout *inner, bool outer_is_output, bf_packing *p)
{
    p->outer_count = outer->count;
    p->inner_count = inner->count;
    p->outer = bf_alloc((size_t)outer->count * sizeof *p->outer);
    p->tap = bf_alloc((size_t)outer->count * sizeof *p->tap);
    p->inner = bf_alloc((size_t)outer->count * (size_t)inner->count * sizeof *p->inner);
    if (!p->outer || !p->tap || !p->inner) return false;
    for (int o = 0; o < outer->count; o++) {
        size_t tap = 0;
        const size_t lanes = (size_t)(outer->blocks[o].ld + BF_LANES - 1) / BF_LANES * BF_LANES;
        for (int i = 0; i < inner->count; i++) {
            const bool link = outer_is_output ? linked(conv, &outer->blocks[o], &inner->blocks[i]) : linked(conv, &inner->blocks[i], &outer->blocks[o]);
            p->inner[o * inner->count + i] = link ? tap * (conv->algorithm == BF_DIRECT ? (size_t)conv->taps : 1) : SIZE_MAX;
            if (link) tap += (size_t)inner->blocks[i].channels * lanes;
        }
        p->outer[o] = p->floats;
        p->tap[o] = tap;
        p->floats += tap * (size_t)conv->products;
    }
    /* Groups link few blocks: no portions, so that the first one always stores. */
    const size_t block = (size_t)conv->taps * BF_BLOCK * BF_BLOCK * sizeof(float), fit = plan->context->target.l2 / 4 / block;
    p->portion = conv->groups > 1 || fit >= (size_t)inner->count ? inner->count : fit ? (int)fit : 1;
    return true;
}

static void free_packing(bf_packing *p)
{
    bf_free(p->outer);
    bf_free(p->tap);
    bf_free(p->inner);
}

/* -- runs of columns -- */

static bool add_columns(bf_columns **list, int *count, int limit, int phase, int first, int n, int kw, int from)
{
    for (int i = 0; i < *count; i++) {
        bf_columns *run = &(*list)[i];
        if (run->phase != phase || run->first != first || run->count != n) continue;
        run->kw[run->taps] = kw;
        run->from[run->taps++] = from;
        return true;
    }
    bf_columns *run = &(*list)[*count];
    *run = (bf_columns){.phase = phase, .first = first, .count = n, .taps = 1};
    run->kw = bf_alloc((size_t)limit * 2 * sizeof *run->kw);
    if (!run->kw) return false;
    run->from = run->kw + limit;
    run->kw[0] = kw;
    run->from[0] = from;
    (*count)++;
    return true;
}

/* Runs that cover a whole phase come first: they store, the others add. */
static bool order_columns(bf_columns *list, int count, int phases, int total)
{
    int covered = 0;
    for (int i = 0; i < count; i++) {
        const int columns = list[i].phase < total ? (total - list[i].phase + phases - 1) / phases : 0;
        if (list[i].first != 0 || list[i].count != columns) continue;
        const bf_columns full = list[i];
        list[i] = list[covered];
        list[covered++] = full;
    }
    return covered == (phases < total ? phases : total);
}

static int ceil_div(int a, int b) { return a > 0 ? (a + b - 1) / b : -(-a / b); }

/* Forward: filter column kw of output column j reads input column j*sw - pw + kw*dw. */
static bool forward_columns(bf_conv *c, int width, int padding)
{
    c->columns = bf_calloc((size_t)c->kw, sizeof *c->columns);
    if (!c->columns) return false;
    for (int kw = 0; kw < c->kw; kw++) {
        const int shift = kw * c->dw - padding;
        int first = ceil_div(-shift, c->sw), last = shift > width - 1 ? 0 : (width - 1 - shift) / c->sw + 1;
        if (first < 0) first = 0;
        if (last > c->ow) last = c->ow;
        if (first < last && !add_columns(&c->columns, &c->column_count, c->kw, 0, first, last - first, kw, first * c->sw + shift)) return false;
    }
    c->covers = order_columns(c->columns, c->column_count, 1, c->ow);
    return true;
}

/* Rows of x with zeros around them let all taps of a filter row be one product over all columns, which is faster than exact ones unless
 * much of it is zero. Returns the pixels of such a row; 0: taps stay exact. */
static size_t padded_row(const bf_conv *c)
{
    enum { MOST_ZEROS = 40 }; /* one of so many products */
    const int reach = (c->ow - 1) * c->sw + (c->kw - 1) * c->dw + 1, row = reach > c->pw + c->w ? reach : c->pw + c->w;
    int zeros = 0;
    for (int o = 0; o < c->ow; o++)
        for (int kw = 0; kw < c->kw; kw++) {
            const int column = o * c->sw - c->pw + kw * c->dw;
            zeros += column < 0 || column >= c->w;
        }
    return zeros > 0 && zeros * MOST_ZEROS <= c->ow * c->kw ? (size_t)row : 0;
}

/* Data gradient: input column iw = phase + sw*j gets filter column kw from output column (iw + pw - kw*dw) / sw where that is whole. */
static bool backward_columns(bf_conv *c)
{
    c->back_columns = bf_calloc((size_t)c->kw, sizeof *c->back_columns);
    if (!c->back_columns) return false;
    for (int kw = 0; kw < c->kw; kw++) {
        const int shift = c->pw - kw * c->dw;
        const int phase = ((-shift) % c->sw + c->sw) % c->sw, from = (phase + shift) / c->sw; /* output column at j = 0 */
        const int columns = phase < c->w ? (c->w - phase + c->sw - 1) / c->sw : 0;
        const int first = from < 0 ? -from : 0, last = c->ow - from < columns ? c->ow - from : columns;
        if (first < last && !add_columns(&c->back_columns, &c->back_column_count, c->kw, phase, first, last - first, kw, from + first)) return false;
    }
    c->back_covers = order_columns(c->back_columns, c->back_column_count, c->sw, c->w);
    return true;
}

/* -- set-up -- */

/* The forward of a transposed convolution is the data gradient of one: like a backward in all but its place. */
static bool is_backward(const bf_task *task) { return task->kind == BF_TASK_CONV_BWD || task->kind == BF_TASK_DEPTHWISE_BWD; }

static void describe(const bnff_plan *plan, bf_task *task, const bf_node *node)
{
    const bf_conv_attr *a = &node->a.conv;
    const bool backward = is_backward(task);
    const bf_value *x = &plan->graph.values[task->x];
    bf_conv *c = &task->conv;
    *c = (bf_conv){.n = x->n, .h = x->h, .w = x->w, .c = x->c, .oc = plan->graph.values[backward ? task->dy : task->out].c, .kh = a->kh, .kw = a->kw, .sh = a->sh, .sw = a->sw, .ph = a->ph, .pw = a->pw,
                   .dh = a->dh, .dw = a->dw, .groups = a->groups, .taps = a->kh * a->kw};
    c->oh = a->linear ? 1 : bf_conv_out(c->h, c->kh, c->sh, c->ph, c->dh);
    c->ow = a->linear ? 1 : bf_conv_out(c->w, c->kw, c->sw, c->pw, c->dw);
    c->depthwise = task->kind == BF_TASK_DEPTHWISE || task->kind == BF_TASK_DEPTHWISE_BWD;
    const double macs = (double)c->n * bf_nominal_pixels(a, c->oh, c->ow) * c->oc * (c->c / c->groups) * c->taps;
    task->flops = 2 * macs * (backward ? (a->want_dx && a->want_dw ? 2 : 1) : 1);
    const int pad = plan->layouts[task->x].pad_w;
    c->dense = plan->layouts[task->x].blocks[0].ld < BF_LANES;
    c->x_row = (size_t)c->w + 2 * (size_t)pad;
    const bool whole = c->kh == c->h && c->kw == c->w && !c->ph && !c->pw && c->dh == 1 && c->dw == 1;
    c->xstep = whole ? c->h * c->w : 1;
    const bool pointwise = c->taps == 1 && c->sh == 1 && c->sw == 1 && !c->ph && !c->pw;
    c->line = !c->depthwise && !c->dense && (pointwise || whole);
    c->products = c->taps;
    c->gather = !c->line && !c->depthwise && !c->dense && c->taps == 1 && !c->ph && !c->pw && !pad;
    if (!c->line) return;
    if (pointwise) c->xstep = 1;
    c->ow = c->n * c->oh * c->ow;
    c->n = c->oh = 1;
}

bnff_status bf_conv_setup(bnff_plan *plan, bf_task *task, bnff_error *error)
{
    const bf_node *node = &plan->graph.nodes[task->node];
    const bool backward = is_backward(task);
    describe(plan, task, node);
    bf_conv *c = &task->conv;
    if (!backward && !c->depthwise && !c->line && !c->gather && !c->dense) c->padded_row = padded_row(c);
    if (!c->depthwise) bf_conv_choose(plan, task);
    if (c->algorithm != BF_DIRECT) c->padded_row = 0;
    const bf_layout *x = &plan->layouts[task->x], *y = &plan->layouts[backward ? task->dy : task->out];
    bool ok = c->depthwise || make_packing(plan, c, y, x, true, &c->forward);
    if (ok && !c->depthwise && backward && task->out >= 0) ok = make_packing(plan, c, x, y, false, &c->transposed);
    if (ok && !c->line) ok = c->padded_row ? forward_columns(c, (int)c->padded_row, 0) : forward_columns(c, (int)c->x_row, c->pw - x->pad_w);
    if (ok && !c->line && backward && task->out >= 0) ok = backward_columns(c);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to set up %s", task->name);
}

void bf_conv_free(bf_conv *c)
{
    free_packing(&c->forward);
    free_packing(&c->transposed);
    for (int i = 0; i < c->column_count; i++) bf_free(c->columns[i].kw);
    for (int i = 0; i < c->back_column_count; i++) bf_free(c->back_columns[i].kw);
    bf_free(c->columns);
    bf_free(c->back_columns);
}
