/* Plans: golden placements, memory that never overlaps, work that is divided evenly, options that are refused. */
#include <bnff/bnff.h>

#include <jansson.h>

#include "runtime/plan.h"
#include "support.h"

/* A plan made for a machine of stated caches and `cells` cells, so that it is the same everywhere. */
static bnff_plan *plan_with(const char *model, int batch, int size, const char *level, const char *algorithm, int cells, bnff_mode mode)
{
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    bnff_plan *plan;
    assert_int_equal(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1, .max_isa = "plain"}, &context, &e), BNFF_OK);
    context->target = (bf_target){.isa = "plain", .vector = 4, .cells = cells, .l1 = 32 << 10, .l2 = 512 << 10, .l3 = 16 << 20};
    assert_int_equal(bnff_graph_create(&g, &e), BNFF_OK);
    if (bnff_model_build(g, model, &(bnff_model_options){.classes = 10}, &e) != BNFF_OK) fail_msg("%s", e.message);
    const bnff_plan_options options = {.size = sizeof options, .batch = batch, .height = size, .width = size, .mode = mode, .level = level,
                                       .algorithm = algorithm, .cells = cells};
    if (bnff_plan_create(context, g, &options, &plan, &e) != BNFF_OK) fail_msg("%s", e.message);
    bnff_graph_destroy(&g);
    return plan;
}

static bnff_plan *plan_for(const char *model, int batch, int size, const char *level, int cells, bnff_mode mode)
{
    return plan_with(model, batch, size, level, "direct", cells, mode);
}

static void free_plan(bnff_plan *plan)
{
    bnff_context *context = plan->context;
    bnff_plan_destroy(&plan);
    bnff_context_destroy(&context);
}

/* -- placements as text, compared with tests/golden/plan_LEVEL.txt (BNFF_UPDATE_GOLDEN=1 writes them) -- */

static void check_golden(const char *level, const char *algorithm, const char *name)
{
    test_case("level %s, convolutions %s", level, algorithm);
    bnff_plan *plan = plan_with("densenet-bc-16-4", 2, 12, level, algorithm, 2, BNFF_TRAIN);
    char *text = NULL, file_name[64];
    assert_int_equal(bnff_plan_print(plan, false, &text, NULL), BNFF_OK);
    snprintf(file_name, sizeof file_name, "plan_%s.txt", name);
    const char *path = golden_path(file_name);
    if (getenv("BNFF_UPDATE_GOLDEN")) {
        FILE *file = fopen(path, "w");
        assert_non_null(file);
        fputs(text, file);
        fclose(file);
    }
    static char golden[1 << 17];
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    golden[fread(golden, 1, sizeof golden - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(text, golden);
    bnff_free(text);
    free_plan(plan);
}

static void placements_are_golden(void **state)
{
    (void)state;
    for (int l = 0; bnff_level_name(l); l++) check_golden(bnff_level_name(l), "direct", bnff_level_name(l));
    check_golden("icf", "auto", "icf_auto");
}

/* -- pooling first: transitions multiply the pixels that are left, FLOPs are still those of the network as described -- */

static const bf_task *task_of(const bnff_plan *plan, bf_op op, const char *name)
{
    for (int t = 0; t < plan->task_count; t++) {
        const bf_node *node = &plan->graph.nodes[plan->tasks[t].node];
        if (node->op == op && node->name && !strcmp(node->name, name)) return &plan->tasks[t];
    }
    fail_msg("no task of %s", name);
    return NULL;
}

static void pooling_moves_in_front(void **state)
{
    (void)state;
    for (int l = 0; bnff_level_name(l); l++) {
        const char *level = bnff_level_name(l);
        test_case("level %s", level);
        bnff_plan *direct = plan_with("densenet121", 2, 64, level, "direct", 2, BNFF_TRAIN), *first = plan_with("densenet121", 2, 64, level, "auto", 2, BNFF_TRAIN);
        assert_true(first->forward_flops == direct->forward_flops && first->backward_flops == direct->backward_flops);
        assert_int_equal(first->batchnorms, direct->batchnorms);
        if (!strcmp(level, "icf")) assert_int_equal(first->batchnorms_fused, first->batchnorms);
        static const bf_op ops[] = {BF_OP_CONV, BF_OP_CONV_BWD};
        FOR_EACH(op, ops) {
            const bf_task *a = task_of(direct, op, "features.transition1.conv"), *b = task_of(first, op, "features.transition1.conv");
            assert_int_equal(a->conv.ow, 2 * 16 * 16); /* pixels of a line */
            assert_int_equal(b->conv.ow, 2 * 8 * 8);
            assert_true(a->flops == b->flops);
        }
        free_plan(direct);
        free_plan(first);
    }
}

/* -- algorithms: only 3x3 convolutions at stride 1 can be other than direct, and auto takes no f4 -- */

static bnff_plan *plan_of_conv(const char *algorithm, int channels, bnff_conv_options o, int size)
{
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    bnff_plan *plan;
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1}, &context, &e), &e);
    check_ok(bnff_graph_create(&g, &e), &e);
    bnff_output(g, bnff_conv2d(g, "conv", bnff_relu(g, bnff_input(g, "x", channels)), &o));
    const bnff_plan_options options = {.size = sizeof options, .batch = 2, .height = size, .width = size, .mode = BNFF_TRAIN, .algorithm = algorithm, .input_gradients = true};
    check_ok(bnff_plan_create(context, g, &options, &plan, &e), &e);
    bnff_graph_destroy(&g);
    return plan;
}

