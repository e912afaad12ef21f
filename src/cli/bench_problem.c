#define _GNU_SOURCE
#include "bench_problem.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "network.h"

/* Keys, longest first where one begins another. */
static const struct { const char *key; size_t offset; } fields[] = {
    {"mb", offsetof(bench_problem, mb)}, {"ic", offsetof(bench_problem, ic)}, {"oc", offsetof(bench_problem, oc)},
    {"ih", offsetof(bench_problem, ih)}, {"iw", offsetof(bench_problem, iw)}, {"kh", offsetof(bench_problem, kh)},
    {"kw", offsetof(bench_problem, kw)}, {"sh", offsetof(bench_problem, sh)}, {"sw", offsetof(bench_problem, sw)},
    {"ph", offsetof(bench_problem, ph)}, {"pw", offsetof(bench_problem, pw)}, {"dh", offsetof(bench_problem, dh)},
    {"dw", offsetof(bench_problem, dw)}, {"g", offsetof(bench_problem, g)},
};

int bench_problem_out(int in, int kernel, int stride, int padding, int dilation)
{
    const int span = in + 2 * padding - dilation * (kernel - 1) - 1;
    return span < 0 ? 0 : span / stride + 1;
}

static bool check(const bench_problem *p, char *why, size_t size)
{
    const struct { const char *key; int value; } needed[] = {{"ic", p->ic}, {"oc", p->oc}, {"ih", p->ih}, {"kh", p->kh}};
    for (int i = 0; i < 4; i++)
        if (needed[i].value < 1) return snprintf(why, size, "%s is missing, or not positive", needed[i].key), false;
    if (p->mb < 1 || p->iw < 1 || p->kw < 1 || p->sh < 1 || p->sw < 1 || p->g < 1)
        return snprintf(why, size, "mb, iw, kw, sh, sw and g must be positive"), false;
    if (p->ic % p->g || p->oc % p->g) return snprintf(why, size, "g%d does not divide ic%d and oc%d", p->g, p->ic, p->oc), false;
    if (bench_problem_out(p->ih, p->kh, p->sh, p->ph, p->dh) < 1 || bench_problem_out(p->iw, p->kw, p->sw, p->pw, p->dw) < 1)
        return snprintf(why, size, "the image is smaller than the kernel"), false;
    return true;
}

bool bench_problem_parse(const char *text, bench_problem *p, char *why, size_t size)
{
    enum { UNSET = -1, MOST = 1 << 20 };
    *p = (bench_problem){.mb = 32, .sh = 1, .g = 1, .iw = UNSET, .kw = UNSET, .sw = UNSET, .pw = UNSET, .dw = UNSET};
    for (const char *at = text; *at;) {
        if (*at == '_' || *at == ' ' || *at == '\t') { at++; continue; }
        if (*at == 'n' && at[1] == '"') {
            const size_t length = strcspn(at + 2, "\"");
            if (at[2 + length] != '"') return snprintf(why, size, "the name's closing quote is missing"), false;
            snprintf(p->name, sizeof p->name, "%.*s", (int)length, at + 2);
            at += length + 3;
            continue;
        }
        size_t f = 0;
        const size_t count = sizeof fields / sizeof *fields;
        while (f < count && strncmp(at, fields[f].key, strlen(fields[f].key))) f++;
        if (f == count) return snprintf(why, size, "'%.12s' is no field of a convolution", at), false;
        char *end;
        at += strlen(fields[f].key);
        const long value = strtol(at, &end, 10);
        if (end == at || value < 0 || value > MOST) return snprintf(why, size, "%s needs a number from 0 to %d", fields[f].key, MOST), false;
        *(int *)((char *)p + fields[f].offset) = (int)value;
        at = end;
    }
    if (p->iw == UNSET) p->iw = p->ih;
    if (p->kw == UNSET) p->kw = p->kh;
    if (p->sw == UNSET) p->sw = p->sh;
    if (p->pw == UNSET) p->pw = p->ph;
    if (p->dw == UNSET) p->dw = p->dh;
    p->dh++, p->dw++;
    return check(p, why, size);
}

