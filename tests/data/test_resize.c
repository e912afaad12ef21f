/* Resampling: Pillow's bits, parts equal to the whole, and what must hold of any filter. */
#include <bnff/data.h>

#include "data/resample.h"
#include "golden.h"
#include "support.h"

static bnff_image random_image(int width, int height, int channels)
{
    bnff_image image = {width, height, channels, guarded_bytes((size_t)width * (size_t)height * (size_t)channels)};
    for (int i = 0; i < width * height * channels; i++) image.pixels[i] = (uint8_t)random_int(0, 255);
    return image;
}

static void equals_pillow(void **state)
{
    (void)state;
    golden *file = golden_open("resize");
    assert_true(golden_count(file) > 20);
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        int from[4], to[4];
        double box[4];
        size_t n;
        bnff_error error;
        bnff_image out, source = {0};
        source.pixels = (uint8_t *)(uintptr_t)golden_u8(file, "source", NULL, from);
        const uint8_t *want = golden_u8(file, "want", &n, to);
        source.height = from[0], source.width = from[1], source.channels = from[2];
        for (size_t k = 0; k < 4; k++) box[k] = json_number_value(json_array_get(json_object_get(parameters, "box"), k));
        const bool cubic = !strcmp(golden_string(parameters, "interpolation"), "bicubic");
        check_ok(bnff_image_resize(&source, box[0], box[1], box[2], box[3], to[1], to[0], cubic ? BNFF_BICUBIC : BNFF_BILINEAR, &out, &error),
                 &error);
        assert_int_equal(out.width, to[1]);
        assert_int_equal(out.height, to[0]);
        assert_int_equal(out.channels, to[2]);
        assert_memory_equal(out.pixels, want, n);
        bnff_image_free(&out);
    }
    golden_close(&file);
}

/* Any window of a result is that part of the whole result, whichever passes are needed. */
static void windows_are_parts(void **state)
{
    (void)state;
    static const struct { int width, height, out_width, out_height; } sizes[] = {
        {37, 29, 16, 11}, {37, 29, 37, 11}, {37, 29, 16, 29}, {37, 29, 37, 29}, {9, 60, 20, 7}, {5, 5, 31, 30}, {60, 9, 7, 20}, {1, 1, 5, 3},
    };
    static const int channels[] = {1, 3};
    FOR_EACH(s, sizes) FOR_EACH(c, channels) for (int cubic = 0; cubic < 2; cubic++) {
        test_case("windows %dx%d to %dx%d channels=%d cubic=%d", s.width, s.height, s.out_width, s.out_height, c, cubic);
        const bnff_image image = random_image(s.width, s.height, c);
        const bf_view view = bf_view_of(&image);
        const float box[4] = {0, 0, (float)s.width, (float)s.height};
        const bf_rectangle all = {0, 0, s.out_width, s.out_height};
        uint8_t *whole = guarded_bytes((size_t)(s.out_width * s.out_height * c));
        bnff_error error;
        check_ok(bf_resample(&view, box, s.out_width, s.out_height, (bnff_interpolation)cubic, &all, whole, &error), &error);
        for (int i = 0; i < 10; i++) {
            bf_rectangle w = {random_int(0, s.out_width - 1), random_int(0, s.out_height - 1), 0, 0};
            w.width = random_int(1, s.out_width - w.x), w.height = random_int(1, s.out_height - w.y);
            uint8_t *part = guarded_bytes((size_t)(w.width * w.height * c));
            check_ok(bf_resample(&view, box, s.out_width, s.out_height, (bnff_interpolation)cubic, &w, part, &error), &error);
            for (int y = 0; y < w.height; y++)
                assert_memory_equal(part + y * w.width * c, whole + ((w.y + y) * s.out_width + w.x) * c, (size_t)(w.width * c));
        }
        check_guards();
    }
}

static bnff_image resized(const bnff_image *image, int width, int height)
{
    bnff_image out;
    bnff_error error;
    check_ok(bnff_image_resize(image, 0, 0, image->width, image->height, width, height, BNFF_BILINEAR, &out, &error), &error);
    return out;
}

