/* SGD, Adam and AdamW: one sweep over parameters, gradients and moments.
 *
 * The parameters are cut into pieces of at most PIECE elements, the pieces gathered into tasks of about TASK elements. Both
 * depend on the graph alone, so that the number of threads decides neither an update nor the rounding of the gradient norm.
 *
 *     moments   one block, 64-byte aligned:  | first of param 0 | second of param 0 | first of param 1 | ...
 *     first     momentum buffer, or Adam's exp_avg;   second   Adam's exp_avg_sq */
#include <bnff/optim.h>

#include <math.h>
#include <string.h>

#include "base/context.h"
#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "kernels/kernels.h"

enum { PIECE = 1 << 14, TASK = 1 << 15, ALIGN = 16 /* floats */ };

typedef struct slot {
    bool active;       /* updated: no buffer, not frozen */
    float decay;
    size_t elements;
    float *first, *second;
} slot;

typedef struct piece {
    int param;
    size_t offset, count;
} piece;

struct bnff_optimizer {
    bnff_context *context;
    const bnff_graph *graph;
    bnff_optimizer_options options;
    int params, moments;   /* moments per parameter: 0, 1 or 2 */
    slot *slots;           /* by parameter index */
    float *block;
    size_t block_bytes;
    piece *pieces;
    int piece_count;
    int *task_begin;       /* piece of each task's beginning, and piece_count at the end */
    int task_count;
    double *partials;      /* sum of squares of each piece */
    int64_t step;
};

static bnff_status check_options(const bnff_optimizer_options *o, bnff_error *error)
{
    if (o->size != sizeof *o) return bf_fail(error, BNFF_E_ARG, "bnff_optimizer_options.size is %zu, not %zu", o->size, sizeof *o);
    if (o->kind != BNFF_SGD && o->kind != BNFF_ADAM && o->kind != BNFF_ADAMW)
        return bf_fail(error, BNFF_E_ARG, "optimizer: unknown kind %d", (int)o->kind);
    if (!(o->momentum >= 0 && isfinite(o->momentum)))
        return bf_fail(error, BNFF_E_ARG, "optimizer: momentum %g must be at least 0", (double)o->momentum);
    if (o->nesterov && o->momentum == 0) return bf_fail(error, BNFF_E_ARG, "optimizer: Nesterov needs a momentum above 0");
    if (!(o->beta1 >= 0 && o->beta1 < 1 && o->beta2 >= 0 && o->beta2 < 1))
        return bf_fail(error, BNFF_E_ARG, "optimizer: betas %g and %g must be in [0, 1)", (double)o->beta1, (double)o->beta2);
    if (!(o->eps >= 0 && isfinite(o->eps))) return bf_fail(error, BNFF_E_ARG, "optimizer: eps %g must be at least 0", (double)o->eps);
    if (!(o->weight_decay >= 0 && isfinite(o->weight_decay)))
        return bf_fail(error, BNFF_E_ARG, "optimizer: weight decay %g must be at least 0", (double)o->weight_decay);
    if (isnan(o->norm_weight_decay) || isnan(o->bias_weight_decay))
        return bf_fail(error, BNFF_E_ARG, "optimizer: a weight decay is not a number");
    return BNFF_OK;
}

static float decay_of(const bnff_param_info *info, const bnff_optimizer_options *options)
{
    const bool bias = info->kind == BNFF_PARAM_BIAS || info->kind == BNFF_PARAM_BN_BIAS;
    const bool norm = info->kind == BNFF_PARAM_BN_WEIGHT || info->kind == BNFF_PARAM_SCALE || info->kind == BNFF_PARAM_BN_BIAS;
    if (bias && options->bias_weight_decay >= 0) return options->bias_weight_decay;
    if (norm && options->norm_weight_decay >= 0) return options->norm_weight_decay;
    return options->weight_decay;
}

static size_t padded(size_t elements) { return (elements + ALIGN - 1) / ALIGN * ALIGN; }

