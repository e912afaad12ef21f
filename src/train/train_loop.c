/* The loop: epochs of optimizer steps, validation, checkpoints. Every step is a function of (args, cursor, state) alone, so a
 * run that is stopped anywhere between two steps and taken up again computes the same bits. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/memory.h"
#include "train/run_folder.h"
#include "train/train_step.h"
#include "train/trainer.h"

/* What a caller may ask for from outside, and what is reported of the newest step. */
struct loop {
    volatile int *stop, *save;
    double lr, wait_share, images_per_s;
};

int64_t bf_trainer_total_step(const bnff_trainer *t)
{
    const int64_t accumulate = t->config.options.grad_accum_steps;
    return t->progress.epoch * t->steps + (t->progress.batch + accumulate - 1) / accumulate;
}

int64_t bf_trainer_last_step(const bnff_trainer *t)
{
    const int64_t all = t->config.options.epochs * t->steps, most = t->config.options.max_steps;
    return most && most < all ? most : all;
}

double bf_trainer_elapsed(const bnff_trainer *t) { return t->elapsed_before + (t->running ? bf_clock() - t->begin : 0); }

static bool at_limit(const bnff_trainer *t) { return bf_trainer_total_step(t) >= bf_trainer_last_step(t); }

/* -- Checkpoints ------------------------------------------------------------------------------------------------------ */

static bnff_status save(bnff_trainer *t, bnff_error *error)
{
    const bnff_status status = bf_checkpoint_save(t->folder, &t->network, t->optimizer, &t->card, &t->progress, &t->identity, error);
    if (status != BNFF_OK) {
        if (error && !error->hint[0] && t->saved_step >= 0)
            bf_hint(error, status, "the checkpoint of step %" PRId64 " in %s is untouched", t->saved_step, t->folder);
        return status;
    }
    t->saved_step = bf_trainer_total_step(t);
    t->saved_at = bf_clock();
    bnff_event event = bf_event(t, BNFF_EVENT_CHECKPOINT);
    bf_text line = {0};
    bf_text_add(&line, "saved %s/weights/last.safetensors at step %" PRId64, t->folder, t->saved_step);
    char *text = bf_text_take(&line);
    event.text = text;
    const bnff_status emitted = bf_emit(t, &event, error);
    bf_free(text);
    return emitted;
}

/* Between two steps: a save that was asked for or is due, and a stop. */
static bnff_status obey(bnff_trainer *t, struct loop *loop, bnff_error *error)
{
    const bool stopping = loop->stop && *loop->stop, asked = loop->save && *loop->save;
    const double period = t->config.options.checkpoint_seconds;
    const bool due = period > 0 && bf_clock() - t->saved_at >= period;
    if (asked) *loop->save = 0;
    if ((stopping || asked || due) && t->saved_step != bf_trainer_total_step(t)) BF_TRY(save(t, error));
    if (!stopping) return BNFF_OK;
    bf_fail(error, BNFF_E_INTERRUPTED, "stopped at epoch %" PRId64 ", step %" PRId64 " of %" PRId64 "; saved in %s", t->progress.epoch + 1,
            bf_trainer_total_step(t), bf_trainer_last_step(t), t->folder);
    bf_text folder = {0};
    bf_text_shell(&folder, t->folder);
    bf_hint(error, BNFF_E_INTERRUPTED, "bnff train --resume %s", folder.failed ? t->folder : folder.data);
    bf_text_free(&folder);
    return BNFF_E_INTERRUPTED;
}

/* -- Validation ------------------------------------------------------------------------------------------------------- */

static bool is_better(const bnff_trainer *t, double acc1, double loss)
{
    const bf_progress *p = &t->progress;
    const char *metric = t->config.options.eval_metric;
    if (!p->best_epoch) return true;
    if (metric && !strcmp(metric, "loss")) return loss < p->best_loss;
    return acc1 > p->best_acc1 || (acc1 == p->best_acc1 && loss < p->best_loss);
}

