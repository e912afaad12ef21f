/* Saying why a state dict does not fit: short lists, each name beside the nearest one that is left over on the other side. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "model/state_match.h"

enum { LISTED_MAX = 10, CANDIDATES_MAX = 2000, SHAPE_BYTES = 128 };

typedef struct page {
    char *text;
    size_t size, length;
} page;

static BNFF_PRINTF(2, 3) void add(page *out, const char *format, ...)
{
    va_list args;
    if (out->length + 1 >= out->size) return;
    va_start(args, format);
    const int wrote = vsnprintf(out->text + out->length, out->size - out->length, format, args);
    va_end(args);
    const size_t left = out->size - out->length - 1;
    if (wrote > 0) out->length += (size_t)wrote < left ? (size_t)wrote : left;
}

/* Names come from a file: they must not break lines or steer a terminal. */
static void add_name(page *out, const char *before, const char *name)
{
    add(out, "%s", before);
    const size_t start = out->length;
    add(out, "%.100s", name);
    for (size_t i = start; i < out->length; i++)
        if ((unsigned char)out->text[i] < ' ' || out->text[i] == 0x7F) out->text[i] = '?';
}

static const char *format_shape(char *text, int rank, const int64_t *shape)
{
    page out = {text, SHAPE_BYTES, 0};
    add(&out, "[");
    for (int i = 0; i < rank; i++) add(&out, "%s%lld", i ? ", " : "", (long long)shape[i]);
    add(&out, "]");
    return text;
}

/* Names that belong to nothing, at most CANDIDATES_MAX of each. */
typedef struct left_over {
    const char **missing, **unexpected; /* of parameters; of tensors of the file */
    int missing_count, unexpected_count;
} left_over;

static void find_left_over(const bf_match *m, left_over *names)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    for (int i = 0; i < m->params && names->missing_count < CANDIDATES_MAX; i++)
        if (m->fit[i] == BF_FIT_MISSING && bnff_graph_param(m->graph, i, &param)) names->missing[names->missing_count++] = param.name;
    for (int i = 0; i < m->entries && names->unexpected_count < CANDIDATES_MAX; i++)
        if (!m->taken[i] && bnff_weights_get(m->weights, i, &entry)) names->unexpected[names->unexpected_count++] = entry.name;
}

static void add_names(page *out, const char *what, const char *const *names, int listed, int total, const char *const *others, int other_count)
{
    if (!total) return;
    add(out, "%s:\n", what);
    for (int i = 0; i < listed && i < LISTED_MAX; i++) {
        const char *nearest = bf_nearest(names[i], others, other_count);
        add_name(out, "  ", names[i]);
        if (nearest) add_name(out, "  (nearest: ", nearest);
        add(out, nearest ? ")\n" : "\n");
    }
    if (total > LISTED_MAX) add(out, "  and %d more\n", total - LISTED_MAX);
}

/* One line: what shape the file has it in; param is NULL for a num_batches_tracked. */
static void add_shape(page *out, const bnff_weights_entry *entry, const bnff_param_info *param)
{
    char have[SHAPE_BYTES], want[SHAPE_BYTES];
    add_name(out, "  ", entry->name);
    add(out, " is %s in the file, %s in the model\n", format_shape(have, entry->rank, entry->shape),
        param ? format_shape(want, param->rank, param->shape) : "one number");
}

static void add_shapes(page *out, const bf_match *m)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    int listed = 0;
    if (m->misshaped) add(out, "of another shape:\n");
    for (int i = 0; i < m->params && listed < LISTED_MAX && bnff_graph_param(m->graph, i, &param); i++) {
        if (m->fit[i] == BF_FIT_SHAPE && bnff_weights_get(m->weights, m->entry[i], &entry) && ++listed) add_shape(out, &entry, &param);
        if (bnff_weights_get(m->weights, m->batches[i], &entry) && entry.elements != 1 && ++listed) add_shape(out, &entry, NULL);
    }
    if (m->misshaped > listed) add(out, "  and %d more\n", m->misshaped - listed);
}

