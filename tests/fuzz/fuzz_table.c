/* text/table: the size of the blocks changes nothing; fields are valid UTF-8 without line ends
 * where the format has none; rows of CSV and TSV written again are read as the same rows. The first
 * two bytes: format and delimiter, size of the blocks. */
#include "fuzz/fuzz.h"

#include "base/buf.h"
#include "text/table.h"
#include "text/utf8.h"

struct source {
    const uint8_t *p;
    size_t left;
};

static spt_status take(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = n < s->left ? n : s->left;
    if (!*got)
        return SPT_OK;
    memcpy(p, s->p, *got);
    s->p += *got;
    s->left -= *got;
    return SPT_OK;
}

static void check_field(const struct table_options *o, const struct table_field *f)
{
    FUZZ_CHECK(utf8_valid(f->text, f->len));
    if (o->kind == TABLE_JSONL)
        FUZZ_CHECK(f->name && utf8_valid(f->name, f->name_len));
    if (o->kind == TABLE_TSV && f->len)
        FUZZ_CHECK(!memchr(f->text, '\r', f->len) && !memchr(f->text, '\0', f->len));
}

/* Every field quoted, so that all texts can be written. */
static void write_field(const struct table_options *o, const struct table_field *f, bool first,
                        buf *out)
{
    const char d = o->delimiter ? o->delimiter : o->kind == TABLE_CSV ? ',' : '\t';
    if (!first)
        buf_addc(out, d);
    if (o->kind == TABLE_CSV)
        buf_addc(out, '"');
    for (size_t i = 0; i < f->len; i++) {
        if (o->kind == TABLE_CSV && f->text[i] == '"')
            buf_addc(out, '"');
        buf_addc(out, f->text[i]);
    }
    if (o->kind == TABLE_CSV)
        buf_addc(out, '"');
}

/* Rows as bytes to compare, and written again. */
static spt_status read_rows(const struct table_options *o, const uint8_t *p, size_t n, buf *rows,
                            buf *written)
{
    struct source s = {p, n};
    table_reader *t;
    struct table_row row;
    bool more = true;
    spt_err err = {0};
    uint64_t line = 0;
    FUZZ_CHECK(table_open(o, take, &s, &t, NULL) == SPT_OK);
    spt_status st;
    while ((st = table_next(t, &row, &more, &err)) == SPT_OK && more) {
        FUZZ_CHECK(row.line > line && row.offset < n && (!row.blank || row.count == 0));
        line = row.line;
        for (size_t i = 0; i < row.count; i++) {
            check_field(o, &row.field[i]);
            buf_addf(rows, "%zu:%d:", row.field[i].len, (int)row.field[i].kind);
            buf_add(rows, row.field[i].text, row.field[i].len);
            write_field(o, &row.field[i], i == 0, written);
        }
        if (!row.blank) {
            buf_addc(rows, '\n');
            buf_addc(written, '\n');
        }
    }
    if (st)
        FUZZ_CHECK(st == SPT_E_FORMAT && strstr(err.msg, "line "));
    FUZZ_CHECK(table_next(t, &row, &more, NULL) == st);
    table_close(t);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    static const char delimiters[] = {0, ';', '|', ','};
    struct table_options o = {.kind = (enum table_kind)(data[0] % 3),
                              .delimiter = delimiters[data[0] / 3 % 4]};
    const uint8_t *in = data + 2;
    const size_t n = size - 2;
    buf a, b, again, ignored, rewritten;
    fuzz_begin();
    buf_init(&a, SIZE_MAX / 2);
    buf_init(&b, SIZE_MAX / 2);
    buf_init(&again, SIZE_MAX / 2);
    buf_init(&ignored, SIZE_MAX / 2);
    buf_init(&rewritten, SIZE_MAX / 2);
    const spt_status whole = read_rows(&o, in, n, &a, &again);
    o.block = data[1] ? data[1] : 1000;
    const spt_status pieces = read_rows(&o, in, n, &b, &ignored);
    FUZZ_CHECK(whole == pieces);
    if (!whole) {
        FUZZ_CHECK(a.len == b.len && !memcmp(buf_str(&a), buf_str(&b), a.len));
        if (o.kind != TABLE_JSONL) {
            /* A TSV row of one empty field would be a blank line, and what begins with a mark
             * would lose it: those cannot be written. */
            const bool mark = again.len >= 3 && !memcmp(again.data, "\xef\xbb\xbf", 3);
            buf_clear(&b);
            if (!mark && !read_rows(&o, (const uint8_t *)again.data, again.len, &b, &rewritten))
                FUZZ_CHECK(a.len == b.len && !memcmp(buf_str(&a), buf_str(&b), a.len));
            else
                FUZZ_CHECK(mark || o.kind == TABLE_TSV || !o.delimiter);
        }
    }
    const size_t extra = 2 * (a.cap + b.cap + again.cap + ignored.cap + rewritten.cap);
    buf_release(&a);
    buf_release(&b);
    buf_release(&again);
    buf_release(&ignored);
    buf_release(&rewritten);
    fuzz_end(size, extra);
    return 0;
}
