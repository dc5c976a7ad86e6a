/* Greedy decoding and sampling: one loop, two sets of rules.
 *
 * T5X's temperature_sample (spec/t5x.md sections 8.3 and 8.4): masked logits are -1e7, ties at a
 * cut stay, the noise of a step is one draw over [B * n, V]. Ours and Hugging Face's: processors
 * first, masked logits are -inf, top-p is a sorted prefix, and the noise of a sequence depends on
 * the key, the number of its example and of its sample only, so that batches do not matter. */
#include <math.h>
#include <string.h>

#include "decode/decode_internal.h"
#include "random/distributions.h"

static const float NEG = -1.0e7f;
static const double COLD = 1e-4; /* temperatures up to here are greedy */

struct sampler {
    const struct decode_opts *o;
    const struct decode_batch *batch;
    struct decode_out *out;
    int64_t V, rows;     /* rows = B * n */
    int32_t *last;       /* [rows] row of the last step, -1: ended */
    struct rng_key draw; /* T5X: key of this step */
    float *work;         /* [V] processed logits of one row */
    float *heap;         /* [top_k] */
    struct logits_scratch *top_p;
};

static void sampler_release(struct sampler *s)
{
    mem_free(s->last);
    mem_free_aligned(s->work);
    mem_free(s->heap);
    logits_scratch_free(s->top_p);
    *s = (struct sampler){0};
}

static bool nucleus(const struct decode_opts *o)
{
    return o->top_p > 0 && o->top_p < 1;
}

static spt_status sampler_init(struct sampler *s, const struct decode_batch *batch,
                               const struct decode_opts *o, int64_t V, struct decode_out *out,
                               spt_err *err)
{
    *s = (struct sampler){.o = o, .batch = batch, .out = out, .V = V, .rows = batch->B * o->n};
    const int64_t k = o->top_k < V ? o->top_k : V;
    s->last = mem_zalloc((size_t)s->rows, sizeof *s->last);
    s->work = mem_alloc_aligned((size_t)V, sizeof *s->work);
    s->heap = mem_alloc((size_t)k, sizeof *s->heap);
    spt_status st = SPT_OK;
    if (!s->last || !s->work || !s->heap)
        st = err_nomem(err, (size_t)V * sizeof *s->work);
    else if (nucleus(o))
        st = logits_scratch_new(V, &s->top_p, err);
    if (st != SPT_OK)
        sampler_release(s);
    return st;
}

/* Steps of a row: T5X counts max_decode_steps from the end of the forced prefix. */
static int64_t row_limit(const struct sampler *s, int64_t example)
{
    const struct decode_batch *b = s->batch;
    int64_t limit = s->o->max_decode_steps;
    if (s->o->method != DECODE_SAMPLE_T5X || limit == 0)
        return s->o->max_len;
    for (int64_t i = 0; b->forced && i < b->forced_len; i++)
        limit += b->forced[example * b->forced_len + i] != 0;
    return limit < s->o->max_len ? limit : s->o->max_len;
}

/* Noise g = -log(-log(u)) exceeds d when u exceeds exp(-exp(-d)): the 23 bits of u that this takes,
 * lowered by more than the rounding of both sides. */
static uint32_t bits_to_exceed(float d)
{
    const double u = exp(-exp(-(double)d)) * 8388608.0 - 64.0;
    return u > 0 ? (uint32_t)u : 0;
}

/* argmax of work + gumbel noise over elements [first, first + V) of a draw. The largest entry goes
 * first; most others cannot beat it whatever their noise, or are seen from their bits not to. */
static int32_t add_noise_and_choose(const struct sampler *s, struct rng_key key, size_t total,
                                    size_t first)
{
    enum { CHUNK = 64 };
    const float *w = s->work;
    int32_t at = logits_argmax(w, s->V);
    float g;
    rng_gumbel_range(key, total, first + (size_t)at, 1, &g);
    float best = g + w[at];
    for (int64_t i = 0; i < s->V; i += CHUNK) {
        const int64_t n = s->V - i < CHUNK ? s->V - i : CHUNK;
        uint32_t bits[CHUNK];
        float most = w[i];
        for (int64_t j = 1; j < n; j++)
            most = w[i + j] > most ? w[i + j] : most;
        if (best - most > 17.0f) /* noise stays below 16.64 */
            continue;
        const uint32_t least = bits_to_exceed(best - most);
        rng_bits_range(key, total, first + (size_t)i, (size_t)n, bits, RNG_CLASSIC);
        for (int64_t j = 0; j < n; j++) {
            if (bits[j] >> 9 < least || i + j == at)
                continue;
            rng_gumbel_range(key, total, first + (size_t)(i + j), 1, &g);
            const float x = g + w[i + j];
            if (x > best || (x == best && i + j < at)) {
                best = x;
                at = (int32_t)(i + j);
            }
        }
    }
    return at;
}

/* The key of one step of one sequence: depends on no other sequence. */
static struct rng_key row_key(const struct sampler *s, int64_t row, int64_t step)
{
    const int64_t b = row / s->o->n;
    const uint64_t number = (uint64_t)(s->batch->number ? s->batch->number[b] : b);
    struct rng_key k = rng_fold_in(s->o->key, (uint32_t)number);
    if (number >> 32)
        k = rng_fold_in(k, (uint32_t)(number >> 32));
    k = rng_fold_in(k, (uint32_t)(row % s->o->n));
    return rng_fold_in(k, (uint32_t)step);
}

