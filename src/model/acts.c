/* Storage of a pass, planned once: a layout function walks all buffers in a fixed order, first to
 * measure, then to hand out parts of one block. With backward every layer has its own buffers;
 * without, all layers share one set and the stream is updated in place; with remat only the input
 * of each layer is kept. */
#include <stdio.h>

#include "model/model_internal.h"

enum { ALIGN = 64, HEAD_CHUNK = 128 };

struct layout {
    char *base; /* NULL: measure only */
    size_t used;
    bool overflow;
};

static void *take(struct layout *l, int64_t rows, int64_t width, size_t size)
{
    size_t n, bytes;
    if (rows < 0 || width < 0 || !mul_size((size_t)rows, (size_t)width, &n) ||
        !mul_size(n, size, &bytes) || !add_size(bytes, ALIGN - 1, &bytes)) {
        l->overflow = true;
        return NULL;
    }
    bytes -= bytes % ALIGN;
    const size_t at = l->used;
    if (!add_size(at, bytes, &l->used))
        l->overflow = true;
    return l->base ? l->base + at : NULL;
}

static int64_t max64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* What the layout needs to know, without a model. */
struct dims {
    int64_t E, J, F, hF, H, V;
    size_t elem, wide;
    int64_t rows, enc_rows, dec_rows, examples;
    bool backward, remat, dropout, absorb;
};

static struct dims dims_of(const struct t5_config *c, size_t elem, size_t wide,
                           const struct t5_acts_plan *p)
{
    return (struct dims){.E = c->width,
                         .J = c->heads * c->head_dim,
                         .F = c->ff,
                         .hF = c->gated ? 2 * c->ff : c->ff,
                         .H = c->heads,
                         .V = c->vocab,
                         .elem = elem,
                         .wide = wide,
                         .rows = p->rows,
                         .enc_rows = max64(p->rows, p->enc_rows),
                         .dec_rows = p->dec_rows,
                         .examples = p->examples,
                         .backward = p->backward,
                         .remat = p->backward && p->remat,
                         .dropout = p->dropout,
                         .absorb = p->absorb};
}

static void lay_self(struct layout *l, const struct dims *d, int64_t rows, struct self_acts *s)
{
    s->qkv = take(l, rows, 3 * d->J, d->elem);
    s->att = take(l, rows, d->J, d->elem);
    s->lse = d->backward ? take(l, rows, d->H, d->wide) : NULL;
}

static void lay_cross(struct layout *l, const struct dims *d, struct cross_acts *s)
{
    const int64_t width = d->absorb ? d->H * d->E : d->J;
    s->q = take(l, d->dec_rows, width, d->elem);
    s->kv = d->absorb ? NULL : take(l, d->enc_rows, 2 * d->J, d->elem);
    s->att = take(l, d->dec_rows, width, d->elem);
    s->lse = d->backward ? take(l, d->dec_rows, d->H, d->wide) : NULL;
}

static void lay_mlp(struct layout *l, const struct dims *d, int64_t rows, struct mlp_acts *s)
{
    s->h = take(l, rows, d->hF, d->elem);
}

/* Streams: own[0..n] of one layer; layer buffers of layer i are those of layer 0 when shared. */
static void lay_encoder(struct layout *l, const struct dims *d, int64_t layers, struct enc_acts *e,
                        void **last)
{
    void *x = take(l, d->rows, d->E, d->elem);
    for (int64_t i = 0; i < layers; i++) {
        const bool share = i && (!d->backward || d->remat);
        if (share)
            e[i] = e[0];
        else {
            lay_self(l, d, d->rows, &e[i].self);
            lay_mlp(l, d, d->rows, &e[i].mlp);
            e[i].self.y = d->backward ? take(l, d->rows, d->E, d->elem) : x;
        }
        e[i].self.x = x;
        e[i].mlp.x = e[i].self.y;
        if (d->backward)
            x = take(l, d->rows, d->E, d->elem);
        e[i].mlp.y = x;
    }
    *last = x;
}

