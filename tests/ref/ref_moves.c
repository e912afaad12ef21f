/* Transposed convolution, resizing, channel shuffle, adaptive max pooling: as PyTorch defines them. */
#include <math.h>

#include "ref.h"

static double square(double x) { return x * x; }

/* -- transposed convolution -- */

typedef struct product {
    size_t x, w, y;
} product;

/* The tap (kh, kw) of input pixel (n, h, w) from channel c to output channel oc of its group; false if it falls outside. */
static bool product_at(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_transpose_options *o, const ref_tensor *y, int n, int h, int w, int c, int oc, int kh,
                       int kw, product *p)
{
    const int oh = h * o->stride[0] - o->padding[0] + kh * o->dilation[0], ow = w * o->stride[1] - o->padding[1] + kw * o->dilation[1];
    if (oh < 0 || oh >= y->h || ow < 0 || ow >= y->w) return false;
    const int group = c / (x->c / o->groups), each = y->c / o->groups;
    *p = (product){ref_at(x, n, h, w, c), ref_at(weight, c, oc, kh, kw), ref_at(y, n, oh, ow, group * each + oc)};
    return true;
}

typedef void visit(const product *p, void *user);

static void for_products(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_transpose_options *o, const ref_tensor *y, visit *fn, void *user)
{
    product p;
    for (int n = 0; n < x->n; n++)
        for (int h = 0; h < x->h; h++)
            for (int w = 0; w < x->w; w++)
                for (int c = 0; c < x->c; c++)
                    for (int oc = 0; oc < y->c / o->groups; oc++)
                        for (int kh = 0; kh < o->kernel[0]; kh++)
                            for (int kw = 0; kw < o->kernel[1]; kw++)
                                if (product_at(x, weight, o, y, n, h, w, c, oc, kh, kw, &p)) fn(&p, user);
}

/* Sums of products with their error: squares and passed errors beside each. */
typedef struct sums {
    const ref_tensor *a, *b; /* factors */
    int which;               /* the sum goes to p->x, p->w or p->y */
    ref_tensor to;           /* v: the sum, e: variance passed on */
    double *squares, *count;
} sums;

static size_t place(const product *p, int which) { return which == 0 ? p->x : which == 1 ? p->w : p->y; }

static void add_product(const product *p, void *user)
{
    sums *s = user;
    const size_t a = place(p, s->which == 0 ? 1 : 0), b = place(p, s->which == 2 ? 1 : 2), to = place(p, s->which);
    const double v = s->a->v[a] * s->b->v[b];
    s->to.v[to] += v;
    s->to.e[to] += square(s->a->v[a] * s->b->e[b]) + square(s->b->v[b] * s->a->e[a]);
    s->squares[to] += square(v);
    s->count[to]++;
}

/* Add to `result` the sums of a * b over all products, at the place that `which` says. */
static void add_sums(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_transpose_options *o, const ref_tensor *y, const ref_tensor *a, const ref_tensor *b, int which,
                     ref_tensor *result)
{
    ref_tensor extra = ref_new(result->n, result->h, result->w, result->c);
    sums s = {a, b, which, ref_new(result->n, result->h, result->w, result->c), extra.v, extra.e};
    for_products(x, weight, o, y, add_product, &s);
    for (size_t i = 0; i < ref_count(result); i++)
        ref_accumulate(result, i, s.to.v[i], sqrt(s.to.e[i] + square(REF_U) * (s.count[i] * (s.squares[i] + square(s.to.v[i]) / 3) + square(s.to.v[i]))));
    ref_free(&s.to);
    ref_free(&extra);
}

void ref_conv_transpose(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, const bnff_conv_transpose_options *o, ref_tensor *y)
{
    add_sums(x, weight, o, y, x, weight, 2, y);
    for (size_t i = 0; bias && i < ref_count(y); i++) {
        y->v[i] += bias->v[i % (size_t)y->c];
        y->e[i] = hypot(y->e[i], REF_U * y->v[i]);
    }
}

void ref_conv_transpose_backward(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_transpose_options *o, const ref_tensor *dy,
                                 ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias)
{
    add_sums(x, weight, o, dy, weight, dy, 0, dx);
    if (dweight) add_sums(x, weight, o, dy, x, dy, 1, dweight);
    for (int c = 0; dbias && c < dy->c; c++) {
        double sum = 0, squares = 0;
        const size_t channels = (size_t)dy->c, pixels = ref_count(dy) / channels;
        for (size_t p = 0; p < pixels; p++) {
            const size_t i = p * channels + (size_t)c;
            sum += dy->v[i], squares += square(dy->v[i]);
        }
        ref_accumulate(dbias, (size_t)c, sum, sqrt(ref_passed(dy, c, NULL, 0) + square(REF_U) * ((double)pixels * (squares + sum * sum / 3) + sum * sum)));
    }
}

