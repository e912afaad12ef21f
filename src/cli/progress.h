/* The progress of a training on stderr. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include "cli.h"

typedef struct progress {
    bool quiet;
    bool redraw;      /* one line, drawn again and again */
    int print_freq;   /* steps between lines where it is not redrawn; 0: by time */
    double printed_s; /* elapsed time of the last line */
    int width;        /* characters of the line on screen */
    bnff_event last;  /* the last event with numbers: START, STEP or EPOCH */
    double best_acc1;
    int best_epoch;   /* 0: none yet */
    double acc1, acc5, val_loss; /* of the last validation */
    int epochs_done;
    size_t rss_peak;
    FILE *result;     /* where the final text goes, or NULL */
} progress;

void progress_begin(progress *p, bool quiet, bool json, int print_freq);
void progress_event(void *p, const bnff_event *event);
/* Wipe the line, before something else is printed. */
void progress_clear(progress *p);

#endif
