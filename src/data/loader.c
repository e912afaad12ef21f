/* Batches prepared ahead by threads that share this process and block when there is nothing to do.
 *
 * A ring of SLOTS batches; batch b of the epoch lives in slot b % SLOTS:
 *
 *     ... | handed out | head: next to hand out | ... | fill: being taken | ... allow | ...
 *
 * Threads take pieces (some items of batch `fill`) in order, as long as fill < allow, and count them done; next() waits for batch
 * `head` to be done, helping with it meanwhile (so that no loader thread is needed at all). Which thread does an item changes
 * nothing: its place, index and random seed follow from seed, epoch and position alone. A damaged item leaves a reason; next()
 * closes the gaps, reports and counts. */
#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"
#include "data/dataset.h"
#include "data/transform.h"

enum { SLOTS = 4, THREADS_MAX = 1024 };
/* Items of arrays are so cheap that a thread takes many at a time. */
enum { PIECE_OF_ARRAY = 32, PIECE_OF_FILES = 1 };

typedef struct slot {
    int64_t batch;      /* index in the epoch, -1: none */
    int count;          /* items */
    int taken, done;    /* items handed to threads, items finished */
    float *images;
    int32_t *labels;
    int64_t *indices;
    char **reasons;     /* why an item is damaged, else NULL */
    bnff_status status; /* first failure that is not an item's own fault */
    bnff_error error;
} slot;

struct bnff_loader {
    const bnff_dataset *dataset;
    bf_transform transform;
    bnff_loader_options options;
    int64_t batches;
    size_t floats;       /* of an image */
    size_t bytes;        /* of the images of a slot */
    int64_t *order;      /* item at each position of a shuffled epoch, or NULL */
    uint8_t *reported;   /* a bit an item: damaged and reported */
    int64_t bad, bad_limit;
    bnff_status failed;  /* sticky until the next start */
    bnff_error error;

    pthread_mutex_t mutex; /* guards what follows, and taken, done and status of the slots */
    pthread_cond_t work;   /* there may be pieces to take */
    pthread_cond_t ready;  /* a batch is done, or nobody is busy any more */
    uint64_t epoch_key;
    int64_t head, fill, allow, end;
    int busy;              /* pieces being worked on */
    bool stop;
    slot slots[SLOTS];
    int threads;
    pthread_t *thread;
};

/* -- Work ------------------------------------------------------------------------------------------------------------ */

typedef struct piece {
    slot *slot;
    int first, count;
} piece;

static void prepare_slot(bnff_loader *l, slot *s, int64_t batch)
{
    const int64_t first = batch * l->options.batch, left = l->dataset->count - first;
    s->batch = batch;
    s->count = left < l->options.batch ? (int)left : l->options.batch;
    s->taken = s->done = 0;
    s->status = BNFF_OK;
    for (int i = 0; i < s->count; i++) {
        s->indices[i] = l->order ? l->order[first + i] : first + i;
        s->labels[i] = l->dataset->labels[s->indices[i]];
    }
}

/* Take the next piece of a batch up to `last`; the mutex is held. */
static bool take_piece(bnff_loader *l, int64_t last, piece *p)
{
    if (l->stop || l->fill > last || l->fill >= l->allow || l->fill >= l->end) return false;
    slot *s = &l->slots[l->fill % SLOTS];
    if (s->batch != l->fill) prepare_slot(l, s, l->fill);
    const int most = l->dataset->source == BF_SOURCE_FILES ? PIECE_OF_FILES : PIECE_OF_ARRAY, left = s->count - s->taken;
    *p = (piece){s, s->taken, left < most ? left : most};
    s->taken += p->count;
    l->busy++;
    if (s->taken == s->count) l->fill++;
    return true;
}

static void finish_piece(bnff_loader *l, const piece *p)
{
    p->slot->done += p->count;
    l->busy--;
    if (p->slot->done == p->slot->count || l->busy == 0) pthread_cond_broadcast(&l->ready);
}

typedef struct drawing {
    const bf_transform *transform;
    uint64_t seed;
} drawing;

static int choose_divisor(void *user, int width, int height)
{
    const drawing *d = user;
    return bf_transform_divisor(d->transform, d->seed, width, height);
}

