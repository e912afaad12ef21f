/* BMP: 1, 4, 8 bit palettes (RLE too), 16 and 32 bit with or without masks, 24 bit; bottom-up and top-down. Alpha is dropped. */
#include "data/image.h"

#include <string.h>

#include "base/error.h"

enum { BI_RGB, BI_RLE8, BI_RLE4, BI_BITFIELDS, BI_ALPHABITFIELDS = 6 };

typedef struct bmp {
    const char *name;
    bnff_error *error;
    const uint8_t *bytes;
    size_t size;
    size_t pixels_at, palette_at;
    int64_t width, height;
    bool top_down;
    unsigned depth, compression;
    unsigned palette_entry, palette_count; /* bytes an entry (3 or 4), entries */
    uint32_t mask[3];                      /* of red, green, blue in 16 and 32 bit pixels */
} bmp;

static uint32_t u16(const uint8_t *p) { return p[0] | (uint32_t)p[1] << 8; }
static uint32_t u32(const uint8_t *p) { return u16(p) | u16(p + 2) << 16; }

static bnff_status refuse(const bmp *b, const char *reason)
{
    return bf_fail(b->error, BNFF_E_FORMAT, "%s: damaged BMP: %s", b->name, reason);
}

static bnff_status unsupported(const bmp *b, const char *reason)
{
    bf_fail(b->error, BNFF_E_FORMAT, "%s: BMP with %s is not supported", b->name, reason);
    return bf_hint(b->error, BNFF_E_FORMAT, "convert it to JPEG or PNG");
}

static bool is_contiguous(uint32_t mask)
{
    if (!mask) return false;
    const uint32_t low = mask >> __builtin_ctz(mask);
    return (low & (low + 1)) == 0;
}

/* Masks of 16 and 32 bit pixels: after a 40 byte header, or inside a longer one, both at offset 54; else 5-5-5 and 8-8-8. */
static bnff_status read_masks(bmp *b)
{
    static const uint32_t masks16[3] = {0x7C00, 0x03E0, 0x001F}, masks32[3] = {0xFF0000, 0x00FF00, 0x0000FF};
    if (b->compression == BI_RGB) {
        memcpy(b->mask, b->depth == 16 ? masks16 : masks32, sizeof b->mask);
        return BNFF_OK;
    }
    if (b->size < 54 + 12) return refuse(b, "cut off in its colour masks");
    for (int c = 0; c < 3; c++) {
        b->mask[c] = u32(b->bytes + 54 + 4 * c);
        if (!is_contiguous(b->mask[c]) || (b->depth == 16 && b->mask[c] > 0xFFFF)) return refuse(b, "impossible colour mask");
    }
    return BNFF_OK;
}

static bnff_status check_kind(bmp *b)
{
    switch (b->depth) {
    case 1: case 4: case 8: case 16: case 24: case 32: break;
    default: return refuse(b, "bits a pixel are not 1, 4, 8, 16, 24 or 32");
    }
    switch (b->compression) {
    case BI_RGB: break;
    case BI_RLE8: if (b->depth != 8 || b->top_down) return refuse(b, "RLE8 needs 8 bits a pixel, bottom-up"); break;
    case BI_RLE4: if (b->depth != 4 || b->top_down) return refuse(b, "RLE4 needs 4 bits a pixel, bottom-up"); break;
    case BI_BITFIELDS:
    case BI_ALPHABITFIELDS: if (b->depth != 16 && b->depth != 32) return refuse(b, "colour masks need 16 or 32 bits a pixel"); break;
    default: return unsupported(b, "an embedded JPEG, PNG or other compression");
    }
    return b->depth == 16 || b->depth == 32 ? read_masks(b) : BNFF_OK;
}

