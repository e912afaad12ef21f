/* Winograd's algorithms in the step: awkward sizes with every prologue and epilogue, and their error beside that of direct convolutions. */
#include "net.h"
#include "support.h"

#include <bnff/bnff.h>

static const char *const algorithms[] = {"f2", "f2x4", "f4"};

#define CONV3(...) ((bnff_conv_options){.kernel = {3}, __VA_ARGS__})

/* Normalised and activated before, statistics behind, a concat beside, a residual join at the end, then a convolution with a bias. */
static net *block(int in, int width, int padding)
{
    net *n = net_new();
    const int x = net_input(n, in), a = net_conv(n, net_relu(n, net_bn(n, x, NULL)), CONV3(.out_channels = width, .padding = {padding ? padding : -1, padding ? padding : -1}));
    const int b = net_conv(n, net_relu(n, net_bn(n, net_concat(n, (const int[]){a, a}, 2), NULL)), CONV3(.out_channels = width, .padding = {1}));
    const int c = net_act(n, net_add(n, net_bn(n, b, NULL), a), BNFF_SILU, 0);
    net_output(n, net_conv(n, c, CONV3(.out_channels = 3, .padding = {1}, .bias = true)));
    net_output(n, c);
    return n;
}

static void awkward_sizes(void **state)
{
    (void)state;
    static const struct { int batch, h, w, in, width, padding; } cases[] = {
        {4, 1, 1, 19, 5, 1}, {1, 2, 3, 17, 37, 1}, {3, 7, 7, 33, 16, 1}, {1, 13, 17, 16, 19, 1}, {2, 6, 5, 31, 7, 2}, {2, 5, 9, 23, 3, 3}, {1, 8, 4, 64, 11, 1},
    };
    FOR_EACH(k, cases) FOR_EACH(algorithm, algorithms) {
        test_case("%d images of %dx%dx%d, padding %d, width %d", k.batch, k.h, k.w, k.in, k.padding, k.width);
        net *n = block(k.in, k.width, k.padding);
        net_check(n, &(net_setup){.batch = k.batch, .height = k.h, .width = k.w, .algorithm = algorithm});
        net_free(&n);
    }
}

/* Groups of more and of fewer channels than a block, and no padding. */
static void groups(void **state)
{
    (void)state;
    static const struct { int c, oc, groups; } cases[] = {{64, 64, 2}, {48, 24, 3}, {40, 80, 8}, {12, 12, 4}};
    FOR_EACH(k, cases) FOR_EACH(algorithm, algorithms) {
        test_case("%d channels to %d in %d groups", k.c, k.oc, k.groups);
        net *n = net_new();
        net_output(n, net_conv(n, net_relu(n, net_bn(n, net_input(n, k.c), NULL)), CONV3(.out_channels = k.oc, .groups = k.groups)));
        net_check(n, &(net_setup){.batch = 2, .height = 6, .width = 9, .algorithm = algorithm});
        net_free(&n);
    }
}

/* -- Error beside direct ------------------------------------------------------------------------------------------------- */

enum { N = 4, SIDE = 14, PIXELS = N * SIDE * SIDE };

typedef struct results { float *y, *dx, *dw; } results;

