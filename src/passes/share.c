/* Statistics belong to feature maps, not to the BNs that read them (math.md 4). Level icf:
 *   forward   one bn_stats per feature map, next to what makes it; a BN of a concatenation reads a view of its parts' statistics
 *   backward  where several BNs read a feature map, each adds only s*dy to the map's gradient G; what goes through mean and variance
 *             is collected per channel and applied once, when the map's own producer reads G:  dx = G + fma(sum c1, x - p, sum c0)
 */
#include <string.h>

#include "base/memory.h"
#include "passes/passes.h"

/* Contributions of one feature map's BNs: the channels of their coefficients that describe it. */
typedef struct deferred {
    int *grad_coefs;     /* vector views, one a BN */
    int count, capacity;
    int coefs;           /* of any of them: they share mean and pivot */
    int dx;              /* what the producer reads in place of G */
} deferred;

typedef struct sharing {
    bf_graph *g;
    int values;          /* of the graph as it was; the arrays below have as many */
    int *stats;          /* per value: statistics of the feature map, or -1 */
    int *readers;        /* per value: BNs (in training mode) that read the feature map */
    int *map;            /* per value: the feature map whose gradient it is, or -1 */
    bool *renamed;       /* per value: known under another name as a whole */
    deferred *maps;      /* per value: what its gradient is yet to get */
    bf_part *roots;      /* of the value at hand: parts that own storage */
    int root_count, root_capacity;
} sharing;

static bool flatten(sharing *s, int value, int first, int channels)
{
    const bf_value *v = &s->g->values[value];
    if (!v->parts) {
        if (!bf_grow((void **)&s->roots, &s->root_capacity, s->root_count, sizeof *s->roots)) return false;
        s->roots[s->root_count++] = (bf_part){value, first, channels};
        return true;
    }
    int at = 0;
    for (int i = 0; i < v->part_count; i++) {
        const bf_part part = v->parts[i];
        const int low = first > at ? first : at, high = first + channels < at + part.channels ? first + channels : at + part.channels;
        if (low < high && !flatten(s, part.value, part.first + low - at, high - low)) return false;
        at += part.channels;
        v = &s->g->values[value];
    }
    return true;
}

static bool roots_of(sharing *s, int value)
{
    s->root_count = 0;
    return flatten(s, value, 0, s->g->values[value].c);
}

/* -- forward -- */

/* The bn_stats `node` of x becomes statistics of the feature maps of x, each computed at its first use, and a view of them. */
static bool share_stats(sharing *s, const bf_node *node)
{
    const int x = node->in[0], out = node->out[0];
    const bf_bn_attr attributes = node->a.bn;
    if (!roots_of(s, x)) return false;
    for (int i = 0; i < s->root_count; i++) {
        const int root = s->roots[i].value;
        s->readers[root]++;
        if (s->stats[root] >= 0) continue;
        s->stats[root] = bf_graph_value(s->g, BF_STATS, 1, 1, 1, s->g->values[root].c);
        bf_node *stats = s->stats[root] < 0 ? NULL : bf_graph_node(s->g, BF_OP_BN_STATS, node->name, &root, 1);
        if (!stats) return false;
        stats->a.bn = attributes;
        stats->out[0] = s->stats[root];
        stats->out_count = 1;
    }
    for (int i = 0; i < s->root_count; i++) s->roots[i].value = s->stats[s->roots[i].value];
    return bf_graph_view(s->g, out, s->roots, s->root_count);
}

/* -- backward -- */

/* Is the gradient of feature map x one that can be deferred: storage of its own, known under no other name as a whole? */
static bool can_defer(const sharing *s, int x)
{
    const int grad = s->g->values[x].grad;
    return grad >= 0 && !s->g->values[grad].parts && !s->renamed[grad];
}

/* May bn_dx `node` be deferred? Every part of x must be a whole feature map whose gradient can be. */
static bool defers(sharing *s, const bf_node *node)
{
    if (!roots_of(s, node->in[1])) return false;
    bool several = s->root_count > 1;
    for (int i = 0; i < s->root_count; i++) {
        const bf_part *root = &s->roots[i];
        if (root->first || root->channels != s->g->values[root->value].c) return false;
        if (s->g->values[root->value].grad >= 0 && !can_defer(s, root->value)) return false;
        several |= s->readers[root->value] > 1;
    }
    return several;
}

static int view_of(bf_graph *g, int vector, int first, int channels)
{
    const int view = bf_graph_value(g, g->values[vector].kind, 1, 1, 1, channels);
    return view >= 0 && bf_graph_view(g, view, &(bf_part){vector, first, channels}, 1) ? view : -1;
}

