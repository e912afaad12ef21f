#include "model.h"

#include <bnff/model.h>

#include "graph/ir.h"
#include "support.h"

enum { CLASSES = 10 };

typedef struct ref_model {
    bnff_graph *graph;
    bnff_state *state;
    int batch, size;
    float *images, *output_gradient;
    bf_graph g;                 /* the graph with shapes */
    ref_tensor *y, *dy;         /* by value */
    ref_tensor *param, *gradient;
    ref_bn_stats *stats;        /* by node */
} ref_model;

static ref_tensor *tensors(int count) { return calloc((size_t)count + 1, sizeof(ref_tensor)); }

static void make_tensors(ref_model *m)
{
    const bf_graph *g = &m->g;
    m->y = tensors(g->value_count), m->dy = tensors(g->value_count);
    m->param = tensors(g->param_count), m->gradient = tensors(g->param_count);
    m->stats = calloc((size_t)g->node_count, sizeof *m->stats);
    for (int v = 0; v < g->value_count; v++) {
        const bf_value *value = &g->values[v];
        if (value->kind == BF_TENSOR) m->y[v] = ref_new(value->n, value->h, value->w, value->c), m->dy[v] = ref_new(value->n, value->h, value->w, value->c);
    }
    for (int p = 0; p < g->param_count; p++) {
        const int64_t *s = g->params[p].shape;
        m->param[p] = ref_new((int)s[0], (int)s[1], (int)s[2], (int)s[3]);
        m->gradient[p] = ref_new((int)s[0], (int)s[1], (int)s[2], (int)s[3]);
        if (g->params[p].rank > 1) free(m->param[p].e), free(m->gradient[p].e), m->param[p].e = m->gradient[p].e = NULL; /* conv64 has none */
        for (int64_t i = 0; i < g->params[p].elements; i++) m->param[p].v[i] = (double)bnff_state_params(m->state)[p][i];
    }
}

static void remove_kinks(bf_graph *g)
{
    for (int i = 0; i < g->node_count; i++) {
        bf_node *node = &g->nodes[i];
        const bool gate = node->op == BF_OP_ACT && (node->a.act.kind == BNFF_SIGMOID || node->a.act.kind == BNFF_HARDSIGMOID); /* stays away from 0 */
        if (node->op == BF_OP_ACT) node->a.act.kind = gate ? BNFF_SIGMOID : BNFF_SILU;
        if (node->op == BF_OP_MAXPOOL) node->op = BF_OP_AVGPOOL;
    }
}

/* With weights as they are initialised. */
static ref_model *new_model(const char *name, int batch, int size, bool smooth)
{
    ref_model *m = calloc(1, sizeof *m);
    bnff_error error;
    m->batch = batch, m->size = size;
    check_ok(bnff_graph_create(&m->graph, &error), &error);
    check_ok(bnff_model_build(m->graph, name, &(bnff_model_options){.classes = CLASSES, .dropout = -1}, &error), &error);
    if (smooth) remove_kinks(&m->graph->ir);
    check_ok(bnff_state_create(m->graph, &m->state, &error), &error);
    check_ok(bnff_state_init(m->state, name, 1, &error), &error);
    assert_true(bf_graph_copy(&m->g, &m->graph->ir));
    check_ok(bf_infer_shapes(&m->g, batch, size, size, NULL, &error), &error);
    make_tensors(m);
    m->images = calloc((size_t)batch * (size_t)size * (size_t)size * 3, sizeof *m->images);
    m->output_gradient = calloc((size_t)batch * CLASSES, sizeof *m->output_gradient);
    return m;
}

static void free_model(ref_model **model)
{
    ref_model *m = *model;
    for (int v = 0; v < m->g.value_count; v++) ref_free(&m->y[v]), ref_free(&m->dy[v]);
    for (int p = 0; p < m->g.param_count; p++) ref_free(&m->param[p]), ref_free(&m->gradient[p]);
    for (int i = 0; i < m->g.node_count; i++) ref_bn_free(&m->stats[i]);
    free(m->y), free(m->dy), free(m->param), free(m->gradient), free(m->stats), free(m->images), free(m->output_gradient);
    bf_graph_clear(&m->g);
    bnff_state_destroy(&m->state);
    bnff_graph_destroy(&m->graph);
    free(m);
    *model = NULL;
}

static bnff_conv_options conv_options(const bf_conv_attr *a, const ref_tensor *x)
{
    if (a->linear) return (bnff_conv_options){.out_channels = a->oc, .kernel = {x->h, x->w}, .stride = {1, 1}, .dilation = {1, 1}, .groups = 1};
    return (bnff_conv_options){.out_channels = a->oc, .kernel = {a->kh, a->kw}, .stride = {a->sh, a->sw}, .padding = {a->ph, a->pw},
                               .dilation = {a->dh, a->dw}, .groups = a->groups};
}

static bnff_pool_options pool_options(const bf_pool_attr *a)
{
    return (bnff_pool_options){.kernel = {a->kh, a->kw}, .stride = {a->sh, a->sw}, .padding = {a->ph, a->pw}, .dilation = {a->dh, a->dw},
                               .ceil_mode = a->ceil_mode, .exclude_pad = a->exclude_pad};
}

