#include "io/pth.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"

enum { NESTING_MAX = 4, COPY_FREE = 64 << 20, NAME_MAX_BYTES = 4096 };

/* -- One tensor --------------------------------------------------------------------------------------------------- */

typedef struct strided {
    int rank;
    int64_t shape[8], stride[8]; /* in elements */
    size_t item;                 /* bytes an element */
} strided;

static bnff_status bad_tensor(const bf_pth *pth, const char *name, const char *what)
{
    bf_fail(pth->error, BNFF_E_FORMAT, "%s: tensor '%s' %s", pth->path, name, what);
    return bf_hint(pth->error, BNFF_E_FORMAT, "the file is damaged: copy or download it again");
}

static bnff_status read_shape(const bf_pth *pth, const char *name, const bf_pickle_value *tensor, strided *s)
{
    const bf_pickle_value *sizes = tensor->tensor.sizes, *strides = tensor->tensor.strides;
    const uint32_t rank = sizes->list.count, most = sizeof s->shape / sizeof s->shape[0];
    if (strides->list.count != rank) return bad_tensor(pth, name, "has not as many strides as sizes");
    if (rank > most)
        return bf_fail(pth->error, BNFF_E_UNSUPPORTED, "%s: tensor '%s' has %u dimensions, at most %u are read", pth->path, name, rank, most);
    s->rank = (int)rank;
    for (uint32_t i = 0; i < rank; i++) {
        const bf_pickle_value *size = sizes->list.items[i], *stride = strides->list.items[i];
        if (size->kind != BF_PICKLE_INT || size->integer < 0 || stride->kind != BF_PICKLE_INT || stride->integer < 0)
            return bad_tensor(pth, name, "has a size or stride that is not a whole number >= 0");
        s->shape[i] = size->integer;
        s->stride[i] = stride->integer;
    }
    return BNFF_OK;
}

/* Row-major without gaps; the stride of a dimension of one element says nothing. */
static bool is_contiguous(const strided *s)
{
    int64_t expected = 1; /* at most the number of elements, which did not overflow */
    for (int i = s->rank - 1; i >= 0; i--) {
        if (s->shape[i] != 1 && s->stride[i] != expected) return false;
        expected *= s->shape[i];
    }
    return true;
}

/* Index of the last element, counted from the first; false on overflow. */
static bool last_index(const strided *s, int64_t *last)
{
    *last = 0;
    for (int i = 0; i < s->rank; i++) {
        int64_t step;
        if (__builtin_mul_overflow(s->shape[i] - 1, s->stride[i], &step) || __builtin_add_overflow(*last, step, last)) return false;
    }
    return true;
}

static void copy_strided(const strided *s, const unsigned char *from, unsigned char *to, int64_t elements)
{
    int64_t at[8] = {0}, index = 0;
    for (int64_t n = 0; n < elements; n++, to += s->item) {
        memcpy(to, from + (size_t)index * s->item, s->item);
        for (int i = s->rank - 1; i >= 0; i--) {
            index += s->stride[i];
            if (++at[i] < s->shape[i]) break;
            index -= s->stride[i] * s->shape[i];
            at[i] = 0;
        }
    }
}

/* Bytes of the tensor's first element, after all its elements are known to lie in its storage. */
static bnff_status locate_elements(bf_pth *pth, const char *name, const bf_pickle_value *tensor, const strided *s,
                                   const unsigned char **first)
{
    const bf_pickle_value *storage = tensor->tensor.storage;
    const unsigned char *bytes;
    size_t size, begin, length;
    int64_t last;
    *first = NULL;
    BF_TRY(pth->locate(pth, storage->storage.key, &bytes, &size));
    if (storage->storage.elements < 0 || !bf_size_mul((size_t)storage->storage.first, (size_t)storage->storage.type->size, &begin) ||
        !bf_size_mul((size_t)storage->storage.elements, (size_t)storage->storage.type->size, &length) || begin > size || length > size - begin)
        return bad_tensor(pth, name, "has a storage larger than its bytes in the file");
    if (tensor->tensor.offset < 0 || !last_index(s, &last) || __builtin_add_overflow(last, tensor->tensor.offset, &last) ||
        (uint64_t)last >= length / s->item)
        return bad_tensor(pth, name, "reaches beyond its storage");
    *first = bytes + begin + (size_t)tensor->tensor.offset * s->item;
    return BNFF_OK;
}

