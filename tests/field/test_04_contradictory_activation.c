/* Field case 04: config.json and tensors that disagree about the feed-forward block. Refusals are in
 * tests/unit/model/test_source.c; here are the numbers. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/t5ref.h"

static void check(const char *ff, bool gated, enum ops_activation act)
{
    struct tiny_t5 m;
    struct t5_config c = tiny_t5_default;
    double want[T5REF_PAIRS];
    char text[2048];
    const char *key = "\"feed_forward_proj\": \"gated-gelu\"", *at = strstr(tiny_t5_config, key);
    const char *dir = test_tmpdir();
    assert_non_null(at);
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - tiny_t5_config), tiny_t5_config, ff,
             at + strlen(key));
    c.gated = gated;
    tiny_t5_make(&m, &c, 7);
    t5ref_scores(&m, &(struct t5ref_opts){act, gated, false, "lm_head.weight", false}, want);
    tiny_t5_write(&m, dir, text);
    t5ref_expect(dir, want, 5e-6);
    tiny_t5_free(&m);
}

static void early_flan_and_its_likes(void **state)
{
    (void)state;
    check("\"feed_forward_proj\": \"gated-gelu\"", true, OPS_GELU_TANH);
    check("\"feed_forward_proj\": \"gelu\", \"is_gated_act\": true, \"dense_act_fn\": \"gelu\"", true,
          OPS_GELU_TANH);
    check("\"feed_forward_proj\": \"gated-gelu\", \"is_gated_act\": true, \"dense_act_fn\": "
          "\"gelu_new\"",
          true, OPS_GELU_TANH);
}

static void other_activations(void **state)
{
    (void)state;
    check("\"feed_forward_proj\": \"gated-silu\"", true, OPS_SILU);
    check("\"feed_forward_proj\": \"gated-relu\"", true, OPS_RELU);
    check("\"feed_forward_proj\": \"gelu\"", false, OPS_GELU_ERF);
    check("\"x\": 1", false, OPS_RELU);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(early_flan_and_its_likes),
        cmocka_unit_test(other_activations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
