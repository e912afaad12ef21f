/* Lowering: each node placed as a task becomes one, with programs for what its loads compute (values placed in prologues) and what
 * happens to its result while the tile is in cache (nodes placed in its epilogue). */
#include "runtime/program_build.h"

#include <string.h>

#include "base/memory.h"
#include "graph/uses.h"
#include "runtime/words.h"

typedef struct lowering {
    bnff_plan *plan;
    const bf_graph *g;
    int *writer;          /* per value: node that writes it (the last one), -1 */
    int first_backward;   /* node */
    bf_uses uses;
    int *first_epilogue;  /* per task node: the first node in its epilogue, -1 */
    int *next_epilogue;   /* per node: the one after it in the same epilogue, -1 */
    bool **written;       /* per value: blocks of its storage that hold something already */
    bnff_error *error;
} lowering;

/* -- tasks -- */

static bool is_reduction(bf_op op) { return op == BF_OP_BN_STATS || op == BF_OP_BN_REDUCE; }

static bf_builder new_builder(const lowering *l, bf_program *program) { return (bf_builder){.plan = l->plan, .writer = l->writer, .program = program}; }

/* The nodes in the epilogue of task node `anchor`, in order. */
#define FOR_EPILOGUE(l, anchor, i) for (int i = (l)->first_epilogue[anchor]; i >= 0; i = (l)->next_epilogue[i])

/* Does anything after task node `anchor` but its epilogue read v, or add to it, under any name? */
static bool needed_outside(const lowering *l, int v, int anchor)
{
    BF_FOR_ROOTS(&l->uses, v, root)
        for (const bf_use *use = bf_uses_after(&l->uses, *root, anchor), *end = l->uses.uses + l->uses.first_use[*root + 1]; use < end; use++) {
            const bf_placement *p = &l->plan->placement[use->node];
            if (p->role != BF_ROLE_EPILOGUE || p->anchor != anchor) return true;
        }
    return false;
}

/* The flag of block b of a layout, in the flags of the storage it lies in: offsets rise with the blocks. */
static bool *written_flag(const lowering *l, const bf_layout *layout, int b)
{
    const bf_layout *owner = &l->plan->layouts[layout->blocks[b].owner];
    int low = 0, high = owner->count - 1;
    while (low < high) {
        const int middle = (low + high + 1) / 2;
        if (owner->blocks[middle].offset <= layout->blocks[b].offset) low = middle;
        else high = middle - 1;
    }
    return &l->written[layout->blocks[b].owner][low];
}

/* Which blocks of `value` are written already; then all of them are. */
static bool *claim(lowering *l, int value, bool *any)
{
    const bf_layout *layout = &l->plan->layouts[value];
    bool *add = bf_calloc((size_t)layout->count, sizeof *add);
    *any = false;
    for (int b = 0; add && b < layout->count; b++) {
        bool *flag = written_flag(l, layout, b);
        *any |= add[b] = *flag;
        *flag = true;
    }
    return add;
}

/* How many nodes in the epilogue of task node `anchor` read v. */
static int epilogue_readers(const lowering *l, int v, int anchor)
{
    int count = 0;
    FOR_EPILOGUE(l, anchor, i)
        for (int k = 0; k < l->g->nodes[i].in_count; k++) count += bf_values_share(l->g, l->g->nodes[i].in[k], v);
    return count;
}

static bf_task *new_task(lowering *l, bf_task_kind kind, int node)
{
    bnff_plan *plan = l->plan;
    if (!bf_grow((void **)&plan->tasks, &plan->task_capacity, plan->task_count, sizeof *plan->tasks)) return NULL;
    bf_task *task = &plan->tasks[plan->task_count];
    *task = (bf_task){.kind = kind, .node = node, .backward = node >= l->first_backward, .x = -1, .dy = -1, .out = -1};
    bf_text name = {0};
    bf_label_node(l->g, node, &name);
    if (kind == BF_TASK_STATS_MEAN) bf_text_add(&name, " (mean)");
    if (!(task->name = bf_text_take(&name))) return NULL;
    plan->task_count++;
    return task;
}

