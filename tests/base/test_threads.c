/* The pool: every index exactly once, on its own thread, whatever the counts, the callers, or a fork in between. */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bnff/context.h>

#include "base/threads.h"
#include "support.h"

enum { MOST = 100 };

typedef struct job {
    atomic_int visits[MOST];
    pthread_t thread[MOST];
} job;

static void visit(void *arg, int index)
{
    job *j = arg;
    atomic_fetch_add(&j->visits[index], 1);
    j->thread[index] = pthread_self();
}

/* Every index below count once and no other. */
static void check_visits(const job *j, int count)
{
    for (int i = 0; i < MOST; i++) assert_int_equal(atomic_load(&j->visits[i]), i < count ? 1 : 0);
}

static void every_index_once(void **state)
{
    (void)state;
    static const int threads[] = {1, 2, 3, 8, 17}, counts[] = {0, 1, 2, 3, 7, 16, 17, 99};
    FOR_EACH(t, threads) {
        bf_threads *pool = bf_threads_create(t);
        assert_non_null(pool);
        FOR_EACH(n, counts) {
            test_case("threads=%d count=%d", t, n);
            job j = {0};
            bf_threads_run(pool, visit, &j, n);
            check_visits(&j, n);
        }
        bf_threads_destroy(pool);
    }
}

static void index_stays_with_its_thread(void **state)
{
    (void)state;
    bf_threads *pool = bf_threads_create(3);
    job first = {0};
    bf_threads_run(pool, visit, &first, 10);
    for (int repeat = 0; repeat < 20; repeat++) {
        job j = {0};
        bf_threads_run(pool, visit, &j, 10);
        for (int i = 0; i < 10; i++) {
            assert_true(pthread_equal(j.thread[i], first.thread[i % 3]));
            if (i % 3 == 0) assert_true(pthread_equal(j.thread[i], pthread_self()));
        }
    }
    bf_threads_destroy(pool);
}

static void add_index(void *arg, int index) { atomic_fetch_add((atomic_long *)arg, index + 1); }

static void many_small_jobs(void **state)
{
    (void)state;
    enum { JOBS = 5000, COUNT = 5 };
    static const int threads[] = {2, 6};
    FOR_EACH(t, threads) {
        test_case("threads=%d", t);
        bf_threads *pool = bf_threads_create(t);
        atomic_long sum = 0;
        for (int i = 0; i < JOBS; i++) {
            bf_threads_run(pool, add_index, &sum, COUNT);
            assert_int_equal(atomic_load(&sum), (long)(i + 1) * 15); /* done when the call returns */
        }
        bf_threads_destroy(pool);
    }
}

/* Plain memory written by one job is seen by the next, on whatever thread: what the layers of a network do. */
typedef struct relay { int from[64], to[64]; } relay;
static void pass_on(void *arg, int index)
{
    relay *r = arg;
    r->to[index] = r->from[63 - index] + 1;
}

static void jobs_see_what_earlier_jobs_wrote(void **state)
{
    (void)state;
    bf_threads *pool = bf_threads_create(4);
    relay r = {0};
    for (int round = 0; round < 500; round++) {
        bf_threads_run(pool, pass_on, &r, 64);
        memcpy(r.from, r.to, sizeof r.from);
        for (int i = 0; i < 64; i++) assert_int_equal(r.from[i], round + 1);
    }
    bf_threads_destroy(pool);
}

typedef struct caller { bf_threads *pool; atomic_long sum; } caller;
static void *call_often(void *arg)
{
    caller *c = arg;
    for (int i = 0; i < 300; i++) bf_threads_run(c->pool, add_index, &c->sum, 4);
    return NULL;
}

static void callers_take_turns(void **state)
{
    (void)state;
    caller callers[3] = {{.pool = bf_threads_create(3)}};
    callers[1].pool = callers[2].pool = callers[0].pool;
    pthread_t threads[3];
    for (int i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, call_often, &callers[i]), 0);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < 3; i++) assert_int_equal(atomic_load(&callers[i].sum), 300 * 10);
    bf_threads_destroy(callers[0].pool);
}

