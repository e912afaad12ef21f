/* Transforms: torchvision's sizes and offsets, and the distribution of random crops. */
#include <stdio.h> /* for jpeglib.h */

#include <jpeglib.h>

#include <bnff/data.h>

#include "data/image.h"
#include "data/transform.h"
#include "support.h"

static const float no_mean[3] = {0, 0, 0}, unit[3] = {1, 1, 1};

static bnff_transform transform_of(int width, int height)
{
    bnff_transform t = {.size = sizeof t, .width = width, .height = height, .scale = {0.08, 1}, .ratio = {3. / 4, 4. / 3}};
    memcpy(t.mean, no_mean, sizeof no_mean);
    memcpy(t.std, unit, sizeof unit);
    return t;
}

static bnff_image random_image(int width, int height, int channels)
{
    bnff_image image = {width, height, channels, guarded_bytes((size_t)width * (size_t)height * (size_t)channels)};
    for (int i = 0; i < width * height * channels; i++) image.pixels[i] = (uint8_t)random_int(0, 255);
    return image;
}

static float *apply(const bnff_transform *t, const bnff_image *image, uint64_t seed)
{
    bnff_error error;
    float *dst = guarded((size_t)t->width * (size_t)t->height * (size_t)image->channels);
    check_ok(bnff_transform_apply(t, image, seed, dst, &error), &error);
    return dst;
}

/* (v / 255 - mean) / std in float, as torchvision's ToTensor and Normalize compute it. */
static void normalises(void **state)
{
    (void)state;
    test_case("normalise");
    bnff_transform t = transform_of(16, 16);
    const float mean[3] = {0.485f, 0.456f, 0.406f}, std[3] = {0.229f, 0.224f, 0.225f};
    memcpy(t.mean, mean, sizeof mean), memcpy(t.std, std, sizeof std);
    const bnff_image image = random_image(16, 16, 3);
    const float *got = apply(&t, &image, 0);
    float want[16 * 16 * 3];
    for (int i = 0; i < 16 * 16 * 3; i++) want[i] = ((float)image.pixels[i] / 255.0f - mean[i % 3]) / std[i % 3];
    check_same_bits(got, want, 16 * 16 * 3);
    check_guards();
}

/* Sizes and corners computed by hand from torchvision's rules: long = int(size * long / short), corner = round half to even. */
static void evaluation_geometry(void **state)
{
    (void)state;
    static const struct { int width, height, resize, crop_width, crop_height, to_width, to_height, left, top; } cases[] = {
        {320, 240, 256, 224, 224, 341, 256, 58, 16}, /* (341 - 224) / 2 = 58.5: to even */
        {240, 320, 256, 224, 224, 256, 341, 16, 58},
        {100, 67, 33, 28, 28, 49, 33, 10, 2},        /* 10.5 and 2.5: to even */
        {67, 100, 33, 24, 28, 33, 49, 4, 10},        /* 4.5 */
        {100, 67, 33, 26, 26, 49, 33, 12, 4},        /* 11.5 and 3.5: to even, upwards */
        {50, 50, 50, 50, 50, 50, 50, 0, 0},
        {64, 48, 0, 24, 24, 32, 24, 4, 0},           /* covering, then centre */
        {48, 64, 0, 24, 24, 24, 32, 0, 4},
        {64, 48, 0, 32, 8, 32, 24, 0, 8},
        {30, 20, 10, 14, 14, 15, 10, 0, -2},         /* smaller than the crop: black around, 0.5 to even */
        {20, 30, 9, 14, 14, 9, 13, -2, 0},           /* 5 columns of padding: 2 before, 3 after */
    };
    FOR_EACH(c, cases) for (int channels = 1; channels <= 3; channels += 2) {
        test_case("evaluate %dx%d resize=%d crop=%dx%d channels=%d", c.width, c.height, c.resize, c.crop_width, c.crop_height, channels);
        bnff_transform t = transform_of(c.crop_width, c.crop_height);
        bnff_error error;
        bnff_image resized, image = random_image(c.width, c.height, channels);
        t.resize = c.resize;
        const float *got = apply(&t, &image, 7);
        check_ok(bnff_image_resize(&image, 0, 0, c.width, c.height, c.to_width, c.to_height, BNFF_BILINEAR, &resized, &error), &error);
        for (int y = 0; y < c.crop_height; y++)
            for (int x = 0; x < c.crop_width; x++)
                for (int k = 0; k < channels; k++) {
                    const int sx = x + c.left, sy = y + c.top;
                    const bool inside = sx >= 0 && sx < c.to_width && sy >= 0 && sy < c.to_height;
                    const int v = inside ? resized.pixels[(sy * c.to_width + sx) * channels + k] : 0;
                    check_close(got[(y * c.crop_width + x) * channels + k], (float)v / 255.0f, 0);
                }
        bnff_image_free(&resized);
        check_guards();
    }
}

