/* Messages, numbers for people, JSON, and files that appear only when they are whole. */
#define _GNU_SOURCE
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* -- Messages ------------------------------------------------------------------------------------------------------ */

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value && *value ? value : NULL;
}

bool cli_color(FILE *stream)
{
    const char *term = variable("TERM"), *force = variable("FORCE_COLOR");
    if (variable("NO_COLOR")) return false;
    if (force) return strcmp(force, "0") != 0;
    return term && strcmp(term, "dumb") && isatty(fileno(stream));
}

bool cli_redraw(FILE *stream)
{
    const char *term = variable("TERM");
    return term && strcmp(term, "dumb") && isatty(fileno(stream));
}

static void report(const char *message, const char *hint)
{
    const bool color = cli_color(stderr);
    fflush(stdout);
    fprintf(stderr, "bnff: %serror:%s %s\n", color ? "\033[1;31m" : "", color ? "\033[0m" : "", message);
    if (hint && *hint) fprintf(stderr, "%shint:%s %s\n", color ? "\033[1m" : "", color ? "\033[0m" : "", hint);
}

int cli_fail(const bnff_error *error)
{
    report(*error->message ? error->message : bnff_status_text(error->status), error->hint);
    if (error->status == BNFF_E_ARG) return EXIT_USAGE;
    return error->status == BNFF_E_DIVERGED ? EXIT_DIVERGED : EXIT_FAILED;
}

int cli_fail_text(const char *hint, const char *format, ...)
{
    char message[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    report(message, hint);
    return EXIT_FAILED;
}

void cli_warn(const char *format, ...)
{
    const bool color = cli_color(stderr);
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bnff: %swarning:%s ", color ? "\033[1;33m" : "", color ? "\033[0m" : "");
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
}

/* -- Memory and numbers -------------------------------------------------------------------------------------------- */

static void no_memory(void)
{
    report("out of memory", NULL);
    exit(EXIT_FAILED);
}

void *cli_alloc(size_t count, size_t bytes)
{
    void *memory = calloc(count ? count : 1, bytes ? bytes : 1);
    if (!memory) no_memory();
    return memory;
}

char *cli_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    const int length = vasprintf(&text, format, args);
    va_end(args);
    if (length < 0) no_memory();
    return text;
}

const char *cli_bytes(char text[32], double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    int unit = 0;
    while (bytes >= 1024 && unit < 4) bytes /= 1024, unit++;
    snprintf(text, 32, unit == 0 ? "%.0f %s" : bytes < 10 ? "%.2f %s" : bytes < 100 ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
    return text;
}

const char *cli_count(char text[32], int64_t count)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)(count < 0 ? -count : count));
    int at = 0;
    if (count < 0) text[at++] = '-';
    for (int i = 0; i < length; i++) {
        if (i && (length - i) % 3 == 0) text[at++] = ',';
        text[at++] = digits[i];
    }
    text[at] = '\0';
    return text;
}

const char *cli_si(char text[32], double value)
{
    static const char *const units[] = {"", " k", " M", " G", " T"};
    int unit = 0;
    while (fabs(value) >= 1000 && unit < 4) value /= 1000, unit++;
    snprintf(text, 32, unit ? "%.3g%s" : "%.0f%s", value, units[unit]);
    return text;
}

const char *cli_duration(char text[32], double seconds)
{
    const long long s = seconds < 0 ? 0 : seconds > 1e9 ? 1000000000 : llround(seconds);
    if (seconds < 1) snprintf(text, 32, "%.2f s", seconds);
    else if (s < 60) snprintf(text, 32, "%lld s", s);
    else if (s < 3600) snprintf(text, 32, "%lld min %02lld s", s / 60, s % 60);
    else snprintf(text, 32, "%lld h %02lld min", s / 3600, s % 3600 / 60);
    return text;
}

/* -- JSON ---------------------------------------------------------------------------------------------------------- */

json_t *cli_json_string(const char *text)
{
    json_t *string = json_string(text);
    if (string) return string;
    /* Not UTF-8: replace every byte above ASCII; such names are shown, never read back. */
    char *clean = cli_alloc(3 * strlen(text) + 1, 1), *out = clean;
    for (const char *s = text; *s; s++) {
        if ((unsigned char)*s < 0x80) *out++ = *s;
        else memcpy(out, "\xEF\xBF\xBD", 3), out += 3;
    }
    string = json_string(clean);
    free(clean);
    return string;
}

int cli_json_print(json_t *document)
{
    char *text = document ? json_dumps(document, JSON_INDENT(2) | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(document);
    if (!text) return cli_fail_text(NULL, "no memory for the JSON document");
    puts(text);
    free(text);
    return EXIT_DONE;
}

/* -- Context and files --------------------------------------------------------------------------------------------- */

static void log_line(void *user, const char *topic, const char *line)
{
    (void)user;
    fprintf(stderr, "bnff,%s,%s\n", topic, line);
}

bnff_status cli_context(int threads, bnff_context **context, bnff_error *error)
{
    const bnff_context_options options = {.size = sizeof options, .threads = threads, .log = log_line};
    return bnff_context_create(&options, context, error);
}

/* What is half written when a signal ends the program must not stay behind. */
static char *volatile unfinished;

static void remove_unfinished(int signal_number)
{
    if (unfinished) unlink(unfinished);
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

int cli_output_open(cli_output *output, const char *path)
{
    *output = (cli_output){.file = stdout};
    if (!path || !strcmp(path, "-")) return EXIT_DONE;
    struct stat info;
    if (stat(path, &info) == 0 && !S_ISREG(info.st_mode)) { /* a pipe or a device is written to, not replaced */
        output->file = fopen(path, "we");
        if (output->file) return output->path = cli_format("%s", path), EXIT_DONE;
        return cli_fail_text(NULL, "%s: cannot open: %s", path, strerror(errno));
    }
    output->path = cli_format("%s", path);
    output->temporary = cli_format("%s.tmpXXXXXX", path);
    const int fd = mkostemp(output->temporary, O_CLOEXEC);
    output->file = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (output->file) {
        const mode_t mask = umask(0);
        umask(mask);
        fchmod(fd, 0666 & ~mask);
        unfinished = output->temporary;
        signal(SIGINT, remove_unfinished);
        signal(SIGTERM, remove_unfinished);
        return EXIT_DONE;
    }
    const int code = cli_fail_text("does its folder exist, and may you write there?", "%s: cannot create: %s", path, strerror(errno));
    free(output->path);
    free(output->temporary);
    return code;
}

int cli_output_close(cli_output *output, bool keep)
{
    int code = EXIT_DONE;
    if (output->path) {
        const bool good = fflush(output->file) == 0 && !ferror(output->file) && (!output->temporary || fsync(fileno(output->file)) == 0);
        const bool closed = fclose(output->file) == 0;
        if (keep && (!good || !closed || (output->temporary && rename(output->temporary, output->path)))) {
            code = cli_fail_text("the old file, if there was one, is untouched", "%s: cannot write: %s", output->path, strerror(errno));
            keep = false;
        }
        if (!keep && output->temporary) unlink(output->temporary);
    }
    unfinished = NULL;
    free(output->path);
    free(output->temporary);
    *output = (cli_output){0};
    return code;
}
