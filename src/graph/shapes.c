/* Shape rules. A height or width of 0 is not known yet (the graph is built before the image size is chosen). */
#include "graph/ir.h"

#include <stdio.h>

int bf_conv_out(int in, int kernel, int stride, int pad, int dilation)
{
    const long long span = (long long)in + 2LL * pad - (long long)dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : (int)(span / stride + 1);
}

int bf_convt_out(int in, int kernel, int stride, int pad, int dilation, int output_pad)
{
    const long long out = (in - 1LL) * stride - 2LL * pad + (long long)dilation * (kernel - 1) + output_pad + 1;
    return out > 0 && out <= 1 << 24 ? (int)out : 0;
}

int bf_pool_out(int in, int kernel, int stride, int pad, int dilation, bool ceil_mode)
{
    const long long span = (long long)in + 2LL * pad - (long long)dilation * (kernel - 1) - 1 + (ceil_mode ? stride - 1 : 0);
    if (span < 0) return 0;
    long long out = span / stride + 1;
    if (ceil_mode && (out - 1) * stride >= (long long)in + pad) out--; /* no window starts past the image and its left padding */
    return (int)out;
}

/* A node without a name is called after the last one with a name on the way to it. */
static void label_node(const bf_graph *g, const bf_node *node, char *text, size_t size)
{
    if (node->name || !node->in_count) {
        bf_node_label(node, text, size);
        return;
    }
    const char *after = NULL;
    for (int value = node->in[0], i = g->node_count; !after && i-- > 0;) {
        const bf_node *writer = &g->nodes[i];
        if (!writer->out_count || writer->out[0] != value) continue;
        after = writer->name;
        if (!writer->in_count) break;
        value = writer->in[0];
    }
    snprintf(text, size, "%s%s%s", bf_op_text(node->op), after ? " after " : "", after ? after : "");
}

static bnff_status window_error(const bf_graph *g, const bf_node *node, const bf_value *x, int kh, int kw, bnff_error *error)
{
    char label[160];
    label_node(g, node, label, sizeof label);
    bf_fail(error, BNFF_E_SHAPE, "%s: its %d x %d input is smaller than the %d x %d window", label, x->h, x->w, kh, kw);
    return bf_hint(error, BNFF_E_SHAPE, "use larger images, or a network with less downsampling");
}

static bnff_status conv_shape(const bf_graph *g, bf_value *y, const bf_value *x, const bf_node *node, bnff_error *error)
{
    const bf_conv_attr *a = &node->a.conv;
    y->c = a->oc;
    if (a->linear) {
        if (x->h != a->kh || x->w != a->kw) return window_error(g, node, x, a->kh, a->kw, error);
        y->h = y->w = 1;
        return BNFF_OK;
    }
    if (!x->h || !x->w) return BNFF_OK;
    y->h = bf_conv_out(x->h, a->kh, a->sh, a->ph, a->dh);
    y->w = bf_conv_out(x->w, a->kw, a->sw, a->pw, a->dw);
    return y->h > 0 && y->w > 0 ? BNFF_OK : window_error(g, node, x, a->dh * (a->kh - 1) + 1, a->dw * (a->kw - 1) + 1, error);
}

static bnff_status pool_shape(const bf_graph *g, bf_value *y, const bf_value *x, const bf_node *node, bnff_error *error)
{
    const bf_pool_attr *a = &node->a.pool;
    y->c = x->c;
    if (a->out_h) return y->h = a->out_h, y->w = a->out_w, BNFF_OK;
    if (!x->h || !x->w) return BNFF_OK;
    y->h = bf_pool_out(x->h, a->kh, a->sh, a->ph, a->dh, a->ceil_mode);
    y->w = bf_pool_out(x->w, a->kw, a->sw, a->pw, a->dw, a->ceil_mode);
    return y->h > 0 && y->w > 0 ? BNFF_OK : window_error(g, node, x, a->kh, a->kw, error);
}

static bnff_status convt_shape(const bf_graph *g, bf_value *y, const bf_value *x, const bf_node *node, bnff_error *error)
{
    const bf_conv_attr *a = &node->a.conv;
    y->c = a->oc;
    if (!x->h || !x->w) return BNFF_OK;
    y->h = bf_convt_out(x->h, a->kh, a->sh, a->ph, a->dh, a->oph);
    y->w = bf_convt_out(x->w, a->kw, a->sw, a->pw, a->dw, a->opw);
    if (y->h > 0 && y->w > 0) return BNFF_OK;
    char label[160];
    label_node(g, node, label, sizeof label);
    return bf_fail(error, BNFF_E_SHAPE, "%s: of its %d x %d input nothing is left, or more than can be", label, x->h, x->w);
}

