/* What a network consists of, operator by operator, for people. */
#include "graph/ir.h"

/* Learnt numbers of a node; its weight's elements, which are also the multiply-adds of one output pixel, go to *weight. */
static int64_t learnt(const bf_graph *g, const bf_node *node, int64_t *weight)
{
    int64_t total = 0;
    *weight = 0;
    for (int i = 0; i < 4; i++) {
        if (node->param[i] < 0) continue;
        const bf_param *param = &g->params[node->param[i]];
        if (param->kind == BNFF_PARAM_RUNNING_MEAN || param->kind == BNFF_PARAM_RUNNING_VAR) continue;
        if (param->kind == BNFF_PARAM_CONV_WEIGHT || param->kind == BNFF_PARAM_LINEAR_WEIGHT) *weight += param->elements;
        total += param->elements;
    }
    return total;
}

static bnff_conv_options conv_options(const bf_conv_attr *a, bool bias)
{
    const bnff_conv_options options = {.out_channels = a->oc, .kernel = {a->kh, a->kw}, .stride = {a->sh, a->sw}, .padding = {a->ph, a->pw},
                                       .dilation = {a->dh, a->dw}, .groups = a->groups, .bias = bias};
    return options;
}

bnff_status bnff_graph_layers(const bnff_graph *graph, int batch, int height, int width,
                              void (*visit)(void *user, const bnff_layer_info *layer), void *user, bnff_error *error)
{
    bf_graph g = {0};
    BF_TRY(bnff_graph_status(graph, error));
    if (!bf_graph_copy(&g, &graph->ir)) return bf_fail(error, BNFF_E_MEMORY, "no memory to describe the network");
    const bnff_status status = bf_infer_shapes(&g, batch, height, width, NULL, error);
    for (int i = 0; status == BNFF_OK && i < g.node_count; i++) {
        const bf_node *node = &g.nodes[i];
        const int value = node->op == BF_OP_OUTPUT ? node->in[0] : node->out[0];
        const bf_value *y = &g.values[value];
        int64_t weight;
        bnff_layer_info layer = {.name = graph->ir.nodes[i].name, .op = bf_op_text(node->op), .shape = {y->n, y->h, y->w, y->c}};
        if (node->in_count) {
            const bf_value *x = &g.values[node->in[0]];
            layer.input[0] = x->n, layer.input[1] = x->h, layer.input[2] = x->w, layer.input[3] = x->c;
        }
        if (node->op == BF_OP_CONV && node->a.conv.linear) layer.op = "linear";
        else if (node->op == BF_OP_CONV) layer.conv = conv_options(&node->a.conv, node->param[1] >= 0);
        layer.params = learnt(&g, node, &weight);
        const bf_value *pixels = node->op == BF_OP_CONVT ? &g.values[node->in[0]] : y; /* which each multiply all weights once */
        layer.macs = (double)weight * pixels->n * pixels->h * pixels->w;
        visit(user, &layer);
    }
    bf_graph_clear(&g);
    return status;
}
