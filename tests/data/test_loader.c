/* The loader: the same batches whatever the threads, resumed anywhere; damaged files left out, reported and counted. */
#include <pthread.h>

#include <bnff/data.h>

#include "folders.h"

enum { SIDE = 6, FLOATS = SIDE * SIDE * 3, ITEMS = 23, BATCH = 4 };

static bnff_transform make_transform(void)
{
    bnff_transform t = {.size = sizeof t, .width = SIDE, .height = SIDE, .augment = true, .scale = {0.3, 1}, .ratio = {3. / 4, 4. / 3}, .hflip = 0.5};
    for (int c = 0; c < 3; c++) t.mean[c] = 0.4f, t.std[c] = 0.3f;
    return t;
}

static bnff_loader_options make_options(int threads)
{
    return (bnff_loader_options){.size = sizeof(bnff_loader_options), .batch = BATCH, .threads = threads, .shuffle = true, .seed = 11, .max_bad = -1};
}

/* 23 images of random pixels in two classes. */
static const char *make_folder(void)
{
    const char *folder = new_folder("loader");
    test_case("loader images");
    for (int i = 0; i < ITEMS; i++) {
        uint8_t bytes[15 + 9 * 8 * 3] = "P6 9 8 255\n";
        char name[32];
        for (int p = 0; p < 9 * 8 * 3; p++) bytes[11 + p] = (uint8_t)random_int(0, 255);
        snprintf(name, sizeof name, "%s/%02d.ppm", i < 15 ? "a" : "b", i);
        put_file(folder, name, bytes, 11 + 9 * 8 * 3);
    }
    return folder;
}

static bnff_dataset *open_all(const char *spec)
{
    bnff_dataset *d;
    bnff_error error;
    check_ok(bnff_dataset_open(spec, BNFF_SPLIT_ALL, NULL, &d, &error), &error);
    return d;
}

static bnff_loader *make_loader(const bnff_dataset *d, const bnff_loader_options *options)
{
    const bnff_transform t = make_transform();
    bnff_loader *loader;
    bnff_error error;
    check_ok(bnff_loader_create(d, &t, options, &loader, &error), &error);
    return loader;
}

/* What an epoch gave, laid out one after the other. */
typedef struct epoch {
    int batches, images;
    int counts[64];
    int64_t at[64]; /* index of each batch */
    int32_t labels[256];
    int64_t indices[256];
    float pixels[256 * FLOATS];
} epoch;

static void run_epoch(bnff_loader *loader, int64_t number, int64_t first, epoch *e)
{
    bnff_error error;
    bnff_batch batch;
    memset(e, 0, sizeof *e);
    check_ok(bnff_loader_start(loader, number, first, &error), &error);
    for (;;) {
        check_ok(bnff_loader_next(loader, &batch, &error), &error);
        if (!batch.count) break;
        assert_true(batch.wait_s >= 0);
        memcpy(e->labels + e->images, batch.labels, (size_t)batch.count * sizeof *batch.labels);
        memcpy(e->indices + e->images, batch.indices, (size_t)batch.count * sizeof *batch.indices);
        memcpy(e->pixels + e->images * FLOATS, batch.images, (size_t)batch.count * FLOATS * sizeof(float));
        e->at[e->batches] = batch.index;
        e->counts[e->batches++] = batch.count;
        e->images += batch.count;
    }
    check_ok(bnff_loader_next(loader, &batch, &error), &error); /* and again nothing */
    assert_int_equal(batch.count, 0);
}

static void check_same(const epoch *a, const epoch *b) { assert_memory_equal(a, b, sizeof *a); }

static epoch one, two, whole;

static void threads_change_nothing(void **state)
{
    (void)state;
    bnff_dataset *folder = open_all(make_folder()), *array = open_all("synthetic:100x9x3");
    bnff_dataset *const sets[] = {folder, array};
    static const int threads[] = {1, 3, 8};
    FOR_EACH(d, sets) {
        bnff_loader_options options = make_options(0);
        bnff_loader *plain = make_loader(d, &options);
        run_epoch(plain, 2, 0, &one);
        assert_int_equal(one.images, bnff_dataset_size(d));
        FOR_EACH(n, threads) {
            test_case("threads=%d", n);
            options.threads = n;
            bnff_loader *loader = make_loader(d, &options);
            run_epoch(loader, 2, 0, &two);
            check_same(&two, &one);
            bnff_loader_destroy(&loader);
        }
        bnff_loader_destroy(&plain);
    }
    bnff_dataset_destroy(&folder);
    bnff_dataset_destroy(&array);
}

