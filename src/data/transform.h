/* A transform made ready: checked, with the float of every pixel value. */
#ifndef BF_TRANSFORM_H
#define BF_TRANSFORM_H

#include <bnff/data.h>

#include "data/resample.h"

typedef struct bf_transform {
    bnff_transform options;
    int channels;        /* of the result, 1 or 3 */
    float value[3][256]; /* (v / 255 - mean) / std of each channel, in float as torchvision computes it */
} bf_transform;

bnff_status bf_transform_prepare(const bnff_transform *options, int channels, bf_transform *transform, bnff_error *error);
/* The image has as many channels as the result, or 1, to be replicated. dst: height x width x channels. Every random choice comes from `seed`. */
bnff_status bf_transform_run(const bf_transform *transform, const bf_view *image, uint64_t seed, float *dst, bnff_error *error);
/* May a picture of this size be decoded at a fraction of it? Only for a crop that is at least that much larger than the result. */
int bf_transform_divisor(const bf_transform *transform, uint64_t seed, int width, int height);
/* bf_transform_run for a picture of width x height that was decoded at 1/divisor of its size. */
bnff_status bf_transform_run_shrunk(const bf_transform *transform, const bf_view *image, int divisor, int width, int height, uint64_t seed,
                                    float *dst, bnff_error *error);

#endif
