/* Modelled main-memory traffic. A step is walked as it runs: task by task, a slice of pixels at a time, every piece of memory that is
 * touched looked up in a last-level cache that forgets the least recently used. A task is charged with what it reads from memory and
 * with what it wrote that leaves the cache later:
 *     bytes   reads that miss + dirty pieces that are written back: what crosses the bus when no store reads its line first
 *     lines   reads and first writes that miss: what a count of cache misses sees, x 64
 * A result is one write either way, by a streaming store or an ordinary one; adding to what is stored is a read and a write in `bytes`
 * and one miss in `lines`. Memory used again by another value while still cached costs nothing, nor do values that stay cached between
 * two tasks. Left out: per-channel vectors (some KiB a task), sets of the cache that overflow before all of it does, and lines read
 * before ordinary stores write them. */
#include "base/memory.h"
#include "runtime/plan.h"

/* A chunk of memory in the cache: 64 sectors, each present or not, written or not. */
typedef struct chunk {
    uint64_t present, dirty;
    int older, newer; /* -1: none */
    int writer;       /* task that is charged when it leaves */
} chunk;

enum {
    SECTORS = 64, CHUNKS_IN_CACHE = 1024, SLICES_IN_CACHE = 16,
    MOST_CHUNKS = 1 << 20, MOST_SLICES = 256, /* so that the largest plan is modelled in well under a second, at coarser steps */
};
typedef enum touch_kind { TOUCH_READ, TOUCH_WRITE } touch_kind;

typedef struct model {
    bnff_plan *plan;
    chunk *chunks;
    int chunk_count;
    size_t sector;        /* bytes */
    size_t cached, room;  /* sectors */
    int oldest, newest;
    int task;
    size_t *params, *gradients; /* addresses, after the arena's, of the caller's arrays */
    size_t caller, end;         /* his tensors, in the order of the tasks that copy them; the end of all */
} model;

/* -- the cache -- */

static void unlink_chunk(model *m, int c)
{
    chunk *k = &m->chunks[c];
    *(k->older >= 0 ? &m->chunks[k->older].newer : &m->oldest) = k->newer;
    *(k->newer >= 0 ? &m->chunks[k->newer].older : &m->newest) = k->older;
}

static void make_newest(model *m, int c)
{
    chunk *k = &m->chunks[c];
    if (m->newest == c) return;
    if (k->present) unlink_chunk(m, c);
    k->older = m->newest;
    k->newer = -1;
    *(m->newest >= 0 ? &m->chunks[m->newest].newer : &m->oldest) = c;
    m->newest = c;
}

static void evict_oldest(model *m)
{
    const int c = m->oldest;
    chunk *k = &m->chunks[c];
    unlink_chunk(m, c);
    m->cached -= (size_t)__builtin_popcountll(k->present);
    if (k->dirty) m->plan->tasks[k->writer].bytes += (double)__builtin_popcountll(k->dirty) * (double)m->sector;
    k->present = k->dirty = 0;
}

static void touch_chunk(model *m, int c, uint64_t sectors, touch_kind kind)
{
    chunk *k = &m->chunks[c];
    bf_task *task = &m->plan->tasks[m->task];
    const int missing = __builtin_popcountll(sectors & ~k->present);
    task->line_bytes += (double)missing * (double)m->sector;
    if (kind == TOUCH_READ) task->bytes += (double)missing * (double)m->sector;
    make_newest(m, c);
    k->present |= sectors;
    m->cached += (size_t)missing;
    if (kind == TOUCH_WRITE) {
        k->dirty |= sectors;
        k->writer = m->task;
    }
    while (m->cached > m->room && m->oldest != c) evict_oldest(m);
}

/* What is longer than the cache drives out all before it: only the end needs to be looked up. */
static size_t pass_by(model *m, size_t sectors)
{
    const size_t most = m->room + 2 * SECTORS, skipped = sectors > most ? sectors - most : 0;
    bf_task *task = &m->plan->tasks[m->task];
    /* read, or written and written back: once over the bus either way */
    task->bytes += (double)skipped * (double)m->sector;
    task->line_bytes += (double)skipped * (double)m->sector;
    return skipped;
}

