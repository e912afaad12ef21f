/* Building a net: the same call for the graph under test and for the reference's list. */
#include "net_private.h"
#include "support.h"

net *net_new(void)
{
    net *n = calloc(1, sizeof *n);
    bnff_error error;
    check_ok(bnff_graph_create(&n->graph, &error), &error);
    return n;
}

void net_free(net **n)
{
    for (int i = 0; i < (*n)->ops; i++) {
        ref_free(&(*n)->op[i].y);
        ref_free(&(*n)->op[i].dy);
        ref_bn_free(&(*n)->op[i].stats);
    }
    for (int i = 0; i < (*n)->outs; i++) ref_free(&(*n)->out[i].given);
    for (int i = 0; i < (*n)->params; i++) {
        ref_free(&(*n)->param[i].start);
        ref_free(&(*n)->param[i].value);
        ref_free(&(*n)->param[i].gradient);
    }
    bnff_graph_destroy(&(*n)->graph);
    free(*n);
    *n = NULL;
}

bnff_graph *net_graph(net *n) { return n->graph; }
const ref_tensor *net_value(const net *n, int x) { return &n->op[x].y; }

const ref_tensor *net_param_gradient(const net *n, const char *name)
{
    for (int i = 0; i < n->params; i++)
        if (!strcmp(n->param[i].name, name)) return &n->param[i].gradient;
    return NULL;
}

static net_op *new_op(net *n, net_kind kind, int channels, const int *in, int ins)
{
    assert_true(n->ops < NET_OPS && ins <= NET_INS);
    net_op *op = &n->op[n->ops];
    *op = (net_op){.kind = kind, .channels = channels, .ins = ins, .weight = -1, .bias = -1, .mean = -1, .var = -1};
    for (int i = 0; i < ins; i++) op->in[i] = in[i];
    return op;
}

/* Take the value the graph returned; the next operator's number. */
static int added(net *n, net_op *op, bnff_value value)
{
    bnff_error error;
    check_ok(bnff_graph_status(n->graph, &error), &error);
    assert_true(value != BNFF_NONE);
    assert_int_equal(bnff_value_channels(n->graph, value), op->channels);
    op->graph_value = value;
    return n->ops++;
}

static bnff_value at(const net *n, int x) { return n->op[x].graph_value; }
static const char *name_of(const net *n)
{
    static char name[16];
    snprintf(name, sizeof name, "op%d", n->ops);
    return name;
}

static int new_param(net *n, const char *leaf, bnff_param_kind kind, int a, int b, int c, int d)
{
    assert_true(n->params < NET_PARAMS);
    net_param *p = &n->param[n->params];
    snprintf(p->name, sizeof p->name, "op%d.%s", n->ops, leaf);
    p->kind = kind;
    p->start = ref_new(a, b, c, d);
    p->value = ref_new(a, b, c, d);
    p->gradient = ref_new(a, b, c, d);
    return n->params++;
}

int net_input(net *n, int channels)
{
    net_op *op = new_op(n, OP_INPUT, channels, NULL, 0);
    return added(n, op, bnff_input(n->graph, name_of(n), channels));
}

int net_input_sized(net *n, int channels, int height, int width)
{
    net_op *op = new_op(n, OP_INPUT, channels, NULL, 0);
    op->size[0] = height;
    op->size[1] = width;
    return added(n, op, bnff_input_sized(n->graph, name_of(n), channels, height, width));
}

int net_input_planned(net *n, int channels, int height, int width)
{
    net_op *op = new_op(n, OP_INPUT, channels, NULL, 0);
    op->size[0] = height;
    op->size[1] = width;
    op->planned = true;
    return added(n, op, bnff_input(n->graph, name_of(n), channels));
}

static void pair_default(int pair[2], int value, int second)
{
    if (!pair[0]) pair[0] = value;
    if (!pair[1]) pair[1] = second ? second : pair[0];
}

int net_conv(net *n, int x, bnff_conv_options o)
{
    net_op *op = new_op(n, OP_CONV, o.out_channels, &x, 1);
    const bnff_value value = bnff_conv2d(n->graph, name_of(n), at(n, x), &o);
    pair_default(o.kernel, 1, 0);
    pair_default(o.stride, 1, 0);
    pair_default(o.dilation, 1, 0);
    pair_default(o.padding, 0, 0);
    if (o.padding[1] < 0) o.padding[1] = 0;
    if (!o.groups) o.groups = 1;
    op->conv = o;
    op->weight = new_param(n, "weight", BNFF_PARAM_CONV_WEIGHT, o.out_channels, n->op[x].channels / o.groups, o.kernel[0], o.kernel[1]);
    if (o.bias) op->bias = new_param(n, "bias", BNFF_PARAM_BIAS, o.out_channels, 1, 1, 1);
    return added(n, op, value);
}

