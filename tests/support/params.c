#include "support/params.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

double test_uniform(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    z ^= z >> 31;
    return (double)(z >> 11) * 0x1p-52 - 1;
}

struct t5_config params_small_config(void)
{
    return (struct t5_config){.vocab = 23,
                              .width = 16,
                              .heads = 2,
                              .head_dim = 6,
                              .ff = 20,
                              .enc_layers = 2,
                              .dec_layers = 2,
                              .buckets = 8,
                              .max_distance = 12,
                              .act = OPS_GELU_TANH,
                              .gated = true,
                              .norm_eps = 1e-6f,
                              .eos_id = 1};
}

static size_t count(const struct tensor_shape *s)
{
    size_t n = 1;
    for (int i = 0; i < s->rank; i++)
        n *= (size_t)s->dim[i];
    return n;
}

float *params_add(struct test_params *s, const char *name, struct tensor_shape shape)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? 2 * s->cap : 64;
        s->p = realloc(s->p, s->cap * sizeof *s->p);
    }
    struct test_param *p = &s->p[s->n++];
    snprintf(p->name, sizeof p->name, "%s", name);
    p->shape = shape;
    p->v = calloc(count(&shape) + 1, sizeof *p->v);
    return p->v;
}

float *params_find(struct test_params *s, const char *name)
{
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->p[i].name, name))
            return s->p[i].v;
    return NULL;
}

void params_free(struct test_params *s)
{
    for (size_t i = 0; i < s->n; i++)
        free(s->p[i].v);
    free(s->p);
    *s = (struct test_params){0};
}

/* Values center + spread * uniform, on a grid of 2^-12 so that steps of a difference are exact. */
static void fill(struct test_params *s, const char *stack, int64_t layer, const char *name,
                 struct tensor_shape shape, double center, double spread, uint64_t *seed)
{
    char path[96];
    if (layer < 0)
        snprintf(path, sizeof path, "%s/%s", stack, name);
    else
        snprintf(path, sizeof path, "%s/layers_%d/%s", stack, (int)layer, name);
    float *v = params_add(s, path, shape);
    for (size_t i = 0; i < count(&shape); i++)
        v[i] = (float)((double)(long)((center + spread * test_uniform(seed)) * 4096) / 4096);
}

static void random_attention(struct test_params *s, const char *stack, int64_t layer,
                             const char *module, uint64_t *seed)
{
    const struct t5_config *c = &s->config;
    const int64_t E = c->width, J = c->heads * c->head_dim;
    static const char *const parts[] = {"query", "key", "value"};
    char name[64];
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%s/%s/kernel", module, parts[i]);
        fill(s, stack, layer, name, shape_2d(E, J), 0, 0.6, seed);
    }
    snprintf(name, sizeof name, "%s/out/kernel", module);
    fill(s, stack, layer, name, shape_2d(J, E), 0, 0.6, seed);
}

static void random_mlp(struct test_params *s, const char *stack, int64_t layer, uint64_t *seed)
{
    const struct t5_config *c = &s->config;
    fill(s, stack, layer, "pre_mlp_layer_norm/scale", shape_1d(c->width), 1, 0.5, seed);
    if (c->gated) {
        fill(s, stack, layer, "mlp/wi_0/kernel", shape_2d(c->width, c->ff), 0, 0.5, seed);
        fill(s, stack, layer, "mlp/wi_1/kernel", shape_2d(c->width, c->ff), 0, 0.5, seed);
    } else {
        fill(s, stack, layer, "mlp/wi/kernel", shape_2d(c->width, c->ff), 0, 0.5, seed);
    }
    fill(s, stack, layer, "mlp/wo/kernel", shape_2d(c->ff, c->width), 0, 0.5, seed);
}

