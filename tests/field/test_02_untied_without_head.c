/* Field case 02: the config says "untied" but the file has no head, and the reverse. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "support/t5ref.h"

#define TOL 5e-6 /* float32 against double on sums of up to 4 log-probabilities */

static const struct t5ref_opts own_head = {OPS_GELU_TANH, true, false, "lm_head.weight", false};
static const struct t5ref_opts own_head_scaled = {OPS_GELU_TANH, true, true, "lm_head.weight", false};
static const struct t5ref_opts table = {OPS_GELU_TANH, true, false, "shared.weight", false};
static const struct t5ref_opts table_scaled = {OPS_GELU_TANH, true, true, "shared.weight", false};

static const char *config(const char *tie)
{
    static char text[2048];
    const char *key = "\"tie_word_embeddings\": false, ", *at = strstr(tiny_t5_config, key);
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - tiny_t5_config), tiny_t5_config, tie,
             at + strlen(key));
    return text;
}

static void check(bool with_head, const char *tie, const struct t5ref_opts *o,
                  const struct t5ref_opts *wrong)
{
    struct tiny_t5 m;
    double want[T5REF_PAIRS], not[T5REF_PAIRS];
    const char *dir = test_tmpdir();
    tiny_t5_make(&m, &tiny_t5_default, 7);
    t5ref_scores(&m, o, want);
    t5ref_scores(&m, wrong, not);
    EXPECT_TRUE(want[0] - not[0] > 100 * TOL || not[0] - want[0] > 100 * TOL);
    if (!with_head)
        tiny_t5_drop(&m, "lm_head.weight");
    tiny_t5_write(&m, dir, config(tie));
    t5ref_expect(dir, want, TOL);
    tiny_t5_free(&m);
}

static void untied_with_head(void **state)
{
    (void)state;
    check(true, "\"tie_word_embeddings\": false, ", &own_head, &table);
}

static void untied_no_head(void **state)
{
    (void)state;
    check(false, "\"tie_word_embeddings\": false, ", &table, &table_scaled);
}

static void tied_no_head(void **state)
{
    (void)state;
    check(false, "", &table_scaled, &table);
    check(false, "\"tie_word_embeddings\": true, ", &table_scaled, &table);
}

static void tied_but_other_head(void **state)
{
    (void)state;
    check(true, "", &own_head_scaled, &own_head);
}

static void v5_style(void **state)
{
    (void)state;
    check(false, "\"tie_word_embeddings\": true, \"scale_decoder_outputs\": false, ", &table,
          &table_scaled);
    check(true, "\"tie_word_embeddings\": false, \"scale_decoder_outputs\": true, ",
          &own_head_scaled, &own_head);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(untied_with_head),    cmocka_unit_test(untied_no_head),
        cmocka_unit_test(tied_no_head),        cmocka_unit_test(tied_but_other_head),
        cmocka_unit_test(v5_style),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
