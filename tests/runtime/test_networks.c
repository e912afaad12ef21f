/* Whole networks: three training steps of SGD with momentum against PyTorch's float64 run (tests/golden/make_golden.py). Allowed is
 * three times the distance at which PyTorch's own float32 runs ended from it, tensor by tensor, in the L2 norm. */
#include <bnff/bnff.h>

#include "golden.h"
#include "support.h"

/* -- torchvision's ResNet with few and narrow blocks, as make_golden.py builds it ------------------------------------------ */

static bnff_value conv_bn(bnff_graph *graph, const char *prefix, int index, bnff_value x, bnff_conv_options o)
{
    char name[64];
    snprintf(name, sizeof name, "%sconv%d", prefix, index);
    x = bnff_conv2d(graph, name, x, &o);
    snprintf(name, sizeof name, "%sbn%d", prefix, index);
    return bnff_batchnorm(graph, name, x, NULL);
}

static bnff_value block(bnff_graph *graph, const char *prefix, bnff_value x, int channels, int width, int stride, bool bottleneck)
{
    const int out = bottleneck ? 4 * width : width;
    bnff_value y;
    if (bottleneck) {
        y = bnff_relu(graph, conv_bn(graph, prefix, 1, x, (bnff_conv_options){.out_channels = width}));
        y = bnff_relu(graph, conv_bn(graph, prefix, 2, y, (bnff_conv_options){.out_channels = width, .kernel = {3}, .stride = {stride}, .padding = {1}}));
        y = conv_bn(graph, prefix, 3, y, (bnff_conv_options){.out_channels = out});
    } else {
        y = bnff_relu(graph, conv_bn(graph, prefix, 1, x, (bnff_conv_options){.out_channels = width, .kernel = {3}, .stride = {stride}, .padding = {1}}));
        y = conv_bn(graph, prefix, 2, y, (bnff_conv_options){.out_channels = out, .kernel = {3}, .padding = {1}});
    }
    if (stride != 1 || channels != out) {
        char name[64];
        snprintf(name, sizeof name, "%sdownsample.0", prefix);
        x = bnff_conv2d(graph, name, x, &(bnff_conv_options){.out_channels = out, .stride = {stride}});
        snprintf(name, sizeof name, "%sdownsample.1", prefix);
        x = bnff_batchnorm(graph, name, x, NULL);
    }
    return bnff_relu(graph, bnff_add(graph, y, x));
}

static void build_resnet(bnff_graph *graph, bool bottleneck, int classes)
{
    const int width = bottleneck ? 4 : 6, stem = bottleneck ? 8 : 6, out = bottleneck ? 16 : 6;
    bnff_value x = bnff_input(graph, "image", 3);
    x = bottleneck ? conv_bn(graph, "", 1, x, (bnff_conv_options){.out_channels = stem, .kernel = {7}, .stride = {2}, .padding = {3}})
                   : conv_bn(graph, "", 1, x, (bnff_conv_options){.out_channels = stem, .kernel = {3}, .padding = {1}});
    x = bnff_relu(graph, x);
    if (bottleneck) x = bnff_maxpool(graph, x, &(bnff_pool_options){.kernel = {3}, .stride = {2}, .padding = {1}});
    x = block(graph, "layer1.0.", x, stem, width, 1, bottleneck);
    x = block(graph, "layer1.1.", x, out, width, 1, bottleneck);
    x = block(graph, "layer2.0.", x, out, 2 * width, 2, bottleneck);
    bnff_output(graph, bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), classes, true));
}

static void build(bnff_graph *graph, const char *name, int classes)
{
    bnff_error error;
    if (!strncmp(name, "densenet", 8)) check_ok(bnff_model_build(graph, "densenet-bc-16-4", &(bnff_model_options){.classes = classes}, &error), &error);
    else build_resnet(graph, strstr(name, "bottleneck") != NULL, classes);
    check_ok(bnff_graph_status(graph, &error), &error);
}

/* -- Training -------------------------------------------------------------------------------------------------------------- */