int net_conv_transpose(net *n, int x, bnff_conv_transpose_options o)
{
    net_op *op = new_op(n, OP_CONVT, o.out_channels, &x, 1);
    const bnff_value value = bnff_conv_transpose2d(n->graph, name_of(n), at(n, x), &o);
    pair_default(o.kernel, 1, 0);
    pair_default(o.stride, 1, 0);
    pair_default(o.dilation, 1, 0);
    pair_default(o.padding, 0, 0);
    pair_default(o.output_padding, 0, 0);
    if (o.padding[1] < 0) o.padding[1] = 0;
    if (o.output_padding[1] < 0) o.output_padding[1] = 0;
    if (!o.groups) o.groups = 1;
    op->transposed = o;
    op->weight = new_param(n, "weight", BNFF_PARAM_CONV_WEIGHT, n->op[x].channels, o.out_channels / o.groups, o.kernel[0], o.kernel[1]);
    if (o.bias) op->bias = new_param(n, "bias", BNFF_PARAM_BIAS, o.out_channels, 1, 1, 1);
    return added(n, op, value);
}

int net_shuffle(net *n, int x, int groups)
{
    net_op *op = new_op(n, OP_SHUFFLE, n->op[x].channels, &x, 1);
    op->groups = groups;
    return added(n, op, bnff_channel_shuffle(n->graph, at(n, x), groups));
}

int net_resize(net *n, int x, bnff_resize_options o)
{
    net_op *op = new_op(n, OP_RESIZE, n->op[x].channels, &x, 1);
    const bnff_value value = bnff_resize(n->graph, at(n, x), &o);
    if (o.scale[1] == 0) o.scale[1] = o.scale[0];
    op->resize = o;
    return added(n, op, value);
}

int net_bn(net *n, int x, const bnff_batchnorm_options *o)
{
    const int c = n->op[x].channels;
    net_op *op = new_op(n, OP_BN, c, &x, 1);
    op->eps = o && o->eps > 0 ? o->eps : 1e-5f;
    op->momentum = !o || o->momentum == 0 ? 0.1f : o->momentum < 0 ? 0 : o->momentum;
    if (!o || !o->no_affine) {
        op->weight = new_param(n, "weight", BNFF_PARAM_BN_WEIGHT, c, 1, 1, 1);
        op->bias = new_param(n, "bias", BNFF_PARAM_BN_BIAS, c, 1, 1, 1);
    }
    op->mean = new_param(n, "running_mean", BNFF_PARAM_RUNNING_MEAN, c, 1, 1, 1);
    op->var = new_param(n, "running_var", BNFF_PARAM_RUNNING_VAR, c, 1, 1, 1);
    return added(n, op, bnff_batchnorm(n->graph, name_of(n), at(n, x), o));
}

int net_act(net *n, int x, bnff_activation kind, float slope)
{
    net_op *op = new_op(n, OP_ACT, n->op[x].channels, &x, 1);
    op->act = kind;
    op->slope = slope;
    return added(n, op, bnff_activate(n->graph, at(n, x), kind, slope));
}

int net_relu(net *n, int x) { return net_act(n, x, BNFF_RELU, 0); }

static void pool_defaults(bnff_pool_options *o)
{
    pair_default(o->kernel, 1, 0);
    const bool square = o->stride[0] && !o->stride[1];
    pair_default(o->stride, o->kernel[0], square ? o->stride[0] : o->kernel[1]);
    pair_default(o->dilation, 1, 0);
    pair_default(o->padding, 0, 0);
    if (o->padding[1] < 0) o->padding[1] = 0;
}

int net_maxpool(net *n, int x, bnff_pool_options o)
{
    net_op *op = new_op(n, OP_MAXPOOL, n->op[x].channels, &x, 1);
    const bnff_value value = bnff_maxpool(n->graph, at(n, x), &o);
    pool_defaults(&o);
    op->pool = o;
    return added(n, op, value);
}

int net_avgpool(net *n, int x, bnff_pool_options o)
{
    net_op *op = new_op(n, OP_AVGPOOL, n->op[x].channels, &x, 1);
    const bnff_value value = bnff_avgpool(n->graph, at(n, x), &o);
    pool_defaults(&o);
    op->pool = o;
    return added(n, op, value);
}

int net_adaptive(net *n, int x, int height, int width)
{
    net_op *op = new_op(n, OP_ADAPTIVE, n->op[x].channels, &x, 1);
    op->size[0] = height;
    op->size[1] = width;
    return added(n, op, bnff_adaptive_avgpool(n->graph, at(n, x), height, width));
}

