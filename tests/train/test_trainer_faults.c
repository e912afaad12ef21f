/* What may go wrong: killed processes, full disks, too little memory, numbers that run away. Nothing that was saved is lost. */
#include "runs.h"

#include <dirent.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <bnff/weights.h>

#include "train/run_folder.h"

/* -- kill -9 ---------------------------------------------------------------------------------------------------------- */

/* Train or go on in a child process; returns its id. The parent makes no threads, so that it may fork. */
static pid_t start_child(const bnff_train_options *options, const char *folder)
{
    bnff_train_options overrides;
    bnff_train_options_init(&overrides);
    overrides.checkpoint_seconds = 1e-6; /* after every step */
    fflush(NULL);
    const pid_t child = fork();
    if (child == 0) {
        bnff_error error;
        if (train_tiny(folder ? &overrides : options, folder, NULL, NULL, &error) == BNFF_OK) _exit(0);
        printf("# child: %s\n", error.message);
        fflush(stdout);
        _exit(1);
    }
    assert_true(child > 0);
    return child;
}

static bool finished_well(pid_t child)
{
    int code;
    assert_int_equal(waitpid(child, &code, 0), child);
    if (WIFEXITED(code)) assert_int_equal(WEXITSTATUS(code), 0);
    return WIFEXITED(code);
}

static int temporaries_in(const char *folder)
{
    int found = 0;
    DIR *listing = opendir(folder);
    for (struct dirent *entry; listing && (entry = readdir(listing));) found += strstr(entry->d_name, ".tmp") != NULL;
    if (listing) closedir(listing);
    return found;
}

/* Killed at random moments until it is done: each time the checkpoint is whole and the end is that of an uninterrupted run. */
static void killed_again_and_again(void **state)
{
    (void)state;
    test_case("kill");
    bnff_train_options o = tiny_options("whole");
    o.checkpoint_seconds = 1e-6;
    assert_true(finished_well(start_child(&o, NULL)));
    o.name = "killed";
    char folder[512];
    snprintf(folder, sizeof folder, "%s", temp_path("runs/killed"));
    int kills = 0;
    for (bool done = false; !done;) {
        const bool begun = has_file(folder, "args.json");
        const pid_t child = start_child(&o, begun ? folder : NULL);
        usleep((useconds_t)random_int(1000, 40000));
        if (kills < 25) kill(child, SIGKILL);
        done = finished_well(child);
        kills += !done;
        if (!has_file(folder, "args.json")) { /* killed before the run began: the next one must get the name */
            bf_run_folder_sweep(folder);
            rmdir(temp_path("runs/killed/weights"));
            rmdir(temp_path("runs/killed"));
        }
        if (has_file(folder, "weights/last.state.safetensors")) {
            bnff_weights *weights = NULL;
            bnff_error error;
            check_ok(bnff_weights_open(temp_path("runs/killed/weights/last.state.safetensors"), &weights, &error), &error);
            bnff_weights_destroy(&weights);
        }
    }
    check_same_run(temp_path("runs/whole"), folder);
    assert_int_equal(temporaries_in(temp_path("runs/killed/weights")) + temporaries_in(folder), 0);
}

/* -- Disks ------------------------------------------------------------------------------------------------------------ */

static void unwritable_places(void **state)
{
    (void)state;
    test_case("unwritable");
    write_file(temp_path("a_file"), "x", 1);
    bnff_error error;
    bnff_train_options o = tiny_options("run");
    o.output_dir = temp_path("a_file/below");
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_IO, &error, "--output-dir");
    o.output_dir = temp_path("a_file");
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_IO, &error, "a_file");
}

/* Make every file after this step too large to write, as a full disk would. */
static void fill_disk(void *user, const bnff_event *event)
{
    const struct rlimit tight = {4096, RLIM_INFINITY};
    if (event->kind == BNFF_EVENT_STEP && event->total_step == *(int64_t *)user) setrlimit(RLIMIT_FSIZE, &tight);
}

static void full_disk_keeps_the_earlier_checkpoint(void **state)
{
    (void)state;
    test_case("full");
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    bnff_train_options o = tiny_options("full");
    o.checkpoint_seconds = 1e-6;
    bnff_error error;
    bnff_context *context = tiny_context();
    bnff_trainer *trainer = NULL;
    check_ok(bnff_trainer_create(context, &o, &trainer, &error), &error);
    int64_t at = 3;
    const bnff_status status = bnff_trainer_run(trainer, fill_disk, &at, NULL, NULL, &error);
    setrlimit(RLIMIT_FSIZE, &before);
    check_fails(status, BNFF_E_IO, &error, "cannot write");
    bnff_trainer_destroy(&trainer);
    bnff_context_destroy(&context);
    char folder[512];
    snprintf(folder, sizeof folder, "%s", temp_path("runs/full"));
    assert_int_equal(temporaries_in(temp_path("runs/full/weights")), 0);
    watcher w = {0};
    check_ok(train_tiny(NULL, folder, &w, NULL, &error), &error); /* room again: on from step 2 */
    assert_int_equal(w.steps, 8);
    check_same_run(temp_path("runs/whole"), folder);
}

