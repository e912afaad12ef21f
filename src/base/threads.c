#define _GNU_SOURCE
#include "base/threads.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <unistd.h>

#include "base/memory.h"

/* One job at a time. The caller writes the job, then raises `generation`; each worker runs its indices and lowers `running`;
 * the caller waits for zero. Both sides spin for a moment before they sleep, but only when every thread can have a core:
 * with more threads than cores a spinning thread keeps off the one it waits for. */
struct bf_threads {
    int count;      /* threads including the caller */
    int started;    /* workers running */
    int spins;      /* polls before sleeping */
    pid_t owner;    /* process that made the workers: a forked child has none of them */
    pthread_mutex_t entry; /* held by the caller whose job runs */
    pthread_mutex_t lock;
    pthread_cond_t wake, done;
    atomic_uint generation;
    atomic_int running;
    bool quit;
    bnff_task_fn task;
    void *arg;
    int job_count;
    struct worker { struct bf_threads *pool; int index; pthread_t thread; } *workers;
};

static void pause_briefly(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void run_share(struct bf_threads *pool, int thread)
{
    for (int i = thread; i < pool->job_count; i += pool->started + 1) pool->task(pool->arg, i);
}

static void *work(void *argument)
{
    const struct worker *self = argument;
    struct bf_threads *pool = self->pool;
    unsigned seen = 0;
    for (;;) {
        for (int i = 0; i < pool->spins && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen; i++) pause_briefly();
        pthread_mutex_lock(&pool->lock);
        while (!pool->quit && atomic_load_explicit(&pool->generation, memory_order_acquire) == seen) pthread_cond_wait(&pool->wake, &pool->lock);
        const bool quit = pool->quit;
        seen = atomic_load_explicit(&pool->generation, memory_order_acquire);
        pthread_mutex_unlock(&pool->lock);
        if (quit) return NULL;
        run_share(pool, self->index);
        if (atomic_fetch_sub_explicit(&pool->running, 1, memory_order_acq_rel) == 1) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

bf_threads *bf_threads_create(int count)
{
    struct bf_threads *pool = bf_calloc(1, sizeof *pool);
    if (!pool) return NULL;
    pool->workers = bf_calloc((size_t)count, sizeof *pool->workers);
    if (!pool->workers) return bf_free(pool), NULL;
    pool->count = count;
    pool->spins = count <= bf_threads_available() ? 4000 : 0;
    pthread_mutex_init(&pool->entry, NULL);
    return pool;
}

/* Make the workers; fewer than wanted is fine, the work is divided among those there are. */
static void start_workers(struct bf_threads *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    atomic_store(&pool->generation, 0);
    atomic_store(&pool->running, 0);
    pool->owner = getpid();
    pool->started = 0;
    for (int i = 0; i + 1 < pool->count; i++) {
        pool->workers[i] = (struct worker){.pool = pool, .index = i + 1};
        if (pthread_create(&pool->workers[i].thread, NULL, work, &pool->workers[i])) break;
        pool->started++;
    }
}

void bf_threads_run(bf_threads *pool, bnff_task_fn task, void *arg, int count)
{
    if (pool->count == 1 || count <= 1) {
        for (int i = 0; i < count; i++) task(arg, i);
        return;
    }
    pthread_mutex_lock(&pool->entry);
    if (pool->owner != getpid()) start_workers(pool);
    pool->task = task;
    pool->arg = arg;
    pool->job_count = count;
    atomic_store_explicit(&pool->running, pool->started, memory_order_relaxed);
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add_explicit(&pool->generation, 1, memory_order_release);
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    run_share(pool, 0);
    for (int i = 0; i < pool->spins && atomic_load_explicit(&pool->running, memory_order_acquire); i++) pause_briefly();
    if (atomic_load_explicit(&pool->running, memory_order_acquire)) {
        pthread_mutex_lock(&pool->lock);
        while (atomic_load_explicit(&pool->running, memory_order_acquire)) pthread_cond_wait(&pool->done, &pool->lock);
        pthread_mutex_unlock(&pool->lock);
    }
    pthread_mutex_unlock(&pool->entry);
}

void bf_threads_destroy(bf_threads *pool)
{
    if (!pool) return;
    if (pool->owner == getpid()) {
        pthread_mutex_lock(&pool->lock);
        pool->quit = true;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
        for (int i = 0; i < pool->started; i++) pthread_join(pool->workers[i].thread, NULL);
        pthread_mutex_destroy(&pool->lock);
        pthread_cond_destroy(&pool->wake);
        pthread_cond_destroy(&pool->done);
    }
    pthread_mutex_destroy(&pool->entry);
    bf_free(pool->workers);
    bf_free(pool);
}

int bf_threads_quota(void)
{
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (!file) return 0;
    long long quota, period;
    const int got = fscanf(file, "%lld %lld", &quota, &period);
    fclose(file);
    return got == 2 && quota > 0 && period > 0 ? (int)((quota + period - 1) / period) : 0;
}

int bf_threads_available(void)
{
    cpu_set_t set;
    int cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : (int)sysconf(_SC_NPROCESSORS_ONLN);
    const int quota = bf_threads_quota();
    if (quota && quota < cpus) cpus = quota;
    return cpus > 0 ? cpus : 1;
}
