/* Pooling as PyTorch has it. */
#include <math.h>

#include "ref.h"

int ref_pool_size(int size, int kernel, int stride, int padding, int dilation, bool ceil_mode)
{
    const int span = size + 2 * padding - dilation * (kernel - 1) - 1;
    const int out = (ceil_mode ? span + stride - 1 : span) / stride + 1;
    return ceil_mode && (out - 1) * stride >= size + padding ? out - 1 : out; /* no window starts in the padding behind the image */
}

/* The element under tap (kh, kw) of output (oh, ow); false in the padding. */
static bool tap(const ref_tensor *x, const bnff_pool_options *o, int n, int oh, int ow, int kh, int kw, int c, size_t *at)
{
    const int h = oh * o->stride[0] - o->padding[0] + kh * o->dilation[0], w = ow * o->stride[1] - o->padding[1] + kw * o->dilation[1];
    if (h < 0 || h >= x->h || w < 0 || w >= x->w) return false;
    *at = ref_at(x, n, h, w, c);
    return true;
}

/* The first maximum of a window in row order; a NaN wins (of several, the last, as in PyTorch). */
static size_t argmax(const ref_tensor *x, const bnff_pool_options *o, int n, int oh, int ow, int c)
{
    size_t best = SIZE_MAX, at;
    for (int kh = 0; kh < o->kernel[0]; kh++)
        for (int kw = 0; kw < o->kernel[1]; kw++)
            if (tap(x, o, n, oh, ow, kh, kw, c, &at) && (best == SIZE_MAX || x->v[at] > x->v[best] || isnan(x->v[at]))) best = at;
    return best;
}

void ref_maxpool(const ref_tensor *x, const bnff_pool_options *o, ref_tensor *y)
{
    for (int n = 0; n < y->n; n++)
        for (int oh = 0; oh < y->h; oh++)
            for (int ow = 0; ow < y->w; ow++)
                for (int c = 0; c < y->c; c++) {
                    const size_t yi = ref_at(y, n, oh, ow, c);
                    size_t at;
                    const size_t best = argmax(x, o, n, oh, ow, c);
                    y->v[yi] = best == SIZE_MAX ? -INFINITY : x->v[best]; /* dilated taps can all miss a small image */
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++)
                            if (tap(x, o, n, oh, ow, kh, kw, c, &at)) y->e[yi] = fmax(y->e[yi], x->e[at]);
                }
}

void ref_maxpool_backward(const ref_tensor *x, const bnff_pool_options *o, const ref_tensor *dy, ref_tensor *dx)
{
    for (int n = 0; n < dy->n; n++)
        for (int oh = 0; oh < dy->h; oh++)
            for (int ow = 0; ow < dy->w; ow++)
                for (int c = 0; c < dy->c; c++) {
                    const size_t gi = ref_at(dy, n, oh, ow, c), best = argmax(x, o, n, oh, ow, c);
                    size_t at;
                    if (best == SIZE_MAX) continue;
                    bool sure = true; /* no other element could be the maximum of a float32 program */
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++) {
                            if (!tap(x, o, n, oh, ow, kh, kw, c, &at) || at == best || x->e[at] + x->e[best] == 0) continue;
                            if (!(x->v[at] >= x->v[best] - REF_SIGMAS * (x->e[at] + x->e[best]))) continue;
                            ref_accumulate(dx, at, 0, fabs(dy->v[gi]) + dy->e[gi]);
                            sure = false;
                        }
                    ref_accumulate(dx, best, dy->v[gi], dy->e[gi] + (sure ? 0 : fabs(dy->v[gi])));
                }
}

/* Error of a float32 sum of n terms, divided by something (ref_conv.c). */
static double sum_error(double sum, double squares, double passed, int n)
{
    return sqrt(passed + REF_U * REF_U * (n * (squares + sum * sum / 3) + 4 * sum * sum));
}

