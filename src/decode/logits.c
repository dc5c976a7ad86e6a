/* Rows of logits. A vocabulary has 32,000 to 250,000 entries and a row is passed over several times
 * per step, so that exp() is our own: its loops have constant trip counts and vectorise without
 * flags, and its bits are the same on every machine. */
#include "decode/logits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"

enum { BLOCK = 64, LANES = 16 };

/* exp(x) for x <= 0 (larger arguments are not met), within 2 units in the last place; below -87 the
 * result is about 1e-38. Cephes' polynomial on [-ln 2 / 2, ln 2 / 2]. */
static inline float exp_negative(float x)
{
    x = x < -87.0f ? -87.0f : x;
    const int32_t n = (int32_t)(x * 1.44269504f - 0.5f); /* rounds to nearest: x <= 0 */
    const float k = (float)n;
    const float r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.0f;
    const uint32_t bits = (uint32_t)(n + 127) << 23;
    float scale;
    memcpy(&scale, &bits, sizeof scale);
    return p * scale;
}

static float max_of(const float *x, int64_t V)
{
    float lane[LANES], max = -INFINITY;
    int64_t i = 0;
    for (int j = 0; j < LANES; j++)
        lane[j] = -INFINITY;
    for (; i + LANES <= V; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] = x[i + j] > lane[j] ? x[i + j] : lane[j];
    for (int j = 0; j < LANES; j++)
        max = lane[j] > max ? lane[j] : max;
    for (; i < V; i++)
        max = x[i] > max ? x[i] : max;
    return max;
}

/* The sum of exp(x - max); a NaN in x makes it NaN. */
static double sum_of_exp(const float *x, int64_t V, float max)
{
    double sum = 0;
    int64_t i = 0;
    for (; i + BLOCK <= V; i += BLOCK) {
        float lane[LANES] = {0}, total = 0;
        for (int b = 0; b < BLOCK; b += LANES)
            for (int j = 0; j < LANES; j++)
                lane[j] += exp_negative(x[i + b + j] - max);
        for (int j = 0; j < LANES; j++)
            total += lane[j];
        sum += (double)total;
    }
    for (; i < V; i++)
        sum += (double)exp_negative(x[i] - max);
    return sum;
}

static bool has_nan(const float *x, int64_t V)
{
    int lane[LANES] = {0}, nan = 0;
    int64_t i = 0;
    for (; i + LANES <= V; i += LANES)
        for (int j = 0; j < LANES; j++)
            lane[j] |= x[i + j] != x[i + j];
    for (; i < V; i++)
        nan |= x[i] != x[i];
    for (int j = 0; j < LANES; j++)
        nan |= lane[j];
    return nan;
}

bool logits_usable(const float *x, int64_t V)
{
    return isfinite(max_of(x, V)) && !has_nan(x, V);
}

struct logits_norm logits_normalizer(const float *x, int64_t V)
{
    if (!logits_usable(x, V))
        return (struct logits_norm){NAN, NAN};
    const float max = max_of(x, V);
    return (struct logits_norm){max, (float)log(sum_of_exp(x, V, max))};
}

void logits_log_softmax(float *x, int64_t V, struct logits_norm n)
{
    for (int64_t i = 0; i < V; i++)
        x[i] = logits_log_prob(n, x[i]);
}

int32_t logits_argmax(const float *x, int64_t V)
{
    const float max = max_of(x, V);
    for (int64_t i = 0; i < V; i++)
        if (x[i] == max)
            return (int32_t)i;
    return 0;
}

/* --- top-k ---------------------------------------------------------------------------------- */

