#include "model/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_LAYERS = 1000 };

enum when { ALWAYS, GATED, PLAIN, UNTIED, SHARED_TABLE, LAYER_TABLE };

/* '#' is the layer. Shapes in the letters of spec/t5x.md: V vocabulary, E width, J heads * head
 * width, F feed-forward, H heads, R buckets. Two letters: transposed in Hugging Face files, but
 * for the embedding. */
static const struct row {
    const char *t5x, *hf, *shape;
    enum when when;
} rows[] = {
    {"token_embedder/embedding", "shared.weight", "VE", ALWAYS},
    {"encoder/encoder_norm/scale", "encoder.final_layer_norm.weight", "E", ALWAYS},
    {"encoder/relpos_bias/rel_embedding",
     "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "HR", SHARED_TABLE},
    {"decoder/decoder_norm/scale", "decoder.final_layer_norm.weight", "E", ALWAYS},
    {"decoder/relpos_bias/rel_embedding",
     "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "HR", SHARED_TABLE},
    {"decoder/logits_dense/kernel", "lm_head.weight", "EV", UNTIED},
};
static const struct row encoder_rows[] = {
    {"encoder/layers_#/pre_attention_layer_norm/scale", "encoder.block.#.layer.0.layer_norm.weight",
     "E", ALWAYS},
    {"encoder/layers_#/attention/query/kernel", "encoder.block.#.layer.0.SelfAttention.q.weight",
     "EJ", ALWAYS},
    {"encoder/layers_#/attention/key/kernel", "encoder.block.#.layer.0.SelfAttention.k.weight",
     "EJ", ALWAYS},
    {"encoder/layers_#/attention/value/kernel", "encoder.block.#.layer.0.SelfAttention.v.weight",
     "EJ", ALWAYS},
    {"encoder/layers_#/attention/out/kernel", "encoder.block.#.layer.0.SelfAttention.o.weight",
     "JE", ALWAYS},
    {"encoder/layers_#/relpos_bias/rel_embedding",
     "encoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight", "HR", LAYER_TABLE},
    {"encoder/layers_#/pre_mlp_layer_norm/scale", "encoder.block.#.layer.1.layer_norm.weight", "E",
     ALWAYS},
    {"encoder/layers_#/mlp/wi_0/kernel", "encoder.block.#.layer.1.DenseReluDense.wi_0.weight", "EF",
     GATED},
    {"encoder/layers_#/mlp/wi_1/kernel", "encoder.block.#.layer.1.DenseReluDense.wi_1.weight", "EF",
     GATED},
    {"encoder/layers_#/mlp/wi/kernel", "encoder.block.#.layer.1.DenseReluDense.wi.weight", "EF",
     PLAIN},
    {"encoder/layers_#/mlp/wo/kernel", "encoder.block.#.layer.1.DenseReluDense.wo.weight", "FE",
     ALWAYS},
};
static const struct row decoder_rows[] = {
    {"decoder/layers_#/pre_self_attention_layer_norm/scale",
     "decoder.block.#.layer.0.layer_norm.weight", "E", ALWAYS},
    {"decoder/layers_#/self_attention/query/kernel",
     "decoder.block.#.layer.0.SelfAttention.q.weight", "EJ", ALWAYS},
    {"decoder/layers_#/self_attention/key/kernel", "decoder.block.#.layer.0.SelfAttention.k.weight",
     "EJ", ALWAYS},
    {"decoder/layers_#/self_attention/value/kernel",
     "decoder.block.#.layer.0.SelfAttention.v.weight", "EJ", ALWAYS},
    {"decoder/layers_#/self_attention/out/kernel", "decoder.block.#.layer.0.SelfAttention.o.weight",
     "JE", ALWAYS},
    {"decoder/layers_#/relpos_bias/rel_embedding",
     "decoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight", "HR", LAYER_TABLE},
    {"decoder/layers_#/pre_cross_attention_layer_norm/scale",
     "decoder.block.#.layer.1.layer_norm.weight", "E", ALWAYS},
    {"decoder/layers_#/encoder_decoder_attention/query/kernel",
     "decoder.block.#.layer.1.EncDecAttention.q.weight", "EJ", ALWAYS},
    {"decoder/layers_#/encoder_decoder_attention/key/kernel",
     "decoder.block.#.layer.1.EncDecAttention.k.weight", "EJ", ALWAYS},
    {"decoder/layers_#/encoder_decoder_attention/value/kernel",
     "decoder.block.#.layer.1.EncDecAttention.v.weight", "EJ", ALWAYS},
    {"decoder/layers_#/encoder_decoder_attention/out/kernel",
     "decoder.block.#.layer.1.EncDecAttention.o.weight", "JE", ALWAYS},
    {"decoder/layers_#/pre_mlp_layer_norm/scale", "decoder.block.#.layer.2.layer_norm.weight", "E",
     ALWAYS},
    {"decoder/layers_#/mlp/wi_0/kernel", "decoder.block.#.layer.2.DenseReluDense.wi_0.weight", "EF",
     GATED},
    {"decoder/layers_#/mlp/wi_1/kernel", "decoder.block.#.layer.2.DenseReluDense.wi_1.weight", "EF",
     GATED},
    {"decoder/layers_#/mlp/wi/kernel", "decoder.block.#.layer.2.DenseReluDense.wi.weight", "EF",
     PLAIN},
    {"decoder/layers_#/mlp/wo/kernel", "decoder.block.#.layer.2.DenseReluDense.wo.weight", "FE",
     ALWAYS},
};
#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* Tensors of real checkpoints that no T5 forward uses (field case 05, rulings 17). */
static const struct {
    const char *pattern;
    enum t5_leftover what;
} leftovers[] = {
    {"encoder.block.#.layer.#.layer_norm.bias", T5_MUST_BE_ZERO},
    {"decoder.block.#.layer.#.layer_norm.bias", T5_MUST_BE_ZERO},
    {"encoder.final_layer_norm.bias", T5_MUST_BE_ZERO},
    {"decoder.final_layer_norm.bias", T5_MUST_BE_ZERO},
    {"decoder.block.#.layer.1.EncDecAttention.relative_attention_bias.weight", T5_IGNORED},
    {"shared.weight", T5_EMBEDDING_COPY},
    {"encoder.embed_tokens.weight", T5_EMBEDDING_COPY},
    {"decoder.embed_tokens.weight", T5_EMBEDDING_COPY},
    {"lm_head.weight", T5_EMBEDDING_COPY},
    {"encoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight", T5_TABLE_COPY},
    {"decoder.block.#.layer.0.SelfAttention.relative_attention_bias.weight", T5_TABLE_COPY},
};

bool t5_names_match(const char *pattern, const char *name, int64_t *number)
{
    bool first = true;
    for (; *pattern; pattern++) {
        if (*pattern != '#') {
            if (*name++ != *pattern)
                return false;
            continue;
        }
        int64_t v = 0;
        const char *start = name;
        while (*name >= '0' && *name <= '9' && name - start < 9)
            v = v * 10 + (*name++ - '0');
        if (name == start || (*start == '0' && name - start > 1))
            return false;
        if (first && number)
            *number = v;
        first = false;
    }
    return !*name;
}

enum t5_leftover t5_leftover_of(const char *hf_name)
{
    for (size_t i = 0; i < COUNT(leftovers); i++)
        if (t5_names_match(leftovers[i].pattern, hf_name, NULL))
            return leftovers[i].what;
    return T5_STRANGER;
}

int t5_names_compare(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    /* The end of a component sorts before everything else. */
    const int x = *a == '/' ? 1 : *a ? (unsigned char)*a + 1 : 0;
    const int y = *b == '/' ? 1 : *b ? (unsigned char)*b + 1 : 0;
    return x - y;
}

static int by_t5x(const void *a, const void *b)
{
    return t5_names_compare(((const struct t5_name *)a)->t5x, ((const struct t5_name *)b)->t5x);
}

static bool wanted(const struct t5_config *c, enum when when)
{
    switch (when) {
    case GATED:
        return c->gated;
    case PLAIN:
        return !c->gated;
    case UNTIED:
        return !c->head_is_embedding;
    case SHARED_TABLE:
        return !c->per_layer_bias;
    case LAYER_TABLE:
        return c->per_layer_bias;
    default:
        return true;
    }
}

static int64_t dim_of(const struct t5_config *c, char letter)
{
    switch (letter) {
    case 'V':
        return c->vocab;
    case 'E':
        return c->width;
    case 'J':
        return c->heads * c->head_dim;
    case 'F':
        return c->ff;
    case 'H':
        return c->heads;
    default:
        return c->buckets;
    }
}

static void put_name(char *out, const char *pattern, int64_t layer)
{
    const char *hash = strchr(pattern, '#');
    if (hash)
        snprintf(out, T5_NAME_TEXT, "%.*s%lld%s", (int)(hash - pattern), pattern, (long long)layer,
                 hash + 1);
    else
        snprintf(out, T5_NAME_TEXT, "%s", pattern);
}

static size_t add_rows(const struct t5_config *c, const struct row *r, size_t n, int64_t layer,
                       struct t5_name *out)
{
    size_t added = 0;
    for (size_t i = 0; i < n; i++) {
        if (!wanted(c, r[i].when))
            continue;
        struct t5_name *t = &out[added++];
        memset(t, 0, sizeof *t);
        put_name(t->t5x, r[i].t5x, layer);
        put_name(t->hf, r[i].hf, layer);
        t->shape.rank = (int)strlen(r[i].shape);
        for (int d = 0; d < t->shape.rank; d++)
            t->shape.dim[d] = dim_of(c, r[i].shape[d]);
        t->transposed = t->shape.rank == 2 && r[i].shape[0] != 'V';
    }
    return added;
}

spt_status t5_names_list(const struct t5_config *c, struct t5_name **out, size_t *count,
                         spt_err *err)
{
    if (c->enc_layers < 1 || c->dec_layers < 1 || c->enc_layers > MAX_LAYERS ||
        c->dec_layers > MAX_LAYERS)
        return err_set(err, SPT_E_CONFIG, "%lld encoder and %lld decoder layers are not in 1..%d",
                       (long long)c->enc_layers, (long long)c->dec_layers, MAX_LAYERS);
    const size_t most = COUNT(rows) + (size_t)c->enc_layers * COUNT(encoder_rows) +
                        (size_t)c->dec_layers * COUNT(decoder_rows);
    struct t5_name *t = mem_alloc(most, sizeof *t);
    if (!t)
        return err_nomem(err, most * sizeof *t);
    size_t n = add_rows(c, rows, COUNT(rows), 0, t);
    for (int64_t i = 0; i < c->enc_layers; i++)
        n += add_rows(c, encoder_rows, COUNT(encoder_rows), i, t + n);
    for (int64_t i = 0; i < c->dec_layers; i++)
        n += add_rows(c, decoder_rows, COUNT(decoder_rows), i, t + n);
    qsort(t, n, sizeof *t, by_t5x);
    *out = t;
    *count = n;
    return SPT_OK;
}
