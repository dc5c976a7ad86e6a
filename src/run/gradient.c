/* Batches are cut into ranges, a range is one pass forward and one back. A range takes examples of
 * one prompt after the other, in order; within a part their gradients are added in the order of the
 * examples, shard by shard, so neither cuts nor neighbours change a bit (rulings 1, 3).
 *
 * A shard's sum lives from the range of its first example to that of its last one; then it is added to
 * the part's sum and its place is free. So the storage is bounded by the rows of a range, however
 * many prompts there are. Ranks keep their shards until all are exchanged. */
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

/* Neighbouring examples of one part in a range. */
struct segment {
    struct gradient_part *part;
    int64_t first, end;
};

/* A shard of which examples have come but perhaps not all. */
struct open_shard {
    struct gradient_part *part;
    int64_t shard;
    float *sum; /* [P of the part, E] */
};

struct gradient_work {
    int64_t together, dec_rows, rows; /* what a range may have; rows of open shards */
    struct segment *segment;          /* [together] of the range */
    int64_t segments;
    struct open_shard *open; /* [together + 1] */
    int64_t opened;
    float *sums;                  /* [rows, E] of open shards, in order */
    float **to;                   /* [together] where an example's gradient goes */
    struct t5_example_loss *each; /* [together] */
    /* A range of several parts: their examples as one batch, their prompts side by side. */
    struct packed_batch joined;
    int64_t *enc_off, *dec_off, *index; /* [together + 1] */
    int32_t *enc_ids, *dec_in, *dec_target, *prompt_of;
    float *weight, *prompts;
    int64_t *first_row; /* [together + 1] */
    double *factor;
    /* Ranks: what they exchange, of a whole batch. */
    struct t5_example_loss *all_each; /* [examples] */
    float *shards;                    /* [GRADIENT_SHARDS, P, E] */
    char *wire;                       /* what is exchanged, rank by rank */
    size_t *wire_n;                   /* [ranks] bytes */
    size_t bytes;
};

/* Takes n elements and counts them. */
static void *take(struct gradient_work *w, int64_t n, size_t size)
{
    w->bytes += (size_t)n * size;
    return mem_alloc_aligned((size_t)n, size);
}

static bool take_join(struct gradient_work *w, const struct gradient *g)
{
    const int64_t n = w->together + 1, rows = g->rows_in_flight;
    w->enc_off = take(w, n, sizeof *w->enc_off);
    w->dec_off = take(w, n, sizeof *w->dec_off);
    w->index = take(w, n, sizeof *w->index);
    w->prompt_of = take(w, n, sizeof *w->prompt_of);
    w->first_row = take(w, n, sizeof *w->first_row);
    w->factor = take(w, n, sizeof *w->factor);
    w->enc_ids = take(w, rows, sizeof *w->enc_ids);
    w->dec_in = take(w, w->dec_rows, sizeof *w->dec_in);
    w->dec_target = take(w, w->dec_rows, sizeof *w->dec_target);
    w->weight = take(w, w->dec_rows, sizeof *w->weight);
    w->prompts = take(w, w->rows * g->E, sizeof *w->prompts);
    return w->enc_off && w->dec_off && w->index && w->prompt_of && w->first_row && w->factor &&
           w->enc_ids && w->dec_in && w->dec_target && w->weight && w->prompts;
}

static bool take_ranks(struct gradient_work *w, const struct gradient *g, int64_t examples)
{
    w->all_each = take(w, examples, sizeof *w->all_each);
    w->shards = take(w, GRADIENT_SHARDS * g->P * g->E, sizeof *w->shards);
    const int64_t ranks = comm_size(g->comm);
    const int64_t shards = examples < GRADIENT_SHARDS ? examples : GRADIENT_SHARDS;
    const size_t wire = (size_t)ranks * sizeof(uint64_t) + (size_t)examples * sizeof *w->all_each +
                        (size_t)(shards * g->P * g->E) * sizeof *w->shards;
    w->wire = take(w, (int64_t)wire, 1);
    w->wire_n = take(w, ranks, sizeof *w->wire_n);
    if (w->all_each)
        memset(w->all_each, 0, (size_t)examples * sizeof *w->all_each);
    return w->all_each && w->shards && w->wire && w->wire_n;
}

