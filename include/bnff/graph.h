/* Describing a network: values, operators, parameters.
 *
 * A graph says nothing of batch size, threads or memory: a plan (plan.h) fixes those. A value is an N x H x W x C tensor
 * (channels_last); C is known when the graph is built, H and W when the plan is made, except after pooling to a fixed size.
 *
 * Errors are sticky: the first call that fails records its message in the graph and returns BNFF_NONE; later calls that
 * are given BNFF_NONE return BNFF_NONE and change nothing. A builder checks once, with bnff_graph_status, at its end.
 */
#ifndef BNFF_GRAPH_H
#define BNFF_GRAPH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bnff/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_graph bnff_graph;
typedef int32_t bnff_value;
#define BNFF_NONE ((bnff_value)-1)

BNFF_API bnff_status bnff_graph_create(bnff_graph **graph, bnff_error *error);
BNFF_API void bnff_graph_destroy(bnff_graph **graph);
/** The first failure of any call on this graph, or BNFF_OK; fills *error (may be NULL) with its message. */
BNFF_API bnff_status bnff_graph_status(const bnff_graph *graph, bnff_error *error);

/* -- Parameters ------------------------------------------------------------------------------------------------- */

typedef enum bnff_param_kind {
    BNFF_PARAM_CONV_WEIGHT,   /* [OC, C/groups, KH, KW] */
    BNFF_PARAM_LINEAR_WEIGHT, /* [out, in] */
    BNFF_PARAM_BIAS,          /* [OC] of a convolution or linear layer */
    BNFF_PARAM_BN_WEIGHT,     /* gamma [C] */
    BNFF_PARAM_BN_BIAS,       /* beta [C] */
    BNFF_PARAM_RUNNING_MEAN,  /* buffer [C]: written by training forwards, never by an optimizer */
    BNFF_PARAM_RUNNING_VAR,   /* buffer [C] */
    BNFF_PARAM_SCALE          /* factor [C] of a scale */
} bnff_param_kind;

typedef struct bnff_param_info {
    const char *name; /* "features.norm0.weight"; owned by the graph */
    bnff_param_kind kind;
    int rank;
    int64_t shape[4];
    int64_t elements;
    bool is_buffer; /* running statistics */
} bnff_param_info;

/** Parameters and buffers in order of creation, which is state-dict order. Everywhere else they are named by this index. */
BNFF_API int bnff_graph_param_count(const bnff_graph *graph);
/** @return false if index is out of range. */
BNFF_API bool bnff_graph_param(const bnff_graph *graph, int index, bnff_param_info *info);
/** Index of the parameter of that name, or -1. */
BNFF_API int bnff_graph_find_param(const bnff_graph *graph, const char *name);

/* -- Operators --------------------------------------------------------------------------------------------------- *
 * `name` is copied, must be unique in the graph and prefixes the parameters; it may be NULL for operators without.   */

/** The network's image input with C channels, 1 <= C <= 65536. A graph may have several inputs. */
BNFF_API bnff_value bnff_input(bnff_graph *graph, const char *name, int channels);
/** An input whose H and W are known now, so that the sizes of what follows are: a linear layer needs no pooling before it. */
BNFF_API bnff_value bnff_input_sized(bnff_graph *graph, const char *name, int channels, int height, int width);

/** Zero-initialised fields take the defaults in parentheses. */
typedef struct bnff_conv_options {
    int out_channels; /* > 0, a multiple of groups */
    int kernel[2];    /* KH, KW (1); kernel[1] = 0 means square, likewise below */
    int stride[2];    /* (1) */
    int padding[2];   /* (0); padding[1] < 0 means 0, padding[1] = 0 means square */
    int dilation[2];  /* (1) */
    int groups;       /* (1), divides the input channels */
    bool bias;        /* (false) */
} bnff_conv_options;

/**
 * Convolution (cross-correlation, as in PyTorch):
 *     y[n,oh,ow,oc] = bias[oc] + sum_{kh,kw,c} x[n, oh*sh - ph + kh*dh, ow*sw - pw + kw*dw, c] * weight[oc,c,kh,kw]
 * OH = floor((H + 2 ph - dh (KH - 1) - 1) / sh) + 1. Parameters <name>.weight, <name>.bias.
 */
BNFF_API bnff_value bnff_conv2d(bnff_graph *graph, const char *name, bnff_value x, const bnff_conv_options *options);

typedef struct bnff_conv_transpose_options {
    int out_channels;      /* > 0, a multiple of groups */
    int kernel[2];         /* KH, KW (1); kernel[1] = 0 means square, likewise below */
    int stride[2];         /* (1) */
    int padding[2];        /* (0); padding[1] < 0 means 0, padding[1] = 0 means square */
    int output_padding[2]; /* (0); below the stride; output_padding[1] < 0 means 0, output_padding[1] = 0 means square */
    int dilation[2];       /* (1) */
    int groups;            /* (1), divides the input channels */
    bool bias;             /* (false) */
} bnff_conv_transpose_options;

