/* A context: the threads, memory and instruction set that plans and runs use. Nothing in bnff is global. */
#ifndef BNFF_CONTEXT_H
#define BNFF_CONTEXT_H

#include <stddef.h>
#include <bnff/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_context bnff_context;

/** One unit of parallel work: index in [0, count). */
typedef void (*bnff_task_fn)(void *arg, int index);
/** Calls task(arg, i) once for each i in [0, count), in any order on any threads, and returns when all have returned. */
typedef void (*bnff_parallel_fn)(void *user, bnff_task_fn task, void *arg, int count);
/** A line of log text without its newline. topic: "plan", "dispatch", "step", "memory". */
typedef void (*bnff_log_fn)(void *user, const char *topic, const char *line);

/** Where large buffers come from. alloc returns 64-byte aligned memory of at least `bytes`, or NULL. */
typedef struct bnff_allocator {
    void *(*alloc)(void *user, size_t bytes);
    void (*release)(void *user, void *memory, size_t bytes);
    void *user;
} bnff_allocator;

typedef struct bnff_context_options {
    size_t size;               /* sizeof(bnff_context_options): lets the struct grow */
    int threads;               /* OS threads, 0: BNFF_THREADS, else OMP_NUM_THREADS, else affinity mask and cgroup quota */
    const char *max_isa;       /* "avx512", "avx2", "neon", "plain"; NULL: BNFF_MAX_ISA, else the best the machine has */
    bnff_allocator allocator;  /* all NULL: mmap with transparent huge pages */
    bnff_parallel_fn parallel; /* the caller's own thread pool; NULL: ours. `threads` then says how many it has */
    void *parallel_user;
    bnff_log_fn log;           /* receives what BNFF_VERBOSE asks for; NULL: nothing is logged */
    void *log_user;
} bnff_context_options;

/**
 * Create a context.
 * @param options  NULL means all defaults;  @param[out] context  NULL on failure
 * @return BNFF_OK; BNFF_E_ARG: unknown ISA or negative threads; BNFF_E_MEMORY.
 */
BNFF_API bnff_status bnff_context_create(const bnff_context_options *options, bnff_context **context, bnff_error *error);
/** Destroy; accepts NULL and leaves *context NULL. Everything made from the context must be gone before. */
BNFF_API void bnff_context_destroy(bnff_context **context);

BNFF_API int bnff_context_threads(const bnff_context *context);
/** The kernels chosen: "avx512", "avx2", "neon" or "plain". */
BNFF_API const char *bnff_context_isa(const bnff_context *context);
/** Run task on the context's threads (the same contract as bnff_parallel_fn). */
BNFF_API void bnff_parallel_for(bnff_context *context, bnff_task_fn task, void *arg, int count);

#ifdef __cplusplus
}
#endif
#endif
