/* Field case 05: tensors that no T5 uses do not change a number; umT5's tables do. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/t5ref.h"

static const struct t5ref_opts plain = {OPS_GELU_TANH, true, false, "lm_head.weight", false};

static void harmless_leftovers(void **state)
{
    (void)state;
    struct tiny_t5 m;
    double want[T5REF_PAIRS];
    const char *dir = test_tmpdir();
    tiny_t5_make(&m, &tiny_t5_default, 7);
    t5ref_scores(&m, &plain, want);
    tiny_t5_add(&m, "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight",
                shape_2d(32, 2), NAN);
    tiny_t5_add(&m, "encoder.block.1.layer.1.layer_norm.bias", shape_1d(8), 0);
    tiny_t5_copy(&m, "shared.weight", "decoder.embed_tokens.weight");
    tiny_t5_write(&m, dir, tiny_t5_config);
    t5ref_expect(dir, want, 5e-6);
    tiny_t5_free(&m);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *name;
        float fill;
    } bad[] = {{"encoder.block.1.layer.1.layer_norm.bias", 0.5f},
               {"encoder.block.0.layer.0.adapter.weight", 1},
               {"decoder.block.1.layer.0.SelfAttention.relative_attention_bias.weight", NAN}};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct tiny_t5 m;
        double out[T5REF_PAIRS];
        spt_err err = {0};
        const char *dir = test_tmpdir();
        tiny_t5_make(&m, &tiny_t5_default, 7);
        tiny_t5_add(&m, bad[i].name, i == 2 ? shape_2d(32, 2) : shape_1d(8), bad[i].fill);
        tiny_t5_write(&m, dir, tiny_t5_config);
        EXPECT_STATUS(t5ref_scores_of_dir(dir, "ref", OPS_FLOAT32, out, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, bad[i].name);
        tiny_t5_free(&m);
    }
}

static void umt5_tables_count(void **state)
{
    (void)state;
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    struct t5ref_opts o = plain;
    double want[T5REF_PAIRS], shared[T5REF_PAIRS];
    char text[2048];
    const char *at = strstr(tiny_t5_config, "\"t5\"");
    const char *dir = test_tmpdir();
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s\"umt5\"%s", (int)(at - tiny_t5_config), tiny_t5_config, at + 4);
    c.per_layer_bias = true;
    tiny_t5_make(&m, &c, 7);
    t5ref_scores(&m, &o, shared);
    o.per_layer = true;
    t5ref_scores(&m, &o, want);
    EXPECT_TRUE(fabs(shared[3] - want[3]) > 1e-3);
    tiny_t5_write(&m, dir, text);
    t5ref_expect(dir, want, 5e-6);
    tiny_t5_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(harmless_leftovers),
        cmocka_unit_test(refused),
        cmocka_unit_test(umt5_tables_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
