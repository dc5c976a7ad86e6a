/* text/json, text/number: what is read, what is refused and where, what is written. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "text/json.h"
#include "text/number.h"

static spt_status read_all(const char *text, size_t len, unsigned flags, size_t *events,
                           spt_err *err)
{
    /* A copy of exactly this size, so that the sanitizer sees a read past its end. */
    char *copy = mem_alloc(len ? len : 1, 1);
    if (!copy)
        return err_nomem(err, len);
    if (len)
        memcpy(copy, text, len);
    json_reader r;
    json_open(&r, copy, len, flags);
    struct json_event ev = {0};
    spt_status st;
    size_t n = 0;
    do {
        st = json_next(&r, &ev, err);
        n++;
    } while (!st && ev.kind != JSON_END);
    if (st)
        EXPECT_TRUE(json_next(&r, &ev, NULL) == st); /* stays failed */
    json_close(&r);
    mem_free(copy);
    if (events)
        *events = n;
    return st;
}

static void events_come_in_order(void **state)
{
    const char text[] =
        " {\"a\" : [1, -2.5e3, true, null, \"x\\ty\"], \"b\":{}, \"\\u0063\":false } \n";
    static const enum json_kind want[] = {
        JSON_OBJECT, JSON_KEY,    JSON_ARRAY,      JSON_NUMBER, JSON_NUMBER, JSON_TRUE,
        JSON_NULL,   JSON_STRING, JSON_ARRAY_END,  JSON_KEY,    JSON_OBJECT, JSON_OBJECT_END,
        JSON_KEY,    JSON_FALSE,  JSON_OBJECT_END, JSON_END,    JSON_END};
    spt_err err;
    json_reader r;
    json_open(&r, text, sizeof text - 1, 0);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        struct json_event ev;
        EXPECT_OK(json_next(&r, &ev, &err), &err);
        EXPECT_EQ_I64(ev.kind, want[i]);
        if (i == 4) {
            EXPECT_EQ_I64(ev.len, 6);
            EXPECT_TRUE(memcmp(ev.text, "-2.5e3", 6) == 0);
        }
        if (i == 7) {
            char out[16];
            EXPECT_TRUE(ev.escaped);
            EXPECT_EQ_I64(json_unescape(&ev, out), 3);
            EXPECT_TRUE(memcmp(out, "x\ty", 3) == 0);
            EXPECT_EQ_I64(ev.offset, 32);
        }
        if (i == 12) {
            EXPECT_TRUE(json_is(&ev, "c"));
            EXPECT_TRUE(!json_is(&ev, "d"));
            EXPECT_TRUE(!json_is(&ev, "cc"));
            EXPECT_TRUE(!json_is(&ev, ""));
        }
    }
    json_close(&r);
}

static void conveniences_read_a_config(void **state)
{
    const char text[] =
        "{\"d_model\": 512, \"name\": \"t\\u00e9\\ud83d\\ude42\", \"eps\": 1e-6,\n"
        " \"skip\": [[{\"x\": {}}], 3], \"tied\": false, \"big\": 18446744073709551615,"
        " \"raw\": {\"k\": [1, 2]}, \"list\": [3, 4]}";
    spt_err err;
    json_reader r;
    json_open(&r, text, sizeof text - 1, 0);
    int64_t d = 0, sum = 0;
    uint64_t big = 0;
    double eps = 0;
    bool tied = true, more;
    buf name;
    buf_init(&name, 100);
    struct json_event key, item;
    EXPECT_OK(json_enter_object(&r, &err), &err);
    while (json_next_key(&r, &more, &key, &err) == SPT_OK && more) {
        if (json_is(&key, "d_model")) {
            EXPECT_OK(json_read_i64(&r, &d, &err), &err);
        } else if (json_is(&key, "name")) {
            EXPECT_OK(json_read_text(&r, &name, &err), &err);
        } else if (json_is(&key, "eps")) {
            EXPECT_OK(json_read_f64(&r, &eps, &err), &err);
        } else if (json_is(&key, "tied")) {
            EXPECT_OK(json_read_bool(&r, &tied, &err), &err);
        } else if (json_is(&key, "big")) {
            EXPECT_OK(json_read_u64(&r, &big, &err), &err);
        } else if (json_is(&key, "raw")) {
            const char *raw;
            size_t len;
            EXPECT_OK(json_raw(&r, &raw, &len, &err), &err);
            EXPECT_EQ_I64(len, 13);
            EXPECT_TRUE(memcmp(raw, "{\"k\": [1, 2]}", 13) == 0);
        } else if (json_is(&key, "list")) {
            EXPECT_OK(json_enter_array(&r, &err), &err);
            while (json_next_item(&r, &more, &item, &err) == SPT_OK && more) {
                int64_t v;
                EXPECT_OK(json_to_i64(&item, &v, &err), &err);
                sum += v;
            }
        } else {
            EXPECT_OK(json_skip(&r, &err), &err);
        }
    }
    EXPECT_OK(json_finish(&r, &err), &err);
    json_close(&r);
    EXPECT_EQ_I64(d, 512);
    EXPECT_EQ_I64(sum, 7);
    EXPECT_EQ_F64(eps, 1e-6);
    EXPECT_TRUE(!tied && big == UINT64_MAX);
    EXPECT_STR(buf_str(&name), "t\xc3\xa9\xf0\x9f\x99\x82");
    buf_release(&name);
}

