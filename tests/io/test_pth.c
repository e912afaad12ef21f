/* .pth: what torch.save writes is read, both containers; hostile ones are refused, and nothing is ever called. */
#define _GNU_SOURCE /* memmem */
#include "base/memory.h"
#include "bytes_support.h"

static bnff_weights *open_file(const char *name)
{
    char path[512];
    bnff_weights *weights;
    bnff_error error;
    snprintf(path, sizeof path, IO_FILES "/%s", name);
    check_ok(bnff_weights_open(path, &weights, &error), &error);
    return weights;
}

static bnff_weights_entry get(const bnff_weights *weights, const char *name)
{
    bnff_weights_entry entry;
    assert_true(bnff_weights_get(weights, bnff_weights_find(weights, name), &entry));
    return entry;
}

/* make_files.py: ramp(...) has i / 4 - 1 at i. */
static float ramp(int i) { return (float)i / 4 - 1; }

/* Element (i0, i1, ...) of an entry is the ramp at offset + sum of index times stride. */
static void check_ramp(const bnff_weights *weights, const char *name, int rank, const int64_t *shape, int offset, const int *stride)
{
    test_case("%s", name);
    const bnff_weights_entry entry = get(weights, name);
    float *values = guarded((size_t)entry.elements);
    assert_int_equal(entry.rank, rank);
    for (int d = 0; d < rank; d++) assert_int_equal(entry.shape[d], shape[d]);
    bnff_weights_to_f32(&entry, values);
    for (int64_t n = 0; n < entry.elements; n++) {
        int at = offset;
        for (int64_t d = rank - 1, rest = n; d >= 0; rest /= shape[d], d--) at += (int)(rest % shape[d]) * stride[d];
        check_close(values[n], ramp(at), 0);
    }
    check_guards();
}

static void reads_both_containers(void **state)
{
    (void)state;
    static const char *const files[] = {"zip.pth", "legacy.pth", "reference.safetensors"};
    FOR_EACH(file, files) {
        bnff_weights *weights = open_file(file);
        assert_int_equal(bnff_weights_count(weights), 16);
        check_ramp(weights, "plain", 2, (int64_t[]){2, 3}, 0, (int[]){3, 1});
        check_ramp(weights, "transposed", 2, (int64_t[]){4, 3}, 0, (int[]){1, 4});
        check_ramp(weights, "channels_last", 4, (int64_t[]){2, 3, 2, 2}, 0, (int[]){12, 4, 2, 1});
        check_ramp(weights, "row", 1, (int64_t[]){4}, 4, (int[]){1});
        check_ramp(weights, "column", 1, (int64_t[]){3}, 2, (int[]){4});
        check_ramp(weights, "expanded", 2, (int64_t[]){2, 3}, 0, (int[]){0, 1});
        check_ramp(weights, "parameter", 1, (int64_t[]){3}, 0, (int[]){1});
        static const char *const types[] = {"f64", "f16", "bf16"};
        FOR_EACH(type, types) check_ramp(weights, type, 1, (int64_t[]){5}, 0, (int[]){1});
        static const struct { const char *name; bnff_dtype dtype; float want[3]; } others[] = {
            {"i64", BNFF_I64, {1, -2, 3}}, {"i32", BNFF_I32, {1, -2, 3}}, {"u8", BNFF_U8, {0, 128, 255}}, {"bool", BNFF_BOOL, {1, 0, 1}}};
        for (size_t k = 0; k < COUNT_OF(others); k++) {
            test_case("%s %s", file, others[k].name);
            const bnff_weights_entry entry = get(weights, others[k].name);
            float values[3];
            assert_int_equal(entry.dtype, others[k].dtype);
            assert_int_equal(entry.elements, 3);
            bnff_weights_to_f32(&entry, values);
            for (int i = 0; i < 3; i++) check_close(values[i], others[k].want[i], 0);
        }
        float scalar;
        const bnff_weights_entry entry = get(weights, "scalar"), empty = get(weights, "empty");
        assert_int_equal(entry.rank, 0);
        bnff_weights_to_f32(&entry, &scalar);
        check_close(scalar, 2.5, 0);
        assert_int_equal(empty.elements, 0);
        assert_non_null(empty.data);
        bnff_weights_destroy(&weights);
    }
}