/* Turn bn_dx into bn_scale and remember, per feature map, which coefficients to apply later. */
static bool defer(sharing *s, bf_node *node)
{
    const int coefs = node->in[2], grad_coefs = node->in[3];
    node->op = BF_OP_BN_SCALE;
    node->in[1] = coefs;
    node->in_count = 2;
    int first = 0;
    for (int i = 0; i < s->root_count; i++) {
        const int root = s->roots[i].value, channels = s->roots[i].channels;
        deferred *map = &s->maps[root];
        if (s->g->values[root].grad >= 0) {
            const int part = view_of(s->g, grad_coefs, first, channels);
            if (part < 0 || !bf_grow((void **)&map->grad_coefs, &map->capacity, map->count, sizeof *map->grad_coefs)) return false;
            map->grad_coefs[map->count++] = part;
            if (map->coefs < 0 && (map->coefs = view_of(s->g, coefs, first, channels)) < 0) return false;
        }
        first += channels;
    }
    return true;
}

/* Before the first reader of G: collect the coefficients, and the value that readers take instead. */
static bool apply(sharing *s, int x, deferred *map)
{
    const bf_value v = s->g->values[x];
    const int collected = bf_graph_value(s->g, BF_GRAD_COEFS, 1, 1, 1, v.c);
    bf_node *collect = collected < 0 ? NULL : bf_graph_node(s->g, BF_OP_BN_COLLECT, NULL, map->grad_coefs, map->count);
    if (!collect) return false;
    collect->out[0] = collected;
    collect->out_count = 1;
    map->dx = bf_graph_value(s->g, BF_TENSOR, v.n, v.h, v.w, v.c);
    bf_node *node = map->dx < 0 ? NULL : bf_graph_node(s->g, BF_OP_BN_DEFERRED, NULL, (const int[]){v.grad, x, map->coefs, collected}, 4);
    if (!node) return false;
    node->out[0] = map->dx;
    node->out_count = 1;
    return true;
}

/* -- the pass -- */

/* Feature map whose deferred gradient `grad` is, or -1. */
static int map_of(const sharing *s, int grad)
{
    const int x = grad < s->values ? s->map[grad] : -1;
    return x >= 0 && s->maps[x].count ? x : -1;
}

static bool index_values(sharing *s)
{
    const size_t values = (size_t)s->values;
    s->stats = bf_alloc(values * sizeof *s->stats);
    s->readers = bf_calloc(values, sizeof *s->readers);
    s->map = bf_alloc(values * sizeof *s->map);
    s->renamed = bf_calloc(values, sizeof *s->renamed);
    s->maps = bf_calloc(values, sizeof *s->maps);
    if (!s->stats || !s->readers || !s->map || !s->renamed || !s->maps) return false;
    for (int v = 0; v < s->values; v++) s->stats[v] = s->map[v] = s->maps[v].coefs = s->maps[v].dx = -1;
    for (int v = 0; v < s->values; v++) {
        const bf_value *value = &s->g->values[v];
        if (value->grad >= 0) s->map[value->grad] = v;
        if (value->part_count == 1 && value->kind == BF_TENSOR) s->renamed[value->parts[0].value] = true;
    }
    return true;
}

static bool share(bf_graph *g, bf_node *node, void *user)
{
    sharing *s = user;
    if (node->op == BF_OP_BN_STATS) return share_stats(s, node);
    if (node->op == BF_OP_BN_DX && defers(s, node) && !defer(s, node)) return false;
    for (int k = 0; k < node->in_count; k++) {
        const int x = node->op == BF_OP_BN_SCALE && k == 1 ? -1 : map_of(s, node->in[k]);
        if (x < 0) continue;
        if (s->maps[x].dx < 0 && !apply(s, x, &s->maps[x])) return false;
        node->in[k] = s->maps[x].dx;
    }
    return bf_graph_move(g, node);
}

bnff_status bf_pass_share(bf_graph *g, const bf_settings *settings, bnff_error *error)
{
    if (settings->level != BF_ICF) return BNFF_OK;
    sharing s = {.g = g, .values = g->value_count};
    const bool ok = index_values(&s) && bf_graph_rewrite(g, share, &s);
    for (int v = 0; s.maps && v < s.values; v++) bf_free(s.maps[v].grad_coefs);
    bf_free(s.maps);
    bf_free(s.stats);
    bf_free(s.readers);
    bf_free(s.map);
    bf_free(s.renamed);
    bf_free(s.roots);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the training graph");
}
