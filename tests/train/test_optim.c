/* Optimizers against torch.optim in float64; then what does not depend on formulas: kinds of parameters, threads, frozen
 * parameters, checkpoints, memory. */
#include <bnff/model.h>
#include <bnff/optim.h>

#include "failalloc.h"
#include "golden.h"
#include "kernels/kernels.h"
#include "support.h"

/* conv.weight [40,16,3,3] | bn.weight bn.bias bn.running_mean bn.running_var [40] | fc.weight [3,40] fc.bias [3] */
enum { CONV, GAMMA, BETA, MEAN, VAR, WEIGHT, BIAS, PARAMS, LARGEST = 40 * 900 * 9 };

static bnff_graph *make_graph(int channels)
{
    bnff_graph *graph;
    bnff_error error;
    check_ok(bnff_graph_create(&graph, &error), &error);
    bnff_value x = bnff_input(graph, "input", channels);
    x = bnff_conv2d(graph, "conv", x, &(bnff_conv_options){.out_channels = 40, .kernel = {3}});
    x = bnff_batchnorm(graph, "bn", x, NULL);
    bnff_output(graph, bnff_linear(graph, "fc", bnff_global_avgpool(graph, x), 3, true));
    check_ok(bnff_graph_status(graph, &error), &error);
    assert_int_equal(bnff_graph_param_count(graph), PARAMS);
    return graph;
}

static int64_t elements(const bnff_graph *graph, int param)
{
    bnff_param_info info;
    assert_true(bnff_graph_param(graph, param, &info));
    return info.elements;
}

typedef struct bench {
    bnff_context *context;
    bnff_graph *graph;
    bnff_optimizer *optimizer;
    float *params[PARAMS], *gradients[PARAMS];
} bench;

static bench make_bench(const char *isa, int threads, int channels, const bnff_optimizer_options *options, const bool *frozen)
{
    bench b = {.graph = make_graph(channels)};
    bnff_error error;
    const bnff_context_options machine = {.size = sizeof machine, .threads = threads, .max_isa = isa};
    check_ok(bnff_context_create(&machine, &b.context, &error), &error);
    check_ok(bnff_optimizer_create(b.context, b.graph, options, frozen, &b.optimizer, &error), &error);
    for (int p = 0; p < PARAMS; p++) {
        const size_t n = (size_t)elements(b.graph, p);
        b.params[p] = guarded(n), b.gradients[p] = guarded(n);
        for (size_t i = 0; i < n; i++) {
            b.params[p][i] = (float)bf_random_normal((uint64_t)p, i);
            b.gradients[p][i] = (float)bf_random_normal((uint64_t)p + 100, i);
        }
    }
    return b;
}

static void end_bench(bench *b)
{
    bnff_optimizer_destroy(&b->optimizer);
    assert_null(b->optimizer);
    bnff_graph_destroy(&b->graph);
    bnff_context_destroy(&b->context);
    check_guards();
}

static bnff_optimizer_options golden_options(const json_t *parameters)
{
    const char *kind = golden_string(parameters, "kind");
    return (bnff_optimizer_options){.size = sizeof(bnff_optimizer_options),
                                    .kind = !strcmp(kind, "sgd") ? BNFF_SGD : !strcmp(kind, "adam") ? BNFF_ADAM : BNFF_ADAMW,
                                    .momentum = (float)golden_number(parameters, "momentum"),
                                    .nesterov = golden_flag(parameters, "nesterov"),
                                    .beta1 = (float)golden_number(parameters, "beta1"),
                                    .beta2 = (float)golden_number(parameters, "beta2"),
                                    .eps = (float)golden_number(parameters, "eps"),
                                    .weight_decay = (float)golden_number(parameters, "weight_decay"),
                                    .norm_weight_decay = -1,
                                    .bias_weight_decay = -1};
}

/* PyTorch's parameter is the beginning of fc.weight here. Each step rounds the parameter and, some ten times over, its update,
 * which holds what is left of the updates before:  error_t = error_{t-1} + eps |w_t| + 10 eps sum_{s<=t} |w_s - w_{s-1}|.
 * Gradients come four times too large, and gradient_scale undoes that. */