/* What an average is divided by: the window clipped to the padded image, or the pixels in it. */
static double divisor(const ref_tensor *x, const bnff_pool_options *o, int oh, int ow, int pixels)
{
    if (o->exclude_pad) return pixels;
    const int h = oh * o->stride[0] - o->padding[0], w = ow * o->stride[1] - o->padding[1];
    const int bottom = h + o->kernel[0] < x->h + o->padding[0] ? h + o->kernel[0] : x->h + o->padding[0];
    const int right = w + o->kernel[1] < x->w + o->padding[1] ? w + o->kernel[1] : x->w + o->padding[1];
    return (double)(bottom - h) * (right - w);
}

/* Every window of an average: into y forward, or from dy to dx backward. */
static void average(const ref_tensor *x, const bnff_pool_options *o, ref_tensor *y, const ref_tensor *dy, ref_tensor *dx)
{
    const ref_tensor *out = y ? y : dy;
    for (int n = 0; n < out->n; n++)
        for (int oh = 0; oh < out->h; oh++)
            for (int ow = 0; ow < out->w; ow++)
                for (int c = 0; c < out->c; c++) {
                    const size_t yi = ref_at(out, n, oh, ow, c);
                    double sum = 0, squares = 0, passed = 0;
                    int pixels = 0;
                    size_t at;
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++)
                            if (tap(x, o, n, oh, ow, kh, kw, c, &at)) sum += x->v[at], squares += x->v[at] * x->v[at], passed += x->e[at] * x->e[at], pixels++;
                    const double by = divisor(x, o, oh, ow, pixels);
                    if (y) {
                        y->v[yi] = sum / by;
                        y->e[yi] = sum_error(sum, squares, passed, pixels) / by;
                        continue;
                    }
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++)
                            if (tap(x, o, n, oh, ow, kh, kw, c, &at)) ref_accumulate(dx, at, dy->v[yi] / by, hypot(dy->e[yi], 2 * REF_U * dy->v[yi]) / by);
                }
}

void ref_avgpool(const ref_tensor *x, const bnff_pool_options *o, ref_tensor *y) { average(x, o, y, NULL, NULL); }
void ref_avgpool_backward(const ref_tensor *x, const bnff_pool_options *o, const ref_tensor *dy, ref_tensor *dx) { average(x, o, NULL, dy, dx); }

/* Cell i of `out` covers [floor(i in / out), ceil((i + 1) in / out)). */
static int cell_begin(int i, int in, int out) { return i * in / out; }
static int cell_end(int i, int in, int out) { return ((i + 1) * in + out - 1) / out; }

void ref_adaptive(const ref_tensor *x, ref_tensor *y)
{
    for (int n = 0; n < y->n; n++)
        for (int oh = 0; oh < y->h; oh++)
            for (int ow = 0; ow < y->w; ow++)
                for (int c = 0; c < y->c; c++) {
                    double sum = 0, squares = 0, passed = 0;
                    int pixels = 0;
                    for (int h = cell_begin(oh, x->h, y->h); h < cell_end(oh, x->h, y->h); h++)
                        for (int w = cell_begin(ow, x->w, y->w); w < cell_end(ow, x->w, y->w); w++, pixels++) {
                            const size_t at = ref_at(x, n, h, w, c);
                            sum += x->v[at], squares += x->v[at] * x->v[at], passed += x->e[at] * x->e[at];
                        }
                    const size_t yi = ref_at(y, n, oh, ow, c);
                    y->v[yi] = sum / pixels;
                    y->e[yi] = sum_error(sum, squares, passed, pixels) / pixels;
                }
}

/* A cell as a max pooling of one window on a crop: the same first maximum, the same doubts. */
typedef struct cell {
    ref_tensor crop, dcrop, out;
    int top, left;
} cell;

