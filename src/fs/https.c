/* https://host/path, for reading. There are no generations: a strong ETag, else Last-Modified and the
 * size, say which content it is; without either nothing is kept for another run. */
#include <stdio.h>
#include <string.h>

#include "fs/fs_internal.h"
#include "fs/remote.h"

enum { MAX_URL = 1 << 16, TAG = 512 };

struct https_source {
    struct remote_source base;
    char tag[TAG];   /* of the ETag when it is strong */
    char since[TAG]; /* of Last-Modified */
    char match[TAG + 16];
    const char *headers[1];
};

static spt_status source_ask(struct remote_source *base, struct http_request *q, spt_err *err)
{
    struct https_source *s = (struct https_source *)base;
    (void)err;
    q->url = base->name;
    q->what = NULL; /* the URL, as far as it may be shown */
    if (s->tag[0]) {
        snprintf(s->match, sizeof s->match, "If-Match: %s", s->tag);
        s->headers[0] = s->match;
        q->headers = s->headers;
        q->header_count = 1;
    }
    return SPT_OK;
}

static bool same(const struct http_response *r, const char *header, const char *want)
{
    char text[TAG];
    return !want[0] || !http_header(r, header, text, sizeof text) || !strcmp(text, want);
}

static spt_status source_judge(struct remote_source *base, const struct http_request *q,
                               const struct http_response *r, bool *again, spt_err *err)
{
    struct https_source *s = (struct https_source *)base;
    (void)again;
    const bool changed = r->status == 412 || r->status == 416 || r->status == 404 ||
                         !same(r, "ETag", s->tag) || !same(r, "Last-Modified", s->since) ||
                         (r->total != UINT64_MAX && r->total != base->size && r->partial);
    if (changed) {
        buf shown;
        buf_init(&shown, MAX_URL);
        http_add_shown(&shown, base->name);
        err_set(err, SPT_E_IO,
                "%s changed while it was read; start again to read what is there now",
                buf_str(&shown));
        buf_release(&shown);
        return SPT_E_IO;
    }
    return r->status == 200 || r->status == 206 ? SPT_OK : http_status_error(q, r, err);
}

static void source_free(struct remote_source *s)
{
    mem_free(s->name);
    mem_free(s->key);
    mem_free(s);
}

/* Asks for the first byte, which tells size, validators, and whether ranges work, where HEAD is often
 * refused. */
static spt_status probe(const char *url, struct http_response *r, spt_err *err)
{
    http_client *c;
    TRY(remote_client_take(&c, err));
    const struct http_request head = {.url = url, .method = "HEAD"};
    spt_status st = http_run(c, &head, r, err);
    if (!st && (r->status / 100 != 2 || r->total == UINT64_MAX)) {
        const struct http_request first = {.url = url, .ranged = true, .max_body = 1 << 20};
        st = http_run(c, &first, r, err);
        if (st == SPT_E_FORMAT) /* no ranges, no length: the size is not known before the end */
            st = err_set(err, SPT_E_IO, "the server gives neither a length nor ranges");
        if (!st && r->status == 200)
            r->total = r->body.len;
    }
    if (!st && r->status / 100 != 2)
        st = http_status_error(&head, r, err);
    if (!st && r->total == UINT64_MAX) /* "bytes 0-0/" and a star */
        st = err_set(err, SPT_E_IO, "the server gives no length");
    if (!st)
        st = remote_check_size(r->total, err);
    remote_client_give(c);
    return st;
}

static spt_status https_stat(const char *path, struct fs_info *out, spt_err *err)
{
    struct http_response r;
    http_response_init(&r);
    const spt_status st = probe(path, &r, err);
    if (!st)
        *out = (struct fs_info){.size = r.total, .is_file = true};
    http_response_release(&r);
    return st;
}

static spt_status source_new(const char *path, const struct http_response *r,
                             struct remote_source **out, spt_err *err)
{
    struct https_source *s = mem_zalloc(1, sizeof *s);
    char text[TAG];
    buf key;
    if (!s)
        return err_nomem(err, sizeof *s);
    s->base = (struct remote_source){.size = r->total, .ask = source_ask, .judge = source_judge,
                                     .release = source_free};
    s->base.whole = http_header(r, "Accept-Ranges", text, sizeof text) ? !strcmp(text, "none")
                                                                       : !r->partial;
    if (!http_header(r, "ETag", s->tag, sizeof s->tag) || s->tag[0] != '"')
        s->tag[0] = '\0';
    if (!http_header(r, "Last-Modified", s->since, sizeof s->since))
        s->since[0] = '\0';
    buf_init(&key, MAX_URL);
    buf_addf(&key, "%s#%s#%s#%llu", path, s->tag, s->since, (unsigned long long)r->total);
    const bool keep = s->tag[0] || s->since[0];
    s->base.name = mem_strdup(path);
    s->base.key = keep ? mem_strdup(buf_str(&key)) : NULL;
    spt_status st = buf_status(&key, "URL", err);
    if (!st && (!s->base.name || (keep && !s->base.key)))
        st = err_nomem(err, key.len);
    buf_release(&key);
    if (st)
        source_free(&s->base);
    else
        *out = &s->base;
    return st;
}

static spt_status https_open(const char *path, struct fs_object *out, spt_err *err)
{
    struct http_response r;
    struct remote_source *s = NULL;
    remote *made = NULL;
    http_response_init(&r);
    spt_status st = probe(path, &r, err);
    if (!st)
        st = source_new(path, &r, &s, err);
    if (!st)
        st = remote_open(s, &made, err);
    if (!st)
        *out = (struct fs_object){remote_fd(made), r.total, true, made};
    http_response_release(&r);
    return st;
}

const struct fs_backend fs_https = {
    .scheme = "https",
    .stat = https_stat,
    .open_object = https_open,
};
