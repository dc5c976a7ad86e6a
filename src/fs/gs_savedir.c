/* Directories that appear with their manifest (savedir.h) in a bucket. Files go up several at a time;
 * the manifest goes when all of them have arrived. */
#include <pthread.h>
#include <string.h>

#include "base/log.h"
#include "fs/gs_internal.h"

enum {
    MAX_PATH = 65536,
    LARGE = 8 << 20,       /* sent by the caller's thread, without a copy */
    MOST_BYTES = 32 << 20, /* of copies */
};

struct gs_savedir {
    struct savedir base;
    struct gs_name at, final;
    char *manifest; /* NULL: none */
    bool staged;    /* under the temporary name: the final one was taken, or no manifest hides it */
    bool marked;
    bool has_manifest;
    buf content;    /* of the manifest */
    /* Files on their way up, and the threads that carry them; all below under the mutex. */
    pthread_mutex_t mutex;
    pthread_cond_t changed; /* a file was added, or one has arrived, or no more will come */
    struct carried *first, **last; /* waiting */
    size_t bytes;                  /* waiting and under way */
    uint64_t thread[GS_AT_A_TIME];
    size_t threads, idle, waiting; /* threads; of them without a file; files without a thread */
    bool closed;
    spt_status st;
    spt_err why;
};

/* A copy, because the caller's bytes are its own again when savedir_file returns. */
struct carried {
    struct carried *next;
    size_t size;
    char *name;
    unsigned char bytes[];
};

static void savedir_free(struct gs_savedir *d)
{
    gs_name_release(&d->at);
    gs_name_release(&d->final);
    buf_release(&d->content);
    mem_free(d->manifest);
    mem_free(d->base.path);
    mem_free(d->base.final);
    pthread_mutex_destroy(&d->mutex);
    pthread_cond_destroy(&d->changed);
    mem_free(d);
}

static spt_status put_below(const struct gs_name *dir, const char *name, const void *p, size_t n,
                            spt_err *err)
{
    struct gs_name whole = {.bucket = dir->bucket};
    struct gs_meta m;
    buf path;
    buf_init(&path, MAX_PATH);
    buf_addf(&path, "%s/%s", dir->object, name);
    spt_status st = buf_status(&path, "path", err);
    whole.object = path.data;
    if (!st)
        st = gs_put(&whole, p, n, GS_ANY, &m, err);
    buf_release(&path);
    return st;
}

/* --- several files at a time ---------------------------------------------------------------- */

static void *carry(void *arg)
{
    struct gs_savedir *d = arg;
    pthread_mutex_lock(&d->mutex);
    for (;;) {
        d->idle++;
        while (!d->first && !d->closed)
            pthread_cond_wait(&d->changed, &d->mutex);
        d->idle--;
        struct carried *f = d->first;
        if (!f)
            break;
        d->first = f->next;
        d->waiting--;
        if (!f->next)
            d->last = &d->first;
        spt_err why = {0};
        spt_status st = d->st; /* after a failure the rest is only put away */
        pthread_mutex_unlock(&d->mutex);
        if (!st)
            st = put_below(&d->at, f->name, f->bytes, f->size, &why);
        pthread_mutex_lock(&d->mutex);
        if (st && !d->st) {
            d->st = st;
            d->why = why;
        }
        d->bytes -= f->size;
        mem_free(f->name);
        mem_free(f);
        pthread_cond_broadcast(&d->changed);
    }
    pthread_mutex_unlock(&d->mutex);
    return NULL;
}

static spt_status failed_before(struct gs_savedir *d, spt_err *err)
{
    pthread_mutex_lock(&d->mutex);
    const spt_status st = d->st;
    if (st && err)
        *err = d->why;
    pthread_mutex_unlock(&d->mutex);
    return st;
}

static struct carried *copy_of(const char *name, const void *p, size_t n)
{
    struct carried *f = mem_alloc(1, sizeof *f + n);
    char *copy = f ? mem_strdup(name) : NULL;
    if (!copy) {
        mem_free(f);
        return NULL;
    }
    f->next = NULL;
    f->size = n;
    f->name = copy;
    if (n)
        memcpy(f->bytes, p, n);
    return f;
}

