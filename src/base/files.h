/* Reading whole files within a limit, and replacing files so that a crash leaves the old one or the new one. */
#ifndef BF_FILES_H
#define BF_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <bnff/status.h>

/* Read a regular file of at most `limit` bytes into *bytes (free with bf_free; a NUL is added after the last byte). */
bnff_status bf_file_read(const char *path, size_t limit, void **bytes, size_t *size, bnff_error *error);

/* A file being written beside its destination. */
typedef struct bf_file_writer {
    int fd;
    char *path, *temporary;
    bnff_error *error;
    bnff_status status; /* first failure; later writes do nothing */
} bf_file_writer;
/* Open `path`.tmpXXXX in the same folder. */
bnff_status bf_file_begin(bf_file_writer *writer, const char *path, bnff_error *error);
void bf_file_write(bf_file_writer *writer, const void *bytes, size_t size);
/* fsync, rename over `path`, fsync the folder. On failure the temporary is removed and `path` is as it was. */
bnff_status bf_file_commit(bf_file_writer *writer);
void bf_file_abort(bf_file_writer *writer);
/* All of it at once. */
bnff_status bf_file_replace(const char *path, const void *bytes, size_t size, bnff_error *error);

/* Make a folder and its parents; one that exists is fine. */
bnff_status bf_make_folder(const char *path, bnff_error *error);
bool bf_is_folder(const char *path);
bool bf_is_file(const char *path);

#endif
