/* Elementwise kernels: values against float64, fused forms against the forms they replace (bit for bit), aliasing, gaps. */
#include "tables.h"

static const int cs[] = {16, 32}, ns[] = {1, 2, 5, 13, 37};
static const bnff_activation kinds[] = {BNFF_IDENTITY, BNFF_RELU, BNFF_RELU6, BNFF_LEAKY_RELU, BNFF_SILU, BNFF_HARDSWISH, BNFF_SIGMOID, BNFF_HARDSIGMOID,
                                        BNFF_TANH, BNFF_GELU, BNFF_ELU, BNFF_MISH};
enum { LD1 = 48, LD2 = 32, LD3 = 80 };

static void copies_and_fill(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("copy n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD2, 0, 1), y = new_piece(n, c, LD1), z = new_piece(n, c, LD3), f = new_piece(n, c, LD1);
        *piece_at(x, n - 1, 3) = NAN, *piece_at(x, 0, 5) = -0.0f, *piece_at(x, 0, 6) = 1e-44f;
        k->copy(y.x, y.ld, x.x, x.ld, n, c);
        k->copy_stream(z.x, z.ld, x.x, x.ld, n, c);
        k->fill(f.x, f.ld, -2.5f, n, c);
        check_same_piece(y, x), check_same_piece(z, x);
        FOR_LANES(f, j, i) assert_true(*piece_at(f, j, i) == -2.5f);
        check_gaps(y), check_gaps(z), check_gaps(f);
        check_guards();
    }
}

/* Stores past the caches change where a result goes, not what it is. */
static void streams_agree(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH(kind, kinds) FOR_EACH_TABLE(k) {
        test_case("streams n=%d c=%d kind=%d isa=%s", n, c, kind, k->isa);
        const piece x = normal_piece(n, c, LD1, 0, 1), b = normal_piece(n, c, LD2, 0, 1), y = new_piece(n, c, LD1), z = new_piece(n, c, LD3);
        const float *s = normal_vector(c, 1, 1), *p = normal_vector(c, 0, 1), *t = normal_vector(c, 0, 1), *u = normal_vector(c, 0, 1);
        const bf_act act = {kind, 0.1f};
#define SAME(name, ...) k->name(y.x, y.ld, __VA_ARGS__), k->name##_stream(z.x, z.ld, __VA_ARGS__), check_same_piece(z, y)
        SAME(affine_act, x.x, x.ld, n, c, s, p, t, act);
        SAME(act, x.x, x.ld, n, c, act);
        SAME(add_act, x.x, x.ld, b.x, b.ld, n, c, act);
        SAME(affine_add_act, x.x, x.ld, b.x, b.ld, n, c, s, p, t, act);
        SAME(act_grad, x.x, x.ld, b.x, b.ld, n, c, act);
        SAME(affine_act_grad, x.x, x.ld, b.x, b.ld, n, c, s, p, t, act);
        SAME(bn_dx, x.x, x.ld, b.x, b.ld, n, c, s, p, t, u);
        SAME(affine_act_bn_dx, x.x, x.ld, b.x, b.ld, n, c, s, p, t, act, u, s);
#undef SAME
        check_gaps(y), check_gaps(z);
        check_guards();
    }
}

/* s*(x - p) + t: a difference, a product, a sum; mean 1e4 std, where s*x + (t - s*p) would lose 3 digits */
static void affine_values(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("affine n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD1, 1e4, 1), y = new_piece(n, c, LD2);
        const float *s = normal_vector(c, 1, 1), *p = normal_vector(c, 1e4, 1), *t = normal_vector(c, 0, 1);
        k->affine_act(y.x, y.ld, x.x, x.ld, n, c, s, p, t, (bf_act){BNFF_IDENTITY, 0});
        FOR_LANES(y, j, i) {
            const double product = s[i] * ((double)*piece_at(x, j, i) - p[i]);
            check_close(*piece_at(y, j, i), product + t[i], 3 * ROUNDING * (fabs(product) + fabs(t[i])));
        }
        check_gaps(y);
        check_guards();
    }
}

