/* The pieces of the report, each appended to one text. Running out of memory sticks to the text. */
#ifndef BF_REPORT_PARTS_H
#define BF_REPORT_PARTS_H

#include "base/text.h"
#include "train/report.h"

/* The style sheet (report_style.c). */
extern const char bf_report_style[];

/* Name of a class, escaped; its number where it has none. */
void bf_html_class(bf_text *html, const bf_report *report, int index);
/* 1234567 as 1,234,567. */
void bf_html_count(bf_text *html, int64_t count);

/* Loss, accuracy and learning-rate curves as inline SVG. */
void bf_report_charts(bf_text *html, const bf_report *report);
/* Confusion matrix or most confused pairs, and precision, recall, F1 by class. */
void bf_report_classes(bf_text *html, const bf_report *report);
/* The picture as a "data:image/png;base64,…" URI, at most 256 pixels a side. */
bnff_status bf_report_png(bf_text *html, const bnff_image *image, bnff_error *error);

#endif
