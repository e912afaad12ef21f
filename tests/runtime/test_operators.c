/* Every operator, forward and backward, on awkward shapes, against float64 (net.h: all levels, instruction sets, cells, layouts). */
#include "net.h"
#include "support.h"

/* -- Convolution --------------------------------------------------------------------------------------------------- */

typedef struct conv_case { int batch, c, h, w; bnff_conv_options o; } conv_case;

static void check_conv(const conv_case *k)
{
    const bnff_conv_options *o = &k->o;
    test_case("conv %dx%dx%dx%d to %d, kernel %dx%d stride %dx%d padding %dx%d dilation %dx%d groups %d%s", k->batch, k->h, k->w, k->c, o->out_channels,
              o->kernel[0], o->kernel[1], o->stride[0], o->stride[1], o->padding[0], o->padding[1], o->dilation[0], o->dilation[1], o->groups, o->bias ? " bias" : "");
    net *n = net_new();
    net_output(n, net_conv(n, net_input(n, k->c), *o));
    net_check(n, &(net_setup){.batch = k->batch, .height = k->h, .width = k->w});
    net_free(&n);
}

static void conv_1x1(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {1, 1, 1, 1, {.out_channels = 1}},
        {2, 3, 4, 5, {.out_channels = 17, .bias = true}},
        {3, 33, 7, 3, {.out_channels = 67}},
        {1, 64, 1, 1, {.out_channels = 32, .bias = true}},
        {5, 17, 1, 3, {.out_channels = 3}},
        {2, 5, 7, 6, {.out_channels = 4, .stride = {2}}},
        {2, 16, 5, 5, {.out_channels = 16, .stride = {3, 2}}},
        {1, 3, 4, 4, {.out_channels = 8, .padding = {1}}},
    };
    FOR_EACH(k, cases) check_conv(&k);
}

static void conv_3x3(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {1, 1, 1, 1, {.out_channels = 1, .kernel = {3}, .padding = {1}}},
        {2, 3, 5, 7, {.out_channels = 17, .kernel = {3}, .padding = {1}, .bias = true}},
        {1, 33, 3, 11, {.out_channels = 16, .kernel = {3}, .padding = {1}}},
        {2, 17, 13, 2, {.out_channels = 33, .kernel = {3}, .padding = {1}}},
        {1, 67, 4, 4, {.out_channels = 3, .kernel = {3}, .padding = {1}}},
        {1, 4, 3, 3, {.out_channels = 5, .kernel = {3}}},
        {2, 8, 7, 8, {.out_channels = 9, .kernel = {3}, .stride = {2}, .padding = {1}}},
        {1, 16, 8, 7, {.out_channels = 32, .kernel = {3}, .stride = {2}, .padding = {1}}},
        {1, 3, 11, 10, {.out_channels = 7, .kernel = {3}, .stride = {3}, .padding = {2}}},
        {1, 3, 9, 9, {.out_channels = 16, .kernel = {3}, .padding = {2}, .dilation = {2}, .bias = true}},
        {1, 5, 6, 7, {.out_channels = 3, .kernel = {3}, .padding = {3}, .dilation = {3}}},
        {1, 2, 40, 37, {.out_channels = 3, .kernel = {3}, .padding = {1}}},
    };
    FOR_EACH(k, cases) check_conv(&k);
}

static void conv_other_kernels(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {2, 3, 17, 15, {.out_channels = 16, .kernel = {7}, .stride = {2}, .padding = {3}}},
        {1, 3, 8, 8, {.out_channels = 4, .kernel = {7}, .stride = {2}, .padding = {3}, .bias = true}},
        {1, 2, 2, 2, {.out_channels = 3, .kernel = {5}, .padding = {2}}},
        {1, 3, 6, 7, {.out_channels = 5, .kernel = {3, 2}, .stride = {2, 1}, .padding = {1, -1}, .dilation = {1, 3}, .bias = true}},
        {1, 4, 3, 9, {.out_channels = 4, .kernel = {1, 7}, .padding = {0, 3}}},
        {1, 4, 9, 3, {.out_channels = 4, .kernel = {7, 1}, .padding = {3, -1}}},
        {1, 17, 2, 2, {.out_channels = 16, .kernel = {2}, .stride = {2}}},
        {1, 3, 5, 5, {.out_channels = 3, .kernel = {4}, .stride = {3}, .padding = {1}}},
        {2, 3, 11, 11, {.out_channels = 6, .kernel = {11}, .stride = {4}, .padding = {2}}},
        {1, 1, 3, 3, {.out_channels = 2, .kernel = {1}, .stride = {5}}},
    };
    FOR_EACH(k, cases) check_conv(&k);
}

