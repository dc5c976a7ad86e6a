/* golden/combination: prompts that do not stand in front. The gradient there is the whole way
 * through layer 0, where the usual prefix takes a shortcut. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "support/golden_model.h"

#define CASE "combination"
#define TOL_HIDDEN 1e-5
#define TOL_LOSS 1e-5
#define TOL_GRAD 1e-4

static void places_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    static const struct {
        const char *name;
        enum t5_combine combine;
    } places[] = {{"after_bos", T5_PREFIX_AFTER_BOS},
                  {"suffix_before_eos", T5_SUFFIX},
                  {"suffix_at_end", T5_SUFFIX_END}};
    spt_err err;
    const struct t5_config c = golden_config(CASE);
    t5_model *m = golden_model_t5x(o, &c, "tiny_forward", "params", true);
    const struct golden_array p =
        golden_tensor("tiny_forward", "params", "encoder/prompt/prompt/prompt");
    struct test_batch batch;
    golden_batch(&batch, CASE, "batch");
    struct t5_acts_plan plan = batch_plan(&batch.b, p.dim[0], 0);
    plan.backward = true;
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    const int64_t B = batch.b.B, P = p.dim[0];
    float *enc = malloc((size_t)(plan.rows * c.width) * sizeof *enc);
    float *grad = malloc(p.elements * sizeof *grad);
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        char name[96], label[64];
        const struct t5_prompts prompts = {
            .enc = p.f32, .count = 1, .P = P, .combine = places[i].combine};
        const struct t5_loss_opts opts = {
            .z_loss = (float)golden_number(CASE, "golden.json", "settings/z_loss")};
        float ce[1024];
        struct t5_loss loss = {.example_loss = ce};
        EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, B, &opts, NULL, acts, &loss, &err), &err);
        for (size_t k = 0; k < p.elements; k++)
            grad[k] = 0;
        EXPECT_OK(t5_backward(m, &batch.b, acts, NULL, grad, NULL, &err), &err);
        EXPECT_OK(t5_acts_hidden(m, acts, false, c.enc_layers, enc, &err), &err);

        snprintf(name, sizeof name, "values/%s/loss", places[i].name);
        const double want = golden_number(CASE, "golden.json", name);
        snprintf(name, sizeof name, "%s.encoder_output.npy", places[i].name);
        const struct golden_array hidden = golden_npy(CASE, name);
        double worst = 0;
        for (int64_t b = 0; b < B; b++) {
            const int64_t row = t5_acts_row(acts, false, b);
            const size_t n = (size_t)((t5_acts_row(acts, false, b + 1) - row) * c.width);
            const double rel =
                golden_rel(enc + row * c.width, hidden.f32 + b * hidden.dim[1] * c.width, n);
            worst = rel <= worst ? worst : rel;
        }
        snprintf(name, sizeof name, "%s.score_batch.npy", places[i].name);
        const struct golden_array score = golden_npy(CASE, name);
        for (int64_t b = 0; b < B; b++)
            EXPECT_NEAR(-ce[b], score.f32[b], TOL_LOSS);
        snprintf(name, sizeof name, "%s.grads", places[i].name);
        const struct golden_array g = golden_tensor(CASE, name, "encoder/prompt/prompt/prompt");
        const double grad_rel = golden_rel(grad, g.f32, g.elements);
        printf("golden: %s %s: encoder %.1e, loss %.1e, gradient %.1e\n", isa, places[i].name,
               worst, fabs(loss.loss - want) / want, grad_rel);
        snprintf(label, sizeof label, "%s on %s", places[i].name, isa);
        EXPECT_BELOW(label, worst, TOL_HIDDEN);
        EXPECT_BELOW(label, fabs(loss.loss - want) / want, TOL_LOSS);
        EXPECT_BELOW(label, grad_rel, TOL_GRAD);
    }
    free(enc);
    free(grad);
    t5_acts_free(acts);
    batch_free(&batch);
    t5_model_free(m);
}

static void places(void **state)
{
    golden_every_isa(places_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(places)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