static spt_status work_new(struct gradient *g, int64_t together, int64_t dec_rows,
                           int64_t examples, spt_err *err)
{
    struct gradient_work *w = g->work = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    const int64_t prompts = g->prompts ? g->prompts : 1;
    const int64_t shards = prompts * GRADIENT_SHARDS;
    const int64_t most = (examples < shards ? examples : shards) * g->P;
    w->together = together;
    w->dec_rows = dec_rows;
    /* An open shard has an example in the range, whose prompt rows are among the range's rows. */
    w->rows = most < g->rows_in_flight ? most : g->rows_in_flight;
    w->segment = take(w, together, sizeof *w->segment);
    w->open = take(w, together + 1, sizeof *w->open);
    w->sums = take(w, w->rows * g->E, sizeof *w->sums);
    w->to = take(w, together, sizeof *w->to);
    w->each = take(w, together, sizeof *w->each);
    if (!w->segment || !w->open || !w->sums || !w->to || !w->each ||
        (prompts > 1 && !take_join(w, g)) ||
        (comm_size(g->comm) > 1 && !take_ranks(w, g, examples)))
        return err_nomem(err, w->bytes);
    return SPT_OK;
}

static void work_free(struct gradient_work *w)
{
    if (!w)
        return;
    void *const all[] = {w->segment,   w->open,    w->sums,   w->to,         w->each,    w->enc_off,
                         w->dec_off,   w->index,   w->enc_ids, w->dec_in,    w->dec_target,
                         w->prompt_of, w->weight,  w->prompts, w->first_row, w->factor,
                         w->all_each,  w->shards,  w->wire,   w->wire_n};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        mem_free_aligned(all[i]);
    mem_free(w);
}

spt_status gradient_open(struct gradient *g, int64_t examples, int64_t longest_target, bool decoder,
                         bool dropout, spt_err *err)
{
    const size_t PE = (size_t)(g->P * g->E);
    /* Decoder rows of the examples that can be in flight together. */
    const int64_t least = g->least_P ? g->least_P : g->P;
    const int64_t most = g->micro_batch ? g->micro_batch : g->rows_in_flight / (least + 1) + 1;
    const int64_t together = most < examples ? most : examples;
    const int64_t dec_rows = together * (longest_target + (decoder ? g->P : 0));
    const struct t5_acts_plan plan = {
        .rows = g->rows_in_flight,
        .dec_rows = dec_rows,
        .examples = together,
        .backward = true,
        .remat = g->remat,
        .dropout = dropout,
        .absorb = g->absorb,
    };
    TRY(t5_acts_new(g->model, &plan, &g->acts, err));
    g->sum = mem_alloc_aligned(PE, sizeof *g->sum);
    if (!g->sum)
        return err_nomem(err, PE * sizeof *g->sum);
    return work_new(g, together, dec_rows, examples, err);
}

void gradient_close(struct gradient *g)
{
    t5_acts_free(g->acts);
    work_free(g->work);
    mem_free_aligned(g->sum);
    *g = (struct gradient){0};
}

size_t gradient_bytes(const struct gradient *g)
{
    return g->work ? g->work->bytes + (size_t)(g->P * g->E) * sizeof *g->sum : 0;
}

/* --- shards and ranks --------------------------------------------------------------------------- */

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

static void part_begin(const struct gradient *g, struct gradient_part *p)
{
    const int64_t B = p->batch->B;
    p->shards = B < GRADIENT_SHARDS ? B : GRADIENT_SHARDS;
    const struct span own = examples_of_rank(p->shards, B, comm_rank(g->comm), comm_size(g->comm));
    p->first = p->next = own.first;
    p->end = own.end;
    p->loss = (struct t5_loss){0};
    p->st = SPT_OK;
}

/* --- ranges ------------------------------------------------------------------------------------- */

static int64_t rows_of_example(const struct gradient_part *p, int64_t i)
{
    return p->prompt->P + p->batch->enc_off[i + 1] - p->batch->enc_off[i];
}

static int64_t rows_of_part(const struct gradient_part *p)
{
    int64_t all = 0;
    for (int64_t i = p->first; i < p->end; i++)
        all += rows_of_example(p, i);
    return all;
}

/* Ranges of about equal size: a short last one would read all weights for little work. Any cut
 * gives the same bits. */
