/* The intermediate representation: nodes over values. The user's network and the training graph made from it (forward and
 * backward in one list) are the same structure; passes turn one into the other step by step.
 *
 *   value   N x H x W x C floats (TENSOR), or per-channel numbers of one batch normalization (STATS, COEFS, SUMS, GRAD_COEFS)
 *   node    an operator; its inputs come before it in the list, so the list is the order of execution
 *
 * Tensor values of a gradient may be written by several nodes: the first one in order stores, later ones add.
 * Everything is an index into arrays the graph owns.
 */
#ifndef BF_IR_H
#define BF_IR_H

#include <bnff/graph.h>

#include "base/error.h"

typedef enum bf_op {
#define BF_OP(id, text, inputs, outputs) BF_OP_##id,
#include "graph/ops.def"
#undef BF_OP
    BF_OP_COUNT
} bf_op;

typedef enum bf_value_kind {
    BF_TENSOR,
    BF_STATS,      /* mean and sum of squared deviations of each channel */
    BF_COEFS,      /* p, s, t' of y = fma(s, x - p, t'), and r, mean - p (math.md) */
    BF_SUMS,       /* sum dy, sum dy*(x - p) */
    BF_GRAD_COEFS  /* c0, c1 of dx = fma(s, dy, fma(c1, x - p, c0)) */
} bf_value_kind;

/* Part of a view: channels [first, first + channels) of another value. */
typedef struct bf_part {
    int value, first, channels;
} bf_part;

typedef struct bf_value {
    bf_value_kind kind;
    int n, h, w, c;     /* 0: not known yet */
    int grad;           /* the gradient of this value, or -1 */
    bf_part *parts;     /* a view: no storage of its own, the parts side by side; NULL otherwise */
    int part_count;
} bf_value;

typedef struct bf_conv_attr {
    int oc, kh, kw, sh, sw, ph, pw, dh, dw, groups;
    int oph, opw;       /* output padding of a transposed convolution */
    bool linear;        /* weight is [out, in]: kernel = whole image, no padding */
    bool want_dx, want_dw; /* of conv_bwd */
    int nominal_h, nominal_w; /* > 0: size of the output in the network as it was described, where pooling has moved in front since */
} bf_conv_attr;

typedef struct bf_pool_attr {
    int kh, kw, sh, sw, ph, pw, dh, dw;
    bool ceil_mode, exclude_pad;
    int out_h, out_w;   /* > 0: adaptive average pooling to that size (1 x 1 is global pooling) */
} bf_pool_attr;

typedef struct bf_resize_attr {
    bnff_resize_mode mode;
    bool align_corners;
    int out_h, out_w;          /* > 0, or: */
    double scale_h, scale_w;
} bf_resize_attr;

typedef struct bf_bn_attr {
    float eps, momentum;
    bool frozen;        /* running statistics instead of the batch's */
    bool scale;         /* no normalization: y = gamma x + beta, from a scale node */
    float factor, offset; /* of a scale: gamma and beta where there is no parameter */
    bool want_affine;   /* of the backward nodes: gamma or beta wants a gradient */
    int sweeps;         /* of bn_stats: 2 = mean first, then deviations; 1 = both at once */
} bf_bn_attr;

typedef struct bf_node {
    bf_op op;
    char *name;         /* "features.conv0", or NULL */
    int *in, in_count;
    int out[2], out_count;
    int param[4];       /* conv: weight, bias; bn: gamma, beta, running mean, running var; -1: none */
    union {
        bf_conv_attr conv;
        bf_pool_attr pool;
        bf_bn_attr bn;
        bf_resize_attr resize;
        struct { int groups; } shuffle;
        struct { bnff_activation kind; float slope; } act;
        struct { int first, channels; } slice; /* also copy: channels of the input */
        struct { float p; int id; } dropout;   /* id: the same for forward and backward */
        struct { int index, h, w; } io;        /* of an input or output; h, w: of an input of a fixed size, else 0 */
    } a;
} bf_node;

