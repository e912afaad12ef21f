/* Running one task. */
#ifndef BF_TASKS_H
#define BF_TASKS_H

#include "runtime/plan.h"

void bf_task_run(bnff_run *run, const bf_task *task);
const char *bf_task_kind_text(bf_task_kind kind);

/* Set up what a task needs besides its programs, and divide its work (the kinds' own files do). */
bnff_status bf_task_setup(bnff_plan *plan, bf_task *task, bnff_error *error);
void bf_task_free(bf_task *task);

/* batchnorm.c: the numbers between sums and their use. */
void bf_stats_mean(bnff_run *run, const bf_task *task);
void bf_bn_finalize(bnff_run *run, const bf_task *task);
void bf_bn_const(bnff_run *run, const bf_task *task);
void bf_bn_grad_finalize(bnff_run *run, const bf_task *task);
void bf_bn_collect(bnff_run *run, const bf_task *task);
/* transfer.c: the caller's tensors in and out. */
void bf_import(bnff_run *run, const bf_task *task);
void bf_export(bnff_run *run, const bf_task *task);
/* resize.c, shuffle.c: pixels and channels that move. */
bnff_status bf_resize_setup(bnff_plan *plan, bf_task *task, bnff_error *error);
void bf_resize_forward(bnff_run *run, const bf_task *task);
void bf_resize_backward(bnff_run *run, const bf_task *task);
void bf_shuffle(bnff_run *run, const bf_task *task);
void bf_shuffle_divide(const bnff_plan *plan, bf_task *task);
/* sweep.c: elementwise work and reductions as tasks of their own. */
void bf_sweep(bnff_run *run, const bf_task *task);
void bf_sweep_divide(const bnff_plan *plan, bf_task *task);
void bf_gate_reduce(bnff_run *run, const bf_task *task);

#endif
