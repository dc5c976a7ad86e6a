/* What a prompt has become: nearest pieces of the vocabulary, twins, norms, drift from its start
 * (Lester et al. 2021, section 7), for `spt neighbors` and `spt report`. */
#ifndef SPT_RUN_NEIGHBORS_H
#define SPT_RUN_NEIGHBORS_H

#include "prompt/neighbors.h"
#include "run/engine.h"

struct neighborhood {
    int64_t P, k;
    struct neighbor *cosine, *l2;   /* [P, k] */
    struct prompt_row_stats *stats; /* [P] */
    double *row_cosine;             /* [P, P] between the prompt's own rows */
    char *start;                    /* what drift is measured from, or NULL */
};

/* The engine needs no model. start: a prompt file of the same shape, "" or NULL: made again from
 * what the prompt file says of itself, where it says enough. */
spt_status neighborhood_find(struct engine *e, const struct prompt *p, const char *start, int64_t k,
                             struct neighborhood *out, spt_err *err);
void neighborhood_release(struct neighborhood *n); /* accepts an all-zero object */
/* Charts and table, as parts of a page. */
void neighborhood_html(buf *out, const struct neighborhood *n, const vocab *v);

#endif
