/* Runs a fuzz target without a fuzzing engine: on its corpus files, then on mutations of them until the time is up.
 *
 *     fuzz_NAME [-seconds=S] [-runs=N] [-seed=N] FILE|FOLDER...     files alone (-runs=0): reproduce a finding
 *
 * The mutations depend on the seed and the run's number only. The input at work is kept in ./crash-NAME while it is being run, so it
 * lies there after a crash. Built with a sanitizer; make fuzz takes clang's libFuzzer instead where there is one.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/random.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { LARGEST = 1 << 16 }; /* bytes of an input */

typedef struct input { uint8_t *bytes; size_t size; } input;
static input *corpus;
static int corpus_count;

/* -- Corpus -------------------------------------------------------------------------------------------------------- */

static void add_input(const uint8_t *bytes, size_t size)
{
    corpus = realloc(corpus, (size_t)(corpus_count + 1) * sizeof *corpus);
    uint8_t *copy = malloc(size + 1);
    if (!corpus || !copy) exit(99);
    memcpy(copy, bytes, size);
    corpus[corpus_count++] = (input){copy, size};
}

static void add_file(const char *path)
{
    static uint8_t bytes[LARGEST];
    FILE *file = fopen(path, "rb");
    if (!file) {
        fprintf(stderr, "%s: %s\n", path, strerror(errno));
        exit(2);
    }
    add_input(bytes, fread(bytes, 1, sizeof bytes, file));
    fclose(file);
}

static void add_path(const char *path)
{
    struct dirent **entries;
    const int count = scandir(path, &entries, NULL, alphasort); /* sorted: the same runs everywhere */
    if (count < 0) {
        add_file(path);
        return;
    }
    for (int i = 0; i < count; i++) {
        char *name;
        if (asprintf(&name, "%s/%s", path, entries[i]->d_name) < 0) exit(99);
        struct stat info;
        if (stat(name, &info) == 0 && S_ISREG(info.st_mode)) add_file(name);
        free(name);
        free(entries[i]);
    }
    free(entries);
}

/* -- Mutations ----------------------------------------------------------------------------------------------------- */

static uint64_t key, draws;
static size_t below(size_t n) { return (size_t)bf_random_below(key, draws++, n); }

/* Numbers that lengths, counts and offsets trip over. */
static uint64_t awkward(void)
{
    static const uint64_t values[] = {0, 1, 2, 3, 4, 7, 8, 16, 63, 64, 127, 128, 255, 256, 1000, 4096, 32767, 32768, 65535, 65536, 100000000,
                                      INT32_MAX, UINT64_C(1) << 31, UINT32_MAX, UINT64_C(1) << 32, UINT64_C(1) << 48, INT64_MAX,
                                      UINT64_C(1) << 63, UINT64_MAX - 7, UINT64_MAX};
    return values[below(sizeof values / sizeof *values)];
}

/* A piece of the input becomes a number, as bytes of either order or as decimal digits. */
static void put_number(uint8_t *bytes, size_t size)
{
    const uint64_t value = awkward();
    if (below(3) == 0) {
        char digits[24];
        const size_t n = (size_t)snprintf(digits, sizeof digits, "%llu", (unsigned long long)value);
        const size_t at = below(size);
        memcpy(bytes + at, digits, n < size - at ? n : size - at);
        return;
    }
    const size_t width = (size_t)1 << below(4), at = below(size);
    const bool big = below(2);
    for (size_t i = 0; i < width && at + i < size; i++) bytes[at + i] = (uint8_t)(value >> 8 * (big ? width - 1 - i : i));
}

