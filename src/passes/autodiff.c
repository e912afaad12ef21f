/* Reverse-mode differentiation: walks the forward nodes backwards and appends, for each, the nodes that carry the gradient of
 * its output to its inputs and parameters. A value's gradient is one value, written by the backward nodes of all its readers. */
#include <string.h>

#include "base/memory.h"
#include "passes/passes.h"

typedef struct context {
    bf_graph *g;
    const bf_settings *settings;
    bool *wants;      /* per value: a gradient is wanted */
    bnff_error *error;
} context;

static bool param_wants(const context *c, int param)
{
    return param >= 0 && !(c->settings->frozen_params && c->settings->frozen_params[param]);
}

static bnff_status no_memory(bnff_error *error) { return bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph"); }

/* The gradient value of v, made at its first use. */
static int grad_of(context *c, int v)
{
    bf_graph *g = c->g;
    if (g->values[v].grad >= 0) return g->values[v].grad;
    const bf_value of = g->values[v];
    const int grad = bf_graph_value(g, BF_TENSOR, of.n, of.h, of.w, of.c);
    if (grad >= 0) g->values[v].grad = grad;
    return grad;
}

/* Append a backward node like `forward` (name, attributes, parameters) that writes `out` (-1: nothing). */
static bf_node *emit(context *c, bf_op op, int forward, const int *in, int in_count, int out)
{
    bf_node *node = bf_graph_node(c->g, op, c->g->nodes[forward].name, in, in_count);
    if (!node) return NULL;
    const bf_node *like = &c->g->nodes[forward];
    node->a = like->a;
    memcpy(node->param, like->param, sizeof node->param);
    node->out[0] = out;
    node->out_count = 1;
    return node;
}

static bool emit_copy(context *c, int forward, int from, int to, int first, int channels)
{
    bf_node *node = emit(c, BF_OP_COPY, forward, &from, 1, to);
    if (!node) return false;
    node->a.slice.first = first;
    node->a.slice.channels = channels;
    return true;
}

static bool conv_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const bool dx = c->wants[f.in[0]], dw = param_wants(c, f.param[0]) || param_wants(c, f.param[1]);
    if (!dx && !dw) return true;
    const int out = dx ? grad_of(c, f.in[0]) : -1;
    bf_node *node = dx && out < 0 ? NULL : emit(c, BF_OP_CONV_BWD, index, (const int[]){dy, f.in[0]}, 2, out);
    if (!node) return false;
    node->a.conv.want_dx = dx;
    node->a.conv.want_dw = dw;
    return true;
}

/* y = data gradient of a convolution from y to x: its own gradients are that convolution's result, and its weight gradient. */
static bool conv_transpose_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const int x = f.in[0];
    bf_conv_attr a = f.a.conv;
    a.oc = c->g->values[x].c;
    if (c->wants[x]) {
        const int dx = grad_of(c, x);
        bf_node *node = dx < 0 ? NULL : emit(c, BF_OP_CONV, index, &dy, 1, dx);
        if (!node) return false;
        node->a.conv = a;
    }
    if (!param_wants(c, f.param[0])) return true;
    bf_node *node = emit(c, BF_OP_CONV_BWD, index, (const int[]){x, dy}, 2, -1);
    if (!node) return false;
    node->a.conv = a;
    node->a.conv.want_dx = false;
    node->a.conv.want_dw = true;
    return true;
}

/* The inverse of a permutation by g groups of C channels is one by C / g. */
static bool shuffle_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const int dx = grad_of(c, f.in[0]);
    bf_node *node = dx < 0 ? NULL : emit(c, BF_OP_SHUFFLE, index, &dy, 1, dx);
    if (node) node->a.shuffle.groups = c->g->values[f.in[0]].c / f.a.shuffle.groups;
    return node;
}

static bool bn_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const bool dx = c->wants[f.in[0]], affine = param_wants(c, f.param[0]) || param_wants(c, f.param[1]);
    if (!dx && !affine) return true;
    const int out = dx ? grad_of(c, f.in[0]) : -1;
    bf_node *node = dx && out < 0 ? NULL : emit(c, BF_OP_BN_BWD, index, (const int[]){dy, f.in[0], f.out[1]}, 3, out);
    if (node) node->a.bn.want_affine = affine;
    return node;
}

/* Gradients to the inputs of a join: channels [first, first + c) of dy to each input. */
static bool concat_backward(context *c, int index, int dy)
{
    int first = 0;
    for (int i = 0; i < c->g->nodes[index].in_count; i++) {
        const int x = c->g->nodes[index].in[i], channels = c->g->values[x].c;
        if (c->wants[x]) {
            const int dx = grad_of(c, x);
            if (dx < 0 || !emit_copy(c, index, dy, dx, first, channels)) return false;
        }
        first += channels;
    }
    return true;
}