/* -- resizing -- */

typedef struct blend {
    int first, second;
    double weight; /* of the second */
} blend;

static blend blend_of(const bnff_resize_options *o, int axis, int at, int in, int out)
{
    const double step = o->size[0] ? (double)in / out : 1 / o->scale[axis];
    if (o->mode == BNFF_RESIZE_NEAREST) {
        const int pixel = (int)floorf((float)at * (o->size[0] ? (float)in / (float)out : (float)step));
        return (blend){pixel < in ? pixel : in - 1, pixel < in ? pixel : in - 1, 0};
    }
    double x = o->align_corners ? (out > 1 ? (double)at * (in - 1) / (out - 1) : 0) : fmax((at + 0.5) * step - 0.5, 0);
    x = fmin(x, in - 1);
    return (blend){(int)x, (int)x + ((int)x < in - 1), x - (int)x};
}

static void visit_resize(const ref_tensor *x, const bnff_resize_options *o, const ref_tensor *y, void (*fn)(const size_t at[4], const double weight[4], size_t out, void *user), void *user)
{
    for (int n = 0; n < y->n; n++)
        for (int h = 0; h < y->h; h++)
            for (int w = 0; w < y->w; w++)
                for (int c = 0; c < y->c; c++) {
                    const blend r = blend_of(o, 0, h, x->h, y->h), q = blend_of(o, 1, w, x->w, y->w);
                    const size_t at[4] = {ref_at(x, n, r.first, q.first, c), ref_at(x, n, r.first, q.second, c), ref_at(x, n, r.second, q.first, c), ref_at(x, n, r.second, q.second, c)};
                    const double weight[4] = {(1 - r.weight) * (1 - q.weight), (1 - r.weight) * q.weight, r.weight * (1 - q.weight), r.weight * q.weight};
                    fn(at, weight, ref_at(y, n, h, w, c), user);
                }
}

typedef struct resizing {
    const ref_tensor *from;
    ref_tensor *to;
} resizing;

static void blend_pixels(const size_t at[4], const double weight[4], size_t out, void *user)
{
    const resizing *r = user;
    double e = 0;
    for (int i = 0; i < 4; i++) {
        r->to->v[out] += weight[i] * r->from->v[at[i]];
        e += square(weight[i] * r->from->e[at[i]]) + (weight[i] == 1 ? 0 : square(4 * REF_U * weight[i] * r->from->v[at[i]]) + square(REF_U * r->from->v[at[i]]));
    }
    r->to->e[out] = sqrt(e);
}

/* The weights are rounded, as far as those of one axis add up to 1: off by one unit of that. */
static void spread_pixel(const size_t at[4], const double weight[4], size_t out, void *user)
{
    const resizing *r = user;
    for (int i = 0; i < 4; i++)
        if (weight[i] != 0)
            ref_accumulate(r->to, at[i], weight[i] * r->from->v[out], sqrt(square(weight[i] * r->from->e[out]) + (weight[i] == 1 ? 0 : square(2 * REF_U * r->from->v[out]))));
}

void ref_resize(const ref_tensor *x, const bnff_resize_options *o, ref_tensor *y) { visit_resize(x, o, y, blend_pixels, &(resizing){x, y}); }
void ref_resize_backward(const ref_tensor *x, const bnff_resize_options *o, const ref_tensor *dy, ref_tensor *dx) { visit_resize(x, o, dy, spread_pixel, &(resizing){dy, dx}); }

/* -- channel shuffle -- */

static size_t shuffled(int c, int channels, int groups) { return (size_t)(c % (channels / groups) * groups + c / (channels / groups)); }

void ref_shuffle(const ref_tensor *x, int groups, ref_tensor *y)
{
    for (size_t i = 0; i < ref_count(x); i++) {
        const size_t to = i - i % (size_t)x->c + shuffled((int)(i % (size_t)x->c), x->c, groups);
        y->v[to] = x->v[i];
        y->e[to] = x->e[i];
    }
}

void ref_shuffle_backward(int groups, const ref_tensor *dy, ref_tensor *dx)
{
    for (size_t i = 0; i < ref_count(dx); i++) {
        const size_t from = i - i % (size_t)dx->c + shuffled((int)(i % (size_t)dx->c), dx->c, groups);
        ref_accumulate(dx, i, dy->v[from], dy->e[from]);
    }
}
