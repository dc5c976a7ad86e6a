/* random/flax_path: keys of module paths, against the reference stack (spec/t5x.md 11.6, 11.7). */
#include "support/test.h"

#include "random/distributions.h"
#include "random/flax_path.h"

static void expect_key(struct rng_key got, uint32_t a, uint32_t b)
{
    EXPECT_EQ_I64(got.w[0], a);
    EXPECT_EQ_I64(got.w[1], b);
}

static struct rng_key init_of(int64_t seed)
{
    return rng_split_at(rng_key_of(seed), 2, 0, RNG_CLASSIC);
}

static void prompt_keys(void **state)
{
    const char *path = "encoder/prompt/prompt";
    expect_key(flax_path_key(init_of(0), path, 1, FLAX_LEGACY), 1266037863, 3858897908);
    expect_key(flax_path_key(init_of(0), path, 1, FLAX_LAZY), 4227520794, 3456340896);
    expect_key(flax_path_key(init_of(42), path, 1, FLAX_LEGACY), 2195209828, 3052335535);
    expect_key(flax_path_key(init_of(42), path, 1, FLAX_LAZY), 342590870, 249450004);
    expect_key(flax_path_key(rng_key_of(0), path, 1, FLAX_LEGACY), 76354241, 2497884299);
    expect_key(flax_path_key(rng_key_of(0), path, 1, FLAX_LAZY), 2448123194, 3936382501);
}

static void lazy_hashes_the_whole_path(void **state)
{
    const struct rng_key k = rng_key_of(3), want = rng_fold_in(k, 0x88163c13);
    expect_key(flax_path_key(k, "encoder/prompt/prompt", 1, FLAX_LAZY), want.w[0], want.w[1]);
    const struct rng_key legacy = rng_fold_in(
        rng_fold_in(rng_fold_in(rng_fold_in(k, 0x50f63d56), 0x9c7e05e5), 0x9c7e05e5), 1);
    expect_key(flax_path_key(k, "encoder/prompt/prompt", 1, FLAX_LEGACY), legacy.w[0], legacy.w[1]);
}

/* SHA-1 of the empty string starts da39a3ee; of one, two and three blocks (NIST). */
static void hash_vectors(void **state)
{
    const struct rng_key k = rng_key_of(1);
    struct rng_key want = rng_fold_in(k, 0xda39a3ee);
    expect_key(flax_path_key(k, "", 0, FLAX_LAZY), want.w[0], want.w[1]);
    want = rng_fold_in(k, 0xa9993e36);
    expect_key(flax_path_key(k, "abc", 0, FLAX_LAZY), want.w[0], want.w[1]);
    want = rng_fold_in(k, 0x84983e44);
    expect_key(
        flax_path_key(k, "abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 0, FLAX_LAZY),
        want.w[0], want.w[1]);
    want = rng_fold_in(k, 0xa49b2446);
    expect_key(flax_path_key(k,
                             "abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                             "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu",
                             0, FLAX_LAZY),
               want.w[0], want.w[1]);
}

static void counters_are_big_endian_and_minimal(void **state)
{
    const struct rng_key k = rng_key_of(5);
    const struct rng_key want = flax_path_key(k, "x\x01\x02", 0, FLAX_LAZY);
    expect_key(flax_path_key(k, "x", 0x0102, FLAX_LAZY), want.w[0], want.w[1]);
    const struct rng_key one = flax_path_key(k, "x\xff", 0, FLAX_LAZY);
    expect_key(flax_path_key(k, "x", 255, FLAX_LAZY), one.w[0], one.w[1]);
}

static void dropout_keys(void **state)
{
    const struct rng_key trainer = rng_split_at(rng_key_of(0), 2, 1, RNG_CLASSIC);
    const struct rng_key step = rng_fold_in(trainer, 1100000);
    expect_key(step, 855551994, 3354032892);
    expect_key(flax_path_key(step, "encoder/input_dropout", 1, FLAX_LEGACY), 140082730, 2895463298);
    expect_key(flax_path_key(step, "encoder/layers_0/attention", 1, FLAX_LEGACY), 865053583,
               1990960732);
    const struct rng_key mlp =
        flax_path_key(step, "encoder/layers_0/mlp/Dropout_0", 1, FLAX_LEGACY);
    expect_key(mlp, 2278253078, 1929974101);
    static const bool want[8] = {1, 0, 0, 0, 1, 1, 1, 1};
    static const float draws[5] = {0.0072f, 0.9485469f, 0.99281514f, 0.93010354f, 0.538319f};
    float u[8];
    bool keep[8];
    rng_uniform(mlp, 8, 0, 1, u);
    rng_bernoulli(mlp, 8, 0.9f, keep);
    for (int i = 0; i < 8; i++)
        EXPECT_EQ_I64(keep[i], want[i]);
    for (int i = 0; i < 5; i++)
        EXPECT_NEAR(u[i], draws[i], i ? 6e-8 : 5e-5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(prompt_keys),  cmocka_unit_test(lazy_hashes_the_whole_path),
        cmocka_unit_test(hash_vectors), cmocka_unit_test(counters_are_big_endian_and_minimal),
        cmocka_unit_test(dropout_keys),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