static bool add_backward(context *c, int index, int dy)
{
    for (int i = 0; i < 2; i++) {
        const int x = c->g->nodes[index].in[i];
        if (!c->wants[x]) continue;
        const int dx = grad_of(c, x);
        if (dx < 0 || !emit_copy(c, index, dy, dx, 0, c->g->values[x].c)) return false;
    }
    return true;
}

static bool slice_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const int dx = grad_of(c, f.in[0]);
    if (dx < 0) return false;
    const bf_value v = c->g->values[f.out[0]];
    const int window = bf_graph_value(c->g, BF_TENSOR, v.n, v.h, v.w, v.c);
    const bf_part part = {dx, f.a.slice.first, f.a.slice.channels};
    return window >= 0 && bf_graph_view(c->g, window, &part, 1) && emit_copy(c, index, dy, window, 0, v.c);
}

static bool mul_backward(context *c, int index, int dy)
{
    const int in[2] = {c->g->nodes[index].in[0], c->g->nodes[index].in[1]};
    for (int i = 0; i < 2; i++) {
        if (!c->wants[in[i]]) continue;
        const int dx = grad_of(c, in[i]);
        if (dx < 0 || !emit(c, BF_OP_MUL, index, (const int[]){dy, in[1 - i]}, 2, dx)) return false;
    }
    return true;
}

static bool gate_backward(context *c, int index, int dy)
{
    const int x = c->g->nodes[index].in[0], gate = c->g->nodes[index].in[1];
    if (c->wants[x]) {
        const int dx = grad_of(c, x);
        if (dx < 0 || !emit(c, BF_OP_GATE, index, (const int[]){dy, gate}, 2, dx)) return false;
    }
    if (c->wants[gate]) {
        const int dgate = grad_of(c, gate);
        if (dgate < 0 || !emit(c, BF_OP_GATE_REDUCE, index, (const int[]){dy, x}, 2, dgate)) return false;
    }
    return true;
}

/* An operator with one input whose gradient node reads dy and, if `reads_x`, that input. */
static bool unary_backward(context *c, bf_op op, int index, int dy, bool reads_x)
{
    const int x = c->g->nodes[index].in[0], dx = grad_of(c, x);
    return dx >= 0 && emit(c, op, index, (const int[]){dy, x}, reads_x ? 2 : 1, dx);
}

/* ReLU's mask can be read off its output as well: after a join that output is stored anyway, its input is not. */
static bool act_backward(context *c, int index, int dy)
{
    const bf_node f = c->g->nodes[index];
    const bool clamps = f.a.act.kind == BNFF_RELU || f.a.act.kind == BNFF_RELU6;
    int u = f.in[0];
    for (int i = 0; clamps && i < index; i++)
        if (c->g->nodes[i].op == BF_OP_ADD && c->g->nodes[i].out[0] == f.in[0]) u = f.out[0];
    const int dx = grad_of(c, f.in[0]);
    return dx >= 0 && emit(c, BF_OP_ACT_BWD, index, (const int[]){dy, u}, 2, dx);
}

static bool input_backward(context *c, int index, int dy)
{
    bf_node *node = bf_graph_node(c->g, BF_OP_INPUT_GRAD, c->g->nodes[index].name, &dy, 1);
    if (node) node->a.io.index = c->g->nodes[index].a.io.index;
    return node != NULL;
}

static bool differentiate(context *c, int index, int dy)
{
    switch (c->g->nodes[index].op) {
    case BF_OP_CONV:    return conv_backward(c, index, dy);
    case BF_OP_CONVT:   return conv_transpose_backward(c, index, dy);
    case BF_OP_SHUFFLE: return shuffle_backward(c, index, dy);
    case BF_OP_RESIZE:  return unary_backward(c, BF_OP_RESIZE_BWD, index, dy, false);
    case BF_OP_BN:      return bn_backward(c, index, dy);
    case BF_OP_ACT:     return act_backward(c, index, dy);
    case BF_OP_MAXPOOL: return unary_backward(c, BF_OP_MAXPOOL_BWD, index, dy, true);
    case BF_OP_AVGPOOL: return unary_backward(c, BF_OP_AVGPOOL_BWD, index, dy, false);
    case BF_OP_DROPOUT: return unary_backward(c, BF_OP_DROPOUT, index, dy, false);
    case BF_OP_ADD:     return add_backward(c, index, dy);
    case BF_OP_MUL:     return mul_backward(c, index, dy);
    case BF_OP_GATE:    return gate_backward(c, index, dy);
    case BF_OP_CONCAT:  return concat_backward(c, index, dy);
    case BF_OP_SLICE:   return slice_backward(c, index, dy);
    case BF_OP_INPUT:   return input_backward(c, index, dy);
    default:            return true;
    }
}

