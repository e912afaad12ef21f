/* A recorded step: as trace events for Perfetto, and as a table. */
#ifndef CLI_PROFILE_H
#define CLI_PROFILE_H

#include "cli.h"

/* A line of the table for one task, or for several together; peak in FLOP/s. */
void profile_print_head(FILE *out);
void profile_print_line(FILE *out, const char *name, const char *kind, double seconds, double flops, double bytes, double peak);
/* A line for each kind of task and one for all; seconds[i] belongs to tasks[i]. */
void profile_print_kinds(FILE *out, const bnff_task_profile *tasks, const double *seconds, int count, double peak);
/* The kinds and the longest tasks of the step that was recorded in a run. */
void profile_print(FILE *out, const bnff_run *run, double peak);
/* The step as Trace Event JSON: a track of tasks, and a track for each thread with its cells. An exit code. */
int profile_write(const bnff_run *run, const char *path);

#endif
