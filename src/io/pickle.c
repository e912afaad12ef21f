#include "io/pickle.h"

#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "io/bytes.h"

/* Bounds. A state dict of a thousand tensors takes some 20 000 values and 2 MB. */
enum { ARENA_MAX = 512 << 20, BLOCK = 256 << 10, STACK_MAX = 1 << 22, MEMO_MAX = 1 << 24, LINE_MAX_BYTES = 4096 };

struct bf_pickle_block {
    struct bf_pickle_block *next;
    size_t size; /* keeps what follows 16-byte aligned */
};

bnff_status bf_pickle_broken(bf_pickle *p, const char *what)
{
    bf_fail(p->error, BNFF_E_FORMAT, "%s: pickle, byte %zu: %s", p->path, p->position, what);
    return bf_hint(p->error, BNFF_E_FORMAT, "the file is damaged, or not written by torch.save");
}

static bnff_status no_memory(bf_pickle *p) { return bf_fail(p->error, BNFF_E_MEMORY, "%s: no memory for its pickle", p->path); }

/* -- Arena -------------------------------------------------------------------------------------------------------- */

static void *arena_alloc(bf_pickle *p, size_t bytes)
{
    bytes = (bytes + 15) & ~(size_t)15; /* callers stay far below SIZE_MAX */
    if (bytes > p->block_left) {
        const size_t size = bytes > BLOCK ? bytes : BLOCK;
        if (size > ARENA_MAX - p->arena_bytes) {
            bf_fail(p->error, BNFF_E_FORMAT, "%s: its pickle needs more than %d MiB of values", p->path, ARENA_MAX >> 20);
            return NULL;
        }
        struct bf_pickle_block *block = bf_alloc(sizeof *block + size);
        if (!block) return no_memory(p), NULL;
        *block = (struct bf_pickle_block){p->blocks, size};
        p->blocks = block;
        p->block_left = size;
        p->arena_bytes += size;
    }
    char *memory = (char *)(p->blocks + 1) + (p->blocks->size - p->block_left);
    p->block_left -= bytes;
    return memset(memory, 0, bytes);
}

bf_pickle_value *bf_pickle_new(bf_pickle *p, bf_pickle_kind kind)
{
    bf_pickle_value *value = arena_alloc(p, sizeof *value);
    if (value) value->kind = kind;
    return value;
}

bool bf_pickle_append(bf_pickle *p, bf_pickle_value *list, bf_pickle_value *item)
{
    if (list->list.count == list->list.capacity) {
        const uint32_t capacity = list->list.capacity ? 2 * list->list.capacity : 4; /* the arena's bound comes first */
        bf_pickle_value **items = arena_alloc(p, capacity * sizeof *items);
        if (!items) return false;
        if (list->list.count) memcpy(items, list->list.items, list->list.count * sizeof *items);
        list->list.items = items;
        list->list.capacity = capacity;
    }
    list->list.items[list->list.count++] = item;
    return true;
}

void bf_pickle_free(bf_pickle *p)
{
    while (p->blocks) {
        struct bf_pickle_block *next = p->blocks->next;
        bf_free(p->blocks);
        p->blocks = next;
    }
    bf_free(p->stack);
    bf_free(p->memo);
    bf_free(p->marks);
    *p = (bf_pickle){0};
}

bool bf_text_is(bf_text_span text, const char *string)
{
    return text.length == strlen(string) && !memcmp(text.bytes, string, text.length);
}

/* -- Stack, marks, memo ------------------------------------------------------------------------------------------- */

static bnff_status push(bf_pickle *p, bf_pickle_value *value)
{
    if (!value) return p->error->status; /* whoever failed to make it said why */
    if (p->stack_count >= STACK_MAX) return bf_pickle_broken(p, "the stack is too deep");
    if (!bf_grow((void **)&p->stack, &p->stack_capacity, p->stack_count, sizeof *p->stack)) return no_memory(p);
    p->stack[p->stack_count++] = value;
    return BNFF_OK;
}

/* Values above the last mark. */
static int above_mark(const bf_pickle *p) { return p->stack_count - (p->mark_count ? (int)p->marks[p->mark_count - 1] : 0); }

static bnff_status need(bf_pickle *p, int count) { return above_mark(p) >= count ? BNFF_OK : bf_pickle_broken(p, "the stack is empty"); }

static bf_pickle_value *pop(bf_pickle *p) { return p->stack[--p->stack_count]; }
static bf_pickle_value *top(bf_pickle *p) { return p->stack[p->stack_count - 1]; }

static bnff_status set_mark(bf_pickle *p)
{
    if (p->mark_count >= STACK_MAX) return bf_pickle_broken(p, "too many marks");
    if (!bf_grow((void **)&p->marks, &p->mark_capacity, p->mark_count, sizeof *p->marks)) return no_memory(p);
    p->marks[p->mark_count++] = (size_t)p->stack_count;
    return BNFF_OK;
}

