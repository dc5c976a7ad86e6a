#include "codec/msgpack.h"

#include <string.h>

msgpack_reader msgpack_read(const void *bytes, size_t size)
{
    return (msgpack_reader){.c = cursor_make(bytes, size)};
}

void msgpack_fail(msgpack_reader *r, const char *why)
{
    if (!r->why)
        r->why = why;
    cursor_fail(&r->c);
}

bool msgpack_ok(const msgpack_reader *r)
{
    return !r->why && cursor_ok(&r->c);
}

/* What the first byte says: the type, and how the length or value follows. */
static uint32_t length_field(msgpack_reader *r, size_t width)
{
    return (uint32_t)cursor_be(&r->c, width);
}

static void take_bytes(msgpack_reader *r, msgpack_token *t, enum msgpack_type type, uint32_t n)
{
    t->type = type;
    t->size = n;
    t->data = cursor_take(&r->c, n);
    if (!cursor_ok(&r->c))
        msgpack_fail(r, "a length beyond the end of the data");
}

static void take_ext(msgpack_reader *r, msgpack_token *t, uint32_t n)
{
    t->ext = (int8_t)cursor_u8(&r->c);
    take_bytes(r, t, MP_EXT, n);
}

/* Every element takes at least one byte: a larger count is a lie. */
static void open_container(msgpack_reader *r, msgpack_token *t, enum msgpack_type type, uint32_t n)
{
    const uint64_t values = type == MP_MAP ? (uint64_t)n * 2 : n;
    t->type = type;
    t->count = n;
    if (!cursor_ok(&r->c))
        return;
    if (values > cursor_left(&r->c))
        msgpack_fail(r, "a count beyond the end of the data");
    else if (r->depth == MSGPACK_MAX_DEPTH)
        msgpack_fail(r, "nested more than 32 levels deep");
    else if (values)
        r->left[++r->depth] = values;
}

static void set_int(msgpack_token *t, int64_t v)
{
    t->type = v < 0 ? MP_INT : MP_UINT;
    t->i = v;
}

static void set_uint(msgpack_token *t, uint64_t v)
{
    t->type = MP_UINT;
    t->u = v;
}

static void read_f32(msgpack_reader *r, msgpack_token *t)
{
    const uint32_t bits = (uint32_t)cursor_be(&r->c, 4);
    float v;
    memcpy(&v, &bits, sizeof v);
    t->type = MP_FLOAT;
    t->single = true;
    t->f = (double)v;
}

static void read_f64(msgpack_reader *r, msgpack_token *t)
{
    const uint64_t bits = cursor_be(&r->c, 8);
    t->type = MP_FLOAT;
    memcpy(&t->f, &bits, sizeof t->f);
}

