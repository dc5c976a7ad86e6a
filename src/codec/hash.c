#include "codec/hash.h"

#include <stdio.h>
/* Inlined, so that the state is ours (its layout is not part of the library's ABI). */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/mem.h"

struct hash_state {
    XXH3_state_t x;
};

static hash128 from_xxh(XXH128_hash_t h)
{
    return (hash128){h.high64, h.low64};
}

hash128 hash_bytes(const void *p, size_t n)
{
    return from_xxh(XXH3_128bits(n ? p : "", n));
}

char *hash_text(hash128 h, char text[HASH_TEXT])
{
    snprintf(text, HASH_TEXT, "%016llx%016llx", (unsigned long long)h.high,
             (unsigned long long)h.low);
    return text;
}

bool hash_from_text(const char *text, size_t len, hash128 *out)
{
    uint64_t half[2] = {0, 0};
    if (len != HASH_TEXT - 1)
        return false;
    for (size_t i = 0; i < len; i++) {
        const char ch = text[i];
        uint64_t digit;
        if (ch >= '0' && ch <= '9')
            digit = (uint64_t)(ch - '0');
        else if (ch >= 'a' && ch <= 'f')
            digit = (uint64_t)(ch - 'a' + 10);
        else
            return false;
        half[i / 16] = half[i / 16] << 4 | digit;
    }
    *out = (hash128){half[0], half[1]};
    return true;
}

bool hash_equal(hash128 a, hash128 b)
{
    return a.high == b.high && a.low == b.low;
}

spt_status hash_new(hash_state **out, spt_err *err)
{
    hash_state *h = mem_alloc_aligned(1, sizeof *h);
    if (!h)
        return err_nomem(err, sizeof *h);
    XXH3_128bits_reset(&h->x);
    *out = h;
    return SPT_OK;
}

void hash_add(hash_state *h, const void *p, size_t n)
{
    if (n)
        XXH3_128bits_update(&h->x, p, n);
}

hash128 hash_value(const hash_state *h)
{
    return from_xxh(XXH3_128bits_digest(&h->x));
}

void hash_reset(hash_state *h)
{
    XXH3_128bits_reset(&h->x);
}

void hash_free(hash_state *h)
{
    mem_free_aligned(h);
}

char *hash_library_version(char *text)
{
    const unsigned v = XXH_versionNumber();
    snprintf(text, 32, "%u.%u.%u", v / 10000, v / 100 % 100, v % 100);
    return text;
}
