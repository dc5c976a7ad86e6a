/* An example's numbers do not depend on its batch mates, on how the batch is cut, or on recomputing
 * layers: equal bits, on every backend. And steps allocate nothing. */
#include "support/test.h"

#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

enum { B = 7, P = 3, E = 16, GROUPINGS = 200 };

struct setup {
    struct test_params params;
    t5_model *m;
    struct test_batch batch;
    struct t5_prompts prompts;
    float enc[2 * P * E];
    struct t5_acts_plan plan;
    t5_acts *acts;
};

static void open_setup(struct setup *s, ops *o, bool remat, bool absorb)
{
    spt_err err;
    uint64_t seed = 77;
    const struct t5_config c = params_small_config();
    params_random(&s->params, &c, 4);
    const struct t5_getter get = params_getter(&s->params);
    EXPECT_OK(t5_model_new_from(o, &get, T5_BACKWARD | T5_ABSORB, &s->m, &err), &err);
    batch_random(&s->batch, B, 30, 9, c.vocab, 99);
    for (int b = 0; b < B; b++)
        s->batch.prompt_of[b] = b % 2;
    for (size_t i = 0; i < sizeof s->enc / sizeof *s->enc; i++)
        s->enc[i] = (float)test_uniform(&seed);
    s->prompts = (struct t5_prompts){.enc = s->enc, .count = 2, .P = P};
    s->plan = batch_plan(&s->batch.b, P, 0);
    s->plan.backward = true;
    s->plan.dropout = !absorb;
    s->plan.absorb = absorb;
    s->plan.remat = remat;
    EXPECT_OK(t5_acts_new(s->m, &s->plan, &s->acts, &err), &err);
}

static void close_setup(struct setup *s)
{
    t5_acts_free(s->acts);
    t5_model_free(s->m);
    batch_free(&s->batch);
    params_free(&s->params);
}

struct result {
    struct t5_loss loss;
    float example_loss[B];
    float grad[B * 2 * P * E]; /* a shard per example */
};

/* Runs the ranges cut[0]..cut[1], cut[1]..cut[2], ... of the batch. */
static void run(struct setup *s, const struct packed_batch *batch, const int *cut, int ranges,
                float rate, const int32_t *shard_of, struct result *r)
{
    spt_err err;
    const struct t5_loss_opts opts = {.z_loss = 1e-3f};
    const struct t5_dropout drop = {.rate = rate, .key = {1, 2}};
    memset(r, 0, sizeof *r);
    for (int i = 0; i < ranges; i++) {
        r->loss.example_loss = r->example_loss + cut[i];
        EXPECT_OK(t5_forward(s->m, &s->prompts, batch, cut[i], cut[i + 1] - cut[i], &opts, &drop,
                             s->acts, &r->loss, &err),
                  &err);
        EXPECT_OK(t5_backward(s->m, batch, s->acts, shard_of, r->grad, NULL, &err), &err);
    }
    r->loss.example_loss = NULL;
}

static const int32_t own_shard[B] = {0, 1, 2, 3, 4, 5, 6};

static void groupings_on(ops *o, const char *isa, void *ctx)
{
    (void)isa;
    struct setup s;
    struct result all, part;
    uint64_t seed = 3;
    open_setup(&s, o, false, *(const bool *)ctx);
    run(&s, &s.batch.b, (int[]){0, B}, 1, 0, own_shard, &all);
    for (int g = 0; g < GROUPINGS; g++) {
        int which[B], n = 1 + (int)((test_uniform(&seed) + 1) / 2 * (B - 1));
        for (int i = 0; i < n; i++) /* any order, the same example may come twice */
            which[i] = (int)((test_uniform(&seed) + 1) / 2 * B);
        struct test_batch t;
        batch_select(&t, &s.batch, which, n);
        if (t.enc_off[n] + n * P <= s.plan.rows && t.dec_off[n] <= s.plan.dec_rows) {
            run(&s, &t.b, (int[]){0, n}, 1, 0, own_shard, &part);
            for (int i = 0; i < n; i++) {
                const size_t one = 2 * P * E;
                EXPECT_TRUE(part.example_loss[i] == all.example_loss[which[i]]);
                EXPECT_TRUE(!memcmp(part.grad + (size_t)i * one, all.grad + (size_t)which[i] * one,
                                    one * sizeof(float)));
            }
        }
        batch_free(&t);
    }
    close_setup(&s);
}

