#include "data/shuffle.h"

#include "random/threefry.h"

struct stream { /* 32-bit numbers: blocks of the counter 0, 1, 2, ... under one key */
    uint32_t key[2];
    uint64_t block;
    uint32_t word[2];
    unsigned left;
};

static uint32_t next_word(struct stream *s)
{
    if (!s->left) {
        s->word[0] = (uint32_t)(s->block >> 32);
        s->word[1] = (uint32_t)s->block;
        threefry2x32(s->key, s->word);
        s->block++;
        s->left = 2;
    }
    return s->word[2 - s->left--];
}

/* Uniform in [0, n): the high half of a product, low halves that would favour some results are
 * drawn again (Lemire). */
static uint32_t below(struct stream *s, uint32_t n)
{
    uint64_t m = (uint64_t)next_word(s) * n;
    if ((uint32_t)m < n) {
        const uint32_t least = (uint32_t)(0 - n) % n;
        while ((uint32_t)m < least)
            m = (uint64_t)next_word(s) * n;
    }
    return (uint32_t)(m >> 32);
}

void shuffle_epoch(uint64_t seed, uint64_t epoch, uint32_t *order, size_t count)
{
    /* The key of an epoch: its number encrypted under the seed. */
    const uint32_t seed_key[2] = {(uint32_t)(seed >> 32), (uint32_t)seed};
    uint32_t key[2] = {(uint32_t)(epoch >> 32), (uint32_t)epoch};
    threefry2x32(seed_key, key);
    struct stream s = {.key = {key[0], key[1]}};
    for (size_t i = 0; i < count; i++)
        order[i] = (uint32_t)i;
    for (size_t i = count; i > 1; i--) {
        const uint32_t j = below(&s, (uint32_t)i);
        const uint32_t t = order[i - 1];
        order[i - 1] = order[j];
        order[j] = t;
    }
}