/* One step of a single convolution. */
static results run_conv(const char *algorithm, int C, int OC, const float *x, const float *w, const float *dy)
{
    bnff_error error;
    bnff_graph *graph;
    bnff_context *context;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    const results r = {guarded((size_t)(PIXELS * OC)), guarded((size_t)(PIXELS * C)), guarded((size_t)(9 * C * OC))};
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_output(graph, bnff_conv2d(graph, "conv", bnff_input(graph, "x", C), &CONV3(.out_channels = OC, .padding = {1})));
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 2}, &context, &error), &error);
    const bnff_plan_options options = {.size = sizeof options, .batch = N, .height = SIDE, .width = SIDE, .mode = BNFF_TRAIN, .algorithm = algorithm, .input_gradients = true};
    check_ok(bnff_plan_create(context, graph, &options, &plan, &error), &error);
    check_ok(bnff_pool_create(context, &pool, &error), &error);
    check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
    const bnff_tensor in = bnff_nhwc((float *)x, SIDE, SIDE, C), given = bnff_nhwc((float *)dy, SIDE, SIDE, OC);
    bnff_tensor out = bnff_nhwc(r.y, SIDE, SIDE, OC), in_gradient = bnff_nhwc(r.dx, SIDE, SIDE, C);
    float *params[] = {(float *)w}, *gradients[] = {r.dw};
    check_ok(bnff_forward(run, &(bnff_forward_args){.size = sizeof(bnff_forward_args), .inputs = &in, .outputs = &out, .params = params}, &error), &error);
    check_ok(bnff_backward(run, &(bnff_backward_args){.size = sizeof(bnff_backward_args), .output_gradients = &given, .param_gradients = gradients,
                                                      .input_gradients = &in_gradient}, &error), &error);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    bnff_context_destroy(&context);
    bnff_graph_destroy(&graph);
    return r;
}

static double distance(const float *got, const ref_tensor *want)
{
    double sum = 0;
    for (size_t i = 0; i < ref_count(want); i++) sum += (got[i] - want->v[i]) * (got[i] - want->v[i]);
    return sqrt(sum);
}

static ref_tensor random_tensor(int n, int h, int w, int c, float **values, bool relu)
{
    ref_tensor t = ref_new(n, h, w, c);
    *values = guarded(ref_count(&t));
    for (size_t i = 0; i < ref_count(&t); i++) {
        const float v = (float)random_normal();
        t.v[i] = (*values)[i] = relu && v < 0 ? 0 : v;
    }
    return t;
}

/* rms errors of y, dx and dw over those of the direct algorithm. */
static void compare_errors(int C, int OC, const char *const *names, const double *most, int count)
{
    float *x, *w, *dy;
    test_case("error beside direct, %d to %d channels", C, OC);
    ref_tensor rx = random_tensor(N, SIDE, SIDE, C, &x, true), rw = random_tensor(OC, C, 3, 3, &w, false), rdy = random_tensor(N, SIDE, SIDE, OC, &dy, false);
    ref_tensor ry = ref_new(N, SIDE, SIDE, OC), rdx = ref_new(N, SIDE, SIDE, C), rdw = ref_new(OC, C, 3, 3);
    const bnff_conv_options o = {.out_channels = OC, .kernel = {3, 3}, .stride = {1, 1}, .padding = {1, 1}, .dilation = {1, 1}, .groups = 1};
    ref_conv(&rx, &rw, NULL, &o, &ry);
    ref_conv_backward(&rx, &rw, &o, &rdy, &rdx, &rdw, NULL);
    const results direct = run_conv("direct", C, OC, x, w, dy);
    for (int i = 0; i < count; i++) {
        const results r = run_conv(names[i], C, OC, x, w, dy);
        const double y = distance(r.y, &ry) / distance(direct.y, &ry), dx = distance(r.dx, &rdx) / distance(direct.dx, &rdx);
        const double dw = distance(r.dw, &rdw) / distance(direct.dw, &rdw);
        printf("# %d to %d channels, %s: error over direct: y %.2f, dx %.2f, dw %.2f\n", C, OC, names[i], y, dx, dw);
        assert_true(y <= most[i] && dx <= most[i] && dw <= most[i]);
    }
    ref_tensor *all[] = {&rx, &rw, &rdy, &ry, &rdx, &rdw};
    FOR_EACH(t, all) ref_free(t);
    check_guards();
}

/* The figures that the choice of algorithms rests on (docs/decisions.md). */
static void error_beside_direct(void **state)
{
    (void)state;
    static const double most[] = {1, 1.5, 2.5};
    compare_errors(16, 16, algorithms, most, 1); /* of so few channels a direct sum is short */
    compare_errors(64, 48, algorithms, most, 3);
    compare_errors(128, 32, algorithms, most, 3);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(awkward_sizes), test(groups), test(error_beside_direct)};
    setenv("BNFF_VERIFY", "1", 1);
    return run_all(tests);
}
