#include "train/train_network.h"

#include <string.h>

#include "base/context.h"
#include "base/error.h"
#include "base/memory.h"

static bnff_status build(bf_network *network, const char *model, bnff_error *error)
{
    const bnff_model_options options = {.classes = network->classes, .channels = network->channels};
    BF_TRY(bnff_graph_create(&network->graph, error));
    BF_TRY(bnff_model_build(network->graph, model, &options, error));
    BF_TRY(bnff_state_create(network->graph, &network->state, error));
    return bnff_pool_create(network->context, &network->pool, error);
}

bnff_status bf_network_create(bnff_context *context, const char *model, int classes, int channels, const bnff_plan_options *options,
                              bf_network *network, bnff_error *error)
{
    *network = (bf_network){.context = context, .options = *options, .classes = classes, .channels = channels};
    network->options.size = sizeof network->options;
    const bnff_status status = build(network, model, error);
    if (status != BNFF_OK) bf_network_destroy(network);
    return status;
}

void bf_network_destroy(bf_network *network)
{
    bf_network_forget_plans(network);
    bnff_pool_destroy(&network->pool);
    bnff_state_destroy(&network->state);
    bnff_graph_destroy(&network->graph);
}

void bf_network_forget_plans(bf_network *network)
{
    for (int i = 0; i < BF_PLAN_CACHE; i++) bnff_plan_destroy(&network->plans[i].plan);
}

bnff_status bf_network_plan(bf_network *network, bnff_mode mode, int batch, int height, int width, const bnff_plan **plan, bnff_error *error)
{
    for (int i = 0; i < BF_PLAN_CACHE; i++) {
        const struct bf_cached_plan *p = &network->plans[i];
        if (!p->plan || p->mode != mode || p->batch != batch || p->height != height || p->width != width) continue;
        *plan = p->plan;
        return BNFF_OK;
    }
    bnff_plan_options options = network->options;
    options.batch = batch;
    options.height = height;
    options.width = width;
    options.mode = mode;
    bnff_plan *made = NULL;
    BF_TRY(bnff_plan_create(network->context, network->graph, &options, &made, error));
    struct bf_cached_plan *slot = &network->plans[network->next_plan];
    network->next_plan = (network->next_plan + 1) % BF_PLAN_CACHE;
    bnff_plan_destroy(&slot->plan);
    *slot = (struct bf_cached_plan){made, mode, batch, height, width};
    *plan = made;
    return BNFF_OK;
}

bnff_status bf_network_infer(bf_network *network, const float *images, int batch, int height, int width, float *logits, bnff_error *error)
{
    const bnff_plan *plan;
    BF_TRY(bf_network_plan(network, BNFF_EVALUATE, batch, height, width, &plan, error));
    bnff_run *run = NULL;
    BF_TRY(bnff_run_acquire(network->pool, plan, &run, error));
    const bnff_tensor input = bnff_nhwc((float *)images, height, width, network->channels); /* only read */
    bnff_tensor output = bnff_nhwc(logits, 1, 1, network->classes);
    const bnff_forward_args args = {.size = sizeof args, .inputs = &input, .outputs = &output, .params = bnff_state_params(network->state)};
    const bnff_status status = bnff_forward(run, &args, error);
    bnff_run_release(&run);
    return status;
}

int64_t bf_network_parameters(const bf_network *network)
{
    int64_t elements = 0;
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(network->graph, i, &info); i++)
        if (!info.is_buffer) elements += info.elements;
    return elements;
}

/* -- Gradients ------------------------------------------------------------------------------------------------------ */

enum { ALIGN = 16 /* floats: a cache line */ };

static bool wanted(const bnff_param_info *info, const bool *frozen, int index) { return !info->is_buffer && !(frozen && frozen[index]); }

bnff_status bf_gradients_create(const bf_network *network, const bool *frozen, bf_gradients *gradients, bnff_error *error)
{
    *gradients = (bf_gradients){0};
    bnff_param_info info;
    size_t floats = 0;
    for (int i = 0; bnff_graph_param(network->graph, i, &info); i++)
        if (wanted(&info, frozen, i)) floats += ((size_t)info.elements + ALIGN - 1) / ALIGN * ALIGN;
    gradients->bytes = floats * sizeof(float);
    const size_t count = (size_t)bnff_graph_param_count(network->graph);
    gradients->of = bf_calloc(count, sizeof *gradients->of);
    gradients->all = bf_calloc(count, sizeof *gradients->all);
    if (gradients->of && gradients->all) gradients->block = bf_pages_alloc(&network->context->allocator, gradients->bytes);
    if (!gradients->block) {
        bf_gradients_destroy(network, gradients);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for %zu bytes of gradients", floats * sizeof(float));
    }
    float *next = gradients->block;
    for (int i = 0; bnff_graph_param(network->graph, i, &info); i++) {
        if (!wanted(&info, frozen, i)) continue;
        gradients->of[i] = gradients->all[i] = next;
        next += ((size_t)info.elements + ALIGN - 1) / ALIGN * ALIGN;
    }
    return BNFF_OK;
}

void bf_gradients_show(const bf_network *network, const bool *frozen, bf_gradients *gradients)
{
    for (int i = 0; i < bnff_graph_param_count(network->graph); i++) gradients->of[i] = frozen && frozen[i] ? NULL : gradients->all[i];
}

void bf_gradients_destroy(const bf_network *network, bf_gradients *gradients)
{
    if (gradients->block) bf_pages_free(&network->context->allocator, gradients->block, gradients->bytes);
    bf_free(gradients->of);
    bf_free(gradients->all);
    *gradients = (bf_gradients){0};
}
