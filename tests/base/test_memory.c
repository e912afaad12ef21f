/* Sizes that cannot overflow, arrays that grow, pages, and the context: also with every allocation failing in turn. */
#include <bnff/context.h>

#include "base/context.h"
#include "base/memory.h"
#include "base/text.h"
#include "failalloc.h"
#include "support.h"

static void sizes_do_not_overflow(void **state)
{
    (void)state;
    size_t out = 7;
    assert_true(bf_size_mul(0, SIZE_MAX, &out) && out == 0);
    assert_true(bf_size_mul(SIZE_MAX, 1, &out) && out == SIZE_MAX);
    assert_false(bf_size_mul((size_t)1 << 32, (size_t)1 << 32, &out));
    assert_false(bf_size_mul(SIZE_MAX / 2 + 1, 2, &out));
    assert_true(bf_size_add(SIZE_MAX - 1, 1, &out) && out == SIZE_MAX);
    assert_false(bf_size_add(SIZE_MAX, 1, &out));
    assert_null(bf_calloc(SIZE_MAX / 2, 3));
    assert_null(bf_realloc(NULL, SIZE_MAX / 2, 3));
}

static void zero_bytes_are_something(void **state)
{
    (void)state;
    void *blocks[] = {bf_alloc(0), bf_calloc(0, 8), bf_calloc(8, 0), bf_realloc(NULL, 0, 4), bf_strdup("")};
    for (size_t i = 0; i < COUNT_OF(blocks); i++) {
        assert_non_null(blocks[i]);
        bf_free(blocks[i]);
    }
    bf_free(NULL);
}

static void arrays_grow(void **state)
{
    (void)state;
    int *items = NULL, capacity = 0;
    for (int i = 0; i < 1000; i++) {
        assert_true(bf_grow((void **)&items, &capacity, i, sizeof *items));
        assert_true(capacity > i);
        items[i] = i;
    }
    for (int i = 0; i < 1000; i++) assert_int_equal(items[i], i);
    int *const same = items, at = capacity;
    fail_allocation(1);
    assert_false(bf_grow((void **)&items, &capacity, capacity, sizeof *items)); /* and nothing has changed */
    assert_ptr_equal(items, same);
    assert_int_equal(capacity, at);
    bf_free(items);
    int full = INT32_MAX;
    assert_false(bf_grow((void **)&items, &full, INT32_MAX, 1));
}

static void pages_are_aligned_and_zero(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 4096, 100000, 5 << 20};
    FOR_EACH(n, sizes) {
        test_case("bytes=%zu", n);
        unsigned char *memory = bf_pages_alloc(NULL, n);
        assert_non_null(memory);
        assert_int_equal((uintptr_t)memory % 64, 0);
        for (size_t i = 0; i < n; i += 997) assert_int_equal(memory[i], 0);
        memset(memory, 1, n);
        bf_pages_free(NULL, memory, n);
    }
    assert_null(bf_pages_alloc(NULL, SIZE_MAX));
    assert_null(bf_pages_alloc(NULL, SIZE_MAX / 4)); /* more than any machine has */
    bf_pages_free(NULL, NULL, 0);
}

static void *dirty_alloc(void *user, size_t bytes)
{
    ++*(int *)user;
    void *memory = aligned_alloc(64, (bytes + 63) / 64 * 64);
    return memory ? memset(memory, 0xEE, bytes) : NULL;
}

static void dirty_release(void *user, void *memory, size_t bytes)
{
    (void)bytes;
    --*(int *)user;
    free(memory);
}

static void callers_allocator_is_used(void **state)
{
    (void)state;
    int out = 0;
    const bnff_allocator allocator = {dirty_alloc, dirty_release, &out};
    unsigned char *memory = bf_pages_alloc(&allocator, 1000);
    assert_int_equal(out, 1);
    for (int i = 0; i < 1000; i++) assert_int_equal(memory[i], 0);
    bf_pages_free(&allocator, memory, 1000);
    assert_int_equal(out, 0);
}

