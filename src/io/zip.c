#include "io/zip.h"

#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/bytes.h"

/* Sizes of the fixed parts of records (APPNOTE 4.3) and their signatures. */
enum { LOCAL = 30, CENTRAL = 46, END = 22, END64 = 56, LOCATOR64 = 20, COMMENT_MAX = 65535 };
enum { SIG_LOCAL = 0x04034b50, SIG_CENTRAL = 0x02014b50, SIG_END = 0x06054b50, SIG_END64 = 0x06064b50, SIG_LOCATOR64 = 0x07064b50 };
enum { FLAG_ENCRYPTED = 1, NEEDS_64 = 1 };

typedef struct directory {
    uint64_t offset, size, count;
} directory;

static bnff_status broken(const bf_zip *zip, const char *what, bnff_error *error)
{
    bf_fail(error, BNFF_E_FORMAT, "%s: %s", zip->path, what);
    return bf_hint(error, BNFF_E_FORMAT, "the file is incomplete or damaged: copy or download it again");
}

/* The end record is the last one whose comment reaches exactly to the end of the file. */
static const unsigned char *find_end(const bf_view *view)
{
    const size_t most = view->size < END + COMMENT_MAX ? view->size : END + COMMENT_MAX;
    for (size_t back = END; back <= most; back++) {
        const unsigned char *p = view->bytes + view->size - back;
        if (bf_le32(p) == SIG_END && bf_le16(p + 20) == back - END) return p;
    }
    return NULL;
}

static bool inside(const bf_view *view, uint64_t offset, uint64_t size) { return offset <= view->size && size <= view->size - offset; }

static bnff_status find_directory(const bf_zip *zip, const bf_view *view, directory *dir, bnff_error *error)
{
    *dir = (directory){0};
    const unsigned char *end = find_end(view);
    if (!end) return broken(zip, "the zip archive has no end record", error);
    *dir = (directory){bf_le32(end + 16), bf_le32(end + 12), bf_le16(end + 10)};
    if (dir->offset == UINT32_MAX || dir->size == UINT32_MAX || dir->count == UINT16_MAX) {
        const size_t at = (size_t)(end - view->bytes);
        const unsigned char *locator = at >= LOCATOR64 ? end - LOCATOR64 : NULL;
        const uint64_t where = locator && bf_le32(locator) == SIG_LOCATOR64 ? bf_le64(locator + 8) : UINT64_MAX;
        if (!inside(view, where, END64) || bf_le32(view->bytes + where) != SIG_END64)
            return broken(zip, "the zip archive has no zip64 end record", error);
        *dir = (directory){bf_le64(view->bytes + where + 48), bf_le64(view->bytes + where + 40), bf_le64(view->bytes + where + 32)};
    }
    if (!inside(view, dir->offset, dir->size)) return broken(zip, "the zip directory lies outside the file", error);
    if (dir->count > dir->size / CENTRAL) return broken(zip, "the zip directory is smaller than its entries", error);
    return BNFF_OK;
}

/* Replace the 32-bit fields that say "see the zip64 extra field". false if it is missing or too short. */
static bool read_extra64(const unsigned char *extra, size_t length, uint64_t *size, uint64_t *stored, uint64_t *offset)
{
    uint64_t *fields[] = {size, stored, offset};
    size_t needed = 0;
    for (int i = 0; i < 3; i++) needed += *fields[i] == UINT32_MAX ? 8 : 0;
    if (!needed) return true;
    while (length >= 4) {
        const size_t part = bf_le16(extra + 2);
        if (part > length - 4) return false;
        if (bf_le16(extra) == NEEDS_64) {
            if (part < needed) return false;
            const unsigned char *p = extra + 4;
            for (int i = 0; i < 3; i++)
                if (*fields[i] == UINT32_MAX) *fields[i] = bf_le64(p), p += 8;
            return true;
        }
        extra += 4 + part;
        length -= 4 + part;
    }
    return false;
}

