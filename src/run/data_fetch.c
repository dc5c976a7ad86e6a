#include "run/data_fetch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "fs/http.h"
#include "os/os.h"

enum { MAX_PATH = 4096 };
#define LINE_NS ((int64_t)200000000)        /* between lines on a terminal */
#define PLAIN_NS ((int64_t)10 * 1000000000) /* and elsewhere */
#define POLL_NS ((int64_t)200000000)

static bool is_true(const char *name)
{
    static const char *const yes[] = {"1",   "on",   "yes", "true", "ON",
                                      "YES", "TRUE", "On",  "Yes",  "True"};
    const char *value = os_getenv(name);
    for (size_t i = 0; value && i < sizeof yes / sizeof *yes; i++)
        if (strcmp(value, yes[i]) == 0)
            return true;
    return false;
}

spt_status data_fetch_dir(const char *data_dir, buf *out, spt_err *err)
{
    if (!fs_is_near(data_dir))
        return fs_cache_dir(out, err);
    buf_adds(out, data_dir);
    return buf_status(out, "path", err);
}

bool data_offline(void)
{
    return is_true("SPT_OFFLINE") || is_true("HF_HUB_OFFLINE");
}

bool data_unverified(void)
{
    return is_true("SPT_DATA_NO_VERIFY");
}

bool data_is_url(const char *text)
{
    return strncmp(text, "http://", 7) == 0 || strncmp(text, "https://", 8) == 0;
}

/* --- one transfer ----------------------------------------------------------------------------- */

struct transfer {
    const struct data_fetch *f;
    const char *name; /* for people */
    const char *part;
    fs_log *log;
    uint64_t had; /* bytes before this command */
    uint64_t want; /* bytes that were published; 0: not known */
    int64_t started_ns, told_ns;
};

static void put_size(char *out, size_t room, double bytes)
{
    if (bytes < 1e6)
        snprintf(out, room, "%.0f kB", bytes / 1e3);
    else
        snprintf(out, room, bytes < 1e9 ? "%.1f MB" : "%.2f GB", bytes / (bytes < 1e9 ? 1e6 : 1e9));
}

static bool tell_progress(void *ctx, uint64_t done, uint64_t total)
{
    struct transfer *t = ctx;
    const struct run_output *out = t->f->out;
    const bool line = out && out->sink->progress && out->sink->terminal && !t->f->quiet;
    const int64_t now = os_monotonic_ns();
    char have[32], all[32], speed[32], text[256];
    if (stop_requested())
        return false;
    if (now - t->told_ns < (line ? LINE_NS : PLAIN_NS))
        return true;
    t->told_ns = now;
    const uint64_t here = fs_log_size(t->log);
    const double rate = (double)done / ((double)(now - t->started_ns) / 1e9);
    put_size(have, sizeof have, (double)here);
    put_size(speed, sizeof speed, rate);
    int n = snprintf(text, sizeof text, "%s: %s", t->name, have);
    if (total != UINT64_MAX && total >= done && n > 0 && (size_t)n < sizeof text) {
        const double left = rate > 0 ? (double)(total - done) / rate : 0;
        put_size(all, sizeof all, (double)here + (double)(total - done));
        snprintf(text + n, sizeof text - (size_t)n, " of %s, %s/s, %.0f:%02.0f left", all, speed,
                 floor(left / 60), floor(fmod(left, 60)));
    }
    if (line)
        out->sink->progress(out->sink->ctx, text);
    else if (!t->f->quiet)
        log_info("%s", text);
    return true;
}

/* Bytes that do not continue what is there start it anew. */
static spt_status take_bytes(void *ctx, uint64_t offset, const void *p, size_t n, spt_err *err)
{
    struct transfer *t = ctx;
    if (offset != fs_log_size(t->log)) {
        if (offset > fs_log_size(t->log))
            return err_set(err, SPT_E_IO, "%s: the server left out bytes", t->name);
        fs_log *again;
        TRY(fs_log_open_own(t->part, offset, &again, err));
        fs_log_close(t->log);
        t->log = again;
    }
    if (t->want && (offset > t->want || n > t->want - offset)) /* a server need not end by itself */
        return err_set(err, SPT_E_FORMAT, "more than the %llu bytes that were published",
                       (unsigned long long)t->want);
    return fs_log_append(t->log, p, n, err);
}

