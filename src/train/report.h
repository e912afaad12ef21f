/* The report of a training: one HTML file without external resources, readable on a phone, printable, light or dark. */
#ifndef BF_REPORT_H
#define BF_REPORT_H

#include <bnff/data.h>

/* Accuracies are percent, losses nats; NAN means "not measured" and is left out of tables and curves. */
typedef struct bf_report_epoch {
    int epoch;                  /* from 1 */
    double train_loss, train_acc1;
    double val_loss, val_acc1, val_acc5;
    double lr;                  /* at the epoch's end */
    double seconds, images_per_s;
} bf_report_epoch;

typedef struct bf_report_mistake {
    bnff_image image;           /* borrowed; larger ones are shrunk to 256 pixels a side; pixels NULL: no picture */
    const char *name;           /* file or item name, may be NULL */
    int label, predicted;
    double probability;         /* of `predicted`, 0..1 */
} bf_report_mistake;

typedef struct bf_report_setting {
    const char *key, *value;
} bf_report_setting;

/* Everything is borrowed for the call. Strings may hold any bytes and be NULL where marked; zero means unknown for numbers. */
typedef struct bf_report {
    const char *title;          /* name of the run, "demo" */
    const char *model, *data;   /* "densenet-bc-22-12", "fashion-mnist" */
    const char *machine;        /* "2 threads, avx512", or NULL */
    int64_t parameters, train_images, val_images;
    double best_acc1;           /* percent */
    int best_epoch;             /* from 1; 0: none */
    double seconds;             /* of the whole training */
    double images_per_s;        /* of training */
    size_t peak_bytes;          /* peak resident set */

    const bf_report_epoch *epochs;
    int epoch_count;

    int classes;
    const char *const *class_names;    /* `classes` names, or NULL: numbers are shown */
    const int64_t *confusion;          /* classes x classes, [label][predicted]; NULL: none */
    const bf_report_mistake *mistakes; /* most confident first */
    int mistake_count;

    const bf_report_setting *settings; /* shown in this order */
    int setting_count;
    const char *const *next_steps;     /* command lines to type next */
    int next_step_count;
} bf_report;

/* Write the report to `path`, beside and renamed. @return BNFF_OK; BNFF_E_ARG; BNFF_E_IO; BNFF_E_MEMORY. */
bnff_status bf_report_write(const char *path, const bf_report *report, bnff_error *error);

#endif
