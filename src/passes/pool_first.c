/* Pooling first (math.md 6): average pooling commutes with a 1x1 convolution, both being linear and the one acting on pixels, the other on
 * channels. Where nothing else reads the convolution's output,
 *     conv -> avgpool   becomes   avgpool -> conv
 * and the convolution multiplies only the pixels that are left: a quarter of them in a DenseNet's transitions. A bias passes through windows
 * whose weights sum to 1. */
#include "base/memory.h"
#include "passes/passes.h"

/* Do the weights of every window sum to 1? Padding that is counted takes some away. */
static bool averages_pixels(const bf_pool_attr *a) { return a->out_h || a->exclude_pad || (!a->ph && !a->pw); }

static bool commutes(const bf_graph *g, const bf_node *conv, const bf_node *pool)
{
    const bf_conv_attr *a = &conv->a.conv;
    if (a->linear || a->kh != 1 || a->kw != 1 || a->sh != 1 || a->sw != 1 || a->ph || a->pw) return false;
    if (conv->param[1] >= 0 && !averages_pixels(&pool->a.pool)) return false;
    const bf_value *in = &g->values[pool->in[0]], *out = &g->values[pool->out[0]];
    return (long long)out->h * out->w < (long long)in->h * in->w;
}

/* Exchange nodes c (the convolution) and p (the pooling that alone reads it). The value between them takes the pooled shape. */
static void exchange(bf_graph *g, int c, int p)
{
    bf_node conv = g->nodes[c], pool = g->nodes[p];
    bf_value *between = &g->values[conv.out[0]];
    const bf_value *out = &g->values[pool.out[0]];
    if (!conv.a.conv.nominal_h) conv.a.conv.nominal_h = between->h, conv.a.conv.nominal_w = between->w;
    between->h = out->h, between->w = out->w, between->c = g->values[conv.in[0]].c;
    const int y = pool.out[0];
    pool.out[0] = conv.out[0], conv.out[0] = y;
    pool.in[0] = conv.in[0], conv.in[0] = pool.out[0];
    g->nodes[c] = pool, g->nodes[p] = conv;
}

bnff_status bf_pass_pool_first(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    if (!settings->pool_first) return BNFF_OK;
    const size_t values = (size_t)g->value_count;
    int *writer = bf_alloc(values * sizeof *writer), *reads = bf_calloc(values, sizeof *reads);
    const bool ok = writer && reads;
    for (int v = 0; ok && v < g->value_count; v++) writer[v] = -1;
    for (int i = 0; ok && i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        for (int k = 0; k < node->in_count; k++) reads[node->in[k]]++;
        if (node->out_count) writer[node->out[0]] = i;
    }
    for (int i = 0; ok && i < g->node_count; i++) {
        for (int p = i; g->nodes[p].op == BF_OP_AVGPOOL;) { /* past one convolution after the other */
            const int between = g->nodes[p].in[0], c = writer[between];
            if (c < 0 || g->nodes[c].op != BF_OP_CONV || reads[between] != 1 || !commutes(g, &g->nodes[c], &g->nodes[p])) break;
            exchange(g, c, p);
            p = c;
        }
    }
    bf_free(writer);
    bf_free(reads);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to order %d nodes", g->node_count);
}
