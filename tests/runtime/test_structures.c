/* Operators together: what the passes fuse, share and cut, against float64; and the reference's gradients against finite differences. */
#include "net.h"
#include "support.h"

#define CONV(...) ((bnff_conv_options){__VA_ARGS__})

static int conv_bn_relu(net *n, int x, int channels, int kernel, int stride)
{
    x = net_conv(n, x, CONV(.out_channels = channels, .kernel = {kernel}, .stride = {stride}, .padding = {kernel / 2}));
    return net_relu(n, net_bn(n, x, NULL));
}

/* -- Networks ------------------------------------------------------------------------------------------------------ */

static int plain_chain(net *n)
{
    int x = conv_bn_relu(n, net_input(n, 3), 17, 3, 1);
    x = conv_bn_relu(n, x, 33, 1, 1);
    x = conv_bn_relu(n, x, 16, 3, 2);
    return net_linear(n, net_global(n, x), 5, true);
}

/* A convolution whose input is an input, an output that is used again, and an output in the middle. */
static int outputs_inside(net *n)
{
    const int x = net_input(n, 5), y = net_conv(n, x, CONV(.out_channels = 7, .kernel = {3}, .padding = {1}));
    net_output(n, y);
    const int z = net_relu(n, net_bn(n, y, NULL));
    net_output(n, z);
    return net_conv(n, z, CONV(.out_channels = 3));
}

static int dense_block(net *n)
{
    int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 8, .kernel = {3}, .padding = {1}));
    for (int layer = 0; layer < 3; layer++) {
        int y = net_conv(n, net_relu(n, net_bn(n, x, NULL)), CONV(.out_channels = 16));
        y = net_conv(n, net_relu(n, net_bn(n, y, NULL)), CONV(.out_channels = 5, .kernel = {3}, .padding = {1}));
        x = net_concat(n, (const int[]){x, y}, 2);
    }
    x = net_conv(n, net_relu(n, net_bn(n, x, NULL)), CONV(.out_channels = 11));
    x = net_avgpool(n, x, (bnff_pool_options){.kernel = {2}});
    return net_linear(n, net_global(n, net_relu(n, net_bn(n, x, NULL))), 4, true);
}

static int residual_blocks(net *n)
{
    int x = conv_bn_relu(n, net_input(n, 3), 16, 3, 1);
    for (int block = 0; block < 2; block++) {
        const int channels = block ? 24 : 16, stride = block + 1;
        int y = conv_bn_relu(n, x, channels, 3, stride);
        y = net_bn(n, net_conv(n, y, CONV(.out_channels = channels, .kernel = {3}, .padding = {1})), NULL);
        if (block) x = net_bn(n, net_conv(n, x, CONV(.out_channels = channels, .stride = {2})), NULL);
        x = net_relu(n, net_add(n, y, x));
    }
    return net_linear(n, net_global(n, x), 3, true);
}

static int preactivation(net *n)
{
    int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 9, .kernel = {3}, .padding = {1}));
    for (int block = 0; block < 2; block++) {
        int y = net_conv(n, net_relu(n, net_bn(n, x, NULL)), CONV(.out_channels = 9, .kernel = {3}, .padding = {1}));
        x = net_add(n, x, y);
    }
    return net_relu(n, net_bn(n, x, NULL));
}

static int stem(net *n)
{
    int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 16, .kernel = {7}, .stride = {2}, .padding = {3}));
    x = net_maxpool(n, net_relu(n, net_bn(n, x, NULL)), (bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    return conv_bn_relu(n, x, 8, 1, 1);
}

/* Branches of different kinds side by side, as in Inception, with a pooling branch. */
static int branches(net *n)
{
    const int x = conv_bn_relu(n, net_input(n, 4), 12, 3, 1);
    const int a = conv_bn_relu(n, x, 3, 1, 1), b = conv_bn_relu(n, conv_bn_relu(n, x, 5, 1, 1), 17, 3, 1);
    const int c = net_avgpool(n, x, (bnff_pool_options){.kernel = {3}, .stride = {1}, .padding = {1}, .exclude_pad = true});
    const int d = net_maxpool(n, x, (bnff_pool_options){.kernel = {3}, .stride = {1}, .padding = {1}});
    const int y = net_concat(n, (const int[]){a, b, net_conv(n, c, CONV(.out_channels = 4)), d}, 4);
    return net_conv(n, y, CONV(.out_channels = 6, .kernel = {3}, .padding = {1}));
}

/* One BN over values of which each has a BN of its own too, with different eps: shared statistics. */
static int several_norms(net *n)
{
    const int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 20, .kernel = {3}, .padding = {1}));
    const int a = net_relu(n, net_bn(n, x, &(bnff_batchnorm_options){.eps = 1e-3f, .momentum = 0.3f}));
    const int b = net_act(n, net_bn(n, x, NULL), BNFF_SILU, 0);
    const int c = net_conv(n, x, CONV(.out_channels = 20)); /* a consumer that is no BN */
    const int frozen = net_bn(n, x, NULL);
    net_freeze_stats(n, frozen);
    const int sum = net_add(n, net_add(n, a, b), net_add(n, c, net_relu(n, frozen)));
    return net_conv(n, sum, CONV(.out_channels = 3));
}

