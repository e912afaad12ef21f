/* The operators as plain float64 loops that read as docs/math.md, with a running error analysis beside them.
 *
 * Every reference value has an e: the standard deviation of what a float32 program that sums in any order may be off from v, to first
 * order. Inputs have e = 0; each operator passes the errors of its operands on and adds the rounding of its own sums and products,
 * independent errors in quadrature (Higham & Mary 2019: errors of n operations grow as sqrt(n)). Worst-case bounds would grow fifty-fold a layer
 * and hide every mistake behind a few layers. Comparisons allow REF_SIGMAS of it. So tolerances are derived, not tuned. Where a decision (the mask of a
 * ReLU, an argmax) is closer than the error of what it decides on, both outcomes are allowed.
 */
#ifndef BNFF_TESTS_REF_H
#define BNFF_TESTS_REF_H

#include <float.h>
#include <stdbool.h>

#include <bnff/graph.h>

#define REF_U (FLT_EPSILON / 2) /* unit roundoff of float32 */
#define REF_SIGMAS 8.0          /* standard deviations allowed: errors within a channel are not wholly independent */

/* An N x H x W x C array, channels last. Parameters are stored in their own order with n, h, w, c as their shape. */
typedef struct ref_tensor {
    int n, h, w, c;
    double *v, *e;
} ref_tensor;

size_t ref_count(const ref_tensor *t);
ref_tensor ref_new(int n, int h, int w, int c); /* zeros */
void ref_free(ref_tensor *t);
/* Index of an element. */
static inline size_t ref_at(const ref_tensor *t, int n, int h, int w, int c)
{
    return (((size_t)n * (size_t)t->h + (size_t)h) * (size_t)t->w + (size_t)w) * (size_t)t->c + (size_t)c;
}
/* t += v, v being off by e, at one element: a float addition. */
void ref_accumulate(ref_tensor *t, size_t at, double v, double e);
/* Variance that the errors of t give to  sum t f  over the pixels of channel c, with f = by - shift, or 1 if by is NULL. Not all errors of pixels
 * are independent: a gate, or the gradient of a global pooling, is one number for all pixels of an image, a mean or a constant of a BN's gradient
 * one for all of a channel, and so are their errors, which add up before they are squared. Let an error be a sum of these three kinds. The
 * sum's variance then lies between those it would have if all were of one kind: the largest is returned. */
double ref_passed(const ref_tensor *t, int c, const ref_tensor *by, double shift);

/* Forward functions fill y, whose shape the caller gave; backward ones add to the gradients, any of which may be NULL. */

/* weight [OC, C/groups, KH, KW], bias [OC] or NULL. All fields of the options are set. */
void ref_conv(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, const bnff_conv_options *o, ref_tensor *y);
void ref_conv_backward(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_options *o, const ref_tensor *dy,
                       ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias);

/* weight [C, OC/groups, KH, KW]: every x adds to the outputs it reaches. */
void ref_conv_transpose(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, const bnff_conv_transpose_options *o, ref_tensor *y);
void ref_conv_transpose_backward(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_transpose_options *o, const ref_tensor *dy,
                                 ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias);
/* Winograd's algorithms (src/kernels/winograd.h) round whole tiles: e of an element becomes `growth` times the largest e within `reach` rows
 * and columns of it, in its channel. */
void ref_spread_errors(ref_tensor *t, int reach, double growth);
/* The same for a 3x3 weight gradient: over the taps of a pair of channels. */
void ref_spread_tap_errors(ref_tensor *dweight, double growth);

/* Batch normalization. batch: statistics of x, and the running ones move; else the running ones are used. gamma, beta may be NULL. */
typedef struct ref_bn_stats { double *mean, *e_mean, *r, *e_r, *deviation; } ref_bn_stats; /* r = 1 / sqrt(var + eps), max |x - mean| */
void ref_bn(const ref_tensor *x, const ref_tensor *gamma, const ref_tensor *beta, ref_tensor *running_mean, ref_tensor *running_var,
            double eps, double momentum, bool batch, ref_bn_stats *stats, ref_tensor *y);
void ref_bn_backward(const ref_tensor *x, const ref_tensor *gamma, const ref_bn_stats *stats, bool batch, const ref_tensor *dy,
                     ref_tensor *dx, ref_tensor *dgamma, ref_tensor *dbeta);
void ref_bn_free(ref_bn_stats *stats);

void ref_activate(const ref_tensor *x, bnff_activation kind, double slope, ref_tensor *y);
void ref_activate_backward(const ref_tensor *x, bnff_activation kind, double slope, const ref_tensor *dy, ref_tensor *dx);

/* All fields of the options are set. */
int ref_pool_size(int size, int kernel, int stride, int padding, int dilation, bool ceil_mode);
void ref_maxpool(const ref_tensor *x, const bnff_pool_options *o, ref_tensor *y);
void ref_maxpool_backward(const ref_tensor *x, const bnff_pool_options *o, const ref_tensor *dy, ref_tensor *dx);
void ref_avgpool(const ref_tensor *x, const bnff_pool_options *o, ref_tensor *y);
void ref_avgpool_backward(const ref_tensor *x, const bnff_pool_options *o, const ref_tensor *dy, ref_tensor *dx);
/* To the size of y; global pooling is the size 1 x 1. */
void ref_adaptive(const ref_tensor *x, ref_tensor *y);
void ref_adaptive_backward(const ref_tensor *x, const ref_tensor *dy, ref_tensor *dx);

/* The maximum of a cell, the first one where there are several. */
void ref_adaptive_max(const ref_tensor *x, ref_tensor *y);
void ref_adaptive_max_backward(const ref_tensor *x, const ref_tensor *dy, ref_tensor *dx);
/* All fields of the options are set. */
void ref_resize(const ref_tensor *x, const bnff_resize_options *o, ref_tensor *y);
void ref_resize_backward(const ref_tensor *x, const bnff_resize_options *o, const ref_tensor *dy, ref_tensor *dx);
/* y[.., i * groups + j] = x[.., j * (C / groups) + i] */
void ref_shuffle(const ref_tensor *x, int groups, ref_tensor *y);
void ref_shuffle_backward(int groups, const ref_tensor *dy, ref_tensor *dx);

/* y = a + b;  y = x * gate[n,0,0,c];  y[.., first + i] = x[.., from + i] for a range of channels. */
void ref_add(const ref_tensor *a, const ref_tensor *b, ref_tensor *y);
/* y = a * b, and what one of the two gets: da += b * dy */
void ref_mul(const ref_tensor *a, const ref_tensor *b, ref_tensor *y);
void ref_mul_backward(const ref_tensor *b, const ref_tensor *dy, ref_tensor *da);
/* y = weight[c] x + bias[c]; factor and offset where there is no parameter. */
void ref_scale(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, double factor, double offset, ref_tensor *y);
void ref_scale_backward(const ref_tensor *x, const ref_tensor *weight, double factor, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias);
void ref_gate(const ref_tensor *x, const ref_tensor *gate, ref_tensor *y);
void ref_gate_backward(const ref_tensor *x, const ref_tensor *gate, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dgate);
void ref_channels(const ref_tensor *x, int from, int channels, int first, ref_tensor *y);
/* dx[.., from + i] += dy[.., first + i] */
void ref_channels_backward(const ref_tensor *dy, int from, int channels, int first, ref_tensor *dx);

/* weight [out, C*H*W] with its columns in the order (c, h, w); y is N x 1 x 1 x out. */
void ref_linear(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, ref_tensor *y);
void ref_linear_backward(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias);

#endif
