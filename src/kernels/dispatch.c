#include "kernels/kernels.h"

#include <string.h>

static const bf_kernels plain = {.isa = "plain", .vector = 4};

const bf_kernels *bf_kernels_at(int index) { return index == 0 ? &plain : NULL; }

const bf_kernels *bf_kernels_find(const char *isa) { return strcmp(isa, "plain") ? NULL : &plain; }
