/* DenseNet (Huang, Liu, van der Maaten & Weinberger 2017), torchvision's definition and names, and the paper's CIFAR networks.
 *
 *     stem ─ [ dense block ─ transition ]… ─ dense block ─ norm5 ─ relu ─ global average ─ classifier
 *     dense layer:  x ─ norm1 ─ relu ─ conv1 1x1 (4k) ─ norm2 ─ relu ─ conv2 3x3 (k) ─ dropout;  x := concat(x, that)
 *     transition:   norm ─ relu ─ conv 1x1 (half the channels) ─ average 2x2
 *
 * The CIFAR networks have a 3x3 stem without BN or pooling and three blocks of equal length. Their names are what
 * torchvision's class would give them: features.conv0, features.denseblockN.denselayerM.*, features.transitionN.*, and
 * features.norm5 for the last normalization although there are three blocks only. */
#include "model/zoo.h"

#include <stdlib.h>
#include <string.h>

typedef struct densenet {
    bnff_model_info info;
    int growth;      /* k: channels that each layer adds */
    int stem;        /* channels after the stem */
    int blocks[4];   /* layers of each block; 0: no such block */
    bool cifar;      /* 3x3 stem for 32x32 images */
    bool plain;      /* no bottleneck, no compression: the paper's DenseNet without BC */
} densenet;

/* 224: 29 pixels leave one pixel after the stem (/4) and three transitions (/8). CIFAR: two transitions. */
#define IMAGENET(name) {name, 29, 224, "classifier", false}
#define CIFAR(name, pattern) {name, 4, 32, "classifier", pattern}

static const densenet models[] = {
    {IMAGENET("densenet121"), 32, 64, {6, 12, 24, 16}},
    {IMAGENET("densenet161"), 48, 96, {6, 12, 36, 24}},
    {IMAGENET("densenet169"), 32, 64, {6, 12, 32, 32}},
    {IMAGENET("densenet201"), 32, 64, {6, 12, 48, 32}},
    {CIFAR("densenet-bc-22-12", false), 12, 24, {3, 3, 3}, true},
    {CIFAR("densenet-bc-40-12", false), 12, 24, {6, 6, 6}, true},
    {CIFAR("densenet-bc-100-12", false), 12, 24, {16, 16, 16}, true},
    {CIFAR("densenet-bc-250-24", false), 24, 48, {41, 41, 41}, true},
    {CIFAR("densenet-bc-190-40", false), 40, 80, {31, 31, 31}, true},
    {CIFAR("densenet-40-12", false), 12, 16, {12, 12, 12}, true, true},
    {CIFAR("densenet-100-12", false), 12, 16, {32, 32, 32}, true, true},
    {CIFAR("densenet-100-24", false), 24, 16, {32, 32, 32}, true, true},
    {CIFAR("densenet-bc-L-k", true), 0, 0, {0}, true},
    {CIFAR("densenet-L-k", true), 0, 0, {0}, true, true},
};

enum { MAX_DEPTH = 1000, MAX_GROWTH = 256 };

/* Decimal number without sign or leading zero, at most 9999, followed by `end`; -1 if it is not one. */
static int read_number(const char **text, char end)
{
    int digits = 0, value = 0;
    const char *at = *text;
    for (; *at >= '0' && *at <= '9' && digits < 4; at++, digits++) value = value * 10 + (*at - '0');
    if (!digits || **text == '0' || *at != end) return -1;
    *text = at + (end != '\0');
    return value;
}

/* Depth and growth of "densenet-L-k" or "densenet-bc-L-k"; false if the name has not that form. */
static bool read_pattern(const char *name, bool *plain, int *depth, int *growth)
{
    static const char bc[] = "densenet-bc-", all[] = "densenet-";
    *plain = strncmp(name, bc, strlen(bc)) != 0;
    if (*plain && strncmp(name, all, strlen(all))) return false;
    const char *at = name + (*plain ? strlen(all) : strlen(bc));
    *depth = read_number(&at, '-');
    *growth = *depth < 0 ? -1 : read_number(&at, '\0');
    return *growth >= 0;
}

