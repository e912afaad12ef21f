/* Sums over the pixels of a piece, n <= BF_STATS_PIXELS: a float sum starts at zero in each call and is added once, in double, so
 * its relative error is below n * 2^-24 of the sum of magnitudes. */
#include "kernels/formulas.h"

BF_INLINE void sum_stats_any(const float *x, ptrdiff_t ldx, int n, const double *pivot, double *s1, double *s2, const int c)
{
    float at[BF_BLOCK] __attribute__((aligned(64)));
    vf p[BF_MAX_VECTORS], a[BF_MAX_VECTORS], b[BF_MAX_VECTORS];
    for (int i = 0; i < c; i++) at[i] = (float)pivot[i];
    BF_UNROLL
    for (int i = 0; i < c / V; i++) p[i] = v_load(at + i * V), a[i] = b[i] = (vf){0};
    for (int j = 0; j < n; j++, x += ldx) {
        fetch_ahead(x, ldx, c);
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf d = v_load(x + i * V) - p[i];
            a[i] += d;
            b[i] = v_fma(d, d, b[i]);
        }
    }
    f_add_sums(s1, a, c), f_add_sums(s2, b, c);
}
void BF_ISA_NAME(sum_stats)(const float *x, ptrdiff_t ldx, int n, int c, const double *pivot, double *s1, double *s2)
{
    BF_BY_C(c, sum_stats_any, x, ldx, n, pivot, s1, s2);
}

BF_INLINE void sum_any(const float *x, ptrdiff_t ldx, int n, double *s1, const int c)
{
    vf a[BF_MAX_VECTORS];
    BF_UNROLL
    for (int i = 0; i < c / V; i++) a[i] = (vf){0};
    for (int j = 0; j < n; j++, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) a[i] += v_load(x + i * V);
    f_add_sums(s1, a, c);
}
void BF_ISA_NAME(sum)(const float *x, ptrdiff_t ldx, int n, int c, double *s1) { BF_BY_C(c, sum_any, x, ldx, n, s1); }

BF_INLINE void sum_bn_grad_any(const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, const float *p, double *s1, double *s2, const int c)
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
    f_add_sums(s1, a, c), f_add_sums(s2, b, c);
}
void BF_ISA_NAME(sum_bn_grad)(const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c, const float *p, double *s1, double *s2)
{
    BF_BY_C(c, sum_bn_grad_any, dy, ldy, x, ldx, n, p, s1, s2);
}

BF_INLINE void sum_cells_any(float *dst, const float *at, size_t stride, int cells, const int c)
{
    enum { AHEAD = 4 }; /* lines of c that follow in each cell: as many places at once as cells, hardware does not follow them */
    double total[BF_BLOCK] = {0};
    for (int cell = 0; cell < cells; cell++, at += stride) {
        BF_UNROLL
        for (int i = 0; i < c; i += BF_LANES) __builtin_prefetch(at + AHEAD * c + i);
        for (int i = 0; i < c; i++) total[i] += (double)at[i];
    }
    for (int i = 0; i < c; i++) dst[i] = (float)total[i];
}
void BF_ISA_NAME(sum_cells)(float *dst, const float *at, size_t stride, int cells, int c) { BF_BY_C(c, sum_cells_any, dst, at, stride, cells); }
