/* Pooling: windows that slide over one channel block at a time. */
#ifndef BF_WINDOWS_H
#define BF_WINDOWS_H

#include "runtime/plan.h"

/* Fill task->windows and the grid from the node. */
bnff_status bf_windows_setup(bnff_plan *plan, bf_task *task, bnff_error *error);
void bf_windows_divide(const bnff_plan *plan, bf_task *task);
/* Forward or backward, as the task is. */
void bf_windows_run(bnff_run *run, const bf_task *task);

#endif
