/* Separable resampling, equal bit for bit to Pillow's Image.resize on 8-bit images.
 *
 * Output i of an axis is centred at  c = box0 + (i + 1/2) s,  s = (box1 - box0) / outputs, and is the weighted mean of the inputs
 * within  support * max(s, 1)  of c, with weights  filter((x + 1/2 - c) / max(s, 1)):  a wider filter when shrinking is the
 * antialiasing. Weights are rounded to 22 fractional bits, sums are exact in 32 bits, and each pass is rounded to 8 bits.
 * The horizontal pass comes first, unless the height shrinks by more than twice what the width does (a rule that Pillow has since
 * version 13; before, the order was always this one). A pass that would change nothing is left out. */
#include "data/resample.h"

#include <math.h>
#include <string.h>

#include "base/error.h"
#include "base/memory.h"

/* 32 bits less 8 of the pixel less 2 of headroom: weights may sum to more than 1 in part (bicubic). */
#define WEIGHT_BITS 22

/* Compiled for AVX2 too where the compiler can choose at load time; integer sums are the same on any. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && defined(__GLIBC__) && !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VECTORISED __attribute__((target_clones("avx2", "default"), optimize("O3")))
#else
#define VECTORISED
#endif

/* Weights of one axis: output i takes inputs first[i] .. first[i] + count[i] - 1 with weights + i * taps. */
typedef struct axis {
    int taps;
    int *first, *count;
    int32_t *weights;
} axis;

static double triangle(double x)
{
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

/* Keys' cubic with a = -1/2. The order of operations is Pillow's: it decides the last bit of some weights. */
static double cubic(double x)
{
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
    if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
    return 0.0;
}

static void free_axis(axis *a)
{
    bf_free(a->first);
    bf_free(a->count);
    bf_free(a->weights);
    *a = (axis){0};
}

static bool alloc_axis(axis *a, int outputs, int taps)
{
    *a = (axis){.taps = taps};
    a->first = bf_calloc((size_t)outputs, sizeof *a->first);
    a->count = bf_calloc((size_t)outputs, sizeof *a->count);
    size_t weights;
    a->weights = bf_size_mul((size_t)outputs, (size_t)taps, &weights) ? bf_calloc(weights, sizeof *a->weights) : NULL;
    return a->first && a->count && a->weights;
}

/* Weights of one output whose inputs are xmin .. xmin + n - 1, normalised in double, then rounded half away from zero. */
static void fill_weights(int32_t *weights, int xmin, int n, double center, double shrink, double (*filter)(double), double *scratch)
{
    const double inverse = 1.0 / shrink;
    double sum = 0.0;
    for (int x = 0; x < n; x++) sum += scratch[x] = filter((x + xmin - center + 0.5) * inverse);
    for (int x = 0; x < n; x++) {
        const double w = (sum != 0.0 ? scratch[x] / sum : scratch[x]) * (1 << WEIGHT_BITS);
        weights[x] = (int32_t)(w < 0 ? w - 0.5 : w + 0.5);
    }
}

/* Outputs begin .. begin + outputs - 1 of `all`, from `inputs` samples of which box0 .. box1 is covered. */
static bool make_axis(axis *a, int inputs, float box0, float box1, int all, int begin, int outputs, bnff_interpolation interpolation)
{
    double (*filter)(double) = interpolation == BNFF_BICUBIC ? cubic : triangle;
    const double scale = (double)(box1 - box0) / all, shrink = scale < 1.0 ? 1.0 : scale;
    const double support = (interpolation == BNFF_BICUBIC ? 2.0 : 1.0) * shrink;
    const int taps = (int)ceil(support) * 2 + 1;
    double *scratch = bf_calloc((size_t)taps, sizeof *scratch);
    const bool made = alloc_axis(a, outputs, taps) && scratch;
    for (int i = 0; made && i < outputs; i++) {
        const double center = (double)box0 + (begin + i + 0.5) * scale;
        int xmin = (int)(center - support + 0.5), xmax = (int)(center + support + 0.5);
        if (xmin < 0) xmin = 0;
        if (xmax > inputs) xmax = inputs;
        a->first[i] = xmin;
        a->count[i] = xmax - xmin;
        fill_weights(a->weights + (size_t)i * (size_t)taps, xmin, xmax - xmin, center, shrink, filter, scratch);
    }
    bf_free(scratch);
    return made;
}

static inline uint8_t clip(int32_t sum)
{
    const int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
}

typedef uint8_t bytes16 __attribute__((vector_size(16)));
typedef int32_t ints4 __attribute__((vector_size(16)));

/* A pixel of three bytes, and what comes after it, as four lanes. */
static inline ints4 load_pixel(const uint8_t *p, size_t bytes)
{
    const bytes16 zero = {0};
    bytes16 b = zero;
    memcpy(&b, p, bytes);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    return (ints4)__builtin_shufflevector(b, zero, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3, 16, 16, 16);
#else
    return (ints4)__builtin_shufflevector(b, zero, 16, 16, 16, 0, 16, 16, 16, 1, 16, 16, 16, 2, 16, 16, 16, 3);
#endif
}

static inline ints4 clip4(ints4 sum)
{
    const ints4 v = sum >> WEIGHT_BITS, positive = v & (v > 0), large = positive > 255;
    return (positive & ~large) | (large & 255);
}

/* in: a row of `inputs` pixels of three channels. After the last of them there is no byte to load a fourth lane from. */
VECTORISED static void shrink_row3(const uint8_t *restrict in, int inputs, const axis *a, int outputs, uint8_t *restrict out)
{
    const int32_t half = 1 << (WEIGHT_BITS - 1);
    for (int i = 0; i < outputs; i++, out += 3) {
        const uint8_t *p = in + 3 * (size_t)a->first[i];
        const int32_t *w = a->weights + (size_t)i * (size_t)a->taps;
        const int count = a->count[i], wide = a->first[i] + count < inputs ? count : count - 1;
        ints4 sum = {half, half, half, half};
        for (int k = 0; k < wide; k++, p += 3) sum += load_pixel(p, 4) * w[k];
        if (wide < count) sum += load_pixel(p, 3) * w[wide];
        const ints4 pixel = clip4(sum);
        out[0] = (uint8_t)pixel[0], out[1] = (uint8_t)pixel[1], out[2] = (uint8_t)pixel[2];
    }
}

VECTORISED static void shrink_row1(const uint8_t *restrict in, const axis *a, int outputs, uint8_t *restrict out)
{
    for (int i = 0; i < outputs; i++) {
        const uint8_t *p = in + a->first[i];
        const int32_t *w = a->weights + (size_t)i * (size_t)a->taps;
        int32_t sum = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < a->count[i]; k++) sum += p[k] * w[k];
        out[i] = clip(sum);
    }
}

