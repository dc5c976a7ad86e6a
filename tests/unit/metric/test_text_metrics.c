/* metric/text_metrics against values of the reference (t5.evaluation, rouge_score, sacreBLEU). */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "metric/text_metrics.h"
#include "text/unicode.h"

#define TOL_METRIC 1e-12 /* logarithms and sums of a few doubles */

static struct text_ref ref(const char *s)
{
    return (struct text_ref){s, strlen(s)};
}

static void normal_forms(void **state)
{
    static const struct {
        const char *text, *squad, *trivia;
    } cases[] = {
        {"The  Cat's hat, an apple", "cats hat apple", "cat s hat apple"},
        {"A.N.", "", "n"},
        {"theatre a", "theatre", "theatre"},
        {"\xc3\x89"
         "COLE the",
         "\xc3\xa9"
         "cole",
         "\xc3\xa9"
         "cole"},
        {"rock_n_roll \xe2\x80\x98yes\xe2\x80\x99", "rocknroll \xe2\x80\x98yes\xe2\x80\x99",
         "rock n roll yes"},
        {"The  Cat`s", "cats", "cat s"},
        {"", "", ""},
        {"  the\xc2\xa0"
         "an\t",
         "", ""},
        {"a-b an\xc3\xa9 the9", "ab an\xc3\xa9 the9", "b an\xc3\xa9 the9"},
    };
    spt_err err;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf out;
        buf_init(&out, 1000);
        EXPECT_OK(metric_squad_normalize(cases[i].text, strlen(cases[i].text), &out, &err), &err);
        EXPECT_STR(buf_str(&out), cases[i].squad);
        buf_clear(&out);
        EXPECT_OK(metric_trivia_normalize(cases[i].text, strlen(cases[i].text), &out, &err), &err);
        EXPECT_STR(buf_str(&out), cases[i].trivia);
        buf_release(&out);
    }
}

static void squad(void **state)
{
    const struct text_ref a[] = {ref("The Old Bridge"), ref("bridge"), ref("42"), ref("a an the")};
    const struct text_refs t[] = {{a, 2}, {a + 2, 1}, {a + 3, 1}};
    const struct text_ref p[] = {ref("old bridge!"), ref("forty two"), ref("the")};
    double em, f1;
    spt_err err;
    EXPECT_OK(metric_squad(t, p, 3, &em, &f1, &err), &err);
    EXPECT_NEAR(em, 66.66666666666666, TOL_METRIC);
    EXPECT_NEAR(f1, 33.33333333333333, TOL_METRIC);
    const struct text_ref b[] = {ref("New York"), ref("blue-green")};
    const struct text_refs u[] = {{b, 1}, {b + 1, 1}};
    const struct text_ref q[] = {ref("york city"), ref("bluegreen")};
    EXPECT_OK(metric_squad(u, q, 2, &em, &f1, &err), &err);
    EXPECT_NEAR(em, 50, TOL_METRIC);
    EXPECT_NEAR(f1, 75, TOL_METRIC);
}

static void groups(void **state)
{
    static const uint64_t group[] = {3, 3, 9, 3, UINT64_MAX, 9, 0};
    size_t which[7], kept;
    spt_err err;
    EXPECT_OK(metric_first_of_groups(group, 7, which, &kept, &err), &err);
    static const size_t want[] = {0, 2, 4, 6};
    EXPECT_EQ_I64(kept, 4);
    for (size_t i = 0; i < kept; i++)
        EXPECT_EQ_I64(which[i], want[i]);
    const int32_t t[] = {1, 0, 1, 1}, p[] = {1, 0, 1, -1};
    const uint32_t g[] = {0, 0, 1, 1};
    EXPECT_NEAR(metric_group_exact_match(t, p, g, 4, 2), 50, TOL_METRIC);
}

