/* Values -> metrics, in the order and under the names of the reference (spec/data.md 5.5). */
#include "task/task.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "metric/class_metrics.h"
#include "metric/text_metrics.h"
#include "task/user_internal.h"

/* Columns of one task's values, as the metrics want them. */
struct columns {
    size_t n;
    int32_t *target, *prediction;
    double *target_number, *prediction_number;
    uint32_t *group;
    size_t groups;
    struct text_ref *target_text, *prediction_text, *refs;
    struct text_refs *answers;
};

struct scoring {
    const struct task *t;
    const struct task_value *target, *prediction;
    size_t n;
    task_score_fn add;
    void *ctx;
    struct columns c;
};

static spt_status take(void *pointer, size_t count, size_t size, spt_err *err)
{
    void *made = mem_zalloc(count + 1, size);
    if (!made)
        return err_nomem(err, count);
    memcpy(pointer, &made, sizeof made);
    return SPT_OK;
}

static spt_status make_texts(struct scoring *s, spt_err *err)
{
    struct columns *c = &s->c;
    size_t total = 0;
    for (size_t i = 0; i < s->n; i++)
        total += s->target[i].text_count;
    TRY(take(&c->target_text, s->n, sizeof *c->target_text, err));
    TRY(take(&c->prediction_text, s->n, sizeof *c->prediction_text, err));
    TRY(take(&c->answers, s->n, sizeof *c->answers, err));
    TRY(take(&c->refs, total, sizeof *c->refs, err));
    for (size_t i = 0, at = 0; i < s->n; i++) {
        const struct task_value *t = &s->target[i], *p = &s->prediction[i];
        c->target_text[i] = (struct text_ref){t->text.s, t->text.len};
        c->prediction_text[i] = (struct text_ref){p->text.s, p->text.len};
        c->answers[i] = (struct text_refs){c->refs + at, t->text_count};
        for (size_t k = 0; k < t->text_count; k++)
            c->refs[at++] = (struct text_ref){t->texts[k].s, t->texts[k].len};
    }
    return SPT_OK;
}

static spt_status make_columns(struct scoring *s, spt_err *err)
{
    struct columns *c = &s->c;
    c->n = s->n;
    TRY(take(&c->target, s->n, sizeof *c->target, err));
    TRY(take(&c->prediction, s->n, sizeof *c->prediction, err));
    TRY(take(&c->target_number, s->n, sizeof *c->target_number, err));
    TRY(take(&c->prediction_number, s->n, sizeof *c->prediction_number, err));
    for (size_t i = 0; i < s->n; i++) {
        c->target[i] = (int32_t)s->target[i].label;
        c->prediction[i] = (int32_t)s->prediction[i].label;
        c->target_number[i] = s->target[i].number;
        c->prediction_number[i] = s->prediction[i].number;
    }
    return make_texts(s, err);
}

static void release_columns(struct columns *c)
{
    mem_free(c->target);
    mem_free(c->prediction);
    mem_free(c->target_number);
    mem_free(c->prediction_number);
    mem_free(c->group);
    mem_free(c->target_text);
    mem_free(c->prediction_text);
    mem_free(c->refs);
    mem_free(c->answers);
}

static int32_t classes_of(const struct task *t)
{
    if (t->user)
        return (int32_t)t->user->spec.labels;
    const char *const *classes = t->verbalizer[0] ? t->verbalizer : t->config->classes;
    int32_t n = 0;
    while (n < TASK_MAX_CLASSES && classes[n])
        n++;
    return n;
}

/* --- one metric each ---------------------------------------------------------------------- */

static spt_status score_accuracy(struct scoring *s, spt_err *err)
{
    const struct columns *c = &s->c;
    const double v = s->t->answer == ANSWER_TEXT || s->t->answer == ANSWER_QA
                         ? metric_exact_match(c->target_text, c->prediction_text, s->n)
                         : metric_accuracy(c->target, c->prediction, s->n);
    return s->add(s->ctx, "accuracy", v, err);
}

/* The reference stops on unlabelled data; here the value is NaN. */
static spt_status score_f1(struct scoring *s, spt_err *err)
{
    return s->add(s->ctx, "f1", metric_f1_binary(s->c.target, s->c.prediction, s->n), err);
}

static spt_status score_matthews(struct scoring *s, spt_err *err)
{
    double v;
    TRY(metric_matthews(s->c.target, s->c.prediction, s->n, &v, err));
    return s->add(s->ctx, "matthews_corrcoef", v, err);
}

