/* data/labels: what a label is (field case 14), the set's checks (field cases 17, 19, 25). */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "data/labels.h"
#include "support/words.h"

static label_set *parse(const char *spec)
{
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_parse(spec, &s, &err), &err);
    return s;
}

static void labels_stay_as_written(void **state)
{
    static const char *const text[] = {"NA",   "null", "None", "nan", "TRUE",
                                       "true", "0",    "1",    "1.0", "007"};
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_new(&s, &err), &err);
    EXPECT_EQ_I64(label_set_find(s, "x", 1), -1);
    for (int turn = 0; turn < 2; turn++)
        for (size_t i = 0; i < 10; i++)
            EXPECT_OK(label_set_add(s, text[i], strlen(text[i]), NULL, &err), &err);
    EXPECT_EQ_I64(label_set_count(s), 10);
    for (size_t i = 0; i < 10; i++)
        EXPECT_STR(label_set_text(s, (size_t)label_set_find(s, text[i], strlen(text[i]))), text[i]);
    label_set_sort(s);
    for (size_t i = 0; i + 1 < 10; i++)
        EXPECT_TRUE(strcmp(label_set_text(s, i), label_set_text(s, i + 1)) < 0);
    for (size_t i = 0; i < 10; i++)
        EXPECT_EQ_I64(label_set_find(s, label_set_text(s, i), label_set_len(s, i)), i);
    bool cut;
    EXPECT_OK(label_set_add(s, " \xef\xbb\xbftrue\r", 9, &cut, &err), &err);
    EXPECT_TRUE(cut);
    EXPECT_EQ_I64(label_set_count(s), 10);
    EXPECT_TRUE(label_set_find(s, "007 ", 4) >= 0 && label_set_find(s, "07", 2) < 0);
    EXPECT_STATUS(label_set_add(s, " \t", 2, NULL, &err), SPT_E_FORMAT);
    EXPECT_STATUS(label_set_add(s, "a\0b", 3, NULL, &err), SPT_E_FORMAT);
    label_set_free(s);
}

static void many_labels_are_found(void **state)
{
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_new(&s, &err), &err);
    char text[32];
    for (int i = 0; i < LABELS_MAX; i++) {
        const int n = snprintf(text, sizeof text, "label %d", i * 7919 % LABELS_MAX);
        EXPECT_OK(label_set_add(s, text, (size_t)n, NULL, &err), &err);
    }
    EXPECT_STATUS(label_set_add(s, "one more", 8, NULL, &err), SPT_E_FORMAT);
    label_set_sort(s);
    for (int i = 0; i < LABELS_MAX; i += 37) {
        const int n = snprintf(text, sizeof text, "label %d", i);
        const int64_t at = label_set_find(s, text, (size_t)n);
        EXPECT_TRUE(at >= 0);
        EXPECT_STR(label_set_text(s, (size_t)at), text);
    }
    label_set_free(s);
}

