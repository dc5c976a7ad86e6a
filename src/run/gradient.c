#include "run/gradient.h"

#include <math.h>
#include <string.h>

#include "base/mem.h"

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
    if (comm_size(g->comm) == 1)
        return SPT_OK;
    const int64_t shards = largest < GRADIENT_SHARDS ? largest : GRADIENT_SHARDS;
    const size_t ranks = (size_t)comm_size(g->comm);
    const size_t bytes = ranks * sizeof(uint64_t) + (size_t)largest * sizeof *g->each +
                         (size_t)shards * PE * sizeof(float);
    g->wire = mem_alloc(bytes, 1);
    g->wire_n = mem_alloc(ranks, sizeof *g->wire_n);
    return g->wire && g->wire_n ? SPT_OK : err_nomem(err, bytes);
}

void gradient_close(struct gradient *g)
{
    t5_acts_free(g->acts);
    mem_free(g->shard_of);
    mem_free(g->each);
    mem_free_aligned(g->shards);
    mem_free_aligned(g->sum);
    mem_free(g->wire);
    mem_free(g->wire_n);
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

/* --- between ranks --------------------------------------------------------------------------
 * One exchange per step: of every rank its bits, the losses of its examples, its shards. */

struct load {
    struct span shards, examples;
    size_t losses, gradient; /* bytes */
};

static struct load load_of(const struct gradient *g, int64_t shards, int64_t B, int rank)
{
    const int size = comm_size(g->comm);
    struct load l = {shards_of_rank(shards, rank, size), examples_of_rank(shards, B, rank, size),
                     0, 0};
    l.losses = (size_t)(l.examples.end - l.examples.first) * sizeof *g->each;
    l.gradient = (size_t)((l.shards.end - l.shards.first) * g->P * g->E) * sizeof *g->shards;
    return l;
}

static void put_load(const struct gradient *g, const struct load *l, char *to)
{
    const uint64_t bits = g->ask ? g->ask(g->ask_ctx) : 0;
    memcpy(to, &bits, sizeof bits);
    memcpy(to += sizeof bits, g->each + l->examples.first, l->losses);
    memcpy(to + l->losses, g->shards + l->shards.first * g->P * g->E, l->gradient);
}

static void take_load(struct gradient *g, const struct load *l, const char *from)
{
    uint64_t bits;
    memcpy(&bits, from, sizeof bits);
    g->told |= (unsigned)bits;
    memcpy(g->each + l->examples.first, from += sizeof bits, l->losses);
    memcpy(g->shards + l->shards.first * g->P * g->E, from + l->losses, l->gradient);
}

/* Every rank gets the shards and losses of all; st: how it went here. */
static spt_status exchange_shards(struct gradient *g, int64_t shards, int64_t B, spt_status st,
                                  struct t5_loss *loss, spt_err *err)
{
    const int size = comm_size(g->comm), rank = comm_rank(g->comm);
    if (size == 1)
        return st;
    char *at = g->wire;
    for (int r = 0; r < size; r++) {
        const struct load l = load_of(g, shards, B, r);
        if (r == rank)
            put_load(g, &l, at);
        g->wire_n[r] = sizeof(uint64_t) + l.losses + l.gradient;
        at += g->wire_n[r];
    }
    TRY(comm_share(g->comm, st, g->wire, g->wire_n, err));
    at = g->wire;
    g->told = 0;
    for (int r = 0; r < size; at += g->wire_n[r++]) {
        const struct load l = load_of(g, shards, B, r);
        take_load(g, &l, at);
    }
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
