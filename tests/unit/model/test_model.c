/* Opening models and passes: refusals with their messages, memory running out at every place, the
 * name of the first non-finite tensor. */
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/model_internal.h"
#include "support/params.h"

static void thresholds_of_buckets(void **state)
{
    /* spec/t5x.md section 1.12: first distance of each bucket */
    static const int two_way[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91};
    static const int causal[32] = {0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15,
                                   16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113};
    for (int b = 0; b < 16; b++) {
        EXPECT_EQ_I64(relpos_bucket(-two_way[b], 32, 128, true), b);
        if (two_way[b])
            EXPECT_EQ_I64(relpos_bucket(two_way[b], 32, 128, true), b + 16);
        if (b)
            EXPECT_EQ_I64(relpos_bucket(-two_way[b] + 1, 32, 128, true), b - 1);
    }
    for (int b = 0; b < 32; b++) {
        EXPECT_EQ_I64(relpos_bucket(-causal[b], 32, 128, false), b);
        if (b)
            EXPECT_EQ_I64(relpos_bucket(-causal[b] + 1, 32, 128, false), b - 1);
    }
    EXPECT_EQ_I64(relpos_bucket(5, 32, 128, false), 0); /* behind: masked anyway */
    EXPECT_EQ_I64(relpos_bucket(-100000, 32, 128, true), 15);
    EXPECT_EQ_I64(relpos_bucket(100000, 32, 128, true), 31);
    static const int tiny[4] = {0, 1, 2, 4}; /* R=4, M=8 */
    for (int b = 0; b < 4; b++)
        EXPECT_EQ_I64(relpos_bucket(-tiny[b], 4, 8, false), b);
    EXPECT_EQ_I64(relpos_bucket(-7, 4, 8, true), 1);
    EXPECT_EQ_I64(relpos_bucket(1, 4, 8, true), 3);
}

static void table_by_distance(void **state)
{
    enum { R = 8, M = 12, H = 2 };
    float table[H * R], out[H * (2 * M + 1)];
    for (int i = 0; i < H * R; i++)
        table[i] = (float)i;
    relpos_by_distance(table, H, R, M, true, M, out);
    for (int h = 0; h < H; h++)
        for (int d = -M; d <= M; d++)
            EXPECT_EQ_F64(out[h * (2 * M + 1) + d + M],
                          table[h * R + relpos_bucket(d, R, M, true)]);
}

struct fixture {
    struct test_params params;
    struct test_batch batch;
    ops *o;
    t5_model *m;
    float prompt[3 * 16];
};

static void setup(struct fixture *f)
{
    spt_err err;
    uint64_t seed = 1;
    const struct t5_config c = params_small_config();
    *f = (struct fixture){0};
    params_random(&f->params, &c, 4);
    EXPECT_OK(ops_ref_open_f32(&f->o, &err), &err);
    const struct t5_getter get = params_getter(&f->params);
    EXPECT_OK(t5_model_new_from(f->o, &get, T5_BACKWARD | T5_ABSORB, &f->m, &err), &err);
    batch_random(&f->batch, 3, 9, 6, c.vocab, 2);
    for (int i = 0; i < 48; i++)
        f->prompt[i] = (float)test_uniform(&seed);
}

static void teardown(struct fixture *f)
{
    t5_model_free(f->m);
    ops_close(f->o);
    batch_free(&f->batch);
    params_free(&f->params);
}