static const char *reason(const char *name)
{
    bool plain;
    int depth, growth;
    if (!read_pattern(name, &plain, &depth, &growth)) {
        const bool family = !strncmp(name, "densenet-bc-", 12) || !strncmp(name, "densenet-L", 10);
        return family ? "L and k stand for numbers, as in densenet-bc-100-12" : NULL;
    }
    if (depth > MAX_DEPTH || growth > MAX_GROWTH || growth < 1) return "the depth is at most 1000, the growth 1 to 256";
    if (plain) return depth < 7 || (depth - 4) % 3 ? "the depth is 4 more than a multiple of 3" : NULL;
    return depth < 10 || (depth - 4) % 6 ? "the depth is 4 more than a multiple of 6" : NULL;
}

/* The member of a pattern's form that is called `name`. */
static bool make(const char *name, densenet *model)
{
    bool plain;
    int depth, growth;
    if (!read_pattern(name, &plain, &depth, &growth) || reason(name)) return false;
    const int layers = (depth - 4) / (plain ? 3 : 6);
    *model = (densenet){CIFAR(name, true), growth, plain ? 16 : 2 * growth, {layers, layers, layers}, true, plain};
    return true;
}

static bool match(const char *name, bnff_model_info *info)
{
    densenet model;
    if (!make(name, &model)) return false;
    *info = model.info;
    return true;
}

/* norm ─ relu ─ convolution: pre-activation, the order of everything behind the stem. */
static bnff_value norm_relu_conv(bnff_graph *graph, const char *prefix, const char *norm, const char *conv, bnff_value x, int channels,
                                 int kernel)
{
    const bnff_conv_options options = {.out_channels = channels, .kernel = {kernel}, .padding = {kernel / 2}};
    x = bnff_relu(graph, bnff_batchnorm(graph, bf_layer_name("%s.%s", prefix, norm).text, x, NULL));
    return bnff_conv2d(graph, bf_layer_name("%s.%s", prefix, conv).text, x, &options);
}

static bnff_value dense_layer(bnff_graph *graph, const densenet *model, const char *prefix, bnff_value x, float dropout)
{
    bnff_value y;
    if (model->plain) {
        y = norm_relu_conv(graph, prefix, "norm1", "conv1", x, model->growth, 3);
    } else {
        y = norm_relu_conv(graph, prefix, "norm1", "conv1", x, 4 * model->growth, 1);
        y = norm_relu_conv(graph, prefix, "norm2", "conv2", y, model->growth, 3);
    }
    if (dropout > 0) y = bnff_dropout(graph, y, dropout);
    return bnff_concat(graph, (const bnff_value[]){x, y}, 2);
}

static bnff_value stem(bnff_graph *graph, const densenet *model, bnff_value image)
{
    bnff_conv_options conv = {.out_channels = model->stem, .kernel = {3}, .padding = {1}};
    if (model->cifar) return bnff_conv2d(graph, "features.conv0", image, &conv);
    conv.kernel[0] = 7, conv.stride[0] = 2, conv.padding[0] = 3;
    const bnff_value x = bnff_batchnorm(graph, "features.norm0", bnff_conv2d(graph, "features.conv0", image, &conv), NULL);
    return bnff_maxpool(graph, bnff_relu(graph, x), &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    densenet made;
    const densenet *model = info->pattern && make(info->name, &made) ? &made : (const densenet *)info;
    bnff_value x = stem(graph, model, image);
    int channels = model->stem;
    for (int b = 0; b < 4 && model->blocks[b]; b++) {
        if (b > 0) {
            channels /= model->plain ? 1 : 2;
            x = norm_relu_conv(graph, bf_layer_name("features.transition%d", b).text, "norm", "conv", x, channels, 1);
            x = bnff_avgpool(graph, x, &(bnff_pool_options){.kernel = {2}});
        }
        for (int i = 0; i < model->blocks[b]; i++)
            x = dense_layer(graph, model, bf_layer_name("features.denseblock%d.denselayer%d", b + 1, i + 1).text, x, options->dropout);
        channels += model->blocks[b] * model->growth;
    }
    x = bnff_relu(graph, bnff_batchnorm(graph, "features.norm5", x, NULL));
    return bnff_linear(graph, "classifier", bnff_global_avgpool(graph, x), options->classes, true);
}

const bf_family bf_densenet = {{BF_INIT_NORMAL_FAN_IN, BF_INIT_UNIFORM, false, false}, true, BF_MEMBERS(models), .build = build, .match = match, .reason = reason};
