/* The inside of a net, shared by net_build.c, net_reference.c and net_check.c. */
#ifndef BNFF_TESTS_NET_PRIVATE_H
#define BNFF_TESTS_NET_PRIVATE_H

#include "net.h"

typedef enum net_kind { OP_INPUT, OP_CONV, OP_BN, OP_ACT, OP_MAXPOOL, OP_AVGPOOL, OP_ADAPTIVE, OP_ADAPTIVE_MAX, OP_CONVT,
                        OP_SHUFFLE, OP_RESIZE, OP_ADD, OP_MUL, OP_SCALE, OP_GATE, OP_CONCAT, OP_SLICE, OP_LINEAR, OP_DROPOUT } net_kind;

enum { NET_OPS = 128, NET_INS = 8, NET_PARAMS = 320 };

/* A parameter or buffer, in state-dict order: the index is the graph's. */
typedef struct net_param {
    char name[32];
    bnff_param_kind kind;
    ref_tensor start, value, gradient; /* value: as the training forward leaves it (running statistics move) */
    bool wanted;                       /* has a gradient */
} net_param;

typedef struct net_op {
    net_kind kind;
    bnff_value graph_value;
    int in[NET_INS], ins, channels;
    bnff_conv_options conv;
    bnff_pool_options pool;
    bnff_conv_transpose_options transposed;
    bnff_resize_options resize;
    bnff_activation act;
    float slope, eps, momentum, p, factor, offset;
    int size[2], first, dropout, groups;     /* adaptive pooling or input, slice, number among the dropouts */
    bool planned;                    /* an input whose size the plan is told */
    int weight, bias, mean, var;     /* parameter indices or -1 */
    bool live;                       /* an output depends on it; running statistics of others stay */
    bool frozen_stats, frozen_weight, frozen_bias;
    ref_tensor y, dy; /* value, its gradient */
    ref_bn_stats stats;
} net_op;

/* An output: the value, and the gradient that comes from outside. */
typedef struct net_out {
    int op;
    ref_tensor given;
} net_out;

struct net {
    bnff_graph *graph;
    net_op op[NET_OPS];
    int ops;
    net_param param[NET_PARAMS];
    int params;
    net_out out[NET_OPS];
    int outs, dropouts;
    double growth; /* of the errors of Winograd's algorithms over those of direct convolutions; 0: not used */
};

enum { NET_SEED = 1, NET_STEP = 5 }; /* of dropout */

/* Forward and backward from the values that inputs and parameters have. */
void net_forward_reference(net *n, const net_setup *setup);
void net_backward_reference(net *n);

#endif
