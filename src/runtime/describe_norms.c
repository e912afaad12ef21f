/* Each batch normalization: where its pieces run, or why they need a sweep of their own. The pieces are found by name: the passes
 * give them the name of the node they come from. */
#include <stdio.h>
#include <string.h>

#include "runtime/words.h"

enum { MOST_NAMED = 3 }; /* tasks named in a line; the rest is counted */

typedef struct writer {
    const bnff_plan *plan;
    const bf_graph *g;
    bf_text *text;
    bool json;
    int pieces; /* of the BN at hand, so far */
} writer;

static int find(const bf_graph *g, bf_op op, const char *name)
{
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].op == op && g->nodes[i].name && !strcmp(g->nodes[i].name, name)) return i;
    return -1;
}

static int writer_of(const bf_graph *g, int value)
{
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].out_count; k++)
            if (g->nodes[i].out[k] == value) return i;
    return -1;
}

/* -- tasks that a piece runs in -- */

typedef struct task_list {
    int nodes[64], count, more;
} task_list;

static void add_task(task_list *list, int node)
{
    for (int i = 0; i < list->count; i++)
        if (list->nodes[i] == node) return;
    if (list->count < (int)(sizeof list->nodes / sizeof *list->nodes)) list->nodes[list->count++] = node;
    else list->more++;
}

/* Tasks that load `value`, themselves or through values they compute as they load. */
static void add_loaders(const bnff_plan *plan, int value, task_list *list)
{
    for (int i = 0; i < plan->graph.node_count; i++) {
        const bf_node *node = &plan->graph.nodes[i];
        bool reads = false;
        for (int k = 0; k < node->in_count; k++) reads |= node->in[k] == value;
        if (!reads) continue;
        const bf_placement *p = &plan->placement[i];
        if (p->role == BF_ROLE_PROLOGUE) add_loaders(plan, node->out[0], list);
        else add_task(list, p->anchor);
    }
}

static void add_places(const bnff_plan *plan, int node, task_list *list)
{
    const bf_placement *p = &plan->placement[node];
    if (p->role == BF_ROLE_EPILOGUE) add_task(list, p->anchor);
    else if (p->role == BF_ROLE_PROLOGUE) add_loaders(plan, plan->graph.nodes[node].out[0], list);
    else add_task(list, node);
}

static void print_tasks(const writer *w, const task_list *list)
{
    for (int i = 0; i < list->count; i++) {
        if (!w->json && i == MOST_NAMED && list->count + list->more > MOST_NAMED + 1) {
            bf_text_add(w->text, " and %d more", list->count + list->more - MOST_NAMED);
            return;
        }
        bf_text label = {0};
        bf_label_node(w->g, list->nodes[i], &label);
        if (label.failed) w->text->failed = true;
        else if (w->json) bf_text_add(w->text, "%s", i ? "," : ""), bf_text_json(w->text, label.data);
        else bf_text_add(w->text, "%s%s", i ? ", " : "", label.data);
        bf_text_free(&label);
    }
}

/* -- pieces -- */

/* One piece of work, done by `count` nodes that are all placed alike; count 0 with a remark in place of where. */
static void piece(writer *w, const char *name, const int *nodes, int count, const char *remark)
{
    static const char *const placed[] = {"sweep", "loading", "storing"};
    task_list list = {.count = 0};
    for (int i = 0; i < count; i++) add_places(w->plan, nodes[i], &list);
    const bf_placement *p = count ? &w->plan->placement[nodes[0]] : NULL;
    const char *reason = p && p->role == BF_ROLE_TASK ? p->reason : "";
    if (w->json) {
        bf_text_add(w->text, "%s{\"piece\":\"%s\",\"placed\":\"%s\",\"tasks\":[", w->pieces++ ? "," : "", name, p ? placed[p->role] : "nowhere");
        print_tasks(w, &list);
        bf_text_add(w->text, "],\"reason\":");
        bf_text_json(w->text, *reason ? reason : remark ? remark : "");
        bf_text_add(w->text, "}");
        return;
    }
    bf_text_add(w->text, "    %-22s ", name);
    if (p && p->role == BF_ROLE_TASK) {
        bf_text_add(w->text, "a sweep of its own: %s", reason);
    } else if (p) {
        bf_text_add(w->text, "as ");
        print_tasks(w, &list);
        bf_text_add(w->text, list.count > 1 ? " %s" : " %ss", p->role == BF_ROLE_PROLOGUE ? "load" : "store");
    }
    bf_text_add(w->text, "%s%s\n", p && remark ? "; " : "", remark ? remark : "");
}

/* All bn_stats nodes behind a statistics value, which may be a view of several. */
static int stats_nodes(const bf_graph *g, int value, int *nodes, int most)
{
    const bf_value *v = &g->values[value];
    if (!v->parts) {
        const int node = writer_of(g, value);
        return node >= 0 && most > 0 ? (nodes[0] = node, 1) : 0;
    }
    int count = 0;
    for (int i = 0; i < v->part_count; i++) count += stats_nodes(g, v->parts[i].value, nodes + count, most - count);
    return count;
}

