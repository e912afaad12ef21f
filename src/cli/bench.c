#include "bench.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static const double probe_s = 0.005, disturbed = 0.94;

double bench_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static int ascending(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

double bench_median(double *values, int count)
{
    if (!count) return 0;
    qsort(values, (size_t)count, sizeof *values, ascending);
    return count % 2 ? values[count / 2] : 0.5 * (values[count / 2 - 1] + values[count / 2]);
}

/* -- Probes -------------------------------------------------------------------------------------------------------- */

static void take_probe(bench_probes *p)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        double *rates = cli_alloc((size_t)p->capacity, sizeof *rates);
        if (p->count) memcpy(rates, p->rates, (size_t)p->count * sizeof *rates);
        free(p->rates);
        p->rates = rates;
    }
    p->last = p->rates[p->count++] = bnff_measure_fma(p->context, probe_s);
    if (p->last > p->best) p->best = p->last;
}

void bench_probes_begin(bench_probes *probes, bnff_context *context)
{
    *probes = (bench_probes){.context = context};
    for (int i = 0; i < 40; i++) take_probe(probes);
}

bool bench_probe(bench_probes *probes)
{
    const double before = probes->last;
    take_probe(probes);
    return before < disturbed * probes->best || probes->last < disturbed * probes->best;
}

double bench_probes_median(const bench_probes *probes)
{
    double *sorted = cli_alloc((size_t)probes->count, sizeof *sorted);
    memcpy(sorted, probes->rates, (size_t)probes->count * sizeof *sorted);
    const double median = bench_median(sorted, probes->count);
    free(sorted);
    return median;
}

void bench_probes_end(bench_probes *probes)
{
    free(probes->rates);
    *probes = (bench_probes){0};
}

/* -- Networks ------------------------------------------------------------------------------------------------------ */

void bench_fill(float *values, size_t count, uint64_t seed)
{
    uint64_t state = seed * 2 + 1;
    for (size_t i = 0; i < count; i++) { /* twelve uniform numbers less 6 are near enough to normal: here only the spread matters */
        float sum = -6;
        for (int k = 0; k < 12; k++) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            sum += (float)(state >> 40) * 0x1p-24f;
        }
        values[i] = sum;
    }
}

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

bnff_status bench_network_open(bnff_context *context, const char *model, int batch, int size, bench_network *n, bnff_error *error)
{
    bnff_model_info info = {0};
    bnff_model_find(model, &info); /* an unknown name fails in bnff_model_build, with a hint */
    *n = (bench_network){.context = context, .batch = batch, .size = size ? size : info.default_size, .channels = 3};
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
    const size_t pixels = (size_t)batch * (size_t)n->size * (size_t)n->size * (size_t)n->channels, scores = (size_t)batch * (size_t)n->classes;
    n->images = cli_alloc(pixels, sizeof *n->images);
    n->logits = cli_alloc(scores, sizeof *n->logits);
    n->logit_gradients = cli_alloc(scores, sizeof *n->logit_gradients);
    n->labels = cli_alloc((size_t)batch, sizeof *n->labels);
    for (int i = 0; i < batch; i++) n->labels[i] = (int32_t)(i * 7919 % n->classes);
    bench_fill(n->images, pixels, 1);
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

bnff_status bench_run_step(bench_network *n, bnff_run *run, bench_times *times, bnff_error *error)
{
    const bnff_tensor input = bnff_nhwc(n->images, n->size, n->size, n->channels), gradient = bnff_nhwc(n->logit_gradients, 1, 1, n->classes);
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

char *bench_next_word(const char **list)
{
    if (!*list || !**list) return NULL;
    const size_t length = strcspn(*list, ",");
    char *word = cli_format("%.*s", (int)length, *list);
    *list += length + ((*list)[length] == ',');
    return word;
}
