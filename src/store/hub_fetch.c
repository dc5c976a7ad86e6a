/* Fetching a snapshot: the list of files from the API, then file by file
 *
 *   1. HEAD .../resolve/<commit>/<file>: its etag (the name of its blob) and size
 *   2. .locks/models--org--name/<etag>.lock is held
 *   3. GET into blobs/<etag>.incomplete, behind the bytes that an interrupted fetch left there;
 *      the digest is computed as they arrive
 *   4. size and digest must be those of the hub: sha256 when the etag has 64 hex digits, git's blob
 *      id when it has 40
 *   5. sync, rename to blobs/<etag>, link from snapshots/<commit>/<file>
 *
 * and last refs/<revision>. Whoever dies in between leaves whole files, links to whole files and
 * at most an .incomplete one, which is where the next fetch goes on. The token goes to the hub's
 * own address only; http_run drops it where a redirect leads elsewhere. */
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "base/log.h"
#include "codec/digest.h"
#include "fs/http.h"
#include "store/hub_internal.h"
#include "text/json.h"

enum { MAX_LISTING = 64 << 20, MAX_TOKEN = 4096, LOCK_POLL_NS = 100000000, MAX_FILES = 10000 };

struct hub_file {
    char name[HUB_TEXT];
    char etag[HUB_TEXT];
    uint64_t size;
    bool linked; /* the snapshot has it */
};

struct fetch {
    struct hub_repo *r;
    const struct hub_opts *o;
    http_client *http;
    const char *endpoint; /* without a trailing slash */
    char *token;          /* NULL: none */
    fs_names listed;      /* files on the hub, top level */
    struct hub_file *file;
    size_t files, cap;
    struct hub_progress progress;
    int64_t began;
    buf url, path;
};

/* --- the server ------------------------------------------------------------------------------ */

/* Where the token is: HF_TOKEN, or the file that `hf auth login` writes. */
static spt_status read_token(char **out, spt_err *err)
{
    const char *given = hub_env("HF_TOKEN");
    buf path;
    char *text = NULL;
    size_t n = 0;
    spt_status st = SPT_OK;
    if (hub_env_true("HF_HUB_DISABLE_IMPLICIT_TOKEN"))
        return SPT_OK;
    if (!given)
        given = hub_env("HUGGING_FACE_HUB_TOKEN");
    buf_init(&path, HUB_PATH);
    if (given) {
        text = mem_strdup(given);
        st = text ? SPT_OK : err_nomem(err, strlen(given));
    } else {
        if (hub_env("HF_TOKEN_PATH"))
            buf_adds(&path, hub_env("HF_TOKEN_PATH"));
        else if (hub_env("HF_HOME"))
            buf_addf(&path, "%s/token", hub_env("HF_HOME"));
        else if (hub_env("XDG_CACHE_HOME"))
            buf_addf(&path, "%s/huggingface/token", hub_env("XDG_CACHE_HOME"));
        else if (hub_env("HOME"))
            buf_addf(&path, "%s/.cache/huggingface/token", hub_env("HOME"));
        if (path.len && fs_exists(buf_str(&path)))
            st = fs_read_all(buf_str(&path), MAX_TOKEN, &text, &n, err);
    }
    buf_release(&path);
    TRY(st);
    if (!text)
        return SPT_OK;
    char *from = text + strspn(text, " \t\r\n");
    from[strcspn(from, " \t\r\n")] = '\0';
    for (const char *p = from; *p; p++)
        if ((unsigned char)*p <= 0x20 || (unsigned char)*p >= 0x7f) {
            mem_free(text);
            return err_set(err, SPT_E_CONFIG, "the hub's token has characters that no token has");
        }
    memmove(text, from, strlen(from) + 1);
    if (*text)
        *out = text;
    else
        mem_free(text);
    return SPT_OK;
}

static int seconds_of(const char *variable)
{
    const char *v = hub_env(variable);
    char *end;
    const double s = v ? strtod(v, &end) : 0;
    return v && end != v && s >= 1 && s < 100000 ? (int)s : 0;
}

