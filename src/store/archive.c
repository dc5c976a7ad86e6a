#include "store/archive_internal.h"

#include <string.h>
#include <zlib.h>

#include "store/zip_format.h"

enum { RATIO_FREE = 1 << 20, MAX_SUGGESTED = 6 };

/* --- decoding a whole file ------------------------------------------------------------------ */

static spt_status file_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct decoded *d = ctx;
    const uint64_t left = fs_size(d->file) - d->at;
    *got = left < n ? (size_t)left : n;
    TRY(fs_read_at(d->file, d->at, p, *got, err));
    d->at += *got;
    return SPT_OK;
}

spt_status decoded_open(struct decoded *d, fs_file *f, bool gzip, spt_err *err)
{
    *d = (struct decoded){.file = f};
    return gzip ? gzip_reader_open(file_source, d, &d->gzip, err) : SPT_OK;
}

spt_status decoded_read(struct decoded *d, void *p, size_t n, size_t *got, spt_err *err)
{
    if (!d->gzip)
        return file_source(d, p, n, got, err);
    TRY(gzip_reader_read(d->gzip, p, n, got, err));
    d->out += *got;
    if (d->out > RATIO_FREE && (d->out - RATIO_FREE) / ARCHIVE_MAX_RATIO > d->at)
        return err_set(err, SPT_E_FORMAT,
                       "expands more than %d fold after %llu bytes; no data set does",
                       ARCHIVE_MAX_RATIO, (unsigned long long)d->at);
    return SPT_OK;
}

void decoded_close(struct decoded *d)
{
    gzip_reader_close(d->gzip);
    *d = (struct decoded){0};
}

/* --- members ---------------------------------------------------------------------------------- */

/* Absolute, with a drive, with "..", with bytes that no file name of ours has. */
static bool dangerous(const char *name, size_t len)
{
    if (!len || name[0] == '/' || memchr(name, 0, len) || memchr(name, '\\', len) ||
        (len > 1 && name[1] == ':'))
        return true;
    for (size_t i = 0; i < len;) {
        const char *slash = memchr(name + i, '/', len - i);
        const size_t n = slash ? (size_t)(slash - name) - i : len - i;
        if (n == 2 && name[i] == '.' && name[i + 1] == '.')
            return true;
        i += n + 1;
    }
    return false;
}

spt_status archive_add(archive *a, const char *name, size_t len, struct member m, spt_err *err)
{
    const int shown = zip_shown(len);
    if (dangerous(name, len))
        return err_set(err, SPT_E_FORMAT, "the member '%.*s' would lie outside its directory",
                       shown, name);
    if (len > ARCHIVE_MAX_NAME)
        return err_set(err, SPT_E_FORMAT, "the member '%.*s...' has a name of %zu bytes", shown,
                       name, len);
    TRY(mem_grow(&a->member, &a->cap, a->count + 1, sizeof *a->member, ARCHIVE_MAX_MEMBERS, err));
    m.name = mem_strndup(name, len);
    if (!m.name)
        return err_nomem(err, len);
    a->member[a->count++] = m;
    return SPT_OK;
}

static spt_status single(archive *a, bool gzip, spt_err *err)
{
    const char *base = path_base(a->path);
    size_t n = strlen(base);
    a->kind = gzip ? ARCHIVE_GZIP : ARCHIVE_FILE;
    if (gzip && n > 3 && path_has_suffix(base, ".gz"))
        n -= 3;
    TRY(mem_grow(&a->member, &a->cap, 1, sizeof *a->member, 1, err));
    a->member[0] = (struct member){.name = mem_strndup(base, n)};
    if (!a->member[0].name)
        return err_nomem(err, n);
    a->count = 1;
    return SPT_OK;
}

