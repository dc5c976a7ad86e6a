/* Self-contained HTML pages: no file, font or script from anywhere else. Text is escaped here and
 * nowhere else; charts are SVG. Everything appends to a buf, whose status the caller checks once.
 */
#ifndef SPT_REPORT_HTML_H
#define SPT_REPORT_HTML_H

#include <stdint.h>

#include "base/buf.h"

void html_begin(buf *out, const char *title);
void html_end(buf *out);
/* Escapes & < > " '; invalid UTF-8 becomes U+FFFD, control characters become spaces. */
void html_text(buf *out, const char *text);
void html_text_n(buf *out, const char *text, size_t len);
/* <tag>escaped text</tag> */
void html_tag(buf *out, const char *tag, const char *text);

/* A line of a chart. Values that are not finite are gaps. */
struct html_series {
    const char *name;
    const double *x, *y;
    size_t n;
};
enum { HTML_SERIES = 4 }; /* colours there are */
/* A line chart with axes, grid, legend (two series or more) and a reading where the pointer is.
 * x_name: "step". Long series are averaged down to what a screen can show. */
void html_chart(buf *out, const char *title, const char *x_name, const struct html_series *s,
                size_t count);
/* One bar per value: x is the index. */
void html_bars(buf *out, const char *title, const char *x_name, const double *y, size_t n);
/* A square picture of n x n values in [-1, 1] (cosines), n up to HTML_HEAT_MAX after averaging. */
enum { HTML_HEAT_MAX = 128 };
void html_heat(buf *out, const char *title, const double *value, size_t n);
/* style attribute for a table cell: share 0 .. 1 of the largest. */
void html_shade(buf *out, double share);

#endif
