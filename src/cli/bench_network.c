/* A network with random images and all the memory of its training step, and the step itself. */
#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Gradients of all parameters in one piece of memory. */
static void allocate_gradients(bench_network *n)
{
    const int count = bnff_graph_param_count(n->graph);
    size_t total = 0;
    bnff_param_info param;
    for (int i = 0; bnff_graph_param(n->graph, i, &param); i++) total += param.is_buffer ? 0 : (size_t)param.elements;
    n->gradients = cli_alloc((size_t)count, sizeof *n->gradients);
    n->gradient_memory = cli_alloc(total, sizeof *n->gradient_memory);
    float *next = n->gradient_memory;
    for (int i = 0; bnff_graph_param(n->graph, i, &param); i++) {
        if (param.is_buffer) continue;
        n->gradients[i] = next;
        next += param.elements;
    }
}

bnff_status bench_network_open(bnff_context *context, const char *model, int batch, int height, int width, bench_network *n, bnff_error *error)
{
    bnff_model_info info = {0};
    bnff_model_find(model, &info); /* an unknown name fails in bnff_model_build, with a hint */
    *n = (bench_network){.context = context, .batch = batch, .height = height ? height : info.default_size, .width = width ? width : info.default_size,
                         .channels = 3};
    n->classes = info.default_size >= 128 ? 1000 : 10;
    const bnff_model_options options = {.classes = n->classes, .channels = n->channels};
    const bnff_optimizer_options sgd = {.size = sizeof sgd, .kind = BNFF_SGD, .momentum = 0.9f, .weight_decay = 1e-4f, .norm_weight_decay = -1,
                                        .bias_weight_decay = -1};
    bnff_status status = bnff_graph_create(&n->graph, error);
    if (status == BNFF_OK) status = bnff_model_build(n->graph, model, &options, error);
    if (status == BNFF_OK) status = bnff_state_create(n->graph, &n->state, error);
    if (status == BNFF_OK) status = bnff_state_init(n->state, model, 1, error);
    if (status == BNFF_OK) status = bnff_optimizer_create(context, n->graph, &sgd, NULL, &n->optimizer, error);
    if (status == BNFF_OK) status = bnff_pool_create(context, &n->pool, error);
    if (status) return bench_network_close(n), status;
    allocate_gradients(n);
    return BNFF_OK;
}

void bench_network_close(bench_network *n)
{
    free(n->images);
    free(n->logits);
    free(n->logit_gradients);
    free(n->labels);
    free(n->gradients);
    free(n->gradient_memory);
    bnff_pool_destroy(&n->pool);
    bnff_optimizer_destroy(&n->optimizer);
    bnff_state_destroy(&n->state);
    bnff_graph_destroy(&n->graph);
    *n = (bench_network){0};
}

/* -- Plans, and whether they fit ----------------------------------------------------------------------------------- */

static size_t image_floats(const bench_network *n, int batch) { return (size_t)batch * (size_t)n->height * (size_t)n->width * (size_t)n->channels; }

/* Images, labels, scores: not before it is known that they fit. */
static void allocate_tensors(bench_network *n)
{
    const size_t pixels = image_floats(n, n->batch), scores = (size_t)n->batch * (size_t)n->classes;
    n->images = cli_alloc(pixels, sizeof *n->images);
    n->logits = cli_alloc(scores, sizeof *n->logits);
    n->logit_gradients = cli_alloc(scores, sizeof *n->logit_gradients);
    n->labels = cli_alloc((size_t)n->batch, sizeof *n->labels);
    for (int i = 0; i < n->batch; i++) n->labels[i] = (int32_t)(i * 7919 % n->classes);
    bench_fill(n->images, pixels, 1);
}

/* Bytes that a run of a plan takes beyond what this process holds. */
static size_t need_of(const bench_network *n, const bnff_plan *plan)
{
    static const size_t margin = (size_t)48 << 20; /* stacks, libraries, page tables */
    bnff_plan_info info = {.size = sizeof info};
    bnff_plan_describe(plan, &info);
    const size_t arena = info.arena_bytes > n->arena_bytes ? info.arena_bytes - n->arena_bytes : 0;
    return arena + (n->images ? 0 : (image_floats(n, info.batch) + 2 * (size_t)info.batch * (size_t)n->classes) * sizeof(float)) + margin;
}

