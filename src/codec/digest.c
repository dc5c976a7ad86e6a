/* RFC 1321 and FIPS 180-4, straight from the texts: both pad the message to blocks of 64 bytes and
 * run 64 rounds over each. */
#include "codec/digest.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

static uint32_t left(uint32_t x, unsigned n)
{
    return x << n | x >> (32 - n);
}

static uint32_t right(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

static void md5_block(uint32_t *state, const uint8_t *p)
{
    static const uint8_t shift[4][4] = {
        {7, 12, 17, 22}, {5, 9, 14, 20}, {4, 11, 16, 23}, {6, 10, 15, 21}};
    static const uint32_t sine[64] = {
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613,
        0xfd469501, 0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193,
        0xa679438e, 0x49b40821, 0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d,
        0x02441453, 0xd8a1e681, 0xe7d3fbc8, 0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed,
        0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a, 0xfffa3942, 0x8771f681, 0x6d9d6122,
        0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70, 0x289b7ec6, 0xeaa127fa,
        0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665, 0xf4292244,
        0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
        0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb,
        0xeb86d391};
    uint32_t m[16], a = state[0], b = state[1], c = state[2], d = state[3];
    for (int i = 0; i < 16; i++)
        m[i] = (uint32_t)p[4 * i] | (uint32_t)p[4 * i + 1] << 8 | (uint32_t)p[4 * i + 2] << 16 |
               (uint32_t)p[4 * i + 3] << 24;
    for (unsigned i = 0; i < 64; i++) {
        uint32_t f;
        unsigned g;
        switch (i / 16) {
        case 0:
            f = (b & c) | (~b & d);
            g = i;
            break;
        case 1:
            f = (d & b) | (~d & c);
            g = (5 * i + 1) % 16;
            break;
        case 2:
            f = b ^ c ^ d;
            g = (3 * i + 5) % 16;
            break;
        default:
            f = c ^ (b | ~d);
            g = 7 * i % 16;
            break;
        }
        const uint32_t t = d;
        d = c;
        c = b;
        b += left(a + f + sine[i] + m[g], shift[i / 16][i % 4]);
        a = t;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
}

static const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

static void sha256_block(uint32_t *state, const uint8_t *p)
{
    uint32_t w[64], s[8];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | (uint32_t)p[4 * i + 3];
    for (int i = 16; i < 64; i++) {
        const uint32_t x = w[i - 15], y = w[i - 2];
        w[i] = w[i - 16] + (right(x, 7) ^ right(x, 18) ^ x >> 3) + w[i - 7] +
               (right(y, 17) ^ right(y, 19) ^ y >> 10);
    }
    memcpy(s, state, sizeof s);
    for (int i = 0; i < 64; i++) {
        const uint32_t e = s[4], a = s[0];
        const uint32_t t1 = s[7] + (right(e, 6) ^ right(e, 11) ^ right(e, 25)) +
                            ((e & s[5]) ^ (~e & s[6])) + sha256_k[i] + w[i];
        const uint32_t t2 =
            (right(a, 2) ^ right(a, 13) ^ right(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
        memmove(s + 1, s, 7 * sizeof *s);
        s[4] += t1;
        s[0] = t1 + t2;
    }
    for (int i = 0; i < 8; i++)
        state[i] += s[i];
}

void md5_of(const void *bytes, size_t n, uint8_t out[MD5_SIZE])
{
    uint32_t state[4] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476};
    uint8_t tail[128] = {0};
    const uint8_t *p = bytes;
    const size_t whole = n / 64 * 64, rest = n - whole, size = rest + 9 > 64 ? 128 : 64;
    for (size_t i = 0; i < whole; i += 64)
        md5_block(state, p + i);
    if (rest)
        memcpy(tail, p + whole, rest);
    tail[rest] = 0x80;
    for (size_t i = 0; i < 8; i++)
        tail[size - 8 + i] = (uint8_t)((uint64_t)n * 8 >> (8 * i));
    for (size_t i = 0; i < size; i += 64)
        md5_block(state, tail + i);
    for (int i = 0; i < MD5_SIZE; i++)
        out[i] = (uint8_t)(state[i / 4] >> 8 * (i % 4));
}

/* --- whole blocks with the processor's own instructions ----------------------------------------
 *
 * Files of gigabytes are checked while they arrive: the plain loop does 250 MB/s, these rounds over
 * 1,500. The state lives in two registers as ABEF and CDGH, as the instructions want it. */
#if defined(__x86_64__)
static bool has_sha(void)
{
    unsigned a, b, c, d;
    __builtin_cpu_init();
    return __builtin_cpu_supports("ssse3") && __builtin_cpu_supports("sse4.1") &&
           __get_cpuid_count(7, 0, &a, &b, &c, &d) && b & 1u << 29;
}

__attribute__((target("sha,sse4.1,ssse3"))) static void sha256_blocks_ni(uint32_t *state,
                                                                         const uint8_t *p, size_t n)
{
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m128i t = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)state), 0xb1);
    __m128i s1 =
        _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(const void *)(state + 4)), 0x1b);
    __m128i s0 = _mm_alignr_epi8(t, s1, 8);
    s1 = _mm_blend_epi16(s1, t, 0xf0);
    for (; n; n--, p += 64) {
        const __m128i abef = s0, cdgh = s1;
        __m128i w[4];
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)(p + 16 * i)),
                                    order);
        for (int i = 0; i < 16; i++) { /* four rounds each */
            const __m128i k = _mm_loadu_si128((const __m128i *)(const void *)(sha256_k + 4 * i));
            const __m128i x = _mm_add_epi32(w[i % 4], k);
            s1 = _mm_sha256rnds2_epu32(s1, s0, x);
            s0 = _mm_sha256rnds2_epu32(s0, s1, _mm_shuffle_epi32(x, 0x0e));
            if (i < 12) { /* the words of round 4 (i + 4) */
                const __m128i mid = _mm_alignr_epi8(w[(i + 3) % 4], w[(i + 2) % 4], 4);
                w[i % 4] = _mm_sha256msg1_epu32(w[i % 4], w[(i + 1) % 4]);
                w[i % 4] = _mm_sha256msg2_epu32(_mm_add_epi32(w[i % 4], mid), w[(i + 3) % 4]);
            }
        }
        s0 = _mm_add_epi32(s0, abef);
        s1 = _mm_add_epi32(s1, cdgh);
    }
    t = _mm_shuffle_epi32(s0, 0x1b);
    s1 = _mm_shuffle_epi32(s1, 0xb1);
    _mm_storeu_si128((__m128i *)(void *)state, _mm_blend_epi16(t, s1, 0xf0));
    _mm_storeu_si128((__m128i *)(void *)(state + 4), _mm_alignr_epi8(s1, t, 8));
}
#endif

