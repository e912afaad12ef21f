/* Two plans of one network as a picture: the tasks of each down a column, each with its sweeps over main memory. Both columns are cut
 * into bands that begin at the same convolution, so that what was a sweep on the left is beside the task that does it on the right.
 * Bands that repeat are drawn once and counted. */
#include <string.h>

#include "base/memory.h"
#include "runtime/tasks.h"
#include "runtime/words.h"

enum { COLUMN = 640, MARGIN = 20, BOX = 350, MEMORY = 64, MEMORY_WIDTH = 10, BAR = 90, HEAD = 150, LINE = 15, GAP = 5, MOST_PERIOD = 4 };

/* One row: a task, or several alike in a row (the copies of a concatenation). */
typedef struct row {
    const bf_task *task;
    int count, reads, writes;
    double bytes;
    int lines;       /* below its name */
} row;

typedef struct band {
    int first[2], count[2]; /* rows of either column */
    bool backward;
} band;

typedef struct drawing {
    const bnff_plan *plans[2];
    row *rows[2];
    band *bands;
    int row_count[2], band_count;
    double widest;   /* most bytes of a row */
    bf_text *svg;
} drawing;

/* -- rows -- */

static void see_operand(const bnff_plan *plan, int value, int *seen, int *count)
{
    if (value < 0 || plan->graph.values[value].kind != BF_TENSOR) return;
    value = bf_value_alias(&plan->graph, value);
    for (int i = 0; i < *count; i++)
        if (seen[i] == value) return;
    if (*count < 16) seen[(*count)++] = value;
}

static void see_program(const bnff_plan *plan, const bf_program *program, int *reads, int *read_count, int *writes, int *write_count)
{
    for (int i = 0; i < program->count; i++) {
        const bf_step *s = &program->steps[i];
        bool adds = false;
        for (int b = 0; s->add_block && s->kind != BF_STEP_ZERO && b < plan->layouts[program->over].count; b++) adds |= s->add_block[b];
        if (s->a.kind == BF_VALUE) see_operand(plan, s->a.index, reads, read_count);
        if (s->b.kind == BF_VALUE) see_operand(plan, s->b.index, reads, read_count);
        if (s->dst.kind == BF_VALUE && adds) see_operand(plan, s->dst.index, reads, read_count);
        if (s->dst.kind == BF_VALUE) see_operand(plan, s->dst.index, writes, write_count);
    }
}

/* Tensors that the task reads from and writes to storage. */
static void count_sweeps(const bnff_plan *plan, row *r)
{
    int reads[16], writes[16];
    const bf_task *t = r->task;
    for (int k = 0; k < 2; k++) see_program(plan, &t->load[k], reads, &r->reads, writes, &r->writes);
    see_program(plan, &t->epilogue, reads, &r->reads, writes, &r->writes);
    if (t->kind == BF_TASK_SWEEP) return;
    if (!t->load[0].count) see_operand(plan, t->x, reads, &r->reads);
    if (!t->load[1].count) see_operand(plan, t->dy, reads, &r->reads);
    if (!t->epilogue.count) see_operand(plan, t->out, writes, &r->writes);
}

static bool same_words(const drawing *d, const bf_task *a, const bf_task *b)
{
    bf_text x = {0}, y = {0};
    bf_task_loads(a, &x), bf_text_add(&x, "|"), bf_task_stores(a, &x);
    bf_task_loads(b, &y), bf_text_add(&y, "|"), bf_task_stores(b, &y);
    d->svg->failed |= x.failed || y.failed;
    const bool same = !d->svg->failed && !strcmp(x.data, y.data);
    bf_text_free(&x);
    bf_text_free(&y);
    return same;
}

static bf_op op_of(const drawing *d, int side, const row *r) { return d->plans[side]->graph.nodes[r->task->node].op; }

static bool alike(const drawing *d, int side, const row *a, const row *b)
{
    return a->task->kind == b->task->kind && op_of(d, side, a) == op_of(d, side, b) && a->reads == b->reads && a->writes == b->writes && same_words(d, a->task, b->task);
}

static bool is_conv(const bf_task *t)
{
    return t->kind == BF_TASK_CONV || t->kind == BF_TASK_CONV_BWD || t->kind == BF_TASK_DEPTHWISE || t->kind == BF_TASK_DEPTHWISE_BWD;
}

/* Lines that say what is computed as it loads and as it stores: none for a sweep that does what its name says. */
static int lines_of(const drawing *d, const bf_task *task)
{
    bf_text loads = {0}, stores = {0};
    bf_task_loads(task, &loads);
    bf_task_stores(task, &stores);
    d->svg->failed |= loads.failed || stores.failed;
    const bool single = task->kind == BF_TASK_SWEEP && !(stores.data && strstr(stores.data, " + "));
    const int lines = single ? 0 : (loads.length > 0) + (stores.length > 0);
    bf_text_free(&loads);
    bf_text_free(&stores);
    return lines;
}

