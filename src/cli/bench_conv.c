/* bnff bench conv: single convolutions, checked and timed, from lines that can be pasted anywhere. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench_check.h"
#include "bench_rig.h"

struct arguments {
    const char *problem, *model, *algorithm;
    int batch, size, threads, rounds;
    bool list, json, no_check;
};

#define FIELD(name) offsetof(struct arguments, name)
static const cli_option options[] = {
    {"problem", CLI_STRING, FIELD(problem), "LINE|FILE", "A convolution as a line of text, or a file of such lines."},
    {"model,m", CLI_STRING, FIELD(model), "NAME", "All convolutions of a model instead."},
    {"batch-size,batch,b", CLI_INT, FIELD(batch), "N", "With --model: images (32).", 1, 65536},
    {"size,img-size", CLI_INT, FIELD(size), "N", "With --model: side of the images.", 1, 4096},
    {"list", CLI_FLAG, FIELD(list), NULL, "Print the lines and stop."},
    {"conv", CLI_STRING, FIELD(algorithm), "NAME", CLI_CONV_HELP},
    {"rounds,repetitions,r", CLI_INT, FIELD(rounds), "R", "Repetitions, of which the median counts (7).", 1, 1000},
    {"no-check", CLI_FLAG, FIELD(no_check), NULL, "Do not compare with the float64 reference."},
    {"threads,t", CLI_INT, FIELD(threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"json", CLI_FLAG, FIELD(json), NULL, "One JSON document."},
    {0},
};

struct result {
    bench_rig_times times; /* medians */
    double error; /* the worst error as a share of its bound; <= 1 passes; < 0: not checked */
    int retaken;
};

static bnff_status measure(bench_rig *rig, int rounds, bench_probes *probes, struct result *r, bnff_error *error)
{
    bench_rig_times times;
    double *forward = cli_alloc((size_t)rounds, sizeof *forward), *backward = cli_alloc((size_t)rounds, sizeof *backward);
    bnff_status status = bench_rig_step(rig, &times, error);
    bench_probe(probes);
    for (int i = 0; status == BNFF_OK && i < rounds; i++) {
        for (int attempt = 0;; attempt++) {
            if ((status = bench_rig_step(rig, &times, error))) break;
            forward[i] = times.forward_s, backward[i] = times.backward_s;
            if (!bench_probe(probes) || attempt == BENCH_RETAKES) break;
            r->retaken++;
        }
    }
    r->times = times;
    r->times.forward_s = bench_median(forward, rounds);
    r->times.backward_s = bench_median(backward, rounds);
    free(forward);
    free(backward);
    return status;
}

static bnff_status bench_one(bnff_context *context, const bench_problem *p, const struct arguments *args, bench_probes *probes, struct result *r,
                             bnff_error *error)
{
    bench_rig rig;
    *r = (struct result){.error = -1};
    bnff_status status = bench_rig_open(context, p, args->algorithm, &rig, error);
    if (status == BNFF_OK) status = measure(&rig, args->rounds, probes, r, error);
    if (status == BNFF_OK && !args->no_check) r->error = bench_check(&rig.t, p, rig.want_dx, !strcmp(args->algorithm, "direct"));
    bench_rig_close(&rig);
    return status;
}

/* -- Output -------------------------------------------------------------------------------------------------------- */

static void print_result(const bench_problem *p, const struct result *r, double peak)
{
    const double f = r->times.forward_s > 0 ? r->times.forward_flops / r->times.forward_s : 0, b = r->times.backward_s > 0 ? r->times.backward_flops / r->times.backward_s : 0;
    printf("%9.3f %8.1f %6.1f %9.3f %8.1f %6.1f  %-9s ", 1e3 * r->times.forward_s, 1e-9 * f, 100 * f / peak, 1e3 * r->times.backward_s, 1e-9 * b, 100 * b / peak,
           r->error < 0 ? "unchecked" : r->error <= 1 ? "ok" : "WRONG");
    bench_problem_print(p, stdout);
    if (r->error > 1) printf("   error %.3g times its bound", r->error);
    printf("\n");
}