static spt_status score_pearson(struct scoring *s, spt_err *err)
{
    return s->add(s->ctx, "pearson_corrcoef",
                  metric_pearson(s->c.target_number, s->c.prediction_number, s->n), err);
}

static spt_status score_spearman(struct scoring *s, spt_err *err)
{
    double v;
    TRY(metric_spearman(s->c.target_number, s->c.prediction_number, s->n, &v, err));
    return s->add(s->ctx, "spearman_corrcoef", v, err);
}

static spt_status score_mean_f1(struct scoring *s, spt_err *err)
{
    char key[32];
    const int32_t k = classes_of(s->t);
    snprintf(key, sizeof key, "mean_%dclass_f1", (int)k);
    return s->add(s->ctx, key, metric_f1_macro(s->c.target, s->c.prediction, s->n, k), err);
}

/* Numbers the groups in order of appearance. */
static spt_status number_groups(struct scoring *s, spt_err *err)
{
    struct columns *c = &s->c;
    size_t slots = 16;
    while (slots < s->n * 2)
        slots *= 2;
    uint32_t *slot = mem_zalloc(slots, sizeof *slot);
    if (!slot)
        return err_nomem(err, slots);
    spt_status st = take(&c->group, s->n, sizeof *c->group, err);
    for (size_t i = 0; i < s->n && !st; i++) {
        const int64_t *g = s->target[i].group;
        const uint64_t h =
            ((uint64_t)g[0] * 0x9e3779b97f4a7c15u + (uint64_t)g[1]) * 0xbf58476d1ce4e5b9u;
        size_t at = (size_t)(h >> 20) & (slots - 1);
        while (slot[at] && memcmp(s->target[slot[at] - 1].group, g, 2 * sizeof *g) != 0)
            at = (at + 1) & (slots - 1);
        if (!slot[at]) {
            slot[at] = (uint32_t)i + 1;
            c->group[i] = (uint32_t)c->groups++;
        } else {
            c->group[i] = c->group[slot[at] - 1];
        }
    }
    mem_free(slot);
    return st;
}

static spt_status score_multirc(struct scoring *s, spt_err *err)
{
    TRY(number_groups(s, err));
    TRY(score_f1(s, err));
    return s->add(
        s->ctx, "exact_match",
        metric_group_exact_match(s->c.target, s->c.prediction, s->c.group, s->n, s->c.groups), err);
}

static spt_status add_squad(struct scoring *s, size_t n, spt_err *err)
{
    double em, f1;
    TRY(metric_squad(s->c.answers, s->c.prediction_text, n, &em, &f1, err));
    TRY(s->add(s->ctx, "em", em, err));
    return s->add(s->ctx, "f1", f1, err);
}

static spt_status score_squad(struct scoring *s, spt_err *err)
{
    return add_squad(s, s->n, err);
}

/* ReCoRD repeats a query once per answer: only its first copy counts. */
static spt_status score_record(struct scoring *s, spt_err *err)
{
    TRY(number_groups(s, err));
    size_t kept = 0;
    for (size_t i = 0; i < s->n; i++) {
        if (s->c.group[i] != kept)
            continue;
        s->c.answers[kept] = s->c.answers[i];
        s->c.prediction_text[kept++] = s->c.prediction_text[i];
    }
    return add_squad(s, kept, err);
}

static spt_status score_rouge(struct scoring *s, spt_err *err)
{
    struct rouge_scores r;
    TRY(metric_rouge(s->c.target_text, s->c.prediction_text, s->n, &r, err));
    TRY(s->add(s->ctx, "rouge1", r.rouge1, err));
    TRY(s->add(s->ctx, "rouge2", r.rouge2, err));
    return s->add(s->ctx, "rougeLsum", r.rougeLsum, err);
}

static spt_status score_bleu(struct scoring *s, spt_err *err)
{
    double v;
    struct text_refs *target = mem_zalloc(s->n + 1, sizeof *target);
    if (!target)
        return err_nomem(err, s->n);
    for (size_t i = 0; i < s->n; i++)
        target[i] =
            s->c.answers[i].count ? s->c.answers[i] : (struct text_refs){&s->c.target_text[i], 1};
    const spt_status st = metric_bleu(target, s->c.prediction_text, s->n, &v, err);
    mem_free(target);
    return st ? st : s->add(s->ctx, "bleu", v, err);
}

