/* Trains a small convolutional network on made-up images with nothing but the public API of bnff.
 *
 *     cc train_small_cnn.c $(pkg-config --cflags --libs bnff) -o train_small_cnn && ./train_small_cnn
 *
 * The images are noise with a bright square in one of four corners; the class is the corner.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bnff/bnff.h>

enum { BATCH = 32, SIZE = 16, CLASSES = 4, STEPS = 60 };

static bnff_error error;

/* Leave with the library's message. A larger program would pass the status on. */
static void must(bnff_status status)
{
    if (status == BNFF_OK) return;
    fprintf(stderr, "error: %s%s%s\n", error.message, error.hint[0] ? "\nhint: " : "", error.hint);
    exit(1);
}

/* conv 3x3 - batch norm - relu - max pool, twice; then global average pooling and a linear layer. */
static void build(bnff_graph *graph)
{
    static const int channels[2] = {16, 32};
    static const char *const names[2][2] = {{"conv1", "bn1"}, {"conv2", "bn2"}};
    bnff_value x = bnff_input(graph, "image", 1);
    for (int i = 0; i < 2; i++) {
        const bnff_conv_options conv = {.out_channels = channels[i], .kernel = {3}, .padding = {1}};
        const bnff_pool_options pool = {.kernel = {2}};
        x = bnff_conv2d(graph, names[i][0], x, &conv);
        x = bnff_relu(graph, bnff_batchnorm(graph, names[i][1], x, NULL));
        x = bnff_maxpool(graph, x, &pool);
    }
    x = bnff_linear(graph, "fc", bnff_adaptive_avgpool(graph, x, 2, 2), CLASSES, true);
    bnff_output(graph, x);
    must(bnff_graph_status(graph, &error)); /* errors are sticky: one check at the end */
}

static float noise(void) { return 2.0f * (float)rand() / (float)RAND_MAX - 1.0f; }

static void make_batch(float *images, int32_t *labels)
{
    for (int i = 0; i < BATCH * SIZE * SIZE; i++) images[i] = noise();
    for (int n = 0; n < BATCH; n++) {
        labels[n] = rand() % CLASSES;
        const int top = labels[n] / 2 * SIZE / 2, left = labels[n] % 2 * SIZE / 2;
        for (int h = 2; h < 6; h++)
            for (int w = 2; w < 6; w++) images[(n * SIZE + top + h) * SIZE + left + w] += 1.0f;
    }
}

/* The parameters live in `state`; their gradients are the caller's, one array for each parameter. */
static float **make_gradients(const bnff_graph *graph)
{
    const int count = bnff_graph_param_count(graph);
    float **gradients = calloc((size_t)count, sizeof *gradients);
    bnff_param_info info;
    for (int i = 0; gradients && i < count; i++)
        if (bnff_graph_param(graph, i, &info) && !info.is_buffer) gradients[i] = calloc((size_t)info.elements, sizeof **gradients);
    return gradients;
}

int main(void)
{
    bnff_context *context;
    bnff_graph *graph;
    bnff_state *state;
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    bnff_optimizer *optimizer;

    must(bnff_context_create(NULL, &context, &error));
    must(bnff_graph_create(&graph, &error));
    build(graph);
    must(bnff_state_create(graph, &state, &error));
    must(bnff_state_init(state, "resnet18", 1, &error)); /* initialised as that model is */
    const bnff_plan_options options = {.size = sizeof options, .batch = BATCH, .height = SIZE, .width = SIZE, .mode = BNFF_TRAIN};
    must(bnff_plan_create(context, graph, &options, &plan, &error));
    must(bnff_pool_create(context, &pool, &error));
    must(bnff_run_acquire(pool, plan, &run, &error));
    const bnff_optimizer_options sgd = {.size = sizeof sgd, .kind = BNFF_SGD, .momentum = 0.9f, .norm_weight_decay = -1, .bias_weight_decay = -1};
    must(bnff_optimizer_create(context, graph, &sgd, NULL, &optimizer, &error));

    static float images[BATCH * SIZE * SIZE], logits[BATCH * CLASSES], dlogits[BATCH * CLASSES];
    static int32_t labels[BATCH];
    float **gradients = make_gradients(graph);
    bnff_tensor in = bnff_nhwc(images, SIZE, SIZE, 1), out = bnff_nhwc(logits, 1, 1, CLASSES), dout = bnff_nhwc(dlogits, 1, 1, CLASSES);
    for (int step = 0; step < STEPS; step++) {
        double loss;
        make_batch(images, labels);
        const bnff_forward_args forward = {.size = sizeof forward, .inputs = &in, .outputs = &out, .params = bnff_state_params(state)};
        must(bnff_forward(run, &forward, &error));
        must(bnff_softmax_cross_entropy(logits, BATCH, CLASSES, labels, NULL, 0, &loss, dlogits, &error));
        const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &dout, .param_gradients = gradients};
        must(bnff_backward(run, &backward, &error));
        bnff_optimizer_step(optimizer, bnff_state_params(state), gradients, 0.01, 1);
        bnff_state_count_batch(state, NULL);
        if (step % 10 == 0 || step == STEPS - 1) printf("step %2d  loss %.4f\n", step, loss);
    }

    for (int i = 0; i < bnff_graph_param_count(graph); i++) free(gradients[i]);
    free(gradients);
    bnff_optimizer_destroy(&optimizer);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    bnff_state_destroy(&state);
    bnff_graph_destroy(&graph);
    bnff_context_destroy(&context);
    return 0;
}