static cell cut_cell(const ref_tensor *x, int n, int oh, int ow, int out_h, int out_w)
{
    const int top = cell_begin(oh, x->h, out_h), bottom = cell_end(oh, x->h, out_h), left = cell_begin(ow, x->w, out_w), right = cell_end(ow, x->w, out_w);
    cell k = {ref_new(1, bottom - top, right - left, x->c), ref_new(1, bottom - top, right - left, x->c), ref_new(1, 1, 1, x->c), top, left};
    for (int h = top; h < bottom; h++)
        for (int w = left; w < right; w++)
            for (int c = 0; c < x->c; c++) {
                const size_t to = ref_at(&k.crop, 0, h - top, w - left, c), from = ref_at(x, n, h, w, c);
                k.crop.v[to] = x->v[from], k.crop.e[to] = x->e[from];
            }
    return k;
}

static void free_cell(cell *k)
{
    ref_free(&k->crop);
    ref_free(&k->dcrop);
    ref_free(&k->out);
}

static bnff_pool_options whole(const cell *k) { return (bnff_pool_options){.kernel = {k->crop.h, k->crop.w}, .stride = {1, 1}, .dilation = {1, 1}}; }

void ref_adaptive_max(const ref_tensor *x, ref_tensor *y)
{
    for (int n = 0; n < y->n; n++)
        for (int oh = 0; oh < y->h; oh++)
            for (int ow = 0; ow < y->w; ow++) {
                cell k = cut_cell(x, n, oh, ow, y->h, y->w);
                const bnff_pool_options o = whole(&k);
                ref_maxpool(&k.crop, &o, &k.out);
                for (int c = 0; c < y->c; c++) y->v[ref_at(y, n, oh, ow, c)] = k.out.v[c], y->e[ref_at(y, n, oh, ow, c)] = k.out.e[c];
                free_cell(&k);
            }
}

void ref_adaptive_max_backward(const ref_tensor *x, const ref_tensor *dy, ref_tensor *dx)
{
    for (int n = 0; n < dy->n; n++)
        for (int oh = 0; oh < dy->h; oh++)
            for (int ow = 0; ow < dy->w; ow++) {
                cell k = cut_cell(x, n, oh, ow, dy->h, dy->w);
                const bnff_pool_options o = whole(&k);
                for (int c = 0; c < dy->c; c++) k.out.v[c] = dy->v[ref_at(dy, n, oh, ow, c)], k.out.e[c] = dy->e[ref_at(dy, n, oh, ow, c)];
                ref_maxpool_backward(&k.crop, &o, &k.out, &k.dcrop);
                for (size_t i = 0; i < ref_count(&k.crop); i++) {
                    const int c = (int)(i % (size_t)x->c), w = (int)(i / (size_t)x->c) % k.crop.w, h = (int)(i / (size_t)x->c) / k.crop.w;
                    if (k.dcrop.v[i] != 0 || k.dcrop.e[i] != 0) ref_accumulate(dx, ref_at(dx, n, k.top + h, k.left + w, c), k.dcrop.v[i], k.dcrop.e[i]);
                }
                free_cell(&k);
            }
}

void ref_adaptive_backward(const ref_tensor *x, const ref_tensor *dy, ref_tensor *dx)
{
    for (int n = 0; n < dy->n; n++)
        for (int oh = 0; oh < dy->h; oh++)
            for (int ow = 0; ow < dy->w; ow++)
                for (int c = 0; c < dy->c; c++) {
                    const int top = cell_begin(oh, x->h, dy->h), bottom = cell_end(oh, x->h, dy->h);
                    const int left = cell_begin(ow, x->w, dy->w), right = cell_end(ow, x->w, dy->w);
                    const double pixels = (double)(bottom - top) * (right - left);
                    const size_t gi = ref_at(dy, n, oh, ow, c);
                    for (int h = top; h < bottom; h++)
                        for (int w = left; w < right; w++)
                            ref_accumulate(dx, ref_at(dx, n, h, w, c), dy->v[gi] / pixels, hypot(dy->e[gi], 2 * REF_U * dy->v[gi]) / pixels);
                }
}
