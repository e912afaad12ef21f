/* What the network has and the training graph does not: a scale is a batch normalization without statistics (bf_bn_attr.scale), and the
 * bias of a transposed convolution a scale behind it. */
#include <string.h>

#include "base/memory.h"
#include "passes/passes.h"

/* The node writes a new value without the bias, and a scale from that to the node's own result follows. */
static bool split_bias(bf_graph *g, bf_node *node)
{
    const int y = node->out[0], bias = node->param[1];
    const bf_value shape = g->values[y];
    const int bare = bf_graph_value(g, BF_TENSOR, shape.n, shape.h, shape.w, shape.c), coefs = bare < 0 ? -1 : bf_graph_value(g, BF_COEFS, 1, 1, 1, shape.c);
    const char *name = node->name;
    node->out[0] = bare;
    node->param[1] = -1;
    bf_node *scale = coefs >= 0 && bf_graph_move(g, node) ? bf_graph_node(g, BF_OP_BN, name, &bare, 1) : NULL;
    if (!scale) return false;
    scale->a.bn = (bf_bn_attr){.scale = true, .frozen = true, .factor = 1};
    scale->param[1] = bias;
    scale->out[0] = y;
    scale->out[1] = coefs;
    scale->out_count = 2;
    return true;
}

static bool expand(bf_graph *g, bf_node *node, void *user)
{
    (void)user;
    if (node->op == BF_OP_CONVT && node->param[1] >= 0) return split_bias(g, node);
    if (node->op == BF_OP_SCALE) node->op = BF_OP_BN;
    return bf_graph_move(g, node);
}

bnff_status bf_pass_expand(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    (void)settings;
    return bf_graph_rewrite(g, expand, NULL) ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph");
}
