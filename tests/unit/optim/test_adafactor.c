/* optim/adafactor: vectors of the T5X tests and of spec/t5x.md 4.3-4.7, the size rule, named axes,
 * and recorded gradients (golden/adafactor_trace, golden/hf/optim). */
#include "support/golden.h"
#include "support/test.h"

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "optim/optim.h"

static optim *new_of(const struct optim_config *cfg, struct tensor_shape shape, const char *axes)
{
    const struct optim_param p = {"encoder/prompt/prompt/prompt", shape, axes};
    optim *o = NULL;
    spt_err err;
    EXPECT_OK(optim_new(cfg, &p, 1, &o, &err), &err);
    return o;
}

static float *slot(const optim *o, const char *name)
{
    char full[200] = "param_states/encoder/prompt/prompt/prompt/";
    strcat(full, name);
    const struct optim_slot *s = optim_slot_find(o, full);
    EXPECT_TRUE(s != NULL);
    return s->data;
}

static void expect_shape(const optim *o, const char *name, int rank, int64_t a, int64_t b)
{
    char full[200] = "param_states/encoder/prompt/prompt/prompt/";
    strcat(full, name);
    const struct tensor_shape *s = &optim_slot_find(o, full)->shape;
    EXPECT_EQ_I64(s->rank, rank);
    EXPECT_EQ_I64(s->dim[0], a);
    if (rank > 1)
        EXPECT_EQ_I64(s->dim[1], b);
}

static void step(optim *o, float *param, const float *grad, float lr)
{
    optim_step(o, &param, &grad, lr);
}

static void fill(float *x, int n, float value)
{
    for (int i = 0; i < n; i++)
        x[i] = value;
}

static void factored_vectors_of_t5x(void **state)
{
    struct optim_config cfg = optim_config_default();
    cfg.adafactor.min_dim_size_to_factor = 0;
    for (int clip = 0; clip < 2; clip++) {
        float p[6], g[6];
        cfg.global_norm_clip = clip ? 1.0 : 0;
        optim *o = new_of(&cfg, shape_2d(3, 2), NULL);
        fill(p, 6, 1);
        fill(g, 6, 1);
        fill(slot(o, "v_row"), 2, 0.9f);
        fill(slot(o, "v_col"), 3, 0.1f);
        optim_set_step(o, 1);
        step(o, p, g, 0.1f);
        EXPECT_NEAR(slot(o, "v_row")[1], clip ? 0.478811 : 0.9574349, 2e-6);
        EXPECT_NEAR(slot(o, "v_col")[2], clip ? 0.13829 : 0.6169143, 2e-6);
        if (!clip)
            for (int i = 0; i < 6; i++)
                EXPECT_NEAR(p[i], 0.9, 1e-6);
        EXPECT_EQ_I64(optim_get_step(o), 2);
        optim_free(o);
    }
}

static void momentum_vector_of_t5x(void **state)
{
    struct optim_config cfg = optim_config_default();
    float p[3], g[3];
    cfg.adafactor.beta1 = 0;
    optim *o = new_of(&cfg, shape_1d(3), NULL);
    fill(p, 3, 1);
    fill(g, 3, 1);
    fill(slot(o, "v"), 3, 0.5f);
    optim_set_step(o, 1);
    step(o, p, g, 0.1f);
    EXPECT_NEAR(slot(o, "v")[0], 0.787174, 2e-6);
    EXPECT_NEAR(slot(o, "m")[0], 0.1, 1e-7);
    optim_free(o);
}

static const float tiny_prompt[12] = {0.1f, 0.05f, 0.0f, -0.05f, 0.2f, 0.15f,
                                      0.1f, 0.05f, 0.3f, 0.25f,  0.2f, 0.15f};

/* Gradients of spec/t5x.md 3.6; the prompt of section 1.15 follows from the result: p + 0.3 sign.
 */
