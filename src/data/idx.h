/* idx files of MNIST: big-endian header, then bytes; gzip is undone. */
#ifndef BF_IDX_H
#define BF_IDX_H

#include <bnff/status.h>
#include <stddef.h>
#include <stdint.h>

typedef struct bf_idx {
    int rank;         /* 1: labels, 3: images */
    int64_t size[3];  /* items, rows, columns */
    uint8_t *data;    /* free with bf_free */
} bf_idx;

/* Parse a file's bytes, gzip or not, that must have `rank` dimensions. */
bnff_status bf_idx_parse(const void *bytes, size_t size, const char *name, int rank, bf_idx *idx, bnff_error *error);
bnff_status bf_idx_read(const char *path, int rank, bf_idx *idx, bnff_error *error);

#endif