/* Write `from` to the storage of `value`: block by block stored, or added where something is there already. */
static void add_store(lowering *l, bf_builder *b, bf_step_kind kind, int value, bf_operand from, int coefs)
{
    bool any;
    bf_step store = bf_build_new(kind, (bf_operand){BF_VALUE, value, 0});
    store.a = from;
    store.coefs = coefs;
    store.stream = bf_leaves_cache(l->plan, value);
    store.add_block = claim(l, value, &any);
    if (!store.add_block) b->failed = true;
    else bf_build_step(b, store);
}

/* All of `value` is at `from`: to storage. */
static void add_copy(const lowering *l, bf_builder *b, int value, bf_operand from)
{
    bf_step copy = bf_build_new(BF_STEP_COPY, (bf_operand){BF_VALUE, value, 0});
    copy.a = from;
    copy.stream = bf_leaves_cache(l->plan, value);
    bf_build_step(b, copy);
}

/* Does task node `reader` compute v as it loads, and store it for others? */
static bool carries(const lowering *l, int reader, int v)
{
    const bf_placement *p = l->writer[v] >= 0 ? &l->plan->placement[l->writer[v]] : NULL;
    return p && p->role == BF_ROLE_CARRIED && p->anchor == reader;
}

/* The prologue of a tensor input of task node i: empty when the value is stored. */
static bool lower_load(lowering *l, int i, int value, bf_program *program)
{
    const bf_operand result = {BF_RESULT, 0, 0};
    program->over = value;
    bf_builder b = new_builder(l, program);
    const bool carried = carries(l, i, value);
    const bf_node *node = carried ? &l->g->nodes[l->writer[value]] : bf_build_prologue(&b, value);
    if (node) bf_build_node(&b, node, result);
    if (carried && !b.failed) {
        bool any, *blocks = claim(l, value, &any);
        b.failed |= !blocks;
        bf_free(blocks);
        add_copy(l, &b, value, result);
        if (!b.failed) program->steps[program->count - 1].owner = true;
    }
    return bf_build_end(&b);
}

/* A contribution to `value` at `from` joins what is stored already: in `from` itself where the epilogue reads on (`read`), so that it
 * reads the sum; then to storage where others want it (`needed`). */
static void store_complete(lowering *l, bf_builder *b, int value, bf_operand from, bool needed, bool read)
{
    const bf_operand stored = {BF_VALUE, value, 0};
    bool any, *blocks = claim(l, value, &any);
    if (!blocks) {
        b->failed = true;
        return;
    }
    if (any && read) {
        bf_step complete = bf_build_new(BF_STEP_COMPLETE, from);
        complete.a = stored;
        complete.add_block = blocks;
        bf_build_step(b, complete);
        if (!needed) return;
        add_copy(l, b, value, from);
    } else if (needed || any) {
        bf_step store = bf_build_new(BF_STEP_STORE, stored);
        store.a = from;
        store.stream = bf_leaves_cache(l->plan, value);
        store.add_block = blocks;
        bf_build_step(b, store);
    } else bf_free(blocks);
}

/* One elementwise node of an epilogue. */
static void emit_in_epilogue(lowering *l, bf_builder *b, int anchor, const bf_node *node)
{
    if (node->op == BF_OP_BN_SCALE && epilogue_readers(l, node->out[0], anchor) == 0) { /* s*dy straight into a shared gradient */
        add_store(l, b, BF_STEP_SCALE_TO, node->out[0], bf_build_load(b, node->in[0]), node->in[1]);
        return;
    }
    /* In place where it reads the tile and nothing else does. */
    const bool in_place = bf_build_load(b, node->in[0]).kind == BF_TILE && !needed_outside(l, node->in[0], anchor) && epilogue_readers(l, node->in[0], anchor) == 1;
    const bf_operand dst = in_place ? (bf_operand){BF_TILE, 0, 0} : (bf_operand){BF_TEMP, b->program->temps++, 0};
    bf_build_node(b, node, dst);
    store_complete(l, b, node->out[0], dst, needed_outside(l, node->out[0], anchor), epilogue_readers(l, node->out[0], anchor) > 0);
    bf_build_known(b, node->out[0], dst);
}

