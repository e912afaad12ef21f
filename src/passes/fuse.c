/* Fusion (math.md 2): decides for each node whether it runs as a task of its own, in the prologue of its consumers (its value is
 * never stored), or in the epilogue of the task that produces its input (on tiles that are still in cache).
 *
 *   level      in prologues                                in epilogues
 *   layerwise, mvf   nothing                               nothing
 *   rcf        activations before convolutions             masks of activations, after a convolution's backward
 *   bnff, icf  + normalise; input gradients of BN          + statistics; sums of BN gradients
 *   icf        + joins, stored by their first reader
 *   tuned      normalise and joins into the sweep of the   nothing
 *              activation, masks into the sweeps of the BN gradient
 */
#include "base/memory.h"
#include "graph/uses.h"
#include "passes/passes.h"

typedef struct context {
    const bf_graph *g;
    bf_level level;
    bf_placement *place;
    int *cost;        /* per node: operators to run when its value is loaded, itself and what it loads unstored */
    int *writer;      /* per value: index of its only writer; -1 none, -2 several */
    bool *in_view;    /* per value: part of a view, or one */
    int *first_read;  /* per value: start of its readers in `readers` */
    int *readers;     /* node indices, grouped by value, each once */
    int first_backward; /* node */
    bf_uses uses;
} context;

static const bf_node *node_at(const context *c, int i) { return &c->g->nodes[i]; }

static bool is_conv(bf_op op) { return op == BF_OP_CONV || op == BF_OP_CONV_BWD || op == BF_OP_CONVT; }

static bool is_forward(const context *c, int i) { return i < c->first_backward; }

/* Operators that compute each element from the same element of their inputs. */
static bool is_elementwise(bf_op op)
{
    return op == BF_OP_BN_APPLY || op == BF_OP_ACT || op == BF_OP_ADD || op == BF_OP_MUL || op == BF_OP_GATE || op == BF_OP_DROPOUT || op == BF_OP_ACT_BWD ||
           op == BF_OP_BN_DX || op == BF_OP_BN_DEFERRED || op == BF_OP_BN_SCALE;
}

static bool is_reduction(bf_op op) { return op == BF_OP_BN_STATS || op == BF_OP_BN_REDUCE; }

/* Pools and their like: whose results appear tile by tile although nothing is multiplied. */
static bool moves_pixels(bf_op op)
{
    return op == BF_OP_MAXPOOL || op == BF_OP_AVGPOOL || op == BF_OP_MAXPOOL_BWD || op == BF_OP_AVGPOOL_BWD || op == BF_OP_RESIZE || op == BF_OP_RESIZE_BWD || op == BF_OP_SHUFFLE;
}

/* Operators that load their tensor inputs through a prologue. */
static bool takes_prologue(bf_op op)
{
    return is_conv(op) || is_elementwise(op) || is_reduction(op) || moves_pixels(op) || op == BF_OP_OUTPUT || op == BF_OP_COPY || op == BF_OP_GATE_REDUCE;
}

/* Count forward readers of v that satisfy `like` (NULL: any). */
static int forward_readers(const context *c, int v, bool (*like)(bf_op))
{
    int count = 0;
    for (int k = c->first_read[v]; k < c->first_read[v + 1]; k++) {
        const bf_op op = node_at(c, c->readers[k])->op;
        count += is_forward(c, c->readers[k]) && (!like || like(op));
    }
    return count;
}

static bool all_readers(const context *c, int v, bool (*like)(bf_op))
{
    for (int k = c->first_read[v]; k < c->first_read[v + 1]; k++)
        if (!like(node_at(c, c->readers[k])->op)) return false;
    return c->first_read[v + 1] > c->first_read[v];
}

static bool joins(const context *c, int v)
{
    const int w = c->writer[v];
    return w >= 0 && node_at(c, w)->op == BF_OP_ADD;
}

static bool sweep_op(bf_op op) { return op == BF_OP_ACT || op == BF_OP_ADD; }
static bool gradient_sweep_op(bf_op op) { return op == BF_OP_BN_REDUCE || op == BF_OP_BN_DX || op == BF_OP_BN_SCALE || op == BF_OP_ACT_BWD; }

