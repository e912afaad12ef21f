/* bnff bench step: whole training steps, levels alternating within one run. */
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

struct arguments {
    const char *models, *levels, *algorithms;
    int batch, size, threads, rounds;
    bool json, no_rss, child;
};

#define FIELD(name) offsetof(struct arguments, name)
static const cli_option options[] = {
    {"model,m", CLI_STRING, FIELD(models), "NAME,...", "Models, one after the other (densenet121)."},
    {"batch-size,batch,b", CLI_INT, FIELD(batch), "N", "Images a step (32).", 1, 65536},
    {"size,img-size", CLI_INT, FIELD(size), "N", "Side of the images. Default: what the model was published for.", 1, 4096},
    {"level", CLI_STRING, FIELD(levels), "NAME,...", "Levels of restructuring to compare. Default: the one that training uses."},
    {"conv", CLI_STRING, FIELD(algorithms), "NAME,...", "Algorithms of convolutions to compare: direct, auto, fast. Default: the one that training uses."},
    {"rounds,repetitions,r", CLI_INT, FIELD(rounds), "R", "Steps of each level (5).", 1, 10000},
    {"threads,t", CLI_INT, FIELD(threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"no-rss", CLI_FLAG, FIELD(no_rss), NULL, "Leave out the peak memory, which takes a process and two steps for each level."},
    {"json", CLI_FLAG, FIELD(json), NULL, "One JSON document: machine, runs."},
    {"child", CLI_FLAG, FIELD(child), NULL, NULL}, /* the process whose memory is measured: prints its peak */
    {0},
};

enum { MOST_SIDES = 32 };

/* A level with an algorithm. */
struct side {
    char *level, *algorithm;
    bnff_plan *plan;
    bench_times *samples;
    int count, retaken;
    size_t peak_rss;
};

static bnff_status make_plan(const bench_network *n, const char *level, const char *algorithm, bnff_plan **plan, bnff_error *error)
{
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = n->batch, .height = n->size, .width = n->size, .mode = BNFF_TRAIN,
                                            .level = level, .algorithm = algorithm};
    return bnff_plan_create(n->context, n->graph, &plan_options, plan, error);
}

static bnff_status step_once(bench_network *n, const bnff_plan *plan, bench_times *times, bnff_error *error)
{
    bnff_run *run = NULL;
    bnff_status status = bnff_run_acquire(n->pool, plan, &run, error);
    if (status == BNFF_OK) status = bench_run_step(n, run, times, error);
    bnff_run_release(&run);
    return status;
}

