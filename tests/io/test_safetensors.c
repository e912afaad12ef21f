/* .safetensors: what is written is read back, equal contents are equal bytes, and every rule of the format is enforced. */
#include "base/files.h"
#include "base/memory.h"
#include "bytes_support.h"
#include "io/bytes.h"

static bnff_weights_entry entry_of(const char *name, bnff_dtype dtype, int64_t n, const void *data)
{
    return (bnff_weights_entry){name, dtype, 1, {n}, n, data};
}

static const bnff_dtype dtypes[] = {BNFF_F32, BNFF_F64, BNFF_F16, BNFF_BF16, BNFF_I64, BNFF_I32, BNFF_U8, BNFF_BOOL};
static const size_t sizes[] = {4, 8, 2, 2, 8, 4, 1, 1};

/* One tensor of each dtype, rank 0 to 8 and empty ones, in the order that `first` tells. */
static bnff_weights *some_weights(int first, const unsigned char *bytes)
{
    bnff_weights *weights;
    bnff_error error;
    check_ok(bnff_weights_create(&weights, &error), &error);
    for (int k = 0; k < 8; k++) {
        const int i = (k + first) % 8;
        char name[40];
        bnff_weights_entry entry = {.name = name, .dtype = dtypes[i], .rank = i, .elements = 1, .data = bytes};
        snprintf(name, sizeof name, "layer%d.weight", i);
        for (int d = 0; d < i; d++) entry.shape[d] = d == 1 ? 3 : d == 2 ? 2 : 1;
        for (int d = 0; d < i; d++) entry.elements *= entry.shape[d];
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
        snprintf(name, sizeof name, "empty%d", i);
        entry.rank = 2, entry.shape[0] = 5, entry.shape[1] = 0, entry.elements = 0;
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
    }
    check_ok(bnff_weights_set_metadata(weights, first ? "b" : "zzz", "to go", &error), &error);
    check_ok(bnff_weights_set_metadata(weights, "zzz", "quote \" slash \\ newline \n", &error), &error);
    check_ok(bnff_weights_set_metadata(weights, "a", "gr\xc3\xb6\xc3\x9f" "e", &error), &error);
    check_ok(bnff_weights_set_metadata(weights, "b", "", &error), &error);
    return weights;
}

static void check_equal(const bnff_weights *got, const bnff_weights *want)
{
    assert_int_equal(bnff_weights_count(got), bnff_weights_count(want));
    bnff_weights_entry a, b;
    for (int i = 0; bnff_weights_get(want, i, &b); i++) {
        assert_true(bnff_weights_get(got, bnff_weights_find(got, b.name), &a));
        assert_int_equal(a.dtype, b.dtype);
        assert_int_equal(a.rank, b.rank);
        assert_int_equal(a.elements, b.elements);
        assert_memory_equal(a.shape, b.shape, sizeof a.shape[0] * (size_t)b.rank);
        assert_memory_equal(a.data, b.data, (size_t)b.elements * sizes[b.dtype]);
    }
}

static void writes_and_reads_back(void **state)
{
    (void)state;
    unsigned char bytes[64];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (unsigned char)(i * 37 + 1);
    bnff_weights *weights = some_weights(0, bytes), *read;
    bnff_error error;
    const char *path = temp_path("round.safetensors");
    check_ok(bnff_weights_save(weights, path, &error), &error);
    check_ok(bnff_weights_open(path, &read, &error), &error);
    assert_string_equal(bnff_weights_path(read), path);
    check_equal(read, weights);
    assert_string_equal(bnff_weights_metadata(read, "format"), "pt");
    assert_string_equal(bnff_weights_metadata(read, "zzz"), "quote \" slash \\ newline \n");
    assert_string_equal(bnff_weights_metadata(read, "a"), "gr\xc3\xb6\xc3\x9f" "e");
    assert_string_equal(bnff_weights_metadata(read, "b"), "");
    assert_null(bnff_weights_metadata(read, "c"));
    const char *key, *value, *keys[] = {"a", "b", "format", "zzz"};
    for (int i = 0; i < 4; i++) {
        assert_true(bnff_weights_metadata_at(read, i, &key, &value));
        assert_string_equal(key, keys[i]);
    }
    assert_false(bnff_weights_metadata_at(read, 4, &key, &value));
    bnff_weights_destroy(&read);
    bnff_weights_destroy(&weights);
    assert_null(weights);
}

