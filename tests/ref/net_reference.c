/* Running a net in float64, and its gradients against finite differences. */
#include "net_private.h"
#include "support.h"

#include "kernels/kernels.h"

/* -- Shapes and data ----------------------------------------------------------------------------------------------- */

static void output_size(const net *n, const net_op *op, const net_setup *setup, int size[2])
{
    const ref_tensor *x = op->ins ? &n->op[op->in[0]].y : NULL;
    const int in[2] = {x ? x->h : setup->height, x ? x->w : setup->width};
    for (int d = 0; d < 2; d++) {
        const bnff_conv_options *c = &op->conv;
        const bnff_pool_options *p = &op->pool;
        switch (op->kind) {
        case OP_CONV:     size[d] = (in[d] + 2 * c->padding[d] - c->dilation[d] * (c->kernel[d] - 1) - 1) / c->stride[d] + 1; break;
        case OP_MAXPOOL:
        case OP_AVGPOOL:  size[d] = ref_pool_size(in[d], p->kernel[d], p->stride[d], p->padding[d], p->dilation[d], p->ceil_mode); break;
        case OP_CONVT: {
            const bnff_conv_transpose_options *t = &op->transposed;
            size[d] = (in[d] - 1) * t->stride[d] - 2 * t->padding[d] + t->dilation[d] * (t->kernel[d] - 1) + t->output_padding[d] + 1;
            break;
        }
        case OP_RESIZE:   size[d] = op->resize.size[d] ? op->resize.size[d] : (int)(in[d] * op->resize.scale[d]); break;
        case OP_ADAPTIVE_MAX:
        case OP_ADAPTIVE: size[d] = op->size[d]; break;
        case OP_LINEAR:   size[d] = 1; break;
        case OP_INPUT:    size[d] = op->size[d] ? op->size[d] : in[d]; break;
        default:          size[d] = in[d];
        }
        assert_true(size[d] > 0);
    }
}

static void clear(ref_tensor *t)
{
    memset(t->v, 0, ref_count(t) * sizeof *t->v);
    memset(t->e, 0, ref_count(t) * sizeof *t->e);
}

/* Random float32 numbers as doubles. */
static void fill(ref_tensor *t, double mean, double std)
{
    for (size_t i = 0; i < ref_count(t); i++) t->v[i] = (float)(mean + std * random_normal());
}

static void fill_params(net *n)
{
    for (int i = 0; i < n->params; i++) {
        ref_tensor *t = &n->param[i].start;
        clear(t);
        switch (n->param[i].kind) {
        case BNFF_PARAM_CONV_WEIGHT:
        case BNFF_PARAM_LINEAR_WEIGHT: fill(t, 0, 1 / sqrt((double)ref_count(t) / t->n)); break;
        case BNFF_PARAM_SCALE:
        case BNFF_PARAM_BN_WEIGHT:     fill(t, 1, 0.4); break;
        case BNFF_PARAM_RUNNING_VAR:
            for (size_t k = 0; k < ref_count(t); k++) t->v[k] = (float)random_uniform(0.3, 2);
            break;
        default:                       fill(t, 0, 0.5);
        }
    }
}

/* -- Forward and backward ------------------------------------------------------------------------------------------- */

/* y = x * mask: the zeros and 1 / (1 - p) that the library draws for this element of this dropout, from the plain kernel. */
static void dropout(const net_op *op, const ref_tensor *x, double *v, double *e, const double *passed_v, const double *passed_e)
{
    const uint64_t key = bf_random_key(bf_random_key(NET_SEED, NET_STEP), (uint64_t)op->dropout);
    const float ones[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
    for (size_t i = 0; i < ref_count(x); i++) {
        float mask[16];
        bf_kernels_find("plain")->dropout(mask, 16, ones, 16, 1, 16, key, i, x->c, (uint32_t)((double)op->p * 4294967296.0), 1 / (1 - op->p));
        v[i] = mask[0] * passed_v[i];
        e[i] = hypot(mask[0] * passed_e[i], 2 * REF_U * v[i]);
    }
}

static ref_tensor *value(net *n, int param) { return param < 0 ? NULL : &n->param[param].value; }

/* How much larger the errors of an algorithm's results may be than those of a direct sum. For random data the products of a tile, each of
 * variance sum_k B^T[q][k]^2 * sum_k G[q][k]^2 in one dimension, are summed with weights A^T[i][q]^2: over a direct sum's 3 products that is
 * 1.7, at most 11.3 and 8.2 for the points of F2, F2X4's long side and F4. In two dimensions a ninth as many products are summed, but
 * the transforms round about 14 times more: sqrt(g1 g2 (C + 14) / 9C), largest at one channel. A weight gradient of one tile has (m1 m2)
 * products for the transforms' roundings: sqrt(g1 g2 15 / (m1 m2)), at most 6.6 in one dimension for F4 and 9.1 for F2X4. */
static double error_growth(const char *algorithm)
{
    static const struct { const char *name; double growth; } known[] = {{"f2", 4}, {"f2x4", 6}, {"auto", 6}, {"f4", 11}, {"fast", 11}};
    if (!algorithm) algorithm = bnff_default_algorithm();
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(algorithm, known[i].name)) return known[i].growth;
    return 0;
}