/* Remove the last mark; *from is where the values above it begin. They stay on the stack. */
static bnff_status take_mark(bf_pickle *p, int *from)
{
    *from = 0;
    if (!p->mark_count) return bf_pickle_broken(p, "a mark is missing");
    *from = (int)p->marks[--p->mark_count];
    return BNFF_OK;
}

/* Python numbers the memo in order of storing, so an index beyond the next one is not from a pickler. */
static bnff_status memo_put(bf_pickle *p, uint32_t index)
{
    BF_TRY(need(p, 1));
    if (index > (uint32_t)p->memo_count) return bf_pickle_broken(p, "the memo's numbers leap");
    if (index >= MEMO_MAX) return bf_pickle_broken(p, "the memo is too large");
    if (!bf_grow((void **)&p->memo, &p->memo_capacity, p->memo_count, sizeof *p->memo)) return no_memory(p);
    p->memo[index] = top(p);
    if (index == (uint32_t)p->memo_count) p->memo_count++;
    return BNFF_OK;
}

static bnff_status memo_get(bf_pickle *p, uint32_t index)
{
    if (index >= (uint32_t)p->memo_count) return bf_pickle_broken(p, "an unknown memo number");
    return push(p, p->memo[index]);
}

/* -- Arguments of opcodes ----------------------------------------------------------------------------------------- */

static bnff_status take(bf_pickle *p, uint64_t count, const unsigned char **bytes)
{
    *bytes = NULL;
    if (count > p->size - p->position) return bf_pickle_broken(p, "it ends in the middle");
    *bytes = p->bytes + p->position;
    p->position += (size_t)count;
    return BNFF_OK;
}

/* An unsigned little-endian integer of 1, 2, 4 or 8 bytes. */
static bnff_status take_integer(bf_pickle *p, int width, uint64_t *value)
{
    const unsigned char *b;
    BF_TRY(take(p, (uint64_t)width, &b));
    *value = 0;
    for (int i = width - 1; i >= 0; i--) *value = *value << 8 | b[i];
    return BNFF_OK;
}

static bnff_status take_line(bf_pickle *p, bf_text_span *line)
{
    *line = (bf_text_span){0};
    const unsigned char *start = p->bytes + p->position;
    const size_t left = p->size - p->position, most = left < LINE_MAX_BYTES ? left : LINE_MAX_BYTES;
    const unsigned char *end = memchr(start, '\n', most);
    if (!end) return bf_pickle_broken(p, "a name without end");
    *line = (bf_text_span){(const char *)start, (size_t)(end - start)};
    p->position += line->length + 1;
    return BNFF_OK;
}

/* -- Opcodes ------------------------------------------------------------------------------------------------------ */

static bnff_status push_kind(bf_pickle *p, bf_pickle_kind kind) { return push(p, bf_pickle_new(p, kind)); }

static bnff_status push_integer(bf_pickle *p, bf_pickle_kind kind, int64_t integer)
{
    bf_pickle_value *value = bf_pickle_new(p, kind);
    if (value) value->integer = integer;
    return push(p, value);
}

/* LONG1, LONG4: two's complement; one that does not fit 64 bits is nothing a tensor needs. */
static bnff_status push_long(bf_pickle *p, int width)
{
    uint64_t length, value = 0;
    const unsigned char *b;
    BF_TRY(take_integer(p, width, &length));
    BF_TRY(take(p, length, &b));
    if (length > 8) return push_kind(p, BF_PICKLE_OPAQUE);
    for (uint64_t i = 0; i < length; i++) value |= (uint64_t)b[i] << 8 * i;
    if (length && length < 8 && b[length - 1] & 0x80) value |= UINT64_MAX << 8 * length;
    return push_integer(p, BF_PICKLE_INT, (int64_t)value);
}

static bnff_status push_int(bf_pickle *p, int width)
{
    uint64_t value;
    BF_TRY(take_integer(p, width, &value));
    return push_integer(p, BF_PICKLE_INT, width == 4 ? (int32_t)(uint32_t)value : (int64_t)value);
}

/* Strings with a length of `width` bytes before them. */
static bnff_status push_text(bf_pickle *p, int width, bf_pickle_kind kind)
{
    uint64_t length;
    const unsigned char *b;
    BF_TRY(take_integer(p, width, &length));
    BF_TRY(take(p, length, &b));
    bf_pickle_value *value = bf_pickle_new(p, kind);
    if (value && kind == BF_PICKLE_TEXT) value->text = (bf_text_span){(const char *)b, (size_t)length};
    return push(p, value);
}

static bnff_status skip(bf_pickle *p, int bytes)
{
    const unsigned char *b;
    return take(p, (uint64_t)bytes, &b);
}

