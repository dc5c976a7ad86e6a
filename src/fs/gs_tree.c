/* What lies below a name in a bucket, which has no directories: removed, copied, moved object by
 * object, some at a time. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "fs/gs_internal.h"
#include "text/json.h"

enum { MAX_PATH = 65536, MAX_IDLE = 20 /* calls in a row that copied nothing */ };

/* --- some at a time ------------------------------------------------------------------------- */

struct team {
    pthread_mutex_t mutex;
    size_t next, count;
    gs_job_fn fn;
    void *ctx;
    spt_status st;
    spt_err why;
};

static void *work(void *arg)
{
    struct team *t = arg;
    for (;;) {
        spt_err why = {0};
        pthread_mutex_lock(&t->mutex);
        const size_t i = t->st ? t->count : t->next;
        t->next += i < t->count;
        pthread_mutex_unlock(&t->mutex);
        if (i == t->count)
            return NULL;
        const spt_status st = t->fn(t->ctx, i, &why);
        pthread_mutex_lock(&t->mutex);
        if (st && !t->st) {
            t->st = st;
            t->why = why;
        }
        pthread_mutex_unlock(&t->mutex);
    }
}

spt_status gs_in_parallel(size_t count, gs_job_fn fn, void *ctx, spt_err *err)
{
    struct team t = {.count = count, .fn = fn, .ctx = ctx};
    uint64_t thread[GS_AT_A_TIME];
    size_t threads = 0;
    pthread_mutex_init(&t.mutex, NULL);
    while (threads + 1 < count && threads + 1 < GS_AT_A_TIME &&
           os_thread_start(&thread[threads], work, &t) >= 0)
        threads++;
    work(&t); /* this thread is one of them */
    while (threads)
        os_thread_join(thread[--threads]);
    pthread_mutex_destroy(&t.mutex);
    if (t.st && err)
        *err = t.why;
    return t.st;
}

/* --- directories ---------------------------------------------------------------------------- */

spt_status gs_make_dirs(const char *path, bool durable, spt_err *err)
{
    struct gs_name n;
    (void)durable;
    TRY(gs_name_of(path, &n, err));
    gs_name_release(&n);
    return gs_made_add(path, err);
}

/* An object is durable when its upload has ended. */
spt_status gs_sync_dir(const char *path, spt_err *err)
{
    (void)path, (void)err;
    return SPT_OK;
}

/* The objects of a directory: what lies directly in it first (manifests are there), each part in the
 * order of names, our mark last. */
struct tree {
    const char *bucket;
    size_t prefix; /* length of "<object>/" */
    fs_names names;
    size_t deep, marks; /* where those in directories begin, and our marks */
};

static spt_status tree_add(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    (void)meta;
    struct tree *t = ctx;
    return fs_names_add(&t->names, name, strlen(name), err);
}

static size_t sort_prefix; /* qsort has no context; guarded by the mutex */
static pthread_mutex_t sort_mutex = PTHREAD_MUTEX_INITIALIZER;

static int rank_of(const char *name)
{
    const char *rest = name + sort_prefix;
    return !strcmp(rest, GS_MARK) ? 2 : strchr(rest, '/') ? 1 : 0;
}

static int by_depth(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const int d = rank_of(x) - rank_of(y);
    return d ? d : strcmp(x, y);
}

static spt_status tree_list(const struct gs_name *n, struct tree *t, spt_err *err)
{
    buf prefix;
    *t = (struct tree){.bucket = n->bucket};
    buf_init(&prefix, MAX_PATH);
    buf_addf(&prefix, "%s%s", n->object, n->object[0] ? "/" : "");
    spt_status st = buf_status(&prefix, "path", err);
    t->prefix = prefix.len;
    if (!st)
        st = gs_list_all(n->bucket, buf_str(&prefix), false, 0, tree_add, t, err);
    buf_release(&prefix);
    if (!st && t->names.count) {
        pthread_mutex_lock(&sort_mutex);
        sort_prefix = t->prefix;
        qsort(t->names.name, t->names.count, sizeof *t->names.name, by_depth);
        pthread_mutex_unlock(&sort_mutex);
    }
    for (size_t i = 0; i < t->names.count; i++) {
        const char *rest = t->names.name[i] + t->prefix;
        t->marks += strcmp(rest, GS_MARK) != 0;
        t->deep += !strchr(rest, '/') && strcmp(rest, GS_MARK) != 0;
    }
    return st;
}