static void scale_and_mask(struct sampler *s, enum logits_ties ties, float fill)
{
    const struct decode_opts *o = s->o;
    const float temperature = (float)o->temperature;
    for (int64_t i = 0; i < s->V; i++)
        s->work[i] /= temperature;
    if (o->top_k > 0)
        logits_top_k(s->work, s->V, o->top_k, fill, s->heap);
    if (nucleus(o))
        logits_top_p(s->work, s->V, o->top_p, ties, fill, s->top_p);
}

/* The next token of a row from its processed logits in s->work. */
static int32_t choose(struct sampler *s, int64_t row, int64_t step)
{
    const struct decode_opts *o = s->o;
    if (o->method == DECODE_GREEDY || o->temperature <= COLD)
        return logits_argmax(s->work, s->V);
    if (o->method == DECODE_SAMPLE_T5X) {
        scale_and_mask(s, LOGITS_KEEP_TIES, NEG);
        return add_noise_and_choose(s, s->draw, (size_t)(s->rows * s->V), (size_t)(row * s->V));
    }
    scale_and_mask(s, LOGITS_CUT_TIES, -INFINITY);
    return add_noise_and_choose(s, row_key(s, row, step), (size_t)s->V, 0);
}

/* log p(token), by what was sampled from or by the model's own distribution x. */
static float score_of(const struct sampler *s, const float *x, int32_t token)
{
    const struct decode_opts *o = s->o;
    if (!o->want_scores)
        return 0;
    if (!o->rescale_log_probs)
        return logits_log_prob(logits_normalizer(x, s->V), x[token]);
    if (o->method == DECODE_GREEDY || o->temperature <= COLD)
        return 0;
    return logits_log_prob(logits_normalizer(s->work, s->V), s->work[token]);
}

/* One step of one row; false when it has ended. */
static spt_status step_row(struct sampler *s, int64_t row, int64_t step, const float *x,
                           bool *going, spt_err *err)
{
    const struct decode_opts *o = s->o;
    const int64_t b = row / o->n;
    int32_t *seq = s->out->tokens + row * o->max_len;
    int32_t token = forced_at(s->batch, b, step, false);
    const bool forced = token != 0;
    if (!forced) {
        if (!logits_usable(x, s->V))
            return bad_logits(b, err);
        memcpy(s->work, x, (size_t)s->V * sizeof *x);
        if (o->method != DECODE_SAMPLE_T5X)
            processors_apply(o, seq, step, s->work, s->V);
        token = choose(s, row, step);
        s->out->score[row] += score_of(s, x, token);
    }
    seq[step] = token;
    s->out->length[row] = (int32_t)step + 1;
    *going = !(!forced && token == o->eos_id) && step + 1 < row_limit(s, b) &&
             !stops_here(o, b, seq, step + 1);
    return SPT_OK;
}

/* T5X: ascending by score, equals in their order. n is small. */
static void sort_decodes(struct decode_out *out, int64_t b, int32_t *tokens)
{
    float *score = out->score + b * out->n;
    int32_t *length = out->length + b * out->n, *seq = out->tokens + b * out->n * out->len;
    const size_t bytes = (size_t)out->len * sizeof *tokens;
    for (int64_t i = 1; i < out->n; i++)
        for (int64_t j = i; j > 0 && score[j] < score[j - 1]; j--) {
            const float s = score[j];
            const int32_t l = length[j];
            int32_t *here = seq + j * out->len, *before = here - out->len;
            score[j] = score[j - 1], score[j - 1] = s;
            length[j] = length[j - 1], length[j - 1] = l;
            memcpy(tokens, here, bytes);
            memcpy(here, before, bytes);
            memcpy(before, tokens, bytes);
        }
}

static spt_status run_steps(struct sampler *s, struct decode_feed *f,
                            const struct decode_stepper *stepper, spt_err *err)
{
    const struct decode_opts *o = s->o;
    struct rng_key carry = o->key;
    for (int64_t step = 0; step < o->max_len; step++) {
        f->rows = 0;
        for (int64_t row = 0; row < s->rows; row++)
            if (s->last[row] >= 0)
                s->last[row] =
                    feed_add(f, row / o->n, s->last[row],
                             step ? s->out->tokens[row * o->max_len + step - 1] : o->start_id);
        if (f->rows == 0)
            break;
        TRY(feed_step(f, stepper, step == 0, err));
        s->draw = rng_split_at(carry, 2, 0, RNG_CLASSIC);
        carry = rng_split_at(carry, 2, 1, RNG_CLASSIC);
        for (int64_t row = 0; row < s->rows; row++) {
            bool going = true;
            if (s->last[row] < 0)
                continue;
            TRY(step_row(s, row, step, f->logits + (int64_t)s->last[row] * s->V, &going, err));
            if (!going)
                s->last[row] = -1;
        }
    }
    return SPT_OK;
}

spt_status sample_run(const struct decode_stepper *stepper, const struct decode_batch *batch,
                      const struct decode_opts *o, struct decode_out *out, spt_err *err)
{
    struct sampler s = {0};
    struct decode_feed f = {0};
    int32_t *tokens = NULL;
    spt_status st = sampler_init(&s, batch, o, stepper->V, out, err);
    if (st == SPT_OK)
        st = feed_init(&f, s.rows, s.V, err);
    if (st == SPT_OK && !(tokens = mem_alloc((size_t)o->max_len, sizeof *tokens)))
        st = err_nomem(err, (size_t)o->max_len * sizeof *tokens);
    if (st == SPT_OK)
        st = run_steps(&s, &f, stepper, err);
    for (int64_t b = 0; b < batch->B && st == SPT_OK && o->method == DECODE_SAMPLE_T5X; b++)
        sort_decodes(out, b, tokens);
    mem_free(tokens);
    feed_release(&f);
    sampler_release(&s);
    return st;
}