/* Rows of one column; tasks that touch no tensor are left out. */
static bool make_rows(drawing *d, int side)
{
    const bnff_plan *plan = d->plans[side];
    d->rows[side] = bf_calloc((size_t)plan->task_count + 1, sizeof(row));
    if (!d->rows[side]) return false;
    for (int t = 0; t < plan->task_count; t++) {
        const bf_task *task = &plan->tasks[t];
        row r = {.task = task, .count = 1, .bytes = task->bytes};
        r.lines = lines_of(d, task);
        count_sweeps(plan, &r);
        if (!r.reads && !r.writes) continue;
        row *last = d->row_count[side] ? &d->rows[side][d->row_count[side] - 1] : NULL;
        if (last && t != plan->forward_tasks && !is_conv(task) && alike(d, side, last, &r)) {
            last->count++;
            last->bytes += r.bytes;
        } else d->rows[side][d->row_count[side]++] = r;
    }
    for (int i = 0; i < d->row_count[side]; i++)
        if (d->rows[side][i].bytes > d->widest) d->widest = d->rows[side][i].bytes;
    return true;
}

/* -- bands -- */

/* Does row i begin a band: the first, a convolution, the first of the backward? */
static bool begins(const drawing *d, int side, int i)
{
    const row *r = &d->rows[side][i];
    return i == 0 || is_conv(r->task) || r->task->backward != d->rows[side][i - 1].task->backward;
}

static bool make_bands(drawing *d)
{
    d->bands = bf_calloc((size_t)(d->row_count[0] + d->row_count[1]) + 1, sizeof *d->bands);
    if (!d->bands) return false;
    int at[2] = {0, 0};
    while (at[0] < d->row_count[0] || at[1] < d->row_count[1]) {
        band *b = &d->bands[d->band_count++];
        for (int side = 0; side < 2; side++) {
            b->first[side] = at[side];
            if (at[side] < d->row_count[side]) b->backward |= d->rows[side][at[side]].task->backward;
            for (bool first = true; at[side] < d->row_count[side] && (first || !begins(d, side, at[side])); first = false) at[side]++;
            b->count[side] = at[side] - b->first[side];
        }
    }
    return true;
}

static bool bands_alike(const drawing *d, const band *a, const band *b)
{
    if (a->backward != b->backward) return false;
    for (int side = 0; side < 2; side++) {
        if (a->count[side] != b->count[side]) return false;
        for (int i = 0; i < a->count[side]; i++)
            if (!alike(d, side, &d->rows[side][a->first[side] + i], &d->rows[side][b->first[side] + i])) return false;
    }
    return true;
}

/* How often the `period` bands from `first` on repeat right after themselves. */
static int repeats(const drawing *d, int first, int period)
{
    int same = 0;
    while (first + period + same < d->band_count && bands_alike(d, &d->bands[first + same], &d->bands[first + period + same])) same++;
    return same / period;
}

static double band_bytes(const drawing *d, int first, int count, int side)
{
    double bytes = 0;
    for (int b = first; b < first + count; b++)
        for (int i = 0; i < d->bands[b].count[side]; i++) bytes += d->rows[side][d->bands[b].first[side] + i].bytes;
    return bytes;
}

/* -- drawing -- */

static const char *color_class(const drawing *d, int side, const row *r)
{
    if (is_conv(r->task)) return "conv";
    switch (op_of(d, side, r)) {
    case BF_OP_BN_STATS: case BF_OP_BN_APPLY: case BF_OP_BN_REDUCE: case BF_OP_BN_DX: case BF_OP_BN_SCALE: case BF_OP_BN_DEFERRED: return "bn";
    case BF_OP_ACT: case BF_OP_ACT_BWD: return "act";
    default: return "other";
    }
}

static void print_bytes(const drawing *d, double bytes)
{
    if (bytes < 5e4) bf_text_add(d->svg, "in cache");
    else if (bytes >= 1e9) bf_text_add(d->svg, "%.2f GB", bytes / 1e9);
    else bf_text_add(d->svg, "%.1f MB", bytes / 1e6);
}

static int row_height(const row *r)
{
    const int arrows = 4 * (r->reads + r->writes) + 4, lines = LINE * (1 + r->lines) + 3;
    return arrows > lines ? arrows : lines;
}

/* Arrows between box and memory: one a tensor, those that read above those that write; fainter where the tensor is cached. */
static void draw_arrows(const drawing *d, const row *r, int x, int y)
{
    const int step = 4, from = x + BOX, to = x + BOX + MEMORY;
    const bool cached = r->bytes < 5e4;
    for (int i = 0; i < r->reads + r->writes; i++) {
        const bool reads = i < r->reads;
        const int at = y + 4 + step * i;
        bf_text_add(d->svg, "<path class=\"%s%s\" d=\"M%d %dH%d\"/>", reads ? "read" : "write", cached ? " cached" : "", reads ? to : from, at, reads ? from + 6 : to - 6);
    }
}