/* Everything behind what is there. *unusable: the server has no such range. */
static spt_status transfer(struct transfer *t, const char *url, uint64_t want, bool *unusable,
                           spt_err *err)
{
    http_client *client;
    struct http_response r;
    const uint64_t had = fs_log_size(t->log);
    const struct http_request q = {
        .url = url,
        .what = t->name,
        .ranged = had > 0,
        .first = had,
        .last = UINT64_MAX,
        .sink = take_bytes,
        .sink_ctx = t,
        .progress = tell_progress,
        .progress_ctx = t,
    };
    TRY(http_client_new(&client, err));
    http_response_init(&r);
    t->had = had;
    t->want = want;
    t->started_ns = t->told_ns = os_monotonic_ns();
    spt_status st = http_run(client, &q, &r, err);
    *unusable = !st && r.status == 416;
    if (!st && r.status / 100 != 2 && !*unusable)
        st = http_status_error(&q, &r, err);
    if (t->f->out && t->f->out->sink->progress && t->f->out->sink->terminal)
        t->f->out->sink->progress(t->f->out->sink->ctx, NULL);
    http_response_release(&r);
    http_client_free(client);
    if (!st && !*unusable && want && fs_log_size(t->log) != want)
        st = err_set(err, SPT_E_FORMAT, "%s has %llu bytes where %llu were published", t->name,
                     (unsigned long long)fs_log_size(t->log), (unsigned long long)want);
    return st;
}

/* --- one file --------------------------------------------------------------------------------- */

struct target {
    const char *url, *name, *sha256; /* sha256: NULL when not to be checked */
    uint64_t size;
    const char *path;
    bool anew; /* what is there cannot be told from another file */
    char part[MAX_PATH + 8];
};

static bool stands(const struct target *g, spt_err *err)
{
    struct fs_info info;
    return !g->anew && fs_stat(g->path, &info, NULL) == SPT_OK &&
           (!g->size || info.size == g->size) &&
           (!g->sha256 || prepare_verify(g->path, g->sha256, err) == SPT_OK);
}

/* A first try from what is there, and if that is not what was published, a second one from nothing.
 */
static spt_status get_part(const struct data_fetch *f, const struct target *g, spt_err *err)
{
    for (int attempt = 0;; attempt++) {
        struct transfer t = {.f = f, .name = g->name, .part = g->part};
        const bool keep = attempt == 0 && g->sha256; /* else a half of another file would do */
        bool unusable = false;
        if (!keep)
            TRY(fs_remove_tree(g->part, err));
        TRY(fs_log_open_own(g->part, UINT64_MAX, &t.log, err));
        if (fs_log_size(t.log))
            log_info("%s: continuing behind the %llu bytes that are there", g->name,
                     (unsigned long long)fs_log_size(t.log));
        spt_status st = SPT_OK;
        if (!g->size || fs_log_size(t.log) != g->size || !g->sha256)
            st = transfer(&t, g->url, g->size, &unusable, err);
        if (!st)
            st = fs_log_sync(t.log, err);
        const bool resumed = t.had > 0 || fs_log_size(t.log) == g->size;
        fs_log_close(t.log);
        if (!st && !unusable && g->sha256)
            st = prepare_verify(g->part, g->sha256, err);
        const bool wrong = unusable || st == SPT_E_FORMAT;
        if (!wrong)
            return st;
        fs_remove_tree(g->part, NULL);
        if (attempt || !keep || !resumed)
            return unusable ? err_set(err, SPT_E_IO, "%s: the server refuses to send it", g->name)
                            : err_wrap(err, st, "%s", g->url);
    }
}

/* One process at a time works on a folder of downloads. */
static spt_status lock_folder(const char *dir, const char *name, int *out, spt_err *err)
{
    const int fd = os_open(dir, OS_READ | OS_DIR);
    if (fd < 0)
        return err_sys(err, SPT_E_IO, -fd, "%s", dir);
    for (bool told = false; os_lock(fd) < 0; told = true) {
        if (!told)
            log_info("%s: another command is fetching it; waiting", name);
        if (stop_requested()) {
            os_close(fd);
            return err_set(err, SPT_E_INTERRUPTED, "stopped; nothing was fetched");
        }
        os_sleep_ns(POLL_NS);
    }
    *out = fd;
    return SPT_OK;
}

static spt_status get_locked(const struct data_fetch *f, const struct target *g, const char *dir,
                             spt_err *err)
{
    spt_err why = {0};
    buf shown;
    char size[32];
    if (stands(g, &why))
        return SPT_OK;
    if (why.code)
        log_warning("%s; fetched again", why.msg);
    buf_init(&shown, MAX_PATH);
    http_add_shown(&shown, g->url);
    put_size(size, sizeof size, (double)g->size);
    log_info("fetching %s%s%s%s", buf_str(&shown), g->size ? " (" : "", g->size ? size : "",
             g->size ? ")" : "");
    buf_release(&shown);
    TRY(get_part(f, g, err));
    TRY(fs_rename(g->part, g->path, err));
    return fs_sync_dir(dir, err);
}

/* A fetch that brought nothing leaves nothing: neither an empty part nor empty folders. */
static void remove_empty(const struct data_fetch *f, const struct target *g)
{
    struct fs_info info;
    char dir[MAX_PATH];
    if (fs_stat(g->part, &info, NULL) == SPT_OK && !info.size)
        fs_remove_tree(g->part, NULL);
    snprintf(dir, sizeof dir, "%s", g->path);
    for (char *slash; (slash = strrchr(dir, '/')) && (size_t)(slash - dir) > strlen(f->dir);) {
        *slash = 0;
        if (os_rmdir(dir) < 0)
            return;
    }
}