static bool may_be_winograd(const net *n, const net_op *op)
{
    const bnff_conv_options *o = &op->conv;
    if (op->kind == OP_CONVT) return n->growth > 0 && op->transposed.kernel[0] == 3 && op->transposed.kernel[1] == 3; /* some task of it */
    return n->growth > 0 && o->kernel[0] == 3 && o->kernel[1] == 3 && o->stride[0] == 1 && o->stride[1] == 1 && o->dilation[0] == 1 && o->dilation[1] == 1;
}

enum { TILE_REACH = 3 }; /* results of a 4x4 tile are so far apart */

static void forward_op(net *n, net_op *op, bool evaluate)
{
    const ref_tensor *x = op->ins ? &n->op[op->in[0]].y : NULL, *b = op->ins > 1 ? &n->op[op->in[1]].y : NULL;
    int first = 0;
    switch (op->kind) {
    case OP_INPUT:    break;
    case OP_CONV:
        ref_conv(x, value(n, op->weight), value(n, op->bias), &op->conv, &op->y);
        if (may_be_winograd(n, op)) ref_spread_errors(&op->y, TILE_REACH, n->growth);
        break;
    case OP_BN:
        ref_bn_free(&op->stats);
        ref_bn(x, value(n, op->weight), value(n, op->bias), value(n, op->mean), value(n, op->var), op->eps, op->momentum,
               !evaluate && !op->frozen_stats && op->live, &op->stats, &op->y);
        break;
    case OP_ACT:      ref_activate(x, op->act, op->slope, &op->y); break;
    case OP_CONVT:
        ref_conv_transpose(x, value(n, op->weight), value(n, op->bias), &op->transposed, &op->y);
        if (may_be_winograd(n, op)) ref_spread_errors(&op->y, TILE_REACH, n->growth);
        break;
    case OP_SHUFFLE:  ref_shuffle(x, op->groups, &op->y); break;
    case OP_RESIZE:   ref_resize(x, &op->resize, &op->y); break;
    case OP_ADAPTIVE_MAX: ref_adaptive_max(x, &op->y); break;
    case OP_MAXPOOL:  ref_maxpool(x, &op->pool, &op->y); break;
    case OP_AVGPOOL:  ref_avgpool(x, &op->pool, &op->y); break;
    case OP_ADAPTIVE: ref_adaptive(x, &op->y); break;
    case OP_ADD:      ref_add(x, b, &op->y); break;
    case OP_MUL:      ref_mul(x, b, &op->y); break;
    case OP_SCALE:    ref_scale(x, value(n, op->weight), value(n, op->bias), (double)op->factor, (double)op->offset, &op->y); break;
    case OP_GATE:     ref_gate(x, b, &op->y); break;
    case OP_CONCAT:
        for (int i = 0; i < op->ins; i++) {
            const net_op *part = &n->op[op->in[i]];
            ref_channels(&part->y, 0, part->channels, first, &op->y);
            first += part->channels;
        }
        break;
    case OP_SLICE:    ref_channels(x, op->first, op->channels, 0, &op->y); break;
    case OP_LINEAR:   ref_linear(x, value(n, op->weight), value(n, op->bias), &op->y); break;
    case OP_DROPOUT:
        memcpy(op->y.v, x->v, ref_count(x) * sizeof *x->v);
        memcpy(op->y.e, x->e, ref_count(x) * sizeof *x->e);
        if (!evaluate && op->p > 0) dropout(op, x, op->y.v, op->y.e, x->v, x->e);
        break;
    }
}

static ref_tensor *gradient(net *n, int param) { return param < 0 ? NULL : &n->param[param].gradient; }

