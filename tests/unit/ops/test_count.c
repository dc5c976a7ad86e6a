/* The backend that computes nothing: what it books for a pass over a model is what the same pass
 * does on the backend that it stands for (calls, operations, bytes, weights), and the memory of
 * buffers is counted by the pages that calls write to. */
#include "support/test.h"

#include <string.h>

#include "ops/count.h"
#include "ops/profile.h"
#include "support/params.h"

enum { B = 4, P = 3, E = 16, PAGE = 4096 };

struct booked {
    struct ops_profile_line line[OPS_PROFILE_KINDS];
    size_t weights;
};

/* A forward and backward pass on o, watched. */
static void pass(ops *inner, unsigned uses, bool plain_prompt, struct booked *out)
{
    spt_err err;
    ops *o;
    const struct t5_config c = params_small_config();
    struct test_params params;
    struct test_batch batch;
    float prompt[P * E] = {0}, grad[P * E];
    params_random(&params, &c, 4);
    batch_random(&batch, B, 9, 6, c.vocab, 3);
    EXPECT_OK(ops_profile_open(inner, &o, &err), &err);
    const struct t5_getter get = params_getter(&params);
    t5_model *m;
    t5_acts *acts;
    EXPECT_OK(t5_model_new_from(o, &get, uses, &m, &err), &err);
    struct t5_acts_plan plan = batch_plan(&batch.b, P, 0);
    plan.backward = uses & T5_BACKWARD;
    plan.absorb = uses & T5_ABSORB;
    plan.plain_prompt = plain_prompt;
    EXPECT_OK(t5_acts_new(m, &plan, &acts, &err), &err);
    const struct t5_prompts prompts = {.enc = prompt, .count = 1, .P = P};
    const struct t5_loss_opts opts = {0};
    struct t5_loss loss = {0};
    ops_profile_reset(o);
    /* Without numbers the losses mean nothing, and the passes say so at their end. */
    (void)t5_forward(m, &prompts, &batch.b, 0, B, &opts, NULL, acts, &loss, &err);
    if (uses & T5_BACKWARD)
        (void)t5_backward(m, &batch.b, acts, NULL, grad, NULL, &err);
    memcpy(out->line, ops_profile_lines(o), sizeof out->line);
    out->weights = t5_model_bytes(m);
    t5_acts_free(acts);
    t5_model_free(m);
    batch_free(&batch);
    params_free(&params);
    ops_close(o);
}

static void compare(const char *isa, enum ops_compute compute, unsigned uses, bool plain_prompt)
{
    spt_err err;
    ops *real, *like, *count;
    const struct ops_config cfg = {.isa = isa, .compute = compute, .threads = 2};
    if (ops_open(&cfg, &real, &err))
        return; /* not on this machine */
    EXPECT_OK(ops_open(&cfg, &like, &err), &err);
    EXPECT_OK(ops_count_open(like, PAGE, &count, &err), &err);
    struct booked a, b;
    pass(real, uses, plain_prompt, &a);
    pass(count, uses, plain_prompt, &b);
    for (int i = 0; i < OPS_PROFILE_KINDS; i++)
        if (a.line[i].calls != b.line[i].calls || a.line[i].operations != b.line[i].operations ||
            a.line[i].bytes != b.line[i].bytes)
            fail_msg("%s, uses %u: %s: %lld calls, %.0f operations, %.0f bytes, counted %lld, "
                     "%.0f, %.0f",
                     isa, uses, a.line[i].name, (long long)a.line[i].calls, a.line[i].operations,
                     a.line[i].bytes, (long long)b.line[i].calls, b.line[i].operations,
                     b.line[i].bytes);
    EXPECT_TRUE(a.line[OPS_P_PRODUCT].operations > 0);
    if (strncmp(isa, "ref", 3) != 0) /* the reference keeps plain copies */
        EXPECT_TRUE(a.weights == b.weights);
    ops_close(like);
}

static void counts_what_is_done(void **state)
{
    (void)state;
    static const char *const isa[] = {"ref", "avx2", "avx512"};
    static const unsigned uses[] = {0, T5_BACKWARD, T5_BACKWARD | T5_ABSORB};
    for (size_t i = 0; i < sizeof isa / sizeof *isa; i++)
        for (size_t u = 0; u < sizeof uses / sizeof *uses; u++)
            for (int half = 0; half < (i ? 2 : 1); half++)
                for (int plain = 0; plain < 2; plain++)
                    compare(isa[i], half ? OPS_BFLOAT16 : OPS_FLOAT32, uses[u], plain);
}

static void pages_of_buffers(void **state)
{
    (void)state;
    spt_err err;
    ops *like, *o;
    const int64_t page = PAGE / (int64_t)sizeof(float); /* elements */
    EXPECT_OK(ops_ref_open_f32(&like, &err), &err);
    EXPECT_OK(ops_count_open(like, PAGE, &o, &err), &err);
    const struct ops_table *t = o->t;
    float *a = t->alloc(o, 10 * PAGE), *b = t->alloc(o, 100);
    EXPECT_TRUE(a && b);
    EXPECT_TRUE(ops_count_take(o).reserved == 10 * PAGE + 100);
    EXPECT_TRUE(ops_count_take(o).buffers == 0);
    t->zero(o, a, 1);
    t->zero(o, a, page); /* the same page */
    EXPECT_TRUE(ops_count_take(o).buffers == PAGE);
    t->zero(o, a + page - 1, 2); /* over its end */
    EXPECT_TRUE(ops_count_take(o).buffers == 2 * PAGE);
    t->zero(o, a + 9 * page, page);
    t->zero(o, b, 25); /* no more than the buffer holds */
    EXPECT_TRUE(ops_count_take(o).buffers == 3 * PAGE + 100);
    t->release(o, a);
    EXPECT_TRUE(ops_count_take(o).reserved == 100);
    EXPECT_TRUE(ops_count_take(o).buffers == 100);
    t->release(o, b);
    ops_close(o);
    ops_close(like);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(counts_what_is_done),
                                       cmocka_unit_test(pages_of_buffers)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