static void draw_bar(const drawing *d, double bytes, int x, int y)
{
    const int at = x + BOX + MEMORY + MEMORY_WIDTH + 8, width = d->widest > 0 && bytes < d->widest ? (int)(BAR * bytes / d->widest) : BAR;
    bf_text_add(d->svg, "<rect class=\"bar\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"9\"/><text class=\"small\" x=\"%d\" y=\"%d\">", at, y + 4, width, at + width + 4, y + 13);
    print_bytes(d, bytes);
    bf_text_add(d->svg, "</text>");
}

/* What a task computes on one of its ways, on the next line, if anything. */
static void draw_words(const drawing *d, const char *way, void (*words)(const bf_task *, bf_text *), const bf_task *task, int x, int *y)
{
    bf_text text = {0};
    words(task, &text);
    d->svg->failed |= text.failed;
    if (text.length) {
        bf_text_add(d->svg, "<text class=\"fused\" x=\"%d\" y=\"%d\">%s", x, *y += LINE, way);
        bf_text_xml(d->svg, text.data);
        bf_text_add(d->svg, "</text>");
    }
    bf_text_free(&text);
}

static void draw_row(const drawing *d, int side, const row *r, int y)
{
    const int x = MARGIN + side * COLUMN, height = row_height(r);
    bf_text_add(d->svg, "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"3\"/>", color_class(d, side, r), x, y, BOX, height - 1);
    bf_text_add(d->svg, "<text x=\"%d\" y=\"%d\">", x + 6, y + 12);
    bf_text_xml(d->svg, r->task->name);
    if (r->count > 1) bf_text_add(d->svg, " and %d more", r->count - 1);
    bf_text_add(d->svg, "</text>");
    int line = y + 12;
    if (r->lines) draw_words(d, "loading: ", bf_task_loads, r->task, x + 14, &line);
    if (r->lines) draw_words(d, "storing: ", bf_task_stores, r->task, x + 14, &line);
    draw_arrows(d, r, x, y);
    draw_bar(d, r->bytes, x, y);
    bf_text_add(d->svg, "\n");
}

static int draw_band(const drawing *d, const band *b, int y)
{
    int bottom = y;
    for (int side = 0; side < 2; side++) {
        int at = y;
        for (int i = 0; i < b->count[side]; i++) {
            const row *r = &d->rows[side][b->first[side] + i];
            draw_row(d, side, r, at);
            at += row_height(r);
        }
        if (at > bottom) bottom = at;
    }
    return bottom + GAP;
}

static int draw_repeats(const drawing *d, int first, int period, int times, int y)
{
    const int count = period * times;
    bf_text_add(d->svg, "<rect class=\"more\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"18\"/>", MARGIN, y, 2 * COLUMN - 2 * MARGIN);
    bf_text_add(d->svg, "<text x=\"%d\" y=\"%d\">", MARGIN + 6, y + 13);
    if (period > 1) bf_text_add(d->svg, "these %d convolutions ", period);
    if (times == 1) bf_text_add(d->svg, "once more");
    else bf_text_add(d->svg, "%d more times", times);
    bf_text_add(d->svg, "</text><text x=\"%d\" y=\"%d\">to ", MARGIN + COLUMN + 6, y + 13);
    const band *last = &d->bands[first + count - 1];
    bf_text_xml(d->svg, d->rows[1][last->first[1]].task->name);
    bf_text_add(d->svg, "</text>");
    for (int side = 0; side < 2; side++) {
        bf_text_add(d->svg, "<text class=\"small\" x=\"%d\" y=\"%d\">", MARGIN + side * COLUMN + BOX + MEMORY + MEMORY_WIDTH + 8, y + 13);
        print_bytes(d, band_bytes(d, first, count, side));
        bf_text_add(d->svg, "</text>");
    }
    bf_text_add(d->svg, "\n");
    return y + 18 + 2 * GAP;
}

static int draw_bands(drawing *d, int y)
{
    for (int b = 0; b < d->band_count;) {
        if (b == 0 || (d->bands[b].backward && !d->bands[b - 1].backward)) {
            bf_text_add(d->svg, "<text class=\"part\" x=\"%d\" y=\"%d\">%s</text>\n", MARGIN, y + 14, d->bands[b].backward ? "Backward" : "Forward");
            y += 22;
        }
        int period = 1, times = 0;
        for (int p = 1; p <= MOST_PERIOD; p++) {
            const int n = repeats(d, b, p);
            if (n * p > times * period) period = p, times = n;
        }
        for (int i = 0; i < (times ? period : 1); i++) y = draw_band(d, &d->bands[b + i], y);
        b += times ? period : 1;
        if (!times) continue;
        y = draw_repeats(d, b, period, times, y);
        b += period * times;
    }
    return y;
}