static void lay_decoder(struct layout *l, const struct dims *d, int64_t layers, struct dec_acts *e,
                        void **last)
{
    void *x = take(l, d->dec_rows, d->E, d->elem);
    for (int64_t i = 0; i < layers; i++) {
        const bool share = i && (!d->backward || d->remat);
        if (share)
            e[i] = e[0];
        else {
            lay_self(l, d, d->dec_rows, &e[i].self);
            lay_cross(l, d, &e[i].cross);
            lay_mlp(l, d, d->dec_rows, &e[i].mlp);
            e[i].self.y = d->backward ? take(l, d->dec_rows, d->E, d->elem) : x;
            e[i].cross.y = d->backward ? take(l, d->dec_rows, d->E, d->elem) : x;
        }
        e[i].self.x = x;
        e[i].cross.x = e[i].self.y;
        e[i].mlp.x = e[i].cross.y;
        if (d->backward)
            x = take(l, d->dec_rows, d->E, d->elem);
        e[i].mlp.y = x;
    }
    *last = x;
}

static void lay_device(struct layout *l, const struct t5_config *c, const struct dims *d,
                       t5_acts *a)
{
    lay_encoder(l, d, c->enc_layers, a->enc, &a->enc_last);
    lay_decoder(l, d, c->dec_layers, a->dec, &a->dec_last);
    a->enc_out = take(l, d->enc_rows, d->E, d->elem);
    a->dec_out = take(l, d->dec_rows, d->E, d->elem);
    const int64_t R = max64(d->rows, d->dec_rows);
    a->wide_b = take(l, R, max64(3 * d->J, d->F), d->elem);
    a->norm = take(l, R, d->E, d->elem);
    a->tmp = take(l, R, d->E, d->elem);
    a->head_chunk = d->dec_rows < HEAD_CHUNK ? d->dec_rows : HEAD_CHUNK;
    a->logits = take(l, a->head_chunk, d->V, d->wide);
    if (d->absorb) {
        a->head_d = take(l, d->dec_rows, d->J, d->elem);
        a->joined = take(l, d->dec_rows, d->J, d->elem);
        a->head_e = take(l, d->dec_rows, d->H * d->E, d->elem);
        a->head_e2 = take(l, d->dec_rows, d->H * d->E, d->elem);
    }
    if (!d->backward)
        return;
    a->wide_a = take(l, R, max64(max64(3 * d->J, d->hF), d->absorb ? 2 * d->E : 0), d->elem);
    a->dq = take(l, d->dec_rows, d->J, d->elem);
    a->dx_enc = take(l, d->rows, d->E, d->elem);
    a->d_enc = take(l, d->rows, d->E, d->elem);
    a->dx_dec = take(l, d->dec_rows, d->E, d->elem);
    a->d_loss = take(l, d->dec_rows, d->E, d->elem);
}

static void lay_masks(struct layout *l, const struct t5_config *c, const struct dims *d, t5_acts *a)
{
    const size_t f = sizeof(float);
    const int64_t B = d->examples;
    a->drop_enc_in = take(l, B, d->E, f);
    a->drop_enc_out = take(l, B, d->E, f);
    a->drop_dec_in = take(l, B, d->E, f);
    a->drop_dec_out = take(l, B, d->E, f);
    for (int64_t i = 0; i < c->enc_layers; i++) {
        a->enc[i].self.drop_att = take(l, d->rows, d->H, f);
        a->enc[i].self.drop_out = take(l, B, d->E, f);
        a->enc[i].mlp.drop_in = take(l, B, d->F, f);
        a->enc[i].mlp.drop_out = take(l, B, d->E, f);
    }
    for (int64_t i = 0; i < c->dec_layers; i++) {
        a->dec[i].self.drop_att = take(l, d->dec_rows, d->H, f);
        a->dec[i].self.drop_out = take(l, B, d->E, f);
        a->dec[i].cross.drop_att = take(l, d->rows, d->H, f);
        a->dec[i].cross.drop_out = take(l, B, d->E, f);
        a->dec[i].mlp.drop_in = take(l, B, d->F, f);
        a->dec[i].mlp.drop_out = take(l, B, d->E, f);
    }
}

