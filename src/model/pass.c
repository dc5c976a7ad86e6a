/* A pass over a range of a batch: encoder, decoder, loss, and back to the prompts.
 *
 * The output head works on the rows whose target counts only, a chunk at a time: logits [chunk, V],
 * their loss, and, when a backward will follow, at once the gradient of the head's input. Logits of
 * a whole batch never exist. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"

static const struct t5_prompts no_prompts;

/* --- sequences and loss rows --------------------------------------------------------------- */

float weight_at(const float *w, int64_t i)
{
    return w ? w[i] : 1;
}

/* Decoder offsets of n sequences with token offsets off[0..n]. */
spt_status place_sequences(t5_acts *a, int64_t n, const int64_t *off, const int32_t *dec_in,
                           const int32_t *target, spt_err *err)
{
    const int64_t tokens = off[n] - off[0], rows = tokens + n * a->P_dec;
    if (n > a->plan.examples || rows > a->plan.dec_rows)
        return err_set(err, SPT_E_CONFIG,
                       "the batch has %lld sequences of %lld decoder rows, storage was planned for "
                       "%lld of %lld",
                       (long long)n, (long long)rows, (long long)a->plan.examples,
                       (long long)a->plan.dec_rows);
    TRY(acts_check_ids(a, "decoder input", dec_in + off[0], tokens, err));
    TRY(acts_check_ids(a, "target", target + off[0], tokens, err));
    a->nseq = n;
    a->dec_rows = rows;
    for (int64_t i = 0; i <= n; i++)
        a->dec_off[i] = off[i] - off[0] + i * a->P_dec;
    return SPT_OK;
}

/* Orders of (row, head) pairs for absorbed cross-attention. */
void place_heads(t5_acts *a)
{
    const int64_t H = a->m->own.heads, M = a->dec_rows;
    for (int64_t m = 0; a->absorb && m < M; m++)
        for (int64_t h = 0; h < H; h++) {
            a->by_head[h * M + m] = m * H + h;
            a->by_row[m * H + h] = h * M + m;
        }
    for (int64_t b = 0; a->absorb && b <= a->B; b++)
        a->head_off[b] = a->cross_off[b] * H;
}

/* Rows whose token has a weight, in order. */
void find_loss_rows(t5_acts *a, const int64_t *off, const float *weight)
{
    int64_t n = 0;
    for (int64_t i = 0; i < a->nseq; i++)
        for (int64_t t = off[i]; t < off[i + 1]; t++)
            if (weight_at(weight, t) != 0) {
                a->loss_index[n] = a->dec_off[i] + a->P_dec + t - off[i];
                a->loss_token[n++] = t;
            }
    a->loss_rows = n;
    a->loss_all = n == a->dec_rows;
}

void head_gather(t5_acts *a)
{
    const t5_model *m = a->m;
    if (!a->loss_all)
        m->t->gather_rows(m->o, a->tmp, a->dec_out, a->loss_index, a->loss_rows, m->c.width);
}

void head_chunk(t5_acts *a, int64_t at, int64_t n, bool backward)
{
    const t5_model *m = a->m;
    const int64_t E = m->c.width;
    const void *in = a->loss_all ? a->dec_out : a->tmp;
    m->t->matmul(m->o, m->head, row_at(m, in, at, E), a->logits, n, false);
    const struct ops_loss_args args = {.rows = n,
                                       .V = m->c.vocab,
                                       .target = a->target + at,
                                       .weight = a->weight + at,
                                       .z_loss = a->opts.z_loss,
                                       .label_smoothing = a->opts.label_smoothing,
                                       .loss = a->loss + at,
                                       .z = a->z + at,
                                       .log_p = a->log_p + at,
                                       .log_z = a->log_z + at,
                                       .argmax = a->argmax + at,
                                       .backward = backward};
    if (m->link)
        split_loss(m, a->logits, &args);
    else
        m->t->loss(m->o, a->logits, &args);
    if (backward)
        m->t->matmul_t(m->o, m->head, a->logits, row_at(m, a->d_loss, at, E), n, false);
}

void head_forward(t5_acts *a, bool backward)
{
    head_gather(a);
    for (int64_t at = 0; at < a->loss_rows; at += a->head_chunk) {
        const int64_t left = a->loss_rows - at;
        head_chunk(a, at, left < a->head_chunk ? left : a->head_chunk, backward);
    }
    if (backward)
        split_sum(a->m, a->d_loss, a->loss_rows * a->m->c.width);
}

