/* Durable writing.
 *
 * A reader must see the old file or the new one, even after a power cut: the bytes go to a
 * temporary in the same directory, are synced, and only then take the final name; the directory is
 * synced last because the rename itself is an entry that can be lost. A failed fsync is final for
 * that file: the kernel may already have dropped the dirty pages, so trying again would report
 * success for data that is gone. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs_internal.h"

struct fs_writer {
    int fd;
    bool failed;
    char *path;
    char *tmp;
};

/* The directory part of a path into `out` ("." when there is none). */
static spt_status dir_of(buf *out, const char *path, spt_err *err)
{
    const char *base = path_base(path);
    buf_clear(out);
    if (base == path)
        buf_adds(out, ".");
    else
        buf_add(out, path, base - path > 1 ? (size_t)(base - path - 1) : 1);
    return buf_status(out, "path", err);
}

static void writer_free(fs_writer *w)
{
    mem_free(w->path);
    mem_free(w->tmp);
    mem_free(w);
}

spt_status fs_create(const char *path, fs_writer **out, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    uint64_t salt = 0;
    int r = os_random(&salt, sizeof salt);
    if (r < 0)
        return fs_error(err, r, "no random number for", path);
    fs_writer *w = mem_zalloc(1, sizeof *w);
    const size_t n = strlen(path) + sizeof ".tmp-0123456789abcdef";
    if (w) {
        w->path = mem_strdup(path);
        w->tmp = mem_alloc(n, 1);
    }
    if (!w || !w->path || !w->tmp) {
        if (w)
            writer_free(w);
        return err_nomem(err, n);
    }
    snprintf(w->tmp, n, "%s.tmp-%016llx", path, (unsigned long long)salt);
    w->fd = os_open(w->tmp, OS_WRITE | OS_CREATE | OS_EXCL);
    if (w->fd < 0) {
        const spt_status st = fs_error(err, w->fd, "cannot create", path);
        writer_free(w);
        return st;
    }
    *out = w;
    return SPT_OK;
}

spt_status fs_write(fs_writer *w, const void *p, size_t n, spt_err *err)
{
    if (w->failed)
        return err_set(err, SPT_E_IO, "%s: an earlier write failed", w->path);
    const int r = os_write_full(w->fd, p, n);
    if (r < 0) {
        w->failed = true;
        return fs_error(err, r, "cannot write", w->path);
    }
    return SPT_OK;
}

void fs_abort(fs_writer *w)
{
    if (!w)
        return;
    os_close(w->fd);
    os_unlink(w->tmp);
    writer_free(w);
}

spt_status fs_commit(fs_writer *w, spt_err *err)
{
    buf dir;
    buf_init(&dir, 65536);
    spt_status st = w->failed ? err_set(err, SPT_E_IO, "%s: an earlier write failed", w->path)
                              : dir_of(&dir, w->path, err);
    int r = 0;
    if (!st && (r = os_fsync(w->fd)) < 0)
        st = fs_error(err, r, "cannot sync", w->path);
    if (st) {
        fs_abort(w);
        buf_release(&dir);
        return st;
    }
    if ((r = os_close(w->fd)) < 0)
        st = fs_error(err, r, "cannot close", w->path);
    if (!st && (r = os_rename(w->tmp, w->path)) < 0)
        st = fs_error(err, r, "cannot rename to", w->path);
    if (st)
        os_unlink(w->tmp);
    else
        st = fs_sync_dir(buf_str(&dir), err);
    writer_free(w);
    buf_release(&dir);
    return st;
}

static bool is_temporary(const char *name)
{
    const char *tail = strstr(name, ".tmp-");
    return tail && strspn(tail + 5, "0123456789abcdef") == 16 && !tail[21];
}

spt_status fs_remove_temporaries(const char *dir, spt_err *err)
{
    fs_names names;
    buf path;
    buf_init(&path, 65536);
    TRY(fs_list(dir, &names, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++) {
        if (!is_temporary(names.name[i]))
            continue;
        st = path_join(&path, dir, names.name[i], err);
        if (!st)
            st = fs_remove_tree(buf_str(&path), err);
    }
    buf_release(&path);
    fs_names_free(&names);
    return st;
}

spt_status fs_write_all(const char *path, const void *p, size_t n, spt_err *err)
{
    fs_writer *w;
    TRY(fs_create(path, &w, err));
    const spt_status st = fs_write(w, p, n, err);
    if (st) {
        fs_abort(w);
        return st;
    }
    return fs_commit(w, err);
}

struct fs_log {
    int fd;
    uint64_t size;
    char *path;
};

spt_status fs_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    fs_log *l = mem_zalloc(1, sizeof *l);
    if (!l || !(l->path = mem_strdup(path))) {
        mem_free(l);
        return err_nomem(err, sizeof *l);
    }
    struct os_stat info;
    int r = l->fd = os_open(path, OS_READ | OS_WRITE | OS_CREATE);
    spt_status st = SPT_OK;
    if (r < 0)
        st = fs_error(err, r, "cannot open", path);
    else if ((r = os_fstat(l->fd, &info)) < 0)
        st = fs_error(err, r, "cannot stat", path);
    else if (keep != UINT64_MAX && info.size < keep)
        st = err_set(err, SPT_E_FORMAT, "%s has %llu bytes where %llu were recorded", path,
                     (unsigned long long)info.size, (unsigned long long)keep);
    else if (keep < info.size && (r = os_ftruncate(l->fd, keep)) < 0)
        st = fs_error(err, r, "cannot cut", path);
    if (!st) {
        l->size = keep < info.size ? keep : info.size;
        const int64_t at = os_seek(l->fd, l->size);
        if (at < 0)
            st = fs_error(err, (int)at, "cannot seek in", path);
    }
    if (st) {
        if (l->fd >= 0)
            os_close(l->fd);
        mem_free(l->path);
        mem_free(l);
        return st;
    }
    *out = l;
    return SPT_OK;
}

spt_status fs_log_append(fs_log *l, const void *p, size_t n, spt_err *err)
{
    const int r = os_write_full(l->fd, p, n);
    if (r < 0) {
        /* Cut a half-written record away, so that the next append starts where readers expect. */
        os_ftruncate(l->fd, l->size);
        os_seek(l->fd, l->size);
        return fs_error(err, r, "cannot write", l->path);
    }
    l->size += n;
    return SPT_OK;
}

spt_status fs_log_sync(fs_log *l, spt_err *err)
{
    const int r = os_fsync(l->fd);
    return r < 0 ? fs_error(err, r, "cannot sync", l->path) : SPT_OK;
}

uint64_t fs_log_size(const fs_log *l)
{
    return l->size;
}

void fs_log_close(fs_log *l)
{
    if (!l)
        return;
    os_close(l->fd);
    mem_free(l->path);
    mem_free(l);
}
