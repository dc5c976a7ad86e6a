#include "run/reference/task_answers.h"

#include <string.h>

#include "base/buf.h"
#include "decode/decode_model.h"
#include "run/commands.h"
#include "run/gradient.h"

enum { ROWS_IN_FLIGHT = 4096, TEXT_BYTES = 1 << 24 };

static struct t5_prompts prompts_of_base(const struct answerer *a)
{
    return prompts_of(a->base->prompt);
}

spt_status answerer_open(struct answerer *a, const struct t5x_base *b, int64_t batch_size,
                         int64_t Le, int64_t Ld, bool predict, bool score, spt_err *err)
{
    const int64_t P = b->prompt ? b->prompt->P : 0;
    *a = (struct answerer){.base = b, .batch = batch_size, .Le = Le, .Ld = Ld};
    a->together = ROWS_IN_FLIGHT / (P + Le) + 1;
    if (a->together > batch_size)
        a->together = batch_size;
    const struct decode_opts *o = &b->model->decode;
    if (o->method == DECODE_SAMPLE_T5X)
        a->together = batch_size; /* random numbers are drawn over the whole batch */
    const int64_t rows = a->together * (P + Le);
    if (predict) {
        const struct decode_model_plan plan = {
            .examples = a->together,
            .enc_rows = rows,
            .rows = decode_rows(o, a->together),
            .max_len = Ld,
        };
        struct decode_opts checked = *o;
        checked.max_len = Ld;
        TRY(decode_check(&checked, b->engine.config.vocab, err));
        TRY(decode_model_new(b->engine.model, &plan, &a->decoder, err));
    }
    if (score) {
        const struct t5_acts_plan plan = {
            .rows = rows, .dec_rows = a->together * Ld, .examples = a->together};
        TRY(t5_acts_new(b->engine.model, &plan, &a->acts, err));
    }
    return SPT_OK;
}

void answerer_close(struct answerer *a)
{
    decode_model_free(a->decoder);
    t5_acts_free(a->acts);
    *a = (struct answerer){0};
}

/* The examples of one range; what lies behind the end is example 0 of the range again, as the
 * reference fills its batches. */
static spt_status range(const struct answerer *a, const struct task_set *s, size_t first,
                        size_t count, size_t fill, batch *b, spt_err *err)
{
    uint32_t *which = mem_alloc(fill, sizeof *which);
    if (!which)
        return err_nomem(err, fill * sizeof *which);
    for (size_t i = 0; i < fill; i++)
        which[i] = (uint32_t)(i < count ? first + i : first);
    const spt_status st = batch_make(b, s->x, which, fill, a->Le, a->Ld, err);
    mem_free(which);
    return st;
}

static spt_status keep_texts(const struct answerer *a, const struct decode_out *out, size_t count,
                             char **text, float *score, spt_err *err)
{
    buf b;
    buf_init(&b, TEXT_BYTES);
    spt_status st = SPT_OK;
    for (size_t e = 0; !st && e < count; e++) {
        const int64_t best = (int64_t)e * out->n + decode_best(out, (int64_t)e);
        buf_clear(&b);
        st = vocab_decode(a->base->engine.vocab, out->tokens + best * out->len,
                          (size_t)out->length[best], &b, err);
        if (!st)
            st = buf_status(&b, "decoded text", err);
        if (!st && !(text[e] = mem_strndup(buf_str(&b), b.len)))
            st = err_nomem(err, b.len);
        if (score)
            score[e] = out->score[best];
    }
    buf_release(&b);
    return st;
}

/* Forced targets of prompt_with_targets: decoder inputs, EOS counts as free. */
static int32_t *forced_of(const struct answerer *a, const struct packed_batch *b, spt_err *err)
{
    int32_t *f = mem_zalloc((size_t)(b->B * a->Ld), sizeof *f);
    if (!f)
        err_nomem(err, (size_t)(b->B * a->Ld) * sizeof *f);
    for (int64_t e = 0; f && e < b->B; e++)
        for (int64_t i = b->dec_off[e]; i < b->dec_off[e + 1]; i++)
            f[e * a->Ld + i - b->dec_off[e]] = b->dec_in[i];
    return f;
}

static spt_status predict_range(struct answerer *a, const struct task_set *s, size_t first,
                                size_t count, size_t fill, struct rng_key key, char **text,
                                float *score, spt_err *err)
{
    const struct t5_prompts prompts = prompts_of_base(a);
    const struct t5_config *c = &a->base->engine.config;
    struct decode_opts o = a->base->model->decode;
    /* Ranks that hold one model stop between ranges, together. */
    o.interrupted = a->base->engine.part ? NULL : stop_requested;
    struct decode_out out = {0};
    batch b = {0};
    int32_t *forced = NULL;
    o.max_len = a->Ld;
    o.start_id = c->start_id;
    o.eos_id = c->eos_id;
    o.key = key;
    spt_status st = range(a, s, first, count, fill, &b, err);
    if (!st && a->base->model->prompt_with_targets) {
        forced = forced_of(a, &b.view, err);
        st = forced ? SPT_OK : SPT_E_NOMEM;
    }
    if (!st)
        st = decode_model_run(a->decoder, &prompts, &b.view, 0, b.view.B, &o, forced,
                              forced ? a->Ld : 0, &out, err);
    if (!st)
        st = keep_texts(a, &out, count, text, score, err);
    decode_out_release(&out);
    mem_free(forced);
    batch_release(&b);
    return st;
}

static size_t smaller(size_t a, size_t b)
{
    return a < b ? a : b;
}

/* --- ranks: ranges are dealt out one by one -------------------------------------------------- */

