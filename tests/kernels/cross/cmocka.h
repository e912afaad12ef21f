/* The few calls of cmocka that the kernel tests make, for builds for machines that this one has no cmocka library for
 * (scripts/test_aarch64.sh). Prints TAP; a failed assertion leaves its test by longjmp, as cmocka's do. */
#ifndef BF_TESTS_CROSS_CMOCKA_H
#define BF_TESTS_CROSS_CMOCKA_H

#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef void (*CMUnitTestFunction)(void **state);
typedef int (*CMFixtureFunction)(void **state);
struct CMUnitTest {
    const char *name;
    CMUnitTestFunction test_func;
    CMFixtureFunction setup_func, teardown_func;
    void *initial_state;
};

extern jmp_buf cross_leave;
#ifdef CROSS_CMOCKA_MAIN
jmp_buf cross_leave;
#endif

static inline void cross_fail(const char *file, int line)
{
    printf("# %s:%d\n", file, line);
    longjmp(cross_leave, 1);
}
#define _fail(file, line) cross_fail(file, line)
#define fail_msg(...) (printf("# " __VA_ARGS__), cross_fail(__FILE__, __LINE__))
#define skip() longjmp(cross_leave, 2)
#define assert_true(x) ((x) ? (void)0 : (printf("# not true: %s\n", #x), cross_fail(__FILE__, __LINE__)))
#define assert_null(x) assert_true(!(x))
#define assert_non_null(x) assert_true(x)
#define assert_int_equal(a, b) assert_true((a) == (b))
#define assert_ptr_equal(a, b) assert_true((const void *)(a) == (const void *)(b))
#define assert_string_equal(a, b) assert_true(!strcmp(a, b))

/* 0: passed, 1: failed, 2: skipped */
static inline int cross_run_one(const struct CMUnitTest *test)
{
    void *state = test->initial_state;
    const int left = setjmp(cross_leave);
    if (!left) test->test_func(&state);
    return left;
}
static inline int cross_run(const struct CMUnitTest *tests, size_t count)
{
    int failed = 0;
    printf("1..%zu\n", count);
    for (size_t i = 0; i < count; i++) {
        void *state = NULL;
        const int left = cross_run_one(&tests[i]);
        if (tests[i].teardown_func) tests[i].teardown_func(&state);
        printf("%s %zu - %s%s\n", left == 1 ? "not ok" : "ok", i + 1, tests[i].name, left == 2 ? " # SKIP" : "");
        failed += left == 1;
    }
    return failed;
}
#define cmocka_run_group_tests(tests, setup, teardown) cross_run(tests, sizeof tests / sizeof *(tests))

#endif
