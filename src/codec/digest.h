/* MD5, SHA-1 and SHA-256, because others' formats are ordered and named by them (TFDS sorts records
 * by MD5, SeqIO's special texts are known by SHA-256, git names its blobs by SHA-1). Not for
 * security. */
#ifndef SPT_CODEC_DIGEST_H
#define SPT_CODEC_DIGEST_H

#include <stddef.h>
#include <stdint.h>

enum { MD5_SIZE = 16, SHA1_SIZE = 20, SHA256_SIZE = 32 };

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

/* The same for SHA-1. */
typedef struct sha1_state {
    uint32_t h[5];
    uint64_t bytes;
    uint8_t rest[64];
} sha1_state;
void sha1_start(sha1_state *s);
void sha1_more(sha1_state *s, const void *bytes, size_t n);
void sha1_finish(sha1_state *s, uint8_t out[SHA1_SIZE]);

/* Lower-case hex digits of a digest and a NUL into text[2 n + 1]; returns text. */
char *digest_text(const uint8_t *digest, size_t n, char *text);

#endif
