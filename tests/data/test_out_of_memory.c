/* Every allocation of the data side fails in turn: each failure is reported as one of memory, and nothing is left behind. */
#include <bnff/data.h>

#include "base/files.h"
#include "base/memory.h"
#include "failalloc.h"
#include "folders.h"

static bnff_status decode_file(void *arg, bnff_error *error)
{
    bnff_image image;
    const bnff_status status = bnff_image_read(arg, 3, &image, error);
    bnff_image_free(&image);
    return status;
}

static void decoding(void **state)
{
    (void)state;
    static const char *const names[] = {"jpeg420.jpg", "jpeg_gray.jpg", "png_rgb.png", "png_palette.png", "bmp_rgb.bmp", "pgm_gray.pgm"};
    FOR_EACH(name, names) {
        char path[512];
        test_case("%s", name);
        snprintf(path, sizeof path, "%s/data/images/%s", BNFF_TESTS_DIR, name);
        assert_true(fail_each_allocation(decode_file, path) >= 2);
    }
}

static bnff_status open_and_close(const char *spec, bnff_split split, bnff_error *error)
{
    bnff_dataset *d;
    const bnff_status status = bnff_dataset_open(spec, split, NULL, &d, error);
    bnff_dataset_destroy(&d);
    return status;
}

static bnff_status open_train(void *arg, bnff_error *error) { return open_and_close(arg, BNFF_SPLIT_TRAIN, error); }
static bnff_status open_val(void *arg, bnff_error *error) { return open_and_close(arg, BNFF_SPLIT_VAL, error); }
static bnff_status open_all(void *arg, bnff_error *error) { return open_and_close(arg, BNFF_SPLIT_ALL, error); }

static void fail_opening(const char *spec)
{
    test_case("open %s", spec);
    assert_true(fail_each_allocation(open_train, (void *)(uintptr_t)spec) > 3);
    assert_true(fail_each_allocation(open_val, (void *)(uintptr_t)spec) > 3);
    assert_true(fail_each_allocation(open_all, (void *)(uintptr_t)spec) > 3);
}

static void opening(void **state)
{
    (void)state;
    static uint8_t batch[3073];
    const char *plain = new_folder("plain"), *divided = new_folder("divided"), *idx = new_folder("idx"), *cifar = new_folder("cifar");
    put_class(plain, "a", 3), put_class(plain, "b/c", 2);
    put_file(plain, "a/x.webp", "", 0);
    put_class(divided, "train/a", 1), put_class(divided, "train/b", 1), put_class(divided, "val/a", 1), put_class(divided, "val/b", 1);
    put_file(idx, "train-images-idx3-ubyte", "\0\0\x08\3\0\0\0\4\0\0\0\1\0\0\0\1abcd", 20);
    put_file(idx, "train-labels-idx1-ubyte", "\0\0\x08\1\0\0\0\4\0\1\0\1", 12);
    for (int i = 0; i < 6; i++) {
        char name[32];
        snprintf(name, sizeof name, i < 5 ? "data_batch_%d.bin" : "test_batch.bin", i + 1);
        put_file(cifar, name, batch, sizeof batch);
    }
    fail_opening(plain);
    fail_opening(divided);
    fail_opening(idx);
    fail_opening(cifar);
    fail_opening("synthetic:4x4x2");
}

static bnff_status load(void *arg, bnff_error *error)
{
    const bnff_dataset *d = arg;
    const bnff_transform t = {.size = sizeof t, .width = 3, .height = 3, .augment = true, .scale = {0.5, 1}, .ratio = {1, 1}, .std = {1, 1, 1}};
    const bnff_loader_options options = {.size = sizeof options, .batch = 2, .shuffle = true, .max_bad = 1};
    bnff_loader *loader;
    bnff_batch batch = {.count = 1};
    bnff_status status = bnff_loader_create(d, &t, &options, &loader, error);
    if (status == BNFF_OK) status = bnff_loader_start(loader, 0, 0, error);
    while (status == BNFF_OK && batch.count) status = bnff_loader_next(loader, &batch, error);
    bnff_loader_destroy(&loader);
    return status;
}

static void loading(void **state)
{
    (void)state;
    const char *folder = new_folder("loading");
    bnff_dataset *d;
    bnff_error error;
    test_case("loading");
    put_class(folder, "a", 3), put_class(folder, "b", 1);
    put_file(folder, "b/damaged.ppm", "P6 ", 3);
    check_ok(bnff_dataset_open(folder, BNFF_SPLIT_ALL, NULL, &d, &error), &error);
    assert_true(fail_each_allocation(load, d) > 20);
    bnff_dataset_destroy(&d);
}

static bnff_status check(void *arg, bnff_error *error)
{
    int64_t good, bad;
    return bnff_data_check(arg, NULL, NULL, &good, &bad, error);
}

static void checking(void **state)
{
    (void)state;
    const char *folder = new_folder("checking");
    test_case("checking");
    put_class(folder, "a", 2), put_class(folder, "b", 2);
    put_file(folder, "b/damaged.ppm", "P6 ", 3);
    assert_true(fail_each_allocation(check, (void *)(uintptr_t)folder) > 20);
}

static bnff_status resize(void *arg, bnff_error *error)
{
    bnff_image out;
    const bnff_status status = bnff_image_resize(arg, 0, 0, 8, 8, 3, 20, BNFF_BICUBIC, &out, error);
    bnff_image_free(&out);
    return status;
}

static void resizing(void **state)
{
    (void)state;
    static uint8_t pixels[64];
    bnff_image image = {8, 8, 1, pixels};
    test_case("resizing");
    assert_true(fail_each_allocation(resize, &image) >= 6);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(decoding), test(opening), test(loading), test(checking), test(resizing)};
    return run_all(tests);
}
