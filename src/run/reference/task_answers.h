/* Answers of the model for the examples of a task, in their order: decoded texts, or scores of the
 * targets (spec/t5x.md 8, 9). */
#ifndef SPT_RUN_TASK_ANSWERS_H
#define SPT_RUN_TASK_ANSWERS_H

#include "run/reference/t5x_base.h"
#include "run/reference/task_data.h"

struct answerer {
    const struct t5x_base *base;
    int64_t batch;                 /* examples of a batch of the reference: draws of samples */
    int64_t Le, Ld;                /* feature lengths: width of decoding */
    int64_t together;              /* examples that are computed at one time */
    t5_acts *acts;                 /* of scores */
    struct decode_model *decoder;  /* of predictions */
    struct rng_key rng;            /* next key of sampling */
};
/* Le, Ld: longest input and target, or the configured feature lengths. */
spt_status answerer_open(struct answerer *a, const struct t5x_base *b, int64_t batch, int64_t Le,
                         int64_t Ld, bool predict, bool score, spt_err *err);
void answerer_close(struct answerer *a); /* accepts an all-zero object */

/* Examples [first, first + count) of the set. text[i]: decoded, from mem_alloc; score[i]: of the
 * decode. rng: where the keys of this pass start (one split per batch). SPT_E_INTERRUPTED when a
 * stop was asked for. */
spt_status answers_predict(struct answerer *a, const struct task_set *s, size_t first, size_t count,
                           struct rng_key rng, char **text, float *score, spt_err *err);
spt_status answers_score(struct answerer *a, const struct task_set *s, size_t first, size_t count,
                         float *score, spt_err *err);

#endif
