/* decode/beam_t5x: the toy problem of the T5X tests, ties, forced prefixes, and independence of the
 * batch. */
#include "support/test.h"
#include "support/toy_steps.h"

#include <math.h>
#include <string.h>

static const float NEG = -1.0e7f;

/* Five tokens PAD A B START END and a first-order Markov model whose edge potentials depend on the
 * step; the first step allows START only. */
static float potential(int64_t step, int32_t from, int32_t to)
{
    if (step == 0)
        return to == 3 ? 0 : NEG;
    if (from == 0)
        return 0;
    if (step == 1)
        return from == 3 && (to == 1 || to == 2) ? 0 : NEG;
    if (step == 6)
        return (from == 1 || from == 2) && to == 4 ? 0 : NEG;
    if (from < 1 || from > 2 || to < 1 || to > 2)
        return NEG;
    return (from == to) == (step % 2 == 0) ? 1 : -1;
}

static spt_status markov(void *ctx, int64_t rows, const int32_t *example, const int32_t *parent,
                         const int32_t *token, float *logits, spt_err *err)
{
    int64_t *step = ctx;
    for (int64_t r = 0; r < rows; r++)
        for (int32_t v = 0; v < 5; v++)
            logits[r * 5 + v] = potential(*step, token[r], v);
    ++*step;
    return SPT_OK;
}

static void toy_of_the_reference(void **state)
{
    static const int32_t want[2][7] = {{3, 1, 1, 2, 2, 1, 4}, {3, 2, 2, 1, 1, 2, 4}};
    int64_t step = 0;
    const struct decode_stepper s = {&step, 5, markov, NULL};
    const struct decode_batch batch = {.B = 2};
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    struct decode_out out = {0};
    spt_err err;
    o.beams = o.n = 2;
    o.alpha = 0;
    o.eos_id = 4;
    o.max_len = 7;
    EXPECT_OK(decode_run(&s, &batch, &o, &out, &err), &err);
    EXPECT_EQ_I64(decode_best(&out, 1), 1);
    for (int b = 0; b < 2; b++)
        for (int i = 0; i < 2; i++) {
            EXPECT_EQ_I64(out.length[b * 2 + i], 7);
            assert_memory_equal(out.tokens + (b * 2 + i) * 7, want[i], sizeof want[i]);
        }
    decode_out_release(&out);
}

static struct decode_out run(struct toy *t, const struct decode_batch *batch,
                             const struct decode_opts *o)
{
    const struct decode_stepper s = toy_stepper(t);
    struct decode_out out = {0};
    spt_err err;
    EXPECT_OK(decode_run(&s, batch, o, &out, &err), &err);
    return out;
}

/* With beams enough for every prefix the search is exhaustive: compare with all sequences. */
static void exhaustive_search(void **state)
{
    enum { V = 4, LEN = 3, BEAMS = 2 };
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct toy t = {.V = V, .seed = seed};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
        o.beams = BEAMS;
        o.max_len = 1;
        const struct decode_batch batch = {.B = 1};
        struct decode_out out = run(&t, &batch, &o);
        /* one step: EOS is returned whenever it is among the 2 * beams best, i.e. always here */
        EXPECT_EQ_I64(out.tokens[0], 1);
        const uint32_t h = toy_extend(toy_start(&t, 0), 0);
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp((double)toy_logit(&t, h, v));
        EXPECT_NEAR(out.score[0], (double)toy_logit(&t, h, 1) - log(sum), 1e-6);
        decode_out_release(&out);
    }
}

/* The score of a returned sequence is its log probability over the brevity penalty. */
static double rescore(const struct toy *t, int64_t b, const int32_t *seq, int64_t len, double alpha)
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
    return total / pow((5.0 + (double)len) / 6, alpha);
}

static void scores_are_those_of_the_sequences(void **state)
{
    enum { B = 3 };
    for (uint32_t seed = 0; seed < 60; seed++) {
        struct toy t = {.V = 30, .seed = seed, .eos_bonus = (float)(seed % 5) - 1};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
        const struct decode_batch batch = {.B = B};
        o.beams = o.n = 1 + seed % 4;
        o.max_len = 9;
        o.alpha = 0.3 * (seed % 4);
        struct decode_out out = run(&t, &batch, &o);
        for (int64_t i = 0; i < B * o.n; i++) {
            const int32_t *seq = out.tokens + i * o.max_len;
            if (out.score[i] < -1e6f)
                continue; /* filler */
            const bool ended = seq[out.length[i] - 1] == 1;
            /* live ones are not normalised and have full length */
            const double want = ended ? rescore(&t, i / o.n, seq, out.length[i], o.alpha)
                                      : rescore(&t, i / o.n, seq, o.max_len, 0);
            EXPECT_NEAR(out.score[i], want, 2e-6);
            EXPECT_TRUE(i % o.n == 0 || out.score[i] >= out.score[i - 1]);
        }
        decode_out_release(&out);
    }
}

