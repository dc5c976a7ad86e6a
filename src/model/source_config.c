/* What model a set of tensors is.
 *
 * Sizes always come from the tensors: they cannot lie about themselves. config.json adds what
 * tensors cannot say (activation, scaling, epsilon, special ids). Where it disagrees about a size
 * the tensors win with one warning; where it disagrees about the structure (layers, gating) there
 * is no right reading and the error names both. */
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/log.h"
#include "model/source_internal.h"

enum { MAX_INDEX = 999 };

static const char *const embedding_names[] = {"shared.weight", "encoder.embed_tokens.weight",
                                              "decoder.embed_tokens.weight"};

/* --- sizes -------------------------------------------------------------------------------- */

static spt_status need(const struct source_files *f, const char *name, int rank, size_t *index,
                       spt_err *err)
{
    char t[SHAPE_TEXT];
    if (!source_find(f, name, index))
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s%s' is missing", store_path(f->s),
                       f->prefix, name);
    const struct store_info *info = store_at(f->s, *index);
    if (info->shape.rank != rank || info->elements == 0)
        return err_set(err, SPT_E_FORMAT, "%s: tensor '%s' has shape %s, not %d dimensions > 0",
                       store_path(f->s), info->name, shape_text(&info->shape, t), rank);
    return SPT_OK;
}

/* One dimension of a matrix given by its T5X orientation. */
static int64_t dim_of(const struct source_files *f, size_t index, int d, bool transposed)
{
    return store_at(f->s, index)->shape.dim[f->hf && transposed ? 1 - d : d];
}

/* Number of layers: the highest index +1. Holes show up as missing tensors. */
static int64_t count_layers(const struct source_files *f, const char *pattern)
{
    const size_t skip = strlen(f->prefix);
    int64_t most = -1;
    for (size_t i = 0; i < store_count(f->s); i++) {
        const char *name = store_at(f->s, i)->name;
        int64_t layer = 0;
        if (strncmp(name, f->prefix, skip) != 0)
            continue;
        name += skip;
        const char *digits = name + strcspn(name, "0123456789");
        const size_t n = (size_t)(digits - name) + strspn(digits, "0123456789");
        char head[T5_NAME_TEXT];
        if (n >= sizeof head || (name[n] != '/' && name[n] != '.'))
            continue;
        memcpy(head, name, n);
        head[n] = '\0';
        if (t5_names_match(pattern, head, &layer) && layer <= MAX_INDEX && layer > most)
            most = layer;
    }
    return most + 1;
}

spt_status source_refuse_scanned(const struct source_files *f, spt_err *err)
{
    static const char *const patterns[] = {"encoder/encoder/", "decoder/decoder/",
                                           "encoder/layers/", "decoder/layers/"};
    const size_t skip = strlen(f->prefix);
    for (size_t i = 0; !f->hf && i < store_count(f->s); i++) {
        const char *name = store_at(f->s, i)->name;
        for (size_t k = 0; k < sizeof patterns / sizeof patterns[0]; k++)
            if (!strncmp(name, f->prefix, skip) &&
                !strncmp(name + skip, patterns[k], strlen(patterns[k])))
                return err_set(err, SPT_E_FORMAT,
                               "%s: '%s' stacks all layers in one tensor (scan_layers), which is "
                               "not supported; convert the checkpoint to unscanned layers",
                               store_path(f->s), name);
    }
    return SPT_OK;
}

static spt_status find_embedding(const struct source_files *f, size_t *index, spt_err *err)
{
    if (!f->hf)
        return need(f, "token_embedder/embedding", 2, index, err);
    for (size_t i = 0; i < sizeof embedding_names / sizeof embedding_names[0]; i++)
        if (source_find(f, embedding_names[i], index))
            return need(f, embedding_names[i], 2, index, err);
    /* A tied model may have been saved with its head only. */
    if (f->has_config && f->config.tie_word_embeddings && source_find(f, "lm_head.weight", index))
        return need(f, "lm_head.weight", 2, index, err);
    return err_set(err, SPT_E_FORMAT, "%s: tensor 'shared.weight' is missing", store_path(f->s));
}

