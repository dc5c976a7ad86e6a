/* The decoder over the rows of all sequences; cross-attention works per example, because several
 * sequences may attend to the same encoder rows. Backward forms what reaches the encoder output:
 * in layer 0 that ends at the keys and values of cross-attention, unless the decoder has a prompt.
 */
#include <stdio.h>

#include "model/model_internal.h"

static struct block_ctx context(t5_acts *a, int64_t layer, bool per_example, char *name, size_t cap)
{
    name[0] = 0;
    if (a->bad_name)
        snprintf(name, cap, "decoder/layers_%lld", (long long)layer);
    return (struct block_ctx){.m = a->m,
                              .a = a,
                              .r = {.n = per_example ? a->B : a->nseq,
                                    .off = per_example ? a->cross_off : a->dec_off,
                                    .rows = a->dec_rows},
                              .name = name};
}

static struct rows_of encoder_rows(const t5_acts *a)
{
    return (struct rows_of){.n = a->B, .off = a->enc_off, .rows = a->rows};
}

void decoder_embed(t5_acts *a, const struct t5_prompts *p, const int32_t *dec_in)
{
    const t5_model *m = a->m;
    const int64_t E = m->c.width;
    void *x = m->c.dec_layers ? a->dec[0].self.x : a->dec_last;
    for (int64_t i = 0; i < a->nseq; i++) {
        const int64_t row = a->dec_off[i], n = a->dec_off[i + 1] - row - a->P_dec;
        split_gather(m, dec_in, n, row_at(m, x, row + a->P_dec, E));
        dec_in += n;
    }
    split_sum(m, x, a->dec_rows * E);
    for (int64_t i = 0; i < a->nseq && a->P_dec; i++)
        m->t->put(m->o, row_at(m, x, a->dec_off[i], E), p->dec, a->P_dec * E);
    if (a->has_drop)
        m->t->drop_rows(m->o, x, E, a->dec_off, a->nseq, a->drop_dec_in);
}

static void layer_forward(t5_acts *a, int64_t i)
{
    char name[48];
    const struct rows_of e = encoder_rows(a);
    const struct block_ctx b = context(a, i, false, name, sizeof name);
    const struct block_ctx c = context(a, i, true, name, sizeof name);
    self_forward(&b, &a->m->dec[i].self, &a->dec[i].self, true);
    cross_forward(&c, &a->m->dec[i].cross, &a->dec[i].cross, &e, a->enc_out);
    mlp_forward(&b, &a->m->dec[i].mlp, &a->dec[i].mlp);
}

void decoder_layers(t5_acts *a)
{
    const t5_model *m = a->m;
    for (int64_t i = 0; i < m->c.dec_layers; i++)
        layer_forward(a, i);
    m->t->rmsnorm(m->o, a->dec_last, m->dec_norm, m->c.norm_eps, a->dec_rows, m->c.width,
                  a->dec_out);
    if (a->has_drop)
        m->t->drop_rows(m->o, a->dec_out, m->c.width, a->dec_off, a->nseq, a->drop_dec_out);
    const struct block_ctx b = {.m = m, .a = a, .name = "decoder"};
    bad_tensor(&b, "output", a->dec_out, a->dec_rows * m->c.width);
}

/* The gradient at the input of the decoder, of its prompt rows. */
static void prompt_gradients(t5_acts *a, const struct grad_to *to)
{
    const t5_model *m = a->m;
    const int64_t E = m->c.width, n = a->P_dec * E;
    if (a->has_drop)
        m->t->drop_rows(m->o, a->dx_dec, E, a->dec_off, a->nseq, a->drop_dec_in);
    for (int64_t b = 0; b < a->nseq; b++) {
        const int64_t shard = to->shard_of ? to->shard_of[a->first + b] : 0;
        add_to_host(a, row_at(m, a->dx_dec, a->dec_off[b], E), n,
                    to->dec_of ? to->dec_of[b] : to->dec + shard * n);
    }
}

void decoder_backward(t5_acts *a, bool need_enc, const struct grad_to *to)
{
    const bool need_dec = to->dec || to->dec_of;
    const t5_model *m = a->m;
    const struct ops_table *t = m->t;
    const int64_t E = m->c.width, L = m->c.dec_layers;
    const struct rows_of e = encoder_rows(a);
    void *dy = a->d_loss;
    if (!a->loss_all) {
        t->zero(m->o, a->norm, a->dec_rows * E);
        t->scatter_rows(m->o, a->norm, a->d_loss, a->loss_index, a->loss_rows, E, false);
        dy = a->norm;
    } else if (a->has_drop) {
        t->copy(m->o, a->norm, a->d_loss, a->dec_rows * E);
        dy = a->norm;
    }
    if (a->has_drop)
        t->drop_rows(m->o, dy, E, a->dec_off, a->nseq, a->drop_dec_out);
    t->rmsnorm_bwd(m->o, a->dec_last, m->dec_norm, m->c.norm_eps, dy, a->dec_rows, E, a->dx_dec,
                   false);
    if (need_enc && !L)
        t->zero(m->o, a->d_enc, a->rows * E);
    for (int64_t i = L - 1; i >= 0; i--) {
        char name[48];
        const struct block_ctx b = context(a, i, false, name, sizeof name);
        const struct block_ctx c = context(a, i, true, name, sizeof name);
        const bool need_x = i > 0 || need_dec;
        if (a->plan.remat)
            layer_forward(a, i);
        mlp_backward(&b, &m->dec[i].mlp, &a->dec[i].mlp, a->dx_dec);
        cross_backward(&c, &m->dec[i].cross, &a->dec[i].cross, &e, need_x, a->dx_dec,
                       need_enc ? a->d_enc : NULL, i < L - 1);
        if (need_x)
            self_backward(&b, &m->dec[i].self, &a->dec[i].self, true, a->dx_dec);
    }
    if (need_enc && L) /* every layer has added its part's share */
        split_sum(m, a->d_enc, a->rows * E);
    if (need_dec)
        prompt_gradients(a, to);
}
