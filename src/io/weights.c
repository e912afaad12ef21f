/* A set of named tensors: building it, looking into it, opening a file of any known format. */
#define _GNU_SOURCE /* qsort_r */
#include "io/weights.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

enum { RANK_MAX = sizeof ((bnff_weights_entry *)0)->shape / sizeof(int64_t) };

bnff_status bnff_weights_create(bnff_weights **weights, bnff_error *error)
{
    *weights = bf_calloc(1, sizeof **weights);
    return *weights ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory for a set of weights");
}

static void free_item(bf_weights_item *item)
{
    bf_free((char *)item->entry.name);
    bf_free(item->owned);
}

void bnff_weights_destroy(bnff_weights **weights)
{
    bnff_weights *w = *weights;
    if (!w) return;
    for (int i = 0; i < w->count; i++) free_item(&w->items[i]);
    for (int i = 0; i < w->pair_count; i++) bf_free(w->pairs[i].key), bf_free(w->pairs[i].value);
    bf_view_close(&w->view);
    bf_free(w->items);
    bf_free(w->by_name);
    bf_free(w->pairs);
    bf_free(w->path);
    bf_free(w);
    *weights = NULL;
}

int bnff_weights_count(const bnff_weights *weights) { return weights->count; }
const char *bnff_weights_path(const bnff_weights *weights) { return weights->path; }

bool bnff_weights_get(const bnff_weights *weights, int index, bnff_weights_entry *entry)
{
    if (index < 0 || index >= weights->count) return false;
    *entry = weights->items[index].entry;
    return true;
}

/* Position in by_name of the first name not below `name`; *found tells if it is that name. */
static int name_position(const bnff_weights *w, const char *name, bool *found)
{
    int low = 0, high = w->count;
    *found = false;
    while (low < high) {
        const int middle = low + (high - low) / 2;
        const int order = strcmp(w->items[w->by_name[middle]].entry.name, name);
        if (order == 0) return *found = true, middle;
        if (order < 0) low = middle + 1;
        else high = middle;
    }
    return low;
}

int bnff_weights_find(const bnff_weights *weights, const char *name)
{
    bool found;
    const int position = name_position(weights, name, &found);
    return found ? weights->by_name[position] : -1;
}

/* -- Metadata ----------------------------------------------------------------------------------------------------- */

static int pair_position(const bnff_weights *w, const char *key, bool *found)
{
    int i = 0, order = -1;
    while (i < w->pair_count && (order = strcmp(w->pairs[i].key, key)) < 0) i++;
    *found = i < w->pair_count && order == 0;
    return i;
}

const char *bnff_weights_metadata(const bnff_weights *weights, const char *key)
{
    bool found;
    const int i = pair_position(weights, key, &found);
    return found ? weights->pairs[i].value : NULL;
}

bool bnff_weights_metadata_at(const bnff_weights *weights, int index, const char **key, const char **value)
{
    if (index < 0 || index >= weights->pair_count) return false;
    *key = weights->pairs[index].key;
    *value = weights->pairs[index].value;
    return true;
}

bnff_status bnff_weights_set_metadata(bnff_weights *weights, const char *key, const char *value, bnff_error *error)
{
    bool found;
    const int i = pair_position(weights, key, &found);
    char *copy = bf_strdup(value), *name = found ? NULL : bf_strdup(key);
    if (!copy || (!found && !name) ||
        !bf_grow((void **)&weights->pairs, &weights->pair_capacity, weights->pair_count, sizeof *weights->pairs)) {
        bf_free(copy);
        bf_free(name);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for the metadata '%s'", key);
    }
    if (found) {
        bf_free(weights->pairs[i].value);
        weights->pairs[i].value = copy;
        return BNFF_OK;
    }
    memmove(weights->pairs + i + 1, weights->pairs + i, (size_t)(weights->pair_count - i) * sizeof *weights->pairs);
    weights->pairs[i] = (bf_pair){name, copy};
    weights->pair_count++;
    return BNFF_OK;
}

