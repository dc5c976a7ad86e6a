/* Durable writing of local files.
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

struct local_writer {
    struct fs_writer base;
    int fd;
    char *tmp;
};

static struct local_writer *local_of(fs_writer *w)
{
    return (struct local_writer *)w;
}

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

static void writer_free(struct local_writer *w)
{
    mem_free(w->base.path);
    mem_free(w->tmp);
    mem_free(w);
}

spt_status local_create(const char *path, fs_writer **out, spt_err *err)
{
    uint64_t salt = 0;
    int r = os_random(&salt, sizeof salt);
    if (r < 0)
        return fs_error(err, r, "no random number for", path);
    struct local_writer *w = mem_zalloc(1, sizeof *w);
    const size_t n = strlen(path) + sizeof ".tmp-0123456789abcdef";
    if (w) {
        w->base.be = &fs_local;
        w->base.path = mem_strdup(path);
        w->tmp = mem_alloc(n, 1);
    }
    if (!w || !w->base.path || !w->tmp) {
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
    *out = &w->base;
    return SPT_OK;
}

spt_status local_write(fs_writer *w, const void *p, size_t n, spt_err *err)
{
    const int r = os_write_full(local_of(w)->fd, p, n);
    return r < 0 ? fs_error(err, r, "cannot write", w->path) : SPT_OK;
}

void local_discard(fs_writer *w)
{
    struct local_writer *l = local_of(w);
    os_close(l->fd);
    os_unlink(l->tmp);
    writer_free(l);
}

spt_status local_commit(fs_writer *base, spt_err *err)
{
    struct local_writer *w = local_of(base);
    buf dir;
    buf_init(&dir, 65536);
    spt_status st = dir_of(&dir, base->path, err);
    int r = 0;
    if (!st && (r = os_fsync(w->fd)) < 0)
        st = fs_error(err, r, "cannot sync", base->path);
    if (st) {
        local_discard(base);
        buf_release(&dir);
        return st;
    }
    if ((r = os_close(w->fd)) < 0)
        st = fs_error(err, r, "cannot close", base->path);
    if (!st && (r = os_rename(w->tmp, base->path)) < 0)
        st = fs_error(err, r, "cannot rename to", base->path);
    if (st)
        os_unlink(w->tmp);
    else
        st = local_sync_dir(buf_str(&dir), err);
    writer_free(w);
    buf_release(&dir);
    return st;
}

struct local_log {
    struct fs_log base;
    int fd;
};

static struct local_log *log_of(fs_log *l)
{
    return (struct local_log *)l;
}

static spt_status open_log(const char *path, uint64_t keep, int flags, fs_log **out, spt_err *err)
{
    struct local_log *l = mem_zalloc(1, sizeof *l);
    if (!l || !(l->base.path = mem_strdup(path))) {
        mem_free(l);
        return err_nomem(err, sizeof *l);
    }
    l->base.be = &fs_local;
    struct os_stat info;
    int r = l->fd = os_open(path, OS_READ | OS_WRITE | OS_CREATE | flags);
    spt_status st = SPT_OK;
    const bool odd = flags && (r == -ELOOP || r == -ENXIO ||
                               (r >= 0 && os_fstat(r, &info) >= 0 && !info.is_file));
    if (odd)
        st = err_set(err, SPT_E_IO, "%s is a link or no file; it is neither used nor overwritten (remove it)",
                     path);
    else if (r < 0)
        st = fs_error(err, r, "cannot open", path);
    else if ((r = os_fstat(l->fd, &info)) < 0)
        st = fs_error(err, r, "cannot stat", path);
    else if (keep != UINT64_MAX && info.size < keep)
        st = err_set(err, SPT_E_FORMAT, "%s has %llu bytes where %llu were recorded", path,
                     (unsigned long long)info.size, (unsigned long long)keep);
    else if (keep < info.size && (r = os_ftruncate(l->fd, keep)) < 0)
        st = fs_error(err, r, "cannot cut", path);
    if (!st) {
        l->base.size = keep < info.size ? keep : info.size;
        const int64_t at = os_seek(l->fd, l->base.size);
        if (at < 0)
            st = fs_error(err, (int)at, "cannot seek in", path);
    }
    if (st) {
        if (l->fd >= 0)
            os_close(l->fd);
        mem_free(l->base.path);
        mem_free(l);
        return st;
    }
    *out = &l->base;
    return SPT_OK;
}

spt_status local_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err)
{
    return open_log(path, keep, 0, out, err);
}

spt_status fs_log_open_own(const char *path, uint64_t keep, fs_log **out, spt_err *err)
{
    return open_log(path, keep, OS_OWN, out, err);
}

spt_status local_log_append(fs_log *l, const void *p, size_t n, spt_err *err)
{
    const int fd = log_of(l)->fd;
    const int r = os_write_full(fd, p, n);
    if (r < 0) {
        /* Cut a half-written record away, so that the next append starts where readers expect. */
        os_ftruncate(fd, l->size);
        os_seek(fd, l->size);
        return fs_error(err, r, "cannot write", l->path);
    }
    l->size += n;
    return SPT_OK;
}

