/* random/distributions: vectors of the JAX tests and computed ones (spec/t5x.md 11.3-11.6), and the
 * shape of each distribution. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "random/distributions.h"
#include "random/flax_path.h"

/* JAX and libm may differ by a unit or two in the last place of a logarithm. */
static const double log_tol = 4e-7;

static void uniforms(void **state)
{
    static const float jax[6] = {7.298188f,  8.691938f,  8.7230015f,
                                 2.0818567f, 1.8662417f, 5.5022564f};
    static const float five[5] = {0.57450044f, 0.09968603f, 0.39316022f, 0.8941783f, 0.59656656f};
    float u[6];
    rng_uniform(rng_key_of(42), 6, 0, 1, u);
    for (int i = 0; i < 6; i++)
        EXPECT_EQ_F64(u[i] * 10.0f, jax[i]);
    rng_uniform(rng_key_of(0), 5, 0, 1, u);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_F64(u[i], five[i]);
}

static void first_prompt_rows(void **state)
{
    static const float legacy0[12] = {0.14482558f, 0.37018347f, 0.025399089f, 0.28780794f,
                                      0.27008063f, 0.32167774f, 0.08103466f,  0.09168571f,
                                      0.43122673f, 0.45034122f, 0.29876328f,  0.43300158f};
    static const float lazy42[4] = {0.0963636f, 0.41766363f, 0.13427174f, 0.2526574f};
    static float big[100 * 768];
    float p[12];
    struct rng_key init = rng_split_at(rng_key_of(0), 2, 0, RNG_CLASSIC);
    const struct rng_key key = flax_path_key(init, "encoder/prompt/prompt", 1, FLAX_LEGACY);
    rng_uniform(key, 12, 0, 1, p);
    for (int i = 0; i < 12; i++)
        EXPECT_EQ_F64(p[i] * 0.5f, legacy0[i]);
    rng_uniform(key, 100 * 768, 0, 1, big);
    EXPECT_EQ_F64(big[0] * 0.5f, 0.48530698f);
    EXPECT_NEAR(big[1] * 0.5f, 0.009607852f, 1e-9); /* printed with seven digits */
    EXPECT_EQ_F64(big[100 * 768 - 2] * 0.5f, 0.4739673f);
    EXPECT_EQ_F64(big[100 * 768 - 1] * 0.5f, 0.45829302f);
    init = rng_split_at(rng_key_of(42), 2, 0, RNG_CLASSIC);
    rng_uniform(flax_path_key(init, "encoder/prompt/prompt", 1, FLAX_LAZY), 12, 0, 1, p);
    for (int i = 0; i < 4; i++)
        EXPECT_NEAR(p[i] * 0.5f, lazy42[i], 1.4e-8); /* half the spacing */
}

/* The JAX layer test: xavier-uniform [2, 4] = uniform(-1, 1) * sqrt(3 * variance), n = 3. */
static void xavier_kernel(void **state)
{
    static const float want[8] = {-0.86758113f, 0.08417511f, 0.022586346f, -0.91241026f,
                                  -0.19464374f, 0.49809837f, 0.78084683f,  0.92672896f};
    float u[8];
    rng_uniform(flax_path_key(rng_key_of(0), "wi", 1, FLAX_LEGACY), 8, -1, 1, u);
    for (int i = 0; i < 8; i++)
        EXPECT_NEAR(u[i] * sqrtf(3.0f * (1.0f / 3.0f)), want[i], 6e-8);
}

static void gumbels(void **state)
{
    static const float want[5] = {0.59013146f, -0.83539724f, 0.06877352f, 2.1905956f, 0.6605551f};
    float g[5];
    rng_gumbel(rng_key_of(0), 5, g);
    for (int i = 0; i < 5; i++)
        EXPECT_NEAR(g[i], want[i], log_tol);
}

static void integers(void **state)
{
    static const int32_t nine[9] = {2, 1, 3, 6, 1, 5, 6, 3, 4};
    static const int32_t eight[8] = {8, 6, 18, 4, 6, 0, 3, 18};
    int32_t got[9];
    rng_randint(rng_key_of(0), 9, 0, 8, got);
    for (int i = 0; i < 9; i++)
        EXPECT_EQ_I64(got[i], nine[i]);
    rng_randint(rng_key_of(0), 8, 0, 20, got);
    for (int i = 0; i < 8; i++)
        EXPECT_EQ_I64(got[i], eight[i]);
    rng_randint(rng_key_of(0), 9, 5, 5, got);
    for (int i = 0; i < 9; i++)
        EXPECT_EQ_I64(got[i], 5);
    rng_randint(rng_key_of(3), 9, INT32_MIN, INT32_MAX, got);
    for (int i = 0; i < 9; i++)
        EXPECT_TRUE(got[i] < INT32_MAX);
}

