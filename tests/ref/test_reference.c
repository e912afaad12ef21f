/* The float64 reference itself, against what PyTorch computes in float64: everything else is compared with the reference. */
#include "ref.h"
#include "ref_golden.h"
#include "support.h"

/* Two float64 programs: only the order of the sums differs. */
#define CLOSE 1e-12

static ref_tensor like(const ref_tensor *t) { return ref_new(t->n, t->h, t->w, t->c); }

static void convolutions(void **state)
{
    (void)state;
    golden *file = golden_open("conv");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        ref_tensor x = golden_tensor(file, "x"), weight = golden_parameter(file, "weight"), dy = golden_tensor(file, "dy"), y = like(&dy);
        ref_tensor dx = like(&x), dweight = like(&weight), bias = {0}, dbias = {0};
        const bnff_conv_options o = golden_conv(parameters, weight.n);
        if (o.bias) bias = golden_parameter(file, "bias"), dbias = like(&bias);
        ref_conv(&x, &weight, o.bias ? &bias : NULL, &o, &y);
        ref_conv_backward(&x, &weight, &o, &dy, &dx, &dweight, o.bias ? &dbias : NULL);
        check_golden_tensor(&y, file, "y", CLOSE);
        check_golden_tensor(&dx, file, "dx", CLOSE);
        check_golden_parameter(&dweight, file, "dweight", CLOSE);
        if (o.bias) check_golden_parameter(&dbias, file, "dbias", CLOSE);
        ref_tensor *all[] = {&x, &weight, &dy, &y, &dx, &dweight, &bias, &dbias};
        FOR_EACH(t, all) ref_free(t);
    }
    golden_close(&file);
}

static void pooling(void **state)
{
    (void)state;
    golden *file = golden_open("pool");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const char *kind = golden_string(parameters, "kind");
        ref_tensor x = golden_tensor(file, "x"), dy = golden_tensor(file, "dy"), y = like(&dy), dx = like(&x);
        if (!strcmp(kind, "adaptive") || !strcmp(kind, "global")) {
            ref_adaptive(&x, &y);
            ref_adaptive_backward(&x, &dy, &dx);
        } else {
            const bnff_pool_options o = golden_pool(parameters);
            for (int d = 0; d < 2; d++)
                assert_int_equal(ref_pool_size(d ? x.w : x.h, o.kernel[d], o.stride[d], o.padding[d], o.dilation[d], o.ceil_mode), d ? dy.w : dy.h);
            if (!strcmp(kind, "max")) ref_maxpool(&x, &o, &y), ref_maxpool_backward(&x, &o, &dy, &dx);
            else ref_avgpool(&x, &o, &y), ref_avgpool_backward(&x, &o, &dy, &dx);
        }
        check_golden_tensor(&y, file, "y", CLOSE);
        check_golden_tensor(&dx, file, "dx", CLOSE);
        ref_tensor *all[] = {&x, &dy, &y, &dx};
        FOR_EACH(t, all) ref_free(t);
    }
    golden_close(&file);
}

