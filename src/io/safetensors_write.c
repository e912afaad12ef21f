/* Writing .safetensors: widest dtype first, then by name, so that every tensor is aligned to its element and equal contents
 * give equal bytes whatever order they were added in. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"
#include "base/text.h"
#include "io/bytes.h"
#include "io/weights.h"

enum { HEADER_ALIGN = 8, HEADER_MAX = 100000000 };

static size_t entry_bytes(const bnff_weights_entry *entry) { return (size_t)entry->elements * bf_dtype_size(entry->dtype); }

static int compare_entries(const void *a, const void *b)
{
    const bnff_weights_entry *x = *(const bnff_weights_entry *const *)a, *y = *(const bnff_weights_entry *const *)b;
    const size_t wx = bf_dtype_size(x->dtype), wy = bf_dtype_size(y->dtype);
    return wx != wy ? (wx > wy ? -1 : 1) : strcmp(x->name, y->name);
}

static const bnff_weights_entry **sorted_entries(const bnff_weights *weights)
{
    const bnff_weights_entry **entries = bf_calloc((size_t)weights->count, sizeof *entries);
    if (!entries) return NULL;
    for (int i = 0; i < weights->count; i++) entries[i] = &weights->items[i].entry;
    qsort(entries, (size_t)weights->count, sizeof *entries, compare_entries);
    return entries;
}

/* "format": "pt" is what PyTorch's loaders look for; it stands in sorted order among the others. */
static void add_metadata(bf_text *text, const bnff_weights *weights)
{
    bool format = false;
    bf_text_add(text, "{\"__metadata__\":{");
    for (int i = 0; i < weights->pair_count; i++) {
        const bf_pair *pair = &weights->pairs[i];
        const int order = strcmp(pair->key, "format");
        if (order >= 0 && !format) {
            bf_text_add(text, "%s\"format\":\"pt\"", i ? "," : "");
            format = true;
        }
        if (order == 0) continue;
        if (i || format) bf_text_add(text, ",");
        bf_text_json(text, pair->key);
        bf_text_add(text, ":");
        bf_text_json(text, pair->value);
    }
    if (!format) bf_text_add(text, "%s\"format\":\"pt\"", weights->pair_count ? "," : "");
    bf_text_add(text, "}");
}

static void add_tensor(bf_text *text, const bnff_weights_entry *entry, size_t begin)
{
    bf_text_add(text, ",");
    bf_text_json(text, entry->name);
    bf_text_add(text, ":{\"dtype\":\"%s\",\"shape\":[", bf_dtype_name(entry->dtype));
    for (int k = 0; k < entry->rank; k++) bf_text_add(text, "%s%lld", k ? "," : "", (long long)entry->shape[k]);
    bf_text_add(text, "],\"data_offsets\":[%zu,%zu]}", begin, begin + entry_bytes(entry));
}

static char *make_header(const bnff_weights *weights, const bnff_weights_entry **entries, size_t *length)
{
    bf_text text = {0};
    size_t offset = 0;
    add_metadata(&text, weights);
    for (int i = 0; i < weights->count; i++) {
        add_tensor(&text, entries[i], offset);
        offset += entry_bytes(entries[i]); /* the sum of what lies in memory cannot overflow */
    }
    bf_text_add(&text, "}");
    while (!text.failed && text.length % HEADER_ALIGN) bf_text_add(&text, " ");
    *length = text.length;
    return bf_text_take(&text);
}

static bnff_status write_file(const bnff_weights_entry **entries, int count, const char *header, size_t length, const char *path,
                              bnff_error *error)
{
    bf_file_writer writer;
    unsigned char prefix[8];
    bf_put_le64(prefix, length);
    BF_TRY(bf_file_begin(&writer, path, error));
    bf_file_write(&writer, prefix, sizeof prefix);
    bf_file_write(&writer, header, length);
    for (int i = 0; i < count; i++) bf_file_write(&writer, entries[i]->data, entry_bytes(entries[i]));
    return bf_file_commit(&writer);
}

bnff_status bnff_weights_save(const bnff_weights *weights, const char *path, bnff_error *error)
{
    size_t length = 0;
    const bnff_weights_entry **entries = sorted_entries(weights);
    char *header = entries ? make_header(weights, entries, &length) : NULL;
    bnff_status status;
    if (!header) status = bf_fail(error, BNFF_E_MEMORY, "%s: no memory for its header", path);
    else if (length > HEADER_MAX)
        status = bf_fail(error, BNFF_E_ARG, "%s: names and metadata take %zu bytes, the format allows %d", path, length, HEADER_MAX);
    else status = write_file(entries, weights->count, header, length, path, error);
    bf_free(header);
    bf_free(entries);
    return status;
}