/* --- loss ---------------------------------------------------------------------------------- */

static double sequence_weight(const struct packed_batch *batch, int64_t b)
{
    double sum = 0;
    for (int64_t i = batch->dec_off[b]; i < batch->dec_off[b + 1]; i++)
        sum += (double)weight_at(batch->dec_weight, i);
    return sum;
}

double t5_loss_factor(const struct packed_batch *batch, const struct t5_loss_opts *opts)
{
    double sum = 0;
    switch (opts->normalize) {
    case T5_NORM_NONE:
        return 1;
    case T5_NORM_NUMBER:
        return (double)opts->factor;
    case T5_NORM_ALL_TOKENS:
        return (double)batch->B * (double)batch->Ld;
    case T5_NORM_REAL_TOKENS:
        for (int64_t b = 0; b < batch->B; b++)
            sum += sequence_weight(batch, b);
        return sum;
    case T5_NORM_PER_SEQUENCE:
        for (int64_t b = 0; b < batch->B; b++)
            sum += sequence_weight(batch, b) != 0;
        return sum;
    }
    return 1;
}

static void set_loss_weights(t5_acts *a, const struct packed_batch *batch)
{
    const double whole = a->opts.factor_of ? 0 : t5_loss_factor(batch, &a->opts);
    const bool per_sequence = a->opts.normalize == T5_NORM_PER_SEQUENCE;
    for (int64_t i = 0, b = a->first - 1; i < a->loss_rows; i++) {
        const int64_t token = a->loss_token[i];
        while (token >= batch->dec_off[b + 1])
            b++;
        const double row = per_sequence ? sequence_weight(batch, b) : 1;
        const double factor = a->opts.factor_of ? a->opts.factor_of[b] : whole;
        a->target[i] = batch->dec_target[token];
        a->weight[i] = (float)((double)weight_at(batch->dec_weight, token) / row / factor);
    }
}

void t5_loss_add(struct t5_loss *sum, const struct t5_example_loss *example)
{
    sum->loss += example->loss;
    sum->z_loss += example->z_loss;
    sum->weight_sum += example->weight_sum;
    sum->correct += example->correct;
    sum->counted += example->counted;
}

/* Adds up what the loss rows of each example say, in order. */
static void sum_loss(const t5_acts *a, const struct packed_batch *batch, struct t5_loss *out)
{
    const bool per_sequence = a->opts.normalize == T5_NORM_PER_SEQUENCE;
    int64_t i = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const double row = per_sequence ? sequence_weight(batch, a->first + b) : 1;
        struct t5_example_loss sum = {0};
        double ce = 0;
        for (; i < a->loss_rows && a->loss_token[i] < batch->dec_off[a->first + b + 1]; i++) {
            const double w = (double)weight_at(batch->dec_weight, a->loss_token[i]);
            sum.loss += a->loss[i];
            sum.z_loss += a->z[i];
            sum.weight_sum += w / row;
            sum.correct += a->argmax[i] == a->target[i];
            sum.counted++;
            ce -= w * a->log_p[i];
        }
        t5_loss_add(out, &sum);
        if (out->example_loss)
            out->example_loss[b] = (float)ce;
        if (out->each)
            out->each[b] = sum;
    }
}

/* --- passes -------------------------------------------------------------------------------- */

spt_status check_pass(const t5_model *m, const t5_acts *a, const struct t5_prompts *p,
                      const struct t5_dropout *drop, spt_err *err)
{
    if (a->m != m)
        return err_set(err, SPT_E_INTERNAL, "activations belong to another model");
    if (drop && drop->rate > 0 && !a->plan.dropout)
        return err_set(err, SPT_E_INTERNAL, "activations were planned without dropout");
    if (drop && !(drop->rate >= 0 && drop->rate < 1))
        return err_set(err, SPT_E_CONFIG, "dropout rate %g is not in [0, 1)", (double)drop->rate);
    if (p->P < 0 || p->P_dec < 0 || (p->P && (!p->enc || p->count < 1)))
        return err_set(err, SPT_E_INTERNAL, "prompt of %lld rows without values", (long long)p->P);
    return SPT_OK;
}