/* [heads, buckets] under the T5X name. */
static spt_status read_table(const struct source_files *f, struct t5_config *c, spt_err *err)
{
    size_t i;
    const char *name = f->hf
                           ? "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"
                       : c->per_layer_bias ? "encoder/layers_0/relpos_bias/rel_embedding"
                                           : "encoder/relpos_bias/rel_embedding";
    TRY(need(f, name, 2, &i, err));
    c->heads = dim_of(f, i, 0, true);
    c->buckets = dim_of(f, i, 1, true);
    const struct hf_config *h = &f->config;
    if (f->has_config && h->has_num_heads && h->num_heads != c->heads &&
        h->num_heads == c->buckets && h->relative_attention_num_buckets == c->heads) {
        char t[SHAPE_TEXT];
        return err_set(err, SPT_E_FORMAT,
                       "%s: tensor '%s' %s is transposed (config.json: %lld heads, %lld buckets); "
                       "the file was made by a faulty converter",
                       store_path(f->s), name, shape_text(&store_at(f->s, i)->shape, t),
                       (long long)h->num_heads, (long long)h->relative_attention_num_buckets);
    }
    return SPT_OK;
}

static spt_status read_sizes(const struct source_files *f, struct t5_config *c, size_t embedding,
                             spt_err *err)
{
    size_t q = 0, wi = 0;
    c->vocab = store_at(f->s, embedding)->shape.dim[0];
    c->width = store_at(f->s, embedding)->shape.dim[1];
    c->enc_layers = count_layers(f, f->hf ? "encoder.block.#" : "encoder/layers_#");
    c->dec_layers = count_layers(f, f->hf ? "decoder.block.#" : "decoder/layers_#");
    if (!c->enc_layers || !c->dec_layers)
        return err_set(err, SPT_E_FORMAT, "%s: no %s layers: not an encoder-decoder T5",
                       store_path(f->s), c->enc_layers ? "decoder" : "encoder");
    TRY(need(f,
             f->hf ? "encoder.block.0.layer.0.SelfAttention.q.weight"
                   : "encoder/layers_0/attention/query/kernel",
             2, &q, err));
    TRY(read_table(f, c, err));
    const int64_t joined = dim_of(f, q, 1, true);
    if (joined % c->heads)
        return err_set(err, SPT_E_FORMAT,
                       "%s: '%s' gives %lld columns to %lld heads (of the relative-position "
                       "table), which does not divide",
                       store_path(f->s), store_at(f->s, q)->name, (long long)joined,
                       (long long)c->heads);
    c->head_dim = joined / c->heads;
    c->gated = source_find(f,
                           f->hf ? "encoder.block.0.layer.1.DenseReluDense.wi_0.weight"
                                 : "encoder/layers_0/mlp/wi_0/kernel",
                           &wi);
    if (!c->gated)
        TRY(need(f,
                 f->hf ? "encoder.block.0.layer.1.DenseReluDense.wi.weight"
                       : "encoder/layers_0/mlp/wi/kernel",
                 2, &wi, err));
    if (store_at(f->s, wi)->shape.rank != 2)
        return err_set(err, SPT_E_FORMAT, "%s: '%s' is not a matrix", store_path(f->s),
                       store_at(f->s, wi)->name);
    c->ff = dim_of(f, wi, 1, true);
    return SPT_OK;
}

/* One warning for all sizes that config.json has wrong. */
static void warn_sizes(const struct source_files *f, const struct t5_config *c)
{
    const struct hf_config *h = &f->config;
    const struct {
        const char *name;
        bool has;
        int64_t says, is;
    } sizes[] = {
        {"vocab_size", h->has_vocab_size, h->vocab_size, c->vocab},
        {"d_model", h->has_d_model, h->d_model, c->width},
        {"d_kv", h->has_d_kv, h->d_kv, c->head_dim},
        {"d_ff", h->has_d_ff, h->d_ff, c->ff},
        {"num_heads", h->has_num_heads, h->num_heads, c->heads},
        {"relative_attention_num_buckets", h->has_relative_attention_num_buckets,
         h->relative_attention_num_buckets, c->buckets},
    };
    buf text;
    buf_init(&text, 4096);
    for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
        if (sizes[i].has && sizes[i].says != sizes[i].is)
            buf_addf(&text, "%s %s says %lld, the tensors have %lld", text.len ? ";" : "",
                     sizes[i].name, (long long)sizes[i].says, (long long)sizes[i].is);
    if (text.len)
        log_warning("%s: config.json:%s (the tensors win)", store_path(f->s), buf_str(&text));
    buf_release(&text);
}

