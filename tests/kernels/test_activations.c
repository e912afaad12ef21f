/* act and act_grad against float64 over the whole range of floats, and PyTorch's choices at the borders and for NaN. */
#include "tables.h"

static const bnff_activation kinds[] = {BNFF_IDENTITY, BNFF_RELU, BNFF_RELU6, BNFF_LEAKY_RELU, BNFF_SILU, BNFF_HARDSWISH, BNFF_SIGMOID, BNFF_HARDSIGMOID,
                                        BNFF_TANH, BNFF_GELU, BNFF_ELU, BNFF_MISH};
static const float slope = 0.2f;

/* Results below this may be 0: e^-u is infinite from u = -88.73 on, where the sigmoid is 2.9e-39. */
#define VANISHING 3e-39

static double sigmoid(double u) { return 1 / (1 + exp(-u)); }
static double clamp(double x, double low, double high) { return x < low ? low : x > high ? high : x; }

static double normal(double u) { return erfc(-u * M_SQRT1_2) / 2; }
static double density(double u) { return exp(-u * u / 2) / sqrt(2 * M_PI); }

static double act(bnff_activation kind, double u)
{
    switch (kind) {
    case BNFF_RELU: return u > 0 ? u : 0;
    case BNFF_RELU6: return clamp(u, 0, 6);
    case BNFF_LEAKY_RELU: return u > 0 ? u : u * slope;
    case BNFF_SILU: return u * sigmoid(u);
    case BNFF_HARDSWISH: return u * clamp(u + 3, 0, 6) / 6;
    case BNFF_SIGMOID: return sigmoid(u);
    case BNFF_HARDSIGMOID: return clamp(u + 3, 0, 6) / 6;
    case BNFF_TANH: return tanh(u);
    case BNFF_GELU: return u * normal(u);
    case BNFF_ELU: return u > 0 ? u : slope * expm1(u);
    case BNFF_MISH: return u * tanh(log1p(exp(u)));
    default: return u;
    }
}
static double mish_slope(double u)
{
    const double t = tanh(u > 30 ? u : log1p(exp(u)));
    return t + u * (1 - t * t) * sigmoid(u);
}
static double slope_at(bnff_activation kind, double u)
{
    const double y = sigmoid(u);
    switch (kind) {
    case BNFF_RELU: return u > 0;
    case BNFF_RELU6: return u > 0 && u < 6;
    case BNFF_LEAKY_RELU: return u > 0 ? 1 : slope;
    case BNFF_SILU: return y * (1 + u * (1 - y));
    case BNFF_HARDSWISH: return u <= -3 ? 0 : u >= 3 ? 1 : u / 3 + 0.5;
    case BNFF_SIGMOID: return y * (1 - y);
    case BNFF_HARDSIGMOID: return u > -3 && u < 3 ? 1 / 6.0 : 0;
    case BNFF_TANH: return 1 - tanh(u) * tanh(u);
    case BNFF_GELU: return normal(u) + u * density(u);
    case BNFF_ELU: return u > 0 ? 1 : slope * exp(u);
    case BNFF_MISH: return mish_slope(u);
    default: return 1;
    }
}

/* Error bounds in roundings. e^x has 1.5 and what follows it 1 each; u + 3 and u/3 + 1/2 cancel near u = -3, -3/2; so do 1 - y
 * for large u (y is off by a few roundings of 1) and 1 + u*(1 - y) around its zero. */
static double act_bound(bnff_activation kind, double u, double y)
{
    switch (kind) {
    case BNFF_SILU: return 6 * ROUNDING * fabs(y) + fabs(u) * VANISHING + LEAST;
    case BNFF_SIGMOID: return 6 * ROUNDING * y + VANISHING;
    case BNFF_HARDSWISH: return 4 * ROUNDING * fabs(u) + LEAST;
    case BNFF_HARDSIGMOID: return 4 * ROUNDING;
    case BNFF_TANH: return 10 * ROUNDING * fabs(y) + LEAST;
    case BNFF_GELU: return (12 + 2 * u * u) * ROUNDING * fabs(y) + (u > 0 ? 0 : fabs(u) * VANISHING) + LEAST;
    case BNFF_ELU: return 6 * ROUNDING * fabs(y) + LEAST;
    case BNFF_MISH: return 12 * ROUNDING * fabs(y) + fabs(u) * VANISHING + LEAST;
    case BNFF_LEAKY_RELU: return ROUNDING * fabs(y) + LEAST;
    default: return 0;
    }
}
static double grad_bound(bnff_activation kind, double g, double u)
{
    const double y = sigmoid(u);
    switch (kind) {
    case BNFF_SILU: return fabs(g) * ((14 * ROUNDING * y) * (1 + fabs(u)) + fabs(u) * VANISHING) + (1 + fabs(u)) * LEAST;
    case BNFF_SIGMOID: return fabs(g) * (10 * ROUNDING * y + VANISHING) + LEAST;
    case BNFF_HARDSWISH: return fabs(g) * 5 * ROUNDING + LEAST;
    case BNFF_TANH: return fabs(g) * (20 * ROUNDING * tanh(u) * tanh(u) + 2 * ROUNDING) + LEAST;
    case BNFF_GELU: return fabs(g) * ((12 + 2 * u * u) * ROUNDING * (normal(u) + fabs(u) * density(u)) + (1 + fabs(u)) * VANISHING) + LEAST;
    case BNFF_ELU: return fabs(g) * 6 * ROUNDING * fabs(slope_at(kind, u)) + fabs(g) * VANISHING + LEAST;
    case BNFF_MISH: return fabs(g) * (14 * ROUNDING * (y + fmin(fabs(u), 30) * y) + (1 + fabs(u)) * VANISHING) + (1 + fabs(u)) * LEAST;
    case BNFF_HARDSIGMOID:
    case BNFF_LEAKY_RELU: return fabs(g) * ROUNDING + LEAST;
    default: return 0;
    }
}

