/* The model zoo, and the state (parameters and buffers) of a network. */
#ifndef BNFF_MODEL_H
#define BNFF_MODEL_H

#include <bnff/graph.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct bnff_model_info {
    const char *name;        /* "densenet121", "densenet-bc-100-12", "resnet20" */
    int min_size;            /* smallest image side the architecture accepts */
    int default_size;        /* image side it was published for: 224 or 32 */
    const char *classifier;  /* name of the head's layer: "classifier", "fc", "classifier.6" */
    bool pattern;            /* stands for a family such as densenet-bc-L-k */
} bnff_model_info;

/** The zoo by index, family by family: published models, then the pattern that further members follow; false past the end. */
BNFF_API bool bnff_model_list(int index, bnff_model_info *info);
/** @return false if no model has that name; families are recognised ("densenet-bc-64-16": info->name is then `name` itself and
 *          pattern is set). */
BNFF_API bool bnff_model_find(const char *name, bnff_model_info *info);
/** The known name nearest to a misspelt one, never NULL. */
BNFF_API const char *bnff_model_nearest(const char *name);

typedef struct bnff_model_options {
    int classes;    /* > 0 */
    int channels;   /* of the image input: 0 means 3 */
    float dropout;  /* densenet's drop_rate, the classifier's in vgg and squeezenet (.5), mobilenet, efficientnet,
                       mnasnet and googlenet (.2), below 1.
                       0: the published value; < 0: none. Networks without dropout refuse a value > 0 */
} bnff_model_options;
/**
 * Build a model of the zoo into an empty graph, with torchvision's structure and parameter names; adds its input and output.
 * The CIFAR networks are those of the papers, named as torchvision's classes would name them: densenet's last normalization is
 * features.norm5 there too; resnet20 and its like have the parameter-free shortcuts (option A). googlenet is without its auxiliary
 * classifiers, efficientnet_b0 without stochastic depth.
 * @return BNFF_OK; BNFF_E_ARG: unknown name (hint: the nearest), classes, channels or dropout; or what the graph says.
 */
BNFF_API bnff_status bnff_model_build(bnff_graph *graph, const char *name, const bnff_model_options *options, bnff_error *error);

/* -- State ------------------------------------------------------------------------------------------------------- */

/** Storage for all parameters and buffers of a graph, float32, plus num_batches_tracked of each BN. */
typedef struct bnff_state bnff_state;

/** Parameters and buffers: gamma and running_var 1, everything else 0. The graph must outlive the state. */
BNFF_API bnff_status bnff_state_create(const bnff_graph *graph, bnff_state **state, bnff_error *error);
BNFF_API void bnff_state_destroy(bnff_state **state);
/** Pointers by parameter index, as bnff_forward_args.params wants them. */
BNFF_API float *const *bnff_state_params(bnff_state *state);
/** num_batches_tracked of the BN whose running_mean has this parameter index; NULL for other parameters. */
BNFF_API int64_t *bnff_state_batches(bnff_state *state, int param);
/** Count one training batch in every BN that is not frozen (frozen_stats as in bnff_plan_options, may be NULL). */
BNFF_API void bnff_state_count_batch(bnff_state *state, const bool *frozen_stats);
/**
 * Initialise as torchvision does for `model` (resnet: kaiming normal, fan_out; densenet: kaiming normal, fan_in;
 * vgg, mobilenet, regnet: kaiming normal, fan_out, linear normal(0, .01); googlenet: normal(0, .01); squeezenet: kaiming normal, fan_in; linear elsewhere uniform(+-1/sqrt(in))), reproducibly from
 * seed. model NULL: as PyTorch's layers do, uniform(+-1/sqrt(fan_in)) for weights and biases.
 * @return BNFF_OK; BNFF_E_ARG: unknown model (hint: the nearest).
 */
BNFF_API bnff_status bnff_state_init(bnff_state *state, const char *model, uint64_t seed, bnff_error *error);

#ifdef __cplusplus
}
#endif
#endif
