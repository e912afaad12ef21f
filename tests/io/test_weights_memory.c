/* Weights and states when memory runs out, at every allocation in turn: E_MEMORY, nothing leaked, nothing half done. */
#include <bnff/model.h>

#include "bytes_support.h"
#include "failalloc.h"

static bnff_status open_and_close(void *path, bnff_error *error)
{
    bnff_weights *weights;
    const bnff_status status = bnff_weights_open(path, &weights, error);
    if (status != BNFF_OK) assert_null(weights);
    bnff_weights_destroy(&weights);
    return status;
}

static void opens(void **state)
{
    (void)state;
    static const char *const files[] = {"reference.safetensors", "zip.pth", "legacy.pth", "checkpoint_zip_p4.pth", "checkpoint_legacy.pth"};
    FOR_EACH(file, files) {
        char path[512];
        snprintf(path, sizeof path, IO_FILES "/%s", file);
        test_case("%s", file);
        assert_true(fail_each_allocation(open_and_close, path) > 10);
    }
}

static bnff_status fill_and_save(void *path, bnff_error *error)
{
    bnff_weights *weights;
    bnff_status status = bnff_weights_create(&weights, error);
    for (int i = 0; status == BNFF_OK && i < 20; i++) { /* past the first size of every growing array */
        char name[20];
        snprintf(name, sizeof name, "tensor%d", i * 7 % 20);
        const float value = (float)i;
        status = bnff_weights_add(weights, &(bnff_weights_entry){name, BNFF_F32, 0, {0}, 1, &value}, error);
        if (status == BNFF_OK) status = bnff_weights_set_metadata(weights, name, "value", error);
        if (status == BNFF_OK) assert_int_equal(bnff_weights_find(weights, name), i);
    }
    if (status == BNFF_OK) status = bnff_weights_save(weights, path, error);
    bnff_weights_destroy(&weights);
    return status;
}

static void saves(void **state)
{
    (void)state;
    const char *path = temp_path("memory.safetensors");
    bnff_error error;
    assert_true(fail_each_allocation(fill_and_save, (void *)path) > 60);
    check_ok(open_and_close((void *)path, &error), &error);
}

static bnff_graph *make_graph(int channels)
{
    bnff_graph *graph;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_value x = bnff_input(graph, "image", channels);
    x = bnff_conv2d(graph, "features.denseblock1.denselayer1.conv1", x, &(bnff_conv_options){.out_channels = 2, .kernel = {3}});
    bnff_output(graph, bnff_batchnorm(graph, "features.denseblock1.denselayer1.norm1", x, NULL));
    return graph;
}

typedef struct state_case {
    bnff_graph *graph;
    bnff_weights *weights; /* for three channels: the convolution is adapted */
} state_case;

static bnff_status create_load_store(void *arg, bnff_error *error)
{
    const state_case *c = arg;
    bnff_state *state;
    bnff_weights *copy = NULL;
    bnff_load_report report;
    bnff_status status = bnff_state_create(c->graph, &state, error);
    if (status != BNFF_OK) return assert_null(state), status;
    status = bnff_state_load(state, c->weights, NULL, &report, error);
    if (status != BNFF_OK) check_close(bnff_state_params(state)[0][0], 0, 0); /* untouched */
    else check_close(bnff_state_params(state)[0][0], 3, 0);
    if (status == BNFF_OK) status = bnff_weights_create(&copy, error);
    if (status == BNFF_OK) status = bnff_state_store(state, copy, error);
    bnff_weights_destroy(&copy);
    bnff_state_destroy(&state);
    return status;
}

static void loads_and_stores(void **state)
{
    (void)state;
    bnff_graph *rgb = make_graph(3);
    bnff_state *filled;
    bnff_error error;
    state_case c = {.graph = make_graph(1)};
    check_ok(bnff_state_create(rgb, &filled, &error), &error);
    for (int i = 0; i < 2 * 3 * 9; i++) bnff_state_params(filled)[0][i] = 1;
    check_ok(bnff_weights_create(&c.weights, &error), &error);
    check_ok(bnff_state_store(filled, c.weights, &error), &error);
    assert_true(fail_each_allocation(create_load_store, &c) > 15);
    bnff_weights_destroy(&c.weights);
    bnff_state_destroy(&filled);
    bnff_graph_destroy(&rgb);
    bnff_graph_destroy(&c.graph);
}

/* Refusals allocate too: each run ends in E_MEMORY or in the refusal, without a leak. */
static void refuses(void **state)
{
    (void)state;
    static const char *const files[] = {"module.pth", "list.pth", "int16.pth"};
    FOR_EACH(file, files) {
        char path[512];
        snprintf(path, sizeof path, IO_FILES "/%s", file);
        const int before = live_allocations();
        for (int k = 1; k < 60; k++) {
            test_case("%s k=%d", file, k);
            bnff_error error = {0};
            fail_allocation(k);
            const bnff_status status = open_and_close(path, &error);
            fail_allocation(0);
            assert_true(status == BNFF_E_MEMORY || status == BNFF_E_FORMAT || status == BNFF_E_UNSUPPORTED);
            assert_int_equal(status, error.status);
            assert_true(error.message[0]);
            assert_int_equal(live_allocations(), before);
        }
    }
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(opens), test(saves), test(loads_and_stores), test(refuses)};
    return run_all(tests);
}