static void backward_op(net *n, net_op *op)
{
    net_op *a = op->ins ? &n->op[op->in[0]] : NULL, *b = op->ins > 1 ? &n->op[op->in[1]] : NULL;
    const ref_tensor *dy = &op->dy;
    int first = 0;
    switch (op->kind) {
    case OP_INPUT:    break;
    case OP_CONV:
        ref_conv_backward(&a->y, value(n, op->weight), &op->conv, dy, &a->dy, gradient(n, op->weight), gradient(n, op->bias));
        if (may_be_winograd(n, op)) ref_spread_errors(&a->dy, TILE_REACH, n->growth);
        if (may_be_winograd(n, op) && gradient(n, op->weight)) ref_spread_tap_errors(gradient(n, op->weight), n->growth);
        break;
    case OP_BN:
        ref_bn_backward(&a->y, value(n, op->weight), &op->stats, !op->frozen_stats, dy, &a->dy, gradient(n, op->weight), gradient(n, op->bias));
        break;
    case OP_ACT:      ref_activate_backward(&a->y, op->act, op->slope, dy, &a->dy); break;
    case OP_CONVT:
        ref_conv_transpose_backward(&a->y, value(n, op->weight), &op->transposed, dy, &a->dy, gradient(n, op->weight), gradient(n, op->bias));
        if (may_be_winograd(n, op)) ref_spread_errors(&a->dy, TILE_REACH, n->growth);
        if (may_be_winograd(n, op) && gradient(n, op->weight)) ref_spread_tap_errors(gradient(n, op->weight), n->growth);
        break;
    case OP_SHUFFLE:  ref_shuffle_backward(op->groups, dy, &a->dy); break;
    case OP_RESIZE:   ref_resize_backward(&a->y, &op->resize, dy, &a->dy); break;
    case OP_ADAPTIVE_MAX: ref_adaptive_max_backward(&a->y, dy, &a->dy); break;
    case OP_MAXPOOL:  ref_maxpool_backward(&a->y, &op->pool, dy, &a->dy); break;
    case OP_AVGPOOL:  ref_avgpool_backward(&a->y, &op->pool, dy, &a->dy); break;
    case OP_ADAPTIVE: ref_adaptive_backward(&a->y, dy, &a->dy); break;
    case OP_ADD:
        ref_channels_backward(dy, 0, op->channels, 0, &a->dy);
        ref_channels_backward(dy, 0, op->channels, 0, &b->dy);
        break;
    case OP_MUL:
        ref_mul_backward(&b->y, dy, &a->dy);
        ref_mul_backward(&a->y, dy, &b->dy);
        break;
    case OP_SCALE:    ref_scale_backward(&a->y, value(n, op->weight), (double)op->factor, dy, &a->dy, gradient(n, op->weight), gradient(n, op->bias)); break;
    case OP_GATE:     ref_gate_backward(&a->y, &b->y, dy, &a->dy, &b->dy); break;
    case OP_CONCAT:
        for (int i = 0; i < op->ins; i++) {
            net_op *part = &n->op[op->in[i]];
            ref_channels_backward(dy, 0, part->channels, first, &part->dy);
            first += part->channels;
        }
        break;
    case OP_SLICE:    ref_channels_backward(dy, op->first, op->channels, 0, &a->dy); break;
    case OP_DROPOUT: {
        ref_tensor masked = ref_new(dy->n, dy->h, dy->w, dy->c);
        if (op->p > 0) dropout(op, dy, masked.v, masked.e, dy->v, dy->e);
        ref_channels_backward(op->p > 0 ? &masked : dy, 0, op->channels, 0, &a->dy);
        ref_free(&masked);
        break;
    }
    case OP_LINEAR:   ref_linear_backward(&a->y, value(n, op->weight), dy, &a->dy, gradient(n, op->weight), gradient(n, op->bias)); break;
    }
}

void net_forward_reference(net *n, const net_setup *setup)
{
    for (int i = 0; i < n->params; i++) {
        net_param *p = &n->param[i];
        clear(&p->value);
        memcpy(p->value.v, p->start.v, ref_count(&p->start) * sizeof *p->start.v);
    }
    for (int i = 0; i < n->ops; i++)
        if (n->op[i].kind != OP_INPUT) forward_op(n, &n->op[i], setup->evaluate);
}

/* Gradients of all values and parameters from those given at the outputs. */
void net_backward_reference(net *n)
{
    for (int i = 0; i < n->params; i++) clear(&n->param[i].gradient);
    for (int i = 0; i < n->ops; i++) clear(&n->op[i].dy);
    for (int i = 0; i < n->outs; i++)
        for (size_t k = 0; k < ref_count(&n->out[i].given); k++) ref_accumulate(&n->op[n->out[i].op].dy, k, n->out[i].given.v[k], 0);
    for (int i = n->ops - 1; i >= 0; i--) backward_op(n, &n->op[i]);
}