static void wrong_parameters_are_named(void **state)
{
    struct fixture f;
    spt_err err;
    t5_model *m = NULL;
    setup(&f);
    const struct t5_getter get = params_getter(&f.params);
    for (size_t i = 0; i < f.params.n; i++) {
        struct test_param *p = &f.params.p[i];
        const struct test_param keep = *p;
        p->name[0] = '?';
        EXPECT_STATUS(t5_model_new_from(f.o, &get, true, &m, &err), SPT_E_NOTFOUND);
        EXPECT_MSG(&err, keep.name);
        *p = keep;
        p->shape.dim[0]++;
        EXPECT_STATUS(t5_model_new_from(f.o, &get, true, &m, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, keep.name);
        *p = keep;
        p->shape.rank = 3;
        EXPECT_STATUS(t5_model_new_from(f.o, &get, true, &m, &err), SPT_E_FORMAT);
        *p = keep;
    }
    EXPECT_TRUE(!m);
    teardown(&f);
}

static void wrong_configurations_are_refused(void **state)
{
    struct fixture f;
    spt_err err;
    t5_model *m = NULL;
    setup(&f);
    const struct t5_getter get = params_getter(&f.params);
    struct t5_config *c = &f.params.config;
    int64_t *const fields[] = {&c->vocab, &c->width,   &c->heads,       &c->head_dim,
                               &c->ff,    &c->buckets, &c->max_distance};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        for (int k = 0; k < 3; k++) {
            const int64_t keep = *fields[i];
            *fields[i] = k == 0 ? 0 : k == 1 ? -1 : INT64_MAX / 2;
            EXPECT_STATUS(t5_model_new_from(f.o, &get, true, &m, &err), SPT_E_CONFIG);
            *fields[i] = keep;
        }
    teardown(&f);
}

static spt_status forward(struct fixture *f, t5_acts *acts, spt_err *err)
{
    const struct t5_prompts p = {.enc = f->prompt, .count = 1, .P = 3};
    const struct t5_loss_opts opts = {0};
    struct t5_loss loss = {0};
    return t5_forward(f->m, &p, &f->batch.b, 0, 3, &opts, NULL, acts, &loss, err);
}

static void passes_that_do_not_fit_are_refused(void **state)
{
    struct fixture f;
    spt_err err;
    setup(&f);
    const struct t5_acts_plan plan = batch_plan(&f.batch.b, 3, 0);
    struct t5_acts_plan less[3] = {plan, plan, plan};
    less[0].rows--;
    less[1].dec_rows--;
    less[2].examples--;
    t5_acts *acts;
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(t5_acts_new(f.m, &less[i], &acts, &err), &err);
        EXPECT_STATUS(forward(&f, acts, &err), SPT_E_CONFIG);
        EXPECT_MSG(&err, "planned");
        t5_acts_free(acts);
    }
    EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
    EXPECT_STATUS(t5_backward(f.m, &f.batch.b, acts, NULL, f.prompt, NULL, &err), SPT_E_INTERNAL);
    int32_t *const ids[] = {f.batch.enc_ids, f.batch.dec_in, f.batch.dec_target};
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 2; k++) {
            const int32_t keep = ids[i][1];
            ids[i][1] = k ? 23 : -1;
            EXPECT_STATUS(forward(&f, acts, &err), SPT_E_FORMAT);
            EXPECT_MSG(&err, k ? "23" : "-1");
            ids[i][1] = keep;
        }
    f.batch.prompt_of[1] = 1;
    EXPECT_STATUS(forward(&f, acts, &err), SPT_E_FORMAT);
    f.batch.prompt_of[1] = 0;
    EXPECT_OK(forward(&f, acts, &err), &err);
    t5_acts_free(acts);
    float row[16];
    const int32_t bad = 23;
    EXPECT_STATUS(t5_model_embed(f.m, &bad, 1, row, &err), SPT_E_FORMAT);
    struct t5_acts_plan huge = plan;
    huge.rows = INT64_MAX / 8;
    EXPECT_STATUS(t5_acts_new(f.m, &huge, &acts, &err), SPT_E_NOMEM);
    EXPECT_TRUE(t5_acts_bytes(&f.params.config, 4, 4, &huge) == SIZE_MAX);
    teardown(&f);
}

static void embeddings_are_rows_of_the_table(void **state)
{
    struct fixture f;
    spt_err err;
    setup(&f);
    const int32_t ids[2] = {22, 0};
    float got[32];
    EXPECT_OK(t5_model_embed(f.m, ids, 2, got, &err), &err);
    const float *table = params_find(&f.params, "token_embedder/embedding");
    EXPECT_TRUE(!memcmp(got, table + 22 * 16, 16 * sizeof *got));
    EXPECT_TRUE(!memcmp(got + 16, table, 16 * sizeof *got));
    teardown(&f);
}

