/* One model held by several ranks: who has what, and what they tell each other. */
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"

int64_t split_first(int64_t n, int p, int K)
{
    return n / K * p + n % K * p / K;
}

static void take_piece(int64_t n, int p, int K, int64_t *first, int64_t *own)
{
    *first = split_first(n, p, K);
    *own = split_first(n, p + 1, K) - *first;
}

spt_status split_open(t5_model *m, comm *ranks, spt_err *err)
{
    const int K = comm_size(ranks), p = comm_rank(ranks);
    const struct t5_config *c = &m->c;
    m->own = *c;
    const int64_t least = c->heads < c->ff ? c->heads : c->ff;
    if (least < K || c->vocab < K)
        return err_set(err, SPT_E_CONFIG,
                       "--num-partitions %d: a model of %lld heads, feed-forward width %lld and %lld "
                       "vocabulary rows splits into %lld parts at most",
                       K, (long long)c->heads, (long long)c->ff, (long long)c->vocab,
                       (long long)(least < c->vocab ? least : c->vocab));
    take_piece(c->heads, p, K, &m->first_head, &m->own.heads);
    take_piece(c->ff, p, K, &m->first_ff, &m->own.ff);
    take_piece(c->vocab, p, K, &m->first_id, &m->own.vocab);
    m->J = m->own.heads * c->head_dim;
    if (K == 1)
        return SPT_OK;
    m->link = mem_zalloc(1, sizeof *m->link);
    if (!m->link)
        return err_nomem(err, sizeof *m->link);
    m->link->ranks = ranks;
    m->link->n = mem_zalloc((size_t)K, sizeof *m->link->n);
    return m->link->n ? SPT_OK : err_nomem(err, (size_t)K * sizeof *m->link->n);
}

void split_close(t5_model *m)
{
    if (!m->link)
        return;
    mem_free(m->link->host);
    mem_free(m->link->loss);
    mem_free(m->link->n);
    mem_free(m->link);
}

/* Room for n floats; false after a failure. */
static bool room(struct split_link *l, size_t n)
{
    if (!l->st)
        l->st = mem_grow(&l->host, &l->cap, n, sizeof *l->host, SIZE_MAX / 16, &l->err);
    return !l->st;
}

void split_sum_host(const t5_model *m, float *x, int64_t n)
{
    struct split_link *l = m->link;
    if (l && !l->st && n > 0)
        l->st = comm_sum(l->ranks, x, (size_t)n, &l->err);
}

void split_sum(const t5_model *m, void *x, int64_t n)
{
    struct split_link *l = m->link;
    if (!l || n < 1 || !room(l, (size_t)n))
        return;
    if (!comm_counts(l->ranks))
        m->t->get(m->o, l->host, x, n);
    split_sum_host(m, l->host, n);
    if (!comm_counts(l->ranks))
        m->t->put(m->o, x, l->host, n);
}

void split_gather(const t5_model *m, const int32_t *ids, int64_t n, void *out)
{
    const int64_t E = m->c.width;
    if (!m->link) {
        m->t->gather(m->o, m->embed, ids, n, out);
        return;
    }
    for (int64_t i = 0; i < n; i++) {
        const int64_t row = ids[i] - m->first_id;
        const int32_t own = (int32_t)row;
        if (row >= 0 && row < m->own.vocab)
            m->t->gather(m->o, m->embed, &own, 1, row_at(m, out, i, E));
        else
            m->t->zero(m->o, row_at(m, out, i, E), E);
    }
}

void split_loss(const t5_model *m, void *logits, const struct ops_loss_args *a)
{
    struct split_link *l = m->link;
    const int K = comm_size(l->ranks);
    const size_t rows = (size_t)a->rows, all = rows * (size_t)K;
    if (!l->st)
        l->st = mem_grow(&l->loss, &l->loss_cap, all, sizeof *l->loss, SIZE_MAX / 64, &l->err);
    if (l->st)
        return;
    struct ops_loss_part *own = l->loss + rows * (size_t)comm_rank(l->ranks);
    m->t->loss_part(m->o, logits, a, m->first_id, m->own.vocab, own);
    for (int r = 0; r < K; r++)
        l->n[r] = rows * sizeof *own;
    l->st = comm_share(l->ranks, SPT_OK, l->loss, l->n, &l->err);
    if (l->st)
        return;
    ops_loss_join(a, K, l->loss);
    if (a->backward)
        m->t->loss_part_bwd(m->o, logits, a, m->first_id, m->own.vocab);
}

void split_logits(const t5_model *m, const void *logits, int64_t rows, float *out)
{
    struct split_link *l = m->link;
    const int64_t V = m->c.vocab;
    if (!l) {
        m->t->get_wide(m->o, out, logits, rows * V);
        return;
    }
    const int K = comm_size(l->ranks);
    if (!room(l, (size_t)(rows * V)))
        return;
    m->t->get_wide(m->o, l->host + rows * m->first_id, logits, rows * m->own.vocab);
    for (int r = 0; r < K; r++)
        l->n[r] = (size_t)(rows * (split_first(V, r + 1, K) - split_first(V, r, K))) *
                  sizeof *l->host;
    l->st = comm_share(l->ranks, SPT_OK, l->host, l->n, &l->err);
    for (int r = 0; r < K; r++) {
        const int64_t first = split_first(V, r, K), n = split_first(V, r + 1, K) - first;
        for (int64_t i = 0; i < rows; i++)
            memcpy(out + i * V + first, l->host + rows * first + i * n, (size_t)n * sizeof *out);
    }
}

void split_first_text(const t5_model *m, int64_t order, char *text, size_t cap)
{
    struct split_link *l = m->link;
    struct finding {
        int64_t order;
        char text[128];
    } mine = {.order = text[0] ? order : INT64_MAX}, best = mine;
    struct comm_bytes all = {0};
    if (!l || l->st)
        return;
    snprintf(mine.text, sizeof mine.text, "%s", text);
    l->st = comm_gather(l->ranks, SPT_OK, &mine, sizeof mine, &all, &l->err);
    best.order = INT64_MAX;
    for (int r = 0; !l->st && r < comm_size(l->ranks); r++) {
        struct finding f;
        memcpy(&f, all.bytes + all.off[r], sizeof f);
        if (f.order < best.order)
            best = f;
    }
    comm_bytes_release(&all);
    snprintf(text, cap, "%s", best.text);
}

size_t t5_model_link_bytes(const t5_model *m)
{
    const struct split_link *l = m->link;
    return l ? l->cap * sizeof *l->host + l->loss_cap * sizeof *l->loss : 0;
}

spt_status model_check(const t5_model *m, spt_err *err)
{
    struct split_link *l = m->link;
    if (!l || !l->st)
        return ops_check(m->o, err);
    const spt_status st = l->st;
    (void)ops_check(m->o, NULL);
    if (err)
        *err = l->err;
    l->st = SPT_OK;
    return st;
}
