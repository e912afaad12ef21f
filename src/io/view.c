#include "io/view.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"

static bnff_status map_file(const char *path, bf_view *view, bnff_error *error)
{
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return bf_fail(error, BNFF_E_IO, "%s: cannot open: %s", path, strerror(errno));
    struct stat info;
    void *memory = MAP_FAILED;
    if (fstat(fd, &info) == 0 && info.st_size > 0 && (uint64_t)info.st_size <= SIZE_MAX)
        memory = mmap(NULL, (size_t)info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    const int cause = errno;
    close(fd);
    if (memory == MAP_FAILED) return bf_fail(error, BNFF_E_IO, "%s: cannot map: %s", path, strerror(cause));
    *view = (bf_view){memory, (size_t)info.st_size, true};
    return BNFF_OK;
}

bnff_status bf_view_open(const char *path, bf_view *view, bnff_error *error)
{
    *view = (bf_view){0};
    struct stat info;
    if (stat(path, &info) == 0 && S_ISREG(info.st_mode) && (uint64_t)info.st_size > BF_VIEW_READ_MAX) return map_file(path, view, error);
    void *bytes;
    BF_TRY(bf_file_read(path, BF_VIEW_READ_MAX, &bytes, &view->size, error));
    view->bytes = bytes;
    return BNFF_OK;
}

void bf_view_close(bf_view *view)
{
    if (view->mapped) munmap((void *)view->bytes, view->size);
    else bf_free((void *)view->bytes);
    *view = (bf_view){0};
}
