/* Elementwise, summing and window kernels on a tile in L2, in ns and bytes per ns (loads and stores of the block's lanes).
 *     bench_steps [isa] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "kernels/kernels.h"

enum { PIXELS = 224, C = 32, ROW = 28 };

static float *block(int pixels)
{
    float *x = aligned_alloc(64, (size_t)pixels * C * sizeof *x);
    if (!x) exit(1);
    for (int i = 0; i < pixels * C; i++) x[i] = (float)rand() / (float)RAND_MAX - 0.5f;
    return x;
}

/* Best time of `call` over many tries. */
#define BENCH(name, operands, call) do { \
    double best = 1e9; \
    for (int try = 0; try < 400; try++) { \
        const double start = bf_clock(); \
        for (int i = 0; i < 8; i++) { call; } \
        const double time = (bf_clock() - start) / 8; \
        if (time < best) best = time; \
    } \
    printf("%-8s %-26s %8.0f ns  %6.1f bytes/ns\n", k->isa, name, 1e9 * best, 1e-9 * (operands) * PIXELS * C * sizeof(float) / best); \
} while (0)

static void bench(const bf_kernels *k)
{
    float *x = block(PIXELS * 2), *y = block(PIXELS * 2), *z = block(PIXELS), *s = block(16), *w = block(16), *v = block(PIXELS);
    for (int i = 0; i < PIXELS * C; i++) v[i] = v[i] * v[i];
    double s1[C] = {0}, s2[C] = {0}, pivot[C] = {0};
    const bf_act relu = {BNFF_RELU, 0}, silu = {BNFF_SILU, 0}, swish = {BNFF_HARDSWISH, 0};
    ptrdiff_t offsets[9];
    for (int t = 0; t < 9; t++) offsets[t] = (t / 3 * ROW + t % 3) * C;
    const bf_taps taps = {.count = 9, .offset = offsets};
    float dw[9 * C] = {0};
    bf_dw_line lines[3];
    for (int i = 0; i < 3; i++) lines[i] = (bf_dw_line){x + i * ROW * C, w + 3 * i * C, dw + 3 * i * C};
    const bf_dw row = {.lines = lines, .count = 3, .taps = 3, .step = 1, .pad = 0, .dilation = 1, .width = PIXELS + 2};
    BENCH("copy", 2, k->copy(y, C, x, C, PIXELS, C));
    BENCH("copy_stream", 2, k->copy_stream(y, C, x, C, PIXELS, C));
    BENCH("affine_act relu", 2, k->affine_act(y, C, x, C, PIXELS, C, s, s, s, relu));
    BENCH("affine_act silu", 2, k->affine_act(y, C, x, C, PIXELS, C, s, s, s, silu));
    BENCH("affine_act hardswish", 2, k->affine_act(y, C, x, C, PIXELS, C, s, s, s, swish));
    BENCH("affine_add_act relu", 3, k->affine_add_act(y, C, x, C, z, C, PIXELS, C, s, s, s, relu));
    BENCH("add_act relu", 3, k->add_act(y, C, x, C, z, C, PIXELS, C, relu));
    BENCH("affine_act_grad relu", 3, k->affine_act_grad(y, C, z, C, x, C, PIXELS, C, s, s, s, relu));
    BENCH("affine_act_grad silu", 3, k->affine_act_grad(y, C, z, C, x, C, PIXELS, C, s, s, s, silu));
    BENCH("bn_dx", 3, k->bn_dx(y, C, z, C, x, C, PIXELS, C, s, s, s, s));
    BENCH("affine_act_grad_sums", 3, k->affine_act_grad_sums(y, C, z, C, x, C, PIXELS, C, s, s, s, relu, s1, s2));
    BENCH("affine_act_bn_dx", 3, k->affine_act_bn_dx(y, C, z, C, x, C, PIXELS, C, s, s, s, relu, s, s));
    BENCH("scale_add", 3, k->scale_add(y, C, x, C, 2, z, C, PIXELS, C));
    BENCH("sum_stats", 1, k->sum_stats(x, C, PIXELS, C, pivot, s1, s2));
    BENCH("sum_bn_grad", 2, k->sum_bn_grad(z, C, x, C, PIXELS, C, s, s1, s2));
    BENCH("dropout", 2, k->dropout(y, C, x, C, PIXELS, C, 1, 2, C, 1u << 30, 2));
    BENCH("max_taps 3x3", 10, k->max_taps(y, C, x, C, taps, PIXELS, C));
    BENCH("max_taps_grad 3x3", 28, k->max_taps_grad(y, taps.offset, x, C, taps, z, C, PIXELS, C));
    BENCH("sum_taps 3x3", 10, k->sum_taps(y, C, x, C, taps, 0.1f, PIXELS, C));
    BENCH("sum_taps_grad 3x3", 19, k->sum_taps_grad(y, C, taps, 0.1f, z, C, PIXELS, C));
    BENCH("dw_row 3x3", 10, k->dw_row(y, C, &row, NULL, PIXELS, C));
    BENCH("dw_row_weight_grad 3x3", 10, k->dw_row_weight_grad(&row, z, C, PIXELS, C));
    BENCH("update_sgd", 5, k->update_sgd(y, z, x, PIXELS * C, 0, 0.9f, 0, false, false, 1));
    BENCH("update_adam", 7, k->update_adam(y, z, x, v, PIXELS * C, 0, 0.9f, 0.9f, 1, 0, true, 0, 1, 1));
    free(x), free(y), free(z), free(s), free(w), free(v);
}

int main(int argc, char **argv)
{
    for (int i = 0; bf_kernels_at(i); i++)
        if (argc < 2 || !strcmp(argv[1], bf_kernels_at(i)->isa)) bench(bf_kernels_at(i));
    return 0;
}
