/* What a family of networks gives the zoo. A family is one file that describes its members in a table and builds them on the
 * public graph API; zoo.c knows nothing of any architecture. A new family: its file, a line in zoo.c's table, its test. */
#ifndef BF_ZOO_H
#define BF_ZOO_H

#include <bnff/model.h>

/* How torchvision initialises a family. Biases that are not listed are zero, batch normalizations 1 and 0. */
typedef enum bf_init_weights {
    BF_INIT_UNIFORM,       /* PyTorch's layer default: uniform(+-1/sqrt(fan_in)) */
    BF_INIT_NORMAL_FAN_IN, /* kaiming normal: std = sqrt(2 / fan_in),  fan_in  = C/groups * KH * KW */
    BF_INIT_NORMAL_FAN_OUT,/* kaiming normal: std = sqrt(2 / fan_out), fan_out = OC * KH * KW */
    BF_INIT_NORMAL_01      /* normal(0, 0.01) */
} bf_init_weights;
typedef struct bf_init {
    bf_init_weights conv, linear;
    bool uniform_conv_bias, uniform_linear_bias; /* uniform(+-1/sqrt(fan_in)) instead of zero */
} bf_init;

typedef struct bf_family {
    bf_init init;
    bool has_dropout;
    const void *members; /* structs that begin with a bnff_model_info: members, and patterns of names */
    int count;
    size_t size;         /* of a struct */
    /* Add a member on an image; returns the logits. `info` begins its struct in the table, or is what `match` found. Failures stick to the graph. */
    bnff_value (*build)(bnff_graph *graph, const bnff_model_info *info, bnff_value image, const bnff_model_options *options);
    /* Recognise a name that a pattern of the table stands for; info->name is then `name` itself. May be NULL. */
    bool (*match)(const char *name, bnff_model_info *info);
    /* Why a name that looks like the family's is not a member, or NULL. May be NULL. */
    const char *(*reason)(const char *name);
} bf_family;

/* The three fields of a family's table. */
#define BF_MEMBERS(table) .members = (table), .count = sizeof(table) / sizeof *(table), .size = sizeof *(table)

extern const bf_family bf_densenet, bf_resnet, bf_resnet_cifar, bf_vgg, bf_mobilenet, bf_mobilenet_v3, bf_efficientnet, bf_mnasnet, bf_regnet, bf_shufflenet,
    bf_squeezenet, bf_googlenet;

/* -- blocks.c -- */
typedef struct bf_conv_bn_options {
    int channels, kernel, stride, groups; /* 0: 1 */
    int padding;                          /* 0: half the kernel */
    bnff_activation act;
    bnff_batchnorm_options bn;
} bf_conv_bn_options;
/* Convolution <prefix><conv>, normalization <prefix><bn>, activation. */
bnff_value bf_conv_bn(bnff_graph *graph, const char *prefix, const char *conv, const char *bn, bnff_value x, const bf_conv_bn_options *options);
/* x times gate(fc2(act(fc1(average of x)))). */
bnff_value bf_squeeze_excitation(bnff_graph *graph, const char *prefix, bnff_value x, int channels, int squeezed, bnff_activation act, bnff_activation gate);
/* The dropout before a classifier: as asked for, or as published. */
bnff_value bf_classifier_dropout(bnff_graph *graph, bnff_value x, const bnff_model_options *options, float published);

/* The family that has a member of that name, NULL if none has. *info: the member, in its table or, of a pattern, *matched. */
const bf_family *bf_family_of(const char *name, const bnff_model_info **info, bnff_model_info *matched);

/* A formatted layer name. bf_layer_name("features.%d", 3).text lives to the end of the full expression, as a call's argument does. */
typedef struct bf_layer {
    char text[96];
} bf_layer;
bf_layer bf_layer_name(const char *format, ...) BNFF_PRINTF(1, 2);

#endif