/* Views that are not contiguous are copied. Expanded ones (stride 0) could make gigabytes of a few bytes: what is copied in
 * all is bounded by the file's size, of which no honest state dict needs more than once. */
static bnff_status copy_view(bf_pth *pth, const strided *s, bnff_weights_entry *entry, const unsigned char *first, size_t bytes, void **owned)
{
    if (!bf_size_add(pth->copied, bytes, &pth->copied) || pth->copied > 2 * pth->weights->view.size + COPY_FREE) {
        bf_fail(pth->error, BNFF_E_FORMAT, "%s: tensor '%s' is an expanded view of %zu bytes, too large for its file", pth->path, entry->name, bytes);
        return bf_hint(pth->error, BNFF_E_FORMAT, "save it with .contiguous()");
    }
    if (!(*owned = bf_alloc(bytes))) return bf_fail(pth->error, BNFF_E_MEMORY, "%s: no memory for tensor '%s'", pth->path, entry->name);
    copy_strided(s, first, *owned, entry->elements);
    entry->data = *owned;
    return BNFF_OK;
}

static bnff_status add_tensor(bf_pth *pth, const char *name, const bf_pickle_value *tensor)
{
    const bf_torch_type *type = tensor->tensor.type;
    bnff_weights_entry entry = {.name = name};
    strided s = {.item = (size_t)type->size};
    void *owned = NULL;
    size_t bytes;
    if (type->dtype < 0 || tensor->tensor.lazy) {
        bf_fail(pth->error, BNFF_E_UNSUPPORTED, "%s: tensor '%s' is a %s%s, which is not one of " BF_DTYPES_READ, pth->path, name,
                tensor->tensor.lazy ? "conjugate or negative view of " : "", type->name);
        return bf_hint(pth->error, BNFF_E_UNSUPPORTED, "convert it to float32");
    }
    BF_TRY(read_shape(pth, name, tensor, &s));
    entry.dtype = (bnff_dtype)type->dtype;
    entry.rank = s.rank;
    memcpy(entry.shape, s.shape, sizeof entry.shape);
    if (!bf_shape_bytes(entry.dtype, entry.rank, entry.shape, &entry.elements, &bytes))
        return bad_tensor(pth, name, "has a shape whose product overflows");
    if (entry.elements == 0) {
        entry.data = pth->weights->view.bytes; /* anything but NULL */
    } else {
        const unsigned char *first;
        BF_TRY(locate_elements(pth, name, tensor, &s, &first));
        entry.data = first;
        if (!is_contiguous(&s)) BF_TRY(copy_view(pth, &s, &entry, first, bytes, &owned));
    }
    return bf_weights_append(pth->weights, &entry, owned, pth->error);
}

/* -- The state dict ----------------------------------------------------------------------------------------------- */

static const bf_pickle_value *look_up(const bf_pickle_value *dict, const char *key)
{
    for (uint32_t i = 0; i + 1 < dict->list.count; i += 2)
        if (dict->list.items[i]->kind == BF_PICKLE_TEXT && bf_text_is(dict->list.items[i]->text, key)) return dict->list.items[i + 1];
    return NULL;
}

/* Checkpoints of training scripts hold the state dict beside optimizer, epoch and arguments. */
static const bf_pickle_value *enter(const bf_pickle_value *dict)
{
    static const char *const keys[] = {"model", "state_dict", "model_state_dict", "state_dict_ema", "model_ema"};
    for (int depth = 0; depth < NESTING_MAX; depth++) {
        const bf_pickle_value *inner = NULL;
        for (size_t k = 0; k < sizeof keys / sizeof keys[0] && !inner; k++) {
            inner = look_up(dict, keys[k]);
            if (inner && inner->kind != BF_PICKLE_DICT) inner = NULL;
        }
        if (!inner) break;
        dict = inner;
    }
    return dict;
}

