/* codec/msgpack: every encoding, canonical re-encoding, declared counts, depth, truncation. */
#include "support/test.h"

#include <string.h>

#include "codec/msgpack.h"

/* Reads a whole value and writes it again; what was written smallest comes back byte for byte. */
static spt_status again(const void *p, size_t n, buf *out, spt_err *err)
{
    msgpack_reader r = msgpack_read(p, n);
    msgpack_token t;
    while (msgpack_next(&r, &t))
        switch (t.type) {
        case MP_NIL:
            msgpack_put_nil(out);
            break;
        case MP_BOOL:
            msgpack_put_bool(out, t.b);
            break;
        case MP_INT:
            msgpack_put_int(out, t.i);
            break;
        case MP_UINT:
            msgpack_put_uint(out, t.u);
            break;
        case MP_FLOAT:
            if (t.single)
                msgpack_put_f32(out, (float)t.f);
            else
                msgpack_put_f64(out, t.f);
            break;
        case MP_STR:
            msgpack_put_str(out, (const char *)t.data, t.size);
            break;
        case MP_BIN:
            msgpack_put_bin(out, t.data, t.size);
            break;
        case MP_ARRAY:
            msgpack_put_array(out, t.count);
            break;
        case MP_MAP:
            msgpack_put_map(out, t.count);
            break;
        case MP_EXT:
            msgpack_put_ext(out, t.ext, t.size);
            buf_add(out, t.data, t.size);
            break;
        }
    TRY(msgpack_status(&r, "test", err));
    return buf_status(out, "out", err);
}

static void put_all(buf *b)
{
    static char text[70000];
    static const int64_t ints[] = {0, 127, 128, 255, 256, 65535, 65536, UINT32_MAX,
                                   (int64_t)UINT32_MAX + 1, INT64_MAX, -1, -32, -33, -128, -129,
                                   -32768, -32769, INT32_MIN, (int64_t)INT32_MIN - 1, INT64_MIN};
    static const size_t lens[] = {0, 1, 2, 3, 4, 8, 15, 16, 17, 31, 32, 255, 256, 65535, 65536};
    const size_t n = sizeof lens / sizeof *lens;
    memset(text, 'x', sizeof text);
    msgpack_put_array(b, 8);
    msgpack_put_array(b, sizeof ints / sizeof *ints);
    for (size_t i = 0; i < sizeof ints / sizeof *ints; i++)
        msgpack_put_int(b, ints[i]);
    msgpack_put_array(b, (uint32_t)n * 3);
    for (size_t i = 0; i < n; i++) {
        msgpack_put_str(b, text, lens[i]);
        msgpack_put_bin(b, text, lens[i]);
        msgpack_put_ext(b, -3, (uint32_t)lens[i]);
        buf_add(b, text, lens[i]);
    }
    msgpack_put_uint(b, UINT64_MAX);
    msgpack_put_f32(b, 0.1f);
    msgpack_put_f64(b, 0.1);
    msgpack_put_array(b, 70000);
    for (int i = 0; i < 70000; i++)
        msgpack_put_nil(b);
    msgpack_put_map(b, 20);
    for (int i = 0; i < 20; i++) {
        msgpack_put_uint(b, (uint64_t)i);
        msgpack_put_bool(b, i & 1);
    }
    msgpack_put_map(b, 0);
}

static void everything_round_trips(void **state)
{
    buf b, out;
    spt_err err;
    buf_init(&b, 1 << 22);
    buf_init(&out, 1 << 22);
    put_all(&b);
    EXPECT_OK(again(b.data, b.len, &out, &err), &err);
    EXPECT_TRUE(b.len == out.len && !memcmp(b.data, out.data, b.len));
    buf_release(&b);
    buf_release(&out);
}

/* Longer encodings than needed are read, too: older files have str16 for 60 bytes. */
static void wide_forms_are_read(void **state)
{
    static const struct {
        const char *wide;
        size_t n;
        const char *narrow;
        size_t m;
    } cases[] = {
        {"\xda\x00\x01z", 4, "\xa1z", 2},
        {"\xdb\x00\x00\x00\x01z", 6, "\xa1z", 2},
        {"\xc6\x00\x00\x00\x01z", 6, "\xc4\x01z", 3},
        {"\xc9\x00\x00\x00\x02\x05zz", 8, "\xd5\x05zz", 4},
        {"\xcf\x00\x00\x00\x00\x00\x00\x00\x07", 9, "\x07", 1},
        {"\xd3\x00\x00\x00\x00\x00\x00\x00\x07", 9, "\x07", 1},
        {"\xd3\xff\xff\xff\xff\xff\xff\xff\xff", 9, "\xff", 1},
        {"\xdd\x00\x00\x00\x01\xc0", 6, "\x91\xc0", 2},
        {"\xdf\x00\x00\x00\x01\xc0\xc3", 7, "\x81\xc0\xc3", 3},
        {"\xde\x00\x00", 3, "\x80", 1},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        buf out;
        spt_err err;
        buf_init(&out, 100);
        EXPECT_OK(again(cases[i].wide, cases[i].n, &out, &err), &err);
        EXPECT_TRUE(out.len == cases[i].m && !memcmp(out.data, cases[i].narrow, out.len));
        buf_release(&out);
    }
}

