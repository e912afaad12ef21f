#include "kernels/kernels.h"

#include <string.h>

#include "base/target.h"

/* The tables of this build, best first. */
extern const bf_kernels bf_kernels_plain;
#if defined(__x86_64__)
extern const bf_kernels bf_kernels_avx2, bf_kernels_avx512;
static const bf_kernels *const tables[] = {&bf_kernels_avx512, &bf_kernels_avx2, &bf_kernels_plain};
#elif defined(__aarch64__)
extern const bf_kernels bf_kernels_neon;
static const bf_kernels *const tables[] = {&bf_kernels_neon, &bf_kernels_plain};
#else
static const bf_kernels *const tables[] = {&bf_kernels_plain};
#endif
enum { TABLES = sizeof tables / sizeof *tables };

/* Place of a name in tables, TABLES if it has none. */
static int place(const char *isa)
{
    int i = 0;
    while (i < TABLES && strcmp(tables[i]->isa, isa)) i++;
    return i;
}

const bf_kernels *bf_kernels_at(int index)
{
    const int at = place(bf_cpu_isa()) + index;
    return index >= 0 && at < TABLES ? tables[at] : NULL;
}

const bf_kernels *bf_kernels_find(const char *isa)
{
    const int at = place(isa);
    return at < TABLES && at >= place(bf_cpu_isa()) ? tables[at] : NULL;
}

const bf_kernels *bf_kernels_at_most(const char *isa)
{
    const int at = place(isa), best = place(bf_cpu_isa());
    return at == TABLES ? NULL : tables[at > best ? at : best];
}
