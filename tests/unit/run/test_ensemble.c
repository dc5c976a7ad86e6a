/* Votes, ties, means and agreement on small tables written by hand. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "run/ensemble.h"

enum { K = 3 };
static size_t off[K + 1] = {0, 1, 3, 5}; /* labels of 1, 2 and 2 tokens */

static struct task_text task(void)
{
    return (struct task_text){.report = {.off = off, .labels = K}};
}

static struct answers table(size_t n, int32_t *label, int32_t *target, float *score, float *prob)
{
    return (struct answers){
        .n = n, .labels = K, .label = label, .target = target, .score = score, .prob = prob};
}

static void test_vote_and_mean(void **ctx)
{
    (void)ctx;
    const struct task_text t = task();
    /* Example 0: two of three say label 1, the mean says label 0. Example 1: all differ; the mean
     * of label 2 is largest. Example 2: one member is outside the set, the others agree. */
    int32_t target[3] = {0, 1, 2};
    int32_t la[3] = {0, 0, 1}, lb[3] = {1, 1, 1}, lc[3] = {1, 2, -1};
    float sa[9] = {-1, -9, -9, -1, -5, -2, -4, -1, -9};
    float sb[9] = {-2, -1.5f, -9, -5, -1, -2, -4, -1, -9};
    float sc[9] = {-2, -1.5f, -9, -5, -5, -1, -4, -1, -9};
    float pa[9] = {.5f, .25f, .25f, 0, 0, 1, 1, 0, 0}, pb[9] = {0, 1, 0, 0, 0, 1, 1, 0, 0};
    float pc[9] = {.25f, .25f, .5f, 0, 0, 1, 1, 0, 0};
    const struct answers a[3] = {table(3, la, target, sa, pa), table(3, lb, target, sb, pb),
                                 table(3, lc, target, sc, pc)};
    struct ensemble e;
    spt_err err = {0};
    EXPECT_OK(ensemble_combine(a, 3, &t, false, &e, &err), &err);
    EXPECT_EQ_I64(e.vote.label[0], 1);
    EXPECT_EQ_I64(e.mean.label[0], 0); /* -5/3 against -12/3 */
    EXPECT_EQ_I64(e.vote.label[1], 2);
    EXPECT_EQ_I64(e.vote.label[2], 1);
    EXPECT_NEAR(e.agreement[0], 2.0 / 3, 1e-6);
    EXPECT_NEAR(e.agreement[1], 1.0 / 3, 1e-6);
    EXPECT_NEAR(e.agreement[2], 2.0 / 3, 1e-6);
    EXPECT_NEAR(e.mean.score[0], -5.0 / 3, 1e-6);
    EXPECT_NEAR(e.vote.prob[0], 0.25, 1e-6);
    EXPECT_EQ_I64(e.vote.target[2], 2);
    ensemble_release(&e);
}

static void test_mean_per_token(void **ctx)
{
    (void)ctx;
    const struct task_text t = task();
    int32_t target[1] = {0}, label[1] = {0};
    float score[3] = {-2, -3, -5}, prob[3] = {1, 0, 0};
    const struct answers a[2] = {table(1, label, target, score, prob),
                                 table(1, label, target, score, prob)};
    struct ensemble e;
    spt_err err = {0};
    EXPECT_OK(ensemble_combine(a, 2, &t, true, &e, &err), &err);
    EXPECT_EQ_I64(e.mean.label[0], 1); /* -2, -1.5, -2.5 per token */
    ensemble_release(&e);
    EXPECT_OK(ensemble_combine(a, 2, &t, false, &e, &err), &err);
    EXPECT_EQ_I64(e.mean.label[0], 0);
    ensemble_release(&e);
}

static void test_not_a_number(void **ctx)
{
    (void)ctx;
    const struct task_text t = task();
    int32_t target[1] = {0}, good[1] = {2}, bad[1] = {-1};
    float a0[3] = {-2, -3, -1}, a1[3] = {-2, NAN, -1}, prob[3] = {0, 0, 1};
    const struct answers a[2] = {table(1, bad, target, a1, prob), table(1, good, target, a0, prob)};
    struct ensemble e;
    spt_err err = {0};
    EXPECT_OK(ensemble_combine(a, 2, &t, false, &e, &err), &err);
    EXPECT_EQ_I64(e.mean.label[0], -1); /* a mean with a NaN is no answer */
    ensemble_release(&e);
}

static void test_texts(void **ctx)
{
    (void)ctx;
    const struct task_text t = {0};
    int32_t none[2] = {-1, -1};
    char *x[2] = {(char *)"red", (char *)"up"}, *y[2] = {(char *)"blue", (char *)"down"};
    char *z[2] = {(char *)"blue", (char *)"left"};
    struct answers a[3];
    char **texts[3] = {x, y, z};
    for (int i = 0; i < 3; i++)
        a[i] = (struct answers){.n = 2, .label = none, .target = none, .text = texts[i]};
    struct ensemble e;
    spt_err err = {0};
    EXPECT_OK(ensemble_combine(a, 3, &t, false, &e, &err), &err);
    EXPECT_STR(e.vote.text[0], "blue");
    EXPECT_STR(e.vote.text[1], "up"); /* all differ: the first member speaks */
    EXPECT_EQ_I64(e.mean.n, 0);
    EXPECT_NEAR(e.agreement[1], 1.0 / 3, 1e-6);
    ensemble_release(&e);
}

static spt_status combine_case(void *ctx, spt_err *err)
{
    (void)ctx;
    const struct task_text t = task();
    int32_t target[1] = {0}, label[1] = {0};
    float score[3] = {-2, -3, -5}, prob[3] = {1, 0, 0};
    char *text[1] = {(char *)"x"};
    struct answers a[2] = {table(1, label, target, score, prob),
                           table(1, label, target, score, prob)};
    a[0].text = a[1].text = text;
    struct ensemble e;
    TRY(ensemble_combine(a, 2, &t, false, &e, err));
    ensemble_release(&e);
    return SPT_OK;
}

static void test_every_allocation(void **ctx)
{
    (void)ctx;
    fault_install();
    EXPECT_TRUE(fault_every_alloc(combine_case, NULL) >= 8);
    fault_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vote_and_mean),    cmocka_unit_test(test_mean_per_token),
        cmocka_unit_test(test_not_a_number),     cmocka_unit_test(test_texts),
        cmocka_unit_test(test_every_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