/* Optimizer, arguments, numpy arrays and sets lie beside the state dict, and a class that is unknown here among them. */
static void enters_checkpoints(void **state)
{
    (void)state;
    static const char *const files[] = {"checkpoint_zip.pth", "checkpoint_legacy.pth", "checkpoint_zip_p4.pth", "checkpoint_legacy_p4.pth"};
    FOR_EACH(file, files) {
        test_case("%s", file);
        bnff_weights *weights = open_file(file);
        assert_int_equal(bnff_weights_count(weights), 6);
        check_ramp(weights, "0.weight", 4, (int64_t[]){2, 1, 3, 3}, 0, (int[]){9, 9, 3, 1});
        static const char *const names[] = {"1.weight", "1.bias", "1.running_mean", "1.running_var"};
        FOR_EACH(name, names) assert_int_equal(get(weights, name).elements, 2);
        const bnff_weights_entry batches = get(weights, "1.num_batches_tracked");
        assert_int_equal(batches.dtype, BNFF_I64);
        assert_int_equal(batches.rank, 0);
        assert_int_equal(*(const char *)batches.data, 1);
        bnff_weights_destroy(&weights);
    }
}

static void explains_what_is_no_state_dict(void **state)
{
    (void)state;
    static const struct { const char *file; bnff_status status; const char *words; } cases[] = {
        {"module.pth", BNFF_E_FORMAT, "class torch.nn.modules.linear.Linear"},
        {"list.pth", BNFF_E_FORMAT, "single tensor or list"},
        {"script.pth", BNFF_E_FORMAT, "TorchScript"},
        {"int16.pth", BNFF_E_UNSUPPORTED, "'x' is a ShortStorage"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i].file);
        char path[512];
        bnff_weights *weights;
        bnff_error error;
        snprintf(path, sizeof path, IO_FILES "/%s", cases[i].file);
        check_fails(bnff_weights_open(path, &weights, &error), cases[i].status, &error, cases[i].words);
        check_fails(bnff_weights_open(path, &weights, NULL), cases[i].status, NULL, NULL);
    }
}

/* -- Files made here ------------------------------------------------------------------------------------------------ */

static const float eight[8] = {0, 1, 2, 3, 4, 5, 6, 7};

/* Wrap a pickle in both containers, over the storage "0" of eight floats, and see it read or refused. */
static void check_pickle(const bf_text *pickle, bnff_status status, const char *words)
{
    for (int legacy = 0; legacy < 2; legacy++) {
        zip_builder zip = {0};
        const bool used = pickle->length && memmem(pickle->data, pickle->length, "\0storage", 8);
        if (legacy) put_legacy(&zip.file, pickle, eight, used ? 8 : 0, 4);
        else put_pth(&zip, pickle, eight, sizeof eight);
        if (status != BNFF_OK) {
            check_refused(zip.file.data, zip.file.length, status, words);
        } else {
            bnff_weights *weights;
            bnff_error error;
            check_ok(open_bytes(zip.file.data, zip.file.length, &weights, &error), &error);
            bnff_weights_destroy(&weights);
        }
        zip_free(&zip);
    }
}

/* A state dict with one tensor "x" over the storage. */
static void one_tensor(bf_text *pickle, const char *type, const char *key, int64_t elements, int64_t offset, int rank, const int64_t *sizes,
                       const int64_t *strides)
{
    pickle_begin(pickle);
    bf_text_add(pickle, "}");
    pickle_text(pickle, "x");
    pickle_tensor(pickle, type, key, elements, offset, rank, sizes, strides);
    bf_text_add(pickle, "s.");
}

