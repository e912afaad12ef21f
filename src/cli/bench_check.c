#include "bench_check.h"

#include <float.h>
#include <math.h>
#include <stdlib.h>

#include "bench.h"

enum { SAMPLES = 600, WEIGHT_SAMPLES = 150, TILE_ERROR = 8 };

static size_t elements(int a, int b, int c, int d) { return (size_t)a * (size_t)b * (size_t)c * (size_t)d; }

static float *unwritten(size_t count)
{
    float *values = cli_alloc(count, sizeof *values);
    for (size_t i = 0; i < count; i++) values[i] = NAN;
    return values;
}

double bench_tensors_bytes(const bench_problem *p)
{
    const double oh = bench_problem_out(p->ih, p->kh, p->sh, p->ph, p->dh), ow = bench_problem_out(p->iw, p->kw, p->sw, p->pw, p->dw);
    const double x = (double)p->mb * p->ih * p->iw * p->ic, y = p->mb * oh * ow * p->oc, w = (double)p->oc * (p->ic / p->g) * p->kh * p->kw;
    return 2 * (x + y + w) * sizeof(float);
}

void bench_tensors_make(bench_tensors *t, const bench_problem *p)
{
    *t = (bench_tensors){.oh = bench_problem_out(p->ih, p->kh, p->sh, p->ph, p->dh), .ow = bench_problem_out(p->iw, p->kw, p->sw, p->pw, p->dw)};
    const size_t x = elements(p->mb, p->ih, p->iw, p->ic), y = elements(p->mb, t->oh, t->ow, p->oc), w = elements(p->oc, p->ic / p->g, p->kh, p->kw);
    t->x = cli_alloc(x, sizeof *t->x);
    t->w = cli_alloc(w, sizeof *t->w);
    t->dy = cli_alloc(y, sizeof *t->dy);
    bench_fill(t->x, x, 1);
    bench_fill(t->w, w, 2);
    bench_fill(t->dy, y, 3);
    t->y = unwritten(y);
    t->dx = unwritten(x);
    t->dw = unwritten(w);
}

void bench_tensors_free(bench_tensors *t)
{
    free(t->x), free(t->w), free(t->y), free(t->dy), free(t->dx), free(t->dw);
    *t = (bench_tensors){0};
}

/* A sum in double, and what bounds the error of the same sum in float. */
struct sum { double value, absolute; long terms; };

static void add(struct sum *s, float a, float b)
{
    const double product = (double)a * b;
    s->value += product, s->absolute += fabs(product), s->terms++;
}

/* The error of `got` as a share of 8 sqrt(n) u sum|ab|: rounding errors of a sum of n terms add up like a random walk (Higham & Mary 2019,
 * theorem 2.4: factor 8 fails with a probability below 1e-13), whatever the order; one more u for the result itself. */
static double share(const struct sum *s, float got)
{
    const double u = FLT_EPSILON / 2, bound = 8 * sqrt((double)s->terms + 1) * u * s->absolute + u * fabs(s->value) + FLT_MIN;
    const double e = fabs((double)got - s->value) / bound;
    return isnan(e) ? INFINITY : e;
}

/* A reproducible choice of elements: a multiplicative walk that meets first and last and everything between. */
static size_t pick(size_t i, size_t samples, size_t count)
{
    if (i == 0) return 0;
    if (i == 1) return count - 1;
    return samples >= count ? i % count : (size_t)(((unsigned __int128)(i * 0x9E3779B97F4A7C15u) * count) >> 64);
}

/* Channel 0 of pixel (i, j) of image n. */
static const float *at(const float *t, int h, int w, int c, int n, int i, int j)
{
    return t + (((size_t)n * (size_t)h + (size_t)i) * (size_t)w + (size_t)j) * (size_t)c;
}