/* By content: names lie. */
static spt_status list_members(archive *a, spt_err *err)
{
    unsigned char head[512] = {0};
    const size_t n = fs_size(a->file) < sizeof head ? (size_t)fs_size(a->file) : sizeof head;
    TRY(fs_read_at(a->file, 0, head, n, err));
    if (n >= 4 && head[0] == 'P' && head[1] == 'K' &&
        ((head[2] == 3 && head[3] == 4) || (head[2] == 5 && head[3] == 6))) {
        a->kind = ARCHIVE_ZIP;
        return zip_list(a, err);
    }
    const bool gzip = gzip_detect(head, n);
    size_t have = n;
    if (gzip) {
        struct decoded d;
        TRY(decoded_open(&d, a->file, true, err));
        spt_status st = SPT_OK;
        have = 0;
        for (size_t got = 1; !st && got && have < sizeof head; have += got) {
            got = 0;
            st = decoded_read(&d, head + have, sizeof head - have, &got, err);
        }
        decoded_close(&d);
        TRY(st);
    }
    if (!tar_detect(head, have))
        return single(a, gzip, err);
    a->kind = ARCHIVE_TAR;
    a->gzip = gzip;
    return tar_list(a, err);
}

spt_status archive_open(const char *path, archive **out, spt_err *err)
{
    archive *a = mem_zalloc(1, sizeof *a);
    if (!a)
        return err_nomem(err, sizeof *a);
    a->path = mem_strdup(path);
    spt_status st = a->path ? fs_open(path, &a->file, err) : err_nomem(err, strlen(path));
    if (!st) {
        st = list_members(a, err);
        if (st)
            err_wrap(err, st, "%s", path);
    }
    if (st) {
        archive_close(a);
        return st;
    }
    *out = a;
    return SPT_OK;
}

void archive_close(archive *a)
{
    if (!a)
        return;
    for (size_t i = 0; i < a->count; i++)
        mem_free(a->member[i].name);
    mem_free(a->member);
    fs_close(a->file);
    mem_free(a->path);
    mem_free(a);
}

enum archive_kind archive_kind(const archive *a)
{
    return a->kind;
}

const char *archive_path(const archive *a)
{
    return a->path;
}

size_t archive_count(const archive *a)
{
    return a->count;
}

const char *archive_name(const archive *a, size_t i)
{
    return a->member[i].name;
}

static bool ends_in(const char *path, const char *name)
{
    const size_t n = strlen(path), m = strlen(name);
    return n > m && path[n - m - 1] == '/' && strcmp(path + n - m, name) == 0;
}

spt_status archive_find(const archive *a, const char *name, size_t *out, spt_err *err)
{
    size_t found = 0, at = 0;
    for (size_t i = 0; i < a->count; i++)
        if (strcmp(a->member[i].name, name) == 0) {
            *out = i;
            return SPT_OK;
        }
    for (size_t i = 0; i < a->count; i++)
        if (ends_in(a->member[i].name, name) && strncmp(a->member[i].name, "__MACOSX/", 9) != 0) {
            at = i;
            found++;
        }
    if (found == 1) {
        *out = at;
        return SPT_OK;
    }
    if (found)
        return err_set(err, SPT_E_NOTFOUND, "%s has %zu members that end in '%s'", a->path, found,
                       name);
    buf names;
    buf_init(&names, 256); /* 149 characters, a comma, one name */
    for (size_t i = 0; i < a->count && i < MAX_SUGGESTED && names.len < 150; i++)
        buf_addf(&names, "%s%.60s", i ? ", " : "", a->member[i].name);
    const spt_status st =
        err_set(err, SPT_E_NOTFOUND, "%s has no member '%s' (it has %s%s)", a->path, name,
                a->count ? buf_str(&names) : "none", a->count > MAX_SUGGESTED ? ", ..." : "");
    buf_release(&names);
    return st;
}

/* --- streams ---------------------------------------------------------------------------------- */

struct archive_stream {
    archive *a;
    const struct member *m;
    struct decoded whole; /* all but ZIP */
    uint64_t at, left;    /* ZIP: packed bytes in the file */
    gzip_reader *inflate; /* ZIP, deflated */
    uint64_t out;         /* decoded bytes of the member */
    uint32_t crc;
    bool ended;
};

static spt_status packed_source(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    archive_stream *s = ctx;
    *got = s->left < n ? (size_t)s->left : n;
    TRY(fs_read_at(s->a->file, s->at, p, *got, err));
    s->at += *got;
    s->left -= *got;
    return SPT_OK;
}