/* -- Random crops -------------------------------------------------------------------------------------------------- */

enum { SIDE = 200, OUT = 32, DRAWS = 4000 };

/* Red is x and green is y: two columns and two rows of a result tell where it was cut out. */
static bnff_image coordinates(void)
{
    static uint8_t pixels[SIDE * SIDE * 3];
    for (int i = 0; i < SIDE * SIDE; i++) pixels[3 * i] = (uint8_t)(i % SIDE), pixels[3 * i + 1] = (uint8_t)(i / SIDE);
    return (bnff_image){SIDE, SIDE, 3, pixels};
}

/* Slope of the coordinate between result pixels 8 and 23 of 32, which are 15/32 of the crop apart and away from its ends, as the
 * signed size of the crop. Each coordinate was rounded twice: the size is off by at most 2 * 32 / 15. */
static double crop_size(const float *out, int channel, int step)
{
    const int row_or_column = 16 * (OUT + 1) * 3 - 16 * step; /* pixel 0 along the axis, the middle across it */
    return 255.0 * (double)(out[row_or_column + 23 * step + channel] - out[row_or_column + 8 * step + channel]) * OUT / 15;
}

static void random_crops(void **state)
{
    (void)state;
    test_case("random crops");
    static float out[OUT * OUT * 3];
    const double off = 2. * OUT / 15, whole = SIDE * SIDE;
    const bnff_image image = coordinates();
    bnff_transform t = transform_of(OUT, OUT);
    bnff_error error;
    t.augment = true, t.hflip = 0.5, t.vflip = 0.25;
    double areas = 0, log_ratios = 0, least = 1, most = 0;
    int hflips = 0, vflips = 0;
    for (uint64_t seed = 0; seed < DRAWS; seed++) {
        check_ok(bnff_transform_apply(&t, &image, seed, out, &error), &error);
        const double dx = crop_size(out, 0, 3), dy = crop_size(out, 1, 3 * OUT), w = fabs(dx), h = fabs(dy), area = w * h / whole;
        hflips += dx < 0, vflips += dy < 0;
        areas += area, log_ratios += log(w / h);
        least = fmin(least, area), most = fmax(most, area);
        assert_true((w + off) / (h - off) > 3. / 4 && (w - off) / (h + off) < 4. / 3);
        assert_true((w + off) * (h + off) > 0.08 * whole && (w - off) * (h - off) < whole);
    }
    check_close(hflips, DRAWS * 0.5, 5 * sqrt(DRAWS * 0.25));
    check_close(vflips, DRAWS * 0.25, 5 * sqrt(DRAWS * 0.1875));
    assert_true(least < 0.12 && most > 0.8);
    /* The area is uniform on [.08, 1], mean .54, but crops that stick out are drawn again, which costs the large ones most. */
    assert_true(areas / DRAWS > 0.44 && areas / DRAWS < 0.54);
    check_close(log_ratios / DRAWS, 0, 5 * 0.17 / sqrt(DRAWS)); /* uniform in +-0.288: deviation 0.166 */
}

