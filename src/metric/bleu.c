/* Corpus BLEU-4 as sacreBLEU computes it with tokenize="intl", smooth_method="exp". */
#include <math.h>
#include <string.h>

#include "metric/text_metrics.h"
#include "metric/words_internal.h"
#include "text/unicode.h"
#include "text/utf8.h"

#define TEXT_MAX ((size_t)1 << 30)

struct chars {
    uint32_t *c;
    size_t len, cap;
};

static spt_status add_char(struct chars *s, uint32_t c, spt_err *err)
{
    TRY(mem_grow(&s->c, &s->cap, s->len + 1, sizeof *s->c, TEXT_MAX, err));
    s->c[s->len++] = c;
    return SPT_OK;
}

/* A pattern of two classes over two characters: what matches is written with spaces around one of
 * them. Matches do not overlap, so the character behind a match is looked at afresh. */
static spt_status split_pairs(const struct chars *in, struct chars *out, bool punct_first,
                              spt_err *err)
{
    out->len = 0;
    for (size_t i = 0; i < in->len; i++) {
        const uint32_t a = in->c[i];
        if (i + 1 < in->len) {
            const uint32_t b = in->c[i + 1];
            const bool match = punct_first ? unicode_is_punct(a) && !unicode_is_number(b)
                                           : !unicode_is_number(a) && unicode_is_punct(b);
            if (match) {
                if (punct_first)
                    TRY(add_char(out, ' ', err));
                TRY(add_char(out, a, err));
                TRY(add_char(out, ' ', err));
                TRY(add_char(out, b, err));
                if (!punct_first)
                    TRY(add_char(out, ' ', err));
                i++;
                continue;
            }
        }
        TRY(add_char(out, a, err));
    }
    return SPT_OK;
}

struct tokenizer {
    struct chars a, b;
    buf text;
};

static spt_status tokenize(struct tokenizer *k, struct word_table *t, struct text_ref s,
                           struct word_list *out, spt_err *err)
{
    out->len = 0;
    k->a.len = 0;
    const char *p = s.p, *end = p + s.len;
    size_t kept = 0;
    while (p < end) {
        uint32_t cp;
        p += unicode_next(p, end, &cp);
        TRY(add_char(&k->a, cp, err));
        if (!unicode_is_space(cp))
            kept = k->a.len;
    }
    k->a.len = kept;
    TRY(split_pairs(&k->a, &k->b, false, err));
    TRY(split_pairs(&k->b, &k->a, true, err));
    buf_clear(&k->text);
    for (size_t i = 0; i < k->a.len; i++) {
        char bytes[4];
        const bool symbol = unicode_is_symbol(k->a.c[i]);
        if (symbol)
            buf_addc(&k->text, ' ');
        buf_add(&k->text, bytes, utf8_encode(k->a.c[i], bytes));
        if (symbol)
            buf_addc(&k->text, ' ');
    }
    TRY(buf_status(&k->text, "text", err));
    return word_list_split(out, t, buf_str(&k->text), k->text.len, err);
}

struct bleu {
    struct tokenizer k;
    struct word_table words;
    struct word_list pred;
    struct word_list *ref; /* of one example */
    size_t ref_cap;
    struct gram_list pred_grams, ref_grams;
    uint32_t *most; /* per gram of the prediction: its largest count in a reference */
    size_t most_cap;
    double match[GRAM_MAX], total[GRAM_MAX];
    double pred_len, ref_len;
};

/* Largest counts of the prediction's grams in one more reference. */
static void raise_counts(struct bleu *b)
{
    const struct gram_list *x = &b->pred_grams, *y = &b->ref_grams;
    for (size_t i = 0, k = 0; i < x->len && k < y->len;) {
        const int c = gram_compare(&x->g[i], &y->g[k]);
        if (c == 0 && y->g[k].count > b->most[i])
            b->most[i] = y->g[k].count;
        i += c <= 0;
        k += c >= 0;
    }
}

