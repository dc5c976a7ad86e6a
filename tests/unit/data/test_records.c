/* data/records and data/template: field cases 10 and 12 at the level of the reader, headers,
 * columns, gzip, errors. */
#include "support/test.h"

#include <errno.h>
#include <string.h>

#include "base/log.h"
#include "codec/gzip.h"
#include "data/records.h"
#include "data/template.h"

static char log_text[8192];

static void keep_log(void *ctx, enum log_level level, const char *line)
{
    const size_t n = strlen(log_text), k = strlen(line);
    if (n + k + 2 < sizeof log_text) {
        memcpy(log_text + n, line, k);
        memcpy(log_text + n + k, "\n", 2);
    }
}

static const char *file(const char *name, const char *text, size_t len)
{
    const char *path = test_path(test_tmpdir(), name);
    test_write(path, text, len);
    return path;
}
#define FILE_OF(name, text) file(name, text, sizeof(text) - 1)

/* "a|b@line;" for two columns of every record. */
static spt_status dump(const struct records_options *o, const char *first, const char *second,
                       buf *out, spt_err *err)
{
    records *r = NULL;
    TRY(records_open(o, &r, err));
    size_t slot[2];
    bool more = true;
    spt_status st = records_column(r, first, &slot[0], err);
    st = st ? st : records_column(r, second, &slot[1], err);
    while (!st && !(st = records_next(r, &more, err)) && more) {
        for (int i = 0; i < 2 && !st; i++) {
            const char *text;
            size_t len;
            st = records_field(r, slot[i], &text, &len, err);
            if (!st)
                buf_add(out, text, len);
            if (!st && !i)
                buf_addc(out, '|');
        }
        buf_addf(out, "@%llu;", (unsigned long long)records_line(r));
    }
    records_close(r);
    return st;
}

static void expect(const struct records_options *o, const char *a, const char *b, const char *want)
{
    for (size_t block = 0; block < 3; block++) {
        struct records_options with = *o;
        with.block = block;
        buf out;
        spt_err err;
        buf_init(&out, 1 << 20);
        EXPECT_OK(dump(&with, a, b, &out, &err), &err);
        EXPECT_STR(buf_str(&out), want);
        buf_release(&out);
    }
}

static void refused(const struct records_options *o, const char *a, const char *b, spt_status st,
                    const char *part)
{
    buf out;
    spt_err err;
    buf_init(&out, 1 << 20);
    EXPECT_STATUS(dump(o, a, b, &out, &err), st);
    EXPECT_MSG(&err, part);
    EXPECT_MSG(&err, o->path);
    buf_release(&out);
}

static void headers_are_told_from_data(void **state)
{
    struct records_options o = {.path = FILE_OF("h.tsv", "text\tlabel\na\tb\n")};
    log_text[0] = '\0';
    log_set_sink(keep_log, NULL);
    expect(&o, "text", "label", "a|b@2;");
    EXPECT_TRUE(strstr(log_text, "the first row is a header: columns text, label") != NULL);
    o.header = HEADER_NO;
    expect(&o, "1", "2", "text|label@1;a|b@2;");
    o = (struct records_options){.path = FILE_OF("n.tsv", "great film\t1\nbad film\t0\n")};
    log_text[0] = '\0';
    expect(&o, "1", "2", "great film|1@1;bad film|0@2;");
    EXPECT_TRUE(strstr(log_text, "without a header") != NULL);
    log_set_sink(NULL, NULL);
    o.header = HEADER_YES;
    expect(&o, "great film", "2", "bad film|0@2;");
    o = (struct records_options){.path = FILE_OF("q.csv", "Frage,Antwort\nx,y\n")};
    expect(&o, "1", "2", "Frage|Antwort@1;x|y@2;");
    const char *const names[] = {"Frage"};
    o.columns = names;
    o.column_count = 1;
    expect(&o, "Frage", "antwort", "x|y@2;"); /* case is forgiven when only one column fits */
    expect(&(struct records_options){.path = FILE_OF("word.tsv", "text\t1\nother\t0\n")}, "1", "2",
           "text|1@1;other|0@2;");
    expect(&(struct records_options){.path = FILE_OF("index.csv", ",text,label\n0,a,b\n")}, "text",
           "label", "a|b@2;");
    refused(&(struct records_options){.path = FILE_OF("only.csv", "text,label\n")}, "text", "label",
            SPT_E_FORMAT, "no records behind the header");
}

