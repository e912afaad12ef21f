/* Class folders: what is found in which order, how it is divided, and what is said about folders that are not data sets. */
#include <sys/stat.h>
#include <unistd.h>

#include <bnff/data.h>

#include "folders.h"

static bnff_dataset *open_split(const char *folder, bnff_split split, double ratio, uint64_t seed)
{
    const bnff_dataset_options options = {.size = sizeof options, .val_ratio = ratio, .seed = seed};
    bnff_dataset *dataset;
    bnff_error error;
    check_ok(bnff_dataset_open(folder, split, &options, &dataset, &error), &error);
    return dataset;
}

static void open_fails(const char *folder, bnff_split split, bnff_status status, const char *words)
{
    bnff_dataset *dataset;
    bnff_error error = {0};
    check_fails(bnff_dataset_open(folder, split, NULL, &dataset, &error), status, &error, words);
    assert_true(error.hint[0]);
    assert_null(dataset);
}

static void check_items(const bnff_dataset *d, const char *folder, const char *const *names, int count)
{
    assert_int_equal(bnff_dataset_size(d), count);
    for (int i = 0; i < count; i++) assert_string_equal(bnff_dataset_item_name(d, i) + strlen(folder) + 1, names[i]);
}

static void finds_what_torchvision_finds(void **state)
{
    (void)state;
    const char *folder = new_folder("found");
    static const char *const names[] = {
        "Zebra/a.PPM", "Zebra/b.ppm", "ant/10.ppm", "ant/2.ppm", "ant/sub one/x.ppm", "ant/sub/deep/y.ppm", "ant/sub/z.ppm", "\xC3\xA9t\xC3\xA9/1.ppm",
    };
    FOR_EACH(name, names) put_image(folder, name, 2, 2, 9);
    put_image(folder, "ant/.hidden.ppm", 2, 2, 9);
    put_image(folder, "ant/.cache/x.ppm", 2, 2, 9);
    put_image(folder, "__MACOSX/ant/x.ppm", 2, 2, 9);
    put_file(folder, "ant/notes.txt", "x", 1);
    put_file(folder, "ant/Thumbs.db", "x", 1);
    put_file(folder, "readme.md", "x", 1);
    put_file(folder, "ant/photo.webp", "x", 1);
    put_file(folder, "Zebra/scan.TIF", "x", 1);
    bnff_dataset *d = open_split(folder, BNFF_SPLIT_ALL, 0, 0);
    /* All bytewise: the classes, the folders of a class by their whole path, the files of a folder. */
    static const char *const order[] = {
        "Zebra/a.PPM", "Zebra/b.ppm", "ant/10.ppm", "ant/2.ppm", "ant/sub/z.ppm", "ant/sub one/x.ppm", "ant/sub/deep/y.ppm", "\xC3\xA9t\xC3\xA9/1.ppm",
    };
    check_items(d, folder, order, 8);
    assert_int_equal(bnff_dataset_classes(d), 3);
    assert_string_equal(bnff_dataset_class_name(d, 0), "Zebra");
    assert_string_equal(bnff_dataset_class_name(d, 1), "ant");
    assert_null(bnff_dataset_class_name(d, 3));
    assert_int_equal(bnff_dataset_label(d, 7), 2);
    assert_int_equal(bnff_dataset_label(d, 8), -1);
    assert_null(bnff_dataset_item_name(d, 8));
    assert_int_equal(bnff_dataset_channels(d), 3);
    const char *unsupported;
    assert_int_equal(bnff_dataset_unsupported(d, &unsupported), 2);
    assert_string_equal(unsupported, below(folder, "Zebra/scan.TIF"));
    bnff_dataset_destroy(&d);
    assert_null(d);
}

static void follows_links_but_not_round(void **state)
{
    (void)state;
    const char *folder = new_folder("links");
    put_class(folder, "a", 2);
    put_class(folder, "b", 1);
    put_class(folder, "elsewhere/more", 1);
    assert_int_equal(rename(below(folder, "elsewhere"), temp_path("elsewhere")), 0);
    assert_int_equal(symlink(temp_path("elsewhere"), below(folder, "a/linked")), 0);
    assert_int_equal(symlink("..", below(folder, "a/up")), 0);
    assert_int_equal(symlink(".", below(folder, "b/self")), 0);
    assert_int_equal(symlink("nowhere.ppm", below(folder, "b/gone.ppm")), 0);
    bnff_dataset *d = open_split(folder, BNFF_SPLIT_ALL, 0, 0);
    static const char *const names[] = {"a/00.ppm", "a/01.ppm", "a/linked/more/00.ppm", "a/up/b/00.ppm", "a/up/b/gone.ppm", "b/00.ppm", "b/gone.ppm"};
    check_items(d, folder, names, 7);
    bnff_dataset_destroy(&d);
}

