/* MessagePack: a pull reader over untrusted bytes and a writer.
 *
 * The reader hands out one token at a time and allocates nothing. A declared count is refused when
 * the remaining bytes cannot hold that many elements; nesting is limited to MSGPACK_MAX_DEPTH
 * levels (rulings 27). Sticky: after the first error every msgpack_next returns false and the reader
 * keeps where and why. Strings are not checked for UTF-8.
 *
 *     msgpack_reader r = msgpack_read(bytes, size);
 *     msgpack_token t;
 *     while (msgpack_next(&r, &t)) ...
 *     TRY(msgpack_status(&r, "checkpoint", err));      // also an error when bytes are left over
 */
#ifndef SPT_CODEC_MSGPACK_H
#define SPT_CODEC_MSGPACK_H

#include "base/buf.h"
#include "base/cursor.h"
#include "base/limits.h"


enum msgpack_type {
    MP_NIL,
    MP_BOOL,
    MP_INT,   /* negative; value in i */
    MP_UINT,  /* >= 0; value in u */
    MP_FLOAT, /* f32 or f64; value in f */
    MP_STR,   /* data, size */
    MP_BIN,   /* data, size */
    MP_ARRAY, /* count elements follow */
    MP_MAP,   /* count pairs follow, key then value */
    MP_EXT    /* ext, data, size */
};

typedef struct msgpack_token {
    enum msgpack_type type;
    int8_t ext;
    bool single; /* MP_FLOAT was stored in 4 bytes */
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        uint32_t count;
    };
    const unsigned char *data; /* points into the input */
    uint32_t size;
    size_t offset; /* of the token's first byte */
} msgpack_token;

typedef struct msgpack_reader {
    cursor c;
    const char *why; /* static text of the first error, or NULL */
    int depth;       /* open containers */
    bool started;
    uint64_t left[MSGPACK_MAX_DEPTH + 1]; /* values still to come per level */
} msgpack_reader;

msgpack_reader msgpack_read(const void *bytes, size_t size);
/* False at the end of the (single) top-level value or after an error. */
bool msgpack_next(msgpack_reader *r, msgpack_token *t);
/* Skips the value that `t` began (its elements, when it is a container). */
bool msgpack_skip(msgpack_reader *r, const msgpack_token *t);
/* Marks the reader as failed from outside, e.g. on an unexpected type; `why` is static text. */
void msgpack_fail(msgpack_reader *r, const char *why);
bool msgpack_ok(const msgpack_reader *r);
/* SPT_OK only when the top-level value was read completely and nothing is left behind it. */
spt_status msgpack_status(const msgpack_reader *r, const char *what, spt_err *err);

bool msgpack_str_is(const msgpack_token *t, const char *s);
/* A non-negative integer (MP_UINT) not above max. */
bool msgpack_is_uint(const msgpack_token *t, uint64_t max);

/* --- writer: smallest encodings, errors stick in the buffer --- */
void msgpack_put_nil(buf *b);
void msgpack_put_bool(buf *b, bool v);
void msgpack_put_uint(buf *b, uint64_t v);
void msgpack_put_int(buf *b, int64_t v);
void msgpack_put_f32(buf *b, float v);
void msgpack_put_f64(buf *b, double v);
void msgpack_put_str(buf *b, const char *s, size_t len);
void msgpack_put_strz(buf *b, const char *s);
void msgpack_put_bin(buf *b, const void *p, size_t len);
void msgpack_put_array(buf *b, uint32_t count);
void msgpack_put_map(buf *b, uint32_t count);
/* Header only; `len` payload bytes must follow. */
void msgpack_put_ext(buf *b, int8_t type, uint32_t len);

#endif
