#include "ref_golden.h"

#include "support.h"

/* Element (n, c, h, w) of the golden array goes to (n, h, w, c), or stays where it is. */
static ref_tensor load(const golden *file, const char *name, bool channels_last)
{
    int s[4];
    const bool single = golden_has_f32(file, name);
    const float *f = single ? golden_f32(file, name, NULL, s) : NULL;
    const double *d = single ? NULL : golden_f64(file, name, NULL, s);
    ref_tensor t = channels_last ? ref_new(s[0], s[2], s[3], s[1]) : ref_new(s[0], s[1], s[2], s[3]);
    size_t from = 0;
    for (int n = 0; n < s[0]; n++)
        for (int c = 0; c < s[1]; c++)
            for (int h = 0; h < s[2]; h++)
                for (int w = 0; w < s[3]; w++, from++) t.v[channels_last ? ref_at(&t, n, h, w, c) : from] = f ? f[from] : d[from];
    return t;
}

ref_tensor golden_tensor(const golden *file, const char *name) { return load(file, name, true); }
ref_tensor golden_parameter(const golden *file, const char *name) { return load(file, name, false); }

static void check(const ref_tensor *got, ref_tensor want, const char *name, double close)
{
    assert_int_equal(ref_count(&want), ref_count(got));
    for (size_t i = 0; i < ref_count(&want); i++)
        support_close(got->v[i], want.v[i], close * (1 + fabs(want.v[i])), name, (ptrdiff_t)i, __FILE__, __LINE__);
    ref_free(&want);
}

void check_golden_tensor(const ref_tensor *got, const golden *file, const char *name, double close) { check(got, golden_tensor(file, name), name, close); }
void check_golden_parameter(const ref_tensor *got, const golden *file, const char *name, double close) { check(got, golden_parameter(file, name), name, close); }

bnff_conv_options golden_conv(const json_t *parameters, int out_channels)
{
    bnff_conv_options o = {.out_channels = out_channels, .groups = (int)golden_number(parameters, "groups"), .bias = golden_flag(parameters, "bias")};
    golden_pair(parameters, "kernel", o.kernel);
    golden_pair(parameters, "stride", o.stride);
    golden_pair(parameters, "padding", o.padding);
    golden_pair(parameters, "dilation", o.dilation);
    return o;
}

bnff_pool_options golden_pool(const json_t *parameters)
{
    bnff_pool_options o = {.dilation = {1, 1}, .ceil_mode = golden_flag(parameters, "ceil_mode")};
    golden_pair(parameters, "kernel", o.kernel);
    golden_pair(parameters, "stride", o.stride);
    golden_pair(parameters, "padding", o.padding);
    if (json_object_get(parameters, "dilation")) golden_pair(parameters, "dilation", o.dilation);
    else o.exclude_pad = golden_flag(parameters, "exclude_pad");
    return o;
}