static bnff_status push_class(bf_pickle *p, bf_text_span module, bf_text_span name)
{
    bf_pickle_value *value = bf_pickle_new(p, BF_PICKLE_CLASS);
    if (value) {
        value->class.module = module;
        value->class.name = name;
        bf_torch_resolve(value);
    }
    return push(p, value);
}

static bnff_status op_global(bf_pickle *p)
{
    bf_text_span module, name;
    BF_TRY(take_line(p, &module));
    BF_TRY(take_line(p, &name));
    return push_class(p, module, name);
}

static bnff_status op_stack_global(bf_pickle *p)
{
    BF_TRY(need(p, 2));
    const bf_pickle_value *name = pop(p), *module = pop(p);
    if (name->kind != BF_PICKLE_TEXT || module->kind != BF_PICKLE_TEXT) return bf_pickle_broken(p, "a class name that is no string");
    return push_class(p, module->text, name->text);
}

/* Collect the values from stack position `from` on into a new list or tuple, or pairs into a dict. */
static bnff_status collect(bf_pickle *p, int from, bf_pickle_kind kind)
{
    bf_pickle_value *value = bf_pickle_new(p, kind);
    if (kind == BF_PICKLE_DICT && (p->stack_count - from) % 2) return bf_pickle_broken(p, "a key without a value");
    for (int i = from; value && i < p->stack_count; i++)
        if (!bf_pickle_append(p, value, p->stack[i])) value = NULL;
    p->stack_count = from;
    return push(p, value);
}

static bnff_status collect_marked(bf_pickle *p, bf_pickle_kind kind)
{
    int from;
    BF_TRY(take_mark(p, &from));
    return collect(p, from, kind);
}

static bnff_status collect_some(bf_pickle *p, int count)
{
    BF_TRY(need(p, count));
    return collect(p, p->stack_count - count, BF_PICKLE_TUPLE);
}

/* Move the values from `from` on into the list or dict below them. Foreign objects and sets, which have no contents here,
 * drop them. */
static bnff_status extend(bf_pickle *p, int from, bf_pickle_kind kind)
{
    const int floor = p->mark_count ? (int)p->marks[p->mark_count - 1] : 0;
    if (from <= floor) return bf_pickle_broken(p, "the stack is empty");
    bf_pickle_value *container = p->stack[from - 1];
    const bool drop = container->kind == BF_PICKLE_OPAQUE;
    if (container->kind != kind && !drop) return bf_pickle_broken(p, "items for what is no container");
    if (kind == BF_PICKLE_DICT && (p->stack_count - from) % 2) return bf_pickle_broken(p, "a key without a value");
    for (int i = from; !drop && i < p->stack_count; i++)
        if (!bf_pickle_append(p, container, p->stack[i])) return push(p, NULL);
    p->stack_count = from;
    return BNFF_OK;
}

static bnff_status extend_marked(bf_pickle *p, bf_pickle_kind kind)
{
    int from;
    BF_TRY(take_mark(p, &from));
    return extend(p, from, kind);
}

static bnff_status extend_some(bf_pickle *p, int count, bf_pickle_kind kind)
{
    BF_TRY(need(p, count + 1));
    return extend(p, p->stack_count - count, kind);
}

static bnff_status pop_to_mark(bf_pickle *p)
{
    int from;
    BF_TRY(take_mark(p, &from));
    p->stack_count = from;
    return BNFF_OK;
}

static bnff_status op_pop(bf_pickle *p)
{
    if (above_mark(p) == 0 && p->mark_count) return p->mark_count--, BNFF_OK; /* POP may remove a mark */
    BF_TRY(need(p, 1));
    pop(p);
    return BNFF_OK;
}

/* REDUCE, NEWOBJ (keywords = 0) and NEWOBJ_EX (1): describe class(*args). */
static bnff_status op_call(bf_pickle *p, int keywords)
{
    BF_TRY(need(p, 2 + keywords));
    if (keywords) pop(p);
    bf_pickle_value *args = pop(p);
    const bf_pickle_value *function = pop(p);
    if (args->kind != BF_PICKLE_TUPLE) return bf_pickle_broken(p, "arguments that are no tuple");
    return push(p, bf_torch_call(p, function, args));
}

/* BUILD sets attributes, which no value here has: state dicts carry their _metadata so. */
static bnff_status op_build(bf_pickle *p)
{
    BF_TRY(need(p, 2));
    pop(p);
    return BNFF_OK;
}

static bnff_status op_persistent(bf_pickle *p)
{
    BF_TRY(need(p, 1));
    return push(p, bf_torch_persistent(p, pop(p)));
}

static bnff_status op_put(bf_pickle *p, int width)
{
    uint64_t index;
    BF_TRY(take_integer(p, width, &index));
    return memo_put(p, (uint32_t)index);
}

