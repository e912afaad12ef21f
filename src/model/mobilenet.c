/* MobileNetV2 (Sandler et al. 2018), torchvision's definition and names.
 *
 *     features.0 3x3/2 ─ inverted residuals features.1 … 17 ─ features.18 1x1 (1280) ─ global average ─ dropout ─ classifier.1
 *     inverted residual: x ─ 1x1 (expand) ─ bn ─ relu6 ─ 3x3 depthwise ─ bn ─ relu6 ─ 1x1 ─ bn, + x where the shape is kept
 *
 * conv.0 is the expansion and conv.1 the depthwise part; without an expansion (features.1) conv.0 is the depthwise part. */
#include "model/zoo.h"

static const bnff_model_info models[] = {{"mobilenet_v2", 1, 224, "classifier.1", false}};

/* Stages: expansion, output channels, blocks, stride of the first. */
static const struct stage {
    int expand, channels, blocks, stride;
} stages[] = {{1, 16, 1, 1}, {6, 24, 2, 2}, {6, 32, 3, 2}, {6, 64, 4, 2}, {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1}};

/* <prefix>.<first> is the convolution, <prefix>.<second> its normalization. */
static bnff_value conv_bn(bnff_graph *graph, const char *prefix, const char *first, const char *second, bnff_value x, int channels,
                          int kernel, int stride, int groups)
{
    const bnff_conv_options options = {
        .out_channels = channels, .kernel = {kernel}, .stride = {stride}, .padding = {kernel / 2}, .groups = groups};
    x = bnff_conv2d(graph, bf_layer_name("%s.%s", prefix, first).text, x, &options);
    return bnff_batchnorm(graph, bf_layer_name("%s.%s", prefix, second).text, x, NULL);
}

static bnff_value relu6(bnff_graph *graph, bnff_value x) { return bnff_activate(graph, x, BNFF_RELU6, 0); }

static bnff_value inverted_residual(bnff_graph *graph, const char *prefix, bnff_value x, int in, int out, int expand, int stride)
{
    const int hidden = in * expand;
    bnff_value y = x;
    if (expand == 1) {
        y = relu6(graph, conv_bn(graph, prefix, "conv.0.0", "conv.0.1", y, hidden, 3, stride, hidden));
        y = conv_bn(graph, prefix, "conv.1", "conv.2", y, out, 1, 1, 1);
    } else {
        y = relu6(graph, conv_bn(graph, prefix, "conv.0.0", "conv.0.1", y, hidden, 1, 1, 1));
        y = relu6(graph, conv_bn(graph, prefix, "conv.1.0", "conv.1.1", y, hidden, 3, stride, hidden));
        y = conv_bn(graph, prefix, "conv.2", "conv.3", y, out, 1, 1, 1);
    }
    return stride == 1 && in == out ? bnff_add(graph, x, y) : y;
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    (void)info;
    bnff_value x = relu6(graph, conv_bn(graph, "features.0", "0", "1", image, 32, 3, 2, 1));
    int channels = 32, index = 1;
    for (size_t s = 0; s < sizeof stages / sizeof *stages; s++)
        for (int b = 0; b < stages[s].blocks; b++, index++) {
            const struct stage *stage = &stages[s];
            x = inverted_residual(graph, bf_layer_name("features.%d", index).text, x, channels, stage->channels, stage->expand,
                                  b ? 1 : stage->stride);
            channels = stage->channels;
        }
    x = relu6(graph, conv_bn(graph, bf_layer_name("features.%d", index).text, "0", "1", x, 1280, 1, 1, 1));
    x = bnff_global_avgpool(graph, x);
    const float dropout = options->dropout < 0 ? 0 : options->dropout > 0 ? options->dropout : 0.2f;
    if (dropout > 0) x = bnff_dropout(graph, x, dropout);
    return bnff_linear(graph, "classifier.1", x, options->classes, true);
}

const bf_family bf_mobilenet = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_NORMAL_01, false, false}, true, BF_MEMBERS(models), .build = build};