static bnff_status load(const bnff_loader *l, int64_t index, uint64_t seed, float *dst, bnff_error *error)
{
    bf_view view;
    if (bf_dataset_view(l->dataset, index, &view)) return bf_transform_run(&l->transform, &view, seed, dst, error);
    drawing d = {&l->transform, seed};
    bf_shrink shrink = {.choose = choose_divisor, .user = &d, .divisor = 1};
    bnff_image image;
    BF_TRY(bf_dataset_stored_image(l->dataset, index, &shrink, &image, error));
    view = bf_view_of(&image);
    const bnff_status status = bf_transform_run_shrunk(&l->transform, &view, shrink.divisor, shrink.width, shrink.height, seed, dst, error);
    bnff_image_free(&image);
    return status;
}

static bool is_items_fault(bnff_status status) { return status == BNFF_E_FORMAT || status == BNFF_E_IO || status == BNFF_E_UNSUPPORTED; }

static void fail_slot(bnff_loader *l, slot *s, bnff_status status, const bnff_error *error)
{
    pthread_mutex_lock(&l->mutex);
    if (s->status == BNFF_OK) s->status = status, s->error = *error;
    pthread_mutex_unlock(&l->mutex);
}

static void do_piece(bnff_loader *l, const piece *p)
{
    slot *s = p->slot;
    for (int i = p->first; i < p->first + p->count; i++) {
        bnff_error error;
        const uint64_t position = (uint64_t)s->batch * (uint64_t)l->options.batch + (uint64_t)i;
        bnff_status status = load(l, s->indices[i], bf_random_key(l->epoch_key, position), s->images + (size_t)i * l->floats, &error);
        if (is_items_fault(status)) {
            s->reasons[i] = bf_strdup(error.message);
            status = s->reasons[i] ? BNFF_OK : bf_fail(&error, BNFF_E_MEMORY, "no memory to report a damaged file");
        }
        if (status != BNFF_OK) fail_slot(l, s, status, &error);
    }
}

