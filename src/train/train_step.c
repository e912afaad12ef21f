#include "train/train_step.h"

#include <inttypes.h>
#include <math.h>

#include "base/error.h"
#include "base/random.h"

enum { KEY_DROPOUT = 2 /* sub-stream of the seed */ };

/* What the micro-batches of a step add up to. */
struct step {
    int64_t number; /* of all, from 1 */
    double lr;
    bnff_run *run;  /* of the newest forward, kept so that a divergence can be traced in it */
    int64_t images;
};

static bnff_status diverged(const bnff_trainer *t, const struct step *step, const char *what, double value, bnff_error *error)
{
    const char *layer = bnff_run_first_nonfinite(step->run, bnff_state_params(t->network.state), t->gradients.of);
    bf_fail(error, BNFF_E_DIVERGED, "training diverged at step %" PRId64 " (epoch %" PRId64 "): the %s is %g, first bad layer: %s, learning rate %g",
            step->number, t->progress.epoch + 1, what, value, layer ? layer : "none (the loss itself)", step->lr);
    if (t->saved_step >= 0)
        return bf_hint(error, BNFF_E_DIVERGED, "lower --lr, or set --clip-grad-norm 1; the checkpoint of step %" PRId64 " in %s is good",
                       t->saved_step, t->folder);
    return bf_hint(error, BNFF_E_DIVERGED, "lower --lr, or set --clip-grad-norm 1");
}

/* Micro-batches of unequal size (the last of an epoch, damaged images) must weigh as many images as they have: each gradient,
 * a mean over `count` images, is scaled by count / batch here, and their sum by batch / images at the end. One alone needs neither. */
static void scale_gradients(bnff_trainer *t, int count)
{
    const bnff_train_options *o = &t->config.options;
    if (o->grad_accum_steps == 1 || count == o->batch) return;
    const float scale = (float)count / (float)o->batch;
    for (int64_t i = 0; i < (int64_t)count * t->card.classes; i++) t->logit_gradients[i] *= scale;
}

static bnff_status forward(bnff_trainer *t, bnff_run *run, const bnff_batch *batch, double *loss, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    const int classes = t->card.classes, size = o->train_crop_size;
    const bnff_tensor input = bnff_nhwc((float *)batch->images, size, size, t->card.channels); /* only read */
    bnff_tensor output = bnff_nhwc(t->logits, 1, 1, classes);
    const bnff_forward_args args = {
        .size = sizeof args, .inputs = &input, .outputs = &output, .params = bnff_state_params(t->network.state),
        .seed = bf_random_key(o->seed, KEY_DROPOUT), .step = (uint64_t)(t->progress.epoch * t->batches + batch->index),
    };
    BF_TRY(bnff_forward(run, &args, error));
    bnff_state_count_batch(t->network.state, t->network.options.frozen_stats);
    return bnff_softmax_cross_entropy(t->logits, batch->count, classes, batch->labels, NULL, o->label_smoothing, loss, t->logit_gradients, error);
}

static bnff_status backward(bnff_trainer *t, bnff_run *run, bool accumulate, bnff_error *error)
{
    const bnff_tensor output_gradient = bnff_nhwc(t->logit_gradients, 1, 1, t->card.classes);
    const bnff_backward_args args = {.size = sizeof args, .output_gradients = &output_gradient, .param_gradients = t->gradients.of, .accumulate = accumulate};
    return bnff_backward(run, &args, error);
}

/* The plan for a batch that may be smaller than the others. *plan is NULL for a size that batch normalization cannot train on. */
static bnff_status choose_plan(bnff_trainer *t, int count, const bnff_plan **plan, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    *plan = NULL;
    if (count == t->skipped_size) return BNFF_OK;
    const bnff_status status = bf_network_plan(&t->network, BNFF_TRAIN, count, o->train_crop_size, o->train_crop_size, plan, error);
    if (status != BNFF_E_SHAPE || count == o->batch) return status;
    t->skipped_size = count;
    bf_warn(t, "a last batch of %d cannot be trained on: batch normalization needs more than one value a channel; it is left out of each epoch", count);
    return BNFF_OK;
}

static bnff_status micro_batch(bnff_trainer *t, struct step *step, bnff_error *error)
{
    bnff_batch batch;
    BF_TRY(bnff_loader_next(t->train_loader, &batch, error));
    t->epoch_wait += batch.wait_s;
    if (!batch.count) return t->progress.batch = t->batches, BNFF_OK; /* the batches that were left had no whole image */
    const bnff_plan *plan;
    BF_TRY(choose_plan(t, batch.count, &plan, error));
    if (plan) {
        double loss;
        bnff_run_release(&step->run);
        BF_TRY(bnff_run_acquire(t->network.pool, plan, &step->run, error));
        if (step->number == t->profile_step) bnff_run_profile(step->run, true);
        BF_TRY(forward(t, step->run, &batch, &loss, error));
        if (!isfinite(loss)) return diverged(t, step, "loss", loss, error);
        scale_gradients(t, batch.count);
        BF_TRY(backward(t, step->run, step->images > 0, error));
        bf_metrics_add(&t->progress.running, t->logits, batch.labels, batch.count, t->card.classes, loss);
        step->images += batch.count;
        t->epoch_images += batch.count;
    }
    t->progress.batch = batch.index + 1;
    return BNFF_OK;
}

static bnff_status update(bnff_trainer *t, const struct step *step, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    double scale = o->grad_accum_steps > 1 ? (double)o->batch / (double)step->images : 1;
    const double norm = scale * bnff_gradient_norm(t->optimizer, t->gradients.of);
    if (!isfinite(norm)) return diverged(t, step, "gradient norm", norm, error);
    if (o->clip_grad_norm > 0 && norm > o->clip_grad_norm) scale *= o->clip_grad_norm / (norm + 1e-6); /* PyTorch's */
    bnff_optimizer_step(t->optimizer, bnff_state_params(t->network.state), t->gradients.of, step->lr, scale);
    return BNFF_OK;
}

bnff_status bf_train_step(bnff_trainer *t, double *lr, bnff_error *error)
{
    const bnff_train_options *o = &t->config.options;
    const int64_t done = bf_trainer_total_step(t);
    double momentum = -1; /* stays so under schedules that leave it alone */
    struct step step = {.number = done + 1, .lr = bnff_schedule_lr(&o->schedule, done, &momentum)};
    if (momentum >= 0) bnff_optimizer_set_momentum(t->optimizer, momentum);
    *lr = step.lr;
    bnff_status status = BNFF_OK;
    for (int i = 0; i < o->grad_accum_steps && t->progress.batch < t->batches && status == BNFF_OK; i++) status = micro_batch(t, &step, error);
    if (status == BNFF_OK && step.images) status = update(t, &step, error);
    if (step.number == t->profile_step && status == BNFF_OK) t->profiled = step.run;
    else bnff_run_release(&step.run);
    return status;
}