static void bn_dx_and_scale_add_values(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("bn_dx n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD1, 30, 1), dy = normal_piece(n, c, LD3, 0, 1), y = new_piece(n, c, LD2);
        const float *s = normal_vector(c, 1, 1), *p = normal_vector(c, 30, 1), *c1 = normal_vector(c, 0, .1), *c0 = normal_vector(c, 0, .1);
        k->bn_dx(y.x, y.ld, dy.x, dy.ld, x.x, x.ld, n, c, s, p, c1, c0);
        FOR_LANES(y, j, i) {
            const double a = (double)s[i] * *piece_at(dy, j, i), b = c1[i] * ((double)*piece_at(x, j, i) - p[i]);
            check_close(*piece_at(y, j, i), a + b + c0[i], 5 * ROUNDING * (fabs(a) + fabs(b) + fabs(c0[i])));
        }
        check_gaps(y);
        k->scale_add(y.x, y.ld, x.x, x.ld, -0.3f, dy.x, dy.ld, n, c);
        FOR_LANES(y, j, i) {
            const double a = -0.3f * (double)*piece_at(x, j, i), b = *piece_at(dy, j, i);
            check_close(*piece_at(y, j, i), a + b, 2 * ROUNDING * (fabs(a) + fabs(b)));
        }
        k->scale_add(y.x, y.ld, x.x, x.ld, -0.3f, NULL, 0, n, c);
        FOR_LANES(y, j, i) assert_true(*piece_at(y, j, i) == -0.3f * *piece_at(x, j, i));
        check_gaps(y);
        check_guards();
    }
}

/* The forms that restructuring swaps for each other: no bit may differ, or masks would. Inputs around all borders. */
static void fused_forms_have_the_bits_of_their_parts(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH(kind, kinds) FOR_EACH_TABLE(k) {
        test_case("fused kind=%d n=%d c=%d isa=%s", kind, n, c, k->isa);
        const bf_act act = {kind, 0.2f}, none = {BNFF_IDENTITY, 0};
        const piece x = normal_piece(n, c, LD1, 0, 3), b = normal_piece(n, c, LD3, 0, 3), g = normal_piece(n, c, LD2, 0, 1);
        const float *s = normal_vector(c, 1, 1), *p = normal_vector(c, 0, 1), *t = normal_vector(c, 0, 1);
        *piece_at(x, 0, 1) = NAN, *piece_at(x, 0, 2) = INFINITY, *piece_at(x, n - 1, 3) = -INFINITY, *piece_at(g, 0, 4) = INFINITY;
        const piece u = new_piece(n, c, LD2), want = new_piece(n, c, LD2), got = new_piece(n, c, LD3);
        k->affine_act(u.x, u.ld, x.x, x.ld, n, c, s, p, t, none);

        k->act(want.x, want.ld, u.x, u.ld, n, c, act);
        k->affine_act(got.x, got.ld, x.x, x.ld, n, c, s, p, t, act);
        check_same_piece(got, want);

        k->add_act(want.x, want.ld, u.x, u.ld, b.x, b.ld, n, c, act);
        k->affine_add_act(got.x, got.ld, x.x, x.ld, b.x, b.ld, n, c, s, p, t, act);
        check_same_piece(got, want);

        k->act_grad(want.x, want.ld, g.x, g.ld, u.x, u.ld, n, c, act);
        k->affine_act_grad(got.x, got.ld, g.x, g.ld, x.x, x.ld, n, c, s, p, t, act);
        check_same_piece(got, want);

        double sums[2][BF_BLOCK] = {{1}, {2}}, want_sums[2][BF_BLOCK] = {{1}, {2}};
        k->sum_bn_grad(want.x, want.ld, x.x, x.ld, n, c, p, want_sums[0], want_sums[1]);
        k->affine_act_grad_sums(got.x, got.ld, g.x, g.ld, x.x, x.ld, n, c, s, p, t, act, sums[0], sums[1]);
        check_same_piece(got, want);
        for (int i = 0; i < 2 * c; i++) {
            const double sum = sums[i / c][i % c], part = want_sums[i / c][i % c];
            assert_true(sum == part || (isnan(sum) && isnan(part)));
        }

        const piece dx = new_piece(n, c, LD2);
        k->bn_dx(dx.x, dx.ld, want.x, want.ld, x.x, x.ld, n, c, s, p, t, s);
        k->affine_act_bn_dx(got.x, got.ld, g.x, g.ld, x.x, x.ld, n, c, s, p, t, act, t, s);
        check_same_piece(got, dx);
        check_gaps(got), check_gaps(want), check_gaps(u);
        check_guards();
    }
}

