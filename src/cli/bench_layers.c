/* bnff bench layers: the time of every task of a training step. */
#include "bench.h"

#include <stdlib.h>

#include "profile.h"

static const cli_option options[] = {
    {"model,m", CLI_STRING, BENCH_FIELD(models), "NAME", "Model (densenet121)."},
    BENCH_BATCH,
    BENCH_SIZE,
    {"level", CLI_STRING, BENCH_FIELD(levels), "NAME", "Level of restructuring."},
    BENCH_CONV,
    {"rounds,repetitions,r", CLI_INT, BENCH_FIELD(rounds), "R", "Steps; the median of each task is shown (5).", 1, 1000},
    BENCH_THREADS,
    {"profile", CLI_STRING, BENCH_FIELD(profile), "FILE", "Also write the last step as trace events, which Perfetto and chrome://tracing open."},
    {"json", CLI_FLAG, BENCH_FIELD(json), NULL, "One JSON document: machine, tasks."},
    {0},
};

struct result {
    bnff_task_profile *tasks; /* of the last step */
    double *medians;          /* seconds of each */
    int count;
    double peak, copy; /* FLOP/s, bytes/s */
};

/* Steps with every task timed; medians by task. */
static bnff_status measure(bench_network *network, bnff_run *run, int rounds, struct result *result, bench_probes *probes, bnff_error *error)
{
    bench_times times;
    bnff_status status = bench_run_step(network, run, &times, error);
    if (status) return status;
    bnff_run_profile(run, true);
    double *samples = NULL;
    for (int round = 0; round < rounds; round++) {
        if ((status = bench_run_step(network, run, &times, error))) break;
        bench_probe(probes);
        if (!samples) {
            result->count = bnff_run_profile_count(run);
            result->tasks = cli_alloc((size_t)result->count, sizeof *result->tasks);
            result->medians = cli_alloc((size_t)result->count, sizeof *result->medians);
            samples = cli_alloc((size_t)result->count * (size_t)rounds, sizeof *samples);
        }
        for (int i = 0; i < result->count; i++)
            if (bnff_run_profile_get(run, i, &result->tasks[i])) samples[i * rounds + round] = result->tasks[i].seconds;
    }
    for (int i = 0; status == BNFF_OK && i < result->count; i++) result->medians[i] = bench_median(samples + (size_t)i * (size_t)rounds, rounds);
    free(samples);
    return status;
}

/* -- Output -------------------------------------------------------------------------------------------------------- */

/* The tasks, then a line for each kind, then all. */
static void print_table(const struct result *r)
{
    profile_print_head(stdout);
    for (int i = 0; i < r->count; i++) {
        const bnff_task_profile *t = &r->tasks[i];
        profile_print_line(stdout, t->name, t->kind, r->medians[i], t->flops, t->bytes, r->peak);
    }
    printf("\n");
    profile_print_kinds(stdout, r->tasks, r->medians, r->count, r->peak);
    printf("\nFMA peak %.0f GFLOP/s, copying %.1f GB/s; modelled: main-memory bytes of the plan's model\n", 1e-9 * r->peak, 1e-9 * r->copy);
}

static int print_json(const bench_arguments *args, const bench_network *n, const struct result *r)
{
    json_t *tasks = json_array();
    for (int i = 0; i < r->count; i++) {
        const bnff_task_profile *t = &r->tasks[i];
        const double s = r->medians[i];
        json_array_append_new(tasks, json_pack("{s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f}", "name", t->name, "kind", t->kind, "ms", 1e3 * s, "flops",
                                               t->flops, "gflops", s > 0 ? 1e-9 * t->flops / s : 0, "peak_fraction", s > 0 ? t->flops / s / r->peak : 0,
                                               "gbs", s > 0 ? 1e-9 * t->bytes / s : 0, "modelled_bytes", t->bytes));
    }
    return cli_json_print(json_pack("{s:o, s:s, s:i, s:o, s:i, s:i, s:s, s:s, s:o}", "machine", bench_machine_json(n->context, r->peak, r->copy), "model",
                                    args->models, "batch", n->batch, "size", bench_size_json(n->height, n->width), "height",
                                    n->height, "width", n->width, "level", args->levels, "algorithm", args->algorithms, "tasks", tasks));
}

static int bench(bnff_context *context, const bench_arguments *args)
{
    bnff_error error;
    bench_network network;
    bnff_plan *plan = NULL;
    bnff_run *run = NULL;
    struct result result = {0};
    double read;
    bnff_status status = bench_network_open(context, args->models, args->batches[0], args->height, args->width, &network, &error);
    if (status) return cli_fail(&error);
    bench_probes probes;
    bench_probes_begin(&probes, context);
    status = bnff_measure_bandwidth(context, 0.3, &read, &result.copy, &error);
    if (status == BNFF_OK) status = bench_network_plan(&network, args->levels, args->algorithms, &plan, &error);
    if (status == BNFF_OK) status = bnff_run_acquire(network.pool, plan, &run, &error);
    if (status == BNFF_OK) status = measure(&network, run, args->rounds, &result, &probes, &error);
    result.peak = bench_probes_median(&probes);
    int code = status ? cli_fail(&error) : EXIT_DONE;
    if (code == EXIT_DONE && args->profile) code = profile_write(run, args->profile);
    if (code == EXIT_DONE && args->json) code = print_json(args, &network, &result);
    else if (code == EXIT_DONE) print_table(&result);
    free(result.tasks);
    free(result.medians);
    bench_probes_end(&probes);
    bnff_run_release(&run);
    bnff_plan_destroy(&plan);
    bench_network_close(&network);
    return code;
}

static int run(const cli_command *self, int argc, char **argv)
{
    bench_arguments args = {.models = "densenet121", .levels = bnff_default_level(), .algorithms = bnff_default_algorithm(), .rounds = 5};
    bnff_context *context = NULL;
    int code = bench_begin(self, argc, argv, &args, &context);
    if (code < 0) code = bench(context, &args);
    bnff_context_destroy(&context);
    return code;
}

const cli_command bench_layers = {
    .name = "bench layers", .usage = "[options]", .summary = "Time every task of a training step", .options = options, .run = run,
    .examples = "  bnff bench layers -m resnet50 -b 32\n  bnff bench layers -m densenet121 -b 8 --profile step.json\n",
};
