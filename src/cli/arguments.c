/* Flags to fields, driven by the same tables that the help is printed from. */
#include "cli.h"

#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* -- Names --------------------------------------------------------------------------------------------------------- */

/* Is `name` one of the comma-separated `names`? Dash and underscore are the same; key=value users write batch_size. */
static bool has_name(const char *names, const char *name, size_t length)
{
    for (const char *at = names; at;) {
        size_t i = 0;
        while (i < length && at[i] && at[i] != ',' && (at[i] == name[i] || (at[i] == '-' && name[i] == '_'))) i++;
        if (i == length && (at[i] == '\0' || at[i] == ',')) return true;
        at = strchr(at, ',');
        if (at) at++;
    }
    return false;
}

static const cli_option *find_option(const cli_command *self, const char *name, size_t length)
{
    for (const cli_option *o = self->options; o && o->names; o++)
        if (o->type != CLI_GROUP && length && has_name(o->names, name, length)) return o;
    return NULL;
}

/* Edits (insert, delete, replace, swap neighbours) that turn a into b; names longer than the table count as far apart. */
static int distance(const char *a, const char *b)
{
    enum { LONGEST = 47 };
    int d[LONGEST + 1][LONGEST + 1];
    const int m = (int)strlen(a), n = (int)strlen(b);
    if (m > LONGEST || n > LONGEST) return LONGEST;
    for (int i = 0; i <= m; i++) {
        for (int j = 0; j <= n; j++) {
            if (!i || !j) { d[i][j] = i + j; continue; }
            int best = d[i - 1][j - 1] + (a[i - 1] != b[j - 1]);
            if (d[i - 1][j] + 1 < best) best = d[i - 1][j] + 1;
            if (d[i][j - 1] + 1 < best) best = d[i][j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < best) best = d[i - 2][j - 2] + 1;
            d[i][j] = best;
        }
    }
    return d[m][n];
}

const char *cli_nearest(const char *name, const char *const *names, int count)
{
    const char *nearest = NULL;
    int least = 1 + (int)strlen(name) / 3 + 1; /* one slip, and one more for every three letters */
    for (int i = 0; i < count; i++) {
        const int d = !strncmp(name, names[i], strlen(name)) && strlen(name) > 2 ? 1 : distance(name, names[i]);
        if (d < least) least = d, nearest = names[i];
    }
    return nearest;
}

static int unknown_option(const cli_command *self, const char *prefix, const char *name, size_t length)
{
    enum { MOST = 256 };
    char known[MOST][48];
    const char *list[MOST];
    int count = 0;
    for (const cli_option *o = self->options; o && o->names; o++) {
        if (o->type == CLI_GROUP) continue;
        for (const char *at = o->names; at && count < MOST;) {
            const size_t n = strcspn(at, ",");
            if (n > 1 && n < sizeof known[0]) {
                memcpy(known[count], at, n);
                known[count][n] = '\0';
                list[count] = known[count];
                count++;
            }
            at = at[n] ? at + n + 1 : NULL;
        }
    }
    char *text = cli_format("%.*s", (int)length, name), hint[160];
    const char *nearest = cli_nearest(text, list, count);
    if (nearest) snprintf(hint, sizeof hint, "did you mean %s%s%s?", *prefix ? "--" : "", nearest, *prefix ? "" : "=...");
    else snprintf(hint, sizeof hint, "bnff %s --help lists the options", self->name);
    cli_fail_text(hint, "bnff %s: unknown option '%s%s'", self->name, prefix, text);
    free(text);
    return EXIT_USAGE;
}

/* -- Values -------------------------------------------------------------------------------------------------------- */

static bool parse_number(const char *text, double *value)
{
    char *end;
    errno = 0;
    *value = strtod(text, &end);
    return end != text && *end == '\0' && errno == 0 && isfinite(*value);
}

static bool parse_whole(const char *text, int64_t *value)
{
    char *end;
    errno = 0;
    *value = strtoll(text, &end, 10);
    return end != text && *end == '\0' && errno == 0;
}

static bool in_range(const cli_option *o, double value, char *why, size_t size)
{
    if (value >= o->min && (o->max == 0 || value <= o->max)) return true;
    if (o->max == 0) snprintf(why, size, "at least %.8g is needed", o->min);
    else snprintf(why, size, "it must lie between %.8g and %.8g", o->min, o->max);
    return false;
}

