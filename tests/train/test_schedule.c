/* Learning rates against torch.optim.lr_scheduler 2.13 (StepLR, CosineAnnealingLR, SequentialLR with LinearLR or ConstantLR
 * as torchvision's reference combines them, OneCycleLR). PyTorch computes some of them by recurrence: a few roundings. */
#include <bnff/optim.h>

#include "support.h"

enum { EPOCHS = 12 };

static void epochs_agree_with_pytorch(void **state)
{
    (void)state;
    static struct {
        const char *name;
        bnff_schedule schedule;
        double lr[EPOCHS];
    } cases[] = {
        {"constant", {.kind = BNFF_CONSTANT}, {.5, .5, .5, .5, .5, .5, .5, .5, .5, .5, .5, .5}},
        {"step", {.kind = BNFF_STEP, .step_size = 3, .gamma = .1}, {.5, .5, .5, .05, .05, .05, .005, .005, .005, .0005, .0005, .0005}},
        {"cosine", {.kind = BNFF_COSINE, .lr_min = .01},
         {0.5, 0.4916518274408217, 0.4671762239271875, 0.42824116139070412, 0.3775, 0.31841066605011759, 0.255, 0.19158933394988245, 0.1325, 0.081758838609295878, 0.042823776072812521, 0.01834817255917829}},
        {"linear warm-up, step", {.kind = BNFF_STEP, .step_size = 3, .gamma = .1, .warmup_epochs = 4, .warmup_decay = .01},
         {0.005, 0.12875, 0.2525, 0.37625, 0.5, 0.5, 0.5, 0.05, 0.05, 0.05, 0.005, 0.005}},
        {"linear warm-up, cosine", {.kind = BNFF_COSINE, .lr_min = .01, .warmup_epochs = 4, .warmup_decay = .01},
         {0.005, 0.12875, 0.2525, 0.37625, 0.5, 0.48135048546526527, 0.42824116139070412, 0.34875744092944705, 0.255, 0.16124255907055302, 0.081758838609295864, 0.02864951453473475}},
        {"constant warm-up, cosine", {.kind = BNFF_COSINE, .warmup_epochs = 2, .warmup_decay = .25, .warmup_constant = true},
         {0.125, 0.125, 0.5, 0.48776412907378841, 0.45225424859373686, 0.39694631307311828, 0.32725424859373686, 0.25, 0.17274575140626316, 0.10305368692688174, 0.047745751406263165, 0.012235870926211617}},
    };
    FOR_EACH(c, cases) {
        test_case("%s", c.name);
        c.schedule.size = sizeof c.schedule;
        c.schedule.lr = .5, c.schedule.epochs = EPOCHS, c.schedule.steps_per_epoch = 7;
        for (int step = 0; step < EPOCHS * 7; step++) {
            double momentum = -1;
            check_close(bnff_schedule_lr(&c.schedule, step, &momentum), c.lr[step / 7], 1e-15);
            check_close(momentum, -1, 0); /* these leave it alone */
        }
    }
}

static void one_cycle_agrees_with_pytorch(void **state)
{
    (void)state;
    static const double lr[] = {0.02, 0.065835921350012649, 0.18583592135001265, 0.33416407864998737, 0.45416407864998737, 0.5, 0.49373200311754367, 0.47524231600673683, 0.44545808878552501, 0.40587282697488153,
                                0.35847150089565039, 0.30563101096814466, 0.250001, 0.19437098903185537, 0.14153049910434962, 0.094129173025118487, 0.054543911214475022, 0.024759683993263143, 0.0062699968824562772, 2e-6};
    static const double momenta[] = {0.95, 0.94045084971874737, 0.91545084971874735, 0.88454915028125258, 0.85954915028125256, 0.85, 0.8512536043909088, 0.85495155660487898, 0.86090842587659844, 0.86882550990706331,
                                     0.87830581304412203, 0.88887395330218422, 0.9, 0.91112604669781572, 0.9216941869558779, 0.93117449009293662, 0.9390915741234015, 0.94504844339512095, 0.94874639560909113, 0.95};
    const bnff_schedule cycle = {.size = sizeof cycle, .kind = BNFF_ONECYCLE, .lr = .5, .epochs = 4, .steps_per_epoch = 5};
    test_case("20 steps");
    for (int step = 0; step < 20; step++) {
        double momentum;
        check_close(bnff_schedule_lr(&cycle, step, &momentum), lr[step], 1e-15);
        check_close(momentum, momenta[step], 1e-15);
    }
    check_close(bnff_schedule_lr(&cycle, 1000, NULL), 2e-6, 1e-20); /* past the end: the last rate */
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
    const bnff_schedule warm = {.size = sizeof warm, .kind = BNFF_COSINE, .lr = 1, .lr_min = .125, .epochs = 3, .steps_per_epoch = 1, .warmup_epochs = 3, .warmup_decay = .25};
    check_close(bnff_schedule_lr(&warm, 2, NULL), .75, 1e-15);
    check_close(bnff_schedule_lr(&warm, 3, NULL), .125, 1e-15);
    test_case("no steps");
    const bnff_schedule empty = {.size = sizeof empty, .kind = BNFF_ONECYCLE, .lr = 1};
    assert_true(isfinite(bnff_schedule_lr(&empty, 0, NULL)));
    test_case("step without a step size");
    const bnff_schedule step = {.size = sizeof step, .kind = BNFF_STEP, .lr = 1, .gamma = .1, .epochs = 9, .steps_per_epoch = 1};
    check_close(bnff_schedule_lr(&step, 5, NULL), 1, 0);
}

int main(void)
{
    static const struct CMUnitTest tests[] = {test(epochs_agree_with_pytorch), test(one_cycle_agrees_with_pytorch), test(shortest_one_cycles), test(odd_schedules_stay_finite)};
    return run_all(tests);
}
