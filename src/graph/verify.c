/* The verifier: run after every pass in debug builds and whenever BNFF_VERIFY is set. */
#include "graph/ir.h"

#include "base/memory.h"

static const struct { int inputs, outputs; } arity[] = {
#define BF_OP(id, text, inputs, outputs) {inputs, outputs},
#include "graph/ops.def"
#undef BF_OP
};

#define WRONG(...) return bf_fail(error, BNFF_E_INTERNAL, "graph verifier, node %d %s: " __VA_ARGS__)

static bnff_status verify_node(const bf_graph *g, int index, const bool *defined, bnff_error *error)
{
    const bf_node *node = &g->nodes[index];
    char label[160];
    bf_node_label(node, label, sizeof label);
    if (arity[node->op].inputs >= 0 && node->in_count != arity[node->op].inputs) WRONG("%d inputs", index, label, node->in_count);
    if (node->out_count > arity[node->op].outputs) WRONG("%d outputs", index, label, node->out_count);
    for (int k = 0; k < node->in_count; k++) {
        const int v = node->in[k];
        if (v < 0 || v >= g->value_count) WRONG("input %d is value %d", index, label, k, v);
        if (!defined[v]) WRONG("reads value %d before it is written", index, label, v);
    }
    for (int k = 0; k < node->out_count; k++)
        if (node->out[k] >= g->value_count) WRONG("output %d is value %d", index, label, k, node->out[k]);
    for (int k = 0; k < 4; k++)
        if (node->param[k] >= g->param_count) WRONG("parameter %d is %d", index, label, k, node->param[k]);
    return BNFF_OK;
}

static bnff_status verify_view(const bf_graph *g, int index, bnff_error *error)
{
    const bf_value *v = &g->values[index];
    int channels = 0;
    for (int i = 0; i < v->part_count; i++) {
        const bf_part *part = &v->parts[i];
        if (part->value < 0 || part->value >= g->value_count || part->value == index)
            return bf_fail(error, BNFF_E_INTERNAL, "graph verifier: view %d of value %d", index, part->value);
        const bf_value *of = &g->values[part->value];
        if (part->first < 0 || part->channels < 1 || part->first + part->channels > of->c || of->n != v->n || of->h != v->h || of->w != v->w)
            return bf_fail(error, BNFF_E_INTERNAL, "graph verifier: view %d does not fit value %d", index, part->value);
        channels += part->channels;
    }
    return !v->parts || channels == v->c ? BNFF_OK : bf_fail(error, BNFF_E_INTERNAL, "graph verifier: view %d has %d of %d channels", index, channels, v->c);
}

/* A view is defined once all its parts are. */
static bool is_defined(const bf_graph *g, int v, const bool *written)
{
    const bf_value *value = &g->values[v];
    if (!value->parts || written[v]) return written[v];
    for (int i = 0; i < value->part_count; i++)
        if (!is_defined(g, value->parts[i].value, written)) return false;
    return true;
}

/* What is written through a view is written to its parts, and theirs. */
static void mark_written(const bf_graph *g, int v, bool *written, bool now)
{
    written[v] = now;
    for (int p = 0; p < g->values[v].part_count; p++) mark_written(g, g->values[v].parts[p].value, written, now);
}

/* Gradients that nothing writes are zero: those of channels that no slice of a concat touches. */
static void mark_zero(const bf_graph *g, bool *zero)
{
    for (int v = 0; v < g->value_count; v++)
        if (g->values[v].grad >= 0 && !g->values[g->values[v].grad].parts) zero[g->values[v].grad] = true;
    for (int i = 0; i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].out_count; k++) {
            const int v = g->nodes[i].out[k];
            const bool joined = v >= 0 && v < g->value_count && bf_value_alias(g, v) != v; /* goes on in the storage that it read */
            if (v >= 0 && v < g->value_count && !joined) mark_written(g, v, zero, false);
        }
}

bnff_status bf_graph_verify(const bf_graph *g, bnff_error *error)
{
    bool *written = bf_calloc((size_t)g->value_count, 2 * sizeof *written), *defined = written + g->value_count;
    if (!written) return bf_fail(error, BNFF_E_MEMORY, "no memory to verify the graph");
    bnff_status status = BNFF_OK;
    for (int i = 0; i < g->value_count; i++) BF_GO(verify_view(g, i, error));
    mark_zero(g, written);
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        for (int k = 0; k < node->in_count; k++)
            if (node->in[k] >= 0 && node->in[k] < g->value_count) defined[node->in[k]] = is_defined(g, node->in[k], written);
        BF_GO(verify_node(g, i, defined, error));
        for (int k = 0; k < node->out_count; k++)
            if (node->out[k] >= 0) mark_written(g, node->out[k], written, true);
    }
fail:
    bf_free(written);
    return status;
}
