#include "base/target.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/threads.h"

/* The first number of a file in CPU 0's cache folder; 0 if there is none. `unit`: the character after it. */
static size_t cache_fact(const char *name, char *unit)
{
    char path[96];
    unsigned long value = 0;
    *unit = '\0';
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu0/cache/index3/%s", name);
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    if (fscanf(file, "%lu%c", &value, unit) < 1) value = 0;
    fclose(file);
    return value;
}

/* CPUs in CPU 0's shared_cpu_map, hexadecimal words with commas between. */
static int cpus_sharing_l3(void)
{
    int cpus = 0;
    FILE *file = fopen("/sys/devices/system/cpu/cpu0/cache/index3/shared_cpu_map", "re");
    if (!file) return 0;
    for (int c; (c = getc(file)) != EOF;) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : 0;
        cpus += __builtin_popcount((unsigned)digit);
    }
    fclose(file);
    return cpus;
}

/* Last level caches that the CPUs we may use have together; 0 if the kernel does not tell. sysconf gives the whole socket's to a virtual
 * machine that has two of its cores. */
static size_t shared_cache(void)
{
    char unit;
    const size_t size = cache_fact("size", &unit) * (unit == 'K' ? (size_t)1 << 10 : unit == 'M' ? (size_t)1 << 20 : 1);
    const int sharing = cpus_sharing_l3(), cpus = bf_threads_available();
    return size && sharing ? size * (size_t)((cpus + sharing - 1) / sharing) : size;
}

bf_target bf_target_detect(void)
{
    bf_target target = {.l1 = 32 << 10, .l2 = 1 << 20, .l3 = 16 << 20};
#ifdef _SC_LEVEL1_DCACHE_SIZE
    const long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (l1 > 0) target.l1 = (size_t)l1;
    if (l2 > 0) target.l2 = (size_t)l2;
    if (l3 > 0) target.l3 = (size_t)l3;
#endif
    const size_t shared = shared_cache();
    if (shared) target.l3 = shared;
    return target;
}

bool bf_target_set_caches(bf_target *target, const char *text)
{
    size_t sizes[3];
    for (int i = 0; i < 3; i++) {
        char *end;
        if (*text < '0' || *text > '9') return false;
        const unsigned long long value = strtoull(text, &end, 10);
        const int shift = *end == 'K' ? 10 : *end == 'M' ? 20 : 0;
        if (value == 0 || value > (1ull << 40 >> shift)) return false;
        sizes[i] = (size_t)value << shift;
        if (i && sizes[i] <= sizes[i - 1]) return false;
        text = end + (shift != 0);
        if (*text != (i < 2 ? ',' : '\0')) return false;
        text++;
    }
    target->l1 = sizes[0], target->l2 = sizes[1], target->l3 = sizes[2];
    return true;
}

const char *bf_cpu_isa(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512dq")) return "avx512";
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return "avx2";
    return "plain";
#elif defined(__aarch64__)
    return "neon";
#else
    return "plain";
#endif
}

void bf_cpu_name(char *text, size_t size)
{
    snprintf(text, size, "unknown CPU");
    FILE *file = fopen("/proc/cpuinfo", "re");
    if (!file) return;
    char line[256];
    while (fgets(line, sizeof line, file)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        colon[strcspn(colon, "\n")] = '\0';
        snprintf(text, size, "%s", colon + 2);
        break;
    }
    fclose(file);
}
