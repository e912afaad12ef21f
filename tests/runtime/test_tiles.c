/* Convolutions on caches so small that a task has many tiles: rows of x that stay from tile to tile, results stored past the caches
 * while the next ones are computed. */
#include "net.h"
#include "support.h"

static void check(int batch, int height, int width, int (*build)(net *n, int x), int channels)
{
    test_case("%d images of %dx%dx%d", batch, height, width, channels);
    net *n = net_new();
    net_output(n, build(n, net_input(n, channels)));
    net_check(n, &(net_setup){.batch = batch, .height = height, .width = width});
    net_free(&n);
}

/* 1x1 and 3x3 in turn: normalised and not before, statistics behind, several blocks of channels and one. */
static int bottleneck(net *n, int x)
{
    const int a = net_conv(n, net_relu(n, net_bn(n, x, NULL)), (bnff_conv_options){.out_channels = 67});
    const int b = net_conv(n, net_relu(n, net_bn(n, a, NULL)), (bnff_conv_options){.out_channels = 19, .kernel = {3}, .padding = {1}});
    const int c = net_conv(n, b, (bnff_conv_options){.out_channels = 19, .kernel = {3}, .padding = {1}, .bias = true});
    return net_relu(n, net_bn(n, net_add(n, b, net_bn(n, c, NULL)), NULL));
}

static int strided(net *n, int x)
{
    const int a = net_conv(n, net_relu(n, net_bn(n, x, NULL)), (bnff_conv_options){.out_channels = 33, .kernel = {3}, .stride = {2}, .padding = {1}});
    const int b = net_conv(n, net_relu(n, net_bn(n, a, NULL)), (bnff_conv_options){.out_channels = 17, .kernel = {2, 5}, .padding = {1, 2}});
    return net_relu(n, net_bn(n, b, NULL));
}

/* Joins that the 1x1 convolution behind them computes and stores. */
static int joins(net *n, int x)
{
    int y = net_conv(n, x, (bnff_conv_options){.out_channels = 83});
    for (int i = 0; i < 2; i++) {
        const int a = net_conv(n, y, (bnff_conv_options){.out_channels = 40}), b = net_conv(n, net_relu(n, net_bn(n, a, NULL)), (bnff_conv_options){.out_channels = 83});
        y = net_relu(n, net_add(n, net_bn(n, b, NULL), y));
    }
    return net_conv(n, y, (bnff_conv_options){.out_channels = 17});
}

/* Rows of at least 27 columns are padded. */
static void rows_stay(void **state)
{
    (void)state;
    check(3, 5, 33, bottleneck, 37);
    check(1, 9, 30, bottleneck, 3);
}

static void rows_stay_strided(void **state)
{
    (void)state;
    check(2, 9, 61, strided, 20);
    check(1, 4, 300, strided, 16);
}

static void joins_are_stored(void **state)
{
    (void)state;
    check(2, 9, 13, joins, 5);
    check(1, 31, 7, joins, 70);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(rows_stay), test(rows_stay_strided), test(joins_are_stored)};
    setenv("BNFF_VERIFY", "1", 1);
    setenv("BNFF_CACHES", "1K,16K,32K", 1);
    return run_all(tests);
}
