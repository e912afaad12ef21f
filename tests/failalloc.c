/* The linker sends calls of bf_x here as __wrap_bf_x, and calls of __real_bf_x to the library's own (ld --wrap).
 * Calls inside src/base/memory.c itself stay inside, so bf_strdup, bf_grow and bnff_free have wrappers of their own. */
#include "failalloc.h"

#include <stdatomic.h>

#include "base/memory.h"
#include "support.h"

static atomic_int countdown, live;

void fail_allocation(int k) { atomic_store(&countdown, k); }
int live_allocations(void) { return atomic_load(&live); }

/* True for the allocation that is to fail. The countdown rests at -1 once it has. */
static bool fails(void)
{
    int left = atomic_load(&countdown);
    while (left > 0)
        if (atomic_compare_exchange_weak(&countdown, &left, left - 1 ? left - 1 : -1)) return left == 1;
    return false;
}

static void *counted(void *memory)
{
    if (memory) atomic_fetch_add(&live, 1);
    return memory;
}

void *__real_bf_alloc(size_t bytes);
void *__wrap_bf_alloc(size_t bytes);
void *__wrap_bf_alloc(size_t bytes) { return fails() ? NULL : counted(__real_bf_alloc(bytes)); }

void *__real_bf_calloc(size_t count, size_t bytes);
void *__wrap_bf_calloc(size_t count, size_t bytes);
void *__wrap_bf_calloc(size_t count, size_t bytes) { return fails() ? NULL : counted(__real_bf_calloc(count, bytes)); }

void *__real_bf_realloc(void *memory, size_t count, size_t bytes);
void *__wrap_bf_realloc(void *memory, size_t count, size_t bytes);
void *__wrap_bf_realloc(void *memory, size_t count, size_t bytes)
{
    if (fails()) return NULL;
    void *grown = __real_bf_realloc(memory, count, bytes);
    return memory ? grown : counted(grown);
}

char *__real_bf_strdup(const char *text);
char *__wrap_bf_strdup(const char *text);
char *__wrap_bf_strdup(const char *text) { return fails() ? NULL : counted(__real_bf_strdup(text)); }

bool __real_bf_grow(void **items, int *capacity, int count, size_t bytes);
bool __wrap_bf_grow(void **items, int *capacity, int count, size_t bytes);
bool __wrap_bf_grow(void **items, int *capacity, int count, size_t bytes)
{
    if (count >= *capacity && fails()) return false;
    const bool first = !*items;
    if (!__real_bf_grow(items, capacity, count, bytes)) return false;
    if (first) counted(*items);
    return true;
}

void *__real_bf_pages_alloc(const bnff_allocator *allocator, size_t bytes);
void *__wrap_bf_pages_alloc(const bnff_allocator *allocator, size_t bytes);
void *__wrap_bf_pages_alloc(const bnff_allocator *allocator, size_t bytes)
{
    return fails() ? NULL : counted(__real_bf_pages_alloc(allocator, bytes));
}

void __real_bf_free(void *memory);
void __wrap_bf_free(void *memory);
void __wrap_bf_free(void *memory)
{
    if (memory) atomic_fetch_sub(&live, 1);
    __real_bf_free(memory);
}

void __real_bnff_free(void *memory);
void __wrap_bnff_free(void *memory);
void __wrap_bnff_free(void *memory)
{
    if (memory) atomic_fetch_sub(&live, 1);
    __real_bnff_free(memory);
}

void __real_bf_pages_free(const bnff_allocator *allocator, void *memory, size_t bytes);
void __wrap_bf_pages_free(const bnff_allocator *allocator, void *memory, size_t bytes);
void __wrap_bf_pages_free(const bnff_allocator *allocator, void *memory, size_t bytes)
{
    if (memory) atomic_fetch_sub(&live, 1);
    __real_bf_pages_free(allocator, memory, bytes);
}

int fail_each_allocation(failing_fn fn, void *arg)
{
    for (int k = 1;; k++) {
        const int before = live_allocations();
        bnff_error error = {.status = BNFF_OK};
        fail_allocation(k);
        const bnff_status status = fn(arg, &error);
        const bool met = atomic_load(&countdown) == -1;
        fail_allocation(0);
        const int leaked = live_allocations() - before;
        if (leaked) fail_msg("%s: allocation %d failed, and %d blocks leaked", test_case_name(), k, leaked);
        if (!met) {
            check_ok(status, &error);
            return k - 1;
        }
        if (status != BNFF_E_MEMORY) fail_msg("%s: allocation %d failed, and the call returned '%s' (%s)", test_case_name(), k, bnff_status_text(status), error.message);
        if (!error.message[0]) fail_msg("%s: allocation %d failed without a message", test_case_name(), k);
    }
}
