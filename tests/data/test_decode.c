/* Decoders: Pillow's pixels, what is not an image, and files cut off at every byte. */
#include <zlib.h>

#include <bnff/data.h>

#include "base/files.h"
#include "base/memory.h"
#include "support.h"

enum { WIDTH = 19, HEIGHT = 13, PIXELS = WIDTH * HEIGHT };

/* Files of tests/data/images; `spare` bytes at the end may be missing (end markers). */
static const struct sample {
    const char *stem, *extension;
    size_t spare;
} samples[] = {
    {"jpeg420", "jpg", 2},       {"jpeg422_progressive", "jpg", 0}, {"jpeg_gray", "jpg", 2},   {"jpeg_cmyk", "jpg", 2},
    {"png_rgb", "png", 16},      {"png_alpha", "png", 16},          {"png_palette", "png", 16}, {"png_one_bit", "png", 16},
    {"png_gray_alpha", "png", 16}, {"png_gray16", "png", 16},       {"bmp_rgb", "bmp", 3},     {"bmp_palette", "bmp", 1},
    {"bmp_one_bit", "bmp", 1},   {"ppm_rgb", "ppm", 0},             {"pgm_gray", "pgm", 0},
};

static uint8_t *read_sample(const char *stem, const char *extension, size_t *size)
{
    char path[512];
    void *bytes;
    bnff_error error;
    snprintf(path, sizeof path, "%s/data/images/%s.%s", BNFF_TESTS_DIR, stem, extension);
    check_ok(bf_file_read(path, 1 << 20, &bytes, size, &error), &error);
    return bytes;
}

static void equals_pillow(void **state)
{
    (void)state;
    static const int channels[] = {1, 3};
    FOR_EACH(s, samples) FOR_EACH(c, channels) {
        test_case("decode %s channels=%d", s.stem, c);
        size_t size, want_size;
        bnff_error error;
        bnff_image image;
        uint8_t *bytes = read_sample(s.stem, s.extension, &size), *want = read_sample(s.stem, c == 1 ? "l" : "rgb", &want_size);
        check_ok(bnff_image_decode(bytes, size, s.stem, c, &image, &error), &error);
        assert_int_equal(image.width, WIDTH);
        assert_int_equal(image.height, HEIGHT);
        assert_int_equal(image.channels, c);
        assert_int_equal(want_size, PIXELS * c);
        assert_memory_equal(image.pixels, want, want_size);
        bnff_image_free(&image);
        bf_free(bytes);
        bf_free(want);
    }
}

static void cut_files_are_refused(void **state)
{
    (void)state;
    FOR_EACH(s, samples) {
        size_t size;
        uint8_t *bytes = read_sample(s.stem, s.extension, &size);
        for (size_t cut = 0; cut < size - s.spare; cut++) {
            test_case("%s cut to %zu of %zu bytes", s.stem, cut, size);
            uint8_t *part = guarded_bytes(cut); /* nothing behind it may be read */
            bnff_image image;
            bnff_error error;
            memcpy(part, bytes, cut);
            check_fails(bnff_image_decode(part, cut, s.stem, 3, &image, &error), BNFF_E_FORMAT, &error, cut > 30 ? s.stem : NULL);
            assert_null(image.pixels);
            check_guards();
        }
        bf_free(bytes);
    }
}

static void decode_fails(const void *bytes, size_t size, const char *words)
{
    bnff_image image;
    bnff_error error;
    check_fails(bnff_image_decode(bytes, size, "x.jpg", 3, &image, &error), BNFF_E_FORMAT, &error, words);
    assert_null(image.pixels);
}

static void other_formats_are_named(void **state)
{
    (void)state;
    static const struct { const char *bytes; size_t size; const char *words; } others[] = {
        {"", 0, "empty"},
        {"GIF89a..........", 16, "GIF"},
        {"RIFF\0\0\0\0WEBPVP8 ", 16, "WebP"},
        {"II*\0............", 16, "TIFF"},
        {"\0\0\0\x18" "ftypheic....", 16, "HEIC"},
        {"\0\0\0\x18" "ftypavif....", 16, "AVIF"},
        {"<!DOCTYPE html><html>404", 24, "HTML"},
        {"version https://git-lfs.github.com/spec/v1", 42, "LFS"},
        {"not an image at all", 19, "text"},
        {"\0\0\0\0\0\0\0\0\0\0\0\0", 12, "zeros"},
        {"\x89PNG\n\x1A\n\0\0", 9, "text-mode"},
        {"\x01\x02\x03\x04", 4, "not a JPEG"},
    };
    FOR_EACH(o, others) {
        test_case("%s", o.words);
        decode_fails(o.bytes, o.size, o.words);
    }
}

