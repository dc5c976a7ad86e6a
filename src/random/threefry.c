/* Threefry-2x32 with 20 rounds, and the way JAX lays counters out (jax/_src/prng.py). Long draws go
 * sixteen blocks at a time. */
#include "random/threefry.h"

#include <string.h>

enum { LANES = 16 };
typedef uint32_t u32x16 __attribute__((vector_size(64)));

static uint32_t rotl(uint32_t x, int r)
{
    return x << r | x >> (32 - r);
}

void threefry2x32(const uint32_t key[2], uint32_t x[2])
{
    static const int rotation[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t ks[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bdau};
    uint32_t x0 = x[0] + ks[0], x1 = x[1] + ks[1];
    for (uint32_t g = 0; g < 5; g++) {
        for (int r = 0; r < 4; r++) {
            x0 += x1;
            x1 = rotl(x1, rotation[g & 1][r]) ^ x0;
        }
        x0 += ks[(g + 1) % 3];
        x1 += ks[(g + 2) % 3] + g + 1;
    }
    x[0] = x0;
    x[1] = x1;
}

/* The same for 16 counters. */
static void threefry_lanes(const uint32_t key[2], uint32_t *c0, uint32_t *c1)
{
    static const int rotation[2][4] = {{13, 15, 26, 6}, {17, 29, 16, 24}};
    const uint32_t ks[3] = {key[0], key[1], key[0] ^ key[1] ^ 0x1bd11bdau};
    u32x16 x0, x1;
    memcpy(&x0, c0, sizeof x0);
    memcpy(&x1, c1, sizeof x1);
    x0 += ks[0];
    x1 += ks[1];
    for (uint32_t g = 0; g < 5; g++) {
        for (int r = 0; r < 4; r++) {
            const int bits = rotation[g & 1][r];
            x0 += x1;
            x1 = (x1 << bits | x1 >> (32 - bits)) ^ x0;
        }
        x0 += ks[(g + 1) % 3];
        x1 += ks[(g + 2) % 3] + g + 1;
    }
    memcpy(c0, &x0, sizeof x0);
    memcpy(c1, &x1, sizeof x1);
}

struct rng_key rng_key_of(int64_t seed)
{
    return (struct rng_key){{0, (uint32_t)(uint64_t)seed}};
}

/* Classic: counters 0..n-1 (one 0 appended when n is odd) are cut in halves; block j takes element
 * j of each half and yields elements j and half + j. */
static void classic_block(struct rng_key key, size_t n, size_t j, uint32_t x[2])
{
    const size_t half = n / 2 + n % 2;
    x[0] = (uint32_t)j;
    x[1] = half + j < n ? (uint32_t)(half + j) : 0;
    threefry2x32(key.w, x);
}

static uint32_t partitionable_bits(struct rng_key key, size_t i)
{
    uint32_t x[2] = {(uint32_t)((uint64_t)i >> 32), (uint32_t)i};
    threefry2x32(key.w, x);
    return x[0] ^ x[1];
}

/* Counters of 16 elements from i on, and which word of the result each of them is. */
static void lane_counters(size_t n, size_t i, enum rng_mode mode, uint32_t *c0, uint32_t *c1)
{
    const size_t half = n / 2 + n % 2;
    for (size_t j = 0; j < LANES; j++) {
        const size_t e = i + j, low = e < half ? e : e - half;
        if (mode == RNG_PARTITIONABLE) {
            c0[j] = (uint32_t)((uint64_t)e >> 32);
            c1[j] = (uint32_t)e;
        } else {
            c0[j] = (uint32_t)low;
            c1[j] = half + low < n ? (uint32_t)(half + low) : 0;
        }
    }
}

void rng_bits_range(struct rng_key key, size_t n, size_t first, size_t count, uint32_t *out,
                    enum rng_mode mode)
{
    const size_t half = n / 2 + n % 2, end = first + count;
    uint32_t c0[LANES], c1[LANES], x[2];
    size_t i = first;
    for (; i + LANES <= end; i += LANES) {
        lane_counters(n, i, mode, c0, c1);
        threefry_lanes(key.w, c0, c1);
        for (size_t j = 0; j < LANES; j++)
            out[i + j - first] = mode == RNG_PARTITIONABLE ? c0[j] ^ c1[j]
                                 : i + j < half            ? c0[j]
                                                           : c1[j];
    }
    for (; i < end; i++) {
        const int upper = i >= half;
        if (mode == RNG_PARTITIONABLE) {
            out[i - first] = partitionable_bits(key, i);
            continue;
        }
        classic_block(key, n, upper ? i - half : i, x);
        out[i - first] = x[upper];
    }
}

void rng_bits(struct rng_key key, size_t n, uint32_t *out, enum rng_mode mode)
{
    rng_bits_range(key, n, 0, n, out, mode);
}

struct rng_key rng_split_at(struct rng_key key, size_t n, size_t i, enum rng_mode mode)
{
    struct rng_key out;
    if (mode == RNG_PARTITIONABLE) {
        out.w[0] = (uint32_t)((uint64_t)i >> 32);
        out.w[1] = (uint32_t)i;
        threefry2x32(key.w, out.w);
    } else {
        rng_bits_range(key, 2 * n, 2 * i, 2, out.w, mode);
    }
    return out;
}

void rng_split(struct rng_key key, size_t n, struct rng_key *out, enum rng_mode mode)
{
    for (size_t i = 0; i < n; i++)
        out[i] = rng_split_at(key, n, i, mode);
}

struct rng_key rng_fold_in(struct rng_key key, uint32_t data)
{
    struct rng_key out = {{0, data}};
    threefry2x32(key.w, out.w);
    return out;
}