/* -- Filling ------------------------------------------------------------------------------------------------------ */

bnff_status bf_weights_append(bnff_weights *weights, const bnff_weights_entry *entry, void *owned, bnff_error *error)
{
    char *name = bf_strdup(entry->name);
    if (!name || !bf_grow((void **)&weights->items, &weights->capacity, weights->count, sizeof *weights->items) ||
        !bf_grow((void **)&weights->by_name, &weights->by_name_capacity, weights->count, sizeof *weights->by_name)) {
        bf_free(name);
        bf_free(owned);
        return bf_fail(error, BNFF_E_MEMORY, "no memory for the tensor '%s'", entry->name);
    }
    bf_weights_item *item = &weights->items[weights->count];
    *item = (bf_weights_item){*entry, owned};
    item->entry.name = name;
    weights->by_name[weights->count] = weights->count;
    weights->count++;
    return BNFF_OK;
}

static bool begins_with(const char *name, const char *prefix) { return !strncmp(name, prefix, strlen(prefix)); }

/* AveragedModel's counter, the one name in a wrapped state dict without the wrapper's prefix. */
static bool is_counter(const char *name) { return !strcmp(name, "n_averaged"); }

static bool all_begin_with(const bnff_weights *w, const char *prefix)
{
    int matches = 0;
    for (int i = 0; i < w->count; i++) {
        if (is_counter(w->items[i].entry.name)) continue;
        if (!begins_with(w->items[i].entry.name, prefix)) return false;
        matches++;
    }
    return matches > 0;
}

/* Cut `length` bytes out of a name, in place. */
static void cut(char *at, size_t length) { memmove(at, at + length, strlen(at + length) + 1); }

static void drop_counter(bnff_weights *w)
{
    int kept = 0;
    for (int i = 0; i < w->count; i++) {
        if (is_counter(w->items[i].entry.name)) free_item(&w->items[i]);
        else w->items[kept++] = w->items[i];
    }
    w->count = kept;
}

/* DataParallel, DDP and AveragedModel put "module." before every name, torch.compile "_orig_mod." before those of what it
 * compiled, be it the whole network or a part of it. "module." is kept when only some names have it: it is one's own then. */
static void strip_prefixes(bnff_weights *w)
{
    bool wrapped = false;
    for (int i = 0; i < w->count; i++) {
        char *name = (char *)w->items[i].entry.name;
        while (begins_with(name, "_orig_mod.")) cut(name, strlen("_orig_mod."));
        for (char *at; (at = strstr(name, "._orig_mod."));) cut(at, strlen("._orig_mod"));
    }
    while (all_begin_with(w, "module.")) {
        for (int i = 0; i < w->count; i++)
            if (!is_counter(w->items[i].entry.name)) cut((char *)w->items[i].entry.name, strlen("module."));
        wrapped = true;
    }
    if (wrapped) drop_counter(w);
}

/* torchvision's DenseNet files of 2017 and what was trained from them: "denselayer1.norm.1.weight" is "denselayer1.norm1.weight"
 * today. Takes the dot out, in place. */
static void modernise(char *name)
{
    static const char *const leaves[] = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"};
    char *at = strstr(name, "denselayer");
    if (!at) return;
    at += strlen("denselayer");
    while (isdigit((unsigned char)*at)) at++;
    if (!begins_with(at, ".norm.") && !begins_with(at, ".conv.")) return;
    char *dot = at + strlen(".norm");
    if ((dot[1] != '1' && dot[1] != '2') || dot[2] != '.') return;
    for (size_t i = 0; i < sizeof leaves / sizeof leaves[0]; i++)
        if (!strcmp(dot + 3, leaves[i])) return cut(dot, 1);
}

static int compare_names(const void *a, const void *b, void *items)
{
    const bf_weights_item *item = items;
    return strcmp(item[*(const int *)a].entry.name, item[*(const int *)b].entry.name);
}