static int slices(net *n)
{
    const int x = conv_bn_relu(n, net_input(n, 3), 40, 1, 1);
    const int a = net_slice(n, x, 0, 13), b = net_slice(n, x, 13, 27), c = net_slice(n, x, 5, 20);
    const int y = net_concat(n, (const int[]){b, a, c}, 3); /* swapped, and one part twice */
    const int z = net_conv(n, net_relu(n, net_bn(n, y, NULL)), CONV(.out_channels = 7, .kernel = {3}, .padding = {1}));
    net_output(n, net_slice(n, z, 2, 3));
    return net_concat(n, (const int[]){z, net_slice(n, z, 6, 1)}, 2);
}

/* Concat of a value with itself, of inputs, of pooled values; nested concats. */
static int concats(net *n)
{
    const int x = net_input(n, 3), y = net_input(n, 18);
    const int twice = net_concat(n, (const int[]){x, x}, 2), all = net_concat(n, (const int[]){y, twice, x}, 3);
    const int pooled = net_maxpool(n, all, (bnff_pool_options){.kernel = {2}, .stride = {1}});
    const int z = net_concat(n, (const int[]){pooled, net_relu(n, net_bn(n, pooled, NULL))}, 2);
    return net_conv(n, z, CONV(.out_channels = 5, .bias = true));
}

static int squeeze_and_excitation(net *n)
{
    int x = conv_bn_relu(n, net_input(n, 3), 24, 1, 1);
    const int depthwise = net_conv(n, x, CONV(.out_channels = 24, .kernel = {3}, .padding = {1}, .groups = 24));
    x = net_act(n, net_bn(n, depthwise, NULL), BNFF_HARDSWISH, 0);
    int gate = net_act(n, net_conv(n, net_global(n, x), CONV(.out_channels = 6, .bias = true)), BNFF_RELU, 0);
    gate = net_act(n, net_conv(n, gate, CONV(.out_channels = 24, .bias = true)), BNFF_HARDSIGMOID, 0);
    return net_bn(n, net_conv(n, net_gate(n, x, gate), CONV(.out_channels = 10)), NULL);
}

static int grouped_bottleneck(net *n)
{
    const int x = conv_bn_relu(n, net_input(n, 3), 16, 1, 1);
    int y = conv_bn_relu(n, x, 32, 1, 1);
    y = net_conv(n, y, CONV(.out_channels = 32, .kernel = {3}, .padding = {1}, .groups = 8));
    y = net_bn(n, net_conv(n, net_relu(n, net_bn(n, y, NULL)), CONV(.out_channels = 16)), NULL);
    return net_relu(n, net_add(n, x, y));
}

/* Joins whose first reader is a 1x1 convolution, which computes and stores them: a shortcut with a BN, then identities; joins without
 * activation; one that a slice reads as well. */
static int bottlenecks(net *n)
{
    int x = conv_bn_relu(n, net_input(n, 3), 20, 1, 1);
    for (int block = 0; block < 4; block++) {
        int y = conv_bn_relu(n, conv_bn_relu(n, x, 8, 1, 1), 8, 3, 1);
        y = net_bn(n, net_conv(n, y, CONV(.out_channels = 40)), NULL);
        if (block == 0) x = net_bn(n, net_conv(n, x, CONV(.out_channels = 40)), NULL);
        x = net_add(n, y, x);
        if (block < 2) x = net_relu(n, x);
    }
    net_output(n, net_slice(n, x, 3, 34));
    return net_linear(n, net_global(n, net_conv(n, x, CONV(.out_channels = 7))), 3, true);
}

/* The first layers frozen, parameters and statistics: no backward there. */
static int frozen_beginning(net *n)
{
    int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 8, .kernel = {3}, .padding = {1}));
    net_freeze_params(n, x);
    x = net_bn(n, x, NULL);
    net_freeze_params(n, x);
    net_freeze_stats(n, x);
    x = net_conv(n, net_relu(n, x), CONV(.out_channels = 9));
    return net_linear(n, net_global(n, net_relu(n, net_bn(n, x, NULL))), 2, true);
}

/* Something computed for nobody, and BN directly on the input and before the output. */
static int loose_ends(net *n)
{
    const int x = net_input(n, 6), y = net_bn(n, x, NULL);
    net_conv(n, y, CONV(.out_channels = 4, .kernel = {3}));
    return net_bn(n, net_relu(n, y), NULL);
}

