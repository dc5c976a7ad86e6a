/* Uploads to Google Cloud Storage: small objects in one request, with their CRC-32C for the server to
 * check; larger ones by the resumable protocol, whose object appears with its last byte, all at once.
 * Preconditions on the generation make a repeated request harmless: when the answer to the first one
 * was lost, the second is refused, and what is there now has our content. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "codec/crc.h"
#include "fs/gs_internal.h"
#include "text/json.h"

enum { TRIES = 6, MAX_PATH = 65536 };

/* "AAAAAA==" of a CRC, big endian. */
static void add_crc(buf *out, uint32_t crc)
{
    const unsigned char b[4] = {(unsigned char)(crc >> 24), (unsigned char)(crc >> 16),
                                (unsigned char)(crc >> 8), (unsigned char)crc};
    gs_add_base64(out, b, sizeof b, false);
}

static void add_precondition(buf *url, uint64_t generation)
{
    if (generation != GS_ANY)
        buf_addf(url, "&ifGenerationMatch=%llu", (unsigned long long)generation);
}

/* {"name": ..., "crc32c": ...} */
static void add_resource(buf *out, const char *object, bool has_crc, uint32_t crc)
{
    buf text;
    json_writer w;
    buf_init(&text, 64);
    add_crc(&text, crc);
    json_write_init(&w, out, 0);
    json_begin_object(&w);
    json_key(&w, "name");
    json_string(&w, object);
    if (has_crc) {
        json_key(&w, "crc32c");
        json_string(&w, buf_str(&text));
    }
    json_end_object(&w);
    buf_release(&text);
}

