/* Counter-based random numbers of JAX: Threefry-2x32 keys, split, fold_in and random bits
 * (spec/t5x.md section 11). Pure functions over values: no state, no allocation, thread-safe.
 *
 * Element i of a draw of n elements can be computed without the others, but in classic mode it
 * depends on n: the counters are split in halves. */
#ifndef SPT_RANDOM_THREEFRY_H
#define SPT_RANDOM_THREEFRY_H

#include <stddef.h>
#include <stdint.h>

struct rng_key {
    uint32_t w[2];
};

/* How bits and splits use the counter: classic is the default before JAX 0.5 (all published prompt
 * tuning runs), partitionable the one since. */
enum rng_mode { RNG_CLASSIC, RNG_PARTITIONABLE };

/* The block function: encrypts the counter x in place. */
void threefry2x32(const uint32_t key[2], uint32_t x[2]);

/* PRNGKey(seed) with 64-bit mode off: (0, seed mod 2^32). Negative seeds wrap. */
struct rng_key rng_key_of(int64_t seed);
/* Output i of split(key, n), i < n. */
struct rng_key rng_split_at(struct rng_key key, size_t n, size_t i, enum rng_mode mode);
/* All outputs of split(key, n). */
void rng_split(struct rng_key key, size_t n, struct rng_key *out, enum rng_mode mode);
struct rng_key rng_fold_in(struct rng_key key, uint32_t data);

/* Elements first..first+count of random_bits(key, n), first + count <= n < 2^32. */
void rng_bits_range(struct rng_key key, size_t n, size_t first, size_t count, uint32_t *out,
                    enum rng_mode mode);
/* random_bits(key, n), 32 bits each, in C order of the shape. */
void rng_bits(struct rng_key key, size_t n, uint32_t *out, enum rng_mode mode);

#endif
