/* A state: its layout, and what a state dict may and may not look like to be loaded into it. */
#include <bnff/model.h>
#include <bnff/weights.h>

#include "support.h"

typedef struct net {
    bnff_graph *graph;
    bnff_state *state;
} net;

/* stem.conv (3x3) - stem.bn - relu - pool - head (linear) */
static net make_net(int channels, int classes)
{
    net n;
    bnff_error error;
    check_ok(bnff_graph_create(&n.graph, &error), &error);
    bnff_value x = bnff_input(n.graph, "image", channels);
    x = bnff_conv2d(n.graph, "stem.conv", x, &(bnff_conv_options){.out_channels = 5, .kernel = {3}});
    x = bnff_relu(n.graph, bnff_batchnorm(n.graph, "stem.bn", x, NULL));
    x = bnff_linear(n.graph, "head", bnff_global_avgpool(n.graph, x), classes, true);
    bnff_output(n.graph, x);
    check_ok(bnff_state_create(n.graph, &n.state, &error), &error);
    return n;
}

static void free_net(net *n)
{
    bnff_state_destroy(&n->state);
    assert_null(n->state);
    bnff_graph_destroy(&n->graph);
}

static int param_of(const net *n, const char *name)
{
    const int i = bnff_graph_find_param(n->graph, name);
    assert_int_not_equal(i, -1);
    return i;
}

static float *values(const net *n, const char *name) { return bnff_state_params(n->state)[param_of(n, name)]; }
static int64_t *batches(const net *n) { return bnff_state_batches(n->state, param_of(n, "stem.bn.running_mean")); }

static void fill(const net *n, double seed)
{
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(n->graph, i, &info); i++)
        for (int64_t k = 0; k < info.elements; k++) bnff_state_params(n->state)[i][k] = (float)(seed + i + (double)k / 64);
    *batches(n) = (int64_t)seed + 1000;
}

static bnff_weights *stored(const net *n)
{
    bnff_weights *weights;
    bnff_error error;
    check_ok(bnff_weights_create(&weights, &error), &error);
    check_ok(bnff_state_store(n->state, weights, &error), &error);
    return weights;
}

static void check_same(const net *a, const net *b)
{
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(a->graph, i, &info); i++) {
        test_case("%s", info.name);
        check_same_bits(bnff_state_params(a->state)[i], bnff_state_params(b->state)[i], (size_t)info.elements);
    }
    assert_int_equal(*batches(a), *batches(b));
}

static void starts_as_an_identity(void **state)
{
    (void)state;
    net n = make_net(3, 4);
    bnff_param_info info;
    for (int i = 0; bnff_graph_param(n.graph, i, &info); i++) {
        const float want = strstr(info.name, "bn.weight") || strstr(info.name, "running_var") ? 1 : 0;
        assert_int_equal((uintptr_t)bnff_state_params(n.state)[i] % 64, 0);
        for (int64_t k = 0; k < info.elements; k++) check_close(bnff_state_params(n.state)[i][k], want, 0);
        if (strcmp(info.name, "stem.bn.running_mean")) assert_null(bnff_state_batches(n.state, i));
    }
    assert_int_equal(*batches(&n), 0);
    assert_null(bnff_state_batches(n.state, -1));
    assert_null(bnff_state_batches(n.state, 99));
    free_net(&n);
}

static void parameters_do_not_overlap(void **state)
{
    (void)state;
    net n = make_net(3, 4);
    bnff_param_info info;
    const int count = bnff_graph_param_count(n.graph);
    for (int i = 0; bnff_graph_param(n.graph, i, &info); i++)
        for (int64_t k = 0; k < info.elements; k++) bnff_state_params(n.state)[i][k] = (float)i;
    for (int i = 0; i < count && bnff_graph_param(n.graph, i, &info); i++)
        for (int64_t k = 0; k < info.elements; k++) check_close(bnff_state_params(n.state)[i][k], i, 0);
    free_net(&n);
}

