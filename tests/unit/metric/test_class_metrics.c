/* metric/class_metrics against values of the reference (scikit-learn, SciPy), field case 28. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "metric/class_metrics.h"

#define TOL_METRIC 1e-13 /* a few roundings of a double */
#define N(a) (sizeof(a) / sizeof *(a))
#define I(...) ((const int32_t[]){__VA_ARGS__})
#define D(...) ((const double[]){__VA_ARGS__})

static void accuracies(void **state)
{
    EXPECT_NEAR(metric_accuracy(I(1, 0, 1, 1, 0), I(1, 1, 0, -1, 0), 5), 40, TOL_METRIC);
    EXPECT_NEAR(metric_accuracy(I(-1, 0), I(-1, 1), 2), 50, TOL_METRIC);
    EXPECT_NEAR(metric_accuracy_declared(I(-1, 0), I(-1, 0), 2, 2), 50, TOL_METRIC);
    EXPECT_TRUE(isnan(metric_accuracy(NULL, NULL, 0)));
}

static void f1_scores(void **state)
{
    EXPECT_NEAR(metric_f1_binary(I(1, 0, 1, 1, 0), I(1, 1, 0, -1, 0), 5), 40, TOL_METRIC);
    EXPECT_EQ_F64(metric_f1_binary(I(0, 0), I(0, 0), 2), 0);
    EXPECT_NEAR(metric_f1_binary(I(1, 1, 0), I(5, 1, -1), 3), 50, TOL_METRIC);
    EXPECT_TRUE(isnan(metric_f1_binary(I(-1, 1), I(1, 1), 2)));
    EXPECT_NEAR(metric_f1_macro(I(0, 1, 2, 2, 0), I(0, 2, 2, -1, 0), 5, 3), 50, TOL_METRIC);
    EXPECT_NEAR(metric_f1_macro(I(0, 0, 1), I(0, 0, 1), 3, 3), 66.66666666666667, TOL_METRIC);
    EXPECT_NEAR(metric_f1_micro(I(0, 1, 2, 2, 0), I(0, 2, 2, -1, 0), 5, 3), 66.66666666666667,
                TOL_METRIC);
}

/* pairs.tsv of field case 28: billing is 0, praise 5, delivery 2 of six labels; "the bill",
 * "Praise", "PRAISE!" and the empty answer are outside. */
static void macro_f1_counts_declared_labels(void **state)
{
    const int32_t target[] = {0, 0, 0, 0, 0, 5, 5, 5, 5, 5};
    const int32_t pred[] = {0, 0, -1, 2, 0, 5, 5, -1, -1, -1};
    EXPECT_NEAR(metric_accuracy_declared(target, pred, 10, 6), 50, TOL_METRIC);
    EXPECT_NEAR(metric_f1_macro(target, pred, 10, 6), 22.02381, 1e-7); /* the digits given */
    EXPECT_EQ_I64(metric_outside(pred, 10, 6), 4);
}

static void correlations(void **state)
{
    double v;
    spt_err err;
    EXPECT_OK(metric_matthews(I(1, 1, 1, 0, 0, 0, 1, 0), I(1, 0, 1, 0, 0, 1, 1, 0), 8, &v, &err),
              &err);
    EXPECT_NEAR(v, 50, TOL_METRIC);
    EXPECT_OK(metric_matthews(I(1, 0, 1, 0), I(1, -1, 1, 0), 4, &v, &err), &err);
    EXPECT_NEAR(v, 67.08203932499369, TOL_METRIC);
    EXPECT_OK(metric_matthews(I(1, 0, 1), I(1, 1, 1), 3, &v, &err), &err);
    EXPECT_EQ_F64(v, 0);
    EXPECT_NEAR(metric_pearson(D(5.0, 2.4, 0.0, 3.2), D(4.8, 2.0, -1.0, 3.0), 4), 99.81529394655063,
                TOL_METRIC);
    EXPECT_TRUE(isnan(metric_pearson(D(1, 2, 3), D(-1, -1, -1), 3)));
    EXPECT_TRUE(isnan(metric_pearson(D(1), D(1), 1)));
    EXPECT_EQ_F64(metric_pearson(D(0.1, 0.3), D(2, -7), 2), -100);
    EXPECT_TRUE(isnan(metric_pearson(D(1, 2, NAN), D(1, 2, 3), 3)));
    EXPECT_OK(metric_spearman(D(5.0, 2.4, 0.0, 3.2), D(4.8, 2.0, -1.0, 3.0), 4, &v, &err), &err);
    EXPECT_NEAR(v, 100, TOL_METRIC);
    EXPECT_OK(metric_spearman(D(1, 2, 3, 4), D(2, 2, 3, -1), 4, &v, &err), &err);
    EXPECT_NEAR(v, -31.622776601683793, TOL_METRIC);
    EXPECT_OK(metric_spearman(D(1, 2, 3), D(2, 2, 2), 3, &v, &err), &err);
    EXPECT_TRUE(isnan(v));
}

