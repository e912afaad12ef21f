/* Between the caller's OIHW weights and the packed blocks that GEMM tiles read. */
#include <string.h>

#include "runtime/conv.h"

/* The caller's weight of output channel oc and input channel c begins at weight + (oc*group + c)*taps, c counted within its group. */
typedef struct weights {
    const float *at;
    int groups, group_in, group_out, taps;
} weights;

static weights weights_of(const bnff_run *run, const bf_task *task)
{
    const bf_conv *c = &task->conv;
    return (weights){run->params[run->plan->graph.nodes[task->node].param[0]], c->groups, c->c / c->groups, c->oc / c->groups, c->taps};
}

/* Taps of (oc, ic), or NULL when they are of different groups. */
static inline const float *taps_of(const weights *w, int oc, int ic)
{
    if (w->groups == 1) return w->at + ((size_t)oc * (size_t)w->group_in + (size_t)ic) * (size_t)w->taps;
    const int group = oc / w->group_out;
    if (ic / w->group_in != group) return NULL;
    return w->at + ((size_t)oc * (size_t)w->group_in + (size_t)(ic - group * w->group_in)) * (size_t)w->taps;
}

static int lanes_of(const bf_block *b) { return (b->ld + BF_LANES - 1) / BF_LANES * BF_LANES; }

/* One pair of blocks: [panel][tap][i][16 of o]; `outer_is_output` says which side the lanes are. */
typedef struct strides {
    size_t panel, tap;
} strides;

static void pack_pair(const weights *w, const bf_block *outer, const bf_block *inner, bool outer_is_output, float *to, strides s)
{
    for (int t = 0; t < w->taps; t++)
        for (int i = 0; i < inner->channels; i++)
            for (int o = outer->channels; o < lanes_of(outer); o++) to[(size_t)(o / BF_LANES) * s.panel + (size_t)t * s.tap + (size_t)(i * BF_LANES + o % BF_LANES)] = 0;
    /* In the order of the caller's memory: output channel, input channel, tap. */
    const bf_block *oc = outer_is_output ? outer : inner, *ic = outer_is_output ? inner : outer;
    for (int o = 0; o < oc->channels; o++)
        for (int i = 0; i < ic->channels; i++) {
            const float *from = taps_of(w, oc->first + o, ic->first + i);
            const int lane = outer_is_output ? o : i, row = outer_is_output ? i : o;
            float *packed = to + (size_t)(lane / BF_LANES) * s.panel + (size_t)(row * BF_LANES + lane % BF_LANES);
            for (int t = 0; t < w->taps; t++, packed += s.tap) *packed = from ? from[t] : 0;
        }
}

static void pack(const bnff_run *run, const bf_task *task, const bf_packing *p, const bf_layout *outer, const bf_layout *inner, bool outer_is_output,
                 float *packed, int first, int last)
{
    const weights w = weights_of(run, task);
    for (int o = first; o < last; o++) {
        const size_t panels = (size_t)(lanes_of(&outer->blocks[o]) / BF_LANES);
        const strides s = {(size_t)w.taps * p->tap[o] / panels, p->tap[o] / panels};
        for (int i = 0; i < p->inner_count; i++) {
            const size_t at = p->inner[o * p->inner_count + i];
            if (at != SIZE_MAX) pack_pair(&w, &outer->blocks[o], &inner->blocks[i], outer_is_output, packed + p->outer[o] + at / panels, s);
        }
    }
}

void bf_pack_forward(const bnff_run *run, const bf_task *task, float *packed, int first, int last)
{
    const bf_layout *x = &run->plan->layouts[task->x], *y = &run->plan->layouts[task->out];
    pack(run, task, &task->conv.forward, y, x, true, packed, first, last);
}

void bf_pack_transposed(const bnff_run *run, const bf_task *task, float *packed, int first, int last)
{
    const bf_layout *x = &run->plan->layouts[task->x], *dy = &run->plan->layouts[task->dy];
    pack(run, task, &task->conv.transposed, x, dy, false, packed, first, last);
}

/* The same element of every pixel cell's partial gradient, in order. */
static inline float sum_cells(const float *at, size_t stride, int cells)
{
    double sum = 0;
    for (int cell = 0; cell < cells; cell++, at += stride) sum += (double)*at;
    return (float)sum;
}

void bf_unpack_gradient(const bnff_run *run, const bf_task *task, const float *partial, int first, int last)
{
    const bf_packing *p = &task->conv.forward;
    const bf_layout *x = &run->plan->layouts[task->x], *dy = &run->plan->layouts[task->dy];
    float *to = run->param_gradients[run->plan->graph.nodes[task->node].param[0]];
    weights w = weights_of(run, task);
    for (int ob = first; ob < last; ob++)
        for (int ib = 0; ib < p->inner_count; ib++) {
            const size_t at = p->inner[ob * p->inner_count + ib];
            if (at == SIZE_MAX) continue;
            const bf_block *oc = &dy->blocks[ob], *ic = &x->blocks[ib];
            const float *from = partial + p->outer[ob] + at;
            for (int o = 0; o < oc->channels; o++)
                for (int i = 0; i < ic->channels; i++) {
                    const float *where = taps_of(&w, oc->first + o, ic->first + i), *sums = from + i * lanes_of(oc) + o;
                    if (!where) continue;
                    float *gradient = to + (where - w.at);
                    for (int t = 0; t < w.taps; t++, sums += p->tap[ob]) {
                        const float sum = sum_cells(sums, p->floats, task->grid.pixel_cells);
                        gradient[t] = run->accumulate ? gradient[t] + sum : sum;
                    }
                }
        }
}