/* -- Splits -------------------------------------------------------------------------------------------------------- */

static int count_label(const bnff_dataset *d, int label)
{
    int count = 0;
    for (int64_t i = 0; i < bnff_dataset_size(d); i++) count += bnff_dataset_label(d, i) == label;
    return count;
}

static bool holds(const bnff_dataset *d, const char *name)
{
    for (int64_t i = 0; i < bnff_dataset_size(d); i++)
        if (!strcmp(bnff_dataset_item_name(d, i), name)) return true;
    return false;
}

static void splits_are_stratified(void **state)
{
    (void)state;
    const char *folder = new_folder("split");
    static const struct { const char *name; int count, held20, held90; } classes[] = {{"a", 30, 6, 27}, {"b", 10, 2, 9}, {"c", 3, 1, 2}, {"d", 2, 1, 1}, {"e", 1, 0, 0}};
    FOR_EACH(c, classes) put_class(folder, c.name, c.count);
    static const double ratios[] = {0, 0.2, 0.9};
    bnff_dataset *all = open_split(folder, BNFF_SPLIT_ALL, 0, 0);
    FOR_EACH(ratio, ratios) {
        test_case("split ratio=%g", ratio);
        bnff_dataset *train = open_split(folder, BNFF_SPLIT_TRAIN, ratio, 5), *val = open_split(folder, BNFF_SPLIT_VAL, ratio, 5);
        assert_int_equal(bnff_dataset_classes(val), 5);
        for (int c = 0; c < 5; c++) {
            assert_int_equal(count_label(val, c), ratio < 0.5 ? classes[c].held20 : classes[c].held90);
            assert_int_equal(count_label(train, c) + count_label(val, c), classes[c].count);
        }
        for (int64_t i = 0; i < bnff_dataset_size(all); i++)
            assert_int_equal(holds(train, bnff_dataset_item_name(all, i)) + holds(val, bnff_dataset_item_name(all, i)), 1);
        bnff_dataset_destroy(&train);
        bnff_dataset_destroy(&val);
    }
    bnff_dataset_destroy(&all);
}

/* The same seed divides alike wherever the folder is and however it is named; another seed divides differently. */
static void splits_depend_on_seed_and_names(void **state)
{
    (void)state;
    const char *folder = new_folder("seed");
    put_class(folder, "a", 40);
    put_class(folder, "b", 40);
    bnff_dataset *one = open_split(folder, BNFF_SPLIT_VAL, 0, 1), *two = open_split(folder, BNFF_SPLIT_VAL, 0, 2);
    char first[4096], moved[4096];
    snprintf(first, sizeof first, "%s", folder);
    snprintf(moved, sizeof moved, "%s/", temp_path("moved"));
    assert_int_equal(rename(first, temp_path("moved")), 0);
    bnff_dataset *again = open_split(moved, BNFF_SPLIT_VAL, 0, 1);
    int differ = 0;
    assert_int_equal(bnff_dataset_size(one), 16);
    assert_int_equal(bnff_dataset_size(again), 16);
    for (int i = 0; i < 16; i++) {
        assert_string_equal(bnff_dataset_item_name(one, i) + strlen(first), bnff_dataset_item_name(again, i) + strlen(moved) - 1);
        differ += strcmp(bnff_dataset_item_name(one, i), bnff_dataset_item_name(two, i)) != 0;
    }
    assert_true(differ > 0);
    bnff_dataset_destroy(&one);
    bnff_dataset_destroy(&two);
    bnff_dataset_destroy(&again);
}

