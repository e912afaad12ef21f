/* Whole models in float64: the loops of ref.h along a graph of the library, for comparisons of whole gradients (docs/math.md 7).
 * Knows the operators of the zoo; one input, one output, training mode. */
#ifndef BNFF_TESTS_MODEL_H
#define BNFF_TESTS_MODEL_H

#include <bnff/plan.h>

#include "ref.h"

enum { REF_WAYS = 16 };

/* A way to run a step, and the error of its gradients: | g - g64 | / | g64 | over all parameters in the Euclidean norm, median over inputs. */
typedef struct ref_way {
    const char *level, *algorithm;
    double error;
    double allowed; /* by math.md 7, as a multiple of the first way's error */
} ref_way;

/* Steps of a model of the zoo as it is initialised, with random images and random gradients of the logits, `inputs` times: at every level
 * with direct convolutions, layerwise first, then with every other algorithm at the default level. Returns the number of ways.
 * smooth: SiLU for all activations and average for maximum pooling, so that nothing flips and errors are roundings. */
int ref_model_compare(const char *name, int batch, int size, int inputs, bool smooth, ref_way ways[REF_WAYS]);

/* Convolutions without errors: weight [OC, C/groups, KH, KW]; all fields of the options are set. The backward adds to all gradients; dbias
 * may be NULL. A linear layer is a convolution whose kernel is the image. */
void conv64(const ref_tensor *x, const double *weight, const double *bias, const bnff_conv_options *o, ref_tensor *y);
void conv64_backward(const ref_tensor *x, const double *weight, const bnff_conv_options *o, const ref_tensor *dy, ref_tensor *dx, double *dweight,
                     double *dbias);

#endif
