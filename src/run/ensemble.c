#include "run/ensemble.h"

#include <math.h>
#include <string.h>

void ensemble_release(struct ensemble *e)
{
    answers_release(&e->vote);
    answers_release(&e->mean);
    mem_free(e->agreement);
    *e = (struct ensemble){0};
}

static spt_status answers_like(const struct answers *from, struct answers *to, bool scores,
                               spt_err *err)
{
    to->n = from->n;
    to->labels = from->labels;
    const size_t cells = from->n * from->labels;
    to->label = mem_alloc(from->n, sizeof *to->label);
    to->target = mem_alloc(from->n, sizeof *to->target);
    if (scores)
        to->score = mem_zalloc(cells, sizeof *to->score);
    if (scores)
        to->prob = mem_zalloc(cells, sizeof *to->prob);
    if (!to->label || !to->target || (scores && (!to->score || !to->prob)))
        return err_nomem(err, cells * sizeof *to->score);
    memcpy(to->target, from->target, from->n * sizeof *to->target);
    return SPT_OK;
}

/* Means in member order, in double. */
static void average(const struct answers *a, size_t members, struct answers *to)
{
    for (size_t i = 0; i < to->n * to->labels; i++) {
        double score = 0, prob = 0;
        for (size_t m = 0; m < members; m++) {
            score += (double)a[m].score[i];
            prob += (double)a[m].prob[i];
        }
        to->score[i] = (float)(score / (double)members);
        to->prob[i] = (float)(prob / (double)members);
    }
}

static double value(const float *score, const struct task_text *t, size_t k, bool per_token)
{
    const size_t len = t->report.off[k + 1] - t->report.off[k];
    return (double)score[k] / (per_token ? (double)len : 1);
}

/* First on ties, -1 with a NaN. */
static int32_t best_of(const float *score, const struct task_text *t, size_t K, bool per_token)
{
    int32_t best = -1;
    for (size_t k = 0; k < K; k++) {
        if (isnan(score[k]))
            return -1;
        if (best < 0 || value(score, t, k, per_token) > value(score, t, (size_t)best, per_token))
            best = (int32_t)k;
    }
    return best;
}

static bool same_answer(const struct answers *a, const struct answers *b, size_t i)
{
    if (a->text)
        return !strcmp(a->text[i], b->text[i]);
    return a->label[i] == b->label[i];
}

static size_t votes_for(const struct answers *a, size_t members, size_t m, size_t i)
{
    size_t n = 0;
    for (size_t k = 0; k < members; k++)
        n += same_answer(&a[m], &a[k], i);
    return n;
}

/* The member that speaks for the majority on example i. */
static size_t speaker(const struct answers *a, size_t members, const struct answers *mean,
                      const struct task_text *t, bool per_token, size_t i)
{
    size_t best = 0, most = votes_for(a, members, 0, i);
    for (size_t m = 1; m < members; m++) {
        const size_t n = votes_for(a, members, m, i);
        bool better = n > most;
        if (n == most && mean->score && a[m].label[i] >= 0 && a[best].label[i] >= 0) {
            const float *score = mean->score + i * mean->labels;
            better = value(score, t, (size_t)a[m].label[i], per_token) >
                     value(score, t, (size_t)a[best].label[i], per_token);
        }
        if (better) {
            best = m;
            most = n;
        }
    }
    return best;
}

static spt_status combine(const struct answers *a, size_t members, const struct task_text *t,
                          bool per_token, struct ensemble *e, spt_err *err)
{
    const size_t n = a->n;
    const bool scores = a->score != NULL;
    TRY(answers_like(a, &e->vote, scores, err));
    if (scores) {
        average(a, members, &e->vote);
        TRY(answers_like(a, &e->mean, true, err));
        memcpy(e->mean.score, e->vote.score, n * a->labels * sizeof *a->score);
        memcpy(e->mean.prob, e->vote.prob, n * a->labels * sizeof *a->prob);
    }
    if (a->text && !(e->vote.text = mem_zalloc(n, sizeof *e->vote.text)))
        return err_nomem(err, n * sizeof *e->vote.text);
    e->agreement = mem_alloc(n, sizeof *e->agreement);
    if (!e->agreement)
        return err_nomem(err, n * sizeof *e->agreement);
    for (size_t i = 0; i < n; i++) {
        if (scores)
            e->mean.label[i] = best_of(e->mean.score + i * a->labels, t, a->labels, per_token);
        const size_t m = speaker(a, members, &e->vote, t, per_token, i);
        e->vote.label[i] = a[m].label[i];
        e->agreement[i] = (float)votes_for(a, members, m, i) / (float)members;
        if (a->text && !(e->vote.text[i] = mem_strdup(a[m].text[i])))
            return err_nomem(err, strlen(a[m].text[i]));
    }
    return SPT_OK;
}

spt_status ensemble_combine(const struct answers *a, size_t members, const struct task_text *t,
                            bool per_token, struct ensemble *out, spt_err *err)
{
    struct ensemble e = {0};
    const spt_status st = combine(a, members, t, per_token, &e, err);
    if (st) {
        ensemble_release(&e);
        return st;
    }
    *out = e;
    return SPT_OK;
}
