/* A convolution's tensors, and their comparison with float64 sums. */
#ifndef CLI_BENCH_CHECK_H
#define CLI_BENCH_CHECK_H

#include "bench_problem.h"

typedef struct bench_tensors {
    int oh, ow;
    float *x, *w, *y, *dy, *dx, *dw; /* x, dx (mb,ih,iw,ic); y, dy (mb,oh,ow,oc); w, dw (oc,ic/g,kh,kw) */
} bench_tensors;

/* What they take. */
double bench_tensors_bytes(const bench_problem *p);
/* x, w, dy random; y, dx, dw NaN, so that what is not written shows. */
void bench_tensors_make(bench_tensors *t, const bench_problem *p);
void bench_tensors_free(bench_tensors *t);
/* The worst error among samples of y, dx and dw as a share of its bound: more than 1 is wrong. Where an algorithm is not `direct`, an element
 * carries the rounding of the up to 36 values of its tile, which may be larger: 8 times the bound. */
double bench_check(const bench_tensors *t, const bench_problem *p, bool with_dx, bool direct);

#endif