static bnff_status read_header(bmp *b)
{
    const uint8_t *p = b->bytes;
    if (b->size < 26) return refuse(b, "cut off in its header");
    b->pixels_at = u32(p + 10);
    const uint32_t header = u32(p + 14);
    if (header == 12) { /* OS/2 1.x */
        b->width = u16(p + 18), b->height = u16(p + 20), b->depth = u16(p + 24), b->palette_entry = 3;
    } else if (header >= 40 && header <= 1024) {
        if (b->size < 54) return refuse(b, "cut off in its header");
        b->width = (int32_t)u32(p + 18), b->height = (int32_t)u32(p + 22), b->depth = u16(p + 28);
        b->compression = u32(p + 30), b->palette_count = u32(p + 46), b->palette_entry = 4;
    } else {
        return refuse(b, "unknown kind of header");
    }
    if (b->height < 0) b->height = -b->height, b->top_down = true;
    BF_TRY(check_kind(b));
    b->palette_at = 14 + (size_t)header + (header == 40 && b->compression == BI_BITFIELDS ? 12 : b->compression == BI_ALPHABITFIELDS ? 16 : 0);
    if (b->depth <= 8 && (b->palette_count == 0 || b->palette_count > 1u << b->depth)) b->palette_count = 1u << b->depth;
    if (b->pixels_at < 14 + (size_t)header || b->pixels_at > b->size) return refuse(b, "its pixels start outside the file");
    return BNFF_OK;
}

/* The palette as RGB, black where the file has fewer entries. */
static bnff_status read_palette(const bmp *b, uint8_t palette[256][3])
{
    memset(palette, 0, 256 * 3);
    for (unsigned i = 0; i < b->palette_count; i++) {
        const size_t at = b->palette_at + (size_t)i * b->palette_entry;
        if (at + 3 > b->pixels_at) break;
        for (int c = 0; c < 3; c++) palette[i][c] = b->bytes[at + 2 - (size_t)c];
    }
    return b->palette_at + b->palette_entry > b->pixels_at ? refuse(b, "no palette") : BNFF_OK;
}

/* A field of a pixel scaled to 0..255, rounded down as Pillow does. */
static uint8_t field(uint32_t pixel, uint32_t mask)
{
    const int shift = __builtin_ctz(mask);
    return (uint8_t)((uint64_t)((pixel & mask) >> shift) * 255 / (mask >> shift));
}

static void read_row(const bmp *b, uint8_t palette[256][3], const uint8_t *in, uint8_t *out)
{
    for (int64_t x = 0; x < b->width; x++, out += 3) {
        if (b->depth <= 8) {
            const unsigned per_byte = 8 / b->depth, shift = 8 - b->depth * ((unsigned)(x % per_byte) + 1);
            memcpy(out, palette[in[x / per_byte] >> shift & ((1u << b->depth) - 1)], 3);
        } else if (b->depth == 24) {
            for (int c = 0; c < 3; c++) out[c] = in[3 * x + 2 - c];
        } else {
            const uint32_t pixel = b->depth == 16 ? u16(in + 2 * x) : u32(in + 4 * x);
            for (int c = 0; c < 3; c++) out[c] = field(pixel, b->mask[c]);
        }
    }
}

static uint8_t *row_of(const bmp *b, const bnff_image *image, int64_t y)
{
    return image->pixels + (size_t)(b->top_down ? y : b->height - 1 - y) * (size_t)b->width * 3;
}

/* Rows are padded to 32 bits; the last one need not be. */
static size_t stride_of(const bmp *b) { return ((size_t)b->width * b->depth + 31) / 32 * 4; }

static bool is_runs(const bmp *b) { return b->compression == BI_RLE8 || b->compression == BI_RLE4; }

/* Before memory is taken: are there bytes for so many pixels? Four bytes of RLE skip 255 rows and columns at most. */
static bnff_status check_length(const bmp *b)
{
    if (b->width < 1 || b->height < 1 || b->width > BF_IMAGE_PIXELS_MAX || b->height > BF_IMAGE_PIXELS_MAX) return BNFF_OK; /* refused soon */
    if (b->width * b->height > BF_IMAGE_PIXELS_MAX) return BNFF_OK;
    const size_t last = ((size_t)b->width * b->depth + 7) / 8, left = b->size - b->pixels_at;
    const bool fits = is_runs(b) ? (size_t)(b->width * b->height) / (255 * 255) <= left : (size_t)(b->height - 1) * stride_of(b) + last <= left;
    return fits ? BNFF_OK : refuse(b, "its pixels are cut off");
}