static bool is_mine(const struct answerer *a, size_t i, int rank)
{
    const comm *ranks = a->base->engine.data;
    return i / (size_t)a->together % (size_t)comm_size(ranks) == (size_t)rank;
}

static spt_status interrupted(spt_err *err)
{
    return err_set(err, SPT_E_INTERRUPTED, "interrupted while answering");
}

/* Those that hold one model leave together. */
static spt_status stop_between(const struct answerer *a, spt_err *err)
{
    unsigned any = stop_requested();
    TRY(comm_any(a->base->engine.part, &any, err));
    return any ? interrupted(err) : SPT_OK;
}

static void put_answer(buf *to, const char *text, const float *score)
{
    const uint64_t n = text ? strlen(text) : 0;
    const float x = score ? *score : 0;
    buf_add(to, &n, sizeof n);
    buf_add(to, text ? text : "", n);
    buf_add(to, &x, sizeof x);
}

static spt_status take_answer(const char **from, char **text, float *score, spt_err *err)
{
    uint64_t n;
    memcpy(&n, *from, sizeof n);
    *from += sizeof n;
    if (text && !(*text = mem_strndup(*from, n)))
        return err_nomem(err, n);
    *from += n;
    if (score)
        memcpy(score, *from, sizeof *score);
    *from += sizeof(float);
    return SPT_OK;
}

static spt_status take_answers(const struct answerer *a, const struct comm_bytes *all, size_t count,
                               char **text, float *score, spt_err *err)
{
    const comm *ranks = a->base->engine.data;
    for (int r = 0; r < comm_size(ranks); r++) {
        const char *at = all->bytes + all->off[r];
        for (size_t i = 0; r != comm_rank(ranks) && i < count; i++)
            if (is_mine(a, i, r))
                TRY(take_answer(&at, text ? text + i : NULL, score ? score + i : NULL, err));
    }
    return SPT_OK;
}

/* Every rank gets all answers; st: how it went here. To be interrupted is no failure: all are. */
static spt_status share_answers(const struct answerer *a, size_t count, spt_status st, char **text,
                                float *score, spt_err *err)
{
    comm *ranks = a->base->engine.data;
    struct comm_bytes all = {0};
    unsigned any = st == SPT_E_INTERRUPTED;
    if (comm_size(ranks) == 1)
        return st;
    if (!st || any)
        TRY(comm_any(ranks, &any, err));
    if (any)
        return interrupted(err);
    buf mine;
    buf_init(&mine, INT32_MAX);
    for (size_t i = 0; !st && i < count; i++)
        if (is_mine(a, i, comm_rank(ranks)))
            put_answer(&mine, text ? text[i] : NULL, score ? score + i : NULL);
    if (!st)
        st = buf_status(&mine, "answers", err);
    st = comm_gather(ranks, st, buf_str(&mine), mine.len, &all, err);
    buf_release(&mine);
    if (!st)
        st = take_answers(a, &all, count, text, score, err);
    comm_bytes_release(&all);
    return st;
}

static spt_status predict_own(struct answerer *a, const struct task_set *s, size_t first,
                              size_t count, struct rng_key rng, char **text, float *score,
                              spt_err *err)
{
    const bool draws = a->base->model->decode.method == DECODE_SAMPLE_T5X;
    for (size_t i = 0; i < count;) {
        const size_t n = smaller((size_t)a->together, count - i);
        const struct rng_key key = rng_split_at(rng, 2, 0, RNG_CLASSIC);
        if (is_mine(a, i, comm_rank(a->base->engine.data))) {
            TRY(predict_range(a, s, first + i, n, draws ? (size_t)a->batch : n, key, text + i,
                              score ? score + i : NULL, err));
            TRY(stop_between(a, err));
        }
        rng = rng_split_at(rng, 2, 1, RNG_CLASSIC);
        i += n;
    }
    return SPT_OK;
}

spt_status answers_predict(struct answerer *a, const struct task_set *s, size_t first, size_t count,
                           struct rng_key rng, char **text, float *score, spt_err *err)
{
    const spt_status st = predict_own(a, s, first, count, rng, text, score, err);
    return share_answers(a, count, st, text, score, err);
}

static spt_status score_range(struct answerer *a, const struct task_set *s, size_t first,
                              size_t count, float *score, spt_err *err)
{
    const struct t5_prompts prompts = prompts_of_base(a);
    batch b = {0};
    int32_t *example = mem_alloc(count, sizeof *example);
    spt_status st = example ? range(a, s, first, count, count, &b, err)
                            : err_nomem(err, count * sizeof *example);
    for (size_t i = 0; !st && i < count; i++)
        example[i] = (int32_t)i;
    if (!st)
        st = t5_encode(a->base->engine.model, &prompts, &b.view, 0, b.view.B, a->acts, err);
    if (!st) {
        const struct t5_targets t = {b.view.B,      example,           b.view.dec_off,
                                     b.view.dec_in, b.view.dec_target, NULL};
        st = t5_score(a->base->engine.model, &prompts, &t, a->acts, score, NULL, NULL, err);
    }
    mem_free(example);
    batch_release(&b);
    return st;
}

static spt_status score_own(struct answerer *a, const struct task_set *s, size_t first,
                            size_t count, float *score, spt_err *err)
{
    for (size_t i = 0; i < count; i += smaller((size_t)a->together, count - i)) {
        if (!is_mine(a, i, comm_rank(a->base->engine.data)))
            continue;
        TRY(score_range(a, s, first + i, smaller((size_t)a->together, count - i), score + i, err));
        TRY(stop_between(a, err));
    }
    return SPT_OK;
}

spt_status answers_score(struct answerer *a, const struct task_set *s, size_t first, size_t count,
                         float *score, spt_err *err)
{
    return share_answers(a, count, score_own(a, s, first, count, score, err), NULL, score, err);
}