/* One step of each side in turn, `rounds` times; a disturbed one is taken again. */
static bnff_status measure(bench_network *n, bench_probes *probes, struct side *sides, int count, int rounds, bnff_error *error)
{
    for (int s = 0; s < count; s++) { /* page in, and load weights into the caches */
        bench_times warm;
        const bnff_status status = step_once(n, sides[s].plan, &warm, error);
        if (status) return status;
    }
    bench_probe(probes);
    for (int round = 0; round < rounds; round++) {
        for (int s = 0; s < count; s++) {
            struct side *side = &sides[s];
            for (int attempt = 0;; attempt++) {
                const bnff_status status = step_once(n, side->plan, &side->samples[side->count], error);
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

/* The work of the child: two steps, then its peak on stdout. */
static int run_child(bnff_context *context, const struct arguments *args, bnff_error *error)
{
    bench_network network;
    bnff_plan *plan = NULL;
    bench_times times;
    bnff_status status = bench_network_open(context, args->models, args->batch, args->size, &network, error);
    if (status) return cli_fail(error);
    status = make_plan(&network, args->levels, args->algorithms, &plan, error);
    for (int i = 0; i < 2 && status == BNFF_OK; i++) status = step_once(&network, plan, &times, error);
    bnff_plan_destroy(&plan);
    bench_network_close(&network);
    if (status) return cli_fail(error);
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    printf("%zu\n", machine.resident_peak);
    return EXIT_DONE;
}

/* Peak resident memory of two steps in a process of its own; 0 if it could not be had. */
static size_t child_peak(const char *model, const struct side *side, const struct arguments *args, int size)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC)) return 0;
    char *words[] = {"bnff", "bench", "step", "--child", "-m", (char *)model, "-b", cli_format("%d", args->batch), "--size", cli_format("%d", size),
                     "--level", side->level, "--conv", side->algorithm, "-t", cli_format("%d", args->threads), NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    pid_t child;
    const int failed = posix_spawn(&child, "/proc/self/exe", &actions, NULL, words, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    free(words[7]), free(words[9]), free(words[15]);
    unsigned long long peak = 0;
    FILE *in = fdopen(ends[0], "r");
    if (!failed && in && fscanf(in, "%llu", &peak) != 1) peak = 0;
    if (in) fclose(in);
    else close(ends[0]);
    while (!failed && waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
    return (size_t)peak;
}

/* -- Results ------------------------------------------------------------------------------------------------------- */

struct summary {
    bench_times median;
    double min, images_per_s, gflop_per_image, peak_fraction;
    bnff_plan_info plan;
};

static double median_of(const struct side *side, size_t offset)
{
    double *values = cli_alloc((size_t)side->count, sizeof *values);
    for (int i = 0; i < side->count; i++) memcpy(&values[i], (const char *)&side->samples[i] + offset, sizeof *values);
    const double median = bench_median(values, side->count);
    free(values);
    return median;
}

static struct summary summarize(const struct side *side, double peak)
{
    struct summary s = {.plan.size = sizeof s.plan};
    bnff_plan_describe(side->plan, &s.plan);
    s.median = (bench_times){median_of(side, offsetof(bench_times, step)), median_of(side, offsetof(bench_times, forward)),
                             median_of(side, offsetof(bench_times, backward)), median_of(side, offsetof(bench_times, update))};
    s.min = side->samples[0].step;
    for (int i = 1; i < side->count; i++)
        if (side->samples[i].step < s.min) s.min = side->samples[i].step;
    const double flops = s.plan.forward_flops + s.plan.backward_flops;
    s.images_per_s = s.plan.batch / s.median.step;
    s.gflop_per_image = 1e-9 * flops / s.plan.batch;
    s.peak_fraction = flops / s.median.step / peak;
    return s;
}

static json_t *json_run(const char *model, const struct side *side, double peak)
{
    const struct summary s = summarize(side, peak);
    return json_pack("{s:s, s:i, s:i, s:s, s:s, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:f, s:i}", "model", model, "batch",
                     s.plan.batch, "size",
                     s.plan.height, "level", side->level, "algorithm", side->algorithm, "dtype", "f32", "step_s_median", s.median.step,
                     "step_s_min", s.min, "images_per_s", s.images_per_s, "gflop_per_image", s.gflop_per_image, "peak_fraction", s.peak_fraction, "forward_s",
                     s.median.forward, "backward_s", s.median.backward, "update_s", s.median.update, "peak_rss_bytes", (json_int_t)side->peak_rss, "arena_bytes",
                     (json_int_t)s.plan.arena_bytes, "modelled_traffic_bytes", s.plan.traffic_bytes, "retaken", side->retaken);
}

static void print_head(void)
{
    printf("%-14s %4s %4s %-10s %-7s %8s %8s %6s %8s %8s %7s %10s %10s %10s %4s\n", "model", "N", "size", "level", "conv", "step s", "img/s", "% peak", "fwd s",
           "bwd s",
           "upd s", "peak rss", "arena", "traffic", "re");
}

static void print_run(const char *model, const struct side *side, double peak)
{
    const struct summary s = summarize(side, peak);
    char rss[32] = "-", arena[32], traffic[32];
    if (side->peak_rss) cli_bytes(rss, (double)side->peak_rss);
    printf("%-14s %4d %4d %-10s %-7s %8.3f %8.2f %6.1f %8.3f %8.3f %7.3f %10s %10s %10s %4d\n", model, s.plan.batch, s.plan.height, side->level, side->algorithm,
           s.median.step, s.images_per_s, 100 * s.peak_fraction, s.median.forward, s.median.backward, s.median.update, rss, cli_bytes(arena, (double)s.plan.arena_bytes),
           cli_bytes(traffic, s.plan.traffic_bytes), side->retaken);
}

/* -- The command --------------------------------------------------------------------------------------------------- */

static bnff_status bench_model(bnff_context *context, const char *model, const struct arguments *args, bench_probes *probes, bool first, json_t *runs,
                               bnff_error *error)
{
    bench_network network;
    bnff_status status = bench_network_open(context, model, args->batch, args->size, &network, error);
    if (status) return status;
    struct side sides[MOST_SIDES] = {0};
    int count = 0;
    const char *levels = args->levels;
    for (char *level; (level = bench_next_word(&levels)); free(level)) {
        const char *algorithms = args->algorithms;
        for (char *algorithm; status == BNFF_OK && count < MOST_SIDES && (algorithm = bench_next_word(&algorithms)); count++) {
            sides[count].level = cli_format("%s", level);
            sides[count].algorithm = algorithm;
            sides[count].samples = cli_alloc((size_t)args->rounds, sizeof *sides->samples);
            status = make_plan(&network, level, algorithm, &sides[count].plan, error);
        }
    }
    if (status == BNFF_OK) status = measure(&network, probes, sides, count, args->rounds, error);
    const double peak = bench_probes_median(probes);
    const int size = network.size;
    if (status == BNFF_OK && first && !runs) print_head();
    bench_network_close(&network); /* its memory must not stand in the children's way */
    for (int s = 0; s < count; s++) {
        if (status == BNFF_OK) {
            if (!args->no_rss) sides[s].peak_rss = child_peak(model, &sides[s], args, size);
            if (runs) json_array_append_new(runs, json_run(model, &sides[s], peak));
            else print_run(model, &sides[s], peak);
        }
        bnff_plan_destroy(&sides[s].plan);
        free(sides[s].samples);
        free(sides[s].level);
        free(sides[s].algorithm);
    }
    return status;
}

static int bench_models(bnff_context *context, const struct arguments *args, bnff_error *error)
{
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    double read, copy;
    bnff_status status = bnff_measure_bandwidth(context, 0.3, &read, &copy, error);
    if (status) return cli_fail(error);
    bench_probes probes;
    bench_probes_begin(&probes, context);
    json_t *runs = args->json ? json_array() : NULL;
    const char *list = args->models;
    for (char *model; status == BNFF_OK && (model = bench_next_word(&list));) {
        status = bench_model(context, model, args, &probes, list == args->models + strlen(model) + (*list != '\0'), runs, error);
        free(model);
    }
    const double peak = bench_probes_median(&probes);
    bench_probes_end(&probes);
    if (status) {
        json_decref(runs);
        return cli_fail(error);
    }
    if (args->json)
        return cli_json_print(json_pack("{s:{s:s, s:s, s:i, s:f, s:f}, s:o}", "machine", "cpu", machine.cpu, "isa", bnff_context_isa(context), "threads",
                                        bnff_context_threads(context), "fma_peak_gflops", 1e-9 * peak, "copy_gbs", 1e-9 * copy, "runs", runs));
    printf("\n%s, %s, %d threads: FMA peak %.0f GFLOP/s, reading %.1f GB/s, copying %.1f GB/s\n", machine.cpu, bnff_context_isa(context),
           bnff_context_threads(context),
           1e-9 * peak, 1e-9 * read, 1e-9 * copy);
    return EXIT_DONE;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.models = "densenet121", .levels = bnff_default_level(), .algorithms = bnff_default_algorithm(), .batch = 32, .rounds = 5};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 0, 0);
    if (code >= 0) return code;
    bnff_error error;
    bnff_context *context = NULL;
    if (cli_context(args.threads, &context, &error)) return cli_fail(&error);
    args.threads = bnff_context_threads(context);
    code = args.child ? run_child(context, &args, &error) : bench_models(context, &args, &error);
    bnff_context_destroy(&context);
    return code;
}

const cli_command bench_step = {
    .name = "bench step", .usage = "[options]", .summary = "Time whole training steps: forward, loss, backward, update", .options = options, .run = run,
    .text = "Levels and algorithms alternate step by step in one run; medians. A short probe of multiply-adds runs between steps:\n"
            "a step beside a probe below 94 % of the best was disturbed and is taken again, at most 3 times, and\n"
            "counted (re). % peak: nominal FLOPs of a direct convolution over time over the probes' median.",
    .examples = "  bnff bench step -m densenet121,resnet50 -b 32\n  bnff bench step -m densenet121 -b 8 --level layerwise,tuned -r 9 --json\n",
};
