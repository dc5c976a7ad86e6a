/* XXH3-128 through libxxhash: content hashes of models, prompts and checkpoints (rulings 12). Not
 * cryptographic: it finds damage, not forgery. */
#ifndef SPT_CODEC_HASH_H
#define SPT_CODEC_HASH_H

#include <stdbool.h>

#include "base/status.h"

typedef struct hash128 {
    uint64_t high, low;
} hash128;

enum { HASH_TEXT = 33 }; /* 32 hex digits and a NUL */

hash128 hash_bytes(const void *p, size_t n);
/* "%016x%016x" of high and low, the usual spelling; returns text. */
char *hash_text(hash128 h, char text[HASH_TEXT]);
/* Exactly 32 lower-case hex digits; false otherwise. */
bool hash_from_text(const char *text, size_t len, hash128 *out);
bool hash_equal(hash128 a, hash128 b);

/* In pieces. */
typedef struct hash_state hash_state;
spt_status hash_new(hash_state **out, spt_err *err);
void hash_add(hash_state *h, const void *p, size_t n);
hash128 hash_value(const hash_state *h); /* of everything added so far */
void hash_reset(hash_state *h);
void hash_free(hash_state *h); /* accepts NULL */

/* Version of xxhash, into text of 32 bytes; returns text. */
char *hash_library_version(char *text);

#endif