static bool shuffles_nothing(const bf_graph *g, const bf_node *node)
{
    return node->op == BF_OP_SHUFFLE && (node->a.shuffle.groups == 1 || node->a.shuffle.groups == g->values[node->in[0]].c);
}

/* Replace nodes that do nothing in this mode (dropout in evaluation or with p = 0, identity activations) by their input. */
static bnff_status drop_identities(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    bool *keep = bf_alloc((size_t)g->node_count * sizeof *keep);
    int *same = bf_alloc((size_t)g->value_count * sizeof *same);
    if (!keep || !same) return bf_free(keep), bf_free(same), no_memory(error);
    for (int v = 0; v < g->value_count; v++) same[v] = v;
    for (int i = 0; i < g->node_count; i++) {
        bf_node *node = &g->nodes[i];
        for (int k = 0; k < node->in_count; k++) node->in[k] = same[node->in[k]];
        keep[i] = !((node->op == BF_OP_DROPOUT && (!settings->train || node->a.dropout.p == 0)) ||
                    (node->op == BF_OP_ACT && node->a.act.kind == BNFF_IDENTITY) || (node->op == BF_OP_CONCAT && node->in_count == 1) || shuffles_nothing(g, node));
        if (!keep[i]) same[node->out[0]] = node->in[0];
    }
    bf_graph_prune(g, keep);
    bf_free(keep);
    bf_free(same);
    return BNFF_OK;
}

/* Forward nodes whose values reach no output are not computed. */
static bnff_status drop_dead(bf_graph *g, bnff_error *error)
{
    bool *keep = bf_calloc((size_t)g->node_count, sizeof *keep), *live = bf_calloc((size_t)g->value_count, sizeof *live);
    if (!keep || !live) return bf_free(keep), bf_free(live), no_memory(error);
    for (int i = g->node_count; i-- > 0;) {
        const bf_node *node = &g->nodes[i];
        keep[i] = node->op == BF_OP_OUTPUT || node->op == BF_OP_INPUT || live[node->out[0]];
        for (int k = 0; keep[i] && k < node->in_count; k++) live[node->in[k]] = true;
    }
    bf_graph_prune(g, keep);
    bf_free(keep);
    bf_free(live);
    return BNFF_OK;
}

static void mark_wanted(context *c)
{
    for (int i = 0; i < c->g->node_count; i++) {
        const bf_node *node = &c->g->nodes[i];
        bool wants = node->op == BF_OP_INPUT && c->settings->input_gradients;
        for (int k = 0; k < node->in_count; k++) wants |= c->wants[node->in[k]];
        for (int k = 0; k < 2; k++) wants |= param_wants(c, node->param[k]);
        if (node->out_count) c->wants[node->out[0]] = wants;
    }
}

bnff_status bf_pass_autodiff(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    BF_TRY(drop_identities(g, settings, error));
    BF_TRY(drop_dead(g, error));
    for (int i = 0; i < g->node_count; i++) {
        bf_node *node = &g->nodes[i];
        if (node->op == BF_OP_BN && !node->a.bn.scale) node->a.bn.frozen = !settings->train || (settings->frozen_stats && settings->frozen_stats[node->param[2]]);
    }
    if (!settings->train) return BNFF_OK;
    context c = {.g = g, .settings = settings, .error = error};
    const int forward = g->node_count;
    c.wants = bf_calloc((size_t)g->value_count, sizeof *c.wants);
    if (!c.wants) return no_memory(error);
    mark_wanted(&c);
    bool ok = true;
    for (int i = 0; ok && i < forward; i++) {
        const int v = g->nodes[i].op == BF_OP_OUTPUT ? g->nodes[i].in[0] : -1;
        if (v < 0 || !c.wants[v]) continue;
        const int dy = grad_of(&c, v);
        ok = dy >= 0 && emit(&c, BF_OP_OUTPUT_GRAD, i, NULL, 0, dy);
    }
    for (int i = forward; ok && i-- > 0;) {
        const bf_node *node = &g->nodes[i];
        const int y = node->out_count ? node->out[0] : -1, dy = y >= 0 && c.wants[y] ? g->values[y].grad : -1;
        if (dy >= 0) ok = differentiate(&c, i, dy);
    }
    bf_free(c.wants);
    return ok ? BNFF_OK : no_memory(error);
}
