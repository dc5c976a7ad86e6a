/* From log-likelihoods of label texts to answers: rank classification. */
#ifndef SPT_DECODE_SCORE_H
#define SPT_DECODE_SCORE_H

#include "base/status.h"

enum score_rank {
    SCORE_SUM, /* the log-likelihood itself: the reference's rank classification */
    SCORE_MEAN /* divided by the number of tokens */
};

/* Index of the best label; ties: lowest index. length[i] >= 1 tokens (SCORE_MEAN), else may be
 * NULL. */
int64_t score_best_label(const float *log_likelihood, const int32_t *length, int64_t labels,
                         enum score_rank rank);
/* Probabilities over the labels: softmax of their (normalised) scores. */
void score_label_probs(const float *log_likelihood, const int32_t *length, int64_t labels,
                       enum score_rank rank, float *prob);
/* exp(-sum / tokens) of a file; sums in double. NaN without tokens. */
double score_perplexity(double log_likelihood, int64_t tokens);

#endif