static void decode_text(const char *text, size_t size, int width, int height, const uint8_t *rgb)
{
    bnff_image image;
    bnff_error error;
    check_ok(bnff_image_decode(text, size, text, 3, &image, &error), &error);
    assert_int_equal(image.width, width);
    assert_int_equal(image.height, height);
    assert_memory_equal(image.pixels, rgb, (size_t)width * (size_t)height * 3);
    bnff_image_free(&image);
}

static void pnm_variants(void **state)
{
    (void)state;
    static const uint8_t two[] = {0, 0, 0, 255, 255, 255}, scaled[] = {0, 0, 0, 128, 128, 128, 255, 255, 255}, colour[] = {255, 0, 0, 0, 255, 0};
    static const uint8_t wide[] = {255, 255, 255, 1, 1, 1};
#define TEXT(s) s, sizeof s - 1
    decode_text(TEXT("P1\n# comment\n2 1\n10"), 2, 1, two);
    decode_text(TEXT("P4 2 1\n\x80"), 2, 1, two);
    decode_text(TEXT("P2 3 1 2 # max\n0\n1 2\n"), 3, 1, scaled); /* 127.5 to even */
    decode_text(TEXT("P5 3 1 2\n\0\1\2"), 3, 1, scaled);
    decode_text(TEXT("P3\n2 1\n1\n1 0 0  0 1 0"), 2, 1, colour);
    decode_text(TEXT("P6 2 1 255\n\xFF\0\0\0\xFF\0"), 2, 1, colour);
    decode_text(TEXT("P5 2 1 65535\n\xFF\xFF\x01\x01"), 2, 1, wide);
    decode_fails(TEXT("P5 2 1 0\n\1\1"), "maximum");
    decode_fails(TEXT("P5 2 1 65536\n\1\1"), "maximum");
    decode_fails(TEXT("P5 2 1 9\n\1\x0A"), "above the maximum");
    decode_fails(TEXT("P2 2 1 9 1"), "cut off");
    decode_fails(TEXT("P2 2 1 9 1 x"), "not a number");
    decode_fails(TEXT("P5 0 1 255\n"), "at least 1 x 1");
    decode_fails(TEXT("P5 999999999 999999999 255\n"), "more than");
    decode_fails(TEXT("P5 9999 9999 255\n"), "too few bytes");
    decode_fails(TEXT("P5 99999999999 1 255\n"), "not a number");
}

