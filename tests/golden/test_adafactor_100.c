/* golden/adafactor_100: prompt-only training by the T5X stack, 100 steps from step 0, 20 steps from
 * step 1,100,000, and 5 steps in two micro-batches, dropout off; model, loss, gradient and
 * optimiser of ours against recorded losses, prompts and state, on every backend.
 *
 * Trajectories amplify rounding: golden.json says how far the same run drifts when the rows of its
 * batches are permuted. Prompts must stay within ten times that at steps 1 to 10; later only the
 * loss is compared. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/model.h"
#include "optim/optim.h"
#include "support/golden_model.h"

#define CASE "adafactor_100"
#define PROMPT "encoder/prompt/prompt/prompt"
enum { P = 10, E = 64, N = P * E };
#define TOL_LOSS 1e-4      /* steps 1 to 10 */
#define TOL_LOSS_LAST 1e-2 /* step 100 */
#define TOL_LOSS_PATH 5e-2 /* between them: trajectories have parted and meet again */
#define TOL_STATE_20 1e-3  /* relative, of the mean second moment after 20 steps */
#define TOL_STATE_100 0.1  /* after 100 */

struct trainer {
    t5_model *m;
    t5_acts *acts;
    struct test_batch batch[3];
    optim *o;
    float prompt[N];
    struct t5_loss_opts opts;
};

static void trainer_open(struct trainer *t, ops *o, int64_t start_step)
{
    const struct t5_config c = golden_config("tiny_forward");
    const struct optim_config cfg = optim_config_prompt_tuning();
    const struct optim_param param = {PROMPT, shape_2d(P, E), NULL};
    struct t5_acts_plan plan = {.backward = true};
    spt_err err;
    t->m = golden_model_t5x(o, &c, "tiny_forward", "params", true);
    memcpy(t->prompt, golden_tensor("tiny_forward", "params", PROMPT).f32, sizeof t->prompt);
    for (int k = 0; k < 3; k++) {
        char prefix[24];
        snprintf(prefix, sizeof prefix, "batch%d", k);
        golden_batch(&t->batch[k], CASE, prefix);
        const struct t5_acts_plan need = batch_plan(&t->batch[k].b, P, 0);
        plan.rows = need.rows > plan.rows ? need.rows : plan.rows;
        plan.dec_rows = need.dec_rows > plan.dec_rows ? need.dec_rows : plan.dec_rows;
        plan.examples = need.examples > plan.examples ? need.examples : plan.examples;
    }
    EXPECT_OK(t5_acts_new(t->m, &plan, &t->acts, &err), &err);
    EXPECT_OK(optim_new(&cfg, &param, 1, &t->o, &err), &err);
    optim_set_step(t->o, start_step);
    t->opts = (struct t5_loss_opts){.z_loss = 1e-4f, .normalize = T5_NORM_NONE};
}

static void trainer_close(struct trainer *t)
{
    optim_free(t->o);
    t5_acts_free(t->acts);
    t5_model_free(t->m);
    for (int k = 0; k < 3; k++)
        batch_free(&t->batch[k]);
}

/* One step over batch i mod 3, cut into `micro` ranges; returns the losses before the update. */
static struct t5_loss train_step(struct trainer *t, int i, int micro)
{
    const struct packed_batch *b = &t->batch[i % 3].b;
    const struct t5_prompts prompts = {.enc = t->prompt, .count = 1, .P = P};
    struct t5_loss loss = {0};
    float grad[N] = {0};
    float *param = t->prompt;
    const float *gradient = grad;
    spt_err err;
    for (int64_t j = 0; j < micro; j++) {
        const int64_t first = j * b->B / micro, count = (j + 1) * b->B / micro - first;
        EXPECT_OK(t5_forward(t->m, &prompts, b, first, count, &t->opts, NULL, t->acts, &loss, &err),
                  &err);
        EXPECT_OK(t5_backward(t->m, b, t->acts, NULL, grad, NULL, &err), &err);
    }
    optim_step(t->o, &param, &gradient, 0.3f);
    return loss;
}

static void expect_losses(const struct t5_loss *got, const float *want, double tol, int step,
                          bool early)
{
    if (!(fabs(got->loss - (double)want[0]) <= tol * (double)want[0]))
        fail_msg("step %d: loss %.9g, wanted %.9g", step, got->loss, (double)want[0]);
    EXPECT_EQ_I64(got->counted, want[3]);
    if (early) {
        EXPECT_NEAR(got->z_loss, want[1], 1e-4);
        EXPECT_EQ_I64(got->correct, want[2]);
    }
}

/* Compares with <prefix>prompt.<step>.npy if the case has one for that step. */
static void expect_prompt(const struct trainer *t, const char *prefix, int step, const char *isa)
{
    static const struct {
        int step;
        double noise; /* values.float32_noise of golden.json */
    } known[] = {{1, 2.384185791015625e-07},
                 {2, 1.239776611328125e-05},
                 {5, 2.002716064453125e-05},
                 {10, 5.221366882324219e-05}};
    for (size_t k = 0; k < sizeof known / sizeof *known; k++) {
        if (known[k].step != step || (step == 10 && *prefix) || (step == 2 && *prefix == 'm'))
            continue;
        char name[64];
        snprintf(name, sizeof name, "%sprompt.%03d.npy", prefix, step);
        const struct golden_array want = golden_npy_shaped(CASE, name, 2, P, E);
        const double worst = golden_max_diff(t->prompt, want.f32, N);
        printf("golden: %s %s: %.1e, allowed %.1e\n", isa, name, worst, 10 * known[k].noise);
        EXPECT_BELOW(name, worst, 10 * known[k].noise);
    }
}

