#include "metric/class_metrics.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

double metric_accuracy(const int32_t *target, const int32_t *pred, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        hits += target[i] == pred[i];
    return n ? 100 * ((double)hits / (double)n) : NAN;
}

double metric_accuracy_declared(const int32_t *target, const int32_t *pred, size_t n, int32_t k)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        hits += target[i] == pred[i] && target[i] >= 0 && target[i] < k;
    return n ? 100 * ((double)hits / (double)n) : NAN;
}

/* 2tp / (2tp + fp + fn), 0 where undefined. */
static double f1_of(double tp, double fp, double fn)
{
    const double below = 2 * tp + fp + fn;
    return below > 0 ? 2 * tp / below : 0;
}

double metric_f1_binary(const int32_t *target, const int32_t *pred, size_t n)
{
    size_t tp = 0, fp = 0, fn = 0;
    for (size_t i = 0; i < n; i++) {
        const int32_t t = target[i];
        if (t != 0 && t != 1)
            return NAN;
        const int32_t p = pred[i] == 0 || pred[i] == 1 ? pred[i] : 1 - t;
        tp += t && p;
        fp += !t && p;
        fn += t && !p;
    }
    return n ? 100 * f1_of((double)tp, (double)fp, (double)fn) : NAN;
}

/* One class costs a pass: no storage, and K is small. */
static void count_class(const int32_t *target, const int32_t *pred, size_t n, int32_t c, size_t *tp,
                        size_t *fp, size_t *fn)
{
    *tp = *fp = *fn = 0;
    for (size_t i = 0; i < n; i++) {
        *tp += target[i] == c && pred[i] == c;
        *fp += target[i] != c && pred[i] == c;
        *fn += target[i] == c && pred[i] != c;
    }
}

double metric_f1_macro(const int32_t *target, const int32_t *pred, size_t n, int32_t k)
{
    double sum = 0;
    for (int32_t c = 0; c < k; c++) {
        size_t tp, fp, fn;
        count_class(target, pred, n, c, &tp, &fp, &fn);
        sum += f1_of((double)tp, (double)fp, (double)fn);
    }
    return n && k > 0 ? 100 * (sum / k) : NAN;
}

double metric_f1_micro(const int32_t *target, const int32_t *pred, size_t n, int32_t k)
{
    size_t tp = 0, fp = 0, fn = 0;
    for (size_t i = 0; i < n; i++) {
        const bool t = target[i] >= 0 && target[i] < k, p = pred[i] >= 0 && pred[i] < k;
        tp += t && target[i] == pred[i];
        fn += t && target[i] != pred[i];
        fp += p && target[i] != pred[i];
    }
    return n && k > 0 ? 100 * f1_of((double)tp, (double)fp, (double)fn) : NAN;
}

/* --- sorting ------------------------------------------------------------------------------ */

struct keyed {
    double key;
    size_t at;
};

static bool keyed_before(const struct keyed *a, const struct keyed *b)
{
    return a->key < b->key || (a->key == b->key && a->at < b->at);
}

static void sift(struct keyed *s, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && keyed_before(&s[child], &s[child + 1]))
            child++;
        if (!keyed_before(&s[i], &s[child]))
            return;
        const struct keyed t = s[i];
        s[i] = s[child];
        s[child] = t;
    }
}

static void sort_keyed(struct keyed *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift(s, i, n);
    for (size_t end = n; end-- > 1;) {
        const struct keyed t = s[0];
        s[0] = s[end];
        s[end] = t;
        sift(s, 0, end);
    }
}

static struct keyed *sorted(const double *v, size_t n)
{
    struct keyed *s = mem_alloc(n + 1, sizeof *s);
    for (size_t i = 0; s && i < n; i++)
        s[i] = (struct keyed){v[i], i};
    if (s)
        sort_keyed(s, n);
    return s;
}

/* --- correlations ------------------------------------------------------------------------- */

