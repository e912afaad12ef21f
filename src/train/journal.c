/* What happened: events to the caller and, a JSON object a line, to events.jsonl; epochs to results.csv.
 * The first line of events.jsonl names the version of its format. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "train/run_folder.h"
#include "train/trainer.h"

#define EVENTS "events.jsonl"
#define RESULTS "results.csv"
static const char results_header[] =
    "epoch,time,train/loss,metrics/accuracy_top1,metrics/accuracy_top5,val/loss,lr/pg0,img/s,rss,train/accuracy_top1\n";
static const double step_log_seconds = 5; /* between two step records of the file; the caller gets every step */

static const char *const kind_names[] = {"start", "step", "validate", "epoch", "checkpoint", "warning", "end"}; /* of bnff_event_kind */

/* -- Events ----------------------------------------------------------------------------------------------------------- */

bnff_event bf_event(const bnff_trainer *t, bnff_event_kind kind)
{
    bnff_event event = {.kind = kind, .epochs = t->config.options.epochs, .steps = t->steps};
    const int64_t accumulate = t->config.options.grad_accum_steps;
    event.epoch = (int)t->progress.epoch + (t->progress.epoch < event.epochs);
    event.step = (t->progress.batch + accumulate - 1) / accumulate;
    event.total_step = bf_trainer_total_step(t);
    event.loss = bf_metrics_loss(&t->progress.running);
    event.acc1 = bf_metrics_acc1(&t->progress.running);
    event.acc5 = bf_metrics_acc5(&t->progress.running);
    event.best_acc1 = t->progress.best_acc1;
    event.best_epoch = (int)t->progress.best_epoch;
    event.elapsed_s = bf_trainer_elapsed(t);
    event.rss_bytes = bf_memory_resident();
    return event;
}

static double wall_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

/* JSON has no NaN or infinity: those are left out. */
static void add_number(bf_text *line, const char *key, double value)
{
    if (isfinite(value)) bf_text_add(line, ",\"%s\":%.9g", key, value);
}

static void add_text(bf_text *line, const char *text)
{
    if (!text) return;
    bf_text_add(line, ",\"text\":");
    bf_text_json(line, text);
}

static void write_event(bf_text *line, const bnff_event *e)
{
    bf_text_add(line, "{\"ts\":%.3f,\"type\":\"%s\",\"epoch\":%d,\"step\":%" PRId64 ",\"total_step\":%" PRId64, wall_clock(), kind_names[e->kind],
                e->epoch, e->step, e->total_step);
    if (e->kind == BNFF_EVENT_STEP || e->kind == BNFF_EVENT_EPOCH) {
        add_number(line, "loss", e->loss);
        add_number(line, "acc1", e->acc1);
        add_number(line, "acc5", e->acc5);
        add_number(line, "lr", e->lr);
        add_number(line, "images_per_s", e->images_per_s);
        add_number(line, "wait_share", e->wait_share);
    }
    if (e->kind == BNFF_EVENT_VALIDATE || e->kind == BNFF_EVENT_EPOCH) {
        add_number(line, "val_loss", e->val_loss);
        add_number(line, "val_acc1", e->val_acc1);
        add_number(line, "val_acc5", e->val_acc5);
    }
    add_number(line, "elapsed_s", e->elapsed_s);
    bf_text_add(line, ",\"rss_bytes\":%zu", e->rss_bytes);
    add_text(line, e->text);
    bf_text_add(line, "}\n");
}

static bnff_status append_text(bnff_trainer *t, const char *file, bf_text *text, bnff_error *error)
{
    char *lines = bf_text_take(text);
    const bnff_status status = lines ? bf_log_append(t->folder, file, lines, error) : bf_fail(error, BNFF_E_MEMORY, "no memory for a line of %s", file);
    bf_free(lines);
    return status;
}

bnff_status bf_emit(bnff_trainer *t, const bnff_event *event, bnff_error *error)
{
    if (t->on_event) t->on_event(t->user, event);
    const double now = bf_clock();
    if (event->kind == BNFF_EVENT_STEP && now - t->logged_at < step_log_seconds && event->step < event->steps) return BNFF_OK;
    t->logged_at = now;
    bf_text line = {0};
    write_event(&line, event);
    return append_text(t, EVENTS, &line, error);
}

void bf_warn(bnff_trainer *t, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (!t->running) {
        bf_text_add(&t->warnings, "%s\n", text);
        return;
    }
    bnff_event event = bf_event(t, BNFF_EVENT_WARNING);
    event.text = text;
    bf_emit(t, &event, NULL); /* a full disk will be reported by what matters more */
}

/* -- New and resumed logs --------------------------------------------------------------------------------------------- */

