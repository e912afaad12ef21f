/* Seconds on a monotonic clock. */
#ifndef BF_CLOCK_H
#define BF_CLOCK_H
#include <time.h>
static inline double bf_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
#endif