/* A sweep of floats: every exponent with both signs, densely where the functions bend, and the borders with their neighbours. */
enum { SWEEP = 16 * 1024 };
static piece sweep(void)
{
    static const float borders[] = {0, 3, 6, 1.2784645f, 88, 88.72284f, 103.97f, 104, 1e30f, FLT_MAX, FLT_MIN, 1e-45f};
    const piece u = new_piece(SWEEP / 16, 16, 16);
    size_t at = 0;
    FOR_EACH(border, borders)
        for (int sign = -1; sign <= 1; sign += 2) {
            const float b = (float)sign * border;
            u.x[at++] = b;
            if (border > FLT_MAX / 2) continue;
            u.x[at++] = nextafterf(b, INFINITY), u.x[at++] = nextafterf(b, -INFINITY);
        }
    for (int e = -149; e < 128; e++)
        for (int i = 0; i < 8; i++) u.x[at++] = (float)ldexp((i & 1 ? -1 : 1) * random_uniform(1, 2), e);
    while (at < SWEEP / 2) u.x[at++] = (float)random_uniform(-10, 10);
    while (at < SWEEP) u.x[at++] = (float)random_uniform(-110, 110);
    return u;
}

static void values(void **state)
{
    (void)state;
    FOR_EACH(kind, kinds) FOR_EACH_TABLE(k) {
        test_case("act kind=%d isa=%s", kind, k->isa);
        const piece u = sweep(), y = new_piece(u.n, u.c, u.ld);
        k->act(y.x, y.ld, u.x, u.ld, u.n, u.c, (bf_act){kind, slope});
        for (size_t i = 0; i < SWEEP; i++) {
            const double want = act(kind, u.x[i]);
            if (fabs(want) > FLT_MAX) continue; /* u * 6 overflows before the division, as in PyTorch */
            if (kind == BNFF_HARDSWISH && fabs(u.x[i]) > FLT_MAX / 6) continue;
            if (!(fabs(y.x[i] - want) <= act_bound(kind, u.x[i], want))) printf("# u = %.9g\n", u.x[i]);
            check_close(y.x[i], want, act_bound(kind, u.x[i], want));
        }
        check_guards();
    }
}

static void gradients(void **state)
{
    (void)state;
    static const float gs[] = {1, -0.37f, 1e-30f};
    FOR_EACH(kind, kinds) FOR_EACH(g, gs) FOR_EACH_TABLE(k) {
        test_case("act_grad kind=%d g=%g isa=%s", kind, g, k->isa);
        const piece u = sweep(), dy = new_piece(u.n, u.c, u.ld), dx = new_piece(u.n, u.c, u.ld);
        for (size_t i = 0; i < SWEEP; i++) dy.x[i] = g;
        k->act_grad(dx.x, dx.ld, dy.x, dy.ld, u.x, u.ld, u.n, u.c, (bf_act){kind, slope});
        for (size_t i = 0; i < SWEEP; i++) {
            const double want = (double)g * slope_at(kind, u.x[i]), bound = grad_bound(kind, g, u.x[i]);
            if (!(fabs(dx.x[i] - want) <= bound)) printf("# u = %.9g\n", u.x[i]);
            check_close(dx.x[i], want, bound);
        }
        check_guards();
    }
}

/* torch: NaN comes out of every activation; its gradient is what the comparison that decides gives for NaN. Infinities. */
static void special_values(void **state)
{
    (void)state;
    static const struct { bnff_activation kind; float nan_grad, at_infinity, at_minus_infinity; } rows[] = {
        {BNFF_IDENTITY, 2, INFINITY, -INFINITY}, {BNFF_RELU, 2, INFINITY, 0}, {BNFF_RELU6, 2, 6, 0}, {BNFF_LEAKY_RELU, 2 * 0.2f, INFINITY, -INFINITY},
        {BNFF_SILU, NAN, INFINITY, NAN}, {BNFF_HARDSWISH, NAN, INFINITY, NAN}, {BNFF_SIGMOID, NAN, 1, 0}, {BNFF_HARDSIGMOID, 0, 1, 0},
        {BNFF_TANH, NAN, 1, -1}, {BNFF_GELU, NAN, INFINITY, NAN}, {BNFF_ELU, NAN, INFINITY, -0.2f}, {BNFF_MISH, NAN, INFINITY, NAN},
    };
    FOR_EACH(row, rows) FOR_EACH_TABLE(k) {
        test_case("special kind=%d isa=%s", row.kind, k->isa);
        const bf_act a = {row.kind, slope};
        float *u = guarded(16), *y = guarded(16), *g = guarded(16);
        for (int i = 0; i < 16; i++) u[i] = i == 3 ? INFINITY : i == 5 ? -INFINITY : i == 7 ? 1 : NAN, g[i] = 2;
        k->act(y, 16, u, 16, 1, 16, a);
        for (int i = 0; i < 16; i++)
            if (isnan(u[i])) assert_true(isnan(y[i]));
        check_close(y[3], row.at_infinity, 0);
        check_close(y[5], row.at_minus_infinity, 0);
        check_close(y[7], act(row.kind, 1), act_bound(row.kind, 1, 1));
        k->act_grad(y, 16, g, 16, u, 16, 1, 16, a);
        for (int i = 0; i < 16; i++)
            if (isnan(u[i])) check_close(y[i], row.nan_grad, 0);
        g[7] = NAN;
        k->act_grad(y, 16, g, 16, u, 16, 1, 16, a);
        assert_true(isnan(y[7]));
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(values), test(gradients), test(special_values)};
    return run_all(tests);
}
