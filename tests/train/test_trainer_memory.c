/* Trainers and classifiers when memory runs out: a message, nothing leaked, and the run can go on. */
#include "failalloc.h"
#include "runs.h"

/* A whole short life: create, train, stop, resume, classify. Allocations that only decorate (a warning's text, a picture) may
 * fail unnoticed, so success is allowed too. */
static bnff_status live(bnff_context *context, const char *name, bnff_error *error)
{
    bnff_train_options o = tiny_options(name);
    o.exist_ok = true;
    o.workers = 0; /* allocations in a fixed order */
    o.epochs = 1;
    o.report = true;
    watcher w = {.stop_at = 2};
    bnff_trainer *trainer = NULL;
    bnff_classifier *classifier = NULL;
    bnff_status status = bnff_trainer_create(context, &o, &trainer, error);
    if (status == BNFF_OK) status = bnff_trainer_run(trainer, watch, &w, &w.stop, NULL, error);
    bnff_trainer_destroy(&trainer);
    if (status == BNFF_E_INTERRUPTED) status = bnff_trainer_resume(context, temp_path("runs/memory"), NULL, &trainer, error);
    if (trainer && status == BNFF_OK) status = bnff_trainer_run(trainer, NULL, NULL, NULL, NULL, error);
    bnff_trainer_destroy(&trainer);
    if (status == BNFF_OK) status = bnff_classifier_open(context, temp_path("runs/memory/weights/best.safetensors"), NULL, &classifier, error);
    bnff_classifier_destroy(&classifier);
    return status;
}

static void memory_may_run_out_anywhere(void **state)
{
    (void)state;
    test_case("memory");
    bnff_context *context = tiny_context();
    bnff_error error;
    check_ok(live(context, "memory", &error), &error); /* the context's own, made once */
    const int before = live_allocations();
    /* The first hundred allocations each, then ever fewer of the thousands. */
    for (int k = 1; k < 20000; k += k < 100 ? 1 : k / 11) {
        test_case("allocation %d", k);
        fail_allocation(k);
        const bnff_status status = live(context, "memory", &error);
        fail_allocation(0);
        if (status != BNFF_OK) check_fails(status, BNFF_E_MEMORY, &error, NULL);
        assert_int_equal(live_allocations(), before);
    }
    bnff_context_destroy(&context);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(memory_may_run_out_anywhere)};
    return run_all(tests);
}