static void read_token(msgpack_reader *r, msgpack_token *t)
{
    cursor *c = &r->c;
    const uint8_t b = cursor_u8(c);
    if (b <= 0x7f)
        set_uint(t, b);
    else if (b <= 0x8f)
        open_container(r, t, MP_MAP, b & 0x0f);
    else if (b <= 0x9f)
        open_container(r, t, MP_ARRAY, b & 0x0f);
    else if (b <= 0xbf)
        take_bytes(r, t, MP_STR, b & 0x1f);
    else if (b >= 0xe0)
        set_int(t, (int8_t)b);
    else
        switch (b) {
        case 0xc0:
            t->type = MP_NIL;
            break;
        case 0xc2:
        case 0xc3:
            t->type = MP_BOOL;
            t->b = b == 0xc3;
            break;
        case 0xc4:
        case 0xc5:
        case 0xc6:
            take_bytes(r, t, MP_BIN, length_field(r, (size_t)1 << (b - 0xc4)));
            break;
        case 0xc7:
        case 0xc8:
        case 0xc9:
            take_ext(r, t, length_field(r, (size_t)1 << (b - 0xc7)));
            break;
        case 0xca:
            read_f32(r, t);
            break;
        case 0xcb:
            read_f64(r, t);
            break;
        case 0xcc:
        case 0xcd:
        case 0xce:
        case 0xcf:
            set_uint(t, cursor_be(c, (size_t)1 << (b - 0xcc)));
            break;
        case 0xd0:
            set_int(t, (int8_t)cursor_be(c, 1));
            break;
        case 0xd1:
            set_int(t, (int16_t)cursor_be(c, 2));
            break;
        case 0xd2:
            set_int(t, (int32_t)cursor_be(c, 4));
            break;
        case 0xd3:
            set_int(t, (int64_t)cursor_be(c, 8));
            break;
        case 0xd4:
        case 0xd5:
        case 0xd6:
        case 0xd7:
        case 0xd8:
            take_ext(r, t, 1u << (b - 0xd4));
            break;
        case 0xd9:
        case 0xda:
        case 0xdb:
            take_bytes(r, t, MP_STR, length_field(r, (size_t)1 << (b - 0xd9)));
            break;
        case 0xdc:
        case 0xdd:
            open_container(r, t, MP_ARRAY, length_field(r, b == 0xdc ? 2 : 4));
            break;
        case 0xde:
        case 0xdf:
            open_container(r, t, MP_MAP, length_field(r, b == 0xde ? 2 : 4));
            break;
        default: /* 0xc1 */
            msgpack_fail(r, "byte 0xc1, which MessagePack never uses");
        }
}

bool msgpack_next(msgpack_reader *r, msgpack_token *t)
{
    if (!msgpack_ok(r))
        return false;
    if (!r->started) {
        r->started = true;
    } else {
        while (r->depth && r->left[r->depth] == 0)
            r->depth--;
        if (!r->depth)
            return false;
        r->left[r->depth]--;
    }
    msgpack_token out = {.offset = cursor_offset(&r->c)};
    read_token(r, &out);
    if (!cursor_ok(&r->c))
        msgpack_fail(r, "the data ends inside a value");
    if (!msgpack_ok(r))
        return false;
    *t = out;
    return true;
}

bool msgpack_skip(msgpack_reader *r, const msgpack_token *t)
{
    if (t->type != MP_MAP && t->type != MP_ARRAY)
        return msgpack_ok(r);
    /* Values still to read; a nested container adds its own. Bounded by the remaining bytes. */
    uint64_t todo = t->type == MP_MAP ? (uint64_t)t->count * 2 : t->count;
    msgpack_token inner;
    for (; todo && msgpack_next(r, &inner); todo--)
        todo += inner.type == MP_MAP     ? (uint64_t)inner.count * 2
                : inner.type == MP_ARRAY ? inner.count
                                         : 0;
    return msgpack_ok(r);
}

spt_status msgpack_status(const msgpack_reader *r, const char *what, spt_err *err)
{
    const size_t at = cursor_offset(&r->c);
    if (!msgpack_ok(r))
        return err_at(err, SPT_E_FORMAT, at, "%s: not valid MessagePack: %s (byte %zu)", what,
                      r->why ? r->why : "the data ends inside a value", at);
    for (int d = r->depth; d > 0; d--)
        if (r->left[d])
            return err_at(err, SPT_E_FORMAT, at, "%s: MessagePack value not read to its end", what);
    if (!r->started)
        return err_at(err, SPT_E_FORMAT, 0, "%s: empty, not MessagePack", what);
    if (cursor_left(&r->c))
        return err_at(err, SPT_E_FORMAT, at, "%s: %zu bytes behind the MessagePack value (byte %zu)",
                      what, cursor_left(&r->c), at);
    return SPT_OK;
}

bool msgpack_str_is(const msgpack_token *t, const char *s)
{
    return t->type == MP_STR && t->size == strlen(s) && !memcmp(t->data, s, t->size);
}

bool msgpack_is_uint(const msgpack_token *t, uint64_t max)
{
    return t->type == MP_UINT && t->u <= max;
}