spt_status metric_matthews(const int32_t *target, const int32_t *pred, size_t n, double *out,
                           spt_err *err)
{
    struct keyed *s = mem_alloc(2 * n + 1, sizeof *s);
    if (!s)
        return err_nomem(err, 2 * n * sizeof *s);
    double hits = 0;
    for (size_t i = 0; i < n; i++) {
        s[i] = (struct keyed){target[i], i};
        s[n + i] = (struct keyed){pred[i], n + i};
        hits += target[i] == pred[i];
    }
    sort_keyed(s, 2 * n);
    double tp = 0, tt = 0, pp = 0; /* sums of t_k p_k, t_k^2, p_k^2 over the values k */
    for (size_t i = 0; i < 2 * n;) {
        double t = 0, p = 0;
        const double value = s[i].key;
        for (; i < 2 * n && s[i].key == value; i++) {
            t += s[i].at < n;
            p += s[i].at >= n;
        }
        tp += t * p;
        tt += t * t;
        pp += p * p;
    }
    mem_free(s);
    const double all = (double)n;
    const double below = (all * all - pp) * (all * all - tt);
    *out = n ? (below > 0 ? 100 * ((hits * all - tp) / sqrt(below)) : 0) : NAN;
    return SPT_OK;
}

double metric_pearson(const double *target, const double *pred, size_t n)
{
    if (n < 2)
        return NAN;
    double mt = 0, mp = 0;
    for (size_t i = 0; i < n; i++) {
        mt += target[i];
        mp += pred[i];
    }
    mt /= (double)n;
    mp /= (double)n;
    double tp = 0, tt = 0, pp = 0;
    bool same_t = true, same_p = true;
    for (size_t i = 0; i < n; i++) {
        const double a = target[i] - mt, b = pred[i] - mp;
        tp += a * b;
        tt += a * a;
        pp += b * b;
        same_t &= target[i] == target[0];
        same_p &= pred[i] == pred[0];
    }
    if (same_t || same_p)
        return NAN;
    if (n == 2) /* exact: two points lie on a line */
        return (target[1] > target[0]) == (pred[1] > pred[0]) ? 100 : -100;
    const double r = tp / (sqrt(tt) * sqrt(pp));
    return 100 * (r > 1 ? 1 : r < -1 ? -1 : r);
}

/* Ranks from 1; equal values share the mean of theirs. */
static spt_status make_ranks(const double *v, size_t n, double *rank, spt_err *err)
{
    struct keyed *s = sorted(v, n);
    if (!s)
        return err_nomem(err, n * sizeof *s);
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && s[end].key == s[i].key)
            end++;
        if (end == i) /* NaN equals nothing */
            end = i + 1;
        for (size_t k = i; k < end; k++)
            rank[s[k].at] = 0.5 * (double)(i + 1 + end);
        i = end;
    }
    mem_free(s);
    return SPT_OK;
}

spt_status metric_spearman(const double *target, const double *pred, size_t n, double *out,
                           spt_err *err)
{
    for (size_t i = 0; i < n; i++) {
        if (isnan(target[i]) || isnan(pred[i])) {
            *out = NAN;
            return SPT_OK;
        }
    }
    double *rank = mem_alloc(2 * n + 1, sizeof *rank);
    if (!rank)
        return err_nomem(err, 2 * n * sizeof *rank);
    spt_status st = make_ranks(target, n, rank, err);
    st = st ? st : make_ranks(pred, n, rank + n, err);
    if (!st)
        *out = metric_pearson(rank, rank + n, n);
    mem_free(rank);
    return st;
}

/* --- tables ------------------------------------------------------------------------------- */

size_t metric_outside(const int32_t *pred, size_t n, int32_t k)
{
    size_t outside = 0;
    for (size_t i = 0; i < n; i++)
        outside += pred[i] < 0 || pred[i] >= k;
    return outside;
}

