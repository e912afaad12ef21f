/* Runs: memory from a pool, and the tasks of a plan one after the other. */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "runtime/program.h"
#include "runtime/tasks.h"

struct bnff_pool {
    bnff_context *context;
    bnff_run *idle; /* runs given back, with their arenas */
};

bnff_status bnff_pool_create(bnff_context *context, bnff_pool **pool, bnff_error *error)
{
    *pool = bf_calloc(1, sizeof **pool);
    if (!*pool) return bf_fail(error, BNFF_E_MEMORY, "no memory for a pool");
    (*pool)->context = context;
    return BNFF_OK;
}

static void destroy_run(bnff_run *run)
{
    bf_pages_free(&run->pool->context->allocator, run->arena, run->arena_bytes);
    bf_free(run->times);
    bf_free(run->cell_times);
    bf_free(run);
}

void bnff_pool_destroy(bnff_pool **pool)
{
    if (!pool || !*pool) return;
    for (bnff_run *run = (*pool)->idle, *next; run; run = next) {
        next = run->next;
        destroy_run(run);
    }
    bf_free(*pool);
    *pool = NULL;
}

/* The idle run with the smallest arena that holds `bytes`, or the largest there is, taken out of the list. Runs of several sizes that
 * take turns find their own again. */
static bnff_run *take_idle(bnff_pool *pool, size_t bytes)
{
    bnff_run **best = NULL;
    for (bnff_run **at = &pool->idle; *at; at = &(*at)->next) {
        const size_t size = (*at)->arena_bytes, best_size = best ? (*best)->arena_bytes : 0;
        if (!best || (size >= bytes && (best_size < bytes || size < best_size)) || (size < bytes && best_size < bytes && size > best_size)) best = at;
    }
    if (!best) return NULL;
    bnff_run *run = *best;
    *best = run->next;
    return run;
}

bnff_status bnff_run_acquire(bnff_pool *pool, const bnff_plan *plan, bnff_run **out, bnff_error *error)
{
    *out = NULL;
    bnff_run *run = take_idle(pool, plan->arena_bytes);
    if (!run) run = bf_calloc(1, sizeof *run);
    if (!run) return bf_fail(error, BNFF_E_MEMORY, "no memory for a run");
    char *arena = run->arena;
    size_t bytes = run->arena_bytes;
    bf_free(run->times);
    bf_free(run->cell_times);
    *run = (bnff_run){.pool = pool, .plan = plan};
    if (bytes < plan->arena_bytes) {
        bf_pages_free(&pool->context->allocator, arena, bytes);
        bytes = plan->arena_bytes;
        arena = bf_pages_alloc(&pool->context->allocator, bytes);
        if (!arena) {
            bf_free(run);
            bf_fail(error, BNFF_E_MEMORY, "no memory for the %.1f MiB of a run", (double)plan->arena_bytes / 1048576);
            return bf_hint(error, BNFF_E_MEMORY, "use a smaller batch or smaller images");
        }
    }
    run->arena = arena;
    run->arena_bytes = bytes;
    *out = run;
    return BNFF_OK;
}

void bnff_run_release(bnff_run **run)
{
    if (!run || !*run) return;
    (*run)->forwarded = false;
    (*run)->next = (*run)->pool->idle;
    (*run)->pool->idle = *run;
    *run = NULL;
}

/* -- cells -- */

typedef struct region {
    bnff_run *run;
    const bf_task *task;
    bf_cell_fn fn;
    double *times; /* of its cells; NULL: not recorded */
} region;

static void run_cell(void *argument, int index)
{
    const region *r = argument;
    const bnff_plan *plan = r->run->plan;
    const bf_cell cell = {.run = r->run, .plan = plan, .task = r->task, .k = plan->context->kernels, .index = index,
                          .scratch = r->run->arena + plan->scratch_at + (size_t)index * plan->scratch_bytes};
    if (!r->times) {
        r->fn(&cell);
        return;
    }
    const double start = bf_clock();
    r->fn(&cell);
    r->times[2 * index] = start;
    r->times[2 * index + 1] = bf_clock() - start;
}

