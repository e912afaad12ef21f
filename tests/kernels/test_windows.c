/* Window kernels on rows of a small image, windows that overlap or leave gaps, against plain loops. */
#include "tables.h"

static const int cs[] = {16, 32}, ns[] = {1, 2, 4, 7, 9};
enum { LD = 48, LDG = 32, ROWS = 3, MOST_TAPS = 9 };

/* kw x kh windows at column stride `stride` over an image of `width` pixels of LD floats. */
typedef struct window {
    piece image;
    ptrdiff_t offset[MOST_TAPS], step;
    bf_taps taps;
} window;

static const struct { int kw, kh, stride, dilation; } windows[] = {{1, 1, 1, 1}, {2, 2, 2, 1}, {3, 3, 1, 1}, {3, 3, 2, 1}, {3, 1, 1, 2}, {2, 1, 3, 1}, {3, 2, 1, 1}};

static void make_window(window *w, size_t which, int n, int c)
{
    const int width = (n - 1) * windows[which].stride + (windows[which].kw - 1) * windows[which].dilation + 1;
    w->image = normal_piece(width * ROWS, c, LD, 0, 1);
    w->step = (ptrdiff_t)windows[which].stride * LD;
    w->taps = (bf_taps){windows[which].kw * windows[which].kh, w->offset};
    for (int t = 0; t < w->taps.count; t++)
        w->offset[t] = (t / windows[which].kw * width + t % windows[which].kw * windows[which].dilation) * LD;
}

static const float *at_tap(const window *w, const float *base, int pixel, int t, int lane) { return base + pixel * w->step + w->offset[t] + lane; }

/* torch: a tap replaces the maximum where it is larger, or NaN */
static int winner(const window *w, int pixel, int lane)
{
    int best = 0;
    for (int t = 1; t < w->taps.count; t++) {
        const float x = *at_tap(w, w->image.x, pixel, t, lane);
        if (x > *at_tap(w, w->image.x, pixel, best, lane) || isnan(x)) best = t;
    }
    return best;
}

/* few values, so that windows have ties; NaN and infinities among them */
static void make_ties(piece image)
{
    static const float values[] = {-1, -0.0f, 0, 1, 1, INFINITY, -INFINITY, NAN, 0.5f, -2, 1e-44f, 2};
    FOR_LANES(image, j, i) *piece_at(image, j, i) = values[random_int(0, COUNT_OF(values) - 1)];
}

static void max_pooling(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns)
        for (size_t which = 0; which < COUNT_OF(windows); which++)
            for (int ties = 0; ties < 2; ties++) FOR_EACH_TABLE(k) {
                test_case("max_taps window=%zu n=%d c=%d ties=%d isa=%s", which, n, c, ties, k->isa);
                window w;
                make_window(&w, which, n, c);
                if (ties) make_ties(w.image);
                const piece y = new_piece(n, c, LDG), g = normal_piece(n, c, LDG, 0, 1), dx = normal_piece(w.image.n, c, LD, 0, 1);
                const piece want = copy_piece(dx, LD);
                k->max_taps(y.x, y.ld, w.image.x, w.step, w.taps, n, c);
                k->max_taps_grad(dx.x, w.image.x, w.step, w.taps, g.x, g.ld, n, c);
                for (int j = 0; j < n; j++)
                    for (int i = 0; i < c; i++) {
                        const int best = winner(&w, j, i);
                        const float value = *at_tap(&w, w.image.x, j, best, i);
                        check_close(*piece_at(y, j, i), value, 0);
                        *(float *)at_tap(&w, want.x, j, best, i) += *piece_at(g, j, i);
                    }
                check_same_piece(dx, want);
                check_gaps(y), check_gaps(dx);
                check_guards();
            }
}

static void average_pooling(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns)
        for (size_t which = 0; which < COUNT_OF(windows); which++) FOR_EACH_TABLE(k) {
            test_case("sum_taps window=%zu n=%d c=%d isa=%s", which, n, c, k->isa);
            window w;
            make_window(&w, which, n, c);
            const float scale = 1.0f / (float)w.taps.count;
            const piece y = new_piece(n, c, LDG), g = normal_piece(n, c, LDG, 0, 1), dx = normal_piece(w.image.n, c, LD, 0, 1);
            const piece want = copy_piece(dx, LD);
            k->sum_taps(y.x, y.ld, w.image.x, w.step, w.taps, scale, n, c);
            k->sum_taps_grad(dx.x, w.step, w.taps, scale, g.x, g.ld, n, c);
            for (int j = 0; j < n; j++)
                for (int i = 0; i < c; i++) {
                    double sum = 0, magnitude = 0;
                    for (int t = 0; t < w.taps.count; t++) {
                        const float x = *at_tap(&w, w.image.x, j, t, i);
                        sum += x, magnitude += fabs(x);
                        *(float *)at_tap(&w, want.x, j, t, i) += *piece_at(g, j, i) * scale;
                    }
                    check_close(*piece_at(y, j, i), scale * sum, scale * magnitude * (w.taps.count + 1) * ROUNDING);
                }
            check_same_piece(dx, want); /* the order of additions is promised */
            check_gaps(y), check_gaps(dx);
            check_guards();
        }
}

