/* Gradient of a prompt over one batch: the sum of rulings 3, whatever ranges the batch is cut into.
 * Used by `spt train` with plain options and by the gin path. */
#ifndef SPT_RUN_GRADIENT_H
#define SPT_RUN_GRADIENT_H

#include "comm/comm.h"
#include "model/model.h"
#include "prompt/prompt.h"
#include "random/threefry.h"

enum { GRADIENT_SHARDS = 16 }; /* rulings 3: fixed, so that any number of ranks gives the same bits */

/* The prompt's matrix as the model wants it; points into p (NULL: no prompt). */
struct t5_prompts prompts_of(const struct prompt *p);

struct gradient {
    const t5_model *model;
    comm *comm; /* ranks own whole shards; NULL: one process */
    /* With ranks: bits that go with the exchange (NULL: none), and those of all ranks. */
    unsigned (*ask)(void *ctx);
    void *ask_ctx;
    unsigned told;
    struct t5_loss_opts loss;
    int64_t P, E;
    int64_t rows_in_flight; /* encoder rows of the largest range */
    int64_t micro_batch;    /* examples of a range; 0: as many as rows_in_flight holds */
    bool remat, absorb;     /* of t5_acts_plan */
    t5_acts *acts;
    int32_t *shard_of; /* [batch] */
    struct t5_example_loss *each; /* [batch] */
    float *shards;     /* [GRADIENT_SHARDS, P, E] */
    float *sum;        /* [P, E]: the result */
    char *wire;        /* with ranks: what is exchanged, rank by rank */
    size_t *wire_n;    /* [ranks] bytes */
};

/* largest: examples of the largest batch; longest_target: its ids, end mark included. model, loss, P, E,
 * rows_in_flight, micro_batch, remat and absorb are filled by the caller. */
spt_status gradient_open(struct gradient *g, int64_t largest, int64_t longest_target, bool decoder,
                         bool dropout, spt_err *err);
void gradient_close(struct gradient *g); /* accepts an all-zero object */

/* Fills g->sum and *loss (sums of the batch), the same bits on every rank and with any number of
 * them. rate 0: no dropout, key unused. SPT_E_NONFINITE names
 * the first tensor that is not finite. */
spt_status gradient_of(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                       float rate, struct rng_key key, struct t5_loss *loss, spt_err *err);
/* Forward only, without dropout: the loss and its counts. */
spt_status gradient_loss(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                         struct t5_loss *loss, spt_err *err);
/* SPT_E_NONFINITE naming row and column when a number of x [P, E] is not finite. */
spt_status gradient_check(const struct gradient *g, const float *x, const char *name, spt_err *err);
/* The same for the prompt itself; also refuses rows whose mean square is not finite. */
spt_status gradient_check_prompt(const struct gradient *g, const float *rows, spt_err *err);

#endif
