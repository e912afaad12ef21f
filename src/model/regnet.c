/* RegNetY (Radosavovic et al. 2020), torchvision's definition and names.
 *
 *     stem 3x3/2 ─ trunk_output.block1 … 4 ─ global average ─ fc
 *     block: relu(f.c 1x1(se(f.b 3x3 grouped(f.a 1x1(x)))) + x, or proj 1x1(x) where the shape changes) */
#include "model/zoo.h"

typedef struct regnet {
    bnff_model_info info;
    int widths[4], depths[4], group_width;
} regnet;

static const regnet models[] = {
    {{"regnet_y_400mf", 1, 224, "fc", false}, {48, 104, 208, 440}, {1, 3, 6, 6}, 8},
};

static bnff_value block(bnff_graph *graph, const char *prefix, bnff_value x, int in, int width, int stride, int group_width)
{
    const bnff_value shortcut = in == width && stride == 1 ? x : bf_conv_bn(graph, prefix, ".proj.0", ".proj.1", x, &(bf_conv_bn_options){.channels = width, .stride = stride});
    bnff_value y = bf_conv_bn(graph, prefix, ".f.a.0", ".f.a.1", x, &(bf_conv_bn_options){.channels = width, .act = BNFF_RELU});
    y = bf_conv_bn(graph, prefix, ".f.b.0", ".f.b.1", y, &(bf_conv_bn_options){.channels = width, .kernel = 3, .stride = stride, .groups = width / group_width, .act = BNFF_RELU});
    y = bf_squeeze_excitation(graph, bf_layer_name("%s.f.se", prefix).text, y, width, in / 4, BNFF_RELU, BNFF_SIGMOID);
    y = bf_conv_bn(graph, prefix, ".f.c.0", ".f.c.1", y, &(bf_conv_bn_options){.channels = width});
    return bnff_relu(graph, bnff_add(graph, shortcut, y));
}

static bnff_value build(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options)
{
    const regnet *model = (const regnet *)info;
    bnff_value x = bf_conv_bn(graph, "stem.", "0", "1", image, &(bf_conv_bn_options){.channels = 32, .kernel = 3, .stride = 2, .act = BNFF_RELU});
    int channels = 32;
    for (int s = 0; s < 4; s++)
        for (int b = 0; b < model->depths[s]; b++) {
            x = block(graph, bf_layer_name("trunk_output.block%d.block%d-%d", s + 1, s + 1, b).text, x, channels, model->widths[s], b ? 1 : 2, model->group_width);
            channels = model->widths[s];
        }
    return bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), options->classes, true);
}

const bf_family bf_regnet = {{BF_INIT_NORMAL_FAN_OUT, BF_INIT_NORMAL_01, false, false}, false, BF_MEMBERS(models), .build = build};
