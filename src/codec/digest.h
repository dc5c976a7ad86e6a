/* MD5 and SHA-256, because others' formats are ordered and named by them (TFDS sorts records by
 * MD5, SeqIO's special texts are known by SHA-256). Not for security. */
#ifndef SPT_CODEC_DIGEST_H
#define SPT_CODEC_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { MD5_SIZE = 16, SHA256_SIZE = 32 };

void md5_of(const void *bytes, size_t n, uint8_t out[MD5_SIZE]);
void sha256_of(const void *bytes, size_t n, uint8_t out[SHA256_SIZE]);

/* In pieces: start, more ..., finish (after which only start may follow). */
typedef struct sha256_state {
    uint32_t h[8];
    uint64_t bytes;
    uint8_t rest[64]; /* the last bytes % 64 of them */
} sha256_state;
void sha256_start(sha256_state *s);
void sha256_more(sha256_state *s, const void *bytes, size_t n);
void sha256_finish(sha256_state *s, uint8_t out[SHA256_SIZE]);

#endif
