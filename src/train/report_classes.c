/* What the confusion matrix tells: n[t][p] images of true class t were taken for class p.
 *     precision[p] = n[p][p] / sum_t n[t][p]     recall[t] = n[t][t] / sum_p n[t][p]     F1 = 2 P R / (P + R) */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "train/report_parts.h"

enum { MATRIX = 30 /* classes that still fit a matrix */, PAIRS = 20 };

typedef struct score {
    int label;
    int64_t support, predicted, hits;
    double precision, recall, f1; /* 0 where undefined, as in scikit-learn */
} score;

static int64_t cell(const bf_report *report, int label, int predicted)
{
    return report->confusion[(size_t)label * (size_t)report->classes + (size_t)predicted];
}

static double ratio(int64_t part, int64_t whole) { return whole > 0 ? (double)part / (double)whole : 0; }

static void add_cell(bf_text *html, const bf_report *report, int label, int predicted, int64_t support)
{
    const int64_t count = cell(report, label, predicted);
    const double share = ratio(count, support);
    if (!count) {
        bf_text_add(html, "<td></td>");
        return;
    }
    /* Mistakes are few: the square root makes 1 % visible beside a diagonal of 90 %. */
    const bool hit = label == predicted;
    const double alpha = hit ? share : sqrt(share);
    bf_text_add(html, "<td class='%s%s' style='--w:%.2f' title='", hit ? "yes" : "no", alpha > 0.8 ? " strong" : "", alpha);
    bf_html_class(html, report, label);
    bf_text_add(html, hit ? " recognised: " : " taken for ");
    if (!hit) bf_html_class(html, report, predicted), bf_text_add(html, ": ");
    bf_text_add(html, "%lld of %lld (%.1f%%)'>", (long long)count, (long long)support, 100 * share);
    if (share < 0.01) bf_text_add(html, "&lt;1</td>");
    else bf_text_add(html, "%.0f</td>", 100 * share);
}

static void add_matrix(bf_text *html, const bf_report *report, const score *scores)
{
    bf_text_add(html, "<p class=dim>Rows are the true classes, columns what the network said, in percent of the row.</p>\n"
                      "<div class=scroll><table class=matrix><tr><th></th>");
    for (int p = 0; p < report->classes; p++) {
        bf_text_add(html, "<th class=top><span>");
        bf_html_class(html, report, p);
        bf_text_add(html, "</span></th>");
    }
    bf_text_add(html, "</tr>\n");
    for (int t = 0; t < report->classes; t++) {
        bf_text_add(html, "<tr><th scope=row>");
        bf_html_class(html, report, t);
        bf_text_add(html, "</th>");
        for (int p = 0; p < report->classes; p++) add_cell(html, report, t, p, scores[t].support);
        bf_text_add(html, "</tr>\n");
    }
    bf_text_add(html, "</table></div>\n");
}

typedef struct pair {
    int label, predicted;
    int64_t count;
} pair;

/* The most frequent confusions, most frequent first; equal ones in class order. Returns how many there are, up to PAIRS. */
static int find_pairs(const bf_report *report, pair pairs[PAIRS])
{
    int count = 0;
    for (int t = 0; t < report->classes; t++)
        for (int p = 0; p < report->classes; p++) {
            const pair next = {t, p, cell(report, t, p)};
            if (t == p || next.count <= 0 || (count == PAIRS && next.count <= pairs[PAIRS - 1].count)) continue;
            int at = count < PAIRS ? count++ : PAIRS - 1;
            for (; at > 0 && pairs[at - 1].count < next.count; at--) pairs[at] = pairs[at - 1];
            pairs[at] = next;
        }
    return count;
}

static void add_pairs(bf_text *html, const bf_report *report, const score *scores)
{
    pair pairs[PAIRS];
    const int count = find_pairs(report, pairs);
    if (!count) {
        bf_text_add(html, "<p>No image was taken for another class.</p>\n");
        return;
    }
    bf_text_add(html, "<p class=dim>The most frequent confusions.</p>\n<div class=scroll><table><tr><th>true class</th><th>taken for</th>"
                      "<th class=num>images</th><th class=num>of the class</th></tr>\n");
    for (int i = 0; i < count; i++) {
        bf_text_add(html, "<tr><td class=name>");
        bf_html_class(html, report, pairs[i].label);
        bf_text_add(html, "</td><td class=name>");
        bf_html_class(html, report, pairs[i].predicted);
        bf_text_add(html, "</td><td class=num>%lld</td><td class=num>%.1f%%</td></tr>\n", (long long)pairs[i].count,
                    100 * ratio(pairs[i].count, scores[pairs[i].label].support));
    }
    bf_text_add(html, "</table></div>\n");
}

