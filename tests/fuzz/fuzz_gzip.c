/* codec/gzip: streaming and one-shot decoding agree, and what was decoded can be encoded and decoded
 * again. The first byte is the size of the pieces that the source hands out. */
#include "fuzz/fuzz.h"

#include "codec/gzip.h"

enum { CAP = 1 << 16 }; /* twice the window */

struct source {
    const uint8_t *p;
    size_t left, step;
};

static spt_status take(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    size_t k = n < s->step ? n : s->step;
    k = k < s->left ? k : s->left;
    memcpy(p, s->p, k);
    s->p += k;
    s->left -= k;
    *got = k;
    return SPT_OK;
}

/* Up to CAP bytes; *more when there are others. */
static spt_status stream(const uint8_t *in, size_t n, size_t step, buf *out, bool *more)
{
    struct source s = {in, n, step};
    gzip_reader *g;
    char block[1000];
    size_t got = 1;
    spt_status st = gzip_reader_open(take, &s, &g, NULL);
    FUZZ_CHECK(st == SPT_OK);
    while (!st && got && out->len <= CAP - sizeof block) {
        st = gzip_reader_read(g, block, sizeof block, &got, NULL);
        if (!st)
            buf_add(out, block, got);
    }
    *more = !st && got;
    gzip_reader_close(g);
    return st;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    const size_t step = data[0] ? data[0] : 1000;
    const uint8_t *in = data + 1;
    const size_t n = size - 1;
    buf a, b, z;
    bool more;
    fuzz_begin();
    buf_init(&a, CAP);
    buf_init(&b, CAP);
    buf_init(&z, 2 * CAP);
    const spt_status streamed = stream(in, n, step, &a, &more);
    const spt_status whole = gzip_decode(in, n, CAP, &b, NULL);
    if (gzip_detect(in, n) && !more) {
        FUZZ_CHECK(streamed == whole);
        if (!whole)
            FUZZ_CHECK(a.len == b.len && !memcmp(buf_str(&a), buf_str(&b), a.len));
    }
    if (!whole) {
        char *back = mem_alloc(b.len, 1);
        FUZZ_CHECK(deflate_may_hold(n, b.len));
        FUZZ_CHECK(gzip_decode_exact(in, n, back, b.len, NULL) == SPT_OK);
        FUZZ_CHECK(!memcmp(back, buf_str(&b), b.len));
        FUZZ_CHECK(gzip_encode(buf_str(&b), b.len, data[0] % 10, &z, NULL) == SPT_OK);
        memset(back, 0, b.len);
        FUZZ_CHECK(gzip_decode_exact(z.data, z.len, back, b.len, NULL) == SPT_OK);
        FUZZ_CHECK(!memcmp(back, buf_str(&b), b.len));
        mem_free(back);
    }
    buf_release(&a);
    buf_release(&b);
    buf_release(&z);
    fuzz_end(size, 6 * CAP);
    return 0;
}
