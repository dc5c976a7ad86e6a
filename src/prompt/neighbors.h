/* What a prompt's rows are near to: pieces of the vocabulary by cosine and by Euclidean distance,
 * near-duplicate rows, norms, and the drift from a start. */
#ifndef SPT_PROMPT_NEIGHBORS_H
#define SPT_PROMPT_NEIGHBORS_H

#include "prompt/init.h"

enum neighbor_metric { NEIGHBOR_COSINE, NEIGHBOR_L2 };

struct neighbor {
    int32_t id;
    double value; /* cosine (larger is nearer) or distance (smaller is nearer) */
};

/* The k nearest of `rows` embedding rows for every prompt row: out[P * k], nearest first, ties by
 * the smaller id. k is at most rows. Embeddings are fetched in blocks; computed in double. */
spt_status neighbors_find(const struct prompt *p, const struct prompt_init_env *env,
                          enum neighbor_metric metric, int64_t k, struct neighbor *out,
                          spt_err *err);

struct prompt_row_stats {
    double norm;         /* Euclidean */
    int64_t twin;        /* the other row of largest cosine, -1 when P is 1 */
    double twin_cosine;
    double drift;        /* distance to the same row of the start; NAN without one */
    double drift_cosine;
};
/* out[P]; start [P, E] may be NULL. */
void prompt_stats(const struct prompt *p, const float *start, struct prompt_row_stats *out);

#endif
