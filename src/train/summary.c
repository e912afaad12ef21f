/* What people read before and after a training, and the files that its end leaves: confusion_matrix.csv, report.html. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <bnff/machine.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "train/run_folder.h"
#include "train/trainer.h"

static const char *const optimizer_names[] = {"sgd", "adam", "adamw"};
static const char *const schedule_names[] = {"constant", "steplr", "cosineannealinglr", "onecycle"};

/* -- Start ------------------------------------------------------------------------------------------------------------ */

static void add_grouped(bf_text *text, int64_t number)
{
    if (number >= 1000) {
        add_grouped(text, number / 1000);
        bf_text_add(text, " %03d", (int)(number % 1000));
    } else {
        bf_text_add(text, "%d", (int)number);
    }
}

static void add_duration(bf_text *text, double seconds);

/* What the arithmetic alone takes at the machine's multiply-add peak: a bound, since how near a network comes is not known beforehand. */
static void add_least_time(bf_text *text, const bnff_trainer *t, double batch_flops)
{
    const double peak = bnff_measure_fma(t->context, 0.05), step_s = batch_flops * t->config.options.grad_accum_steps / peak;
    bf_text_add(text, "time     at least %.3g s a step and ", step_s);
    add_duration(text, step_s * (double)bf_trainer_last_step(t));
    bf_text_add(text, " in all, at this machine's %.0f GFLOP/s\n", 1e-9 * peak);
}

static void add_plan(bf_text *text, const bnff_trainer *t)
{
    const bnff_train_options *o = &t->config.options;
    const bnff_plan *plan;
    bnff_plan_info info = {.size = sizeof info};
    /* Planning is cached, and the first step wants this plan anyway. */
    if (bf_network_plan((bf_network *)&t->network, BNFF_TRAIN, o->batch, o->train_crop_size, o->train_crop_size, &plan, NULL) != BNFF_OK) return;
    bnff_plan_describe(plan, &info);
    bf_text_add(text, "plan     level %s, convolutions %s, %d of %d batch normalizations fused, %.2f GFLOP an image and step\n", o->level, o->algorithm,
                info.batchnorms_fused, info.batchnorms, (info.forward_flops + info.backward_flops) / info.batch / 1e9);
    if (t->describing) add_least_time(text, t, info.forward_flops + info.backward_flops);
}

char *bf_start_text(const bnff_trainer *t)
{
    const bnff_train_options *o = &t->config.options;
    bf_text text = {0};
    char need[32], available[32];
    bf_text_add(&text, "model    %s, ", o->model);
    add_grouped(&text, bf_network_parameters(&t->network));
    bf_text_add(&text, " parameters\ndata     %s: %d classes, %" PRId64 " training and %" PRId64 " validation images, as %dx%dx%d\n", o->data, t->card.classes,
                bnff_dataset_size(t->train_data), bnff_dataset_size(t->val_data), o->train_crop_size, o->train_crop_size, t->card.channels);
    bf_text_add(&text, "recipe   %d epoch%s of %" PRId64 " step%s, batch %d", o->epochs, o->epochs == 1 ? "" : "s", t->steps,
                t->steps == 1 ? "" : "s", o->batch);
    if (o->grad_accum_steps > 1) bf_text_add(&text, " x %d", o->grad_accum_steps);
    bf_text_add(&text, ", %s lr %g, %s, weight decay %g\n", optimizer_names[o->optimizer.kind], o->schedule.lr, schedule_names[o->schedule.kind],
                (double)o->optimizer.weight_decay);
    bf_text_add(&text, "machine  %s, %d thread%s in %d cell%s, %s, %d loader thread%s\n", t->machine.cpu,
                t->machine.threads, t->machine.threads == 1 ? "" : "s", o->cells, o->cells == 1 ? "" : "s", t->machine.isa, o->workers, o->workers == 1 ? "" : "s");
    add_plan(&text, t);
    bf_text_add(&text, "memory   %s planned", bf_bytes_text(t->need.total, need));
    if (t->memory_free) bf_text_add(&text, ", %s free", bf_bytes_text(t->memory_free, available));
    bf_text_add(&text, "\n");
    if (t->folder) bf_text_add(&text, "run      %s\n", t->folder);
    if (t->notes.data) bf_text_append(&text, t->notes.data, t->notes.length);
    if (text.length && !text.failed) text.data[--text.length] = '\0'; /* the last newline */
    return bf_text_take(&text);
}

