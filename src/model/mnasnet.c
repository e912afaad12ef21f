/* MNASNet with depth multiplier 1 (Tan et al. 2019), torchvision's definition and names.
 *
 *     layers.0 3x3/2 ─ layers.3 depthwise ─ layers.6 1x1 ─ stacks layers.8 … 13 ─ layers.14 1x1 (1280) ─ global average ─ dropout ─ classifier.1
 *     block: x ─ 1x1 (expand) ─ depthwise ─ 1x1, + x where the shape is kept */
#include "model/zoo.h"

static const bnff_model_info models[] = {{"mnasnet1_0", 1, 224, "classifier.1", false}};

static const struct stack {
    int channels, kernel, stride, expand, blocks;
} stacks[] = {{24, 3, 2, 3, 3}, {40, 5, 2, 3, 3}, {80, 5, 2, 6, 3}, {96, 3, 1, 6, 2}, {192, 5, 2, 6, 4}, {320, 3, 1, 6, 1}};
enum { STACKS = sizeof stacks / sizeof *stacks, FIRST_STACK = 8 };
static const bnff_batchnorm_options norm = {.momentum = 3e-4f};

static bnff_value block(bnff_graph *graph, const char *prefix, bnff_value x, int in, const struct stack *s, int stride)
{
    const int expanded = in * s->expand;
    bnff_value y = bf_conv_bn(graph, prefix, "0", "1", x, &(bf_conv_bn_options){.channels = expanded, .act = BNFF_RELU, .bn = norm});
    y = bf_conv_bn(graph, prefix, "3", "4", y, &(bf_conv_bn_options){.channels = expanded, .kernel = s->kernel, .stride = stride, .groups = expanded, .act = BNFF_RELU, .bn = norm});
    y = bf_conv_bn(graph, prefix, "6", "7", y, &(bf_conv_bn_options){.channels = s->channels, .bn = norm});
    return stride == 1 && in == s->channels ? bnff_add(graph, x, y) : y;
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    (void)info;
    bnff_value x = bf_conv_bn(graph, "layers.", "0", "1", image, &(bf_conv_bn_options){.channels = 32, .kernel = 3, .stride = 2, .act = BNFF_RELU, .bn = norm});
    x = bf_conv_bn(graph, "layers.", "3", "4", x, &(bf_conv_bn_options){.channels = 32, .kernel = 3, .groups = 32, .act = BNFF_RELU, .bn = norm});
    x = bf_conv_bn(graph, "layers.", "6", "7", x, &(bf_conv_bn_options){.channels = 16, .bn = norm});
    int channels = 16;
    for (int s = 0; s < STACKS; s++)
        for (int b = 0; b < stacks[s].blocks; b++) {
            x = block(graph, bf_layer_name("layers.%d.%d.layers.", FIRST_STACK + s, b).text, x, channels, &stacks[s], b ? 1 : stacks[s].stride);
            channels = stacks[s].channels;
        }
    x = bf_conv_bn(graph, "layers.", "14", "15", x, &(bf_conv_bn_options){.channels = 1280, .act = BNFF_RELU, .bn = norm});
    x = bf_classifier_dropout(graph, bnff_global_avgpool(graph, x), options, 0.2f);
    return bnff_linear(graph, "classifier.1", x, options->classes, true);
}

const bf_family bf_mnasnet = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_UNIFORM, false, false}, true, BF_MEMBERS(models), .build = build};
