#include "report/html.h"

#include <math.h>
#include <string.h>

#include "text/utf8.h"

enum { WIDTH = 640, HEIGHT = 240, LEFT = 56, RIGHT = 16, TOP = 12, BOTTOM = 36, POINTS = 400 };

static const char style[] =
    ":root{color-scheme:light dark;--page:#f9f9f7;--card:#fcfcfb;--ink:#0b0b0b;--soft:#52514e;"
    "--faint:#898781;--grid:#e1e0d9;--edge:rgba(11,11,11,.1);--s0:#2a78d6;--s1:#1baf7a;"
    "--s2:#eda100;--s3:#4a3aa7;--cold:#2a78d6;--warm:#e34948;--mid:#f0efec}"
    "@media(prefers-color-scheme:dark){:root{--page:#0d0d0d;--card:#1a1a19;--ink:#fff;"
    "--soft:#c3c2b7;--faint:#898781;--grid:#2c2c2a;--edge:rgba(255,255,255,.1);--s0:#3987e5;"
    "--s1:#199e70;--s2:#c98500;--s3:#9085e9;--cold:#3987e5;--warm:#e66767;--mid:#383835}}"
    "*{box-sizing:border-box}body{margin:0 auto;padding:24px 16px 64px;max-width:1080px;"
    "background:var(--page);color:var(--ink);font:15px/1.45 system-ui,-apple-system,'Segoe UI',"
    "sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:17px;margin:32px 0 8px}"
    "p,figcaption,.soft{color:var(--soft)}p{margin:4px 0}code{font:13px/1.4 ui-monospace,"
    "monospace;white-space:pre-wrap;overflow-wrap:anywhere}"
    ".card,figure{background:var(--card);border:1px solid var(--edge);border-radius:8px;"
    "padding:12px 14px;margin:0 0 12px}.grid{display:grid;gap:12px;"
    "grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr))}.grid>figure{margin:0}"
    ".tiles{display:flex;flex-wrap:wrap;gap:12px;margin:16px 0}.tile{background:var(--card);"
    "border:1px solid var(--edge);border-radius:8px;padding:10px 14px;min-width:130px}"
    ".tile b{display:block;font-size:26px;font-weight:600}.tile span{color:var(--soft);"
    "font-size:13px}figcaption{font-size:14px;margin-bottom:4px;color:var(--ink)}"
    "svg{display:block;width:100%;height:auto;overflow:visible}svg text{fill:var(--faint);"
    "font-size:11px;font-family:inherit}.legend{display:flex;flex-wrap:wrap;gap:4px 14px;"
    "font-size:12px;color:var(--soft)}.legend i{display:inline-block;width:14px;height:2px;"
    "margin-right:6px;vertical-align:middle}.scroll{overflow-x:auto}table{border-collapse:"
    "collapse;font-size:13px;background:var(--card);width:100%}th,td{padding:4px 8px;"
    "border-bottom:1px solid var(--grid);text-align:left;vertical-align:top}th{color:var(--soft);"
    "font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}"
    ".bad{color:var(--warm)}.piece{display:inline-block;background:var(--mid);border-radius:4px;"
    "padding:0 5px;margin:1px 3px 1px 0;white-space:pre}.piece small{color:var(--soft)}"
    "#tip{position:fixed;display:none;pointer-events:none;background:var(--card);color:var(--ink);"
    "border:1px solid var(--edge);border-radius:6px;padding:4px 8px;font-size:12px;"
    "box-shadow:0 2px 8px rgba(0,0,0,.15);white-space:pre}";

/* The reading: nearest x of every line of the chart under the pointer. */
static const char script[] =
    "const tip=document.getElementById('tip');document.querySelectorAll('svg[data-lines]')."
    "forEach(s=>{const L=JSON.parse(s.dataset.lines),g=s.querySelector('.cross');"
    "s.addEventListener('pointermove',e=>{const r=s.getBoundingClientRect(),"
    "x=(e.clientX-r.left)*s.viewBox.baseVal.width/r.width;let best=1/0,at=null;"
    "L.forEach(l=>l.p.forEach(p=>{const d=Math.abs(p[0]-x);if(d<best){best=d;at=p}}));"
    "if(!at)return;g.setAttribute('x1',at[0]);g.setAttribute('x2',at[0]);"
    "g.style.display='inline';tip.textContent=s.dataset.x+' '+at[2]+L.map(l=>{const q="
    "l.p.find(p=>p[0]==at[0]);return q?'\\n'+l.n+'  '+q[3]:''}).join('');"
    "tip.style.display='block';tip.style.left=Math.min(e.clientX+14,innerWidth-180)+'px';"
    "tip.style.top=e.clientY+14+'px'});s.addEventListener('pointerleave',()=>{"
    "tip.style.display='none';g.style.display='none'})})";

