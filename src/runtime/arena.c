/* Lifetimes to arena offsets. A value is alive from the first task that writes its storage to the last that touches it, under any
 * name; values whose lives do not overlap may share memory. Largest first, each at the lowest offset that is free all its life. */
#include <stdlib.h>

#include "base/memory.h"
#include "runtime/plan.h"
#include "runtime/program.h"

typedef struct item {
    size_t bytes, at;
    int first, last;
    size_t *offset; /* where the result goes */
} item;

/* -- lifetimes -- */

static void touch_storage(bnff_plan *plan, int owner, int task)
{
    bf_layout *layout = &plan->layouts[owner];
    if (!layout->stored) layout->first_task = task;
    layout->stored = true;
    layout->last_task = task;
}

static void touch(bnff_plan *plan, int value, int task)
{
    if (value < 0) return;
    const bf_layout *layout = &plan->layouts[value];
    for (int b = 0; b < layout->count; b++) touch_storage(plan, layout->blocks[b].owner, task);
}

static void touch_program(bnff_plan *plan, const bf_program *program, int task)
{
    for (int i = 0; i < program->count; i++) {
        const bf_step *s = &program->steps[i];
        const bf_operand *operands[3] = {&s->dst, &s->a, &s->b};
        for (int k = 0; k < 3; k++)
            if (operands[k]->kind == BF_VALUE) touch(plan, operands[k]->index, task);
        touch(plan, s->coefs, task);
        touch(plan, s->grad_coefs, task);
        touch(plan, s->sums, task);
        if (s->kind == BF_STEP_GATE) touch(plan, s->gate, task);
    }
}

static void touch_task(bnff_plan *plan, int index)
{
    const bf_task *task = &plan->tasks[index];
    const bf_node *node = &plan->graph.nodes[task->node];
    touch_program(plan, &task->load[0], index);
    touch_program(plan, &task->load[1], index);
    touch_program(plan, &task->epilogue, index);
    if (task->kind == BF_TASK_SWEEP) return;
    if (!task->load[0].count && task->x != task->out) touch(plan, task->x, index);
    if (!task->load[1].count) touch(plan, task->dy, index);
    if (!task->epilogue.count) touch(plan, task->out, index);
    if (task->kind == BF_TASK_STATS_MEAN) touch(plan, node->out[0], index);
    if (task->kind == BF_TASK_FINALIZE || task->kind == BF_TASK_GRAD_FINALIZE || task->kind == BF_TASK_CONST || task->kind == BF_TASK_COLLECT) {
        for (int k = 0; k < node->in_count; k++) touch(plan, node->in[k], index);
        touch(plan, node->out[0], index);
    }
}

static size_t storage_bytes(const bnff_plan *plan, int v)
{
    const bf_layout *layout = &plan->layouts[v];
    const size_t lanes = (size_t)layout->lanes, cells = (size_t)plan->cells;
    switch (plan->graph.values[v].kind) {
    case BF_STATS:      return cells * BF_STATS_ROWS * lanes * sizeof(double);
    case BF_SUMS:       return cells * BF_SUMS_ROWS * lanes * sizeof(double);
    case BF_COEFS:      return BF_COEF_ROWS * lanes * sizeof(float);
    case BF_GRAD_COEFS: return BF_GRAD_ROWS * lanes * sizeof(float);
    default:            return layout->floats * sizeof(float);
    }
}

/* -- placing -- */

static int larger_first(const void *a, const void *b)
{
    const item *x = a, *y = b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first) : (x->offset > y->offset) - (x->offset < y->offset);
}

static int lower_first(const void *a, const void *b)
{
    const item *const *x = a, *const *y = b;
    return ((*x)->at > (*y)->at) - ((*x)->at < (*y)->at);
}

/* Lowest offset where `it` fits beside the placed items alive with it. `beside` has room for them. */
static void place(item *it, item *placed, int count, item **beside)
{
    int n = 0;
    for (int i = 0; i < count; i++)
        if (placed[i].first <= it->last && it->first <= placed[i].last) beside[n++] = &placed[i];
    qsort(beside, (size_t)n, sizeof *beside, lower_first);
    size_t at = 0;
    for (int i = 0; i < n && beside[i]->at < at + it->bytes; i++)
        if (beside[i]->at + beside[i]->bytes > at) at = beside[i]->at + beside[i]->bytes;
    it->at = at;
}

bnff_status bf_place_memory(bnff_plan *plan, bnff_error *error)
{
    for (int t = 0; t < plan->task_count; t++) touch_task(plan, t);
    /* What the backward reads of the forward is alive in between by itself; outputs stay readable until their export. */
    const int values = plan->graph.value_count;
    item *items = bf_calloc((size_t)(values + plan->task_count), sizeof *items);
    item **beside = bf_alloc((size_t)(values + plan->task_count) * sizeof *beside);
    if (!items || !beside) return bf_free(items), bf_free(beside), bf_fail(error, BNFF_E_MEMORY, "no memory to place %d values", values);
    int count = 0;
    for (int v = 0; v < values; v++) {
        bf_layout *layout = &plan->layouts[v];
        if (layout->stored) items[count++] = (item){.bytes = storage_bytes(plan, v), .first = layout->first_task, .last = layout->last_task, .offset = &layout->arena};
    }
    for (int t = 0; t < plan->task_count; t++) {
        if (plan->tasks[t].shared) items[count++] = (item){.bytes = plan->tasks[t].shared, .first = t, .last = t, .offset = &plan->tasks[t].shared_arena};
        if (plan->tasks[t].scratch > plan->scratch_bytes) plan->scratch_bytes = plan->tasks[t].scratch;
    }
    for (int i = 0; i < count; i++) items[i].bytes = (items[i].bytes + 4095) / 4096 * 4096;
    qsort(items, (size_t)count, sizeof *items, larger_first);
    size_t end = 0;
    for (int i = 0; i < count; i++) {
        place(&items[i], items, i, beside);
        *items[i].offset = items[i].at;
        if (items[i].at + items[i].bytes > end) end = items[i].at + items[i].bytes;
    }
    plan->values_bytes = end;
    plan->scratch_bytes = (plan->scratch_bytes + 4095) / 4096 * 4096;
    plan->scratch_at = end;
    plan->arena_bytes = end + plan->scratch_bytes * (size_t)plan->cells;
    bf_free(items);
    bf_free(beside);
    return BNFF_OK;
}
