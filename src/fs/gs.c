/* gs://bucket/object over the JSON API of Google Cloud Storage: names and reading. */
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "codec/crc.h"
#include "fs/gs_internal.h"
#include "text/json.h"

enum {
    PAGE_BYTES = 64 << 20,
    MAX_NAME = 1024, /* as the service has it */
    MAX_MADE = 100000,
    MAX_SETS = 16,
    MEMO_SECONDS = 600,
    ABSENT_SECONDS = 15,
};
#define SECOND ((int64_t)1000000000)
#define FIELDS "name,generation,size,crc32c,updated"

const struct fs_backend fs_gs;

/* --- names ---------------------------------------------------------------------------------- */

/* "dir//file" is what joining "dir/" and "file" makes: as on disk, one slash is meant. */
static void single_slashes(char *s)
{
    char *to = s;
    for (; *s; s++)
        if (*s != '/' || s[1] != '/')
            *to++ = *s;
    *to = '\0';
}

spt_status gs_name_of(const char *path, struct gs_name *out, spt_err *err)
{
    const char *bucket = path + strlen("gs://");
    const size_t n = strcspn(bucket, "/");
    const char *object = bucket + n;
    while (*object == '/')
        object++;
    size_t len = strlen(object);
    while (len && object[len - 1] == '/')
        len--;
    if (!n || n > 222 || strspn(bucket, "abcdefghijklmnopqrstuvwxyz0123456789-_.") != n)
        return err_set(err, SPT_E_USAGE, "%s: not a bucket name: gs://bucket/path is what is meant",
                       path);
    if (len > 1024 || memchr(object, '\n', len) || memchr(object, '\r', len))
        return err_set(err, SPT_E_USAGE, "%s: not a name that an object can have", path);
    struct gs_name name = {mem_strndup(bucket, n), mem_strndup(object, len)};
    if (!name.bucket || !name.object) {
        gs_name_release(&name);
        return err_nomem(err, len);
    }
    single_slashes(name.object);
    *out = name;
    return SPT_OK;
}

void gs_name_release(struct gs_name *n)
{
    mem_free(n->bucket);
    mem_free(n->object);
    *n = (struct gs_name){0};
}

/* --- requests ------------------------------------------------------------------------------- */

spt_status gs_call_begin(struct gs_call *k, const char *before, const char *bucket,
                         const char *object, spt_err *err)
{
    *k = (struct gs_call){0};
    buf_init(&k->url, GS_MAX_URL);
    buf_init(&k->token, GS_MAX_URL);
    buf_init(&k->what, GS_MAX_URL);
    http_response_init(&k->r);
    buf_addf(&k->what, "gs://%s%s%s", bucket, object ? "/" : "", object ? object : "");
    TRY(buf_status(&k->what, "path", err));
    k->q.what = buf_str(&k->what);
    TRY(gs_endpoint(&k->url, err));
    buf_addf(&k->url, "%sb/%s/o", before, bucket);
    if (object) {
        buf_addc(&k->url, '/');
        http_add_escaped(&k->url, object, false);
    }
    TRY(buf_status(&k->url, "URL", err));
    return remote_client_take(&k->c, err);
}

spt_status gs_call_run(struct gs_call *k, spt_err *err)
{
    TRY(buf_status(&k->url, "URL", err));
    k->q.url = buf_str(&k->url);
    k->q.headers = k->header;
    for (k->q.header_count = 0; k->q.header_count < GS_MAX_HEADERS && k->header[k->q.header_count];)
        k->q.header_count++;
    for (int round = 0;; round++) {
        TRY(gs_auth_token(&k->token, err));
        k->q.bearer = k->token.len ? buf_str(&k->token) : NULL;
        TRY(http_run(k->c, &k->q, &k->r, err));
        if (k->r.status != 401 || !k->token.len || round)
            return SPT_OK;
        gs_auth_reject(buf_str(&k->token));
    }
}

void gs_call_end(struct gs_call *k)
{
    if (k->c)
        remote_client_give(k->c);
    http_response_release(&k->r);
    buf_release(&k->url);
    buf_release(&k->what);
    if (k->token.data)
        memset(k->token.data, 0, k->token.len);
    buf_release(&k->token);
}

static bool says(const struct http_response *r, const char *part)
{
    return r->body.data && strstr(r->body.data, part);
}

/* Emulators and proxies answer 404 without a word, so that the bucket may be what is missing: asked
 * for once, as far as who we are may ask. */
