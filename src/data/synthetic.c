/* Made-up images that a network can learn to tell apart: class k is a grating whose direction, pitch and colour are its own;
 * phase, contrast and noise differ from image to image. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/random.h"
#include "data/dataset.h"

enum { COUNT = 2000, SIDE = 32, CLASSES = 10 };
#define PI 3.14159265358979323846

/* A number above 0, and the separator if another digit follows it; false if there is none. */
static bool read_number(const char **text, long limit, int64_t *number)
{
    char *end;
    const long value = strtol(*text, &end, 10);
    if (end == *text || value < 1 || value > limit || (*end && (*end != 'x' || end[1] < '0' || end[1] > '9'))) return false;
    *number = value;
    *text = *end ? end + 1 : end;
    return true;
}

static bnff_status read_numbers(const char *numbers, int64_t *count, int64_t *side, int64_t *classes, bnff_error *error)
{
    *count = COUNT, *side = SIDE, *classes = CLASSES;
    const char *text = numbers;
    bool right = true;
    if (*text) right = read_number(&text, 100000000, count);
    if (right && *text) right = read_number(&text, 4096, side);
    if (right && *text) right = read_number(&text, 10000, classes);
    if (right && !*text && *classes >= 2 && *count >= *classes) return BNFF_OK;
    bf_fail(error, BNFF_E_ARG, "synthetic:%s: not COUNTxSIZExCLASSES, with at least two classes and an image of each", numbers);
    return bf_hint(error, BNFF_E_ARG, "synthetic:2000x32x10 is 2000 images of 32 x 32 pixels in 10 classes");
}

static bnff_status add_items(bnff_dataset *d, const char *split, int64_t count, bnff_error *error)
{
    for (int64_t i = 0; i < count; i++) {
        char name[48];
        snprintf(name, sizeof name, "synthetic-%s[%lld]", split, (long long)i);
        BF_TRY(bf_dataset_add(d, (int)(i % d->classes), name, error));
    }
    return BNFF_OK;
}

bnff_status bf_open_synthetic(bnff_dataset *d, const char *numbers, bnff_split split, const bnff_dataset_options *options, bnff_error *error)
{
    static const float half[3] = {0.5f, 0.5f, 0.5f}, quarter[3] = {0.25f, 0.25f, 0.25f};
    int64_t count, side, classes;
    BF_TRY(read_numbers(numbers, &count, &side, &classes, error));
    d->source = BF_SOURCE_SYNTHETIC;
    d->channels = options->channels ? options->channels : 3;
    d->width = d->height = d->side = (int)side;
    d->seed = bf_random_key(options->seed, split == BNFF_SPLIT_VAL);
    bf_dataset_set_normalization(d, half, quarter);
    for (int i = 0; i < classes; i++) {
        char name[32];
        snprintf(name, sizeof name, "class%d", i);
        BF_TRY(bf_dataset_add_class(d, name, error));
    }
    const int64_t val = (int64_t)((double)count * options->val_ratio);
    const int64_t size = split != BNFF_SPLIT_VAL ? count : val > classes ? val : classes;
    return add_items(d, split == BNFF_SPLIT_VAL ? "val" : "train", size, error);
}

void bf_synthetic_image(const bnff_dataset *d, int64_t index, bnff_image *image)
{
    const uint64_t key = bf_random_key(d->seed, (uint64_t)index), of_class = bf_random_key(0x67726174, (uint64_t)d->labels[index]);
    const double angle = PI * bf_random_uniform(of_class, 0), pitch = 2 + 4 * bf_random_uniform(of_class, 1); /* waves a side */
    const double phase = 2 * PI * bf_random_uniform(key, 0), contrast = 40 + 60 * bf_random_uniform(key, 1);
    const double fx = 2 * PI * pitch * cos(angle) / d->width, fy = 2 * PI * pitch * sin(angle) / d->height;
    uint8_t *p = image->pixels;
    for (int y = 0; y < d->height; y++)
        for (int x = 0; x < d->width; x++) {
            const double wave = contrast * sin(fx * x + fy * y + phase);
            const uint64_t noise = bf_random(key, 2 + (uint64_t)y * (uint64_t)d->width + (uint64_t)x);
            for (int c = 0; c < 3; c++, p++) {
                const double tint = 60 * (bf_random_uniform(of_class, 2 + (uint64_t)c) - 0.5);
                const double v = 128 + wave + tint + (double)(noise >> (20 * c) & 0x3F) - 32;
                *p = (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v);
            }
        }
}
