/* bnff selftest: is this build right on this machine? No data needed, seconds. */
#define _GNU_SOURCE
#include "selftest.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"

struct arguments { int threads; bool json; };

static const cli_option options[] = {
    {"threads,t", CLI_INT, offsetof(struct arguments, threads), "N", CLI_THREADS_HELP, 1, 4096},
    {"json", CLI_FLAG, offsetof(struct arguments, json), NULL, "One JSON document."},
    {0},
};

static const struct { const char *name; void (*check)(bnff_context *, selftest_finding *, char[128]); } checks[] = {
    {"gradients", selftest_gradients}, {"levels", selftest_levels}, {"algorithms", selftest_algorithms}, {"instruction sets", selftest_isas},
    {"cells", selftest_cells},         {"training", selftest_training}, {"resume", selftest_resume},     {"weights", selftest_weights},
};

void selftest_fail(selftest_finding *finding, const char *format, ...)
{
    if (finding->failed) return; /* the first says most */
    finding->failed = true;
    va_list args;
    va_start(args, format);
    vsnprintf(finding->text, sizeof finding->text, format, args);
    va_end(args);
}

void selftest_error(selftest_finding *finding, const char *what, const bnff_error *error) { selftest_fail(finding, "%s: %s", what, error->message); }

/* -- The network --------------------------------------------------------------------------------------------------- */

static bnff_value conv_bn(bnff_graph *g, const char *name, bnff_value x, int channels, int kernel, int groups, bnff_activation act)
{
    char text[64];
    const bnff_conv_options conv = {.out_channels = channels, .kernel = {kernel}, .padding = {kernel / 2}, .groups = groups, .bias = groups > 1};
    snprintf(text, sizeof text, "%s.conv", name);
    x = bnff_conv2d(g, text, x, &conv);
    snprintf(text, sizeof text, "%s.norm", name);
    return bnff_activate(g, bnff_batchnorm(g, text, x, NULL), act, 0);
}

/* A stem, a dense block of two, a residual join, a transition, a gate, a pooling, a head: 13x13 images, sizes off every vector length. */
static void build(bnff_graph *g, bool smooth)
{
    const bnff_activation act = smooth ? BNFF_SILU : BNFF_RELU;
    const bnff_pool_options pool = {.kernel = {3}, .stride = {2}, .padding = {1}};
    bnff_value x = conv_bn(g, "stem", bnff_input(g, "x", 3), 18, 3, 1, act);
    x = smooth ? bnff_avgpool(g, x, &pool) : bnff_maxpool(g, x, &pool);
    const bnff_value a = conv_bn(g, "dense1", x, 7, 3, 1, act);
    bnff_value features[3] = {x, a, BNFF_NONE};
    features[2] = conv_bn(g, "dense2", bnff_concat(g, features, 2), 7, 1, 1, act);
    x = bnff_concat(g, features, 3);
    x = bnff_add(g, x, conv_bn(g, "residual", x, 32, 3, 4, BNFF_IDENTITY));
    const bnff_conv_options transition = {.out_channels = 24}, squeeze = {.out_channels = 24, .bias = true};
    x = bnff_avgpool(g, bnff_conv2d(g, "transition", x, &transition), &(bnff_pool_options){.kernel = {2}});
    x = bnff_mul_gate(g, x, bnff_activate(g, bnff_conv2d(g, "gate", bnff_global_avgpool(g, x), &squeeze), BNFF_SIGMOID, 0));
    if (!smooth) x = bnff_dropout(g, x, 0.1f);
    bnff_output(g, bnff_linear(g, "head", bnff_global_avgpool(g, x), SELFTEST_CLASSES, true));
}

static void fill_state(selftest_network *n)
{
    bnff_param_info param;
    float *const *params = bnff_state_params(n->state);
    n->param_count = bnff_graph_param_count(n->graph);
    for (int i = 0; bnff_graph_param(n->graph, i, &param); i++) {
        const bool weight = param.kind == BNFF_PARAM_CONV_WEIGHT || param.kind == BNFF_PARAM_LINEAR_WEIGHT;
        if (param.is_buffer) continue;
        n->gradient_count += (size_t)param.elements;
        if (!weight) continue; /* gamma 1, biases 0 */
        bench_fill(params[i], (size_t)param.elements, (uint64_t)i + 10);
        const float spread = sqrtf(2.0f * (float)param.shape[0] / (float)param.elements);
        for (int64_t k = 0; k < param.elements; k++) params[i][k] *= spread;
    }
    n->gradients = cli_alloc((size_t)n->param_count, sizeof *n->gradients);
    n->gradient_memory = cli_alloc(n->gradient_count, sizeof *n->gradient_memory);
    float *next = n->gradient_memory;
    for (int i = 0; bnff_graph_param(n->graph, i, &param); i++)
        if (!param.is_buffer) n->gradients[i] = next, next += param.elements;
}