static const char style[] =
    "<style>text{font:11px sans-serif;fill:#222}.small{font-size:10px;fill:#444}.fused{font-size:10px;fill:#a04a00}.part{font-size:14px;font-weight:bold}"
    ".title{font-size:16px;font-weight:bold}rect{stroke-width:1}.conv{fill:#dbe8f7;stroke:#4a79ad}.bn{fill:#fde3cb;stroke:#d07a24}.act{fill:#e2f2da;stroke:#5b9a48}"
    ".other{fill:#efefef;stroke:#8c8c8c}.more{fill:#fafafa;stroke:#bbb;stroke-dasharray:3 3}.memory{fill:#d4d4d8}.bar{fill:#b8404a}"
    ".read{stroke:#2b62a8;stroke-width:1.6;marker-end:url(#r)}.write{stroke:#b8404a;stroke-width:1.6;marker-end:url(#w)}.cached{opacity:.25}</style>\n"
    "<defs><marker id=\"r\" markerWidth=\"5\" markerHeight=\"4\" refX=\"0\" refY=\"2\" orient=\"auto\"><path d=\"M0 0L5 2L0 4Z\" fill=\"#2b62a8\"/></marker>"
    "<marker id=\"w\" markerWidth=\"5\" markerHeight=\"4\" refX=\"0\" refY=\"2\" orient=\"auto\"><path d=\"M0 0L5 2L0 4Z\" fill=\"#b8404a\"/></marker></defs>\n";

static void draw_head(const drawing *d)
{
    const bnff_plan *p = d->plans[1];
    bf_text_add(d->svg, "<text class=\"title\" x=\"%d\" y=\"26\">%s, %d images of %d x %d: sub-layers as they are, and restructured</text>\n", MARGIN,
                p->settings.train ? "A training step" : "An evaluation", p->batch, p->height, p->width);
    static const char *const legend[] = {
        "Box: a task, which is one pass over the tensors it touches; blue convolution, orange a piece of batch normalization, green activation, grey the rest.",
        "Below its name: what it computes besides, as it loads what it reads and as it stores its result: the sub-layers that were fused into it.",
        "Arrows from and to the grey bar: tensors swept from memory (blue) and to memory (red). Red bar: modelled bytes through main memory, weights included.",
    };
    for (int i = 0; i < 3; i++) bf_text_add(d->svg, "<text x=\"%d\" y=\"%d\">%s</text>\n", MARGIN, 48 + LINE * i, legend[i]);
    for (int side = 0; side < 2; side++) {
        bf_text_add(d->svg, "<text class=\"part\" x=\"%d\" y=\"%d\">%s: ", MARGIN + side * COLUMN, HEAD - 34, bnff_level_name((int)d->plans[side]->settings.level));
        print_bytes(d, d->plans[side]->traffic_bytes);
        bf_text_add(d->svg, " a step</text>\n<text class=\"small\" x=\"%d\" y=\"%d\">main memory</text>\n", MARGIN + side * COLUMN + BOX + MEMORY - 24, HEAD - 14);
    }
}

bnff_status bnff_plan_draw(const bnff_plan *before, const bnff_plan *after, char **svg, bnff_error *error)
{
    bf_text body = {0}, all = {0};
    drawing d = {.plans = {before, after}, .svg = &body};
    bool ok = make_rows(&d, 0) && make_rows(&d, 1) && make_bands(&d);
    if (ok) {
        draw_head(&d);
        const int bottom = draw_bands(&d, HEAD), width = 2 * COLUMN, height = bottom + MARGIN;
        bf_text_add(&all, "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" viewBox=\"0 0 %d %d\">\n%s", width, height, width, height, style);
        bf_text_add(&all, "<rect width=\"%d\" height=\"%d\" fill=\"#fff\"/>\n", width, height);
        for (int side = 0; side < 2; side++)
            bf_text_add(&all, "<rect class=\"memory\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\"/>\n", MARGIN + side * COLUMN + BOX + MEMORY, HEAD - 8, MEMORY_WIDTH, bottom - HEAD + 8);
        if (!body.failed) bf_text_append(&all, body.data, body.length);
        bf_text_add(&all, "</svg>\n");
        all.failed |= body.failed;
    }
    bf_text_free(&body);
    bf_free(d.rows[0]);
    bf_free(d.rows[1]);
    bf_free(d.bands);
    *svg = ok ? bf_text_take(&all) : NULL;
    bf_text_free(&all);
    return *svg ? BNFF_OK : bf_fail(error, BNFF_E_MEMORY, "no memory to draw the plan");
}
