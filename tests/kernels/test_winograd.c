/* Winograd's transforms against their matrices in double, alone and as whole convolutions, with rows and columns that do not exist. */
#include "tables.h"

#include "kernels/winograd.h"

static const struct { int m; double at[4][6], bt[6][6], g[6][3]; } f2 = {2, BF_WITH_POINTS(BF_AT_2, BF_POINTS_F2), BF_WITH_POINTS(BF_BT_2, BF_POINTS_F2), BF_WITH_POINTS(BF_G_2, BF_POINTS_F2)},
    f4 = {4, BF_WITH_POINTS(BF_AT_4, BF_POINTS_F4), BF_WITH_POINTS(BF_BT_4, BF_POINTS_F4), BF_WITH_POINTS(BF_G_4, BF_POINTS_F4)},
    f2x4 = {4, BF_WITH_POINTS(BF_AT_4, BF_POINTS_F2X4), BF_WITH_POINTS(BF_BT_4, BF_POINTS_F2X4), BF_WITH_POINTS(BF_G_4, BF_POINTS_F2X4)};

static const bf_algorithm algorithms[] = {BF_F2, BF_F2X4, BF_F4};

/* Entry (row, column) of a matrix, chosen by `down` and algorithm. */
#define ENTRY(matrix, algorithm, down, i, j) \
    ((algorithm) == BF_F4 ? f4.matrix[i][j] : (algorithm) == BF_F2 || (down) ? f2.matrix[i][j] : f2x4.matrix[i][j])

typedef enum side { INPUT, SPREAD, OUTPUT } side;

/* Entry of the one-dimensional transform from `from` to `to`. */
static double entry(side s, bf_algorithm a, bool down, int to, int from)
{
    return s == INPUT ? ENTRY(bt, a, down, to, from) : s == SPREAD ? ENTRY(at, a, down, from, to) : ENTRY(at, a, down, to, from);
}

/* Three tiles side by side over an image of which rows [top, bottom) and columns [left, right) exist. */
typedef struct strip {
    bf_winograd w;
    piece image; /* its pixels one after the other */
    int rows, columns;
} strip;

enum { TILES = 3, POSITION = TILES * BF_BLOCK + BF_LANES };

static strip new_strip(bf_algorithm a, side s, int lanes, int top, int bottom, int left, int cut)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(a);
    const int overlap = s == INPUT ? 2 : 0;
    strip t = {.rows = bottom - top};
    const int right = TILES * shape.mw + overlap - cut;
    t.columns = right - left;
    t.image = s == OUTPUT ? new_piece(t.rows * t.columns, lanes, lanes + 16) : normal_piece(t.rows * t.columns, lanes, lanes + 16, 0, 1);
    float *cells = guarded((size_t)shape.positions * POSITION);
    for (size_t i = 0; s == OUTPUT && i < (size_t)shape.positions * POSITION; i++) cells[i] = (float)random_normal();
    t.w = (bf_winograd){.algorithm = a, .tiles = TILES, .lanes = lanes, .row = t.columns * t.image.ld, .ld = t.image.ld, .top = top, .bottom = bottom,
                        .left = left, .right = right, .cells = cells, .position = POSITION};
    t.w.pixels = t.image.x - top * t.w.row - left * t.w.ld;
    return t;
}

/* Pixel (row, column) of a lane in tile coordinates; 0 where it does not exist. */
static double pixel(const strip *t, int row, int column, int lane)
{
    if (row < t->w.top || row >= t->w.bottom || column < t->w.left || column >= t->w.right) return 0;
    return *piece_at(t->image, (row - t->w.top) * t->columns + column - t->w.left, lane);
}

