/* text/table: rows of TSV, CSV and JSON Lines; line ends, marks, quotes; what is refused where.
 * Every case runs with blocks of every small size, so that all seams are met. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "text/table.h"

struct source {
    const char *p;
    size_t left;
};

static spt_status from_memory(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = n < s->left ? n : s->left;
    if (*got)
        memcpy(p, s->p, *got);
    s->p += *got;
    s->left -= *got;
    return SPT_OK;
}

/* Rows as text: fields in <>, names in front, "@line" behind; blank lines as "~". */
static spt_status dump(const struct table_options *o, const char *text, size_t len, buf *out,
                       spt_err *err)
{
    struct source s = {text, len};
    table_reader *t = NULL;
    TRY(table_open(o, from_memory, &s, &t, err));
    struct table_row row;
    bool more = true;
    spt_status st;
    while (!(st = table_next(t, &row, &more, err)) && more) {
        if (row.blank)
            buf_addc(out, '~');
        for (size_t i = 0; i < row.count; i++) {
            const struct table_field *f = &row.field[i];
            static const char *const mark[] = {"", "#", "?", "0", "["};
            if (f->name)
                buf_add(out, f->name, f->name_len);
            buf_adds(out, mark[f->kind]);
            buf_addc(out, '<');
            buf_add(out, f->text, f->len);
            buf_addc(out, '>');
        }
        buf_addf(out, "@%llu ", (unsigned long long)row.line);
    }
    if (st)
        EXPECT_STATUS(table_next(t, &row, &more, NULL), st);
    table_close(t);
    return st;
}

static void expect_rows(enum table_kind kind, const char *text, size_t len, const char *want)
{
    for (size_t block = 1; block < 40; block += block < 8 ? 1 : 31) {
        buf out;
        spt_err err;
        buf_init(&out, 1 << 20);
        EXPECT_OK(
            dump(&(struct table_options){.kind = kind, .block = block}, text, len, &out, &err),
            &err);
        EXPECT_STR(buf_str(&out), want);
        buf_release(&out);
    }
}
#define ROWS(kind, text, want) expect_rows(kind, text, sizeof(text) - 1, want)

static void expect_refused(enum table_kind kind, const char *text, size_t len, const char *part)
{
    for (size_t block = 1; block < 40; block += block < 8 ? 1 : 31) {
        buf out;
        spt_err err;
        buf_init(&out, 1 << 20);
        if (dump(&(struct table_options){.kind = kind, .block = block, .max_record = 200}, text,
                 len, &out, &err) != SPT_E_FORMAT)
            fail_msg("block %zu: \"%s\" was not refused (%s): %s", block, text, part,
                     buf_str(&out));
        EXPECT_MSG(&err, part);
        buf_release(&out);
    }
}
#define REFUSED(kind, text, part) expect_refused(kind, text, sizeof(text) - 1, part)

static void tsv_rows(void **state)
{
    ROWS(TABLE_TSV, "", "");
    ROWS(TABLE_TSV, "\xef\xbb\xbf", "");
    ROWS(TABLE_TSV, "a\tb\nc\td", "<a><b>@1 <c><d>@2 ");
    ROWS(TABLE_TSV, "a\tb\r\nc\td\r\n", "<a><b>@1 <c><d>@2 ");
    ROWS(TABLE_TSV, "a\tb\r\nc\td\n", "<a><b>@1 <c><d>@2 ");
    ROWS(TABLE_TSV, "a\tb\r\r\nc\td\r", "<a><b>@1 <c><d>@2 ");
    ROWS(TABLE_TSV, "a\tb\rc\td\r", "<a><b>@1 <c><d>@2 ");
    ROWS(TABLE_TSV, "a\tb\n\nc\td\n\n", "<a><b>@1 ~@2 <c><d>@3 ~@4 ");
    ROWS(TABLE_TSV, "a\tb\r\n\r\nc\td\r\n\r\n", "<a><b>@1 ~@2 <c><d>@3 ~@4 ");
    ROWS(TABLE_TSV, "a\tb\t\n\t\n", "<a><b><>@1 <><>@2 ");
    ROWS(TABLE_TSV, "\"a\t\"b\"\n", "<\"a><\"b\">@1 ");
    ROWS(TABLE_TSV,
         "\xef\xbb\xbf\xef\xbb\xbf"
         "a\n\xef\xbb\xbf"
         "b",
         "<a>@1 <\xef\xbb\xbf"
         "b>@2 ");
    ROWS(TABLE_TSV, "\n", "~@1 ");
}

