/* Making a plan: passes, layout, tasks, memory. */
#include "runtime/plan.h"

#include <string.h>

#include "base/memory.h"
#include "runtime/tasks.h"

struct named { const char *name; int value; };
static const struct named levels[] = {
    {"layerwise", BF_LAYERWISE}, {"mvf", BF_MVF}, {"rcf", BF_RCF}, {"bnff", BF_BNFF}, {"icf", BF_ICF}, {"tuned", BF_TUNED},
};
static const struct named algorithms[] = {
    {"direct", BF_DIRECT}, {"f2", BF_F2}, {"f2x4", BF_F2X4}, {"f4", BF_F4}, {"auto", BF_AUTO}, {"fast", BF_FAST},
};
enum {
    LEVELS = sizeof levels / sizeof *levels, ALGORITHMS = sizeof algorithms / sizeof *algorithms, MOST_NAMES = 16,
    MAX_CELLS = 1024, MAX_SIDE = 1 << 15, MAX_BATCH = 1 << 20
};

const char *bnff_level_name(int index) { return index >= 0 && index < LEVELS ? levels[index].name : NULL; }
const char *bnff_default_level(void) { return "icf"; }
const char *bnff_algorithm_name(int index) { return index >= 0 && index < ALGORITHMS ? algorithms[index].name : NULL; }
const char *bnff_default_algorithm(void) { return "auto"; }

const char *bf_algorithm_text(bf_algorithm algorithm)
{
    int i = 0;
    while (i < ALGORITHMS - 1 && algorithms[i].value != (int)algorithm) i++;
    return algorithms[i].name;
}

static bnff_status find(const struct named *known, int count, const char *what, const char *name, int *value, bnff_error *error)
{
    const char *names[MOST_NAMES];
    char all[256] = "";
    for (int i = 0; i < count; i++) {
        if (!strcmp(name, known[i].name)) return *value = known[i].value, BNFF_OK;
        names[i] = known[i].name;
        strcat(strcat(all, i ? ", " : ""), names[i]);
    }
    bf_fail(error, BNFF_E_ARG, "%s '%s' is unknown", what, name);
    return bf_hint(error, BNFF_E_ARG, "did you mean '%s'? there are %s", bf_nearest(name, names, count), all);
}

static bnff_status find_level(const char *name, bf_level *level, bnff_error *error)
{
    int value = 0;
    BF_TRY(find(levels, LEVELS, "level", name ? name : bnff_default_level(), &value, error));
    return *level = (bf_level)value, BNFF_OK;
}

bnff_status bf_find_algorithm(const char *name, bf_algorithm *algorithm, bnff_error *error)
{
    int value = 0;
    BF_TRY(find(algorithms, ALGORITHMS, "convolution algorithm", name ? name : bnff_default_algorithm(), &value, error));
    return *algorithm = (bf_algorithm)value, BNFF_OK;
}

static bnff_status check_side(int height, int width, bnff_error *error)
{
    if (height >= 1 && height <= MAX_SIDE && width >= 1 && width <= MAX_SIDE) return BNFF_OK;
    return bf_fail(error, BNFF_E_ARG, "image size %d x %d is not between 1 and %d", height, width, MAX_SIDE);
}

/* Height and width may be left out where every input has a size of its own. */
static bnff_status check_input_sizes(const bnff_graph *graph, const bnff_plan_options *o, bnff_error *error)
{
    bool own = graph->ir.input_count > 0;
    for (int i = 0; i < graph->ir.node_count; i++) {
        const bf_node *node = &graph->ir.nodes[i];
        if (node->op != BF_OP_INPUT) continue;
        const int *size = o->input_sizes ? o->input_sizes[node->a.io.index] : NULL;
        const bool given = size && (size[0] || size[1]);
        if (given) BF_TRY(check_side(size[0], size[1], error));
        own &= given || node->a.io.h;
    }
    return own && !o->height && !o->width ? BNFF_OK : check_side(o->height, o->width, error);
}