/* No crop of a strip has the shape asked for: the middle of it is taken. */
static void strips_give_their_middle(void **state)
{
    (void)state;
    test_case("strip");
    static uint8_t pixels[250 * 30];
    static float out[24 * 24];
    bnff_error error;
    const bnff_image image = {250, 30, 1, pixels};
    bnff_transform t = transform_of(24, 24);
    t.augment = true, t.scale[0] = 0.9;
    for (int i = 0; i < 250 * 30; i++) pixels[i] = (uint8_t)(i % 250);
    check_ok(bnff_transform_apply(&t, &image, 1, out, &error), &error);
    for (int i = 0; i < 24; i++) { /* 30 * 4 / 3 = 40 columns from 105 */
        const double centre = 105 + (i + 0.5) * 40 / 24 - 0.5;
        if (i > 0 && i < 23) check_close(255 * (double)out[12 * 24 + i], centre, 1.0 + 1e-4);
    }
}

/* RandomCrop(8, padding=1) of a white image: nine places, equally likely, black where it sticks out. */
static void padded_crops(void **state)
{
    (void)state;
    test_case("padded crops");
    enum { DRAWN = 4500 };
    static uint8_t pixels[64];
    static float out[64];
    int places[9] = {0};
    bnff_error error;
    memset(pixels, 255, sizeof pixels);
    const bnff_image image = {8, 8, 1, pixels};
    bnff_transform t = transform_of(8, 8);
    t.augment = true, t.crop_padding = 1, t.hflip = 0;
    for (uint64_t seed = 0; seed < DRAWN; seed++) {
        check_ok(bnff_transform_apply(&t, &image, seed, out, &error), &error);
        const int dx = (out[4 * 8 + 7] == 0) - (out[4 * 8] == 0), dy = (out[7 * 8 + 4] == 0) - (out[4] == 0);
        for (int i = 0; i < 64; i++) {
            const int x = i % 8 + dx, y = i / 8 + dy;
            check_close(out[i], x >= 0 && x < 8 && y >= 0 && y < 8 ? 1 : 0, 0);
        }
        places[(dy + 1) * 3 + dx + 1]++;
    }
    for (int i = 0; i < 9; i++) check_close(places[i], DRAWN / 9., 5 * sqrt(DRAWN / 9. * 8 / 9));
}

/* -- Decoding at a fraction of the size ---------------------------------------------------------------------------- */

enum { WIDE = 643, HIGH = 481 };

