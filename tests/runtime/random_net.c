#include "random_net.h"

#include "support.h"

enum { VALUES = 60 };

/* Values made so far, with the sizes they have for the images of the setup. */
typedef struct drawing {
    net *n;
    const net_setup *setup;
    int count, h[VALUES], w[VALUES], c[VALUES];
    bool fixed[VALUES], read[VALUES]; /* size known without the images; some operator reads it */
} drawing;

static bool chance(int percent) { return random_int(1, 100) <= percent; }

/* Channel counts at, around and off vectors and blocks; mostly few, for the reference's sake. */
static int channels(void)
{
    static const int counts[] = {1, 2, 3, 5, 7, 8, 11, 15, 16, 17, 24, 31, 32, 33, 48, 64, 65, 70};
    return chance(70) ? counts[random_int(0, 9)] : counts[random_int(0, COUNT_OF(counts) - 1)];
}

static int made(drawing *d, int v, int h, int w, int c, bool fixed)
{
    assert_true(v == d->count && v < VALUES);
    d->h[v] = h, d->w[v] = w, d->c[v] = c, d->fixed[v] = fixed;
    d->count++;
    return v;
}

static int like(drawing *d, int v, int x) { return made(d, v, d->h[x], d->w[x], d->c[x], d->fixed[x]); }

/* A value: often the last one, or one that nobody reads yet, so that networks grow deep and few ends stay dead. */
static int any(drawing *d)
{
    int x = chance(50) ? d->count - 1 : random_int(0, d->count - 1);
    for (int tries = 0; tries < 3 && d->read[x] && chance(60); tries++) x = random_int(0, d->count - 1);
    return d->read[x] = true, x;
}

/* Another value of the size of x (and, if asked, its channels); x itself when there is none, or now and then. */
static int partner(drawing *d, int x, bool same_channels)
{
    for (int tries = 0; tries < 8; tries++) {
        const int y = random_int(0, d->count - 1);
        if (d->h[y] == d->h[x] && d->w[y] == d->w[x] && (!same_channels || d->c[y] == d->c[x]) && (y != x || chance(20))) return d->read[y] = true, y;
    }
    return x;
}

/* A kernel size and its dilation and padding along an axis of `size` that leave at least one output. */
static void window(int size, int *kernel, int *stride, int *padding, int *dilation)
{
    static const int kernels[] = {1, 1, 2, 3, 3, 3, 4, 5, 7};
    *kernel = kernels[random_int(0, COUNT_OF(kernels) - 1)];
    *stride = chance(70) ? 1 : random_int(1, 4);
    *dilation = chance(85) ? 1 : random_int(2, 3);
    *padding = chance(60) ? *dilation * (*kernel - 1) / 2 : random_int(0, *kernel);
    while (size + 2 * *padding < *dilation * (*kernel - 1) + 1) {
        if (*dilation > 1) --*dilation;
        else --*kernel;
    }
}

static int windowed(int size, int kernel, int stride, int padding, int dilation) { return (size + 2 * padding - dilation * (kernel - 1) - 1) / stride + 1; }

/* Convolution parameters may be frozen, together or one by one. */
static void maybe_freeze(drawing *d, int v)
{
    if (chance(8)) net_freeze_params(d->n, v);
    else if (chance(8)) net_freeze_one(d->n, v, chance(50));
}