static void add_act_adds(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("add_act n=%d c=%d isa=%s", n, c, k->isa);
        const piece a = normal_piece(n, c, LD1, 0, 3), b = normal_piece(n, c, LD3, 0, 3), y = new_piece(n, c, LD2);
        k->add_act(y.x, y.ld, a.x, a.ld, b.x, b.ld, n, c, (bf_act){BNFF_RELU, 0});
        FOR_LANES(y, j, i) assert_true(*piece_at(y, j, i) == fmaxf(0, *piece_at(a, j, i) + *piece_at(b, j, i)));
        check_gaps(y);
        check_guards();
    }
}

static void mul_multiplies(void **state)
{
    (void)state;
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("mul n=%d c=%d isa=%s", n, c, k->isa);
        const piece a = normal_piece(n, c, LD1, 0, 3), b = normal_piece(n, c, LD3, 0, 3), y = new_piece(n, c, LD2);
        k->mul(y.x, y.ld, a.x, a.ld, b.x, b.ld, n, c);
        FOR_LANES(y, j, i) assert_true(*piece_at(y, j, i) == *piece_at(a, j, i) * *piece_at(b, j, i));
        check_gaps(y);
        check_guards();
    }
}

/* dst may be any source. */
static void in_place(void **state)
{
    (void)state;
    const bf_act act = {BNFF_SILU, 0};
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("in place n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(n, c, LD1, 0, 3), g = normal_piece(n, c, LD1, 0, 3), y = new_piece(n, c, LD1);
        const float *s = normal_vector(c, 1, 1), *p = normal_vector(c, 0, 1), *t = normal_vector(c, 0, 1);
#define SAME_IN_PLACE(over, CALL_APART, CALL_OVER) do { \
            const piece z = copy_piece(over, LD1); \
            CALL_APART; \
            CALL_OVER; \
            check_same_piece(z, y); \
        } while (0)
        SAME_IN_PLACE(x, k->act(y.x, LD1, x.x, LD1, n, c, act), k->act(z.x, LD1, z.x, LD1, n, c, act));
        SAME_IN_PLACE(x, k->affine_act(y.x, LD1, x.x, LD1, n, c, s, p, t, act), k->affine_act(z.x, LD1, z.x, LD1, n, c, s, p, t, act));
        SAME_IN_PLACE(g, k->add_act(y.x, LD1, x.x, LD1, g.x, LD1, n, c, act), k->add_act(z.x, LD1, x.x, LD1, z.x, LD1, n, c, act));
        SAME_IN_PLACE(g, k->affine_add_act(y.x, LD1, x.x, LD1, g.x, LD1, n, c, s, p, t, act), k->affine_add_act(z.x, LD1, x.x, LD1, z.x, LD1, n, c, s, p, t, act));
        SAME_IN_PLACE(g, k->act_grad(y.x, LD1, g.x, LD1, x.x, LD1, n, c, act), k->act_grad(z.x, LD1, z.x, LD1, x.x, LD1, n, c, act));
        SAME_IN_PLACE(g, k->affine_act_grad(y.x, LD1, g.x, LD1, x.x, LD1, n, c, s, p, t, act), k->affine_act_grad(z.x, LD1, z.x, LD1, x.x, LD1, n, c, s, p, t, act));
        double unused[BF_BLOCK] = {0};
        SAME_IN_PLACE(g, k->affine_act_grad_sums(y.x, LD1, g.x, LD1, x.x, LD1, n, c, s, p, t, act, unused, unused),
                      k->affine_act_grad_sums(z.x, LD1, z.x, LD1, x.x, LD1, n, c, s, p, t, act, unused, unused));
        SAME_IN_PLACE(x, k->bn_dx(y.x, LD1, g.x, LD1, x.x, LD1, n, c, s, p, t, t), k->bn_dx(z.x, LD1, g.x, LD1, z.x, LD1, n, c, s, p, t, t));
        SAME_IN_PLACE(g, k->scale_add(y.x, LD1, x.x, LD1, 2, g.x, LD1, n, c), k->scale_add(z.x, LD1, x.x, LD1, 2, z.x, LD1, n, c));
        SAME_IN_PLACE(x, k->dropout(y.x, LD1, x.x, LD1, n, c, 1, 2, 32, 1u << 31, 2), k->dropout(z.x, LD1, z.x, LD1, n, c, 1, 2, 32, 1u << 31, 2));
        check_guards();
    }
}

