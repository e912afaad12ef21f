/* .pth before torch 1.6 (torchvision still serves such files): pickles one after the other, then the storages.
 *     magic number | protocol 1001 | system {"little_endian": True, ...} | the object | [storage keys, sorted]
 *     for each key: i64 number of elements, the elements
 * How large an element is, only the object tells: its references name the type of every storage. */
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/bytes.h"
#include "io/pth.h"

enum { PROTOCOL = 1001, COUNT_BYTES = 8 };

typedef struct storage {
    bf_text_span key;
    int item;                   /* bytes an element; 0: nothing in the object refers to it */
    const unsigned char *bytes;
    size_t size;
} storage;

typedef struct stream {
    storage *storages; /* sorted by key */
    int count;
} stream;

static int compare_keys(const void *a, const void *b)
{
    const bf_text_span x = ((const storage *)a)->key, y = ((const storage *)b)->key;
    const int order = memcmp(x.bytes, y.bytes, x.length < y.length ? x.length : y.length);
    return order ? order : (x.length > y.length) - (x.length < y.length);
}

static storage *find(const stream *s, bf_text_span key)
{
    const storage wanted = {.key = key};
    return s->count ? bsearch(&wanted, s->storages, (size_t)s->count, sizeof wanted, compare_keys) : NULL;
}

static bnff_status locate(bf_pth *pth, bf_text_span key, const unsigned char **bytes, size_t *size)
{
    const storage *found = find(pth->container, key);
    if (!found) return bf_fail(pth->error, BNFF_E_FORMAT, "%s: it has no storage '%.*s'", pth->path, (int)key.length, key.bytes);
    *bytes = found->bytes;
    *size = found->size;
    return BNFF_OK;
}

/* Table of the storages that the object refers to, sorted, each key once. */
static bnff_status list_storages(stream *s, const bf_pickle *p)
{
    size_t count = 0;
    for (const bf_pickle_value *v = p->storages; v; v = v->storage.next) count++;
    if (!(s->storages = bf_calloc(count, sizeof *s->storages)) || count > INT32_MAX)
        return bf_fail(p->error, BNFF_E_MEMORY, "%s: no memory for its table of storages", p->path);
    for (const bf_pickle_value *v = p->storages; v; v = v->storage.next)
        s->storages[s->count++] = (storage){.key = v->storage.key, .item = v->storage.type->size};
    if (s->count) qsort(s->storages, (size_t)s->count, sizeof *s->storages, compare_keys);
    int kept = 0;
    for (int i = 0; i < s->count; i++) {
        const bool repeated = kept && !compare_keys(&s->storages[kept - 1], &s->storages[i]);
        if (repeated && s->storages[kept - 1].item != s->storages[i].item)
            return bf_fail(p->error, BNFF_E_FORMAT, "%s: storage '%.*s' has two types", p->path, (int)s->storages[i].key.length,
                           s->storages[i].key.bytes);
        if (!repeated) s->storages[kept++] = s->storages[i];
    }
    s->count = kept;
    return BNFF_OK;
}

static bnff_status truncated(const bf_pickle *p)
{
    bf_fail(p->error, BNFF_E_FORMAT, "%s: a storage ends beyond the file's %zu bytes", p->path, p->size);
    return bf_hint(p->error, BNFF_E_FORMAT, "the file is incomplete: copy or download it again");
}

static bnff_status place_storages(stream *s, const bf_pickle *p, const bf_pickle_value *keys)
{
    size_t at = p->position;
    if (keys->kind != BF_PICKLE_LIST) return bf_fail(p->error, BNFF_E_FORMAT, "%s: it has no list of storages", p->path);
    for (uint32_t i = 0; i < keys->list.count; i++) {
        const bf_pickle_value *key = keys->list.items[i];
        storage *place = key->kind == BF_PICKLE_TEXT ? find(s, key->text) : NULL;
        if (!place) return bf_fail(p->error, BNFF_E_FORMAT, "%s: storage %u is of a type that nothing tells", p->path, i);
        if (p->size - at < COUNT_BYTES) return truncated(p);
        const uint64_t elements = bf_le64(p->bytes + at);
        at += COUNT_BYTES;
        if (elements > (p->size - at) / (size_t)place->item) return truncated(p);
        place->bytes = p->bytes + at;
        place->size = (size_t)elements * (size_t)place->item;
        at += place->size;
    }
    return BNFF_OK;
}

static bnff_status check_system(const bf_pickle *p, const bf_pickle_value *protocol, const bf_pickle_value *system)
{
    if (protocol->kind != BF_PICKLE_INT || protocol->integer != PROTOCOL)
        return bf_fail(p->error, BNFF_E_UNSUPPORTED, "%s: its torch.save protocol is not %d", p->path, PROTOCOL);
    if (system->kind != BF_PICKLE_DICT) return bf_fail(p->error, BNFF_E_FORMAT, "%s: it does not describe its system", p->path);
    for (uint32_t i = 0; i + 1 < system->list.count; i += 2) {
        const bf_pickle_value *key = system->list.items[i], *value = system->list.items[i + 1];
        if (key->kind == BF_PICKLE_TEXT && bf_text_is(key->text, "little_endian") && value->kind == BF_PICKLE_BOOL && !value->integer)
            return bf_fail(p->error, BNFF_E_UNSUPPORTED, "%s: written on a big-endian machine", p->path);
    }
    return BNFF_OK;
}

/* The first pickle is torch's magic number 0x1950a86a20f9469cfc6c: PROTO n, from protocol 4 on FRAME and its length, LONG1. */
static bnff_status check_magic(const bf_pickle *p)
{
    static const unsigned char magic[] = {0x8a, 0x0a, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.'};
    const size_t at = p->size > 2 && p->bytes[2] == 0x95 ? 11 : 2;
    if (p->size >= at + sizeof magic && !memcmp(p->bytes + at, magic, sizeof magic)) return BNFF_OK;
    bf_fail(p->error, BNFF_E_FORMAT, "%s: a pickle, but not one of torch.save", p->path);
    return bf_hint(p->error, BNFF_E_FORMAT, "in Python: torch.save(model.state_dict(), 'weights.pth')");
}

static bnff_status read_stream(stream *s, bf_pickle *p, bnff_weights *weights)
{
    const bf_pickle_value *magic, *protocol, *system, *object, *keys;
    BF_TRY(check_magic(p));
    BF_TRY(bf_pickle_load(p, &magic));
    BF_TRY(bf_pickle_load(p, &protocol));
    BF_TRY(bf_pickle_load(p, &system));
    BF_TRY(check_system(p, protocol, system));
    BF_TRY(bf_pickle_load(p, &object));
    BF_TRY(list_storages(s, p));
    BF_TRY(bf_pickle_load(p, &keys));
    BF_TRY(place_storages(s, p, keys));
    bf_pth pth = {.weights = weights, .path = p->path, .error = p->error, .locate = locate, .container = s};
    return bf_pth_collect(&pth, object);
}

bnff_status bf_pth_legacy_read(bnff_weights *weights, bnff_error *error)
{
    stream s = {0};
    bf_pickle pickle = {.path = weights->path, .bytes = weights->view.bytes, .size = weights->view.size, .error = error};
    const bnff_status status = read_stream(&s, &pickle, weights);
    bf_pickle_free(&pickle);
    bf_free(s.storages);
    return status;
}
