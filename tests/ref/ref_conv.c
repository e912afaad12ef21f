/* Convolution and linear layers: sums of products, gathered at the result's element. */
#include <math.h>

#include "ref.h"

/* A sum of n products p = a b in double, and beside it what a float32 sum may be off. Partial sums wander as sqrt(k) rms(p) around the
 * line to the total, each addition rounds one of them:
 *     e^2 = sum (a^2 e_b^2 + b^2 e_a^2)  +  u^2 n (sum p^2 + (sum p)^2 / 3)  +  u^2 (sum p)^2 */
typedef struct dot { double sum, squares, passed; int terms; } dot;

static void add_product(dot *d, double a, double ea, double b, double eb)
{
    const double p = a * b;
    d->sum += p;
    d->squares += p * p;
    d->passed += a * a * eb * eb + b * b * ea * ea;
    d->terms++;
}

static double dot_error(const dot *d)
{
    const double total = d->sum * d->sum;
    return sqrt(d->passed + REF_U * REF_U * (d->terms * (d->squares + total / 3) + total));
}

void ref_conv(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, const bnff_conv_options *o, ref_tensor *y)
{
    const int per_group = weight->h, out_per_group = y->c / o->groups;
    for (int n = 0; n < y->n; n++)
        for (int oh = 0; oh < y->h; oh++)
            for (int ow = 0; ow < y->w; ow++)
                for (int oc = 0; oc < y->c; oc++) {
                    dot d = {0};
                    if (bias) add_product(&d, bias->v[oc], bias->e[oc], 1, 0);
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++) {
                            const int h = oh * o->stride[0] - o->padding[0] + kh * o->dilation[0];
                            const int w = ow * o->stride[1] - o->padding[1] + kw * o->dilation[1];
                            if (h < 0 || h >= x->h || w < 0 || w >= x->w) continue;
                            for (int c = 0; c < per_group; c++) {
                                const size_t xi = ref_at(x, n, h, w, oc / out_per_group * per_group + c), wi = ref_at(weight, oc, c, kh, kw);
                                add_product(&d, x->v[xi], x->e[xi], weight->v[wi], weight->e[wi]);
                            }
                        }
                    const size_t yi = ref_at(y, n, oh, ow, oc);
                    y->v[yi] = d.sum;
                    y->e[yi] = dot_error(&d);
                }
}

/* dx[n,h,w,c] = sum over the outputs that (h,w) is a tap of:  weight[oc,c,kh,kw] * dy[n,oh,ow,oc] */
static void conv_dx(const ref_tensor *weight, const bnff_conv_options *o, const ref_tensor *dy, ref_tensor *dx)
{
    const int per_group = weight->h, out_per_group = dy->c / o->groups;
    for (int n = 0; n < dx->n; n++)
        for (int h = 0; h < dx->h; h++)
            for (int w = 0; w < dx->w; w++)
                for (int c = 0; c < dx->c; c++) {
                    dot d = {0};
                    const int group = c / per_group;
                    for (int kh = 0; kh < o->kernel[0]; kh++)
                        for (int kw = 0; kw < o->kernel[1]; kw++) {
                            const int up = h + o->padding[0] - kh * o->dilation[0], left = w + o->padding[1] - kw * o->dilation[1];
                            if (up < 0 || left < 0 || up % o->stride[0] || left % o->stride[1]) continue;
                            const int oh = up / o->stride[0], ow = left / o->stride[1];
                            if (oh >= dy->h || ow >= dy->w) continue;
                            for (int oc = group * out_per_group; oc < (group + 1) * out_per_group; oc++) {
                                const size_t gi = ref_at(dy, n, oh, ow, oc), wi = ref_at(weight, oc, c % per_group, kh, kw);
                                add_product(&d, dy->v[gi], dy->e[gi], weight->v[wi], weight->e[wi]);
                            }
                        }
                    ref_accumulate(dx, ref_at(dx, n, h, w, c), d.sum, dot_error(&d));
                }
}

/* dweight[oc,c,kh,kw] = sum over n, oh, ow:  x at the tap * dy[n,oh,ow,oc] */
static void conv_dweight(const ref_tensor *x, const bnff_conv_options *o, const ref_tensor *dy, ref_tensor *dweight)
{
    const int per_group = dweight->h, out_per_group = dy->c / o->groups;
    for (int oc = 0; oc < dweight->n; oc++)
        for (int c = 0; c < per_group; c++)
            for (int kh = 0; kh < o->kernel[0]; kh++)
                for (int kw = 0; kw < o->kernel[1]; kw++) {
                    dot d = {0};
                    for (int n = 0; n < dy->n; n++)
                        for (int oh = 0; oh < dy->h; oh++)
                            for (int ow = 0; ow < dy->w; ow++) {
                                const int h = oh * o->stride[0] - o->padding[0] + kh * o->dilation[0];
                                const int w = ow * o->stride[1] - o->padding[1] + kw * o->dilation[1];
                                if (h < 0 || h >= x->h || w < 0 || w >= x->w) continue;
                                const size_t xi = ref_at(x, n, h, w, oc / out_per_group * per_group + c), gi = ref_at(dy, n, oh, ow, oc);
                                add_product(&d, x->v[xi], x->e[xi], dy->v[gi], dy->e[gi]);
                            }
                    ref_accumulate(dweight, ref_at(dweight, oc, c, kh, kw), d.sum, dot_error(&d));
                }
}