static void lay_host(struct layout *l, const struct t5_config *c, const struct dims *d, t5_acts *a)
{
    const int64_t R = max64(d->rows, d->dec_rows);
    a->enc_off = take(l, d->examples + 1, 1, sizeof *a->enc_off);
    a->prompt_at = take(l, d->examples, 1, sizeof *a->prompt_at);
    a->prompt_n = take(l, d->examples, 1, sizeof *a->prompt_n);
    a->prompt_row = take(l, d->examples, 1, sizeof *a->prompt_row);
    a->dec_off = take(l, d->examples + 1, 1, sizeof *a->dec_off);
    a->cross_off = take(l, d->examples + 1, 1, sizeof *a->cross_off);
    a->index = take(l, R + d->examples + 1, 1, sizeof *a->index);
    a->same = take(l, d->rows, 1, sizeof *a->same);
    a->ids = take(l, R, 1, sizeof *a->ids);
    if (d->absorb) {
        a->by_head = take(l, d->dec_rows, d->H, sizeof *a->by_head);
        a->by_row = take(l, d->dec_rows, d->H, sizeof *a->by_row);
        a->head_off = take(l, d->examples + 1, 1, sizeof *a->head_off);
    }
    a->loss_index = take(l, d->dec_rows, 1, sizeof *a->loss_index);
    a->loss_token = take(l, d->dec_rows, 1, sizeof *a->loss_token);
    a->target = take(l, d->dec_rows, 1, sizeof *a->target);
    a->argmax = take(l, d->dec_rows, 1, sizeof *a->argmax);
    a->weight = take(l, d->dec_rows, 1, sizeof *a->weight);
    a->loss = take(l, d->dec_rows, 1, sizeof *a->loss);
    a->z = take(l, d->dec_rows, 1, sizeof *a->z);
    a->log_p = take(l, d->dec_rows, 1, sizeof *a->log_p);
    a->log_z = take(l, d->dec_rows, 1, sizeof *a->log_z);
    a->line = take(l, LINE, 1, sizeof *a->line);
    if (d->dropout)
        lay_masks(l, c, d, a);
}

/* Both layouts into `a` (its enc and dec arrays exist); bytes of each. */
static bool lay_out(const struct t5_config *c, const struct dims *d, t5_acts *a, size_t *device,
                    size_t *host)
{
    struct layout dev = {.base = a->device}, hst = {.base = a->host};
    lay_device(&dev, c, d, a);
    lay_host(&hst, c, d, a);
    *device = dev.used;
    *host = hst.used;
    return !dev.overflow && !hst.overflow && *device <= PTRDIFF_MAX && *host <= PTRDIFF_MAX;
}

static t5_acts *acts_shell(const struct t5_config *c)
{
    t5_acts *a = mem_zalloc(1, sizeof *a);
    if (!a)
        return NULL;
    a->enc = mem_zalloc((size_t)c->enc_layers, sizeof *a->enc);
    a->dec = mem_zalloc((size_t)c->dec_layers, sizeof *a->dec);
    if (a->enc && a->dec)
        return a;
    t5_acts_free(a);
    return NULL;
}

size_t t5_acts_bytes(const struct t5_config *cfg, size_t elem, size_t wide,
                     const struct t5_acts_plan *plan)
{
    const struct dims d = dims_of(cfg, elem, wide, plan);
    size_t device, host;
    t5_acts *a = acts_shell(cfg);
    if (!a)
        return SIZE_MAX;
    const bool ok = lay_out(cfg, &d, a, &device, &host) && add_size(device, host, &device);
    t5_acts_free(a);
    return ok ? device : SIZE_MAX;
}

