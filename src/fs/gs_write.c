/* What is written to gs://: whole files, logs, locks. */
#define _POSIX_C_SOURCE 200809L /* condition variables on the steady clock */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log.h"
#include "codec/crc.h"
#include "fs/gs_internal.h"
#include "text/json.h"

enum { MAX_PATH = 65536, LOG_BUFFER = 8 << 20, MANY = 32 };
#define NO_MANIFEST ""

static spt_status current_generation(const struct gs_name *n, uint64_t *out, spt_err *err)
{
    struct gs_meta m = {0};
    const spt_status st = gs_get_meta(n, &m, err);
    *out = st ? 0 : m.generation;
    return st == SPT_E_NOTFOUND && (!err || strncmp(err->msg, "there is no bucket", 18)) ? SPT_OK : st;
}

/* --- whole files ---------------------------------------------------------------------------- */

struct gs_writer {
    struct fs_writer base;
    struct gs_name n;
    struct gs_upload up;
    unsigned char *piece; /* at most GS_PIECE */
    size_t held, cap;
};

static void writer_free(struct gs_writer *w)
{
    buf_release(&w->up.session);
    gs_name_release(&w->n);
    mem_free(w->base.path);
    mem_free(w->piece);
    mem_free(w);
}

spt_status gs_file_name(const char *path, struct gs_name *n, spt_err *err)
{
    TRY(gs_name_of(path, n, err));
    if (n->object[0])
        return SPT_OK;
    gs_name_release(n);
    return err_set(err, SPT_E_USAGE, "%s is a bucket, not a file", path);
}

spt_status gs_create(const char *path, fs_writer **out, spt_err *err)
{
    struct gs_writer *w = mem_zalloc(1, sizeof *w);
    if (!w)
        return err_nomem(err, sizeof *w);
    w->base.be = &fs_gs;
    w->base.path = mem_strdup(path);
    spt_status st = w->base.path ? gs_file_name(path, &w->n, err) : err_nomem(err, strlen(path));
    w->up.name = &w->n;
    if (!st)
        st = current_generation(&w->n, &w->up.generation, err);
    if (st) {
        writer_free(w);
        return st;
    }
    gs_memo_forget();
    *out = &w->base;
    return SPT_OK;
}

/* A full piece waits until it is known whether it is the last. */
spt_status gs_write(fs_writer *base, const void *bytes, size_t n, spt_err *err)
{
    struct gs_writer *w = (struct gs_writer *)base;
    const unsigned char *p = bytes;
    while (n) {
        if (w->held == GS_PIECE) {
            TRY(gs_upload_piece(&w->up, w->piece, GS_PIECE, false, NULL, err));
            w->held = 0;
        }
        const size_t room = GS_PIECE - w->held, m = n < room ? n : room;
        TRY(mem_grow(&w->piece, &w->cap, w->held + m, 1, GS_PIECE, err));
        memcpy(w->piece + w->held, p, m);
        w->held += m;
        p += m;
        n -= m;
    }
    return SPT_OK;
}

spt_status gs_commit(fs_writer *base, spt_err *err)
{
    struct gs_writer *w = (struct gs_writer *)base;
    struct gs_meta m;
    const spt_status st =
        w->up.session.data
            ? gs_upload_piece(&w->up, w->piece, w->held, true, &m, err)
            : gs_put(&w->n, w->piece, w->held, w->up.generation, &m, err);
    if (st)
        gs_upload_cancel(&w->up);
    gs_memo_forget();
    writer_free(w);
    return st;
}

void gs_discard(fs_writer *base)
{
    struct gs_writer *w = (struct gs_writer *)base;
    gs_upload_cancel(&w->up);
    writer_free(w);
}

spt_status gs_write_all(const char *path, const void *p, size_t n, spt_err *err)
{
    struct gs_name name;
    struct gs_meta m;
    uint64_t generation;
    TRY(gs_file_name(path, &name, err));
    spt_status st = current_generation(&name, &generation, err);
    if (!st)
        st = gs_put(&name, p, n, generation, &m, err);
    gs_name_release(&name);
    return st;
}