/* ThreadSanitizer does not follow threads made after a fork. */
static void skip_under_thread_sanitizer(void)
{
#ifdef __SANITIZE_THREAD__
    skip();
#endif
}

/* A forked child has none of the parent's threads: it makes its own, and both go on. */
static void works_after_fork(void **state)
{
    (void)state;
    skip_under_thread_sanitizer();
    bf_threads *pool = bf_threads_create(3);
    job before = {0};
    bf_threads_run(pool, visit, &before, 9);
    check_visits(&before, 9);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        job j = {0};
        bf_threads_run(pool, visit, &j, 9);
        int ok = 1;
        for (int i = 0; i < 9; i++) ok &= atomic_load(&j.visits[i]) == 1;
        ok &= !pthread_equal(j.thread[0], j.thread[1]);
        bf_threads_destroy(pool);
        _exit(ok ? 0 : 1);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    job after = {0};
    bf_threads_run(pool, visit, &after, 9);
    check_visits(&after, 9);
    bf_threads_destroy(pool);
}

/* Destroying a pool in a child that never used it must not wait for threads that are not there. */
static void destroyed_unused_after_fork(void **state)
{
    (void)state;
    skip_under_thread_sanitizer();
    bf_threads *pool = bf_threads_create(2);
    job j = {0};
    bf_threads_run(pool, visit, &j, 4);
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        alarm(20);
        bf_threads_destroy(pool);
        _exit(0);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result) && WEXITSTATUS(result) == 0);
    bf_threads_destroy(pool);
}

/* -- Through the public context ----------------------------------------------------------------------------------- */

static bnff_context *context_of(int threads)
{
    const bnff_context_options options = {.size = sizeof options, .threads = threads};
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(&options, &context, &error), &error);
    return context;
}

static void use_inner(void *arg, int index)
{
    atomic_long sum = 0;
    bnff_parallel_for(((bnff_context **)arg)[index], add_index, &sum, 4);
    if (atomic_load(&sum) != 10) abort();
}

static void contexts_nest(void **state)
{
    (void)state;
    bnff_context *outer = context_of(2), *inner[2] = {context_of(2), context_of(3)};
    for (int i = 0; i < 50; i++) bnff_parallel_for(outer, use_inner, inner, 2);
    bnff_context_destroy(&inner[0]);
    bnff_context_destroy(&inner[1]);
    bnff_context_destroy(&outer);
    assert_null(outer);
}

static void backwards(void *user, bnff_task_fn task, void *arg, int count)
{
    ++*(int *)user;
    for (int i = count - 1; i >= 0; i--) task(arg, i);
}

static void callers_own_threads(void **state)
{
    (void)state;
    int calls = 0;
    const bnff_context_options options = {.size = sizeof options, .threads = 5, .parallel = backwards, .parallel_user = &calls};
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(&options, &context, &error), &error);
    assert_int_equal(bnff_context_threads(context), 5);
    job j = {0};
    bnff_parallel_for(context, visit, &j, 7);
    check_visits(&j, 7);
    assert_int_equal(calls, 1);
    bnff_context_destroy(&context);
}

static void available_obeys_the_affinity_mask(void **state)
{
    (void)state;
    assert_true(bf_threads_available() >= 1);
    cpu_set_t all, one;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    CPU_ZERO(&one);
    for (int i = 0; i < CPU_SETSIZE && !CPU_COUNT(&one); i++)
        if (CPU_ISSET(i, &all)) CPU_SET(i, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
    const int available = bf_threads_available();
    sched_setaffinity(0, sizeof all, &all);
    assert_int_equal(available, 1);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(every_index_once), test(index_stays_with_its_thread), test(many_small_jobs), test(jobs_see_what_earlier_jobs_wrote),
        test(callers_take_turns), test(works_after_fork), test(destroyed_unused_after_fork),
        test(contexts_nest), test(callers_own_threads), test(available_obeys_the_affinity_mask),
    };
    return run_all(tests);
}
