/* GoogLeNet with batch normalization (Szegedy et al. 2015), torchvision's definition and names, without the auxiliary classifiers.
 *
 *     conv1 7x7/2 ─ max ─ conv2 1x1 ─ conv3 3x3 ─ max ─ nine inception modules, a max before 4a and 5a ─ global average ─ dropout ─ fc
 *     module: 1x1 | 1x1 ─ 3x3 | 1x1 ─ 3x3 | max 3x3 ─ 1x1, concatenated */
#include "model/zoo.h"

static const bnff_model_info models[] = {{"googlenet", 15, 224, "fc", false}};

/* Inception modules: channels of branch 1, of the two convolutions of branches 2 and 3, of branch 4; a pooling before? */
static const struct module {
    const char *name;
    int one, two[2], three[2], four, pool;
} modules[] = {
    {"inception3a", 64, {96, 128}, {16, 32}, 32, 0},    {"inception3b", 128, {128, 192}, {32, 96}, 64, 0},  {"inception4a", 192, {96, 208}, {16, 48}, 64, 3},
    {"inception4b", 160, {112, 224}, {24, 64}, 64, 0},  {"inception4c", 128, {128, 256}, {24, 64}, 64, 0},  {"inception4d", 112, {144, 288}, {32, 64}, 64, 0},
    {"inception4e", 256, {160, 320}, {32, 128}, 128, 0}, {"inception5a", 256, {160, 320}, {32, 128}, 128, 2}, {"inception5b", 384, {192, 384}, {48, 128}, 128, 0},
};
enum { MODULES = sizeof modules / sizeof *modules };

static bnff_value conv(bnff_graph *graph, const char *prefix, const char *name, bnff_value x, int channels, int kernel, int stride)
{
    const bf_conv_bn_options o = {.channels = channels, .kernel = kernel, .stride = stride, .act = BNFF_RELU, .bn = {.eps = 1e-3f}};
    return bf_conv_bn(graph, bf_layer_name("%s%s", prefix, name).text, ".conv", ".bn", x, &o);
}

static bnff_value pool(bnff_graph *graph, bnff_value x, int kernel, int stride)
{
    return bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {kernel}, .stride = {stride}, .padding = {stride == 1 ? 1 : 0}, .ceil_mode = true});
}

static bnff_value inception(bnff_graph *graph, const struct module *m, bnff_value x)
{
    bnff_value branch[4];
    branch[0] = conv(graph, m->name, ".branch1", x, m->one, 1, 1);
    branch[1] = conv(graph, m->name, ".branch2.1", conv(graph, m->name, ".branch2.0", x, m->two[0], 1, 1), m->two[1], 3, 1);
    branch[2] = conv(graph, m->name, ".branch3.1", conv(graph, m->name, ".branch3.0", x, m->three[0], 1, 1), m->three[1], 3, 1);
    branch[3] = conv(graph, m->name, ".branch4.1", pool(graph, x, 3, 1), m->four, 1, 1);
    return bnff_concat(graph, branch, 4);
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    (void)info;
    bnff_value x = pool(graph, conv(graph, "", "conv1", image, 64, 7, 2), 3, 2);
    x = pool(graph, conv(graph, "", "conv3", conv(graph, "", "conv2", x, 64, 1, 1), 192, 3, 1), 3, 2);
    for (int i = 0; i < MODULES; i++) x = inception(graph, &modules[i], modules[i].pool ? pool(graph, x, modules[i].pool, 2) : x);
    return bnff_linear(graph, "fc", bf_classifier_dropout(graph, bnff_global_avgpool(graph, x), options, 0.2f), options->classes, true);
}

const bf_family bf_googlenet = {{BF_INIT_NORMAL_01, BF_INIT_NORMAL_01, false, false}, true, BF_MEMBERS(models), .build = build};