static void sum_channels(const ref_tensor *dy, ref_tensor *dbias)
{
    for (int c = 0; c < dy->c; c++) {
        dot d = {0};
        for (size_t i = (size_t)c; i < ref_count(dy); i += (size_t)dy->c) add_product(&d, dy->v[i], 0, 1, 0);
        d.passed = ref_passed(dy, c, NULL, 0);
        ref_accumulate(dbias, (size_t)c, d.sum, dot_error(&d));
    }
}

void ref_conv_backward(const ref_tensor *x, const ref_tensor *weight, const bnff_conv_options *o, const ref_tensor *dy,
                       ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias)
{
    if (dx) conv_dx(weight, o, dy, dx);
    if (dweight) conv_dweight(x, o, dy, dweight);
    if (dbias) sum_channels(dy, dbias);
}

void ref_spread_errors(ref_tensor *t, int reach, double growth)
{
    ref_tensor e = ref_new(t->n, t->h, t->w, t->c);
    for (int n = 0; n < t->n; n++)
        for (int h = 0; h < t->h; h++)
            for (int w = 0; w < t->w; w++)
                for (int i = h < reach ? 0 : h - reach; i <= h + reach && i < t->h; i++)
                    for (int j = w < reach ? 0 : w - reach; j <= w + reach && j < t->w; j++)
                        for (int c = 0; c < t->c; c++) {
                            double *to = &e.v[ref_at(&e, n, h, w, c)];
                            *to = fmax(*to, growth * t->e[ref_at(t, n, i, j, c)]);
                        }
    for (size_t i = 0; i < ref_count(t); i++) t->e[i] = e.v[i];
    ref_free(&e);
}

void ref_spread_tap_errors(ref_tensor *dweight, double growth)
{
    for (size_t first = 0; first < ref_count(dweight); first += 9) {
        double most = 0;
        for (int t = 0; t < 9; t++) most = fmax(most, growth * dweight->e[first + (size_t)t]);
        for (int t = 0; t < 9; t++) dweight->e[first + (size_t)t] = most;
    }
}

/* Index in x of feature i of image n, features counted in the order (c, h, w). */
static size_t feature(const ref_tensor *x, int n, int i)
{
    const int pixels = x->h * x->w;
    return ref_at(x, n, i % pixels / x->w, i % x->w, i / pixels);
}

void ref_linear(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, ref_tensor *y)
{
    const int features = x->c * x->h * x->w;
    for (int n = 0; n < y->n; n++)
        for (int o = 0; o < y->c; o++) {
            dot d = {0};
            if (bias) add_product(&d, bias->v[o], bias->e[o], 1, 0);
            for (int i = 0; i < features; i++) {
                const size_t xi = feature(x, n, i), wi = (size_t)o * (size_t)features + (size_t)i;
                add_product(&d, x->v[xi], x->e[xi], weight->v[wi], weight->e[wi]);
            }
            const size_t yi = ref_at(y, n, 0, 0, o);
            y->v[yi] = d.sum;
            y->e[yi] = dot_error(&d);
        }
}

void ref_linear_backward(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias)
{
    const int features = x->c * x->h * x->w;
    for (int i = 0; dx && i < features; i++)
        for (int n = 0; n < x->n; n++) {
            dot d = {0};
            for (int o = 0; o < dy->c; o++) {
                const size_t gi = ref_at(dy, n, 0, 0, o), wi = (size_t)o * (size_t)features + (size_t)i;
                add_product(&d, dy->v[gi], dy->e[gi], weight->v[wi], weight->e[wi]);
            }
            ref_accumulate(dx, feature(x, n, i), d.sum, dot_error(&d));
        }
    for (int i = 0; dweight && i < features; i++)
        for (int o = 0; o < dy->c; o++) {
            dot d = {0};
            for (int n = 0; n < x->n; n++) {
                const size_t gi = ref_at(dy, n, 0, 0, o), xi = feature(x, n, i);
                add_product(&d, dy->v[gi], dy->e[gi], x->v[xi], x->e[xi]);
            }
            ref_accumulate(dweight, (size_t)o * (size_t)features + (size_t)i, d.sum, dot_error(&d));
        }
    if (dbias) sum_channels(dy, dbias);
}
