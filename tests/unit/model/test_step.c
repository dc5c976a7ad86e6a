/* Step-by-step decoding and scoring against teacher forcing. */
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

/* Same numbers in another order of summation. */
#define TOL 2e-5

struct setup {
    struct test_params params;
    t5_model *m;
    struct test_batch batch;
    float enc[2 * 3 * 16], dec[2 * 16];
    struct t5_prompts prompts;
};

static void open_setup(struct setup *s, ops *o, int64_t P_dec)
{
    spt_err err;
    struct t5_config c = params_small_config();
    uint64_t seed = 5;
    params_random(&s->params, &c, 21);
    const struct t5_getter get = params_getter(&s->params);
    EXPECT_OK(t5_model_new_from(o, &get, false, &s->m, &err), &err);
    batch_random(&s->batch, 3, 9, 8, c.vocab, 8);
    for (int b = 0; b < 3; b++)
        s->batch.prompt_of[b] = b & 1;
    for (size_t i = 0; i < sizeof s->enc / sizeof *s->enc; i++)
        s->enc[i] = (float)test_uniform(&seed);
    for (size_t i = 0; i < sizeof s->dec / sizeof *s->dec; i++)
        s->dec[i] = (float)test_uniform(&seed);
    s->prompts = (struct t5_prompts){
        .enc = s->enc, .count = 2, .P = 3, .dec = P_dec ? s->dec : NULL, .P_dec = P_dec};
}

static void close_setup(struct setup *s)
{
    t5_model_free(s->m);
    batch_free(&s->batch);
    params_free(&s->params);
}

/* Teacher-forced logits of sequence `ids` (start id in front is implied) for example b. */
static void forced(struct setup *s, int b, const int32_t *in, int64_t n, float *logits)
{
    spt_err err;
    struct test_batch one;
    const int which = b;
    batch_select(&one, &s->batch, &which, 1);
    struct packed_batch p = one.b;
    const int64_t off[2] = {0, n};
    int32_t target[16] = {0};
    p.dec_off = off;
    p.dec_in = in;
    p.dec_target = target;
    p.dec_weight = NULL;
    struct t5_acts_plan plan = {.rows = 64, .dec_rows = 64, .examples = 4};
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(s->m, &plan, &acts, &err), &err);
    const struct t5_loss_opts opts = {0};
    struct t5_loss loss = {0};
    EXPECT_OK(t5_forward(s->m, &s->prompts, &p, 0, 1, &opts, NULL, acts, &loss, &err), &err);
    EXPECT_OK(t5_acts_logits(s->m, acts, logits, &err), &err);
    t5_acts_free(acts);
    batch_free(&one);
}

enum { ROWS = 6, STEPS = 5, V = 23 };

/* Beams that are reordered at every step: each must see its own past only. */
static void steps_on(ops *o, const char *isa, void *ctx)
{
    struct setup s;
    spt_err err;
    const int64_t P_dec = *(const int64_t *)ctx;
    open_setup(&s, o, P_dec);
    struct t5_acts_plan plan = batch_plan(&s.batch.b, 3, 0);
    t5_acts *acts;
    t5_decoder *d;
    EXPECT_OK(t5_acts_new(s.m, &plan, &acts, &err), &err);
    const struct t5_decoder_plan dp = {
        .examples = 3, .enc_rows = plan.rows, .rows = ROWS, .max_len = STEPS, .P_dec = P_dec};
    EXPECT_OK(t5_decoder_new(s.m, &dp, &d, &err), &err);
    for (int round = 0; round < 2; round++) { /* a second start forgets the first */
        EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, acts, &err), &err);
        EXPECT_OK(t5_decoder_start(d, &s.prompts, acts, &err), &err);
        /* Example 1 has no row at all; example 0 two, example 2 four. */
        const int32_t example[ROWS] = {0, 0, 2, 2, 2, 2};
        const int32_t parent[ROWS] = {1, 0, 3, 3, 2, 5};
        int32_t past[ROWS][STEPS], next[ROWS][STEPS];
        float logits[ROWS * V], want[STEPS * V];
        uint64_t seed = (uint64_t)round;
        for (int t = 0; t < STEPS; t++) {
            int32_t token[ROWS];
            for (int r = 0; r < ROWS; r++) {
                token[r] = t ? (int32_t)(1 + (test_uniform(&seed) + 1) * 10) : 0;
                if (t)
                    memcpy(next[r], past[parent[r]], sizeof next[r]);
                next[r][t] = token[r];
            }
            memcpy(past, next, sizeof past);
            EXPECT_EQ_I64(t5_decoder_position(d), t);
            EXPECT_OK(t5_decoder_step(d, ROWS, example, t ? parent : NULL, token, logits, &err),
                      &err);
            for (int r = 0; r < ROWS; r++) {
                forced(&s, example[r], past[r], t + 1, want);
                EXPECT_BELOW(isa, golden_rel(logits + r * V, want + t * V, V), TOL);
            }
        }
        const int32_t token[ROWS] = {0};
        EXPECT_STATUS(t5_decoder_step(d, ROWS, example, parent, token, logits, &err),
                      SPT_E_INTERNAL); /* planned steps are used up */
    }
    t5_decoder_free(d);
    t5_acts_free(acts);
    close_setup(&s);
}