/* -- End -------------------------------------------------------------------------------------------------------------- */

static double training_speed(const bnff_trainer *t)
{
    double images = 0, seconds = 0;
    for (int i = 0; i < t->history_count; i++) {
        const bf_report_epoch *e = &t->history[i].shown;
        if (!(e->images_per_s > 0)) continue;
        images += 1;
        seconds += 1 / e->images_per_s;
    }
    if (images > 0) return images / seconds; /* epochs have equally many images: the harmonic mean */
    return t->steps_s > 0 ? (double)t->epoch_images / t->steps_s : 0;
}

static void add_next_steps(bf_text *text, const bnff_trainer *t, const char *prefix)
{
    bf_text weights = {0};
    bf_text_add(&weights, "%s/weights/best.safetensors", t->folder);
    char *path = bf_text_take(&weights);
    bf_text_add(text, "%sbnff val ", prefix);
    bf_text_shell(text, path ? path : "");
    bf_text_add(text, " ");
    bf_text_shell(text, t->config.options.data);
    bf_text_add(text, "\n%sbnff predict ", prefix);
    bf_text_shell(text, path ? path : "");
    bf_text_add(text, " IMAGE...\n");
    if (!path) text->failed = true;
    bf_free(path);
}

static void add_duration(bf_text *text, double seconds)
{
    const long whole = lround(seconds);
    if (whole >= 3600) bf_text_add(text, "%ld h %02ld min", whole / 3600, whole % 3600 / 60);
    else if (whole >= 60) bf_text_add(text, "%ld min %02ld s", whole / 60, whole % 60);
    else bf_text_add(text, "%.1f s", seconds);
}

char *bf_end_text(const bnff_trainer *t)
{
    bf_text text = {0};
    char peak[32];
    if (t->progress.best_epoch)
        bf_text_add(&text, "best     %.2f %% of the validation images right (epoch %" PRId64 ")\n", t->progress.best_acc1, t->progress.best_epoch);
    bf_text_add(&text, "time     ");
    add_duration(&text, bf_trainer_elapsed(t));
    bf_text_add(&text, ", %.4g images/s in training, peak memory %s\n", training_speed(t), bf_bytes_text(bf_memory_peak(), peak));
    bf_text_add(&text, "weights  %s/weights/best.safetensors\n", t->folder);
    if (t->config.options.report) bf_text_add(&text, "report   %s/report.html\n", t->folder);
    if (bf_trainer_last_step(t) < t->config.options.epochs * t->steps && t->progress.epoch < t->config.options.epochs) {
        bf_text_add(&text, "stopped at --max-steps %" PRId64 "; to go on: bnff train --resume ", t->config.options.max_steps);
        bf_text_shell(&text, t->folder);
        bf_text_add(&text, " --max-steps N\n");
    }
    add_next_steps(&text, t, "next     ");
    if (text.length && !text.failed) text.data[--text.length] = '\0';
    return bf_text_take(&text);
}

/* -- Results ---------------------------------------------------------------------------------------------------------- */

/* The best epoch's evaluation, made again where the best epoch was before a resume. best.safetensors is then read into the
 * network: the training is over and its own state is saved. */
static bnff_status evaluate_best(bnff_trainer *t, bnff_error *error)
{
    if (t->best_known) return BNFF_OK;
    char *path = bf_run_path(t->folder, "weights/best.safetensors");
    if (!path) return bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    bnff_status status = BNFF_OK;
    if (bf_is_file(path)) {
        bnff_weights *weights = NULL;
        bnff_load_report report = {0};
        status = bnff_weights_open(path, &weights, error);
        if (status == BNFF_OK) status = bf_network_load(&t->network, weights, NULL, &report, error);
        bnff_weights_destroy(&weights);
    }
    bf_free(path);
    if (status == BNFF_OK) status = bf_evaluate(&t->network, t->val_loader, t->config.options.val_crop_size, t->val_map, NULL, &t->best_evaluation, error);
    t->best_known = status == BNFF_OK;
    return status;
}

