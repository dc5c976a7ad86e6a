/* Which store a path belongs to, and the way there. */
#include "fs/fs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "fs/fs_internal.h"
#include "fs/gs_internal.h"
#include "fs/remote.h"

const struct fs_backend fs_local = {
    .stat = local_stat,
    .open_object = local_open,
    .list = local_list,
    .make_dirs = local_make_dirs,
    .remove_tree = local_remove_tree,
    .move = local_rename,
    .sync_dir = local_sync_dir,
    .create = local_create,
    .append = local_write,
    .commit = local_commit,
    .discard = local_discard,
    .log_open = local_log_open,
    .log_append = local_log_append,
    .log_sync = local_log_sync,
    .log_close = local_log_close,
    .lock_take = local_lock_take,
    .lock_release = local_lock_release,
    .savedir_begin = local_savedir_begin,
    .savedir_mkdir = local_savedir_mkdir,
    .savedir_file = local_savedir_file,
    .savedir_publish = local_savedir_publish,
    .savedir_abort = local_savedir_abort,
};

static const struct fs_backend *const remotes[] = {&fs_gs, &fs_https};

/* Length of the scheme in front of "://", 0 when there is none. */
static size_t scheme_length(const char *path)
{
    const char *sep = strstr(path, "://");
    if (!sep)
        return 0;
    for (const char *p = path; p < sep; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= '0' && *p <= '9')))
            return 0; /* an odd local name */
    return (size_t)(sep - path);
}

/* Does the name of a query's field (n bytes) say that its value is a secret? */
static bool names_secret(const char *name, size_t n)
{
    static const char *const part[] = {"signature", "token", "secret", "passw", "credential"};
    static const char *const whole[] = {"sig", "key", "api_key", "apikey", "auth"};
    for (size_t i = 0; i < sizeof part / sizeof *part; i++)
        for (size_t at = 0, k = strlen(part[i]); at + k <= n; at++)
            if (!strncasecmp(name + at, part[i], k))
                return true;
    for (size_t i = 0; i < sizeof whole / sizeof *whole; i++)
        if (n == strlen(whole[i]) && !strncasecmp(name, whole[i], n))
            return true;
    return false;
}

spt_status fs_check_address(const char *path, spt_err *err)
{
    const size_t n = path ? scheme_length(path) : 0;
    if (!n || (strncasecmp(path, "http:", 5) && strncasecmp(path, "https:", 6)))
        return SPT_OK;
    const char *host = path + n + 3, *end = host + strcspn(host, "/?#");
    const char *at = memchr(host, '@', (size_t)(end - host));
    bool secret = at != NULL;
    for (const char *p = strchr(end, '?'); p && *p && *p != '#' && !secret;) {
        const size_t name = strcspn(++p, "=&#");
        secret = names_secret(p, name);
        p += strcspn(p, "&#");
    }
    if (!secret)
        return SPT_OK;
    host = at ? at + 1 : host;
    return err_set(err, SPT_E_USAGE,
                   "the address at %.*s holds a password or a signature, which would stand in logs "
                   "and in config.gin: fetch the file first and give its path",
                   (int)(end - host), host);
}

spt_status fs_backend_of(const char *path, const struct fs_backend **out, spt_err *err)
{
    if (!path || !path[0])
        return err_set(err, SPT_E_USAGE, "an empty file name");
    TRY(fs_check_address(path, err));
    const size_t n = scheme_length(path);
    *out = &fs_local;
    if (!n)
        return SPT_OK;
    for (size_t i = 0; i < sizeof remotes / sizeof *remotes; i++) {
        if (strlen(remotes[i]->scheme) == n && !strncmp(path, remotes[i]->scheme, n)) {
            *out = remotes[i];
            return SPT_OK;
        }
    }
    return err_set(err, SPT_E_USAGE,
                   "%s: scheme \"%.*s\" is not supported (local paths, gs://bucket/path, and "
                   "https:// for reading are)",
                   path, (int)n, path);
}

/* The table of a path in `be`, which must have the function. */
#define BACKEND(path, function)                                                               \
    const struct fs_backend *be;                                                              \
    TRY(fs_backend_of(path, &be, err));                                                       \
    if (!be->function)                                                                        \
    return err_set(err, SPT_E_USAGE, "%s: %s:// paths can be read, not listed or written", path, \
                   be->scheme)

