/* Random networks at every level, with several cell counts and memory layouts, against float64.
 *
 *     test_random                 the seeds of the suite
 *     test_random FIRST COUNT     others, e.g. the one that a failure names
 */
#include "random_net.h"
#include "support.h"

#include <bnff/context.h>

static int first_seed = 1, seed_count = 40, winograd_count = 25;
static net *current; /* of the case under way */

/* `algorithm` NULL: each network by another one, not direct. */
static void check_networks(int first, int count_of_seeds, const char *algorithm)
{
    static const int cells[] = {1, 2, 3, 7};
    for (int seed = first; seed < first + count_of_seeds; seed++) {
        test_case("seed %d", seed);
        net_setup setup;
        current = random_net(&setup);
        setup.algorithm = algorithm ? algorithm : bnff_algorithm_name(1 + seed % 5);
        test_case("seed %d, %d images of %dx%d%s", seed, setup.batch, setup.height, setup.width, setup.evaluate ? ", evaluation" : "");
        net_reference(current, &setup);
        int turn = seed;
        for (int level = 0; bnff_level_name(level); level++)
            FOR_EACH(count, cells) {
                turn++;
                net_check_way(current, &setup, &(net_way){.level = bnff_level_name(level), .threads = turn % 2 + 1, .cells = count, .layout = turn % 3, .accumulate = turn % 5 == 1,
                                                          .some_gradients = turn % 7 == 3, .small_caches = turn % 2});
            }
        net_free(&current);
    }
}

static void random_networks(void **state)
{
    (void)state;
    check_networks(first_seed, seed_count, "direct");
}

/* Other seeds, so that a failure's number says which of the two it was. */
static void random_networks_by_every_algorithm(void **state)
{
    (void)state;
    check_networks(first_seed + 100000, winograd_count, NULL);
}

/* A failure shows the network it happened in. */
static int finish(void **state)
{
    char *text = NULL;
    if (current && bnff_graph_print(net_graph(current), &text, NULL) == BNFF_OK) {
        for (char *line = text, *end; (end = strchr(line, '\n')); line = end + 1) printf("# %.*s\n", (int)(end - line), line);
        bnff_free(text);
    }
    if (current) net_free(&current);
    return support_finish(state);
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {
        {"random_networks", support_run, NULL, finish, (void *)(uintptr_t)random_networks},
        {"random_networks_by_every_algorithm", support_run, NULL, finish, (void *)(uintptr_t)random_networks_by_every_algorithm},
    };
    setenv("BNFF_VERIFY", "1", 1);
    if (argc > 1) first_seed = atoi(argv[1]);
    if (argc > 2) seed_count = winograd_count = atoi(argv[2]);
    return run_all(tests);
}
