#include "codec/gzip.h"

#include <string.h>
#include <zlib.h>

enum { INPUT_BUFFER = 65536, WINDOW_GZIP = 15 + 16, WINDOW_ZLIB = 15, WINDOW_RAW = -15 };

static voidpf zlib_alloc(voidpf ctx, uInt items, uInt size)
{
    (void)ctx;
    return mem_alloc(items, size);
}

static void zlib_free(voidpf ctx, voidpf p)
{
    (void)ctx;
    mem_free(p);
}

static void stream_init(z_stream *z)
{
    *z = (z_stream){.zalloc = zlib_alloc, .zfree = zlib_free};
}

bool gzip_detect(const void *bytes, size_t size)
{
    const unsigned char *b = bytes;
    return size >= 2 && b[0] == 0x1f && b[1] == 0x8b;
}

bool deflate_may_hold(size_t compressed, size_t decoded)
{
    return decoded <= 64 || (decoded - 64) / DEFLATE_MAX_RATIO <= compressed;
}

static spt_status inflate_error(const z_stream *z, int r, uint64_t offset, spt_err *err)
{
    if (r == Z_MEM_ERROR)
        return err_nomem(err, 0);
    return err_at(err, SPT_E_FORMAT, offset, "compressed data damaged at byte %llu: %s",
                  (unsigned long long)offset, z->msg ? z->msg : "invalid stream");
}

/* --- streaming --- */

/* Between members the reader peeks at the next two bytes, which may lie in different pieces of the
 * source; hence the states. */
enum state { AT_MEMBER, IN_MEMBER, IN_PADDING, AT_END };

struct gzip_reader {
    gzip_source_fn source;
    void *ctx;
    z_stream z;
    enum state state;
    bool source_ended;
    bool any_member;
    bool raw; /* one deflate stream and nothing else */
    spt_status failed; /* sticky */
    uint64_t taken;    /* compressed bytes handed over by the source */
    unsigned char in[INPUT_BUFFER];
};

static spt_status reader_open(gzip_source_fn source, void *ctx, bool raw, gzip_reader **out,
                              spt_err *err)
{
    gzip_reader *g = mem_alloc(1, sizeof *g);
    if (!g)
        return err_nomem(err, sizeof *g);
    g->source = source;
    g->ctx = ctx;
    g->state = raw ? IN_MEMBER : AT_MEMBER;
    g->source_ended = false;
    g->any_member = g->raw = raw;
    g->failed = SPT_OK;
    g->taken = 0;
    stream_init(&g->z);
    const int r = inflateInit2(&g->z, raw ? WINDOW_RAW : WINDOW_GZIP);
    if (r != Z_OK) {
        mem_free(g);
        return r == Z_MEM_ERROR ? err_nomem(err, 0)
                                /* never: all else would be wrong arguments of ours */
                                : err_set(err, SPT_E_DEVICE, "zlib cannot start (%d)", r);
    }
    *out = g;
    return SPT_OK;
}

spt_status gzip_reader_open(gzip_source_fn source, void *ctx, gzip_reader **out, spt_err *err)
{
    return reader_open(source, ctx, false, out, err);
}

spt_status gzip_reader_open_raw(gzip_source_fn source, void *ctx, gzip_reader **out, spt_err *err)
{
    return reader_open(source, ctx, true, out, err);
}

static uint64_t in_offset(const gzip_reader *g)
{
    return g->taken - g->z.avail_in;
}

/* More compressed bytes, behind those not used yet. */
static spt_status refill(gzip_reader *g, spt_err *err)
{
    if (g->z.avail_in)
        memmove(g->in, g->z.next_in, g->z.avail_in);
    g->z.next_in = g->in;
    size_t got = 0;
    TRY(g->source(g->ctx, g->in + g->z.avail_in, sizeof g->in - g->z.avail_in, &got, err));
    g->source_ended = got == 0;
    g->taken += got;
    g->z.avail_in += (uInt)got;
    return SPT_OK;
}

/* A member, the end, or padding? */
static spt_status start_member(gzip_reader *g, spt_err *err)
{
    while (g->z.avail_in < 2 && !g->source_ended)
        TRY(refill(g, err));
    if (g->z.avail_in == 0 && g->any_member) {
        g->state = AT_END;
        return SPT_OK;
    }
    if (g->raw)
        return err_at(err, SPT_E_FORMAT, in_offset(g), "bytes behind the compressed data at byte %llu",
                      (unsigned long long)in_offset(g));
    if (gzip_detect(g->z.next_in, g->z.avail_in)) {
        if (g->any_member)
            inflateReset(&g->z);
        g->any_member = true;
        g->state = IN_MEMBER;
        return SPT_OK;
    }
    if (g->any_member && g->z.next_in[0] == 0) {
        g->state = IN_PADDING;
        return SPT_OK;
    }
    return err_at(err, SPT_E_FORMAT, in_offset(g), "not gzip data at byte %llu",
                  (unsigned long long)in_offset(g));
}

