/* What the benchmarks share: arguments, probes of the machine's state, a network with all the memory of its training step, and sides that
 * are measured in turn. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli.h"

extern const cli_command bench_step, bench_ablation, bench_layers, bench_conv, bench_peak, bench_serve;

/* -- Arguments (bench_arguments.c) --------------------------------------------------------------------------------- */

enum { BENCH_BATCHES = 16 };

/* Of every benchmark of networks; a command has options for those that it uses. */
typedef struct bench_arguments {
    const char *models, *levels, *algorithms, *profile, *svg;
    int batches[BENCH_BATCHES], batch_count;
    int height, width; /* 0: the model's */
    int threads, rounds;
    double gbs_per_core;
    bool json, no_rss, child;
} bench_arguments;

#define BENCH_FIELD(name) offsetof(bench_arguments, name)
#define BENCH_MODELS {"model,m", CLI_STRING, BENCH_FIELD(models), "NAME,...", "Models, one after the other (densenet121)."}
#define BENCH_BATCH_LIST {"batch-size,batch,b", CLI_CUSTOM, 0, "N,...", "Images a step, one number after the other (32).", .parse = bench_parse_batches}
#define BENCH_BATCH {"batch-size,batch,b", CLI_CUSTOM, 0, "N", "Images a step (32).", .parse = bench_parse_batch}
#define BENCH_SIZE {"size,img-size", CLI_CUSTOM, 0, "N|HxW", "Side of the images, or height x width. Default: what the model was published for.", .parse = bench_parse_size}
#define BENCH_CONV {"conv", CLI_STRING, BENCH_FIELD(algorithms), "NAME", CLI_CONV_HELP}
#define BENCH_CONV_LIST {"conv", CLI_STRING, BENCH_FIELD(algorithms), "NAME,...", "Algorithms of convolutions to compare: direct, f2, f2x4, f4, auto, fast. Default: the one that training uses."}
#define BENCH_THREADS {"threads,t", CLI_INT, BENCH_FIELD(threads), "N", CLI_THREADS_HELP, 1, 4096}
bool bench_parse_batches(void *arguments, const char *text, char *why, size_t size);
bool bench_parse_batch(void *arguments, const char *text, char *why, size_t size);
bool bench_parse_size(void *arguments, const char *text, char *why, size_t size);

/* "224", or "97x131"; in JSON a number or such a text. */
const char *bench_size_text(int height, int width, char text[24]);
json_t *bench_size_json(int height, int width);

/* Parse the command line and make the context, whose threads then stand in args. -1 to go on, else the exit code. */
int bench_begin(const cli_command *self, int argc, char **argv, bench_arguments *args, bnff_context **context);

/* -- Probes (bench.c) ---------------------------------------------------------------------------------------------- *
 * A short run of multiply-adds before and after each sample. A sample beside a probe below 94 % of the best one was disturbed and is
 * taken again, at most 3 times, whichever side it belongs to. The peak is the median of all probes.                     */

typedef struct bench_probes {
    bnff_context *context;
    double best, last;
    double *rates;
    int count, capacity;
} bench_probes;

enum { BENCH_RETAKES = 3 };
/* Begin with a longer look for the best. */
void bench_probes_begin(bench_probes *probes, bnff_context *context);
/* Probe now; true if this probe or the one before it tells of a disturbance: then what was measured between them does not count. */
bool bench_probe(bench_probes *probes);
double bench_probes_median(const bench_probes *probes); /* FLOP/s */
void bench_probes_end(bench_probes *probes);

double bench_median(double *values, int count); /* sorts them */
double bench_clock(void);
/* Fill with numbers of mean 0 and variance 1, reproducibly. */
void bench_fill(float *values, size_t count, uint64_t seed);
/* The words of a comma-separated list, one after the other; NULL at its end. The caller frees each. */
char *bench_next_word(const char **list);

/* What the machine is and can do: FLOP/s, and bytes/s of reading and copying. */
void bench_print_machine(const bnff_context *context, double peak, double read, double copy);
/* {"cpu", "isa", "threads", "fma_peak_gflops", "copy_gbs"} */
json_t *bench_machine_json(const bnff_context *context, double peak, double copy);

/* -- A network ready for steps (bench_network.c) ------------------------------------------------------------------- */

typedef struct bench_network {
    bnff_context *context;
    int batch, height, width, channels, classes;
    bnff_graph *graph;
    bnff_state *state;
    bnff_optimizer *optimizer;
    bnff_pool *pool;
    float *images, *logits, *logit_gradients;
    int32_t *labels;
    float **gradients, *gradient_memory;
    size_t arena_bytes; /* that the pool holds */
    uint64_t step;
} bench_network;

/* Height and width 0: the model's. The failure is in *error. */
bnff_status bench_network_open(bnff_context *context, const char *model, int batch, int height, int width, bench_network *network, bnff_error *error);
void bench_network_close(bench_network *network);

/* A plan of its training step; BNFF_E_MEMORY with the batch that fits where the machine has not the memory for a run of it. */
bnff_status bench_network_plan(bench_network *network, const char *level, const char *algorithm, bnff_plan **plan, bnff_error *error);

typedef struct bench_times { double step, forward, backward, update; } bench_times; /* seconds; the loss counts to the backward */

/* One whole training step of a run of this network: forward, loss, backward, update. */
bnff_status bench_run_step(bench_network *network, bnff_run *run, bench_times *times, bnff_error *error);
/* The same with a run from the pool, given back after it. */
bnff_status bench_plan_step(bench_network *network, const bnff_plan *plan, bench_times *times, bnff_error *error);

/* -- Sides in turn (bench_compare.c) ------------------------------------------------------------------------------- */

enum { BENCH_SIDES = 32 };

/* What was found about one level with one algorithm of convolutions, of a model at one batch. */
typedef struct bench_result {
    char *model, *level, *algorithm;
    bench_times median;
    double min_s, images_per_s, gflop_per_image, peak_fraction;
    bnff_plan_info plan;
    size_t peak_rss; /* of two steps in a process of its own; 0: unknown */
    int retaken;
} bench_result;

/* Takes over the strings of the results of one model at one batch: they are to be freed with bench_results_free. */
typedef void (*bench_results_fn)(void *user, bench_result *results, int count);
/* For every batch of every model: steps of each level in args->levels with each of args->algorithms in turn, args->rounds times, then the peak
 * memory of each, then take(). What cannot be run is reported, added to *failures ({"model", "batch", "error"}; NULL: nowhere) and passed
 * over. An exit code. */
int bench_compare(bnff_context *context, const bench_arguments *args, bench_probes *probes, bench_results_fn take, void *user, json_t *failures);
void bench_results_free(bench_result *results, int count);
json_t *bench_result_json(const bench_result *result);
/* Peak resident memory of two steps in a process of its own; 0 if it could not be had. */
size_t bench_child_peak(const char *model, const char *level, const char *algorithm, const bench_network *network, int threads);
/* The work of that process: two steps, then its peak on stdout. */
int bench_run_child(bnff_context *context, const bench_arguments *args, bnff_error *error);

#endif