static void conv_groups(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {2, 6, 5, 4, {.out_channels = 4, .kernel = {3}, .padding = {1}, .groups = 2, .bias = true}},
        {1, 32, 4, 5, {.out_channels = 32, .kernel = {3}, .padding = {1}, .groups = 8}},   /* resnext: groups of four */
        {1, 64, 5, 3, {.out_channels = 64, .kernel = {3}, .stride = {2}, .padding = {1}, .groups = 16}},
        {1, 34, 3, 3, {.out_channels = 34, .groups = 2, .bias = true}},                     /* groups of 17 */
        {1, 66, 3, 4, {.out_channels = 6, .kernel = {3}, .padding = {1}, .groups = 2}},     /* 33 to 3 */
        {2, 9, 4, 4, {.out_channels = 15, .groups = 3}},
        {2, 12, 5, 9, {.out_channels = 12, .kernel = {3}, .padding = {1}, .groups = 6, .bias = true}},  /* groups of two */
        {1, 40, 7, 8, {.out_channels = 40, .kernel = {3}, .stride = {2}, .padding = {1}, .groups = 5, .bias = true}}, /* of eight; a short block */
        {1, 48, 4, 6, {.out_channels = 48, .kernel = {3}, .padding = {1}, .groups = 3}},                 /* of sixteen */
        {1, 36, 6, 5, {.out_channels = 36, .kernel = {5, 3}, .stride = {1, 2}, .padding = {2, 1}, .groups = 9}},
        {1, 16, 6, 7, {.out_channels = 16, .kernel = {3}, .padding = {2}, .dilation = {2}, .groups = 4}},
        {1, 16, 5, 5, {.out_channels = 16, .groups = 4}},                                               /* 1x1 */
    };
    FOR_EACH(k, cases) check_conv(&k);
}

static void conv_depthwise(void **state)
{
    (void)state;
    static const conv_case cases[] = {
        {1, 1, 3, 3, {.out_channels = 1, .kernel = {3}, .padding = {1}, .groups = 1}},
        {2, 17, 5, 6, {.out_channels = 17, .kernel = {3}, .padding = {1}, .groups = 17, .bias = true}},
        {1, 33, 7, 5, {.out_channels = 33, .kernel = {3}, .stride = {2}, .padding = {1}, .groups = 33}},
        {1, 3, 5, 5, {.out_channels = 6, .kernel = {3}, .padding = {1}, .groups = 3}},      /* two outputs a channel */
        {1, 16, 4, 4, {.out_channels = 16, .kernel = {5}, .stride = {2}, .padding = {2}, .groups = 16}},
        {1, 8, 6, 6, {.out_channels = 8, .kernel = {3}, .padding = {2}, .dilation = {2}, .groups = 8}},
        {1, 8, 9, 16, {.out_channels = 8, .kernel = {7}, .padding = {3}, .groups = 8, .bias = true}},
        {2, 5, 6, 9, {.out_channels = 5, .kernel = {2}, .stride = {3}, .groups = 5, .bias = true}},     /* rows and columns nobody sees */
        {1, 4, 3, 2, {.out_channels = 4, .kernel = {3}, .padding = {4}, .groups = 4, .bias = true}},    /* outputs that see nothing */
        {1, 4, 8, 8, {.out_channels = 4, .kernel = {4, 3}, .stride = {2, 3}, .padding = {1, 2}, .dilation = {1, 2}, .groups = 4}},
    };
    FOR_EACH(k, cases) check_conv(&k);
}

/* -- Batch normalization -------------------------------------------------------------------------------------------- */

