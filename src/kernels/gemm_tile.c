/* The batch-reduce GEMM of one tile (kernels.h): where a step spends its time.
 *
 * A register tile is R vectors of rows (output channels) by N columns. Its R*N sums stay in registers over all pairs and all k,
 * and one k is R loads of a, N broadcasts of b, R*N multiply-adds. Every R by N that occurs is a function of its own, made by
 * inlining with constants; the tile of a call is cut into them, its columns into pieces as equal as can be: 13 is 5+4+4, as a
 * machine with two multiply-adds of latency 4 a cycle needs 8 sums to be busy. Where a piece is too narrow for that, it takes
 * twice the rows.
 * The loop over k is not unrolled: the whole loop is some 20 instructions that run at the peak, and GCC spills sums when it is. */
#include "kernels/isa.h"

enum {
    FORM_NN, /* bk = 1: forward, data gradient */
    FORM_NT, /* bn = 1: weight gradient */
    FORM_ANY,
    FORMS,
    PREFETCH_EVERY = 16, /* k */
    L1_FLOATS = 7 << 10 /* 28 KiB: what fits every first level cache */
};

/* The register tiles X(R, N) of each form; the one that nobody hurries gets few. */
#if BF_VECTOR == 16
/* 32 registers, b is broadcast from memory: 28 sums; 14 at m = 16. */
#define COLUMNS(X, R) X(R, 1) X(R, 2) X(R, 3) X(R, 4) X(R, 5) X(R, 6) X(R, 7) X(R, 8) X(R, 9) X(R, 10) X(R, 11) X(R, 12) X(R, 13) X(R, 14)
#define SHAPES_NN(X) COLUMNS(X, 1) COLUMNS(X, 2)
#define SHAPES_NT(X) SHAPES_NN(X)
#define SHAPES_ANY(X) X(1, 1) X(1, 2) X(1, 3) X(1, 4) X(2, 1) X(2, 2) X(2, 3) X(2, 4)
enum { ROWS = 2, MOST_NN = 14, MOST_NT = 14, MOST_ANY = 4, WIDE_ROWS = 2, WIDE_MOST = 0 };
#elif defined(BF_NEON)
/* 32 registers, b a register of 4 values picked by lane: 16 sums and 8 of b, or 24 sums and 3 of b. */
#define SHAPES_ANY(X) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(4, 1) X(4, 2) X(4, 3) X(4, 4)
#define SHAPES_NN(X) SHAPES_ANY(X) X(2, 5) X(2, 6) X(2, 7) X(2, 8)
#define SHAPES_NT(X) SHAPES_NN(X) X(2, 9) X(2, 10) X(2, 11) X(2, 12)
enum { ROWS = 2, MOST_NN = 8, MOST_NT = 12, MOST_ANY = 4, WIDE_ROWS = 4, WIDE_MOST = 4 };
#else
/* 16 registers: 12 sums */
#define SHAPES_NN(X) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(2, 5) X(2, 6) X(4, 1) X(4, 2) X(4, 3)
#define SHAPES_NT(X) SHAPES_NN(X)
#define SHAPES_ANY(X) X(2, 1) X(2, 2) X(2, 3) X(2, 4) X(4, 1) X(4, 2) X(4, 3)
enum { ROWS = 2, MOST_NN = 6, MOST_NT = 6, MOST_ANY = 4, WIDE_ROWS = 4, WIDE_MOST = 3 };
#endif

/* Vector r of the rows of one k: rows lie in panels of BF_LANES. */
BF_INLINE vf load_rows(const float *a, ptrdiff_t panel, int r) { return v_load(a + r * V / BF_LANES * panel + r * V % BF_LANES); }

/* One k: sums[j*R + r] += a[r] * b[j*bn] */
BF_INLINE void k_step(vf *sums, const float *a, ptrdiff_t panel, const float *b, ptrdiff_t bn, const int R, const int N)
{
    vf av[4];
    BF_UNROLL
    for (int r = 0; r < R; r++) av[r] = load_rows(a, panel, r);
    BF_UNROLL
    for (int j = 0; j < N; j++) {
        const vf bv = v_set(b[j * bn]);
        BF_UNROLL
        for (int r = 0; r < R; r++) sums[j * R + r] = v_fma(av[r], bv, sums[j * R + r]);
    }
}