/* The mask depends on key and logical index alone: not on the table, the piece, or how the channels are cut. */
static void dropout_mask_is_a_function_of_the_index(void **state)
{
    (void)state;
    static const uint64_t firsts[] = {0, 12345, 0xFFFFFFF0u, 0xFFFFFFFFFu - 40}; /* the low half wraps inside the piece */
    enum { N = 7, CHANNELS = 96 };
    FOR_EACH(first, firsts) {
        test_case("dropout first=%llu", (unsigned long long)first);
        const piece x = normal_piece(N, 32, LD1, 0, 1), want = new_piece(N, 32, LD1);
        *piece_at(x, 2, 7) = NAN;
        bf_kernels_find("plain")->dropout(want.x, LD1, x.x, LD1, N, 32, 99, first, CHANNELS, 0x60000000u, 1.6f);
        FOR_LANES(want, j, i) {
            const float kept = *piece_at(x, j, i) * 1.6f, y = *piece_at(want, j, i);
            assert_true(y == 0 || y == kept || (isnan(y) && isnan(kept)));
        }
        FOR_EACH_TABLE(k) {
            const piece y = new_piece(N, 32, LD1);
            k->dropout(y.x, LD1, x.x, LD1, N, 16, 99, first, CHANNELS, 0x60000000u, 1.6f);
            for (int j = 0; j < N; j++)
                k->dropout(piece_at(y, j, 16), LD1, piece_at(x, j, 16), LD1, 1, 16, 99, first + (uint64_t)j * CHANNELS + 16, CHANNELS, 0x60000000u, 1.6f);
            check_same_piece(y, want);
        }
        check_guards();
    }
}

/* n draws of probability q: within 5 standard deviations; and a second key agrees with the first as often as chance does. */
static void dropout_rate_and_independence(void **state)
{
    (void)state;
    static const double qs[] = {0.1, 0.5, 0.9};
    enum { N = 4096, C = 32 };
    FOR_EACH(q, qs) FOR_EACH_TABLE(k) {
        test_case("dropout q=%g isa=%s", q, k->isa);
        const uint32_t threshold = (uint32_t)(q * 4294967296.0);
        const piece one = new_piece(N, C, C), a = new_piece(N, C, C), b = new_piece(N, C, C);
        k->fill(one.x, C, 1, N, C);
        k->dropout(a.x, C, one.x, C, N, C, 7, 0, C, threshold, 1);
        k->dropout(b.x, C, one.x, C, N, C, 8, 0, C, threshold, 1);
        double dropped = 0, equal = 0, beside = 0;
        const double n = (double)N * C, same = q * q + (1 - q) * (1 - q);
        for (size_t i = 0; i < (size_t)N * C; i++) dropped += a.x[i] == 0, equal += a.x[i] == b.x[i], beside += i && a.x[i] == a.x[i - 1];
        check_close(dropped / n, q, 5 * sqrt(q * (1 - q) / n));
        check_close(equal / n, same, 5 * sqrt(same * (1 - same) / n));
        check_close(beside / n, same, 10 * sqrt(same * (1 - same) / n)); /* neighbours share a draw */
        check_guards();
    }
    FOR_EACH_TABLE(k) { /* nothing dropped, everything dropped */
        test_case("dropout borders isa=%s", k->isa);
        const piece x = normal_piece(3, 16, 16, 0, 1), y = new_piece(3, 16, 16);
        k->dropout(y.x, 16, x.x, 16, 3, 16, 1, 0, 16, 0, 1);
        check_same_piece(y, x);
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(copies_and_fill), test(streams_agree), test(affine_values), test(bn_dx_and_scale_add_values), test(fused_forms_have_the_bits_of_their_parts), test(add_act_adds),
        test(mul_multiplies),
        test(in_place), test(dropout_mask_is_a_function_of_the_index), test(dropout_rate_and_independence),
    };
    return run_all(tests);
}
