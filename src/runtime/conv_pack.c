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

/* One pair of blocks: packed[tap][i][o] for all taps; `outer_is_output` says which side the lanes are. */
static void pack_pair(const weights *w, const bf_block *outer, const bf_block *inner, bool outer_is_output, float *to, size_t tap_stride)
{
    const int lanes = lanes_of(outer);
    for (int t = 0; t < w->taps && outer->channels < lanes; t++)
        for (int i = 0; i < inner->channels; i++)
            for (int o = outer->channels; o < lanes; o++) to[(size_t)t * tap_stride + (size_t)(i * lanes + o)] = 0;
    /* In the order of the caller's memory: output channel, input channel, tap. */
    const bf_block *oc = outer_is_output ? outer : inner, *ic = outer_is_output ? inner : outer;
    const int oc_step = outer_is_output ? 1 : lanes, ic_step = outer_is_output ? lanes : 1;
    for (int o = 0; o < oc->channels; o++)
        for (int i = 0; i < ic->channels; i++) {
            const float *from = taps_of(w, oc->first + o, ic->first + i);
            float *packed = to + o * oc_step + i * ic_step;
            for (int t = 0; t < w->taps; t++, packed += tap_stride) *packed = from ? from[t] : 0;
        }
}

static void pack(const bnff_run *run, const bf_task *task, const bf_packing *p, const bf_layout *outer, const bf_layout *inner, bool outer_is_output,
                 float *packed, int first, int last)
{
    const weights w = weights_of(run, task);
    for (int o = first; o < last; o++)
        for (int i = 0; i < p->inner_count; i++) {
            const size_t at = p->inner[o * p->inner_count + i];
            if (at != SIZE_MAX) pack_pair(&w, &outer->blocks[o], &inner->blocks[i], outer_is_output, packed + p->outer[o] + at, p->tap[o]);
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