/* Element (i, j) of a tile's transform, and the error bound: each of the at most 12 terms on a path rounds once or twice. */
static double transformed(const strip *t, side s, int tile, int i, int j, int lane, double *bound)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(t->w.algorithm);
    const int extra = s == SPREAD ? 0 : 2, h = shape.mh + extra, width = shape.mw + extra;
    double sum = 0, magnitude = 0;
    for (int r = 0; r < h; r++)
        for (int c = 0; c < width; c++) {
            const double x = s == OUTPUT ? t->w.cells[(r * width + c) * POSITION + tile * BF_BLOCK + lane] : pixel(t, r, tile * shape.mw + c, lane);
            const double term = entry(s, t->w.algorithm, true, i, r) * entry(s, t->w.algorithm, false, j, c) * x;
            sum += term, magnitude += fabs(term);
        }
    *bound = 24 * ROUNDING * magnitude;
    return sum;
}

static void check_strip(const bf_kernels *k, strip *t, side s)
{
    const bf_winograd_shape shape = bf_winograd_shape_of(t->w.algorithm);
    (s == INPUT ? k->winograd_input : s == SPREAD ? k->winograd_spread : k->winograd_output)(&t->w);
    const int h = s == OUTPUT ? shape.mh : shape.mh + 2, width = s == OUTPUT ? shape.mw : shape.mw + 2;
    for (int tile = 0; tile < TILES; tile++)
        for (int i = 0; i < h; i++)
            for (int j = 0; j < width; j++)
                for (int lane = 0; lane < t->w.lanes; lane++) {
                    double bound;
                    const double want = transformed(t, s, tile, i, j, lane, &bound);
                    const int column = tile * shape.mw + j;
                    if (s != OUTPUT) check_close(t->w.cells[(i * width + j) * POSITION + tile * BF_BLOCK + lane], want, bound + LEAST);
                    else if (i < t->w.bottom && column < t->w.right) {
                        const double bias = t->w.bias ? t->w.bias[lane] : 0;
                        check_close(pixel(t, i, column, lane), want + bias, bound + 2 * ROUNDING * fabs(bias) + LEAST);
                    }
                }
    if (s == OUTPUT) check_gaps(t->image);
    for (int q = 0; s != OUTPUT && q < shape.positions; q++)
        for (int i = 0; i < POSITION; i++)
            if (i >= TILES * BF_BLOCK || i % BF_BLOCK >= t->w.lanes) assert_true(isnan(t->w.cells[q * POSITION + i]));
    check_guards();
}

static void transforms_follow_their_matrices(void **state)
{
    (void)state;
    static const int lanes[] = {16, 32}, cuts[] = {0, 1, 3, 5};
    FOR_EACH(a, algorithms) FOR_EACH(c, lanes) FOR_EACH(cut, cuts) FOR_EACH_TABLE(k) {
        const int mh = bf_winograd_shape_of(a).mh;
        test_case("winograd algorithm=%d lanes=%d cut=%d isa=%s", a, c, cut, k->isa);
        for (int missing = 0; missing < mh; missing++) {
            strip t = new_strip(a, INPUT, c, missing % 2, mh + 2 - missing / 2, cut % 2, cut);
            check_strip(k, &t, INPUT);
            t = new_strip(a, SPREAD, c, 0, mh - missing, 0, cut);
            check_strip(k, &t, SPREAD);
            t = new_strip(a, OUTPUT, c, 0, mh - missing, 0, cut);
            if (missing) t.w.bias = normal_vector(c, 0, 1);
            check_strip(k, &t, OUTPUT);
        }
    }
}

