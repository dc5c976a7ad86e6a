/* golden/initializers: the draws behind the prompt initialisers and the model's own scratch values,
 * bit for bit where no logarithm is involved. */
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "random/distributions.h"
#include "random/flax_path.h"

enum { MAX = 100 * 64 };

static void expect_equal(const char *file, const float *got, size_t n)
{
    const struct golden_array want = golden_npy("initializers", file);
    EXPECT_EQ_I64(want.elements, n);
    for (size_t i = 0; i < n; i++)
        if (got[i] != want.f32[i])
            fail_msg("%s: element %zu is %.9g, wanted %.9g", file, i, (double)got[i],
                     (double)want.f32[i]);
}

static void uniform_prompts(void **state)
{
    static const struct {
        int64_t seed;
        int rows, cols;
    } cases[] = {{0, 3, 4}, {0, 100, 4}, {42, 5, 7}, {2147483653, 10, 8}};
    static const struct {
        const char *text;
        float scale;
    } scales[] = {{"0.5", 0.5f}, {"0.01", 0.01f}};
    float u[MAX];
    char file[100];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int s = 0; s < 2; s++) {
            const size_t n = (size_t)(cases[c].rows * cases[c].cols);
            rng_uniform(rng_key_of(cases[c].seed), n, 0, 1, u);
            for (size_t i = 0; i < n; i++)
                u[i] *= scales[s].scale;
            snprintf(file, sizeof file, "uniform%s.key%lld.%dx%d.npy", scales[s].text,
                     (long long)cases[c].seed, cases[c].rows, cases[c].cols);
            expect_equal(file, u, n);
        }
}

static struct rng_key stream_of(int64_t seed, bool train)
{
    return train ? rng_split_at(rng_key_of(seed), 2, 0, RNG_CLASSIC) : rng_key_of(seed);
}

static void module_prompts(void **state)
{
    float u[800];
    char file[100];
    for (int variant = 0; variant < 8; variant++) {
        const bool train = variant & 1, lazy = variant & 2;
        const int seed = variant & 4 ? 42 : 0;
        const struct rng_key key = flax_path_key(stream_of(seed, train), "encoder/prompt/prompt", 1,
                                                 lazy ? FLAX_LAZY : FLAX_LEGACY);
        rng_uniform(key, 800, 0, 1, u);
        for (int i = 0; i < 800; i++)
            u[i] *= 0.5f;
        snprintf(file, sizeof file, "module.uniform0.5.%s.seed%d.%s.npy", train ? "train" : "eval",
                 seed, lazy ? "lazy" : "legacy");
        expect_equal(file, u, 800);
    }
}

/* Rows of a table chosen with and without replacement. */
static void sampled_rows(void **state)
{
    const struct golden_array table =
        golden_npy_shaped("initializers", "small_table.npy", 2, 60, 6);
    int32_t rows[75];
    float got[75 * 6];
    spt_err err;
    EXPECT_OK(rng_choice(rng_key_of(5), 60, 8, false, rows, &err), &err);
    for (int i = 0; i < 8; i++)
        memcpy(got + 6 * i, table.f32 + 6 * rows[i], 6 * sizeof(float));
    expect_equal("sampled_pop100.small.key5.8x6.npy", got, 48);
    EXPECT_OK(rng_choice(rng_key_of(5), 60, 75, true, rows, &err), &err);
    for (int i = 0; i < 75; i++)
        memcpy(got + 6 * i, table.f32 + 6 * rows[i], 6 * sizeof(float));
    expect_equal("sampled_popNone.small.key5.75x6.npy", got, 450);
}

/* Scratch values of kernels: normal and truncated normal draws (emb 8, heads 2, head_dim 4, mlp 8,
 * vocab 64). Logarithms differ by a few units in the last place between XLA and libm. */
static void scratch_parameters(void **state)
{
    static const struct {
        const char *name; /* below module.scratch.<mode>. */
        const char *path;
        bool truncated;
    } cases[] = {
        {"token_embedder.embedding", "token_embedder", false},
        {"encoder.layers_0.mlp.wi_0.kernel", "encoder/layers_0/mlp/wi_0", true},
        {"decoder.logits_dense.kernel", "decoder/logits_dense", true},
    };
    float x[512];
    char file[160];
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++)
        for (int lazy = 0; lazy < 2; lazy++) {
            snprintf(file, sizeof file, "module.scratch.%s.%s.npy", lazy ? "lazy" : "legacy",
                     cases[c].name);
            const struct golden_array want = golden_npy("initializers", file);
            const struct rng_key key =
                flax_path_key(stream_of(0, true), cases[c].path, 1, lazy ? FLAX_LAZY : FLAX_LEGACY);
            float scale = 1; /* stddev of the embedding; kernels: variance 1 / fan_in = 1 / 8 */
            if (cases[c].truncated) {
                rng_truncated_normal(key, want.elements, -2, 2, x);
                scale = sqrtf(1.0f / 8) / 0.87962566103423978f;
            } else {
                rng_normal(key, want.elements, x);
            }
            for (size_t i = 0; i < want.elements; i++)
                EXPECT_NEAR(x[i] * scale, want.f32[i], 1e-6);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_prompts),
        cmocka_unit_test(module_prompts),
        cmocka_unit_test(sampled_rows),
        cmocka_unit_test(scratch_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
