/* Preparing the frozen weights. Matrices that share their input lie side by side (q | k | v,
 * wi_0 | wi_1, k | v of cross-attention), so that one product serves them. Parameters are fetched,
 * packed and released one group at a time: the peak is the packed model plus one group. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "model/model_internal.h"

struct loader {
    t5_model *m;
    const struct t5_getter *get;
    unsigned uses;
    char layer[48]; /* "encoder/layers_0/" or "" */
};

enum { MAX_PARTS = 3 };

static void release(const struct loader *l, struct t5_param *p)
{
    if (l->get->release)
        l->get->release(l->get->ctx, p);
}

/* Fetches layer + name and checks its shape: [rows, cols] of the T5X layout, cols 0: a vector. */
static spt_status fetch(const struct loader *l, const char *name, int64_t rows, int64_t cols,
                        struct t5_param *out, spt_err *err)
{
    char path[128], got[SHAPE_TEXT], want[SHAPE_TEXT];
    snprintf(path, sizeof path, "%s%s", l->layer, name);
    *out = (struct t5_param){0};
    TRY(l->get->param(l->get->ctx, path, out, err));
    struct tensor_shape s = cols ? shape_2d(rows, cols) : shape_1d(rows);
    if (cols && out->m.transposed)
        s = shape_2d(cols, rows);
    if (shape_equal(&s, &out->m.view.shape))
        return SPT_OK;
    const spt_status st = err_set(err, SPT_E_FORMAT, "%s has shape %s, the configuration wants %s",
                                  path, shape_text(&out->m.view.shape, got), shape_text(&s, want));
    release(l, out);
    return st;
}

/* Rows first .. first + n of something of `whole` rows that this rank holds. */
struct piece {
    int64_t whole, first, n;
};

static struct piece all_of(int64_t n)
{
    return (struct piece){n, 0, n};
}

static struct piece heads_of(const t5_model *m)
{
    const int64_t D = m->c.head_dim;
    return (struct piece){m->c.heads * D, m->first_head * D, m->J};
}

static struct piece ff_of(const t5_model *m)
{
    return (struct piece){m->c.ff, m->first_ff, m->own.ff};
}

static struct piece ids_of(const t5_model *m)
{
    return (struct piece){m->c.vocab, m->first_id, m->own.vocab};
}

/* A prepared matrix from up to MAX_PARTS parameters [K, N] each, or a window of each. */
static spt_status load_matrix(const struct loader *l, int n, const char *const *names,
                              struct piece K, struct piece N, ops_weight **out, spt_err *err)
{
    struct t5_param p[MAX_PARTS];
    struct ops_matrix parts[MAX_PARTS];
    spt_status st = SPT_OK;
    int got = 0;
    for (; got < n && !st; got++) {
        st = fetch(l, names[got], K.whole, N.whole, &p[got], err);
        if (st)
            break;
        parts[got] = ops_matrix_cut(&p[got].m, K.first, K.n, N.first, N.n);
    }
    if (!st)
        st = l->m->t->weight_new(l->m->o, parts, n, l->uses, false, out, err);
    while (got-- > 0)
        release(l, &p[got]);
    return st;
}

static spt_status load_one(const struct loader *l, const char *name, struct piece K,
                           struct piece N, ops_weight **out, spt_err *err)
{
    return load_matrix(l, 1, &name, K, N, out, err);
}

/* Values as float32 on the heap, in T5X layout: [rows.n, cols.n], or a vector. */
static spt_status load_floats(const struct loader *l, const char *name, struct piece rows,
                              struct piece cols, float **out, spt_err *err)
{
    struct t5_param p;
    const int64_t width = cols.n ? cols.n : 1;
    const size_t n = (size_t)rows.n * (size_t)width;
    TRY(fetch(l, name, rows.whole, cols.whole, &p, err));
    float *v = mem_alloc(n, sizeof *v);
    if (!v) {
        release(l, &p);
        return err_nomem(err, n * sizeof *v);
    }
    if (!cols.n) {
        tensor_to_f32(&p.m.view, (size_t)rows.first, (size_t)rows.n, v);
    } else if (!p.m.transposed) {
        for (int64_t r = 0; r < rows.n; r++)
            tensor_to_f32(&p.m.view, (size_t)((rows.first + r) * cols.whole + cols.first),
                          (size_t)width, v + r * width);
    } else {
        for (int64_t c = 0; c < width; c++)
            for (int64_t r = 0; r < rows.n; r++)
                tensor_to_f32(&p.m.view,
                              (size_t)((cols.first + c) * rows.whole + rows.first + r), 1,
                              v + r * width + c);
    }
    release(l, &p);
    *out = v;
    return SPT_OK;
}