static spt_status skip_padding(gzip_reader *g, spt_err *err)
{
    for (;;) {
        for (; g->z.avail_in; g->z.avail_in--, g->z.next_in++)
            if (*g->z.next_in)
                return err_at(err, SPT_E_FORMAT, in_offset(g),
                              "bytes behind the gzip data at byte %llu",
                              (unsigned long long)in_offset(g));
        if (g->source_ended)
            break;
        TRY(refill(g, err));
    }
    g->state = AT_END;
    return SPT_OK;
}

static spt_status inflate_some(gzip_reader *g, spt_err *err)
{
    if (g->z.avail_in == 0 && !g->source_ended)
        TRY(refill(g, err));
    const int r = inflate(&g->z, Z_NO_FLUSH);
    if (r == Z_STREAM_END)
        g->state = AT_MEMBER;
    else if (r == Z_BUF_ERROR || (r == Z_OK && g->z.avail_in == 0 && g->z.avail_out)) {
        if (g->source_ended)
            return err_at(err, SPT_E_FORMAT, g->taken,
                          g->raw ? "compressed data ends early at byte %llu"
                                 : "gzip data ends early at byte %llu",
                          (unsigned long long)g->taken);
    } else if (r != Z_OK)
        return inflate_error(&g->z, r, in_offset(g), err);
    return SPT_OK;
}

static spt_status read_some(gzip_reader *g, void *p, size_t n, size_t *got, spt_err *err)
{
    const uInt want = n > UINT32_MAX / 2 ? UINT32_MAX / 2 : (uInt)n;
    g->z.next_out = p;
    g->z.avail_out = want;
    while (g->z.avail_out == want && g->state != AT_END) {
        switch (g->state) {
        case AT_MEMBER:
            TRY(start_member(g, err));
            break;
        case IN_MEMBER:
            TRY(inflate_some(g, err));
            break;
        case IN_PADDING:
            TRY(skip_padding(g, err));
            break;
        case AT_END:
            break;
        }
    }
    *got = want - g->z.avail_out;
    return SPT_OK;
}

spt_status gzip_reader_read(gzip_reader *g, void *p, size_t n, size_t *got, spt_err *err)
{
    if (g->failed)
        return err_set(err, g->failed, "gzip data: an earlier read failed");
    size_t have = 0;
    if (n)
        g->failed = read_some(g, p, n, &have, err);
    if (!g->failed)
        *got = have;
    return g->failed;
}

uint64_t gzip_reader_taken(const gzip_reader *g)
{
    return in_offset(g);
}

void gzip_reader_close(gzip_reader *g)
{
    if (!g)
        return;
    inflateEnd(&g->z);
    mem_free(g);
}

/* --- one shot --- */

/* zlib counts in 32 bits: hand over at most 1 GiB at a time. */
static uInt piece(size_t n)
{
    return n > (1u << 30) ? 1u << 30 : (uInt)n;
}

struct inflating {
    z_stream z;
    const unsigned char *in;
    size_t in_size;
    bool gzip;
};

static spt_status inflating_init(struct inflating *f, const void *in, size_t in_size, spt_err *err)
{
    *f = (struct inflating){.in = in, .in_size = in_size, .gzip = gzip_detect(in, in_size)};
    stream_init(&f->z);
    const int r = inflateInit2(&f->z, f->gzip ? WINDOW_GZIP : WINDOW_ZLIB);
    if (r == Z_OK)
        return SPT_OK;
    return r == Z_MEM_ERROR ? err_nomem(err, 0)
                            /* never: all else would be wrong arguments of ours */
                            : err_set(err, SPT_E_DEVICE, "zlib cannot start (%d)", r);
}

static size_t in_used(const struct inflating *f)
{
    return f->z.next_in ? (size_t)(f->z.next_in - f->in) : 0;
}

