/* JPEG through libjpeg-turbo, with the pixels Pillow gives: accurate integer DCT, smooth chroma upsampling, EXIF not obeyed.
 *
 * Stricter than libjpeg: a file whose entropy-coded data is cut off or has impossible codes is refused, where libjpeg warns and fills
 * with gray. Only the end marker may be missing. Bounds on hostile files: pixels (image.h), bytes against blocks, scans. */
#include "data/image.h"

#include <setjmp.h>
#include <stdio.h>
#include <string.h>

#include <jpeglib.h>
#include <jerror.h>

#include "base/error.h"

/* Progressive files have about ten scans, and the format allows hundreds that each cost a walk over the whole picture: past the first
 * number of scans the pixels walked over count, past the second nothing helps. */
#define SCANS_FREE 50
#define SCANS_MAX 500
#define SCANNED_PIXELS_MAX 500000000LL

typedef struct reader {
    struct jpeg_error_mgr manager; /* first: libjpeg's err points here */
    struct jpeg_progress_mgr progress;
    struct jpeg_decompress_struct jpeg;
    jmp_buf escape;
    bool ended; /* the bytes ended before the end marker */
    const char *name;
    bnff_status status;
    bnff_error *error;
} reader;

static reader *reader_of(j_common_ptr jpeg) { return (reader *)(void *)jpeg->err; }

static void refuse(reader *r, const char *reason)
{
    r->status = bf_fail(r->error, BNFF_E_FORMAT, "%s: damaged JPEG: %s", r->name, reason);
    longjmp(r->escape, 1);
}

static void on_error(j_common_ptr jpeg)
{
    reader *r = reader_of(jpeg);
    char text[JMSG_LENGTH_MAX];
    if (jpeg->err->msg_code == JERR_OUT_OF_MEMORY) {
        r->status = bf_fail(r->error, BNFF_E_MEMORY, "%s: no memory to decode it", r->name);
        longjmp(r->escape, 1);
    }
    jpeg->err->format_message(jpeg, text);
    refuse(r, text);
}

static void on_message(j_common_ptr jpeg, int level)
{
    if (level >= 0) return;
    switch (jpeg->err->msg_code) {
    case JWRN_JPEG_EOF: reader_of(jpeg)->ended = true; break;
    case JWRN_HIT_MARKER: refuse(reader_of(jpeg), "its data is cut off"); break;
    case JWRN_HUFF_BAD_CODE:
    case JWRN_ARITH_BAD_CODE: refuse(reader_of(jpeg), "impossible code in its data"); break;
    case JWRN_MUST_RESYNC: refuse(reader_of(jpeg), "a part of its data is missing"); break;
    default: break; /* stray bytes between segments and the like: the picture is whole */
    }
}

static void on_progress(j_common_ptr common)
{
    const j_decompress_ptr jpeg = (j_decompress_ptr)common;
    const int64_t pixels = (int64_t)jpeg->image_width * jpeg->image_height;
    const int scans = jpeg->input_scan_number;
    if (scans > SCANS_MAX || (scans > SCANS_FREE && scans * pixels > SCANNED_PIXELS_MAX))
        refuse(reader_of(common), "too many scans for its size");
}

static void open_bytes(reader *r, const uint8_t *bytes, size_t size)
{
    jpeg_create_decompress(&r->jpeg);
    r->progress.progress_monitor = on_progress;
    r->jpeg.progress = &r->progress;
    jpeg_mem_src(&r->jpeg, bytes, size);
    jpeg_read_header(&r->jpeg, TRUE);
}

/* A Huffman-coded block takes at least one bit (its DC code), so fewer bits than 8x8 blocks cannot be a whole picture; arithmetic coding
 * comes down to a few hundredths of a bit where all blocks are alike. */
static void check_plausible(reader *r, size_t size)
{
    const uint64_t blocks = (uint64_t)((r->jpeg.image_width + 7) / 8) * ((r->jpeg.image_height + 7) / 8);
    if (blocks > (r->jpeg.arith_code ? 1000 : 8) * (uint64_t)size) refuse(r, "too few bytes for its size in pixels");
}