static void permutations(void **state)
{
    static const int32_t ten[10] = {2, 7, 9, 6, 0, 8, 1, 3, 4, 5};
    static const int32_t many[5] = {3487, 1440, 449, 1435, 755};
    static const int32_t legacy0[5] = {2807, 664, 3160, 2591, 1245};
    static int32_t p[5000];
    static bool seen[5000];
    spt_err err;
    EXPECT_OK(rng_permutation(rng_key_of(0), 10, p, &err), &err);
    for (int i = 0; i < 10; i++)
        EXPECT_EQ_I64(p[i], ten[i]);
    EXPECT_OK(rng_permutation(rng_key_of(0), 5000, p, &err), &err);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_I64(p[i], many[i]);
    for (int i = 0; i < 5000; i++) {
        EXPECT_TRUE(p[i] >= 0 && p[i] < 5000 && !seen[p[i]]);
        seen[p[i]] = true;
    }
    const struct rng_key init = rng_split_at(rng_key_of(0), 2, 0, RNG_CLASSIC);
    EXPECT_OK(rng_choice(flax_path_key(init, "encoder/prompt/prompt", 1, FLAX_LEGACY), 5000, 5,
                         false, p, &err),
              &err);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_I64(p[i], legacy0[i]);
    EXPECT_OK(rng_permutation(rng_key_of(0), 1, p, &err), &err);
    EXPECT_EQ_I64(p[0], 0);
    EXPECT_OK(rng_permutation(rng_key_of(0), 0, p, &err), &err);
}

static void choices_are_checked(void **state)
{
    int32_t p[4], q[4];
    spt_err err;
    EXPECT_STATUS(rng_choice(rng_key_of(0), 3, 4, false, p, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "4 of 3");
    EXPECT_STATUS(rng_choice(rng_key_of(0), 0, 1, true, p, &err), SPT_E_CONFIG);
    EXPECT_OK(rng_choice(rng_key_of(2), 3, 4, true, p, &err), &err);
    rng_randint(rng_key_of(2), 4, 0, 3, q);
    assert_memory_equal(p, q, sizeof p);
}

static void categoricals_add_gumbel_noise(void **state)
{
    enum { B = 3, V = 700 };
    static float logits[B * V], g[B * V];
    int32_t got[B];
    rng_normal(rng_key_of(8), B * V, logits);
    rng_gumbel(rng_key_of(4), B * V, g);
    rng_categorical(rng_key_of(4), logits, B, V, got);
    for (int b = 0; b < B; b++) {
        int best = 0;
        for (int v = 1; v < V; v++)
            if (g[b * V + v] + logits[b * V + v] > g[b * V + best] + logits[b * V + best])
                best = v;
        EXPECT_EQ_I64(got[b], best);
    }
}

/* Mean and variance over many draws, within five standard errors. */
static void moments(void **state)
{
    enum { N = 100000 };
    static float x[N];
    static bool keep[N];
    double sum = 0, square = 0, kept = 0;
    rng_normal(rng_key_of(1), N, x);
    for (int i = 0; i < N; i++)
        sum += x[i], square += (double)x[i] * x[i];
    EXPECT_TRUE(fabs(sum / N) < 5 / sqrt(N));
    EXPECT_TRUE(fabs(square / N - 1) < 5 * sqrt(2.0 / N));
    sum = square = 0;
    rng_truncated_normal(rng_key_of(2), N, -2, 2, x);
    for (int i = 0; i < N; i++) {
        EXPECT_TRUE(x[i] > -2 && x[i] < 2);
        sum += x[i], square += (double)x[i] * x[i];
    }
    EXPECT_TRUE(fabs(sum / N) < 5 / sqrt(N));
    EXPECT_TRUE(fabs(sqrt(square / N) - 0.87962566) < 5 / sqrt(N));
    rng_bernoulli(rng_key_of(3), N, 0.9f, keep);
    for (int i = 0; i < N; i++)
        kept += keep[i];
    EXPECT_TRUE(fabs(kept / N - 0.9) < 5 * sqrt(0.09 / N));
}

static void erfinv_inverts_erf(void **state)
{
    for (double x = -3.5; x <= 3.5; x += 0.01) {
        const float y = (float)erf(x);
        /* near +-1 the rounding of y itself dominates: its half spacing over the slope of erf */
        const double slope = 2 / sqrt(acos(-1.0)) * exp(-x * x);
        EXPECT_TRUE(fabs(rng_erfinv(y) - x) <= 2e-6 * fmax(1, fabs(x)) + 6e-8 / slope);
    }
    EXPECT_TRUE(isinf(rng_erfinv(1.0f)) && rng_erfinv(-1.0f) < 0);
}

static spt_status choose(void *ctx, spt_err *err)
{
    int32_t p[20];
    return rng_choice(rng_key_of(0), 100, 20, false, p, err);
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_EQ_I64(fault_every_alloc(choose, NULL), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniforms),
        cmocka_unit_test(first_prompt_rows),
        cmocka_unit_test(xavier_kernel),
        cmocka_unit_test(gumbels),
        cmocka_unit_test(integers),
        cmocka_unit_test(permutations),
        cmocka_unit_test(choices_are_checked),
        cmocka_unit_test(categoricals_add_gumbel_noise),
        cmocka_unit_test(moments),
        cmocka_unit_test(erfinv_inverts_erf),
        cmocka_unit_test(every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
