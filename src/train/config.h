/* What a training is told: public options with every default made concrete, and their form in args.json. */
#ifndef BF_TRAIN_CONFIG_H
#define BF_TRAIN_CONFIG_H

#include <bnff/train.h>

#include "base/text.h"

/* Options whose strings are owned copies. */
typedef struct bf_config {
    bnff_train_options options;
} bf_config;

/* Copy, strings included. A field beyond options->size keeps its default. */
bnff_status bf_config_copy(bf_config *config, const bnff_train_options *options, bnff_error *error);
void bf_config_free(bf_config *config);
/* Replace an owned string (NULL allowed). */
bnff_status bf_config_string(const char **field, const char *value, bnff_error *error);

/* What the defaults depend on. */
typedef struct bf_data_facts {
    int64_t train_images;
    int image_size;      /* side of small fixed-size images, or median shorter side of some photographs; 0: unknown */
    bool fixed_size;     /* arrays: every image has image_size */
    bool fine_tune;
    int weights_crop, weights_resize; /* preprocessing recorded in the weights, 0: none */
    int threads;
} bf_data_facts;

/* Range checks that need no data; the message names the flag. */
bnff_status bf_config_check(const bnff_train_options *options, bnff_error *error);
/* Replace NULL, 0 and negative values that mean "default". batch < 0 stays: it needs plans (batch_fit.h). */
bnff_status bf_config_resolve(bf_config *config, const bf_data_facts *facts, bnff_error *error);
/* Learning rate for a batch size that is now known, where none was given. */
void bf_config_resolve_lr(bf_config *config, bool fine_tune);

/* -- args.json (args.c) -------------------------------------------------------------------------------------------- */

typedef struct bf_machine {
    char cpu[128], isa[16];
    int threads;
} bf_machine;

/* Every option that is a string, index = 0, 1, ...; NULL after the last. */
const char **bf_args_string(bnff_train_options *options, int index);
/* The whole file: options by flag name, machine, version. */
void bf_args_write(bf_text *text, const bnff_train_options *options, const bf_machine *machine);
/* Read it back over the defaults. `name` is for messages. */
bnff_status bf_args_read(const char *text, const char *name, bf_config *config, bf_machine *machine, bnff_error *error);
/* Equal for trainings that compute the same: no paths, names, limits or reporting. */
uint64_t bf_args_identity(const bnff_train_options *options);
/* Take over what differs from the defaults in `overrides`. Fields that would make another training of it are refused
 * by flag name. `changes` gets a line for each field taken. */
bnff_status bf_args_override(bf_config *config, const bnff_train_options *overrides, bf_text *changes, bnff_error *error);

#endif
