/* The public tiny checkpoint (a T5X directory) and the vectors of spec/t5x.md sections 1.15
 * and 3.6, which were computed in float64 and reproduced by the reference stack in float32. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/golden_model.h"

enum { P = 3, E = 4, V = 32128 };

#define TOL_F32 1e-5
#define TOL_GRAD 1e-4
#define TOL_F64 1e-8 /* the table has ten digits */

static const int32_t tokens[] = {10, 20, 30, 1, 0, 0, 5, 100, 1, 0, 0, 0};
static const int32_t targets[] = {7, 42, 1, 0, 9, 1, 0, 0};
static const int32_t inputs[] = {0, 7, 42, 1, 0, 9, 1, 0};

struct tiny {
    t5_source *src;
    t5_model *m;
    t5_acts *acts;
    struct test_batch batch;
    float prompt[P * E];
    struct t5_prompts prompts;
    double tol, tol_grad;
};

static void open_tiny(struct tiny *t, ops *o, const char *isa)
{
    spt_err err;
    const char *shared = test_shared_dir();
    char path[512];
    if (!shared)
        skip();
    snprintf(path, sizeof path, "%s/data/upstream/test_t5_1_1_tiny/checkpoint_3", shared);
    EXPECT_OK(t5_source_open(path, &(struct t5_source_opts){.max_distance = 8}, &t->src, &err),
              &err);
    EXPECT_OK(t5_model_new(o, t->src, true, &t->m, &err), &err);
    EXPECT_EQ_I64(t5_model_config(t->m)->buckets, 4);
    EXPECT_EQ_I64(t5_model_config(t->m)->vocab, V);
    batch_pack(&t->batch, 2, 6, tokens, 4, inputs, targets, NULL);
    for (int i = 0; i < P; i++)
        for (int j = 0; j < E; j++)
            t->prompt[i * E + j] = (float)(0.1 * (i + 1) - 0.05 * j);
    t->prompts = (struct t5_prompts){.enc = t->prompt, .count = 1, .P = P};
    struct t5_acts_plan plan = batch_plan(&t->batch.b, P, 0);
    plan.backward = true;
    EXPECT_OK(t5_acts_new(t->m, &plan, &t->acts, &err), &err);
    /* The prompt itself is float32 in every backend: 2e-8 on entries of 0.1. */
    t->tol = strcmp(isa, "ref64") ? TOL_F32 : 20 * TOL_F64;
    t->tol_grad = strcmp(isa, "ref64") ? TOL_GRAD : 1e-6;
}

static void close_tiny(struct tiny *t)
{
    t5_acts_free(t->acts);
    t5_model_free(t->m);
    t5_source_close(t->src);
    batch_free(&t->batch);
}

static void vectors_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    static const struct {
        int64_t row;
        double v[E];
    } hidden[] = {{0, {-1.197056837, 1.041732599, 0.908888431, -0.677792180}},
                  {3, {-0.861614808, -0.226422549, 1.718789528, -0.179395284}},
                  {7, {-1.532499817, 0.656492521, 0.292796246, -0.885449362}}};
    static const struct {
        int row, id;
        double v;
    } logits[] = {{0, 0, -1.105690738},     {0, 1, 0.324133066},   {0, 2, 0.339709217},
                  {0, 3, -0.410231743},     {0, 4, -0.706994532},  {0, 5, -0.821477967},
                  {0, 6, -0.787979103},     {0, 7, -1.276930456},  {1, 0, 0.427091991},
                  {1, 1, 0.060913101},      {1, 7, 1.576502297},   {1, 42, 0.493340496},
                  {1, 32127, -0.192489977}, {4, 0, -0.982846491},  {4, 1, 0.064101748},
                  {4, 9, -0.874783477},     {4, 100, -1.786402630}};
    static const double log_z[] = {10.751241376, 10.950933633, 10.907687444, 10.742249111,
                                   10.767392193};
    static const double ce[] = {12.028171832, 10.457593137, 11.045695362, 11.180180458,
                                10.703290445};
    static const int32_t best[] = {31899, 24029, 24029, 27216, 8128};
    struct tiny t;
    spt_err err;
    open_tiny(&t, o, isa);
    const struct t5_loss_opts plain = {0};
    struct t5_loss loss = {0};
    EXPECT_OK(t5_forward(t.m, &t.prompts, &t.batch.b, 0, 2, &plain, NULL, t.acts, &loss, &err),
              &err);
    EXPECT_NEAR(loss.loss, 55.414931235, t.tol);
    EXPECT_EQ_I64(loss.correct, 0);
    EXPECT_EQ_I64(loss.counted, 5);
    EXPECT_EQ_I64(t5_acts_row(t.acts, false, 1), 7);
    float *h = malloc(13 * E * sizeof *h), *l = malloc((size_t)5 * V * sizeof *l);
    EXPECT_OK(t5_acts_hidden(t.m, t.acts, false, 2, h, &err), &err);
    EXPECT_OK(t5_acts_logits(t.m, t.acts, l, &err), &err);
    for (size_t i = 0; i < sizeof hidden / sizeof *hidden; i++)
        for (int k = 0; k < E; k++)
            EXPECT_NEAR(h[hidden[i].row * E + k], hidden[i].v[k], TOL_F32);
    for (size_t i = 0; i < sizeof logits / sizeof *logits; i++) {
        /* example 1 has its second row at 4 */
        EXPECT_NEAR(l[(size_t)logits[i].row * V + (size_t)logits[i].id], logits[i].v, TOL_F32);
    }
    static const int32_t example[] = {0, 1};
    const struct t5_targets g = {2,   example, t.batch.dec_off, t.batch.dec_in, t.batch.dec_target,
                                 NULL};
    float score[2], token[5];
    int32_t argmax[5];
    EXPECT_OK(t5_score(t.m, &t.prompts, &g, t.acts, score, token, argmax, &err), &err);
    EXPECT_NEAR(score[0], -33.531460331, TOL_F32);
    EXPECT_NEAR(score[1], -21.883470904, TOL_F32);
    for (int i = 0; i < 5; i++) {
        double sum = 0;
        for (int v = 0; v < V; v++)
            sum += exp((double)l[(size_t)i * V + (size_t)v]);
        EXPECT_NEAR(log(sum), log_z[i], TOL_F32);
        EXPECT_NEAR(-token[i], ce[i], TOL_F32);
        EXPECT_EQ_I64(argmax[i], best[i]);
    }
    free(h);
    free(l);
    close_tiny(&t);
}