static void agrees_with_pytorch(void **state)
{
    (void)state;
    golden *file = golden_open("optimizers");
    FOR_EACH_ISA(isa) for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const bnff_optimizer_options options = golden_options(parameters);
        size_t n;
        const float *start = golden_f32(file, "start", &n, NULL);
        bench b = make_bench(isa->isa, 2, 16, &options, NULL);
        memcpy(b.params[WEIGHT], start, n * sizeof *start);
        double last[32], moved[32] = {0}, bound[32] = {0};
        assert_true(n <= 32);
        for (size_t k = 0; k < n; k++) last[k] = (double)start[k];
        for (int t = 0; t < (int)golden_number(parameters, "steps"); t++) {
            char name[32];
            snprintf(name, sizeof name, "gradient%d", t);
            const float *gradient = golden_f32(file, name, NULL, NULL);
            for (size_t k = 0; k < n; k++) b.gradients[WEIGHT][k] = 4 * gradient[k];
            bnff_optimizer_step(b.optimizer, b.params, b.gradients,
                                json_number_value(json_array_get(json_object_get(parameters, "lr"), (size_t)t)), 0.25);
            snprintf(name, sizeof name, "after%d", t);
            const double *want = golden_f64(file, name, NULL, NULL);
            for (size_t k = 0; k < n; k++) {
                moved[k] += fabs(want[k] - last[k]);
                bound[k] += FLT_EPSILON * (fabs(want[k]) + 10 * moved[k]);
                last[k] = want[k];
                check_close(b.params[WEIGHT][k], want[k], bound[k]);
            }
        }
        end_bench(&b);
    }
    golden_close(&file);
}

static void decay_depends_on_the_kind(void **state)
{
    (void)state;
    static const struct {
        float norm, bias;
        float want[PARAMS]; /* what a parameter of value 1 becomes: 1 - decay */
    } cases[] = {
        {-1, -1, {.5f, .5f, .5f, 1, 1, .5f, .5f}},
        {0, -1, {.5f, 1, 1, 1, 1, .5f, .5f}},
        {-1, .25f, {.5f, .5f, .75f, 1, 1, .5f, .75f}},
        {0, .25f, {.5f, 1, .75f, 1, 1, .5f, .75f}},
    };
    FOR_EACH(c, cases) {
        test_case("norm=%g bias=%g", (double)c.norm, (double)c.bias);
        const bnff_optimizer_options options = {
            .size = sizeof options, .weight_decay = .5f, .norm_weight_decay = c.norm, .bias_weight_decay = c.bias};
        bench b = make_bench(NULL, 1, 16, &options, NULL);
        for (int p = 0; p < PARAMS; p++) b.params[p][2] = 1, b.gradients[p][2] = 0;
        bnff_optimizer_step(b.optimizer, b.params, b.gradients, 1, 1);
        for (int p = 0; p < PARAMS; p++) check_close(b.params[p][2], c.want[p], 0);
        end_bench(&b);
    }
}

/* Several pieces and tasks: the tensor is larger than what one task takes. */
static void threads_do_not_matter(void **state)
{
    (void)state;
    static const bnff_optimizer_kind kinds[] = {BNFF_SGD, BNFF_ADAMW};
    static const int counts[] = {2, 3, 7};
    FOR_EACH(kind, kinds) {
        const bnff_optimizer_options options = {.size = sizeof options,
                                                .kind = kind,
                                                .momentum = .9f,
                                                .weight_decay = .01f,
                                                .norm_weight_decay = -1,
                                                .bias_weight_decay = -1};
        bench one = make_bench(NULL, 1, 900, &options, NULL);
        float *want = one.params[CONV];
        for (int t = 0; t < 2; t++) bnff_optimizer_step(one.optimizer, one.params, one.gradients, .1, 1);
        const double norm = bnff_gradient_norm(one.optimizer, one.gradients);
        double squares = 0;
        for (int p = 0; p < PARAMS; p++)
            for (int64_t i = 0; p != MEAN && p != VAR && i < elements(one.graph, p); i++)
                squares += (double)one.gradients[p][i] * (double)one.gradients[p][i];
        check_close(norm, sqrt(squares), 1e-12 * norm);
        FOR_EACH(threads, counts) {
            test_case("kind=%d threads=%d", (int)kind, threads);
            bench many = make_bench(NULL, threads, 900, &options, NULL);
            for (int t = 0; t < 2; t++) bnff_optimizer_step(many.optimizer, many.params, many.gradients, .1, 1);
            check_same_bits(many.params[CONV], want, LARGEST);
            check_close(bnff_gradient_norm(many.optimizer, many.gradients), norm, 0);
            bnff_optimizer_destroy(&many.optimizer);
            bnff_graph_destroy(&many.graph);
            bnff_context_destroy(&many.context);
        }
        end_bench(&one);
    }
}