static bool bucket_is_missing(const char *bucket)
{
    static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
    static char there[8][256];
    static size_t next;
    bool known = false;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < sizeof there / sizeof *there; i++)
        known |= !strcmp(there[i], bucket);
    pthread_mutex_unlock(&mutex);
    if (known)
        return false;
    struct gs_call k;
    spt_status st = gs_call_begin(&k, "/storage/v1/", bucket, NULL, NULL);
    if (!st) {
        k.url.data[k.url.len -= strlen("/o")] = '\0'; /* the bucket itself */
        st = gs_call_run(&k, NULL);
    }
    const int status = st ? 0 : k.r.status;
    gs_call_end(&k);
    if (status == 200) {
        pthread_mutex_lock(&mutex);
        snprintf(there[next], sizeof *there, "%s", bucket);
        next = (next + 1) % (sizeof there / sizeof *there);
        pthread_mutex_unlock(&mutex);
    }
    return status == 404;
}

spt_status gs_refused(const struct http_request *q, const struct http_response *r,
                      const char *bucket, const char *object, const char *permission,
                      spt_err *err)
{
    char who[300], number[64];
    const bool below = object && object[0];
    gs_auth_identity(who, sizeof who);
    http_status_text(r->status, number, sizeof number);
    if (r->status == 404 && (says(r, "bucket does not exist") ||
                             (!says(r, "No such object") && bucket_is_missing(bucket))))
        return err_set(err, SPT_E_NOTFOUND, "there is no bucket gs://%s", bucket);
    if (r->status == 404)
        return err_set(err, SPT_E_NOTFOUND, "cannot find gs://%s/%s", bucket, below ? object : "");
    if (r->status == 401 && !strncmp(who, "nobody", 6))
        return err_set(err, SPT_E_CONFIG,
                       "gs://%s%s%s: the bucket is not public (%s is needed) and no credentials were "
                       "found: set GOOGLE_APPLICATION_CREDENTIALS, or run "
                       "\"gcloud auth application-default login\"",
                       bucket, below ? "/" : "", below ? object : "", permission);
    if (r->status == 401 || r->status == 403)
        return err_set(err, SPT_E_CONFIG,
                       "gs://%s%s%s: %s may not do this: the permission %s on the bucket %s is "
                       "needed (the server answered %s)",
                       bucket, below ? "/" : "", below ? object : "", who, permission, bucket,
                       number);
    return http_status_error(q, r, err);
}

/* --- what is known of an object ------------------------------------------------------------- */

/* "2026-01-02T03:04:05.678Z" as seconds since 1970; 0 when it is something else. */
static int64_t seconds_of(const char *text)
{
    int y, mo, d, h, mi, s;
    if (sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d", &y, &mo, &d, &h, &mi, &s) != 6 || mo < 1 || mo > 12)
        return 0;
    static const int before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    const int64_t years = y - 1970, last = y - (mo < 3);
    const int64_t leap = last / 4 - last / 100 + last / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
    return ((years * 365 + leap + before[mo - 1] + d - 1) * 24 + h) * 3600 + mi * 60 + s;
}

static spt_status number_text(json_reader *r, buf *text, uint64_t *out, spt_err *err)
{
    char *end;
    struct json_event ev;
    buf_clear(text);
    TRY(json_next(r, &ev, err));
    if (ev.kind == JSON_NUMBER)
        return json_to_u64(&ev, out, err);
    if (ev.kind != JSON_STRING)
        return json_error(r, ev.offset, err, "%s where a number should stand",
                          json_kind_name(ev.kind));
    json_add_text(&ev, text);
    TRY(buf_status(text, "a number", err));
    const char *s = buf_str(text);
    if (!*s || strspn(s, "0123456789") != text->len || text->len > 20)
        return err_set(err, SPT_E_FORMAT, "\"%.40s\" is no number", s);
    *out = strtoull(s, &end, 10); /* what is too large becomes UINT64_MAX */
    return SPT_OK;
}

spt_status gs_read_number(json_reader *r, uint64_t *out, spt_err *err)
{
    buf text;
    buf_init(&text, 64);
    const spt_status st = number_text(r, &text, out, err);
    buf_release(&text);
    return st;
}

/* Big endian, as the service writes it. */
static uint32_t crc_of(const unsigned char b[4])
{
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3];
}

