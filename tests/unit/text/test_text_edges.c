/* text/: the edges that no well-formed input meets: sources that fail at every read, allocations that
 * fail, wrong kinds of JSON values asked for by the readers, encodings told by their first bytes, limits of
 * numbers and patterns, lower case as Python's. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "text/json.h"
#include "text/number.h"
#include "text/regex.h"
#include "text/table.h"
#include "text/unicode.h"
#include "text/utf8.h"

/* --- tables ------------------------------------------------------------------------------------- */

struct source {
    const char *p;
    size_t left;
    int64_t fails_at; /* number of the read that fails; 0: none */
    int64_t reads;
};

static spt_status read_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    if (++s->reads == s->fails_at)
        return err_set(err, SPT_E_IO, "the disk failed");
    *got = n < s->left ? n : s->left;
    memcpy(p, s->p, *got);
    s->p += *got;
    s->left -= *got;
    return SPT_OK;
}

struct table_case {
    struct table_options o;
    const char *text;
    size_t len;
    struct source s;
};

static spt_status read_table(void *ctx, spt_err *err)
{
    struct table_case *c = ctx;
    table_reader *t = NULL;
    struct table_row row;
    bool more = true;
    const int64_t fails_at = c->s.fails_at;
    c->s = (struct source){c->text, c->len, fails_at, 0};
    spt_status st = table_open(&c->o, read_source, &c->s, &t, err);
    while (!st && more)
        st = table_next(t, &row, &more, err);
    if (st && t) { /* a reader that failed stays failed */
        EXPECT_STATUS(table_next(t, &row, &more, NULL), st);
    }
    table_close(t);
    return st;
}

#define T(which, text) {{.kind = which}, text, sizeof(text) - 1, {0}}
static struct table_case tables[] = {
    T(TABLE_TSV, "a\tb\r\nlonger field\t\n\n\xc3\xa9\t2"),
    T(TABLE_TSV, "a\tb\rc\td\r"),
    T(TABLE_CSV, "sep=;\r\na;b\r\n\"x\r\ny\"\"z\";2\r\n"),
    T(TABLE_CSV, "sep=|\na|b\n"),
    T(TABLE_CSV, "sep=;\ra;b\r"),
    T(TABLE_CSV, "se,p\n\"q\",\"a long quoted field with, commas\"\n\n"),
    T(TABLE_CSV, "\xef\xbb\xbf" "a,b\n\xef\xbb\xbf\"c\",d\n"),
    T(TABLE_JSONL, "{\"a\": 1, \"b\": \"x\\ny\", \"c\": [1, {\"d\": null}], \"e\": true}\r\n\n \t\n{\"a\": 2.5e3}"),
    T(TABLE_JSONL, "{}\n{\"k\": {\"l\": [[]]}}\n"),
};
enum { TABLES = sizeof tables / sizeof *tables };

static void a_source_fails_at_every_read(void **state)
{
    (void)state;
    int64_t failures = 0;
    for (size_t i = 0; i < TABLES; i++) {
        for (size_t block = 1; block < 20; block += 6) {
            struct table_case c = tables[i];
            spt_err err = {0};
            c.o.block = block;
            EXPECT_OK(read_table(&c, &err), &err);
            const int64_t n = c.s.reads;
            for (int64_t k = 1; k <= n; k++, failures++) {
                c.s.fails_at = k;
                EXPECT_STATUS(read_table(&c, &err), SPT_E_IO);
                EXPECT_MSG(&err, "the disk failed");
            }
        }
    }
    print_message("%lld failing reads\n", (long long)failures);
    EXPECT_TRUE(failures > 300);
}

