/* The watching backend: the bits of the watched one, and operations that can be counted by hand. */
#include "support/test.h"

#include <string.h>

#include "ops/profile.h"
#include "support/params.h"

enum { B = 4, P = 3, E = 16 };

struct counted {
    struct ops_profile_line line[OPS_PROFILE_KINDS];
    double loss;
    float grad[P * E];
    int64_t rows, dec_rows, tokens;
};

static void run(bool watch, unsigned uses, bool plain_prompt, struct counted *out)
{
    spt_err err;
    ops *o, *inner;
    const struct t5_config c = params_small_config();
    struct test_params params;
    struct test_batch batch;
    uint64_t seed = 4;
    float prompt[P * E];
    for (int i = 0; i < P * E; i++)
        prompt[i] = (float)test_uniform(&seed);
    params_random(&params, &c, 4);
    batch_random(&batch, B, 9, 6, c.vocab, 3);
    EXPECT_OK(ops_ref_open_f32(&inner, &err), &err);
    o = inner;
    if (watch)
        EXPECT_OK(ops_profile_open(inner, &o, &err), &err);
    EXPECT_TRUE(ops_profile_inner(o) == inner);
    EXPECT_STR(o->t->name, inner->t->name);
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
    memset(out, 0, sizeof *out);
    ops_profile_reset(o);
    EXPECT_OK(t5_forward(m, &prompts, &batch.b, 0, B, &opts, NULL, acts, &loss, &err), &err);
    if (uses & T5_BACKWARD)
        EXPECT_OK(t5_backward(m, &batch.b, acts, NULL, out->grad, NULL, &err), &err);
    if (watch)
        memcpy(out->line, ops_profile_lines(o), sizeof out->line);
    else
        EXPECT_TRUE(!ops_profile_lines(o));
    out->loss = loss.loss;
    out->rows = plan.rows;
    out->dec_rows = plan.dec_rows;
    out->tokens = loss.counted;
    t5_acts_free(acts);
    t5_model_free(m);
    ops_close(o);
    batch_free(&batch);
    params_free(&params);
}

static void the_same_bits(void **state)
{
    struct counted watched, alone;
    run(true, T5_BACKWARD, false, &watched);
    run(false, T5_BACKWARD, false, &alone);
    EXPECT_EQ_F64(watched.loss, alone.loss);
    EXPECT_TRUE(!memcmp(watched.grad, alone.grad, sizeof alone.grad));
    for (int i = 0; i < OPS_PROFILE_KINDS; i++) {
        EXPECT_TRUE(watched.line[i].seconds >= 0);
        EXPECT_TRUE(watched.line[i].name != NULL);
    }
}

/* Products of a forward pass by the shapes of the model. */
static double forward_products(const struct counted *n, bool absorb)
{
    const struct t5_config c = params_small_config();
    const double J = (double)(c.heads * c.head_dim), F = (double)c.ff, rows = (double)n->rows;
    const double mlp = 3 * E * F, dec = (double)n->dec_rows;
    const double cross = absorb ? 2 * dec * E * J : 2 * rows * E * J; /* q', o' or k, v */
    return 2 * (double)c.enc_layers * rows * (4 * E * J + mlp) +
           2 * (double)c.dec_layers * (dec * (6 * E * J + mlp) + cross);
}

static void operations_by_hand(void **state)
{
    struct counted n, shared;
    const struct t5_config c = params_small_config();
    run(true, 0, true, &n);
    EXPECT_EQ_F64(n.line[OPS_P_PRODUCT].operations, forward_products(&n, false));
    EXPECT_EQ_F64(n.line[OPS_P_HEAD].operations, 2.0 * (double)(n.tokens * E * c.vocab));
    EXPECT_EQ_I64(n.line[OPS_P_PRODUCT_T].calls, 0);
    EXPECT_EQ_I64(n.line[OPS_P_NORM].calls, 2 * c.enc_layers + 3 * c.dec_layers + 2);
    EXPECT_EQ_I64(n.line[OPS_P_ATTENTION].calls, c.enc_layers + 2 * c.dec_layers);

    /* Prompt rows of layer 0 once instead of B times. */
    run(true, 0, false, &shared);
    EXPECT_EQ_F64(n.line[OPS_P_PRODUCT].operations - shared.line[OPS_P_PRODUCT].operations,
                  2.0 * (B - 1) * P * E * 3 * (double)(c.heads * c.head_dim));

    /* Absorbed: q Wk^T is a product with a transposed weight. */
    run(true, T5_ABSORB, true, &n);
    EXPECT_EQ_F64(n.line[OPS_P_PRODUCT].operations + n.line[OPS_P_PRODUCT_T].operations,
                  forward_products(&n, true));
}

