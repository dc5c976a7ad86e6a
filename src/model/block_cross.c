/* Cross-attention: y = x + Drop(attention(q, k, v) Wo) with q = norm(x) Wq and k | v = enc Wkv. */
#include "model/model_internal.h"

static struct ops_attention cross_attention(const struct block_ctx *b, const struct cross_acts *s,
                                            const struct rows_of *e)
{
    const t5_model *m = b->m;
    return (struct ops_attention){
        .B = e->n,
        .heads = m->own.heads,
        .head_dim = m->c.head_dim,
        .q_off = b->r.off,
        .k_off = e->off,
        .q = s->q,
        .k = s->kv,
        .v = row_at(m, s->kv, 1, m->J),
        .q_stride = m->J,
        .k_stride = 2 * m->J,
        .v_stride = 2 * m->J,
        .drop = mask_of(b->a, s->drop_att),
        .lse = s->lse,
    };
}

static void plain_forward(const struct block_ctx *b, const struct cross_block *w,
                          struct cross_acts *s, const struct rows_of *e, const void *enc)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t rows = b->r.rows, E = b->m->c.width, J = b->m->J;
    t->matmul(o, w->kv, enc, s->kv, e->rows, false);
    t->rmsnorm(o, s->x, w->norm, b->m->c.norm_eps, rows, E, b->a->norm);
    t->matmul(o, w->q, b->a->norm, s->q, rows, false);
    const struct ops_attention at = cross_attention(b, s, e);
    t->attention(o, &at, s->att);
    residual_out(b, w->out, s->att, mask_of(b->a, s->drop_out), s->x, s->y);
    bad_tensor(b, "cross-attention key, value", s->kv, e->rows * 2 * J);
    bad_tensor(b, "cross-attention query", s->q, rows * J);
    bad_tensor(b, "cross-attention weighted values", s->att, rows * J);
    bad_tensor(b, "cross-attention output", s->y, rows * E);
}

static void plain_backward(const struct block_ctx *b, const struct cross_block *w,
                           const struct cross_acts *s, const struct rows_of *e, bool need_x,
                           void *dx, void *d_enc, bool add)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t rows = b->r.rows, E = b->m->c.width;
    void *dkv = b->a->wide_a, *dq = need_x ? b->a->dq : NULL;
    residual_out_bwd(b, w->out, mask_of(b->a, s->drop_out), dx, b->a->wide_b);
    const struct ops_attention at = cross_attention(b, s, e);
    t->attention_bwd(o, &at, s->att, b->a->wide_b, dq, dkv, row_at(b->m, dkv, 1, b->m->J));
    if (d_enc) {
        t->matmul_t(o, w->kv, dkv, d_enc, e->rows, add);
        bad_tensor(b, "gradient at the encoder output", d_enc, e->rows * E);
    }
    if (!need_x)
        return;
    t->matmul_t(o, w->q, dq, b->a->norm, rows, false);
    split_sum(b->m, b->a->norm, rows * E);
    t->rmsnorm_bwd(o, s->x, w->norm, b->m->c.norm_eps, b->a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of cross-attention", dx, rows * E);
}

/* --- absorbed ------------------------------------------------------------------------------
 * Head h of row m asks with q'(m, h) = q_h Wk_h^T [E] and gets o'(m, h) = sum_j p_j e_j [E], of
 * which it makes o'(m, h) Wv_h. Keys and values of all heads are the encoder rows themselves, so
 * the heads of a row are nothing but further queries of one attention with one head of width E.
 * Products by head want the rows of a head side by side, attention those of a row. */

static void permute(const struct block_ctx *b, void *dst, const void *src, const int64_t *index,
                    int64_t width)
{
    b->m->t->gather_rows(b->m->o, dst, src, index, b->r.rows * b->m->own.heads, width);
}

/* y_h = x_h W_h or y_h = x_h W_h^T for every head; x, y [heads, rows, in or out]. */
static void by_heads(const struct block_ctx *b, ops_weight *const *w, bool turned, const void *x,
                     void *y)
{
    const t5_model *m = b->m;
    m->t->matmul_each(m->o, w, m->own.heads, turned, x, y, b->r.rows);
}

