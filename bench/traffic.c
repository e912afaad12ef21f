/* One training step, without loss and update, for callgrind to count (scripts/traffic.py runs it; `make traffic`).
 *     count_traffic MODEL BATCH SIZE LEVEL
 * Counting is on during the step alone. All cells run on one thread, one after the other: valgrind would run threads in turns anyway.
 * Prints the plan as JSON, whose tasks are those that callgrind sees entering bf_task_run, in order. */
#include <bnff/bnff.h>

#include <stdio.h>
#include <stdlib.h>
#include <valgrind/callgrind.h>

static void in_turn(void *user, bnff_task_fn task, void *arg, int count)
{
    (void)user;
    for (int i = 0; i < count; i++) task(arg, i);
}

static int fail(const bnff_error *error)
{
    fprintf(stderr, "count_traffic: %s\n", error->message);
    return 1;
}

static float *random_floats(size_t count)
{
    float *x = malloc(count * sizeof *x);
    for (size_t i = 0; x && i < count; i++) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return x;
}

int main(int argc, char **argv)
{
    if (argc != 5) return fprintf(stderr, "usage: count_traffic MODEL BATCH SIZE LEVEL\n"), 2;
    const int batch = atoi(argv[2]), side = atoi(argv[3]);
    bnff_error error = {0};
    const bnff_context_options context_options = {.size = sizeof context_options, .threads = 1, .max_isa = "avx2", .parallel = in_turn};
    bnff_context *context = NULL;
    bnff_graph *graph = NULL;
    bnff_plan *plan = NULL;
    bnff_pool *pool = NULL;
    bnff_run *run = NULL;
    bnff_state *state = NULL, *gradients = NULL;
    const bnff_model_options model = {.classes = 1000, .channels = 3};
    const bnff_plan_options options = {.size = sizeof options, .batch = batch, .height = side, .width = side, .mode = BNFF_TRAIN, .level = argv[4], .cells = 1};
    char *text = NULL;
    int shape[4];
    if (bnff_context_create(&context_options, &context, &error) || bnff_graph_create(&graph, &error) || bnff_model_build(graph, argv[1], &model, &error) ||
        bnff_plan_create(context, graph, &options, &plan, &error) || bnff_pool_create(context, &pool, &error) || bnff_run_acquire(pool, plan, &run, &error) ||
        bnff_state_create(graph, &state, &error) || bnff_state_create(graph, &gradients, &error) || bnff_state_init(state, argv[1], 1, &error) ||
        bnff_plan_print(plan, true, &text, &error) || !bnff_plan_output_shape(plan, 0, shape)) return fail(&error);
    float *x = random_floats((size_t)batch * (size_t)side * (size_t)side * 3), *y = random_floats((size_t)shape[0] * (size_t)shape[3]);
    float *dy = random_floats((size_t)shape[0] * (size_t)shape[3]);
    const bnff_tensor in = bnff_nhwc(x, side, side, 3);
    const bnff_tensor out_gradient = bnff_nhwc(dy, 1, 1, shape[3]);
    bnff_tensor out = bnff_nhwc(y, 1, 1, shape[3]);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &in, .outputs = &out, .params = bnff_state_params(state)};
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &out_gradient, .param_gradients = bnff_state_params(gradients)};
    if (!x || !y || !dy) return 1;
    CALLGRIND_START_INSTRUMENTATION;
    const bool failed = bnff_forward(run, &forward, &error) || bnff_backward(run, &backward, &error);
    CALLGRIND_DUMP_STATS_AT("end");
    CALLGRIND_STOP_INSTRUMENTATION;
    if (failed) return fail(&error);
    fputs(text, stdout);
    bnff_free(text);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    bnff_state_destroy(&state);
    bnff_state_destroy(&gradients);
    bnff_graph_destroy(&graph);
    bnff_context_destroy(&context);
    free(x), free(y), free(dy);
    return 0;
}