/* --- logs ----------------------------------------------------------------------------------- */

/* What is appended waits here. A sync uploads it as a segment, numbered by where it starts, and has
 * the store append the segment to the log ("compose"); the log is one object at all times. Segments
 * of a run that died in between are removed when the log is opened. */
struct gs_log {
    struct fs_log base;
    struct gs_name n;
    struct gs_meta meta; /* of the object; generation 0: none yet */
    buf pending;
    bool no_compose; /* an emulator without it: the whole log is written anew */
};

static void log_free(struct gs_log *l)
{
    buf_release(&l->pending);
    gs_name_release(&l->n);
    mem_free(l->base.path);
    mem_free(l);
}

static spt_status add_segment(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    (void)meta;
    return fs_names_add(ctx, name, strlen(name), err);
}

static spt_status remove_segments(const struct gs_name *n, spt_err *err)
{
    fs_names names = {0};
    buf prefix;
    buf_init(&prefix, MAX_PATH);
    buf_addf(&prefix, "%s.segment-", n->object);
    spt_status st = buf_status(&prefix, "path", err);
    if (!st)
        st = gs_list_all(n->bucket, buf_str(&prefix), false, 0, add_segment, &names, err);
    for (size_t i = 0; i < names.count && !st; i++)
        st = gs_delete(n->bucket, names.name[i], GS_ANY, err);
    fs_names_free(&names);
    buf_release(&prefix);
    return st;
}

/* Keeps the first `keep` bytes. */
static spt_status cut(struct gs_log *l, uint64_t keep, spt_err *err)
{
    char *all = NULL;
    size_t size = 0;
    TRY(fs_read_all(l->base.path, (size_t)l->meta.size, &all, &size, err));
    const uint64_t generation = l->meta.generation;
    spt_status st = size < keep ? err_set(err, SPT_E_IO, "%s changed meanwhile", l->base.path)
                                : gs_put(&l->n, all, (size_t)keep, generation, &l->meta, err);
    mem_free(all);
    return st;
}

