/* Tensors, activations, additions, gates, and channels copied from here to there. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ref.h"

static double square(double x) { return x * x; }

size_t ref_count(const ref_tensor *t) { return (size_t)t->n * (size_t)t->h * (size_t)t->w * (size_t)t->c; }

ref_tensor ref_new(int n, int h, int w, int c)
{
    ref_tensor t = {n, h, w, c, NULL, NULL};
    t.v = calloc(ref_count(&t) + 1, sizeof *t.v);
    t.e = calloc(ref_count(&t) + 1, sizeof *t.e);
    if (!t.v || !t.e) {
        fprintf(stderr, "no memory for a reference tensor\n");
        exit(99);
    }
    return t;
}

void ref_free(ref_tensor *t)
{
    free(t->v);
    free(t->e);
    *t = (ref_tensor){0};
}

void ref_accumulate(ref_tensor *t, size_t at, double v, double e)
{
    const bool first = t->v[at] == 0 && t->e[at] == 0;
    t->v[at] += v;
    t->e[at] = sqrt(t->e[at] * t->e[at] + e * e + (first ? 0 : REF_U * REF_U * (t->v[at] * t->v[at] + v * v)));
}

double ref_passed(const ref_tensor *t, int c, const ref_tensor *by, double shift)
{
    double pixels = 0, images = 0, channel = 0;
    for (int n = 0; n < t->n; n++) {
        double image = 0;
        for (size_t i = ref_at(t, n, 0, 0, c); i < ref_at(t, n + 1, 0, 0, 0); i += (size_t)t->c) {
            const double e = t->e[i] * (by ? by->v[i] - shift : 1);
            pixels += e * e, image += e;
        }
        images += image * image, channel += image;
    }
    return fmax(fmax(pixels, images), channel * channel);
}

/* An activation at x: value, derivative, how fast either changes at most, and the nearest place where the derivative jumps. */
typedef struct point { double y, dy, second, kink, jump, kink2, jump2; } point;

static point activation(bnff_activation kind, double slope, double x)
{
    if (isnan(x)) return (point){x, x, 0, INFINITY, 0, INFINITY, 0};
    const double nowhere = INFINITY, s = 1 / (1 + exp(-x));
    switch (kind) {
    case BNFF_RELU:        return (point){x <= 0 ? 0 : x, x <= 0 ? 0 : 1, 0, 0, 1, nowhere, 0};
    case BNFF_RELU6:       return (point){x <= 0 ? 0 : x >= 6 ? 6 : x, x <= 0 || x >= 6 ? 0 : 1, 0, 0, 1, 6, 1};
    case BNFF_LEAKY_RELU:  return (point){x > 0 ? x : slope * x, x > 0 ? 1 : slope, 0, 0, fabs(1 - slope), nowhere, 0};
    case BNFF_SILU:        return (point){x * s, s * (1 + x * (1 - s)), 0.5, nowhere, 0, nowhere, 0};
    case BNFF_SIGMOID:     return (point){s, s * (1 - s), 0.1, nowhere, 0, nowhere, 0};
    case BNFF_HARDSWISH:   return (point){x * fmin(fmax(x + 3, 0), 6) / 6, x <= -3 ? 0 : x >= 3 ? 1 : x / 3 + 0.5, 1.0 / 3, -3, 0.5, 3, 0.5};
    case BNFF_TANH:        return (point){tanh(x), 1 - tanh(x) * tanh(x), 0.8, nowhere, 0, nowhere, 0};
    case BNFF_GELU:        return (point){x * erfc(-x * M_SQRT1_2) / 2, erfc(-x * M_SQRT1_2) / 2 + x * exp(-x * x / 2) / sqrt(2 * M_PI), 0.8, nowhere, 0, nowhere, 0};
    case BNFF_MISH: {
        const double t = tanh(x > 30 ? x : log1p(exp(x)));
        return (point){x * t, t + x * (1 - t * t) * s, 0.7, nowhere, 0, nowhere, 0};
    }
    case BNFF_ELU:         return (point){x > 0 ? x : slope * expm1(x), x > 0 ? 1 : slope * exp(x), fabs(slope), 0, fabs(1 - slope), nowhere, 0};
    case BNFF_HARDSIGMOID: return (point){fmin(fmax(x + 3, 0), 6) / 6, x <= -3 || x >= 3 ? 0 : 1.0 / 6, 0, -3, 1.0 / 6, 3, 1.0 / 6};
    default:               return (point){x, 1, 0, nowhere, 0, nowhere, 0};
    }
}

