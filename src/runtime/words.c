#include "runtime/words.h"

/* -- nodes -- */

static int forward_writer(const bf_graph *g, int value)
{
    while (g->values[value].parts) value = g->values[value].parts[g->values[value].part_count - 1].value;
    for (int i = 0; i < g->node_count; i++)
        if (g->nodes[i].out_count && g->nodes[i].out[0] == value) return i;
    return -1;
}

/* The value of the forward whose gradient `value` is; value itself if it is none. */
static int forward_value(const bf_graph *g, int value)
{
    for (int v = 0; v < g->value_count; v++)
        if (g->values[v].grad >= 0 && bf_value_alias(g, g->values[v].grad) == bf_value_alias(g, value)) return v;
    return value;
}

/* The feature map that a collection is for. */
static int collected_map(const bf_graph *g, int collect)
{
    for (int i = collect + 1; i < g->node_count; i++)
        if (g->nodes[i].op == BF_OP_BN_DEFERRED && g->nodes[i].in[3] == g->nodes[collect].out[0]) return g->nodes[i].in[1];
    return g->nodes[collect].out[0];
}

/* The tensor that a node without a name is called after: what it computes from, or the gradient of what it computes. */
static int landmark(const bf_graph *g, int node)
{
    const bf_node *n = &g->nodes[node];
    if (n->op == BF_OP_BN_COLLECT) return collected_map(g, node);
    if (n->op == BF_OP_BN_DEFERRED) return n->in[1];
    const int of = n->out_count && n->out[0] >= 0 ? forward_value(g, n->out[0]) : -1;
    if (of >= 0 && (of != n->out[0] || !n->in_count)) return of;
    return n->in_count ? forward_value(g, n->in[0]) : -1;
}

static void label_operator(const bf_node *n, bf_text *text)
{
    const bf_act act = n->op == BF_OP_ACT || n->op == BF_OP_ACT_BWD ? (bf_act){n->a.act.kind, n->a.act.slope} : (bf_act){BNFF_IDENTITY, 0};
    if (bf_act_word(&act)) bf_text_add(text, "%s%s", bf_act_word(&act), n->op == BF_OP_ACT_BWD ? "_bwd" : "");
    else bf_text_add(text, "%s", bf_op_text(n->op));
}

void bf_label_node(const bf_graph *g, int node, bf_text *text)
{
    const bf_node *n = &g->nodes[node];
    label_operator(n, text);
    if (n->name) {
        bf_text_add(text, " %s", n->name);
        return;
    }
    const bool end = n->op == BF_OP_OUTPUT || n->op == BF_OP_OUTPUT_GRAD || n->op == BF_OP_BN_COLLECT || n->op == BF_OP_BN_DEFERRED;
    for (int value = landmark(g, node), w; value >= 0 && (w = forward_writer(g, value)) >= 0; value = g->nodes[w].in_count ? g->nodes[w].in[0] : -1) {
        if (!g->nodes[w].name) continue;
        bf_text_add(text, " %s %s", end ? "of" : "after", g->nodes[w].name);
        return;
    }
}

/* -- programs -- */

const char *bf_act_word(const bf_act *act)
{
    static const char *const words[] = {NULL, "relu", "relu6", "leaky relu", "silu", "hardswish", "sigmoid", "hardsigmoid", "tanh", "gelu", "elu", "mish"};
    return words[act->kind];
}

static const char sums_word[] = "bn gradient sums", dx_word[] = "bn input gradient";

static const char *step_word(const bf_step *s)
{
    switch (s->kind) {
    case BF_STEP_AFFINE_ACT: return "normalise";
    case BF_STEP_ADD_ACT: return "add";
    case BF_STEP_AFFINE_ADD_ACT: return "normalise + add";
    case BF_STEP_ACT_GRAD:
    case BF_STEP_AFFINE_ACT_GRAD:
    case BF_STEP_AFFINE_ACT_BN_DX: return "derivative of";
    case BF_STEP_BN_DX: return dx_word;
    case BF_STEP_DEFERRED: return "bn input gradient of all readers";
    case BF_STEP_SCALE: return "scale";
    case BF_STEP_SCALE_TO: return "scale into gradient";
    case BF_STEP_MUL: return "product";
    case BF_STEP_GATE: return "gate";
    case BF_STEP_DROPOUT: return "dropout";
    case BF_STEP_COMPLETE: return "add what is stored";
    case BF_STEP_STATS: return "statistics";
    case BF_STEP_BN_SUMS: return sums_word;
    case BF_STEP_ZERO: return "clear";
    case BF_STEP_COPY: return s->owner ? "store" : NULL;
    default: return NULL; /* copies */
    }
}

void bf_program_words(const bf_program *program, bf_text *text)
{
    const size_t start = text->length;
    for (int i = 0; i < program->count; i++) {
        const bf_step *s = &program->steps[i];
        const bool acts = s->kind == BF_STEP_ACT || s->kind == BF_STEP_AFFINE_ACT || s->kind == BF_STEP_ADD_ACT || s->kind == BF_STEP_AFFINE_ADD_ACT;
        const bool derives = s->kind == BF_STEP_ACT_GRAD || s->kind == BF_STEP_AFFINE_ACT_GRAD || s->kind == BF_STEP_AFFINE_ACT_BN_DX;
        const char *word = step_word(s), *act = acts || derives ? bf_act_word(&s->act) : NULL, *join = text->length > start ? " + " : "";
        if (word) bf_text_add(text, "%s%s", join, word);
        if (act) bf_text_add(text, "%s%s", word && derives ? " " : word ? " + " : join, act);
        if (derives && s->sums >= 0) bf_text_add(text, " + %s", sums_word);
        if (s->kind == BF_STEP_AFFINE_ACT_BN_DX) bf_text_add(text, " + %s", dx_word);
    }
}

void bf_task_loads(const bf_task *task, bf_text *text)
{
    const bool named = task->load[0].count && task->load[1].count;
    if (task->load[0].count) bf_text_add(text, named ? "x: " : ""), bf_program_words(&task->load[0], text);
    if (named) bf_text_add(text, "; dy: ");
    if (task->load[1].count) bf_program_words(&task->load[1], text);
}

void bf_task_stores(const bf_task *task, bf_text *text) { bf_program_words(&task->epilogue, text); }