spt_status local_log_sync(fs_log *l, spt_err *err)
{
    const int r = os_fsync(log_of(l)->fd);
    return r < 0 ? fs_error(err, r, "cannot sync", l->path) : SPT_OK;
}

void local_log_close(fs_log *l)
{
    os_close(log_of(l)->fd);
    mem_free(l->path);
    mem_free(l);
}

/* --- locks ---------------------------------------------------------------------------------- */

struct local_lock {
    struct fs_lock base;
    int fd;
};

/* What the holder wrote, without the line's end; "" when it cannot be read. */
static void read_holder(const char *path, char *holder, size_t cap)
{
    char *who = NULL;
    size_t n = 0;
    if (fs_read_all(path, cap - 1, &who, &n, NULL))
        return;
    while (n && (unsigned char)who[n - 1] <= ' ')
        n--;
    memcpy(holder, who, n);
    holder[n] = '\0';
    mem_free(who);
}

/* The kernel lets go of the lock when the process ends, however it ends. What is in the file is
 * for the message only. */
spt_status local_lock_take(const char *path, const char *who, fs_lock **out, char *holder,
                           size_t cap, spt_err *err)
{
    const int fd = os_open(path, OS_READ | OS_WRITE | OS_CREATE);
    if (fd < 0)
        return err_sys(err, SPT_E_IO, -fd, "cannot open %s", path);
    const int r = os_lock(fd);
    if (r < 0) {
        os_close(fd);
        if (r != -EWOULDBLOCK)
            return err_sys(err, SPT_E_IO, -r, "cannot lock %s", path);
        read_holder(path, holder, cap);
        if (!holder[0])
            memcpy(holder, "-", 2);
        return err_set(err, SPT_E_CONFIG, "%s is locked", path);
    }
    struct local_lock *l = mem_zalloc(1, sizeof *l);
    if (!l) {
        os_close(fd);
        return err_nomem(err, sizeof *l);
    }
    l->base.be = &fs_local;
    l->fd = fd;
    if (os_ftruncate(fd, 0) == 0)
        os_write_full(fd, who, strlen(who));
    *out = &l->base;
    return SPT_OK;
}

spt_status local_lock_dir(const char *dir, fs_lock **out, bool *busy, spt_err *err)
{
    const int fd = os_open(dir, OS_READ | OS_DIR);
    if (fd < 0)
        return err_sys(err, SPT_E_IO, -fd, "%s", dir);
    const int r = os_lock(fd);
    struct local_lock *l = r < 0 ? NULL : mem_zalloc(1, sizeof *l);
    if (l) {
        l->base.be = &fs_local;
        l->fd = fd;
        *out = &l->base;
        return SPT_OK;
    }
    os_close(fd);
    if (r >= 0)
        return err_nomem(err, sizeof *l);
    *busy = r == -EWOULDBLOCK;
    return r == -EWOULDBLOCK ? err_set(err, SPT_E_CONFIG, "%s is locked", dir)
                             : err_sys(err, SPT_E_IO, -r, "cannot lock %s", dir);
}

void local_lock_release(fs_lock *l)
{
    os_close(((struct local_lock *)l)->fd);
    mem_free(l);
}
