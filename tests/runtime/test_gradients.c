/* Whole gradients against float64 (docs/math.md 7): in float32 the error of a deep network is mostly that of flipped ReLUs, for anyone. The
 * median over nine inputs may be at most twice that of level layerwise with direct convolutions, for every level and every algorithm about
 * as exact as those; four times for the others.
 *     test_gradients [all | NAME]     without kinks also all of the zoo, or one of it
 * Where some inputs flip a ReLU and some do not, errors spread over four decades and medians of nine say nothing (seen: levels at 0.6 and at 7
 * times layerwise). So networks are taken as they are where most inputs flip nothing, and all of the zoo without kinks. */
#include <bnff/model.h>

#include "model.h"
#include "support.h"

static const char *more = "";

static void compare(const char *name, int batch, int size, bool smooth)
{
    test_case("%s%s, %d images of %dx%d", name, smooth ? " without kinks" : "", batch, size, size);
    ref_way ways[REF_WAYS];
    const int count = ref_model_compare(name, batch, size, 9, smooth, ways);
    if (!(ways[0].error > 0 && ways[0].error < 0.1)) fail_msg("%s: gradients of level %s off by %.3g", test_case_name(), ways[0].level, ways[0].error);
    for (int w = 1; w < count; w++)
        if (!(ways[w].error <= ways[w].allowed * ways[0].error))
            fail_msg("%s: level %s, convolutions %s: gradients off by %.3g, %.2f times what level %s with direct ones is", test_case_name(), ways[w].level,
                     ways[w].algorithm, ways[w].error, ways[w].error / ways[0].error, ways[0].level);
}

static void densenet(void **state) { (void)state; compare("densenet-bc-16-4", 4, 16, false); }
static void resnet(void **state) { (void)state; compare("resnet20", 2, 16, false); }

static void without_kinks(void **state)
{
    (void)state;
    static const char *const some[] = {"densenet-bc-22-12", "resnet20", "mobilenet_v2"}; /* the rest waits for the long tests */
    bnff_model_info info;
    for (int i = 0; bnff_model_list(i, &info); i++) {
        bool now = !strcmp(more, "all") || !strcmp(more, info.name);
        FOR_EACH(name, some) now |= !strcmp(name, info.name);
        if (now && !info.pattern) compare(info.name, 4, info.default_size > 32 ? 32 : 16, true);
    }
}

int main(int argc, char **argv)
{
    static const struct CMUnitTest tests[] = {test(densenet), test(resnet), test(without_kinks)};
    if (argc > 1) more = argv[1];
    return run_all(tests);
}
