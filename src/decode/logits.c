/* Rows of logits. A vocabulary has 32,000 to 250,000 entries and a row is passed over several times
 * per step, so that exp() is our own and its loops are compiled for three instruction sets
 * (decode/logits_kernels.h); their bits are the same everywhere. */
#include "decode/logits.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "decode/logits_kernels.h"

static const struct logits_kernels *kernels(void)
{
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return &logits_kernels_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &logits_kernels_avx2;
#endif
    return &logits_kernels_base;
}

bool logits_usable(const float *x, int64_t V)
{
    const struct logits_kernels *k = kernels();
    return isfinite(k->max(x, V)) && !k->has_nan(x, V);
}

struct logits_norm logits_normalizer(const float *x, int64_t V)
{
    const struct logits_kernels *k = kernels();
    const float max = k->max(x, V);
    if (!isfinite(max) || k->has_nan(x, V))
        return (struct logits_norm){NAN, NAN};
    return (struct logits_norm){max, (float)log(k->sum_exp(x, V, max, NULL))};
}

void logits_log_softmax(float *x, int64_t V, struct logits_norm n)
{
    kernels()->shift(x, V, n.max, n.lse);
}

int32_t logits_argmax(const float *x, int64_t V)
{
    const struct logits_kernels *k = kernels();
    const float max = k->max(x, V);
    const int64_t at = k->next_above(x, V, 0, 0, 0, 0, nextafterf(max, -INFINITY));
    return at < V ? (int32_t)at : 0;
}

int64_t logits_next_above(const float *x, int64_t V, int64_t from, struct logits_norm n, float add,
                          float floor)
{
    return kernels()->next_above(x, V, from, n.max, n.lse, add, floor);
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
    const struct logits_kernels *k = kernels();
    const float max = k->max(x, V), sum = (float)k->sum_exp(x, V, max, s->prob);
    memset(s->mass, 0, sizeof s->mass);
    for (int64_t i = 0; i < V; i++) {
        /* masked entries have no mass at all, although exp ends at 1e-38 */
        s->prob[i] = x[i] - max < -80.0f ? 0 : s->prob[i] / sum;
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
