/* Help, from the tables that the parser reads. */
#include "cli.h"

#include <string.h>

enum { COLUMN = 32, WIDTH = 100 };

/* Print text from column `indent` on, broken at spaces before WIDTH; the cursor is already there. */
static void wrapped(FILE *out, const char *text, int indent)
{
    for (int column = indent; *text;) {
        const int length = (int)strcspn(text, " ");
        if (column > indent && column + 1 + length > WIDTH) fprintf(out, "\n%*s", indent, ""), column = indent;
        else if (column > indent) fputc(' ', out), column++;
        fprintf(out, "%.*s", length, text);
        column += length;
        text += length;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

/* "  -b, --batch-size N", then the aliases in the text. Returns the width printed. */
static int print_names(FILE *out, const cli_option *o, const char **aliases)
{
    const size_t first = strcspn(o->names, ",");
    char letter = 0;
    *aliases = NULL;
    for (const char *at = o->names + first; *at == ',';) {
        const size_t n = strcspn(at + 1, ",");
        if (n == 1) letter = at[1];
        else if (!*aliases) *aliases = at + 1;
        at += n + 1;
    }
    int width = letter ? fprintf(out, "  -%c, ", letter) : fprintf(out, "      ");
    width += fprintf(out, "--%.*s", (int)first, o->names);
    if (o->value) width += fprintf(out, " %s", o->value);
    return width;
}

static void print_option(FILE *out, const cli_option *o)
{
    const char *aliases;
    const int width = print_names(out, o, &aliases);
    if (width >= COLUMN) fprintf(out, "\n%*s", COLUMN, "");
    else fprintf(out, "%*s", COLUMN - width, "");
    char text[512];
    size_t used = (size_t)snprintf(text, sizeof text, "%s", o->help);
    while (aliases && used < sizeof text) {
        const size_t n = strcspn(aliases, ",");
        if (n > 1) used += (size_t)snprintf(text + used, sizeof text - used, "%s--%.*s", strchr(text, '\1') ? ", " : " \1also ", (int)n, aliases);
        aliases = aliases[n] ? aliases + n + 1 : NULL;
    }
    char *mark = strchr(text, '\1');
    if (mark) *mark = '(', used += used + 1 < sizeof text ? (size_t)snprintf(text + used, sizeof text - used, ")") : 0;
    wrapped(out, text, COLUMN);
}

void cli_help(const cli_command *self, FILE *out)
{
    fprintf(out, "usage: bnff %s %s\n\n%s.\n", self->name, self->usage, self->summary);
    if (self->text) fprintf(out, "\n%s\n", self->text);
    if (self->examples) fprintf(out, "\nexamples:\n%s", self->examples);
    if (!self->options || !self->options->names || self->options->type != CLI_GROUP) fprintf(out, "\noptions:\n");
    for (const cli_option *o = self->options; o && o->names; o++) {
        if (o->type == CLI_GROUP) fprintf(out, "\n%s:\n", o->names);
        else if (o->help) print_option(out, o);
    }
    fprintf(out, "  -h, --help%*sThis text.\n", COLUMN - 12, "");
}
