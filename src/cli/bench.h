/* What the benchmarks share: probes of the machine's state, and a network with all the memory of its training step. */
#ifndef CLI_BENCH_H
#define CLI_BENCH_H

#include "cli.h"

extern const cli_command bench_step, bench_layers, bench_conv, bench_peak;

/* -- Probes -------------------------------------------------------------------------------------------------------- *
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

/* -- A network ready for steps ------------------------------------------------------------------------------------- */

typedef struct bench_network {
    bnff_context *context;
    int batch, size, channels, classes;
    bnff_graph *graph;
    bnff_state *state;
    bnff_optimizer *optimizer;
    bnff_pool *pool;
    float *images, *logits, *logit_gradients;
    int32_t *labels;
    float **gradients, *gradient_memory;
    uint64_t step;
} bench_network;

/* size 0: the model's. The failure is in *error. */
bnff_status bench_network_open(bnff_context *context, const char *model, int batch, int size, bench_network *network, bnff_error *error);
void bench_network_close(bench_network *network);

typedef struct bench_times { double step, forward, backward, update; } bench_times; /* seconds; the loss counts to the backward */

/* One whole training step of a plan of this network: forward, loss, backward, update. */
bnff_status bench_run_step(bench_network *network, bnff_run *run, bench_times *times, bnff_error *error);

double bench_clock(void);
/* Fill with numbers from a standard normal, reproducibly. */
void bench_fill(float *values, size_t count, uint64_t seed);

/* The words of a comma-separated list, one after the other; NULL at its end. The caller frees each. */
char *bench_next_word(const char **list);

#endif
