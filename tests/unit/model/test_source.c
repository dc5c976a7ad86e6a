/* Models on disk, read as parameters. The field_* tests are the source level of the cases in
 * docs/field-cases.md: the same kinds of directory, made here. */
#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "model/names.h"
#include "model/source.h"
#include "store/safetensors.h"
#include "support/tiny_t5.h"

static char story[8192];
static int warnings;

static void note(void *ctx, enum log_level level, const char *line)
{
    (void)ctx;
    const size_t n = strlen(story);
    warnings += level == LOG_WARNING;
    snprintf(story + n, sizeof story - n, "%s\n", line);
}

static int setup(void **state)
{
    (void)state;
    story[0] = '\0';
    warnings = 0;
    log_set_sink(note, NULL);
    return 0;
}

/* The default configuration with `from` replaced by `to`. */
static const char *config_with(const char *from, const char *to)
{
    static char text[2][4096];
    static int k;
    char *out = text[k++ % 2];
    const char *at = strstr(tiny_t5_config, from);
    if (!at)
        fail_msg("no '%s' in the default configuration", from);
    snprintf(out, sizeof text[0], "%.*s%s%s", (int)(at - tiny_t5_config), tiny_t5_config, to,
             at + strlen(from));
    return out;
}

/* Opens dir; SPT_OK: the source is returned (to be closed), else NULL. */
static t5_source *open_dir(const char *dir, spt_err *err)
{
    t5_source *s = NULL;
    setup(NULL);
    memset(err, 0, sizeof *err);
    const spt_status st = t5_source_open(dir, NULL, &s, err);
    return st ? NULL : s;
}

/* Writes the model with this configuration into a fresh directory and opens it. */
static t5_source *open_model(const struct tiny_t5 *m, const char *config, spt_err *err)
{
    const char *dir = test_tmpdir();
    tiny_t5_write(m, dir, config);
    return open_dir(dir, err);
}

static void expect_open(const struct tiny_t5 *m, const char *config, struct t5_config *c,
                        char hash[33])
{
    spt_err err;
    t5_source *s = open_model(m, config, &err);
    if (!s)
        fail_msg("refused: %s", err.msg);
    if (c)
        *c = *t5_source_config(s);
    if (hash)
        EXPECT_OK(t5_source_hash(s, hash, &err), &err);
    t5_source_close(s);
}

static void expect_refused(const struct tiny_t5 *m, const char *config, const char *part)
{
    spt_err err;
    t5_source *s = open_model(m, config, &err);
    if (s || !strstr(err.msg, part))
        fail_msg("wanted a refusal with \"%s\", got \"%s\"", part, s ? "accepted" : err.msg);
    if (err.code != SPT_E_FORMAT && err.code != SPT_E_CONFIG && err.code != SPT_E_NOTFOUND)
        fail_msg("status %s", spt_status_text(err.code));
}

/* --- parameters --------------------------------------------------------------------------- */

static void every_parameter_under_its_t5x_name(void **state)
{
    (void)state;
    struct tiny_t5 m;
    spt_err err;
    struct t5_name *names = NULL;
    size_t n;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    t5_source *s = open_model(&m, tiny_t5_config, &err);
    assert_non_null(s);
    const struct t5_config *c = t5_source_config(s);
    struct t5_config want = tiny_t5_default;
    EXPECT_EQ_I64(c->vocab, want.vocab);
    EXPECT_EQ_I64(c->width, want.width);
    EXPECT_EQ_I64(c->heads, want.heads);
    EXPECT_EQ_I64(c->head_dim, want.head_dim);
    EXPECT_EQ_I64(c->ff, want.ff);
    EXPECT_EQ_I64(c->enc_layers, want.enc_layers);
    EXPECT_EQ_I64(c->dec_layers, want.dec_layers);
    EXPECT_EQ_I64(c->buckets, want.buckets);
    EXPECT_EQ_I64(c->act, want.act);
    EXPECT_TRUE(c->gated && !c->head_is_embedding && !c->scale_logits && !c->per_layer_bias);
    EXPECT_TRUE(!warnings && !strstr(story, "no T5 uses"));
    EXPECT_OK(t5_names_list(&want, &names, &n, &err), &err);
    EXPECT_EQ_I64(t5_source_count(s), n);
    for (size_t i = 0; i < n; i++) {
        struct t5_param p = {0};
        EXPECT_STR(t5_source_name(s, i), names[i].t5x);
        EXPECT_TRUE(t5_source_has(s, names[i].t5x));
        EXPECT_OK(t5_source_param(s, names[i].t5x, &p, &err), &err);
        EXPECT_EQ_I64(p.m.transposed, names[i].transposed);
        EXPECT_EQ_I64(p.m.view.shape.dim[names[i].transposed ? 1 : 0], names[i].shape.dim[0]);
        const float *v = tiny_t5_values(&m, names[i].hf);
        float first;
        tensor_to_f32(&p.m.view, 0, 1, &first);
        EXPECT_EQ_F64(first, v[0]);
        t5_source_release(s, &p);
        t5_source_release(s, &p);
    }
    struct t5_param p = {0};
    EXPECT_STATUS(t5_source_param(s, "encoder/layers_2/mlp/wo/kernel", &p, &err), SPT_E_NOTFOUND);
    EXPECT_TRUE(!t5_source_has(s, "x") && t5_source_step(s) == 0);
    EXPECT_EQ_I64(t5_source_hf_config(s)->d_ff, 12);
    mem_free(names);
    t5_source_close(s);
    tiny_t5_free(&m);
}