static void equal_contents_are_equal_bytes(void **state)
{
    (void)state;
    unsigned char bytes[64] = {1, 2, 3};
    bnff_error error;
    void *first = NULL, *other;
    size_t first_size = 0, size;
    for (int order = 0; order < 8; order++) {
        test_case("order=%d", order);
        bnff_weights *weights = some_weights(order, bytes);
        check_ok(bnff_weights_save(weights, temp_path("order"), &error), &error);
        check_ok(bf_file_read(temp_path("order"), 1 << 20, &other, &size, &error), &error);
        bnff_weights_destroy(&weights);
        if (!first) {
            first = other, first_size = size;
            continue;
        }
        assert_int_equal(size, first_size);
        assert_memory_equal(other, first, size);
        bf_free(other);
    }
    /* and so is the file read and written again */
    bnff_weights *weights;
    check_ok(bnff_weights_open(temp_path("order"), &weights, &error), &error);
    check_ok(bnff_weights_save(weights, temp_path("again"), &error), &error);
    check_ok(bf_file_read(temp_path("again"), 1 << 20, &other, &size, &error), &error);
    assert_int_equal(size, first_size);
    assert_memory_equal(other, first, size);
    bf_free(other);
    bf_free(first);
    bnff_weights_destroy(&weights);
}

static void tensors_are_aligned_in_the_file(void **state)
{
    (void)state;
    unsigned char bytes[64] = {0};
    bnff_error error;
    bnff_weights *weights = some_weights(3, bytes);
    void *file;
    size_t size;
    check_ok(bnff_weights_save(weights, temp_path("aligned"), &error), &error);
    check_ok(bf_file_read(temp_path("aligned"), 1 << 20, &file, &size, &error), &error);
    assert_int_equal(bf_le64(file) % 8, 0);
    int found = 0;
    for (const char *at = (char *)file + 8; (at = strstr(at + 1, "\"dtype\":\"")) != NULL; found++) { /* a NUL follows what was read */
        char dtype[8];
        size_t begin;
        assert_int_equal(sscanf(at, "\"dtype\":\"%7[A-Z0-9]", dtype), 1);
        assert_int_equal(sscanf(strstr(at, "_offsets\":["), "_offsets\":[%zu", &begin), 1);
        const size_t width = strstr(dtype, "64") ? 8 : strstr(dtype, "32") ? 4 : strstr(dtype, "16") ? 2 : 1;
        assert_int_equal(begin % width, 0);
    }
    assert_int_equal(found, 16);
    bf_free(file);
    bnff_weights_destroy(&weights);
}

/* What the format's own library writes (make_files.py): element i is i/4 - 1. */
static void reads_the_reference_writer(void **state)
{
    (void)state;
    bnff_weights *weights;
    bnff_error error;
    check_ok(bnff_weights_open(IO_FILES "/reference.safetensors", &weights, &error), &error);
    assert_int_equal(bnff_weights_count(weights), 16);
    static const char *const names[] = {"f64", "f16", "bf16", "plain", "parameter"};
    FOR_EACH(name, names) {
        test_case("%s", name);
        bnff_weights_entry entry;
        float values[8];
        assert_true(bnff_weights_get(weights, bnff_weights_find(weights, name), &entry));
        bnff_weights_to_f32(&entry, values);
        for (int i = 0; i < (int)entry.elements; i++) check_close(values[i], (float)i / 4 - 1, 0);
    }
    assert_string_equal(bnff_weights_metadata(weights, "note"), "gr\xc3\xb6\xc3\x9f" "e \"x\"\n");
    bnff_weights_destroy(&weights);
}

#define T(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"

