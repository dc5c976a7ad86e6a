/* Parameters made from scratch against golden/tiny_forward, whose base the T5X stack initialised from
 * PRNGKey(1234) with flax's older derivation of keys. It then scaled queries and keys by 1.5 and the head by 2, and replaced norms and
 * relative biases, which this test leaves out. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "model/names.h"
#include "model/scratch.h"
#include "support/golden_model.h"

#define CASE "tiny_forward"
/* Normal draws go through an inverse error function of a few units in the last place. */
#define TOL_NORMAL 1e-6

static float factor_of(const char *name)
{
    if (strstr(name, "/query/kernel") || strstr(name, "/key/kernel"))
        return 1.5f;
    return strstr(name, "logits_dense") ? 2 : 1;
}

static void equals_the_stack(void **state)
{
    (void)state;
    spt_err err;
    if (!test_golden_dir())
        skip();
    const struct t5_config c = golden_config(CASE);
    struct t5_name *name;
    size_t n, compared = 0;
    double worst = 0;
    EXPECT_OK(t5_names_list(&c, &name, &n, &err), &err);
    for (size_t i = 0; i < n; i++) {
        const struct golden_array want = golden_tensor(CASE, "params", name[i].t5x);
        if (strstr(name[i].t5x, "/scale") || strstr(name[i].t5x, "rel_embedding"))
            continue;
        size_t elements, bytes;
        EXPECT_OK(tensor_size(DT_F32, &name[i].shape, &elements, &bytes, &err), &err);
        EXPECT_EQ_I64((int64_t)elements, (int64_t)want.elements);
        float *got = mem_alloc(elements, sizeof *got);
        EXPECT_OK(t5_scratch(&c, name[i].t5x, &name[i].shape, rng_key_of(1234), FLAX_LEGACY,
                             got, &err), &err);
        for (size_t k = 0; k < elements; k++)
            got[k] *= factor_of(name[i].t5x);
        const double d = golden_rel(got, want.f32, elements);
        if (!(d <= TOL_NORMAL))
            fail_msg("%s: differs by %.3g", name[i].t5x, d);
        worst = d > worst ? d : worst;
        mem_free(got);
        compared++;
    }
    mem_free(name);
    print_message("%zu parameters, largest difference %.2g\n", compared, worst);
    EXPECT_TRUE(compared > 20);
}

static void the_rest(void **state)
{
    (void)state;
    spt_err err;
    const struct t5_config c = {.heads = 4, .buckets = 8, .head_dim = 4};
    const struct tensor_shape table = shape_2d(4, 8), scale = shape_1d(3);
    float t[32], s[3];
    double most = 0;
    EXPECT_OK(t5_scratch(&c, "encoder/relpos_bias/rel_embedding", &table, rng_key_of(1), FLAX_LAZY, t, &err),
              &err);
    for (size_t i = 0; i < 32; i++)
        most = t[i] > most ? t[i] : -t[i] > most ? -t[i] : most;
    EXPECT_TRUE(most > 0.5 && most <= 0.70710678); /* sqrt(3 / 6) */
    EXPECT_OK(t5_scratch(&c, "encoder/encoder_norm/scale", &scale, rng_key_of(1), FLAX_LAZY, s, &err), &err);
    EXPECT_TRUE(s[0] == 1 && s[1] == 1 && s[2] == 1);
    EXPECT_STATUS(t5_scratch(&c, "encoder/what/else", &scale, rng_key_of(1), FLAX_LAZY, s, &err),
                  SPT_E_NOTFOUND);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(equals_the_stack),
                                       cmocka_unit_test(the_rest)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
