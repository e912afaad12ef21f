/* The public graph API: checks arguments, adds nodes, values and parameters, infers shapes as far as they are known. */
#include <bnff/graph.h>

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/memory.h"
#include "base/text.h"
#include "graph/builder.h"

bnff_status bnff_graph_create(bnff_graph **graph, bnff_error *error)
{
    *graph = bf_calloc(1, sizeof **graph);
    return *graph ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for a graph");
}

void bnff_graph_destroy(bnff_graph **graph)
{
    if (!graph || !*graph) return;
    bf_graph_clear(&(*graph)->ir);
    bf_free(*graph);
    *graph = NULL;
}

bnff_status bnff_graph_status(const bnff_graph *graph, bnff_error *error)
{
    if (error && graph->error.status != BNFF_OK) *error = graph->error;
    return graph->error.status;
}

static bnff_value no_memory(bnff_graph *g) { return BF_REFUSE(g, BNFF_E_MEMORY, "no memory for another node of the graph"); }

/* Checks shared by all operators: no earlier failure, operands exist. */
bool bf_usable(bnff_graph *g, const bnff_value *x, int count)
{
    if (g->error.status != BNFF_OK) return false;
    for (int i = 0; i < count; i++)
        if (x[i] < 0 || x[i] >= g->ir.value_count || g->ir.values[x[i]].kind != BF_TENSOR) {
            (void)BF_REFUSE(g, BNFF_E_ARG, "operand %d is value %d, which the graph does not have", i, (int)x[i]);
            return false;
        }
    return true;
}

/* Add a node with one tensor output and infer its shape. */
bf_node *bf_add_node(bnff_graph *g, bf_op op, const char *name, const bnff_value *in, int count)
{
    bf_node *node = bf_graph_node(&g->ir, op, name, in, count);
    const int out = node ? bf_graph_value(&g->ir, BF_TENSOR, 0, 0, 0, 0) : -1;
    if (out < 0) return (void)no_memory(g), NULL;
    node = &g->ir.nodes[g->ir.node_count - 1];
    node->out[0] = out;
    node->out_count = 1;
    return node;
}

bnff_value bf_finish(bnff_graph *g, const bf_node *node)
{
    return bf_infer_node(&g->ir, node, &g->error) == BNFF_OK ? node->out[0] : BNFF_NONE;
}

bool bf_new_name(bnff_graph *g, const char *name, const char *what)
{
    if (!name || !*name) return (void)BF_REFUSE(g, BNFF_E_ARG, "%s needs a name for its parameters", what), false;
    for (const char *s = name; *s; s++)
        if ((unsigned char)*s <= ' ' || *s == '"') return (void)BF_REFUSE(g, BNFF_E_ARG, "name '%s': spaces, quotes and control characters are not allowed", name), false;
    for (int i = 0; i < g->ir.node_count; i++)
        if (g->ir.nodes[i].name && !strcmp(g->ir.nodes[i].name, name)) return (void)BF_REFUSE(g, BNFF_E_ARG, "name '%s' is taken", name), false;
    return true;
}

static bnff_value add_input(bnff_graph *g, const char *name, int channels, int height, int width)
{
    if (!bf_usable(g, NULL, 0) || !bf_new_name(g, name, "an input")) return BNFF_NONE;
    if (channels < 1 || channels > BF_MAX_CHANNELS)
        return BF_REFUSE(g, BNFF_E_ARG, "input %s: %d channels; 1 to %d are possible", name, channels, BF_MAX_CHANNELS);
    bf_node *node = bf_add_node(g, BF_OP_INPUT, name, NULL, 0);
    if (!node) return BNFF_NONE;
    node->a.io.index = g->ir.input_count++;
    bf_value *v = &g->ir.values[node->out[0]];
    v->c = channels;
    v->h = node->a.io.h = height;
    v->w = node->a.io.w = width;
    return node->out[0];
}

bnff_value bnff_input(bnff_graph *g, const char *name, int channels) { return add_input(g, name, channels, 0, 0); }

bnff_value bnff_input_sized(bnff_graph *g, const char *name, int channels, int height, int width)
{
    if (g->error.status != BNFF_OK || !bf_in_range(g, name, "input height", height, 1, BF_MAX_SIDE) || !bf_in_range(g, name, "input width", width, 1, BF_MAX_SIDE))
        return BNFF_NONE;
    return add_input(g, name, channels, height, width);
}

bool bf_in_range(bnff_graph *g, const char *name, const char *what, int value, int low, int high)
{
    if (value >= low && value <= high) return true;
    (void)BF_REFUSE(g, BNFF_E_ARG, "%s: %s %d is not between %d and %d", name ? name : "pooling", what, value, low, high);
    return false;
}