static spt_status check_layers(const struct source_files *f, const struct t5_config *c,
                               spt_err *err)
{
    const struct hf_config *h = &f->config;
    if (h->has_num_layers && h->num_layers != c->enc_layers)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says num_layers %lld, the tensors have encoder.block.0 to "
                       "encoder.block.%lld",
                       store_path(f->s), (long long)h->num_layers, (long long)c->enc_layers - 1);
    if ((h->has_num_layers || h->has_num_decoder_layers) && h->num_decoder_layers != c->dec_layers)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says num_decoder_layers %lld%s, the tensors have "
                       "decoder.block.0 to decoder.block.%lld",
                       store_path(f->s), (long long)h->num_decoder_layers,
                       h->has_num_decoder_layers ? "" : " (absent: as num_layers)",
                       (long long)c->dec_layers - 1);
    return SPT_OK;
}

/* --- activation --------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum ops_activation act;
} activations[] = {
    {"relu", OPS_RELU},     {"gelu_new", OPS_GELU_TANH}, {"gelu_pytorch_tanh", OPS_GELU_TANH},
    {"gelu", OPS_GELU_ERF}, {"silu", OPS_SILU},          {"swish", OPS_SILU},
};

static bool activation_of(const char *name, enum ops_activation *out)
{
    for (size_t i = 0; i < sizeof activations / sizeof activations[0]; i++)
        if (!strcmp(activations[i].name, name))
            return *out = activations[i].act, true;
    return false;
}

static bool is_gelu(enum ops_activation a)
{
    return a == OPS_GELU_TANH || a == OPS_GELU_ERF;
}

/* feed_forward_proj is "[gated-]NAME"; is_gated_act and dense_act_fn win where they are present
 * (that is how transformers reads a file), as long as they do not name another function. In a gated
 * block "gelu" always meant the tanh form, also in the first Flan-T5 files, which say plain gelu. */
static spt_status read_activation(const struct source_files *f, struct t5_config *c, spt_err *err)
{
    const struct hf_config *h = &f->config;
    const char *proj = h->feed_forward_proj;
    bool gated = !strncmp(proj, "gated-", 6);
    const char *name = proj + (gated ? 6 : 0);
    const bool shorthand = !strcmp(proj, "gated-gelu") && !h->has_dense_act_fn;
    enum ops_activation first = OPS_RELU;
    if (h->has_is_gated_act)
        gated = h->is_gated_act;
    bool known = activation_of(name, &first);
    c->act = first;
    if (known && h->has_dense_act_fn) {
        name = h->dense_act_fn;
        known = activation_of(name, &c->act);
    }
    if (!known)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json: the activation '%s' (feed_forward_proj '%s') is not "
                       "supported",
                       store_path(f->s), name, proj);
    if (h->has_feed_forward_proj && first != c->act && !(is_gelu(first) && is_gelu(c->act)))
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says feed_forward_proj '%s' and dense_act_fn '%s'",
                       store_path(f->s), proj, h->dense_act_fn);
    if (gated && c->act == OPS_GELU_ERF) {
        if (!shorthand)
            log_warning("%s: config.json says '%s' (feed_forward_proj '%s') for a gated block; "
                        "read as gelu_new (tanh), as in the first Flan-T5 files",
                        store_path(f->s), name, proj);
        c->act = OPS_GELU_TANH;
    }
    if (gated != c->gated)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says feed_forward_proj '%s'%s%s, a block that is%s gated, "
                       "but the file has the tensor 'encoder.block.0.layer.1.DenseReluDense.%s'",
                       store_path(f->s), proj, h->has_feed_forward_proj ? "" : " (absent: relu)",
                       !h->has_is_gated_act ? ""
                       : h->is_gated_act    ? " and is_gated_act true"
                                            : " and is_gated_act false",
                       gated ? "" : " not", c->gated ? "wi_0.weight" : "wi.weight");
    return SPT_OK;
}

/* --- head --------------------------------------------------------------------------------- */