#ifdef BF_NEON
/* NEON multiplies by a lane of a register; GCC spills sums when it is left to load lanes one by one. */

/* One k, columns side by side: a vector of b is 4 columns. */
BF_INLINE void k_step_lanes(vf *sums, const float *a, ptrdiff_t panel, const float *b, const int R, const int N)
{
    vf av[4], bv[3];
    BF_UNROLL
    for (int r = 0; r < R; r++) av[r] = load_rows(a, panel, r);
    BF_UNROLL
    for (int j = 0; j < N / V; j++) bv[j] = v_load(b + j * V);
    BF_UNROLL
    for (int j = 0; j < N; j++)
        BF_UNROLL
        for (int r = 0; r < R; r++) sums[j * R + r] = v_fma(av[r], v_set(j < N / V * V ? bv[j / V][j % V] : b[j]), sums[j * R + r]);
}

/* Four k, side by side in b: a vector of b is 4 k of a column. */
BF_INLINE void four_k_steps(vf *sums, const float *a, ptrdiff_t lda, ptrdiff_t panel, const float *b, ptrdiff_t bn, const int R, const int N)
{
    vf av[4], bv[8];
    BF_UNROLL
    for (int j = 0; j < N; j++) bv[j] = v_load(b + j * bn);
    BF_UNROLL
    for (int k = 0; k < V; k++, a += lda) {
        BF_UNROLL
        for (int r = 0; r < R; r++) av[r] = load_rows(a, panel, r);
        BF_UNROLL
        for (int j = 0; j < N; j++)
            BF_UNROLL
            for (int r = 0; r < R; r++) sums[j * R + r] = v_fma(av[r], v_set(bv[j][k]), sums[j * R + r]);
    }
}
#endif

/* What is to be fetched into L2, in registers: `rate` bytes with every k. */
typedef struct stream {
    const char *at, *end;
    ptrdiff_t rate, due; /* due: bytes of the k behind, less than a line */
} stream;

/* The range of p under way; `idle` where there is none. */
BF_INLINE stream stream_from(const bf_prefetch *p, const void *idle)
{
    if (!p || p->current >= p->count) return (stream){idle, (const char *)UINTPTR_MAX, 0, 0};
    return (stream){p->range[p->current].at, p->range[p->current].end, p->lines_per_step * (64 / PREFETCH_EVERY), 0};
}

BF_INLINE void stream_keep(const stream *s, bf_prefetch *p)
{
    if (p && p->current < p->count) p->range[p->current].at = s->at;
}

/* The next range where this one is through. */
BF_INLINE stream stream_next(const stream *s, bf_prefetch *p, const void *idle)
{
    p->range[p->current++].at = s->end;
    return stream_from(p, idle);
}

/* The lines of k steps at once. */
BF_INLINE void stream_step(stream *s, int k)
{
    for (s->due += k * s->rate; s->due >= 64; s->due -= 64, s->at += 64) __builtin_prefetch(s->at, 0, 2);
}

/* k products of one pair of the weight gradient, one line fetched with each: a loop of its own, as one that stops for a fetch costs 5 to 10 %. */
BF_INLINE void k_steps_fetching(vf *sums, const float *a, ptrdiff_t lda, ptrdiff_t panel, const float *b, ptrdiff_t bk, int k, stream *fetch, const int R, const int N)
{
    for (; k > 0; k--, a += lda, b += bk, fetch->at += fetch->rate) {
        __builtin_prefetch(fetch->at, 0, 2);
#ifdef BF_NEON
        k_step_lanes(sums, a, panel, b, R, N);
#else
        k_step(sums, a, panel, b, 1, R, N);
#endif
    }
}

