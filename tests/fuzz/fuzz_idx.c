/* idx files, plain or gzip: first byte of the input even for labels, odd for images. */
#include <stddef.h>
#include <stdint.h>

#include "base/memory.h"
#include "data/idx.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size) return 0;
    const int rank = data[0] % 2 ? 3 : 1;
    bf_idx idx;
    bnff_error error;
    uint64_t sum = 0;
    if (bf_idx_parse(data + 1, size - 1, "input", rank, &idx, &error) == BNFF_OK) {
        size_t bytes = 1;
        for (int i = 0; i < rank; i++) bytes *= (size_t)idx.size[i];
        for (size_t i = 0; i < bytes; i++) sum += idx.data[i];
    }
    bf_free(idx.data);
    return sum == UINT64_MAX; /* never: keeps the reads */
}
