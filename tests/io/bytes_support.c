#include "bytes_support.h"

#include <zlib.h>

#include "base/memory.h"
#include "io/weights.h"

bnff_status open_bytes(const void *bytes, size_t size, bnff_weights **weights, bnff_error *error)
{
    void *copy = bf_alloc(size);
    if (!copy) return *weights = NULL, error->status = BNFF_E_MEMORY;
    if (size) memcpy(copy, bytes, size);
    return bf_weights_read("FILE", (bf_view){copy, size, false}, weights, error);
}

void check_refused(const void *bytes, size_t size, bnff_status status, const char *words)
{
    bnff_weights *weights = (bnff_weights *)1;
    bnff_error error;
    check_fails(open_bytes(bytes, size, &weights, &error), status, &error, words);
    assert_null(weights);
    assert_non_null(strstr(error.message, "FILE"));
}

void put(bf_text *text, uint64_t value, int bytes)
{
    for (int i = 0; i < bytes; i++) bf_text_append(text, &(char){(char)(value >> 8 * i)}, 1);
}

void put_safetensors(bf_text *text, const char *header, size_t data_size)
{
    put(text, strlen(header), 8);
    bf_text_append(text, header, strlen(header));
    for (size_t i = 0; i < data_size; i++) put(text, 0, 1);
}

/* -- Zip (APPNOTE 4.3) -- */

static void put_extra64(bf_text *text, uint64_t size, uint64_t offset, bool with_offset)
{
    put(text, 1, 2);
    put(text, with_offset ? 24 : 16, 2);
    put(text, size, 8), put(text, size, 8);
    if (with_offset) put(text, offset, 8);
}

void zip_entry(zip_builder *zip, const char *name, const void *bytes, size_t size)
{
    const uint32_t crc = zip->no_checksum ? 0 : (uint32_t)crc32_z(0, bytes, size);
    const uint64_t offset = zip->file.length, narrow = zip->wide ? UINT32_MAX : size;
    put(&zip->file, 0x04034b50, 4);
    put(&zip->file, 45, 2), put(&zip->file, zip->flags, 2), put(&zip->file, zip->method, 2), put(&zip->file, 0, 4);
    put(&zip->file, crc, 4), put(&zip->file, narrow, 4), put(&zip->file, narrow, 4);
    put(&zip->file, strlen(name), 2), put(&zip->file, zip->wide ? 20 : 0, 2);
    bf_text_append(&zip->file, name, strlen(name));
    if (zip->wide) put_extra64(&zip->file, size, 0, false);
    bf_text_append(&zip->file, bytes, size);

    bf_text *d = &zip->directory;
    put(d, 0x02014b50, 4);
    put(d, 45, 2), put(d, 45, 2), put(d, zip->flags, 2), put(d, zip->method, 2), put(d, 0, 4);
    put(d, crc, 4), put(d, narrow, 4), put(d, narrow, 4);
    put(d, strlen(name), 2), put(d, zip->wide ? 28 : 0, 2), put(d, 0, 2), put(d, 0, 2), put(d, 0, 2), put(d, 0, 4);
    put(d, zip->wide ? UINT32_MAX : offset, 4);
    bf_text_append(d, name, strlen(name));
    if (zip->wide) put_extra64(d, size, offset, true);
    zip->count++;
}

void zip_end(zip_builder *zip)
{
    const uint64_t offset = zip->file.length, size = zip->directory.length;
    bf_text_append(&zip->file, zip->directory.data, size);
    if (zip->wide) {
        const uint64_t end64 = zip->file.length;
        put(&zip->file, 0x06064b50, 4), put(&zip->file, 44, 8), put(&zip->file, 45, 2), put(&zip->file, 45, 2), put(&zip->file, 0, 8);
        put(&zip->file, (uint64_t)zip->count, 8), put(&zip->file, (uint64_t)zip->count, 8), put(&zip->file, size, 8), put(&zip->file, offset, 8);
        put(&zip->file, 0x07064b50, 4), put(&zip->file, 0, 4), put(&zip->file, end64, 8), put(&zip->file, 1, 4);
    }
    put(&zip->file, 0x06054b50, 4), put(&zip->file, 0, 4);
    put(&zip->file, zip->wide ? UINT16_MAX : (uint64_t)zip->count, 2), put(&zip->file, zip->wide ? UINT16_MAX : (uint64_t)zip->count, 2);
    put(&zip->file, zip->wide ? UINT32_MAX : size, 4), put(&zip->file, zip->wide ? UINT32_MAX : offset, 4), put(&zip->file, 0, 2);
}

void zip_free(zip_builder *zip)
{
    bf_text_free(&zip->file);
    bf_text_free(&zip->directory);
    *zip = (zip_builder){0};
}

/* -- Pickles -- */

void pickle_begin(bf_text *text) { bf_text_append(text, "\x80\x02", 2); }

void pickle_text(bf_text *text, const char *string)
{
    bf_text_append(text, "X", 1);
    put(text, strlen(string), 4);
    bf_text_append(text, string, strlen(string));
}

void pickle_int(bf_text *text, int64_t value)
{
    bf_text_append(text, "\x8a\x08", 2);
    put(text, (uint64_t)value, 8);
}

void pickle_global(bf_text *text, const char *module, const char *name) { bf_text_add(text, "c%s\n%s\n", module, name); }

void pickle_tensor(bf_text *text, const char *type, const char *key, int64_t elements, int64_t offset, int rank, const int64_t *sizes,
                   const int64_t *strides)
{
    pickle_global(text, "torch._utils", "_rebuild_tensor_v2");
    bf_text_add(text, "((");
    pickle_text(text, "storage");
    pickle_global(text, "torch", type);
    pickle_text(text, key);
    pickle_text(text, "cpu");
    pickle_int(text, elements);
    bf_text_add(text, "tQ");
    pickle_int(text, offset);
    for (int pass = 0; pass < 2; pass++) {
        bf_text_add(text, "(");
        for (int i = 0; i < rank; i++) pickle_int(text, pass ? strides[i] : sizes[i]);
        bf_text_add(text, "t");
    }
    bf_text_append(text, "\x89", 1);
    pickle_global(text, "collections", "OrderedDict");
    bf_text_add(text, ")RtR");
}

void put_pth(zip_builder *zip, const bf_text *pickle, const void *storage, size_t size)
{
    zip_entry(zip, "archive/data.pkl", pickle->data, pickle->length);
    zip_entry(zip, "archive/byteorder", "little", 6);
    zip_entry(zip, "archive/data/0", storage, size);
    zip_entry(zip, "archive/version", "3\n", 2);
    zip_end(zip);
}

void put_legacy(bf_text *file, const bf_text *pickle, const void *storage, size_t elements, size_t item)
{
    bf_text_append(file, "\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.", 15);
    bf_text_append(file, "\x80\x02M\xe9\x03.", 6);
    pickle_begin(file);
    bf_text_add(file, "}");
    pickle_text(file, "little_endian");
    bf_text_append(file, "\x88s.", 3);
    bf_text_append(file, pickle->data, pickle->length);
    pickle_begin(file);
    bf_text_add(file, "]");
    if (elements) pickle_text(file, "0");
    bf_text_add(file, elements ? "a." : ".");
    if (elements) put(file, elements, 8);
    bf_text_append(file, storage, elements * item);
}