static void algorithms_run_where_they_can(void **state)
{
    (void)state;
    static const struct { int channels, size; bnff_conv_options o; bool can; } cases[] = {
        {64, 28, {.out_channels = 64, .kernel = {3}, .padding = {1}}, true},
        {64, 28, {.out_channels = 64, .kernel = {3}}, true},
        {64, 28, {.out_channels = 64, .kernel = {3}, .padding = {1}, .stride = {2}}, false},
        {64, 28, {.out_channels = 64, .kernel = {3}, .padding = {2}, .dilation = {2}}, false},
        {64, 28, {.out_channels = 64, .kernel = {1}}, false},
        {64, 28, {.out_channels = 64, .kernel = {5}, .padding = {2}}, false},
        {64, 28, {.out_channels = 64, .kernel = {3, 1}, .padding = {1, -1}}, false},
        {64, 28, {.out_channels = 64, .kernel = {3}, .padding = {1}, .groups = 64}, false},
        {64, 3, {.out_channels = 64, .kernel = {3}}, false} /* the whole image */,
    };
    FOR_EACH(k, cases)
        for (int a = 0; bnff_algorithm_name(a); a++) {
            const char *name = bnff_algorithm_name(a);
            test_case("%s, kernel %dx%d, stride %d, dilation %d, %d groups, image %d", name, k.o.kernel[0], k.o.kernel[1], k.o.stride[0], k.o.dilation[0], k.o.groups, k.size);
            bnff_plan *plan = plan_of_conv(name, k.channels, k.o, k.size);
            int convolutions = 0;
            for (int t = 0; t < plan->task_count; t++) {
                const bf_task *task = &plan->tasks[t];
                const bf_op op = plan->graph.nodes[task->node].op;
                if (op != BF_OP_CONV && op != BF_OP_CONV_BWD) continue;
                convolutions++;
                if (!k.can || !strcmp(name, "direct")) assert_int_equal(task->conv.algorithm, BF_DIRECT);
                else if (plan->algorithm < BF_ALGORITHM_COUNT) assert_int_equal(task->conv.algorithm, plan->algorithm);
                else if (plan->algorithm == BF_AUTO) assert_true(task->conv.algorithm != BF_F4);
            }
            assert_int_equal(convolutions, 2);
            free_plan(plan);
        }
}

/* -- gradients that nobody asks for are not computed -- */

/* The plan of a small ResNet whose parameters with `frozen` in their name get no gradient. */
static bnff_plan *frozen_plan(const char *frozen, bool input_gradients)
{
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    bnff_plan *plan;
    bnff_param_info param;
    bool flags[256] = {false};
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1}, &context, &e), &e);
    check_ok(bnff_graph_create(&g, &e), &e);
    check_ok(bnff_model_build(g, "resnet18", &(bnff_model_options){.classes = 10}, &e), &e);
    for (int i = 0; bnff_graph_param(g, i, &param); i++) flags[i] = !strncmp(param.name, frozen, strlen(frozen));
    const bnff_plan_options options = {.size = sizeof options, .batch = 2, .height = 32, .width = 32, .mode = BNFF_TRAIN, .frozen_params = flags,
                                       .input_gradients = input_gradients};
    check_ok(bnff_plan_create(context, g, &options, &plan, &e), &e);
    bnff_graph_destroy(&g);
    return plan;
}

