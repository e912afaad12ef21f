/* Initial values: the moments of each distribution, independence of the rest of the network, and reproducibility.
 *
 * With n independent values of standard deviation s, the mean's error is normal with s / sqrt(n) and the variance's with about
 * s^2 sqrt((kurtosis - 1) / n), at most s^2 sqrt(2 / n): bounds are six of these. */
#include <bnff/model.h>

#include "support.h"

static bnff_graph *build(const char *name, bnff_state **state)
{
    bnff_graph *graph;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    check_ok(bnff_model_build(graph, name, &(bnff_model_options){.classes = 100}, &error), &error);
    check_ok(bnff_state_create(graph, state, &error), &error);
    return graph;
}

static const float *param(bnff_state *state, const bnff_graph *graph, const char *name, bnff_param_info *info)
{
    const int index = bnff_graph_find_param(graph, name);
    assert_true(bnff_graph_param(graph, index, info));
    return bnff_state_params(state)[index];
}

/* Mean 0, the standard deviation `std`; uniform: no value beyond sqrt(3) std, else some beyond 3 std (if there are enough). */
static void check_moments(const float *x, int64_t n, double std, bool uniform)
{
    double sum = 0, squares = 0, largest = 0;
    for (int64_t i = 0; i < n; i++)
        sum += (double)x[i], squares += (double)x[i] * (double)x[i], largest = fmax(largest, fabs((double)x[i]));
    check_close(sum / (double)n, 0, 6 * std / sqrt((double)n));
    check_close(squares / (double)n, std * std, 6 * std * std * sqrt(2 / (double)n));
    if (uniform) assert_true(largest <= sqrt(3) * std * (1 + FLT_EPSILON));
    else if (n > 10000) assert_true(largest > 3 * std);
}

static void distributions_are_those_of_torchvision(void **state)
{
    (void)state;
    static const struct {
        const char *model, *param;
        double std;
        bool uniform;
    } cases[] = {
        {"densenet121", "features.conv0.weight", 0.11664236870396087 /* sqrt(2 / (3*49)) */, false},
        {"densenet121", "features.denseblock1.denselayer1.conv2.weight", 0.041666666666666664 /* sqrt(2 / (128*9)) */, false},
        {"densenet121", "classifier.weight", 0.018042195912175804 /* sqrt(1 / (3*1024)) */, true},
        {"densenet121", "classifier.bias", 0, true},
        {"resnet18", "conv1.weight", 0.025253813613805268 /* sqrt(2 / (64*49)) */, false},
        {"resnet18", "layer2.0.downsample.0.weight", 0.125 /* sqrt(2 / 128) */, false},
        {"resnet18", "fc.weight", 0.025515518153991442 /* sqrt(1 / (3*512)) */, true},
        {"resnet18", "fc.bias", 0.025515518153991442, true},
        {"resnet20", "layer3.0.conv1.weight", 0.058925565098878960 /* sqrt(2 / (64*9)) */, false},
        {"mobilenet_v2", "features.18.0.weight", 0.039528470752104743 /* sqrt(2 / 1280) */, false},
        {"mobilenet_v2", "features.2.conv.1.0.weight", 0.048112522432468816 /* depthwise: sqrt(2 / (96*9)) */, false},
        {"mobilenet_v2", "classifier.1.weight", 0.01, false},
        {"mobilenet_v2", "classifier.1.bias", 0, true},
    };
    FOR_EACH(c, cases) {
        test_case("%s %s", c.model, c.param);
        bnff_state *values;
        bnff_error error;
        bnff_param_info info;
        bnff_graph *graph = build(c.model, &values);
        check_ok(bnff_state_init(values, c.model, 1, &error), &error);
        const float *x = param(values, graph, c.param, &info);
        check_moments(x, info.elements, c.std, c.uniform);
        bnff_state_destroy(&values);
        bnff_graph_destroy(&graph);
    }
}

