/* One inline function per formula. Forward, mask, pooling and backward, fused or not, all call these and nothing else, so that
 * they agree bit for bit within an instruction set: the sign of a recomputed activation input is the one the forward pass saw.
 * Boundary values and NaN are PyTorch's: the formulas name the comparison that decides. */
#ifndef BF_FORMULAS_H
#define BF_FORMULAS_H

#include "kernels/isa.h"

/* y = s*(x - p) + t, batch normalization with pivot p (math.md) */
BF_INLINE vf f_affine(vf x, vf s, vf p, vf t) { return v_fma(s, x - p, t); }

/* dX = s*dy + c1*(x - p) + c0, gradient through the statistics */
BF_INLINE vf f_bn_dx(vf dy, vf x, vf s, vf p, vf c1, vf c0) { return v_fma(s, dy, v_fma(c1, x - p, c0)); }

/* e^x, relative error below 2^-23.4 where the result is a normal number, correctly overflowing to infinity and
 * fading through the denormals to 0; NaN stays NaN.
 * x = n*ln2 + r, |r| <= ln2/2, e^x = 2^n * (1 + r + r^2 * q(r)). 2^n is multiplied in two halves: n reaches -150 and 128. */
BF_INLINE vf f_exp_parts(vf x, vf *two_n, vf *two_n_rest)
{
    const vf low = v_set(-104.0f), high = v_set(89.0f), magic = v_set(0x1.8p23f);
    x = v_select(x < low, low, v_select(x > high, high, x)); /* e^-104 rounds to 0, e^89 is infinite */
    const vf shifted = v_fma(x, v_set(0x1.715476p0f), magic); /* the low bits of its mantissa are n */
    const vf n = shifted - magic;
    const vf r = v_fma(n, v_set(-0x1.7f7d1cp-20f), v_fma(n, v_set(-0x1.62e400p-1f), x)); /* ln2 in two parts, the first exact in n*part */
    vf q = v_set(1.9875691500e-4f);
    q = v_fma(q, r, v_set(1.3981999507e-3f));
    q = v_fma(q, r, v_set(8.3334519073e-3f));
    q = v_fma(q, r, v_set(4.1665795894e-2f));
    q = v_fma(q, r, v_set(1.6666665459e-1f));
    q = v_fma(q, r, v_set(5.0000001201e-1f));
    const vi whole = (vi)shifted - (vi)magic, half = whole >> 1;
    *two_n = (vf)((half + 127) << 23);
    *two_n_rest = (vf)((whole - half + 127) << 23);
    return v_fma(r * r, q, r); /* e^r - 1 */
}
BF_INLINE vf f_exp(vf x)
{
    vf a, b;
    const vf e = f_exp_parts(x, &a, &b) + 1.0f;
    return e * a * b;
}
/* e^x - 1 without the cancellation near 0 */
BF_INLINE vf f_expm1(vf x)
{
    vf a, b;
    const vf e = f_exp_parts(x, &a, &b);
    return v_select(a * b == 1.0f, e, (e + 1.0f) * a * b - 1.0f);
}

BF_INLINE vf f_sigmoid(vf u) { return 1.0f / (1.0f + f_exp(-u)); }

/* min(max(u + 3, 0), 6); NaN stays NaN */
BF_INLINE vf f_clamped_ramp(vf u)
{
    const vf ramp = u + 3.0f, six = v_set(6.0f);
    return v_select(ramp > six, six, v_zero_where(ramp < 0.0f, ramp));
}