static bnff_status check_options(const bnff_graph *graph, const bnff_plan_options *o, bnff_error *error)
{
    BF_TRY(bnff_graph_status(graph, error));
    if (o->size != sizeof *o && o->size != offsetof(bnff_plan_options, input_sizes)) return bf_fail(error, BNFF_E_ARG, "bnff_plan_options.size is %zu, not %zu", o->size, sizeof *o);
    if (o->batch < 1 || o->batch > MAX_BATCH) return bf_fail(error, BNFF_E_ARG, "batch %d is not between 1 and %d", o->batch, MAX_BATCH);
    BF_TRY(check_input_sizes(graph, o, error));
    if (o->cells < 0 || o->cells > MAX_CELLS) return bf_fail(error, BNFF_E_ARG, "%d cells; 0 to %d are possible", o->cells, MAX_CELLS);
    if (!graph->ir.output_count || !graph->ir.input_count) return bf_fail(error, BNFF_E_ARG, "the graph has no %s", graph->ir.input_count ? "output" : "input");
    return BNFF_OK;
}

static bool *copy_flags(const bool *flags, int count)
{
    bool *copy = flags ? bf_alloc((size_t)count * sizeof *copy) : NULL;
    return copy ? memcpy(copy, flags, (size_t)count * sizeof *copy) : NULL;
}

/* A training BN needs two values of each channel. */
static bnff_status check_batchnorms(const bf_graph *g, const bnff_plan_options *o, bnff_error *error)
{
    for (int i = 0; i < g->node_count; i++) {
        const bf_node *node = &g->nodes[i];
        const bool frozen = o->mode != BNFF_TRAIN || (node->op == BF_OP_BN && o->frozen_stats && o->frozen_stats[node->param[2]]);
        if (node->op != BF_OP_BN || frozen || bf_pixels(&g->values[node->in[0]]) > 1) continue;
        bf_fail(error, BNFF_E_SHAPE, "%s: batch normalization of one value per channel (batch %d, %d x %d pixels) in training", node->name, o->batch,
                g->values[node->in[0]].h, g->values[node->in[0]].w);
        return bf_hint(error, BNFF_E_SHAPE, "use a batch of 2 or more, larger images, or freeze its statistics");
    }
    return BNFF_OK;
}

/* What no index could count and no arena hold is refused before anything is laid out. */
static bnff_status check_sizes(const bf_graph *g, bnff_error *error)
{
    for (int v = 0; v < g->value_count; v++) {
        const bf_value *x = &g->values[v];
        const double pixels = (double)x->n * x->h * x->w;
        if (pixels * x->c < 2e12 && pixels < 2e9) continue;
        bf_fail(error, BNFF_E_MEMORY, "a value of %d x %d x %d x %d (batch, height, width, channels): %s", x->n, x->h, x->w, x->c,
                pixels < 2e9 ? "it needs more memory than any machine has" : "it may have 2e9 pixels at most");
        return bf_hint(error, BNFF_E_MEMORY, "use a smaller batch or smaller images");
    }
    return BNFF_OK;
}

static void count_batchnorms(bnff_plan *plan)
{
    const bf_graph *g = &plan->graph;
    for (int i = 0; i < g->node_count; i++) {
        if (g->nodes[i].op != BF_OP_BN_APPLY || g->nodes[i].a.bn.scale) continue;
        plan->batchnorms++;
        bool sweeps = plan->placement[i].role == BF_ROLE_TASK;
        for (int k = 0; k < g->node_count; k++) {
            const bf_op op = g->nodes[k].op;
            if ((op == BF_OP_BN_STATS || op == BF_OP_BN_REDUCE || op == BF_OP_BN_DX) && g->nodes[k].name && !strcmp(g->nodes[k].name, g->nodes[i].name))
                sweeps |= plan->placement[k].role == BF_ROLE_TASK;
        }
        plan->batchnorms_fused += !sweeps;
    }
}

