/* The weight gradient of a depthwise convolution, a row of outputs at a time: products of a gradient with the columns it saw. A vector
 * runs over channels; the sums stay in registers along the row. Columns in the padding are left out, not multiplied by zero. */
#include "kernels/depthwise_taps.h"

/* P outputs' share of the weight gradient: R lines of K taps, one vector of channels. */
BF_INLINE void weight_block(vf *sum, const float *const *x, const float *g, ptrdiff_t ldg, int first, int from, int width, const bool edge, const int R,
                            const int K, const int C, const int P)
{
    vf gv[4];
    g += first * ldg;
    BF_UNROLL
    for (int q = 0; q < P; q++, g += ldg) gv[q] = v_load(g);
    BF_UNROLL
    for (int r = 0; r < R; r++) {
        const float *at = one_base(x[r] + (ptrdiff_t)from * C);
        BF_UNROLL
        for (int i = 0; i < P - 1 + K; i++) {
            if (edge && (unsigned)(from + i) >= (unsigned)width) continue;
            const vf v = v_load(at + i * C);
            BF_UNROLL
            for (int k = 0; k < K; k++)
                if (i >= k && i - k < P) sum[r * K + k] = v_fma(gv[i - k], v, sum[r * K + k]);
        }
    }
}

/* The sums of R lines stay in registers along the row. */
BF_INLINE void weight_lines(const bf_dw *f, const bf_dw_line *lines, const float *g, ptrdiff_t ldg, int n, const int R, const int K, const int C)
{
    const int pad = f->pad, width = f->width;
    for (int lane = 0; lane < C; lane += V) {
        const float *x[3];
        vf sum[10];
        int j = 0;
        if (f->prefetch) fetch_step(f->prefetch);
        BF_UNROLL
        for (int r = 0; r < R; r++) x[r] = lines[r].x + lane;
        BF_UNROLL
        for (int q = 0; q < R * K; q++) sum[q] = (vf){0};
        for (; j + 4 <= n && j < pad; j += 4) weight_block(sum, x, g + lane, ldg, j, j - pad, width, true, R, K, C, 4);
        for (; j + 4 <= n && j - pad + 3 + K <= width; j += 4) weight_block(sum, x, g + lane, ldg, j, j - pad, width, false, R, K, C, 4);
        for (; j + 2 <= n; j += 2) weight_block(sum, x, g + lane, ldg, j, j - pad, width, true, R, K, C, 2);
        for (; j < n; j++) weight_block(sum, x, g + lane, ldg, j, j - pad, width, true, R, K, C, 1);
        BF_UNROLL
        for (int q = 0; q < R * K; q++) {
            float *to = lines[q / K].dw + q % K * C + lane;
            v_store(to, v_load(to) + sum[q]);
        }
    }
}

/* As many lines at once as sums, four gradients and a column have registers: three of three taps, two of five. */
BF_INLINE void weight_any(const bf_dw *f, const float *g, ptrdiff_t ldg, int n, const int K, const int C)
{
    const int most = K <= 3 ? 3 : K <= 5 ? 2 : 1;
    int i = 0;
    for (; most == 3 && i + 3 <= f->count; i += 3) weight_lines(f, f->lines + i, g, ldg, n, 3, K, C);
    for (; most >= 2 && i + 2 <= f->count; i += 2) weight_lines(f, f->lines + i, g, ldg, n, 2, K, C);
    for (; i < f->count; i++) weight_lines(f, f->lines + i, g, ldg, n, 1, K, C);
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
