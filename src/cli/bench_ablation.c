/* bnff bench ablation: what each level of restructuring gains, in time, memory and traffic. */
#include "bench_ablation.h"

#include <stdlib.h>
#include <string.h>

static const cli_option options[] = {
    BENCH_MODELS,
    BENCH_BATCH_LIST,
    BENCH_SIZE,
    {"level", CLI_STRING, BENCH_FIELD(levels), "NAME,...", "Only these levels. Default: all of them."},
    BENCH_CONV_LIST,
    {"rounds,repetitions,r", CLI_INT, BENCH_FIELD(rounds), "R", "Steps of each level (5).", 1, 10000},
    BENCH_THREADS,
    {"project", CLI_DOUBLE, BENCH_FIELD(gbs_per_core), "GB/S", "Bandwidth per core that times are projected to (5).", 0.1, 1000},
    {"no-rss", CLI_FLAG, BENCH_FIELD(no_rss), NULL, "Leave out the peak memory, which takes a process and two steps for each level."},
    {"svg", CLI_STRING, BENCH_FIELD(svg), "FILE", "Also draw the table."},
    {"json", CLI_FLAG, BENCH_FIELD(json), NULL, "One JSON document: machine, projection, runs."},
    {0},
};

/* -- The projection ------------------------------------------------------------------------------------------------ */

double ablation_project(const ablation *a, const bench_result *r)
{
    const double compute = r->median.step - r->plan.traffic_bytes / a->copy;
    return (compute > 0 ? compute : 0) + r->plan.traffic_bytes / a->projected;
}

double ablation_ratio(const ablation *a, const ablation_group *g, const bench_result *r, const char *name, bool projected)
{
    for (int i = 0; i < g->count; i++) {
        const bench_result *base = &g->results[i];
        if (strcmp(base->level, name) || strcmp(base->algorithm, r->algorithm)) continue;
        return projected ? ablation_project(a, base) / ablation_project(a, r) : base->median.step / r->median.step;
    }
    return 0;
}

/* -- Output -------------------------------------------------------------------------------------------------------- */

/* "1.26", or "-" for 0. */
static const char *ratio_text(double ratio, char text[16])
{
    if (ratio > 0) snprintf(text, 16, "%.2f", ratio);
    else snprintf(text, 16, "-");
    return text;
}

static void print_group(const ablation *a, const ablation_group *g)
{
    char size[24];
    const bnff_plan_info *plan = &g->results[0].plan;
    printf("%s, batch %d, %s pixels\n%-10s %-7s %8s %8s %8s %7s %6s %6s %6s %6s %9s %9s %9s %3s | %8s %6s %6s\n", g->results[0].model, plan->batch,
           bench_size_text(plan->height, plan->width, size), "level", "conv", "step s", "fwd s", "bwd s", "upd s", "% peak", "img/s", "/layer", "/tuned", "peak rss",
           "arena", "traffic", "re", "proj. s", "/layer", "/tuned");
    for (int i = 0; i < g->count; i++) {
        const bench_result *r = &g->results[i];
        char rss[32] = "-", arena[32], traffic[32], ratios[4][16];
        if (r->peak_rss) cli_bytes(rss, (double)r->peak_rss);
        printf("%-10s %-7s %8.3f %8.3f %8.3f %7.3f %6.1f %6.1f %6s %6s %9s %9s %9s %3d | %8.3f %6s %6s\n", r->level, r->algorithm, r->median.step, r->median.forward,
               r->median.backward, r->median.update, 100 * r->peak_fraction, r->images_per_s,
               ratio_text(ablation_ratio(a, g, r, "layerwise", false), ratios[0]), ratio_text(ablation_ratio(a, g, r, "tuned", false), ratios[1]), rss,
               cli_bytes(arena, (double)r->plan.arena_bytes), cli_bytes(traffic, r->plan.traffic_bytes), r->retaken, ablation_project(a, r),
               ratio_text(ablation_ratio(a, g, r, "layerwise", true), ratios[2]), ratio_text(ablation_ratio(a, g, r, "tuned", true), ratios[3]));
    }
    printf("\n");
}

static void print_legend(const ablation *a)
{
    printf("/layer, /tuned: times as fast as that level. traffic: main-memory bytes of the plan's model.\n"
           "proj. s is a PROJECTION, not a measurement, to %.1f GB/s per core (%.1f in all) from %.1f GB/s here:\n"
           "    max(step - traffic/copying, 0) + traffic/projected bandwidth\n", 1e-9 * a->projected / a->threads, 1e-9 * a->projected, 1e-9 * a->copy);
}

static json_t *number_or_null(double value) { return value > 0 ? json_real(value) : json_null(); }

