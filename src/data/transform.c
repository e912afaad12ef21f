/* From decoded pixels to the network's input, with torchvision's rules for sizes, crops and rounding. */
#include "data/transform.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"
#include "base/random.h"

/* Counters of the random draws of one image: four of each try at a crop, then the rest. */
enum { DRAWS_OF_A_TRY = 4, TRIES = 10, DRAW_HFLIP = 100, DRAW_VFLIP, DRAW_TOP, DRAW_LEFT };

static bnff_status check(const bnff_transform *t, bnff_error *error)
{
    if (t->width < 1 || t->height < 1 || t->width > 16384 || t->height > 16384)
        return bf_fail(error, BNFF_E_ARG, "images of %d x %d pixels asked for, sides are 1 to 16384", t->width, t->height);
    if (t->resize < 0 || t->resize > 16384) return bf_fail(error, BNFF_E_ARG, "resize to %d pixels, a side is at most 16384", t->resize);
    if (t->crop_padding < 0 || t->crop_padding > 4096) return bf_fail(error, BNFF_E_ARG, "padding %d, it is 0 to 4096", t->crop_padding);
    if (!(t->hflip >= 0 && t->hflip <= 1 && t->vflip >= 0 && t->vflip <= 1))
        return bf_fail(error, BNFF_E_ARG, "flip probabilities %g and %g, they are 0 to 1", t->hflip, t->vflip);
    if (t->augment && !t->crop_padding) {
        if (!(t->scale[0] > 0 && t->scale[0] <= t->scale[1] && t->scale[1] <= 1))
            return bf_fail(error, BNFF_E_ARG, "crop area %g to %g of the image, it must grow from above 0 to at most 1", t->scale[0], t->scale[1]);
        if (!(t->ratio[0] > 0 && t->ratio[0] <= t->ratio[1] && t->ratio[1] < 1e3))
            return bf_fail(error, BNFF_E_ARG, "aspect ratio %g to %g of the crop, it must grow from above 0", t->ratio[0], t->ratio[1]);
    }
    for (int c = 0; c < 3; c++)
        if (!(t->std[c] > 0) || !isfinite(t->mean[c]) || !isfinite(t->std[c])) {
            bf_fail(error, BNFF_E_ARG, "mean %g and standard deviation %g of channel %d: the deviation must be above 0", (double)t->mean[c],
                    (double)t->std[c], c);
            return bf_hint(error, BNFF_E_ARG, "both are for pixels from 0 to 1, such as 0.485 and 0.229");
        }
    return t->interpolation == BNFF_BILINEAR || t->interpolation == BNFF_BICUBIC ? BNFF_OK
                                                                                 : bf_fail(error, BNFF_E_ARG, "unknown interpolation %d", (int)t->interpolation);
}

bnff_status bf_transform_prepare(const bnff_transform *options, int channels, bf_transform *transform, bnff_error *error)
{
    transform->channels = channels;
    memset(&transform->options, 0, sizeof transform->options);
    memcpy(&transform->options, options, options->size < sizeof *options ? options->size : sizeof *options);
    BF_TRY(check(&transform->options, error));
    for (int c = 0; c < 3; c++)
        for (int v = 0; v < 256; v++) transform->value[c][v] = ((float)v / 255.0f - transform->options.mean[c]) / transform->options.std[c];
    return BNFF_OK;
}

/* -- Placing pixels -------------------------------------------------------------------------------------------------- */

/* Result pixel (x, y) is pixel (x + left, y + top) of `from`, black outside it, before flipping. */
typedef struct placing {
    int left, top;
    bool hflip, vflip;
} placing;

