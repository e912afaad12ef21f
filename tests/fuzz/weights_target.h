/* What both fuzz targets for weight files do: read it, and if that succeeds touch every byte of it. */
#ifndef BNFF_TESTS_FUZZ_WEIGHTS_TARGET_H
#define BNFF_TESTS_FUZZ_WEIGHTS_TARGET_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "io/weights.h"

static void use_weights(const bnff_weights *weights)
{
    bnff_weights_entry entry;
    const char *key, *value;
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) {
        float *values = malloc(sizeof *values * ((size_t)entry.elements + 1));
        if (!values) abort();
        bnff_weights_to_f32(&entry, values);
        free(values);
        if (bnff_weights_find(weights, entry.name) != i) abort();
    }
    for (int i = 0; bnff_weights_metadata_at(weights, i, &key, &value); i++)
        if (bnff_weights_metadata(weights, key) != value) abort();
}

/* `size` bytes as a file: a set of weights, or a failure that says why. */
static int read_weights(const uint8_t *data, size_t size)
{
    bnff_weights *weights;
    bnff_error error = {0};
    void *copy = bf_alloc(size); /* of that very size: what is read beyond it is seen by the sanitizer */
    if (!copy) return 0;
    if (size) memcpy(copy, data, size);
    const bnff_status status = bf_weights_read("file", (bf_view){copy, size, false}, &weights, &error);
    if (status != BNFF_OK) {
        if (weights || error.status != status || !error.message[0]) abort();
        return 0;
    }
    use_weights(weights);
    bnff_weights_destroy(&weights);
    return 0;
}

#endif
