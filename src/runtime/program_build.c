#include "runtime/program_build.h"

#include <string.h>

#include "base/memory.h"

const bf_operand bf_build_nothing = {BF_NOTHING, 0, 0};

void bf_build_step(bf_builder *b, bf_step step)
{
    if (bf_grow((void **)&b->program->steps, &b->program->capacity, b->program->count, sizeof *b->program->steps)) {
        b->program->steps[b->program->count++] = step;
        return;
    }
    bf_free(step.add_block);
    b->failed = true;
}

void bf_build_known(bf_builder *b, int value, bf_operand at)
{
    if (bf_grow((void **)&b->known, &b->known_capacity, b->known_count, sizeof *b->known))
        b->known[b->known_count++] = (struct bf_known){bf_value_alias(&b->plan->graph, value), at};
    else b->failed = true;
}

/* -- what can be done in one pass is one step -- */

static bool same(const bf_operand *a, const bf_operand *b) { return a->kind == b->kind && a->index == b->index && a->shift == b->shift; }

static bool follows(const bf_step *mask, const bf_step *s)
{
    return mask->kind == BF_STEP_AFFINE_ACT_GRAD && mask->sums < 0 && same(&mask->dst, &s->a) && same(&mask->b, &s->b) && mask->coefs == s->coefs;
}

/* The step whose result step i sums, if nothing in between but copies of it. */
static bf_step *summed_by(bf_program *program, int i)
{
    bf_step *sums = &program->steps[i];
    for (int k = i; k-- > 0;) {
        bf_step *s = &program->steps[k];
        if (follows(s, sums)) return s->stream ? NULL : s;
        if ((s->kind != BF_STEP_COPY && s->kind != BF_STEP_STORE) || !same(&s->a, &sums->a)) return NULL;
    }
    return NULL;
}

static bool read_behind(const bf_program *program, int i, const bf_operand *o)
{
    for (i++; i < program->count; i++)
        if (same(&program->steps[i].a, o) || same(&program->steps[i].b, o)) return true;
    return false;
}

static void drop_step(bf_program *program, int i)
{
    memmove(&program->steps[i], &program->steps[i + 1], (size_t)(--program->count - i) * sizeof *program->steps);
}

static void merge_steps(bf_program *program)
{
    for (int i = 1; i < program->count; i++) {
        bf_step *s = &program->steps[i], *before = &program->steps[i - 1], *mask;
        if (s->kind == BF_STEP_BN_SUMS && (mask = summed_by(program, i))) {
            mask->sums = s->sums;
            drop_step(program, i--);
        } else if (s->kind == BF_STEP_BN_DX && follows(before, s) && s->a.kind == BF_TEMP && !read_behind(program, i, &s->a)) {
            s->kind = BF_STEP_AFFINE_ACT_BN_DX;
            s->a = before->a;
            s->act = before->act;
            drop_step(program, --i);
        }
    }
}

bool bf_build_end(bf_builder *b)
{
    merge_steps(b->program);
    bf_free(b->known);
    return !b->failed;
}

static const bf_operand *find_known(const bf_builder *b, int value)
{
    value = bf_value_alias(&b->plan->graph, value);
    for (int i = b->known_count; i-- > 0;)
        if (b->known[i].value == value) return &b->known[i].at;
    return NULL;
}

/* The node that computes `value` in a prologue, unless the value is at hand already. */
const bf_node *bf_build_prologue(const bf_builder *b, int value)
{
    const int w = b->writer[value];
    return w >= 0 && b->plan->placement[w].role == BF_ROLE_PROLOGUE && !find_known(b, value) ? &b->plan->graph.nodes[w] : NULL;
}

static const bf_node *prologue_of_kind(const bf_builder *b, int value, bf_op op)
{
    const bf_node *node = bf_build_prologue(b, value);
    return node && node->op == op ? node : NULL;
}

/* An operand that holds `value`, computing it first where it is virtual. */
bf_operand bf_build_load(bf_builder *b, int value)
{
    const bf_operand *known = find_known(b, value);
    if (known) return *known;
    const bf_node *node = bf_build_prologue(b, value);
    if (!node) return (bf_operand){BF_VALUE, value, 0};
    const bf_operand temp = {BF_TEMP, b->program->temps++, 0};
    bf_build_node(b, node, temp);
    bf_build_known(b, value, temp);
    return temp;
}

bf_step bf_build_new(bf_step_kind kind, bf_operand dst) { return (bf_step){.kind = kind, .dst = dst, .a = bf_build_nothing, .b = bf_build_nothing, .coefs = -1, .grad_coefs = -1, .sums = -1}; }