static int add_conv(drawing *d, int x)
{
    bnff_conv_options o = {.out_channels = channels(), .bias = chance(40)};
    for (int axis = 0; axis < 2; axis++) window(axis ? d->w[x] : d->h[x], &o.kernel[axis], &o.stride[axis], &o.padding[axis], &o.dilation[axis]);
    if (chance(30)) o.kernel[0] = o.kernel[1] = o.dilation[0] = o.dilation[1] = 1, o.padding[0] = o.padding[1] = 0;
    if (chance(8)) { /* the whole image */
        o = (bnff_conv_options){.out_channels = o.out_channels, .kernel = {d->h[x], d->w[x]}, .stride = {1, 1}, .dilation = {1, 1}, .bias = o.bias};
    } else if (chance(15)) { /* depthwise */
        o.groups = o.out_channels = d->c[x];
    } else if (chance(20)) { /* grouped, possibly with a channel multiplier */
        const int divisors[] = {2, 3, 4, 5, 7, 8, 16};
        const int groups = divisors[random_int(0, COUNT_OF(divisors) - 1)];
        if (d->c[x] % groups == 0) o.groups = groups, o.out_channels = groups * random_int(1, 70 / groups);
    }
    const int h = windowed(d->h[x], o.kernel[0], o.stride[0], o.padding[0], o.dilation[0]), w = windowed(d->w[x], o.kernel[1], o.stride[1], o.padding[1], o.dilation[1]);
    if (h > 16 || w > 16) return -1;
    if (o.padding[1] == 0) o.padding[1] = -1; /* 0 would repeat the first */
    const int v = made(d, net_conv(d->n, x, o), h, w, o.out_channels, false);
    maybe_freeze(d, v);
    return v;
}

static int add_pool(drawing *d, int x)
{
    bnff_pool_options o = {.ceil_mode = chance(30), .exclude_pad = chance(50)};
    const bool max = chance(50);
    int size[2];
    for (int axis = 0; axis < 2; axis++) {
        const int in = axis ? d->w[x] : d->h[x];
        window(in, &o.kernel[axis], &o.stride[axis], &o.padding[axis], &o.dilation[axis]);
        if (!max) o.dilation[axis] = 1;
        if (o.padding[axis] > o.kernel[axis] / 2) o.padding[axis] = o.kernel[axis] / 2;
        if (in < o.dilation[axis]) o.padding[axis] = 0; /* some tap of every window hits the image */
        while (in + 2 * o.padding[axis] < o.dilation[axis] * (o.kernel[axis] - 1) + 1) {
            if (o.dilation[axis] > 1) o.dilation[axis]--;
            else o.kernel[axis]--, o.padding[axis] = 0;
        }
        size[axis] = ref_pool_size(in, o.kernel[axis], o.stride[axis], o.padding[axis], o.dilation[axis], o.ceil_mode);
    }
    if (o.padding[1] == 0) o.padding[1] = -1;
    return made(d, max ? net_maxpool(d->n, x, o) : net_avgpool(d->n, x, o), size[0], size[1], d->c[x], false);
}

static int add_transposed(drawing *d, int x)
{
    bnff_conv_transpose_options o = {.out_channels = channels(), .bias = chance(50)};
    int size[2];
    for (int axis = 0; axis < 2; axis++) {
        const int in = axis ? d->w[x] : d->h[x];
        o.kernel[axis] = random_int(1, 4), o.stride[axis] = random_int(1, 3), o.dilation[axis] = chance(85) ? 1 : 2;
        o.padding[axis] = chance(50) ? 0 : random_int(0, 2), o.output_padding[axis] = random_int(0, o.stride[axis] - 1);
        size[axis] = (in - 1) * o.stride[axis] - 2 * o.padding[axis] + o.dilation[axis] * (o.kernel[axis] - 1) + o.output_padding[axis] + 1;
        if (size[axis] < 1 || size[axis] > 16) return -1;
    }
    if (o.padding[1] == 0) o.padding[1] = -1; /* 0 would repeat the first */
    if (o.output_padding[1] == 0) o.output_padding[1] = -1;
    if (chance(20)) o.groups = o.out_channels = d->c[x];
    const int v = made(d, net_conv_transpose(d->n, x, o), size[0], size[1], o.out_channels, false);
    maybe_freeze(d, v);
    return v;
}

