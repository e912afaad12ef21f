/* The zoo against torchvision 0.28: parameter counts, and names, order and shapes of the whole state dict, by a digest. */
#include <bnff/model.h>

#include "failalloc.h"
#include "support.h"

/* FNV-1a of a line "name[d0,d1,...]\n" for each parameter and buffer in order, num_batches_tracked left out. */
static uint64_t digest(const bnff_graph *graph)
{
    uint64_t hash = 0xcbf29ce484222325u;
    bnff_param_info info;
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) {
        char line[256];
        int length = snprintf(line, sizeof line, "%s[", info.name);
        for (int d = 0; d < info.rank; d++)
            length += snprintf(line + length, sizeof line - (size_t)length, "%lld%s", (long long)info.shape[d],
                               d + 1 < info.rank ? "," : "]\n");
        for (int i = 0; i < length; i++) hash = (hash ^ (unsigned char)line[i]) * 0x100000001b3u;
    }
    return hash;
}

static void count(const bnff_graph *graph, int *tensors, int64_t *parameters, int *buffers)
{
    bnff_param_info info;
    *tensors = *buffers = 0, *parameters = 0;
    for (int p = 0; bnff_graph_param(graph, p, &info); p++) {
        int64_t product = 1;
        for (int d = 0; d < info.rank; d++) product *= info.shape[d];
        assert_int_equal(product, info.elements);
        *tensors += !info.is_buffer, *buffers += info.is_buffer;
        if (!info.is_buffer) *parameters += info.elements;
    }
}

static bnff_graph *build(const char *name, int classes)
{
    bnff_graph *graph;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    check_ok(bnff_model_build(graph, name, &(bnff_model_options){.classes = classes}, &error), &error);
    return graph;
}

static const struct published {
    const char *name;
    int classes;
    int64_t parameters;
    int tensors;
    uint64_t digest; /* 0: not torchvision's */
} published[] = {
    {"densenet121", 1000, 7978856, 364, 0x1540a6d923c11933},
    {"densenet161", 1000, 28681000, 484, 0x6fedbc57291cf276},
    {"densenet169", 1000, 14149480, 508, 0xa25f136ce5340d33},
    {"densenet201", 1000, 20013928, 604, 0x9c6615d5d377b7df},
    {"resnet18", 1000, 11689512, 62, 0xa094403e1b83da78},
    {"resnet34", 1000, 21797672, 110, 0x6775749e85727a56},
    {"resnet50", 1000, 25557032, 161, 0xc36676d7d5db6143},
    {"resnet101", 1000, 44549160, 314, 0x59be3e535ddfb004},
    {"resnet152", 1000, 60192808, 467, 0xf981d9f15e28eee0},
    {"wide_resnet50_2", 1000, 68883240, 161, 0xcfc7831ce4a264c7},
    {"wide_resnet101_2", 1000, 126886696, 314, 0xc16c5aebc1f2144c},
    {"resnext50_32x4d", 1000, 25028904, 161, 0x25d272c9a4f5d414},
    {"resnext101_32x8d", 1000, 88791336, 314, 0x7f76e5d51f482a15},
    {"resnext101_64x4d", 1000, 83455272, 314, 0xe63ae89807022c12},
    {"vgg11_bn", 1000, 132868840, 38, 0x4e403aaa35197cd1},
    {"vgg13_bn", 1000, 133053736, 46, 0x1999f863ac3d7ecc},
    {"vgg16_bn", 1000, 138365992, 58, 0x6e5e1168d6d3f145},
    {"vgg19_bn", 1000, 143678248, 70, 0x2a40c1a7555a53c2},
    {"mobilenet_v2", 1000, 3504872, 158, 0x700ce3666f55ca39},
    {"mobilenet_v3_large", 1000, 5483032, 0, 0},
    {"mobilenet_v3_small", 1000, 2542856, 142, 0x25c894ab92ecf1e9},
    {"efficientnet_b0", 1000, 5288548, 213, 0xa954aef1acb69616},
    {"mnasnet1_0", 1000, 4383312, 158, 0x1d97864ccbf06748},
    {"regnet_y_400mf", 1000, 4344144, 225, 0xd27b0caca992f83a},
    {"shufflenet_v2_x0_5", 1000, 1366792, 170, 0},
    {"shufflenet_v2_x1_0", 1000, 2278604, 170, 0x2ed589cfe3faaa7d},
    {"shufflenet_v2_x1_5", 1000, 3503624, 170, 0},
    {"shufflenet_v2_x2_0", 1000, 7393996, 170, 0},
    {"squeezenet1_0", 1000, 1248424, 52, 0},
    {"squeezenet1_1", 1000, 1235496, 52, 0xd8b1f7bc0d2adfde},
    {"googlenet", 1000, 6624904, 173, 0xe0a5d2c31713014f},
    /* The papers' CIFAR networks. The BC digests are those of torchvision's DenseNet class with its stem replaced. */
    {"densenet-bc-22-12", 10, 71686, 0, 0x7ce265d500ea9714},
    {"densenet-bc-40-12", 10, 176122, 0, 0x5125eba450259fc9},
    {"densenet-bc-100-12", 10, 769162, 0, 0xbac06bab4d7351e0},
    {"densenet-bc-250-24", 10, 15324406, 0, 0x1a7e24aee87e8697},
    {"densenet-bc-190-40", 10, 25624430, 0, 0x3b24e290cdc3e34a},
    {"densenet-40-12", 10, 1019722, 0, 0},
    {"densenet-100-12", 10, 6979642, 0, 0},
    {"densenet-100-24", 10, 27249082, 0, 0},
    {"resnet20", 10, 269722, 59, 0},
    {"resnet32", 10, 464154, 95, 0},
    {"resnet44", 10, 658586, 131, 0},
    {"resnet56", 10, 853018, 167, 0},
    {"resnet110", 10, 1727962, 329, 0},
};

