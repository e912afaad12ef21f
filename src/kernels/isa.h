/* The vectors of one instruction set. Every kernel file is compiled once per instruction set with
 *     BF_ISA      its name, the suffix of every function and of the table
 *     BF_VECTOR   floats in a vector: 4, 8 or 16
 * on GCC's vector extensions; only what those cannot say (a fused multiply-add that must be one, a store that bypasses the
 * caches) is an intrinsic, here and nowhere else. A vector longer than the machine's is lowered by the compiler: so the tests
 * run the 16-float kernels on machines without AVX-512.
 *
 * The kernels are compiled with -ffp-contract=off: a*b + c is two roundings where v_fma is not written, so that two kernels
 * that share a formula round alike whatever surrounds it. "plain" has no fused multiply-add: there v_fma is two roundings too. */
#ifndef BF_ISA_H
#define BF_ISA_H

#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(BF_NEON)
#include <arm_neon.h>
#endif

#include "kernels/kernels.h"

#define BF_JOIN_NAMES(name, isa) name##_##isa
#define BF_JOIN(name, isa) BF_JOIN_NAMES(name, isa)
/* gemm becomes bf_gemm_avx2 */
#define BF_ISA_NAME(name) BF_JOIN(bf_##name, BF_ISA)
#define BF_INLINE static inline __attribute__((always_inline))
#define BF_UNROLL _Pragma("GCC unroll 32")

#define BF_KERNEL(name, args) void BF_ISA_NAME(name) args;
#include "kernels/kernels.def"
#undef BF_KERNEL

typedef float vf __attribute__((vector_size(4 * BF_VECTOR)));
typedef int32_t vi __attribute__((vector_size(4 * BF_VECTOR)));
typedef uint32_t vu __attribute__((vector_size(4 * BF_VECTOR)));
typedef float vf_memory __attribute__((vector_size(4 * BF_VECTOR), aligned(4), may_alias));

enum {
    V = BF_VECTOR,
    BF_MAX_VECTORS = BF_BLOCK / V /* vectors of a full block's pixel */
};

BF_INLINE vf v_load(const float *p) { return *(const vf_memory *)p; }
BF_INLINE void v_store(float *p, vf v) { *(vf_memory *)p = v; }
BF_INLINE vf v_set(float x) { return x - (vf){0}; } /* x in every lane: x - 0 is x for all x */
/* mask ? a : b; a mask is all ones or all zeros in a lane, as comparisons make it */
BF_INLINE vf v_select(vi mask, vf a, vf b) { return (vf)(((vi)a & mask) | ((vi)b & ~mask)); }
BF_INLINE vf v_zero_where(vi mask, vf a) { return (vf)((vi)a & ~mask); }

/* a*b + c, one rounding where the machine can */
BF_INLINE vf v_fma(vf a, vf b, vf c)
{
#if defined(__AVX512F__) && BF_VECTOR == 16
    return (vf)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#elif defined(__FMA__) && BF_VECTOR == 8
    return (vf)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
#elif defined(__FMA__) && BF_VECTOR == 16
    union { vf v; __m256 half[2]; } x = {a}, y = {b}, z = {c};
    z.half[0] = _mm256_fmadd_ps(x.half[0], y.half[0], z.half[0]);
    z.half[1] = _mm256_fmadd_ps(x.half[1], y.half[1], z.half[1]);
    return z.v;
#elif defined(BF_NEON)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}
BF_INLINE float bf_fma(float a, float b, float c)
{
#if defined(__FMA__) || defined(BF_NEON)
    return __builtin_fmaf(a, b, c);
#else
    return a * b + c;
#endif
}

/* p aligned to the vector */
BF_INLINE void v_stream(float *p, vf v)
{
#if defined(__AVX512F__) && BF_VECTOR == 16
    _mm512_stream_ps(p, (__m512)v);
#elif defined(__AVX__) && BF_VECTOR >= 8
    const __m256 *half = (const __m256 *)&v;
    for (int h = 0; h < BF_VECTOR / 8; h++) _mm256_stream_ps(p + 8 * h, half[h]);
#elif defined(__SSE__)
    _mm_stream_ps(p, (__m128)v);
#else
    v_store(p, v);
#endif
}
/* Streamed stores before are seen before any store behind. */
BF_INLINE void v_stream_end(void)
{
#if defined(__SSE__)
    _mm_sfence();
#endif
}

/* The next lines of what is to be fetched into L2, in one run: a few beyond the end of a range, where it need not end with a step. A loop
 * that looks at the range with each line takes seven cycles a line. */
BF_INLINE void fetch_step(bf_prefetch *p)
{
    if (p->current >= p->count) return;
    const char *at = p->range[p->current].at, *const to = at + 64 * p->lines_per_step;
    for (; at < to; at += 64) __builtin_prefetch(at, 0, 2);
    p->range[p->current].at = at;
    p->current += at >= p->range[p->current].end;
}

/* The next lines of what is to be stored past the caches. */
BF_INLINE void store_step(bf_prefetch *p)
{
    for (int lines = p->stores_per_step; lines > 0 && p->storing < p->stores; lines--) {
        float *const to = p->store[p->storing].to;
        BF_UNROLL
        for (int i = 0; i < BF_LANES; i += V) v_stream(to + i, v_load(p->store[p->storing].from + i));
        p->store[p->storing].from += BF_LANES;
        p->store[p->storing].to += BF_LANES;
        if (p->store[p->storing].to >= p->store[p->storing].end) p->storing++;
    }
}

/* f(..., c) with c as a constant, f(..., kind, c) with the kind of a short activation as one too: f is inlined for each case. */
#define BF_BY_C(c, f, ...) do { if ((c) == BF_BLOCK) f(__VA_ARGS__, BF_BLOCK); else f(__VA_ARGS__, BF_LANES); } while (0)
#define BF_ACT_CASE(act_kind, c, f, ...) case act_kind: BF_BY_C(c, f, __VA_ARGS__, act_kind); break
#define BF_BY_ACT(kind, c, f, ...) do { \
    switch (kind) { \
    BF_ACT_CASE(BNFF_IDENTITY, c, f, __VA_ARGS__); \
    BF_ACT_CASE(BNFF_RELU, c, f, __VA_ARGS__); \
    BF_ACT_CASE(BNFF_RELU6, c, f, __VA_ARGS__); \
    BF_ACT_CASE(BNFF_LEAKY_RELU, c, f, __VA_ARGS__); \
    BF_ACT_CASE(BNFF_HARDSWISH, c, f, __VA_ARGS__); \
    BF_ACT_CASE(BNFF_HARDSIGMOID, c, f, __VA_ARGS__); \
    default: break; \
    } } while (0)

#endif