/* 1x1 convolutions with average pooling behind them: some may change places with it, some must not. */
static int pooling_behind(net *n)
{
    const bnff_pool_options halves = {.kernel = {2}}, padded = {.kernel = {3}, .stride = {2}, .padding = {1}};
    bnff_pool_options pixels = padded;
    pixels.exclude_pad = true;
    const int x = net_relu(n, net_bn(n, net_conv(n, net_input(n, 3), CONV(.out_channels = 10, .kernel = {3}, .padding = {1})), NULL));
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 5, .bias = true)), halves));
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 6, .groups = 2)), padded));
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 4, .bias = true)), padded)); /* no: windows in the padding see less bias */
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 4, .bias = true)), pixels));
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 10, .groups = 10)), halves));
    net_output(n, net_avgpool(n, net_conv(n, x, CONV(.out_channels = 4, .padding = {1}, .bias = true)), halves)); /* no */
    const int y = net_conv(n, x, CONV(.out_channels = 7)); /* no: read twice */
    net_output(n, net_add(n, net_avgpool(n, y, halves), net_avgpool(n, y, halves)));
    const int two = net_conv(n, net_conv(n, x, CONV(.out_channels = 9)), CONV(.out_channels = 5, .bias = true)); /* past both */
    return net_global(n, two);
}

/* -- What random networks found (test_random.c), made small ------------------------------------------------------------ */

/* The gradient of a BN has contributions from outputs before the mask's, on whose tiles its sums are taken. */
static int output_under_mask(net *n)
{
    const int y = net_bn(n, net_conv(n, net_input(n, 2), CONV(.out_channels = 3)), NULL);
    net_output(n, y);
    net_output(n, y);
    return net_conv(n, net_relu(n, y), CONV(.out_channels = 2, .kernel = {3}, .padding = {1}));
}

/* Channels that a slice leaves have no gradient, also where the mask below is computed as the gradient is loaded. */
static int slice_of_activation(net *n)
{
    const int x = net_act(n, net_conv(n, net_input(n, 4), CONV(.out_channels = 7)), BNFF_HARDSIGMOID, 0), y = net_slice(n, x, 6, 1);
    return net_add(n, y, y);
}

/* Of two parts of a concat, a slice reads only one. */
static int part_unread(net *n)
{
    const int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 7)), y = net_act(n, x, BNFF_SILU, 0);
    const int z = net_concat(n, (const int[]){net_add(n, y, x), y, x}, 3);
    return net_conv(n, net_slice(n, z, 9, 3), CONV(.out_channels = 5));
}

/* Whole images are a tile, and the last rows of an image are out of the filter's reach. */
static int rows_out_of_reach(net *n)
{
    const int x = net_dropout(n, net_input(n, 3), 0.4f);
    net_output(n, x);
    const int y = net_conv(n, x, CONV(.out_channels = 5, .kernel = {1, 3}, .stride = {4, 1}, .padding = {0, 1}, .dilation = {3, 1}));
    return net_relu(n, net_bn(n, y, NULL));
}

/* More operators one after the other than any prologue should compute. */
static int long_chain(net *n)
{
    int x = net_conv(n, net_input(n, 3), CONV(.out_channels = 5));
    for (int i = 0; i < 25; i++) x = i % 3 ? net_act(n, x, i % 3 == 1 ? BNFF_SILU : BNFF_LEAKY_RELU, 0.5f) : net_bn(n, x, NULL);
    return net_conv(n, x, CONV(.out_channels = 5));
}

/* A concat that has the channels of one feature map twice, through a slice: two places for one gradient. */
static int seen_twice(net *n)
{
    const int x = net_relu(n, net_bn(n, net_conv(n, net_input(n, 3), CONV(.out_channels = 11)), NULL));
    const int y = net_concat(n, (const int[]){net_slice(n, x, 6, 3), x}, 2);
    return net_conv(n, y, CONV(.out_channels = 14, .kernel = {3}, .padding = {1}, .groups = 14));
}

/* Filters of one tap, on one pixel: in the padding, not on the image. */
static int single_pixels(net *n)
{
    const int x = net_global(n, net_input(n, 3)), y = net_conv(n, x, CONV(.out_channels = 4, .stride = {4}, .padding = {1}));
    net_output(n, net_conv(n, x, CONV(.out_channels = 2, .padding = {1}, .stride = {2})));
    return net_concat(n, (const int[]){net_relu(n, x), y}, 2);
}

/* A slice adds to the gradient that a dropout began. */
static int dropout_and_slice(net *n)
{
    const int x = net_bn(n, net_conv(n, net_input(n, 3), CONV(.out_channels = 7)), NULL), y = net_slice(n, x, 1, 1);
    net_output(n, net_dropout(n, x, 0.5f));
    return net_add(n, y, y);
}

