/* idx files, CIFAR-10 batches and made-up images. */
#include <unistd.h>
#include <zlib.h>

#include <bnff/data.h>

#include "base/memory.h"
#include "data/idx.h"
#include "folders.h"

enum { SIDE = 4, PIXELS = SIDE * SIDE };

static bnff_dataset *open_spec(const char *spec, bnff_split split, int channels)
{
    const bnff_dataset_options options = {.size = sizeof options, .channels = channels, .seed = 3};
    bnff_dataset *d;
    bnff_error error;
    check_ok(bnff_dataset_open(spec, split, &options, &d, &error), &error);
    return d;
}

static void open_fails(const char *spec, bnff_split split, bnff_status status, const char *words)
{
    bnff_dataset *d;
    bnff_error error;
    check_fails(bnff_dataset_open(spec, split, NULL, &d, &error), status, &error, words);
    assert_null(d);
}

static const char *spec_of(const char *kind, const char *folder)
{
    static char specs[4][4200];
    static int next;
    char *spec = specs[next++ % 4];
    snprintf(spec, sizeof specs[0], "%s:%s", kind, folder);
    return spec;
}

/* -- idx ----------------------------------------------------------------------------------------------------------- */

static size_t make_idx(uint8_t *out, int rank, const uint32_t *sizes, const uint8_t *data, size_t bytes)
{
    const uint8_t magic[4] = {0, 0, 8, (uint8_t)rank};
    memcpy(out, magic, 4);
    for (int i = 0; i < rank; i++)
        for (int k = 0; k < 4; k++) out[4 + 4 * i + k] = (uint8_t)(sizes[i] >> (24 - 8 * k));
    memcpy(out + 4 + 4 * rank, data, bytes);
    return 4 + 4 * (size_t)rank + bytes;
}

static size_t pack_gzip(const uint8_t *bytes, size_t size, uint8_t *out, size_t capacity)
{
    z_stream z = {0};
    assert_int_equal(deflateInit2(&z, 9, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY), Z_OK);
    z.next_in = (Bytef *)(uintptr_t)bytes, z.avail_in = (uInt)size, z.next_out = out, z.avail_out = (uInt)capacity;
    assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
    deflateEnd(&z);
    return capacity - z.avail_out;
}

static void put(const char *folder, const char *name, const uint8_t *bytes, size_t size, bool gzip)
{
    static uint8_t packed[1 << 16];
    if (gzip) put_file(folder, name, packed, pack_gzip(bytes, size, packed, sizeof packed));
    else put_file(folder, name, bytes, size);
}

/* Files PREFIX-images-idx3-ubyte and -labels-; image i has all pixels i + 1 but the first, which is 200. */
static void put_part(const char *folder, const char *prefix, const uint8_t *labels, uint32_t count, bool gzip)
{
    static uint8_t data[256 * PIXELS], file[256 * PIXELS + 16];
    char name[128];
    for (uint32_t i = 0; i < count; i++) {
        memset(data + i * PIXELS, (int)i + 1, PIXELS);
        data[i * PIXELS] = 200;
    }
    size_t size = make_idx(file, 3, (const uint32_t[]){count, SIDE, SIDE}, data, count * PIXELS);
    snprintf(name, sizeof name, "%s-images-idx3-ubyte%s", prefix, gzip ? ".gz" : "");
    put(folder, name, file, size, gzip);
    size = make_idx(file, 1, &count, labels, count);
    snprintf(name, sizeof name, "%s-labels-idx1-ubyte%s", prefix, gzip ? ".gz" : "");
    put(folder, name, file, size, gzip);
}

static const uint8_t ten[] = {0, 1, 2, 0, 1, 2, 0, 1, 2, 0};

