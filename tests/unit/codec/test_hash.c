/* codec/hash: XXH3-128 of known inputs, pieces against the whole, spelling. */
#include "support/test.h"

#include <string.h>

#include "codec/hash.h"

static void known_values(void **state)
{
    char text[HASH_TEXT];
    /* xxhash.xxh3_128_hexdigest of the Python package */
    EXPECT_STR(hash_text(hash_bytes("", 0), text), "99aa06d3014798d86001c324468d497f");
    EXPECT_STR(hash_text(hash_bytes("a", 1), text), "a96faf705af16834e6c632b61e964e1f");
    EXPECT_STR(hash_text(hash_bytes("spt", 3), text), "1bd6bf158effcfd5860d63481636acd4");
}

static void pieces_equal_the_whole(void **state)
{
    unsigned char b[3000];
    spt_err err;
    hash_state *h;
    for (size_t i = 0; i < sizeof b; i++)
        b[i] = (unsigned char)(i * 7 + i / 256);
    EXPECT_OK(hash_new(&h, &err), &err);
    for (size_t n = 0; n <= sizeof b; n += 37) {
        hash_reset(h);
        hash_add(h, b, n / 3);
        hash_add(h, b + n / 3, n - n / 3);
        EXPECT_TRUE(hash_equal(hash_value(h), hash_bytes(b, n)));
    }
    hash_free(h);
    hash_free(NULL);
}

static void text_round_trips(void **state)
{
    char text[HASH_TEXT];
    hash128 h = {0x0123456789abcdef, 0xfedcba9876543210}, back;
    EXPECT_STR(hash_text(h, text), "0123456789abcdeffedcba9876543210");
    EXPECT_TRUE(hash_from_text(text, 32, &back) && hash_equal(h, back));
    EXPECT_TRUE(!hash_from_text(text, 31, &back));
    text[5] = 'A';
    EXPECT_TRUE(!hash_from_text(text, 32, &back));
    text[5] = 'g';
    EXPECT_TRUE(!hash_from_text(text, 32, &back));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(known_values),
        cmocka_unit_test(pieces_equal_the_whole),
        cmocka_unit_test(text_round_trips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
