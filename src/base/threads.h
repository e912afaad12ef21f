/* A small pool of threads. Work is a static count of indices; the calling thread takes part. */
#ifndef BF_THREADS_H
#define BF_THREADS_H

#include <bnff/context.h>

typedef struct bf_threads bf_threads;

/* `count` threads including the caller's, made at the first parallel call (and made again after a fork). NULL: no memory. */
bf_threads *bf_threads_create(int count);
void bf_threads_destroy(bf_threads *threads);
/* task(arg, i) for all i in [0, count); index i always runs on thread i mod threads, so that data stays with its core.
 * Returns when all are done. Calls from several threads at once are served one after the other. */
void bf_threads_run(bf_threads *threads, bnff_task_fn task, void *arg, int count);
/* CPUs this process may use: affinity mask, cut to the cgroup's CPU quota (rounded up). At least 1. */
int bf_threads_available(void);
/* CPUs of the cgroup v2 quota ("quota period" in cpu.max), rounded up; 0 if there is none. */
int bf_threads_quota(void);

#endif
