/* Relative-position buckets (spec/t5x.md section 1.12), unrolled once into a bias per distance: a
 * bucket depends on key - query alone, and all distances beyond max_distance share the last one. */
#include <math.h>

#include "model/model_internal.h"

int64_t relpos_span(const struct t5_config *c)
{
    return c->max_distance > c->buckets ? c->max_distance : c->buckets;
}

int64_t relpos_bucket(int64_t distance, int64_t buckets, int64_t max_distance, bool bidirectional)
{
    int64_t base = 0, n = -distance, nb = buckets;
    if (bidirectional) {
        nb /= 2;
        base = n < 0 ? nb : 0;
        n = n < 0 ? -n : n;
    } else if (n < 0) {
        n = 0;
    }
    const int64_t max_exact = nb / 2;
    if (n < max_exact)
        return base + n;
    /* float32 with its epsilon, as the reference computes it. */
    const float x = logf((float)n / (float)max_exact + 0x1p-23f) /
                    (float)log((double)max_distance / (double)max_exact);
    const float large = x * (float)(nb - max_exact);
    const int64_t bucket = large < (float)nb ? max_exact + (int64_t)large : nb - 1;
    return base + (bucket < nb - 1 ? bucket : nb - 1);
}

void relpos_by_distance(const float *table, int64_t heads, int64_t buckets, int64_t max_distance,
                        bool bidirectional, int64_t span, float *out)
{
    for (int64_t d = -span; d <= span; d++) {
        const int64_t bucket = relpos_bucket(d, buckets, max_distance, bidirectional);
        for (int64_t h = 0; h < heads; h++)
            out[h * (2 * span + 1) + d + span] = table[h * buckets + bucket];
    }
}
