/* Decoding one position at a time. A sequence's past is a list of slots; step t of row r owns slot
 * t * rows + r of every layer's key/value store and is never written again. When a search reorders
 * its beams only the lists are reordered (two tables of int32, old and new), so the cost of a step
 * does not depend on how beams move. */
#include <string.h>

#include "model/model_internal.h"

struct t5_decoder {
    const t5_model *m;
    struct t5_decoder_plan plan;
    int64_t max_len; /* prompt rows included */
    int64_t slots;   /* of one layer */
    int64_t examples, enc_rows;
    int64_t position;  /* of the next step, prompt rows included */
    int64_t start;     /* prompt rows */
    int64_t last_rows; /* of the last step */
    void *device;
    void *host;

    void **cross;         /* [layers] [enc_rows, 2J] */
    void **cache;         /* [layers] [slots, 2J] keys and values */
    void *x, *att, *wide; /* [rows, E], [rows, J], [rows, max(3J, h, F)] twice */
    void *wide2, *logits;
    int64_t *enc_off;  /* [examples + 1] */
    int64_t *row_off;  /* [examples + 1] rows of the step by example */
    int32_t *chain[2]; /* [rows, max_len] slots of each sequence: now and of the last step */
    int32_t *ids;      /* [rows] examples of the prompt steps */
    void *norm;        /* [rows, E] */
};

static size_t aligned(size_t n)
{
    return (n + 63) & ~(size_t)63;
}

static bool lay_out(t5_decoder *d, size_t *device, size_t *host)
{
    const struct t5_config *c = &d->m->c;
    const struct t5_decoder_plan *p = &d->plan;
    const int64_t J = d->m->J, hF = c->gated ? 2 * c->ff : c->ff, L = c->dec_layers;
    const int64_t wide = 3 * J > hF ? 3 * J : hF;
    const int64_t limit = INT32_MAX;
    if (d->max_len < 1 || p->rows < 1 || p->rows > limit / d->max_len || p->enc_rows > limit)
        return false;
    d->slots = p->rows * d->max_len;
    size_t dev = 0, hst = 0;
    char *db = d->device, *hb = d->host;
#define DEVICE(ptr, rows, width, size)                                                             \
    do {                                                                                           \
        (ptr) = db ? db + dev : NULL;                                                              \
        dev += aligned((size_t)(rows) * (size_t)(width)*d->m->t->size);                            \
    } while (0)
#define HOST(ptr, n)                                                                               \
    do {                                                                                           \
        (ptr) = hb ? (void *)(hb + hst) : NULL;                                                    \
        hst += aligned((size_t)(n) * sizeof *(ptr));                                               \
    } while (0)
    for (int64_t i = 0; i < L; i++) {
        DEVICE(d->cross[i], p->enc_rows, 2 * J, elem);
        DEVICE(d->cache[i], d->slots, 2 * J, elem);
    }
    DEVICE(d->x, p->rows, c->width, elem);
    DEVICE(d->att, p->rows, J, elem);
    DEVICE(d->wide, p->rows, wide, elem);
    DEVICE(d->wide2, p->rows, wide > c->ff ? wide : c->ff, elem);
    DEVICE(d->norm, p->rows, c->width, elem);
    DEVICE(d->logits, p->rows, c->vocab, wide);
    HOST(d->enc_off, p->examples + 1);
    HOST(d->row_off, p->examples + 1);
    HOST(d->chain[0], d->slots);
    HOST(d->chain[1], d->slots);
    HOST(d->ids, p->rows);
#undef DEVICE
#undef HOST
    *device = dev;
    *host = hst;
    return true;
}

spt_status t5_decoder_new(const t5_model *m, const struct t5_decoder_plan *plan, t5_decoder **out,
                          spt_err *err)
{
    size_t device, host;
    t5_decoder *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    d->m = m;
    d->plan = *plan;
    d->max_len = plan->max_len + plan->P_dec;
    d->cross = mem_zalloc((size_t)m->c.dec_layers, sizeof *d->cross);
    d->cache = mem_zalloc((size_t)m->c.dec_layers, sizeof *d->cache);
    spt_status st = SPT_OK;
    if (!d->cross || !d->cache)
        st = err_nomem(err, (size_t)m->c.dec_layers * sizeof *d->cross);
    else if (!lay_out(d, &device, &host))
        st = err_set(err, SPT_E_CONFIG, "cannot decode %lld sequences of %lld steps",
                     (long long)plan->rows, (long long)d->max_len);
    if (!st) {
        d->device = m->t->alloc(m->o, device);
        d->host = mem_alloc_aligned(host, 1);
        if (!d->device || !d->host)
            st = err_nomem(err, device + host);
    }
    if (st) {
        t5_decoder_free(d);
        return st;
    }
    lay_out(d, &device, &host);
    *out = d;
    return SPT_OK;
}

