/* gemm against float64, at sizes below, at and above every register tile, in all its forms. */
#include "tables.h"

enum { MOST_PAIRS = 40 };

/* A batch: count pairs whose k differ, their operands in one guarded array each, with gaps of NaN. */
typedef struct batch {
    bf_gemm g;
    bf_gemm_pair pairs[MOST_PAIRS];
    piece c;
} batch;

typedef enum form { NN, NT, ANY } form;

static void make_batch(batch *t, int m, int n, form f, const int *ks, int count, bool accumulate)
{
    int total = 0, longest = 0;
    for (int p = 0; p < count; p++) {
        total += ks[p];
        if (ks[p] > longest) longest = ks[p];
    }
    t->g = (bf_gemm){.m = m, .n = n, .count = count, .pairs = t->pairs, .accumulate = accumulate};
    t->g.bk = f == NN ? 1 : f == NT ? n + 3 : 2;
    t->g.bn = f == NN ? longest + 5 : f == NT ? 1 : 2 * longest + 3;
    const int gap = f == NN ? 2 : 0; /* pixels between the panels of packed weights; gradients have theirs side by side */
    t->g.lda = f == NN ? 16 : m + 16;
    t->g.a_panel = f == NN ? (total + gap) * 16 : 16;
    const piece a = normal_piece(f == NN ? (total + gap) * (m / 16) - gap : total, f == NN ? 16 : m, t->g.lda, 0, 1);
    for (int k = 0; k < gap && m == 32; k++)
        for (int i = 0; i < 16; i++) *piece_at(a, total + k, i) = NAN;
    for (int p = 0, at = 0; p < count; at += ks[p++]) {
        const size_t last = (size_t)((ks[p] - 1) * t->g.bk + (n - 1) * t->g.bn);
        float *b = guarded(last + 1);
        for (int k = 0; k < ks[p]; k++)
            for (int j = 0; j < n; j++) b[k * t->g.bk + j * t->g.bn] = (float)random_normal();
        t->pairs[p] = (bf_gemm_pair){piece_at(a, at, 0), b, ks[p]};
    }
    t->c = normal_piece(n, m, m + 16, 0, 1);
    t->g.c = t->c.x;
    t->g.ldc = t->c.ld;
}

static ptrdiff_t row_at(const bf_gemm *g, int i) { return i / 16 * g->a_panel + i % 16; }

/* want and bound, [n][m]: a float sum of K products has error below (K + 2) roundings of the sum of magnitudes. */
static void reference(const batch *t, double *want, double *bound)
{
    const bf_gemm *g = &t->g;
    for (int j = 0; j < g->n; j++)
        for (int i = 0; i < g->m; i++) {
            const double start = g->accumulate ? *piece_at(t->c, j, i) : 0;
            double sum = start, magnitude = fabs(start);
            int terms = 2;
            for (int p = 0; p < g->count; p++)
                for (int k = 0; k < g->pairs[p].k; k++, terms++) {
                    const double term = (double)g->pairs[p].a[row_at(g, i) + k * g->lda] * g->pairs[p].b[k * g->bk + j * g->bn];
                    sum += term, magnitude += fabs(term);
                }
            want[j * g->m + i] = sum, bound[j * g->m + i] = terms * ROUNDING * magnitude;
        }
}

static void check_batch(batch *t)
{
    const piece before = copy_piece(t->c, t->c.ld);
    double *want = guarded_bytes((size_t)(t->g.n * t->g.m) * sizeof *want), *bound = guarded_bytes((size_t)(t->g.n * t->g.m) * sizeof *bound);
    reference(t, want, bound);
    FOR_EACH_TABLE(k) {
        for (int j = 0; j < t->c.n; j++) memcpy(piece_at(t->c, j, 0), piece_at(before, j, 0), (size_t)t->c.c * sizeof(float));
        k->gemm(&t->g);
        FOR_LANES(t->c, j, i) {
            const int q = j * t->g.m + i;
            if (!(fabs(*piece_at(t->c, j, i) - want[q]) <= bound[q])) printf("# table %s, column %d, row %d\n", k->isa, j, i);
            check_close(*piece_at(t->c, j, i), want[q], bound[q]);
        }
        check_gaps(t->c);
    }
    check_guards();
}

