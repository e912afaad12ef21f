/* All image decoders; what decodes is also shrunk and normalised, as a training would do. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <bnff/data.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const bnff_transform transform = {.size = sizeof transform, .width = 8, .height = 8, .augment = true, .scale = {0.08, 1},
                                             .ratio = {3. / 4, 4. / 3}, .hflip = 0.5, .mean = {0.5f, 0.5f, 0.5f}, .std = {0.2f, 0.2f, 0.2f}};
    const int channels = size % 2 ? 3 : 1;
    float out[8 * 8 * 3];
    bnff_image image;
    bnff_error error;
    if (bnff_image_decode(data, size, "input", channels, &image, &error) == BNFF_OK) {
        if (bnff_transform_apply(&transform, &image, size, out, &error) != BNFF_OK && error.status == BNFF_E_ARG) abort();
        bnff_image_free(&image);
    } else if (image.pixels || !error.message[0]) {
        abort();
    }
    return 0;
}