/* Two masks on the tiles of a pooling's backward, whose result is read once more after them. */
static int masks_on_a_tile(net *n)
{
    const int x = net_input(n, 2), a = net_act(n, x, BNFF_HARDSIGMOID, 0), b = net_act(n, a, BNFF_SILU, 0);
    const int y = net_add(n, b, net_add(n, net_bn(n, x, NULL), x));
    const int gate = net_act(n, net_conv(n, net_global(n, y), CONV(.out_channels = 2)), BNFF_SIGMOID, 0);
    return net_concat(n, (const int[]){net_gate(n, y, gate), a}, 2);
}

/* A sum of two values that are also side by side in a concat. */
static int sum_and_concat(net *n)
{
    const int x = net_input(n, 3), a = net_conv(n, x, CONV(.out_channels = 5)), b = net_conv(n, x, CONV(.out_channels = 5));
    const int c = net_conv(n, net_concat(n, (const int[]){a, b}, 2), CONV(.out_channels = 5));
    return net_add(n, c, net_conv(n, net_add(n, a, b), CONV(.out_channels = 5)));
}

/* An input, a BN and a convolution that no output depends on: zero gradients, and running statistics stay. */
static int dead_branch(net *n)
{
    const int x = net_input(n, 3);
    net_bn(n, net_conv(n, net_input(n, 2), CONV(.out_channels = 4)), NULL);
    return net_conv(n, x, CONV(.out_channels = 3));
}

/* -- Tests: one of each kind for each network ------------------------------------------------------------------------ */

#define NETWORKS(X)                                                                                                                     \
    X(plain_chain) X(outputs_inside) X(dense_block) X(residual_blocks) X(preactivation) X(stem) X(branches) X(several_norms) X(slices)  \
    X(concats) X(squeeze_and_excitation) X(grouped_bottleneck) X(bottlenecks) X(frozen_beginning) X(loose_ends) X(pooling_behind)    \
    X(output_under_mask) X(slice_of_activation) X(part_unread) X(rows_out_of_reach) X(long_chain) X(seen_twice) X(single_pixels)            \
    X(dropout_and_slice) X(masks_on_a_tile) X(sum_and_concat) X(dead_branch)

static net *new_network(int (*build)(net *n))
{
    net *n = net_new();
    net_output(n, build(n));
    return n;
}

static void train(const char *name, int (*build)(net *n))
{
    static const net_setup setups[] = {{.batch = 3, .height = 6, .width = 7}, {.batch = 1, .height = 9, .width = 4},
                                       {.batch = 2, .height = 5, .width = 7, .algorithm = "f2"}, {.batch = 1, .height = 7, .width = 5, .algorithm = "f4"}};
    FOR_EACH(setup, setups) {
        test_case("%s, %d images of %dx%d", name, setup.batch, setup.height, setup.width);
        net *n = new_network(build);
        net_check(n, &setup);
        net_free(&n);
    }
}

static void evaluate(const char *name, int (*build)(net *n))
{
    test_case("%s, evaluation", name);
    net *n = new_network(build);
    net_check(n, &(net_setup){.batch = 1, .height = 8, .width = 5, .evaluate = true});
    net_free(&n);
}

static void differences(const char *name, int (*build)(net *n))
{
    test_case("%s, finite differences", name);
    net *n = new_network(build);
    net_check_differences(n, &(net_setup){.batch = 2, .height = 5, .width = 4});
    net_free(&n);
}

/* Printed, read back and printed again: the same text. */
static void printing(const char *name, int (*build)(net *n))
{
    test_case("%s, printed", name);
    net *n = new_network(build);
    char *text, *again;
    bnff_error error;
    bnff_graph *read;
    check_ok(bnff_graph_print(net_graph(n), &text, &error), &error);
    check_ok(bnff_graph_parse(text, &read, &error), &error);
    check_ok(bnff_graph_print(read, &again, &error), &error);
    assert_string_equal(again, text);
    assert_int_equal(bnff_graph_param_count(read), bnff_graph_param_count(net_graph(n)));
    bnff_graph_destroy(&read);
    bnff_free(text);
    bnff_free(again);
    net_free(&n);
}

#define FUNCTIONS(network)                                                                                      \
    static void train_##network(void **state) { (void)state; train(#network, network); }                       \
    static void evaluate_##network(void **state) { (void)state; evaluate(#network, network); }                 \
    static void differences_##network(void **state) { (void)state; differences(#network, network); }           \
    static void print_##network(void **state) { (void)state; printing(#network, network); }
NETWORKS(FUNCTIONS)

#define ENTRIES(network) test(train_##network), test(evaluate_##network), test(differences_##network), test(print_##network),

int main(void)
{
    static const struct CMUnitTest tests[] = {NETWORKS(ENTRIES)};
    setenv("BNFF_VERIFY", "1", 1);
    return run_all(tests);
}