static spt_status get(const struct data_fetch *f, struct target *g, spt_err *err)
{
    char dir[MAX_PATH];
    int lock = -1;
    if (stands(g, NULL))
        return SPT_OK;
    if (f->offline)
        return err_set(
            err, SPT_E_NOTFOUND,
            "%s is not in %s/downloads and there is no network (SPT_OFFLINE): fetch %s elsewhere "
            "and give it with `spt data prepare --from`",
            g->name, f->dir, g->url);
    snprintf(dir, sizeof dir, "%.*s", (int)(path_base(g->path) - g->path - 1), g->path);
    snprintf(g->part, sizeof g->part, "%s.part", g->path);
    TRY(fs_make_dirs(dir, err));
    TRY(lock_folder(dir, g->name, &lock, err));
    const spt_status st = get_locked(f, g, dir, err);
    if (st)
        remove_empty(f, g);
    os_close(lock);
    return st;
}

/* --- sources ---------------------------------------------------------------------------------- */

/* <data dir>/downloads/<where> */
static spt_status local_path(const struct data_fetch *f, const char *where, buf *out, spt_err *err)
{
    buf_addf(out, "%s/downloads/%s", f->dir, where);
    TRY(buf_status(out, "path", err));
    return strstr(where, "..") || out->len >= MAX_PATH
               ? err_set(err, SPT_E_CONFIG, "%.200s cannot be kept on disk", where)
               : SPT_OK;
}

static spt_status from_mirror(const struct data_fetch *f, const char *mirror, const char *where,
                              const struct prepare_source *s, buf *path, spt_err *err)
{
    struct fs_info info;
    buf_addf(path, "%s/%s", mirror, where);
    TRY(buf_status(path, "path", err));
    if (fs_stat(buf_str(path), &info, NULL))
        return err_set(err, SPT_E_NOTFOUND, "the mirror SPT_DATA_MIRROR has no %s", buf_str(path));
    if (f->no_verify)
        return SPT_OK;
    if (s->size && info.size != s->size)
        return err_set(err, SPT_E_FORMAT, "%s has %llu bytes where %llu were published",
                       buf_str(path), (unsigned long long)info.size, (unsigned long long)s->size);
    return s->sha256 ? prepare_verify(buf_str(path), s->sha256, err) : SPT_OK;
}

spt_status data_fetch_source(void *ctx, const struct prepare_source *s, buf *path, spt_err *err)
{
    const struct data_fetch *f = ctx;
    const char *mirror = os_getenv("SPT_DATA_MIRROR");
    buf where, url;
    buf_init(&where, MAX_PATH);
    buf_init(&url, MAX_PATH);
    spt_status st = prepare_mirror_path(s, &where, err);
    if (!st && mirror && fs_check_address(mirror, err))
        st = err_wrap(err, SPT_E_USAGE, "SPT_DATA_MIRROR");
    if (!st && mirror && *mirror && !data_is_url(mirror)) {
        st = from_mirror(f, mirror, buf_str(&where), s, path, err);
    } else if (!st) {
        st = local_path(f, buf_str(&where), path, err);
        if (mirror && *mirror)
            buf_addf(&url, "%s/%s", mirror, buf_str(&where));
        else
            buf_adds(&url, s->url);
        if (!st)
            st = buf_status(&url, "address", err);
        struct target g = {.url = buf_str(&url),
                           .name = path_base(s->file),
                           .sha256 = f->no_verify ? NULL : s->sha256,
                           .size = f->no_verify ? 0 : s->size,
                           .path = buf_str(path)};
        if (!st)
            st = get(f, &g, err);
    }
    buf_release(&url);
    buf_release(&where);
    return st;
}

spt_status data_fetch_url(const struct data_fetch *f, const char *url, const char *sha256,
                          buf *path, spt_err *err)
{
    buf where;
    const char *base = strstr(url, "://") + 3;
    char name[256];
    for (const char *p = base; *p && *p != '?'; p++)
        if (*p == '/')
            base = p + 1;
    snprintf(name, sizeof name, "%.*s", (int)strcspn(base, "?#"), base);
    const struct prepare_source s = {.url = url, .file = *name ? name : "download"};
    buf_init(&where, MAX_PATH);
    spt_status st = prepare_mirror_path(&s, &where, err);
    for (char *p = where.data; p && *p; p++) /* "host:port" */
        if (*p == ':')
            *p = '_';
    if (!st)
        st = local_path(f, buf_str(&where), path, err);
    buf_release(&where);
    struct target g = {.url = url,
                       .name = path_base(s.file),
                       .sha256 = sha256 && *sha256 ? sha256 : NULL,
                       .anew = !sha256 || !*sha256,
                       .path = buf_str(path)};
    return st ? st : get(f, &g, err);
}