static json_t *json_runs(const ablation *a)
{
    json_t *runs = json_array();
    for (int i = 0; i < a->count; i++) {
        const ablation_group *g = &a->groups[i];
        for (int k = 0; k < g->count; k++) {
            const bench_result *r = &g->results[k];
            json_t *run = bench_result_json(r);
            json_object_set_new(run, "over_layerwise", number_or_null(ablation_ratio(a, g, r, "layerwise", false)));
            json_object_set_new(run, "over_tuned", number_or_null(ablation_ratio(a, g, r, "tuned", false)));
            json_object_set_new(run, "projected_s", json_real(ablation_project(a, r)));
            json_object_set_new(run, "projected_over_layerwise", number_or_null(ablation_ratio(a, g, r, "layerwise", true)));
            json_object_set_new(run, "projected_over_tuned", number_or_null(ablation_ratio(a, g, r, "tuned", true)));
            json_array_append_new(runs, run);
        }
    }
    return runs;
}

/* -- The command --------------------------------------------------------------------------------------------------- */

static void take_results(void *user, bench_result *results, int count)
{
    ablation *a = user;
    ablation_group *groups = cli_alloc((size_t)a->count + 1, sizeof *groups);
    if (a->count) memcpy(groups, a->groups, (size_t)a->count * sizeof *groups);
    free(a->groups);
    a->groups = groups;
    memcpy(groups[a->count].results, results, (size_t)count * sizeof *results);
    groups[a->count++].count = count;
}

/* Bandwidths, or better ones than were found before: the projection must not rest on a disturbed moment. */
static bnff_status measure_bandwidth(bnff_context *context, ablation *a, bnff_error *error)
{
    double read, copy;
    const bnff_status status = bnff_measure_bandwidth(context, 0.3, &read, &copy, error);
    if (status) return status;
    if (read > a->read) a->read = read;
    if (copy > a->copy) a->copy = copy;
    return BNFF_OK;
}

static int print_json(const ablation *a, const bnff_context *context, const bench_arguments *args, json_t *failures)
{
    return cli_json_print(json_pack("{s:o, s:{s:f, s:s}, s:o, s:O}", "machine", bench_machine_json(context, a->peak, a->copy), "projection", "gbs_per_core",
                                    args->gbs_per_core, "formula", "max(step - traffic/copying, 0) + traffic/(gbs_per_core * threads)", "runs", json_runs(a),
                                    "failures", failures));
}

static void print_tables(const ablation *a, const bnff_context *context)
{
    for (int i = 0; i < a->count; i++) print_group(a, &a->groups[i]);
    print_legend(a);
    bench_print_machine(context, a->peak, a->read, a->copy);
}

static int bench(bnff_context *context, const bench_arguments *args)
{
    bnff_error error;
    ablation a = {.threads = args->threads, .projected = 1e9 * args->gbs_per_core * args->threads};
    if (measure_bandwidth(context, &a, &error)) return cli_fail(&error);
    bench_probes probes;
    bench_probes_begin(&probes, context);
    json_t *failures = json_array();
    int code = bench_compare(context, args, &probes, take_results, &a, failures);
    if (code != EXIT_USAGE && measure_bandwidth(context, &a, &error)) code = cli_fail(&error);
    a.peak = bench_probes_median(&probes);
    bench_probes_end(&probes);
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    snprintf(a.machine, sizeof a.machine, "%s, %s, %d threads", machine.cpu, bnff_context_isa(context), args->threads);
    const int drawn = a.count && args->svg ? ablation_draw(&a, args->svg) : EXIT_DONE;
    if (args->json && code != EXIT_USAGE) print_json(&a, context, args, failures);
    else if (a.count) print_tables(&a, context);
    for (int i = 0; i < a.count; i++) bench_results_free(a.groups[i].results, a.groups[i].count);
    free(a.groups);
    json_decref(failures);
    return code != EXIT_DONE ? code : drawn;
}

/* All levels, least restructured first, with the strongest that does not restructure behind the one that restructures least. */
static char *all_levels(void)
{
    char *list = cli_format("%s", bnff_level_name(0));
    const char *name;
    for (int i = 1; (name = bnff_level_name(i)); i++) {
        char *longer = strcmp(name, "tuned") ? cli_format("%s,%s", list, name) : cli_format("%s,tuned%s", bnff_level_name(0), list + strlen(bnff_level_name(0)));
        free(list);
        list = longer;
    }
    return list;
}

static int run(const cli_command *self, int argc, char **argv)
{
    char *levels = all_levels();
    bench_arguments args = {.models = "densenet121", .levels = levels, .algorithms = bnff_default_algorithm(), .rounds = 5, .gbs_per_core = 5};
    bnff_context *context = NULL;
    int code = bench_begin(self, argc, argv, &args, &context);
    if (code < 0) code = bench(context, &args);
    bnff_context_destroy(&context);
    free(levels);
    return code;
}

const cli_command bench_ablation = {
    .name = "bench ablation", .usage = "[options]", .summary = "What each level of restructuring gains", .options = options, .run = run,
    .text = "bench step over all levels, step by step in turn, with the ratios to 'layerwise' (every layer a sweep of its\n"
            "own) and 'tuned' (the strongest that does not restructure), and a projection, named as one, of the time on\n"
            "machines with less memory bandwidth per core.",
    .examples = "  bnff bench ablation -m densenet121 -b 8,32,64 --svg ablation.svg\n  bnff bench ablation -m resnet50,densenet-bc-100-12 -b 32 -r 9 --json\n",
};
