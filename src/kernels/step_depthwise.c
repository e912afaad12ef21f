/* Depthwise convolution, row by row: each channel has a filter of its own, so a vector runs over channels and nothing is shared
 * between them. One kernel serves forward (outputs gather from x) and data gradient (inputs gather from dy, the filter reversed).
 * P neighbouring outputs share the loads of what they see; the sums stay in registers over all lines. Columns in the padding are
 * left out, not multiplied by zero. */
#include "kernels/depthwise_taps.h"

static const float zeros[BF_BLOCK] __attribute__((aligned(64)));

/* What one line adds to P outputs, one vector of channels: K taps w, S columns from output to output, blocks of C lanes. `edge`: some
 * columns from `from` on may not exist. */
BF_INLINE void row_line(vf *sum, const bf_dw_line *line, int from, int width, int lane, const bool edge, const int K, const int S, const int C, const int P)
{
    const float *x = one_base(line->x + (ptrdiff_t)from * C + lane), *wl = one_base(line->w + lane);
    vf w[MOST_TAPS];
    BF_UNROLL
    for (int k = 0; k < K; k++) w[k] = v_load(wl + k * C);
    BF_UNROLL
    for (int i = 0; i < (P - 1) * S + K; i++) {
        if (edge && (unsigned)(from + i) >= (unsigned)width) continue;
        const vf v = v_load(x + i * C);
        BF_UNROLL
        for (int k = 0; k < K; k++)
            if (i >= k && (i - k) % S == 0 && (i - k) / S < P) sum[(i - k) / S] = v_fma(w[k], v, sum[(i - k) / S]);
    }
}

/* Whole lines of P outputs go past the caches, one after another. Stored vector by vector they would be open by halves for as long as a block
 * takes, and where few lines can be open, as beside another thread of the core, each half goes to memory by itself. */
BF_INLINE void stream_lines(float *past, ptrdiff_t ld, const float *line, const int P)
{
    BF_UNROLL
    for (int q = 0; q < P; q++, past += ld, line += BF_LANES)
        BF_UNROLL
        for (int i = 0; i < BF_LANES; i += V) v_stream(past + i, v_load(line + i));
}

/* P outputs from `first` on; part: this vector of the lines to stream. Three lines of three taps are one stretch of instructions. */
BF_INLINE void row_block(float *dst, ptrdiff_t ldd, float *part, const bf_dw *f, const float *bias, int first, int lane, const bool edge, const int K,
                         const int S, const int C, const int P)
{
    vf sum[BF_DW_BLOCK];
    const int from = first * S - f->pad, width = f->width;
    const bf_dw_line *line = f->lines, *const end = line + f->count;
    BF_UNROLL
    for (int q = 0; q < P; q++) sum[q] = v_load(bias + lane);
    for (; K == 3 && !edge && end - line >= 3; line += 3)
        BF_UNROLL
        for (int i = 0; i < 3; i++) row_line(sum, line + i, from, width, lane, edge, K, S, C, P);
    for (; line < end; line++) row_line(sum, line, from, width, lane, edge, K, S, C, P);
    if (dst) {
        float *to = dst + first * ldd + lane;
        BF_UNROLL
        for (int q = 0; q < P; q++, to += ldd) v_store(to, sum[q]);
    }
    if (f->past)
        BF_UNROLL
        for (int q = 0; q < P; q++) v_store(part + q * BF_LANES, sum[q]);
}

BF_INLINE void row_blocks(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int first, const int K, const int S, const int C, const int P)
{
    const int from = first * S - f->pad;
    const bool inside = P == BF_DW_BLOCK && from >= 0 && from + (P - 1) * S + K <= f->width;
    float lines[BF_DW_BLOCK * BF_LANES] __attribute__((aligned(64)));
    for (int lane = 0; lane < C; lane += V) {
        float *const part = lines + lane % BF_LANES;
        if (f->prefetch) fetch_step(f->prefetch);
        if (inside) row_block(dst, ldd, part, f, bias, first, lane, false, K, S, C, P);
        else row_block(dst, ldd, part, f, bias, first, lane, true, K, S, C, P);
        if (f->past && (lane + V) % BF_LANES == 0) stream_lines(f->past + first * ldd + lane + V - BF_LANES, ldd, lines, P);
    }
}

/* The last block of a row reaches back over outputs that are there: they are the same again. */
BF_INLINE void row_any(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, const int K, const int S, const int C)
{
    if (n >= BF_DW_BLOCK)
        for (int j = 0; j < n; j += BF_DW_BLOCK) row_blocks(dst, ldd, f, bias, j < n - BF_DW_BLOCK ? j : n - BF_DW_BLOCK, K, S, C, BF_DW_BLOCK);
    else if (K <= 5 && n >= 4)
        for (int j = 0; j < n; j += 4) row_blocks(dst, ldd, f, bias, j < n - 4 ? j : n - 4, K, S, C, 4);
    else
        for (int j = 0; j < n; j++) row_blocks(dst, ldd, f, bias, j, K, S, C, 1);
}

/* Any number of taps, step and dilation: an output at a time. */
static void row_general(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c)
{
    for (int j = 0; j < n; j++) {
        int first, last;
        taps_inside(f, j, &first, &last);
        for (int lane = 0; lane < c; lane += V) {
            vf sum = v_load(bias + lane);
            for (int i = 0; i < f->count; i++)
                for (int k = first; k < last; k++)
                    sum = v_fma(v_load(f->lines[i].w + k * c + lane), v_load(f->lines[i].x + (ptrdiff_t)(j * f->step - f->pad + k * f->dilation) * c + lane), sum);
            if (dst) v_store(dst + j * ldd + lane, sum);
            if (f->past) v_stream(f->past + j * ldd + lane, sum);
        }
    }
}

#define ROW(K, S) \
    static void row_##K##_##S(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c) { BF_BY_C(c, row_any, dst, ldd, f, bias, n, K, S); }
ROW(1, 1) ROW(2, 1) ROW(3, 1) ROW(5, 1) ROW(7, 1) ROW(3, 2) ROW(5, 2)
typedef void row_fn(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c);
static row_fn *const rows[3][MOST_TAPS + 1] = {{0}, {0, row_1_1, row_2_1, row_3_1, 0, row_5_1, 0, row_7_1}, {0, 0, 0, row_3_2, 0, row_5_2, 0, 0}};

void BF_ISA_NAME(dw_row)(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c)
{
    row_fn *const run = (f->dilation == 1 || f->taps == 1) && f->taps <= MOST_TAPS && f->step < 3 ? rows[f->step][f->taps] : NULL;
    (run ? run : row_general)(dst, ldd, f, bias ? bias : zeros, n, c);
}