/**
 * Transposed convolution (the data gradient of a convolution of the same settings, as in PyTorch): every x[n,h,w,c] adds
 * x * weight[c,oc,kh,kw] to y[n, h*sh - ph + kh*dh, w*sw - pw + kw*dw, oc], and bias[oc] to all.
 * OH = (H - 1) sh - 2 ph + dh (KH - 1) + output padding + 1. Parameters <name>.weight [C, OC/groups, KH, KW], <name>.bias.
 */
BNFF_API bnff_value bnff_conv_transpose2d(bnff_graph *graph, const char *name, bnff_value x, const bnff_conv_transpose_options *options);

typedef struct bnff_batchnorm_options {
    float eps;             /* (1e-5), > 0, in units of x^2 */
    float momentum;        /* (0.1), in [0,1]; a negative value means 0 */
    bool no_affine;        /* no weight and bias: gamma = 1, beta = 0 */
} bnff_batchnorm_options;

/**
 * Batch normalization over N, H and W (Ioffe & Szegedy 2015, alg. 1):
 *     y[n,h,w,c] = gamma[c] * (x[n,h,w,c] - mean[c]) / sqrt(var[c] + eps) + beta[c]
 * Training: mean, var over the M = N*H*W values of channel c, var divided by M; running statistics
 * r += momentum * (batch - r), with the variance divided by M - 1 there (PyTorch's convention).
 * Evaluation, or frozen by the plan: the running statistics are used and stay as they are.
 * Parameters <name>.weight, .bias, .running_mean, .running_var. options may be NULL.
 */
BNFF_API bnff_value bnff_batchnorm(bnff_graph *graph, const char *name, bnff_value x, const bnff_batchnorm_options *options);

typedef enum bnff_activation {
    BNFF_IDENTITY,
    BNFF_RELU,
    BNFF_RELU6,
    BNFF_LEAKY_RELU,   /* x > 0 ? x : slope * x */
    BNFF_SILU,         /* x * sigmoid(x) */
    BNFF_HARDSWISH,    /* x * min(max(x + 3, 0), 6) / 6 */
    BNFF_SIGMOID,
    BNFF_HARDSIGMOID,  /* min(max(x + 3, 0), 6) / 6 */
    BNFF_TANH,
    BNFF_GELU,         /* x * (1 + erf(x / sqrt 2)) / 2 */
    BNFF_ELU,          /* x > 0 ? x : slope * (e^x - 1) */
    BNFF_MISH          /* x * tanh(log(1 + e^x)) */
} bnff_activation;

/** Elementwise activation; NaN passes through all of them. slope is read by BNFF_LEAKY_RELU and BNFF_ELU only. */
BNFF_API bnff_value bnff_activate(bnff_graph *graph, bnff_value x, bnff_activation kind, float slope);
BNFF_API bnff_value bnff_relu(bnff_graph *graph, bnff_value x);

typedef struct bnff_pool_options {
    int kernel[2];  /* required; kernel[1] = 0 means square, likewise below */
    int stride[2];  /* (kernel) */
    int padding[2]; /* (0), at most kernel / 2 */
    int dilation[2];/* (1), max pooling only */
    bool ceil_mode; /* round the output size up; windows may not start in the right or bottom padding */
    bool exclude_pad; /* average pooling: divide by the count of real pixels (count_include_pad=False) */
} bnff_pool_options;

/** Max pooling; padding counts as -infinity, the first maximum in row order gets the gradient, NaN wins. */
BNFF_API bnff_value bnff_maxpool(bnff_graph *graph, bnff_value x, const bnff_pool_options *options);
BNFF_API bnff_value bnff_avgpool(bnff_graph *graph, bnff_value x, const bnff_pool_options *options);
/** Average over all pixels: [N,H,W,C] to [N,1,1,C]. */
BNFF_API bnff_value bnff_global_avgpool(bnff_graph *graph, bnff_value x);
/** Max pooling to a fixed size, by the cells of bnff_adaptive_avgpool. */
BNFF_API bnff_value bnff_adaptive_maxpool(bnff_graph *graph, bnff_value x, int out_height, int out_width);
/** Average pooling to a fixed size: output cell i of O covers [floor(i I / O), ceil((i + 1) I / O)) (PyTorch). */
BNFF_API bnff_value bnff_adaptive_avgpool(bnff_graph *graph, bnff_value x, int out_height, int out_width);

/** Elementwise a + b of equal shapes. */
BNFF_API bnff_value bnff_add(bnff_graph *graph, bnff_value a, bnff_value b);
/** Elementwise a * b of equal shapes. */
BNFF_API bnff_value bnff_mul(bnff_graph *graph, bnff_value a, bnff_value b);