static ref_tensor *of(ref_tensor *list, int index) { return index < 0 ? NULL : &list[index]; }

static void forward(ref_model *m, int i)
{
    const bf_node *node = &m->g.nodes[i];
    const ref_tensor *x = node->in_count ? &m->y[node->in[0]] : NULL;
    ref_tensor *y = node->out_count ? &m->y[node->out[0]] : NULL, *weight = of(m->param, node->param[0]), *bias = of(m->param, node->param[1]);
    int first = 0;
    switch (node->op) {
    case BF_OP_INPUT:
    case BF_OP_OUTPUT: break;
    case BF_OP_CONV: {
        const bnff_conv_options o = conv_options(&node->a.conv, x);
        conv64(x, weight->v, bias ? bias->v : NULL, &o, y);
        break;
    }
    case BF_OP_BN: {
        ref_tensor mean = ref_new(1, 1, 1, x->c), var = ref_new(1, 1, 1, x->c); /* running statistics: not wanted */
        ref_bn_free(&m->stats[i]);
        ref_bn(x, weight, bias, &mean, &var, (double)node->a.bn.eps, 0, true, &m->stats[i], y);
        ref_free(&mean), ref_free(&var);
        break;
    }
    case BF_OP_ACT: ref_activate(x, node->a.act.kind, (double)node->a.act.slope, y); break;
    case BF_OP_MAXPOOL: {
        const bnff_pool_options o = pool_options(&node->a.pool);
        ref_maxpool(x, &o, y);
        break;
    }
    case BF_OP_AVGPOOL: {
        const bnff_pool_options o = pool_options(&node->a.pool);
        if (node->a.pool.out_h) ref_adaptive(x, y);
        else ref_avgpool(x, &o, y);
        break;
    }
    case BF_OP_ADD: ref_add(x, &m->y[node->in[1]], y); break;
    case BF_OP_CONCAT:
        for (int k = 0; k < node->in_count; first += m->y[node->in[k++]].c) ref_channels(&m->y[node->in[k]], 0, m->y[node->in[k]].c, first, y);
        break;
    case BF_OP_SLICE: ref_channels(x, node->a.slice.first, node->a.slice.channels, 0, y); break;
    case BF_OP_GATE: ref_gate(x, &m->y[node->in[1]], y); break;
    case BF_OP_SHUFFLE: ref_shuffle(x, node->a.shuffle.groups, y); break;
    default: fail_msg("the float64 models know no %s", bf_op_text(node->op));
    }
}

static void backward(ref_model *m, int i)
{
    const bf_node *node = &m->g.nodes[i];
    const ref_tensor *x = node->in_count ? &m->y[node->in[0]] : NULL, *dy = node->out_count ? &m->dy[node->out[0]] : NULL;
    ref_tensor *dx = node->in_count ? &m->dy[node->in[0]] : NULL, *weight = of(m->param, node->param[0]);
    ref_tensor *dweight = of(m->gradient, node->param[0]), *dbias = of(m->gradient, node->param[1]);
    int first = 0;
    switch (node->op) {
    case BF_OP_CONV: {
        const bnff_conv_options o = conv_options(&node->a.conv, x);
        conv64_backward(x, weight->v, &o, dy, dx, dweight->v, dbias ? dbias->v : NULL);
        break;
    }
    case BF_OP_BN: ref_bn_backward(x, weight, &m->stats[i], true, dy, dx, dweight, dbias); break;
    case BF_OP_ACT: ref_activate_backward(x, node->a.act.kind, (double)node->a.act.slope, dy, dx); break;
    case BF_OP_MAXPOOL: {
        const bnff_pool_options o = pool_options(&node->a.pool);
        ref_maxpool_backward(x, &o, dy, dx);
        break;
    }
    case BF_OP_AVGPOOL: {
        const bnff_pool_options o = pool_options(&node->a.pool);
        if (node->a.pool.out_h) ref_adaptive_backward(x, dy, dx);
        else ref_avgpool_backward(x, &o, dy, dx);
        break;
    }
    case BF_OP_ADD:
        for (int k = 0; k < 2; k++) ref_channels_backward(dy, 0, dy->c, 0, &m->dy[node->in[k]]);
        break;
    case BF_OP_CONCAT:
        for (int k = 0; k < node->in_count; first += m->y[node->in[k++]].c) ref_channels_backward(dy, 0, m->y[node->in[k]].c, first, &m->dy[node->in[k]]);
        break;
    case BF_OP_SLICE: ref_channels_backward(dy, node->a.slice.first, node->a.slice.channels, 0, dx); break;
    case BF_OP_GATE: ref_gate_backward(x, &m->y[node->in[1]], dy, dx, &m->dy[node->in[1]]); break;
    case BF_OP_SHUFFLE: ref_shuffle_backward(node->a.shuffle.groups, dy, dx); break;
    default: break;
    }
}

static void clear(ref_tensor *t)
{
    memset(t->v, 0, ref_count(t) * sizeof *t->v);
    if (t->e) memset(t->e, 0, ref_count(t) * sizeof *t->e);
}