int net_adaptive_max(net *n, int x, int height, int width)
{
    net_op *op = new_op(n, OP_ADAPTIVE_MAX, n->op[x].channels, &x, 1);
    op->size[0] = height;
    op->size[1] = width;
    return added(n, op, bnff_adaptive_maxpool(n->graph, at(n, x), height, width));
}

int net_global(net *n, int x)
{
    net_op *op = new_op(n, OP_ADAPTIVE, n->op[x].channels, &x, 1);
    op->size[0] = op->size[1] = 1;
    return added(n, op, bnff_global_avgpool(n->graph, at(n, x)));
}

int net_add(net *n, int a, int b)
{
    net_op *op = new_op(n, OP_ADD, n->op[a].channels, (const int[]){a, b}, 2);
    return added(n, op, bnff_add(n->graph, at(n, a), at(n, b)));
}

int net_mul(net *n, int a, int b)
{
    net_op *op = new_op(n, OP_MUL, n->op[a].channels, (const int[]){a, b}, 2);
    return added(n, op, bnff_mul(n->graph, at(n, a), at(n, b)));
}

int net_scale(net *n, int x, bnff_scale_options o)
{
    const int c = n->op[x].channels;
    net_op *op = new_op(n, OP_SCALE, c, &x, 1);
    op->factor = o.factor == 0 ? 1 : o.factor;
    op->offset = o.offset;
    if (o.weight) op->weight = new_param(n, "weight", BNFF_PARAM_SCALE, c, 1, 1, 1);
    if (o.bias) op->bias = new_param(n, "bias", BNFF_PARAM_BIAS, c, 1, 1, 1);
    return added(n, op, bnff_scale(n->graph, o.weight || o.bias ? name_of(n) : NULL, at(n, x), &o));
}

int net_gate(net *n, int x, int gate)
{
    net_op *op = new_op(n, OP_GATE, n->op[x].channels, (const int[]){x, gate}, 2);
    return added(n, op, bnff_mul_gate(n->graph, at(n, x), at(n, gate)));
}

int net_concat(net *n, const int *values, int count)
{
    bnff_value parts[NET_INS];
    int channels = 0;
    assert_true(count <= NET_INS);
    for (int i = 0; i < count; i++) parts[i] = at(n, values[i]), channels += n->op[values[i]].channels;
    net_op *op = new_op(n, OP_CONCAT, channels, values, count);
    return added(n, op, bnff_concat(n->graph, parts, count));
}

int net_slice(net *n, int x, int first, int channels)
{
    net_op *op = new_op(n, OP_SLICE, channels, &x, 1);
    op->first = first;
    return added(n, op, bnff_slice(n->graph, at(n, x), first, channels));
}

/* Fixed height and width of x, through its operators; {0, 0} if they depend on the image. */
static void fixed_size(const net *n, int x, int size[2])
{
    while (n->op[x].kind != OP_ADAPTIVE && n->op[x].kind != OP_ADAPTIVE_MAX && n->op[x].kind != OP_LINEAR && n->op[x].kind != OP_RESIZE && n->op[x].ins) x = n->op[x].in[0];
    assert_true(!n->op[x].planned);
    for (int d = 0; d < 2; d++) size[d] = n->op[x].kind == OP_LINEAR ? 1 : n->op[x].kind == OP_RESIZE ? n->op[x].resize.size[d] : n->op[x].size[d];
}

int net_linear(net *n, int x, int out_features, bool bias)
{
    int size[2];
    fixed_size(n, x, size);
    net_op *op = new_op(n, OP_LINEAR, out_features, &x, 1);
    op->weight = new_param(n, "weight", BNFF_PARAM_LINEAR_WEIGHT, out_features, n->op[x].channels * size[0] * size[1], 1, 1);
    if (bias) op->bias = new_param(n, "bias", BNFF_PARAM_BIAS, out_features, 1, 1, 1);
    return added(n, op, bnff_linear(n->graph, name_of(n), at(n, x), out_features, bias));
}

int net_dropout(net *n, int x, float p)
{
    net_op *op = new_op(n, OP_DROPOUT, n->op[x].channels, &x, 1);
    op->p = p;
    op->dropout = n->dropouts++;
    return added(n, op, bnff_dropout(n->graph, at(n, x), p));
}

void net_output(net *n, int x)
{
    assert_true(n->outs < NET_OPS);
    n->out[n->outs++].op = x;
    bnff_output(n->graph, at(n, x));
}

void net_freeze_stats(net *n, int x) { n->op[x].frozen_stats = true; }
void net_freeze_params(net *n, int x) { n->op[x].frozen_weight = n->op[x].frozen_bias = true; }
void net_freeze_one(net *n, int x, bool bias) { *(bias ? &n->op[x].frozen_bias : &n->op[x].frozen_weight) = true; }