enum { MOST_LOADED = 12 }; /* operators: beyond, running them again for each reader costs more than a store */

/* Why node i may not leave its value unstored, or NULL if it may. */
static const char *cannot_be_virtual(const context *c, int i)
{
    const bf_node *node = node_at(c, i);
    const int v = node->out[0];
    if (c->in_view[v]) return "its result is part of a concatenation or of a shared gradient";
    if (c->writer[v] != i) return "its result is a sum of several contributions";
    if (c->cost[i] > MOST_LOADED) return "too many operators before it are not stored either";
    if (!all_readers(c, v, takes_prologue)) return "a consumer cannot compute it while loading";
    for (int k = c->first_read[v]; k < c->first_read[v + 1]; k++) {
        const bf_node *reader = node_at(c, c->readers[k]);
        if (reader->op == BF_OP_GATE && reader->in[1] == v) return "it gates a product: it has one pixel where that has many";
        if (reader->op == BF_OP_COPY && reader->a.slice.channels != c->g->values[v].c) return "its parts are copied one by one";
    }
    return NULL;
}

static const char *const no_fusion = "this level fuses nothing";

/* Should node i go into its consumers' prologue at this level? NULL: yes; else why not. */
static const char *prologue_declined(const context *c, int i)
{
    const bf_node *node = node_at(c, i);
    const int v = node->out[0];
    const char *no = cannot_be_virtual(c, i);
    switch (c->level) {
    case BF_LAYERWISE:
    case BF_MVF: return no_fusion;
    case BF_RCF:
        if (node->op != BF_OP_ACT) return "level rcf fuses activations alone";
        return forward_readers(c, v, is_conv) == forward_readers(c, v, NULL) && !joins(c, node->in[0]) ? no : "a consumer is not a convolution";
    case BF_TUNED:
        if (node->op == BF_OP_ACT_BWD) return all_readers(c, v, gradient_sweep_op) ? no : "a consumer is not a sweep";
        if (node->op != BF_OP_BN_APPLY && node->op != BF_OP_ADD) return "level tuned stores what convolutions read";
        return forward_readers(c, v, NULL) == 1 && forward_readers(c, v, sweep_op) == 1 ? no : "level tuned stores what convolutions read";
    default:
        if (node->op == BF_OP_ACT && joins(c, node->in[0])) return "a residual join is stored once for its several readers";
        if (node->op == BF_OP_ADD) return forward_readers(c, v, NULL) == 1 && forward_readers(c, v, sweep_op) == 1 ? no : "a residual join is stored once for its several readers";
        return no;
    }
}

/* Does the convolution read every pixel exactly once? Others would compute pixels in a halo again, or leave some out. */
static bool reads_each_pixel(const bf_conv_attr *a)
{
    return a->kh == 1 && a->kw == 1 && a->sh == 1 && a->sw == 1 && !a->ph && !a->pw && !a->linear;
}

/* The convolution that may compute the join i as it loads and store it for the join's other readers; or -1 with the reason. */
static int carrier_of(const context *c, int i, const char **reason)
{
    const int v = node_at(c, i)->out[0];
    *reason = "a residual join is stored once for its several readers";
    if (c->in_view[v] || c->writer[v] != i || c->cost[i] > MOST_LOADED || c->first_read[v + 1] == c->first_read[v]) return -1;
    const int first = c->readers[c->first_read[v]];
    const bf_node *reader = node_at(c, first);
    *reason = "a residual join is stored: its first reader is no convolution";
    if (reader->op != BF_OP_CONV) return -1;
    *reason = "a residual join is stored: its first reader would compute some pixels again, or none of others";
    return reads_each_pixel(&reader->a.conv) && reader->a.conv.groups == 1 ? first : -1;
}

/* -- epilogues -- */

