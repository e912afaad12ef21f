/* Single operators on PyTorch's own inputs and results, in PyTorch's memory layout. The bounds are the reference's. */
#include <bnff/model.h>

#include "net.h"
#include "ref_golden.h"
#include "support.h"

static ref_tensor like(const ref_tensor *t) { return ref_new(t->n, t->h, t->w, t->c); }

static void free_all(ref_tensor *const *all, size_t count)
{
    for (size_t i = 0; i < count; i++) ref_free(all[i]);
}
#define FREE(...) free_all((ref_tensor *[]){__VA_ARGS__}, COUNT_OF(((ref_tensor *[]){__VA_ARGS__})))

/* A graph with one input and one output, made executable. */
typedef struct machine {
    bnff_graph *graph;
    bnff_context *context;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
} machine;

static machine plan_for(bnff_graph *graph, bnff_value y, const ref_tensor *x, bnff_mode mode)
{
    machine m = {.graph = graph};
    bnff_error error;
    bnff_output(graph, y);
    check_ok(bnff_graph_status(graph, &error), &error);
    const bnff_context_options context = {.size = sizeof context, .threads = 2};
    check_ok(bnff_context_create(&context, &m.context, &error), &error);
    const bnff_plan_options plan = {.size = sizeof plan, .batch = x->n, .height = x->h, .width = x->w, .mode = mode, .input_gradients = mode == BNFF_TRAIN};
    check_ok(bnff_plan_create(m.context, graph, &plan, &m.plan, &error), &error);
    check_ok(bnff_pool_create(m.context, &m.pool, &error), &error);
    check_ok(bnff_run_acquire(m.pool, m.plan, &m.run, &error), &error);
    return m;
}

static void free_machine(machine *m, bool with_graph)
{
    bnff_run_release(&m->run);
    bnff_pool_destroy(&m->pool);
    bnff_plan_destroy(&m->plan);
    bnff_context_destroy(&m->context);
    if (with_graph) bnff_graph_destroy(&m->graph);
}

static bnff_graph *new_graph(void)
{
    bnff_graph *graph;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    return graph;
}

/* Forward, and backward if dy is given, on golden arrays of the current case; y and dx are new guarded arrays in PyTorch's layout. */
static void run(machine *m, const golden *file, const char *x, const char *dy, const ref_tensor *x_shape, const ref_tensor *y_shape,
                float *const *params, float *const *gradients, float **y, float **dx)
{
    bnff_error error;
    *y = guarded(ref_count(y_shape));
    bnff_tensor in = bnff_nchw((float *)(uintptr_t)golden_f32(file, x, NULL, NULL), x_shape->h, x_shape->w, x_shape->c);
    bnff_tensor out = bnff_nchw(*y, y_shape->h, y_shape->w, y_shape->c);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &in, .outputs = &out, .params = params};
    check_ok(bnff_forward(m->run, &forward, &error), &error);
    if (!dy) return;
    *dx = guarded(ref_count(x_shape));
    bnff_tensor out_gradient = bnff_nchw((float *)(uintptr_t)golden_f32(file, dy, NULL, NULL), y_shape->h, y_shape->w, y_shape->c);
    bnff_tensor in_gradient = bnff_nchw(*dx, x_shape->h, x_shape->w, x_shape->c);
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &out_gradient, .param_gradients = gradients, .input_gradients = &in_gradient};
    check_ok(bnff_backward(m->run, &backward, &error), &error);
}

/* got, in PyTorch's layout, against the golden tensor within the bounds of `bound` (channels last). Where x is NaN a gradient may be
 * anything: PyTorch's own loops disagree there. */
static void compare(const float *got, const golden *file, const char *name, const ref_tensor *bound, const float *x)
{
    const double *want = golden_f64(file, name, NULL, NULL);
    for (int n = 0, i = 0; n < bound->n; n++)
        for (int c = 0; c < bound->c; c++)
            for (int h = 0; h < bound->h; h++)
                for (int w = 0; w < bound->w; w++, i++)
                    if (!x || !isnan(x[i])) support_close(got[i], want[i], REF_SIGMAS * bound->e[ref_at(bound, n, h, w, c)], name, i, __FILE__, __LINE__);
}

static void compare_vector(const float *got, const golden *file, const char *name, const ref_tensor *bound)
{
    const double *want = golden_f64(file, name, NULL, NULL);
    for (size_t i = 0; i < ref_count(bound); i++) support_close(got[i], want[i], REF_SIGMAS * bound->e[i], name, (ptrdiff_t)i, __FILE__, __LINE__);
}

