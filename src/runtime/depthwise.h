/* Depthwise convolution: a filter for each channel, so memory bounds it and not arithmetic. */
#ifndef BF_DEPTHWISE_H
#define BF_DEPTHWISE_H

#include "runtime/plan.h"

/* Fill task->depthwise from the node; choose the grid. */
bnff_status bf_depthwise_setup(bnff_plan *plan, bf_task *task, bnff_error *error);
void bf_depthwise_divide(const bnff_plan *plan, bf_task *task);
void bf_depthwise_forward(bnff_run *run, const bf_task *task);
void bf_depthwise_backward(bnff_run *run, const bf_task *task);

#endif
