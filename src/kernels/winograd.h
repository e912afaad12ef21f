/* Winograd's algorithms: 3x3 filters at stride 1 in fewer multiplications (Lavin & Gray 2016), math.md 8.
 *
 * F(m, 3) makes m results of a 3-tap filter g from m + 2 values d with m + 2 products:
 *     y = A^T [ (G g) * (B^T d) ]
 * For interpolation points p_0 .. p_m and infinity (Toom & Cook), row or column j belonging to p_j, the last one to infinity:
 *     A^T[i][j] = p_j^i                          | infinity: 1 in the last row
 *     B^T[j]    = coefficients of prod (x - p_l), l != j  | all l
 *     G[j][k]   = p_j^k / prod (p_j - p_l), l != j        | infinity: 1 in the last column
 * The points are 0, +-P and, for m = 4, +-Q, all dyadic, so that these matrices are exact in float. In two dimensions F(mh, 3) runs
 * down and F(mw, 3) along: a tile of mh x mw results takes (mh + 2) * (mw + 2) products a channel pair, its positions. */
#ifndef BF_WINOGRAD_H
#define BF_WINOGRAD_H

#include "kernels/kernels.h"

/* P and Q of each algorithm in one dimension: F4's are where its error is least, F2X4's suit the F2 in its other dimension. */
#define BF_POINTS_F2 1.0
#define BF_POINTS_F4 0.625, 1.5
#define BF_POINTS_F2X4 0.625, 1.25

/* The matrices for points 0, p, -p (and q, -q). */
#define BF_AT_2(p) {{1, 1, 1, 0}, {0, (p), -(p), 1}}
#define BF_BT_2(p) {{-(p) * (p), 0, 1, 0}, {0, (p), 1, 0}, {0, -(p), 1, 0}, {0, -(p) * (p), 0, 1}}
#define BF_G_2(p) {{-1 / ((p) * (p)), 0, 0}, BF_G_ROW(p, 2 * (p) * (p)), BF_G_ROW(-(p), 2 * (p) * (p)), {0, 0, 1}}
#define BF_AT_4(p, q) { \
    {1, 1, 1, 1, 1, 0}, {0, (p), -(p), (q), -(q), 0}, {0, (p) * (p), (p) * (p), (q) * (q), (q) * (q), 0}, \
    {0, (p) * (p) * (p), -(p) * (p) * (p), (q) * (q) * (q), -(q) * (q) * (q), 1}}
#define BF_BT_4(p, q) { \
    {(p) * (p) * (q) * (q), 0, -(p) * (p) - (q) * (q), 0, 1, 0}, \
    {0, -(p) * (q) * (q), -(q) * (q), (p), 1, 0}, {0, (p) * (q) * (q), -(q) * (q), -(p), 1, 0}, \
    {0, -(q) * (p) * (p), -(p) * (p), (q), 1, 0}, {0, (q) * (p) * (p), -(p) * (p), -(q), 1, 0}, \
    {0, (p) * (p) * (q) * (q), 0, -(p) * (p) - (q) * (q), 0, 1}}
#define BF_G_4(p, q) { \
    {1 / ((p) * (p) * (q) * (q)), 0, 0}, \
    BF_G_ROW(p, 2 * (p) * (p) * ((p) * (p) - (q) * (q))), BF_G_ROW(-(p), 2 * (p) * (p) * ((p) * (p) - (q) * (q))), \
    BF_G_ROW(q, 2 * (q) * (q) * ((q) * (q) - (p) * (p))), BF_G_ROW(-(q), 2 * (q) * (q) * ((q) * (q) - (p) * (p))), {0, 0, 1}}
#define BF_G_ROW(p, product) {1 / (product), (p) / (product), (p) * (p) / (product)}
#define BF_WITH_POINTS(matrix, ...) matrix(__VA_ARGS__)

enum { BF_WINOGRAD_POSITIONS = 36 }; /* most of a tile */

typedef struct bf_winograd_shape {
    int mh, mw;    /* results of a tile */
    int positions;
} bf_winograd_shape;

/* `algorithm` is not BF_DIRECT. */
static inline bf_winograd_shape bf_winograd_shape_of(bf_algorithm algorithm)
{
    static const bf_winograd_shape shapes[BF_ALGORITHM_COUNT] = {[BF_F2] = {2, 2, 16}, [BF_F2X4] = {2, 4, 24}, [BF_F4] = {4, 4, 36}};
    return shapes[algorithm];
}

/* Between pixels and positions, for a row of tiles side by side, of one block. Position q of tile t is at cells + q*position + t*BF_BLOCK. */
struct bf_winograd {
    bf_algorithm algorithm;
    int tiles, lanes;
    float *pixels;             /* where the first tile's first row and column are, if they exist */
    ptrdiff_t row, ld;         /* floats from row to row, from pixel to pixel */
    int top, bottom;           /* rows [top, bottom) of the tiles exist, */
    int left, right;           /* and columns [left, right), all counted from `pixels`; the others are zero */
    float *cells;
    ptrdiff_t position;
    const float *bias;         /* added to results; or NULL */
};

#endif
