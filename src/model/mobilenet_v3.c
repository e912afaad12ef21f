/* MobileNetV3 (Howard et al. 2019), torchvision's definition and names.
 *
 *     features.0 3x3/2 ─ blocks features.1 … ─ 1x1 (six times) ─ global average ─ classifier.0 ─ hardswish ─ dropout ─ classifier.3
 *     block: x ─ 1x1 (expand) ─ depthwise ─ squeeze and excitation ─ 1x1, + x where the shape is kept
 *
 * block.N counts the parts that a block has. */
#include "model/zoo.h"

typedef struct block {
    int kernel, expanded, channels;
    bool squeeze, swish;
    int stride;
} block;

typedef struct mobilenet {
    bnff_model_info info;
    const block *blocks;
    int block_count, classifier;
} mobilenet;

static const block large[] = {
    {3, 16, 16, false, false, 1}, {3, 64, 24, false, false, 2}, {3, 72, 24, false, false, 1},  {5, 72, 40, true, false, 2},  {5, 120, 40, true, false, 1},
    {5, 120, 40, true, false, 1}, {3, 240, 80, false, true, 2}, {3, 200, 80, false, true, 1},  {3, 184, 80, false, true, 1}, {3, 184, 80, false, true, 1},
    {3, 480, 112, true, true, 1}, {3, 672, 112, true, true, 1}, {5, 672, 160, true, true, 2},  {5, 960, 160, true, true, 1}, {5, 960, 160, true, true, 1},
};
static const block small[] = {
    {3, 16, 16, true, false, 2}, {3, 72, 24, false, false, 2}, {3, 88, 24, false, false, 1}, {5, 96, 40, true, true, 2}, {5, 240, 40, true, true, 1}, {5, 240, 40, true, true, 1},
    {5, 120, 48, true, true, 1}, {5, 144, 48, true, true, 1},  {5, 288, 96, true, true, 2},  {5, 576, 96, true, true, 1}, {5, 576, 96, true, true, 1},
};

static const mobilenet models[] = {
    {{"mobilenet_v3_large", 1, 224, "classifier.3", false}, large, sizeof large / sizeof *large, 1280},
    {{"mobilenet_v3_small", 1, 224, "classifier.3", false}, small, sizeof small / sizeof *small, 1024},
};
static const bnff_batchnorm_options norm = {.eps = 1e-3f, .momentum = 1e-2f};

static bnff_value add_block(bnff_graph *graph, const char *prefix, bnff_value x, int in, const block *b)
{
    const bnff_activation act = b->swish ? BNFF_HARDSWISH : BNFF_RELU;
    int part = 0;
    bnff_value y = x;
    if (b->expanded != in) {
        y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part).text, "0", "1", y, &(bf_conv_bn_options){.channels = b->expanded, .act = act, .bn = norm});
        part++;
    }
    y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part++).text, "0", "1", y,
                   &(bf_conv_bn_options){.channels = b->expanded, .kernel = b->kernel, .stride = b->stride, .groups = b->expanded, .act = act, .bn = norm});
    if (b->squeeze) { /* to a quarter, as a multiple of 8 that is not below nine tenths of it */
        const int quarter = b->expanded / 4, rounded = quarter < 8 ? 8 : (quarter + 4) / 8 * 8, squeezed = rounded * 10 < quarter * 9 ? rounded + 8 : rounded;
        y = bf_squeeze_excitation(graph, bf_layer_name("%s.block.%d", prefix, part++).text, y, b->expanded, squeezed, BNFF_RELU, BNFF_HARDSIGMOID);
    }
    y = bf_conv_bn(graph, bf_layer_name("%s.block.%d.", prefix, part).text, "0", "1", y, &(bf_conv_bn_options){.channels = b->channels, .bn = norm});
    return b->stride == 1 && in == b->channels ? bnff_add(graph, x, y) : y;
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    const mobilenet *model = (const mobilenet *)info;
    bnff_value x = bf_conv_bn(graph, "features.0.", "0", "1", image, &(bf_conv_bn_options){.channels = 16, .kernel = 3, .stride = 2, .act = BNFF_HARDSWISH, .bn = norm});
    int channels = 16;
    for (int i = 0; i < model->block_count; i++) {
        x = add_block(graph, bf_layer_name("features.%d", i + 1).text, x, channels, &model->blocks[i]);
        channels = model->blocks[i].channels;
    }
    x = bf_conv_bn(graph, bf_layer_name("features.%d.", model->block_count + 1).text, "0", "1", x,
                   &(bf_conv_bn_options){.channels = 6 * channels, .act = BNFF_HARDSWISH, .bn = norm});
    x = bnff_linear(graph, "classifier.0", bnff_global_avgpool(graph, x), model->classifier, true);
    x = bf_classifier_dropout(graph, bnff_activate(graph, x, BNFF_HARDSWISH, 0), options, 0.2f);
    return bnff_linear(graph, "classifier.3", x, options->classes, true);
}

const bf_family bf_mobilenet_v3 = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_NORMAL_01, false, false}, true, BF_MEMBERS(models), .build = build};
