/* Windows over a run of output pixels: pooling and depthwise convolution. The vector runs over channels, 16 lanes at a time,
 * and the sums over the taps of a window stay in registers. Gradients add into dx tap by tap, pixel by pixel, in order:
 * windows overlap, and the order decides the bits. */
#include "kernels/formulas.h"

enum { BF_LANE_VECTORS = BF_LANES / V };

/* Best value of each lane over the window at src, and the tap that gave it. */
BF_INLINE void window_max(const float *src, bf_taps taps, vf *best, vi *winner)
{
    BF_UNROLL
    for (int i = 0; i < BF_LANE_VECTORS; i++) best[i] = v_load(src + taps.offset[0] + i * V), winner[i] = (vi){0};
    for (int t = 1; t < taps.count; t++)
        BF_UNROLL
        for (int i = 0; i < BF_LANE_VECTORS; i++) {
            const vf x = v_load(src + taps.offset[t] + i * V);
            const vi takes = f_max_takes(x, best[i]);
            best[i] = v_select(takes, x, best[i]);
            winner[i] = (takes & t) | (winner[i] & ~takes);
        }
}

void BF_ISA_NAME(max_taps)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t step, bf_taps taps, int n, int c)
{
    vf best[BF_LANE_VECTORS];
    vi winner[BF_LANE_VECTORS];
    for (int j = 0; j < n; j++)
        for (int lane = 0; lane < c; lane += BF_LANES) {
            window_max(src + j * step + lane, taps, best, winner);
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) v_store(dst + j * ldd + lane + i * V, best[i]);
        }
}

void BF_ISA_NAME(max_taps_grad)(float *dx, const float *src, ptrdiff_t step, bf_taps taps, const float *g, ptrdiff_t ldg, int n, int c)
{
    vf best[BF_LANE_VECTORS];
    vi winner[BF_LANE_VECTORS];
    for (int j = 0; j < n; j++)
        for (int lane = 0; lane < c; lane += BF_LANES) {
            window_max(src + j * step + lane, taps, best, winner);
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) {
                    float *at = dx + j * step + lane + taps.offset[t] + i * V;
                    v_store(at, v_load(at) + v_zero_where(winner[i] != t, v_load(g + j * ldg + lane + i * V)));
                }
        }
}

void BF_ISA_NAME(sum_taps)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t step, bf_taps taps, float scale, int n, int c)
{
    for (int j = 0; j < n; j++)
        for (int lane = 0; lane < c; lane += BF_LANES) {
            vf sum[BF_LANE_VECTORS] = {0};
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) sum[i] += v_load(src + j * step + lane + taps.offset[t] + i * V);
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) v_store(dst + j * ldd + lane + i * V, sum[i] * scale);
        }
}

void BF_ISA_NAME(sum_taps_grad)(float *dx, ptrdiff_t step, bf_taps taps, float scale, const float *g, ptrdiff_t ldg, int n, int c)
{
    for (int j = 0; j < n; j++)
        for (int lane = 0; lane < c; lane += BF_LANES) {
            vf d[BF_LANE_VECTORS];
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) d[i] = v_load(g + j * ldg + lane + i * V) * scale;
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) {
                    float *at = dx + j * step + lane + taps.offset[t] + i * V;
                    v_store(at, v_load(at) + d[i]);
                }
        }
}

/* P output pixels by 16 lanes: P * 16 / V sums in registers share each load of a weight. */
BF_INLINE void dw_window(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t step, bf_taps taps, const float *w, int c, bool accumulate, const int P)
{
    vf sum[4 * BF_LANE_VECTORS];
    BF_UNROLL
    for (int q = 0; q < P * BF_LANE_VECTORS; q++)
        sum[q] = accumulate ? v_load(dst + q / BF_LANE_VECTORS * ldd + q % BF_LANE_VECTORS * V) : (vf){0};
    for (int t = 0; t < taps.count; t++, w += c)
        BF_UNROLL
        for (int i = 0; i < BF_LANE_VECTORS; i++) {
            const vf wi = v_load(w + i * V);
            BF_UNROLL
            for (int q = 0; q < P; q++)
                sum[q * BF_LANE_VECTORS + i] = v_fma(wi, v_load(src + q * step + taps.offset[t] + i * V), sum[q * BF_LANE_VECTORS + i]);
        }
    BF_UNROLL
    for (int q = 0; q < P * BF_LANE_VECTORS; q++) v_store(dst + q / BF_LANE_VECTORS * ldd + q % BF_LANE_VECTORS * V, sum[q]);
}
void BF_ISA_NAME(dw_taps)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t step, bf_taps taps, const float *w, int n, int c, bool accumulate)
{
    for (int lane = 0; lane < c; lane += BF_LANES) {
        int j = 0;
        for (; j + 4 <= n; j += 4) dw_window(dst + j * ldd + lane, ldd, src + j * step + lane, step, taps, w + lane, c, accumulate, 4);
        for (; j < n; j++) dw_window(dst + j * ldd + lane, ldd, src + j * step + lane, step, taps, w + lane, c, accumulate, 1);
    }
}

void BF_ISA_NAME(dw_taps_grad)(float *dx, ptrdiff_t step, bf_taps taps, const float *w, const float *g, ptrdiff_t ldg, int n, int c)
{
    for (int j = 0; j < n; j++)
        for (int lane = 0; lane < c; lane += BF_LANES) {
            vf d[BF_LANE_VECTORS];
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) d[i] = v_load(g + j * ldg + lane + i * V);
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) {
                    float *at = dx + j * step + lane + taps.offset[t] + i * V;
                    v_store(at, v_fma(v_load(w + (ptrdiff_t)t * c + lane + i * V), d[i], v_load(at)));
                }
        }
}

/* T taps by 16 lanes of dw over the whole run: a load of g serves T taps. */
BF_INLINE void dw_weight_taps(float *dw, const float *src, ptrdiff_t step, const ptrdiff_t *offset, const float *g, ptrdiff_t ldg, int n, int c, const int T)
{
    vf sum[3 * BF_LANE_VECTORS];
    BF_UNROLL
    for (int q = 0; q < T * BF_LANE_VECTORS; q++) sum[q] = (vf){0};
    for (int j = 0; j < n; j++, src += step, g += ldg)
        BF_UNROLL
        for (int i = 0; i < BF_LANE_VECTORS; i++) {
            const vf d = v_load(g + i * V);
            BF_UNROLL
            for (int t = 0; t < T; t++) sum[t * BF_LANE_VECTORS + i] = v_fma(d, v_load(src + offset[t] + i * V), sum[t * BF_LANE_VECTORS + i]);
        }
    BF_UNROLL
    for (int q = 0; q < T * BF_LANE_VECTORS; q++) {
        float *at = dw + (ptrdiff_t)(q / BF_LANE_VECTORS) * c + q % BF_LANE_VECTORS * V;
        v_store(at, v_load(at) + sum[q]);
    }
}
void BF_ISA_NAME(dw_taps_weight_grad)(float *dw, const float *src, ptrdiff_t step, bf_taps taps, const float *g, ptrdiff_t ldg, int n, int c)
{
    for (int lane = 0; lane < c; lane += BF_LANES) {
        int t = 0;
        for (; t + 3 <= taps.count; t += 3)
            dw_weight_taps(dw + (ptrdiff_t)t * c + lane, src + lane, step, taps.offset + t, g + lane, ldg, n, c, 3);
        for (; t < taps.count; t++) dw_weight_taps(dw + (ptrdiff_t)t * c + lane, src + lane, step, taps.offset + t, g + lane, ldg, n, c, 1);
    }
}