static void one_pair_of_every_width(void **state)
{
    (void)state;
    static const int ms[] = {16, 32}, ks[] = {1, 3, 4, 17, 37};
    static const form forms[] = {NN, NT, ANY};
    FOR_EACH(m, ms) FOR_EACH(f, forms) FOR_EACH(k, ks)
        for (int n = 1; n <= 31; n++) {
            test_case("gemm m=%d n=%d k=%d form=%d accumulate=%d", m, n, k, f, n & 1);
            batch t;
            make_batch(&t, m, n, f, &k, 1, n & 1);
            check_batch(&t);
        }
}

static void batches(void **state)
{
    (void)state;
    static const int ms[] = {16, 32}, ns[] = {1, 7, 14, 29, 56, 61};
    static const form forms[] = {NN, NT, ANY};
    static const struct { int count, ks[MOST_PAIRS]; } lists[] = {
        {9, {3, 3, 3, 3, 3, 3, 3, 3, 3}}, {5, {12, 32, 1, 2, 32}}, {3, {56, 55, 28}}, {7, {16, 15, 17, 33, 8, 4, 64}},
    };
    FOR_EACH(m, ms) FOR_EACH(n, ns) FOR_EACH(f, forms) FOR_EACH(list, lists) {
        test_case("gemm m=%d n=%d pairs=%d k0=%d form=%d", m, n, list.count, list.ks[0], f);
        batch t;
        make_batch(&t, m, n, f, list.ks, list.count, n & 1);
        check_batch(&t);
    }
}

/* Weight gradients of more pairs than fit L1: several spans, each adding to the one before, also where nothing was there. */
static void many_spans(void **state)
{
    (void)state;
    static const int ms[] = {16, 32}, ns[] = {13, 32};
    static const form forms[] = {NT, ANY};
    int ks[MOST_PAIRS];
    FOR_EACH(m, ms) FOR_EACH(n, ns) FOR_EACH(f, forms)
        for (int accumulate = 0; accumulate < 2; accumulate++) {
            test_case("gemm spans m=%d n=%d form=%d accumulate=%d", m, n, f, accumulate);
            for (int p = 0; p < MOST_PAIRS; p++) ks[p] = p % 7 ? 20 + p : 290 + p; /* some longer than a span, split */
            batch t;
            make_batch(&t, m, n, f, ks, MOST_PAIRS, accumulate);
            check_batch(&t);
        }
}

/* NaN and infinity in one column of b, or one row of a, reach that column or row and no other. */
static void special_values_stay_in_their_row_and_column(void **state)
{
    (void)state;
    static const int ns[] = {1, 7, 14, 30};
    static const float specials[] = {NAN, INFINITY, 1e-42f};
    FOR_EACH(n, ns) FOR_EACH(special, specials) FOR_EACH_TABLE(k) {
        test_case("gemm special=%g n=%d isa=%s", special, n, k->isa);
        const int length = 19, row = 21, column = n - 1;
        batch t;
        make_batch(&t, 32, n, NN, &length, 1, false);
        ((float *)t.pairs[0].a)[row_at(&t.g, row) + 11 * t.g.lda] = special;
        ((float *)t.pairs[0].b)[5 + column * t.g.bn] = special;
        k->gemm(&t.g);
        FOR_LANES(t.c, j, i) assert_int_equal(!isfinite(*piece_at(t.c, j, i)), !isfinite(special) && (i == row || j == column));
        check_guards();
    }
    FOR_EACH_TABLE(k) { /* products of denormals are not flushed on the way in: 2^-140 * 2^20 */
        test_case("gemm denormal isa=%s", k->isa);
        const int length = 1;
        batch t;
        make_batch(&t, 16, 5, NN, &length, 1, false);
        for (int i = 0; i < 16; i++) ((float *)t.pairs[0].a)[i] = 0x1p-140f;
        for (int j = 0; j < 5; j++) ((float *)t.pairs[0].b)[j * t.g.bn] = 0x1p20f;
        k->gemm(&t.g);
        FOR_LANES(t.c, j, i) assert_true(*piece_at(t.c, j, i) == 0x1p-120f);
        check_guards();
    }
}

