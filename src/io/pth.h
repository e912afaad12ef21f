/* From the values of an unpickled checkpoint to named tensors; what both containers of torch.save share. */
#ifndef BF_PTH_H
#define BF_PTH_H

#include "io/pickle.h"
#include "io/weights.h"

typedef struct bf_pth bf_pth;
struct bf_pth {
    bnff_weights *weights;
    const char *path;
    bnff_error *error; /* not NULL */
    /* The bytes of a storage by its key. */
    bnff_status (*locate)(bf_pth *pth, bf_text_span key, const unsigned char **bytes, size_t *size);
    void *container;
    size_t copied;     /* bytes of tensors that had to be copied */
};

/* Find the state dict in `root` and append its tensors. */
bnff_status bf_pth_collect(bf_pth *pth, const bf_pickle_value *root);

#endif