static bnff_status op_get(bf_pickle *p, int width)
{
    uint64_t index;
    BF_TRY(take_integer(p, width, &index));
    return memo_get(p, (uint32_t)index);
}

static bnff_status op_dup(bf_pickle *p)
{
    BF_TRY(need(p, 1));
    return push(p, top(p));
}

static bnff_status op_proto(bf_pickle *p)
{
    uint64_t version;
    BF_TRY(take_integer(p, 1, &version));
    return version >= 2 && version <= 5 ? BNFF_OK : bf_pickle_broken(p, "its protocol is not 2 to 5");
}

static bnff_status unknown(bf_pickle *p, int code)
{
    bf_fail(p->error, BNFF_E_FORMAT, "%s: pickle, byte %zu: code 0x%02x is none that torch.save writes", p->path, p->position - 1, code);
    return bf_hint(p->error, BNFF_E_FORMAT, "the file is damaged, or not written by torch.save");
}

/* All opcodes but STOP. */
static bnff_status execute(bf_pickle *p, int code)
{
    switch (code) {
    case 0x80: return op_proto(p);
    case 0x95: return skip(p, 8); /* FRAME: how much to read ahead */
    case '(': return set_mark(p);
    case '0': return op_pop(p);
    case '1': return pop_to_mark(p);
    case '2': return op_dup(p);
    case 'N': return push_kind(p, BF_PICKLE_NONE);
    case 0x88: return push_integer(p, BF_PICKLE_BOOL, 1);
    case 0x89: return push_integer(p, BF_PICKLE_BOOL, 0);
    case 'J': return push_int(p, 4); /* BININT is signed */
    case 'K': return push_int(p, 1);
    case 'M': return push_int(p, 2);
    case 0x8a: return push_long(p, 1);
    case 0x8b: return push_long(p, 4);
    case 'G': BF_TRY(skip(p, 8)); return push_kind(p, BF_PICKLE_OPAQUE); /* BINFLOAT */
    case 'U': case 0x8c: return push_text(p, 1, BF_PICKLE_TEXT);
    case 'T': case 'X': return push_text(p, 4, BF_PICKLE_TEXT);
    case 0x8d: return push_text(p, 8, BF_PICKLE_TEXT);
    case 'C': return push_text(p, 1, BF_PICKLE_OPAQUE); /* bytes, bytearray */
    case 'B': return push_text(p, 4, BF_PICKLE_OPAQUE);
    case 0x8e: case 0x96: return push_text(p, 8, BF_PICKLE_OPAQUE);
    case ']': return push_kind(p, BF_PICKLE_LIST);
    case '}': return push_kind(p, BF_PICKLE_DICT);
    case ')': return push_kind(p, BF_PICKLE_TUPLE);
    case 0x8f: return push_kind(p, BF_PICKLE_OPAQUE); /* EMPTY_SET */
    case 'l': return collect_marked(p, BF_PICKLE_LIST);
    case 'd': return collect_marked(p, BF_PICKLE_DICT);
    case 't': return collect_marked(p, BF_PICKLE_TUPLE);
    case 0x91: BF_TRY(pop_to_mark(p)); return push_kind(p, BF_PICKLE_OPAQUE); /* FROZENSET */
    case 0x85: return collect_some(p, 1);
    case 0x86: return collect_some(p, 2);
    case 0x87: return collect_some(p, 3);
    case 'a': return extend_some(p, 1, BF_PICKLE_LIST);
    case 'e': return extend_marked(p, BF_PICKLE_LIST);
    case 's': return extend_some(p, 2, BF_PICKLE_DICT);
    case 'u': return extend_marked(p, BF_PICKLE_DICT);
    case 0x90: return extend_marked(p, BF_PICKLE_OPAQUE); /* ADDITEMS to a set */
    case 'c': return op_global(p);
    case 0x93: return op_stack_global(p);
    case 'R': case 0x81: return op_call(p, 0);
    case 0x92: return op_call(p, 1);
    case 'b': return op_build(p);
    case 'Q': return op_persistent(p);
    case 'q': return op_put(p, 1);
    case 'r': return op_put(p, 4);
    case 0x94: return memo_put(p, (uint32_t)p->memo_count);
    case 'h': return op_get(p, 1);
    case 'j': return op_get(p, 4);
    default: return unknown(p, code);
    }
}

bnff_status bf_pickle_load(bf_pickle *p, const bf_pickle_value **root)
{
    p->stack_count = p->mark_count = p->memo_count = 0;
    *root = NULL;
    for (;;) {
        const unsigned char *code;
        BF_TRY(take(p, 1, &code));
        if (*code == '.') break;
        BF_TRY(execute(p, *code));
    }
    BF_TRY(need(p, 1));
    *root = top(p);
    return BNFF_OK;
}
