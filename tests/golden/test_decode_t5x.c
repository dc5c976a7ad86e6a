/* golden/decode: beam search, greedy and sampled decoding of the T5X stack, ids and scores, on
 * every backend. Rows come ascending by score; entries near -1e7 are filler of the finished pool
 * whose order depends on the last bit of large sums: they only have to be filler here, too. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode_model.h"
#include "support/golden_model.h"

#define CASE "decode"
enum { B = 4, LEN = 16, MAX_N = 4 };
/* Relative: sums of up to 16 log probabilities, rounded in float32 by both stacks. */
#define TOL_SCORE 1e-5

struct run {
    const char *name;
    enum decode_method method;
    int64_t n;
    double alpha, temperature, top_p;
    int64_t top_k, max_steps;
    int32_t key;
    bool forced, raw;
};

/* settings.runs of golden.json. */
static const struct run runs[] = {
    {"beam1", DECODE_BEAM_T5X, 1, .alpha = 0.6},
    {"beam4_a06", DECODE_BEAM_T5X, 4, .alpha = 0.6},
    {"beam4_a0", DECODE_BEAM_T5X, 4, .alpha = 0},
    {"beam3_a1", DECODE_BEAM_T5X, 3, .alpha = 1},
    {"beam4_forced", DECODE_BEAM_T5X, 4, .alpha = 0.6, .forced = true},
    {"greedy_default", DECODE_SAMPLE_T5X, 1, .temperature = 1, .top_k = 1},
    {"greedy_raw", DECODE_SAMPLE_T5X, 1, .temperature = 1, .top_k = 1, .raw = true},
    {"greedy_t0_raw", DECODE_SAMPLE_T5X, 1, .temperature = 0, .raw = true},
    {"sample_topk20_t07", DECODE_SAMPLE_T5X, 1, .temperature = 0.7, .top_k = 20, .key = 7},
    {"sample_topp09", DECODE_SAMPLE_T5X, 3, .temperature = 1, .top_p = 0.9, .key = 7},
    {"sample_plain_raw", DECODE_SAMPLE_T5X, 2, .temperature = 1.3, .key = 123, .raw = true},
    {"sample_forced", DECODE_SAMPLE_T5X, 2, .temperature = 1, .top_k = 50, .key = 5,
     .forced = true},
    {"sample_maxsteps", DECODE_SAMPLE_T5X, 1, .temperature = 1, .top_k = 50, .max_steps = 6,
     .key = 5},
};

/* tiny_forward's parameters with another EOS column of the output head. */
static spt_status param(void *ctx, const char *name, struct t5_param *out, spt_err *err)
{
    struct golden_array a = golden_tensor("tiny_forward", "params", name);
    struct tensor_shape shape = {.rank = a.rank};
    memcpy(shape.dim, a.dim, sizeof shape.dim);
    if (ctx && strcmp(name, "decoder/logits_dense/kernel") == 0) {
        const struct golden_array eos = golden_npy_shaped(CASE, "eos_column.npy", 1, (int)a.dim[0]);
        for (int64_t i = 0; i < a.dim[0]; i++)
            a.f32[i * a.dim[1] + 1] = eos.f32[i];
    }
    *out = (struct t5_param){.m = {.view = {DT_F32, shape, a.f32}}};
    return SPT_OK;
}

static t5_model *open_model(ops *o, const struct t5_config *c, bool eos_column)
{
    static int yes;
    const struct t5_getter get = {.ctx = eos_column ? &yes : NULL, .config = c, .param = param};
    t5_model *m = NULL;
    spt_err err;
    EXPECT_OK(t5_model_new_from(o, &get, false, &m, &err), &err);
    return m;
}

static struct t5_prompts prompts_of_case(void)
{
    const struct golden_array p =
        golden_tensor("tiny_forward", "params", "encoder/prompt/prompt/prompt");
    return (struct t5_prompts){.enc = p.f32, .count = 1, .P = p.dim[0]};
}

static struct decode_opts opts_of(const struct run *r)
{
    struct decode_opts o = decode_opts_default(r->method);
    o.max_len = LEN;
    o.n = r->n;
    o.beams = r->method == DECODE_BEAM_T5X ? r->n : 1;
    o.alpha = r->alpha;
    o.temperature = r->temperature;
    o.top_p = r->top_p;
    o.top_k = r->top_k;
    o.max_decode_steps = r->max_steps;
    o.key = rng_key_of(r->key);
    o.rescale_log_probs = !r->raw;
    return o;
}