static int add_resize(drawing *d, int x)
{
    bnff_resize_options o = {.mode = chance(60) ? BNFF_RESIZE_BILINEAR : BNFF_RESIZE_NEAREST};
    o.align_corners = o.mode == BNFF_RESIZE_BILINEAR && chance(40);
    if (chance(50)) {
        o.size[0] = random_int(1, 14), o.size[1] = random_int(1, 14);
        return made(d, net_resize(d->n, x, o), o.size[0], o.size[1], d->c[x], true);
    }
    static const double scales[] = {2, 2, 1.5, 0.5, 3};
    o.scale[0] = scales[random_int(0, COUNT_OF(scales) - 1)], o.scale[1] = scales[random_int(0, COUNT_OF(scales) - 1)];
    const int h = (int)(d->h[x] * o.scale[0]), w = (int)(d->w[x] * o.scale[1]);
    return h < 1 || w < 1 || h > 16 || w > 16 ? -1 : made(d, net_resize(d->n, x, o), h, w, d->c[x], false);
}

static int add_shuffle(drawing *d, int x)
{
    int groups = random_int(1, d->c[x]);
    while (d->c[x] % groups) groups--;
    return like(d, net_shuffle(d->n, x, chance(40) && d->c[x] % 2 == 0 ? 2 : groups), x);
}

static int add_adaptive(drawing *d, int x)
{
    const int h = chance(40) ? 1 : random_int(1, 5), w = h == 1 ? 1 : random_int(1, 5);
    const int v = h == 1 && chance(80) ? net_global(d->n, x) : chance(70) ? net_adaptive(d->n, x, h, w) : net_adaptive_max(d->n, x, h, w);
    return made(d, v, h, w, d->c[x], true);
}

static int add_bn(drawing *d, int x)
{
    const bool frozen = chance(15);
    if (!frozen && d->setup->batch * d->h[x] * d->w[x] < 4) return -1; /* of two or three values the gradient is mostly rounding */
    const bnff_batchnorm_options o = {.no_affine = chance(15), .momentum = chance(20) ? 0.4f : 0, .eps = chance(50) ? 0 : 1e-2f};
    const int v = like(d, net_bn(d->n, x, &o), x);
    if (frozen) net_freeze_stats(d->n, v);
    maybe_freeze(d, v);
    return v;
}

static int add_activation(drawing *d, int x)
{
    static const bnff_activation kinds[] = {BNFF_RELU, BNFF_RELU, BNFF_RELU, BNFF_RELU6, BNFF_LEAKY_RELU, BNFF_SILU, BNFF_HARDSWISH, BNFF_SIGMOID, BNFF_HARDSIGMOID, BNFF_IDENTITY,
                                            BNFF_TANH, BNFF_GELU, BNFF_ELU, BNFF_MISH};
    return like(d, net_act(d->n, x, kinds[random_int(0, COUNT_OF(kinds) - 1)], 0.2f), x);
}

static int add_concat(drawing *d, int x)
{
    int parts[5] = {x}, total = d->c[x];
    const int count = random_int(1, 5);
    for (int k = 1; k < count; k++) total += d->c[parts[k] = partner(d, x, false)];
    if (total > 160) return -1;
    return made(d, net_concat(d->n, parts, count), d->h[x], d->w[x], total, d->fixed[x]);
}

static int add_slice(drawing *d, int x)
{
    const int first = random_int(0, d->c[x] - 1), count = random_int(1, d->c[x] - first);
    return made(d, net_slice(d->n, x, first, count), d->h[x], d->w[x], count, d->fixed[x]);
}

/* Squeeze and excitation: global pooling, maybe a layer and an activation, a gate. */
static int add_gate(drawing *d, int x)
{
    if (d->count + 4 > VALUES) return -1;
    int gate = made(d, net_global(d->n, x), 1, 1, d->c[x], true);
    if (chance(60)) gate = made(d, net_conv(d->n, gate, (bnff_conv_options){.out_channels = d->c[x], .bias = true}), 1, 1, d->c[x], true);
    if (chance(70)) gate = like(d, net_act(d->n, gate, chance(50) ? BNFF_SIGMOID : BNFF_HARDSIGMOID, 0), gate);
    d->read[gate] = true;
    return like(d, net_gate(d->n, x, gate), x);
}

