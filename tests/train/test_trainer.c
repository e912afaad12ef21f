/* Training, stopping, going on: the same bits whatever happened in between. */
#include "runs.h"

#include <bnff/weights.h>

static char whole[512];

/* The uninterrupted run all others are compared with. */
static void train_whole(void **state)
{
    (void)state;
    test_case("whole");
    bnff_error error;
    const bnff_train_options o = tiny_options("whole");
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, whole, &error), &error);
    assert_int_equal(w.steps, 10);
    assert_int_equal(w.warnings, 0);
    assert_true(w.ended);
    assert_true(isfinite(w.last_loss));
    for (size_t i = 0; i < 5; i++) {
        static const char *const files[] = {"args.json", "results.csv", "events.jsonl", "weights/best.safetensors", "confusion_matrix.csv"};
        assert_true(has_file(whole, files[i]));
    }
    assert_int_equal(count_lines(whole, "results.csv", ","), 3);
    assert_non_null(strstr(w.text, "synthetic:80x16x4"));
    assert_non_null(strstr(w.text, "bnff val"));
}

/* Stopped after a step and resumed: in mid-epoch, at an epoch's end (before its validation), and twice. */
static void resume_gives_the_same_bits(void **state)
{
    (void)state;
    static const int stops[] = {1, 3, 5, 9, 10};
    FOR_EACH(stop, stops) {
        test_case("stop=%d", stop);
        bnff_error error;
        char folder[512];
        const bnff_train_options o = tiny_options("stopped");
        watcher w = {.stop_at = stop};
        check_fails(train_tiny(&o, NULL, &w, folder, &error), BNFF_E_INTERRUPTED, &error, "saved");
        assert_int_equal(w.steps, stop);
        w = (watcher){.stop_at = stop == 1 ? 2 : 0};
        if (w.stop_at) check_fails(train_tiny(NULL, folder, &w, NULL, &error), BNFF_E_INTERRUPTED, &error, NULL);
        w = (watcher){0};
        check_ok(train_tiny(NULL, folder, &w, NULL, &error), &error);
        check_same_run(whole, folder);
        assert_int_equal(count_lines(folder, "results.csv", ","), 3);
        assert_int_equal(count_lines(folder, "events.jsonl", "\"type\":\"epoch\""), 2);
    }
}

static void loader_threads_do_not_matter(void **state)
{
    (void)state;
    static const int workers[] = {0, 3};
    FOR_EACH(n, workers) {
        test_case("workers=%d", n);
        bnff_error error;
        char folder[512];
        bnff_train_options o = tiny_options("workers");
        o.workers = n;
        check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
        check_same_run(whole, folder);
    }
}

/* The rarer parts of the state: Adam's moments and step count, accumulation with a last group of one, clipping, one-cycle's momentum. */
static void resume_with_accumulation_and_adam(void **state)
{
    (void)state;
    test_case("accumulation");
    bnff_error error;
    char one[512], two[512];
    bnff_train_options o = tiny_options("accumulated");
    o.grad_accum_steps = 2;
    o.clip_grad_norm = 0.5;
    o.optimizer.kind = BNFF_ADAMW;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, one, &error), &error);
    assert_int_equal(w.steps, 6);
    w = (watcher){.stop_at = 2};
    check_fails(train_tiny(&o, NULL, &w, two, &error), BNFF_E_INTERRUPTED, &error, NULL);
    check_ok(train_tiny(NULL, two, NULL, NULL, &error), &error);
    check_same_run(one, two);
}

static void step_limit_and_lifting_it(void **state)
{
    (void)state;
    test_case("max_steps");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("limited");
    o.max_steps = 3;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, folder, &error), &error);
    assert_int_equal(w.steps, 3);
    assert_true(w.ended);
    assert_true(has_file(folder, "weights/best.safetensors"));
    w = (watcher){0};
    check_ok(train_tiny(NULL, folder, &w, NULL, &error), &error); /* the limit is the run's own: nothing left */
    assert_int_equal(w.steps, 0);
    bnff_train_options overrides;
    bnff_train_options_init(&overrides);
    overrides.max_steps = -1;
    w = (watcher){0};
    check_ok(train_tiny(&overrides, folder, &w, NULL, &error), &error);
    assert_int_equal(w.steps, 7);
    check_same_run(whole, folder);
}

static void finished_runs_stay_as_they_are(void **state)
{
    (void)state;
    test_case("finished");
    bnff_error error;
    char folder[512];
    const bnff_train_options o = tiny_options("finished");
    check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
    watcher w = {0};
    check_ok(train_tiny(NULL, folder, &w, NULL, &error), &error);
    assert_int_equal(w.steps, 0);
    check_same_run(whole, folder);
}