/* The precondition did not hold: is what is there ours, from a request whose answer was lost? */
static spt_status maybe_ours(const struct gs_name *n, uint64_t size, uint32_t crc,
                             struct gs_meta *out, spt_err *err)
{
    struct gs_meta m;
    const spt_status st = gs_get_meta(n, &m, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    if (st || m.size != size || !m.has_crc || m.crc != crc)
        return err_set(err, SPT_E_IO, "gs://%s/%s was changed by another writer meanwhile",
                       n->bucket, n->object);
    *out = m;
    return SPT_OK;
}

/* The answer of an upload that ended. */
static spt_status take_result(struct gs_call *k, const struct gs_name *n, uint64_t size,
                              uint32_t crc, struct gs_meta *out, bool *damaged, spt_err *err)
{
    *damaged = false;
    if (k->r.status == 412)
        return maybe_ours(n, size, crc, out, err);
    if (k->r.status == 400 && k->r.body.data && strstr(k->r.body.data, "CRC32C")) {
        *damaged = true;
        return err_set(err, SPT_E_IO, "gs://%s/%s: the upload arrived damaged", n->bucket,
                       n->object);
    }
    if (k->r.status / 100 != 2)
        return gs_refused(&k->q, &k->r, n->bucket, n->object, "storage.objects.create", err);
    TRY(gs_parse_meta(&k->r.body, out, err));
    if (out->size != size || (out->has_crc && out->crc != crc)) {
        *damaged = true;
        return err_set(err, SPT_E_IO, "gs://%s/%s: the store holds other bytes than were sent",
                       n->bucket, n->object);
    }
    return SPT_OK;
}

static void set_what(struct gs_call *k, const struct gs_name *n)
{
    buf_clear(&k->what);
    buf_addf(&k->what, "gs://%s/%s", n->bucket, n->object);
    k->q.what = buf_str(&k->what);
}

static spt_status put_once(const struct gs_name *n, const void *p, size_t size, uint32_t crc,
                           uint64_t generation, struct gs_meta *out, bool *damaged, spt_err *err)
{
    struct gs_call k;
    buf body;
    char mark[40], type[100];
    uint64_t salt[2] = {0};
    *damaged = false;
    os_random(salt, sizeof salt);
    snprintf(mark, sizeof mark, "%016llx%016llx", (unsigned long long)salt[0],
             (unsigned long long)salt[1]);
    snprintf(type, sizeof type, "Content-Type: multipart/related; boundary=%s", mark);
    buf_init(&body, GS_PIECE + MAX_PATH);
    buf_addf(&body, "--%s\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n", mark);
    add_resource(&body, n->object, true, crc);
    buf_addf(&body, "\r\n--%s\r\nContent-Type: application/octet-stream\r\n\r\n", mark);
    buf_add(&body, p, size);
    buf_addf(&body, "\r\n--%s--\r\n", mark);
    spt_status st = gs_call_begin(&k, "/upload/storage/v1/", n->bucket, NULL, err);
    buf_adds(&k.url, "?uploadType=multipart&fields=name,generation,size,crc32c,updated");
    add_precondition(&k.url, generation);
    k.header[0] = type;
    k.q.method = "POST";
    set_what(&k, n);
    k.q.body = body.data;
    k.q.body_size = body.len;
    if (!st)
        st = buf_status(&body, "upload", err);
    if (!st)
        st = gs_call_run(&k, err);
    if (!st)
        st = take_result(&k, n, size, crc, out, damaged, err);
    gs_call_end(&k);
    buf_release(&body);
    return st;
}

static spt_status put_small(const struct gs_name *n, const void *p, size_t size,
                            uint64_t generation, struct gs_meta *out, spt_err *err)
{
    const uint32_t crc = crc32c(p, size);
    bool damaged;
    for (int i = 0;; i++) {
        const spt_status st = put_once(n, p, size, crc, generation, out, &damaged, err);
        if (!st || !damaged || i == 2)
            return st;
        log_info("gs://%s/%s: the upload arrived damaged; sending it again", n->bucket, n->object);
    }
}

/* --- resumable ------------------------------------------------------------------------------ */

/* The session's address without its host: an emulator behind a proxy may name another one. */
static spt_status take_session(struct gs_upload *u, const struct gs_call *k, spt_err *err)
{
    char location[8192];
    if (!http_header(&k->r, "Location", location, sizeof location))
        return err_set(err, SPT_E_IO, "gs://%s/%s: the store began no upload", u->name->bucket,
                       u->name->object);
    const char *p = strstr(location, "://");
    p = p ? strchr(p + 3, '/') : location;
    if (!p)
        p = "/";
    buf_clear(&u->session);
    buf_adds(&u->session, p);
    return buf_status(&u->session, "address of the upload", err);
}

static spt_status begin_session(struct gs_upload *u, bool has_crc, uint32_t crc, spt_err *err)
{
    struct gs_call k;
    buf body;
    buf_init(&body, MAX_PATH);
    buf_init(&u->session, MAX_PATH);
    add_resource(&body, u->name->object, has_crc, crc);
    spt_status st = gs_call_begin(&k, "/upload/storage/v1/", u->name->bucket, NULL, err);
    buf_adds(&k.url, "?uploadType=resumable&fields=name,generation,size,crc32c,updated&name=");
    http_add_escaped(&k.url, u->name->object, false);
    add_precondition(&k.url, u->generation);
    k.header[0] = "Content-Type: application/json; charset=UTF-8";
    k.q.method = "POST";
    set_what(&k, u->name);
    k.q.body = buf_str(&body);
    k.q.body_size = body.len;
    k.q.follow = HTTP_NO_FOLLOW;
    if (!st)
        st = buf_status(&body, "upload", err);
    if (!st)
        st = gs_call_run(&k, err);
    if (!st && k.r.status == 412)
        st = err_set(err, SPT_E_IO, "gs://%s/%s was changed by another writer meanwhile",
                     u->name->bucket, u->name->object);
    if (!st && k.r.status / 100 != 2)
        st = gs_refused(&k.q, &k.r, u->name->bucket, u->name->object, "storage.objects.create", err);
    if (!st)
        st = take_session(u, &k, err);
    gs_call_end(&k);
    buf_release(&body);
    return st;
}

static spt_status session_call(struct gs_call *k, const struct gs_upload *u, spt_err *err)
{
    TRY(gs_call_begin(k, "", u->name->bucket, u->name->object, err));
    TRY(gs_endpoint(&k->url, err)); /* the address is the session's */
    buf_adds(&k->url, buf_str(&u->session));
    k->q.follow = HTTP_NO_FOLLOW;
    k->q.has_body = true;
    return SPT_OK;
}

/* A 308 says how much is there. */
static spt_status take_progress(const struct gs_call *k, uint64_t *have, spt_err *err)
{
    char range[64];
    unsigned long long last = 0;
    *have = 0;
    if (!http_header(&k->r, "Range", range, sizeof range))
        return SPT_OK;
    if (sscanf(range, "bytes=0-%llu", &last) != 1 || last == UINT64_MAX)
        return err_set(err, SPT_E_IO, "an upload's answer has the odd range \"%s\"", range);
    *have = last + 1;
    return SPT_OK;
}

enum sent { MORE, ENDED, LOST };

/* One PUT: bytes [at, at + n) of the object, or a question when n is 0 and it is not the end.
 * *how: LOST when no answer came. */
static spt_status put_range(struct gs_upload *u, struct gs_call *k, uint64_t at, const void *p,
                            size_t n, const char *total, bool question, const char *hash,
                            enum sent *how, uint64_t *have, spt_err *err)
{
    char range[120];
    *how = LOST;
    TRY(session_call(k, u, err));
    if (question || !n)
        snprintf(range, sizeof range, "Content-Range: bytes */%s", total);
    else
        snprintf(range, sizeof range, "Content-Range: bytes %llu-%llu/%s", (unsigned long long)at,
                 (unsigned long long)(at + n - 1), total);
    k->header[0] = range;
    k->header[1] = question ? NULL : hash;
    k->q.method = "PUT";
    k->q.body = question ? NULL : p;
    k->q.body_size = question ? 0 : n;
    k->q.once = !question; /* where to go on is asked first */
    const spt_status st = gs_call_run(k, err);
    if (st == SPT_E_IO && !question)
        return SPT_OK;
    TRY(st);
    /* A 400 to a piece: libcurl may have sent it twice, when a connection in use broke. */
    if (k->r.status == 400 && !question && !strstr(buf_str(&k->r.body), "CRC32C"))
        return SPT_OK;
    *how = k->r.status == 308 ? MORE : ENDED;
    return k->r.status == 308 ? take_progress(k, have, err) : SPT_OK;
}

static void wait_before(int n)
{
    uint64_t random = 0;
    os_random(&random, sizeof random);
    os_sleep_ns(http_backoff_ms(n, random) * 1000000);
}

/* Brings a piece over, however often the connection breaks. *ended: the object is complete, and k
 * holds the answer. */
static spt_status bring(struct gs_upload *u, struct gs_call *k, const unsigned char *p, size_t n,
                        const char *total, bool last, const char *hash, bool *ended, spt_err *err)
{
    uint64_t at = u->sent, have = at;
    const uint64_t end = u->sent + n;
    int failures = 0;
    bool question = false;
    for (;;) {
        enum sent how;
        const spt_status st = put_range(u, k, at, p + (at - u->sent), (size_t)(end - at), total,
                                        question, last ? hash : NULL, &how, &have, err);
        if (st)
            return st;
        *ended = how == ENDED;
        if (how == ENDED)
            return SPT_OK;
        if (how == LOST) {
            if (++failures > TRIES)
                return err_set(err, SPT_E_IO, "gs://%s/%s: the upload broke off %d times",
                               u->name->bucket, u->name->object, failures);
            log_info("gs://%s/%s: the upload broke off; asking where to go on", u->name->bucket,
                     u->name->object);
            wait_before(failures);
            question = true;
        } else {
            if (have < u->sent || have > end)
                return err_set(err, SPT_E_IO, "gs://%s/%s: the store lost bytes it had confirmed",
                               u->name->bucket, u->name->object);
            failures = have > at ? 0 : failures;
            if (!question && have <= at && ++failures > TRIES)
                return err_set(err, SPT_E_IO, "gs://%s/%s: the store takes no bytes",
                               u->name->bucket, u->name->object);
            question = false;
            at = have;
            if (at == end && !last)
                return SPT_OK;
        }
        gs_call_end(k);
        *k = (struct gs_call){0};
    }
}

spt_status gs_upload_piece(struct gs_upload *u, const void *p, size_t n, bool last,
                           struct gs_meta *out, spt_err *err)
{
    struct gs_call k = {0};
    char total[32] = "*", hash[64];
    bool ended = false, damaged;
    if (!u->session.data)
        TRY(begin_session(u, false, 0, err));
    const uint32_t crc = crc32c_extend(u->crc, p, n);
    buf text;
    buf_init(&text, 64);
    add_crc(&text, crc);
    snprintf(hash, sizeof hash, "X-Goog-Hash: crc32c=%s", buf_str(&text));
    buf_release(&text);
    if (last)
        snprintf(total, sizeof total, "%llu", (unsigned long long)(u->sent + n));
    spt_status st = bring(u, &k, p, n, total, last, hash, &ended, err);
    if (!st && ended && !last)
        st = gs_refused(&k.q, &k.r, u->name->bucket, u->name->object, "storage.objects.create", err);
    u->sent += n;
    u->crc = crc;
    if (!st && last)
        st = take_result(&k, u->name, u->sent, crc, out, &damaged, err);
    gs_call_end(&k);
    return st;
}

void gs_upload_cancel(struct gs_upload *u)
{
    struct gs_call k = {0};
    if (u->session.data && u->session.len) {
        if (!session_call(&k, u, NULL)) {
            k.q.method = "DELETE";
            k.q.once = true;
            gs_call_run(&k, NULL);
        }
        gs_call_end(&k);
    }
    buf_release(&u->session);
}

/* Large content that is in memory: the server knows its CRC from the start. */
static spt_status put_large(const struct gs_name *n, const unsigned char *p, size_t size,
                            uint64_t generation, struct gs_meta *out, spt_err *err)
{
    struct gs_upload u = {.name = n, .generation = generation};
    spt_status st = begin_session(&u, true, crc32c(p, size), err);
    for (size_t at = 0; at < size && !st; at += GS_PIECE) {
        const size_t m = size - at < GS_PIECE ? size - at : GS_PIECE;
        st = gs_upload_piece(&u, p + at, m, at + m == size, out, err);
    }
    if (st)
        gs_upload_cancel(&u);
    buf_release(&u.session);
    return st;
}

spt_status gs_put(const struct gs_name *n, const void *p, size_t size, uint64_t generation,
                  struct gs_meta *out, spt_err *err)
{
    gs_memo_forget();
    return gs_put_quietly(n, p, size, generation, out, err);
}

spt_status gs_put_quietly(const struct gs_name *n, const void *p, size_t size, uint64_t generation,
                          struct gs_meta *out, spt_err *err)
{
    return size <= GS_PIECE ? put_small(n, p, size, generation, out, err)
                            : put_large(n, p, size, generation, out, err);
}