/* Part `slice` of `slices` of the bytes [at, at + bytes). */
static void touch(model *m, size_t at, size_t bytes, int slice, int slices, touch_kind kind)
{
    size_t first = at + bytes / (size_t)slices * (size_t)slice, last = slice + 1 < slices ? at + bytes / (size_t)slices * (size_t)(slice + 1) : at + bytes;
    first /= m->sector;
    last = (last + m->sector - 1) / m->sector;
    if (first < last) first += pass_by(m, last - first);
    while (first < last) {
        const size_t c = first / SECTORS, from = first % SECTORS, to = last - c * SECTORS < SECTORS ? last - c * SECTORS : SECTORS;
        touch_chunk(m, (int)c, ~0ull << from & ~0ull >> (SECTORS - to), kind);
        first = (c + 1) * SECTORS;
    }
}

/* -- what tasks touch -- */

static size_t pixels_of(const bnff_plan *plan, int value)
{
    const bf_value *v = &plan->graph.values[value];
    return (size_t)v->n * (size_t)v->h * (size_t)(v->w + 2 * plan->layouts[value].pad_w);
}

static void touch_block(model *m, int value, int b, int slice, int slices, touch_kind kind)
{
    const bf_block *block = &m->plan->layouts[value].blocks[b];
    touch(m, m->plan->layouts[block->owner].arena + block->offset * sizeof(float), pixels_of(m->plan, value) * (size_t)block->ld * sizeof(float), slice, slices, kind);
}

/* Does a step touch the storage of its operands in block b? */
static bool reads_stored(const bf_step *s, int b) { return s->kind != BF_STEP_COMPLETE || s->add_block[b]; }
static bool adds_to_stored(const bf_step *s, int b) { return (s->kind == BF_STEP_STORE || s->kind == BF_STEP_SCALE_TO) && s->add_block[b]; }
static bool writes_stored(const bf_step *s, int b) { return s->kind != BF_STEP_ZERO || !s->add_block[b]; }

static void touch_program(model *m, const bf_program *program, int b, int slice, int slices)
{
    for (int i = 0; i < program->count; i++) {
        const bf_step *s = &program->steps[i];
        const bf_operand *reads[2] = {&s->a, &s->b};
        for (int k = 0; k < 2; k++)
            if (reads[k]->kind == BF_VALUE && reads_stored(s, b)) touch_block(m, reads[k]->index, b + reads[k]->shift, slice, slices, TOUCH_READ);
        if (s->dst.kind != BF_VALUE || !writes_stored(s, b)) continue;
        if (adds_to_stored(s, b)) touch_block(m, s->dst.index, b + s->dst.shift, slice, slices, TOUCH_READ);
        touch_block(m, s->dst.index, b + s->dst.shift, slice, slices, TOUCH_WRITE);
    }
}

/* All blocks of a value as a task sees it: through a program, or in place. */
static void touch_value(model *m, const bf_program *program, int value, int slice, int slices, touch_kind kind)
{
    for (int b = 0; value >= 0 && b < m->plan->layouts[value].count; b++) {
        if (program->count) touch_program(m, program, b, slice, slices);
        else touch_block(m, value, b, slice, slices, kind);
    }
}

static double value_bytes(const bnff_plan *plan, int value)
{
    return value >= 0 ? (double)pixels_of(plan, value) * plan->layouts[value].lanes * (double)sizeof(float) : 0;
}

static size_t param_bytes(const bnff_plan *plan, int param) { return (size_t)plan->graph.params[param].elements * sizeof(float); }

/* Tiles, or runs of tiles that are a small part of the cache together: only that matters which is touched in between. */
static int slices_of(const bnff_plan *plan, const bf_task *task)
{
    const double share = (double)plan->context->target.l3 / SLICES_IN_CACHE, inner = (double)task->shared + (double)task->scratch * plan->cells;
    const double bytes = value_bytes(plan, task->x) + value_bytes(plan, task->dy) + value_bytes(plan, task->out);
    const int tiles = (task->grid.tiles - 1) / (task->grid.pixel_cells > 0 ? task->grid.pixel_cells : 1) + 1;
    const int wanted = inner > 4 * share || bytes / share >= tiles ? tiles : (int)(bytes / share) + 1;
    const int most = tiles < MOST_SLICES ? tiles : MOST_SLICES;
    return most < 1 ? 1 : wanted < most ? wanted : most;
}