static void expect_rouge(const char *t, const char *p, double r1, double r2, double rl)
{
    const struct text_ref a = ref(t), b = ref(p);
    struct rouge_scores s;
    spt_err err;
    EXPECT_OK(metric_rouge(&a, &b, 1, &s, &err), &err);
    EXPECT_NEAR(s.rouge1, r1, TOL_METRIC);
    EXPECT_NEAR(s.rouge2, r2, TOL_METRIC);
    EXPECT_NEAR(s.rougeLsum, rl, TOL_METRIC);
}

static void rouge(void **state)
{
    expect_rouge("the cat sat . the dog ran . end", "the dog ran . a cat sat", 76.92307692307692,
                 54.54545454545454, 76.92307692307692);
    expect_rouge("Caf\xc3\xa9 costs $5", "cafe costs 5", 66.66666666666666, 50, 66.66666666666666);
    expect_rouge("", "", 0, 0, 0);
    expect_rouge("a", "", 0, 0, 0);
    expect_rouge("a\nb\n\nc", "c\nb", 80, 0, 80);
    const struct text_ref t[] = {ref("alpha beta gamma"), ref("one two")};
    const struct text_ref p[] = {ref("alpha gamma beta"), ref("three")};
    struct rouge_scores s;
    spt_err err;
    EXPECT_OK(metric_rouge(t, p, 2, &s, &err), &err);
    EXPECT_NEAR(s.rouge1, 50, TOL_METRIC);
    EXPECT_NEAR(s.rouge2, 0, TOL_METRIC);
    EXPECT_NEAR(s.rougeLsum, 33.33333333333333, TOL_METRIC);
    EXPECT_OK(metric_rouge(t, p, 0, &s, &err), &err);
    EXPECT_TRUE(isnan(s.rouge1));
}

static void expect_bleu(const char *const *t, const char *const *p, size_t n, double want)
{
    struct text_ref refs[8], preds[8];
    struct text_refs targets[8];
    for (size_t i = 0; i < n; i++) {
        refs[i] = ref(t[i]);
        preds[i] = ref(p[i]);
        targets[i] = (struct text_refs){&refs[i], 1};
    }
    double v;
    spt_err err;
    EXPECT_OK(metric_bleu(targets, preds, n, &v, &err), &err);
    EXPECT_NEAR(v, want, TOL_METRIC);
}

static void bleu(void **state)
{
    expect_bleu((const char *const[]){"The small dog ran home.", "It rained, 3.5 hours."},
                (const char *const[]){"The small dog ran home.", "It rained 3.5 hours."}, 2,
                71.73586782068507);
    expect_bleu((const char *const[]){"a b c d e"}, (const char *const[]){"a b x"}, 1, 0);
    expect_bleu((const char *const[]){"a b c d e f"}, (const char *const[]){"a b c x y"}, 1,
                32.555630133216134);
    expect_bleu((const char *const[]){"a b"}, (const char *const[]){""}, 1, 0);
    expect_bleu(
        (const char *const[]){"It rained, 3.5 hours.", "won\xe2\x80\x99t you pay $5 (five)?"},
        (const char *const[]){"It rained 3.5 hours!", "won't you pay $5 (six)?"}, 2,
        43.606670185559366);
    expect_bleu((const char *const[]){"the cat sat on the mat \xe2\x80\x94 twice, 1,000. times"},
                (const char *const[]){"the cat sat on a mat \xe2\x80\x94 twice 1,000. times"}, 1,
                39.59377364332708);
    expect_bleu((const char *const[]){"\xe2\x80\x9eGr\xc3\xbc\xc3\x9f"
                                      "e\xe2\x80\x9c an alle 12. Leser",
                                      "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x80\x81\xe3\x83\x86"
                                      "\xe3\x82\xb9\xe3\x83\x88\xe3\x80\x82 x y z w"},
                (const char *const[]){"\xe2\x80\x9eGr\xc3\xbc\xc3\x9f"
                                      "e\xe2\x80\x9c an die 12. Leser",
                                      "\xe6\x97\xa5\xe6\x9c\xac\xe8\xaa\x9e\xe3\x80\x81\xe3\x83\x86"
                                      "\xe3\x82\xb9\xe3\x83\x88\xe3\x80\x82 x y z"},
                2, 70.31124063565278);
}

