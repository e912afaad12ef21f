/* Checkpoints. weights/last.state.safetensors holds all that a training needs to go on (parameters, running statistics,
 * moments, cursor, running sums) in one file, so that there is no pair of files to disagree after a crash; it is written last.
 * weights/last.safetensors and best.safetensors hold the network for its users. Each is the old one or the whole new one. */
#ifndef BF_TRAIN_CHECKPOINT_H
#define BF_TRAIN_CHECKPOINT_H

#include <bnff/optim.h>

#include "train/card.h"
#include "train/metrics.h"
#include "train/train_network.h"

/* How far a training is. Every random number is a function of (seed, epoch, batch, position), so the seed in args.json and
 * this cursor are the whole state of the generators. */
typedef struct bf_progress {
    int64_t epoch;               /* epochs that are done, validation included */
    int64_t batch;               /* batches of the next one that are done */
    bf_metrics running;          /* over those batches */
    int64_t best_epoch;          /* from 1; 0: none yet */
    double best_acc1, best_loss; /* of its validation */
} bf_progress;

/* What must be the same when a training goes on. */
typedef struct bf_checkpoint_identity {
    uint64_t args;               /* bf_args_identity */
    int64_t train_images, val_images;
    int64_t batches;             /* of an epoch */
} bf_checkpoint_identity;

/* Write the network to folder/weights/`file`. */
bnff_status bf_checkpoint_save_network(const char *folder, const char *file, const bf_network *network, const bf_card *card, bnff_error *error);
/* Write last.safetensors, then last.state.safetensors. */
bnff_status bf_checkpoint_save(const char *folder, const bf_network *network, const bnff_optimizer *optimizer, const bf_card *card,
                               const bf_progress *progress, const bf_checkpoint_identity *identity, bnff_error *error);

/* An opened last.state.safetensors. */
typedef struct bf_checkpoint {
    bnff_weights *weights; /* NULL: the folder has none, or one of another training */
    char *path;
    bf_progress progress;
    bf_checkpoint_identity identity;
} bf_checkpoint;
/* Having none is BNFF_OK with weights NULL. */
bnff_status bf_checkpoint_open(const char *folder, bf_checkpoint *checkpoint, bnff_error *error);
void bf_checkpoint_close(bf_checkpoint *checkpoint);
/* Put parameters, statistics and moments where they were. */
bnff_status bf_checkpoint_restore(const bf_checkpoint *checkpoint, bf_network *network, bnff_optimizer *optimizer, bnff_error *error);

/* Load a network's tensors, leaving out those of an optimizer. classifier, report: as bnff_state_load. */
bnff_status bf_network_load(bf_network *network, const bnff_weights *weights, const char *classifier, bnff_load_report *report, bnff_error *error);

#endif
