/* Whole gradients against float64 (docs/math.md 7): in float32 the error of a deep network is mostly that of flipped ReLUs, for anyone. The
 * median over nine inputs may be at most twice that of level layerwise with direct convolutions, for every level and every algorithm about
 * as exact as those; four times for the others. */
#include "model.h"
#include "support.h"

static void compare(const char *name, int batch, int size)
{
    test_case("%s, %d images of %dx%d", name, batch, size, size);
    ref_way ways[REF_WAYS];
    const int count = ref_model_compare(name, batch, size, 9, ways);
    assert_true(ways[0].error > 0 && ways[0].error < 0.1);
    for (int w = 1; w < count; w++)
        if (!(ways[w].error <= ways[w].allowed * ways[0].error))
            fail_msg("%s: level %s, convolutions %s: gradients off by %.3g, %.2f times what level %s with direct ones is", test_case_name(), ways[w].level,
                     ways[w].algorithm, ways[w].error, ways[w].error / ways[0].error, ways[0].level);
}

static void densenet(void **state) { (void)state; compare("densenet-bc-16-4", 4, 16); }
static void resnet(void **state) { (void)state; compare("resnet20", 2, 16); }

int main(void)
{
    static const struct CMUnitTest tests[] = {test(densenet), test(resnet)};
    return run_all(tests);
}
