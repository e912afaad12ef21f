#include "graph/ir.h"

#include <stdio.h>
#include <string.h>

#include "base/memory.h"

const char *bf_op_text(bf_op op)
{
    static const char *const text[] = {
#define BF_OP(id, text, inputs, outputs) text,
#include "graph/ops.def"
#undef BF_OP
    };
    return text[op];
}

const char *bf_activation_text(int kind)
{
    static const char *const text[] = {"identity", "relu", "relu6", "leaky_relu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "gelu", "elu", "mish"};
    return kind >= 0 && kind < (int)(sizeof text / sizeof *text) ? text[kind] : NULL;
}

void bf_node_label(const bf_node *node, char *text, size_t size)
{
    if (node->name) snprintf(text, size, "%s (%s)", node->name, bf_op_text(node->op));
    else if (node->out_count && node->out[0] >= 0) snprintf(text, size, "%s of value %d", bf_op_text(node->op), node->out[0]);
    else snprintf(text, size, "%s", bf_op_text(node->op));
}

int bf_graph_value(bf_graph *g, bf_value_kind kind, int n, int h, int w, int c)
{
    if (!bf_grow((void **)&g->values, &g->value_capacity, g->value_count, sizeof *g->values)) return -1;
    g->values[g->value_count] = (bf_value){.kind = kind, .n = n, .h = h, .w = w, .c = c, .grad = -1};
    return g->value_count++;
}

bf_node *bf_graph_node(bf_graph *g, bf_op op, const char *name, const int *in, int in_count)
{
    if (!bf_grow((void **)&g->nodes, &g->node_capacity, g->node_count, sizeof *g->nodes)) return NULL;
    bf_node node = {.op = op, .in_count = in_count, .out = {-1, -1}, .param = {-1, -1, -1, -1}};
    node.in = bf_alloc((size_t)in_count * sizeof *node.in);
    if (name) node.name = bf_strdup(name);
    if (!node.in || (name && !node.name)) {
        bf_free(node.in);
        bf_free(node.name);
        return NULL;
    }
    if (in_count) memcpy(node.in, in, (size_t)in_count * sizeof *in);
    g->nodes[g->node_count] = node;
    return &g->nodes[g->node_count++];
}

static void free_node(bf_node *node)
{
    bf_free(node->in);
    bf_free(node->name);
}

bool bf_graph_move(bf_graph *g, bf_node *node)
{
    if (!bf_grow((void **)&g->nodes, &g->node_capacity, g->node_count, sizeof *g->nodes)) return false;
    g->nodes[g->node_count++] = *node;
    node->in = NULL;
    node->name = NULL;
    return true;
}

bool bf_graph_rewrite(bf_graph *g, bool (*rewrite)(bf_graph *g, bf_node *node, void *user), void *user)
{
    bf_node *old = g->nodes;
    const int count = g->node_count;
    g->nodes = NULL;
    g->node_count = g->node_capacity = 0;
    bool ok = true;
    for (int i = 0; i < count; i++) {
        ok = ok && rewrite(g, &old[i], user);
        free_node(&old[i]);
    }
    bf_free(old);
    return ok;
}

typedef struct parts {
    bf_part *at;
    int count, capacity;
} parts;

/* Append the part, or what it is made of if it is a view itself. */
static bool add_part(const bf_graph *g, parts *list, bf_part part)
{
    const bf_value *v = &g->values[part.value];
    if (!v->parts) {
        if (!bf_grow((void **)&list->at, &list->capacity, list->count, sizeof *list->at)) return false;
        list->at[list->count++] = part;
        return true;
    }
    int at = 0;
    for (int i = 0; i < v->part_count; at += v->parts[i++].channels) {
        const bf_part *of = &v->parts[i];
        const int low = part.first > at ? part.first : at, end = at + of->channels, high = part.first + part.channels < end ? part.first + part.channels : end;
        if (low < high && !add_part(g, list, (bf_part){of->value, of->first + low - at, high - low})) return false;
    }
    return true;
}

/* Views of views are resolved here: otherwise the ways through them would double with every split and concat of a stack. */
bool bf_graph_view(bf_graph *g, int value, const bf_part *of, int count)
{
    parts list = {0};
    for (int i = 0; i < count; i++)
        if (!add_part(g, &list, of[i])) return bf_free(list.at), false;
    bf_free(g->values[value].parts);
    g->values[value].parts = list.at;
    g->values[value].part_count = list.count;
    return true;
}

int bf_graph_param(bf_graph *g, const char *owner, const char *suffix, bnff_param_kind kind, int rank, const int64_t shape[4])
{
    if (!bf_grow((void **)&g->params, &g->param_capacity, g->param_count, sizeof *g->params)) return -1;
    const size_t length = strlen(owner) + strlen(suffix) + 2;
    char *name = bf_alloc(length);
    if (!name) return -1;
    snprintf(name, length, "%s.%s", owner, suffix);
    bf_param param = {.name = name, .kind = kind, .rank = rank, .shape = {1, 1, 1, 1}, .elements = 1};
    for (int i = 0; i < rank; i++) param.shape[i] = shape[i], param.elements *= shape[i];
    g->params[g->param_count] = param;
    return g->param_count++;
}

void bf_graph_clear(bf_graph *g)
{
    for (int i = 0; i < g->node_count; i++) free_node(&g->nodes[i]);
    for (int i = 0; i < g->value_count; i++) bf_free(g->values[i].parts);
    for (int i = 0; i < g->param_count; i++) bf_free(g->params[i].name);
    bf_free(g->nodes);
    bf_free(g->values);
    bf_free(g->params);
    *g = (bf_graph){0};
}

int bf_value_alias(const bf_graph *g, int v)
{
    for (;;) {
        const bf_value *value = &g->values[v];
        if (value->part_count != 1 || value->parts[0].first || value->parts[0].channels != g->values[value->parts[0].value].c) return v;
        v = value->parts[0].value;
    }
}

static bool within(const bf_graph *g, int value, int of)
{
    if (value == of) return true;
    for (int i = 0; i < g->values[of].part_count; i++)
        if (within(g, value, g->values[of].parts[i].value)) return true;
    return false;
}

bool bf_values_share(const bf_graph *g, int a, int b)
{
    if (a < 0 || b < 0) return false;
    if (within(g, a, b)) return true;
    for (int i = 0; i < g->values[a].part_count; i++)
        if (bf_values_share(g, g->values[a].parts[i].value, b)) return true;
    return false;
}

void bf_graph_prune(bf_graph *g, const bool *keep)
{
    int kept = 0;
    for (int i = 0; i < g->node_count; i++) {
        if (keep[i]) g->nodes[kept++] = g->nodes[i];
        else free_node(&g->nodes[i]);
    }
    g->node_count = kept;
}

bool bf_graph_copy(bf_graph *to, const bf_graph *from)
{
    *to = (bf_graph){.input_count = from->input_count, .output_count = from->output_count, .dropout_count = from->dropout_count};
    for (int i = 0; i < from->value_count; i++) {
        const bf_value *v = &from->values[i];
        const int copy = bf_graph_value(to, v->kind, v->n, v->h, v->w, v->c);
        if (copy < 0) goto fail;
        to->values[copy].grad = v->grad;
        if (v->parts && !bf_graph_view(to, copy, v->parts, v->part_count)) goto fail;
    }
    for (int i = 0; i < from->param_count; i++) {
        if (!bf_grow((void **)&to->params, &to->param_capacity, i, sizeof *to->params)) goto fail;
        to->params[i] = from->params[i];
        if (!(to->params[i].name = bf_strdup(from->params[i].name))) goto fail;
        to->param_count = i + 1;
    }
    for (int i = 0; i < from->node_count; i++) {
        const bf_node *n = &from->nodes[i];
        bf_node *copy = bf_graph_node(to, n->op, n->name, n->in, n->in_count);
        if (!copy) goto fail;
        copy->out_count = n->out_count;
        memcpy(copy->out, n->out, sizeof n->out);
        memcpy(copy->param, n->param, sizeof n->param);
        copy->a = n->a;
    }
    return true;
fail:
    bf_graph_clear(to);
    return false;
}
