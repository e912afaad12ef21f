/* Growing text, JSON escaping, error messages and nearest names. */
#include <jansson.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/text.h"
#include "support.h"

static void text_grows(void **state)
{
    (void)state;
    bf_text text = {0};
    for (int i = 0; i < 1000; i++) bf_text_add(&text, "%d,", i);
    bf_text_append(&text, "\0x", 2); /* any bytes */
    assert_int_equal(text.length, 10 * 2 + 90 * 3 + 900 * 4 + 2);
    assert_int_equal(strlen(text.data), text.length - 2);
    char *taken = bf_text_take(&text);
    assert_non_null(taken);
    assert_null(text.data);
    bf_free(taken);
    taken = bf_text_take(&text); /* of an empty text: an empty string, not NULL */
    assert_string_equal(taken, "");
    bf_free(taken);
}

static void xml_is_escaped(void **state)
{
    (void)state;
    static const struct { const char *string, *want; } cases[] = {
        {"conv <1> & \"2\" 'x'", "conv &lt;1&gt; &amp; &quot;2&quot; &#39;x&#39;"},
        {"\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xb6", "\xc3\xa9 \xe2\x82\xac \xf0\x9f\x90\xb6"},
        {"a\x01\n\x1fz", "a   z"},
        {"\xff\xc3", "\xef\xbf\xbd\xef\xbf\xbd"},
        {"\xef\xbf\xbf|\xef\xbf\xbe|\xef\xbf\xbd", "\xef\xbf\xbd|\xef\xbf\xbd|\xef\xbf\xbd"}, /* noncharacters are not XML */
        {"", ""}, {NULL, ""},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        bf_text text = {0};
        bf_text_xml(&text, cases[i].string);
        char *taken = bf_text_take(&text);
        assert_string_equal(taken, cases[i].want);
        bf_free(taken);
    }
}

/* What bf_text_json writes is one JSON string that a parser reads back to the same characters. */
static void check_json(const char *string, const char *want)
{
    bf_text text = {0};
    bf_text_json(&text, string);
    json_error_t problem;
    json_t *read = json_loads(text.data, JSON_DECODE_ANY, &problem);
    if (!read) fail_msg("%s: %s: %s", test_case_name(), text.data, problem.text);
    assert_string_equal(json_string_value(read), want);
    json_decref(read);
    bf_text_free(&text);
}

static void json_strings_parse_back(void **state)
{
    (void)state;
#define BAD "\xEF\xBF\xBD"
    static const struct { const char *string, *want; } cases[] = {
        {"", ""},
        {"plain", "plain"},
        {"quote \" slash \\ / tab \t line \n bell \a del \x7f", "quote \" slash \\ / tab \t line \n bell \a del \x7f"},
        {"\x01\x1f", "\x01\x1f"},
        {"gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80", "gr\xC3\xBC\xC3\x9F \xE2\x82\xAC \xF0\x9F\x98\x80"},
        {"\xC3", BAD},                                  /* cut short */
        {"a\x80z", "a" BAD "z"},                        /* continuation without a start */
        {"\xC0\xAF", BAD BAD},                          /* overlong */
        {"\xE0\x80\x80", BAD BAD BAD},                  /* overlong */
        {"\xED\xA0\x80", BAD BAD BAD},                  /* surrogate */
        {"\xF4\x90\x80\x80", BAD BAD BAD BAD},          /* above U+10FFFF */
        {"\xFF\xFE", BAD BAD},
        {"\xE2\x82", BAD BAD},
    };
    FOR_EACH(c, cases) {
        test_case("json case %zu", c_at);
        check_json(c.string, c.want);
    }
}

static void json_survives_random_bytes(void **state)
{
    (void)state;
    for (int repeat = 0; repeat < 300; repeat++) {
        test_case("random %d", repeat);
        char bytes[40];
        const int n = random_int(0, 39);
        for (int i = 0; i < n; i++) bytes[i] = (char)random_int(1, 255);
        bytes[n] = '\0';
        bf_text text = {0};
        bf_text_json(&text, bytes);
        json_t *read = json_loads(text.data, JSON_DECODE_ANY, NULL);
        assert_non_null(read);
        json_decref(read);
        bf_text_free(&text);
    }
}

static bnff_status three_steps(int fail_at, int *done, bnff_error *error)
{
    for (int i = 0; i < 3; i++) {
        BF_TRY(i == fail_at ? bf_fail(error, BNFF_E_FORMAT, "step %d: %s", i, "broken") : BNFF_OK);
        ++*done;
    }
    return BNFF_OK;
}