static struct ops_attention absorbed_attention(const struct block_ctx *b,
                                               const struct cross_acts *s, const struct rows_of *e,
                                               const void *enc)
{
    const int64_t E = b->m->c.width;
    return (struct ops_attention){.B = e->n,
                                  .heads = 1,
                                  .head_dim = E,
                                  .q_off = b->a->head_off,
                                  .k_off = e->off,
                                  .q = s->q,
                                  .k = enc,
                                  .v = enc,
                                  .q_stride = E,
                                  .k_stride = E,
                                  .v_stride = E,
                                  .lse = s->lse};
}

static void absorbed_forward(const struct block_ctx *b, const struct cross_block *w,
                             struct cross_acts *s, const struct rows_of *e, const void *enc)
{
    const t5_model *m = b->m;
    t5_acts *a = b->a;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width, D = m->c.head_dim;
    t->rmsnorm(m->o, s->x, w->norm, m->c.norm_eps, rows, E, a->norm);
    t->matmul(m->o, w->q, a->norm, a->joined, rows, false);
    permute(b, a->head_d, a->joined, a->by_head, D);
    by_heads(b, w->k_head, true, a->head_d, a->head_e);
    permute(b, s->q, a->head_e, a->by_row, E);
    const struct ops_attention at = absorbed_attention(b, s, e, enc);
    t->attention(m->o, &at, s->att);
    permute(b, a->head_e, s->att, a->by_head, E);
    by_heads(b, w->v_head, false, a->head_e, a->head_d);
    permute(b, a->joined, a->head_d, a->by_row, D);
    residual_out(b, w->out, a->joined, NULL, s->x, s->y);
    bad_tensor(b, "cross-attention query", s->q, rows * m->own.heads * E);
    bad_tensor(b, "cross-attention weighted values", a->joined, rows * m->J);
    bad_tensor(b, "cross-attention output", s->y, rows * E);
}

static void absorbed_backward(const struct block_ctx *b, const struct cross_block *w,
                              const struct cross_acts *s, const struct rows_of *e, bool need_x,
                              void *dx, void *d_enc, bool add)
{
    const t5_model *m = b->m;
    t5_acts *a = b->a;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width, D = m->c.head_dim, n = e->rows * E;
    residual_out_bwd(b, w->out, NULL, dx, a->joined);
    permute(b, a->head_d, a->joined, a->by_head, D);
    by_heads(b, w->v_head, true, a->head_d, a->head_e);
    permute(b, a->head_e2, a->head_e, a->by_row, E);
    /* Encoder rows are keys and values: both gradients are theirs. */
    void *dk = d_enc && !add ? d_enc : a->wide_a, *dv = row_at(m, a->wide_a, e->rows, E);
    const struct ops_attention at = absorbed_attention(b, s, e, a->enc_out);
    t->attention_bwd(m->o, &at, s->att, a->head_e2, need_x ? a->head_e : NULL, dk, dv);
    if (d_enc) {
        if (add)
            t->add(m->o, d_enc, dk, n);
        t->add(m->o, d_enc, dv, n);
        bad_tensor(b, "gradient at the encoder output", d_enc, n);
    }
    if (!need_x)
        return;
    permute(b, a->head_e2, a->head_e, a->by_head, E);
    by_heads(b, w->k_head, false, a->head_e2, a->head_d);
    permute(b, a->dq, a->head_d, a->by_row, D);
    t->matmul_t(m->o, w->q, a->dq, a->norm, rows, false);
    split_sum(m, a->norm, rows * E);
    t->rmsnorm_bwd(m->o, s->x, w->norm, m->c.norm_eps, a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of cross-attention", dx, rows * E);
}

/* --- either -------------------------------------------------------------------------------- */

void cross_forward(const struct block_ctx *b, const struct cross_block *w, struct cross_acts *s,
                   const struct rows_of *e, const void *enc)
{
    if (b->a->absorb)
        absorbed_forward(b, w, s, e, enc);
    else
        plain_forward(b, w, s, e, enc);
}

void cross_backward(const struct block_ctx *b, const struct cross_block *w,
                    const struct cross_acts *s, const struct rows_of *e, bool need_x, void *dx,
                    void *d_enc, bool add)
{
    if (b->a->absorb)
        absorbed_backward(b, w, s, e, need_x, dx, d_enc, add);
    else
        plain_backward(b, w, s, e, need_x, dx, d_enc, add);
}
