/* Status codes and error messages shared by every bnff function that can fail. */
#ifndef BNFF_STATUS_H
#define BNFF_STATUS_H

#if defined(__GNUC__)
#define BNFF_API __attribute__((visibility("default")))
#define BNFF_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define BNFF_API
#define BNFF_PRINTF(fmt, args)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef enum bnff_status {
    BNFF_OK = 0,
    BNFF_E_ARG,         /* an argument or option is outside what its documentation allows */
    BNFF_E_SHAPE,       /* shapes do not fit together, or a shape is too small for an operator */
    BNFF_E_MEMORY,      /* an allocation failed, or a plan needs more memory than there is */
    BNFF_E_IO,          /* the operating system refused: open, read, write, rename, ... (errno is in the message) */
    BNFF_E_FORMAT,      /* a file's bytes break the rules of its format */
    BNFF_E_STATE,       /* a call out of order, such as backward before forward */
    BNFF_E_UNSUPPORTED, /* legal, but nothing here implements it */
    BNFF_E_DIVERGED,    /* training produced a value that is not finite */
    BNFF_E_INTERRUPTED, /* a stop was asked for and obeyed */
    BNFF_E_INTERNAL     /* a bug in bnff: please report it */
} bnff_status;

/**
 * What went wrong, for people. The caller owns the struct; every function that takes a `bnff_error *` accepts NULL,
 * leaves it alone on success and fills it on failure. One struct a thread: nothing is global.
 *   message: one line, no final period: what failed, where (file, offset, node), the value, the rule
 *   hint:    the remedy, or ""
 */
typedef struct bnff_error {
    bnff_status status;
    char message[1024];
    char hint[512];
} bnff_error;

/** A status in words ("out of memory"); never NULL. */
BNFF_API const char *bnff_status_text(bnff_status status);

/** The library's version, "MAJOR.MINOR.PATCH". */
BNFF_API const char *bnff_version(void);

#ifdef __cplusplus
}
#endif
#endif
