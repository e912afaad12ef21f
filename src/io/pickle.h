/* A restricted unpickler for what torch.save writes: it builds values and calls nothing.
 *
 * A pickle is a program for a stack machine; in Python it may name any function and have it called. Here a name becomes a
 * value (BF_PICKLE_CLASS) that only says which name it was. "Calling" the few names that torch.save uses to describe
 * tensors gives a description of the tensor; "calling" any other gives an object without contents (BF_PICKLE_OPAQUE).
 * Strings point into the pickle's bytes; all else lives in an arena of bounded size that is freed at once.
 */
#ifndef BF_PICKLE_H
#define BF_PICKLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <bnff/status.h>
#include <bnff/weights.h>

typedef enum bf_pickle_kind {
    BF_PICKLE_NONE,
    BF_PICKLE_BOOL,    /* integer */
    BF_PICKLE_INT,     /* integer */
    BF_PICKLE_TEXT,    /* text: str, or bytes of Python 2 */
    BF_PICKLE_TUPLE,   /* list */
    BF_PICKLE_LIST,    /* list */
    BF_PICKLE_DICT,    /* list: key, value, key, value, ... */
    BF_PICKLE_CLASS,   /* class */
    BF_PICKLE_STORAGE, /* storage */
    BF_PICKLE_TENSOR,  /* tensor */
    BF_PICKLE_OPAQUE   /* class: of which it is an object; anything not needed: float, bytes, set, foreign objects */
} bf_pickle_kind;

typedef struct bf_text_span {
    const char *bytes; /* not terminated */
    size_t length;
} bf_text_span;

/* Element type of a storage or tensor: one that is read, or only its size is known. */
typedef struct bf_torch_type {
    const char *name; /* "FloatStorage", "float32" */
    int dtype;        /* bnff_dtype, or -1 */
    int size;         /* bytes an element */
} bf_torch_type;

typedef struct bf_pickle_value bf_pickle_value;
struct bf_pickle_value {
    bf_pickle_kind kind;
    union {
        int64_t integer;
        bf_text_span text;
        struct {
            bf_pickle_value **items;
            uint32_t count, capacity;
        } list;
        struct {
            bf_text_span module, name;
            int role;                  /* bf_torch_role */
            const bf_torch_type *type; /* of storage classes and dtypes */
        } class;
        struct {
            bf_text_span key;
            const bf_torch_type *type;
            int64_t elements, first;     /* first: where a view begins in its storage */
            const bf_pickle_value *next; /* the storage met before this one */
        } storage;
        struct {
            const bf_pickle_value *storage, *sizes, *strides;
            const bf_torch_type *type;
            int64_t offset; /* in elements */
            bool lazy;      /* conjugated or negated when read, which is not done here */
        } tensor;
    };
};

typedef struct bf_pickle {
    const char *path;           /* for messages */
    const unsigned char *bytes; /* of the file or entry: */
    size_t size;
    size_t position;            /* where the next pickle begins */
    bnff_error *error;          /* not NULL */
    const bf_pickle_value *storages; /* all storages met, the last first */
    struct bf_pickle_block *blocks;  /* arena */
    size_t block_left, arena_bytes;
    bf_pickle_value **stack, **memo;
    size_t *marks;
    int stack_count, stack_capacity, memo_count, memo_capacity, mark_count, mark_capacity;
} bf_pickle;

/* Run one pickle, from p->position to its end. *root lives until bf_pickle_free. */
bnff_status bf_pickle_load(bf_pickle *p, const bf_pickle_value **root);
void bf_pickle_free(bf_pickle *p);

/* For pickle_torch.c: a new zeroed value of that kind, NULL after an error; a failure at the current position. */
bf_pickle_value *bf_pickle_new(bf_pickle *p, bf_pickle_kind kind);
bnff_status bf_pickle_broken(bf_pickle *p, const char *what);
bool bf_pickle_append(bf_pickle *p, bf_pickle_value *list, bf_pickle_value *item);

/* -- What torch's names mean (pickle_torch.c) -- */
void bf_torch_resolve(bf_pickle_value *class);
/* The value of function(*args); NULL after an error. */
bf_pickle_value *bf_torch_call(bf_pickle *p, const bf_pickle_value *function, bf_pickle_value *args);
/* The value of a persistent id: a storage. */
bf_pickle_value *bf_torch_persistent(bf_pickle *p, const bf_pickle_value *id);

bool bf_text_is(bf_text_span text, const char *string);

#endif
