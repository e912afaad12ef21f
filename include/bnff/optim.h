/* Loss, optimizers and learning-rate schedules, with PyTorch's formulas. Usable without the trainer. */
#ifndef BNFF_OPTIM_H
#define BNFF_OPTIM_H

#include <bnff/context.h>
#include <bnff/graph.h>
#include <bnff/weights.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * Softmax cross-entropy, mean over the batch, with label smoothing e:
 *     loss = 1/N sum_n sum_k -q[n,k] log softmax(z[n])[k],   q = (1 - e) target + e / K
 *     gradient[n,k] = (softmax(z[n])[k] * sum_k q - q[n,k]) / N
 * logits: N x K dense. Either labels (N, in [0,K)) or soft (N x K target probabilities) is given, the other is NULL.
 * gradient: N x K, may be NULL. The sum over the batch runs in double, in order.
 */
BNFF_API bnff_status bnff_softmax_cross_entropy(const float *logits, int batch, int classes, const int32_t *labels, const float *soft,
                                                float smoothing, double *loss, float *gradient, bnff_error *error);

typedef enum bnff_optimizer_kind { BNFF_SGD, BNFF_ADAM, BNFF_ADAMW } bnff_optimizer_kind;
typedef struct bnff_optimizer_options {
    size_t size;
    bnff_optimizer_kind kind;
    float momentum;            /* SGD */
    bool nesterov;             /* SGD */
    float beta1, beta2, eps;   /* Adam, AdamW: 0 means .9, .999, 1e-8 */
    float weight_decay;        /* of every parameter ... */
    float norm_weight_decay;   /* ... except BN's weight and bias, when >= 0; negative: the same */
    float bias_weight_decay;   /* ... and every bias, BN's included (it goes first, as in torchvision), when >= 0 */
} bnff_optimizer_options;

typedef struct bnff_optimizer bnff_optimizer;
/** Create; frozen[i] (may be NULL) parameters and buffers are never touched. The graph must outlive it. */
BNFF_API bnff_status bnff_optimizer_create(bnff_context *context, const bnff_graph *graph, const bnff_optimizer_options *options,
                                           const bool *frozen, bnff_optimizer **optimizer, bnff_error *error);
BNFF_API void bnff_optimizer_destroy(bnff_optimizer **optimizer);
/** One update in one sweep over parameters, gradients and moments, threaded. gradient_scale multiplies every gradient first.
 *  A parameter whose gradient is NULL stays as it is. The result does not depend on the number of threads. */
BNFF_API void bnff_optimizer_step(bnff_optimizer *optimizer, float *const *params, float *const *gradients, double lr, double gradient_scale);
/** Change SGD's momentum, or Adam's beta1, from the next step on, as one-cycle asks. SGD created with momentum 0 keeps 0. */
BNFF_API void bnff_optimizer_set_momentum(bnff_optimizer *optimizer, double momentum);
/** L2 norm of all gradients together, in double, in fixed order. */
BNFF_API double bnff_gradient_norm(bnff_optimizer *optimizer, float *const *gradients);
/** Moments and step count under "optimizer.*" names; load expects what store wrote for the same graph. */
BNFF_API bnff_status bnff_optimizer_store(const bnff_optimizer *optimizer, bnff_weights *weights, bnff_error *error);
BNFF_API bnff_status bnff_optimizer_load(bnff_optimizer *optimizer, const bnff_weights *weights, bnff_error *error);

typedef enum bnff_schedule_kind { BNFF_CONSTANT, BNFF_STEP, BNFF_COSINE, BNFF_ONECYCLE } bnff_schedule_kind;
typedef struct bnff_schedule {
    size_t size;
    bnff_schedule_kind kind;
    double lr;                 /* base; the maximum of one-cycle */
    double lr_min;             /* cosine's floor */
    int step_size;             /* step: epochs */
    double gamma;              /* step: factor */
    int warmup_epochs;         /* not with one-cycle */
    double warmup_decay;       /* first learning rate = warmup_decay * lr (linear) or held there (constant) */
    bool warmup_constant;
    int epochs;                /* total */
    int64_t steps_per_epoch;
} bnff_schedule;
/** Learning rate of a step (0-based optimizer step within the whole training). Epoch-wise for step and cosine, as torchvision's
 *  reference runs them; step-wise for one-cycle (PyTorch's defaults: pct_start .3, cosine, div 25, final div 1e4), whose momentum
 *  cycles too and is put in *momentum when not NULL and the kind has one. */
BNFF_API double bnff_schedule_lr(const bnff_schedule *schedule, int64_t step, double *momentum);

#ifdef __cplusplus
}
#endif
#endif
