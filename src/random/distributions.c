/* jax/_src/random.py in float32, in its order of operations. */
#include "random/distributions.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "base/mem.h"

enum { CHUNK = 256 };

/* The mantissa of a float in [1, 2), minus 1. */
static float unit_of(uint32_t bits)
{
    const uint32_t word = bits >> 9 | 0x3f800000u;
    float f;
    memcpy(&f, &word, sizeof f);
    return f - 1.0f;
}

static float uniform_of(uint32_t bits, float lo, float hi)
{
    const float f = unit_of(bits) * (hi - lo) + lo;
    return f < lo ? lo : f;
}

void rng_uniform_range(struct rng_key key, size_t n, size_t first, size_t count, float lo, float hi,
                       float *out)
{
    uint32_t bits[CHUNK];
    for (size_t at = 0; at < count; at += CHUNK) {
        const size_t m = count - at < CHUNK ? count - at : CHUNK;
        rng_bits_range(key, n, first + at, m, bits, RNG_CLASSIC);
        for (size_t i = 0; i < m; i++)
            out[at + i] = uniform_of(bits[i], lo, hi);
    }
}

void rng_uniform(struct rng_key key, size_t n, float lo, float hi, float *out)
{
    rng_uniform_range(key, n, 0, n, lo, hi, out);
}

void rng_bernoulli(struct rng_key key, size_t n, float p, bool *out)
{
    uint32_t bits[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t m = n - at < CHUNK ? n - at : CHUNK;
        rng_bits_range(key, n, at, m, bits, RNG_CLASSIC);
        for (size_t i = 0; i < m; i++)
            out[at + i] = unit_of(bits[i]) < p;
    }
}

float rng_erfinv(float x)
{
    static const float central[9] = {2.81022636e-08f,  3.43273939e-07f, -3.5233877e-06f,
                                     -4.39150654e-06f, 0.00021858087f,  -0.00125372503f,
                                     -0.00417768164f,  0.246640727f,    1.50140941f};
    static const float tail[9] = {-0.000200214257f, 0.000100950558f, 0.00134934322f,
                                  -0.00367342844f,  0.00573950773f,  -0.0076224613f,
                                  0.00943887047f,   1.00167406f,     2.83297682f};
    if (fabsf(x) == 1.0f)
        return x * INFINITY;
    float w = -log1pf(-x * x);
    const float *c = w < 5.0f ? central : tail;
    w = w < 5.0f ? w - 2.5f : sqrtf(w) - 3.0f;
    float p = c[0];
    for (int i = 1; i < 9; i++)
        p = c[i] + p * w;
    return p * x;
}

static const float sqrt2 = 1.41421356237309504880f;

void rng_normal(struct rng_key key, size_t n, float *out)
{
    rng_uniform(key, n, nextafterf(-1.0f, 0.0f), 1.0f, out);
    for (size_t i = 0; i < n; i++)
        out[i] = sqrt2 * rng_erfinv(out[i]);
}

void rng_truncated_normal(struct rng_key key, size_t n, float lo, float hi, float *out)
{
    const float least = nextafterf(lo, INFINITY), most = nextafterf(hi, -INFINITY);
    rng_uniform(key, n, erff(lo / sqrt2), erff(hi / sqrt2), out);
    for (size_t i = 0; i < n; i++) {
        const float x = sqrt2 * rng_erfinv(out[i]);
        out[i] = x < least ? least : x > most ? most : x;
    }
}

void rng_gumbel_range(struct rng_key key, size_t n, size_t first, size_t count, float *out)
{
    rng_uniform_range(key, n, first, count, FLT_MIN, 1.0f, out);
    for (size_t i = 0; i < count; i++)
        out[i] = -logf(-logf(out[i]));
}

void rng_gumbel(struct rng_key key, size_t n, float *out)
{
    rng_gumbel_range(key, n, 0, n, out);
}