/* -- Memory ----------------------------------------------------------------------------------------------------------- */

static void too_much_memory_is_refused_before_the_run(void **state)
{
    (void)state;
    test_case("memory");
    bnff_error error;
    bnff_train_options o = tiny_options("large");
    o.data = "synthetic:100000x16x4";
    o.batch = 20000;
    o.train_crop_size = o.val_crop_size = 256; /* 20000 images of 256 x 256 x 24 floats in each of some ten layers: more than a TiB */
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_MEMORY, &error, "fits");
    assert_non_null(strstr(error.message, "GiB free"));
    assert_false(bf_is_folder(temp_path("runs/large")));
    int fits = 0;
    assert_int_equal(sscanf(error.hint, "batch %d fits", &fits), 1);
    assert_in_range(fits, 1, 19999);
    o.batch = 100000;
    o.train_crop_size = o.val_crop_size = 4096; /* more than can be planned */
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_MEMORY, &error, "fits");
}

static void batch_auto_takes_what_fits(void **state)
{
    (void)state;
    test_case("auto");
    bnff_error error;
    bnff_train_options o = tiny_options("auto");
    o.batch = -1;
    o.epochs = 1;
    watcher w = {0};
    check_ok(train_tiny(&o, NULL, &w, NULL, &error), &error);
    assert_non_null(strstr(w.text, "batch 8,")); /* an eighth of 80 images, cut to 8 */
}

/* -- Numbers ---------------------------------------------------------------------------------------------------------- */

static void divergence_names_step_and_layer(void **state)
{
    (void)state;
    test_case("diverged");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("diverged");
    o.schedule.lr = 1e6;
    o.schedule.kind = BNFF_CONSTANT;
    o.optimizer.weight_decay = 10; /* multiplies the weights by about -1e7 a step */
    o.checkpoint_seconds = 1e-6;
    o.epochs = 100;
    check_fails(train_tiny(&o, NULL, NULL, folder, &error), BNFF_E_DIVERGED, &error, "step ");
    assert_non_null(strstr(error.message, "learning rate 1e+06"));
    assert_non_null(strstr(error.message, "first bad layer"));
    assert_non_null(strstr(error.hint, "--lr"));
    bnff_weights *weights = NULL;
    check_ok(bnff_weights_open(temp_path("runs/diverged/weights/last.safetensors"), &weights, &error), &error);
    bnff_weights_destroy(&weights);
}

/* -- Bad input -------------------------------------------------------------------------------------------------------- */

static void bad_options_are_named(void **state)
{
    (void)state;
    test_case("options");
    bnff_error error;
    bnff_train_options o = tiny_options("bad");
    o.model = "resnet19";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "did you mean");
    o = tiny_options("bad");
    o.algorithm = "winograd";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "direct");
    o = tiny_options("bad");
    o.data = NULL;
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "no data");
    o = tiny_options("a/b");
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "--name");
    o = tiny_options("bad");
    o.label_smoothing = 1;
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "--label-smoothing");
    o = tiny_options("bad");
    o.freeze = "no_such_layer";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "matches");
    o = tiny_options("bad");
    o.freeze = "(";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "regular expression");
    o = tiny_options("bad");
    o.freeze = ".";
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_ARG, &error, "no parameter to train");
    o = tiny_options("bad");
    o.model = "resnet18";
    o.train_crop_size = 1;
    o.val_crop_size = 1;
    o.batch = 1;
    check_fails(train_tiny(&o, NULL, NULL, NULL, &error), BNFF_E_SHAPE, &error, NULL); /* a single value a channel */
    assert_false(bf_is_folder(temp_path("runs/bad")));
}

static void broken_runs_are_refused(void **state)
{
    (void)state;
    test_case("broken");
    bnff_error error;
    char folder[512];
    bnff_train_options o = tiny_options("broken");
    o.epochs = 1;
    check_ok(train_tiny(&o, NULL, NULL, folder, &error), &error);
    const char *state_file = temp_path("runs/broken/weights/last.state.safetensors");
    assert_int_equal(truncate(state_file, 1000), 0);
    check_fails(train_tiny(NULL, folder, NULL, NULL, &error), BNFF_E_FORMAT, &error, "last.state.safetensors");
    static const char *const bad[] = {"", "[]", "{", "{\"data\": 1}", "{\"data\": \"synthetic:80x16x4\"}"};
    FOR_EACH(text, bad) {
        test_case("args %s", text);
        write_file(temp_path("runs/broken/args.json"), text, strlen(text));
        check_fails(train_tiny(NULL, folder, NULL, NULL, &error), BNFF_E_FORMAT, &error, "args.json");
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(killed_again_and_again),
        test(unwritable_places),
        test(full_disk_keeps_the_earlier_checkpoint),
        test(too_much_memory_is_refused_before_the_run),
        test(batch_auto_takes_what_fits),
        test(divergence_names_step_and_layer),
        test(bad_options_are_named),
        test(broken_runs_are_refused),
    };
    return run_all(tests);
}
