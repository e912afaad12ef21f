/* The public graph API: shapes, sticky errors, text out and in. */
#include <bnff/bnff.h>

#include "graph/ir.h"
#include "support.h"

static bnff_graph *new_graph(void)
{
    bnff_graph *g;
    assert_int_equal(bnff_graph_create(&g, NULL), BNFF_OK);
    return g;
}

static void shapes_of_windows(void **state)
{
    (void)state;
    /* in, kernel, stride, padding, dilation, ceil: PyTorch's results */
    static const struct { int in, k, s, p, d; bool ceil; int conv, pool; } cases[] = {
        {7, 3, 2, 1, 1, false, 4, 4}, {6, 3, 2, 0, 1, true, 2, 3}, {6, 3, 2, 0, 1, false, 2, 2}, {5, 2, 2, 1, 1, true, 3, 3},
        {4, 2, 3, 0, 1, true, 1, 2}, {1, 1, 1, 0, 1, false, 1, 1}, {2, 3, 1, 0, 1, false, 0, 0}, {9, 3, 1, 0, 4, false, 1, 1}, {3, 1, 5, 0, 1, true, 1, 1},
        {2, 3, 2, 0, 1, true, 0, 1}, {1, 3, 2, 0, 1, true, 0, 0}, /* a window may be larger than the image, if rounding up makes one of it */
    };
    FOR_EACH(c, cases) {
        test_case("in=%d k=%d s=%d p=%d d=%d ceil=%d", c.in, c.k, c.s, c.p, c.d, c.ceil);
        assert_int_equal(bf_conv_out(c.in, c.k, c.s, c.p, c.d), c.conv);
        assert_int_equal(bf_pool_out(c.in, c.k, c.s, c.p, c.d, c.ceil), c.pool);
    }
}

static void errors_stick(void **state)
{
    (void)state;
    bnff_graph *g = new_graph();
    const bnff_value x = bnff_input(g, "x", 6);
    assert_int_equal(bnff_conv2d(g, "conv", x, &(bnff_conv_options){.out_channels = 8, .groups = 4}), BNFF_NONE);
    bnff_error first, later;
    assert_int_equal(bnff_graph_status(g, &first), BNFF_E_SHAPE);
    assert_non_null(strstr(first.message, "conv"));
    assert_int_equal(bnff_relu(g, BNFF_NONE), BNFF_NONE);
    assert_int_equal(bnff_conv2d(g, "fine", x, &(bnff_conv_options){.out_channels = 8}), BNFF_NONE);
    assert_int_equal(bnff_graph_status(g, &later), BNFF_E_SHAPE);
    assert_string_equal(first.message, later.message);
    bnff_graph_destroy(&g);
    assert_null(g);
}

