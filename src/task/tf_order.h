/* The orders in which the reference's input pipeline hands out examples, for runs that must see the
 * same batches: shuffle buffer, interleave of files, choices of a mixture (spec/data.md 1.5, 4). */
#ifndef SPT_TASK_TF_ORDER_H
#define SPT_TASK_TF_ORDER_H

#include <stdbool.h>

#include "base/status.h"
#include "random/philox.h"

/* Draws of a seeded data set: TensorFlow pairs the seed with its constant 87654321. */
void tf_random_init(philox *p, int64_t seed);

/* --- shuffle buffer ----------------------------------------------------------------------- */

/* Elements are numbers (positions of examples). Confined to one thread. */
typedef struct tf_shuffle tf_shuffle;
/* seed: of the data set. reshuffle: every tf_shuffle_restart() draws a new order from the seed, as
 * shuffle() does between epochs. */
spt_status tf_shuffle_new(size_t size, int64_t seed, tf_shuffle **out, spt_err *err);
void tf_shuffle_free(tf_shuffle *s); /* accepts NULL */
/* Next epoch: empty buffer, the next generator of the seed. The first epoch needs no call. */
void tf_shuffle_restart(tf_shuffle *s);
/* More input is wanted before the next output, unless the input has ended. */
bool tf_shuffle_wants(const tf_shuffle *s);
void tf_shuffle_push(tf_shuffle *s, uint64_t element);
/* False when the buffer is empty. */
bool tf_shuffle_pop(tf_shuffle *s, uint64_t *element);
/* The same with given random values instead of the seed's. */
void tf_shuffle_use_values(tf_shuffle *s, const uint32_t *values, size_t n);

/* --- interleave --------------------------------------------------------------------------- */

/* Visits up to `cycle` open files in rotation, `block` records from each; a file that ends is
 * replaced at its slot's next turn. count[i]: records of file i. Calls fn for every record. */
typedef spt_status (*tf_interleave_fn)(void *ctx, size_t file, uint64_t record, spt_err *err);
spt_status tf_interleave(const uint64_t *count, size_t files, size_t cycle, size_t block,
                         tf_interleave_fn fn, void *ctx, spt_err *err);

/* --- mixtures ----------------------------------------------------------------------------- */

/* Which of n data sets the next example comes from. */
typedef struct tf_choices {
    philox random;
} tf_choices;
void tf_choices_init(tf_choices *c, int64_t seed);
size_t tf_choices_next(tf_choices *c, const double *weight, size_t n);

#endif