/* Sinks heap[0] of a min-heap. */
static void sift_down(float *heap, int64_t k)
{
    for (int64_t i = 0;;) {
        int64_t least = i;
        for (int64_t c = 2 * i + 1; c <= 2 * i + 2 && c < k; c++)
            if (heap[c] < heap[least])
                least = c;
        if (least == i)
            return;
        const float t = heap[i];
        heap[i] = heap[least];
        heap[least] = t;
        i = least;
    }
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

void logits_top_k(float *x, int64_t V, int64_t k, float fill, float *scratch)
{
    if (k >= V)
        return;
    for (int64_t i = 0; i < k; i++)
        scratch[i] = -INFINITY;
    for (int64_t i = 0; i < V; i++)
        if (x[i] > scratch[0]) {
            scratch[0] = x[i];
            sift_down(scratch, k);
        }
    const float cut = scratch[0];
    for (int64_t i = 0; i < V; i++)
        x[i] = x[i] >= cut ? x[i] : fill;
}

/* --- top-p ---------------------------------------------------------------------------------- */

/* Probabilities are bucketed by their upper 16 bits, so that only those of one bucket, the one in
 * which the mass crosses p, have to be sorted. */
enum { BUCKETS = 0x3f80 + 2 };

struct logits_scratch {
    double mass[BUCKETS];
    float *prob;   /* [V] */
    float *sorted; /* [V] */
};

spt_status logits_scratch_new(int64_t V, struct logits_scratch **out, spt_err *err)
{
    struct logits_scratch *s = mem_zalloc(1, sizeof *s);
    if (s) {
        s->prob = mem_alloc((size_t)V, sizeof *s->prob);
        s->sorted = mem_alloc((size_t)V, sizeof *s->sorted);
    }
    if (!s || !s->prob || !s->sorted) {
        logits_scratch_free(s);
        return err_nomem(err, sizeof *s + 2 * (size_t)V * sizeof(float));
    }
    *out = s;
    return SPT_OK;
}

void logits_scratch_free(struct logits_scratch *s)
{
    if (!s)
        return;
    mem_free(s->prob);
    mem_free(s->sorted);
    mem_free(s);
}

static uint32_t bucket_of(float p)
{
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    const uint32_t b = bits >> 16;
    return b < BUCKETS ? b : BUCKETS - 1;
}

/* Fills in prob and the mass of each bucket. */
static void softmax_into_buckets(const float *x, int64_t V, struct logits_scratch *s)
{
    const float max = max_of(x, V), sum = (float)sum_of_exp(x, V, max);
    memset(s->mass, 0, sizeof s->mass);
    for (int64_t i = 0; i < V; i++) {
        /* masked entries have no mass at all, although exp_negative() ends at 1e-38 */
        s->prob[i] = x[i] - max < -80.0f ? 0 : exp_negative(x[i] - max) / sum;
        s->mass[bucket_of(s->prob[i])] += (double)s->prob[i];
    }
}

void logits_top_p(float *x, int64_t V, double p, enum logits_ties ties, float fill,
                  struct logits_scratch *s)
{
    softmax_into_buckets(x, V, s);
    double above = 0, total = 0;
    for (int64_t i = 0; i < BUCKETS; i++)
        total += s->mass[i];
    if (ties == LOGITS_CUT_TIES)
        p += total - 1; /* Hugging Face sums from below: kept while that sum exceeds 1 - p */
    int64_t b = BUCKETS - 1;
    while (b >= 0 && above + s->mass[b] < p)
        above += s->mass[b--];
    if (b < 0)
        return; /* rounding: even all of it stays below p */
    int64_t n = 0;
    for (int64_t i = 0; i < V; i++)
        if (bucket_of(s->prob[i]) == (uint32_t)b)
            s->sorted[n++] = s->prob[i];
    qsort(s->sorted, (size_t)n, sizeof *s->sorted, descending);
    int64_t last = 0; /* the token that reaches p */
    while (last < n - 1 && above + (double)s->sorted[last] < p)
        above += (double)s->sorted[last++];
    const float cut = n ? s->sorted[last] : 0;
    int64_t equals = 0; /* how many of the tokens with the probability of the cut stay */
    for (int64_t i = 0; i <= last && i < n; i++)
        equals += s->sorted[i] == cut;
    for (int64_t i = 0; i < V; i++) {
        const bool tie = s->prob[i] == cut;
        if (s->prob[i] < cut || (tie && ties == LOGITS_CUT_TIES && equals-- <= 0))
            x[i] = fill;
    }
}
