/* Cutting values into blocks.
 *
 * Operands of an elementwise operator must be cut at the same channels, and no block may straddle the border of a concat, a split or
 * a copy. So channel positions of values that meet are tied together: a cut in one is a cut in the other. Cuts start at the borders
 * of views and copies, spread along the ties until nothing changes, and what lies between two cuts is divided into blocks of
 * BF_BLOCK channels. */
#include <string.h>

#include "base/memory.h"
#include "runtime/plan.h"

typedef struct tie {
    int a, a_first, b, b_first, channels; /* channel a_first + i of value a is channel b_first + i of value b */
} tie;

typedef struct cutter {
    const bf_graph *g;
    bool **cuts; /* per value, c + 1 flags */
    tie *ties;
    int count, capacity;
} cutter;

static bool add_tie(cutter *c, int a, int a_first, int b, int b_first, int channels)
{
    if (!bf_grow((void **)&c->ties, &c->capacity, c->count, sizeof *c->ties)) return false;
    c->ties[c->count++] = (tie){a, a_first, b, b_first, channels};
    c->cuts[a][a_first] = c->cuts[a][a_first + channels] = true;
    c->cuts[b][b_first] = c->cuts[b][b_first + channels] = true;
    return true;
}

/* All operands of the node have the same channels. */
static bool tie_all(cutter *c, const bf_node *node)
{
    int like = node->in_count ? node->in[0] : -1;
    for (int k = 0; k < node->in_count + node->out_count; k++) {
        const int v = k < node->in_count ? node->in[k] : node->out[k - node->in_count];
        if (v < 0) continue;
        if (like < 0) like = v;
        if (v != like && !add_tie(c, like, 0, v, 0, c->g->values[v].c)) return false;
    }
    return true;
}

static bool tie_node(cutter *c, const bf_node *node)
{
    switch (node->op) {
    case BF_OP_SHUFFLE: return true; /* any channel may go to any block */
    case BF_OP_CONV:
    case BF_OP_CONVT:
    case BF_OP_CONV_BWD:
        if (bf_group_width(c->g, node) > 0) return tie_all(c, node);
        return node->op != BF_OP_CONV_BWD || node->out[0] < 0 || add_tie(c, node->in[1], 0, node->out[0], 0, c->g->values[node->out[0]].c);
    case BF_OP_CONCAT: {
        int first = 0;
        for (int k = 0; k < node->in_count; k++) {
            const int channels = c->g->values[node->in[k]].c;
            if (!add_tie(c, node->in[k], 0, node->out[0], first, channels)) return false;
            first += channels;
        }
        return true;
    }
    case BF_OP_SLICE:
    case BF_OP_COPY: return add_tie(c, node->in[0], node->a.slice.first, node->out[0], 0, node->a.slice.channels);
    default: return tie_all(c, node);
    }
}

static bool tie_view(cutter *c, int v)
{
    int first = 0;
    for (int k = 0; k < c->g->values[v].part_count; k++) {
        const bf_part *part = &c->g->values[v].parts[k];
        if (!add_tie(c, v, first, part->value, part->first, part->channels)) return false;
        first += part->channels;
    }
    return true;
}

static void spread(cutter *c)
{
    for (bool changed = true; changed;) {
        changed = false;
        for (int t = 0; t < c->count; t++) {
            const tie *k = &c->ties[t];
            bool *a = c->cuts[k->a] + k->a_first, *b = c->cuts[k->b] + k->b_first;
            for (int i = 0; i <= k->channels; i++)
                if (a[i] != b[i]) a[i] = b[i] = changed = true;
        }
    }
}

static int lanes_for(int channels) { return (channels + BF_LANES - 1) / BF_LANES * BF_LANES; }

/* Blocks between the cuts of one value. */
static bool make_blocks(const bool *cuts, int channels, bf_layout *layout)
{
    int count = 0;
    for (int pass = 0; pass < 2; pass++) {
        layout->lanes = count = 0;
        for (int first = 0, end; first < channels; first = end) {
            for (end = first + 1; end < channels && end - first < BF_BLOCK && !cuts[end]; end++) {}
            if (pass) layout->blocks[count] = (bf_block){.first = first, .channels = end - first, .ld = lanes_for(end - first), .lane = layout->lanes};
            layout->lanes += lanes_for(end - first);
            count++;
        }
        if (!pass && !(layout->blocks = bf_calloc((size_t)count, sizeof *layout->blocks))) return false;
    }
    layout->count = count;
    return true;
}

/* The image input in its own dense form: rows of (w + 2 pad) pixels of c < 16 channels with zeros in the padding, so that a first
 * convolution sees all its columns and reads kw*c floats in one run. Possible when convolutions of one padding are its only readers. */
static int dense_padding(const bnff_plan *plan, int v)
{
    const bf_graph *g = &plan->graph;
    int padding = -1;
    if (g->values[v].c >= BF_LANES || g->values[v].grad >= 0) return -1;
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        for (int k = 0; k < node->in_count; k++) {
            if (node->in[k] != v) continue;
            const bf_conv_attr *a = &node->a.conv;
            const bool conv = node->op == BF_OP_CONV || (node->op == BF_OP_CONV_BWD && k == 1);
            if (!conv || a->linear || a->groups != 1 || a->kw < 2 || (padding >= 0 && padding != a->pw)) return -1;
            padding = a->pw;
        }
    }
    for (int u = 0; u < g->value_count; u++)
        for (int k = 0; k < g->values[u].part_count; k++)
            if (g->values[u].parts[k].value == v) return -1;
    return padding;
}