typedef struct bf_param {
    char *name;
    bnff_param_kind kind;
    int rank;
    int64_t shape[4], elements;
} bf_param;

typedef struct bf_graph {
    bf_node *nodes;
    int node_count, node_capacity;
    bf_value *values;
    int value_count, value_capacity;
    bf_param *params;
    int param_count, param_capacity;
    int input_count, output_count, dropout_count;
} bf_graph;

struct bnff_graph {
    bf_graph ir;
    bnff_error error;   /* the first failure; status BNFF_OK until then */
};

/* -- building (ir.c) -- */
/* A new tensor or vector value; -1: no memory. */
int bf_graph_value(bf_graph *g, bf_value_kind kind, int n, int h, int w, int c);
/* A new node at the end with `in_count` inputs (in may be NULL when 0); NULL: no memory. params are -1. */
bf_node *bf_graph_node(bf_graph *g, bf_op op, const char *name, const int *in, int in_count);
/* Move the node, its memory included, to the end of the list. false: no memory, and the node still owns its own. */
bool bf_graph_move(bf_graph *g, bf_node *node);
/* Build the list of nodes anew: `rewrite` sees each in order and appends what takes its place, the node itself by bf_graph_move.
 * false: no memory, or `rewrite` said so. */
bool bf_graph_rewrite(bf_graph *g, bool (*rewrite)(bf_graph *g, bf_node *node, void *user), void *user);
/* Make `value` a view of parts (copied). false: no memory. */
bool bf_graph_view(bf_graph *g, int value, const bf_part *parts, int count);
int bf_graph_param(bf_graph *g, const char *owner, const char *suffix, bnff_param_kind kind, int rank, const int64_t shape[4]);
bool bf_graph_copy(bf_graph *to, const bf_graph *from);
void bf_graph_clear(bf_graph *g);
/* The value that v is another name for: itself, unless it is a view of the whole of one value. */
int bf_value_alias(const bf_graph *g, int v);
/* Do two values share storage, as a view and its part do? Vectors of one BN never do. */
bool bf_values_share(const bf_graph *g, int a, int b);
/* Give up the nodes that `keep` marks false (one flag per node), preserving order. */
void bf_graph_prune(bf_graph *g, const bool *keep);

/* -- shapes (shapes.c) -- */
/* Output size of a window along one axis; <= 0: the input is too small. */
int bf_conv_out(int in, int kernel, int stride, int pad, int dilation);
/* Output size of a transposed convolution along one axis; <= 0: too small or beyond any image. */
int bf_convt_out(int in, int kernel, int stride, int pad, int dilation, int output_pad);
int bf_pool_out(int in, int kernel, int stride, int pad, int dilation, bool ceil_mode);
/* Set the output shape of a node from its inputs (the operator's shape rule). */
bnff_status bf_infer_node(bf_graph *g, const bf_node *node, bnff_error *error);
/* Give every value a shape, for a batch of n. sizes (may be NULL): H, W of each input; where they are 0, and the input is of no fixed
 * size, it is h x w. */
bnff_status bf_infer_shapes(bf_graph *g, int n, int h, int w, const int (*sizes)[2], bnff_error *error);

/* -- checking and text (verify.c, print.c) -- */
/* Check that the graph is well formed: indices, order, operand kinds and shapes, views. A failure is a bug of the last pass. */
bnff_status bf_graph_verify(const bf_graph *g, bnff_error *error);
const char *bf_op_text(bf_op op);
/* "relu", ...; NULL past the last. */
const char *bf_activation_text(int kind);
struct bf_text;
void bf_graph_print(const bf_graph *g, struct bf_text *text);

/* Pixels of an image by which the FLOPs of a convolution are counted: of the network as it was described. */
static inline double bf_nominal_pixels(const bf_conv_attr *a, int oh, int ow)
{
    return a->nominal_h ? (double)a->nominal_h * a->nominal_w : (double)oh * ow;
}

/* "node features.conv0 (conv)" into text. */
void bf_node_label(const bf_node *node, char *text, size_t size);

#endif
