/* The noise of C4 tasks on token ids (spec/data.md 2.10). Random numbers come from the caller. */
#ifndef SPT_TASK_NOISE_H
#define SPT_TASK_NOISE_H

#include <stdbool.h>

#include "base/status.h"

typedef uint32_t (*noise_random_fn)(void *ctx);

/* mask[i]: token i is noise. Every run of tokens whose mask equals `masked` becomes one sentinel:
 * vocab_size - 1, vocab_size - 2, ... Returns the number of ids written (at most n). */
size_t noise_to_sentinels(const int32_t *token, const bool *mask, size_t n, bool masked,
                          int32_t vocab_size, int32_t *out);
/* Tokens outside the mask (masked false) or inside. */
size_t noise_keep(const int32_t *token, const bool *mask, size_t n, bool masked, int32_t *out);
/* Random spans: density of noise, mean length of a span; starts with tokens that are kept. */
spt_status noise_random_spans(size_t n, double density, double mean, noise_random_fn random,
                              void *ctx, bool *mask, spt_err *err);
/* Each token independently with probability density. */
void noise_iid(size_t n, double density, noise_random_fn random, void *ctx, bool *mask);
/* How many leading tokens become inputs: 1 .. n - 1, uniformly (0 for n = 1). */
size_t noise_prefix(size_t n, noise_random_fn random, void *ctx);
/* Tokens to take so that inputs of this length result, and the length of the targets. */
void noise_span_lengths(int64_t inputs, double density, double mean, int64_t *tokens,
                        int64_t *targets);

#endif