static void batch_mates_do_not_matter(void **state)
{
    bool absorb = false;
    golden_every_isa(groupings_on, &absorb);
    absorb = true;
    golden_every_isa(groupings_on, &absorb);
    static const char *const isas[] = {"avx2", "avx512"};
    for (int i = 0; i < 4; i++) {
        ops *o;
        spt_err err;
        const struct ops_config cfg = {.isa = isas[i & 1], .threads = 2, .compute = OPS_BFLOAT16};
        if (ops_open(&cfg, &o, &err))
            continue;
        absorb = i & 2;
        groupings_on(o, isas[i & 1], &absorb);
        ops_close(o);
    }
}

static void cuts_on(ops *o, const char *isa, void *ctx)
{
    (void)isa, (void)ctx;
    static const int32_t shards[B] = {0, 0, 0, 1, 1, 1, 2};
    static const int cuts[][B + 1] = {{0, 4, B}, {0, 1, 2, 3, 4, 5, 6, B}, {0, 0, 5, 6, B}};
    static const int ranges[] = {2, 7, 4};
    struct result whole, cut;
    for (int remat = 0; remat < 2; remat++)
        for (int dropout = -1; dropout < 2; dropout++) {
            struct setup s;
            const float rate = dropout > 0 ? 0.3f : 0;
            /* The reference point is the run without remat. */
            open_setup(&s, o, false, dropout < 0);
            run(&s, &s.batch.b, (int[]){0, B}, 1, rate, shards, &whole);
            close_setup(&s);
            open_setup(&s, o, remat, dropout < 0);
            for (int k = 0; k < 3; k++) {
                run(&s, &s.batch.b, cuts[k], ranges[k], rate, shards, &cut);
                EXPECT_TRUE(!memcmp(&cut, &whole, sizeof cut));
            }
            close_setup(&s);
        }
}

static void cutting_the_batch_does_not_matter(void **state)
{
    golden_every_isa(cuts_on, NULL);
}

/* Layer 0 computes the rows of a prompt once for all examples: a copy, not an approximation. */
static void shared_on(ops *o, const char *isa, void *ctx)
{
    (void)isa, (void)ctx;
    static const enum t5_combine places[] = {T5_PREFIX, T5_PREFIX_AFTER_BOS, T5_SUFFIX_END};
    struct result plain, shared;
    for (int i = 0; i < 6; i++) {
        spt_err err;
        struct setup s;
        open_setup(&s, o, i & 1, true);
        s.prompts.combine = places[i / 2];
        run(&s, &s.batch.b, (int[]){0, 3, B}, 2, 0, own_shard, &shared);
        t5_acts_free(s.acts);
        s.plan.plain_prompt = true;
        EXPECT_OK(t5_acts_new(s.m, &s.plan, &s.acts, &err), &err);
        run(&s, &s.batch.b, (int[]){0, 3, B}, 2, 0, own_shard, &plain);
        EXPECT_TRUE(!memcmp(&plain, &shared, sizeof plain));
        close_setup(&s);
    }
}

static void shared_prompt_rows_change_nothing(void **state)
{
    golden_every_isa(shared_on, NULL);
}

/* Prompts of different lengths in one pass, in every place: each example as if it came alone with
 * its own; and the losses of a batch that two were joined into are divided by their own factors. */
enum { LENGTHS = 3, LONGEST = 33 };

