/* bnff data check DIR: decode every file before a training does. */
#include "cli.h"

#include <string.h>

struct arguments { bool json, quiet; };

static const cli_option options[] = {
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document: good, bad, files with their reasons."},
    {"quiet,q", CLI_FLAG, offsetof(struct arguments, quiet), NULL, "Name the files only, no summary."},
    {0},
};

/* One line a file, or an entry of the document. */
static void on_bad(void *user, const char *path, const char *reason)
{
    json_t *files = user;
    if (files) json_array_append_new(files, json_pack("{s:o, s:o}", "path", cli_json_string(path), "reason", cli_json_string(reason)));
    else printf("%s: %s\n", path, reason);
}

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {0};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words);
    if (code >= 0) return code;
    if (words.count && strcmp(words.items[0], "check")) return cli_usage_error(self, "'%s' is not known; 'data check DIR' is", words.items[0]);
    if ((code = cli_expect(self, &words, 2, 2)) >= 0) return code;

    bnff_error error;
    int64_t good = 0, bad = 0;
    json_t *files = args.json ? json_array() : NULL;
    if (bnff_data_check(words.items[1], on_bad, files, &good, &bad, &error)) {
        json_decref(files);
        return cli_fail(&error);
    }
    if (args.json) code = cli_json_print(json_pack("{s:I, s:I, s:o}", "good", (json_int_t)good, "bad", (json_int_t)bad, "files", files));
    else code = EXIT_DONE;
    fflush(stdout); /* the names come before their number */
    if (!args.json && !args.quiet) fprintf(stderr, "%lld good, %lld would be skipped\n", (long long)good, (long long)bad);
    return code == EXIT_DONE && bad ? EXIT_FAILED : code;
}

const cli_command cli_data = {
    .name = "data", .usage = "check DIR [options]", .summary = "Check the files of a data set", .options = options, .run = run,
    .text = "Decodes every file of DIR, names on stdout each one that training would skip, and says why.\n"
            "The exit code is 1 if there is one.",
    .examples = "  bnff data check photos/\n  bnff data check --json photos/ > report.json\n",
};
