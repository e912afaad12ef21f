#define _GNU_SOURCE
#include "data/listing.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>

#include "base/error.h"
#include "base/memory.h"

bf_entry_kind bf_kind_of_name(const char *name)
{
    static const char *const images[] = {"jpg", "jpeg", "jpe", "jfif", "png", "ppm", "pgm", "pbm", "pnm", "bmp"};
    static const char *const unsupported[] = {"webp", "tif", "tiff", "gif", "heic", "heif", "avif", "jp2", "jxl", "dcm", "psd", "svg"};
    const char *dot = strrchr(name, '.');
    if (!dot) return BF_ENTRY_OTHER;
    for (size_t i = 0; i < sizeof images / sizeof images[0]; i++)
        if (!strcasecmp(dot + 1, images[i])) return BF_ENTRY_IMAGE;
    for (size_t i = 0; i < sizeof unsupported / sizeof unsupported[0]; i++)
        if (!strcasecmp(dot + 1, unsupported[i])) return BF_ENTRY_UNSUPPORTED;
    return BF_ENTRY_OTHER;
}

/* Hidden files, and what archivers and file servers leave beside the user's own. */
static bool is_ignored(const char *name) { return name[0] == '.' || !strcmp(name, "__MACOSX") || !strcmp(name, "@eaDir"); }

static bnff_status no_memory(const char *folder, bnff_error *error) { return bf_fail(error, BNFF_E_MEMORY, "%s: no memory to list it", folder); }

static bool is_folder_entry(DIR *dir, const struct dirent *entry)
{
    struct stat info;
    if (entry->d_type == DT_DIR) return true;
    if (entry->d_type != DT_LNK && entry->d_type != DT_UNKNOWN) return false;
    return fstatat(dirfd(dir), entry->d_name, &info, 0) == 0 && S_ISDIR(info.st_mode);
}

static int compare_entries(const void *a, const void *b, void *text)
{
    return strcmp((const char *)text + ((const struct bf_entry *)a)->name, (const char *)text + ((const struct bf_entry *)b)->name);
}

static bool add_entry(bf_listing *listing, DIR *dir, const struct dirent *entry)
{
    if (!bf_grow((void **)&listing->entries, &listing->capacity, listing->count, sizeof *listing->entries)) return false;
    const bf_entry_kind kind = is_folder_entry(dir, entry) ? BF_ENTRY_FOLDER : bf_kind_of_name(entry->d_name);
    listing->entries[listing->count++] = (struct bf_entry){listing->text.length, kind};
    bf_text_append(&listing->text, entry->d_name, strlen(entry->d_name) + 1);
    return !listing->text.failed;
}

bnff_status bf_listing_read(const char *folder, bf_listing *listing, bnff_error *error)
{
    *listing = (bf_listing){0};
    DIR *dir = opendir(folder);
    if (!dir) {
        const int cause = errno;
        bf_fail(error, BNFF_E_IO, "%s: cannot read this folder: %s", folder, strerror(cause));
        return bf_hint(error, BNFF_E_IO, cause == EACCES ? "give yourself the right to read it, or move it out of the data set" : "check the path");
    }
    bnff_status status = BNFF_OK;
    for (;;) {
        errno = 0;
        const struct dirent *entry = readdir(dir);
        if (!entry && errno) status = bf_fail(error, BNFF_E_IO, "%s: cannot read this folder: %s", folder, strerror(errno));
        if (!entry || status != BNFF_OK) break;
        if (!is_ignored(entry->d_name) && !add_entry(listing, dir, entry)) status = no_memory(folder, error);
    }
    closedir(dir);
    if (status == BNFF_OK && listing->count)
        qsort_r(listing->entries, (size_t)listing->count, sizeof *listing->entries, compare_entries, listing->text.data);
    if (status != BNFF_OK) bf_listing_free(listing);
    return status;
}

void bf_listing_free(bf_listing *listing)
{
    bf_free(listing->entries);
    bf_text_free(&listing->text);
    *listing = (bf_listing){0};
}

int bf_listing_count(const bf_listing *listing, bf_entry_kind kind)
{
    int count = 0;
    for (int i = 0; i < listing->count; i++) count += listing->entries[i].kind == kind;
    return count;
}

/* A folder of a walk; `parent` is the one above it, so that a link back to a folder above is seen. */
typedef struct place {
    char *path;
    int parent;
    dev_t device;
    ino_t inode;
} place;

typedef struct walk {
    place *places;
    int count, capacity;
} walk;

static bool leads_back(const walk *w, int parent, const struct stat *info)
{
    for (int i = parent; i >= 0; i = w->places[i].parent)
        if (w->places[i].inode == info->st_ino && w->places[i].device == info->st_dev) return true;
    return false;
}

static bnff_status add_place(walk *w, const char *path, int parent, bnff_error *error)
{
    struct stat info;
    if (stat(path, &info)) return bf_fail(error, BNFF_E_IO, "%s: cannot read this folder: %s", path, strerror(errno));
    if (leads_back(w, parent, &info)) return BNFF_OK;
    if (!bf_grow((void **)&w->places, &w->capacity, w->count, sizeof *w->places)) return no_memory(path, error);
    char *copy = bf_strdup(path);
    if (!copy) return no_memory(path, error);
    w->places[w->count++] = (place){copy, parent, info.st_dev, info.st_ino};
    return BNFF_OK;
}

static bnff_status add_folders_of(walk *w, int index, bnff_error *error)
{
    bf_listing listing;
    bf_text path = {0};
    bnff_status status = bf_listing_read(w->places[index].path, &listing, error);
    for (int i = 0; status == BNFF_OK && i < listing.count; i++) {
        if (listing.entries[i].kind != BF_ENTRY_FOLDER) continue;
        path.length = 0;
        bf_text_add(&path, "%s/%s", w->places[index].path, bf_listing_name(&listing, i));
        status = path.failed ? no_memory(w->places[index].path, error) : add_place(w, path.data, index, error);
    }
    bf_text_free(&path);
    bf_listing_free(&listing);
    return status;
}

static bnff_status report_files_of(const char *folder, bf_found *found, void *user, bnff_error *error)
{
    bf_listing listing;
    bf_text path = {0};
    bnff_status status = bf_listing_read(folder, &listing, error);
    for (int i = 0; status == BNFF_OK && i < listing.count; i++) {
        const bf_entry_kind kind = listing.entries[i].kind;
        if (kind != BF_ENTRY_IMAGE && kind != BF_ENTRY_UNSUPPORTED) continue;
        path.length = 0;
        bf_text_add(&path, "%s/%s", folder, bf_listing_name(&listing, i));
        status = path.failed ? no_memory(folder, error) : found(user, path.data, kind, error);
    }
    bf_text_free(&path);
    bf_listing_free(&listing);
    return status;
}

static int compare_places(const void *a, const void *b) { return strcmp(((const place *)a)->path, ((const place *)b)->path); }

bnff_status bf_walk(const char *folder, bf_found *found, void *user, bnff_error *error)
{
    walk w = {0};
    bnff_status status = add_place(&w, folder, -1, error);
    for (int i = 0; status == BNFF_OK && i < w.count; i++) status = add_folders_of(&w, i, error);
    if (status == BNFF_OK && w.count) qsort(w.places, (size_t)w.count, sizeof *w.places, compare_places);
    for (int i = 0; status == BNFF_OK && i < w.count; i++) status = report_files_of(w.places[i].path, found, user, error);
    for (int i = 0; i < w.count; i++) bf_free(w.places[i].path);
    bf_free(w.places);
    return status;
}
