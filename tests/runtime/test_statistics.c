/* One-sweep statistics (docs/math.md 3), wherever they are summed: the variance of every channel is within 1e-3 of a two-pass float64 reference
 * for |mean| up to 1e4 standard deviations, never negative, never NaN. Every operator before the BN passes its input on unchanged, bit for bit, so
 * that the reference is known; momentum 1 makes the running statistics those of the batch. */
#include <bnff/model.h>
#include <bnff/plan.h>

#include "support.h"

enum { C = 36 };

/* -- data: one kind a channel -- */

static float bf16(double x)
{
    float f = (float)x;
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    bits = (bits + 0x8000) & 0xffff0000u;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static float sample(int channel, size_t pixel, size_t pixels)
{
    const double z = random_normal(), third = (double)(3 * pixel / pixels); /* 0, 1, 2 as the map goes on */
    switch (channel % 12) {
    case 0:  return (float)z;
    case 1:  return (float)(1e4 + z);
    case 2:  return (float)(-1e4 + z);
    case 3:  return bf16(5 + 0.1 * z);
    case 4:  return (float)(1e-3 * (1e4 + z));
    case 5:  return (float)(1e12 * (-1e4 + z));
    case 6:  return (float)(1e-12 * (1e4 + z));
    case 7:  return -7.3f;                                    /* no variance at all */
    case 8:  return (float)(1e4 + third * 1e3 + z);           /* a mean that drifts away from any pivot */
    case 9:  return pixel ? (float)(1e4 + z) : 0;             /* the first value is nothing like the others */
    case 10: return (float)(pixel % 2 ? 1e4 + 1 : 1e4 - 1);
    default: return (float)fmax(0, z);                        /* behind a ReLU */
    }
}

/* -- networks: x passes through unchanged -- */

static void identity_weights(float *weight, int channels, int taps, int centre, bool depthwise)
{
    for (int c = 0; c < channels; c++) weight[depthwise ? c * taps + centre : (c * channels + c) * taps + centre] = 1;
}

typedef enum route { ALONE, CONV1, CONV3, DEPTHWISE, POOL, JOIN, CONCAT, ROUTES } route;
static const char *const route_names[ROUTES] = {"alone", "behind a 1x1", "behind a 3x3", "behind a depthwise", "behind a pool", "behind a join", "of a concatenation"};

static bnff_value pass(bnff_graph *g, route by, bnff_value x)
{
    const bnff_conv_options one = {.out_channels = C}, three = {.out_channels = C, .kernel = {3}, .padding = {1}};
    switch (by) {
    case CONV1:     return bnff_conv2d(g, "conv", x, &one);
    case CONV3:     return bnff_conv2d(g, "conv", x, &three);
    case DEPTHWISE: return bnff_conv2d(g, "conv", x, &(bnff_conv_options){.out_channels = C, .kernel = {3}, .padding = {1}, .groups = C});
    case POOL:      return bnff_maxpool(g, x, &(bnff_pool_options){.kernel = {1}});
    case JOIN:      return bnff_add(g, bnff_conv2d(g, "zero", x, &one), bnff_conv2d(g, "conv", x, &one));
    case CONCAT:    return bnff_concat(g, (const bnff_value[]){bnff_slice(g, bnff_conv2d(g, "conv", x, &one), 0, 20), bnff_slice(g, x, 20, C - 20)}, 2);
    default:        return x;
    }
}

static bnff_graph *build(route by)
{
    bnff_graph *g;
    bnff_error error;
    check_ok(bnff_graph_create(&g, &error), &error);
    const bnff_value x = pass(g, by, bnff_input(g, "x", C));
    bnff_output(g, bnff_relu(g, bnff_batchnorm(g, "bn", x, &(bnff_batchnorm_options){.eps = 1e-5f, .momentum = 1})));
    check_ok(bnff_graph_status(g, &error), &error);
    return g;
}

static void set_weights(const bnff_graph *g, route by, float *const *params)
{
    bnff_param_info info;
    for (int p = 0; bnff_graph_param(g, p, &info); p++)
        if (!strcmp(info.name, "conv.weight")) {
            const int taps = by == CONV3 || by == DEPTHWISE ? 9 : 1;
            identity_weights(params[p], C, taps, taps / 2, by == DEPTHWISE);
        }
}

/* -- comparing -- */

static void check_channel(const float *x, size_t pixels, int c, double mean, double unbiased)
{
    double m = 0, v = 0, largest = 0;
    for (size_t i = 0; i < pixels; i++) m += x[i * C + (size_t)c] / (double)pixels, largest = fmax(largest, fabs(x[i * C + (size_t)c]));
    for (size_t i = 0; i < pixels; i++) v += (x[i * C + (size_t)c] - m) * (x[i * C + (size_t)c] - m) / (double)pixels;
    const double var = unbiased * (double)(pixels - 1) / (double)pixels, std = sqrt(v);
    char what[64];
    snprintf(what, sizeof what, "channel %d, mean %.3g std %.3g", c, m, std);
    assert_true(isfinite(unbiased) && unbiased >= 0);
    support_close(mean, m, FLT_EPSILON * largest, what, c, __FILE__, __LINE__); /* the running mean is a float */
    const double noise = FLT_EPSILON * largest; /* of a mean that is a float; counts where there is no variance */
    support_close(var, v, 1e-3 * v + noise * noise, what, c, __FILE__, __LINE__);
}

static void check_plan(bnff_context *context, const bnff_graph *g, route by, const char *level, int cells, int n, int h, int w, float *x)
{
    bnff_error error;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    bnff_state *state;
    bnff_param_info info;
    const size_t pixels = (size_t)n * (size_t)h * (size_t)w;
    float *y = guarded(pixels * C);
    const bnff_plan_options options = {.size = sizeof options, .batch = n, .height = h, .width = w, .mode = BNFF_TRAIN, .level = level, .cells = cells};
    check_ok(bnff_plan_create(context, g, &options, &plan, &error), &error);
    check_ok(bnff_pool_create(context, &pool, &error), &error);
    check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
    check_ok(bnff_state_create(g, &state, &error), &error);
    set_weights(g, by, bnff_state_params(state));
    const bnff_tensor in = bnff_nhwc(x, h, w, C);
    bnff_tensor out = bnff_nhwc(y, h, w, C);
    const bnff_forward_args args = {.size = sizeof args, .inputs = &in, .outputs = &out, .params = bnff_state_params(state)};
    check_ok(bnff_forward(run, &args, &error), &error);
    const float *mean = NULL, *var = NULL;
    for (int p = 0; bnff_graph_param(g, p, &info); p++) {
        if (strstr(info.name, "running_mean")) mean = bnff_state_params(state)[p];
        if (strstr(info.name, "running_var")) var = bnff_state_params(state)[p];
    }
    for (int c = 0; c < C; c++) check_channel(x, pixels, c, mean[c], var[c]);
    bnff_state_destroy(&state);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    check_guards();
}

static void check_route(route by)
{
    static const struct { int n, h, w; } maps[] = {{2, 1, 1}, {3, 7, 5}, {1, 13, 64}, {4, 56, 56}};
    static const int cells[] = {1, 2, 7, 64};
    bnff_error error;
    bnff_context *context;
    bnff_graph *g = build(by);
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 2}, &context, &error), &error);
    FOR_EACH(map, maps) {
        const size_t pixels = (size_t)map.n * (size_t)map.h * (size_t)map.w;
        test_case("%s, %d maps of %dx%d", route_names[by], map.n, map.h, map.w);
        float *x = malloc(pixels * C * sizeof *x);
        for (size_t i = 0; i < pixels * C; i++) x[i] = sample((int)(i % C), i / C, pixels);
        for (int l = 0; bnff_level_name(l); l++) {
            const int count = cells[(l + map_at) % (int)COUNT_OF(cells)];
            test_case("%s, %d maps of %dx%d, level=%s cells=%d", route_names[by], map.n, map.h, map.w, bnff_level_name(l), count);
            check_plan(context, g, by, bnff_level_name(l), count, map.n, map.h, map.w, x);
        }
        free(x);
    }
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
}

static void alone(void **state) { (void)state; check_route(ALONE); }
static void behind_convolutions(void **state) { (void)state; check_route(CONV1), check_route(CONV3), check_route(DEPTHWISE); }
static void behind_pools(void **state) { (void)state; check_route(POOL); }
static void behind_joins(void **state) { (void)state; check_route(JOIN); }
static void of_concatenations(void **state) { (void)state; check_route(CONCAT); }

int main(void)
{
    static const struct CMUnitTest tests[] = {test(alone), test(behind_convolutions), test(behind_pools), test(behind_joins), test(of_concatenations)};
    return run_all(tests);
}