bnff_status bf_weights_finish(bnff_weights *weights, bnff_error *error)
{
    strip_prefixes(weights);
    for (int i = 0; i < weights->count; i++) modernise((char *)weights->items[i].entry.name);
    for (int i = 0; i < weights->count; i++) weights->by_name[i] = i;
    if (weights->count) qsort_r(weights->by_name, (size_t)weights->count, sizeof(int), compare_names, weights->items);
    for (int i = 1; i < weights->count; i++) {
        const char *name = weights->items[weights->by_name[i]].entry.name;
        if (!strcmp(weights->items[weights->by_name[i - 1]].entry.name, name))
            return bf_fail(error, BNFF_E_FORMAT, "%s: two tensors are named '%s'", weights->path, name);
    }
    return BNFF_OK;
}

bool bf_is_utf8(const char *text)
{
    for (const unsigned char *p = (const unsigned char *)text; *p;) {
        const int more = *p < 0x80 ? 0 : *p >= 0xC2 && *p < 0xE0 ? 1 : (*p & 0xF0) == 0xE0 ? 2 : *p >= 0xF0 && *p < 0xF5 ? 3 : -1;
        if (more < 0) return false;
        const unsigned first = *p++;
        for (int i = 0; i < more; i++, p++) {
            if ((*p & 0xC0) != 0x80) return false;
            if (i == 0 && ((first == 0xE0 && *p < 0xA0) || (first == 0xED && *p > 0x9F) || (first == 0xF0 && *p < 0x90) ||
                           (first == 0xF4 && *p > 0x8F))) return false; /* overlong, surrogate, above U+10FFFF */
        }
    }
    return true;
}

static bnff_status check_entry(const bnff_weights *weights, const bnff_weights_entry *entry, size_t *bytes, bnff_error *error)
{
    if (!entry->name || !bf_is_utf8(entry->name) || !strcmp(entry->name, "__metadata__"))
        return bf_fail(error, BNFF_E_ARG, "a tensor cannot be named '%s'", entry->name ? entry->name : "(null)");
    if (bnff_weights_find(weights, entry->name) >= 0)
        return bf_fail(error, BNFF_E_ARG, "tensor '%s': there is one of that name already", entry->name);
    if ((unsigned)entry->dtype > BNFF_BOOL) return bf_fail(error, BNFF_E_ARG, "tensor '%s': dtype %d", entry->name, (int)entry->dtype);
    if (entry->rank < 0 || entry->rank > RANK_MAX)
        return bf_fail(error, BNFF_E_ARG, "tensor '%s': rank %d, must be 0 to %d", entry->name, entry->rank, RANK_MAX);
    int64_t elements;
    if (!bf_shape_bytes(entry->dtype, entry->rank, entry->shape, &elements, bytes) || elements != entry->elements)
        return bf_fail(error, BNFF_E_ARG, "tensor '%s': its shape does not have %lld elements", entry->name, (long long)entry->elements);
    if (*bytes && !entry->data) return bf_fail(error, BNFF_E_ARG, "tensor '%s' has no data", entry->name);
    return BNFF_OK;
}

bnff_status bnff_weights_add(bnff_weights *weights, const bnff_weights_entry *entry, bnff_error *error)
{
    size_t bytes;
    BF_TRY(check_entry(weights, entry, &bytes, error));
    bnff_weights_entry added = *entry;
    void *copy = bf_alloc(bytes);
    if (!copy) return bf_fail(error, BNFF_E_MEMORY, "no memory for %zu bytes of tensor '%s'", bytes, entry->name);
    added.data = bytes ? memcpy(copy, entry->data, bytes) : copy;
    bool found;
    const int position = name_position(weights, entry->name, &found);
    BF_TRY(bf_weights_append(weights, &added, copy, error));
    int *at = weights->by_name + position;
    memmove(at + 1, at, (size_t)(weights->count - 1 - position) * sizeof *at);
    *at = weights->count - 1;
    return BNFF_OK;
}