/* In the public options a second padding of 0 stands for "square", so none is -1. */
static void pad_as_given(int padding[2])
{
    if (padding[0] && !padding[1]) padding[1] = -1;
}

static void pooling(void **state)
{
    (void)state;
    golden *file = golden_open("pool");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const char *kind = golden_string(parameters, "kind");
        ref_tensor x = golden_tensor(file, "x"), dy = golden_tensor(file, "dy"), y = like(&dy), dx = like(&x);
        bnff_graph *graph = new_graph();
        const bnff_value in = bnff_input(graph, "image", x.c);
        bnff_value out;
        if (!strcmp(kind, "adaptive") || !strcmp(kind, "global")) {
            out = !strcmp(kind, "global") ? bnff_global_avgpool(graph, in) : bnff_adaptive_avgpool(graph, in, y.h, y.w);
            ref_adaptive(&x, &y);
            ref_adaptive_backward(&x, &dy, &dx);
        } else {
            const bnff_pool_options o = golden_pool(parameters);
            bnff_pool_options given = o;
            const bool max = !strcmp(kind, "max");
            pad_as_given(given.padding);
            out = max ? bnff_maxpool(graph, in, &given) : bnff_avgpool(graph, in, &given);
            if (max) ref_maxpool(&x, &o, &y), ref_maxpool_backward(&x, &o, &dy, &dx);
            else ref_avgpool(&x, &o, &y), ref_avgpool_backward(&x, &o, &dy, &dx);
        }
        machine m = plan_for(graph, out, &x, BNFF_TRAIN);
        float *got_y, *got_dx;
        run(&m, file, "x", "dy", &x, &y, NULL, NULL, &got_y, &got_dx);
        compare(got_y, file, "y", &y, NULL);
        compare(got_dx, file, "dx", &dx, NULL);
        check_guards();
        free_machine(&m, true);
        FREE(&x, &dy, &y, &dx);
    }
    golden_close(&file);
}

static void activations(void **state)
{
    (void)state;
    static const bnff_activation kinds[] = {BNFF_RELU, BNFF_RELU6, BNFF_LEAKY_RELU, BNFF_SILU, BNFF_HARDSWISH, BNFF_SIGMOID, BNFF_HARDSIGMOID,
                                            BNFF_TANH, BNFF_GELU, BNFF_ELU, BNFF_MISH};
    golden *file = golden_open("activations");
    FOR_EACH(kind, kinds) {
        const json_t *parameters = golden_case(file, (int)kind_at);
        const double slope = golden_number(parameters, "slope");
        size_t count;
        const float *points = golden_f32(file, "x", &count, NULL);
        ref_tensor x = ref_new(1, 1, (int)count, 1), dy = like(&x), y = like(&x), dx = like(&x); /* one channel: the layouts agree */
        for (size_t i = 0; i < count; i++) x.v[i] = points[i], dy.v[i] = golden_f32(file, "dy", NULL, NULL)[i];
        ref_activate(&x, kind, slope, &y);
        ref_activate_backward(&x, kind, slope, &dy, &dx);
        for (size_t i = 0; kind == BNFF_GELU && i < count; i++) /* PyTorch's 1 + erf cancels, in float64 too */
            if (isfinite(points[i])) y.e[i] += DBL_EPSILON * fabs(x.v[i]), dx.e[i] += DBL_EPSILON * fabs(dy.v[i]);
        bnff_graph *graph = new_graph();
        machine m = plan_for(graph, bnff_activate(graph, bnff_input(graph, "image", 1), kind, (float)slope), &x, BNFF_TRAIN);
        float *got_y, *got_dx;
        run(&m, file, "x", "dy", &x, &y, NULL, NULL, &got_y, &got_dx);
        compare(got_y, file, "y", &y, NULL);
        compare(got_dx, file, "dx", &dx, points);
        check_guards();
        free_machine(&m, true);
        FREE(&x, &dy, &y, &dx);
    }
    golden_close(&file);
}

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
        bnff_graph *graph = new_graph();
        bnff_conv_options given = o;
        pad_as_given(given.padding);
        machine m = plan_for(graph, bnff_conv2d(graph, "conv", bnff_input(graph, "image", x.c), &given), &x, BNFF_TRAIN);
        float *params[2] = {(float *)(uintptr_t)golden_f32(file, "weight", NULL, NULL), NULL}, *gradients[2] = {guarded(ref_count(&weight)), NULL}, *got_y, *got_dx;
        if (o.bias) params[1] = (float *)(uintptr_t)golden_f32(file, "bias", NULL, NULL), gradients[1] = guarded(ref_count(&bias));
        run(&m, file, "x", "dy", &x, &y, params, gradients, &got_y, &got_dx);
        compare(got_y, file, "y", &y, NULL);
        compare(got_dx, file, "dx", &dx, NULL);
        compare_vector(gradients[0], file, "dweight", &dweight);
        if (o.bias) compare_vector(gradients[1], file, "dbias", &dbias);
        check_guards();
        free_machine(&m, true);
        FREE(&x, &weight, &dy, &y, &dx, &dweight, &bias, &dbias);
    }
    golden_close(&file);
}

