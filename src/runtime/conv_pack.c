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

enum {
    RUN = 16,       /* consecutive weights of the caller that are moved together: a cache line */
    AHEAD = 4 * RUN, /* asked for so many before: a row of the caller's is left after a pair of blocks, too soon for hardware to follow */
    CHANNELS_AHEAD = 4
};

/* Where the k-th of a row's consecutive weights, [channel][tap], lies in [tap][channel], for k = 0, 1, ... in turn. */
typedef struct place {
    int channel, tap, channels, taps;
} place;
static inline size_t next_place(place *p)
{
    const size_t at = (size_t)(p->tap * p->channels + p->channel);
    if (++p->tap == p->taps) p->tap = 0, p->channel++;
    return at;
}

/* Lanes are output channels: `to` is [tap][inner channel][16], lane o read from row `from + o*row`, [inner channel][tap]. */
static void pack_rows(const bf_kernels *kernels, const float *from, size_t row, int lanes, int channels, int taps, float *to)
{
    float lines[RUN][BF_LANES] = {{0}};
    place p = {.channels = channels, .taps = taps};
    for (int k = 0; k < channels * taps; k += RUN) {
        const int n = channels * taps - k < RUN ? channels * taps - k : RUN;
        for (int o = 0; o < lanes; o++) __builtin_prefetch(from + (size_t)o * row + k + AHEAD);
        kernels->transpose(lines[0], BF_LANES, from + k, (ptrdiff_t)row, lanes, n);
        for (int q = 0; q < n; q++) memcpy(to + next_place(&p) * BF_LANES, lines[q], sizeof lines[q]);
    }
}

/* Lanes are input channels: `to` is [tap][output channel][16], lane i read from `from + i*taps` of each output channel's row. */
static void pack_columns(const bf_kernels *kernels, const float *from, size_t row, int lanes, int channels, int taps, float *to)
{
    if (taps == 1 && lanes == BF_LANES) {
        for (int o = 0; o < channels; o++) __builtin_prefetch(from + BF_LANES + (size_t)o * row);
        kernels->copy(to, BF_LANES, from, (ptrdiff_t)row, channels, BF_LANES);
        return;
    }
    for (int o = 0; o < channels; o++, from += row, to += BF_LANES) {
        for (int t = 0; lanes < BF_LANES && t < taps; t++) memset(to + t * channels * BF_LANES, 0, BF_LANES * sizeof *to);
        for (int k = 0; k < lanes * taps; k += RUN) __builtin_prefetch(from + 2 * row + k);
        kernels->transpose(to, (ptrdiff_t)channels * BF_LANES, from, taps, lanes, taps);
    }
}

/* The same with groups: weights between two of them are zero. */
static void pack_groups(const weights *w, const bf_block *outer, int lane, const bf_block *inner, bool outer_is_output, float *to)
{
    for (int i = 0; i < inner->channels; i++)
        for (int o = 0; o < BF_LANES; o++) {
            const int outer_channel = outer->first + lane + o, inner_channel = inner->first + i;
            const float *from = lane + o >= outer->channels ? NULL
                              : outer_is_output ? taps_of(w, outer_channel, inner_channel) : taps_of(w, inner_channel, outer_channel);
            for (int t = 0; t < w->taps; t++) to[(t * inner->channels + i) * BF_LANES + o] = from ? from[t] : 0;
        }
}

/* One pair of blocks, a panel: lanes from `lane` on. */
static void pack_panel(const bf_kernels *kernels, const weights *w, const bf_block *outer, int lane, const bf_block *inner, bool outer_is_output, float *to)
{
    if (w->groups > 1) {
        pack_groups(w, outer, lane, inner, outer_is_output, to);
        return;
    }
    const size_t row = (size_t)w->group_in * (size_t)w->taps;
    const int lanes = outer->channels - lane < BF_LANES ? outer->channels - lane : BF_LANES;
    if (outer_is_output) pack_rows(kernels, taps_of(w, outer->first + lane, inner->first), row, lanes, inner->channels, w->taps, to);
    else pack_columns(kernels, taps_of(w, inner->first, outer->first + lane), row, lanes, inner->channels, w->taps, to);
}