static void bn_alone(void **state)
{
    (void)state;
    static const struct { int batch, h, w, c; bnff_batchnorm_options o; double mean; } cases[] = {
        {2, 3, 5, 1, {0}, 0},
        {1, 1, 2, 3, {0}, 0},                     /* two values a channel */
        {3, 7, 5, 17, {.eps = 1e-3f, .momentum = 0.01f}, 0.5},
        {2, 3, 3, 33, {.no_affine = true}, -2},
        {1, 5, 7, 67, {.momentum = 1}, 0},
        {4, 2, 2, 16, {.momentum = -1}, 0},
        {5, 9, 11, 3, {0}, 1e4},                  /* |mean| = 1e4 deviations: math.md 3 */
        {2, 30, 31, 5, {0}, 1},                   /* more values than one sum takes */
    };
    FOR_EACH(k, cases) {
        test_case("bn %dx%dx%dx%d eps=%g momentum=%g mean=%g", k.batch, k.h, k.w, k.c, k.o.eps, k.o.momentum, k.mean);
        net *n = net_new();
        net_output(n, net_bn(n, net_input(n, k.c), &k.o));
        net_check(n, &(net_setup){.batch = k.batch, .height = k.h, .width = k.w, .mean = k.mean});
        net_check(n, &(net_setup){.batch = k.batch, .height = k.h, .width = k.w, .mean = k.mean, .evaluate = true});
        net_free(&n);
    }
}

static void bn_frozen(void **state)
{
    (void)state;
    for (int params = 0; params < 2; params++) {
        test_case("frozen bn, its parameters %s", params ? "too" : "train");
        net *n = net_new();
        int x = net_conv(n, net_input(n, 3), (bnff_conv_options){.out_channels = 19, .kernel = {3}, .padding = {1}});
        x = net_bn(n, x, NULL);
        net_freeze_stats(n, x);
        if (params) net_freeze_params(n, x);
        x = net_bn(n, net_conv(n, net_relu(n, x), (bnff_conv_options){.out_channels = 8}), NULL);
        net_output(n, x);
        net_check(n, &(net_setup){.batch = 2, .height = 5, .width = 4});
        net_check(n, &(net_setup){.batch = 1, .height = 1, .width = 2});
        net_free(&n);
    }
}

/* -- Activations, pooling, the rest --------------------------------------------------------------------------------- */

static void activations(void **state)
{
    (void)state;
    static const struct { bnff_activation kind; float slope; } kinds[] = {
        {BNFF_IDENTITY, 0}, {BNFF_RELU, 0}, {BNFF_RELU6, 0}, {BNFF_LEAKY_RELU, 0.1f}, {BNFF_LEAKY_RELU, -0.5f}, {BNFF_SILU, 0}, {BNFF_HARDSWISH, 0},
        {BNFF_SIGMOID, 0}, {BNFF_HARDSIGMOID, 0}, {BNFF_TANH, 0}, {BNFF_GELU, 0}, {BNFF_ELU, 1}, {BNFF_ELU, 0.3f}, {BNFF_MISH, 0},
    };
    static const int channels[] = {1, 17, 35};
    FOR_EACH(k, kinds) FOR_EACH(c, channels) {
        test_case("activation %d slope %g, %d channels", (int)k.kind, k.slope, c);
        net *n = net_new();
        net_output(n, net_act(n, net_input(n, c), k.kind, k.slope));
        net_check(n, &(net_setup){.batch = 2, .height = 3, .width = 5, .mean = 0.5});
        net_free(&n);
    }
    FOR_EACH(k, kinds) { /* behind a batch normalization and before a convolution: where levels fuse them */
        test_case("bn, activation %d slope %g, conv", (int)k.kind, k.slope);
        net *n = net_new();
        const int x = net_act(n, net_bn(n, net_input(n, 19), NULL), k.kind, k.slope);
        net_output(n, net_conv(n, x, (bnff_conv_options){.out_channels = 5, .kernel = {3}, .padding = {1}}));
        net_check(n, &(net_setup){.batch = 2, .height = 4, .width = 5});
        net_free(&n);
    }
}

