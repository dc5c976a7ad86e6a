/* golden/adafactor_dropout_5 and _lazy: every mask of a step, the losses of five steps on the
 * recorded prompts, and the prompts that five steps of our own lead to. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_internal.h"
#include "optim/optim.h"
#include "random/flax_path.h"
#include "support/golden_model.h"

#define TOL_LOSS 1e-5
/* Adafactor's first update is the sign of the gradient times the learning rate: rounding is
 * amplified from step to step, most where a gradient is near zero (golden/README.md). Between our
 * own backends the prompts differ by up to 1.6e-4 after 5 steps. */
#define TOL_PROMPT 5e-4

struct chain {
    const char *folder;
    enum flax_rng mode;
};

static const struct chain chains[] = {{"adafactor_dropout_5", FLAX_LEGACY},
                                      {"adafactor_dropout_5_lazy", FLAX_LAZY}};

static struct t5_dropout dropout_of(const struct chain *ch, int step)
{
    const struct golden_array rng = golden_npy(ch->folder, "trainer_rng.npy");
    const struct rng_key trainer = {{(uint32_t)rng.i32[0], (uint32_t)rng.i32[1]}};
    const struct rng_key key = rng_fold_in(trainer, (uint32_t)step);
    return (struct t5_dropout){
        .rate = (float)golden_number(ch->folder, "golden.json", "settings/dropout_rate"),
        .key = {key.w[0], key.w[1]},
        .legacy_paths = ch->mode == FLAX_LEGACY};
}

/* Where the model keeps the mask of a site. */
static const float *mask_at(t5_acts *a, const char *path)
{
    static const struct {
        const char *path;
        size_t enc, dec;
    } layer[] = {
#define AT(stack, member) offsetof(struct stack##_acts, member)
        {"attention", AT(enc, self.drop_att), 0},
        {"post_attention_dropout", AT(enc, self.drop_out), 0},
        {"self_attention", 0, AT(dec, self.drop_att)},
        {"post_self_attention_dropout", 0, AT(dec, self.drop_out)},
        {"encoder_decoder_attention", 0, AT(dec, cross.drop_att)},
        {"post_cross_attention_dropout", 0, AT(dec, cross.drop_out)},
        {"mlp/Dropout_0", AT(enc, mlp.drop_in), AT(dec, mlp.drop_in)},
        {"post_mlp_dropout", AT(enc, mlp.drop_out), AT(dec, mlp.drop_out)},
    };
    const bool decoder = !strncmp(path, "decoder", 7);
    if (strstr(path, "/input_dropout"))
        return decoder ? a->drop_dec_in : a->drop_enc_in;
    if (strstr(path, "/output_dropout"))
        return decoder ? a->drop_dec_out : a->drop_enc_out;
    char *name;
    const long i = strtol(strstr(path, "layers_") + 7, &name, 10);
    for (size_t k = 0; k < sizeof layer / sizeof *layer; k++)
        if (!strcmp(name + 1, layer[k].path)) {
            const char *base = decoder ? (char *)&a->dec[i] : (char *)&a->enc[i];
            return *(float *const *)(base + (decoder ? layer[k].dec : layer[k].enc));
        }
    fail_msg("no site %s", path);
    return NULL;
}

/* A batch without padding of the recorded shape shows the masks whole. */
static void full_batch(struct test_batch *t, int64_t B, int64_t Le, int64_t Ld)
{
    int32_t *ones = malloc((size_t)(B * (Le + Ld)) * sizeof *ones);
    for (int64_t i = 0; i < B * (Le + Ld); i++)
        ones[i] = 1;
    batch_pack(t, B, Le, ones, Ld, ones, ones, NULL);
    free(ones);
}

