#include "metric/text_metrics.h"

#include <math.h>
#include <string.h>

#include "metric/words_internal.h"
#include "text/unicode.h"

#define TEXT_MAX ((size_t)1 << 30)

double metric_exact_match(const struct text_ref *target, const struct text_ref *pred, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        hits += target[i].len == pred[i].len &&
                (!pred[i].len || memcmp(target[i].p, pred[i].p, pred[i].len) == 0);
    return n ? 100 * ((double)hits / (double)n) : NAN;
}

double metric_sequence_accuracy(const int32_t *const *target, const size_t *target_len,
                                const int32_t *const *pred, const size_t *pred_len, size_t n)
{
    size_t hits = 0;
    for (size_t i = 0; i < n; i++)
        hits += target_len[i] == pred_len[i] &&
                (!pred_len[i] || memcmp(target[i], pred[i], pred_len[i] * sizeof **pred) == 0);
    return n ? 100 * ((double)hits / (double)n) : NAN;
}

double metric_group_exact_match(const int32_t *target, const int32_t *pred, const uint32_t *group,
                                size_t n, size_t groups)
{
    size_t seen = 0, right = 0;
    for (size_t g = 0; g < groups; g++) {
        bool any = false, all = true;
        for (size_t i = 0; i < n; i++) {
            if (group[i] != g)
                continue;
            any = true;
            all &= target[i] == pred[i] && pred[i] != -1;
        }
        seen += any;
        right += any && all;
    }
    return seen ? 100 * (double)right / (double)seen : NAN;
}

/* --- SQuAD and TriviaQA ------------------------------------------------------------------- */

static bool is_ascii_punct(uint32_t cp)
{
    return cp > 0x20 && cp < 0x7f && (unicode_is_punct(cp) || unicode_is_symbol(cp));
}

static bool is_trivia_punct(uint32_t cp)
{
    return is_ascii_punct(cp) || cp == 0x2018 || cp == 0x2019 || cp == 0xb4;
}

/* Is [p, ...) one of a, an, the, ending at a word boundary? Its length, or 0. */
static size_t article_at(const char *p, const char *end)
{
    static const char *const articles[] = {"an", "a", "the"};
    for (size_t i = 0; i < 3; i++) {
        const size_t n = strlen(articles[i]);
        if ((size_t)(end - p) < n || memcmp(p, articles[i], n) != 0)
            continue;
        uint32_t cp = ' ';
        if (p + n < end)
            unicode_next(p + n, end, &cp);
        if (!unicode_is_word(cp))
            return n;
    }
    return 0;
}

/* Lower case, punctuation, articles: the text in `in` becomes `out`; white space comes last. */
static void drop_punctuation(const buf *in, bool trivia, buf *out)
{
    const char *p = buf_str(in), *end = p + in->len;
    while (p < end) {
        uint32_t cp;
        const size_t n = unicode_next(p, end, &cp);
        if (trivia ? is_trivia_punct(cp) : is_ascii_punct(cp)) {
            if (trivia)
                buf_addc(out, ' ');
        } else {
            buf_add(out, p, n);
        }
        p += n;
    }
}

static void drop_articles(const buf *in, buf *out)
{
    const char *p = buf_str(in), *end = p + in->len;
    bool in_word = false;
    while (p < end) {
        const size_t article = in_word ? 0 : article_at(p, end);
        if (article) {
            buf_addc(out, ' ');
            p += article;
            in_word = true; /* what follows is no word character */
            continue;
        }
        uint32_t cp;
        const size_t n = unicode_next(p, end, &cp);
        in_word = unicode_is_word(cp);
        buf_add(out, p, n);
        p += n;
    }
}

static void single_spaces(const buf *in, buf *out)
{
    const char *p = buf_str(in), *end = p + in->len;
    const size_t start = out->len;
    bool space = false;
    while (p < end) {
        uint32_t cp;
        const size_t n = unicode_next(p, end, &cp);
        if (unicode_is_space(cp)) {
            space = out->len > start;
        } else {
            if (space)
                buf_addc(out, ' ');
            space = false;
            buf_add(out, p, n);
        }
        p += n;
    }
}