static void spreadsheets_are_read(void **state)
{
    /* As field case 10: marks, quotes, line ends inside quotes. */
    expect(
        &(struct records_options){.path = FILE_OF("excel.csv",
                                                  "\xef\xbb\xbf\"text\",\"label\"\r\n\"a, b\",x\r\n"
                                                  "\"two\r\nlines\",y\r\n\"ends \"\"q\"\"\",x")},
        "text", "label", "a, b|x@2;two\r\nlines|y@3;ends \"q\"|x@5;");
    expect(&(struct records_options){.path = FILE_OF("lf.tsv", "\xef\xbb\xbfx\ta\n"),
                                     .header = HEADER_NO},
           "1", "2", "x|a@1;");
    expect(&(struct records_options){.path =
                                         FILE_OF("bom.jsonl",
                                                 "\xef\xbb\xbf{\"text\": \"a\", \"label\": 1.0}\r\n"
                                                 "{\"label\": true, \"text\": \"b\"}\r\n")},
           "text", "label", "a|1.0@1;b|true@2;");
    expect(&(struct records_options){.path = FILE_OF("empties.csv",
                                                     "text,label\na,x\n,\n\nb,y\n,,,\n")},
           "text", "label", "a|x@2;b|y@5;");
    refused(&(struct records_options){.path = FILE_OF("semi.csv", "text;label\r\na;b\r\n")}, "text",
            "label", SPT_E_FORMAT, "--delimiter ';'");
    refused(&(struct records_options){.path = FILE_OF("empty.csv", "\xef\xbb\xbf")}, "text",
            "label", SPT_E_FORMAT, "empty");
    refused(&(struct records_options){.path = FILE_OF("blank.tsv", "\n\r\n\n")}, "1", "2",
            SPT_E_FORMAT, "empty");
    refused(&(struct records_options){.path = FILE_OF("u16.csv", "\xff\xfet\0,\0l\0\n\0")}, "text",
            "label", SPT_E_FORMAT, "UTF-16");
}

static void line_ends_do_not_matter(void **state)
{
    /* As field case 12. */
    const char *want = "p q|d@1;r|b@2;";
    expect(&(struct records_options){.path = FILE_OF("a.tsv", "p q\td\nr\tb\n")}, "1", "2", want);
    expect(&(struct records_options){.path = FILE_OF("b.tsv", "p q\td\r\nr\tb\r\n")}, "1", "2",
           want);
    expect(&(struct records_options){.path = FILE_OF("c.tsv", "p q\td\r\nr\tb")}, "1", "2", want);
    expect(&(struct records_options){.path = FILE_OF("d.tsv", "p q\td\rr\tb\r")}, "1", "2", want);
    expect(&(struct records_options){.path = FILE_OF("e.tsv", "p q\td\t\nr\tb\t\n")}, "1", "2",
           want);
    expect(&(struct records_options){.path = FILE_OF("g.tsv", "p q\td\t\nr\tb\n")}, "1", "2", want);
    expect(&(struct records_options){.path = FILE_OF("f.tsv", "p q\td\r\n\r\nr\tb\r\n\r\n")}, "1",
           "2", "p q|d@1;r|b@3;");
}

static void rows_of_the_wrong_width_are_refused(void **state)
{
    refused(&(struct records_options){.path = FILE_OF("w.tsv", "a\tx\nb c\n")}, "1", "2",
            SPT_E_FORMAT, "line 2: 1 field where the first row has 2");
    refused(&(struct records_options){.path = FILE_OF("w2.tsv", "a\tx\nb\tc\td\n")}, "1", "2",
            SPT_E_FORMAT, "line 2: 3 fields where the first row has 2");
    refused(&(struct records_options){.path = FILE_OF("w.csv", "text,label\na, b,x\n")}, "1", "2",
            SPT_E_FORMAT, "must be quoted");
    expect(&(struct records_options){.path = FILE_OF("w3.tsv", "a\tx\nb\ty\t\t\n")}, "1", "2",
           "a|x@1;b|y@2;");
}

static void wrong_columns_are_named(void **state)
{
    struct records_options o = {.path = FILE_OF("c1.tsv", "text\tlabel\na\tb\n")};
    refused(&o, "sentence", "label", SPT_E_CONFIG,
            "no column \"sentence\": the columns are text, label");
    refused(&o, "text", "3", SPT_E_CONFIG, "no column \"3\"");
    o.path = FILE_OF("c2.tsv", "a b\tc\n");
    refused(&o, "text", "2", SPT_E_CONFIG, "--header yes");
    o.path = FILE_OF("c3.csv", "text,x,x\na,b,c\n");
    refused(&o, "text", "x", SPT_E_CONFIG, "several columns are named \"x\"");
    expect(&o, "text", "3", "a|c@2;");
    o.path = FILE_OF("c4.jsonl", "{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"c\"}\n");
    refused(&o, "text", "label", SPT_E_FORMAT, "line 2: there is no \"label\"");
    o.path =
        FILE_OF("c5.jsonl", "{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"c\",\"label\":null}\n");
    refused(&o, "text", "label", SPT_E_FORMAT, "line 2: \"label\" is null");
    o.path = FILE_OF("c6.jsonl", "{\"text\":\"a\",\"label\":[\"b\"]}\n");
    refused(&o, "text", "label", SPT_E_FORMAT, "line 1: \"label\" is a list");
    o.path =
        FILE_OF("c7.jsonl", "{\"text\":\"a\",\"label\":\"b\"}\n{\"text\":\"c\",\"text\":\"d\"}\n");
    refused(&o, "text", "label", SPT_E_FORMAT, "stands twice");
    o.path = test_path(test_tmpdir(), "absent.tsv");
    refused(&o, "1", "2", SPT_E_NOTFOUND, "absent.tsv");
}

