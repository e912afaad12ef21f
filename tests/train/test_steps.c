/* Three whole training steps (forward, loss, backward, SGD with momentum and weight decay) of small networks against PyTorch:
 * losses, parameters and running statistics of the float64 run. Each may differ three times as much as PyTorch's own float32
 * does, in the L2 norm of a tensor; every level of restructuring is held to that. */
#include <bnff/model.h>
#include <bnff/optim.h>
#include <bnff/plan.h>

#include "golden.h"
#include "support.h"

static bnff_value conv_bn(bnff_graph *graph, const char *prefix, const char *conv, const char *bn, bnff_value x, int channels, int kernel,
                          int stride)
{
    char name[64];
    snprintf(name, sizeof name, "%s%s", prefix, conv);
    x = bnff_conv2d(graph, name, x,
                    &(bnff_conv_options){.out_channels = channels, .kernel = {kernel}, .stride = {stride}, .padding = {kernel / 2}});
    snprintf(name, sizeof name, "%s%s", prefix, bn);
    return bnff_batchnorm(graph, name, x, NULL);
}

static bnff_value block(bnff_graph *graph, const char *prefix, bnff_value x, int width, int stride, bool bottleneck)
{
    const int out = bottleneck ? 4 * width : width;
    const bool same = stride == 1 && bnff_value_channels(graph, x) == out;
    bnff_value y = bnff_relu(graph, conv_bn(graph, prefix, "conv1", "bn1", x, width, bottleneck ? 1 : 3, bottleneck ? 1 : stride));
    y = conv_bn(graph, prefix, "conv2", "bn2", y, width, 3, bottleneck ? stride : 1);
    if (bottleneck) y = conv_bn(graph, prefix, "conv3", "bn3", bnff_relu(graph, y), out, 1, 1);
    const bnff_value shortcut = same ? x : conv_bn(graph, prefix, "downsample.0", "downsample.1", x, out, 1, stride);
    return bnff_relu(graph, bnff_add(graph, y, shortcut));
}

/* The generator's ResNet: few and narrow blocks; the big stem goes with bottlenecks. */
static void build_resnet(bnff_graph *graph, bool bottleneck, int classes)
{
    const int width = bottleneck ? 4 : 6;
    bnff_value x = bnff_input(graph, "input", 3);
    x = bnff_relu(graph, bottleneck ? conv_bn(graph, "", "conv1", "bn1", x, 8, 7, 2) : conv_bn(graph, "", "conv1", "bn1", x, width, 3, 1));
    if (bottleneck) x = bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    x = block(graph, "layer1.0.", x, width, 1, bottleneck);
    x = block(graph, "layer1.1.", x, width, 1, bottleneck);
    x = block(graph, "layer2.0.", x, 2 * width, 2, bottleneck);
    bnff_output(graph, bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), classes, true));
}

typedef struct setting {
    bnff_graph *graph;
    bnff_state *state;
    float *const *params;
    float *gradients[512];
    int count;
} setting;

static setting make_setting(golden *file, const char *name, int classes)
{
    setting s;
    bnff_error error;
    check_ok(bnff_graph_create(&s.graph, &error), &error);
    if (!strncmp(name, "resnet", 6)) build_resnet(s.graph, strstr(name, "bottleneck") != NULL, classes);
    else check_ok(bnff_model_build(s.graph, "densenet-bc-16-4", &(bnff_model_options){.classes = classes}, &error), &error);
    check_ok(bnff_graph_status(s.graph, &error), &error);
    check_ok(bnff_state_create(s.graph, &s.state, &error), &error);
    s.params = bnff_state_params(s.state);
    bnff_param_info info;
    for (s.count = 0; bnff_graph_param(s.graph, s.count, &info); s.count++) {
        char key[160];
        size_t n;
        assert_true(s.count < 512);
        snprintf(key, sizeof key, "start/%s", info.name);
        const float *start = golden_f32(file, key, &n, NULL);
        assert_int_equal(n, info.elements);
        memcpy(s.params[s.count], start, n * sizeof *start);
        s.gradients[s.count] = guarded(n);
    }
    return s;
}

