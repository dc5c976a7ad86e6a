/* The encoder: prompt and token embeddings, layers, final norm; and the way back, which ends at the
 * prompt rows. In layer 0 only they have something trainable upstream, so that layer forms their
 * gradients alone when they lie in front (the usual prefix). */
#include <stdio.h>

#include "model/model_internal.h"

static struct block_ctx context(t5_acts *a, int64_t layer, char *name, size_t cap)
{
    name[0] = 0;
    if (a->bad_name)
        snprintf(name, cap, "encoder/layers_%lld", (long long)layer);
    return (struct block_ctx){
        .m = a->m, .a = a, .r = {.n = a->B, .off = a->enc_off, .rows = a->rows}, .name = name};
}

static void *stream(const t5_acts *a)
{
    return a->m->c.enc_layers ? a->enc[0].self.x : a->enc_last;
}

/* Which rows in front of layer 0 equal an earlier one: those of prompts that came before. Dropout
 * makes them different. */
static void find_repeats(t5_acts *a, const struct packed_batch *batch)
{
    int64_t repeats = 0;
    a->share_prompt = false;
    if (a->plan.plain_prompt || a->has_drop || !a->P)
        return;
    for (int64_t i = 0; i < a->rows; i++)
        a->same[i] = i;
    for (int64_t b = 1; b < a->B; b++) {
        int64_t first = 0; /* example with the same prompt */
        if (batch->prompt_of)
            while (batch->prompt_of[a->first + first] != batch->prompt_of[a->first + b])
                first++;
        const int64_t n = a->prompt_n[b] < a->prompt_n[first] ? a->prompt_n[b] : a->prompt_n[first];
        for (int64_t i = 0; first < b && i < n; i++, repeats++)
            a->same[a->prompt_at[b] + i] = a->prompt_at[first] + i;
    }
    a->share_prompt = repeats > 0;
}

void encoder_embed(t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch)
{
    const t5_model *m = a->m;
    const struct ops_table *t = m->t;
    const int64_t E = m->c.width;
    void *x = stream(a);
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t at = batch->enc_off[a->first + b];
        const int32_t *ids = batch->enc_ids + at;
        const int64_t n = batch->enc_off[a->first + b + 1] - at;
        const int64_t row = a->enc_off[b], before = a->prompt_at[b] - row;
        if (before > n) /* an empty input whose prompt comes behind its first position */
            split_gather(m, &m->c.pad_id, 1, row_at(m, x, row, E));
        else
            split_gather(m, ids, before, row_at(m, x, row, E));
        if (n > before)
            split_gather(m, ids + before, n - before,
                         row_at(m, x, a->prompt_at[b] + a->prompt_n[b], E));
    }
    split_sum(m, x, a->rows * E);
    for (int64_t b = 0; b < a->B && a->P; b++)
        t->put(m->o, row_at(m, x, a->prompt_at[b], E), p->enc + a->prompt_row[b] * E,
               a->prompt_n[b] * E);
    if (a->has_drop)
        t->drop_rows(m->o, x, E, a->enc_off, a->B, a->drop_enc_in);
    find_repeats(a, batch);
}

static void layer_forward(t5_acts *a, int64_t i)
{
    char name[48];
    const struct block_ctx b = context(a, i, name, sizeof name);
    if (i == 0 && a->share_prompt)
        self_forward_shared(&b, &a->m->enc[i].self, &a->enc[i].self, a->same);
    else
        self_forward(&b, &a->m->enc[i].self, &a->enc[i].self, false);
    mlp_forward(&b, &a->m->enc[i].mlp, &a->enc[i].mlp);
}

void encoder_layers(t5_acts *a)
{
    const t5_model *m = a->m;
    for (int64_t i = 0; i < m->c.enc_layers; i++)
        layer_forward(a, i);
    m->t->rmsnorm(m->o, a->enc_last, m->enc_norm, m->c.norm_eps, a->rows, m->c.width, a->enc_out);
    if (a->has_drop)
        m->t->drop_rows(m->o, a->enc_out, m->c.width, a->enc_off, a->B, a->drop_enc_out);
    const struct block_ctx b = {.m = m, .a = a, .name = "encoder"};
    bad_tensor(&b, "output", a->enc_out, a->rows * m->c.width);
}

/* The gradient at the input of layer 0; compact: of the prompt rows only, side by side. */
static void prompt_gradients(t5_acts *a, const struct grad_to *to, const void *d, bool compact)
{
    const t5_model *m = a->m;
    const int64_t E = m->c.width;
    int64_t at = 0;
    for (int64_t b = 0; b < a->B; b++) {
        const int64_t shard = to->shard_of ? to->shard_of[a->first + b] : 0;
        float *place = to->enc_of ? to->enc_of[b]
                                  : to->enc + (shard * a->prompt_rows + a->prompt_row[b]) * E;
        add_to_host(a, row_at(m, d, compact ? at : a->prompt_at[b], E), a->prompt_n[b] * E, place);
        at += a->prompt_n[b];
    }
}

/* Offsets of the rows of each example in d. */
static void place_gradients(t5_acts *a, bool compact)
{
    for (int64_t b = 0, at = 0; b <= a->B; b++) {
        a->index[b] = compact ? at : a->enc_off[b];
        at += b < a->B ? a->prompt_n[b] : 0;
    }
}

void encoder_backward(t5_acts *a, const struct grad_to *to)
{
    const t5_model *m = a->m;
    const struct ops_table *t = m->t;
    const int64_t E = m->c.width, L = m->c.enc_layers;
    const struct block_ctx top = {.m = m, .a = a, .name = "encoder"};
    if (a->has_drop)
        t->drop_rows(m->o, a->d_enc, E, a->enc_off, a->B, a->drop_enc_out);
    t->rmsnorm_bwd(m->o, a->enc_last, m->enc_norm, m->c.norm_eps, a->d_enc, a->rows, E, a->dx_enc,
                   false);
    bad_tensor(&top, "gradient at the input of encoder_norm", a->dx_enc, a->rows * E);
    const bool prefix = a->combine == T5_PREFIX && L > 0;
    void *d = a->dx_enc;
    for (int64_t i = L - 1; i >= 0; i--) {
        char name[48];
        const struct block_ctx b = context(a, i, name, sizeof name);
        if (a->plan.remat)
            layer_forward(a, i);
        mlp_backward(&b, &m->enc[i].mlp, &a->enc[i].mlp, a->dx_enc);
        if (i || !prefix)
            self_backward(&b, &m->enc[i].self, &a->enc[i].self, false, a->dx_enc);
        else
            self_backward_prompt(&b, &m->enc[i].self, &a->enc[i].self, a->dx_enc, d = a->d_enc);
    }
    if (a->has_drop) {
        place_gradients(a, prefix);
        t->drop_rows(m->o, d, E, a->index, a->B, a->drop_enc_in);
    }
    if (to->enc || to->enc_of)
        prompt_gradients(a, to, d, prefix);
}
