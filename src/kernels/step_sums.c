/* Sums over the pixels of a piece, n <= BF_STATS_PIXELS: a float sum starts at zero in each call and is added once, so its
 * relative error is below n * 2^-24 of the sum of magnitudes; the caller adds the pieces in double. */
#include "kernels/formulas.h"

BF_INLINE void add_to(float *sum, vf v) { v_store(sum, v_load(sum) + v); }

BF_INLINE void sum_stats_any(const float *x, ptrdiff_t ldx, int n, const float *pivot, float *s1, float *s2, const int c)
{
    vf p[BF_MAX_VECTORS], a[BF_MAX_VECTORS], b[BF_MAX_VECTORS];
    BF_UNROLL
    for (int i = 0; i < c / V; i++) p[i] = v_load(pivot + i * V), a[i] = b[i] = (vf){0};
    for (int j = 0; j < n; j++, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf d = v_load(x + i * V) - p[i];
            a[i] += d;
            b[i] = v_fma(d, d, b[i]);
        }
    BF_UNROLL
    for (int i = 0; i < c / V; i++) add_to(s1 + i * V, a[i]), add_to(s2 + i * V, b[i]);
}
void BF_ISA_NAME(sum_stats)(const float *x, ptrdiff_t ldx, int n, int c, const float *pivot, float *s1, float *s2)
{
    BF_BY_C(c, sum_stats_any, x, ldx, n, pivot, s1, s2);
}

BF_INLINE void sum_any(const float *x, ptrdiff_t ldx, int n, float *s1, const int c)
{
    vf a[BF_MAX_VECTORS];
    BF_UNROLL
    for (int i = 0; i < c / V; i++) a[i] = (vf){0};
    for (int j = 0; j < n; j++, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) a[i] += v_load(x + i * V);
    BF_UNROLL
    for (int i = 0; i < c / V; i++) add_to(s1 + i * V, a[i]);
}
void BF_ISA_NAME(sum)(const float *x, ptrdiff_t ldx, int n, int c, float *s1) { BF_BY_C(c, sum_any, x, ldx, n, s1); }

BF_INLINE void sum_bn_grad_any(const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, const float *p, float *s1, float *s2, const int c)
{
    vf pv[BF_MAX_VECTORS], a[BF_MAX_VECTORS], b[BF_MAX_VECTORS];
    BF_UNROLL
    for (int i = 0; i < c / V; i++) pv[i] = v_load(p + i * V), a[i] = b[i] = (vf){0};
    for (int j = 0; j < n; j++, dy += ldy, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf d = v_load(dy + i * V);
            a[i] += d;
            b[i] = v_fma(d, v_load(x + i * V) - pv[i], b[i]);
        }
    BF_UNROLL
    for (int i = 0; i < c / V; i++) add_to(s1 + i * V, a[i]), add_to(s2 + i * V, b[i]);
}
void BF_ISA_NAME(sum_bn_grad)(const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c, const float *p, float *s1, float *s2)
{
    BF_BY_C(c, sum_bn_grad_any, dy, ldy, x, ldx, n, p, s1, s2);
}
