/* Feed-forward: y = x + Drop(Drop(act(h)) Wo) with h = norm(x) Wi, gated or not. */
#include "model/model_internal.h"

static struct ops_feed feed_of(const struct block_ctx *b, const struct mlp_block *w,
                               const struct mlp_acts *s)
{
    const struct t5_config *c = &b->m->c;
    return (struct ops_feed){.wi = w->wi,
                             .wo = w->wo,
                             .act = {.act = c->act,
                                     .gated = c->gated,
                                     .only_g = !b->a->plan.backward,
                                     .F = b->m->own.ff,
                                     .drop = mask_of(b->a, s->drop_in),
                                     .off = b->r.off,
                                     .B = b->r.n}};
}

void mlp_forward(const struct block_ctx *b, const struct mlp_block *w, struct mlp_acts *s)
{
    const t5_model *m = b->m;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width, F = m->own.ff;
    const float *drop = mask_of(b->a, s->drop_out);
    const bool direct = residual_direct(b, drop);
    const struct ops_feed f = feed_of(b, w, s);
    t->rmsnorm(m->o, s->x, w->norm, m->c.norm_eps, rows, E, b->a->norm);
    t->feed(m->o, &f, b->a->norm, rows, s->h, b->a->wide_b, direct ? s->x : NULL,
            direct ? s->y : b->a->tmp);
    if (!direct)
        residual_add(b, drop, s->x, s->y);
    bad_tensor(b, "mlp hidden", s->h, rows * F * (m->c.gated ? 2 : 1));
    bad_tensor(b, "mlp output", s->y, rows * E);
}

void mlp_backward(const struct block_ctx *b, const struct mlp_block *w, const struct mlp_acts *s,
                  void *dx)
{
    const t5_model *m = b->m;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width;
    const struct ops_feed f = feed_of(b, w, s);
    const void *dy = residual_dropped(b, mask_of(b->a, s->drop_out), dx);
    t->feed_bwd(m->o, &f, dy, rows, s->h, b->a->wide_b, b->a->wide_a, b->a->norm);
    split_sum(m, b->a->norm, rows * E);
    t->rmsnorm_bwd(m->o, s->x, w->norm, m->c.norm_eps, b->a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of mlp", dx, rows * E);
}