static void steps_equal_teacher_forcing(void **state)
{
    int64_t P_dec = 0;
    golden_every_isa(steps_on, &P_dec);
}

static void steps_with_a_decoder_prompt(void **state)
{
    int64_t P_dec = 2;
    golden_every_isa(steps_on, &P_dec);
}

/* A row's bits do not depend on the other rows of the step. */
static void rows_alone_on(ops *o, const char *isa, void *ctx)
{
    (void)isa, (void)ctx;
    struct setup s;
    spt_err err;
    open_setup(&s, o, 0);
    struct t5_acts_plan plan = batch_plan(&s.batch.b, 3, 0);
    t5_acts *acts;
    t5_decoder *d;
    EXPECT_OK(t5_acts_new(s.m, &plan, &acts, &err), &err);
    const struct t5_decoder_plan dp = {
        .examples = 3, .enc_rows = plan.rows, .rows = ROWS, .max_len = STEPS};
    EXPECT_OK(t5_decoder_new(s.m, &dp, &d, &err), &err);
    EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, acts, &err), &err);
    const int32_t example[3] = {0, 1, 2}, parent[3] = {0, 1, 2}, same[1] = {0};
    static const int32_t token[STEPS][3] = {{0, 0, 0}, {4, 9, 2}, {7, 3, 3}, {1, 22, 5}, {2, 2, 2}};
    float all[STEPS][3 * V], one[V];
    EXPECT_OK(t5_decoder_start(d, &s.prompts, acts, &err), &err);
    for (int t = 0; t < STEPS; t++)
        EXPECT_OK(t5_decoder_step(d, 3, example, parent, token[t], all[t], &err), &err);
    for (int r = 0; r < 3; r++) {
        EXPECT_OK(t5_decoder_start(d, &s.prompts, acts, &err), &err);
        for (int t = 0; t < STEPS; t++) {
            EXPECT_OK(t5_decoder_step(d, 1, example + r, same, token[t] + r, one, &err), &err);
            EXPECT_TRUE(!memcmp(one, all[t] + r * V, sizeof one));
        }
    }
    t5_decoder_free(d);
    t5_acts_free(acts);
    close_setup(&s);
}

static void rows_do_not_depend_on_each_other(void **state)
{
    golden_every_isa(rows_alone_on, NULL);
}

/* Many targets per example over one encoder pass: the same bits as one pass per target. */
static void scores_on(ops *o, const char *isa, void *ctx)
{
    (void)isa;
    struct setup s;
    spt_err err;
    const int64_t P_dec = *(const int64_t *)ctx;
    open_setup(&s, o, P_dec);
    static const int32_t example[] = {0, 0, 0, 2, 2}, in[] = {0, 4, 0, 0, 7, 8, 0, 1, 0, 3},
                         target[] = {4, 1, 9, 7, 8, 1, 1, 5, 3, 3};
    static const int64_t off[] = {0, 2, 3, 6, 8, 10};
    static const float weight[] = {1, 1, 1, 1, 0, 1, 2, 1, 1, 0};
    const struct t5_targets g = {5, example, off, in, target, weight};
    struct t5_acts_plan plan = {.rows = 64, .dec_rows = 32, .examples = 8};
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(s.m, &plan, &acts, &err), &err);
    float score[5], token[10], one[1], one_token[10];
    int32_t argmax[10];
    EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, acts, &err), &err);
    EXPECT_OK(t5_score(s.m, &s.prompts, &g, acts, score, token, argmax, &err), &err);
    EXPECT_EQ_F64(token[4], 0);
    EXPECT_EQ_I64(argmax[4], -1);
    for (int i = 0; i < 5; i++) {
        double sum = 0;
        for (int64_t t = off[i]; t < off[i + 1]; t++)
            sum += (double)weight[t] * (double)token[t];
        EXPECT_NEAR(score[i], sum, 1e-6);
        const struct t5_targets alone = {1, example + i, off + i, in, target, weight};
        EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, acts, &err), &err);
        EXPECT_OK(t5_score(s.m, &s.prompts, &alone, acts, one, one_token, NULL, &err), &err);
        EXPECT_TRUE(!memcmp(one, &score[i], sizeof *one));
        EXPECT_TRUE(!memcmp(one_token + off[i], token + off[i],
                            (size_t)(off[i + 1] - off[i]) * sizeof *token));
    }
    static const int32_t unordered[] = {2, 0, 0, 2, 2};
    const struct t5_targets bad = {5, unordered, off, in, target, weight};
    EXPECT_STATUS(t5_score(s.m, &s.prompts, &bad, acts, score, NULL, NULL, &err), SPT_E_INTERNAL);
    t5_acts_free(acts);
    close_setup(&s);
}

/* Targets that begin alike: as t5_score but for rounding; with fewer rows; alone or together the
 * same bits. */