/* Copies n host values into a buffer of the backend. */
static spt_status upload(const t5_model *m, const float *v, int64_t n, void **out, spt_err *err)
{
    void *p = m->t->alloc(m->o, (size_t)n * m->t->elem);
    if (!p)
        return err_nomem(err, (size_t)n * m->t->elem);
    m->t->put(m->o, p, v, n);
    *out = p;
    return SPT_OK;
}

static spt_status load_norm(const struct loader *l, const char *name, double factor, void **out,
                            spt_err *err)
{
    const int64_t E = l->m->c.width;
    float *v = NULL;
    TRY(load_floats(l, name, all_of(E), all_of(0), &v, err));
    for (int64_t e = 0; e < E; e++)
        v[e] = (float)((double)v[e] * factor);
    const spt_status st = upload(l->m, v, E, out, err);
    mem_free(v);
    return st;
}

/* Loads a relative bias into the next entry of m->bias. */
static spt_status load_bias(const struct loader *l, const char *name, bool bidirectional,
                            const void **out, spt_err *err)
{
    t5_model *m = l->m;
    const struct t5_config *c = &m->c;
    const int64_t heads = m->own.heads, n = heads * (2 * m->span + 1);
    const struct piece own = {c->heads, m->first_head, heads};
    float *table;
    TRY(load_floats(l, name, own, all_of(c->buckets), &table, err));
    float *by_distance = mem_alloc((size_t)n, sizeof *by_distance);
    spt_status st = by_distance ? SPT_OK : err_nomem(err, (size_t)n * sizeof *by_distance);
    if (!st) {
        relpos_by_distance(table, heads, c->buckets, c->max_distance, bidirectional, m->span,
                           by_distance);
        st = upload(m, by_distance, n, &m->bias[m->nbias], err);
    }
    if (!st)
        *out = m->bias[m->nbias++];
    mem_free(by_distance);
    mem_free(table);
    return st;
}

#define QKV(module)                                                                                \
    (const char *const[])                                                                          \
    {                                                                                              \
        module "/query/kernel", module "/key/kernel", module "/value/kernel"                       \
    }

static spt_status load_self(const struct loader *l, bool encoder, struct self_block *s,
                            spt_err *err)
{
    const struct t5_config *c = &l->m->c;
    const struct piece E = all_of(c->width), J = heads_of(l->m);
    TRY(load_norm(
        l, encoder ? "pre_attention_layer_norm/scale" : "pre_self_attention_layer_norm/scale", 1,
        &s->norm, err));
    TRY(load_matrix(l, 3, encoder ? QKV("attention") : QKV("self_attention"), E, J, &s->qkv, err));
    TRY(load_one(l, encoder ? "attention/out/kernel" : "self_attention/out/kernel", J, E, &s->out,
                 err));
    if (c->per_layer_bias)
        TRY(load_bias(l, "relpos_bias/rel_embedding", encoder, &s->bias, err));
    return SPT_OK;
}

/* The columns of each head of a kernel [E, J] as a matrix of its own. Both directions of the
 * product are needed even without backward: q Wk^T is one. */