typedef struct bnff_scale_options {
    bool weight, bias; /* (false) learnt, [C], in place of factor and offset */
    float factor;      /* (1) */
    float offset;      /* (0) */
} bnff_scale_options;
/** y[n,h,w,c] = weight[c] * x[n,h,w,c] + bias[c]: layer scale, a bias of its own, or with constants arithmetic with numbers;
 *  a - b is bnff_add(a, scale of b by -1). Parameters <name>.weight, <name>.bias; name may be NULL where there is none. */
BNFF_API bnff_value bnff_scale(bnff_graph *graph, const char *name, bnff_value x, const bnff_scale_options *options);
/** x[n,h,w,c] * gate[n,0,0,c]: gate has H = W = 1 (squeeze and excitation). */
BNFF_API bnff_value bnff_mul_gate(bnff_graph *graph, bnff_value x, bnff_value gate);
/** Concatenation along C of 1 <= count values equal in N, H, W. Never copies. */
BNFF_API bnff_value bnff_concat(bnff_graph *graph, const bnff_value *values, int count);
/** Channels [first, first + channels) of x. Never copies. */
BNFF_API bnff_value bnff_slice(bnff_graph *graph, bnff_value x, int first, int channels);
/** Channel c = j * (C / groups) + i of x becomes channel i * groups + j (ShuffleNet). groups divides C. */
BNFF_API bnff_value bnff_channel_shuffle(bnff_graph *graph, bnff_value x, int groups);

typedef enum bnff_resize_mode {
    BNFF_RESIZE_NEAREST,
    BNFF_RESIZE_BILINEAR
} bnff_resize_mode;

typedef struct bnff_resize_options {
    bnff_resize_mode mode; /* (nearest) */
    bool align_corners;    /* (false) bilinear only: corners of x and y meet, instead of the corners of their pixels */
    int size[2];           /* OH, OW; or: */
    double scale[2];       /* OH = floor(H * scale), and pixels lie 1 / scale apart in x; scale[1] = 0 repeats the first */
} bnff_resize_options;
/** Resizing as PyTorch's interpolate does it for images (nearest, bilinear), without antialiasing. */
BNFF_API bnff_value bnff_resize(bnff_graph *graph, bnff_value x, const bnff_resize_options *options);

/** Dropout: in training zeroes elements with probability p, 0 <= p < 1, and scales the others by 1 / (1 - p).
 *  The bits come from a counter-based generator keyed by (seed, step, node, logical NHWC index). */
BNFF_API bnff_value bnff_dropout(bnff_graph *graph, bnff_value x, float p);
/**
 * Fully connected layer on the flattened x: y[n,o] = bias[o] + sum_i x[n,i] * weight[o,i], i in PyTorch's order
 * (c, h, w), C*H*W features. H and W of x must be known: pool to a fixed size before. Result is [N,1,1,out].
 */
BNFF_API bnff_value bnff_linear(bnff_graph *graph, const char *name, bnff_value x, int out_features, bool bias);

/** Declare x an output of the network. Outputs are numbered from 0 in this order. A value may be several outputs; what no output
 *  depends on is not computed: its running statistics stay, its parameters' gradients are zero. */
BNFF_API void bnff_output(bnff_graph *graph, bnff_value x);

/* -- Looking at a graph ------------------------------------------------------------------------------------------ */

BNFF_API int bnff_value_channels(const bnff_graph *graph, bnff_value x);
/** An operator of the network: what it computes, and at what cost. */
typedef struct bnff_layer_info {
    const char *name;  /* owned by the graph; NULL for operators without */
    const char *op;    /* "conv", "bn", "maxpool", "linear", ... */
    int shape[4];      /* N, H, W, C of its result */
    bnff_conv_options conv; /* of a convolution; out_channels 0 for all others */
    int input[4];      /* N, H, W, C of its first operand; zeros where it has none */
    int64_t params;    /* numbers it learns; running statistics are not counted */
    double macs;       /* multiply-adds of one forward, of convolutions and linear layers; padding taps count */
} bnff_layer_info;
/** Call visit(user, ...) for every operator in order, with shapes for images of batch x height x width.
 *  @return BNFF_OK; BNFF_E_SHAPE: the images are smaller than the network allows; BNFF_E_MEMORY; an earlier failure of the graph. */
BNFF_API bnff_status bnff_graph_layers(const bnff_graph *graph, int batch, int height, int width,
                                       void (*visit)(void *user, const bnff_layer_info *layer), void *user, bnff_error *error);
/** Print the graph as text that bnff_graph_parse reads back. The caller frees *text with bnff_free. */
BNFF_API bnff_status bnff_graph_print(const bnff_graph *graph, char **text, bnff_error *error);
/** Read a printed graph. */
BNFF_API bnff_status bnff_graph_parse(const char *text, bnff_graph **graph, bnff_error *error);
/** Free memory that a bnff function handed over. Accepts NULL. */
BNFF_API void bnff_free(void *memory);

#ifdef __cplusplus
}
#endif
#endif
