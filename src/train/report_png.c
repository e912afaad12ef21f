#include <spng.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/memory.h"
#include "train/report_parts.h"

enum { THUMBNAIL = 256 /* longest side, pixels */ };

/* Average squares of `factor` pixels; the rest at the right and bottom edge is cut off. */
static bool shrink(const bnff_image *src, int factor, bnff_image *dst)
{
    const int channels = src->channels;
    *dst = (bnff_image){src->width / factor, src->height / factor, channels, NULL};
    dst->width += dst->width == 0, dst->height += dst->height == 0;
    dst->pixels = bf_calloc((size_t)dst->width * (size_t)dst->height, (size_t)channels);
    if (!dst->pixels) return false;
    for (int y = 0; y < dst->height; y++)
        for (int x = 0; x < dst->width * channels; x++) {
            const int column = x / channels * factor, channel = x % channels;
            uint64_t sum = 0, count = 0;
            for (int i = y * factor; i < (y + 1) * factor && i < src->height; i++)
                for (int j = column; j < column + factor && j < src->width; j++, count++)
                    sum += src->pixels[((size_t)i * (size_t)src->width + (size_t)j) * (size_t)channels + (size_t)channel];
            dst->pixels[(size_t)y * (size_t)dst->width * (size_t)channels + (size_t)x] = (uint8_t)((sum + count / 2) / count);
        }
    return true;
}

static bnff_status encode(const bnff_image *image, void **png, size_t *size, bnff_error *error)
{
    spng_ctx *context = spng_ctx_new(SPNG_CTX_ENCODER);
    if (!context) return bf_fail(error, BNFF_E_MEMORY, "report: no memory for a picture");
    struct spng_ihdr header = {.width = (uint32_t)image->width, .height = (uint32_t)image->height, .bit_depth = 8,
                               .color_type = image->channels == 1 ? SPNG_COLOR_TYPE_GRAYSCALE : SPNG_COLOR_TYPE_TRUECOLOR};
    const size_t bytes = (size_t)image->width * (size_t)image->height * (size_t)image->channels;
    int code = spng_set_option(context, SPNG_ENCODE_TO_BUFFER, 1);
    if (!code) code = spng_set_ihdr(context, &header);
    if (!code) code = spng_encode_image(context, image->pixels, bytes, SPNG_FMT_PNG, SPNG_ENCODE_FINALIZE);
    *png = code ? NULL : spng_get_png_buffer(context, size, &code);
    spng_ctx_free(context);
    if (*png) return BNFF_OK;
    return bf_fail(error, code == SPNG_EMEM ? BNFF_E_MEMORY : BNFF_E_INTERNAL, "report: encoding a picture: %s", spng_strerror(code));
}

static void add_base64(bf_text *text, const uint8_t *bytes, size_t size)
{
    static const char digit[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        const size_t rest = size - i;
        const uint32_t bits = (uint32_t)bytes[i] << 16 | (rest > 1 ? (uint32_t)bytes[i + 1] << 8 : 0) | (rest > 2 ? bytes[i + 2] : 0);
        const char four[4] = {digit[bits >> 18], digit[bits >> 12 & 63], rest > 1 ? digit[bits >> 6 & 63] : '=',
                              rest > 2 ? digit[bits & 63] : '='};
        bf_text_append(text, four, 4);
    }
}

bnff_status bf_report_png(bf_text *html, const bnff_image *image, bnff_error *error)
{
    if (image->width < 1 || image->height < 1 || (image->channels != 1 && image->channels != 3))
        return bf_fail(error, BNFF_E_ARG, "report: a picture of %d x %d pixels, %d channels", image->width, image->height, image->channels);
    const int longest = image->width > image->height ? image->width : image->height;
    bnff_image small = {0};
    if (longest > THUMBNAIL && !shrink(image, (longest + THUMBNAIL - 1) / THUMBNAIL, &small))
        return bf_fail(error, BNFF_E_MEMORY, "report: no memory for a picture");
    void *png = NULL;
    size_t size = 0;
    const bnff_status status = encode(small.pixels ? &small : image, &png, &size, error);
    if (status == BNFF_OK) {
        bf_text_add(html, "data:image/png;base64,");
        add_base64(html, png, size);
    }
    free(png); /* libspng's, from malloc */
    bf_free(small.pixels);
    return status;
}