static bool parse_choice(const cli_option *o, int *target, const char *text, char *why, size_t size)
{
    int index = 0, found = -1;
    size_t used = (size_t)snprintf(why, size, "one of");
    for (const char *const *c = o->choices; *c; c++) {
        const char *alias_of = strchr(*c, '=');
        if (!alias_of) {
            if (!strcmp(*c, text)) found = index;
            if (used < size) used += (size_t)snprintf(why + used, size - used, " %s", *c);
            index++;
        } else if (strlen(text) == (size_t)(alias_of - *c) && !strncmp(*c, text, strlen(text))) {
            int target_index = 0;
            for (const char *const *d = o->choices; *d; d++) {
                if (strchr(*d, '=')) continue;
                if (!strcmp(*d, alias_of + 1)) found = target_index;
                target_index++;
            }
        }
    }
    if (found >= 0) *target = found;
    return found >= 0;
}

static bool parse_pair(const cli_option *o, double *target, const char *first, const char *second, char *why, size_t size)
{
    char head[64];
    const char *comma = strchr(first, ',');
    if (comma) {
        snprintf(head, sizeof head, "%.*s", (int)(comma - first), first);
        second = comma + 1;
        first = head;
    }
    snprintf(why, size, "two numbers are needed, such as --%.*s 0.5 1", (int)strcspn(o->names, ","), o->names);
    if (!second || !parse_number(first, &target[0]) || !parse_number(second, &target[1])) return false;
    if (target[0] > target[1]) return snprintf(why, size, "the first must not exceed the second"), false;
    return in_range(o, target[0], why, size) && in_range(o, target[1], why, size);
}

/* Store `text` (and `second`, of a pair) into the option's field. */
static bool store(const cli_option *o, void *arguments, const char *text, const char *second, char *why, size_t size)
{
    void *target = (char *)arguments + o->offset;
    double number = 0;
    int64_t whole = 0;
    switch (o->type) {
    case CLI_INT:
    case CLI_INT64:
        if (!parse_whole(text, &whole)) return snprintf(why, size, "a whole number is needed"), false;
        if (!in_range(o, (double)whole, why, size)) return false;
        if (o->type == CLI_INT64) *(int64_t *)target = whole;
        else if (whole > INT32_MAX || whole < INT32_MIN) return snprintf(why, size, "it is out of range"), false;
        else *(int *)target = (int)whole;
        return true;
    case CLI_SEED:
        if (!parse_whole(text, &whole) || whole < 0) return snprintf(why, size, "a whole number of 0 or more is needed"), false;
        *(uint64_t *)target = (uint64_t)whole;
        return true;
    case CLI_FLOAT:
    case CLI_DOUBLE:
        if (!parse_number(text, &number)) return snprintf(why, size, "a number is needed"), false;
        if (!in_range(o, number, why, size)) return false;
        if (o->type == CLI_FLOAT) *(float *)target = (float)number;
        else *(double *)target = number;
        return true;
    case CLI_PAIR: return parse_pair(o, target, text, second, why, size);
    case CLI_CHOICE: return parse_choice(o, target, text, why, size);
    case CLI_CUSTOM: return o->parse(arguments, text, why, size);
    case CLI_STRING:
        if (!*text) return snprintf(why, size, "it is empty"), false;
        *(const char **)target = text;
        return true;
    default: *(const char **)target = text; return true;
    }
}

/* True and false as key=value users write them. */
static bool parse_truth(const char *text, bool *value)
{
    static const char *const yes[] = {"1", "true", "True", "yes", "on"}, *const no[] = {"0", "false", "False", "no", "off"};
    for (int i = 0; i < 5; i++) {
        if (!strcmp(text, yes[i])) return *value = true, true;
        if (!strcmp(text, no[i])) return *value = false, true;
    }
    return false;
}

/* -- The command line ---------------------------------------------------------------------------------------------- */

/* Could this word be the value of a flag? "-" and negative numbers are values, other words with a dash are flags. */
static bool is_value(const char *word)
{
    return word && (word[0] != '-' || word[1] == '\0' || (word[1] >= '0' && word[1] <= '9') || word[1] == '.');
}

static bool is_switch(const cli_option *o) { return o->type == CLI_FLAG || o->type == CLI_UNFLAG; }

/* Give option `o`, written as `shown`, its value: `given` after an equals sign or glued on, or from the words that follow.
 * Returns the number of words taken from `rest`, -1 after reporting a fault. */
