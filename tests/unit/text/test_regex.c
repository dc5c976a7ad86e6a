/* text/regex and text/utf8. */
#include "support/test.h"

#include <string.h>

#include "text/regex.h"
#include "text/utf8.h"

static regex *make(const char *pattern, unsigned flags)
{
    regex *re = NULL;
    spt_err err;
    EXPECT_OK(regex_compile(pattern, strlen(pattern), flags, &re, &err), &err);
    return re;
}

static void matches(void **state)
{
    regex *re = make("(a+)(b)?c", 0);
    spt_err err;
    bool yes;
    struct regex_span g[4];
    EXPECT_EQ_I64(regex_groups(re), 2);
    EXPECT_OK(regex_full(re, "aac", 3, &yes, g, 4, &err), &err);
    EXPECT_TRUE(yes && g[0].end == 3 && g[1].end == 2 && g[2].start == SIZE_MAX);
    EXPECT_TRUE(g[3].start == SIZE_MAX);
    EXPECT_OK(regex_full(re, "aacd", 4, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(!yes);
    EXPECT_OK(regex_match(re, "aacd", 4, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(yes);
    EXPECT_OK(regex_match(re, "xabc", 4, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(!yes);
    EXPECT_OK(regex_search(re, "xabcabc", 7, 2, &yes, g, 3, &err), &err);
    EXPECT_TRUE(yes && g[0].start == 4 && g[2].start == 5);
    regex_free(re);
    re = make("[^\\n]*\\Z", 0);
    EXPECT_OK(regex_full(re, "a\n", 2, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(!yes); /* Python's \Z does not match in front of a last line end */
    regex_free(re);
    re = make(".*/encoder/.*", 0);
    EXPECT_OK(regex_full(re, "target/encoder/x", 16, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(yes);
    regex_free(re);
    re = make("\xc3\xa9.", REGEX_ICASE);
    EXPECT_OK(regex_full(re, "\xc3\x89\xf0\x9f\x99\x82", 6, &yes, NULL, 0, &err), &err);
    EXPECT_TRUE(yes);
    EXPECT_STATUS(regex_full(re, "\xff", 1, &yes, NULL, 0, &err), SPT_E_FORMAT);
    regex_free(re);
}

static void replacing_equals_python(void **state)
{
    static const struct {
        const char *pattern, *with, *text, *want;
    } cases[] = {
        {"x*", "-", "abxd", "-a-b--d-"},
        {"\\b(a|an|the)\\b", " ", "the cat an the", "  cat    "},
        {"(\\w+) (\\w+)", "\\2 \\1", "ab cd ef", "cd ab ef"},
        {"(a)|b", "[\\g<1>]", "ab\xc3\xa9", "[a][]\xc3\xa9"},
        {"", "-", "\xc3\xa9z", "-\xc3\xa9-z-"},
        {"q", "x", "", ""},
        {"a", "\\\\", "a", "\\"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        regex *re = make(cases[i].pattern, 0);
        spt_err err;
        buf out;
        buf_init(&out, 100);
        EXPECT_OK(
            regex_replace(re, cases[i].text, strlen(cases[i].text), cases[i].with, &out, &err),
            &err);
        EXPECT_STR(buf_str(&out), cases[i].want);
        buf_release(&out);
        regex_free(re);
    }
    regex *re = make("(a)", 0);
    spt_err err;
    buf out;
    buf_init(&out, 100);
    EXPECT_STATUS(regex_replace(re, "a", 1, "\\2", &out, &err), SPT_E_CONFIG);
    EXPECT_STATUS(regex_replace(re, "a", 1, "\\q", &out, &err), SPT_E_CONFIG);
    EXPECT_STATUS(regex_replace(re, "a", 1, "x\\", &out, &err), SPT_E_CONFIG);
    buf_release(&out);
    regex_free(re);
}

static void wrong_patterns_and_runaways_are_refused(void **state)
{
    regex *re = NULL;
    spt_err err;
    EXPECT_STATUS(regex_compile("a(b", 3, 0, &re, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "a(b");
    EXPECT_TRUE(!re);
    re = make("(a+)+$", 0);
    char text[64];
    memset(text, 'a', sizeof text);
    text[63] = 'b';
    bool yes;
    EXPECT_STATUS(regex_full(re, text, sizeof text, &yes, NULL, 0, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "limit");
    regex_free(re);
}

static spt_status compile_and_match(void *ctx, spt_err *err)
{
    regex *re = NULL;
    TRY(regex_compile("(a|b)+c", 7, 0, &re, err));
    bool yes;
    const spt_status st = regex_full(re, "ababc", 5, &yes, NULL, 0, err);
    regex_free(re);
    return st;
}

static void allocations_may_fail(void **state)
{
    fault_install();
    EXPECT_TRUE(fault_every_alloc(compile_and_match, NULL) >= 5);
    fault_remove();
}

static void utf8_accepts_exactly_the_scalar_values(void **state)
{
    for (uint32_t cp = 0; cp < 0x110400; cp++) {
        char s[4];
        const size_t n = utf8_encode(cp, s);
        const bool scalar = cp < 0xd800 || (cp >= 0xe000 && cp < 0x110000);
        EXPECT_EQ_I64(n != 0, scalar);
        uint32_t back = 0;
        if (n)
            EXPECT_TRUE(utf8_decode(s, s + n, &back) == n && back == cp);
        for (size_t cut = 1; cut < n; cut++)
            EXPECT_EQ_I64(utf8_decode(s, s + cut, &back), 0);
    }
    static const char *const bad[] = {"\x80",
                                      "\xc0\xaf",
                                      "\xc1\xbf",
                                      "\xe0\x9f\xbf",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xed\xa0\x80",
                                      "\xf4\x90\x80\x80",
                                      "\xf8\x88\x80\x80\x80",
                                      "\xc3(",
                                      "\xe2\x82(",
                                      "\xf0\x9f\x99("};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_EQ_I64(utf8_valid_prefix(bad[i], strlen(bad[i])), 0);
    char mixed[200];
    memset(mixed, 'a', sizeof mixed);
    for (size_t i = 0; i < sizeof mixed; i++) {
        mixed[i] = '\xff';
        EXPECT_EQ_I64(utf8_valid_prefix(mixed, sizeof mixed), i);
        mixed[i] = 'a';
    }
    EXPECT_EQ_I64(utf8_count("a\xc3\xa9\xf0\x9f\x99\x82", 7), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(matches),
        cmocka_unit_test(replacing_equals_python),
        cmocka_unit_test(wrong_patterns_and_runaways_are_refused),
        cmocka_unit_test(allocations_may_fail),
        cmocka_unit_test(utf8_accepts_exactly_the_scalar_values),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
