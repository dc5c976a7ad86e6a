/* Sorts any number of byte records by a 16-byte key in bounded memory: what does not fit is written
 * as sorted runs to temporary files in a directory and merged while it is read back. */
#ifndef SPT_STORE_SPILL_H
#define SPT_STORE_SPILL_H

#include <stdbool.h>

#include "base/mem.h"

enum { SPILL_KEY = 16 };

typedef struct spill spill;
/* Files are called <dir>/<name>.run-N; the directory (and its parents) are made when the first one is
 * needed. budget: bytes kept in memory. */
spt_status spill_new(const char *dir, const char *name, size_t budget, spill **out, spt_err *err);
spt_status spill_add(spill *s, const uint8_t key[SPILL_KEY], const void *bytes, size_t size,
                     spt_err *err);
uint64_t spill_count(const spill *s);
uint64_t spill_bytes(const spill *s); /* of the records, without keys */
/* No more records come. Then spill_next gives them in order of key; equal ones in order of adding. */
spt_status spill_sort(spill *s, spt_err *err);
/* *data is NULL at the end; else valid until the next call, as is *key. */
spt_status spill_next(spill *s, const uint8_t **key, const void **data, size_t *size, spt_err *err);
void spill_close(spill *s); /* removes its files; accepts NULL */

#endif
