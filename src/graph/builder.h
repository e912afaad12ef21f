/* What the calls that add operators share (graph.c): checks that record the first failure, new nodes and parameters. */
#ifndef BF_BUILDER_H
#define BF_BUILDER_H

#include "graph/ir.h"

enum { BF_MAX_CHANNELS = 65536, BF_MAX_WINDOW = 4096, BF_MAX_SIDE = 1 << 15 };

/* Record the first failure. */
#define BF_REFUSE(g, code, ...) ((g)->error.status == BNFF_OK ? (void)bf_fail(&(g)->error, code, __VA_ARGS__) : (void)0, BNFF_NONE)

/* No earlier failure, and the operands exist? */
bool bf_usable(bnff_graph *g, const bnff_value *x, int count);
bool bf_new_name(bnff_graph *g, const char *name, const char *what);
bool bf_in_range(bnff_graph *g, const char *name, const char *what, int value, int low, int high);
/* A node with one tensor output; bf_finish infers its shape. */
bf_node *bf_add_node(bnff_graph *g, bf_op op, const char *name, const bnff_value *in, int count);
bnff_value bf_finish(bnff_graph *g, const bf_node *node);
int bf_new_param(bnff_graph *g, const char *owner, const char *suffix, bnff_param_kind kind, int rank, int64_t a, int64_t b, int64_t c, int64_t d);

/* One axis pair of an option: 0 takes the default, a missing second value repeats the first. */
static inline int bf_first_of(const int pair[2], int otherwise) { return pair[0] ? pair[0] : otherwise; }
static inline int bf_second_of(const int pair[2], int otherwise) { return pair[1] ? pair[1] : bf_first_of(pair, otherwise); }

#endif
