/* Elementwise steps of a task on a block's piece: n pixels by c = 16 or 32 lanes. Per-channel vectors stay in registers over
 * the pixels. An operand is read once and written once: 1 load or store per element and operand, from L2. */
#include "base/random.h"
#include "kernels/formulas.h"

BF_INLINE void load_channels(vf *v, const float *p, const int c)
{
    BF_UNROLL
    for (int i = 0; i < c / V; i++) v[i] = v_load(p + i * V);
}

/* An activation of many instructions has its loop in step_act.c alone: here what it acts on is made a few pixels at a time, in a
 * buffer that stays in L1. */
enum { PIECE = 16 };
static const bf_act none = {BNFF_IDENTITY, 0};

BF_INLINE void copy_any(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, const bool stream, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd, src += lds)
        BF_UNROLL
        for (int i = 0; i < c; i += V) put(dst + i, v_load(src + i), stream);
    put_end(stream);
}
void BF_ISA_NAME(copy)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, int c)
{
    BF_BY_C(c, copy_any, dst, ldd, src, lds, n, false);
}
void BF_ISA_NAME(copy_stream)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, int c)
{
    BF_BY_C(c, copy_any, dst, ldd, src, lds, n, true);
}

BF_INLINE void fill_any(float *dst, ptrdiff_t ldd, float value, int n, const int c)
{
    const vf v = v_set(value);
    for (int j = 0; j < n; j++, dst += ldd)
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(dst + i, v);
}
void BF_ISA_NAME(fill)(float *dst, ptrdiff_t ldd, float value, int n, int c) { BF_BY_C(c, fill_any, dst, ldd, value, n); }

BF_INLINE void affine_act_any(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, const float *s, const float *p,
                              const float *t, float slope, const bool stream, const int kind, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(tv, t, c);
    for (int j = 0; j < n; j++, dst += ldd, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) put(dst + i * V, f_act(f_affine(v_load(x + i * V), sv[i], pv[i], tv[i]), kind, slope), stream);
    put_end(stream);
}
static void affine_act_through(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, const float *s, const float *p,
                               const float *t, bf_act act, bool stream)
{
    float u[PIECE * BF_BLOCK] __attribute__((aligned(64)));
    for (int j = 0, m; j < n; j += m) {
        m = n - j < PIECE ? n - j : PIECE;
        BF_ISA_NAME(affine_act)(u, c, x + j * ldx, ldx, m, c, s, p, t, none);
        (stream ? BF_ISA_NAME(act_stream) : BF_ISA_NAME(act))(dst + j * ldd, ldd, u, c, m, c, act);
    }
}
void BF_ISA_NAME(affine_act)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, const float *s, const float *p,
                 const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_act_through(dst, ldd, x, ldx, n, c, s, p, t, act, false);
    else BF_BY_ACT(act.kind, c, affine_act_any, dst, ldd, x, ldx, n, s, p, t, act.slope, false);
}
void BF_ISA_NAME(affine_act_stream)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, const float *s, const float *p,
                 const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_act_through(dst, ldd, x, ldx, n, c, s, p, t, act, true);
    else BF_BY_ACT(act.kind, c, affine_act_any, dst, ldd, x, ldx, n, s, p, t, act.slope, true);
}

BF_INLINE void add_act_any(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, float slope, const bool stream,
                           const int kind, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd, a += lda, b += ldb)
        BF_UNROLL
        for (int i = 0; i < c; i += V) put(dst + i, f_act(v_load(a + i) + v_load(b + i), kind, slope), stream);
    put_end(stream);
}
static void add_act_through(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, int c,
                            bf_act act, bool stream)
{
    float u[PIECE * BF_BLOCK] __attribute__((aligned(64)));
    for (int j = 0, m; j < n; j += m) {
        m = n - j < PIECE ? n - j : PIECE;
        BF_ISA_NAME(add_act)(u, c, a + j * lda, lda, b + j * ldb, ldb, m, c, none);
        (stream ? BF_ISA_NAME(act_stream) : BF_ISA_NAME(act))(dst + j * ldd, ldd, u, c, m, c, act);
    }
}
void BF_ISA_NAME(add_act)(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, int c, bf_act act)
{
    if (f_act_is_long(act.kind)) add_act_through(dst, ldd, a, lda, b, ldb, n, c, act, false);
    else BF_BY_ACT(act.kind, c, add_act_any, dst, ldd, a, lda, b, ldb, n, act.slope, false);
}
void BF_ISA_NAME(add_act_stream)(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, int c, bf_act act)
{
    if (f_act_is_long(act.kind)) add_act_through(dst, ldd, a, lda, b, ldb, n, c, act, true);
    else BF_BY_ACT(act.kind, c, add_act_any, dst, ldd, a, lda, b, ldb, n, act.slope, true);
}