/* The same for another batch; 0: it cannot be planned. */
static size_t need_of_batch(const bench_network *n, const bnff_plan_options *options, int batch)
{
    bnff_plan_options tried = *options;
    tried.batch = batch;
    bnff_plan *plan = NULL;
    if (bnff_plan_create(n->context, n->graph, &tried, &plan, NULL)) return 0;
    const size_t need = need_of(n, plan);
    bnff_plan_destroy(&plan);
    return need;
}

/* Into the hint: a batch that fits, near the largest. What a run needs is a little more than proportional to the batch, so that the proportion
 * soon lands below what fits. need: of the batch that does not fit, 0 if it cannot be planned. */
static void hint_batch(const bench_network *n, const bnff_plan_options *options, size_t need, size_t available, bnff_error *error)
{
    int batch = n->batch;
    while (batch && (!need || need > available)) {
        const int proportion = need ? (int)((double)available / (double)need * batch) : batch / 16;
        batch = proportion < batch ? proportion : batch - 1;
        need = batch ? need_of_batch(n, options, batch) : 0;
    }
    if (batch) snprintf(error->hint, sizeof error->hint, "batch %d fits (-b %d); smaller images (--size) need less too", batch, batch);
    else snprintf(error->hint, sizeof error->hint, "no batch fits: take smaller images (--size) or a smaller model");
}

bnff_status bench_network_plan(bench_network *n, const char *level, const char *algorithm, bnff_plan **plan, bnff_error *error)
{
    const bnff_plan_options options = {.size = sizeof options, .batch = n->batch, .height = n->height, .width = n->width, .mode = BNFF_TRAIN,
                                       .level = level, .algorithm = algorithm};
    bnff_machine machine = {.size = sizeof machine};
    bnff_machine_describe(&machine);
    const size_t available = machine.memory_available ? machine.memory_available : SIZE_MAX;
    *plan = NULL;
    const bnff_status status = bnff_plan_create(n->context, n->graph, &options, plan, error);
    if (status == BNFF_E_MEMORY) hint_batch(n, &options, 0, available, error); /* more than can be addressed */
    if (status) return status;
    const size_t need = need_of(n, *plan);
    if (need > available) {
        char needs[32], free_now[32], size[24];
        bnff_plan_destroy(plan);
        error->status = BNFF_E_MEMORY;
        snprintf(error->message, sizeof error->message, "level %s: a step of batch %d at %s pixels needs %s, %s free", level, n->batch,
                 bench_size_text(n->height, n->width, size), cli_bytes(needs, (double)need), cli_bytes(free_now, (double)available));
        hint_batch(n, &options, need, available, error);
        return BNFF_E_MEMORY;
    }
    if (!n->images) allocate_tensors(n);
    return BNFF_OK;
}

bnff_status bench_plan_step(bench_network *n, const bnff_plan *plan, bench_times *times, bnff_error *error)
{
    bnff_run *run = NULL;
    bnff_plan_info info = {.size = sizeof info};
    bnff_plan_describe(plan, &info);
    bnff_status status = bnff_run_acquire(n->pool, plan, &run, error);
    if (status) return status;
    if (info.arena_bytes > n->arena_bytes) n->arena_bytes = info.arena_bytes;
    status = bench_run_step(n, run, times, error);
    bnff_run_release(&run);
    return status;
}

/* -- Steps --------------------------------------------------------------------------------------------------------- */

bnff_status bench_run_step(bench_network *n, bnff_run *run, bench_times *times, bnff_error *error)
{
    const bnff_tensor input = bnff_nhwc(n->images, n->height, n->width, n->channels), gradient = bnff_nhwc(n->logit_gradients, 1, 1, n->classes);
    bnff_tensor output = bnff_nhwc(n->logits, 1, 1, n->classes);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &input, .outputs = &output, .params = bnff_state_params(n->state), .seed = 1,
                                       .step = n->step};
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &gradient, .param_gradients = n->gradients};
    const double t0 = bench_clock();
    bnff_status status = bnff_forward(run, &forward, error);
    if (status) return status;
    const double t1 = bench_clock();
    double loss;
    if ((status = bnff_softmax_cross_entropy(n->logits, n->batch, n->classes, n->labels, NULL, 0, &loss, n->logit_gradients, error))) return status;
    if ((status = bnff_backward(run, &backward, error))) return status;
    const double t2 = bench_clock();
    bnff_optimizer_step(n->optimizer, bnff_state_params(n->state), n->gradients, 1e-3, 1);
    const double t3 = bench_clock();
    n->step++;
    *times = (bench_times){.step = t3 - t0, .forward = t1 - t0, .backward = t2 - t1, .update = t3 - t2};
    return BNFF_OK;
}