void metric_confusion(const int32_t *target, const int32_t *pred, size_t n, int32_t k,
                      uint64_t *counts)
{
    const size_t width = (size_t)k + 1;
    memset(counts, 0, (size_t)k * width * sizeof *counts);
    for (size_t i = 0; i < n; i++) {
        if (target[i] < 0 || target[i] >= k)
            continue;
        const int32_t p = pred[i] < 0 || pred[i] >= k ? k : pred[i];
        counts[(size_t)target[i] * width + (size_t)p]++;
    }
}

struct class_scores metric_class_scores(const uint64_t *counts, int32_t k, int32_t which)
{
    const size_t width = (size_t)k + 1;
    const double tp = (double)counts[(size_t)which * width + (size_t)which];
    struct class_scores s = {0};
    for (size_t p = 0; p < width; p++)
        s.support += counts[(size_t)which * width + p];
    for (size_t t = 0; t < (size_t)k; t++)
        s.predicted += counts[t * width + (size_t)which];
    s.precision = s.predicted ? 100 * tp / (double)s.predicted : 0;
    s.recall = s.support ? 100 * tp / (double)s.support : 0;
    s.f1 = 100 * f1_of(tp, (double)s.predicted - tp, (double)s.support - tp);
    return s;
}

const char *metric_rule(const char *name)
{
    static const struct {
        const char *name, *rule;
    } rules[] = {
        {"accuracy", "answers equal to the target / all examples; answers outside the label set "
                     "are wrong"},
        {"exact_match", "texts equal byte for byte / all examples"},
        {"f1", "F1 of the second label; an answer that is neither label counts as the wrong one"},
        {"f1_macro", "mean of the F1 of all declared labels, 0 where a label neither occurs nor "
                     "is answered; answers outside the set only cost recall"},
        {"f1_micro", "F1 of the counts summed over all declared labels"},
        {"matthews_corrcoef", "correlation of the confusion table over all values that occur, "
                              "answers outside the set being one more value"},
        {"pearson_corrcoef", "linear correlation; NaN when one side is constant"},
        {"spearman_corrcoef", "linear correlation of the ranks, ties share their mean rank"},
        {"em", "normalised texts equal (SQuAD), best of the accepted answers"},
        {"rouge1", "mean F of clipped unigram overlap, no stemming, no bootstrap"},
        {"rouge2", "mean F of clipped bigram overlap, no stemming, no bootstrap"},
        {"rougeLsum", "mean F of the union of longest common subsequences per line"},
        {"bleu", "corpus BLEU-4, international tokenisation, exponential smoothing"},
        {"auc-roc", "area under the ROC curve of P(second label), ties count one half"},
        {"auc-pr", "average precision of P(second label)"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (strcmp(rules[i].name, name) == 0)
            return rules[i].rule;
    return NULL;
}

/* --- ranking ------------------------------------------------------------------------------ */

int32_t metric_argmax(const float *score, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (score[i] > score[best] || (isnan(score[i]) && !isnan(score[best])))
            best = i; /* NaN wins, as in NumPy: it must not hide */
    return (int32_t)best;
}

static double weight_of(const double *weight, size_t i)
{
    return weight ? weight[i] : 1;
}

spt_status metric_auc_roc(const int32_t *target, const double *p1, const double *weight, size_t n,
                          double *out, spt_err *err)
{
    struct keyed *s = sorted(p1, n);
    if (!s)
        return err_nomem(err, n * sizeof *s);
    double below = 0, area = 0, positives = 0; /* weight of negatives with smaller scores */
    for (size_t i = 0; i < n;) {
        double pos = 0, neg = 0;
        size_t end = i;
        for (; end < n && (s[end].key == s[i].key || end == i); end++) {
            const double w = weight_of(weight, s[end].at);
            if (target[s[end].at] == 1)
                pos += w;
            else
                neg += w;
        }
        area += pos * (below + 0.5 * neg);
        below += neg;
        positives += pos;
        i = end;
    }
    mem_free(s);
    *out = positives > 0 && below > 0 ? 100 * (area / (positives * below)) : NAN;
    return SPT_OK;
}

spt_status metric_auc_pr(const int32_t *target, const double *p1, const double *weight, size_t n,
                         double *out, spt_err *err)
{
    struct keyed *s = sorted(p1, n);
    if (!s)
        return err_nomem(err, n * sizeof *s);
    double positives = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        positives += target[i] == 1 ? weight_of(weight, i) : 0;
        all += weight_of(weight, i);
    }
    double tp = 0, fp = 0, area = 0;
    for (size_t i = n; i-- > 0;) {
        const double w = weight_of(weight, s[i].at);
        double gained = 0;
        size_t from = i;
        if (target[s[i].at] == 1)
            gained += w;
        else
            fp += w;
        while (from > 0 && s[from - 1].key == s[i].key) {
            from--;
            const double v = weight_of(weight, s[from].at);
            if (target[s[from].at] == 1)
                gained += v;
            else
                fp += v;
        }
        tp += gained;
        i = from;
        if (tp + fp > 0)
            area += gained / positives * (tp / (tp + fp));
    }
    mem_free(s);
    *out = positives > 0 && all > positives ? 100 * area : NAN;
    return SPT_OK;
}

static bool candidate_before(const struct rank_candidate *a, const struct rank_candidate *b)
{
    return a->input < b->input || (a->input == b->input && a->candidate < b->candidate);
}

static void sift_candidate(struct rank_candidate *s, size_t i, size_t n)
{
    for (size_t child; (child = 2 * i + 1) < n; i = child) {
        if (child + 1 < n && candidate_before(&s[child], &s[child + 1]))
            child++;
        if (!candidate_before(&s[i], &s[child]))
            return;
        const struct rank_candidate t = s[i];
        s[i] = s[child];
        s[child] = t;
    }
}

static void sort_candidates(struct rank_candidate *s, size_t n)
{
    for (size_t i = n / 2; i-- > 0;)
        sift_candidate(s, i, n);
    for (size_t end = n; end-- > 1;) {
        const struct rank_candidate t = s[0];
        s[0] = s[end];
        s[end] = t;
        sift_candidate(s, 0, end);
    }
}

static size_t best_of(const struct rank_candidate *c, size_t n, bool as_float)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++) {
        const bool more =
            as_float ? (float)c[i].score > (float)c[best].score : c[i].score > c[best].score;
        if (more)
            best = i;
    }
    return best;
}

