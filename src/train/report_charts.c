/* Curves over the epochs as inline SVG. Colours come from classes of the page's style; values show on hover by <title>.
 *
 *     0,0 ┌──────────────────────────┐
 *         │ TOP                      │
 *         │LEFT│ plot           RIGHT│   pixel x = LEFT + (x - lo) / (hi - lo) * plot width, y likewise from below
 *         │ BOTTOM: epochs           │
 *         └──────────────────────────┘ WIDTH, HEIGHT */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "train/report_parts.h"

enum { WIDTH = 460, HEIGHT = 270, LEFT = 52, RIGHT = 14, TOP = 12, BOTTOM = 40 };
enum { DOTS = 60 /* points at most that are drawn as dots */, HOVERS = 200 /* points that show a value on hover */ };

typedef struct series {
    const char *label, *style; /* style: "a" or "b" */
    size_t field;              /* offset of a double in bf_report_epoch */
} series;
#define FIELD(label, style, name) {label, style, offsetof(bf_report_epoch, name)}

typedef struct chart {
    const char *title, *unit, *format; /* format: of a value on hover */
    series lines[2];
    int count;
    double ceiling;                    /* the axis does not leave [0, ceiling] */
    bool from_zero;                    /* and begins at 0 */
} chart;

typedef struct axis {
    double lo, hi, step;
    int decimals;
} axis;

static double value_of(const bf_report_epoch *epoch, size_t field)
{
    double value;
    memcpy(&value, (const char *)epoch + field, sizeof value);
    return value;
}