static void every_allocation_of_a_table_fails(void **state)
{
    (void)state;
    for (size_t i = 0; i < TABLES; i++) {
        struct table_case c = tables[i];
        fault_every_alloc(read_table, &c);
        c.o.block = 1;
        fault_every_alloc(read_table, &c);
    }
    /* Many columns, long records: the storage grows. */
    static char wide[20000], deep[20000];
    for (size_t i = 0; i < sizeof wide - 1; i++)
        wide[i] = i % 2 ? ',' : 'x';
    struct table_case c = {{.kind = TABLE_CSV}, wide, sizeof wide - 1, {0}};
    fault_every_alloc(read_table, &c);
    size_t n = (size_t)snprintf(deep, sizeof deep, "{");
    for (int i = 0; i < 600; i++)
        n += (size_t)snprintf(deep + n, sizeof deep - n, "%s\"k%d\": %d", i ? ", " : "", i, i);
    n += (size_t)snprintf(deep + n, sizeof deep - n, "}\n");
    c = (struct table_case){{.kind = TABLE_JSONL, .block = 64}, deep, n, {0}};
    fault_every_alloc(read_table, &c);
}

static void refused_table(const struct table_options *o, const char *text, size_t len, spt_status want,
                          const char *part)
{
    struct table_case c = {*o, text, len, {0}};
    spt_err err = {0};
    const spt_status st = read_table(&c, &err);
    if (st != want || !strstr(err.msg, part))
        fail_msg("%s: %s (%s), wanted \"%s\"", text, spt_status_text(st), err.msg, part);
}
#define REFUSED(o, text, want, part) refused_table(&(struct table_options)o, text, sizeof(text) - 1, want, part)
#define O(...) {__VA_ARGS__}