static void reads_idx(void **state)
{
    (void)state;
    for (int gzip = 0; gzip < 2; gzip++) {
        test_case("idx gzip=%d", gzip);
        const char *folder = new_folder("idx");
        put_part(folder, "train", ten, 10, gzip);
        put_part(folder, "t10k", ten, 4, !gzip);
        bnff_dataset *d = open_spec(spec_of("mnist", folder), BNFF_SPLIT_TRAIN, 0);
        bnff_image image;
        bnff_error error;
        assert_int_equal(bnff_dataset_size(d), 10);
        assert_int_equal(bnff_dataset_classes(d), 3);
        assert_int_equal(bnff_dataset_channels(d), 1);
        assert_int_equal(bnff_dataset_image_size(d), SIDE);
        assert_string_equal(bnff_dataset_class_name(d, 2), "2");
        assert_string_equal(bnff_dataset_item_name(d, 7), gzip ? "train-images-idx3-ubyte.gz[7]" : "train-images-idx3-ubyte[7]");
        assert_int_equal(bnff_dataset_label(d, 7), 1);
        check_ok(bnff_dataset_image(d, 7, &image, &error), &error);
        assert_int_equal(image.pixels[0], 200);
        assert_int_equal(image.pixels[PIXELS - 1], 8);
        bnff_image_free(&image);
        bnff_dataset_destroy(&d);
        d = open_spec(folder, BNFF_SPLIT_VAL, 3); /* found in a plain folder too */
        assert_int_equal(bnff_dataset_size(d), 4);
        check_ok(bnff_dataset_image(d, 3, &image, &error), &error);
        assert_int_equal(image.channels, 3);
        for (int c = 0; c < 3; c++) assert_int_equal(image.pixels[3 * PIXELS - 1 - c], 4);
        bnff_image_free(&image);
        bnff_dataset_destroy(&d);
        d = open_spec(folder, BNFF_SPLIT_ALL, 0);
        assert_int_equal(bnff_dataset_size(d), 14);
        bnff_dataset_destroy(&d);
    }
}

/* Without a val part the train part is divided: the pixels stay with their labels and names. */
static void divides_idx(void **state)
{
    (void)state;
    const char *folder = new_folder("divided");
    put_part(folder, "train", ten, 10, false);
    bnff_dataset *parts[2] = {open_spec(folder, BNFF_SPLIT_TRAIN, 0), open_spec(folder, BNFF_SPLIT_VAL, 0)};
    bool seen[10] = {false};
    assert_int_equal(bnff_dataset_size(parts[1]), 3); /* one of each class */
    for (int p = 0; p < 2; p++)
        for (int64_t i = 0; i < bnff_dataset_size(parts[p]); i++) {
            bnff_image image;
            bnff_error error;
            check_ok(bnff_dataset_image(parts[p], i, &image, &error), &error);
            const int item = image.pixels[PIXELS - 1] - 1;
            assert_false(seen[item]);
            seen[item] = true;
            assert_int_equal(bnff_dataset_label(parts[p], i), ten[item]);
            assert_int_equal(atoi(strchr(bnff_dataset_item_name(parts[p], i), '[') + 1), item);
            bnff_image_free(&image);
        }
    for (int i = 0; i < 10; i++) assert_true(seen[i]);
    bnff_dataset_destroy(&parts[0]);
    bnff_dataset_destroy(&parts[1]);
}

static void refuses_wrong_idx(void **state)
{
    (void)state;
    static const struct { const char *words; uint8_t bytes[12]; size_t size; } wrong[] = {
        {"cut off", {0, 0, 8}, 3},
        {"not an idx file", {0, 0, 9, 1, 0, 0, 0, 1, 0}, 9},
        {"3 dimensions", {0, 0, 8, 3, 0, 0, 0, 1, 0}, 9},
        {"is 0", {0, 0, 8, 1, 0, 0, 0, 0}, 8},
        {"cut off", {0, 0, 8, 1, 0, 0, 0, 2, 0}, 9},
        {"cut off", {0, 0, 8, 1, 0xFF, 0xFF, 0xFF, 0xFF, 0}, 9},
        {"1 bytes more", {0, 0, 8, 1, 0, 0, 0, 1, 0, 0}, 10},
    };
    uint8_t packed[128];
    FOR_EACH(w, wrong) for (int gzip = 0; gzip < 2; gzip++) {
        test_case("%s gzip=%d", w.words, gzip);
        bf_idx idx;
        bnff_error error;
        const size_t size = gzip ? pack_gzip(w.bytes, w.size, packed, sizeof packed) : w.size;
        check_fails(bf_idx_parse(gzip ? packed : w.bytes, size, "x", 1, &idx, &error), BNFF_E_FORMAT, &error,
                    gzip && !strcmp(w.words, "1 bytes more") ? "more bytes" : w.words);
        assert_null(idx.data);
    }
}

/* gzip data cut anywhere, or with a byte of its checksum changed. */
static void refuses_damaged_gzip(void **state)
{
    (void)state;
    uint8_t file[64], packed[128];
    bnff_error error;
    bf_idx idx;
    const size_t plain = make_idx(file, 1, (const uint32_t[]){10}, ten, 10), size = pack_gzip(file, plain, packed, sizeof packed);
    check_ok(bf_idx_parse(packed, size, "x", 1, &idx, &error), &error);
    assert_memory_equal(idx.data, ten, 10);
    bf_free(idx.data);
    for (size_t cut = 0; cut < size; cut++) {
        test_case("gzip cut to %zu of %zu", cut, size);
        check_fails(bf_idx_parse(packed, cut, "x", 1, &idx, &error), BNFF_E_FORMAT, &error, NULL);
    }
    packed[size - 8] ^= 1;
    check_fails(bf_idx_parse(packed, size, "x", 1, &idx, &error), BNFF_E_FORMAT, &error, "incorrect data check");
}