/* Examples with any number of candidates: accuracy. */
static void rank_variable(const struct rank_candidate *c, size_t n, struct rank_scores *out)
{
    double right = 0, total = 0;
    for (size_t i = 0; i < n;) {
        size_t end = i;
        while (end < n && c[end].input == c[i].input)
            end++;
        const struct rank_candidate *best = &c[i + best_of(c + i, end - i, false)];
        right += best->correct ? best->weight : 0;
        total += best->weight;
        i = end;
    }
    out->accuracy = total > 0 ? 100 * right / total : NAN;
}

struct rank_table { /* per example */
    int32_t *target, *pred;
    double *weight, *p1;
    size_t n;
    bool several; /* some example has more than one correct candidate */
};

/* P(class 1) of two classes in single precision, as the reference computes it. */
static double softmax_second(float a, float b)
{
    const float top = a > b ? a : b;
    const float x = expf(a - top), y = expf(b - top);
    return (double)(y / (x + y));
}

static double weighted_f1(const struct rank_table *t, int32_t c)
{
    double tp = 0, fp = 0, fn = 0;
    for (size_t i = 0; i < t->n; i++) {
        tp += t->target[i] == c && t->pred[i] == c ? t->weight[i] : 0;
        fp += t->target[i] != c && t->pred[i] == c ? t->weight[i] : 0;
        fn += t->target[i] == c && t->pred[i] != c ? t->weight[i] : 0;
    }
    return f1_of(tp, fp, fn);
}

