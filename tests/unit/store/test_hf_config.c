#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "store/hf_config.h"

static spt_status parse(const char *text, struct hf_config *c, spt_err *err)
{
    return hf_config_parse(text, strlen(text), c, err);
}

static void defaults(void **state)
{
    (void)state;
    struct hf_config c;
    spt_err err = {0};
    EXPECT_OK(parse("{}", &c, &err), &err);
    EXPECT_EQ_I64(c.vocab_size, 32128);
    EXPECT_EQ_I64(c.num_decoder_layers, 6);
    EXPECT_EQ_I64(c.relative_attention_max_distance, 128);
    EXPECT_TRUE(c.tie_word_embeddings && !c.has_tie_word_embeddings);
    EXPECT_TRUE(!c.scale_decoder_outputs && !c.has_scale_decoder_outputs);
    EXPECT_STR(c.feed_forward_proj, "relu");
    EXPECT_EQ_F64(c.layer_norm_epsilon, 1e-6);
}

static void values(void **state)
{
    (void)state;
    struct hf_config c;
    spt_err err = {0};
    EXPECT_OK(parse("{\"num_layers\": 12, \"num_decoder_layers\": 4, \"pad_token_id\": 3,"
                    " \"tie_word_embeddings\": false, \"layer_norm_epsilon\": 1e-5,"
                    " \"feed_forward_proj\": \"gated-gelu\", \"other\": {\"num_layers\": 7},"
                    " \"x\": [1, NaN, -Infinity], \"d_kv\": null}",
                    &c, &err),
              &err);
    EXPECT_EQ_I64(c.num_layers, 12);
    EXPECT_EQ_I64(c.num_decoder_layers, 4);
    EXPECT_EQ_I64(c.decoder_start_token_id, 3); /* absent: the pad id */
    EXPECT_TRUE(!c.has_d_kv && c.d_kv == 64);
    EXPECT_TRUE(c.has_tie_word_embeddings && !c.tie_word_embeddings);
    EXPECT_EQ_F64(c.layer_norm_epsilon, 1e-5);
    EXPECT_STR(c.feed_forward_proj, "gated-gelu");
    EXPECT_OK(parse("{\"num_layers\": 12, \"num_decoder_layers\": null}", &c, &err), &err);
    EXPECT_TRUE(c.num_decoder_layers == 12 && !c.has_num_decoder_layers);
}

static void refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *part;
    } bad[] = {
        {"", "byte"},
        {"[]", "object"},
        {"{\"d_model\": \"64\"}", "d_model"},
        {"{\"d_model\": 64.0}", "d_model"},
        {"{\"d_model\": 6e1}", "d_model"},
        {"{\"d_model\": -1}", "d_model"},
        {"{\"d_model\": 2147483648}", "d_model"},
        {"{\"d_model\": 9223372036854775808}", "d_model"},
        {"{\"d_model\": true}", "d_model"},
        {"{\"d_model\": [64]}", "d_model"},
        {"{\"d_model\": 64, \"d_model\": 64}", "twice"},
        {"{\"x\": 1, \"x\": 2}", "twice"},
        {"{\"layer_norm_epsilon\": \"1e-6\"}", "layer_norm_epsilon"},
        {"{\"layer_norm_epsilon\": -1}", "layer_norm_epsilon"},
        {"{\"layer_norm_epsilon\": NaN}", "layer_norm_epsilon"},
        {"{\"layer_norm_epsilon\": 1e400}", "layer_norm_epsilon"},
        {"{\"tie_word_embeddings\": 0}", "tie_word_embeddings"},
        {"{\"tie_word_embeddings\": \"false\"}", "tie_word_embeddings"},
        {"{\"model_type\": 5}", "model_type"},
        {"{\"model_type\": \"0123456789012345678901234567890123456789012345678901234567890123\"}",
         "model_type"},
        {"{} x", "byte"},
        {"{", "byte"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct hf_config c;
        spt_err err = {0};
        if (parse(bad[i].text, &c, &err) != SPT_E_FORMAT || !strstr(err.msg, bad[i].part))
            fail_msg("%s: \"%s\" does not contain \"%s\"", bad[i].text, err.msg, bad[i].part);
    }
}

static spt_status read_case(void *ctx, spt_err *err)
{
    struct hf_config c;
    return hf_config_read(ctx, &c, err);
}

static void faults(void **state)
{
    (void)state;
    char path[1024];
    snprintf(path, sizeof path, "%s/config.json", test_tmpdir());
    test_write(path, "{\"d_model\": 64}", 15);
    EXPECT_TRUE(fault_every_alloc(read_case, path) > 0);
    EXPECT_TRUE(fault_every_syscall(read_case, path, EIO) > 0);
    test_write(path, "{\"d_model\": x}", 14);
    struct hf_config c;
    spt_err err = {0};
    EXPECT_STATUS(hf_config_read(path, &c, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults),
        cmocka_unit_test(values),
        cmocka_unit_test(refused),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
