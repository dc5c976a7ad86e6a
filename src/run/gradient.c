#include "run/gradient.h"

#include <math.h>
#include <string.h>

#include "base/buf.h"

struct t5_prompts prompts_of(const struct prompt *p)
{
    if (!p)
        return (struct t5_prompts){0};
    if (p->use.side == PROMPT_DECODER)
        return (struct t5_prompts){.dec = p->rows, .P_dec = p->P, .count = 1};
    return (struct t5_prompts){.enc = p->rows, .count = 1, .P = p->P, .combine = p->use.combine};
}

spt_status gradient_open(struct gradient *g, int64_t largest, int64_t longest_target, bool decoder,
                         bool dropout, spt_err *err)
{
    const size_t PE = (size_t)(g->P * g->E);
    /* Decoder rows of the examples that can be in flight together. */
    const int64_t most = g->micro_batch ? g->micro_batch : g->rows_in_flight / (g->P + 1) + 1;
    const int64_t together = most < largest ? most : largest;
    const struct t5_acts_plan plan = {
        .rows = g->rows_in_flight,
        .dec_rows = together * (longest_target + (decoder ? g->P : 0)),
        .examples = together,
        .backward = true,
        .remat = g->remat,
        .dropout = dropout,
        .absorb = g->absorb,
    };
    TRY(t5_acts_new(g->model, &plan, &g->acts, err));
    g->shard_of = mem_alloc((size_t)largest, sizeof *g->shard_of);
    g->each = mem_zalloc((size_t)largest, sizeof *g->each);
    g->shards = mem_alloc_aligned(GRADIENT_SHARDS * PE, sizeof *g->shards);
    g->sum = mem_alloc_aligned(PE, sizeof *g->sum);
    if (!g->shard_of || !g->each || !g->shards || !g->sum)
        return err_nomem(err, (GRADIENT_SHARDS + 1) * PE * sizeof(float));
    return SPT_OK;
}

void gradient_close(struct gradient *g)
{
    t5_acts_free(g->acts);
    mem_free(g->shard_of);
    mem_free(g->each);
    mem_free_aligned(g->shards);
    mem_free_aligned(g->sum);
    *g = (struct gradient){0};
}

struct span {
    int64_t first, end;
};

/* The shards of a rank, and the first example of a shard. */
static struct span shards_of_rank(int64_t shards, int rank, int size)
{
    return (struct span){shards * rank / size, shards * (rank + 1) / size};
}

static int64_t first_of_shard(int64_t shard, int64_t shards, int64_t B)
{
    return (shard * B + shards - 1) / shards;
}

static struct span examples_of_rank(int64_t shards, int64_t B, int rank, int size)
{
    const struct span s = shards_of_rank(shards, rank, size);
    return (struct span){first_of_shard(s.first, shards, B), first_of_shard(s.end, shards, B)};
}

/* Ranges of examples whose encoder rows fit what is in flight, of about equal size (a short last
 * one would read all weights for little work); any cut gives the same bits. */
static int64_t range_end(const struct gradient *g, const struct packed_batch *b, struct span own,
                         int64_t first)
{
    const int64_t P = g->P, limit = g->rows_in_flight;
    const int64_t all = b->enc_off[own.end] - b->enc_off[own.first] + P * (own.end - own.first);
    const int64_t wanted = all / ((all + limit - 1) / limit);
    int64_t rows = 0;
    for (int64_t i = first; i < own.end; i++) {
        const int64_t more = P + b->enc_off[i + 1] - b->enc_off[i];
        const bool full = g->micro_batch ? i - first == g->micro_batch
                                         : rows + more > limit || rows >= wanted;
        if (full && i > first)
            return i;
        rows += more;
    }
    return own.end;
}

static spt_status check_loss(struct gradient *g, const struct packed_batch *b,
                             const struct t5_loss *loss, spt_err *err)
{
    if (isfinite(loss->loss))
        return SPT_OK;
    char name[128] = "loss";
    t5_nonfinite(g->model, b, g->acts, name, sizeof name);
    return err_set(err, SPT_E_NONFINITE,
                   "%s is not finite; no checkpoint of this step was written. A smaller --lr may "
                   "help",
                   name);
}

/* Forward and backward over the examples of this rank. */
static spt_status own_shards(struct gradient *g, const struct prompt *p,
                             const struct packed_batch *b, int64_t shards,
                             const struct t5_dropout *drop, struct t5_loss *loss, spt_err *err)
{
    const bool decoder = p->use.side == PROMPT_DECODER;
    const struct t5_prompts prompts = prompts_of(p);
    const struct span own =
        examples_of_rank(shards, b->B, comm_rank(g->comm), comm_size(g->comm));
    for (int64_t first = own.first; first < own.end;) {
        const int64_t end = range_end(g, b, own, first);
        loss->each = g->each + first;
        TRY(t5_forward(g->model, &prompts, b, first, end - first, &g->loss,
                       drop->rate > 0 ? drop : NULL, g->acts, loss, err));
        TRY(check_loss(g, b, loss, err));
        TRY(t5_backward(g->model, b, g->acts, g->shard_of, decoder ? NULL : g->shards,
                        decoder ? g->shards : NULL, err));
        first = end;
    }
    loss->each = NULL;
    return SPT_OK;
}