static void memory_of_the_machine(void **state)
{
    (void)state;
    assert_true(bf_memory_available() > 0);
    const size_t peak = bf_memory_peak();
    assert_true(peak > 0 && bf_memory_resident() > 0);
    enum { BYTES = 64 << 20 };
    unsigned char *memory = bf_pages_alloc(NULL, BYTES);
    assert_non_null(memory);
    memset(memory, 1, BYTES);
    assert_true(bf_memory_peak() >= (size_t)BYTES);
    bf_pages_free(NULL, memory, BYTES);
}

/* -- Contexts ------------------------------------------------------------------------------------------------------ */

static void context_refuses_nonsense(void **state)
{
    (void)state;
    bnff_context *context;
    bnff_error error;
    bnff_context_options options = {.size = sizeof options, .threads = -1};
    check_fails(bnff_context_create(&options, &context, &error), BNFF_E_ARG, &error, "-1 threads");
    assert_null(context);
    options = (bnff_context_options){.size = sizeof options, .max_isa = "sse5"};
    check_fails(bnff_context_create(&options, &context, &error), BNFF_E_ARG, &error, "sse5");
    assert_true(error.hint[0] != '\0');
    options = (bnff_context_options){.size = 3};
    check_fails(bnff_context_create(&options, &context, &error), BNFF_E_ARG, &error, "size");
    assert_int_equal(bnff_context_create(&options, &context, NULL), BNFF_E_ARG); /* an error may be NULL */
    bnff_context_destroy(&context);
    bnff_context_destroy(NULL);
}

static void context_takes_the_environment(void **state)
{
    (void)state;
    bnff_context *context;
    bnff_error error;
    static const struct { const char *ours, *omp, *isa; int threads; } cases[] = {
        {"3", NULL, NULL, 3}, {NULL, "5,2", NULL, 5}, {"2", "7", "plain", 2}, {"", "4", NULL, 4}, {NULL, " 4 ", NULL, 4},
        {NULL, "3 , 2,1", NULL, 3}, {"6 ", "abc", NULL, 6}, {NULL, NULL, NULL, 0},
    };
    FOR_EACH(c, cases) {
        test_case("BNFF_THREADS=%s OMP_NUM_THREADS=%s", c.ours ? c.ours : "", c.omp ? c.omp : "");
        c.ours ? setenv("BNFF_THREADS", c.ours, 1) : unsetenv("BNFF_THREADS");
        c.omp ? setenv("OMP_NUM_THREADS", c.omp, 1) : unsetenv("OMP_NUM_THREADS");
        c.isa ? setenv("BNFF_MAX_ISA", c.isa, 1) : unsetenv("BNFF_MAX_ISA");
        check_ok(bnff_context_create(NULL, &context, &error), &error);
        assert_int_equal(bnff_context_threads(context), c.threads ? c.threads : bf_threads_available());
        if (c.isa) assert_string_equal(bnff_context_isa(context), c.isa);
        bnff_context_destroy(&context);
    }
    static const struct { const char *variable, *text; } wrong[] = {
        {"BNFF_THREADS", "zero"}, {"BNFF_THREADS", "-2"}, {"BNFF_THREADS", "0"}, {"BNFF_THREADS", "4097"}, {"BNFF_THREADS", "2x"},
        {"BNFF_THREADS", "4,2"}, {"BNFF_THREADS", "4,junk"}, {"OMP_NUM_THREADS", "abc"}, {"OMP_NUM_THREADS", "-2"},
        {"OMP_NUM_THREADS", "4,junk"}, {"OMP_NUM_THREADS", "4 2"}, {"OMP_NUM_THREADS", ",4"},
    };
    FOR_EACH(c, wrong) {
        char says[64];
        snprintf(says, sizeof says, "%s=%s: ", c.variable, c.text);
        test_case("%s", says);
        setenv(c.variable, c.text, 1);
        check_fails(bnff_context_create(NULL, &context, &error), BNFF_E_ARG, &error, says);
        check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 2}, &context, &error), &error);
        bnff_context_destroy(&context);
        unsetenv(c.variable);
    }
    setenv("BNFF_MAX_ISA", "unheard-of", 1);
    check_fails(bnff_context_create(NULL, &context, &error), BNFF_E_ARG, &error, "unheard-of");
    unsetenv("BNFF_MAX_ISA");
}