static void batch_mates_do_not_matter(void **state)
{
    enum { B = 5 };
    for (uint32_t seed = 0; seed < 40; seed++) {
        struct toy t = {.V = 20, .seed = seed, .levels = 2, .eos_bonus = 2};
        struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
        struct decode_batch batch = {.B = B};
        o.beams = o.n = 3;
        o.max_len = 12;
        struct decode_out all = run(&t, &batch, &o);
        EXPECT_TRUE(t.rows_fed < 12 * B * 3); /* finished examples are not fed */
        for (int64_t b = 0; b < B; b++) {
            batch = (struct decode_batch){.B = 1};
            t.number = &b;
            struct decode_out one = run(&t, &batch, &o);
            t.number = NULL;
            assert_memory_equal(one.tokens, all.tokens + b * 3 * 12, 3 * 12 * sizeof(int32_t));
            assert_memory_equal(one.score, all.score + b * 3, 3 * sizeof(float));
            decode_out_release(&one);
        }
        decode_out_release(&all);
    }
}

static void forced_prefixes(void **state)
{
    enum { B = 2, LEN = 6 };
    static const int32_t forced[B * LEN] = {0, 7, 9, 0, 0, 0, 0, 3, 0, 0, 0, 0};
    struct toy t = {.V = 16, .seed = 3};
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    const struct decode_batch batch = {.B = B, .forced = forced, .forced_len = LEN};
    o.beams = 4;
    o.n = 1;
    o.max_len = LEN;
    struct decode_out out = run(&t, &batch, &o);
    EXPECT_EQ_I64(out.tokens[0], 7);
    EXPECT_EQ_I64(out.tokens[1], 9);
    EXPECT_EQ_I64(out.tokens[LEN], 3);
    decode_out_release(&out);
}

static void stop_sequences_end_hypotheses(void **state)
{
    static const int64_t off[2] = {0, 1};
    struct toy t = {.V = 16, .seed = 11, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    const struct decode_batch batch = {.B = 1};
    o.beams = 2;
    o.max_len = 20;
    struct decode_out out = run(&t, &batch, &o);
    EXPECT_EQ_I64(out.length[0], 20);
    const int32_t stop = out.tokens[4];
    decode_out_release(&out);
    o.stop = (struct decode_ids){1, off, &stop};
    out = run(&t, &batch, &o);
    EXPECT_TRUE(out.length[0] < 20 && out.tokens[out.length[0] - 1] == stop);
    decode_out_release(&out);
}

static void step_limit(void **state)
{
    struct toy t = {.V = 16, .seed = 12, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    const struct decode_batch batch = {.B = 1};
    o.max_len = 20;
    o.max_decode_steps = 3;
    struct decode_out out = run(&t, &batch, &o);
    EXPECT_EQ_I64(t.steps, 3);
    EXPECT_TRUE(out.length[0] <= 3);
    decode_out_release(&out);
}

static void failures_are_passed_on(void **state)
{
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    const struct decode_batch batch = {.B = 2};
    struct decode_out out = {0};
    spt_err err;
    o.beams = 2;
    o.max_len = 5;
    struct toy t = {.V = 8, .fail_at = 2, .eos_bonus = -50};
    struct decode_stepper s = toy_stepper(&t);
    EXPECT_STATUS(decode_run(&s, &batch, &o, &out, &err), SPT_E_DEVICE);
    t.fail_at = 0;
    t.nan_at = 3;
    s = toy_stepper(&t);
    EXPECT_STATUS(decode_run(&s, &batch, &o, &out, &err), SPT_E_NONFINITE);
    EXPECT_MSG(&err, "example 0");
    EXPECT_TRUE(out.tokens == NULL);
}

static spt_status decode_once(void *ctx, spt_err *err)
{
    struct toy t = {.V = 8, .seed = 5};
    const struct decode_stepper s = toy_stepper(&t);
    struct decode_opts o = decode_opts_default(DECODE_BEAM_T5X);
    const struct decode_batch batch = {.B = 2};
    struct decode_out out = {0};
    o.beams = 2;
    o.max_len = 5;
    TRY(decode_run(&s, &batch, &o, &out, err));
    decode_out_release(&out);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(decode_once, NULL) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(toy_of_the_reference),
        cmocka_unit_test(exhaustive_search),
        cmocka_unit_test(scores_are_those_of_the_sequences),
        cmocka_unit_test(batch_mates_do_not_matter),
        cmocka_unit_test(forced_prefixes),
        cmocka_unit_test(stop_sequences_end_hypotheses),
        cmocka_unit_test(step_limit),
        cmocka_unit_test(failures_are_passed_on),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
