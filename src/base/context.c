#include "base/context.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/env.h"
#include "base/error.h"
#include "base/memory.h"
#include "kernels/kernels.h"

static const bf_kernels *choose_kernels(const char *name, bnff_status *status, bnff_error *error)
{
    const bf_kernels *kernels = name ? bf_kernels_at_most(name) : bf_kernels_at(0);
    *status = BNFF_OK;
    if (kernels) return kernels;
    *status = bf_fail(error, BNFF_E_ARG, "instruction set '%s' is unknown here", name);
    bf_hint(error, BNFF_E_ARG, "the best one here is '%s'; every machine has 'plain'", bf_kernels_at(0)->isa);
    return NULL;
}

bnff_status bnff_context_create(const bnff_context_options *options, bnff_context **out, bnff_error *error)
{
    static const bnff_context_options none = {.size = sizeof none};
    if (!options) options = &none;
    *out = NULL;
    if (options->size != sizeof *options) return bf_fail(error, BNFF_E_ARG, "bnff_context_options.size is %zu, not %zu", options->size, sizeof *options);
    if (options->threads < 0 || options->threads > 4096) return bf_fail(error, BNFF_E_ARG, "%d threads; 0 to 4096 are possible", options->threads);

    const char *variable = NULL, *text = NULL;
    int threads = options->threads ? options->threads : bf_env_threads(&variable, &text);
    if (variable && !threads) {
        bf_fail(error, BNFF_E_ARG, "%s=%.40s: not a number from 1 to 4096", variable, text);
        return bf_hint(error, BNFF_E_ARG, "unset it to use every CPU this process may");
    }
    if (!threads) threads = bf_threads_available();
    bnff_status status;
    const bf_kernels *kernels = choose_kernels(options->max_isa ? options->max_isa : bf_env_max_isa(), &status, error);
    if (!kernels) return status;
    bf_target target = bf_target_detect();
    if (bf_env_caches() && !bf_target_set_caches(&target, bf_env_caches())) {
        bf_fail(error, BNFF_E_ARG, "BNFF_CACHES=%s: not three sizes, each larger than the one before", bf_env_caches());
        return bf_hint(error, BNFF_E_ARG, "BNFF_CACHES=32K,256K,4M plans for a core's data caches of 32 and 256 KiB and a last-level cache of 4 MiB");
    }
    bnff_context *context = bf_calloc(1, sizeof *context);
    if (!context) return bf_fail(error, BNFF_E_MEMORY, "no memory for a context");
    context->allocator = options->allocator;
    context->parallel = options->parallel;
    context->parallel_user = options->parallel_user;
    context->log = options->log;
    context->log_user = options->log_user;
    context->kernels = kernels;
    context->threads = threads;
    context->target = target;
    context->target.isa = kernels->isa;
    context->target.vector = kernels->vector;
    context->target.cells = context->threads;
    if (!context->parallel && !(context->pool = bf_threads_create(context->threads))) {
        bf_free(context);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for %d threads", threads);
    }
    bf_log(context, "dispatch", "isa,%s,vector,%d,threads,%d,l2,%zu", kernels->isa, kernels->vector, context->threads, context->target.l2);
    *out = context;
    return BNFF_OK;
}

void bnff_context_destroy(bnff_context **context)
{
    if (!context || !*context) return;
    bf_threads_destroy((*context)->pool);
    bf_free(*context);
    *context = NULL;
}

int bnff_context_threads(const bnff_context *context) { return context->threads; }
const char *bnff_context_isa(const bnff_context *context) { return context->kernels->isa; }

void bnff_parallel_for(bnff_context *context, bnff_task_fn task, void *arg, int count)
{
    if (context->parallel) context->parallel(context->parallel_user, task, arg, count);
    else bf_threads_run(context->pool, task, arg, count);
}

void bf_log(const bnff_context *context, const char *topic, const char *format, ...)
{
    if (!context->log || !bf_env_verbose(topic)) return;
    char line[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    context->log(context->log_user, topic, line);
}
