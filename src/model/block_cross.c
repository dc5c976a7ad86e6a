/* Cross-attention: y = x + Drop(attention(q, k, v) Wo) with q = norm(x) Wq and k | v = enc Wkv. */
#include "model/model_internal.h"

static struct ops_attention cross_attention(const struct block_ctx *b, const struct cross_acts *s,
                                            const struct rows_of *e)
{
    const t5_model *m = b->m;
    return (struct ops_attention){
        .B = e->n,
        .heads = m->c.heads,
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

void cross_forward(const struct block_ctx *b, const struct cross_block *w, struct cross_acts *s,
                   const struct rows_of *e, const void *enc)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t rows = b->r.rows, E = b->m->c.width, J = b->m->J;
    if (enc)
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

void cross_backward(const struct block_ctx *b, const struct cross_block *w,
                    const struct cross_acts *s, const struct rows_of *e, bool need_x, void *dx,
                    void *d_enc, bool add)
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
    t->rmsnorm_bwd(o, s->x, w->norm, b->m->c.norm_eps, b->a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of cross-attention", dx, rows * E);
}
