/* What the files of the command line share. It sees the public headers only: whatever it can do, another program can. */
#ifndef CLI_H
#define CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <bnff/bnff.h>
#include <jansson.h>

/* Exit codes; 128 + signal where a signal ended the command. */
enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_DIVERGED = 3 };

/* -- Arguments (arguments.c, help.c) ----------------------------------------------------------------------------------- */

typedef enum cli_type {
    CLI_GROUP,    /* a heading in the help; names is the heading */
    CLI_FLAG,     /* bool: present means true */
    CLI_UNFLAG,   /* bool: present means false */
    CLI_INT,      /* int in [min, max] */
    CLI_INT64,    /* int64_t in [min, max] */
    CLI_SEED,     /* uint64_t */
    CLI_FLOAT,    /* float in [min, max] */
    CLI_DOUBLE,   /* double in [min, max] */
    CLI_PAIR,     /* double[2] in [min, max]: two arguments, or one "a,b" */
    CLI_STRING,   /* const char * */
    CLI_OPTIONAL, /* const char *, "" when the value is left out */
    CLI_CHOICE,   /* int: index in choices; "a=b" there is the alias a of the index of b */
    CLI_CUSTOM    /* parse() stores the value */
} cli_type;

/* A flag: its one description, for the parser and for the help alike. */
typedef struct cli_option {
    const char *names;      /* "epochs" or "batch-size,batch,b": the first is the name, single letters are short flags */
    cli_type type;
    size_t offset;          /* of the field in the command's arguments */
    const char *value;      /* what the help calls the value */
    const char *help;
    double min, max;        /* max 0: no upper bound */
    const char *const *choices;
    /* Store `text` into the arguments; or write the rule it breaks into why and return false. */
    bool (*parse)(void *arguments, const char *text, char *why, size_t size);
} cli_option;

typedef struct cli_command cli_command;
struct cli_command {
    const char *name;
    const char *usage;      /* what follows the name: "DATA [options]" */
    const char *summary;    /* a line for the list of commands */
    const char *text;       /* paragraphs under the usage line, or NULL */
    const char *examples;   /* whole lines, or NULL */
    const cli_option *options; /* ends with names NULL; NULL: none */
    int (*run)(const cli_command *self, int argc, char **argv); /* argv[0] is the first word after the command */
};

typedef struct cli_positionals {
    char **items;
    int count;
} cli_positionals;

/* Parse argv into `arguments`, which holds the defaults; what is no flag is collected in *positionals (argv is reordered).
 * Accepts --name value, --name=value, -n value, -nvalue, name=value, and -- before names that begin with a dash.
 * Returns -1 to go on; otherwise the exit code to leave with: help was printed, or the fault was reported. */
int cli_parse(const cli_command *self, int argc, char **argv, void *arguments, cli_positionals *positionals);
int cli_usage_error(const cli_command *self, const char *format, ...) BNFF_PRINTF(2, 3);
void cli_help(const cli_command *self, FILE *out);
/* The nearest of names[0..count) if it is near enough to be meant, else NULL. */
const char *cli_nearest(const char *name, const char *const *names, int count);

/* A whole number in [1, most] at the beginning of text; 0 if there is none. *end: what follows it. */
int cli_leading_number(const char *text, int most, const char **end);
/* The sides of images, N or HxW; or the rule that text breaks into why, and false. */
bool cli_parse_sides(const char *text, int *height, int *width, char *why, size_t size);

/* Fewer or more positionals than a command takes are reported here; -1: the count fits. max < 0: any number. */
int cli_expect(const cli_command *self, const cli_positionals *positionals, int min, int max);

#define CLI_CONV_HELP "How convolutions multiply: direct, f2, f2x4, f4, auto (the fastest that is about as exact) or fast (less exact ones too)."
#define CLI_THREADS_HELP "Default: BNFF_THREADS, OMP_NUM_THREADS, else the CPUs this process may use."

extern const cli_command cli_train, cli_val, cli_predict, cli_info, cli_models, cli_plan, cli_data, cli_doctor, cli_selftest, cli_bench;

/* -- Output (output.c) --------------------------------------------------------------------------------------------- */

/* Report a failure as `bnff: error: ...` and `hint: ...` on stderr; returns the exit code that goes with its status. */
int cli_fail(const bnff_error *error);
/* The same for a failure of the command line's own. */
int cli_fail_text(const char *hint, const char *format, ...) BNFF_PRINTF(2, 3);
void cli_warn(const char *format, ...) BNFF_PRINTF(1, 2);

/* May escape sequences be written to this stream? NO_COLOR, FORCE_COLOR, TERM and whether it is a terminal decide. */
bool cli_color(FILE *stream);
/* Can this stream redraw a line? */
bool cli_redraw(FILE *stream);

/* Memory or the end of the program, with a message. */
void *cli_alloc(size_t count, size_t bytes);
char *cli_format(const char *format, ...) BNFF_PRINTF(1, 2);

/* "12.3 KiB", "1.27 GiB"; "7 978 856" -> "7,978,856"; "4.09 G". The buffers are the caller's. */
const char *cli_bytes(char text[32], double bytes);
const char *cli_count(char text[32], int64_t count);
const char *cli_si(char text[32], double value);
/* "42 s", "3 min 05 s", "2 h 07 min". */
const char *cli_duration(char text[32], double seconds);

/* A JSON string of any bytes: what is not UTF-8 becomes U+FFFD. */
json_t *cli_json_string(const char *text);
/* Print the one document of --json on stdout and drop the reference; returns EXIT_DONE or, when it cannot be built, EXIT_FAILED. */
int cli_json_print(json_t *document);

/* The file that a name of weights means: a path as it is; a file name or DEFAULT, IMAGENET1K_V1, ... in PyTorch's cache. The caller
 * frees it; NULL after a report. */
char *cli_find_weights(const char *name, const char *model);

/* A context with the command's threads (0: decided by environment and machine); logs go to stderr. */
bnff_status cli_context(int threads, bnff_context **context, bnff_error *error);

/* A file that replaces `path` when it is complete; path NULL or "-": stdout. */
typedef struct cli_output {
    FILE *file;
    char *path, *temporary;
} cli_output;
/* Both return an exit code, EXIT_DONE when it went well, and report what went wrong. */
int cli_output_open(cli_output *output, const char *path);
int cli_output_close(cli_output *output, bool keep);

#endif
