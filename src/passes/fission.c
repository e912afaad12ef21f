/* Fission (math.md 1): a batch normalization is two sub-layers with a barrier over the mini-batch between them.
 *     bn      -> bn_stats, bn_finalize, bn_apply            frozen: bn_const, bn_apply
 *     bn_bwd  -> bn_reduce, bn_grad_finalize, bn_dx         frozen: bn_scale, and the sums only if gamma or beta learn
 * Nothing is fused yet: the halves run one after the other as any framework runs them. */
#include <string.h>

#include "base/memory.h"
#include "passes/passes.h"

static bf_node *append_like(bf_graph *g, const bf_node *like, bf_op op, const int *in, int in_count, int out)
{
    bf_node *node = bf_graph_node(g, op, like->name, in, in_count);
    if (!node) return NULL;
    node->a = like->a;
    memcpy(node->param, like->param, sizeof node->param);
    node->out[0] = out;
    node->out_count = 1;
    return node;
}

static bool split_forward(bf_graph *g, const bf_node *bn, bf_level level)
{
    const int x = bn->in[0], y = bn->out[0], coefs = bn->out[1];
    if (bn->a.bn.frozen) {
        if (!append_like(g, bn, BF_OP_BN_CONST, NULL, 0, coefs)) return false;
    } else {
        const int stats = bf_graph_value(g, BF_STATS, 1, 1, 1, g->values[x].c);
        bf_node *node = stats < 0 ? NULL : append_like(g, bn, BF_OP_BN_STATS, &x, 1, stats);
        if (!node) return false;
        node->a.bn.sweeps = level == BF_LAYERWISE ? 2 : 1;
        if (!append_like(g, bn, BF_OP_BN_FINALIZE, &stats, 1, coefs)) return false;
    }
    return append_like(g, bn, BF_OP_BN_APPLY, (const int[]){x, coefs}, 2, y);
}

static bool split_backward(bf_graph *g, const bf_node *bn)
{
    const int dy = bn->in[0], x = bn->in[1], coefs = bn->in[2], dx = bn->out[0], c = g->values[x].c;
    int grad_coefs = -1;
    if (!bn->a.bn.frozen || bn->a.bn.want_affine) {
        const int sums = bf_graph_value(g, BF_SUMS, 1, 1, 1, c);
        grad_coefs = bf_graph_value(g, BF_GRAD_COEFS, 1, 1, 1, c);
        if (sums < 0 || grad_coefs < 0 || !append_like(g, bn, BF_OP_BN_REDUCE, (const int[]){dy, x, coefs}, 3, sums) ||
            !append_like(g, bn, BF_OP_BN_GRAD_FINALIZE, (const int[]){sums, coefs}, 2, grad_coefs)) return false;
    }
    if (dx < 0) return true;
    return bn->a.bn.frozen ? append_like(g, bn, BF_OP_BN_SCALE, (const int[]){dy, coefs}, 2, dx) != NULL
                           : append_like(g, bn, BF_OP_BN_DX, (const int[]){dy, x, coefs, grad_coefs}, 4, dx) != NULL;
}

static bool split(bf_graph *g, bf_node *node, void *level)
{
    return node->op == BF_OP_BN       ? split_forward(g, node, *(const bf_level *)level)
           : node->op == BF_OP_BN_BWD ? split_backward(g, node)
                                      : bf_graph_move(g, node);
}

bnff_status bf_pass_fission(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    bf_level level = settings->level;
    return bf_graph_rewrite(g, split, &level) ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph");
}