/* Computed with e^x, so rounded a few times. */
static bool is_smooth(bnff_activation kind)
{
    return kind == BNFF_SILU || kind == BNFF_SIGMOID || kind == BNFF_TANH || kind == BNFF_GELU || kind == BNFF_ELU || kind == BNFF_MISH;
}

static bool near(const ref_tensor *x, size_t i, double kink) { return x->e[i] > 0 && fabs(x->v[i] - kink) <= REF_SIGMAS * x->e[i]; }

void ref_activate(const ref_tensor *x, bnff_activation kind, double slope, ref_tensor *y)
{
    for (size_t i = 0; i < ref_count(x); i++) {
        const point p = activation(kind, slope, x->v[i]);
        const bool smooth = is_smooth(kind), exact = kind == BNFF_RELU || kind == BNFF_RELU6 || kind == BNFF_IDENTITY;
        /* The slope at x, or what it may be at most when x lies near a kink; then units in the last place of exp, or of a few operations. */
        const double steepest = fmax(fabs(p.dy), near(x, i, p.kink) || near(x, i, p.kink2) ? 1.5 : 0) + p.second * x->e[i];
        const double rounding = exact ? 0 : smooth ? 4 * (fabs(p.y) + fabs(p.dy * x->v[i])) : 2 * (fabs(p.y) + (kind == BNFF_HARDSWISH ? fabs(x->v[i]) : 0.5));
        y->v[i] = p.y;
        y->e[i] = hypot(steepest * x->e[i], REF_U * rounding) + (smooth ? FLT_MIN : 0); /* below it exp may give 0 */
    }
}

void ref_activate_backward(const ref_tensor *x, bnff_activation kind, double slope, const ref_tensor *dy, ref_tensor *dx)
{
    for (size_t i = 0; i < ref_count(x); i++) {
        const point p = activation(kind, slope, x->v[i]);
        double e = p.second * x->e[i];
        /* Near a kink either derivative, if x is not known exactly. At the kink itself the convention of PyTorch holds. */
        if (near(x, i, p.kink)) e += p.jump;
        if (near(x, i, p.kink2)) e += p.jump2;
        if (is_smooth(kind) || kind == BNFF_HARDSWISH)
            e += FLT_MIN + 4 * REF_U * (fabs(p.dy) + fabs(x->v[i]) * (kind == BNFF_SIGMOID ? p.dy : 0.3) + 0.25);
        const double g = fabs(dy->v[i]) + dy->e[i];
        ref_accumulate(dx, i, p.dy * dy->v[i], sqrt(p.dy * p.dy * dy->e[i] * dy->e[i] + e * e * g * g + 4 * REF_U * REF_U * p.dy * p.dy * g * g));
    }
}

void ref_add(const ref_tensor *a, const ref_tensor *b, ref_tensor *y)
{
    for (size_t i = 0; i < ref_count(y); i++) {
        y->v[i] = a->v[i] + b->v[i];
        y->e[i] = a == b ? 2 * a->e[i] : sqrt(a->e[i] * a->e[i] + b->e[i] * b->e[i] + REF_U * REF_U * y->v[i] * y->v[i]);
    }
}

void ref_mul(const ref_tensor *a, const ref_tensor *b, ref_tensor *y)
{
    for (size_t i = 0; i < ref_count(y); i++) {
        y->v[i] = a->v[i] * b->v[i];
        const double left = b->v[i] * a->e[i], right = a->v[i] * b->e[i];
        y->e[i] = hypot(a == b ? left + right : hypot(left, right), REF_U * y->v[i]);
    }
}

void ref_mul_backward(const ref_tensor *b, const ref_tensor *dy, ref_tensor *da)
{
    for (size_t i = 0; i < ref_count(dy); i++) {
        const double product = b->v[i] * dy->v[i];
        ref_accumulate(da, i, product, sqrt(square(b->v[i] * dy->e[i]) + square(dy->v[i] * b->e[i]) + square(REF_U * product)));
    }
}

void ref_scale(const ref_tensor *x, const ref_tensor *weight, const ref_tensor *bias, double factor, double offset, ref_tensor *y)
{
    for (size_t i = 0; i < ref_count(x); i++) {
        const size_t c = i % (size_t)x->c;
        const double s = weight ? weight->v[c] : factor, t = bias ? bias->v[c] : offset, product = s * x->v[i];
        y->v[i] = product + t;
        y->e[i] = sqrt(square(s * x->e[i]) + square(REF_U * product) + square(REF_U * y->v[i]));
    }
}