/* y[n,i,j,o] = sum over taps and channels of x * w */
static double check_y(const bench_tensors *t, const bench_problem *p, size_t index)
{
    const int icg = p->ic / p->g, o = (int)(index % (size_t)p->oc), j = (int)(index / (size_t)p->oc % (size_t)t->ow);
    const int i = (int)(index / (size_t)p->oc / (size_t)t->ow % (size_t)t->oh), n = (int)(index / (size_t)p->oc / (size_t)t->ow / (size_t)t->oh);
    const int first = o / (p->oc / p->g) * icg;
    struct sum s = {0};
    for (int kh = 0; kh < p->kh; kh++)
        for (int kw = 0; kw < p->kw; kw++) {
            const int ih = i * p->sh - p->ph + kh * p->dh, iw = j * p->sw - p->pw + kw * p->dw;
            if (ih < 0 || ih >= p->ih || iw < 0 || iw >= p->iw) continue;
            const float *x = at(t->x, p->ih, p->iw, p->ic, n, ih, iw) + first;
            for (int c = 0; c < icg; c++) add(&s, x[c], t->w[((o * (size_t)icg + (size_t)c) * (size_t)p->kh + (size_t)kh) * (size_t)p->kw + (size_t)kw]);
        }
    return share(&s, t->y[index]);
}

/* dx[n,ih,iw,c] = sum over the outputs that saw it of dy * w */
static double check_dx(const bench_tensors *t, const bench_problem *p, size_t index)
{
    const int icg = p->ic / p->g, ocg = p->oc / p->g, c = (int)(index % (size_t)p->ic), iw = (int)(index / (size_t)p->ic % (size_t)p->iw);
    const int ih = (int)(index / (size_t)p->ic / (size_t)p->iw % (size_t)p->ih), n = (int)(index / (size_t)p->ic / (size_t)p->iw / (size_t)p->ih);
    const int group = c / icg;
    struct sum s = {0};
    for (int kh = 0; kh < p->kh; kh++)
        for (int kw = 0; kw < p->kw; kw++) {
            const int i = ih + p->ph - kh * p->dh, j = iw + p->pw - kw * p->dw;
            if (i < 0 || j < 0 || i % p->sh || j % p->sw || i / p->sh >= t->oh || j / p->sw >= t->ow) continue;
            const float *dy = at(t->dy, t->oh, t->ow, p->oc, n, i / p->sh, j / p->sw);
            for (int o = group * ocg; o < (group + 1) * ocg; o++)
                add(&s, dy[o], t->w[(((size_t)o * (size_t)icg + (size_t)(c - group * icg)) * (size_t)p->kh + (size_t)kh) * (size_t)p->kw + (size_t)kw]);
        }
    return share(&s, t->dx[index]);
}

/* dw[o,c,kh,kw] = sum over images and pixels of dy * x */
static double check_dw(const bench_tensors *t, const bench_problem *p, size_t index)
{
    const int icg = p->ic / p->g, kw = (int)(index % (size_t)p->kw), kh = (int)(index / (size_t)p->kw % (size_t)p->kh);
    const int c = (int)(index / (size_t)p->kw / (size_t)p->kh % (size_t)icg), o = (int)(index / (size_t)p->kw / (size_t)p->kh / (size_t)icg);
    const int channel = o / (p->oc / p->g) * icg + c;
    struct sum s = {0};
    for (int n = 0; n < p->mb; n++)
        for (int i = 0; i < t->oh; i++)
            for (int j = 0; j < t->ow; j++) {
                const int ih = i * p->sh - p->ph + kh * p->dh, iw = j * p->sw - p->pw + kw * p->dw;
                if (ih < 0 || ih >= p->ih || iw < 0 || iw >= p->iw) continue;
                add(&s, at(t->dy, t->oh, t->ow, p->oc, n, i, j)[o], at(t->x, p->ih, p->iw, p->ic, n, ih, iw)[channel]);
            }
    return share(&s, t->dw[index]);
}

static double worst(double (*check)(const bench_tensors *, const bench_problem *, size_t), const bench_tensors *t, const bench_problem *p,
                    size_t samples, size_t count)
{
    double most = 0;
    if (samples > count) samples = count;
    for (size_t i = 0; i < samples; i++) {
        const double e = check(t, p, pick(i, samples, count));
        if (e > most) most = e;
    }
    return most;
}

double bench_check(const bench_tensors *t, const bench_problem *p, bool with_dx, bool direct)
{
    double most = worst(check_y, t, p, SAMPLES, elements(p->mb, t->oh, t->ow, p->oc));
    const double weights = worst(check_dw, t, p, WEIGHT_SAMPLES, elements(p->oc, p->ic / p->g, p->kh, p->kw));
    const double data = with_dx ? worst(check_dx, t, p, SAMPLES, elements(p->mb, p->ih, p->iw, p->ic)) : 0;
    if (weights > most) most = weights;
    if (data > most) most = data;
    return direct ? most : most / TILE_ERROR;
}