static spt_status normalize(const char *s, size_t len, bool trivia, buf *out, spt_err *err)
{
    buf a, b;
    buf_init(&a, TEXT_MAX);
    buf_init(&b, TEXT_MAX);
    unicode_add_lower(s, len, &a);
    drop_punctuation(&a, trivia, &b);
    spt_status st = buf_status(&a, "text", err);
    buf_clear(&a);
    drop_articles(&b, &a);
    st = st ? st : buf_status(&b, "text", err);
    single_spaces(&a, out);
    st = st ? st : buf_status(&a, "text", err);
    st = st ? st : buf_status(out, "text", err);
    buf_release(&a);
    buf_release(&b);
    return st;
}

spt_status metric_squad_normalize(const char *s, size_t len, buf *out, spt_err *err)
{
    return normalize(s, len, false, out, err);
}

spt_status metric_trivia_normalize(const char *s, size_t len, buf *out, spt_err *err)
{
    return normalize(s, len, true, out, err);
}

struct qa { /* storage of one comparison */
    bool trivia;
    buf target, pred;
    struct word_table words;
    struct word_list t, p;
    struct gram_list tg, pg;
};

static double overlap_f1(size_t common, size_t pred, size_t target)
{
    if (!common)
        return 0;
    const double precision = (double)common / (double)pred;
    const double recall = (double)common / (double)target;
    return 2 * precision * recall / (precision + recall);
}

static spt_status compare_answer(struct qa *q, struct text_ref answer, double *em, double *f1,
                                 spt_err *err)
{
    buf_clear(&q->target);
    TRY(normalize(answer.p, answer.len, q->trivia, &q->target, err));
    if (q->target.len == q->pred.len &&
        memcmp(buf_str(&q->target), buf_str(&q->pred), q->pred.len) == 0)
        *em = 1;
    q->t.len = 0;
    TRY(word_list_split(&q->t, &q->words, buf_str(&q->target), q->target.len, err));
    TRY(gram_list_make(&q->tg, &q->t, 1, err));
    const double f = overlap_f1(gram_overlap(&q->tg, &q->pg), q->p.len, q->t.len);
    *f1 = f > *f1 ? f : *f1;
    return SPT_OK;
}

static spt_status compare_answers(struct qa *q, const struct text_refs *answers,
                                  struct text_ref pred, double *em, double *f1, spt_err *err)
{
    word_table_clear(&q->words);
    buf_clear(&q->pred);
    q->p.len = 0;
    TRY(normalize(pred.p, pred.len, q->trivia, &q->pred, err));
    TRY(word_list_split(&q->p, &q->words, buf_str(&q->pred), q->pred.len, err));
    TRY(gram_list_make(&q->pg, &q->p, 1, err));
    *em = *f1 = 0;
    for (size_t i = 0; i < answers->count; i++)
        TRY(compare_answer(q, answers->ref[i], em, f1, err));
    return SPT_OK;
}

static spt_status question_answering(const struct text_refs *target, const struct text_ref *pred,
                                     size_t n, bool trivia, double *em, double *f1, spt_err *err)
{
    struct qa q = {.trivia = trivia};
    buf_init(&q.target, TEXT_MAX);
    buf_init(&q.pred, TEXT_MAX);
    word_table_init(&q.words);
    double em_sum = 0, f1_sum = 0;
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++) {
        double e, f;
        st = compare_answers(&q, &target[i], pred[i], &e, &f, err);
        if (!st) {
            em_sum += e;
            f1_sum += f;
        }
    }
    buf_release(&q.target);
    buf_release(&q.pred);
    word_table_release(&q.words);
    word_list_release(&q.t);
    word_list_release(&q.p);
    gram_list_release(&q.tg);
    gram_list_release(&q.pg);
    if (!st) {
        *em = n ? 100 * (em_sum / (double)n) : NAN;
        *f1 = n ? 100 * (f1_sum / (double)n) : NAN;
    }
    return st;
}

spt_status metric_squad(const struct text_refs *target, const struct text_ref *pred, size_t n,
                        double *em, double *f1, spt_err *err)
{
    return question_answering(target, pred, n, false, em, f1, err);
}

spt_status metric_trivia_qa(const struct text_refs *target, const struct text_ref *pred, size_t n,
                            double *em, double *f1, spt_err *err)
{
    return question_answering(target, pred, n, true, em, f1, err);
}

