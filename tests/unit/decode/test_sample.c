/* decode/sample: the cases of the T5X decoding tests, draws of jax.random.categorical,
 * distributions of samples, processors, and independence of the batch. */
#include "support/test.h"
#include "support/toy_steps.h"

#include <math.h>
#include <string.h>

#include "random/distributions.h"

/* The same logits in every step: row b of [B, 4]. */
static spt_status fixed(void *ctx, int64_t rows, const int32_t *example, const int32_t *parent,
                        const int32_t *token, float *logits, spt_err *err)
{
    for (int64_t r = 0; r < rows; r++)
        memcpy(logits + 4 * r, (const float *)ctx + 4 * example[r], 4 * sizeof *logits);
    return SPT_OK;
}

static const float two_and_three[8] = {-1e7f, -1e7f, 0, -1e7f, -1e7f, -1e7f, -1e7f, 0};

static void expect_tokens(const float *logits, const struct decode_opts *o,
                          const struct decode_batch *batch, const int32_t *want, float score)
{
    const struct decode_stepper s = {(void *)logits, 4, fixed, NULL};
    struct decode_out out = {0};
    spt_err err;
    EXPECT_OK(decode_run(&s, batch, o, &out, &err), &err);
    for (int64_t i = 0; i < batch->B * o->n * o->max_len; i++)
        EXPECT_EQ_I64(out.tokens[i], want[i]);
    for (int64_t i = 0; i < batch->B * o->n; i++)
        EXPECT_NEAR(out.score[i], score, 1e-6);
    decode_out_release(&out);
}

static void prefixes_of_the_reference(void **state)
{
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    o.top_k = 0;
    o.max_len = 3;
    struct decode_batch batch = {.B = 2};
    expect_tokens(two_and_three, &o, &batch, (int32_t[]){2, 2, 2, 3, 3, 3}, 0);

    const int32_t prefix[10] = {0, 5, 6, 7, 0, 0, 8, 9, 0, 0};
    o.max_len = 5;
    batch = (struct decode_batch){.B = 2, .forced = prefix, .forced_len = 5};
    expect_tokens(two_and_three, &o, &batch, (int32_t[]){5, 6, 7, 2, 2, 8, 9, 3, 3, 3}, 0);

    /* an EOS of the prefix does not end the row */
    const int32_t ending[10] = {0, 5, 6, 1, 0, 0, 8, 1, 0, 0};
    o.top_k = 1;
    batch.forced = ending;
    expect_tokens(two_and_three, &o, &batch, (int32_t[]){5, 6, 1, 2, 2, 8, 1, 3, 3, 3}, 0);
}

static void cold_is_greedy(void **state)
{
    const float logits[8] = {1700.47f, 1700.48f, 1700.51f, 1700.45f, 3.2f, 4.8f, -5.3f, 5.6f};
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    const struct decode_batch batch = {.B = 2};
    o.top_k = 4;
    o.temperature = 0;
    o.max_len = 3;
    expect_tokens(logits, &o, &batch, (int32_t[]){2, 2, 2, 3, 3, 3}, 0);
}

static void scores_of_greedy(void **state)
{
    const float logits[4] = {-1e7f, -1e7f, -0.510825624f, -0.916290732f};
    const int32_t same[5] = {0, 2, 2, 2, 0}, other[5] = {0, 2, 2, 3, 0};
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    struct decode_batch batch = {.B = 1, .forced = same, .forced_len = 5};
    o.max_len = 5;
    expect_tokens(logits, &o, &batch, (int32_t[]){2, 2, 2, 2, 2}, 0);
    batch.forced = other;
    o.rescale_log_probs = false;
    expect_tokens(logits, &o, &batch, (int32_t[]){2, 2, 3, 2, 2}, -1.02165125f);
}

static void narrow_nuclei_are_greedy(void **state)
{
    const float logits[4] = {-1.2f, -1e7f, -2.3f, -0.51f};
    int32_t threes[20];
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    const struct decode_batch batch = {.B = 1};
    for (int i = 0; i < 20; i++)
        threes[i] = 3;
    o.max_len = 20;
    o.top_k = 0;
    o.top_p = 0.55;
    expect_tokens(logits, &o, &batch, threes, 0);
    o.temperature = 0.8;
    o.top_p = 0.63;
    expect_tokens(logits, &o, &batch, threes, 0);
    o.max_decode_steps = 10;
    memset(threes + 10, 0, 10 * sizeof *threes);
    expect_tokens(logits, &o, &batch, threes, 0);
}

