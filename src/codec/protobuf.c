#include "codec/protobuf.h"

#include <string.h>

uint64_t pb_varint(cursor *c)
{
    uint64_t v = 0;
    for (int shift = 0; shift < 64; shift += 7) {
        const uint8_t b = cursor_u8(c);
        /* The tenth byte has room for one bit only. */
        if (shift == 63 && b > 1) {
            cursor_fail(c);
            return 0;
        }
        v |= (uint64_t)(b & 0x7f) << shift;
        if (!(b & 0x80))
            return cursor_ok(c) ? v : 0;
    }
    cursor_fail(c);
    return 0;
}

bool pb_next(cursor *c, pb_field *f)
{
    if (cursor_left(c) == 0)
        return false;
    const uint64_t tag = pb_varint(c);
    pb_field out = {.number = (uint32_t)(tag >> 3)};
    if (tag >> 3 == 0 || tag >> 32 != 0) {
        cursor_fail(c);
        return false;
    }
    switch (tag & 7) {
    case PB_VARINT:
        out.wire = PB_VARINT;
        out.value = pb_varint(c);
        break;
    case PB_FIXED64:
        out.wire = PB_FIXED64;
        out.value = cursor_le(c, 8);
        break;
    case PB_FIXED32:
        out.wire = PB_FIXED32;
        out.value = cursor_le(c, 4);
        break;
    case PB_BYTES: {
        out.wire = PB_BYTES;
        const uint64_t n = pb_varint(c);
        if (n > cursor_left(c)) {
            cursor_fail(c);
            return false;
        }
        out.size = (size_t)n;
        out.data = cursor_take(c, out.size);
        break;
    }
    default:
        cursor_fail(c);
        return false;
    }
    if (!cursor_ok(c))
        return false;
    *f = out;
    return true;
}

cursor pb_message(const pb_field *f)
{
    return cursor_make(f->data, f->size);
}

float pb_float(const pb_field *f)
{
    const uint32_t bits = (uint32_t)f->value;
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

double pb_double(const pb_field *f)
{
    double v;
    memcpy(&v, &f->value, sizeof v);
    return v;
}

void pb_put_raw_varint(buf *b, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        buf_addc(b, (char)(v | 0x80));
    buf_addc(b, (char)v);
}

static void put_tag(buf *b, uint32_t number, enum pb_wire wire)
{
    pb_put_raw_varint(b, (uint64_t)number << 3 | (uint64_t)wire);
}

static void put_le(buf *b, uint64_t v, size_t n)
{
    char bytes[8];
    for (size_t i = 0; i < n; i++)
        bytes[i] = (char)(v >> (8 * i));
    buf_add(b, bytes, n);
}

void pb_put_varint(buf *b, uint32_t number, uint64_t v)
{
    put_tag(b, number, PB_VARINT);
    pb_put_raw_varint(b, v);
}

void pb_put_int64(buf *b, uint32_t number, int64_t v)
{
    pb_put_varint(b, number, (uint64_t)v);
}

void pb_put_float(buf *b, uint32_t number, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_tag(b, number, PB_FIXED32);
    put_le(b, bits, 4);
}

void pb_put_double(buf *b, uint32_t number, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_tag(b, number, PB_FIXED64);
    put_le(b, bits, 8);
}

void pb_put_bytes(buf *b, uint32_t number, const void *p, size_t n)
{
    put_tag(b, number, PB_BYTES);
    pb_put_raw_varint(b, n);
    buf_add(b, p, n);
}

void pb_put_string(buf *b, uint32_t number, const char *s)
{
    pb_put_bytes(b, number, s, strlen(s));
}
