#define _GNU_SOURCE
#include "support.h"

#include <ftw.h>
#include <unistd.h>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(at, size) ((void)(at), (void)(size))
#endif

/* -- Output ------------------------------------------------------------------------------------------------------- */

/* cmocka 1.1 reports a skipped test as "not ok N # SKIP", which TAP readers take for a failure: drop the "not ". */
static ssize_t write_lines(void *cookie, const char *bytes, size_t size)
{
    (void)cookie;
    for (const char *line = bytes, *end = bytes + size, *next; line < end; line = next) {
        const char *newline = memchr(line, '\n', (size_t)(end - line));
        next = newline ? newline + 1 : end;
        const bool skipped = next - line > 7 && !memcmp(line, "not ok ", 7) && memmem(line, (size_t)(next - line), "# SKIP", 6);
        for (const char *from = line + (skipped ? 4 : 0); from < next;) {
            const ssize_t wrote = write(STDOUT_FILENO, from, (size_t)(next - from));
            if (wrote <= 0) return from - bytes;
            from += wrote;
        }
    }
    return (ssize_t)size;
}

void support_begin(void)
{
    static const cookie_io_functions_t functions = {.write = write_lines};
    setenv("CMOCKA_MESSAGE_OUTPUT", "TAP", 0);
    fflush(stdout);
    FILE *filter = fopencookie(NULL, "w", functions);
    if (!filter) return;
    setvbuf(filter, NULL, _IOLBF, 1 << 16);
    stdout = filter;
}

/* -- Cases -------------------------------------------------------------------------------------------------------- */

static char case_name[512] = "";
static uint64_t case_key, case_counter;
static bool unfinished; /* the running test has not come to its end */

const char *test_case_name(void) { return case_name[0] ? case_name : "(no case)"; }

void test_case(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(case_name, sizeof case_name, format, args);
    va_end(args);
    case_key = 0;
    case_counter = 0;
    for (const char *c = case_name; *c; c++) case_key = bf_random(case_key, (unsigned char)*c);
}

void support_run(void **state)
{
    void (*function)(void **) = (void (*)(void **))(uintptr_t)*state;
    *state = NULL;
    test_case("%s", "");
    unfinished = true;
    function(state);
    unfinished = false;
}

static void free_guards(void);

int support_finish(void **state)
{
    (void)state;
    if (unfinished && case_name[0]) {
        printf("# left in case: %s\n", case_name);
        fflush(stdout);
    }
    unfinished = false;
    free_guards();
    return 0;
}

/* Say what failed in the test's own output, where TAP readers and people look, and leave the test. */
static void fail_at(const char *file, int line, const char *format, ...) BNFF_PRINTF(3, 4);
static void fail_at(const char *file, int line, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    printf("# %s: %s\n", test_case_name(), text);
    fflush(stdout);
    _fail(file, line);
}

/* -- Random data --------------------------------------------------------------------------------------------------- */

double random_uniform(double low, double high) { return low + (high - low) * bf_random_uniform(case_key, case_counter++); }
double random_normal(void) { return bf_random_normal(case_key + 1, case_counter++); }
int random_int(int low, int high) { return low + (int)bf_random_below(case_key, case_counter++, (uint64_t)(high - low + 1)); }

void fill_uniform(float *x, size_t n, double low, double high)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)random_uniform(low, high);
}

void fill_normal(float *x, size_t n, double mean, double std)
{
    for (size_t i = 0; i < n; i++) x[i] = (float)(mean + std * random_normal());
}

/* -- Guarded arrays ------------------------------------------------------------------------------------------------ */

enum { GUARD = 64, CANARY = 0xA5 }; /* bytes on each side, and what they hold */

static struct guard { unsigned char *start; size_t bytes; } *guards;
static size_t guard_count;

void *guarded_bytes(size_t n)
{
    const size_t whole = (GUARD + n + GUARD + 63) / 64 * 64;
    unsigned char *start = aligned_alloc(64, whole);
    guards = realloc(guards, (guard_count + 1) * sizeof *guards);
    if (!start || !guards) {
        fprintf(stderr, "no memory for a test array of %zu bytes\n", n);
        exit(99);
    }
    guards[guard_count++] = (struct guard){start, n};
    memset(start, CANARY, whole);
    ASAN_POISON_MEMORY_REGION(start, GUARD);
    ASAN_POISON_MEMORY_REGION(start + GUARD + n, whole - GUARD - n);
    return start + GUARD;
}

float *guarded(size_t n)
{
    float *x = guarded_bytes(n * sizeof *x);
    for (size_t i = 0; i < n; i++) x[i] = NAN;
    return x;
}