/* One object resource; `name` may be NULL. */
static spt_status parse_item(json_reader *r, struct gs_meta *m, buf *name, spt_err *err)
{
    bool more, has_generation = false, has_size = false;
    struct json_event key;
    unsigned char crc[4];
    buf text;
    *m = (struct gs_meta){0};
    buf_init(&text, 1 << 16);
    spt_status st = json_enter_object(r, err);
    while (!st && !(st = json_next_key(r, &more, &key, err)) && more) {
        buf_clear(&text);
        if (json_is(&key, "generation")) {
            st = number_text(r, &text, &m->generation, err);
            has_generation = true;
        } else if (json_is(&key, "size")) {
            st = number_text(r, &text, &m->size, err);
            if (!st)
                st = remote_check_size(m->size, err);
            has_size = true;
        } else if (json_is(&key, "crc32c")) {
            st = json_read_text(r, &text, err);
            if (!st)
                st = buf_status(&text, "a checksum", err);
            m->has_crc = !st && gs_from_base64(buf_str(&text), text.len, crc, 4);
            m->crc = crc_of(crc);
        } else if (json_is(&key, "updated")) {
            st = json_read_text(r, &text, err);
            if (!st)
                st = buf_status(&text, "a time", err);
            m->updated = seconds_of(buf_str(&text));
        } else if (name && json_is(&key, "name")) {
            st = json_read_text(r, name, err);
        } else {
            st = json_skip(r, err);
        }
    }
    buf_release(&text);
    if (!st && (!has_generation || !has_size))
        st = err_set(err, SPT_E_FORMAT, "an object without generation or size");
    return st;
}

spt_status gs_parse_meta(const buf *body, struct gs_meta *out, spt_err *err)
{
    json_reader r;
    json_open(&r, body->data, body->len, 0);
    struct gs_meta m;
    spt_status st = parse_item(&r, &m, NULL, err);
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    if (st)
        return err_wrap(err, st, "the answer of the storage service");
    *out = m;
    return SPT_OK;
}

spt_status gs_get_meta(const struct gs_name *n, struct gs_meta *out, spt_err *err)
{
    struct gs_call k;
    spt_status st = gs_call_begin(&k, "/storage/v1/", n->bucket, n->object, err);
    buf_adds(&k.url, "?fields=" FIELDS);
    if (!st)
        st = gs_call_run(&k, err);
    if (!st)
        st = k.r.status == 200 ? gs_parse_meta(&k.r.body, out, err)
                               : gs_refused(&k.q, &k.r, n->bucket, n->object, "storage.objects.get",
                                            err);
    gs_call_end(&k);
    return st;
}

/* --- listings ------------------------------------------------------------------------------- */

struct page {
    const char *bucket, *prefix;
    bool delimiter;
    buf token, name;
    size_t seen, at_most, bytes;
    gs_list_fn fn;
    void *ctx;
};

/* Everybody cuts the prefix off, and some remove what a listing names: no name that was not asked for
 * gets through. */
static spt_status take_name(struct page *p, const struct gs_meta *meta, spt_err *err)
{
    TRY(buf_status(&p->name, "name", err));
    const char *name = buf_str(&p->name);
    const size_t n = strlen(p->prefix), len = p->name.len;
    const char *rest = len >= n ? name + n : name;
    const char *slash = p->delimiter ? strchr(rest, '/') : NULL;
    if (len < n || memcmp(name, p->prefix, n) || strlen(name) != len || !len || len > MAX_NAME ||
        (slash && meta) || (!meta && (!slash || slash[1])))
        return err_set(err, SPT_E_IO, "\"%.200s\" is nothing that lies below \"%.200s\"", name,
                       p->prefix);
    p->bytes += len;
    if (++p->seen > LISTING_MAX_NAMES || p->bytes > LISTING_MAX_BYTES)
        return err_set(err, SPT_E_IO, "more than %d names, or %zu MB of them", LISTING_MAX_NAMES,
                       LISTING_MAX_BYTES >> 20);
    return p->fn(p->ctx, name, meta, err);
}

static spt_status read_items(json_reader *r, struct page *p, spt_err *err)
{
    bool more;
    struct json_event item;
    TRY(json_enter_array(r, err));
    /* json_next_item gives the first event of an element: an element is read as a whole then. */
    for (;;) {
        TRY(json_next_item(r, &more, &item, err));
        if (!more)
            return SPT_OK;
        if (item.kind != JSON_OBJECT)
            return json_error(r, item.offset, err, "an object is expected");
        /* Text of the element, read by a reader of its own. */
        const size_t from = item.offset;
        TRY(json_skip_rest(r, &item, err));
        json_reader one;
        struct gs_meta m;
        json_open(&one, r->text + from, r->pos - from, 0);
        buf_clear(&p->name);
        spt_status st = parse_item(&one, &m, &p->name, err);
        json_close(&one);
        if (!st)
            st = take_name(p, &m, err);
        TRY(st);
    }
}

static spt_status read_prefixes(json_reader *r, struct page *p, spt_err *err)
{
    bool more;
    struct json_event item;
    TRY(json_enter_array(r, err));
    for (;;) {
        TRY(json_next_item(r, &more, &item, err));
        if (!more)
            return SPT_OK;
        if (item.kind != JSON_STRING)
            return json_error(r, item.offset, err, "a string is expected");
        buf_clear(&p->name);
        json_add_text(&item, &p->name);
        TRY(take_name(p, NULL, err));
    }
}

