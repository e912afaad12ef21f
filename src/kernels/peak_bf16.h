/* Its own file and library: no kernel computes with bf16, so that no table has it, and it needs an instruction set of its own. */
#ifndef BF_PEAK_BF16_H
#define BF_PEAK_BF16_H

#include <stdint.h>

enum { BF_PEAK_BF16_FLOPS = 12 * 64 /* of a round */ };
/* For AVX512_BF16 only; *out keeps the sums alive. */
void bf_peak_bf16(int64_t rounds, float *out);

#endif