spt_status gs_delete(const char *bucket, const char *object, uint64_t generation, spt_err *err)
{
    struct gs_call k;
    spt_status st = gs_call_begin(&k, "/storage/v1/", bucket, object, err);
    if (generation != GS_ANY)
        buf_addf(&k.url, "?ifGenerationMatch=%llu", (unsigned long long)generation);
    k.q.method = "DELETE";
    if (!st)
        st = gs_call_run(&k, err);
    if (!st && k.r.status / 100 != 2 && k.r.status != 404 && k.r.status != 412)
        st = gs_refused(&k.q, &k.r, bucket, object, "storage.objects.delete", err);
    if (!st && k.r.status == 404 && k.r.body.data && strstr(k.r.body.data, "bucket does not"))
        st = gs_refused(&k.q, &k.r, bucket, object, "storage.objects.delete", err);
    gs_call_end(&k);
    return st;
}

/* Rewrites (server-side copies) an object; large ones take several calls. */
static spt_status copy_one(const char *bucket, const char *from, const char *to_bucket,
                           const char *to, spt_err *err)
{
    buf token;
    buf_init(&token, MAX_PATH);
    spt_status st = SPT_OK;
    bool done = false;
    uint64_t copied = 0;
    for (int calls = 0, idle = 0; !st && !done; calls++) {
        uint64_t now = 0;
        struct gs_call k;
        json_reader j;
        bool more;
        struct json_event key;
        st = gs_call_begin(&k, "/storage/v1/", bucket, from, err);
        buf_addf(&k.url, "/rewriteTo/b/%s/o/", to_bucket);
        http_add_escaped(&k.url, to, false);
        if (token.len) {
            buf_adds(&k.url, "?rewriteToken=");
            http_add_escaped(&k.url, buf_str(&token), false);
        }
        k.q.method = "POST";
        k.q.has_body = true;
        if (!st)
            st = gs_call_run(&k, err);
        if (!st && k.r.status != 200)
            st = gs_refused(&k.q, &k.r, bucket, from, "storage.objects.create", err);
        json_open(&j, k.r.body.data, k.r.body.len, 0);
        buf_clear(&token);
        if (!st)
            st = json_enter_object(&j, err);
        while (!st && !(st = json_next_key(&j, &more, &key, err)) && more) {
            if (json_is(&key, "done"))
                st = json_read_bool(&j, &done, err);
            else if (json_is(&key, "rewriteToken"))
                st = json_read_text(&j, &token, err);
            else if (json_is(&key, "totalBytesRewritten"))
                st = gs_read_number(&j, &now, err);
            else
                st = json_skip(&j, err);
        }
        if (!st)
            st = buf_status(&token, "rewriteToken", err);
        idle = now > copied ? 0 : idle + 1;
        copied = now > copied ? now : copied;
        if (!st && !done && (!token.len || idle > MAX_IDLE || calls >= REWRITE_MAX_CALLS))
            st = err_set(err, SPT_E_IO, "gs://%s/%s: copying stopped half way", bucket, from);
        json_close(&j);
        gs_call_end(&k);
    }
    buf_release(&token);
    return st;
}

static spt_status remove_one(void *ctx, size_t i, spt_err *err)
{
    const struct tree *t = ctx;
    return gs_delete(t->bucket, t->names.name[t->deep + i], GS_ANY, err);
}