static void every_mask(void **state)
{
    spt_err err;
    for (size_t k = 0; k < 2; k++) {
        ops *o;
        const struct chain *ch = &chains[k];
        EXPECT_OK(ops_ref_open_f32(&o, &err), &err);
        const struct t5_config c = golden_config(ch->folder);
        t5_model *m = golden_model_t5x(o, &c, "tiny_forward", "params", false);
        const struct golden_array p =
            golden_tensor("tiny_forward", "params", "encoder/prompt/prompt/prompt");
        const struct golden_array tokens =
            golden_npy(ch->folder, "batch0.encoder_input_tokens.npy");
        const struct golden_array targets =
            golden_npy(ch->folder, "batch0.decoder_target_tokens.npy");
        struct test_batch batch;
        full_batch(&batch, tokens.dim[0], tokens.dim[1], targets.dim[1]);
        struct t5_acts_plan plan = batch_plan(&batch.b, p.dim[0], 0);
        plan.dropout = true;
        t5_acts *acts;
        EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
        const struct t5_prompts prompts = {.enc = p.f32, .count = 1, .P = p.dim[0]};
        const struct t5_loss_opts opts = {0};
        const struct t5_dropout drop = dropout_of(ch, 0);
        struct t5_loss loss = {0};
        EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, batch.b.B, &opts, &drop, acts, &loss, &err),
                  &err);
        EXPECT_EQ_I64(drop.key[0], golden_number(ch->folder, "dropout_sites.json", "step_key/0"));
        int sites = 0;
        for (;; sites++) {
            char at[96];
            const char *path;
            snprintf(at, sizeof at, "sites_in_call_order/%d/path", sites);
            if (!(path = golden_value(ch->folder, "dropout_sites.json", at)))
                break;
            int64_t n = 1;
            for (int d = 0;; d++) {
                snprintf(at, sizeof at, "sites_in_call_order/%d/shape/%d", sites, d);
                if (!golden_has(ch->folder, "dropout_sites.json", at))
                    break;
                n *= (int64_t)golden_number(ch->folder, "dropout_sites.json", at);
            }
            snprintf(at, sizeof at, "sites_in_call_order/%d/keep_probability", sites);
            const double keep = golden_number(ch->folder, "dropout_sites.json", at);
            if (keep == 1)
                continue; /* mlp/Dropout_1, a no-op */
            const float *mask = mask_at(acts, path);
            int64_t dropped = 0;
            for (int64_t i = 0; i < n; i++) {
                dropped += mask[i] == 0;
                EXPECT_TRUE(mask[i] == 0 || fabs((double)mask[i] * keep - 1) < 1e-6);
            }
            snprintf(at, sizeof at, "sites_in_call_order/%d/dropped", sites);
            if (dropped != (int64_t)golden_number(ch->folder, "dropout_sites.json", at))
                fail_msg("%s: %s: %lld dropped", ch->folder, path, (long long)dropped);
        }
        printf("golden: %s: %d masks\n", ch->folder, sites);
        EXPECT_TRUE(sites >= 4 + 4 * (int)c.enc_layers + 6 * (int)c.dec_layers);
        static const char *const files[][2] = {
            {"mask.encoder.input_dropout.npy", "encoder/input_dropout"},
            {"mask.encoder.layers_0.attention.npy", "encoder/layers_0/attention"},
            {"mask.decoder.layers_1.mlp.Dropout_0.npy", "decoder/layers_1/mlp/Dropout_0"},
            {"mask.decoder.output_dropout.npy", "decoder/output_dropout"}};
        for (size_t f = 0; f < 4; f++) {
            const struct golden_array want = golden_npy(ch->folder, files[f][0]);
            const float *got = mask_at(acts, files[f][1]);
            for (size_t i = 0; i < want.elements; i++)
                EXPECT_EQ_I64(got[i] != 0, want.i32[i]);
        }
        t5_acts_free(acts);
        batch_free(&batch);
        t5_model_free(m);
        ops_close(o);
    }
}