void ref_scale_backward(const ref_tensor *x, const ref_tensor *weight, double factor, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dweight, ref_tensor *dbias)
{
    const size_t channels = (size_t)x->c, pixels = ref_count(x) / channels;
    for (size_t c = 0; c < channels; c++) {
        double products = 0, product_squares = 0, sum = 0, squares = 0;
        for (size_t p = 0; p < pixels; p++) {
            const size_t i = p * channels + c;
            const double s = weight ? weight->v[c] : factor, own = s * dy->v[i];
            ref_accumulate(dx, i, own, hypot(s * dy->e[i], REF_U * own));
            products += x->v[i] * dy->v[i], product_squares += square(x->v[i] * dy->v[i]);
            sum += dy->v[i], squares += square(dy->v[i]);
        }
        const double n = (double)pixels, product_passed = ref_passed(dy, (int)c, x, 0) + ref_passed(x, (int)c, dy, 0), passed = ref_passed(dy, (int)c, NULL, 0);
        if (dweight) ref_accumulate(dweight, c, products, sqrt(product_passed + square(REF_U) * (n * (product_squares + products * products / 3) + products * products)));
        if (dbias) ref_accumulate(dbias, c, sum, sqrt(passed + square(REF_U) * (n * (squares + sum * sum / 3) + sum * sum)));
    }
}

void ref_gate(const ref_tensor *x, const ref_tensor *gate, ref_tensor *y)
{
    const size_t per_image = ref_count(x) / (size_t)x->n;
    for (size_t i = 0; i < ref_count(x); i++) {
        const size_t g = i / per_image * (size_t)x->c + i % (size_t)x->c;
        y->v[i] = x->v[i] * gate->v[g];
        y->e[i] = sqrt(square(x->v[i] * gate->e[g]) + square(gate->v[g] * x->e[i]) + square(REF_U * y->v[i]));
    }
}

void ref_gate_backward(const ref_tensor *x, const ref_tensor *gate, const ref_tensor *dy, ref_tensor *dx, ref_tensor *dgate)
{
    const size_t per_image = ref_count(x) / (size_t)x->n;
    if (dx) {
        ref_tensor own = ref_new(x->n, x->h, x->w, x->c);
        ref_gate(dy, gate, &own);
        for (size_t i = 0; i < ref_count(x); i++) ref_accumulate(dx, i, own.v[i], own.e[i]);
        ref_free(&own);
    }
    for (size_t g = 0; dgate && g < ref_count(gate); g++) {
        double sum = 0, squares = 0, passed = 0;
        const size_t image = g / (size_t)x->c, pixels = per_image / (size_t)x->c;
        for (size_t p = 0; p < pixels; p++) {
            const size_t i = image * per_image + p * (size_t)x->c + g % (size_t)x->c;
            sum += x->v[i] * dy->v[i];
            squares += square(x->v[i] * dy->v[i]);
            passed += square(x->v[i] * dy->e[i]) + square(dy->v[i] * x->e[i]);
        }
        ref_accumulate(dgate, g, sum, sqrt(passed + square(REF_U) * ((double)pixels * (squares + sum * sum / 3) + sum * sum)));
    }
}

void ref_channels(const ref_tensor *x, int from, int channels, int first, ref_tensor *y)
{
    const size_t pixels = ref_count(x) / (size_t)x->c;
    for (size_t p = 0; p < pixels; p++) {
        const size_t to = p * (size_t)y->c + (size_t)first, at = p * (size_t)x->c + (size_t)from;
        memcpy(y->v + to, x->v + at, (size_t)channels * sizeof *y->v);
        memcpy(y->e + to, x->e + at, (size_t)channels * sizeof *y->e);
    }
}

void ref_channels_backward(const ref_tensor *dy, int from, int channels, int first, ref_tensor *dx)
{
    const size_t pixels = ref_count(dy) / (size_t)dy->c;
    for (size_t p = 0; p < pixels; p++)
        for (int i = 0; i < channels; i++) {
            const size_t at = p * (size_t)dy->c + (size_t)(first + i);
            ref_accumulate(dx, p * (size_t)dx->c + (size_t)(from + i), dy->v[at], dy->e[at]);
        }
}