static void *thread_main(void *arg)
{
    bnff_loader *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop) {
        piece p;
        if (!take_piece(l, INT64_MAX, &p)) {
            pthread_cond_wait(&l->work, &l->mutex);
            continue;
        }
        pthread_mutex_unlock(&l->mutex);
        do_piece(l, &p);
        pthread_mutex_lock(&l->mutex);
        finish_piece(l, &p);
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

/* -- Life ------------------------------------------------------------------------------------------------------------ */

/* Threads that cannot be made are done without. Signals are left to the caller's threads. */
static void start_threads(bnff_loader *l)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (l->threads < l->options.threads && !pthread_create(&l->thread[l->threads], NULL, thread_main, l)) l->threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

static bool alloc_slot(bnff_loader *l, slot *s)
{
    const size_t batch = (size_t)l->options.batch;
    s->batch = -1;
    s->labels = bf_calloc(batch, sizeof *s->labels);
    s->indices = bf_calloc(batch, sizeof *s->indices);
    s->reasons = bf_calloc(batch, sizeof *s->reasons);
    s->images = s->labels && s->indices && s->reasons ? bf_pages_alloc(NULL, l->bytes) : NULL;
    return s->images;
}

static bool alloc_all(bnff_loader *l)
{
    const size_t items = (size_t)l->dataset->count;
    if (!(l->thread = bf_calloc((size_t)l->options.threads, sizeof *l->thread))) return false;
    if (!(l->reported = bf_calloc(items / 8 + 1, 1))) return false;
    if (l->options.shuffle && !(l->order = bf_calloc(items, sizeof *l->order))) return false;
    for (int i = 0; i < SLOTS; i++)
        if (!alloc_slot(l, &l->slots[i])) return false;
    return true;
}

static bnff_status check_options(const bnff_dataset *d, const bnff_loader_options *o, bnff_error *error)
{
    if (o->batch < 1 || o->batch > 1 << 24) return bf_fail(error, BNFF_E_ARG, "batch of %d images, at least 1 is needed", o->batch);
    if (o->threads < 0 || o->threads > THREADS_MAX) return bf_fail(error, BNFF_E_ARG, "%d loader threads, 0 to %d are possible", o->threads, THREADS_MAX);
    if (d->count < 1) return bf_fail(error, BNFF_E_ARG, "the data set has no images");
    if (!o->drop_last || d->count >= o->batch) return BNFF_OK;
    bf_fail(error, BNFF_E_ARG, "batch of %d images, the data set has only %lld", o->batch, (long long)d->count);
    return bf_hint(error, BNFF_E_ARG, "use a batch of at most %lld", (long long)d->count);
}

static void set_limits(bnff_loader *l)
{
    const int64_t count = l->dataset->count, share = count / 100 > 1 ? count / 100 : 1;
    l->bad_limit = l->options.max_bad < 0 ? share : l->options.max_bad;
    l->batches = l->options.drop_last ? count / l->options.batch : (count + l->options.batch - 1) / l->options.batch;
}

bnff_status bnff_loader_create(const bnff_dataset *dataset, const bnff_transform *transform, const bnff_loader_options *options,
                               bnff_loader **loader, bnff_error *error)
{
    *loader = NULL;
    bnff_loader *l = bf_calloc(1, sizeof *l);
    if (!l) return bf_fail(error, BNFF_E_MEMORY, "no memory for the loader");
    memcpy(&l->options, options, options->size < sizeof *options ? options->size : sizeof *options);
    l->dataset = dataset;
    pthread_mutex_init(&l->mutex, NULL);
    pthread_cond_init(&l->work, NULL);
    pthread_cond_init(&l->ready, NULL);
    bnff_status status = check_options(dataset, &l->options, error);
    if (status == BNFF_OK) status = bf_transform_prepare(transform, dataset->channels, &l->transform, error);
    if (status == BNFF_OK) {
        l->floats = (size_t)transform->width * (size_t)transform->height * (size_t)dataset->channels;
        set_limits(l);
        const bool fits = bf_size_mul(l->floats * sizeof(float), (size_t)l->options.batch, &l->bytes);
        if (!fits || !alloc_all(l))
            status = bf_fail(error, BNFF_E_MEMORY, "no memory for %d batches of %d images of %d x %d pixels", SLOTS, l->options.batch,
                             transform->width, transform->height);
    }
    if (status == BNFF_OK) {
        start_threads(l);
        *loader = l;
    } else {
        bnff_loader_destroy(&l);
    }
    return status;
}

static void drop_reasons(bnff_loader *l, slot *s)
{
    for (int i = 0; s->reasons && i < l->options.batch; i++) {
        bf_free(s->reasons[i]);
        s->reasons[i] = NULL;
    }
}

void bnff_loader_destroy(bnff_loader **loader)
{
    bnff_loader *l = loader ? *loader : NULL;
    if (!l) return;
    pthread_mutex_lock(&l->mutex);
    l->stop = true;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    for (int i = 0; i < l->threads; i++) pthread_join(l->thread[i], NULL);
    for (int i = 0; i < SLOTS; i++) {
        slot *s = &l->slots[i];
        drop_reasons(l, s);
        bf_pages_free(NULL, s->images, l->bytes);
        bf_free(s->labels);
        bf_free(s->indices);
        bf_free(s->reasons);
    }
    pthread_cond_destroy(&l->ready);
    pthread_cond_destroy(&l->work);
    pthread_mutex_destroy(&l->mutex);
    bf_free(l->thread);
    bf_free(l->order);
    bf_free(l->reported);
    bf_free(l);
    *loader = NULL;
}

/* Fisher and Yates' shuffle, afresh for each epoch: what came before has no part in it. */
static void shuffle(bnff_loader *l, int64_t epoch)
{
    const uint64_t key = bf_random_key(bf_random_key(l->options.seed, 0x6F72646572), (uint64_t)epoch); /* "order" */
    for (int64_t i = 0; i < l->dataset->count; i++) {
        const int64_t j = (int64_t)bf_random_below(key, (uint64_t)i, (uint64_t)i + 1);
        l->order[i] = l->order[j];
        l->order[j] = i;
    }
}

bnff_status bnff_loader_start(bnff_loader *l, int64_t epoch, int64_t first, bnff_error *error)
{
    if (first < 0 || first > l->batches)
        return bf_fail(error, BNFF_E_ARG, "start at batch %lld of an epoch of %lld", (long long)first, (long long)l->batches);
    pthread_mutex_lock(&l->mutex);
    l->end = l->fill; /* nothing more to take */
    while (l->busy > 0) pthread_cond_wait(&l->ready, &l->mutex);
    for (int i = 0; i < SLOTS; i++) {
        drop_reasons(l, &l->slots[i]);
        l->slots[i].batch = -1;
    }
    if (l->order) shuffle(l, epoch);
    l->epoch_key = bf_random_key(bf_random_key(l->options.seed, 0x6974656D), (uint64_t)epoch); /* "item" */
    l->head = l->fill = first;
    l->allow = first + SLOTS;
    l->end = l->batches;
    l->failed = BNFF_OK;
    pthread_cond_broadcast(&l->work);
    pthread_mutex_unlock(&l->mutex);
    return BNFF_OK;
}

int64_t bnff_loader_batches(const bnff_loader *l) { return l->batches; }
int64_t bnff_loader_bad(const bnff_loader *l) { return l->bad; }
size_t bnff_loader_bytes(const bnff_loader *l) { return SLOTS * l->bytes; }

/* -- The next batch -------------------------------------------------------------------------------------------------- */

/* Wait until batch `head` is done, working on it as long as it has pieces to take. */
static void await_head(bnff_loader *l)
{
    slot *s = &l->slots[l->head % SLOTS];
    pthread_mutex_lock(&l->mutex);
    l->allow = l->head + SLOTS; /* the batch handed out before is free again */
    pthread_cond_broadcast(&l->work);
    for (;;) {
        piece p;
        if (s->batch == l->head && s->done == s->count) break;
        if (take_piece(l, l->head, &p)) {
            pthread_mutex_unlock(&l->mutex);
            do_piece(l, &p);
            pthread_mutex_lock(&l->mutex);
            finish_piece(l, &p);
        } else {
            pthread_cond_wait(&l->ready, &l->mutex);
        }
    }
    pthread_mutex_unlock(&l->mutex);
}

/* Report a damaged item the first time it is met. */
static bnff_status report(bnff_loader *l, int64_t index, const char *reason, bnff_error *error)
{
    uint8_t *byte = &l->reported[index / 8], bit = (uint8_t)(1u << index % 8);
    if (*byte & bit) return BNFF_OK;
    *byte |= bit;
    l->bad++;
    const char *path = bnff_dataset_item_name(l->dataset, index);
    const size_t length = strlen(path);
    if (!strncmp(reason, path, length) && !strncmp(reason + length, ": ", 2)) reason += length + 2;
    if (l->options.on_bad) l->options.on_bad(l->options.on_bad_user, path, reason);
    if (l->bad <= l->bad_limit) return BNFF_OK;
    bf_fail(error, BNFF_E_FORMAT, "%s: %s; with it %lld file%s damaged, and at most %lld may be", path, reason, (long long)l->bad, l->bad == 1 ? " is" : "s are",
            (long long)l->bad_limit);
    return bf_hint(error, BNFF_E_FORMAT, "`bnff data check %s` lists them all; remove or replace them, or allow more with --max-bad", l->dataset->spec);
}

/* Close the gaps that damaged items left; sets *count to what remains. */
static bnff_status close_gaps(bnff_loader *l, slot *s, int *count, bnff_error *error)
{
    bnff_status status = BNFF_OK;
    *count = 0;
    for (int i = 0; i < s->count; i++) {
        if (s->reasons[i]) {
            if (status == BNFF_OK) status = report(l, s->indices[i], s->reasons[i], error);
            bf_free(s->reasons[i]);
            s->reasons[i] = NULL;
            continue;
        }
        if (*count < i) {
            memcpy(s->images + (size_t)*count * l->floats, s->images + (size_t)i * l->floats, l->floats * sizeof(float));
            s->labels[*count] = s->labels[i];
            s->indices[*count] = s->indices[i];
        }
        ++*count;
    }
    return status;
}

static bnff_status next_batch(bnff_loader *l, bnff_batch *batch, bnff_error *error)
{
    while (l->head < l->end && batch->count == 0) {
        await_head(l);
        slot *s = &l->slots[l->head % SLOTS];
        if (s->status != BNFF_OK) {
            *error = s->error;
            return s->status;
        }
        BF_TRY(close_gaps(l, s, &batch->count, error));
        batch->images = s->images, batch->labels = s->labels, batch->indices = s->indices;
        batch->index = l->head++;
    }
    return BNFF_OK;
}

bnff_status bnff_loader_next(bnff_loader *l, bnff_batch *batch, bnff_error *error)
{
    *batch = (bnff_batch){.index = l->head};
    const double start = bf_clock();
    if (l->failed == BNFF_OK) l->failed = next_batch(l, batch, &l->error);
    batch->wait_s = bf_clock() - start;
    if (l->failed == BNFF_OK) return BNFF_OK;
    *batch = (bnff_batch){.index = l->head, .wait_s = batch->wait_s};
    if (error) *error = l->error;
    return l->failed;
}