static void lengths_on(ops *o, const char *isa, void *ctx)
{
    (void)isa;
    static const int64_t length[LENGTHS] = {5, LONGEST, 1};
    static const int64_t first[LENGTHS + 1] = {0, 5, 5 + LONGEST, 6 + LONGEST};
    static float rows[(6 + LONGEST) * E], mixed[B][LONGEST * E], alone[LONGEST * E];
    struct setup s;
    spt_err err;
    uint64_t seed = 5;
    open_setup(&s, o, false, *(const bool *)ctx);
    t5_acts_free(s.acts);
    s.plan.rows += B * LONGEST;
    s.plan.dropout = false;
    EXPECT_OK(t5_acts_new(s.m, &s.plan, &s.acts, &err), &err);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        rows[i] = (float)test_uniform(&seed);
    double factor[B];
    float *to[B];
    for (int b = 0; b < B; b++) {
        s.batch.prompt_of[b] = b % LENGTHS;
        factor[b] = b < 3 ? 2 : 5;
        to[b] = mixed[b];
    }
    for (int combine = T5_PREFIX; combine <= T5_SUFFIX_END; combine++) {
        struct t5_example_loss each[B];
        struct t5_loss loss = {.each = each};
        const struct t5_prompts all = {.enc = rows, .count = LENGTHS, .P = LONGEST, .first = first,
                                       .combine = (enum t5_combine)combine};
        const struct t5_loss_opts opts = {.z_loss = 1e-3f, .factor_of = factor};
        memset(mixed, 0, sizeof mixed);
        EXPECT_OK(t5_forward(s.m, &all, &s.batch.b, 0, B, &opts, NULL, s.acts, &loss, &err), &err);
        EXPECT_OK(t5_backward_to(s.m, s.acts, to, NULL, &err), &err);
        for (int b = 0; b < B; b++) {
            struct test_batch t;
            batch_select(&t, &s.batch, (int[]){b}, 1);
            t.prompt_of[0] = 0;
            struct t5_example_loss one;
            struct t5_loss sum = {.each = &one};
            const int which = b % LENGTHS;
            const struct t5_prompts p = {.enc = rows + first[which] * E, .count = 1,
                                         .P = length[which], .combine = all.combine};
            const struct t5_loss_opts own = {.z_loss = 1e-3f, .normalize = T5_NORM_NUMBER,
                                             .factor = (float)factor[b]};
            const size_t n = (size_t)(length[which] * E);
            memset(alone, 0, sizeof alone);
            EXPECT_OK(t5_forward(s.m, &p, &t.b, 0, 1, &own, NULL, s.acts, &sum, &err), &err);
            EXPECT_OK(t5_backward(s.m, &t.b, s.acts, NULL, alone, NULL, &err), &err);
            EXPECT_TRUE(one.loss == each[b].loss && one.z_loss == each[b].z_loss);
            EXPECT_TRUE(one.loss != 0 && !memcmp(alone, mixed[b], n * sizeof *alone));
            batch_free(&t);
        }
    }
    close_setup(&s);
}

static void lengths_do_not_matter(void **state)
{
    bool absorb = false;
    golden_every_isa(lengths_on, &absorb);
    absorb = true;
    golden_every_isa(lengths_on, &absorb);
}