/* k products of one pair */
BF_INLINE void k_steps(vf *sums, const float *a, ptrdiff_t lda, ptrdiff_t panel, const float *b, ptrdiff_t bk, ptrdiff_t bn, int k,
                       const int form, const int R, const int N)
{
#ifdef BF_NEON
    if (form == FORM_NN)
        for (; k >= V; k -= V, a += V * lda, b += V) four_k_steps(sums, a, lda, panel, b, bn, R, N);
#endif
    (void)form;
    for (; k > 0; k--, a += lda, b += bk) k_step(sums, a, panel, b, bn, R, N);
}

/* What the columns read 16 k from here on, for one part of a pair, into L1: x moves on with every pair, where no hardware looks. */
BF_INLINE void prefetch_columns(const float *b, ptrdiff_t bn, const int N)
{
    BF_UNROLL
    for (int j = 0; j < N; j++) __builtin_prefetch(b + j * bn, 0, 3);
}

/* What the next register tile adds to: a weight gradient is far larger than its operands, and comes from where the last visit left it. */
BF_INLINE void prefetch_sums(const float *c, ptrdiff_t ldc, const int R, const int N)
{
    BF_UNROLL
    for (int q = 0; q < N; q++)
        BF_UNROLL
        for (int i = 0; i < R * V; i += BF_LANES) __builtin_prefetch(c + q * ldc + i, 0, 3);
}

/* `pieces` register tiles side by side, from column j on. */
BF_INLINE void tile(const bf_gemm *g, int i, int j, int pieces, const int form, const int R, const int N)
{
    const ptrdiff_t lda = g->lda, ldc = g->ldc, panel = g->a_panel, bk = form == FORM_NN ? 1 : g->bk, bn = form == FORM_NT ? 1 : g->bn;
    const ptrdiff_t rows = i / BF_LANES * panel + i % BF_LANES;
    bf_prefetch *const prefetch = g->prefetch;
    float *c = g->c + j * ldc + i;
    const bool apart = form == FORM_NT && g->accumulate && g->apart;
    const bool storing = form == FORM_NN && prefetch && prefetch->storing < prefetch->stores;
    stream fetch = stream_from(prefetch, g->c);
    int since = 0; /* k since the last lines were stored */
    for (; pieces > 0; pieces--, j += N, c += N * ldc) {
        vf sums[28];
        BF_UNROLL
        for (int q = 0; q < R * N; q++) sums[q] = g->accumulate && !apart ? v_load(c + q / R * ldc + q % R * V) : (vf){0};
        if (form == FORM_NT) prefetch_sums(j + N < g->n ? c + N * ldc : g->c + (i + R * V) % g->m, ldc, R, N);
        for (const bf_gemm_pair *pair = g->pairs, *end = g->pairs + g->count; pair < end; pair++) {
            const float *a = pair->a + rows, *b = pair->b + j * bn, *ahead = pair + 1 < end ? pair[1].b + j * bn : g->pairs->b + (j + N) * bn;
            if (fetch.at >= fetch.end) fetch = stream_next(&fetch, prefetch, g->c);
            if (form == FORM_NT) {
                k_steps_fetching(sums, a, lda, panel, b, bk, pair->k, &fetch, R, N);
                continue;
            }
            for (int k = pair->k, part; k > 0; k -= part, a += part * lda, b += part * bk, ahead += part) {
                part = k < PREFETCH_EVERY ? k : PREFETCH_EVERY;
                if (form == FORM_NN) prefetch_columns(ahead, bn, N);
                stream_step(&fetch, part);
                k_steps(sums, a, lda, panel, b, bk, bn, part, form, R, N);
                since += part;
                if (!storing || since < PREFETCH_EVERY) continue;
                since -= PREFETCH_EVERY;
                store_step(prefetch);
            }
        }
        BF_UNROLL
        for (int q = 0; q < R * N; q++) v_store(c + q / R * ldc + q % R * V, apart ? sums[q] + v_load(c + q / R * ldc + q % R * V) : sums[q]);
    }
    stream_keep(&fetch, prefetch);
}

