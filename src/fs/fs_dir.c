/* Local directories. */
#include <errno.h>
#include <string.h>

#include "fs/fs_internal.h"

enum { MAX_TREE_DEPTH = 64, MAX_PATH = 65536 };

struct listing {
    fs_names *names;
    spt_err *err;
};

static int add_name(void *ctx, const char *name)
{
    struct listing *l = ctx;
    return fs_names_add(l->names, name, strlen(name), l->err) != SPT_OK;
}

spt_status local_list(const char *dir, fs_names *out, spt_err *err)
{
    struct listing l = {out, err};
    const int r = os_list(dir, add_name, &l);
    if (r)
        return r < 0 ? fs_error(err, r, "cannot list", dir) : err_nomem(err, 0);
    return SPT_OK;
}

/* The entry of a directory in its parent must survive, too. */
static spt_status sync_parent(const char *dir, spt_err *err)
{
    size_t n = strlen(dir);
    while (n > 1 && dir[n - 1] == '/')
        n--;
    while (n && dir[n - 1] != '/')
        n--;
    buf parent;
    buf_init(&parent, MAX_PATH);
    buf_add(&parent, n ? dir : ".", n ? n : 1);
    spt_status st = buf_status(&parent, "path", err);
    if (!st)
        st = local_sync_dir(buf_str(&parent), err);
    buf_release(&parent);
    return st;
}

static spt_status make_one(const char *p, bool durable, spt_err *err)
{
    struct os_stat s;
    if (durable && os_stat(p, &s) == 0 && s.is_dir)
        return SPT_OK;
    const int r = os_mkdir(p);
    if (r < 0 && !(os_stat(p, &s) == 0 && s.is_dir)) {
        spt_status st = fs_error(err, r, "cannot create directory", p);
        if (st == SPT_E_NOTFOUND) {
            st = SPT_E_IO;
            if (err)
                err->code = st;
        }
        return st;
    }
    return durable ? sync_parent(p, err) : SPT_OK;
}

/* Level by level. */
spt_status local_make_dirs(const char *path, bool durable, spt_err *err)
{
    char *p = mem_strdup(path);
    if (!p)
        return err_nomem(err, strlen(path));
    spt_status st = SPT_OK;
    for (char *at = p + 1;; at++) {
        if (*at && *at != '/')
            continue;
        const char keep = *at;
        *at = '\0';
        st = make_one(p, durable, err);
        *at = keep;
        if (st || !keep)
            break;
    }
    mem_free(p);
    return st;
}

static spt_status remove_tree(const char *path, int depth, spt_err *err)
{
    if (depth > MAX_TREE_DEPTH)
        return err_set(err, SPT_E_IO, "%s: more than %d directories deep", path, MAX_TREE_DEPTH);
    int r = os_unlink(path);
    if (r == 0 || r == -ENOENT)
        return SPT_OK;
    if (r != -EISDIR && r != -EPERM)
        return fs_error(err, r, "cannot remove", path);
    fs_names names = {0};
    buf child;
    buf_init(&child, MAX_PATH);
    spt_status st = fs_list(path, &names, err);
    for (size_t i = 0; !st && i < names.count; i++) {
        st = path_join(&child, path, names.name[i], err);
        if (!st)
            st = remove_tree(buf_str(&child), depth + 1, err);
    }
    if (!st) {
        r = os_rmdir(path);
        if (r < 0 && r != -ENOENT)
            st = fs_error(err, r, "cannot remove directory", path);
    }
    fs_names_free(&names);
    buf_release(&child);
    return st;
}

spt_status local_remove_tree(const char *path, spt_err *err)
{
    return remove_tree(path, 0, err);
}

spt_status local_rename(const char *from, const char *to, spt_err *err)
{
    const int r = os_rename(from, to);
    return r < 0 ? fs_error(err, r, "cannot rename", from) : SPT_OK;
}

spt_status local_sync_dir(const char *path, spt_err *err)
{
    const int fd = os_open(path, OS_READ | OS_DIR);
    if (fd < 0)
        return fs_error(err, fd, "cannot open directory", path);
    const int r = os_fsync(fd);
    os_close(fd);
    return r < 0 ? fs_error(err, r, "cannot sync directory", path) : SPT_OK;
}
