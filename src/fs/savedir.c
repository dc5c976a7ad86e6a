#include "fs/savedir.h"

#include <string.h>

#include "fs/fs_internal.h"

enum { MAX_PATH = 65536, MAX_SUBDIRS = 1000000 };

struct savedir {
    char *path;
    char **sub; /* directories below, to be synced */
    size_t sub_count, sub_cap;
    bool failed;
};

static void savedir_free(savedir *d)
{
    for (size_t i = 0; i < d->sub_count; i++)
        mem_free(d->sub[i]);
    mem_free(d->sub);
    mem_free(d->path);
    mem_free(d);
}

spt_status savedir_begin(const char *tmp, savedir **out, spt_err *err)
{
    TRY(fs_check_scheme(tmp, err));
    savedir *d = mem_zalloc(1, sizeof *d);
    if (!d || !(d->path = mem_strdup(tmp))) {
        mem_free(d);
        return err_nomem(err, sizeof *d);
    }
    const int r = os_mkdir(tmp);
    if (r < 0) {
        savedir_free(d);
        return fs_error(err, r, "cannot create directory", tmp);
    }
    *out = d;
    return SPT_OK;
}

const char *savedir_path(const savedir *d)
{
    return d->path;
}

static spt_status make_sub(savedir *d, const char *path, spt_err *err)
{
    TRY(mem_grow(&d->sub, &d->sub_cap, d->sub_count + 1, sizeof *d->sub, MAX_SUBDIRS, err));
    char *copy = mem_strdup(path);
    if (!copy)
        return err_nomem(err, strlen(path));
    const int r = os_mkdir(path);
    if (r < 0) {
        mem_free(copy);
        return fs_error(err, r, "cannot create directory", path);
    }
    d->sub[d->sub_count++] = copy;
    return SPT_OK;
}

spt_status savedir_mkdir(savedir *d, const char *name, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = path_join(&path, d->path, name, err);
    if (!st)
        st = make_sub(d, buf_str(&path), err);
    d->failed |= st != SPT_OK;
    buf_release(&path);
    return st;
}

static spt_status write_synced(const char *path, const void *p, size_t n, spt_err *err)
{
    const int fd = os_open(path, OS_WRITE | OS_CREATE | OS_EXCL);
    if (fd < 0)
        return fs_error(err, fd, "cannot create", path);
    spt_status st = SPT_OK;
    int r = os_write_full(fd, p, n);
    if (r < 0)
        st = fs_error(err, r, "cannot write", path);
    else if ((r = os_fsync(fd)) < 0)
        st = fs_error(err, r, "cannot sync", path);
    r = os_close(fd);
    if (!st && r < 0)
        st = fs_error(err, r, "cannot close", path);
    return st;
}

spt_status savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = path_join(&path, d->path, name, err);
    if (!st)
        st = write_synced(buf_str(&path), p, n, err);
    d->failed |= st != SPT_OK;
    buf_release(&path);
    return st;
}

static spt_status publish(savedir *d, const char *final, spt_err *err)
{
    if (d->failed)
        return err_set(err, SPT_E_IO, "%s: an earlier write failed", d->path);
    for (size_t i = 0; i < d->sub_count; i++)
        TRY(fs_sync_dir(d->sub[i], err));
    TRY(fs_sync_dir(d->path, err));
    struct fs_info info;
    const spt_status found = fs_stat(final, &info, err);
    if (found != SPT_E_NOTFOUND)
        return found ? found : err_set(err, SPT_E_IO, "%s exists already", final);
    return fs_rename(d->path, final, err);
}

spt_status savedir_publish(savedir *d, const char *final, spt_err *err)
{
    buf parent;
    buf_init(&parent, MAX_PATH);
    const char *base = path_base(final);
    buf_add(&parent, base == final ? "." : final, base == final ? 1 : (size_t)(base - final));
    spt_status st = buf_status(&parent, "path", err);
    if (!st)
        st = publish(d, final, err);
    if (!st) {
        st = fs_sync_dir(buf_str(&parent), err);
        /* Not durable, so not published: asking again later could be told that all is well for an
         * entry that is lost. */
        if (st)
            fs_rename(final, d->path, NULL);
    }
    if (st)
        savedir_abort(d);
    else
        savedir_free(d);
    buf_release(&parent);
    return st;
}

void savedir_abort(savedir *d)
{
    if (!d)
        return;
    fs_remove_tree(d->path, NULL);
    savedir_free(d);
}
