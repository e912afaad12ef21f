/* The machine's peaks: multiply-adds on registers alone, and main-memory bandwidth. Speeds are stated as shares of these. */
#include <bnff/machine.h>

#include <string.h>

#include "base/clock.h"
#include "base/context.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"

enum { MOST = 512 }; /* threads that are looked at one by one */
enum { ROUNDS = 2000, FMA_PER_ROUND = 24 }; /* vector multiply-adds of a round of the kernel: peak.c */

struct fma_job {
    const bf_kernels *kernels;
    double seconds;
    double *rates; /* FLOP/s of each thread; a cache line each, as below */
    float *unused;
};

static void fma_thread(void *arg, int index)
{
    const struct fma_job *job = arg;
    double flops = 0, elapsed;
    const double start = bf_clock();
    do {
        job->kernels->peak(ROUNDS, &job->unused[index * 16]);
        flops += 2.0 * FMA_PER_ROUND * ROUNDS * job->kernels->vector;
        elapsed = bf_clock() - start;
    } while (elapsed < job->seconds);
    job->rates[index * 8] = flops / elapsed;
}

double bnff_measure_fma(bnff_context *context, double seconds)
{
    double rates[MOST * 8] = {0};
    float unused[MOST * 16];
    const int threads = context->threads < MOST ? context->threads : MOST;
    struct fma_job job = {context->kernels, seconds, rates, unused};
    bnff_parallel_for(context, fma_thread, &job, threads);
    double sum = 0;
    for (int i = 0; i < threads; i++) sum += rates[i * 8];
    return sum * context->threads / threads;
}

/* -- Bandwidth ----------------------------------------------------------------------------------------------------- */

/* Sum of floats, by as many independent loads as the units can have under way. */
#define READ(name, attributes)                                                    \
    attributes static float name(const char *from, size_t bytes)                  \
    {                                                                             \
        typedef float vector __attribute__((vector_size(32)));                    \
        const vector *v = (const vector *)from;                                   \
        vector sums[8] = {{0}};                                                   \
        for (size_t i = 0; i + 8 <= bytes / sizeof *v; i += 8) {                  \
            __builtin_prefetch(from + i * sizeof *v + 2048);                      \
            _Pragma("GCC unroll 8")                                               \
            for (int k = 0; k < 8; k++) sums[k] += v[i + (size_t)k];              \
        }                                                                         \
        for (int k = 1; k < 8; k++) sums[0] += sums[k];                           \
        return sums[0][0];                                                        \
    }

READ(read_plain, )
#if defined(__x86_64__)
READ(read_avx2, __attribute__((target("avx2"))))
#endif

static float (*read_of(const char *isa))(const char *, size_t)
{
#if defined(__x86_64__)
    if (strcmp(isa, "plain")) return read_avx2;
#endif
    (void)isa;
    return read_plain;
}

struct sweep_job {
    float (*read)(const char *from, size_t bytes);
    float *unused;
    char *from, *to;
    size_t share; /* bytes of each thread */
    int what;     /* 0 touch, 1 read, 2 copy */
};

static void sweep_thread(void *arg, int index)
{
    const struct sweep_job *job = arg;
    char *from = job->from + job->share * (size_t)index, *to = job->to + job->share * (size_t)index;
    if (job->what == 0) {
        memset(from, 1, job->share);
        memset(to, 2, job->share);
    } else if (job->what == 2) {
        memcpy(to, from, job->share);
    } else {
        job->unused[index % MOST * 16] = job->read(from, job->share);
    }
}

static double best_sweep(bnff_context *context, struct sweep_job *job, int what, double seconds)
{
    const double bytes = (double)job->share * context->threads * what, begin = bf_clock();
    double best = 0;
    job->what = what;
    do {
        const double start = bf_clock();
        bnff_parallel_for(context, sweep_thread, job, context->threads);
        const double rate = bytes / (bf_clock() - start);
        if (rate > best) best = rate;
    } while (bf_clock() - begin < seconds);
    return best;
}

bnff_status bnff_measure_bandwidth(bnff_context *context, double seconds, double *read, double *copy, bnff_error *error)
{
    float unused[MOST * 16];
    size_t total = 2 * context->target.l3; /* so that little of a sweep is left in the caches for the next */
    if (total < (size_t)64 << 20) total = (size_t)64 << 20;
    if (total > (size_t)256 << 20) total = (size_t)256 << 20; /* a virtual machine may report the whole socket's cache */
    struct sweep_job job = {.read = read_of(bnff_context_isa(context)), .unused = unused, .share = total / (size_t)context->threads & ~(size_t)4095};
    job.from = bf_pages_alloc(&context->allocator, total);
    job.to = bf_pages_alloc(&context->allocator, total);
    bnff_status status = BNFF_OK;
    if (!job.from || !job.to) {
        status = bf_fail(error, BNFF_E_MEMORY, "no memory for two buffers of %zu bytes to measure bandwidth with", total);
    } else {
        bnff_parallel_for(context, sweep_thread, &job, context->threads);
        *read = best_sweep(context, &job, 1, seconds);
        *copy = best_sweep(context, &job, 2, seconds);
    }
    bf_pages_free(&context->allocator, job.from, total);
    bf_pages_free(&context->allocator, job.to, total);
    return status;
}
