/* decode/decode_model: decoding with a model. 200 random groupings of examples, mixed prompts, and
 * every backend give each example the same bits; steps against teacher-forced scores; faults. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "decode/decode_model.h"
#include "support/params.h"

enum { B = 12, P = 3, LEN = 8, BEAMS = 3, PROMPTS = 2 };

struct fixture {
    ops *o;
    struct test_params params;
    t5_model *m;
    struct test_batch batch;
    float prompt[PROMPTS * P * 64];
    struct t5_prompts prompts;
    decode_model *d;
};

static struct decode_model_plan plan_of(const struct test_batch *t)
{
    return (struct decode_model_plan){
        .examples = B, .enc_rows = batch_plan(&t->b, P, 0).rows, .rows = B * BEAMS, .max_len = LEN};
}

static void fixture_open(struct fixture *f, const char *isa)
{
    const struct t5_config c = params_small_config();
    const struct ops_config oc = {.isa = isa, .threads = 3};
    uint64_t seed = 5;
    spt_err err;
    memset(f, 0, sizeof *f);
    EXPECT_OK(ops_open(&oc, &f->o, &err), &err);
    params_random(&f->params, &c, 77);
    const struct t5_getter get = params_getter(&f->params);
    EXPECT_OK(t5_model_new_from(f->o, &get, false, &f->m, &err), &err);
    batch_random(&f->batch, B, 9, 4, c.vocab, 3);
    for (int b = 0; b < B; b++)
        f->batch.prompt_of[b] = b % PROMPTS;
    f->batch.b.prompt_of = f->batch.prompt_of;
    for (size_t i = 0; i < sizeof f->prompt / sizeof *f->prompt; i++)
        f->prompt[i] = (float)test_uniform(&seed);
    f->prompts = (struct t5_prompts){.enc = f->prompt, .count = PROMPTS, .P = P};
    const struct decode_model_plan plan = plan_of(&f->batch);
    EXPECT_OK(decode_model_new(f->m, &plan, &f->d, &err), &err);
}

static void fixture_close(struct fixture *f)
{
    decode_model_free(f->d);
    t5_model_free(f->m);
    params_free(&f->params);
    batch_free(&f->batch);
    ops_close(f->o);
}

static struct decode_opts opts_of(enum decode_method method)
{
    struct decode_opts o = decode_opts_default(method);
    o.max_len = LEN;
    o.key = rng_key_of(31);
    o.temperature = 0.8;
    if (method == DECODE_BEAM_T5X || method == DECODE_BEAM_HF)
        o.beams = o.n = BEAMS;
    if (method == DECODE_SAMPLE)
        o.n = 2;
    return o;
}

static struct decode_out run(struct fixture *f, const struct packed_batch *b, int64_t first,
                             int64_t count, const struct decode_opts *o)
{
    struct decode_out out = {0};
    spt_err err;
    EXPECT_OK(decode_model_run(f->d, &f->prompts, b, first, count, o, NULL, 0, &out, &err), &err);
    return out;
}

static void expect_same(const struct decode_out *got, int64_t g, const struct decode_out *want,
                        int64_t w)
{
    const int64_t n = want->n, len = want->len;
    assert_memory_equal(got->tokens + g * n * len, want->tokens + w * n * len,
                        (size_t)(n * len) * sizeof(int32_t));
    assert_memory_equal(got->score + g * n, want->score + w * n, (size_t)n * sizeof(float));
}

static void groupings_on(const char *isa, int groupings)
{
    static const enum decode_method methods[] = {DECODE_GREEDY, DECODE_SAMPLE, DECODE_BEAM_T5X,
                                                 DECODE_BEAM_HF};
    struct fixture f;
    uint64_t seed = 9;
    fixture_open(&f, isa);
    for (size_t m = 0; m < 4; m++) {
        const struct decode_opts o = opts_of(methods[m]);
        struct decode_out all = run(&f, &f.batch.b, 0, B, &o);
        for (int g = 0; g < groupings; g++) {
            int which[B];
            const int n = 1 + (int)((test_uniform(&seed) + 1) / 2 * (B - 1e-9));
            struct test_batch some;
            for (int i = 0; i < n; i++)
                which[i] = (int)((test_uniform(&seed) + 1) / 2 * (B - 1e-9));
            batch_select(&some, &f.batch, which, n);
            for (int i = 0; i < n; i++) {
                some.index[i] = f.batch.b.index ? f.batch.b.index[which[i]] : which[i];
                some.prompt_of[i] = f.batch.prompt_of[which[i]];
            }
            some.b.index = some.index;
            some.b.prompt_of = some.prompt_of;
            /* room for n times the longest example */
            if (batch_plan(&some.b, P, 0).rows <= plan_of(&f.batch).enc_rows) {
                struct decode_out out = run(&f, &some.b, 0, n, &o);
                for (int i = 0; i < n; i++)
                    expect_same(&out, i, &all, which[i]);
                decode_out_release(&out);
            }
            batch_free(&some);
        }
        decode_out_release(&all);
    }
    fixture_close(&f);
}

static void random_groupings(void **state)
{
    static const char *const isas[] = {"avx2", "avx512"};
    spt_err err;
    groupings_on("ref", 200);
    for (int i = 0; i < 2; i++) {
        ops *o = NULL;
        if (ops_open(&(struct ops_config){.isa = isas[i], .threads = 1}, &o, &err) != SPT_OK)
            continue;
        ops_close(o);
        groupings_on(isas[i], 200);
    }
}

