/* Beam search as T5X does it (spec/t5x.md section 8.2), in float32 and with its tie rules.
 *
 * Each example keeps k live beams and a pool of k finished hypotheses, both ascending: the best is
 * last. A step ranks 2k candidates; the k best that did not end become the live beams, and all of
 * them compete with the pool. "Did not end" and "is not finished" are expressed by adding -1e7,
 * which float32 rounds to whole numbers: filler entries of the pool depend on exactly this
 * arithmetic.
 *
 * Differs from T5X: an example stops when it cannot improve any more by itself; T5X goes on until
 * no example of the batch can. What goes on cannot change its result (its pool is full and better
 * than anything that can still come, and no forced tokens are left), and stopping keeps an example
 * independent of its batch mates. In the first step all beams are the same sequence and only one is
 * fed. */
#include <math.h>
#include <string.h>

#include "decode/decode_internal.h"

static const float NEG = -1.0e7f;

struct beams {
    float *score;   /* [k] ascending */
    int32_t *seq;   /* [k, N - 1] without the dummy start token */
    int32_t *row;   /* [k] live: row of the last step that holds the beam's history; pool: length */
    bool *finished; /* [k] pool only */
};

enum { MAX_BEAMS = 1024 }; /* decode_check */

/* Of one example's step. */
struct ranking {
    float value[3 * MAX_BEAMS];
    int32_t order[MAX_BEAMS], row[MAX_BEAMS];
    bool ended[2 * MAX_BEAMS];
};

struct search {
    const struct decode_opts *o;
    int64_t k, N;                  /* N = max_len + 1 */
    struct beams *live, *pool;     /* [B] */
    struct beams spare;            /* [3k] seqs and scores while the next state is built */
    struct decode_candidate *cand; /* [2k] */
    struct ranking *rank;
    bool *done;       /* [B] */
    int32_t *stepped; /* [B] steps that example b has made */
    void *storage[4];
};

/* ((5 + length) / 6)^alpha */
static float brevity(const struct decode_opts *o, int64_t length)
{
    return powf((5.0f + (float)length) / 6.0f, (float)o->alpha);
}

static void search_release(struct search *s)
{
    for (int i = 0; i < 4; i++)
        mem_free(s->storage[i]);
    mem_free(s->live);
    mem_free(s->pool);
    mem_free(s->cand);
    mem_free(s->rank);
    mem_free(s->done);
    mem_free(s->stepped);
    *s = (struct search){0};
}

/* One block per kind of array: B live and B pool sets of k beams, and the spare one of 3k. */
static spt_status search_init(struct search *s, const struct decode_opts *o, int64_t B,
                              spt_err *err)
{
    *s = (struct search){.o = o, .k = o->beams, .N = o->max_len + 1};
    const size_t k = (size_t)s->k, beams = (2 * (size_t)B + 3) * k, len = (size_t)o->max_len;
    size_t tokens;
    if (!mul_size(beams, len, &tokens))
        return err_nomem(err, SIZE_MAX);
    float *score = s->storage[0] = mem_zalloc(beams, sizeof *score);
    int32_t *seq = s->storage[1] = mem_zalloc(tokens, sizeof *seq);
    int32_t *row = s->storage[2] = mem_zalloc(beams, sizeof *row);
    bool *finished = s->storage[3] = mem_zalloc(beams, sizeof *finished);
    s->live = mem_zalloc((size_t)B, sizeof *s->live);
    s->pool = mem_zalloc((size_t)B, sizeof *s->pool);
    s->cand = mem_zalloc(2 * k, sizeof *s->cand);
    s->rank = mem_zalloc(1, sizeof *s->rank);
    s->done = mem_zalloc((size_t)B, sizeof *s->done);
    s->stepped = mem_zalloc((size_t)B, sizeof *s->stepped);
    if (!score || !seq || !row || !finished || !s->live || !s->pool || !s->cand || !s->rank ||
        !s->done || !s->stepped) {
        search_release(s);
        return err_nomem(err, tokens * sizeof *seq);
    }
    for (size_t i = 0; i < 2 * (size_t)B + 1; i++) {
        struct beams *b = i < (size_t)B       ? &s->live[i]
                          : i < 2 * (size_t)B ? &s->pool[i - (size_t)B]
                                              : &s->spare;
        *b = (struct beams){score + i * k, seq + i * k * len, row + i * k, finished + i * k};
    }
    for (int64_t b = 0; b < B; b++)
        for (int64_t j = 0; j < s->k; j++) {
            s->live[b].score[j] = j == 0 ? 0 : NEG;
            s->pool[b].score[j] = NEG;
        }
    return SPT_OK;
}