static void wrong_documents_are_refused(void **state)
{
    static const struct {
        const char *text;
        const char *part;
    } cases[] = {
        {"", "ends where a value"},
        {"  ", "ends where a value"},
        {"{", "ends where a key"},
        {"[", "ends where a value"},
        {"[1", "',' or ']'"},
        {"[1,]", "']' where a value"},
        {"[1 2]", "'2' where ',' or ']'"},
        {"{\"a\"}", "'}' where ':'"},
        {"{\"a\":}", "'}' where a value"},
        {"{\"a\":1,}", "a key in double quotes"},
        {"{a:1}", "a key in double quotes"},
        {"{'a':1}", "a key in double quotes"},
        {"1 2", "'2' where the end"},
        {"{} {}", "'{' where the end"},
        {"01", "leading zero"},
        {"-", "without a number"},
        {"1.", "behind its point"},
        {"1e", "exponent"},
        {"+1", "'+' where a value"},
        {".5", "'.' where a value"},
        {"NaN", "'N' where a value"},
        {"Infinity", "'I' where a value"},
        {"nul", "'n' where a value"},
        {"\"abc", "does not end"},
        {"\"a\nb\"", "control character 0x0a"},
        {"\"\\x\"", "unknown escape"},
        {"\"\\u12g4\"", "four hexadecimal"},
        {"\"\\ud83d\"", "half of a surrogate pair"},
        {"\"\\ud83d here\"", "half of a surrogate pair"},
        {"\"\\ude42\"", "half of a surrogate pair"},
        {"\"\\ud83d\\ud83d\"", "half of a surrogate pair"},
        {"\"\xff\"", "not UTF-8 (byte 0xff)"},
        {"\"\xc0\x80\"", "not UTF-8"},
        {"\"\xed\xa0\x80\"", "not UTF-8"},
        {"{\"a\":1,\n\"b\":2,\"a\":3}", "line 2, byte 14: the key \"a\" stands twice"},
        {"{\"a\":1,\"\\u0061\":3}", "stands twice"},
        {"{\"x\":{\"a\":1},\"a\":1,\"y\":[{\"a\":2,\"a\":3}]}", "stands twice"},
        {"\xef\xbb\xbf{}", "byte 0xef where a value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spt_err err;
        EXPECT_STATUS(read_all(cases[i].text, strlen(cases[i].text), 0, NULL, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, cases[i].part);
        EXPECT_MSG(&err, "line ");
    }
    spt_err err;
    EXPECT_OK(read_all("[NaN, -Infinity, Infinity]", 26, JSON_PYTHON_NAN, NULL, &err), &err);
    EXPECT_STATUS(read_all("1\0", 2, 0, NULL, &err), SPT_E_FORMAT);
}

static void every_truncation_is_refused(void **state)
{
    const char text[] =
        "{\"a\": [1.5e3, true, \"\\ud83d\\ude42 \xc3\xa9\\n\", {\"b\": null}], \"c\": \"\"}";
    spt_err err;
    for (size_t n = 0; n < sizeof text - 1; n++)
        EXPECT_STATUS(read_all(text, n, 0, NULL, &err), SPT_E_FORMAT);
    EXPECT_OK(read_all(text, sizeof text - 1, 0, NULL, &err), &err);
}

static void depth_is_limited(void **state)
{
    char text[2 * (JSON_MAX_DEPTH + 1)];
    spt_err err;
    memset(text, '[', JSON_MAX_DEPTH);
    memset(text + JSON_MAX_DEPTH, ']', JSON_MAX_DEPTH);
    EXPECT_OK(read_all(text, 2 * JSON_MAX_DEPTH, 0, NULL, &err), &err);
    memset(text, '[', JSON_MAX_DEPTH + 1);
    EXPECT_STATUS(read_all(text, JSON_MAX_DEPTH + 1, 0, NULL, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "nested deeper than 64");
}

/* {"k0":0,...}: keys in a scrambled order; `twice` repeats one of them (escaped) at the end. */
static void many_keys(buf *b, int n, int twice)
{
    buf_adds(b, "[{\"a\":1},{");
    for (int i = 0; i < n; i++)
        buf_addf(b, "%s\"k%d\":0", i ? "," : "", i * 7919 % n);
    if (twice >= 0)
        buf_addf(b, ",\"\\u006b%d\":0", twice);
    buf_adds(b, "}]");
}

static void doubled_keys_are_found_in_large_objects(void **state)
{
    for (int n = 14; n < 40; n++) {
        for (int twice = -1; twice < n; twice++) {
            buf b;
            spt_err err;
            buf_init(&b, 1 << 20);
            many_keys(&b, n, twice);
            const spt_status st = read_all(buf_str(&b), b.len, 0, NULL, &err);
            EXPECT_EQ_I64(st, twice < 0 ? SPT_OK : SPT_E_FORMAT);
            if (twice >= 0)
                EXPECT_MSG(&err, "stands twice");
            buf_release(&b);
        }
    }
}

static spt_status read_many(void *ctx, spt_err *err)
{
    const buf *b = ctx;
    return read_all(buf_str(b), b->len, 0, NULL, err);
}

static void memory_is_bounded_and_may_fail(void **state)
{
    buf b;
    buf_init(&b, 1 << 24);
    buf_adds(&b, "{");
    for (int i = 0; i < 50000; i++)
        buf_addf(&b, "%s\"%x\":1", i ? "," : "", i);
    buf_adds(&b, "}");
    fault_install();
    fault_reset_peak();
    spt_err err;
    EXPECT_OK(read_many(&b, &err), &err);
    EXPECT_TRUE(fault_peak_bytes() <= 16 * b.len + (1 << 20));
    EXPECT_TRUE(fault_every_alloc(read_many, &b) > 3);
    fault_remove();
    buf_release(&b);
}

static void readers_are_reused_without_allocating(void **state)
{
    json_reader r;
    spt_err err;
    json_open(&r, NULL, 0, 0);
    for (int i = 0; i < 3; i++) {
        json_reopen(&r, "{\"a\":1}", 7);
        EXPECT_OK(json_skip(&r, &err), &err);
        EXPECT_OK(json_finish(&r, &err), &err);
        json_reopen(&r, "{\"a\":1", 6);
        EXPECT_STATUS(json_skip(&r, &err), SPT_E_FORMAT);
    }
    json_close(&r);
}

static void integers_are_exact(void **state)
{
    int64_t v = 7;
    uint64_t u;
    EXPECT_TRUE(number_i64("-9223372036854775808", 20, &v) && v == INT64_MIN);
    EXPECT_TRUE(number_i64("9007199254740993", 16, &v) && v == 9007199254740993);
    EXPECT_TRUE(!number_i64("9223372036854775808", 19, &v));
    EXPECT_TRUE(!number_i64("-9223372036854775809", 20, &v));
    EXPECT_TRUE(!number_i64("", 0, &v) && !number_i64("-", 1, &v) && !number_i64("-+1", 3, &v));
    EXPECT_TRUE(!number_i64("3.0", 3, &v) && !number_i64(" 3", 2, &v));
    EXPECT_TRUE(number_u64("18446744073709551615", 20, &u) && u == UINT64_MAX);
    EXPECT_TRUE(!number_u64("18446744073709551616", 20, &u) && !number_u64("-1", 2, &u));
    EXPECT_EQ_I64(v, 9007199254740993);
    double d;
    EXPECT_TRUE(number_f64("1e400", 5, &d) && isinf(d));
    EXPECT_TRUE(number_f64("-.5", 3, &d) && d == -0.5);
    EXPECT_TRUE(number_f64("1.", 2, &d) && d == 1);
    EXPECT_TRUE(number_f64("-Infinity", 9, &d) && isinf(d) && d < 0);
    EXPECT_TRUE(number_f64("NaN", 3, &d) && isnan(d));
    EXPECT_TRUE(!number_f64("0x10", 4, &d) && !number_f64(".", 1, &d) && !number_f64("1e", 2, &d));
    EXPECT_TRUE(!number_f64("1 ", 2, &d) && !number_f64("", 0, &d) && !number_f64("1_0", 3, &d));
}

static void floats_print_as_python_does(void **state)
{
    static const struct {
        double v;
        const char *text;
    } cases[] = {
        {0.1, "0.1"},
        {1, "1.0"},
        {-0.0, "-0.0"},
        {1e16, "1e+16"},
        {9999999999999998, "9999999999999998.0"},
        {1e15, "1000000000000000.0"},
        {123456789012345680, "1.2345678901234568e+17"},
        {0.0001, "0.0001"},
        {0.00001, "1e-05"},
        {1.5e-7, "1.5e-07"},
        {5e-324, "5e-324"},
        {2.2250738585072014e-308, "2.2250738585072014e-308"},
        {1.7976931348623157e308, "1.7976931348623157e+308"},
        {0.1 + 0.2, "0.30000000000000004"},
        {100, "100.0"},
        {1e-100, "1e-100"},
        {22.02381, "22.02381"},
        {1.0 / 3, "0.3333333333333333"},
        {1e22, "1e+22"},
        {-123.456, "-123.456"},
    };
    char out[NUMBER_TEXT];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        number_repr(cases[i].v, out);
        EXPECT_STR(out, cases[i].text);
    }
    number_repr_f32(0.1f, out);
    EXPECT_STR(out, "0.1");
    number_repr_f32(1e-45f, out);
    EXPECT_STR(out, "1e-45");
    number_repr_f32(16777216.0f, out);
    EXPECT_STR(out, "16777216.0");
    uint64_t x = 88172645463325252u;
    for (int i = 0; i < 200000; i++) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        double v, back;
        memcpy(&v, &x, sizeof v);
        if (!isfinite(v))
            continue;
        const size_t n = number_repr(v, out);
        EXPECT_TRUE(n < NUMBER_TEXT && number_f64(out, n, &back) && back == v);
    }
}

static void writing_equals_python(void **state)
{
    buf b;
    json_writer w;
    buf_init(&b, 10000);
    json_write_init(&w, &b, JSON_PYTHON);
    json_begin_object(&w);
    json_key(&w, "a\"b");
    json_begin_array(&w);
    json_i64(&w, -3);
    json_f64(&w, 0.5);
    json_f64(&w, NAN);
    json_bool(&w, true);
    json_null(&w);
    json_string_n(&w, "\xc3\xa9\xf0\x9f\x99\x82\x7f\x01\n\\\0", 11);
    json_end_array(&w);
    json_key(&w, "e");
    json_begin_object(&w);
    json_end_object(&w);
    json_end_object(&w);
    EXPECT_STR(buf_str(&b), "{\"a\\\"b\": [-3, 0.5, NaN, true, null, "
                            "\"\\u00e9\\ud83d\\ude42\\u007f\\u0001\\n\\\\\\u0000\"], \"e\": {}}");
    buf_clear(&b);
    json_write_init(&w, &b, JSON_PYTHON_UTF8);
    w.indent = 2;
    json_begin_object(&w);
    json_key(&w, "\xc3\xa9");
    json_begin_array(&w);
    json_u64(&w, UINT64_MAX);
    json_string(&w, "\x7f\xff");
    json_end_array(&w);
    json_key(&w, "z");
    json_begin_array(&w);
    json_end_array(&w);
    json_end_object(&w);
    EXPECT_STR(buf_str(&b),
               "{\n  \"\xc3\xa9\": [\n    18446744073709551615,\n    \"\x7f\xef\xbf\xbd\"\n"
               "  ],\n  \"z\": []\n}");
    buf_clear(&b);
    json_write_init(&w, &b, 0);
    json_begin_array(&w);
    json_f64(&w, INFINITY);
    json_raw_n(&w, "{}", 2);
    json_end_array(&w);
    EXPECT_STR(buf_str(&b), "[null,{}]");
    buf_release(&b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(events_come_in_order),
        cmocka_unit_test(conveniences_read_a_config),
        cmocka_unit_test(wrong_documents_are_refused),
        cmocka_unit_test(every_truncation_is_refused),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(doubled_keys_are_found_in_large_objects),
        cmocka_unit_test(memory_is_bounded_and_may_fail),
        cmocka_unit_test(readers_are_reused_without_allocating),
        cmocka_unit_test(integers_are_exact),
        cmocka_unit_test(floats_print_as_python_does),
        cmocka_unit_test(writing_equals_python),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