static void counts_batches_of_what_is_not_frozen(void **state)
{
    (void)state;
    net n = make_net(3, 4);
    bool frozen[16] = {false};
    bnff_state_count_batch(n.state, NULL);
    bnff_state_count_batch(n.state, frozen);
    assert_int_equal(*batches(&n), 2);
    frozen[param_of(&n, "stem.bn.running_mean")] = true;
    bnff_state_count_batch(n.state, frozen);
    assert_int_equal(*batches(&n), 2);
    free_net(&n);
}

static void stores_and_loads(void **state)
{
    (void)state;
    net a = make_net(3, 4), b = make_net(3, 4);
    fill(&a, 1);
    *batches(&a) = (1LL << 53) + 1; /* no float or double holds it */
    bnff_weights *weights = stored(&a);
    static const char *const order[] = {"stem.conv.weight", "stem.bn.weight", "stem.bn.bias", "stem.bn.running_mean", "stem.bn.running_var",
                                        "stem.bn.num_batches_tracked", "head.weight", "head.bias"};
    assert_int_equal(bnff_weights_count(weights), COUNT_OF(order));
    bnff_weights_entry entry;
    for (int i = 0; bnff_weights_get(weights, i, &entry); i++) {
        assert_string_equal(entry.name, order[i]);
        assert_int_equal(entry.dtype, i == 5 ? BNFF_I64 : BNFF_F32);
    }
    bnff_weights_get(weights, 5, &entry);
    assert_int_equal(entry.rank, 0);
    bnff_load_report report;
    bnff_error error;
    check_ok(bnff_state_load(b.state, weights, "head", &report, &error), &error);
    assert_int_equal(report.loaded, 8);
    assert_false(report.head_replaced);
    assert_int_equal(report.file_channels, 0);
    assert_string_equal(report.detail, "");
    check_same(&a, &b);
    check_ok(bnff_state_load(b.state, weights, NULL, NULL, NULL), NULL);
    check_fails(bnff_state_store(a.state, weights, &error), BNFF_E_ARG, &error, "already");
    bnff_weights_destroy(&weights);
    free_net(&a);
    free_net(&b);
}

/* Copy `from`, without `drop`, with `rename` as `to`, with `extra` added and `reshape` as [7, 7]. All may be NULL. */
typedef struct change {
    const char *drop, *rename, *to, *extra, *reshape;
} change;

static bnff_weights *changed(const bnff_weights *from, const change *c)
{
    static const float zeros[49];
    bnff_weights *weights;
    bnff_weights_entry entry;
    bnff_error error;
    check_ok(bnff_weights_create(&weights, &error), &error);
    for (int i = 0; bnff_weights_get(from, i, &entry); i++) {
        if (c->drop && !strcmp(entry.name, c->drop)) continue;
        if (c->reshape && !strcmp(entry.name, c->reshape)) entry = (bnff_weights_entry){entry.name, BNFF_F32, 2, {7, 7}, 49, zeros};
        if (c->rename && !strcmp(entry.name, c->rename)) entry.name = c->to;
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
    }
    if (c->extra) {
        entry = (bnff_weights_entry){c->extra, BNFF_F32, 1, {1}, 1, zeros};
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
    }
    return weights;
}

