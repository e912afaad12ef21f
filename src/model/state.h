/* The inside of a bnff_state: one block, parameter after parameter in graph order.
 *
 *     block   | param 0 | pad | param 1 | pad | ...      float32, each start 64-byte aligned, padding always 0
 *     batches one int64 a parameter index; only those of running means are used
 */
#ifndef BF_STATE_H
#define BF_STATE_H

#include <bnff/model.h>

struct bnff_state {
    const bnff_graph *graph;
    int count;        /* parameters and buffers */
    float **params;   /* by parameter index, into block */
    int64_t *batches; /* num_batches_tracked by parameter index of running_mean */
    float *block;
    size_t bytes;     /* of block */
};

#endif