/* spec/interop.md section 2.7. */
static spt_status read_head(const struct source_files *f, struct t5_config *c,
                            struct source_roles *roles, spt_err *err)
{
    const struct hf_config *h = &f->config;
    bool same = true;
    const bool has = source_find(f, "lm_head.weight", &roles->head);
    if (has && roles->head != roles->embedding)
        TRY(source_same_values(f->s, roles->embedding, roles->head, &same, err));
    c->head_is_embedding = same;
    c->scale_logits =
        h->has_scale_decoder_outputs ? h->scale_decoder_outputs : h->tie_word_embeddings;
    if (!has && !h->tie_word_embeddings)
        log_warning("%s: config.json says tie_word_embeddings false, but there is no "
                    "lm_head.weight: the token embedding serves as output head, %s",
                    store_path(f->s), c->scale_logits ? "scaled" : "unscaled");
    if (!same && h->tie_word_embeddings)
        log_warning("%s: config.json says that lm_head.weight is tied%s, but it differs from the "
                    "token embedding: lm_head.weight is used, %s",
                    store_path(f->s), h->has_tie_word_embeddings ? "" : " (key absent)",
                    c->scale_logits ? "scaled" : "unscaled");
    return SPT_OK;
}

/* --- both worlds -------------------------------------------------------------------------- */

static spt_status check_kind(const struct source_files *f, spt_err *err)
{
    static const char *const kinds[] = {"t5", "mt5", "umt5", "byt5"};
    const struct hf_config *h = &f->config;
    bool known = !h->has_model_type;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        known = known || !strcmp(h->model_type, kinds[i]);
    if (!known)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says model_type '%s'; only t5, mt5 and umt5 are supported",
                       store_path(f->s), h->model_type);
    if (h->has_is_encoder_decoder && !h->is_encoder_decoder)
        return err_set(err, SPT_E_CONFIG,
                       "%s: config.json says is_encoder_decoder false: an encoder alone cannot "
                       "be trained or asked",
                       store_path(f->s));
    return SPT_OK;
}

static spt_status configure_hf(const struct source_files *f, struct t5_config *c,
                               struct source_roles *roles, spt_err *err)
{
    const struct hf_config *h = &f->config;
    TRY(check_kind(f, err));
    c->per_layer_bias = !strcmp(h->model_type, "umt5");
    TRY(find_embedding(f, &roles->embedding, err));
    TRY(read_sizes(f, c, roles->embedding, err));
    TRY(check_layers(f, c, err));
    TRY(read_activation(f, c, err));
    TRY(read_head(f, c, roles, err));
    warn_sizes(f, c);
    c->max_distance = h->relative_attention_max_distance; /* absent: 128, whatever the buckets */
    c->norm_eps = (float)h->layer_norm_epsilon;
    c->pad_id = (int32_t)h->pad_token_id;
    c->eos_id = (int32_t)h->eos_token_id;
    c->start_id = (int32_t)h->decoder_start_token_id;
    return SPT_OK;
}

static spt_status configure_t5x(const struct source_files *f, struct t5_config *c,
                                struct source_roles *roles, spt_err *err)
{
    size_t i;
    TRY(source_refuse_scanned(f, err));
    c->per_layer_bias = source_find(f, "encoder/layers_0/relpos_bias/rel_embedding", &i);
    TRY(find_embedding(f, &roles->embedding, err));
    TRY(read_sizes(f, c, roles->embedding, err));
    c->act = c->gated ? OPS_GELU_TANH : OPS_RELU;
    c->head_is_embedding = !source_find(f, "decoder/logits_dense/kernel", &roles->head);
    c->scale_logits = c->head_is_embedding;
    c->norm_eps = 1e-6f;
    c->pad_id = 0;
    c->eos_id = 1;
    c->start_id = 0;
    return SPT_OK;
}

spt_status source_configure(const struct source_files *f, const struct t5_source_opts *opts,
                            struct t5_config *out, struct source_roles *roles, spt_err *err)
{
    struct t5_config c = {0};
    TRY((f->hf ? configure_hf : configure_t5x)(f, &c, roles, err));
    if (opts && opts->max_distance)
        c.max_distance = opts->max_distance;
    if (!c.max_distance && c.buckets == 32)
        c.max_distance = 128;
    if (c.max_distance < 1 || c.buckets < 4 || c.buckets % 2 || c.max_distance <= c.buckets / 2)
        return err_set(err, SPT_E_CONFIG,
                       "%s: %lld relative-position buckets: %s (--max-distance N)",
                       store_path(f->s), (long long)c.buckets,
                       c.max_distance ? "they do not fit the maximum distance"
                                      : "the file does not say the maximum distance");
    *out = c;
    return SPT_OK;
}