/* The floats of n pixels; to and step: of the first pixel and from pixel to pixel. row NULL: black. */
static void place_pixels(const bf_transform *t, const uint8_t *row, int in_channels, int n, float *to, ptrdiff_t step)
{
    static const uint8_t black[3];
    const int out_channels = t->channels;
    const ptrdiff_t stride = row ? in_channels : 0;
    if (!row) row = black;
    if (out_channels == 1)
        for (int x = 0; x < n; x++, row += stride, to += step) *to = t->value[0][*row];
    else if (in_channels == 1)
        for (int x = 0; x < n; x++, row += stride, to += step) to[0] = t->value[0][*row], to[1] = t->value[1][*row], to[2] = t->value[2][*row];
    else
        for (int x = 0; x < n; x++, row += stride, to += step) to[0] = t->value[0][row[0]], to[1] = t->value[1][row[1]], to[2] = t->value[2][row[2]];
}

/* Columns begin .. end - 1 of a row of the result come from `row`, the others are black. */
static void place_row(const bf_transform *t, const uint8_t *row, int in_channels, int begin, int end, bool hflip, float *dst)
{
    const int width = t->options.width;
    const ptrdiff_t step = hflip ? -t->channels : t->channels;
    float *first = hflip ? dst + (ptrdiff_t)(width - 1) * t->channels : dst;
    if (begin > 0) place_pixels(t, NULL, in_channels, begin, first, step);
    place_pixels(t, row, in_channels, end - begin, first + begin * step, step);
    if (end < width) place_pixels(t, NULL, in_channels, width - end, first + end * step, step);
}

static void place(const bf_transform *t, const bf_view *from, const placing *p, float *dst)
{
    const int width = t->options.width, height = t->options.height, left = p->left > 0 ? p->left : 0;
    int begin = p->left < 0 ? -p->left : 0, end = from->width - p->left < width ? from->width - p->left : width;
    if (begin >= end) begin = end = 0; /* all of it is outside */
    for (int y = 0; y < height; y++) {
        const int from_y = y + p->top;
        const bool inside = from_y >= 0 && from_y < from->height && begin < end;
        const uint8_t *row = inside ? from->pixels + (size_t)from_y * from->stride + (size_t)left * (size_t)from->channels : NULL;
        float *to = dst + (size_t)(p->vflip ? height - 1 - y : y) * (size_t)width * (size_t)t->channels;
        if (inside) place_row(t, row, from->channels, begin, end, p->hflip, to);
        else place_pixels(t, NULL, 1, width, to, t->channels);
    }
}

/* Place what `p` shows of the box of `from`, resampled to full_width x full_height. */
static bnff_status resample_and_place(const bf_transform *t, const bf_view *from, const float box[4], int full_width, int full_height, placing p,
                                      float *dst, bnff_error *error)
{
    bf_rectangle window = {p.left > 0 ? p.left : 0, p.top > 0 ? p.top : 0, 0, 0};
    const int right = p.left + t->options.width, bottom = p.top + t->options.height;
    window.width = (right < full_width ? right : full_width) - window.x;
    window.height = (bottom < full_height ? bottom : full_height) - window.y;
    if (window.width < 1 || window.height < 1) window = (bf_rectangle){0, 0, 1, 1}; /* nothing of it is shown: all black */
    const size_t bytes = (size_t)window.width * (size_t)window.height * (size_t)from->channels;
    uint8_t *pixels = bf_alloc(bytes);
    if (!pixels) return bf_fail(error, BNFF_E_MEMORY, "no memory for an image of %d x %d pixels", window.width, window.height);
    const bnff_status status = bf_resample(from, box, full_width, full_height, t->options.interpolation, &window, pixels, error);
    if (status == BNFF_OK) {
        const bf_view part = {pixels, (size_t)window.width * (size_t)from->channels, window.width, window.height, from->channels};
        p.left -= window.x, p.top -= window.y;
        place(t, &part, &p, dst);
    }
    bf_free(pixels);
    return status;
}

static bnff_status resize_and_place(const bf_transform *t, const bf_view *from, int full_width, int full_height, placing p, float *dst,
                                    bnff_error *error)
{
    const float box[4] = {0, 0, (float)from->width, (float)from->height};
    if (from->width != full_width || from->height != full_height) return resample_and_place(t, from, box, full_width, full_height, p, dst, error);
    place(t, from, &p, dst);
    return BNFF_OK;
}

