/* Learning rates against torch.optim.lr_scheduler (StepLR, CosineAnnealingLR, SequentialLR with LinearLR or ConstantLR as
 * torchvision's reference combines them, OneCycleLR). PyTorch computes some of them by recurrence: a few roundings. */
#include <bnff/optim.h>

#include "golden.h"
#include "support.h"

static double number_or_zero(const json_t *parameters, const char *key) { return json_number_value(json_object_get(parameters, key)); }

static bnff_schedule_kind kind_of(const char *name)
{
    static const char *const names[] = {
        [BNFF_CONSTANT] = "constant", [BNFF_STEP] = "step", [BNFF_COSINE] = "cosine", [BNFF_ONECYCLE] = "onecycle"};
    for (size_t k = 0; k < COUNT_OF(names); k++)
        if (!strcmp(name, names[k])) return (bnff_schedule_kind)k;
    fail_msg("schedule %s", name);
    return BNFF_CONSTANT;
}

static void agrees_with_pytorch(void **state)
{
    (void)state;
    golden *file = golden_open("schedules");
    for (int i = 0; i < golden_count(file); i++) {
        const json_t *parameters = golden_case(file, i);
        const bnff_schedule schedule = {.size = sizeof schedule,
                                        .kind = kind_of(golden_string(parameters, "kind")),
                                        .lr = golden_number(parameters, "lr"),
                                        .lr_min = number_or_zero(parameters, "lr_min"),
                                        .step_size = (int)number_or_zero(parameters, "step_size"),
                                        .gamma = number_or_zero(parameters, "gamma"),
                                        .warmup_epochs = (int)number_or_zero(parameters, "warmup_epochs"),
                                        .warmup_decay = number_or_zero(parameters, "warmup_decay"),
                                        .warmup_constant = json_is_true(json_object_get(parameters, "warmup_constant")),
                                        .epochs = (int)golden_number(parameters, "epochs"),
                                        .steps_per_epoch = (int64_t)golden_number(parameters, "steps_per_epoch")};
        size_t steps;
        const double *lr = golden_f64(file, "lr", &steps, NULL), *momenta = golden_f64(file, "momentum", NULL, NULL);
        assert_int_equal(steps, schedule.epochs * schedule.steps_per_epoch);
        for (size_t step = 0; step < steps; step++) {
            double momentum = 0.9; /* what the optimizer has, left alone by all but one-cycle */
            check_close(bnff_schedule_lr(&schedule, (int64_t)step, &momentum), lr[step], 4 * DBL_EPSILON);
            check_close(momentum, momenta[step], 4 * DBL_EPSILON);
        }
    }
    golden_close(&file);
}

static void shortest_one_cycles(void **state)
{
    (void)state;
    static const double lr[] = {2e-06, 0.4058728269748815, 0.49720771772545586}, momenta[] = {0.95, 0.8688255099070633, 0.8505584586887436};
    for (int total = 1; total <= 3; total++) {
        test_case("total=%d", total);
        const bnff_schedule cycle = {.size = sizeof cycle, .kind = BNFF_ONECYCLE, .lr = .5, .epochs = 1, .steps_per_epoch = total};
        double momentum;
        check_close(bnff_schedule_lr(&cycle, 0, &momentum), lr[total - 1], 1e-15);
        check_close(momentum, momenta[total - 1], 1e-15);
    }
}

static void odd_schedules_stay_finite(void **state)
{
    (void)state;
    test_case("warm-up as long as the training");
    const bnff_schedule warm = {.size = sizeof warm,
                                .kind = BNFF_COSINE,
                                .lr = 1,
                                .lr_min = .125,
                                .epochs = 3,
                                .steps_per_epoch = 1,
                                .warmup_epochs = 3,
                                .warmup_decay = .25};
    check_close(bnff_schedule_lr(&warm, 2, NULL), .75, 1e-15);
    check_close(bnff_schedule_lr(&warm, 3, NULL), .125, 1e-15);
    test_case("past the end");
    const bnff_schedule cycle = {.size = sizeof cycle, .kind = BNFF_ONECYCLE, .lr = .5, .epochs = 4, .steps_per_epoch = 5};
    check_close(bnff_schedule_lr(&cycle, 1000, NULL), 2e-6, 1e-20);
    test_case("no steps");
    const bnff_schedule empty = {.size = sizeof empty, .kind = BNFF_ONECYCLE, .lr = 1};
    assert_true(isfinite(bnff_schedule_lr(&empty, 0, NULL)));
    test_case("step without a step size");
    const bnff_schedule step = {.size = sizeof step, .kind = BNFF_STEP, .lr = 1, .gamma = .1, .epochs = 9, .steps_per_epoch = 1};
    check_close(bnff_schedule_lr(&step, 5, NULL), 1, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(agrees_with_pytorch), test(shortest_one_cycles), test(odd_schedules_stay_finite)};
    return run_all(tests);
}