/* How many products (0, 1 or 2) the backward of a convolution computes, from its FLOPs. */
static int products(const bnff_plan *plan, const char *name)
{
    const double forward = task_of(plan, BF_OP_CONV, name)->flops;
    for (int t = plan->forward_tasks; t < plan->task_count; t++) {
        const bf_node *node = &plan->graph.nodes[plan->tasks[t].node];
        if (node->op != BF_OP_CONV_BWD || strcmp(node->name, name)) continue;
        assert_true((plan->tasks[t].out >= 0) == node->a.conv.want_dx);
        return (int)(plan->tasks[t].flops / forward);
    }
    return 0;
}

static void unwanted_gradients_cost_nothing(void **state)
{
    (void)state;
    static const struct { const char *frozen; bool input; int conv1, layer1, layer2, fc; } cases[] = {
        {"none", false, 1, 2, 2, 2}, {"none", true, 2, 2, 2, 2}, {"conv1", false, 0, 2, 2, 2} /* bn1 learns: layer1 needs dx */,
        {"layer2", false, 1, 2, 1, 2}, {"layer", true, 2, 1, 1, 2}, {"", true, 1, 1, 1, 1}, {"", false, 0, 0, 0, 0},
    };
    FOR_EACH(k, cases) {
        test_case("frozen '%s'%s", k.frozen, k.input ? ", with input gradients" : "");
        bnff_plan *plan = frozen_plan(k.frozen, k.input);
        assert_int_equal(products(plan, "conv1"), k.conv1);
        assert_int_equal(products(plan, "layer1.0.conv1"), k.layer1);
        assert_int_equal(products(plan, "layer2.0.conv1"), k.layer2);
        assert_int_equal(products(plan, "fc"), k.fc);
        free_plan(plan);
    }
}

/* -- memory -- */

typedef struct extent {
    size_t at, bytes;
    int first, last;
} extent;

static int gather_extents(const bnff_plan *plan, extent *out, int limit)
{
    int count = 0;
    for (int v = 0; v < plan->graph.value_count; v++) {
        const bf_layout *layout = &plan->layouts[v];
        if (!layout->stored || plan->graph.values[v].kind != BF_TENSOR) continue;
        assert_true(count < limit);
        out[count++] = (extent){layout->arena, layout->floats * sizeof(float), layout->first_task, layout->last_task};
    }
    for (int t = 0; t < plan->task_count; t++) {
        if (!plan->tasks[t].shared) continue;
        assert_true(count < limit);
        out[count++] = (extent){plan->tasks[t].shared_arena, plan->tasks[t].shared, t, t};
    }
    return count;
}

static void live_values_never_overlap(void **state)
{
    (void)state;
    static const char *const models[] = {"densenet-bc-22-12", "resnet18", "mobilenet_v2", "vgg11_bn"};
    static extent extents[8192];
    FOR_EACH(model, models)
        for (int l = 0; bnff_level_name(l); l++) {
            test_case("%s %s", model, bnff_level_name(l));
            bnff_plan *plan = plan_for(model, 3, 33, bnff_level_name(l), 3, BNFF_TRAIN);
            const int count = gather_extents(plan, extents, (int)COUNT_OF(extents));
            for (int i = 0; i < count; i++) {
                assert_true(extents[i].at % 64 == 0 && extents[i].at + extents[i].bytes <= plan->values_bytes);
                for (int k = 0; k < i; k++) {
                    const bool together = extents[i].first <= extents[k].last && extents[k].first <= extents[i].last;
                    const bool overlap = extents[i].at < extents[k].at + extents[k].bytes && extents[k].at < extents[i].at + extents[i].bytes;
                    assert_false(together && overlap);
                }
            }
            assert_int_equal(plan->arena_bytes, plan->scratch_at + plan->scratch_bytes * (size_t)plan->cells);
            free_plan(plan);
        }
}

/* No block straddles the border of a concat part, and views lie inside their owners. */
static void blocks_respect_borders(void **state)
{
    (void)state;
    bnff_plan *plan = plan_for("densenet-bc-22-12", 2, 28, "icf", 2, BNFF_TRAIN);
    for (int v = 0; v < plan->graph.value_count; v++) {
        const bf_value *value = &plan->graph.values[v];
        const bf_layout *layout = &plan->layouts[v];
        int channel = 0;
        for (int b = 0; b < layout->count; b++) {
            const bf_block *block = &layout->blocks[b];
            assert_int_equal(block->first, channel);
            assert_in_range(block->channels, 1, BF_BLOCK);
            channel += block->channels;
            if (value->kind == BF_TENSOR) assert_true(block->offset + bf_pixels(value) * (size_t)block->ld <= plan->layouts[block->owner].floats);
            for (int p = 0, first = 0; p < value->part_count; first += value->parts[p++].channels)
                assert_true(block->first >= first + value->parts[p].channels || block->first + block->channels <= first || (block->first >= first && block->first + block->channels <= first + value->parts[p].channels));
        }
        assert_int_equal(channel, value->c);
    }
    free_plan(plan);
}

