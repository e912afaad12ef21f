/* The machine's multiply-add peak, what every speed is a fraction of: 12 independent sums hide a latency of 6 at 2 a cycle. */
#include "kernels/isa.h"

enum { CHAINS = 12 };

void BF_ISA_NAME(peak)(int64_t rounds, float *out)
{
    vf sum[CHAINS];
    const vf scale = v_set(0.5f), term = v_set(1.0f);
    BF_UNROLL
    for (int i = 0; i < CHAINS; i++) sum[i] = v_set((float)i);
    for (int64_t r = 0; r < rounds; r++) {
        BF_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = v_fma(sum[i], scale, term);
        BF_UNROLL
        for (int i = 0; i < CHAINS; i++) sum[i] = v_fma(sum[i], scale, term);
    }
    *out = 0.0f;
    for (int i = 0; i < CHAINS; i++) *out += sum[i][0];
}
