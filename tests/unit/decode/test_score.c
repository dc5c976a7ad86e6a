/* decode/score: rank classification, calibrated probabilities, perplexity. */
#include "support/test.h"

#include <math.h>

#include "decode/score.h"

static void labels_are_ranked(void **state)
{
    const float ll[3] = {-4, -3, -3};
    const int32_t length[3] = {4, 1, 1};
    EXPECT_EQ_I64(score_best_label(ll, NULL, 3, SCORE_SUM), 1); /* tie: lowest index */
    EXPECT_EQ_I64(score_best_label(ll, length, 3, SCORE_MEAN), 0);
    EXPECT_EQ_I64(score_best_label(ll, NULL, 1, SCORE_SUM), 0);
}

static void probabilities_sum_to_one(void **state)
{
    const float ll[3] = {-1000, -1001, -1003};
    const int32_t length[3] = {1, 2, 3};
    float p[3];
    score_label_probs(ll, NULL, 3, SCORE_SUM, p);
    const double sum = 1 + exp(-1.0) + exp(-3.0);
    EXPECT_NEAR(p[0], 1 / sum, 1e-7);
    EXPECT_NEAR(p[1], exp(-1.0) / sum, 1e-7);
    EXPECT_NEAR(p[2], exp(-3.0) / sum, 1e-7);
    score_label_probs(ll, length, 3, SCORE_MEAN, p);
    EXPECT_NEAR(p[2], 1, 1e-6);
    score_label_probs(ll, NULL, 0, SCORE_SUM, p);
}

static void perplexity_is_per_token(void **state)
{
    EXPECT_NEAR(score_perplexity(-10 * log(7.0), 10), 7, 1e-12);
    EXPECT_TRUE(isnan(score_perplexity(0, 0)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(labels_are_ranked),
        cmocka_unit_test(probabilities_sum_to_one),
        cmocka_unit_test(perplexity_is_per_token),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
