/* Beam search as Hugging Face's generate() does it (transformers 4.46; spec/interop.md 6.5).
 *
 * Differs from T5X's in everything that counts: a hypothesis scores sum / length^penalty, EOS ends
 * one only at a rank below the number of beams, the pool holds hypotheses without filler, running
 * beams are added at the end, and processors work on log probabilities. Scores of running beams are
 * float32, those of hypotheses double. */
#include <math.h>
#include <string.h>

#include "decode/decode_internal.h"

struct hypothesis {
    double score;
    int32_t length; /* tokens, EOS included when it ended */
    int32_t *seq;   /* [max_len] */
};

struct example {
    float *score;           /* [k] sums of the running beams */
    int32_t *row;           /* [k] */
    int32_t *seq;           /* [k, max_len] */
    struct hypothesis *hyp; /* [k] in the order of their arrival */
    int64_t hyps;
    double worst;
    bool done;
};

struct search {
    const struct decode_opts *o;
    int64_t k;
    struct example *ex;            /* [B] */
    struct example next;           /* the running beams while they are replaced */
    struct decode_candidate *cand; /* [2k] */
    struct hypothesis *hyp_storage;
    float *score_storage;
    int32_t *row_storage, *seq_storage;
};

static void search_release(struct search *s)
{
    mem_free(s->ex);
    mem_free(s->cand);
    mem_free(s->hyp_storage);
    mem_free(s->score_storage);
    mem_free(s->row_storage);
    mem_free(s->seq_storage);
    *s = (struct search){0};
}

static spt_status search_init(struct search *s, const struct decode_opts *o, int64_t B,
                              spt_err *err)
{
    *s = (struct search){.o = o, .k = o->beams};
    const size_t k = (size_t)s->k, n = (size_t)B, len = (size_t)o->max_len;
    size_t tokens; /* running beams and hypotheses of each example, and the next beams */
    if (!mul_size((2 * n + 1) * k, len, &tokens))
        return err_nomem(err, SIZE_MAX);
    s->ex = mem_zalloc(n, sizeof *s->ex);
    s->cand = mem_zalloc(2 * k, sizeof *s->cand);
    s->hyp_storage = mem_zalloc(n * k, sizeof *s->hyp_storage);
    s->score_storage = mem_zalloc((n + 1) * k, sizeof *s->score_storage);
    s->row_storage = mem_zalloc((n + 1) * k, sizeof *s->row_storage);
    s->seq_storage = mem_zalloc(tokens, sizeof *s->seq_storage);
    if (!s->ex || !s->cand || !s->hyp_storage || !s->score_storage || !s->row_storage ||
        !s->seq_storage) {
        search_release(s);
        return err_nomem(err, tokens * sizeof *s->seq_storage);
    }
    for (size_t i = 0; i <= n; i++) {
        struct example *e = i < n ? &s->ex[i] : &s->next;
        e->score = s->score_storage + i * k;
        e->row = s->row_storage + i * k;
        e->seq = s->seq_storage + i * k * len;
        for (size_t j = 0; j < k; j++)
            e->score[j] = j == 0 ? 0 : -1e9f;
        if (i == n)
            break;
        e->worst = 1e9;
        e->hyp = s->hyp_storage + i * k;
        for (size_t j = 0; j < k; j++)
            e->hyp[j].seq = s->seq_storage + (n + 1 + i) * k * len + j * len;
    }
    return SPT_OK;
}

static double normalised(const struct decode_opts *o, double sum, int64_t length)
{
    return sum / pow((double)length, o->length_penalty);
}

/* Keeps the k best; of equals the older one goes first. */
static void add_hypothesis(struct search *s, struct example *e, const int32_t *seq, int64_t length,
                           double sum)
{
    const double score = normalised(s->o, sum, length);
    if (e->hyps == s->k && !(score > e->worst))
        return;
    if (e->hyps == s->k) { /* drop the lowest, move the younger ones up */
        int64_t low = 0;
        for (int64_t i = 1; i < e->hyps; i++)
            if (e->hyp[i].score < e->hyp[low].score)
                low = i;
        const struct hypothesis dropped = e->hyp[low];
        for (int64_t i = low; i + 1 < e->hyps; i++)
            e->hyp[i] = e->hyp[i + 1];
        e->hyp[--e->hyps] = dropped; /* its storage is used again */
    }
    struct hypothesis *h = &e->hyp[e->hyps++];
    h->score = score;
    h->length = (int32_t)length;
    memcpy(h->seq, seq, (size_t)length * sizeof *seq);
    e->worst = e->hyp[0].score;
    for (int64_t i = 1; i < e->hyps; i++)
        e->worst = e->hyp[i].score < e->worst ? e->hyp[i].score : e->worst;
}

/* No running beam can still beat the worst hypothesis, by the rule asked for. */
static bool is_done(const struct search *s, const struct example *e, double best_sum,
                    int64_t length)
{
    if (e->hyps < s->k)
        return false;
    if (s->o->early_stopping == DECODE_EARLY_TRUE)
        return true;
    if (s->o->early_stopping == DECODE_EARLY_NEVER && s->o->length_penalty > 0)
        length = s->o->max_len;
    return e->worst >= normalised(s->o, best_sum, length);
}