static void csv_rows(void **state)
{
    ROWS(TABLE_CSV, "text,label\r\n\"a, b\",\"say \"\"x\"\"\"\r\n",
         "<text><label>@1 <a, b><say \"x\">@2 ");
    ROWS(TABLE_CSV, "a,b\n\"two\r\nlines\",c\nd,e", "<a><b>@1 <two\r\nlines><c>@2 <d><e>@4 ");
    ROWS(TABLE_CSV, "\xef\xbb\xbf\"te,xt\",label\n", "<te,xt><label>@1 ");
    ROWS(TABLE_CSV, "a,b\n\xef\xbb\xbf\"c,d\",e\n", "<a><b>@1 <c,d><e>@2 ");
    ROWS(TABLE_CSV, "a,\n,\n,b\n\"\",\"\"", "<a><>@1 <><>@2 <><b>@3 <><>@4 ");
    ROWS(TABLE_CSV, "5\" pipe,a \"b\" c\n", "<5\" pipe><a \"b\" c>@1 ");
    ROWS(TABLE_CSV, "a,b\n\nc,d\r\n\r\n", "<a><b>@1 ~@2 <c><d>@3 ~@4 ");
    ROWS(TABLE_CSV, "a,b\rc,\"d\re\"\r", "<a><b>@1 <c><d\re>@2 ");
    ROWS(TABLE_CSV, "a,b\r\r\n\"c\"\r\n", "<a><b>@1 <c>@2 ");
    ROWS(TABLE_CSV, "a,\"\"\"\"", "<a><\">@1 ");
    ROWS(TABLE_CSV, "a,\"b\"", "<a><b>@1 ");
    ROWS(TABLE_CSV, "\r\na,b", "~@1 <a><b>@2 ");
    ROWS(TABLE_CSV, "sep=;\r\na;\"b,c\"\r\n", "<a><b,c>@2 ");
    ROWS(TABLE_CSV, "\xef\xbb\xbfsep=,\na,b", "<a><b>@2 ");
    ROWS(TABLE_CSV, "sep=;\ra;b\r", "<a><b>@2 ");
    ROWS(TABLE_CSV, "sep=x,b\n", "<sep=x><b>@1 ");
    ROWS(TABLE_CSV, "a b\"\r\nc\"d\r", "<a b\">@1 <c\"d>@2 ");
    ROWS(TABLE_CSV, "caf\xc3\xa9,\xf0\x9f\x99\x82\n", "<caf\xc3\xa9><\xf0\x9f\x99\x82>@1 ");
}

static void jsonl_rows(void **state)
{
    ROWS(TABLE_JSONL, "\xef\xbb\xbf{\"text\": \"a\\nb\", \"n\": 1.0}\r\n\r\n{\"\\u0074\":true}",
         "text<a\nb>n#<1.0>@1 ~@2 t?<true>@3 ");
    ROWS(TABLE_JSONL, "{\"a\":null,\"b\":[1, {\"c\":2}],\"d\":9007199254740993}\n",
         "a0<null>b[<[1, {\"c\":2}]>d#<9007199254740993>@1 ");
    ROWS(TABLE_JSONL, "{}\n  \n{\"a\":\"\\ud83d\\ude42\"}\n", "@1 ~@2 a<\xf0\x9f\x99\x82>@3 ");
    ROWS(TABLE_JSONL, "{\"a\":1}\r{\"a\":2}\r", "a#<1>@1 a#<2>@2 ");
    ROWS(TABLE_JSONL, "{\"a\":1}\n\xef\xbb\xbf{\"a\":2}\n", "a#<1>@1 a#<2>@2 ");
}