static void checks_the_bounds_of_tensors(void **state)
{
    (void)state;
    const int64_t huge = INT64_MAX / 2;
    const struct {
        const char *key;
        int64_t elements, offset;
        int rank;
        int64_t sizes[9], strides[9];
        bnff_status status;
        const char *words;
    } cases[] = {
        {"0", 8, 0, 1, {8}, {1}, BNFF_OK, NULL},
        {"0", 8, 7, 1, {1}, {99}, BNFF_OK, NULL},
        {"0", 8, 7, 0, {0}, {0}, BNFF_OK, NULL},
        {"0", 8, 0, 3, {2, 2, 2}, {1, 2, 4}, BNFF_OK, NULL},
        {"0", 8, 0, 2, {4, 2}, {0, 1}, BNFF_OK, NULL},
        {"0", 8, 0, 2, {0, huge}, {1, 1}, BNFF_OK, NULL},
        {"0", 8, 99, 1, {0}, {1}, BNFF_OK, NULL},
        {"0", 8, 8, 1, {1}, {1}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, 8, 0, {0}, {0}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, 1, 1, {8}, {1}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, -1, 1, {8}, {1}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, INT64_MAX, 1, {2}, {1}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, 0, 1, {2}, {8}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, 0, 1, {3}, {huge}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 8, 0, 2, {3, 3}, {huge, huge}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 4, 0, 1, {8}, {1}, BNFF_E_FORMAT, "beyond its storage"},
        {"0", 9, 0, 1, {8}, {1}, BNFF_E_FORMAT, "larger than its bytes"},
        {"0", -8, 0, 1, {8}, {1}, BNFF_E_FORMAT, "larger than its bytes"},
        {"0", INT64_MAX, 0, 1, {8}, {1}, BNFF_E_FORMAT, "larger than its bytes"},
        {"0", 8, 0, 1, {-8}, {1}, BNFF_E_FORMAT, "whole number >= 0"},
        {"0", 8, 7, 1, {8}, {-1}, BNFF_E_FORMAT, "whole number >= 0"},
        {"0", 8, 0, 2, {huge, huge}, {0, 0}, BNFF_E_FORMAT, "overflows"},
        {"0", 8, 0, 1, {INT64_MAX}, {0}, BNFF_E_FORMAT, "overflows"},
        {"0", 8, 0, 1, {1 << 30}, {0}, BNFF_E_FORMAT, "expanded view"},
        {"0", 8, 0, 9, {1, 1, 1, 1, 1, 1, 1, 1, 1}, {1}, BNFF_E_UNSUPPORTED, "9 dimensions"},
        {"1", 8, 0, 1, {8}, {1}, BNFF_E_FORMAT, NULL},
        {"../data.pkl", 8, 0, 1, {8}, {1}, BNFF_E_FORMAT, NULL},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("tensor %zu", i);
        bf_text pickle = {0};
        one_tensor(&pickle, "FloatStorage", cases[i].key, cases[i].elements, cases[i].offset, cases[i].rank, cases[i].sizes, cases[i].strides);
        check_pickle(&pickle, cases[i].status, cases[i].words);
        bf_text_free(&pickle);
    }
}

/* Pickles that Python would obey. Nothing here can: what they call becomes an object without contents. */
static void calls_nothing(void **state)
{
    (void)state;
    const char *marker = temp_path("called");
    char command[600];
    snprintf(command, sizeof command, "touch %s", marker);
    static const struct { const char *module, *name, *after; } calls[] = {
        {"os", "system", "\x85R"},         /* os.system(command) */
        {"posix", "system", "\x85R"},
        {"builtins", "eval", "\x85\x81"},  /* by NEWOBJ */
        {"subprocess", "Popen", "\x85}\x92"}, /* by NEWOBJ_EX */
        {"builtins", "exec", "\x85R}b"},   /* and BUILD */
        {"torch.storage", "_load_from_bytes", "\x85R"},
    };
    for (size_t i = 0; i < COUNT_OF(calls); i++) {
        test_case("%s.%s", calls[i].module, calls[i].name);
        for (int beside = 0; beside < 2; beside++) {
            bf_text pickle = {0};
            pickle_begin(&pickle);
            if (beside) { /* among the contents of a checkpoint it is passed over */
                bf_text_add(&pickle, "}(");
                pickle_text(&pickle, "x");
                pickle_tensor(&pickle, "FloatStorage", "0", 8, 0, 1, (int64_t[]){8}, (int64_t[]){1});
                pickle_text(&pickle, "hook");
            }
            pickle_global(&pickle, calls[i].module, calls[i].name);
            pickle_text(&pickle, command);
            bf_text_add(&pickle, "%s%s.", calls[i].after, beside ? "u" : "");
            check_pickle(&pickle, beside ? BNFF_OK : BNFF_E_FORMAT, "never built");
            bf_text_free(&pickle);
        }
    }
    assert_null(fopen(marker, "r"));
}

