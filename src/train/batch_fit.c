#include "train/batch_fit.h"

#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/memory.h"

/* Beside what is counted: libraries, stacks, file buffers. Measured 20 MiB; the rest is a margin. */
static const size_t overhead = (size_t)48 << 20;

const char *bf_bytes_text(size_t bytes, char *text)
{
    const double mib = (double)bytes / (1 << 20);
    if (mib < 1024) snprintf(text, 32, "%.0f MiB", mib);
    else snprintf(text, 32, "%.1f GiB", mib / 1024);
    return text;
}

static bnff_status plan_info(bf_network *network, bnff_mode mode, int batch, int size, bnff_plan_info *info, bnff_error *error)
{
    bnff_plan_options options = network->options;
    options.batch = batch;
    options.height = options.width = size;
    options.mode = mode;
    bnff_plan *plan = NULL; /* not through the cache: most plans tried here are never run */
    BF_TRY(bnff_plan_create(network->context, network->graph, &options, &plan, error));
    info->size = sizeof *info;
    bnff_plan_describe(plan, info);
    bnff_plan_destroy(&plan);
    return BNFF_OK;
}

/* Batches of both loaders; each worker holds a decoded photograph, some 12 MiB of one. */
static size_t loading_bytes(const bf_network *network, const bf_fit_request *request, int batch)
{
    enum { BATCHES = 4 /* of a loader: one in use, the others ready or being filled */ };
    const double train = (double)request->train_size * request->train_size, val = (double)request->val_size * request->val_size;
    return (size_t)((train + val) * network->channels * sizeof(float) * batch * BATCHES + 12e6 * (request->workers + 1));
}

bnff_status bf_memory_need_of(bf_network *network, const bf_fit_request *request, int batch, bf_memory_need *need, bnff_error *error)
{
    bnff_plan_info train = {0}, val = {0};
    BF_TRY(plan_info(network, BNFF_TRAIN, batch, request->train_size, &train, error));
    BF_TRY(plan_info(network, BNFF_EVALUATE, batch, request->val_size, &val, error));
    need->arena = train.arena_bytes > val.arena_bytes ? train.arena_bytes : val.arena_bytes;
    /* Moments, and copies of parameters and moments while a checkpoint is packed. */
    need->state = train.weight_bytes + (size_t)(1 + 2 * request->moments) * sizeof(float) * (size_t)bf_network_parameters(network);
    need->loading = loading_bytes(network, request, batch);
    need->total = need->arena + need->state + need->loading + overhead;
    return BNFF_OK;
}

/* Largest batch below `batch` that needs at most `limit`; 0: not even one image does. Need grows with the batch. */
static int largest_fitting(bf_network *network, const bf_fit_request *request, int batch, size_t limit)
{
    int fits = 0, fails = batch;
    while (fails - fits > 1) {
        const int middle = fits + (fails - fits) / 2;
        bf_memory_need need;
        if (bf_memory_need_of(network, request, middle, &need, NULL) == BNFF_OK && need.total <= limit) fits = middle;
        else fails = middle;
    }
    return fits;
}

static bnff_status suggest(bf_network *network, const bf_fit_request *request, int batch, bnff_error *error)
{
    const int fits = largest_fitting(network, request, batch, request->available ? request->available : SIZE_MAX);
    if (fits) return bf_hint(error, BNFF_E_MEMORY, "batch %d fits (--batch-size %d); smaller images need less too", fits, fits);
    return bf_hint(error, BNFF_E_MEMORY, "no batch fits: take smaller images (--train-crop-size) or a smaller model");
}

bnff_status bf_memory_check(bf_network *network, const bf_fit_request *request, int batch, bf_memory_need *need, bnff_error *error)
{
    const bnff_status status = bf_memory_need_of(network, request, batch, need, error);
    if (status == BNFF_E_MEMORY) return suggest(network, request, batch, error); /* more than can be addressed */
    if (status != BNFF_OK || !request->available || need->total <= request->available) return status;
    char needs[32], free_now[32];
    bf_fail(error, BNFF_E_MEMORY, "training with batch %d at %d pixels needs %s, %s free", batch, request->train_size,
            bf_bytes_text(need->total, needs), bf_bytes_text(request->available, free_now));
    return suggest(network, request, batch, error);
}

static bnff_status evaluation_need(bf_network *network, int size, int workers, int batch, size_t *need, bnff_error *error)
{
    bnff_plan_info info = {0};
    BF_TRY(plan_info(network, BNFF_EVALUATE, batch, size, &info, error));
    *need = info.arena_bytes + loading_bytes(network, &(bf_fit_request){.val_size = size, .workers = workers}, batch) + overhead;
    return BNFF_OK;
}

bnff_status bf_memory_check_evaluation(bf_network *network, int size, int workers, int batch, bnff_error *error)
{
    const size_t known = bf_memory_available(), available = known ? known : SIZE_MAX;
    size_t need = 0;
    const bnff_status status = evaluation_need(network, size, workers, batch, &need, error);
    if (status != BNFF_E_MEMORY && (status != BNFF_OK || need <= available)) return status;
    char needs[32], free_now[32];
    if (status == BNFF_OK)
        bf_fail(error, BNFF_E_MEMORY, "evaluating with batch %d at %d pixels needs %s, %s free", batch, size, bf_bytes_text(need, needs),
                bf_bytes_text(available, free_now));
    while (batch /= 2)
        if (evaluation_need(network, size, workers, batch, &need, NULL) == BNFF_OK && need <= available)
            return bf_hint(error, BNFF_E_MEMORY, "batch %d fits (--batch-size %d)", batch, batch);
    return bf_hint(error, BNFF_E_MEMORY, "no batch fits: take smaller images (--img-size)");
}

bnff_status bf_batch_auto(bf_network *network, const bf_fit_request *request, int *batch, bnff_error *error)
{
    static const int candidates[] = {256, 192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6, 4, 3, 2};
    *batch = 1;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++) {
        if (candidates[i] > 2 && candidates[i] > request->train_images / 8) continue;
        bf_memory_need need;
        const bnff_status status = bf_memory_need_of(network, request, candidates[i], &need, error);
        if (status == BNFF_E_MEMORY) continue;
        if (status != BNFF_OK) return status;
        if (request->available && need.total > request->available / 10 * 9) continue;
        *batch = candidates[i];
        break;
    }
    return BNFF_OK;
}
