#include "data/image.h"

#include <ctype.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "base/memory.h"

bnff_status bf_image_check(const char *name, int64_t width, int64_t height, bnff_error *error)
{
    if (width < 1 || height < 1)
        return bf_fail(error, BNFF_E_FORMAT, "%s: %lld x %lld pixels, at least 1 x 1 are needed", name, (long long)width, (long long)height);
    if (width > BF_IMAGE_PIXELS_MAX || height > BF_IMAGE_PIXELS_MAX || width * height > BF_IMAGE_PIXELS_MAX)
        return bf_fail(error, BNFF_E_FORMAT, "%s: %lld x %lld pixels, more than the %lld that are decoded", name, (long long)width,
                       (long long)height, BF_IMAGE_PIXELS_MAX);
    return BNFF_OK;
}

bnff_status bf_image_reserve(const char *name, int64_t width, int64_t height, int channels, bnff_image *image, bnff_error *error)
{
    BF_TRY(bf_image_check(name, width, height, error));
    image->pixels = bf_alloc((size_t)width * (size_t)height * (size_t)channels);
    if (!image->pixels)
        return bf_fail(error, BNFF_E_MEMORY, "%s: no memory for %lld x %lld pixels", name, (long long)width, (long long)height);
    image->width = (int)width;
    image->height = (int)height;
    image->channels = channels;
    return BNFF_OK;
}

/* Pillow's L: (19595 R + 38470 G + 7471 B) / 65536, rounded. In place: gray pixel i is written after RGB pixel i was read. */
static void to_gray(uint8_t *p, size_t pixels)
{
    for (size_t i = 0; i < pixels; i++) p[i] = (uint8_t)((19595u * p[3 * i] + 38470u * p[3 * i + 1] + 7471u * p[3 * i + 2] + 0x8000u) >> 16);
}

bnff_status bf_image_convert(const char *name, int channels, bnff_image *image, bnff_error *error)
{
    if (image->channels == channels) return BNFF_OK;
    const size_t pixels = (size_t)image->width * (size_t)image->height;
    if (channels == 1) {
        to_gray(image->pixels, pixels);
    } else {
        uint8_t *grown = bf_realloc(image->pixels, pixels, 3);
        if (!grown) return bf_fail(error, BNFF_E_MEMORY, "%s: no memory for %d x %d pixels", name, image->width, image->height);
        image->pixels = grown;
        for (size_t i = pixels; i-- > 0;) grown[3 * i] = grown[3 * i + 1] = grown[3 * i + 2] = grown[i];
    }
    image->channels = channels;
    return BNFF_OK;
}

static bool starts(const uint8_t *bytes, size_t size, size_t at, const char *text)
{
    const size_t length = strlen(text);
    return size >= at + length && memcmp(bytes + at, text, length) == 0;
}

