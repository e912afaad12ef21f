/* The one place where bnff asks for memory, and sizes that cannot overflow. */
#ifndef BF_MEMORY_H
#define BF_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <bnff/context.h>

/* malloc, calloc, realloc, strdup, free. Tests make the k-th call fail by wrapping these symbols at link time. */
void *bf_alloc(size_t bytes);
void *bf_calloc(size_t count, size_t bytes); /* zeroed; NULL if count * bytes overflows */
void *bf_realloc(void *memory, size_t count, size_t bytes);
char *bf_strdup(const char *text);
void bf_free(void *memory);

/* Make room for one more item in a growing array: *items of *capacity items of `bytes` each, `count` in use.
 * false, and nothing changed, when there is no memory. */
bool bf_grow(void **items, int *capacity, int count, size_t bytes);

/* Large, 64-byte aligned, zeroed buffers (arenas) from the context's allocator; default mmap asking for 2 MiB pages. */
void *bf_pages_alloc(const bnff_allocator *allocator, size_t bytes);
void bf_pages_free(const bnff_allocator *allocator, void *memory, size_t bytes);

/* *out = a * b, a + b; false on overflow. */
static inline bool bf_size_mul(size_t a, size_t b, size_t *out) { return !__builtin_mul_overflow(a, b, out); }
static inline bool bf_size_add(size_t a, size_t b, size_t *out) { return !__builtin_add_overflow(a, b, out); }

/* Physical memory this process may still take: the smaller of MemAvailable and what its cgroups leave. 0 if unknown. */
size_t bf_memory_available(void);
/* Physical memory of the machine, and the limit of this process's cgroup (0: none). 0 if unknown. */
size_t bf_memory_total(void);
size_t bf_memory_limit(void);
/* Resident set of this process now, and its peak, in bytes. 0 if unknown. */
size_t bf_memory_resident(void);
size_t bf_memory_peak(void);

#endif
