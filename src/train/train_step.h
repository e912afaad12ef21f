/* One optimizer step of a trainer: micro-batches forward and backward, clipping, update. */
#ifndef BF_TRAIN_STEP_H
#define BF_TRAIN_STEP_H

#include "train/trainer.h"

/* From the loader's next batches; moves the cursor on and adds to the running metrics. *lr: the learning rate used.
 * @return BNFF_E_DIVERGED: the loss or a gradient is not finite; parameters are as they were before the step. */
bnff_status bf_train_step(bnff_trainer *trainer, double *lr, bnff_error *error);

#endif