/* RFC 4180: quotes doubled inside quotes. */
static void add_csv(bf_text *text, const char *field)
{
    if (!strpbrk(field, ",\"\r\n")) {
        bf_text_add(text, "%s", field);
        return;
    }
    bf_text_append(text, "\"", 1);
    for (; *field; field++) bf_text_append(text, *field == '"' ? "\"\"" : field, *field == '"' ? 2 : 1);
    bf_text_append(text, "\"", 1);
}

/* Rows are the true classes, columns the predicted ones. */
static bnff_status write_confusion(const bnff_trainer *t, bnff_error *error)
{
    bf_text text = {0};
    bf_text_add(&text, "true\\predicted");
    for (int k = 0; k < t->card.classes; k++) bf_text_append(&text, ",", 1), add_csv(&text, t->card.class_names[k]);
    bf_text_append(&text, "\n", 1);
    for (int i = 0; i < t->card.classes; i++) {
        add_csv(&text, t->card.class_names[i]);
        const int64_t *row = t->best_evaluation.confusion + (size_t)i * (size_t)t->card.classes;
        for (int k = 0; k < t->card.classes; k++) bf_text_add(&text, ",%" PRId64, row[k]);
        bf_text_append(&text, "\n", 1);
    }
    char *path = bf_run_path(t->folder, "confusion_matrix.csv");
    const bnff_status status = path && !text.failed ? bf_file_replace(path, text.data, text.length, error)
                                                    : bf_fail(error, BNFF_E_MEMORY, "no memory for confusion_matrix.csv");
    bf_free(path);
    bf_text_free(&text);
    return status;
}

/* Pictures no larger than a report shows. */
static void load_picture(const bnff_dataset *data, int64_t index, bnff_image *picture)
{
    enum { LARGEST = 256 };
    bnff_image image;
    if (bnff_dataset_image(data, index, &image, NULL) != BNFF_OK) return; /* shown without a picture */
    const int side = image.width > image.height ? image.width : image.height;
    if (side <= LARGEST) {
        *picture = image;
        return;
    }
    const int width = image.width * LARGEST / side, height = image.height * LARGEST / side;
    if (bnff_image_resize(&image, 0, 0, image.width, image.height, width ? width : 1, height ? height : 1, BNFF_BILINEAR, picture, NULL) != BNFF_OK)
        *picture = (bnff_image){0};
    bnff_image_free(&image);
}

static int collect_mistakes(const bnff_trainer *t, bf_report_mistake *mistakes)
{
    const bf_evaluation *e = &t->best_evaluation;
    for (int i = 0; i < e->mistake_count; i++) {
        const bf_mistake *m = &e->mistakes[i];
        mistakes[i] = (bf_report_mistake){.name = bnff_dataset_item_name(t->val_data, m->index), .label = m->label, .predicted = m->predicted,
                                          .probability = m->probability};
        load_picture(t->val_data, m->index, &mistakes[i].image);
    }
    return e->mistake_count;
}

enum { SETTINGS = 9, NEXT_STEPS = 2 };

struct shown {
    char values[SETTINGS][96];
    bf_report_setting settings[SETTINGS];
    char machine[192];
    bf_report_mistake mistakes[BF_MISTAKES];
    bf_report_epoch *epochs;
    char *next[NEXT_STEPS];
};

