/* Convolutions in float64 without the error analysis of ref_conv.c, for whole models: innermost over channels that lie side by side, so
 * that compilers make vectors of them. */
#include <stdlib.h>
#include <string.h>

#include "model.h"

static double *zeros(size_t count) { return calloc(count, sizeof(double)); }

/* weight [OC, C/groups, taps] as [tap][ic][oc] of a group, or [tap][oc][ic]. */
static double *turned(const double *weight, int oc, int ic, int taps, bool outputs_last)
{
    double *to = zeros((size_t)oc * (size_t)ic * (size_t)taps);
    for (int o = 0; o < oc; o++)
        for (int i = 0; i < ic; i++)
            for (int t = 0; t < taps; t++) to[((size_t)t * (size_t)(oc * ic)) + (size_t)(outputs_last ? i * oc + o : o * ic + i)] = weight[((size_t)o * (size_t)ic + (size_t)i) * (size_t)taps + (size_t)t];
    return to;
}

typedef struct geometry {
    int kh, kw, sh, sw, ph, pw, dh, dw, groups, ic, oc; /* channels of one group */
} geometry;

static geometry geometry_of(const bnff_conv_options *o, const ref_tensor *x)
{
    return (geometry){o->kernel[0], o->kernel[1], o->stride[0], o->stride[1], o->padding[0], o->padding[1], o->dilation[0], o->dilation[1], o->groups,
                      x->c / o->groups, o->out_channels / o->groups};
}

/* Calls visit for every (output pixel, tap inside the image, group). */
typedef void (*visitor)(void *state, const geometry *k, size_t x_at, size_t y_at, size_t tap, int group);
static void for_taps(const geometry *k, const ref_tensor *x, const ref_tensor *y, visitor visit, void *state)
{
    for (int n = 0; n < y->n; n++)
        for (int oh = 0; oh < y->h; oh++)
            for (int ow = 0; ow < y->w; ow++)
                for (int kh = 0; kh < k->kh; kh++)
                    for (int kw = 0; kw < k->kw; kw++) {
                        const int h = oh * k->sh - k->ph + kh * k->dh, w = ow * k->sw - k->pw + kw * k->dw;
                        if (h < 0 || h >= x->h || w < 0 || w >= x->w) continue;
                        for (int g = 0; g < k->groups; g++)
                            visit(state, k, ref_at(x, n, h, w, g * k->ic), ref_at(y, n, oh, ow, g * k->oc), (size_t)(kh * k->kw + kw), g);
                    }
}

typedef struct products {
    const double *w;      /* of all groups, turned one by one */
    const double *a;
    double *sum;
    size_t group;         /* weights of a group */
} products;

static void add_outputs(void *state, const geometry *k, size_t x_at, size_t y_at, size_t tap, int group)
{
    const products *p = state;
    const double *w = p->w + (size_t)group * p->group + tap * (size_t)(k->ic * k->oc);
    double *restrict y = p->sum + y_at;
    for (int i = 0; i < k->ic; i++, w += k->oc)
        for (int o = 0; o < k->oc; o++) y[o] += p->a[x_at + (size_t)i] * w[o];
}

static void add_inputs(void *state, const geometry *k, size_t x_at, size_t y_at, size_t tap, int group)
{
    const products *p = state;
    const double *w = p->w + (size_t)group * p->group + tap * (size_t)(k->ic * k->oc);
    double *restrict dx = p->sum + x_at;
    for (int o = 0; o < k->oc; o++, w += k->ic)
        for (int i = 0; i < k->ic; i++) dx[i] += p->a[y_at + (size_t)o] * w[i];
}

typedef struct weight_products { const double *x, *dy; double *dw; size_t group; } weight_products;

/* dw as [group][tap][ic][oc] */
static void add_weights(void *state, const geometry *k, size_t x_at, size_t y_at, size_t tap, int group)
{
    const weight_products *p = state;
    double *restrict dw = p->dw + (size_t)group * p->group + tap * (size_t)(k->ic * k->oc);
    for (int i = 0; i < k->ic; i++, dw += k->oc)
        for (int o = 0; o < k->oc; o++) dw[o] += p->x[x_at + (size_t)i] * p->dy[y_at + (size_t)o];
}

static double *turned_groups(const double *weight, const geometry *k, bool outputs_last)
{
    const size_t group = (size_t)k->oc * (size_t)k->ic * (size_t)(k->kh * k->kw);
    double *all = zeros(group * (size_t)k->groups);
    for (int g = 0; g < k->groups; g++) {
        double *one = turned(weight + (size_t)g * group, k->oc, k->ic, k->kh * k->kw, outputs_last);
        memcpy(all + (size_t)g * group, one, group * sizeof *one);
        free(one);
    }
    return all;
}

void conv64(const ref_tensor *x, const double *weight, const double *bias, const bnff_conv_options *o, ref_tensor *y)
{
    const geometry k = geometry_of(o, x);
    double *w = turned_groups(weight, &k, true);
    for (size_t i = 0; i < ref_count(y); i++) y->v[i] = bias ? bias[i % (size_t)y->c] : 0;
    for_taps(&k, x, y, add_outputs, &(products){w, x->v, y->v, (size_t)k.oc * (size_t)k.ic * (size_t)(k.kh * k.kw)});
    free(w);
}

void conv64_backward(const ref_tensor *x, const double *weight, const bnff_conv_options *o, const ref_tensor *dy, ref_tensor *dx, double *dweight,
                     double *dbias)
{
    const geometry k = geometry_of(o, x);
    const int taps = k.kh * k.kw;
    const size_t group = (size_t)k.oc * (size_t)k.ic * (size_t)taps;
    double *w = turned_groups(weight, &k, false), *dw = zeros(group * (size_t)k.groups);
    for_taps(&k, x, dy, add_inputs, &(products){w, dy->v, dx->v, group});
    for_taps(&k, x, dy, add_weights, &(weight_products){x->v, dy->v, dw, group});
    for (int oc = 0; oc < k.oc * k.groups; oc++)
        for (int i = 0; i < k.ic; i++)
            for (int tap = 0; tap < taps; tap++)
                dweight[((size_t)oc * (size_t)k.ic + (size_t)i) * (size_t)taps + (size_t)tap] +=
                    dw[(size_t)(oc / k.oc) * group + ((size_t)tap * (size_t)k.ic + (size_t)i) * (size_t)k.oc + (size_t)(oc % k.oc)];
    for (size_t i = 0; dbias && i < ref_count(dy); i++) dbias[i % (size_t)dy->c] += dy->v[i];
    free(w);
    free(dw);
}
