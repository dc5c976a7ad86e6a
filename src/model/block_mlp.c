/* Feed-forward: y = x + Drop(Drop(act(h)) Wo) with h = norm(x) Wi, gated or not. */
#include "model/model_internal.h"

static struct ops_activate activation(const struct block_ctx *b, const struct mlp_acts *s)
{
    const struct t5_config *c = &b->m->c;
    return (struct ops_activate){.act = c->act,
                                 .gated = c->gated,
                                 .F = b->m->own.ff,
                                 .drop = mask_of(b->a, s->drop_in),
                                 .off = b->r.off,
                                 .B = b->r.n};
}

void mlp_forward(const struct block_ctx *b, const struct mlp_block *w, struct mlp_acts *s)
{
    const t5_model *m = b->m;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width, F = m->own.ff;
    t->rmsnorm(m->o, s->x, w->norm, m->c.norm_eps, rows, E, b->a->norm);
    const struct ops_activate act = activation(b, s);
    t->matmul_activate(m->o, w->wi, &act, b->a->norm, rows, s->h, b->a->wide_b);
    residual_out(b, w->wo, b->a->wide_b, mask_of(b->a, s->drop_out), s->x, s->y);
    bad_tensor(b, "mlp hidden", s->h, rows * F * (m->c.gated ? 2 : 1));
    bad_tensor(b, "mlp activation", b->a->wide_b, rows * F);
    bad_tensor(b, "mlp output", s->y, rows * E);
}

void mlp_backward(const struct block_ctx *b, const struct mlp_block *w, const struct mlp_acts *s,
                  void *dx)
{
    const t5_model *m = b->m;
    const struct ops_table *t = m->t;
    const int64_t rows = b->r.rows, E = m->c.width;
    const struct ops_activate act = activation(b, s);
    const void *dy = residual_dropped(b, mask_of(b->a, s->drop_out), dx);
    t->matmul_t_activate(m->o, w->wo, &act, dy, rows, s->h, b->a->wide_b, b->a->wide_a);
    t->matmul_t(m->o, w->wi, b->a->wide_a, b->a->norm, rows, false);
    split_sum(m, b->a->norm, rows * E);
    t->rmsnorm_bwd(m->o, s->x, w->norm, m->c.norm_eps, b->a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of mlp", dx, rows * E);
}