static void refuses_wrong_labels(void **state)
{
    (void)state;
    const char *folder = new_folder("labels");
    put_part(folder, "train", (const uint8_t[]){0, 1, 7, 1}, 4, false);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "label 7 of item 2 is out of range");
    put_part(folder, "train", (const uint8_t[]){1, 1, 2, 1}, 4, false);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "no item has label 0");
    put_part(folder, "train", (const uint8_t[]){0, 0, 0}, 3, false);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "only one class");
    put_part(folder, "train", ten, 10, false);
    put_part(folder, "test", (const uint8_t[]){0, 3}, 2, false);
    open_fails(folder, BNFF_SPLIT_VAL, BNFF_E_FORMAT, "test-images-idx3-ubyte[1]: label 3 is out of range");
    put_part(folder, "train", (const uint8_t[]){0, 10}, 2, false);
    open_fails(spec_of("fashion-mnist", folder), BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "[1]: label 10 is out of range, there are 10 classes");
    uint8_t file[64];
    put_file(folder, "train-labels-idx1-ubyte", file, make_idx(file, 1, (const uint32_t[]){10}, ten, 10));
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "2 images but 10 labels");
    assert_int_equal(unlink(below(folder, "train-labels-idx1-ubyte")), 0);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_IO, "no train-labels-idx1-ubyte");
    open_fails(spec_of("mnist", new_folder("none")), BNFF_SPLIT_TRAIN, BNFF_E_IO, "no train-");
    open_fails("mnist:/nowhere", BNFF_SPLIT_TRAIN, BNFF_E_IO, "/nowhere");
}

/* Debian's package, where it is installed: its published counts, mean and deviation. */
static void reads_fashion_mnist(void **state)
{
    (void)state;
    if (access("/usr/share/datasets/fashion-mnist", F_OK)) {
        open_fails("fashion-mnist", BNFF_SPLIT_TRAIN, BNFF_E_IO, "not installed");
        skip();
    }
    bnff_dataset *d = open_spec("fashion-mnist", BNFF_SPLIT_TRAIN, 0);
    int counts[10] = {0};
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < bnff_dataset_size(d); i++) {
        bnff_image image;
        assert_int_equal(bnff_dataset_image(d, i, &image, NULL), BNFF_OK);
        for (int p = 0; p < 784; p++) sum += image.pixels[p], squares += image.pixels[p] * image.pixels[p];
        counts[bnff_dataset_label(d, i)]++;
        bnff_image_free(&image);
    }
    for (int c = 0; c < 10; c++) assert_int_equal(counts[c], 6000);
    assert_string_equal(bnff_dataset_class_name(d, 9), "Ankle boot");
    float mean[3], std[3];
    bnff_dataset_normalization(d, mean, std);
    const double n = 60000. * 784, m = sum / n;
    check_close(mean[0], m / 255, 5e-5);
    check_close(std[0], sqrt(squares / n - m * m) / 255, 5e-5);
    bnff_dataset_destroy(&d);
    d = open_spec("fashion-mnist", BNFF_SPLIT_VAL, 0);
    assert_int_equal(bnff_dataset_size(d), 10000);
    bnff_dataset_destroy(&d);
}

/* -- CIFAR-10 ------------------------------------------------------------------------------------------------------ */

enum { RECORD = 3073 };

static void put_batch(const char *folder, const char *name, int first)
{
    static uint8_t bytes[2 * RECORD];
    for (int i = 0; i < 2; i++) {
        uint8_t *r = bytes + i * RECORD;
        r[0] = (uint8_t)((first + i) % 10);
        for (int c = 0; c < 3; c++) memset(r + 1 + 1024 * c, first + i + 50 * c, 1024);
        r[1 + 1024 + 33] = 255; /* green at row 1, column 1 */
    }
    put_file(folder, name, bytes, sizeof bytes);
}