static int apply(const cli_command *self, const cli_option *o, const char *shown, const char *given, int left, char **rest, void *arguments)
{
    char why[256] = "";
    if (is_switch(o)) {
        bool value = true;
        if (given && !parse_truth(given, &value)) return cli_usage_error(self, "%s is on or off, not '%s'", shown, given), -1;
        *(bool *)((char *)arguments + o->offset) = value == (o->type == CLI_FLAG);
        return 0;
    }
    int taken = 0;
    const char *text = given, *second = NULL;
    if (!text && left > 0 && is_value(rest[0]) && !(o->type == CLI_OPTIONAL && strchr(rest[0], '='))) text = rest[taken++];
    if (!text && o->type == CLI_OPTIONAL) text = "";
    if (!text) return cli_usage_error(self, "%s needs a value: %s", shown, o->value), -1;
    if (o->type == CLI_PAIR && !strchr(text, ',') && left > taken && is_value(rest[taken])) second = rest[taken++];
    if (store(o, arguments, text, second, why, sizeof why)) return taken;
    return cli_usage_error(self, "%s %s%s%s: %s", shown, text, second ? " " : "", second ? second : "", why), -1;
}

/* A word such as -b16, -qt4: short flags, the last of which may have a value. Result as for apply. */
static int apply_short(const cli_command *self, const char *word, int left, char **rest, void *arguments)
{
    for (const char *letter = word + 1; *letter; letter++) {
        const cli_option *o = find_option(self, letter, 1);
        const char shown[] = {'-', *letter, '\0'};
        if (!o) return unknown_option(self, "-", letter, 1), -1;
        if (is_switch(o)) {
            apply(self, o, shown, NULL, 0, NULL, arguments);
            continue;
        }
        const char *glued = letter[1] == '=' ? letter + 2 : letter[1] ? letter + 1 : NULL;
        return apply(self, o, shown, glued, left, rest, arguments);
    }
    return 0;
}

/* Is this word name=value? A file of that name, or a name with other characters than a flag's, is a positional. */
static bool is_setting(const char *word, size_t *name_length)
{
    *name_length = strcspn(word, "=");
    const bool named = word[*name_length] == '=' && *name_length > 1 && strspn(word, "abcdefghijklmnopqrstuvwxyz0123456789-_") == *name_length;
    return named && access(word, F_OK) != 0;
}

int cli_parse(const cli_command *self, int argc, char **argv, void *arguments, cli_positionals *positionals)
{
    *positionals = (cli_positionals){.items = argv};
    bool flags = true;
    for (int i = 0; i < argc; i++) {
        char *word = argv[i];
        size_t length;
        int taken = 0;
        if (!flags || !strcmp(word, "-") || (word[0] != '-' && !is_setting(word, &length))) {
            argv[positionals->count++] = word;
        } else if (!strcmp(word, "--")) {
            flags = false;
        } else if (!strcmp(word, "-h") || !strcmp(word, "--help")) {
            cli_help(self, stdout);
            return EXIT_DONE;
        } else if (word[0] == '-' && word[1] != '-') {
            taken = apply_short(self, word, argc - i - 1, argv + i + 1, arguments);
        } else {
            const char *prefix = word[0] == '-' ? "--" : "", *name = word + strlen(prefix);
            length = strcspn(name, "=");
            const cli_option *o = find_option(self, name, length);
            if (!o || length == 1) return unknown_option(self, prefix, name, length);
            char *shown = cli_format("%s%.*s", prefix, (int)length, name);
            taken = apply(self, o, shown, name[length] ? name + length + 1 : NULL, argc - i - 1, argv + i + 1, arguments);
            free(shown);
        }
        if (taken < 0) return EXIT_USAGE;
        i += taken;
    }
    return -1;
}

int cli_usage_error(const cli_command *self, const char *format, ...)
{
    char text[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    char hint[160];
    snprintf(hint, sizeof hint, "usage: bnff %s %s   (bnff %s --help tells more)", self->name, self->usage, self->name);
    cli_fail_text(hint, "bnff %s: %s", self->name, text);
    return EXIT_USAGE;
}

int cli_expect(const cli_command *self, const cli_positionals *positionals, int min, int max)
{
    if (positionals->count < min) return cli_usage_error(self, "%s is missing", positionals->count == 0 ? "an argument" : "a second argument");
    if (max >= 0 && positionals->count > max) return cli_usage_error(self, "'%s' is one argument too many", positionals->items[max]);
    return -1;
}

int cli_leading_number(const char *text, int most, const char **end)
{
    char *after;
    const long value = *text >= '0' && *text <= '9' ? strtol(text, &after, 10) : 0;
    if (value < 1 || value > most) return 0;
    *end = after;
    return (int)value;
}

bool cli_parse_sides(const char *text, int *height, int *width, char *why, size_t size)
{
    enum { MOST = 4096 };
    const char *end = text;
    *height = *width = cli_leading_number(text, MOST, &end);
    if (*height && *end == 'x') *width = cli_leading_number(end + 1, MOST, &end);
    if (*height && *width && !*end) return true;
    return snprintf(why, size, "a number of pixels from 1 to %d, or two, height x width, such as 97x131", MOST), false;
}