static void vectors(void **state)
{
    golden_every_isa(vectors_on, NULL);
}

static void losses_on(ops *o, const char *isa, void *ctx)
{
    (void)ctx;
    static const double want_grad[P * E] = {0.776369642, 0.809282632,  -0.347875854, 1.232546783,
                                            0.091864884, -0.665726816, -0.748706452, -0.383633697,
                                            0.395861917, -0.218760654, -0.322929239, -0.181209245};
    static const struct {
        struct t5_loss_opts opts;
        double loss, z;
        bool no_prompt;
    } cases[] = {
        {{.z_loss = 1e-4f}, 55.473513478, 0.058582243, false},
        {{.z_loss = 1e-4f, .label_smoothing = 0.1f}, 48.545788275, 0.058582243, false},
        {{.z_loss = 1e-4f, .normalize = T5_NORM_REAL_TOKENS}, 11.094702696, 0.011716449, false},
        {{.z_loss = 1e-4f, .normalize = T5_NORM_PER_SEQUENCE}, 11.071135927, 0.011691479, false},
        {{.z_loss = 1e-4f}, 55.505095267, NAN, true}};
    struct tiny t;
    spt_err err;
    open_tiny(&t, o, isa);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct t5_loss loss = {0};
        EXPECT_OK(t5_forward(t.m, cases[i].no_prompt ? NULL : &t.prompts, &t.batch.b, 0, 2,
                             &cases[i].opts, NULL, t.acts, &loss, &err),
                  &err);
        EXPECT_NEAR(loss.loss, cases[i].loss, t.tol);
        if (!isnan(cases[i].z))
            EXPECT_NEAR(loss.z_loss, cases[i].z, t.tol);
        if (i)
            continue;
        float grad[P * E] = {0};
        EXPECT_OK(t5_backward(t.m, &t.batch.b, t.acts, NULL, grad, NULL, &err), &err);
        for (int k = 0; k < P * E; k++)
            EXPECT_NEAR(grad[k], want_grad[k], t.tol_grad);
    }
    close_tiny(&t);
}

static void losses_and_gradient(void **state)
{
    golden_every_isa(losses_on, NULL);
}

/* The same numbers whatever container a model came from. */
static void containers(void **state)
{
    static const struct {
        const char *dir;
        bool v1_0;
    } dirs[] = {{"mini_model", false},     {"mini_model_sharded", false},
                {"mini_model_bin", false}, {"mini_model_bin_sharded", false},
                {"mini_model_v1_0", true}, {"mini_model_v1_0_bin", true}};
    if (!test_golden_dir())
        skip();
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
        ops *o;
        spt_err err;
        char path[512];
        float score[2][2];
        EXPECT_OK(ops_ref_open_f32(&o, &err), &err);
        snprintf(path, sizeof path, "%s/hf/%s", test_golden_dir(), dirs[i].dir);
        t5_source *src;
        EXPECT_OK(t5_source_open(path, NULL, &src, &err), &err);
        t5_model *m[2];
        m[0] = golden_model_hf(o, dirs[i].v1_0 ? "mini_model_v1_0" : "mini_model", dirs[i].v1_0,
                               false);
        EXPECT_OK(t5_model_new(o, src, false, &m[1], &err), &err);
        t5_source_close(src);
        const struct t5_config *mine = t5_model_config(m[0]), *theirs = t5_model_config(m[1]);
        EXPECT_EQ_I64(theirs->act, mine->act);
        EXPECT_EQ_I64(theirs->gated, mine->gated);
        EXPECT_EQ_I64(theirs->head_is_embedding, mine->head_is_embedding);
        EXPECT_EQ_I64(theirs->scale_logits, mine->scale_logits);
        EXPECT_EQ_I64(theirs->max_distance, mine->max_distance);
        EXPECT_EQ_F64(theirs->norm_eps, mine->norm_eps);
        EXPECT_EQ_I64(t5_model_bytes(m[0]), t5_model_bytes(m[1]));
        struct test_batch batch;
        batch_pack(&batch, 2, 6, tokens, 4, inputs, targets, NULL);
        for (int k = 0; k < 2; k++) {
            const struct t5_acts_plan plan = batch_plan(&batch.b, 0, 0);
            const struct t5_loss_opts opts = {0};
            struct t5_loss loss = {.example_loss = score[k]};
            t5_acts *acts;
            EXPECT_OK(t5_acts_new(m[k], &plan, &acts, &err), &err);
            EXPECT_OK(t5_forward(m[k], NULL, &batch.b, 0, 2, &opts, NULL, acts, &loss, &err), &err);
            t5_acts_free(acts);
            t5_model_free(m[k]);
        }
        EXPECT_TRUE(!memcmp(score[0], score[1], sizeof score[0]));
        batch_free(&batch);
        ops_close(o);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(vectors),
        cmocka_unit_test(losses_and_gradient),
        cmocka_unit_test(containers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