static void epochs_are_permutations(void **state)
{
    (void)state;
    bnff_dataset *d = open_all(make_folder());
    bnff_loader_options options = make_options(2);
    bnff_loader *loader = make_loader(d, &options);
    for (int e = 0; e < 3; e++) {
        bool seen[ITEMS] = {false};
        run_epoch(loader, e, 0, &one);
        assert_int_equal(one.batches, 6);
        assert_int_equal(one.counts[5], ITEMS % BATCH);
        for (int i = 0; i < ITEMS; i++) {
            assert_false(seen[one.indices[i]]);
            seen[one.indices[i]] = true;
            assert_int_equal(one.labels[i], bnff_dataset_label(d, one.indices[i]));
        }
        if (e) assert_memory_not_equal(one.indices, two.indices, sizeof one.indices);
        two = one;
    }
    run_epoch(loader, 2, 0, &one); /* the same epoch again, whatever came before */
    check_same(&one, &two);
    bnff_loader_destroy(&loader);
    options.shuffle = false, options.drop_last = true;
    loader = make_loader(d, &options);
    run_epoch(loader, 0, 0, &one);
    assert_int_equal(bnff_loader_batches(loader), 5);
    assert_int_equal(one.images, 20);
    for (int i = 0; i < 20; i++) assert_int_equal(one.indices[i], i);
    bnff_loader_destroy(&loader);
    bnff_dataset_destroy(&d);
}

static void resumes_at_any_batch(void **state)
{
    (void)state;
    bnff_dataset *d = open_all(make_folder());
    bnff_loader_options options = make_options(2);
    bnff_loader *loader = make_loader(d, &options), *fresh = make_loader(d, &options);
    bnff_error error;
    run_epoch(loader, 1, 0, &one);
    for (int first = 0; first <= one.batches; first++) {
        test_case("resume at %d", first);
        run_epoch(first % 2 ? fresh : loader, 1, first, &two);
        const int skipped = first * BATCH < ITEMS ? first * BATCH : ITEMS;
        assert_int_equal(two.images, ITEMS - skipped);
        if (two.images) assert_int_equal(two.at[0], first);
        assert_memory_equal(two.indices, one.indices + skipped, (size_t)two.images * sizeof *two.indices);
        check_same_bits(two.pixels, one.pixels + skipped * FLOATS, (size_t)two.images * FLOATS);
    }
    check_fails(bnff_loader_start(loader, 1, 7, &error), BNFF_E_ARG, &error, "batch 7");
    check_fails(bnff_loader_start(loader, 1, -1, &error), BNFF_E_ARG, &error, "batch -1");
    bnff_loader_destroy(&loader);
    bnff_loader_destroy(&fresh);
    bnff_dataset_destroy(&d);
}

/* A start in mid-epoch and a destroy at any moment leave nothing behind. */
static void stops_at_any_moment(void **state)
{
    (void)state;
    bnff_dataset *d = open_all(make_folder());
    const bnff_loader_options options = make_options(3);
    bnff_loader *loader = make_loader(d, &options);
    run_epoch(loader, 4, 0, &one);
    bnff_loader_destroy(&loader);
    for (int i = 0; i < 40; i++) {
        bnff_error error;
        bnff_batch batch;
        loader = make_loader(d, &options);
        if (i % 4 > 0) check_ok(bnff_loader_start(loader, 3, 0, &error), &error);
        for (int k = 0; k < i % 4; k++) check_ok(bnff_loader_next(loader, &batch, &error), &error);
        if (i % 8 == 7) {
            run_epoch(loader, 4, 0, &two);
            check_same(&two, &one);
        }
        bnff_loader_destroy(&loader);
    }
    bnff_loader_destroy(&loader);
    bnff_dataset_destroy(&d);
}

/* -- Damaged files ------------------------------------------------------------------------------------------------- */

typedef struct bad_files {
    pthread_t thread;
    int count;
    char text[16][300];
} bad_files;

static void on_bad(void *user, const char *path, const char *reason)
{
    bad_files *bad = user;
    assert_true(pthread_equal(pthread_self(), bad->thread));
    snprintf(bad->text[bad->count++ % 16], sizeof bad->text[0], "%s|%s", strrchr(path, '/') + 1, reason);
}