/* An encoder pass in parts has the bits of one pass, for whatever asks it next. */
static void parts_on(ops *o, const char *isa, void *ctx)
{
    (void)isa;
    spt_err err;
    struct setup s;
    open_setup(&s, o, false, *(const bool *)ctx);
    struct t5_acts_plan plan = {.rows = s.plan.rows, .dec_rows = s.plan.dec_rows,
                                .examples = s.plan.examples, .absorb = s.plan.absorb};
    int64_t longest = 0;
    int32_t example[B];
    for (int b = 0; b < B; b++) {
        const int64_t n = s.batch.b.enc_off[b + 1] - s.batch.b.enc_off[b] + P;
        longest = n > longest ? n : longest;
        example[b] = b;
    }
    const struct t5_targets targets = {.n = B, .example = example, .off = s.batch.b.dec_off,
                                       .dec_in = s.batch.b.dec_in,
                                       .dec_target = s.batch.b.dec_target};
    float want[B], got[B];
    for (int64_t step = 0; step < 5; step++) {
        t5_acts *a;
        const int64_t rows = s.plan.rows - step * (s.plan.rows - longest) / 4;
        plan.rows = rows;
        plan.enc_rows = s.plan.rows;
        EXPECT_OK(t5_acts_new(s.m, &plan, &a, &err), &err);
        EXPECT_OK(t5_encode(s.m, &s.prompts, &s.batch.b, 0, B, a, &err), &err);
        EXPECT_OK(t5_score(s.m, &s.prompts, &targets, a, got, NULL, NULL, &err), &err);
        if (rows == s.plan.rows)
            memcpy(want, got, sizeof want);
        EXPECT_TRUE(!memcmp(want, got, sizeof want));
        t5_acts_free(a);
    }
    t5_acts *a;
    plan.rows = longest - 1; /* the longest example fits no pass */
    EXPECT_OK(t5_acts_new(s.m, &plan, &a, &err), &err);
    EXPECT_STATUS(t5_encode(s.m, &s.prompts, &s.batch.b, 0, B, a, &err), SPT_E_CONFIG);
    t5_acts_free(a);
    close_setup(&s);
}

static void parts_do_not_matter(void **state)
{
    (void)state;
    bool absorb = false;
    golden_every_isa(parts_on, &absorb);
    absorb = true;
    golden_every_isa(parts_on, &absorb);
}

static void threads_do_not_matter(void **state)
{
    static const char *const isas[] = {"avx2", "avx512"};
    static const int threads[] = {1, 2, 3, 4, 8};
    static struct result first, other;
    for (int i = 0; i < 8; i++) /* isa, compute, absorbed */
        for (size_t k = 0; k < sizeof threads / sizeof *threads; k++) {
            ops *o;
            spt_err err;
            struct setup s;
            const struct ops_config cfg = {.isa = isas[i & 1],
                                           .threads = threads[k],
                                           .compute = i & 2 ? OPS_BFLOAT16 : OPS_FLOAT32};
            if (ops_open(&cfg, &o, &err))
                continue;
            open_setup(&s, o, false, i & 4);
            run(&s, &s.batch.b, (int[]){0, B}, 1, 0, own_shard, k ? &other : &first);
            if (k)
                EXPECT_TRUE(!memcmp(&first, &other, sizeof first));
            close_setup(&s);
            ops_close(o);
        }
}

static int64_t allocations;

static void *counting_realloc(void *ctx, void *p, size_t n)
{
    (void)ctx;
    allocations++;
    return realloc(p, n);
}

static void counting_free(void *ctx, void *p)
{
    (void)ctx;
    free(p);
}

static void steps_allocate_nothing(void **state)
{
    static const char *const isas[] = {"ref", "avx2", "avx512"};
    spt_set_alloc(&(spt_alloc){counting_realloc, counting_free, NULL});
    for (size_t i = 0; i < sizeof isas / sizeof *isas; i++) {
        ops *o;
        spt_err err;
        struct setup s;
        struct result r;
        if (ops_open(&(struct ops_config){.isa = isas[i], .threads = 2}, &o, &err))
            continue;
        open_setup(&s, o, false, false);
        run(&s, &s.batch.b, (int[]){0, B}, 1, 0.1f, own_shard, &r);
        const int64_t before = allocations;
        EXPECT_TRUE(before > 0);
        run(&s, &s.batch.b, (int[]){0, B}, 1, 0.1f, own_shard, &r);
        run(&s, &s.batch.b, (int[]){0, 3, B}, 2, 0, own_shard, &r);
        EXPECT_EQ_I64(allocations, before);
        close_setup(&s);
        ops_close(o);
    }
    spt_set_alloc(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(batch_mates_do_not_matter),
        cmocka_unit_test(cutting_the_batch_does_not_matter),
        cmocka_unit_test(shared_prompt_rows_change_nothing),
        cmocka_unit_test(lengths_do_not_matter),
        cmocka_unit_test(parts_do_not_matter),
        cmocka_unit_test(threads_do_not_matter),
        cmocka_unit_test(steps_allocate_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
