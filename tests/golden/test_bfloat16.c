/* The bfloat16 paths against the float32 (and float64) golden data. bfloat16 keeps 8 bits: a
 * product of rounded operands is off by 2^-9 each. How much of that arrives at the logits was
 * measured for the same model by transformers with bfloat16 weights and activations
 * (hf/golden.json, facts/forward_errors); ours must not be worse than that. The loss is an
 * average and much closer; gradients pass twice as many layers as logits. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

#define TOL_LOSS 5e-3
#define TOL_GRAD 0.08 /* of the largest; cosine below is the sharper measure */
#define TOL_COSINE 2e-3

typedef void (*run_half)(ops *o, const char *isa);

static void every_half(run_half run)
{
    static const char *const isas[] = {"avx2", "avx512"};
    int ran = 0;
    for (size_t i = 0; i < 2; i++) {
        ops *o;
        spt_err err;
        const struct ops_config cfg = {.isa = isas[i], .threads = 2, .compute = OPS_BFLOAT16};
        if (ops_open(&cfg, &o, &err))
            continue;
        run(o, isas[i]);
        ops_close(o);
        ran++;
    }
    if (!ran)
        skip();
}

static double cosine_distance(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return 1 - ab / sqrt(aa * bb);
}

static void tiny_on(ops *o, const char *isa)
{
    spt_err err;
    const struct t5_config c = golden_config("tiny_forward");
    t5_model *m = golden_model_t5x(o, &c, "tiny_forward", "params", T5_BACKWARD);
    struct test_batch batch;
    golden_batch(&batch, "tiny_forward", "batch");
    const struct golden_array p =
        golden_tensor("tiny_forward", "params", "encoder/prompt/prompt/prompt");
    const struct golden_array want = golden_npy("tiny_forward", "grad_prompt.npy");
    struct t5_acts_plan plan = batch_plan(&batch.b, p.dim[0], 0);
    plan.backward = true;
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    const struct t5_prompts prompts = {.enc = p.f32, .count = 1, .P = p.dim[0]};
    const struct t5_loss_opts opts = {
        .z_loss = (float)golden_number("tiny_forward", "golden.json", "settings/z_loss")};
    struct t5_loss loss = {0};
    float *grad = calloc(p.elements, sizeof *grad);
    EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, batch.b.B, &opts, NULL, acts, &loss, &err),
              &err);
    EXPECT_OK(t5_backward(m, &batch.b, acts, NULL, grad, NULL, &err), &err);
    const double value = golden_number("tiny_forward", "golden.json", "values/loss");
    const double rel = fabs(loss.loss - value) / value;
    const double grad_rel = golden_rel(grad, want.f32, want.elements);
    const double cosine = cosine_distance(grad, want.f32, want.elements);
    printf("golden: %s bfloat16 tiny_forward: loss %.1e, gradient %.1e, 1 - cosine %.1e\n", isa,
           rel, grad_rel, cosine);
    EXPECT_BELOW("loss", rel, TOL_LOSS);
    EXPECT_BELOW("gradient", grad_rel, TOL_GRAD);
    EXPECT_BELOW("direction of the gradient", cosine, TOL_COSINE);
    free(grad);
    t5_acts_free(acts);
    batch_free(&batch);
    t5_model_free(m);
}

static void tiny(void **state)
{
    every_half(tiny_on);
}

static void hf_on(ops *o, const char *isa)
{
    static const struct {
        const char *name, *dir;
        bool v1_0;
    } versions[] = {{"v1_1", "mini_model", false}, {"v1_0", "mini_model_v1_0", true}};
    for (size_t i = 0; i < 2; i++) {
        spt_err err;
        char name[96];
        t5_model *m = golden_model_hf(o, versions[i].dir, versions[i].v1_0, 0);
        const int64_t V = t5_model_config(m)->vocab;
        const struct golden_array ids = golden_npy("hf/forward", "a.input_ids.npy");
        const struct golden_array in = golden_npy("hf/forward", "a.decoder_input_ids.npy");
        struct golden_array lab = golden_npy("hf/forward", "a.labels.npy");
        const struct golden_array mask = golden_npy("hf/forward", "a.attention_mask.npy");
        for (size_t k = 0; k < lab.elements; k++)
            lab.i32[k] = lab.i32[k] < 0 ? 0 : lab.i32[k];
        for (size_t k = 0; k < ids.elements; k++)
            ids.i32[k] = mask.i32[k] ? ids.i32[k] : 0;
        struct test_batch batch;
        batch_pack(&batch, ids.dim[0], ids.dim[1], ids.i32, in.dim[1], in.i32, lab.i32, NULL);
        const struct t5_acts_plan plan = batch_plan(&batch.b, 0, 0);
        t5_acts *acts;
        EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
        const struct t5_loss_opts opts = {0};
        struct t5_loss loss = {0};
        float *got = malloc((size_t)(plan.dec_rows * V) * sizeof *got);
        EXPECT_OK(t5_forward(m, NULL, &batch.b, 0, batch.b.B, &opts, NULL, acts, &loss, &err),
                  &err);
        EXPECT_OK(t5_acts_logits(m, acts, got, &err), &err);
        snprintf(name, sizeof name, "%s.a.logits.f64.npy", versions[i].name);
        const struct golden_array want = golden_npy("hf/forward", name);
        double worst = 0, squares = 0;
        for (int64_t b = 0; b < batch.b.B; b++) {
            const int64_t row = t5_acts_row(acts, true, b),
                          n = t5_acts_row(acts, true, b + 1) - row;
            const float *w = want.f32 + b * want.dim[1] * V;
            for (int64_t k = 0; k < n * V; k++) {
                const double d = fabs((double)got[row * V + k] - (double)w[k]);
                worst = d <= worst ? worst : d;
                squares += d * d;
            }
        }
        const double rms = sqrt(squares / (double)(plan.dec_rows * V));
        snprintf(
            name, sizeof name,
            "facts/forward_errors/forward\\%s.a/max_abs_logits_bf16_weights_and_activations_vs_f64",
            versions[i].name);
        const double their_worst = golden_number("hf", "golden.json", name);
        snprintf(name, sizeof name, "facts/forward_errors/forward\\%s.a/rms_logits_bf16_vs_f64",
                 versions[i].name);
        const double their_rms = golden_number("hf", "golden.json", name);
        printf(
            "golden: %s bfloat16 %s.a: logits rms %.4f (transformers %.4f), largest %.3f (%.3f)\n",
            isa, versions[i].name, rms, their_rms, worst, their_worst);
        EXPECT_BELOW("rms of the logits' error", rms, their_rms);
        EXPECT_BELOW("largest error of a logit", worst, their_worst);
        free(got);
        t5_acts_free(acts);
        batch_free(&batch);
        t5_model_free(m);
    }
}

static void hugging_face(void **state)
{
    every_half(hf_on);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tiny),
        cmocka_unit_test(hugging_face),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