static spt_status read_page(const buf *body, struct page *p, spt_err *err)
{
    json_reader r;
    bool more;
    struct json_event key;
    buf_clear(&p->token);
    json_open(&r, body->data, body->len, 0);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more) {
        if (json_is(&key, "items"))
            st = read_items(&r, p, err);
        else if (json_is(&key, "prefixes"))
            st = read_prefixes(&r, p, err);
        else if (json_is(&key, "nextPageToken"))
            st = json_read_text(&r, &p->token, err);
        else
            st = json_skip(&r, err);
    }
    if (!st)
        st = buf_status(&p->token, "nextPageToken", err);
    if (!st)
        st = json_finish(&r, err);
    json_close(&r);
    return st ? err_wrap(err, st, "the storage service's listing of gs://%s/%s", p->bucket,
                         p->prefix)
              : SPT_OK;
}

static spt_status get_page(struct page *p, spt_err *err)
{
    struct gs_call k;
    spt_status st = gs_call_begin(&k, "/storage/v1/", p->bucket, NULL, err);
    buf_addf(&k.url, "?maxResults=%zu&fields=nextPageToken,prefixes,items(" FIELDS ")&prefix=",
             p->at_most && p->at_most < 1000 ? p->at_most : 1000);
    http_add_escaped(&k.url, p->prefix, false);
    if (p->delimiter)
        buf_adds(&k.url, "&delimiter=%2F");
    if (p->token.len) {
        buf_adds(&k.url, "&pageToken=");
        http_add_escaped(&k.url, buf_str(&p->token), false);
    }
    k.q.max_body = PAGE_BYTES;
    if (!st)
        st = gs_call_run(&k, err);
    if (!st && k.r.status == 404) /* a listing of nothing is empty */
        st = err_set(err, SPT_E_NOTFOUND, "there is no bucket gs://%s", p->bucket);
    else if (!st)
        st = k.r.status == 200
                 ? read_page(&k.r.body, p, err)
                 : gs_refused(&k.q, &k.r, p->bucket, p->prefix, "storage.objects.list", err);
    gs_call_end(&k);
    return st;
}

spt_status gs_list_all(const char *bucket, const char *prefix, bool delimiter, size_t at_most,
                       gs_list_fn fn, void *ctx, spt_err *err)
{
    struct page p = {.bucket = bucket, .prefix = prefix, .delimiter = delimiter,
                     .at_most = at_most, .fn = fn, .ctx = ctx};
    buf before;
    size_t empty = 0;
    buf_init(&before, 1 << 16);
    buf_init(&p.token, 1 << 16);
    buf_init(&p.name, 1 << 16);
    spt_status st = get_page(&p, err);
    while (!st && p.token.len && (!at_most || p.seen < at_most)) {
        const size_t seen = p.seen;
        buf_clear(&before);
        buf_adds(&before, buf_str(&p.token));
        st = buf_status(&before, "name of a page", err);
        if (!st)
            st = get_page(&p, err);
        empty = p.seen > seen ? 0 : empty + 1;
        if (!st && (!strcmp(buf_str(&before), buf_str(&p.token)) || empty > LISTING_MAX_EMPTY))
            st = err_set(err, SPT_E_IO,
                         "the storage service's listing of gs://%s/%s comes to no end", bucket,
                         prefix);
    }
    buf_release(&before);
    buf_release(&p.token);
    buf_release(&p.name);
    return st;
}

/* --- memory of this process: listings, directories made ------------------------------------- */

struct memo_set {
    char *bucket, *prefix; /* everything below it was listed */
    int64_t until, absent_until; /* os_monotonic_ns */
    struct memo_item {
        char *name;
        struct gs_meta meta;
    } *item;
    size_t count, cap;
};
static struct memo_set sets[MAX_SETS];
static size_t set_count;
static fs_names made;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;

static void set_free(struct memo_set *s)
{
    for (size_t i = 0; i < s->count; i++)
        mem_free(s->item[i].name);
    mem_free(s->item);
    mem_free(s->bucket);
    mem_free(s->prefix);
    *s = (struct memo_set){0};
}

void gs_memo_forget(void)
{
    pthread_mutex_lock(&mutex);
    while (set_count)
        set_free(&sets[--set_count]);
    pthread_mutex_unlock(&mutex);
}

void gs_release(void)
{
    gs_memo_forget();
    pthread_mutex_lock(&mutex);
    fs_names_free(&made);
    pthread_mutex_unlock(&mutex);
    gs_auth_release();
}