static void edits(void **state)
{
    const struct text_ref t[] = {ref("kitten"), ref("abc"), ref("The cat, sat"), ref("")};
    const struct text_ref p[] = {ref("sitting"), ref("abc"), ref("the cat sat down"), ref("x y z")};
    struct edit_scores s;
    spt_err err;
    EXPECT_OK(metric_edit_distance(t, p, 2, &s, &err), &err);
    EXPECT_EQ_F64(s.max, 1);
    EXPECT_EQ_F64(s.min, 0);
    EXPECT_EQ_F64(s.mean, 0.5);
    EXPECT_EQ_F64(s.median, 0.5);
    EXPECT_EQ_F64(s.sum, 1);
    EXPECT_OK(metric_edit_distance(t, p, 4, &s, &err), &err);
    EXPECT_EQ_F64(s.max, 3);
    EXPECT_EQ_F64(s.median, 1.5);
    EXPECT_EQ_F64(s.sum, 6);
}

static void equal_texts(void **state)
{
    const struct text_ref t[] = {ref("a"), ref("b c"), ref("")},
                          p[] = {ref("a"), ref("b"), ref("")};
    EXPECT_NEAR(metric_exact_match(t, p, 3), 66.66666666666666, TOL_METRIC);
    const int32_t x[] = {5, 1}, y[] = {5, 1, 1};
    const int32_t *const ts[] = {x, x}, *const ps[] = {x, y};
    EXPECT_NEAR(metric_sequence_accuracy(ts, (const size_t[]){2, 2}, ps, (const size_t[]){2, 3}, 2),
                50, TOL_METRIC);
}

static void lower_case(void **state)
{
    static const struct {
        const char *text, *want;
    } cases[] = {
        {"\xc4\xb0X", "i\xcc\x87x"},
        {"\xce\x9f\xce\x94\xce\x9f\xce\xa3", "\xce\xbf\xce\xb4\xce\xbf\xcf\x82"}, /* final sigma */
        {"\xce\xa3\xce\x91 \xce\xa3", "\xcf\x83\xce\xb1 \xcf\x83"},
        {"\xe1\xba\x9e\xf0\x90\x90\x80", "\xc3\x9f\xf0\x90\x90\xa8"},
        {"\xff"
         "A",
         "\xef\xbf\xbd"
         "a"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf out;
        buf_init(&out, 100);
        unicode_add_lower(cases[i].text, strlen(cases[i].text), &out);
        EXPECT_STR(buf_str(&out), cases[i].want);
        buf_release(&out);
    }
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    const struct text_ref t[] = {ref("The cat . sat"), ref("b c, d")},
                          p[] = {ref("a cat"), ref("b c d")};
    const struct text_refs r[] = {{t, 2}, {t + 1, 1}};
    double em, f1, v;
    struct rouge_scores s;
    struct edit_scores e;
    size_t which[2], kept;
    TRY(metric_first_of_groups((const uint64_t[]){7, 7}, 2, which, &kept, err));
    EXPECT_EQ_I64(kept, 1);
    TRY(metric_squad(r, p, 2, &em, &f1, err));
    TRY(metric_rouge(t, p, 2, &s, err));
    TRY(metric_bleu(r, p, 2, &v, err));
    return metric_edit_distance(t, p, 2, &e, err);
}

static void allocations_may_fail(void **state)
{
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, NULL) > 30);
    fault_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normal_forms),
        cmocka_unit_test(squad),
        cmocka_unit_test(groups),
        cmocka_unit_test(rouge),
        cmocka_unit_test(bleu),
        cmocka_unit_test(edits),
        cmocka_unit_test(equal_texts),
        cmocka_unit_test(lower_case),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