/* Weights that a convolution packs before its tiles, and its partial gradients: where they are in the arena. */
typedef struct weights {
    size_t packed, packed_bytes, partial, partial_bytes;
    int param;
} weights;

static weights weights_of(const bnff_plan *plan, const bf_task *task)
{
    weights w = {.packed = task->shared_arena, .param = -1};
    if (task->kind != BF_TASK_CONV && task->kind != BF_TASK_CONV_BWD) return w;
    const bf_node *node = &plan->graph.nodes[task->node];
    w.param = node->param[0];
    if (task->kind == BF_TASK_CONV) w.packed_bytes = task->conv.forward.floats * sizeof(float);
    else w.packed_bytes = task->conv.transposed.floats * sizeof(float);
    w.partial = w.packed + w.packed_bytes;
    if (task->kind == BF_TASK_CONV_BWD && node->a.conv.want_dw) w.partial_bytes = task->conv.forward.floats * sizeof(float) * (size_t)task->grid.pixel_cells;
    return w;
}

static void touch_scratch(model *m, const bf_task *task)
{
    for (int cell = 0; cell < m->plan->cells; cell++) touch(m, m->plan->scratch_at + (size_t)cell * m->plan->scratch_bytes, task->scratch, 0, 1, TOUCH_WRITE);
}

/* Convolutions and windows: all channels of some pixels at a time, each cell its own part of the pixels. */
static void walk_tiles(model *m, const bf_task *task)
{
    const weights w = weights_of(m->plan, task);
    const int slices = slices_of(m->plan, task), cells = task->grid.pixel_cells > 0 ? task->grid.pixel_cells : 1, parts = slices * cells;
    if (w.packed_bytes) {
        touch(m, m->params[w.param], param_bytes(m->plan, w.param), 0, 1, TOUCH_READ);
        touch(m, w.packed, w.packed_bytes, 0, 1, TOUCH_WRITE);
    }
    touch(m, w.partial, w.partial_bytes, 0, 1, TOUCH_WRITE);
    const bool want_x = task->kind != BF_TASK_CONV_BWD || w.partial_bytes;
    for (int slice = 0; slice < slices; slice++) {
        for (int cell = 0; cell < cells; cell++) {
            const int part = cell * slices + slice;
            touch_value(m, &task->load[1], task->dy, part, parts, TOUCH_READ);
            if (want_x) touch_value(m, &task->load[0], task->x, part, parts, TOUCH_READ);
            touch_value(m, &task->epilogue, task->out, part, parts, TOUCH_WRITE);
        }
        touch_scratch(m, task);
        touch(m, w.packed, w.packed_bytes, 0, 1, TOUCH_READ);
        touch(m, w.partial, w.partial_bytes, 0, 1, TOUCH_READ); /* added to */
        touch(m, w.partial, w.partial_bytes, 0, 1, TOUCH_WRITE);
    }
    if (!w.partial_bytes) return;
    touch(m, w.partial, w.partial_bytes, 0, 1, TOUCH_READ);
    touch(m, m->gradients[w.param], param_bytes(m->plan, w.param), 0, 1, TOUCH_WRITE);
}

/* Sweeps: all pixels of a block, then the next block. */
static void walk_blocks(model *m, const bf_task *task)
{
    const int over = task->kind == BF_TASK_SWEEP ? task->epilogue.over : task->x >= 0 ? task->x : task->out;
    const double share = (double)m->plan->context->target.l3 / SLICES_IN_CACHE;
    for (int b = 0; over >= 0 && b < m->plan->layouts[over].count; b++) {
        const double wanted = (double)pixels_of(m->plan, over) * BF_BLOCK * sizeof(float) / share + 1;
        const int slices = wanted < MOST_SLICES ? (int)wanted : MOST_SLICES;
        for (int slice = 0; slice < slices; slice++) {
            touch_program(m, &task->load[0], b, slice, slices);
            touch_program(m, &task->epilogue, b, slice, slices);
            if (task->kind != BF_TASK_SWEEP && !task->load[0].count) touch_block(m, over, b, slice, slices, task->x >= 0 ? TOUCH_READ : TOUCH_WRITE);
        }
    }
}