/* What an answer that is no success means, as one line. */
static spt_status refused(const struct fetch *f, const struct http_request *q,
                          const struct http_response *a, const char *file, spt_err *err)
{
    char code[64] = "";
    const char *id = f->r->id, *host = strstr(f->endpoint, "://");
    host = host ? host + 3 : f->endpoint;
    http_header(a, "X-Error-Code", code, sizeof code);
    if (!strcmp(code, "RevisionNotFound"))
        return err_set(err, SPT_E_NOTFOUND, "%s on %s has no revision \"%s\"", id, host,
                       f->r->revision);
    if (!strcmp(code, "EntryNotFound"))
        return err_set(err, SPT_E_NOTFOUND, "%s on %s has no file %s at revision %s", id, host,
                       file, f->r->revision);
    if (!strcmp(code, "GatedRepo") || (a->status == 403 && f->token))
        return f->token ? err_set(err, SPT_E_CONFIG,
                                  "%s is gated, and the token has no access to it: ask for it on "
                                  "%s/%s",
                                  id, f->endpoint, id)
                        : err_set(err, SPT_E_CONFIG,
                                  "%s is gated: accept its terms on %s/%s and give a token in "
                                  "HF_TOKEN (or hf auth login)",
                                  id, f->endpoint, id);
    if (a->status == 401 && f->token && strcmp(code, "RepoNotFound") != 0)
        return err_set(err, SPT_E_CONFIG,
                       "%s: %s does not accept the token (HF_TOKEN, or the file "
                       "of hf auth login)",
                       id, host);
    if (!strcmp(code, "RepoNotFound") || a->status == 401 || a->status == 404)
        return err_set(
            err, SPT_E_NOTFOUND,
            "%s: no such file or directory, and %s has no model of this name%s", id, host,
            f->token ? " that the token may see" : " (a private one needs a token in HF_TOKEN)");
    return http_status_error(q, a, err);
}

static spt_status unreachable(const struct fetch *f, spt_status st, spt_err *err)
{
    if (st != SPT_E_IO)
        return st;
    return err_wrap(err, st,
                    "%s: no such file or directory, not in the hub's cache (%s), and %s "
                    "cannot be reached",
                    f->r->id, buf_str(&f->r->root), f->endpoint);
}

static void add_url(struct fetch *f, const char *before, const char *between, const char *revision,
                    const char *file)
{
    buf_clear(&f->url);
    buf_addf(&f->url, "%s%s", f->endpoint, before);
    http_add_escaped(&f->url, f->r->id, true);
    buf_adds(&f->url, between);
    http_add_escaped(&f->url, revision, false);
    if (file) {
        buf_addc(&f->url, '/');
        http_add_escaped(&f->url, file, true);
    }
}

/* --- which files ------------------------------------------------------------------------------ */

static spt_status add_name(fs_names *l, const char *name, size_t n, spt_err *err)
{
    TRY(mem_grow(&l->name, &l->cap, l->count + 1, sizeof *l->name, MAX_FILES, err));
    l->name[l->count] = mem_strndup(name, n);
    if (!l->name[l->count])
        return err_nomem(err, n);
    l->count++;
    return SPT_OK;
}

static spt_status read_siblings(json_reader *r, fs_names *out, spt_err *err)
{
    bool more, item;
    struct json_event key, ev;
    TRY(json_enter_array(r, err));
    for (;;) {
        TRY(json_next_item(r, &item, &ev, err));
        if (!item)
            return SPT_OK;
        if (ev.kind != JSON_OBJECT)
            return json_error(r, ev.offset, err, "a file of the listing is no object");
        for (;;) {
            TRY(json_next_key(r, &more, &key, err));
            if (!more)
                break;
            if (!json_is(&key, "rfilename")) {
                TRY(json_skip(r, err));
                continue;
            }
            TRY(json_next(r, &ev, err));
            if (ev.kind == JSON_STRING && !ev.escaped && ev.len < HUB_TEXT &&
                !memchr(ev.text, '/', ev.len))
                TRY(add_name(out, ev.text, ev.len, err));
        }
    }
}

/* {"sha": commit, "siblings": [{"rfilename": ...}, ...]} */
static spt_status read_listing(struct fetch *f, const buf *text, spt_err *err)
{
    json_reader r;
    struct json_event key;
    bool more;
    buf sha;
    buf_init(&sha, HUB_TEXT);
    json_open(&r, buf_str(text), text->len, 0);
    spt_status st = json_enter_object(&r, err);
    while (!st && !(st = json_next_key(&r, &more, &key, err)) && more)
        st = json_is(&key, "sha")        ? json_read_text(&r, &sha, err)
             : json_is(&key, "siblings") ? read_siblings(&r, &f->listed, err)
                                         : json_skip(&r, err);
    json_close(&r);
    if (!st)
        st = buf_status(&sha, "the commit", err);
    if (!st && !hub_is_commit(buf_str(&sha)))
        st = err_set(err, SPT_E_FORMAT, "the listing names no commit");
    if (!st)
        memcpy(f->r->commit, buf_str(&sha), sizeof f->r->commit);
    buf_release(&sha);
    return st ? err_wrap(err, st, "%s: the answer of %s", f->r->id, f->endpoint) : SPT_OK;
}

static spt_status list_files(struct fetch *f, spt_err *err)
{
    struct http_response a;
    /* A snapshot that is only partly here is completed as it is, not replaced. */
    const bool known = f->r->commit[0] && !f->o->refresh;
    add_url(f, "/api/models/", "/revision/", known ? f->r->commit : f->r->revision, NULL);
    TRY(buf_status(&f->url, "URL", err));
    const struct http_request q = {
        .url = buf_str(&f->url),
        .what = "the list of its files",
        .bearer = f->token,
        .max_body = MAX_LISTING,
        .timeout_s = seconds_of("HF_HUB_ETAG_TIMEOUT"),
    };
    http_response_init(&a);
    spt_status st = unreachable(f, http_run(f->http, &q, &a, err), err);
    if (!st && a.status / 100 != 2)
        st = refused(f, &q, &a, "", err);
    if (!st)
        st = read_listing(f, &a.body, err);
    http_response_release(&a);
    return st;
}

