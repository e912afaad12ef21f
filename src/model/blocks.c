/* What several families are made of. */
#include "model/zoo.h"

bnff_value bf_conv_bn(bnff_graph *graph, const char *prefix, const char *conv, const char *bn, bnff_value x, const bf_conv_bn_options *o)
{
    const int kernel = o->kernel ? o->kernel : 1;
    const bnff_conv_options options = {
        .out_channels = o->channels, .kernel = {kernel}, .stride = {o->stride ? o->stride : 1}, .padding = {o->padding ? o->padding : kernel / 2}, .groups = o->groups};
    x = bnff_conv2d(graph, bf_layer_name("%s%s", prefix, conv).text, x, &options);
    x = bnff_batchnorm(graph, bf_layer_name("%s%s", prefix, bn).text, x, &o->bn);
    return o->act == BNFF_IDENTITY ? x : bnff_activate(graph, x, o->act, 0);
}

bnff_value bf_squeeze_excitation(bnff_graph *graph, const char *prefix, bnff_value x, int channels, int squeezed, bnff_activation act, bnff_activation gate)
{
    bnff_value s = bnff_global_avgpool(graph, x);
    s = bnff_conv2d(graph, bf_layer_name("%s.fc1", prefix).text, s, &(bnff_conv_options){.out_channels = squeezed, .bias = true});
    s = bnff_conv2d(graph, bf_layer_name("%s.fc2", prefix).text, bnff_activate(graph, s, act, 0), &(bnff_conv_options){.out_channels = channels, .bias = true});
    return bnff_mul_gate(graph, x, bnff_activate(graph, s, gate, 0));
}

bnff_value bf_classifier_dropout(bnff_graph *graph, bnff_value x, const bnff_model_options *options, float published)
{
    const float p = options->dropout < 0 ? 0 : options->dropout > 0 ? options->dropout : published;
    return p > 0 ? bnff_dropout(graph, x, p) : x;
}