/* A manifest goes before what it speaks of, our mark behind it. */
spt_status gs_remove_below(const struct gs_name *n, spt_err *err)
{
    struct tree t;
    spt_status st = tree_list(n, &t, err);
    for (size_t i = 0; i < t.deep && !st; i++)
        st = gs_delete(n->bucket, t.names.name[i], GS_ANY, err);
    if (!st)
        st = gs_in_parallel(t.marks - t.deep, remove_one, &t, err);
    for (size_t i = t.marks; i < t.names.count && !st; i++)
        st = gs_delete(n->bucket, t.names.name[i], GS_ANY, err);
    fs_names_free(&t.names);
    return st;
}

spt_status gs_remove_tree(const char *path, spt_err *err)
{
    struct gs_name n;
    TRY(gs_name_of(path, &n, err));
    gs_memo_forget();
    spt_status st = n.object[0] ? gs_delete(n.bucket, n.object, GS_ANY, err)
                                : err_set(err, SPT_E_USAGE, "%s: a bucket is not removed", path);
    if (!st)
        st = gs_remove_below(&n, err);
    gs_memo_forget();
    gs_name_release(&n);
    return st;
}

struct copying {
    struct tree t;
    const struct gs_name *from, *to;
    const char *skip;
};

static spt_status copy_below(void *ctx, size_t i, spt_err *err)
{
    const struct copying *c = ctx;
    const char *name = c->t.names.name[i], *rest = name + c->t.prefix;
    buf to;
    if (!strcmp(rest, GS_MARK) || (c->skip && !strcmp(rest, c->skip)))
        return SPT_OK;
    buf_init(&to, MAX_PATH);
    buf_addf(&to, "%s/%s", c->to->object, rest);
    spt_status st = buf_status(&to, "path", err);
    if (!st)
        st = copy_one(c->from->bucket, name, c->to->bucket, buf_str(&to), err);
    buf_release(&to);
    return st;
}

static spt_status copy_deep(void *ctx, size_t i, spt_err *err)
{
    const struct copying *c = ctx;
    return copy_below(ctx, c->t.deep + i, err);
}

/* What is directly there comes last and backwards, so that a manifest (in the order of names:
 * MANIFEST, checkpoint) appears after what it speaks of. */
spt_status gs_copy_below(const struct gs_name *from, const struct gs_name *to, const char *skip,
                         size_t *copied, spt_err *err)
{
    struct copying c = {.from = from, .to = to, .skip = skip};
    spt_status st = tree_list(from, &c.t, err);
    if (!st)
        st = gs_in_parallel(c.t.marks - c.t.deep, copy_deep, &c, err);
    for (size_t i = c.t.deep; i > 0 && !st; i--)
        st = copy_below(&c, i - 1, err);
    *copied = st ? 0 : c.t.marks;
    fs_names_free(&c.t.names);
    return st;
}

spt_status gs_rename(const char *from, const char *to, spt_err *err)
{
    struct gs_name a, b = {0};
    struct gs_meta m;
    size_t copied = 0;
    TRY(gs_file_name(from, &a, err));
    spt_status st = gs_file_name(to, &b, err);
    gs_memo_forget();
    if (!st) {
        st = gs_get_meta(&a, &m, err);
        if (!st) {
            st = copy_one(a.bucket, a.object, b.bucket, b.object, err);
            if (!st)
                st = gs_delete(a.bucket, a.object, m.generation, err);
        } else if (st == SPT_E_NOTFOUND) {
            st = gs_copy_below(&a, &b, NULL, &copied, err);
            if (!st && !copied)
                st = err_set(err, SPT_E_NOTFOUND, "cannot rename %s: nothing is there", from);
            if (!st)
                st = gs_remove_below(&a, err);
        }
    }
    gs_memo_forget();
    gs_name_release(&a);
    gs_name_release(&b);
    return st;
}

