#include "graph/uses.h"

#include "base/memory.h"

typedef struct list {
    int *at, count, capacity;
} list;

static bool add_roots(const bf_graph *g, int v, list *roots)
{
    const bf_value *value = &g->values[v];
    for (int k = 0; k < value->part_count; k++)
        if (!add_roots(g, value->parts[k].value, roots)) return false;
    if (value->parts) return true;
    if (!bf_grow((void **)&roots->at, &roots->capacity, roots->count, sizeof *roots->at)) return false;
    roots->at[roots->count++] = v;
    return true;
}

/* Visit (root, use) of all operands in the order of the nodes: count them, or put them where `fill` says. */
static void for_uses(bf_uses *u, const bf_graph *g, int *fill)
{
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        for (int k = 0; k < node->in_count + node->out_count; k++) {
            const bool writes = k >= node->in_count;
            const int v = writes ? node->out[k - node->in_count] : node->in[k];
            if (v < 0) continue;
            BF_FOR_ROOTS(u, v, r) {
                if (fill) u->uses[fill[*r]++] = (bf_use){i, writes};
                else u->first_use[*r + 1]++;
            }
        }
    }
}

bool bf_uses_make(bf_uses *u, const bf_graph *g)
{
    const size_t values = (size_t)g->value_count;
    list roots = {0};
    *u = (bf_uses){.first_root = bf_calloc(values + 1, sizeof *u->first_root), .first_use = bf_calloc(values + 1, sizeof *u->first_use)};
    bool ok = u->first_root && u->first_use;
    for (int v = 0; ok && v < g->value_count; v++) {
        ok = add_roots(g, v, &roots);
        u->first_root[v + 1] = roots.count;
    }
    u->roots = roots.at;
    int *fill = ok ? bf_alloc((values + 1) * sizeof *fill) : NULL;
    if (!fill) return false;
    for_uses(u, g, NULL);
    for (int v = 0; v < g->value_count; v++) u->first_use[v + 1] += u->first_use[v];
    for (int v = 0; v < g->value_count; v++) fill[v] = u->first_use[v];
    u->uses = bf_alloc(((size_t)u->first_use[g->value_count] + 1) * sizeof *u->uses);
    if (u->uses) for_uses(u, g, fill);
    bf_free(fill);
    return u->uses;
}

void bf_uses_free(bf_uses *u)
{
    bf_free(u->first_root);
    bf_free(u->roots);
    bf_free(u->first_use);
    bf_free(u->uses);
}

const bf_use *bf_uses_after(const bf_uses *u, int root, int i)
{
    int low = u->first_use[root], high = u->first_use[root + 1];
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (u->uses[middle].node > i) high = middle;
        else low = middle + 1;
    }
    return u->uses + low;
}