static bool listed(const struct fetch *f, const char *name)
{
    for (size_t i = 0; i < f->listed.count; i++)
        if (!strcmp(f->listed.name[i], name))
            return true;
    return false;
}

static spt_status want(struct fetch *f, const char *name, spt_err *err)
{
    for (size_t i = 0; i < f->files; i++)
        if (!strcmp(f->file[i].name, name))
            return SPT_OK;
    TRY(mem_grow(&f->file, &f->cap, f->files + 1, sizeof *f->file, MAX_FILES, err));
    f->file[f->files] = (struct hub_file){0};
    snprintf(f->file[f->files++].name, HUB_TEXT, "%s", name);
    return SPT_OK;
}

static spt_status want_listed(struct fetch *f, const char *const *name, size_t n, spt_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (listed(f, name[i]))
            TRY(want(f, name[i], err));
    return SPT_OK;
}

static spt_status want_weights(struct fetch *f, const char **index, spt_err *err)
{
    static const char *const set[] = {"model.safetensors", "model.safetensors.index.json",
                                      "pytorch_model.bin", "pytorch_model.bin.index.json"};
    for (size_t i = 0; i < sizeof set / sizeof *set; i++)
        if (listed(f, set[i])) {
            *index = i % 2 ? set[i] : NULL;
            return want(f, set[i], err);
        }
    return err_set(err, SPT_E_FORMAT,
                   "%s on %s has no weights that spt reads: neither model.safetensors nor "
                   "pytorch_model.bin, single or in shards",
                   f->r->id, f->endpoint);
}

static spt_status choose(struct fetch *f, const char **index, spt_err *err)
{
    static const char *const model[] = {"config.json", "generation_config.json"};
    static const char *const vocab[] = {"spiece.model",          "tokenizer.json",
                                        "tokenizer_config.json", "special_tokens_map.json",
                                        "added_tokens.json",     "config.json"};
    static const char *const other[] = {"sentencepiece.model", "tokenizer.model", "spm.model"};
    static const char *const adapter[] = {"adapter_model.safetensors", "adapter_model.bin"};
    unsigned need = f->o->need;
    if (need & HUB_ANY)
        need = listed(f, "adapter_config.json") ? HUB_ADAPTER : HUB_MODEL | HUB_VOCAB;
    if (need & HUB_MODEL) {
        if (!listed(f, "config.json"))
            return err_set(err, SPT_E_FORMAT, "%s on %s is no model: it has no config.json",
                           f->r->id, f->endpoint);
        TRY(want_listed(f, model, sizeof model / sizeof *model, err));
    }
    if (need & HUB_VOCAB) {
        TRY(want_listed(f, vocab, sizeof vocab / sizeof *vocab, err));
        if (!listed(f, "spiece.model"))
            TRY(want_listed(f, other, sizeof other / sizeof *other, err));
    }
    if (need & HUB_ADAPTER) {
        const char *weights = listed(f, adapter[0]) ? adapter[0] : adapter[1];
        if (!listed(f, "adapter_config.json") || !listed(f, weights))
            return err_set(
                err, SPT_E_FORMAT,
                "%s on %s is no PEFT adapter: it has no adapter_config.json with weights", f->r->id,
                f->endpoint);
        TRY(want(f, "adapter_config.json", err));
        TRY(want(f, weights, err));
    }
    return need & HUB_MODEL ? want_weights(f, index, err) : SPT_OK; /* last: the large ones */
}

/* --- one file --------------------------------------------------------------------------------- */

static bool is_hex(const char *p, size_t n)
{
    return strlen(p) == n && strspn(p, "0123456789abcdef") == n;
}

/* W/"abc" -> abc. It becomes a file's name. */
static bool plain_etag(const char *text, char *out)
{
    if (!strncmp(text, "W/", 2))
        text += 2;
    text += *text == '"';
    const size_t n = strcspn(text, "\"");
    if (!n || n >= HUB_TEXT || text[0] == '.')
        return false;
    for (size_t i = 0; i < n; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= 'A' && text[i] <= 'Z') ||
              (text[i] >= '0' && text[i] <= '9') || strchr("-_.", text[i])))
            return false;
    snprintf(out, HUB_TEXT, "%.*s", (int)n, text);
    return true;
}