static spt_status rank_fixed(const struct rank_candidate *c, int32_t k, struct rank_table *t,
                             struct rank_scores *out, spt_err *err)
{
    double right = 0, total = 0;
    for (size_t i = 0; i < t->n; i++) {
        const struct rank_candidate *x = c + i * (size_t)k;
        const size_t best = best_of(x, (size_t)k, true);
        size_t correct = 0;
        t->target[i] = -1;
        for (size_t j = (size_t)k; j-- > 0;) {
            correct += x[j].correct;
            t->target[i] = x[j].correct ? (int32_t)j : t->target[i];
        }
        t->several |= correct > 1;
        t->pred[i] = (int32_t)best;
        t->weight[i] = x[0].weight;
        t->p1[i] = k == 2 ? softmax_second((float)x[0].score, (float)x[1].score) : 0;
        right += x[best].correct ? t->weight[i] : 0;
        total += t->weight[i];
    }
    out->accuracy = total > 0 ? 100 * (right / total) : NAN;
    if (t->several)
        return SPT_OK;
    if (k > 2) {
        double sum = 0;
        for (int32_t j = 0; j < k; j++)
            sum += weighted_f1(t, j);
        out->f1 = 100 * (sum / k);
        return SPT_OK;
    }
    for (size_t i = 0; i < t->n; i++) /* argmax of an empty indicator is 0 */
        t->target[i] = t->target[i] < 0 ? 0 : t->target[i];
    out->f1 = 100 * weighted_f1(t, 1);
    TRY(metric_auc_roc(t->target, t->p1, t->weight, t->n, &out->auc_roc, err));
    return metric_auc_pr(t->target, t->p1, t->weight, t->n, &out->auc_pr, err);
}

static spt_status check_candidates(const struct rank_candidate *c, size_t n, int32_t k,
                                   spt_err *err)
{
    for (size_t i = 1; i < n; i++)
        if (c[i].input == c[i - 1].input && c[i].candidate == c[i - 1].candidate)
            return err_set(err, SPT_E_FORMAT, "example %lld has candidate %lld twice",
                           (long long)c[i].input, (long long)c[i].candidate);
    if (k && n % (size_t)k)
        return err_set(err, SPT_E_FORMAT, "%zu scores cannot be %d per example", n, (int)k);
    for (size_t i = 0; k && i < n; i += (size_t)k)
        if (c[i].input != c[i + (size_t)k - 1].input)
            return err_set(err, SPT_E_FORMAT, "example %lld does not have %d candidates",
                           (long long)c[i].input, (int)k);
    return SPT_OK;
}

static spt_status rank_table_init(struct rank_table *t, size_t n, spt_err *err)
{
    t->n = n;
    t->target = mem_alloc(n + 1, sizeof *t->target);
    t->pred = mem_alloc(n + 1, sizeof *t->pred);
    t->weight = mem_alloc(n + 1, sizeof *t->weight);
    t->p1 = mem_alloc(n + 1, sizeof *t->p1);
    return t->target && t->pred && t->weight && t->p1 ? SPT_OK : err_nomem(err, n * 24);
}

spt_status metric_rank_classification(const struct rank_candidate *c, size_t n, int32_t classes,
                                      bool normalize, struct rank_scores *out, spt_err *err)
{
    struct rank_scores r = {NAN, NAN, NAN, NAN};
    struct rank_candidate *s = mem_alloc(n + 1, sizeof *s);
    if (!s)
        return err_nomem(err, n * sizeof *s);
    for (size_t i = 0; i < n; i++) {
        s[i] = c[i];
        if (normalize)
            s[i].score /= (double)c[i].length;
    }
    sort_candidates(s, n);
    struct rank_table t = {0};
    spt_status st = check_candidates(s, n, classes, err);
    if (!st && classes) {
        st = rank_table_init(&t, n / (size_t)classes, err);
        st = st ? st : rank_fixed(s, classes, &t, &r, err);
    } else if (!st) {
        rank_variable(s, n, &r);
    }
    mem_free(t.target);
    mem_free(t.pred);
    mem_free(t.weight);
    mem_free(t.p1);
    mem_free(s);
    if (!st)
        *out = r;
    return st;
}