typedef struct training {
    golden *file;
    const json_t *parameters;
    bnff_graph *graph;
    bnff_state *state;
    float **gradients;
    bnff_context *context;
    bnff_plan *plan, *evaluation;
    bnff_pool *pool;
    bnff_optimizer *optimizer;
    int batch, image, classes;
} training;

/* The file's name of a parameter: start/NAME or want/NAME. */
static const char *tensor_name(const training *t, const char *what, int param)
{
    static char name[128];
    bnff_param_info info;
    assert_true(bnff_graph_param(t->graph, param, &info));
    snprintf(name, sizeof name, "%s/%s", what, info.name);
    return name;
}

/* A way to run: NULL and 0 are defaults. */
typedef struct way {
    const char *level, *algorithm, *isa;
    int cells;
} way;

static bnff_plan *new_plan(const training *t, bnff_mode mode, way how)
{
    bnff_error error;
    bnff_plan *plan;
    const bnff_plan_options o = {.size = sizeof o, .batch = t->batch, .height = t->image, .width = t->image, .mode = mode, .level = how.level,
                                 .algorithm = how.algorithm, .cells = how.cells};
    check_ok(bnff_plan_create(t->context, t->graph, &o, &plan, &error), &error);
    return plan;
}

static training begin(const char *name, way how)
{
    bnff_error error;
    training t = {.file = golden_open(name)};
    t.parameters = golden_case(t.file, 0);
    test_case("%s three steps, level=%s conv=%s isa=%s cells=%d", name, how.level ? how.level : "default", how.algorithm ? how.algorithm : "default",
              how.isa ? how.isa : "best", how.cells);
    t.batch = (int)golden_number(t.parameters, "batch"), t.image = (int)golden_number(t.parameters, "image"), t.classes = (int)golden_number(t.parameters, "classes");
    check_ok(bnff_graph_create(&t.graph, &error), &error);
    build(t.graph, name, t.classes);
    const bnff_context_options context = {.size = sizeof context, .threads = 2, .max_isa = how.isa};
    check_ok(bnff_context_create(&context, &t.context, &error), &error);
    t.plan = new_plan(&t, BNFF_TRAIN, how);
    t.evaluation = new_plan(&t, BNFF_EVALUATE, how);
    check_ok(bnff_pool_create(t.context, &t.pool, &error), &error);
    check_ok(bnff_state_create(t.graph, &t.state, &error), &error);
    const bnff_optimizer_options o = {.size = sizeof o, .kind = BNFF_SGD, .momentum = (float)golden_number(t.parameters, "momentum"),
                                      .weight_decay = (float)golden_number(t.parameters, "weight_decay"), .norm_weight_decay = -1, .bias_weight_decay = -1};
    check_ok(bnff_optimizer_create(t.context, t.graph, &o, NULL, &t.optimizer, &error), &error);
    const int count = bnff_graph_param_count(t.graph);
    t.gradients = calloc((size_t)count, sizeof *t.gradients);
    for (int i = 0; i < count; i++) {
        size_t elements;
        const float *start = golden_f32(t.file, tensor_name(&t, "start", i), &elements, NULL);
        bnff_param_info info;
        assert_true(bnff_graph_param(t.graph, i, &info) && (size_t)info.elements == elements);
        memcpy(bnff_state_params(t.state)[i], start, elements * sizeof *start);
        t.gradients[i] = info.is_buffer ? NULL : guarded(elements);
    }
    return t;
}

static void end(training *t)
{
    bnff_optimizer_destroy(&t->optimizer);
    bnff_state_destroy(&t->state);
    bnff_pool_destroy(&t->pool);
    bnff_plan_destroy(&t->plan);
    bnff_plan_destroy(&t->evaluation);
    bnff_context_destroy(&t->context);
    bnff_graph_destroy(&t->graph);
    free(t->gradients);
    golden_close(&t->file);
    check_guards();
}

static void forward(training *t, bnff_run *run, int step, float *logits)
{
    char name[16];
    snprintf(name, sizeof name, "image%d", step);
    bnff_tensor in = bnff_nchw((float *)(uintptr_t)golden_f32(t->file, name, NULL, NULL), t->image, t->image, 3), out = bnff_nhwc(logits, 1, 1, t->classes);
    bnff_error error;
    const bnff_forward_args args = {.size = sizeof args, .inputs = &in, .outputs = &out, .params = bnff_state_params(t->state)};
    check_ok(bnff_forward(run, &args, &error), &error);
}

