/* codec/msgpack: what is accepted is written again, and reading that gives the same tokens; skipping
 * a value and reading it agree. */
#include "fuzz/fuzz.h"

#include "codec/msgpack.h"

static bool same(const msgpack_token *a, const msgpack_token *b)
{
    if (a->type != b->type || a->size != b->size)
        return false;
    if ((a->type == MP_STR || a->type == MP_BIN || a->type == MP_EXT) &&
        (memcmp(a->data, b->data, a->size) || a->ext != b->ext))
        return false;
    switch (a->type) {
    case MP_BOOL:
        return a->b == b->b;
    case MP_ARRAY:
    case MP_MAP:
        return a->count == b->count;
    case MP_INT:
    case MP_UINT:
        return a->u == b->u;
    case MP_FLOAT:
        return a->single == b->single && (a->f == b->f || (a->f != a->f && b->f != b->f));
    default:
        return true;
    }
}

static void put(buf *out, const msgpack_token *t)
{
    switch (t->type) {
    case MP_NIL:
        msgpack_put_nil(out);
        break;
    case MP_BOOL:
        msgpack_put_bool(out, t->b);
        break;
    case MP_INT:
        msgpack_put_int(out, t->i);
        break;
    case MP_UINT:
        msgpack_put_uint(out, t->u);
        break;
    case MP_FLOAT:
        if (t->single)
            msgpack_put_f32(out, (float)t->f);
        else
            msgpack_put_f64(out, t->f);
        break;
    case MP_STR:
        msgpack_put_str(out, (const char *)t->data, t->size);
        break;
    case MP_BIN:
        msgpack_put_bin(out, t->data, t->size);
        break;
    case MP_ARRAY:
        msgpack_put_array(out, t->count);
        break;
    case MP_MAP:
        msgpack_put_map(out, t->count);
        break;
    case MP_EXT:
        msgpack_put_ext(out, t->ext, t->size);
        buf_add(out, t->data, t->size);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    msgpack_token t, u;
    fuzz_begin();
    buf out;
    buf_init(&out, size * 2 + 16);
    msgpack_reader r = msgpack_read(data, size);
    while (msgpack_next(&r, &t)) {
        FUZZ_CHECK(r.depth <= MSGPACK_MAX_DEPTH);
        put(&out, &t);
    }
    const spt_status st = msgpack_status(&r, "input", NULL);
    msgpack_reader s = msgpack_read(data, size);
    if (msgpack_next(&s, &t))
        msgpack_skip(&s, &t);
    FUZZ_CHECK(msgpack_status(&s, "input", NULL) == st);
    if (!st) {
        FUZZ_CHECK(out.st == SPT_OK && out.len <= size);
        msgpack_reader a = msgpack_read(data, size), b = msgpack_read(out.data, out.len);
        while (msgpack_next(&a, &t)) {
            FUZZ_CHECK(msgpack_next(&b, &u));
            FUZZ_CHECK(same(&t, &u));
        }
        FUZZ_CHECK(!msgpack_next(&b, &u));
        FUZZ_CHECK(msgpack_status(&b, "again", NULL) == SPT_OK);
    }
    buf_release(&out);
    fuzz_end(size, 0);
    return 0;
}
