/* The picture of an ablation: for every model and batch a group of rows, a row a level, four columns of bars. */
#include "bench_ablation.h"

#include <string.h>

enum { WIDTH = 1080, LEFT = 92, ROW = 22, BAR = 15, HEAD = 64, TITLE = 30, GAP = 14, FOOT = 44 };

/* Columns: where they begin, how long the longest bar is; the text of a bar stands right of it. */
enum { TIME_AT = LEFT, TIME_LENGTH = 300, PROJECTED_AT = 530, PROJECTED_LENGTH = 130, TRAFFIC_AT = 770, TRAFFIC_LENGTH = 70, MEMORY_AT = 930, MEMORY_LENGTH = 70 };

static const struct { const char *name, *color; } parts[] = {{"forward", "#4477aa"}, {"backward", "#88b0d8"}, {"update", "#bbbbbb"}};
static const char projected_color[] = "#e8c37a", traffic_color[] = "#66a182", memory_color[] = "#aa7799";

/* Text with the characters that XML gives a meaning replaced. */
static void put_text(FILE *out, const char *text)
{
    for (; *text; text++) {
        const char *entity = *text == '&' ? "&amp;" : *text == '<' ? "&lt;" : *text == '>' ? "&gt;" : NULL;
        if (entity) fputs(entity, out);
        else putc(*text, out);
    }
}

static void label(FILE *out, double x, double y, const char *attributes, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\"%s%s>", x, y, *attributes ? " " : "", attributes);
    put_text(out, text);
    fprintf(out, "</text>\n");
}

/* A bar from x on; returns its end. */
static double bar(FILE *out, double x, double y, double length, const char *color)
{
    if (length > 0) fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%d\" fill=\"%s\"/>\n", x, y, length, BAR, color);
    return x + length;
}

struct most { double time, projected, traffic, memory; };

static struct most longest(const ablation *a, const ablation_group *g)
{
    struct most m = {1e-9, 1e-9, 1, 1};
    for (int i = 0; i < g->count; i++) {
        const bench_result *r = &g->results[i];
        const double memory = (double)r->peak_rss, projected = ablation_project(a, r);
        if (r->median.step > m.time) m.time = r->median.step;
        if (projected > m.projected) m.projected = projected;
        if (r->plan.traffic_bytes > m.traffic) m.traffic = r->plan.traffic_bytes;
        if (memory > m.memory) m.memory = memory;
    }
    return m;
}

static void draw_row(FILE *out, const ablation *a, const ablation_group *g, const bench_result *r, const struct most *m, double y)
{
    char text[96], bytes[32];
    const double base = y + BAR - 3, over = ablation_ratio(a, g, r, "layerwise", false), projected_over = ablation_ratio(a, g, r, "layerwise", true);
    const double seconds[] = {r->median.forward, r->median.backward, r->median.update};
    const double projected = ablation_project(a, r);
    if (!strcmp(r->algorithm, g->results[0].algorithm)) snprintf(text, sizeof text, "%s", r->level);
    else snprintf(text, sizeof text, "%s, %s", r->level, r->algorithm);
    label(out, LEFT - 8, base, "text-anchor=\"end\"", text);
    double x = TIME_AT;
    for (int i = 0; i < 3; i++) x = bar(out, x, y, TIME_LENGTH * seconds[i] / m->time, parts[i].color);
    snprintf(text, sizeof text, "%.3f s", r->median.step);
    if (over > 0) snprintf(text + strlen(text), sizeof text - strlen(text), ", × %.2f", over);
    label(out, x + 5, base, "", text);
    x = bar(out, PROJECTED_AT, y, PROJECTED_LENGTH * projected / m->projected, projected_color);
    snprintf(text, sizeof text, "%.3f s", projected);
    if (projected_over > 0) snprintf(text + strlen(text), sizeof text - strlen(text), ", × %.2f", projected_over);
    label(out, x + 5, base, "", text);
    label(out, bar(out, TRAFFIC_AT, y, TRAFFIC_LENGTH * r->plan.traffic_bytes / m->traffic, traffic_color) + 5, base, "", cli_bytes(bytes, r->plan.traffic_bytes));
    if (r->peak_rss)
        label(out, bar(out, MEMORY_AT, y, MEMORY_LENGTH * (double)r->peak_rss / m->memory, memory_color) + 5, base, "", cli_bytes(bytes, (double)r->peak_rss));
}

static void draw_heads(FILE *out, const ablation *a)
{
    char text[64];
    double x = TIME_AT;
    label(out, TIME_AT, 18, "font-weight=\"bold\"", "time of a step, and times as fast as layerwise");
    for (int i = 0; i < 3; i++) {
        bar(out, x, 28, 12, parts[i].color);
        label(out, x + 17, 40, "", parts[i].name);
        x += 90;
    }
    snprintf(text, sizeof text, "projected to %.3g GB/s per core", 1e-9 * a->projected / a->threads);
    label(out, PROJECTED_AT, 18, "font-weight=\"bold\"", text);
    label(out, PROJECTED_AT, 40, "fill=\"#a05a00\"", "a projection, not measured");
    label(out, TRAFFIC_AT, 18, "font-weight=\"bold\"", "modelled traffic");
    label(out, MEMORY_AT, 18, "font-weight=\"bold\"", "peak memory");
}

int ablation_draw(const ablation *a, const char *path)
{
    cli_output output;
    int height = HEAD + FOOT;
    for (int i = 0; i < a->count; i++) height += TITLE + a->groups[i].count * ROW + GAP;
    const int code = cli_output_open(&output, path);
    if (code) return code;
    FILE *out = output.file;
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" font-family=\"sans-serif\" font-size=\"12\" fill=\"#222\">\n", WIDTH, height);
    fprintf(out, "<rect width=\"%d\" height=\"%d\" fill=\"#ffffff\"/>\n", WIDTH, height);
    draw_heads(out, a);
    double y = HEAD;
    for (int i = 0; i < a->count; i++) {
        const ablation_group *g = &a->groups[i];
        const struct most m = longest(a, g);
        char title[160], size[24];
        snprintf(title, sizeof title, "%s, batch %d, %s pixels, %s convolutions", g->results[0].model, g->results[0].plan.batch,
                 bench_size_text(g->results[0].plan.height, g->results[0].plan.width, size), g->results[0].algorithm);
        label(out, LEFT - 8, y + 16, "font-weight=\"bold\"", title);
        y += TITLE;
        for (int k = 0; k < g->count; k++, y += ROW) draw_row(out, a, g, &g->results[k], &m, y);
        y += GAP;
    }
    char text[384];
    snprintf(text, sizeof text, "%s: FMA peak %.0f GFLOP/s, copying %.1f GB/s. Medians; levels alternate step by step in one run. Bars of a group share a scale.",
             a->machine, 1e-9 * a->peak, 1e-9 * a->copy);
    label(out, LEFT - 8, y + 6, "fill=\"#666\"", text);
    snprintf(text, sizeof text, "Projection: max(step - traffic/copying, 0) + traffic/(%.3g GB/s x %d cores), with the traffic of the plan's model.",
             1e-9 * a->projected / a->threads, a->threads);
    label(out, LEFT - 8, y + 24, "fill=\"#666\"", text);
    fprintf(out, "</svg>\n");
    return cli_output_close(&output, true);
}