static void fill_settings(const bnff_trainer *t, struct shown *s)
{
    const bnff_train_options *o = &t->config.options;
    static const char *const keys[SETTINGS] = {"epochs", "batch", "optimizer", "schedule", "images", "label smoothing", "level", "convolutions", "seed"};
    snprintf(s->values[0], sizeof *s->values, "%d", o->epochs);
    snprintf(s->values[1], sizeof *s->values, o->grad_accum_steps > 1 ? "%d x %d" : "%d", o->batch, o->grad_accum_steps);
    snprintf(s->values[2], sizeof *s->values, "%s, weight decay %g", optimizer_names[o->optimizer.kind], (double)o->optimizer.weight_decay);
    snprintf(s->values[3], sizeof *s->values, "%s, lr %g", schedule_names[o->schedule.kind], o->schedule.lr);
    snprintf(s->values[4], sizeof *s->values, "%d x %d x %d", o->train_crop_size, o->train_crop_size, t->card.channels);
    snprintf(s->values[5], sizeof *s->values, "%g", (double)o->label_smoothing);
    snprintf(s->values[6], sizeof *s->values, "%s", o->level);
    snprintf(s->values[7], sizeof *s->values, "%s", o->algorithm);
    snprintf(s->values[8], sizeof *s->values, "%" PRIu64, o->seed);
    for (int i = 0; i < SETTINGS; i++) s->settings[i] = (bf_report_setting){keys[i], s->values[i]};
}

static bool fill(const bnff_trainer *t, struct shown *s)
{
    fill_settings(t, s);
    snprintf(s->machine, sizeof s->machine, "%s, %d threads, %s", t->machine.cpu, t->machine.threads, t->machine.isa);
    if (!(s->epochs = bf_calloc((size_t)t->history_count, sizeof *s->epochs))) return false;
    for (int i = 0; i < t->history_count; i++) s->epochs[i] = t->history[i].shown;
    bf_text lines = {0};
    add_next_steps(&lines, t, "");
    char *text = bf_text_take(&lines), *end = text ? strchr(text, '\n') : NULL;
    if (!end) return bf_free(text), false;
    *end = '\0';
    s->next[0] = bf_strdup(text);
    end[1 + strcspn(end + 1, "\n")] = '\0';
    s->next[1] = bf_strdup(end + 1);
    bf_free(text);
    return s->next[0] && s->next[1];
}

static bnff_status write_report(const bnff_trainer *t, struct shown *s, bnff_error *error)
{
    if (!fill(t, s)) return bf_fail(error, BNFF_E_MEMORY, "no memory for the report");
    const char *slash = strrchr(t->folder, '/');
    const bf_report report = {
        .title = slash && slash[1] ? slash + 1 : t->folder, .model = t->config.options.model, .data = t->config.options.data, .machine = s->machine,
        .parameters = bf_network_parameters(&t->network), .train_images = bnff_dataset_size(t->train_data), .val_images = bnff_dataset_size(t->val_data),
        .best_acc1 = t->progress.best_acc1, .best_epoch = (int)t->progress.best_epoch, .seconds = bf_trainer_elapsed(t),
        .images_per_s = training_speed(t), .peak_bytes = bf_memory_peak(), .epochs = s->epochs, .epoch_count = t->history_count,
        .classes = t->card.classes, .class_names = (const char *const *)t->card.class_names, .confusion = t->best_evaluation.confusion,
        .mistakes = s->mistakes, .mistake_count = collect_mistakes(t, s->mistakes), .settings = s->settings, .setting_count = SETTINGS,
        .next_steps = (const char *const *)s->next, .next_step_count = NEXT_STEPS,
    };
    char *path = bf_run_path(t->folder, "report.html");
    const bnff_status status = path ? bf_report_write(path, &report, error) : bf_fail(error, BNFF_E_MEMORY, "no memory for the report");
    bf_free(path);
    return status;
}

bnff_status bf_write_results(bnff_trainer *t, bnff_error *error)
{
    BF_TRY(evaluate_best(t, error));
    BF_TRY(write_confusion(t, error));
    if (!t->config.options.report) return BNFF_OK;
    struct shown *shown = bf_calloc(1, sizeof *shown);
    if (!shown) return bf_fail(error, BNFF_E_MEMORY, "no memory for the report");
    const bnff_status status = write_report(t, shown, error);
    for (int i = 0; i < BF_MISTAKES; i++) bnff_image_free(&shown->mistakes[i].image);
    for (int i = 0; i < NEXT_STEPS; i++) bf_free(shown->next[i]);
    bf_free(shown->epochs);
    bf_free(shown);
    return status;
}
