/* The corpus of awkward and broken images that BNFF_TEST_DATA/torture holds, against its own expected.tsv. Skipped where it is not there. */
#include <sys/resource.h>

#include <bnff/data.h>

#include "base/clock.h"
#include "support.h"

enum { COLUMNS = 11 };
static const double MEAN_TOLERANCE = 0.3; /* the corpus's own, for decoders on libjpeg-turbo */

static void split_row(char *line, char *column[COLUMNS])
{
    for (int i = 0; i < COLUMNS; i++) {
        column[i] = line;
        line += strcspn(line, "\t\n");
        if (*line) *line++ = '\0';
    }
}

static const char *wrong_pixels(const bnff_image *image, char *column[COLUMNS])
{
    static char text[256];
    if (image->width != atoi(column[3]) || image->height != atoi(column[4])) {
        snprintf(text, sizeof text, "%d x %d, not %s x %s", image->width, image->height, column[3], column[4]);
        return text;
    }
    for (int c = 0; c < 3; c++) {
        if (!*column[7 + c]) continue;
        double sum = 0;
        const size_t pixels = (size_t)image->width * (size_t)image->height;
        for (size_t i = 0; i < pixels; i++) sum += image->pixels[3 * i + (size_t)c];
        const double off = sum / (double)pixels - atof(column[7 + c]);
        if (off > MEAN_TOLERANCE || off < -MEAN_TOLERANCE) {
            snprintf(text, sizeof text, "mean of channel %d is %.2f, not %s", c, sum / (double)pixels, column[7 + c]);
            return text;
        }
    }
    return NULL;
}

/* Why a file did not behave as its row says, or NULL. */
static const char *check_row(const char *folder, char *column[COLUMNS])
{
    static char path[8400];
    static bnff_error error;
    bnff_image image;
    const double start = bf_clock();
    snprintf(path, sizeof path, "%s/%s", folder, column[0]);
    error.message[0] = '\0';
    const bnff_status status = bnff_image_read(path, 3, &image, &error);
    const char *wrong = NULL;
    if (status != BNFF_OK && (!error.message[0] || image.pixels)) wrong = "refused without a message, or pixels left";
    else if (!strcmp(column[1], "error") && status == BNFF_OK) wrong = "decoded, must be refused";
    else if (!strcmp(column[1], "ok")) wrong = status == BNFF_OK ? wrong_pixels(&image, column) : error.message;
    bnff_image_free(&image);
    const double seconds = bf_clock() - start;
    if (seconds > 0.5) printf("# %s took %.1f s\n", column[0], seconds);
    if (getenv("BNFF_TEST_VERBOSE")) printf("# %-6s %-45s %s\n", column[1], column[0], status == BNFF_OK ? "decoded" : error.message + strlen(path) + 2);
    return wrong;
}

static void behaves_as_expected(void **state)
{
    (void)state;
    char line[4096];
    const char *folder = data_path("torture");
    FILE *file = fopen(data_path("torture/expected.tsv"), "r");
    if (!file) skip();
    int rows = 0, wrong_rows = 0;
    assert_non_null(fgets(line, sizeof line, file));
    while (fgets(line, sizeof line, file)) {
        char *column[COLUMNS];
        split_row(line, column);
        const char *wrong = check_row(folder, column);
        if (wrong) printf("# %s: %s\n", column[0], wrong);
        rows++, wrong_rows += wrong != NULL;
    }
    fclose(file);
    assert_true(rows > 300);
    assert_int_equal(wrong_rows, 0);
}

static void takes_bounded_memory(void **state)
{
    (void)state;
    struct rusage usage;
    data_path("torture"); /* skips */
    getrusage(RUSAGE_SELF, &usage);
    assert_true(usage.ru_maxrss < 600 * 1024); /* KiB; a legal picture of 1e8 pixels takes half of it */
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(behaves_as_expected), test(takes_bounded_memory)};
    return run_all(tests);
}