static spt_status open_log(struct gs_log *l, uint64_t keep, spt_err *err)
{
    TRY(gs_file_name(l->base.path, &l->n, err));
    const spt_status st = gs_get_meta(&l->n, &l->meta, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    if (st)
        l->meta = (struct gs_meta){0};
    if (keep != UINT64_MAX && l->meta.size < keep)
        return err_set(err, SPT_E_FORMAT, "%s has %llu bytes where %llu were recorded",
                       l->base.path, (unsigned long long)l->meta.size, (unsigned long long)keep);
    TRY(remove_segments(&l->n, err));
    if (keep < l->meta.size)
        TRY(cut(l, keep, err));
    l->base.size = l->meta.size;
    return SPT_OK;
}

spt_status gs_log_open(const char *path, uint64_t keep, fs_log **out, spt_err *err)
{
    struct gs_log *l = mem_zalloc(1, sizeof *l);
    if (!l || !(l->base.path = mem_strdup(path))) {
        mem_free(l);
        return err_nomem(err, sizeof *l);
    }
    l->base.be = &fs_gs;
    buf_init(&l->pending, (size_t)1 << 30);
    gs_memo_forget();
    const spt_status st = open_log(l, keep, err);
    if (st) {
        log_free(l);
        return st;
    }
    *out = &l->base;
    return SPT_OK;
}

spt_status gs_log_append(fs_log *base, const void *p, size_t n, spt_err *err)
{
    struct gs_log *l = (struct gs_log *)base;
    const size_t before = l->pending.len;
    buf_add(&l->pending, p, n);
    const spt_status st = buf_status(&l->pending, base->path, err);
    if (st) { /* forget the half of it */
        l->pending.st = SPT_OK;
        l->pending.len = before;
        return st;
    }
    base->size += n;
    return l->pending.len >= LOG_BUFFER ? gs_log_sync(base, err) : SPT_OK;
}

/* The log and the segment become the log. *unknown: this store cannot do that. */
static spt_status compose(struct gs_log *l, const struct gs_name *segment, bool *unknown,
                          spt_err *err)
{
    struct gs_call k;
    buf body;
    json_writer w;
    buf_init(&body, MAX_PATH);
    json_write_init(&w, &body, 0);
    json_begin_object(&w);
    json_key(&w, "sourceObjects");
    json_begin_array(&w);
    const char *const names[] = {l->n.object, segment->object};
    for (size_t i = 0; i < 2; i++) {
        json_begin_object(&w);
        json_key(&w, "name");
        json_string(&w, names[i]);
        json_end_object(&w);
    }
    json_end_array(&w);
    json_key(&w, "destination");
    json_begin_object(&w);
    json_key(&w, "contentType");
    json_string(&w, "application/octet-stream");
    json_end_object(&w);
    json_end_object(&w);
    spt_status st = gs_call_begin(&k, "/storage/v1/", l->n.bucket, l->n.object, err);
    buf_addf(&k.url, "/compose?ifGenerationMatch=%llu&fields=name,generation,size,crc32c,updated",
             (unsigned long long)l->meta.generation);
    static const char type[] = "Content-Type: application/json; charset=UTF-8";
    k.header[0] = type;
    k.q.method = "POST";
    k.q.body = buf_str(&body);
    k.q.body_size = body.len;
    const uint64_t size = l->meta.size + l->pending.len;
    const uint32_t crc = remote_crc_join(l->meta.crc, crc32c(l->pending.data, l->pending.len),
                                         l->pending.len);
    *unknown = false;
    if (!st)
        st = buf_status(&body, "request", err);
    if (!st)
        st = gs_call_run(&k, err);
    struct gs_meta m = {0};
    if (!st && k.r.status == 200)
        st = gs_parse_meta(&k.r.body, &m, err);
    else if (!st && k.r.status == 412) /* perhaps done already, and the answer was lost */
        st = gs_get_meta(&l->n, &m, err);
    else if (!st && (k.r.status == 404 || k.r.status == 405 || k.r.status == 400 ||
                     k.r.status == 501))
        *unknown = true;
    else if (!st)
        st = gs_refused(&k.q, &k.r, l->n.bucket, l->n.object, "storage.objects.create", err);
    if (!st && !*unknown && (m.size != size || (m.has_crc && l->meta.has_crc && m.crc != crc)))
        st = err_set(err, SPT_E_IO, "%s was changed by another writer meanwhile", l->base.path);
    if (!st && !*unknown)
        l->meta = m;
    gs_call_end(&k);
    buf_release(&body);
    return st;
}

static spt_status write_anew(struct gs_log *l, spt_err *err)
{
    char *old = NULL;
    size_t size = 0;
    buf all;
    TRY(fs_read_all(l->base.path, (size_t)l->meta.size, &old, &size, err));
    buf_init(&all, SIZE_MAX / 2);
    buf_add(&all, old, size);
    buf_add(&all, l->pending.data, l->pending.len);
    mem_free(old);
    spt_status st = buf_status(&all, l->base.path, err);
    if (!st && size != l->meta.size)
        st = err_set(err, SPT_E_IO, "%s was changed by another writer meanwhile", l->base.path);
    if (!st)
        st = gs_put(&l->n, all.data, all.len, l->meta.generation, &l->meta, err);
    buf_release(&all);
    return st;
}

static spt_status append_segment(struct gs_log *l, spt_err *err)
{
    struct gs_name segment = {.bucket = l->n.bucket};
    struct gs_meta m;
    bool unknown = false;
    buf name;
    buf_init(&name, MAX_PATH);
    buf_addf(&name, "%s.segment-%020llu", l->n.object, (unsigned long long)l->meta.size);
    spt_status st = buf_status(&name, "path", err);
    segment.object = name.data;
    if (!st)
        st = gs_put(&segment, l->pending.data, l->pending.len, GS_ANY, &m, err);
    if (!st)
        st = compose(l, &segment, &unknown, err);
    if (!st)
        st = gs_delete(segment.bucket, segment.object, GS_ANY, err);
    buf_release(&name);
    l->no_compose = unknown;
    return !st && unknown ? write_anew(l, err) : st;
}

spt_status gs_log_sync(fs_log *base, spt_err *err)
{
    struct gs_log *l = (struct gs_log *)base;
    spt_status st = SPT_OK;
    if (!l->meta.generation)
        st = gs_put(&l->n, l->pending.data, l->pending.len, 0, &l->meta, err);
    else if (l->pending.len && (l->no_compose || !l->meta.has_crc))
        st = write_anew(l, err);
    else if (l->pending.len)
        st = append_segment(l, err);
    if (!st)
        buf_clear(&l->pending);
    return st;
}

void gs_log_close(fs_log *base)
{
    spt_err err = {0};
    if (gs_log_sync(base, &err))
        log_warning("the end of %s is not written: %s", base->path, err.msg);
    log_free((struct gs_log *)base);
}

/* --- locks ---------------------------------------------------------------------------------- */

/* The lock is an object that says who holds it and for how long; a thread writes it anew three times
 * per lease. Its age is the difference of two times of the server's clock. */
struct gs_lock {
    struct fs_lock base;
    struct gs_name n;
    buf text;
    int64_t lease_ns, renewed; /* os_monotonic_ns of the last renewal's start */
    uint64_t generation;
    uint64_t thread;
    bool running, stop, lost;
    bool weak; /* the server ignores preconditions: what is there is looked at before it is replaced
                */
    pthread_mutex_t mutex;
    pthread_cond_t wake;
};
#define SECOND ((int64_t)1000000000)

static int64_t lease_seconds(void)
{
    const char *text = os_getenv("SPT_LEASE_SECONDS");
    const long v = text ? strtol(text, NULL, 10) : 0;
    return v >= 1 && v <= 86400 ? v : 60;
}

static void lock_free(struct gs_lock *l)
{
    gs_name_release(&l->n);
    buf_release(&l->text);
    mem_free(l->base.path);
    pthread_mutex_destroy(&l->mutex);
    pthread_cond_destroy(&l->wake);
    mem_free(l);
}

/* Until when the next renewal can wait, on the clock of condition variables. */
static struct timespec after(int64_t ns)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t t = (int64_t)now.tv_sec * SECOND + now.tv_nsec + ns;
    return (struct timespec){(time_t)(t / SECOND), (long)(t % SECOND)};
}

