/* Checks of one step: gradients, and that it is the same whichever way it runs. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "selftest.h"

/* |a - b| / |b| over all gradients, in the Euclidean norm. */
static double relative_difference(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        norm += (double)b[i] * b[i];
    }
    const double relative = sqrt(difference / norm);
    return isnan(relative) ? INFINITY : relative;
}

static float *copy_of(const float *values, size_t count)
{
    float *copy = cli_alloc(count, sizeof *copy);
    memcpy(copy, values, count * sizeof *copy);
    return copy;
}

/* -- Finite differences -------------------------------------------------------------------------------------------- */

static bool loss_at(bnff_context *context, selftest_network *n, float *param, const float *at, const float *direction, int64_t count, double h,
                    double *loss,
                    selftest_finding *finding)
{
    bnff_error error;
    for (int64_t i = 0; i < count; i++) param[i] = (float)(at[i] + h * direction[i]);
    const bnff_status status = selftest_step(context, n, (selftest_way){0}, loss, &error);
    if (status) selftest_error(finding, "a step", &error);
    return status == BNFF_OK;
}

/* The slope of the loss along `direction` from one parameter, by the central difference of fourth order:
 *     L'(0) = (8 (L(h) - L(-h)) - (L(2h) - L(-2h))) / 12h + O(h^4) */
static double slope(bnff_context *context, selftest_network *n, float *param, const float *direction, int64_t count, selftest_finding *finding)
{
    const double h = 0.02;
    double loss[4] = {0};
    float *at = copy_of(param, (size_t)count);
    bool good = true;
    for (int k = 0; k < 4; k++) good = good && loss_at(context, n, param, at, direction, count, h * (double[]){1, -1, 2, -2}[k], &loss[k], finding);
    memcpy(param, at, (size_t)count * sizeof *param);
    free(at);
    return (8 * (loss[0] - loss[1]) - (loss[2] - loss[3])) / (12 * h);
}

/* Half along the gradient itself, which shows its size, half a random direction, which shows what else is in it. */
static void choose_direction(float *direction, const float *gradient, int64_t count, uint64_t seed)
{
    double norm = 0, random_norm = 0;
    bench_fill(direction, (size_t)count, seed);
    for (int64_t i = 0; i < count; i++) norm += (double)gradient[i] * gradient[i], random_norm += (double)direction[i] * direction[i];
    norm = sqrt(norm) + 1e-30, random_norm = sqrt(random_norm) + 1e-30;
    for (int64_t i = 0; i < count; i++) direction[i] = (float)(0.7 * gradient[i] / norm + 0.7 * direction[i] / random_norm);
}

void selftest_gradients(bnff_context *context, selftest_finding *finding, char note[128])
{
    selftest_network n;
    bnff_error error;
    double loss;
    if (selftest_network_open(true, &n, &error)) return selftest_error(finding, "the network", &error);
    if (selftest_step(context, &n, (selftest_way){0}, &loss, &error)) selftest_error(finding, "a step", &error);
    float *gradients = copy_of(n.gradient_memory, n.gradient_count), *direction = cli_alloc(n.gradient_count, sizeof *direction);
    float *const *params = bnff_state_params(n.state);
    double worst = 0;
    int compared = 0;
    bnff_param_info param;
    for (int i = 0; !finding->failed && bnff_graph_param(n.graph, i, &param); i++) {
        if (param.is_buffer) continue;
        const float *g = gradients + (n.gradients[i] - n.gradient_memory);
        choose_direction(direction, g, param.elements, (uint64_t)i + 100);
        double expected = 0;
        for (int64_t k = 0; k < param.elements; k++) expected += (double)g[k] * direction[k];
        const double measured = slope(context, &n, params[i], direction, param.elements, finding);
        /* Float logits of size 1 make the loss uncertain by about 1e-7, the slope by 2e-7 / h = 1e-5; the rest is the h^4 term. */
        const double e = fabs(measured - expected) / (fabs(expected) + 1e-2);
        if (!(e <= 1e-2)) selftest_fail(finding, "%s: the loss changes by %.6g along a direction where its gradient says %.6g", param.name, measured,
                                        expected);
        if (e > worst) worst = e;
        compared++;
    }
    snprintf(note, 128, "%d parameters against finite differences, off by at most %.1e", compared, worst);
    free(gradients);
    free(direction);
    selftest_network_close(&n);
}

/* -- The same result, whichever way -------------------------------------------------------------------------------- */