static void put16(uint8_t *p, unsigned v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static void put32(uint8_t *p, uint32_t v) { put16(p, v & 0xFFFF), put16(p + 2, v >> 16); }

/* A BMP with a 40 byte header; `between` is what lies between header and pixels (masks, palette). */
static size_t make_bmp(uint8_t *out, int width, int height, unsigned depth, unsigned compression, const void *between, size_t between_size,
                       const void *pixels, size_t size)
{
    memset(out, 0, 54);
    memcpy(out, "BM", 2);
    put32(out + 10, (uint32_t)(54 + between_size));
    put32(out + 14, 40), put32(out + 18, (uint32_t)width), put32(out + 22, (uint32_t)height), put16(out + 26, 1), put16(out + 28, depth);
    put32(out + 30, compression);
    if (between_size) memcpy(out + 54, between, between_size);
    memcpy(out + 54 + between_size, pixels, size);
    return 54 + between_size + size;
}

static const uint8_t palette4[] = {0, 0, 0, 0, 0, 0, 255, 0, 0, 255, 0, 0, 255, 0, 0, 0}; /* black red green blue */
static const uint8_t K[] = {0, 0, 0}, R[] = {255, 0, 0}, G[] = {0, 255, 0}, B[] = {0, 0, 255};

static void check_bmp(const uint8_t *bmp, size_t size, int width, int height, const uint8_t *const *want)
{
    uint8_t rgb[64 * 3];
    for (int i = 0; i < width * height; i++) memcpy(rgb + 3 * i, want[i], 3);
    decode_text((const char *)bmp, size, width, height, rgb);
}

static void bmp_variants(void **state)
{
    (void)state;
    uint8_t bmp[512];
    static const uint8_t rows32[] = {255, 0, 0, 7, 0, 0, 255, 7}, rows16[] = {0x00, 0x7C, 0xE0, 0x03}, rows565[] = {0x00, 0xF8, 0xE0, 0x07};
    static const uint8_t masks565[] = {0x00, 0xF8, 0, 0, 0xE0, 0x07, 0, 0, 0x1F, 0, 0, 0};
    size_t size = make_bmp(bmp, 2, 1, 32, 0, NULL, 0, rows32, sizeof rows32);
    check_bmp(bmp, size, 2, 1, (const uint8_t *[]){B, R});
    size = make_bmp(bmp, 1, -2, 32, 0, NULL, 0, rows32, sizeof rows32); /* top-down */
    check_bmp(bmp, size, 1, 2, (const uint8_t *[]){B, R});
    size = make_bmp(bmp, 1, 2, 32, 0, NULL, 0, rows32, sizeof rows32);
    check_bmp(bmp, size, 1, 2, (const uint8_t *[]){R, B});
    size = make_bmp(bmp, 2, 1, 16, 0, NULL, 0, rows16, sizeof rows16);
    check_bmp(bmp, size, 2, 1, (const uint8_t *[]){R, G});
    size = make_bmp(bmp, 2, 1, 16, 3, masks565, sizeof masks565, rows565, sizeof rows565);
    check_bmp(bmp, size, 2, 1, (const uint8_t *[]){R, G});
    static const uint8_t nibbles[] = {0x12, 0x30, 0, 0};
    size = make_bmp(bmp, 3, 1, 4, 0, palette4, sizeof palette4, nibbles, sizeof nibbles);
    check_bmp(bmp, size, 3, 1, (const uint8_t *[]){R, G, B});
    decode_fails(bmp, size - 3, "cut off");
    put32(bmp + 10, 9999);
    decode_fails(bmp, size, "outside the file");
    size = make_bmp(bmp, 2, 1, 7, 0, NULL, 0, rows32, sizeof rows32);
    decode_fails(bmp, size, "bits a pixel");
    size = make_bmp(bmp, 2, 1, 24, 4, NULL, 0, rows32, sizeof rows32);
    decode_fails(bmp, size, "not supported");
    size = make_bmp(bmp, 40000, 40000, 24, 0, NULL, 0, rows32, sizeof rows32);
    decode_fails(bmp, size, "more than");
}

static void bmp_runs(void **state)
{
    (void)state;
    uint8_t bmp[512];
    /* RLE8, bottom row first: run of 2 red, end of line; one absolute run of 3; end */
    static const uint8_t rle8[] = {2, 1, 0, 0, 0, 3, 2, 3, 1, 0, 0, 1};
    size_t size = make_bmp(bmp, 3, 2, 8, 1, palette4, sizeof palette4, rle8, sizeof rle8);
    put32(bmp + 46, 4);
    check_bmp(bmp, size, 3, 2, (const uint8_t *[]){G, B, R, R, R, K});
    /* RLE4: run of 3 alternating red and green; skip by (1, 1) to the next row is past its end: refused when written to */
    static const uint8_t rle4[] = {3, 0x12, 0, 0, 0, 2, 1, 0, 1, 0x30, 0, 1};
    size = make_bmp(bmp, 3, 2, 4, 2, palette4, sizeof palette4, rle4, sizeof rle4);
    put32(bmp + 46, 4);
    check_bmp(bmp, size, 3, 2, (const uint8_t *[]){K, B, K, R, G, R});
    static const uint8_t outside[] = {4, 1, 0, 1};
    size = make_bmp(bmp, 3, 1, 8, 1, palette4, sizeof palette4, outside, sizeof outside);
    put32(bmp + 46, 4);
    decode_fails(bmp, size, "leaves its row");
    static const uint8_t endless[] = {2, 1};
    size = make_bmp(bmp, 3, 1, 8, 1, palette4, sizeof palette4, endless, sizeof endless);
    put32(bmp + 46, 4);
    decode_fails(bmp, size, "cut off");
}

/* -- PNG ----------------------------------------------------------------------------------------------------------- */

static size_t add_chunk(uint8_t *png, size_t at, const char *type, const void *data, size_t size)
{
    const uint32_t lengths[2] = {__builtin_bswap32((uint32_t)size), 0};
    memcpy(png + at, lengths, 4);
    memcpy(png + at + 4, type, 4);
    if (size) memcpy(png + at + 8, data, size);
    const uint32_t sum = __builtin_bswap32((uint32_t)crc32(0, png + at + 4, (uInt)size + 4));
    memcpy(png + at + 8 + size, &sum, 4);
    return at + 12 + size;
}

/* A PNG whose rows (with filter bytes) are `rows`, with an extra chunk before the pixels. */
static size_t make_png(uint8_t *png, uint32_t width, uint32_t height, int depth, int type, const void *rows, size_t size, const char *extra,
                       const void *extra_data, size_t extra_size)
{
    uint8_t header[13] = {0}, packed[1024];
    uLongf packed_size = sizeof packed;
    const uint32_t w = __builtin_bswap32(width), h = __builtin_bswap32(height);
    memcpy(header, &w, 4), memcpy(header + 4, &h, 4);
    header[8] = (uint8_t)depth, header[9] = (uint8_t)type;
    assert_int_equal(compress(packed, &packed_size, rows, size), Z_OK);
    memcpy(png, "\x89PNG\r\n\x1A\n", 8);
    size_t at = add_chunk(png, 8, "IHDR", header, 13);
    if (extra) at = add_chunk(png, at, extra, extra_data, extra_size);
    at = add_chunk(png, at, "IDAT", packed, packed_size);
    return add_chunk(png, at, "IEND", NULL, 0);
}

static void png_variants(void **state)
{
    (void)state;
    static uint8_t png[1 << 16];
    static const uint8_t rgb16[] = {0, 255, 9, 0, 200, 0, 0, 0, 0, 255, 255, 0, 0}, two[] = {0, 0x12, 0x34}, index[] = {0, 1, 9};
    static const uint8_t colours[] = {0, 0, 0, 255, 0, 0};
    size_t size = make_png(png, 2, 1, 16, 2, rgb16, sizeof rgb16, NULL, NULL, 0);
    decode_text((char *)png, size, 2, 1, (const uint8_t[]){255, 0, 0, 0, 255, 0}); /* the high bytes */
    size = make_png(png, 4, 1, 4, 0, two, sizeof two, NULL, NULL, 0);
    decode_text((char *)png, size, 4, 1, (const uint8_t[]){17, 17, 17, 34, 34, 34, 51, 51, 51, 68, 68, 68});
    size = make_png(png, 2, 1, 8, 3, index, sizeof index, "PLTE", colours, sizeof colours);
    decode_text((char *)png, size, 2, 1, (const uint8_t[]){255, 0, 0, 0, 0, 0}); /* an index outside the palette is black */
    size = make_png(png, 2, 1, 8, 3, index, sizeof index, NULL, NULL, 0);
    decode_fails(png, size, "PLTE");
    size = make_png(png, 2, 1, 8, 0, index, sizeof index, "CRIT", NULL, 0);
    decode_fails(png, size, "critical");
    size = make_png(png, 2, 1, 8, 0, index, sizeof index, NULL, NULL, 0);
    static uint8_t commented[1 << 16]; /* more texts than libspng would take, and a wrong one: of no interest here */
    size_t at = 33;
    memcpy(commented, png, at);
    for (int i = 0; i < 2000; i++) at = add_chunk(commented, at, "tEXt", "a", 1);
    memcpy(commented + at, png + 33, size - 33);
    size += at - 33;
    memcpy(png, commented, size);
    decode_text((char *)png, size, 2, 1, (const uint8_t[]){1, 1, 1, 9, 9, 9});
    size = make_png(png, 9999, 9999, 8, 0, index, sizeof index, NULL, NULL, 0);
    decode_fails(png, size, "too few bytes");
    size = make_png(png, 20000, 20000, 8, 0, index, sizeof index, NULL, NULL, 0);
    decode_fails(png, size, "more than");
    size = make_png(png, 2, 2, 8, 0, index, sizeof index, NULL, NULL, 0);
    decode_fails(png, size, "too short");
    size = make_png(png, 2, 1, 8, 0, index, sizeof index, NULL, NULL, 0);
    png[size - 12 - 4] ^= 1; /* the checksum of IDAT */
    decode_fails(png, size, "checksum");
}

static void jpeg_that_claims_much(void **state)
{
    (void)state;
    size_t size;
    uint8_t *bytes = read_sample("jpeg420", "jpg", &size);
    uint8_t *frame = NULL;
    for (size_t i = 0; i + 1 < size && !frame; i++)
        if (bytes[i] == 0xFF && bytes[i + 1] == 0xC0) frame = bytes + i;
    assert_non_null(frame);
    frame[5] = frame[7] = 0x20; /* 8205 x 8211: legal, but not with these few bytes */
    decode_fails(bytes, size, "too few bytes");
    frame[5] = frame[7] = 0xF0;
    decode_fails(bytes, size, "more than");
    bf_free(bytes);
}

static void arguments(void **state)
{
    (void)state;
    bnff_image image;
    bnff_error error;
    check_fails(bnff_image_decode("P5 1 1 1\n\1", 10, "a", 2, &image, &error), BNFF_E_ARG, &error, "channels");
    check_fails(bnff_image_read(temp_path("absent.jpg"), 3, &image, &error), BNFF_E_IO, &error, "absent.jpg");
    check_fails(bnff_image_read(".", 3, &image, &error), BNFF_E_IO, &error, "regular");
    bnff_image_free(&image);
    bnff_image_free(NULL);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(equals_pillow), test(cut_files_are_refused), test(other_formats_are_named), test(pnm_variants), test(bmp_variants),
        test(bmp_runs),      test(png_variants),          test(jpeg_that_claims_much),   test(arguments),
    };
    return run_all(tests);
}