int bf_new_param(bnff_graph *g, const char *owner, const char *suffix, bnff_param_kind kind, int rank, int64_t a, int64_t b, int64_t c, int64_t d)
{
    const int index = bf_graph_param(&g->ir, owner, suffix, kind, rank, (const int64_t[4]){a, b, c, d});
    if (index < 0) (void)no_memory(g);
    return index;
}

bnff_value bnff_conv2d(bnff_graph *g, const char *name, bnff_value x, const bnff_conv_options *o)
{
    if (!bf_usable(g, &x, 1) || !bf_new_name(g, name, "a convolution")) return BNFF_NONE;
    const int c = g->ir.values[x].c;
    bf_conv_attr a = {.oc = o->out_channels, .kh = bf_first_of(o->kernel, 1), .kw = bf_second_of(o->kernel, 1), .sh = bf_first_of(o->stride, 1),
                      .sw = bf_second_of(o->stride, 1), .ph = o->padding[0], .pw = o->padding[1] < 0 ? 0 : o->padding[1] ? o->padding[1] : o->padding[0],
                      .dh = bf_first_of(o->dilation, 1), .dw = bf_second_of(o->dilation, 1), .groups = o->groups ? o->groups : 1};
    if (!bf_in_range(g, name, "output channels", a.oc, 1, BF_MAX_CHANNELS) || !bf_in_range(g, name, "kernel height", a.kh, 1, BF_MAX_WINDOW) ||
        !bf_in_range(g, name, "kernel width", a.kw, 1, BF_MAX_WINDOW) || !bf_in_range(g, name, "stride", a.sh, 1, BF_MAX_WINDOW) ||
        !bf_in_range(g, name, "stride", a.sw, 1, BF_MAX_WINDOW) || !bf_in_range(g, name, "padding", a.ph, 0, BF_MAX_WINDOW) ||
        !bf_in_range(g, name, "padding", a.pw, 0, BF_MAX_WINDOW) || !bf_in_range(g, name, "dilation", a.dh, 1, BF_MAX_WINDOW) ||
        !bf_in_range(g, name, "dilation", a.dw, 1, BF_MAX_WINDOW) || !bf_in_range(g, name, "groups", a.groups, 1, BF_MAX_CHANNELS)) return BNFF_NONE;
    if (c % a.groups || a.oc % a.groups) return BF_REFUSE(g, BNFF_E_SHAPE, "%s: %d groups do not divide %d input and %d output channels", name, a.groups, c, a.oc);
    bf_node *node = bf_add_node(g, BF_OP_CONV, name, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.conv = a;
    node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_CONV_WEIGHT, 4, a.oc, c / a.groups, a.kh, a.kw);
    if (o->bias) node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BIAS, 1, a.oc, 1, 1, 1);
    return bf_finish(g, node);
}

bnff_value bnff_linear(bnff_graph *g, const char *name, bnff_value x, int out_features, bool bias)
{
    if (!bf_usable(g, &x, 1) || !bf_new_name(g, name, "a linear layer")) return BNFF_NONE;
    const bf_value v = g->ir.values[x];
    if (!v.h || !v.w) {
        (void)BF_REFUSE(g, BNFF_E_SHAPE, "%s: the size of its input is not known", name);
        (void)bf_hint(&g->error, BNFF_E_SHAPE, "pool to a fixed size before the linear layer: bnff_global_avgpool or bnff_adaptive_avgpool");
        return BNFF_NONE;
    }
    if (!bf_in_range(g, name, "output features", out_features, 1, BF_MAX_CHANNELS)) return BNFF_NONE;
    bf_node *node = bf_add_node(g, BF_OP_CONV, name, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.conv = (bf_conv_attr){.oc = out_features, .kh = v.h, .kw = v.w, .sh = 1, .sw = 1, .dh = 1, .dw = 1, .groups = 1, .linear = true};
    node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_LINEAR_WEIGHT, 2, out_features, (int64_t)v.c * v.h * v.w, 1, 1);
    if (bias) node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BIAS, 1, out_features, 1, 1, 1);
    return bf_finish(g, node);
}