/* tanh: an odd rational function on |u| <= 7.9, where it has reached 1; relative error below 2^-21. NaN stays NaN. */
BF_INLINE vf f_tanh(vf u)
{
    const vf most = v_set(7.90531110763549805f);
    const vf x2 = v_select(u * u > most * most, most * most, u * u);
    vf p = v_set(-2.76076847742355e-16f);
    p = v_fma(p, x2, v_set(2.00018790482477e-13f));
    p = v_fma(p, x2, v_set(-8.60467152213735e-11f));
    p = v_fma(p, x2, v_set(5.12229709037114e-08f));
    p = v_fma(p, x2, v_set(1.48572235717979e-05f));
    p = v_fma(p, x2, v_set(6.37261928875436e-04f));
    p = v_fma(p, x2, v_set(4.89352455891786e-03f));
    vf q = v_set(1.19825839466702e-06f);
    q = v_fma(q, x2, v_set(1.18534705686654e-04f));
    q = v_fma(q, x2, v_set(2.26843463243900e-03f));
    q = v_fma(q, x2, v_set(4.89352518554385e-03f));
    const vf y = u * (p / q);
    return v_select(u > most, v_set(1.0f), v_select(u < -most, v_set(-1.0f), y));
}

/* The normal distribution function (1 + erf(u / sqrt 2)) / 2, and its density times u. Hastings' form of erfc, e^-z^2 times a function
 * of t = 1 / (1 + z/2), z = |u| / sqrt 2: error below 2^-22, in the lower tail relative to the value. */
BF_INLINE vf f_normal(vf u, vf *u_density)
{
    const vf z = v_select(u < 0.0f, -u, u) * 0x1.6a09e6p-1f, t = 1.0f / v_fma(z, v_set(0.5f), v_set(1.0f));
    vf p = v_set(0.17087277f);
    p = v_fma(p, t, v_set(-0.82215223f));
    p = v_fma(p, t, v_set(1.48851587f));
    p = v_fma(p, t, v_set(-1.13520398f));
    p = v_fma(p, t, v_set(0.27886807f));
    p = v_fma(p, t, v_set(-0.18628806f));
    p = v_fma(p, t, v_set(0.09678418f));
    p = v_fma(p, t, v_set(0.37409196f));
    p = v_fma(p, t, v_set(1.00002368f));
    p = v_fma(p, t, v_set(-1.26551223f));
    const vf bell = f_exp(-z * z), half_erfc = 0.5f * t * bell * f_exp(p);
    *u_density = u * bell * 0x1.988454p-2f; /* 1 / sqrt(2 pi) */
    return v_select(u < 0.0f, half_erfc, 1.0f - half_erfc);
}

/* tanh(log(1 + e^u)) = n / (n + 2), n = e^u (e^u + 2); from u = 20 on it is 1. *slope: its derivative. */
BF_INLINE vf f_mish_gate(vf u, vf *slope)
{
    const vf most = v_set(20.0f), e = f_exp(v_select(u > most, most, u)), n = e * (e + 2.0f), r = 1.0f / (n + 2.0f);
    *slope = v_zero_where(u > most, 4.0f * e * (1.0f + e) * r * r);
    return n * r;
}

BF_INLINE vf f_act(vf u, int kind, float slope)
{
    vf unused;
    switch (kind) {
    case BNFF_RELU: return v_zero_where(u <= 0.0f, u);
    case BNFF_RELU6: return v_select(u >= 6.0f, v_set(6.0f), v_zero_where(u <= 0.0f, u));
    case BNFF_LEAKY_RELU: return v_select(u > 0.0f, u, u * slope);
    case BNFF_SILU: return u / (1.0f + f_exp(-u));
    case BNFF_HARDSWISH: return u * f_clamped_ramp(u) / 6.0f;
    case BNFF_SIGMOID: return f_sigmoid(u);
    case BNFF_HARDSIGMOID: return f_clamped_ramp(u) / 6.0f;
    case BNFF_TANH: return f_tanh(u);
    case BNFF_GELU: return u * f_normal(u, &unused);
    case BNFF_ELU: return v_select(u > 0.0f, u, f_expm1(u) * slope);
    case BNFF_MISH: return u * f_mish_gate(u, &unused);
    default: return u;
    }
}