static bnff_conv_transpose_options golden_transposed(const json_t *parameters)
{
    bnff_conv_transpose_options o = {.out_channels = (int)golden_number(parameters, "out_channels"), .groups = (int)golden_number(parameters, "groups"), .bias = golden_flag(parameters, "bias")};
    golden_pair(parameters, "kernel", o.kernel);
    golden_pair(parameters, "stride", o.stride);
    golden_pair(parameters, "padding", o.padding);
    golden_pair(parameters, "output_padding", o.output_padding);
    golden_pair(parameters, "dilation", o.dilation);
    return o;
}

static bnff_resize_options golden_resize(const json_t *parameters)
{
    bnff_resize_options o = {.mode = strcmp(golden_string(parameters, "mode"), "bilinear") ? BNFF_RESIZE_NEAREST : BNFF_RESIZE_BILINEAR, .align_corners = golden_flag(parameters, "align_corners")};
    golden_pair(parameters, "size", o.size);
    for (size_t i = 0; i < 2; i++) o.scale[i] = json_number_value(json_array_get(json_object_get(parameters, "scale"), i));
    return o;
}

/* What one case of moves.safetensors is: its operator in a graph, and the reference's results and bounds. */
static bnff_value moved(const golden *file, const json_t *parameters, bnff_graph *graph, const ref_tensor *x, const ref_tensor *dy, ref_tensor *y, ref_tensor *dx,
                        ref_tensor *weight, ref_tensor *bias, ref_tensor *dweight, ref_tensor *dbias)
{
    const char *kind = golden_string(parameters, "kind");
    const bnff_value in = bnff_input(graph, "image", x->c);
    if (!strcmp(kind, "resize")) {
        const bnff_resize_options o = golden_resize(parameters);
        ref_resize(x, &o, y), ref_resize_backward(x, &o, dy, dx);
        return bnff_resize(graph, in, &o);
    }
    if (!strcmp(kind, "shuffle")) {
        const int groups = (int)golden_number(parameters, "groups");
        ref_shuffle(x, groups, y), ref_shuffle_backward(groups, dy, dx);
        return bnff_channel_shuffle(graph, in, groups);
    }
    if (!strcmp(kind, "adaptive_max")) {
        ref_adaptive_max(x, y), ref_adaptive_max_backward(x, dy, dx);
        return bnff_adaptive_maxpool(graph, in, y->h, y->w);
    }
    bnff_conv_transpose_options o = golden_transposed(parameters);
    *weight = golden_parameter(file, "weight"), *dweight = like(weight);
    if (o.bias) *bias = golden_parameter(file, "bias"), *dbias = like(bias);
    ref_conv_transpose(x, weight, o.bias ? bias : NULL, &o, y);
    ref_conv_transpose_backward(x, weight, &o, dy, dx, dweight, o.bias ? dbias : NULL);
    pad_as_given(o.padding);
    if (o.output_padding[0] && !o.output_padding[1]) o.output_padding[1] = -1;
    return bnff_conv_transpose2d(graph, "up", in, &o);
}

static void moves(void **state)
{
    (void)state;
    golden *file = golden_open("moves");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        ref_tensor x = golden_tensor(file, "x"), dy = golden_tensor(file, "dy"), y = like(&dy), dx = like(&x), weight = {0}, bias = {0}, dweight = {0}, dbias = {0};
        bnff_graph *graph = new_graph();
        machine m = plan_for(graph, moved(file, parameters, graph, &x, &dy, &y, &dx, &weight, &bias, &dweight, &dbias), &x, BNFF_TRAIN);
        float *params[2] = {NULL}, *gradients[2] = {NULL}, *got_y, *got_dx;
        if (weight.v) params[0] = (float *)(uintptr_t)golden_f32(file, "weight", NULL, NULL), gradients[0] = guarded(ref_count(&weight));
        if (bias.v) params[1] = (float *)(uintptr_t)golden_f32(file, "bias", NULL, NULL), gradients[1] = guarded(ref_count(&bias));
        run(&m, file, "x", "dy", &x, &y, params, gradients, &got_y, &got_dx);
        compare(got_y, file, "y", &y, NULL);
        compare(got_dx, file, "dx", &dx, NULL);
        if (weight.v) compare_vector(gradients[0], file, "dweight", &dweight);
        if (bias.v) compare_vector(gradients[1], file, "dbias", &dbias);
        check_guards();
        free_machine(&m, true);
        FREE(&x, &dy, &y, &dx, &weight, &bias, &dweight, &dbias);
    }
    golden_close(&file);
}