void t5_decoder_free(t5_decoder *d)
{
    if (!d)
        return;
    if (d->device)
        d->m->t->release(d->m->o, d->device);
    mem_free_aligned(d->host);
    mem_free(d->cross);
    mem_free(d->cache);
    mem_free(d);
}

int64_t t5_decoder_position(const t5_decoder *d)
{
    return d->position - d->start;
}

/* Offsets of the rows of each example; refuses an order that is not by example. */
static spt_status place_rows(t5_decoder *d, int64_t rows, const int32_t *example, spt_err *err)
{
    if (rows < 1 || rows > d->plan.rows || d->position >= d->max_len)
        return err_set(err, SPT_E_INTERNAL, "step %lld of %lld rows, planned for %lld of %lld",
                       (long long)d->position, (long long)rows, (long long)d->max_len,
                       (long long)d->plan.rows);
    int64_t r = 0;
    for (int64_t b = 0; b < d->examples; b++) {
        d->row_off[b] = r;
        while (r < rows && example[r] == b)
            r++;
    }
    d->row_off[d->examples] = r;
    if (r < rows)
        return err_set(err, SPT_E_INTERNAL, "row %lld belongs to example %d: not in order",
                       (long long)r, example[r]);
    return SPT_OK;
}

/* The lists of slots after this step, from those of the last one. */
static spt_status extend_chains(t5_decoder *d, int64_t rows, const int32_t *parent, spt_err *err)
{
    const int64_t n = d->position;
    for (int64_t r = 0; r < rows; r++) {
        int32_t *now = d->chain[0] + r * d->max_len;
        if (n) {
            const int64_t from = parent[r];
            if (from < 0 || from >= d->last_rows)
                return err_set(err, SPT_E_INTERNAL, "row %lld continues row %lld of %lld",
                               (long long)r, (long long)from, (long long)d->last_rows);
            memcpy(now, d->chain[1] + from * d->max_len, (size_t)n * sizeof *now);
        }
        now[n] = (int32_t)(n * d->plan.rows + r);
    }
    return SPT_OK;
}

/* x += all ranks' norm */
static void add_norm(t5_decoder *d, int64_t rows)
{
    const t5_model *m = d->m;
    split_sum(m, d->norm, rows * m->c.width);
    m->t->add(m->o, d->x, d->norm, rows * m->c.width);
}

/* x += in W */
static void add_product(t5_decoder *d, const ops_weight *w, const void *in, int64_t rows)
{
    const t5_model *m = d->m;
    m->t->matmul(m->o, w, in, m->link ? d->norm : d->x, rows, !m->link);
    if (m->link)
        add_norm(d, rows);
}

static void self_step(t5_decoder *d, int64_t layer, int64_t rows)
{
    const t5_model *m = d->m;
    const struct ops_table *t = m->t;
    const struct self_block *w = &m->dec[layer].self;
    const int64_t E = m->c.width, J = m->J, first = d->position * d->plan.rows;
    t->rmsnorm(m->o, d->x, w->norm, m->c.norm_eps, rows, E, d->norm);
    t->matmul(m->o, w->qkv, d->norm, d->wide, rows, false);
    for (int64_t r = 0; r < rows; r++) /* k | v behind q */
        t->copy(m->o, row_at(m, d->cache[layer], first + r, 2 * J),
                row_at(m, d->wide, 3 * r + 1, J), 2 * J);
    const struct ops_slots a = {.rows = rows,
                                .len = d->position + 1,
                                .heads = m->own.heads,
                                .head_dim = m->c.head_dim,
                                .slots = d->chain[0],
                                .slot_stride = d->max_len,
                                .q = d->wide,
                                .k = d->cache[layer],
                                .v = row_at(m, d->cache[layer], 1, J),
                                .q_stride = 3 * J,
                                .k_stride = 2 * J,
                                .v_stride = 2 * J,
                                .bias = w->bias,
                                .span = m->span};
    t->attention_slots(m->o, &a, d->att);
    add_product(d, w->out, d->att, rows);
}

static void cross_step(t5_decoder *d, int64_t layer, int64_t rows)
{
    const t5_model *m = d->m;
    const struct ops_table *t = m->t;
    const struct cross_block *w = &m->dec[layer].cross;
    const int64_t J = m->J;
    t->rmsnorm(m->o, d->x, w->norm, m->c.norm_eps, rows, m->c.width, d->norm);
    t->matmul(m->o, w->q, d->norm, d->wide, rows, false);
    const struct ops_attention a = {.B = d->examples,
                                    .heads = m->own.heads,
                                    .head_dim = m->c.head_dim,
                                    .q_off = d->row_off,
                                    .k_off = d->enc_off,
                                    .q = d->wide,
                                    .k = d->cross[layer],
                                    .v = row_at(m, d->cross[layer], 1, J),
                                    .q_stride = J,
                                    .k_stride = 2 * J,
                                    .v_stride = 2 * J};
    t->attention(m->o, &a, d->att);
    add_product(d, w->out, d->att, rows);
}

