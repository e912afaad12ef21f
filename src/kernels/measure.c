/* The machine's peaks: multiply-adds on registers alone, and main-memory bandwidth. Speeds are stated as shares of these. */
#include <bnff/machine.h>

#include <string.h>

#include "base/clock.h"
#include "base/context.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"
#include "kernels/peak_bf16.h"

enum { MOST = 512 }; /* threads that are looked at one by one */
enum { ROUNDS = 2000, FMA_PER_ROUND = 24 }; /* vector multiply-adds of a round of the kernel: peak.c */

typedef void (*peak_fn)(int64_t rounds, float *out);

struct peak_job {
    peak_fn peak;
    double flops; /* of a round */
    double seconds;
    double *rates; /* FLOP/s of each thread; a cache line each, as below */
    float *unused;
};

static void peak_thread(void *arg, int index)
{
    const struct peak_job *job = arg;
    double flops = 0, elapsed;
    const double start = bf_clock();
    do {
        job->peak(ROUNDS, &job->unused[index * 16]);
        flops += job->flops * ROUNDS;
        elapsed = bf_clock() - start;
    } while (elapsed < job->seconds);
    job->rates[index * 8] = flops / elapsed;
}

/* FLOP/s of all threads together. */
static double measure_peak(bnff_context *context, peak_fn peak, double flops, double seconds)
{
    double rates[MOST * 8] = {0};
    float unused[MOST * 16];
    const int threads = context->threads < MOST ? context->threads : MOST;
    struct peak_job job = {peak, flops, seconds, rates, unused};
    bnff_parallel_for(context, peak_thread, &job, threads);
    double sum = 0;
    for (int i = 0; i < threads; i++) sum += rates[i * 8];
    return sum * context->threads / threads;
}

double bnff_measure_fma(bnff_context *context, double seconds)
{
    return measure_peak(context, context->kernels->peak, 2.0 * FMA_PER_ROUND * context->kernels->vector, seconds);
}

double bnff_measure_bf16(bnff_context *context, double seconds)
{
#if defined(BF_HAVE_BF16)
    __builtin_cpu_init();
    if (!strcmp(context->kernels->isa, "avx512") && __builtin_cpu_supports("avx512bf16"))
        return measure_peak(context, bf_peak_bf16, BF_PEAK_BF16_FLOPS, seconds);
#endif
    (void)context, (void)seconds;
    return 0;
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

enum sweep { TOUCH, READING, COPYING, COPYING_PLAIN, COPYING_STREAM };

struct sweep_job {
    const bf_kernels *kernels;
    float (*read)(const char *from, size_t bytes);
    float unused[MOST * 16];
    char *from, *to;
    size_t total, share; /* bytes of each buffer, of each thread */
    enum sweep what;
};

static void sweep_thread(void *arg, int index)
{
    struct sweep_job *job = arg;
    char *from = job->from + job->share * (size_t)index, *to = job->to + job->share * (size_t)index;
    const int pixels = (int)(job->share / (BF_BLOCK * sizeof(float))); /* the buffers as blocks of full width */
    switch (job->what) {
    case TOUCH:
        memset(from, 1, job->share);
        memset(to, 2, job->share);
        break;
    case READING: job->unused[index % MOST * 16] = job->read(from, job->share); break;
    case COPYING: memcpy(to, from, job->share); break;
    case COPYING_PLAIN: job->kernels->copy((float *)to, BF_BLOCK, (const float *)from, BF_BLOCK, pixels, BF_BLOCK); break;
    case COPYING_STREAM: job->kernels->copy_stream((float *)to, BF_BLOCK, (const float *)from, BF_BLOCK, pixels, BF_BLOCK); break;
    }
}

static double best_sweep(bnff_context *context, struct sweep_job *job, enum sweep what, double seconds)
{
    const double bytes = (double)job->share * context->threads * (what == READING ? 1 : 2), begin = bf_clock();
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

static void end_sweeps(bnff_context *context, struct sweep_job *job)
{
    bf_pages_free(&context->allocator, job->from, job->total);
    bf_pages_free(&context->allocator, job->to, job->total);
}

static bnff_status begin_sweeps(bnff_context *context, struct sweep_job *job, bnff_error *error)
{
    size_t total = 2 * context->target.l3; /* so that little of a sweep is left in the caches for the next */
    if (total < (size_t)64 << 20) total = (size_t)64 << 20;
    if (total > (size_t)256 << 20) total = (size_t)256 << 20; /* a virtual machine may report the whole socket's cache */
    job->kernels = context->kernels;
    job->read = read_of(bnff_context_isa(context));
    job->total = total;
    job->share = total / (size_t)context->threads & ~(size_t)4095;
    job->from = bf_pages_alloc(&context->allocator, total);
    job->to = bf_pages_alloc(&context->allocator, total);
    if (!job->from || !job->to) {
        end_sweeps(context, job);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for two buffers of %zu bytes to measure bandwidth with", total);
    }
    job->what = TOUCH;
    bnff_parallel_for(context, sweep_thread, job, context->threads);
    return BNFF_OK;
}

bnff_status bnff_measure_bandwidth(bnff_context *context, double seconds, double *read, double *copy, bnff_error *error)
{
    struct sweep_job job = {0};
    BF_TRY(begin_sweeps(context, &job, error));
    *read = best_sweep(context, &job, READING, seconds);
    *copy = best_sweep(context, &job, COPYING, seconds);
    end_sweeps(context, &job);
    return BNFF_OK;
}

bnff_status bnff_measure_copies(bnff_context *context, double seconds, double *plain, double *stream, bnff_error *error)
{
    struct sweep_job job = {0};
    BF_TRY(begin_sweeps(context, &job, error));
    *plain = best_sweep(context, &job, COPYING_PLAIN, seconds);
    *stream = best_sweep(context, &job, COPYING_STREAM, seconds);
    end_sweeps(context, &job);
    return BNFF_OK;
}
