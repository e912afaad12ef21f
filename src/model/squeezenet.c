/* SqueezeNet (Iandola et al. 2016), torchvision's definition and names. It has no batch normalization.
 *
 *     features.0 /2 ─ max 3x3/2 ─ eight fire modules, two poolings between them ─ dropout ─ classifier.1 1x1 ─ relu ─ global average
 *     fire: squeeze 1x1, then expand1x1 beside expand3x3; each with bias and relu */
#include "model/zoo.h"

typedef struct squeezenet {
    bnff_model_info info;
    int first, kernel;
    int pools[2]; /* squeeze layers before the second and third pooling */
} squeezenet;

/* The first convolution and pooling need 17 pixels, or 21, so that the last pooling has one left. */
static const squeezenet models[] = {
    {{"squeezenet1_0", 21, 224, "classifier.1", false}, 96, 7, {3, 7}},
    {{"squeezenet1_1", 17, 224, "classifier.1", false}, 64, 3, {2, 4}},
};
static const int squeezed[] = {16, 16, 32, 32, 48, 48, 64, 64};

static bnff_value conv_relu(bnff_graph *graph, const char *prefix, const char *name, bnff_value x, int channels, int kernel, int stride)
{
    const bnff_conv_options o = {.out_channels = channels, .kernel = {kernel}, .stride = {stride}, .padding = {stride == 1 ? kernel / 2 : 0}, .bias = true};
    return bnff_relu(graph, bnff_conv2d(graph, bf_layer_name("%s%s", prefix, name).text, x, &o));
}

static bnff_value fire(bnff_graph *graph, const char *prefix, bnff_value x, int squeeze)
{
    x = conv_relu(graph, prefix, ".squeeze", x, squeeze, 1, 1);
    const bnff_value narrow = conv_relu(graph, prefix, ".expand1x1", x, 4 * squeeze, 1, 1), wide = conv_relu(graph, prefix, ".expand3x3", x, 4 * squeeze, 3, 1);
    return bnff_concat(graph, (const bnff_value[]){narrow, wide}, 2);
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    static const bnff_pool_options pool = {.kernel = {3}, .stride = {2}, .ceil_mode = true};
    const squeezenet *model = (const squeezenet *)info;
    bnff_value x = bnff_maxpool(graph, conv_relu(graph, "features.", "0", image, model->first, model->kernel, 2), &pool);
    int index = 3;
    for (int i = 0; i < 8; i++) {
        if (i == model->pools[0] || i == model->pools[1]) x = bnff_maxpool(graph, x, &pool), index++;
        x = fire(graph, bf_layer_name("features.%d", index++).text, x, squeezed[i]);
    }
    x = bf_classifier_dropout(graph, x, options, 0.5f);
    return bnff_global_avgpool(graph, conv_relu(graph, "classifier.", "1", x, options->classes, 1, 1));
}

const bf_family bf_squeezenet = {{BF_INIT_NORMAL_FAN_IN, BF_INIT_UNIFORM, false, false}, true, BF_MEMBERS(models), .build = build};
