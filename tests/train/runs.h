/* Short trainings for the tests: made-up data, a network of a few thousand parameters, a folder of their own. */
#ifndef BNFF_TESTS_RUNS_H
#define BNFF_TESTS_RUNS_H

#include <inttypes.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bnff/train.h>

#include "base/files.h"
#include "base/memory.h"
#include "support.h"

/* 80 images of 16 x 16 pixels in 4 classes; batch 16: an epoch has 5 steps. */
static inline bnff_train_options tiny_options(const char *name)
{
    static char output_dir[512]; /* temp_path's own would not last */
    snprintf(output_dir, sizeof output_dir, "%s", temp_path("runs"));
    bnff_train_options o;
    bnff_train_options_init(&o);
    o.data = "synthetic:80x16x4";
    o.model = "densenet-bc-10-4";
    o.epochs = 2;
    o.batch = 16;
    o.seed = 7;
    o.workers = 1;
    o.output_dir = output_dir;
    o.name = name;
    o.checkpoint_seconds = -1;
    o.report = false;
    return o;
}

static inline bnff_context *tiny_context(void)
{
    const bnff_context_options options = {.size = sizeof options, .threads = 2};
    bnff_context *context = NULL;
    bnff_error error;
    check_ok(bnff_context_create(&options, &context, &error), &error);
    return context;
}

/* What a run's events said. */
typedef struct watcher {
    int64_t stop_at;      /* ask for a stop after this optimizer step; 0: never */
    volatile int stop, save;
    int64_t steps, checkpoints, warnings;
    double val_acc1, val_loss, last_loss;
    bool ended;
    char text[8192];      /* every text, one after the other */
} watcher;

static inline void watch(void *user, const bnff_event *e)
{
    watcher *w = user;
    w->steps += e->kind == BNFF_EVENT_STEP;
    w->checkpoints += e->kind == BNFF_EVENT_CHECKPOINT;
    w->warnings += e->kind == BNFF_EVENT_WARNING;
    w->ended |= e->kind == BNFF_EVENT_END;
    if (e->kind == BNFF_EVENT_STEP) w->last_loss = e->loss;
    if (e->kind == BNFF_EVENT_VALIDATE) w->val_acc1 = e->val_acc1, w->val_loss = e->val_loss;
    if (e->text) snprintf(w->text + strlen(w->text), sizeof w->text - strlen(w->text), "%s\n", e->text);
    if (w->stop_at && e->kind == BNFF_EVENT_STEP && e->total_step == w->stop_at) w->stop = 1;
}

/* Train from options, or go on with the run in `folder` (options NULL). The folder, kept until the next call, or NULL if none was made. */
static inline bnff_status train_tiny(const bnff_train_options *options, const char *folder, watcher *w, char *made, bnff_error *error)
{
    watcher unwatched = {0};
    if (!w) w = &unwatched;
    bnff_context *context = tiny_context();
    bnff_trainer *trainer = NULL;
    bnff_status status = folder ? bnff_trainer_resume(context, folder, options, &trainer, error) : bnff_trainer_create(context, options, &trainer, error);
    if (made) made[0] = '\0';
    if (made && trainer) snprintf(made, 512, "%s", bnff_trainer_run_dir(trainer));
    if (status == BNFF_OK) status = bnff_trainer_run(trainer, watch, w, &w->stop, &w->save, error);
    bnff_trainer_destroy(&trainer);
    bnff_context_destroy(&context);
    return status;
}

static inline char *file_bytes(const char *folder, const char *file, size_t *size)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    void *bytes = NULL;
    bnff_error error;
    check_ok(bf_file_read(path, 64u << 20, &bytes, size, &error), &error);
    return bytes;
}

static inline void check_same_file(const char *folder_a, const char *folder_b, const char *file)
{
    size_t size_a, size_b;
    char *a = file_bytes(folder_a, file, &size_a), *b = file_bytes(folder_b, file, &size_b);
    if (size_a != size_b || memcmp(a, b, size_a)) fail_msg("%s: %s/%s and %s/%s differ", test_case_name(), folder_a, file, folder_b, file);
    bf_free(a);
    bf_free(b);
}

/* Blank the columns of results.csv that tell time and memory: time, img/s, rss. */
static inline void blank_times(char *text)
{
    int column = 0;
    for (char *c = text; *c; c++) {
        if (*c == ',') column++;
        else if (*c == '\n') column = 0;
        else if (column == 1 || column == 7 || column == 8) *c = '-';
    }
}

/* The same numbers in results.csv, training metrics included. Blanked times may have other lengths: dashes are skipped. */
static inline void check_same_results(const char *folder_a, const char *folder_b)
{
    size_t size;
    char *a = file_bytes(folder_a, "results.csv", &size), *b = file_bytes(folder_b, "results.csv", &size);
    blank_times(a);
    blank_times(b);
    const char *x = a, *y = b;
    while (*x || *y) {
        if (*x == '-') x++;
        else if (*y == '-') y++;
        else if (*x++ != *y++) fail_msg("%s: results.csv differ: '%.40s' and '%.40s'", test_case_name(), x - 1, y - 1);
    }
    bf_free(a);
    bf_free(b);
}

/* Every file that must not depend on when and where a run was computed. */
static inline void check_same_run(const char *a, const char *b)
{
    check_same_results(a, b);
    check_same_file(a, b, "weights/last.safetensors");
    check_same_file(a, b, "weights/best.safetensors");
    check_same_file(a, b, "weights/last.state.safetensors");
    check_same_file(a, b, "confusion_matrix.csv");
}

static inline bool has_file(const char *folder, const char *file)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return bf_is_file(path);
}

static inline int count_lines(const char *folder, const char *file, const char *containing)
{
    size_t size;
    char *text = file_bytes(folder, file, &size);
    int lines = 0;
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        lines += strstr(line, containing) != NULL;
    }
    bf_free(text);
    return lines;
}

#endif