static void named_splits(void **state)
{
    (void)state;
    static const struct { const char *train, *val; } names[] = {{"train", "val"}, {"train", "valid"}, {"train", "test"}, {"Training", "Testing"}};
    FOR_EACH(n, names) {
        test_case("%s and %s", n.train, n.val);
        const char *folder = new_folder("named");
        char name[64];
        for (int k = 0; k < 2; k++) {
            snprintf(name, sizeof name, "%s/%c", n.train, 'a' + k);
            put_class(folder, name, 3);
            snprintf(name, sizeof name, "%s/%c", n.val, 'a' + k);
            put_class(folder, name, 2);
        }
        bnff_dataset *train = open_split(folder, BNFF_SPLIT_TRAIN, 0, 0), *val = open_split(folder, BNFF_SPLIT_VAL, 0, 0);
        bnff_dataset *all = open_split(folder, BNFF_SPLIT_ALL, 0, 0);
        assert_int_equal(bnff_dataset_size(train), 6);
        assert_int_equal(bnff_dataset_size(val), 4);
        assert_int_equal(bnff_dataset_size(all), 10);
        bnff_dataset_destroy(&train);
        bnff_dataset_destroy(&val);
        bnff_dataset_destroy(&all);
    }
}

/* A class may be called train or test; train alone is divided; val alone can be validated with. */
static void lookalike_splits(void **state)
{
    (void)state;
    const char *vehicles = new_folder("vehicles");
    put_class(vehicles, "bus", 2), put_class(vehicles, "train", 2), put_class(vehicles, "test", 2);
    bnff_dataset *d = open_split(vehicles, BNFF_SPLIT_ALL, 0, 0);
    assert_int_equal(bnff_dataset_classes(d), 3);
    bnff_dataset_destroy(&d);
    const char *alone = new_folder("alone");
    put_class(alone, "train/a", 5), put_class(alone, "train/b", 5);
    d = open_split(alone, BNFF_SPLIT_VAL, 0, 0);
    assert_int_equal(bnff_dataset_size(d), 2);
    bnff_dataset_destroy(&d);
    const char *only_val = new_folder("only_val");
    put_class(only_val, "val/a", 2), put_class(only_val, "val/b", 2);
    d = open_split(only_val, BNFF_SPLIT_VAL, 0, 0);
    assert_int_equal(bnff_dataset_size(d), 4);
    bnff_dataset_destroy(&d);
    open_fails(only_val, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "no train folder");
}

/* -- Errors -------------------------------------------------------------------------------------------------------- */

static void says_what_is_wrong(void **state)
{
    (void)state;
    const char *folder = new_folder("wrong");
    open_fails(below(folder, "absent"), BNFF_SPLIT_TRAIN, BNFF_E_IO, "absent");
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "empty");
    put_image(folder, "a.ppm", 2, 2, 0);
    open_fails(below(folder, "a.ppm"), BNFF_SPLIT_TRAIN, BNFF_E_IO, "not a folder");
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "1 image but no class folders");
    put_class(folder, "cat", 2);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "only one class, 'cat'");
    put_file(folder, "dog/readme.txt", "", 0);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "class 'dog' is empty");
    put_file(folder, "dog/1.webp", "", 0);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "1 of formats not supported");
    const char *single = new_folder("single");
    put_class(single, "a", 1), put_class(single, "b", 1);
    open_fails(single, BNFF_SPLIT_VAL, BNFF_E_FORMAT, "hold one out");
    open_fails("", BNFF_SPLIT_TRAIN, BNFF_E_ARG, NULL);
    const char *closed = new_folder("closed");
    put_class(closed, "a", 1), put_class(closed, "b", 1);
    chmod(below(closed, "b"), 0);
    if (geteuid() != 0) open_fails(closed, BNFF_SPLIT_TRAIN, BNFF_E_IO, "closed");
    chmod(below(closed, "b"), 0700);
}

static void different_classes_are_listed(void **state)
{
    (void)state;
    const char *folder = new_folder("differ");
    put_class(folder, "train/cat", 2), put_class(folder, "train/dog", 2);
    put_class(folder, "val/cat", 1), put_class(folder, "val/Dog", 1), put_class(folder, "val/emu", 1);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "only in train: 'dog'; only in val: 'Dog', 'emu'");
    open_fails(folder, BNFF_SPLIT_VAL, BNFF_E_FORMAT, "only in train: 'dog'; only in val: 'Dog', 'emu'");
}

