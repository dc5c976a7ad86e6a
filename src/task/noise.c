/* t5's random_spans_noise_mask and friends. */
#include "task/noise.h"

#include <math.h>

#include "base/mem.h"

size_t noise_to_sentinels(const int32_t *token, const bool *mask, size_t n, bool masked,
                          int32_t vocab_size, int32_t *out)
{
    size_t len = 0;
    int32_t sentinel = vocab_size;
    for (size_t i = 0; i < n; i++) {
        if (mask[i] != masked)
            out[len++] = token[i];
        else if (i == 0 || mask[i - 1] != masked)
            out[len++] = --sentinel;
    }
    return len;
}

size_t noise_keep(const int32_t *token, const bool *mask, size_t n, bool masked, int32_t *out)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        if (mask[i] == masked)
            out[len++] = token[i];
    return len;
}

/* Uniform in 0 .. n-1 without bias. */
static uint32_t below(uint32_t n, noise_random_fn random, void *ctx)
{
    const uint32_t limit = UINT32_MAX - UINT32_MAX % n;
    uint32_t r;
    do
        r = random(ctx);
    while (r >= limit);
    return r % n;
}

/* Cuts `items` into `parts` non-empty pieces, every way alike: chooses parts - 1 of the gaps. */
static void segment(size_t items, size_t parts, noise_random_fn random, void *ctx, size_t *length)
{
    size_t cuts = parts - 1, at = 0;
    for (size_t k = 0; k < parts; k++)
        length[k] = 0;
    for (size_t i = 0; i < items; i++) {
        length[at]++;
        const size_t gaps = items - 1 - i; /* gaps left, this one included */
        if (cuts && gaps && below((uint32_t)gaps, random, ctx) < cuts) {
            cuts--;
            at++;
        }
    }
}

spt_status noise_random_spans(size_t n, double density, double mean, noise_random_fn random,
                              void *ctx, bool *mask, spt_err *err)
{
    const size_t length = n < 2 ? 2 : n;
    if (length > UINT32_MAX / 2)
        return err_set(err, SPT_E_FORMAT, "%zu tokens are too many for one example", n);
    double noise = rint((double)(float)((float)length * (float)density));
    noise = fmin(fmax(noise, 1), (double)length - 1);
    const size_t masked = (size_t)noise;
    const double rounded = rint(noise / mean);
    const size_t spans = rounded < 1 ? 1 : (size_t)rounded;
    const size_t kept = length - masked;
    /* More spans than kept tokens cannot be separated. */
    const size_t parts = spans < kept ? spans : kept;
    size_t *piece = mem_alloc(2 * parts, sizeof *piece);
    if (!piece)
        return err_nomem(err, 2 * parts * sizeof *piece);
    segment(masked, parts, random, ctx, piece);
    segment(kept, parts, random, ctx, piece + parts);
    size_t at = 0;
    for (size_t k = 0; k < parts; k++) {
        for (size_t i = 0; i < piece[parts + k]; i++, at++)
            if (at < n)
                mask[at] = false;
        for (size_t i = 0; i < piece[k]; i++, at++)
            if (at < n)
                mask[at] = true;
    }
    mem_free(piece);
    return SPT_OK;
}

void noise_iid(size_t n, double density, noise_random_fn random, void *ctx, bool *mask)
{
    for (size_t i = 0; i < n; i++)
        mask[i] = (double)random(ctx) * 0x1p-32 < density;
}

size_t noise_prefix(size_t n, noise_random_fn random, void *ctx)
{
    return n < 2 ? 0 : 1 + below((uint32_t)(n - 1), random, ctx);
}

static int64_t inputs_of(int64_t tokens, double density, double mean, int64_t *targets)
{
    const int64_t noise = (int64_t)rint((double)tokens * density);
    const int64_t spans = (int64_t)rint((double)noise / mean);
    *targets = noise + spans + 1;
    return tokens - noise + spans + 1;
}

void noise_span_lengths(int64_t inputs, double density, double mean, int64_t *tokens,
                        int64_t *targets)
{
    int64_t n = inputs - 1, other;
    while (inputs_of(n + 1, density, mean, &other) <= inputs)
        n++;
    const int64_t made = inputs_of(n, density, mean, targets);
    if (density == 0.5 && *targets > made) {
        n--;
        (*targets)--;
    }
    *tokens = n;
}