static void mark_wanted(net *n)
{
    for (int i = 0; i < n->params; i++) n->param[i].wanted = n->param[i].kind != BNFF_PARAM_RUNNING_MEAN && n->param[i].kind != BNFF_PARAM_RUNNING_VAR;
    for (int i = 0; i < n->ops; i++) {
        if (n->op[i].weight >= 0 && n->op[i].frozen_weight) n->param[n->op[i].weight].wanted = false;
        if (n->op[i].bias >= 0 && n->op[i].frozen_bias) n->param[n->op[i].bias].wanted = false;
    }
}

static void mark_live(net *n)
{
    for (int i = 0; i < n->ops; i++) n->op[i].live = false;
    for (int i = 0; i < n->outs; i++) n->op[n->out[i].op].live = true;
    for (int i = n->ops; i-- > 0;)
        for (int k = 0; n->op[i].live && k < n->op[i].ins; k++) n->op[n->op[i].in[k]].live = true;
}

void net_reference(net *n, const net_setup *setup)
{
    n->growth = error_growth(setup->algorithm);
    fill_params(n);
    mark_wanted(n);
    mark_live(n);
    for (int i = 0; i < n->ops; i++) {
        net_op *op = &n->op[i];
        int size[2];
        output_size(n, op, setup, size);
        ref_free(&op->y);
        ref_free(&op->dy);
        op->y = ref_new(setup->batch, size[0], size[1], op->channels);
        op->dy = ref_new(setup->batch, size[0], size[1], op->channels);
        if (op->kind == OP_INPUT) fill(&op->y, setup->mean, 1);
    }
    for (int i = 0; i < n->outs; i++) {
        const ref_tensor *y = &n->op[n->out[i].op].y;
        ref_free(&n->out[i].given);
        n->out[i].given = ref_new(y->n, y->h, y->w, y->c);
        fill(&n->out[i].given, 0, 1);
    }
    net_forward_reference(n, setup);
    if (!setup->evaluate) net_backward_reference(n);
}

/* -- Finite differences ---------------------------------------------------------------------------------------------- */

/* sum over the outputs of y * given, the function whose gradient the backward computes. */
static double objective(net *n, const net_setup *setup)
{
    net_forward_reference(n, setup);
    double sum = 0;
    for (int i = 0; i < n->outs; i++)
        for (size_t k = 0; k < ref_count(&n->out[i].given); k++) sum += n->op[n->out[i].op].y.v[k] * n->out[i].given.v[k];
    return sum;
}

/* Along a random direction d of the array `at`:  (f(at + t d) - f(at - t d)) / 2t  against  sum g d. With t = 1e-5 the third
 * derivative and the rounding of f leave about 1e-9 of sum |g d|; kinks may hit one direction, so two of three must agree. */
static void check_direction(net *n, const net_setup *setup, ref_tensor *at, const double *g, const char *what)
{
    const double t = 1e-5;
    int agree = 0;
    double worst = 0, allowed = 0;
    const size_t count = ref_count(at);
    double *start = malloc(count * sizeof *start), *d = malloc(count * sizeof *d);
    memcpy(start, at->v, count * sizeof *start);
    for (int attempt = 0; attempt < 3; attempt++) {
        double slope = 0, size = 0, f[2];
        for (size_t k = 0; k < count; k++) d[k] = random_normal(), slope += g[k] * d[k], size += fabs(g[k] * d[k]);
        for (int side = 0; side < 2; side++) {
            for (size_t k = 0; k < count; k++) at->v[k] = start[k] + (side ? -t : t) * d[k];
            f[side] = objective(n, setup);
        }
        memcpy(at->v, start, count * sizeof *start);
        const double off = fabs((f[0] - f[1]) / (2 * t) - slope), bound = 1e-6 * (size + 1);
        agree += off <= bound;
        if (off > bound) worst = off, allowed = bound;
    }
    free(start);
    free(d);
    if (agree < 2) fail_msg("%s: the reference's gradient of %s is off its finite difference by %g, allowed %g", test_case_name(), what, worst, allowed);
}

void net_check_differences(net *n, const net_setup *setup)
{
    net_reference(n, setup);
    for (int i = 0; i < n->params; i++)
        if (n->param[i].wanted) check_direction(n, setup, &n->param[i].start, n->param[i].gradient.v, n->param[i].name);
    for (int i = 0; i < n->ops; i++)
        if (n->op[i].kind == OP_INPUT) check_direction(n, setup, &n->op[i].y, n->op[i].dy.v, "the input");
}