/* -- Evaluation ------------------------------------------------------------------------------------------------------ */

/* Size to resize to: the shorter side becomes `shorter`, the longer int(shorter * long / short). */
static void scaled_size(int width, int height, int shorter, int *new_width, int *new_height)
{
    const bool portrait = width <= height;
    const int64_t longer = (int64_t)shorter * (portrait ? height : width) / (portrait ? width : height);
    *new_width = portrait ? shorter : (int)longer;
    *new_height = portrait ? (int)longer : shorter;
}

/* The smallest size of the image's shape that covers width x height. */
static void covering_size(const bf_view *image, int width, int height, int *new_width, int *new_height)
{
    const int64_t wide = (int64_t)image->width * height, high = (int64_t)image->height * width;
    *new_width = wide > high ? (int)(wide / image->height) : width;
    *new_height = wide > high ? height : (int)(high / image->width);
}

/* First pixel of the centre crop: int(round((size - crop) / 2)), halves to even; where the image is smaller it is centred in black,
 * the odd pixel of padding after it. */
static int centre(int size, int crop) { return size >= crop ? (int)rint((size - crop) / 2.0) : -((crop - size) / 2); }

static bnff_status evaluate(const bf_transform *t, const bf_view *image, float *dst, bnff_error *error)
{
    int width, height;
    if (t->options.resize) scaled_size(image->width, image->height, t->options.resize, &width, &height);
    else covering_size(image, t->options.width, t->options.height, &width, &height);
    if ((int64_t)width > INT32_MAX / 16 || (int64_t)height > INT32_MAX / 16)
        return bf_fail(error, BNFF_E_FORMAT, "%d x %d pixels: too long and thin to be resized", image->width, image->height);
    const placing p = {.left = centre(width, t->options.width), .top = centre(height, t->options.height)};
    return resize_and_place(t, image, width, height, p, dst, error);
}

/* -- Training -------------------------------------------------------------------------------------------------------- */

static int draw_below(uint64_t seed, uint64_t counter, int n) { return (int)bf_random_below(seed, counter, (uint64_t)n); }

/* RandomResizedCrop.get_params: ten tries at a share of the area and an aspect ratio, uniform in its logarithm; then the centre. */
static bf_rectangle random_crop(const bnff_transform *t, int width, int height, uint64_t seed)
{
    const double area = (double)width * height, low = log(t->ratio[0]), high = log(t->ratio[1]);
    for (uint64_t i = 0; i < TRIES; i++) {
        const uint64_t draw = DRAWS_OF_A_TRY * i;
        const double target = area * (t->scale[0] + (t->scale[1] - t->scale[0]) * bf_random_uniform(seed, draw));
        const double aspect = exp(low + (high - low) * bf_random_uniform(seed, draw + 1));
        const double w = rint(sqrt(target * aspect)), h = rint(sqrt(target / aspect));
        if (!(0 < w && w <= width && 0 < h && h <= height)) continue;
        const int top = draw_below(seed, draw + 2, height - (int)h + 1), left = draw_below(seed, draw + 3, width - (int)w + 1);
        return (bf_rectangle){left, top, (int)w, (int)h};
    }
    const double aspect = (double)width / height;
    bf_rectangle crop = {0, 0, width, height};
    if (aspect < t->ratio[0]) crop.height = (int)rint(width / t->ratio[0]);
    else if (aspect > t->ratio[1]) crop.width = (int)rint(height * t->ratio[1]);
    if (crop.width < 1) crop.width = 1; /* a strip one pixel high or wide */
    if (crop.height < 1) crop.height = 1;
    crop.x = (width - crop.width) / 2, crop.y = (height - crop.height) / 2;
    return crop;
}

static bnff_status crop_and_resize(const bf_transform *t, const bf_view *image, uint64_t seed, placing p, float *dst, bnff_error *error)
{
    const bf_rectangle crop = random_crop(&t->options, image->width, image->height, seed);
    const bf_view part = bf_view_crop(image, crop.x, crop.y, crop.width, crop.height);
    return resize_and_place(t, &part, t->options.width, t->options.height, p, dst, error);
}

