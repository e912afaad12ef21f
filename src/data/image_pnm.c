/* PBM, PGM and PPM, plain (P1 P2 P3) and raw (P4 P5 P6). Samples are scaled to 0..255 and rounded, as Pillow does. */
#include "data/image.h"

#include <ctype.h>
#include <math.h>
#include <string.h>

#include "base/error.h"

typedef struct pnm {
    const char *name;
    bnff_error *error;
    const uint8_t *at, *end;
} pnm;

static bnff_status refuse(const pnm *p, const char *reason)
{
    return bf_fail(p->error, BNFF_E_FORMAT, "%s: damaged PPM: %s", p->name, reason);
}

static void skip_blanks(pnm *p)
{
    for (; p->at < p->end && (isspace(*p->at) || *p->at == '#'); p->at++)
        if (*p->at == '#')
            while (p->at < p->end && *p->at != '\n' && *p->at != '\r') p->at++;
    if (p->at > p->end) p->at = p->end;
}

/* A decimal number of at most nine digits. */
static bnff_status read_number(pnm *p, int64_t *number)
{
    skip_blanks(p);
    if (p->at == p->end) return refuse(p, "cut off");
    const uint8_t *start = p->at;
    for (*number = 0; p->at < p->end && isdigit(*p->at) && p->at - start < 9; p->at++) *number = 10 * *number + (*p->at - '0');
    if (p->at == start || (p->at < p->end && !isspace(*p->at) && *p->at != '#')) return refuse(p, "not a number where one is needed");
    return BNFF_OK;
}

/* One digit, with or without blanks around it. */
static bnff_status read_bit(pnm *p, int64_t *bit)
{
    skip_blanks(p);
    if (p->at == p->end) return refuse(p, "cut off");
    if (*p->at != '0' && *p->at != '1') return refuse(p, "a bit that is neither 0 nor 1");
    *bit = *p->at++ - '0';
    return BNFF_OK;
}

static uint8_t scale(int64_t value, int64_t max) { return max == 255 ? (uint8_t)value : (uint8_t)rint((double)value / (double)max * 255.0); }

static bnff_status read_plain(pnm *p, bool bits, int64_t max, uint8_t *out, size_t samples)
{
    for (size_t i = 0; i < samples; i++) {
        int64_t value = 0;
        BF_TRY(bits ? read_bit(p, &value) : read_number(p, &value));
        if (value > max) return refuse(p, "a sample above the maximum");
        out[i] = bits ? (value ? 0 : 255) : scale(value, max);
    }
    return BNFF_OK;
}

static bnff_status read_raw(pnm *p, int64_t max, uint8_t *out, size_t samples)
{
    const size_t bytes = max > 255 ? 2 : 1;
    if ((size_t)(p->end - p->at) / bytes < samples) return refuse(p, "its pixels are cut off");
    for (size_t i = 0; i < samples; i++, p->at += bytes) {
        const int64_t value = bytes == 2 ? p->at[0] << 8 | p->at[1] : p->at[0];
        if (value > max) return refuse(p, "a sample above the maximum");
        out[i] = scale(value, max);
    }
    return BNFF_OK;
}

static bnff_status read_raw_bits(pnm *p, const bnff_image *image)
{
    const size_t stride = ((size_t)image->width + 7) / 8;
    if ((size_t)(p->end - p->at) / stride < (size_t)image->height) return refuse(p, "its pixels are cut off");
    for (int y = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++)
            image->pixels[(size_t)y * (size_t)image->width + (size_t)x] = p->at[(size_t)y * stride + (size_t)x / 8] >> (7 - x % 8) & 1 ? 0 : 255;
    return BNFF_OK;
}

bnff_status bf_decode_pnm(const uint8_t *bytes, size_t size, const char *name, bnff_image *image, bnff_error *error)
{
    pnm p = {name, error, bytes + 2, bytes + size};
    const int kind = bytes[1] - '0';
    const bool bits = kind == 1 || kind == 4;
    int64_t width, height, max = 1;
    BF_TRY(read_number(&p, &width));
    BF_TRY(read_number(&p, &height));
    if (!bits) BF_TRY(read_number(&p, &max));
    if (max < 1 || max > 65535) return refuse(&p, "its maximum is not in 1..65535");
    if (kind >= 4) {
        if (p.at == p.end || !isspace(*p.at)) return refuse(&p, "no blank before its pixels");
        p.at++;
    }
    const int channels = kind == 3 || kind == 6 ? 3 : 1;
    if (width > 0 && height > 0 && width * height <= BF_IMAGE_PIXELS_MAX && (uint64_t)(width * height) > 8 * (uint64_t)size)
        return refuse(&p, "too few bytes for its size in pixels");
    BF_TRY(bf_image_reserve(name, width, height, channels, image, error));
    if (kind == 4) return read_raw_bits(&p, image);
    const size_t samples = (size_t)width * (size_t)height * (size_t)channels;
    return kind > 4 ? read_raw(&p, max, image->pixels, samples) : read_plain(&p, bits, max, image->pixels, samples);
}