#define TENSOR_ARGS "((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\10tQK\0K\10\x85K\1\x85\x89Nt"

/* A tensor of that size. */
#define SIZED(size) \
    "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\10tQK\0" size "\x85K\1\x85\x89NtR"

static void refuses_broken_pickles(void **state)
{
    (void)state;
#define P(bytes) bytes, sizeof bytes - 1
    static const struct { const char *bytes; size_t size; const char *words; } cases[] = {
        {P(""), NULL},
        {P("\x80\x01}."), "protocol"},
        {P("\x80\x06}."), "protocol"},
        {P("\x80\x02."), "stack is empty"},
        {P("\x80\x02}"), NULL},
        {P("\x80\x02X\xff\xff\xff\xff"), "ends in the middle"},
        {P("\x80\x02\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), "ends in the middle"},
        {P("\x80\x02\x8a\xff"), "ends in the middle"},
        {P("\x80\x02\x8b\xff\xff\xff\xff"), "ends in the middle"},
        {P("\x80\x02I01\n."), "code 0x49"},
        {P("\x80\x02\x82\1."), "code 0x82"}, /* extension registry */
        {P("\x80\x02ios\nsystem\n."), "code 0x69"},
        {P("\x80\x02(os."), NULL},
        {P("\x80\x02}s."), "stack is empty"},
        {P("\x80\x02NNs."), "stack is empty"},
        {P("\x80\x02NNNs."), "no container"},
        {P("\x80\x02]NNs."), "no container"},
        {P("\x80\x02}(Nu."), "key without a value"},
        {P("\x80\x02}u."), "mark is missing"},
        {P("\x80\x02(u."), "stack is empty"},
        {P("\x80\x02}(((u."), "stack is empty"},
        {P("\x80\x02(Nd."), "key without a value"},
        {P("\x80\x02t."), "mark is missing"},
        {P("\x80\x02N\x86."), "stack is empty"},
        {P("\x80\x02(N(\x85."), "stack is empty"},
        {P("\x80\x02" "0."), "stack is empty"},
        {P("\x80\x02" "2."), "stack is empty"},
        {P("\x80\x02h\0."), "unknown memo"},
        {P("\x80\x02Nq\1."), "memo's numbers leap"},
        {P("\x80\x02Nr\xff\xff\xff\xff."), "memo's numbers leap"},
        {P("\x80\x02q\0."), "stack is empty"},
        {P("\x80\x02R."), "stack is empty"},
        {P("\x80\x02NNR."), "no tuple"},
        {P("\x80\x02" "cnoend"), NULL},
        {P("\x80\x02NN\x93."), "no string"},
        {P("\x80\x02NQ."), "no tuple"},
        {P("\x80\x02)Q."), "no tuple"},
        {P("\x80\x02(X\7\0\0\0storagetQ."), "storage without"},
        {P("\x80\x02(X\7\0\0\0storagecos\nsystem\nX\1\0\0\0" "0X\3\0\0\0cpuK\10tQ."), "storage without"},
        {P("\x80\x02" "ctorch._utils\n_rebuild_tensor_v2\n)R."), "tensor without"},
        {P("\x80\x02" "ctorch._utils\n_rebuild_tensor_v3\n" TENSOR_ARGS "R."), "unknown dtype"},
        {P("\x80\x02" "ctorch._utils\n_rebuild_parameter\n)R."), "parameter without"},
        {P("\x80\x02" "ctorch\nSize\n)R."), "torch.Size"},
        {P("\x80\x02" "ctorch._tensor\n_rebuild_from_type_v2\n)R."), "tensor subclass"},
        {P("\x80\x02" "ccollections\nOrderedDict\n]Na\x85R."), "no pairs"},
        {P("\x80\x02}X\1\0\0\0x" "ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\nFloatStorage\nX\1\0\0\0" "0X\3\0\0\0cpuK\10tQ"
           "K\0K\10\x85)\x89NtRs."), "strides"},
        {P("\x80\x02}X\2\0\0\0a\0" "ctorch._utils\n_rebuild_tensor_v2\n" TENSOR_ARGS "Rs."), "zero byte"},
        {P("\x80\x02}U\1\xff" "ctorch._utils\n_rebuild_tensor_v2\n" TENSOR_ARGS "Rs."), "not UTF-8"},
        {P("\x80\x02}(X\1\0\0\0x" "ctorch._utils\n_rebuild_tensor_v2\n" TENSOR_ARGS "Rq\0X\1\0\0\0xh\0u."), "two tensors are named 'x'"},
        {P("\x80\x02}X\1\0\0\0x" SIZED("J\xff\xff\xff\xff") "s."), "whole number >= 0"}, /* -1 in each of its forms */
        {P("\x80\x02}X\1\0\0\0x" SIZED("\x8a\1\xff") "s."), "whole number >= 0"},
        {P("\x80\x02}X\5\0\0\0modelN" "s."), "its entries are 'model'"},
        {P("\x80\x02}."), "no state dict"},
        {P("\x80\x02" "cos\nabc\n)R(NNN\x90."), "class os.abc"}, /* items for what has no room for any */
        {P("\x80\x02" "cos\nabc\n)R(NNu."), "class os.abc"},
        {P("\x80\x02" "cos\nabc\n)R(NNe."), "class os.abc"},
        {P("\x80\x02\x8f(NNN\x90."), "not a state dict"},
        {P("\x80\x02](NNN\x90."), "no container"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("pickle %zu", i);
        const bf_text pickle = {.data = (char *)cases[i].bytes, .length = cases[i].size};
        check_pickle(&pickle, BNFF_E_FORMAT, cases[i].words);
    }
}

static void reads_what_older_and_other_picklers_write(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t size; } cases[] = {
        /* Python 2: byte strings, OrderedDict([[key, value]]), _rebuild_tensor without hooks */
        {P("\x80\x02" "ccollections\nOrderedDict\n](]q\0(U\1x" "ctorch._utils\n_rebuild_tensor\n((U\7storagectorch\nFloatStorage\n"
           "U\1" "0U\3cpuK\10NtQK\0K\10\x85K\1\x85tRee\x85R.")},
        /* protocol 4: frames, STACK_GLOBAL, MEMOIZE, short strings */
        {P("\x80\x04\x95\1\0\0\0\0\0\0\0}\x94(\x8c\1x\x94\x8c\x0ctorch._utils\x94\x8c\x12_rebuild_tensor_v2\x94\x93(" "(\x8c\7storage\x8c\5torch"
           "\x8c\x0c" "FloatStorage\x93\x8c\1" "0\x8c\3cpuK\10tQK\0K\10\x85K\1\x85\x89}t\x94Ru.")},
        /* a parameter, a torch.Size, a state dict with attributes, an untyped storage with a dtype */
        {P("\x80\x02" "ccollections\nOrderedDict\n)R(X\1\0\0\0x" "ctorch._utils\n_rebuild_parameter\n(ctorch._utils\n_rebuild_tensor_v2\n"
           TENSOR_ARGS "R\x88NtR" "X\1\0\0\0yctorch._utils\n_rebuild_tensor_v3\n((X\7\0\0\0storagectorch.storage\nUntypedStorage\nX\1\0\0\0" "0"
           "X\3\0\0\0cpuK tQK\0ctorch\nSize\nK\10\x85\x85RK\1\x85\x89Nctorch\nfloat32\ntRu}X\1\0\0\0mK\1sb.")},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        /* The last one's storages have two types, which the legacy container cannot hold. */
        for (int legacy = 0; legacy < (i == 2 ? 1 : 2); legacy++) {
            test_case("pickle %zu legacy=%d", i, legacy);
            zip_builder zip = {0};
            bnff_weights *weights;
            bnff_error error;
            const bf_text pickle = {.data = (char *)cases[i].bytes, .length = cases[i].size};
            if (legacy) put_legacy(&zip.file, &pickle, eight, 8, 4);
            else put_pth(&zip, &pickle, eight, sizeof eight);
            check_ok(open_bytes(zip.file.data, zip.file.length, &weights, &error), &error);
            bnff_weights_entry entry;
            for (int k = 0; bnff_weights_get(weights, k, &entry); k++) {
                assert_int_equal(entry.dtype, BNFF_F32);
                assert_int_equal(entry.elements, 8);
                assert_memory_equal(entry.data, eight, sizeof eight);
            }
            assert_int_equal(bnff_weights_count(weights), i == 2 ? 2 : 1);
            bnff_weights_destroy(&weights);
            zip_free(&zip);
        }
    }
}

static void bounds_memory_and_depth(void **state)
{
    (void)state;
    static const struct { const char *piece; size_t size; const char *words; } cases[] = {
        {P("(")}, {P("]")}, {P("N0")}, {P("N\x94")}, {P("]\x85")}, {P("}")}, {P("NN\x86\x94")},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("piece %zu", i);
        bf_text pickle = {0};
        pickle_begin(&pickle);
        while (pickle.length < 24 << 20) bf_text_append(&pickle, cases[i].piece, cases[i].size);
        zip_builder zip = {0};
        put_pth(&zip, &pickle, eight, sizeof eight);
        check_refused(zip.file.data, zip.file.length, BNFF_E_FORMAT, NULL);
        zip_free(&zip);
        bf_text_free(&pickle);
    }
}

/* A list that holds itself, a dict that is its own "model": no end in Python, an end here. */
static void survives_cycles(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t size; } cases[] = {{P("\x80\x02]q\0h\0a.")}, {P("\x80\x02}q\0X\5\0\0\0modelh\0s.")}};
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("cycle %zu", i);
        const bf_text pickle = {.data = (char *)cases[i].bytes, .length = cases[i].size};
        check_pickle(&pickle, BNFF_E_FORMAT, NULL);
    }
}

