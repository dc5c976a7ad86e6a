/* What the searches share. */
#ifndef SPT_DECODE_DECODE_INTERNAL_H
#define SPT_DECODE_DECODE_INTERNAL_H

#include "base/mem.h"
#include "decode/decode.h"
#include "decode/logits.h"

/* What a step feeds: one entry per sequence that is still going, and the logits that come back. */
struct decode_feed {
    int64_t rows, cap;
    int32_t *example, *parent, *token; /* [cap] */
    float *logits;                     /* [cap, V] */
};

spt_status feed_init(struct decode_feed *f, int64_t cap, int64_t V, spt_err *err);
void feed_release(struct decode_feed *f);
/* Appends a row and returns its index. */
int32_t feed_add(struct decode_feed *f, int64_t example, int32_t parent, int32_t token);
/* parent is NULL in the first step. */
spt_status feed_step(struct decode_feed *f, const struct decode_stepper *s, bool first,
                     spt_err *err);
/* SPT_E_NONFINITE that names the example. */
spt_status bad_logits(int64_t example, spt_err *err);

/* The forced token of step i (0: free); columns behind the last one: T5X's beam search repeats the
 * last column, its sampling takes 0. */
int32_t forced_at(const struct decode_batch *b, int64_t example, int64_t step, bool clamp);

/* The sequence (without start token) ends in a stop sequence, or the function says so. */
bool stops_here(const struct decode_opts *o, int64_t example, const int32_t *tokens, int64_t n);

/* The best candidates so far, descending; equal values keep the order in which they came. */
struct decode_candidate {
    float value;
    int32_t beam, token;
};
struct decode_top {
    int64_t n, want;
    struct decode_candidate *c; /* [want] */
};
void top_offer(struct decode_top *t, float value, int32_t beam, int32_t token);
/* Offers value(i) = x[i] + add, or (log_softmax(x)[i]) + add when norm is given. */
void top_offer_row(struct decode_top *t, const float *x, int64_t V, const struct logits_norm *norm,
                   float add, int32_t beam);

/* Hugging Face's processors over one row of scores; tokens: generated so far, [n]. */
bool processors_needed(const struct decode_opts *o);
void processors_apply(const struct decode_opts *o, const int32_t *tokens, int64_t n, float *x,
                      int64_t V);

spt_status beam_t5x_run(const struct decode_stepper *s, const struct decode_batch *batch,
                        const struct decode_opts *o, struct decode_out *out, spt_err *err);
spt_status beam_hf_run(const struct decode_stepper *s, const struct decode_batch *batch,
                       const struct decode_opts *o, struct decode_out *out, spt_err *err);
spt_status sample_run(const struct decode_stepper *s, const struct decode_batch *batch,
                      const struct decode_opts *o, struct decode_out *out, spt_err *err);

#endif