/* Hands a file to the threads; waits while too much is under way. */
static spt_status send(struct gs_savedir *d, const char *name, const void *p, size_t n,
                       spt_err *err)
{
    struct carried *f = copy_of(name, p, n);
    if (!f)
        return err_nomem(err, n);
    pthread_mutex_lock(&d->mutex);
    while (d->bytes && d->bytes > MOST_BYTES - n)
        pthread_cond_wait(&d->changed, &d->mutex);
    d->bytes += n;
    d->waiting++;
    *d->last = f;
    d->last = &f->next;
    if (d->waiting > d->idle && d->threads < GS_AT_A_TIME &&
        os_thread_start(&d->thread[d->threads], carry, d) >= 0)
        d->threads++;
    const bool alone = !d->threads;
    if (alone) { /* no thread is to be had */
        d->first = NULL;
        d->last = &d->first;
        d->waiting = 0;
        d->bytes -= n;
    }
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->mutex);
    if (!alone)
        return SPT_OK;
    const spt_status st = put_below(&d->at, name, p, n, err);
    mem_free(f->name);
    mem_free(f);
    return st;
}

/* All files have arrived, or one has failed. */
static spt_status arrive(struct gs_savedir *d, spt_err *err)
{
    pthread_mutex_lock(&d->mutex);
    d->closed = true;
    pthread_cond_broadcast(&d->changed);
    pthread_mutex_unlock(&d->mutex);
    while (d->threads)
        os_thread_join(d->thread[--d->threads]);
    return failed_before(d, err);
}

/* --- one directory -------------------------------------------------------------------------- */

static spt_status delete_below(const struct gs_name *dir, const char *name, spt_err *err)
{
    buf path;
    buf_init(&path, MAX_PATH);
    buf_addf(&path, "%s/%s", dir->object, name);
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = gs_delete(dir->bucket, buf_str(&path), GS_ANY, err);
    buf_release(&path);
    return st;
}

static spt_status one_more(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    (void)name, (void)meta, (void)err;
    ++*(size_t *)ctx;
    return SPT_OK;
}

static spt_status is_taken(const struct gs_name *dir, bool *yes, spt_err *err)
{
    size_t n = 0;
    buf prefix;
    buf_init(&prefix, MAX_PATH);
    buf_addf(&prefix, "%s/", dir->object);
    spt_status st = buf_status(&prefix, "path", err);
    if (!st)
        st = gs_list_all(dir->bucket, buf_str(&prefix), false, 1, one_more, &n, err);
    *yes = n > 0;
    buf_release(&prefix);
    return st;
}

static spt_status begin(struct gs_savedir *d, const char *tmp, const char *final,
                        const char *manifest, spt_err *err)
{
    TRY(gs_file_name(final, &d->final, err));
    TRY(is_taken(&d->final, &d->staged, err));
    d->staged |= !manifest; /* nothing would hide what is there early */
    TRY(gs_file_name(d->staged ? tmp : final, &d->at, err));
    d->base.path = mem_strdup(d->staged ? tmp : final);
    d->base.final = mem_strdup(final);
    d->manifest = manifest ? mem_strdup(manifest) : NULL;
    if (!d->base.path || !d->base.final || (manifest && !d->manifest))
        return err_nomem(err, strlen(final));
    if (d->staged)
        return SPT_OK;
    d->marked = true;
    return put_below(&d->final, GS_MARK, "", 0, err);
}

spt_status gs_savedir_begin(const char *tmp, const char *final, const char *manifest,
                            savedir **out, spt_err *err)
{
    struct gs_savedir *d = mem_zalloc(1, sizeof *d);
    if (!d)
        return err_nomem(err, sizeof *d);
    d->base.be = &fs_gs;
    d->last = &d->first;
    pthread_mutex_init(&d->mutex, NULL);
    pthread_cond_init(&d->changed, NULL);
    buf_init(&d->content, (size_t)1 << 30);
    gs_memo_forget();
    const spt_status st = begin(d, tmp, final, manifest, err);
    if (st) {
        savedir_free(d);
        return st;
    }
    *out = &d->base;
    return SPT_OK;
}

spt_status gs_savedir_mkdir(savedir *d, const char *name, spt_err *err)
{
    (void)d, (void)name, (void)err;
    return SPT_OK;
}