static int weakest_first(const void *a, const void *b)
{
    const score *x = a, *y = b;
    return x->f1 < y->f1 ? -1 : x->f1 > y->f1 ? 1 : x->label - y->label;
}

static void add_average(bf_text *html, const char *name, const double sum[3], double weight, int64_t support)
{
    if (weight > 0)
        bf_text_add(html,
                    "<tr class=sum><th class=name>%s</th><td class=num>%.3f</td><td class=num>%.3f</td><td class=num>%.3f</td>"
                    "<td class=num>%lld</td></tr>\n",
                    name, sum[0] / weight, sum[1] / weight, sum[2] / weight, (long long)support);
}

static void add_scores(bf_text *html, const bf_report *report, const score *scores)
{
    double macro[3] = {0}, weighted[3] = {0};
    int present = 0;
    int64_t support = 0;
    bf_text_add(html,
                "<div class='scroll%s'><table><tr><th>class</th><th class=num>precision</th><th class=num>recall</th>"
                "<th class=num>F1</th><th class=num>images</th></tr>\n",
                report->classes > MATRIX ? " tall" : "");
    for (int i = 0; i < report->classes; i++) {
        const score *s = &scores[i];
        bf_text_add(html, "<tr><td class=name>");
        bf_html_class(html, report, s->label);
        if (!s->support && !s->predicted) { /* neither seen nor said: no score, and no part in the averages */
            bf_text_add(html, "</td><td class=num>–</td><td class=num>–</td><td class=num>–</td><td class=num>0</td></tr>\n");
            continue;
        }
        bf_text_add(html,
                    "</td><td class=num>%.3f</td><td class=num>%.3f</td><td class='num bar' style='--w:%.1f%%'>%.3f</td>"
                    "<td class=num>%lld</td></tr>\n",
                    s->precision, s->recall, 100 * s->f1, s->f1, (long long)s->support);
        const double value[3] = {s->precision, s->recall, s->f1};
        for (int k = 0; k < 3; k++) macro[k] += value[k], weighted[k] += value[k] * (double)s->support;
        present++;
        support += s->support;
    }
    add_average(html, "macro average", macro, present, support);
    add_average(html, "weighted average", weighted, (double)support, support);
    bf_text_add(html, "</table></div>\n");
}

static void measure(const bf_report *report, score *scores)
{
    for (int c = 0; c < report->classes; c++) {
        score *s = &scores[c];
        *s = (score){.label = c, .hits = cell(report, c, c)};
        for (int k = 0; k < report->classes; k++) s->support += cell(report, c, k), s->predicted += cell(report, k, c);
        s->precision = ratio(s->hits, s->predicted);
        s->recall = ratio(s->hits, s->support);
        s->f1 = s->precision + s->recall > 0 ? 2 * s->precision * s->recall / (s->precision + s->recall) : 0;
    }
}

void bf_report_classes(bf_text *html, const bf_report *report)
{
    if (!report->confusion || report->classes < 1) return;
    score *scores = bf_calloc((size_t)report->classes, sizeof *scores);
    if (!scores) {
        html->failed = true;
        return;
    }
    measure(report, scores);
    const bool many = report->classes > MATRIX;
    bf_text_add(html, "<div class=pair><section><h2>Confusion</h2>\n");
    if (many) add_pairs(html, report, scores);
    else add_matrix(html, report, scores);
    bf_text_add(html, "</section>\n<section><h2>By class</h2>\n");
    if (many) {
        qsort(scores, (size_t)report->classes, sizeof *scores, weakest_first);
        bf_text_add(html, "<p class=dim>The weakest first.</p>\n");
    }
    add_scores(html, report, scores);
    bf_text_add(html, "</section></div>\n");
    bf_free(scores);
}
