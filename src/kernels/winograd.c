/* The transforms of Winograd's algorithms between an image and the positions of its tiles (winograd.h). */
#include "kernels/winograd.h"

#include "kernels/isa.h"

enum { MOST = 6 }; /* values of a tile in one dimension */

typedef struct transforms {
    int m;
    float at[MOST - 2][MOST], bt[MOST][MOST];
} transforms;
#define TRANSFORMS(m, points) {m, BF_WITH_POINTS(BF_AT_##m, points), BF_WITH_POINTS(BF_BT_##m, points)}
static const transforms f2 = TRANSFORMS(2, BF_POINTS_F2), f4 = TRANSFORMS(4, BF_POINTS_F4), f2x4 = TRANSFORMS(4, BF_POINTS_F2X4);

/* -- one dimension, on vectors of channels -- */

/* sum + c*x for a constant c: 0 costs nothing, 1 an addition. `begun`: there is a sum. */
BF_INLINE vf add_term(vf sum, const float c, vf x, bool *begun)
{
    if (c == 0) return sum;
    const bool first = !*begun;
    *begun = true;
    if (first) return c == 1 ? x : c == -1 ? -x : v_set(c) * x;
    return c == 1 ? sum + x : c == -1 ? sum - x : v_fma(v_set(c), x, sum);
}

/* y = M x; M is m, or its transpose. Terms are taken from the last one down: it is often a 1. */
BF_INLINE void multiply(const float m[][MOST], const bool transposed, const int rows, const int columns, const vf *x, vf *y)
{
    BF_UNROLL
    for (int i = 0; i < rows; i++) {
        bool begun = false;
        vf sum = {0};
        BF_UNROLL
        for (int k = columns - 1; k >= 0; k--) sum = add_term(sum, transposed ? m[k][i] : m[i][k], x[k], &begun);
        y[i] = sum;
    }
}

/* -- rows of tiles -- */

static const float zeros[BF_BLOCK] __attribute__((aligned(64)));

/* The rows of the tiles as pointers, and what a column further is; rows that do not exist stay at zero. */
typedef struct lines {
    const float *at[MOST];
    ptrdiff_t step[MOST];
} lines;

BF_INLINE lines lines_of(const bf_winograd *w, const int count)
{
    lines l;
    BF_UNROLL
    for (int i = 0; i < count; i++) {
        const bool exists = i >= w->top && i < w->bottom;
        l.at[i] = exists ? w->pixels + i * w->row : zeros;
        l.step[i] = exists ? w->ld : 0;
    }
    return l;
}

/* A tile of values from column `column` on, whose transform has ah x aw positions: down first, then along.
 * inner: all its columns exist. */
BF_INLINE void scatter_tile(const bf_winograd *w, const lines *l, int column, int lane, float *cells, const transforms *down,
                            const transforms *along, const bool spread, const bool inner)
{
    const int ah = down->m + 2, aw = along->m + 2, h = spread ? down->m : ah, width = spread ? along->m : aw;
    vf half[MOST][MOST]; /* [column][row] */
    BF_UNROLL
    for (int j = 0; j < width; j++) {
        vf x[MOST];
        const bool exists = inner || (column + j >= w->left && column + j < w->right);
        BF_UNROLL
        for (int i = 0; i < h; i++) x[i] = exists ? v_load(l->at[i] + (column + j) * l->step[i] + lane) : (vf){0};
        if (spread) multiply(down->at, true, ah, h, x, half[j]);
        else multiply(down->bt, false, ah, h, x, half[j]);
    }
    BF_UNROLL
    for (int i = 0; i < ah; i++) {
        vf x[MOST], y[MOST];
        BF_UNROLL
        for (int j = 0; j < width; j++) x[j] = half[j][i];
        if (spread) multiply(along->at, true, aw, width, x, y);
        else multiply(along->bt, false, aw, width, x, y);
        BF_UNROLL
        for (int j = 0; j < aw; j++) v_store(cells + (i * aw + j) * w->position, y[j]);
    }
}

/* spread: A x A^T of tiles side by side; else B^T x B of tiles that overlap by two. */
BF_INLINE void scatter(const bf_winograd *w, const transforms *down, const transforms *along, const bool spread)
{
    const int width = spread ? along->m : along->m + 2;
    const lines l = lines_of(w, spread ? down->m : down->m + 2);
    for (int t = 0; t < w->tiles; t++) {
        const int column = t * along->m;
        const bool inner = column >= w->left && column + width <= w->right;
        for (int lane = 0; lane < w->lanes; lane += V) {
            float *cells = w->cells + t * BF_BLOCK + lane;
            if (inner) scatter_tile(w, &l, column, lane, cells, down, along, spread, true);
            else scatter_tile(w, &l, column, lane, cells, down, along, spread, false);
        }
    }
}

/* Results A^T X A of one tile. inner: all of them exist. */
BF_INLINE void gather_tile(const bf_winograd *w, int column, int lane, const float *cells, const transforms *down, const transforms *along,
                           const bool inner)
{
    const int ah = down->m + 2, aw = along->m + 2, mh = down->m, mw = along->m;
    const vf bias = w->bias ? v_load(w->bias + lane) : (vf){0};
    vf half[MOST][MOST]; /* [row][column] */
    BF_UNROLL
    for (int i = 0; i < ah; i++) {
        vf x[MOST];
        BF_UNROLL
        for (int j = 0; j < aw; j++) x[j] = v_load(cells + (i * aw + j) * w->position);
        multiply(along->at, false, mw, aw, x, half[i]);
    }
    BF_UNROLL
    for (int j = 0; j < mw; j++) {
        vf x[MOST], y[MOST];
        BF_UNROLL
        for (int i = 0; i < ah; i++) x[i] = half[i][j];
        multiply(down->at, false, mh, ah, x, y);
        if (!inner && column + j >= w->right) continue;
        BF_UNROLL
        for (int i = 0; i < mh; i++)
            if (inner || i < w->bottom) v_store(w->pixels + i * w->row + (column + j) * w->ld + lane, y[i] + bias);
    }
}

BF_INLINE void gather(const bf_winograd *w, const transforms *down, const transforms *along)
{
    for (int t = 0; t < w->tiles; t++) {
        const int column = t * along->m;
        const bool inner = w->bottom >= down->m && column + along->m <= w->right;
        for (int lane = 0; lane < w->lanes; lane += V) {
            const float *cells = w->cells + t * BF_BLOCK + lane;
            if (inner) gather_tile(w, column, lane, cells, down, along, true);
            else gather_tile(w, column, lane, cells, down, along, false);
        }
    }
}

#define BY_ALGORITHM(w, f, ...) do { \
    switch ((w)->algorithm) { \
    case BF_F2X4: f(w, &f2, &f2x4 __VA_ARGS__); break; \
    case BF_F4: f(w, &f4, &f4 __VA_ARGS__); break; \
    default: f(w, &f2, &f2 __VA_ARGS__); break; \
    } } while (0)

void BF_ISA_NAME(winograd_input)(const bf_winograd *w) { BY_ALGORITHM(w, scatter, , false); }
void BF_ISA_NAME(winograd_spread)(const bf_winograd *w) { BY_ALGORITHM(w, scatter, , true); }
void BF_ISA_NAME(winograd_output)(const bf_winograd *w) { BY_ALGORITHM(w, gather, ); }