/* The work on a task's result, which ends its program: nodes of the epilogue. `at` is where the result appears. */
static bool lower_epilogue(lowering *l, bf_builder *b, int node, int result, bf_operand at)
{
    bf_build_known(b, result, at);
    FOR_EPILOGUE(l, node, i) {
        if (is_reduction(l->g->nodes[i].op)) bf_build_sums(b, &l->g->nodes[i]);
        else emit_in_epilogue(l, b, node, &l->g->nodes[i]);
    }
    return bf_build_end(b);
}

static bool has_epilogue_nodes(const lowering *l, int node) { return l->first_epilogue[node] >= 0; }

/* A task whose result appears tile by tile: convolutions and pools. */
static bool lower_result(lowering *l, bf_task *task, int node, int result)
{
    task->out = result;
    task->epilogue.over = result;
    if (result < 0) return true;
    const bf_operand tile = {BF_TILE, 0, 0}, stored = {BF_VALUE, result, 0};
    bf_builder b = new_builder(l, &task->epilogue);
    bool any, *blocks = claim(l, result, &any);
    if (!blocks) return false;
    const bool more = has_epilogue_nodes(l, node), needed = !more || needed_outside(l, result, node);
    const bool windows = task->kind == BF_TASK_POOL || task->kind == BF_TASK_POOL_BWD || task->kind == BF_TASK_DEPTHWISE || task->kind == BF_TASK_DEPTHWISE_BWD;
    if (!any && !more && !(windows && bf_leaves_cache(l->plan, result))) return bf_free(blocks), true; /* straight to storage */
    bf_step step = more ? bf_build_new(BF_STEP_COMPLETE, tile) : bf_build_new(BF_STEP_STORE, stored);
    step.a = more ? stored : tile;
    step.stream = bf_leaves_cache(l->plan, result);
    step.add_block = blocks;
    if (any || !more) bf_build_step(&b, step);
    else bf_free(blocks);
    if (more && needed) add_copy(l, &b, result, tile);
    return lower_epilogue(l, &b, node, result, tile);
}

/* Clear blocks of `value` that nothing has written although `reader` reads them (channels no slice touches). */
static bool clear_unwritten(lowering *l, int node, int value)
{
    if (l->g->values[value].kind != BF_TENSOR) return true;
    bool all = true;
    const bf_layout *layout = &l->plan->layouts[value];
    for (int b = 0; b < layout->count; b++) all &= *written_flag(l, layout, b);
    if (all) return true;
    bf_task *task = new_task(l, BF_TASK_SWEEP, node);
    if (!task) return false;
    task->out = task->epilogue.over = value;
    bf_builder b = new_builder(l, &task->epilogue);
    add_store(l, &b, BF_STEP_ZERO, value, bf_build_nothing, -1);
    return bf_build_end(&b);
}

static bool lower_sweep(lowering *l, int i)
{
    const bf_node *node = &l->g->nodes[i];
    bf_task *task = new_task(l, BF_TASK_SWEEP, i);
    if (!task) return false;
    bf_builder b = new_builder(l, &task->epilogue);
    const int v = is_reduction(node->op) ? node->in[0] : node->out[0];
    task->epilogue.over = v;
    if (is_reduction(node->op)) {
        bf_build_sums(&b, node);
        return bf_build_end(&b);
    }
    task->out = v;
    bool any;
    bool *blocks = claim(l, v, &any);
    if (!blocks) return false;
    const bool stream = bf_leaves_cache(l->plan, v), reads_on = stream && has_epilogue_nodes(l, i); /* not from beyond the caches */
    const bf_operand stored = {BF_VALUE, v, 0}, dst = any || reads_on ? (bf_operand){BF_TEMP, task->epilogue.temps++, 0} : stored;
    bf_build_node(&b, node, dst);
    if (any) {
        bf_step store = bf_build_new(BF_STEP_STORE, stored);
        store.a = dst;
        store.add_block = blocks;
        bf_build_step(&b, store);
    } else {
        bf_free(blocks);
        if (reads_on) add_copy(l, &b, v, dst);
        else if (!b.failed) task->epilogue.steps[task->epilogue.count - 1].stream = stream;
    }
    return lower_epilogue(l, &b, i, v, reads_on && !any ? dst : stored); /* what was there before is in the sum now */
}