/* Fill the slots and count pieces and floats of moments; elements are products that the graph has checked. */
static void measure(bnff_optimizer *optimizer, const bool *frozen, size_t *floats)
{
    *floats = 0;
    for (int p = 0; p < optimizer->params; p++) {
        bnff_param_info info;
        slot *s = &optimizer->slots[p];
        if (!bnff_graph_param(optimizer->graph, p, &info) || info.is_buffer || (frozen && frozen[p])) continue;
        *s = (slot){.active = true, .decay = decay_of(&info, &optimizer->options), .elements = (size_t)info.elements};
        optimizer->piece_count += (int)((s->elements + PIECE - 1) / PIECE);
        *floats += padded(s->elements) * (size_t)optimizer->moments;
    }
}

static void place_moments(bnff_optimizer *optimizer)
{
    float *at = optimizer->block;
    for (int p = 0; p < optimizer->params; p++) {
        slot *s = &optimizer->slots[p];
        if (!s->active) continue;
        if (optimizer->moments > 0) s->first = at, at += padded(s->elements);
        if (optimizer->moments > 1) s->second = at, at += padded(s->elements);
    }
}

static void cut(bnff_optimizer *optimizer)
{
    int count = 0;
    size_t load = TASK; /* of the task being filled: full, so that the first piece begins one */
    for (int p = 0; p < optimizer->params; p++) {
        const slot *s = &optimizer->slots[p];
        for (size_t offset = 0; s->active && offset < s->elements; offset += PIECE) {
            const size_t rest = s->elements - offset;
            if (load >= TASK) optimizer->task_begin[optimizer->task_count++] = count, load = 0;
            optimizer->pieces[count++] = (piece){p, offset, rest < PIECE ? rest : PIECE};
            load += optimizer->pieces[count - 1].count;
        }
    }
    optimizer->task_begin[optimizer->task_count] = count;
}

bnff_status bnff_optimizer_create(bnff_context *context, const bnff_graph *graph, const bnff_optimizer_options *options,
                                  const bool *frozen, bnff_optimizer **out, bnff_error *error)
{
    *out = NULL;
    bnff_optimizer_options resolved = *options;
    if (resolved.beta1 == 0) resolved.beta1 = 0.9f;
    if (resolved.beta2 == 0) resolved.beta2 = 0.999f;
    if (resolved.eps == 0) resolved.eps = 1e-8f;
    BF_TRY(check_options(&resolved, error));

    bnff_optimizer *optimizer = bf_calloc(1, sizeof *optimizer);
    if (!optimizer) return bf_fail(error, BNFF_E_MEMORY, "no memory for an optimizer");
    optimizer->context = context;
    optimizer->graph = graph;
    optimizer->options = resolved;
    optimizer->moments = resolved.kind != BNFF_SGD ? 2 : resolved.momentum > 0;
    optimizer->params = bnff_graph_param_count(graph);
    size_t floats = 0;
    bool ok = (optimizer->slots = bf_calloc((size_t)optimizer->params + 1, sizeof *optimizer->slots)) != NULL;
    if (ok) measure(optimizer, frozen, &floats);
    const size_t pieces = (size_t)optimizer->piece_count + 1;
    ok = ok && (optimizer->pieces = bf_calloc(pieces, sizeof *optimizer->pieces)) &&
         (optimizer->task_begin = bf_calloc(pieces, sizeof *optimizer->task_begin)) &&
         (optimizer->partials = bf_calloc(pieces, sizeof *optimizer->partials)) &&
         bf_size_mul(floats, sizeof *optimizer->block, &optimizer->block_bytes) &&
         (!floats || (optimizer->block = bf_pages_alloc(&context->allocator, optimizer->block_bytes)));
    if (!ok) {
        bnff_optimizer_destroy(&optimizer);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for the optimizer's moments (%zu bytes)", floats * sizeof(float));
    }
    place_moments(optimizer);
    cut(optimizer);
    *out = optimizer;
    return BNFF_OK;
}

void bnff_optimizer_destroy(bnff_optimizer **optimizer)
{
    if (!optimizer || !*optimizer) return;
    bnff_optimizer *o = *optimizer;
    if (o->block) bf_pages_free(&o->context->allocator, o->block, o->block_bytes);
    bf_free(o->partials);
    bf_free(o->task_begin);
    bf_free(o->pieces);
    bf_free(o->slots);
    bf_free(o);
    *optimizer = NULL;
}

