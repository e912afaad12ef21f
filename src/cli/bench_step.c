/* bnff bench step: whole training steps, levels alternating within one run. */
#include "bench.h"

#include <stdlib.h>

static const cli_option options[] = {
    BENCH_MODELS,
    BENCH_BATCH_LIST,
    BENCH_SIZE,
    {"level", CLI_STRING, BENCH_FIELD(levels), "NAME,...", "Levels of restructuring to compare. Default: the one that training uses."},
    BENCH_CONV_LIST,
    {"rounds,repetitions,r", CLI_INT, BENCH_FIELD(rounds), "R", "Steps of each level (5).", 1, 10000},
    BENCH_THREADS,
    {"no-rss", CLI_FLAG, BENCH_FIELD(no_rss), NULL, "Leave out the peak memory, which takes a process and two steps for each level."},
    {"json", CLI_FLAG, BENCH_FIELD(json), NULL, "One JSON document: machine, runs."},
    {"child", CLI_FLAG, BENCH_FIELD(child), NULL, NULL}, /* the process whose memory is measured: prints its peak */
    {0},
};

static void print_head(void)
{
    printf("%-14s %4s %7s %-10s %-7s %8s %8s %6s %8s %8s %7s %10s %10s %10s %4s\n", "model", "N", "size", "level", "conv", "step s", "img/s", "% peak", "fwd s",
           "bwd s", "upd s", "peak rss", "arena", "traffic", "re");
}

static void print_result(const bench_result *r)
{
    char size[24], rss[32] = "-", arena[32], traffic[32];
    if (r->peak_rss) cli_bytes(rss, (double)r->peak_rss);
    printf("%-14s %4d %7s %-10s %-7s %8.3f %8.2f %6.1f %8.3f %8.3f %7.3f %10s %10s %10s %4d\n", r->model, r->plan.batch,
           bench_size_text(r->plan.height, r->plan.width, size), r->level, r->algorithm, r->median.step, r->images_per_s, 100 * r->peak_fraction, r->median.forward,
           r->median.backward, r->median.update, rss, cli_bytes(arena, (double)r->plan.arena_bytes), cli_bytes(traffic, r->plan.traffic_bytes), r->retaken);
    fflush(stdout);
}

/* Where the results go: into the document, or on the screen as they come. */
struct table {
    json_t *runs; /* NULL: print */
    bool begun;
};

static void take_results(void *user, bench_result *results, int count)
{
    struct table *table = user;
    if (!table->runs && !table->begun) print_head();
    table->begun = true;
    for (int i = 0; i < count; i++) {
        if (table->runs) json_array_append_new(table->runs, bench_result_json(&results[i]));
        else print_result(&results[i]);
    }
    bench_results_free(results, count);
}

static int bench(bnff_context *context, const bench_arguments *args)
{
    bnff_error error;
    double read, copy;
    if (bnff_measure_bandwidth(context, 0.3, &read, &copy, &error)) return cli_fail(&error);
    bench_probes probes;
    bench_probes_begin(&probes, context);
    struct table table = {.runs = args->json ? json_array() : NULL};
    json_t *failures = json_array();
    const int code = bench_compare(context, args, &probes, take_results, &table, failures);
    const double peak = bench_probes_median(&probes);
    bench_probes_end(&probes);
    if (table.runs && code != EXIT_USAGE)
        cli_json_print(json_pack("{s:o, s:O, s:O}", "machine", bench_machine_json(context, peak, copy), "runs", table.runs, "failures", failures));
    else if (table.begun) bench_print_machine(context, peak, read, copy);
    json_decref(table.runs);
    json_decref(failures);
    return code;
}

static int run(const cli_command *self, int argc, char **argv)
{
    bench_arguments args = {.models = "densenet121", .levels = bnff_default_level(), .algorithms = bnff_default_algorithm(), .rounds = 5};
    bnff_context *context = NULL;
    bnff_error error;
    int code = bench_begin(self, argc, argv, &args, &context);
    if (code < 0) code = args.child ? bench_run_child(context, &args, &error) : bench(context, &args);
    bnff_context_destroy(&context);
    return code;
}

const cli_command bench_step = {
    .name = "bench step", .usage = "[options]", .summary = "Time whole training steps: forward, loss, backward, update", .options = options, .run = run,
    .text = "Levels and algorithms alternate step by step in one run; medians. A short probe of multiply-adds runs between steps:\n"
            "a step beside a probe below 94 % of the best was disturbed and is taken again, at most 3 times, and\n"
            "counted (re). % peak: nominal FLOPs of a direct convolution over time over the probes' median.",
    .examples = "  bnff bench step -m densenet121,resnet50 -b 32\n  bnff bench step -m densenet121 -b 8 --level layerwise,tuned -r 9 --json\n"
                "  bnff bench step -m mobilenet_v2 -b 1,7,64 --size 97x131\n",
};
