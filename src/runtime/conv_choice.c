/* The algorithm of a convolution: the fastest by a model of one core, in cycles.
 *
 *     products    multiply-adds / (2 vectors a cycle), Winograd's of whole tiles
 *     overhead    a share of those, by how the work is divided (conv_grid.c)
 *     transforms  of Winograd's algorithms: pixels to positions and back, a vector of channels of a tile at a time, and filters
 *
 * The constants are fitted to measurements of single layers (bench conv) on Zen 3, that of F4 beside F2X4 with vectors of 16 on Zen 5; what
 * counts is the order of the answers. */
#include "runtime/conv.h"

/* Cycles of a vector of channels of one tile in each transform, its loads and stores from L2 included; of a filter and its gradient. */
typedef struct transform_cost {
    double input, output, spread, filter;
} transform_cost;

static const transform_cost *transforms_of(const bf_kernels *kernels, bf_algorithm algorithm)
{
    static const transform_cost narrow[] = {[BF_F2] = {80, 36, 160, 30}, [BF_F2X4] = {190, 36, 240, 40}, [BF_F4] = {480, 180, 620, 60}};
    static const transform_cost wide[] = {[BF_F2] = {80, 36, 160, 30}, [BF_F2X4] = {190, 36, 240, 40}, [BF_F4] = {380, 140, 430, 60}}; /* it has registers enough */
    return &(kernels->vector == 16 ? wide : narrow)[algorithm];
}

/* The sides of a convolution as its visits see them. */
typedef struct sides {
    const bf_layout *in, *out;   /* read with a halo, written: x and y, or dy and dx */
    int height, width;           /* of what is written */
    bool backward, both;         /* both gradients */
} sides;

static sides sides_of(const bnff_plan *plan, const bf_task *task)
{
    const bf_conv *c = &task->conv;
    const bf_layout *x = &plan->layouts[task->x];
    if (task->kind == BF_TASK_CONV) return (sides){x, &plan->layouts[task->out], c->oh, c->ow, false, false};
    return (sides){&plan->layouts[task->dy], x, c->h, c->w, true, task->out >= 0 && plan->graph.nodes[task->node].a.conv.want_dw};
}

static double tiles_of(const bf_task *task, const sides *s, bf_algorithm algorithm)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(algorithm);
    return (double)task->conv.n * ((s->height - 1) / shape.mh + 1) * ((s->width - 1) / shape.mw + 1);
}

static double winograd_transforms(const bnff_plan *plan, const bf_task *task, const sides *s, bf_algorithm algorithm)
{
    const transform_cost *cost = transforms_of(plan->context->kernels, algorithm);
    const double filters = (double)s->in->lanes * s->out->lanes / task->conv.groups * cost->filter * (s->both ? 2 : 1);
    const double out = cost->output + (s->backward ? cost->spread : 0);
    return tiles_of(task, s, algorithm) * (s->in->lanes * cost->input + s->out->lanes * out) / plan->context->kernels->vector + filters;
}

/* Share of the taps along an axis that do not fall into the padding. */
static double real_taps(int in, int out, int k, int stride, int padding, int dilation)
{
    double count = 0;
    for (int o = 0; o < out; o++)
        for (int i = 0; i < k; i++) {
            const int at = o * stride - padding + i * dilation;
            count += at >= 0 && at < in;
        }
    return count / ((double)out * k);
}

/* Modelled cycles of all cells together; the grid goes to *g. */
static double time_of(const bnff_plan *plan, const bf_task *task, const sides *s, bf_algorithm algorithm, bf_grid *g)
{
    const bf_conv *c = &task->conv;
    const double macs = (double)s->in->lanes * s->out->lanes / c->groups * (s->both ? 2 : 1), rate = 2.0 * plan->context->kernels->vector;
    const double grid = bf_conv_grid(plan, task, algorithm, g);
    if (algorithm == BF_DIRECT) {
        const double taps = c->line ? c->taps : c->taps * real_taps(c->h, c->oh, c->kh, c->sh, c->ph, c->dh) * (c->padded_row ? 1 : real_taps(c->w, c->ow, c->kw, c->sw, c->pw, c->dw));
        return grid * macs * taps * c->n * c->oh * c->ow / rate;
    }
    return grid * (macs * tiles_of(task, s, algorithm) * bf_winograd_shape_of(algorithm).positions / rate + winograd_transforms(plan, task, s, algorithm));
}

/* Why Winograd's algorithms cannot run it, or NULL. */
static const char *obstacle(const bf_conv *c)
{
    if (c->kh != 3 || c->kw != 3) return "not 3x3";
    if (c->sh != 1 || c->sw != 1) return "strided";
    if (c->dh != 1 || c->dw != 1) return "dilated";
    if (c->dense) return "few input channels";
    if (c->line) return "the kernel covers the image";
    return NULL;
}

/* BF_AUTO takes what is about as exact as a direct sum. The fewer channels are summed, the more the transforms' rounding counts: F2X4
 * has 1.5 times the error of direct at 32 input channels, 1.34 at 128; its gradients 1.35 times at 16 (tests/runtime/test_winograd.c). */
static bool is_exact(bf_algorithm algorithm, const bf_conv *c, const sides *s)
{
    enum { F2X4_CHANNELS = 48, F2X4_GRADIENT_CHANNELS = 16 };
    if (algorithm == BF_F2X4) return s->backward ? c->oc / c->groups >= F2X4_GRADIENT_CHANNELS : c->c / c->groups >= F2X4_CHANNELS;
    return algorithm == BF_F2;
}

#define LEAST_GAIN 1.1 /* as far as the model may be trusted */
#define LEAST_GAIN_F4 1.08 /* over what is more exact */

void bf_conv_choose(const bnff_plan *plan, bf_task *task)
{
    bf_conv *c = &task->conv;
    const sides s = sides_of(plan, task);
    const double direct = time_of(plan, task, &s, BF_DIRECT, &task->grid);
    const bf_algorithm asked = plan->algorithm;
    c->algorithm = BF_DIRECT;
    c->gain = 1;
    c->why = asked == BF_DIRECT ? "asked for" : obstacle(c);
    if (c->why) return;
    c->why = "fastest";
    for (bf_algorithm a = BF_F2; a < BF_ALGORITHM_COUNT; a++) {
        if (asked == BF_AUTO ? !is_exact(a, c, &s) : asked != BF_FAST && asked != a) continue;
        bf_grid grid;
        const double gain = direct / time_of(plan, task, &s, a, &grid);
        if (grid.tiles == 0) { /* no way to divide it */
            if (asked == a) c->why = "its weight gradient needs too much memory";
            continue;
        }
        if (asked != a && (gain <= c->gain * (a == BF_F4 ? LEAST_GAIN_F4 : 1) || gain < LEAST_GAIN)) continue;
        c->algorithm = a;
        c->gain = gain;
        task->grid = grid;
        if (asked == a) c->why = "asked for";
    }
    if (c->algorithm != BF_DIRECT) c->products = bf_winograd_shape_of(c->algorithm).positions;
}
