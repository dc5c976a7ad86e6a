/* Options, results, and the parts that all searches use. */
#include "decode/decode.h"

#include <math.h>
#include <string.h>

#include "decode/decode_internal.h"

typedef spt_status (*run_fn)(const struct decode_stepper *s, const struct decode_batch *batch,
                             const struct decode_opts *o, struct decode_out *out, spt_err *err);

static const struct {
    const char *name;
    run_fn run;
    bool beams, t5x;
} methods[DECODE_METHOD_COUNT] = {
    [DECODE_GREEDY] = {"greedy", sample_run, false, false},
    [DECODE_SAMPLE] = {"sample", sample_run, false, false},
    [DECODE_SAMPLE_T5X] = {"temperature_sample", sample_run, false, true},
    [DECODE_BEAM_T5X] = {"beam_search", beam_t5x_run, true, true},
    [DECODE_BEAM_HF] = {"beam_hf", beam_hf_run, true, false},
};

const char *decode_method_name(enum decode_method method)
{
    return methods[method].name;
}

bool decode_method_from_name(const char *name, enum decode_method *out)
{
    for (int i = 0; i < DECODE_METHOD_COUNT; i++)
        if (strcmp(methods[i].name, name) == 0) {
            *out = (enum decode_method)i;
            return true;
        }
    return false;
}

/* --- options -------------------------------------------------------------------------------- */

struct decode_opts decode_opts_default(enum decode_method method)
{
    struct decode_opts o = {.method = method,
                            .eos_id = 1,
                            .n = 1,
                            .beams = 1,
                            .alpha = 0.6,
                            .length_penalty = 1,
                            .temperature = 1,
                            .top_p = 1,
                            .repetition_penalty = 1,
                            .want_scores = true};
    if (method == DECODE_SAMPLE_T5X) {
        o.top_k = 1;
        o.top_p = 0;
        o.rescale_log_probs = true;
    }
    return o;
}

static spt_status refuse(spt_err *err, const char *what, double value, const char *why)
{
    return err_set(err, SPT_E_CONFIG, "decoding: %s %g: %s", what, value, why);
}

static spt_status check_ids(const struct decode_ids *list, const char *what, spt_err *err)
{
    for (int64_t i = 0; i < list->n; i++)
        if (list->off[i + 1] <= list->off[i])
            return refuse(err, what, (double)i, "the sequence is empty");
    return SPT_OK;
}

static spt_status check_sampling(const struct decode_opts *o, spt_err *err)
{
    if (!(o->temperature >= 0) || isinf(o->temperature))
        return refuse(err, "temperature", o->temperature, "give a number >= 0");
    if (o->top_k < 0)
        return refuse(err, "top-k", (double)o->top_k, "give a number >= 1, or 0 for no limit");
    if (o->method == DECODE_SAMPLE_T5X) {
        if (!(o->top_p >= 0 && o->top_p <= 1))
            return refuse(err, "topp", o->top_p, "give a number from 0 (off) to 1");
        if (o->top_k > 0 && o->top_p > 0)
            return refuse(err, "topp", o->top_p, "the reference allows topk or topp, not both");
    } else if (!(o->top_p > 0 && o->top_p <= 1)) {
        return refuse(err, "top-p", o->top_p, "give a number above 0 and up to 1");
    }
    return SPT_OK;
}

static spt_status check_beams(const struct decode_opts *o, int64_t V, spt_err *err)
{
    if (o->beams < 1 || o->beams > 1024)
        return refuse(err, "beams", (double)o->beams, "give a number from 1 to 1024");
    if (V > 0 && 2 * o->beams > V)
        return refuse(err, "beams", (double)o->beams, "at most half as many as the vocabulary");
    if (o->n > o->beams)
        return refuse(err, "results", (double)o->n, "not more than there are beams");
    if (!isfinite(o->alpha) || !isfinite(o->length_penalty))
        return refuse(err, "length penalty", o->alpha, "give a finite number");
    return SPT_OK;
}

