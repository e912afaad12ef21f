/* Which table is chosen. */
#include "tables.h"

#include "base/target.h"

static void best_first_and_plain_last(void **state)
{
    (void)state;
    assert_string_equal(bf_kernels_at(0)->isa, bf_cpu_isa());
    const bf_kernels *last = NULL;
    FOR_EACH_ISA(isa) {
        assert_ptr_equal(bf_kernels_find(isa->isa), isa);
        if (last) assert_true(isa->vector <= last->vector);
        last = isa;
    }
    assert_string_equal(last->isa, "plain");
    assert_null(bf_kernels_at(-1));
}

static void names_that_are_not_there(void **state)
{
    (void)state;
    assert_null(bf_kernels_find("avx3"));
    assert_null(bf_kernels_find(""));
    assert_null(bf_kernels_at_most("avx3"));
    const bool has_avx512 = !strcmp(bf_cpu_isa(), "avx512");
    assert_true((bf_kernels_find("avx512") != NULL) == has_avx512);
}

static void at_most_caps(void **state)
{
    (void)state;
    assert_string_equal(bf_kernels_at_most("plain")->isa, "plain");
    FOR_EACH_ISA(isa) assert_ptr_equal(bf_kernels_at_most(isa->isa), isa);
#ifdef __x86_64__
    const bf_kernels *best = bf_kernels_at_most("avx512"); /* nothing is better: the cap is no cap */
    assert_ptr_equal(best, bf_kernels_at(0));
#endif
}

/* A row of kernels.def that is missing from a table would be NULL. */
static void tables_are_full(void **state)
{
    (void)state;
    FOR_EACH_TABLE(k) {
        test_case("table %s", k->isa);
#define BF_KERNEL(name, args) assert_non_null(k->name);
#include "kernels/kernels.def"
#undef BF_KERNEL
    }
}

static void peak_computes(void **state)
{
    (void)state;
    FOR_EACH_TABLE(k) {
        test_case("peak %s", k->isa);
        float out = 0;
        k->peak(100, &out);
        check_close(out, 24, 1e-5); /* 12 sums that go to 2 */
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(best_first_and_plain_last), test(names_that_are_not_there), test(at_most_caps), test(tables_are_full), test(peak_computes),
    };
    return run_all(tests);
}