void rng_randint(struct rng_key key, size_t n, int32_t lo, int32_t hi, int32_t *out)
{
    const uint32_t span = hi > lo ? (uint32_t)hi - (uint32_t)lo : 1;
    const struct rng_key high = rng_split_at(key, 2, 0, RNG_CLASSIC);
    const struct rng_key low = rng_split_at(key, 2, 1, RNG_CLASSIC);
    uint32_t m = 0x10000u % span;
    m = m * m % span;
    uint32_t h[CHUNK], l[CHUNK];
    for (size_t at = 0; at < n; at += CHUNK) {
        const size_t count = n - at < CHUNK ? n - at : CHUNK;
        rng_bits_range(high, n, at, count, h, RNG_CLASSIC);
        rng_bits_range(low, n, at, count, l, RNG_CLASSIC);
        for (size_t i = 0; i < count; i++) {
            const uint32_t offset = (h[i] % span * m + l[i] % span) % span;
            out[at + i] = (int32_t)((uint32_t)lo + offset);
        }
    }
}

/* --- permutations --------------------------------------------------------------------------- */

struct sort_item {
    uint32_t key;
    int32_t value;
};

/* Stable, ascending by key: four passes of one byte. The result is in a. */
static void radix_sort(struct sort_item *a, struct sort_item *b, size_t n)
{
    for (int shift = 0; shift < 32; shift += 8) {
        size_t start[257] = {0};
        for (size_t i = 0; i < n; i++)
            start[(a[i].key >> shift & 255) + 1]++;
        for (int i = 0; i < 256; i++)
            start[i + 1] += start[i];
        for (size_t i = 0; i < n; i++)
            b[start[a[i].key >> shift & 255]++] = a[i];
        struct sort_item *t = a; /* an even number of passes: back in the caller's a */
        a = b;
        b = t;
    }
}

/* One sort by random 32-bit keys leaves ties; JAX repeats it until n^3 fits the key space. */
static int shuffle_rounds(size_t n)
{
    return (int)ceil(3.0 * log(n > 1 ? (double)n : 1.0) / log(4294967295.0));
}

spt_status rng_permutation(struct rng_key key, size_t n, int32_t *out, spt_err *err)
{
    if (n > INT32_MAX)
        return err_set(err, SPT_E_CONFIG, "a permutation of %zu elements: at most %d", n,
                       INT32_MAX);
    struct sort_item *items = mem_alloc(n, 2 * sizeof *items);
    if (!items)
        return err_nomem(err, n * 2 * sizeof *items);
    for (size_t i = 0; i < n; i++)
        items[i].value = (int32_t)i;
    for (int round = shuffle_rounds(n); round > 0; round--) {
        const struct rng_key sub = rng_split_at(key, 2, 1, RNG_CLASSIC);
        key = rng_split_at(key, 2, 0, RNG_CLASSIC);
        for (size_t i = 0; i < n; i++)
            rng_bits_range(sub, n, i, 1, &items[i].key, RNG_CLASSIC);
        radix_sort(items, items + n, n);
    }
    for (size_t i = 0; i < n; i++)
        out[i] = items[i].value;
    mem_free(items);
    return SPT_OK;
}

spt_status rng_choice(struct rng_key key, size_t n, size_t m, bool replace, int32_t *out,
                      spt_err *err)
{
    if (n == 0 || n > INT32_MAX || (!replace && m > n))
        return err_set(err, SPT_E_CONFIG, "cannot choose %zu of %zu elements%s", m, n,
                       replace ? "" : " without replacement");
    if (replace) {
        rng_randint(key, m, 0, (int32_t)n, out);
        return SPT_OK;
    }
    int32_t *all = mem_alloc(n, sizeof *all);
    if (!all)
        return err_nomem(err, n * sizeof *all);
    const spt_status st = rng_permutation(key, n, all, err);
    if (st == SPT_OK)
        memcpy(out, all, m * sizeof *out);
    mem_free(all);
    return st;
}

/* --- categorical ---------------------------------------------------------------------------- */

int32_t rng_categorical_row(struct rng_key key, const float *logits, size_t B, size_t V, size_t b)
{
    float g[CHUNK], best = -INFINITY;
    int32_t at = 0;
    for (size_t v = 0; v < V; v += CHUNK) {
        const size_t m = V - v < CHUNK ? V - v : CHUNK;
        rng_gumbel_range(key, B * V, b * V + v, m, g);
        for (size_t i = 0; i < m; i++) {
            const float x = g[i] + logits[v + i];
            if (x > best) {
                best = x;
                at = (int32_t)(v + i);
            }
        }
    }
    return at;
}

void rng_categorical(struct rng_key key, const float *logits, size_t B, size_t V, int32_t *out)
{
    for (size_t b = 0; b < B; b++)
        out[b] = rng_categorical_row(key, logits + b * V, B, V, b);
}
