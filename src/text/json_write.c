#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/json.h"
#include "text/number.h"
#include "text/utf8.h"

void json_write_init(json_writer *w, buf *out, unsigned style)
{
    *w = (json_writer){.out = out, .style = style};
}

static void new_line(json_writer *w)
{
    buf_addc(w->out, '\n');
    for (unsigned i = 0; i < w->depth * w->indent; i++)
        buf_addc(w->out, ' ');
}

/* What stands in front of an item: nothing behind a key, else a comma and the space it takes. */
static void before_item(json_writer *w)
{
    if (w->after_key) {
        w->after_key = false;
        return;
    }
    if (!w->depth)
        return;
    if (w->some[w->depth])
        buf_adds(w->out, w->style & JSON_SPACED && !w->indent ? ", " : ",");
    w->some[w->depth] = true;
    if (w->indent)
        new_line(w);
}

static void begin(json_writer *w, char bracket)
{
    before_item(w);
    buf_addc(w->out, bracket);
    if (NEVER(w->depth == JSON_MAX_DEPTH)) {
        w->out->st = SPT_E_INTERNAL;
        return;
    }
    w->some[++w->depth] = false;
}

static void end(json_writer *w, char bracket)
{
    if (NEVER(!w->depth)) {
        w->out->st = SPT_E_INTERNAL;
        return;
    }
    const bool some = w->some[w->depth--];
    if (some && w->indent)
        new_line(w);
    buf_addc(w->out, bracket);
}

void json_begin_object(json_writer *w)
{
    begin(w, '{');
}

void json_end_object(json_writer *w)
{
    end(w, '}');
}

void json_begin_array(json_writer *w)
{
    begin(w, '[');
}

void json_end_array(json_writer *w)
{
    end(w, ']');
}

static void add_unit(buf *out, unsigned unit)
{
    static const char hex[] = "0123456789abcdef";
    const char text[6] = {
        '\\', 'u', hex[unit >> 12 & 15], hex[unit >> 8 & 15], hex[unit >> 4 & 15], hex[unit & 15]};
    buf_add(out, text, sizeof text);
}

static void add_escaped(json_writer *w, unsigned char c)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    const char *at = memchr(from, c, 7);
    if (at) {
        const char two[2] = {'\\', to[at - from]};
        buf_add(w->out, two, 2);
    } else {
        add_unit(w->out, c);
    }
}

static void add_beyond_ascii(json_writer *w, const char *p, size_t len, uint32_t cp)
{
    if (!(w->style & JSON_ASCII)) {
        buf_add(w->out, p, len);
    } else if (cp < 0x10000) {
        add_unit(w->out, cp);
    } else {
        add_unit(w->out, 0xd800 + ((cp - 0x10000) >> 10));
        add_unit(w->out, 0xdc00 + ((cp - 0x10000) & 0x3ff));
    }
}

static void add_string(json_writer *w, const char *s, size_t len)
{
    const char *p = s, *stop = s + len, *run = s;
    buf_addc(w->out, '"');
    while (p < stop) {
        const unsigned char c = (unsigned char)*p;
        if (c >= 0x20 && c < 0x7f && c != '"' && c != '\\') {
            p++;
            continue;
        }
        buf_add(w->out, run, (size_t)(p - run));
        if (c < 0x80) {
            if (c == 0x7f && !(w->style & JSON_ASCII))
                buf_addc(w->out, (char)c);
            else
                add_escaped(w, c);
            p++;
        } else {
            uint32_t cp;
            const size_t n = utf8_decode(p, stop, &cp);
            if (n)
                add_beyond_ascii(w, p, n, cp);
            else
                add_beyond_ascii(w, "\xef\xbf\xbd", 3, 0xfffd);
            p += n ? n : 1;
        }
        run = p;
    }
    buf_add(w->out, run, (size_t)(p - run));
    buf_addc(w->out, '"');
}

void json_key_n(json_writer *w, const char *name, size_t len)
{
    before_item(w);
    add_string(w, name, len);
    buf_adds(w->out, w->style & JSON_SPACED || w->indent ? ": " : ":");
    w->after_key = true;
}

void json_key(json_writer *w, const char *name)
{
    json_key_n(w, name, strlen(name));
}

void json_string_n(json_writer *w, const char *s, size_t len)
{
    before_item(w);
    add_string(w, s, len);
}

void json_string(json_writer *w, const char *s)
{
    json_string_n(w, s, strlen(s));
}

void json_raw_n(json_writer *w, const char *json, size_t len)
{
    before_item(w);
    buf_add(w->out, json, len);
}

void json_i64(json_writer *w, int64_t v)
{
    before_item(w);
    buf_addf(w->out, "%lld", (long long)v);
}

void json_u64(json_writer *w, uint64_t v)
{
    before_item(w);
    buf_addf(w->out, "%llu", (unsigned long long)v);
}

static void add_float(json_writer *w, double v, const char *text)
{
    before_item(w);
    if (isfinite(v))
        buf_adds(w->out, text);
    else if (!(w->style & JSON_NAN))
        buf_adds(w->out, "null");
    else
        buf_adds(w->out, isnan(v) ? "NaN" : v > 0 ? "Infinity" : "-Infinity");
}

void json_f64(json_writer *w, double v)
{
    char text[NUMBER_TEXT];
    number_repr(v, text);
    add_float(w, v, text);
}

void json_f32(json_writer *w, float v)
{
    char text[NUMBER_TEXT];
    number_repr_f32(v, text);
    add_float(w, (double)v, text);
}

void json_bool(json_writer *w, bool v)
{
    before_item(w);
    buf_adds(w->out, v ? "true" : "false");
}

void json_null(json_writer *w)
{
    before_item(w);
    buf_adds(w->out, "null");
}