static void every_model_is_the_published_one(void **state)
{
    (void)state;
    FOR_EACH(model, published) {
        test_case("%s", model.name);
        bnff_graph *graph = build(model.name, model.classes);
        int tensors, buffers;
        int64_t parameters;
        count(graph, &tensors, &parameters, &buffers);
        assert_int_equal(parameters, model.parameters);
        if (model.tensors) assert_int_equal(tensors, model.tensors);
        if (model.digest) assert_true(digest(graph) == model.digest);
        bnff_graph_destroy(&graph);
    }
}

static void state_dict_sizes(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        int keys; /* with num_batches_tracked of each BN */
    } cases[] = {{"densenet121", 727}, {"resnet50", 320}, {"vgg16_bn", 97}, {"mobilenet_v2", 314}};
    FOR_EACH(c, cases) {
        test_case("%s", c.name);
        bnff_graph *graph = build(c.name, 1000);
        int tensors, buffers;
        int64_t parameters;
        count(graph, &tensors, &parameters, &buffers);
        assert_int_equal(tensors + buffers + buffers / 2, c.keys);
        bnff_graph_destroy(&graph);
    }
}

static void expect(const bnff_graph *graph, const char *name, int rank, int64_t d0, int64_t d1, int64_t d2)
{
    bnff_param_info info;
    assert_true(bnff_graph_param(graph, bnff_graph_find_param(graph, name), &info));
    assert_int_equal(info.rank, rank);
    assert_int_equal(info.shape[0], d0);
    if (rank > 1) assert_int_equal(info.shape[1], d1);
    if (rank > 2) assert_int_equal(info.shape[2], d2);
}

static void cifar_names(void **state)
{
    (void)state;
    test_case("densenet-40-12");
    bnff_graph *graph = build("densenet-40-12", 10);
    expect(graph, "features.conv0.weight", 4, 16, 3, 3);
    expect(graph, "features.denseblock1.denselayer12.conv1.weight", 4, 12, 148, 3);
    expect(graph, "features.transition1.conv.weight", 4, 160, 160, 1);
    expect(graph, "features.norm5.running_var", 1, 448, 0, 0);
    expect(graph, "classifier.weight", 2, 10, 448, 0);
    bnff_graph_destroy(&graph);
    test_case("resnet20");
    graph = build("resnet20", 10);
    expect(graph, "conv1.weight", 4, 16, 3, 3);
    expect(graph, "layer2.0.conv1.weight", 4, 32, 16, 3);
    expect(graph, "layer3.2.bn2.bias", 1, 64, 0, 0);
    expect(graph, "fc.weight", 2, 10, 64, 0);
    assert_int_equal(bnff_graph_find_param(graph, "layer2.0.downsample.0.weight"), -1);
    bnff_graph_destroy(&graph);
}

