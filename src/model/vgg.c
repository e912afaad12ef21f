/* VGG with batch normalization (Simonyan & Zisserman 2015), torchvision's definition and names.
 *
 *     [ (conv 3x3 ─ bn ─ relu) x n ─ max 2x2 ] x 5 ─ average to 7x7 ─ (linear 4096 ─ relu ─ dropout) x 2 ─ linear
 *
 * features.N counts every module: a convolution, its BN and its ReLU take three, a pooling one. Convolutions have a bias. */
#include "model/zoo.h"

typedef struct vgg {
    bnff_model_info info;
    int convs[5]; /* in each stage */
} vgg;

/* Five poolings halve 32 pixels to one. */
#define INFO(name) {name, 32, 224, "classifier.6", false}

static const vgg models[] = {
    {INFO("vgg11_bn"), {1, 1, 2, 2, 2}},
    {INFO("vgg13_bn"), {2, 2, 2, 2, 2}},
    {INFO("vgg16_bn"), {2, 2, 3, 3, 3}},
    {INFO("vgg19_bn"), {2, 2, 4, 4, 4}},
};

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    static const int channels[5] = {64, 128, 256, 512, 512};
    const vgg *model = (const vgg *)info;
    bnff_value x = image;
    int module = 0;
    for (int s = 0; s < 5; s++) {
        for (int i = 0; i < model->convs[s]; i++, module += 3) {
            const bnff_conv_options conv = {.out_channels = channels[s], .kernel = {3}, .padding = {1}, .bias = true};
            x = bnff_conv2d(graph, bf_layer_name("features.%d", module).text, x, &conv);
            x = bnff_relu(graph, bnff_batchnorm(graph, bf_layer_name("features.%d", module + 1).text, x, NULL));
        }
        x = bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {2}});
        module++;
    }
    const float dropout = options->dropout < 0 ? 0 : options->dropout > 0 ? options->dropout : 0.5f;
    x = bnff_adaptive_avgpool(graph, x, 7, 7);
    for (int i = 0; i < 2; i++) {
        x = bnff_relu(graph, bnff_linear(graph, bf_layer_name("classifier.%d", 3 * i).text, x, 4096, true));
        if (dropout > 0) x = bnff_dropout(graph, x, dropout);
    }
    return bnff_linear(graph, "classifier.6", x, options->classes, true);
}

const bf_family bf_vgg = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_NORMAL_01, false, false}, true, BF_MEMBERS(models), .build = build};
