/* Permuted channels, blended pixels, transposed weights: against plain loops; equal bits where nothing is rounded. */
#include "tables.h"

static const int cs[] = {16, 32}, ns[] = {1, 2, 7};

static void permute_picks_channels(void **state)
{
    (void)state;
    enum { CHANNELS = 90, LDS = CHANNELS + 2 * BF_BLOCK };
    FOR_EACH(c, cs) FOR_EACH(n, ns) for (int kind = 0; kind < 4; kind++) FOR_EACH_TABLE(k) {
        test_case("permute n=%d c=%d %s isa=%s", n, c, kind == 0 ? "zip" : kind == 1 ? "unzip" : kind == 2 ? "thirds" : "any", k->isa);
        const piece x = normal_piece(n, LDS, LDS, 0, 1), y = new_piece(n, c, 48);
        int index[BF_BLOCK];
        for (int i = 0; i < c; i++) index[i] = kind == 0 ? i % 2 * 45 + i / 2 + 3 : kind == 1 ? 5 + 2 * i : kind == 2 ? i % 3 * 30 + i / 3 : random_int(0, CHANNELS - 1);
        k->permute(y.x, y.ld, x.x, x.ld, n, c, index);
        FOR_LANES(y, j, i) assert_true(*piece_at(y, j, i) == *piece_at(x, j, index[i]));
        check_gaps(y);
        check_guards();
    }
}

static void blends_and_their_gradient(void **state)
{
    (void)state;
    static const bf_blend list[7] = {{0, 0, 0}, {0, 1, 0.25f}, {1, 2, 0.5f}, {1, 1, 0}, {2, 3, 0.9f}, {3, 3, 0}, {3, 0, 0.125f}};
    FOR_EACH(c, cs) FOR_EACH(n, ns) FOR_EACH_TABLE(k) {
        test_case("blend n=%d c=%d isa=%s", n, c, k->isa);
        const piece x = normal_piece(4, c, 32, 0, 1), y = new_piece(n, c, 48), g = normal_piece(n, c, 80, 0, 1), dx = normal_piece(4, c, 48, 0, 1), before = copy_piece(dx, 48);
        k->blend_pixels(y.x, y.ld, x.x, x.ld, list, n, c);
        FOR_LANES(y, j, i) {
            const double w = list[j].weight, a = (1 - w) * *piece_at(x, list[j].first, i), b = w * *piece_at(x, list[j].second, i);
            check_close(*piece_at(y, j, i), a + b, w == 0 ? 0 : 4 * ROUNDING * (fabs(a) + fabs(b)));
        }
        k->blend_pixels_grad(dx.x, dx.ld, list, g.x, g.ld, n, c);
        FOR_LANES(dx, p, i) {
            double sum = *piece_at(before, p, i), size = fabs(sum);
            for (int j = 0; j < n; j++) {
                const double w = list[j].weight, share = (list[j].first == p ? 1 - w : 0) + (list[j].second == p ? w : 0);
                sum += share * *piece_at(g, j, i), size += fabs(share * *piece_at(g, j, i));
            }
            check_close(*piece_at(dx, p, i), sum, 8 * ROUNDING * size);
        }
        check_gaps(y), check_gaps(dx);
        check_guards();
    }
}

static void rows_become_columns(void **state)
{
    (void)state;
    static const int sides[] = {1, 3, 4, 8, 9, 16, 17, 32, 49};
    for (int gap = 0; gap <= 5; gap += 5) FOR_EACH(rows, sides) FOR_EACH(columns, sides) FOR_EACH_TABLE(k) {
        test_case("transpose rows=%d columns=%d gap=%d isa=%s", rows, columns, gap, k->isa);
        const piece x = normal_piece(rows, columns, columns + gap, 0, 1), y = new_piece(columns, rows, rows + 3);
        k->transpose(y.x, y.ld, x.x, x.ld, rows, columns);
        FOR_LANES(y, j, i) assert_true(*piece_at(y, j, i) == *piece_at(x, i, j));
        check_gaps(y);
        check_guards();
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(permute_picks_channels), test(blends_and_their_gradient), test(rows_become_columns)};
    return run_all(tests);
}