static void read_plain(const bmp *b, uint8_t palette[256][3], const bnff_image *image)
{
    for (int64_t y = 0; y < b->height; y++) read_row(b, palette, b->bytes + b->pixels_at + (size_t)y * stride_of(b), row_of(b, image, y));
}

/* Where an RLE stream writes next; what it skips stays palette entry 0. */
typedef struct cursor {
    const bmp *b;
    const bnff_image *image;
    int64_t x, y;
} cursor;

static bool put(cursor *at, const uint8_t color[3])
{
    if (at->x >= at->b->width || at->y >= at->b->height) return false;
    memcpy(row_of(at->b, at->image, at->y) + at->x++ * 3, color, 3);
    return true;
}

/* `count` pixels of an absolute run; bytes that the run takes, padded to 16 bits, or 0 if it does not fit. */
static size_t put_absolute(cursor *at, uint8_t palette[256][3], const uint8_t *in, size_t left, unsigned count)
{
    const bool nibbles = at->b->compression == BI_RLE4;
    const size_t bytes = nibbles ? (count + 1) / 2 : count;
    if (bytes > left) return 0;
    for (unsigned i = 0; i < count; i++)
        if (!put(at, palette[nibbles ? (i % 2 ? in[i / 2] & 15 : in[i / 2] >> 4) : in[i]])) return 0;
    return (bytes + 1) & ~(size_t)1;
}

static bool put_run(cursor *at, uint8_t palette[256][3], unsigned count, uint8_t value)
{
    const bool nibbles = at->b->compression == BI_RLE4;
    for (unsigned i = 0; i < count; i++)
        if (!put(at, palette[nibbles ? (i % 2 ? value & 15 : value >> 4) : value])) return false;
    return true;
}

static bnff_status read_runs(const bmp *b, uint8_t palette[256][3], const bnff_image *image)
{
    cursor at = {b, image, 0, 0};
    for (int64_t i = 0; i < b->width * b->height; i++) memcpy(image->pixels + 3 * i, palette[0], 3);
    for (size_t i = b->pixels_at; i + 2 <= b->size;) {
        const unsigned count = b->bytes[i], value = b->bytes[i + 1];
        i += 2;
        if (count > 0) {
            if (!put_run(&at, palette, count, (uint8_t)value)) return refuse(b, "a run leaves its row");
        } else if (value == 0) {
            at.x = 0, at.y++;
        } else if (value == 1) {
            return BNFF_OK;
        } else if (value == 2) {
            if (i + 2 > b->size) break;
            at.x += b->bytes[i], at.y += b->bytes[i + 1];
            i += 2;
        } else {
            const size_t taken = put_absolute(&at, palette, b->bytes + i, b->size - i, value);
            if (!taken) return refuse(b, "a run leaves its row or the file");
            i += taken;
        }
    }
    return at.y >= b->height - 1 && at.x >= b->width ? BNFF_OK : refuse(b, "its pixels are cut off");
}

bnff_status bf_decode_bmp(const uint8_t *bytes, size_t size, const char *name, bnff_image *image, bnff_error *error)
{
    bmp b = {.name = name, .error = error, .bytes = bytes, .size = size};
    uint8_t palette[256][3];
    BF_TRY(read_header(&b));
    if (b.depth <= 8) BF_TRY(read_palette(&b, palette));
    BF_TRY(check_length(&b));
    BF_TRY(bf_image_reserve(name, b.width, b.height, 3, image, error));
    if (is_runs(&b)) return read_runs(&b, palette, image);
    read_plain(&b, palette, image);
    return BNFF_OK;
}
