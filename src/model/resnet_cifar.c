/* The CIFAR ResNets of He et al. 2016, section 4.2: 6n + 2 layers, widths 16, 32, 64, names as torchvision would choose them.
 *
 *     conv1 3x3 ─ bn1 ─ relu ─ layer1 … layer3 (n basic blocks each) ─ global average ─ fc
 *     out = relu(bn2(conv2 3x3(relu(bn1(conv1 3x3(x))))) + shortcut)
 *
 * Shortcut option A, which has no parameters: where the shape changes, every second pixel of x (a 1x1 average pooling of
 * stride 2), its C channels padded to 2C by zeros. Adding zeros is adding nothing: with y the block's branch,
 *     y + pad(x) = concat(y[0, C) + x, y[C, 2C)). */
#include "model/zoo.h"

typedef struct resnet {
    bnff_model_info info;
    int blocks; /* n */
} resnet;

#define INFO(name) {name, 1, 32, "fc", false}

static const resnet models[] = {
    {INFO("resnet20"), 3}, {INFO("resnet32"), 5}, {INFO("resnet44"), 7}, {INFO("resnet56"), 9}, {INFO("resnet110"), 18},
};

static bnff_value conv_bn(bnff_graph *graph, const char *prefix, int index, bnff_value x, int channels, int stride)
{
    const bnff_conv_options options = {.out_channels = channels, .kernel = {3}, .stride = {stride}, .padding = {1}};
    x = bnff_conv2d(graph, bf_layer_name("%sconv%d", prefix, index).text, x, &options);
    return bnff_batchnorm(graph, bf_layer_name("%sbn%d", prefix, index).text, x, NULL);
}

static bnff_value add_shortcut(bnff_graph *graph, bnff_value y, bnff_value x, int channels, int stride)
{
    if (stride == 1) return bnff_add(graph, y, x);
    const bnff_value pixels = bnff_avgpool(graph, x, &(bnff_pool_options){.kernel = {1}, .stride = {stride}});
    const int half = channels / 2;
    const bnff_value sum = bnff_add(graph, bnff_slice(graph, y, 0, half), pixels);
    return bnff_concat(graph, (const bnff_value[]){sum, bnff_slice(graph, y, half, half)}, 2);
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    const resnet *model = (const resnet *)info;
    bnff_value x = bnff_relu(graph, conv_bn(graph, "", 1, image, 16, 1));
    for (int l = 0; l < 3; l++) {
        const int channels = 16 << l;
        for (int b = 0; b < model->blocks; b++) {
            const bf_layer prefix = bf_layer_name("layer%d.%d.", l + 1, b);
            const int stride = l > 0 && b == 0 ? 2 : 1;
            bnff_value y = bnff_relu(graph, conv_bn(graph, prefix.text, 1, x, channels, stride));
            y = conv_bn(graph, prefix.text, 2, y, channels, 1);
            x = bnff_relu(graph, add_shortcut(graph, y, x, channels, stride));
        }
    }
    return bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), options->classes, true);
}

const bf_family bf_resnet_cifar = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_UNIFORM, false, true}, false, BF_MEMBERS(models), .build = build};