static void random_stack(struct test_params *s, const char *stack, int64_t layers, uint64_t *seed)
{
    const struct t5_config *c = &s->config;
    const bool enc = !strcmp(stack, "encoder");
    const struct tensor_shape E = shape_1d(c->width), bias = shape_2d(c->heads, c->buckets);
    fill(s, stack, -1, enc ? "encoder_norm/scale" : "decoder_norm/scale", E, 1, 0.5, seed);
    if (!c->per_layer_bias)
        fill(s, stack, -1, "relpos_bias/rel_embedding", bias, 0, 1, seed);
    for (int64_t i = 0; i < layers; i++) {
        if (c->per_layer_bias)
            fill(s, stack, i, "relpos_bias/rel_embedding", bias, 0, 1, seed);
        fill(s, stack, i,
             enc ? "pre_attention_layer_norm/scale" : "pre_self_attention_layer_norm/scale", E, 1,
             0.5, seed);
        random_attention(s, stack, i, enc ? "attention" : "self_attention", seed);
        if (!enc) {
            fill(s, stack, i, "pre_cross_attention_layer_norm/scale", E, 1, 0.5, seed);
            random_attention(s, stack, i, "encoder_decoder_attention", seed);
        }
        random_mlp(s, stack, i, seed);
    }
}

void params_random(struct test_params *s, const struct t5_config *c, uint64_t seed)
{
    *s = (struct test_params){.config = *c};
    fill(s, "token_embedder", -1, "embedding", shape_2d(c->vocab, c->width), 0, 1.5, &seed);
    random_stack(s, "encoder", c->enc_layers, &seed);
    random_stack(s, "decoder", c->dec_layers, &seed);
    if (!c->head_is_embedding)
        fill(s, "decoder", -1, "logits_dense/kernel", shape_2d(c->width, c->vocab), 0, 0.5, &seed);
}

static spt_status get_param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    struct test_params *s = ctx;
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->p[i].name, name)) {
            *out = (struct t5_param){.m.view = {DT_F32, s->p[i].shape, s->p[i].v}, .id = i};
            return SPT_OK;
        }
    return err_set(err, SPT_E_NOTFOUND, "no parameter %s", name);
}

struct t5_getter params_getter(struct test_params *s)
{
    return (struct t5_getter){.ctx = s, .config = &s->config, .param = get_param};
}

/* --- batches ------------------------------------------------------------------------------- */

static void batch_storage(struct test_batch *t, int64_t B, int64_t enc, int64_t dec)
{
    *t = (struct test_batch){0};
    t->enc_off = calloc((size_t)B + 1, sizeof *t->enc_off);
    t->dec_off = calloc((size_t)B + 1, sizeof *t->dec_off);
    t->index = calloc((size_t)B + 1, sizeof *t->index);
    t->prompt_of = calloc((size_t)B + 1, sizeof *t->prompt_of);
    t->enc_ids = calloc((size_t)enc + 1, sizeof *t->enc_ids);
    t->dec_in = calloc((size_t)dec + 1, sizeof *t->dec_in);
    t->dec_target = calloc((size_t)dec + 1, sizeof *t->dec_target);
    t->weight = calloc((size_t)dec + 1, sizeof *t->weight);
    t->b.B = B;
}

static void batch_link(struct test_batch *t)
{
    t->b.enc_off = t->enc_off;
    t->b.enc_ids = t->enc_ids;
    t->b.dec_off = t->dec_off;
    t->b.dec_in = t->dec_in;
    t->b.dec_target = t->dec_target;
    t->b.dec_weight = t->weight;
    t->b.index = t->index;
    t->b.prompt_of = t->prompt_of;
}

static int64_t below(uint64_t *seed, int64_t n)
{
    return (int64_t)((test_uniform(seed) + 1) / 2 * (double)n);
}