/* Ranges of a batch are decoded as the whole is. */
static void ranges(void **state)
{
    struct fixture f;
    fixture_open(&f, "ref");
    const struct decode_opts o = opts_of(DECODE_SAMPLE);
    struct decode_out all = run(&f, &f.batch.b, 0, B, &o);
    for (int64_t first = 0; first < B; first += 5) {
        const int64_t n = first + 5 < B ? 5 : B - first;
        struct decode_out part = run(&f, &f.batch.b, first, n, &o);
        for (int64_t i = 0; i < n; i++)
            expect_same(&part, i, &all, first + i);
        decode_out_release(&part);
    }
    decode_out_release(&all);
    fixture_close(&f);
}

/* The score of a greedy sequence is what t5_score says of it as a target. */
static void scores_agree_with_teacher_forcing(void **state)
{
    struct fixture f;
    spt_err err;
    fixture_open(&f, "ref");
    const struct decode_opts o = opts_of(DECODE_GREEDY);
    struct decode_out out = run(&f, &f.batch.b, 0, B, &o);
    struct t5_acts_plan plan = batch_plan(&f.batch.b, P, 0);
    t5_acts *acts = NULL;
    int32_t example[B], in[B * LEN], target[B * LEN];
    int64_t off[B + 1] = {0};
    float score[B];
    for (int b = 0; b < B; b++) {
        example[b] = b;
        off[b + 1] = off[b] + out.length[b];
        for (int64_t i = 0; i < out.length[b]; i++) {
            target[off[b] + i] = out.tokens[b * LEN + i];
            in[off[b] + i] = i ? out.tokens[b * LEN + i - 1] : 0;
        }
    }
    plan.dec_rows = B * LEN;
    EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
    EXPECT_OK(t5_encode(f.m, &f.prompts, &f.batch.b, 0, B, acts, &err), &err);
    const struct t5_targets targets = {B, example, off, in, target, NULL};
    EXPECT_OK(t5_score(f.m, &f.prompts, &targets, acts, score, NULL, NULL, &err), &err);
    for (int b = 0; b < B; b++)
        EXPECT_NEAR(out.score[b], score[b], 2e-6);
    t5_acts_free(acts);
    decode_out_release(&out);
    fixture_close(&f);
}

static void forced_eos_counts_as_free(void **state)
{
    int32_t forced[B * LEN] = {0};
    struct fixture f;
    spt_err err;
    fixture_open(&f, "ref");
    const struct decode_opts o = opts_of(DECODE_BEAM_T5X);
    struct decode_out plain = run(&f, &f.batch.b, 0, B, &o), out = {0};
    for (int b = 0; b < B; b++)
        forced[b * LEN + 1] = 1;
    EXPECT_OK(decode_model_run(f.d, &f.prompts, &f.batch.b, 0, B, &o, forced, LEN, &out, &err),
              &err);
    for (int b = 0; b < B; b++)
        expect_same(&out, b, &plain, b);
    decode_out_release(&plain);
    decode_out_release(&out);
    fixture_close(&f);
}

static void more_than_planned_is_refused(void **state)
{
    struct fixture f;
    struct decode_out out = {0};
    spt_err err;
    fixture_open(&f, "ref");
    struct decode_opts o = opts_of(DECODE_BEAM_T5X);
    o.beams = BEAMS + 1;
    EXPECT_STATUS(decode_model_run(f.d, &f.prompts, &f.batch.b, 0, B, &o, NULL, 0, &out, &err),
                  SPT_E_INTERNAL);
    o = opts_of(DECODE_GREEDY);
    o.max_len = LEN + 1;
    EXPECT_STATUS(decode_model_run(f.d, &f.prompts, &f.batch.b, 0, B, &o, NULL, 0, &out, &err),
                  SPT_E_INTERNAL);
    o.max_len = 0;
    EXPECT_STATUS(decode_model_run(f.d, &f.prompts, &f.batch.b, 0, B, &o, NULL, 0, &out, &err),
                  SPT_E_CONFIG);
    fixture_close(&f);
}

/* Everything but the model itself, whose tests are elsewhere. */
static spt_status decode_once(void *ctx, spt_err *err)
{
    struct fixture *f = ctx;
    const struct decode_model_plan plan = plan_of(&f->batch);
    const struct decode_opts o = opts_of(DECODE_BEAM_HF);
    decode_model *d = NULL;
    struct decode_out out = {0};
    TRY(decode_model_new(f->m, &plan, &d, err));
    const spt_status st =
        decode_model_run(d, &f->prompts, &f->batch.b, 0, B, &o, NULL, 0, &out, err);
    decode_out_release(&out);
    decode_model_free(d);
    return st;
}

static void every_allocation_may_fail(void **state)
{
    struct fixture f;
    fixture_open(&f, "ref");
    EXPECT_TRUE(fault_every_alloc(decode_once, &f) > 20);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(random_groupings),
        cmocka_unit_test(ranges),
        cmocka_unit_test(scores_agree_with_teacher_forcing),
        cmocka_unit_test(forced_eos_counts_as_free),
        cmocka_unit_test(more_than_planned_is_refused),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
