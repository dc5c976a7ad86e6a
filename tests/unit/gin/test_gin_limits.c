/* Hostile and oversized configurations: an error or a result within a second, memory bounded by the
 * input, no crash at any truncation, every allocation may fail. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "fs/fs.h"
#include "gin/gin.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(SPT_COVERAGE)
#define SLOW 20
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define SLOW 20
#endif
#endif
#ifndef SLOW
#define SLOW 1
#endif

/* Processor time: other processes on the machine do not count. */
static long now_ms(void)
{
    return (long)((double)clock() * 1000 / CLOCKS_PER_SEC);
}

static const gin_def fixture[] = {
    {"fx", "pair", GIN_FUNCTION, "left=None, right=None", true, NULL},
    {"fx", "kw", GIN_FUNCTION, "**kwargs", true, NULL},
    {"fx.mod", "dyn", GIN_CLASS, "a=1, b=(1, 2), c='x'", false, NULL},
};

struct session {
    gin_registry *r;
    gin_config *c;
};

static spt_status open_session(struct session *s, spt_err *err)
{
    *s = (struct session){0};
    TRY(gin_registry_new(&s->r, err));
    TRY(gin_registry_add(s->r, fixture, sizeof fixture / sizeof *fixture, err));
    return gin_config_new(s->r, &s->c, err);
}

static void close_session(struct session *s)
{
    gin_config_free(s->c);
    gin_registry_free(s->r);
}

/* Parses, finalises and calls pair; true when all of it worked. Fails the test when it is slow. */
static spt_status run_text(const char *text, size_t size, spt_err *err)
{
    struct session s;
    gin_value v;
    const long start = now_ms();
    spt_status st = open_session(&s, err);
    if (!st)
        st = gin_parse_string(s.c, text, size, err);
    if (!st)
        st = gin_finalize(s.c, err);
    if (!st)
        st = gin_call(s.c, "pair", NULL, 0, &v, err);
    close_session(&s);
    const long ms = now_ms() - start;
    if (ms > 1000 * SLOW)
        fail_msg("%zu bytes starting \"%.20s\" took %ld ms", size, text, ms);
    return st;
}

static void repeat(buf *b, const char *s, size_t n)
{
    for (size_t i = 0; i < n; i++)
        buf_adds(b, s);
}

static void expect_text(const buf *b, spt_status want, const char *part)
{
    spt_err err = {0};
    const spt_status st = run_text(buf_str(b), b->len, &err);
    if (st != want)
        fail_msg("%.30s...: %s (%s), wanted %s", buf_str(b), spt_status_text(st), err.msg,
                 spt_status_text(want));
    if (part)
        EXPECT_MSG(&err, part);
}

static void brackets_nest_64_deep(void **state)
{
    for (size_t depth = 63; depth <= 100000; depth = depth < 66 ? depth + 1 : depth * 7) {
        buf b;
        buf_init(&b, 1 << 20);
        buf_adds(&b, "pair.left = ");
        repeat(&b, "[", depth);
        repeat(&b, "]", depth);
        expect_text(&b, depth <= 64 ? SPT_OK : SPT_E_CONFIG, depth <= 64 ? NULL : "64 deep");
        buf_clear(&b);
        buf_adds(&b, "pair.left = ");
        repeat(&b, "{1: (", depth);
        expect_text(&b, SPT_E_CONFIG, NULL);
        buf_release(&b);
    }
}