#define TILE(form, R, N) static void tile_##form##_##R##_##N(const bf_gemm *g, int i, int j, int pieces) { tile(g, i, j, pieces, FORM_##form, R, N); }
#define TILE_NN(R, N) TILE(NN, R, N)
#define TILE_NT(R, N) TILE(NT, R, N)
#define TILE_ANY(R, N) TILE(ANY, R, N)
SHAPES_NN(TILE_NN)
SHAPES_NT(TILE_NT)
SHAPES_ANY(TILE_ANY)

#define ENTRY_NN(R, N) [R][N] = tile_NN_##R##_##N,
#define ENTRY_NT(R, N) [R][N] = tile_NT_##R##_##N,
#define ENTRY_ANY(R, N) [R][N] = tile_ANY_##R##_##N,
typedef void tile_fn(const bf_gemm *g, int i, int j, int pieces);
static tile_fn *const tiles[FORMS][5][15] = {
    [FORM_NN] = {SHAPES_NN(ENTRY_NN)},
    [FORM_NT] = {SHAPES_NT(ENTRY_NT)},
    [FORM_ANY] = {SHAPES_ANY(ENTRY_ANY)},
};

/* `pieces` of n columns from j on, for the rows from i on; narrow ones take more rows at once, every other time. */
static void columns(const bf_gemm *g, int form, int i, int j, int n, int pieces)
{
    const bool wide = n <= WIDE_MOST && g->m >= WIDE_ROWS * V;
    if (!pieces || (wide && i % (WIDE_ROWS * V))) return;
    tiles[form][wide ? WIDE_ROWS : g->m < ROWS * V ? 1 : ROWS][n](g, i, j, pieces);
}

/* Rows outermost: their panel of a comes from L2 once for all columns if the batch is short, and b has been read by it when the
 * next one comes. Columns are cut into pieces as equal as can be; those of one width are one call, as the branches of a register tile
 * repeat themselves then. */
static void all_columns(const bf_gemm *g, int form)
{
    static const int most[FORMS] = {MOST_NN, MOST_NT, MOST_ANY};
    const int pieces = (g->n + most[form] - 1) / most[form], n = g->n / pieces, longer = g->n % pieces;
    for (int i = 0; i < g->m; i += g->m < ROWS * V ? V : ROWS * V) {
        columns(g, form, i, 0, n + 1, longer);
        columns(g, form, i, longer * (n + 1), n, pieces - longer);
    }
}

/* A pair of more than `most` k, in parts as equal as can be. */
static void long_pair(bf_gemm *g, bf_gemm_pair rest, int form, int most)
{
    for (int parts = (rest.k + most - 1) / most; parts > 0; parts--) {
        const bf_gemm_pair now = {rest.a, rest.b, rest.k / parts};
        g->pairs = &now, g->count = 1;
        all_columns(g, form);
        g->accumulate = true;
        rest = (bf_gemm_pair){rest.a + now.k * g->lda, rest.b + now.k * g->bk, rest.k - now.k};
    }
}

/* In the weight gradient both operands are new in every pair, and every register tile visits all of them: the k that are
 * visited together stay in L1. Elsewhere b is used again and a streams from L2 unhindered. */
static void in_parts(const bf_gemm *g, int form)
{
    bf_gemm part = *g;
    const int most = L1_FLOATS / (g->m + g->n) > 32 ? L1_FLOATS / (g->m + g->n) : 32;
    for (int first = 0, last; first < g->count; first = last) {
        int k = g->pairs[first].k;
        for (last = first + 1; last < g->count && k + g->pairs[last].k <= most; last++) k += g->pairs[last].k;
        part.pairs = g->pairs + first, part.count = last - first;
        if (k > most) long_pair(&part, g->pairs[first], form, most);
        else all_columns(&part, form);
        part.accumulate = true;
    }
}

void BF_ISA_NAME(gemm)(const bf_gemm *g)
{
    const int form = g->bk == 1 ? FORM_NN : g->bn == 1 ? FORM_NT : FORM_ANY;
    (form == FORM_NN ? all_columns : in_parts)(g, form);
}