static void errors_carry_message_and_hint(void **state)
{
    (void)state;
    bnff_error error = {.status = BNFF_OK, .hint = "left from before"};
    int done = 0;
    assert_int_equal(three_steps(1, &done, &error), BNFF_E_FORMAT);
    assert_int_equal(done, 1);
    assert_int_equal(error.status, BNFF_E_FORMAT);
    assert_string_equal(error.message, "step 1: broken");
    assert_string_equal(error.hint, "");
    assert_int_equal(bf_hint(&error, BNFF_E_FORMAT, "try %s", "again"), BNFF_E_FORMAT);
    assert_string_equal(error.hint, "try again");
    assert_int_equal(bf_fail(NULL, BNFF_E_IO, "nobody listens"), BNFF_E_IO);
    assert_int_equal(bf_hint(NULL, BNFF_E_IO, "nobody listens"), BNFF_E_IO);
}

static void long_messages_are_cut(void **state)
{
    (void)state;
    char *path = guarded_bytes(5000);
    memset(path, 'p', 4999);
    path[4999] = '\0';
    bnff_error *error = guarded_bytes(sizeof *error);
    memset(error, 0, sizeof *error);
    bf_fail(error, BNFF_E_IO, "%s: cannot open", path);
    bf_hint(error, BNFF_E_IO, "%s", path);
    assert_int_equal(strlen(error->message), sizeof error->message - 1);
    assert_int_equal(strlen(error->hint), sizeof error->hint - 1);
    check_guards();
}

static void every_status_has_words(void **state)
{
    (void)state;
    for (int i = 0; i <= BNFF_E_INTERNAL; i++) {
        assert_non_null(bnff_status_text((bnff_status)i));
        assert_string_not_equal(bnff_status_text((bnff_status)i), "unknown status");
        for (int k = 0; k < i; k++) assert_string_not_equal(bnff_status_text((bnff_status)i), bnff_status_text((bnff_status)k));
    }
    assert_string_equal(bnff_status_text((bnff_status)99), "unknown status");
}

static void nearest_name(void **state)
{
    (void)state;
    static const char *const names[] = {"densenet121", "resnet50", "resnet18", "vgg11_bn"};
    static const struct { const char *name, *want; } cases[] = {
        {"densenet121", "densenet121"}, {"densnet121", "densenet121"}, {"resnet19", "resnet18"}, {"vgg11", "vgg11_bn"}, {"resnet500", "resnet50"},
    };
    FOR_EACH(c, cases) {
        test_case("nearest to %s", c.name);
        assert_string_equal(bf_nearest(c.name, names, 4), c.want);
    }
    assert_null(bf_nearest("x", names, 0));
    char *name = guarded_bytes(10000);
    memset(name, 'x', 9999);
    name[9999] = '\0';
    assert_non_null(bf_nearest(name, names, 4));
    assert_non_null(bf_nearest("", names, 4));
    check_guards();
}

static void shell_words_are_quoted(void **state)
{
    (void)state;
    static const struct { const char *word, *want; } cases[] = {
        {"runs/train", "runs/train"}, {"cifar10:/data", "cifar10:/data"}, {"my photos", "'my photos'"}, {"", "''"},
        {"it's", "'it'\\''s'"}, {"$HOME;`x`", "'$HOME;`x`'"}, {"~a", "'~a'"}, {"T\u00fclpen", "'T\u00fclpen'"},
    };
    FOR_EACH(c, cases) {
        test_case("shell word %s", c.word);
        bf_text text = {0};
        bf_text_shell(&text, c.word);
        char *quoted = bf_text_take(&text);
        assert_string_equal(quoted, c.want);
        bf_free(quoted);
    }
}

static void real_numbers_are_short_and_exact(void **state)
{
    (void)state;
    static const struct { double value; bool single; const char *want; } cases[] = {
        {0.485f, true, "0.485"}, {0.485f, false, "0.48500001430511475"}, {1.0 / 3, false, "0.3333333333333333"}, {0, true, "0"}, {224, true, "224"},
        {5e-4, false, "0.0005"}, {1e-45f, true, "1e-45"}, {-0.1, false, "-0.1"},
    };
    FOR_EACH(c, cases) {
        test_case("real number %s", c.want);
        bf_text text = {0};
        bf_text_real(&text, c.value, c.single);
        char *taken = bf_text_take(&text);
        assert_string_equal(taken, c.want);
        bf_free(taken);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(text_grows), test(xml_is_escaped), test(json_strings_parse_back), test(json_survives_random_bytes), test(errors_carry_message_and_hint),
        test(long_messages_are_cut), test(every_status_has_words), test(nearest_name), test(shell_words_are_quoted), test(real_numbers_are_short_and_exact),
    };
    return run_all(tests);
}