static spt_status count_order(struct bleu *b, size_t refs, int n, spt_err *err)
{
    TRY(gram_list_make(&b->pred_grams, &b->pred, n, err));
    TRY(mem_grow(&b->most, &b->most_cap, b->pred_grams.len + 1, sizeof *b->most, UINT32_MAX, err));
    memset(b->most, 0, b->pred_grams.len * sizeof *b->most);
    for (size_t i = 0; i < refs; i++) {
        TRY(gram_list_make(&b->ref_grams, &b->ref[i], n, err));
        raise_counts(b);
    }
    for (size_t i = 0; i < b->pred_grams.len; i++) {
        const uint32_t c = b->pred_grams.g[i].count;
        b->match[n - 1] += c < b->most[i] ? c : b->most[i];
    }
    b->total[n - 1] += (double)b->pred_grams.total;
    return SPT_OK;
}

/* The reference length closest to the prediction's, the shorter one on ties. */
static double closest_length(const struct bleu *b, size_t refs)
{
    double best = 0, distance = INFINITY;
    for (size_t i = 0; i < refs; i++) {
        const double len = (double)b->ref[i].len;
        const double d = fabs(len - (double)b->pred.len);
        if (d < distance || (d == distance && len < best)) {
            distance = d;
            best = len;
        }
    }
    return best;
}

static spt_status add_example(struct bleu *b, const struct text_refs *target, struct text_ref pred,
                              spt_err *err)
{
    word_table_clear(&b->words);
    const size_t had = b->ref_cap;
    TRY(mem_grow(&b->ref, &b->ref_cap, target->count + 1, sizeof *b->ref, UINT32_MAX, err));
    if (b->ref_cap > had)
        memset(b->ref + had, 0, (b->ref_cap - had) * sizeof *b->ref);
    TRY(tokenize(&b->k, &b->words, pred, &b->pred, err));
    for (size_t i = 0; i < target->count; i++)
        TRY(tokenize(&b->k, &b->words, target->ref[i], &b->ref[i], err));
    for (int n = 1; n <= GRAM_MAX; n++)
        TRY(count_order(b, target->count, n, err));
    b->pred_len += (double)b->pred.len;
    b->ref_len += closest_length(b, target->count);
    return SPT_OK;
}

static double score(const struct bleu *b)
{
    double logs = 0, halves = 1;
    bool any = false;
    for (int n = 0; n < GRAM_MAX; n++)
        any |= b->match[n] > 0;
    if (!any)
        return 0;
    for (int n = 0; n < GRAM_MAX; n++) {
        if (b->total[n] == 0)
            return 0;
        double precision = 100 * b->match[n] / b->total[n];
        if (b->match[n] == 0) {
            halves *= 2;
            precision = 100 / (halves * b->total[n]);
        }
        logs += log(precision);
    }
    const double brevity = b->pred_len >= b->ref_len ? 1
                           : b->pred_len > 0         ? exp(1 - b->ref_len / b->pred_len)
                                                     : 0;
    return brevity * exp(logs / GRAM_MAX);
}

spt_status metric_bleu(const struct text_refs *target, const struct text_ref *pred, size_t n,
                       double *out, spt_err *err)
{
    struct bleu b = {.ref = NULL};
    word_table_init(&b.words);
    buf_init(&b.k.text, TEXT_MAX);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < n && !st; i++)
        st = add_example(&b, &target[i], pred[i], err);
    if (!st)
        *out = n ? score(&b) : NAN;
    mem_free(b.k.a.c);
    mem_free(b.k.b.c);
    buf_release(&b.k.text);
    word_table_release(&b.words);
    word_list_release(&b.pred);
    for (size_t i = 0; i < b.ref_cap; i++)
        word_list_release(&b.ref[i]);
    mem_free(b.ref);
    gram_list_release(&b.pred_grams);
    gram_list_release(&b.ref_grams);
    mem_free(b.most);
    return st;
}