void bnff_optimizer_set_momentum(bnff_optimizer *optimizer, double momentum)
{
    if (optimizer->options.kind == BNFF_SGD) optimizer->options.momentum = optimizer->moments ? (float)momentum : 0;
    else optimizer->options.beta1 = (float)momentum;
}

/* One call of bnff_optimizer_step or bnff_gradient_norm, as its tasks see it. */
typedef struct sweep {
    bnff_optimizer *optimizer;
    float *const *params;
    float *const *gradients;
    float lr, scale;
    float step_size, sqrt_bc2; /* Adam's bias corrections */
} sweep;

static void update_piece(const sweep *w, const piece *p)
{
    const bnff_optimizer *optimizer = w->optimizer;
    const bnff_optimizer_options *o = &optimizer->options;
    const bf_kernels *kernels = optimizer->context->kernels;
    const slot *s = &optimizer->slots[p->param];
    float *param = w->params[p->param] + p->offset;
    const float *gradient = w->gradients[p->param] + p->offset;
    float *first = s->first ? s->first + p->offset : NULL;
    if (o->kind == BNFF_SGD)
        kernels->update_sgd(param, gradient, first, p->count, w->lr, o->momentum, s->decay, o->nesterov, optimizer->step == 1, w->scale);
    else
        kernels->update_adam(param, gradient, first, s->second + p->offset, p->count, w->lr, o->beta1, o->beta2, o->eps, s->decay,
                             o->kind == BNFF_ADAMW, w->step_size, w->sqrt_bc2, w->scale);
}

static void update_task(void *arg, int index)
{
    const sweep *w = arg;
    const bnff_optimizer *optimizer = w->optimizer;
    for (int i = optimizer->task_begin[index]; i < optimizer->task_begin[index + 1]; i++)
        if (w->gradients[optimizer->pieces[i].param]) update_piece(w, &optimizer->pieces[i]);
}

void bnff_optimizer_step(bnff_optimizer *optimizer, float *const *params, float *const *gradients, double lr, double gradient_scale)
{
    sweep w = {optimizer, params, gradients, (float)lr, (float)gradient_scale, 0, 0};
    optimizer->step++;
    if (optimizer->options.kind != BNFF_SGD) {
        const double t = (double)optimizer->step;
        w.step_size = (float)(lr / (1 - pow((double)optimizer->options.beta1, t)));
        w.sqrt_bc2 = (float)sqrt(1 - pow((double)optimizer->options.beta2, t));
    }
    bnff_parallel_for(optimizer->context, update_task, &w, optimizer->task_count);
}

static void norm_task(void *arg, int index)
{
    const sweep *w = arg;
    bnff_optimizer *optimizer = w->optimizer;
    for (int i = optimizer->task_begin[index]; i < optimizer->task_begin[index + 1]; i++) {
        const piece *p = &optimizer->pieces[i];
        optimizer->partials[i] = 0;
        if (w->gradients[p->param])
            optimizer->context->kernels->sum_squares(w->gradients[p->param] + p->offset, p->count, &optimizer->partials[i]);
    }
}

double bnff_gradient_norm(bnff_optimizer *optimizer, float *const *gradients)
{
    sweep w = {.optimizer = optimizer, .gradients = gradients};
    bnff_parallel_for(optimizer->context, norm_task, &w, optimizer->task_count);
    double total = 0;
    for (int i = 0; i < optimizer->piece_count; i++) total += optimizer->partials[i];
    return sqrt(total);
}

/* -- Checkpoints ------------------------------------------------------------------------------------------------- */