static void tables_are_refused_by_reason(void **state)
{
    (void)state;
    REFUSED(O(.kind = TABLE_CSV, .delimiter = '\n'), "a\n", SPT_E_CONFIG, "one ASCII character");
    REFUSED(O(.kind = TABLE_CSV, .delimiter = '\r'), "a\n", SPT_E_CONFIG, "one ASCII character");
    REFUSED(O(.kind = TABLE_CSV, .delimiter = '"'), "a\n", SPT_E_CONFIG, "one ASCII character");
    REFUSED(O(.kind = TABLE_CSV, .delimiter = '\xe9'), "a\n", SPT_E_CONFIG, "one ASCII character");
    REFUSED(O(.kind = TABLE_CSV), "a;b\n", SPT_E_FORMAT, "--delimiter ';'");
    REFUSED(O(.kind = TABLE_CSV), "a\tb\n", SPT_E_FORMAT, "--delimiter tab");
    REFUSED(O(.kind = TABLE_TSV), "\xff\xfe" "a\0b\0", SPT_E_FORMAT, "UTF-16 (little endian)");
    REFUSED(O(.kind = TABLE_TSV), "\xfe\xff\0a\0b", SPT_E_FORMAT, "UTF-16 (big endian)");
    REFUSED(O(.kind = TABLE_TSV), "\xff\xfe\0\0a\0\0\0", SPT_E_FORMAT, "UTF-32 (little endian)");
    REFUSED(O(.kind = TABLE_TSV), "\0\0\xfe\xff\0\0\0a", SPT_E_FORMAT, "UTF-32 (big endian)");
    REFUSED(O(.kind = TABLE_TSV, .max_record = 8, .block = 3), "0123456789\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_CSV, .max_record = 8, .block = 3), "\"0123456789\"\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_JSONL, .max_record = 8, .block = 3), "{\"a\": 12345}\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_JSONL), "{\"a\": 1} x\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_JSONL), "{\"a\": 1}\n[1]\n", SPT_E_FORMAT, "line 2");
    REFUSED(O(.kind = TABLE_JSONL), "{\"a\": [1, }\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_CSV), "a\n\"b\n", SPT_E_FORMAT, "line 2");
    REFUSED(O(.kind = TABLE_CSV), "\"a\"b\n", SPT_E_FORMAT, "line 1");
    REFUSED(O(.kind = TABLE_TSV), "a\tb\nc\rd\n", SPT_E_FORMAT, "line 2");
    REFUSED(O(.kind = TABLE_TSV), "a\n\xc3\n", SPT_E_FORMAT, "line 2");
    REFUSED(O(.kind = TABLE_TSV), "a\nb\0c\n", SPT_E_FORMAT, "line 2");
}

/* --- encodings -------------------------------------------------------------------------------- */

static void expect_encoding(const char *p, size_t n, enum text_encoding want, size_t mark)
{
    size_t bom = 99;
    if (text_detect(p, n, &bom) != want || bom != mark)
        fail_msg("%s with a mark of %zu, wanted %s", text_encoding_name(text_detect(p, n, &bom)), bom,
                 text_encoding_name(want));
}
#define ENCODING(text, want, mark) expect_encoding(text, sizeof(text) - 1, want, mark)

static void encodings_by_their_first_bytes(void **state)
{
    (void)state;
    ENCODING("", TEXT_UTF8, 0);
    ENCODING("\xef\xbb\xbf", TEXT_UTF8, 3);
    ENCODING("\xef\xbb\xbf\xef\xbb\xbf\xef\xbb", TEXT_UTF8, 6);
    ENCODING("\xef\xbb", TEXT_UTF8, 0);
    ENCODING("\xef\xbc\xbf", TEXT_UTF8, 0);
    ENCODING("\xff", TEXT_UTF8, 0);
    ENCODING("\xff\xfe", TEXT_UTF16LE, 2);
    ENCODING("\xff\xfe\0", TEXT_UTF16LE, 2);
    ENCODING("\xff\xfe\0\1", TEXT_UTF16LE, 2);
    ENCODING("\xff\xfe\1\0", TEXT_UTF16LE, 2);
    ENCODING("\xff\xfd", TEXT_UTF8, 0);
    ENCODING("\xfe\xff", TEXT_UTF16BE, 2);
    ENCODING("\xfe\xfe", TEXT_UTF8, 0);
    ENCODING("\xff\xfe\0\0", TEXT_UTF32LE, 4);
    ENCODING("\0\0\xfe\xff", TEXT_UTF32BE, 4);
    ENCODING("\0\0\xfe\xfe", TEXT_UTF8, 0);
    ENCODING("\0\0\xff\xff", TEXT_UTF8, 0);
    ENCODING("\0\1\xfe\xff", TEXT_UTF8, 0);
    ENCODING("a\0b\0c\0d\0", TEXT_UTF16LE, 0);
    ENCODING("\0a\0b\0c\0d", TEXT_UTF16BE, 0);
    ENCODING("a\0b\0\1\2d\0", TEXT_UTF16LE, 0);
    ENCODING("a\0\0\0b\0\0\0", TEXT_UTF32LE, 0);
    ENCODING("\0\0\0a\0\0\0b", TEXT_UTF32BE, 0);
    ENCODING("a\0\0\0", TEXT_UTF8, 0); /* too little to judge */
    ENCODING("\0\0\0\0\0\0\0\0", TEXT_UTF8, 0);
    ENCODING("a\0\0\0b\0\0c", TEXT_UTF8, 0);
    ENCODING("a\0\0\0b\0c\0", TEXT_UTF8, 0);
    ENCODING("a\0\0\0bc\0\0", TEXT_UTF8, 0);
    ENCODING("\0\0\0a\0\0b\0", TEXT_UTF8, 0);
    ENCODING("\0\0\0a\0b\0c", TEXT_UTF8, 0);
    ENCODING("\0\0\0a\1\0\0c", TEXT_UTF8, 0);
    ENCODING("abcdefgh", TEXT_UTF8, 0);
}

static void four_byte_characters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t n;
        uint32_t cp;
    } cases[] = {
        {"\xf0\x90\x80\x80", 4, 0x10000}, {"\xf4\x8f\xbf\xbf", 4, 0x10ffff}, {"\xf0\x8f\x80\x80", 0, 0},
        {"\xf4\x90\x80\x80", 0, 0},       {"\xf5\x80\x80\x80", 0, 0},        {"\xf0\x90\x80", 0, 0},
        {"\xf0\xc0\x80\x80", 0, 0},       {"\xf0\x90\xc0\x80", 0, 0},        {"\xf0\x90\x80\xc0", 0, 0},
        {"\xed\xa0\x80", 0, 0},           {"\xe0\x9f\x80", 0, 0},            {"\xe1\x80\xc0", 0, 0},
        {"\xe1\x80", 0, 0},               {"\xc1\xbf", 0, 0},                {"\x80", 0, 0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint32_t cp = 0;
        const char *p = cases[i].text;
        EXPECT_EQ_I64(utf8_decode(p, p + strlen(p), &cp), cases[i].n);
        EXPECT_EQ_I64(cp, cases[i].cp);
        EXPECT_EQ_I64(unicode_next(p, p + strlen(p), &cp), cases[i].n ? cases[i].n : 1);
        EXPECT_EQ_I64(cp, cases[i].n ? cases[i].cp : 0xfffd);
    }
    char out[4];
    EXPECT_EQ_I64(utf8_encode(0xd800, out), 0);
    EXPECT_EQ_I64(utf8_encode(0xdfff, out), 0);
    EXPECT_EQ_I64(utf8_encode(0xe000, out), 3);
    EXPECT_EQ_I64(utf8_encode(0x110000, out), 0);
}

/* --- characters: wanted values are those of Python 3.11 --------------------------------------- */

static void classes_and_lower_case(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } lower[] = {
        {"ABC xyz 012", "abc xyz 012"},
        {"\xc3\x84\xc3\x96", "\xc3\xa4\xc3\xb6"},
        {"\xce\x91\xce\xa3", "\xce\xb1\xcf\x82"},              /* a final sigma */
        {"\xce\xa3", "\xcf\x83"},                              /* alone: not final */
        {"\xce\x91\xce\xa3\xce\x91", "\xce\xb1\xcf\x83\xce\xb1"}, /* in the middle */
        {"\xce\x91\xce\xa3'\xce\x91", "\xce\xb1\xcf\x83'\xce\xb1"},
        {"\xce\x91\xce\xa3, b", "\xce\xb1\xcf\x82, b"},
        {"\xce\x91.\xce\xa3", "\xce\xb1.\xcf\x82"},
        {"A,\xce\xa3", "a,\xcf\x83"},
        {"\xc4\xb0", "i\xcc\x87"},
        {"\xff" "A", "\xef\xbf\xbd" "a"},
        {"\xd3\x80\xd3\x81", "\xd3\x8f\xd3\x82"},              /* U+04C0, U+04C1 */
    };
    for (size_t i = 0; i < sizeof lower / sizeof *lower; i++) {
        buf out;
        buf_init(&out, 1000);
        unicode_add_lower(lower[i].text, strlen(lower[i].text), &out);
        EXPECT_STR(buf_str(&out), lower[i].want);
        buf_release(&out);
    }
    EXPECT_EQ_I64(unicode_lower(0x10ffff), 0x10ffff);
    EXPECT_EQ_I64(unicode_lower(0x10400), 0x10428);
    EXPECT_EQ_I64(unicode_lower('@'), '@');
    EXPECT_EQ_I64(unicode_lower('['), '[');
    EXPECT_EQ_I64(unicode_lower(0x130), 'i');
    EXPECT_TRUE(unicode_is_letter('a') && unicode_is_letter(0x4e00) && !unicode_is_letter('1'));
    EXPECT_TRUE(unicode_is_number('7') && unicode_is_number(0x2160) && !unicode_is_number('x'));
    EXPECT_TRUE(unicode_is_punct('!') && !unicode_is_punct('+') && unicode_is_symbol('+'));
    EXPECT_TRUE(unicode_is_word('_') && unicode_is_word('q') && unicode_is_word('9') && !unicode_is_word('-'));
    EXPECT_TRUE(!unicode_is_letter(0x10ffff) && !unicode_is_symbol(0));
    static const uint32_t spaces[] = {9,      10,     13,     0x1c,   0x20,   0x85,   0xa0,  0x1680, 0x2000,
                                      0x200a, 0x2028, 0x2029, 0x202f, 0x205f, 0x3000};
    static const uint32_t others[] = {8, 14, 0x1b, 0x21, 0x84, 0xa1, 0x1681, 0x1fff, 0x200b, 0x202a, 0x2060, 0x3001};
    for (size_t i = 0; i < sizeof spaces / sizeof *spaces; i++)
        EXPECT_TRUE(unicode_is_space(spaces[i]));
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        EXPECT_TRUE(!unicode_is_space(others[i]));
}

/* --- numbers --------------------------------------------------------------------------------- */

static void numbers_at_their_edges(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool ok;
        double want;
    } f64[] = {
        {"inf", true, INFINITY},   {"-Infinity", true, -INFINITY}, {"+inf", true, INFINITY}, {"infinit", false, 0},
        {"1e400", true, INFINITY}, {"-1e400", true, -INFINITY},    {"1e-400", true, 0},      {"", false, 0},
        {"+", false, 0},           {"-", false, 0},                {".", false, 0},          {"1.", true, 1},
        {".5", true, 0.5},         {"1e", false, 0},               {"1e+", false, 0},        {"1E5", true, 1e5},
        {"0x1", false, 0},         {"1 ", false, 0},               {"1_0", false, 0},        {"--1", false, 0},
        {"1e-", false, 0},         {"1.e2", true, 100},            {"..1", false, 0},
    };
    for (size_t i = 0; i < sizeof f64 / sizeof *f64; i++) {
        double v = -77;
        const bool ok = number_f64(f64[i].text, strlen(f64[i].text), &v);
        if (ok != f64[i].ok || (ok ? v != f64[i].want : v != -77))
            fail_msg("\"%s\": %d, %g", f64[i].text, ok, v);
    }
    double v;
    EXPECT_TRUE(number_f64("nan", 3, &v) && isnan(v));
    EXPECT_TRUE(number_f64("-NaN", 4, &v) && isnan(v));
    static char many[3000];
    memset(many, '1', sizeof many);
    EXPECT_TRUE(!number_f64(many, sizeof many, &v));
    uint64_t u = 1;
    int64_t n = 1;
    EXPECT_TRUE(number_u64("+18446744073709551615", 21, &u) && u == UINT64_MAX);
    EXPECT_TRUE(!number_u64("18446744073709551616", 20, &u) && !number_u64("-1", 2, &u) && !number_u64("+", 1, &u));
    EXPECT_TRUE(number_i64("-9223372036854775808", 20, &n) && n == INT64_MIN);
    EXPECT_TRUE(!number_i64("9223372036854775808", 19, &n) && !number_i64("-9223372036854775809", 20, &n));
    char text[NUMBER_TEXT];
    number_repr(-INFINITY, text);
    EXPECT_STR(text, "-inf");
    number_repr(INFINITY, text);
    EXPECT_STR(text, "inf");
    number_repr(NAN, text);
    EXPECT_STR(text, "nan");
    number_repr_f32(-INFINITY, text);
    EXPECT_STR(text, "-inf");
    number_repr(1e16, text);
    EXPECT_STR(text, "1e+16");
    number_repr(123456.789e-10, text);
    EXPECT_STR(text, "1.23456789e-05");
    number_repr_f32(0.1f, text);
    EXPECT_STR(text, "0.1");
    number_repr(5e-324, text);
    EXPECT_STR(text, "5e-324");
}