static void gzip_is_seen_by_content(void **state)
{
    buf gz;
    spt_err err;
    buf_init(&gz, 1 << 16);
    EXPECT_OK(gzip_encode("text,label\na,b\n", 15, 6, &gz, &err), &err);
    EXPECT_OK(gzip_encode("c,d\n", 4, 6, &gz, &err), &err);
    expect(&(struct records_options){.path = file("z.csv.gz", gz.data, gz.len)}, "text", "label",
           "a|b@2;c|d@3;");
    expect(&(struct records_options){.path = file("z.csv", gz.data, gz.len)}, "text", "label",
           "a|b@2;c|d@3;");
    for (size_t n = 3; n < gz.len; n += 5) {
        buf out;
        buf_init(&out, 1 << 16);
        const struct records_options o = {.path = file("cut.csv.gz", gz.data, n)};
        const spt_status st = dump(&o, "text", "label", &out, &err);
        if (st)
            EXPECT_MSG(&err, "cut.csv.gz");
        else /* the first member is a whole gzip file */
            EXPECT_STR(buf_str(&out), "a|b@2;");
        buf_release(&out);
    }
    buf_release(&gz);
}

static void files_can_be_read_again(void **state)
{
    records *r = NULL;
    spt_err err;
    size_t slot;
    const struct records_options o = {.path = FILE_OF("again.csv", "text,label\na,x\n\nb,y\n")};
    EXPECT_OK(records_open(&o, &r, &err), &err);
    EXPECT_OK(records_column(r, "label", &slot, &err), &err);
    for (int turn = 0; turn < 3; turn++) {
        bool more = true;
        int n = 0;
        for (;; n++) {
            EXPECT_OK(records_next(r, &more, &err), &err);
            if (!more)
                break;
            const char *text;
            size_t len;
            EXPECT_OK(records_field(r, slot, &text, &len, &err), &err);
            EXPECT_TRUE(len == 1 && text[0] == (n ? 'y' : 'x'));
        }
        EXPECT_EQ_I64(n, 2);
        EXPECT_EQ_I64(records_count(r).records, 2);
        EXPECT_EQ_I64(records_count(r).blank, 1);
        EXPECT_OK(records_rewind(r, &err), &err);
    }
    records_close(r);
}

static void lines_are_kept_as_they_are(void **state)
{
    records *r = NULL;
    spt_err err;
    size_t slot;
    const struct records_options o = {.path = FILE_OF("lines.txt", "text\n\na\tb, \"c\r\n"),
                                      .lines = true};
    EXPECT_OK(records_open(&o, &r, &err), &err);
    EXPECT_OK(records_column(r, "1", &slot, &err), &err);
    static const char *const want[] = {"text", "", "a\tb, \"c"};
    for (int i = 0; i < 4; i++) {
        bool more;
        EXPECT_OK(records_next(r, &more, &err), &err);
        EXPECT_EQ_I64(more, i < 3);
        if (!more)
            break;
        const char *text;
        size_t len;
        EXPECT_OK(records_field(r, slot, &text, &len, &err), &err);
        EXPECT_TRUE(len == strlen(want[i]) && memcmp(text, want[i], len) == 0);
    }
    records_close(r);
}

static spt_status render(const char *template, const char *path, buf *out, spt_err *err)
{
    text_template *t = NULL;
    TRY(template_parse(template, strlen(template), &t, err));
    records *r = NULL;
    spt_status st = records_open(&(struct records_options){.path = path}, &r, err);
    struct template_binding b = {0};
    st = st ? st : template_bind(t, r, &b, err);
    bool more = true;
    st = st ? st : records_next(r, &more, err);
    st = st ? st : template_render(&b, r, out, err);
    template_unbind(&b);
    records_close(r);
    template_free(t);
    return st;
}

