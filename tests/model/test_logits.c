/* Every network of the zoo computes what torchvision's computes: strides, paddings, order and placing of layers, which parameter
 * counts do not show. Parameters are those of bnff_state_init, which make_logits.py repeats in Python; images are not square. */
#include <bnff/model.h>
#include <bnff/plan.h>

#include "support.h"

enum { CLASSES = 8, LARGE = 60 /* million parameters: beginning here a network waits for the long tests */ };

static const struct golden {
    const char *name;
    int height, width;
    double logits[CLASSES];
} golden[] = {
#include "logits.def"
};

/* Run `name` on the image whose NHWC values are 2 u - 1, u uniform with key 99. */
static void run(const char *name, bnff_context *context, int height, int width, float logits[CLASSES], int64_t *parameters)
{
    bnff_error error;
    bnff_graph *graph;
    bnff_state *state = NULL;
    check_ok(bnff_graph_create(&graph, &error), &error);
    check_ok(bnff_model_build(graph, name, &(bnff_model_options){.classes = CLASSES}, &error), &error);
    bnff_param_info info;
    *parameters = 0;
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) *parameters += info.elements;
    if (logits) {
        const size_t n = (size_t)(height * width * 3);
        float *image = guarded(n);
        for (size_t i = 0; i < n; i++) image[i] = (float)(2 * bf_random_uniform(99, i) - 1);
        bnff_plan *plan;
        bnff_pool *pool;
        bnff_run *run;
        check_ok(bnff_state_create(graph, &state, &error), &error);
        check_ok(bnff_state_init(state, name, 1, &error), &error);
        const bnff_plan_options options = {.size = sizeof options, .batch = 1, .height = height, .width = width, .mode = BNFF_EVALUATE};
        check_ok(bnff_plan_create(context, graph, &options, &plan, &error), &error);
        check_ok(bnff_pool_create(context, &pool, &error), &error);
        check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
        const bnff_tensor input = bnff_nhwc(image, height, width, 3);
        bnff_tensor output = bnff_nhwc(logits, 1, 1, CLASSES);
        const bnff_forward_args args = {.size = sizeof args, .inputs = &input, .outputs = &output, .params = bnff_state_params(state)};
        check_ok(bnff_forward(run, &args, &error), &error);
        bnff_run_release(&run);
        bnff_pool_destroy(&pool);
        bnff_plan_destroy(&plan);
        check_guards();
    }
    bnff_state_destroy(&state);
    bnff_graph_destroy(&graph);
}

/* A wrong structure moves the logits by their own size; a float32 network of some hundred layers stays within 1e-4 of it. */
static void networks_compute_what_torchvision_computes(void **state)
{
    (void)state;
    const bool all = getenv("BNFF_TEST_ALL_MODELS") != NULL;
    bnff_context *context;
    bnff_error error;
    check_ok(bnff_context_create(NULL, &context, &error), &error);
    FOR_EACH(g, golden) {
        test_case("%s %dx%d", g.name, g.height, g.width);
        float logits[CLASSES];
        int64_t parameters;
        run(g.name, NULL, 0, 0, NULL, &parameters);
        if (!all && parameters >= (int64_t)LARGE * 1000000) continue;
        run(g.name, context, g.height, g.width, logits, &parameters);
        double largest = 0, worst = 0;
        for (int k = 0; k < CLASSES; k++)
            largest = fmax(largest, fabs(g.logits[k])), worst = fmax(worst, fabs((double)logits[k] - g.logits[k]));
        print_message("# %s: %.2g of the largest logit\n", g.name, worst / largest);
        check_floats(logits, g.logits, CLASSES, 1e-4 * largest);
    }
    bnff_context_destroy(&context);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(networks_compute_what_torchvision_computes)};
    return run_all(tests);
}