/* The taps between one inner channel and all channels of an outer block: taps[tap][outer channel]. */
static void taps_of_block(const bf_kernels *kernels, const weights *w, const bf_block *outer, int inner, bool outer_is_output, float taps[9][BF_BLOCK])
{
    const size_t row = (size_t)w->group_in * 9;
    if (w->groups > 1) {
        for (int o = 0; o < outer->channels; o++) {
            const float *from = outer_is_output ? taps_of(w, outer->first + o, inner) : taps_of(w, inner, outer->first + o);
            for (int t = 0; t < 9; t++) taps[t][o] = from ? from[t] : 0;
        }
    } else if (outer_is_output) {
        const float *from = taps_of(w, outer->first, inner);
        for (int o = 0; o < outer->channels; o++) __builtin_prefetch(from + (size_t)o * row + AHEAD);
        kernels->transpose(taps[0], BF_BLOCK, from, (ptrdiff_t)row, outer->channels, 9);
    } else {
        const float *from = taps_of(w, inner, outer->first);
        for (int k = 0; k < outer->channels * 9; k += RUN) __builtin_prefetch(from + 2 * row + k);
        kernels->transpose(taps[0], BF_BLOCK, from, 9, outer->channels, 9);
    }
}

/* One pair of blocks in Winograd's positions, `position` floats apart: [panel][inner channel][16]. The filters of a data gradient are turned by
 * 180 degrees. */
static void pack_positions(const bf_kernels *kernels, const weights *w, bf_algorithm algorithm, const bf_block *outer, const bf_block *inner,
                           bool outer_is_output, float *to, size_t position, size_t panel)
{
    const int count = bf_winograd_shape_of(algorithm).positions;
    float single[9][BF_BLOCK] = {{0}}, positions[BF_WINOGRAD_POSITIONS][BF_BLOCK];
    double taps[9][BF_BLOCK];
    for (int i = 0; i < inner->channels; i++, to += BF_LANES) {
        taps_of_block(kernels, w, outer, inner->first + i, outer_is_output, single);
        for (int t = 0; t < 9; t++)
            for (int o = 0; o < BF_BLOCK; o++) taps[t][o] = (double)single[outer_is_output ? t : 8 - t][o];
        kernels->winograd_filter(algorithm, (const double(*)[BF_BLOCK])taps, positions);
        for (int q = 0; q < count; q++)
            for (int lane = 0; lane < lanes_of(outer); lane += BF_LANES)
                memcpy(to + (size_t)q * position + (size_t)(lane / BF_LANES) * panel, positions[q] + lane, BF_LANES * sizeof(float));
    }
}

