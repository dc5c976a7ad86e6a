/* text/json: what is accepted is written again and accepted again as the same events; strings are
 * valid UTF-8; json_raw gives the whole document. The first byte holds the flags. */
#include "fuzz/fuzz.h"

#include "text/json.h"
#include "text/number.h"
#include "text/utf8.h"

static void check_text(const struct json_event *ev)
{
    char *text = mem_alloc(ev->len, 1);
    FUZZ_CHECK(text);
    const size_t n = json_unescape(ev, text);
    FUZZ_CHECK(n <= ev->len && utf8_valid(text, n));
    FUZZ_CHECK(ev->escaped || n == ev->len);
    mem_free(text);
}

static void write_event(json_writer *w, const struct json_event *ev, buf *text)
{
    int64_t i;
    double d;
    buf_clear(text);
    switch (ev->kind) {
    case JSON_OBJECT:
        json_begin_object(w);
        break;
    case JSON_OBJECT_END:
        json_end_object(w);
        break;
    case JSON_ARRAY:
        json_begin_array(w);
        break;
    case JSON_ARRAY_END:
        json_end_array(w);
        break;
    case JSON_KEY:
        check_text(ev);
        json_add_text(ev, text);
        json_key_n(w, buf_str(text), text->len);
        break;
    case JSON_STRING:
        check_text(ev);
        json_add_text(ev, text);
        json_string_n(w, buf_str(text), text->len);
        break;
    case JSON_NUMBER:
        if (json_to_i64(ev, &i, NULL) == SPT_OK)
            FUZZ_CHECK(json_to_f64(ev, &d, NULL) == SPT_OK);
        json_raw_n(w, ev->text, ev->len);
        break;
    default:
        json_raw_n(w, ev->text, ev->len);
        break;
    }
}

/* Parses; with out, writes the events in this style. */
static spt_status parse(const void *p, size_t n, unsigned flags, unsigned style, buf *out)
{
    json_reader r;
    json_writer w;
    buf text;
    struct json_event ev = {0};
    spt_err err = {0};
    spt_status st;
    json_open(&r, p, n, flags);
    json_write_init(&w, out, style & JSON_PYTHON);
    w.indent = style >> 4 & 3;
    buf_init(&text, n + 1);
    while ((st = json_next(&r, &ev, &err)) == SPT_OK && ev.kind != JSON_END) {
        FUZZ_CHECK(ev.offset < n && ev.text >= (const char *)p &&
                   ev.text + ev.len <= (const char *)p + n);
        write_event(&w, &ev, &text);
    }
    if (st) {
        FUZZ_CHECK(st == SPT_E_FORMAT && strncmp(err.msg, "line ", 5) == 0);
        FUZZ_CHECK(err.offset <= n);
        FUZZ_CHECK(json_next(&r, &ev, NULL) == st);
    }
    buf_release(&text);
    json_close(&r);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const unsigned flags = data[0] & 1, style = data[0] >> 1;
    const size_t n = size - 1;
    buf first, second;
    fuzz_begin();
    buf_init(&first, SIZE_MAX / 2);
    buf_init(&second, SIZE_MAX / 2);
    const spt_status st = parse(data + 1, n, flags, style, &first);
    if (!st) {
        FUZZ_CHECK(parse(first.data, first.len, flags, style, &second) == SPT_OK);
        FUZZ_CHECK(first.len == second.len && !memcmp(first.data, second.data, first.len));
        if (style & JSON_ASCII)
            for (size_t i = 0; i < first.len; i++)
                FUZZ_CHECK((unsigned char)first.data[i] < 0x80);
    }
    json_reader r;
    const char *raw;
    size_t len;
    json_open(&r, data + 1, n, flags);
    const spt_status skipped = json_raw(&r, &raw, &len, NULL);
    if (!skipped)
        FUZZ_CHECK(raw >= (const char *)data + 1 && len <= n && len > 0);
    FUZZ_CHECK((skipped ? skipped : json_finish(&r, NULL)) == st);
    json_close(&r);
    /* Indentation and \uXXXX make what we wrote longer than what we read. */
    const size_t extra = 2 * (first.cap + second.cap);
    buf_release(&first);
    buf_release(&second);
    fuzz_end(size, extra);
    return 0;
}