/* A tensor of the file that is named <prefix>.<missing>, where the prefix is the given one, or any if that is NULL; or NULL. */
static const char *find_prefixed(const left_over *names, const char *missing, const char *prefix, size_t prefix_length)
{
    const size_t length = strlen(missing);
    for (int i = 0; i < names->unexpected_count; i++) {
        const char *name = names->unexpected[i];
        const size_t whole = strlen(name);
        if (whole < length + 2 || name[whole - length - 1] != '.' || strcmp(name + whole - length, missing)) continue;
        if (!prefix || (whole == prefix_length + length && !strncmp(name, prefix, prefix_length))) return name;
    }
    return NULL;
}

/* A tensor of the file with the prefix that all names of the file seem to have more than those of the model (the first and the
 * last that are missing have it); its length, or 0. */
static size_t foreign_prefix(const left_over *names, const char **prefixed)
{
    if (!names->missing_count) return 0;
    const char *first = names->missing[0], *last = names->missing[names->missing_count - 1];
    if (!(*prefixed = find_prefixed(names, first, NULL, 0))) return 0;
    const size_t length = strlen(*prefixed) - strlen(first);
    return find_prefixed(names, last, *prefixed, length) ? length : 0;
}

static bnff_status add_hint(const bf_match *m, const left_over *names, bnff_error *error)
{
    const char *missing = names->missing_count ? names->missing[0] : NULL;
    const char *prefixed;
    const size_t prefix = foreign_prefix(names, &prefixed);
    const char *nearest = missing ? bf_nearest(missing, names->unexpected, names->unexpected_count) : NULL;
    if (prefix)
        return bf_hint(error, BNFF_E_SHAPE, "the file's names begin with '%.*s', the model's do not: save them without", (int)prefix, prefixed);
    if (m->missing > m->params / 2) return bf_hint(error, BNFF_E_SHAPE, "the file is of another architecture");
    if (nearest) return bf_hint(error, BNFF_E_SHAPE, "the model's '%.200s' may be the file's '%.200s'", missing, nearest);
    return bf_hint(error, BNFF_E_SHAPE, "the file is of another variant of the architecture");
}

/* The first tensor that does not fit, for the one-line message. */
static const char *first_name(const bf_match *m, const left_over *names)
{
    bnff_param_info param;
    bnff_weights_entry entry;
    if (names->missing_count) return names->missing[0];
    if (names->unexpected_count) return names->unexpected[0];
    for (int i = 0; i < m->params && bnff_graph_param(m->graph, i, &param); i++) {
        if (m->fit[i] == BF_FIT_SHAPE) return param.name;
        if (bnff_weights_get(m->weights, m->batches[i], &entry) && entry.elements != 1) return entry.name;
    }
    return "";
}

bnff_status bf_match_report(const bf_match *match, char *detail, size_t size, bnff_error *error)
{
    page out = {detail, size, 0};
    const char **memory = bf_calloc(2 * CANDIDATES_MAX, sizeof *memory);
    if (!memory) return bf_fail(error, BNFF_E_MEMORY, "no memory to list what does not fit");
    left_over names = {.missing = memory, .unexpected = memory + CANDIDATES_MAX};
    find_left_over(match, &names);
    /* Of another architecture's names none is near. */
    const bool related = match->missing <= match->params / 2;
    add_names(&out, "missing", names.missing, names.missing_count, match->missing, names.unexpected, related ? names.unexpected_count : 0);
    add_names(&out, "unexpected", names.unexpected, names.unexpected_count, match->unexpected, names.missing, related ? names.missing_count : 0);
    add_shapes(&out, match);
    const char *path = bnff_weights_path(match->weights);
    bf_fail(error, BNFF_E_SHAPE, "%s: its tensors do not fit the model: %d missing, %d unexpected, %d of another shape; the first is '%.200s'",
            path ? path : "weights", match->missing, match->unexpected, match->misshaped, first_name(match, &names));
    add_hint(match, &names, error);
    bf_free(memory);
    return BNFF_E_SHAPE;
}
