/* The HTML report: well formed, self-contained, escaped, right numbers, whole pictures; at its edges and without memory. */
#include <spng.h>

#include "base/files.h"
#include "base/memory.h"
#include "failalloc.h"
#include "support.h"
#include "train/report.h"

static char *read_report(const bf_report *report)
{
    void *bytes;
    size_t size;
    bnff_error error;
    const char *path = temp_path("report.html");
    check_ok(bf_report_write(path, report, &error), &error);
    check_ok(bf_file_read(path, 64 << 20, &bytes, &size, &error), &error);
    assert_int_equal(strlen(bytes), size);
    return bytes;
}

static bool has(const char *html, const char *words)
{
    if (strstr(html, words)) return true;
    print_error("not in the report: %s\n", words);
    return false;
}

/* -- Form ---------------------------------------------------------------------------------------------------------- */

static bool is_void(const char *name)
{
    static const char *const names[] = {"meta", "img", "br"};
    FOR_EACH(v, names)
        if (!strcmp(v, name)) return true;
    return false;
}

/* The end of the tag that begins at `at`, quotes respected. */
static const char *tag_end(const char *at)
{
    char quote = 0;
    for (; *at && (quote || *at != '>'); at++)
        if (quote ? *at == quote : *at == '\'' || *at == '"') quote = quote ? 0 : *at;
    assert_int_equal(*at, '>');
    return at;
}

/* Every element is closed in order, void and self-closing ones apart; nothing is fetched from anywhere. */
static void check_form(const char *html)
{
    char open[64][16];
    int depth = 0;
    assert_memory_equal(html, "<!DOCTYPE html>\n", 16);
    for (const char *at = html + 16; (at = strchr(at, '<')) != NULL;) {
        const char *end = tag_end(at);
        char name[16] = "";
        assert_int_equal(sscanf(at + (at[1] == '/') + 1, "%15[a-z0-9]", name), 1);
        if (at[1] == '/') {
            assert_true(depth > 0);
            assert_string_equal(name, open[--depth]);
        } else if (!is_void(name) && end[-1] != '/') {
            assert_true(depth < 64);
            strcpy(open[depth++], name);
        }
        at = !strcmp(name, "style") && at[1] != '/' ? strstr(end, "</style>") : end;
    }
    assert_int_equal(depth, 0);
    assert_null(strstr(html, "http"));
    assert_null(strstr(html, "<script"));
    assert_null(strstr(html, "<link"));
    assert_null(strstr(html, "url("));
    for (const char *at = html; (at = strstr(at, "src=")) != NULL; at++) assert_memory_equal(at, "src='data:image/png;base64,", 27);
}

/* -- Content ------------------------------------------------------------------------------------------------------- */

static const char *const names[3] = {"cat", "<dog> & 'wolf'", "T\xC3\xBCr"};
static const int64_t confusion[9] = {8, 2, 0, 1, 9, 0, 0, 1000, 0};
static const bf_report_epoch epochs[] = {{1, 1.25, 50.5, 1.5, 48.25, 99, .1, 12.5, 900},
                                         {2, .75, 70, NAN, NAN, NAN, .05, 12.25, 910},
                                         {3, .5, 80, .625, 77.75, 100, .01, 12, 920}};

static bf_report full_report(const bf_report_mistake *mistakes, int count)
{
    static const bf_report_setting settings[] = {{"lr", "0.1"}, {"data", "a & b"}};
    static const char *const next[] = {"bnff val runs/x/weights/best.safetensors \"my data\""};
    return (bf_report){.title = "demo",
                       .model = "densenet-bc-22-12",
                       .data = "<data>",
                       .machine = "2 threads",
                       .parameters = 71686,
                       .train_images = 60000,
                       .val_images = 10000,
                       .best_acc1 = 77.75,
                       .best_epoch = 3,
                       .seconds = 3725,
                       .images_per_s = 910.4,
                       .peak_bytes = 300u << 20,
                       .epochs = epochs,
                       .epoch_count = 3,
                       .classes = 3,
                       .class_names = names,
                       .confusion = confusion,
                       .mistakes = mistakes,
                       .mistake_count = count,
                       .settings = settings,
                       .setting_count = 2,
                       .next_steps = next,
                       .next_step_count = 1};
}

