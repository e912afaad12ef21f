#include "train/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "train/report_parts.h"

void bf_html_class(bf_text *html, const bf_report *report, int index)
{
    if (report->class_names && index >= 0 && index < report->classes && report->class_names[index])
        bf_text_xml(html, report->class_names[index]);
    else bf_text_add(html, "%d", index);
}

void bf_html_count(bf_text *html, int64_t count)
{
    char digits[32];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)count);
    for (int i = 0; i < length; i++) {
        if (i > 0 && (length - i) % 3 == 0 && digits[i - 1] != '-') bf_text_append(html, ",", 1);
        bf_text_append(html, digits + i, 1);
    }
}

static void add_duration(bf_text *html, double seconds)
{
    const long long s = (long long)(seconds + 0.5);
    if (s >= 3600) bf_text_add(html, "%lld h %02lld min", s / 3600, s / 60 % 60);
    else if (s >= 60) bf_text_add(html, "%lld min %02lld s", s / 60, s % 60);
    else bf_text_add(html, "%.1f s", seconds);
}

/* -- Headline ---------------------------------------------------------------------------------------------------- */

static void add_header(bf_text *html, const bf_report *report)
{
    bf_text_add(html, "<header><h1>");
    bf_text_xml(html, report->title && *report->title ? report->title : "Training report");
    bf_text_add(html, "</h1><p>");
    bf_text_xml(html, report->model);
    if (report->data) bf_text_add(html, " on "), bf_text_xml(html, report->data);
    if (report->train_images > 0) {
        bf_text_add(html, " · ");
        bf_html_count(html, report->train_images);
        bf_text_add(html, " training");
        if (report->val_images > 0) bf_text_add(html, ", "), bf_html_count(html, report->val_images), bf_text_add(html, " validation");
        bf_text_add(html, " images");
    }
    if (report->classes > 0) bf_text_add(html, " · %d classes", report->classes);
    if (report->machine) bf_text_add(html, " · "), bf_text_xml(html, report->machine);
    bf_text_add(html, "</p></header>\n");
}

static void add_tiles(bf_text *html, const bf_report *report)
{
    bf_text_add(html, "<div class=tiles>");
    if (report->best_epoch > 0 && isfinite(report->best_acc1))
        bf_text_add(html, "<div class='tile best'><b>%.2f%%</b><span>best accuracy, epoch %d</span></div>", report->best_acc1,
                    report->best_epoch);
    if (report->seconds > 0) {
        bf_text_add(html, "<div class=tile><b>");
        add_duration(html, report->seconds);
        bf_text_add(html, "</b><span>training time</span></div>");
    }
    if (report->images_per_s > 0) {
        bf_text_add(html, "<div class=tile><b>");
        if (report->images_per_s < 100) bf_text_add(html, "%.1f", report->images_per_s);
        else bf_html_count(html, (int64_t)(report->images_per_s + 0.5));
        bf_text_add(html, "</b><span>images a second</span></div>");
    }
    if (report->peak_bytes > 0) {
        const double mib = (double)report->peak_bytes / (1 << 20);
        bf_text_add(html, "<div class=tile><b>%.*f %s</b><span>peak memory</span></div>", mib < 1024 ? 0 : 2,
                    mib < 1024 ? mib : mib / 1024, mib < 1024 ? "MiB" : "GiB");
    }
    if (report->parameters > 0) {
        bf_text_add(html, "<div class=tile><b>");
        bf_html_count(html, report->parameters);
        bf_text_add(html, "</b><span>parameters</span></div>");
    }
    bf_text_add(html, "</div>\n");
}

/* -- Sections ---------------------------------------------------------------------------------------------------- */

static void add_number(bf_text *html, const char *format, double value)
{
    char text[64] = "–";
    if (isfinite(value)) snprintf(text, sizeof text, format, value);
    bf_text_add(html, "<td class=num>%s</td>", text);
}

