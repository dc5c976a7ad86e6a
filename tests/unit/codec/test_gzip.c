/* codec/gzip: round trips, members, padding, truncation at every length, limits, memory. */
#include "support/test.h"

#include <string.h>

#include "codec/gzip.h"

/* A source that hands out at most `step` bytes at a time. */
struct pieces {
    const char *p;
    size_t left, step;
};

static spt_status take(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct pieces *s = ctx;
    size_t k = n < s->step ? n : s->step;
    k = k < s->left ? k : s->left;
    memcpy(p, s->p, k);
    s->p += k;
    s->left -= k;
    *got = k;
    return SPT_OK;
}

static spt_status stream_all(const char *in, size_t n, size_t step, size_t ask, buf *out,
                             spt_err *err)
{
    struct pieces s = {in, n, step};
    gzip_reader *g;
    char block[700];
    TRY(gzip_reader_open(take, &s, &g, err));
    spt_status st;
    size_t got;
    while (!(st = gzip_reader_read(g, block, ask, &got, err)) && got)
        buf_add(out, block, got);
    gzip_reader_close(g);
    return st;
}

static void fill(char *p, size_t n)
{
    uint32_t x = 7;
    for (size_t i = 0; i < n; i++)
        p[i] = (char)(i % 3 ? 'a' + i % 7 : (x = x * 1664525 + 1013904223) >> 25);
}

static void round_trips(void **state)
{
    static char data[200000];
    static char back[200000];
    spt_err err;
    buf z, out;
    fill(data, sizeof data);
    buf_init(&z, 1 << 20);
    buf_init(&out, 1 << 20);
    const size_t sizes[] = {0, 1, 2, 63, 64, 65, 65535, 65536, 65537, 200000};
    for (int level = 0; level <= 9; level += 3)
        for (size_t k = 0; k < sizeof sizes / sizeof *sizes; k++) {
            const size_t n = sizes[k];
            buf_clear(&z);
            buf_clear(&out);
            EXPECT_OK(gzip_encode(data, n, level, &z, &err), &err);
            EXPECT_TRUE(gzip_detect(z.data, z.len));
            EXPECT_TRUE(deflate_may_hold(z.len, n));
            EXPECT_OK(gzip_decode_exact(z.data, z.len, back, n, &err), &err);
            EXPECT_TRUE(!memcmp(back, data, n));
            EXPECT_OK(gzip_decode(z.data, z.len, n, &out, &err), &err);
            EXPECT_TRUE(out.len == n && !memcmp(buf_str(&out), data, n));
            buf_clear(&out);
            EXPECT_OK(stream_all(z.data, z.len, 1000, 700, &out, &err), &err);
            EXPECT_TRUE(out.len == n && !memcmp(buf_str(&out), data, n));
            if (n) {
                EXPECT_STATUS(gzip_decode_exact(z.data, z.len, back, n - 1, &err), SPT_E_FORMAT);
                EXPECT_MSG(&err, "more than");
                buf_clear(&out);
                EXPECT_STATUS(gzip_decode(z.data, z.len, n - 1, &out, &err), SPT_E_FORMAT);
                EXPECT_MSG(&err, "limit");
            }
            if (n < sizeof back)
                EXPECT_STATUS(gzip_decode_exact(z.data, z.len, back, n + 1, &err), SPT_E_FORMAT);
        }
    buf_release(&z);
    buf_release(&out);
}