static spt_status score_edit(struct scoring *s, spt_err *err)
{
    struct edit_scores e;
    TRY(metric_edit_distance(s->c.target_text, s->c.prediction_text, s->n, &e, err));
    TRY(s->add(s->ctx, "min_edit", e.min, err));
    TRY(s->add(s->ctx, "max_edit", e.max, err));
    TRY(s->add(s->ctx, "mean_edit", e.mean, err));
    TRY(s->add(s->ctx, "median_edit", e.median, err));
    return s->add(s->ctx, "sum_edit", e.sum, err);
}

static spt_status score_code(struct scoring *s, spt_err *err)
{
    const struct task_user *u = s->t->user;
    for (size_t i = 0; i < u->metrics; i++)
        TRY(u->metric[i]->run.score(u->metric[i]->ctx, s->target, s->prediction, s->n, s->add,
                                    s->ctx, err));
    return SPT_OK;
}

static spt_status add_prefixed(struct scoring *s, const char *prefix, const char *key, double v,
                               spt_err *err)
{
    char full[64];
    snprintf(full, sizeof full, "%s%s", prefix, key);
    return s->add(s->ctx, full, v, err);
}

static spt_status score_candidates(struct scoring *s, bool normalize, const char *prefix,
                                   spt_err *err)
{
    const int32_t classes = s->t->text == TEXT_RECORD_FIRST ? 0 : classes_of(s->t);
    struct rank_candidate *c = mem_alloc(s->n + 1, sizeof *c);
    if (!c)
        return err_nomem(err, s->n);
    for (size_t i = 0; i < s->n; i++) {
        const struct task_value *t = &s->target[i];
        c[i] = (struct rank_candidate){t->rank_index[0], t->rank_index[1],      t->rank_correct, 1,
                                       t->rank_length,   s->prediction[i].score};
    }
    struct rank_scores r;
    spt_status st = metric_rank_classification(c, s->n, classes, normalize, &r, err);
    mem_free(c);
    if (!st)
        st = add_prefixed(s, prefix, "accuracy", r.accuracy, err);
    char key[32];
    snprintf(key, sizeof key, classes == 2 ? "f1" : "mean_%dclass_f1", (int)classes);
    if (!st && classes >= 2 && !isnan(r.f1))
        st = add_prefixed(s, prefix, key, r.f1, err);
    if (!st && classes == 2 && !isnan(r.f1)) {
        st = add_prefixed(s, prefix, "auc-roc", r.auc_roc, err);
        if (!st)
            st = add_prefixed(s, prefix, "auc-pr", r.auc_pr, err);
    }
    return st;
}

static spt_status score_rank(struct scoring *s, spt_err *err)
{
    return score_candidates(s, false, "", err);
}

static spt_status score_rank_normed(struct scoring *s, spt_err *err)
{
    return score_candidates(s, true, s->t->metrics & METRIC_RANK ? "normed_" : "", err);
}

spt_status task_score(const struct task *t, const struct task_value *target,
                      const struct task_value *prediction, size_t n, task_score_fn add, void *ctx,
                      spt_err *err)
{
    /* The order in which a task's metrics appear in the reference's files. */
    static const struct {
        unsigned bit;
        spt_status (*score)(struct scoring *, spt_err *);
    } order[] = {
        {METRIC_MATTHEWS, score_matthews}, {METRIC_PEARSON, score_pearson},
        {METRIC_SPEARMAN, score_spearman}, {METRIC_F1, score_f1},
        {METRIC_MEAN_F1, score_mean_f1},   {METRIC_ACCURACY, score_accuracy},
        {METRIC_MULTIRC, score_multirc},   {METRIC_SQUAD, score_squad},
        {METRIC_RECORD, score_record},     {METRIC_ROUGE, score_rouge},
        {METRIC_RANK, score_rank},         {METRIC_RANK_NORMED, score_rank_normed},
        {METRIC_BLEU, score_bleu},         {METRIC_EDIT, score_edit},
        {METRIC_CODE, score_code},
    };
    struct scoring s = {
        .t = t, .target = target, .prediction = prediction, .n = n, .add = add, .ctx = ctx};
    spt_status st = make_columns(&s, err);
    for (size_t i = 0; i < sizeof order / sizeof *order && !st; i++)
        if (t->metrics & order[i].bit)
            st = order[i].score(&s, err);
    release_columns(&s.c);
    return st;
}
