/* What the network has and the training graph does not: a scale is a batch normalization without statistics (bf_bn_attr.scale), and the
 * bias of a transposed convolution a scale behind it. */
#include <string.h>

#include "base/memory.h"
#include "passes/passes.h"

/* The bias of node `of` of `old`, as a scale from a new value to the node's own result; the node writes the new value. */
static bool split_bias(bf_graph *g, bf_node *of)
{
    const bf_value y = g->values[of->out[0]];
    const int bare = bf_graph_value(g, BF_TENSOR, y.n, y.h, y.w, y.c), coefs = bare < 0 ? -1 : bf_graph_value(g, BF_COEFS, 1, 1, 1, y.c);
    bf_node *bias = coefs < 0 ? NULL : bf_graph_node(g, BF_OP_BN, of->name, &bare, 1);
    if (!bias) return false;
    bias->a.bn = (bf_bn_attr){.scale = true, .frozen = true, .factor = 1};
    bias->param[1] = of->param[1];
    bias->out[0] = of->out[0];
    bias->out[1] = coefs;
    bias->out_count = 2;
    /* The convolution, last but one now, writes what has no bias yet. */
    g->nodes[g->node_count - 2].out[0] = bare;
    g->nodes[g->node_count - 2].param[1] = -1;
    return true;
}

bnff_status bf_pass_expand(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    (void)settings;
    bf_node *old = g->nodes;
    const int count = g->node_count;
    g->nodes = NULL;
    g->node_count = g->node_capacity = 0;
    bool ok = true;
    int i = 0;
    for (; ok && i < count; i++) {
        ok = bf_grow((void **)&g->nodes, &g->node_capacity, g->node_count, sizeof *g->nodes);
        if (!ok) break;
        g->nodes[g->node_count++] = old[i]; /* moved: its memory stays */
        if (old[i].op == BF_OP_SCALE) g->nodes[g->node_count - 1].op = BF_OP_BN;
        if (old[i].op == BF_OP_CONVT && old[i].param[1] >= 0) ok = split_bias(g, &old[i]);
    }
    for (; i < count; i++) {
        bf_free(old[i].in);
        bf_free(old[i].name);
    }
    bf_free(old);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph");
}