/* A product: of two values of one shape, mostly with something bounded, for sizes' sake. */
static int add_mul(drawing *d, int x)
{
    if (d->count + 2 > VALUES) return -1;
    int y = partner(d, x, true);
    if (chance(70)) y = like(d, net_act(d->n, y, chance(50) ? BNFF_SIGMOID : BNFF_TANH, 0), y), d->read[y] = true;
    return like(d, net_mul(d->n, x, y), x);
}

static int add_scale(drawing *d, int x)
{
    const int v = like(d, net_scale(d->n, x, (bnff_scale_options){.weight = chance(50), .bias = chance(50), .factor = chance(50) ? 0 : -0.5f, .offset = chance(50) ? 0 : 0.25f}), x);
    maybe_freeze(d, v);
    return v;
}

/* conv, bn, relu as networks have them most. */
static int add_unit(drawing *d, int x)
{
    if (d->count + 3 > VALUES || (x = add_conv(d, x)) < 0) return -1;
    const int normed = add_bn(d, x);
    return normed < 0 || chance(20) ? x : like(d, net_relu(d->n, normed), normed);
}

static int add_linear(drawing *d, int x)
{
    const int out = channels();
    return made(d, net_linear(d->n, x, out, chance(50)), 1, 1, out, true);
}

static void grow(drawing *d)
{
    const int x = any(d), kind = random_int(1, 100);
    if (kind <= 12) add_conv(d, x);
    else if (kind <= 26) add_unit(d, x);
    else if (kind <= 40) add_bn(d, x);
    else if (kind <= 52) add_activation(d, x);
    else if (kind <= 55) add_mul(d, x);
    else if (kind <= 58) add_scale(d, x);
    else if (kind <= 66) like(d, net_add(d->n, x, partner(d, x, true)), x);
    else if (kind <= 76) add_concat(d, x);
    else if (kind <= 80) add_slice(d, x);
    else if (kind <= 82) add_shuffle(d, x);
    else if (kind <= 84) add_transposed(d, x);
    else if (kind <= 86) add_resize(d, x);
    else if (kind <= 90) add_pool(d, x);
    else if (kind <= 93) add_gate(d, x);
    else if (kind <= 95) add_adaptive(d, x);
    else if (kind <= 98) like(d, net_dropout(d->n, x, (float)random_uniform(0, 0.6)), x);
    else if (d->fixed[x]) add_linear(d, x);
}

net *random_net(net_setup *setup)
{
    *setup = (net_setup){.batch = random_int(1, 4), .height = random_int(1, 13), .width = random_int(1, 13), .evaluate = chance(10)};
    drawing d = {.n = net_new(), .setup = setup};
    const int inputs = chance(75) ? 1 : random_int(2, 3), target = random_int(3, 24);
    for (int i = 0; i < inputs; i++) {
        const int c = chance(40) ? 3 : channels(), h = random_int(1, 13), w = random_int(1, 13), kind = random_int(1, 100);
        if (kind <= 80) made(&d, net_input(d.n, c), setup->height, setup->width, c, false);
        else if (kind <= 90) made(&d, net_input_sized(d.n, c, h, w), h, w, c, true);
        else made(&d, net_input_planned(d.n, c, h, w), h, w, c, false);
    }
    for (int tries = 0; d.count < target && d.count + 5 < VALUES && tries < 60; tries++) grow(&d);
    /* Ends become outputs, but now and then stay dead; values in the middle become outputs, now and then twice. */
    int outputs = 0;
    for (int v = 0; v < d.count; v++)
        if (d.read[v] ? chance(8) : chance(85)) {
            net_output(d.n, v), outputs++;
            if (chance(6)) net_output(d.n, v), outputs++;
        }
    if (!outputs) net_output(d.n, d.count - 1);
    return d.n;
}