/* The last node before i that writes all of value v, under any name; -1 if the last to touch its storage wrote only a part. */
static int last_writer(const context *c, int v, int i)
{
    int last = -1;
    BF_FOR_ROOTS(&c->uses, v, root)
        for (const bf_use *use = bf_uses_after(&c->uses, *root, i - 1); use-- > c->uses.uses + c->uses.first_use[*root];) {
            if (!use->writes) continue;
            if (use->node > last) last = use->node;
            break;
        }
    for (int k = 0; last >= 0 && k < node_at(c, last)->out_count; k++) {
        const int out = node_at(c, last)->out[k];
        if (bf_values_share(c->g, out, v)) return bf_value_alias(c->g, out) == bf_value_alias(c->g, v) ? last : -1;
    }
    return -1;
}

/* The task on whose tiles value v, as node i reads it, appears complete; or -1. A shared gradient is complete on the tiles of
 * the last that adds to it. */
static int tile_of(const context *c, int v, int i)
{
    int w = c->writer[v];
    if (w == -2 || (c->in_view[v] && (w < 0 || !is_forward(c, w)))) w = last_writer(c, v, i);
    if (w < 0) return -1;
    if (c->place[w].role == BF_ROLE_EPILOGUE) return c->place[w].anchor;
    return c->place[w].role == BF_ROLE_TASK ? w : -1;
}

static bool has_epilogue(bf_op op) { return is_conv(op) || moves_pixels(op) || is_elementwise(op); }

/* Is value v complete before node `at` runs? Values in prologues are as old as what they read. */
static bool ready_before(const context *c, int v, int at)
{
    if (c->g->values[v].parts) {
        for (int k = 0; k < c->g->values[v].part_count; k++)
            if (!ready_before(c, c->g->values[v].parts[k].value, at)) return false;
        return true;
    }
    const int w = c->writer[v];
    if (w == -2) { /* several writers: all must be before */
        for (const bf_use *use = bf_uses_after(&c->uses, v, at - 1); use < c->uses.uses + c->uses.first_use[v + 1]; use++)
            if (use->writes && node_at(c, use->node)->out[0] == v) return false;
        return true;
    }
    if (w >= at || (w >= 0 && c->place[w].role == BF_ROLE_CARRIED && c->place[w].anchor >= at)) return false;
    if (w >= 0 && c->place[w].role == BF_ROLE_PROLOGUE)
        for (int k = 0; k < node_at(c, w)->in_count; k++)
            if (!ready_before(c, node_at(c, w)->in[k], at)) return false;
    return true;
}

/* Does any node after `anchor` and before i read or write the storage that i writes? */
static bool touched_between(const context *c, int anchor, int i)
{
    BF_FOR_ROOTS(&c->uses, node_at(c, i)->out[0], root) {
        const bf_use *use = bf_uses_after(&c->uses, *root, anchor);
        if (use < c->uses.uses + c->uses.first_use[*root + 1] && use->node < i) return true;
    }
    return false;
}

/* The task to whose epilogue node i can move, or -1 with the reason. */
static int epilogue_of(const context *c, int i, const char **reason)
{
    const bf_node *node = node_at(c, i);
    const int anchor = tile_of(c, node->in[0], i);
    *reason = "its input is never complete on the tiles of one task";
    if (anchor < 0 || !has_epilogue(node_at(c, anchor)->op)) return -1;
    for (int k = 1; k < node->in_count; k++)
        if (tile_of(c, node->in[k], i) != anchor && !ready_before(c, node->in[k], anchor)) {
            *reason = "another input is not there yet when its producer runs";
            return -1;
        }
    const bool shared = is_elementwise(node->op) && (c->in_view[node->out[0]] || c->writer[node->out[0]] != i);
    if (shared && touched_between(c, anchor, i)) {
        *reason = "its result is shared with nodes that run in between";
        return -1;
    }
    return anchor;
}

static bool wants_epilogue(const context *c, const bf_node *node)
{
    const bool fused = c->level == BF_BNFF || c->level == BF_ICF;
    if (node->op == BF_OP_ACT_BWD) return fused || c->level == BF_RCF;
    return fused && (is_reduction(node->op) || node->op == BF_OP_BN_SCALE);
}

