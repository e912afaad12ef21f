/* Batch normalization (math.md 1), two-pass, with the float32 error of the one-sweep pivoted form (math.md 3). */
#include <math.h>
#include <stdlib.h>

#include "ref.h"

static double *zeros(int n) { return calloc((size_t)n, sizeof(double)); }

void ref_bn_free(ref_bn_stats *stats)
{
    free(stats->mean), free(stats->e_mean), free(stats->r), free(stats->e_r), free(stats->deviation);
    *stats = (ref_bn_stats){0};
}

static double square(double x) { return x * x; }

/* Statistics of one channel: mean, biased variance, their errors, and the largest |x - mean|. The float32 program sums x - p for a pivot p
 * among the channel's values or near the mean, so |x - p| <= 2 deviation, in short float sums that it merges in double. Errors of x within
 * a channel may all have one cause: they are passed on as if they were equal. */
typedef struct channel { double mean, e_mean, var, e_var, deviation; } channel;

static channel statistics(const ref_tensor *x, int c)
{
    channel s = {0};
    const size_t count = ref_count(x), step = (size_t)x->c, m = count / step;
    double e = 0;
    for (size_t i = (size_t)c; i < count; i += step) s.mean += x->v[i] / (double)m, e += square(x->e[i]) / (double)m;
    for (size_t i = (size_t)c; i < count; i += step) {
        const double d = x->v[i] - s.mean;
        s.var += d * d / (double)m;
        s.deviation = fmax(s.deviation, fabs(d));
    }
    s.e_mean = hypot(sqrt(e), 2 * REF_U * 2 * s.deviation);
    s.e_var = hypot(2 * sqrt(s.var * e), 2 * REF_U * square(2 * s.deviation)) + e;
    return s;
}

/* r = momentum * batch + (1 - momentum) * r, at one channel of a running statistic. */
static void move(ref_tensor *running, int c, double batch, double e, double momentum)
{
    const double old = running->v[c];
    running->v[c] += momentum * (batch - old);
    running->e[c] = hypot(running->e[c], hypot(momentum * e, REF_U * (fabs(old) + 2 * momentum * fabs(batch - old))));
}

void ref_bn(const ref_tensor *x, const ref_tensor *gamma, const ref_tensor *beta, ref_tensor *running_mean, ref_tensor *running_var,
            double eps, double momentum, bool batch, ref_bn_stats *stats, ref_tensor *y)
{
    *stats = (ref_bn_stats){zeros(x->c), zeros(x->c), zeros(x->c), zeros(x->c), zeros(x->c)};
    const size_t count = ref_count(x), step = (size_t)x->c;
    const double m = (double)(count / step);
    for (int c = 0; c < x->c; c++) {
        channel s = statistics(x, c);
        if (batch) {
            move(running_mean, c, s.mean, s.e_mean, momentum);
            move(running_var, c, s.var * m / (m - 1), s.e_var * m / (m - 1), momentum);
        } else {
            const double largest = s.deviation + fabs(s.mean - running_mean->v[c]);
            s = (channel){running_mean->v[c], running_mean->e[c], running_var->v[c], running_var->e[c], largest};
        }
        const double r = 1 / sqrt(s.var + eps), e_r = r * hypot(s.e_var / (s.var + eps) / 2, 2 * REF_U);
        stats->mean[c] = s.mean, stats->e_mean[c] = s.e_mean, stats->r[c] = r, stats->e_r[c] = e_r, stats->deviation[c] = s.deviation;
        const double g = gamma ? gamma->v[c] : 1, b = beta ? beta->v[c] : 0;
        for (size_t i = (size_t)c; i < count; i += step) {
            const double d = x->v[i] - s.mean;
            y->v[i] = g * d * r + b;
            const double rounding = 2 * REF_U * (fabs(g) * r * (fabs(d) + s.deviation + (batch ? 0 : fabs(s.mean))) + fabs(b)); /* frozen: no pivot */
            y->e[i] = sqrt(square(g) * (square(r) * (square(x->e[i]) + square(s.e_mean)) + square(d * e_r)) + square(rounding));
        }
    }
}

/* dbeta = sum dy,  dgamma = sum dy xhat,  dx = gamma r (dy - dbeta/M - xhat dgamma/M), without the last two terms if frozen. */
void ref_bn_backward(const ref_tensor *x, const ref_tensor *gamma, const ref_bn_stats *stats, bool batch, const ref_tensor *dy,
                     ref_tensor *dx, ref_tensor *dgamma, ref_tensor *dbeta)
{
    const size_t count = ref_count(x), step = (size_t)x->c;
    const double M = (double)(count / step);
    for (int c = 0; c < x->c; c++) {
        const double mean = stats->mean[c], r = stats->r[c], e_r = stats->e_r[c], D = stats->deviation[c], away = D + (batch ? 0 : fabs(mean));
        double db = 0, dg = 0, size_db = 0, size_dg = 0, rounding = 0;
        for (size_t i = (size_t)c; i < count; i += step) {
            const double d = x->v[i] - mean, g = dy->v[i];
            db += g, size_db += g * g;
            dg += g * d * r, size_dg += square(g * r * away), rounding += square(2 * REF_U * g * r * (fabs(d) + away));
        }
        /* The mean and r are off by the same for all pixels: by e_mean r db and dg e_r / r in dgamma. */
        const double e_db = sqrt(ref_passed(dy, c, NULL, 0) + square(REF_U) * M * (size_db + db * db / 3));
        const double e_dg = sqrt(square(r) * (ref_passed(dy, c, x, mean) + ref_passed(x, c, dy, 0) + square(stats->e_mean[c] * db)) + square(dg * e_r / r) + rounding +
                                 square(REF_U) * M * (size_dg + dg * dg / 3));
        if (dbeta) ref_accumulate(dbeta, (size_t)c, db, e_db);
        if (dgamma) ref_accumulate(dgamma, (size_t)c, dg, e_dg);
        if (!dx) continue;
        const double s = (gamma ? gamma->v[c] : 1) * r, relative = hypot(e_r / r, 2 * REF_U);
        for (size_t i = (size_t)c; i < count; i += step) {
            const double d = x->v[i] - mean, g = dy->v[i], e_xhat2 = square(r) * (square(x->e[i]) + square(stats->e_mean[c])) + square(d * e_r);
            const double value = batch ? g - db / M - d * r * dg / M : g;
            /* of the terms as the pivoted form has them */
            const double size = fabs(g) + (batch ? fabs(db) / M + r * (fabs(d) + D) * fabs(dg) / M : 0);
            double e = square(dy->e[i]) + square(relative * value) + square(2 * REF_U * size);
            if (batch) e += square(e_db / M) + square(d * r * e_dg / M) + e_xhat2 * square(dg / M);
            ref_accumulate(dx, i, s * value, fabs(s) * sqrt(e));
        }
    }
}