static void refuses_what_does_not_fit_and_changes_nothing(void **state)
{
    (void)state;
    static const struct {
        change change;
        const char *message, *detail;
    } cases[] = {
        {{.drop = "stem.bn.bias"}, "1 missing, 0 unexpected, 0 of another shape; the first is 'stem.bn.bias'", "missing:\n  stem.bn.bias\n"},
        {{.extra = "tail.bias"}, "0 missing, 1 unexpected", "unexpected:\n  tail.bias\n"},
        {{.reshape = "stem.bn.weight"}, "1 of another shape; the first is 'stem.bn.weight'", "stem.bn.weight is [7, 7] in the file, [5] in the model"},
        {{.reshape = "stem.conv.weight"}, "1 of another shape", "stem.conv.weight is [7, 7] in the file, [5, 3, 3, 3] in the model"},
        {{.reshape = "head.weight"}, "1 of another shape", "head.weight is [7, 7] in the file, [4, 5] in the model"},
        {{.reshape = "head.bias"}, "1 of another shape", "head.bias is [7, 7] in the file, [4] in the model"},
        {{.reshape = "stem.bn.num_batches_tracked"}, "1 of another shape; the first is 'stem.bn.num_batches_tracked'", "one number in the model"},
        {{.rename = "stem.bn.bias", .to = "stem.bn.bais"}, "1 missing, 1 unexpected",
         "missing:\n  stem.bn.bias  (nearest: stem.bn.bais)\nunexpected:\n  stem.bn.bais  (nearest: stem.bn.bias)\n"},
        {{.rename = "head.bias", .to = "\x1b[31m\nhead"}, "1 missing, 1 unexpected", "  ?[31m?head  (nearest"},
    };
    net a = make_net(3, 4), b = make_net(3, 4), untouched = make_net(3, 4);
    fill(&a, 1);
    fill(&b, 2);
    fill(&untouched, 2);
    bnff_weights *good = stored(&a);
    for (size_t i = 0; i < COUNT_OF(cases); i++) {
        test_case("change %zu", i);
        bnff_weights *bad = changed(good, &cases[i].change);
        bnff_load_report report;
        bnff_error error;
        check_fails(bnff_state_load(b.state, bad, "head", &report, &error), BNFF_E_SHAPE, &error, cases[i].message);
        assert_non_null(strstr(report.detail, cases[i].detail));
        check_fails(bnff_state_load(b.state, bad, "head", NULL, NULL), BNFF_E_SHAPE, NULL, NULL);
        check_same(&b, &untouched);
        bnff_weights_destroy(&bad);
    }
    bnff_weights_destroy(&good);
    free_net(&a);
    free_net(&b);
    free_net(&untouched);
}

static void absent_batch_counts_are_zero(void **state)
{
    (void)state;
    net a = make_net(3, 4), b = make_net(3, 4);
    fill(&a, 1);
    fill(&b, 2);
    bnff_weights *full = stored(&a), *old = changed(full, &(change){.drop = "stem.bn.num_batches_tracked"});
    bnff_load_report report;
    bnff_error error;
    check_ok(bnff_state_load(b.state, old, "head", &report, &error), &error);
    assert_int_equal(report.loaded, 7);
    *batches(&a) = 0;
    check_same(&a, &b);
    bnff_weights_destroy(&full);
    bnff_weights_destroy(&old);
    free_net(&a);
    free_net(&b);
}

static void keeps_the_head_when_only_its_classes_differ(void **state)
{
    (void)state;
    net a = make_net(3, 9), b = make_net(3, 4);
    fill(&a, 1);
    fill(&b, 2);
    bnff_weights *weights = stored(&a);
    bnff_load_report report;
    bnff_error error;
    const float weight = values(&b, "head.weight")[3], bias = values(&b, "head.bias")[3];
    check_fails(bnff_state_load(b.state, weights, NULL, &report, &error), BNFF_E_SHAPE, &error, "2 of another shape");
    check_fails(bnff_state_load(b.state, weights, "hea", &report, &error), BNFF_E_SHAPE, &error, "2 of another shape");
    check_ok(bnff_state_load(b.state, weights, "head", &report, &error), &error);
    assert_true(report.head_replaced);
    assert_int_equal(report.file_classes, 9);
    assert_int_equal(report.loaded, 6);
    check_close(values(&b, "head.weight")[3], weight, 0);
    check_close(values(&b, "head.bias")[3], bias, 0);
    check_same_bits(values(&b, "stem.conv.weight"), values(&a, "stem.conv.weight"), 5 * 27);
    /* a weight for 9 classes and a bias for 4 is no head for any number of classes */
    net c = make_net(3, 4);
    bnff_weights *other = stored(&c), *mixed = changed(weights, &(change){.drop = "head.bias"});
    bnff_weights_entry entry;
    assert_true(bnff_weights_get(other, bnff_weights_find(other, "head.bias"), &entry));
    check_ok(bnff_weights_add(mixed, &entry, &error), &error);
    check_fails(bnff_state_load(b.state, mixed, "head", &report, &error), BNFF_E_SHAPE, &error, "1 of another shape");
    bnff_weights_destroy(&mixed);
    /* nor is one of 9 classes that reads 7 features instead of 5 */
    static const float zeros[9 * 7];
    mixed = changed(weights, &(change){.drop = "head.weight"});
    check_ok(bnff_weights_add(mixed, &(bnff_weights_entry){"head.weight", BNFF_F32, 2, {9, 7}, 63, zeros}, &error), &error);
    check_fails(bnff_state_load(b.state, mixed, "head", &report, &error), BNFF_E_SHAPE, &error, "1 of another shape");
    bnff_weights_destroy(&weights);
    bnff_weights_destroy(&other);
    bnff_weights_destroy(&mixed);
    free_net(&a);
    free_net(&b);
    free_net(&c);
}

