/* GEMM tiles as the convolutions call them, in GFLOP/s and % of the multiply-add peak.
 *     bench_gemm [isa [seconds per case [part of a case's name]]]
 * Each sample stands between two probes of the peak and counts where both are within 6 % of the best probe seen: a neighbour on
 * the machine or a lower clock shows in them. The best sample is printed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/kernels.h"

typedef struct shape {
    const char *name;
    int m, n, k, count;
    bool transposed; /* the weight gradient's form: b has its columns side by side */
} shape;

static const shape shapes[] = {
    {"3x3 n=56", 32, 56, 32, 36, false}, {"3x3 n=55", 32, 55, 32, 36, false}, {"3x3 n=28", 32, 28, 32, 36, false},
    {"3x3 n=14", 32, 14, 32, 36, false}, {"3x3 n=13", 32, 13, 32, 36, false}, {"3x3 n=7", 32, 7, 32, 36, false},
    {"3x3 n=6", 32, 6, 32, 36, false},   {"3x3 n=4", 32, 4, 32, 36, false},   {"1x1 n=56", 32, 56, 32, 8, false},
    {"1x1 n=112", 32, 112, 32, 8, false}, {"3x3 m=16 n=56", 16, 56, 32, 36, false}, {"3x3 m=16 n=14", 16, 14, 32, 36, false},
    {"3x3 m=16 n=7", 16, 7, 32, 36, false}, {"3x3 k=16 n=28", 32, 28, 16, 9, false}, {"growth k=12 n=32", 16, 32, 12, 9, false},
    {"stem k=3 n=32", 16, 32, 3, 9, false}, {"stem k=21 n=112", 32, 112, 21, 7, false},
    {"wgrad p=56", 32, 32, 56, 28, true}, {"wgrad p=28", 32, 32, 28, 28, true}, {"wgrad p=14", 32, 32, 14, 14, true},
    {"wgrad p=7", 32, 32, 7, 7, true}, {"wgrad p=56 c=16", 32, 16, 56, 28, true}, {"wgrad m=16 p=56", 16, 32, 56, 28, true},
    {"wgrad 1x1 p=112", 32, 32, 112, 1, true}, {"wgrad 1x1 p=196", 32, 32, 196, 1, true}, {"wgrad 1x1 p=784", 32, 32, 784, 1, true},
    {"wgrad m=16 c=12", 16, 12, 32, 32, true},
};

static double peak_gflops(const bf_kernels *kernels)
{
    const int64_t rounds = 20000;
    float out;
    const double start = bf_clock();
    kernels->peak(rounds, &out);
    return 48e-9 * (double)rounds * kernels->vector / (bf_clock() - start);
}

static float *random_floats(size_t n)
{
    float *x = aligned_alloc(64, (n * sizeof *x + 63) / 64 * 64);
    if (!x) exit(1);
    for (size_t i = 0; i < n; i++) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return x;
}

static void bench(const bf_kernels *kernels, const shape *s, double seconds)
{
    /* operands side by side, as in a tile's scratch: a [count][k][m] or, of weights, [panel][count][k][16], b [n or k][32 channels] per block */
    const ptrdiff_t ldb = 32;
    const size_t b_size = (size_t)(s->transposed ? s->k : s->n + 2) * (size_t)ldb;
    float *a = random_floats((size_t)s->count * (size_t)(s->k * s->m)), *b = random_floats((size_t)s->count * b_size + 64);
    float *c = random_floats((size_t)s->n * 32);
    bf_gemm_pair *pairs = malloc((size_t)s->count * sizeof *pairs);
    if (!pairs) exit(1);
    for (int i = 0; i < s->count; i++)
        pairs[i] = (bf_gemm_pair){a + (ptrdiff_t)i * s->k * (s->transposed ? s->m : 16), b + (ptrdiff_t)(s->transposed ? i : i / 9) * (ptrdiff_t)b_size, s->k};
    const bf_gemm g = {.m = s->m, .n = s->n, .count = s->count, .pairs = pairs, .lda = s->transposed ? s->m : 16, .a_panel = s->transposed ? 16 : (ptrdiff_t)s->count * s->k * 16, .bk = s->transposed ? ldb : 1,
                       .bn = s->transposed ? 1 : ldb, .c = c, .ldc = 32};
    const double flop = 2.0 * s->m * s->n * s->k * s->count;
    const int calls = (int)(2e6 * kernels->vector / flop) + 1;
    double best = 0, best_peak = 0;
    for (const double end = bf_clock() + seconds; bf_clock() < end;) {
        const double before = peak_gflops(kernels), start = bf_clock();
        for (int i = 0; i < calls; i++) kernels->gemm(&g);
        const double speed = 1e-9 * flop * calls / (bf_clock() - start), after = peak_gflops(kernels);
        const double low = before < after ? before : after, high = before < after ? after : before;
        if (high > best_peak) best_peak = high;
        if (low < 0.94 * best_peak) continue;
        if (speed > best) best = speed;
    }
    printf("%-8s %-18s %8.1f GFLOP/s  %5.1f %% of %.1f\n", kernels->isa, s->name, best, 100 * best / best_peak, best_peak);
    free(a), free(b), free(c), free(pairs);
}

int main(int argc, char **argv)
{
    const double seconds = argc > 2 ? atof(argv[2]) : 0.3;
    const char *only = argc > 3 ? argv[3] : NULL;
    for (int i = 0; bf_kernels_at(i); i++) {
        const bf_kernels *kernels = bf_kernels_at(i);
        if (argc > 1 && strcmp(argv[1], kernels->isa)) continue;
        for (size_t q = 0; q < sizeof shapes / sizeof *shapes; q++)
            if (!only || strstr(shapes[q].name, only)) bench(kernels, &shapes[q], seconds);
    }
    return 0;
}