/* What the object says: who, and the seconds of the lease in a second line. */
struct held {
    struct gs_meta meta;
    int64_t age, lease; /* seconds */
    char who[256];
};

static spt_status look(const struct gs_name *n, struct held *h, spt_err *err)
{
    struct gs_call k;
    spt_status st = gs_call_begin(&k, "/storage/v1/", n->bucket, n->object, err);
    buf_adds(&k.url, "?fields=name,generation,size,crc32c,updated");
    if (!st)
        st = gs_call_run(&k, err);
    if (!st)
        st = k.r.status == 200
                 ? gs_parse_meta(&k.r.body, &h->meta, err)
                 : gs_refused(&k.q, &k.r, n->bucket, n->object, "storage.objects.get", err);
    h->age = h->meta.updated && k.r.date > h->meta.updated ? k.r.date - h->meta.updated : 0;
    gs_call_end(&k);
    return st;
}

/* Is what is there what we wrote? */
static spt_status still_ours(const struct gs_lock *l, uint64_t generation, spt_err *err)
{
    struct held h = {0};
    const spt_status st = look(&l->n, &h, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    return st || h.meta.generation != generation
               ? err_set(err, SPT_E_IO, "%s was changed by another writer meanwhile", l->base.path)
               : SPT_OK;
}

static spt_status replace(const struct gs_lock *l, uint64_t generation, struct gs_meta *m,
                          spt_err *err)
{
    if (l->weak)
        TRY(still_ours(l, generation, err));
    /* Not gs_put: listings that are remembered stay true. */
    return gs_put_quietly(&l->n, l->text.data, l->text.len, generation, m, err);
}

static void *renew(void *arg)
{
    struct gs_lock *l = arg;
    pthread_mutex_lock(&l->mutex);
    while (!l->stop && !l->lost) {
        const struct timespec until = after(l->lease_ns / 3);
        int e = 0;
        while (!l->stop && !e)
            e = pthread_cond_timedwait(&l->wake, &l->mutex, &until);
        if (l->stop)
            break;
        const uint64_t generation = l->generation;
        pthread_mutex_unlock(&l->mutex);
        const int64_t now = os_monotonic_ns();
        struct gs_meta m;
        spt_err err = {0};
        const spt_status st = replace(l, generation, &m, &err);
        pthread_mutex_lock(&l->mutex);
        if (!st) {
            l->generation = m.generation;
            l->renewed = now;
        } else {
            l->lost = strstr(err.msg, "another writer") != NULL;
            log_warning("the lock %s was not renewed: %s", l->base.path, err.msg);
        }
    }
    pthread_mutex_unlock(&l->mutex);
    return NULL;
}

static void read_held(const char *path, struct held *h)
{
    char *text = NULL;
    size_t n = 0;
    h->who[0] = '\0';
    h->lease = 60;
    if (fs_read_all(path, 1024, &text, &n, NULL))
        return;
    snprintf(h->who, sizeof h->who, "%.*s", (int)strcspn(text, "\n"), text);
    const char *lease = strstr(text, "\nlease ");
    if (lease)
        h->lease = strtol(lease + 7, NULL, 10);
    if (h->lease < 1 || h->lease > 86400)
        h->lease = 60;
    mem_free(text);
}

/* Somebody's lock is there: waits until its lease has run out, or it turns out to be renewed. */
static spt_status outlive(struct gs_lock *l, uint64_t *generation, char *holder, size_t cap,
                          spt_err *err)
{
    struct held h = {0};
    uint64_t first = 0;
    const int64_t started = os_monotonic_ns();
    for (bool told = false;; told = true) {
        const spt_status st = look(&l->n, &h, err);
        *generation = st ? 0 : h.meta.generation;
        holder[0] = '\0';
        if (st)
            return st == SPT_E_NOTFOUND ? SPT_OK : st;
        if (!told)
            read_held(l->base.path, &h);
        snprintf(holder, cap, "%s", h.who);
        if (first && h.meta.generation != first) {
            if (!holder[0])
                snprintf(holder, cap, "-");
            return err_set(err, SPT_E_CONFIG, "%s is locked", l->base.path);
        }
        first = h.meta.generation;
        const int64_t watched = (os_monotonic_ns() - started) / SECOND;
        const int64_t left = h.lease + 1 - (h.age > watched ? h.age : watched);
        if (left <= 0) {
            holder[0] = '\0';
            return SPT_OK;
        }
        if (!told)
            log_info("%s: locked by %s; when it is not renewed within %lld s it counts as left over",
                     l->base.path, h.who[0] ? h.who : "somebody", (long long)left);
        const int64_t step = h.lease * SECOND / 4;
        os_sleep_ns(step < left * SECOND ? step : left * SECOND);
    }
}

/* The service keeps to preconditions. Emulators may not. */
static bool is_service(void)
{
    buf url;
    buf_init(&url, 4096);
    const bool yes =
        !gs_endpoint(&url, NULL) && !strcmp(buf_str(&url), "https://storage.googleapis.com");
    buf_release(&url);
    return yes;
}

/* Puts the lock once more where "generation 1" should forbid it: a server that does it all the same
 * ignores preconditions. There, who comes within a second of another sees it now: the last one
 * to write has it. */
static spt_status try_server(struct gs_lock *l, spt_err *err)
{
    struct gs_meta m;
    TRY(gs_put(&l->n, l->text.data, l->text.len, 1, &m, err));
    l->weak = m.generation != l->generation;
    l->generation = m.generation;
    if (!l->weak)
        return SPT_OK;
    log_warning("%s: this server ignores ifGenerationMatch, so that a second trainer is kept away "
                "only as far as looking first can do it",
                l->base.path);
    os_sleep_ns(l->lease_ns / 2 < SECOND ? l->lease_ns / 2 : SECOND);
    return still_ours(l, l->generation, err);
}

static spt_status take(struct gs_lock *l, char *holder, size_t cap, spt_err *err)
{
    const bool service = is_service();
    uint64_t generation = 0;
    struct gs_meta m;
    if (!service) /* it may let us replace what somebody else wrote */
        TRY(outlive(l, &generation, holder, cap, err));
    for (int tries = 0;; tries++) {
        spt_err why = {0};
        if (generation)
            log_info("%s: taking over a lock that was left over", l->base.path);
        l->renewed = os_monotonic_ns();
        spt_status st = gs_put(&l->n, l->text.data, l->text.len, generation, &m, &why);
        if (!st) {
            l->generation = m.generation;
            holder[0] = '\0';
            if (!service)
                st = try_server(l, &why);
        }
        if (!st)
            return SPT_OK;
        if (!strstr(why.msg, "another writer") || tries == 3) {
            if (err)
                *err = why;
            return st;
        }
        TRY(outlive(l, &generation, holder, cap, err));
    }
}

spt_status gs_lock_take(const char *path, const char *who, fs_lock **out, char *holder, size_t cap,
                        spt_err *err)
{
    struct gs_lock *l = mem_zalloc(1, sizeof *l);
    uint64_t salt = 0;
    if (!l)
        return err_nomem(err, sizeof *l);
    pthread_mutex_init(&l->mutex, NULL);
    /* Not the wall clock: tests freeze it, and people set it. */
    pthread_condattr_t steady;
    pthread_condattr_init(&steady);
    pthread_condattr_setclock(&steady, CLOCK_MONOTONIC);
    pthread_cond_init(&l->wake, &steady);
    pthread_condattr_destroy(&steady);
    l->base.be = &fs_gs;
    l->base.path = mem_strdup(path);
    l->lease_ns = lease_seconds() * SECOND;
    buf_init(&l->text, 1024);
    os_random(&salt, sizeof salt); /* two holders never write the same bytes */
    buf_addf(&l->text, "%slease %lld\nsalt %016llx\n", who, (long long)(l->lease_ns / SECOND),
             (unsigned long long)salt);
    spt_status st = l->base.path ? gs_file_name(path, &l->n, err) : err_nomem(err, strlen(path));
    if (!st)
        st = buf_status(&l->text, "lock", err);
    if (!st)
        st = take(l, holder, cap, err);
    if (!st) {
        const int e = os_thread_start(&l->thread, renew, l);
        if (e < 0) {
            gs_delete(l->n.bucket, l->n.object, l->generation, NULL);
            st = err_sys(err, SPT_E_IO, -e, "no thread for the lock %s", path);
        }
        l->running = !st;
    }
    if (st) {
        lock_free(l);
        return st;
    }
    *out = &l->base;
    return SPT_OK;
}

spt_status gs_lock_check(fs_lock *base, spt_err *err)
{
    struct gs_lock *l = (struct gs_lock *)base;
    pthread_mutex_lock(&l->mutex);
    const bool lost = l->lost || os_monotonic_ns() - l->renewed > l->lease_ns;
    pthread_mutex_unlock(&l->mutex);
    return lost ? err_set(err, SPT_E_CONFIG,
                          "the lock %s was lost (its lease was not renewed in time): nothing more is "
                          "written",
                          base->path)
                : SPT_OK;
}

void gs_lock_release(fs_lock *base)
{
    struct gs_lock *l = (struct gs_lock *)base;
    if (l->running) {
        pthread_mutex_lock(&l->mutex);
        l->stop = true;
        pthread_cond_signal(&l->wake);
        pthread_mutex_unlock(&l->mutex);
        os_thread_join(l->thread);
    }
    if (!l->lost && !(l->weak && still_ours(l, l->generation, NULL)))
        gs_delete(l->n.bucket, l->n.object, l->generation, NULL);
    lock_free(l);
}
