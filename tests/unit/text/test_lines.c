/* Lines as Python sees them, whatever the pieces in which the source delivers. */
#include "support/test.h"

#include <string.h>

#include "text/lines.h"

struct source {
    const char *text;
    size_t left, piece;
};

static spt_status give(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = s->left < n ? s->left : n;
    if (*got > s->piece)
        *got = s->piece;
    memcpy(p, s->text, *got);
    s->text += *got;
    s->left -= *got;
    return SPT_OK;
}

static void check(const char *text, size_t n, const char *want, uint64_t lines)
{
    for (size_t piece = 1; piece <= n + 1; piece++) {
        struct source s = {text, n, piece};
        line_reader *r;
        const char *line;
        size_t len;
        spt_err err;
        buf got;
        buf_init(&got, 1000);
        EXPECT_OK(line_reader_new(give, &s, 100, &r, &err), &err);
        for (;;) {
            EXPECT_OK(line_reader_next(r, &line, &len, &err), &err);
            if (!line)
                break;
            buf_addc(&got, '[');
            buf_add(&got, line, len);
            buf_addc(&got, ']');
        }
        EXPECT_STR(buf_str(&got), want);
        EXPECT_EQ_I64(line_reader_number(r), lines);
        EXPECT_OK(line_reader_next(r, &line, &len, &err), &err); /* stays at the end */
        EXPECT_TRUE(!line);
        line_reader_free(r);
        buf_release(&got);
    }
}

static void ends(void **state)
{
    check("", 0, "", 0);
    check("a", 1, "[a]", 1);
    check("a\nbc\n", 5, "[a][bc]", 2);
    check("a\r\nb\r\n", 6, "[a][b]", 2);
    check("a\rb\n\r\n\rc", 8, "[a][b][][][c]", 5);
    check("\n\n", 2, "[][]", 2);
    check("\r\r\n\n", 4, "[][][]", 3);
}

static void too_long(void **state)
{
    for (size_t piece = 1; piece < 200; piece += 37) {
        char text[202];
        memset(text, 'x', sizeof text);
        memcpy(text, "ab\n", 3);
        struct source s = {text, sizeof text, piece};
        line_reader *r;
        const char *line;
        size_t len;
        spt_err err;
        EXPECT_OK(line_reader_new(give, &s, 100, &r, &err), &err);
        EXPECT_OK(line_reader_next(r, &line, &len, &err), &err);
        EXPECT_STATUS(line_reader_next(r, &line, &len, &err), SPT_E_FORMAT);
        EXPECT_STR(err.msg, "line 2 has more than 100 bytes");
        line_reader_free(r);
    }
}

static spt_status whole(void *ctx, spt_err *err)
{
    struct source s = {"one\ntwo\r\nthree", 14, 2};
    line_reader *r;
    const char *line = "";
    size_t len;
    TRY(line_reader_new(give, &s, 100, &r, err));
    spt_status st = SPT_OK;
    while (!st && line)
        st = line_reader_next(r, &line, &len, err);
    line_reader_free(r);
    return st;
}

static spt_status broken(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    return s->left ? give(ctx, p, n, got, err) : err_set(err, SPT_E_IO, "x.zip: member y: bad CRC");
}

/* What a complaint lacks is put in front of it: the line, the file, or nothing. */
static void blame(void **state)
{
    struct source s = {"one\ntwo\n", 8, 8};
    line_reader *r;
    const char *line;
    size_t len;
    spt_err err;
    EXPECT_OK(line_reader_new(broken, &s, 100, &r, &err), &err);
    for (int i = 0; i < 2; i++)
        EXPECT_OK(line_reader_next(r, &line, &len, &err), &err);
    err_set(&err, SPT_E_FORMAT, "no label");
    EXPECT_STATUS(line_reader_blame(r, "y.tsv", SPT_E_FORMAT, &err), SPT_E_FORMAT);
    EXPECT_STR(err.msg, "y.tsv: line 2: no label");
    EXPECT_STATUS(line_reader_next(r, &line, &len, &err), SPT_E_IO);
    EXPECT_STATUS(line_reader_blame(r, "y.tsv", SPT_E_IO, &err), SPT_E_IO);
    EXPECT_STR(err.msg, "x.zip: member y: bad CRC");
    line_reader_free(r);
    s = (struct source){"1234567890\n", 11, 11};
    EXPECT_OK(line_reader_new(broken, &s, 4, &r, &err), &err);
    EXPECT_STATUS(line_reader_next(r, &line, &len, &err), SPT_E_FORMAT);
    line_reader_blame(r, "y.tsv", SPT_E_FORMAT, &err);
    EXPECT_STR(err.msg, "y.tsv: line 1 has more than 4 bytes");
    line_reader_free(r);
}

static void out_of_memory(void **state)
{
    EXPECT_TRUE(fault_every_alloc(whole, NULL) >= 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ends),
        cmocka_unit_test(too_long),
        cmocka_unit_test(blame),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