/* --- JSON ------------------------------------------------------------------------------------- */

enum ask { TEXT, I64, U64, F64, BOOL, OBJECT, ARRAY, SKIP, FINISH, ITEM, KEY };

static spt_status ask(enum ask what, json_reader *r, spt_err *err)
{
    buf b;
    int64_t i;
    uint64_t u;
    double d;
    bool yes;
    struct json_event ev;
    spt_status st = SPT_E_INTERNAL;
    buf_init(&b, 100);
    switch (what) {
    case TEXT: st = json_read_text(r, &b, err); break;
    case I64: st = json_read_i64(r, &i, err); break;
    case U64: st = json_read_u64(r, &u, err); break;
    case F64: st = json_read_f64(r, &d, err); break;
    case BOOL: st = json_read_bool(r, &yes, err); break;
    case OBJECT: st = json_enter_object(r, err); break;
    case ARRAY: st = json_enter_array(r, err); break;
    case SKIP: st = json_skip(r, err); break;
    case FINISH: st = json_finish(r, err); break;
    case ITEM: st = json_enter_array(r, err); st = st ? st : json_next_item(r, &yes, &ev, err); break;
    case KEY: st = json_enter_object(r, err); st = st ? st : json_next_key(r, &yes, &ev, err); break;
    }
    buf_release(&b);
    return st;
}