static int item_by_name(const void *a, const void *b)
{
    const struct memo_item *x = a, *y = b;
    return strcmp(x->name, y->name);
}

/* Absence is believed for a short time only: what is there cannot change (its generation is asked for),
 * what is not there can come. */
enum known { NOT_LISTED, LISTED, LISTED_ABSENT };

static enum known memo_find(const struct gs_name *n, struct gs_meta *out)
{
    enum known known = NOT_LISTED;
    const int64_t now = os_monotonic_ns();
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < set_count && known != LISTED; i++) {
        const struct memo_set *s = &sets[i];
        if (strcmp(s->bucket, n->bucket) || now > s->until ||
            strncmp(n->object, s->prefix, strlen(s->prefix)))
            continue;
        const struct memo_item wanted = {.name = n->object};
        const struct memo_item *m =
            s->count ? bsearch(&wanted, s->item, s->count, sizeof *s->item, item_by_name) : NULL;
        if (m)
            *out = m->meta;
        if (m || now < s->absent_until)
            known = m ? LISTED : LISTED_ABSENT;
    }
    pthread_mutex_unlock(&mutex);
    return known;
}

static spt_status memo_add(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    struct memo_set *s = ctx;
    TRY(mem_grow(&s->item, &s->cap, s->count + 1, sizeof *s->item, 1 << 22, err));
    char *copy = mem_strdup(name);
    if (!copy)
        return err_nomem(err, strlen(name));
    s->item[s->count++] = (struct memo_item){copy, *meta};
    return SPT_OK;
}

static spt_status gs_expect_below(const char *dir, spt_err *err)
{
    struct gs_name n;
    struct memo_set s = {0};
    buf prefix;
    TRY(gs_name_of(dir, &n, err));
    buf_init(&prefix, GS_MAX_URL);
    buf_addf(&prefix, "%s%s", n.object, n.object[0] ? "/" : "");
    spt_status st = buf_status(&prefix, "path", err);
    if (!st)
        st = gs_list_all(n.bucket, buf_str(&prefix), false, 0, memo_add, &s, err);
    if (!st && !(s.prefix = mem_strdup(buf_str(&prefix))))
        st = err_nomem(err, prefix.len);
    s.bucket = n.bucket;
    n.bucket = NULL;
    buf_release(&prefix);
    gs_name_release(&n);
    if (st) {
        set_free(&s);
        return st;
    }
    if (s.count)
        qsort(s.item, s.count, sizeof *s.item, item_by_name);
    s.until = os_monotonic_ns() + MEMO_SECONDS * SECOND;
    s.absent_until = os_monotonic_ns() + ABSENT_SECONDS * SECOND;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; i < set_count; i++)
        if (!strcmp(sets[i].bucket, s.bucket) && !strcmp(sets[i].prefix, s.prefix)) {
            set_free(&sets[i]);
            sets[i] = sets[--set_count];
            sets[set_count] = (struct memo_set){0};
        }
    if (set_count == MAX_SETS) {
        set_free(&sets[0]);
        memmove(sets, sets + 1, (MAX_SETS - 1) * sizeof *sets);
        set_count--;
    }
    sets[set_count++] = s;
    pthread_mutex_unlock(&mutex);
    return SPT_OK;
}

/* "bucket/object" */
static spt_status plain_name(const char *path, buf *out, spt_err *err)
{
    struct gs_name n;
    buf_init(out, GS_MAX_URL);
    TRY(gs_name_of(path, &n, err));
    buf_addf(out, "%s/%s", n.bucket, n.object);
    gs_name_release(&n);
    return buf_status(out, "path", err);
}

spt_status gs_made_add(const char *path, spt_err *err)
{
    buf name;
    spt_status st = plain_name(path, &name, err);
    bool there = false;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; !st && i < made.count && !there; i++)
        there = !strcmp(made.name[i], buf_str(&name));
    if (!st && !there && made.count < MAX_MADE)
        st = fs_names_add(&made, buf_str(&name), name.len, err);
    pthread_mutex_unlock(&mutex);
    buf_release(&name);
    return st;
}

/* Was it made, or something below it? */
static bool made_has(const char *path)
{
    buf name;
    bool yes = false;
    const spt_status st = plain_name(path, &name, NULL);
    const size_t n = name.len;
    pthread_mutex_lock(&mutex);
    for (size_t i = 0; !st && i < made.count && !yes; i++)
        yes = !strncmp(made.name[i], buf_str(&name), n) &&
              (!made.name[i][n] || made.name[i][n] == '/');
    pthread_mutex_unlock(&mutex);
    buf_release(&name);
    return yes;
}

