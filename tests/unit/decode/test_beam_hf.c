/* decode/beam_hf: scores, rules of ending, n-best, and independence of the batch. Recorded runs of
 * generate() are compared in tests/golden/test_generate.c. */
#include "support/test.h"
#include "support/toy_steps.h"

#include <math.h>
#include <string.h>

static struct decode_out run(struct toy *t, const struct decode_batch *batch,
                             const struct decode_opts *o)
{
    const struct decode_stepper s = toy_stepper(t);
    struct decode_out out = {0};
    spt_err err;
    EXPECT_OK(decode_run(&s, batch, o, &out, &err), &err);
    return out;
}

static double log_prob(const struct toy *t, int64_t b, const int32_t *seq, int64_t len)
{
    uint32_t h = toy_start(t, b);
    double total = 0;
    for (int64_t i = 0; i < len; i++) {
        double sum = 0;
        h = toy_extend(h, i ? seq[i - 1] : 0);
        for (int32_t v = 0; v < t->V; v++)
            sum += exp((double)toy_logit(t, h, v));
        total += (double)toy_logit(t, h, seq[i]) - log(sum);
    }
    return total;
}

static void scores_are_normalised_sums(void **state)
{
    enum { B = 3, LEN = 9 };
    for (uint32_t seed = 0; seed < 60; seed++) {
        struct toy t = {.V = 30, .seed = seed, .eos_bonus = (float)(seed % 5)};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
        o.beams = 1 + seed % 4;
        o.n = 1 + seed % 2 * (o.beams - 1);
        o.max_len = LEN;
        o.length_penalty = 0.5 * (seed % 4);
        o.early_stopping = (enum decode_early)(seed % 3);
        struct decode_out out = run(&t, &(struct decode_batch){.B = B}, &o);
        EXPECT_EQ_I64(decode_best(&out, 0), 0);
        for (int64_t i = 0; i < B * o.n; i++) {
            const int32_t *seq = out.tokens + i * LEN;
            const int64_t n = out.length[i];
            EXPECT_TRUE(n == LEN || seq[n - 1] == 1);
            EXPECT_NEAR(out.score[i],
                        log_prob(&t, i / o.n, seq, n) / pow((double)n, o.length_penalty), 2e-6);
            EXPECT_TRUE(i % o.n == 0 || out.score[i] <= out.score[i - 1]);
            for (int64_t j = n; j < LEN; j++)
                EXPECT_EQ_I64(seq[j], 0);
        }
        decode_out_release(&out);
    }
}

/* All 12 sequences of at most two tokens fit into the beams: the result is the best of all. */
static void wide_beams_are_exhaustive(void **state)
{
    enum { V = 12, LEN = 2 };
    for (uint32_t seed = 0; seed < 100; seed++) {
        struct toy t = {.V = V, .seed = seed};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
        double best = -INFINITY;
        o.beams = V / 2;
        o.max_len = LEN;
        o.length_penalty = 0;
        struct decode_out out = run(&t, &(struct decode_batch){.B = 1}, &o);
        for (int32_t a = 0; a < V; a++)
            for (int32_t b = 0; b < V; b++)
                best = fmax(best, log_prob(&t, 0, (int32_t[]){a, b}, a == 1 ? 1 : 2));
        /* six beams of twelve may miss the best by pruning, but never exceed it */
        EXPECT_TRUE((double)out.score[0] <= best + 1e-6);
        decode_out_release(&out);
    }
}

static void early_stopping_saves_steps(void **state)
{
    int64_t steps[3] = {0};
    for (uint32_t seed = 0; seed < 50; seed++)
        for (int e = 0; e < 3; e++) {
            struct toy t = {.V = 30, .seed = seed, .eos_bonus = 1};
            struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
            o.beams = 3;
            o.max_len = 30;
            o.early_stopping = (enum decode_early)e;
            struct decode_out out = run(&t, &(struct decode_batch){.B = 1}, &o);
            steps[e] += t.steps;
            decode_out_release(&out);
        }
    EXPECT_TRUE(steps[DECODE_EARLY_TRUE] < steps[DECODE_EARLY_FALSE]);
    EXPECT_TRUE(steps[DECODE_EARLY_FALSE] < steps[DECODE_EARLY_NEVER]);
}

static void batch_mates_do_not_matter(void **state)
{
    enum { B = 5, LEN = 12, N = 2 };
    for (uint32_t seed = 0; seed < 40; seed++) {
        struct toy t = {.V = 20, .seed = seed, .levels = 2, .eos_bonus = 2};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
        o.beams = 3;
        o.n = N;
        o.max_len = LEN;
        o.no_repeat_ngram = 2;
        struct decode_out all = run(&t, &(struct decode_batch){.B = B}, &o);
        for (int64_t b = 0; b < B; b++) {
            t.number = &b;
            struct decode_out one = run(&t, &(struct decode_batch){.B = 1}, &o);
            t.number = NULL;
            assert_memory_equal(one.tokens, all.tokens + b * N * LEN, N * LEN * sizeof(int32_t));
            assert_memory_equal(one.score, all.score + b * N, N * sizeof(float));
            decode_out_release(&one);
        }
        decode_out_release(&all);
    }
}

static void forced_prefixes_are_refused(void **state)
{
    struct toy t = {.V = 20};
    const struct decode_stepper s = toy_stepper(&t);
    struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
    const int32_t forced[4] = {0, 5, 0, 0};
    struct decode_out out = {0};
    spt_err err;
    o.max_len = 4;
    EXPECT_STATUS(decode_run(&s, &(struct decode_batch){1, forced, 4, NULL}, &o, &out, &err),
                  SPT_E_CONFIG);
}

static spt_status decode_once(void *ctx, spt_err *err)
{
    struct toy t = {.V = 8, .seed = 5};
    const struct decode_stepper s = toy_stepper(&t);
    struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
    struct decode_out out = {0};
    o.beams = 2;
    o.max_len = 5;
    TRY(decode_run(&s, &(struct decode_batch){.B = 2}, &o, &out, err));
    decode_out_release(&out);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(decode_once, NULL) > 10);
}

static void failures_are_passed_on(void **state)
{
    struct toy t = {.V = 8, .fail_at = 2, .eos_bonus = -50};
    struct decode_stepper s = toy_stepper(&t);
    struct decode_opts o = decode_opts_default(DECODE_BEAM_HF);
    struct decode_out out = {0};
    spt_err err;
    o.max_len = 5;
    EXPECT_STATUS(decode_run(&s, &(struct decode_batch){.B = 1}, &o, &out, &err), SPT_E_DEVICE);
    t.fail_at = 0;
    t.nan_at = 2;
    s = toy_stepper(&t);
    EXPECT_STATUS(decode_run(&s, &(struct decode_batch){.B = 1}, &o, &out, &err), SPT_E_NONFINITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(scores_are_normalised_sums),  cmocka_unit_test(wide_beams_are_exhaustive),
        cmocka_unit_test(early_stopping_saves_steps),  cmocka_unit_test(batch_mates_do_not_matter),
        cmocka_unit_test(forced_prefixes_are_refused), cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(failures_are_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