static void patterns(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bool known;
    } cases[] = {
        {"densenet-bc-22-12", true},
        {"densenet-bc-10-1", true},
        {"densenet-bc-1000-256", true},
        {"densenet-bc-64-16", true},
        {"densenet-7-3", true},
        {"densenet-22-48", true},
        {"densenet-bc-23-12", false},
        {"densenet-bc-4-12", false},
        {"densenet-bc-1006-12", false},
        {"densenet-bc-22-0", false},
        {"densenet-bc-22-257", false},
        {"densenet-bc-022-12", false},
        {"densenet-bc-22-12x", false},
        {"densenet-bc-22", false},
        {"densenet-bc--22-12", false},
        {"densenet-bc-22-", false},
        {"densenet-bc-99999999999999999999-12", false},
        {"densenet-bc-L-k", false},
        {"densenet-L-k", false},
        {"densenet-8-3", false},
        {"densenet-4-3", false},
        {"densenet-", false},
        {"", false},
    };
    FOR_EACH(c, cases) {
        test_case("'%s'", c.name);
        bnff_model_info info = {0};
        assert_int_equal(bnff_model_find(c.name, &info), c.known);
        if (!c.known) continue;
        assert_string_equal(info.name, c.name);
        assert_int_equal(info.default_size, 32);
        assert_string_equal(info.classifier, "classifier");
    }
    bnff_model_info info;
    assert_true(bnff_model_find("densenet-bc-64-16", &info) && info.pattern);
    assert_true(bnff_model_find("densenet-bc-22-12", &info) && !info.pattern);
    bnff_graph *graph = build("densenet-bc-1000-1", 2);
    assert_true(bnff_graph_find_param(graph, "features.denseblock3.denselayer166.conv2.weight") >= 0);
    bnff_graph_destroy(&graph);
}

static void list_is_complete(void **state)
{
    (void)state;
    bnff_model_info info, found;
    int count = 0, models = 0;
    for (; bnff_model_list(count, &info); count++) {
        test_case("%s", info.name);
        assert_int_equal(bnff_model_find(info.name, &found), !info.pattern);
        models += !info.pattern;
        if (info.pattern) continue;
        assert_string_equal(found.name, info.name);
        assert_true(1 <= info.min_size && info.min_size <= info.default_size);
        bnff_graph *graph = build(info.name, 7);
        char head[64];
        snprintf(head, sizeof head, "%s.weight", info.classifier);
        bnff_param_info weight;
        assert_true(bnff_graph_param(graph, bnff_graph_find_param(graph, head), &weight));
        assert_int_equal(weight.shape[0], 7);
        bnff_graph_destroy(&graph);
    }
    assert_int_equal(models, COUNT_OF(published));
    assert_int_equal(count, models + 2);
    assert_false(bnff_model_list(-1, &info));
    assert_false(bnff_model_list(count + 1, &info));
}

static void misspelt_names(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"resnet-50", "resnet50"},
        {"ResNet18", "resnet18"},
        {"densnet121", "densenet121"},
        {"densenet-bc-23-12", "densenet-bc-22-12"},
        {"vgg16", "vgg16_bn"},
        {"mobilenetv2", "mobilenet_v2"},
        {"resnext50", "resnext50_32x4d"},
        {"wide_resnet50", "wide_resnet50_2"},
        {"DENSENET-BC-100-12", "densenet-bc-100-12"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i][0]);
        assert_string_equal(bnff_model_nearest(cases[i][0]), cases[i][1]);
    }
    bnff_model_info info;
    assert_true(bnff_model_find(bnff_model_nearest(""), &info));
    assert_true(bnff_model_find(bnff_model_nearest(NULL), &info));
    char endless[5000];
    memset(endless, 'x', sizeof endless - 1), endless[sizeof endless - 1] = 0;
    assert_true(bnff_model_find(bnff_model_nearest(endless), &info));
}