/* Restructuring needs less memory than running layer by layer, and a DenseNet's memory grows linearly with its depth. */
static void restructured_plans_are_smaller(void **state)
{
    (void)state;
    bnff_plan *layerwise = plan_for("densenet-bc-40-12", 16, 32, "layerwise", 2, BNFF_TRAIN), *icf = plan_for("densenet-bc-40-12", 16, 32, "icf", 2, BNFF_TRAIN);
    bnff_plan *deep = plan_for("densenet-bc-76-12", 16, 32, "icf", 2, BNFF_TRAIN);
    assert_true(2 * icf->values_bytes < layerwise->values_bytes);
    assert_true((double)deep->values_bytes < 3.0 * (double)icf->values_bytes);
    free_plan(layerwise);
    free_plan(icf);
    free_plan(deep);
}

/* -- each piece of a batch normalization is fused, or says why not -- */

/* The JSON of the plan of `g`, which is destroyed. */
static json_t *json_of(bnff_graph *g, const char *level, bnff_mode mode, bool frozen)
{
    bnff_error e = {0};
    bnff_context *context;
    bnff_plan *plan;
    bnff_param_info info;
    char *text;
    bool stats[64] = {false};
    for (int p = 0; bnff_graph_param(g, p, &info) && p < 64; p++) stats[p] = frozen && strstr(info.name, "running_mean");
    check_ok(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1}, &context, &e), &e);
    const bnff_plan_options options = {.size = sizeof options, .batch = 2, .height = 9, .width = 7, .mode = mode, .level = level, .cells = 2, .frozen_stats = stats};
    check_ok(bnff_plan_create(context, g, &options, &plan, &e), &e);
    check_ok(bnff_plan_print(plan, true, &text, &e), &e);
    json_t *json = json_loads(text, 0, NULL);
    assert_non_null(json);
    bnff_free(text);
    bnff_plan_destroy(&plan);
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
    return json;
}

/* Piece `name` of normalization `bn`: "storing conv a", "loading conv b, conv_bwd b", "sweep: REASON", or "" if there is none. */
static const char *piece_of(const json_t *json, const char *bn, const char *name)
{
    static char text[512];
    size_t i, k, t;
    json_t *norm, *piece, *task;
    json_array_foreach(json_object_get(json, "normalizations"), i, norm) {
        if (strcmp(json_string_value(json_object_get(norm, "layer")), bn)) continue;
        json_array_foreach(json_object_get(norm, "pieces"), k, piece) {
            if (strcmp(json_string_value(json_object_get(piece, "piece")), name)) continue;
            const char *placed = json_string_value(json_object_get(piece, "placed")), *reason = json_string_value(json_object_get(piece, "reason"));
            const bool fused = !strcmp(placed, "storing") || !strcmp(placed, "loading");
            snprintf(text, sizeof text, "%s%s%s", placed, fused ? "" : ": ", fused ? "" : reason);
            json_array_foreach(json_object_get(piece, "tasks"), t, task)
                if (fused) snprintf(text + strlen(text), sizeof text - strlen(text), "%s %s", t ? "," : "", json_string_value(task));
            return text;
        }
    }
    return "";
}

typedef struct chain { bnff_activation kind; const char *word; bool no_affine, frozen, two_readers; } chain;

static bnff_graph *chain_of(const chain *k)
{
    bnff_graph *g;
    check_ok(bnff_graph_create(&g, NULL), NULL);
    const bnff_conv_options conv = {.out_channels = 16, .kernel = {3}, .padding = {1}};
    const bnff_value x = bnff_conv2d(g, "a", bnff_input(g, "x", 3), &conv);
    const bnff_value y = bnff_activate(g, bnff_batchnorm(g, "bn", x, &(bnff_batchnorm_options){.no_affine = k->no_affine}), k->kind, 0.1f);
    bnff_value z = bnff_conv2d(g, "b", y, &conv);
    if (k->two_readers) z = bnff_add(g, z, bnff_conv2d(g, "c", y, &conv));
    bnff_output(g, z);
    return g;
}

