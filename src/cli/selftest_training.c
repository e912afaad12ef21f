/* Checks of whole trainings on made-up images, in a folder of their own that is removed again. */
#define _GNU_SOURCE
#include <ftw.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "selftest.h"

static const char data[] = "synthetic:240x12x3";

/* -- Folders and files --------------------------------------------------------------------------------------------- */

static char *make_folder(selftest_finding *finding)
{
    const char *parent = getenv("TMPDIR");
    char *folder = cli_format("%s/bnff-selftest-XXXXXX", parent && *parent ? parent : "/tmp");
    if (mkdtemp(folder)) return folder;
    selftest_fail(finding, "%s: cannot make a folder", folder);
    free(folder);
    return NULL;
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *where)
{
    (void)info, (void)kind, (void)where;
    return remove(path);
}

static void remove_folder(char *folder)
{
    if (folder) nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    free(folder);
}

static bool same_files(const char *a, const char *b)
{
    FILE *x = fopen(a, "re"), *y = fopen(b, "re");
    bool same = x && y;
    for (int c = 0; same && c != EOF;) {
        c = getc(x);
        same = c == getc(y);
    }
    if (x) fclose(x);
    if (y) fclose(y);
    return same;
}

/* -- Trainings ----------------------------------------------------------------------------------------------------- */

static bnff_train_options options_for(const char *folder, const char *name)
{
    bnff_train_options options;
    bnff_train_options_init(&options);
    options.data = data;
    options.model = "densenet-bc-10-8";
    options.epochs = 3;
    options.batch = 24;
    options.seed = 7;
    options.workers = 1;
    options.output_dir = folder;
    options.name = name;
    options.report = false;
    return options;
}

struct watch { double first_loss, last_loss, acc1; int64_t stop_at; volatile int stop; };

static void on_event(void *user, const bnff_event *event)
{
    struct watch *w = user;
    if (event->kind == BNFF_EVENT_STEP && event->total_step == 1) w->first_loss = event->loss;
    if (event->kind == BNFF_EVENT_STEP && event->total_step == w->stop_at) w->stop = 1;
    if (event->kind == BNFF_EVENT_EPOCH) w->last_loss = event->loss, w->acc1 = event->val_acc1;
}

/* Train to the end, or to where `watch` stops it. */
static bool train(bnff_trainer *trainer, struct watch *w, selftest_finding *finding)
{
    bnff_error error;
    const bnff_status status = bnff_trainer_run(trainer, on_event, w, &w->stop, NULL, &error);
    if (status == BNFF_OK && !w->stop_at) return true;
    if (status == BNFF_E_INTERRUPTED && w->stop_at) return true;
    if (status == BNFF_OK) selftest_fail(finding, "the training ran past the step at which it was to stop");
    else selftest_error(finding, "training", &error);
    return false;
}

static bool train_new(bnff_context *context, const char *folder, const char *name, struct watch *w, selftest_finding *finding)
{
    bnff_error error;
    bnff_trainer *trainer = NULL;
    const bnff_train_options options = options_for(folder, name);
    if (bnff_trainer_create(context, &options, &trainer, &error)) return selftest_error(finding, "a trainer", &error), false;
    const bool good = train(trainer, w, finding);
    bnff_trainer_destroy(&trainer);
    return good;
}

static bool train_on(bnff_context *context, const char *folder, const char *name, struct watch *w, selftest_finding *finding)
{
    bnff_error error;
    bnff_trainer *trainer = NULL;
    char *run = cli_format("%s/%s", folder, name);
    const bnff_status status = bnff_trainer_resume(context, run, NULL, &trainer, &error);
    free(run);
    if (status) return selftest_error(finding, "resuming", &error), false;
    const bool good = train(trainer, w, finding);
    bnff_trainer_destroy(&trainer);
    return good;
}

void selftest_training(bnff_context *context, selftest_finding *finding, char note[128])
{
    struct watch w = {0};
    char *folder = make_folder(finding);
    if (folder && train_new(context, folder, "run", &w, finding)) {
        snprintf(note, 128, "made-up images, 3 epochs: loss %.2f to %.2f, %.0f %% of the held-out ones right", w.first_loss, w.last_loss, w.acc1);
        if (!(w.last_loss < 0.8 * w.first_loss)) selftest_fail(finding, "the loss went from %.3f to %.3f in 3 epochs", w.first_loss, w.last_loss);
    }
    remove_folder(folder);
}

void selftest_resume(bnff_context *context, selftest_finding *finding, char note[128])
{
    struct watch whole = {0}, half = {.stop_at = 11}, rest = {0}; /* 8 steps an epoch: 11 is in the middle of the second */
    char *folder = make_folder(finding);
    if (folder && train_new(context, folder, "whole", &whole, finding) && train_new(context, folder, "halves", &half, finding) &&
        train_on(context, folder, "halves", &rest, finding)) {
        char *a = cli_format("%s/whole/weights/last.safetensors", folder), *b = cli_format("%s/halves/weights/last.safetensors", folder);
        if (!same_files(a, b)) selftest_fail(finding, "a training stopped after step 11 and resumed ends with other weights");
        free(a), free(b);
        snprintf(note, 128, "stopped in mid-epoch and resumed: the same weights, byte for byte");
    }
    remove_folder(folder);
}

void selftest_weights(bnff_context *context, selftest_finding *finding, char note[128])
{
    struct watch w = {0};
    bnff_error error;
    bnff_classifier *classifier = NULL;
    bnff_weights *weights = NULL;
    bnff_evaluation evaluation = {0};
    char *folder = make_folder(finding);
    if (folder && train_new(context, folder, "run", &w, finding)) {
        char *path = cli_format("%s/run/weights/last.safetensors", folder), *copy = cli_format("%s/copy.safetensors", folder);
        if (bnff_weights_open(path, &weights, &error) || bnff_weights_save(weights, copy, &error)) selftest_error(finding, "weights", &error);
        else if (!same_files(path, copy)) selftest_fail(finding, "weights read and written again are not the same bytes");
        else if (bnff_classifier_open(context, copy, NULL, &classifier, &error)) selftest_error(finding, "the weights", &error);
        else if (bnff_classifier_evaluate(classifier, data, &evaluation, &error)) selftest_error(finding, "evaluating", &error);
        else if (evaluation.acc1 < w.acc1 - 1e-6 || evaluation.acc1 > w.acc1 + 1e-6)
            selftest_fail(finding, "%.2f %% right in training, %.2f %% from the file", w.acc1, evaluation.acc1);
        snprintf(note, 128, "written, read, written: the same bytes; accuracy from the file as in training");
        free(path), free(copy);
    }
    bnff_free(evaluation.confusion);
    bnff_classifier_destroy(&classifier);
    bnff_weights_destroy(&weights);
    remove_folder(folder);
}