/* One record of the directory, of which `left` bytes remain; *used is how many it takes. */
static bnff_status read_entry(const bf_zip *zip, const bf_view *view, const unsigned char *p, size_t left, bf_zip_entry *entry,
                              size_t *used, bnff_error *error)
{
    *used = 0;
    if (left < CENTRAL || bf_le32(p) != SIG_CENTRAL) return broken(zip, "the zip directory is damaged", error);
    const size_t name = bf_le16(p + 28), extra = bf_le16(p + 30);
    *used = CENTRAL + name + extra + bf_le16(p + 32);
    if (*used > left) return broken(zip, "the zip directory is damaged", error);
    const char *text = (const char *)p + CENTRAL;
    const bool is_stored = !(bf_le16(p + 8) & FLAG_ENCRYPTED) && bf_le16(p + 10) == 0;
    uint64_t stored = bf_le32(p + 20), size = bf_le32(p + 24), offset = bf_le32(p + 42);
    if (!read_extra64(p + CENTRAL + name, extra, &size, &stored, &offset) || (is_stored && size != stored) || !inside(view, offset, LOCAL) ||
        bf_le32(view->bytes + offset) != SIG_LOCAL)
        return broken(zip, "the zip directory is damaged", error);
    const unsigned char *local = view->bytes + offset;
    const uint64_t begin = offset + LOCAL + bf_le16(local + 26) + bf_le16(local + 28);
    if (!inside(view, begin, stored)) {
        bf_fail(error, BNFF_E_FORMAT, "%s: '%.*s' ends beyond the file", zip->path, (int)name, text);
        return bf_hint(error, BNFF_E_FORMAT, "the file is incomplete: copy or download it again");
    }
    *entry = (bf_zip_entry){text, name, view->bytes + begin, (size_t)stored, bf_le32(p + 16), is_stored, false};
    return BNFF_OK;
}

static int compare_names(const void *a, const void *b)
{
    const bf_zip_entry *x = a, *y = b;
    const size_t shorter = x->name_length < y->name_length ? x->name_length : y->name_length;
    const int order = memcmp(x->name, y->name, shorter);
    return order ? order : (x->name_length > y->name_length) - (x->name_length < y->name_length);
}

static bnff_status read_directory(bf_zip *zip, const bf_view *view, const directory *dir, bnff_error *error)
{
    const unsigned char *p = view->bytes + dir->offset;
    size_t left = (size_t)dir->size, used;
    if (dir->count > INT32_MAX) return broken(zip, "the zip directory has too many entries", error);
    zip->entries = bf_calloc((size_t)dir->count, sizeof *zip->entries);
    if (!zip->entries) return bf_fail(error, BNFF_E_MEMORY, "%s: no memory for its directory", zip->path);
    for (; zip->count < (int)dir->count; zip->count++, p += used, left -= used)
        BF_TRY(read_entry(zip, view, p, left, &zip->entries[zip->count], &used, error));
    if (zip->count) qsort(zip->entries, (size_t)zip->count, sizeof *zip->entries, compare_names);
    for (int i = 1; i < zip->count; i++)
        if (!compare_names(&zip->entries[i - 1], &zip->entries[i])) return broken(zip, "two entries of the zip archive have one name", error);
    return BNFF_OK;
}

bnff_status bf_zip_open(bf_zip *zip, const char *path, const bf_view *view, bnff_error *error)
{
    directory dir;
    *zip = (bf_zip){.path = path};
    BF_TRY(find_directory(zip, view, &dir, error));
    const bnff_status status = read_directory(zip, view, &dir, error);
    if (status != BNFF_OK) bf_zip_close(zip);
    return status;
}

void bf_zip_close(bf_zip *zip)
{
    bf_free(zip->entries);
    *zip = (bf_zip){0};
}

bf_zip_entry *bf_zip_find(const bf_zip *zip, const char *name, size_t name_length)
{
    const bf_zip_entry key = {.name = name, .name_length = name_length};
    return zip->count ? bsearch(&key, zip->entries, (size_t)zip->count, sizeof key, compare_names) : NULL;
}

bnff_status bf_zip_check(const bf_zip *zip, bf_zip_entry *entry, bnff_error *error)
{
    if (!entry->stored) {
        bf_fail(error, BNFF_E_UNSUPPORTED, "%s: '%.*s' is compressed or encrypted", zip->path, (int)entry->name_length, entry->name);
        return bf_hint(error, BNFF_E_UNSUPPORTED, "torch.save stores entries as they are: save the file again with it");
    }
    if (entry->checked || !entry->crc) return BNFF_OK;
    if (crc32_z(0, entry->data, entry->size) != entry->crc) {
        bf_fail(error, BNFF_E_FORMAT, "%s: the checksum of '%.*s' is wrong", zip->path, (int)entry->name_length, entry->name);
        return bf_hint(error, BNFF_E_FORMAT, "the file is damaged: copy or download it again");
    }
    entry->checked = true;
    return BNFF_OK;
}
