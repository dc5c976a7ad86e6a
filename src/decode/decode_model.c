#include "decode/decode_model.h"

#include "base/mem.h"

struct decode_model {
    const t5_model *m;
    t5_acts *acts;
    t5_decoder *decoder;
    int64_t *number; /* [examples] */
    struct decode_model_plan plan;
};

spt_status decode_model_new(const t5_model *m, const struct decode_model_plan *plan,
                            decode_model **out, spt_err *err)
{
    const struct t5_acts_plan acts = {.rows = plan->pass_rows ? plan->pass_rows : plan->enc_rows,
                                      .enc_rows = plan->enc_rows,
                                      .examples = plan->examples};
    const struct t5_decoder_plan decoder = {.examples = plan->examples,
                                            .enc_rows = plan->enc_rows,
                                            .rows = plan->rows,
                                            .max_len = plan->max_len,
                                            .P_dec = plan->P_dec};
    decode_model *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    d->m = m;
    d->plan = *plan;
    spt_status st = SPT_OK;
    if (!(d->number = mem_alloc((size_t)plan->examples, sizeof *d->number)))
        st = err_nomem(err, (size_t)plan->examples * sizeof *d->number);
    if (st == SPT_OK)
        st = t5_acts_new(m, &acts, &d->acts, err);
    if (st == SPT_OK)
        st = t5_decoder_new(m, &decoder, &d->decoder, err);
    if (st != SPT_OK) {
        decode_model_free(d);
        return st;
    }
    *out = d;
    return SPT_OK;
}

void decode_model_free(decode_model *d)
{
    if (!d)
        return;
    t5_decoder_free(d->decoder);
    t5_acts_free(d->acts);
    mem_free(d->number);
    mem_free(d);
}

static spt_status step(void *ctx, int64_t rows, const int32_t *example, const int32_t *parent,
                       const int32_t *token, float *logits, spt_err *err)
{
    return t5_decoder_step(ctx, rows, example, parent, token, logits, err);
}

struct decode_stepper decode_t5_stepper(t5_decoder *d, const t5_model *m)
{
    return (struct decode_stepper){d, t5_model_config(m)->vocab, step, NULL};
}

/* A copy without EOS, which a prefix cannot force. */
static spt_status copy_forced(const int32_t *forced, int64_t n, int32_t eos_id, int32_t **out,
                              spt_err *err)
{
    int32_t *copy = mem_alloc((size_t)n, sizeof *copy);
    if (!copy)
        return err_nomem(err, (size_t)n * sizeof *copy);
    for (int64_t i = 0; i < n; i++)
        copy[i] = forced[i] == eos_id ? 0 : forced[i];
    *out = copy;
    return SPT_OK;
}

spt_status decode_model_run(decode_model *d, const struct t5_prompts *prompts,
                            const struct packed_batch *batch, int64_t first, int64_t count,
                            const struct decode_opts *opts, const int32_t *forced,
                            int64_t forced_len, struct decode_out *out, spt_err *err)
{
    const struct decode_stepper s = decode_t5_stepper(d->decoder, d->m);
    struct decode_batch b = {.B = count, .forced_len = forced_len, .number = d->number};
    int32_t *copy = NULL;
    TRY(decode_check(opts, s.V, err));
    if (count > d->plan.examples || decode_rows(opts, count) > d->plan.rows ||
        opts->max_len > d->plan.max_len)
        return err_set(err, SPT_E_INTERNAL,
                       "decoding planned for %lld examples, %lld sequences and %lld tokens, got "
                       "%lld, %lld and %lld",
                       (long long)d->plan.examples, (long long)d->plan.rows,
                       (long long)d->plan.max_len, (long long)count,
                       (long long)decode_rows(opts, count), (long long)opts->max_len);
    for (int64_t i = 0; i < count; i++)
        d->number[i] = batch->index ? batch->index[first + i] : first + i;
    TRY(t5_encode(d->m, prompts, batch, first, count, d->acts, err));
    TRY(t5_decoder_start(d->decoder, prompts, d->acts, err));
    if (forced)
        TRY(copy_forced(forced, count * forced_len, opts->eos_id, &copy, err));
    b.forced = copy;
    const spt_status st = decode_run(&s, &b, opts, out, err);
    mem_free(copy);
    return st;
}
