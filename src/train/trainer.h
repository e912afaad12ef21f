/* The inside of a bnff_trainer. setup.c makes it, resume.c takes it up again, train_loop.c runs it, journal.c writes what happened. */
#ifndef BF_TRAIN_TRAINER_H
#define BF_TRAIN_TRAINER_H

#include <bnff/train.h>

#include "base/text.h"
#include "train/batch_fit.h"
#include "train/card.h"
#include "train/checkpoint.h"
#include "train/config.h"
#include "train/evaluate.h"
#include "train/freeze.h"
#include "train/metrics.h"
#include "train/train_network.h"
#include "train/report.h"

typedef void (*bf_event_fn)(void *user, const bnff_event *event);

/* One epoch as the report shows it, and how long the run had taken at its end. */
typedef struct bf_epoch_record {
    bf_report_epoch shown;
    double elapsed_s;
} bf_epoch_record;

struct bnff_trainer {
    bnff_context *context;
    bf_config config;
    bf_machine machine;         /* this one */
    char *folder;
    int lock;                   /* of the folder, which is this training's alone; -1: none */

    bnff_dataset *train_data, *val_data;
    bnff_loader *train_loader, *val_loader;
    int *val_map;               /* validation labels to training labels */
    bf_card card;

    bf_network network;
    bf_freeze freeze;
    bool thawed;                /* freeze_epochs are over */
    bf_gradients gradients;
    bnff_optimizer *optimizer;
    bf_memory_need need;
    size_t memory_free;         /* when the need was checked */

    int64_t batches, steps;     /* of an epoch: loader batches, optimizer steps */
    bf_progress progress;
    bf_checkpoint_identity identity;
    int64_t saved_step;         /* of the newest checkpoint; -1: none */

    float *logits, *logit_gradients; /* batch x classes */
    int64_t profile_step;       /* of all steps, the one to record; 0: none */
    bnff_run *profiled;         /* its run, until its event is over */
    int skipped_size;           /* a batch size that cannot be trained on, warned of once; 0: none yet */

    bf_evaluation evaluation, best_evaluation; /* of the last validation; of the best epoch, if best_known */
    bool best_known;

    bf_epoch_record *history;
    int history_count, history_capacity;

    bool describing;            /* nothing is to be written */

    /* While running. */
    bool running;
    bf_event_fn on_event;
    void *user;
    bf_text warnings;           /* from before anybody listened, a line each */
    bf_text notes;              /* for the start text: what was loaded, frozen, resumed */
    double begin, elapsed_before; /* clock at the start of this process; seconds the run had taken before */
    double saved_at, logged_at; /* clock */
    double epoch_begin, epoch_wait;
    int64_t epoch_images;       /* in this process */
    double steps_s;             /* seconds and count of training steps in this process, for the estimates */
    int64_t steps_done;
    double val_s;               /* of the last validation */
    bool resumed;
};

/* Optimizer steps done in all. A step whose images were all damaged counts too: the schedule depends on the cursor alone. */
int64_t bf_trainer_total_step(const bnff_trainer *trainer);
/* Steps of the whole training, cut by max_steps. */
int64_t bf_trainer_last_step(const bnff_trainer *trainer);
double bf_trainer_elapsed(const bnff_trainer *trainer);

/* -- setup.c, shared with resume.c ----------------------------------------------------------------------------------- */

/* NULL without memory. */
bnff_trainer *bf_trainer_allocate(bnff_context *context);
/* Everything but the run folder. weights, card: what to start from and how it wants its images; NULL and zeros for nothing. */
bnff_status bf_trainer_prepare(bnff_trainer *trainer, const bnff_weights *weights, const bf_card *card, bnff_error *error);
/* args.json; machine: where the run began. */
bnff_status bf_trainer_write_args(bnff_trainer *trainer, const bf_machine *machine, bnff_error *error);

/* -- journal.c: events to the caller and to events.jsonl, rows to results.csv ---------------------------------------- */

/* Begin the logs of a new run. */
bnff_status bf_journal_begin(bnff_trainer *trainer, bnff_error *error);
/* Drop what lies beyond the checkpoint, and read the history back. */
bnff_status bf_journal_rewind(bnff_trainer *trainer, bnff_error *error);
/* An event with the fields that every event has. */
bnff_event bf_event(const bnff_trainer *trainer, bnff_event_kind kind);
/* Tell the caller and write it down. */
bnff_status bf_emit(bnff_trainer *trainer, const bnff_event *event, bnff_error *error);
/* A warning: kept until somebody listens. */
void bf_warn(bnff_trainer *trainer, const char *format, ...) BNFF_PRINTF(2, 3);
/* A row of results.csv, and the history's entry. */
bnff_status bf_journal_epoch(bnff_trainer *trainer, const bf_epoch_record *record, bnff_error *error);

/* -- summary.c: what people read before and after ------------------------------------------------------------------- */

char *bf_start_text(const bnff_trainer *trainer);
char *bf_end_text(const bnff_trainer *trainer);
/* confusion_matrix.csv, and report.html if wanted, of the best epoch. */
bnff_status bf_write_results(bnff_trainer *trainer, bnff_error *error);

#endif