/* Validate; keep the network if it is the best so far. */
static bnff_status validate(bnff_trainer *t, struct loop *loop, bnff_error *error)
{
    const bnff_status status = bf_evaluate(&t->network, t->val_loader, t->config.options.val_crop_size, t->val_map, loop->stop, &t->evaluation, error);
    if (status == BNFF_E_INTERRUPTED) return obey(t, loop, error);
    if (status != BNFF_OK) return status;
    t->val_s = t->evaluation.seconds;
    const double acc1 = bf_metrics_acc1(&t->evaluation.metrics), loss = bf_metrics_loss(&t->evaluation.metrics);
    if (!isfinite(loss)) {
        bf_fail(error, BNFF_E_DIVERGED, "the validation loss after step %" PRId64 " is not finite", bf_trainer_total_step(t));
        return bf_hint(error, BNFF_E_DIVERGED, "lower --lr, or set --clip-grad-norm 1");
    }
    if (is_better(t, acc1, loss)) {
        BF_TRY(bf_checkpoint_save_network(t->folder, "best.safetensors", &t->network, &t->card, error));
        t->progress.best_epoch = t->progress.epoch + 1;
        t->progress.best_acc1 = acc1;
        t->progress.best_loss = loss;
        const bf_evaluation swap = t->best_evaluation;
        t->best_evaluation = t->evaluation;
        t->evaluation = swap;
        t->best_known = true;
        t->evaluation.metrics = t->best_evaluation.metrics; /* the numbers of the last validation are read from there */
    }
    bnff_event event = bf_event(t, BNFF_EVENT_VALIDATE);
    event.val_loss = loss;
    event.val_acc1 = acc1;
    event.val_acc5 = bf_metrics_acc5(&t->evaluation.metrics);
    return bf_emit(t, &event, error);
}

/* -- Epochs ----------------------------------------------------------------------------------------------------------- */

static double estimate_left(const bnff_trainer *t)
{
    if (!t->steps_done) return 0;
    const int64_t steps = bf_trainer_last_step(t) - bf_trainer_total_step(t);
    const double epochs = (double)(t->config.options.epochs - t->progress.epoch);
    return (double)steps * t->steps_s / (double)t->steps_done + epochs * t->val_s;
}

static void report_step(bnff_trainer *t, struct loop *loop)
{
    const double spent = bf_clock() - t->epoch_begin;
    loop->images_per_s = spent > 0 ? (double)t->epoch_images / spent : 0;
    loop->wait_share = spent > 0 ? t->epoch_wait / spent : 0;
}

static bnff_status train_batches(bnff_trainer *t, struct loop *loop, bnff_error *error)
{
    if (t->progress.batch < t->batches) BF_TRY(bnff_loader_start(t->train_loader, t->progress.epoch, t->progress.batch, error));
    t->epoch_begin = bf_clock();
    t->epoch_wait = 0;
    t->epoch_images = 0;
    while (t->progress.batch < t->batches && !at_limit(t)) {
        const double begin = bf_clock();
        BF_TRY(bf_train_step(t, &loop->lr, error));
        t->steps_s += bf_clock() - begin;
        t->steps_done++;
        report_step(t, loop);
        bnff_event event = bf_event(t, BNFF_EVENT_STEP);
        event.lr = loop->lr;
        event.images_per_s = loop->images_per_s;
        event.wait_share = loop->wait_share;
        event.eta_s = estimate_left(t);
        event.profile = t->profiled;
        const bnff_status emitted = bf_emit(t, &event, error);
        bnff_run_release(&t->profiled);
        BF_TRY(emitted);
        BF_TRY(obey(t, loop, error));
    }
    return BNFF_OK;
}

static bnff_status record_epoch(bnff_trainer *t, const struct loop *loop, bnff_error *error)
{
    const bf_metrics *train = &t->progress.running, *val = &t->evaluation.metrics;
    bnff_event event = bf_event(t, BNFF_EVENT_EPOCH);
    event.val_loss = bf_metrics_loss(val);
    event.val_acc1 = bf_metrics_acc1(val);
    event.val_acc5 = bf_metrics_acc5(val);
    event.lr = loop->lr;
    event.images_per_s = loop->images_per_s;
    event.wait_share = loop->wait_share;
    event.eta_s = estimate_left(t);
    BF_TRY(bf_emit(t, &event, error));
    const double before = t->history_count ? t->history[t->history_count - 1].elapsed_s : 0;
    const bf_epoch_record record = {
        .shown = {.epoch = event.epoch, .train_loss = bf_metrics_loss(train), .train_acc1 = bf_metrics_acc1(train), .val_loss = event.val_loss,
                  .val_acc1 = event.val_acc1, .val_acc5 = event.val_acc5, .lr = loop->lr, .seconds = event.elapsed_s - before,
                  .images_per_s = loop->images_per_s},
        .elapsed_s = event.elapsed_s,
    };
    return bf_journal_epoch(t, &record, error);
}

static bnff_status keep_epoch(bnff_trainer *t, bnff_error *error)
{
    const int period = t->config.options.save_period;
    const int64_t epoch = t->progress.epoch + 1, oldest = epoch - (int64_t)t->config.options.checkpoint_hist * period;
    if (!period || epoch % period) return BNFF_OK;
    char name[48];
    snprintf(name, sizeof name, "epoch%" PRId64 ".safetensors", epoch);
    BF_TRY(bf_checkpoint_save_network(t->folder, name, &t->network, &t->card, error));
    if (oldest == epoch || oldest < 1) return BNFF_OK;
    snprintf(name, sizeof name, "weights/epoch%" PRId64 ".safetensors", oldest);
    char *path = bf_run_path(t->folder, name);
    if (path) unlink(path); /* one that is left only takes room */
    bf_free(path);
    return BNFF_OK;
}