/* A copy of `channels` channels from one value to another, block by block. */
static bool lower_copy(lowering *l, int i, int from, int from_first, int to, int to_first, int channels)
{
    bf_task *task = new_task(l, BF_TASK_SWEEP, i);
    if (!task) return false;
    const bf_layout *source = &l->plan->layouts[from], *target = &l->plan->layouts[to];
    int source_block = 0, target_block = 0;
    while (source->blocks[source_block].first < from_first) source_block++;
    while (target->blocks[target_block].first < to_first) target_block++;
    const bool whole = from_first == 0 && channels == l->g->values[from].c;
    bf_builder b = new_builder(l, &task->epilogue);
    task->epilogue.over = whole ? from : to; /* one of the two is copied whole */
    bf_step step = bf_build_new(BF_STEP_STORE, (bf_operand){BF_VALUE, to, whole ? target_block : 0});
    step.a = (bf_operand){BF_VALUE, from, whole ? 0 : source_block};
    step.stream = bf_leaves_cache(l->plan, to);
    if (whole && l->writer[from] >= 0 && l->plan->placement[l->writer[from]].role == BF_ROLE_PROLOGUE) step.a = bf_build_load(&b, from);
    task->out = to;
    bool any, *blocks = claim(l, to, &any);
    if (!blocks) return (void)bf_build_end(&b), false;
    /* Flags count from the blocks the program goes through; a concat writes a part of `to`, so the rest stays unclaimed. */
    if (whole && (target_block || channels != l->g->values[to].c)) {
        const int count = source->count;
        for (int o = 0; o < target->count; o++)
            if (o < target_block || o >= target_block + count) l->written[target->blocks[o].owner][o] = blocks[o];
        memmove(blocks, blocks + target_block, (size_t)count * sizeof *blocks);
    }
    step.add_block = blocks;
    bf_build_step(&b, step);
    return bf_build_end(&b);
}

static bool lower_concat(lowering *l, int i)
{
    const bf_node *node = &l->g->nodes[i];
    int first = 0;
    for (int k = 0; k < node->in_count; k++) {
        const int channels = l->g->values[node->in[k]].c;
        if (!lower_copy(l, i, node->in[k], 0, node->out[0], first, channels)) return false;
        first += channels;
    }
    return true;
}

/* Groups must lie within blocks. */
static bool runs_as_depthwise(const bnff_plan *plan, const bf_node *node, int x)
{
    const int width = bf_group_width(&plan->graph, node);
    const bf_layout *layout = &plan->layouts[x];
    bool whole = width > 0;
    for (int b = 0; whole && b < layout->count; b++) whole = layout->blocks[b].first % width == 0 && layout->blocks[b].channels % width == 0;
    return whole;
}

static bool lower_conv(lowering *l, int i)
{
    const bf_node *node = &l->g->nodes[i];
    const bool transposed = node->op == BF_OP_CONVT, backward = node->op == BF_OP_CONV_BWD || transposed;
    const int x = transposed ? node->out[0] : node->in[backward ? 1 : 0]; /* transposed: the convolution goes from the result to x */
    const bool depthwise = runs_as_depthwise(l->plan, node, x);
    bf_task *task = new_task(l, backward ? (depthwise ? BF_TASK_DEPTHWISE_BWD : BF_TASK_CONV_BWD) : depthwise ? BF_TASK_DEPTHWISE : BF_TASK_CONV, i);
    if (!task || (!transposed && !lower_load(l, i, x, &task->load[0]))) return false;
    task->x = task->load[0].over = x;
    if (backward) {
        task->dy = node->in[0];
        if (!lower_load(l, i, task->dy, &task->load[1])) return false;
        for (int k = 0; k < 2; k++)
            if (node->param[k] >= 0 && node->a.conv.want_dw) l->plan->param_covered[node->param[k]] = true;
    }
    return lower_result(l, task, i, node->out[0]);
}

