/* golden/hf/optim: 20 steps of prompt tuning by PEFT with transformers.Adafactor and torch's AdamW,
 * against our model, loss and optimisers, on every backend. Tolerances are three times what
 * hf/optim_conditioning measured for equally correct float32 runs. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "optim/optim.h"
#include "support/golden_model.h"

enum { P = 10, E = 64, N = P * E, STEPS = 20 };

struct run {
    const char *name;
    enum optim_kind kind;
    float lr;     /* 0: transformers' relative step */
    double decay; /* weight decay, scaled by lr */
    double beta1;
    double tol_prompt[4]; /* after steps 1, 2, 5, 20; 0: not compared */
    double tol_loss;      /* relative, up to step 10 and at all steps */
    double tol_loss_late;
};

static const struct run runs[] = {
    {"adafactor", OPTIM_ADAFACTOR, 0.3f, 1e-5, -1, {1e-5, 1.5e-5, 1e-4, 0}, 2e-4, 3e-2},
    {"adafactor_beta1", OPTIM_ADAFACTOR, 0.3f, 0, 0.9, {3e-6, 3e-6, 7e-6, 5e-5}, 3e-6, 3e-6},
    {"adafactor_default", OPTIM_ADAFACTOR, 0, 0, -1, {3e-6, 3e-6, 3e-6, 3e-6}, 3e-6, 3e-6},
    {"adamw_0.3", OPTIM_ADAMW, 0.3f, 0.01, 0, {0.02, 0.02, 0.02, 0.02}, 1e-4, 1e-4},
    {"adamw_1e-3", OPTIM_ADAMW, 1e-3f, 0.01, 0, {7e-5, 7e-5, 7e-5, 7e-5}, 3e-6, 3e-6},
    {"adamw_0.3_wd0", OPTIM_ADAMW, 0.3f, 0, 0, {0.02, 0.02, 0.02, 0.02}, 1e-4, 1e-4},
};
static const int steps_recorded[4] = {1, 2, 5, 20};

static void batch_of(struct test_batch *t, int k)
{
    char name[64];
    snprintf(name, sizeof name, "batch%d.input_ids.npy", k);
    const struct golden_array ids = golden_npy("hf/optim", name);
    snprintf(name, sizeof name, "batch%d.attention_mask.npy", k);
    const struct golden_array mask = golden_npy("hf/optim", name);
    snprintf(name, sizeof name, "batch%d.labels.npy", k);
    const struct golden_array labels = golden_npy("hf/optim", name);
    const int64_t B = ids.dim[0], L = ids.dim[1], T = labels.dim[1];
    int32_t *enc = calloc((size_t)(B * L), sizeof *enc), *in = calloc((size_t)(B * T), sizeof *in);
    int32_t *target = calloc((size_t)(B * T), sizeof *target);
    int32_t *weight = calloc((size_t)(B * T), sizeof *weight);
    for (int64_t b = 0; b < B; b++) {
        for (int64_t i = 0; i < L; i++)
            enc[b * L + i] = mask.i32[b * L + i] ? ids.i32[b * L + i] : 0;
        for (int64_t i = 0; i < T; i++) {
            const int32_t y = labels.i32[b * T + i];
            weight[b * T + i] = y >= 0;
            target[b * T + i] = y >= 0 ? y : 0;
            if (i + 1 < T)
                in[b * T + i + 1] = y >= 0 ? y : 0;
        }
    }
    batch_pack(t, B, L, enc, T, in, target, weight);
    free(enc);
    free(in);
    free(target);
    free(weight);
}

static optim *optimiser_of(const struct run *r)
{
    struct optim_config cfg = optim_config_default();
    const struct optim_param param = {"prompt", shape_2d(P, E), NULL};
    optim *o = NULL;
    spt_err err;
    cfg.kind = r->kind;
    cfg.adamw.weight_decay = r->decay;
    cfg.adafactor = adafactor_hugging_face(r->decay);
    cfg.adafactor.beta1 = r->beta1;
    cfg.adafactor.multiply_by_parameter_scale = r->lr == 0;
    EXPECT_OK(optim_new(&cfg, &param, 1, &o, &err), &err);
    return o;
}

static void one_run(const t5_model *m, t5_acts *acts, struct test_batch *batch, const struct run *r,
                    const char *isa)
{
    static const struct t5_loss_opts opts = {.normalize = T5_NORM_REAL_TOKENS};
    char name[64];
    snprintf(name, sizeof name, "%s.losses.npy", r->name);
    const struct golden_array losses = golden_npy_shaped("hf/optim", name, 1, STEPS);
    optim *o = optimiser_of(r);
    float prompt[N], *param = prompt;
    memcpy(prompt, golden_npy_shaped("hf/optim", "prompt.000.npy", 2, P, E).f32, sizeof prompt);
    double worst_loss = 0;
    for (int i = 0, at = 0; i < STEPS; i++) {
        const struct packed_batch *b = &batch[i % 3].b;
        const struct t5_prompts prompts = {.enc = prompt, .count = 1, .P = P};
        struct t5_loss loss = {0};
        float grad[N] = {0};
        const float *gradient = grad;
        spt_err err;
        EXPECT_OK(t5_forward(m, &prompts, b, 0, b->B, &opts, NULL, acts, &loss, &err), &err);
        EXPECT_OK(t5_backward(m, b, acts, NULL, grad, NULL, &err), &err);
        const double rel = fabs(loss.loss / (double)losses.f32[i] - 1);
        worst_loss = fmax(worst_loss, rel);
        snprintf(name, sizeof name, "%s %s: loss of step %d", isa, r->name, i);
        EXPECT_BELOW(name, rel, i < 10 ? r->tol_loss : r->tol_loss_late);
        const float relative = fminf(1e-2f, 1.0f / sqrtf((float)i + 1));
        optim_step(o, &param, &gradient, r->lr > 0 ? r->lr : relative);
        if (i + 1 != steps_recorded[at])
            continue;
        snprintf(name, sizeof name, "%s.prompt.%03d.npy", r->name, i + 1);
        const struct golden_array want = golden_npy_shaped("hf/optim", name, 2, P, E);
        const double worst = golden_max_diff(prompt, want.f32, N);
        printf("golden: %s %s: %.1e\n", isa, name, worst);
        if (r->tol_prompt[at] > 0)
            EXPECT_BELOW(name, worst, r->tol_prompt[at]);
        at++;
    }
    printf("golden: %s %s: losses within %.1e\n", isa, r->name, worst_loss);
    optim_free(o);
}

static void all_runs_on(ops *o, const char *isa, void *ctx)
{
    struct test_batch batch[3];
    struct t5_acts_plan plan = {.backward = true};
    t5_model *m = golden_model_hf(o, "mini_model", false, true);
    t5_acts *acts = NULL;
    spt_err err;
    for (int k = 0; k < 3; k++) {
        batch_of(&batch[k], k);
        const struct t5_acts_plan need = batch_plan(&batch[k].b, P, 0);
        plan.rows = need.rows > plan.rows ? need.rows : plan.rows;
        plan.dec_rows = need.dec_rows > plan.dec_rows ? need.dec_rows : plan.dec_rows;
        plan.examples = need.examples > plan.examples ? need.examples : plan.examples;
    }
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++)
        one_run(m, acts, batch, &runs[i], isa);
    t5_acts_free(acts);
    t5_model_free(m);
    for (int k = 0; k < 3; k++)
        batch_free(&batch[k]);
}

static void all_runs(void **state)
{
    golden_every_isa(all_runs_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_runs)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