static void expect_state(const struct trainer *t, const char *prefix, int64_t step, double tol)
{
    char name[128];
    snprintf(name, sizeof name, "%sparam_states.encoder.prompt.prompt.prompt.v.npy", prefix);
    const struct golden_array v = golden_npy_shaped(CASE, name, 2, P, E);
    const float *got = optim_slot_find(t->o, "param_states/" PROMPT "/v")->data;
    double ours = 0, theirs = 0;
    for (int i = 0; i < N; i++) {
        ours += (double)got[i];
        theirs += (double)v.f32[i];
    }
    EXPECT_BELOW("mean of v", fabs(ours - theirs) / theirs, tol);
    EXPECT_EQ_I64(optim_get_step(t->o), step);
    static const char *const unused[] = {"v_row", "v_col", "m"};
    for (int i = 0; i < 3; i++) {
        snprintf(name, sizeof name, "%sparam_states.encoder.prompt.prompt.prompt.%s.npy", prefix,
                 unused[i]);
        const struct golden_array want = golden_npy_shaped(CASE, name, 1, 1);
        snprintf(name, sizeof name, "param_states/" PROMPT "/%s", unused[i]);
        const struct optim_slot *s = optim_slot_find(t->o, name);
        EXPECT_EQ_I64(s->shape.rank, 1);
        EXPECT_EQ_I64(s->shape.dim[0], 1);
        EXPECT_EQ_F64(*(const float *)s->data, want.f32[0]);
    }
}

static void hundred_steps_on(ops *o, const char *isa, void *ctx)
{
    const struct golden_array losses = golden_npy_shaped(CASE, "losses.npy", 2, 100, 4);
    struct trainer t = {0};
    trainer_open(&t, o, 0);
    const bool slow = strcmp(isa, "ref64") == 0; /* half the cost of all: ten steps will do */
    double worst = 0;
    for (int i = 0; i < (slow ? 10 : 100); i++) {
        const double tol = i < 10 ? TOL_LOSS : i < 99 ? TOL_LOSS_PATH : TOL_LOSS_LAST;
        const struct t5_loss loss = train_step(&t, i, 1);
        expect_losses(&loss, losses.f32 + 4 * i, tol, i, i < 10);
        worst = fmax(worst, fabs(loss.loss / (double)losses.f32[4 * i] - 1));
        expect_prompt(&t, "", i + 1, isa);
        if (i == 99)
            printf("golden: %s: step 100: loss %.7g, recorded %.7g; worst on the way %.1e\n", isa,
                   loss.loss, (double)losses.f32[4 * i], worst);
    }
    if (!slow)
        expect_state(&t, "state.", 100, TOL_STATE_100);
    trainer_close(&t);
}

static void hundred_steps(void **state)
{
    golden_every_isa(hundred_steps_on, NULL);
}

static void late_start_on(ops *o, const char *isa, void *ctx)
{
    const struct golden_array losses = golden_npy_shaped(CASE, "late.losses.npy", 2, 20, 4);
    struct trainer t = {0};
    trainer_open(&t, o, 1100000);
    for (int i = 0; i < 20; i++) {
        const struct t5_loss loss = train_step(&t, i, 1);
        expect_losses(&loss, losses.f32 + 4 * i, i < 10 ? TOL_LOSS : 10 * TOL_LOSS, i, i < 10);
        expect_prompt(&t, "late.", i + 1, isa);
    }
    expect_state(&t, "state.late.", 1100020, TOL_STATE_20);
    trainer_close(&t);
}

static void late_start(void **state)
{
    golden_every_isa(late_start_on, NULL);
}

static void micro_batches_on(ops *o, const char *isa, void *ctx)
{
    const struct golden_array losses = golden_npy_shaped(CASE, "microbatch2.losses.npy", 2, 5, 4);
    struct trainer t = {0}, whole = {0};
    trainer_open(&t, o, 0);
    trainer_open(&whole, o, 0);
    for (int i = 0; i < 5; i++) {
        const struct t5_loss loss = train_step(&t, i, 2);
        train_step(&whole, i, 1);
        expect_losses(&loss, losses.f32 + 4 * i, TOL_LOSS, i, true);
        expect_prompt(&t, "microbatch2.", i + 1, isa);
        assert_memory_equal(t.prompt, whole.prompt, sizeof t.prompt); /* ours are exact */
    }
    trainer_close(&t);
    trainer_close(&whole);
}

static void micro_batches(void **state)
{
    golden_every_isa(micro_batches_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hundred_steps),
        cmocka_unit_test(late_start),
        cmocka_unit_test(micro_batches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
