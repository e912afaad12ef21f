/* Which nodes touch which storage: an index over a graph whose nodes and views stay as they are. */
#ifndef BF_USES_H
#define BF_USES_H

#include "graph/ir.h"

typedef struct bf_use {
    int node;
    bool writes;
} bf_use;

typedef struct bf_uses {
    int *first_root, *roots; /* per value: the values without parts that it is made of */
    int *first_use;          /* per value: ... */
    bf_use *uses;            /* ... the nodes that touch it, in order; of values with parts: none, see their roots */
} bf_uses;

/* @return false: no memory. bf_uses_free either way. */
bool bf_uses_make(bf_uses *u, const bf_graph *g);
void bf_uses_free(bf_uses *u);
/* Uses of `root` by nodes after node i: [the result, uses + first_use[root + 1]). */
const bf_use *bf_uses_after(const bf_uses *u, int root, int i);

/* for each root r of value v */
#define BF_FOR_ROOTS(u, v, r) for (const int *r = (u)->roots + (u)->first_root[v]; r < (u)->roots + (u)->first_root[(v) + 1]; r++)

#endif
