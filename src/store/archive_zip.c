/* The central directory of ZIP files (PKWARE APPNOTE 6.3). It alone says what the archive holds;
 * local headers must agree with it. */
#include <stdlib.h>
#include <string.h>

#include "base/cursor.h"
#include "store/archive_internal.h"
#include "store/zip_format.h"

enum {
    METHOD_STORED = 0,
    METHOD_DEFLATED = 8,
    MAX_DIRECTORY = 256 << 20,
    RATIO_FREE_BYTES = 1 << 20
};

struct directory {
    uint64_t offset, size, count;
    uint64_t limit; /* where the end records start: data and directory lie in front */
};

/* The ZIP64 end record, where there is one, wins over the fields it extends. */
static spt_status read_end64(archive *a, uint64_t locator_at, const unsigned char *locator,
                             struct directory *d, spt_err *err)
{
    unsigned char rec[END64_SIZE];
    cursor l = cursor_make(locator + 8, 8);
    const uint64_t at = cursor_u64le(&l);
    if (at > locator_at || locator_at - at < END64_SIZE)
        return err_at(err, SPT_E_FORMAT, at, "the ZIP64 end record is not at byte %llu",
                      (unsigned long long)at);
    TRY(fs_read_at(a->file, at, rec, sizeof rec, err));
    if (peek32(rec) != END64_SIGNATURE)
        return err_at(err, SPT_E_FORMAT, at, "the ZIP64 end record is not at byte %llu",
                      (unsigned long long)at);
    cursor c = cursor_make(rec + 32, 24);
    d->count = cursor_u64le(&c);
    d->size = cursor_u64le(&c);
    d->offset = cursor_u64le(&c);
    d->limit = at;
    return SPT_OK;
}

static spt_status read_end(archive *a, const unsigned char *tail, size_t n, uint64_t tail_at,
                           struct directory *d, spt_err *err)
{
    size_t at;
    if (!zip_find_end(tail, n, &at))
        return err_at(err, SPT_E_FORMAT, fs_size(a->file),
                      "a ZIP file without its end record: it is cut short (%llu bytes)",
                      (unsigned long long)fs_size(a->file));
    cursor c = cursor_make(tail + at + 10, 10);
    d->count = cursor_u16le(&c);
    d->size = cursor_u32le(&c);
    d->offset = cursor_u32le(&c);
    d->limit = tail_at + at;
    if (at >= END64_LOCATOR_SIZE &&
        peek32(tail + at - END64_LOCATOR_SIZE) == END64_LOCATOR_SIGNATURE)
        TRY(read_end64(a, tail_at + at - END64_LOCATOR_SIZE, tail + at - END64_LOCATOR_SIZE, d,
                       err));
    if (d->offset > d->limit || d->size > d->limit - d->offset || d->size > MAX_DIRECTORY ||
        d->count > d->size / CENTRAL_SIZE)
        return err_at(err, SPT_E_FORMAT, tail_at + at,
                      "the ZIP directory (%llu entries, %llu bytes at byte %llu) does not fit "
                      "the file",
                      (unsigned long long)d->count, (unsigned long long)d->size,
                      (unsigned long long)d->offset);
    return SPT_OK;
}

static spt_status find_directory(archive *a, struct directory *d, spt_err *err)
{
    const uint64_t size = fs_size(a->file), most = MAX_COMMENT + END_SIZE + END64_LOCATOR_SIZE;
    const size_t n = (size_t)(size < most ? size : most);
    unsigned char *tail = mem_alloc(n, 1);
    if (!tail)
        return err_nomem(err, n);
    spt_status st = fs_read_at(a->file, size - n, tail, n, err);
    if (!st)
        st = read_end(a, tail, n, size - n, d, err);
    mem_free(tail);
    return st;
}

static spt_status check_entry(const struct member *m, const char *name, int shown, uint16_t flags,
                              uint16_t method, uint64_t limit, spt_err *err)
{
    if (flags & FLAG_ENCRYPTED)
        return err_set(err, SPT_E_FORMAT, "the member '%.*s' is encrypted", shown, name);
    if (method != METHOD_STORED && method != METHOD_DEFLATED)
        return err_set(
            err, SPT_E_FORMAT,
            "the member '%.*s' is compressed by method %d (stored and deflated are read)", shown,
            name, method);
    if (method == METHOD_STORED && m->packed != m->size)
        return err_set(err, SPT_E_FORMAT, "the member '%.*s' has two sizes, %llu and %llu", shown,
                       name, (unsigned long long)m->packed, (unsigned long long)m->size);
    if (m->size > RATIO_FREE_BYTES && (m->size - RATIO_FREE_BYTES) / ARCHIVE_MAX_RATIO > m->packed)
        return err_set(
            err, SPT_E_FORMAT,
            "the member '%.*s' claims %llu bytes in %llu: more than %d fold; no data set "
            "does that",
            shown, name, (unsigned long long)m->size, (unsigned long long)m->packed,
            ARCHIVE_MAX_RATIO);
    if (m->offset > limit || limit - m->offset < LOCAL_SIZE ||
        m->packed > limit - m->offset - LOCAL_SIZE)
        return err_set(err, SPT_E_FORMAT,
                       "the member '%.*s' (%llu bytes at byte %llu) lies behind the data: the file "
                       "is cut short or damaged",
                       shown, name, (unsigned long long)m->packed, (unsigned long long)m->offset);
    return SPT_OK;
}