/* The 2k best continuations over all beams; the logits become processed log probabilities. */
static spt_status rank_candidates(struct search *s, const struct decode_feed *f, int64_t b,
                                  int64_t length, int64_t V, spt_err *err)
{
    const struct example *e = &s->ex[b];
    struct decode_top top = {.want = 2 * s->k, .c = s->cand};
    for (int64_t j = 0; j < s->k; j++) {
        float *x = f->logits + (int64_t)e->row[j] * V;
        if (j == 0 || e->row[j] != e->row[j - 1]) { /* all beams share the first step's row */
            const struct logits_norm norm = logits_normalizer(x, V);
            if (isnan(norm.lse))
                return bad_logits(b, err);
            logits_log_softmax(x, V, norm);
            processors_apply(s->o, e->seq + j * s->o->max_len, length - 1, x, V);
        }
        top_offer_row(&top, x, V, NULL, e->score[j], (int32_t)j);
    }
    return SPT_OK;
}

/* Sorts the candidates of the step that made `length` tokens into hypotheses and next beams. */
static void process(struct search *s, int64_t b, int64_t length)
{
    struct example *e = &s->ex[b], *next = &s->next;
    const size_t len = (size_t)s->o->max_len;
    int64_t kept = 0;
    for (int64_t rank = 0; rank < 2 * s->k && kept < s->k; rank++) {
        const struct decode_candidate *c = &s->cand[rank];
        int32_t *seq = next->seq + (size_t)kept * len;
        memcpy(seq, e->seq + (size_t)c->beam * len, len * sizeof *seq);
        seq[length - 1] = c->token;
        if (c->token == s->o->eos_id || stops_here(s->o, b, seq, length)) {
            if (rank < s->k)
                add_hypothesis(s, e, seq, length, (double)c->value);
            continue;
        }
        next->score[kept] = c->value;
        next->row[kept++] = e->row[c->beam];
    }
    for (; kept < s->k; kept++) { /* only stop sequences can leave beams without a successor */
        next->score[kept] = -INFINITY;
        next->row[kept] = e->row[0];
        memcpy(next->seq + (size_t)kept * len, e->seq, len * sizeof *next->seq);
    }
    memcpy(e->score, next->score, (size_t)s->k * sizeof *e->score);
    memcpy(e->row, next->row, (size_t)s->k * sizeof *e->row);
    memcpy(e->seq, next->seq, (size_t)s->k * len * sizeof *e->seq);
    e->done = is_done(s, e, (double)s->cand[0].value, length);
}

/* Running beams become hypotheses; the n best of all are returned, the youngest of equals first. */
static void finish(struct search *s, int64_t b, struct decode_out *out)
{
    struct example *e = &s->ex[b];
    const int64_t len = s->o->max_len;
    for (int64_t j = 0; j < s->k && !e->done; j++)
        add_hypothesis(s, e, e->seq + j * len, len, (double)e->score[j]);
    for (int64_t i = 0; i < out->n; i++) {
        int64_t best = e->hyps - 1;
        for (int64_t j = best - 1; j >= 0; j--)
            if (e->hyp[j].score > e->hyp[best].score)
                best = j;
        const struct hypothesis h = e->hyp[best];
        const int64_t at = b * out->n + i;
        memcpy(out->tokens + at * len, h.seq, (size_t)h.length * sizeof *h.seq);
        out->length[at] = h.length;
        out->score[at] = (float)h.score;
        for (int64_t j = best; j + 1 < e->hyps; j++)
            e->hyp[j] = e->hyp[j + 1];
        e->hyps--;
    }
}

spt_status beam_hf_run(const struct decode_stepper *stepper, const struct decode_batch *batch,
                       const struct decode_opts *o, struct decode_out *out, spt_err *err)
{
    struct search s = {0};
    struct decode_feed f = {0};
    spt_status st = search_init(&s, o, batch->B, err);
    if (st == SPT_OK)
        st = feed_init(&f, batch->B * s.k, stepper->V, err);
    for (int64_t length = 1; length <= o->max_len && st == SPT_OK; length++) {
        f.rows = 0;
        for (int64_t b = 0; b < batch->B; b++) {
            struct example *e = &s.ex[b];
            if (e->done)
                continue;
            const int32_t first = length == 1 ? feed_add(&f, b, 0, o->start_id) : 0;
            for (int64_t j = 0; j < s.k; j++)
                e->row[j] = length == 1
                                ? first
                                : feed_add(&f, b, e->row[j], e->seq[j * o->max_len + length - 2]);
        }
        if (f.rows == 0)
            break;
        st = feed_step(&f, stepper, length == 1, err);
        for (int64_t b = 0; b < batch->B && st == SPT_OK; b++) {
            if (s.ex[b].done)
                continue;
            st = rank_candidates(&s, &f, b, length, stepper->V, err);
            if (st == SPT_OK)
                process(&s, b, length);
        }
    }
    for (int64_t b = 0; b < batch->B && st == SPT_OK; b++)
        finish(&s, b, out);
    feed_release(&f);
    search_release(&s);
    return st;
}