/* Offsets of the blocks in the storage the value owns. */
static bnff_status own_storage(bnff_plan *plan, int v, bnff_error *error)
{
    bf_layout *layout = &plan->layouts[v];
    const bf_value *value = &plan->graph.values[v];
    size_t pixels = bf_pixels(value), floats = 0;
    for (int b = 0; value->kind != BF_TENSOR && b < layout->count; b++) {
        layout->blocks[b].owner = v;
        layout->blocks[b].offset = (size_t)layout->blocks[b].lane;
    }
    if (value->kind != BF_TENSOR) return BNFF_OK;
    if (layout->pad_w) pixels = (size_t)value->n * (size_t)value->h * (size_t)(value->w + 2 * layout->pad_w);
    for (int b = 0; b < layout->count; b++) {
        size_t block;
        layout->blocks[b].owner = v;
        layout->blocks[b].offset = floats;
        if (!bf_size_mul(pixels, (size_t)layout->blocks[b].ld, &block) || !bf_size_add(block, BF_LANES - 1, &block)) goto overflow;
        block = block / BF_LANES * BF_LANES;
        if (!bf_size_add(floats, block, &floats) || floats > SIZE_MAX / 64) goto overflow;
    }
    layout->floats = floats;
    return BNFF_OK;
overflow:
    return bf_fail(error, BNFF_E_MEMORY, "a value of %d x %d x %d x %d is larger than memory can be", value->n, value->h, value->w, value->c);
}

/* Blocks of a view are blocks of its parts; parts may be views themselves, resolved first. */
static void resolve_view(bnff_plan *plan, int v, bool *done)
{
    bf_layout *layout = &plan->layouts[v];
    const bf_value *value = &plan->graph.values[v];
    if (done[v]) return;
    done[v] = true;
    int first = 0, b = 0;
    for (int k = 0; k < value->part_count; k++) {
        const bf_part *part = &value->parts[k];
        resolve_view(plan, part->value, done);
        const bf_layout *of = &plan->layouts[part->value];
        int from = 0;
        while (of->blocks[from].first < part->first) from++;
        for (; b < layout->count && layout->blocks[b].first < first + part->channels; b++, from++) {
            layout->blocks[b].owner = of->blocks[from].owner;
            layout->blocks[b].offset = of->blocks[from].offset;
        }
        first += part->channels;
    }
}

static bnff_status cut_values(bnff_plan *plan, cutter *c, bnff_error *error)
{
    const bf_graph *g = &plan->graph;
    bool ok = c->cuts != NULL;
    for (int v = 0; ok && v < g->value_count; v++) ok = (c->cuts[v] = bf_calloc((size_t)g->values[v].c + 1, sizeof(bool))) != NULL;
    for (int v = 0; ok && v < g->value_count; v++) ok = tie_view(c, v);
    for (int i = 0; ok && i < g->node_count; i++) ok = tie_node(c, &g->nodes[i]);
    if (ok) spread(c);
    for (int v = 0; ok && v < g->value_count; v++) ok = make_blocks(c->cuts[v], g->values[v].c, &plan->layouts[v]);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to lay out %d values", g->value_count);
}

bnff_status bf_make_layouts(bnff_plan *plan, bnff_error *error)
{
    const bf_graph *g = &plan->graph;
    cutter c = {.g = g};
    bool *done = bf_calloc((size_t)g->value_count, sizeof *done);
    c.cuts = bf_calloc((size_t)g->value_count, sizeof *c.cuts);
    plan->layouts = bf_calloc((size_t)g->value_count, sizeof *plan->layouts);
    bnff_status status = done && plan->layouts ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to lay out %d values", g->value_count);
    if (status == BNFF_OK) status = cut_values(plan, &c, error);
    for (int i = 0; status == BNFF_OK && i < g->node_count; i++) {
        const int v = g->nodes[i].op == BF_OP_INPUT ? g->nodes[i].out[0] : -1, padding = v < 0 ? -1 : dense_padding(plan, v);
        if (padding < 0) continue;
        plan->layouts[v].pad_w = padding;
        plan->layouts[v].blocks[0].ld = g->values[v].c;
    }
    for (int v = 0; status == BNFF_OK && v < g->value_count; v++)
        if (!g->values[v].parts) status = own_storage(plan, v, error), done[v] = true;
    for (int v = 0; status == BNFF_OK && v < g->value_count; v++)
        if (g->values[v].parts) resolve_view(plan, v, done);
    for (int v = 0; c.cuts && v < g->value_count; v++) bf_free(c.cuts[v]);
    bf_free(c.cuts);
    bf_free(c.ties);
    bf_free(done);
    return status;
}

bool bf_leaves_cache(const bnff_plan *plan, int value)
{
    const bf_layout *layout = &plan->layouts[value];
    return (double)bf_pixels(&plan->graph.values[value]) * layout->lanes * (double)sizeof(float) > (double)plan->context->target.l3 / 2;
}