static void frozen_stays(void **state)
{
    (void)state;
    test_case("frozen");
    const bnff_optimizer_options options = {
        .size = sizeof options, .momentum = .9f, .weight_decay = .5f, .norm_weight_decay = -1, .bias_weight_decay = -1};
    const bool frozen[PARAMS] = {[CONV] = true, [GAMMA] = true};
    bench b = make_bench(NULL, 2, 16, &options, frozen);
    float before[PARAMS];
    for (int p = 0; p < PARAMS; p++) before[p] = b.params[p][1];
    float *const none = b.gradients[WEIGHT];
    b.gradients[WEIGHT] = NULL; /* not computed: nothing happens to it, decay included */
    bnff_optimizer_step(b.optimizer, b.params, b.gradients, .1, 1);
    static const bool moves[PARAMS] = {[BETA] = true, [BIAS] = true};
    for (int p = 0; p < PARAMS; p++) assert_int_equal(b.params[p][1] != before[p], moves[p]);
    double squares = 0;
    for (int i = 0; i < 40; i++) squares += (double)b.gradients[BETA][i] * (double)b.gradients[BETA][i];
    for (int i = 0; i < 3; i++) squares += (double)b.gradients[BIAS][i] * (double)b.gradients[BIAS][i];
    check_close(bnff_gradient_norm(b.optimizer, b.gradients), sqrt(squares), 1e-13);
    b.gradients[WEIGHT] = none;
    end_bench(&b);
}

static void momentum_can_cycle(void **state)
{
    (void)state;
    test_case("momentum");
    const bnff_optimizer_options options = {.size = sizeof options, .momentum = .5f, .norm_weight_decay = -1, .bias_weight_decay = -1};
    bench b = make_bench(NULL, 1, 16, &options, NULL);
    b.params[BIAS][0] = 0, b.gradients[BIAS][0] = -1;
    bnff_optimizer_step(b.optimizer, b.params, b.gradients, 1, 1); /* buffer -1 */
    bnff_optimizer_set_momentum(b.optimizer, .25);
    bnff_optimizer_step(b.optimizer, b.params, b.gradients, 1, 1); /* buffer -1.25 */
    check_close(b.params[BIAS][0], 2.25, 0);
    end_bench(&b);
}

/* Two steps, a checkpoint, two more: the same bits as four steps. */
static void checkpoints_continue_exactly(void **state)
{
    (void)state;
    static bnff_optimizer_options all[] = {{.kind = BNFF_SGD, .momentum = .9f}, {.kind = BNFF_SGD}, {.kind = BNFF_ADAM}};
    FOR_EACH(options, all) {
        test_case("kind=%d momentum=%g", (int)options.kind, (double)options.momentum);
        options.size = sizeof options;
        bnff_error error;
        bench b = make_bench(NULL, 2, 16, &options, NULL);
        bnff_optimizer *copy;
        bnff_weights *weights;
        check_ok(bnff_optimizer_create(b.context, b.graph, &options, NULL, &copy, &error), &error);
        check_ok(bnff_weights_create(&weights, &error), &error);
        for (int t = 0; t < 2; t++) bnff_optimizer_step(b.optimizer, b.params, b.gradients, .1, 1);
        check_ok(bnff_optimizer_store(b.optimizer, weights, &error), &error);
        const int moments = options.kind == BNFF_ADAM ? 2 : options.momentum > 0;
        assert_int_equal(bnff_weights_count(weights), 5 * moments + 1);
        assert_true(bnff_weights_find(weights, "optimizer.step") >= 0);
        if (moments)
            assert_true(bnff_weights_find(weights, options.kind == BNFF_ADAM ? "optimizer.exp_avg_sq.bn.bias"
                                                                             : "optimizer.momentum.bn.bias") >= 0);
        check_ok(bnff_optimizer_load(copy, weights, &error), &error);
        const size_t n = (size_t)elements(b.graph, CONV);
        float *start = guarded(n), *want = guarded(n);
        memcpy(start, b.params[CONV], n * sizeof *start);
        for (int t = 0; t < 2; t++) bnff_optimizer_step(b.optimizer, b.params, b.gradients, .1, 1);
        memcpy(want, b.params[CONV], n * sizeof *want);
        memcpy(b.params[CONV], start, n * sizeof *start);
        for (int t = 0; t < 2; t++) bnff_optimizer_step(copy, b.params, b.gradients, .1, 1);
        check_same_bits(b.params[CONV], want, n);
        bnff_weights_destroy(&weights);
        bnff_optimizer_destroy(&copy);
        end_bench(&b);
    }
}