/* Offset, from the array's first byte, of the first damaged canary; 0 if all are whole (byte 0 is no canary). */
static ptrdiff_t damage(const struct guard *g)
{
    for (ptrdiff_t i = -GUARD; i < (ptrdiff_t)g->bytes + GUARD; i++) {
        if (i == 0) i = (ptrdiff_t)g->bytes;
        if (g->start[GUARD + i] != CANARY) return i ? i : 1;
    }
    return 0;
}

static void free_guards(void)
{
    for (size_t i = 0; i < guard_count; i++) free(guards[i].start);
    free(guards);
    guards = NULL;
    guard_count = 0;
}

void check_guards(void)
{
    ptrdiff_t at = 0;
    size_t bytes = 0, which = 0;
    for (size_t i = 0; i < guard_count && !at; i++) {
        ASAN_UNPOISON_MEMORY_REGION(guards[i].start, guards[i].bytes + 2 * GUARD);
        at = damage(&guards[i]);
        bytes = guards[i].bytes;
        which = i;
    }
    free_guards();
    if (at) fail_at(__FILE__, __LINE__, "guarded array %zu of %zu bytes was overrun at byte %td", which, bytes, at);
}

/* -- Comparisons --------------------------------------------------------------------------------------------------- */

void support_close(double got, double want, double bound, const char *what, ptrdiff_t index, const char *file, int line)
{
    if (got == want || (isnan(got) && isnan(want)) || fabs(got - want) <= bound) return;
    char place[32] = "";
    if (index >= 0) snprintf(place, sizeof place, "[%td]", index);
    fail_at(file, line, "%s%s = %.9g, not %.9g: off by %.3g, bound %.3g", what, place, got, want, fabs(got - want), bound);
}

void support_floats(const float *got, const double *want, size_t n, double bound, const char *what, const char *file, int line)
{
    for (size_t i = 0; i < n; i++) support_close(got[i], want[i], bound, what, (ptrdiff_t)i, file, line);
}

void support_same_bits(const float *got, const float *want, size_t n, const char *what, const char *file, int line)
{
    for (size_t i = 0; i < n; i++)
        if (memcmp(&got[i], &want[i], sizeof *got)) fail_at(file, line, "%s[%zu] = %.9g (%a), not %.9g (%a)", what, i, got[i], got[i], want[i], want[i]);
}

void support_status(bnff_status got, bnff_status want, const bnff_error *error, const char *words, const char *call, const char *file, int line)
{
    const char *message = error && got != BNFF_OK ? error->message : "", *hint = error && got != BNFF_OK ? error->hint : "";
    if (got != want) fail_at(file, line, "%s: '%s' (%s%s%s), not '%s'", call, bnff_status_text(got), message, *hint ? "; hint: " : "", hint, bnff_status_text(want));
    if (words && !strstr(message, words) && !strstr(hint, words)) fail_at(file, line, "%s: '%s' (hint '%s') does not say '%s'", call, message, hint, words);
}

/* -- Files --------------------------------------------------------------------------------------------------------- */

static char *next_path(void)
{
    static char paths[8][4096];
    static int at;
    return paths[at++ % 8];
}

static char temporary[256];
static pid_t temporary_owner; /* a forked child leaves the folder alone */

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *at)
{
    (void)info, (void)type, (void)at;
    return remove(path);
}

static void remove_temporary(void)
{
    if (getpid() == temporary_owner) nftw(temporary, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

const char *temp_path(const char *name)
{
    if (!temporary[0]) {
        const char *root = getenv("TMPDIR");
        snprintf(temporary, sizeof temporary, "%s/bnff-test-XXXXXX", root && *root ? root : "/tmp");
        if (!mkdtemp(temporary)) {
            perror(temporary);
            exit(99);
        }
        temporary_owner = getpid();
        atexit(remove_temporary);
    }
    char *path = next_path();
    snprintf(path, 4096, "%s/%s", temporary, name);
    return path;
}

const char *golden_path(const char *name)
{
    char *path = next_path();
    snprintf(path, 4096, "%s/golden/%s", BNFF_TESTS_DIR, name);
    return path;
}

const char *data_path(const char *name)
{
    const char *root = getenv("BNFF_TEST_DATA");
    if (!root || !*root) skip();
    char *path = next_path();
    snprintf(path, 4096, "%s/%s", root, name);
    return path;
}

void write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(bytes, 1, size, file) != size || fclose(file)) fail_msg("cannot write %s", path);
}
