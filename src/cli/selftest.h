/* The checks of `bnff selftest`. */
#ifndef CLI_SELFTEST_H
#define CLI_SELFTEST_H

#include "cli.h"

/* What a check found: a line for people, "" if all is well, and the library's failure if there was one. */
typedef struct selftest_finding {
    bool failed;
    char text[512];
} selftest_finding;

void selftest_fail(selftest_finding *finding, const char *format, ...) BNFF_PRINTF(2, 3);
void selftest_error(selftest_finding *finding, const char *what, const bnff_error *error);

/* A small network with every kind of operator, its state, gradients and a batch. */
typedef struct selftest_network {
    bnff_graph *graph;
    bnff_state *state;
    float **gradients, *gradient_memory;
    size_t gradient_count;
    int param_count;
    float *images, *soft;   /* soft: target probabilities */
    float *logits, *logit_gradients;
} selftest_network;

enum { SELFTEST_BATCH = 6, SELFTEST_SIZE = 13, SELFTEST_CLASSES = 5 };

/* smooth: without kinks (ReLU, max pooling) and dropout, so that finite differences hold. NULL error text on success. */
bnff_status selftest_network_open(bool smooth, selftest_network *network, bnff_error *error);
void selftest_network_close(selftest_network *network);
/* A way to run a step; NULL and 0 are the defaults. */
typedef struct selftest_way {
    const char *level, *algorithm;
    int cells;
} selftest_way;
/* Forward, loss, backward of the network in a context. */
bnff_status selftest_step(bnff_context *context, selftest_network *network, selftest_way way, double *loss, bnff_error *error);

/* Each fills the finding; `note` gets a few words on what was compared. */
void selftest_gradients(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_levels(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_algorithms(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_isas(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_cells(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_training(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_resume(bnff_context *context, selftest_finding *finding, char note[128]);
void selftest_weights(bnff_context *context, selftest_finding *finding, char note[128]);

#endif