/* One output row from `count` input rows. */
VECTORISED static void shrink_column(const uint8_t *restrict in, size_t stride, const int32_t *w, int count, size_t bytes, uint8_t *restrict out)
{
    enum { BLOCK = 64 };
    for (size_t x0 = 0; x0 < bytes; x0 += BLOCK) {
        int32_t sum[BLOCK];
        const size_t n = bytes - x0 < BLOCK ? bytes - x0 : BLOCK;
        for (size_t x = 0; x < BLOCK; x++) sum[x] = 1 << (WEIGHT_BITS - 1);
        for (int k = 0; k < count; k++) {
            const uint8_t *p = in + (size_t)k * stride + x0;
            const int32_t wk = w[k];
            for (size_t x = 0; x < n; x++) sum[x] += p[x] * wk;
        }
        for (size_t x = 0; x < n; x++) out[x0 + x] = clip(sum[x]);
    }
}

static void horizontal_pass(const bf_view *src, const axis *a, int outputs, uint8_t *out)
{
    for (int y = 0; y < src->height; y++) {
        const uint8_t *in = src->pixels + (size_t)y * src->stride;
        uint8_t *row = out + (size_t)y * (size_t)outputs * (size_t)src->channels;
        if (src->channels == 3) shrink_row3(in, src->width, a, outputs, row);
        else shrink_row1(in, a, outputs, row);
    }
}

static void vertical_pass(const bf_view *src, const axis *a, int outputs, uint8_t *out)
{
    const size_t bytes = (size_t)src->width * (size_t)src->channels;
    for (int y = 0; y < outputs; y++) {
        const uint8_t *top = src->pixels + (size_t)a->first[y] * src->stride;
        shrink_column(top, src->stride, a->weights + (size_t)y * (size_t)a->taps, a->count[y], bytes, out + (size_t)y * bytes);
    }
}

static void one_pass_across(const bf_view *src, const axis *a, const bf_rectangle *window, uint8_t *dst)
{
    const bf_view rows = bf_view_crop(src, 0, window->y, src->width, window->height);
    horizontal_pass(&rows, a, window->width, dst);
}

static void one_pass_down(const bf_view *src, const axis *a, const bf_rectangle *window, uint8_t *dst)
{
    const bf_view columns = bf_view_crop(src, window->x, 0, window->width, src->height);
    vertical_pass(&columns, a, window->height, dst);
}

static void copy_window(const bf_view *src, const bf_rectangle *window, uint8_t *dst)
{
    const bf_view part = bf_view_crop(src, window->x, window->y, window->width, window->height);
    const size_t bytes = (size_t)window->width * (size_t)src->channels;
    for (int y = 0; y < window->height; y++) memcpy(dst + (size_t)y * bytes, part.pixels + (size_t)y * part.stride, bytes);
}

/* Count inputs from the first one that is used. @return how many are used */
static int shift_axis(axis *a, int outputs, int *first)
{
    int end = 0;
    *first = a->first[0];
    for (int i = 0; i < outputs; i++) {
        a->first[i] -= *first;
        if (a->first[i] + a->count[i] > end) end = a->first[i] + a->count[i];
    }
    return end;
}

