#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* Messages quote names from files: one must not break the line or steer a terminal. */
static void make_printable(char *text)
{
    for (; *text; text++)
        if ((unsigned char)*text < ' ' || *text == 0x7F) *text = '?';
}

bnff_status bf_fail(bnff_error *error, bnff_status status, const char *format, ...)
{
    if (!error) return status;
    va_list args;
    va_start(args, format);
    error->status = status;
    vsnprintf(error->message, sizeof error->message, format, args);
    make_printable(error->message);
    error->hint[0] = '\0';
    va_end(args);
    return status;
}

bnff_status bf_hint(bnff_error *error, bnff_status status, const char *format, ...)
{
    if (!error) return status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->hint, sizeof error->hint, format, args);
    make_printable(error->hint);
    va_end(args);
    return status;
}

const char *bnff_status_text(bnff_status status)
{
    switch (status) {
    case BNFF_OK:            return "success";
    case BNFF_E_ARG:         return "invalid argument";
    case BNFF_E_SHAPE:       return "shapes do not fit";
    case BNFF_E_MEMORY:      return "out of memory";
    case BNFF_E_IO:          return "input or output failed";
    case BNFF_E_FORMAT:      return "malformed file";
    case BNFF_E_STATE:       return "call out of order";
    case BNFF_E_UNSUPPORTED: return "not supported";
    case BNFF_E_DIVERGED:    return "training diverged";
    case BNFF_E_INTERRUPTED: return "interrupted";
    case BNFF_E_INTERNAL:    return "internal error";
    }
    return "unknown status";
}

const char *bnff_version(void) { return BNFF_VERSION; }

/* Levenshtein distance; names longer than the row are compared by their beginning. */
static int edit_distance(const char *a, const char *b)
{
    enum { LIMIT = 63 };
    int row[LIMIT + 1];
    const int n = (int)strnlen(a, LIMIT), m = (int)strnlen(b, LIMIT);
    for (int j = 0; j <= m; j++) row[j] = j;
    for (int i = 1; i <= n; i++) {
        int diagonal = row[0];
        row[0] = i;
        for (int j = 1; j <= m; j++) {
            const int substitute = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            int best = row[j] + 1 < row[j - 1] + 1 ? row[j] + 1 : row[j - 1] + 1;
            row[j] = substitute < best ? substitute : best;
        }
    }
    return row[m];
}

const char *bf_nearest(const char *name, const char *const *names, int count)
{
    const char *best = NULL;
    int distance = 0;
    for (int i = 0; i < count; i++) {
        const int d = edit_distance(name, names[i]);
        if (!best || d < distance) best = names[i], distance = d;
    }
    return best;
}
