/* What `bnff train` takes: the trainer's options, and how to show its progress. */
#ifndef CLI_TRAIN_OPTIONS_H
#define CLI_TRAIN_OPTIONS_H

#include "cli.h"

typedef struct train_arguments {
    bnff_train_options train;
    const char *resume;      /* NULL: no; "": the newest run */
    double max_bad_percent;  /* < 0: not given, train.max_bad counts */
    int threads, print_freq; /* print_freq 0: by time */
    const char *profile;     /* file for the trace of a step, or NULL */
    bool synthetic, dry_run, quiet, json;
} train_arguments;

extern const cli_option train_option_table[];

#endif
