/* The inside of the image decoders: bytes of a known format to 8-bit pixels. */
#ifndef BF_IMAGE_H
#define BF_IMAGE_H

#include <bnff/data.h>

/* Larger pictures are refused before anything is allocated for them. */
#define BF_IMAGE_PIXELS_MAX 100000000LL
/* Largest file read as an image. */
#define BF_IMAGE_BYTES_MAX ((size_t)1 << 30)

/* A picture much larger than what is made of it may be decoded at 1/2, 1/4 or 1/8 of its size, which JPEG does for half the time or less.
 * choose is told the size and answers the divisor, 1 for all of it. */
typedef struct bf_shrink {
    int (*choose)(void *user, int width, int height);
    void *user;
    int divisor, width, height; /* set by a decoder that asks: the answer, and the size of the whole picture */
} bf_shrink;

/* A decoder fills image with 1 channel where the file is gray without doubt, else with 3; on failure it leaves image->pixels to its caller. */
typedef bnff_status bf_decoder(const uint8_t *bytes, size_t size, const char *name, bnff_image *image, bnff_error *error);
bf_decoder bf_decode_png, bf_decode_bmp, bf_decode_pnm;
/* shrink may be NULL. */
bnff_status bf_decode_jpeg(const uint8_t *bytes, size_t size, const char *name, bf_shrink *shrink, bnff_image *image, bnff_error *error);

/* Is the size possible, and within the limit? */
bnff_status bf_image_check(const char *name, int64_t width, int64_t height, bnff_error *error);
/* Check the size and allocate the pixels, not cleared. */
bnff_status bf_image_reserve(const char *name, int64_t width, int64_t height, int channels, bnff_image *image, bnff_error *error);
/* Convert in place between 1 and 3 channels: luma as Pillow's, gray replicated. */
bnff_status bf_image_convert(const char *name, int channels, bnff_image *image, bnff_error *error);
/* Decode to the channels that the file has, 1 or 3; shrink may be NULL. */
bnff_status bf_image_decode(const void *bytes, size_t size, const char *name, bf_shrink *shrink, bnff_image *image, bnff_error *error);
bnff_status bf_image_read(const char *path, bf_shrink *shrink, bnff_image *image, bnff_error *error);
/* What bytes that are no supported image look like ("a WebP image"); NULL if nothing is known about them. */
const char *bf_foreign_format(const uint8_t *bytes, size_t size);

#endif
