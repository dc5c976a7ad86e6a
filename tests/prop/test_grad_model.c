/* The gradient of the whole model against central differences, in double: every variant of the
 * architecture, of the prompt's place, of the loss, with and without dropout. Loss is smooth except
 * for ReLU, whose kinks these steps do not meet with these seeds. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "support/params.h"

/* The ends of a difference are exact in float32 because prompts lie on a grid of 2^-12. The rule
 * with four points has a truncation error of the order of STEP^4; rounding is 1e-15 / STEP. What
 * remains is the float32 in which gradients reach the host. */
#define STEP 0x1p-16
#define TOL 1e-6

struct variant {
    const char *name;
    enum ops_activation act;
    bool gated, tied, per_layer, remat, dropout, absorb;
    enum t5_combine combine;
    int64_t P, P_dec, prompts;
    struct t5_loss_opts loss;
};

static struct t5_prompts prompts_of(const struct variant *v, const float *enc, const float *dec)
{
    return (struct t5_prompts){.enc = enc,
                               .count = v->prompts,
                               .P = v->P,
                               .dec = v->P_dec ? dec : NULL,
                               .P_dec = v->P_dec,
                               .combine = v->combine};
}

static void fill(float *p, int64_t n, uint64_t seed)
{
    for (int64_t i = 0; i < n; i++)
        p[i] = (float)((double)(long)(test_uniform(&seed) * 4096) / 4096);
}

struct run {
    const struct variant *v;
    t5_model *m;
    t5_acts *acts;
    struct test_batch batch;
    struct t5_dropout drop;
};

static long checked; /* components, for the figure at the end (N2) */
static double largest;

static double loss_of(struct run *r, const float *enc, const float *dec)
{
    const struct t5_prompts p = prompts_of(r->v, enc, dec);
    struct t5_loss loss = {0};
    spt_err err;
    EXPECT_OK(t5_forward(r->m, &p, &r->batch.b, 0, r->batch.b.B, &r->v->loss, &r->drop, r->acts,
                         &loss, &err),
              &err);
    return loss.loss;
}

/* Largest |numeric - analytic| over x, relative to the largest |analytic|. */
static double worst(struct run *r, float *x, int64_t n, const float *analytic, const float *enc,
                    const float *dec)
{
    double bad = 0, scale = 0;
    for (int64_t i = 0; i < n; i++) {
        const float at = x[i];
        double f[4];
        static const double steps[4] = {-2, -1, 1, 2};
        for (int k = 0; k < 4; k++) {
            x[i] = (float)(at + steps[k] * STEP);
            f[k] = loss_of(r, enc, dec);
        }
        x[i] = at;
        const double numeric = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * STEP);
        const double diff = fabs(numeric - analytic[i]);
        bad = diff > bad ? diff : bad;
        scale = fabs(analytic[i]) > scale ? fabs(analytic[i]) : scale;
    }
    EXPECT_TRUE(scale > 1e-3); /* the check means something */
    checked += n;
    largest = bad / scale > largest ? bad / scale : largest;
    return bad / scale;
}

static void check(const struct variant *v)
{
    spt_err err;
    ops *o;
    struct t5_config c = params_small_config();
    c.act = v->act;
    c.gated = v->gated;
    c.head_is_embedding = c.scale_logits = v->tied;
    c.per_layer_bias = v->per_layer;
    struct test_params params;
    params_random(&params, &c, 7);
    const struct t5_getter get = params_getter(&params);
    struct run r = {.v = v, .drop = {.rate = v->dropout ? 0.25f : 0, .key = {5, 9}}};
    EXPECT_OK(ops_ref_open_f64(&o, &err), &err);
    EXPECT_OK(t5_model_new_from(o, &get, T5_BACKWARD | T5_ABSORB, &r.m, &err), &err);
    batch_random(&r.batch, 3, 9, 6, c.vocab, 11);
    for (int64_t b = 0; b < 3; b++)
        r.batch.prompt_of[b] = (int32_t)(b % v->prompts);
    r.batch.weight[1] = 0; /* a row without loss */
    r.batch.weight[2] = 2;
    struct t5_acts_plan plan = batch_plan(&r.batch.b, v->P, v->P_dec);
    plan.backward = true;
    plan.remat = v->remat;
    plan.absorb = v->absorb;
    plan.dropout = v->dropout;
    EXPECT_OK(t5_acts_new(r.m, &plan, &r.acts, &err), &err);

    const int64_t ne = v->prompts * v->P * c.width, nd = v->P_dec * c.width;
    float *enc = calloc((size_t)ne + 1, 4), *dec = calloc((size_t)nd + 1, 4);
    float *denc = calloc((size_t)(2 * ne) + 1, 4), *ddec = calloc((size_t)(2 * nd) + 1, 4);
    fill(enc, ne, 3);
    fill(dec, nd, 4);
    loss_of(&r, enc, dec);
    const int32_t shard[3] = {0, 1, 1};
    EXPECT_OK(t5_backward(r.m, &r.batch.b, r.acts, shard, denc, nd ? ddec : NULL, &err), &err);
    for (int64_t i = 0; i < ne; i++) /* sum of the shards */
        denc[i] += denc[ne + i];
    for (int64_t i = 0; i < nd; i++)
        ddec[i] += ddec[nd + i];
    const double we = ne ? worst(&r, enc, ne, denc, enc, dec) : 0;
    const double wd = nd ? worst(&r, dec, nd, ddec, enc, dec) : 0;
    printf("%-24s encoder prompt %.1e, decoder prompt %.1e\n", v->name, we, wd);
    EXPECT_TRUE(we < TOL);
    EXPECT_TRUE(wd < TOL);
    free(enc), free(dec), free(denc), free(ddec);
    t5_acts_free(r.acts);
    t5_model_free(r.m);
    ops_close(o);
    batch_free(&r.batch);
    params_free(&params);
}