/* One step of a batch normalization case. The running statistics of both sides are carried from step to step. */
static void bn_step(golden *file, const json_t *parameters, int step, bool training, bnff_state *state, ref_tensor *mean, ref_tensor *var)
{
    char name[32];
#define STEP(leaf) (snprintf(name, sizeof name, "%s%d", leaf, step), name)
    const bool affine = golden_flag(parameters, "affine");
    ref_tensor x = golden_tensor(file, STEP("x")), dy = golden_tensor(file, STEP("dy")), y = like(&x), dx = like(&x);
    ref_tensor gamma = {0}, beta = {0}, dgamma = {0}, dbeta = {0};
    if (affine) gamma = golden_parameter(file, "weight"), beta = golden_parameter(file, "bias"), dgamma = like(&gamma), dbeta = like(&beta);
    const double eps = (float)golden_number(parameters, "eps"), momentum = golden_number(parameters, "momentum");
    ref_bn_stats stats = {0};
    ref_bn(&x, affine ? &gamma : NULL, affine ? &beta : NULL, mean, var, eps, momentum, training, &stats, &y);
    ref_bn_backward(&x, affine ? &gamma : NULL, &stats, training, &dy, &dx, affine ? &dgamma : NULL, affine ? &dbeta : NULL);

    bnff_graph *graph = new_graph();
    const bnff_batchnorm_options o = {.eps = (float)eps, .momentum = momentum > 0 ? (float)momentum : -1, .no_affine = !affine};
    machine m = plan_for(graph, bnff_batchnorm(graph, "bn", bnff_input(graph, "image", x.c), &o), &x, training ? BNFF_TRAIN : BNFF_EVALUATE);
    float *gradients[4] = {NULL}, *got_y, *got_dx = NULL, *const *params = bnff_state_params(state);
    const int running = affine ? 2 : 0;
    for (int i = 0; affine && i < 2; i++) gradients[i] = guarded((size_t)x.c);
    char dy_name[32];
    snprintf(dy_name, sizeof dy_name, "dy%d", step);
    run(&m, file, STEP("x"), training ? dy_name : NULL, &x, &y, params, gradients, &got_y, &got_dx);
    compare(got_y, file, STEP("y"), &y, NULL);
    compare_vector(params[running], file, STEP("running_mean"), mean);
    compare_vector(params[running + 1], file, STEP("running_var"), var);
    if (training) compare(got_dx, file, STEP("dx"), &dx, NULL);
    if (training && affine) compare_vector(gradients[0], file, STEP("dweight"), &dgamma);
    if (training && affine) compare_vector(gradients[1], file, STEP("dbias"), &dbeta);
    check_guards();
    free_machine(&m, true);
    ref_bn_free(&stats);
    FREE(&x, &dy, &y, &dx, &gamma, &beta, &dgamma, &dbeta);
#undef STEP
}

static void batch_normalization(void **unused)
{
    (void)unused;
    golden *file = golden_open("bn");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const int steps = (int)golden_number(parameters, "steps"), channels = (int)json_integer_value(json_array_get(json_object_get(parameters, "shape"), 1));
        const bool affine = golden_flag(parameters, "affine");
        ref_tensor mean = ref_new(channels, 1, 1, 1), var = ref_new(channels, 1, 1, 1);
        for (int c = 0; c < channels; c++) var.v[c] = 1;
        bnff_graph *graph = new_graph();
        bnff_batchnorm(graph, "bn", bnff_input(graph, "image", channels), &(bnff_batchnorm_options){.no_affine = !affine});
        bnff_state *state;
        bnff_error error;
        check_ok(bnff_state_create(graph, &state, &error), &error);
        for (int p = 0; affine && p < 2; p++) memcpy(bnff_state_params(state)[p], golden_f32(file, p ? "bias" : "weight", NULL, NULL), (size_t)channels * sizeof(float));
        for (int step = 0; step <= steps; step++) bn_step(file, parameters, step, step < steps, state, &mean, &var);
        bnff_state_destroy(&state);
        bnff_graph_destroy(&graph);
        FREE(&mean, &var);
    }
    golden_close(&file);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(pooling), test(activations), test(moves), test(convolutions), test(batch_normalization)};
    return run_all(tests);
}
