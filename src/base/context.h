/* The inside of a bnff_context. */
#ifndef BF_CONTEXT_H
#define BF_CONTEXT_H

#include <bnff/context.h>

#include "base/target.h"
#include "base/threads.h"

struct bf_kernels;

struct bnff_context {
    bnff_allocator allocator;
    bnff_parallel_fn parallel; /* the caller's, or NULL */
    void *parallel_user;
    bf_threads *pool;          /* ours, when parallel is NULL */
    int threads;
    bf_target target;          /* isa, caches; cells = threads */
    const struct bf_kernels *kernels;
    bnff_log_fn log;
    void *log_user;
};

/* Log a line under a topic if the caller listens and BNFF_VERBOSE asks for it. */
void bf_log(const bnff_context *context, const char *topic, const char *format, ...) BNFF_PRINTF(3, 4);

#endif
