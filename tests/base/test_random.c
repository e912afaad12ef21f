/* Random numbers: fixed for ever (checkpoints and seeds depend on them), and good enough to be called random. Target, too. */
#include "base/random.h"
#include "base/target.h"
#include "support.h"

static void values_are_fixed(void **state)
{
    (void)state;
    static const struct { uint64_t key, counter, want; } cases[] = {
        {0, 0, UINT64_C(0xa706dd2f4d197e6f)}, {0, 1, UINT64_C(0xb382a305f4414f5e)}, {1, 0, UINT64_C(0x5e41ab087439611e)},
        {42, 1000000, UINT64_C(0x8505da9e8a915c81)}, {UINT64_MAX, UINT64_MAX, UINT64_C(0x445018e305810b78)},
    };
    FOR_EACH(c, cases) {
        test_case("key=%llu counter=%llu", (unsigned long long)c.key, (unsigned long long)c.counter);
        assert_true(bf_random(c.key, c.counter) == c.want);
    }
}

static void ranges_hold(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        const double u = bf_random_uniform(1, i);
        assert_true(u >= 0 && u < 1);
        assert_true(bf_random_below(2, i, 7) < 7);
        assert_true(bf_random_below(2, i, 1) == 0);
        assert_true(isfinite(bf_random_normal(3, i)));
    }
}

/* Moments within five standard errors: false alarms about once in a million seeds, and the seed is fixed. */
static void moments_are_right(void **state)
{
    (void)state;
    enum { N = 100000 };
    double u1 = 0, n1 = 0, n2 = 0, n4 = 0, pair = 0;
    for (uint64_t i = 0; i < N; i++) {
        const double u = bf_random_uniform(11, i), z = bf_random_normal(12, i);
        u1 += u, n1 += z, n2 += z * z, n4 += z * z * z * z;
        pair += z * bf_random_normal(12, i + 1);
    }
    const double error = 5 / sqrt(N);
    check_close(u1 / N, 0.5, error * sqrt(1.0 / 12));
    check_close(n1 / N, 0, error);
    check_close(n2 / N, 1, error * sqrt(2));
    check_close(n4 / N, 3, error * sqrt(96));
    check_close(pair / N, 0, error);
}

/* Neighbouring keys and counters share no pattern: each of 64 bits differs in about half of the pairs. */
static void neighbours_are_unrelated(void **state)
{
    (void)state;
    enum { N = 4000 };
    int by_counter[64] = {0}, by_key[64] = {0};
    for (uint64_t i = 0; i < N; i++)
        for (int bit = 0; bit < 64; bit++) {
            by_counter[bit] += (int)((bf_random(5, i) ^ bf_random(5, i + 1)) >> bit & 1);
            by_key[bit] += (int)((bf_random(i, 0) ^ bf_random(i + 1, 0)) >> bit & 1);
        }
    for (int bit = 0; bit < 64; bit++) {
        test_case("bit %d", bit);
        check_close(by_counter[bit], N / 2.0, 5 * sqrt(N) / 2);
        check_close(by_key[bit], N / 2.0, 5 * sqrt(N) / 2);
    }
    assert_true(bf_random_key(1, 2) != bf_random_key(2, 1));
    assert_true(bf_random_key(1, 0) != 1);
}

static void below_is_even(void **state)
{
    (void)state;
    enum { N = 70000, SIDES = 7 };
    int count[SIDES] = {0};
    for (uint64_t i = 0; i < N; i++) count[bf_random_below(9, i, SIDES)]++;
    for (int i = 0; i < SIDES; i++) check_close(count[i], N / SIDES, 5 * sqrt(N / SIDES));
}

static void target_is_sensible(void **state)
{
    (void)state;
    const bf_target target = bf_target_detect();
    assert_true(target.l1 >= 8 << 10 && target.l1 <= target.l2 && target.l2 >= 128 << 10);
    static const char *const known[] = {"avx512", "avx2", "neon", "plain"};
    bool found = false;
    FOR_EACH(name, known) found |= !strcmp(name, bf_cpu_isa());
    assert_true(found);
    char name[64] = "";
    bf_cpu_name(name, sizeof name);
    assert_true(name[0] && !strchr(name, '\n'));
    char *tiny = guarded_bytes(4);
    bf_cpu_name(tiny, 4);
    assert_true(strlen(tiny) < 4);
    check_guards();
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(values_are_fixed), test(ranges_hold), test(moments_are_right), test(neighbours_are_unrelated), test(below_is_even), test(target_is_sensible),
    };
    return run_all(tests);
}