static void values_of_the_wrong_kind(void **state)
{
    (void)state;
    static const char *const texts[] = {"\"a\"", "1", "-1", "1.5", "true", "null", "{}", "[]", "", "{", "[1",
                                        "nul", "18446744073709551616", "1e999", "\"\\ud800\"", "{\"a\"", "]"};
    /* One letter per text: y accepted, n refused. */
    static const char *const want[] = {
        [TEXT] = "ynnnnnnnnnnnnnnnn", [I64] = "nyynnnnnnnnnnnnnn", [U64] = "nynnnnnnnnnnnnnnn",
        [F64] = "nyyynnnnnnnnyynnn",  [BOOL] = "nnnnynnnnnnnnnnnn", [OBJECT] = "nnnnnnynnynnnnnyn",
        [ARRAY] = "nnnnnnnynnynnnnnn", [SKIP] = "yyyyyyyynnnnyynnn", [FINISH] = "nnnnnnnnynnnnnnnn",
        [ITEM] = "nnnnnnnynnynnnnnn", [KEY] = "nnnnnnynnnnnnnnnn",
    };
    for (size_t k = 0; k < sizeof want / sizeof *want; k++) {
        for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
            json_reader r;
            spt_err err = {0};
            json_open(&r, texts[i], strlen(texts[i]), 0);
            const spt_status st = ask((enum ask)k, &r, &err);
            const bool ok = want[k][i] == 'y';
            if (k == FINISH && !texts[i][0]) { /* an empty text is no document */
                json_close(&r);
                continue;
            }
            if ((st == SPT_OK) != ok || (st && (st != SPT_E_FORMAT || !strstr(err.msg, "line 1"))))
                fail_msg("asked %zu of %s: %s (%s)", k, texts[i], spt_status_text(st), err.msg);
            if (st) /* and stays refused */
                EXPECT_STATUS(ask((enum ask)k, &r, NULL), st);
            json_close(&r);
        }
    }
}

