/* Self-attention: y = x + Drop(attention(q, k, v) Wo) with q | k | v = norm(x) Wqkv. */
#include "model/model_internal.h"

bool residual_direct(const struct block_ctx *b, const float *drop)
{
    return !drop && !b->m->link;
}

void residual_add(const struct block_ctx *b, const float *drop, const void *x, void *y)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t n = b->r.rows * b->m->c.width;
    if (x != y)
        t->copy(o, y, x, n);
    split_sum(b->m, b->a->tmp, n);
    if (drop)
        t->drop_rows(o, b->a->tmp, b->m->c.width, b->r.off, b->r.n, drop);
    t->add(o, y, b->a->tmp, n);
}

void residual_out(const struct block_ctx *b, const ops_weight *w, const void *in, const float *drop,
                  const void *x, void *y)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    if (!residual_direct(b, drop)) {
        t->matmul(o, w, in, b->a->tmp, b->r.rows, false);
        residual_add(b, drop, x, y);
    } else if (x != y) {
        t->matmul_sum(o, w, in, x, y, b->r.rows);
    } else {
        t->matmul(o, w, in, y, b->r.rows, true);
    }
}

const void *residual_dropped(const struct block_ctx *b, const float *drop, const void *dx)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    if (!drop)
        return dx;
    t->copy(o, b->a->tmp, dx, b->r.rows * b->m->c.width);
    t->drop_rows(o, b->a->tmp, b->m->c.width, b->r.off, b->r.n, drop);
    return b->a->tmp;
}

void residual_out_bwd(const struct block_ctx *b, const ops_weight *w, const float *drop,
                      const void *dx, void *d_in)
{
    b->m->t->matmul_t(b->m->o, w, residual_dropped(b, drop, dx), d_in, b->r.rows, false);
}

static struct ops_attention self_attention(const struct block_ctx *b, const struct self_block *w,
                                           const struct self_acts *s, bool causal)
{
    const t5_model *m = b->m;
    return (struct ops_attention){
        .B = b->r.n,
        .heads = m->own.heads,
        .head_dim = m->c.head_dim,
        .q_off = b->r.off,
        .k_off = b->r.off,
        .q = s->qkv,
        .k = row_at(m, s->qkv, 1, m->J),
        .v = row_at(m, s->qkv, 2, m->J),
        .q_stride = 3 * m->J,
        .k_stride = 3 * m->J,
        .v_stride = 3 * m->J,
        .bias = w->bias,
        .span = m->span,
        .causal = causal,
        .drop = mask_of(b->a, s->drop_att),
        .lse = s->lse,
    };
}

/* Rows that continue each other in several ways: every row has a list of the rows it sees. */
static struct ops_slots tree_attention(const struct block_ctx *b, const struct self_block *w,
                                       const struct self_acts *s)
{
    const t5_model *m = b->m;
    return (struct ops_slots){.rows = b->r.rows,
                              .len = b->a->list_stride,
                              .heads = m->own.heads,
                              .head_dim = m->c.head_dim,
                              .lens = b->a->lens,
                              .slots = b->a->lists,
                              .slot_stride = b->a->list_stride,
                              .q = s->qkv,
                              .k = row_at(m, s->qkv, 1, m->J),
                              .v = row_at(m, s->qkv, 2, m->J),
                              .q_stride = 3 * m->J,
                              .k_stride = 3 * m->J,
                              .v_stride = 3 * m->J,
                              .bias = w->bias,
                              .span = m->span};
}

/* From s->qkv to the output stream. */
static void attend(const struct block_ctx *b, const struct self_block *w, struct self_acts *s,
                   bool causal)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t rows = b->r.rows, E = b->m->c.width, J = b->m->J;
    if (causal && b->a->tree) {
        const struct ops_slots at = tree_attention(b, w, s);
        t->attention_slots(o, &at, s->att);
    } else {
        const struct ops_attention at = self_attention(b, w, s, causal);
        t->attention(o, &at, s->att);
    }
    residual_out(b, w->out, s->att, mask_of(b->a, s->drop_out), s->x, s->y);
    bad_tensor(b, "self-attention query, key, value", s->qkv, rows * 3 * J);
    bad_tensor(b, "self-attention weighted values", s->att, rows * J);
    bad_tensor(b, "self-attention output", s->y, rows * E);
}

