#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs_internal.h"

enum { MAX_NAMES = 10000000, MAX_TREE_DEPTH = 64, MAX_PATH = 65536 };

struct listing {
    fs_names *names;
    spt_err *err;
};

static int add_name(void *ctx, const char *name)
{
    struct listing *l = ctx;
    fs_names *n = l->names;
    if (mem_grow(&n->name, &n->cap, n->count + 1, sizeof *n->name, MAX_NAMES, l->err))
        return 1;
    n->name[n->count] = mem_strdup(name);
    if (!n->name[n->count])
        return 1;
    n->count++;
    return 0;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

spt_status fs_list(const char *dir, fs_names *out, spt_err *err)
{
    TRY(fs_check_scheme(dir, err));
    fs_names names = {0};
    struct listing l = {&names, err};
    const int r = os_list(dir, add_name, &l);
    if (r) {
        fs_names_free(&names);
        return r < 0 ? fs_error(err, r, "cannot list", dir) : err_nomem(err, 0);
    }
    if (names.count)
        qsort(names.name, names.count, sizeof *names.name, by_name);
    *out = names;
    return SPT_OK;
}

void fs_names_free(fs_names *n)
{
    for (size_t i = 0; i < n->count; i++)
        mem_free(n->name[i]);
    mem_free(n->name);
    *n = (fs_names){0};
}

spt_status fs_make_dirs(const char *path, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    char *p = mem_strdup(path);
    if (!p)
        return err_nomem(err, strlen(path));
    spt_status st = SPT_OK;
    for (char *at = p + 1;; at++) {
        if (*at && *at != '/')
            continue;
        const char keep = *at;
        *at = '\0';
        const int r = os_mkdir(p);
        struct os_stat s;
        if (r < 0 && !(os_stat(p, &s) == 0 && s.is_dir)) {
            st = fs_error(err, r, "cannot create directory", p);
            if (st == SPT_E_NOTFOUND)
                st = err->code = SPT_E_IO;
        }
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

spt_status fs_remove_tree(const char *path, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    return remove_tree(path, 0, err);
}

spt_status fs_rename(const char *from, const char *to, spt_err *err)
{
    TRY(fs_check_scheme(from, err));
    TRY(fs_check_scheme(to, err));
    const int r = os_rename(from, to);
    return r < 0 ? fs_error(err, r, "cannot rename", from) : SPT_OK;
}

spt_status fs_sync_dir(const char *path, spt_err *err)
{
    TRY(fs_check_scheme(path, err));
    const int fd = os_open(path, OS_READ | OS_DIR);
    if (fd < 0)
        return fs_error(err, fd, "cannot open directory", path);
    const int r = os_fsync(fd);
    os_close(fd);
    return r < 0 ? fs_error(err, r, "cannot sync directory", path) : SPT_OK;
}

spt_status path_join(buf *out, const char *dir, const char *name, spt_err *err)
{
    buf_clear(out);
    if (name[0] != '/' && dir && dir[0]) {
        buf_adds(out, dir);
        if (out->len && out->data[out->len - 1] != '/')
            buf_addc(out, '/');
    }
    buf_adds(out, name);
    return buf_status(out, "path", err);
}

const char *path_base(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

bool path_has_suffix(const char *path, const char *suffix)
{
    const size_t n = strlen(path), m = strlen(suffix);
    return n >= m && !strcmp(path + n - m, suffix);
}
