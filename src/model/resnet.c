/* ResNet (He, Zhang, Ren & Sun 2016), wide ResNet and ResNeXt, torchvision's definition and names (stride in conv2: "v1.5").
 *
 *     conv1 7x7/2 ─ bn1 ─ relu ─ max 3x3/2 ─ layer1 … layer4 ─ global average ─ fc
 *     basic:       out = relu(bn2(conv2 3x3(relu(bn1(conv1 3x3(x))))) + shortcut)
 *     bottleneck:  out = relu(bn3(conv3 1x1(relu(bn2(conv2 3x3(relu(bn1(conv1 1x1(x)))))))) + shortcut)
 *     shortcut:    x, or downsample.1(downsample.0 1x1(x)) where the shape changes */
#include "model/zoo.h"

typedef struct resnet {
    bnff_model_info info;
    int blocks[4];
    bool bottleneck;
    int groups, base_width; /* conv2 of a bottleneck has planes * base_width / 64 * groups channels */
} resnet;

#define INFO(name) {name, 1, 224, "fc", false}

static const resnet models[] = {
    {INFO("resnet18"), {2, 2, 2, 2}, false, 1, 64},
    {INFO("resnet34"), {3, 4, 6, 3}, false, 1, 64},
    {INFO("resnet50"), {3, 4, 6, 3}, true, 1, 64},
    {INFO("resnet101"), {3, 4, 23, 3}, true, 1, 64},
    {INFO("resnet152"), {3, 8, 36, 3}, true, 1, 64},
    {INFO("wide_resnet50_2"), {3, 4, 6, 3}, true, 1, 128},
    {INFO("wide_resnet101_2"), {3, 4, 23, 3}, true, 1, 128},
    {INFO("resnext50_32x4d"), {3, 4, 6, 3}, true, 32, 4},
    {INFO("resnext101_32x8d"), {3, 4, 23, 3}, true, 32, 8},
    {INFO("resnext101_64x4d"), {3, 4, 23, 3}, true, 64, 4},
};

static bnff_value conv_bn(bnff_graph *graph, const char *prefix, const char *conv, const char *bn, bnff_value x, int channels, int kernel,
                          int stride, int groups)
{
    const bnff_conv_options options = {
        .out_channels = channels, .kernel = {kernel}, .stride = {stride}, .padding = {kernel / 2}, .groups = groups};
    x = bnff_conv2d(graph, bf_layer_name("%s.%s", prefix, conv).text, x, &options);
    return bnff_batchnorm(graph, bf_layer_name("%s.%s", prefix, bn).text, x, NULL);
}

/* `in` is the number of channels of x. */
static bnff_value block(bnff_graph *graph, const resnet *model, const char *prefix, bnff_value x, int in, int planes, int stride)
{
    const int out = model->bottleneck ? 4 * planes : planes;
    bnff_value y;
    if (model->bottleneck) {
        const int width = planes * model->base_width / 64 * model->groups;
        y = bnff_relu(graph, conv_bn(graph, prefix, "conv1", "bn1", x, width, 1, 1, 1));
        y = bnff_relu(graph, conv_bn(graph, prefix, "conv2", "bn2", y, width, 3, stride, model->groups));
        y = conv_bn(graph, prefix, "conv3", "bn3", y, out, 1, 1, 1);
    } else {
        y = bnff_relu(graph, conv_bn(graph, prefix, "conv1", "bn1", x, planes, 3, stride, 1));
        y = conv_bn(graph, prefix, "conv2", "bn2", y, planes, 3, 1, 1);
    }
    const bool same = stride == 1 && in == out;
    const bnff_value shortcut = same ? x : conv_bn(graph, prefix, "downsample.0", "downsample.1", x, out, 1, stride, 1);
    return bnff_relu(graph, bnff_add(graph, y, shortcut));
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    const resnet *model = (const resnet *)info;
    const bnff_conv_options stem = {.out_channels = 64, .kernel = {7}, .stride = {2}, .padding = {3}};
    bnff_value x = bnff_relu(graph, bnff_batchnorm(graph, "bn1", bnff_conv2d(graph, "conv1", image, &stem), NULL));
    x = bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    int channels = 64;
    for (int l = 0; l < 4; l++) {
        const int planes = 64 << l;
        for (int b = 0; b < model->blocks[l]; b++) {
            x = block(graph, model, bf_layer_name("layer%d.%d", l + 1, b).text, x, channels, planes, l > 0 && b == 0 ? 2 : 1);
            channels = model->bottleneck ? 4 * planes : planes;
        }
    }
    return bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), options->classes, true);
}

const bf_family bf_resnet = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_UNIFORM, false, true}, false, BF_MEMBERS(models), .build = build};