void bench_problem_print(const bench_problem *p, FILE *out)
{
    fprintf(out, "mb%d_ic%d_oc%d_ih%diw%d_kh%dkw%d_sh%dsw%d_ph%dpw%d", p->mb, p->ic, p->oc, p->ih, p->iw, p->kh, p->kw, p->sh, p->sw, p->ph, p->pw);
    if (p->dh > 1 || p->dw > 1) fprintf(out, "_dh%ddw%d", p->dh - 1, p->dw - 1);
    fprintf(out, "_g%d_n\"%s\"", p->g, p->name);
}

bool bench_problem_same(const bench_problem *a, const bench_problem *b)
{
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (*(const int *)((const char *)a + fields[i].offset) != *(const int *)((const char *)b + fields[i].offset)) return false;
    return true;
}

void bench_problems_add(bench_problems *list, const bench_problem *problem)
{
    if (list->count == list->capacity) {
        list->capacity = list->capacity ? 2 * list->capacity : 64;
        bench_problem *items = cli_alloc((size_t)list->capacity, sizeof *items);
        if (list->count) memcpy(items, list->items, (size_t)list->count * sizeof *items);
        free(list->items);
        list->items = items;
    }
    list->items[list->count++] = *problem;
}

/* -- Of a model ---------------------------------------------------------------------------------------------------- */

struct collector { bench_problems *list; const char *model; };

static void collect(void *user, const bnff_layer_info *layer)
{
    const struct collector *c = user;
    const bnff_conv_options *o = &layer->conv;
    if (!o->out_channels) return;
    bench_problem p = {.mb = layer->input[0], .ic = layer->input[3], .oc = o->out_channels, .ih = layer->input[1], .iw = layer->input[2],
                       .kh = o->kernel[0], .kw = o->kernel[1], .sh = o->stride[0], .sw = o->stride[1], .ph = o->padding[0], .pw = o->padding[1],
                       .dh = o->dilation[0], .dw = o->dilation[1], .g = o->groups};
    snprintf(p.name, sizeof p.name, "%s:%s", c->model, layer->name ? layer->name : "");
    bench_problems_add(c->list, &p);
}

bnff_status bench_problems_of_model(bench_problems *list, const char *model, int batch, int size, bnff_error *error)
{
    cli_network network;
    bnff_status status = cli_network_open(model, 0, 0, size, &network, error);
    if (status) return status;
    struct collector collector = {list, model};
    if (network.graph) status = bnff_graph_layers(network.graph, batch, network.size, network.size, collect, &collector, error);
    cli_network_close(&network);
    return status;
}

/* -- Of text ------------------------------------------------------------------------------------------------------- */

int bench_problems_of_text(bench_problems *list, const char *text)
{
    bench_problem problem;
    char why[160];
    if (bench_problem_parse(text, &problem, why, sizeof why)) return bench_problems_add(list, &problem), EXIT_DONE;
    FILE *file = fopen(text, "re");
    if (!file) {
        cli_fail_text("a line such as mb32_ic64_oc64_ih56_kh3_ph1_n\"name\", or a file of such lines", "--problem %s: %s, and it is no file (%s)",
                      text, why, strerror(errno));
        return EXIT_USAGE;
    }
    char line[4096];
    int number = 0, code = EXIT_DONE;
    while (code == EXIT_DONE && fgets(line, sizeof line, file)) {
        number++;
        const size_t length = strlen(line);
        if (!length || length + 1 == sizeof line) { /* a NUL byte, or more than any problem has */
            code = cli_fail_text(NULL, "%s:%d: no line of text", text, number);
            break;
        }
        line[strcspn(line, "#\r\n")] = '\0';
        if (!line[strspn(line, " \t")]) continue;
        if (bench_problem_parse(line, &problem, why, sizeof why)) bench_problems_add(list, &problem);
        else code = cli_fail_text(NULL, "%s:%d: %s", text, number, why);
    }
    if (code == EXIT_DONE && ferror(file)) code = cli_fail_text(NULL, "%s: cannot read: %s", text, strerror(errno));
    fclose(file);
    if (code == EXIT_DONE && !list->count) code = cli_fail_text(NULL, "%s: no problem in it", text);
    return code;
}