static spt_status read_facts(struct fetch *f, struct hub_file *h, const struct http_response *a,
                             spt_err *err)
{
    char text[HUB_TEXT];
    const bool moved = a->status / 100 == 3;
    if (!http_header(a, "X-Linked-Etag", text, sizeof text) &&
        !http_header(a, "ETag", text, sizeof text))
        text[0] = '\0';
    if (!plain_etag(text, h->etag))
        return err_set(err, SPT_E_FORMAT, "%s on %s: %s has no usable ETag", f->r->id, f->endpoint,
                       h->name);
    if (!http_header(a, "X-Linked-Size", text, sizeof text) &&
        (moved || !http_header(a, "Content-Length", text, sizeof text)))
        text[0] = '\0';
    if (!text[0] || strlen(text) > 18 || strspn(text, "0123456789") != strlen(text))
        return err_set(err, SPT_E_FORMAT, "%s on %s: %s has no size", f->r->id, f->endpoint,
                       h->name);
    h->size = strtoull(text, NULL, 10);
    if (h->size > REMOTE_MAX_SIZE)
        return err_set(err, SPT_E_IO, "%s on %s: %s has %llu bytes, which nothing has", f->r->id,
                       f->endpoint, h->name, (unsigned long long)h->size);
    if (http_header(a, "X-Repo-Commit", text, sizeof text) && strcmp(text, f->r->commit) != 0)
        return err_set(err, SPT_E_FORMAT, "%s on %s: %s came from commit %s, not %s", f->r->id,
                       f->endpoint, h->name, text, f->r->commit);
    return SPT_OK;
}

static spt_status ask(struct fetch *f, struct hub_file *h, spt_err *err)
{
    static const char *const plain[] = {"Accept-Encoding: identity"};
    struct http_response a;
    TRY(hub_snapshot(f->r, h->name, &f->path, err));
    h->linked = fs_exists(buf_str(&f->path));
    if (h->linked)
        return SPT_OK;
    add_url(f, "/", "/resolve/", f->r->commit, h->name);
    TRY(buf_status(&f->url, "URL", err));
    const struct http_request q = {
        .url = buf_str(&f->url),
        .method = "HEAD",
        .what = h->name,
        .headers = plain,
        .header_count = 1,
        .bearer = f->token,
        .follow = HTTP_FOLLOW_RELATIVE,
        .timeout_s = seconds_of("HF_HUB_ETAG_TIMEOUT"),
    };
    http_response_init(&a);
    spt_status st = unreachable(f, http_run(f->http, &q, &a, err), err);
    if (!st && a.status / 100 != 2 && a.status / 100 != 3)
        st = refused(f, &q, &a, h->name, err);
    if (!st)
        st = read_facts(f, h, &a, err);
    http_response_release(&a);
    return st;
}

/* A digest of the kind that an etag is; none when it is of no kind that we know. */
struct check {
    enum { CHECK_NONE, CHECK_SHA256, CHECK_GIT } kind;
    sha256_state sha256;
    sha1_state sha1;
};

static void check_start(struct check *c, const struct hub_file *h)
{
    char head[40];
    c->kind = is_hex(h->etag, 64) ? CHECK_SHA256 : is_hex(h->etag, 40) ? CHECK_GIT : CHECK_NONE;
    sha256_start(&c->sha256);
    sha1_start(&c->sha1);
    const int n = snprintf(head, sizeof head, "blob %llu", (unsigned long long)h->size);
    sha1_more(&c->sha1, head, (size_t)n + 1); /* the NUL belongs to it */
}

static void check_more(struct check *c, const void *p, size_t n)
{
    if (c->kind == CHECK_SHA256)
        sha256_more(&c->sha256, p, n);
    else if (c->kind == CHECK_GIT)
        sha1_more(&c->sha1, p, n);
}

static bool check_end(struct check *c, const char *etag, char text[65])
{
    uint8_t digest[SHA256_SIZE];
    if (c->kind == CHECK_NONE)
        return true;
    if (c->kind == CHECK_SHA256)
        sha256_finish(&c->sha256, digest);
    else
        sha1_finish(&c->sha1, digest);
    digest_text(digest, c->kind == CHECK_SHA256 ? SHA256_SIZE : SHA1_SIZE, text);
    return !strcmp(text, etag);
}

/* Reads the file behind the one who writes it and computes its digest, in a thread of its own: a
 * second pass over a file of gigabytes, or the digest between two reads of the network, would cost
 * as much as the transfer. Small files are read at the end. */
struct follower {
    int fd;
    unsigned char *piece; /* [PIECE] */
    struct check check;
    uint64_t at;
    atomic_uint_fast64_t written;
    atomic_int order; /* FOLLOW, FINISH (what is written is all), CANCEL */
    int failed;       /* errno, 0: none */
    uint64_t thread, flusher;
    bool running, flushing;
};
enum { FOLLOW, FINISH, CANCEL, PIECE = 1 << 18, THREAD_FROM = 4 << 20, NAP_NS = 500000 };
enum { FLUSH_EVERY = 16 << 20, FLUSH_NAP_NS = 5000000 };

/* Sends what is written to the disk while more arrives, so that little is left to do for the sync at the
 * end, which alone counts. */
