/* The machine a plan is made for: passes read this and nothing else, so a plan for another machine can be made anywhere. */
#ifndef BF_TARGET_H
#define BF_TARGET_H

#include <stdbool.h>
#include <stddef.h>

typedef struct bf_target {
    const char *isa;   /* name of the kernel table */
    int vector;        /* floats in a vector */
    int cells;         /* parts the work is divided into */
    size_t l1, l2;     /* data cache of a core, bytes */
    size_t l3;         /* share of the last level cache of all cells, bytes */
} bf_target;

/* Cache sizes of this machine (32 KiB, 1 MiB, 16 MiB where it does not tell); isa, vector and cells are left zero. */
bf_target bf_target_detect(void);

/* Take the sizes of the caches from text, "L1,L2,L3" in bytes or with K or M, each level larger than the one before it. False if it is
 * not that. */
bool bf_target_set_caches(bf_target *target, const char *text);

/* Name of the best instruction set of this CPU: "avx512", "avx2", "neon" or "plain". */
const char *bf_cpu_isa(void);
/* Model name from /proc/cpuinfo into text. */
void bf_cpu_name(char *text, size_t size);

#endif
