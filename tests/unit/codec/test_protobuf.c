/* codec/protobuf: varints at their borders, every wire type, malformed messages, truncation. */
#include "support/test.h"

#include <string.h>

#include "codec/protobuf.h"

static void varints(void **state)
{
    static const uint64_t v[] = {0, 1, 127, 128, 16383, 16384, UINT32_MAX, UINT64_MAX,
                                 (uint64_t)1 << 63, ((uint64_t)1 << 63) - 1};
    static const size_t len[] = {1, 1, 1, 2, 2, 3, 5, 10, 10, 9};
    for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
        buf b;
        buf_init(&b, 100);
        pb_put_raw_varint(&b, v[i]);
        EXPECT_EQ_I64(b.len, len[i]);
        cursor c = cursor_make(b.data, b.len);
        EXPECT_TRUE(pb_varint(&c) == v[i] && cursor_ok(&c) && cursor_left(&c) == 0);
        for (size_t n = 0; n < b.len; n++) {
            c = cursor_make(b.data, n);
            pb_varint(&c);
            EXPECT_TRUE(!cursor_ok(&c));
        }
        buf_release(&b);
    }
    static const char bad[] = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02"; /* more than 64 bits */
    cursor c = cursor_make(bad, 10);
    pb_varint(&c);
    EXPECT_TRUE(!cursor_ok(&c));
}

static void fields_round_trip(void **state)
{
    buf b;
    buf_init(&b, 1000);
    pb_put_varint(&b, 1, 300);
    pb_put_int64(&b, 2, -1);
    pb_put_float(&b, 3, 1.5f);
    pb_put_double(&b, 536870911, -0.1);
    pb_put_string(&b, 5, "text");
    pb_put_bytes(&b, 6, "", 0);
    cursor c = cursor_make(b.data, b.len);
    pb_field f;
    EXPECT_TRUE(pb_next(&c, &f) && f.number == 1 && f.wire == PB_VARINT && f.value == 300);
    EXPECT_TRUE(pb_next(&c, &f) && f.number == 2 && (int64_t)f.value == -1);
    EXPECT_TRUE(pb_next(&c, &f) && f.wire == PB_FIXED32 && pb_float(&f) == 1.5f);
    EXPECT_TRUE(pb_next(&c, &f) && f.number == 536870911 && pb_double(&f) == -0.1);
    EXPECT_TRUE(pb_next(&c, &f) && f.wire == PB_BYTES && f.size == 4 && !memcmp(f.data, "text", 4));
    EXPECT_TRUE(pb_next(&c, &f) && f.number == 6 && f.size == 0);
    cursor empty = pb_message(&f);
    EXPECT_TRUE(!pb_next(&empty, &f) && cursor_ok(&empty));
    EXPECT_TRUE(!pb_next(&c, &f) && cursor_ok(&c));
    size_t whole = 0;
    for (size_t n = 0; n <= b.len; n++) { /* truncated: clean only at the end of a field */
        c = cursor_make(b.data, n);
        while (pb_next(&c, &f))
            ;
        whole += cursor_ok(&c);
    }
    EXPECT_EQ_I64(whole, 7);
    buf_release(&b);
}

static void malformed(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
    } bad[] = {
        {"\x00\x01", 2},                  /* field 0 */
        {"\x0b", 1},                      /* group */
        {"\x0c", 1},                      /* end of group */
        {"\x0e\x01", 2},                  /* wire type 6 */
        {"\x0a\x05" "abc", 5},            /* length beyond the end */
        {"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11}, /* 2^64 - 1 bytes */
        {"\x80\x80\x80\x80\x80\x01\x00", 7},                  /* field number beyond 2^29 */
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        pb_field f;
        cursor c = cursor_make(bad[i].bytes, bad[i].n);
        EXPECT_TRUE(!pb_next(&c, &f) && !cursor_ok(&c));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(varints),
        cmocka_unit_test(fields_round_trip),
        cmocka_unit_test(malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