static spt_status load_heads(const struct loader *l, const char *name, ops_weight ***out,
                             spt_err *err)
{
    t5_model *m = l->m;
    const int64_t E = m->c.width, D = m->c.head_dim, J = m->J;
    float *all, *one = mem_alloc((size_t)(E * D), sizeof *one);
    ops_weight **heads = mem_zalloc((size_t)m->own.heads, sizeof(ops_weight *));
    spt_status st = one && heads ? load_floats(l, name, all_of(E), heads_of(m), &all, err)
                                 : err_nomem(err, (size_t)(E * D) * sizeof *one);
    if (!st) {
        *out = heads; /* freed with the model from here on */
        for (int64_t h = 0; h < m->own.heads && !st; h++) {
            for (int64_t e = 0; e < E; e++)
                memcpy(one + e * D, all + e * J + h * D, (size_t)D * sizeof *one);
            const struct ops_matrix part = {{DT_F32, shape_2d(E, D), one}, false, 0};
            st =
                m->t->weight_new(m->o, &part, 1, OPS_FORWARD | OPS_BACKWARD, false, &heads[h], err);
        }
        mem_free(all);
    } else {
        mem_free(heads);
    }
    mem_free(one);
    return st;
}

static spt_status load_cross(const struct loader *l, struct cross_block *s, spt_err *err)
{
    const struct piece E = all_of(l->m->c.width), J = heads_of(l->m);
    TRY(load_norm(l, "pre_cross_attention_layer_norm/scale", 1, &s->norm, err));
    TRY(load_one(l, "encoder_decoder_attention/query/kernel", E, J, &s->q, err));
    TRY(load_matrix(l, 2, QKV("encoder_decoder_attention") + 1, E, J, &s->kv, err));
    if (l->m->absorb) {
        TRY(load_heads(l, "encoder_decoder_attention/key/kernel", &s->k_head, err));
        TRY(load_heads(l, "encoder_decoder_attention/value/kernel", &s->v_head, err));
    }
    return load_one(l, "encoder_decoder_attention/out/kernel", J, E, &s->out, err);
}

static spt_status load_mlp(const struct loader *l, struct mlp_block *s, spt_err *err)
{
    const struct piece E = all_of(l->m->c.width), F = ff_of(l->m);
    TRY(load_norm(l, "pre_mlp_layer_norm/scale", 1, &s->norm, err));
    if (l->m->c.gated)
        TRY(load_matrix(l, 2, (const char *const[]){"mlp/wi_0/kernel", "mlp/wi_1/kernel"}, E, F,
                        &s->wi, err));
    else
        TRY(load_one(l, "mlp/wi/kernel", E, F, &s->wi, err));
    return load_one(l, "mlp/wo/kernel", F, E, &s->wo, err);
}

static spt_status load_encoder(struct loader *l, spt_err *err)
{
    t5_model *m = l->m;
    const void *shared = NULL;
    if (!m->c.per_layer_bias)
        TRY(load_bias(l, "encoder/relpos_bias/rel_embedding", true, &shared, err));
    TRY(load_norm(l, "encoder/encoder_norm/scale", 1, &m->enc_norm, err));
    for (int64_t i = 0; i < m->c.enc_layers; i++) {
        snprintf(l->layer, sizeof l->layer, "encoder/layers_%lld/", (long long)i);
        m->enc[i].self.bias = shared;
        TRY(load_self(l, true, &m->enc[i].self, err));
        TRY(load_mlp(l, &m->enc[i].mlp, err));
    }
    l->layer[0] = 0;
    return SPT_OK;
}

static spt_status load_decoder(struct loader *l, spt_err *err)
{
    t5_model *m = l->m;
    const void *shared = NULL;
    if (!m->c.per_layer_bias)
        TRY(load_bias(l, "decoder/relpos_bias/rel_embedding", false, &shared, err));
    /* The factor of tied logits is folded into the last norm, which feeds nothing else. */
    const double factor = m->c.scale_logits ? 1 / sqrt((double)m->c.width) : 1;
    TRY(load_norm(l, "decoder/decoder_norm/scale", factor, &m->dec_norm, err));
    for (int64_t i = 0; i < m->c.dec_layers; i++) {
        snprintf(l->layer, sizeof l->layer, "decoder/layers_%lld/", (long long)i);
        m->dec[i].self.bias = shared;
        TRY(load_self(l, false, &m->dec[i].self, err));
        TRY(load_cross(l, &m->dec[i].cross, err));
        TRY(load_mlp(l, &m->dec[i].mlp, err));
    }
    l->layer[0] = 0;
    return SPT_OK;
}

