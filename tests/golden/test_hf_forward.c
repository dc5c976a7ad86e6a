/* golden/hf: T5 1.1 and T5 1.0 (ReLU, tied and scaled logits) against transformers, and the
 * gradient of prompts against PEFT. Padding never reaches the model: rows are packed by mask. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

#define TOL_HIDDEN 1e-5
#define TOL_LOGITS 1e-5 /* of the largest; golden.json: 1e-6 between float32 and float64 */
#define TOL_LOSS 1e-5
#define TOL_GRAD 1e-4

/* Packs input_ids by mask and labels up to the first -100 run at the end. */
static void hf_batch(struct test_batch *t, const char *inputs, const char *labels)
{
    char name[64];
    snprintf(name, sizeof name, "%s.input_ids.npy", inputs);
    const struct golden_array ids = golden_npy("hf/forward", name);
    snprintf(name, sizeof name, "%s.attention_mask.npy", inputs);
    const struct golden_array mask = golden_npy("hf/forward", name);
    snprintf(name, sizeof name, "%s.labels.npy", labels);
    const struct golden_array lab = golden_npy("hf/forward", name);
    snprintf(name, sizeof name, "%s.decoder_input_ids.npy", labels);
    const struct golden_array in = golden_npy("hf/forward", name);
    const int64_t B = ids.dim[0], L = ids.dim[1], T = lab.dim[1];
    int32_t *enc = calloc((size_t)(B * L), sizeof *enc);
    int32_t *target = calloc((size_t)(B * T), sizeof *target);
    int32_t *weight = calloc((size_t)(B * T), sizeof *weight);
    for (int64_t b = 0; b < B; b++) {
        int64_t n = 0;
        for (int64_t i = 0; i < L; i++)
            if (mask.i32[b * L + i])
                enc[b * L + n++] = ids.i32[b * L + i];
        for (int64_t i = 0; i < T; i++) {
            weight[b * T + i] = lab.i32[b * T + i] >= 0;
            target[b * T + i] = lab.i32[b * T + i] >= 0 ? lab.i32[b * T + i] : 0;
        }
    }
    batch_pack(t, B, L, enc, T, in.i32, target, weight);
    free(enc);
    free(target);
    free(weight);
}

/* Packed rows against [B, L, width] whose real rows stand where mask is 1 (NULL: in front). `lead`
 * rows in front of the mask always count. */
static double compare(const t5_acts *a, bool decoder, int64_t B, const float *got,
                      const struct golden_array *want, const struct golden_array *mask,
                      int64_t lead)
{
    const int64_t width = want->dim[2];
    double worst = 0, scale = 0;
    for (int64_t b = 0; b < B; b++) {
        const int64_t row = t5_acts_row(a, decoder, b), rows = t5_acts_row(a, decoder, b + 1) - row;
        int64_t at = -1;
        for (int64_t r = 0; r < rows; r++) {
            at++;
            while (mask && at >= lead && !mask->i32[b * mask->dim[1] + at - lead])
                at++;
            const float *w = want->f32 + (b * want->dim[1] + at) * width;
            const double d = golden_max_diff(got + (row + r) * width, w, (size_t)width);
            worst = d <= worst ? worst : d;
            for (int64_t i = 0; i < width; i++)
                scale = fabs((double)w[i]) > scale ? fabs((double)w[i]) : scale;
        }
    }
    return worst / scale;
}

static const struct t5_loss_opts mean = {.normalize = T5_NORM_REAL_TOKENS};

struct version {
    const char *name, *dir;
    bool v1_0;
};
static const struct version versions[] = {{"v1_1", "mini_model", false},
                                          {"v1_0", "mini_model_v1_0", true}};

static void one_forward(const t5_model *m, const struct version *v, const char *batch_name,
                        const char *isa)
{
    spt_err err;
    struct test_batch batch;
    char name[96];
    hf_batch(&batch, batch_name, batch_name);
    const int64_t B = batch.b.B, E = t5_model_config(m)->width, V = t5_model_config(m)->vocab;
    struct t5_acts_plan plan = batch_plan(&batch.b, 0, 0);
    plan.backward = true; /* keeps the hidden states */
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    float ce[1024];
    struct t5_loss loss = {.example_loss = ce};
    EXPECT_OK(t5_forward(m, NULL, &batch.b, 0, B, &mean, NULL, acts, &loss, &err), &err);
    const int64_t rows = plan.rows > plan.dec_rows ? plan.rows : plan.dec_rows;
    float *got = malloc((size_t)(rows * (E > V ? E : V)) * sizeof *got);

    snprintf(name, sizeof name, "%s.attention_mask.npy", batch_name);
    const struct golden_array mask = golden_npy("hf/forward", name);
    snprintf(name, sizeof name, "%s.%s.encoder_last_hidden_state.npy", v->name, batch_name);
    struct golden_array want = golden_npy("hf/forward", name);
    EXPECT_OK(t5_acts_hidden(m, acts, false, t5_model_config(m)->enc_layers, got, &err), &err);
    const double hidden = compare(acts, false, B, got, &want, &mask, 0);
    EXPECT_BELOW(name, hidden, TOL_HIDDEN);
    for (int decoder = 0; decoder < 2 && !strcmp(batch_name, "b"); decoder++) {
        const int64_t layers =
            decoder ? t5_model_config(m)->dec_layers : t5_model_config(m)->enc_layers;
        for (int64_t i = 1; i <= layers; i++) { /* [i] is behind layer i - 1 */
            snprintf(name, sizeof name, "%s.b.%s_hidden.%d.npy", v->name,
                     decoder ? "decoder" : "encoder", (int)i);
            want = golden_npy("hf/forward", name);
            EXPECT_OK(t5_acts_hidden(m, acts, decoder, i == layers ? i : i - 1, got, &err), &err);
            EXPECT_BELOW(name, compare(acts, decoder, B, got, &want, NULL, 0), TOL_HIDDEN);
        }
    }
    snprintf(name, sizeof name, "%s.%s.logits.npy", v->name, batch_name);
    want = golden_npy("hf/forward", name);
    EXPECT_OK(t5_acts_logits(m, acts, got, &err), &err);
    const double logits = compare(acts, true, B, got, &want, NULL, 0);
    snprintf(name, sizeof name, "%s.%s.loss.npy", v->name, batch_name);
    const struct golden_array l = golden_npy("hf/forward", name);
    const double rel = fabs(loss.loss - (double)l.f32[1]) / (double)l.f32[1];
    printf("golden: %s %s.%s: encoder %.1e, logits %.1e, loss %.1e\n", isa, v->name, batch_name,
           hidden, logits, rel);
    EXPECT_BELOW("logits", logits, TOL_LOGITS);
    EXPECT_BELOW("loss", rel, TOL_LOSS);
    if (!strcmp(v->name, "v1_1") && !strcmp(batch_name, "a")) {
        want = golden_npy("hf/forward", "v1_1.a.label_log_likelihood.npy");
        for (int64_t b = 0; b < B; b++)
            EXPECT_NEAR(-ce[b], want.f32[b], TOL_LOSS);
    }
    free(got);
    t5_acts_free(acts);
    batch_free(&batch);
}

