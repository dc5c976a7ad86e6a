#include "decode/score.h"

#include <math.h>

static double value(const float *log_likelihood, const int32_t *length, int64_t i,
                    enum score_rank rank)
{
    const double sum = (double)log_likelihood[i];
    return rank == SCORE_MEAN ? sum / (double)length[i] : sum;
}

int64_t score_best_label(const float *log_likelihood, const int32_t *length, int64_t labels,
                         enum score_rank rank)
{
    int64_t best = 0;
    for (int64_t i = 1; i < labels; i++)
        if (value(log_likelihood, length, i, rank) > value(log_likelihood, length, best, rank))
            best = i;
    return best;
}

void score_label_probs(const float *log_likelihood, const int32_t *length, int64_t labels,
                       enum score_rank rank, float *prob)
{
    if (labels == 0)
        return;
    const int64_t best = score_best_label(log_likelihood, length, labels, rank);
    const double max = value(log_likelihood, length, best, rank);
    double sum = 0;
    for (int64_t i = 0; i < labels; i++)
        sum += exp(value(log_likelihood, length, i, rank) - max);
    for (int64_t i = 0; i < labels; i++)
        prob[i] = (float)(exp(value(log_likelihood, length, i, rank) - max) / sum);
}

double score_perplexity(double log_likelihood, int64_t tokens)
{
    return tokens > 0 ? exp(-log_likelihood / (double)tokens) : NAN;
}
