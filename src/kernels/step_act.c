/* Activations and their gradients alone. Those of many instructions have their only loops here: the kernels that do something else
 * before come by with a buffer (step_elementwise.c). Bound by arithmetic there, by L2 with the short ones. */
#include "kernels/formulas.h"

BF_INLINE void act_any(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, float slope, const bool stream, const int kind, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd, x += ldx)
        BF_UNROLL
        for (int i = 0; i < c; i += V) put(dst + i, f_act(v_load(x + i), kind, slope), stream);
    put_end(stream);
}

BF_INLINE void act_grad_any(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *u, ptrdiff_t ldu, int n, float slope, const bool stream,
                            const int kind, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd, g += ldg, u += ldu)
        BF_UNROLL
        for (int i = 0; i < c; i += V) put(dst + i, f_act_grad(v_load(g + i), v_load(u + i), kind, slope), stream);
    put_end(stream);
}

/* f with a long kind as a constant; c stays a number. */
#define LONG_CASE(act_kind, f, ...) case act_kind: f(__VA_ARGS__, act_kind); break
#define BY_LONG_ACT(kind, f, ...) \
    switch (kind) { \
    LONG_CASE(BNFF_SILU, f, __VA_ARGS__); \
    LONG_CASE(BNFF_SIGMOID, f, __VA_ARGS__); \
    LONG_CASE(BNFF_TANH, f, __VA_ARGS__); \
    LONG_CASE(BNFF_GELU, f, __VA_ARGS__); \
    LONG_CASE(BNFF_ELU, f, __VA_ARGS__); \
    LONG_CASE(BNFF_MISH, f, __VA_ARGS__); \
    default: break; \
    }

BF_INLINE void act_long(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, float slope, const bool stream, const int kind)
{
    for (int j = 0; j < n; j++, dst += ldd, x += ldx)
        for (int i = 0; i < c; i += V) put(dst + i, f_act(v_load(x + i), kind, slope), stream);
    put_end(stream);
}

BF_INLINE void act_grad_long(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *u, ptrdiff_t ldu, int n, int c, float slope,
                             const bool stream, const int kind)
{
    for (int j = 0; j < n; j++, dst += ldd, g += ldg, u += ldu)
        for (int i = 0; i < c; i += V) put(dst + i, f_act_grad(v_load(g + i), v_load(u + i), kind, slope), stream);
    put_end(stream);
}

BF_INLINE void act_with(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, bf_act act, const bool stream)
{
    if (!f_act_is_long(act.kind)) BF_BY_ACT(act.kind, c, act_any, dst, ldd, x, ldx, n, act.slope, stream);
    else BY_LONG_ACT(act.kind, act_long, dst, ldd, x, ldx, n, c, act.slope, stream);
}
void BF_ISA_NAME(act)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, bf_act act) { act_with(dst, ldd, x, ldx, n, c, act, false); }
void BF_ISA_NAME(act_stream)(float *dst, ptrdiff_t ldd, const float *x, ptrdiff_t ldx, int n, int c, bf_act act) { act_with(dst, ldd, x, ldx, n, c, act, true); }

BF_INLINE void act_grad_with(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *u, ptrdiff_t ldu, int n, int c, bf_act act, const bool stream)
{
    if (!f_act_is_long(act.kind)) BF_BY_ACT(act.kind, c, act_grad_any, dst, ldd, g, ldg, u, ldu, n, act.slope, stream);
    else BY_LONG_ACT(act.kind, act_grad_long, dst, ldd, g, ldg, u, ldu, n, c, act.slope, stream);
}
void BF_ISA_NAME(act_grad)(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *u, ptrdiff_t ldu, int n, int c, bf_act act)
{
    act_grad_with(dst, ldd, g, ldg, u, ldu, n, c, act, false);
}
void BF_ISA_NAME(act_grad_stream)(float *dst, ptrdiff_t ldd, const float *g, ptrdiff_t ldg, const float *u, ptrdiff_t ldu, int n, int c, bf_act act)
{
    act_grad_with(dst, ldd, g, ldg, u, ldu, n, c, act, true);
}