void html_begin(buf *out, const char *title)
{
    buf_adds(out,
             "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n"
             "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>");
    html_text(out, title);
    buf_addf(out, "</title>\n<style>%s</style></head><body>\n<h1>", style);
    html_text(out, title);
    buf_adds(out, "</h1>\n");
}

void html_end(buf *out)
{
    buf_addf(out, "<div id=\"tip\"></div><script>%s</script>\n</body></html>\n", script);
}

void html_text_n(buf *out, const char *text, size_t len)
{
    for (size_t i = 0; i < len;) {
        uint32_t c;
        const size_t n = utf8_decode(text + i, text + len, &c);
        const unsigned char first = (unsigned char)text[i];
        if (!n)
            buf_adds(out, "\xef\xbf\xbd");
        else if (first == '&')
            buf_adds(out, "&amp;");
        else if (first == '<')
            buf_adds(out, "&lt;");
        else if (first == '>')
            buf_adds(out, "&gt;");
        else if (first == '"')
            buf_adds(out, "&quot;");
        else if (first == '\'')
            buf_adds(out, "&#39;");
        else if (first < 32 || first == 127)
            buf_addc(out, ' ');
        else
            buf_add(out, text + i, n);
        i += n ? n : 1;
    }
}

void html_text(buf *out, const char *text)
{
    html_text_n(out, text, strlen(text));
}

void html_tag(buf *out, const char *tag, const char *text)
{
    buf_addf(out, "<%s>", tag);
    html_text(out, text);
    buf_addf(out, "</%s>", tag);
}

/* --- axes ------------------------------------------------------------------------------------- */

struct range {
    double lo, hi;
};

static void widen(struct range *r, double v)
{
    if (!isfinite(v))
        return;
    r->lo = v < r->lo ? v : r->lo;
    r->hi = v > r->hi ? v : r->hi;
}

/* A step of 1, 2 or 5 times a power of ten that cuts the range into about `want` pieces. */
static double nice_step(struct range r, double want)
{
    const double raw = (r.hi - r.lo) / want, power = pow(10, floor(log10(raw))), f = raw / power;
    return power * (f <= 1 ? 1 : f <= 2 ? 2 : f <= 5 ? 5 : 10);
}

/* Rounded out to whole steps; never empty. */
static struct range nice(struct range r, double want)
{
    if (!(r.lo <= r.hi))
        return (struct range){0, 1};
    if (r.hi - r.lo <= 1e-12 * (fabs(r.hi) + fabs(r.lo)) + 1e-300) {
        const double pad = r.lo == 0 ? 1 : fabs(r.lo) * 0.1;
        r.lo -= pad;
        r.hi += pad;
    }
    const double step = nice_step(r, want);
    return (struct range){floor(r.lo / step) * step, ceil(r.hi / step) * step};
}

static double at_x(struct range r, double v)
{
    return LEFT + (v - r.lo) / (r.hi - r.lo) * (WIDTH - LEFT - RIGHT);
}

static double at_y(struct range r, double v)
{
    return HEIGHT - BOTTOM - (v - r.lo) / (r.hi - r.lo) * (HEIGHT - TOP - BOTTOM);
}

static void put_axes(buf *out, struct range x, struct range y, const char *x_name)
{
    const double step = nice_step(y, 5), x_step = nice_step(x, 6);
    for (int i = 0; i < 64 && y.lo + i * step <= y.hi + step * 1e-6; i++) {
        const double v = y.lo + i * step;
        buf_addf(out,
                 "<line x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"var(--grid)\"/>"
                 "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.6g</text>",
                 LEFT, WIDTH - RIGHT, at_y(y, v), at_y(y, v), LEFT - 6, at_y(y, v) + 4,
                 fabs(v) < step * 1e-9 ? 0.0 : v);
    }
    for (int i = 0; i < 64; i++) {
        const double v = ceil(x.lo / x_step) * x_step + i * x_step;
        if (v > x.hi + x_step * 1e-6)
            break;
        buf_addf(out, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%.10g</text>", at_x(x, v),
                 HEIGHT - BOTTOM + 16, fabs(v) < x_step * 1e-9 ? 0.0 : v);
    }
    buf_addf(out, "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">", (WIDTH + LEFT - RIGHT) / 2,
             HEIGHT - 4);
    html_text(out, x_name);
    buf_adds(out, "</text>");
}

