/* Golden arrays (N x C x H x W, as PyTorch has them) as reference tensors. */
#ifndef BNFF_TESTS_REF_GOLDEN_H
#define BNFF_TESTS_REF_GOLDEN_H

#include "golden.h"
#include "ref.h"

/* A tensor of the current case, of either float type, channels last; without bounds. */
ref_tensor golden_tensor(const golden *file, const char *name);
/* The same with the order of its dimensions kept: parameters. */
ref_tensor golden_parameter(const golden *file, const char *name);
/* |got - want| <= close (1 + |want|) everywhere, want being the golden tensor or parameter `name`. */
void check_golden_tensor(const ref_tensor *got, const golden *file, const char *name, double close);
void check_golden_parameter(const ref_tensor *got, const golden *file, const char *name, double close);

bnff_conv_options golden_conv(const json_t *parameters, int out_channels);
bnff_pool_options golden_pool(const json_t *parameters);

#endif