static void arguments(void **state)
{
    (void)state;
    const char *folder = new_folder("arguments");
    put_class(folder, "a", 2), put_class(folder, "b", 2);
    bnff_dataset *d;
    bnff_error error;
    bnff_dataset_options options = {.size = sizeof options, .channels = 2};
    check_fails(bnff_dataset_open(folder, BNFF_SPLIT_TRAIN, &options, &d, &error), BNFF_E_ARG, &error, "2 channels");
    options.channels = 1, options.val_ratio = 1;
    check_fails(bnff_dataset_open(folder, BNFF_SPLIT_TRAIN, &options, &d, &error), BNFF_E_ARG, &error, "held out");
    options.val_ratio = 0.5;
    check_ok(bnff_dataset_open(folder, BNFF_SPLIT_TRAIN, &options, &d, &error), &error);
    bnff_image image;
    check_ok(bnff_dataset_image(d, 0, &image, &error), &error);
    assert_int_equal(image.channels, 1);
    bnff_image_free(&image);
    check_fails(bnff_dataset_image(d, 99, &image, &error), BNFF_E_ARG, &error, "99");
    float mean[3], std[3];
    bnff_dataset_normalization(d, mean, std);
    check_close(mean[0], 0.449f, 0);
    check_close(std[0], 0.226f, 0);
    bnff_dataset_destroy(&d);
    bnff_dataset_destroy(NULL);
}

/* -- data check ---------------------------------------------------------------------------------------------------- */

typedef struct reports {
    int count;
    char text[8][512];
} reports;

static void keep_report(void *user, const char *path, const char *reason)
{
    reports *r = user;
    if (r->count < 8) snprintf(r->text[r->count], sizeof r->text[0], "%s|%s", strrchr(path, '/') + 1, reason);
    r->count++;
}

static void check_counts(const char *folder, int64_t good, int64_t bad, reports *r)
{
    int64_t got_good, got_bad;
    bnff_error error;
    r->count = 0;
    check_ok(bnff_data_check(folder, keep_report, r, &got_good, &got_bad, &error), &error);
    assert_int_equal(got_good, good);
    assert_int_equal(got_bad, bad);
    assert_int_equal(r->count, bad);
}

static void check_names_what_training_skips(void **state)
{
    (void)state;
    reports r;
    bnff_error error;
    int64_t good, bad;
    const char *folder = new_folder("check");
    put_class(folder, "a", 70), put_class(folder, "b", 2);
    check_counts(folder, 72, 0, &r);
    put_file(folder, "a/cut.ppm", "P6 4 4 255\nxx", 13);
    put_file(folder, "a/page.jpg", "<html>", 6);
    put_file(folder, "b/new.webp", "RIFF", 4);
    put_file(folder, "b/notes.txt", "x", 1);
    check_counts(folder, 72, 3, &r);
    assert_string_equal(r.text[0], "new.webp|format not supported: convert it to JPEG or PNG");
    assert_string_equal(r.text[1], "cut.ppm|damaged PPM: its pixels are cut off");
    assert_non_null(strstr(r.text[2], "page.jpg|not a JPEG"));
    check_counts(below(folder, "a"), 70, 2, &r); /* a folder of images alone */
    check_counts(below(folder, "a/00.ppm"), 1, 0, &r);
    check_counts(below(folder, "a/cut.ppm"), 0, 1, &r);
    check_fails(bnff_data_check(below(folder, "absent"), NULL, NULL, &good, &bad, &error), BNFF_E_IO, &error, "absent");
    put_file(folder, "c/readme.txt", "x", 1);
    check_fails(bnff_data_check(folder, NULL, NULL, &good, &bad, &error), BNFF_E_FORMAT, &error, "class 'c' is empty");
    assert_int_equal(good, 72);
    check_fails(bnff_data_check(new_folder("void"), NULL, NULL, &good, &bad, &error), BNFF_E_FORMAT, &error, "empty");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(finds_what_torchvision_finds), test(follows_links_but_not_round), test(splits_are_stratified), test(splits_depend_on_seed_and_names),
        test(named_splits),                 test(lookalike_splits),            test(says_what_is_wrong),    test(different_classes_are_listed),
        test(arguments),                    test(check_names_what_training_skips),
    };
    return run_all(tests);
}
