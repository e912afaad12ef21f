/* The bf16 multiply-add peak: dot products of pairs of bf16 added to f32, 64 FLOP each. 12 independent sums hide their latency. */
#include "kernels/peak_bf16.h"

#include <immintrin.h>

enum { CHAINS = 12 };

void bf_peak_bf16(int64_t rounds, float *out)
{
    __m512 sum[CHAINS];
    const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3f003f00); /* pairs of 0.5 */
    _Pragma("GCC unroll 32")
    for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_set1_ps((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        _Pragma("GCC unroll 32")
        for (int i = 0; i < CHAINS; i++) sum[i] = _mm512_dpbf16_ps(sum[i], x, x);
    }
    *out = 0;
    for (int i = 0; i < CHAINS; i++) *out += _mm512_reduce_add_ps(sum[i]);
}