/* Each builder call alone on a fresh graph with one 4-channel input: the status it must leave. */
static void arguments_are_checked(void **state)
{
    (void)state;
#define REFUSES(status, call)                                           \
    do {                                                                \
        test_case("%s", #call);                                         \
        bnff_graph *g = new_graph();                                    \
        const bnff_value x = bnff_input(g, "x", 4);                     \
        (void)x;                                                        \
        (void)(call);                                                   \
        bnff_error e;                                                   \
        assert_int_equal(bnff_graph_status(g, &e), status);             \
        assert_true(e.message[0] != '\0');                              \
        bnff_graph_destroy(&g);                                         \
    } while (0)
    REFUSES(BNFF_E_ARG, bnff_input(g, "y", 0));
    REFUSES(BNFF_E_ARG, bnff_input(g, NULL, 3));
    REFUSES(BNFF_E_ARG, bnff_input(g, "x", 3));
    REFUSES(BNFF_E_ARG, bnff_input(g, "two words", 3));
    REFUSES(BNFF_E_ARG, bnff_conv2d(g, "c", x, &(bnff_conv_options){.out_channels = 0}));
    REFUSES(BNFF_E_ARG, bnff_conv2d(g, "c", x, &(bnff_conv_options){.out_channels = 8, .kernel = {-1}}));
    REFUSES(BNFF_E_ARG, bnff_conv2d(g, "c", x, &(bnff_conv_options){.out_channels = 8, .padding = {1 << 20}}));
    REFUSES(BNFF_E_ARG, bnff_conv2d(g, "c", 17, &(bnff_conv_options){.out_channels = 8}));
    REFUSES(BNFF_E_ARG, bnff_batchnorm(g, "b", x, &(bnff_batchnorm_options){.eps = -1}));
    REFUSES(BNFF_E_ARG, bnff_batchnorm(g, "b", x, &(bnff_batchnorm_options){.momentum = 2}));
    REFUSES(BNFF_E_ARG, bnff_activate(g, x, (bnff_activation)42, 0));
    REFUSES(BNFF_E_ARG, bnff_maxpool(g, x, &(bnff_pool_options){.kernel = {0}}));
    REFUSES(BNFF_E_ARG, bnff_maxpool(g, x, &(bnff_pool_options){.kernel = {2}, .padding = {2}}));
    REFUSES(BNFF_E_ARG, bnff_avgpool(g, x, &(bnff_pool_options){.kernel = {2}, .dilation = {2}}));
    REFUSES(BNFF_E_ARG, bnff_adaptive_avgpool(g, x, 0, 1));
    REFUSES(BNFF_E_ARG, bnff_dropout(g, x, 1));
    REFUSES(BNFF_E_ARG, bnff_dropout(g, x, NAN));
    REFUSES(BNFF_E_ARG, bnff_concat(g, &x, 0));
    REFUSES(BNFF_E_SHAPE, bnff_slice(g, x, 3, 2));
    REFUSES(BNFF_E_SHAPE, bnff_slice(g, x, -1, 2));
    REFUSES(BNFF_E_SHAPE, bnff_linear(g, "fc", x, 3, true));
    REFUSES(BNFF_E_SHAPE, bnff_add(g, x, bnff_input(g, "y", 5)));
    REFUSES(BNFF_E_SHAPE, bnff_mul_gate(g, x, bnff_input(g, "y", 4)));
    REFUSES(BNFF_E_SHAPE, bnff_mul(g, x, bnff_input(g, "y", 5)));
    REFUSES(BNFF_E_SHAPE, bnff_mul(g, bnff_input_sized(g, "y", 4, 5, 5), bnff_input_sized(g, "z", 4, 5, 6)));
    REFUSES(BNFF_E_ARG, bnff_input_sized(g, "y", 4, 0, 5));
    REFUSES(BNFF_E_SHAPE, bnff_channel_shuffle(g, x, 3));
    REFUSES(BNFF_E_SHAPE, bnff_channel_shuffle(g, x, 0));
    REFUSES(BNFF_E_ARG, bnff_adaptive_maxpool(g, x, 1, 0));
    REFUSES(BNFF_E_ARG, bnff_conv_transpose2d(g, NULL, x, &(bnff_conv_transpose_options){.out_channels = 3}));
    REFUSES(BNFF_E_ARG, bnff_conv_transpose2d(g, "t", x, &(bnff_conv_transpose_options){.out_channels = 0}));
    REFUSES(BNFF_E_ARG, bnff_conv_transpose2d(g, "t", x, &(bnff_conv_transpose_options){.out_channels = 3, .stride = {2}, .output_padding = {2}}));
    REFUSES(BNFF_E_ARG, bnff_conv_transpose2d(g, "t", x, &(bnff_conv_transpose_options){.out_channels = 3, .padding = {-1}}));
    REFUSES(BNFF_E_SHAPE, bnff_conv_transpose2d(g, "t", x, &(bnff_conv_transpose_options){.out_channels = 3, .groups = 2}));
    REFUSES(BNFF_E_SHAPE, bnff_conv_transpose2d(g, "t", bnff_input_sized(g, "y", 4, 1, 1), &(bnff_conv_transpose_options){.out_channels = 3, .padding = {1}}));
    REFUSES(BNFF_E_SHAPE, bnff_conv_transpose2d(g, "t", bnff_input_sized(g, "y", 4, 1 << 15, 1), &(bnff_conv_transpose_options){.out_channels = 3, .stride = {4096}}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){0}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.size = {3, 0}}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.size = {3, 3}, .scale = {2}}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.scale = {-2}}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.scale = {NAN}}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.scale = {2}, .align_corners = true}));
    REFUSES(BNFF_E_ARG, bnff_resize(g, x, &(bnff_resize_options){.scale = {2}, .mode = (bnff_resize_mode)7}));
    REFUSES(BNFF_E_SHAPE, bnff_resize(g, bnff_input_sized(g, "y", 4, 1, 3), &(bnff_resize_options){.scale = {0.5}}));
    REFUSES(BNFF_E_ARG, bnff_input_sized(g, "y", 4, 5, 1 << 20));
    REFUSES(BNFF_E_ARG, bnff_scale(g, NULL, x, &(bnff_scale_options){.bias = true}));
    REFUSES(BNFF_E_ARG, bnff_scale(g, "x", x, &(bnff_scale_options){.bias = true}));
    REFUSES(BNFF_E_ARG, bnff_scale(g, NULL, x, &(bnff_scale_options){.factor = NAN}));
    REFUSES(BNFF_E_ARG, bnff_scale(g, NULL, x, &(bnff_scale_options){.offset = INFINITY}));
