/* ShuffleNetV2 (Ma et al. 2018), torchvision's definition and names.
 *
 *     conv1 3x3/2 ─ max 3x3/2 ─ stage2 … 4 ─ conv5 1x1 ─ global average ─ fc
 *     unit: half of x, or branch1(x) where it halves the image, beside branch2 of the other half, or of x; then channels are shuffled
 *     branch2: 1x1 ─ depthwise 3x3 ─ 1x1;  branch1: depthwise 3x3 ─ 1x1 */
#include "model/zoo.h"

typedef struct shufflenet {
    bnff_model_info info;
    int channels[3], last;
} shufflenet;

static const shufflenet models[] = {
    {{"shufflenet_v2_x0_5", 1, 224, "fc", false}, {48, 96, 192}, 1024},
    {{"shufflenet_v2_x1_0", 1, 224, "fc", false}, {116, 232, 464}, 1024},
    {{"shufflenet_v2_x1_5", 1, 224, "fc", false}, {176, 352, 704}, 1024},
    {{"shufflenet_v2_x2_0", 1, 224, "fc", false}, {244, 488, 976}, 2048},
};
static const int units[3] = {4, 8, 4};

static bnff_value unit(bnff_graph *graph, const char *prefix, bnff_value x, int in, int out, int stride)
{
    const int half = out / 2;
    bnff_value parts[2];
    if (stride == 1) {
        parts[0] = bnff_slice(graph, x, 0, half);
        x = bnff_slice(graph, x, half, half);
    } else {
        const bnff_value y = bf_conv_bn(graph, prefix, ".branch1.0", ".branch1.1", x, &(bf_conv_bn_options){.channels = in, .kernel = 3, .stride = stride, .groups = in});
        parts[0] = bf_conv_bn(graph, prefix, ".branch1.2", ".branch1.3", y, &(bf_conv_bn_options){.channels = half, .act = BNFF_RELU});
    }
    x = bf_conv_bn(graph, prefix, ".branch2.0", ".branch2.1", x, &(bf_conv_bn_options){.channels = half, .act = BNFF_RELU});
    x = bf_conv_bn(graph, prefix, ".branch2.3", ".branch2.4", x, &(bf_conv_bn_options){.channels = half, .kernel = 3, .stride = stride, .groups = half});
    parts[1] = bf_conv_bn(graph, prefix, ".branch2.5", ".branch2.6", x, &(bf_conv_bn_options){.channels = half, .act = BNFF_RELU});
    return bnff_channel_shuffle(graph, bnff_concat(graph, parts, 2), 2);
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    const shufflenet *model = (const shufflenet *)info;
    bnff_value x = bf_conv_bn(graph, "conv1.", "0", "1", image, &(bf_conv_bn_options){.channels = 24, .kernel = 3, .stride = 2, .act = BNFF_RELU});
    x = bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    int channels = 24;
    for (int s = 0; s < 3; s++)
        for (int u = 0; u < units[s]; u++) {
            x = unit(graph, bf_layer_name("stage%d.%d", s + 2, u).text, x, channels, model->channels[s], u ? 1 : 2);
            channels = model->channels[s];
        }
    x = bf_conv_bn(graph, "conv5.", "0", "1", x, &(bf_conv_bn_options){.channels = model->last, .act = BNFF_RELU});
    return bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), options->classes, true);
}

const bf_family bf_shufflenet = {{BF_INIT_UNIFORM, BF_INIT_UNIFORM, false, true}, false, BF_MEMBERS(models), .build = build};