BF_INLINE void mul_any(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd, a += lda, b += ldb)
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(dst + i, v_load(a + i) * v_load(b + i));
}
void BF_ISA_NAME(mul)(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t ldb, int n, int c)
{
    BF_BY_C(c, mul_any, dst, ldd, a, lda, b, ldb, n);
}

BF_INLINE void affine_add_act_any(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, const float *b, ptrdiff_t ldb, int n,
                                  const float *s, const float *p, const float *t, float slope, const bool stream, const int kind, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(tv, t, c);
    for (int j = 0; j < n; j++, dst += ldd, x += ldx, b += ldb)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf y = f_affine(v_load(x + i * V), sv[i], pv[i], tv[i]);
            put(dst + i * V, f_act(y + v_load(b + i * V), kind, slope), stream);
        }
    put_end(stream);
}
static void affine_add_act_through(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, const float *b, ptrdiff_t ldb, int n, int c,
                                   const float *s, const float *p, const float *t, bf_act act, bool stream)
{
    float u[PIECE * BF_BLOCK] __attribute__((aligned(64)));
    for (int j = 0, m; j < n; j += m) {
        m = n - j < PIECE ? n - j : PIECE;
        BF_ISA_NAME(affine_add_act)(u, c, x + j * ldx, ldx, b + j * ldb, ldb, m, c, s, p, t, none);
        (stream ? BF_ISA_NAME(act_stream) : BF_ISA_NAME(act))(dst + j * ldd, ldd, u, c, m, c, act);
    }
}
void BF_ISA_NAME(affine_add_act)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, const float *b, ptrdiff_t ldb, int n, int c,
                 const float *s, const float *p, const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_add_act_through(dst, ldd, x, ldx, b, ldb, n, c, s, p, t, act, false);
    else BF_BY_ACT(act.kind, c, affine_add_act_any, dst, ldd, x, ldx, b, ldb, n, s, p, t, act.slope, false);
}
void BF_ISA_NAME(affine_add_act_stream)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, const float *b, ptrdiff_t ldb, int n,
                 int c, const float *s, const float *p, const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_add_act_through(dst, ldd, x, ldx, b, ldb, n, c, s, p, t, act, true);
    else BF_BY_ACT(act.kind, c, affine_add_act_any, dst, ldd, x, ldx, b, ldb, n, s, p, t, act.slope, true);
}

BF_INLINE void affine_act_grad_any(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n,
                                   const float *s, const float *p, const float *t, float slope, const bool stream, const int kind, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(tv, t, c);
    for (int j = 0; j < n; j++, dst += ldd, g += ldg, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf u = f_affine(v_load(x + i * V), sv[i], pv[i], tv[i]);
            put(dst + i * V, f_act_grad(v_load(g + i * V), u, kind, slope), stream);
        }
    put_end(stream);
}
static void affine_act_grad_through(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n, int c,
                                    const float *s, const float *p, const float *t, bf_act act, bool stream)
{
    float u[PIECE * BF_BLOCK] __attribute__((aligned(64)));
    for (int j = 0, m; j < n; j += m) {
        m = n - j < PIECE ? n - j : PIECE;
        BF_ISA_NAME(affine_act)(u, c, x + j * ldx, ldx, m, c, s, p, t, none);
        (stream ? BF_ISA_NAME(act_grad_stream) : BF_ISA_NAME(act_grad))(dst + j * ldd, ldd, g + j * ldg, ldg, u, c, m, c, act);
    }
}
void BF_ISA_NAME(affine_act_grad)(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n, int c,
                 const float *s, const float *p, const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_act_grad_through(dst, ldd, g, ldg, x, ldx, n, c, s, p, t, act, false);
    else BF_BY_ACT(act.kind, c, affine_act_grad_any, dst, ldd, g, ldg, x, ldx, n, s, p, t, act.slope, false);
}
void BF_ISA_NAME(affine_act_grad_stream)(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *x, ptrdiff_t ldx, int n,
                 int c, const float *s, const float *p, const float *t, bf_act act)
{
    if (f_act_is_long(act.kind)) affine_act_grad_through(dst, ldd, g, ldg, x, ldx, n, c, s, p, t, act, true);
    else BF_BY_ACT(act.kind, c, affine_act_grad_any, dst, ldd, g, ldg, x, ldx, n, s, p, t, act.slope, true);
}