/* The same values as a T5X-named safetensors file, transposed by hand. */
static void write_t5x(const struct tiny_t5 *m, const char *path, const char *prefix)
{
    static float data[TINY_MAX][1024];
    static char text[TINY_MAX][160];
    struct store_tensor t[TINY_MAX];
    struct t5_name *names = NULL;
    size_t n;
    spt_err err = {0};
    EXPECT_OK(t5_names_list(&m->c, &names, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const float *v = tiny_t5_values((struct tiny_t5 *)m, names[i].hf);
        const int64_t a = names[i].shape.dim[0], b = names[i].shape.rank > 1 ? names[i].shape.dim[1] : 1;
        for (int64_t r = 0; r < a; r++)
            for (int64_t k = 0; k < b; k++)
                data[i][r * b + k] = names[i].transposed ? v[k * a + r] : v[r * b + k];
        snprintf(text[i], sizeof text[i], "%s%s", prefix, names[i].t5x);
        t[i] = (struct store_tensor){text[i], {DT_F32, names[i].shape, data[i]}};
    }
    EXPECT_OK(safetensors_write(path, t, n, NULL, 0, &err), &err);
    mem_free(names);
}

static void one_hash_for_every_container(void **state)
{
    (void)state;
    struct tiny_t5 m;
    char hash[33], other[33];
    spt_err err;
    t5_source *s = NULL;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    expect_open(&m, tiny_t5_config, NULL, hash);
    const char *dir = test_tmpdir();
    tiny_t5_write_sharded(&m, dir, 17);
    test_write(test_path(dir, "config.json"), tiny_t5_config, strlen(tiny_t5_config));
    s = open_dir(dir, &err);
    assert_non_null(s);
    EXPECT_OK(t5_source_hash(s, other, &err), &err);
    EXPECT_STR(other, hash);
    t5_source_close(s);
    static const char *const prefixes[] = {"", "target/"};
    for (int i = 0; i < 2; i++) {
        const char *path = test_path(dir, "params.safetensors");
        write_t5x(&m, path, prefixes[i]);
        s = open_dir(path, &err);
        assert_non_null(s);
        EXPECT_TRUE(!t5_source_hf_config(s));
        const struct t5_config *c = t5_source_config(s);
        EXPECT_EQ_I64(c->max_distance, 128);
        EXPECT_TRUE(c->pad_id == 0 && c->eos_id == 1 && c->start_id == 0 && c->norm_eps == 1e-6f);
        EXPECT_OK(t5_source_hash(s, other, &err), &err);
        EXPECT_STR(other, hash);
        t5_source_close(s);
    }
    /* one value changed */
    tiny_t5_values(&m, "decoder.block.1.layer.2.DenseReluDense.wo.weight")[5] += 1e-6f;
    expect_open(&m, tiny_t5_config, NULL, other);
    EXPECT_TRUE(strcmp(hash, other) != 0);
    tiny_t5_free(&m);
}

static void missing_extra_and_wrongly_shaped(void **state)
{
    (void)state;
    struct tiny_t5 m;
    struct t5_name *names = NULL;
    size_t n;
    spt_err err = {0};
    EXPECT_OK(t5_names_list(&tiny_t5_default, &names, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        tiny_t5_make(&m, &tiny_t5_default, 1);
        tiny_t5_drop(&m, names[i].hf);
        if (!strcmp(names[i].hf, "lm_head.weight")) {
            expect_open(&m, tiny_t5_config, NULL, NULL); /* field case 02 */
        } else {
            expect_refused(&m, tiny_t5_config, ""); /* below: by name where it is not a size */
            if (!strstr(names[i].hf, "DenseReluDense.wi"))
                expect_refused(&m, tiny_t5_config, names[i].hf);
        }
        tiny_t5_free(&m);
    }
    for (size_t i = 0; i < n; i++) { /* one more row than it should have */
        tiny_t5_make(&m, &tiny_t5_default, 1);
        tiny_t5_drop(&m, names[i].hf);
        struct tensor_shape s = names[i].shape;
        if (names[i].transposed) {
            s.dim[0] = names[i].shape.dim[1];
            s.dim[1] = names[i].shape.dim[0];
        }
        s.dim[s.rank - 1]++;
        tiny_t5_add(&m, names[i].hf, s, NAN);
        expect_refused(&m, tiny_t5_config, "");
        tiny_t5_free(&m);
    }
    mem_free(names);
}

static void missing_are_counted(void **state)
{
    (void)state;
    struct tiny_t5 m;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    tiny_t5_drop(&m, "encoder.block.1.layer.0.layer_norm.weight");
    expect_refused(&m, tiny_t5_config, "encoder.block.1.layer.0.layer_norm.weight' is missing");
    tiny_t5_drop(&m, "encoder.block.1.layer.1.layer_norm.weight");
    tiny_t5_drop(&m, "decoder.final_layer_norm.weight");
    expect_refused(&m, tiny_t5_config, "decoder.final_layer_norm.weight' is missing (and 2 more)");
    tiny_t5_free(&m);
}

static void integers_are_not_weights(void **state)
{
    (void)state;
    struct tiny_t5 m;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    for (size_t i = 0; i < m.count; i++)
        if (!strcmp(m.t[i].name, "encoder.final_layer_norm.weight"))
            m.t[i].view.dtype = DT_I32;
    expect_refused(&m, tiny_t5_config, "encoder.final_layer_norm.weight' is int32");
    tiny_t5_free(&m);
}

static void other_kinds_of_model(void **state)
{
    (void)state;
    struct tiny_t5 m;
    spt_err err;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    expect_refused(&m, config_with("\"t5\"", "\"longt5\""), "longt5");
    expect_refused(&m, config_with("\"is_encoder_decoder\": true", "\"is_encoder_decoder\": false"),
                   "is_encoder_decoder");
    expect_refused(&m, NULL, "config.json is missing");
    expect_open(&m, config_with("\"t5\"", "\"mt5\""), NULL, NULL);
    tiny_t5_free(&m);
    const char *dir = test_tmpdir();
    memset(&m, 0, sizeof m);
    tiny_t5_add(&m, "bert.embeddings.weight", shape_2d(3, 4), 1);
    tiny_t5_write(&m, dir, tiny_t5_config);
    EXPECT_TRUE(!open_dir(dir, &err));
    EXPECT_MSG(&err, "not the weights of a T5");
    EXPECT_MSG(&err, "bert.embeddings.weight");
    tiny_t5_free(&m);
}

static void scanned_layers_are_refused(void **state)
{
    (void)state;
    struct tiny_t5 m = {0};
    spt_err err;
    const char *dir = test_tmpdir();
    tiny_t5_add(&m, "target/token_embedder/embedding", shape_2d(96, 8), 1);
    tiny_t5_add(&m, "target/encoder/encoder/attention/query/kernel",
                (struct tensor_shape){3, {8, 2, 8}}, 1);
    tiny_t5_write(&m, dir, NULL);
    EXPECT_TRUE(!open_dir(test_path(dir, "model.safetensors"), &err));
    EXPECT_MSG(&err, "scan_layers");
    tiny_t5_free(&m);
}

static void buckets_need_a_distance(void **state)
{
    (void)state;
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    spt_err err = {0};
    t5_source *s = NULL;
    c.buckets = 16;
    tiny_t5_make(&m, &c, 1);
    const char *path = test_path(test_tmpdir(), "params.safetensors");
    write_t5x(&m, path, "target/");
    EXPECT_STATUS(t5_source_open(path, NULL, &s, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "--max-distance");
    EXPECT_OK(t5_source_open(path, &(struct t5_source_opts){.max_distance = 64}, &s, &err), &err);
    EXPECT_EQ_I64(t5_source_config(s)->max_distance, 64);
    t5_source_close(s);
    s = NULL;
    EXPECT_STATUS(t5_source_open(path, &(struct t5_source_opts){.max_distance = 8}, &s, &err),
                  SPT_E_CONFIG);
    tiny_t5_free(&m);
}

static void t5x_extras(void **state)
{
    (void)state;
    struct tiny_t5 m, extra = {0};
    spt_err err;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    const char *dir = test_tmpdir(), *path = test_path(dir, "a.safetensors");
    write_t5x(&m, path, "target/");
    store *s = NULL;
    EXPECT_OK(store_open(path, NULL, &s, &err), &err);
    for (size_t i = 0; i < store_count(s); i++) {
        const struct store_info *info = store_at(s, i);
        EXPECT_OK(store_read_f32(s, i, tiny_t5_add(&extra, info->name, info->shape, 0), &err), &err);
    }
    store_close(s);
    tiny_t5_add(&extra, "target/encoder/prompt/prompt/prompt", shape_2d(3, 8), 1);
    tiny_t5_add(&extra, "state/param_states/encoder/prompt/prompt/prompt/v", shape_2d(3, 8), 1);
    tiny_t5_write_part(&extra, dir, "b.safetensors", 0, extra.count);
    t5_source *src = open_dir(test_path(dir, "b.safetensors"), &err);
    assert_non_null(src);
    EXPECT_TRUE(strstr(story, "prompt stored in this checkpoint"));
    t5_source_close(src);
    tiny_t5_add(&extra, "target/encoder/layers_0/attention/k_conv/ia3_scaling", shape_1d(8), 1);
    tiny_t5_write_part(&extra, dir, "b.safetensors", 0, extra.count);
    EXPECT_TRUE(!open_dir(test_path(dir, "b.safetensors"), &err));
    EXPECT_MSG(&err, "ia3_scaling");
    tiny_t5_free(&m);
    tiny_t5_free(&extra);
}

static void umt5_has_a_table_per_layer(void **state)
{
    (void)state;
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    c.per_layer_bias = true;
    tiny_t5_make(&m, &c, 1);
    expect_open(&m, config_with("\"t5\"", "\"umt5\""), &c, NULL);
    EXPECT_TRUE(c.per_layer_bias);
    expect_refused(&m, tiny_t5_config, "only umT5");
    tiny_t5_drop(&m, "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight");
    tiny_t5_drop(&m, "decoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight");
    expect_refused(&m, config_with("\"t5\"", "\"umt5\""), "relative_attention_bias.weight' is missing");
    expect_open(&m, tiny_t5_config, NULL, NULL);
    tiny_t5_copy(&m, "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
                 "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight");
    expect_open(&m, tiny_t5_config, NULL, NULL); /* a copy of the shared one is harmless */
    tiny_t5_free(&m);
}

/* --- field cases -------------------------------------------------------------------------- */

static void field_02_untied_without_head(void **state)
{
    (void)state;
    struct tiny_t5 m;
    struct t5_config c;
    const char *absent = config_with("\"tie_word_embeddings\": false, ", "");
    tiny_t5_make(&m, &tiny_t5_default, 1);
    expect_open(&m, absent, &c, NULL); /* tied in the config, another head in the file */
    EXPECT_TRUE(!c.head_is_embedding && c.scale_logits && warnings == 1);
    EXPECT_TRUE(strstr(story, "lm_head.weight"));
    tiny_t5_drop(&m, "lm_head.weight");
    expect_open(&m, tiny_t5_config, &c, NULL);
    EXPECT_TRUE(c.head_is_embedding && !c.scale_logits && warnings == 1);
    EXPECT_TRUE(strstr(story, "lm_head.weight"));
    expect_open(&m, absent, &c, NULL);
    EXPECT_TRUE(c.head_is_embedding && c.scale_logits && warnings == 0);
    expect_open(&m,
                config_with("\"tie_word_embeddings\": false",
                            "\"tie_word_embeddings\": true, \"scale_decoder_outputs\": false"),
                &c, NULL);
    EXPECT_TRUE(c.head_is_embedding && !c.scale_logits && warnings == 0);
    tiny_t5_copy(&m, "shared.weight", "lm_head.weight");
    expect_open(&m, absent, &c, NULL); /* a tied head that is written out */
    EXPECT_TRUE(c.head_is_embedding && c.scale_logits && warnings == 0);
    tiny_t5_free(&m);
}

static void field_02_embedding_names(void **state)
{
    (void)state;
    static const char *const names[] = {"encoder.embed_tokens.weight",
                                        "decoder.embed_tokens.weight"};
    struct tiny_t5 m;
    char want[33], hash[33];
    tiny_t5_make(&m, &tiny_t5_default, 1);
    expect_open(&m, tiny_t5_config, NULL, want);
    for (size_t i = 0; i < 2; i++) { /* the only copy has another name (Madlad) */
        tiny_t5_copy(&m, "shared.weight", names[i]);
        tiny_t5_drop(&m, "shared.weight");
        expect_open(&m, tiny_t5_config, NULL, hash);
        EXPECT_STR(hash, want);
        tiny_t5_copy(&m, names[i], "shared.weight");
        tiny_t5_drop(&m, names[i]);
    }
    tiny_t5_drop(&m, "lm_head.weight"); /* a tied model saved with its head only */
    tiny_t5_copy(&m, "shared.weight", "lm_head.weight");
    tiny_t5_drop(&m, "shared.weight");
    struct t5_config c;
    expect_open(&m, config_with("\"tie_word_embeddings\": false, ", ""), &c, hash);
    EXPECT_TRUE(c.head_is_embedding && c.scale_logits);
    expect_refused(&m, tiny_t5_config, "shared.weight");
    tiny_t5_free(&m);
}

static void field_04_contradictory_activation(void **state)
{
    (void)state;
    static const struct {
        const char *ff; /* replaces "feed_forward_proj": "gated-gelu" */
        bool gated;
        enum ops_activation act;
        int warnings;
    } ok[] = {
        {"\"feed_forward_proj\": \"gated-gelu\"", true, OPS_GELU_TANH, 0},
        {"\"feed_forward_proj\": \"gelu\", \"is_gated_act\": true, \"dense_act_fn\": \"gelu\"", true,
         OPS_GELU_TANH, 1},
        {"\"feed_forward_proj\": \"gated-gelu\", \"is_gated_act\": true, "
         "\"dense_act_fn\": \"gelu_new\"",
         true, OPS_GELU_TANH, 0},
        {"\"feed_forward_proj\": \"gated-gelu\", \"is_gated_act\": true, \"dense_act_fn\": \"gelu\"",
         true, OPS_GELU_TANH, 1},
        {"\"is_gated_act\": true, \"dense_act_fn\": \"silu\"", true, OPS_SILU, 0},
        {"\"feed_forward_proj\": \"gelu\", \"dense_act_fn\": \"gelu_new\"", false, OPS_GELU_TANH, 0},
        {"\"feed_forward_proj\": \"gated-silu\"", true, OPS_SILU, 0},
        {"\"feed_forward_proj\": \"gated-relu\"", true, OPS_RELU, 0},
        {"\"x\": 1", false, OPS_RELU, 0},
        {"\"feed_forward_proj\": \"relu\"", false, OPS_RELU, 0},
        {"\"feed_forward_proj\": \"gelu\"", false, OPS_GELU_ERF, 0},
        {"\"feed_forward_proj\": \"gelu_new\"", false, OPS_GELU_TANH, 0},
    };
    static const struct {
        const char *ff;
        bool gated;
        const char *part, *tensor;
    } bad[] = {
        {"\"feed_forward_proj\": \"relu\"", true, "feed_forward_proj 'relu'", "wi_0.weight"},
        {"\"x\": 1", true, "absent: relu", "wi_0.weight"},
        {"\"feed_forward_proj\": \"gated-gelu\"", false, "feed_forward_proj 'gated-gelu'",
         "DenseReluDense.wi.weight"},
        {"\"feed_forward_proj\": \"gated-gelu\", \"is_gated_act\": false", true,
         "feed_forward_proj 'gated-gelu'", "wi_0.weight"},
        {"\"feed_forward_proj\": \"gated-gelu\", \"dense_act_fn\": \"silu\"", true,
         "feed_forward_proj 'gated-gelu'", "dense_act_fn 'silu'"},
        {"\"feed_forward_proj\": \"relu\", \"dense_act_fn\": \"gelu_new\"", false,
         "feed_forward_proj 'relu'", "dense_act_fn 'gelu_new'"},
        {"\"feed_forward_proj\": \"gated-swoosh\"", true, "'swoosh'", "feed_forward_proj"},
    };
    struct tiny_t5 gated, plain;
    struct t5_config c = tiny_t5_default;
    tiny_t5_make(&gated, &c, 1);
    c.gated = false;
    tiny_t5_make(&plain, &c, 1);
    for (size_t i = 0; i < sizeof ok / sizeof ok[0]; i++) {
        expect_open(ok[i].gated ? &gated : &plain,
                    config_with("\"feed_forward_proj\": \"gated-gelu\"", ok[i].ff), &c, NULL);
        if (c.gated != ok[i].gated || c.act != ok[i].act || warnings != ok[i].warnings)
            fail_msg("%s: gated %d, activation %d, %d warnings", ok[i].ff, c.gated, (int)c.act,
                     warnings);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        const char *config = config_with("\"feed_forward_proj\": \"gated-gelu\"", bad[i].ff);
        expect_refused(bad[i].gated ? &gated : &plain, config, bad[i].part);
        expect_refused(bad[i].gated ? &gated : &plain, config, bad[i].tensor);
    }
    tiny_t5_free(&gated);
    tiny_t5_free(&plain);
}

static void field_05_leftover_tensors(void **state)
{
    (void)state;
    struct tiny_t5 m;
    char want[33], hash[33];
    tiny_t5_make(&m, &tiny_t5_default, 1);
    expect_open(&m, tiny_t5_config, NULL, want);
    tiny_t5_add(&m, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
                shape_2d(32, 2), NAN);
    tiny_t5_add(&m, "encoder.block.0.layer.0.layer_norm.bias", shape_1d(8), 0);
    tiny_t5_add(&m, "decoder.block.1.layer.2.layer_norm.bias", shape_1d(8), -0.0f);
    tiny_t5_add(&m, "decoder.final_layer_norm.bias", shape_1d(8), 0);
    tiny_t5_copy(&m, "shared.weight", "encoder.embed_tokens.weight");
    tiny_t5_copy(&m, "shared.weight", "decoder.embed_tokens.weight");
    expect_open(&m, tiny_t5_config, NULL, hash);
    EXPECT_STR(hash, want);
    EXPECT_TRUE(warnings == 0 && strstr(story, "6 tensors that no T5 uses"));

    tiny_t5_values(&m, "decoder.final_layer_norm.bias")[7] = 1e-20f;
    expect_refused(&m, tiny_t5_config, "decoder.final_layer_norm.bias' is not zero");
    tiny_t5_values(&m, "decoder.final_layer_norm.bias")[7] = NAN;
    expect_refused(&m, tiny_t5_config, "decoder.final_layer_norm.bias' is not zero");
    tiny_t5_values(&m, "decoder.final_layer_norm.bias")[7] = 0;
    tiny_t5_values(&m, "decoder.embed_tokens.weight")[95 * 8] += 1;
    expect_refused(&m, tiny_t5_config, "decoder.embed_tokens.weight' differs from 'shared.weight'");
    tiny_t5_drop(&m, "decoder.embed_tokens.weight");
    tiny_t5_add(&m, "encoder.block.0.layer.0.adapter.weight", shape_2d(4, 4), 1);
    expect_refused(&m, tiny_t5_config, "encoder.block.0.layer.0.adapter.weight");
    tiny_t5_free(&m);
}

static void field_20_sizes_of_the_tensors_win(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to, *part;
    } cases[] = {
        {"\"vocab_size\": 96", "\"vocab_size\": 90", "vocab_size says 90, the tensors have 96"},
        {"\"d_model\": 8", "\"d_model\": 16", "d_model says 16"},
        {"\"d_kv\": 4", "\"d_kv\": 64", "d_kv says 64"},
        {"\"d_ff\": 12", "\"d_ff\": 13", "d_ff says 13"},
        {"\"num_heads\": 2", "\"num_heads\": 4", "num_heads says 4"},
    };
    struct tiny_t5 m;
    struct t5_config c;
    tiny_t5_make(&m, &tiny_t5_default, 1);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        expect_open(&m, config_with(cases[i].from, cases[i].to), &c, NULL);
        EXPECT_TRUE(c.vocab == 96 && c.width == 8 && c.head_dim == 4 && c.ff == 12 && c.heads == 2);
        if (warnings != 1 || !strstr(story, cases[i].part))
            fail_msg("%s: %d warnings: %s", cases[i].to, warnings, story);
    }
    expect_refused(&m, config_with("\"num_layers\": 2", "\"num_layers\": 3"), "num_layers 3");
    expect_refused(&m, config_with("\"num_layers\": 2", "\"num_layers\": 1"), "encoder.block.1");
    expect_refused(&m, config_with("\"num_decoder_layers\": 2", "\"num_decoder_layers\": 4"),
                   "num_decoder_layers 4");
    tiny_t5_free(&m);
    struct t5_config deep = tiny_t5_default;
    deep.dec_layers = 1;
    tiny_t5_make(&m, &deep, 1);
    expect_refused(&m, config_with("\"num_decoder_layers\": 2, ", ""), "as num_layers");
    tiny_t5_free(&m);
}

/* Copies count by value, not by type; over more than one chunk of the comparison. */
static void copies_in_another_type(void **state)
{
    (void)state;
    enum { V = 2100 };
    struct tiny_t5 m;
    static uint16_t half[V * 8];
    struct t5_config big = tiny_t5_default, c;
    char wide[33], narrow[33];
    const char *config = config_with("\"vocab_size\": 96", "\"vocab_size\": 2100");
    big.vocab = V;
    tiny_t5_make(&m, &big, 1);
    float *shared = tiny_t5_values(&m, "shared.weight");
    for (size_t i = 0; i < V * 8; i++) {
        half[i] = f32_to_bf16(shared[i]);
        shared[i] = bf16_to_f32(half[i]);
    }
    m.t[m.count++] =
        (struct store_tensor){"encoder.embed_tokens.weight", {DT_BF16, shape_2d(V, 8), half}};
    expect_open(&m, config, &c, wide);
    half[V * 8 - 1] ^= 1;
    expect_refused(&m, config, "encoder.embed_tokens.weight' differs");
    half[V * 8 - 1] ^= 1;
    m.count--;
    for (size_t i = 0; i < m.count; i++) { /* the only embedding is bfloat16 */
        if (!strcmp(m.t[i].name, "shared.weight")) {
            const struct tensor_view old = m.t[i].view;
            m.t[i].view = (struct tensor_view){DT_BF16, old.shape, half};
            expect_open(&m, config, &c, narrow);
            m.t[i].view = old;
        }
    }
    EXPECT_STR(narrow, wide);
    tiny_t5_free(&m);
}

static void transposed_relative_table(void **state)
{
    (void)state;
    struct tiny_t5 m;
    const char *name = "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight";
    tiny_t5_make(&m, &tiny_t5_default, 1);
    tiny_t5_drop(&m, name);
    tiny_t5_add(&m, name, shape_2d(2, 32), NAN);
    expect_refused(&m, tiny_t5_config, "is transposed");
    tiny_t5_free(&m);
}

static void field_22_infinite_weight(void **state)
{
    (void)state;
    static const struct {
        const char *hf, *t5x, *at;
        size_t index;
        float value;
    } cases[] = {
        {"encoder.block.1.layer.1.DenseReluDense.wo.weight", "encoder/layers_1/mlp/wo/kernel",
         "[3, 5]", 3 * 12 + 5, INFINITY},
        {"shared.weight", "token_embedder/embedding", "[95, 7]", 95 * 8 + 7, -INFINITY},
        {"encoder.final_layer_norm.weight", "encoder/encoder_norm/scale", "[0]", 0, NAN},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct tiny_t5 m;
        struct t5_param p = {0};
        spt_err err;
        char hash[33];
        tiny_t5_make(&m, &tiny_t5_default, 1);
        tiny_t5_values(&m, cases[i].hf)[cases[i].index] = cases[i].value;
        t5_source *s = open_model(&m, tiny_t5_config, &err);
        assert_non_null(s);
        EXPECT_STATUS(t5_source_param(s, cases[i].t5x, &p, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, cases[i].hf);
        EXPECT_MSG(&err, cases[i].at);
        EXPECT_STATUS(t5_source_hash(s, hash, &err), SPT_E_FORMAT);
        t5_source_close(s);
        tiny_t5_free(&m);
    }
}

/* float16 and bfloat16 copies have the values, and so the hash, of their float32 widening. */
static void field_22_half_precision(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct tiny_t5 m;
        char wide[33], narrow[33];
        static uint16_t half[TINY_MAX][1024];
        tiny_t5_make(&m, &tiny_t5_default, 1);
        for (size_t i = 0; i < m.count; i++) {
            float *v = (float *)m.t[i].view.data;
            size_t n, bytes;
            EXPECT_OK(tensor_size(DT_F32, &m.t[i].view.shape, &n, &bytes, NULL), &(spt_err){0});
            for (size_t j = 0; j < n; j++) {
                half[i][j] = k ? f32_to_bf16(v[j]) : f32_to_f16(v[j]);
                v[j] = k ? bf16_to_f32(half[i][j]) : f16_to_f32(half[i][j]);
            }
        }
        expect_open(&m, tiny_t5_config, NULL, wide);
        struct tiny_t5 h = m;
        for (size_t i = 0; i < h.count; i++) {
            h.t[i].view.dtype = k ? DT_BF16 : DT_F16;
            h.t[i].view.data = half[i];
        }
        expect_open(&h, tiny_t5_config, NULL, narrow);
        EXPECT_STR(narrow, wide);
        tiny_t5_free(&m);
    }
}

/* --- faults ------------------------------------------------------------------------------- */

static spt_status open_case(void *ctx, spt_err *err)
{
    t5_source *s = NULL;
    char hash[33];
    TRY(t5_source_open(ctx, NULL, &s, err));
    const spt_status st = t5_source_hash(s, hash, err);
    t5_source_close(s);
    return st;
}

static void faults(void **state)
{
    (void)state;
    struct tiny_t5 m;
    char dir[1024];
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    tiny_t5_make(&m, &tiny_t5_default, 1);
    tiny_t5_add(&m, "decoder.final_layer_norm.bias", shape_1d(8), 0);
    tiny_t5_copy(&m, "shared.weight", "encoder.embed_tokens.weight");
    tiny_t5_write(&m, dir, tiny_t5_config);
    EXPECT_TRUE(fault_every_alloc(open_case, dir) > 20);
    EXPECT_TRUE(fault_every_syscall(open_case, dir, EIO) > 5);
    tiny_t5_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_parameter_under_its_t5x_name),
        cmocka_unit_test(one_hash_for_every_container),
        cmocka_unit_test(missing_extra_and_wrongly_shaped),
        cmocka_unit_test(missing_are_counted),
        cmocka_unit_test(integers_are_not_weights),
        cmocka_unit_test(other_kinds_of_model),
        cmocka_unit_test(scanned_layers_are_refused),
        cmocka_unit_test(buckets_need_a_distance),
        cmocka_unit_test(t5x_extras),
        cmocka_unit_test(umt5_has_a_table_per_layer),
        cmocka_unit_test(field_02_untied_without_head),
        cmocka_unit_test(field_02_embedding_names),
        cmocka_unit_test(field_04_contradictory_activation),
        cmocka_unit_test(field_05_leftover_tensors),
        cmocka_unit_test(field_20_sizes_of_the_tensors_win),
        cmocka_unit_test(copies_in_another_type),
        cmocka_unit_test(transposed_relative_table),
        cmocka_unit_test(field_22_infinite_weight),
        cmocka_unit_test(field_22_half_precision),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
