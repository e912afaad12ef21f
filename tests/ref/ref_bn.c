/* Batch normalization (math.md 1), two-pass, with the float32 error of the one-sweep pivoted form (math.md 3). */
#include <math.h>
#include <stdlib.h>

#include "ref.h"

/* Float sums are at most this long (docs/math.md 3: tiles, then doubles). */
enum { SUM_TERMS = 256 };

static double *zeros(int n) { return calloc((size_t)n, sizeof(double)); }

void ref_bn_free(ref_bn_stats *stats)
{
    free(stats->mean), free(stats->e_mean), free(stats->r), free(stats->e_r), free(stats->deviation);
    *stats = (ref_bn_stats){0};
}

/* Statistics of one channel: mean, biased variance, their errors, and the largest |x - mean|. The float32 program sums x - p for a
 * pivot p among the channel's values or near the mean, so |x - p| <= 2 deviation:
 *     e_mean <= K u 2D + mean(e_x)      e_var <= K u 4D^2 + 4D mean(e_x),      K = min(M, SUM_TERMS) + 6 */
typedef struct channel { double mean, e_mean, var, e_var, deviation; } channel;

static channel statistics(const ref_tensor *x, int c)
{
    channel s = {0};
    const size_t count = ref_count(x), step = (size_t)x->c, m = count / step;
    double e = 0;
    for (size_t i = (size_t)c; i < count; i += step) s.mean += x->v[i] / (double)m, e += x->e[i] / (double)m;
    for (size_t i = (size_t)c; i < count; i += step) {
        const double d = x->v[i] - s.mean;
        s.var += d * d / (double)m;
        s.deviation = fmax(s.deviation, fabs(d) + x->e[i]);
    }
    const double k = (double)(m < SUM_TERMS ? m : SUM_TERMS) + 6, D = s.deviation;
    s.e_mean = e + 2 * k * REF_U * D;
    s.e_var = 4 * D * e + 4 * k * REF_U * D * D;
    return s;
}

/* r = momentum * batch + (1 - momentum) * r, at one channel of a running statistic. */
static void move(ref_tensor *running, int c, double batch, double e, double momentum)
{
    const double old = running->v[c];
    running->v[c] += momentum * (batch - old);
    running->e[c] += momentum * (e + 4 * REF_U * (fabs(batch) + fabs(old))) + REF_U * fabs(old);
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
        const double r = 1 / sqrt(s.var + eps), low = fmax(s.var - s.e_var, 0) + eps;
        const double e_r = 1 / sqrt(low) - r + 4 * REF_U * r; /* e_var may exceed var: no derivative there */
        stats->mean[c] = s.mean, stats->e_mean[c] = s.e_mean, stats->r[c] = r, stats->e_r[c] = e_r, stats->deviation[c] = s.deviation;
        const double g = gamma ? gamma->v[c] : 1, b = beta ? beta->v[c] : 0;
        for (size_t i = (size_t)c; i < count; i += step) {
            const double d = x->v[i] - s.mean;
            y->v[i] = g * d * r + b;
            y->e[i] = fabs(g) * ((r + e_r) * (x->e[i] + s.e_mean) + fabs(d) * e_r) + 6 * REF_U * (fabs(g) * r * (fabs(d) + s.deviation) + fabs(b));
            if (!batch) y->e[i] += 6 * REF_U * fabs(g) * r * fabs(s.mean); /* y = s x + t, t = b - s mean: no pivot at hand */
        }
    }
}

/* dbeta = sum dy,  dgamma = sum dy xhat,  dx = gamma r (dy - dbeta/M - xhat dgamma/M), without the last two terms if frozen. */
void ref_bn_backward(const ref_tensor *x, const ref_tensor *gamma, const ref_bn_stats *stats, bool batch, const ref_tensor *dy,
                     ref_tensor *dx, ref_tensor *dgamma, ref_tensor *dbeta)
{
    const size_t count = ref_count(x), step = (size_t)x->c, m = count / step;
    const double k = (double)(m < SUM_TERMS ? m : SUM_TERMS) + 8, M = (double)m;
    for (int c = 0; c < x->c; c++) {
        const double mean = stats->mean[c], e_mean = stats->e_mean[c], r = stats->r[c], e_r = stats->e_r[c], D = stats->deviation[c];
        double db = 0, e_db = 0, dg = 0, e_dg = 0;
        for (size_t i = (size_t)c; i < count; i += step) {
            const double d = fabs(x->v[i] - mean), xhat = (x->v[i] - mean) * r, g = fabs(dy->v[i]) + dy->e[i];
            const double e_xhat = (r + e_r) * (x->e[i] + e_mean) + d * e_r + 4 * REF_U * r * (d + D) + (batch ? 0 : 4 * REF_U * r * fabs(mean));
            db += dy->v[i];
            e_db += dy->e[i] + k * REF_U * g;
            dg += dy->v[i] * xhat;
            e_dg += fabs(xhat) * dy->e[i] + g * e_xhat + k * REF_U * g * r * 2 * D;
        }
        if (dbeta) ref_accumulate(dbeta, (size_t)c, db, e_db);
        if (dgamma) ref_accumulate(dgamma, (size_t)c, dg, e_dg);
        if (!dx) continue;
        const double s = (gamma ? fabs(gamma->v[c]) : 1) * r, sign = gamma && gamma->v[c] < 0 ? -1 : 1, relative = e_r / r + 4 * REF_U;
        for (size_t i = (size_t)c; i < count; i += step) {
            if (!batch) {
                ref_accumulate(dx, i, sign * s * dy->v[i], s * (dy->e[i] + relative * fabs(dy->v[i])));
                continue;
            }
            const double d = fabs(x->v[i] - mean), xhat = (x->v[i] - mean) * r, e_xhat = (r + e_r) * (x->e[i] + e_mean) + d * e_r;
            const double value = dy->v[i] - db / M - xhat * dg / M;
            const double size = fabs(dy->v[i]) + fabs(db) / M + r * (d + D) * fabs(dg) / M; /* of the terms as the pivoted form has them */
            const double e = dy->e[i] + e_db / M + fabs(xhat) * e_dg / M + e_xhat * (fabs(dg) + e_dg) / M + 6 * REF_U * size;
            ref_accumulate(dx, i, sign * s * value, s * (e + relative * size));
        }
    }
}
