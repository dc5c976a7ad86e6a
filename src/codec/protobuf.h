/* Protocol-buffer wire format: fields one by one, no schema, no allocation. */
#ifndef SPT_CODEC_PROTOBUF_H
#define SPT_CODEC_PROTOBUF_H

#include "base/buf.h"
#include "base/cursor.h"

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

typedef struct pb_field {
    uint32_t number; /* 1 .. 2^29 - 1 */
    enum pb_wire wire;
    uint64_t value;            /* PB_VARINT, PB_FIXED64, PB_FIXED32 */
    const unsigned char *data; /* PB_BYTES; into the input */
    size_t size;
} pb_field;

/* Next field of a message. False at its end and on malformed input: check cursor_ok() behind the
 * loop. Groups (wire types 3 and 4) are refused. */
bool pb_next(cursor *c, pb_field *f);
/* A cursor over the bytes of a nested message (or of packed numbers). */
cursor pb_message(const pb_field *f);
uint64_t pb_varint(cursor *c);
float pb_float(const pb_field *f);   /* of PB_FIXED32 */
double pb_double(const pb_field *f); /* of PB_FIXED64 */

/* Writer: appends to a buf (sticky errors). */
void pb_put_varint(buf *b, uint32_t number, uint64_t v);
void pb_put_int64(buf *b, uint32_t number, int64_t v); /* negative: ten bytes, as int64 fields are */
void pb_put_float(buf *b, uint32_t number, float v);
void pb_put_double(buf *b, uint32_t number, double v);
void pb_put_bytes(buf *b, uint32_t number, const void *p, size_t n);
void pb_put_string(buf *b, uint32_t number, const char *s);
/* The varint alone, for packed fields. */
void pb_put_raw_varint(buf *b, uint64_t v);

#endif
