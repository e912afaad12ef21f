/* PNG through libspng: alpha dropped, not blended; 16 bits cut to the high byte; damaged checksums refused. */
#include "data/image.h"

#include <string.h>

#include <spng.h>

#include "base/error.h"
#include "base/memory.h"

enum { SIGNATURE = 8, CHUNK_FRAME = 12 /* length, type, checksum */ };
/* No deflate stream is longer than this many times its bytes. */
#define DEFLATE_RATIO 1032

/* Did memory run out since this thread began to decode? libspng gives its allocator no context to keep it in, and reports a failure
 * inside zlib as damaged data. */
static _Thread_local bool out_of_memory;

static void *noted(void *memory)
{
    if (!memory) out_of_memory = true;
    return memory;
}

static void *allocate(size_t bytes) { return noted(bf_alloc(bytes)); }
static void *allocate_zeroed(size_t count, size_t bytes) { return noted(bf_calloc(count, bytes)); }
static void *reallocate(void *memory, size_t bytes) { return noted(bf_realloc(memory, bytes, 1)); }

static bnff_status refuse(const char *name, int code, bnff_error *error)
{
    if (code == SPNG_EMEM || out_of_memory) return bf_fail(error, BNFF_E_MEMORY, "%s: no memory to decode it", name);
    return bf_fail(error, BNFF_E_FORMAT, "%s: damaged PNG: %s", name, spng_strerror(code));
}

static bnff_status decode(spng_ctx *png, size_t size, const char *name, bnff_image *image, bnff_error *error)
{
    struct spng_ihdr header;
    int code = spng_get_ihdr(png, &header);
    if (code) return refuse(name, code, error);
    static const int samples[] = {1, 0, 3, 1, 2, 0, 4};
    const uint64_t row_bits = (uint64_t)header.width * (uint64_t)(samples[header.color_type] * header.bit_depth);
    const bool gray = header.color_type == SPNG_COLOR_TYPE_GRAYSCALE && header.bit_depth <= 8;
    const int64_t width = header.width, height = header.height;
    if (width * height <= BF_IMAGE_PIXELS_MAX && row_bits / 8 * header.height > DEFLATE_RATIO * (uint64_t)size)
        return bf_fail(error, BNFF_E_FORMAT, "%s: damaged PNG: too few bytes for its size in pixels", name);
    BF_TRY(bf_image_reserve(name, width, height, gray ? 1 : 3, image, error));
    const size_t bytes = (size_t)width * (size_t)height * (size_t)image->channels;
    code = spng_decode_image(png, image->pixels, bytes, gray ? SPNG_FMT_G8 : SPNG_FMT_RGB8, 0);
    if (code) return refuse(name, code, error);
    code = spng_decode_chunks(png); /* the checksum of the last IDAT is compared when the next chunk is read */
    return code && code != SPNG_IO_EOF ? refuse(name, code, error) : BNFF_OK; /* IEND may be missing */
}

/* The file as libspng gets to read it: without its ancillary chunks, which change nothing here and may be bombs. */
typedef struct source {
    const uint8_t *at, *end; /* of the part being read */
    const uint8_t *file_end;
} source;

/* Go on to the next critical chunk; from one that does not fit into the file on, all is passed as it is, for libspng to refuse. */
static void next_part(source *s)
{
    for (s->at = s->end; (size_t)(s->file_end - s->at) >= CHUNK_FRAME; s->at = s->end) {
        const size_t length = (size_t)s->at[0] << 24 | (size_t)s->at[1] << 16 | (size_t)s->at[2] << 8 | s->at[3];
        if (length > (size_t)(s->file_end - s->at) - CHUNK_FRAME) break;
        s->end = s->at + length + CHUNK_FRAME;
        if (!(s->at[4] & 0x20)) return;
    }
    s->end = s->file_end;
}

static int read_source(spng_ctx *png, void *user, void *dest, size_t length)
{
    (void)png;
    source *s = user;
    for (uint8_t *to = dest; length > 0;) {
        if (s->at == s->end) next_part(s);
        if (s->at == s->end) return SPNG_IO_EOF;
        const size_t n = (size_t)(s->end - s->at) < length ? (size_t)(s->end - s->at) : length;
        memcpy(to, s->at, n);
        s->at += n, to += n, length -= n;
    }
    return 0;
}

bnff_status bf_decode_png(const uint8_t *bytes, size_t size, const char *name, bnff_image *image, bnff_error *error)
{
    if (size >= 16 && memcmp(bytes + 12, "CgBI", 4) == 0) {
        bf_fail(error, BNFF_E_FORMAT, "%s: Apple's CgBI variant of PNG, which other programs cannot read", name);
        return bf_hint(error, BNFF_E_FORMAT, "convert it to PNG with `sips` or `pngcrush -revert-iphone-optimizations`");
    }
    struct spng_alloc alloc = {allocate, reallocate, allocate_zeroed, bf_free};
    out_of_memory = false;
    source from = {bytes, bytes + SIGNATURE, bytes + size};
    spng_ctx *png = spng_ctx_new2(&alloc, 0);
    if (!png) return refuse(name, SPNG_EMEM, error);
    int code = spng_set_image_limits(png, (uint32_t)BF_IMAGE_PIXELS_MAX, (uint32_t)BF_IMAGE_PIXELS_MAX);
    if (!code) code = spng_set_png_stream(png, read_source, &from);
    const bnff_status status = code ? refuse(name, code, error) : decode(png, size, name, image, error);
    spng_ctx_free(png);
    return status;
}