static void tables(void **state)
{
    uint64_t c[3 * 4];
    metric_confusion(I(0, 0, 1, 2, -1, 2), I(0, 1, 1, 7, 0, 2), 6, 3, c);
    static const uint64_t want[] = {1, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1};
    for (int i = 0; i < 12; i++)
        EXPECT_EQ_I64(c[i], want[i]);
    const struct class_scores s = metric_class_scores(c, 3, 1);
    EXPECT_EQ_I64(s.support, 1);
    EXPECT_EQ_I64(s.predicted, 2);
    EXPECT_NEAR(s.precision, 50, TOL_METRIC);
    EXPECT_NEAR(s.recall, 100, TOL_METRIC);
    EXPECT_NEAR(s.f1, 66.66666666666667, TOL_METRIC);
    EXPECT_TRUE(metric_rule("f1_macro") && !metric_rule("nothing"));
}

static struct rank_candidate rc(int64_t input, int64_t cand, bool correct, int64_t len,
                                double score)
{
    return (struct rank_candidate){input, cand, correct, 1, len, score};
}

static void rank_classification(void **state)
{
    struct rank_scores r;
    spt_err err;
    const struct rank_candidate two[] = {
        rc(0, 0, 1, 2, -1.0), rc(0, 1, 0, 3, -2.0), rc(1, 0, 0, 2, -0.5), rc(1, 1, 1, 3, -0.75),
        rc(2, 0, 1, 2, -3.0), rc(2, 1, 0, 3, -3.5), rc(3, 0, 0, 2, -4.0), rc(3, 1, 1, 4, -6.0)};
    EXPECT_OK(metric_rank_classification(two, 8, 2, false, &r, &err), &err);
    EXPECT_NEAR(r.accuracy, 50, TOL_METRIC);
    EXPECT_NEAR(r.f1, 0, TOL_METRIC);
    EXPECT_NEAR(r.auc_roc, 50, TOL_METRIC);
    EXPECT_NEAR(r.auc_pr, 75, TOL_METRIC);
    EXPECT_OK(metric_rank_classification(two, 8, 2, true, &r, &err), &err);
    EXPECT_NEAR(r.accuracy, 50, TOL_METRIC);
    EXPECT_NEAR(r.f1, 50, TOL_METRIC);
    EXPECT_NEAR(r.auc_roc, 75, TOL_METRIC);
    EXPECT_NEAR(r.auc_pr, 83.33333333333333, TOL_METRIC);
    const struct rank_candidate any[] = {rc(1, 0, 1, 1, -1), rc(0, 0, 0, 1, -2), rc(0, 1, 1, 1, -1),
                                         rc(1, 1, 0, 1, -3), rc(1, 2, 0, 1, -1)};
    EXPECT_OK(metric_rank_classification(any, 5, 0, false, &r, &err), &err);
    EXPECT_NEAR(r.accuracy, 100, TOL_METRIC);
    EXPECT_TRUE(isnan(r.f1));
    const struct rank_candidate three[] = {
        rc(0, 0, 1, 1, -1), rc(0, 1, 0, 1, -2), rc(0, 2, 0, 1, -3),
        rc(1, 0, 0, 1, -2), rc(1, 1, 1, 1, -1), rc(1, 2, 0, 1, -3),
        rc(2, 0, 0, 1, -1), rc(2, 1, 0, 1, -2), rc(2, 2, 1, 1, -3)};
    EXPECT_OK(metric_rank_classification(three, 9, 3, false, &r, &err), &err);
    EXPECT_NEAR(r.accuracy, 66.66666666666667, TOL_METRIC);
    EXPECT_NEAR(r.f1, 55.55555555555555, TOL_METRIC);
    EXPECT_TRUE(isnan(r.auc_roc));
    const struct rank_candidate twice[] = {rc(0, 0, 1, 1, -1), rc(0, 0, 0, 1, -2)};
    EXPECT_STATUS(metric_rank_classification(twice, 2, 2, false, &r, &err), SPT_E_FORMAT);
    const struct rank_candidate odd[] = {rc(0, 0, 1, 1, -1), rc(1, 0, 0, 1, -2)};
    EXPECT_STATUS(metric_rank_classification(odd, 2, 2, false, &r, &err), SPT_E_FORMAT);
}

static spt_status run_faults(void *ctx, spt_err *err)
{
    double v;
    TRY(metric_matthews(I(1, 0), I(1, 1), 2, &v, err));
    TRY(metric_spearman(D(1, 2, 3), D(1, 3, 2), 3, &v, err));
    struct rank_scores r;
    const struct rank_candidate two[] = {rc(0, 0, 1, 2, -1.0), rc(0, 1, 0, 3, -2.0)};
    return metric_rank_classification(two, 2, 2, false, &r, err);
}

static void allocations_may_fail(void **state)
{
    fault_install();
    EXPECT_TRUE(fault_every_alloc(run_faults, NULL) > 6);
    fault_remove();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(accuracies),
        cmocka_unit_test(f1_scores),
        cmocka_unit_test(macro_f1_counts_declared_labels),
        cmocka_unit_test(correlations),
        cmocka_unit_test(tables),
        cmocka_unit_test(rank_classification),
        cmocka_unit_test(allocations_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