static void labels_on(ops *o, const char *isa, void *ctx)
{
    struct setup s;
    spt_err err;
    const int64_t P_dec = *(const int64_t *)ctx & 15;
    const bool absorb = *(const int64_t *)ctx & 16;
    open_setup(&s, o, P_dec);
    if (absorb) {
        const struct t5_getter get = params_getter(&s.params);
        t5_model_free(s.m);
        EXPECT_OK(t5_model_new_from(o, &get, T5_ABSORB, &s.m, &err), &err);
    }
    static const int32_t example[] = {0, 0, 0, 0, 2, 2, 2},
                         in[] = {0, 4, 9, 0, 4, 7, 0, 4, 9, 2, 0, 4, 0, 0, 1, 0, 1},
                         target[] = {4, 9, 1, 4, 7, 1, 4, 9, 2, 1, 4, 1, 1, 1, 5, 1, 6};
    static const int64_t off[] = {0, 3, 6, 10, 12, 13, 15, 17};
    static const float weight[] = {1, 1, 1, 1, 1, 1, 0, 1, 2, 1, 1, 1, 1, 1, 1, 1, 1};
    const struct t5_targets g = {7, example, off, in, target, weight};
    EXPECT_EQ_I64(t5_label_rows(&g, 0, 4), 5); /* 0, 4, 9, 7 behind 4, 2 behind 9 */
    EXPECT_EQ_I64(t5_label_rows(&g, 4, 3), 2);
    struct t5_acts_plan plan = {.rows = 64, .dec_rows = 32, .examples = 8, .absorb = absorb};
    t5_acts *acts, *small;
    EXPECT_OK(t5_acts_new(s.m, &plan, &acts, &err), &err);
    plan.dec_rows = 7 + 2 * P_dec;
    EXPECT_OK(t5_acts_new(s.m, &plan, &small, &err), &err);
    float want[7], score[7], want_token[17], token[17], one[1], one_token[17];
    int32_t want_argmax[17], argmax[17];
    EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, acts, &err), &err);
    EXPECT_OK(t5_score(s.m, &s.prompts, &g, acts, want, want_token, want_argmax, &err), &err);
    EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, 3, small, &err), &err);
    EXPECT_OK(t5_score_labels(s.m, &s.prompts, &g, small, score, token, argmax, &err), &err);
    EXPECT_BELOW(isa, golden_rel(score, want, 7), TOL);
    EXPECT_BELOW(isa, golden_rel(token, want_token, 17), TOL);
    EXPECT_TRUE(!memcmp(argmax, want_argmax, sizeof argmax));
    EXPECT_EQ_F64(token[6], 0);
    for (int i = 0; i < 7; i++) {
        const struct t5_targets alone = {1, example + i, off + i, in, target, weight};
        EXPECT_OK(t5_score_labels(s.m, &s.prompts, &alone, small, one, one_token, NULL, &err),
                  &err);
        EXPECT_TRUE(!memcmp(one, &score[i], sizeof *one));
        EXPECT_TRUE(!memcmp(one_token + off[i], token + off[i],
                            (size_t)(off[i + 1] - off[i]) * sizeof *token));
    }
    /* The plain way still works on the same storage, and too many rows are refused. */
    const struct t5_targets two = {1, example + 5, off + 5, in, target, weight};
    EXPECT_OK(t5_score(s.m, &s.prompts, &two, small, one, one_token, NULL, &err), &err);
    EXPECT_BELOW(isa, golden_rel(one, want + 5, 1), TOL);
    static const int32_t many[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13};
    const int64_t long_off[] = {0, 14};
    const struct t5_targets too_long = {1, example, long_off, many, many, NULL};
    EXPECT_STATUS(t5_score_labels(s.m, &s.prompts, &too_long, small, one, NULL, NULL, &err),
                  SPT_E_CONFIG);
    static const int32_t bad[] = {23, 0};
    const int64_t bad_off[] = {0, 1};
    const struct t5_targets wrong = {1, example, bad_off, bad + 1, bad, NULL};
    EXPECT_STATUS(t5_score_labels(s.m, &s.prompts, &wrong, small, one, NULL, NULL, &err),
                  SPT_E_FORMAT);
    t5_acts_free(acts);
    t5_acts_free(small);
    close_setup(&s);
}

static void labels_share_their_beginnings(void **state)
{
    static const int64_t ways[] = {0, 2, 16, 18}; /* decoder prompt rows, absorbed */
    for (int i = 0; i < 4; i++) {
        int64_t way = ways[i];
        golden_every_isa(labels_on, &way);
    }
}

static void many_targets_over_one_encoder_pass(void **state)
{
    int64_t P_dec = 0;
    golden_every_isa(scores_on, &P_dec);
    P_dec = 2;
    golden_every_isa(scores_on, &P_dec);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(steps_equal_teacher_forcing),
        cmocka_unit_test(steps_with_a_decoder_prompt),
        cmocka_unit_test(rows_do_not_depend_on_each_other),
        cmocka_unit_test(many_targets_over_one_encoder_pass),
        cmocka_unit_test(labels_share_their_beginnings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