static void chains_are_fused(void **state)
{
    (void)state;
    static const chain chains[] = {
        {BNFF_IDENTITY, NULL, false, false, false}, {BNFF_RELU, "relu", false, false, false}, {BNFF_RELU, "relu", true, false, false}, {BNFF_RELU, "relu", false, true, false},
        {BNFF_RELU, "relu", false, false, true}, {BNFF_RELU6, "relu6", false, false, false}, {BNFF_LEAKY_RELU, "leaky relu", false, false, false},
        {BNFF_SILU, "silu", false, false, false}, {BNFF_SILU, "silu", false, true, true}, {BNFF_HARDSWISH, "hardswish", false, false, false}, {BNFF_SIGMOID, "sigmoid", true, false, true},
    };
    FOR_EACH(k, chains) for (int level = 0; level < 2; level++) {
        const char *const name = level ? "icf" : "bnff", *const storing = "storing conv_bwd b"; /* of two readers the last to add to the gradient */
        test_case("activation %s%s%s%s, %s", k.word ? k.word : "none", k.no_affine ? " no affine" : "", k.frozen ? " frozen" : "", k.two_readers ? " two readers" : "", name);
        json_t *json = json_of(chain_of(&k), name, BNFF_TRAIN, k.frozen);
        char derivative[64];
        assert_string_equal(piece_of(json, "bn", "statistics"), k.frozen ? "nowhere: none: frozen, the running ones are used" : "storing conv a");
        assert_non_null(strstr(piece_of(json, "bn", "normalise"), "loading conv b"));
        if (k.word) {
            snprintf(derivative, sizeof derivative, "derivative of %s", k.word);
            assert_string_equal(piece_of(json, "bn", derivative), storing);
        }
        assert_string_equal(piece_of(json, "bn", "gradient sums"), k.no_affine && k.frozen ? "" : storing);
        assert_string_equal(piece_of(json, "bn", "input gradient"), k.frozen ? storing : "loading conv_bwd a");
        json_decref(json);
    }
}

/* What cannot be fused has a reason at every level, in training and evaluation. */
static void every_piece_has_a_place_or_a_reason(void **state)
{
    (void)state;
    static const char *const models[] = {"densenet-bc-22-12", "resnet20", "mobilenet_v2", "vgg11_bn"};
    FOR_EACH(model, models) for (int mode = 0; mode < 2; mode++) for (int l = 0; bnff_level_name(l); l++) {
        test_case("%s %s %s", model, bnff_level_name(l), mode ? "training" : "evaluation");
        bnff_plan *plan = plan_for(model, 2, 32, bnff_level_name(l), 1, mode ? BNFF_TRAIN : BNFF_EVALUATE);
        char *text;
        assert_int_equal(bnff_plan_print(plan, true, &text, NULL), BNFF_OK);
        json_t *json = json_loads(text, 0, NULL), *norm, *piece;
        size_t i, k, count = 0, sweeps = 0;
        json_array_foreach(json_object_get(json, "normalizations"), i, norm) {
            json_array_foreach(json_object_get(norm, "pieces"), k, piece) {
                const char *placed = json_string_value(json_object_get(piece, "placed"));
                const bool sweep = !strcmp(placed, "sweep"), nowhere = !strcmp(placed, "nowhere");
                assert_true(nowhere || json_array_size(json_object_get(piece, "tasks")) > 0);
                if (sweep || nowhere) assert_true(*json_string_value(json_object_get(piece, "reason")));
                sweeps += sweep, count++;
            }
        }
        assert_true(count >= (size_t)(mode ? 4 : 2) * (size_t)plan->batchnorms);
        if (!strcmp(bnff_level_name(l), "icf") && model_at % 3 == 0) assert_int_equal(sweeps, 0); /* DenseNet, VGG: no joins, no slices */
        if (mode && !strcmp(bnff_level_name(l), "layerwise")) assert_int_equal(sweeps, count);
        json_decref(json);
        bnff_free(text);
        free_plan(plan);
    }
}

/* -- the picture -- */

