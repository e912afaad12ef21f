/* The table of one instruction set, made from kernels.def. */
#include "kernels/isa.h"

#define BF_TEXT_OF(x) #x
#define BF_TEXT(x) BF_TEXT_OF(x)
#define BF_KERNEL(name, args) .name = BF_ISA_NAME(name),

extern const bf_kernels BF_ISA_NAME(kernels);
const bf_kernels BF_ISA_NAME(kernels) = {
    .isa = BF_TEXT(BF_ISA),
    .vector = BF_VECTOR,
    .gemm_tile = BF_VECTOR == 16 ? 32 * 14 : BF_VECTOR == 8 ? 16 * 6 : 8 * 6,
#include "kernels/kernels.def"
};