bnff_value bnff_batchnorm(bnff_graph *g, const char *name, bnff_value x, const bnff_batchnorm_options *o)
{
    static const bnff_batchnorm_options none = {0};
    if (!o) o = &none;
    if (!bf_usable(g, &x, 1) || !bf_new_name(g, name, "a batch normalization")) return BNFF_NONE;
    bf_bn_attr a = {.eps = o->eps == 0 ? 1e-5f : o->eps, .momentum = o->momentum == 0 ? 0.1f : o->momentum < 0 ? 0 : o->momentum};
    if (!(a.eps > 0) || !isfinite(a.eps)) return BF_REFUSE(g, BNFF_E_ARG, "%s: eps %g must be positive", name, (double)a.eps);
    if (!(a.momentum <= 1)) return BF_REFUSE(g, BNFF_E_ARG, "%s: momentum %g is not between 0 and 1", name, (double)a.momentum);
    const int c = g->ir.values[x].c;
    bf_node *node = bf_add_node(g, BF_OP_BN, name, &x, 1);
    const int coefs = node ? bf_graph_value(&g->ir, BF_COEFS, 1, 1, 1, c) : -1;
    if (coefs < 0) return node ? no_memory(g) : BNFF_NONE;
    node->out[1] = coefs;
    node->out_count = 2;
    node->a.bn = a;
    if (!o->no_affine) {
        node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_BN_WEIGHT, 1, c, 1, 1, 1);
        node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BN_BIAS, 1, c, 1, 1, 1);
    }
    node->param[2] = bf_new_param(g, name, "running_mean", BNFF_PARAM_RUNNING_MEAN, 1, c, 1, 1, 1);
    node->param[3] = bf_new_param(g, name, "running_var", BNFF_PARAM_RUNNING_VAR, 1, c, 1, 1, 1);
    return bf_finish(g, node);
}

bnff_value bnff_activate(bnff_graph *g, bnff_value x, bnff_activation kind, float slope)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    if ((unsigned)kind > BNFF_MISH) return BF_REFUSE(g, BNFF_E_ARG, "activation %d is unknown", (int)kind);
    bf_node *node = bf_add_node(g, BF_OP_ACT, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.act.kind = kind;
    node->a.act.slope = slope;
    return bf_finish(g, node);
}

bnff_value bnff_relu(bnff_graph *g, bnff_value x) { return bnff_activate(g, x, BNFF_RELU, 0); }

static bnff_value add_pool(bnff_graph *g, bf_op op, bnff_value x, const bnff_pool_options *o)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    bf_pool_attr a = {.kh = o->kernel[0], .kw = bf_second_of(o->kernel, 0), .ph = o->padding[0],
                      .pw = o->padding[1] < 0 ? 0 : o->padding[1] ? o->padding[1] : o->padding[0],
                      .dh = bf_first_of(o->dilation, 1), .dw = bf_second_of(o->dilation, 1), .ceil_mode = o->ceil_mode, .exclude_pad = o->exclude_pad};
    a.sh = bf_first_of(o->stride, a.kh);
    a.sw = o->stride[1] ? o->stride[1] : o->stride[0] ? o->stride[0] : a.kw;
    if (!bf_in_range(g, NULL, "kernel", a.kh, 1, BF_MAX_WINDOW) || !bf_in_range(g, NULL, "kernel", a.kw, 1, BF_MAX_WINDOW) ||
        !bf_in_range(g, NULL, "stride", a.sh, 1, BF_MAX_WINDOW) || !bf_in_range(g, NULL, "stride", a.sw, 1, BF_MAX_WINDOW) ||
        !bf_in_range(g, NULL, "padding", a.ph, 0, a.kh / 2) || !bf_in_range(g, NULL, "padding", a.pw, 0, a.kw / 2) ||
        !bf_in_range(g, NULL, "dilation", a.dh, 1, op == BF_OP_MAXPOOL ? BF_MAX_WINDOW : 1) ||
        !bf_in_range(g, NULL, "dilation", a.dw, 1, op == BF_OP_MAXPOOL ? BF_MAX_WINDOW : 1)) return BNFF_NONE;
    bf_node *node = bf_add_node(g, op, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.pool = a;
    return bf_finish(g, node);
}

bnff_value bnff_maxpool(bnff_graph *g, bnff_value x, const bnff_pool_options *o) { return add_pool(g, BF_OP_MAXPOOL, x, o); }
bnff_value bnff_avgpool(bnff_graph *g, bnff_value x, const bnff_pool_options *o) { return add_pool(g, BF_OP_AVGPOOL, x, o); }