static void activations(void **state)
{
    (void)state;
    static const struct { const char *name; bnff_activation kind; } kinds[] = {
        {"relu", BNFF_RELU}, {"relu6", BNFF_RELU6}, {"leaky_relu", BNFF_LEAKY_RELU}, {"silu", BNFF_SILU},
        {"hardswish", BNFF_HARDSWISH}, {"sigmoid", BNFF_SIGMOID}, {"hardsigmoid", BNFF_HARDSIGMOID},
        {"tanh", BNFF_TANH}, {"gelu", BNFF_GELU}, {"elu", BNFF_ELU}, {"mish", BNFF_MISH},
    };
    golden *file = golden_open("activations");
    assert_int_equal(golden_count(file), COUNT_OF(kinds));
    FOR_EACH(k, kinds) {
        const json_t *parameters = golden_case(file, (int)k_at);
        assert_string_equal(golden_string(parameters, "name"), k.name);
        const double slope = golden_number(parameters, "slope");
        ref_tensor x = golden_tensor(file, "x"), dy = golden_tensor(file, "dy"), y = like(&x), dx = like(&x);
        ref_activate(&x, k.kind, slope, &y);
        ref_activate_backward(&x, k.kind, slope, &dy, &dx);
        check_golden_tensor(&y, file, "y", CLOSE);
        const double close = k.kind == BNFF_HARDSIGMOID ? 1e-7 : CLOSE; /* PyTorch multiplies by 1/6 in float32 there */
        ref_tensor want = golden_tensor(file, "dx");
        for (size_t i = 0; i < ref_count(&x); i++) /* at NaN PyTorch's own loops disagree: anything is right */
            if (!isnan(x.v[i])) support_close(dx.v[i], want.v[i], close * (1 + fabs(want.v[i])), "dx", (ptrdiff_t)i, __FILE__, __LINE__);
        ref_free(&want);
        ref_tensor *all[] = {&x, &dy, &y, &dx};
        FOR_EACH(t, all) ref_free(t);
    }
    golden_close(&file);
}

/* One step of a batch normalization case; the running statistics are carried from step to step. */
static void bn_step(golden *file, const json_t *parameters, int step, bool batch, ref_tensor *mean, ref_tensor *var)
{
    char name[32];
#define STEP(leaf) (snprintf(name, sizeof name, "%s%d", leaf, step), name)
    const bool affine = golden_flag(parameters, "affine");
    ref_tensor x = golden_tensor(file, STEP("x")), dy = golden_tensor(file, STEP("dy")), y = like(&x), dx = like(&x);
    ref_tensor gamma = {0}, beta = {0}, dgamma = {0}, dbeta = {0};
    if (affine) gamma = golden_parameter(file, "weight"), beta = golden_parameter(file, "bias"), dgamma = like(&gamma), dbeta = like(&beta);
    ref_bn_stats stats = {0};
    ref_bn(&x, affine ? &gamma : NULL, affine ? &beta : NULL, mean, var, golden_number(parameters, "eps"), golden_number(parameters, "momentum"), batch, &stats, &y);
    ref_bn_backward(&x, affine ? &gamma : NULL, &stats, batch, &dy, &dx, affine ? &dgamma : NULL, affine ? &dbeta : NULL);
    /* Where |mean| is 1e4 deviations, float64 itself loses eight of its sixteen digits in the variance. */
    const double close = !strcmp(golden_string(parameters, "name"), "far_from_zero") ? 1e-7 : 1e-9;
    check_golden_tensor(&y, file, STEP("y"), close);
    check_golden_tensor(&dx, file, STEP("dx"), close);
    check_golden_parameter(mean, file, STEP("running_mean"), close);
    check_golden_parameter(var, file, STEP("running_var"), close);
    if (affine) check_golden_parameter(&dgamma, file, STEP("dweight"), close);
    if (affine) check_golden_parameter(&dbeta, file, STEP("dbias"), close);
    ref_bn_free(&stats);
    ref_tensor *all[] = {&x, &dy, &y, &dx, &gamma, &beta, &dgamma, &dbeta};
    FOR_EACH(t, all) ref_free(t);
#undef STEP
}

static void batch_normalization(void **state)
{
    (void)state;
    golden *file = golden_open("bn");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const int steps = (int)golden_number(parameters, "steps"), channels = (int)json_integer_value(json_array_get(json_object_get(parameters, "shape"), 1));
        ref_tensor mean = ref_new(channels, 1, 1, 1), var = ref_new(channels, 1, 1, 1);
        for (int c = 0; c < channels; c++) var.v[c] = 1;
        for (int step = 0; step <= steps; step++) bn_step(file, parameters, step, step < steps, &mean, &var);
        ref_free(&mean);
        ref_free(&var);
    }
    golden_close(&file);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(convolutions), test(pooling), test(activations), test(batch_normalization)};
    return run_all(tests);
}