/* Prefetching changes no bit, takes lines in order and never leaves its ranges. */
static void prefetch_is_invisible(void **state)
{
    (void)state;
    static const form forms[] = {NN, NT, ANY};
    static const int ks[] = {33, 12, 12, 12, 64};
    FOR_EACH(f, forms) FOR_EACH_TABLE(k) {
        test_case("gemm prefetch form=%d isa=%s", f, k->isa);
        batch t;
        make_batch(&t, 32, 19, f, ks, COUNT_OF(ks), false);
        k->gemm(&t.g);
        const piece without = copy_piece(t.c, t.c.ld);
        char memory[64 * 40];
        bf_prefetch list = {.count = 3, .lines_per_step = 2};
        for (int r = 0; r < 3; r++) list.range[r].at = memory + r * 640, list.range[r].end = memory + r * 640 + (r == 1 ? 640 : 600);
        t.g.prefetch = &list;
        k->gemm(&t.g);
        check_same_piece(t.c, without);
        assert_true(list.range[0].at > memory);
        for (int call = 0; call < 100; call++) k->gemm(&t.g);
        assert_int_equal(list.current, 3);
        for (int r = 0; r < 3; r++) assert_ptr_equal(list.range[r].at, list.range[r].end);
        check_guards();
    }
}

/* One register tile takes lines_per_step lines every 16 k, counted over the pairs; the weight gradient a share of a line with every k. */
static void prefetch_keeps_its_pace(void **state)
{
    (void)state;
    static const form forms[] = {NN, NT, ANY};
    static const int ks[] = {33, 12, 12, 12, 64, 3}; /* 136 */
    FOR_EACH(f, forms) FOR_EACH_TABLE(k) {
        test_case("gemm prefetch pace form=%d isa=%s", f, k->isa);
        batch t;
        make_batch(&t, 16, 1, f, ks, COUNT_OF(ks), false);
        char memory[64 * 40];
        bf_prefetch list = {.range = {{memory, memory + sizeof memory}}, .count = 1, .lines_per_step = 3};
        t.g.prefetch = &list;
        k->gemm(&t.g);
        const ptrdiff_t bytes = 136 * 3 * 64 / 16;
        assert_int_equal(list.range[0].at - memory, f == NT ? bytes : bytes / 64 * 64);
        check_guards();
    }
}

/* Lines are copied meanwhile, in order, as many as there are and no more, and no bit of the result changes. */
static void stores_are_invisible(void **state)
{
    (void)state;
    static const int ks[] = {33, 12, 12, 12, 64};
    enum { FLOATS = 16 * 600 };
    FOR_EACH_TABLE(k) {
        test_case("gemm stores isa=%s", k->isa);
        batch t;
        make_batch(&t, 32, 19, NN, ks, COUNT_OF(ks), false);
        k->gemm(&t.g);
        const piece without = copy_piece(t.c, t.c.ld);
        float from[FLOATS] __attribute__((aligned(64))), to[FLOATS + 16] __attribute__((aligned(64)));
        for (int i = 0; i < FLOATS + 16; i++) to[i] = -1;
        for (int i = 0; i < FLOATS; i++) from[i] = (float)i;
        bf_prefetch list = {.store = {{from, to, to + FLOATS / 2}, {from + FLOATS / 2, to + FLOATS / 2, to + FLOATS}}, .stores = 2, .stores_per_step = 2};
        t.g.prefetch = &list;
        k->gemm(&t.g);
        check_same_piece(t.c, without);
        assert_true(list.store[0].to > to && list.store[1].to < to + FLOATS);
        for (int call = 0; call < 100; call++) k->gemm(&t.g);
        assert_int_equal(list.storing, 2);
        for (int i = 0; i < 2; i++) assert_true(list.store[i].to == list.store[i].end && list.store[i].from == from + (i + 1) * FLOATS / 2);
        k->copy_stream(to + FLOATS, 16, from, 16, 0, 16); /* what was stored is seen */
        for (int i = 0; i < FLOATS; i++) assert_true(to[i] == from[i]);
        for (int i = FLOATS; i < FLOATS + 16; i++) assert_true(to[i] == -1);
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(one_pair_of_every_width), test(batches), test(many_spans), test(special_values_stay_in_their_row_and_column), test(prefetch_is_invisible),
        test(prefetch_keeps_its_pace), test(stores_are_invisible),
    };
    return run_all(tests);
}
