/* A plan in words and in JSON. */
#include "base/memory.h"
#include "base/text.h"
#include "runtime/tasks.h"

void bnff_plan_describe(const bnff_plan *plan, bnff_plan_info *info)
{
    size_t weights = 0;
    for (int i = 0; i < plan->graph.param_count; i++) {
        const bf_param *p = &plan->graph.params[i];
        const bool buffer = p->kind == BNFF_PARAM_RUNNING_MEAN || p->kind == BNFF_PARAM_RUNNING_VAR;
        weights += (size_t)p->elements * sizeof(float) * (plan->settings.train && !buffer ? 2 : 1);
    }
    const size_t size = info->size;
    const bnff_plan_info all = {.size = size, .batch = plan->batch, .height = plan->height, .width = plan->width, .cells = plan->cells, .tasks = plan->task_count,
                                .arena_bytes = plan->arena_bytes, .weight_bytes = weights, .forward_flops = plan->forward_flops,
                                .backward_flops = plan->backward_flops, .traffic_bytes = plan->traffic_bytes, .batchnorms = plan->batchnorms,
                                .batchnorms_fused = plan->batchnorms_fused, .line_bytes = plan->traffic_lines};
    __builtin_memcpy(info, &all, size < sizeof all ? size : sizeof all);
}

/* Largest share of the work of one cell over the mean. */
static double balance(const bnff_plan *plan, const bf_task *task)
{
    const bf_grid *g = &task->grid;
    if (!g->tiles) return 1;
    const int tiles = (g->tiles + g->pixel_cells - 1) / g->pixel_cells, units = (g->units + g->channel_cells - 1) / g->channel_cells;
    return (double)tiles * units * plan->cells / ((double)g->tiles * g->units);
}

static void print_batchnorm_node(const bnff_plan *plan, int i, bool json, bool *first, bf_text *text)
{
    static const char *const roles[] = {"sweep", "prologue", "epilogue"};
    const bf_node *node = &plan->graph.nodes[i];
    const bf_placement *p = &plan->placement[i];
    const char *into = p->role == BF_ROLE_EPILOGUE ? plan->graph.nodes[p->anchor].name : NULL;
    if (json) {
        bf_text_add(text, "%s{\"layer\":", *first ? "" : ",");
        bf_text_json(text, node->name ? node->name : "");
        bf_text_add(text, ",\"part\":\"%s\",\"placed\":\"%s\",\"into\":", bf_op_text(node->op), roles[p->role]);
        if (into) bf_text_json(text, into);
        else bf_text_add(text, "null");
        bf_text_add(text, ",\"reason\":");
        bf_text_json(text, p->reason ? p->reason : "");
        bf_text_add(text, "}");
        *first = false;
    } else {
        bf_text_add(text, "  %-44s %-10s %-9s %s%s%s\n", node->name ? node->name : "", bf_op_text(node->op), roles[p->role], p->reason ? p->reason : "", into ? ": " : "", into ? into : "");
    }
}

static bool is_batchnorm_part(bf_op op)
{
    return op == BF_OP_BN_STATS || op == BF_OP_BN_APPLY || op == BF_OP_BN_REDUCE || op == BF_OP_BN_DX || op == BF_OP_BN_SCALE;
}

static void print_text(const bnff_plan *plan, bf_text *text)
{
    bool first = true;
    const double mib = 1048576;
    bf_text_add(text, "batch %d, images %d x %d, %s, %d cells, %s kernels\n", plan->batch, plan->height, plan->width, plan->settings.train ? "training" : "evaluation",
                plan->cells, plan->context->target.isa);
    bf_text_add(text, "level %s, convolutions %s: %d of %d batch normalizations without a sweep of their own\n", bnff_level_name((int)plan->settings.level),
                bf_algorithm_text(plan->algorithm), plan->batchnorms_fused, plan->batchnorms);
    bf_text_add(text, "arena %.1f MiB (values %.1f, scratch %.1f), forward %.2f GFLOP, backward %.2f GFLOP, modelled memory traffic %.2f GB a step\n\n",
                (double)plan->arena_bytes / mib, (double)plan->values_bytes / mib, (double)(plan->arena_bytes - plan->values_bytes) / mib,
                plan->forward_flops / 1e9, plan->backward_flops / 1e9, plan->traffic_bytes / 1e9);
    bf_text_add(text, "batch normalizations: where each half runs, and why\n");
    for (int i = 0; i < plan->graph.node_count; i++)
        if (is_batchnorm_part(plan->graph.nodes[i].op)) print_batchnorm_node(plan, i, false, &first, text);
    bf_text_add(text, "\n%5s %-14s %-52s %10s %10s %9s %8s\n", "task", "kind", "node", "GFLOP", "MB", "cells", "balance");
    for (int t = 0; t < plan->task_count; t++) {
        const bf_task *task = &plan->tasks[t];
        bf_text_add(text, "%5d %-14s %-52s %10.3f %10.1f %5dx%-3d %8.2f\n", t, bf_task_kind_text(task->kind), task->name, task->flops / 1e9, task->bytes / 1e6,
                    task->grid.pixel_cells, task->grid.channel_cells, balance(plan, task));
    }
}

static void print_json(const bnff_plan *plan, bf_text *text)
{
    bool first = true;
    bf_text_add(text, "{\"batch\":%d,\"height\":%d,\"width\":%d,\"training\":%s,\"cells\":%d,\"isa\":\"%s\",\"level\":\"%s\",\"algorithm\":\"%s\",\"arena_bytes\":%zu,"
                "\"forward_flops\":%.0f,\"backward_flops\":%.0f,\"modelled_traffic_bytes\":%.0f,\"modelled_line_bytes\":%.0f,\"batchnorms\":%d,\"batchnorms_fused\":%d,\"placements\":[",
                plan->batch, plan->height, plan->width, plan->settings.train ? "true" : "false", plan->cells, plan->context->target.isa,
                bnff_level_name((int)plan->settings.level), bf_algorithm_text(plan->algorithm), plan->arena_bytes, plan->forward_flops, plan->backward_flops, plan->traffic_bytes, plan->traffic_lines,
                plan->batchnorms,
                plan->batchnorms_fused);
    for (int i = 0; i < plan->graph.node_count; i++)
        if (is_batchnorm_part(plan->graph.nodes[i].op)) print_batchnorm_node(plan, i, true, &first, text);
    bf_text_add(text, "],\"tasks\":[");
    for (int t = 0; t < plan->task_count; t++) {
        const bf_task *task = &plan->tasks[t];
        bf_text_add(text, "%s{\"kind\":\"%s\",\"name\":", t ? "," : "", bf_task_kind_text(task->kind));
        bf_text_json(text, task->name);
        bf_text_add(text, ",\"backward\":%s,\"flops\":%.0f,\"bytes\":%.0f,\"line_bytes\":%.0f,\"balance\":%.3f}", task->backward ? "true" : "false", task->flops, task->bytes, task->line_bytes, balance(plan, task));
    }
    bf_text_add(text, "]}\n");
}

bnff_status bnff_plan_print(const bnff_plan *plan, bool json, char **text, bnff_error *error)
{
    bf_text out = {0};
    (json ? print_json : print_text)(plan, &out);
    *text = bf_text_take(&out);
    return *text ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to print the plan");
}