/* The moments of a parameter as a weight file names them: "optimizer.momentum.fc.weight"; false past the last one. */
static bool moment_entry(const bnff_optimizer *optimizer, int param, int moment, bf_text *name, bnff_weights_entry *entry)
{
    const slot *s = &optimizer->slots[param];
    bnff_param_info info;
    if (!s->active || moment >= optimizer->moments || !bnff_graph_param(optimizer->graph, param, &info)) return false;
    const char *kind = optimizer->options.kind == BNFF_SGD ? "momentum" : moment == 0 ? "exp_avg" : "exp_avg_sq";
    name->length = 0;
    bf_text_add(name, "optimizer.%s.%s", kind, info.name);
    *entry = (bnff_weights_entry){
        .name = name->data, .dtype = BNFF_F32, .rank = info.rank, .elements = info.elements, .data = moment == 0 ? s->first : s->second};
    memcpy(entry->shape, info.shape, sizeof info.shape);
    return true;
}

bnff_status bnff_optimizer_store(const bnff_optimizer *optimizer, bnff_weights *weights, bnff_error *error)
{
    bf_text name = {0};
    bnff_status status = BNFF_OK;
    bnff_weights_entry entry;
    for (int p = 0; p < optimizer->params && status == BNFF_OK; p++)
        for (int m = 0; status == BNFF_OK && moment_entry(optimizer, p, m, &name, &entry); m++)
            status = name.failed ? bf_fail(error, BNFF_E_MEMORY, "no memory to name the optimizer's moments")
                                 : bnff_weights_add(weights, &entry, error);
    bf_text_free(&name);
    BF_TRY(status);
    entry = (bnff_weights_entry){.name = "optimizer.step", .dtype = BNFF_I64, .elements = 1, .data = &optimizer->step};
    return bnff_weights_add(weights, &entry, error);
}

/* Find what `wanted` describes; its name, type and shape must agree. */
static bnff_status find_moment(const bnff_weights *weights, const bnff_weights_entry *wanted, bnff_weights_entry *found, bnff_error *error)
{
    const int index = bnff_weights_find(weights, wanted->name);
    if (index < 0 || !bnff_weights_get(weights, index, found)) {
        bf_fail(error, BNFF_E_FORMAT, "optimizer state: '%s' is missing", wanted->name);
        return bf_hint(error, BNFF_E_FORMAT, "the state must come from the same model, optimizer and frozen parameters");
    }
    if (found->dtype != wanted->dtype || found->rank != wanted->rank ||
        memcmp(found->shape, wanted->shape, (size_t)wanted->rank * sizeof *wanted->shape))
        return bf_fail(error, BNFF_E_FORMAT, "optimizer state: '%s' has another type or shape than its parameter", wanted->name);
    return BNFF_OK;
}

/* All moments of the file, checked (copy = false) or taken (true). */
static bnff_status visit_moments(bnff_optimizer *optimizer, const bnff_weights *weights, bool copy, bf_text *name, bnff_error *error)
{
    bnff_weights_entry wanted, found;
    for (int p = 0; p < optimizer->params; p++)
        for (int m = 0; moment_entry(optimizer, p, m, name, &wanted); m++) {
            if (name->failed) return bf_fail(error, BNFF_E_MEMORY, "no memory to name the optimizer's moments");
            BF_TRY(find_moment(weights, &wanted, &found, error));
            if (copy)
                memcpy(m == 0 ? optimizer->slots[p].first : optimizer->slots[p].second, found.data,
                       (size_t)wanted.elements * sizeof(float));
        }
    return BNFF_OK;
}

bnff_status bnff_optimizer_load(bnff_optimizer *optimizer, const bnff_weights *weights, bnff_error *error)
{
    const bnff_weights_entry wanted = {.name = "optimizer.step", .dtype = BNFF_I64, .elements = 1};
    bnff_weights_entry found;
    int64_t step;
    BF_TRY(find_moment(weights, &wanted, &found, error));
    memcpy(&step, found.data, sizeof step);
    if (step < 0) return bf_fail(error, BNFF_E_FORMAT, "optimizer state: optimizer.step is %lld", (long long)step);
    bf_text name = {0}; /* holds every name after the first visit: the second cannot fail */
    bnff_status status = visit_moments(optimizer, weights, false, &name, error);
    if (status == BNFF_OK) status = visit_moments(optimizer, weights, true, &name, error);
    bf_text_free(&name);
    if (status == BNFF_OK) optimizer->step = step;
    return status;
}
