/* The facts that `bnff doctor` reports. */
#define _GNU_SOURCE
#include <bnff/machine.h>

#include <jansson.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <jpeglib.h>
#include <spng.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>

#include "base/env.h"
#include "base/memory.h"
#include "base/target.h"
#include "base/threads.h"
#include "kernels/kernels.h"

#define TEXT(x) #x
#define TEXT_OF(x) TEXT(x)

static void describe_threads(bnff_machine *m)
{
    cpu_set_t set;
    m->cpus = (int)sysconf(_SC_NPROCESSORS_ONLN);
    m->cpus_allowed = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : m->cpus;
    m->cpus_quota = bf_threads_quota();
    const char *text;
    m->threads = bf_env_threads(&m->threads_from, &text);
    if (m->threads) return;
    m->threads = bf_threads_available();
    m->threads_from = m->cpus_quota && m->cpus_quota < m->cpus_allowed ? "cgroup quota" : "affinity mask";
}

void bnff_machine_describe(bnff_machine *machine)
{
    bnff_machine m = {.size = machine->size};
    bf_cpu_name(m.cpu, sizeof m.cpu);
    describe_threads(&m);
    const bf_target target = bf_target_detect();
    m.l1 = target.l1;
    m.l2 = target.l2;
    m.l3 = target.l3;
    m.memory_total = bf_memory_total();
    m.memory_available = bf_memory_available();
    m.memory_limit = bf_memory_limit();
    m.resident = bf_memory_resident();
    m.resident_peak = bf_memory_peak();
    memcpy(machine, &m, machine->size < sizeof m ? machine->size : sizeof m);
}

const char *bnff_isa_name(int index)
{
    if (index < 0) return NULL;
    const bf_kernels *kernels = bf_kernels_at(index);
    return kernels ? kernels->isa : NULL;
}

const char *bnff_library_name(int index, const char **version)
{
#ifdef LIBJPEG_TURBO_VERSION
    static const char jpeg[] = TEXT_OF(LIBJPEG_TURBO_VERSION);
#else
    static const char jpeg[] = TEXT_OF(JPEG_LIB_VERSION);
#endif
    const struct { const char *name, *version; } libraries[] = {
        {"libjpeg", jpeg}, {"libspng", spng_version_string()}, {"jansson", jansson_version_str()}, {"zlib", zlibVersion()},
    };
    if (index < 0 || index >= (int)(sizeof libraries / sizeof *libraries)) return NULL;
    if (version) *version = libraries[index].version;
    return libraries[index].name;
}