int bf_transform_divisor(const bf_transform *t, uint64_t seed, int width, int height)
{
    if (!t->options.augment || t->options.crop_padding) return 1;
    const bf_rectangle crop = random_crop(&t->options, width, height, seed);
    int divisor = 1;
    while (divisor < 8 && crop.width / (2 * divisor) >= t->options.width && crop.height / (2 * divisor) >= t->options.height) divisor *= 2;
    return divisor;
}

/* The crop's place in the smaller picture; pixels that have no part in it are left out, so that the filter does not reach them. */
static bnff_status crop_shrunk(const bf_transform *t, const bf_view *image, int divisor, const bf_rectangle *crop, placing p, float *dst,
                               bnff_error *error)
{
    const int x0 = crop->x / divisor, y0 = crop->y / divisor, right = crop->x + crop->width, bottom = crop->y + crop->height;
    const bf_view part = bf_view_crop(image, x0, y0, (right + divisor - 1) / divisor - x0, (bottom + divisor - 1) / divisor - y0);
    const float scale = 1.0f / (float)divisor; /* a power of 2: the box is exact */
    const float box[4] = {(float)crop->x * scale - (float)x0, (float)crop->y * scale - (float)y0, (float)right * scale - (float)x0,
                          (float)bottom * scale - (float)y0};
    return resample_and_place(t, &part, box, t->options.width, t->options.height, p, dst, error);
}

/* RandomCrop(size, padding): black added on all sides, then a crop anywhere. An image of another size first comes to cover the result. */
static bnff_status pad_and_crop(const bf_transform *t, const bf_view *image, uint64_t seed, placing p, float *dst, bnff_error *error)
{
    int width, height;
    covering_size(image, t->options.width, t->options.height, &width, &height);
    const int pad = t->options.crop_padding;
    p.top = draw_below(seed, DRAW_TOP, height + 2 * pad - t->options.height + 1) - pad;
    p.left = draw_below(seed, DRAW_LEFT, width + 2 * pad - t->options.width + 1) - pad;
    return resize_and_place(t, image, width, height, p, dst, error);
}

static placing random_flips(const bnff_transform *t, uint64_t seed)
{
    return (placing){.hflip = bf_random_uniform(seed, DRAW_HFLIP) < t->hflip, .vflip = bf_random_uniform(seed, DRAW_VFLIP) < t->vflip};
}

bnff_status bf_transform_run_shrunk(const bf_transform *t, const bf_view *image, int divisor, int width, int height, uint64_t seed, float *dst,
                                    bnff_error *error)
{
    if (divisor == 1) return bf_transform_run(t, image, seed, dst, error);
    const bf_rectangle crop = random_crop(&t->options, width, height, seed);
    return crop_shrunk(t, image, divisor, &crop, random_flips(&t->options, seed), dst, error);
}

bnff_status bf_transform_run(const bf_transform *t, const bf_view *image, uint64_t seed, float *dst, bnff_error *error)
{
    if (!t->options.augment) return evaluate(t, image, dst, error);
    const placing p = random_flips(&t->options, seed);
    return t->options.crop_padding ? pad_and_crop(t, image, seed, p, dst, error) : crop_and_resize(t, image, seed, p, dst, error);
}

bnff_status bnff_transform_apply(const bnff_transform *options, const bnff_image *image, uint64_t seed, float *dst, bnff_error *error)
{
    bf_transform transform;
    BF_TRY(bf_transform_prepare(options, image->channels, &transform, error));
    if (image->width < 1 || image->height < 1 || (image->channels != 1 && image->channels != 3) || !image->pixels)
        return bf_fail(error, BNFF_E_ARG, "image of %d x %d pixels and %d channels", image->width, image->height, image->channels);
    const bf_view view = bf_view_of(image);
    return bf_transform_run(&transform, &view, seed, dst, error);
}