/* `text` as far as XML goes: every tag closed, nothing but text between, no stray < or &. Returns how many elements. */
static int check_xml(const char *text)
{
    char open[16][16];
    int depth = 0, elements = 0;
    for (const char *at = text; *at; at++) {
        if (*at == '&') {
            assert_true(!strncmp(at, "&amp;", 5) || !strncmp(at, "&lt;", 4) || !strncmp(at, "&gt;", 4) || !strncmp(at, "&quot;", 6) || !strncmp(at, "&#39;", 5));
            continue;
        }
        if (*at != '<') continue;
        const bool closing = at[1] == '/';
        char name[16] = "";
        assert_int_equal(sscanf(at + 1 + closing, "%15[a-z]", name), 1);
        const char *end = strchr(at, '>');
        assert_non_null(end);
        assert_null(memchr(at + 1, '<', (size_t)(end - at - 1)));
        if (closing) assert_true(depth > 0 && !strcmp(open[--depth], name));
        else if (end[-1] != '/') assert_true(depth < 16), strcpy(open[depth++], name);
        elements += !closing;
        at = end;
    }
    assert_int_equal(depth, 0);
    return elements;
}

static void pictures_are_well_formed(void **state)
{
    (void)state;
    static const char *const models[] = {"densenet-bc-22-12", "resnet20", "mobilenet_v2"};
    FOR_EACH(model, models)
        for (int l = 0; bnff_level_name(l); l++) {
            test_case("%s %s", model, bnff_level_name(l));
            bnff_plan *before = plan_for(model, 2, 32, "layerwise", 1, BNFF_TRAIN), *after = plan_for(model, 2, 32, bnff_level_name(l), 1, BNFF_TRAIN);
            char *svg;
            assert_int_equal(bnff_plan_draw(before, after, &svg, NULL), BNFF_OK);
            assert_true(check_xml(svg) > 100);
            assert_non_null(strstr(svg, bnff_level_name(l)));
            bnff_free(svg);
            free_plan(before);
            free_plan(after);
        }
}

static void pictures_escape_names(void **state)
{
    (void)state;
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    bnff_plan *plan;
    char *svg;
    assert_int_equal(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1}, &context, &e), BNFF_OK);
    assert_int_equal(bnff_graph_create(&g, &e), BNFF_OK);
    bnff_output(g, bnff_batchnorm(g, "\xff'bn'&", bnff_conv2d(g, "<b>&", bnff_input(g, "x", 3), &(bnff_conv_options){.out_channels = 8}), NULL));
    const bnff_plan_options options = {.size = sizeof options, .batch = 2, .height = 4, .width = 4, .mode = BNFF_TRAIN};
    assert_int_equal(bnff_plan_create(context, g, &options, &plan, &e), BNFF_OK);
    assert_int_equal(bnff_plan_draw(plan, plan, &svg, &e), BNFF_OK);
    check_xml(svg);
    assert_non_null(strstr(svg, "conv &lt;b&gt;&amp;"));
    assert_null(strchr(svg, '\xff'));
    bnff_free(svg);
    bnff_plan_destroy(&plan);
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
}

/* -- modelled traffic -- */

/* A convolution of 1 x 1 whose tensors of 401,408 bytes outgrow the cache by far: each is written once and read once, the input and
 * output once more by the copies from and to the caller. */
static void traffic_of_one_convolution(void **state)
{
    (void)state;
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    assert_int_equal(bnff_context_create(&(bnff_context_options){.size = sizeof(bnff_context_options), .threads = 1, .max_isa = "plain"}, &context, &e), BNFF_OK);
    assert_int_equal(bnff_graph_create(&g, &e), BNFF_OK);
    bnff_output(g, bnff_conv2d(g, "conv", bnff_input(g, "x", 32), &(bnff_conv_options){.out_channels = 32}));
    const double tensor = 4.0 * 28 * 28 * 32 * sizeof(float), weights = 32 * 32 * sizeof(float), cache = 64 << 10;
    for (int large = 0; large < 2; large++) {
        test_case("%s cache", large ? "large" : "small");
        bnff_plan *plan;
        bnff_plan_info info = {.size = sizeof info};
        context->target = (bf_target){.isa = "plain", .vector = 4, .cells = 1, .l1 = 4 << 10, .l2 = 16 << 10, .l3 = large ? 1 << 30 : (size_t)cache};
        const bnff_plan_options options = {.size = sizeof options, .batch = 4, .height = 28, .width = 28, .mode = BNFF_EVALUATE, .cells = 1};
        assert_int_equal(bnff_plan_create(context, g, &options, &plan, &e), BNFF_OK);
        bnff_plan_describe(plan, &info);
        const double small = 2 * weights + (double)plan->scratch_bytes + 4 * 64; /* weights and their packed copy; scratch */
        if (large) { /* everything enters once, nothing leaves */
            assert_true(info.line_bytes >= 4 * tensor + weights && info.line_bytes <= 4 * tensor + small);
            assert_true(info.traffic_bytes >= tensor + weights && info.traffic_bytes <= tensor + small);
        } else { /* what is left in the cache at the end is not written back any more */
            assert_true(info.line_bytes >= 6 * tensor && info.line_bytes <= 6 * tensor + small);
            assert_true(info.traffic_bytes >= 6 * tensor - cache && info.traffic_bytes <= 6 * tensor + small);
        }
        bnff_plan_destroy(&plan);
    }
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
}