static void damaged_files_are_left_out(void **state)
{
    (void)state;
    const char *folder = make_folder();
    bnff_dataset *d = open_all(folder);
    bnff_loader_options plain = make_options(0);
    bnff_loader *undamaged = make_loader(d, &plain);
    run_epoch(undamaged, 2, 0, &whole);
    bnff_loader_destroy(&undamaged);
    put_file(folder, "a/03.ppm", "P6 9 8 255\nshort", 16);
    put_file(folder, "b/20.ppm", "nothing", 7);
    static const int threads[] = {0, 3};
    FOR_EACH(n, threads) {
        test_case("damaged threads=%d", n);
        bad_files bad = {.thread = pthread_self()};
        bnff_loader_options options = make_options(n);
        options.max_bad = 2, options.on_bad = on_bad, options.on_bad_user = &bad;
        bnff_loader *loader = make_loader(d, &options);
        for (int e = 0; e < 3; e++) {
            run_epoch(loader, e, 0, &one);
            assert_int_equal(one.images, ITEMS - 2);
            for (int i = 0; i < one.images; i++) {
                assert_true(one.indices[i] != 3 && one.indices[i] != 20);
                assert_int_equal(one.labels[i], one.indices[i] >= 15);
            }
        }
        for (int i = 0, k = 0; i < one.images; i++, k++) { /* the others are as they would have been */
            while (whole.indices[k] != one.indices[i]) k++;
            check_same_bits(one.pixels + i * FLOATS, whole.pixels + k * FLOATS, FLOATS);
        }
        assert_int_equal(bad.count, 2); /* once each */
        assert_int_equal(bnff_loader_bad(loader), 2);
        const char *text = bad.text[strncmp(bad.text[0], "03", 2) ? 1 : 0];
        assert_string_equal(text, "03.ppm|damaged PPM: its pixels are cut off");
        if (n) check_same(&one, &two);
        two = one;
        bnff_loader_destroy(&loader);
    }
    bnff_dataset_destroy(&d);
}

static void too_many_damaged_files_stop_it(void **state)
{
    (void)state;
    const char *folder = make_folder();
    put_file(folder, "a/03.ppm", "P6 ", 3);
    put_file(folder, "b/20.ppm", "P6 ", 3);
    bnff_dataset *d = open_all(folder);
    bnff_loader_options options = make_options(2);
    options.shuffle = false; /* max_bad -1: 1 % of 23, at least one */
    bnff_loader *loader = make_loader(d, &options);
    bnff_error error;
    bnff_batch batch;
    check_ok(bnff_loader_start(loader, 0, 0, &error), &error);
    for (int i = 0; i < 5; i++) check_ok(bnff_loader_next(loader, &batch, &error), &error);
    for (int i = 0; i < 2; i++) { /* and it stays so */
        check_fails(bnff_loader_next(loader, &batch, &error), BNFF_E_FORMAT, &error, "b/20.ppm: damaged PPM: cut off; with it 2 files are damaged");
        assert_non_null(strstr(error.hint, "bnff data check "));
        assert_int_equal(batch.count, 0);
    }
    bnff_loader_destroy(&loader);
    bnff_dataset_destroy(&d);
}

/* A batch without a whole image is passed over, and the next one says which it is. */
static void empty_batches_are_passed_over(void **state)
{
    (void)state;
    const char *folder = make_folder();
    for (int i = 4; i < 8; i++) {
        char name[32];
        snprintf(name, sizeof name, "a/%02d.ppm", i);
        put_file(folder, name, "", 0);
    }
    bnff_dataset *d = open_all(folder);
    bnff_loader_options options = make_options(1);
    options.shuffle = false, options.max_bad = 4;
    bnff_loader *loader = make_loader(d, &options);
    run_epoch(loader, 0, 0, &one);
    assert_int_equal(one.batches, 5);
    assert_int_equal(one.at[0], 0);
    assert_int_equal(one.at[1], 2);
    assert_int_equal(one.indices[4], 8);
    run_epoch(loader, 0, 2, &two);
    check_same_bits(two.pixels, one.pixels + 4 * FLOATS, (ITEMS - 8) * FLOATS);
    bnff_loader_destroy(&loader);
    bnff_dataset_destroy(&d);
}

static void arguments(void **state)
{
    (void)state;
    bnff_dataset *d = open_all("synthetic:10x8x2");
    bnff_transform t = make_transform();
    bnff_loader *loader;
    bnff_error error;
    bnff_loader_options options = make_options(0);
    options.batch = 0;
    check_fails(bnff_loader_create(d, &t, &options, &loader, &error), BNFF_E_ARG, &error, "batch of 0");
    options.batch = 11, options.drop_last = true;
    check_fails(bnff_loader_create(d, &t, &options, &loader, &error), BNFF_E_ARG, &error, "only 10");
    options.batch = 4, options.threads = -1;
    check_fails(bnff_loader_create(d, &t, &options, &loader, &error), BNFF_E_ARG, &error, "-1");
    options.threads = 0, t.width = 0;
    check_fails(bnff_loader_create(d, &t, &options, &loader, &error), BNFF_E_ARG, &error, "0 x");
    t.width = 16384, t.height = 16384, options.batch = 1 << 24, options.drop_last = false;
    check_fails(bnff_loader_create(d, &t, &options, &loader, &error), BNFF_E_MEMORY, &error, "no memory");
    assert_null(loader);
    bnff_loader_destroy(&loader);
    bnff_loader_destroy(NULL);
    bnff_dataset_destroy(&d);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(threads_change_nothing),     test(epochs_are_permutations),        test(resumes_at_any_batch),          test(stops_at_any_moment),
        test(damaged_files_are_left_out), test(too_many_damaged_files_stop_it), test(empty_batches_are_passed_over), test(arguments),
    };
    return run_all(tests);
}