/* Where the times of a task's part begin. */
static double *times_of(const bnff_run *run, int task, int part)
{
    return run->cell_times + 2 * (size_t)run->plan->cells * ((size_t)task * BF_PROFILE_PARTS + (size_t)part);
}

void bf_parallel_cells(bnff_run *run, const bf_task *task, bf_cell_fn fn)
{
    region r = {.run = run, .task = task, .fn = fn};
    if (run->profiling && run->parts < BF_PROFILE_PARTS) r.times = times_of(run, (int)(task - run->plan->tasks), run->parts++);
    bnff_parallel_for(run->plan->context, run_cell, &r, run->plan->cells);
}

static void run_tasks(bnff_run *run, int first, int last)
{
    for (int t = first; t < last; t++) {
        const bf_task *task = &run->plan->tasks[t];
        if (!run->profiling) {
            bf_task_run(run, task);
            continue;
        }
        run->parts = 0;
        const double start = bf_clock();
        bf_task_run(run, task);
        run->times[2 * t] = start;
        run->times[2 * t + 1] = bf_clock() - start;
    }
}

/* -- steps -- */

bnff_status bnff_forward(bnff_run *run, const bnff_forward_args *args, bnff_error *error)
{
    const bf_graph *g = &run->plan->graph;
    if (args->size != sizeof *args) return bf_fail(error, BNFF_E_ARG, "bnff_forward_args.size is %zu, not %zu", args->size, sizeof *args);
    if (!args->params && g->param_count) return bf_fail(error, BNFF_E_ARG, "bnff_forward: params is NULL");
    for (int i = 0; i < g->param_count; i++)
        if (!args->params[i]) return bf_fail(error, BNFF_E_ARG, "bnff_forward: parameter %s is NULL", g->params[i].name);
    for (int i = 0; i < g->input_count; i++)
        if (!args->inputs || !args->inputs[i].data) return bf_fail(error, BNFF_E_ARG, "bnff_forward: input %d is NULL", i);
    run->inputs = args->inputs;
    run->outputs = args->outputs;
    run->params = args->params;
    run->seed = args->seed;
    run->step = args->step;
    run_tasks(run, 0, run->plan->forward_tasks);
    run->forwarded = true;
    return BNFF_OK;
}

/* Gradients of parameters that no output depends on are zero. */
static void clear_uncovered(const bnff_run *run)
{
    const bf_graph *g = &run->plan->graph;
    for (int i = 0; i < g->param_count; i++) {
        const bool buffer = g->params[i].kind == BNFF_PARAM_RUNNING_MEAN || g->params[i].kind == BNFF_PARAM_RUNNING_VAR;
        const bool frozen = run->plan->frozen_params && run->plan->frozen_params[i];
        if (!buffer && !frozen && !run->plan->param_covered[i] && run->param_gradients[i] && !run->accumulate)
            memset(run->param_gradients[i], 0, (size_t)g->params[i].elements * sizeof(float));
    }
}

/* The gradient of an input that no output depends on is zero. */
static void clear_unreached(const bnff_run *run)
{
    const bf_graph *g = &run->plan->graph;
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        if (node->op != BF_OP_INPUT || g->values[node->out[0]].grad >= 0) continue;
        const bnff_tensor *to = &run->input_gradients[node->a.io.index];
        const bf_value *v = &g->values[node->out[0]];
        for (int q = 0; to->data && q < v->n * v->h * v->w; q++)
            for (int c = 0; c < v->c; c++)
                to->data[q / v->w / v->h * to->stride[0] + q / v->w % v->h * to->stride[1] + q % v->w * to->stride[2] + c * to->stride[3]] = 0;
    }
}

