/* What the kernels of depthwise convolutions share. */
#ifndef BF_DEPTHWISE_TAPS_H
#define BF_DEPTHWISE_TAPS_H

#include "kernels/isa.h"

/* p, as a register that constant offsets are added to in the loads themselves. Left alone, the compiler takes the address of every
 * column apart and moves those out of the loops: more instructions before a block than in it. */
BF_INLINE const float *one_base(const float *p)
{
    __asm__("" : "+r"(p));
    return p;
}

enum { MOST_TAPS = 7 }; /* of a function of its own; with 5 taps and a load, a block of outputs takes 13 registers */

/* Taps [*first, *last) of output j are columns that exist. */
BF_INLINE void taps_inside(const bf_dw *f, int j, int *first, int *last)
{
    const int from = j * f->step - f->pad;
    *first = from < 0 ? (-from + f->dilation - 1) / f->dilation : 0;
    *last = from >= f->width ? 0 : (f->width - 1 - from) / f->dilation + 1;
    if (*last > f->taps) *last = f->taps;
}

#endif
