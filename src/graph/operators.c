/* The public graph API, continued: operators beside the ones that every network has. */
#include <math.h>

#include "graph/builder.h"

bnff_value bnff_mul(bnff_graph *g, bnff_value a, bnff_value b)
{
    const bnff_value in[2] = {a, b};
    if (!bf_usable(g, in, 2)) return BNFF_NONE;
    const bf_node *node = bf_add_node(g, BF_OP_MUL, NULL, in, 2);
    return node ? bf_finish(g, node) : BNFF_NONE;
}

bnff_value bnff_scale(bnff_graph *g, const char *name, bnff_value x, const bnff_scale_options *o)
{
    const bool learns = o->weight || o->bias;
    if (!bf_usable(g, &x, 1) || ((learns || name) && !bf_new_name(g, name, "a scale"))) return BNFF_NONE;
    if (!isfinite(o->factor) || !isfinite(o->offset))
        return BF_REFUSE(g, BNFF_E_ARG, "%s: factor %g and offset %g must be finite", name ? name : "scale", (double)o->factor, (double)o->offset);
    const int c = g->ir.values[x].c;
    bf_node *node = bf_add_node(g, BF_OP_SCALE, name, &x, 1);
    const int coefs = node ? bf_graph_value(&g->ir, BF_COEFS, 0, 0, 0, c) : -1;
    if (coefs < 0) return BF_REFUSE(g, BNFF_E_MEMORY, "no memory for another node of the graph");
    node->out[1] = coefs;
    node->out_count = 2;
    node->a.bn = (bf_bn_attr){.scale = true, .frozen = true, .factor = o->factor == 0 ? 1 : o->factor, .offset = o->offset};
    if (o->weight) node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_SCALE, 1, c, 1, 1, 1);
    if (o->bias) node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BIAS, 1, c, 1, 1, 1);
    return bf_finish(g, node);
}
