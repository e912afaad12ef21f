/* Initial values of a network's parameters. Each element is a function of (seed, parameter, index) alone, so that neither
 * the order of the work nor the rest of the network decides it. */
#include <math.h>

#include "base/error.h"
#include "base/random.h"
#include "model/state.h"
#include "model/zoo.h"

static void fill_uniform(float *values, int64_t count, uint64_t key, double bound)
{
    for (int64_t i = 0; i < count; i++) values[i] = (float)(bound * (2 * bf_random_uniform(key, (uint64_t)i) - 1));
}

/* Box-Muller, both halves of each pair: large fully connected layers have 1e8 elements. */
static void fill_normal(float *values, int64_t count, uint64_t key, double std)
{
    for (int64_t i = 0; i < count; i += 2) {
        const double u = 1.0 - bf_random_uniform(key, (uint64_t)i), v = bf_random_uniform(key, (uint64_t)i + 1);
        const double radius = std * sqrt(-2.0 * log(u)), angle = 2 * M_PI * v;
        values[i] = (float)(radius * cos(angle));
        if (i + 1 < count) values[i + 1] = (float)(radius * sin(angle));
    }
}

static void fill_constant(float *values, int64_t count, float value)
{
    for (int64_t i = 0; i < count; i++) values[i] = value;
}

/* Inputs that one output sees: C/groups * KH * KW, or the features of a linear layer. */
static double fan_in(const bnff_param_info *weight) { return (double)(weight->elements / weight->shape[0]); }

static double fan_out(const bnff_param_info *weight)
{
    return weight->rank == 4 ? (double)(weight->shape[0] * weight->shape[2] * weight->shape[3]) : (double)weight->shape[0];
}

static void fill_weight(float *values, const bnff_param_info *weight, bf_init_weights rule, uint64_t key)
{
    switch (rule) {
    case BF_INIT_UNIFORM:        fill_uniform(values, weight->elements, key, 1 / sqrt(fan_in(weight))); break;
    case BF_INIT_NORMAL_FAN_IN:  fill_normal(values, weight->elements, key, sqrt(2 / fan_in(weight))); break;
    case BF_INIT_NORMAL_FAN_OUT: fill_normal(values, weight->elements, key, sqrt(2 / fan_out(weight))); break;
    case BF_INIT_NORMAL_01:      fill_normal(values, weight->elements, key, 0.01); break;
    }
}

/* `layer` is the weight before this bias, which is its own layer's: parameters come in order of creation. */
static void fill_bias(float *values, const bnff_param_info *bias, const bnff_param_info *layer, const bf_init *init, uint64_t key)
{
    const bool uniform = layer->kind == BNFF_PARAM_CONV_WEIGHT ? init->uniform_conv_bias : init->uniform_linear_bias;
    if (uniform) fill_uniform(values, bias->elements, key, 1 / sqrt(fan_in(layer)));
    else fill_constant(values, bias->elements, 0);
}

bnff_status bnff_state_init(bnff_state *state, const char *model, uint64_t seed, bnff_error *error)
{
    static const bf_init layer_defaults = {BF_INIT_UNIFORM, BF_INIT_UNIFORM, true, true};
    const bnff_model_info *member;
    bnff_model_info matched;
    const bf_family *family = model ? bf_family_of(model, &member, &matched) : NULL;
    if (model && !family) {
        bf_fail(error, BNFF_E_ARG, "unknown model '%s'", model);
        return bf_hint(error, BNFF_E_ARG, "did you mean '%s'?", bnff_model_nearest(model));
    }
    const bf_init *init = family ? &family->init : &layer_defaults;
    const bnff_graph *graph = state->graph;
    float *const *params = bnff_state_params(state);
    bnff_param_info info, weight = {.kind = BNFF_PARAM_CONV_WEIGHT, .elements = 1, .shape = {1}};
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) {
        const uint64_t key = bf_random_key(seed, (uint64_t)p);
        switch (info.kind) {
        case BNFF_PARAM_CONV_WEIGHT:   fill_weight(params[p], &info, init->conv, key), weight = info; break;
        case BNFF_PARAM_LINEAR_WEIGHT: fill_weight(params[p], &info, init->linear, key), weight = info; break;
        case BNFF_PARAM_BIAS:          fill_bias(params[p], &info, &weight, init, key); break;
        case BNFF_PARAM_SCALE:
        case BNFF_PARAM_BN_WEIGHT:     fill_constant(params[p], info.elements, 1); break;
        case BNFF_PARAM_BN_BIAS:       fill_constant(params[p], info.elements, 0); break;
        case BNFF_PARAM_RUNNING_MEAN:
            fill_constant(params[p], info.elements, 0);
            *bnff_state_batches(state, p) = 0;
            break;
        case BNFF_PARAM_RUNNING_VAR:   fill_constant(params[p], info.elements, 1); break;
        }
    }
    return BNFF_OK;
}