static void reads_cifar(void **state)
{
    (void)state;
    for (int nested = 0; nested < 2; nested++) {
        test_case("cifar nested=%d", nested);
        const char *folder = new_folder("cifar");
        char name[64];
        for (int i = 1; i <= 5; i++) {
            snprintf(name, sizeof name, "%sdata_batch_%d.bin", nested ? "cifar-10-batches-bin/" : "", i);
            put_batch(folder, name, 2 * i - 2);
        }
        put_batch(folder, nested ? "cifar-10-batches-bin/test_batch.bin" : "test_batch.bin", 70);
        bnff_dataset *d = open_spec(nested ? folder : spec_of("cifar10", folder), BNFF_SPLIT_TRAIN, 0);
        bnff_image image;
        bnff_error error;
        assert_int_equal(bnff_dataset_size(d), 10);
        assert_int_equal(bnff_dataset_classes(d), 10);
        assert_string_equal(bnff_dataset_class_name(d, 3), "cat");
        assert_string_equal(bnff_dataset_item_name(d, 3), "data_batch_2.bin[1]");
        check_ok(bnff_dataset_image(d, 3, &image, &error), &error);
        assert_memory_equal(image.pixels, ((uint8_t[]){3, 53, 103, 3}), 4);
        assert_memory_equal(image.pixels + 33 * 3, ((uint8_t[]){3, 255, 103}), 3);
        bnff_image_free(&image);
        bnff_dataset_destroy(&d);
        d = open_spec(folder, BNFF_SPLIT_VAL, 1);
        assert_int_equal(bnff_dataset_size(d), 2);
        check_ok(bnff_dataset_image(d, 0, &image, &error), &error);
        assert_int_equal(image.channels, 1);
        bnff_image_free(&image);
        bnff_dataset_destroy(&d);
    }
}

static void refuses_wrong_cifar(void **state)
{
    (void)state;
    const char *folder = new_folder("wrong");
    open_fails(spec_of("cifar10", folder), BNFF_SPLIT_TRAIN, BNFF_E_IO, "no data_batch_1.bin");
    put_file(folder, "cifar-10-batches-py/data_batch_1", "x", 1);
    open_fails(spec_of("cifar10", folder), BNFF_SPLIT_TRAIN, BNFF_E_IO, "Python version");
    put_batch(folder, "data_batch_1.bin", 0);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_IO, "data_batch_2.bin");
    put_file(folder, "data_batch_1.bin", "xyz", 3);
    open_fails(folder, BNFF_SPLIT_TRAIN, BNFF_E_FORMAT, "3 bytes, records have 3073");
    static uint8_t record[RECORD] = {10};
    put_file(folder, "test_batch.bin", record, RECORD);
    open_fails(folder, BNFF_SPLIT_VAL, BNFF_E_FORMAT, "test_batch.bin[0]: label 10 is out of range");
}

/* -- Made-up images ------------------------------------------------------------------------------------------------ */

static void makes_images_up(void **state)
{
    (void)state;
    bnff_dataset *d = open_spec("synthetic:30x16x3", BNFF_SPLIT_TRAIN, 0), *val = open_spec("synthetic:30x16x3", BNFF_SPLIT_VAL, 0);
    bnff_image one, two;
    bnff_error error;
    assert_int_equal(bnff_dataset_size(d), 30);
    assert_int_equal(bnff_dataset_size(val), 6);
    assert_int_equal(bnff_dataset_classes(d), 3);
    assert_int_equal(bnff_dataset_image_size(d), 16);
    check_ok(bnff_dataset_image(d, 4, &one, &error), &error);
    check_ok(bnff_dataset_image(d, 4, &two, &error), &error);
    assert_memory_equal(one.pixels, two.pixels, 16 * 16 * 3);
    bnff_image_free(&two);
    check_ok(bnff_dataset_image(val, 4, &two, &error), &error);
    assert_memory_not_equal(one.pixels, two.pixels, 16 * 16 * 3);
    bnff_image_free(&one);
    bnff_image_free(&two);
    bnff_dataset_destroy(&d);
    bnff_dataset_destroy(&val);
    d = open_spec("synthetic", BNFF_SPLIT_TRAIN, 0);
    assert_int_equal(bnff_dataset_size(d), 2000);
    bnff_dataset_destroy(&d);
    static const char *const wrong[] = {"synthetic:x", "synthetic:10x0x2", "synthetic:10x8x1", "synthetic:5x8x6", "synthetic:10x8x2x2", "synthetic:-3", "synthetic:9999999999999"};
    FOR_EACH(spec, wrong) open_fails(spec, BNFF_SPLIT_TRAIN, BNFF_E_ARG, "COUNTxSIZExCLASSES");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(reads_idx),           test(divides_idx), test(refuses_wrong_idx),   test(refuses_damaged_gzip), test(refuses_wrong_labels),
        test(reads_fashion_mnist), test(reads_cifar), test(refuses_wrong_cifar), test(makes_images_up),
    };
    return run_all(tests);
}
