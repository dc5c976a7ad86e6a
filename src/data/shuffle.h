/* The order of an epoch: a uniform permutation that depends on nothing but seed, epoch and count
 * (Fisher-Yates over Threefry-2x32 counters). */
#ifndef SPT_DATA_SHUFFLE_H
#define SPT_DATA_SHUFFLE_H

#include "base/status.h"

/* order: [count], count < 2^32. */
void shuffle_epoch(uint64_t seed, uint64_t epoch, uint32_t *order, size_t count);

#endif
