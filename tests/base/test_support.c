/* The helpers of support.h themselves: a helper that never fails would make every test pass. */
#include "support.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

static void close_knows_nan_and_infinity(void **state)
{
    (void)state;
    check_close(1.0, 1.0 + 1e-9, 1e-8);
    check_close(NAN, NAN, 0);
    check_close(INFINITY, INFINITY, 0);
}

static void wrong_value(void **state) { (void)state; test_case("planted value"); check_close(1.0, 1.1, 0.01); }
static void nan_for_number(void **state) { (void)state; check_close(NAN, 1.0, INFINITY); }
static void number_for_nan(void **state) { (void)state; check_close(1.0, NAN, INFINITY); }
static void wrong_sign(void **state) { (void)state; const float a = 0.0f, b = -0.0f; check_same_bits(&a, &b, 1); }
static void wrong_status(void **state) { (void)state; bnff_error e = {.message = "m"}; check_ok(BNFF_E_IO, &e); }
static void wrong_words(void **state) { (void)state; bnff_error e = {.message = "m"}; check_fails(BNFF_E_IO, BNFF_E_IO, &e, "absent"); }
static void plain_assertion(void **state) { (void)state; test_case("planted assertion"); assert_int_equal(1, 2); }

static void skipped(void **state) { (void)state; skip(); }

#ifndef __SANITIZE_ADDRESS__
static void write_before(void **state) { (void)state; volatile float *x = guarded(5); x[-1] = 0; check_guards(); }
static void write_behind(void **state) { (void)state; volatile float *x = guarded(5); x[5] = 0; check_guards(); }
static void write_before_nothing(void **state) { (void)state; volatile float *x = guarded(0); x[0] = 0; check_guards(); }
#endif

/* Run the tests that must fail in a child, and count the failures it reports. */
static void mistakes_are_reported(void **state)
{
    (void)state;
    static const struct CMUnitTest planted[] = {
        test(wrong_value), test(nan_for_number), test(number_for_nan), test(wrong_sign), test(wrong_status), test(wrong_words), test(plain_assertion), test(skipped),
#ifndef __SANITIZE_ADDRESS__
        test(write_before), test(write_behind), test(write_before_nothing),
#endif
    };
    const char *log = temp_path("log");
    fflush(stdout);
    const pid_t child = fork();
    if (child == 0) {
        const int fd = open(log, O_WRONLY | O_CREAT, 0600);
        if (dup2(fd, STDOUT_FILENO) < 0 || !freopen("/dev/null", "w", stderr)) _exit(100);
        const int failures = run_all(planted);
        fflush(stdout);
        _exit(failures);
    }
    int result;
    assert_int_equal(waitpid(child, &result, 0), child);
    assert_true(WIFEXITED(result));
    assert_int_equal(WEXITSTATUS(result), COUNT_OF(planted) - 1);
    char text[16384];
    FILE *file = fopen(log, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof text - 1, file)] = '\0';
    fclose(file);
    assert_non_null(strstr(text, "left in case: planted assertion\n"));
    assert_non_null(strstr(text, "\nok 8 # SKIP"));
    int lines = 0;
    for (const char *at = text; (at = strstr(at, "\nnot ok ")); at++) lines++;
    assert_int_equal(lines, COUNT_OF(planted) - 1);
}

static void cases_seed_their_numbers(void **state)
{
    (void)state;
    float a[8], b[8], c[8];
    test_case("one");
    fill_normal(a, 8, 0, 1);
    test_case("two");
    fill_normal(b, 8, 0, 1);
    test_case("one");
    fill_normal(c, 8, 0, 1);
    check_same_bits(c, a, 8);
    assert_memory_not_equal(a, b, sizeof a);
}

static void guarded_arrays_are_aligned(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 15, 16, 17, 1000};
    FOR_EACH(n, sizes) {
        float *x = guarded(n);
        assert_int_equal((uintptr_t)x % 64, 0);
        for (size_t i = 0; i < n; i++) x[i] = 1;
    }
    check_guards();
}

static void loops_visit_every_element(void **state)
{
    (void)state;
    static const int a[] = {1, 2, 3};
    static const char *const b[] = {"x", "yy"};
    int sum = 0;
    FOR_EACH(i, a) FOR_EACH(s, b) {
        if (i == 3) continue;
        sum += i * (int)strlen(s);
    }
    assert_int_equal(sum, (1 + 2) * 3);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(close_knows_nan_and_infinity), test(mistakes_are_reported), test(cases_seed_their_numbers),
        test(guarded_arrays_are_aligned), test(loops_visit_every_element),
    };
    return run_all(tests);
}