spt_status t5_acts_new(const t5_model *m, const struct t5_acts_plan *plan, t5_acts **out,
                       spt_err *err)
{
    if (plan->backward && !m->backward)
        return err_set(err, SPT_E_CONFIG, "the model was prepared without backward");
    if (plan->absorb && (!m->absorb || plan->dropout))
        return err_set(err, SPT_E_CONFIG,
                       "absorbed cross-attention needs a model prepared for it, and no dropout");
    const struct dims d = dims_of(&m->own, m->t->elem, m->t->wide, plan);
    size_t device, host;
    t5_acts *a = acts_shell(&m->c);
    if (!a)
        return err_nomem(err, sizeof *a);
    a->m = m;
    a->plan = *plan;
    a->absorb = plan->absorb;
    if (!lay_out(&m->own, &d, a, &device, &host)) {
        t5_acts_free(a);
        return err_set(err, SPT_E_NOMEM, "activations of %lld + %lld rows are too large",
                       (long long)plan->rows, (long long)plan->dec_rows);
    }
    a->device = m->t->alloc(m->o, device);
    a->host = mem_alloc_aligned(host, 1);
    if (!a->device || !a->host) {
        t5_acts_free(a);
        return err_nomem(err, device + host);
    }
    lay_out(&m->own, &d, a, &device, &host);
    a->host_bytes = host;
    *out = a;
    return SPT_OK;
}

size_t t5_acts_host_bytes(const t5_acts *a)
{
    return a ? a->host_bytes : 0;
}

void t5_acts_free(t5_acts *a)
{
    if (!a)
        return;
    if (a->device)
        a->m->t->release(a->m->o, a->device);
    mem_free_aligned(a->host);
    mem_free(a->lists);
    mem_free(a->lens);
    mem_free(a->row_of);
    mem_free(a->token_log_p);
    mem_free(a->token_logit);
    mem_free(a->enc);
    mem_free(a->dec);
    mem_free(a);
}

bool t5_absorb_pays(const struct t5_config *c, int64_t dec_rows)
{
    /* Per encoder row and layer: 4 E J for keys and values against 4 T (H E - J) more in the
     * attention, which runs at about a third of the speed of a product. */
    const double E = (double)c->width, J = (double)(c->heads * c->head_dim);
    return 3 * (double)dec_rows * ((double)c->heads * E - J) < E * J;
}

/* --- one pass ------------------------------------------------------------------------------ */

static spt_status too_large(const char *what, int64_t rows, int64_t planned, spt_err *err)
{
    return err_set(err, SPT_E_CONFIG, "the batch has %lld %s, storage was planned for %lld",
                   (long long)rows, what, (long long)planned);
}

static spt_status check_ids(const char *what, const int32_t *ids, int64_t n, int64_t vocab,
                            spt_err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= vocab)
            return err_set(err, SPT_E_FORMAT,
                           "%s id %d at row %lld is not in 0..%lld: vocabulary and model disagree",
                           what, ids[i], (long long)i, (long long)vocab - 1);
    return SPT_OK;
}

spt_status acts_check_ids(const t5_acts *a, const char *what, const int32_t *ids, int64_t n,
                          spt_err *err)
{
    return check_ids(what, ids, n, a->m->c.vocab, err);
}

/* Rows in front of the prompt, for an input of n tokens. */
static int64_t tokens_before(enum t5_combine combine, int64_t n)
{
    switch (combine) {
    case T5_PREFIX:
        return 0;
    case T5_PREFIX_AFTER_BOS:
        return 1; /* an empty input has its padding there */
    case T5_SUFFIX:
        return n > 0 ? n - 1 : 0;
    case T5_SUFFIX_END:
        return n;
    }
    return 0;
}

static int64_t prompt_length(const struct t5_prompts *p, int64_t which)
{
    return p->first ? p->first[which + 1] - p->first[which] : p->P;
}

static int64_t prompt_of(const struct packed_batch *batch, const struct t5_prompts *p, int64_t b)
{
    return batch->prompt_of && p->P ? batch->prompt_of[b] : 0;
}

