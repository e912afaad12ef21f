/* The training loss of each of the first STEPS steps, a line each, for loss_curves.py.
 *     train_losses DATA MODEL BATCH STEPS LEVEL CELLS FOLDER    (FOLDER: where the run folder goes) */
#include <bnff/bnff.h>

#include <stdio.h>
#include <stdlib.h>

typedef struct watch {
    int64_t steps;
    double total; /* of the losses so far: events carry the running mean */
    volatile int stop;
} watch;

static void on_event(void *user, const bnff_event *event)
{
    watch *w = user;
    if (event->kind != BNFF_EVENT_STEP) return;
    const double total = event->loss * (double)event->step;
    printf("%.9g\n", total - w->total);
    w->total = total;
    w->stop = event->total_step == w->steps;
}

int main(int argc, char **argv)
{
    if (argc != 8) return fprintf(stderr, "usage: train_losses DATA MODEL BATCH STEPS LEVEL CELLS FOLDER\n"), 2;
    bnff_error error = {0};
    bnff_context *context = NULL;
    bnff_trainer *trainer = NULL;
    bnff_train_options options;
    bnff_train_options_init(&options);
    options.data = argv[1];
    options.model = argv[2];
    options.batch = atoi(argv[3]);
    options.level = argv[5];
    options.cells = atoi(argv[6]);
    options.output_dir = argv[7];
    options.schedule.kind = BNFF_CONSTANT;
    options.schedule.lr = 0.05;
    options.seed = 1;
    options.report = false;
    watch w = {.steps = atoi(argv[4])};
    bnff_status status = bnff_context_create(NULL, &context, &error);
    if (status == BNFF_OK) status = bnff_trainer_create(context, &options, &trainer, &error);
    if (status == BNFF_OK) status = bnff_trainer_run(trainer, on_event, &w, &w.stop, NULL, &error);
    bnff_trainer_destroy(&trainer);
    bnff_context_destroy(&context);
    if (status == BNFF_E_INTERRUPTED && w.stop) return 0;
    return fprintf(stderr, "train_losses: %s\n", status ? error.message : "the epoch is shorter than that"), 1;
}