void self_forward(const struct block_ctx *b, const struct self_block *w, struct self_acts *s,
                  bool causal)
{
    const t5_model *m = b->m;
    m->t->rmsnorm(m->o, s->x, w->norm, m->c.norm_eps, b->r.rows, m->c.width, b->a->norm);
    m->t->matmul(m->o, w->qkv, b->a->norm, s->qkv, b->r.rows, false);
    attend(b, w, s, causal);
}

void self_forward_shared(const struct block_ctx *b, const struct self_block *w, struct self_acts *s,
                         const int64_t *from)
{
    const t5_model *m = b->m;
    const int64_t E = m->c.width, width = 3 * m->J;
    int64_t *index = b->a->index, n = 0;
    for (int64_t i = 0; i < b->r.rows; i++)
        if (from[i] == i)
            index[n++] = i;
    m->t->gather_rows(m->o, b->a->tmp, s->x, index, n, E);
    m->t->rmsnorm(m->o, b->a->tmp, w->norm, m->c.norm_eps, n, E, b->a->norm);
    m->t->matmul(m->o, w->qkv, b->a->norm, b->a->wide_b, n, false);
    /* Rows are independent, so a copy has the bits that computing again would give. Turn `index`
     * into positions among the computed rows: they come in order, and a row's source before it. */
    n = 0;
    for (int64_t i = 0; i < b->r.rows; i++)
        index[i] = from[i] == i ? n++ : index[from[i]];
    m->t->gather_rows(m->o, s->qkv, b->a->wide_b, index, b->r.rows, width);
    attend(b, w, s, false);
}

/* Gradient at q | k | v of the first grad_rows rows of every sequence (0: all) into wide_a. */
static void qkv_gradient(const struct block_ctx *b, const struct self_block *w,
                         const struct self_acts *s, bool causal, int64_t grad_rows, const void *dx)
{
    const t5_model *m = b->m;
    residual_out_bwd(b, w->out, mask_of(b->a, s->drop_out), dx, b->a->wide_b);
    struct ops_attention at = self_attention(b, w, s, causal);
    at.grad_rows = grad_rows;
    void *dqkv = b->a->wide_a;
    m->t->attention_bwd(m->o, &at, s->att, b->a->wide_b, dqkv, row_at(m, dqkv, 1, m->J),
                        row_at(m, dqkv, 2, m->J));
}

void self_backward(const struct block_ctx *b, const struct self_block *w, const struct self_acts *s,
                   bool causal, void *dx)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t rows = b->r.rows, E = b->m->c.width;
    qkv_gradient(b, w, s, causal, 0, dx);
    t->matmul_t(o, w->qkv, b->a->wide_a, b->a->norm, rows, false);
    split_sum(b->m, b->a->norm, rows * E);
    t->rmsnorm_bwd(o, s->x, w->norm, b->m->c.norm_eps, b->a->norm, rows, E, dx, true);
    bad_tensor(b, "gradient at the input of self-attention", dx, rows * E);
}

void self_backward_prompt(const struct block_ctx *b, const struct self_block *w,
                          const struct self_acts *s, const void *dx, void *dprompt)
{
    const struct ops_table *t = b->m->t;
    ops *o = b->m->o;
    const int64_t E = b->m->c.width;
    int64_t *index = b->a->index, n = 0;
    for (int64_t e = 0; e < b->r.n; e++)
        for (int64_t i = 0; i < b->a->prompt_n[e]; i++)
            index[n++] = b->r.off[e] + i;
    qkv_gradient(b, w, s, false, b->a->P, dx);
    t->gather_rows(o, b->a->wide_b, b->a->wide_a, index, n, 3 * b->m->J);
    t->matmul_t(o, w->qkv, b->a->wide_b, b->a->norm, n, false);
    split_sum(b->m, b->a->norm, n * E);
    t->gather_rows(o, dprompt, dx, index, n, E);
    t->gather_rows(o, b->a->tmp, s->x, index, n, E);
    t->rmsnorm_bwd(o, b->a->tmp, w->norm, b->m->c.norm_eps, b->a->norm, n, E, dprompt, true);
    bad_tensor(b, "gradient at the prompt rows", dprompt, n * E);
}