static void keep_line(void *user, const char *topic, const char *line) { snprintf(user, 256, "%s|%s", topic, line); }

static void log_goes_to_the_listener(void **state)
{
    (void)state;
    char line[256] = "";
    bnff_context *context;
    bnff_error error;
    const bnff_context_options options = {.size = sizeof options, .threads = 1, .log = keep_line, .log_user = line};
    static const struct { const char *verbose; bool heard; } cases[] = {
        {"dispatch", true}, {"plan,dispatch", true}, {"plan", false}, {"dispatcher", false}, {"", false},
    };
    FOR_EACH(c, cases) {
        test_case("BNFF_VERBOSE=%s", c.verbose);
        setenv("BNFF_VERBOSE", c.verbose, 1);
        line[0] = '\0';
        check_ok(bnff_context_create(&options, &context, &error), &error);
        bnff_context_destroy(&context);
        assert_int_equal(!strncmp(line, "dispatch|", 9), c.heard);
    }
    unsetenv("BNFF_VERBOSE");
}

static void nothing(void *arg, int index) { (void)arg, (void)index; }

static bnff_status make_context(void *arg, bnff_error *error)
{
    bnff_context *context;
    const bnff_status status = bnff_context_create(arg, &context, error);
    if (status != BNFF_OK) {
        assert_null(context);
        return status;
    }
    bnff_parallel_for(context, nothing, NULL, 4);
    bnff_context_destroy(&context);
    return BNFF_OK;
}

static void context_survives_failing_allocations(void **state)
{
    (void)state;
    test_case("bnff_context_create");
    bnff_context_options options = {.size = sizeof options, .threads = 3};
    assert_true(fail_each_allocation(make_context, &options) >= 2);
}

static bnff_status make_text(void *arg, bnff_error *error)
{
    (void)arg;
    bf_text text = {0};
    for (int i = 0; i < 300; i++) bf_text_add(&text, "line %d\n", i);
    char *taken = bf_text_take(&text);
    if (!taken) {
        snprintf(error->message, sizeof error->message, "no memory");
        return BNFF_E_MEMORY;
    }
    bf_free(taken);
    return BNFF_OK;
}

static void text_survives_failing_allocations(void **state)
{
    (void)state;
    test_case("bf_text");
    assert_true(fail_each_allocation(make_text, NULL) >= 3);
}

/* The loop itself must notice a leak and a failure that goes unreported. */
static bnff_status leaky(void *arg, bnff_error *error)
{
    void *a = bf_alloc(8), *b = a ? bf_alloc(8) : NULL;
    if (!b) {
        if (!arg) bf_free(a);
        else *(void **)arg = a;
        snprintf(error->message, sizeof error->message, "no memory");
        return BNFF_E_MEMORY;
    }
    bf_free(a);
    bf_free(b);
    return BNFF_OK;
}

static void failing_loop_counts(void **state)
{
    (void)state;
    assert_int_equal(fail_each_allocation(leaky, NULL), 2);
    void *leak = NULL;
    const int before = live_allocations();
    fail_allocation(2);
    bnff_error error;
    assert_int_equal(leaky(&leak, &error), BNFF_E_MEMORY);
    fail_allocation(0);
    assert_int_equal(live_allocations(), before + 1);
    bf_free(leak);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(sizes_do_not_overflow), test(zero_bytes_are_something), test(arrays_grow), test(pages_are_aligned_and_zero),
        test(callers_allocator_is_used), test(memory_of_the_machine), test(context_refuses_nonsense), test(context_takes_the_environment),
        test(log_goes_to_the_listener), test(context_survives_failing_allocations), test(text_survives_failing_allocations), test(failing_loop_counts),
    };
    return run_all(tests);
}
