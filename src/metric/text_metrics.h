/* Metrics over texts: exact match, SQuAD, ROUGE, BLEU, edit distance. Texts are UTF-8 (invalid
 * bytes count as one character each). Values are percentages. Failures: SPT_E_NOMEM; SPT_E_FORMAT
 * for texts whose comparison would need more than a GB. */
#ifndef SPT_METRIC_TEXT_METRICS_H
#define SPT_METRIC_TEXT_METRICS_H

#include "base/buf.h"
#include "base/status.h"

struct text_ref {
    const char *p;
    size_t len;
};
struct text_refs { /* the accepted answers of one example */
    const struct text_ref *ref;
    size_t count;
};

/* Share of byte-equal pairs. */
double metric_exact_match(const struct text_ref *target, const struct text_ref *pred, size_t n);
/* ids: whole sequences equal (sequence accuracy), rows of different lengths allowed. */
double metric_sequence_accuracy(const int32_t *const *target, const size_t *target_len,
                                const int32_t *const *pred, const size_t *pred_len, size_t n);

/* SQuAD's normal form: lower case, no ASCII punctuation, no articles, single spaces. */
spt_status metric_squad_normalize(const char *s, size_t len, buf *out, spt_err *err);
/* em and f1: maximum over the answers of each example, mean over the examples. */
spt_status metric_squad(const struct text_refs *target, const struct text_ref *pred, size_t n,
                        double *em, double *f1, spt_err *err);

/* The same with TriviaQA's normal form: more quotes count as punctuation, which becomes a space. */
spt_status metric_trivia_normalize(const char *s, size_t len, buf *out, spt_err *err);
spt_status metric_trivia_qa(const struct text_refs *target, const struct text_ref *pred, size_t n,
                            double *em, double *f1, spt_err *err);
/* Keeps the first example of each group, in order: which[0 .. *kept) are their indices (ReCoRD).
 * group: any number per example. */
spt_status metric_first_of_groups(const uint64_t *group, size_t n, size_t *which, size_t *kept,
                                  spt_err *err);

/* rouge1, rouge2, rougeLsum: mean F over the examples (the reference's rouge_mean; its registered
 * metric is an unseeded bootstrap around it). */
struct rouge_scores {
    double rouge1, rouge2, rougeLsum;
};
spt_status metric_rouge(const struct text_ref *target, const struct text_ref *pred, size_t n,
                        struct rouge_scores *out, spt_err *err);

/* Corpus BLEU-4, international tokenisation, exponential smoothing (the reference's sacreBLEU). */
spt_status metric_bleu(const struct text_refs *target, const struct text_ref *pred, size_t n,
                       double *out, spt_err *err);

/* Levenshtein distance in words: lower case, split at every character that is not \w (runs of them
 * leave empty words, as in the reference). */
struct edit_scores {
    double min, max, mean, median, sum;
};
spt_status metric_edit_distance(const struct text_ref *target, const struct text_ref *pred,
                                size_t n, struct edit_scores *out, spt_err *err);

/* Grouped metrics (MultiRC): group id per example. f1 over all answers is metric_f1_binary. */
double metric_group_exact_match(const int32_t *target, const int32_t *pred, const uint32_t *group,
                                size_t n, size_t groups);

#endif