static void numbers_out_of_range_are_named(void **state)
{
    (void)state;
    static const char *const bad[] = {"99999999999999999999", "-99999999999999999999", "1.0",
        "123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890"};
    for (size_t i = 0; i < 4; i++) {
        json_reader r;
        struct json_event ev;
        spt_err err = {0};
        int64_t v;
        uint64_t u;
        json_open(&r, bad[i], strlen(bad[i]), 0);
        EXPECT_OK(json_next(&r, &ev, &err), &err);
        EXPECT_STATUS(json_to_i64(&ev, &v, &err), SPT_E_FORMAT);
        EXPECT_STATUS(json_to_u64(&ev, &u, &err), SPT_E_FORMAT);
        json_close(&r);
        json_open(&r, bad[i], strlen(bad[i]), 0);
        EXPECT_STATUS(json_read_u64(&r, &u, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "line 1");
        json_close(&r);
    }
    const struct json_event none = {.kind = JSON_NULL};
    double d;
    spt_err err = {0};
    EXPECT_STATUS(json_to_f64(&none, &d, &err), SPT_E_FORMAT);
}

/* Keys that are equal after unescaping are doubled, whatever their spelling; different ones with the
 * same beginning are not. */
static void keys_are_compared_as_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool doubled;
    } cases[] = {
        {"{\"a\\u0062\": 1, \"ab\": 2}", true},
        {"{\"ab\": 1, \"a\\u0062\": 2}", true},
        {"{\"a\\u0062\": 1, \"\\u0061b\": 2}", true},
        {"{\"\\ud83d\\ude00\": 1, \"\xf0\x9f\x98\x80\": 2}", true},
        {"{\"a\\u0062\": 1, \"\\u0061c\": 2}", false},
        {"{\"a\\u0062\": 1, \"abc\": 2, \"a\": 3}", false},
        {"{\"\\n\": 1, \"\\u000a\": 2}", true},
        {"{\"\\t\": 1, \"\\n\": 2, \"\\/\": 3, \"\\\\\": 4}", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_reader r;
        spt_err err = {0};
        json_open(&r, cases[i].text, strlen(cases[i].text), 0);
        EXPECT_STATUS(json_skip(&r, &err), cases[i].doubled ? SPT_E_FORMAT : SPT_OK);
        json_close(&r);
    }
    /* Enough keys that they are sorted instead of compared one by one: one spelled differently. */
    static char many[40000];
    for (int turn = 0; turn < 2; turn++) {
        size_t n = (size_t)snprintf(many, sizeof many, "{");
        for (int i = 0; i < 1000; i++)
            n += (size_t)snprintf(many + n, sizeof many - n, "\"k%d\": 0, ", i);
        n += (size_t)snprintf(many + n, sizeof many - n, "\"\\u006b%d\": 0}", turn ? 999 : 1000);
        json_reader r;
        spt_err err = {0};
        json_open(&r, many, n, 0);
        EXPECT_STATUS(json_skip(&r, &err), turn ? SPT_E_FORMAT : SPT_OK);
        json_close(&r);
    }
}