static void open_figure(buf *out, const char *title)
{
    buf_adds(out, "<figure>");
    html_tag(out, "figcaption", title);
}

/* --- lines ------------------------------------------------------------------------------------ */

/* Point k of at most POINTS: the mean of its share of the series. */
static bool reduced(const struct html_series *s, size_t k, size_t points, double *x, double *y)
{
    const size_t from = k * s->n / points, to = (k + 1) * s->n / points;
    double sum_x = 0, sum_y = 0;
    size_t n = 0;
    for (size_t i = from; i < to; i++)
        if (isfinite(s->x[i]) && isfinite(s->y[i])) {
            sum_x += s->x[i];
            sum_y += s->y[i];
            n++;
        }
    *x = n ? sum_x / (double)n : 0;
    *y = n ? sum_y / (double)n : 0;
    return n > 0;
}

static size_t points_of(const struct html_series *s)
{
    return s->n < POINTS ? s->n : POINTS;
}

static void put_line(buf *out, const struct html_series *s, size_t index, struct range x,
                     struct range y)
{
    const size_t points = points_of(s);
    bool pen = false;
    double px, py;
    buf_addf(out,
             "<path fill=\"none\" stroke=\"var(--s%zu)\" stroke-width=\"2\" "
             "stroke-linejoin=\"round\" d=\"",
             index);
    for (size_t k = 0; k < points; k++) {
        if (reduced(s, k, points, &px, &py)) {
            buf_addf(out, "%c%.1f %.1f", pen ? 'L' : 'M', at_x(x, px), at_y(y, py));
            pen = true;
        } else {
            pen = false;
        }
    }
    buf_adds(out, "\"/>");
    if (points <= 60)
        for (size_t k = 0; k < points; k++)
            if (reduced(s, k, points, &px, &py))
                buf_addf(out,
                         "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"var(--s%zu)\" "
                         "stroke=\"var(--card)\"/>",
                         at_x(x, px), at_y(y, py), index);
}

/* For the reading under the pointer: [[x, y, value of x, value of y], ...]. */
static void put_points(buf *out, const struct html_series *s, size_t count, struct range x,
                       struct range y)
{
    buf_adds(out, "[");
    for (size_t i = 0; i < count; i++) {
        const size_t points = points_of(&s[i]);
        bool some = false;
        buf_addf(out, "%s{&quot;n&quot;:&quot;", i ? "," : "");
        html_text(out, s[i].name);
        buf_adds(out, "&quot;,&quot;p&quot;:[");
        for (size_t k = 0; k < points; k++) {
            double px, py;
            if (!reduced(&s[i], k, points, &px, &py))
                continue;
            buf_addf(out, "%s[%.1f,%.1f,%.7g,%.5g]", some ? "," : "", at_x(x, px), at_y(y, py), px,
                     py);
            some = true;
        }
        buf_adds(out, "]}");
    }
    buf_adds(out, "]");
}

void html_chart(buf *out, const char *title, const char *x_name, const struct html_series *s,
                size_t count)
{
    struct range x = {INFINITY, -INFINITY}, y = {INFINITY, -INFINITY};
    for (size_t i = 0; i < count; i++)
        for (size_t k = 0; k < points_of(&s[i]); k++) {
            double px, py;
            if (!reduced(&s[i], k, points_of(&s[i]), &px, &py))
                continue;
            widen(&x, px);
            widen(&y, py);
        }
    if (!(x.lo < x.hi))
        x = nice(x, 6);
    y = nice(y, 5);
    open_figure(out, title);
    if (count > 1) {
        buf_adds(out, "<div class=\"legend\">");
        for (size_t i = 0; i < count; i++) {
            buf_addf(out, "<span><i style=\"background:var(--s%zu)\"></i>", i);
            html_text(out, s[i].name);
            buf_adds(out, "</span>");
        }
        buf_adds(out, "</div>");
    }
    buf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\" data-x=\"", WIDTH, HEIGHT);
    html_text(out, x_name);
    buf_adds(out, "\" data-lines=\"");
    put_points(out, s, count, x, y);
    buf_adds(out, "\">");
    put_axes(out, x, y, x_name);
    for (size_t i = 0; i < count; i++)
        put_line(out, &s[i], i, x, y);
    buf_addf(out,
             "<line class=\"cross\" style=\"display:none\" x1=\"0\" x2=\"0\" y1=\"%d\" y2=\"%d\" "
             "stroke=\"var(--faint)\" stroke-dasharray=\"3 3\"/></svg></figure>\n",
             TOP, HEIGHT - BOTTOM);
}

