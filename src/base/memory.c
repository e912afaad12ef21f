#include "base/memory.h"

#include <bnff/graph.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

void *bf_alloc(size_t bytes) { return malloc(bytes ? bytes : 1); }

void *bf_calloc(size_t count, size_t bytes) { return calloc(count ? count : 1, bytes ? bytes : 1); }

void *bf_realloc(void *memory, size_t count, size_t bytes)
{
    size_t total;
    if (!bf_size_mul(count, bytes, &total)) return NULL;
    return realloc(memory, total ? total : 1);
}

char *bf_strdup(const char *text)
{
    const size_t bytes = strlen(text) + 1;
    char *copy = bf_alloc(bytes);
    return copy ? memcpy(copy, text, bytes) : NULL;
}

void bf_free(void *memory) { free(memory); }

bool bf_grow(void **items, int *capacity, int count, size_t bytes)
{
    if (count < *capacity) return true;
    if (*capacity > INT32_MAX / 2) return false;
    const int larger = *capacity ? *capacity * 2 : 16;
    void *grown = bf_realloc(*items, (size_t)larger, bytes);
    if (!grown) return false;
    *items = grown;
    *capacity = larger;
    return true;
}

enum { HUGE_PAGE = 2 << 20 };

void *bf_pages_alloc(const bnff_allocator *allocator, size_t bytes)
{
    if (allocator && allocator->alloc) {
        void *memory = allocator->alloc(allocator->user, bytes);
        return memory ? memset(memory, 0, bytes) : NULL;
    }
    if (!bytes || bytes > SIZE_MAX / 2) return NULL;
    /* Map a huge page more than needed, cut both ends: transparent huge pages want aligned starts. */
    char *raw = mmap(NULL, bytes + HUGE_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (raw == MAP_FAILED) return NULL;
    char *start = (char *)(((uintptr_t)raw + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1));
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    char *end = (char *)(((uintptr_t)start + bytes + page - 1) & ~(uintptr_t)(page - 1));
    if (start > raw) munmap(raw, (size_t)(start - raw));
    if (end < raw + bytes + HUGE_PAGE) munmap(end, (size_t)(raw + bytes + HUGE_PAGE - end));
    madvise(start, bytes, MADV_HUGEPAGE);
    return start;
}

void bf_pages_free(const bnff_allocator *allocator, void *memory, size_t bytes)
{
    if (!memory) return;
    if (allocator && allocator->alloc) allocator->release(allocator->user, memory, bytes);
    else munmap(memory, bytes);
}

void bnff_free(void *memory) { bf_free(memory); }

/* Value of a "key: N kB" line of a /proc file, in bytes; 0 if absent. */
static size_t proc_kilobytes(const char *path, const char *key)
{
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[256];
    unsigned long long kilobytes = 0;
    const size_t length = strlen(key);
    while (fgets(line, sizeof line, file))
        if (!strncmp(line, key, length) && sscanf(line + length, ": %llu", &kilobytes) == 1) break;
    fclose(file);
    return (size_t)kilobytes * 1024;
}

/* A single number in a file; SIZE_MAX if there is none ("max", or no such file). */
static size_t file_number(const char *path)
{
    FILE *file = fopen(path, "re");
    if (!file) return SIZE_MAX;
    unsigned long long value;
    const int got = fscanf(file, "%llu", &value);
    fclose(file);
    return got == 1 ? (size_t)value : SIZE_MAX;
}

size_t bf_memory_available(void)
{
    size_t available = proc_kilobytes("/proc/meminfo", "MemAvailable");
    const size_t limit = file_number("/sys/fs/cgroup/memory.max"), used = file_number("/sys/fs/cgroup/memory.current");
    if (limit != SIZE_MAX && used != SIZE_MAX) {
        const size_t left = limit > used ? limit - used : 0;
        if (!available || left < available) available = left;
    }
    return available;
}

size_t bf_memory_total(void) { return proc_kilobytes("/proc/meminfo", "MemTotal"); }

size_t bf_memory_limit(void)
{
    const size_t limit = file_number("/sys/fs/cgroup/memory.max");
    return limit == SIZE_MAX ? 0 : limit;
}

size_t bf_memory_resident(void) { return proc_kilobytes("/proc/self/status", "VmRSS"); }

size_t bf_memory_peak(void)
{
    const size_t peak = proc_kilobytes("/proc/self/status", "VmHWM");
    if (peak) return peak;
    struct rusage usage;
    return getrusage(RUSAGE_SELF, &usage) ? 0 : (size_t)usage.ru_maxrss * 1024;
}