/* A larger cache never means more traffic here, and restructuring means less. */
static void traffic_follows_cache_and_level(void **state)
{
    (void)state;
    double before[2] = {1e30, 1e30};
    for (size_t l3 = 256 << 10; l3 <= 64 << 20; l3 *= 4) {
        double bytes[2];
        for (int k = 0; k < 2; k++) {
            bnff_plan *first = plan_for("densenet-bc-22-12", 8, 32, k ? "icf" : "layerwise", 1, BNFF_TRAIN), *plan;
            bnff_graph *g;
            bnff_error e = {0};
            first->context->target.l3 = l3;
            assert_int_equal(bnff_graph_create(&g, &e), BNFF_OK);
            assert_int_equal(bnff_model_build(g, "densenet-bc-22-12", &(bnff_model_options){.classes = 10}, &e), BNFF_OK);
            const bnff_plan_options options = {.size = sizeof options, .batch = 8, .height = 32, .width = 32, .mode = BNFF_TRAIN, .level = k ? "icf" : "layerwise", .cells = 1};
            assert_int_equal(bnff_plan_create(first->context, g, &options, &plan, &e), BNFF_OK);
            bytes[k] = plan->traffic_lines;
            assert_true(bytes[k] <= 1.01 * before[k]); /* sectors grow with the cache: rounding */
            before[k] = bytes[k];
            bnff_plan_destroy(&plan);
            bnff_graph_destroy(&g);
            free_plan(first);
        }
        test_case("cache of %zu KiB: %.0f and %.0f bytes", l3 >> 10, bytes[0], bytes[1]);
        assert_true(bytes[1] < 0.7 * bytes[0]);
    }
}

/* -- refusals -- */

static void options_are_checked(void **state)
{
    (void)state;
    bnff_error e = {0};
    bnff_context *context;
    bnff_graph *g;
    assert_int_equal(bnff_context_create(NULL, &context, &e), BNFF_OK);
    assert_int_equal(bnff_graph_create(&g, &e), BNFF_OK);
    bnff_value x = bnff_relu(g, bnff_batchnorm(g, "bn", bnff_conv2d(g, "conv", bnff_input(g, "x", 3), &(bnff_conv_options){.out_channels = 8, .kernel = {5}}), NULL));
    bnff_output(g, bnff_linear(g, "fc", bnff_global_avgpool(g, x), 4, true));
#define PLAN(...) ({ bnff_plan *p; const bnff_plan_options o = {.size = sizeof o, .batch = 2, .height = 8, .width = 8, .mode = BNFF_TRAIN, __VA_ARGS__}; \
                     const bnff_status s = bnff_plan_create(context, g, &o, &p, &e); assert_true((p != NULL) == (s == BNFF_OK)); bnff_plan_destroy(&p); s; })
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Woverride-init"
    assert_int_equal(PLAN(.cells = 1), BNFF_OK);
    assert_int_equal(PLAN(.batch = 0), BNFF_E_ARG);
    assert_int_equal(PLAN(.height = -3), BNFF_E_ARG);
    assert_int_equal(PLAN(.cells = -1), BNFF_E_ARG);
    assert_int_equal(PLAN(.algorithm = "magic"), BNFF_E_ARG);
    for (int a = 0; bnff_algorithm_name(a); a++) {
        assert_non_null(strstr(e.hint, bnff_algorithm_name(a)));
        assert_int_equal(PLAN(.algorithm = bnff_algorithm_name(a)), BNFF_OK);
    }
    assert_int_equal(PLAN(.algorithm = bnff_default_algorithm()), BNFF_OK);
    assert_int_equal(PLAN(.level = "icff"), BNFF_E_ARG);
    assert_non_null(strstr(e.hint, "icf"));
    assert_int_equal(PLAN(.height = 4), BNFF_E_SHAPE);
    assert_non_null(strstr(e.message, "conv"));
    assert_int_equal(PLAN(.batch = 1, .height = 5, .width = 5), BNFF_E_SHAPE);
    assert_non_null(strstr(e.message, "bn"));
    assert_int_equal(PLAN(.batch = 1, .height = 5, .width = 5, .mode = BNFF_EVALUATE), BNFF_OK);
    assert_int_equal(PLAN(.batch = 1 << 20, .height = 1 << 15, .width = 1 << 15), BNFF_E_MEMORY);
    assert_int_equal(PLAN(.height = 0, .width = 0), BNFF_E_ARG);
    assert_int_equal(PLAN(.height = 0, .width = 0, .input_sizes = (const int[][2]){{9, 7}}), BNFF_OK);
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{0, 0}}), BNFF_OK);
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{5, -1}}), BNFF_E_ARG);
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{1 << 20, 8}}), BNFF_E_ARG);
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{4, 4}}), BNFF_E_SHAPE);
    assert_int_equal(PLAN(.size = offsetof(bnff_plan_options, input_sizes), .input_sizes = (const int[][2]){{4, 4}}), BNFF_OK); /* a caller of before */
    assert_int_equal(PLAN(.size = 8), BNFF_E_ARG);
    assert_int_equal(PLAN(.size = sizeof(bnff_plan_options) + 8), BNFF_E_ARG);
    bnff_output(g, bnff_relu(g, bnff_input_sized(g, "y", 2, 6, 5)));
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{0, 0}, {6, 5}}), BNFF_OK);
    assert_int_equal(PLAN(.input_sizes = (const int[][2]){{0, 0}, {5, 6}}), BNFF_E_SHAPE);
    assert_non_null(strstr(e.message, "input y"));
