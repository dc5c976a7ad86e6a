/* Philox4x32-10 and TensorFlow's use of it: a key of 64 bits, a counter of 128 bits, four words per
 * block. Only what must repeat TensorFlow's orders needs it; our own randomness is Threefry. */
#ifndef SPT_RANDOM_PHILOX_H
#define SPT_RANDOM_PHILOX_H

#include <stdint.h>

/* One block: words of the counter (least significant first) under a key. */
void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

typedef struct philox {
    uint32_t key[2], counter[4];
    uint32_t block[4];
    unsigned used; /* words of the block already handed out; 4: none left */
} philox;

/* TensorFlow's generator of two seeds: key = a, upper half of the counter = b. */
void philox_init(philox *p, uint64_t a, uint64_t b);
uint32_t philox_next(philox *p);

#endif
