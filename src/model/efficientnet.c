/* EfficientNet-B0 (Tan & Le 2019), torchvision's definition and names, without its stochastic depth: every block takes part in every step.
 *
 *     features.0 3x3/2 ─ stages features.1 … 7 ─ features.8 1x1 (1280) ─ global average ─ dropout ─ classifier.1
 *     block: x ─ 1x1 (expand) ─ depthwise ─ squeeze and excitation (to a quarter of x) ─ 1x1, + x where the shape is kept */
#include "model/zoo.h"

static const bnff_model_info models[] = {{"efficientnet_b0", 1, 224, "classifier.1", false}};

static const struct stage {
    int expand, kernel, stride, channels, blocks;
} stages[] = {{1, 3, 1, 16, 1}, {6, 3, 2, 24, 2}, {6, 5, 2, 40, 2}, {6, 3, 2, 80, 3}, {6, 5, 1, 112, 3}, {6, 5, 2, 192, 4}, {6, 3, 1, 320, 1}};
enum { STAGES = sizeof stages / sizeof *stages };

static bnff_value block(bnff_graph *graph, const char *prefix, bnff_value x, int in, const struct stage *s, int stride)
{
    const int expanded = in * s->expand;
    int part = 0;
    bnff_value y = x;
    if (s->expand != 1) {
        y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part).text, "0", "1", y, &(bf_conv_bn_options){.channels = expanded, .act = BNFF_SILU});
        part++;
    }
    y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part).text, "0", "1", y,
                   &(bf_conv_bn_options){.channels = expanded, .kernel = s->kernel, .stride = stride, .groups = expanded, .act = BNFF_SILU});
    y = bf_squeeze_excitation(graph, bf_layer_name("%s.block.%d", prefix, part + 1).text, y, expanded, in / 4, BNFF_SILU, BNFF_SIGMOID);
    y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part + 2).text, "0", "1", y, &(bf_conv_bn_options){.channels = s->channels});
    return stride == 1 && in == s->channels ? bnff_add(graph, x, y) : y;
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    (void)info;
    bnff_value x = bf_conv_bn(graph, "features.0.", "0", "1", image, &(bf_conv_bn_options){.channels = 32, .kernel = 3, .stride = 2, .act = BNFF_SILU});
    int channels = 32;
    for (int s = 0; s < STAGES; s++)
        for (int b = 0; b < stages[s].blocks; b++) {
            x = block(graph, bf_layer_name("features.%d.%d", s + 1, b).text, x, channels, &stages[s], b ? 1 : stages[s].stride);
            channels = stages[s].channels;
        }
    x = bf_conv_bn(graph, "features.8.", "0", "1", x, &(bf_conv_bn_options){.channels = 4 * channels, .act = BNFF_SILU});
    x = bf_classifier_dropout(graph, bnff_global_avgpool(graph, x), options, 0.2f);
    return bnff_linear(graph, "classifier.1", x, options->classes, true);
}

const bf_family bf_efficientnet = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_UNIFORM, false, false}, true, BF_MEMBERS(models), .build = build};
