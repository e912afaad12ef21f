/* What the kernel tests share: the tables under test, and pieces of blocks. */
#ifndef BF_TESTS_TABLES_H
#define BF_TESTS_TABLES_H

#include "support.h"

#include "kernels/kernels.h"

#define ROUNDING 0x1p-24 /* relative error of one float operation */
#define LEAST 0x1p-149   /* the smallest denormal */

extern const bf_kernels bf_kernels_geometry;

/* The tables this machine can run, then the test-only one; NULL past the end. */
static inline const bf_kernels *table_at(int index)
{
    int count = 0;
    while (bf_kernels_at(count)) count++;
    if (index < count) return bf_kernels_at(index);
#ifdef BF_TEST_GEOMETRY
    if (index == count && bf_kernels_find("avx2")) return &bf_kernels_geometry;
#endif
    return NULL;
}
#define FOR_EACH_TABLE(table) \
    for (int table##_at = 0; table##_at >= 0; table##_at = -1) \
        for (const bf_kernels *table; (table = table_at(table##_at)) != NULL; table##_at++)

/* A piece: n pixels by c lanes, ld floats from pixel to pixel; lanes past c are there in all pixels but the last. */
typedef struct piece {
    float *x;
    ptrdiff_t ld;
    int n, c;
} piece;

static inline piece new_piece(int n, int c, ptrdiff_t ld) { return (piece){guarded((size_t)(n - 1) * (size_t)ld + (size_t)c), ld, n, c}; }
static inline float *piece_at(piece p, int pixel, int lane) { return &p.x[pixel * p.ld + lane]; }
static inline piece normal_piece(int n, int c, ptrdiff_t ld, double mean, double std)
{
    const piece p = new_piece(n, c, ld);
    for (int j = 0; j < n; j++) fill_normal(piece_at(p, j, 0), (size_t)c, mean, std);
    return p;
}
/* A copy with another distance between pixels; lanes past c stay NaN. */
static inline piece copy_piece(piece p, ptrdiff_t ld)
{
    const piece q = new_piece(p.n, p.c, ld);
    for (int j = 0; j < p.n; j++) memcpy(piece_at(q, j, 0), piece_at(p, j, 0), (size_t)p.c * sizeof(float));
    return q;
}
static inline float *normal_vector(int c, double mean, double std)
{
    float *v = guarded((size_t)c);
    fill_normal(v, (size_t)c, mean, std);
    return v;
}

/* Equal bits in the lanes; of a NaN the sign is the compiler's choice, which operand of a product comes first. */
static inline void check_same_piece(piece got, piece want)
{
    for (int j = 0; j < got.n; j++)
        for (int i = 0; i < got.c; i++)
            if (!isnan(*piece_at(got, j, i)) || !isnan(*piece_at(want, j, i))) check_same_bits(piece_at(got, j, i), piece_at(want, j, i), 1);
}
static inline void check_gaps(piece p)
{
    for (int j = 0; j + 1 < p.n; j++)
        for (ptrdiff_t lane = p.c; lane < p.ld; lane++) assert_true(isnan(p.x[j * p.ld + lane]));
}

#define FOR_LANES(p, j, i) for (int j = 0; j < (p).n; j++) for (int i = 0; i < (p).c; i++)

#endif
