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
BF_INLINE vf f_exp(vf x)
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
    const vf e = v_fma(r * r, q, r) + 1.0f;
    const vi whole = (vi)shifted - (vi)magic, half = whole >> 1;
    return e * (vf)((half + 127) << 23) * (vf)((whole - half + 127) << 23);
}

BF_INLINE vf f_sigmoid(vf u) { return 1.0f / (1.0f + f_exp(-u)); }

/* min(max(u + 3, 0), 6); NaN stays NaN */
BF_INLINE vf f_clamped_ramp(vf u)
{
    const vf ramp = u + 3.0f, six = v_set(6.0f);
    return v_select(ramp > six, six, v_zero_where(ramp < 0.0f, ramp));
}

BF_INLINE vf f_act(vf u, int kind, float slope)
{
    switch (kind) {
    case BNFF_RELU: return v_zero_where(u <= 0.0f, u);
    case BNFF_RELU6: return v_select(u >= 6.0f, v_set(6.0f), v_zero_where(u <= 0.0f, u));
    case BNFF_LEAKY_RELU: return v_select(u > 0.0f, u, u * slope);
    case BNFF_SILU: return u / (1.0f + f_exp(-u));
    case BNFF_HARDSWISH: return u * f_clamped_ramp(u) / 6.0f;
    case BNFF_SIGMOID: return f_sigmoid(u);
    case BNFF_HARDSIGMOID: return f_clamped_ramp(u) / 6.0f;
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
    default: return g;
    }
}

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

#endif