static void every_variant(void **state)
{
    const struct t5_loss_opts plain = {0}, full = {.z_loss = 1e-2f, .label_smoothing = 0.1f};
    const struct variant variants[] = {
        {"prefix", OPS_GELU_TANH, true, .P = 3, .prompts = 1, .loss = plain},
        {"z-loss, smoothing", OPS_GELU_TANH, true, .P = 3, .prompts = 1, .loss = full},
        {"two prompts", OPS_GELU_TANH, true, .P = 3, .prompts = 2, .loss = full},
        {"after the first token", OPS_GELU_TANH, true, .combine = T5_PREFIX_AFTER_BOS, .P = 3,
         .prompts = 1, .loss = plain},
        {"before the last token", OPS_GELU_TANH, true, .combine = T5_SUFFIX, .P = 3, .prompts = 1,
         .loss = plain},
        {"at the end", OPS_GELU_TANH, true, .combine = T5_SUFFIX_END, .P = 3, .prompts = 1,
         .loss = plain},
        {"relu, tied", OPS_RELU, false, true, .P = 2, .prompts = 1, .loss = plain},
        {"silu", OPS_SILU, false, .P = 2, .prompts = 1, .loss = plain},
        {"gelu erf, per layer", OPS_GELU_ERF, true, .per_layer = true, .P = 2, .prompts = 1,
         .loss = plain},
        {"decoder prompt", OPS_GELU_TANH, true, .P = 0, .P_dec = 2, .prompts = 1, .loss = full},
        {"both prompts", OPS_GELU_TANH, true, .P = 2, .P_dec = 2, .prompts = 1, .loss = plain},
        {"remat", OPS_GELU_TANH, true, .remat = true, .P = 2, .P_dec = 1, .prompts = 1,
         .loss = plain},
        {"dropout", OPS_GELU_TANH, true, .dropout = true, .P = 3, .prompts = 1, .loss = full},
        {"dropout, both, remat", OPS_GELU_TANH, true, .dropout = true, .remat = true, .P = 2,
         .P_dec = 2, .prompts = 2, .loss = plain},
        {"dropout, suffix", OPS_RELU, true, .dropout = true, .combine = T5_SUFFIX, .P = 3,
         .prompts = 1, .loss = plain},
        {"absorbed", OPS_GELU_TANH, true, .absorb = true, .P = 3, .prompts = 2, .loss = full},
        {"absorbed, both, remat", OPS_GELU_TANH, true, .absorb = true, .remat = true, .P = 2,
         .P_dec = 2, .prompts = 1, .loss = plain},
        {"per sequence", OPS_GELU_TANH, true, .P = 2, .prompts = 1,
         .loss = {.normalize = T5_NORM_PER_SEQUENCE}},
        {"per real token", OPS_GELU_TANH, true, .P = 2, .prompts = 1,
         .loss = {.normalize = T5_NORM_REAL_TOKENS}},
    };
    for (size_t i = 0; i < sizeof variants / sizeof *variants; i++)
        check(&variants[i]);
    printf("N2: %zu kinds of models, %ld components of gradients of prompts, largest relative error "
           "%.1e\n",
           sizeof variants / sizeof *variants, checked, largest);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_variant),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
