/* Levels and algorithms of a network in turn, and the memory of each. */
#define _GNU_SOURCE
#include "bench.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

struct side {
    bnff_plan *plan;
    bench_times *samples;
    int count, retaken;
};

/* One step of each side in turn, `rounds` times; a disturbed one is taken again. */
static bnff_status measure(bench_network *n, bench_probes *probes, struct side *sides, int count, int rounds, bnff_error *error)
{
    for (int s = 0; s < count; s++) { /* page in, and load weights into the caches */
        bench_times warm;
        const bnff_status status = bench_plan_step(n, sides[s].plan, &warm, error);
        if (status) return status;
    }
    bench_probe(probes);
    for (int round = 0; round < rounds; round++) {
        for (int s = 0; s < count; s++) {
            struct side *side = &sides[s];
            for (int attempt = 0;; attempt++) {
                const bnff_status status = bench_plan_step(n, side->plan, &side->samples[side->count], error);
                if (status) return status;
                if (!bench_probe(probes) || attempt == BENCH_RETAKES) break;
                side->retaken++;
            }
            side->count++;
        }
    }
    return BNFF_OK;
}

/* -- Memory -------------------------------------------------------------------------------------------------------- */

int bench_run_child(bnff_context *context, const bench_arguments *args, bnff_error *error)
{
    bench_network network;
    bnff_plan *plan = NULL;
    bench_times times;
    bnff_status status = bench_network_open(context, args->models, args->batches[0], args->height, args->width, &network, error);
    if (status) return cli_fail(error);
    status = bench_network_plan(&network, args->levels, args->algorithms, &plan, error);
    for (int i = 0; i < 2 && status == BNFF_OK; i++) status = bench_plan_step(&network, plan, &times, error);
    bnff_plan_destroy(&plan);
    bench_network_close(&network);
    if (status) return cli_fail(error);
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    printf("%zu\n", machine.resident_peak);
    return EXIT_DONE;
}