static void statistics(writer *w, const bf_node *apply)
{
    const int made = writer_of(w->g, apply->in[1]);
    if (made < 0 || w->g->nodes[made].op == BF_OP_BN_CONST) {
        piece(w, "statistics", NULL, 0, w->plan->settings.train ? "none: frozen, the running ones are used" : "none: evaluation uses the running ones");
        return;
    }
    int nodes[64];
    const int count = stats_nodes(w->g, w->g->nodes[made].in[0], nodes, 64);
    int elsewhere = 0;
    for (int i = 0; i < count; i++) elsewhere += strcmp(w->g->nodes[nodes[i]].name, apply->name) != 0;
    const bool two = count && w->g->nodes[nodes[0]].a.bn.sweeps == 2;
    char remark[96];
    snprintf(remark, sizeof remark, "%d of its %d feature maps share them with normalizations before it", elsewhere, count);
    piece(w, "statistics", nodes, count, elsewhere ? remark : two ? "two sweeps, for the mean and for the deviations from it" : NULL);
}

/* The activation that reads the normalised value alone; or -1. */
static int activation_after(const bf_graph *g, int y)
{
    int found = -1, readers = 0;
    for (int i = 0; i < g->node_count && g->nodes[i].op != BF_OP_OUTPUT_GRAD; i++)
        for (int k = 0; k < g->nodes[i].in_count; k++)
            if (g->nodes[i].in[k] == y) readers++, found = g->nodes[i].op == BF_OP_ACT ? i : -1;
    return readers == 1 ? found : -1;
}

static void activation(writer *w, int act)
{
    const bf_node *node = &w->g->nodes[act];
    int derivative = -1;
    for (int i = act + 1; i < w->g->node_count; i++)
        if (w->g->nodes[i].op == BF_OP_ACT_BWD && (w->g->nodes[i].in[1] == node->in[0] || w->g->nodes[i].in[1] == node->out[0])) derivative = i;
    if (derivative < 0) return;
    const bf_act kind = {node->a.act.kind, node->a.act.slope};
    char name[64];
    snprintf(name, sizeof name, "derivative of %s", bf_act_word(&kind));
    const int u = writer_of(w->g, w->g->nodes[derivative].in[1]);
    const bool again = u >= 0 && w->plan->placement[u].role == BF_ROLE_PROLOGUE;
    piece(w, name, &derivative, 1, again ? "y computed again from the stored x" : NULL);
}

/* What goes through mean and variance of a shared feature map, where the map's producer reads its gradient. */
static int deferred_nodes(const bf_graph *g, int grad_coefs, int *nodes, int most)
{
    int count = 0;
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *d = &g->nodes[i];
        if (d->op != BF_OP_BN_DEFERRED) continue;
        const bf_node *collect = &g->nodes[writer_of(g, d->in[3])];
        for (int k = 0; k < collect->in_count && count < most; k++)
            if (g->values[collect->in[k]].parts && g->values[collect->in[k]].parts[0].value == grad_coefs) nodes[count++] = i;
    }
    return count;
}

static void backward(writer *w, const bf_node *apply)
{
    const int sums = find(w->g, BF_OP_BN_REDUCE, apply->name), dx = find(w->g, BF_OP_BN_DX, apply->name), scale = find(w->g, BF_OP_BN_SCALE, apply->name);
    const int finalize = find(w->g, BF_OP_BN_GRAD_FINALIZE, apply->name);
    if (sums >= 0) piece(w, "gradient sums", &sums, 1, NULL);
    if (dx >= 0) piece(w, "input gradient", &dx, 1, NULL);
    if (scale < 0) return;
    int nodes[64];
    const int count = finalize >= 0 ? deferred_nodes(w->g, w->g->nodes[finalize].out[0], nodes, 64) : 0;
    piece(w, "input gradient", &scale, 1, count ? "only scale * dy, added to the gradient of the feature map" : "only scale * dy: its statistics are constants");
    if (count) piece(w, "  through mean and var", nodes, count, "once for all normalizations of a feature map");
}

static void norm(writer *w, int index)
{
    const bf_node *apply = &w->g->nodes[index];
    const bf_value *x = &w->g->values[apply->in[0]];
    const int act = activation_after(w->g, apply->out[0]);
    w->pieces = 0;
    if (w->json) {
        bf_text_add(w->text, "{\"layer\":");
        bf_text_json(w->text, apply->name);
        bf_text_add(w->text, ",\"channels\":%d,\"height\":%d,\"width\":%d,\"pieces\":[", x->c, x->h, x->w);
    } else bf_text_add(w->text, "\n  %s  (%d channels, %d x %d)\n", apply->name, x->c, x->h, x->w);
    statistics(w, apply);
    piece(w, "normalise", &index, 1, NULL);
    if (w->plan->settings.train) {
        if (act >= 0) activation(w, act);
        backward(w, apply);
    }
    if (w->json) bf_text_add(w->text, "]}");
}

void bf_describe_norms(const bnff_plan *plan, bool json, bf_text *text)
{
    writer w = {.plan = plan, .g = &plan->graph, .text = text, .json = json};
    bool first = true;
    for (int i = 0; i < plan->graph.node_count; i++) {
        if (plan->graph.nodes[i].op != BF_OP_BN_APPLY || plan->graph.nodes[i].a.bn.scale) continue;
        if (json && !first) bf_text_add(text, ",");
        first = false;
        norm(&w, i);
    }
}