static spt_status read_entry(archive *a, cursor *c, uint64_t base, uint64_t limit, spt_err *err)
{
    const uint64_t at = base + cursor_offset(c);
    struct zip_sizes s;
    const uint32_t signature = cursor_u32le(c);
    cursor_take(c, 4);
    const uint16_t flags = cursor_u16le(c), method = cursor_u16le(c);
    cursor_take(c, 4);
    struct member m = {.crc = cursor_u32le(c)};
    s.packed = cursor_u32le(c);
    s.plain = cursor_u32le(c);
    const uint16_t name_len = cursor_u16le(c), extra_len = cursor_u16le(c);
    const uint16_t comment_len = cursor_u16le(c);
    cursor_take(c, 8);
    s.local = cursor_u32le(c);
    const char *name = (const char *)cursor_take(c, name_len);
    const unsigned char *extra = cursor_take(c, extra_len);
    cursor_take(c, comment_len);
    if (!cursor_ok(c) || signature != CENTRAL_SIGNATURE)
        return err_at(err, SPT_E_FORMAT, at, "the ZIP directory is damaged at byte %llu",
                      (unsigned long long)at);
    const int shown = zip_shown(name_len);
    if (!zip_read_zip64(cursor_make(extra, extra_len), &s, true))
        return err_at(err, SPT_E_FORMAT, at, "the member '%.*s' lacks its ZIP64 sizes", shown,
                      name);
    m.offset = s.local;
    m.packed = s.packed;
    m.size = s.plain;
    m.deflated = method == METHOD_DEFLATED;
    TRY(check_entry(&m, name, shown, flags, method, limit, err));
    if (name_len && name[name_len - 1] == '/' && !m.size) { /* a directory */
        TRY(archive_add(a, name, name_len, m, err));
        mem_free(a->member[--a->count].name);
        return SPT_OK;
    }
    return archive_add(a, name, name_len, m, err);
}

static int by_offset(const void *x, const void *y)
{
    const struct member *a = x, *b = y;
    return (a->offset > b->offset) - (a->offset < b->offset);
}

/* One byte of the file in two members: how a small archive becomes petabytes. The directory's order
 * is given up for that of the data. */
static spt_status check_overlap(archive *a, spt_err *err)
{
    if (a->count)
        qsort(a->member, a->count, sizeof *a->member, by_offset);
    for (size_t i = 1; i < a->count; i++) {
        const struct member *x = &a->member[i - 1], *y = &a->member[i];
        if (y->offset - x->offset < LOCAL_SIZE + strlen(x->name) ||
            y->offset - x->offset - LOCAL_SIZE - strlen(x->name) < x->packed)
            return err_set(err, SPT_E_FORMAT, "the members '%.60s' and '%.60s' overlap", x->name,
                           y->name);
    }
    return SPT_OK;
}

spt_status zip_list(archive *a, spt_err *err)
{
    struct directory d = {0};
    TRY(find_directory(a, &d, err));
    unsigned char *bytes = mem_alloc((size_t)d.size, 1);
    if (!bytes)
        return err_nomem(err, (size_t)d.size);
    spt_status st = fs_read_at(a->file, d.offset, bytes, (size_t)d.size, err);
    cursor c = cursor_make(bytes, (size_t)d.size);
    for (uint64_t i = 0; i < d.count && !st; i++)
        st = read_entry(a, &c, d.offset, d.offset, err);
    mem_free(bytes);
    return st ? st : check_overlap(a, err);
}

spt_status zip_data(const archive *a, const struct member *m, uint64_t *offset, spt_err *err)
{
    unsigned char head[LOCAL_SIZE];
    char *name;
    TRY(fs_read_at(a->file, m->offset, head, sizeof head, err));
    cursor c = cursor_make(head, sizeof head);
    const uint32_t signature = cursor_u32le(&c);
    cursor_take(&c, 2);
    const uint16_t flags = cursor_u16le(&c), method = cursor_u16le(&c);
    cursor_take(&c, 4);
    const uint32_t crc = cursor_u32le(&c), packed = cursor_u32le(&c), plain = cursor_u32le(&c);
    const uint16_t name_len = cursor_u16le(&c), extra_len = cursor_u16le(&c);
    const size_t want = strlen(m->name);
    const bool later = flags & FLAG_DESCRIPTOR; /* sizes follow the data */
    bool same = signature == LOCAL_SIGNATURE && name_len == want &&
                method == (m->deflated ? METHOD_DEFLATED : METHOD_STORED) &&
                (later || crc == m->crc) &&
                (later || packed == UINT32_MAX || packed == m->packed) &&
                (later || plain == UINT32_MAX || plain == m->size);
    if (same) {
        name = mem_alloc(want, 1);
        if (!name)
            return err_nomem(err, want);
        const spt_status st = fs_read_at(a->file, m->offset + LOCAL_SIZE, name, want, err);
        same = !st && memcmp(name, m->name, want) == 0;
        mem_free(name);
        TRY(st);
    }
    const uint64_t at = m->offset + LOCAL_SIZE + name_len + extra_len;
    if (!same || at > fs_size(a->file) || m->packed > fs_size(a->file) - at)
        return err_at(err, SPT_E_FORMAT, m->offset,
                      "the local header at byte %llu contradicts the directory",
                      (unsigned long long)m->offset);
    *offset = at;
    return SPT_OK;
}