static bnff_value add_adaptive(bnff_graph *g, bf_op op, bnff_value x, int out_height, int out_width)
{
    if (!bf_usable(g, &x, 1) || !bf_in_range(g, NULL, "output height", out_height, 1, BF_MAX_WINDOW) || !bf_in_range(g, NULL, "output width", out_width, 1, BF_MAX_WINDOW)) return BNFF_NONE;
    bf_node *node = bf_add_node(g, op, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.pool = (bf_pool_attr){.out_h = out_height, .out_w = out_width};
    return bf_finish(g, node);
}

bnff_value bnff_adaptive_avgpool(bnff_graph *g, bnff_value x, int out_height, int out_width) { return add_adaptive(g, BF_OP_AVGPOOL, x, out_height, out_width); }
bnff_value bnff_adaptive_maxpool(bnff_graph *g, bnff_value x, int out_height, int out_width) { return add_adaptive(g, BF_OP_MAXPOOL, x, out_height, out_width); }

bnff_value bnff_global_avgpool(bnff_graph *g, bnff_value x) { return bnff_adaptive_avgpool(g, x, 1, 1); }

bnff_value bnff_add(bnff_graph *g, bnff_value a, bnff_value b)
{
    const bnff_value in[2] = {a, b};
    if (!bf_usable(g, in, 2)) return BNFF_NONE;
    const bf_node *node = bf_add_node(g, BF_OP_ADD, NULL, in, 2);
    return node ? bf_finish(g, node) : BNFF_NONE;
}

bnff_value bnff_mul_gate(bnff_graph *g, bnff_value x, bnff_value gate)
{
    const bnff_value in[2] = {x, gate};
    if (!bf_usable(g, in, 2)) return BNFF_NONE;
    const bf_node *node = bf_add_node(g, BF_OP_GATE, NULL, in, 2);
    return node ? bf_finish(g, node) : BNFF_NONE;
}

bnff_value bnff_concat(bnff_graph *g, const bnff_value *values, int count)
{
    if (count < 1) return BF_REFUSE(g, BNFF_E_ARG, "a concatenation of %d values", count);
    if (!bf_usable(g, values, count)) return BNFF_NONE;
    const bf_node *node = bf_add_node(g, BF_OP_CONCAT, NULL, values, count);
    return node ? bf_finish(g, node) : BNFF_NONE;
}

bnff_value bnff_slice(bnff_graph *g, bnff_value x, int first, int channels)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    const int c = g->ir.values[x].c;
    if (first < 0 || channels < 1 || first > c - channels) return BF_REFUSE(g, BNFF_E_SHAPE, "slice [%d, %d + %d) of %d channels", first, first, channels, c);
    bf_node *node = bf_add_node(g, BF_OP_SLICE, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.slice.first = first;
    node->a.slice.channels = channels;
    return bf_finish(g, node);
}

bnff_value bnff_dropout(bnff_graph *g, bnff_value x, float p)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    if (!(p >= 0 && p < 1)) return BF_REFUSE(g, BNFF_E_ARG, "dropout probability %g is not in [0, 1)", (double)p);
    bf_node *node = bf_add_node(g, BF_OP_DROPOUT, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.dropout.p = p;
    node->a.dropout.id = g->ir.dropout_count++;
    return bf_finish(g, node);
}

void bnff_output(bnff_graph *g, bnff_value x)
{
    if (!bf_usable(g, &x, 1)) return;
    bf_node *node = bf_graph_node(&g->ir, BF_OP_OUTPUT, NULL, &x, 1);
    if (!node) (void)no_memory(g);
    else node->a.io.index = g->ir.output_count++;
}

int bnff_graph_param_count(const bnff_graph *g) { return g->ir.param_count; }

bool bnff_graph_param(const bnff_graph *g, int index, bnff_param_info *info)
{
    if (index < 0 || index >= g->ir.param_count) return false;
    const bf_param *p = &g->ir.params[index];
    *info = (bnff_param_info){.name = p->name, .kind = p->kind, .rank = p->rank, .elements = p->elements,
                              .is_buffer = p->kind == BNFF_PARAM_RUNNING_MEAN || p->kind == BNFF_PARAM_RUNNING_VAR};
    memcpy(info->shape, p->shape, sizeof info->shape);
    return true;
}

int bnff_graph_find_param(const bnff_graph *g, const char *name)
{
    for (int i = 0; i < g->ir.param_count; i++)
        if (!strcmp(g->ir.params[i].name, name)) return i;
    return -1;
}

int bnff_value_channels(const bnff_graph *g, bnff_value x) { return x >= 0 && x < g->ir.value_count ? g->ir.values[x].c : 0; }

bnff_status bnff_graph_print(const bnff_graph *g, char **text, bnff_error *error)
{
    bf_text out = {0};
    *text = NULL;
    BF_TRY(bnff_graph_status(g, error));
    bf_graph_print(&g->ir, &out);
    *text = bf_text_take(&out);
    return *text ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to print the graph");
}