/* g * act'(u) */
BF_INLINE vf f_act_grad(vf g, vf u, int kind, float slope)
{
    switch (kind) {
    case BNFF_RELU: return v_zero_where(u <= 0.0f, g);
    case BNFF_RELU6: return v_zero_where((u <= 0.0f) | (u >= 6.0f), g);
    case BNFF_LEAKY_RELU: return v_select(u > 0.0f, g, g * slope);
    case BNFF_SILU: {
        const vf y = f_sigmoid(u);
        return g * y * v_fma(u, 1.0f - y, v_set(1.0f));
    }
    case BNFF_HARDSWISH: return v_zero_where(u <= -3.0f, v_select(u >= 3.0f, g, g * (u / 3.0f + 0.5f)));
    case BNFF_SIGMOID: {
        const vf y = f_sigmoid(u);
        return g * (1.0f - y) * y;
    }
    case BNFF_HARDSIGMOID: return (vf)((vi)(g / 6.0f) & (u > -3.0f) & (u < 3.0f));
    case BNFF_TANH: {
        const vf y = f_tanh(u);
        return g * v_fma(-y, y, v_set(1.0f));
    }
    case BNFF_GELU: {
        vf u_density;
        const vf y = f_normal(u, &u_density);
        return g * (y + u_density);
    }
    case BNFF_ELU: return v_select(u > 0.0f, g, g * f_exp(u) * slope);
    case BNFF_MISH: {
        vf derivative;
        const vf y = f_mish_gate(u, &derivative);
        return g * v_fma(u, derivative, y);
    }
    default: return g;
    }
}

/* Does f_act take so many instructions that a store and a load more are little beside them? Only `act` and `act_grad` have loops
 * for these; a body for each kind in every kernel would be most of the library. */
BF_INLINE bool f_act_is_long(int kind) { return kind > BNFF_HARDSIGMOID || kind == BNFF_SILU || kind == BNFF_SIGMOID; }

/* Max pooling: the mask of lanes where x replaces the best so far. The first maximum stays; NaN beats all and stays. */
BF_INLINE vi f_max_takes(vf x, vf best) { return (x > best) | (x != x); }

/* 32 well mixed bits of a 64-bit index, given as two halves, under a mixed key of two halves: two rounds of a
 * 32-bit finalizer (shifts and odd multipliers), the key entering before each. */
BF_INLINE vu f_mix32(vu x)
{
    x = (x ^ (x >> 16)) * 0x7FEB352Du;
    x = (x ^ (x >> 15)) * 0x846CA68Bu;
    return x ^ (x >> 16);
}
BF_INLINE vu f_random_bits(vu low, vu high, uint32_t key_low, uint32_t key_high)
{
    return f_mix32(f_mix32(low ^ key_low) + (high * 0x9E3779B1u ^ key_high));
}

/* The pixel 16 behind this one: where a sweep reads from memory, loads alone do not keep it busy. */
BF_INLINE void fetch_ahead(const float *at, ptrdiff_t ld, const int c)
{
    BF_UNROLL
    for (int i = 0; i < c; i += BF_LANES) __builtin_prefetch(at + 16 * ld + i);
}

/* Float sums of c lanes join sums in double. */
BF_INLINE void f_add_sums(double *sums, const vf *part, const int c)
{
    float lanes[BF_BLOCK] __attribute__((aligned(64)));
    BF_UNROLL
    for (int i = 0; i < c / V; i++) v_store(lanes + i * V, part[i]);
    for (int i = 0; i < c; i++) sums[i] += (double)lanes[i];
}

/* Past the caches or through them: a kernel and its _stream twin are one function with a constant. */
BF_INLINE void put(float *dst, vf v, const bool stream)
{
    if (stream) v_stream(dst, v);
    else v_store(dst, v);
}
BF_INLINE void put_end(const bool stream)
{
    if (stream) v_stream_end();
}

#endif