/* A step must come near `reference`: the float sums run in another order, and ReLU may flip where its input is nearly zero. */
static void compare(bnff_context *context, const float *reference, double reference_loss, selftest_way way, const char *what, double *worst,
                    selftest_finding *finding)
{
    selftest_network n;
    bnff_error error;
    double loss;
    if (selftest_network_open(false, &n, &error)) return selftest_error(finding, "the network", &error);
    if (selftest_step(context, &n, way, &loss, &error)) selftest_error(finding, what, &error);
    else {
        const double gradient = relative_difference(n.gradient_memory, reference, n.gradient_count), e = fabs(loss - reference_loss) / reference_loss;
        if (!(gradient <= 1e-3) || !(e <= 1e-4)) selftest_fail(finding, "%s: loss %.7g for %.7g, gradients off by %.2e", what, loss, reference_loss,
                                                               gradient);
        if (gradient > *worst) *worst = gradient;
    }
    selftest_network_close(&n);
}

/* The gradients of a step to compare with; NULL after a failure. */
static float *reference_step(bnff_context *context, selftest_way way, double *loss, selftest_finding *finding)
{
    selftest_network n;
    bnff_error error;
    if (selftest_network_open(false, &n, &error)) return selftest_error(finding, "the network", &error), NULL;
    float *reference = NULL;
    if (selftest_step(context, &n, way, loss, &error)) selftest_error(finding, "a step", &error);
    else reference = copy_of(n.gradient_memory, n.gradient_count);
    selftest_network_close(&n);
    return reference;
}

/* Every name of a list against its first. */
static void compare_names(bnff_context *context, const char *(*name_of)(int), selftest_way (*way_of)(const char *), selftest_finding *finding,
                          char note[128])
{
    double loss, worst = 0;
    float *reference = reference_step(context, way_of(name_of(0)), &loss, finding);
    const char *name;
    size_t used = (size_t)snprintf(note, 128, "%s", name_of(0));
    for (int i = 1; reference && !finding->failed && (name = name_of(i)); i++) {
        compare(context, reference, loss, way_of(name), name, &worst, finding);
        if (used < 80) used += (size_t)snprintf(note + used, 128 - used, ", %s", name);
    }
    if (used < 128) snprintf(note + used, 128 - used, ": gradients differ by at most %.1e", worst);
    free(reference);
}

static selftest_way at_level(const char *name) { return (selftest_way){.level = name}; }
static selftest_way by_algorithm(const char *name) { return (selftest_way){.algorithm = name}; }

void selftest_levels(bnff_context *context, selftest_finding *finding, char note[128])
{
    compare_names(context, bnff_level_name, at_level, finding, note);
}

void selftest_algorithms(bnff_context *context, selftest_finding *finding, char note[128])
{
    compare_names(context, bnff_algorithm_name, by_algorithm, finding, note);
}

void selftest_isas(bnff_context *context, selftest_finding *finding, char note[128])
{
    double loss, worst = 0;
    float *reference = reference_step(context, (selftest_way){0}, &loss, finding);
    const char *isa;
    size_t used = 0;
    for (int i = 0; reference && !finding->failed && (isa = bnff_isa_name(i)); i++) {
        bnff_error error;
        bnff_context *other = NULL;
        const bnff_context_options options = {.size = sizeof options, .threads = bnff_context_threads(context), .max_isa = isa};
        if (bnff_context_create(&options, &other, &error)) return free(reference), selftest_error(finding, isa, &error);
        compare(other, reference, loss, (selftest_way){0}, isa, &worst, finding);
        bnff_context_destroy(&other);
        if (used < 80) used += (size_t)snprintf(note + used, 128 - used, "%s%s", i ? ", " : "", isa);
    }
    if (used < 128) snprintf(note + used, 128 - used, ": gradients differ by at most %.1e", worst);
    free(reference);
}

void selftest_cells(bnff_context *context, selftest_finding *finding, char note[128])
{
    static const int threads[] = {1, 2, 3};
    double loss, other_loss;
    float *reference = reference_step(context, (selftest_way){.cells = 5}, &loss, finding);
    for (int i = 0; reference && !finding->failed && i < 3; i++) {
        bnff_error error;
        bnff_context *other = NULL;
        selftest_network n;
        const bnff_context_options options = {.size = sizeof options, .threads = threads[i], .max_isa = bnff_context_isa(context)};
        if (bnff_context_create(&options, &other, &error)) return free(reference), selftest_error(finding, "a context", &error);
        if (selftest_network_open(false, &n, &error)) selftest_error(finding, "the network", &error);
        else if (selftest_step(other, &n, (selftest_way){.cells = 5}, &other_loss, &error)) selftest_error(finding, "a step", &error);
        else if (other_loss != loss || memcmp(n.gradient_memory, reference, n.gradient_count * sizeof *reference))
            selftest_fail(finding, "5 cells on %d threads give other bits than on %d", threads[i], bnff_context_threads(context));
        selftest_network_close(&n);
        bnff_context_destroy(&other);
    }
    snprintf(note, 128, "5 cells on 1, 2 and 3 threads: the same bits");
    free(reference);
}
