/* Gradients of prompts, each over a batch of its own: the sums of rulings 3, whatever ranges the
 * batches are cut into. The rows of several prompts share passes through the model where they can;
 * what a prompt gets does not depend on the others. Used by `spt train`, `spt sweep` and the gin
 * path. */
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
    int64_t least_P;        /* of several prompts: P is the most; 0: P */
    int64_t prompts;        /* that come together; 0: one */
    int64_t rows_in_flight; /* encoder rows of the largest range */
    int64_t micro_batch;    /* examples of a range; 0: as many as rows_in_flight holds */
    bool remat, absorb;     /* of t5_acts_plan */
    t5_acts *acts;
    struct gradient_work *work;
    float *sum; /* [P, E]: the result of gradient_of */
};

/* examples: of the largest step, over all prompts; longest_target: its ids, end mark included.
 * model, loss, P, E, rows_in_flight and so on are filled by the caller. */
spt_status gradient_open(struct gradient *g, int64_t examples, int64_t longest_target, bool decoder,
                         bool dropout, spt_err *err);
void gradient_close(struct gradient *g); /* accepts an all-zero object */
/* Bytes of what gradient_open took, without activations. */
size_t gradient_bytes(const struct gradient *g);

/* Fills g->sum and *loss (sums of the batch), the same bits on every rank and with any number of
 * them. rate 0: no dropout, key unused. SPT_E_NONFINITE names
 * the first tensor that is not finite. */
spt_status gradient_of(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                       float rate, struct rng_key key, struct t5_loss *loss, spt_err *err);

/* One prompt of several, and its batch. */
struct gradient_part {
    const struct prompt *prompt;
    const struct packed_batch *batch;
    const struct t5_loss_opts *loss_opts;
    float rate; /* of dropout; above 0 the part shares no pass */
    struct rng_key key;
    float *sum; /* [P, E], written */
    /* Results. */
    struct t5_loss loss;
    spt_status st; /* SPT_E_NONFINITE: this part only, the others are what they would be alone */
    spt_err err;
    /* Work. */
    int64_t shards, first, end, next; /* examples of this rank, and the next one */
    bool alone;                       /* fills passes by itself */
    int64_t wanted;                   /* rows of its ranges */
};
/* Fills sum, loss and st of every part: for each the bits of gradient_of. One process when there is
 * more than one part. */
spt_status gradient_of_parts(struct gradient *g, struct gradient_part *part, size_t n,
                             spt_err *err);

/* Forward only, without dropout: the loss and its counts. */
spt_status gradient_loss(struct gradient *g, const struct prompt *p, const struct packed_batch *b,
                         struct t5_loss *loss, spt_err *err);
/* SPT_E_NONFINITE naming row and column when a number of x [P, E] is not finite. */
spt_status gradient_check(const float *x, int64_t P, int64_t E, const char *name, spt_err *err);
/* The same for the prompt itself; also refuses rows whose mean square is not finite. */
spt_status gradient_check_prompt(const float *rows, int64_t P, int64_t E, spt_err *err);

#endif