/* --- bars, heat ------------------------------------------------------------------------------- */

void html_bars(buf *out, const char *title, const char *x_name, const double *y, size_t n)
{
    struct range r = {0, 0}, x = {-0.5, n ? (double)n - 0.5 : 0.5};
    for (size_t i = 0; i < n; i++)
        widen(&r, y[i]);
    r = nice(r, 5);
    const double slot = at_x(x, 1) - at_x(x, 0), gap = slot > 6 ? 2 : slot * 0.2;
    open_figure(out, title);
    buf_addf(out, "<svg viewBox=\"0 0 %d %d\" role=\"img\">", WIDTH, HEIGHT);
    put_axes(out, x, r, x_name);
    for (size_t i = 0; i < n; i++) {
        if (!isfinite(y[i]))
            continue;
        const double a = at_y(r, 0), b = at_y(r, y[i]);
        buf_addf(out,
                 "<rect x=\"%.2f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"var(--s0)\" "
                 "rx=\"1\"><title>%zu: %.6g</title></rect>",
                 at_x(x, (double)i - 0.5) + gap / 2, a < b ? a : b, slot - gap, fabs(a - b), i,
                 y[i]);
    }
    buf_adds(out, "</svg></figure>\n");
}

/* Mean over a square of cells. */
static double block(const double *v, size_t n, size_t cells, size_t i, size_t j)
{
    const size_t i0 = i * n / cells, i1 = (i + 1) * n / cells;
    const size_t j0 = j * n / cells, j1 = (j + 1) * n / cells;
    double sum = 0;
    for (size_t a = i0; a < i1; a++)
        for (size_t b = j0; b < j1; b++)
            sum += v[a * n + b];
    return sum / (double)((i1 - i0) * (j1 - j0));
}

void html_heat(buf *out, const char *title, const double *value, size_t n)
{
    const size_t cells = n < HTML_HEAT_MAX ? n : HTML_HEAT_MAX;
    const double size = 420.0 / (double)(cells ? cells : 1);
    open_figure(out, title);
    buf_adds(out, "<svg viewBox=\"0 0 480 452\" role=\"img\" style=\"max-width:560px\" "
                  "shape-rendering=\"crispEdges\">");
    for (size_t i = 0; i < cells; i++)
        for (size_t j = 0; j < cells; j++) {
            const double v = block(value, n, cells, i, j);
            const double share = fmin(fabs(v), 1) * 100;
            buf_addf(out,
                     "<rect x=\"%.2f\" y=\"%.2f\" width=\"%.2f\" height=\"%.2f\" style=\"fill:"
                     "color-mix(in srgb,var(--%s) %.0f%%,var(--mid))\"><title>%zu, %zu: "
                     "%.3f</title></rect>",
                     28 + (double)j * size, 4 + (double)i * size, size, size,
                     v < 0 ? "warm" : "cold", isfinite(v) ? share : 0.0, i * n / cells,
                     j * n / cells, v);
        }
    buf_addf(out,
             "<text x=\"24\" y=\"14\" text-anchor=\"end\">0</text><text x=\"24\" y=\"424\" "
             "text-anchor=\"end\">%zu</text><text x=\"28\" y=\"442\">0</text><text x=\"448\" "
             "y=\"442\" text-anchor=\"end\">%zu</text><text x=\"238\" y=\"442\" "
             "text-anchor=\"middle\">row</text></svg>",
             n ? n - 1 : 0, n ? n - 1 : 0);
    buf_adds(out, "<div class=\"legend\"><span><i style=\"background:var(--cold);height:10px\"></i>"
                  "cosine 1</span><span><i style=\"background:var(--mid);height:10px\"></i>0</span>"
                  "<span><i style=\"background:var(--warm);height:10px\"></i>-1</span></div>"
                  "</figure>\n");
}

void html_shade(buf *out, double share)
{
    buf_addf(out, " style=\"background:color-mix(in srgb,var(--cold) %.0f%%,transparent)\"",
             60 * fmin(fmax(isfinite(share) ? share : 0, 0), 1));
}
