/* The directory of a zip archive whose entries are stored without compression, as torch.save writes them. */
#ifndef BF_ZIP_H
#define BF_ZIP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bnff/status.h>

#include "io/view.h"

typedef struct bf_zip_entry {
    const char *name; /* in the archive's bytes, not terminated */
    size_t name_length;
    const unsigned char *data;
    size_t size;
    uint32_t crc;
    bool stored;      /* as it is: neither compressed nor encrypted */
    bool checked;     /* data was compared with crc */
} bf_zip_entry;

typedef struct bf_zip {
    const char *path;      /* for messages */
    bf_zip_entry *entries; /* sorted by name */
    int count;
} bf_zip;

/* Read the directory (also zip64). Entries point into view, which must stay open. */
bnff_status bf_zip_open(bf_zip *zip, const char *path, const bf_view *view, bnff_error *error);
void bf_zip_close(bf_zip *zip);
/* NULL if there is none. */
bf_zip_entry *bf_zip_find(const bf_zip *zip, const char *name, size_t name_length);
/* Before an entry is used: refuse one that is compressed, compare its bytes with its checksum, once (0: the writer
 * computed none). */
bnff_status bf_zip_check(const bf_zip *zip, bf_zip_entry *entry, bnff_error *error);

#endif