/* Five steps; the loss of each on the recorded prompt, the update on ours. */
static void steps_on(ops *o, const char *isa, void *ctx)
{
    const struct chain *ch = ctx;
    spt_err err;
    const struct t5_config c = golden_config(ch->folder);
    t5_model *m = golden_model_t5x(o, &c, "tiny_forward", "params", true);
    const struct golden_array p =
        golden_tensor("tiny_forward", "params", "encoder/prompt/prompt/prompt");
    const struct golden_array losses = golden_npy(ch->folder, "losses.npy");
    struct test_batch batch[3];
    struct t5_acts_plan plan = {.backward = true, .dropout = true};
    for (int k = 0; k < 3; k++) {
        char name[24];
        snprintf(name, sizeof name, "batch%d", k);
        golden_batch(&batch[k], ch->folder, name);
        const struct t5_acts_plan one = batch_plan(&batch[k].b, p.dim[0], 0);
        plan.rows = one.rows > plan.rows ? one.rows : plan.rows;
        plan.dec_rows = one.dec_rows > plan.dec_rows ? one.dec_rows : plan.dec_rows;
        plan.examples = one.examples > plan.examples ? one.examples : plan.examples;
    }
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    optim *opt;
    const struct optim_config cfg = optim_config_prompt_tuning();
    const struct optim_param param = {"encoder/prompt/prompt/prompt", shape_2d(p.dim[0], c.width),
                                      NULL};
    EXPECT_OK(optim_new(&cfg, &param, 1, &opt, &err), &err);
    const float lr = (float)golden_number(ch->folder, "golden.json", "settings/learning_rate");
    const struct t5_loss_opts opts = {
        .z_loss = (float)golden_number(ch->folder, "golden.json", "settings/z_loss")};
    float *mine = malloc(p.elements * sizeof *mine), *grad = malloc(p.elements * sizeof *grad);
    memcpy(mine, p.f32, p.elements * sizeof *mine);
    const float *recorded = p.f32;
    double worst_loss = 0;
    for (int step = 0; step < losses.dim[0]; step++) {
        char name[32];
        const struct packed_batch *b = &batch[step % 3].b;
        const struct t5_dropout drop = dropout_of(ch, step);
        struct t5_prompts prompts = {.enc = recorded, .count = 1, .P = p.dim[0]};
        struct t5_loss loss = {0};
        EXPECT_OK(t5_forward(m, &prompts, b, 0, b->B, &opts, &drop, acts, &loss, &err), &err);
        const float *want = losses.f32 + 4 * step;
        const double rel = fabs(loss.loss - (double)want[0]) / (double)want[0];
        worst_loss = rel <= worst_loss ? worst_loss : rel;
        EXPECT_BELOW("loss on the recorded prompt", rel, TOL_LOSS);
        EXPECT_EQ_I64(loss.correct, want[2]);
        EXPECT_EQ_I64(loss.counted, want[3]);

        prompts.enc = mine;
        memset(grad, 0, p.elements * sizeof *grad);
        EXPECT_OK(t5_forward(m, &prompts, b, 0, b->B, &opts, &drop, acts, &loss, &err), &err);
        EXPECT_OK(t5_backward(m, b, acts, NULL, grad, NULL, &err), &err);
        optim_step(opt, &mine, (const float *const[]){grad}, lr);
        snprintf(name, sizeof name, "prompt.%03d.npy", step + 1);
        const struct golden_array after = golden_npy(ch->folder, name);
        const double diff = golden_max_diff(mine, after.f32, after.elements);
        printf("golden: %s %s: step %d: loss %.1e, prompt %.1e\n", ch->folder, isa, step, rel,
               diff);
        EXPECT_BELOW("prompt", diff, TOL_PROMPT);
        recorded = after.f32;
    }
    free(mine);
    free(grad);
    optim_free(opt);
    t5_acts_free(acts);
    for (int k = 0; k < 3; k++)
        batch_free(&batch[k]);
    t5_model_free(m);
}

static void five_steps_legacy(void **state)
{
    golden_every_isa(steps_on, (void *)(uintptr_t)&chains[0]);
}

static void five_steps_lazy(void **state)
{
    golden_every_isa(steps_on, (void *)(uintptr_t)&chains[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_mask),
        cmocka_unit_test(five_steps_legacy),
        cmocka_unit_test(five_steps_lazy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