/* act(a + b), with the normalise of one side folded in. */
static void emit_join(bf_builder *b, const bf_node *add, bf_operand dst, bf_act act)
{
    int first = add->in[0], second = add->in[1];
    if (!prologue_of_kind(b, first, BF_OP_BN_APPLY) && prologue_of_kind(b, second, BF_OP_BN_APPLY)) first = add->in[1], second = add->in[0];
    const bf_node *apply = prologue_of_kind(b, first, BF_OP_BN_APPLY);
    bf_step step = bf_build_new(apply ? BF_STEP_AFFINE_ADD_ACT : BF_STEP_ADD_ACT, dst);
    step.act = act;
    step.b = bf_build_load(b, second);
    step.a = bf_build_load(b, apply ? apply->in[0] : first);
    if (apply) step.coefs = apply->in[1];
    bf_build_step(b, step);
}

static void emit_act(bf_builder *b, const bf_node *node, bf_operand dst)
{
    const bf_act act = {node->a.act.kind, node->a.act.slope};
    const bf_node *apply = prologue_of_kind(b, node->in[0], BF_OP_BN_APPLY), *add = prologue_of_kind(b, node->in[0], BF_OP_ADD);
    if (add) {
        emit_join(b, add, dst, act);
        return;
    }
    bf_step step = bf_build_new(apply ? BF_STEP_AFFINE_ACT : BF_STEP_ACT, dst);
    step.act = act;
    step.a = bf_build_load(b, apply ? apply->in[0] : node->in[0]);
    if (apply) step.coefs = apply->in[1];
    bf_build_step(b, step);
}

static void emit_act_grad(bf_builder *b, const bf_node *node, bf_operand dst)
{
    const bf_node *apply = prologue_of_kind(b, node->in[1], BF_OP_BN_APPLY);
    bf_step step = bf_build_new(apply ? BF_STEP_AFFINE_ACT_GRAD : BF_STEP_ACT_GRAD, dst);
    step.act = (bf_act){node->a.act.kind, node->a.act.slope};
    step.a = bf_build_load(b, node->in[0]);
    step.b = bf_build_load(b, apply ? apply->in[0] : node->in[1]);
    if (apply) step.coefs = apply->in[1];
    bf_build_step(b, step);
}

/* Steps that compute the elementwise `node` into dst. */
void bf_build_node(bf_builder *b, const bf_node *node, bf_operand dst)
{
    bf_step step = bf_build_new(BF_STEP_COPY, dst);
    switch (node->op) {
    case BF_OP_ACT: emit_act(b, node, dst); return;
    case BF_OP_ADD: emit_join(b, node, dst, (bf_act){BNFF_IDENTITY, 0}); return;
    case BF_OP_ACT_BWD: emit_act_grad(b, node, dst); return;
    case BF_OP_BN_APPLY:
        step.kind = BF_STEP_AFFINE_ACT;
        step.coefs = node->in[1];
        break;
    case BF_OP_BN_SCALE:
        step.kind = BF_STEP_SCALE;
        step.coefs = node->in[1];
        break;
    case BF_OP_BN_DX:
        step.kind = BF_STEP_BN_DX;
        step.b = bf_build_load(b, node->in[1]);
        step.coefs = node->in[2];
        step.grad_coefs = node->in[3];
        break;
    case BF_OP_BN_DEFERRED:
        step.kind = BF_STEP_DEFERRED;
        step.b = bf_build_load(b, node->in[1]);
        step.coefs = node->in[2];
        step.grad_coefs = node->in[3];
        break;
    case BF_OP_MUL:
        step.kind = BF_STEP_MUL;
        step.b = bf_build_load(b, node->in[1]);
        break;
    case BF_OP_GATE:
        step.kind = BF_STEP_GATE;
        step.gate = node->in[1];
        b->program->by_image = true;
        break;
    case BF_OP_DROPOUT:
        step.kind = BF_STEP_DROPOUT;
        step.dropout = node->a.dropout.id;
        step.p = node->a.dropout.p;
        break;
    default: break;
    }
    step.a = bf_build_load(b, node->in[0]);
    bf_build_step(b, step);
}

void bf_build_sums(bf_builder *b, const bf_node *node)
{
    bf_step step = bf_build_new(node->op == BF_OP_BN_STATS ? BF_STEP_STATS : BF_STEP_BN_SUMS, bf_build_nothing);
    step.a = bf_build_load(b, node->in[0]);
    if (node->op == BF_OP_BN_REDUCE) {
        step.b = bf_build_load(b, node->in[1]);
        step.coefs = node->in[2];
    }
    step.sums = node->out[0];
    bf_build_step(b, step);
}