static bnff_status resize_shape(const bf_graph *g, bf_value *y, const bf_value *x, const bf_node *node, bnff_error *error)
{
    const bf_resize_attr *a = &node->a.resize;
    y->c = x->c;
    if (a->out_h) return y->h = a->out_h, y->w = a->out_w, BNFF_OK;
    if (!x->h || !x->w) return BNFF_OK;
    const double h = (double)x->h * a->scale_h, w = (double)x->w * a->scale_w;
    char label[160];
    label_node(g, node, label, sizeof label);
    if (!(h >= 1 && w >= 1 && h <= 1 << 24 && w <= 1 << 24))
        return bf_fail(error, BNFF_E_SHAPE, "%s: %d x %d times %g and %g is no size", label, x->h, x->w, a->scale_h, a->scale_w);
    return y->h = (int)h, y->w = (int)w, BNFF_OK;
}

static bnff_status mismatch(const bf_graph *g, const bf_node *node, const bf_value *a, const bf_value *b, bnff_error *error)
{
    char label[160];
    label_node(g, node, label, sizeof label);
    return bf_fail(error, BNFF_E_SHAPE, "%s: operands of %d x %d x %d and %d x %d x %d (H x W x C) do not fit", label, a->h, a->w, a->c, b->h, b->w, b->c);
}

static bool may_equal(int a, int b) { return !a || !b || a == b; } /* 0: not known before the plan is made */

static bnff_status same_size(const bf_graph *g, const bf_node *node, const bf_value *a, const bf_value *b, bool channels, bnff_error *error)
{
    return !may_equal(a->h, b->h) || !may_equal(a->w, b->w) || (channels && a->c != b->c) ? mismatch(g, node, a, b, error) : BNFF_OK;
}

bnff_status bf_infer_node(bf_graph *g, const bf_node *node, bnff_error *error)
{
    if (node->op == BF_OP_INPUT || node->op == BF_OP_OUTPUT || !node->in_count) return BNFF_OK;
    const bf_value *x = &g->values[node->in[0]];
    bf_value *y = &g->values[node->out[0]];
    y->n = x->n;
    switch (node->op) {
    case BF_OP_CONV: return conv_shape(g, y, x, node, error);
    case BF_OP_CONVT: return convt_shape(g, y, x, node, error);
    case BF_OP_RESIZE: return resize_shape(g, y, x, node, error);
    case BF_OP_MAXPOOL:
    case BF_OP_AVGPOOL: return pool_shape(g, y, x, node, error);
    case BF_OP_SLICE:
        y->h = x->h, y->w = x->w, y->c = node->a.slice.channels;
        return BNFF_OK;
    case BF_OP_GATE: {
        const bf_value *gate = &g->values[node->in[1]];
        y->h = x->h, y->w = x->w, y->c = x->c;
        return gate->h != 1 || gate->w != 1 || gate->c != x->c ? mismatch(g, node, x, gate, error) : BNFF_OK;
    }
    case BF_OP_ADD:
    case BF_OP_MUL:
        y->h = x->h, y->w = x->w, y->c = x->c;
        return same_size(g, node, x, &g->values[node->in[1]], true, error);
    case BF_OP_CONCAT: {
        long long c = 0;
        for (int i = 0; i < node->in_count; i++) {
            BF_TRY(same_size(g, node, x, &g->values[node->in[i]], false, error));
            c += g->values[node->in[i]].c;
        }
        y->h = x->h, y->w = x->w, y->c = (int)c;
        return c <= 1 << 20 ? BNFF_OK : bf_fail(error, BNFF_E_SHAPE, "a concatenation of %lld channels; %d are possible", c, 1 << 20);
    }
    default: /* elementwise on one value */
        y->h = x->h, y->w = x->w, y->c = x->c;
        return BNFF_OK;
    }
}

/* The size of an input: its own, or what the plan says. */
static bnff_status input_size(bf_value *v, const bf_node *node, int h, int w, const int (*sizes)[2], bnff_error *error)
{
    const int *given = sizes ? sizes[node->a.io.index] : NULL;
    if (given && (given[0] || given[1])) h = given[0], w = given[1];
    if (node->a.io.h && given && (given[0] || given[1]) && (h != node->a.io.h || w != node->a.io.w))
        return bf_fail(error, BNFF_E_SHAPE, "input %s: it is %d x %d in the graph, %d x %d is asked for", node->name, node->a.io.h, node->a.io.w, h, w);
    v->h = node->a.io.h ? node->a.io.h : h;
    v->w = node->a.io.w ? node->a.io.w : w;
    return BNFF_OK;
}

bnff_status bf_infer_shapes(bf_graph *g, int n, int h, int w, const int (*sizes)[2], bnff_error *error)
{
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        if (node->op == BF_OP_INPUT) {
            bf_value *v = &g->values[node->out[0]];
            v->n = n;
            BF_TRY(input_size(v, node, h, w, sizes, error));
        }
        BF_TRY(bf_infer_node(g, node, error));
        for (int k = 1; k < node->out_count; k++) g->values[node->out[k]].n = 1;
    }
    return BNFF_OK;
}
