/* The inside of a net, shared by net_build.c, net_reference.c and net_check.c. */
#ifndef BNFF_TESTS_NET_PRIVATE_H
#define BNFF_TESTS_NET_PRIVATE_H

#include "net.h"

typedef enum net_kind { OP_INPUT, OP_CONV, OP_BN, OP_ACT, OP_MAXPOOL, OP_AVGPOOL, OP_ADAPTIVE, OP_ADD, OP_GATE, OP_CONCAT, OP_SLICE, OP_LINEAR } net_kind;

enum { NET_OPS = 64, NET_INS = 8, NET_PARAMS = 160 };

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
    bnff_activation act;
    float slope, eps, momentum;
    int size[2], first;              /* adaptive pooling, slice */
    int weight, bias, mean, var;     /* parameter indices or -1 */
    bool frozen_stats, frozen_params, output;
    ref_tensor y, dy, given; /* value, its gradient; for an output the gradient that comes from outside */
    ref_bn_stats stats;
} net_op;

struct net {
    bnff_graph *graph;
    net_op op[NET_OPS];
    int ops;
    net_param param[NET_PARAMS];
    int params;
};

/* Forward and backward from the values that inputs and parameters have. */
void net_forward_reference(net *n, const net_setup *setup);
void net_backward_reference(net *n);

#endif
