/* Batches of examples as the model wants them (tensor/packed.h), for training and evaluation. */
#ifndef SPT_DATA_BATCH_H
#define SPT_DATA_BATCH_H

#include "data/examples.h"
#include "tensor/packed.h"

/* Storage of one batch, reused from step to step (no allocation once it is large enough). */
typedef struct batch {
    struct packed_batch view;
    struct batch_storage *storage;
} batch;

/* The examples with these indices, in this order. view.index[b] = which[b]; decoder inputs are
 * targets shifted right behind id 0. Le, Ld: feature lengths for the numbers that depend on them,
 * 0: the longest of the batch. Any subset can be made: micro-batches, shards, ranks. */
spt_status batch_make(batch *b, const examples *e, const uint32_t *which, size_t n, int64_t Le,
                      int64_t Ld, spt_err *err);
/* The same from examples that live elsewhere (streams, servers). */
spt_status batch_from(batch *b, const struct example *x, size_t n, int64_t Le, int64_t Ld,
                      spt_err *err);
void batch_release(batch *b); /* accepts an all-zero object */

/* --- training order ----------------------------------------------------------------------- */

struct batch_position { /* all that a checkpoint needs besides seed and data */
    uint64_t epoch;     /* 0-based */
    uint64_t offset;    /* examples of this epoch already handed out */
};

struct train_order_options {
    size_t count; /* examples */
    size_t batch; /* examples per step */
    uint64_t seed;
    bool in_order;  /* no shuffling */
    bool drop_last; /* the incomplete batch at the end of an epoch is dropped (the reference) */
};

typedef struct train_order train_order;
/* drop_last with fewer examples than a batch is SPT_E_CONFIG; count 0 too. */
spt_status train_order_new(const struct train_order_options *o, train_order **out, spt_err *err);
void train_order_free(train_order *t);
/* Indices of the next batch, valid until the next call; epochs follow one another for ever. */
spt_status train_order_next(train_order *t, const uint32_t **which, size_t *n, spt_err *err);
/* The position before the next batch; seeking there gives the same sequence from there on. */
struct batch_position train_order_tell(const train_order *t);
/* SPT_E_FORMAT when the position cannot be one of this order. */
spt_status train_order_seek(train_order *t, struct batch_position p, spt_err *err);
uint64_t train_order_steps_per_epoch(const train_order *t);

/* --- evaluation order --------------------------------------------------------------------- */

/* Examples grouped by near-equal work (longest first), each exactly once; which example an index
 * is stands in the batch, so that results go back in input order. Groups depend only on the data
 * and the options. */
typedef struct eval_order eval_order;
spt_status eval_order_new(const examples *e, size_t batch, eval_order **out, spt_err *err);
void eval_order_free(eval_order *t);
size_t eval_order_batches(const eval_order *t);
void eval_order_at(const eval_order *t, size_t i, const uint32_t **which, size_t *n);

#endif