#undef REFUSES
}

/* A graph with every operator and attribute. */
static bnff_graph *everything(void)
{
    bnff_graph *g = new_graph();
    bnff_value x = bnff_input(g, "image", 3);
    x = bnff_conv2d(g, "stem", x, &(bnff_conv_options){.out_channels = 24, .kernel = {5, 3}, .stride = {2, 1}, .padding = {2, -1}, .dilation = {1, 2}, .bias = true});
    x = bnff_batchnorm(g, "bn", x, &(bnff_batchnorm_options){.eps = 1e-3f, .momentum = -1});
    x = bnff_activate(g, x, BNFF_LEAKY_RELU, 0.2f);
    x = bnff_maxpool(g, x, &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}, .ceil_mode = true});
    const bnff_value grouped = bnff_conv2d(g, "grouped", x, &(bnff_conv_options){.out_channels = 24, .kernel = {3}, .padding = {1}, .groups = 4});
    const bnff_value plain = bnff_batchnorm(g, "plain", grouped, &(bnff_batchnorm_options){.no_affine = true});
    const bnff_value gate = bnff_activate(g, bnff_conv2d(g, "squeeze", bnff_global_avgpool(g, plain), &(bnff_conv_options){.out_channels = 24, .bias = true}), BNFF_HARDSIGMOID, 0);
    const bnff_value join = bnff_relu(g, bnff_add(g, bnff_mul_gate(g, plain, gate), x));
    const bnff_value parts[3] = {bnff_slice(g, join, 3, 17), bnff_activate(g, join, BNFF_SILU, 0), x};
    x = bnff_dropout(g, bnff_concat(g, parts, 3), 0.25f);
    x = bnff_avgpool(g, x, &(bnff_pool_options){.kernel = {2, 1}, .padding = {1, -1}, .exclude_pad = true});
    bnff_output(g, bnff_linear(g, "fc", bnff_adaptive_avgpool(g, x, 2, 3), 7, true));
    bnff_output(g, join);
    const bnff_value aside = bnff_input_sized(g, "aside", 5, 6, 7), scaled = bnff_scale(g, "layer_scale", aside, &(bnff_scale_options){.weight = true, .offset = 0.5f});
    const bnff_value elu = bnff_activate(g, bnff_scale(g, NULL, scaled, &(bnff_scale_options){.factor = -2}), BNFF_ELU, 0.75f);
    bnff_output(g, bnff_mul(g, bnff_activate(g, elu, BNFF_GELU, 0), aside));
    const bnff_conv_transpose_options up = {.out_channels = 6, .kernel = {3, 2}, .stride = {2}, .padding = {1, -1}, .output_padding = {1, -1}, .bias = true};
    const bnff_value large = bnff_channel_shuffle(g, bnff_conv_transpose2d(g, "up", aside, &up), 3);
    const bnff_value small = bnff_resize(g, large, &(bnff_resize_options){.scale = {0.7, 1.0 / 3}});
    const bnff_value back = bnff_resize(g, small, &(bnff_resize_options){.size = {9, 11}, .mode = BNFF_RESIZE_BILINEAR, .align_corners = true});
    bnff_output(g, bnff_adaptive_maxpool(g, back, 2, 3));
    return g;
}

