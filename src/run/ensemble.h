/* Answers of several prompts to the same examples made one (Lester et al. 2021, section 6). */
#ifndef SPT_RUN_ENSEMBLE_H
#define SPT_RUN_ENSEMBLE_H

#include "run/evaluate.h"

struct ensemble {
    struct answers vote; /* what most members say; ties: the larger mean log-likelihood, else the
                            answer of the earlier member. score and prob are means over members */
    struct answers mean; /* the label of the largest mean log-likelihood; n 0 when decoded */
    float *agreement;    /* [n] share of the members that say what the vote says */
};

/* a: [members] answers to the same n >= 1 examples, with the same labels. */
spt_status ensemble_combine(const struct answers *a, size_t members, const struct task_text *t,
                            bool per_token, struct ensemble *out, spt_err *err);
void ensemble_release(struct ensemble *e); /* accepts an all-zero object */

#endif