static spt_status check_processors(const struct decode_opts *o, spt_err *err)
{
    if (!(o->repetition_penalty > 0) || isinf(o->repetition_penalty))
        return refuse(err, "repetition penalty", o->repetition_penalty, "give a number above 0");
    if (o->no_repeat_ngram < 0)
        return refuse(err, "no-repeat n-gram", (double)o->no_repeat_ngram, "give a number >= 0");
    if (o->min_len < 0 || o->min_len > o->max_len)
        return refuse(err, "minimum length", (double)o->min_len, "from 0 to the maximum length");
    if (methods[o->method].t5x && processors_needed(o))
        return err_set(err, SPT_E_CONFIG,
                       "decoding: %s has no repetition penalty, n-gram rule, bad words, minimum "
                       "length or forced end; use greedy, sample or beam_hf",
                       methods[o->method].name);
    return SPT_OK;
}

spt_status decode_check(const struct decode_opts *o, int64_t V, spt_err *err)
{
    if ((unsigned)o->method >= DECODE_METHOD_COUNT)
        return refuse(err, "method", (double)o->method, "unknown");
    if (o->max_len < 1 || o->max_len > 1 << 20)
        return refuse(err, "maximum length", (double)o->max_len, "give a number from 1 to 1048576");
    if (o->n < 1 || o->n > 1 << 20)
        return refuse(err, "results per input", (double)o->n, "give a number >= 1");
    if (o->max_decode_steps < 0 || o->max_decode_steps > o->max_len)
        return refuse(err, "decode steps", (double)o->max_decode_steps,
                      "from 0 (off) to the maximum length");
    TRY(check_processors(o, err));
    TRY(check_ids(&o->bad_words, "bad word", err));
    TRY(check_ids(&o->stop, "stop sequence", err));
    if (methods[o->method].beams)
        return check_beams(o, V, err);
    if (o->method == DECODE_GREEDY && o->n > 1)
        return refuse(err, "results per input", (double)o->n, "greedy decoding has one");
    return check_sampling(o, err);
}

int64_t decode_rows(const struct decode_opts *o, int64_t B)
{
    return B * (methods[o->method].beams ? o->beams : o->n);
}

/* --- results -------------------------------------------------------------------------------- */

void decode_out_release(struct decode_out *out)
{
    mem_free(out->tokens);
    mem_free(out->length);
    mem_free(out->score);
    *out = (struct decode_out){0};
}

int64_t decode_best(const struct decode_out *out, int64_t b)
{
    if (out->best_last)
        return out->n - 1;
    int64_t best = 0; /* samples come in their own order */
    for (int64_t i = 1; i < out->n; i++)
        if (out->score[b * out->n + i] > out->score[b * out->n + best])
            best = i;
    return best;
}