static bnff_status whole_object(const bf_pth *pth, const char *where, const bf_pickle_value *object)
{
    const bf_text_span module = object->class.module, name = object->class.name;
    if (module.bytes)
        bf_fail(pth->error, BNFF_E_FORMAT, "%s: %s a pickled object of class %.*s.%.*s, not a state dict", pth->path, where,
                (int)module.length, module.bytes, (int)name.length, name.bytes);
    else bf_fail(pth->error, BNFF_E_FORMAT, "%s: %s not a state dict", pth->path, where);
    return bf_hint(pth->error, BNFF_E_FORMAT, "objects are never built from a file; in Python: torch.save(model.state_dict(), 'weights.pth')");
}

static bnff_status no_tensors(const bf_pth *pth, const bf_pickle_value *dict)
{
    bf_text keys = {0};
    int listed = 0;
    for (uint32_t i = 0; i + 1 < dict->list.count && listed < 10; i += 2) {
        const bf_pickle_value *key = dict->list.items[i], *value = dict->list.items[i + 1];
        if (key->kind != BF_PICKLE_TEXT) continue;
        if (value->kind == BF_PICKLE_OPAQUE && (bf_text_is(key->text, "model") || bf_text_is(key->text, "ema"))) {
            bf_text_free(&keys);
            return whole_object(pth, "its 'model' is", value);
        }
        bf_text_add(&keys, "%s'%.*s'", listed++ ? ", " : "", (int)(key->text.length < 40 ? key->text.length : 40), key->text.bytes);
    }
    bf_fail(pth->error, BNFF_E_FORMAT, "%s: no state dict found in it; its entries are %s", pth->path, keys.data ? keys.data : "none");
    bf_text_free(&keys);
    return bf_hint(pth->error, BNFF_E_FORMAT, "save the state dict itself: torch.save(model.state_dict(), 'weights.pth')");
}

static bnff_status add_named(bf_pth *pth, bf_text_span key, const bf_pickle_value *tensor)
{
    char name[NAME_MAX_BYTES];
    if (key.length >= sizeof name || memchr(key.bytes, 0, key.length))
        return bf_fail(pth->error, BNFF_E_FORMAT, "%s: a tensor's name has a zero byte or more than %d bytes", pth->path, NAME_MAX_BYTES - 1);
    memcpy(name, key.bytes, key.length);
    name[key.length] = '\0';
    if (!bf_is_utf8(name)) return bf_fail(pth->error, BNFF_E_FORMAT, "%s: a tensor's name is not UTF-8", pth->path);
    return add_tensor(pth, name, tensor);
}

bnff_status bf_pth_collect(bf_pth *pth, const bf_pickle_value *root)
{
    if (root->kind == BF_PICKLE_OPAQUE) return whole_object(pth, "it is", root);
    if (root->kind != BF_PICKLE_DICT) {
        bf_fail(pth->error, BNFF_E_FORMAT, "%s: it holds a single tensor or list, not a state dict", pth->path);
        return bf_hint(pth->error, BNFF_E_FORMAT, "in Python: torch.save(model.state_dict(), 'weights.pth')");
    }
    const bf_pickle_value *dict = enter(root);
    for (uint32_t i = 0; i + 1 < dict->list.count; i += 2)
        if (dict->list.items[i]->kind == BF_PICKLE_TEXT && dict->list.items[i + 1]->kind == BF_PICKLE_TENSOR)
            BF_TRY(add_named(pth, dict->list.items[i]->text, dict->list.items[i + 1]));
    return pth->weights->count ? BNFF_OK : no_tensors(pth, dict);
}