static spt_status load_embedding(const struct loader *l, spt_err *err)
{
    t5_model *m = l->m;
    struct t5_param p;
    const struct piece V = ids_of(m);
    const int64_t E = m->c.width;
    TRY(fetch(l, "token_embedder/embedding", m->c.vocab, E, &p, err));
    const struct ops_matrix own = ops_matrix_cut(&p.m, V.first, V.n, 0, E);
    spt_status st = m->t->table_new(m->o, &own, &m->embed, err);
    if (!st && m->c.head_is_embedding) {
        struct ops_matrix head = own; /* [V, E] read as [E, V] */
        head.transposed = !head.transposed;
        st = m->t->weight_new(m->o, &head, 1, l->uses, true, &m->head, err);
    }
    release(l, &p);
    if (st || m->c.head_is_embedding)
        return st;
    TRY(fetch(l, "decoder/logits_dense/kernel", E, m->c.vocab, &p, err));
    const struct ops_matrix head = ops_matrix_cut(&p.m, 0, E, V.first, V.n);
    st = m->t->weight_new(m->o, &head, 1, l->uses, true, &m->head, err);
    release(l, &p);
    return st;
}

static spt_status check_config(const struct t5_config *c, spt_err *err)
{
    const struct {
        const char *name;
        int64_t value, min, max;
    } fields[] = {
        {"vocabulary size", c->vocab, 1, INT32_MAX},
        {"width", c->width, 1, 1 << 20},
        {"number of heads", c->heads, 1, 1 << 20},
        {"head width", c->head_dim, 1, 1 << 20},
        {"heads times head width", c->heads * c->head_dim, 1, 1 << 20},
        {"feed-forward width", c->ff, 1, 1 << 24},
        {"number of encoder layers", c->enc_layers, 0, 10000},
        {"number of decoder layers", c->dec_layers, 0, 10000},
        {"number of relative position buckets", c->buckets, 4, 1 << 16},
        {"largest relative distance", c->max_distance, c->buckets / 2 + 1, 1 << 24},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        if (fields[i].value < fields[i].min || fields[i].value > fields[i].max)
            return err_set(err, SPT_E_CONFIG, "%s is %lld, must be in %lld..%lld", fields[i].name,
                           (long long)fields[i].value, (long long)fields[i].min,
                           (long long)fields[i].max);
    return SPT_OK;
}

spt_status t5_model_new_from(ops *o, const struct t5_getter *get, unsigned uses, t5_model **out,
                             spt_err *err)
{
    return t5_model_new_part_from(o, get, uses, NULL, out, err);
}

spt_status t5_model_new_part_from(ops *o, const struct t5_getter *get, unsigned uses, comm *ranks,
                                  t5_model **out, spt_err *err)
{
    const bool backward = uses & T5_BACKWARD;
    const struct t5_config *c = get->config;
    TRY(check_config(c, err));
    t5_model *m = mem_zalloc(1, sizeof *m);
    if (!m)
        return err_nomem(err, sizeof *m);
    *m = (t5_model){.o = o,
                    .t = o->t,
                    .c = *c,
                    .backward = backward,
                    .absorb = uses & T5_ABSORB,
                    .span = relpos_span(c)};
    m->enc = mem_zalloc((size_t)c->enc_layers, sizeof *m->enc);
    m->dec = mem_zalloc((size_t)c->dec_layers, sizeof *m->dec);
    m->bias = mem_zalloc((size_t)(c->enc_layers + c->dec_layers + 2), sizeof *m->bias);
    struct loader l = {.m = m, .get = get, .uses = OPS_FORWARD | (backward ? OPS_BACKWARD : 0)};
    spt_status st = SPT_OK;
    if (!m->enc || !m->dec || !m->bias)
        st = err_nomem(err, sizeof *m->enc);
    if (!st)
        st = split_open(m, ranks, err);
    if (!st)
        st = load_embedding(&l, err);
    if (!st)
        st = load_encoder(&l, err);
    if (!st)
        st = load_decoder(&l, err);
    if (st) {
        t5_model_free(m);
        return st;
    }
    *out = m;
    return SPT_OK;
}

static void free_self(t5_model *m, struct self_block *s)
{
    m->t->release(m->o, s->norm);
    m->t->weight_free(m->o, s->qkv);
    m->t->weight_free(m->o, s->out);
}

static void free_heads(t5_model *m, ops_weight **heads)
{
    for (int64_t h = 0; heads && h < m->own.heads; h++)
        m->t->weight_free(m->o, heads[h]);
    mem_free(heads);
}

static void free_mlp(t5_model *m, struct mlp_block *s)
{
    m->t->release(m->o, s->norm);
    m->t->weight_free(m->o, s->wi);
    m->t->weight_free(m->o, s->wo);
}

void t5_model_free(t5_model *m)
{
    if (!m)
        return;
    for (int64_t i = 0; m->enc && i < m->c.enc_layers; i++) {
        free_self(m, &m->enc[i].self);
        free_mlp(m, &m->enc[i].mlp);
    }
    for (int64_t i = 0; m->dec && i < m->c.dec_layers; i++) {
        free_self(m, &m->dec[i].self);
        m->t->release(m->o, m->dec[i].cross.norm);
        m->t->weight_free(m->o, m->dec[i].cross.q);
        m->t->weight_free(m->o, m->dec[i].cross.kv);
        m->t->weight_free(m->o, m->dec[i].cross.out);
        free_heads(m, m->dec[i].cross.k_head);
        free_heads(m, m->dec[i].cross.v_head);
        free_mlp(m, &m->dec[i].mlp);
    }
    for (int64_t i = 0; i < m->nbias; i++)
        m->t->release(m->o, m->bias[i]);
    m->t->release(m->o, m->enc_norm);
    m->t->release(m->o, m->dec_norm);
    m->t->weight_free(m->o, m->embed);
    m->t->weight_free(m->o, m->head);
    mem_free(m->enc);
    mem_free(m->dec);
    mem_free(m->bias);
    split_close(m);
    mem_free(m);
}

const struct t5_config *t5_model_config(const t5_model *m)
{
    return &m->c;
}

ops *t5_model_ops(const t5_model *m)
{
    return m->o;
}

size_t t5_model_bytes(const t5_model *m)
{
    size_t n = m->t->weight_bytes(m->embed) + m->t->weight_bytes(m->head);
    for (int64_t i = 0; i < m->c.enc_layers; i++) {
        const struct enc_layer *l = &m->enc[i];
        n += m->t->weight_bytes(l->self.qkv) + m->t->weight_bytes(l->self.out) +
             m->t->weight_bytes(l->mlp.wi) + m->t->weight_bytes(l->mlp.wo);
    }
    for (int64_t i = 0; i < m->c.dec_layers; i++) {
        const struct dec_layer *l = &m->dec[i];
        n += m->t->weight_bytes(l->self.qkv) + m->t->weight_bytes(l->self.out) +
             m->t->weight_bytes(l->cross.q) + m->t->weight_bytes(l->cross.kv) +
             m->t->weight_bytes(l->cross.out) + m->t->weight_bytes(l->mlp.wi) +
             m->t->weight_bytes(l->mlp.wo);
        for (int64_t h = 0; l->cross.k_head && h < m->own.heads; h++)
            n += m->t->weight_bytes(l->cross.k_head[h]) + m->t->weight_bytes(l->cross.v_head[h]);
    }
    return n;
}

spt_status t5_model_embed(const t5_model *m, const int32_t *ids, int64_t n, float *out,
                          spt_err *err)
{
    for (int64_t i = 0; i < n; i++)
        if (ids[i] < 0 || ids[i] >= m->c.vocab)
            return err_set(err, SPT_E_FORMAT, "token id %d is not in 0..%lld", ids[i],
                           (long long)m->c.vocab - 1);
    void *row = m->t->alloc(m->o, (size_t)m->c.width * m->t->elem);
    if (!row)
        return err_nomem(err, (size_t)m->c.width * m->t->elem);
    for (int64_t i = 0; i < n; i++) {
        split_gather(m, &ids[i], 1, row);
        m->t->get(m->o, out + i * m->c.width, row, m->c.width);
    }
    split_sum_host(m, out, n * m->c.width);
    m->t->release(m->o, row);
    return model_check(m, err);
}
