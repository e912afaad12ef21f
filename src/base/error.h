/* Filling in a bnff_error, and passing failures on. */
#ifndef BF_ERROR_H
#define BF_ERROR_H

#include <bnff/status.h>

/* Record a failure in *error (which may be NULL) and return `status`. The message is one line, without a final period. */
bnff_status bf_fail(bnff_error *error, bnff_status status, const char *format, ...) BNFF_PRINTF(3, 4);
/* Add the remedy to the failure recorded last in *error; returns its status (or `status` if error is NULL). */
bnff_status bf_hint(bnff_error *error, bnff_status status, const char *format, ...) BNFF_PRINTF(3, 4);

/* Return from the calling function with the status of `call` unless it is BNFF_OK. */
#define BF_TRY(call)                              \
    do {                                          \
        const bnff_status bf_try_ = (call);       \
        if (bf_try_ != BNFF_OK) return bf_try_;   \
    } while (0)

/* Jump to `fail:` with the status of `call` in the local `status` unless it is BNFF_OK. */
#define BF_GO(call)                                        \
    do {                                                   \
        if ((status = (call)) != BNFF_OK) goto fail;       \
    } while (0)

/* The entry of names[0..count) nearest to `name` by edit distance, for "did you mean"; NULL if count is 0. */
const char *bf_nearest(const char *name, const char *const *names, int count);

#endif
