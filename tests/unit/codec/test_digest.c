/* codec/digest: the published answers, at every length around a block. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "codec/digest.h"

static const char *hex(const uint8_t *d, size_t n)
{
    static char text[2 * SHA256_SIZE + 1];
    for (size_t i = 0; i < n; i++)
        snprintf(text + 2 * i, 3, "%02x", d[i]);
    return text;
}

static const char *md5(const char *s, size_t n)
{
    uint8_t d[MD5_SIZE];
    md5_of(s, n, d);
    return hex(d, sizeof d);
}

static const char *sha256(const char *s, size_t n)
{
    uint8_t d[SHA256_SIZE];
    sha256_of(s, n, d);
    return hex(d, sizeof d);
}

static void known_answers(void **state)
{
    char a[1000];
    memset(a, 'a', sizeof a);
    EXPECT_STR(md5("", 0), "d41d8cd98f00b204e9800998ecf8427e");
    EXPECT_STR(md5("message digest", 14), "f96b697d7cb7938d525a2f31aaf161d0");
    EXPECT_STR(md5(a, 55), "ef1772b6dff9a122358552954ad0df65");
    EXPECT_STR(md5(a, 56), "3b0c8ac703f828b04c6c197006d17218");
    EXPECT_STR(md5(a, 64), "014842d480b571495a4a0363793f7367");
    EXPECT_STR(md5(a, 1000), "cabe45dcc9ae5b66ba86600cca6b8ba8");
    EXPECT_STR(sha256("", 0), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_STR(sha256("abc", 3),
               "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    EXPECT_STR(sha256(a, 55), "9f4390f8d30c2dd92ec9f095b65e2b9ae9b0a925a5258e241c9f1e910f734318");
    EXPECT_STR(sha256(a, 56), "b35439a4ac6f0948b6d6f9e3c6af0f5f590ce20f1bde7090ef7970686ec6738a");
    EXPECT_STR(sha256(a, 64), "ffe054fe7ae0cb6dc65c3af9b61d5209f439851db43d0ba5997337df154668eb");
    EXPECT_STR(sha256(a, 1000),
               "41edece42d63e8d9bf515a9ba6932e1c20cbc9f5a5d134645adb5db1b9737ea3");
}

/* The same whatever the pieces. */
static void pieces(void **state)
{
    uint8_t text[300], whole[SHA256_SIZE], got[SHA256_SIZE];
    for (size_t i = 0; i < sizeof text; i++)
        text[i] = (uint8_t)(i * 37);
    for (size_t n = 0; n <= sizeof text; n += 1 + n / 60)
        for (size_t piece = 1; piece <= 130; piece += 1 + piece / 3) {
            sha256_state s;
            sha256_of(text, n, whole);
            sha256_start(&s);
            for (size_t at = 0; at < n; at += piece)
                sha256_more(&s, text + at, n - at < piece ? n - at : piece);
            sha256_finish(&s, got);
            EXPECT_TRUE(memcmp(whole, got, sizeof got) == 0);
        }
}

static void sha1(void **state)
{
    (void)state;
    static const char *const want[] = {
        "da39a3ee5e6b4b0d3255bfef95601890afd80709", "c1c8bbdc22796e28c0e15163d20899b65621d65a",
        "c2db330f6083854c99d4b5bfb6e8f29f201be699", "0098ba824b5c16427bd7a1122a5a442a25ec644d",
        "291e9a6c66994949b57ba5e650361e98fc36b1ba"};
    static const size_t length[] = {0, 55, 56, 64, 1000};
    char a[1000], text[2 * SHA1_SIZE + 1];
    uint8_t d[SHA1_SIZE];
    memset(a, 'a', sizeof a);
    for (size_t i = 0; i < 5; i++)
        for (size_t piece = 1; piece <= 130; piece += 7) {
            sha1_state s;
            sha1_start(&s);
            for (size_t at = 0; at < length[i]; at += piece)
                sha1_more(&s, a + at, length[i] - at < piece ? length[i] - at : piece);
            sha1_finish(&s, d);
            EXPECT_STR(digest_text(d, sizeof d, text), want[i]);
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(known_answers), cmocka_unit_test(pieces),
                                       cmocka_unit_test(sha1)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