static void add_epochs(bf_text *html, const bf_report *report)
{
    if (report->epoch_count < 1) return;
    static const char *const columns[] = {"epoch", "training loss", "accuracy", "validation loss", "top 1",
                                          "top 5", "learning rate", "time", "images/s"};
    bf_text_add(html, "<details><summary>All epochs as numbers</summary><div class=scroll><table><tr>");
    for (size_t c = 0; c < sizeof columns / sizeof *columns; c++) bf_text_add(html, "<th class=num>%s</th>", columns[c]);
    bf_text_add(html, "</tr>\n");
    for (int i = 0; i < report->epoch_count; i++) {
        const bf_report_epoch *e = &report->epochs[i];
        bf_text_add(html, "<tr><td class=num>%d</td>", e->epoch);
        add_number(html, "%.4f", e->train_loss);
        add_number(html, "%.2f%%", e->train_acc1);
        add_number(html, "%.4f", e->val_loss);
        add_number(html, "%.2f%%", e->val_acc1);
        add_number(html, "%.2f%%", e->val_acc5);
        add_number(html, "%.4g", e->lr);
        add_number(html, "%.1f s", e->seconds);
        add_number(html, "%.0f", e->images_per_s);
        bf_text_add(html, "</tr>\n");
    }
    bf_text_add(html, "</table></div></details></section>\n");
}

static bnff_status add_mistakes(bf_text *html, const bf_report *report, bnff_error *error)
{
    if (report->mistake_count < 1) return BNFF_OK;
    bf_text_add(html, "<section><h2>Most confident mistakes</h2>\n<p class=dim>Often mislabelled or ambiguous images: "
                      "a look at the data is worth more than another epoch.</p>\n<div class=gallery>\n");
    for (int i = 0; i < report->mistake_count; i++) {
        const bf_report_mistake *m = &report->mistakes[i];
        bf_text_add(html, "<figure title='");
        bf_text_xml(html, m->name);
        if (m->image.pixels) {
            bf_text_add(html, "'><img%s alt='' src='", m->image.width < 100 ? " class=small" : "");
            BF_TRY(bf_report_png(html, &m->image, error));
            bf_text_add(html, "'>");
        } else {
            bf_text_add(html, "'><i></i>");
        }
        bf_text_add(html, "<figcaption><span class=said>");
        bf_html_class(html, report, m->predicted);
        bf_text_add(html, "</span> %.1f%%<br>is ", 100 * m->probability);
        bf_html_class(html, report, m->label);
        bf_text_add(html, "</figcaption></figure>\n");
    }
    bf_text_add(html, "</div></section>\n");
    return BNFF_OK;
}

static void add_next_steps(bf_text *html, const bf_report *report)
{
    if (report->next_step_count < 1) return;
    bf_text_add(html, "<section><h2>What to type next</h2>\n<pre>");
    for (int i = 0; i < report->next_step_count; i++) bf_text_xml(html, report->next_steps[i]), bf_text_add(html, "\n");
    bf_text_add(html, "</pre></section>\n");
}

static void add_settings(bf_text *html, const bf_report *report)
{
    if (report->setting_count < 1) return;
    bf_text_add(html, "<section><h2>Settings</h2>\n<div class=scroll><table class=settings>\n");
    for (int i = 0; i < report->setting_count; i++) {
        bf_text_add(html, "<tr><td>");
        bf_text_xml(html, report->settings[i].key);
        bf_text_add(html, "</td><td>");
        bf_text_xml(html, report->settings[i].value);
        bf_text_add(html, "</td></tr>\n");
    }
    bf_text_add(html, "</table></div></section>\n");
}

static bnff_status compose(bf_text *html, const bf_report *report, bnff_error *error)
{
    bf_text_add(html, "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8>"
                      "<meta name=viewport content='width=device-width,initial-scale=1'>\n<title>");
    bf_text_xml(html, report->title && *report->title ? report->title : "Training report");
    bf_text_add(html, " · bnff</title>\n<style>\n");
    bf_text_add(html, "%s", bf_report_style);
    bf_text_add(html, "</style></head>\n<body><main>\n");
    add_header(html, report);
    add_tiles(html, report);
    bf_report_charts(html, report);
    add_epochs(html, report);
    bf_report_classes(html, report);
    BF_TRY(add_mistakes(html, report, error));
    add_next_steps(html, report);
    add_settings(html, report);
    bf_text_add(html, "<footer>Written by bnff %s.</footer>\n</main></body></html>\n", bnff_version());
    return html->failed ? bf_fail(error, BNFF_E_MEMORY, "no memory for the report") : BNFF_OK;
}

bnff_status bf_report_write(const char *path, const bf_report *report, bnff_error *error)
{
    bf_text html = {0};
    bnff_status status = compose(&html, report, error);
    if (status == BNFF_OK) status = bf_file_replace(path, html.data, html.length, error);
    bf_text_free(&html);
    return status;
}