/* Empty inputs, with and without a prompt, and empty targets are no reason to fail. */
static void empty_examples(void **state)
{
    struct fixture f;
    spt_err err;
    setup(&f);
    const int64_t enc_off[] = {0, 0, 2}, dec_off[] = {0, 1, 1};
    const struct packed_batch b = {.B = 2,
                                   .enc_off = enc_off,
                                   .enc_ids = f.batch.enc_ids,
                                   .dec_off = dec_off,
                                   .dec_in = f.batch.dec_in,
                                   .dec_target = f.batch.dec_target,
                                   .Le = 4,
                                   .Ld = 4};
    const struct t5_loss_opts opts = {0};
    const struct t5_acts_plan plan = {.rows = 8, .dec_rows = 4, .examples = 2, .backward = true};
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
    const enum t5_combine all[] = {T5_PREFIX, T5_PREFIX_AFTER_BOS, T5_SUFFIX, T5_SUFFIX_END};
    for (int i = 0; i < 8; i++) {
        const struct t5_prompts p = {
            .enc = f.prompt, .count = 1, .P = i < 4 ? 3 : 0, .combine = all[i % 4]};
        struct t5_loss loss = {0};
        float grad[48] = {0};
        EXPECT_OK(t5_forward(f.m, &p, &b, 0, 2, &opts, NULL, acts, &loss, &err), &err);
        EXPECT_TRUE(isfinite(loss.loss) && loss.loss > 0);
        EXPECT_EQ_I64(loss.counted, 1);
        EXPECT_OK(t5_backward(f.m, &b, acts, NULL, grad, NULL, &err), &err);
        for (int k = 0; k < 48; k++)
            EXPECT_TRUE(isfinite(grad[k]));
    }
    t5_acts_free(acts);
    teardown(&f);
}