static void worked_steps_of_the_specification(void **state)
{
    static const float grad[12] = {0.776369642f, 0.809282632f,  -0.347875854f, 1.232546783f,
                                   0.091864884f, -0.665726816f, -0.748706452f, -0.383633697f,
                                   0.395861917f, -0.218760654f, -0.322929239f, -0.181209245f};
    static const float v[12] = {0.198833289f, 0.216049093f, 0.039920923f, 0.501139727f,
                                0.002783884f, 0.146198901f, 0.184916284f, 0.048549583f,
                                0.051693919f, 0.015786666f, 0.034400658f, 0.010832101f};
    static const float want[12] = {-0.200001f, -0.2500005f, 0.3f,      -0.3499995f,
                                   -0.100002f, 0.4499985f,  0.399999f, 0.3499995f,
                                   -0.000003f, 0.5499975f,  0.499998f, 0.4499985f};
    const struct optim_config cfg = optim_config_prompt_tuning();
    float p[12];
    memcpy(p, tiny_prompt, sizeof p);
    optim *o = new_of(&cfg, shape_2d(3, 4), NULL);
    optim_set_step(o, 3);
    step(o, p, grad, 0.3f);
    for (int i = 0; i < 12; i++) {
        EXPECT_NEAR(slot(o, "v")[i], v[i], 1e-7);
        EXPECT_NEAR(p[i], want[i], 1e-6);
    }
    optim_free(o);
}

/* From v = 0 at a large step clipping makes the first update +-lr; 1 - 1100001^-0.8 is rounded to
 * float32, which leaves a mix of 1.4662743e-05 (exactly: 1.46854e-05). */
static void first_update_of_a_late_start(void **state)
{
    struct optim_config cfg = optim_config_prompt_tuning();
    const float g[4] = {3, -0.5f, 1e-3f, -7};
    float p[4] = {0};
    optim *o = new_of(&cfg, shape_1d(4), NULL);
    optim_set_step(o, 1100000);
    step(o, p, g, 0.3f);
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(p[i], g[i] > 0 ? -0.3 : 0.3, 2e-7);
    EXPECT_NEAR(slot(o, "v")[0] / 9.0f, 1.4662743e-05, 1e-12);
    optim_free(o);
}

static void size_rule(void **state)
{
    const struct optim_config cfg = optim_config_prompt_tuning();
    optim *o = new_of(&cfg, shape_2d(127, 768), NULL);
    expect_shape(o, "v", 2, 127, 768);
    expect_shape(o, "v_row", 1, 1, 0);
    expect_shape(o, "v_col", 1, 1, 0);
    expect_shape(o, "m", 1, 1, 0);
    optim_free(o);
    o = new_of(&cfg, shape_2d(128, 768), NULL);
    expect_shape(o, "v", 1, 1, 0);
    expect_shape(o, "v_row", 1, 128, 0);
    expect_shape(o, "v_col", 1, 768, 0);
    optim_free(o);
    o = new_of(&cfg, shape_2d(32128, 768), NULL);
    expect_shape(o, "v_row", 1, 768, 0);
    expect_shape(o, "v_col", 1, 32128, 0);
    optim_free(o);
    o = new_of(&cfg, shape_1d(4096), NULL);
    expect_shape(o, "v", 1, 4096, 0);
    optim_free(o);
    struct optim_config off = cfg;
    off.adafactor.factored = false;
    o = new_of(&off, shape_2d(128, 768), NULL);
    expect_shape(o, "v", 2, 128, 768);
    optim_free(o);
}

