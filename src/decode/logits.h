/* Arithmetic on one row of logits, float32, in a fixed order. */
#ifndef SPT_DECODE_LOGITS_H
#define SPT_DECODE_LOGITS_H

#include <stdbool.h>

#include "base/status.h"

/* log_softmax(x)[i] = (x[i] - max) - lse */
struct logits_norm {
    float max, lse;
};

/* False when the row has a NaN, an infinity above, or no finite value. -inf is a banned token. */
bool logits_usable(const float *x, int64_t V);
/* NaN in lse when the row is not usable. */
struct logits_norm logits_normalizer(const float *x, int64_t V);
static inline float logits_log_prob(struct logits_norm n, float x)
{
    return (x - n.max) - n.lse;
}
/* x := log_softmax(x) */
void logits_log_softmax(float *x, int64_t V, struct logits_norm n);
/* Lowest index of the largest value; NaN never wins. */
int32_t logits_argmax(const float *x, int64_t V);
/* First index >= from where log_softmax(x) + add > floor; V when there is none. n = {0, 0}: x
 * itself instead of its log_softmax. */
int64_t logits_next_above(const float *x, int64_t V, int64_t from, struct logits_norm n, float add,
                          float floor);

/* Keeps x >= the k-th largest value (all ties at the cut), sets the others to fill. scratch: [k].
 */
void logits_top_k(float *x, int64_t V, int64_t k, float fill, float *scratch);

/* Nucleus: the smallest set of most probable tokens whose mass reaches p. */
enum logits_ties {
    LOGITS_KEEP_TIES, /* T5X: a threshold, equals of the last token stay */
    LOGITS_CUT_TIES   /* Hugging Face: a sorted prefix; of equals the lower indices stay */
};
struct logits_scratch; /* for top-p */
spt_status logits_scratch_new(int64_t V, struct logits_scratch **out, spt_err *err);
void logits_scratch_free(struct logits_scratch *s);
void logits_top_p(float *x, int64_t V, double p, enum logits_ties ties, float fill,
                  struct logits_scratch *scratch);

#endif