static double train_step(training *t, bnff_run *run, int step)
{
    char name[16];
    snprintf(name, sizeof name, "labels%d", step);
    float *logits = guarded((size_t)(t->batch * t->classes)), *gradient = guarded((size_t)(t->batch * t->classes));
    double loss;
    bnff_error error;
    forward(t, run, step, logits);
    check_ok(bnff_softmax_cross_entropy(logits, t->batch, t->classes, golden_i32(t->file, name, NULL), NULL, 0, &loss, gradient, &error), &error);
    bnff_tensor dy = bnff_nhwc(gradient, 1, 1, t->classes);
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &dy, .param_gradients = t->gradients};
    check_ok(bnff_backward(run, &backward, &error), &error);
    bnff_optimizer_step(t->optimizer, bnff_state_params(t->state), t->gradients, golden_number(t->parameters, "lr"), 1);
    return loss;
}

static void three_steps(const char *name, way how)
{
    training t = begin(name, how);
    bnff_run *run;
    bnff_error error;
    check_ok(bnff_run_acquire(t.pool, t.plan, &run, &error), &error);
    const json_t *losses = json_object_get(t.parameters, "losses"), *distance = json_object_get(t.parameters, "distance");
    for (int step = 0; step < 3; step++)
        check_close(train_step(&t, run, step), json_real_value(json_array_get(losses, (size_t)step)), 3 * golden_number(t.parameters, "loss_distance"));
    bnff_run_release(&run);
    for (int i = 0; i < bnff_graph_param_count(t.graph); i++) {
        size_t elements;
        const double *want = golden_f64(t.file, tensor_name(&t, "want", i), &elements, NULL);
        double sum = 0;
        for (size_t k = 0; k < elements; k++) sum += pow(bnff_state_params(t.state)[i][k] - want[k], 2);
        const char *leaf = tensor_name(&t, "want", i) + strlen("want/");
        support_close(sqrt(sum), 0, 3 * golden_number(distance, leaf), leaf, -1, __FILE__, __LINE__);
    }
    check_ok(bnff_run_acquire(t.pool, t.evaluation, &run, &error), &error);
    float *logits = guarded((size_t)(t.batch * t.classes));
    forward(&t, run, 0, logits);
    bnff_run_release(&run);
    const double *want = golden_f64(t.file, "evaluation", NULL, NULL);
    double sum = 0;
    for (int i = 0; i < t.batch * t.classes; i++) sum += pow(logits[i] - want[i], 2);
    check_close(sqrt(sum), 0, 3 * golden_number(t.parameters, "evaluation_distance"));
    end(&t);
}

static void in_every_way(const char *name)
{
    static const char *const isas[] = {"plain", "avx2", "avx512", "neon"};
    static const int cells[] = {1, 2, 7};
    for (int level = 0; bnff_level_name(level); level++) {
        three_steps(name, (way){.level = bnff_level_name(level), .algorithm = "direct", .cells = 2});
        three_steps(name, (way){.level = bnff_level_name(level), .algorithm = "auto", .cells = 2});
    }
    FOR_EACH(c, cells) three_steps(name, (way){.cells = c});
    FOR_EACH(isa, isas) {
        const bnff_context_options options = {.size = sizeof options, .threads = 1, .max_isa = isa};
        bnff_context *probe;
        if (bnff_context_create(&options, &probe, NULL) != BNFF_OK) continue; /* not one of this machine's */
        bnff_context_destroy(&probe);
        three_steps(name, (way){.isa = isa, .cells = 2});
    }
}

static void densenet(void **state) { (void)state; in_every_way("densenet_bc_16_4"); }
static void resnet_basic(void **state) { (void)state; in_every_way("resnet_basic"); }
static void resnet_bottleneck(void **state) { (void)state; in_every_way("resnet_bottleneck"); }

int main(void)
{
    static const struct CMUnitTest tests[] = {test(densenet), test(resnet_basic), test(resnet_bottleneck)};
    return run_all(tests);
}
