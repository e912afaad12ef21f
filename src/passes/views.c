/* Concatenations and slices without copies (engine.md 2): the result becomes a view of its parts, and its gradient a view of
 * theirs, so that consumers gather and scatter by segment. Gradients that pass a residual join unchanged share its storage.
 * Levels below icf, except tuned, copy as frameworks do. */
#include "base/memory.h"
#include "passes/passes.h"

/* -- forward joins -- */

/* Do two ranges of channels, seen through views, meet in storage? */
static bool meet(const bf_graph *g, bf_part a, bf_part b)
{
    const bf_value *v = &g->values[a.value];
    if (!v->parts) {
        if (!g->values[b.value].parts) return a.value == b.value && a.first < b.first + b.channels && b.first < a.first + a.channels;
        return meet(g, b, a);
    }
    int at = 0;
    for (int i = 0; i < v->part_count; at += v->parts[i++].channels) {
        const bf_part *part = &v->parts[i];
        const int low = a.first > at ? a.first : at, high = a.first + a.channels < at + part->channels ? a.first + a.channels : at + part->channels;
        if (low < high && meet(g, (bf_part){part->value, part->first + low - at, high - low}, b)) return true;
    }
    return false;
}

/* Are channels of one feature map in a concat twice? The gradient of a view would have two places for them in one storage. */
static bool repeats(const bf_graph *g, const bf_node *node)
{
    for (int i = 0; i < node->in_count; i++)
        for (int k = 0; k < i; k++)
            if (meet(g, (bf_part){node->in[i], 0, g->values[node->in[i]].c}, (bf_part){node->in[k], 0, g->values[node->in[k]].c})) return true;
    return false;
}

/* The view of a concat's inputs, or of their gradients; a part that wants no gradient is written to a value nobody reads. */
static bool concat_view(bf_graph *g, const bf_node *node, bool gradients)
{
    bf_part *parts = bf_alloc((size_t)node->in_count * sizeof *parts);
    bool ok = parts != NULL;
    for (int i = 0; ok && i < node->in_count; i++) {
        const bf_value v = g->values[node->in[i]];
        int of = gradients ? v.grad : node->in[i];
        if (of < 0) of = bf_graph_value(g, BF_TENSOR, v.n, v.h, v.w, v.c);
        if (of < 0) ok = false;
        else parts[i] = (bf_part){of, 0, v.c};
    }
    const int y = node->out[0];
    ok = ok && bf_graph_view(g, gradients ? g->values[y].grad : y, parts, node->in_count);
    bf_free(parts);
    return ok;
}

static bool slice_view(bf_graph *g, const bf_node *node, bool gradients)
{
    const int x = node->in[0], y = node->out[0];
    const bf_part part = {gradients ? g->values[x].grad : x, node->a.slice.first, node->a.slice.channels};
    return bf_graph_view(g, gradients ? g->values[y].grad : y, &part, 1);
}

/* Is the gradient of forward value y, made a view, never read? Its only readers are the copies to the parts. */
static bool copied_only(const bf_graph *g, int dy)
{
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].in_count; k++)
            if (g->nodes[i].in[k] == dy && g->nodes[i].op != BF_OP_COPY) return false;
    return true;
}

static bool make_views(bf_graph *g, bool *keep)
{
    const int count = g->node_count;
    for (int i = 0; i < count; i++) {
        const bf_node *node = &g->nodes[i];
        if ((node->op != BF_OP_CONCAT || repeats(g, node)) && node->op != BF_OP_SLICE) continue;
        const int dy = g->values[node->out[0]].grad;
        const bool slice = node->op == BF_OP_SLICE;
        if (dy >= 0 && !copied_only(g, dy)) continue;
        if (!(slice ? slice_view(g, node, false) : concat_view(g, node, false))) return false;
        keep[i] = false;
        if (dy < 0) continue;
        if (!(slice ? slice_view(g, node, true) : concat_view(g, node, true))) return false;
        for (int k = i + 1; k < count; k++)
            if (g->nodes[k].op == BF_OP_COPY && g->nodes[k].in[0] == dy) keep[k] = false;
    }
    return true;
}

/* -- gradients that pass a join unchanged -- */

static bool writes(const bf_graph *g, const bf_node *node, int v) { return node->out_count && bf_values_share(g, node->out[0], v); }

static bool elementwise(bf_op op)
{
    return op == BF_OP_ACT || op == BF_OP_ADD || op == BF_OP_MUL || op == BF_OP_BN_APPLY || op == BF_OP_ACT_BWD || op == BF_OP_BN_DX || op == BF_OP_BN_SCALE ||
           op == BF_OP_GATE || op == BF_OP_DROPOUT || op == BF_OP_COPY;
}

/* Per node, the last position at which it may still read its inputs: an elementwise node may move into its consumers. */
static int *read_positions(const bf_graph *g)
{
    int *last = bf_alloc((size_t)g->node_count * sizeof *last), *reach = bf_calloc((size_t)g->value_count, sizeof *reach);
    for (int i = g->node_count; last && reach && i-- > 0;) {
        const bf_node *node = &g->nodes[i];
        last[i] = elementwise(node->op) && reach[node->out[0]] > i ? reach[node->out[0]] : i;
        for (int k = 0; k < node->in_count; k++)
            if (reach[node->in[k]] < last[i]) reach[node->in[k]] = last[i];
    }
    if (!reach) bf_free(last), last = NULL;
    bf_free(reach);
    return last;
}

/* May the value `to`, first written by the copy at `at` from `from`, live in from's storage? Yes if everything that reads `from`
 * (under any name) is through before anything adds to `to`, and nothing writes `from` afterwards. */
static bool may_share(const bf_graph *g, int at, int from, int to, const bool *keep, const int *positions)
{
    if (g->values[to].parts) return false;
    int next_write = g->node_count, last_read = at;
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        if (!keep[i] || i == at) continue;
        if (writes(g, node, to)) {
            if (i < at) return false;
            if (i < next_write) next_write = i;
        }
        if (i > at && writes(g, node, from)) return false;
        for (int k = 0; i > at && k < node->in_count; k++)
            if (bf_values_share(g, node->in[k], from) && positions[i] > last_read) last_read = positions[i];
    }
    return next_write == g->node_count || last_read < next_write;
}

static bool share_joins(bf_graph *g, bool *keep)
{
    int *positions = read_positions(g);
    bool ok = positions != NULL;
    for (int i = 0; ok && i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        if (!keep[i] || node->op != BF_OP_COPY) continue;
        const int from = node->in[0], to = node->out[0];
        if (node->a.slice.first || node->a.slice.channels != g->values[from].c || !may_share(g, i, from, to, keep, positions)) continue;
        const bf_part part = {from, 0, g->values[from].c};
        ok = bf_graph_view(g, to, &part, 1);
        keep[i] = false;
    }
    bf_free(positions);
    return ok;
}

bnff_status bf_pass_views(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    if (settings->level != BF_ICF && settings->level != BF_TUNED) return BNFF_OK;
    bool *keep = bf_alloc((size_t)g->node_count * sizeof *keep);
    bool ok = keep != NULL;
    for (int i = 0; ok && i < g->node_count; i++) keep[i] = true;
    ok = ok && make_views(g, keep) && share_joins(g, keep);
    if (ok) bf_graph_prune(g, keep);
    bf_free(keep);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph");
}
