/* Building weight files byte by byte, and opening them from memory. */
#ifndef BNFF_TESTS_IO_BYTES_SUPPORT_H
#define BNFF_TESTS_IO_BYTES_SUPPORT_H

#include <bnff/weights.h>

#include "base/text.h"
#include "support.h"

/* Open these bytes as the file "FILE". The library sees an allocation of exactly that size. */
bnff_status open_bytes(const void *bytes, size_t size, bnff_weights **weights, bnff_error *error);
/* Opening them fails with this status and words in its message or hint. */
void check_refused(const void *bytes, size_t size, bnff_status status, const char *words);

/* Append integers, little-endian. */
void put(bf_text *text, uint64_t value, int bytes);

/* A .safetensors file: the length of `header`, `header`, `data_size` zero bytes. */
void put_safetensors(bf_text *text, const char *header, size_t data_size);

/* A zip archive. Call zip_entry for each, then zip_end. */
typedef struct zip_builder {
    bf_text file, directory;
    int count;
    uint16_t method, flags; /* of the entries to come: 0, 0 */
    bool wide;              /* write sizes and offsets in zip64 fields */
    bool no_checksum;       /* write 0 as torch does when told so */
} zip_builder;
void zip_entry(zip_builder *zip, const char *name, const void *bytes, size_t size);
void zip_end(zip_builder *zip);
void zip_free(zip_builder *zip);

/* -- Pickles, opcode by opcode -- */
void pickle_begin(bf_text *text);                    /* protocol 2 */
void pickle_text(bf_text *text, const char *string);
void pickle_int(bf_text *text, int64_t value);       /* LONG1 of 8 bytes */
void pickle_global(bf_text *text, const char *module, const char *name);
/* _rebuild_tensor_v2(storage(type, key, elements), offset, sizes, strides, False, OrderedDict()) */
void pickle_tensor(bf_text *text, const char *type, const char *key, int64_t elements, int64_t offset, int rank, const int64_t *sizes,
                   const int64_t *strides);
/* A .pth of torch >= 1.6 whose data.pkl is `pickle` and whose storage "0" has these bytes. */
void put_pth(zip_builder *zip, const bf_text *pickle, const void *storage, size_t size);
/* The same before torch 1.6; `pickle` is its object, the storage's elements are `item` bytes; no elements: no storage. */
void put_legacy(bf_text *file, const bf_text *pickle, const void *storage, size_t elements, size_t item);

#endif
