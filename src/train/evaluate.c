#include "train/evaluate.h"

#include <string.h>
#include <bnff/optim.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"

bnff_status bf_evaluation_create(int classes, bf_evaluation *evaluation, bnff_error *error)
{
    *evaluation = (bf_evaluation){.classes = classes};
    size_t cells;
    if (bf_size_mul((size_t)classes, (size_t)classes, &cells)) evaluation->confusion = bf_calloc(cells, sizeof *evaluation->confusion);
    return evaluation->confusion ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for the confusion counts of %d classes", classes);
}

void bf_evaluation_destroy(bf_evaluation *evaluation)
{
    bf_free(evaluation->confusion);
    *evaluation = (bf_evaluation){0};
}

static void count_batch(bf_evaluation *e, const bnff_batch *batch, const float *logits, const int32_t *labels, float *probabilities)
{
    for (int n = 0; n < batch->count; n++) {
        const float *z = logits + (size_t)n * (size_t)e->classes;
        const int predicted = bf_argmax(z, e->classes);
        e->confusion[(size_t)labels[n] * (size_t)e->classes + (size_t)predicted]++;
        if (predicted == labels[n]) continue;
        bf_softmax(z, e->classes, probabilities);
        const bf_mistake mistake = {batch->indices[n], labels[n], predicted, probabilities[predicted], probabilities[labels[n]]};
        bf_mistakes_add(e->mistakes, &e->mistake_count, &mistake);
    }
}

/* Room for a batch's logits, a row of probabilities and its labels, grown as needed. */
struct buffers {
    float *logits;
    int32_t *labels;
    int capacity;
};

static bool reserve(struct buffers *buffers, int batch, int classes)
{
    if (batch <= buffers->capacity) return true;
    bf_free(buffers->logits);
    bf_free(buffers->labels);
    size_t floats;
    const bool fits = bf_size_mul((size_t)batch + 1, (size_t)classes, &floats);
    buffers->logits = fits ? bf_calloc(floats, sizeof(float)) : NULL;
    buffers->labels = bf_calloc((size_t)batch, sizeof(int32_t));
    buffers->capacity = buffers->logits && buffers->labels ? batch : 0;
    return buffers->capacity > 0;
}

static bnff_status evaluate_batch(bf_network *network, const bnff_batch *batch, int size, const int *map, struct buffers *buffers,
                                  bf_evaluation *e, bnff_error *error)
{
    const int classes = network->classes;
    if (!reserve(buffers, batch->count, classes)) return bf_fail(error, BNFF_E_MEMORY, "no memory for %d results", batch->count);
    BF_TRY(bf_network_infer(network, batch->images, batch->count, size, size, buffers->logits, error));
    for (int n = 0; n < batch->count; n++) buffers->labels[n] = map ? map[batch->labels[n]] : batch->labels[n];
    double loss;
    BF_TRY(bnff_softmax_cross_entropy(buffers->logits, batch->count, classes, buffers->labels, NULL, 0, &loss, NULL, error));
    bf_metrics_add(&e->metrics, buffers->logits, buffers->labels, batch->count, classes, loss);
    count_batch(e, batch, buffers->logits, buffers->labels, buffers->logits + (size_t)batch->count * (size_t)classes);
    return BNFF_OK;
}

static bnff_status evaluate_all(bf_network *network, bnff_loader *loader, int size, const int *map, volatile int *stop,
                                struct buffers *buffers, bf_evaluation *e, bnff_error *error)
{
    BF_TRY(bnff_loader_start(loader, 0, 0, error));
    for (;;) {
        if (stop && *stop) return bf_fail(error, BNFF_E_INTERRUPTED, "stopped during validation");
        bnff_batch batch;
        BF_TRY(bnff_loader_next(loader, &batch, error));
        if (!batch.count) return BNFF_OK;
        BF_TRY(evaluate_batch(network, &batch, size, map, buffers, e, error));
    }
}

bnff_status bf_evaluate(bf_network *network, bnff_loader *loader, int size, const int *map, volatile int *stop, bf_evaluation *evaluation,
                        bnff_error *error)
{
    evaluation->metrics = (bf_metrics){0};
    evaluation->mistake_count = 0;
    memset(evaluation->confusion, 0, (size_t)evaluation->classes * (size_t)evaluation->classes * sizeof *evaluation->confusion);
    const double begin = bf_clock();
    struct buffers buffers = {0};
    const bnff_status status = evaluate_all(network, loader, size, map, stop, &buffers, evaluation, error);
    bf_free(buffers.logits);
    bf_free(buffers.labels);
    evaluation->seconds = bf_clock() - begin;
    if (status == BNFF_OK && !evaluation->metrics.images) return bf_fail(error, BNFF_E_FORMAT, "not one validation image could be read");
    return status;
}
