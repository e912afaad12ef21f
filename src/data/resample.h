/* Separable resampling in Pillow's fixed-point arithmetic. */
#ifndef BF_RESAMPLE_H
#define BF_RESAMPLE_H

#include <bnff/data.h>

/* Pixels borrowed from an image: height rows `stride` bytes apart. */
typedef struct bf_view {
    const uint8_t *pixels;
    size_t stride;
    int width, height, channels;
} bf_view;

typedef struct bf_rectangle {
    int x, y, width, height;
} bf_rectangle;

bf_view bf_view_of(const bnff_image *image);
bf_view bf_view_crop(const bf_view *view, int x, int y, int width, int height);

/* The part `window` of the box (x0, y0, x1, y1) of `src` resampled to out_width x out_height: what is outside the window is not computed.
 * dst: window->width * window->height * channels bytes. Equal to the same part of Pillow's result. */
bnff_status bf_resample(const bf_view *src, const float box[4], int out_width, int out_height, bnff_interpolation interpolation,
                        const bf_rectangle *window, uint8_t *dst, bnff_error *error);

#endif
