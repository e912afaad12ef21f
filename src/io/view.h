/* The bytes of a file, for reading. */
#ifndef BF_VIEW_H
#define BF_VIEW_H

#include <stdbool.h>
#include <stddef.h>
#include <bnff/status.h>

typedef struct bf_view {
    const unsigned char *bytes;
    size_t size;
    bool mapped;
} bf_view;

/* Files up to this size are read into memory, so that whatever happens to the file afterwards cannot reach us. Larger ones
 * are mapped: they need no memory of ours, but a program that cuts such a file short while it is open here ends the process
 * with SIGBUS, as with any mapped file. bnff itself never writes a file in place. */
#define BF_VIEW_READ_MAX ((size_t)256 << 20)

bnff_status bf_view_open(const char *path, bf_view *view, bnff_error *error);
void bf_view_close(bf_view *view);

#endif
