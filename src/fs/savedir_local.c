/* Local directories that appear whole. */
#include <string.h>

#include "fs/fs_internal.h"

enum { MAX_PATH = 65536, MAX_SUBDIRS = 1000000 };

struct local_savedir {
    struct savedir base;
    char **sub; /* directories below, to be synced */
    size_t sub_count, sub_cap;
};

static struct local_savedir *local_of(savedir *d)
{
    return (struct local_savedir *)d;
}

static void savedir_free(struct local_savedir *d)
{
    for (size_t i = 0; i < d->sub_count; i++)
        mem_free(d->sub[i]);
    mem_free(d->sub);
    mem_free(d->base.path);
    mem_free(d->base.final);
    mem_free(d);
}

spt_status local_savedir_begin(const char *tmp, const char *final, const char *manifest,
                               savedir **out, spt_err *err)
{
    (void)manifest;
    struct local_savedir *d = mem_zalloc(1, sizeof *d);
    if (!d || !(d->base.path = mem_strdup(tmp)) || !(d->base.final = mem_strdup(final))) {
        if (d)
            savedir_free(d);
        return err_nomem(err, sizeof *d);
    }
    d->base.be = &fs_local;
    const int r = os_mkdir(tmp);
    if (r < 0) {
        savedir_free(d);
        return fs_error(err, r, "cannot create directory", tmp);
    }
    *out = &d->base;
    return SPT_OK;
}

static spt_status make_sub(struct local_savedir *d, const char *path, spt_err *err)
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

spt_status local_savedir_mkdir(savedir *d, const char *name, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = path_join(&path, d->path, name, err);
    if (!st)
        st = make_sub(local_of(d), buf_str(&path), err);
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

spt_status local_savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    spt_status st = path_join(&path, d->path, name, err);
    if (!st)
        st = write_synced(buf_str(&path), p, n, err);
    buf_release(&path);
    return st;
}

static spt_status publish(struct local_savedir *d, spt_err *err)
{
    for (size_t i = 0; i < d->sub_count; i++)
        TRY(local_sync_dir(d->sub[i], err));
    TRY(local_sync_dir(d->base.path, err));
    struct fs_info info;
    const spt_status found = local_stat(d->base.final, &info, err);
    if (found != SPT_E_NOTFOUND)
        return found ? found : err_set(err, SPT_E_IO, "%s exists already", d->base.final);
    return local_rename(d->base.path, d->base.final, err);
}

spt_status local_savedir_publish(savedir *d, spt_err *err)
{
    buf parent;
    buf_init(&parent, MAX_PATH);
    const char *base = path_base(d->final);
    buf_add(&parent, base == d->final ? "." : d->final,
            base == d->final ? 1 : (size_t)(base - d->final));
    spt_status st = buf_status(&parent, "path", err);
    if (!st)
        st = publish(local_of(d), err);
    if (!st) {
        st = local_sync_dir(buf_str(&parent), err);
        /* Not durable, so not published: asking again later could be told that all is well for an
         * entry that is lost. */
        if (st)
            local_rename(d->final, d->path, NULL);
    }
    if (st)
        local_savedir_abort(d);
    else
        savedir_free(local_of(d));
    buf_release(&parent);
    return st;
}

void local_savedir_abort(savedir *d)
{
    local_remove_tree(d->path, NULL);
    savedir_free(local_of(d));
}