/* More rows than a pass holds: one pass after the other, each with its place in enc_out, of about
 * equal size. The offsets are those of the whole afterwards, as before. */
static spt_status encode_parts(t5_acts *a, const struct t5_prompts *p,
                               const struct packed_batch *batch, int64_t first, int64_t count,
                               spt_err *err)
{
    const int64_t all = a->rows, most = a->plan.rows, parts = (all + most - 1) / most;
    void *const out = a->enc_out;
    spt_status st = SPT_OK;
    for (int64_t at = 0, row = 0, n; !st && at < count; at += n, row += a->rows) {
        n = acts_fit(a, p, batch, first + at, count - at, (all + parts - 1) / parts);
        st = acts_begin(a, p, batch, first + at, n, most, err);
        if (st)
            break;
        a->enc_out = row_at(a->m, out, row, a->m->c.width);
        encoder_embed(a, p, batch);
        encoder_layers(a);
        a->enc_out = out;
    }
    return st ? st : acts_begin(a, p, batch, first, count, all, err);
}

spt_status t5_encode(const t5_model *m, const struct t5_prompts *prompts,
                     const struct packed_batch *batch, int64_t first, int64_t count, t5_acts *acts,
                     spt_err *err)
{
    prompts = prompts ? prompts : &no_prompts;
    TRY(check_pass(m, acts, prompts, NULL, err));
    const int64_t one = acts->plan.rows, all = acts->plan.enc_rows, most = all > one ? all : one;
    TRY(acts_begin(acts, prompts, batch, first, count, most, err));
    if (acts->rows > one) {
        TRY(encode_parts(acts, prompts, batch, first, count, err));
    } else {
        encoder_embed(acts, prompts, batch);
        encoder_layers(acts);
    }
    TRY(model_check(m, err));
    acts->encoded = true;
    return SPT_OK;
}

spt_status t5_forward(const t5_model *m, const struct t5_prompts *prompts,
                      const struct packed_batch *batch, int64_t first, int64_t count,
                      const struct t5_loss_opts *opts, const struct t5_dropout *drop, t5_acts *acts,
                      struct t5_loss *out, spt_err *err)
{
    prompts = prompts ? prompts : &no_prompts;
    TRY(check_pass(m, acts, prompts, drop, err));
    TRY(acts_begin(acts, prompts, batch, first, count, acts->plan.rows, err));
    const int64_t *off = batch->dec_off + first;
    TRY(place_sequences(acts, count, off, batch->dec_in, batch->dec_target, err));
    memcpy(acts->cross_off, acts->dec_off, (size_t)(count + 1) * sizeof *acts->cross_off);
    place_heads(acts);
    acts->opts = *opts;
    find_loss_rows(acts, off, batch->dec_weight);
    set_loss_weights(acts, batch);
    dropout_masks(acts, drop, batch);
    encoder_embed(acts, prompts, batch);
    encoder_layers(acts);
    decoder_embed(acts, prompts, batch->dec_in + off[0]);
    decoder_layers(acts);
    head_forward(acts, acts->plan.backward);
    TRY(model_check(m, err));
    sum_loss(acts, batch, out);
    acts->encoded = acts->ran_forward = true;
    return SPT_OK;
}

static spt_status backward(const t5_model *m, t5_acts *a, struct grad_to to, spt_err *err)
{
    if (a->m != m || !a->ran_forward || !a->plan.backward)
        return err_set(err, SPT_E_INTERNAL, "backward without a forward that keeps activations");
    const bool need_enc = (to.enc || to.enc_of) && a->P > 0;
    if (!a->P_dec)
        to.dec = NULL, to.dec_of = NULL;
    if (need_enc || to.dec || to.dec_of)
        decoder_backward(a, need_enc, &to);
    if (need_enc)
        encoder_backward(a, &to);
    return model_check(m, err);
}

spt_status t5_backward(const t5_model *m, const struct packed_batch *batch, t5_acts *acts,
                       const int32_t *shard_of, float *denc, float *ddec, spt_err *err)
{
    (void)batch;
    return backward(m, acts, (struct grad_to){.shard_of = shard_of, .enc = denc, .dec = ddec},
                    err);
}

spt_status t5_backward_to(const t5_model *m, t5_acts *acts, float *const *enc, float *const *dec,
                          spt_err *err)
{
    return backward(m, acts, (struct grad_to){.enc_of = enc, .dec_of = dec}, err);
}