/* Nothing that this example may still find can enter its pool. */
static bool is_done(const struct search *s, const struct decode_batch *batch, int64_t b,
                    int64_t cur)
{
    const struct beams *live = &s->live[b], *pool = &s->pool[b];
    if (cur >= s->N - 1 || (s->o->max_decode_steps > 0 && cur >= s->o->max_decode_steps))
        return true;
    for (int64_t i = cur; batch->forced && i < s->N - 1; i++)
        if (forced_at(batch, b, i, true))
            return false;
    const float best = live->score[s->k - 1] / brevity(s->o, s->N);
    if (cur > 0 && best < NEG / brevity(s->o, s->N))
        return true;
    float worst = pool->score[0];
    for (int64_t j = 1; j < s->k; j++)
        worst = pool->score[j] < worst ? pool->score[j] : worst;
    for (int64_t j = 0; j < s->k; j++)
        if (!((pool->finished[j] ? worst : NEG) > best))
            return false;
    return true;
}

/* Feeds the live beams; at the start they are all the same. */
static void feed_live(struct search *s, struct decode_feed *f, int64_t b, int64_t cur)
{
    struct beams *live = &s->live[b];
    const size_t len = (size_t)s->o->max_len;
    if (cur == 0) {
        const int32_t r = feed_add(f, b, 0, s->o->start_id);
        for (int64_t j = 0; j < s->k; j++)
            live->row[j] = r;
        return;
    }
    for (int64_t j = 0; j < s->k; j++)
        live->row[j] = feed_add(f, b, live->row[j], live->seq[(size_t)j * len + (size_t)cur - 1]);
}

/* The 2k best continuations of example b. */
static spt_status rank_candidates(struct search *s, const struct decode_feed *f, int64_t b,
                                  int64_t V, spt_err *err)
{
    const struct beams *live = &s->live[b];
    struct logits_norm norm = {0};
    struct decode_top top = {.want = 2 * s->k, .c = s->cand};
    for (int64_t j = 0; j < s->k; j++) {
        const float *x = f->logits + (int64_t)live->row[j] * V;
        if (j == 0 || live->row[j] != live->row[j - 1])
            norm = logits_normalizer(x, V);
        if (isnan(norm.lse))
            return bad_logits(b, err);
        top_offer_row(&top, x, V, &norm, live->score[j], (int32_t)j);
    }
    return SPT_OK;
}

static void copy_seq(int32_t *to, int64_t ti, const int32_t *from, int64_t fi, size_t len)
{
    memcpy(to + (size_t)ti * len, from + (size_t)fi * len, len * sizeof *to);
}

/* order[0..k) = indices of the k largest of n values, descending, ties by lower index. */
static void top_indices(const float *value, int64_t n, int64_t k, int32_t *order)
{
    int64_t m = 0;
    for (int64_t i = 0; i < n; i++) {
        if (m == k && !(value[i] > value[order[m - 1]]))
            continue;
        int64_t at = m < k ? m++ : m - 1;
        for (; at > 0 && value[i] > value[order[at - 1]]; at--)
            order[at] = order[at - 1];
        order[at] = (int32_t)i;
    }
}

/* Writes the sequences of the candidates to the spare set behind its first k, and says which of
 * them end; `cur` is the step just made. */
static void extend(struct search *s, const struct decode_batch *batch, int64_t b, int64_t cur)
{
    const size_t len = (size_t)s->o->max_len;
    const int32_t forced = forced_at(batch, b, cur, true);
    for (int64_t c = 0; c < 2 * s->k; c++) {
        struct decode_candidate *p = &s->cand[c];
        int32_t *seq = s->spare.seq + (size_t)(s->k + c) * len;
        if (forced) {
            p->token = forced;
            p->value = c == 0 ? 0 : NEG;
        }
        memcpy(seq, s->live[b].seq + (size_t)p->beam * len, len * sizeof *seq);
        seq[cur] = p->token;
        s->rank->ended[c] = p->token == s->o->eos_id || stops_here(s->o, b, seq, cur + 1);
    }
}