static void surrogates(void **state)
{
    (void)state;
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\"\\ud83d\\ude00\"", "\xf0\x9f\x98\x80"}, {"\"\\uFFFF\"", "\xef\xbf\xbf"}, {"\"\\ud83d\"", NULL},
        {"\"\\ud83dx\"", NULL},   {"\"\\ud83d\\n\"", NULL},  {"\"\\ud83d\\u0041\"", NULL}, {"\"\\ude00\"", NULL},
        {"\"\\ud83d\\ud83d\"", NULL}, {"\"\\u12g4\"", NULL}, {"\"\\u12\"", NULL},      {"\"\\u00e9\"", "\xc3\xa9"},
        {"\"\\u:000\"", NULL},    {"\"\\uG000\"", NULL},    {"\"\\u/000\"", NULL},    {"\"\\ud83d\\uzzzz\"", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        json_reader r;
        spt_err err = {0};
        buf out;
        buf_init(&out, 100);
        json_open(&r, cases[i].text, strlen(cases[i].text), 0);
        EXPECT_STATUS(json_read_text(&r, &out, &err), cases[i].want ? SPT_OK : SPT_E_FORMAT);
        if (cases[i].want)
            EXPECT_STR(buf_str(&out), cases[i].want);
        buf_release(&out);
        json_close(&r);
    }
}

static void writing(void **state)
{
    (void)state;
    static const struct {
        unsigned style;
        const char *want;
    } cases[] = {
        {0, "{\"a\":null,\"b\":null,\"c\":null,\"d\":true,\"e\":false,\"f\":[]}"},
        {JSON_PYTHON, "{\"a\": NaN, \"b\": Infinity, \"c\": -Infinity, \"d\": true, \"e\": false, \"f\": []}"},
    };
    for (size_t i = 0; i < 2; i++) {
        json_writer w;
        buf out;
        buf_init(&out, 1000);
        json_write_init(&w, &out, cases[i].style);
        json_begin_object(&w);
        json_key(&w, "a");
        json_f64(&w, NAN);
        json_key(&w, "b");
        json_f64(&w, INFINITY);
        json_key(&w, "c");
        json_f32(&w, -INFINITY);
        json_key(&w, "d");
        json_bool(&w, true);
        json_key(&w, "e");
        json_bool(&w, false);
        json_key(&w, "f");
        json_begin_array(&w);
        json_end_array(&w);
        json_end_object(&w);
        EXPECT_STR(buf_str(&out), cases[i].want);
        buf_release(&out);
    }
}

