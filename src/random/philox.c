/* Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011). */
#include "random/philox.h"

void philox_block(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint64_t a = (uint64_t)0xd2511f53u * c0, b = (uint64_t)0xcd9e8d57u * c2;
        const uint32_t n0 = (uint32_t)(b >> 32) ^ c1 ^ k0, n2 = (uint32_t)(a >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)b;
        c3 = (uint32_t)a;
        c0 = n0;
        c2 = n2;
        k0 += 0x9e3779b9u;
        k1 += 0xbb67ae85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void philox_init(philox *p, uint64_t a, uint64_t b)
{
    *p = (philox){.key = {(uint32_t)a, (uint32_t)(a >> 32)},
                  .counter = {0, 0, (uint32_t)b, (uint32_t)(b >> 32)},
                  .used = 4};
}

uint32_t philox_next(philox *p)
{
    if (p->used == 4) {
        philox_block(p->counter, p->key, p->block);
        for (int i = 0; i < 4 && ++p->counter[i] == 0;)
            i++;
        p->used = 0;
    }
    return p->block[p->used++];
}
