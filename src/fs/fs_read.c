#include <errno.h>
#include <string.h>

#include "fs/fs_internal.h"

spt_status fs_error(spt_err *err, int r, const char *what, const char *path)
{
    const spt_status st = r == -ENOENT || r == -ENOTDIR ? SPT_E_NOTFOUND
                          : r == -ENOMEM                ? SPT_E_NOMEM
                                                        : SPT_E_IO;
    return err_sys(err, st, -r, "%s %s", what, path);
}

spt_status fs_check_scheme(const char *path, spt_err *err)
{
    if (!path || !path[0])
        return err_set(err, SPT_E_USAGE, "an empty file name");
    const char *sep = strstr(path, "://");
    if (!sep)
        return SPT_OK;
    for (const char *p = path; p < sep; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')))
            return SPT_OK; /* not a scheme: an odd local name */
    return err_set(err, SPT_E_USAGE, "%s: scheme \"%.*s\" is not supported (local paths are)", path,
                   (int)(sep - path), path);
}

spt_status fs_stat(const char *path, struct fs_info *out, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    struct os_stat st;
    const int r = os_stat(path, &st);
    if (r < 0)
        return fs_error(err, r, "cannot find", path);
    *out = (struct fs_info){st.size, st.inode, st.device, st.mtime_ns, st.is_dir,
                            st.is_file};
    return SPT_OK;
}

bool fs_exists(const char *path)
{
    struct fs_info info;
    return fs_stat(path, &info, NULL) == SPT_OK;
}

bool fs_is_dir(const char *path)
{
    struct fs_info info;
    return fs_stat(path, &info, NULL) == SPT_OK && info.is_dir;
}

static spt_status open_file(const char *path, int *fd, struct os_stat *st, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    const int f = os_open(path, OS_READ);
    if (f < 0)
        return fs_error(err, f, "cannot open", path);
    const int r = os_fstat(f, st);
    if (r < 0) {
        os_close(f);
        return fs_error(err, r, "cannot stat", path);
    }
    if (st->is_dir) {
        os_close(f);
        return err_set(err, SPT_E_IO, "%s is a directory, not a file", path);
    }
    *fd = f;
    return SPT_OK;
}

static spt_status read_whole(int fd, size_t size, const char *path, char **out, spt_err *err)
{
    char *p = mem_alloc(size + 1, 1);
    if (!p)
        return err_nomem(err, size);
    const int64_t got = os_pread_full(fd, p, size, 0);
    if (got < 0 || (size_t)got != size) {
        mem_free(p);
        return got < 0 ? fs_error(err, (int)got, "cannot read", path)
                       : err_set(err, SPT_E_IO, "%s became shorter while it was read", path);
    }
    p[size] = '\0';
    *out = p;
    return SPT_OK;
}

spt_status fs_map(const char *path, fs_mapping *out, spt_err *err)
{
    int fd;
    struct os_stat st;
    TRY(open_file(path, &fd, &st, err));
    spt_status s = SPT_OK;
    fs_mapping m = {.size = st.size};
    if (!st.is_file) {
        s = err_set(err, SPT_E_IO, "%s is not a regular file", path);
    } else if (st.size == 0) {
        m.bytes = NULL;
    } else if (os_getenv("SPT_NO_MMAP")) {
        char *copy;
        s = read_whole(fd, st.size, path, &copy, err);
        if (!s)
            m.bytes = (unsigned char *)copy, m.owned = true;
    } else {
        int e = 0;
        m.bytes = os_map(fd, st.size, &e);
        if (!m.bytes)
            s = fs_error(err, e, "cannot map", path);
        else
            mapped_add(m.bytes, st.size, path);
    }
    os_close(fd);
    if (!s)
        *out = m;
    return s;
}

void fs_unmap(fs_mapping *m)
{
    if (m->owned) {
        mem_free((void *)m->bytes);
    } else if (m->bytes) {
        mapped_remove(m->bytes);
        os_unmap((void *)m->bytes, m->size);
    }
    *m = (fs_mapping){0};
}

void fs_drop(const fs_mapping *m, size_t offset, size_t size)
{
    if (m->bytes && !m->owned && offset <= m->size && size <= m->size - offset)
        os_drop((void *)(m->bytes + offset), size);
}

spt_status fs_read_all(const char *path, size_t max, char **data, size_t *size, spt_err *err)
{
    int fd;
    struct os_stat st;
    TRY(open_file(path, &fd, &st, err));
    spt_status s;
    if (st.size > max)
        s = err_set(err, SPT_E_FORMAT, "%s has %llu bytes, more than the limit of %zu", path,
                    (unsigned long long)st.size, max);
    else
        s = read_whole(fd, (size_t)st.size, path, data, err);
    os_close(fd);
    if (!s)
        *size = (size_t)st.size;
    return s;
}

struct fs_file {
    int fd;
    uint64_t size;
    char *path;
};

spt_status fs_open(const char *path, fs_file **out, spt_err *err)
{
    fs_file *f = mem_zalloc(1, sizeof *f);
    if (!f)
        return err_nomem(err, sizeof *f);
    f->path = path ? mem_strdup(path) : NULL;
    struct os_stat st;
    spt_status s = path && !f->path ? err_nomem(err, 0) : open_file(path, &f->fd, &st, err);
    if (s) {
        mem_free(f->path);
        mem_free(f);
        return s;
    }
    f->size = st.size;
    *out = f;
    return SPT_OK;
}

uint64_t fs_size(const fs_file *f)
{
    return f->size;
}

spt_status fs_read_at(fs_file *f, uint64_t offset, void *p, size_t n, spt_err *err)
{
    if (offset > f->size || n > f->size - offset)
        return err_at(err, SPT_E_FORMAT, offset,
                      "%s: %zu bytes at byte %llu are behind its end (%llu bytes)", f->path, n,
                      (unsigned long long)offset, (unsigned long long)f->size);
    const int64_t got = os_pread_full(f->fd, p, n, offset);
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
    os_close(f->fd);
    mem_free(f->path);
    mem_free(f);
}

struct fs_stream {
    int fd;
    bool is_stdin, is_file;
    char *path;
};

spt_status fs_stream_open(const char *path, fs_stream **out, spt_err *err)
{
    fs_stream *f = mem_zalloc(1, sizeof *f);
    if (!f)
        return err_nomem(err, sizeof *f);
    f->path = path ? mem_strdup(path) : NULL;
    f->is_stdin = path && !strcmp(path, "-");
    struct os_stat st;
    spt_status s = path && !f->path ? err_nomem(err, 0)
                   : f->is_stdin    ? SPT_OK
                                    : open_file(path, &f->fd, &st, err);
    if (s) {
        mem_free(f->path);
        mem_free(f);
        return s;
    }
    f->is_file = !f->is_stdin && st.is_file;
    *out = f;
    return SPT_OK;
}

bool fs_stream_can_rewind(const fs_stream *s)
{
    return s->is_file;
}

spt_status fs_stream_read(fs_stream *s, void *p, size_t n, size_t *got, spt_err *err)
{
    int64_t r;
    do
        r = os_read(s->fd, p, n);
    while (r == -EINTR);
    if (r < 0)
        return fs_error(err, (int)r, "cannot read", s->path);
    *got = (size_t)r;
    return SPT_OK;
}

spt_status fs_stream_rewind(fs_stream *s, spt_err *err)
{
    const int64_t r = os_seek(s->fd, 0);
    return r < 0 ? fs_error(err, (int)r, "cannot rewind", s->path) : SPT_OK;
}

void fs_stream_close(fs_stream *s)
{
    if (!s)
        return;
    if (!s->is_stdin)
        os_close(s->fd);
    mem_free(s->path);
    mem_free(s);
}