static void a_save_may_be_asked_for(void **state)
{
    (void)state;
    test_case("save");
    bnff_error error;
    const bnff_train_options o = tiny_options("saving");
    watcher w = {.save = 1};
    check_ok(train_tiny(&o, NULL, &w, NULL, &error), &error);
    assert_int_equal(w.save, 0);
    assert_int_equal(w.checkpoints, 3); /* one for the wish, one an epoch */
}

static void folders_are_never_overwritten(void **state)
{
    (void)state;
    test_case("folders");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("named");
    o.max_steps = 1;
    static const char *const names[] = {"runs/named", "runs/named2", "runs/named3"};
    FOR_EACH(name, names) {
        check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
        assert_string_equal(folder, temp_path(name));
    }
    o.exist_ok = true;
    check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
    assert_string_equal(folder, temp_path("runs/named"));
}

/* Two trainings would mix their logs and overwrite each other's weights. */
static void one_training_at_a_time_in_a_folder(void **state)
{
    (void)state;
    test_case("lock");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("shared");
    o.epochs = 1;
    o.exist_ok = true;
    bnff_context *context = tiny_context();
    bnff_trainer *first = NULL, *second = NULL;
    check_ok(bnff_trainer_create(context, &o, &first, &error), &error);
    snprintf(folder, sizeof folder, "%s", bnff_trainer_run_dir(first));
    check_fails(bnff_trainer_create(context, &o, &second, &error), BNFF_E_STATE, &error, "another training");
    assert_null(second);
    check_fails(bnff_trainer_resume(context, folder, NULL, &second, &error), BNFF_E_STATE, &error, "another training");
    assert_null(second);
    check_ok(bnff_trainer_run(first, NULL, NULL, NULL, NULL, &error), &error);
    bnff_trainer_destroy(&first);
    check_ok(bnff_trainer_resume(context, folder, NULL, &second, &error), &error);
    bnff_trainer_destroy(&second);
    bnff_context_destroy(&context);
}

/* 33 images at batch 16 leave one; on 16-pixel images its last map has 4 x 4 values a channel: enough to normalise. */
static void partial_last_batches_are_trained_on(void **state)
{
    (void)state;
    test_case("partial");
    bnff_error error;
    bnff_train_options o = tiny_options("partial");
    o.data = "synthetic:33x16x3";
    o.epochs = 1;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, NULL, &error), &error);
    assert_int_equal(w.steps, 3);
}

static void results_can_be_kept_by_epoch(void **state)
{
    (void)state;
    test_case("save_period");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("kept");
    o.save_period = 1;
    o.report = true;
    check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
    assert_true(has_file(folder, "weights/epoch1.safetensors") && has_file(folder, "weights/epoch2.safetensors"));
    assert_true(has_file(folder, "report.html"));
    check_same_file(whole, folder, "weights/last.safetensors");
    o.name = "few";
    o.epochs = 3;
    o.checkpoint_hist = 2;
    o.eval_metric = "loss";
    check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
    assert_false(has_file(folder, "weights/epoch1.safetensors"));
    assert_true(has_file(folder, "weights/epoch2.safetensors") && has_file(folder, "weights/epoch3.safetensors"));
}

static void refusals_on_resume(void **state)
{
    (void)state;
    test_case("refusals");
    bnff_error error;
    check_fails(train_tiny(NULL, temp_path("nowhere"), NULL, NULL, &error), BNFF_E_IO, &error, "args.json");
    bnff_train_options overrides;
    bnff_train_options_init(&overrides);
    overrides.batch = 8;
    check_fails(train_tiny(&overrides, whole, NULL, NULL, &error), BNFF_E_ARG, &error, "--batch-size");
    bnff_train_options_init(&overrides);
    overrides.algorithm = "fast";
    check_fails(train_tiny(&overrides, whole, NULL, NULL, &error), BNFF_E_ARG, &error, "--conv");
    bnff_train_options_init(&overrides);
    overrides.data = "synthetic:64x16x4";
    check_fails(train_tiny(&overrides, whole, NULL, NULL, &error), BNFF_E_STATE, &error, "data has changed");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(train_whole),
        test(resume_gives_the_same_bits),
        test(loader_threads_do_not_matter),
        test(resume_with_accumulation_and_adam),
        test(step_limit_and_lifting_it),
        test(finished_runs_stay_as_they_are),
        test(a_save_may_be_asked_for),
        test(folders_are_never_overwritten), test(one_training_at_a_time_in_a_folder),
        test(partial_last_batches_are_trained_on),
        test(results_can_be_kept_by_epoch),
        test(refusals_on_resume),
    };
    return run_all(tests);
}
