/* Reading .safetensors: u64 length of the header, the header in JSON, the data.
 *     {"__metadata__": {"key": "value"}, "name": {"dtype": "F32", "shape": [64, 3], "data_offsets": [begin, end]}}
 * Offsets count from the first byte after the header. Sorted by offset, the tensors must cover all bytes to the end of the
 * file: there is no room for a hole, an overlap or a tail, so that a file has one meaning and hides nothing. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/bytes.h"
#include "io/weights.h"

enum {
    PREFIX = 8,
    HEADER_MAX = 100000000,   /* the format's own limit */
    DEPTH_MAX = 3,            /* file, tensor, list of numbers */
    TOKENS_MAX = 1 << 21      /* a tensor of four dimensions takes 10: 200 000 of them. jansson needs up to 300 bytes a token */
};

typedef struct span {
    size_t begin, end;
    int item;
} span;

typedef struct reader {
    bnff_weights *weights;
    const char *path;
    const unsigned char *data; /* first byte after the header */
    size_t size;               /* of data */
    span *spans;
    bnff_error *error;
} reader;

/* Bound what the JSON parser will allocate: nesting, and commas and opening brackets outside strings. */
static bnff_status check_structure(const reader *r, const char *header, size_t length)
{
    int depth = 0, tokens = 0;
    bool string = false;
    for (size_t i = 0; i < length; i++) {
        const char c = header[i];
        if (string) {
            if (c == '\\') i++;
            else string = c != '"';
            continue;
        }
        string = c == '"';
        if (c == '{' || c == '[') depth++, tokens++;
        if (c == '}' || c == ']') depth--;
        tokens += c == ',';
        if (depth > DEPTH_MAX)
            return bf_fail(r->error, BNFF_E_FORMAT, "%s: header nested deeper than %d at byte %zu", r->path, DEPTH_MAX, PREFIX + i);
        if (tokens > TOKENS_MAX)
            return bf_fail(r->error, BNFF_E_FORMAT, "%s: header with more than %d values", r->path, TOKENS_MAX);
    }
    return BNFF_OK;
}

static bnff_status read_metadata(const reader *r, json_t *object)
{
    if (!json_is_object(object)) return bf_fail(r->error, BNFF_E_FORMAT, "%s: __metadata__ is not an object", r->path);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value) {
        if (!json_is_string(value)) return bf_fail(r->error, BNFF_E_FORMAT, "%s: __metadata__ '%s' is not a string", r->path, key);
        BF_TRY(bnff_weights_set_metadata(r->weights, key, json_string_value(value), r->error));
    }
    return BNFF_OK;
}

static bnff_status read_dtype(const reader *r, const char *name, json_t *value, bnff_dtype *dtype)
{
    const char *text = json_string_value(value);
    if (!text) return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s' has no dtype", r->path, name);
    if (bf_dtype_find(text, dtype)) return BNFF_OK;
    bf_fail(r->error, BNFF_E_UNSUPPORTED, "%s: tensor '%s' has dtype %s, which is not one of %s", r->path, name, text, BF_DTYPES_READ);
    return bf_hint(r->error, BNFF_E_UNSUPPORTED, "convert the file to F32 or F16");
}

static bnff_status read_shape(const reader *r, json_t *list, bnff_weights_entry *entry)
{
    if (!json_is_array(list)) return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s' has no shape", r->path, entry->name);
    const size_t rank = json_array_size(list), most = sizeof entry->shape / sizeof entry->shape[0];
    if (rank > most)
        return bf_fail(r->error, BNFF_E_UNSUPPORTED, "%s: tensor '%s' has %zu dimensions, at most %zu are read", r->path, entry->name, rank, most);
    entry->rank = (int)rank;
    for (size_t i = 0; i < rank; i++) {
        json_t *value = json_array_get(list, i);
        if (!json_is_integer(value) || json_integer_value(value) < 0)
            return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s': dimension %zu is not a whole number >= 0", r->path, entry->name, i);
        entry->shape[i] = json_integer_value(value);
    }
    return BNFF_OK;
}

static bnff_status read_offsets(const reader *r, const char *name, json_t *list, span *place)
{
    json_t *begin = json_array_get(list, 0), *end = json_array_get(list, 1); /* NULL when list is no array */
    if (json_array_size(list) != 2 || !json_is_integer(begin) || !json_is_integer(end) || json_integer_value(begin) < 0 ||
        json_integer_value(end) < json_integer_value(begin))
        return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s': data_offsets is not [begin, end] with 0 <= begin <= end", r->path, name);
    const unsigned long long last = (unsigned long long)json_integer_value(end);
    if (last > r->size) {
        bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s' ends at byte %llu of the data, the file has %zu", r->path, name, last, r->size);
        return bf_hint(r->error, BNFF_E_FORMAT, "the file is incomplete: copy or download it again");
    }
    *place = (span){(size_t)json_integer_value(begin), (size_t)last, r->weights->count};
    return BNFF_OK;
}

