/* What the machine is, and what it can do at best: facts for reports, and the peaks that speeds are compared with. */
#ifndef BNFF_MACHINE_H
#define BNFF_MACHINE_H

#include <bnff/context.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_machine {
    size_t size;              /* set by the caller to sizeof(bnff_machine) */
    char cpu[128];            /* model name */
    int cpus;                 /* online */
    int cpus_allowed;         /* of those, by the affinity mask */
    int cpus_quota;           /* by the cgroup's CPU quota, rounded up; 0: none */
    int threads;              /* that a context takes by default, and ... */
    const char *threads_from; /* ... why: "BNFF_THREADS", "OMP_NUM_THREADS", "cgroup quota", "affinity mask" */
    size_t l1, l2, l3;        /* data caches, bytes: of a core, of a core, shared */
    size_t memory_total;      /* bytes; 0: unknown, also below */
    size_t memory_available;  /* that this process may still take, cgroup limits counted */
    size_t memory_limit;      /* of the cgroup; 0: none */
    size_t resident, resident_peak; /* of this process */
} bnff_machine;

/** Fill *machine, whose size the caller has set. */
BNFF_API void bnff_machine_describe(bnff_machine *machine);
/** Instruction sets that this build has kernels for and this machine can run, best first; NULL past the end. */
BNFF_API const char *bnff_isa_name(int index);
/** Libraries that bnff was built with, by index, and their versions; NULL past the end. */
BNFF_API const char *bnff_library_name(int index, const char **version);

/**
 * Multiply-adds per second that the context's threads and instruction set reach on registers alone, in FLOP/s (2 a multiply-add),
 * measured over about `seconds`. A probe of 5 ms between steps tells whether the machine was disturbed.
 */
BNFF_API double bnff_measure_fma(bnff_context *context, double seconds);
/** The same of bf16 dot products added to float32 (AVX512_BF16), which nothing here computes with yet; 0: the machine, the build or the
 *  context's instruction set has none. */
BNFF_API double bnff_measure_bf16(bnff_context *context, double seconds);
/**
 * Main-memory bandwidth of all threads together in bytes per second, over buffers larger than the caches: reading alone, and copying (read and
 * written bytes counted). The best of several sweeps within about `seconds` each. @return BNFF_OK; BNFF_E_MEMORY.
 */
BNFF_API bnff_status bnff_measure_bandwidth(bnff_context *context, double seconds, double *read, double *copy, bnff_error *error);
/** Copying as the kernels do: *plain with stores through the caches, *stream with stores past them; bnff_measure_bandwidth's copy is the C
 *  library's. Read and written bytes per second. @return BNFF_OK; BNFF_E_MEMORY. */
BNFF_API bnff_status bnff_measure_copies(bnff_context *context, double seconds, double *plain, double *stream, bnff_error *error);

#ifdef __cplusplus
}
#endif
#endif