/* One random change; returns the new size. */
static size_t mutate(uint8_t *bytes, size_t size)
{
    if (!size) {
        bytes[0] = (uint8_t)below(256);
        return 1;
    }
    const size_t at = below(size), span = 1 + below(size - at < 64 ? size - at : 64);
    switch (below(9)) {
    case 0: bytes[at] ^= (uint8_t)(1u << below(8)); return size;
    case 1: bytes[at] = (uint8_t)below(256); return size;
    case 2: put_number(bytes, size); return size;
    case 3: put_number(bytes, size < 64 ? size : 64); return size;        /* headers are at the front */
    case 4: return below(size + 1);                                        /* cut short */
    case 5: memmove(bytes + at, bytes + at + span, size - at - span); return size - span;
    case 6:                                                                /* repeat a piece */
        if (size + span > LARGEST) return size;
        memmove(bytes + at + span, bytes + at, size - at);
        return size + span;
    case 7: {                                                              /* copy a piece of another input */
        const input *other = &corpus[below((size_t)corpus_count)];
        if (!other->size) return size;
        const size_t from = below(other->size), n = other->size - from < span ? other->size - from : span;
        memcpy(bytes + at, other->bytes + from, n);
        return size;
    }
    default: memset(bytes + at, below(2) ? 0 : (int)below(256), span); return size;
    }
}

/* -- Running ------------------------------------------------------------------------------------------------------- */

/* The input at work, in a shared mapping of a file: there after any crash without a write a run. */
static struct { char path[256]; int fd; uint8_t *bytes; } witness;

static void open_witness(const char *program)
{
    const char *slash = strrchr(program, '/');
    snprintf(witness.path, sizeof witness.path, "crash-%s", slash ? slash + 1 : program);
    witness.fd = open(witness.path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (witness.fd < 0 || ftruncate(witness.fd, LARGEST)) return;
    witness.bytes = mmap(NULL, LARGEST, PROT_READ | PROT_WRITE, MAP_SHARED, witness.fd, 0);
    if (witness.bytes == MAP_FAILED) witness.bytes = NULL;
}

static void run_one(const uint8_t *bytes, size_t size)
{
    if (witness.bytes) {
        memcpy(witness.bytes, bytes, size);
        if (ftruncate(witness.fd, (off_t)size)) witness.bytes = NULL;
    }
    uint8_t *exact = malloc(size ? size : 1); /* of this size, so that reading past the end is seen */
    if (!exact) exit(99);
    memcpy(exact, bytes, size);
    LLVMFuzzerTestOneInput(exact, size);
    free(exact);
    if (witness.bytes && ftruncate(witness.fd, LARGEST)) witness.bytes = NULL;
}

int main(int argc, char **argv)
{
    double seconds = 5;
    long long runs = -1, done = 0;
    uint64_t seed = 1;
    for (int i = 1; i < argc; i++) {
        if (!strncmp(argv[i], "-seconds=", 9)) seconds = atof(argv[i] + 9);
        else if (!strncmp(argv[i], "-runs=", 6)) runs = atoll(argv[i] + 6);
        else if (!strncmp(argv[i], "-seed=", 6)) seed = strtoull(argv[i] + 6, NULL, 0);
        else add_path(argv[i]);
    }
    const int files = corpus_count;
    if (!corpus_count) add_input((const uint8_t *)"", 0);
    open_witness(argv[0]);
    for (int i = 0; i < corpus_count; i++) run_one(corpus[i].bytes, corpus[i].size);

    static uint8_t bytes[LARGEST + 64];
    const double end = bf_clock() + seconds;
    for (; (runs < 0 || done < runs) && bf_clock() < end; done++) {
        key = bf_random_key(seed, (uint64_t)done);
        draws = 0;
        const input *from = &corpus[below((size_t)corpus_count)];
        size_t size = from->size;
        memcpy(bytes, from->bytes, size);
        for (size_t n = (size_t)1 << below(5); n; n--) size = mutate(bytes, size);
        run_one(bytes, size);
    }
    printf("%d files and %lld mutations (seed %llu)\n", files, done, (unsigned long long)seed);
    if (witness.fd >= 0) unlink(witness.path);
    for (int i = 0; i < corpus_count; i++) free(corpus[i].bytes);
    free(corpus);
    return 0;
}
