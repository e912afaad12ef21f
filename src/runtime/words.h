/* Nodes, programs and batch normalizations in words, for people who read plans. */
#ifndef BF_WORDS_H
#define BF_WORDS_H

#include "base/text.h"
#include "runtime/plan.h"

/* The operator and the layer, "conv_bwd features.conv0"; of a node without name, "maxpool after features.norm0". */
void bf_label_node(const bf_graph *g, int node, bf_text *text);
/* "relu"; NULL for the identity. */
const char *bf_act_word(const bf_act *act);
/* What a program does, "normalise + relu"; nothing for an empty one. Stores and loads of the results themselves are left out. */
void bf_program_words(const bf_program *program, bf_text *text);
/* What a task computes as it loads, and as it stores. */
void bf_task_loads(const bf_task *task, bf_text *text);
void bf_task_stores(const bf_task *task, bf_text *text);
/* The pieces of every batch normalization, forward and backward, and where each runs or why it needs a sweep of its own. */
void bf_describe_norms(const bnff_plan *plan, bool json, bf_text *text);

#endif