static void tells_everything(void **state)
{
    (void)state;
    test_case("full report");
    const bf_report_mistake mistake = {.name = "a'b.png", .label = 2, .predicted = 1, .probability = .987};
    const bf_report report = full_report(&mistake, 1);
    char *html = read_report(&report);
    check_form(html);
    static const char *const words[] = {
        "<title>demo · bnff</title>",
        "densenet-bc-22-12 on &lt;data&gt;",
        "60,000 training, 10,000 validation images",
        "3 classes",
        "<b>77.75%</b><span>best accuracy, epoch 3",
        "<b>1 h 02 min</b>",
        "<b>910</b><span>images a second",
        "<b>300 MiB</b>",
        "<b>71,686</b>",
        "epoch 3: validation 77.75%</title>",
        "epoch 1: training 1.2500</title>",
        "epoch 2: learning rate 0.05</title>",
        "cat taken for &lt;dog&gt; &amp; &#39;wolf&#39;: 2 of 10 (20.0%)",
        "cat recognised: 8 of 10 (80.0%)",
        "T\xC3\xBCr",
        "title='a&#39;b.png'",
        "</span> 98.7%<br>is T\xC3\xBCr",
        "best.safetensors &quot;my data&quot;",
        "<td>data</td><td>a &amp; b</td>",
        /* precision 8/9, recall 8/10, F1 16/19; the third class is never said: 0 */
        "<td class=name>cat</td><td class=num>0.889</td><td class=num>0.800</td>",
        ">0.842</td><td class=num>10</td>",
        "</td><td class=num>0.000</td><td class=num>0.000</td>",
    };
    FOR_EACH(w, words) assert_true(has(html, w));
    assert_null(strstr(html, "epoch 2: validation"));
    assert_null(strstr(html, "nan"));
    bf_free(html);
}

static void averages_are_those_of_scikit_learn(void **state)
{
    (void)state;
    test_case("averages");
    /* classification_report: macro F1 (.75 + 2/3 + 0)/3, weighted by 4, 3, 0; the last class is absent and left out */
    static const int64_t counts[9] = {3, 1, 0, 1, 2, 0, 0, 0, 0};
    bf_report report = full_report(NULL, 0);
    report.confusion = counts;
    char *html = read_report(&report);
    assert_true(has(html, "macro average</th><td class=num>0.708</td><td class=num>0.708</td><td class=num>0.708</td><td class=num>7<"));
    assert_true(has(html, "weighted average</th><td class=num>0.714</td><td class=num>0.714</td><td class=num>0.714</td><td class=num>7<"));
    assert_true(has(html, "<td class=num>–</td><td class=num>0</td>"));
    bf_free(html);
}

static void many_classes_show_pairs(void **state)
{
    (void)state;
    enum { C = 40 };
    test_case("%d classes", C);
    static int64_t counts[C * C];
    for (int c = 0; c < C; c++) counts[c * C + c] = 100 - c;
    counts[3 * C + 7] = 50, counts[7 * C + 3] = 25;
    for (int c = 10; c < C; c++) counts[c * C] = 1;
    const bf_report report = {.classes = C, .confusion = counts};
    char *html = read_report(&report);
    check_form(html);
    assert_null(strstr(html, "class=matrix"));
    const char *first = strstr(html, "<td class=name>3</td><td class=name>7</td><td class=num>50</td><td class=num>34.0%</td>"),
               *second = strstr(html, "<td class=name>7</td><td class=name>3</td><td class=num>25</td>");
    assert_true(first && second && first < second);
    assert_true(has(html, "<td class=name>10</td><td class=name>0</td><td class=num>1</td>")); /* ties in class order, */
    assert_null(strstr(html, "<td class=name>28</td><td class=name>0</td><td class=num>1</td>")); /* 20 pairs in all */
    assert_true(has(html, "The weakest first.</p>\n<div class='scroll tall'><table><tr><th>class</th>"));
    assert_true(has(html, "<th class=num>images</th></tr>\n<tr><td class=name>7</td>"));
    bf_free(html);
}

/* -- Pictures ------------------------------------------------------------------------------------------------------ */

static int digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Decode the first data: URI of the report into a picture of format `format`. */
static uint8_t *decode_picture(const char *html, int format, struct spng_ihdr *header)
{
    const char *at = strstr(html, "base64,");
    assert_non_null(at);
    at += 7;
    uint8_t *png = malloc(strlen(at));
    size_t size = 0;
    for (; digit(at[0]) >= 0; at += 4) {
        const int a = digit(at[0]), b = digit(at[1]), c = digit(at[2]), d = digit(at[3]);
        png[size++] = (uint8_t)(a << 2 | b >> 4);
        if (c >= 0) png[size++] = (uint8_t)(b << 4 | c >> 2);
        if (d >= 0) png[size++] = (uint8_t)(c << 6 | d);
        if (d < 0) assert_int_equal(at[3], '=');
    }
    assert_memory_equal(png + size - 8, "IEND\xAE\x42\x60\x82", 8); /* not a byte too many or too few */
    spng_ctx *context = spng_ctx_new(0);
    size_t bytes;
    assert_int_equal(spng_set_png_buffer(context, png, size), 0);
    assert_int_equal(spng_get_ihdr(context, header), 0);
    assert_int_equal(spng_decoded_image_size(context, format, &bytes), 0);
    uint8_t *pixels = malloc(bytes);
    assert_int_equal(spng_decode_image(context, pixels, bytes, format, 0), 0);
    spng_ctx_free(context);
    free(png);
    return pixels;
}