static int64_t equal_ranges(const struct gradient *g, int64_t all)
{
    return all ? all / ((all + g->rows_in_flight - 1) / g->rows_in_flight) : 0;
}

/* A part that fills passes by itself is cut as if it came alone, so that it costs no more than
 * alone; the others share. part->wanted: rows of its ranges. */
static void cut_parts(const struct gradient *g, struct gradient_part *part, size_t n)
{
    int64_t all = 0;
    for (size_t k = 0; k < n; k++) {
        const int64_t rows = rows_of_part(&part[k]);
        part[k].alone = n == 1 || rows > g->rows_in_flight / 2;
        part[k].wanted = equal_ranges(g, rows);
        all += part[k].alone ? 0 : rows;
    }
    for (size_t k = 0; k < n; k++)
        if (!part[k].alone)
            part[k].wanted = equal_ranges(g, all);
}

static bool can_join(const struct gradient_part *a, const struct gradient_part *b)
{
    const struct t5_loss_opts *x = a->loss_opts, *y = b->loss_opts;
    return !a->alone && !b->alone && a->rate == 0 && b->rate == 0 &&
           a->prompt->use.side == PROMPT_ENCODER &&
           b->prompt->use.side == PROMPT_ENCODER &&
           a->prompt->use.combine == b->prompt->use.combine && x->z_loss == y->z_loss &&
           x->label_smoothing == y->label_smoothing &&
           (x->normalize == T5_NORM_PER_SEQUENCE) == (y->normalize == T5_NORM_PER_SEQUENCE);
}

/* The segments of the next range; false behind the last. */
static bool next_range(struct gradient *g, struct gradient_part *part, size_t n)
{
    struct gradient_work *w = g->work;
    int64_t rows = 0, examples = 0;
    w->segments = 0;
    for (size_t k = 0; k < n; k++) {
        struct gradient_part *p = &part[k];
        if (p->st || p->next == p->end)
            continue;
        if (w->segments && !can_join(w->segment[w->segments - 1].part, p))
            return true;
        struct segment *s = NULL;
        for (; p->next < p->end; p->next++) {
            const int64_t more = rows_of_example(p, p->next);
            const bool full = g->micro_batch ? examples == g->micro_batch
                                             : rows + more > g->rows_in_flight ||
                                                   rows >= p->wanted;
            if (full && examples)
                return true;
            if (!s) {
                s = &w->segment[w->segments++];
                *s = (struct segment){p, p->next, p->next};
            }
            s->end++;
            rows += more;
            examples++;
        }
    }
    return w->segments > 0;
}

/* --- several parts in one batch ----------------------------------------------------------------- */

static void join_example(struct gradient_work *w, const struct gradient_part *p, int64_t i,
                         int64_t at)
{
    const struct packed_batch *b = p->batch;
    const int64_t e = b->enc_off[i], en = b->enc_off[i + 1] - e;
    const int64_t d = b->dec_off[i], dn = b->dec_off[i + 1] - d;
    memcpy(w->enc_ids + w->enc_off[at], b->enc_ids + e, (size_t)en * sizeof *w->enc_ids);
    memcpy(w->dec_in + w->dec_off[at], b->dec_in + d, (size_t)dn * sizeof *w->dec_in);
    memcpy(w->dec_target + w->dec_off[at], b->dec_target + d, (size_t)dn * sizeof *w->dec_target);
    for (int64_t t = 0; t < dn; t++)
        w->weight[w->dec_off[at] + t] = b->dec_weight ? b->dec_weight[d + t] : 1;
    w->enc_off[at + 1] = w->enc_off[at] + en;
    w->dec_off[at + 1] = w->dec_off[at] + dn;
    w->index[at] = at;
}

