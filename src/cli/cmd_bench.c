/* bnff bench: its subcommands, and the smallest of them. */
#include "bench.h"

#include <string.h>

/* -- bench peak ---------------------------------------------------------------------------------------------------- */

struct arguments { int threads; double seconds; bool json; };

static const cli_option options[] = {
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"seconds", CLI_DOUBLE, offsetof(struct arguments, seconds), "S", "For each of them (1).", 0.01, 600},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document."},
    {0},
};

struct peaks {
    double f32, bf16;                 /* FLOP/s; bf16 0: not available */
    double read, copy, plain, stream; /* bytes/s */
};

/* The best of 20 ms pieces: what the machine can do when nothing else runs. */
static double best_of(double (*measure)(bnff_context *context, double seconds), bnff_context *context, double seconds)
{
    double best = 0;
    const double start = bench_clock();
    do {
        const double rate = measure(context, 0.02);
        if (rate > best) best = rate;
    } while (best > 0 && bench_clock() - start < seconds);
    return best;
}

static bnff_status measure_peaks(bnff_context *context, double seconds, struct peaks *p, bnff_error *error)
{
    p->f32 = best_of(bnff_measure_fma, context, seconds);
    p->bf16 = best_of(bnff_measure_bf16, context, seconds);
    const bnff_status status = bnff_measure_bandwidth(context, seconds, &p->read, &p->copy, error);
    return status ? status : bnff_measure_copies(context, seconds, &p->plain, &p->stream, error);
}

static json_t *json_peaks(const bnff_machine *machine, const bnff_context *context, const struct peaks *p)
{
    return json_pack("{s:s, s:s, s:i, s:{s:f, s:o}, s:f, s:f, s:f, s:f}", "cpu", machine->cpu, "isa", bnff_context_isa(context), "threads",
                     bnff_context_threads(context), "fma_peak_gflops", "f32", 1e-9 * p->f32, "bf16", p->bf16 > 0 ? json_real(1e-9 * p->bf16) : json_null(),
                     "read_gbs", 1e-9 * p->read, "copy_gbs", 1e-9 * p->copy, "copy_plain_gbs", 1e-9 * p->plain, "copy_stream_gbs", 1e-9 * p->stream);
}

static void print_peaks(const bnff_machine *machine, const bnff_context *context, const struct peaks *p)
{
    printf("%s, %s, %d threads\nf32 multiply-adds     %8.1f GFLOP/s\n", machine->cpu, bnff_context_isa(context), bnff_context_threads(context), 1e-9 * p->f32);
    if (p->bf16 > 0) printf("bf16 multiply-adds    %8.1f GFLOP/s\n", 1e-9 * p->bf16);
    else printf("bf16 multiply-adds    not available (AVX512_BF16)\n");
    printf("reading memory        %8.1f GB/s\ncopying, C library    %8.1f GB/s (read and written bytes)\n"
           "copying, plain stores %8.1f GB/s\ncopying, past caches  %8.1f GB/s\n", 1e-9 * p->read, 1e-9 * p->copy, 1e-9 * p->plain, 1e-9 * p->stream);
}

static int run_peak(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {.seconds = 1};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code < 0) code = cli_expect(self, &words, 0, 0);
    if (code >= 0) return code;
    bnff_error error;
    bnff_context *context = NULL;
    struct peaks peaks;
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    bnff_status status = cli_context(args.threads, &context, &error);
    if (status == BNFF_OK) status = measure_peaks(context, args.seconds, &peaks, &error);
    if (status) code = cli_fail(&error);
    else if (args.json) code = cli_json_print(json_peaks(&machine, context, &peaks));
    else print_peaks(&machine, context, &peaks), code = EXIT_DONE;
    bnff_context_destroy(&context);
    return code;
}

const cli_command bench_peak = {
    .name = "bench peak", .usage = "[options]", .summary = "Measure the machine: multiply-adds and memory bandwidth", .options = options, .run = run_peak,
    .examples = "  bnff bench peak\n  bnff bench peak -t 1 --json\n",
};

/* -- bench --------------------------------------------------------------------------------------------------------- */

static const cli_command *const commands[] = {&bench_step, &bench_ablation, &bench_layers, &bench_conv, &bench_peak, &bench_serve};
enum { COMMANDS = sizeof commands / sizeof *commands };

static int run(const cli_command *self, int argc, char **argv)
{
    const char *names[COMMANDS];
    const size_t prefix = strlen("bench ");
    for (int i = 0; i < COMMANDS; i++) {
        names[i] = commands[i]->name + prefix;
        if (argc && !strcmp(argv[0], names[i])) return commands[i]->run(commands[i], argc - 1, argv + 1);
    }
    if (argc && (!strcmp(argv[0], "-h") || !strcmp(argv[0], "--help"))) return cli_help(self, stdout), EXIT_DONE;
    if (!argc) return cli_usage_error(self, "which one? step, ablation, layers, conv, peak or serve");
    const char *nearest = cli_nearest(argv[0], names, COMMANDS);
    if (nearest) return cli_usage_error(self, "unknown benchmark '%s', did you mean '%s'?", argv[0], nearest);
    return cli_usage_error(self, "unknown benchmark '%s'", argv[0]);
}

static const cli_option none[] = {{0}};

const cli_command cli_bench = {
    .name = "bench", .usage = "step|ablation|layers|conv|peak|serve [options]", .summary = "Measure speed", .options = none, .run = run,
    .text = "  step      whole training steps, levels of restructuring compared\n"
            "  ablation  all levels of restructuring: ratios, memory, traffic, a picture\n"
            "  layers    every task of a step\n"
            "  conv      single convolutions, checked against a float64 reference and timed\n"
            "  peak      multiply-adds and memory bandwidth of this machine\n"
            "  serve     single steps and convolutions on request, for comparisons with other programs\n\n"
            "'bnff bench step --help' tells more.",
    .examples = "  bnff bench step -m densenet121 -b 32\n  bnff bench conv --problem bench/shapes/resnet50.txt\n",
};
