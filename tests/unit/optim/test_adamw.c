/* optim/adamw: the worked step of spec/t5x.md 4.8, names and counts of the state, and the first
 * steps that torch's AdamW took from a recorded gradient (golden/hf/optim). */
#include "support/golden.h"
#include "support/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/optim.h"

static optim *new_of(const struct adamw_opts *opts, struct tensor_shape shape)
{
    struct optim_config cfg = optim_config_default();
    const struct optim_param p = {"encoder/prompt/prompt/prompt", shape, NULL};
    optim *o = NULL;
    spt_err err;
    cfg.kind = OPTIM_ADAMW;
    cfg.adamw = *opts;
    EXPECT_OK(optim_new(&cfg, &p, 1, &o, &err), &err);
    return o;
}

static void step(optim *o, float *param, const float *grad, float lr)
{
    optim_step(o, &param, &grad, lr);
}

static void worked_step(void **state)
{
    const struct adamw_opts a = adamw_defaults();
    float p = 1, g = 0.5f;
    optim *o = new_of(&a, shape_1d(1));
    step(o, &p, &g, 1e-3f);
    EXPECT_NEAR(p, 0.99899990002, 6e-8);
    optim_free(o);
}

/* Against the formula in double, over steps with changing gradients. */
static void formula_in_double(void **state)
{
    const struct adamw_opts a = {0.8, 0.95, 1e-6, 1e-10, 0.02, false};
    double mu = 0, nu = 0, want = 2;
    float p = 2;
    optim *o = new_of(&a, shape_1d(1));
    for (int t = 1; t <= 50; t++) {
        const float g = sinf((float)t);
        step(o, &p, &g, 0.01f);
        mu = 0.8 * mu + 0.2 * (double)g;
        nu = 0.95 * nu + 0.05 * (double)g * (double)g;
        const double m = mu / (1 - pow(0.8, t)), v = nu / (1 - pow(0.95, t));
        want -= 0.01 * (m / (sqrt(v + 1e-10) + 1e-6) + 0.02 * want);
    }
    EXPECT_NEAR(p, want, 1e-6);
    optim_free(o);
}

static void names_and_counts(void **state)
{
    struct adamw_opts a = adamw_defaults();
    float p[6] = {0};
    const float g[6] = {1, 2, 3, 4, 5, 6};
    optim *o = new_of(&a, shape_2d(2, 3));
    EXPECT_EQ_I64(optim_slot_count(o), 4);
    EXPECT_TRUE(!optim_slot_find(o, "param_states/2/count"));
    optim_free(o);
    a.schedule_count = true;
    o = new_of(&a, shape_2d(2, 3));
    optim_set_step(o, 1100000);
    step(o, p, g, 0.1f);
    step(o, p, g, 0.1f);
    EXPECT_EQ_I64(optim_get_step(o), 1100002);
    EXPECT_EQ_I64(*(int32_t *)optim_slot_find(o, "step")->data, 1100002);
    EXPECT_EQ_I64(*(int32_t *)optim_slot_find(o, "param_states/0/count")->data, 2);
    EXPECT_EQ_I64(*(int32_t *)optim_slot_find(o, "param_states/2/count")->data, 2);
    const struct optim_slot *mu =
        optim_slot_find(o, "param_states/0/mu/encoder/prompt/prompt/prompt");
    EXPECT_EQ_I64(mu->shape.rank, 2);
    EXPECT_EQ_I64(mu->shape.dim[1], 3);
    EXPECT_TRUE(optim_slot_find(o, "param_states/0/nu/encoder/prompt/prompt/prompt") != NULL);
    optim_free(o);
}

static void settings_are_checked(void **state)
{
    const struct optim_param p = {"x", shape_1d(2), NULL};
    struct optim_config cfg = optim_config_default();
    optim *o = NULL;
    spt_err err;
    cfg.kind = OPTIM_ADAMW;
    cfg.adamw.b2 = 1;
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "b2");
    cfg.adamw = adamw_defaults();
    cfg.adamw.weight_decay = -1;
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    enum optim_kind kind;
    EXPECT_TRUE(optim_kind_from_name("adamw", &kind) && kind == OPTIM_ADAMW);
    EXPECT_TRUE(optim_kind_from_name("adafactor", &kind) && kind == OPTIM_ADAFACTOR);
    EXPECT_TRUE(!optim_kind_from_name("adam", &kind));
    EXPECT_STR(optim_kind_name(OPTIM_ADAMW), "adamw");
}

static spt_status build(void *ctx, spt_err *err)
{
    const struct optim_param p = {"a", shape_2d(20, 3), NULL};
    struct optim_config cfg = optim_config_default();
    optim *o = NULL;
    cfg.kind = OPTIM_ADAMW;
    cfg.adamw.schedule_count = true;
    TRY(optim_new(&cfg, &p, 1, &o, err));
    optim_free(o);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(build, NULL) > 10);
}

/* torch decays first, and corrects the bias in double where optax has 1 - float32(0.999), which is
 * off by 1.3e-5: half of that under the root, times the learning rate. */
static void torch_first_step(void **state)
{
    static const struct {
        const char *name;
        float lr;
        double decay;
    } runs[] = {{"adamw_0.3", 0.3f, 0.01}, {"adamw_1e-3", 1e-3f, 0.01}, {"adamw_0.3_wd0", 0.3f, 0}};
    const struct golden_array p0 = golden_npy_shaped("hf/optim", "prompt.000.npy", 2, 10, 64);
    const struct golden_array g = golden_npy_shaped("hf/optim", "grad.000.npy", 2, 10, 64);
    for (size_t r = 0; r < sizeof runs / sizeof *runs; r++) {
        struct adamw_opts a = adamw_defaults();
        char name[64];
        float p[640];
        a.weight_decay = runs[r].decay;
        snprintf(name, sizeof name, "%s.prompt.001.npy", runs[r].name);
        const struct golden_array p1 = golden_npy("hf/optim", name);
        snprintf(name, sizeof name, "%s.state.exp_avg_sq.001.npy", runs[r].name);
        const struct golden_array nu = golden_npy("hf/optim", name);
        optim *o = new_of(&a, shape_2d(10, 64));
        memcpy(p, p0.f32, sizeof p);
        step(o, p, g.f32, runs[r].lr);
        const float *got =
            optim_slot_find(o, "param_states/0/nu/encoder/prompt/prompt/prompt")->data;
        for (int i = 0; i < 640; i++)
            EXPECT_TRUE(fabsf(got[i] - nu.f32[i]) <= 4 * FLT_EPSILON * nu.f32[i]);
        EXPECT_NEAR(golden_max_diff(p, p1.f32, 640), 0, 6e-7 + 6.5e-6 * (double)runs[r].lr);
        optim_free(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(worked_step),
        cmocka_unit_test(formula_in_double),
        cmocka_unit_test(names_and_counts),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(torch_first_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