static void pictures_are_whole(void **state)
{
    (void)state;
    static const int sides[][3] = {{1, 1, 1}, {2, 1, 1}, {3, 1, 1}, {4, 1, 1}, {28, 28, 1}, {5, 3, 3}, {256, 100, 3}};
    for (size_t s = 0; s < COUNT_OF(sides); s++) {
        const int w = sides[s][0], h = sides[s][1], c = sides[s][2];
        test_case("picture %dx%dx%d", w, h, c);
        uint8_t *pixels = guarded_bytes((size_t)(w * h * c));
        for (int i = 0; i < w * h * c; i++) pixels[i] = (uint8_t)random_int(0, 255);
        const bf_report_mistake mistake = {.image = {w, h, c, pixels}};
        const bf_report report = {.mistakes = &mistake, .mistake_count = 1};
        char *html = read_report(&report);
        check_form(html);
        struct spng_ihdr header;
        uint8_t *back = decode_picture(html, SPNG_FMT_RGB8, &header);
        assert_int_equal(header.width, w);
        assert_int_equal(header.height, h);
        for (int i = 0; i < w * h * 3; i++) assert_int_equal(back[i], pixels[c == 3 ? i : i / 3]);
        free(back);
        bf_free(html);
        check_guards();
    }
}

static void large_pictures_shrink(void **state)
{
    (void)state;
    test_case("600 x 2");
    uint8_t *pixels = guarded_bytes(600 * 2 * 3);
    for (int i = 0; i < 600 * 2 * 3; i++) pixels[i] = (uint8_t)(i / 3 % 600 % 3 * 30 + i % 3); /* 0, 30, 60 plus the channel */
    const bf_report_mistake mistake = {.image = {600, 2, 3, pixels}};
    const bf_report report = {.mistakes = &mistake, .mistake_count = 1};
    char *html = read_report(&report);
    struct spng_ihdr header;
    uint8_t *back = decode_picture(html, SPNG_FMT_RGB8, &header);
    assert_int_equal(header.width, 200);
    assert_int_equal(header.height, 1);
    for (int i = 0; i < 200 * 3; i++) assert_int_equal(back[i], 30 + i % 3);
    free(back);
    bf_free(html);
    check_guards();
}

/* -- Edges --------------------------------------------------------------------------------------------------------- */

static void odd_reports_are_well_formed(void **state)
{
    (void)state;
    const bf_report_epoch one = {1, 2.25, 10, 2.25, 10, 50, 0, 1, 0}, nothing = {4, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    static bf_report_epoch many[1000];
    for (int i = 0; i < 1000; i++) many[i] = (bf_report_epoch){i + 1, 1e-7 * i, .1 * i, INFINITY, 100, 100, 1e-9, 1, 1e6};
    static const int64_t none[4] = {0};
    const struct {
        const char *name;
        bf_report report;
    } cases[] = {
        {"empty", {0}},
        {"one epoch", {.epochs = &one, .epoch_count = 1}},
        {"nothing measured", {.epochs = &nothing, .epoch_count = 1, .best_epoch = 1, .best_acc1 = NAN}},
        {"a thousand epochs", {.epochs = many, .epoch_count = 1000}},
        {"no images", {.classes = 2, .confusion = none}},
        {"strings", {.title = "</title><script>\x01\x1f", .model = "\xff\xfe", .data = "\"'>"}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i].name);
        char *html = read_report(&cases[i].report);
        check_form(html);
        assert_null(strstr(html, "nan"));
        assert_null(strstr(html, "inf"));
        bf_free(html);
    }
}

static void says_where_it_cannot_write(void **state)
{
    (void)state;
    bnff_error error;
    const bf_report report = {0};
    const bf_report_mistake mistake = {.image = {4, 4, 2, (uint8_t[32]){0}}};
    check_fails(bf_report_write(temp_path("no/such/folder/report.html"), &report, &error), BNFF_E_IO, &error, "no/such/folder/report.html");
    check_fails(bf_report_write(temp_path("report.html"), &(bf_report){.mistakes = &mistake, .mistake_count = 1}, &error), BNFF_E_ARG,
                &error, "4 x 4 pixels, 2 channels");
}

static bnff_status write_one(void *arg, bnff_error *error) { return bf_report_write(temp_path("memory.html"), arg, error); }

static void survives_missing_memory(void **state)
{
    (void)state;
    test_case("memory");
    uint8_t *pixels = calloc(300, 300);
    const bf_report_mistake mistakes[] = {{.image = {300, 300, 1, pixels}}};
    bf_report report = full_report(mistakes, 1);
    assert_true(fail_each_allocation(write_one, &report) > 5);
    free(pixels);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(tells_everything), test(averages_are_those_of_scikit_learn), test(many_classes_show_pairs), test(pictures_are_whole),
        test(large_pictures_shrink), test(odd_reports_are_well_formed), test(says_where_it_cannot_write), test(survives_missing_memory),
    };
    return run_all(tests);
}