static void compare(const struct run *r, const struct decode_out *out, const char *isa)
{
    char name[64];
    snprintf(name, sizeof name, "decode_%s.tokens.npy", r->name);
    const struct golden_array tokens = golden_npy_shaped(CASE, name, 3, B, (int)r->n, LEN);
    snprintf(name, sizeof name, "decode_%s.scores.npy", r->name);
    const struct golden_array scores = golden_npy_shaped(CASE, name, 2, B, (int)r->n);
    double worst = 0;
    for (int64_t i = 0; i < B * r->n; i++) {
        if (scores.f32[i] < -1e6f) {
            EXPECT_TRUE(out->score[i] < -1e6f);
            continue;
        }
        for (int64_t j = 0; j < LEN; j++)
            if (out->tokens[i * LEN + j] != tokens.i32[i * LEN + j])
                fail_msg("%s %s: row %d, token %d: %d, wanted %d", isa, r->name, (int)i, (int)j,
                         out->tokens[i * LEN + j], tokens.i32[i * LEN + j]);
        const double size = fmax(1, fabs((double)scores.f32[i]));
        const double d = fabs((double)out->score[i] - (double)scores.f32[i]) / size;
        worst = d <= worst ? worst : d;
    }
    printf("golden: %s %s: scores within %.1e\n", isa, r->name, worst);
    EXPECT_BELOW(r->name, worst, TOL_SCORE);
}

static void all_runs_on(ops *o, const char *isa, void *ctx)
{
    const struct t5_config c = golden_config("tiny_forward");
    t5_model *m = open_model(o, &c, true);
    const struct t5_prompts prompts = prompts_of_case();
    const struct golden_array enc = golden_npy_shaped(CASE, "encoder_input_tokens.npy", 2, B, 160);
    const struct golden_array prefix = golden_npy_shaped(CASE, "forced_prefix.npy", 2, B, LEN);
    struct test_batch batch;
    static const int32_t nothing[B * LEN];
    batch_pack(&batch, B, 160, enc.i32, LEN, nothing, nothing, NULL);
    const struct decode_model_plan plan = {.examples = B,
                                           .enc_rows = batch_plan(&batch.b, prompts.P, 0).rows,
                                           .rows = B * MAX_N,
                                           .max_len = LEN};
    decode_model *d = NULL;
    spt_err err;
    EXPECT_OK(decode_model_new(m, &plan, &d, &err), &err);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        const struct decode_opts opts = opts_of(&runs[i]);
        struct decode_out out = {0};
        EXPECT_OK(decode_model_run(d, &prompts, &batch.b, 0, B, &opts,
                                   runs[i].forced ? prefix.i32 : NULL, LEN, &out, &err),
                  &err);
        compare(&runs[i], &out, isa);
        decode_out_release(&out);
    }
    decode_model_free(d);
    t5_model_free(m);
    batch_free(&batch);
}

static void all_runs(void **state)
{
    golden_every_isa(all_runs_on, NULL);
}

/* score_batch with both heads. */
static void scores_on(ops *o, const char *isa, void *ctx)
{
    const struct t5_config c = golden_config("tiny_forward");
    const struct t5_prompts prompts = prompts_of_case();
    for (int eos = 0; eos < 2; eos++) {
        t5_model *m = open_model(o, &c, eos);
        const struct golden_array want =
            golden_npy_shaped(CASE, eos ? "score_batch.eos.npy" : "score_batch.npy", 1, B);
        struct test_batch batch;
        golden_batch(&batch, CASE, "batch");
        const struct t5_acts_plan plan = batch_plan(&batch.b, prompts.P, 0);
        const struct t5_loss_opts opts = {.normalize = T5_NORM_NONE};
        t5_acts *acts = NULL;
        spt_err err;
        float ce[B];
        struct t5_loss loss = {.example_loss = ce};
        EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
        EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, B, &opts, NULL, acts, &loss, &err), &err);
        for (int b = 0; b < B; b++)
            EXPECT_NEAR(-ce[b], want.f32[b], TOL_SCORE);
        t5_acts_free(acts);
        t5_model_free(m);
        batch_free(&batch);
    }
}

static void scores(void **state)
{
    golden_every_isa(scores_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_runs),
        cmocka_unit_test(scores),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