static void pooling(void **state)
{
    (void)state;
    static const struct { int h, w; bnff_pool_options o; } cases[] = {
        {4, 6, {.kernel = {2}}},
        {5, 7, {.kernel = {2}, .ceil_mode = true}},
        {7, 8, {.kernel = {3}, .stride = {2}, .padding = {1}}},
        {8, 9, {.kernel = {3}, .stride = {2}, .padding = {1}, .ceil_mode = true}},
        {6, 6, {.kernel = {3}, .stride = {2}, .ceil_mode = true}},
        {5, 5, {.kernel = {3}, .stride = {1}, .padding = {1}}},
        {7, 5, {.kernel = {2, 3}, .stride = {3, 1}, .padding = {1, -1}, .ceil_mode = true}},
        {5, 5, {.kernel = {2}, .stride = {3}, .padding = {1}, .ceil_mode = true}},
        {1, 1, {.kernel = {1}}},
        {5, 4, {.kernel = {1}, .stride = {2}}},
        {1, 1, {.kernel = {5}, .padding = {2}, .ceil_mode = true}},
        {23, 3, {.kernel = {7, 3}, .stride = {2, 1}}},
        {2, 1, {.kernel = {3, 2}, .stride = {2}, .ceil_mode = true}},
    };
    static const int channels[] = {3, 33};
    FOR_EACH(k, cases) FOR_EACH(c, channels) for (int kind = 0; kind < 3; kind++) {
        bnff_pool_options o = k.o;
        o.exclude_pad = kind == 2;
        test_case("%s %dx%d %d channels, kernel %dx%d stride %d padding %d%s", kind == 0 ? "maxpool" : kind == 1 ? "avgpool" : "avgpool without padding",
                  k.h, k.w, c, o.kernel[0], o.kernel[1], o.stride[0], o.padding[0], o.ceil_mode ? " ceil" : "");
        net *n = net_new();
        const int x = net_input(n, c);
        net_output(n, kind == 0 ? net_maxpool(n, x, o) : net_avgpool(n, x, o));
        net_check(n, &(net_setup){.batch = 2, .height = k.h, .width = k.w, .mean = kind ? 1 : 0});
        net_free(&n);
    }
    test_case("dilated maxpool");
    net *n = net_new();
    net_output(n, net_maxpool(n, net_input(n, 5), (bnff_pool_options){.kernel = {3, 2}, .stride = {1, 2}, .padding = {0, 1}, .dilation = {2, 3}}));
    net_check(n, &(net_setup){.batch = 2, .height = 9, .width = 7});
    net_free(&n);
}

static void pooling_to_a_size(void **state)
{
    (void)state;
    static const struct { int h, w, oh, ow; } cases[] = {{5, 3, 1, 1}, {5, 7, 2, 3}, {2, 2, 3, 3}, {10, 9, 7, 7}, {4, 5, 4, 5}, {1, 1, 1, 1}};
    FOR_EACH(k, cases) for (int global = 0; global < 2; global++) {
        test_case("%s %dx%d to %dx%d", global ? "global" : "adaptive", k.h, k.w, k.oh, k.ow);
        net *n = net_new();
        const int x = net_input(n, 17);
        net_output(n, net_adaptive_max(n, x, k.oh, k.ow));
        net_output(n, global ? net_global(n, x) : net_adaptive(n, x, k.oh, k.ow));
        net_check(n, &(net_setup){.batch = 3, .height = k.h, .width = k.w});
        net_free(&n);
    }
}

static void linear(void **state)
{
    (void)state;
    static const struct { int batch, c, h, w, out; bool bias; } cases[] = {
        {1, 1, 1, 1, 1, true}, {3, 17, 1, 1, 5, true}, {2, 5, 2, 3, 33, false}, {7, 64, 1, 1, 10, true}, {2, 3, 7, 7, 67, true}, {16, 67, 1, 1, 16, false},
    };
    FOR_EACH(k, cases) {
        test_case("linear %d x (%d,%d,%d) to %d%s", k.batch, k.c, k.h, k.w, k.out, k.bias ? " bias" : "");
        net *n = net_new();
        net_output(n, net_linear(n, net_adaptive(n, net_input(n, k.c), k.h, k.w), k.out, k.bias));
        net_check(n, &(net_setup){.batch = k.batch, .height = k.h, .width = k.w});
        net_free(&n);
    }
    test_case("linear, relu, linear");
    net *n = net_new();
    net_output(n, net_linear(n, net_relu(n, net_linear(n, net_global(n, net_input(n, 9)), 21, true)), 4, true));
    net_check(n, &(net_setup){.batch = 5, .height = 3, .width = 2});
    net_free(&n);
}