static void foreign_checkpoints_are_refused(void **state)
{
    (void)state;
    test_case("foreign state");
    bnff_error error;
    const bnff_optimizer_options sgd = {.size = sizeof sgd, .momentum = .9f}, adam = {.size = sizeof adam, .kind = BNFF_ADAM};
    bench small = make_bench(NULL, 1, 16, &sgd, NULL), large = make_bench(NULL, 1, 17, &sgd, NULL),
          other = make_bench(NULL, 1, 16, &adam, NULL);
    bnff_weights *weights, *empty;
    check_ok(bnff_weights_create(&weights, &error), &error);
    check_ok(bnff_weights_create(&empty, &error), &error);
    check_ok(bnff_optimizer_store(small.optimizer, weights, &error), &error);
    check_fails(bnff_optimizer_load(large.optimizer, weights, &error), BNFF_E_FORMAT, &error,
                "'optimizer.momentum.conv.weight' has another type or shape");
    check_fails(bnff_optimizer_load(other.optimizer, weights, &error), BNFF_E_FORMAT, &error, "'optimizer.exp_avg.conv.weight' is missing");
    check_fails(bnff_optimizer_load(small.optimizer, empty, &error), BNFF_E_FORMAT, &error, "'optimizer.step' is missing");
    bnff_weights_destroy(&weights);
    bnff_weights_destroy(&empty);
    bnff_optimizer_destroy(&large.optimizer), bnff_graph_destroy(&large.graph), bnff_context_destroy(&large.context);
    bnff_optimizer_destroy(&other.optimizer), bnff_graph_destroy(&other.graph), bnff_context_destroy(&other.context);
    end_bench(&small);
}

static void refuses_nonsense(void **state)
{
    (void)state;
    static struct {
        bnff_optimizer_options options;
        const char *words;
    } cases[] = {
        {{.momentum = -1}, "momentum"},
        {{.momentum = NAN}, "momentum"},
        {{.nesterov = true}, "Nesterov"},
        {{.kind = BNFF_ADAM, .beta1 = 1}, "betas"},
        {{.kind = BNFF_ADAM, .beta2 = -.5f}, "betas"},
        {{.kind = BNFF_ADAM, .eps = -1}, "eps"},
        {{.weight_decay = -1}, "weight decay"},
        {{.kind = (bnff_optimizer_kind)9}, "kind"},
    };
    bnff_error error;
    bnff_context *context;
    bnff_graph *graph = make_graph(3);
    check_ok(bnff_context_create(NULL, &context, &error), &error);
    FOR_EACH(c, cases) {
        test_case("%s", c.words);
        bnff_optimizer *optimizer;
        c.options.size = sizeof c.options;
        check_fails(bnff_optimizer_create(context, graph, &c.options, NULL, &optimizer, &error), BNFF_E_ARG, &error, c.words);
        assert_null(optimizer);
    }
    bnff_optimizer *optimizer;
    check_fails(bnff_optimizer_create(context, graph, &(bnff_optimizer_options){0}, NULL, &optimizer, &error), BNFF_E_ARG, &error, "size");
    bnff_graph_destroy(&graph);
    bnff_context_destroy(&context);
}

static bnff_status create_and_store(void *arg, bnff_error *error)
{
    bench *b = arg;
    const bnff_optimizer_options options = {.size = sizeof options, .kind = BNFF_ADAM};
    bnff_optimizer *optimizer = NULL;
    bnff_weights *weights = NULL;
    bnff_status status = bnff_optimizer_create(b->context, b->graph, &options, NULL, &optimizer, error);
    if (status == BNFF_OK) status = bnff_weights_create(&weights, error);
    if (status == BNFF_OK) status = bnff_optimizer_store(optimizer, weights, error);
    if (status == BNFF_OK) status = bnff_optimizer_load(optimizer, weights, error);
    bnff_weights_destroy(&weights);
    bnff_optimizer_destroy(&optimizer);
    return status;
}

static void survives_missing_memory(void **state)
{
    (void)state;
    test_case("memory");
    const bnff_optimizer_options options = {.size = sizeof options};
    bench b = make_bench(NULL, 1, 3, &options, NULL);
    assert_true(fail_each_allocation(create_and_store, &b) > 6);
    end_bench(&b);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {
        test(agrees_with_pytorch), test(decay_depends_on_the_kind), test(threads_do_not_matter),
        test(frozen_stays), test(momentum_can_cycle), test(checkpoints_continue_exactly),
        test(foreign_checkpoints_are_refused), test(refuses_nonsense), test(survives_missing_memory),
    };
    return run_all(tests);
}