static size_t caller_bytes(const bnff_plan *plan, const bf_task *task)
{
    if (task->kind != BF_TASK_IMPORT && task->kind != BF_TASK_EXPORT) return 0;
    const bf_value *v = &plan->graph.values[task->x >= 0 ? task->x : task->out];
    return bf_pixels(v) * (size_t)v->c * sizeof(float);
}

/* Images and gradients from the caller, or to him: his tensor has the channels alone. */
static void walk_transfer(model *m, const bf_task *task)
{
    const size_t bytes = caller_bytes(m->plan, task);
    touch(m, m->caller, bytes, 0, 1, task->x >= 0 ? TOUCH_WRITE : TOUCH_READ);
    m->caller += bytes;
    walk_blocks(m, task);
}

static void walk_task(model *m, const bf_task *task)
{
    switch (task->kind) {
    case BF_TASK_CONV: case BF_TASK_CONV_BWD: case BF_TASK_DEPTHWISE: case BF_TASK_DEPTHWISE_BWD: case BF_TASK_POOL: case BF_TASK_POOL_BWD:
    case BF_TASK_RESIZE: case BF_TASK_RESIZE_BWD: case BF_TASK_SHUFFLE: case BF_TASK_GATE_REDUCE: walk_tiles(m, task); break;
    case BF_TASK_IMPORT: case BF_TASK_EXPORT: walk_transfer(m, task); break;
    case BF_TASK_SWEEP: case BF_TASK_STATS_MEAN: walk_blocks(m, task); break;
    default: break; /* per-channel numbers */
    }
}

/* -- the step -- */

static bool place_caller(model *m)
{
    const int count = m->plan->graph.param_count;
    m->params = bf_alloc((size_t)count * sizeof *m->params);
    m->gradients = bf_alloc((size_t)count * sizeof *m->gradients);
    m->end = m->plan->arena_bytes;
    for (int pass = 0; m->params && m->gradients && pass < 2; pass++)
        for (int p = 0; p < count; p++) {
            (pass ? m->gradients : m->params)[p] = m->end;
            m->end += (param_bytes(m->plan, p) + 63) / 64 * 64;
        }
    m->caller = m->end;
    for (int t = 0; t < m->plan->task_count; t++) m->end += caller_bytes(m->plan, &m->plan->tasks[t]);
    return m->params && m->gradients;
}

bnff_status bf_model_traffic(bnff_plan *plan, bnff_error *error)
{
    model m = {.plan = plan, .oldest = -1, .newest = -1};
    bool ok = place_caller(&m);
    const size_t fine = plan->context->target.l3 / CHUNKS_IN_CACHE / SECTORS, coarse = m.end / SECTORS / MOST_CHUNKS + 1;
    m.sector = fine > coarse ? fine : coarse;
    if (m.sector < 64) m.sector = 64;
    m.room = plan->context->target.l3 / m.sector + 1;
    m.chunk_count = (int)(m.end / m.sector / SECTORS) + 1;
    ok = ok && (m.chunks = bf_calloc((size_t)m.chunk_count, sizeof *m.chunks)) != NULL;
    for (int t = 0; ok && t < plan->task_count; t++) {
        m.task = t;
        walk_task(&m, &plan->tasks[t]);
    }
    for (int t = 0; t < plan->task_count; t++) {
        plan->traffic_bytes += plan->tasks[t].bytes;
        plan->traffic_lines += plan->tasks[t].line_bytes;
    }
    bf_free(m.params);
    bf_free(m.gradients);
    bf_free(m.chunks);
    return ok ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to model the traffic of %d tasks", plan->task_count);
}