spt_status gs_savedir_file(savedir *base, const char *name, const void *p, size_t n, spt_err *err)
{
    struct gs_savedir *d = (struct gs_savedir *)base;
    TRY(failed_before(d, err));
    if (!d->manifest || strcmp(name, d->manifest))
        return n > LARGE ? put_below(&d->at, name, p, n, err) : send(d, name, p, n, err);
    d->has_manifest = true;
    buf_clear(&d->content);
    buf_add(&d->content, p, n);
    return buf_status(&d->content, name, err);
}

static spt_status publish(struct gs_savedir *d, spt_err *err)
{
    bool taken = false;
    size_t copied = 0;
    TRY(arrive(d, err));
    if (d->staged) {
        TRY(is_taken(&d->final, &taken, err));
        if (taken)
            return err_set(err, SPT_E_IO, "%s exists already", d->base.final);
        if (d->manifest) {
            d->marked = true;
            TRY(put_below(&d->final, GS_MARK, "", 0, err));
        }
        TRY(gs_copy_below(&d->at, &d->final, d->manifest, &copied, err));
    }
    if (d->manifest && !d->has_manifest)
        return err_set(err, SPT_E_INTERNAL, "%s: no %s was written", d->base.final, d->manifest);
    return d->manifest ? put_below(&d->final, d->manifest, d->content.data, d->content.len, err)
                       : SPT_OK;
}

spt_status gs_savedir_publish(savedir *base, spt_err *err)
{
    struct gs_savedir *d = (struct gs_savedir *)base;
    const spt_status st = publish(d, err);
    if (st) {
        if (d->staged && d->marked)
            gs_remove_below(&d->final, NULL);
        gs_savedir_abort(base);
        return st;
    }
    /* It is there. What is left to tidy up does no harm when it stays. */
    if (d->marked)
        delete_below(&d->final, GS_MARK, NULL);
    if (d->staged)
        gs_remove_below(&d->at, NULL);
    gs_memo_forget();
    savedir_free(d);
    return SPT_OK;
}

void gs_savedir_abort(savedir *base)
{
    struct gs_savedir *d = (struct gs_savedir *)base;
    pthread_mutex_lock(&d->mutex);
    d->st = d->st ? d->st : SPT_E_INTERRUPTED; /* what waits is not sent */
    pthread_mutex_unlock(&d->mutex);
    arrive(d, NULL);
    gs_remove_below(&d->at, NULL);
    gs_memo_forget();
    savedir_free(d);
}

/* One directory after another, as the listing brings them. */
struct sweep {
    const char *bucket, *manifest;
    size_t prefix; /* length of "<dir>/" */
    fs_names unfinished, finished; /* directories with a mark, those with a manifest */
};

static spt_status sweep_object(void *ctx, const char *name, const struct gs_meta *meta,
                               spt_err *err)
{
    (void)meta;
    struct sweep *s = ctx;
    const char *slash = strchr(name + s->prefix, '/');
    if (!slash)
        return SPT_OK;
    const size_t n = (size_t)(slash - name);
    if (!strcmp(slash + 1, GS_MARK))
        return fs_names_add(&s->unfinished, name, n, err);
    return strcmp(slash + 1, s->manifest) ? SPT_OK : fs_names_add(&s->finished, name, n, err);
}

spt_status gs_savedir_sweep(const char *dir, const char *prefix, const char *manifest, spt_err *err)
{
    struct gs_name n;
    struct sweep s = {.manifest = manifest};
    buf path;
    TRY(gs_name_of(dir, &n, err));
    buf_init(&path, MAX_PATH);
    buf_addf(&path, "%s%s", n.object, n.object[0] ? "/" : "");
    s.prefix = path.len;
    buf_adds(&path, prefix);
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = gs_list_all(n.bucket, buf_str(&path), false, 0, sweep_object, &s, err);
    for (size_t i = 0; i < s.unfinished.count && !st; i++) {
        bool finished = false;
        struct gs_name d = {n.bucket, s.unfinished.name[i]};
        for (size_t k = 0; k < s.finished.count; k++)
            finished |= !strcmp(s.finished.name[k], d.object);
        if (!finished)
            log_info("gs://%s/%s: removing a save that was not finished", d.bucket, d.object);
        st = finished ? delete_below(&d, GS_MARK, err) : gs_remove_below(&d, err);
    }
    if (s.unfinished.count)
        gs_memo_forget();
    fs_names_free(&s.unfinished);
    fs_names_free(&s.finished);
    buf_release(&path);
    gs_name_release(&n);
    return st;
}

