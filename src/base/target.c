#include "base/target.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

bf_target bf_target_detect(void)
{
    bf_target target = {.l1 = 32 << 10, .l2 = 1 << 20, .l3 = 16 << 20};
#ifdef _SC_LEVEL1_DCACHE_SIZE
    const long l1 = sysconf(_SC_LEVEL1_DCACHE_SIZE), l2 = sysconf(_SC_LEVEL2_CACHE_SIZE), l3 = sysconf(_SC_LEVEL3_CACHE_SIZE);
    if (l1 > 0) target.l1 = (size_t)l1;
    if (l2 > 0) target.l2 = (size_t)l2;
    if (l3 > 0) target.l3 = (size_t)l3;
#endif
    return target;
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