/* A stack of layers is factored layer by layer: the same numbers as one tensor per layer. */
static void batch_axes_are_independent(void **state)
{
    enum { L = 3, E = 4, F = 5 };
    struct optim_config cfg = optim_config_default();
    float all[L * E * F], grad[L * E * F];
    cfg.adafactor.min_dim_size_to_factor = 0;
    cfg.adafactor.beta1 = 0.9;
    optim *o = new_of(&cfg, (struct tensor_shape){3, {E, L, F}}, "embed,layers,mlp");
    expect_shape(o, "v_row", 2, E, L);
    expect_shape(o, "v_col", 2, L, F);
    for (int i = 0; i < L * E * F; i++) {
        all[i] = sinf((float)(7 * i));
        grad[i] = cosf((float)(5 * i)) * (1.0f + (float)(i / F % L));
    }
    float one[L][E * F], g[L][E * F];
    for (int i = 0; i < L * E * F; i++) {
        const int e = i / (L * F), l = i / F % L, f = i % F;
        one[l][e * F + f] = all[i];
        g[l][e * F + f] = grad[i];
    }
    for (int s = 0; s < 3; s++)
        step(o, all, grad, 0.1f);
    optim_free(o);
    for (int l = 0; l < L; l++) {
        /* [E, F] with E < F: rows are E, as above */
        o = new_of(&cfg, shape_2d(E, F), NULL);
        for (int s = 0; s < 3; s++)
            step(o, one[l], g[l], 0.1f);
        optim_free(o);
    }
    for (int i = 0; i < L * E * F; i++) {
        const int e = i / (L * F), l = i / F % L, f = i % F;
        EXPECT_EQ_F64(all[i], one[l][e * F + f]);
    }
}

static void axes_are_checked(void **state)
{
    struct optim_config cfg = optim_config_default();
    optim *o = NULL;
    spt_err err;
    const struct tensor_shape cube = {3, {2, 3, 4}};
    struct optim_param p = {"x", cube, NULL};
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "parameter x");
    p.axes = "embed,layers,colour";
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "'colour'");
    p.axes = "embed,mlp";
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    p.axes = "embed,mlp,heads,kv";
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    p.axes = "embed,mlp,prompt";
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_TRUE(o == NULL);
    /* ROW without COLUMN: not factored, statistics per layer */
    o = new_of(&cfg, shape_2d(4, 3), "embed,layers");
    expect_shape(o, "v", 2, 4, 3);
    optim_free(o);
    o = new_of(&cfg, (struct tensor_shape){3, {2, 3, 4}}, "tasks,prompt,embed");
    expect_shape(o, "v", 3, 2, 3);
    optim_free(o);
}

static void settings_are_checked(void **state)
{
    const struct optim_param p = {"x", shape_1d(2), NULL};
    optim *o = NULL;
    spt_err err;
    struct optim_config cfg = optim_config_default();
    cfg.adafactor.decay_rate = NAN;
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "decay_rate");
    cfg = optim_config_default();
    cfg.global_norm_clip = -1;
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    cfg = optim_config_default();
    cfg.kind = (enum optim_kind)9;
    EXPECT_STATUS(optim_new(&cfg, &p, 1, &o, &err), SPT_E_CONFIG);
    EXPECT_TRUE(o == NULL);
}

static void nan_updates_may_be_skipped(void **state)
{
    struct optim_config cfg = optim_config_prompt_tuning();
    const float bad[2] = {NAN, 1}, good[2] = {1, 1};
    for (int skip = 0; skip < 2; skip++) {
        float p[2] = {5, 6};
        cfg.adafactor.skip_nan_updates = skip;
        cfg.adafactor.beta1 = 0.5;
        optim *o = new_of(&cfg, shape_1d(2), NULL);
        step(o, p, good, 0.1f);
        const float before[2] = {p[0], p[1]}, v0 = slot(o, "v")[0], m0 = slot(o, "m")[0];
        step(o, p, bad, 0.1f);
        if (skip) { /* the NaN reaches every element through the RMS */
            EXPECT_EQ_F64(p[0], before[0]);
            EXPECT_EQ_F64(p[1], before[1]);
            EXPECT_EQ_F64(slot(o, "v")[0], v0);
            EXPECT_EQ_F64(slot(o, "m")[0], m0);
            EXPECT_TRUE(!isnan(slot(o, "v")[1]));
        } else {
            EXPECT_TRUE(isnan(p[0]) && isnan(p[1]) && isnan(slot(o, "v")[0]));
        }
        EXPECT_EQ_I64(optim_get_step(o), 2);
        optim_free(o);
    }
}