/* --- looking -------------------------------------------------------------------------------- */

static spt_status count_one(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    (void)name, (void)meta, (void)err;
    ++*(size_t *)ctx;
    return SPT_OK;
}

static spt_status has_below(const struct gs_name *n, bool *yes, spt_err *err)
{
    size_t count = 0;
    buf prefix;
    buf_init(&prefix, GS_MAX_URL);
    buf_addf(&prefix, "%s%s", n->object, n->object[0] ? "/" : "");
    spt_status st = buf_status(&prefix, "path", err);
    if (!st)
        st = gs_list_all(n->bucket, buf_str(&prefix), false, 1, count_one, &count, err);
    *yes = count > 0 || !n->object[0]; /* a bucket that answers is there */
    buf_release(&prefix);
    return st;
}

/* An identity for caches of what was computed from a file: the generation, and the name. */
static void fill_info(const struct gs_name *n, const struct gs_meta *m, struct fs_info *out)
{
    *out = (struct fs_info){
        .size = m->size,
        .inode = m->generation,
        .device = (uint64_t)crc32c(n->object, strlen(n->object)) << 32 |
                  crc32c(n->bucket, strlen(n->bucket)),
        .mtime_ns = m->updated * SECOND,
        .is_file = true,
    };
}

static spt_status find_meta(const struct gs_name *n, struct gs_meta *m, spt_err *err)
{
    const enum known known = memo_find(n, m);
    if (known == LISTED_ABSENT)
        return err_set(err, SPT_E_NOTFOUND, "cannot find gs://%s/%s", n->bucket, n->object);
    return known == LISTED ? SPT_OK : gs_get_meta(n, m, err);
}

static spt_status gs_stat(const char *path, struct fs_info *out, spt_err *err)
{
    struct gs_name n;
    struct gs_meta m;
    bool below = false;
    spt_err why = {0};
    TRY(gs_name_of(path, &n, err));
    spt_status st = n.object[0] ? find_meta(&n, &m, &why) : SPT_E_NOTFOUND;
    if (!st) {
        fill_info(&n, &m, out);
    } else if (st == SPT_E_NOTFOUND) {
        const spt_status listed = made_has(path) ? SPT_OK : has_below(&n, &below, &why);
        if (!listed && (below || made_has(path))) {
            *out = (struct fs_info){.is_dir = true};
            st = SPT_OK;
        } else if (listed) {
            st = listed;
        }
    }
    gs_name_release(&n);
    if (st && err) {
        *err = why;
        if (!why.msg[0])
            err_set(err, st, "cannot find %s", path);
    }
    return st;
}

struct names {
    fs_names *out;
    size_t prefix;
};

static spt_status add_name(void *ctx, const char *name, const struct gs_meta *meta, spt_err *err)
{
    struct names *n = ctx;
    size_t len = strlen(name);
    if (len < n->prefix)
        return SPT_OK;
    len -= n->prefix;
    name += n->prefix;
    if (!meta && len && name[len - 1] == '/')
        len--;
    return len ? fs_names_add(n->out, name, len, err) : SPT_OK; /* "dir/" itself may be an object */
}

/* Who lists wants to know what is there now. */
static void memo_forget_above(const char *bucket, const char *prefix)
{
    pthread_mutex_lock(&mutex);
    for (size_t i = set_count; i > 0; i--) {
        struct memo_set *s = &sets[i - 1];
        const size_t a = strlen(s->prefix), b = strlen(prefix);
        if (strcmp(s->bucket, bucket) || strncmp(s->prefix, prefix, a < b ? a : b))
            continue;
        set_free(s);
        *s = sets[--set_count];
        sets[set_count] = (struct memo_set){0};
    }
    pthread_mutex_unlock(&mutex);
}

static spt_status gs_list(const char *dir, fs_names *out, spt_err *err)
{
    struct gs_name n;
    buf prefix;
    TRY(gs_name_of(dir, &n, err));
    buf_init(&prefix, GS_MAX_URL);
    buf_addf(&prefix, "%s%s", n.object, n.object[0] ? "/" : "");
    struct names names = {out, prefix.len};
    spt_status st = buf_status(&prefix, "path", err);
    memo_forget_above(n.bucket, buf_str(&prefix));
    if (!st)
        st = gs_list_all(n.bucket, buf_str(&prefix), true, 0, add_name, &names, err);
    if (!st && !out->count && n.object[0] && !made_has(dir))
        st = err_set(err, SPT_E_NOTFOUND, "cannot list %s: nothing is there", dir);
    buf_release(&prefix);
    gs_name_release(&n);
    return st;
}