/* Encoder rows of example b of the batch. */
static int64_t example_rows(const struct packed_batch *batch, const struct t5_prompts *p, int64_t b)
{
    const int64_t tokens = batch->enc_off[b + 1] - batch->enc_off[b];
    return tokens + (p->P ? prompt_length(p, prompt_of(batch, p, b)) : 0);
}

int64_t acts_fit(const t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch,
                 int64_t first, int64_t count, int64_t target)
{
    int64_t n = 0, rows = 0;
    while (n < count && rows < target) {
        const int64_t more = example_rows(batch, p, first + n);
        if (n && rows + more > a->plan.rows)
            break;
        rows += more;
        n++;
    }
    return n;
}

spt_status acts_begin(t5_acts *a, const struct t5_prompts *p, const struct packed_batch *batch,
                      int64_t first, int64_t count, int64_t most, spt_err *err)
{
    static const struct t5_prompts none;
    p = p ? p : &none;
    a->encoded = a->ran_forward = a->has_drop = a->tree = false;
    if (first < 0 || count < 0 || first > batch->B - count)
        return err_set(err, SPT_E_INTERNAL, "examples %lld + %lld of %lld", (long long)first,
                       (long long)count, (long long)batch->B);
    if (count > a->plan.examples)
        return too_large("examples", count, a->plan.examples, err);
    const int64_t tokens = batch->enc_off[first + count] - batch->enc_off[first];
    int64_t rows = 0;
    for (int64_t b = 0; b < count; b++) {
        const int64_t which = prompt_of(batch, p, first + b);
        if (p->P && (which < 0 || which >= p->count))
            return err_set(err, SPT_E_FORMAT, "example %lld names prompt %lld of %lld",
                           (long long)(first + b), (long long)which, (long long)p->count);
        rows += example_rows(batch, p, first + b);
    }
    if (rows > most)
        return too_large("encoder rows", rows, most, err);
    TRY(check_ids("input", batch->enc_ids + batch->enc_off[first], tokens, a->m->c.vocab, err));
    a->first = first;
    a->B = count;
    a->P = p->P;
    a->prompt_rows = p->first ? p->first[p->count] : p->count * p->P;
    a->P_dec = p->dec ? p->P_dec : 0;
    a->combine = p->combine;
    a->rows = 0;
    a->enc_off[0] = 0;
    for (int64_t b = 0; b < count; b++) {
        const int64_t n = batch->enc_off[first + b + 1] - batch->enc_off[first + b];
        const int64_t which = prompt_of(batch, p, first + b);
        const int64_t P = p->P ? prompt_length(p, which) : 0;
        const int64_t before = P ? tokens_before(p->combine, n) : 0;
        const int64_t total = n + P;
        a->prompt_at[b] = a->rows + before;
        a->prompt_n[b] = total - before < P ? total - before : P;
        a->prompt_row[b] = p->first ? p->first[which] : which * p->P;
        a->rows += total;
        a->enc_off[b + 1] = a->rows;
    }
    return SPT_OK;
}

void add_to_host(t5_acts *a, const void *d, int64_t n, float *to)
{
    for (int64_t at = 0; at < n; at += LINE) {
        const int64_t part = n - at < LINE ? n - at : LINE;
        a->m->t->get(a->m->o, a->line, row_at(a->m, d, at, 1), part);
        for (int64_t i = 0; i < part; i++)
            to[at + i] += a->line[i];
    }
}

bool bad_tensor(const struct block_ctx *b, const char *part, const void *x, int64_t n)
{
    t5_acts *a = b->a;
    if (!a->bad_name || a->bad_name[0])
        return false;
    a->bad_looked++;
    if (b->m->t->find_nonfinite(b->m->o, x, n) < 0)
        return false;
    snprintf(a->bad_name, a->bad_cap, "%s/%s", b->name, part);
    return true;
}
