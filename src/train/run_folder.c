#include "train/run_folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"

char *bf_run_path(const char *folder, const char *file)
{
    bf_text text = {0};
    bf_text_add(&text, "%s/%s", folder, file);
    return bf_text_take(&text);
}

static bnff_status unwritable(const char *path, const char *what, bnff_error *error)
{
    bf_fail(error, BNFF_E_IO, "%s: cannot %s: %s", path, what, strerror(errno));
    return bf_hint(error, BNFF_E_IO, "--output-dir names another place for runs");
}

/* Make the first free one of name, name2, name3, ...; mkdir itself decides, so that two runs never share a folder. */
static bnff_status first_free(const char *output_dir, const char *name, char **folder, bnff_error *error)
{
    for (int number = 1; number < INT_MAX; number++) {
        bf_text text = {0};
        bf_text_add(&text, "%s/%s", output_dir, name);
        if (number > 1) bf_text_add(&text, "%d", number);
        char *path = bf_text_take(&text);
        if (!path) return bf_fail(error, BNFF_E_MEMORY, "no memory for the name of the run folder");
        if (!mkdir(path, 0777)) return *folder = path, BNFF_OK;
        const bnff_status status = errno == EEXIST ? BNFF_OK : unwritable(path, "create the run folder", error);
        bf_free(path);
        if (status != BNFF_OK) return status;
    }
    return bf_fail(error, BNFF_E_IO, "%s/%s: every number is taken", output_dir, name);
}

bnff_status bf_run_folder_create(const char *output_dir, const char *name, bool exist_ok, char **folder, bnff_error *error)
{
    *folder = NULL;
    const bnff_status parent = bf_make_folder(output_dir, error);
    if (parent != BNFF_OK) return bf_hint(error, parent, "--output-dir names another place for runs");
    if (exist_ok) {
        if (!(*folder = bf_run_path(output_dir, name))) return bf_fail(error, BNFF_E_MEMORY, "no memory for the name of the run folder");
    } else {
        BF_TRY(first_free(output_dir, name, folder, error));
    }
    char *weights = bf_run_path(*folder, "weights");
    const bnff_status status = weights ? bf_make_folder(weights, error) : bf_fail(error, BNFF_E_MEMORY, "no memory for the name of the run folder");
    bf_free(weights);
    if (status != BNFF_OK) bf_free(*folder), *folder = NULL;
    return status;
}

/* The folder itself is locked: no file stays behind, and the kernel unlocks it for a process that is killed. */
bnff_status bf_run_folder_lock(const char *folder, int *lock, bnff_error *error)
{
    *lock = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (*lock < 0 || !flock(*lock, LOCK_EX | LOCK_NB)) return BNFF_OK;
    const bool taken = errno == EWOULDBLOCK;
    close(*lock);
    *lock = -1;
    if (!taken) return BNFF_OK;
    bf_fail(error, BNFF_E_STATE, "%s: another training is running in this folder", folder);
    return bf_hint(error, BNFF_E_STATE, "stop that one first, or train in a folder of its own: --name NAME without --exist-ok");
}

void bf_run_folder_unlock(int lock)
{
    if (lock >= 0) close(lock);
}

/* bf_file_begin's names: NAME.tmp and six characters. */
static bool is_temporary(const char *name)
{
    const char *mark = strstr(name, ".tmp");
    return mark && mark > name && strlen(mark) == sizeof ".tmpXXXXXX" - 1;
}

static void sweep(const char *folder)
{
    DIR *listing = opendir(folder);
    if (!listing) return;
    for (struct dirent *entry; (entry = readdir(listing));)
        if (is_temporary(entry->d_name)) unlinkat(dirfd(listing), entry->d_name, 0);
    closedir(listing);
}

void bf_run_folder_sweep(const char *folder)
{
    sweep(folder);
    char *weights = bf_run_path(folder, "weights");
    if (weights) sweep(weights);
    bf_free(weights);
}

/* -- Logs ------------------------------------------------------------------------------------------------------------ */

static bnff_status append(const char *path, const char *lines, bnff_error *error)
{
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return unwritable(path, "open", error);
    bnff_status status = BNFF_OK;
    for (size_t left = strlen(lines); left && status == BNFF_OK;) {
        const ssize_t wrote = write(fd, lines, left);
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) {
            bf_fail(error, BNFF_E_IO, "%s: cannot write: %s", path, strerror(errno));
            status = bf_hint(error, BNFF_E_IO, "free some space and resume the run; its checkpoint is untouched");
        } else {
            lines += wrote, left -= (size_t)wrote;
        }
    }
    if (close(fd) && status == BNFF_OK) status = unwritable(path, "close", error);
    return status;
}

bnff_status bf_log_append(const char *folder, const char *file, const char *lines, bnff_error *error)
{
    char *path = bf_run_path(folder, file);
    const bnff_status status = path ? append(path, lines, error) : bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    bf_free(path);
    return status;
}

static bnff_status filter(const char *path, char *text, bool (*keep)(void *user, const char *line), void *user, bnff_error *error)
{
    bf_text kept = {0};
    for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) {
        *end = '\0';
        if (keep(user, line)) bf_text_add(&kept, "%s\n", line);
    }
    const bnff_status status = kept.failed ? bf_fail(error, BNFF_E_MEMORY, "%s: no memory to rewrite it", path)
                                           : bf_file_replace(path, kept.data ? kept.data : "", kept.length, error);
    bf_text_free(&kept);
    return status;
}

bnff_status bf_log_filter(const char *folder, const char *file, bool (*keep)(void *user, const char *line), void *user, bnff_error *error)
{
    char *path = bf_run_path(folder, file);
    if (!path) return bf_fail(error, BNFF_E_MEMORY, "no memory for a file name");
    void *text = NULL;
    size_t size;
    bnff_status status = BNFF_OK;
    if (bf_is_file(path)) {
        status = bf_file_read(path, (size_t)1 << 30, &text, &size, error);
        if (status == BNFF_OK) status = filter(path, text, keep, user, error);
    }
    bf_free(text);
    bf_free(path);
    return status;
}