/* Red grows by 1/3 a column, green by 1/2 a row. */
static unsigned char *make_ramp(unsigned long *size)
{
    struct jpeg_compress_struct jpeg = {0};
    struct jpeg_error_mgr errors;
    unsigned char *bytes = NULL, row[WIDE * 3], *rows[] = {row};
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_mem_dest(&jpeg, &bytes, size);
    jpeg.image_width = WIDE, jpeg.image_height = HIGH, jpeg.input_components = 3, jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 95, TRUE);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < HIGH; y++) {
        for (int x = 0; x < WIDE; x++) row[3 * x] = (uint8_t)(x / 3), row[3 * x + 1] = (uint8_t)(y / 2), row[3 * x + 2] = 128;
        jpeg_write_scanlines(&jpeg, rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    return bytes;
}

typedef struct drawing {
    bf_transform transform;
    uint64_t seed;
} drawing;

static int choose(void *user, int width, int height)
{
    const drawing *d = user;
    return bf_transform_divisor(&d->transform, d->seed, width, height);
}

/* The same crop from the whole picture and from a smaller decoding of it: the ramps must lie in the same place, to a fraction of a
 * pixel, and the values differ by the error of the compression (some levels) only. */
static void fractions_show_the_same_crop(void **state)
{
    (void)state;
    test_case("fractions");
    enum { N = 52, VALUES = N * N * 3 };
    static float want[VALUES], got[VALUES];
    unsigned long size = 0;
    unsigned char *bytes = make_ramp(&size);
    int divisors[9] = {0};
    bnff_image whole, part;
    bnff_error error;
    bnff_transform t = transform_of(N, N);
    drawing d;
    t.augment = true, t.hflip = 0.5, t.scale[0] = 0.02;
    check_ok(bf_transform_prepare(&t, 3, &d.transform, &error), &error);
    check_ok(bnff_image_decode(bytes, size, "ramp", 3, &whole, &error), &error);
    for (d.seed = 0; d.seed < 200; d.seed++) {
        bf_shrink shrink = {.choose = choose, .user = &d};
        const bf_view whole_view = bf_view_of(&whole);
        check_ok(bf_image_decode(bytes, size, "ramp", &shrink, &part, &error), &error);
        const bf_view part_view = bf_view_of(&part);
        check_ok(bf_transform_run(&d.transform, &whole_view, d.seed, want, &error), &error);
        check_ok(bf_transform_run_shrunk(&d.transform, &part_view, shrink.divisor, WIDE, HIGH, d.seed, got, &error), &error);
        divisors[shrink.divisor]++;
        assert_int_equal(part.width, (WIDE + shrink.divisor - 1) / shrink.divisor);
        double shift[3] = {0};
        for (int i = 0; i < VALUES; i++) {
            const double off = 255 * (double)(got[i] - want[i]);
            if (shrink.divisor == 1) assert_true(got[i] == want[i]);
            assert_true(fabs(off) < 6);
            shift[i % 3] += off / (N * N);
        }
        for (int c = 0; c < 3; c++) check_close(shift[c], 0, 0.5); /* half a pixel of 1/8 would be 1.3 or more */
        bnff_image_free(&part);
    }
    for (int n = 1; n <= 8; n *= 2) assert_true(divisors[n] > 5); /* all were met */
    bnff_image_free(&whole);
    free(bytes);
}

static void flips_and_seeds(void **state)
{
    (void)state;
    test_case("flips");
    const bnff_image image = random_image(12, 10, 3);
    bnff_transform t = transform_of(12, 10);
    t.augment = true, t.crop_padding = 2;
    const float *plain = apply(&t, &image, 5);
    t.hflip = 1;
    const float *mirrored = apply(&t, &image, 5);
    t.hflip = 0, t.vflip = 1;
    const float *turned = apply(&t, &image, 5);
    for (int y = 0; y < 10; y++)
        for (int x = 0; x < 12; x++) {
            check_same_bits(mirrored + (y * 12 + x) * 3, plain + (y * 12 + 11 - x) * 3, 3);
            check_same_bits(turned + (y * 12 + x) * 3, plain + ((9 - y) * 12 + x) * 3, 3);
        }
    t.vflip = 0;
    check_same_bits(apply(&t, &image, 5), plain, 360);
    assert_memory_not_equal(apply(&t, &image, 6), plain, 360 * sizeof(float));
    check_guards();
}

static void arguments(void **state)
{
    (void)state;
    test_case("arguments");
    static uint8_t pixels[16];
    static float out[16];
    const bnff_image image = {4, 4, 1, pixels}, two_channels = {2, 4, 2, pixels};
    bnff_error error;
    const struct { size_t offset; double value; const char *words; } wrong[] = {
        {offsetof(bnff_transform, hflip), 1.5, "flip"},
        {offsetof(bnff_transform, scale), 0, "area"},
        {offsetof(bnff_transform, scale) + sizeof(double), 2, "area"},
        {offsetof(bnff_transform, ratio), 9, "ratio"},
    };
    FOR_EACH(w, wrong) {
        bnff_transform t = transform_of(4, 4);
        t.augment = true;
        memcpy((char *)&t + w.offset, &w.value, sizeof w.value);
        check_fails(bnff_transform_apply(&t, &image, 0, out, &error), BNFF_E_ARG, &error, w.words);
    }
    bnff_transform t = transform_of(4, 0);
    check_fails(bnff_transform_apply(&t, &image, 0, out, &error), BNFF_E_ARG, &error, "4 x 0");
    t = transform_of(4, 4);
    check_fails(bnff_transform_apply(&t, &two_channels, 0, out, &error), BNFF_E_ARG, &error, "2 channels");
    t.std[1] = 0;
    check_fails(bnff_transform_apply(&t, &image, 0, out, &error), BNFF_E_ARG, &error, "deviation");
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(normalises), test(evaluation_geometry), test(random_crops), test(strips_give_their_middle), test(padded_crops), test(fractions_show_the_same_crop),
        test(flips_and_seeds),
        test(arguments),
    };
    return run_all(tests);
}
