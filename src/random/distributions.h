/* Distributions of jax.random over Threefry keys, float32, bit-compatible where the arithmetic is
 * exact (uniform, bernoulli, randint, permutation, choice) and within a few units in the last place
 * where logarithms are involved. All draws use the classic counter layout unless a mode is given.
 *
 * A draw's numbers depend on its total size n; the *_range functions compute a part of it. */
#ifndef SPT_RANDOM_DISTRIBUTIONS_H
#define SPT_RANDOM_DISTRIBUTIONS_H

#include <stdbool.h>

#include "base/status.h"
#include "random/threefry.h"

/* [lo, hi): 2^23 distinct values. */
void rng_uniform(struct rng_key key, size_t n, float lo, float hi, float *out);
void rng_uniform_range(struct rng_key key, size_t n, size_t first, size_t count, float lo, float hi,
                       float *out);
/* true with probability p; dropout masks pass the keep probability. */
void rng_bernoulli(struct rng_key key, size_t n, float p, bool *out);
void rng_normal(struct rng_key key, size_t n, float *out);
/* Standard normal restricted to (lo, hi). */
void rng_truncated_normal(struct rng_key key, size_t n, float lo, float hi, float *out);
void rng_gumbel(struct rng_key key, size_t n, float *out);
void rng_gumbel_range(struct rng_key key, size_t n, size_t first, size_t count, float *out);
/* [lo, hi); hi <= lo yields lo. */
void rng_randint(struct rng_key key, size_t n, int32_t lo, int32_t hi, int32_t *out);

/* permutation(key, n): a shuffle of 0..n-1. n < 2^31. */
spt_status rng_permutation(struct rng_key key, size_t n, int32_t *out, spt_err *err);
/* choice(key, n, (m,), replace) without weights. Without replacement m must not exceed n
 * (SPT_E_CONFIG). */
spt_status rng_choice(struct rng_key key, size_t n, size_t m, bool replace, int32_t *out,
                      spt_err *err);

/* categorical(key, logits): out[b] = argmax over v of gumbel + logits[b, v]; one draw over the
 * whole [B, V] array. Ties: lowest index. */
void rng_categorical(struct rng_key key, const float *logits /* [B, V] */, size_t B, size_t V,
                     int32_t *out);
/* Row b of the same draw alone. */
int32_t rng_categorical_row(struct rng_key key, const float *logits /* [V] */, size_t B, size_t V,
                            size_t b);

/* Inverse error function, single precision (Giles). */
float rng_erfinv(float x);

#endif
