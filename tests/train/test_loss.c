/* bnff_softmax_cross_entropy against torch.nn.functional.cross_entropy in float64, finite differences, and hostile logits. */
#include <bnff/optim.h>

#include "golden.h"
#include "support.h"

enum { N = 3, K = 5 };
static const float logits[N * K] = {1.5f, -0.25f, 3, 0.125f, -2, -4, 2.5f, 2.5f, 0, 1, 0.5f, 0.5f, 0.5f, 0.5f, 0.5f};
static const int32_t labels[N] = {2, 0, 4};
static const float soft[N * K] = {.5f, .25f, .25f, 0, 0, 0, 0, 1, 0, 0, .125f, .125f, .25f, .25f, .25f};

/* A float64 result rounded to float, of magnitude at most 1. */
static const double ROUNDING = FLT_EPSILON / 2;

/* The smoothing is a float here and a double there: half an ulp of it, times the spread of the logits. */
static void agrees_with_pytorch(void **state)
{
    (void)state;
    golden *file = golden_open("loss");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const int batch = (int)golden_number(parameters, "batch"), classes = (int)golden_number(parameters, "classes");
        const float smoothing = (float)golden_number(parameters, "smoothing");
        size_t n;
        const float *z = golden_f32(file, "logits", &n, NULL);
        const int32_t *y = golden_has(file, "labels") ? golden_i32(file, "labels", NULL) : NULL;
        double loss, spread = 0, want = golden_f64(file, "loss", NULL, NULL)[0];
        for (size_t k = 0; k < n; k++) spread = fmax(spread, 2 * fabs((double)z[k]));
        bnff_error error;
        float *gradient = guarded(n);
        check_ok(bnff_softmax_cross_entropy(z, batch, classes, y, y ? NULL : golden_f32(file, "soft", NULL, NULL), smoothing, &loss,
                                            gradient, &error),
                 &error);
        check_close(loss, want, (double)smoothing * FLT_EPSILON / 2 * spread + 16 * DBL_EPSILON * (spread + fabs(want)));
        check_floats(gradient, golden_f64(file, "gradient", NULL, NULL), n, ROUNDING + (double)smoothing * FLT_EPSILON / 2);
        check_guards();
    }
    golden_close(&file);
}

/* Central differences: the loss is exact to about 1e-15, so h = 2^-10 leaves h^2/6 * |f'''| <= 1.6e-7 and rounding 1e-12.
 * The soft targets need not sum to 1. */
static void gradient_is_the_derivative(void **state)
{
    (void)state;
    enum { C = 7 };
    static const float smoothings[] = {0, 0.25f};
    static const bool softs[] = {false, true};
    FOR_EACH(e, smoothings) FOR_EACH(mixed, softs) {
        test_case("derivative smoothing=%g soft=%d", (double)e, mixed);
        const float h = 0x1p-10f;
        float z[2 * C], target[2 * C], gradient[2 * C];
        const int32_t labelled[2] = {6, 1}, *const y = mixed ? NULL : labelled;
        const float *const q = mixed ? target : NULL;
        for (int i = 0; i < 2 * C; i++) z[i] = (float)random_int(-64, 64) / 16; /* z + h is exact */
        for (int i = 0; i < 2 * C; i++) target[i] = (float)random_int(0, 8) / 32;
        bnff_error error;
        check_ok(bnff_softmax_cross_entropy(z, 2, C, y, q, e, NULL, gradient, &error), &error);
        for (int i = 0; i < 2 * C; i++) {
            double up, down;
            const float at = z[i];
            z[i] = at + h;
            check_ok(bnff_softmax_cross_entropy(z, 2, C, y, q, e, &up, NULL, &error), &error);
            z[i] = at - h;
            check_ok(bnff_softmax_cross_entropy(z, 2, C, y, q, e, &down, NULL, &error), &error);
            z[i] = at;
            check_close((up - down) / (2 * (double)h), gradient[i], 3e-7);
        }
    }
}

static void survives_extreme_logits(void **state)
{
    (void)state;
    bnff_error error;
    double loss;
    float gradient[3];
    test_case("huge logits");
    check_ok(bnff_softmax_cross_entropy((const float[]){-3e38f, 3e38f, 0}, 1, 3, (const int32_t[]){1}, NULL, 0, &loss, gradient, &error),
             &error);
    check_close(loss, 0, 0);
    check_floats(gradient, ((const double[]){0, 0, 0}), 3, 0);
    test_case("impossible class, not the label");
    check_ok(bnff_softmax_cross_entropy((const float[]){1, -INFINITY, 1}, 1, 3, (const int32_t[]){0}, NULL, 0, &loss, gradient, &error),
             &error);
    check_close(loss, log(2), 2 * DBL_EPSILON);
    check_floats(gradient, ((const double[]){-.5, 0, .5}), 3, ROUNDING);
    test_case("not a number");
    check_ok(bnff_softmax_cross_entropy((const float[]){1, NAN, 1}, 1, 3, (const int32_t[]){0}, NULL, 0, &loss, gradient, &error), &error);
    assert_true(isnan(loss));
}

static void refuses_nonsense(void **state)
{
    (void)state;
    bnff_error error;
    double loss = -1;
    const int32_t high[N] = {2, 5, 4}, low[N] = {2, 0, -7};
    check_fails(bnff_softmax_cross_entropy(logits, N, K, high, NULL, 0, &loss, NULL, &error), BNFF_E_ARG, &error,
                "label 5 of sample 1 is outside [0, 5)");
    check_fails(bnff_softmax_cross_entropy(logits, N, K, low, NULL, 0, &loss, NULL, &error), BNFF_E_ARG, &error, "label -7 of sample 2");
    check_fails(bnff_softmax_cross_entropy(logits, N, K, NULL, NULL, 0, &loss, NULL, &error), BNFF_E_ARG, &error, "either");
    check_fails(bnff_softmax_cross_entropy(logits, N, K, labels, soft, 0, &loss, NULL, &error), BNFF_E_ARG, &error, "either");
    check_fails(bnff_softmax_cross_entropy(logits, 0, K, labels, NULL, 0, &loss, NULL, &error), BNFF_E_ARG, &error, "batch 0");
    check_fails(bnff_softmax_cross_entropy(logits, N, K, labels, NULL, 1.5f, &loss, NULL, &error), BNFF_E_ARG, &error, "smoothing");
    check_fails(bnff_softmax_cross_entropy(logits, N, K, labels, NULL, NAN, &loss, NULL, &error), BNFF_E_ARG, &error, "smoothing");
    check_close(loss, -1, 0); /* untouched by failures */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(agrees_with_pytorch), test(gradient_is_the_derivative), test(survives_extreme_logits),
                                              test(refuses_nonsense)};
    return run_all(tests);
}
