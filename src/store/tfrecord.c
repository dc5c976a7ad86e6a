#include "store/tfrecord.h"

#include <string.h>

#include "base/cursor.h"
#include "codec/crc.h"
#include "codec/gzip.h"

enum { HEADER = 12, FOOTER = 4, PEEK = 65536 };

struct tfrecord_reader {
    fs_stream *file;
    gzip_reader *gzip; /* NULL for plain files */
    char *path;
    uint64_t index, offset;
    unsigned char *data; /* the record, then its footer; grows as bytes arrive */
    size_t cap;
    size_t peeked, peek_at; /* bytes of `peek` filled and used */
    bool file_ended;
    spt_status failed;
    unsigned char peek[PEEK];
};

/* Raw bytes of the file, through the peek buffer. */
static spt_status raw_read(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    tfrecord_reader *r = ctx;
    if (r->peek_at == r->peeked && !r->file_ended) {
        r->peek_at = r->peeked = 0;
        size_t have = 0;
        TRY(fs_stream_read(r->file, r->peek, sizeof r->peek, &have, err));
        r->peeked = have;
        r->file_ended = have == 0;
    }
    const size_t left = r->peeked - r->peek_at;
    *got = n < left ? n : left;
    memcpy(p, r->peek + r->peek_at, *got);
    r->peek_at += *got;
    return SPT_OK;
}

static spt_status read_full(tfrecord_reader *r, void *p, size_t n, size_t *got, spt_err *err)
{
    *got = 0;
    while (*got < n) {
        size_t have = 0;
        char *at = (char *)p + *got;
        TRY(r->gzip ? gzip_reader_read(r->gzip, at, n - *got, &have, err)
                    : raw_read(r, at, n - *got, &have, err));
        if (!have)
            break;
        *got += have;
    }
    return SPT_OK;
}

/* Fills the peek buffer to see whether the file is gzip'd. */
static spt_status detect(tfrecord_reader *r, spt_err *err)
{
    while (r->peeked < 2) {
        size_t got = 0;
        TRY(fs_stream_read(r->file, r->peek + r->peeked, sizeof r->peek - r->peeked, &got, err));
        if (!got) {
            r->file_ended = true;
            break;
        }
        r->peeked += got;
    }
    if (gzip_detect(r->peek, r->peeked))
        TRY(gzip_reader_open(raw_read, r, &r->gzip, err));
    return SPT_OK;
}

spt_status tfrecord_open(const char *path, tfrecord_reader **out, spt_err *err)
{
    tfrecord_reader *r = mem_zalloc(1, sizeof *r);
    if (!r)
        return err_nomem(err, sizeof *r);
    spt_status st = SPT_OK;
    if (!(r->path = mem_strdup(path)))
        st = err_nomem(err, strlen(path));
    if (!st)
        st = fs_stream_open(path, &r->file, err);
    if (!st && (st = detect(r, err)))
        st = err_wrap(err, st, "%s", path);
    if (st) {
        tfrecord_close(r);
        return st;
    }
    *out = r;
    return SPT_OK;
}

void tfrecord_close(tfrecord_reader *r)
{
    if (!r)
        return;
    gzip_reader_close(r->gzip);
    fs_stream_close(r->file);
    mem_free(r->data);
    mem_free(r->path);
    mem_free(r);
}

spt_status tfrecord_rewind(tfrecord_reader *r, spt_err *err)
{
    gzip_reader_close(r->gzip);
    r->gzip = NULL;
    r->index = r->offset = 0;
    r->peeked = r->peek_at = 0;
    r->file_ended = false;
    r->failed = fs_stream_rewind(r->file, err);
    if (!r->failed)
        r->failed = detect(r, err);
    return r->failed;
}

uint64_t tfrecord_index(const tfrecord_reader *r)
{
    return r->index;
}

uint64_t tfrecord_offset(const tfrecord_reader *r)
{
    return r->offset;
}

static spt_status bad(uint64_t offset, const char *what, uint64_t index, const char *why,
                      spt_err *err)
{
    return err_at(err, SPT_E_FORMAT, offset, "%s: record %llu at byte %llu: %s", what,
                  (unsigned long long)index, (unsigned long long)offset, why);
}

static const char *const TRUNCATED = "the file ends inside the record";
static const char *const BAD_LENGTH = "wrong checksum of the length";
static const char *const BAD_DATA = "wrong checksum of the data";
static const char *const TOO_LONG = "longer than 1 GiB";

static bool header_ok(const unsigned char h[HEADER], uint64_t *length)
{
    cursor c = cursor_make(h, HEADER);
    *length = cursor_u64le(&c);
    return cursor_u32le(&c) == crc32c_mask(crc32c(h, 8));
}

static bool data_ok(const unsigned char *data, size_t size, const unsigned char *footer)
{
    cursor c = cursor_make(footer, FOOTER);
    return cursor_u32le(&c) == crc32c_mask(crc32c(data, size));
}

/* Reads the body in pieces, so that memory follows the bytes that are there and not the length
 * that is declared. */
static spt_status read_body(tfrecord_reader *r, size_t size, spt_err *err)
{
    const size_t want = size + FOOTER;
    for (size_t have = 0; have < want;) {
        size_t step = want - have;
        const size_t room = have < PEEK ? PEEK : have; /* at most doubling */
        if (step > room)
            step = room;
        TRY(mem_grow(&r->data, &r->cap, have + step, 1, TFRECORD_MAX + FOOTER, err));
        size_t got;
        TRY(read_full(r, r->data + have, step, &got, err));
        if (got != step)
            return bad(r->offset, r->path, r->index, TRUNCATED, err);
        have += step;
    }
    return SPT_OK;
}

