#include "train/report.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/files.h"
#include "train/report_parts.h"

static const char style[] =
    ":root{color-scheme:light dark;--bg:#f6f6f4;--card:#fff;--ink:#1b1d21;--dim:#5f656e;--line:#e2e3e1;--soft:#f1f1ee;--a:#2458d3;--b:#c2410c;--rgb-a:36,88,211;--rgb-b:210,70,20}\n"
    "@media(prefers-color-scheme:dark){:root{--bg:#131417;--card:#1c1e22;--ink:#e7e8ea;--dim:#9aa1ab;--line:#33363c;--soft:#25282d;--a:#7ea6ff;--b:#ff9160;--rgb-a:58,110,235;--rgb-b:226,88,34}}\n"
    "*{box-sizing:border-box}body{margin:0;background:var(--bg);color:var(--ink);font:16px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}\n"
    "main{max-width:1080px;margin:0 auto;padding:28px 18px 60px}h1{font-size:1.7rem;line-height:1.2;margin:0;overflow-wrap:anywhere}h2{font-size:1.12rem;margin:0 0 12px}\n"
    "section{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:18px 20px;margin-top:18px}.dim{color:var(--dim);font-size:.9rem;margin:0 0 12px}\n"
    "header p{margin:4px 0 0;color:var(--dim);overflow-wrap:anywhere}\n"
    ".tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(165px,1fr));gap:12px;margin-top:18px}\n"
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:12px;padding:12px 14px}.tile b{display:block;white-space:nowrap;font-size:1.45rem;line-height:1.3;font-weight:650;font-variant-numeric:tabular-nums}\n"
    ".tile span{color:var(--dim);font-size:.82rem}.tile.best{border-color:var(--a)}.tile.best b{color:var(--a)}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,380px),1fr));gap:18px 22px}figure{margin:0;min-width:0}svg{width:100%;height:auto;display:block;overflow:visible}\n"
    "figcaption{font-weight:600;font-size:.95rem;margin-bottom:4px}.key{font-weight:400;font-size:.86rem;color:var(--dim);margin-left:12px;white-space:nowrap}\n"
    ".key::before{content:'';display:inline-block;width:14px;height:3px;border-radius:2px;vertical-align:middle;margin-right:5px;background:var(--a)}.key.b::before{background:var(--b)}\n"
    "svg text{fill:var(--dim);font-size:12px;font-variant-numeric:tabular-nums}.end{text-anchor:end}.mid{text-anchor:middle}.grid{stroke:var(--line)}.axis{stroke:var(--dim)}\n"
    ".line{fill:none;stroke:var(--a);stroke-width:2;stroke-linejoin:round;stroke-linecap:round}.line.b{stroke:var(--b)}.dot{fill:var(--a)}.dot.b{fill:var(--b)}.hit:is(circle){fill:transparent}.dot:hover .hit{fill:currentColor;fill-opacity:.14}\n"
    ".pair{display:flex;flex-wrap:wrap;column-gap:18px}.pair section{flex:1 1 auto;max-width:100%}.pair .dim{width:0;min-width:100%}\n"
    ".scroll{overflow-x:auto}.tall{max-height:720px;overflow-y:auto}table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}th{text-align:left;font-weight:600}td,th{padding:5px 12px 5px 0}tr+tr>*{border-top:1px solid var(--line)}\n"
    ".name{max-width:260px;white-space:nowrap;overflow:hidden;text-overflow:ellipsis}.num{text-align:right;padding:5px 10px}.sum>*{color:var(--dim);font-weight:600}.bar{min-width:80px;background:linear-gradient(90deg,rgba(var(--rgb-a),.2) var(--w),transparent 0)}\n"
    ".matrix td,.matrix th{border:0!important}.matrix td{width:38px;min-width:27px;height:34px;padding:0;text-align:center;font-size:.82rem;box-shadow:inset 0 0 0 1px var(--card);background:var(--soft);border-radius:5px}\n"
    ".matrix th{font-weight:500;font-size:.85rem;white-space:nowrap;max-width:150px;overflow:hidden;text-overflow:ellipsis;padding:0 10px 0 0;text-align:right}\n"
    ".matrix .top{vertical-align:bottom;padding:0 0 6px;text-align:left}.matrix .top span{writing-mode:vertical-rl;transform:rotate(180deg);max-height:130px;overflow:hidden;display:inline-block;margin:0 auto;width:100%}\n"
    ".matrix .hit{background:linear-gradient(rgba(var(--rgb-a),var(--w)),rgba(var(--rgb-a),var(--w))),var(--card)}.matrix .miss{background:linear-gradient(rgba(var(--rgb-b),var(--w)),rgba(var(--rgb-b),var(--w))),var(--card)}.matrix .strong{color:#fff}\n"
    ".gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(132px,1fr));gap:14px}.gallery img,.gallery i{display:block;width:100%;aspect-ratio:1;object-fit:contain;background:var(--soft);border-radius:8px}\n"
    ".gallery .small{image-rendering:pixelated}.gallery figcaption{font-weight:400;font-size:.86rem;line-height:1.35;margin:6px 0 0;overflow-wrap:anywhere}.said{color:var(--b);font-weight:600}\n"
    "pre{background:var(--soft);border-radius:8px;padding:12px 14px;margin:0;overflow-x:auto;font:.88rem/1.7 ui-monospace,SFMono-Regular,Menlo,'DejaVu Sans Mono',monospace}\n"
    "summary{cursor:pointer;font-weight:600;color:var(--dim);margin-top:14px;font-size:.9rem}.settings td:first-child{color:var(--dim);white-space:nowrap;vertical-align:top;padding-right:24px}.settings td{overflow-wrap:anywhere}\n"
    "footer{color:var(--dim);font-size:.85rem;margin-top:22px}\n"
    "@media print{:root{color-scheme:light;--bg:#fff;--card:#fff;--ink:#000;--dim:#444;--line:#ccc;--soft:#f3f3f3;--a:#2458d3;--b:#c2410c}*{-webkit-print-color-adjust:exact;print-color-adjust:exact}\n"
    "main{max-width:none;padding:0}.tall{max-height:none}section,.tile{border-radius:6px}figure,.tile,tr,pre{break-inside:avoid}h2{break-after:avoid}.charts{grid-template-columns:1fr 1fr}}\n";