/* w'[o,0,k] = sum_c w[o,c,k]; else w'[o,d,k] = w[o,d mod C,k] C/D. Each sum of three floats is within 2 roundings of exact. */
static void adapts_the_first_convolution(void **state)
{
    (void)state;
    static const int from[] = {3, 3, 3, 1, 1}, to[] = {1, 4, 7, 3, 6};
    for (size_t n = 0; n < COUNT_OF(from); n++) {
        const int C = from[n], D = to[n];
        test_case("channels %d to %d", C, D);
        net a = make_net(C, 4), b = make_net(D, 4);
        fill(&a, 1);
        bnff_weights *weights = stored(&a);
        bnff_load_report report;
        bnff_error error;
        check_ok(bnff_state_load(b.state, weights, "head", &report, &error), &error);
        assert_int_equal(report.file_channels, C);
        assert_int_equal(report.loaded, 8);
        const float *w = values(&a, "stem.conv.weight"), *v = values(&b, "stem.conv.weight");
        for (int o = 0; o < 5; o++)
            for (int d = 0; d < D; d++)
                for (int k = 0; k < 9; k++) {
                    double want = (double)w[(o * C + d % C) * 9 + k] * C / D;
                    if (D == 1) want = (double)w[o * C * 9 + k] + w[(o * C + 1) * 9 + k] + w[(o * C + 2) * 9 + k];
                    check_close(v[(o * D + d) * 9 + k], want, 2 * FLT_EPSILON * fabs(want));
                }
        bnff_weights_destroy(&weights);
        free_net(&a);
        free_net(&b);
    }
    net a = make_net(5, 4), b = make_net(3, 4); /* five channels of what? */
    bnff_weights *weights = stored(&a);
    bnff_error error;
    check_fails(bnff_state_load(b.state, weights, "head", NULL, &error), BNFF_E_SHAPE, &error, "1 of another shape");
    bnff_weights_destroy(&weights);
    free_net(&a);
    free_net(&b);
}

/* torchvision's first DenseNet files have a dot more, and no counts. */
static void reads_old_densenet_names(void **state)
{
    (void)state;
    static const struct { const char *now, *then; } names[] = {
        {"features.denseblock1.denselayer1.norm1", "features.denseblock1.denselayer1.norm.1"},
        {"features.denseblock1.denselayer12.norm2", "features.denseblock1.denselayer12.norm.2"},
    };
    bnff_error error;
    bnff_graph *graph;
    bnff_state *loaded;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_value x = bnff_input(graph, "image", 3);
    for (size_t i = 0; i < COUNT_OF(names); i++) x = bnff_batchnorm(graph, names[i].now, x, NULL);
    bnff_output(graph, x);
    check_ok(bnff_state_create(graph, &loaded, &error), &error);
    bnff_weights *weights;
    check_ok(bnff_weights_create(&weights, &error), &error);
    static const char *const leaves[] = {"weight", "bias", "running_mean", "running_var"};
    for (size_t i = 0; i < COUNT_OF(names); i++)
        FOR_EACH(leaf, leaves) {
            char name[80];
            const float data[3] = {(float)i, (float)leaf[0], 7};
            snprintf(name, sizeof name, "%s.%s", names[i].then, leaf);
            check_ok(bnff_weights_add(weights, &(bnff_weights_entry){name, BNFF_F32, 1, {3}, 3, data}, &error), &error);
        }
    bnff_load_report report;
    check_ok(bnff_weights_save(weights, temp_path("old.safetensors"), &error), &error);
    bnff_weights_destroy(&weights);
    check_ok(bnff_weights_open(temp_path("old.safetensors"), &weights, &error), &error);
    check_ok(bnff_state_load(loaded, weights, NULL, &report, &error), &error);
    assert_int_equal(report.loaded, 8);
    for (size_t i = 0; i < COUNT_OF(names); i++)
        FOR_EACH(leaf, leaves) {
            char name[80];
            snprintf(name, sizeof name, "%s.%s", names[i].now, leaf);
            const float *got = bnff_state_params(loaded)[bnff_graph_find_param(graph, name)];
            check_close(got[0], i, 0);
            check_close(got[1], leaf[0], 0);
        }
    bnff_weights_destroy(&weights);
    bnff_state_destroy(&loaded);
    bnff_graph_destroy(&graph);
}