BF_INLINE void bn_dx_any(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, const float *s,
                         const float *p, const float *c1, const float *c0, const bool stream, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], c1v[BF_MAX_VECTORS], c0v[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(c1v, c1, c), load_channels(c0v, c0, c);
    for (int j = 0; j < n; j++, dst += ldd, dy += ldy, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c / V; i++)
            put(dst + i * V, f_bn_dx(v_load(dy + i * V), v_load(x + i * V), sv[i], pv[i], c1v[i], c0v[i]), stream);
    put_end(stream);
}
void BF_ISA_NAME(bn_dx)(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                        const float *s, const float *p, const float *c1, const float *c0)
{
    BF_BY_C(c, bn_dx_any, dst, ldd, dy, ldy, x, ldx, n, s, p, c1, c0, false);
}
void BF_ISA_NAME(bn_dx_stream)(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                               const float *s, const float *p, const float *c1, const float *c0)
{
    BF_BY_C(c, bn_dx_any, dst, ldd, dy, ldy, x, ldx, n, s, p, c1, c0, true);
}

BF_INLINE void affine_act_grad_sums_any(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, const float *s,
                                        const float *p, const float *t, float slope, double *s1, double *s2, const int kind, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS], a[BF_MAX_VECTORS], b[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(tv, t, c);
    BF_UNROLL
    for (int i = 0; i < c / V; i++) a[i] = b[i] = (vf){0};
    for (int j = 0; j < n; j++, dst += ldd, dy += ldy, x += ldx) {
        fetch_ahead(x, ldx, c), fetch_ahead(dy, ldy, c);
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf d = v_load(x + i * V) - pv[i], g = f_act_grad(v_load(dy + i * V), v_fma(sv[i], d, tv[i]), kind, slope);
            a[i] += g;
            b[i] = v_fma(g, d, b[i]);
            v_store(dst + i * V, g);
        }
    }
    f_add_sums(s1, a, c), f_add_sums(s2, b, c);
}
void BF_ISA_NAME(affine_act_grad_sums)(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                                       const float *s, const float *p, const float *t, bf_act act, double *s1, double *s2)
{
    if (f_act_is_long(act.kind)) {
        BF_ISA_NAME(affine_act_grad)(dst, ldd, dy, ldy, x, ldx, n, c, s, p, t, act);
        BF_ISA_NAME(sum_bn_grad)(dst, ldd, x, ldx, n, c, p, s1, s2);
    } else BF_BY_ACT(act.kind, c, affine_act_grad_sums_any, dst, ldd, dy, ldy, x, ldx, n, s, p, t, act.slope, s1, s2);
}

