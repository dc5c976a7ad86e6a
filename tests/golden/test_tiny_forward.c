/* golden/tiny_forward: what the T5X stack computed for a small prompt encoder-decoder: hidden
 * states of every layer, logits, the loss in five variants, gradients of the prompt. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

#define CASE "tiny_forward"
/* The stack computed in float32: rounding of sums of up to 128 products, through six layers. */
#define TOL_HIDDEN 1e-5 /* of the largest value */
#define TOL_LOGITS 1e-5
#define TOL_LOSS 1e-5
#define TOL_GRAD 1e-4

struct tiny {
    ops *o;
    t5_model *m;
    t5_acts *acts;
    struct t5_config c;
    struct test_batch batch;
    struct t5_prompts prompts;
};

static void open_tiny(struct tiny *t, ops *o, unsigned uses)
{
    spt_err err;
    t->o = o;
    t->c = golden_config(CASE);
    t->m = golden_model_t5x(o, &t->c, CASE, "params", uses);
    golden_batch(&t->batch, CASE, "batch");
    const struct golden_array p = golden_tensor(CASE, "params", "encoder/prompt/prompt/prompt");
    t->prompts = (struct t5_prompts){.enc = p.f32, .count = 1, .P = p.dim[0]};
    struct t5_acts_plan plan = batch_plan(&t->batch.b, p.dim[0], 0);
    plan.backward = uses & T5_BACKWARD;
    plan.absorb = uses & T5_ABSORB;
    EXPECT_OK(t5_acts_new(t->m, &plan, &t->acts, &err), &err);
}

static void close_tiny(struct tiny *t)
{
    t5_acts_free(t->acts);
    t5_model_free(t->m);
    batch_free(&t->batch);
}

static struct t5_loss_opts opts_of(double ls, const char *normalize)
{
    struct t5_loss_opts o = {.label_smoothing = (float)ls};
    o.z_loss = (float)golden_number(CASE, "golden.json", "settings/z_loss");
    if (!normalize || !strcmp(normalize, "None"))
        o.normalize = T5_NORM_NONE;
    else if (!strcmp(normalize, "NUM_REAL_TARGET_TOKENS"))
        o.normalize = T5_NORM_REAL_TOKENS;
    else if (!strcmp(normalize, "NUM_TOTAL_TARGET_TOKENS"))
        o.normalize = T5_NORM_ALL_TOKENS;
    else if (!strcmp(normalize, "AVERAGE_PER_SEQUENCE"))
        o.normalize = T5_NORM_PER_SEQUENCE;
    else {
        o.normalize = T5_NORM_NUMBER;
        o.factor = (float)strtod(normalize, NULL);
    }
    return o;
}

/* got: packed rows of `width`; want: [B, L, width]. Compares the first rows of each example. */
static double compare_rows(const struct tiny *t, bool decoder, const float *got,
                           const struct golden_array *want, int64_t width)
{
    double worst = 0, scale = 0;
    for (int64_t b = 0; b < t->batch.b.B; b++) {
        const int64_t at = t5_acts_row(t->acts, decoder, b);
        const size_t n = (size_t)((t5_acts_row(t->acts, decoder, b + 1) - at) * width);
        const float *w = want->f32 + (size_t)b * (size_t)(want->dim[1] * width);
        const double d = golden_max_diff(got + at * width, w, n);
        worst = d <= worst ? worst : d;
        for (size_t i = 0; i < n; i++)
            scale = fabs((double)w[i]) > scale ? fabs((double)w[i]) : scale;
    }
    return worst / scale;
}

static void run_forward(struct tiny *t, const struct t5_loss_opts *opts, struct t5_loss *loss)
{
    spt_err err;
    EXPECT_OK(t5_forward(t->m, &t->prompts, &t->batch.b, 0, t->batch.b.B, opts, NULL, t->acts, loss,
                         &err),
              &err);
}

static void hidden_states_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    struct tiny t;
    spt_err err;
    struct t5_loss loss = {0};
    open_tiny(&t, o, T5_BACKWARD);
    const struct t5_loss_opts opts = opts_of(0, NULL);
    run_forward(&t, &opts, &loss);
    for (int decoder = 0; decoder < 2; decoder++) {
        const int64_t layers = decoder ? t.c.dec_layers : t.c.enc_layers;
        const int64_t rows = t5_acts_row(t.acts, decoder, t.batch.b.B);
        float *got = malloc((size_t)(rows * t.c.width) * sizeof *got);
        for (int64_t i = 0; i <= layers; i++) {
            char name[64];
            if (i < layers)
                snprintf(name, sizeof name, "%s_hidden.%d.npy", decoder ? "decoder" : "encoder",
                         (int)i);
            else if (!decoder)
                snprintf(name, sizeof name, "encoder_output.npy");
            else
                continue;
            const struct golden_array want = golden_npy(CASE, name);
            EXPECT_OK(t5_acts_hidden(t.m, t.acts, decoder, i, got, &err), &err);
            const double rel = compare_rows(&t, decoder, got, &want, t.c.width);
            printf("golden: %s %s: %.1e\n", isa, name, rel);
            EXPECT_BELOW(name, rel, TOL_HIDDEN);
        }
        free(got);
    }
    close_tiny(&t);
}

static void hidden_states(void **state)
{
    golden_every_isa(hidden_states_on, NULL);
}