/* Four inks as Adobe stores them, inverted (255 is no ink), to RGB as Pillow does: c and k are what the bytes say,
 *     R = k - (255 - c) k / 255,  the quotient rounded. */
static void cmyk_to_rgb(const uint8_t *cmyk, uint8_t *rgb, int width)
{
    for (int x = 0; x < width; x++, cmyk += 4, rgb += 3)
        for (int c = 0; c < 3; c++) {
            const unsigned product = (255u - cmyk[c]) * cmyk[3] + 128u;
            rgb[c] = (uint8_t)(cmyk[3] - (((product >> 8) + product) >> 8));
        }
}

static void read_rows(reader *r, bnff_image *image)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    const size_t row = (size_t)image->width * (size_t)image->channels;
    const bool inks = jpeg->out_color_space == JCS_CMYK;
    JSAMPARRAY four = inks ? jpeg->mem->alloc_sarray((j_common_ptr)jpeg, JPOOL_IMAGE, 4 * jpeg->output_width, 1) : NULL;
    while (jpeg->output_scanline < jpeg->output_height) {
        uint8_t *rows[4];
        const unsigned y = jpeg->output_scanline, left = jpeg->output_height - y, want = inks ? 1 : left < 4 ? left : 4;
        for (unsigned i = 0; i < want; i++) rows[i] = image->pixels + (y + i) * row;
        jpeg_read_scanlines(jpeg, inks ? four : rows, want);
        if (inks) cmyk_to_rgb(four[0], rows[0], image->width);
    }
}

static void choose_size(reader *r, bf_shrink *shrink)
{
    if (shrink) {
        shrink->width = (int)r->jpeg.image_width, shrink->height = (int)r->jpeg.image_height;
        shrink->divisor = shrink->choose(shrink->user, shrink->width, shrink->height);
        r->jpeg.scale_num = 1, r->jpeg.scale_denom = (unsigned)shrink->divisor;
    }
    jpeg_calc_output_dimensions(&r->jpeg);
}

static void decode(reader *r, const uint8_t *bytes, size_t size, bf_shrink *shrink, bnff_image *image)
{
    struct jpeg_decompress_struct *jpeg = &r->jpeg;
    open_bytes(r, bytes, size);
    const J_COLOR_SPACE from = jpeg->jpeg_color_space;
    if (from == JCS_UNKNOWN) refuse(r, "its number of colour components is not 1, 3 or 4");
    jpeg->out_color_space = from == JCS_GRAYSCALE ? JCS_GRAYSCALE : from == JCS_CMYK || from == JCS_YCCK ? JCS_CMYK : JCS_RGB;
    const int channels = from == JCS_GRAYSCALE ? 1 : 3;
    r->status = bf_image_check(r->name, jpeg->image_width, jpeg->image_height, r->error);
    if (r->status != BNFF_OK) return;
    check_plausible(r, size);
    choose_size(r, shrink);
    r->status = bf_image_reserve(r->name, jpeg->output_width, jpeg->output_height, channels, image, r->error);
    if (r->status != BNFF_OK) return;
    jpeg->dct_method = JDCT_ISLOW;
    jpeg->do_fancy_upsampling = TRUE;
    jpeg_start_decompress(jpeg);
    const bool many_scans = jpeg->progressive_mode || jpeg->comps_in_scan < jpeg->num_components;
    read_rows(r, image);
    if (r->ended && many_scans) refuse(r, "its data is cut off");
}

/* The reader belongs to the caller: what a function changes in its own variables after setjmp is lost at longjmp. */
static void decode_or_escape(reader *r, const uint8_t *bytes, size_t size, bf_shrink *shrink, bnff_image *image)
{
    if (!setjmp(r->escape)) decode(r, bytes, size, shrink, image);
    jpeg_destroy_decompress(&r->jpeg);
}

bnff_status bf_decode_jpeg(const uint8_t *bytes, size_t size, const char *name, bf_shrink *shrink, bnff_image *image, bnff_error *error)
{
    reader r = {.name = name, .error = error};
    r.jpeg.err = jpeg_std_error(&r.manager);
    r.manager.error_exit = on_error;
    r.manager.emit_message = on_message;
    decode_or_escape(&r, bytes, size, shrink, image);
    return r.status;
}