static void join(struct gradient *g, struct t5_prompts *prompts)
{
    struct gradient_work *w = g->work;
    int64_t at = 0;
    w->enc_off[0] = w->dec_off[0] = w->first_row[0] = 0;
    *prompts = (struct t5_prompts){.enc = w->prompts,
                                   .count = w->segments,
                                   .first = w->first_row,
                                   .combine = w->segment[0].part->prompt->use.combine};
    for (int64_t k = 0; k < w->segments; k++) {
        const struct segment *s = &w->segment[k];
        const struct prompt *p = s->part->prompt;
        const double factor = t5_loss_factor(s->part->batch, s->part->loss_opts);
        memcpy(w->prompts + w->first_row[k] * g->E, p->rows,
               (size_t)(p->P * g->E) * sizeof *p->rows);
        w->first_row[k + 1] = w->first_row[k] + p->P;
        prompts->P = p->P > prompts->P ? p->P : prompts->P;
        for (int64_t i = s->first; i < s->end; i++, at++) {
            join_example(w, s->part, i, at);
            w->prompt_of[at] = (int32_t)k;
            w->factor[at] = factor;
        }
    }
    const struct packed_batch *like = w->segment[0].part->batch;
    w->joined = (struct packed_batch){.B = at,
                                      .enc_off = w->enc_off,
                                      .enc_ids = w->enc_ids,
                                      .dec_off = w->dec_off,
                                      .dec_in = w->dec_in,
                                      .dec_target = w->dec_target,
                                      .dec_weight = w->weight,
                                      .Le = like->Le,
                                      .Ld = like->Ld,
                                      .index = w->index,
                                      .prompt_of = w->prompt_of};
}

/* --- a range ------------------------------------------------------------------------------------ */

static spt_status forward_alone(struct gradient *g, const struct segment *s, struct t5_loss *loss,
                                spt_err *err)
{
    const struct gradient_part *p = s->part;
    const struct t5_prompts prompts = prompts_of(p->prompt);
    struct t5_dropout drop = {.rate = p->rate};
    memcpy(drop.key, p->key.w, sizeof drop.key);
    return t5_forward(g->model, &prompts, p->batch, s->first, s->end - s->first, p->loss_opts,
                      p->rate > 0 ? &drop : NULL, g->acts, loss, err);
}

static spt_status forward(struct gradient *g, spt_err *err)
{
    struct gradient_work *w = g->work;
    struct t5_loss loss = {.each = w->each};
    if (w->segments == 1)
        return forward_alone(g, &w->segment[0], &loss, err);
    struct t5_prompts prompts;
    join(g, &prompts);
    struct t5_loss_opts opts = *w->segment[0].part->loss_opts;
    opts.factor_of = w->factor;
    return t5_forward(g->model, &prompts, &w->joined, 0, w->joined.B, &opts, NULL, g->acts, &loss,
                      err);
}

/* Adds the losses of the range to their parts, in order; marks parts that are not finite. */
static void take_losses(struct gradient *g)
{
    struct gradient_work *w = g->work;
    int64_t at = 0;
    for (int64_t k = 0; k < w->segments; k++) {
        const struct segment *s = &w->segment[k];
        if (w->all_each)
            memcpy(w->all_each + s->first, w->each + at,
                   (size_t)(s->end - s->first) * sizeof *w->each);
        for (int64_t i = s->first; i < s->end; i++)
            t5_loss_add(&s->part->loss, &w->each[at++]);
        if (!isfinite(s->part->loss.loss))
            s->part->st = SPT_E_NONFINITE;
    }
}

/* A part that failed is run again by itself, so that the tensor named is its own. */
static spt_status name_failures(struct gradient *g, spt_err *err)
{
    const struct gradient_work *w = g->work;
    for (int64_t k = 0; k < w->segments; k++) {
        const struct segment *s = &w->segment[k];
        char name[128] = "loss";
        struct t5_loss again = {0};
        if (!s->part->st)
            continue;
        TRY(forward_alone(g, s, &again, err));
        t5_nonfinite(g->model, s->part->batch, g->acts, name, sizeof name);
        s->part->st = err_set(&s->part->err, SPT_E_NONFINITE,
                              "%s is not finite; no checkpoint of this step was written. A smaller "
                              "--lr may help",
                              name);
    }
    return SPT_OK;
}

static struct open_shard *open_shard(struct gradient *g, struct gradient_part *p, int64_t shard,
                                     float *sum)
{
    struct gradient_work *w = g->work;
    struct open_shard *o = w->opened ? &w->open[w->opened - 1] : NULL;
    if (o && o->part == p && o->shard == shard)
        return o; /* its earlier examples came before, in this range or the last */
    w->open[w->opened] = (struct open_shard){p, shard, sum};
    memset(sum, 0, (size_t)(p->prompt->P * g->E) * sizeof *sum);
    return &w->open[w->opened++];
}

