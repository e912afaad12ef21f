/* One convolution as a network of its own, with all its tensors, ready to be run and timed. */
#ifndef CLI_BENCH_RIG_H
#define CLI_BENCH_RIG_H

#include "bench_check.h"

typedef struct bench_rig {
    bench_problem problem;
    bnff_graph *graph;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    bench_tensors t;
    bool want_dx; /* the first layer's input needs no gradient */
} bench_rig;

/* Of the convolution's own tasks, weights put in order included, without the copies to and from the caller's tensors; FLOPs nominal. */
typedef struct bench_rig_times { double forward_s, backward_s, forward_flops, backward_flops; } bench_rig_times;

/* The rig is to be closed after a failure too. */
bnff_status bench_rig_open(bnff_context *context, const bench_problem *problem, const char *algorithm, bench_rig *rig, bnff_error *error);
/* Forward, then data and weight gradient. */
bnff_status bench_rig_step(bench_rig *rig, bench_rig_times *times, bnff_error *error);
void bench_rig_close(bench_rig *rig);

#endif