static void wrong_tables_are_refused(void **state)
{
    REFUSED(TABLE_TSV, "a\tb\nc\xff\td\n", "line 2, byte 5: not UTF-8 (byte 0xff)");
    REFUSED(TABLE_TSV, "a\tb\nc\rd\te\n", "line 2, byte 5: a carriage return in the middle");
    REFUSED(TABLE_TSV, "a\tb\nc\0d\te\n", "line 2, byte 5: a zero byte");
    REFUSED(TABLE_CSV, "a,b\nc,\"d\ne,f\n", "line 2, byte 6: this quote is not closed");
    REFUSED(TABLE_CSV, "a,b\n\"c\"d,e\n", "line 2, byte 7: text behind a closing quote");
    REFUSED(TABLE_CSV, "a,b\nc\rd,e\n", "line 2, byte 5: a carriage return");
    REFUSED(TABLE_CSV, "a,b\n\rc,d\n", "line 2, byte 4: a carriage return");
    REFUSED(TABLE_TSV, "a\tb\rc\td\ne\tf\r", "line 2, byte 7: a line feed in a file");
    REFUSED(TABLE_CSV, "text;label\na;b\n", "--delimiter ';'");
    REFUSED(TABLE_CSV, "\xef\xbb\xbftext\tlabel\r\na\tb\r\n", "--delimiter tab");
    REFUSED(TABLE_CSV, "\xff\xfet\0e\0x\0t\0,\0l\0\n\0", "UTF-16 (little endian)");
    REFUSED(TABLE_CSV, "\xfe\xff\0t\0e\0\n", "UTF-16 (big endian)");
    REFUSED(TABLE_TSV, "\xff\xfe\0\0t\0\0\0\n\0\0\0", "UTF-32 (little endian)");
    REFUSED(TABLE_JSONL, "{\"a\":1}\n{\"a\":1,\"a\":2}\n",
            "line 2, byte 15: the key \"a\" stands twice");
    REFUSED(TABLE_JSONL, "{\"a\":1}\n[1]\n", "an array where an object should stand");
    REFUSED(TABLE_JSONL, "{\"a\":1}\n{\"a\":\"\\ud83d x\"}\n", "line 2");
    REFUSED(TABLE_JSONL, "{\"a\":1}{\"a\":2}\n", "where the end");
    REFUSED(TABLE_JSONL, "{\"a\":\n1}\n", "ends where a value");
    char longer[600];
    memset(longer, 'x', sizeof longer);
    expect_refused(TABLE_TSV, longer, sizeof longer, "a record longer than 200 bytes");
    longer[0] = '"';
    expect_refused(TABLE_CSV, longer, sizeof longer, "is a quote not closed?");
    spt_err err;
    table_reader *t = NULL;
    EXPECT_STATUS(table_open(&(struct table_options){.kind = TABLE_CSV, .delimiter = '"'},
                             from_memory, NULL, &t, &err),
                  SPT_E_CONFIG);
}

/* Without an end mark in the file the encoding shows in its zero bytes. */
static void utf16_without_mark_is_refused(void **state)
{
    char wide[200];
    const char *text = "the parcel is late\tdelivery\nrefund the second charge\tbilling\n";
    const size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        wide[2 * i] = text[i];
        wide[2 * i + 1] = '\0';
    }
    buf out;
    spt_err err;
    buf_init(&out, 1000);
    EXPECT_STATUS(dump(&(struct table_options){.kind = TABLE_TSV}, wide, 2 * n, &out, &err),
                  SPT_E_FORMAT);
    EXPECT_MSG(&err, "UTF-16 (little endian)");
    buf_release(&out);
}

static void delimiters_can_be_given(void **state)
{
    buf out;
    spt_err err;
    buf_init(&out, 1000);
    EXPECT_OK(dump(&(struct table_options){.kind = TABLE_CSV, .delimiter = ';'}, "a;\"b;c\"\n", 8,
                   &out, &err),
              &err);
    EXPECT_STR(buf_str(&out), "<a><b;c>@1 ");
    buf_clear(&out);
    EXPECT_OK(
        dump(&(struct table_options){.kind = TABLE_CSV, .delimiter = ','}, "a;b\n", 4, &out, &err),
        &err);
    EXPECT_STR(buf_str(&out), "<a;b>@1 ");
    buf_release(&out);
}

/* Whatever is cut off, rows in front of the cut are the same and nothing is read beyond it. */
static void truncation_keeps_what_is_whole(void **state)
{
    static const char text[] = "a,\"b\"\"c\r\nd\",e\r\nf,g,h\r\n\"\xc3\xa9\",,\n";
    for (size_t n = 0; n < sizeof text; n++) {
        char *copy = mem_alloc(n + 1, 1);
        memcpy(copy, text, n);
        buf out;
        spt_err err;
        buf_init(&out, 1000);
        const spt_status st = dump(&(struct table_options){.kind = TABLE_CSV}, copy, n, &out, &err);
        EXPECT_TRUE(st == SPT_OK || st == SPT_E_FORMAT);
        if (n > 16)
            EXPECT_TRUE(strncmp(buf_str(&out), "<a><b\"c\r\nd><e>@1 ", 16) == 0);
        buf_release(&out);
        mem_free(copy);
    }
}

/* A reader of lines hands each one out as soon as it is there: somebody may be typing. */
static spt_status one_line_at_a_time(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    int *turn = ctx;
    static const char *const lines[] = {"a\tb\n", "c, d\n", "\n", "e"};
    *got = 0;
    if (*turn < 4) {
        *got = strlen(lines[*turn]);
        memcpy(p, lines[(*turn)++], *got);
    }
    return SPT_OK;
}