static json_t *json_result(const bench_problem *p, const struct result *r, double peak)
{
    char *line = NULL;
    size_t size = 0;
    FILE *text = open_memstream(&line, &size);
    if (text) bench_problem_print(p, text), fclose(text);
    const double f = r->times.forward_s > 0 ? r->times.forward_flops / r->times.forward_s : 0, b = r->times.backward_s > 0 ? r->times.backward_flops / r->times.backward_s : 0;
    json_t *result = json_pack("{s:o, s:s, s:f, s:f, s:f, s:f, s:f, s:f, s:o, s:i}", "problem", cli_json_string(line ? line : ""), "name", p->name,
                               "forward_s",
                               r->times.forward_s, "forward_gflops", 1e-9 * f, "forward_peak_fraction", f / peak, "backward_s", r->times.backward_s, "backward_gflops", 1e-9 * b,
                               "backward_peak_fraction", b / peak, "correct", r->error < 0 ? json_null() : json_boolean(r->error <= 1), "retaken", r->retaken);
    free(line);
    return result;
}

static bool seen_before(const bench_problems *list, int index)
{
    for (int i = 0; i < index; i++)
        if (bench_problem_same(&list->items[i], &list->items[index])) return true;
    return false;
}

static int bench_all(bnff_context *context, const bench_problems *list, const struct arguments *args)
{
    bench_probes probes;
    bnff_error error;
    int wrong = 0, repeated = 0, code = EXIT_DONE;
    json_t *results = args->json ? json_array() : NULL;
    bench_probes_begin(&probes, context);
    if (!args->json) printf("%9s %8s %6s %9s %8s %6s  %-9s %s\n", "fwd ms", "GFLOP/s", "% peak", "bwd ms", "GFLOP/s", "% peak", "checked", "problem");
    for (int i = 0; i < list->count && code == EXIT_DONE; i++) {
        struct result r;
        if (seen_before(list, i)) {
            repeated++;
            continue;
        }
        if (bench_one(context, &list->items[i], args, &probes, &r, &error)) {
            code = cli_fail(&error);
            break;
        }
        wrong += r.error > 1;
        const double peak = bench_probes_median(&probes);
        if (results) json_array_append_new(results, json_result(&list->items[i], &r, peak));
        else print_result(&list->items[i], &r, peak), fflush(stdout);
    }
    const double peak = bench_probes_median(&probes);
    bench_probes_end(&probes);
    if (results && code == EXIT_DONE) code = cli_json_print(json_pack("{s:s, s:i, s:s, s:f, s:o}", "isa", bnff_context_isa(context), "threads",
                                                                      bnff_context_threads(context), "algorithm", args->algorithm, "fma_peak_gflops", 1e-9 * peak, "results", results));
    else if (results) json_decref(results);
    else if (code == EXIT_DONE) printf("\n%s, %d threads, FMA peak %.0f GFLOP/s", bnff_context_isa(context), bnff_context_threads(context), 1e-9 * peak);
    if (!results && repeated) printf("; %d repeated shapes left out", repeated);
    if (!results) printf("\n");
    if (wrong) code = cli_fail_text(NULL, "%d of the convolutions are wrong", wrong);
    return code;
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.algorithm = bnff_default_algorithm(), .batch = 32, .rounds = 7};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 0, 0);
    if (code >= 0) return code;
    if (!args.problem == !args.model) return cli_usage_error(self, "either --problem or --model is needed");
    bnff_error error;
    bench_problems list = {0};
    bnff_context *context = NULL;
    if (args.problem) code = bench_problems_of_text(&list, args.problem);
    else code = bench_problems_of_model(&list, args.model, args.batch, args.size, &error) ? cli_fail(&error) : EXIT_DONE;
    if (code == EXIT_DONE && args.list) {
        for (int i = 0; i < list.count; i++) bench_problem_print(&list.items[i], stdout), putchar('\n');
    } else if (code == EXIT_DONE) {
        code = cli_context(args.threads, &context, &error) ? cli_fail(&error) : bench_all(context, &list, &args);
    }
    bnff_context_destroy(&context);
    free(list.items);
    return code;
}

const cli_command bench_conv = {
    .name = "bench conv", .usage = "--problem LINE|FILE [options]", .summary = "Check and time single convolutions", .options = options, .run = run,
    .text = "A line is mb32_ic64_oc64_ih56iw56_kh3kw3_sh1sw1_ph1pw1_g1_n\"name\", as benchdnn's: mb images, ic and oc\n"
            "channels of all groups g, dh0 means no dilation. Forward, and data and weight gradient in one visit, are\n"
            "timed apart. Samples of all three results are compared with float64 sums; the exit code is 1 if one is off\n"
            "by more than its error bound.",
    .examples = "  bnff bench conv --problem 'mb32_ic64_oc64_ih56_kh3_ph1_n\"conv3x3\"'\n  bnff bench conv --problem bench/shapes/densenet121.txt\n"
                "  bnff bench conv -m resnet50 -b 8 --list\n",
};