void bf_html(bf_text *html, const char *string)
{
    for (const char *at = string; at && *at; at++) {
        switch (*at) {
        case '&':  bf_text_add(html, "&amp;"); break;
        case '<':  bf_text_add(html, "&lt;"); break;
        case '>':  bf_text_add(html, "&gt;"); break;
        case '"':  bf_text_add(html, "&quot;"); break;
        case '\'': bf_text_add(html, "&#39;"); break;
        default:   bf_text_append(html, (unsigned char)*at < ' ' ? " " : at, 1); /* control characters are not text in HTML */
        }
    }
}

void bf_html_class(bf_text *html, const bf_report *report, int index)
{
    if (report->class_names && index >= 0 && index < report->classes && report->class_names[index]) bf_html(html, report->class_names[index]);
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
    bf_html(html, report->title && *report->title ? report->title : "Training report");
    bf_text_add(html, "</h1><p>");
    bf_html(html, report->model);
    if (report->data) bf_text_add(html, " on "), bf_html(html, report->data);
    if (report->train_images > 0) {
        bf_text_add(html, " · ");
        bf_html_count(html, report->train_images);
        bf_text_add(html, " training");
        if (report->val_images > 0) bf_text_add(html, ", "), bf_html_count(html, report->val_images), bf_text_add(html, " validation");
        bf_text_add(html, " images");
    }
    if (report->classes > 0) bf_text_add(html, " · %d classes", report->classes);
    if (report->machine) bf_text_add(html, " · "), bf_html(html, report->machine);
    bf_text_add(html, "</p></header>\n");
}

static void add_tiles(bf_text *html, const bf_report *report)
{
    bf_text_add(html, "<div class=tiles>");
    if (report->best_epoch > 0 && isfinite(report->best_acc1))
        bf_text_add(html, "<div class='tile best'><b>%.2f%%</b><span>best accuracy, epoch %d</span></div>", report->best_acc1, report->best_epoch);
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
        bf_text_add(html, "<div class=tile><b>%.*f %s</b><span>peak memory</span></div>", mib < 1024 ? 0 : 2, mib < 1024 ? mib : mib / 1024, mib < 1024 ? "MiB" : "GiB");
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
    bf_text_add(html, "<details><summary>All epochs as numbers</summary><div class=scroll><table><tr><th class=num>epoch</th><th class=num>training loss</th><th class=num>accuracy</th>"
                      "<th class=num>validation loss</th><th class=num>top 1</th><th class=num>top 5</th><th class=num>learning rate</th><th class=num>time</th><th class=num>images/s</th></tr>\n");
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
    bf_text_add(html, "<section><h2>Most confident mistakes</h2>\n<p class=dim>Often mislabelled or ambiguous images: a look at the data is worth more than another epoch.</p>\n<div class=gallery>\n");
    for (int i = 0; i < report->mistake_count; i++) {
        const bf_report_mistake *m = &report->mistakes[i];
        bf_text_add(html, "<figure title='");
        bf_html(html, m->name);
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
    for (int i = 0; i < report->next_step_count; i++) bf_html(html, report->next_steps[i]), bf_text_add(html, "\n");
    bf_text_add(html, "</pre></section>\n");
}

static void add_settings(bf_text *html, const bf_report *report)
{
    if (report->setting_count < 1) return;
    bf_text_add(html, "<section><h2>Settings</h2>\n<div class=scroll><table class=settings>\n");
    for (int i = 0; i < report->setting_count; i++) {
        bf_text_add(html, "<tr><td>");
        bf_html(html, report->settings[i].key);
        bf_text_add(html, "</td><td>");
        bf_html(html, report->settings[i].value);
        bf_text_add(html, "</td></tr>\n");
    }
    bf_text_add(html, "</table></div></section>\n");
}

static bnff_status compose(bf_text *html, const bf_report *report, bnff_error *error)
{
    bf_text_add(html, "<!DOCTYPE html>\n<html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'>\n<title>");
    bf_html(html, report->title && *report->title ? report->title : "Training report");
    bf_text_add(html, " · bnff</title>\n<style>\n");
    bf_text_append(html, style, strlen(style));
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