static void bad_names(void **state)
{
    static const struct {
        const char *param;
        float value;
        const char *name;
    } cases[] = {
        {"token_embedder/embedding", NAN, "encoder/embedded input and prompt"},
        {"encoder/layers_0/attention/key/kernel", INFINITY,
         "encoder/layers_0/self-attention query, key, value"},
        {"encoder/layers_1/mlp/wi_1/kernel", NAN, "encoder/layers_1/mlp hidden"},
        {"encoder/layers_1/mlp/wo/kernel", 3e38f, "encoder/layers_1/mlp output"},
        {"encoder/encoder_norm/scale", NAN, "encoder/output"},
        {"decoder/layers_0/encoder_decoder_attention/value/kernel", NAN,
         "decoder/layers_0/cross-attention key, value"},
        {"decoder/layers_1/self_attention/out/kernel", NAN,
         "decoder/layers_1/self-attention output"},
        {"decoder/decoder_norm/scale", NAN, "decoder/output"},
        {"decoder/logits_dense/kernel", NAN, "decoder/logits (row 0)"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture f;
        spt_err err;
        char name[128];
        setup(&f);
        t5_model_free(f.m);
        float *v = params_find(&f.params, cases[i].param);
        for (int k = 0; k < 16; k++)
            v[k] = cases[i].value;
        if (!strcmp(cases[i].param, "token_embedder/embedding"))
            v[f.batch.enc_ids[0] * 16] = NAN;
        const struct t5_getter get = params_getter(&f.params);
        EXPECT_OK(t5_model_new_from(f.o, &get, true, &f.m, &err), &err);
        for (int mode = 0; mode < 2; mode++) {
            struct t5_acts_plan plan = batch_plan(&f.batch.b, 3, 0);
            plan.backward = true;
            plan.remat = mode;
            t5_acts *acts;
            EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
            EXPECT_OK(forward(&f, acts, &err), &err);
            EXPECT_TRUE(t5_nonfinite(f.m, &f.batch.b, acts, name, sizeof name));
            EXPECT_STR(name, cases[i].name);
            t5_acts_free(acts);
        }
        teardown(&f);
    }
}

/* A loss weight that overflows the gradient although the forward pass is finite. */
static void bad_gradient(void **state)
{
    struct fixture f;
    spt_err err;
    char name[128];
    setup(&f);
    struct t5_acts_plan plan = batch_plan(&f.batch.b, 3, 0);
    plan.backward = true;
    t5_acts *acts;
    EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
    EXPECT_OK(forward(&f, acts, &err), &err);
    EXPECT_TRUE(!t5_nonfinite(f.m, &f.batch.b, acts, name, sizeof name));
    EXPECT_STR(name, "");
    f.batch.weight[0] = 3e38f;
    f.batch.weight[1] = 3e38f;
    EXPECT_OK(forward(&f, acts, &err), &err);
    EXPECT_TRUE(t5_nonfinite(f.m, &f.batch.b, acts, name, sizeof name));
    EXPECT_TRUE(strstr(name, "gradient") != NULL);
    t5_acts_free(acts);
    teardown(&f);
}

static spt_status whole_life(void *ctx, spt_err *err)
{
    struct fixture *f = ctx;
    const struct t5_getter get = params_getter(&f->params);
    const struct t5_decoder_plan dp = {.examples = 3, .enc_rows = 64, .rows = 3, .max_len = 2};
    struct t5_acts_plan plan = batch_plan(&f->batch.b, 3, 0);
    plan.backward = plan.dropout = true;
    const struct t5_prompts p = {.enc = f->prompt, .count = 1, .P = 3};
    const struct t5_loss_opts opts = {0};
    const struct t5_dropout drop = {.rate = 0.1f};
    struct t5_loss loss = {0};
    float grad[48] = {0}, row[16];
    ops *o = NULL;
    t5_model *m = NULL;
    t5_acts *acts = NULL;
    t5_decoder *d = NULL;
    const int32_t id = 3;
    spt_status st = ops_ref_open_f32(&o, err);
    if (!st)
        st = t5_model_new_from(o, &get, T5_BACKWARD | T5_ABSORB, &m, err);
    if (!st)
        st = t5_model_embed(m, &id, 1, row, err);
    if (!st)
        st = t5_acts_new(m, &plan, &acts, err);
    if (!st)
        st = t5_forward(m, &p, &f->batch.b, 0, 3, &opts, &drop, acts, &loss, err);
    if (!st)
        st = t5_backward(m, &f->batch.b, acts, NULL, grad, NULL, err);
    if (!st)
        st = t5_decoder_new(m, &dp, &d, err);
    if (!st)
        st = t5_decoder_start(d, &p, acts, err);
    t5_decoder_free(d);
    t5_acts_free(acts);
    t5_model_free(m);
    ops_close(o);
    return st;
}

/* One of two ranks that hold a model together; the other one is only counted. */
static spt_status half_a_life(void *ctx, spt_err *err)
{
    struct fixture *f = ctx;
    const struct t5_getter get = params_getter(&f->params);
    struct t5_acts_plan plan = batch_plan(&f->batch.b, 3, 0);
    plan.backward = true;
    const struct t5_prompts p = {.enc = f->prompt, .count = 1, .P = 3};
    const struct t5_loss_opts opts = {0};
    struct t5_loss loss = {0};
    float grad[48] = {0};
    comm *ranks = NULL;
    ops *o = NULL;
    t5_model *m = NULL;
    t5_acts *acts = NULL;
    spt_status st = comm_count_open(1, 2, &ranks, err);
    if (!st)
        st = ops_ref_open_f32(&o, err);
    if (!st)
        st = t5_model_new_part_from(o, &get, T5_BACKWARD, ranks, &m, err);
    if (!st)
        st = t5_acts_new(m, &plan, &acts, err);
    if (!st)
        st = t5_forward(m, &p, &f->batch.b, 0, 3, &opts, NULL, acts, &loss, err);
    if (!st)
        st = t5_backward(m, &f->batch.b, acts, NULL, grad, NULL, err);
    t5_acts_free(acts);
    t5_model_free(m);
    ops_close(o);
    comm_leave(ranks);
    /* without the other half the numbers mean nothing */
    return st == SPT_E_NONFINITE ? SPT_OK : st;
}

static void memory_runs_out_everywhere(void **state)
{
    struct fixture f;
    setup(&f);
    EXPECT_TRUE(fault_every_alloc(whole_life, &f) > 50);
    EXPECT_TRUE(fault_every_alloc(half_a_life, &f) > 50);
    teardown(&f);
}

static void storage_is_what_was_announced(void **state)
{
    struct fixture f;
    spt_err err;
    setup(&f);
    for (int i = 0; i < 12; i++) {
        struct t5_acts_plan plan = batch_plan(&f.batch.b, 3, 0);
        plan.backward = i & 1;
        plan.remat = i & 2;
        plan.dropout = i & 4;
        plan.absorb = i & 8;
        t5_acts *acts;
        fault_install();
        EXPECT_OK(t5_acts_new(f.m, &plan, &acts, &err), &err);
        const size_t announced = t5_acts_bytes(&f.params.config, 4, 4, &plan);
        EXPECT_TRUE(fault_peak_bytes() >= announced);
        EXPECT_TRUE(fault_peak_bytes() <= announced + 8192);
        t5_acts_free(acts);
        fault_remove();
    }
    teardown(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(thresholds_of_buckets),
        cmocka_unit_test(table_by_distance),
        cmocka_unit_test(wrong_parameters_are_named),
        cmocka_unit_test(wrong_configurations_are_refused),
        cmocka_unit_test(passes_that_do_not_fit_are_refused),
        cmocka_unit_test(embeddings_are_rows_of_the_table),
        cmocka_unit_test(empty_examples),
        cmocka_unit_test(bad_names),
        cmocka_unit_test(bad_gradient),
        cmocka_unit_test(memory_runs_out_everywhere),
        cmocka_unit_test(storage_is_what_was_announced),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