/* In the backward of layer 0 only prompt rows reach the projections. */
static void backward_stops_at_the_prompt(void **state)
{
    struct counted n;
    const struct t5_config c = params_small_config();
    const double J = (double)(c.heads * c.head_dim), mlp = 3 * E * (double)c.ff;
    run(true, T5_BACKWARD, true, &n);
    const double rows = (double)n.rows, dec = (double)n.dec_rows, L = (double)c.enc_layers;
    const double encoder =
        2 * (rows * (L * (E * J + mlp) + (L - 1) * 3 * E * J) + B * P * 3 * E * J);
    const double D = (double)c.dec_layers;
    /* decoder layer 0: no queries of cross-attention, no self-attention */
    const double decoder =
        2 * (dec * (D * (mlp + E * J) + (D - 1) * 5 * E * J) + D * rows * 2 * E * J);
    EXPECT_EQ_F64(n.line[OPS_P_PRODUCT_T].operations, encoder + decoder);
}

static spt_status life(void *ctx, spt_err *err)
{
    (void)ctx;
    ops *inner = NULL, *o = NULL;
    ops_weight *w = NULL;
    static const float v[6] = {0};
    const struct ops_matrix part = {{DT_F32, shape_2d(2, 3), v}, false, 0};
    spt_status st = ops_ref_open_f32(&inner, err);
    if (!st)
        st = ops_profile_open(inner, &o, err);
    if (st) {
        ops_close(inner);
        return st;
    }
    st = o->t->weight_new(o, &part, 1, OPS_FORWARD, false, &w, err);
    o->t->weight_free(o, w);
    w = NULL;
    if (!st)
        st = o->t->table_new(o, &part, &w, err);
    o->t->weight_free(o, w);
    ops_close(o);
    return st;
}

static void memory_runs_out(void **state)
{
    fault_every_alloc(life, NULL);
}

/* Attention takes its scratch when it knows the lengths, and returns nothing: ops_check tells. */
static spt_status attend(void *watch, spt_err *err)
{
    static const float x[2 * 8] = {1};
    static const int64_t off[] = {0, 2};
    float out[2 * 8];
    ops *inner = NULL, *o = NULL;
    const struct ops_attention a = {.B = 1, .heads = 1, .head_dim = 8, .q_off = off, .k_off = off,
                                    .q = x, .k = x, .v = x, .q_stride = 8, .k_stride = 8,
                                    .v_stride = 8};
    spt_status st = ops_open(&(struct ops_config){.threads = 1}, &inner, err);
    if (!st && watch)
        st = ops_profile_open(inner, &o, err);
    if (st) {
        ops_close(inner);
        return st;
    }
    o = watch ? o : inner;
    o->t->attention(o, &a, out);
    st = ops_check(o, err);
    if (!st && out[0] != out[0])
        st = err_set(err, SPT_E_USAGE, "attention gave NaN and ops_check nothing");
    ops_close(o);
    return st;
}

static void attention_without_memory(void **state)
{
    fault_every_alloc(attend, NULL);
}

static void watched_attention_without_memory(void **state)
{
    fault_every_alloc(attend, "watched");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_same_bits),
        cmocka_unit_test(operations_by_hand),
        cmocka_unit_test(backward_stops_at_the_prompt),
        cmocka_unit_test(memory_runs_out),
        cmocka_unit_test(attention_without_memory),
        cmocka_unit_test(watched_attention_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