static void decay_may_follow_the_rate(void **state)
{
    struct optim_config cfg = optim_config_prompt_tuning();
    const float g[1] = {1};
    float p[1] = {1};
    cfg.adafactor.weight_decay_rate = 0.5;
    cfg.adafactor.weight_decay_rate_lr_exponent = 2;
    optim *o = new_of(&cfg, shape_1d(1), NULL);
    step(o, p, g, 0.1f);
    EXPECT_NEAR(p[0], (1 - 0.5 * 0.01) - 0.1, 1e-7);
    optim_free(o);
}

static void bfloat16_momentum(void **state)
{
    struct optim_config cfg = optim_config_prompt_tuning();
    const float g[2] = {1, -1};
    float p[2] = {0};
    cfg.adafactor.beta1 = 0.9;
    cfg.adafactor.momentum_bfloat16 = true;
    optim *o = new_of(&cfg, shape_1d(2), NULL);
    const struct optim_slot *m = optim_slot_find(o, "param_states/encoder/prompt/prompt/prompt/m");
    EXPECT_EQ_I64(m->dtype, DT_BF16);
    step(o, p, g, 1.0f);
    EXPECT_NEAR(bf16_to_f32(((uint16_t *)m->data)[0]), 0.1, 4e-4);
    EXPECT_NEAR(p[0], -0.1, 1e-7);
    step(o, p, g, 1.0f); /* bf16(0.8984375 * bf16(0.1)) + 0.1 */
    EXPECT_NEAR(p[1], 0.1 + 0.19, 1e-3);
    optim_free(o);
}

static void empty_parameters_are_harmless(void **state)
{
    const struct optim_config cfg = optim_config_default();
    float nothing = 0;
    optim *o = new_of(&cfg, shape_2d(0, 768), NULL);
    step(o, &nothing, &nothing, 0.1f);
    optim_free(o);
    o = NULL;
    spt_err err;
    EXPECT_OK(optim_new(&cfg, NULL, 0, &o, &err), &err);
    optim_step(o, NULL, NULL, 0.1f);
    EXPECT_EQ_I64(optim_get_step(o), 1);
    optim_free(o);
    optim_free(NULL);
}

static spt_status build(void *ctx, spt_err *err)
{
    struct optim_config cfg = optim_config_default();
    cfg.adafactor.beta1 = 0.9;
    const struct optim_param p[2] = {{"a", shape_2d(200, 130), NULL}, {"b", shape_1d(9), NULL}};
    optim *o = NULL;
    TRY(optim_new(&cfg, p, 2, &o, err));
    optim_free(o);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(build, NULL) > 20);
}

static void steps_allocate_nothing(void **state)
{
    static float p[200 * 130], g[200 * 130];
    struct optim_config cfg = optim_config_default();
    cfg.global_norm_clip = 1;
    fill(g, 200 * 130, 0.5f);
    fault_install();
    optim *o = new_of(&cfg, shape_2d(200, 130), NULL);
    fault_reset_peak();
    const size_t before = fault_peak_bytes();
    for (int i = 0; i < 3; i++)
        step(o, p, g, 0.1f);
    EXPECT_EQ_I64(fault_peak_bytes(), before);
    optim_free(o);
    fault_remove();
}

/* --- recorded ------------------------------------------------------------------------------- */

/* Feeds the recorded gradients at the recorded prompts: no divergence, only rounding. XLA computes
 * v^(-1/2) and the mean of squares in its own order: a few units in the last place. */