static void refuses_nonsense(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        bnff_model_options options;
        const char *words;
    } cases[] = {
        {"resnet51", {.classes = 10}, "unknown model 'resnet51'"},
        {"resnet51", {.classes = 10}, "did you mean 'resnet5"},
        {NULL, {.classes = 10}, "no model"},
        {"densenet-bc-23-12", {.classes = 10}, "multiple of 6"},
        {"densenet-41-12", {.classes = 10}, "multiple of 3"},
        {"densenet-bc-22-1000", {.classes = 10}, "growth 1 to 256"},
        {"densenet-bc-L-k", {.classes = 10}, "stand for numbers"},
        {"resnet18", {.classes = 0}, "0 classes"},
        {"resnet18", {.classes = -3}, "-3 classes"},
        {"resnet18", {.classes = 10, .channels = -1}, "-1 image channels"},
        {"resnet18", {.classes = 10, .dropout = .5f}, "no dropout"},
        {"densenet121", {.classes = 10, .dropout = 1}, "not below 1"},
        {"densenet121", {.classes = 10, .dropout = NAN}, "not below 1"},
        {"resnet18", {.classes = 10, .channels = 65537}, "65537"},
    };
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("%s", cases[i].words);
        bnff_error error;
        bnff_graph *graph;
        check_ok(bnff_graph_create(&graph, &error), &error);
        check_fails(bnff_model_build(graph, cases[i].name, &cases[i].options, &error), BNFF_E_ARG, &error, cases[i].words);
        bnff_graph_destroy(&graph);
    }
    test_case("a graph in use");
    bnff_error error;
    bnff_graph *graph = build("resnet20", 10);
    check_fails(bnff_model_build(graph, "resnet20", &(bnff_model_options){.classes = 10}, &error), BNFF_E_ARG, &error, "not empty");
    bnff_graph_destroy(&graph);
}

/* How often the printed graph says "dropout". */
static int dropouts(const char *name, float dropout)
{
    bnff_graph *graph;
    bnff_error error;
    char *text;
    int count = 0;
    check_ok(bnff_graph_create(&graph, &error), &error);
    check_ok(bnff_model_build(graph, name, &(bnff_model_options){.classes = 10, .channels = 1, .dropout = dropout}, &error), &error);
    check_ok(bnff_graph_print(graph, &text, &error), &error);
    for (const char *at = text; (at = strstr(at, "dropout")) != NULL; at++) count++;
    bnff_free(text);
    bnff_graph_destroy(&graph);
    return count;
}

static void dropout_is_where_it_belongs(void **state)
{
    (void)state;
    assert_int_equal(dropouts("densenet121", 0), 0);
    assert_int_equal(dropouts("densenet121", .1f), 58);
    assert_int_equal(dropouts("densenet-40-12", .2f), 36);
    assert_int_equal(dropouts("vgg11_bn", 0), 2);
    assert_int_equal(dropouts("vgg11_bn", -1), 0);
    assert_int_equal(dropouts("mobilenet_v2", 0), 1);
    assert_int_equal(dropouts("mobilenet_v2", -1), 0);
    assert_int_equal(dropouts("efficientnet_b0", 0), 1);
    assert_int_equal(dropouts("squeezenet1_1", -1), 0);
    assert_int_equal(dropouts("resnet50", 0), 0);
}

static bnff_status build_one(void *arg, bnff_error *error)
{
    bnff_graph *graph;
    bnff_status status = bnff_graph_create(&graph, error);
    if (status == BNFF_OK) status = bnff_model_build(graph, arg, &(bnff_model_options){.classes = 10}, error);
    bnff_graph_destroy(&graph);
    return status;
}

static void survives_missing_memory(void **state)
{
    (void)state;
    test_case("memory");
    assert_true(fail_each_allocation(build_one, (char[]){"resnet20"}) > 10);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(every_model_is_the_published_one),
        test(state_dict_sizes),
        test(cifar_names),
        test(patterns),
        test(list_is_complete),
        test(misspelt_names),
        test(refuses_nonsense),
        test(dropout_is_where_it_belongs),
        test(survives_missing_memory),
    };
    return run_all(tests);
}
