#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double probe_s = 0.005, disturbed = 0.94;

double bench_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count)
{
    if (!count) return 0;
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* -- Probes -------------------------------------------------------------------------------------------------------- */

static void take_probe(bench_probes *p)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        double *rates = cli_alloc((size_t)p->capacity, sizeof *rates);
        if (p->count) memcpy(rates, p->rates, (size_t)p->count * sizeof *rates);
        free(p->rates);
        p->rates = rates;
    }
    p->last = p->rates[p->count++] = bnff_measure_fma(p->context, probe_s);
    if (p->last > p->best) p->best = p->last;
}

void bench_probes_begin(bench_probes *probes, bnff_context *context)
{
    *probes = (bench_probes){.context = context};
    for (int i = 0; i < 40; i++) take_probe(probes);
}

bool bench_probe(bench_probes *probes)
{
    const double before = probes->last;
    take_probe(probes);
    return before < disturbed * probes->best || probes->last < disturbed * probes->best;
}

double bench_probes_median(const bench_probes *probes)
{
    double *sorted = cli_alloc((size_t)probes->count, sizeof *sorted);
    memcpy(sorted, probes->rates, (size_t)probes->count * sizeof *sorted);
    const double median = bench_median(sorted, probes->count);
    free(sorted);
    return median;
}

void bench_probes_end(bench_probes *probes)
{
    free(probes->rates);
    *probes = (bench_probes){0};
}

/* -- Odds and ends ------------------------------------------------------------------------------------------------- */

void bench_fill(float *values, size_t count, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < count; i++) { /* the sum of four uniform numbers is near enough to normal: here only the spread matters */
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t bits = state ^ state >> 32; /* the low bits of this generator alone repeat themselves */
        const float sum = (float)((bits & 0xFFFF) + (bits >> 16 & 0xFFFF) + (bits >> 32 & 0xFFFF) + (bits >> 48));
        values[i] = (sum * 0x1p-16f - 2) * 1.7320508f;
    }
}

json_t *bench_machine_json(const bnff_context *context, double peak, double copy)
{
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    return json_pack("{s:s, s:s, s:i, s:f, s:f}", "cpu", machine.cpu, "isa", bnff_context_isa(context), "threads", bnff_context_threads(context),
                     "fma_peak_gflops", 1e-9 * peak, "copy_gbs", 1e-9 * copy);
}

void bench_print_machine(const bnff_context *context, double peak, double read, double copy)
{
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    printf("\n%s, %s, %d threads: FMA peak %.0f GFLOP/s, reading %.1f GB/s, copying %.1f GB/s\n", machine.cpu, bnff_context_isa(context),
           bnff_context_threads(context), 1e-9 * peak, 1e-9 * read, 1e-9 * copy);
}

char *bench_next_word(const char **list)
{
    if (!*list || !**list) return NULL;
    const size_t length = strcspn(*list, ",");
    char *word = cli_format("%.*s", (int)length, *list);
    *list += length + ((*list)[length] == ',');
    return word;
}