spt_status metric_first_of_groups(const uint64_t *group, size_t n, size_t *which, size_t *kept,
                                  spt_err *err)
{
    size_t buckets = 16;
    while (buckets < 2 * n)
        buckets *= 2;
    size_t *bucket = mem_zalloc(buckets, sizeof *bucket);
    if (!bucket)
        return err_nomem(err, buckets * sizeof *bucket);
    *kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t b =
            (size_t)((group[i] ^ group[i] >> 29) * 0x9e3779b97f4a7c15u >> 20) & (buckets - 1);
        while (bucket[b] && group[bucket[b] - 1] != group[i])
            b = (b + 1) & (buckets - 1);
        if (bucket[b])
            continue;
        bucket[b] = i + 1;
        which[(*kept)++] = i;
    }
    mem_free(bucket);
    return SPT_OK;
}

/* --- edit distance ------------------------------------------------------------------------ */

/* Lower case, split at every character that is no word character; empty pieces count. */
static spt_status edit_words(struct word_list *l, struct word_table *t, struct text_ref s,
                             buf *lower, spt_err *err)
{
    buf_clear(lower);
    l->len = 0;
    unicode_add_lower(s.p, s.len, lower);
    TRY(buf_status(lower, "text", err));
    const char *p = buf_str(lower), *end = p + lower->len, *from = p;
    for (;;) {
        uint32_t cp = ' ';
        const size_t n = p < end ? unicode_next(p, end, &cp) : 1;
        if (!unicode_is_word(cp)) {
            uint32_t id;
            TRY(word_table_id(t, from, (size_t)(p - from), &id, err));
            TRY(word_list_add(l, id, err));
            from = p + n;
        }
        if (p == end)
            return SPT_OK;
        p += n;
    }
}

static size_t levenshtein(const struct word_list *a, const struct word_list *b, uint32_t *row)
{
    for (size_t k = 0; k <= b->len; k++)
        row[k] = (uint32_t)k;
    for (size_t i = 1; i <= a->len; i++) {
        uint32_t corner = row[0];
        row[0] = (uint32_t)i;
        for (size_t k = 1; k <= b->len; k++) {
            const uint32_t change = corner + (a->id[i - 1] != b->id[k - 1]);
            const uint32_t drop = row[k] + 1, add = row[k - 1] + 1;
            corner = row[k];
            row[k] = change < drop ? change : drop;
            row[k] = row[k] < add ? row[k] : add;
        }
    }
    return row[b->len];
}

static void sort_doubles(double *v, size_t n)
{
    for (size_t gap = n / 2; gap; gap /= 2) {
        for (size_t i = gap; i < n; i++) {
            const double x = v[i];
            size_t k = i;
            for (; k >= gap && v[k - gap] > x; k -= gap)
                v[k] = v[k - gap];
            v[k] = x;
        }
    }
}

struct edit {
    buf lower;
    struct word_table words;
    struct word_list a, b;
    uint32_t *row;
    size_t row_cap;
};

static spt_status edit_one(struct edit *e, struct text_ref a, struct text_ref b, double *out,
                           spt_err *err)
{
    word_table_clear(&e->words);
    TRY(edit_words(&e->a, &e->words, a, &e->lower, err));
    TRY(edit_words(&e->b, &e->words, b, &e->lower, err));
    TRY(mem_grow(&e->row, &e->row_cap, e->b.len + 1, sizeof *e->row, UINT32_MAX, err));
    *out = (double)levenshtein(&e->a, &e->b, e->row);
    return SPT_OK;
}

spt_status metric_edit_distance(const struct text_ref *target, const struct text_ref *pred,
                                size_t n, struct edit_scores *out, spt_err *err)
{
    struct edit e = {.row = NULL};
    buf_init(&e.lower, TEXT_MAX);
    word_table_init(&e.words);
    double *d = mem_alloc(n + 1, sizeof *d);
    spt_status st = d ? SPT_OK : err_nomem(err, n * sizeof *d);
    double sum = 0;
    for (size_t i = 0; i < n && !st; i++) {
        st = edit_one(&e, target[i], pred[i], &d[i], err);
        sum += st ? 0 : d[i];
    }
    if (!st && n) {
        sort_doubles(d, n);
        *out = (struct edit_scores){.min = d[0],
                                    .max = d[n - 1],
                                    .mean = sum / (double)n,
                                    .median = 0.5 * (d[(n - 1) / 2] + d[n / 2]),
                                    .sum = sum};
    } else if (!st) {
        *out = (struct edit_scores){NAN, NAN, NAN, NAN, 0};
    }
    buf_release(&e.lower);
    word_table_release(&e.words);
    word_list_release(&e.a);
    word_list_release(&e.b);
    mem_free(e.row);
    mem_free(d);
    return st;
}
