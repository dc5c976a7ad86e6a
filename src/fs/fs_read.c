#include <errno.h>
#include <string.h>

#include "fs/fs_internal.h"
#include "fs/remote.h"

spt_status fs_error(spt_err *err, int r, const char *what, const char *path)
{
    const spt_status st = r == -ENOENT || r == -ENOTDIR ? SPT_E_NOTFOUND
                          : r == -ENOMEM                ? SPT_E_NOMEM
                                                        : SPT_E_IO;
    return err_sys(err, st, -r, "%s %s", what, path);
}

spt_status local_stat(const char *path, struct fs_info *out, spt_err *err)
{
    struct os_stat st;
    const int r = os_stat(path, &st);
    if (r < 0)
        return fs_error(err, r, "cannot find", path);
    *out = (struct fs_info){st.size, st.inode, st.device, st.mtime_ns, st.is_dir,
                            st.is_file};
    return SPT_OK;
}

spt_status local_open(const char *path, struct fs_object *out, spt_err *err)
{
    struct os_stat st;
    const int fd = os_open(path, OS_READ | OS_NO_WAIT);
    if (fd < 0)
        return fs_error(err, fd, "cannot open", path);
    const int r = os_fstat(fd, &st);
    if (r < 0) {
        os_close(fd);
        return fs_error(err, r, "cannot stat", path);
    }
    if (st.is_dir) {
        os_close(fd);
        return err_set(err, SPT_E_IO, "%s is a directory, not a file", path);
    }
    *out = (struct fs_object){.fd = fd, .size = st.size, .is_file = st.is_file};
    return SPT_OK;
}

static bool (*stop)(void);

void fs_set_stop(bool (*fn)(void))
{
    stop = fn;
}

bool fs_stopped(void)
{
    return stop && stop();
}

/* What cannot be read at any place and twice has no size, either. */
static spt_status need_file(const struct fs_object *o, const char *path, spt_err *err)
{
    return o->is_file || o->remote
               ? SPT_OK
               : err_set(err, SPT_E_IO, "%s is not a regular file", path);
}

/* One read of what may be a pipe: waits for its writer, ends when asked to stop. 0: the end. */
static spt_status read_some(int fd, bool is_file, const char *path, void *p, size_t n, size_t *got,
                            spt_err *err)
{
    int64_t r;
    do {
        if (!is_file && fs_stopped())
            return err_set(err, SPT_E_INTERRUPTED, "%s: interrupted while it was read", path);
        r = is_file ? 0 : os_wait_readable(fd);
        if (r >= 0)
            r = os_read(fd, p, n);
    } while (r == -EINTR || (r == -EAGAIN && !is_file));
    if (r < 0)
        return fs_error(err, (int)r, "cannot read", path);
    *got = (size_t)r;
    return SPT_OK;
}

static spt_status object_open(const char *path, struct fs_object *out, spt_err *err)
{
    const struct fs_backend *be;
    TRY(fs_backend_of(path, &be, err));
    return be->open_object(path, out, err);
}

static void object_close(struct fs_object *o)
{
    if (o->remote)
        remote_close(o->remote);
    else
        os_close(o->fd);
}

/* Makes sure that a range is in the file behind the descriptor. */
static spt_status object_need(const struct fs_object *o, uint64_t offset, uint64_t n, spt_err *err)
{
    return o->remote ? remote_need(o->remote, offset, n, err) : SPT_OK;
}

static spt_status read_whole(const struct fs_object *o, const char *path, char **out, spt_err *err)
{
    const size_t size = (size_t)o->size;
    TRY(object_need(o, 0, o->size, err));
    char *p = mem_alloc(size + 1, 1);
    if (!p)
        return err_nomem(err, size);
    const int64_t got = os_pread_full(o->fd, p, size, 0);
    if (got < 0 || (size_t)got != size) {
        mem_free(p);
        return got < 0 ? fs_error(err, (int)got, "cannot read", path)
                       : err_set(err, SPT_E_IO, "%s became shorter while it was read", path);
    }
    p[size] = '\0';
    *out = p;
    return SPT_OK;
}