/* max_decode_steps counts from the end of the forced prefix. */
static void step_limits_of_rows(void **state)
{
    const float threes[8] = {-1e7f, -1e7f, -1e7f, 0, -1e7f, -1e7f, -1e7f, 0};
    const int32_t prefix[16] = {0, 2, 0, 0, 0, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 0};
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    const struct decode_batch batch = {.B = 2, .forced = prefix, .forced_len = 8};
    o.top_k = 4;
    o.max_len = 8;
    o.max_decode_steps = 4;
    expect_tokens(threes, &o, &batch, (int32_t[]){2, 3, 3, 3, 3, 0, 0, 0, 2, 2, 3, 3, 3, 3, 0, 0},
                  0);
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

/* Step by step against jax.random.categorical over [B * n, V] with the reference's key chain. */
static void draws_of_jax(void **state)
{
    enum { B = 3, N = 2, V = 40, LEN = 6 };
    static float logits[B * N * V];
    struct toy t = {.V = V, .seed = 9, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE_T5X);
    const struct decode_batch batch = {.B = B};
    uint32_t h[B * N];
    int32_t token[B * N] = {0};
    o.top_k = 0;
    o.n = N;
    o.max_len = LEN;
    o.key = rng_key_of(77);
    struct decode_out out = run(&t, &batch, &o);
    struct rng_key carry = o.key;
    int32_t want[B * N][LEN];
    for (int r = 0; r < B * N; r++)
        h[r] = toy_start(&t, r / N);
    for (int i = 0; i < LEN; i++) {
        const struct rng_key key = rng_split_at(carry, 2, 0, RNG_CLASSIC);
        carry = rng_split_at(carry, 2, 1, RNG_CLASSIC);
        for (int r = 0; r < B * N; r++) {
            h[r] = toy_extend(h[r], token[r]);
            for (int32_t v = 0; v < V; v++)
                logits[r * V + v] = toy_logit(&t, h[r], v);
        }
        rng_categorical(key, logits, B * N, V, token);
        for (int r = 0; r < B * N; r++)
            want[r][i] = token[r];
    }
    for (int r = 0; r < B * N; r++) { /* decodes are sorted by score: find each */
        bool found = false;
        for (int j = 0; j < N; j++)
            found |= memcmp(out.tokens + (r / N * N + j) * LEN, want[r], sizeof want[r]) == 0;
        EXPECT_TRUE(found);
    }
    for (int b = 0; b < B; b++)
        EXPECT_TRUE(out.score[b * N] <= out.score[b * N + 1]);
    decode_out_release(&out);
}

/* Chi-square of 20,000 first tokens against the softmax, and the same after top-k and top-p. */
static void samples_follow_the_distribution(void **state)
{
    enum { N = 20000 };
    const float logits[4] = {0, 0.7f, -1, 1.3f};
    const struct decode_stepper s = {(void *)logits, 4, fixed, NULL};
    static const struct {
        double temperature, top_p;
        int64_t top_k;
        int kept;
    } cases[] = {{1, 1, 0, 4}, {0.5, 1, 0, 4}, {2, 1, 3, 3}, {1, 0.8, 0, 2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct decode_opts o = decode_opts_default(DECODE_SAMPLE);
        struct decode_out out = {0};
        double count[4] = {0}, p[4], sum = 0, chi = 0;
        static const int order[4] = {3, 1, 0, 2};
        spt_err err;
        o.n = N;
        o.max_len = 1;
        o.temperature = cases[c].temperature;
        o.top_p = cases[c].top_p;
        o.top_k = cases[c].top_k;
        o.key = rng_key_of((int64_t)c);
        EXPECT_OK(decode_run(&s, &(struct decode_batch){.B = 1}, &o, &out, &err), &err);
        for (int i = 0; i < N; i++)
            count[out.tokens[i]]++;
        for (int i = 0; i < cases[c].kept; i++)
            sum += p[i] = exp((double)logits[order[i]] / cases[c].temperature);
        for (int i = 0; i < 4; i++) {
            if (i >= cases[c].kept) {
                EXPECT_EQ_I64(count[order[i]], 0);
                continue;
            }
            const double want = N * p[i] / sum;
            chi += (count[order[i]] - want) * (count[order[i]] - want) / want;
        }
        if (!(chi < 20)) /* 3 degrees of freedom: 1.7e-4 */
            fail_msg("case %zu: chi-square %g", c, chi);
        decode_out_release(&out);
    }
}

static void batch_mates_do_not_matter(void **state)
{
    enum { B = 7, N = 2, LEN = 10 };
    for (uint32_t seed = 0; seed < 200; seed++) {
        struct toy t = {.V = 30, .seed = seed, .eos_bonus = 2};
        struct decode_opts o = decode_opts_default(seed % 2 ? DECODE_SAMPLE : DECODE_GREEDY);
        int64_t number[B];
        o.n = seed % 2 ? N : 1;
        o.max_len = LEN;
        o.temperature = 0.9;
        o.top_p = 0.95;
        o.key = rng_key_of(4);
        for (int b = 0; b < B; b++)
            number[b] = ((int64_t)(b + 1) << 31) + b;
        t.number = number;
        struct decode_out all = run(&t, &(struct decode_batch){.B = B, .number = number}, &o);
        /* the same examples in two batches cut at a random place */
        const int64_t cut = 1 + seed % (B - 1);
        for (int part = 0; part < 2; part++) {
            const int64_t first = part ? cut : 0, n = part ? B - cut : cut;
            t.number = number + first;
            struct decode_out some =
                run(&t, &(struct decode_batch){.B = n, .number = number + first}, &o);
            assert_memory_equal(some.tokens, all.tokens + first * o.n * LEN,
                                (size_t)(n * o.n * LEN) * sizeof(int32_t));
            assert_memory_equal(some.score, all.score + first * o.n,
                                (size_t)(n * o.n) * sizeof(float));
            decode_out_release(&some);
        }
        decode_out_release(&all);
    }
}

static void samples_differ(void **state)
{
    struct toy t = {.V = 30, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE);
    o.n = 2;
    o.max_len = 10;
    t.number = (int64_t[]){0, 0};
    struct decode_out out = run(&t, &(struct decode_batch){.B = 2}, &o);
    for (int i = 1; i < 4; i++)
        EXPECT_TRUE(memcmp(out.tokens, out.tokens + 10 * i, 10 * sizeof(int32_t)) != 0);
    decode_out_release(&out);
}

/* Each rule against its definition, on the sequence that came out. */
static void processors_hold(void **state)
{
    static const int64_t off[3] = {0, 1, 3};
    for (uint32_t seed = 0; seed < 100; seed++) {
        struct toy t = {.V = 12, .seed = seed, .eos_bonus = 3};
        struct decode_opts o = decode_opts_default(DECODE_GREEDY);
        const int32_t bad[3] = {(int32_t)(2 + seed % 10), 3, 4};
        o.max_len = 16;
        o.min_len = 9;
        o.no_repeat_ngram = 2;
        o.forced_eos = true;
        o.bad_words = (struct decode_ids){2, off, bad};
        struct decode_out out = run(&t, &(struct decode_batch){.B = 1}, &o);
        const int64_t n = out.length[0];
        EXPECT_TRUE(n > 9 && out.tokens[n - 1] == 1);
        for (int64_t i = 0; i < n; i++) {
            EXPECT_TRUE(out.tokens[i] != bad[0]);
            EXPECT_TRUE(i == 0 || out.tokens[i - 1] != 3 || out.tokens[i] != 4);
            for (int64_t j = -1; j + 1 < i; j++) {
                const int32_t a = j < 0 ? 0 : out.tokens[j];
                EXPECT_TRUE(i == 0 || a != out.tokens[i - 1] ||
                            out.tokens[j + 1] != out.tokens[i] || (i == n - 1 && n == 16));
            }
        }
        decode_out_release(&out);
    }
}

static bool after_three(void *ctx, int64_t example, const int32_t *tokens, int64_t n)
{
    return n == 3 && example == 1;
}

static void stops(void **state)
{
    struct toy t = {.V = 12, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_GREEDY);
    o.max_len = 8;
    o.stop_fn = after_three;
    struct decode_out out = run(&t, &(struct decode_batch){.B = 2}, &o);
    EXPECT_EQ_I64(out.length[0], 8);
    EXPECT_EQ_I64(out.length[1], 3);
    EXPECT_EQ_I64(out.tokens[8 + 3], 0);
    decode_out_release(&out);
}

static spt_status sample_once(void *ctx, spt_err *err)
{
    struct toy t = {.V = 8, .seed = 5};
    const struct decode_stepper s = toy_stepper(&t);
    struct decode_opts o = decode_opts_default(DECODE_SAMPLE);
    struct decode_out out = {0};
    o.n = 2;
    o.top_k = 4;
    o.top_p = 0.9;
    o.max_len = 5;
    TRY(decode_run(&s, &(struct decode_batch){.B = 2}, &o, &out, err));
    decode_out_release(&out);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_TRUE(fault_every_alloc(sample_once, NULL) > 10);
}

static void failures_are_passed_on(void **state)
{
    struct toy t = {.V = 8, .nan_at = 2, .eos_bonus = -50};
    struct decode_opts o = decode_opts_default(DECODE_GREEDY);
    const struct decode_stepper s = toy_stepper(&t);
    struct decode_out out = {0};
    spt_err err;
    o.max_len = 5;
    EXPECT_STATUS(decode_run(&s, &(struct decode_batch){.B = 1}, &o, &out, &err), SPT_E_NONFINITE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prefixes_of_the_reference),
        cmocka_unit_test(cold_is_greedy),
        cmocka_unit_test(scores_of_greedy),
        cmocka_unit_test(narrow_nuclei_are_greedy),
        cmocka_unit_test(step_limits_of_rows),
        cmocka_unit_test(draws_of_jax),
        cmocka_unit_test(samples_follow_the_distribution),
        cmocka_unit_test(batch_mates_do_not_matter),
        cmocka_unit_test(samples_differ),
        cmocka_unit_test(processors_hold),
        cmocka_unit_test(stops),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(failures_are_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
