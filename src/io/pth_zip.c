/* .pth of torch >= 1.6: a zip archive with <name>/data.pkl (the values), <name>/data/<key> (a storage each) and
 * <name>/byteorder. */
#include <string.h>

#include "base/error.h"
#include "io/pth.h"
#include "io/zip.h"

enum { PATH_BYTES = 512 };

typedef struct archive {
    bf_zip zip;
    const char *prefix; /* "<name>/", not terminated */
    size_t prefix_length;
} archive;

static bf_zip_entry *find(const archive *a, const char *folder, bf_text_span name)
{
    char path[PATH_BYTES];
    const size_t folder_length = strlen(folder), length = a->prefix_length + folder_length + name.length;
    if (name.length >= sizeof path || length >= sizeof path) return NULL;
    memcpy(path, a->prefix, a->prefix_length);
    memcpy(path + a->prefix_length, folder, folder_length);
    memcpy(path + a->prefix_length + folder_length, name.bytes, name.length);
    return bf_zip_find(&a->zip, path, length);
}

static bf_zip_entry *find_record(const archive *a, const char *name) { return find(a, name, (bf_text_span){"", 0}); }

static bnff_status locate(bf_pth *pth, bf_text_span key, const unsigned char **bytes, size_t *size)
{
    const archive *a = pth->container;
    bf_zip_entry *entry = find(a, "data/", key);
    if (!entry) return bf_fail(pth->error, BNFF_E_FORMAT, "%s: the archive has no storage 'data/%.*s'", pth->path, (int)key.length, key.bytes);
    BF_TRY(bf_zip_check(&a->zip, entry, pth->error));
    *bytes = entry->data;
    *size = entry->size;
    return BNFF_OK;
}

/* The prefix of the one entry <name>/data.pkl. */
static bool find_prefix(archive *a)
{
    static const char pickle[] = "/data.pkl";
    const size_t length = sizeof pickle - 1;
    for (int i = 0; i < a->zip.count; i++) {
        const bf_zip_entry *entry = &a->zip.entries[i];
        if (entry->name_length <= length || memcmp(entry->name + entry->name_length - length, pickle, length)) continue;
        a->prefix = entry->name;
        a->prefix_length = entry->name_length - length + 1;
        if (!memchr(entry->name, '/', a->prefix_length - 1)) return true;
    }
    return false;
}

static bnff_status check_archive(archive *a, const char *path, bnff_error *error)
{
    if (!find_prefix(a)) {
        bf_fail(error, BNFF_E_FORMAT, "%s: a zip archive, but not one of torch.save: it has no data.pkl", path);
        return bf_hint(error, BNFF_E_FORMAT, "in Python: torch.save(model.state_dict(), 'weights.pth')");
    }
    if (find_record(a, "constants.pkl")) {
        bf_fail(error, BNFF_E_FORMAT, "%s: a TorchScript program, not a state dict", path);
        return bf_hint(error, BNFF_E_FORMAT, "in Python: torch.save(torch.jit.load(F).state_dict(), 'weights.pth')");
    }
    bf_zip_entry *order = find_record(a, "byteorder");
    if (order) BF_TRY(bf_zip_check(&a->zip, order, error));
    if (order && (order->size != 6 || memcmp(order->data, "little", 6)))
        return bf_fail(error, BNFF_E_UNSUPPORTED, "%s: written on a big-endian machine", path);
    return BNFF_OK;
}

static bnff_status read_archive(archive *a, bnff_weights *weights, bnff_error *error)
{
    BF_TRY(check_archive(a, weights->path, error));
    bf_zip_entry *entry = find_record(a, "data.pkl");
    BF_TRY(bf_zip_check(&a->zip, entry, error));
    bf_pickle pickle = {.path = weights->path, .bytes = entry->data, .size = entry->size, .error = error};
    bf_pth pth = {.weights = weights, .path = weights->path, .error = error, .locate = locate, .container = a};
    const bf_pickle_value *root;
    bnff_status status = bf_pickle_load(&pickle, &root);
    if (status == BNFF_OK) status = bf_pth_collect(&pth, root);
    bf_pickle_free(&pickle);
    return status;
}

bnff_status bf_pth_zip_read(bnff_weights *weights, bnff_error *error)
{
    archive a = {0};
    BF_TRY(bf_zip_open(&a.zip, weights->path, &weights->view, error));
    const bnff_status status = read_archive(&a, weights, error);
    bf_zip_close(&a.zip);
    return status;
}