/* The decoded bytes in front of a member of a tar file. */
static spt_status skip(struct decoded *d, uint64_t n, spt_err *err)
{
    unsigned char block[4096];
    if (!d->gzip) {
        d->at = n;
        return SPT_OK;
    }
    while (n) {
        size_t got = 0;
        TRY(decoded_read(d, block, n < sizeof block ? (size_t)n : sizeof block, &got, err));
        /* never: tar_list has been over all of it */
        if (!got)
            return err_set(err, SPT_E_FORMAT, "ends early");
        n -= got;
    }
    return SPT_OK;
}

static spt_status start(archive_stream *s, spt_err *err)
{
    if (s->a->kind == ARCHIVE_ZIP) {
        TRY(zip_data(s->a, s->m, &s->at, err));
        s->left = s->m->packed;
        return s->m->deflated ? gzip_reader_open_raw(packed_source, s, &s->inflate, err) : SPT_OK;
    }
    TRY(decoded_open(&s->whole, s->a->file, s->a->kind == ARCHIVE_GZIP || s->a->gzip, err));
    return s->a->kind == ARCHIVE_TAR ? skip(&s->whole, s->m->offset, err) : SPT_OK;
}

static spt_status wrap(const archive_stream *s, spt_status st, spt_err *err)
{
    if (!st)
        return SPT_OK;
    return s->a->kind == ARCHIVE_ZIP || s->a->kind == ARCHIVE_TAR
               ? err_wrap(err, st, "%s: %s", s->a->path, s->m->name)
               : err_wrap(err, st, "%s", s->a->path);
}

spt_status archive_read(archive *a, size_t i, archive_stream **out, spt_err *err)
{
    archive_stream *s = mem_zalloc(1, sizeof *s);
    if (!s)
        return err_nomem(err, sizeof *s);
    s->a = a;
    s->m = &a->member[i];
    s->crc = (uint32_t)crc32(0, NULL, 0);
    const spt_status st = wrap(s, start(s, err), err);
    if (st) {
        archive_stream_close(s);
        return st;
    }
    *out = s;
    return SPT_OK;
}

static spt_status read_zip(archive_stream *s, void *p, size_t n, size_t *got, spt_err *err)
{
    TRY(s->inflate ? gzip_reader_read(s->inflate, p, n, got, err)
                   : packed_source(s, p, n, got, err));
    if (*got > s->m->size - s->out || (!*got && s->out != s->m->size))
        return err_set(err, SPT_E_FORMAT, "decodes to %s than the %llu bytes that are declared",
                       *got ? "more" : "fewer", (unsigned long long)s->m->size);
    s->crc = (uint32_t)crc32(s->crc, p, (uInt)*got);
    if (!*got && s->crc != s->m->crc)
        return err_set(err, SPT_E_FORMAT, "the checksum is %08x, the archive says %08x", s->crc,
                       s->m->crc);
    return SPT_OK;
}

static spt_status read_tar(archive_stream *s, void *p, size_t n, size_t *got, spt_err *err)
{
    const uint64_t left = s->m->size - s->out;
    *got = 0;
    if (left)
        TRY(decoded_read(&s->whole, p, left < n ? (size_t)left : n, got, err));
    /* never: tar_list has been over all of it */
    return left && !*got ? err_set(err, SPT_E_FORMAT, "ends early") : SPT_OK;
}

spt_status archive_stream_read(void *stream, void *p, size_t n, size_t *got, spt_err *err)
{
    enum { MOST = 1 << 30 };
    archive_stream *s = stream;
    size_t have = 0;
    if (n > MOST)
        n = MOST;
    if (n && !s->ended)
        TRY(wrap(s,
                 s->a->kind == ARCHIVE_ZIP   ? read_zip(s, p, n, &have, err)
                 : s->a->kind == ARCHIVE_TAR ? read_tar(s, p, n, &have, err)
                                             : decoded_read(&s->whole, p, n, &have, err),
                 err));
    s->ended |= n && !have;
    s->out += have;
    *got = have;
    return SPT_OK;
}

void archive_stream_close(archive_stream *s)
{
    if (!s)
        return;
    decoded_close(&s->whole);
    gzip_reader_close(s->inflate);
    mem_free(s);
}
