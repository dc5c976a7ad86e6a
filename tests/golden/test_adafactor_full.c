/* golden/adafactor_full_5: Adafactor over all 76 parameters of the small model. The gradients of
 * the first step are those of golden/tiny_forward (same parameters, same batch), so that the norms
 * of every parameter after that step test factoring, parameter scales, momentum and the global
 * norm without a model. */
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/optim.h"

enum { PARAMS = 76, NAME = 128 };

/* settings.param_order of golden.json. */
static void read_order(char order[PARAMS][NAME])
{
    size_t len;
    const char *p = strstr(golden_text("adafactor_full_5", "golden.json", &len), "\"param_order\"");
    EXPECT_TRUE(p != NULL);
    p = strchr(p, '[');
    for (int i = 0; i < PARAMS; i++) {
        p = strchr(p, '"') + 1;
        const size_t n = strcspn(p, "\"");
        EXPECT_TRUE(n < NAME);
        memcpy(order[i], p, n);
        order[i][n] = 0;
        p += n + 1;
    }
}

static void one_variant(const char *variant, int64_t min_dim, double beta1, double clip)
{
    static char order[PARAMS][NAME];
    static struct optim_param params[PARAMS];
    static float *value[PARAMS];
    static const float *grad[PARAMS];
    struct optim_config cfg = optim_config_default();
    optim *o = NULL;
    spt_err err;
    char file[64];
    read_order(order);
    snprintf(file, sizeof file, "%s.param_norms.npy", variant);
    const struct golden_array norms = golden_npy_shaped("adafactor_full_5", file, 2, 5, PARAMS);
    for (int i = 0; i < PARAMS; i++) {
        const struct golden_array p = golden_tensor("tiny_forward", "params", order[i]);
        value[i] = p.f32;
        grad[i] = golden_tensor("tiny_forward", "grads", order[i]).f32;
        params[i] = (struct optim_param){order[i], {.rank = p.rank}, NULL};
        memcpy(params[i].shape.dim, p.dim, sizeof params[i].shape.dim);
    }
    cfg.adafactor.min_dim_size_to_factor = min_dim;
    cfg.adafactor.beta1 = beta1;
    cfg.global_norm_clip = clip;
    EXPECT_OK(optim_new(&cfg, params, PARAMS, &o, &err), &err);
    optim_step(o, value, grad, 0.001f);
    for (int i = 0; i < PARAMS; i++) {
        size_t n, bytes;
        double sum = 0;
        EXPECT_OK(tensor_size(DT_F32, &params[i].shape, &n, &bytes, &err), &err);
        for (size_t j = 0; j < n; j++)
            sum += (double)value[i][j] * (double)value[i][j];
        /* the recorded norm is a float32 sum */
        const double want = (double)norms.f32[i];
        if (!(fabs(sqrt(sum) - want) <= 5e-7 * want))
            fail_msg("%s, %s: norm %.9g, wanted %.9g", variant, order[i], sqrt(sum), want);
    }
    optim_free(o);
}

static void not_factored(void **state)
{
    one_variant("d128", 128, -1, 0);
}

static void factored(void **state)
{
    one_variant("d16", 16, -1, 0);
}

static void factored_with_momentum_and_clip(void **state)
{
    one_variant("d16m", 16, 0.9, 1.0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(not_factored),
        cmocka_unit_test(factored),
        cmocka_unit_test(factored_with_momentum_and_clip),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