static void *flush(void *arg)
{
    struct follower *w = arg;
    uint64_t done = w->written;
    while (w->order == FOLLOW) {
        const uint64_t written = w->written;
        if (written - done < FLUSH_EVERY) {
            os_sleep_ns(FLUSH_NAP_NS);
            continue;
        }
        os_fsync(w->fd);
        done = written;
    }
    return NULL;
}

static void *follow(void *arg)
{
    struct follower *w = arg;
    while (!w->failed && w->order != CANCEL) {
        const bool last = w->order == FINISH; /* asked first: then `written` is final */
        const uint64_t left = w->written - w->at;
        const size_t n = left < PIECE ? (size_t)left : PIECE;
        if (!n && last)
            break;
        if (!n || (n < PIECE && !last)) {
            os_sleep_ns(NAP_NS);
            continue;
        }
        const int64_t got = os_pread_full(w->fd, w->piece, n, w->at);
        if (got != (int64_t)n)
            w->failed = got < 0 ? (int)-got : EIO;
        else
            check_more(&w->check, w->piece, n);
        w->at += n;
    }
    return NULL;
}

static void follower_stop(struct follower *w, int order)
{
    w->order = order;
    if (w->flushing)
        os_thread_join(w->flusher);
    if (w->running)
        os_thread_join(w->thread);
    else if (order == FINISH)
        follow(w);
    w->running = w->flushing = false;
}

static void follower_close(struct follower *w)
{
    if (!w->piece)
        return;
    follower_stop(w, CANCEL);
    os_close(w->fd);
    mem_free(w->piece);
    w->piece = NULL;
}

static spt_status follower_open(struct follower *w, const char *path, const struct hub_file *h,
                                uint64_t written, spt_err *err)
{
    unsigned char *piece = mem_alloc(1, PIECE);
    if (!piece)
        return err_nomem(err, PIECE);
    const int fd = os_open(path, OS_READ | OS_OWN);
    if (fd < 0) {
        mem_free(piece);
        return err_sys(err, SPT_E_IO, -fd, "cannot open %s", path);
    }
    *w = (struct follower){.fd = fd, .piece = piece};
    w->written = written;
    check_start(&w->check, h);
    w->running = h->size >= THREAD_FROM && os_thread_start(&w->thread, follow, w) == 0;
    w->flushing = h->size >= THREAD_FROM && os_thread_start(&w->flusher, flush, w) == 0;
    return SPT_OK;
}

struct receiver {
    struct fetch *f;
    const struct hub_file *h;
    fs_log *file;
    const char *path;
    struct follower follower;
    uint64_t base; /* progress.done without this file */
};

static void receiver_close(struct receiver *v)
{
    follower_close(&v->follower);
    fs_log_close(v->file);
    v->file = NULL;
}

/* Goes on behind the first `keep` bytes of the file. */
static spt_status start_at(struct receiver *v, uint64_t keep, spt_err *err)
{
    receiver_close(v);
    TRY(fs_log_open_own(v->path, keep, &v->file, err));
    return follower_open(&v->follower, v->path, v->h, keep, err);
}

static spt_status receive(void *ctx, uint64_t offset, const void *p, size_t n, spt_err *err)
{
    struct receiver *v = ctx;
    if (offset > fs_log_size(v->file))
        return err_set(err, SPT_E_IO, "a part is missing");
    if (offset < fs_log_size(v->file)) /* the server starts over */
        TRY(start_at(v, offset, err));
    if (n > v->h->size - fs_log_size(v->file))
        return err_set(err, SPT_E_FORMAT, "more than the %llu bytes that the hub named",
                       (unsigned long long)v->h->size);
    TRY(fs_log_append(v->file, p, n, err));
    v->follower.written = fs_log_size(v->file);
    v->f->progress.done = v->base + fs_log_size(v->file);
    return SPT_OK;
}

static bool tell(void *ctx, uint64_t done, uint64_t total)
{
    struct fetch *f = ctx;
    (void)done;
    (void)total;
    f->progress.seconds = (double)(os_monotonic_ns() - f->began) / 1e9;
    return !f->o->progress || f->o->progress(f->o->ctx, &f->progress);
}

static spt_status get(struct receiver *v, spt_err *err)
{
    static const char *const plain[] = {"Accept-Encoding: identity"};
    struct fetch *f = v->f;
    struct http_response a;
    const uint64_t have = fs_log_size(v->file);
    add_url(f, "/", "/resolve/", f->r->commit, v->h->name);
    TRY(buf_status(&f->url, "URL", err));
    const struct http_request q = {
        .url = buf_str(&f->url),
        .what = v->h->name,
        .headers = plain,
        .header_count = 1,
        .bearer = f->token,
        .ranged = have > 0,
        .first = have,
        .last = UINT64_MAX,
        .sink = receive,
        .sink_ctx = v,
        .progress = tell,
        .progress_ctx = f,
        .timeout_s = seconds_of("HF_HUB_DOWNLOAD_TIMEOUT"),
    };
    http_response_init(&a);
    spt_status st = http_run(f->http, &q, &a, err);
    if (!st && a.status / 100 != 2)
        st = refused(f, &q, &a, v->h->name, err);
    http_response_release(&a);
    return st;
}

