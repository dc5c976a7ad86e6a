#include "support/test.h"

#include <string.h>

#include "model/names.h"
#include "support/tiny_t5.h"

static const struct t5_name *find(const struct t5_name *n, size_t count, const char *t5x)
{
    for (size_t i = 0; i < count; i++)
        if (!strcmp(n[i].t5x, t5x))
            return &n[i];
    return NULL;
}

static void expect_hf(const struct t5_name *n, size_t count, const char *t5x, const char *hf)
{
    const struct t5_name *t = find(n, count, t5x);
    if (!t || strcmp(t->hf, hf) != 0)
        fail_msg("%s is %s, wanted %s", t5x, t ? t->hf : "absent", hf);
}

static void table(void **state)
{
    (void)state;
    static const struct {
        const char *t5x, *hf;
        int64_t a, b; /* b 0: rank 1 */
        bool transposed;
    } want[] = {
        {"token_embedder/embedding", "shared.weight", 96, 8, false},
        {"encoder/layers_1/attention/query/kernel",
         "encoder.block.1.layer.0.SelfAttention.q.weight", 8, 8, true},
        {"encoder/layers_0/mlp/wi_1/kernel", "encoder.block.0.layer.1.DenseReluDense.wi_1.weight",
         8, 12, true},
        {"decoder/layers_1/mlp/wo/kernel", "decoder.block.1.layer.2.DenseReluDense.wo.weight", 12,
         8, true},
        {"decoder/layers_0/encoder_decoder_attention/out/kernel",
         "decoder.block.0.layer.1.EncDecAttention.o.weight", 8, 8, true},
        {"decoder/layers_0/pre_cross_attention_layer_norm/scale",
         "decoder.block.0.layer.1.layer_norm.weight", 8, 0, false},
        {"decoder/relpos_bias/rel_embedding",
         "decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", 2, 32, true},
        {"decoder/logits_dense/kernel", "lm_head.weight", 8, 96, true},
        {"encoder/encoder_norm/scale", "encoder.final_layer_norm.weight", 8, 0, false},
    };
    struct t5_name *n = NULL;
    size_t count;
    spt_err err = {0};
    EXPECT_OK(t5_names_list(&tiny_t5_default, &n, &count, &err), &err);
    EXPECT_EQ_I64(count, 6 + 2 * 9 + 2 * 14);
    for (size_t i = 0; i < sizeof want / sizeof want[0]; i++) {
        const struct t5_name *t = find(n, count, want[i].t5x);
        if (!t)
            fail_msg("no %s", want[i].t5x);
        EXPECT_STR(t->hf, want[i].hf);
        EXPECT_EQ_I64(t->transposed, want[i].transposed);
        EXPECT_EQ_I64(t->shape.rank, want[i].b ? 2 : 1);
        EXPECT_EQ_I64(t->shape.dim[0], want[i].a);
        EXPECT_EQ_I64(t->shape.dim[1], want[i].b);
    }
    mem_free(n);
}

static void variants(void **state)
{
    (void)state;
    struct t5_config c = tiny_t5_default;
    struct t5_name *n = NULL;
    size_t count;
    spt_err err = {0};
    c.gated = false;
    c.head_is_embedding = true;
    c.per_layer_bias = true;
    c.dec_layers = 1;
    EXPECT_OK(t5_names_list(&c, &n, &count, &err), &err);
    EXPECT_EQ_I64(count, 3 + 2 * 9 + 14);
    EXPECT_TRUE(!find(n, count, "decoder/logits_dense/kernel"));
    EXPECT_TRUE(!find(n, count, "encoder/relpos_bias/rel_embedding"));
    expect_hf(n, count, "encoder/layers_1/relpos_bias/rel_embedding",
              "encoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight");
    expect_hf(n, count, "encoder/layers_1/mlp/wi/kernel",
              "encoder.block.1.layer.1.DenseReluDense.wi.weight");
    mem_free(n);
    c.enc_layers = 0;
    EXPECT_STATUS(t5_names_list(&c, &n, &count, &err), SPT_E_CONFIG);
    c.enc_layers = 1000000;
    EXPECT_STATUS(t5_names_list(&c, &n, &count, &err), SPT_E_CONFIG);
}

static void tree_order(void **state)
{
    (void)state;
    struct t5_config c = tiny_t5_default;
    struct t5_name *n = NULL;
    size_t count;
    spt_err err = {0};
    c.enc_layers = 12;
    EXPECT_OK(t5_names_list(&c, &n, &count, &err), &err);
    for (size_t i = 1; i < count; i++)
        EXPECT_TRUE(t5_names_compare(n[i - 1].t5x, n[i].t5x) < 0);
    EXPECT_STR(n[0].t5x, "decoder/decoder_norm/scale");
    EXPECT_STR(n[count - 1].t5x, "token_embedder/embedding");
    EXPECT_TRUE(t5_names_compare("a/layers_10/x", "a/layers_2/x") < 0);
    EXPECT_TRUE(t5_names_compare("a/layers_1/z", "a/layers_10/x") < 0);
    EXPECT_TRUE(t5_names_compare("a/b/z", "a/b.c/a") < 0); /* bytewise, '.' < '/' */
    EXPECT_TRUE(t5_names_compare("a", "a/b") < 0);
    EXPECT_EQ_I64(t5_names_compare("a/b", "a/b"), 0);
    mem_free(n);
}

static void patterns(void **state)
{
    (void)state;
    int64_t k = -1;
    EXPECT_TRUE(t5_names_match("encoder.block.#.x", "encoder.block.17.x", &k) && k == 17);
    EXPECT_TRUE(t5_names_match("#.#", "3.4", &k) && k == 3);
    EXPECT_TRUE(!t5_names_match("a.#", "a.", NULL));
    EXPECT_TRUE(!t5_names_match("a.#", "a.01", NULL));
    EXPECT_TRUE(!t5_names_match("a.#", "a.1x", NULL));
    EXPECT_TRUE(!t5_names_match("a.#", "a.99999999999999999999", NULL));
    EXPECT_TRUE(!t5_names_match("a.#.b", "a.1", NULL));
}

static void leftovers(void **state)
{
    (void)state;
    EXPECT_EQ_I64(t5_leftover_of("decoder.block.11.layer.2.layer_norm.bias"), T5_MUST_BE_ZERO);
    EXPECT_EQ_I64(t5_leftover_of("encoder.final_layer_norm.bias"), T5_MUST_BE_ZERO);
    EXPECT_EQ_I64(
        t5_leftover_of("decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"),
        T5_IGNORED);
    EXPECT_EQ_I64(t5_leftover_of("encoder.embed_tokens.weight"), T5_EMBEDDING_COPY);
    EXPECT_EQ_I64(
        t5_leftover_of("encoder.block.3.layer.0.SelfAttention.relative_attention_bias.weight"),
        T5_TABLE_COPY);
    EXPECT_EQ_I64(t5_leftover_of("encoder.block.0.layer.0.adapter.weight"), T5_STRANGER);
    EXPECT_EQ_I64(t5_leftover_of("encoder.block.0.layer.0.SelfAttention.q.bias"), T5_STRANGER);
    EXPECT_EQ_I64(t5_leftover_of(""), T5_STRANGER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table),    cmocka_unit_test(variants),  cmocka_unit_test(tree_order),
        cmocka_unit_test(patterns), cmocka_unit_test(leftovers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