/* --- patterns -------------------------------------------------------------------------------- */

static void patterns_and_their_limits(void **state)
{
    (void)state;
    regex *re = NULL;
    spt_err err = {0};
    static char huge[70000];
    memset(huge, 'a', sizeof huge);
    EXPECT_STATUS(regex_compile(huge, sizeof huge, 0, &re, &err), SPT_E_CONFIG);
    EXPECT_STATUS(regex_compile("a(", 2, 0, &re, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "a(");
    static char wrong[400];
    memset(wrong, 'b', sizeof wrong);
    wrong[sizeof wrong - 1] = '(';
    EXPECT_STATUS(regex_compile(wrong, sizeof wrong, 0, &re, &err), SPT_E_CONFIG);
    EXPECT_OK(regex_compile("(a)|(b)", 7, 0, &re, &err), &err);
    bool yes = true;
    struct regex_span g[3];
    EXPECT_OK(regex_search(re, "a", 1, 2, &yes, g, 3, &err), &err);
    EXPECT_TRUE(!yes);
    EXPECT_OK(regex_search(re, NULL, 0, 0, &yes, g, 3, &err), &err);
    EXPECT_TRUE(!yes);
    EXPECT_OK(regex_search(re, "b", 1, 0, &yes, g, 3, &err), &err);
    EXPECT_TRUE(yes && g[1].start == SIZE_MAX && g[2].start == 0);
    static const struct {
        const char *with, *want; /* NULL: refused */
    } cases[] = {
        {"\\n\\t\\\\", "\n\t\\x"}, {"[\\g<1>]", "[a]x"}, {"\\g<1", NULL}, {"\\g1>", NULL}, {"\\g<a>", NULL}, {"\\q", NULL},
        {"\\3", NULL},  {"\\g<99999>", NULL}, {"\\g<12x>", NULL}, {"\\", NULL}, {"\\2", "x"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf out;
        buf_init(&out, 100);
        const spt_status st = regex_replace(re, "ax", 2, cases[i].with, &out, &err);
        EXPECT_STATUS(st, cases[i].want ? SPT_OK : SPT_E_CONFIG);
        if (cases[i].want)
            EXPECT_STR(buf_str(&out), cases[i].want);
        buf_release(&out);
    }
    regex_free(re);
    /* Empty matches step over whole characters of every length; an invalid text is refused. */
    EXPECT_OK(regex_compile("", 0, 0, &re, &err), &err);
    buf out;
    buf_init(&out, 100);
    EXPECT_OK(regex_replace(re, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80", 10, "-", &out, &err), &err);
    EXPECT_STR(buf_str(&out), "-a-\xc3\xa9-\xe2\x82\xac-\xf0\x9f\x98\x80-");
    EXPECT_STATUS(regex_replace(re, "\xff", 1, "-", &out, &err), SPT_E_FORMAT);
    buf_release(&out);
    regex_free(re);
    EXPECT_OK(regex_compile("(a+)+$", 6, 0, &re, &err), &err); /* would run for ever */
    EXPECT_STATUS(regex_search(re, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!", 41, 0, &yes, NULL, 0, &err),
                  SPT_E_FORMAT);
    EXPECT_MSG(&err, "limit");
    regex_free(re);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_source_fails_at_every_read),
        cmocka_unit_test(every_allocation_of_a_table_fails),
        cmocka_unit_test(tables_are_refused_by_reason),
        cmocka_unit_test(encodings_by_their_first_bytes),
        cmocka_unit_test(four_byte_characters),
        cmocka_unit_test(classes_and_lower_case),
        cmocka_unit_test(numbers_at_their_edges),
        cmocka_unit_test(values_of_the_wrong_kind),
        cmocka_unit_test(numbers_out_of_range_are_named),
        cmocka_unit_test(keys_are_compared_as_texts),
        cmocka_unit_test(surrogates),
        cmocka_unit_test(writing),
        cmocka_unit_test(patterns_and_their_limits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