static void lists_are_short(void **state)
{
    (void)state;
    net a = make_net(3, 4);
    bnff_weights *weights = stored(&a);
    bnff_error error;
    for (int i = 0; i < 25; i++) {
        char name[400];
        memset(name, 'x', sizeof name);
        snprintf(name + 380, 20, "%d", i);
        check_ok(bnff_weights_add(weights, &(bnff_weights_entry){name, BNFF_U8, 0, {0}, 1, "a"}, &error), &error);
    }
    bnff_load_report report;
    check_fails(bnff_state_load(a.state, weights, "head", &report, &error), BNFF_E_SHAPE, &error, "25 unexpected");
    int lines = 0;
    for (const char *at = report.detail; (at = strchr(at, '\n')); at++) lines++;
    assert_int_equal(lines, 12);
    assert_non_null(strstr(report.detail, "  and 15 more\n"));
    bnff_weights_destroy(&weights);
    free_net(&a);
}

static void tells_a_foreign_prefix_and_architecture(void **state)
{
    (void)state;
    net a = make_net(3, 4);
    bnff_weights *weights, *good = stored(&a);
    bnff_weights_entry entry;
    bnff_error error;
    check_ok(bnff_weights_create(&weights, &error), &error);
    check_fails(bnff_state_load(a.state, weights, "head", NULL, &error), BNFF_E_SHAPE, &error, "another architecture");
    check_ok(bnff_weights_add(weights, &(bnff_weights_entry){"layer.stem.conv.weight", BNFF_U8, 0, {0}, 1, "a"}, &error), &error);
    check_fails(bnff_state_load(a.state, weights, "head", NULL, &error), BNFF_E_SHAPE, &error, "another architecture"); /* one does not make a prefix */
    bnff_weights_destroy(&weights);
    check_ok(bnff_weights_create(&weights, &error), &error);
    for (int i = 0; bnff_weights_get(good, i, &entry); i++) {
        char name[80];
        snprintf(name, sizeof name, "net.%s", entry.name);
        entry.name = name;
        check_ok(bnff_weights_add(weights, &entry, &error), &error);
    }
    check_fails(bnff_state_load(a.state, weights, "head", NULL, &error), BNFF_E_SHAPE, &error, "begin with 'net.'");
    bnff_weights_destroy(&weights);
    bnff_weights_destroy(&good);
    free_net(&a);
}

static void a_failed_graph_has_no_state(void **state)
{
    (void)state;
    bnff_graph *graph;
    bnff_state *none = (bnff_state *)1;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_input(graph, "image", 0);
    assert_int_not_equal(bnff_state_create(graph, &none, &error), BNFF_OK);
    assert_null(none);
    bnff_state_destroy(&none);
    bnff_graph_destroy(&graph);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(starts_as_an_identity),
        test(parameters_do_not_overlap),
        test(counts_batches_of_what_is_not_frozen),
        test(stores_and_loads),
        test(refuses_what_does_not_fit_and_changes_nothing),
        test(absent_batch_counts_are_zero),
        test(keeps_the_head_when_only_its_classes_differ),
        test(adapts_the_first_convolution),
        test(reads_old_densenet_names),
        test(lists_are_short),
        test(tells_a_foreign_prefix_and_architecture),
        test(a_failed_graph_has_no_state),
    };
    return run_all(tests);
}