static void large_inputs_are_quick(void **state)
{
    static const struct {
        const char *head, *item, *tail;
        size_t count;
        spt_status want;
    } cases[] = {
        {"pair.left = [", "1,", "]", 5000000, SPT_OK},
        {"pair.left = (", "'x' ", ")", 2500000, SPT_OK},
        {"pair.left = '", "long ", "'", 2000000, SPT_OK},
        {"pair.left = '''", "\n", "'''", 10000000, SPT_OK},
        {"pair.left = 1", "\n", "", 10000000, SPT_OK},
        {"pair.left = 1", "\n# c", "", 3000000, SPT_OK},
        {"pair.left = 1", ";", "", 10000000, SPT_E_CONFIG},
        {"pair.left = [", "[],", "]", 3000000, SPT_OK},
        {"pair.left = {", "1: 2,", "}", 2000000, SPT_OK},
        {"pair.left = ", "-", "", 10000000, SPT_E_CONFIG},
        {"", "a/", "b = 1", 5000000, SPT_OK},
        {"", "a.", "b = 1", 5000000, SPT_E_CONFIG},
        {"pair.left = ", "9", "", 10000000, SPT_E_CONFIG},
        {"pair.left = ", "\\\n", "1", 5000000, SPT_OK},
        {"pair:\n", "  left = 1\n", "", 1000000, SPT_OK},
        {"", "include 'x'", "", 900000, SPT_E_CONFIG},
        {"", "import fx\n", "", 1000000, SPT_OK},
        {"", "from __gin__ import dynamic_registration\n", "", 200000, SPT_E_CONFIG},
        {"pair.left = ", "@a/", "b", 3000000, SPT_E_CONFIG},
        {"pair.left = [", "%A,", "]\nA = 1", 300000, SPT_OK},
        {"pair.left = '", "\\x", "'", 5000000, SPT_E_CONFIG},
        {"", "\x80", "", 10000000, SPT_E_CONFIG},
        {"pair.left = \"", "\xc3\xa9", "\"", 5000000, SPT_OK},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf b;
        buf_init(&b, 64 << 20);
        buf_adds(&b, cases[i].head);
        const size_t n = SLOW > 1 ? cases[i].count / 20 : cases[i].count;
        repeat(&b, cases[i].item, n);
        buf_adds(&b, cases[i].tail);
        expect_text(&b, cases[i].want, NULL);
        buf_release(&b);
    }
}

/* Indentation that grows line by line, dicts and names with many different keys. */
static void generated_inputs_are_quick(void **state)
{
    buf b;
    buf_init(&b, 64 << 20);
    for (int i = 0; i < 4000; i++) {
        for (int k = 0; k < i; k++)
            buf_addc(&b, ' ');
        buf_addf(&b, "A%d = 1\n", i);
    }
    expect_text(&b, SPT_OK, NULL);
    buf_clear(&b);
    buf_adds(&b, "pair.left = {");
    for (int i = 0; i < 500000 / SLOW; i++)
        buf_addf(&b, "%d: %d,", i, i);
    buf_adds(&b, "}");
    expect_text(&b, SPT_OK, NULL);
    buf_clear(&b);
    for (int i = 0; i < 500000 / SLOW; i++)
        buf_addf(&b, "s%d/pair.left = 1\n", i);
    expect_text(&b, SPT_OK, NULL);
    buf_clear(&b);
    for (int i = 0; i < 500000 / SLOW; i++)
        buf_addf(&b, "kw.p%d = 1\n", i);
    expect_text(&b, SPT_OK, NULL);
    buf_adds(&b, "pair.left = @kw()\n");
    expect_text(&b, SPT_E_CONFIG, "more than 4096 bound parameters");
    buf_release(&b);
}

static void a_million_bindings_fit(void **state)
{
    struct session s;
    spt_err err;
    buf b;
    buf_init(&b, 64 << 20);
    const size_t n = 1000000 / SLOW;
    for (size_t i = 0; i < n; i++)
        buf_addf(&b, "A%zu = %zu\n", i, i % 10);
    fault_install();
    EXPECT_OK(open_session(&s, &err), &err);
    const long start = now_ms();
    fault_reset_peak();
    EXPECT_OK(gin_parse_string(s.c, buf_str(&b), b.len, &err), &err);
    const size_t peak = fault_peak_bytes();
    EXPECT_OK(gin_finalize(s.c, &err), &err);
    const long ms = now_ms() - start;
    const gin_value *v;
    EXPECT_OK(gin_query(s.c, "%A4321", &v, &err), &err);
    EXPECT_EQ_I64(v->u.i, 1);
    close_session(&s);
    fault_remove();
    print_message("%zu bindings: %ld ms, %zu bytes for %zu\n", n, ms, peak, b.len);
    EXPECT_TRUE(ms < 1000 * SLOW);
    EXPECT_TRUE(peak <= 16 * b.len + (1 << 20));
    buf_release(&b);
}