static void compare(const setting *s, golden *file, const json_t *parameters)
{
    bnff_param_info info;
    for (int p = 0; bnff_graph_param(s->graph, p, &info); p++) {
        char key[160];
        snprintf(key, sizeof key, "want/%s", info.name);
        const double *want = golden_f64(file, key, NULL, NULL);
        double square = 0;
        for (int64_t i = 0; i < info.elements; i++) square += ((double)s->params[p][i] - want[i]) * ((double)s->params[p][i] - want[i]);
        if (sqrt(square) > 3 * golden_number(json_object_get(parameters, "distance"), info.name)) print_error("%s:\n", info.name);
        check_close(sqrt(square), 0, 3 * golden_number(json_object_get(parameters, "distance"), info.name));
        if (info.kind == BNFF_PARAM_RUNNING_MEAN) assert_int_equal(*bnff_state_batches(s->state, p), 3);
    }
}

static void train(bnff_context *context, golden *file, const json_t *parameters, const char *level)
{
    const int batch = (int)golden_number(parameters, "batch"), size = (int)golden_number(parameters, "image"),
              classes = (int)golden_number(parameters, "classes");
    bnff_error error;
    setting s = make_setting(file, golden_string(parameters, "name"), classes);
    bnff_plan *plan;
    bnff_pool *pool;
    bnff_run *run;
    bnff_optimizer *optimizer;
    const bnff_optimizer_options options = {.size = sizeof options,
                                            .momentum = (float)golden_number(parameters, "momentum"),
                                            .weight_decay = (float)golden_number(parameters, "weight_decay"),
                                            .norm_weight_decay = -1,
                                            .bias_weight_decay = -1};
    const bnff_plan_options planned = {
        .size = sizeof planned, .batch = batch, .height = size, .width = size, .mode = BNFF_TRAIN, .level = level};
    check_ok(bnff_plan_create(context, s.graph, &planned, &plan, &error), &error);
    check_ok(bnff_pool_create(context, &pool, &error), &error);
    check_ok(bnff_optimizer_create(context, s.graph, &options, NULL, &optimizer, &error), &error);
    float *logits = guarded((size_t)(batch * classes)), *gradient = guarded((size_t)(batch * classes));
    for (int step = 0; step < (int)golden_number(parameters, "steps"); step++) {
        char name[32];
        snprintf(name, sizeof name, "image%d", step);
        const bnff_tensor input = bnff_nchw((float *)golden_f32(file, name, NULL, NULL), size, size, 3);
        bnff_tensor output = bnff_nhwc(logits, 1, 1, classes), back = bnff_nhwc(gradient, 1, 1, classes);
        check_ok(bnff_run_acquire(pool, plan, &run, &error), &error);
        const bnff_forward_args forward = {.size = sizeof forward, .inputs = &input, .outputs = &output, .params = s.params};
        check_ok(bnff_forward(run, &forward, &error), &error);
        bnff_state_count_batch(s.state, NULL);
        snprintf(name, sizeof name, "labels%d", step);
        double loss;
        const int32_t *labels = golden_i32(file, name, NULL);
        check_ok(bnff_softmax_cross_entropy(logits, batch, classes, labels, NULL, 0, &loss, gradient, &error), &error);
        check_close(loss, json_number_value(json_array_get(json_object_get(parameters, "losses"), (size_t)step)),
                    3 * golden_number(parameters, "loss_distance"));
        const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &back, .param_gradients = s.gradients};
        check_ok(bnff_backward(run, &backward, &error), &error);
        bnff_run_release(&run);
        bnff_optimizer_step(optimizer, s.params, s.gradients, golden_number(parameters, "lr"), 1);
    }
    compare(&s, file, parameters);
    bnff_optimizer_destroy(&optimizer);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    bnff_state_destroy(&s.state);
    bnff_graph_destroy(&s.graph);
    check_guards();
}

static void three_steps_agree_with_pytorch(void **state)
{
    (void)state;
    static const char *const networks[] = {"densenet_bc_16_4", "resnet_basic", "resnet_bottleneck"};
    static const int threads[] = {1, 3};
    FOR_EACH(network, networks) FOR_EACH(count, threads) {
        bnff_context *context;
        bnff_error error;
        const bnff_context_options options = {.size = sizeof options, .threads = count};
        check_ok(bnff_context_create(&options, &context, &error), &error);
        golden *file = golden_open(network);
        for (int level = 0; bnff_level_name(level); level++) {
            const json_t *parameters = golden_case(file, 0);
            test_case("%s level=%s threads=%d", network, bnff_level_name(level), count);
            train(context, file, parameters, bnff_level_name(level));
        }
        golden_close(&file);
        bnff_context_destroy(&context);
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(three_steps_agree_with_pytorch)};
    return run_all(tests);
}