/* --- reading -------------------------------------------------------------------------------- */

struct gs_source {
    struct remote_source base;
    struct gs_name n;
    uint64_t generation;
    buf url, token;
    bool stale; /* the token is not accepted any more */
};

static spt_status source_ask(struct remote_source *base, struct http_request *q, spt_err *err)
{
    static const char *const headers[] = {"Accept-Encoding: gzip"}; /* as stored, not unpacked */
    struct gs_source *s = (struct gs_source *)base;
    if (s->stale || !s->token.data)
        TRY(gs_auth_token(&s->token, err));
    s->stale = false;
    q->url = buf_str(&s->url);
    q->headers = headers;
    q->header_count = 1;
    q->bearer = s->token.len ? buf_str(&s->token) : NULL;
    return SPT_OK;
}

static spt_status overwritten(const char *name, spt_err *err)
{
    return err_set(err, SPT_E_IO,
                   "%s was overwritten or deleted while it was read (its generation is gone); start "
                   "again to read what is there now",
                   name);
}

static spt_status source_judge(struct remote_source *base, const struct http_request *q,
                               const struct http_response *r, bool *again, spt_err *err)
{
    struct gs_source *s = (struct gs_source *)base;
    if (r->status == 200 || r->status == 206)
        return SPT_OK;
    if (r->status == 401 && s->token.len) {
        if (!s->stale)
            gs_auth_reject(buf_str(&s->token));
        s->stale = *again = true;
        return SPT_OK;
    }
    if (r->status == 412 || r->status == 404 || r->status == 416)
        return overwritten(base->name, err);
    return gs_refused(q, r, s->n.bucket, s->n.object, "storage.objects.get", err);
}

static void source_free(struct remote_source *base)
{
    struct gs_source *s = (struct gs_source *)base;
    mem_free(base->name);
    mem_free(base->key);
    gs_name_release(&s->n);
    buf_release(&s->url);
    if (s->token.data)
        memset(s->token.data, 0, s->token.len);
    buf_release(&s->token);
    mem_free(s);
}

/* Takes the name over. */
static spt_status source_new(const char *path, struct gs_name *n, const struct gs_meta *m,
                             struct remote_source **out, spt_err *err)
{
    struct gs_source *s = mem_zalloc(1, sizeof *s);
    if (!s) {
        gs_name_release(n);
        return err_nomem(err, sizeof *s);
    }
    s->n = *n;
    buf key;
    s->generation = m->generation;
    s->base = (struct remote_source){.size = m->size, .has_crc = m->has_crc, .crc = m->crc,
                                     .ask = source_ask, .judge = source_judge,
                                     .release = source_free};
    buf_init(&s->url, GS_MAX_URL);
    buf_init(&s->token, GS_MAX_URL);
    buf_init(&key, GS_MAX_URL);
    spt_status st = gs_endpoint(&key, err); /* another emulator has other objects */
    if (!st) {
        buf_addf(&key, " %s/%s#%llu", n->bucket, n->object, (unsigned long long)m->generation);
        st = buf_status(&key, "path", err);
    }
    if (!st)
        st = gs_endpoint(&s->url, err);
    buf_addf(&s->url, "/storage/v1/b/%s/o/", n->bucket);
    http_add_escaped(&s->url, n->object, false);
    buf_addf(&s->url, "?alt=media&ifGenerationMatch=%llu", (unsigned long long)m->generation);
    if (!st)
        st = buf_status(&s->url, "URL", err);
    s->base.name = mem_strdup(path);
    s->base.key = mem_strdup(buf_str(&key));
    if (!st && (!s->base.name || !s->base.key))
        st = err_nomem(err, key.len);
    buf_release(&key);
    if (st)
        source_free(&s->base);
    else
        *out = &s->base;
    return st;
}

static spt_status open_remote(const char *path, remote **out, uint64_t *size, spt_err *err)
{
    struct gs_name n;
    struct gs_meta m;
    struct remote_source *s = NULL;
    TRY(gs_name_of(path, &n, err));
    const spt_status st = n.object[0] ? find_meta(&n, &m, err)
                                      : err_set(err, SPT_E_IO, "%s is a bucket, not a file", path);
    if (st) {
        gs_name_release(&n);
        struct fs_info info;
        if (st == SPT_E_NOTFOUND && !gs_stat(path, &info, NULL) && info.is_dir)
            return err_set(err, SPT_E_IO, "%s is a directory, not a file", path);
        return st;
    }
    TRY(source_new(path, &n, &m, &s, err));
    *size = m.size;
    return remote_open(s, out, err);
}

