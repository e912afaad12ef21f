/* Whole models in float64: the loops of ref.h along a graph of the library, for comparisons of whole gradients (docs/math.md 7).
 * Knows the operators of DenseNet and ResNet; one input, one output, training mode. */
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
 * with direct convolutions, layerwise first, then with every other algorithm at the default level. Returns the number of ways. */
int ref_model_compare(const char *name, int batch, int size, int inputs, ref_way ways[REF_WAYS]);

#endif