/* --- looking -------------------------------------------------------------------------------- */

spt_status fs_stat(const char *path, struct fs_info *out, spt_err *err)
{
    BACKEND(path, stat);
    return be->stat(path, out, err);
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

spt_status fs_expect(const char *const *path, size_t count, spt_err *err)
{
    if (!count)
        return SPT_OK;
    BACKEND(path[0], stat);
    return be->expect ? be->expect(path, count, err) : SPT_OK;
}

bool fs_is_near(const char *path)
{
    const struct fs_backend *be;
    return fs_backend_of(path, &be, NULL) || !be->expect;
}

spt_status fs_expect_below(const char *dir, spt_err *err)
{
    BACKEND(dir, stat);
    return be->expect_below ? be->expect_below(dir, err) : SPT_OK;
}

/* --- directories ---------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

spt_status fs_list(const char *dir, fs_names *out, spt_err *err)
{
    BACKEND(dir, list);
    fs_names names = {0};
    const spt_status st = be->list(dir, &names, err);
    if (st) {
        fs_names_free(&names);
        return st;
    }
    if (names.count)
        qsort(names.name, names.count, sizeof *names.name, by_name);
    *out = names;
    return SPT_OK;
}

spt_status fs_names_add(fs_names *n, const char *name, size_t len, spt_err *err)
{
    enum { MAX_NAMES = 10000000 };
    TRY(mem_grow(&n->name, &n->cap, n->count + 1, sizeof *n->name, MAX_NAMES, err));
    n->name[n->count] = mem_strndup(name, len);
    if (!n->name[n->count])
        return err_nomem(err, len);
    n->count++;
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
    BACKEND(path, make_dirs);
    return be->make_dirs(path, false, err);
}

spt_status fs_make_dirs_durable(const char *path, spt_err *err)
{
    BACKEND(path, make_dirs);
    return be->make_dirs(path, true, err);
}

spt_status fs_remove_tree(const char *path, spt_err *err)
{
    BACKEND(path, remove_tree);
    return be->remove_tree(path, err);
}

spt_status fs_rename(const char *from, const char *to, spt_err *err)
{
    const struct fs_backend *other;
    BACKEND(from, move);
    TRY(fs_backend_of(to, &other, err));
    if (other != be)
        return err_set(err, SPT_E_USAGE, "%s cannot be moved to another store, %s", from, to);
    return be->move(from, to, err);
}

spt_status fs_sync_dir(const char *path, spt_err *err)
{
    BACKEND(path, sync_dir);
    return be->sync_dir(path, err);
}

/* --- writing -------------------------------------------------------------------------------- */

spt_status fs_create(const char *path, fs_writer **out, spt_err *err)
{
    BACKEND(path, create);
    return be->create(path, out, err);
}

spt_status fs_write(fs_writer *w, const void *p, size_t n, spt_err *err)
{
    if (w->failed)
        return err_set(err, SPT_E_IO, "%s: an earlier write failed", w->path);
    const spt_status st = w->be->append(w, p, n, err);
    w->failed = st != SPT_OK;
    return st;
}

void fs_abort(fs_writer *w)
{
    if (w)
        w->be->discard(w);
}

spt_status fs_commit(fs_writer *w, spt_err *err)
{
    if (!w->failed)
        return w->be->commit(w, err);
    const spt_status st = err_set(err, SPT_E_IO, "%s: an earlier write failed", w->path);
    w->be->discard(w);
    return st;
}

spt_status fs_write_all(const char *path, const void *p, size_t n, spt_err *err)
{
    fs_writer *w;
    BACKEND(path, create);
    if (be->write_all)
        return be->write_all(path, p, n, err);
    TRY(fs_create(path, &w, err));
    const spt_status st = fs_write(w, p, n, err);
    if (st) {
        fs_abort(w);
        return st;
    }
    return fs_commit(w, err);
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

/* --- logs ----------------------------------------------------------------------------------- */

spt_status fs_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err)
{
    BACKEND(path, log_open);
    return be->log_open(path, keep, out, err);
}

spt_status fs_log_append(fs_log *l, const void *p, size_t n, spt_err *err)
{
    return l->be->log_append(l, p, n, err);
}

spt_status fs_log_sync(fs_log *l, spt_err *err)
{
    return l->be->log_sync(l, err);
}

uint64_t fs_log_size(const fs_log *l)
{
    return l->size;
}

void fs_log_close(fs_log *l)
{
    if (l)
        l->be->log_close(l);
}

/* --- locks ---------------------------------------------------------------------------------- */

spt_status fs_lock_take(const char *path, const char *who, fs_lock **out, char *holder, size_t cap,
                        spt_err *err)
{
    BACKEND(path, lock_take);
    holder[0] = '\0';
    return be->lock_take(path, who, out, holder, cap, err);
}

spt_status fs_lock_dir(const char *dir, fs_lock **out, bool *busy, spt_err *err)
{
    char who[200], host[128] = "", holder[256] = "";
    *busy = false;
    BACKEND(dir, lock_take);
    if (be == &fs_local)
        return local_lock_dir(dir, out, busy, err);
    buf path;
    buf_init(&path, 65536);
    os_hostname(host, sizeof host);
    snprintf(who, sizeof who, "process %d on %s\n", os_getpid(), host);
    spt_status st = path_join(&path, dir, ".lock", err);
    if (!st)
        st = be->lock_take(buf_str(&path), who, out, holder, sizeof holder, err);
    *busy = st && holder[0];
    buf_release(&path);
    return st;
}

spt_status fs_lock_check(fs_lock *l, spt_err *err)
{
    return l->be->lock_check ? l->be->lock_check(l, err) : SPT_OK;
}

void fs_lock_release(fs_lock *l)
{
    if (l)
        l->be->lock_release(l);
}

/* --- directories that appear whole ---------------------------------------------------------- */

spt_status savedir_begin(const char *tmp, const char *final, const char *manifest, savedir **out,
                         spt_err *err)
{
    BACKEND(tmp, savedir_begin);
    return be->savedir_begin(tmp, final, manifest, out, err);
}

const char *savedir_path(const savedir *d)
{
    return d->path;
}

spt_status savedir_mkdir(savedir *d, const char *name, spt_err *err)
{
    const spt_status st = d->be->savedir_mkdir(d, name, err);
    d->failed |= st != SPT_OK;
    return st;
}

spt_status savedir_file(savedir *d, const char *name, const void *p, size_t n, spt_err *err)
{
    const spt_status st = d->be->savedir_file(d, name, p, n, err);
    d->failed |= st != SPT_OK;
    return st;
}

spt_status savedir_publish(savedir *d, spt_err *err)
{
    if (!d->failed)
        return d->be->savedir_publish(d, err);
    const spt_status st = err_set(err, SPT_E_IO, "%s: an earlier write failed", d->path);
    d->be->savedir_abort(d);
    return st;
}

void savedir_abort(savedir *d)
{
    if (d)
        d->be->savedir_abort(d);
}

bool savedir_is_whole(const char *path)
{
    const struct fs_backend *be;
    return fs_backend_of(path, &be, NULL) || !be->savedir_sweep;
}

spt_status savedir_sweep(const char *dir, const char *prefix, const char *manifest, spt_err *err)
{
    const struct fs_backend *be;
    TRY(fs_backend_of(dir, &be, err));
    return be->savedir_sweep ? be->savedir_sweep(dir, prefix, manifest, err) : SPT_OK;
}

/* --- paths ---------------------------------------------------------------------------------- */

bool path_is_absolute(const char *path)
{
    return path[0] == '/' || scheme_length(path);
}

spt_status path_join(buf *out, const char *dir, const char *name, spt_err *err)
{
    buf_clear(out);
    if (!path_is_absolute(name) && dir && dir[0]) {
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

/* --- what is far away ----------------------------------------------------------------------- */

spt_status fs_set_cache(const char *dir, const char *size, spt_err *err)
{
    uint64_t max = UINT64_MAX;
    const struct fs_backend *be = &fs_local;
    if (size && size[0] && !remote_parse_size(size, &max))
        return err_set(err, SPT_E_USAGE, "\"%s\" is no size of a cache: 0, 800M, 64G, 1T", size);
    if (dir && dir[0])
        TRY(fs_backend_of(dir, &be, err));
    if (be != &fs_local)
        return err_set(err, SPT_E_USAGE, "%s: the cache is a local directory", dir);
    return remote_set_cache(dir && dir[0] ? dir : NULL, max, err);
}

spt_status fs_cache_dir(buf *out, spt_err *err)
{
    return remote_cache_dir(out, err);
}

void fs_release(void)
{
    gs_release();
    remote_release();
}
