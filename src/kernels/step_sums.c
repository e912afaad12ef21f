/* Sums over the pixels of a piece, n <= BF_STATS_PIXELS: a float sum starts at zero in each call and is added once, so its
 * relative error is below n * 2^-24 of the sum of magnitudes; the caller adds the pieces in double. A lane sums its pixels in
 * order: the fused kernel gives the bits of the two it replaces. */
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

/* Half a block at a time: its five vectors per 16 lanes fit the registers of AVX2, those of 32 lanes do not. */
BF_INLINE void grad_sums_16(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n, const float *s,
                            const float *p, const float *t, float *s1, float *s2, float slope, const int kind)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS], a[BF_MAX_VECTORS], b[BF_MAX_VECTORS];
    BF_UNROLL
    for (int i = 0; i < BF_LANES / V; i++) {
        sv[i] = v_load(s + i * V), pv[i] = v_load(p + i * V), tv[i] = v_load(t + i * V);
        a[i] = b[i] = (vf){0};
    }
    for (int j = 0; j < n; j++, dst += ldd, g += ldg, x += ldx)
        BF_UNROLL
        for (int i = 0; i < BF_LANES / V; i++) {
            const vf xi = v_load(x + i * V);
            const vf dy = f_act_grad(v_load(g + i * V), f_affine(xi, sv[i], pv[i], tv[i]), kind, slope);
            v_store(dst + i * V, dy);
            a[i] += dy;
            b[i] = v_fma(dy, xi - pv[i], b[i]);
        }
    BF_UNROLL
    for (int i = 0; i < BF_LANES / V; i++) add_to(s1 + i * V, a[i]), add_to(s2 + i * V, b[i]);
}
BF_INLINE void affine_act_grad_sums_any(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n,
                                        const float *s, const float *p, const float *t, float *s1, float *s2, float slope, const int kind,
                                        const int c)
{
    for (int i = 0; i < c; i += BF_LANES) grad_sums_16(dst + i, ldd, g + i, ldg, x + i, ldx, n, s + i, p + i, t + i, s1 + i, s2 + i, slope, kind);
}
void BF_ISA_NAME(affine_act_grad_sums)(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n, int c,
                                       const float *s, const float *p, const float *t, bf_act act, float *s1, float *s2)
{
    BF_BY_ACT(act.kind, c, affine_act_grad_sums_any, dst, ldd, g, ldg, x, ldx, n, s, p, t, s1, s2, act.slope);
}
