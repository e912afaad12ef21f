/* Making allocations fail. A test that depends on `failalloc` has every call of bf_alloc and its kin go through here. */
#ifndef BNFF_TESTS_FAILALLOC_H
#define BNFF_TESTS_FAILALLOC_H

#include <bnff/status.h>

/* Something that allocates. It must release all it made, also when it succeeds. */
typedef bnff_status (*failing_fn)(void *arg, bnff_error *error);

/*
 * Run fn with the 1st, the 2nd, ... allocation failing, until it runs without meeting the failing one.
 * Each run that met it must return BNFF_E_MEMORY with a message and leave nothing allocated; the last one must return BNFF_OK.
 * @return how many allocations fn makes
 */
int fail_each_allocation(failing_fn fn, void *arg);

/* The k-th allocation from now on (1: the next one) fails, once; 0: none does. */
void fail_allocation(int k);
/* Blocks allocated and not freed since the program started. */
int live_allocations(void);

#endif
