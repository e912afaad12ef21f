/* Building programs: the steps that compute a value's piece from what is stored, and what is done with a result. */
#ifndef BF_PROGRAM_BUILD_H
#define BF_PROGRAM_BUILD_H

#include "runtime/plan.h"

/* While one program is built: which values are at hand in temporaries or in the tile. */
typedef struct bf_builder {
    const bnff_plan *plan;
    const int *writer;    /* per value: the node that writes it, or -1 */
    bf_program *program;
    struct bf_known { int value; bf_operand at; } *known;
    int known_count, known_capacity;
    bool failed;          /* out of memory */
} bf_builder;

extern const bf_operand bf_build_nothing;
bf_step bf_build_new(bf_step_kind kind, bf_operand dst);
/* Give back what building took. @return true if nothing failed. */
bool bf_build_end(bf_builder *b);
/* Append a step, which from then on belongs to the program. */
void bf_build_step(bf_builder *b, bf_step step);
/* From here on `value` is at `at`. */
void bf_build_known(bf_builder *b, int value, bf_operand at);
/* An operand that holds `value`, computing it first where it is virtual. */
bf_operand bf_build_load(bf_builder *b, int value);
/* The node that computes `value` as it is loaded, or NULL if it is stored or at hand. */
const bf_node *bf_build_prologue(const bf_builder *b, int value);
/* Steps that compute an elementwise node into dst; a reduction of a BN into its sums. */
void bf_build_node(bf_builder *b, const bf_node *node, bf_operand dst);
void bf_build_sums(bf_builder *b, const bf_node *node);

#endif
