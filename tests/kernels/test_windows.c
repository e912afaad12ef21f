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
    w->taps = (bf_taps){.count = windows[which].kw * windows[which].kh, .offset = w->offset};
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
                k->max_taps_grad(dx.x, w.offset, w.image.x, w.step, w.taps, g.x, g.ld, n, c);
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

/* Rows of depthwise convolutions: taps, step, padding, dilation; widths around the blocks of outputs. */
static const struct { int taps, step, pad, dilation; } rows[] = {
    {1, 1, 0, 1}, {2, 1, 1, 1}, {3, 1, 1, 1}, {3, 1, 0, 1}, {5, 1, 2, 1}, {7, 1, 3, 1}, {3, 2, 1, 1}, {5, 2, 2, 1}, {7, 2, 3, 1}, {3, 1, -1, 1}, {4, 1, 2, 1},
    {3, 1, 2, 2}, {9, 1, 4, 1}, {3, 3, 1, 1}, {2, 1, 1, 2}, {3, 1, 4, 1}, {1, 1, -2, 1},
};
enum { MOST_LINES = 5, MOST_ROW_TAPS = 9 };

typedef struct row {
    bf_dw f;
    bf_dw_line line[MOST_LINES];
} row;

/* `width` columns and as many outputs as two more than see all of them, so that some see nothing. */
static int make_row(row *r, size_t which, int width, int lines, int c)
{
    r->f = (bf_dw){.lines = r->line, .count = lines, .taps = rows[which].taps, .step = rows[which].step, .pad = rows[which].pad, .dilation = rows[which].dilation,
                   .width = width};
    for (int i = 0; i < lines; i++)
        r->line[i] = (bf_dw_line){normal_piece(width, c, c, 0, 1).x, normal_vector(r->f.taps * c, 0, 1), normal_vector(r->f.taps * c, 0, 1)};
    return width / r->f.step + 2;
}

/* Index of the column that tap k of output j sees, or -1. */
static int column(const bf_dw *f, int j, int k)
{
    const int q = j * f->step - f->pad + k * f->dilation;
    return q >= 0 && q < f->width ? q : -1;
}

static void depthwise_rows(void **state)
{
    (void)state;
    static const int widths[] = {1, 2, 6, 7, 8, 19};
    FOR_EACH(c, cs) FOR_EACH(width, widths)
        for (size_t which = 0; which < COUNT_OF(rows); which++)
            for (int lines = 0; lines <= MOST_LINES; lines++) FOR_EACH_TABLE(k) {
                test_case("dw_row row=%zu width=%d lines=%d c=%d isa=%s", which, width, lines, c, k->isa);
                row r;
                const int n = make_row(&r, which, width, lines, c);
                const float *bias = lines % 2 ? normal_vector(c, 0, 1) : NULL;
                const piece y = new_piece(n, c, LDG);
                r.f.past = lines % 3 ? guarded((size_t)(n * y.ld)) : NULL;
                k->dw_row(lines % 3 == 2 ? NULL : y.x, y.ld, &r.f, bias, n, c);
                if (lines % 3 == 2) for (int j = 0; j < n; j++) memcpy(y.x + j * y.ld, r.f.past + j * y.ld, (size_t)c * sizeof(float));
                FOR_LANES(y, j, i) {
                    double sum = bias ? bias[i] : 0, magnitude = fabs(sum);
                    for (int l = 0; l < lines; l++)
                        for (int t = 0; t < r.f.taps; t++) {
                            if (column(&r.f, j, t) < 0) continue;
                            const double term = (double)r.line[l].w[t * c + i] * r.line[l].x[column(&r.f, j, t) * c + i];
                            sum += term, magnitude += fabs(term);
                        }
                    check_close(*piece_at(y, j, i), sum, (lines * r.f.taps + 2) * ROUNDING * magnitude);
                    if (r.f.past) check_close(r.f.past[j * y.ld + i], *piece_at(y, j, i), 0);
                }
                check_gaps(y);
                check_guards();
            }
}

static void depthwise_weight_gradients(void **state)
{
    (void)state;
    static const int widths[] = {1, 2, 7, 19};
    FOR_EACH(c, cs) FOR_EACH(width, widths)
        for (size_t which = 0; which < COUNT_OF(rows); which++)
            for (int lines = 1; lines <= MOST_LINES; lines++) FOR_EACH_TABLE(k) {
                test_case("dw_row_weight_grad row=%zu width=%d lines=%d c=%d isa=%s", which, width, lines, c, k->isa);
                row r;
                const int n = make_row(&r, which, width, lines, c);
                const piece g = normal_piece(n, c, LDG, 0, 1);
                double want[MOST_LINES * MOST_ROW_TAPS * BF_BLOCK], magnitude[MOST_LINES * MOST_ROW_TAPS * BF_BLOCK];
                const int each = r.f.taps * c;
                for (int l = 0; l < lines; l++)
                    for (int q = 0; q < each; q++) {
                        double sum = r.line[l].dw[q], all = fabs(sum);
                        for (int j = 0; j < n; j++) {
                            if (column(&r.f, j, q / c) < 0) continue;
                            const double term = (double)*piece_at(g, j, q % c) * r.line[l].x[column(&r.f, j, q / c) * c + q % c];
                            sum += term, all += fabs(term);
                        }
                        want[l * each + q] = sum, magnitude[l * each + q] = all;
                    }
                k->dw_row_weight_grad(&r.f, g.x, g.ld, n, c);
                for (int q = 0; q < lines * each; q++) check_close(r.line[q / each].dw[q % each], want[q], (n + 2) * ROUNDING * magnitude[q]);
                check_guards();
            }
}

static void spreads(void **state)
{
    (void)state;
    static const int groups[] = {2, 4, 8};
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH(group, groups) FOR_EACH_TABLE(k) {
        test_case("spread n=%d c=%d group=%d isa=%s", n, c, group, k->isa);
        const float *src = normal_vector(n * c, 0, 1);
        float *dst = guarded((size_t)(n * c * group));
        k->spread(dst, src, n, c, group);
        for (int i = 0; i < group; i++)
            for (int j = 0; j < n; j++)
                for (int lane = 0; lane < c; lane++) check_close(dst[(i * n + j) * c + lane], src[j * c + lane / group * group + i], 0);
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(max_pooling), test(average_pooling), test(depthwise_rows), test(depthwise_weight_gradients), test(spreads)};
    return run_all(tests);
}