static void pack(const bnff_run *run, const bf_task *task, const bf_packing *p, const bf_layout *outer, const bf_layout *inner, bool outer_is_output,
                 float *packed, int first, int last)
{
    const weights w = weights_of(run, task);
    const bf_kernels *kernels = run->plan->context->kernels;
    for (int o = first; o < last; o++) {
        const int lanes = lanes_of(&outer->blocks[o]);
        const size_t panels = (size_t)(lanes / BF_LANES), panel = bf_panel_floats(p, &task->conv, o, lanes);
        for (int i = 0; i < p->inner_count; i++) {
            const size_t at = p->inner[o * p->inner_count + i];
            if (at == SIZE_MAX) continue;
            if (task->conv.algorithm != BF_DIRECT) {
                pack_positions(kernels, &w, task->conv.algorithm, &outer->blocks[o], &inner->blocks[i], outer_is_output,
                               packed + p->outer[o] + at / panels, p->tap[o], p->tap[o] / panels);
                continue;
            }
            for (int lane = 0; lane < lanes; lane += BF_LANES)
                pack_panel(kernels, &w, &outer->blocks[o], lane, &inner->blocks[i], outer_is_output,
                           packed + p->outer[o] + at / panels + (size_t)(lane / BF_LANES) * panel);
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

typedef struct unpacking {
    weights w;
    float *to;            /* the caller's gradient */
    const bf_block *oc, *ic;
    bool accumulate;
} unpacking;

static void scatter_groups(const unpacking *u, int k, int n, float sums[RUN][BF_BLOCK])
{
    for (int o = 0; o < u->oc->channels; o++)
        for (int q = 0; q < n; q++) {
            const float *where = taps_of(&u->w, u->oc->first + o, u->ic->first + (k + q) / u->w.taps);
            if (!where) continue;
            float *gradient = u->to + (where - u->w.at) + (k + q) % u->w.taps;
            *gradient = u->accumulate ? *gradient + sums[q][o] : sums[q][o];
        }
}

/* n consecutive weights of a row, from the k-th of the pair of blocks on: sums[weight][lane]. */
static void scatter(const bf_kernels *kernels, const unpacking *u, int k, int n, float sums[RUN][BF_BLOCK])
{
    if (u->w.groups > 1) {
        scatter_groups(u, k, n, sums);
        return;
    }
    float *gradient = u->to + (taps_of(&u->w, u->oc->first, u->ic->first) - u->w.at) + k, rows[BF_BLOCK][RUN];
    const size_t row = (size_t)u->w.group_in * (size_t)u->w.taps;
    for (int o = 0; o < u->oc->channels; o++) __builtin_prefetch(gradient + (size_t)o * row + AHEAD, 1);
    if (!u->accumulate) {
        kernels->transpose(gradient, (ptrdiff_t)row, sums[0], BF_BLOCK, n, u->oc->channels);
        return;
    }
    kernels->transpose(rows[0], RUN, sums[0], BF_BLOCK, n, u->oc->channels);
    for (int o = 0; o < u->oc->channels; o++, gradient += row)
        for (int q = 0; q < n; q++) gradient[q] += rows[o][q];
}

/* One pair of blocks from Winograd's positions, where the filter was turned by 180 degrees; `from` is the pair's in the first cell's sums. */
static void unpack_positions(const bf_kernels *kernels, const unpacking *u, bf_algorithm algorithm, const float *from, size_t position, size_t cell_stride, int cells)
{
    const int count = bf_winograd_shape_of(algorithm).positions, lanes = lanes_of(u->oc);
    double positions[BF_WINOGRAD_POSITIONS][BF_BLOCK], taps[9][BF_BLOCK];
    float sums[RUN][BF_BLOCK];
    for (int i = 0; i < u->ic->channels; i++, from += lanes) {
        for (int q = 0; q < count; q++) {
            const float *at = from + (size_t)q * position;
            memset(positions[q], 0, sizeof positions[q]);
            for (int cell = 0; cell < cells; cell++, at += cell_stride) {
                /* As many places at once as positions and cells: hardware does not follow them. */
                __builtin_prefetch(at + CHANNELS_AHEAD * lanes);
                __builtin_prefetch(at + CHANNELS_AHEAD * lanes + BF_LANES);
                for (int o = 0; o < lanes; o++) positions[q][o] += (double)at[o];
            }
        }
        kernels->winograd_filter_gradient(algorithm, (const double(*)[BF_BLOCK])positions, taps);
        for (int t = 0; t < 9; t++)
            for (int o = 0; o < lanes; o++) sums[t][o] = (float)taps[8 - t][o];
        scatter(kernels, u, 9 * i, 9, sums);
    }
}

void bf_unpack_gradient(const bnff_run *run, const bf_task *task, const float *partial, int first, int last)
{
    const bf_packing *p = &task->conv.forward;
    const bf_layout *x = &run->plan->layouts[task->x], *dy = &run->plan->layouts[task->dy];
    const bf_kernels *kernels = run->plan->context->kernels;
    unpacking u = {.w = weights_of(run, task), .to = run->param_gradients[run->plan->graph.nodes[task->node].param[0]], .accumulate = run->accumulate};
    for (int ob = first; ob < last; ob++)
        for (int ib = 0; ib < p->inner_count; ib++) {
            const size_t at = p->inner[ob * p->inner_count + ib];
            if (at == SIZE_MAX) continue;
            u.oc = &dy->blocks[ob], u.ic = &x->blocks[ib];
            if (task->conv.algorithm != BF_DIRECT) {
                unpack_positions(kernels, &u, task->conv.algorithm, partial + p->outer[ob] + at, p->tap[ob], p->floats, task->grid.pixel_cells);
                continue;
            }
            const int lanes = lanes_of(u.oc), count = u.ic->channels * u.w.taps;
            place next = {.channels = u.ic->channels, .taps = u.w.taps};
            for (int k = 0; k < count; k += RUN) {
                float sums[RUN][BF_BLOCK];
                const int n = count - k < RUN ? count - k : RUN;
                for (int q = 0; q < n; q++)
                    kernels->sum_cells(sums[q], partial + p->outer[ob] + at + next_place(&next) * (size_t)lanes, p->floats, task->grid.pixel_cells, lanes);
                scatter(kernels, &u, k, n, sums);
            }
        }
}
