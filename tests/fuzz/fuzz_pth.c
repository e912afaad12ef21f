/* Reading weights: torch.save's zip archives and pickles (tests/fuzz/corpus/pth). */
#include "weights_target.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) { return read_weights(data, size); }