static spt_status map_object(const struct fs_object *o, const char *path, fs_mapping *m,
                             spt_err *err)
{
    TRY(need_file(o, path, err));
    if (o->size == 0)
        return SPT_OK;
    if (os_getenv("SPT_NO_MMAP")) {
        char *copy;
        TRY(read_whole(o, path, &copy, err));
        m->bytes = (unsigned char *)copy;
        m->owned = true;
        return SPT_OK;
    }
    int e = 0;
    m->bytes = os_map(o->fd, m->size, &e);
    if (!m->bytes)
        return fs_error(err, e, "cannot map", path);
    mapped_add(m->bytes, m->size, path);
    return SPT_OK;
}

spt_status fs_map_lazily(const char *path, fs_mapping *out, spt_err *err)
{
    struct fs_object o;
    TRY(object_open(path, &o, err));
    fs_mapping m = {.size = (size_t)o.size};
    const spt_status st = map_object(&o, path, &m, err);
    if (!st && m.bytes && !m.owned)
        m.remote = o.remote;
    if (!m.remote)
        object_close(&o);
    if (!st)
        *out = m;
    return st;
}

spt_status fs_need(const fs_mapping *m, size_t offset, size_t size, spt_err *err)
{
    return m->remote ? remote_need(m->remote, offset, size, err) : SPT_OK;
}

spt_status fs_map(const char *path, fs_mapping *out, spt_err *err)
{
    fs_mapping m = {0};
    TRY(fs_map_lazily(path, &m, err));
    const spt_status st = fs_need(&m, 0, m.size, err);
    if (st)
        fs_unmap(&m);
    else
        *out = m;
    return st;
}

void fs_unmap(fs_mapping *m)
{
    if (m->owned) {
        mem_free((void *)m->bytes);
    } else if (m->bytes) {
        mapped_remove(m->bytes);
        os_unmap((void *)m->bytes, m->size);
    }
    remote_close(m->remote);
    *m = (fs_mapping){0};
}

void fs_drop(const fs_mapping *m, size_t offset, size_t size)
{
    if (m->bytes && !m->owned && offset <= m->size && size <= m->size - offset)
        os_drop((void *)(m->bytes + offset), size);
}

static spt_status too_large(const char *path, uint64_t size, size_t max, spt_err *err)
{
    return err_set(err, SPT_E_FORMAT, "%s has %llu bytes, more than the limit of %zu", path,
                   (unsigned long long)size, max);
}

spt_status object_read_all(const struct fs_object *o, const char *path, size_t max, char **data,
                           spt_err *err)
{
    return o->size > max ? too_large(path, o->size, max, err) : read_whole(o, path, data, err);
}

/* A pipe, a device, or a file that states no size (/proc): read to its end. */
static spt_status read_to_end(const struct fs_object *o, const char *path, size_t max, char **data,
                              size_t *size, spt_err *err)
{
    enum { AT_ONCE = 1 << 16 };
    buf all;
    size_t got = 1;
    spt_status st = SPT_OK;
    char *piece = mem_alloc(AT_ONCE, 1);
    if (!piece)
        return err_nomem(err, AT_ONCE);
    buf_init(&all, max < SIZE_MAX - AT_ONCE ? max + AT_ONCE : max);
    while (!st && got) {
        st = read_some(o->fd, o->is_file, path, piece, AT_ONCE, &got, err);
        if (!st)
            buf_add(&all, piece, got);
        if (!st && all.len > max)
            st = err_set(err, SPT_E_FORMAT, "%s has more than the limit of %zu bytes", path, max);
        if (!st)
            st = buf_status(&all, path, err);
    }
    mem_free(piece);
    if (!st) {
        *size = all.len;
        *data = all.len ? buf_detach(&all) : mem_strdup("");
        st = *data ? SPT_OK : err_nomem(err, 1);
    }
    buf_release(&all);
    return st;
}

spt_status fs_read_all(const char *path, size_t max, char **data, size_t *size, spt_err *err)
{
    const struct fs_backend *be;
    struct fs_object o;
    TRY(fs_backend_of(path, &be, err));
    if (be->read_all)
        return be->read_all(path, max, data, size, err);
    TRY(be->open_object(path, &o, err));
    spt_status st;
    if (!o.remote && (!o.is_file || o.size == 0)) {
        st = read_to_end(&o, path, max, data, size, err);
    } else {
        st = object_read_all(&o, path, max, data, err);
        if (!st)
            *size = (size_t)o.size;
    }
    object_close(&o);
    return st;
}