static void templates(void **state)
{
    const char *path = FILE_OF("t.tsv", "sentence\tlabel\ta film \tn\n"
                                        "a {film} \t1\tx\ty\n");
    static const struct {
        const char *template, *want;
    } good[] = {
        {"sst2 sentence: {sentence}", "sst2 sentence: a {film} "},
        {"{label}{label} {sentence}!", "11 a {film} !"},
        {"{{{label}}} {{}}", "{1} {}"},
        {"{2}/{4}", "1/y"},
        {"", ""},
        {"plain", "plain"},
        {"{a film}", "x"},
    };
    spt_err err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        buf out;
        buf_init(&out, 1000);
        EXPECT_OK(render(good[i].template, path, &out, &err), &err);
        EXPECT_STR(buf_str(&out), good[i].want);
        buf_release(&out);
    }
    static const struct {
        const char *template, *part;
    } bad[] = {
        {"{", "'{' without '}'"},   {"a {b", "character 3"},
        {"}", "'}' without '{'"},   {"a}b", "character 2"},
        {"{}", "names no column"},  {"{a{b}", "'{' without '}'"},
        {"{{{", "'{' without '}'"}, {"{nope}", "the columns are sentence, label, a film, n"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf out;
        buf_init(&out, 1000);
        EXPECT_STATUS(render(bad[i].template, path, &out, &err), SPT_E_CONFIG);
        EXPECT_MSG(&err, bad[i].part);
        buf_release(&out);
    }
}

static void other_files_are_named(void **state)
{
    static const struct {
        const char *head, *part;
    } cases[] = {
        {"PK\3\4\x14", "xlsx"},
        {"PAR1\x15", "Parquet"},
        {"BZh91AY", "bzip2"},
        {"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS"},
        {"<!DOCTYPE html>\n", "web page"},
        {"[\n {\"text\": \"a\"}]", "one JSON array"},
        {"\xef\xbb\xbf[{\"text\": \"a\"}]", "one JSON array"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct records_options o = {
            .path = file("other.csv", cases[i].head, strlen(cases[i].head))};
        refused(&o, "text", "label", SPT_E_FORMAT, cases[i].part);
    }
    expect(&(struct records_options){.path = FILE_OF("bracket.tsv", "[1] a\tx\n")}, "1", "2",
           "[1] a|x@1;");
    char d = 'x';
    spt_err err;
    EXPECT_OK(records_delimiter("tab", &d, &err), &err);
    EXPECT_EQ_I64(d, '\t');
    EXPECT_OK(records_delimiter(";", &d, &err), &err);
    EXPECT_EQ_I64(d, ';');
    EXPECT_OK(records_delimiter("", &d, &err), &err);
    EXPECT_EQ_I64(d, 0);
    EXPECT_STATUS(records_delimiter("ab", &d, &err), SPT_E_CONFIG);
    EXPECT_STATUS(records_delimiter("\"", &d, &err), SPT_E_CONFIG);
    expect(&(struct records_options){.path = FILE_OF("quoted.tsv", "\"a\tb\"\t\"c \"\"d\"\"\"\n"),
                                     .kind = RECORDS_CSV,
                                     .delimiter = '\t'},
           "1", "2", "a\tb|c \"d\"@1;");
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    buf out;
    buf_init(&out, 1000);
    const spt_status st = render("x {text} {label}", ctx, &out, err);
    buf_release(&out);
    return st;
}

/* A column that gets a name, and one of lines of JSON. */
static spt_status name_columns(void *ctx, spt_err *err)
{
    records *r;
    size_t slot;
    bool more;
    TRY(records_open(&(struct records_options){.path = ctx, .header = HEADER_NO}, &r, err));
    spt_status st = records_table_kind(r) == TABLE_JSONL ? SPT_OK : records_name_column(r, 1, "other", err);
    if (!st)
        st = records_column(r, records_table_kind(r) == TABLE_JSONL ? "label" : "other", &slot, err);
    if (!st)
        st = records_next(r, &more, err);
    records_close(r);
    return st;
}

static void allocations_and_calls_may_fail(void **state)
{
    const char *csv = FILE_OF("f.csv", "text,label\n\"a \"\"b\"\"\",c\n");
    char *path = mem_strdup(csv);
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, path) > 8);
    EXPECT_TRUE(fault_every_alloc(name_columns, path) > 8);
    char *lines = mem_strdup(FILE_OF("f.jsonl", "{\"text\": \"a\", \"label\": \"c\"}\n"));
    EXPECT_TRUE(fault_every_alloc(name_columns, lines) > 8);
    mem_free(lines);
    EXPECT_TRUE(fault_every_syscall(run_faults, path, EIO) > 2);
    fault_remove();
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(headers_are_told_from_data),
        cmocka_unit_test(spreadsheets_are_read),
        cmocka_unit_test(line_ends_do_not_matter),
        cmocka_unit_test(rows_of_the_wrong_width_are_refused),
        cmocka_unit_test(wrong_columns_are_named),
        cmocka_unit_test(gzip_is_seen_by_content),
        cmocka_unit_test(files_can_be_read_again),
        cmocka_unit_test(lines_are_kept_as_they_are),
        cmocka_unit_test(templates),
        cmocka_unit_test(other_files_are_named),
        cmocka_unit_test(allocations_and_calls_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