static bnff_status read_tensor(const reader *r, const char *name, json_t *object)
{
    bnff_weights_entry entry = {.name = name};
    span place;
    size_t bytes;
    if (!json_is_object(object)) return bf_fail(r->error, BNFF_E_FORMAT, "%s: '%s' is not an object", r->path, name);
    BF_TRY(read_dtype(r, name, json_object_get(object, "dtype"), &entry.dtype));
    BF_TRY(read_shape(r, json_object_get(object, "shape"), &entry));
    BF_TRY(read_offsets(r, name, json_object_get(object, "data_offsets"), &place));
    if (!bf_shape_bytes(entry.dtype, entry.rank, entry.shape, &entry.elements, &bytes))
        return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s': the product of its shape overflows", r->path, name);
    if (bytes != place.end - place.begin)
        return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s': data_offsets hold %zu bytes, its %s shape takes %zu", r->path, name,
                       place.end - place.begin, bf_dtype_name(entry.dtype), bytes);
    entry.data = r->data + place.begin;
    r->spans[place.item] = place;
    return bf_weights_append(r->weights, &entry, NULL, r->error);
}

static int compare_spans(const void *a, const void *b)
{
    const span *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->end > y->end) - (x->end < y->end); /* empty tensors before the one that begins there too */
}

static bnff_status check_cover(const reader *r)
{
    const int count = r->weights->count;
    size_t next = 0;
    if (count) qsort(r->spans, (size_t)count, sizeof *r->spans, compare_spans);
    for (int i = 0; i < count; i++) {
        const span *s = &r->spans[i];
        if (s->begin != next)
            return bf_fail(r->error, BNFF_E_FORMAT, "%s: tensor '%s' begins at byte %zu of the data, %s byte %zu", r->path,
                           r->weights->items[s->item].entry.name, s->begin,
                           s->begin > next ? "leaving a hole from" : "overlapping the one before, which ends at", next);
        next = s->end;
    }
    if (next == r->size) return BNFF_OK;
    return bf_fail(r->error, BNFF_E_FORMAT, "%s: %zu byte%s after the last tensor, where none may be", r->path, r->size - next, r->size - next == 1 ? "" : "s");
}

static bnff_status read_root(reader *r, json_t *root)
{
    r->spans = bf_calloc(json_object_size(root), sizeof *r->spans);
    if (!r->spans) return bf_fail(r->error, BNFF_E_MEMORY, "%s: no memory for its table of tensors", r->path);
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) {
        if (!strcmp(key, "__metadata__")) BF_TRY(read_metadata(r, value));
        else BF_TRY(read_tensor(r, key, value));
    }
    return check_cover(r);
}

bnff_status bf_safetensors_read(bnff_weights *weights, bnff_error *error)
{
    const bf_view *view = &weights->view;
    reader r = {.weights = weights, .path = weights->path, .error = error};
    if (view->size < PREFIX + 2)
        return bf_fail(error, BNFF_E_FORMAT, "%s: %zu bytes are too few for a weight file", r.path, view->size);
    const uint64_t length = bf_le64(view->bytes);
    if (length > HEADER_MAX)
        return bf_fail(error, BNFF_E_FORMAT, "%s: header of %llu bytes, at most %d are allowed", r.path, (unsigned long long)length, HEADER_MAX);
    if (length > view->size - PREFIX) {
        bf_fail(error, BNFF_E_FORMAT, "%s: header of %llu bytes, the file has %zu", r.path, (unsigned long long)length, view->size);
        return bf_hint(error, BNFF_E_FORMAT, "the file is incomplete: copy or download it again");
    }
    const char *header = (const char *)view->bytes + PREFIX;
    if (length < 2 || header[0] != '{') return bf_fail(error, BNFF_E_FORMAT, "%s: the header does not begin with '{'", r.path);
    r.data = view->bytes + PREFIX + length;
    r.size = view->size - PREFIX - (size_t)length;
    BF_TRY(check_structure(&r, header, (size_t)length));
    json_error_t wrong;
    json_t *root = json_loadb(header, (size_t)length, JSON_REJECT_DUPLICATES, &wrong);
    if (!root && json_error_code(&wrong) == json_error_out_of_memory)
        return bf_fail(error, BNFF_E_MEMORY, "%s: no memory for its header", r.path);
    if (!root) return bf_fail(error, BNFF_E_FORMAT, "%s: header, byte %d: %s", r.path, PREFIX + wrong.position, wrong.text);
    const bnff_status status = read_root(&r, root);
    bf_free(r.spans);
    json_decref(root);
    return status;
}
