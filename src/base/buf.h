/* A growing byte string with a mandatory maximum, for text that we produce. Sticky: after a
 * failure every append is ignored and buf_status() reports it, so callers check once. */
#ifndef SPT_BASE_BUF_H
#define SPT_BASE_BUF_H

#include "base/mem.h"

typedef struct buf {
    char *data; /* NUL-terminated whenever non-NULL */
    size_t len;
    size_t cap;
    size_t max;
    spt_status st;
} buf;

/* max: the most bytes it may ever hold (the NUL not counted). */
void buf_init(buf *b, size_t max);
void buf_release(buf *b); /* accepts an all-zero object */
void buf_clear(buf *b);   /* keeps the storage, forgets content and error */
void buf_add(buf *b, const void *bytes, size_t len);
void buf_adds(buf *b, const char *s);
void buf_addc(buf *b, char c);
void buf_addf(buf *b, const char *fmt, ...) PRINTF_LIKE(2, 3);
/* A name in a list of names, its first `most` bytes: in quotes where it would be taken for several, or
 * for a part of one. */
void buf_add_name(buf *b, const char *name, size_t most);
/* The string so far, never NULL. */
const char *buf_str(const buf *b);
/* SPT_OK, SPT_E_NOMEM, or SPT_E_FORMAT when the maximum was exceeded; `what` names the text. */
spt_status buf_status(const buf *b, const char *what, spt_err *err);
/* Gives the storage to the caller (mem_free), leaves the buffer empty. NULL if nothing is held or an
 * append has failed. */
char *buf_detach(buf *b);

#endif