/* Concatenated members and zero padding, byte by byte and in one piece. */
static void members_and_padding(void **state)
{
    spt_err err;
    buf z, out;
    buf_init(&z, 4096);
    buf_init(&out, 4096);
    EXPECT_OK(gzip_encode("one", 3, 1, &z, &err), &err);
    EXPECT_OK(gzip_encode("", 0, 1, &z, &err), &err);
    EXPECT_OK(gzip_encode("two", 3, 0, &z, &err), &err);
    const size_t bare = z.len;
    for (int padded = 0; padded < 2; padded++) {
        for (size_t step = 1; step <= z.len; step++) {
            buf_clear(&out);
            EXPECT_OK(stream_all(z.data, z.len, step, 2, &out, &err), &err);
            EXPECT_STR(buf_str(&out), "onetwo");
        }
        char back[6];
        EXPECT_OK(gzip_decode_exact(z.data, z.len, back, 6, &err), &err);
        EXPECT_TRUE(!memcmp(back, "onetwo", 6));
        buf_add(&z, "\0\0\0\0\0", 5);
    }
    z.len = bare;
    buf_add(&z, "\0\0x", 3);
    buf_clear(&out);
    EXPECT_STATUS(stream_all(z.data, z.len, 5, 50, &out, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "behind the gzip data");
    EXPECT_EQ_I64(err.offset, bare + 2);
    z.len = bare;
    buf_add(&z, "garbage", 7);
    EXPECT_STATUS(stream_all(z.data, z.len, 5, 50, &out, &err), SPT_E_FORMAT);
    char back[6];
    EXPECT_STATUS(gzip_decode_exact(z.data, z.len, back, 6, &err), SPT_E_FORMAT);
    buf_release(&z);
    buf_release(&out);
}

static void damage_is_seen(void **state)
{
    char data[500], back[500];
    spt_err err;
    buf z, out;
    fill(data, sizeof data);
    buf_init(&z, 4096);
    buf_init(&out, 4096);
    EXPECT_OK(gzip_encode(data, sizeof data, 1, &z, &err), &err);
    for (size_t n = 0; n < z.len; n++) { /* truncated at every length */
        EXPECT_STATUS(gzip_decode_exact(z.data, n, back, sizeof back, &err), SPT_E_FORMAT);
        buf_clear(&out);
        EXPECT_STATUS(stream_all(z.data, n, 7, 100, &out, &err), SPT_E_FORMAT);
        EXPECT_STATUS(gzip_decode(z.data, n, 10000, &out, &err), SPT_E_FORMAT);
    }
    int unseen = 0;
    for (size_t i = 0; i < z.len; i++) { /* every bit of data and trailer flipped */
        const bool header = i >= 3 && i < 10; /* flags and times are not covered by the checksum */
        for (int bit = 0; bit < 8 && !header; bit++) {
            z.data[i] = (char)(z.data[i] ^ 1 << bit);
            const spt_status st = gzip_decode_exact(z.data, z.len, back, sizeof back, &err);
            z.data[i] = (char)(z.data[i] ^ 1 << bit);
            EXPECT_TRUE(st == SPT_E_FORMAT || !memcmp(back, data, sizeof back));
            unseen += !st;
        }
    }
    EXPECT_TRUE(unseen <= 7); /* unused bits of the last byte of the deflate stream */
    buf_release(&z);
    buf_release(&out);
}

static void zlib_streams_are_told_apart(void **state)
{
    /* zlib.compress(b"spt spt spt spt") */
    static const unsigned char z[] = {0x78, 0x9c, 0x2b, 0x2e, 0x28, 0x51, 0x28, 0x46,
                                      0x60, 0x00, 0x2d, 0xeb, 0x05, 0xbd};
    char back[16] = {0};
    spt_err err;
    EXPECT_OK(gzip_decode_exact(z, sizeof z, back, 15, &err), &err);
    EXPECT_STR(back, "spt spt spt spt");
}

static void lies_about_size_are_refused(void **state)
{
    EXPECT_TRUE(deflate_may_hold(0, 64));
    EXPECT_TRUE(!deflate_may_hold(10, (size_t)1 << 40));
    EXPECT_TRUE(deflate_may_hold((size_t)1 << 20, (size_t)1 << 30));
}

static spt_status broken_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct pieces *s = ctx;
    return s->left ? take(ctx, p, n, got, err) : err_set(err, SPT_E_IO, "the disk is gone");
}

static void a_failing_source(void **state)
{
    static const char *const tails[] = {"", "\0", "\0\0\0"};
    spt_err err;
    buf z;
    buf_init(&z, 1000);
    EXPECT_OK(gzip_encode("text", 4, 1, &z, &err), &err);
    const size_t whole = z.len;
    for (size_t cut = 0; cut <= whole + 2; cut++) {
        struct pieces s = {z.data, cut < whole ? cut : whole, 3};
        char block[10];
        size_t got = 1;
        gzip_reader *g;
        z.len = whole;
        if (cut > whole) {
            buf_add(&z, tails[cut - whole], cut - whole);
            s = (struct pieces){z.data, z.len, 3};
        }
        EXPECT_OK(gzip_reader_open(broken_source, &s, &g, &err), &err);
        spt_status st = SPT_OK;
        EXPECT_OK(gzip_reader_read(g, block, 0, &got, &err), &err);
        do
            st = gzip_reader_read(g, block, sizeof block, &got, &err);
        while (!st && got);
        EXPECT_EQ_I64(st, SPT_E_IO);
        EXPECT_MSG(&err, "disk is gone");
        EXPECT_STATUS(gzip_reader_read(g, block, 1, &got, &err), SPT_E_IO); /* sticky */
        EXPECT_MSG(&err, "earlier");
        gzip_reader_close(g);
    }
    gzip_reader_close(NULL);
    buf_release(&z);
}

static spt_status every_call(void *ctx, spt_err *err)
{
    char back[600];
    buf z, out;
    buf_init(&z, 4096);
    buf_init(&out, 4096);
    spt_status st = gzip_encode(ctx, 600, 1, &z, err);
    if (!st)
        st = gzip_decode_exact(z.data, z.len, back, 600, err);
    if (!st)
        st = gzip_decode(z.data, z.len, 600, &out, err);
    if (!st)
        st = stream_all(z.data, z.len, 100, 100, &out, err);
    if (!st)
        st = buf_status(&out, "out", err);
    buf_release(&z);
    buf_release(&out);
    return st;
}

static void out_of_memory(void **state)
{
    char data[600];
    fill(data, sizeof data);
    EXPECT_TRUE(fault_every_alloc(every_call, data) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(round_trips),
        cmocka_unit_test(members_and_padding),
        cmocka_unit_test(damage_is_seen),
        cmocka_unit_test(zlib_streams_are_told_apart),
        cmocka_unit_test(lies_about_size_are_refused),
        cmocka_unit_test(a_failing_source),
        cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