static void replay(const char *prefix, int steps, int64_t start)
{
    enum { N = 10 * 64 };
    char name[64];
    const struct optim_config cfg = optim_config_prompt_tuning();
    snprintf(name, sizeof name, "%sprompt.npy", prefix);
    const struct golden_array prompt =
        golden_npy_shaped("adafactor_trace", name, 3, steps + 1, 10, 64);
    snprintf(name, sizeof name, "%sgrad.npy", prefix);
    const struct golden_array grad = golden_npy_shaped("adafactor_trace", name, 3, steps, 10, 64);
    snprintf(name, sizeof name, "%sv.npy", prefix);
    const struct golden_array v = golden_npy_shaped("adafactor_trace", name, 3, steps, 10, 64);
    optim *o = new_of(&cfg, shape_2d(10, 64), NULL);
    optim_set_step(o, start);
    for (int s = 0; s < steps; s++) {
        float p[N];
        memcpy(p, prompt.f32 + s * N, sizeof p);
        if (s)
            memcpy(slot(o, "v"), v.f32 + (s - 1) * N, N * sizeof(float));
        step(o, p, grad.f32 + s * N, 0.3f);
        for (int i = 0; i < N; i++) {
            const double want = (double)v.f32[s * N + i];
            EXPECT_TRUE(fabs((double)slot(o, "v")[i] - want) <= 4 * FLT_EPSILON * want);
        }
        const double worst = golden_max_diff(p, prompt.f32 + (s + 1) * N, N);
        if (!(worst <= 5e-7))
            fail_msg("step %d: prompt differs by %g", s, worst);
    }
    optim_free(o);
}

static void recorded_steps(void **state)
{
    replay("", 30, 0);
    replay("late.", 10, 1100000);
}

/* transformers.Adafactor and torch AdamW, first step from the recorded gradient. */
static void hugging_face_first_step(void **state)
{
    const struct golden_array p0 = golden_npy_shaped("hf/optim", "prompt.000.npy", 2, 10, 64);
    const struct golden_array g = golden_npy_shaped("hf/optim", "grad.000.npy", 2, 10, 64);
    const struct golden_array p1 = golden_npy("hf/optim", "adafactor.prompt.001.npy");
    const struct golden_array row =
        golden_npy("hf/optim", "adafactor.state.exp_avg_sq_row.001.npy");
    const struct golden_array col =
        golden_npy("hf/optim", "adafactor.state.exp_avg_sq_col.001.npy");
    struct optim_config cfg = optim_config_default();
    cfg.adafactor = adafactor_hugging_face(1e-5);
    optim *o = new_of(&cfg, shape_2d(10, 64), NULL);
    float p[640];
    memcpy(p, p0.f32, sizeof p);
    step(o, p, g.f32, 0.3f);
    EXPECT_NEAR(golden_max_diff(p, p1.f32, 640), 0, 1e-6);
    for (size_t i = 0; i < row.elements; i++)
        EXPECT_TRUE(fabsf(slot(o, "v_row")[i] - row.f32[i]) <= 4 * FLT_EPSILON * row.f32[i]);
    for (size_t i = 0; i < col.elements; i++)
        EXPECT_TRUE(fabsf(slot(o, "v_col")[i] - col.f32[i]) <= 4 * FLT_EPSILON * col.f32[i]);
    optim_free(o);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(factored_vectors_of_t5x),
        cmocka_unit_test(momentum_vector_of_t5x),
        cmocka_unit_test(worked_steps_of_the_specification),
        cmocka_unit_test(first_update_of_a_late_start),
        cmocka_unit_test(size_rule),
        cmocka_unit_test(batch_axes_are_independent),
        cmocka_unit_test(axes_are_checked),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(nan_updates_may_be_skipped),
        cmocka_unit_test(decay_may_follow_the_rate),
        cmocka_unit_test(bfloat16_momentum),
        cmocka_unit_test(empty_parameters_are_harmless),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(steps_allocate_nothing),
        cmocka_unit_test(recorded_steps),
        cmocka_unit_test(hugging_face_first_step),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