static void lies_and_rubbish(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        const char *why;
    } bad[] = {
        {"", 0, "ends"},
        {"\xc1", 1, "0xc1"},
        {"\xdd\xff\xff\xff\xff", 5, "count"}, /* 4,294,967,295 elements in five bytes */
        {"\xdf\xff\xff\xff\xff", 5, "count"},
        {"\xdf\x80\x00\x00\x00\xc0", 6, "count"}, /* pairs that overflow 32 bits */
        {"\xdb\xff\xff\xff\xff", 5, "length"},
        {"\xc9\xff\xff\xff\xff\x01", 6, "length"},
        {"\x92\xc0", 2, "count"},
        {"\x81\xc0", 2, "count"},
        {"\xc0\xc0", 2, "behind"},
        {"\x90\x90", 2, "behind"},
        {"\xcb\x00", 2, "ends"},
        {"\xa5" "ab", 3, "length"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        buf out;
        spt_err err = {0};
        buf_init(&out, 100);
        EXPECT_STATUS(again(bad[i].bytes, bad[i].n, &out, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, bad[i].why);
        buf_release(&out);
    }
}

static void depth_is_limited(void **state)
{
    spt_err err;
    for (size_t depth = 30; depth <= 34; depth++) {
        buf b, out;
        buf_init(&b, 1000);
        buf_init(&out, 1000);
        for (size_t i = 0; i < depth; i++)
            msgpack_put_array(&b, 1);
        msgpack_put_nil(&b);
        EXPECT_STATUS(again(b.data, b.len, &out, &err),
                      depth <= MSGPACK_MAX_DEPTH ? SPT_OK : SPT_E_FORMAT);
        buf_release(&b);
        buf_release(&out);
    }
}

static void truncated_at_every_length(void **state)
{
    static const char whole[] = "\x83\xa1" "a\x92\x01\xcb\x00\x00\x00\x00\x00\x00\x00\x00\xa1" "b"
                                "\xc7\x03\x01xyz\xa1" "c\xda\x00\x02hi";
    const size_t n = sizeof whole - 1;
    for (size_t k = 0; k <= n; k++) {
        buf out;
        spt_err err;
        buf_init(&out, 100);
        EXPECT_STATUS(again(whole, k, &out, &err), k == n ? SPT_OK : SPT_E_FORMAT);
        buf_release(&out);
    }
}

static void skip_steps_over_one_value(void **state)
{
    static const char b[] = "\x93\x82\x01\x91\x92\x01\x02\x03\x90\xa1z\x05";
    msgpack_reader r = msgpack_read(b, sizeof b - 1);
    msgpack_token t;
    EXPECT_TRUE(msgpack_next(&r, &t) && t.type == MP_ARRAY);
    EXPECT_TRUE(msgpack_next(&r, &t) && t.type == MP_MAP && msgpack_skip(&r, &t));
    EXPECT_TRUE(msgpack_next(&r, &t) && msgpack_str_is(&t, "z") && msgpack_skip(&r, &t));
    EXPECT_TRUE(msgpack_next(&r, &t) && msgpack_is_uint(&t, 5) && !msgpack_is_uint(&t, 4));
    EXPECT_TRUE(!msgpack_next(&r, &t));
    EXPECT_STATUS(msgpack_status(&r, "test", NULL), SPT_OK);
}

static void an_unread_value_is_not_ok(void **state)
{
    msgpack_reader r = msgpack_read("\x91\xc0", 2);
    msgpack_token t;
    EXPECT_TRUE(msgpack_next(&r, &t));
    EXPECT_STATUS(msgpack_status(&r, "test", NULL), SPT_E_FORMAT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(everything_round_trips),
        cmocka_unit_test(wide_forms_are_read),
        cmocka_unit_test(lies_and_rubbish),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(truncated_at_every_length),
        cmocka_unit_test(skip_steps_over_one_value),
        cmocka_unit_test(an_unread_value_is_not_ok),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
