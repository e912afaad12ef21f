/* Windows over a run of output pixels: pooling. The vector runs over channels, 16 lanes at a time,
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
    for (int j = 0; j < n; j++) {
        if (taps.prefetch) fetch_step(taps.prefetch);
        for (int lane = 0; lane < c; lane += BF_LANES) {
            window_max(src + j * step + lane, taps, best, winner);
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) v_store(dst + j * ldd + lane + i * V, best[i]);
        }
    }
}

void BF_ISA_NAME(max_taps_grad)(float *dx, const ptrdiff_t *dx_offset, const float *src, ptrdiff_t step, bf_taps taps, const float *g, ptrdiff_t ldg, int n, int c)
{
    vf best[BF_LANE_VECTORS];
    vi winner[BF_LANE_VECTORS];
    for (int j = 0; j < n; j++) {
        if (taps.prefetch) fetch_step(taps.prefetch);
        for (int lane = 0; lane < c; lane += BF_LANES) {
            window_max(src + j * step + lane, taps, best, winner);
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) {
                    float *at = dx + j * step + lane + dx_offset[t] + i * V;
                    v_store(at, v_load(at) + v_zero_where(winner[i] != t, v_load(g + j * ldg + lane + i * V)));
                }
        }
    }
}

void BF_ISA_NAME(sum_taps)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t step, bf_taps taps, float scale, int n, int c)
{
    for (int j = 0; j < n; j++) {
        if (taps.prefetch) fetch_step(taps.prefetch);
        for (int lane = 0; lane < c; lane += BF_LANES) {
            vf sum[BF_LANE_VECTORS] = {0};
            for (int t = 0; t < taps.count; t++)
                BF_UNROLL
                for (int i = 0; i < BF_LANE_VECTORS; i++) sum[i] += v_load(src + j * step + lane + taps.offset[t] + i * V);
            BF_UNROLL
            for (int i = 0; i < BF_LANE_VECTORS; i++) v_store(dst + j * ldd + lane + i * V, sum[i] * scale);
        }
    }
}

void BF_ISA_NAME(sum_taps_grad)(float *dx, ptrdiff_t step, bf_taps taps, float scale, const float *g, ptrdiff_t ldg, int n, int c)
{
    for (int j = 0; j < n; j++) {
        if (taps.prefetch) fetch_step(taps.prefetch);
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
}