static void macros_that_explode(void **state)
{
    buf b;
    buf_init(&b, 64 << 20);
    /* 2^40 values */
    buf_adds(&b, "A0 = 1\npair.left = %A40\n");
    for (int i = 1; i <= 40; i++)
        buf_addf(&b, "A%d = [%%A%d, %%A%d]\n", i, i - 1, i - 1);
    expect_text(&b, SPT_E_CONFIG, "makes more than");
    buf_clear(&b);
    buf_adds(&b, "A0 = 1\npair.left = %A100000\n");
    for (int i = 1; i <= 100000; i++)
        buf_addf(&b, "A%d = %%A%d\n", i, i - 1);
    expect_text(&b, SPT_E_CONFIG, "256 deep");
    buf_clear(&b);
    buf_adds(&b, "A0 = 1\npair.left = %A200\n");
    for (int i = 1; i <= 200; i++)
        buf_addf(&b, "A%d = %%A%d\n", i, i - 1);
    expect_text(&b, SPT_OK, NULL);
    buf_clear(&b);
    buf_adds(&b, "pair.left = @pair()\n");
    expect_text(&b, SPT_E_CONFIG, "cyclic definition: @fx.pair");
    buf_clear(&b);
    buf_adds(&b, "pair.left = %A\nA = [%B]\nB = {'k': %A}\n");
    expect_text(&b, SPT_E_CONFIG, "cyclic definition: %A in %B in %A");
    buf_release(&b);
}

static void write_text(const char *dir, const char *name, const char *text)
{
    test_write(test_path(dir, name), text, strlen(text));
}

static spt_status run_file(const char *dir, const char *name, spt_err *err)
{
    struct session s;
    const long start = now_ms();
    spt_status st = open_session(&s, err);
    if (!st)
        st = gin_add_search_path(s.c, dir, err);
    if (!st)
        st = gin_parse_file(s.c, name, err);
    close_session(&s);
    EXPECT_TRUE(now_ms() - start < SLOW * 1000);
    return st;
}