spt_status decode_run(const struct decode_stepper *s, const struct decode_batch *batch,
                      const struct decode_opts *o, struct decode_out *out, spt_err *err)
{
    TRY(decode_check(o, s->V, err));
    if (batch->forced && o->method == DECODE_BEAM_HF)
        return err_set(err, SPT_E_CONFIG, "decoding: beam_hf takes no forced prefix");
    struct decode_out r = {
        .B = batch->B, .n = o->n, .len = o->max_len, .best_last = methods[o->method].t5x};
    size_t results, tokens;
    if (!mul_size((size_t)r.B, (size_t)r.n, &results) || !mul_size(results, (size_t)r.len, &tokens))
        return err_nomem(err, SIZE_MAX);
    r.tokens = mem_zalloc(tokens, sizeof *r.tokens);
    r.length = mem_zalloc(results, sizeof *r.length);
    r.score = mem_zalloc(results, sizeof *r.score);
    spt_status st = SPT_OK;
    struct decode_stepper stepper = *s;
    stepper.interrupted = o->interrupted;
    if (!r.tokens || !r.length || !r.score)
        st = err_nomem(err, (tokens + 2 * results) * sizeof *r.tokens);
    else if (batch->B > 0)
        st = methods[o->method].run(&stepper, batch, o, &r, err);
    if (st != SPT_OK) {
        decode_out_release(&r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

/* --- for the searches ----------------------------------------------------------------------- */

spt_status feed_init(struct decode_feed *f, int64_t cap, int64_t V, spt_err *err)
{
    size_t logits;
    *f = (struct decode_feed){.cap = cap};
    if (!mul_size((size_t)cap, (size_t)V, &logits))
        return err_nomem(err, SIZE_MAX);
    f->example = mem_alloc((size_t)cap, sizeof *f->example);
    f->parent = mem_alloc((size_t)cap, sizeof *f->parent);
    f->token = mem_alloc((size_t)cap, sizeof *f->token);
    f->logits = mem_alloc_aligned(logits, sizeof *f->logits);
    if (f->example && f->parent && f->token && f->logits)
        return SPT_OK;
    feed_release(f);
    return err_nomem(err, logits * sizeof *f->logits);
}

void feed_release(struct decode_feed *f)
{
    mem_free(f->example);
    mem_free(f->parent);
    mem_free(f->token);
    mem_free_aligned(f->logits);
    *f = (struct decode_feed){0};
}

int32_t feed_add(struct decode_feed *f, int64_t example, int32_t parent, int32_t token)
{
    const int64_t r = f->rows++;
    f->example[r] = (int32_t)example;
    f->parent[r] = parent;
    f->token[r] = token;
    return (int32_t)r;
}

spt_status feed_step(struct decode_feed *f, const struct decode_stepper *s, bool first,
                     spt_err *err)
{
    if (s->interrupted && s->interrupted())
        return err_set(err, SPT_E_INTERRUPTED, "interrupted while decoding");
    return s->step(s->ctx, f->rows, f->example, first ? NULL : f->parent, f->token, f->logits, err);
}

spt_status bad_logits(int64_t example, spt_err *err)
{
    return err_set(err, SPT_E_NONFINITE,
                   "decoding example %lld of the batch: the logits are not finite",
                   (long long)example);
}

int32_t forced_at(const struct decode_batch *b, int64_t example, int64_t step, bool clamp)
{
    if (!b->forced || b->forced_len < 1)
        return 0;
    int64_t column = step + 1;
    if (column >= b->forced_len) {
        if (!clamp)
            return 0;
        column = b->forced_len - 1;
    }
    return b->forced[example * b->forced_len + column];
}

bool stops_here(const struct decode_opts *o, int64_t example, const int32_t *tokens, int64_t n)
{
    for (int64_t i = 0; i < o->stop.n; i++) {
        const int32_t *ids = o->stop.ids + o->stop.off[i];
        const int64_t len = o->stop.off[i + 1] - o->stop.off[i];
        if (len <= n && memcmp(tokens + n - len, ids, (size_t)len * sizeof *ids) == 0)
            return true;
    }
    return o->stop_fn && o->stop_fn(o->stop_ctx, example, tokens, n);
}

void top_offer(struct decode_top *t, float value, int32_t beam, int32_t token)
{
    if (t->n == t->want && !(value > t->c[t->n - 1].value))
        return;
    int64_t i = t->n < t->want ? t->n++ : t->n - 1;
    for (; i > 0 && value > t->c[i - 1].value; i--)
        t->c[i] = t->c[i - 1];
    t->c[i] = (struct decode_candidate){value, beam, token};
}

void top_offer_row(struct decode_top *t, const float *x, int64_t V, const struct logits_norm *norm,
                   float add, int32_t beam)
{
    const struct logits_norm n = norm ? *norm : (struct logits_norm){0, 0};
    for (int64_t i = 0; i < V; i++) {
        if (t->n == t->want)
            i = logits_next_above(x, V, i, n, add, t->c[t->n - 1].value);
        if (i < V)
            top_offer(t, logits_log_prob(n, x[i]) + add, beam, (int32_t)i);
    }
}