static void text_round_trip(const char *name, bnff_graph *g)
{
    test_case("%s", name);
    bnff_error e = {0};
    char *text = NULL, *again = NULL;
    bnff_graph *copy = NULL;
    assert_int_equal(bnff_graph_print(g, &text, &e), BNFF_OK);
    if (bnff_graph_parse(text, &copy, &e) != BNFF_OK) fail_msg("%s", e.message);
    assert_int_equal(bnff_graph_print(copy, &again, &e), BNFF_OK);
    assert_string_equal(text, again);
    assert_int_equal(bnff_graph_param_count(copy), bnff_graph_param_count(g));
    for (int i = 0; i < bnff_graph_param_count(g); i++) {
        bnff_param_info a, b;
        assert_true(bnff_graph_param(g, i, &a) && bnff_graph_param(copy, i, &b));
        assert_string_equal(a.name, b.name);
        assert_memory_equal(a.shape, b.shape, sizeof a.shape);
    }
    bnff_free(text);
    bnff_free(again);
    bnff_graph_destroy(&copy);
    bnff_graph_destroy(&g);
}

static void text_reads_back(void **state)
{
    (void)state;
    bnff_graph *g = everything();
    bnff_error e;
    if (bnff_graph_status(g, &e) != BNFF_OK) fail_msg("%s", e.message);
    text_round_trip("everything", g);
    static const char *const models[] = {"densenet121", "resnet50", "vgg11_bn", "mobilenet_v2", "densenet-bc-22-12"};
    FOR_EACH(model, models) {
        g = new_graph();
        assert_int_equal(bnff_model_build(g, model, &(bnff_model_options){.classes = 10}, NULL), BNFF_OK);
        text_round_trip(model, g);
    }
}

static void damaged_text_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", "bnff-graph 2\n", "hello", "bnff-graph 1\n%0 = inptu \"x\" c=3\n", "bnff-graph 1\n%0 = conv \"c\" %9 oc=3\n", "bnff-graph 1\n%0 = input \"x c=3\n",
        "bnff-graph 1\n%0 = input \"x\" c=3\n%0 = act %0 relu\n", "bnff-graph 1\n%0 = input \"x\" c=0\n", "bnff-graph 1\n%99999999999 = input \"x\" c=3\n",
        "bnff-graph 1\n%0 = input \"x\" c=3\n%1 = add %0\n", "bnff-graph 1\n%0 = input \"x\" c=3\n%1 = act %0 banana\n", "bnff-graph 1\n%0 = input \"x\" c=3\noutput\n",
        "bnff-graph 1\n%0 = output %0\n", "bnff-graph 1\n%0 = input \"x\" c=1e99\n", "bnff-graph 1\n% = input\n", "bnff-graph 1\n%0 input\n",
    };
    FOR_EACH(text, texts) {
        test_case("text '%s'", text);
        bnff_graph *g;
        bnff_error e = {0};
        assert_int_equal(bnff_graph_parse(text, &g, &e), BNFF_E_FORMAT);
        assert_null(g);
        assert_non_null(strstr(e.message, "line"));
    }
}

/* The verifier must see each kind of damage. */
static void verifier_sees_damage(void **state)
{
    (void)state;
    for (int damage = 0; damage < 6; damage++) {
        test_case("damage %d", damage);
        bnff_graph *g = everything();
        bnff_error e = {0};
        assert_int_equal(bf_infer_shapes(&g->ir, 2, 32, 32, NULL, &e), BNFF_OK);
        assert_int_equal(bf_graph_verify(&g->ir, &e), BNFF_OK);
        bf_node *last = &g->ir.nodes[g->ir.node_count - 1];
        switch (damage) {
        case 0: last->in[0] = g->ir.value_count; break;
        case 1: last->in_count = 0; break;
        case 2: g->ir.nodes[1].in[0] = g->ir.nodes[3].out[0]; break;
        case 3: g->ir.nodes[1].param[0] = 9999; break;
        case 4: assert_true(bf_graph_view(&g->ir, 2, &(bf_part){0, 0, 3}, 1)); break;
        case 5: g->ir.nodes[1].out_count = 2; break;
        }
        assert_int_equal(bf_graph_verify(&g->ir, &e), BNFF_E_INTERNAL);
        bnff_graph_destroy(&g);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(shapes_of_windows), test(errors_stick), test(arguments_are_checked), test(text_reads_back),
                                              test(damaged_text_is_refused), test(verifier_sees_damage)};
    return run_all(tests);
}
