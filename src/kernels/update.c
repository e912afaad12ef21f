/* Parameter updates: torch.optim's formulas, element by element, in its order. Memory bound: w, its gradient and its moments
 * are read once and written once. */
#include <math.h>

#include "kernels/isa.h"

void BF_ISA_NAME(update_sgd)(float *w, const float *g, float *buf, size_t n, float lr, float momentum, float decay, bool nesterov, bool first,
                             float gscale)
{
    if (!buf) {
        #pragma omp simd
        for (size_t i = 0; i < n; i++) w[i] = bf_fma(-lr, bf_fma(decay, w[i], g[i] * gscale), w[i]);
        return;
    }
    const float keep = first ? 0.0f : momentum, look_ahead = nesterov ? momentum : 0.0f, own = nesterov ? 1.0f : 0.0f;
    if (first)
        memset(buf, 0, n * sizeof *buf); /* what is there may be NaN, which 0 * buf would keep */
    #pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float d = bf_fma(decay, w[i], g[i] * gscale);
        const float m = bf_fma(keep, buf[i], d);
        buf[i] = m;
        w[i] = bf_fma(-lr, nesterov ? bf_fma(look_ahead, m, own * d) : m, w[i]);
    }
}

void BF_ISA_NAME(update_adam)(float *w, const float *g, float *m, float *v, size_t n, float lr, float b1, float b2, float eps, float decay,
                              bool decoupled, float step_size, float sqrt_bc2, float gscale)
{
    const float shrink = decoupled ? 1.0f - lr * decay : 1.0f, pull = decoupled ? 0.0f : decay;
    #pragma omp simd
    for (size_t i = 0; i < n; i++) {
        const float d = bf_fma(pull, w[i], g[i] * gscale);
        m[i] = bf_fma(1.0f - b1, d - m[i], m[i]);
        v[i] = bf_fma((1.0f - b2) * d, d, b2 * v[i]);
        w[i] = w[i] * shrink - step_size * m[i] / (sqrtf(v[i]) / sqrt_bc2 + eps);
    }
}

void BF_ISA_NAME(sum_squares)(const float *x, size_t n, double *total)
{
    double sum = 0.0;
    #pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < n; i++) sum += (double)x[i] * x[i];
    *total += sum;
}