static void place_node(context *c, int i)
{
    const bf_node *node = node_at(c, i);
    bf_placement *p = &c->place[i];
    *p = (bf_placement){.role = BF_ROLE_TASK, .anchor = i, .reason = ""};
    c->cost[i] = 1;
    for (int k = 0; k < node->in_count; k++) {
        const int w = c->writer[node->in[k]];
        if (w >= 0 && c->place[w].role == BF_ROLE_PROLOGUE) c->cost[i] += c->cost[w];
    }
    if (wants_epilogue(c, node)) {
        const int anchor = epilogue_of(c, i, &p->reason);
        if (anchor >= 0) {
            *p = (bf_placement){BF_ROLE_EPILOGUE, anchor, "on the tiles of its producer"};
            return;
        }
    } else if (is_reduction(node->op)) {
        p->reason = "this level fuses no sums";
    }
    if (is_elementwise(node->op)) {
        const char *declined = prologue_declined(c, i);
        const bool join = node->op == BF_OP_ADD || (node->op == BF_OP_ACT && joins(c, node->in[0]));
        if (!declined) *p = (bf_placement){BF_ROLE_PROLOGUE, i, "computed by its consumers as they load"};
        else if (!*p->reason) p->reason = declined;
        if (!declined || !join || c->level != BF_ICF) return;
        const int carrier = carrier_of(c, i, &p->reason);
        if (carrier >= 0) *p = (bf_placement){BF_ROLE_CARRIED, carrier, "computed by its first consumer as it loads, which stores it for the others"};
    }
}

/* -- who reads and writes what -- */

static void mark_views(context *c)
{
    for (int v = 0; v < c->g->value_count; v++)
        for (int k = 0; k < c->g->values[v].part_count; k++) c->in_view[v] = c->in_view[c->g->values[v].parts[k].value] = true;
}

static bool index_uses(context *c)
{
    const bf_graph *g = c->g;
    int total = 0;
    for (int v = 0; v < g->value_count; v++) c->writer[v] = -1;
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = node_at(c, i);
        for (int k = 0; k < node->out_count; k++)
            if (node->out[k] >= 0) c->writer[node->out[k]] = c->writer[node->out[k]] == -1 ? i : -2;
        for (int k = 0; k < node->in_count; k++) c->first_read[node->in[k] + 1]++;
        total += node->in_count;
    }
    for (int v = 0; v < g->value_count; v++) c->first_read[v + 1] += c->first_read[v];
    c->readers = bf_alloc((size_t)(total + 1) * sizeof *c->readers);
    int *fill = bf_alloc((size_t)g->value_count * sizeof *fill);
    if (!c->readers || !fill) return bf_free(fill), false;
    for (int v = 0; v < g->value_count; v++) fill[v] = c->first_read[v];
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < node_at(c, i)->in_count; k++) c->readers[fill[node_at(c, i)->in[k]]++] = i;
    bf_free(fill);
    c->first_backward = g->node_count;
    for (int i = g->node_count; i-- > 0;)
        if (node_at(c, i)->op == BF_OP_OUTPUT_GRAD) c->first_backward = i;
    return true;
}

bnff_status bf_pass_fuse(const bf_graph *g, const bf_settings *settings, bf_placement *placement, bnff_error *error)
{
    const size_t values = (size_t)g->value_count;
    context c = {.g = g, .level = settings->level, .place = placement};
    c.cost = bf_alloc((size_t)g->node_count * sizeof *c.cost);
    c.writer = bf_alloc(values * sizeof *c.writer);
    c.in_view = bf_calloc(values, sizeof *c.in_view);
    c.first_read = bf_calloc(values + 1, sizeof *c.first_read);
    bool ok = c.cost && c.writer && c.in_view && c.first_read && index_uses(&c) && bf_uses_make(&c.uses, g);
    if (ok) {
        mark_views(&c);
        for (int i = 0; i < g->node_count; i++) place_node(&c, i);
    }
    bf_free(c.cost);
    bf_free(c.writer);
    bf_free(c.in_view);
    bf_free(c.first_read);
    bf_free(c.readers);
    bf_uses_free(&c.uses);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to place %d nodes", g->node_count);
}