static void forward_on(ops *o, const char *isa, void *ctx)
{
    const struct version *v = ctx;
    static const char *const batches[] = {"a", "b", "c"};
    t5_model *m = golden_model_hf(o, v->dir, v->v1_0, true);
    for (size_t i = 0; i < 3; i++)
        one_forward(m, v, batches[i], isa);
    t5_model_free(m);
}

static void t5_1_1(void **state)
{
    golden_every_isa(forward_on, (void *)(uintptr_t)&versions[0]);
}

static void t5_1_0(void **state)
{
    golden_every_isa(forward_on, (void *)(uintptr_t)&versions[1]);
}

/* PEFT adapters with one submodule, whose prompt stands in front of right-padded text. */
static void peft_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    static const struct {
        const char *name, *adapter, *inputs, *labels;
        int version;
    } cases[] = {{"sub1", "sub1", "a", "a", 0},
                 {"sub1.c_right", "sub1", "c_right", "c", 0},
                 {"v1_0.sub1", "v1_0_sub1", "a", "a", 1}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        spt_err err;
        char name[96];
        const struct version *v = &versions[cases[i].version];
        t5_model *m = golden_model_hf(o, v->dir, v->v1_0, true);
        snprintf(name, sizeof name, "hf/peft_prompt/%s", cases[i].adapter);
        const struct golden_array p = golden_tensor(name, "adapter_model", "prompt_embeddings");
        struct test_batch batch;
        hf_batch(&batch, cases[i].inputs, cases[i].labels);
        struct t5_acts_plan plan = batch_plan(&batch.b, p.dim[0], 0);
        plan.backward = true;
        t5_acts *acts;
        EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
        const struct t5_prompts prompts = {.enc = p.f32, .count = 1, .P = p.dim[0]};
        struct t5_loss loss = {0};
        float *grad = calloc(p.elements, sizeof *grad);
        const int64_t V = t5_model_config(m)->vocab;
        float *logits = malloc((size_t)(plan.dec_rows * V) * sizeof *logits);
        EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, batch.b.B, &mean, NULL, acts, &loss, &err),
                  &err);
        EXPECT_OK(t5_acts_logits(m, acts, logits, &err), &err);
        EXPECT_OK(t5_backward(m, &batch.b, acts, NULL, grad, NULL, &err), &err);
        snprintf(name, sizeof name, "%s.logits.npy", cases[i].name);
        const struct golden_array want = golden_npy("hf/peft_prompt", name);
        snprintf(name, sizeof name, "%s.loss.npy", cases[i].name);
        const struct golden_array l = golden_npy("hf/peft_prompt", name);
        snprintf(name, sizeof name, "%s.prompt_grad.f64.npy", cases[i].name);
        const struct golden_array g = golden_npy("hf/peft_prompt", name);
        const double loss_rel = fabs(loss.loss - (double)l.f32[1]) / (double)l.f32[1];
        const double grad_rel = golden_rel(grad, g.f32, g.elements);
        const double logits_rel = compare(acts, true, batch.b.B, logits, &want, NULL, 0);
        printf("golden: %s peft %s: logits %.1e, loss %.1e, gradient %.1e\n", isa, cases[i].name,
               logits_rel, loss_rel, grad_rel);
        EXPECT_BELOW(name, logits_rel, TOL_LOGITS);
        EXPECT_BELOW(name, loss_rel, TOL_LOSS);
        EXPECT_BELOW(name, grad_rel, TOL_GRAD);
        free(grad);
        free(logits);
        t5_acts_free(acts);
        batch_free(&batch);
        t5_model_free(m);
    }
}

static void peft_prompts(void **state)
{
    golden_every_isa(peft_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(t5_1_1),
        cmocka_unit_test(t5_1_0),
        cmocka_unit_test(peft_prompts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