static void refuses_what_breaks_a_rule(void **state)
{
    (void)state;
    static const struct {
        const char *header;
        size_t data;
        bnff_status status; /* BNFF_OK: is read */
        const char *words;
    } cases[] = {
        {"{}", 0, BNFF_OK, NULL},
        {"{}      ", 0, BNFF_OK, NULL},
        {"{\"a\":" T("F32", "[2]", "[0,8]") "}", 8, BNFF_OK, NULL},
        {"{\"a\":" T("F32", "[]", "[0,4]") "}", 4, BNFF_OK, NULL},
        {"{\"a\":" T("F32", "[0,7]", "[0,0]") ",\"b\":" T("U8", "[0]", "[0,0]") ",\"c\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_OK, NULL},
        {"{\"\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_OK, NULL},
        {"{\"b\":" T("U8", "[1]", "[1,2]") ",\"a\":" T("U8", "[1]", "[0,1]") "}", 2, BNFF_OK, NULL},
        {"{\"__metadata__\":{}}", 0, BNFF_OK, NULL},
        /* JSON */
        {"{\"a\":" T("U8", "[1]", "[0,1]"), 1, BNFF_E_FORMAT, "header, byte"},
        {"{\"a\":" T("U8", "[1]", "[0,1]") "}x", 1, BNFF_E_FORMAT, "header, byte"},
        {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_E_FORMAT, "duplicate"},
        {"{\"a\":" T("U8", "[1]", "[0,1],\"shape\":[1]") "}", 1, BNFF_E_FORMAT, "duplicate"},
        {"{\"a\xff\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_E_FORMAT, "unable to decode"},
        {"{\"a\\u0000\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_E_FORMAT, "header, byte"},
        {"{\"a\":[[[[[[]]]]]]}", 0, BNFF_E_FORMAT, "nested deeper than 3"},
        {"{\"a\":3}", 0, BNFF_E_FORMAT, "'a' is not an object"},
        /* metadata */
        {"{\"__metadata__\":[]}", 0, BNFF_E_FORMAT, "__metadata__ is not an object"},
        {"{\"__metadata__\":{\"n\":1}}", 0, BNFF_E_FORMAT, "__metadata__ 'n' is not a string"},
        {"{\"__metadata__\":{\"n\":{}}}", 0, BNFF_E_FORMAT, "__metadata__ 'n' is not a string"},
        /* fields */
        {"{\"a\":{\"shape\":[1],\"data_offsets\":[0,1]}}", 1, BNFF_E_FORMAT, "'a' has no dtype"},
        {"{\"a\":{\"dtype\":\"U8\",\"data_offsets\":[0,1]}}", 1, BNFF_E_FORMAT, "'a' has no shape"},
        {"{\"a\":{\"dtype\":\"U8\",\"shape\":[1]}}", 1, BNFF_E_FORMAT, "'a': data_offsets"},
        {"{\"a\":" T("F8_E4M3", "[1]", "[0,1]") "}", 1, BNFF_E_UNSUPPORTED, "'a' has dtype F8_E4M3"},
        {"{\"a\":" T("f32", "[1]", "[0,4]") "}", 4, BNFF_E_UNSUPPORTED, "'a' has dtype f32"},
        {"{\"a\":" T("U8", "[-1]", "[0,1]") "}", 1, BNFF_E_FORMAT, "dimension 0"},
        {"{\"a\":" T("U8", "[1.0]", "[0,1]") "}", 1, BNFF_E_FORMAT, "dimension 0"},
        {"{\"a\":" T("U8", "[\"1\"]", "[0,1]") "}", 1, BNFF_E_FORMAT, "dimension 0"},
        {"{\"a\":" T("U8", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, BNFF_E_UNSUPPORTED, "9 dimensions"},
        {"{\"a\":" T("U8", "[99999999999999999999]", "[0,1]") "}", 1, BNFF_E_FORMAT, "header, byte"},
        /* sizes */
        {"{\"a\":" T("F32", "[3]", "[0,8]") "}", 8, BNFF_E_FORMAT, "hold 8 bytes, its F32 shape takes 12"},
        {"{\"a\":" T("F32", "[1]", "[0,8]") "}", 8, BNFF_E_FORMAT, "hold 8 bytes, its F32 shape takes 4"},
        {"{\"a\":" T("F32", "[4294967296,4294967296]", "[0,0]") "}", 0, BNFF_E_FORMAT, "overflows"},
        {"{\"a\":" T("F64", "[2305843009213693952]", "[0,0]") "}", 0, BNFF_E_FORMAT, "overflows"},
        /* offsets */
        {"{\"a\":" T("U8", "[1]", "[0]") "}", 1, BNFF_E_FORMAT, "data_offsets is not"},
        {"{\"a\":" T("U8", "[1]", "[0,1,2]") "}", 1, BNFF_E_FORMAT, "data_offsets is not"},
        {"{\"a\":" T("U8", "[1]", "[1,0]") "}", 1, BNFF_E_FORMAT, "data_offsets is not"},
        {"{\"a\":" T("U8", "[1]", "[-1,0]") "}", 1, BNFF_E_FORMAT, "data_offsets is not"},
        {"{\"a\":" T("U8", "[1]", "[0.0,1]") "}", 1, BNFF_E_FORMAT, "data_offsets is not"},
        {"{\"a\":" T("U8", "[9]", "[0,9]") "}", 8, BNFF_E_FORMAT, "ends at byte 9 of the data, the file has 8"},
        {"{\"a\":" T("U8", "[1]", "[1,2]") "}", 2, BNFF_E_FORMAT, "leaving a hole from byte 0"},
        {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":" T("U8", "[1]", "[2,3]") "}", 3, BNFF_E_FORMAT,
         "'b' begins at byte 2 of the data, leaving a hole from byte 1"},
        {"{\"a\":" T("U8", "[2]", "[0,2]") ",\"b\":" T("U8", "[1]", "[1,2]") "}", 2, BNFF_E_FORMAT, "overlapping"},
        {"{\"a\":" T("U8", "[1]", "[0,1]") ",\"b\":" T("U8", "[1]", "[0,1]") "}", 1, BNFF_E_FORMAT, "overlapping"},
        {"{\"a\":" T("U8", "[1]", "[0,1]") "}", 3, BNFF_E_FORMAT, "2 bytes after the last tensor"},
        {"{}", 1, BNFF_E_FORMAT, "1 byte after the last tensor"},
        /* names that become equal without their prefixes */
        {"{\"_orig_mod.a\":" T("U8", "[1]", "[0,1]") ",\"a\":" T("U8", "[1]", "[1,2]") "}", 2, BNFF_E_FORMAT, "two tensors are named 'a'"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("header %zu: %s", i, cases[i].header);
        bf_text file = {0};
        put_safetensors(&file, cases[i].header, cases[i].data);
        if (cases[i].status != BNFF_OK) {
            check_refused(file.data, file.length, cases[i].status, cases[i].words);
        } else {
            bnff_weights *weights;
            bnff_error error;
            check_ok(open_bytes(file.data, file.length, &weights, &error), &error);
            bnff_weights_destroy(&weights);
        }
        bf_text_free(&file);
    }
}

static void refuses_a_header_that_lies_about_its_length(void **state)
{
    (void)state;
    static const struct {
        uint64_t length;
        size_t rest;
        char first;
        const char *words;
    } cases[] = {
        {100000001, 100, '{', "at most 100000000"},
        {UINT64_MAX, 100, '{', "at most 100000000"},
        {100000000, 100, '{', "the file has 108"},
        {101, 100, '{', "incomplete"},
        {0, 100, '{', "does not begin with '{'"},
        {1, 100, '{', "does not begin with '{'"},
        {100, 100, ' ', "neither .safetensors nor"},
        {100, 100, '[', "neither .safetensors nor"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("length=%llu rest=%zu", (unsigned long long)cases[i].length, cases[i].rest);
        unsigned char file[8 + 100];
        memset(file, ' ', sizeof file);
        bf_put_le64(file, cases[i].length);
        file[8] = (unsigned char)cases[i].first;
        check_refused(file, 8 + cases[i].rest, BNFF_E_FORMAT, cases[i].words);
    }
    for (size_t size = 0; size < 9; size++) {
        test_case("size=%zu", size);
        check_refused("\2\0\0\0\0\0\0\0{", size, BNFF_E_FORMAT, size ? NULL : "the file is empty");
    }
}

static void refuses_headers_that_would_need_much_memory(void **state)
{
    (void)state;
    static const char *const repeated[] = {"[", "{\"\":", "\"a\":{},", "[],"};
    FOR_EACH(piece, repeated) {
        test_case("%s", piece);
        bf_text header = {0}, file = {0};
        bf_text_add(&header, "{\"a\":");
        if (piece[0] == '"') header.length = 1;
        while (header.length < 16 << 20) bf_text_append(&header, piece, strlen(piece));
        put_safetensors(&file, header.data, 0);
        check_refused(file.data, file.length, BNFF_E_FORMAT, piece[0] == '"' || piece[1] == ']' ? "more than" : "nested deeper");
        bf_text_free(&header);
        bf_text_free(&file);
    }
}

static void brings_names_into_todays_form(void **state)
{
    (void)state;
    static const struct {
        const char *names[3], *want[3];
    } cases[] = {
        {{"module.a", "module.b.c", NULL}, {"a", "b.c", NULL}},
        {{"_orig_mod.a", "_orig_mod.b", NULL}, {"a", "b", NULL}},
        {{"module._orig_mod.a", "_orig_mod.module.b", NULL}, {"a", "b", NULL}},
        {{"module.module.a", "module.module.b", "n_averaged"}, {"a", "b", NULL}},
        {{"features._orig_mod.conv0._orig_mod._orig_mod.a", "b", NULL}, {"features.conv0.a", "b", NULL}},
        {{"module.a", "b", NULL}, {"module.a", "b", NULL}},
        {{"n_averaged", "b", NULL}, {"n_averaged", "b", NULL}},
        {{"denselayer1.norm.1.bias", "x.denselayer34.conv.2.weight", NULL},
         {"denselayer1.norm1.bias", "x.denselayer34.conv2.weight", NULL}},
        {{"denselayer1.norm.3.bias", "denselayer.relu.1.weight", "denselayer1.norm.1.x"},
         {"denselayer1.norm.3.bias", "denselayer.relu.1.weight", "denselayer1.norm.1.x"}},
        {{"my_module.a", "a_orig_mod.b", NULL}, {"my_module.a", "a_orig_mod.b", NULL}},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i].names[0]);
        bf_text header = {0}, file = {0};
        int count = 0, want = 0;
        for (; count < 3 && cases[i].names[count]; count++)
            bf_text_add(&header, "%c\"%s\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}", count ? ',' : '{', cases[i].names[count], count,
                        count + 1);
        bf_text_add(&header, "}");
        put_safetensors(&file, header.data, (size_t)count);
        bnff_weights *weights;
        bnff_error error;
        check_ok(open_bytes(file.data, file.length, &weights, &error), &error);
        for (; want < 3 && cases[i].want[want]; want++) assert_int_not_equal(bnff_weights_find(weights, cases[i].want[want]), -1);
        assert_int_equal(bnff_weights_count(weights), want);
        bnff_weights_destroy(&weights);
        bf_text_free(&header);
        bf_text_free(&file);
    }
}

/* All 65536 halves and bfloats against their definition. */
static void converts_every_half(void **state)
{
    (void)state;
    uint16_t *halves = guarded_bytes(65536 * sizeof *halves);
    float *got = guarded(65536);
    for (int i = 0; i < 65536; i++) halves[i] = (uint16_t)i;
    bnff_weights_entry entry = entry_of("x", BNFF_F16, 65536, halves);
    bnff_weights_to_f32(&entry, got);
    for (int i = 0; i < 65536; i++) {
        const int exponent = i >> 10 & 31, fraction = i & 1023;
        const double magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                               : exponent ? ldexp(1024 + fraction, exponent - 25) : ldexp(fraction, -24);
        check_close(got[i], i & 0x8000 ? -magnitude : magnitude, 0);
        if (!isnan(got[i])) assert_int_equal(!!signbit(got[i]), i >> 15);
    }
    entry.dtype = BNFF_BF16;
    bnff_weights_to_f32(&entry, got);
    for (int i = 0; i < 65536; i++) {
        const int exponent = i >> 7 & 255, fraction = i & 127;
        const double magnitude = exponent == 255 ? (fraction ? NAN : INFINITY)
                               : exponent ? ldexp(128 + fraction, exponent - 134) : ldexp(fraction, -133);
        check_close(got[i], i & 0x8000 ? -magnitude : magnitude, 0);
    }
    check_guards();
}

static void converts_integers_and_doubles_at_any_alignment(void **state)
{
    (void)state;
    unsigned char bytes[1 + 4 * 8];
    const double f64[] = {0.1, -1e300, 1e-300, 16777217};
    const int64_t i64[] = {INT64_MIN, -3, 0, 1LL << 40};
    const int32_t i32[] = {INT32_MIN, -3, 0, 1 << 20};
    const unsigned char u8[] = {0, 1, 2, 255};
    const float want[][4] = {{0.1f, -INFINITY, 0, 16777216}, {-0x1p63f, -3, 0, 0x1p40f}, {-0x1p31f, -3, 0, 0x1p20f}, {0, 1, 2, 255}, {0, 1, 1, 1}};
    const struct { bnff_dtype dtype; const void *data; size_t size; } cases[] = {
        {BNFF_F64, f64, sizeof f64}, {BNFF_I64, i64, sizeof i64}, {BNFF_I32, i32, sizeof i32}, {BNFF_U8, u8, sizeof u8}, {BNFF_BOOL, u8, sizeof u8}};
    for (size_t k = 0; k < COUNT_OF(cases); k++) {
        float got[4];
        memcpy(bytes + 1, cases[k].data, cases[k].size);
        bnff_weights_entry entry = entry_of("x", cases[k].dtype, 4, bytes + 1);
        bnff_weights_to_f32(&entry, got);
        for (int i = 0; i < 4; i++) {
            test_case("dtype=%d i=%d", (int)cases[k].dtype, i);
            check_close(got[i], want[k][i], 0);
        }
    }
}

static void refuses_entries_that_cannot_be_written(void **state)
{
    (void)state;
    bnff_weights *weights;
    bnff_error error;
    float data[4] = {0};
    check_ok(bnff_weights_create(&weights, &error), &error);
    bnff_weights_entry good = entry_of("a", BNFF_F32, 4, data), bad;
    check_ok(bnff_weights_add(weights, &good, &error), &error);
    check_fails(bnff_weights_add(weights, &good, &error), BNFF_E_ARG, &error, "already");
    good.name = "b";
#define REFUSED(change, words)                                                              \
    do {                                                                                    \
        bad = good;                                                                         \
        change;                                                                             \
        check_fails(bnff_weights_add(weights, &bad, &error), BNFF_E_ARG, &error, words);    \
        check_fails(bnff_weights_add(weights, &bad, NULL), BNFF_E_ARG, NULL, NULL);         \
    } while (0)
    REFUSED(bad.name = NULL, "named");
    REFUSED(bad.name = "__metadata__", "named");
    REFUSED(bad.name = "a\xff", "named");
    REFUSED(bad.name = "\xed\xa0\x80", "named");
    REFUSED(bad.name = "\xc0\x80", "named");
    REFUSED(bad.rank = 9, "rank 9");
    REFUSED(bad.rank = -1, "rank -1");
    REFUSED(bad.dtype = (bnff_dtype)8, "dtype 8");
    REFUSED(bad.elements = 3, "3 elements");
    REFUSED(bad.shape[0] = -4, "elements");
    REFUSED((bad.rank = 2, bad.shape[0] = bad.shape[1] = INT64_MAX), "elements");
    REFUSED(bad.data = NULL, "no data");
    assert_int_equal(bnff_weights_count(weights), 1);
    good.name = "\xf0\x9f\x90\xa2"; /* a turtle is fine */
    check_ok(bnff_weights_add(weights, &good, &error), &error);
    bnff_weights_destroy(&weights);
}

static void finds_names_whatever_the_order(void **state)
{
    (void)state;
    bnff_weights *weights;
    bnff_error error;
    unsigned char data[1] = {0};
    check_ok(bnff_weights_create(&weights, &error), &error);
    for (int i = 0; i < 500; i++) {
        char name[16];
        snprintf(name, sizeof name, "t%d", i * 181 % 500);
        bnff_weights_entry entry = entry_of(name, BNFF_U8, 1, data);
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
    }
    for (int i = 0; i < 500; i++) {
        char name[16];
        bnff_weights_entry entry;
        snprintf(name, sizeof name, "t%d", i);
        assert_true(bnff_weights_get(weights, bnff_weights_find(weights, name), &entry));
        assert_string_equal(entry.name, name);
    }
    assert_int_equal(bnff_weights_find(weights, "t500"), -1);
    assert_int_equal(bnff_weights_find(weights, ""), -1);
    assert_false(bnff_weights_get(weights, 500, &(bnff_weights_entry){0}));
    bnff_weights_destroy(&weights);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(writes_and_reads_back),
        test(equal_contents_are_equal_bytes),
        test(tensors_are_aligned_in_the_file),
        test(reads_the_reference_writer),
        test(refuses_what_breaks_a_rule),
        test(refuses_a_header_that_lies_about_its_length),
        test(refuses_headers_that_would_need_much_memory),
        test(brings_names_into_todays_form),
        test(converts_every_half),
        test(converts_integers_and_doubles_at_any_alignment),
        test(refuses_entries_that_cannot_be_written),
        test(finds_names_whatever_the_order),
    };
    return run_all(tests);
}
