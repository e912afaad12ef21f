/* Reading the golden files of tests/golden: a reader of its own, so that the library's is not needed to test the library. */
#ifndef BNFF_TESTS_GOLDEN_H
#define BNFF_TESTS_GOLDEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

typedef struct golden golden;

/* tests/golden/NAME.safetensors; fails the test if it is not there or damaged. */
golden *golden_open(const char *name);
void golden_close(golden **file);

/* Cases: JSON objects with "name" and parameters. golden_case also makes it the case that tensors are looked up in, and the
 * support's test_case. */
int golden_count(const golden *file);
json_t *golden_case(golden *file, int index);

/* Tensors of the current case, dense, row-major. `n` and shape[4] (padded by 1) may be NULL; a missing one fails the test. */
bool golden_has(const golden *file, const char *tensor);
bool golden_has_f32(const golden *file, const char *tensor);
const float *golden_f32(const golden *file, const char *tensor, size_t *n, int shape[4]);
const double *golden_f64(const golden *file, const char *tensor, size_t *n, int shape[4]);
const int32_t *golden_i32(const golden *file, const char *tensor, size_t *n);
const uint8_t *golden_u8(const golden *file, const char *tensor, size_t *n, int shape[4]);

/* Parameters of a case; a missing one fails the test. */
double golden_number(const json_t *parameters, const char *key);
bool golden_flag(const json_t *parameters, const char *key);
const char *golden_string(const json_t *parameters, const char *key);
void golden_pair(const json_t *parameters, const char *key, int pair[2]);

#endif