/* The 1, 2 or 5 times a power of ten that cuts `range` into about `parts` parts. */
static double nice_step(double range, int parts)
{
    const double raw = range / parts, power = pow(10, floor(log10(raw))), digit = raw / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static axis nice_axis(double min, double max, const chart *c)
{
    if (c->from_zero) min = 0;
    if (!(max > min)) { /* one value: some room around it */
        const double room = min == 0 ? 1 : fabs(min) * 0.1;
        min -= room, max += room;
    }
    axis a = {.step = nice_step(max - min, 5)};
    a.lo = fmax(floor(min / a.step) * a.step, 0);
    a.hi = fmin(ceil(max / a.step) * a.step, c->ceiling);
    a.decimals = a.step < 1 ? (int)ceil(-log10(a.step) - 1e-9) : 0;
    return a;
}

/* The range of everything finite in the chart; false if there is nothing. */
static bool value_range(const bf_report *report, const chart *c, double *min, double *max)
{
    *min = INFINITY, *max = -INFINITY;
    for (int s = 0; s < c->count; s++)
        for (int i = 0; i < report->epoch_count; i++) {
            const double v = value_of(&report->epochs[i], c->lines[s].field);
            if (isfinite(v)) *min = fmin(*min, v), *max = fmax(*max, v);
        }
    return *min <= *max;
}

static double place_x(const axis *a, double x) { return LEFT + (x - a->lo) / (a->hi - a->lo) * (WIDTH - LEFT - RIGHT); }
static double place_y(const axis *a, double y) { return HEIGHT - BOTTOM - (y - a->lo) / (a->hi - a->lo) * (HEIGHT - TOP - BOTTOM); }

static void add_grid(bf_text *html, const axis *x, const axis *y, const char *unit)
{
    for (int i = 0; y->lo + i * y->step <= y->hi + 1e-9 * y->step; i++) {
        const double v = y->lo + i * y->step, at = place_y(y, v);
        bf_text_add(html, "<path class=grid d='M%d %.1fH%d'/>", LEFT, at, WIDTH - RIGHT);
        if (y->decimals > 4) bf_text_add(html, "<text x=%d y=%.1f class=end>%.0e</text>", LEFT - 7, at + 4, v);
        else bf_text_add(html, "<text x=%d y=%.1f class=end>%.*f%s</text>", LEFT - 7, at + 4, y->decimals, v, unit);
    }
    const double step = fmax(1, x->step);
    for (double v = ceil(x->lo / step) * step; v <= x->hi; v += step)
        if (v >= 1) bf_text_add(html, "<text x=%.1f y=%d class=mid>%.0f</text>", place_x(x, v), HEIGHT - BOTTOM + 18, v);
    bf_text_add(html, "<path class=axis d='M%d %dH%d'/>", LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT);
    bf_text_add(html, "<text x=%d y=%d class=mid>epoch</text>", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 5);
}

static void add_line(bf_text *html, const bf_report *report, const series *s, const axis *x, const axis *y)
{
    bool open = false;
    bf_text_add(html, "<path class='line %s' d='", s->style);
    for (int i = 0; i < report->epoch_count; i++) {
        const double v = value_of(&report->epochs[i], s->field);
        if (isfinite(v)) bf_text_add(html, "%s%.1f %.1f", open ? "L" : "M", place_x(x, report->epochs[i].epoch), place_y(y, v));
        open = isfinite(v);
    }
    bf_text_add(html, "'/>");
}

/* A dot for each point with its value on hover; of very many points, every few. */
static void add_dots(bf_text *html, const bf_report *report, const chart *c, const series *s, const axis *x, const axis *y)
{
    const int every = report->epoch_count / HOVERS + 1;
    for (int i = 0; i < report->epoch_count; i += every) {
        const double v = value_of(&report->epochs[i], s->field);
        if (!isfinite(v)) continue;
        const double px = place_x(x, report->epochs[i].epoch), py = place_y(y, v);
        bf_text_add(html, "<g class='dot %s'><circle cx=%.1f cy=%.1f r=9 class=hit />", s->style, px, py);
        if (report->epoch_count <= DOTS) bf_text_add(html, "<circle cx=%.1f cy=%.1f r=2.6 />", px, py);
        bf_text_add(html, "<title>epoch %d: %s ", report->epochs[i].epoch, s->label);
        char text[64];
        snprintf(text, sizeof text, c->format, v);
        bf_text_add(html, "%s%s</title></g>", text, c->unit);
    }
}

static void add_chart(bf_text *html, const bf_report *report, const chart *c)
{
    double min, max;
    if (!value_range(report, c, &min, &max)) return;
    const double first = report->epochs[0].epoch, last = report->epochs[report->epoch_count - 1].epoch;
    const axis y = nice_axis(min, max, c);
    const axis x = last > first ? (axis){first, last, nice_step(last - first, 7), 0} : (axis){first - 0.5, first + 0.5, 1, 0};
    bf_text_add(html, "<figure><figcaption>%s", c->title);
    for (int s = 0; c->count > 1 && s < c->count; s++)
        bf_text_add(html, " <span class='key %s'>%s</span>", c->lines[s].style, c->lines[s].label);
    bf_text_add(html, "</figcaption><svg viewBox='0 0 %d %d' role=img aria-label='%s over epochs'>", WIDTH, HEIGHT, c->title);
    add_grid(html, &x, &y, c->unit);
    for (int s = 0; s < c->count; s++) add_line(html, report, &c->lines[s], &x, &y);
    for (int s = 0; s < c->count; s++) add_dots(html, report, c, &c->lines[s], &x, &y);
    bf_text_add(html, "</svg></figure>\n");
}

void bf_report_charts(bf_text *html, const bf_report *report)
{
    static const chart charts[] = {
        {"Loss", "", "%.4f", {FIELD("training", "a", train_loss), FIELD("validation", "b", val_loss)}, 2, INFINITY, false},
        {"Accuracy", "%", "%.2f", {FIELD("training", "a", train_acc1), FIELD("validation", "b", val_acc1)}, 2, 100, false},
        {"Learning rate", "", "%.4g", {FIELD("learning rate", "a", lr)}, 1, INFINITY, true},
        {"Images a second", "", "%.0f images/s", {FIELD("training", "a", images_per_s)}, 1, INFINITY, true},
    };
    if (report->epoch_count < 1) return;
    bf_text_add(html, "<section><h2>Training</h2><div class=charts>\n");
    for (size_t i = 0; i < sizeof charts / sizeof *charts; i++) add_chart(html, report, &charts[i]);
    bf_text_add(html, "</div>\n");
}
