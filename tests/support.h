/* What the tests share: cmocka, named and seeded cases, guarded arrays, comparisons that say what they compared.
 *
 *     static void sum_is_exact(void **state)
 *     {
 *         (void)state;
 *         static const int ns[] = {1, 3, 17};
 *         FOR_EACH(n, ns) {
 *             test_case("sum n=%d", n);
 *             float *x = guarded(n);
 *             fill_normal(x, n, 0, 1);
 *             check_close(sum(x, n), reference(x, n), n * FLT_EPSILON);
 *             check_guards();
 *         }
 *     }
 *     int main(void)
 *     {
 *         static const struct CMUnitTest tests[] = {test(sum_is_exact)};
 *         return run_all(tests);
 *     }
 */
#ifndef BNFF_TESTS_SUPPORT_H
#define BNFF_TESTS_SUPPORT_H

#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <bnff/status.h>

#include "base/random.h"

#define COUNT_OF(array) (sizeof(array) / sizeof *(array))

/* Loop over the elements of an array by value. Nests; `break` leaves the current element only. */
#define FOR_EACH(v, array)                                                              \
    for (size_t v##_at = 0; v##_at < COUNT_OF(array); v##_at++)                         \
        for (__typeof__((array)[0]) v = (array)[v##_at], *v##_once = &v; v##_once; v##_once = NULL)

/* Loop over the kernel tables this machine can run (include "kernels/kernels.h"): isa->isa is the name. */
#define FOR_EACH_ISA(table) \
    for (int table##_at = 0; table##_at >= 0; table##_at = -1) \
        for (const bf_kernels *table; (table = bf_kernels_at(table##_at)) != NULL; table##_at++)

/* -- Cases -------------------------------------------------------------------------------------------------------- */

/* An entry of the table of tests: like cmocka_unit_test, and names the case that failed whatever assertion it was. */
#define test(function) {#function, support_run, NULL, support_finish, (void *)(uintptr_t)(function)}
#define run_all(tests) (support_begin(), cmocka_run_group_tests(tests, NULL, NULL))
void support_begin(void);
void support_run(void **state);
int support_finish(void **state);

/* Begin a case: its name is printed if anything fails in it, and seeds the random numbers below. */
void test_case(const char *format, ...) BNFF_PRINTF(1, 2);
const char *test_case_name(void);

/* -- Random data: the same for the same case name ------------------------------------------------------------------ */

double random_uniform(double low, double high);
double random_normal(void);
int random_int(int low, int high); /* both inclusive */
void fill_uniform(float *x, size_t n, double low, double high);
void fill_normal(float *x, size_t n, double mean, double std);

/* -- Guarded arrays ------------------------------------------------------------------------------------------------ */

/* n floats, 64-byte aligned, all NaN, with canaries on both sides (under AddressSanitizer reading those is an error too). */
float *guarded(size_t n);
/* The same for n bytes. */
void *guarded_bytes(size_t n);
/* Fail if anything was written outside a guarded array; frees them all. */
void check_guards(void);

/* -- Comparisons --------------------------------------------------------------------------------------------------- */

/* |got - want| <= bound; NaN equals NaN, and infinities equal themselves. */
#define check_close(got, want, bound) support_close(got, want, bound, #got, -1, __FILE__, __LINE__)
/* The same for arrays: floats against doubles with one bound for all. */
#define check_floats(got, want, n, bound) support_floats(got, want, n, bound, #got, __FILE__, __LINE__)
/* Equal bits, NaN included. */
#define check_same_bits(got, want, n) support_same_bits(got, want, n, #got, __FILE__, __LINE__)
/* The call succeeds (its message is printed otherwise). `error` is the bnff_error * that the call was given. */
#define check_ok(call, error) support_status(call, BNFF_OK, error, NULL, #call, __FILE__, __LINE__)
/* The call fails with this status and a message or hint that contains `words` (NULL: any). */
#define check_fails(call, status, error, words) support_status(call, status, error, words, #call, __FILE__, __LINE__)

void support_close(double got, double want, double bound, const char *what, ptrdiff_t index, const char *file, int line);
void support_floats(const float *got, const double *want, size_t n, double bound, const char *what, const char *file, int line);
void support_same_bits(const float *got, const float *want, size_t n, const char *what, const char *file, int line);
void support_status(bnff_status got, bnff_status want, const bnff_error *error, const char *words, const char *call, const char *file, int line);

/* -- Files --------------------------------------------------------------------------------------------------------- */

/* A path inside this process's temporary folder, which is made at the first call and removed at exit. Valid for 8 more calls. */
const char *temp_path(const char *name);
/* A file of tests/golden, found from the source tree. Valid for 8 more calls. */
const char *golden_path(const char *name);
/* A path in the folder that BNFF_TEST_DATA names; skips the test when it is not set. */
const char *data_path(const char *name);
void write_file(const char *path, const void *bytes, size_t size);

#endif