#pragma GCC diagnostic pop
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
}

/* -- a pool: runs of two sizes that take turns find their own memory again -- */

static size_t held, asked;
static void *count_alloc(void *user, size_t bytes)
{
    (void)user;
    held += bytes, asked++;
    return aligned_alloc(64, (bytes + 63) / 64 * 64);
}
static void count_release(void *user, void *memory, size_t bytes)
{
    (void)user;
    held -= bytes;
    free(memory);
}

static void runs_find_their_size(void **state)
{
    (void)state;
    test_case("a small and a large run out at once, taken and given back in both orders");
    bnff_context *context;
    const bnff_context_options options = {.size = sizeof options, .threads = 1, .allocator = {count_alloc, count_release, NULL}};
    assert_int_equal(bnff_context_create(&options, &context, NULL), BNFF_OK);
    bnff_graph *g;
    assert_int_equal(bnff_graph_create(&g, NULL), BNFF_OK);
    bnff_output(g, bnff_conv2d(g, "c", bnff_input(g, "x", 3), &(bnff_conv_options){.out_channels = 16, .kernel = {3}}));
    bnff_plan *plans[2];
    size_t bytes = 0;
    for (int i = 0; i < 2; i++) {
        const bnff_plan_options o = {.size = sizeof o, .batch = i ? 16 : 1, .height = 16, .width = 16, .mode = BNFF_TRAIN};
        assert_int_equal(bnff_plan_create(context, g, &o, &plans[i], NULL), BNFF_OK);
        bnff_plan_info info = {.size = sizeof info};
        bnff_plan_describe(plans[i], &info);
        bytes += info.arena_bytes;
    }
    bnff_pool *pool;
    assert_int_equal(bnff_pool_create(context, &pool, NULL), BNFF_OK);
    held = asked = 0;
    for (int turn = 0; turn < 6; turn++) {
        bnff_run *runs[2];
        for (int i = 0; i < 2; i++) assert_int_equal(bnff_run_acquire(pool, plans[(i + turn) % 2], &runs[i], NULL), BNFF_OK);
        for (int i = 0; i < 2; i++) bnff_run_release(&runs[(i + turn / 2) % 2]);
    }
    assert_int_equal(asked, 2);
    assert_int_equal(held, bytes);
    bnff_pool_destroy(&pool);
    assert_int_equal(held, 0);
    for (int i = 0; i < 2; i++) bnff_plan_destroy(&plans[i]);
    bnff_graph_destroy(&g);
    bnff_context_destroy(&context);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(runs_find_their_size), test(placements_are_golden), test(pooling_moves_in_front), test(algorithms_run_where_they_can), test(unwanted_gradients_cost_nothing),
                                              test(live_values_never_overlap), test(blocks_respect_borders),
                                              test(restructured_plans_are_smaller), test(chains_are_fused),
                                              test(every_piece_has_a_place_or_a_reason), test(pictures_are_well_formed),
                                              test(pictures_escape_names), test(traffic_of_one_convolution),
                                              test(traffic_follows_cache_and_level), test(options_are_checked)};
    return run_all(tests);
}
