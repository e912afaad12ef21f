#include "progress.h"

#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

enum { SECONDS_BETWEEN_LINES = 30 };
static const double seconds_between_drawings = 0.1;

void progress_begin(progress *p, bool quiet, bool json, int print_freq)
{
    *p = (progress){.quiet = quiet, .redraw = !quiet && cli_redraw(stderr), .print_freq = print_freq, .printed_s = -1e9,
                    .result = !json ? stdout : quiet ? NULL : stderr};
}

void progress_clear(progress *p)
{
    if (!p->width) return;
    fputs("\r\033[K", stderr);
    fflush(stderr);
    p->width = 0;
}

static int columns(void)
{
    struct winsize size;
    return ioctl(fileno(stderr), TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
}

/* "epoch 2/10  step 118/430  loss 0.4312  acc1 84.21  lr 0.05  612 img/s  data 1%  rss 812 MiB  eta 3 min 12 s", cut to `room` by leaving out
 * what is missed least. */
static void step_line(const bnff_event *e, char *line, size_t size, int room)
{
    enum { PARTS = 8, LONGEST = 64 };
    static const int expendable[] = {6, 4, 5}; /* memory, learning rate, waiting */
    char parts[PARTS][LONGEST] = {{0}}, text[32];
    snprintf(parts[0], LONGEST, "epoch %d/%d  step %lld/%lld", e->epoch, e->epochs, (long long)e->step, (long long)e->steps);
    snprintf(parts[1], LONGEST, "  loss %.4f", e->loss);
    snprintf(parts[2], LONGEST, "  acc1 %.2f", e->acc1);
    snprintf(parts[3], LONGEST, "  %.*f img/s", e->images_per_s < 100 ? 1 : 0, e->images_per_s);
    snprintf(parts[4], LONGEST, "  lr %.4g", e->lr);
    snprintf(parts[5], LONGEST, "  data %.0f%%", 100 * e->wait_share);
    if (e->rss_bytes) snprintf(parts[6], LONGEST, "  rss %s", cli_bytes(text, (double)e->rss_bytes));
    if (e->eta_s > 0) snprintf(parts[7], LONGEST, "  eta %s", cli_duration(text, e->eta_s));
    size_t length = 0;
    for (int i = 0; i < PARTS; i++) length += strlen(parts[i]);
    for (int i = 0; i < 3 && length > (size_t)room; i++) {
        length -= strlen(parts[expendable[i]]);
        *parts[expendable[i]] = '\0';
    }
    *line = '\0';
    for (int i = 0; i < PARTS; i++) strncat(line, parts[i], size - strlen(line) - 1);
}

static void show(progress *p, const char *line)
{
    if (!p->redraw) {
        fprintf(stderr, "%s\n", line);
        return;
    }
    p->width = (int)strlen(line);
    const int room = columns() - 1; /* the last column would wrap */
    if (p->width > room) p->width = room;
    fprintf(stderr, "\r%.*s\033[K", p->width, line);
    fflush(stderr);
}

static void on_step(progress *p, const bnff_event *e)
{
    const double since = e->elapsed_s - p->printed_s;
    const bool due = p->redraw          ? since >= seconds_between_drawings
                     : p->print_freq > 0 ? e->step % p->print_freq == 0
                                         : since >= SECONDS_BETWEEN_LINES;
    if (p->quiet || !due) return;
    char line[512];
    step_line(e, line, sizeof line, p->redraw ? columns() - 1 : (int)sizeof line - 1);
    show(p, line);
    p->printed_s = e->elapsed_s;
}

static void on_epoch(progress *p, const bnff_event *e)
{
    char elapsed[32], eta[32];
    progress_clear(p);
    if (p->quiet) return;
    fprintf(stderr, "epoch %d/%d  train loss %.4f acc1 %.2f  val loss %.4f acc1 %.2f acc5 %.2f  %.*f img/s  %s", e->epoch, e->epochs, e->loss, e->acc1,
            e->val_loss, e->val_acc1, e->val_acc5, e->images_per_s < 100 ? 1 : 0, e->images_per_s, cli_duration(elapsed, e->elapsed_s));
    if (e->eta_s >= 1) fprintf(stderr, ", %s to go", cli_duration(eta, e->eta_s));
    fputc('\n', stderr);
    p->printed_s = e->elapsed_s;
}

void progress_event(void *user, const bnff_event *e)
{
    progress *p = user;
    if (e->rss_bytes > p->rss_peak) p->rss_peak = e->rss_bytes;
    p->best_acc1 = e->best_acc1, p->best_epoch = e->best_epoch;
    switch (e->kind) {
    case BNFF_EVENT_START: /* a resumed run may have nothing left to do, and then this is all that is known of it */
        p->last = *e;
        p->epochs_done = e->steps ? (int)(e->total_step / e->steps) : 0;
        p->acc1 = e->val_acc1, p->acc5 = e->val_acc5, p->val_loss = e->val_loss;
        if (!p->quiet && e->text) fprintf(stderr, "%s\n", e->text);
        break;
    case BNFF_EVENT_STEP:
        p->last = *e;
        on_step(p, e);
        break;
    case BNFF_EVENT_VALIDATE:
        p->acc1 = e->val_acc1, p->acc5 = e->val_acc5, p->val_loss = e->val_loss;
        break;
    case BNFF_EVENT_EPOCH:
        p->last = *e;
        p->epochs_done = e->epoch;
        p->acc1 = e->val_acc1, p->acc5 = e->val_acc5, p->val_loss = e->val_loss;
        on_epoch(p, e);
        break;
    case BNFF_EVENT_CHECKPOINT:
        if (p->quiet || p->redraw || !e->text) break; /* on a terminal it would push the line away every few minutes */
        fprintf(stderr, "%s\n", e->text);
        break;
    case BNFF_EVENT_WARNING:
        progress_clear(p);
        cli_warn("%s", e->text ? e->text : "");
        break;
    case BNFF_EVENT_END:
        progress_clear(p);
        if (e->text && p->result) fprintf(p->result, "%s\n", e->text);
        break;
    }
    p->last.text = NULL;
    p->last.profile = NULL;
}
