#define _GNU_SOURCE
#include "base/files.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/memory.h"

static bnff_status io_error(bnff_error *error, const char *what, const char *path)
{
    const int cause = errno;
    bf_fail(error, BNFF_E_IO, "%s: cannot %s: %s", path, what, strerror(cause));
    if (cause == ENOSPC || cause == EDQUOT) bf_hint(error, BNFF_E_IO, "free some space and try again; files written before are untouched");
    return BNFF_E_IO;
}

bnff_status bf_file_read(const char *path, size_t limit, void **bytes, size_t *size, bnff_error *error)
{
    *bytes = NULL;
    *size = 0;
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* not to hang on a pipe */
    if (fd < 0) return io_error(error, "open", path);
    struct stat info;
    char *data = NULL;
    bnff_status status = BNFF_OK;
    if (fstat(fd, &info)) status = io_error(error, "examine", path);
    else if (!S_ISREG(info.st_mode)) status = bf_fail(error, BNFF_E_IO, "%s: not a regular file", path);
    else if ((unsigned long long)info.st_size > limit)
        status = bf_fail(error, BNFF_E_FORMAT, "%s: %lld bytes, at most %zu are read", path, (long long)info.st_size, limit);
    else if (!(data = bf_alloc((size_t)info.st_size + 1)))
        status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory for its %lld bytes", path, (long long)info.st_size);
    size_t done = 0;
    while (status == BNFF_OK && done < (size_t)info.st_size) {
        const ssize_t got = read(fd, data + done, (size_t)info.st_size - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) status = io_error(error, "read", path);
        else if (got == 0) break; /* it shrank meanwhile */
        else done += (size_t)got;
    }
    close(fd);
    if (status != BNFF_OK) return bf_free(data), status;
    data[done] = '\0';
    *bytes = data;
    *size = done;
    return BNFF_OK;
}

bnff_status bf_file_begin(bf_file_writer *writer, const char *path, bnff_error *error)
{
    *writer = (bf_file_writer){.fd = -1, .error = error};
    writer->path = bf_strdup(path);
    const size_t length = strlen(path) + sizeof ".tmpXXXXXX";
    writer->temporary = bf_alloc(length);
    if (!writer->path || !writer->temporary) {
        writer->status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory to write it", path);
    } else {
        snprintf(writer->temporary, length, "%s.tmpXXXXXX", path);
        writer->fd = mkostemp(writer->temporary, O_CLOEXEC);
        if (writer->fd < 0) writer->status = io_error(error, "create", path);
        else fchmod(writer->fd, 0644);
    }
    if (writer->status != BNFF_OK) {
        bf_free(writer->path);
        bf_free(writer->temporary);
        writer->path = writer->temporary = NULL;
    }
    return writer->status;
}

void bf_file_write(bf_file_writer *writer, const void *bytes, size_t size)
{
    const char *from = bytes;
    while (size && writer->status == BNFF_OK) {
        const ssize_t wrote = write(writer->fd, from, size > (1u << 30) ? 1u << 30 : size);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) writer->status = io_error(writer->error, "write", writer->path);
        else from += wrote, size -= (size_t)wrote;
    }
}

void bf_file_abort(bf_file_writer *writer)
{
    if (writer->fd >= 0) close(writer->fd);
    if (writer->temporary) unlink(writer->temporary);
    bf_free(writer->path);
    bf_free(writer->temporary);
    *writer = (bf_file_writer){.fd = -1};
}

/* Make the rename itself durable. Some file systems cannot sync folders: that is not an error. */
static void sync_folder(const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= sizeof folder) return;
    memcpy(folder, path, length);
    folder[length] = '\0';
    const int fd = open(slash ? (length ? folder : "/") : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return;
    fsync(fd);
    close(fd);
}

bnff_status bf_file_commit(bf_file_writer *writer)
{
    if (writer->status == BNFF_OK && fsync(writer->fd)) writer->status = io_error(writer->error, "sync", writer->path);
    if (writer->status == BNFF_OK && close(writer->fd)) writer->status = io_error(writer->error, "close", writer->path);
    if (writer->status == BNFF_OK) {
        writer->fd = -1;
        if (rename(writer->temporary, writer->path)) writer->status = io_error(writer->error, "rename into place", writer->path);
        else sync_folder(writer->path);
    }
    const bnff_status status = writer->status;
    if (status == BNFF_OK) writer->temporary[0] = '\0'; /* nothing left to remove */
    bf_file_abort(writer);
    return status;
}

bnff_status bf_file_replace(const char *path, const void *bytes, size_t size, bnff_error *error)
{
    bf_file_writer writer;
    BF_TRY(bf_file_begin(&writer, path, error));
    bf_file_write(&writer, bytes, size);
    return bf_file_commit(&writer);
}

bnff_status bf_make_folder(const char *path, bnff_error *error)
{
    char part[PATH_MAX];
    const size_t length = strlen(path);
    if (!length || length >= sizeof part) return bf_fail(error, BNFF_E_ARG, "folder name of %zu bytes", length);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0') continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) && errno != EEXIST && !bf_is_folder(part)) return io_error(error, "create folder", part);
    }
    return bf_is_folder(path) ? BNFF_OK : bf_fail(error, BNFF_E_IO, "%s: exists and is not a folder", path);
}

bool bf_is_folder(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISDIR(info.st_mode);
}

bool bf_is_file(const char *path)
{
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}