/* --- looking inside ------------------------------------------------------------------------ */

spt_status t5_acts_hidden(const t5_model *m, const t5_acts *a, bool decoder, int64_t layer,
                          float *out, spt_err *err)
{
    const int64_t layers = decoder ? m->c.dec_layers : m->c.enc_layers;
    const int64_t rows = decoder ? a->dec_rows : a->rows;
    const void *x = decoder ? a->dec_out : a->enc_out;
    if (!a->encoded || (decoder && !a->ran_forward) || layer < 0 || layer > layers ||
        (layer < layers && !a->plan.backward))
        return err_set(err, SPT_E_INTERNAL, "hidden states of layer %lld were not kept",
                       (long long)layer);
    if (layer < layers)
        x = decoder ? a->dec[layer].mlp.y : a->enc[layer].mlp.y;
    m->t->get(m->o, out, x, rows * m->c.width);
    if (decoder && layer == layers && m->c.scale_logits) /* the norm holds the logits' factor */
        for (int64_t i = 0; i < rows * m->c.width; i++)
            out[i] *= sqrtf((float)m->c.width);
    return SPT_OK;
}

int64_t t5_acts_row(const t5_acts *a, bool decoder, int64_t b)
{
    return decoder ? a->dec_off[b] : a->enc_off[b];
}

spt_status t5_acts_logits(const t5_model *m, t5_acts *a, float *out, spt_err *err)
{
    if (!a->ran_forward)
        return err_set(err, SPT_E_INTERNAL, "logits without a forward pass");
    const int64_t E = m->c.width, V = m->c.vocab;
    for (int64_t i = 0; i < a->nseq; i++) {
        int64_t row = a->dec_off[i] + a->P_dec;
        while (row < a->dec_off[i + 1]) {
            const int64_t left = a->dec_off[i + 1] - row;
            const int64_t n = left < a->head_chunk ? left : a->head_chunk;
            m->t->matmul(m->o, m->head, row_at(m, a->dec_out, row, E), a->logits, n, false);
            split_logits(m, a->logits, n, out);
            out += n * V;
            row += n;
        }
    }
    return model_check(m, err);
}

static bool bad_losses(t5_acts *a)
{
    for (int64_t i = 0; i < a->loss_rows; i++)
        if (!isfinite(a->loss[i])) {
            snprintf(a->bad_name, a->bad_cap, "decoder/logits (row %lld)",
                     (long long)a->loss_index[i]);
            return true;
        }
    return false;
}

bool t5_nonfinite(const t5_model *m, const struct packed_batch *batch, t5_acts *acts, char *name,
                  size_t cap)
{
    t5_acts *a = acts;
    const int64_t E = m->c.width;
    name[0] = 0;
    if (!a->ran_forward)
        return false;
    a->bad_name = name;
    a->bad_cap = cap;
    a->bad_looked = 0;
    const struct block_ctx enc = {.m = m, .a = a, .name = "encoder"};
    const struct block_ctx dec = {.m = m, .a = a, .name = "decoder"};
    if (a->plan.backward) { /* everything can be computed again from the embedded input */
        bad_tensor(&enc, "embedded input and prompt",
                   m->c.enc_layers ? a->enc[0].self.x : a->enc_last, a->rows * E);
        encoder_layers(a);
        bad_tensor(&dec, "embedded input", m->c.dec_layers ? a->dec[0].self.x : a->dec_last,
                   a->dec_rows * E);
        decoder_layers(a);
    } else {
        bad_tensor(&enc, "output", a->enc_out, a->rows * E);
        bad_tensor(&dec, "output", a->dec_out, a->dec_rows * E);
    }
    split_first_text(m, a->bad_looked, name, cap); /* ranks go on together */
    if (!name[0] && !bad_losses(a) && a->plan.backward) {
        bad_tensor(&dec, "gradient at the output", a->d_loss, a->loss_rows * E);
        const struct grad_to nowhere = {0};
        decoder_backward(a, a->P > 0, &nowhere);
        if (a->P > 0)
            encoder_backward(a, &nowhere);
        split_first_text(m, a->bad_looked, name, cap);
    }
    a->bad_name = NULL;
    (void)model_check(m, NULL);
    return name[0] != 0;
}
