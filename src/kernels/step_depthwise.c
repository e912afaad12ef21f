/* Depthwise convolution, row by row: each channel has a filter of its own, so a vector runs over channels and nothing is shared
 * between them. The same two kernels serve forward (outputs gather from x), data gradient (inputs gather from dy, the filter
 * reversed) and weight gradient. P neighbouring outputs share the loads of what they see; the sums stay in registers over all
 * lines. Columns in the padding are left out, not multiplied by zero. */
#include "kernels/isa.h"

enum { MOST_TAPS = 7 }; /* of a function of its own; with 5 taps and a load, a block of outputs takes 13 registers */
static const float zeros[BF_BLOCK] __attribute__((aligned(64)));

/* P outputs from `first` on, one vector of channels: K taps, S columns from output to output, blocks of C lanes. `edge`: some columns
 * may not exist. */
BF_INLINE void row_block(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int first, int lane, const bool edge, const int K,
                         const int S, const int C, const int P)
{
    vf sum[BF_DW_BLOCK], w[MOST_TAPS];
    const int from = first * S - f->pad, width = f->width, count = f->count;
    const bf_dw_line *line = f->lines;
    BF_UNROLL
    for (int q = 0; q < P; q++) sum[q] = v_load(bias + lane);
    for (int l = 0; l < count; l++, line++) {
        const float *x = line->x + (ptrdiff_t)from * C + lane, *wl = line->w + lane;
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
    BF_UNROLL
    for (int q = 0; q < P; q++) v_store(dst + (first + q) * ldd + lane, sum[q]);
}

BF_INLINE void row_blocks(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int first, const int K, const int S, const int C, const int P)
{
    const int from = first * S - f->pad;
    if (from >= 0 && from + (P - 1) * S + K <= f->width)
        for (int lane = 0; lane < C; lane += V) row_block(dst, ldd, f, bias, first, lane, false, K, S, C, P);
    else
        for (int lane = 0; lane < C; lane += V) row_block(dst, ldd, f, bias, first, lane, true, K, S, C, P);
}

BF_INLINE void row_any(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, const int K, const int S, const int C)
{
    int j = 0;
    for (; j + BF_DW_BLOCK <= n; j += BF_DW_BLOCK) {
        if (f->prefetch) prefetch_step(f->prefetch);
        row_blocks(dst, ldd, f, bias, j, K, S, C, BF_DW_BLOCK);
    }
    for (; j + 4 <= n; j += 4) row_blocks(dst, ldd, f, bias, j, K, S, C, 4);
    for (; j < n; j++) row_blocks(dst, ldd, f, bias, j, K, S, C, 1);
}

/* Taps [*first, *last) of output j are columns that exist. */
BF_INLINE void taps_inside(const bf_dw *f, int j, int *first, int *last)
{
    const int from = j * f->step - f->pad;
    *first = from < 0 ? (-from + f->dilation - 1) / f->dilation : 0;
    *last = from >= f->width ? 0 : (f->width - 1 - from) / f->dilation + 1;
    if (*last > f->taps) *last = f->taps;
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
            v_store(dst + j * ldd + lane, sum);
        }
    }
}

#define ROW(K, S) \
    static void row_##K##_##S(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c) { BF_BY_C(c, row_any, dst, ldd, f, bias, n, K, S); }
ROW(1, 1) ROW(2, 1) ROW(3, 1) ROW(5, 1) ROW(7, 1) ROW(3, 2) ROW(5, 2) ROW(7, 2)
typedef void row_fn(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c);
static row_fn *const rows[3][MOST_TAPS + 1] = {{0}, {0, row_1_1, row_2_1, row_3_1, 0, row_5_1, 0, row_7_1}, {0, 0, 0, row_3_2, 0, row_5_2, 0, row_7_2}};

void BF_ISA_NAME(dw_row)(float *dst, ptrdiff_t ldd, const bf_dw *f, const float *bias, int n, int c)
{
    row_fn *const run = (f->dilation == 1 || f->taps == 1) && f->taps <= MOST_TAPS && f->step < 3 ? rows[f->step][f->taps] : NULL;
    (run ? run : row_general)(dst, ldd, f, bias ? bias : zeros, n, c);
}

/* P outputs' share of the weight gradient: R lines of K taps, L vectors of channels. */
BF_INLINE void weight_block(vf *sum, const float *const *x, const float *g, ptrdiff_t ldg, int first, int from, int width, const bool edge, const int R,
                            const int K, const int L, const int C, const int P)
{
    vf gv[2 * 4];
    BF_UNROLL
    for (int q = 0; q < P * L; q++) gv[q] = v_load(g + (first + q / L) * ldg + q % L * V);
    BF_UNROLL
    for (int r = 0; r < R; r++) {
        const float *at = x[r] + (ptrdiff_t)from * C;
        BF_UNROLL
        for (int i = 0; i < P - 1 + K; i++) {
            if (edge && (unsigned)(from + i) >= (unsigned)width) continue;
            BF_UNROLL
            for (int l = 0; l < L; l++) {
                const vf v = v_load(at + i * C + l * V);
                BF_UNROLL
                for (int k = 0; k < K; k++)
                    if (i >= k && i - k < P) sum[(r * K + k) * L + l] = v_fma(gv[(i - k) * L + l], v, sum[(r * K + k) * L + l]);
            }
        }
    }
}

