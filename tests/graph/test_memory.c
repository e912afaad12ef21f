/* Every allocation of graphs, plans and runs fails in turn: the status says so and nothing is left behind. */
#include <bnff/bnff.h>

#include "failalloc.h"
#include "support.h"

/* A little of everything that allocates: a concatenation with two readers, a join, a grouped and a depthwise convolution, pools. */
static void describe(bnff_graph *g)
{
    bnff_value x = bnff_conv2d(g, "stem", bnff_input(g, "x", 3), &(bnff_conv_options){.out_channels = 8, .kernel = {3}, .padding = {1}, .bias = true});
    x = bnff_maxpool(g, bnff_relu(g, bnff_batchnorm(g, "bn", x, NULL)), &(bnff_pool_options){.kernel = {2}});
    const bnff_value grouped = bnff_conv2d(g, "grouped", x, &(bnff_conv_options){.out_channels = 8, .kernel = {3}, .padding = {1}, .groups = 2});
    const bnff_value wide = bnff_conv2d(g, "depthwise", x, &(bnff_conv_options){.out_channels = 8, .kernel = {3}, .padding = {1}, .groups = 8});
    const bnff_value both = bnff_concat(g, (const bnff_value[]){bnff_add(g, grouped, x), wide, x}, 3);
    x = bnff_relu(g, bnff_batchnorm(g, "joined", both, NULL));
    const bnff_value y = bnff_relu(g, bnff_batchnorm(g, "again", both, NULL));
    x = bnff_concat(g, (const bnff_value[]){bnff_slice(g, x, 2, 9), bnff_dropout(g, y, 0.5f)}, 2);
    x = bnff_conv_transpose2d(g, "up", bnff_channel_shuffle(g, x, 11), &(bnff_conv_transpose_options){.out_channels = 6, .kernel = {2}, .stride = {2}, .bias = true});
    x = bnff_mul(g, x, bnff_scale(g, "scale", x, &(bnff_scale_options){.weight = true}));
    x = bnff_resize(g, bnff_activate(g, x, BNFF_GELU, 0), &(bnff_resize_options){.size = {5, 4}, .mode = BNFF_RESIZE_BILINEAR});
    bnff_output(g, bnff_linear(g, "fc", bnff_global_avgpool(g, x), 4, true));
}

static bnff_status build_graph(void *arg, bnff_error *error)
{
    (void)arg;
    bnff_graph *g;
    char *text = NULL;
    bnff_status status = bnff_graph_create(&g, error);
    if (status != BNFF_OK) return status;
    describe(g);
    status = bnff_graph_status(g, error);
    if (status == BNFF_OK) status = bnff_graph_print(g, &text, error);
    bnff_graph_destroy(&g);
    if (status == BNFF_OK) {
        status = bnff_graph_parse(text, &g, error);
        bnff_graph_destroy(&g);
    }
    bnff_free(text);
    return status;
}

static void graphs(void **state)
{
    (void)state;
    test_case("build, print, parse");
    assert_true(fail_each_allocation(build_graph, NULL) > 50);
}

typedef struct planning {
    bnff_context *context;
    bnff_graph *graph;
    const char *level;
} planning;

static bnff_status plan_and_run(void *arg, bnff_error *error)
{
    const planning *p = arg;
    bnff_plan *plan;
    bnff_pool *pool = NULL;
    bnff_run *run = NULL;
    const bnff_plan_options options = {.size = sizeof options, .batch = 2, .height = 9, .width = 8, .mode = BNFF_TRAIN, .level = p->level, .cells = 2};
    bnff_status status = bnff_plan_create(p->context, p->graph, &options, &plan, error);
    char *text = NULL, *picture = NULL;
    if (status == BNFF_OK) status = bnff_plan_print(plan, true, &text, error);
    if (status == BNFF_OK) status = bnff_plan_draw(plan, plan, &picture, error);
    if (status == BNFF_OK) status = bnff_pool_create(p->context, &pool, error);
    if (status == BNFF_OK) status = bnff_run_acquire(pool, plan, &run, error);
    bnff_free(text);
    bnff_free(picture);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    return status;
}

static void plans(void **state)
{
    (void)state;
    planning p = {0};
    assert_int_equal(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1}, &p.context, NULL), BNFF_OK);
    assert_int_equal(bnff_graph_create(&p.graph, NULL), BNFF_OK);
    describe(p.graph);
    for (int l = 0; (p.level = bnff_level_name(l)) != NULL; l++) {
        test_case("level %s", p.level);
        assert_true(fail_each_allocation(plan_and_run, &p) > 100);
    }
    bnff_graph_destroy(&p.graph);
    bnff_context_destroy(&p.context);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(graphs), test(plans)};
    return run_all(tests);
}