void batch_random(struct test_batch *t, int64_t B, int64_t max_enc, int64_t max_dec, int64_t vocab,
                  uint64_t seed)
{
    batch_storage(t, B, B * max_enc, B * max_dec);
    for (int64_t b = 0; b < B; b++) {
        const int64_t n = max_enc > 1 ? 1 + below(&seed, max_enc - 1) : max_enc;
        const int64_t d = 1 + below(&seed, max_dec - 1);
        for (int64_t i = 0; i < n; i++)
            t->enc_ids[t->enc_off[b] + i] = (int32_t)(1 + below(&seed, vocab - 1));
        for (int64_t i = 0; i < d; i++) {
            const int64_t at = t->dec_off[b] + i;
            t->dec_target[at] = (int32_t)(1 + below(&seed, vocab - 1));
            t->dec_in[at] = i ? t->dec_target[at - 1] : 0;
            t->weight[at] = 1;
        }
        t->enc_off[b + 1] = t->enc_off[b] + n;
        t->dec_off[b + 1] = t->dec_off[b] + d;
        t->index[b] = b;
    }
    t->b.Le = max_enc;
    t->b.Ld = max_dec;
    batch_link(t);
}

static int64_t used(const int32_t *ids, int64_t n)
{
    while (n && !ids[n - 1])
        n--;
    return n;
}

void batch_pack(struct test_batch *t, int64_t B, int64_t Le, const int32_t *enc, int64_t Ld,
                const int32_t *dec_in, const int32_t *target, const int32_t *weights)
{
    batch_storage(t, B, B * Le, B * Ld);
    for (int64_t b = 0; b < B; b++) {
        const int64_t n = used(enc + b * Le, Le), d = used(target + b * Ld, Ld);
        memcpy(t->enc_ids + t->enc_off[b], enc + b * Le, (size_t)n * sizeof *enc);
        memcpy(t->dec_in + t->dec_off[b], dec_in + b * Ld, (size_t)d * sizeof *enc);
        memcpy(t->dec_target + t->dec_off[b], target + b * Ld, (size_t)d * sizeof *enc);
        for (int64_t i = 0; i < d; i++)
            t->weight[t->dec_off[b] + i] = weights ? (float)weights[b * Ld + i] : 1;
        t->enc_off[b + 1] = t->enc_off[b] + n;
        t->dec_off[b + 1] = t->dec_off[b] + d;
        t->index[b] = b;
    }
    t->b.Le = Le;
    t->b.Ld = Ld;
    batch_link(t);
}

void batch_select(struct test_batch *t, const struct test_batch *from, const int *which, int n)
{
    int64_t enc = 0, dec = 0;
    for (int i = 0; i < n; i++) {
        enc += from->enc_off[which[i] + 1] - from->enc_off[which[i]];
        dec += from->dec_off[which[i] + 1] - from->dec_off[which[i]];
    }
    batch_storage(t, n, enc, dec);
    for (int i = 0; i < n; i++) {
        const int b = which[i];
        const int64_t e = from->enc_off[b + 1] - from->enc_off[b];
        const int64_t d = from->dec_off[b + 1] - from->dec_off[b], to = t->dec_off[i];
        memcpy(t->enc_ids + t->enc_off[i], from->enc_ids + from->enc_off[b], (size_t)e * 4);
        memcpy(t->dec_in + to, from->dec_in + from->dec_off[b], (size_t)d * 4);
        memcpy(t->dec_target + to, from->dec_target + from->dec_off[b], (size_t)d * 4);
        memcpy(t->weight + to, from->weight + from->dec_off[b], (size_t)d * 4);
        t->enc_off[i + 1] = t->enc_off[i] + e;
        t->dec_off[i + 1] = to + d;
        t->index[i] = from->index[b];
        t->prompt_of[i] = from->prompt_of[b];
    }
    t->b.Le = from->b.Le;
    t->b.Ld = from->b.Ld;
    batch_link(t);
}

void batch_free(struct test_batch *t)
{
    free(t->enc_off);
    free(t->dec_off);
    free(t->index);
    free(t->prompt_of);
    free(t->enc_ids);
    free(t->dec_in);
    free(t->dec_target);
    free(t->weight);
    *t = (struct test_batch){0};
}

struct t5_acts_plan batch_plan(const struct packed_batch *b, int64_t P, int64_t P_dec)
{
    return (struct t5_acts_plan){.rows = b->enc_off[b->B] + b->B * P,
                                 .dec_rows = b->dec_off[b->B] + b->B * P_dec,
                                 .examples = b->B};
}