/* Pools and their like: a forward one reads x, a backward one dy and perhaps x. */
static bool lower_pool(lowering *l, int i, bf_task_kind kind)
{
    const bf_node *node = &l->g->nodes[i];
    const bool backward = kind == BF_TASK_POOL_BWD || kind == BF_TASK_RESIZE_BWD || kind == BF_TASK_GATE_REDUCE;
    bf_task *task = new_task(l, kind, i);
    if (!task) return false;
    task->x = !backward ? node->in[0] : node->in_count > 1 ? node->in[1] : -1;
    if (task->x >= 0 && !lower_load(l, i, task->x, &task->load[0])) return false;
    if (backward) {
        task->dy = node->in[0];
        if (!lower_load(l, i, task->dy, &task->load[1])) return false;
    }
    return lower_result(l, task, i, node->out[0]);
}

/* Tasks without tiles: images in and out, and the numbers between statistics and their use. */
static bool lower_plain(lowering *l, int i, bf_task_kind kind)
{
    const bf_node *node = &l->g->nodes[i];
    bf_task *task = new_task(l, kind, i);
    if (!task) return false;
    if (kind == BF_TASK_IMPORT) {
        task->out = node->out[0];
        bool any;
        return (task->add_block = claim(l, task->out, &any)) != NULL;
    }
    if (kind == BF_TASK_GRAD_FINALIZE) {
        task->pixels = (double)bf_pixels(&l->g->values[l->g->nodes[l->writer[node->in[0]]].in[1]]);
        for (int k = 0; k < 2; k++)
            if (node->param[k] >= 0) l->plan->param_covered[node->param[k]] = true;
    }
    if (kind != BF_TASK_EXPORT) return true;
    task->x = node->in[0];
    return lower_load(l, i, task->x, &task->load[0]);
}

/* Two-sweep statistics: the mean first, then deviations from it (only where nothing is virtual, so x is stored). */
static bool lower_stats(lowering *l, int i)
{
    if (l->g->nodes[i].a.bn.sweeps == 2) {
        bf_task *task = new_task(l, BF_TASK_STATS_MEAN, i);
        if (!task) return false;
        task->x = l->g->nodes[i].in[0];
    }
    if (!lower_sweep(l, i)) return false;
    const bf_program *sweep = &l->plan->tasks[l->plan->task_count - 1].epilogue;
    sweep->steps[sweep->count - 1].pivot_given = l->g->nodes[i].a.bn.sweeps == 2;
    return true;
}

/* The same for all that task node i loads for `node`, through values that it computes as it loads. */
static bool clear_loaded(lowering *l, int i, const bf_node *node)
{
    for (int k = 0; k < node->in_count; k++) {
        const int w = l->writer[node->in[k]];
        const bool virtual = w >= 0 && (l->plan->placement[w].role == BF_ROLE_PROLOGUE || carries(l, i, node->in[k]));
        if (!(virtual ? clear_loaded(l, i, &l->g->nodes[w]) : clear_unwritten(l, i, node->in[k]))) return false;
    }
    return true;
}