static void mlp_step(t5_decoder *d, int64_t layer, int64_t rows)
{
    const t5_model *m = d->m;
    const struct ops_table *t = m->t;
    const struct mlp_block *w = &m->dec[layer].mlp;
    t->rmsnorm(m->o, d->x, w->norm, m->c.norm_eps, rows, m->c.width, d->norm);
    const struct ops_feed f = {
        .wi = w->wi,
        .wo = w->wo,
        .act = {.act = m->c.act, .gated = m->c.gated, .only_g = true, .F = m->own.ff},
    };
    t->feed(m->o, &f, d->norm, rows, d->wide, d->wide2, m->link ? NULL : d->x,
            m->link ? d->norm : d->x);
    if (m->link)
        add_norm(d, rows);
}

/* Runs the rows embedded in d->x through all layers; the step is then part of the past. */
static void run_step(t5_decoder *d, int64_t rows)
{
    for (int64_t i = 0; i < d->m->c.dec_layers; i++) {
        self_step(d, i, rows);
        cross_step(d, i, rows);
        mlp_step(d, i, rows);
    }
    int32_t *swap = d->chain[0];
    d->chain[0] = d->chain[1];
    d->chain[1] = swap;
    d->position++;
    d->last_rows = rows;
}

/* The decoder prompt: its rows are the first positions of one sequence per example. */
static spt_status run_prompt(t5_decoder *d, const struct t5_prompts *p, spt_err *err)
{
    const t5_model *m = d->m;
    const int64_t E = m->c.width;
    if (d->examples > d->plan.rows)
        return err_set(err, SPT_E_INTERNAL, "a decoder prompt needs a row per example");
    for (int64_t b = 0; b < d->examples; b++)
        d->ids[b] = (int32_t)b;
    for (int64_t i = 0; i < p->P_dec && d->examples; i++) {
        TRY(place_rows(d, d->examples, d->ids, err));
        TRY(extend_chains(d, d->examples, d->ids, err));
        for (int64_t b = 0; b < d->examples; b++)
            m->t->put(m->o, row_at(m, d->x, b, E), p->dec + i * E, E);
        run_step(d, d->examples);
    }
    return SPT_OK;
}

spt_status t5_decoder_start(t5_decoder *d, const struct t5_prompts *prompts, const t5_acts *acts,
                            spt_err *err)
{
    const t5_model *m = d->m;
    const int64_t P_dec = prompts && prompts->dec ? prompts->P_dec : 0;
    if (!acts->encoded || acts->m != m)
        return err_set(err, SPT_E_INTERNAL, "decoding without an encoder pass");
    if (acts->B > d->plan.examples || acts->rows > d->plan.enc_rows || P_dec > d->plan.P_dec)
        return err_set(err, SPT_E_INTERNAL,
                       "decoder planned for %lld examples of %lld rows, got %lld of %lld",
                       (long long)d->plan.examples, (long long)d->plan.enc_rows, (long long)acts->B,
                       (long long)acts->rows);
    d->examples = acts->B;
    d->enc_rows = acts->rows;
    memcpy(d->enc_off, acts->enc_off, (size_t)(acts->B + 1) * sizeof *d->enc_off);
    for (int64_t i = 0; i < m->c.dec_layers; i++)
        m->t->matmul(m->o, m->dec[i].cross.kv, acts->enc_out, d->cross[i], acts->rows, false);
    d->position = d->start = d->last_rows = 0;
    if (P_dec)
        TRY(run_prompt(d, prompts, err));
    d->start = d->position;
    return model_check(m, err);
}

spt_status t5_decoder_step(t5_decoder *d, int64_t rows, const int32_t *example,
                           const int32_t *parent, const int32_t *token, float *logits, spt_err *err)
{
    const t5_model *m = d->m;
    TRY(place_rows(d, rows, example, err));
    for (int64_t r = 0; r < rows; r++)
        if (token[r] < 0 || token[r] >= m->c.vocab)
            return err_set(err, SPT_E_FORMAT, "token id %d is not in 0..%lld", token[r],
                           (long long)m->c.vocab - 1);
    /* The first sequences continue the prompt of their example, or nothing. */
    TRY(extend_chains(d, rows, d->position == d->start ? example : parent, err));
    split_gather(m, token, rows, d->x);
    split_sum(m, d->x, rows * m->c.width);
    run_step(d, rows);
    m->t->rmsnorm(m->o, d->x, m->dec_norm, m->c.norm_eps, rows, m->c.width, d->norm);
    m->t->matmul(m->o, m->head, d->norm, d->logits, rows, false);
    split_logits(m, d->logits, rows, logits);
    return model_check(m, err);
}
