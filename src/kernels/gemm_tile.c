/* The batch-reduce GEMM of one tile (kernels.h): where a step spends its time.
 *
 * A register tile is R vectors of rows (output channels) by N columns; its R*N sums stay in registers over all pairs and all k,
 * and each k-step is R loads of a, N broadcasts of b and R*N multiply-adds. Every R by N that occurs is a function of its own
 * (constants by inlining); the tile of the call is cut into them. */
#include "kernels/isa.h"

enum { FORM_NN, FORM_NT, FORM_ANY, FORMS };

#if BF_VECTOR == 16
enum { COLUMNS_1 = 14, COLUMNS_2 = 14, COLUMNS_4 = 1 };
#else
enum { COLUMNS_1 = 6, COLUMNS_2 = 6, COLUMNS_4 = 3 };
#endif

static void prefetch_step(bf_prefetch *p)
{
    for (int lines = p->lines_per_step; lines > 0 && p->current < p->count; lines--) {
        __builtin_prefetch(p->range[p->current].at, 0, 2);
        p->range[p->current].at += 64;
        if (p->range[p->current].at >= p->range[p->current].end) p->current++;
    }
}

/* k products into acc; bk and bn are constants where the form says so. */
BF_INLINE void multiply(vf *acc, const float *a, ptrdiff_t lda, const float *b, ptrdiff_t bk, ptrdiff_t bn, int k, const int R, const int N)
{
    for (; k > 0; k--, a += lda, b += bk) {
        vf av[4];
        BF_UNROLL
        for (int r = 0; r < R; r++) av[r] = v_load(a + r * V);
        BF_UNROLL
        for (int j = 0; j < N; j++) {
            const vf bv = v_set(b[j * bn]);
            BF_UNROLL
            for (int r = 0; r < R; r++) acc[j * R + r] = v_fma(av[r], bv, acc[j * R + r]);
        }
    }
}

BF_INLINE void tile(const bf_gemm *g, int i, int j, const int form, const int R, const int N)
{
    const ptrdiff_t lda = g->lda, ldc = g->ldc, bk = form == FORM_NN ? 1 : g->bk, bn = form == FORM_NT ? 1 : g->bn;
    float *c = g->c + j * ldc + i;
    vf acc[28];
    BF_UNROLL
    for (int q = 0; q < R * N; q++) acc[q] = g->accumulate ? v_load(c + q / R * ldc + q % R * V) : (vf){0};
    int since = 0; /* k-steps since the last prefetch */
    for (int p = 0; p < g->count; p++) {
        const float *a = g->pairs[p].a + i, *b = g->pairs[p].b + j * bn;
        for (int k = g->pairs[p].k; k > 0; k -= 16, a += 16 * lda, b += 16 * bk) {
            const int part = k < 16 ? k : 16;
            multiply(acc, a, lda, b, bk, bn, part, R, N);
            since += part;
            if (since >= 16) {
                since -= 16;
                if (g->prefetch) prefetch_step(g->prefetch);
            }
        }
    }
    BF_UNROLL
    for (int q = 0; q < R * N; q++) v_store(c + q / R * ldc + q % R * V, acc[q]);
}

typedef void tile_fn(const bf_gemm *g, int i, int j);
#define TILE(form, R, N) static void tile_##form##_##R##_##N(const bf_gemm *g, int i, int j) { tile(g, i, j, form, R, N); }
#define TILES(R, N) TILE(FORM_NN, R, N) TILE(FORM_NT, R, N) TILE(FORM_ANY, R, N)
#define NAMES(R, N) [FORM_NN] = tile_FORM_NN_##R##_##N, [FORM_NT] = tile_FORM_NT_##R##_##N, [FORM_ANY] = tile_FORM_ANY_##R##_##N
#if BF_VECTOR == 16
#define EACH(X, R) X(R, 1) X(R, 2) X(R, 3) X(R, 4) X(R, 5) X(R, 6) X(R, 7) X(R, 8) X(R, 9) X(R, 10) X(R, 11) X(R, 12) X(R, 13) X(R, 14)
EACH(TILES, 1)
EACH(TILES, 2)
#else
#define EACH(X, R) X(R, 1) X(R, 2) X(R, 3) X(R, 4) X(R, 5) X(R, 6)
EACH(TILES, 2)
#endif
#define ENTRY(R, N) [N] = {NAMES(R, N)},
#if BF_VECTOR == 16
static tile_fn *const tiles[2][15][FORMS] = {{EACH(ENTRY, 1)}, {EACH(ENTRY, 2)}};
enum { MOST = 14 };
#else
static tile_fn *const tiles[2][7][FORMS] = {{{0}}, {EACH(ENTRY, 2)}};
enum { MOST = 6 };
#endif

void BF_ISA_NAME(gemm)(const bf_gemm *g)
{
    const int form = g->bk == 1 ? FORM_NN : g->bn == 1 ? FORM_NT : FORM_ANY;
    const int rows = g->m < 2 * V ? 1 : 2, pieces = (g->n + MOST - 1) / MOST;
    for (int i = 0; i < g->m; i += rows * V)
        for (int piece = 0, j = 0; piece < pieces; piece++) {
            const int columns = (g->n - j + pieces - piece - 1) / (pieces - piece);
            tiles[rows - 1][columns][form](g, i, j);
            j += columns;
        }
}
