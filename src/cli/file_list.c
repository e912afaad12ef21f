#define _GNU_SOURCE
#include "file_list.h"

#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

enum { STDIN_MOST = 1 << 30 };

static void append(file_list *list, const char *name)
{
    if (list->count == list->capacity) {
        const int larger = list->capacity ? 2 * list->capacity : 64;
        char **names = cli_alloc((size_t)larger, sizeof *names);
        if (list->count) memcpy(names, list->names, (size_t)list->count * sizeof *names);
        free(list->names);
        list->names = names;
        list->capacity = larger;
    }
    list->names[list->count++] = cli_format("%s", name);
}

/* Files of other kinds in a folder are passed over; one that is named itself is not. */
static bool is_image_name(const char *name)
{
    static const char *const endings[] = {".jpg", ".jpeg", ".png", ".ppm", ".pgm", ".pnm", ".bmp"};
    const char *dot = strrchr(name, '.');
    for (size_t i = 0; dot && i < sizeof endings / sizeof *endings; i++)
        if (!strcasecmp(dot, endings[i])) return true;
    return false;
}

static int by_name(const FTSENT **a, const FTSENT **b) { return strcmp((*a)->fts_name, (*b)->fts_name); }

static bool add_folder(file_list *list, const char *path)
{
    char *root = cli_format("%s", path);
    char *const roots[] = {root, NULL};
    const int before = list->count;
    bool good = true;
    FTS *walk = fts_open(roots, FTS_LOGICAL | FTS_NOCHDIR, by_name); /* follows links, and notices cycles */
    for (FTSENT *entry; walk && (entry = fts_read(walk));) {
        const bool hidden = entry->fts_level > 0 && entry->fts_name[0] == '.';
        if (entry->fts_info == FTS_D && hidden) fts_set(walk, entry, FTS_SKIP);
        else if (entry->fts_info == FTS_F && !hidden && is_image_name(entry->fts_name)) append(list, entry->fts_path);
        else if (entry->fts_info == FTS_DNR || entry->fts_info == FTS_ERR) {
            cli_fail_text(NULL, "%s: cannot read: %s", entry->fts_path, strerror(entry->fts_errno));
            good = false;
        }
    }
    if (walk) fts_close(walk);
    free(root);
    if (good && list->count == before) {
        cli_fail_text("jpg, jpeg, png, ppm, pgm and bmp are looked for", "%s: no image in this folder", path);
        good = false;
    }
    return good;
}

/* -- Standard input ------------------------------------------------------------------------------------------------ */

static char *read_stdin(size_t *size)
{
    size_t capacity = 1 << 16;
    char *bytes = cli_alloc(capacity, 1);
    *size = 0;
    for (size_t got; (got = fread(bytes + *size, 1, capacity - *size - 1, stdin)) > 0;) {
        *size += got;
        if (*size + 1 < capacity || capacity >= STDIN_MOST) continue;
        char *larger = cli_alloc(2 * capacity, 1);
        memcpy(larger, bytes, *size);
        free(bytes);
        bytes = larger;
        capacity *= 2;
    }
    bytes[*size] = '\0';
    return bytes;
}

/* Bytes that are neither names nor an image that is known count as one: the decoder says what they are. */
static bool looks_like_image(const char *b, size_t size)
{
    struct stat info;
    if (memchr(b, '\0', size) && stat(b, &info)) return true; /* names that end in NULs begin with one of a file */
    if (size < 16) return false;
    if (!memcmp(b, "\xFF\xD8\xFF", 3) || !memcmp(b, "\x89PNG", 4)) return true;
    if (!memcmp(b, "BM", 2) && !memcmp(b + 6, "\0\0\0\0", 4)) return true;
    return b[0] == 'P' && b[1] >= '1' && b[1] <= '6' && strchr(" \t\r\n", b[2]);
}

static bool add_stdin(file_list *list)
{
    size_t size;
    char *bytes = read_stdin(&size);
    if (looks_like_image(bytes, size) && !list->piped) {
        list->piped = bytes;
        list->piped_size = size;
        append(list, "-");
        return true;
    }
    const char separator = memchr(bytes, '\0', size) ? '\0' : '\n';
    bool good = size > 0;
    if (!good) cli_fail_text("pipe an image, or names of files, one a line", "standard input is empty");
    for (size_t at = 0; at < size;) {
        char *end = memchr(bytes + at, separator, size - at);
        const size_t next = end ? (size_t)(end - bytes) + 1 : size;
        if (end) *end = '\0';
        if (bytes[at] && !file_list_add(list, bytes + at)) good = false;
        at = next;
    }
    free(bytes);
    return good;
}

bool file_list_add(file_list *list, const char *path)
{
    struct stat info;
    if (!strcmp(path, "-")) return add_stdin(list);
    if (stat(path, &info)) return cli_fail_text(NULL, "%s: cannot open: %s", path, strerror(errno)), false;
    if (S_ISDIR(info.st_mode)) return add_folder(list, path);
    append(list, path);
    return true;
}

void file_list_free(file_list *list)
{
    for (int i = 0; i < list->count; i++) free(list->names[i]);
    free(list->names);
    free(list->piped);
    *list = (file_list){0};
}