static void logits_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    struct tiny t;
    spt_err err;
    open_tiny(&t, o, 0); /* the inference path: streams updated in place */
    const struct golden_array want = golden_npy(CASE, "decoder_logits.npy");
    const struct t5_loss_opts opts = opts_of(0, NULL);
    struct t5_loss loss = {0};
    run_forward(&t, &opts, &loss);
    const int64_t rows = t5_acts_row(t.acts, true, t.batch.b.B);
    float *got = malloc((size_t)(rows * t.c.vocab) * sizeof *got);
    EXPECT_OK(t5_acts_logits(t.m, t.acts, got, &err), &err);
    const double rel = compare_rows(&t, true, got, &want, t.c.vocab);
    printf("golden: %s logits: %.1e\n", isa, rel);
    EXPECT_BELOW("logits", rel, TOL_LOGITS);
    EXPECT_EQ_I64(loss.counted, golden_number(CASE, "golden.json", "values/weight_sum"));
    EXPECT_EQ_I64(
        loss.correct,
        golden_number(CASE, "golden.json", "values/metric_accumulators_of_loss_fn/accuracy/total"));
    EXPECT_NEAR(loss.z_loss, golden_number(CASE, "golden.json", "values/z_loss"), TOL_LOSS);
    free(got);
    close_tiny(&t);
}

static void logits(void **state)
{
    golden_every_isa(logits_on, NULL);
}

static void token_losses_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    struct tiny t;
    spt_err err;
    open_tiny(&t, o, 0);
    const struct golden_array ce = golden_npy(CASE, "token_cross_entropy.npy");
    const int64_t B = t.batch.b.B, tokens = t.batch.dec_off[B];
    int32_t example[1024];
    for (int32_t b = 0; b < B; b++)
        example[b] = b;
    const struct t5_targets targets = {.n = B,
                                       .example = example,
                                       .off = t.batch.dec_off,
                                       .dec_in = t.batch.dec_in,
                                       .dec_target = t.batch.dec_target,
                                       .weight = t.batch.weight};
    float score[1024], *token = malloc((size_t)tokens * sizeof *token);
    EXPECT_OK(t5_encode(t.m, &t.prompts, &t.batch.b, 0, B, t.acts, &err), &err);
    EXPECT_OK(t5_score(t.m, &t.prompts, &targets, t.acts, score, token, NULL, &err), &err);
    double worst = 0;
    for (int64_t b = 0; b < B; b++) {
        double sum = 0;
        for (int64_t i = t.batch.dec_off[b]; i < t.batch.dec_off[b + 1]; i++) {
            const double want = (double)ce.f32[b * ce.dim[1] + i - t.batch.dec_off[b]];
            const double d = fabs(want + (double)token[i]) / fabs(want);
            worst = d <= worst ? worst : d;
            sum += want;
        }
        EXPECT_NEAR(score[b], -sum, TOL_LOSS);
    }
    printf("golden: %s token cross entropy: %.1e\n", isa, worst);
    EXPECT_BELOW("token cross entropy", worst, TOL_LOSS);
    free(token);
    close_tiny(&t);
}

static void token_losses(void **state)
{
    golden_every_isa(token_losses_on, NULL);
}

static void losses_and_gradients_on(ops *o, const char *isa, void *ctx)
{
    const unsigned uses = *(const unsigned *)ctx;
    struct tiny t;
    spt_err err;
    open_tiny(&t, o, uses);
    const size_t n = (size_t)(t.prompts.P * t.c.width);
    float *grad = malloc(n * sizeof *grad);
    int variants = 0;
    const char *key;
    for (int i = 0; (key = golden_key(CASE, "golden.json", "values", i)); i++) {
        char value[96], name[96] = "grad_prompt.npy", normalize[64] = "None";
        double ls = golden_number(CASE, "golden.json", "settings/label_smoothing");
        if (!strncmp(key, "loss_ls", 7)) { /* loss_ls0.1_nfNone */
            const char *nf = strstr(key, "_nf");
            ls = strtod(key + 7, NULL);
            snprintf(normalize, sizeof normalize, "%s", nf ? nf + 3 : "None");
            snprintf(name, sizeof name, "grad_prompt.%s.npy", key + 5);
        } else if (strcmp(key, "loss") != 0) {
            continue;
        }
        variants++;
        snprintf(value, sizeof value, "values/%s", key);
        const struct golden_array want = golden_npy(CASE, name);
        const double want_loss = golden_number(CASE, "golden.json", value);
        const struct t5_loss_opts opts = opts_of(ls, normalize);
        struct t5_loss loss = {0};
        run_forward(&t, &opts, &loss);
        memset(grad, 0, n * sizeof *grad);
        EXPECT_OK(t5_backward(t.m, &t.batch.b, t.acts, NULL, grad, NULL, &err), &err);
        const double rel = golden_rel(grad, want.f32, n);
        printf("golden: %s%s %s: loss %.1e, gradient %.1e\n", isa,
               uses & T5_ABSORB ? " absorbed" : "", value + 7,
               fabs(loss.loss - want_loss) / fabs(want_loss), rel);
        EXPECT_BELOW(value, fabs(loss.loss - want_loss) / fabs(want_loss), TOL_LOSS);
        EXPECT_BELOW(name, rel, TOL_GRAD);
    }
    EXPECT_TRUE(variants >= 1);
    free(grad);
    close_tiny(&t);
}

static void losses_and_gradients(void **state)
{
    unsigned uses = T5_BACKWARD;
    golden_every_isa(losses_and_gradients_on, &uses);
    uses |= T5_ABSORB;
    golden_every_isa(losses_and_gradients_on, &uses);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hidden_states),
        cmocka_unit_test(logits),
        cmocka_unit_test(token_losses),
        cmocka_unit_test(losses_and_gradients),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
