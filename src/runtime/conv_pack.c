/* Between the caller's OIHW weights and the packed blocks that GEMM tiles read. */
#include <string.h>

#include "runtime/conv.h"

/* The caller's weight of output channel oc and input channel c begins at weight + (oc*group + c)*taps, c counted within its group. */
typedef struct weights {
    const float *at;
    int group_in, group_out, taps;
} weights;

static weights weights_of(const bnff_run *run, const bf_task *task)
{
    const bf_conv *c = &task->conv;
    return (weights){run->params[run->plan->graph.nodes[task->node].param[0]], c->c / c->groups, c->oc / c->groups, c->taps};
}

/* Taps of (oc, ic), or NULL when they are of different groups. */
static const float *taps_of(const weights *w, int oc, int ic)
{
    const int group = oc / w->group_out;
    if (ic / w->group_in != group) return NULL;
    return w->at + ((size_t)oc * (size_t)w->group_in + (size_t)(ic - group * w->group_in)) * (size_t)w->taps;
}

static int lanes_of(const bf_block *b) { return (b->ld + BF_LANES - 1) / BF_LANES * BF_LANES; }

/* One pair of blocks: packed[tap][i][o] for all taps; `o_is_output` says which side the lanes are. */
static void pack_pair(const weights *w, const bf_block *outer, const bf_block *inner, bool outer_is_output, float *to, size_t tap_stride)
{
    const int lanes = lanes_of(outer);
    for (int i = 0; i < inner->channels; i++)
        for (int o = 0; o < lanes; o++) {
            const float *from = o >= outer->channels ? NULL
                : outer_is_output ? taps_of(w, outer->first + o, inner->first + i) : taps_of(w, inner->first + i, outer->first + o);
            float *at = to + (size_t)i * (size_t)lanes + (size_t)o;
            for (int t = 0; t < w->taps; t++) at[(size_t)t * tap_stride] = from ? from[t] : 0;
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
                    const float *where = taps_of(&w, oc->first + o, ic->first + i);
                    if (!where) continue;
                    float *gradient = to + (where - w.at);
                    for (int t = 0; t < w.taps; t++) {
                        double sum = 0;
                        const size_t element = (size_t)t * p->tap[ob] + (size_t)i * (size_t)lanes_of(oc) + (size_t)o;
                        for (int cell = 0; cell < task->grid.pixel_cells; cell++) sum += (double)from[(size_t)cell * p->floats + element];
                        gradient[t] = run->accumulate ? gradient[t] + (float)sum : (float)sum;
                    }
                }
        }
}