static bool lower_node(lowering *l, int i)
{
    const bf_node *node = &l->g->nodes[i];
    if (!clear_loaded(l, i, node)) return false;
    switch (node->op) {
    case BF_OP_INPUT:
    case BF_OP_OUTPUT_GRAD: return lower_plain(l, i, BF_TASK_IMPORT);
    case BF_OP_OUTPUT:
    case BF_OP_INPUT_GRAD:  return lower_plain(l, i, BF_TASK_EXPORT);
    case BF_OP_CONV:
    case BF_OP_CONVT:
    case BF_OP_CONV_BWD:    return lower_conv(l, i);
    case BF_OP_MAXPOOL:
    case BF_OP_AVGPOOL:     return lower_pool(l, i, BF_TASK_POOL);
    case BF_OP_MAXPOOL_BWD:
    case BF_OP_AVGPOOL_BWD: return lower_pool(l, i, BF_TASK_POOL_BWD);
    case BF_OP_RESIZE:      return lower_pool(l, i, BF_TASK_RESIZE);
    case BF_OP_RESIZE_BWD:  return lower_pool(l, i, BF_TASK_RESIZE_BWD);
    case BF_OP_SHUFFLE:     return lower_pool(l, i, BF_TASK_SHUFFLE);
    case BF_OP_GATE_REDUCE: return lower_pool(l, i, BF_TASK_GATE_REDUCE);
    case BF_OP_CONCAT:      return lower_concat(l, i);
    case BF_OP_SLICE:       return lower_copy(l, i, node->in[0], node->a.slice.first, node->out[0], 0, node->a.slice.channels);
    case BF_OP_COPY:        return lower_copy(l, i, node->in[0], node->a.slice.first, node->out[0], 0, node->a.slice.channels);
    case BF_OP_BN_FINALIZE: return lower_plain(l, i, BF_TASK_FINALIZE);
    case BF_OP_BN_CONST:    return lower_plain(l, i, BF_TASK_CONST);
    case BF_OP_BN_COLLECT:  return lower_plain(l, i, BF_TASK_COLLECT);
    case BF_OP_BN_GRAD_FINALIZE: return lower_plain(l, i, BF_TASK_GRAD_FINALIZE);
    case BF_OP_BN_STATS:    return lower_stats(l, i);
    default:                return lower_sweep(l, i);
    }
}

static bool index_epilogues(lowering *l)
{
    const int nodes = l->g->node_count;
    l->first_epilogue = bf_alloc((size_t)nodes * sizeof *l->first_epilogue);
    l->next_epilogue = bf_alloc((size_t)nodes * sizeof *l->next_epilogue);
    if (!l->first_epilogue || !l->next_epilogue) return false;
    for (int i = 0; i < nodes; i++) l->first_epilogue[i] = l->next_epilogue[i] = -1;
    for (int i = nodes; i-- > 0;) {
        const bf_placement *p = &l->plan->placement[i];
        if (p->role != BF_ROLE_EPILOGUE) continue;
        l->next_epilogue[i] = l->first_epilogue[p->anchor];
        l->first_epilogue[p->anchor] = i;
    }
    return true;
}

bnff_status bf_lower(bnff_plan *plan, bnff_error *error)
{
    const bf_graph *g = &plan->graph;
    lowering l = {.plan = plan, .g = g, .error = error};
    l.writer = bf_alloc((size_t)g->value_count * sizeof *l.writer);
    l.written = bf_calloc((size_t)g->value_count, sizeof *l.written);
    plan->param_covered = bf_calloc((size_t)g->param_count, sizeof *plan->param_covered);
    bool ok = l.writer && l.written && plan->param_covered && bf_uses_make(&l.uses, g) && index_epilogues(&l);
    for (int v = 0; ok && v < g->value_count; v++) {
        l.writer[v] = -1;
        ok = (l.written[v] = bf_calloc((size_t)plan->layouts[v].count, sizeof(bool))) != NULL;
    }
    l.first_backward = g->node_count;
    for (int i = g->node_count; i-- > 0;)
        if (g->nodes[i].op == BF_OP_OUTPUT_GRAD) l.first_backward = i;
    for (int i = 0; ok && i < g->node_count; i++)
        for (int k = 0; k < g->nodes[i].out_count; k++)
            if (g->nodes[i].out[k] >= 0) l.writer[g->nodes[i].out[k]] = i;
    for (int i = 0; ok && i < g->node_count; i++) {
        if (plan->placement[i].role == BF_ROLE_TASK) ok = lower_node(&l, i);
        if (i < l.first_backward) plan->forward_tasks = plan->task_count;
    }
    for (int v = 0; l.written && v < g->value_count; v++) bf_free(l.written[v]);
    bf_uses_free(&l.uses);
    bf_free(l.first_epilogue);
    bf_free(l.next_epilogue);
    bf_free(l.writer);
    bf_free(l.written);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the tasks of the plan");
}
