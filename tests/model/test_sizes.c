/* bnff_model_info.min_size is exact: one pixel less is refused when the plan is made. And every family trains at that size. */
#include <bnff/model.h>
#include <bnff/plan.h>

#include "support.h"

static const char *const names[] = {"densenet121", "densenet161",     "densenet-bc-22-12", "densenet-40-12", "resnet18",
                                    "resnet50",    "resnext50_32x4d", "resnet20",          "vgg11_bn",       "mobilenet_v2",
                                    "mobilenet_v3_small", "efficientnet_b0", "mnasnet1_0", "regnet_y_400mf", "shufflenet_v2_x1_0", "squeezenet1_0", "squeezenet1_1", "googlenet"};

static bnff_status plan_at(bnff_context *context, const char *name, int size, int batch, bnff_mode mode, bnff_error *error)
{
    bnff_graph *graph;
    bnff_plan *plan = NULL;
    check_ok(bnff_graph_create(&graph, error), error);
    check_ok(bnff_model_build(graph, name, &(bnff_model_options){.classes = 5}, error), error);
    const bnff_plan_options options = {.size = sizeof options, .batch = batch, .height = size, .width = size, .mode = mode};
    const bnff_status status = bnff_plan_create(context, graph, &options, &plan, error);
    int shape[4];
    if (status == BNFF_OK) {
        assert_true(bnff_plan_output_shape(plan, 0, shape));
        assert_int_equal(shape[0], batch);
        assert_int_equal(shape[1] * shape[2], 1);
        assert_int_equal(shape[3], 5);
    } else {
        assert_null(plan);
    }
    bnff_plan_destroy(&plan);
    bnff_graph_destroy(&graph);
    return status;
}

static void smallest_sizes_are_exact(void **state)
{
    (void)state;
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 2}, &context, &error), &error);
    FOR_EACH(name, names) {
        bnff_model_info info;
        assert_true(bnff_model_find(name, &info));
        test_case("%s at %d", name, info.min_size);
        check_ok(plan_at(context, name, info.min_size, 2, BNFF_TRAIN, &error), &error);
        check_ok(plan_at(context, name, info.min_size, 1, BNFF_EVALUATE, &error), &error);
        if (info.min_size == 1) continue;
        test_case("%s at %d", name, info.min_size - 1);
        check_fails(plan_at(context, name, info.min_size - 1, 2, BNFF_TRAIN, &error), BNFF_E_SHAPE, &error, NULL);
        check_fails(plan_at(context, name, info.min_size - 1, 1, BNFF_EVALUATE, &error), BNFF_E_SHAPE, &error, NULL);
    }
    bnff_context_destroy(&context);
}

/* One value a channel: its variance is 0, and PyTorch refuses it too. */
static void one_value_is_not_a_batch(void **state)
{
    (void)state;
    test_case("densenet121 at 29, batch 1");
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(NULL, &context, &error), &error);
    check_fails(plan_at(context, "densenet121", 29, 1, BNFF_TRAIN, &error), BNFF_E_SHAPE, &error, NULL);
    bnff_context_destroy(&context);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(smallest_sizes_are_exact), test(one_value_is_not_a_batch)};
    return run_all(tests);
}
