/* Parameter updates against torch.optim's formulas in float64, over several steps, at lengths around every vector's. */
#include "tables.h"

static const int lengths[] = {1, 3, 4, 15, 16, 17, 33, 100};
enum { STEPS = 4 };

static double *doubles(const float *x, int n)
{
    double *d = guarded_bytes((size_t)n * sizeof *d);
    for (int i = 0; i < n; i++) d[i] = x ? x[i] : 0;
    return d;
}

/* After k steps every value is off by a few roundings of the largest magnitude it went through. */
static void check_values(const float *got, const double *want, int n, double scale)
{
    for (int i = 0; i < n; i++) check_close(got[i], want[i], 16 * STEPS * ROUNDING * (fabs(want[i]) + scale));
}

static void sgd(void **state)
{
    (void)state;
    static const struct { float momentum, decay; bool nesterov; } settings[] = {{0, 0, false}, {0, 0.1f, false}, {0.9f, 0, false}, {0.9f, 0.01f, false}, {0.8f, 0.1f, true}};
    const float lr = 0.1f, gscale = 0.5f;
    FOR_EACH(n, lengths) FOR_EACH(s, settings) FOR_EACH_TABLE(k) {
        test_case("update_sgd n=%d momentum=%g decay=%g nesterov=%d isa=%s", n, s.momentum, s.decay, s.nesterov, k->isa);
        float *w = normal_vector(n, 0, 1), *buf = s.momentum > 0 ? guarded((size_t)n) : NULL; /* NaN before the first step */
        double *dw = doubles(w, n), *dbuf = doubles(NULL, n);
        for (int step = 0; step < STEPS; step++) {
            const float *g = normal_vector(n, 0, 1);
            k->update_sgd(w, g, buf, (size_t)n, lr, s.momentum, s.decay, s.nesterov, step == 0, gscale);
            for (int i = 0; i < n; i++) {
                double d = (double)g[i] * gscale + (double)s.decay * dw[i];
                if (buf) {
                    dbuf[i] = step == 0 ? d : (double)s.momentum * dbuf[i] + d;
                    d = s.nesterov ? d + (double)s.momentum * dbuf[i] : dbuf[i];
                }
                dw[i] -= (double)lr * d;
            }
            check_values(w, dw, n, 1);
            if (buf) check_values(buf, dbuf, n, 1);
        }
        check_guards();
    }
}

static void adam(void **state)
{
    (void)state;
    const float lr = 0.01f, b1 = 0.9f, b2 = 0.999f, eps = 1e-8f, gscale = 2;
    static const float decays[] = {0, 0.1f};
    FOR_EACH(n, lengths) FOR_EACH(decay, decays)
        for (int decoupled = 0; decoupled < 2; decoupled++) FOR_EACH_TABLE(k) {
            test_case("update_adam n=%d decay=%g decoupled=%d isa=%s", n, decay, decoupled, k->isa);
            float *w = normal_vector(n, 0, 1), *m = normal_vector(n, 0, 0), *v = normal_vector(n, 0, 0);
            double *dw = doubles(w, n), *dm = doubles(NULL, n), *dv = doubles(NULL, n);
            for (int step = 1; step <= STEPS; step++) {
                const float *g = normal_vector(n, 0, 1);
                const double c1 = 1 - pow(b1, step), root = sqrt(1 - pow(b2, step));
                k->update_adam(w, g, m, v, (size_t)n, lr, b1, b2, eps, decay, decoupled, (float)(lr / c1), (float)root, gscale);
                for (int i = 0; i < n; i++) {
                    double d = (double)g[i] * gscale;
                    if (decoupled) dw[i] *= 1 - (double)lr * decay;
                    else d += (double)decay * dw[i];
                    dm[i] += (1 - (double)b1) * (d - dm[i]);
                    dv[i] = (double)b2 * dv[i] + (1 - (double)b2) * d * d;
                    dw[i] -= lr / c1 * dm[i] / (sqrt(dv[i]) / root + eps);
                }
                check_values(w, dw, n, 1);
                check_values(m, dm, n, 1);
                check_values(v, dv, n, 0); /* a sum of squares: nothing cancels */
            }
            check_guards();
        }
}

static void adam_with_a_zero_gradient_moves_nothing(void **state)
{
    (void)state;
    FOR_EACH_TABLE(k) {
        test_case("update_adam zero isa=%s", k->isa);
        float *w = normal_vector(20, 0, 1), *before = normal_vector(20, 0, 0), *zero = normal_vector(20, 0, 0), *m = normal_vector(20, 0, 0), *v = normal_vector(20, 0, 0);
        memcpy(before, w, 20 * sizeof *w);
        k->update_adam(w, zero, m, v, 20, 0.1f, 0.9f, 0.999f, 1e-8f, 0, true, 1, 0.03f, 1);
        check_same_bits(w, before, 20);
        check_guards();
    }
}

static void squares(void **state)
{
    (void)state;
    static const int many[] = {1, 7, 16, 1001};
    FOR_EACH(n, many) FOR_EACH_TABLE(k) {
        test_case("sum_squares n=%d isa=%s", n, k->isa);
        const float *x = normal_vector(n, 0, 1e25); /* x^2 overflows a float */
        double total = 1e50, want = 1e50;
        k->sum_squares(x, (size_t)n, &total);
        for (int i = 0; i < n; i++) want += (double)x[i] * x[i];
        check_close(total, want, n * 0x1p-52 * want);
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(sgd), test(adam), test(adam_with_a_zero_gradient_moves_nothing), test(squares)};
    return run_all(tests);
}