/* The decoder of any format but JPEG. */
static bf_decoder *decoder_of(const uint8_t *bytes, size_t size)
{
    if (starts(bytes, size, 0, "\x89PNG\r\n\x1A\n")) return bf_decode_png;
    if (starts(bytes, size, 0, "BM")) return bf_decode_bmp;
    if (size >= 3 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6' && isspace(bytes[2])) return bf_decode_pnm;
    return NULL;
}

const char *bf_foreign_format(const uint8_t *bytes, size_t size)
{
    static const struct {
        size_t at;
        const char *magic, *name;
    } known[] = {
        {0, "GIF8", "a GIF image"},          {8, "WEBP", "a WebP image"},         {0, "II*", "a TIFF image"},
        {0, "MM", "a TIFF image"},           {4, "ftypavi", "an AVIF image"},     {4, "ftyphei", "an HEIC image"},
        {4, "ftyphevc", "an HEIC image"},    {4, "ftypmif1", "an HEIF image"},    {4, "ftypmsf1", "an HEIF image"},
        {4, "ftyp", "a video"},              {4, "jP  ", "a JPEG 2000 image"},    {0, "\xFF\x4F\xFF\x51", "a JPEG 2000 image"},
        {0, "\xFF\x0A", "a JPEG XL image"},  {4, "JXL ", "a JPEG XL image"},      {0, "8BPS", "a Photoshop image"},
        {0, "%PDF", "a PDF document"},       {0, "\x1F\x8B", "a gzip file"},      {0, "PK\x03\x04", "a zip archive"},
        {128, "DICM", "a DICOM image"},      {0, "\x93NUMPY", "a NumPy array"},   {0, "\x89HDF", "an HDF5 file"},
        {0, "P7\n", "a PAM image"},          {0, "version https://git-lfs", "a Git LFS pointer, not the file itself"},
        {0, "<!DOCTYPE", "an HTML page"},    {0, "<!doctype", "an HTML page"},    {0, "<html", "an HTML page"},
        {0, "<svg", "an SVG drawing"},       {0, "<?xml", "an XML or SVG file"},  {0, "\x89PNG", "a PNG damaged by a text-mode transfer"},
        {1, "PNG\r\n", "a PNG with a damaged signature"}, {0, "x\x9C", "zlib data"}, {1, "\x05\x16\x07", "an AppleDouble file"},
    };
    if (size == 0) return "an empty file";
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (starts(bytes, size, known[i].at, known[i].magic)) return known[i].name;
    size_t zeros = 0, text = 0;
    const size_t looked = size < 512 ? size : 512;
    for (size_t i = 0; i < looked; i++) {
        zeros += bytes[i] == 0;
        text += isprint(bytes[i]) || isspace(bytes[i]);
    }
    return zeros == looked ? "only zeros" : text == looked ? "a text file" : NULL;
}

bnff_status bf_image_decode(const void *bytes, size_t size, const char *name, bf_shrink *shrink, bnff_image *image, bnff_error *error)
{
    *image = (bnff_image){0};
    const bool jpeg = starts(bytes, size, 0, "\xFF\xD8");
    bf_decoder *decode = decoder_of(bytes, size);
    if (!decode && !jpeg) {
        const char *foreign = bf_foreign_format(bytes, size);
        bf_fail(error, BNFF_E_FORMAT, "%s: not a JPEG, PNG, PPM, PGM or BMP image%s%s", name, foreign ? " but " : "", foreign ? foreign : "");
        return bf_hint(error, BNFF_E_FORMAT, "convert it to JPEG or PNG, fetch it again, or remove it");
    }
    const bnff_status status = jpeg ? bf_decode_jpeg(bytes, size, name, shrink, image, error) : decode(bytes, size, name, image, error);
    if (status != BNFF_OK) bnff_image_free(image);
    return status;
}

bnff_status bf_image_read(const char *path, bf_shrink *shrink, bnff_image *image, bnff_error *error)
{
    void *bytes;
    size_t size;
    *image = (bnff_image){0};
    BF_TRY(bf_file_read(path, BF_IMAGE_BYTES_MAX, &bytes, &size, error));
    const bnff_status status = bf_image_decode(bytes, size, path, shrink, image, error);
    bf_free(bytes);
    return status;
}

static bnff_status check_channels(const char *name, int channels, bnff_error *error)
{
    if (channels == 1 || channels == 3) return BNFF_OK;
    return bf_fail(error, BNFF_E_ARG, "%s: %d channels asked for, images have 1 or 3", name, channels);
}

static bnff_status finish(const char *name, int channels, bnff_image *image, bnff_error *error)
{
    const bnff_status status = bf_image_convert(name, channels, image, error);
    if (status != BNFF_OK) bnff_image_free(image);
    return status;
}

bnff_status bnff_image_decode(const void *bytes, size_t size, const char *name, int channels, bnff_image *image, bnff_error *error)
{
    *image = (bnff_image){0};
    if (!name) name = "image";
    BF_TRY(check_channels(name, channels, error));
    BF_TRY(bf_image_decode(bytes, size, name, NULL, image, error));
    return finish(name, channels, image, error);
}

bnff_status bnff_image_read(const char *path, int channels, bnff_image *image, bnff_error *error)
{
    *image = (bnff_image){0};
    BF_TRY(check_channels(path, channels, error));
    BF_TRY(bf_image_read(path, NULL, image, error));
    return finish(path, channels, image, error);
}

void bnff_image_free(bnff_image *image)
{
    if (!image) return;
    bf_free(image->pixels);
    *image = (bnff_image){0};
}
