/* The ablation: results of all levels beside each other, and a projection to machines with less bandwidth. */
#ifndef CLI_BENCH_ABLATION_H
#define CLI_BENCH_ABLATION_H

#include "bench.h"

/* Levels and algorithms of one model at one batch. */
typedef struct ablation_group {
    bench_result results[BENCH_SIDES];
    int count;
} ablation_group;

typedef struct ablation {
    ablation_group *groups;
    int count;
    double peak, read, copy;  /* FLOP/s, bytes/s */
    double projected;         /* bytes/s of all cores together that times are projected to */
    int threads;
    char machine[160];
} ablation;

/* Seconds of a step where main memory gives `projected` bytes/s: what is not modelled as memory traffic at the measured copying bandwidth is
 * taken for computing, and the traffic's time is added to it,
 *     max(step - bytes/copy, 0) + bytes/projected. */
double ablation_project(const ablation *a, const bench_result *result);
/* Time of level `name` with the same algorithm over that of `result`; 0 where the group has no such level. projected: of the projections. */
double ablation_ratio(const ablation *a, const ablation_group *group, const bench_result *result, const char *name, bool projected);

/* The picture: a group of bars for every model and batch. An exit code. */
int ablation_draw(const ablation *a, const char *path);

#endif
