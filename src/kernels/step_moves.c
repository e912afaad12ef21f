/* Pixels, channels and weights that move: permuted channels, pixels made of two others, rows that become columns. */
#include "kernels/formulas.h"

/* -- channels -- */

/* Lanes a[0], b[0], a[1], b[1], ...: two vectors of them. */
BF_INLINE void interleave(vf a, vf b, vf *low, vf *high)
{
    vi to_low, to_high;
    BF_UNROLL
    for (int i = 0; i < V; i++) {
        to_low[i] = i / 2 + i % 2 * V;
        to_high[i] = (V + i) / 2 + i % 2 * V;
    }
    *low = __builtin_shuffle(a, b, to_low);
    *high = __builtin_shuffle(a, b, to_high);
}

BF_INLINE vf every_second(vf a, vf b)
{
    vi even;
    BF_UNROLL
    for (int i = 0; i < V; i++) even[i] = 2 * i;
    return __builtin_shuffle(a, b, even);
}

enum { NO_PATTERN, ZIP, UNZIP };

/* A shuffle by two groups alternates between two runs of channels; its inverse takes every second one. */
static int pattern_of(const int *index, int c)
{
    bool zip = true, unzip = true;
    for (int i = 0; i < c; i++) {
        zip &= index[i] == index[i % 2] + i / 2;
        unzip &= index[i] == index[0] + 2 * i;
    }
    return zip ? ZIP : unzip ? UNZIP : NO_PATTERN;
}

void BF_ISA_NAME(permute)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, int c, const int *index)
{
    const int pattern = pattern_of(index, c);
    for (int j = 0; j < n; j++, dst += ldd, src += lds) {
        if (pattern == ZIP) {
            for (int i = 0; i < c; i += 2 * V) {
                vf low, high;
                interleave(v_load(src + index[0] + i / 2), v_load(src + index[1] + i / 2), &low, &high);
                v_store(dst + i, low);
                if (i + V < c) v_store(dst + i + V, high);
            }
        } else if (pattern == UNZIP) {
            for (int i = 0; i < c; i += V) v_store(dst + i, every_second(v_load(src + index[0] + 2 * i), v_load(src + index[0] + 2 * i + V)));
        } else {
            for (int i = 0; i < c; i++) dst[i] = src[index[i]];
        }
    }
}

/* Lane l of a vector gets lane l/G*G + i: of the vector itself, or of the vectors before where a group is longer than one. */
BF_INLINE void spread_any(float *dst, const float *src, int n, const int G, const int C)
{
    for (int j = 0; j < n; j++, src += C, dst += C)
        BF_UNROLL
        for (int lane = 0; lane < C; lane += V) {
            const vf v = v_load(src + lane);
            BF_UNROLL
            for (int i = 0; i < G; i++) {
                vf out;
                if (G < V) {
                    vi from;
                    BF_UNROLL
                    for (int l = 0; l < V; l++) from[l] = l / G * G + i;
                    out = __builtin_shuffle(v, from);
                } else {
                    out = v_set(src[lane / G * G + i]);
                }
                v_store(dst + (ptrdiff_t)i * n * C + lane, out);
            }
        }
}

void BF_ISA_NAME(spread)(float *dst, const float *src, int n, int c, int group)
{
    switch (group) {
    case 2: BF_BY_C(c, spread_any, dst, src, n, 2); break;
    case 4: BF_BY_C(c, spread_any, dst, src, n, 4); break;
    default: BF_BY_C(c, spread_any, dst, src, n, 8); break;
    }
}

/* -- pixels -- */

BF_INLINE void blend_any(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, const bf_blend *blend, int n, const int c)
{
    for (int j = 0; j < n; j++, dst += ldd) {
        const float *first = src + blend[j].first * lds, *second = src + blend[j].second * lds;
        const vf weight = v_set(blend[j].weight), rest = v_set(1 - blend[j].weight);
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(dst + i, blend[j].weight == 0 ? v_load(first + i) : v_fma(weight, v_load(second + i), rest * v_load(first + i)));
    }
}
void BF_ISA_NAME(blend_pixels)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, const bf_blend *blend, int n, int c)
{
    BF_BY_C(c, blend_any, dst, ldd, src, lds, blend, n);
}

BF_INLINE void blend_grad_any(float *dx, ptrdiff_t ldx, const bf_blend *blend, const float *g, ptrdiff_t ldg, int n, const int c)
{
    for (int j = 0; j < n; j++, g += ldg) {
        float *first = dx + blend[j].first * ldx, *second = dx + blend[j].second * ldx;
        const vf weight = v_set(blend[j].weight), rest = v_set(1 - blend[j].weight);
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(first + i, v_fma(rest, v_load(g + i), v_load(first + i)));
        if (blend[j].weight == 0) continue;
        BF_UNROLL
        for (int i = 0; i < c; i += V) v_store(second + i, v_fma(weight, v_load(g + i), v_load(second + i)));
    }
}
void BF_ISA_NAME(blend_pixels_grad)(float *dx, ptrdiff_t ldx, const bf_blend *blend, const float *g, ptrdiff_t ldg, int n, int c)
{
    BF_BY_C(c, blend_grad_any, dx, ldx, blend, g, ldg, n);
}

/* -- weights -- */

/* Rows i and i + H trade the elements whose column has another bit H than their row: V/2, V/4, ..., 1 transpose a square. */
BF_INLINE void trade(vf square[V], const int H)
{
    vi low, high;
    BF_UNROLL
    for (int l = 0; l < V; l++) {
        low[l] = l & H ? V + l - H : l;
        high[l] = l & H ? V + l : l + H;
    }
    BF_UNROLL
    for (int i = 0; i < V; i++) {
        if (i & H) continue;
        const vf a = square[i], b = square[i + H];
        square[i] = __builtin_shuffle(a, b, low);
        square[i + H] = __builtin_shuffle(a, b, high);
    }
}

/* V rows of n <= V columns. What lies behind column n in memory is read along, but never beyond `end`. */
BF_INLINE void transpose_rows(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int n, const float *end)
{
    vf square[V];
    BF_UNROLL
    for (int i = 0; i < V; i++) {
        const float *row = src + i * lds;
        square[i] = (vf){0};
        if (row + V <= end) square[i] = v_load(row);
        else memcpy(&square[i], row, (size_t)n * sizeof *row);
    }
    if (V > 8) trade(square, 8);
    if (V > 4) trade(square, 4);
    trade(square, 2);
    trade(square, 1);
    BF_UNROLL
    for (int i = 0; i < V; i++)
        if (i < n) v_store(dst + i * ldd, square[i]);
}

void BF_ISA_NAME(transpose)(float *dst, ptrdiff_t ldd, const float *src, ptrdiff_t lds, int rows, int columns)
{
    const float *end = src + (rows - 1) * lds + columns;
    const int whole = columns - columns % V < columns - 2 ? columns : columns - columns % V, /* one or two columns are moved one by one */
              squares = rows - rows % V;
    for (int j = 0; j < whole; j += V)
        for (int i = 0; i < squares; i += V)
            transpose_rows(dst + j * ldd + i, ldd, src + i * lds + j, lds, columns - j < V ? columns - j : V, end);
    for (int c = 0; c < columns; c++)
        for (int i = c < whole ? squares : 0; i < rows; i++) dst[c * ldd + i] = src[i * lds + c];
}
