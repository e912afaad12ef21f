/* Reading weights: .safetensors (tests/fuzz/corpus/safetensors). */
#include "weights_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return read_weights(data, size); }
