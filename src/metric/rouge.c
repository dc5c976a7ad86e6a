/* ROUGE as rouge_score computes it without stemming: F of clipped n-gram overlap, and rougeLsum
 * over lines by the union of longest common subsequences. */
#include <math.h>
#include <string.h>

#include "metric/text_metrics.h"
#include "metric/words_internal.h"
#include "text/unicode.h"

#define TEXT_MAX ((size_t)1 << 30)
#define CELLS_MAX ((size_t)1 << 28) /* of one table: 1 GB */

struct side { /* one text: its words line by line */
    buf text;
    struct word_list words;
    size_t *line; /* words[line[i] .. line[i + 1]) */
    size_t lines, line_cap;
    struct gram_list grams;
    uint32_t *left; /* occurrences of each word not yet used */
    size_t left_cap;
};

struct rouge {
    struct word_table words;
    struct side target, pred;
    uint32_t *cell;
    size_t cell_cap;
    bool *hit; /* per word of the target's line */
    size_t hit_cap;
};

static void release_side(struct side *s)
{
    buf_release(&s->text);
    word_list_release(&s->words);
    gram_list_release(&s->grams);
    mem_free(s->line);
    mem_free(s->left);
}

/* The reference puts a line end behind every " . " before it scores. */
static void add_lines(struct side *s, struct text_ref t)
{
    const char *p = t.p, *end = p + t.len;
    buf prepared;
    buf_init(&prepared, TEXT_MAX);
    while (p < end) {
        if (end - p >= 3 && memcmp(p, " . ", 3) == 0) {
            buf_add(&prepared, " .\n", 3);
            p += 3;
        } else {
            buf_addc(&prepared, *p++);
        }
    }
    unicode_add_lower(buf_str(&prepared), prepared.len, &s->text);
    if (prepared.st)
        s->text.st = prepared.st;
    buf_release(&prepared);
}