static bnff_status build(bnff_plan *plan, const bnff_plan_options *o, bnff_error *error)
{
    BF_TRY(bf_infer_shapes(&plan->graph, o->batch, o->height, o->width, o->input_sizes, error));
    BF_TRY(check_batchnorms(&plan->graph, o, error));
    BF_TRY(check_sizes(&plan->graph, error));
    BF_TRY(bf_run_passes(&plan->graph, &plan->settings, &plan->placement, error));
    BF_TRY(bf_make_layouts(plan, error));
    BF_TRY(bf_lower(plan, error));
    for (int t = 0; t < plan->task_count; t++) {
        BF_TRY(bf_task_setup(plan, &plan->tasks[t], error));
        *(t < plan->forward_tasks ? &plan->forward_flops : &plan->backward_flops) += plan->tasks[t].flops;
    }
    BF_TRY(bf_place_memory(plan, error));
    BF_TRY(bf_model_traffic(plan, error));
    count_batchnorms(plan);
    bf_log(plan->context, "plan", "batch,%d,size,%dx%d,tasks,%d,arena,%zu,bn_fused,%d/%d", plan->batch, plan->height, plan->width, plan->task_count,
           plan->arena_bytes, plan->batchnorms_fused, plan->batchnorms);
    return BNFF_OK;
}

bnff_status bnff_plan_create(bnff_context *context, const bnff_graph *graph, const bnff_plan_options *o, bnff_plan **out, bnff_error *error)
{
    *out = NULL;
    bf_level level = BF_LAYERWISE;
    bf_algorithm algorithm = BF_DIRECT;
    bnff_plan_options all = {0}; /* callers built before the last field was added know less */
    memcpy(&all, o, o->size < sizeof all ? o->size : sizeof all);
    o = &all;
    BF_TRY(check_options(graph, o, error));
    BF_TRY(find_level(o->level, &level, error));
    BF_TRY(bf_find_algorithm(o->algorithm, &algorithm, error));
    bnff_plan *plan = bf_calloc(1, sizeof *plan);
    if (!plan) return bf_fail(error, BNFF_E_MEMORY, "no memory for a plan");
    plan->context = context;
    plan->cells = o->cells ? o->cells : context->threads;
    plan->algorithm = algorithm;
    plan->batch = o->batch;
    plan->height = o->height;
    plan->width = o->width;
    plan->frozen_params = copy_flags(o->frozen_params, graph->ir.param_count);
    plan->frozen_stats = copy_flags(o->frozen_stats, graph->ir.param_count);
    plan->settings = (bf_settings){.level = level, .train = o->mode == BNFF_TRAIN, .pool_first = algorithm != BF_DIRECT, .frozen_params = plan->frozen_params, .frozen_stats = plan->frozen_stats,
                                   .input_gradients = o->input_gradients};
    bnff_status status;
    if ((o->frozen_params && !plan->frozen_params) || (o->frozen_stats && !plan->frozen_stats) || !bf_graph_copy(&plan->graph, &graph->ir))
        status = bf_fail(error, BNFF_E_MEMORY, "no memory for a plan");
    else status = build(plan, o, error);
    if (status != BNFF_OK) bnff_plan_destroy(&plan);
    *out = plan;
    return status;
}

void bnff_plan_destroy(bnff_plan **out)
{
    if (!out || !*out) return;
    bnff_plan *plan = *out;
    for (int t = 0; t < plan->task_count; t++) bf_task_free(&plan->tasks[t]);
    for (int v = 0; plan->layouts && v < plan->graph.value_count; v++) bf_free(plan->layouts[v].blocks);
    bf_free(plan->layouts);
    bf_free(plan->tasks);
    bf_free(plan->placement);
    bf_free(plan->param_covered);
    bf_free(plan->frozen_params);
    bf_free(plan->frozen_stats);
    bf_graph_clear(&plan->graph);
    bf_free(plan);
    *out = NULL;
}

bool bnff_plan_output_shape(const bnff_plan *plan, int index, int shape[4])
{
    for (int i = 0; i < plan->graph.node_count; i++) {
        const bf_node *node = &plan->graph.nodes[i];
        if (node->op != BF_OP_OUTPUT || node->a.io.index != index) continue;
        const bf_value *v = &plan->graph.values[node->in[0]];
        shape[0] = v->n, shape[1] = v->h, shape[2] = v->w, shape[3] = v->c;
        return true;
    }
    return false;
}
