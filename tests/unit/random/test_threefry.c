/* random/threefry: vectors of Random123, of the JAX tests, and computed ones. */
#include "support/test.h"

#include "random/threefry.h"

static void expect_key(struct rng_key got, uint32_t a, uint32_t b)
{
    EXPECT_EQ_I64(got.w[0], a);
    EXPECT_EQ_I64(got.w[1], b);
}

static void block_matches_random123(void **state)
{
    static const uint32_t v[3][6] = {
        {0, 0, 0, 0, 0x6b200159, 0x99ba4efe},
        {0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0x1cb996fc, 0xbb002be7},
        {0x13198a2e, 0x03707344, 0x243f6a88, 0x85a308d3, 0xc4923a9c, 0x483df7a0},
    };
    for (int i = 0; i < 3; i++) {
        uint32_t x[2] = {v[i][2], v[i][3]};
        threefry2x32(v[i], x);
        EXPECT_EQ_I64(x[0], v[i][4]);
        EXPECT_EQ_I64(x[1], v[i][5]);
    }
}

static void seeds_wrap(void **state)
{
    expect_key(rng_key_of(0), 0, 0);
    expect_key(rng_key_of(-1), 0, 0xffffffff);
    expect_key(rng_key_of(2147483653), 0, 2147483653u);
    expect_key(rng_key_of((int64_t)5 << 32 | 7), 0, 7);
}

static void splits(void **state)
{
    static const uint32_t four[4][2] = {{2285895361, 1501764800},
                                        {1518642379, 4090693311},
                                        {433833334, 4221794875},
                                        {839183663, 3740430601}};
    struct rng_key k[4];
    rng_split(rng_key_of(0), 4, k, RNG_CLASSIC);
    for (int i = 0; i < 4; i++)
        expect_key(k[i], four[i][0], four[i][1]);
    rng_split(rng_key_of(0), 2, k, RNG_CLASSIC);
    expect_key(k[0], 4146024105, 967050713);
    expect_key(k[1], 2718843009, 1272950319);
    rng_split(rng_key_of(42), 2, k, RNG_CLASSIC);
    expect_key(k[0], 2465931498, 3679230171);
    expect_key(k[1], 255383827, 267815257);
    rng_split(rng_key_of(0), 2, k, RNG_PARTITIONABLE);
    expect_key(k[0], 1797259609, 2579123966);
    expect_key(k[1], 928981903, 3453687069);
    expect_key(rng_fold_in(rng_key_of(0), 4), 2285895361, 433833334);
}

static void bits(void **state)
{
    static const uint32_t three[3] = {56197195, 4200222568, 961309823};
    static const uint32_t five[5] = {2467461003, 428148500, 1688610540, 3840466878, 2562233961};
    static const uint32_t part[5] = {4070199207, 4202968722, 1427181096, 2012915765, 2447653815};
    uint32_t got[5];
    rng_bits(rng_key_of(1701), 3, got, RNG_CLASSIC);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ_I64(got[i], three[i]);
    rng_bits(rng_key_of(0), 5, got, RNG_CLASSIC);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_I64(got[i], five[i]);
    rng_bits(rng_key_of(0), 5, got, RNG_PARTITIONABLE);
    for (int i = 0; i < 5; i++)
        EXPECT_EQ_I64(got[i], part[i]);
}

static void ranges_are_parts_of_the_whole(void **state)
{
    for (int mode = RNG_CLASSIC; mode <= RNG_PARTITIONABLE; mode++)
        for (size_t n = 0; n < 40; n++) {
            uint32_t all[40], part[40];
            for (size_t i = 0; i < n; i++)
                rng_bits_range(rng_key_of(9), n, i, 1, &all[i], (enum rng_mode)mode);
            for (size_t first = 0; first <= n; first++)
                for (size_t count = 0; first + count <= n; count++) {
                    rng_bits_range(rng_key_of(9), n, first, count, part, (enum rng_mode)mode);
                    for (size_t i = 0; i < count; i++)
                        EXPECT_EQ_I64(part[i], all[first + i]);
                }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(block_matches_random123),
        cmocka_unit_test(seeds_wrap),
        cmocka_unit_test(splits),
        cmocka_unit_test(bits),
        cmocka_unit_test(ranges_are_parts_of_the_whole),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
