/* A plan in words and in JSON. */
#include "base/memory.h"
#include "runtime/tasks.h"
#include "runtime/words.h"

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

/* Convolutions that average pooling has moved in front of. */
static int pooled_first(const bnff_plan *plan)
{
    int count = 0;
    for (int i = 0; i < plan->graph.node_count; i++) count += plan->graph.nodes[i].op == BF_OP_CONV && plan->graph.nodes[i].a.conv.nominal_h;
    return count;
}

static void print_head(const bnff_plan *plan, bf_text *text)
{
    const double mib = 1048576;
    bf_text_add(text, "Plan of %s: %d image%s of %d x %d, level %s, %d cell%s, %s kernels, convolutions %s\n",
                plan->settings.train ? "a training step" : "an evaluation", plan->batch, plan->batch == 1 ? "" : "s", plan->height, plan->width,
                bnff_level_name((int)plan->settings.level), plan->cells, plan->cells == 1 ? "" : "s", plan->context->target.isa, bf_algorithm_text(plan->algorithm));
    bf_text_add(text, "  memory        %.1f MiB beside weights and their gradients: values %.1f, scratch %.1f\n", (double)plan->arena_bytes / mib,
                (double)plan->values_bytes / mib, (double)(plan->arena_bytes - plan->values_bytes) / mib);
    bf_text_add(text, "  arithmetic    %.2f GFLOP forward, %.2f GFLOP backward\n", plan->forward_flops / 1e9, plan->backward_flops / 1e9);
    if (pooled_first(plan)) bf_text_add(text, "                less in fact: the average pooling behind %d convolution%s 1x1 runs in front of %s\n", pooled_first(plan),
                                         pooled_first(plan) == 1 ? "" : "s", pooled_first(plan) == 1 ? "it" : "them");
    bf_text_add(text, "  main memory   %.2f GB read and written, modelled for a last-level cache of %.3g MiB\n", plan->traffic_bytes / 1e9, (double)plan->context->target.l3 / mib);
}

/* Does the plan say how this task multiplies, and why? */
static bool chooses(const bnff_plan *plan, const bf_task *task)
{
    return plan->algorithm != BF_DIRECT && (task->kind == BF_TASK_CONV || task->kind == BF_TASK_CONV_BWD);
}

static void print_text(const bnff_plan *plan, bf_text *text)
{
    print_head(plan, text);
    bf_text_add(text, "\nBatch normalizations\n"
                "  Forward each computes statistics (mean and variance of every channel) and normalises; backward it sums dy and dy*x for its\n"
                "  gradients and computes the gradient of its input. Each piece runs either in a sweep of its own over memory, or inside a task\n"
                "  that has the tensor in cache anyway: as that task loads what it reads, or as it stores its result.\n"
                "  %d of %d need no sweep of their own.\n", plan->batchnorms_fused, plan->batchnorms);
    bf_describe_norms(plan, false, text);
    bf_text_add(text, "\nTasks, in order\n"
                "  MB: modelled bytes to and from main memory, weights included. Cells: parts of pixels x parts of channels that threads take;\n"
                "  balance: work of the busiest over the mean. Then what is computed on the way in and out, beside the operator itself.\n"
                "  bn_finalize, bn_grad_finalize and bn_collect: a few operations for each channel between one piece and the next.\n\n");
    bf_text_add(text, "%5s  %-56s %9s %9s %8s %7s  %s\n", "task", "operator and layer", "GFLOP", "MB", "cells", "balance", "loading -> storing");
    for (int t = 0; t < plan->task_count; t++) {
        const bf_task *task = &plan->tasks[t];
        if (t == plan->forward_tasks) bf_text_add(text, "       backward\n");
        bf_text_add(text, "%5d  %-56s %9.3f %9.2f %4dx%-3d %7.2f  ", t, task->name, task->flops / 1e9, task->bytes / 1e6, task->grid.pixel_cells, task->grid.channel_cells,
                    balance(plan, task));
        bf_task_loads(task, text);
        bf_text_add(text, " ->");
        if (task->epilogue.count) bf_text_add(text, " ");
        bf_task_stores(task, text);
        if (chooses(plan, task)) bf_text_add(text, "; %s: %s", bf_algorithm_text(task->conv.algorithm), task->conv.why);
        if (chooses(plan, task) && task->conv.algorithm != BF_DIRECT) bf_text_add(text, ", modelled %.2f times direct", task->conv.gain);
        bf_text_add(text, "\n");
    }
}

static void print_words(void (*words)(const bf_task *, bf_text *), const bf_task *task, bf_text *text)
{
    bf_text line = {0};
    words(task, &line);
    bf_text_json(text, line.data ? line.data : "");
    text->failed |= line.failed;
    bf_text_free(&line);
}

static void print_json(const bnff_plan *plan, bf_text *text)
{
    bf_text_add(text, "{\"batch\":%d,\"height\":%d,\"width\":%d,\"training\":%s,\"cells\":%d,\"isa\":\"%s\",\"level\":\"%s\",\"algorithm\":\"%s\","
                "\"caches\":[%zu,%zu,%zu],\"arena_bytes\":%zu,\"values_bytes\":%zu,\"forward_flops\":%.0f,\"backward_flops\":%.0f,"
                "\"modelled_traffic_bytes\":%.0f,\"modelled_line_bytes\":%.0f,\"batchnorms\":%d,\"batchnorms_fused\":%d,\"pooled_first\":%d,\"normalizations\":[",
                plan->batch, plan->height, plan->width, plan->settings.train ? "true" : "false", plan->cells, plan->context->target.isa,
                bnff_level_name((int)plan->settings.level), bf_algorithm_text(plan->algorithm), plan->context->target.l1, plan->context->target.l2,
                plan->context->target.l3, plan->arena_bytes, plan->values_bytes, plan->forward_flops, plan->backward_flops, plan->traffic_bytes, plan->traffic_lines,
                plan->batchnorms, plan->batchnorms_fused, pooled_first(plan));
    bf_describe_norms(plan, true, text);
    bf_text_add(text, "],\"tasks\":[");
    for (int t = 0; t < plan->task_count; t++) {
        const bf_task *task = &plan->tasks[t];
        bf_text_add(text, "%s{\"kind\":\"%s\",\"name\":", t ? "," : "", bf_task_kind_text(task->kind));
        bf_text_json(text, task->name);
        bf_text_add(text, ",\"backward\":%s,\"flops\":%.0f,\"bytes\":%.0f,\"line_bytes\":%.0f,\"pixel_cells\":%d,\"channel_cells\":%d,\"balance\":%.3f,\"loading\":",
                    task->backward ? "true" : "false", task->flops, task->bytes, task->line_bytes, task->grid.pixel_cells, task->grid.channel_cells, balance(plan, task));
        print_words(bf_task_loads, task, text);
        bf_text_add(text, ",\"storing\":");
        print_words(bf_task_stores, task, text);
        if (chooses(plan, task)) bf_text_add(text, ",\"algorithm\":\"%s\",\"algorithm_reason\":\"%s\",\"algorithm_gain\":%.3f", bf_algorithm_text(task->conv.algorithm), task->conv.why, task->conv.gain);
        bf_text_add(text, "}");
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
