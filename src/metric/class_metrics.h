/* Metrics of classification and regression: pure functions, no state.
 *
 * Classes are 0..K-1; anything else (-1) is an answer outside the label set: never right, no class
 * of its own. Values are percentages (0..100) as the reference reports them; n = 0 gives NaN. */
#ifndef SPT_METRIC_CLASS_METRICS_H
#define SPT_METRIC_CLASS_METRICS_H

#include <stdbool.h>

#include "base/status.h"

/* 100 * matches / n, as the reference: -1 equals -1 (unlabelled data), see spec. */
double metric_accuracy(const int32_t *target, const int32_t *pred, size_t n);
/* Matches among the declared classes only: targets outside 0..K-1 never match. */
double metric_accuracy_declared(const int32_t *target, const int32_t *pred, size_t n, int32_t k);
/* Binary F1 of class 1; a prediction not in {0, 1} counts as the wrong class
 * (f1_score_with_invalid). Targets must be 0 or 1; NaN otherwise. */
double metric_f1_binary(const int32_t *target, const int32_t *pred, size_t n);
/* Mean over all K declared classes of 2tp/(2tp+fp+fn), 0 where undefined (mean_multiclass_f1).
 * Answers outside the set only cost recall. */
double metric_f1_macro(const int32_t *target, const int32_t *pred, size_t n, int32_t k);
/* 2tp/(2tp+fp+fn) with counts summed over the K classes. */
double metric_f1_micro(const int32_t *target, const int32_t *pred, size_t n, int32_t k);
/* Matthews correlation over the union of all values that occur (so -1 is a class of its own, as
 * in the reference); 0 where undefined. SPT_E_NOMEM only. */
spt_status metric_matthews(const int32_t *target, const int32_t *pred, size_t n, double *out,
                           spt_err *err);
/* Pearson and Spearman correlation x 100: NaN when a side is constant; n < 2 is NaN. */
double metric_pearson(const double *target, const double *pred, size_t n);
spt_status metric_spearman(const double *target, const double *pred, size_t n, double *out,
                           spt_err *err);
/* Number of predictions outside 0..K-1. */
size_t metric_outside(const int32_t *pred, size_t n, int32_t k);
/* counts: [K, K + 1], row = target, column = prediction, last column = outside the set. Targets
 * outside are skipped. */
void metric_confusion(const int32_t *target, const int32_t *pred, size_t n, int32_t k,
                      uint64_t *counts);

/* Precision, recall, F1 and support of one class from the confusion table (percent). */
struct class_scores {
    double precision, recall, f1;
    uint64_t support, predicted;
};
struct class_scores metric_class_scores(const uint64_t *counts, int32_t k, int32_t which);

/* One line per metric saying how it is counted: {"f1_macro", "mean over all declared ..."}. */
const char *metric_rule(const char *name); /* NULL when unknown */

/* Index of the largest score, first on ties. */
int32_t metric_argmax(const float *score, size_t n);
/* Area under the ROC curve (ties count 1/2) and average precision of P(class 1), x 100. weight
 * may be NULL. One-class data gives NaN. */
spt_status metric_auc_roc(const int32_t *target, const double *p1, const double *weight, size_t n,
                          double *out, spt_err *err);
spt_status metric_auc_pr(const int32_t *target, const double *p1, const double *weight, size_t n,
                         double *out, spt_err *err);

/* Classification by comparing the log-likelihoods of all candidates (rank_classification). */
struct rank_candidate {
    int64_t input, candidate; /* the example and which of its candidates */
    bool correct;
    double weight;  /* 1 */
    int64_t length; /* target ids with EOS */
    double score;   /* log-likelihood */
};
struct rank_scores {
    double accuracy;
    double f1;              /* K = 2: of class 1; K > 2: mean_Kclass_f1; NaN: not defined */
    double auc_roc, auc_pr; /* K = 2 only, else NaN */
};
/* classes 0: numbers of candidates vary, accuracy only. Else every example has exactly that many.
 * normalize: scores are divided by the lengths. A doubled (input, candidate) and other numbers of
 * candidates are SPT_E_FORMAT. */
spt_status metric_rank_classification(const struct rank_candidate *c, size_t n, int32_t classes,
                                      bool normalize, struct rank_scores *out, spt_err *err);

#endif