static void filters_follow_their_matrices(void **state)
{
    (void)state;
    FOR_EACH(a, algorithms) FOR_EACH_TABLE(k) {
        test_case("winograd filter algorithm=%d isa=%s", a, k->isa);
        const bf_winograd_shape shape = bf_winograd_shape_of(a);
        double taps[9][BF_BLOCK], back[9][BF_BLOCK], gradient[BF_WINOGRAD_POSITIONS][BF_BLOCK];
        float positions[BF_WINOGRAD_POSITIONS][BF_BLOCK];
        for (int t = 0; t < 9; t++) for (int i = 0; i < BF_BLOCK; i++) taps[t][i] = random_normal();
        for (int q = 0; q < BF_WINOGRAD_POSITIONS; q++) for (int i = 0; i < BF_BLOCK; i++) gradient[q][i] = random_normal();
        k->winograd_filter(a, (const double(*)[BF_BLOCK])taps, positions);
        k->winograd_filter_gradient(a, (const double(*)[BF_BLOCK])gradient, back);
        for (int lane = 0; lane < BF_BLOCK; lane++) {
            for (int q = 0; q < shape.positions; q++) {
                double want = 0;
                for (int t = 0; t < 9; t++) want += ENTRY(g, a, true, q / (shape.mw + 2), t / 3) * ENTRY(g, a, false, q % (shape.mw + 2), t % 3) * taps[t][lane];
                check_close(positions[q][lane], want, ROUNDING * fabs(want) + 1e-14);
            }
            for (int t = 0; t < 9; t++) {
                double want = 0;
                for (int q = 0; q < shape.positions; q++)
                    want += ENTRY(g, a, true, q / (shape.mw + 2), t / 3) * ENTRY(g, a, false, q % (shape.mw + 2), t % 3) * gradient[q][lane];
                check_close(back[t][lane], want, 1e-12);
            }
        }
    }
}

/* A convolution of one channel a lane through all transforms, and its weight gradient, on small integers: F2 has no rounding at all. */
static void integers_are_exact(void **state)
{
    (void)state;
    FOR_EACH(a, algorithms) FOR_EACH_TABLE(k) {
        test_case("winograd integers algorithm=%d isa=%s", a, k->isa);
        const bf_winograd_shape shape = bf_winograd_shape_of(a);
        strip x = new_strip(a, INPUT, 32, 0, shape.mh + 2, 0, 0), y = new_strip(a, OUTPUT, 32, 0, shape.mh, 0, 0), dy = new_strip(a, SPREAD, 32, 0, shape.mh, 0, 0);
        double taps[9][BF_BLOCK], sums[BF_WINOGRAD_POSITIONS][BF_BLOCK] = {{0}}, gradient[9][BF_BLOCK];
        float u[BF_WINOGRAD_POSITIONS][BF_BLOCK];
        for (int t = 0; t < 9; t++) for (int i = 0; i < BF_BLOCK; i++) taps[t][i] = random_int(-8, 8);
        FOR_LANES(x.image, j, i) *piece_at(x.image, j, i) = (float)random_int(-8, 8);
        FOR_LANES(dy.image, j, i) *piece_at(dy.image, j, i) = (float)random_int(-8, 8);
        k->winograd_filter(a, (const double(*)[BF_BLOCK])taps, u);
        k->winograd_input(&x.w);
        k->winograd_spread(&dy.w);
        for (int q = 0; q < shape.positions; q++)
            for (int i = 0; i < TILES * BF_BLOCK; i++) {
                y.w.cells[q * POSITION + i] = x.w.cells[q * POSITION + i] * u[q][i % BF_BLOCK];
                sums[q][i % BF_BLOCK] += (double)x.w.cells[q * POSITION + i] * (double)dy.w.cells[q * POSITION + i];
            }
        k->winograd_output(&y.w);
        k->winograd_filter_gradient(a, (const double(*)[BF_BLOCK])sums, gradient);
        const double exact = a == BF_F2 ? 0 : 1;
        for (int lane = 0; lane < 32; lane++) {
            double want[9] = {0};
            for (int row = 0; row < shape.mh; row++)
                for (int column = 0; column < TILES * shape.mw; column++) {
                    double sum = 0;
                    for (int t = 0; t < 9; t++) {
                        sum += taps[t][lane] * pixel(&x, row + t / 3, column + t % 3, lane);
                        want[t] += pixel(&dy, row, column, lane) * pixel(&x, row + t / 3, column + t % 3, lane);
                    }
                    check_close(pixel(&y, row, column, lane), sum, exact * 0.01);
                }
            for (int t = 0; t < 9; t++) check_close(gradient[t][lane], want[t], exact * 0.05);
        }
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(transforms_follow_their_matrices), test(filters_follow_their_matrices), test(integers_are_exact)};
    return run_all(tests);
}