static void sha256_blocks(uint32_t *state, const uint8_t *p, size_t n)
{
#if defined(__x86_64__)
    static atomic_int known; /* 0: not asked yet, 1: no, 2: yes */
    int k = known;
    if (!k)
        known = k = has_sha() ? 2 : 1; /* never: one processor has one answer */
    if (k == 2) {                      /* never: one processor has one answer */
        sha256_blocks_ni(state, p, n);
        return;
    }
#endif
    for (; n; n--, p += 64)
        sha256_block(state, p);
}

void sha256_start(sha256_state *s)
{
    static const uint32_t start[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                      0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    memcpy(s->h, start, sizeof start);
    s->bytes = 0;
}

void sha256_more(sha256_state *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    const size_t have = (size_t)(s->bytes % 64);
    s->bytes += n;
    if (have) {
        const size_t take = n < 64 - have ? n : 64 - have;
        memcpy(s->rest + have, p, take);
        p += take;
        n -= take;
        if (have + take < 64)
            return;
        sha256_block(s->h, s->rest);
    }
    sha256_blocks(s->h, p, n / 64);
    p += n / 64 * 64;
    n %= 64;
    if (n)
        memcpy(s->rest, p, n);
}

void sha256_finish(sha256_state *s, uint8_t out[SHA256_SIZE])
{
    uint8_t tail[128] = {0};
    const size_t rest = (size_t)(s->bytes % 64), size = rest + 9 > 64 ? 128 : 64;
    memcpy(tail, s->rest, rest);
    tail[rest] = 0x80;
    for (size_t i = 0; i < 8; i++)
        tail[size - 8 + i] = (uint8_t)(s->bytes * 8 >> (56 - 8 * i));
    for (size_t i = 0; i < size; i += 64)
        sha256_block(s->h, tail + i);
    for (int i = 0; i < SHA256_SIZE; i++)
        out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_SIZE])
{
    sha256_state s;
    sha256_start(&s);
    sha256_more(&s, bytes, n);
    sha256_finish(&s, out);
}

static void sha1_block(uint32_t *state, const uint8_t *p)
{
    static const uint32_t k[4] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
    uint32_t w[80], a = state[0], b = state[1], c = state[2], d = state[3], e = state[4];
    for (int i = 0; i < 16; i++)
        w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
               (uint32_t)p[4 * i + 2] << 8 | (uint32_t)p[4 * i + 3];
    for (int i = 16; i < 80; i++)
        w[i] = left(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
    for (int i = 0; i < 80; i++) {
        const uint32_t f = i < 20   ? (b & c) | (~b & d)
                           : i < 40 ? b ^ c ^ d
                           : i < 60 ? (b & c) | (b & d) | (c & d)
                                    : b ^ c ^ d;
        const uint32_t t = left(a, 5) + f + e + k[i / 20] + w[i];
        e = d;
        d = c;
        c = left(b, 30);
        b = a;
        a = t;
    }
    state[0] += a;
    state[1] += b;
    state[2] += c;
    state[3] += d;
    state[4] += e;
}

void sha1_start(sha1_state *s)
{
    static const uint32_t start[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
    memcpy(s->h, start, sizeof start);
    s->bytes = 0;
}

void sha1_more(sha1_state *s, const void *bytes, size_t n)
{
    const uint8_t *p = bytes;
    while (n) {
        const size_t have = (size_t)(s->bytes % 64), take = n < 64 - have ? n : 64 - have;
        memcpy(s->rest + have, p, take);
        s->bytes += take;
        p += take;
        n -= take;
        if (have + take == 64)
            sha1_block(s->h, s->rest);
    }
}

void sha1_finish(sha1_state *s, uint8_t out[SHA1_SIZE])
{
    static const uint8_t end[64] = {0x80};
    const uint64_t bits = s->bytes * 8;
    uint8_t length[8];
    for (size_t i = 0; i < 8; i++)
        length[i] = (uint8_t)(bits >> (56 - 8 * i));
    sha1_more(s, end,
              (size_t)(119 - s->bytes % 64) % 64 + 1); /* up to 8 bytes before a block's end */
    sha1_more(s, length, sizeof length);
    for (int i = 0; i < SHA1_SIZE; i++)
        out[i] = (uint8_t)(s->h[i / 4] >> (24 - 8 * (i % 4)));
}

char *digest_text(const uint8_t *digest, size_t n, char *text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        text[2 * i] = digits[digest[i] >> 4];
        text[2 * i + 1] = digits[digest[i] & 15];
    }
    text[2 * n] = '\0';
    return text;
}