bnff_status bnff_backward(bnff_run *run, const bnff_backward_args *args, bnff_error *error)
{
    static float *const none[1] = {NULL};
    const bf_graph *g = &run->plan->graph;
    if (args->size != sizeof *args) return bf_fail(error, BNFF_E_ARG, "bnff_backward_args.size is %zu, not %zu", args->size, sizeof *args);
    if (!run->plan->settings.train) return bf_fail(error, BNFF_E_STATE, "bnff_backward: the plan was made for evaluation");
    if (!run->forwarded) return bf_fail(error, BNFF_E_STATE, "bnff_backward: no forward before it, or a second backward of one forward");
    if (!args->output_gradients) return bf_fail(error, BNFF_E_ARG, "bnff_backward: output_gradients is NULL");
    if (args->input_gradients && !run->plan->settings.input_gradients) return bf_fail(error, BNFF_E_ARG, "bnff_backward: the plan was made without input_gradients");
    if (!args->param_gradients && g->param_count) return bf_fail(error, BNFF_E_ARG, "bnff_backward: param_gradients is NULL");
    run->output_gradients = args->output_gradients;
    run->param_gradients = args->param_gradients ? args->param_gradients : none;
    run->input_gradients = args->input_gradients;
    run->accumulate = args->accumulate;
    run->forwarded = false;
    clear_uncovered(run);
    if (run->input_gradients) clear_unreached(run);
    run_tasks(run, run->plan->forward_tasks, run->plan->task_count);
    return BNFF_OK;
}

/* -- profile -- */

void bnff_run_profile(bnff_run *run, bool enable)
{
    const size_t tasks = (size_t)run->plan->task_count, cells = (size_t)run->plan->cells;
    if (enable && !run->times) run->times = bf_calloc(tasks, 2 * sizeof *run->times);
    if (enable && !run->cell_times) run->cell_times = bf_calloc(tasks, 2 * sizeof *run->cell_times * BF_PROFILE_PARTS * cells);
    run->profiling = enable && run->times && run->cell_times;
}

int bnff_run_profile_count(const bnff_run *run) { return run->profiling ? run->plan->task_count : 0; }

bool bnff_run_profile_get(const bnff_run *run, int index, bnff_task_profile *profile)
{
    if (!run->profiling || index < 0 || index >= run->plan->task_count) return false;
    const bf_task *task = &run->plan->tasks[index];
    *profile = (bnff_task_profile){.name = task->name, .kind = bf_task_kind_text(task->kind), .start_s = run->times[2 * index], .seconds = run->times[2 * index + 1],
                                   .flops = task->flops, .bytes = task->bytes};
    return true;
}

bool bnff_run_profile_cell(const bnff_run *run, int task, int index, bnff_cell_profile *profile)
{
    if (!run->profiling || task < 0 || task >= run->plan->task_count || index < 0) return false;
    const int cells = run->plan->cells, part = index / cells, cell = index % cells;
    if (part >= BF_PROFILE_PARTS) return false;
    const double *times = times_of(run, task, part) + 2 * cell;
    const bnff_context *context = run->plan->context;
    *profile = (bnff_cell_profile){.cell = cell, .thread = context->parallel ? cell : cell % context->threads, .part = part, .start_s = times[0],
                                   .seconds = times[1]};
    return times[0] > 0; /* parts that a task does not have were never begun */
}

/* -- divergence -- */

static bool all_finite(const float *x, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

static bool coefs_finite(const bnff_run *run, int coefs)
{
    const bf_layout *layout = &run->plan->layouts[coefs];
    for (int b = 0; b < layout->count; b++)
        for (int row = BF_COEF_P; row <= BF_COEF_T; row++)
            if (!all_finite(bf_row_at(run, coefs, row, b), (size_t)layout->blocks[b].channels)) return false;
    return true;
}

const char *bnff_run_first_nonfinite(const bnff_run *run, float *const *params, float *const *param_gradients)
{
    const bf_graph *g = &run->plan->graph;
    for (int i = 0; run->forwarded && i < g->node_count; i++) { /* statistics in forward order, while they are there */
        const bf_node *node = &g->nodes[i];
        if (node->op == BF_OP_BN_FINALIZE && !coefs_finite(run, node->out[0])) return node->name;
    }
    for (int i = 0; params && i < g->param_count; i++)
        if (!all_finite(params[i], (size_t)g->params[i].elements)) return g->params[i].name;
    /* Gradients flow backwards: the last layer whose gradient broke is where it began. */
    for (int i = g->param_count; param_gradients && i-- > 0;)
        if (param_gradients[i] && !all_finite(param_gradients[i], (size_t)g->params[i].elements)) return g->params[i].name;
    return NULL;
}
