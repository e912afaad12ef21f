/* What the command lines of the benchmarks of networks have in common. */
#include "bench.h"

#include <string.h>

enum { MOST_IMAGES = 65536 };

bool bench_parse_batches(void *arguments, const char *text, char *why, size_t size)
{
    bench_arguments *args = arguments;
    args->batch_count = 0;
    for (const char *at = text;; at++) {
        const int batch = cli_leading_number(at, MOST_IMAGES, &at);
        if (!batch || (*at && *at != ',')) return snprintf(why, size, "numbers from 1 to %d, with commas between", MOST_IMAGES), false;
        if (args->batch_count == BENCH_BATCHES) return snprintf(why, size, "at most %d numbers", BENCH_BATCHES), false;
        args->batches[args->batch_count++] = batch;
        if (!*at) return true;
    }
}

bool bench_parse_batch(void *arguments, const char *text, char *why, size_t size)
{
    bench_arguments *args = arguments;
    const char *end = text;
    args->batches[0] = cli_leading_number(text, MOST_IMAGES, &end);
    args->batch_count = 1;
    return args->batches[0] && !*end ? true : (snprintf(why, size, "a number from 1 to %d", MOST_IMAGES), false);
}

bool bench_parse_size(void *arguments, const char *text, char *why, size_t size)
{
    bench_arguments *args = arguments;
    return cli_parse_sides(text, &args->height, &args->width, why, size);
}

const char *bench_size_text(int height, int width, char text[24])
{
    if (height == width) snprintf(text, 24, "%d", height);
    else snprintf(text, 24, "%dx%d", height, width);
    return text;
}

json_t *bench_size_json(int height, int width)
{
    char text[24];
    return height == width ? json_integer(height) : json_string(bench_size_text(height, width, text));
}

int bench_begin(const cli_command *self, int argc, char **argv, bench_arguments *args, bnff_context **context)
{
    cli_positionals words;
    if (!args->batch_count) args->batches[0] = 32, args->batch_count = 1;
    const int code = cli_parse(self, argc, argv, args, &words);
    if (code >= 0) return code;
    const int unexpected = cli_expect(self, &words, 0, 0);
    if (unexpected >= 0) return unexpected;
    bnff_error error;
    if (cli_context(args->threads, context, &error)) return cli_fail(&error);
    args->threads = bnff_context_threads(*context);
    return -1;
}