/* The end of --freeze-epochs: plans with a backward for all of the network, and gradients to match. */
static void thaw_when_due(bnff_trainer *t)
{
    const int epochs = t->config.options.freeze_epochs;
    if (t->thawed || !epochs || t->progress.epoch < epochs) return;
    bf_freeze_thaw(&t->freeze, bnff_graph_param_count(t->network.graph));
    bf_gradients_show(&t->network, t->freeze.params, &t->gradients);
    bf_network_forget_plans(&t->network);
    t->thawed = true;
}

static bnff_status run_epoch(bnff_trainer *t, struct loop *loop, bnff_error *error)
{
    thaw_when_due(t);
    /* The learning rate of a step that was done before a resume, for the epoch's record. */
    loop->lr = bnff_schedule_lr(&t->config.options.schedule, bf_trainer_total_step(t) - (t->progress.batch > 0), NULL);
    BF_TRY(train_batches(t, loop, error));
    if (t->progress.batch < t->batches) { /* the step limit: leave a checkpoint that can go on, then see how good it is */
        if (t->saved_step != bf_trainer_total_step(t)) BF_TRY(save(t, error));
        return validate(t, loop, error);
    }
    if (!t->progress.running.images) return bf_fail(error, BNFF_E_FORMAT, "not one training image could be used in epoch %" PRId64, t->progress.epoch + 1);
    BF_TRY(validate(t, loop, error));
    BF_TRY(record_epoch(t, loop, error));
    BF_TRY(keep_epoch(t, error));
    t->progress.epoch++;
    t->progress.batch = 0;
    t->progress.running = (bf_metrics){0};
    BF_TRY(save(t, error));
    return obey(t, loop, error);
}

/* -- The whole training ------------------------------------------------------------------------------------------------ */

static bnff_status announce(bnff_trainer *t, bnff_error *error)
{
    for (char *line = t->warnings.data, *end; line && (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        bnff_event event = bf_event(t, BNFF_EVENT_WARNING);
        event.text = line;
        BF_TRY(bf_emit(t, &event, error));
    }
    bf_text_free(&t->warnings);
    bnff_event event = bf_event(t, BNFF_EVENT_START);
    if (t->history_count) {
        const bf_report_epoch *newest = &t->history[t->history_count - 1].shown;
        event.val_loss = newest->val_loss;
        event.val_acc1 = newest->val_acc1;
        event.val_acc5 = newest->val_acc5;
        event.images_per_s = newest->images_per_s;
    }
    char *text = bf_start_text(t);
    event.text = text;
    const bnff_status status = bf_emit(t, &event, error);
    bf_free(text);
    return status;
}

static bnff_status finish(bnff_trainer *t, bnff_error *error)
{
    BF_TRY(bf_write_results(t, error));
    bnff_event event = bf_event(t, BNFF_EVENT_END);
    event.val_acc1 = t->progress.best_acc1;
    event.val_loss = t->progress.best_loss;
    char *text = bf_end_text(t);
    event.text = text;
    const bnff_status status = bf_emit(t, &event, error);
    bf_free(text);
    return status;
}

static bnff_status train(bnff_trainer *t, struct loop *loop, bnff_error *error)
{
    BF_TRY(announce(t, error));
    BF_TRY(obey(t, loop, error));
    /* A run resumed at its step limit, in mid-epoch, has no validation yet: the loop is entered once more. */
    while (t->progress.epoch < t->config.options.epochs && (!at_limit(t) || t->progress.batch)) {
        BF_TRY(run_epoch(t, loop, error));
        if (t->progress.batch) break; /* the step limit came first */
    }
    return finish(t, error);
}

void bnff_trainer_profile(bnff_trainer *t, int64_t step)
{
    const int64_t last = bf_trainer_last_step(t), wanted = bf_trainer_total_step(t) + step;
    t->profile_step = wanted < last ? wanted : last;
}

bnff_status bnff_trainer_run(bnff_trainer *trainer, void (*on_event)(void *user, const bnff_event *event), void *user, volatile int *stop,
                             volatile int *save_now, bnff_error *error)
{
    bnff_trainer *t = trainer;
    t->on_event = on_event;
    t->user = user;
    t->begin = t->saved_at = bf_clock();
    t->running = true;
    struct loop loop = {.stop = stop, .save = save_now};
    const bnff_status status = train(t, &loop, error);
    t->elapsed_before = bf_trainer_elapsed(t);
    t->running = false;
    return status;
}