static void add_and_gate(void **state)
{
    (void)state;
    static const int channels[] = {1, 16, 35};
    FOR_EACH(c, channels) {
        test_case("add, %d channels", c);
        net *n = net_new();
        int x = net_input(n, c), y = net_input(n, c);
        net_output(n, net_add(n, x, y));
        net_check(n, &(net_setup){.batch = 2, .height = 3, .width = 5});
        net_free(&n);
        test_case("gate, %d channels", c);
        n = net_new();
        x = net_input(n, c);
        y = net_act(n, net_linear(n, net_relu(n, net_linear(n, net_global(n, x), 3, true)), c, true), BNFF_SIGMOID, 0);
        net_output(n, net_gate(n, x, y));
        net_check(n, &(net_setup){.batch = 2, .height = 3, .width = 5});
        net_free(&n);
    }
    test_case("a value added to itself");
    net *n = net_new();
    const int x = net_input(n, 7);
    net_output(n, net_add(n, x, x));
    net_check(n, &(net_setup){.batch = 1, .height = 2, .width = 3});
    net_free(&n);
}

static void products_and_scales(void **state)
{
    (void)state;
    static const int channels[] = {1, 16, 35};
    FOR_EACH(c, channels) {
        test_case("mul, %d channels", c);
        net *n = net_new();
        int x = net_input(n, c), y = net_input(n, c);
        net_output(n, net_mul(n, x, y));
        net_output(n, net_mul(n, net_relu(n, x), net_act(n, net_bn(n, y, NULL), BNFF_SIGMOID, 0)));
        net_check(n, &(net_setup){.batch = 2, .height = 3, .width = 5});
        net_free(&n);
        for (int kind = 0; kind < 8; kind++) {
            const bnff_scale_options o = {.weight = kind & 1, .bias = kind & 2, .factor = kind & 4 ? -0.75f : 0, .offset = kind & 4 ? 3 : 0};
            test_case("scale, %d channels%s%s factor %g offset %g", c, o.weight ? ", weight" : "", o.bias ? ", bias" : "", o.factor, o.offset);
            n = net_new();
            x = net_scale(n, net_conv(n, net_input(n, 3), (bnff_conv_options){.out_channels = c}), o);
            net_output(n, net_conv(n, net_relu(n, x), (bnff_conv_options){.out_channels = 5, .kernel = {3}, .padding = {1}}));
            net_check(n, &(net_setup){.batch = 2, .height = 3, .width = 4});
            if (kind == 3) {
                net_freeze_one(n, x, c == 1);
                net_check(n, &(net_setup){.batch = 1, .height = 1, .width = 1});
            }
            net_free(&n);
        }
    }
    test_case("a square, and a difference");
    net *n = net_new();
    const int x = net_input(n, 7), y = net_act(n, x, BNFF_SILU, 0);
    net_output(n, net_mul(n, x, x));
    net_output(n, net_add(n, x, net_scale(n, y, (bnff_scale_options){.factor = -1})));
    net_check(n, &(net_setup){.batch = 1, .height = 2, .width = 3});
    net_free(&n);
}

static void inputs_of_other_sizes(void **state)
{
    (void)state;
    test_case("a gate that comes from outside, an input of half the size, a linear layer on an image");
    net *n = net_new();
    const int x = net_input(n, 19), gate = net_input_sized(n, 19, 1, 1), half = net_input_planned(n, 5, 3, 4), fixed = net_input_sized(n, 3, 2, 5);
    const int gated = net_gate(n, x, gate), pooled = net_maxpool(n, gated, (bnff_pool_options){.kernel = {2}});
    const int parts[2] = {pooled, net_relu(n, half)};
    net_output(n, net_conv(n, net_concat(n, parts, 2), (bnff_conv_options){.out_channels = 17, .kernel = {3}, .padding = {1}}));
    net_output(n, net_linear(n, net_relu(n, fixed), 11, true));
    net_check(n, &(net_setup){.batch = 3, .height = 6, .width = 8});
    net_check(n, &(net_setup){.batch = 1, .height = 6, .width = 8, .evaluate = true});
    net_free(&n);
    test_case("all inputs of fixed sizes");
    n = net_new();
    net_output(n, net_relu(n, net_input_sized(n, 5, 3, 2)));
    net_check(n, &(net_setup){.batch = 2});
    net_free(&n);
}