size_t bench_child_peak(const char *model, const char *level, const char *algorithm, const bench_network *n, int threads)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return 0;
    char *batch = cli_format("%d", n->batch), *size = cli_format("%dx%d", n->height, n->width), *count = cli_format("%d", threads);
    char *words[] = {"bnff", "bench", "step", "--child", "-m", (char *)model, "-b", batch, "--size", size, "--level", (char *)level, "--conv",
                     (char *)algorithm, "-t", count, NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    pid_t child;
    const int failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    free(batch), free(size), free(count);
    unsigned long long peak = 0;
    FILE *in = fdopen(ends[0], "r");
    if (!failed && in && fscanf(in, "%llu", &peak) != 1) peak = 0;
    if (in) fclose(in);
    else close(ends[0]);
    while (!failed && waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
    return (size_t)peak;
}

/* -- Results ------------------------------------------------------------------------------------------------------- */

static double median_of(const struct side *side, size_t offset)
{
    double *values = cli_alloc((size_t)side->count, sizeof *values);
    for (int i = 0; i < side->count; i++) memcpy(&values[i], (const char *)&side->samples[i] + offset, sizeof *values);
    const double median = bench_median(values, side->count);
    free(values);
    return median;
}

static void summarize(const struct side *side, double peak, bench_result *r)
{
    r->plan.size = sizeof r->plan;
    bnff_plan_describe(side->plan, &r->plan);
    r->median = (bench_times){median_of(side, offsetof(bench_times, step)), median_of(side, offsetof(bench_times, forward)),
                              median_of(side, offsetof(bench_times, backward)), median_of(side, offsetof(bench_times, update))};
    r->min_s = side->samples[0].step;
    for (int i = 1; i < side->count; i++)
        if (side->samples[i].step < r->min_s) r->min_s = side->samples[i].step;
    const double flops = r->plan.forward_flops + r->plan.backward_flops;
    r->images_per_s = r->plan.batch / r->median.step;
    r->gflop_per_image = 1e-9 * flops / r->plan.batch;
    r->peak_fraction = flops / r->median.step / peak;
    r->retaken = side->retaken;
}

/* One model at one batch. results has room for BENCH_SIDES; also after a failure *count of them are to be freed. */
static bnff_status compare(bnff_context *context, const bench_arguments *args, const char *model, int batch, bench_probes *probes, bench_result *results,
                           int *count, bnff_error *error)
{
    bench_network network;
    struct side sides[BENCH_SIDES] = {{0}};
    *count = 0;
    bnff_status status = bench_network_open(context, model, batch, args->height, args->width, &network, error);
    if (status) return status;
    const char *levels = args->levels;
    for (char *level; (level = bench_next_word(&levels)); free(level)) {
        const char *algorithms = args->algorithms;
        for (char *algorithm; status == BNFF_OK && *count < BENCH_SIDES && (algorithm = bench_next_word(&algorithms)); ++*count) {
            results[*count] = (bench_result){.model = cli_format("%s", model), .level = cli_format("%s", level), .algorithm = algorithm};
            sides[*count].samples = cli_alloc((size_t)args->rounds, sizeof *sides->samples);
            status = bench_network_plan(&network, level, algorithm, &sides[*count].plan, error);
        }
    }
    if (status == BNFF_OK) status = measure(&network, probes, sides, *count, args->rounds, error);
    const double peak = bench_probes_median(probes);
    const bench_network shape = network;
    bench_network_close(&network); /* its memory must not stand in the children's way */
    for (int s = 0; s < *count; s++) {
        if (status == BNFF_OK) {
            summarize(&sides[s], peak, &results[s]);
            if (!args->no_rss) results[s].peak_rss = bench_child_peak(model, results[s].level, results[s].algorithm, &shape, args->threads);
        }
        bnff_plan_destroy(&sides[s].plan);
        free(sides[s].samples);
    }
    return status;
}

static int report(const char *model, int batch, const bnff_error *error, json_t *failures)
{
    bnff_error named = *error;
    snprintf(named.message, sizeof named.message, "%s: %.900s", model, error->message);
    if (failures) json_array_append_new(failures, json_pack("{s:s, s:i, s:o}", "model", model, "batch", batch, "error", cli_json_string(error->message)));
    return cli_fail(&named);
}

int bench_compare(bnff_context *context, const bench_arguments *args, bench_probes *probes, bench_results_fn take, void *user, json_t *failures)
{
    int code = EXIT_DONE;
    const char *list = args->models;
    for (char *model; code != EXIT_USAGE && (model = bench_next_word(&list)); free(model)) {
        for (int b = 0; code != EXIT_USAGE && b < args->batch_count; b++) {
            bench_result results[BENCH_SIDES];
            bnff_error error;
            int count;
            if (compare(context, args, model, args->batches[b], probes, results, &count, &error)) {
                code = report(model, args->batches[b], &error, failures);
                bench_results_free(results, count);
            } else {
                take(user, results, count);
            }
        }
    }
    return code;
}

void bench_results_free(bench_result *results, int count)
{
    for (int i = 0; i < count; i++) free(results[i].model), free(results[i].level), free(results[i].algorithm);
}

json_t *bench_result_json(const bench_result *r)
{
    return json_pack("{s:s, s:i, s:o, s:i, s:i, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:i}", "model", r->model, "batch",
                     r->plan.batch, "size", bench_size_json(r->plan.height, r->plan.width), "height", r->plan.height,
                     "width", r->plan.width, "level", r->level, "algorithm", r->algorithm, "dtype", "f32", "step_s_median", r->median.step, "step_s_min",
                     r->min_s, "images_per_s", r->images_per_s, "gflop_per_image", r->gflop_per_image, "peak_fraction", r->peak_fraction, "forward_s",
                     r->median.forward, "backward_s", r->median.backward, "update_s", r->median.update, "peak_rss_bytes", (json_int_t)r->peak_rss,
                     "arena_bytes", (json_int_t)r->plan.arena_bytes, "modelled_traffic_bytes", r->plan.traffic_bytes, "retaken", r->retaken);
}