BF_INLINE void affine_act_bn_dx_any(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, const float *s,
                                    const float *p, const float *t, float slope, const float *c1, const float *c0, const bool stream, const int kind, const int c)
{
    vf sv[BF_MAX_VECTORS], pv[BF_MAX_VECTORS], tv[BF_MAX_VECTORS], c1v[BF_MAX_VECTORS], c0v[BF_MAX_VECTORS];
    load_channels(sv, s, c), load_channels(pv, p, c), load_channels(tv, t, c), load_channels(c1v, c1, c), load_channels(c0v, c0, c);
    for (int j = 0; j < n; j++, dst += ldd, dy += ldy, x += ldx) {
        fetch_ahead(x, ldx, c), fetch_ahead(dy, ldy, c);
        BF_UNROLL
        for (int i = 0; i < c / V; i++) {
            const vf here = v_load(x + i * V), g = f_act_grad(v_load(dy + i * V), f_affine(here, sv[i], pv[i], tv[i]), kind, slope);
            put(dst + i * V, f_bn_dx(g, here, sv[i], pv[i], c1v[i], c0v[i]), stream);
        }
    }
    put_end(stream);
}
static void affine_act_bn_dx_through(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                                     const float *s, const float *p, const float *t, bf_act act, const float *c1, const float *c0, bool stream)
{
    float g[PIECE * BF_BLOCK] __attribute__((aligned(64)));
    for (int j = 0, m; j < n; j += m) {
        m = n - j < PIECE ? n - j : PIECE;
        BF_ISA_NAME(affine_act_grad)(g, c, dy + j * ldy, ldy, x + j * ldx, ldx, m, c, s, p, t, act);
        (stream ? BF_ISA_NAME(bn_dx_stream) : BF_ISA_NAME(bn_dx))(dst + j * ldd, ldd, g, c, x + j * ldx, ldx, m, c, s, p, c1, c0);
    }
}
void BF_ISA_NAME(affine_act_bn_dx)(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                                   const float *s, const float *p, const float *t, bf_act act, const float *c1, const float *c0)
{
    if (f_act_is_long(act.kind)) affine_act_bn_dx_through(dst, ldd, dy, ldy, x, ldx, n, c, s, p, t, act, c1, c0, false);
    else BF_BY_ACT(act.kind, c, affine_act_bn_dx_any, dst, ldd, dy, ldy, x, ldx, n, s, p, t, act.slope, c1, c0, false);
}
void BF_ISA_NAME(affine_act_bn_dx_stream)(float *dst, ptrdiff_t ldd, const float *dy, ptrdiff_t ldy, const float *x, ptrdiff_t ldx, int n, int c,
                                          const float *s, const float *p, const float *t, bf_act act, const float *c1, const float *c0)
{
    if (f_act_is_long(act.kind)) affine_act_bn_dx_through(dst, ldd, dy, ldy, x, ldx, n, c, s, p, t, act, c1, c0, true);
    else BF_BY_ACT(act.kind, c, affine_act_bn_dx_any, dst, ldd, dy, ldy, x, ldx, n, s, p, t, act.slope, c1, c0, true);
}

BF_INLINE void scale_add_any(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, float scale, const float *b, ptrdiff_t ldb, int n,
                             const int c)
{
    const vf sv = v_set(scale);
    if (!b) {
        for (int j = 0; j < n; j++, dst += ldd, a += lda)
            BF_UNROLL
            for (int i = 0; i < c; i += V) v_store(dst + i, v_load(a + i) * sv);
        return;
    }
    for (int j = 0; j < n; j++, dst += ldd, a += lda, b += ldb)
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(dst + i, v_fma(v_load(a + i), sv, v_load(b + i)));
}
void BF_ISA_NAME(scale_add)(float *dst, ptrdiff_t ldd, const float *a, ptrdiff_t lda, float scale, const float *b, ptrdiff_t ldb, int n, int c)
{
    BF_BY_C(c, scale_add_any, dst, ldd, a, lda, scale, b, ldb, n);
}

/* The logical index of lane i is index + i in 64 bits: its low half carries into the high one where it wrapped. */
BF_INLINE vf dropout_lanes(vf x, uint64_t index, vu lane, uint64_t key, uint32_t threshold, float scale)
{
    const vu low = (uint32_t)index + lane, high = (uint32_t)(index >> 32) - (vu)(low < lane);
    const vu bits = f_random_bits(low, high, (uint32_t)key, (uint32_t)(key >> 32));
    return v_zero_where((vi)(bits < threshold), x * scale);
}
BF_INLINE void dropout_any(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, uint64_t key, uint64_t first, int64_t channels,
                           uint32_t threshold, float scale, const int c)
{
    vu lane[BF_MAX_VECTORS];
    for (int i = 0; i < c; i++) lane[i / V][i % V] = (uint32_t)i;
    for (int j = 0; j < n; j++, dst += ldd, src += lds, first += (uint64_t)channels)
        BF_UNROLL
        for (int i = 0; i < c / V; i++) v_store(dst + i * V, dropout_lanes(v_load(src + i * V), first, lane[i], key, threshold, scale));
}
void BF_ISA_NAME(dropout)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, int c, uint64_t key, uint64_t first,
                          int64_t channels, uint32_t threshold, float scale)
{
    const uint64_t mixed = bf_mix64(key + 0x9E3779B97F4A7C15u); /* keys that differ in one bit give unrelated streams */
    BF_BY_C(c, dropout_any, dst, ldd, src, lds, n, mixed, first, channels, threshold, scale);
}