static void transposed_convolutions(void **state)
{
    (void)state;
    static const struct { int batch, c, h, w; bnff_conv_transpose_options o; } cases[] = {
        {1, 1, 1, 1, {.out_channels = 1}},
        {2, 5, 3, 4, {.out_channels = 17, .kernel = {2}, .stride = {2}, .bias = true}},
        {1, 33, 3, 2, {.out_channels = 16, .kernel = {3}, .stride = {2}, .padding = {1}, .output_padding = {1}}},
        {2, 17, 4, 3, {.out_channels = 35, .kernel = {4}, .stride = {2}, .padding = {1}, .bias = true}},
        {1, 3, 5, 4, {.out_channels = 7, .kernel = {3}, .padding = {1}}},
        {1, 4, 3, 3, {.out_channels = 6, .kernel = {3, 2}, .stride = {1, 3}, .padding = {2, -1}, .output_padding = {0, 2}, .dilation = {2, 1}}},
        {1, 6, 2, 3, {.out_channels = 4, .kernel = {2}, .stride = {3}, .bias = true}},   /* pixels that nothing reaches */
        {1, 6, 3, 2, {.out_channels = 9, .kernel = {3}, .stride = {2}, .groups = 3, .bias = true}},
        {2, 17, 3, 3, {.out_channels = 17, .kernel = {4}, .stride = {2}, .padding = {1}, .groups = 17, .bias = true}}, /* depthwise */
        {3, 8, 1, 1, {.out_channels = 5, .kernel = {4, 3}}},
    };
    FOR_EACH(k, cases) {
        test_case("transposed conv %dx%dx%dx%d to %d, kernel %d stride %d", k.batch, k.h, k.w, k.c, k.o.out_channels, k.o.kernel[0], k.o.stride[0]);
        net *n = net_new();
        net_output(n, net_conv_transpose(n, net_input(n, k.c), k.o));
        net_check(n, &(net_setup){.batch = k.batch, .height = k.h, .width = k.w});
        net_free(&n);
    }
    for (int frozen = 0; frozen < 3; frozen++) { /* between normalizations, where levels fuse */
        test_case("bn, relu, transposed conv%s, bn, relu, joined", frozen == 1 ? " with a frozen weight" : frozen == 2 ? " that is frozen" : "");
        net *n = net_new();
        const int x = net_relu(n, net_bn(n, net_conv(n, net_input(n, 3), (bnff_conv_options){.out_channels = 19}), NULL));
        const int up = net_conv_transpose(n, x, (bnff_conv_transpose_options){.out_channels = 19, .kernel = {3}, .padding = {1}, .bias = true});
        if (frozen == 1) net_freeze_one(n, up, false);
        if (frozen == 2) net_freeze_params(n, up);
        const int parts[2] = {net_relu(n, net_bn(n, up, NULL)), x};
        net_output(n, net_conv(n, net_concat(n, parts, 2), (bnff_conv_options){.out_channels = 5}));
        net_check(n, &(net_setup){.batch = 2, .height = 4, .width = 3});
        net_check(n, &(net_setup){.batch = 2, .height = 4, .width = 3, .evaluate = true});
        net_free(&n);
    }
}