static bnff_status two_passes(const bf_view *src, axis *across, axis *down, bool down_first, const bf_rectangle *window, uint8_t *dst,
                              bnff_error *error)
{
    int x, y;
    const int columns = shift_axis(across, window->width, &x), rows = shift_axis(down, window->height, &y);
    const bf_view used = bf_view_crop(src, x, y, columns, rows);
    bf_view between = used;
    if (down_first) between.height = window->height;
    else between.width = window->width;
    size_t bytes;
    between.stride = (size_t)between.width * (size_t)src->channels;
    uint8_t *pixels = bf_size_mul(between.stride, (size_t)between.height, &bytes) ? bf_alloc(bytes) : NULL;
    if (!pixels) return bf_fail(error, BNFF_E_MEMORY, "no memory to resize an image of %d x %d pixels", src->width, src->height);
    between.pixels = pixels;
    if (down_first) {
        vertical_pass(&used, down, window->height, pixels);
        horizontal_pass(&between, across, window->width, dst);
    } else {
        horizontal_pass(&used, across, window->width, pixels);
        vertical_pass(&between, down, window->height, dst);
    }
    bf_free(pixels);
    return BNFF_OK;
}

bnff_status bf_resample(const bf_view *src, const float box[4], int out_width, int out_height, bnff_interpolation interpolation,
                        const bf_rectangle *window, uint8_t *dst, bnff_error *error)
{
    const bool across_needed = out_width != src->width || box[0] != 0 || box[2] != (float)out_width;
    const bool down_needed = out_height != src->height || box[1] != 0 || box[3] != (float)out_height;
    const bool down_first = src->height > out_height && (int64_t)src->height - out_height > 2 * ((int64_t)src->width - out_width);
    axis across = {0}, down = {0};
    bool made = true;
    if (across_needed) made = make_axis(&across, src->width, box[0], box[2], out_width, window->x, window->width, interpolation);
    if (made && down_needed) made = make_axis(&down, src->height, box[1], box[3], out_height, window->y, window->height, interpolation);
    bnff_status status = BNFF_OK;
    if (!made) status = bf_fail(error, BNFF_E_MEMORY, "no memory to resize an image of %d x %d pixels", src->width, src->height);
    else if (across_needed && down_needed) status = two_passes(src, &across, &down, down_first, window, dst, error);
    else if (across_needed) one_pass_across(src, &across, window, dst);
    else if (down_needed) one_pass_down(src, &down, window, dst);
    else copy_window(src, window, dst);
    free_axis(&across);
    free_axis(&down);
    return status;
}

bf_view bf_view_of(const bnff_image *image)
{
    return (bf_view){image->pixels, (size_t)image->width * (size_t)image->channels, image->width, image->height, image->channels};
}

bf_view bf_view_crop(const bf_view *view, int x, int y, int width, int height)
{
    const uint8_t *corner = view->pixels + (size_t)y * view->stride + (size_t)x * (size_t)view->channels;
    return (bf_view){corner, view->stride, width, height, view->channels};
}

bnff_status bnff_image_resize(const bnff_image *src, double x, double y, double width, double height, int out_width, int out_height,
                              bnff_interpolation interpolation, bnff_image *dst, bnff_error *error)
{
    *dst = (bnff_image){0};
    const float box[4] = {(float)x, (float)y, (float)(x + width), (float)(y + height)};
    if (!(box[0] >= 0 && box[1] >= 0 && box[0] < box[2] && box[1] < box[3] && box[2] <= (float)src->width && box[3] <= (float)src->height))
        return bf_fail(error, BNFF_E_ARG, "box (%g, %g) to (%g, %g) is empty or leaves the image of %d x %d pixels", x, y, x + width, y + height,
                       src->width, src->height);
    if (interpolation != BNFF_BILINEAR && interpolation != BNFF_BICUBIC) return bf_fail(error, BNFF_E_ARG, "unknown interpolation %d", (int)interpolation);
    bnff_image out = {0};
    if (out_width < 1 || out_height < 1 || (int64_t)out_width * out_height > (int64_t)1 << 28)
        return bf_fail(error, BNFF_E_ARG, "resize to %d x %d pixels, sizes are 1 x 1 to 2^28 pixels in all", out_width, out_height);
    out.pixels = bf_alloc((size_t)out_width * (size_t)out_height * (size_t)src->channels);
    if (!out.pixels) return bf_fail(error, BNFF_E_MEMORY, "no memory for %d x %d pixels", out_width, out_height);
    out.width = out_width, out.height = out_height, out.channels = src->channels;
    const bf_view view = bf_view_of(src);
    const bf_rectangle all = {0, 0, out_width, out_height};
    const bnff_status status = bf_resample(&view, box, out_width, out_height, interpolation, &all, out.pixels, error);
    if (status == BNFF_OK) *dst = out;
    else bnff_image_free(&out);
    return status;
}