/* -- Containers ----------------------------------------------------------------------------------------------------- */

static void good_pickle(bf_text *pickle) { one_tensor(pickle, "FloatStorage", "0", 8, 0, 1, (int64_t[]){8}, (int64_t[]){1}); }

static void refuses_broken_archives(void **state)
{
    (void)state;
    bf_text pickle = {0};
    good_pickle(&pickle);
    static const char *const cases[] = {"good", "zip64", "no checksum", "compressed", "encrypted", "checksum", "no pickle", "big-endian", "twice",
                                        "deep"};
    FOR_EACH(name, cases) {
        test_case("%s", name);
        zip_builder zip = {.method = !strcmp(name, "compressed") ? 8 : 0, .flags = !strcmp(name, "encrypted"), .wide = !strcmp(name, "zip64"),
                           .no_checksum = !strcmp(name, "no checksum")};
        const char *words = NULL;
        bnff_status status = BNFF_E_FORMAT;
        if (!strcmp(name, "no pickle")) zip_entry(&zip, "archive/weights.npy", "x", 1), zip_end(&zip), words = "no data.pkl";
        else if (!strcmp(name, "deep")) zip_entry(&zip, "a/b/data.pkl", "x", 1), zip_end(&zip), words = "no data.pkl";
        else if (!strcmp(name, "twice")) zip_entry(&zip, "archive/data.pkl", "x", 1), put_pth(&zip, &pickle, eight, sizeof eight), words = "one name";
        else if (!strcmp(name, "big-endian")) {
            zip_entry(&zip, "archive/data.pkl", "x", 1);
            zip_entry(&zip, "archive/byteorder", "big", 3);
            zip_end(&zip);
            status = BNFF_E_UNSUPPORTED, words = "big-endian";
        } else put_pth(&zip, &pickle, eight, sizeof eight);
        if (zip.method || zip.flags) status = BNFF_E_UNSUPPORTED, words = "compressed or encrypted";
        if (!strcmp(name, "checksum")) {
            char *bytes = memmem(zip.file.data, zip.file.length, eight, sizeof eight);
            bytes[5] ^= 1, words = "checksum of 'archive/data/0' is wrong";
        }
        if (words) {
            check_refused(zip.file.data, zip.file.length, status, words);
        } else {
            bnff_weights *weights;
            bnff_error error;
            check_ok(open_bytes(zip.file.data, zip.file.length, &weights, &error), &error);
            bnff_weights_destroy(&weights);
        }
        zip_free(&zip);
    }
    bf_text_free(&pickle);
}