/* The whole file is in `path` and is what the hub says, or an error says why not. */
static spt_status fill(struct receiver *v, bool *resumed, spt_err *err)
{
    char got[65];
    struct fs_info info;
    uint64_t have = fs_stat(v->path, &info, NULL) ? 0 : info.size;
    if (have > v->h->size)
        have = 0;
    *resumed = have > 0;
    TRY(start_at(v, have, err));
    if (have)
        log_info("%s: continuing at %.1f MB", v->h->name, (double)have / 1e6);
    if (have < v->h->size)
        TRY(get(v, err));
    if (fs_log_size(v->file) != v->h->size)
        return err_set(err, SPT_E_FORMAT, "%llu bytes arrived, the hub named %llu",
                       (unsigned long long)fs_log_size(v->file), (unsigned long long)v->h->size);
    TRY(fs_log_sync(v->file, err));
    follower_stop(&v->follower, FINISH);
    if (v->follower.failed)
        return err_sys(err, SPT_E_IO, v->follower.failed, "cannot read %s", v->path);
    if (!check_end(&v->follower.check, v->h->etag, got))
        return err_set(err, SPT_E_FORMAT,
                       "the checksum is %.16s..., the hub says %.16s...: what "
                       "arrived is damaged and was removed",
                       got, v->h->etag);
    return SPT_OK;
}

static spt_status download(struct fetch *f, const struct hub_file *h, const char *blob,
                           spt_err *err)
{
    buf path;
    struct receiver v = {.f = f, .h = h, .base = f->progress.done};
    bool resumed = false;
    buf_init(&path, HUB_PATH);
    buf_addf(&path, "%s.incomplete", blob);
    v.path = buf_str(&path);
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = fill(&v, &resumed, err);
    if (st == SPT_E_FORMAT) { /* nobody should continue this one */
        receiver_close(&v);
        fs_remove_tree(v.path, NULL);
        if (resumed) { /* what was left there may have been the fault */
            log_warning("%s: what an interrupted fetch left is damaged; fetching it anew", h->name);
            st = fill(&v, &resumed, err);
            if (st == SPT_E_FORMAT)
                fs_remove_tree(v.path, NULL);
        }
    }
    receiver_close(&v);
    if (!st)
        st = fs_rename(v.path, blob, err);
    f->progress.done = v.base + h->size; /* nobody asks after a failure */
    buf_release(&path);
    return st ? err_wrap(err, st, "%s %s", f->r->id, h->name) : SPT_OK;
}

/* --- placing ---------------------------------------------------------------------------------- */

static spt_status make_below(const struct fetch *f, buf *path, const char *what, spt_err *err)
{
    buf_clear(path);
    buf_addf(path, "%s/%s", buf_str(&f->r->dir), what);
    TRY(buf_status(path, "path", err));
    return fs_make_dirs(buf_str(path), err);
}

static bool links_wanted(void)
{
    return !hub_env_true("HF_HUB_DISABLE_SYMLINKS");
}

static spt_status place(struct fetch *f, const struct hub_file *h, const char *blob, spt_err *err)
{
    bool linked = false;
    buf dir, to, target;
    buf_init(&dir, HUB_PATH);
    buf_init(&to, HUB_PATH);
    buf_init(&target, HUB_PATH);
    spt_status st = hub_snapshot(f->r, NULL, &dir, err);
    if (!st)
        st = fs_make_dirs(buf_str(&dir), err);
    if (!st)
        st = hub_snapshot(f->r, h->name, &to, err);
    buf_addf(&target, "../../blobs/%s", h->etag);
    if (!st)
        st = buf_status(&target, "path", err);
    if (!st && fs_exists(buf_str(&to)))
        goto done;
    if (!st && links_wanted()) {
        os_unlink(buf_str(&to)); /* a link to a blob that somebody removed */
        linked = os_symlink(buf_str(&target), buf_str(&to)) == 0;
    }
    /* Where links cannot be the blob itself goes there: nothing else would use it. */
    if (!st && !linked)
        st = fs_rename(blob, buf_str(&to), err);
    if (!st)
        st = fs_sync_dir(buf_str(&dir), err);
done:
    buf_release(&dir);
    buf_release(&to);
    buf_release(&target);
    return st;
}