static void normalizations_begin_as_the_identity(void **state)
{
    (void)state;
    test_case("resnet20");
    bnff_state *values;
    bnff_error error;
    bnff_graph *graph = build("resnet20", &values);
    bnff_param_info info;
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) {
        for (int64_t i = 0; i < info.elements; i++) bnff_state_params(values)[p][i] = 7;
        if (info.kind == BNFF_PARAM_RUNNING_MEAN) *bnff_state_batches(values, p) = 7;
    }
    check_ok(bnff_state_init(values, "resnet20", 1, &error), &error);
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) {
        const float *x = bnff_state_params(values)[p];
        const bool one = info.kind == BNFF_PARAM_BN_WEIGHT || info.kind == BNFF_PARAM_RUNNING_VAR,
                   zero = info.kind == BNFF_PARAM_BN_BIAS || info.kind == BNFF_PARAM_RUNNING_MEAN;
        for (int64_t i = 0; i < info.elements; i++) {
            if (one || zero) check_close(x[i], one, 0);
            else assert_true(x[i] != 7);
        }
        if (info.kind == BNFF_PARAM_RUNNING_MEAN) assert_int_equal(*bnff_state_batches(values, p), 0);
    }
    bnff_state_destroy(&values);
    bnff_graph_destroy(&graph);
}

static void seeds_decide(void **state)
{
    (void)state;
    test_case("seeds");
    bnff_state *a, *b;
    bnff_error error;
    bnff_param_info info, other;
    bnff_graph *graph = build("resnet20", &a), *again = build("resnet20", &b);
    check_ok(bnff_state_init(a, "resnet20", 5, &error), &error);
    check_ok(bnff_state_init(b, "resnet20", 5, &error), &error);
    for (int p = 0; bnff_graph_param(graph, p, &info); p++)
        check_same_bits(bnff_state_params(a)[p], bnff_state_params(b)[p], (size_t)info.elements);
    check_ok(bnff_state_init(b, "resnet20", 6, &error), &error);
    const float *x = param(a, graph, "layer1.0.conv1.weight", &info), *y = param(b, again, "layer1.0.conv1.weight", &info),
                *z = param(a, graph, "layer1.0.conv2.weight", &other);
    int equal = 0;
    for (int i = 0; i < info.elements; i++) equal += x[i] == y[i] || x[i] == z[i];
    assert_int_equal(equal, 0); /* seeds and layers have streams of their own */
    bnff_state_destroy(&a), bnff_state_destroy(&b);
    bnff_graph_destroy(&graph), bnff_graph_destroy(&again);
}

/* A network of one's own, without a name in the zoo: torch.nn's layer defaults. */
static void layers_have_defaults(void **state)
{
    (void)state;
    test_case("model NULL");
    bnff_graph *graph;
    bnff_state *values;
    bnff_error error;
    bnff_param_info info;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_value x = bnff_conv2d(graph, "conv", bnff_input(graph, "input", 8),
                               &(bnff_conv_options){.out_channels = 600, .kernel = {3}, .groups = 4, .bias = true});
    bnff_output(graph, bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), 500, true));
    check_ok(bnff_graph_status(graph, &error), &error);
    check_ok(bnff_state_create(graph, &values, &error), &error);
    check_ok(bnff_state_init(values, NULL, 1, &error), &error);
    static const struct {
        const char *name;
        double fan_in;
    } cases[] = {{"conv.weight", 18}, {"conv.bias", 18}, {"fc.weight", 600}, {"fc.bias", 600}};
    FOR_EACH(c, cases) {
        test_case("%s", c.name);
        const float *w = param(values, graph, c.name, &info);
        check_moments(w, info.elements, 1 / sqrt(3 * c.fan_in), true);
    }
    check_fails(bnff_state_init(values, "resnet21", 1, &error), BNFF_E_ARG, &error, "did you mean 'resnet20'");
    bnff_state_destroy(&values);
    bnff_graph_destroy(&graph);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(distributions_are_those_of_torchvision), test(normalizations_begin_as_the_identity),
                                              test(seeds_decide), test(layers_have_defaults)};
    return run_all(tests);
}
