/* A small network described once, built both as a bnff_graph and as a list of reference operators, and compared.
 *
 *     net *n = net_new();
 *     int x = net_input(n, 3);
 *     x = net_relu(n, net_bn(n, net_conv(n, x, (bnff_conv_options){.out_channels = 8, .kernel = {3}}), NULL));
 *     net_output(n, x);
 *     net_check(n, &(net_setup){.batch = 2, .height = 5, .width = 7});
 *     net_free(&n);
 *
 * net_check runs it at every level, instruction set, several cell counts and memory layouts, forward and backward, and compares outputs,
 * running statistics and all gradients with the reference's values within the reference's bounds.
 */
#ifndef BNFF_TESTS_NET_H
#define BNFF_TESTS_NET_H

#include <bnff/plan.h>

#include "ref.h"

typedef struct net net;

net *net_new(void);
void net_free(net **n);

/* Values are numbered; each call adds an operator named by its number ("op3") and returns its value. */
int net_input(net *n, int channels);
int net_input_sized(net *n, int channels, int height, int width);
/* Its size comes with the plan, as input_sizes. */
int net_input_planned(net *n, int channels, int height, int width);
int net_conv(net *n, int x, bnff_conv_options options);
int net_conv_transpose(net *n, int x, bnff_conv_transpose_options options);
int net_shuffle(net *n, int x, int groups);
int net_resize(net *n, int x, bnff_resize_options options);
int net_bn(net *n, int x, const bnff_batchnorm_options *options);
int net_act(net *n, int x, bnff_activation kind, float slope);
int net_relu(net *n, int x);
int net_maxpool(net *n, int x, bnff_pool_options options);
int net_avgpool(net *n, int x, bnff_pool_options options);
int net_global(net *n, int x);
int net_adaptive(net *n, int x, int height, int width);
int net_adaptive_max(net *n, int x, int height, int width);
int net_add(net *n, int a, int b);
int net_mul(net *n, int a, int b);
int net_scale(net *n, int x, bnff_scale_options options);
int net_gate(net *n, int x, int gate);
int net_concat(net *n, const int *values, int count);
int net_slice(net *n, int x, int first, int channels);
int net_linear(net *n, int x, int out_features, bool bias);
int net_dropout(net *n, int x, float p);
void net_output(net *n, int x); /* a value may be several outputs */

/* The operator that made x: its batch normalization uses running statistics in training too; its parameters get no gradient. */
void net_freeze_stats(net *n, int x);
void net_freeze_params(net *n, int x);
void net_freeze_one(net *n, int x, bool bias); /* only its bias, or only its weight */

typedef struct net_setup {
    int batch, height, width;
    bool evaluate;   /* an evaluation plan: no backward */
    double mean;     /* of the input's values, whose standard deviation is 1 */
    const char *algorithm; /* of convolutions, whose errors the reference allows. NULL: the default; net_check takes direct and auto */
} net_setup;

/* Fill parameters, inputs and output gradients at random (from the test case), and compute everything in float64. */
void net_reference(net *n, const net_setup *setup);

/* One way to run it. */
typedef struct net_way {
    const char *level, *isa; /* NULL: defaults */
    int threads, cells;      /* 0: 2 threads, cells as threads */
    enum { NET_NHWC, NET_NCHW, NET_STRIDED } layout;
    bool accumulate;         /* gradients are added to what is there */
    bool small_caches;       /* a plan for caches that hold next to nothing: small tiles, stores past the caches */
    bool some_gradients;     /* ask for every second parameter gradient and for no input gradient */
} net_way;

/* Run it one way after net_reference and compare. */
void net_check_way(net *n, const net_setup *setup, const net_way *way);
/* net_reference, then net_check_way in many ways. */
void net_check(net *n, const net_setup *setup);
/* The reference's gradients against finite differences of its own forward. */
void net_check_differences(net *n, const net_setup *setup);

bnff_graph *net_graph(net *n);
/* Values and gradients of the reference after net_reference. */
const ref_tensor *net_value(const net *n, int x);
const ref_tensor *net_param_gradient(const net *n, const char *name);

#endif
