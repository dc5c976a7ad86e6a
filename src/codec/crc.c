#include "codec/crc.h"

#include <stdatomic.h>
#include <string.h>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

enum { SLICES = 8 };
#define POLYNOMIAL 0x82f63b78u /* 0x1edc6f41 with its bits reversed */

/* table[k][b]: the CRC of byte b followed by k zero bytes. Built on first use; every builder
 * writes the same numbers, and `ready` is set last. */
static uint32_t table[SLICES][256];
static atomic_int ready;

static void build_table(void)
{
    uint32_t first[256];
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++)
            c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
        first[b] = c;
    }
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = first[b];
        __atomic_store_n(&table[0][b], c, __ATOMIC_RELAXED);
        for (int k = 1; k < SLICES; k++) {
            c = c >> 8 ^ first[c & 0xff];
            __atomic_store_n(&table[k][b], c, __ATOMIC_RELAXED);
        }
    }
    atomic_store_explicit(&ready, 1, memory_order_release);
}

uint32_t crc32c_extend_portable(uint32_t crc, const void *bytes, size_t size)
{
    if (!atomic_load_explicit(&ready, memory_order_acquire))
        build_table();
    const unsigned char *p = bytes;
    uint32_t c = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        const uint32_t lo = c ^ ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 |
                                 (uint32_t)p[3] << 24);
        c = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff] ^ table[5][lo >> 16 & 0xff] ^
            table[4][lo >> 24] ^ table[3][p[4]] ^ table[2][p[5]] ^ table[1][p[6]] ^ table[0][p[7]];
    }
    for (; size; size--, p++)
        c = c >> 8 ^ table[0][(c ^ *p) & 0xff];
    return ~c;
}

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t extend_sse42(uint32_t crc, const void *bytes,
                                                               size_t size)
{
    const unsigned char *p = bytes;
    uint64_t c = ~crc;
    for (; size >= 8; size -= 8, p += 8) {
        uint64_t v;
        memcpy(&v, p, sizeof v);
        c = _mm_crc32_u64(c, v);
    }
    for (; size; size--, p++)
        c = _mm_crc32_u8((uint32_t)c, *p);
    return ~(uint32_t)c;
}
#endif

uint32_t crc32c_extend(uint32_t crc, const void *bytes, size_t size)
{
#if defined(__x86_64__)
    /* never: the other way is for processors before 2008; a test calls it by name */
    if (__builtin_cpu_supports("sse4.2"))
        return extend_sse42(crc, bytes, size);
#endif
    return crc32c_extend_portable(crc, bytes, size);
}

uint32_t crc32c(const void *bytes, size_t size)
{
    return crc32c_extend(0, bytes, size);
}

#define MASK_DELTA 0xa282ead8u

uint32_t crc32c_mask(uint32_t crc)
{
    return (crc >> 15 | crc << 17) + MASK_DELTA;
}

uint32_t crc32c_unmask(uint32_t masked)
{
    const uint32_t rot = masked - MASK_DELTA;
    return rot >> 17 | rot << 15;
}