static spt_status put_own(const struct gradient *g, struct span own, struct span examples, buf *to,
                          spt_err *err)
{
    const size_t PE = (size_t)(g->P * g->E);
    buf_add(to, g->each + examples.first,
            (size_t)(examples.end - examples.first) * sizeof *g->each);
    buf_add(to, g->shards + (size_t)own.first * PE,
            (size_t)(own.end - own.first) * PE * sizeof *g->shards);
    return buf_status(to, "gradient", err);
}

static void take_rank(struct gradient *g, struct span own, struct span examples, const char *from)
{
    const size_t PE = (size_t)(g->P * g->E);
    const size_t head = (size_t)(examples.end - examples.first) * sizeof *g->each;
    memcpy(g->each + examples.first, from, head);
    memcpy(g->shards + (size_t)own.first * PE, from + head,
           (size_t)(own.end - own.first) * PE * sizeof *g->shards);
}

/* Every rank gets the shards and losses of all; st: how it went here. */
static spt_status exchange_shards(struct gradient *g, int64_t shards, int64_t B, spt_status st,
                                  struct t5_loss *loss, spt_err *err)
{
    const int size = comm_size(g->comm);
    if (size == 1)
        return st;
    struct comm_bytes all = {0};
    const int rank = comm_rank(g->comm);
    buf mine;
    buf_init(&mine, INT32_MAX);
    if (!st)
        st = put_own(g, shards_of_rank(shards, rank, size),
                     examples_of_rank(shards, B, rank, size), &mine, err);
    st = comm_gather(g->comm, st, buf_str(&mine), mine.len, &all, err);
    buf_release(&mine);
    TRY(st);
    for (int r = 0; r < size; r++)
        take_rank(g, shards_of_rank(shards, r, size), examples_of_rank(shards, B, r, size),
                  all.bytes + all.off[r]);
    comm_bytes_release(&all);
    *loss = (struct t5_loss){0};
    for (int64_t i = 0; i < B; i++)
        t5_loss_add(loss, &g->each[i]);
    return SPT_OK;
}

spt_status gradient_of(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                       float rate, struct rng_key key, struct t5_loss *loss, spt_err *err)
{
    const size_t PE = (size_t)(g->P * g->E);
    const int64_t shards = b->B < GRADIENT_SHARDS ? b->B : GRADIENT_SHARDS;
    struct t5_dropout drop = {.rate = rate};
    memcpy(drop.key, key.w, sizeof drop.key);
    for (int64_t i = 0; i < b->B; i++)
        g->shard_of[i] = (int32_t)(i * shards / b->B);
    memset(g->shards, 0, (size_t)shards * PE * sizeof(float));

    *loss = (struct t5_loss){0};
    const spt_status st = own_shards(g, p, b, shards, &drop, loss, err);
    TRY(exchange_shards(g, shards, b->B, st, loss, err));
    memcpy(g->sum, g->shards, PE * sizeof(float));
    for (int64_t k = 1; k < shards; k++) {
        const float *shard = g->shards + (size_t)k * PE;
        for (size_t i = 0; i < PE; i++)
            g->sum[i] += shard[i];
    }
    return SPT_OK;
}

spt_status gradient_loss(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                         struct t5_loss *loss, spt_err *err)
{
    const struct t5_prompts prompts = prompts_of(p);
    *loss = (struct t5_loss){0};
    for (int64_t first = 0; first < b->B;) {
        const int64_t end = range_end(g, b, (struct span){0, b->B}, first);
        TRY(t5_forward(g->model, &prompts, b, first, end - first, &g->loss, NULL, g->acts, loss,
                       err));
        first = end;
    }
    return SPT_OK;
}

spt_status gradient_check(const struct gradient *g, const float *x, const char *name, spt_err *err)
{
    for (int64_t i = 0; i < g->P * g->E; i++)
        if (!isfinite(x[i]))
            return err_set(err, SPT_E_NONFINITE,
                           "the %s is not finite (row %lld, column %lld); no checkpoint of this "
                           "step was written. A smaller --lr may help",
                           name, (long long)(i / g->E), (long long)(i % g->E));
    return SPT_OK;
}

/* Values beyond about 1e19 are finite, but their squares are not: every norm of such a row is 0,
 * and training goes on with a prompt that says nothing. */
spt_status gradient_check_prompt(const struct gradient *g, const float *rows, spt_err *err)
{
    TRY(gradient_check(g, rows, "prompt", err));
    for (int64_t i = 0; i < g->P; i++) {
        float sum = 0;
        for (int64_t j = 0; j < g->E; j++) {
            const float x = rows[i * g->E + j];
            sum += x * x;
        }
        if (!isfinite(sum))
            return err_set(err, SPT_E_NONFINITE,
                           "the prompt is too large: the mean square of its row %lld is not "
                           "finite; no checkpoint of this step was written. A smaller --lr may "
                           "help",
                           (long long)i);
    }
    return SPT_OK;
}