static void depthwise(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns)
        for (size_t which = 0; which < COUNT_OF(windows); which++)
            for (int accumulate = 0; accumulate < 2; accumulate++) FOR_EACH_TABLE(k) {
                test_case("dw_taps window=%zu n=%d c=%d accumulate=%d isa=%s", which, n, c, accumulate, k->isa);
                window w;
                make_window(&w, which, n, c);
                const int taps = w.taps.count;
                const float *weights = normal_vector(taps * c, 0, 1);
                const piece y = normal_piece(n, c, LDG, 0, 1), before = copy_piece(y, LDG);
                k->dw_taps(y.x, y.ld, w.image.x, w.step, w.taps, weights, n, c, accumulate);
                for (int j = 0; j < n; j++)
                    for (int i = 0; i < c; i++) {
                        double sum = accumulate ? *piece_at(before, j, i) : 0, magnitude = fabs(sum);
                        for (int t = 0; t < taps; t++) {
                            const double term = (double)weights[t * c + i] * *at_tap(&w, w.image.x, j, t, i);
                            sum += term, magnitude += fabs(term);
                        }
                        check_close(*piece_at(y, j, i), sum, (taps + 2) * ROUNDING * magnitude);
                    }
                check_gaps(y);
                check_guards();
            }
}

/* Gradients of <g, dw(x, w)> with respect to x and w: sums over everything that touches an element. */
static void depthwise_gradients(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns)
        for (size_t which = 0; which < COUNT_OF(windows); which++) FOR_EACH_TABLE(k) {
            test_case("dw_taps_grad window=%zu n=%d c=%d isa=%s", which, n, c, k->isa);
            window w;
            make_window(&w, which, n, c);
            const int taps = w.taps.count;
            const float *weights = normal_vector(taps * c, 0, 1);
            const piece g = normal_piece(n, c, LDG, 0, 1), dx = normal_piece(w.image.n, c, LD, 0, 1);
            float *dw = normal_vector(taps * c, 0, 1);
            const size_t floats = (size_t)w.image.n * LD;
            double *want = guarded_bytes(floats * sizeof *want), *magnitude = guarded_bytes(floats * sizeof *want);
            double *want_dw = guarded_bytes((size_t)(taps * c) * sizeof *want), *magnitude_dw = guarded_bytes((size_t)(taps * c) * sizeof *want);
            FOR_LANES(dx, j, i) want[j * LD + i] = *piece_at(dx, j, i), magnitude[j * LD + i] = fabs(want[j * LD + i]);
            for (int q = 0; q < taps * c; q++) want_dw[q] = dw[q], magnitude_dw[q] = fabs(dw[q]);
            for (int j = 0; j < n; j++)
                for (int t = 0; t < taps; t++)
                    for (int i = 0; i < c; i++) {
                        const ptrdiff_t at = j * w.step + w.offset[t] + i;
                        const double d = *piece_at(g, j, i), x_term = d * weights[t * c + i], w_term = d * w.image.x[at];
                        want[at] += x_term, magnitude[at] += fabs(x_term);
                        want_dw[t * c + i] += w_term, magnitude_dw[t * c + i] += fabs(w_term);
                    }
            k->dw_taps_grad(dx.x, w.step, w.taps, weights, g.x, g.ld, n, c);
            k->dw_taps_weight_grad(dw, w.image.x, w.step, w.taps, g.x, g.ld, n, c);
            FOR_LANES(dx, j, i) check_close(*piece_at(dx, j, i), want[j * LD + i], 2 * (MOST_TAPS + 2) * ROUNDING * magnitude[j * LD + i]);
            for (int q = 0; q < taps * c; q++) check_close(dw[q], want_dw[q], 2 * (n + 2) * ROUNDING * magnitude_dw[q]);
            check_gaps(dx);
            check_guards();
        }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(max_pooling), test(average_pooling), test(depthwise), test(depthwise_gradients)};
    return run_all(tests);
}