static bool is_alnum(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static spt_status start_line(struct side *s, spt_err *err)
{
    TRY(mem_grow(&s->line, &s->line_cap, s->lines + 2, sizeof *s->line, UINT32_MAX, err));
    s->line[s->lines++] = s->words.len;
    s->line[s->lines] = s->words.len;
    return SPT_OK;
}

static spt_status split_side(struct side *s, struct word_table *t, struct text_ref text,
                             spt_err *err)
{
    buf_clear(&s->text);
    s->words.len = 0;
    s->lines = 0;
    add_lines(s, text);
    TRY(buf_status(&s->text, "text", err));
    TRY(start_line(s, err));
    const char *p = buf_str(&s->text), *end = p + s->text.len;
    while (p < end) {
        if (*p == '\n')
            TRY(start_line(s, err));
        if (!is_alnum(*p)) {
            p++;
            continue;
        }
        const char *from = p;
        while (p < end && is_alnum(*p))
            p++;
        uint32_t id;
        TRY(word_table_id(t, from, (size_t)(p - from), &id, err));
        TRY(word_list_add(&s->words, id, err));
        s->line[s->lines] = s->words.len;
    }
    return SPT_OK;
}

static double f_of(size_t common, size_t pred, size_t target)
{
    const double precision = (double)common / (double)(pred ? pred : 1);
    const double recall = (double)common / (double)(target ? target : 1);
    return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

static spt_status score_grams(struct rouge *r, int n, double *out, spt_err *err)
{
    TRY(gram_list_make(&r->target.grams, &r->target.words, n, err));
    TRY(gram_list_make(&r->pred.grams, &r->pred.words, n, err));
    *out = f_of(gram_overlap(&r->target.grams, &r->pred.grams), r->pred.grams.total,
                r->target.grams.total);
    return SPT_OK;
}

/* Marks the words of target line t that the longest common subsequence with one line uses. */
static spt_status mark_common(struct rouge *r, const uint32_t *t, size_t nt, const uint32_t *p,
                              size_t np, spt_err *err)
{
    if (!nt || !np)
        return SPT_OK;
    const size_t width = np + 1;
    if (nt + 1 > CELLS_MAX / width)
        return err_set(err, SPT_E_FORMAT, "lines of %zu and %zu words are too long for ROUGE-L", nt,
                       np);
    TRY(mem_grow(&r->cell, &r->cell_cap, (nt + 1) * width, sizeof *r->cell, CELLS_MAX, err));
    uint32_t *c = r->cell;
    memset(c, 0, width * sizeof *c);
    for (size_t i = 1; i <= nt; i++) {
        c[i * width] = 0;
        for (size_t k = 1; k <= np; k++) {
            const uint32_t up = c[(i - 1) * width + k], back = c[i * width + k - 1];
            c[i * width + k] = t[i - 1] == p[k - 1] ? c[(i - 1) * width + k - 1] + 1
                               : up > back          ? up
                                                    : back;
        }
    }
    for (size_t i = nt, k = np; i && k;) {
        if (t[i - 1] == p[k - 1]) {
            r->hit[i - 1] = true;
            i--;
            k--;
        } else if (c[i * width + k - 1] > c[(i - 1) * width + k]) {
            k--;
        } else {
            i--;
        }
    }
    return SPT_OK;
}

static spt_status count_words(struct side *s, size_t kinds, spt_err *err)
{
    TRY(mem_grow(&s->left, &s->left_cap, kinds + 1, sizeof *s->left, UINT32_MAX, err));
    memset(s->left, 0, kinds * sizeof *s->left);
    for (size_t i = 0; i < s->words.len; i++)
        s->left[s->words.id[i]]++;
    return SPT_OK;
}

static spt_status score_lines(struct rouge *r, double *out, spt_err *err)
{
    struct side *t = &r->target, *p = &r->pred;
    *out = 0;
    if (!t->words.len || !p->words.len)
        return SPT_OK;
    TRY(count_words(t, r->words.count, err));
    TRY(count_words(p, r->words.count, err));
    size_t hits = 0;
    for (size_t i = 0; i < t->lines; i++) {
        const uint32_t *line = t->words.id + t->line[i];
        const size_t n = t->line[i + 1] - t->line[i];
        TRY(mem_grow(&r->hit, &r->hit_cap, n + 1, sizeof *r->hit, UINT32_MAX, err));
        memset(r->hit, 0, n * sizeof *r->hit);
        for (size_t k = 0; k < p->lines; k++)
            TRY(mark_common(r, line, n, p->words.id + p->line[k], p->line[k + 1] - p->line[k],
                            err));
        for (size_t k = 0; k < n; k++) {
            const uint32_t id = line[k];
            if (!r->hit[k] || !t->left[id] || !p->left[id])
                continue;
            hits++;
            t->left[id]--;
            p->left[id]--;
        }
    }
    *out = f_of(hits, p->words.len, t->words.len);
    return SPT_OK;
}

static spt_status score_pair(struct rouge *r, struct text_ref target, struct text_ref pred,
                             struct rouge_scores *out, spt_err *err)
{
    word_table_clear(&r->words);
    TRY(split_side(&r->target, &r->words, target, err));
    TRY(split_side(&r->pred, &r->words, pred, err));
    TRY(score_grams(r, 1, &out->rouge1, err));
    TRY(score_grams(r, 2, &out->rouge2, err));
    return score_lines(r, &out->rougeLsum, err);
}

spt_status metric_rouge(const struct text_ref *target, const struct text_ref *pred, size_t n,
                        struct rouge_scores *out, spt_err *err)
{
    struct rouge r = {.cell = NULL};
    word_table_init(&r.words);
    buf_init(&r.target.text, TEXT_MAX);
    buf_init(&r.pred.text, TEXT_MAX);
    struct rouge_scores sum = {0};
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        struct rouge_scores one;
        st = score_pair(&r, target[i], pred[i], &one, err);
        if (st)
            break;
        sum.rouge1 += one.rouge1;
        sum.rouge2 += one.rouge2;
        sum.rougeLsum += one.rougeLsum;
    }
    word_table_release(&r.words);
    release_side(&r.target);
    release_side(&r.pred);
    mem_free(r.cell);
    mem_free(r.hit);
    if (st)
        return st;
    const double k = n ? 100 / (double)n : NAN;
    *out = (struct rouge_scores){sum.rouge1 * k, sum.rouge2 * k, sum.rougeLsum * k};
    return SPT_OK;
}