static bnff_status replace(bnff_trainer *t, const char *file, const char *text, bnff_error *error)
{
    char *path = bf_run_path(t->folder, file);
    const bnff_status status = path ? bf_file_replace(path, text, strlen(text), error) : bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    bf_free(path);
    return status;
}

bnff_status bf_journal_begin(bnff_trainer *t, bnff_error *error)
{
    char first[160];
    snprintf(first, sizeof first, "{\"ts\":%.3f,\"type\":\"run\",\"version\":1,\"bnff\":\"%s\"}\n", wall_clock(), bnff_version());
    BF_TRY(replace(t, RESULTS, results_header, error));
    return replace(t, EVENTS, first, error);
}

static bf_epoch_record *new_record(bnff_trainer *t)
{
    if (!bf_grow((void **)&t->history, &t->history_capacity, t->history_count, sizeof *t->history)) return NULL;
    return &t->history[t->history_count++];
}

static double number_of(const json_t *record, const char *key)
{
    const json_t *value = json_object_get(record, key);
    return json_is_number(value) ? json_number_value(value) : NAN;
}

/* An "epoch" record back into the history. */
static void remember_epoch(bnff_trainer *t, const json_t *record)
{
    const double before = t->history_count ? t->history[t->history_count - 1].elapsed_s : 0;
    bf_epoch_record *r = new_record(t);
    if (!r) return; /* then the report's curve begins later */
    *r = (bf_epoch_record){
        .shown = {.epoch = (int)json_integer_value(json_object_get(record, "epoch")),
                  .train_loss = number_of(record, "loss"), .train_acc1 = number_of(record, "acc1"), .val_loss = number_of(record, "val_loss"),
                  .val_acc1 = number_of(record, "val_acc1"), .val_acc5 = number_of(record, "val_acc5"), .lr = number_of(record, "lr"),
                  .images_per_s = number_of(record, "images_per_s")},
        .elapsed_s = number_of(record, "elapsed_s"),
    };
    r->shown.seconds = r->elapsed_s - before;
}

/* A record of an epoch, its validation or the end stands only if that epoch is done; any other if its step is. */
static bool keep_event(void *user, const char *line)
{
    bnff_trainer *t = user;
    json_t *record = json_loads(line, 0, NULL);
    const char *type = json_string_value(json_object_get(record, "type"));
    bool keep = type != NULL;
    if (type && strcmp(type, "run")) {
        const int64_t step = json_integer_value(json_object_get(record, "total_step")), epoch = json_integer_value(json_object_get(record, "epoch"));
        const bool whole = !strcmp(type, "epoch") || !strcmp(type, "validate") || !strcmp(type, "end");
        keep = step <= bf_trainer_total_step(t) && !(whole && epoch > t->progress.epoch);
        const double elapsed = number_of(record, "elapsed_s");
        if (keep && elapsed > t->elapsed_before) t->elapsed_before = elapsed;
        if (keep && !strcmp(type, "epoch")) remember_epoch(t, record);
    }
    json_decref(record);
    return keep;
}

static bool keep_row(void *user, const char *line)
{
    const bnff_trainer *t = user;
    long long epoch;
    return sscanf(line, "%lld,", &epoch) != 1 || epoch <= t->progress.epoch; /* the header stays */
}

bnff_status bf_journal_rewind(bnff_trainer *t, bnff_error *error)
{
    char *results = bf_run_path(t->folder, RESULTS), *events = bf_run_path(t->folder, EVENTS);
    bnff_status status = results && events ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    const bool begun = status == BNFF_OK && bf_is_file(results) && bf_is_file(events);
    bf_free(results);
    bf_free(events);
    if (status != BNFF_OK) return status;
    if (!begun) return bf_journal_begin(t, error);
    BF_TRY(bf_log_filter(t->folder, EVENTS, keep_event, t, error));
    return bf_log_filter(t->folder, RESULTS, keep_row, t, error);
}

/* -- Epochs ----------------------------------------------------------------------------------------------------------- */

bnff_status bf_journal_epoch(bnff_trainer *t, const bf_epoch_record *record, bnff_error *error)
{
    bf_epoch_record *r = new_record(t);
    if (!r) return bf_fail(error, BNFF_E_MEMORY, "no memory for the history");
    *r = *record;
    const bf_report_epoch *e = &record->shown;
    bf_text row = {0};
    bf_text_add(&row, "%d,%.3f,%.6g,%.6g,%.6g,%.6g,%.6g,%.1f,%zu,%.6g\n", e->epoch, record->elapsed_s, e->train_loss, e->val_acc1, e->val_acc5,
                e->val_loss, e->lr, e->images_per_s, bf_memory_resident(), e->train_acc1);
    return append_text(t, RESULTS, &row, error);
}