static void lists_and_files_are_parsed(void **state)
{
    label_set *s = parse("b, a ,c d");
    EXPECT_EQ_I64(label_set_count(s), 3);
    EXPECT_STR(label_set_text(s, 0), "b"); /* the user's order */
    EXPECT_STR(label_set_text(s, 1), "a");
    EXPECT_STR(label_set_text(s, 2), "c d");
    label_set_free(s);
    char spec[300];
    const char *path = test_path(test_tmpdir(), "labels.txt");
    test_write(path,
               "\xef\xbb\xbf"
               "delivery\r\nbilling, again\r\n\r\npraise",
               37);
    snprintf(spec, sizeof spec, "@%s", path);
    s = parse(spec);
    EXPECT_EQ_I64(label_set_count(s), 3);
    EXPECT_STR(label_set_text(s, 0), "delivery");
    EXPECT_STR(label_set_text(s, 1), "billing, again");
    EXPECT_STR(label_set_text(s, 2), "praise");
    label_set_free(s);
    s = NULL;
    spt_err err;
    EXPECT_STATUS(label_set_parse("a,b,a", &s, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "\"a\" stands twice");
    EXPECT_STATUS(label_set_parse("a,,b", &s, &err), SPT_E_CONFIG);
    EXPECT_EQ_I64(err.code, SPT_E_CONFIG);
    EXPECT_STATUS(label_set_parse("", &s, &err), SPT_E_CONFIG);
    test_write(path, "a\nb\na\n", 6);
    EXPECT_STATUS(label_set_parse(spec, &s, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "line 3");
    EXPECT_MSG(&err, "labels.txt");
    test_write(path, "\n", 1);
    EXPECT_STATUS(label_set_parse(spec, &s, &err), SPT_E_FORMAT);
    EXPECT_STATUS(label_set_parse("@/nonexistent/labels", &s, &err), SPT_E_NOTFOUND);
    EXPECT_TRUE(!s);
}

static void expect_findings(const char *labels, int64_t max_target, size_t errors, size_t warnings,
                            const char *part)
{
    label_set *s = parse(labels);
    const struct data_encoder enc = words_encoder();
    struct label_report r = {0};
    spt_err err;
    EXPECT_OK(label_set_check(s, &enc, max_target, &r, &err), &err);
    if (r.errors != errors || r.warnings != warnings)
        fail_msg("%s: %zu errors and %zu warnings, first: %s", labels, r.errors, r.warnings,
                 r.count ? r.finding[0].text : "");
    bool found = !part;
    for (size_t i = 0; i < r.count; i++)
        found |= part && strstr(r.finding[i].text, part) != NULL;
    if (!found)
        fail_msg("%s: no finding says \"%s\" but \"%s\"", labels, part,
                 r.count ? r.finding[0].text : "");
    EXPECT_EQ_I64(r.labels, label_set_count(s));
    for (size_t i = 0; i < r.labels; i++) {
        const size_t n = r.off[i + 1] - r.off[i];
        EXPECT_TRUE(n >= 1 && r.ids[r.off[i + 1] - 1] == 1);
        EXPECT_TRUE(!max_target || (int64_t)n <= max_target);
    }
    EXPECT_EQ_I64(label_report_log(&r, "labels", &err), errors ? SPT_E_CONFIG : SPT_OK);
    label_report_release(&r);
    label_set_free(s);
}

static void sets_are_checked(void **state)
{
    char part[100];
    expect_findings("yes,no", 0, 0, 0, NULL);
    expect_findings("not billed,not approved", 0, 0, 0, NULL);
    /* Same ids: spaces inside collapse. */
    expect_findings("a b,c,a  b", 0, 1, 0, "\"a b\"");
    expect_findings("a b,c,a  b", 0, 1, 0, "are the same ids");
    snprintf(part, sizeof part, "\"not\" [%d]", (int)word_id("not"));
    expect_findings("not billed,not,x", 0, 0, 1, part);
    expect_findings("not billed,not,x", 0, 0, 1, "\"not billed\"");
    /* A target length of 2 leaves one id and EOS: field case 19. */
    expect_findings("not billed,not approved", 2, 1, 2, "must be at least 3");
    expect_findings("not billed,approved not", 2, 0, 2, "the target length 2 cuts it to 2");
    expect_findings("not billed,not approved", 3, 0, 0, NULL);
    expect_findings("yes,no,Yes", 0, 0, 1, "differ only in capitals");
    expect_findings("yes,no,YES,Yes", 0, 0, 2, "\"Yes\"");
    /* Every label that another one begins, not only its neighbour. */
    expect_findings("a b,a,a c,a d", 0, 0, 3, "\"a b\"");
    expect_findings("a,b", 1, 1, 2, "cuts labels");
    /* Unknown ids: one label is unwritable, two are the same ids as well. */
    expect_findings("rust,~lambda", 0, 0, 1, "1 of 2 labels contain characters");
    expect_findings("~alpha,~lambda", 0, 1, 1, "2 of 2 labels");
}

static spt_status words_decode(void *ctx, const int32_t *ids, size_t n, buf *out, spt_err *err)
{
    buf_adds(out, n && ids[0] == word_id("fine") ? "fine" : "changed");
    return SPT_OK;
}

static void labels_that_come_back_changed_are_named(void **state)
{
    label_set *s = parse("fine,odd");
    struct data_encoder enc = words_encoder();
    enc.decode = words_decode;
    struct label_report r;
    spt_err err;
    EXPECT_OK(label_set_check(s, &enc, 0, &r, &err), &err);
    EXPECT_EQ_I64(r.count, 1);
    EXPECT_TRUE(strstr(r.finding[0].text, "\"odd\" comes back from the vocabulary as \"changed\""));
    label_report_release(&r);
    label_set_free(s);
}

static void long_lists_of_findings_are_cut(void **state)
{
    label_set *s = NULL;
    spt_err err;
    EXPECT_OK(label_set_new(&s, &err), &err);
    char text[40];
    for (int i = 0; i < 3000; i++) {
        const int n = snprintf(text, sizeof text, "same %d", i);
        EXPECT_OK(label_set_add(s, text, (size_t)n, NULL, &err), &err);
    }
    const struct data_encoder enc = words_encoder();
    struct label_report r;
    EXPECT_OK(label_set_check(s, &enc, 2, &r, &err), &err);
    EXPECT_TRUE(r.count < 40 && r.errors == 9);
    label_report_release(&r);
    label_set_free(s);
}

static void classes_are_told_from_texts(void **state)
{
    EXPECT_TRUE(labels_look_like_classes(2, 67349, 8));
    EXPECT_TRUE(labels_look_like_classes(10, 10, 4));
    EXPECT_TRUE(!labels_look_like_classes(900, 1000, 20));
    EXPECT_TRUE(!labels_look_like_classes(5000, 100000, 20));
    EXPECT_TRUE(!labels_look_like_classes(3, 4, 2000));
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    label_set *s = NULL;
    TRY(label_set_parse("a b,c,a,~d", &s, err));
    label_set_sort(s);
    const struct data_encoder enc = words_encoder();
    struct label_report r = {0};
    const spt_status st = label_set_check(s, &enc, 0, &r, err);
    label_report_release(&r);
    label_set_free(s);
    return st;
}

static void allocations_may_fail(void **state)
{
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, NULL) > 8);
    fault_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_stay_as_written),
        cmocka_unit_test(many_labels_are_found),
        cmocka_unit_test(lists_and_files_are_parsed),
        cmocka_unit_test(sets_are_checked),
        cmocka_unit_test(labels_that_come_back_changed_are_named),
        cmocka_unit_test(long_lists_of_findings_are_cut),
        cmocka_unit_test(classes_are_told_from_texts),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