/* --- writer --- */

static void put_head(buf *b, unsigned char first, uint64_t v, size_t width)
{
    char bytes[9];
    bytes[0] = (char)first;
    for (size_t i = 0; i < width; i++)
        bytes[1 + i] = (char)(v >> (8 * (width - 1 - i)));
    buf_add(b, bytes, 1 + width);
}

/* first8: the code of the one-byte length; the two- and four-byte forms follow it. */
static void put_length(buf *b, unsigned char first8, size_t len)
{
    if (len <= UINT8_MAX)
        put_head(b, first8, len, 1);
    else if (len <= UINT16_MAX)
        put_head(b, (unsigned char)(first8 + 1), len, 2);
    else if (len <= UINT32_MAX)
        put_head(b, (unsigned char)(first8 + 2), len, 4);
    else if (!b->st)
        b->st = SPT_E_FORMAT;
}

void msgpack_put_nil(buf *b)
{
    buf_addc(b, (char)0xc0);
}

void msgpack_put_bool(buf *b, bool v)
{
    buf_addc(b, (char)(v ? 0xc3 : 0xc2));
}

void msgpack_put_uint(buf *b, uint64_t v)
{
    if (v <= 0x7f)
        buf_addc(b, (char)v);
    else if (v <= UINT8_MAX)
        put_head(b, 0xcc, v, 1);
    else if (v <= UINT16_MAX)
        put_head(b, 0xcd, v, 2);
    else if (v <= UINT32_MAX)
        put_head(b, 0xce, v, 4);
    else
        put_head(b, 0xcf, v, 8);
}

void msgpack_put_int(buf *b, int64_t v)
{
    if (v >= 0)
        msgpack_put_uint(b, (uint64_t)v);
    else if (v >= -32)
        buf_addc(b, (char)v);
    else if (v >= INT8_MIN)
        put_head(b, 0xd0, (uint64_t)v, 1);
    else if (v >= INT16_MIN)
        put_head(b, 0xd1, (uint64_t)v, 2);
    else if (v >= INT32_MIN)
        put_head(b, 0xd2, (uint64_t)v, 4);
    else
        put_head(b, 0xd3, (uint64_t)v, 8);
}

void msgpack_put_f32(buf *b, float v)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_head(b, 0xca, bits, 4);
}

void msgpack_put_f64(buf *b, double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    put_head(b, 0xcb, bits, 8);
}

void msgpack_put_str(buf *b, const char *s, size_t len)
{
    if (len <= 31)
        buf_addc(b, (char)(0xa0 | len));
    else
        put_length(b, 0xd9, len);
    buf_add(b, s, len);
}

void msgpack_put_strz(buf *b, const char *s)
{
    msgpack_put_str(b, s, strlen(s));
}

void msgpack_put_bin(buf *b, const void *p, size_t len)
{
    put_length(b, 0xc4, len);
    buf_add(b, p, len);
}

void msgpack_put_array(buf *b, uint32_t count)
{
    if (count <= 15)
        buf_addc(b, (char)(0x90 | count));
    else if (count <= UINT16_MAX)
        put_head(b, 0xdc, count, 2);
    else
        put_head(b, 0xdd, count, 4);
}

void msgpack_put_map(buf *b, uint32_t count)
{
    if (count <= 15)
        buf_addc(b, (char)(0x80 | count));
    else if (count <= UINT16_MAX)
        put_head(b, 0xde, count, 2);
    else
        put_head(b, 0xdf, count, 4);
}

void msgpack_put_ext(buf *b, int8_t type, uint32_t len)
{
    int fix = -1;
    for (int k = 0; k <= 4; k++)
        if (len == 1u << k)
            fix = k;
    if (fix >= 0)
        buf_addc(b, (char)(0xd4 + fix));
    else
        put_length(b, 0xc7, len);
    buf_addc(b, (char)type);
}