static spt_status gs_open(const char *path, struct fs_object *out, spt_err *err)
{
    remote *r;
    uint64_t size;
    TRY(open_remote(path, &r, &size, err));
    *out = (struct fs_object){remote_fd(r), size, true, r};
    return SPT_OK;
}

static spt_status gs_expect(const char *const *path, size_t count, spt_err *err)
{
    enum { AT_A_TIME = 64 };
    remote *r[AT_A_TIME];
    uint64_t size;
    spt_status st = SPT_OK;
    for (size_t at = 0; at < count && !st;) {
        size_t n = 0;
        for (; at < count && n < AT_A_TIME && !st; at++) {
            st = open_remote(path[at], &r[n], &size, err);
            n += !st;
            st = st == SPT_E_NOTFOUND ? SPT_OK : st; /* who reads it will say */
        }
        if (!st)
            st = remote_need_all(r, n, err);
        while (n)
            remote_close(r[--n]);
    }
    return st;
}

static spt_status read_expected(const char *path, size_t max, char **data, size_t *size,
                                spt_err *err)
{
    struct fs_object o;
    TRY(gs_open(path, &o, err));
    const spt_status st = object_read_all(&o, path, max, data, err);
    remote_close(o.remote);
    if (!st)
        *size = (size_t)o.size;
    return st;
}

/* Small files that change, in one request and past the cache. */
static spt_status gs_read_all(const char *path, size_t max, char **data, size_t *size, spt_err *err)
{
    struct gs_name n;
    struct gs_call k;
    struct gs_meta known;
    char hash[64];
    unsigned char crc[4];
    TRY(gs_name_of(path, &n, err));
    if (memo_find(&n, &known) != NOT_LISTED) { /* it may be in the cache, expected */
        gs_name_release(&n);
        return read_expected(path, max, data, size, err);
    }
    spt_status st = gs_call_begin(&k, "/storage/v1/", n.bucket, n.object, err);
    buf_adds(&k.url, "?alt=media");
    k.header[0] = "Accept-Encoding: gzip";
    k.q.what = path;
    k.q.max_body = max ? max : 1;
    k.q.progress = remote_goes_on;
    for (int round = 0; !st; round++) {
        st = gs_call_run(&k, err);
        if (st == SPT_E_FORMAT)
            st = err_set(err, st, "%s has more than the limit of %zu bytes", path, max);
        if (!st && k.r.status != 200)
            st = gs_refused(&k.q, &k.r, n.bucket, n.object, "storage.objects.get", err);
        if (st || !http_header(&k.r, "X-Goog-Hash", hash, sizeof hash))
            break;
        const char *sum = strstr(hash, "crc32c=");
        if (!sum || !gs_from_base64(sum + 7, strcspn(sum + 7, ","), crc, 4))
            break;
        const uint32_t want = crc_of(crc);
        if (crc32c(k.r.body.data, k.r.body.len) == want)
            break;
        if (round == 2)
            st = err_set(err, SPT_E_IO, "%s: its content has the CRC-32C %08x, the store says %08x",
                         path, crc32c(k.r.body.data, k.r.body.len), want);
    }
    if (!st && k.r.body.len > max)
        st = err_set(err, SPT_E_FORMAT, "%s has more than the limit of %zu bytes", path, max);
    if (!st) {
        const size_t len = k.r.body.len;
        char *p = buf_detach(&k.r.body);
        if (!p)
            p = mem_zalloc(1, 1);
        if (!p)
            st = err_nomem(err, 1);
        else
            *data = p, *size = len;
    }
    gs_call_end(&k);
    gs_name_release(&n);
    return st;
}

const struct fs_backend fs_gs = {
    .scheme = "gs",
    .stat = gs_stat,
    .open_object = gs_open,
    .read_all = gs_read_all,
    .expect = gs_expect,
    .expect_below = gs_expect_below,
    .list = gs_list,
    .make_dirs = gs_make_dirs,
    .remove_tree = gs_remove_tree,
    .move = gs_rename,
    .sync_dir = gs_sync_dir,
    .create = gs_create,
    .append = gs_write,
    .commit = gs_commit,
    .discard = gs_discard,
    .write_all = gs_write_all,
    .log_open = gs_log_open,
    .log_append = gs_log_append,
    .log_sync = gs_log_sync,
    .log_close = gs_log_close,
    .lock_take = gs_lock_take,
    .lock_check = gs_lock_check,
    .lock_release = gs_lock_release,
    .savedir_begin = gs_savedir_begin,
    .savedir_mkdir = gs_savedir_mkdir,
    .savedir_file = gs_savedir_file,
    .savedir_publish = gs_savedir_publish,
    .savedir_abort = gs_savedir_abort,
    .savedir_sweep = gs_savedir_sweep,
};