/* Others that fetch the same file wait, and then find it there. */
static spt_status lock(struct fetch *f, const struct hub_file *h, int *fd, spt_err *err)
{
    buf path;
    bool told = false;
    buf_init(&path, HUB_PATH);
    buf_addf(&path, "%s/.locks/%s", buf_str(&f->r->root), path_base(buf_str(&f->r->dir)));
    spt_status st = buf_status(&path, "path", err);
    if (!st)
        st = fs_make_dirs(buf_str(&path), err);
    buf_addf(&path, "/%s.lock", h->etag);
    if (!st)
        st = buf_status(&path, "path", err);
    *fd = -1;
    if (!st && (*fd = os_open(buf_str(&path), OS_READ | OS_WRITE | OS_CREATE | OS_OWN)) < 0)
        st = err_sys(err, SPT_E_IO, -*fd, "%s", buf_str(&path));
    while (!st) {
        const int r = os_lock(*fd);
        if (r != -EWOULDBLOCK) /* a file system without locks is no reason to fail */
            break;
        if (!told)
            log_info("%s: another process fetches it; waiting", h->name);
        told = true;
        os_sleep_ns(LOCK_POLL_NS);
        if (!tell(f, 0, 0))
            st = err_set(err, SPT_E_INTERRUPTED, "interrupted while waiting for %s", h->name);
    }
    buf_release(&path);
    return st;
}

/* Is it the whole file that the hub names? Whoever links it first finds that out. */
static spt_status is_file_of(struct fetch *f, const struct hub_file *h, int fd, bool *is,
                             spt_err *err)
{
    struct os_stat info;
    struct check c;
    char got[65];
    *is = false;
    if (os_fstat(fd, &info) < 0 || !info.is_file || info.size != h->size)
        return SPT_OK;
    unsigned char *piece = mem_alloc(1, PIECE);
    if (!piece)
        return err_nomem(err, PIECE);
    bool good = true;
    check_start(&c, h);
    for (uint64_t at = 0; good && c.kind != CHECK_NONE && at < h->size;) {
        const int64_t n = os_pread_full(fd, piece, PIECE, at);
        good = n > 0 && tell(f, 0, 0);
        if (good)
            check_more(&c, piece, (size_t)n);
        at += good ? (uint64_t)n : 0;
    }
    mem_free(piece);
    *is = good && check_end(&c, h->etag, got);
    return SPT_OK;
}

/* A blob that lies there already is used when it is what the hub has; anything else goes. */
static spt_status find_blob(struct fetch *f, const struct hub_file *h, const char *blob, bool *here,
                            spt_err *err)
{
    const int fd = os_open(blob, OS_READ | OS_OWN);
    *here = false;
    const spt_status st = fd < 0 ? SPT_OK : is_file_of(f, h, fd, here, err);
    if (fd >= 0)
        os_close(fd);
    if (st || *here || fd == -ENOENT)
        return st;
    if (!tell(f, 0, 0))
        return err_set(err, SPT_E_INTERRUPTED, "interrupted while checking %s", h->name);
    log_warning("%s: the blob in the hub's cache is not the file that the hub has; fetching it anew",
                h->name);
    const int r = os_unlink(blob);
    return r < 0 ? err_sys(err, SPT_E_IO, -r, "cannot remove %s", blob) : SPT_OK;
}

static spt_status fetch_file(struct fetch *f, const struct hub_file *h, spt_err *err)
{
    int fd;
    buf blob;
    if (h->linked)
        return SPT_OK;
    f->progress.file = h->name;
    buf_init(&blob, HUB_PATH);
    spt_status st = make_below(f, &blob, "blobs", err);
    buf_addf(&blob, "/%s", h->etag);
    if (!st)
        st = buf_status(&blob, "path", err);
    if (st) {
        buf_release(&blob);
        return st;
    }
    st = lock(f, h, &fd, err);
    bool here = false;
    if (!st)
        st = find_blob(f, h, buf_str(&blob), &here, err);
    if (!st && here)
        f->progress.done += h->size;
    else if (!st)
        st = download(f, h, buf_str(&blob), err);
    if (!st)
        st = place(f, h, buf_str(&blob), err);
    if (fd >= 0)
        os_close(fd);
    buf_release(&blob);
    return st;
}

/* --- all of it -------------------------------------------------------------------------------- */

/* Bytes that are on disk already, for the figures. */
static uint64_t bytes_here(struct fetch *f, const struct hub_file *h)
{
    struct fs_info info;
    buf path;
    buf_init(&path, HUB_PATH);
    buf_addf(&path, "%s/blobs/%s", buf_str(&f->r->dir), h->etag);
    uint64_t n = 0;
    if (!path.st && !fs_stat(buf_str(&path), &info, NULL) && info.size == h->size) {
        n = h->size;
    } else {
        buf_adds(&path, ".incomplete");
        if (!path.st && !fs_stat(buf_str(&path), &info, NULL))
            n = info.size < h->size ? info.size : h->size;
    }
    buf_release(&path);
    return n;
}

/* Files from number `from` on: first what they are, then their content. */
static spt_status fetch_from(struct fetch *f, size_t from, spt_err *err)
{
    for (size_t i = from; i < f->files; i++) {
        TRY(ask(f, &f->file[i], err));
        if (!f->file[i].linked) {
            f->progress.total += f->file[i].size;
            f->progress.before += bytes_here(f, &f->file[i]);
        }
    }
    for (size_t i = from; i < f->files; i++)
        TRY(fetch_file(f, &f->file[i], err));
    return SPT_OK;
}