/* Every prefix of a file is refused, and every file with one byte changed is refused or read: never a crash. */
static void survives_cuts_and_flips(void **state)
{
    (void)state;
    bf_text pickle = {0};
    good_pickle(&pickle);
    for (int kind = 0; kind < 3; kind++) {
        zip_builder zip = {.wide = kind == 1};
        if (kind == 2) put_legacy(&zip.file, &pickle, eight, 8, 4);
        else put_pth(&zip, &pickle, eight, sizeof eight);
        for (size_t i = 0; i < zip.file.length; i++) {
            test_case("kind=%d byte=%zu", kind, i);
            check_refused(zip.file.data, i, BNFF_E_FORMAT, NULL);
            for (int bit = 0; bit < 8; bit++) {
                bnff_weights *weights;
                bnff_error error;
                zip.file.data[i] ^= (char)(1 << bit);
                if (open_bytes(zip.file.data, zip.file.length, &weights, &error) == BNFF_OK) bnff_weights_destroy(&weights);
                else assert_null(weights);
                zip.file.data[i] ^= (char)(1 << bit);
            }
        }
        zip_free(&zip);
    }
    bf_text_free(&pickle);
}

static void names_other_formats(void **state)
{
    (void)state;
    static const struct { const char *bytes, *words; } cases[] = {
        {"\x89HDF\r\n\x1a\n....", "HDF5"}, {"\x1f\x8b\x08.........", "gzip"}, {"version https://git-lfs.github.com/spec/v1", "Git LFS"},
        {"<!DOCTYPE html><html>", "web page"}, {"<html><body>", "web page"}, {"\x80\x02}q.", "not one of torch.save"},
        {"\x80\x04\x95.............", "not one of torch.save"}, {"PK\3\4........", "no end record"}, {"hello, world", "neither"}, {"x", "neither"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i].bytes);
        check_refused(cases[i].bytes, strlen(cases[i].bytes), BNFF_E_FORMAT, cases[i].words);
    }
    bnff_weights *weights;
    bnff_error error;
    check_fails(bnff_weights_open(temp_path("no such file"), &weights, &error), BNFF_E_IO, &error, "cannot open");
    check_fails(bnff_weights_open("/", &weights, &error), BNFF_E_IO, &error, "not a regular file");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(reads_both_containers),
        test(enters_checkpoints),
        test(explains_what_is_no_state_dict),
        test(checks_the_bounds_of_tensors),
        test(calls_nothing),
        test(refuses_broken_pickles),
        test(reads_what_older_and_other_picklers_write),
        test(bounds_memory_and_depth),
        test(survives_cycles),
        test(refuses_broken_archives),
        test(survives_cuts_and_flips),
        test(names_other_formats),
    };
    return run_all(tests);
}
