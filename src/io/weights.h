/* The inside of a bnff_weights, and what the file formats use to fill one. */
#ifndef BF_WEIGHTS_H
#define BF_WEIGHTS_H

#include <bnff/weights.h>

#include "io/view.h"

typedef struct bf_weights_item {
    bnff_weights_entry entry; /* its name is owned */
    void *owned;              /* the data, when it does not lie in the file's bytes */
} bf_weights_item;

typedef struct bf_pair {
    char *key, *value;
} bf_pair;

struct bnff_weights {
    char *path;             /* the file it was read from, or NULL */
    bf_view view;           /* its bytes */
    bf_weights_item *items; /* in the order of the file or of the calls */
    int count, capacity;
    int *by_name;           /* indices of items, sorted by name */
    int by_name_capacity;
    bf_pair *pairs;         /* metadata, sorted by key */
    int pair_count, pair_capacity;
};

/* -- dtypes (dtypes.c) -- */
size_t bf_dtype_size(bnff_dtype dtype);
const char *bf_dtype_name(bnff_dtype dtype); /* "F32", as .safetensors writes it */
/* false if no dtype has this .safetensors name. */
bool bf_dtype_find(const char *name, bnff_dtype *dtype);
#define BF_DTYPES_READ "F64 F32 F16 BF16 I64 I32 U8 BOOL"
/* elements and bytes of a shape; false if a dimension is negative or a product overflows. */
bool bf_shape_bytes(bnff_dtype dtype, int rank, const int64_t *shape, int64_t *elements, size_t *bytes);

/* -- filling while a file is read -- */
/* Append an entry whose name is copied. Takes `owned` (may be NULL), also on failure. Names may repeat until bf_weights_finish. */
bnff_status bf_weights_append(bnff_weights *weights, const bnff_weights_entry *entry, void *owned, bnff_error *error);
/* All entries are there: strip the prefixes of wrapped modules, rename DenseNet's old names, refuse names that occur twice. */
bnff_status bf_weights_finish(bnff_weights *weights, bnff_error *error);

/* What bnff_weights_open does once it has the bytes. Takes view, also on failure; path is for messages. */
bnff_status bf_weights_read(const char *path, bf_view view, bnff_weights **weights, bnff_error *error);

/* A name that is not UTF-8 could not be written as JSON and read back. */
bool bf_is_utf8(const char *text);

/* -- formats: fill `weights` from weights->view; messages begin with weights->path -- */
bnff_status bf_safetensors_read(bnff_weights *weights, bnff_error *error);
bnff_status bf_pth_zip_read(bnff_weights *weights, bnff_error *error);
bnff_status bf_pth_legacy_read(bnff_weights *weights, bnff_error *error);

#endif