/* Where the gradient of every example of the range goes. */
static void place_sums(struct gradient *g)
{
    struct gradient_work *w = g->work;
    float *top = w->sums;
    int64_t at = 0;
    if (w->opened) /* the one that the last range left open, at the bottom */
        top += w->open[0].part->prompt->P * g->E;
    for (int64_t k = 0; k < w->segments; k++) {
        const struct segment *s = &w->segment[k];
        struct gradient_part *p = s->part;
        const int64_t B = p->batch->B;
        for (int64_t i = s->first; i < s->end; i++) {
            const int64_t before = w->opened;
            w->to[at++] = open_shard(g, p, i * p->shards / B, top)->sum;
            top += w->opened > before ? p->prompt->P * g->E : 0;
        }
    }
}

/* The sum of a shard whose examples have all come. */
static void close_shard(struct gradient *g, const struct open_shard *o)
{
    const struct gradient_part *p = o->part;
    const size_t PE = (size_t)(p->prompt->P * g->E);
    if (g->work->shards) {
        memcpy(g->work->shards + (size_t)o->shard * PE, o->sum, PE * sizeof *o->sum);
    } else if (o->shard == 0) {
        memcpy(p->sum, o->sum, PE * sizeof *o->sum);
    } else {
        for (size_t i = 0; i < PE; i++)
            p->sum[i] += o->sum[i];
    }
}

static void close_shards(struct gradient *g)
{
    struct gradient_work *w = g->work;
    const int64_t n = w->opened;
    w->opened = 0;
    for (int64_t k = 0; k < n; k++) {
        struct open_shard *o = &w->open[k];
        struct gradient_part *p = o->part;
        if (p->st)
            continue;
        if (p->next >= first_of_shard(o->shard + 1, p->shards, p->batch->B)) {
            close_shard(g, o);
            continue;
        }
        /* Only the last part of a range can have more to come. */
        memmove(w->sums, o->sum, (size_t)(p->prompt->P * g->E) * sizeof *o->sum);
        w->open[w->opened++] = (struct open_shard){p, o->shard, w->sums};
    }
}

static bool all_failed(const struct gradient_work *w)
{
    for (int64_t k = 0; k < w->segments; k++)
        if (!w->segment[k].part->st)
            return false;
    return true;
}

static spt_status run_range(struct gradient *g, spt_err *err)
{
    struct gradient_work *w = g->work;
    const bool decoder = w->segment[0].part->prompt->use.side == PROMPT_DECODER;
    TRY(forward(g, err));
    take_losses(g);
    if (!all_failed(w)) {
        place_sums(g);
        TRY(t5_backward_to(g->model, g->acts, decoder ? NULL : w->to, decoder ? w->to : NULL, err));
    }
    close_shards(g);
    return name_failures(g, err);
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
    l.losses = (size_t)(l.examples.end - l.examples.first) * sizeof *g->work->all_each;
    l.gradient = (size_t)((l.shards.end - l.shards.first) * g->P * g->E) * sizeof *g->work->shards;
    return l;
}

static void put_load(const struct gradient *g, const struct load *l, char *to)
{
    const uint64_t bits = g->ask ? g->ask(g->ask_ctx) : 0;
    memcpy(to, &bits, sizeof bits);
    memcpy(to += sizeof bits, g->work->all_each + l->examples.first, l->losses);
    memcpy(to + l->losses, g->work->shards + l->shards.first * g->P * g->E, l->gradient);
}

static void take_load(struct gradient *g, const struct load *l, const char *from)
{
    uint64_t bits;
    memcpy(&bits, from, sizeof bits);
    g->told |= (unsigned)bits;
    memcpy(g->work->all_each + l->examples.first, from += sizeof bits, l->losses);
    memcpy(g->work->shards + l->shards.first * g->P * g->E, from + l->losses, l->gradient);
}

static void sum_shards(const struct gradient *g, const struct gradient_part *p)
{
    const size_t PE = (size_t)(g->P * g->E);
    memcpy(p->sum, g->work->shards, PE * sizeof *p->sum);
    for (int64_t k = 1; k < p->shards; k++) {
        const float *shard = g->work->shards + (size_t)k * PE;
        for (size_t i = 0; i < PE; i++)
            p->sum[i] += shard[i];
    }
}

