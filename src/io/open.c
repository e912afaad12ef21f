/* Opening a weight file: which format is it? */
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/weights.h"

typedef struct signature {
    const char *bytes;
    size_t length;
    bnff_status (*read)(bnff_weights *weights, bnff_error *error); /* NULL: known, but not a format read here */
    const char *what, *remedy;
} signature;

static const signature signatures[] = {
    {"PK\3\4", 4, bf_pth_zip_read, NULL, NULL},
    {"\x80\x02", 2, bf_pth_legacy_read, NULL, NULL}, /* pickles of protocols 2 to 5 */
    {"\x80\x03", 2, bf_pth_legacy_read, NULL, NULL},
    {"\x80\x04", 2, bf_pth_legacy_read, NULL, NULL},
    {"\x80\x05", 2, bf_pth_legacy_read, NULL, NULL},
    {"\x89HDF", 4, NULL, "an HDF5 file", "export the weights as .safetensors"},
    {"\x1f\x8b", 2, NULL, "compressed by gzip", "unpack it first: gunzip"},
    {"version https://git-lfs", 23, NULL, "a Git LFS pointer, not the file itself", "fetch it: git lfs pull"},
    {"<!DOCTYPE", 9, NULL, "a web page", "the download failed: get the file again"},
    {"<html", 5, NULL, "a web page", "the download failed: get the file again"},
};

static bnff_status read_by_signature(bnff_weights *w, bnff_error *error)
{
    if (w->view.size == 0) return bf_fail(error, BNFF_E_FORMAT, "%s: the file is empty", w->path);
    /* .safetensors begins with a length, any eight bytes; its header's '{' is the ninth. No other format here has one there. */
    if (w->view.size > 8 && w->view.bytes[8] == '{') return bf_safetensors_read(w, error);
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        const signature *s = &signatures[i];
        if (w->view.size < s->length || memcmp(w->view.bytes, s->bytes, s->length)) continue;
        if (s->read) return s->read(w, error);
        bf_fail(error, BNFF_E_FORMAT, "%s: not a weight file but %s", w->path, s->what);
        return bf_hint(error, BNFF_E_FORMAT, "%s", s->remedy);
    }
    bf_fail(error, BNFF_E_FORMAT, "%s: neither .safetensors nor a .pth of torch.save", w->path);
    return bf_hint(error, BNFF_E_FORMAT, "is it complete, and a file of weights?");
}

bnff_status bf_weights_read(const char *path, bf_view view, bnff_weights **weights, bnff_error *error)
{
    bnff_weights *w = NULL;
    bnff_status status;
    bnff_error unread;
    if (!error) error = &unread; /* the readers look at what they said */
    *weights = NULL;
    if ((status = bnff_weights_create(&w, error)) != BNFF_OK) {
        bf_view_close(&view);
        return status;
    }
    w->view = view;
    if (!(w->path = bf_strdup(path))) {
        status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory to open it", path);
        goto fail;
    }
    BF_GO(read_by_signature(w, error));
    BF_GO(bf_weights_finish(w, error));
    *weights = w;
    return BNFF_OK;
fail:
    bnff_weights_destroy(&w);
    return status;
}

bnff_status bnff_weights_open(const char *path, bnff_weights **weights, bnff_error *error)
{
    bf_view view;
    *weights = NULL;
    BF_TRY(bf_view_open(path, &view, error));
    return bf_weights_read(path, view, weights, error);
}