bnff_status selftest_network_open(bool smooth, selftest_network *n, bnff_error *error)
{
    *n = (selftest_network){0};
    bnff_status status = bnff_graph_create(&n->graph, error);
    if (status) return status;
    build(n->graph, smooth);
    status = bnff_graph_status(n->graph, error);
    if (status == BNFF_OK) status = bnff_state_create(n->graph, &n->state, error);
    if (status) return selftest_network_close(n), status;
    fill_state(n);
    const size_t pixels = (size_t)SELFTEST_BATCH * SELFTEST_SIZE * SELFTEST_SIZE * 3, scores = (size_t)SELFTEST_BATCH * SELFTEST_CLASSES;
    n->images = cli_alloc(pixels, sizeof *n->images);
    n->logits = cli_alloc(scores, sizeof *n->logits);
    n->logit_gradients = cli_alloc(scores, sizeof *n->logit_gradients);
    n->soft = cli_alloc(scores, sizeof *n->soft);
    bench_fill(n->images, pixels, 1);
    for (int i = 0; i < SELFTEST_BATCH; i++)
        for (int k = 0; k < SELFTEST_CLASSES; k++) n->soft[i * SELFTEST_CLASSES + k] = k == i % SELFTEST_CLASSES ? 0.6f : 0.1f;
    return BNFF_OK;
}

void selftest_network_close(selftest_network *n)
{
    free(n->images), free(n->logits), free(n->logit_gradients), free(n->soft), free(n->gradients), free(n->gradient_memory);
    bnff_state_destroy(&n->state);
    bnff_graph_destroy(&n->graph);
    *n = (selftest_network){0};
}

static bnff_status step(bnff_run *run, selftest_network *n, double *loss, bnff_error *error)
{
    const bnff_tensor input = bnff_nhwc(n->images, SELFTEST_SIZE, SELFTEST_SIZE, 3), gradient = bnff_nhwc(n->logit_gradients, 1, 1, SELFTEST_CLASSES);
    bnff_tensor output = bnff_nhwc(n->logits, 1, 1, SELFTEST_CLASSES);
    const bnff_forward_args forward = {.size = sizeof forward, .inputs = &input, .outputs = &output, .params = bnff_state_params(n->state), .seed = 3};
    const bnff_backward_args backward = {.size = sizeof backward, .output_gradients = &gradient, .param_gradients = n->gradients};
    bnff_status status = bnff_forward(run, &forward, error);
    if (status == BNFF_OK)
        status = bnff_softmax_cross_entropy(n->logits, SELFTEST_BATCH, SELFTEST_CLASSES, NULL, n->soft, 0, loss, n->logit_gradients, error);
    return status ? status : bnff_backward(run, &backward, error);
}

bnff_status selftest_step(bnff_context *context, selftest_network *n, selftest_way way, double *loss, bnff_error *error)
{
    const bnff_plan_options plan_options = {.size = sizeof plan_options, .batch = SELFTEST_BATCH, .height = SELFTEST_SIZE, .width = SELFTEST_SIZE,
                                            .mode = BNFF_TRAIN, .level = way.level, .algorithm = way.algorithm, .cells = way.cells};
    bnff_plan *plan = NULL;
    bnff_pool *pool = NULL;
    bnff_run *run = NULL;
    bnff_status status = bnff_plan_create(context, n->graph, &plan_options, &plan, error);
    if (status == BNFF_OK) status = bnff_pool_create(context, &pool, error);
    if (status == BNFF_OK) status = bnff_run_acquire(pool, plan, &run, error);
    if (status == BNFF_OK) status = step(run, n, loss, error);
    bnff_run_release(&run);
    bnff_pool_destroy(&pool);
    bnff_plan_destroy(&plan);
    return status;
}

/* -- The command --------------------------------------------------------------------------------------------------- */

static int run(const cli_command *self, int argc, char **argv)
{
    struct arguments args = {0};
    cli_positionals words;
    int code = cli_parse(self, argc, argv, &args, &words), failed = 0;
    if (code < 0) code = cli_expect(self, &words, 0, 0);
    if (code >= 0) return code;
    bnff_error error;
    bnff_context *context = NULL;
    if (cli_context(args.threads, &context, &error)) return cli_fail(&error);
    json_t *results = args.json ? json_array() : NULL;
    if (!args.json) printf("bnff %s, %s, %d thread%s\n", bnff_version(), bnff_context_isa(context), bnff_context_threads(context),
                           bnff_context_threads(context) == 1 ? "" : "s");
    for (size_t i = 0; i < sizeof checks / sizeof *checks; i++) {
        selftest_finding finding = {0};
        char note[128] = "";
        const double start = bench_clock();
        checks[i].check(context, &finding, note);
        const double seconds = bench_clock() - start;
        failed += finding.failed;
        if (results)
            json_array_append_new(results, json_pack("{s:s, s:b, s:o, s:f}", "name", checks[i].name, "passed", !finding.failed, "text",
                                                     cli_json_string(finding.failed ? finding.text : note), "seconds", seconds));
        else printf("%s  %-16s  %s  (%.1f s)\n", finding.failed ? "FAIL" : "PASS", checks[i].name, finding.failed ? finding.text : note, seconds);
        fflush(stdout);
    }
    const char *isa = bnff_context_isa(context);
    if (results) code = cli_json_print(json_pack("{s:b, s:s, s:i, s:o}", "passed", !failed, "isa", isa, "threads", bnff_context_threads(context),
                                                 "checks", results));
    bnff_context_destroy(&context);
    if (!failed) return args.json ? code : (puts("all good"), EXIT_DONE);
    return cli_fail_text("please report this together with the output of 'bnff doctor'", "%d of the checks failed", failed);
}

const cli_command cli_selftest = {
    .name = "selftest", .usage = "[options]", .summary = "Check this build on this machine, without data", .options = options, .run = run,
    .text = "Gradients against finite differences, levels, algorithms of convolutions and instruction sets against each\n"
            "other, equal bits for equal cells, a small training, its resumption, and weights there and back. Takes\n"
            "seconds; exit code 1 if one fails.",
    .examples = "  bnff selftest\n  bnff selftest -t 1\n",
};
