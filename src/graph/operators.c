/* The public graph API, continued: operators beside the ones that every network has. */
#include <math.h>

#include "graph/builder.h"

bnff_value bnff_mul(bnff_graph *g, bnff_value a, bnff_value b)
{
    const bnff_value in[2] = {a, b};
    if (!bf_usable(g, in, 2)) return BNFF_NONE;
    const bf_node *node = bf_add_node(g, BF_OP_MUL, NULL, in, 2);
    return node ? bf_finish(g, node) : BNFF_NONE;
}

bnff_value bnff_scale(bnff_graph *g, const char *name, bnff_value x, const bnff_scale_options *o)
{
    const bool learns = o->weight || o->bias;
    if (!bf_usable(g, &x, 1) || ((learns || name) && !bf_new_name(g, name, "a scale"))) return BNFF_NONE;
    if (!isfinite(o->factor) || !isfinite(o->offset))
        return BF_REFUSE(g, BNFF_E_ARG, "%s: factor %g and offset %g must be finite", name ? name : "scale", (double)o->factor, (double)o->offset);
    const int c = g->ir.values[x].c;
    bf_node *node = bf_add_node(g, BF_OP_SCALE, name, &x, 1);
    const int coefs = node ? bf_graph_value(&g->ir, BF_COEFS, 0, 0, 0, c) : -1;
    if (coefs < 0) return BF_REFUSE(g, BNFF_E_MEMORY, "no memory for another node of the graph");
    node->out[1] = coefs;
    node->out_count = 2;
    node->a.bn = (bf_bn_attr){.scale = true, .frozen = true, .factor = o->factor == 0 ? 1 : o->factor, .offset = o->offset};
    if (o->weight) node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_SCALE, 1, c, 1, 1, 1);
    if (o->bias) node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BIAS, 1, c, 1, 1, 1);
    return bf_finish(g, node);
}

bnff_value bnff_channel_shuffle(bnff_graph *g, bnff_value x, int groups)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    const int c = g->ir.values[x].c;
    if (groups < 1 || c % groups) return BF_REFUSE(g, BNFF_E_SHAPE, "channel shuffle: %d groups do not divide %d channels", groups, c);
    bf_node *node = bf_add_node(g, BF_OP_SHUFFLE, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.shuffle.groups = groups;
    return bf_finish(g, node);
}

static bool in_range_2(bnff_graph *g, const char *name, const char *what, int first, int second, int low, int high)
{
    return bf_in_range(g, name, what, first, low, high) && bf_in_range(g, name, what, second, low, high);
}

/* Of paddings a negative second value is none on that axis. */
static int second_padding(const int pair[2]) { return pair[1] < 0 ? 0 : bf_second_of(pair, 0); }

bnff_value bnff_conv_transpose2d(bnff_graph *g, const char *name, bnff_value x, const bnff_conv_transpose_options *o)
{
    if (!bf_usable(g, &x, 1) || !bf_new_name(g, name, "a transposed convolution")) return BNFF_NONE;
    const int c = g->ir.values[x].c;
    const bf_conv_attr a = {.oc = o->out_channels, .kh = bf_first_of(o->kernel, 1), .kw = bf_second_of(o->kernel, 1), .sh = bf_first_of(o->stride, 1),
                            .sw = bf_second_of(o->stride, 1), .ph = o->padding[0], .pw = second_padding(o->padding), .oph = o->output_padding[0],
                            .opw = second_padding(o->output_padding), .dh = bf_first_of(o->dilation, 1), .dw = bf_second_of(o->dilation, 1),
                            .groups = o->groups ? o->groups : 1, .want_dx = true};
    if (!bf_in_range(g, name, "output channels", a.oc, 1, BF_MAX_CHANNELS) || !in_range_2(g, name, "kernel", a.kh, a.kw, 1, BF_MAX_WINDOW) ||
        !in_range_2(g, name, "stride", a.sh, a.sw, 1, BF_MAX_WINDOW) || !in_range_2(g, name, "padding", a.ph, a.pw, 0, BF_MAX_WINDOW) ||
        !in_range_2(g, name, "dilation", a.dh, a.dw, 1, BF_MAX_WINDOW) || !bf_in_range(g, name, "output padding", a.oph, 0, a.sh - 1) ||
        !bf_in_range(g, name, "output padding", a.opw, 0, a.sw - 1) || !bf_in_range(g, name, "groups", a.groups, 1, BF_MAX_CHANNELS)) return BNFF_NONE;
    if (c % a.groups || a.oc % a.groups) return BF_REFUSE(g, BNFF_E_SHAPE, "%s: %d groups do not divide %d input and %d output channels", name, a.groups, c, a.oc);
    bf_node *node = bf_add_node(g, BF_OP_CONVT, name, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.conv = a;
    node->param[0] = bf_new_param(g, name, "weight", BNFF_PARAM_CONV_WEIGHT, 4, c, a.oc / a.groups, a.kh, a.kw);
    if (o->bias) node->param[1] = bf_new_param(g, name, "bias", BNFF_PARAM_BIAS, 1, a.oc, 1, 1, 1);
    return bf_finish(g, node);
}

bnff_value bnff_resize(bnff_graph *g, bnff_value x, const bnff_resize_options *o)
{
    if (!bf_usable(g, &x, 1)) return BNFF_NONE;
    const bf_resize_attr a = {.mode = o->mode, .align_corners = o->align_corners, .out_h = o->size[0], .out_w = o->size[1], .scale_h = o->scale[0],
                              .scale_w = o->scale[1] != 0 ? o->scale[1] : o->scale[0]};
    if ((unsigned)a.mode > BNFF_RESIZE_BILINEAR) return BF_REFUSE(g, BNFF_E_ARG, "resize: mode %d is unknown", (int)a.mode);
    if (a.align_corners && a.mode == BNFF_RESIZE_NEAREST) return BF_REFUSE(g, BNFF_E_ARG, "resize: align_corners is for the bilinear mode");
    const bool scaled = a.scale_h != 0 || a.scale_w != 0, sized = a.out_h || a.out_w;
    if (scaled == sized) return BF_REFUSE(g, BNFF_E_ARG, "resize: either a size or a scale must be given");
    if (sized && !in_range_2(g, "resize", "size", a.out_h, a.out_w, 1, BF_MAX_SIDE)) return BNFF_NONE;
    if (scaled && !(a.scale_h > 0 && a.scale_w > 0 && a.scale_h <= BF_MAX_WINDOW && a.scale_w <= BF_MAX_WINDOW))
        return BF_REFUSE(g, BNFF_E_ARG, "resize: scales %g and %g are not above 0 and at most %d", a.scale_h, a.scale_w, BF_MAX_WINDOW);
    bf_node *node = bf_add_node(g, BF_OP_RESIZE, NULL, &x, 1);
    if (!node) return BNFF_NONE;
    node->a.resize = a;
    return bf_finish(g, node);
}