BF_INLINE void weight_lines(const bf_dw *f, const bf_dw_line *lines, const float *g, ptrdiff_t ldg, int n, const int R, const int K, const int L, const int C)
{
    const int pad = f->pad, width = f->width;
    for (int lane = 0; lane < C; lane += L * V) {
        const float *x[3];
        vf sum[28];
        BF_UNROLL
        for (int r = 0; r < R; r++) x[r] = lines[r].x + lane;
        BF_UNROLL
        for (int q = 0; q < R * K * L; q++) sum[q] = (vf){0};
        int j = 0;
        for (; j + 2 <= n && j < pad; j += 2) weight_block(sum, x, g + lane, ldg, j, j - pad, width, true, R, K, L, C, 2);
        for (; j + 2 <= n && j - pad + 1 + K <= width; j += 2) weight_block(sum, x, g + lane, ldg, j, j - pad, width, false, R, K, L, C, 2);
        for (; j < n; j++) weight_block(sum, x, g + lane, ldg, j, j - pad, width, true, R, K, L, C, 1);
        BF_UNROLL
        for (int q = 0; q < R * K * L; q++) {
            float *to = lines[q / (K * L)].dw + q / L % K * C + lane + q % L * V;
            v_store(to, v_load(to) + sum[q]);
        }
    }
}

/* Lines three by three where their sums fit the registers, else one by one on 16 channels. */
BF_INLINE void weight_any(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, const int K, const int C)
{
    int i = 0;
    for (; K <= 3 && i + 3 <= f->count; i += 3) weight_lines(f, f->lines + i, g, ldg, n, 3, K, 1, C);
    for (; i < f->count; i++) weight_lines(f, f->lines + i, g, ldg, n, 1, K, BF_LANES / V, C);
}

static void weight_general(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, int c)
{
    for (int i = 0; i < f->count; i++)
        for (int j = 0; j < n; j++) {
            int first, last;
            taps_inside(f, j, &first, &last);
            for (int k = first; k < last; k++)
                for (int lane = 0; lane < c; lane += V) {
                    float *to = f->lines[i].dw + k * c + lane;
                    const float *x = f->lines[i].x + (ptrdiff_t)(j * f->step - f->pad + k * f->dilation) * c + lane;
                    v_store(to, v_fma(v_load(g + j * ldg + lane), v_load(x), v_load(to)));
                }
        }
}

#define WEIGHT(K) static void weight_##K(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, int c) { BF_BY_C(c, weight_any, f, g, ldg, n, K); }
WEIGHT(1) WEIGHT(2) WEIGHT(3) WEIGHT(5) WEIGHT(7)
typedef void weight_fn(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, int c);
static weight_fn *const weights[MOST_TAPS + 1] = {0, weight_1, weight_2, weight_3, 0, weight_5, 0, weight_7};

void BF_ISA_NAME(dw_row_weight_grad)(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, int c)
{
    weight_fn *const run = (f->dilation == 1 || f->taps == 1) && f->taps <= MOST_TAPS && f->step == 1 ? weights[f->taps] : NULL;
    (run ? run : weight_general)(f, g, ldg, n, c);
}

/* Lane l of a vector gets lane l/G*G + i: of the vector itself, or of the vectors before where a group is longer than one. */
BF_INLINE void spread_any(float *dst, const float *src, int n, const int G, const int C)
{
    for (int j = 0; j < n; j++, src += C, dst += C)
        BF_UNROLL
        for (int lane = 0; lane < C; lane += V) {
            const vf v = v_load(src + lane);
            BF_UNROLL
            for (int i = 0; i < G; i++) {
                vf out;
                if (G < V) {
                    vi from;
                    BF_UNROLL
                    for (int l = 0; l < V; l++) from[l] = l / G * G + i;
                    out = __builtin_shuffle(v, from);
                } else {
                    out = v_set(src[lane / G * G + i]);
                }
                v_store(dst + (ptrdiff_t)i * n * C + lane, out);
            }
        }
}

void BF_ISA_NAME(spread)(float *dst, const float *src, int n, int c, int group)
{
    switch (group) {
    case 2: BF_BY_C(c, spread_any, dst, src, n, 2); break;
    case 4: BF_BY_C(c, spread_any, dst, src, n, 4); break;
    case 8: BF_BY_C(c, spread_any, dst, src, n, 8); break;
    default: BF_BY_C(c, spread_any, dst, src, n, 16); break;
    }
}
