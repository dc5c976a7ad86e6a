/* Sticky reader over untrusted bytes: every read checks by subtraction against what remains; after
 * the first failure all reads return zero and cursor_ok() stays false, so parsers are straight
 * lines with one check at the end. A loop over a *declared* count must still test cursor_ok()
 * every turn. Little endian. Offsets are relative to `begin`. */
#ifndef SPT_BASE_CURSOR_H
#define SPT_BASE_CURSOR_H

#include <stdbool.h>
#include <string.h>

#include "base/status.h"

typedef struct cursor {
    const unsigned char *begin;
    const unsigned char *p;
    const unsigned char *end;
    bool failed;
    size_t fail_offset; /* where the first failing read started */
} cursor;

static inline cursor cursor_make(const void *bytes, size_t size)
{
    const unsigned char *p = bytes;
    return (cursor){.begin = p, .p = p, .end = p ? p + size : p};
}

static inline bool cursor_ok(const cursor *c)
{
    return !c->failed;
}

static inline size_t cursor_left(const cursor *c)
{
    return c->failed ? 0 : (size_t)(c->end - c->p);
}

static inline size_t cursor_offset(const cursor *c)
{
    return c->failed ? c->fail_offset : (size_t)(c->p - c->begin);
}

static inline void cursor_fail(cursor *c)
{
    if (!c->failed) {
        c->fail_offset = (size_t)(c->p - c->begin);
        c->failed = true;
    }
}

/* Pointer to the next n bytes, or NULL (and failed). */
static inline const unsigned char *cursor_take(cursor *c, size_t n)
{
    if (n > cursor_left(c)) {
        cursor_fail(c);
        return NULL;
    }
    const unsigned char *at = c->p;
    if (n)
        c->p += n;
    return at;
}

static inline uint8_t cursor_u8(cursor *c)
{
    const unsigned char *b = cursor_take(c, 1);
    return b ? b[0] : 0;
}

static inline uint64_t cursor_le(cursor *c, size_t n)
{
    const unsigned char *b = cursor_take(c, n);
    uint64_t v = 0;
    for (size_t i = 0; b && i < n; i++)
        v |= (uint64_t)b[i] << (8 * i);
    return v;
}

static inline uint64_t cursor_be(cursor *c, size_t n)
{
    const unsigned char *b = cursor_take(c, n);
    uint64_t v = 0;
    for (size_t i = 0; b && i < n; i++)
        v = v << 8 | b[i];
    return v;
}

static inline uint16_t cursor_u16le(cursor *c)
{
    return (uint16_t)cursor_le(c, 2);
}

static inline uint32_t cursor_u32le(cursor *c)
{
    return (uint32_t)cursor_le(c, 4);
}

static inline uint64_t cursor_u64le(cursor *c)
{
    return cursor_le(c, 8);
}

#endif
