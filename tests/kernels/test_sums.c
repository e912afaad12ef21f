/* Summing kernels against float64: a float sum of n terms is off by less than n roundings of the sum of magnitudes. */
#include "tables.h"

static const int cs[] = {16, 32}, ns[] = {1, 2, 7, 113, BF_STATS_PIXELS};
enum { LD1 = 48, LD2 = 32, LD3 = 80 };

static double *constants(int c, double value)
{
    double *v = (double *)guarded(2 * (size_t)c);
    for (int i = 0; i < c; i++) v[i] = value;
    return v;
}

/* mean 4096 std: what a pivot is for */
static void sum_stats_against_float64(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("sum_stats n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD1, 4096, 1);
        const float *around = normal_vector(c, 4096, 1);
        double *pivot = constants(c, 0);
        for (int i = 0; i < c; i++) pivot[i] = (double)around[i];
        double *s1 = constants(c, 3), *s2 = constants(c, 5);
        k->sum_stats(x.x, x.ld, n, c, pivot, s1, s2);
        for (int i = 0; i < c; i++) {
            double r1 = 3, r2 = 5, a1 = 3;
            for (int j = 0; j < n; j++) {
                const double d = (double)*piece_at(x, j, i) - pivot[i];
                r1 += d, r2 += d * d, a1 += fabs(d);
            }
            check_close(s1[i], r1, (n + 2) * ROUNDING * a1);
            check_close(s2[i], r2, (n + 4) * ROUNDING * r2);
        }
        check_guards();
    }
}

static void sum_against_float64(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("sum n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD3, 1, 2);
        double *s1 = constants(c, -2);
        k->sum(x.x, x.ld, n, c, s1);
        for (int i = 0; i < c; i++) {
            double r1 = -2, a1 = 2;
            for (int j = 0; j < n; j++) r1 += *piece_at(x, j, i), a1 += fabs(*piece_at(x, j, i));
            check_close(s1[i], r1, (n + 1) * ROUNDING * a1);
        }
        check_guards();
    }
}

static void sum_bn_grad_against_float64(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("sum_bn_grad n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD1, 100, 1), dy = normal_piece(n, c, LD2, 0, 1);
        const float *p = normal_vector(c, 100, 1);
        double *s1 = constants(c, 1), *s2 = constants(c, 2);
        k->sum_bn_grad(dy.x, dy.ld, x.x, x.ld, n, c, p, s1, s2);
        for (int i = 0; i < c; i++) {
            double r1 = 1, r2 = 2, a1 = 1, a2 = 2;
            for (int j = 0; j < n; j++) {
                const double d = *piece_at(dy, j, i), e = d * ((double)*piece_at(x, j, i) - p[i]);
                r1 += d, a1 += fabs(d), r2 += e, a2 += fabs(e);
            }
            check_close(s1[i], r1, (n + 1) * ROUNDING * a1);
            check_close(s2[i], r2, (n + 4) * ROUNDING * a2);
        }
        check_guards();
    }
}

static void cells_are_summed_in_double(void **state)
{
    (void)state;
    static const int cells[] = {1, 2, 5};
    enum { STRIDE = 3 * BF_BLOCK };
    FOR_EACH(c, cs) FOR_EACH(count, cells) FOR_EACH_TABLE(k) {
        test_case("sum_cells cells=%d c=%d isa=%s", count, c, k->isa);
        const piece x = normal_piece(count, c, STRIDE, 0, 1);
        float *sum = guarded((size_t)c);
        for (int cell = 0; cell < count; cell++) *piece_at(x, cell, 3) = cell % 2 ? -1e8f : 1e8f + cell; /* floats would lose the rest */
        k->sum_cells(sum, x.x, STRIDE, count, c);
        for (int i = 0; i < c; i++) {
            double want = 0;
            for (int cell = 0; cell < count; cell++) want += (double)*piece_at(x, cell, i);
            assert_true(sum[i] == (float)want);
        }
        check_guards();
    }
}

static void nan_stays_in_its_channel(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH_TABLE(k) {
        test_case("sums nan c=%d isa=%s", c, k->isa);
        const piece x = normal_piece(9, c, LD1, 0, 1);
        *piece_at(x, 4, 11) = NAN;
        double *s1 = constants(c, 0), *s2 = constants(c, 0);
        k->sum_stats(x.x, x.ld, 9, c, constants(c, 0), s1, s2);
        for (int i = 0; i < c; i++) assert_true(isnan(s1[i]) == (i == 11) && isnan(s2[i]) == (i == 11));
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(sum_stats_against_float64), test(sum_against_float64), test(sum_bn_grad_against_float64), test(cells_are_summed_in_double), test(nan_stays_in_its_channel),
    };
    return run_all(tests);
}
