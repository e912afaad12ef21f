/* Which tensor of a file belongs to which parameter of a graph. */
#ifndef BF_STATE_MATCH_H
#define BF_STATE_MATCH_H

#include <bnff/weights.h>

typedef enum bf_fit {
    BF_FIT_MISSING,
    BF_FIT_EXACT,
    BF_FIT_HEAD, /* the classifier, differing in its number of classes only */
    BF_FIT_STEM, /* the first convolution, differing in its image channels only */
    BF_FIT_SHAPE /* of another shape */
} bf_fit;

typedef struct bf_match {
    const bnff_graph *graph;
    const bnff_weights *weights;
    int params, entries;
    int *entry;   /* by parameter: the tensor in the file, or -1 */
    int *batches; /* by parameter index of a running mean: its num_batches_tracked in the file, or -1 */
    bf_fit *fit;  /* by parameter */
    bool *taken;  /* by tensor of the file: it belongs to something */
    int missing, unexpected, misshaped;
} bf_match;

bnff_status bf_match_make(bf_match *match, const bnff_graph *graph, const bnff_weights *weights, const char *classifier, bnff_error *error);
void bf_match_free(bf_match *match);

/* Fill *error and detail[size] with what does not match; returns BNFF_E_SHAPE. */
bnff_status bf_match_report(const bf_match *match, char *detail, size_t size, bnff_error *error);

/* "norm.running_mean" -> "norm.num_batches_tracked", to be freed; NULL: no memory. */
char *bf_batches_name(const char *running);

#endif