/* The vertical pass is first where the height shrinks by more than twice what the width does. */
static void passes_are_in_order(void **state)
{
    (void)state;
    static const struct { int width, height, out_width, out_height; bool down_first; } sizes[] = {
        {30, 60, 20, 39, true}, {30, 60, 20, 40, false}, {30, 60, 33, 59, true}, {30, 60, 20, 61, false}, {60, 30, 55, 19, true}, {60, 30, 55, 20, false},
    };
    FOR_EACH(s, sizes) {
        test_case("order %dx%d to %dx%d", s.width, s.height, s.out_width, s.out_height);
        const bnff_image image = random_image(s.width, s.height, 3);
        bnff_image between = s.down_first ? resized(&image, s.width, s.out_height) : resized(&image, s.out_width, s.height);
        bnff_image want = resized(&between, s.out_width, s.out_height), got = resized(&image, s.out_width, s.out_height);
        assert_memory_equal(got.pixels, want.pixels, (size_t)(s.out_width * s.out_height * 3));
        bnff_image_free(&between);
        bnff_image_free(&want);
        bnff_image_free(&got);
        check_guards();
    }
}

/* A flat image stays flat (weights sum to 1 within rounding), and three equal channels stay equal to the one. */
static void flat_and_gray(void **state)
{
    (void)state;
    test_case("flat");
    bnff_error error;
    bnff_image out, three_out, flat = {20, 30, 1, guarded_bytes(600)};
    for (int v = 0; v < 256; v += 51) {
        memset(flat.pixels, v, 600);
        check_ok(bnff_image_resize(&flat, 0.5, 0.25, 19, 29, 7, 50, BNFF_BICUBIC, &out, &error), &error);
        for (int i = 0; i < 350; i++) assert_int_equal(out.pixels[i], v);
        bnff_image_free(&out);
    }
    const bnff_image gray = random_image(20, 30, 1), three = random_image(20, 30, 3);
    for (int i = 0; i < 600; i++) memset(three.pixels + 3 * i, gray.pixels[i], 3);
    check_ok(bnff_image_resize(&gray, 0, 0, 20, 30, 9, 40, BNFF_BILINEAR, &out, &error), &error);
    check_ok(bnff_image_resize(&three, 0, 0, 20, 30, 9, 40, BNFF_BILINEAR, &three_out, &error), &error);
    for (int i = 0; i < 360; i++)
        for (int c = 0; c < 3; c++) assert_int_equal(three_out.pixels[3 * i + c], out.pixels[i]);
    bnff_image_free(&out);
    bnff_image_free(&three_out);
    check_guards();
}

static void arguments(void **state)
{
    (void)state;
    test_case("arguments");
    bnff_error error;
    bnff_image out;
    const bnff_image image = random_image(10, 10, 3);
    check_fails(bnff_image_resize(&image, 0, 0, 11, 10, 5, 5, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "10 x 10");
    check_fails(bnff_image_resize(&image, -1, 0, 5, 5, 5, 5, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "box");
    check_fails(bnff_image_resize(&image, 5, 5, 0, 1, 5, 5, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "empty");
    check_fails(bnff_image_resize(&image, NAN, 0, 5, 5, 5, 5, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "box");
    check_fails(bnff_image_resize(&image, 0, 0, 10, 10, 0, 5, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "0 x 5");
    check_fails(bnff_image_resize(&image, 0, 0, 10, 10, 1 << 20, 1 << 20, BNFF_BILINEAR, &out, &error), BNFF_E_ARG, &error, "2^28");
    check_fails(bnff_image_resize(&image, 0, 0, 10, 10, 5, 5, (bnff_interpolation)7, &out, &error), BNFF_E_ARG, &error, "7");
    assert_null(out.pixels);
    check_guards();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(equals_pillow), test(windows_are_parts), test(passes_are_in_order), test(flat_and_gray), test(arguments)};
    return run_all(tests);
}