struct fs_file {
    struct fs_object o;
    char *path;
};

spt_status fs_open(const char *path, fs_file **out, spt_err *err)
{
    fs_file *f = mem_zalloc(1, sizeof *f);
    if (!f)
        return err_nomem(err, sizeof *f);
    f->path = path ? mem_strdup(path) : NULL;
    spt_status s = path && !f->path ? err_nomem(err, 0) : object_open(path, &f->o, err);
    if (!s) {
        s = need_file(&f->o, path, err);
        if (s)
            object_close(&f->o);
    }
    if (s) {
        mem_free(f->path);
        mem_free(f);
        return s;
    }
    *out = f;
    return SPT_OK;
}

uint64_t fs_size(const fs_file *f)
{
    return f->o.size;
}

spt_status fs_read_at(fs_file *f, uint64_t offset, void *p, size_t n, spt_err *err)
{
    if (offset > f->o.size || n > f->o.size - offset)
        return err_at(err, SPT_E_FORMAT, offset,
                      "%s: %zu bytes at byte %llu are behind its end (%llu bytes)", f->path, n,
                      (unsigned long long)offset, (unsigned long long)f->o.size);
    TRY(object_need(&f->o, offset, n, err));
    const int64_t got = os_pread_full(f->o.fd, p, n, offset);
    if (got < 0)
        return fs_error(err, (int)got, "cannot read", f->path);
    if ((size_t)got != n)
        return err_at(err, SPT_E_IO, offset, "%s became shorter while it was read", f->path);
    return SPT_OK;
}

void fs_close(fs_file *f)
{
    if (!f)
        return;
    object_close(&f->o);
    mem_free(f->path);
    mem_free(f);
}

struct fs_stream {
    struct fs_object o;
    uint64_t at; /* of what is far away */
    bool is_stdin;
    char *path;
};

spt_status fs_stream_open(const char *path, fs_stream **out, spt_err *err)
{
    fs_stream *f = mem_zalloc(1, sizeof *f);
    if (!f)
        return err_nomem(err, sizeof *f);
    f->path = path ? mem_strdup(path) : NULL;
    f->is_stdin = path && !strcmp(path, "-");
    spt_status s = path && !f->path ? err_nomem(err, 0)
                   : f->is_stdin    ? SPT_OK
                                    : object_open(path, &f->o, err);
    if (s) {
        mem_free(f->path);
        mem_free(f);
        return s;
    }
    *out = f;
    return SPT_OK;
}

bool fs_stream_can_rewind(const fs_stream *s)
{
    return !s->is_stdin && s->o.is_file;
}

/* How much is fetched at a time when a stream meets what is not there yet. */
enum { STREAM_AHEAD = 32 << 20 };

static spt_status stream_remote(fs_stream *s, void *p, size_t n, size_t *got, spt_err *err)
{
    const uint64_t left = s->o.size - s->at;
    n = n < left ? n : (size_t)left;
    TRY(remote_need_ahead(s->o.remote, s->at, n, STREAM_AHEAD, err));
    const int64_t r = os_pread_full(s->o.fd, p, n, s->at);
    if (r < 0)
        return fs_error(err, (int)r, "cannot read", s->path);
    s->at += (uint64_t)r;
    *got = (size_t)r;
    return SPT_OK;
}

spt_status fs_stream_read(fs_stream *s, void *p, size_t n, size_t *got, spt_err *err)
{
    return s->o.remote ? stream_remote(s, p, n, got, err)
                       : read_some(s->o.fd, s->o.is_file, s->path, p, n, got, err);
}

spt_status fs_stream_rewind(fs_stream *s, spt_err *err)
{
    s->at = 0;
    const int64_t r = s->o.remote ? 0 : os_seek(s->o.fd, 0);
    return r < 0 ? fs_error(err, (int)r, "cannot rewind", s->path) : SPT_OK;
}

void fs_stream_close(fs_stream *s)
{
    if (!s)
        return;
    if (!s->is_stdin)
        object_close(&s->o);
    mem_free(s->path);
    mem_free(s);
}