/* Every rank gets the shards and losses of all; st: how it went here. */
static spt_status exchange_shards(struct gradient *g, struct gradient_part *p, spt_status st,
                                  spt_err *err)
{
    const int size = comm_size(g->comm), rank = comm_rank(g->comm);
    const int64_t shards = p->shards, B = p->batch->B;
    char *at = g->work->wire;
    for (int r = 0; r < size; r++) {
        const struct load l = load_of(g, shards, B, r);
        if (r == rank)
            put_load(g, &l, at);
        g->work->wire_n[r] = sizeof(uint64_t) + l.losses + l.gradient;
        at += g->work->wire_n[r];
    }
    TRY(comm_share(g->comm, st, g->work->wire, g->work->wire_n, err));
    at = g->work->wire;
    g->told = 0;
    for (int r = 0; r < size; at += g->work->wire_n[r++]) {
        const struct load l = load_of(g, shards, B, r);
        take_load(g, &l, at);
    }
    p->loss = (struct t5_loss){0};
    for (int64_t i = 0; i < B; i++)
        t5_loss_add(&p->loss, &g->work->all_each[i]);
    sum_shards(g, p);
    return SPT_OK;
}

/* --- all ---------------------------------------------------------------------------------------- */

static spt_status own_ranges(struct gradient *g, struct gradient_part *part, size_t n, spt_err *err)
{
    cut_parts(g, part, n);
    g->work->opened = 0;
    while (next_range(g, part, n))
        TRY(run_range(g, err));
    return SPT_OK;
}

spt_status gradient_of_parts(struct gradient *g, struct gradient_part *part, size_t n, spt_err *err)
{
    const bool ranks = comm_size(g->comm) > 1;
    if (n > 1 && (ranks || !g->work->prompts))
        return err_set(err, SPT_E_INTERNAL, "gradients of %zu prompts were not planned for", n);
    for (size_t k = 0; k < n; k++)
        part_begin(g, &part[k]);
    spt_status st = own_ranges(g, part, n, err);
    if (!ranks)
        return st;
    if (!st && part->st) {
        if (err)
            *err = part->err;
        st = part->st;
    }
    st = exchange_shards(g, part, st, err); /* the worst that happened anywhere */
    if (st != SPT_E_NONFINITE)
        return st;
    part->st = st;
    if (err)
        part->err = *err;
    return SPT_OK;
}

spt_status gradient_of(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                       float rate, struct rng_key key, struct t5_loss *loss, spt_err *err)
{
    struct gradient_part part = {.prompt = p,
                                 .batch = b,
                                 .loss_opts = &g->loss,
                                 .rate = rate,
                                 .key = key,
                                 .sum = g->sum};
    TRY(gradient_of_parts(g, &part, 1, err));
    if (part.st && err)
        *err = part.err;
    *loss = part.loss;
    return part.st;
}

spt_status gradient_loss(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                         struct t5_loss *loss, spt_err *err)
{
    struct gradient_part part = {.prompt = p, .batch = b, .loss_opts = &g->loss, .end = b->B};
    cut_parts(g, &part, 1);
    while (next_range(g, &part, 1)) {
        struct t5_loss range = {.each = g->work->each};
        TRY(forward_alone(g, &g->work->segment[0], &range, err));
        take_losses(g);
        part.st = SPT_OK; /* what is not finite shows in the sums */
    }
    *loss = part.loss;
    return SPT_OK;
}

spt_status gradient_check(const float *x, int64_t P, int64_t E, const char *name, spt_err *err)
{
    for (int64_t i = 0; i < P * E; i++)
        if (!isfinite(x[i]))
            return err_set(err, SPT_E_NONFINITE,
                           "the %s is not finite (row %lld, column %lld); no checkpoint of this "
                           "step was written. A smaller --lr may help",
                           name, (long long)(i / E), (long long)(i % E));
    return SPT_OK;
}

/* Values beyond about 1e19 are finite, but their squares are not: every norm of such a row is 0,
 * and training goes on with a prompt that says nothing. */
spt_status gradient_check_prompt(const float *rows, int64_t P, int64_t E, spt_err *err)
{
    TRY(gradient_check(rows, P, E, "prompt", err));
    for (int64_t i = 0; i < P; i++) {
        float sum = 0;
        for (int64_t j = 0; j < E; j++) {
            const float x = rows[i * E + j];
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