static void resizing(void **state)
{
    (void)state;
    static const struct { int h, w; bnff_resize_options o; } cases[] = {
        {3, 4, {.scale = {2}}}, {3, 4, {.scale = {2}, .mode = BNFF_RESIZE_BILINEAR}}, {3, 4, {.scale = {2}, .mode = BNFF_RESIZE_BILINEAR, .align_corners = true}},
        {5, 7, {.size = {3, 10}}}, {5, 7, {.size = {3, 10}, .mode = BNFF_RESIZE_BILINEAR}}, {5, 7, {.size = {3, 10}, .mode = BNFF_RESIZE_BILINEAR, .align_corners = true}},
        {1, 1, {.size = {4, 3}, .mode = BNFF_RESIZE_BILINEAR}}, {4, 5, {.size = {1, 1}, .mode = BNFF_RESIZE_BILINEAR, .align_corners = true}},
        {4, 4, {.size = {4, 4}, .mode = BNFF_RESIZE_BILINEAR}}, {6, 5, {.scale = {1.5, 0.7}, .mode = BNFF_RESIZE_BILINEAR}}, {6, 5, {.scale = {0.6, 2.3}}},
        {2, 3, {.size = {40, 37}, .mode = BNFF_RESIZE_BILINEAR}}, {40, 3, {.size = {7, 3}}},
    };
    static const int channels[] = {3, 33};
    FOR_EACH(k, cases) FOR_EACH(c, channels) {
        test_case("resize %dx%d of %d channels, %s%s size %dx%d scale %g,%g", k.h, k.w, c, k.o.mode ? "bilinear" : "nearest", k.o.align_corners ? " corners" : "",
                  k.o.size[0], k.o.size[1], k.o.scale[0], k.o.scale[1]);
        net *n = net_new();
        net_output(n, net_resize(n, net_input(n, c), k.o));
        net_check(n, &(net_setup){.batch = 2, .height = k.h, .width = k.w});
        net_free(&n);
    }
    test_case("bn, relu, resize, bn");
    net *n = net_new();
    const int x = net_relu(n, net_bn(n, net_conv(n, net_input(n, 3), (bnff_conv_options){.out_channels = 35}), NULL));
    const int parts[2] = {net_bn(n, net_resize(n, net_maxpool(n, x, (bnff_pool_options){.kernel = {2}}), (bnff_resize_options){.scale = {2}, .mode = BNFF_RESIZE_BILINEAR}), NULL), x};
    net_output(n, net_conv(n, net_relu(n, net_concat(n, parts, 2)), (bnff_conv_options){.out_channels = 5, .kernel = {3}, .padding = {1}}));
    net_check(n, &(net_setup){.batch = 2, .height = 6, .width = 4});
    net_free(&n);
}

static void shuffles(void **state)
{
    (void)state;
    static const struct { int c, groups; } cases[] = {{1, 1}, {4, 2}, {6, 3}, {116, 2}, {116, 58}, {96, 3}, {70, 7}, {33, 33}, {24, 1}};
    FOR_EACH(k, cases) {
        test_case("shuffle %d channels by %d", k.c, k.groups);
        net *n = net_new();
        net_output(n, net_shuffle(n, net_input(n, k.c), k.groups));
        net_check(n, &(net_setup){.batch = 2, .height = 5, .width = 7});
        net_free(&n);
    }
    test_case("a unit of ShuffleNet"); /* slice, branch, concat, shuffle, twice */
    net *n = net_new();
    int x = net_bn(n, net_conv(n, net_input(n, 3), (bnff_conv_options){.out_channels = 76}), NULL);
    for (int i = 0; i < 2; i++) {
        int y = net_relu(n, net_bn(n, net_conv(n, net_slice(n, x, 38, 38), (bnff_conv_options){.out_channels = 38}), NULL));
        y = net_bn(n, net_conv(n, y, (bnff_conv_options){.out_channels = 38, .kernel = {3}, .padding = {1}, .groups = 38}), NULL);
        const int parts[2] = {net_slice(n, x, 0, 38), net_relu(n, y)};
        x = net_shuffle(n, net_concat(n, parts, 2), 2);
    }
    net_output(n, net_linear(n, net_global(n, x), 5, true));
    net_check(n, &(net_setup){.batch = 2, .height = 4, .width = 5});
    net_free(&n);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(conv_1x1), test(conv_3x3), test(conv_other_kernels), test(conv_groups), test(conv_depthwise), test(bn_alone), test(bn_frozen),
        test(activations), test(pooling), test(pooling_to_a_size), test(linear), test(add_and_gate), test(products_and_scales),
        test(inputs_of_other_sizes), test(transposed_convolutions), test(resizing), test(shuffles),
    };
    return run_all(tests);
}