static void lines_do_not_wait_for_more(void **state)
{
    int turn = 0;
    table_reader *t = NULL;
    spt_err err;
    EXPECT_OK(table_open(&(struct table_options){.kind = TABLE_TSV, .whole_lines = true},
                         one_line_at_a_time, &turn, &t, &err),
              &err);
    static const char *const want[] = {"a\tb", "c, d", "", "e"};
    for (int i = 0; i < 5; i++) {
        struct table_row row;
        bool more;
        EXPECT_OK(table_next(t, &row, &more, &err), &err);
        EXPECT_EQ_I64(more, i < 4);
        EXPECT_TRUE(turn <= i + 1);
        if (!more)
            break;
        EXPECT_EQ_I64(row.blank, i == 2);
        if (!row.blank)
            EXPECT_TRUE(row.field[0].len == strlen(want[i]) &&
                        !memcmp(row.field[0].text, want[i], row.field[0].len));
    }
    table_close(t);
}

/* A source that never ends in memory: rows counted, nothing kept. */
struct endless {
    uint64_t rows;
    size_t at;
};

static spt_status from_nowhere(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct endless *e = ctx;
    static const char row[] = "some words of text\tlabel\n";
    size_t k = 0;
    while (k < n && e->rows) {
        ((char *)p)[k++] = row[e->at++];
        if (e->at == sizeof row - 1) {
            e->at = 0;
            e->rows--;
        }
    }
    *got = k;
    return SPT_OK;
}

static void memory_does_not_grow_with_the_source(void **state)
{
    fault_install();
    size_t peak[2];
    for (int big = 0; big < 2; big++) {
        struct endless e = {.rows = big ? 400000 : 40000};
        const uint64_t want = e.rows;
        table_reader *t = NULL;
        spt_err err;
        fault_reset_peak();
        EXPECT_OK(
            table_open(&(struct table_options){.kind = TABLE_TSV}, from_nowhere, &e, &t, &err),
            &err);
        struct table_row row;
        bool more = true;
        uint64_t rows = 0;
        while (more) {
            EXPECT_OK(table_next(t, &row, &more, &err), &err);
            rows += more;
        }
        EXPECT_EQ_I64(rows, want);
        table_close(t);
        peak[big] = fault_peak_bytes();
    }
    EXPECT_EQ_I64(peak[0], peak[1]);
    EXPECT_TRUE(peak[1] < 1 << 20);
    fault_remove();
}

static spt_status run_case(void *ctx, spt_err *err)
{
    const enum table_kind *kind = ctx;
    static const char *const text[] = {"a\tb\nc\td\n", "a,\"b\"\"\"\nc,d\n",
                                       "{\"a\": 1, \"b\": \"x\\n\"}\n"};
    struct source s = {text[*kind], strlen(text[*kind])};
    table_reader *t = NULL;
    TRY(table_open(&(struct table_options){.kind = *kind}, from_memory, &s, &t, err));
    struct table_row row;
    bool more = true;
    spt_status st = SPT_OK;
    while (more && !st)
        st = table_next(t, &row, &more, err);
    table_close(t);
    return st;
}

static void allocations_may_fail(void **state)
{
    fault_install();
    for (int k = TABLE_TSV; k <= TABLE_JSONL; k++) {
        enum table_kind kind = (enum table_kind)k;
        EXPECT_TRUE(fault_every_alloc(run_case, &kind) >= 3);
    }
    fault_remove();
}

static void any_bytes_pass_in_plain_texts(void **ctx)
{
    (void)ctx;
    spt_err err = {0};
    table_reader *t;
    struct table_row row;
    bool more;
    struct source s = {"caf\xe9\nx\0y\n", 9};
    const struct table_options o = {.kind = TABLE_TSV, .whole_lines = true, .any_bytes = true};
    EXPECT_OK(table_open(&o, from_memory, &s, &t, &err), &err);
    EXPECT_OK(table_next(t, &row, &more, &err), &err);
    EXPECT_TRUE(more && row.count == 1 && row.field[0].len == 4 &&
                !memcmp(row.field[0].text, "caf\xe9", 4));
    EXPECT_OK(table_next(t, &row, &more, &err), &err);
    EXPECT_TRUE(more && row.field[0].len == 3 && !memcmp(row.field[0].text, "x\0y", 3));
    table_close(t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_bytes_pass_in_plain_texts),
        cmocka_unit_test(tsv_rows),
        cmocka_unit_test(csv_rows),
        cmocka_unit_test(jsonl_rows),
        cmocka_unit_test(wrong_tables_are_refused),
        cmocka_unit_test(utf16_without_mark_is_refused),
        cmocka_unit_test(delimiters_can_be_given),
        cmocka_unit_test(truncation_keeps_what_is_whole),
        cmocka_unit_test(lines_do_not_wait_for_more),
        cmocka_unit_test(memory_does_not_grow_with_the_source),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