/* The k best candidates that did not end, ascending. */
static void next_live(struct search *s, int64_t b)
{
    struct beams *live = &s->live[b];
    struct ranking *r = s->rank;
    for (int64_t c = 0; c < 2 * s->k; c++)
        r->value[c] = s->cand[c].value + (r->ended[c] ? NEG : 0.0f);
    top_indices(r->value, 2 * s->k, s->k, r->order);
    for (int64_t j = 0; j < s->k; j++) {
        const int32_t c = r->order[s->k - 1 - j];
        r->row[j] = live->row[s->cand[c].beam];
        live->score[j] = r->value[c];
        copy_seq(live->seq, j, s->spare.seq, s->k + c, (size_t)s->o->max_len);
    }
    memcpy(live->row, r->row, (size_t)s->k * sizeof *r->row);
}

/* The k best of the old pool and the candidates, ascending; the old ones come first, so that they
 * win ties. `length` counts generated tokens, EOS included. */
static void next_pool(struct search *s, int64_t b, int64_t length)
{
    struct beams *pool = &s->pool[b], *spare = &s->spare;
    struct ranking *r = s->rank;
    const size_t k = (size_t)s->k, len = (size_t)s->o->max_len;
    const float penalty = brevity(s->o, length);
    memcpy(r->value, pool->score, k * sizeof *r->value);
    memcpy(spare->seq, pool->seq, k * len * sizeof *spare->seq);
    memcpy(spare->finished, pool->finished, k * sizeof *spare->finished);
    memcpy(spare->row, pool->row, k * sizeof *spare->row);
    for (size_t c = 0; c < 2 * k; c++) {
        r->value[k + c] = s->cand[c].value / penalty + (r->ended[c] ? 0.0f : NEG);
        spare->finished[k + c] = r->ended[c];
        spare->row[k + c] = (int32_t)length;
    }
    top_indices(r->value, 3 * s->k, s->k, r->order);
    for (int64_t j = 0; j < s->k; j++) {
        const int32_t c = r->order[s->k - 1 - j];
        pool->score[j] = r->value[c];
        pool->finished[j] = spare->finished[c];
        pool->row[j] = spare->row[c];
        copy_seq(pool->seq, j, spare->seq, c, len);
    }
}

/* The last n of the pool, or of the live beams when nothing has finished. */
static void collect(const struct search *s, int64_t b, int32_t length, struct decode_out *out)
{
    const struct beams *from = &s->live[b];
    for (int64_t j = 0; j < s->k; j++)
        if (s->pool[b].finished[j])
            from = &s->pool[b];
    for (int64_t i = 0; i < out->n; i++) {
        const int64_t j = s->k - out->n + i, at = b * out->n + i;
        out->score[at] = from->score[j];
        copy_seq(out->tokens, at, from->seq, j, (size_t)out->len);
        out->length[at] = from == &s->pool[b] ? from->row[j] : length;
    }
}

spt_status beam_t5x_run(const struct decode_stepper *stepper, const struct decode_batch *batch,
                        const struct decode_opts *o, struct decode_out *out, spt_err *err)
{
    struct search s = {0};
    struct decode_feed f = {0};
    spt_status st = search_init(&s, o, batch->B, err);
    if (st == SPT_OK)
        st = feed_init(&f, batch->B * s.k, stepper->V, err);
    for (int64_t cur = 0; st == SPT_OK; cur++) {
        f.rows = 0;
        for (int64_t b = 0; b < batch->B; b++) {
            s.done[b] = s.done[b] || is_done(&s, batch, b, cur);
            if (!s.done[b])
                feed_live(&s, &f, b, cur);
        }
        if (f.rows == 0)
            break;
        st = feed_step(&f, stepper, cur == 0, err);
        for (int64_t b = 0; b < batch->B && st == SPT_OK; b++) {
            if (s.done[b])
                continue;
            st = rank_candidates(&s, &f, b, stepper->V, err);
            if (st == SPT_OK) {
                extend(&s, batch, b, cur);
                next_live(&s, b);
                next_pool(&s, b, cur + 1);
                s.stepped[b]++;
            }
        }
    }
    for (int64_t b = 0; b < batch->B && st == SPT_OK; b++)
        collect(&s, b, s.stepped[b], out);
    feed_release(&f);
    search_release(&s);
    return st;
}
