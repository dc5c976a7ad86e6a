/* codec/crc: the published check value, continuation, and that both implementations agree. */
#include "support/test.h"

#include <string.h>

#include "codec/crc.h"

static void published_values(void **state)
{
    EXPECT_EQ_I64(crc32c("123456789", 9), 0xe3069283);
    EXPECT_EQ_I64(crc32c_mask(0xe3069283), 0xc78ab0e5);
    EXPECT_EQ_I64(crc32c_unmask(0xc78ab0e5), 0xe3069283);
    EXPECT_EQ_I64(crc32c(NULL, 0), 0);
    unsigned char zeros[32] = {0}; /* RFC 3720, B.4 */
    EXPECT_EQ_I64(crc32c(zeros, 32), 0x8a9136aa);
    memset(zeros, 0xff, 32);
    EXPECT_EQ_I64(crc32c(zeros, 32), 0x62a8ab43);
}

static void both_ways_agree_at_every_length_and_split(void **state)
{
    unsigned char b[300];
    uint32_t x = 1;
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (unsigned char)((x = x * 1664525 + 1013904223) >> 24);
    for (size_t n = 0; n <= 256; n++)
        for (size_t off = 0; off < 9; off++)
            EXPECT_EQ_I64(crc32c(b + off, n), crc32c_extend_portable(0, b + off, n));
    const uint32_t whole = crc32c(b, 200);
    for (size_t cut = 0; cut <= 200; cut++) {
        EXPECT_EQ_I64(crc32c_extend(crc32c(b, cut), b + cut, 200 - cut), whole);
        EXPECT_EQ_I64(crc32c_extend_portable(crc32c(b, cut), b + cut, 200 - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(published_values),
        cmocka_unit_test(both_ways_agree_at_every_length_and_split),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
