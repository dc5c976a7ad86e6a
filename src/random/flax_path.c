/* flax/core/scope.py: lazy hashes the whole path at once, legacy folds one name in after another.
 * Both take the first four bytes of SHA-1, big-endian. SHA-1 is here, and private, because this is
 * the only use of it: as a mixing function, never for integrity. */
#include "random/flax_path.h"

#include <string.h>

struct sha1 {
    uint32_t h[5];
    uint64_t length; /* bytes so far */
    unsigned char block[64];
};

static uint32_t rotl(uint32_t x, int r)
{
    return x << r | x >> (32 - r);
}

static void sha1_init(struct sha1 *s)
{
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(s->h, start, sizeof start);
    s->length = 0;
}

static void sha1_block(struct sha1 *s)
{
    uint32_t w[80];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)s->block[4 * i] << 24 | (uint32_t)s->block[4 * i + 1] << 16 |
               (uint32_t)s->block[4 * i + 2] << 8 | s->block[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = rotl(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    uint32_t a = s->h[0], b = s->h[1], c = s->h[2], d = s->h[3], e = s->h[4];
    for (int i = 0; i < 80; i++) {
        uint32_t f, k;
        if (i < 20)
            f = (b & c) | (~b & d), k = 0x5a827999;
        else if (i < 40)
            f = b ^ c ^ d, k = 0x6ed9eba1;
        else if (i < 60)
            f = (b & c) | (b & d) | (c & d), k = 0x8f1bbcdc;
        else
            f = b ^ c ^ d, k = 0xca62c1d6;
        const uint32_t t = rotl(a, 5) + f + e + k + w[i];
        e = d, d = c, c = rotl(b, 30), b = a, a = t;
    }
    s->h[0] += a, s->h[1] += b, s->h[2] += c, s->h[3] += d, s->h[4] += e;
}

static void sha1_add(struct sha1 *s, const void *bytes, size_t n)
{
    const unsigned char *p = bytes;
    for (size_t i = 0; i < n; i++) {
        s->block[s->length++ % 64] = p[i];
        if (s->length % 64 == 0)
            sha1_block(s);
    }
}

/* The first word of the digest. */
static uint32_t sha1_word(struct sha1 *s)
{
    const uint64_t bits = s->length * 8;
    unsigned char size[8];
    for (int i = 0; i < 8; i++)
        size[i] = (unsigned char)(bits >> (56 - 8 * i));
    sha1_add(s, "\x80", 1);
    while (s->length % 64 != 56)
        sha1_add(s, "", 1);
    sha1_add(s, size, sizeof size);
    return s->h[0];
}

static size_t name_length(const char *p)
{
    return strcspn(p, "/");
}

static struct rng_key lazy_key(struct rng_key key, const char *path, uint32_t counter)
{
    struct sha1 s;
    sha1_init(&s);
    for (const char *p = path; *p;) {
        const size_t n = name_length(p);
        sha1_add(&s, p, n);
        p += n + (p[n] == '/');
    }
    for (int shift = 24; shift >= 0; shift -= 8) { /* big-endian, minimal length */
        const unsigned char byte = (unsigned char)(counter >> shift);
        if (counter >> shift)
            sha1_add(&s, &byte, 1);
    }
    return rng_fold_in(key, sha1_word(&s));
}

static struct rng_key legacy_key(struct rng_key key, const char *path, uint32_t counter)
{
    for (const char *p = path; *p;) {
        const size_t n = name_length(p);
        struct sha1 s;
        sha1_init(&s);
        sha1_add(&s, p, n);
        key = rng_fold_in(key, sha1_word(&s));
        p += n + (p[n] == '/');
    }
    return rng_fold_in(key, counter);
}

struct rng_key flax_path_key(struct rng_key stream, const char *path, uint32_t counter,
                             enum flax_rng mode)
{
    return mode == FLAX_LEGACY ? legacy_key(stream, path, counter)
                               : lazy_key(stream, path, counter);
}