static void includes_are_bounded(void **state)
{
    const char *dir = test_tmpdir();
    spt_err err;
    write_text(dir, "one.gin", "include 'two.gin'\n");
    write_text(dir, "two.gin", "\ninclude 'one.gin'\n");
    EXPECT_STATUS(run_file(dir, "one.gin", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "include cycle");
    char name[32], text[64];
    for (int i = 0; i < 70; i++) {
        snprintf(name, sizeof name, "n%d.gin", i);
        snprintf(text, sizeof text, "include 'n%d.gin'\n", i + 1);
        write_text(dir, name, i == 69 ? "A = 1\n" : text);
    }
    EXPECT_OK(run_file(dir, "n6.gin", &err), &err); /* 64 files inside each other */
    EXPECT_STATUS(run_file(dir, "n5.gin", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "nested more than 64");
    for (int i = 0; i < 40; i++) { /* every file twice: 2^40 */
        snprintf(name, sizeof name, "d%d.gin", i);
        snprintf(text, sizeof text, "include 'd%d.gin'\ninclude 'd%d.gin'\n", i + 1, i + 1);
        write_text(dir, name, i == 39 ? "A = 1\n" : text);
    }
    EXPECT_STATUS(run_file(dir, "d0.gin", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "more than 10000 gin files");
    EXPECT_STATUS(run_file(dir, "absent.gin", &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "Unable to open file: absent.gin");
    EXPECT_STATUS(run_file(dir, "", &err), SPT_E_NOTFOUND);
    EXPECT_STATUS(run_file(dir, ".", &err), SPT_E_NOTFOUND);
    write_text(dir, "latin.gin", "A = 'caf\xe9'\n");
    EXPECT_STATUS(run_file(dir, "latin.gin", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "0xe9 in position 8");
    test_write(test_path(dir, "nul.gin"), "A = 'a\0b'\n", 10);
    EXPECT_STATUS(run_file(dir, "nul.gin", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "null bytes");
    write_text(dir, "bom.gin",
               "\xef\xbb\xbf"
               "A = 1\r\nB = 2\r");
    EXPECT_OK(run_file(dir, "bom.gin", &err), &err);
}

static const char sample[] =
    "from __gin__ import dynamic_registration\nimport fx\nfrom fx import mod as m\n"
    "A = {'k': [1, -2.5e3, 0x1F, (None, True)], \"q\": r'\\d' 'x', @m.dyn: %A1}\nA1 = b'\\x00'\n"
    "s/t/fx.pair:  # block\n  left = @s/m.dyn()\n\n  right = '''long\n text'''\n"
    "fx.pair.left = %gin.REQUIRED\nfx.pair.left = @m.dyn\nm.dyn.c = 'a' \\\n  'b'\nB = "
    "@x/gin.singleton()\n"
    "x/gin.singleton.constructor = @m.dyn\n";

static spt_status run_sample(void *ctx, spt_err *err)
{
    struct session s;
    gin_value v, got;
    buf text;
    buf_init(&text, 1 << 20);
    spt_status st = open_session(&s, err);
    if (!st)
        st = gin_parse_string(s.c, sample, sizeof sample - 1, err);
    if (!st)
        st = gin_parse_string(s.c, "kw.a = 'x'\nkw.b = %B", 20, err);
    if (!st)
        st = gin_finalize(s.c, err);
    if (!st)
        st = gin_call(s.c, "s/t/pair", NULL, 0, &v, err);
    if (!st)
        st = gin_call(s.c, "kw", NULL, 0, &v, err);
    if (!st && !gin_get(s.c, &v, "b", &got))
        st = err_set(err, SPT_E_NOMEM, "no b"); /* only when a default could not be parsed */
    if (!st)
        st = gin_config_text(s.c, true, &text, err);
    if (!st)
        st = gin_operative_text(s.c, &text, err);
    if (!st)
        gin_markdown(buf_str(&text), text.len, &text);
    buf_release(&text);
    close_session(&s);
    return st;
}

/* Lines outside of blocks, each deeper than the one before. */
static spt_status run_deep_lines(void *ctx, spt_err *err)
{
    struct session s = {0};
    buf text;
    (void)ctx;
    buf_init(&text, 4096);
    for (int i = 0; i < 12; i++)
        buf_addf(&text, "%*sfx.pair.left = %d\n", i, "", i);
    spt_status st = buf_status(&text, "text", err);
    if (!st)
        st = open_session(&s, err);
    if (!st)
        st = gin_parse_string(s.c, buf_str(&text), text.len, err);
    buf_release(&text);
    close_session(&s);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(run_deep_lines, NULL) > 12);
    EXPECT_TRUE(fault_every_alloc(run_sample, NULL) > 30);
}

static spt_status run_upstream(void *ctx, spt_err *err)
{
    gin_registry *r = NULL;
    gin_config *c = NULL;
    spt_status st = gin_registry_upstream(&r, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st)
        st = gin_config_entry(c, "__main__.train", err);
    if (!st)
        st = gin_parse_file(c, ctx, err);
    gin_config_free(c);
    gin_registry_free(r);
    return st;
}

static void every_allocation_and_call_may_fail_in_files(void **state)
{
    char path[] = "configs/t5x/configs/runs/finetune.gin";
    EXPECT_TRUE(fault_every_alloc(run_upstream, path) > 30);
    EXPECT_TRUE(fault_every_syscall(run_upstream, path, 5 /* EIO */) > 1);
}

/* Whatever parses prints, and what was printed parses to the same text. */
static void check_round_trip(const char *text, size_t size)
{
    struct session s, t;
    spt_err err = {0};
    buf a, b;
    buf_init(&a, 1 << 20);
    buf_init(&b, 1 << 20);
    EXPECT_OK(open_session(&s, &err), &err);
    EXPECT_OK(open_session(&t, &err), &err);
    if (!gin_parse_string(s.c, text, size, &err)) {
        EXPECT_OK(gin_config_text(s.c, false, &a, &err), &err);
        EXPECT_OK(gin_parse_string(t.c, buf_str(&a), a.len, &err), &err);
        EXPECT_OK(gin_config_text(t.c, false, &b, &err), &err);
        EXPECT_STR(buf_str(&b), buf_str(&a));
    } else {
        EXPECT_TRUE(*err.msg != 0 && *gin_last_error(s.c)->kind != 0);
    }
    close_session(&s);
    close_session(&t);
    buf_release(&a);
    buf_release(&b);
}

static void every_truncation_and_flip(void **state)
{
    char copy[sizeof sample];
    for (size_t n = 0; n < sizeof sample; n++)
        check_round_trip(sample, n);
    for (size_t i = 0; i + 1 < sizeof sample; i++) {
        static const char flips[] = "\0\n'\"([{)]}@%=:#\\ -9a\x80";
        for (size_t k = 0; k < sizeof flips - 1; k++) {
            memcpy(copy, sample, sizeof sample);
            copy[i] = flips[k];
            check_round_trip(copy, sizeof sample - 1);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(brackets_nest_64_deep),
        cmocka_unit_test(large_inputs_are_quick),
        cmocka_unit_test(generated_inputs_are_quick),
        cmocka_unit_test(a_million_bindings_fit),
        cmocka_unit_test(macros_that_explode),
        cmocka_unit_test(includes_are_bounded),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(every_allocation_and_call_may_fail_in_files),
        cmocka_unit_test(every_truncation_and_flip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