static spt_status fetch_shards(struct fetch *f, const char *index, spt_err *err)
{
    fs_names names = {0};
    const size_t from = f->files;
    TRY(hub_snapshot(f->r, index, &f->path, err));
    TRY(hub_index_files(buf_str(&f->path), &names, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < names.count; i++)
        st = listed(f, names.name[i])
                 ? want(f, names.name[i], err)
                 : err_set(err, SPT_E_FORMAT, "%s on %s: %s names %s, which is not there", f->r->id,
                           f->endpoint, index, names.name[i]);
    fs_names_free(&names);
    return st ? st : fetch_from(f, from, err);
}

/* What is known not to be on the hub is not asked for again. */
static spt_status note_absent(struct fetch *f, spt_err *err)
{
    static const char *const name[] = {"spiece.model", "tokenizer.json"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++) {
        char below[HUB_TEXT];
        if (listed(f, name[i]))
            continue;
        snprintf(below, sizeof below, ".no_exist/%s", f->r->commit);
        TRY(make_below(f, &f->path, below, err));
        buf_addf(&f->path, "/%s", name[i]);
        TRY(buf_status(&f->path, "path", err));
        TRY(fs_write_all(buf_str(&f->path), "", 0, err));
    }
    return SPT_OK;
}

static spt_status write_ref(struct fetch *f, spt_err *err)
{
    if (f->r->pinned)
        return SPT_OK;
    buf_clear(&f->path);
    buf_addf(&f->path, "%s/refs/%s", buf_str(&f->r->dir), f->r->revision);
    TRY(buf_status(&f->path, "path", err));
    char *slash = strrchr(f->path.data, '/');
    *slash = '\0';
    TRY(fs_make_dirs(f->path.data, err));
    *slash = '/';
    return fs_write_all(buf_str(&f->path), f->r->commit, HUB_COMMIT, err);
}

/* Backup programs leave a directory alone that says it is a cache. */
static spt_status tag_cache(struct fetch *f, spt_err *err)
{
    static const char text[] = "Signature: 8a477f597d28d172789f06886806bc55\n"
                               "# This file is a cache directory tag created by huggingface_hub.\n"
                               "# For information about cache directory tags, see:\n"
                               "#\thttps://bford.info/cachedir/\n";
    TRY(fs_make_dirs(buf_str(&f->r->root), err));
    buf_clear(&f->path);
    buf_addf(&f->path, "%s/CACHEDIR.TAG", buf_str(&f->r->root));
    TRY(buf_status(&f->path, "path", err));
    return fs_exists(buf_str(&f->path))
               ? SPT_OK
               : fs_write_all(buf_str(&f->path), text, sizeof text - 1, err);
}

static spt_status fetch_all(struct fetch *f, spt_err *err)
{
    const char *index = NULL;
    TRY(http_client_new(&f->http, err));
    TRY(read_token(&f->token, err));
    TRY(list_files(f, err));
    TRY(choose(f, &index, err));
    TRY(tag_cache(f, err));
    log_info("%s: fetching commit %.12s from %s", f->r->id, f->r->commit, f->endpoint);
    f->began = os_monotonic_ns();
    TRY(fetch_from(f, 0, err));
    if (index)
        TRY(fetch_shards(f, index, err));
    if (f->o->need & (HUB_VOCAB | HUB_ANY) && !listed(f, "adapter_config.json"))
        TRY(note_absent(f, err));
    TRY(write_ref(f, err));
    const uint64_t fetched = f->progress.done - f->progress.before;
    const double s = (double)(os_monotonic_ns() - f->began) / 1e9;
    log_info("%s: %.1f MB fetched in %.1f s (%.1f MB/s)", f->r->id, (double)fetched / 1e6, s,
             s > 0 ? (double)fetched / 1e6 / s : 0);
    return SPT_OK;
}

spt_status hub_fetch(struct hub_repo *r, const struct hub_opts *o, spt_err *err)
{
    struct fetch f = {.r = r, .o = o};
    char endpoint[2048];
    const char *given = hub_env("HF_ENDPOINT");
    snprintf(endpoint, sizeof endpoint, "%s", given ? given : "https://huggingface.co");
    size_t n = strlen(endpoint);
    while (n && endpoint[n - 1] == '/')
        endpoint[--n] = '\0';
    f.endpoint = endpoint;
    f.progress.name = r->id;
    f.progress.file = "";
    buf_init(&f.url, HUB_PATH);
    buf_init(&f.path, HUB_PATH);
    const spt_status st = fetch_all(&f, err);
    if (f.token)
        memset(f.token, 0, strlen(f.token));
    mem_free(f.token);
    http_client_free(f.http);
    fs_names_free(&f.listed);
    mem_free(f.file);
    buf_release(&f.url);
    buf_release(&f.path);
    return st;
}