/* Decodes until `size` bytes of out are full or the stream has ended (*ended). */
static spt_status inflate_into(struct inflating *f, unsigned char *out, size_t size, size_t *made,
                               bool *ended, spt_err *err)
{
    size_t done = 0;
    if (!f->z.next_in)
        f->z.next_in = (Bytef *)f->in;
    for (;;) {
        f->z.avail_in = piece(f->in_size - in_used(f));
        f->z.next_out = out + done;
        f->z.avail_out = piece(size - done);
        const uInt in_before = f->z.avail_in, out_before = f->z.avail_out;
        const int r = inflate(&f->z, Z_NO_FLUSH);
        done += out_before - f->z.avail_out;
        const bool moved = f->z.avail_in != in_before || f->z.avail_out != out_before;
        if (r == Z_STREAM_END) {
            const size_t used = in_used(f);
            if (f->gzip && gzip_detect(f->in + used, f->in_size - used)) {
                inflateReset(&f->z);
                continue;
            }
            *ended = true;
            break;
        }
        if (r != Z_OK && r != Z_BUF_ERROR)
            return inflate_error(&f->z, r, in_used(f), err);
        if (!moved) {
            if (done == size)
                break; /* full, and the stream wants to go on */
            return err_at(err, SPT_E_FORMAT, f->in_size, "compressed data ends early at byte %zu",
                          f->in_size);
        }
    }
    *made = done;
    return SPT_OK;
}

static spt_status check_rest(const struct inflating *f, spt_err *err)
{
    for (size_t i = in_used(f); i < f->in_size; i++)
        if (!f->gzip || f->in[i])
            return err_at(err, SPT_E_FORMAT, i, "bytes behind the compressed data at byte %zu", i);
    return SPT_OK;
}

spt_status gzip_decode_exact(const void *in, size_t in_size, void *out, size_t size, spt_err *err)
{
    struct inflating f;
    TRY(inflating_init(&f, in, in_size, err));
    unsigned char none; /* a place for zlib to point at when size is 0 */
    size_t made = 0;
    bool ended = false;
    spt_status st = inflate_into(&f, size ? out : &none, size, &made, &ended, err);
    if (!st && !ended) {
        /* Full, but the end of the stream was not seen: is there more? */
        size_t more = 0;
        st = inflate_into(&f, &none, 1, &more, &ended, err);
        made += more;
    }
    if (!st && (made != size || !ended))
        st = err_set(err, SPT_E_FORMAT, "compressed data holds %s%zu bytes, wanted %zu",
                     made > size ? "more than " : "", made > size ? size : made, size);
    if (!st)
        st = check_rest(&f, err);
    inflateEnd(&f.z);
    return st;
}

spt_status gzip_decode(const void *in, size_t in_size, size_t max, buf *out, spt_err *err)
{
    struct inflating f;
    TRY(inflating_init(&f, in, in_size, err));
    unsigned char *block = mem_alloc(INPUT_BUFFER, 1);
    spt_status st = block ? SPT_OK : err_nomem(err, INPUT_BUFFER);
    size_t total = 0;
    for (bool ended = false; !st && !ended;) {
        size_t made = 0;
        st = inflate_into(&f, block, INPUT_BUFFER, &made, &ended, err);
        if (!st && made > max - total)
            st = err_set(err, SPT_E_FORMAT, "compressed data holds more than the limit of %zu bytes",
                         max);
        if (!st) {
            total += made;
            buf_add(out, block, made);
            st = buf_status(out, "decompressed data", err);
        }
    }
    if (!st)
        st = check_rest(&f, err);
    mem_free(block);
    inflateEnd(&f.z);
    return st;
}

spt_status gzip_encode(const void *in, size_t in_size, int level, buf *out, spt_err *err)
{
    z_stream z;
    stream_init(&z);
    int r = deflateInit2(&z, level, Z_DEFLATED, WINDOW_GZIP, 8, Z_DEFAULT_STRATEGY);
    if (r != Z_OK)
        return r == Z_MEM_ERROR ? err_nomem(err, 0)
                                /* never: all else would be wrong arguments of ours */
                                : err_set(err, SPT_E_DEVICE, "zlib cannot start (%d)", r);
    unsigned char *block = mem_alloc(INPUT_BUFFER, 1);
    if (!block) {
        deflateEnd(&z);
        return err_nomem(err, INPUT_BUFFER);
    }
    z.next_in = (Bytef *)in;
    size_t left = in_size;
    do {
        z.avail_in = piece(left);
        left -= z.avail_in;
        do {
            z.next_out = block;
            z.avail_out = INPUT_BUFFER;
            r = deflate(&z, left ? Z_NO_FLUSH : Z_FINISH);
            buf_add(out, block, INPUT_BUFFER - z.avail_out);
        } while (z.avail_out == 0);
    } while (left);
    const bool complete = r == Z_STREAM_END;
    mem_free(block);
    deflateEnd(&z);
    if (!complete)
        return err_set(err, SPT_E_DEVICE, "zlib stopped early (%d)", r);
    return buf_status(out, "compressed data", err);
}

const char *gzip_library_version(void)
{
    return zlibVersion();
}