static int value_of(const ref_model *m, bf_op op)
{
    for (int i = 0; i < m->g.node_count; i++)
        if (m->g.nodes[i].op == op) return op == BF_OP_INPUT ? m->g.nodes[i].out[0] : m->g.nodes[i].in[0];
    fail_msg("no %s", bf_op_text(op));
    return -1;
}

/* New images and gradient; forward and backward. */
static void reference_step(ref_model *m)
{
    const int in = value_of(m, BF_OP_INPUT), out = value_of(m, BF_OP_OUTPUT);
    for (size_t i = 0; i < ref_count(&m->y[in]); i++) m->y[in].v[i] = (double)(m->images[i] = (float)random_normal());
    for (int i = 0; i < m->g.node_count; i++) forward(m, i);
    for (int v = 0; v < m->g.value_count; v++)
        if (m->g.values[v].kind == BF_TENSOR) clear(&m->dy[v]);
    for (int p = 0; p < m->g.param_count; p++) clear(&m->gradient[p]);
    for (size_t i = 0; i < ref_count(&m->dy[out]); i++) m->dy[out].v[i] = (double)(m->output_gradient[i] = (float)random_normal());
    for (int i = m->g.node_count; i-- > 0;) backward(m, i);
}

/* -- The library's side -- */

static void library_step(ref_model *m, bnff_context *context, const char *level, const char *algorithm, float *const *gradients)
{
    bnff_error error;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    const bnff_plan_options options = {.size = sizeof options, .batch = m->batch, .height = m->size, .width = m->size, .mode = BNFF_TRAIN, .level = level,
                                       .algorithm = algorithm};
    check_ok(bnff_plan_create(context, m->graph, &options, &plan, &error), &error);
    check_ok(bnff_pool_create(context, &pool, &error), &error);
    check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
    const bnff_tensor in = bnff_nhwc(m->images, m->size, m->size, 3), dy = bnff_nhwc(m->output_gradient, 1, 1, CLASSES);
    bnff_tensor out = {0};
    const bnff_forward_args forward_args = {.size = sizeof forward_args, .inputs = &in, .outputs = &out, .params = bnff_state_params(m->state)};
    const bnff_backward_args backward_args = {.size = sizeof backward_args, .output_gradients = &dy, .param_gradients = gradients};
    check_ok(bnff_forward(run, &forward_args, &error), &error);
    check_ok(bnff_backward(run, &backward_args, &error), &error);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
}

/* Of the library's gradients of the same step. */
static double error_of(ref_model *m, bnff_context *context, const char *level, const char *algorithm)
{
    const int count = m->g.param_count;
    float **gradients = calloc((size_t)count, sizeof *gradients);
    for (int p = 0; p < count; p++) {
        const bnff_param_kind kind = m->g.params[p].kind;
        if (kind != BNFF_PARAM_RUNNING_MEAN && kind != BNFF_PARAM_RUNNING_VAR) gradients[p] = calloc((size_t)m->g.params[p].elements, sizeof **gradients);
    }
    library_step(m, context, level, algorithm, gradients);
    double difference = 0, norm = 0;
    for (int p = 0; p < count; p++) {
        for (size_t i = 0; gradients[p] && i < ref_count(&m->gradient[p]); i++) {
            const double want = m->gradient[p].v[i], off = (double)gradients[p][i] - want;
            difference += off * off, norm += want * want;
        }
        free(gradients[p]);
    }
    free(gradients);
    return sqrt(difference / norm);
}

/* -- Ways -- */

/* Levels with direct convolutions, layerwise first, then algorithms at the default level. */
static int list_ways(ref_way ways[REF_WAYS])
{
    int count = 0;
    for (int l = 0; bnff_level_name(l); l++) ways[count++] = (ref_way){bnff_level_name(l), "direct", 0, 2};
    for (int a = 0; bnff_algorithm_name(a); a++) {
        const char *name = bnff_algorithm_name(a);
        const bool exact = strcmp(name, "f4") && strcmp(name, "fast");
        if (strcmp(name, "direct")) ways[count++] = (ref_way){bnff_default_level(), name, 0, exact ? 2 : 4};
    }
    assert_true(count <= REF_WAYS);
    return count;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

int ref_model_compare(const char *name, int batch, int size, int inputs, bool smooth, ref_way ways[REF_WAYS])
{
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 2}, &context, &error), &error);
    const int count = list_ways(ways);
    double *errors = calloc((size_t)(count * inputs), sizeof *errors); /* [way][input] */
    ref_model *m = new_model(name, batch, size, smooth);
    for (int i = 0; i < inputs; i++) {
        reference_step(m);
        for (int w = 0; w < count; w++) errors[w * inputs + i] = error_of(m, context, ways[w].level, ways[w].algorithm);
    }
    for (int w = 0; w < count; w++) {
        qsort(&errors[w * inputs], (size_t)inputs, sizeof *errors, ascending);
        ways[w].error = errors[w * inputs + inputs / 2];
    }
    free_model(&m);
    free(errors);
    bnff_context_destroy(&context);
    return count;
}