static spt_status next(tfrecord_reader *r, bool check, const void **data, size_t *size,
                       spt_err *err)
{
    unsigned char head[HEADER];
    size_t got;
    uint64_t length;
    TRY(read_full(r, head, sizeof head, &got, err));
    if (got == 0) {
        *data = NULL;
        *size = 0;
        return SPT_OK;
    }
    if (got != sizeof head)
        return bad(r->offset, r->path, r->index, TRUNCATED, err);
    if (!header_ok(head, &length))
        return bad(r->offset, r->path, r->index, BAD_LENGTH, err);
    if (length > TFRECORD_MAX)
        return bad(r->offset, r->path, r->index, TOO_LONG, err);
    TRY(read_body(r, (size_t)length, err));
    if (check && !data_ok(r->data, (size_t)length, r->data + length))
        return bad(r->offset, r->path, r->index, BAD_DATA, err);
    r->index++;
    r->offset += length + TFRECORD_OVERHEAD;
    *data = r->data;
    *size = (size_t)length;
    return SPT_OK;
}

static spt_status next_sticky(tfrecord_reader *r, bool check, const void **data, size_t *size,
                              spt_err *err)
{
    if (r->failed)
        return err_set(err, r->failed, "%s: an earlier read failed", r->path);
    r->failed = next(r, check, data, size, err);
    if (r->failed && r->gzip && err && !strstr(err->msg, r->path))
        err_wrap(err, r->failed, "%s", r->path);
    return r->failed;
}

spt_status tfrecord_next(tfrecord_reader *r, const void **data, size_t *size, spt_err *err)
{
    return next_sticky(r, true, data, size, err);
}

spt_status tfrecord_skip(tfrecord_reader *r, uint64_t records, spt_err *err)
{
    for (uint64_t i = 0; i < records; i++) {
        const void *data;
        size_t size;
        TRY(next_sticky(r, false, &data, &size, err));
        if (!data)
            return err_set(err, SPT_E_NOTFOUND, "%s has only %llu records", r->path,
                           (unsigned long long)r->index);
    }
    return SPT_OK;
}

spt_status tfrecord_parse(const void *bytes, size_t size, size_t *offset, const void **data,
                          size_t *data_size, const char *what, spt_err *err)
{
    const size_t at = *offset;
    const unsigned char *p = (const unsigned char *)bytes + at;
    const size_t left = size - at;
    uint64_t length;
    if (left == 0) {
        *data = NULL;
        *data_size = 0;
        return SPT_OK;
    }
    const char *why = NULL;
    if (left < HEADER)
        why = TRUNCATED;
    else if (!header_ok(p, &length))
        why = BAD_LENGTH;
    else if (length > TFRECORD_MAX)
        why = TOO_LONG;
    else if (left - HEADER < FOOTER || length > left - HEADER - FOOTER)
        why = TRUNCATED;
    else if (!data_ok(p + HEADER, (size_t)length, p + HEADER + length))
        why = BAD_DATA;
    if (why)
        return err_at(err, SPT_E_FORMAT, at, "%s: record at byte %zu: %s", what, at, why);
    *data = p + HEADER;
    *data_size = (size_t)length;
    *offset = at + HEADER + (size_t)length + FOOTER;
    return SPT_OK;
}

static void put_le(unsigned char *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(v >> (8 * i));
}

static void make_ends(const void *data, size_t size, unsigned char head[HEADER],
                      unsigned char foot[FOOTER])
{
    put_le(head, size, 8);
    put_le(head + 8, crc32c_mask(crc32c(head, 8)), 4);
    put_le(foot, crc32c_mask(crc32c(data, size)), 4);
}

void tfrecord_frame(buf *out, const void *data, size_t size)
{
    unsigned char head[HEADER], foot[FOOTER];
    make_ends(data, size, head, foot);
    buf_add(out, head, sizeof head);
    buf_add(out, data, size);
    buf_add(out, foot, sizeof foot);
}

enum { WRITE_BUFFER = 1 << 17 };

struct tfrecord_writer {
    fs_writer *file;
    buf out; /* framed records that are not written yet */
};

spt_status tfrecord_create(const char *path, tfrecord_writer **out, spt_err *err)
{
    tfrecord_writer *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    const spt_status st = fs_create(path, &w->file, err);
    if (st) {
        mem_free(w);
        return st;
    }
    buf_init(&w->out, SIZE_MAX / 4);
    *out = w;
    return SPT_OK;
}

static spt_status flush(tfrecord_writer *w, spt_err *err)
{
    TRY(buf_status(&w->out, "records", err));
    TRY(fs_write(w->file, buf_str(&w->out), w->out.len, err));
    buf_clear(&w->out);
    return SPT_OK;
}

spt_status tfrecord_add(tfrecord_writer *w, const void *data, size_t size, spt_err *err)
{
    tfrecord_frame(&w->out, data, size);
    return w->out.len >= WRITE_BUFFER ? flush(w, err) : buf_status(&w->out, "records", err);
}

spt_status tfrecord_commit(tfrecord_writer *w, spt_err *err)
{
    const spt_status st = flush(w, err);
    fs_writer *f = w->file;
    buf_release(&w->out);
    mem_free(w);
    if (st) {
        fs_abort(f);
        return st;
    }
    return fs_commit(f, err);
}

void tfrecord_abort(tfrecord_writer *w)
{
    if (!w)
        return;
    fs_abort(w->file);
    buf_release(&w->out);
    mem_free(w);
}
