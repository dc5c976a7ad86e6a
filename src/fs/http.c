/* One loop over libcurl's multi interface drives every request: a state machine per transfer, so
 * that retries, resumption and redirects are ours to see and to test. Redirects are followed here
 * and not by libcurl because the rules about secrets (http.h) must hold with every libcurl that a
 * distribution ships.
 *
 * HTTP/1.1 only: HTTP/2 would put all parallel ranges on one TCP connection, which is slower for
 * what we do. */
#include "fs/http.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "os/os.h"

enum {
    MAX_HEADERS = 1 << 16,
    MAX_ERROR_BODY = 1 << 16,
    MAX_BODY = 16 << 20,
    MAX_URL = 1 << 16,
    MAX_REDIRECTS = 10,
    MAX_TRIES = 1000, /* however much each of them moved */
    MAX_HANDLES = 64,
    CONNECT_TRIES = 3,
    RETRY_AFTER_MAX = 60,
    POLL_MS = 200,
};
#define MS ((int64_t)1000000)

struct http_client {
    CURLM *multi;
    CURL *idle[MAX_HANDLES]; /* easy handles without work */
    size_t idle_count;
    int retries, timeout_s;
};

enum phase { READY, RUNNING, WAITING, DONE };

struct transfer {
    const struct http_request *q;
    struct http_response *r;
    http_client *client;
    CURL *easy;
    struct curl_slist *lines;
    enum phase phase;
    int64_t due;   /* when WAITING ends */
    int failures;  /* tries in a row that brought nothing new */
    int redirects;
    bool as_get;   /* a redirect turned POST into GET */
    bool send_bearer;
    uint64_t start; /* where the request began, and ... */
    uint64_t at;    /* ... what the receiver gets next: offsets in the file */
    uint64_t end;   /* where it ends as far as known, or UINT64_MAX */
    uint64_t farthest; /* the largest `at` so far, also of tries that had to start over */
    char validator[256]; /* If-Range */
    /* of one try */
    bool body_begun, deliver, resumed;
    bool gained;       /* bytes beyond the farthest came */
    uint64_t heard;    /* bytes of any kind, both ways ... */
    int64_t heard_at;  /* ... and when they last grew */
    spt_status failed; /* what the receiver said */
    spt_err why;
    char curl_text[CURL_ERROR_SIZE];
};

/* --- text ----------------------------------------------------------------------------------- */

void http_add_escaped(buf *out, const char *s, bool keep_slash)
{
    for (; *s; s++) {
        const unsigned char c = (unsigned char)*s;
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            strchr("-._~", c) || (keep_slash && c == '/'))
            buf_addc(out, (char)c);
        else
            buf_addf(out, "%%%02X", c);
    }
}

void http_add_shown(buf *out, const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    const size_t authority = strcspn(host, "/?#");
    const char *at = host;
    for (size_t i = 0; i < authority; i++)
        if (host[i] == '@')
            at = host + i + 1;
    buf_add(out, url, (size_t)(host - url));
    buf_add(out, at, strcspn(at, "?#"));
}

bool http_is_loopback(const char *url)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    const size_t authority = strcspn(host, "/?#");
    for (size_t i = 0; i < authority; i++)
        if (host[i] == '@' || host[i] == '\\')
            return false; /* nobody needs that there */
    if (!strncmp(host, "[::1]", 5))
        return authority == 5 || host[5] == ':';
    const size_t n = strcspn(host, ":/?#");
    if (n == 9 && !strncasecmp(host, "localhost", 9))
        return true;
    return n > 4 && !strncmp(host, "127.", 4) && strspn(host, "0123456789.") == n;
}

static bool is_https(const char *url)
{
    return !strncasecmp(url, "https://", 8);
}

int64_t http_backoff_ms(int n, uint64_t random)
{
    const int64_t whole = n < 1 ? 500 : n > 7 ? 32000 : (int64_t)500 << (n - 1);
    return whole / 2 + (int64_t)(random % (uint64_t)(whole / 2));
}

static int number_from(const char *variable, int fallback, int least, int most)
{
    const char *s = os_getenv(variable);
    char *end;
    if (!s || !*s)
        return fallback;
    const long v = strtol(s, &end, 10);
    return *end || v < least || v > most ? fallback : (int)v;
}

size_t http_parallel(void)
{
    return (size_t)number_from("SPT_HTTP_PARALLEL", 8, 1, MAX_HANDLES);
}

const char *http_status_text(int status, char *text, size_t cap)
{
    static const struct {
        int status;
        const char *name;
    } names[] = {
        {400, "Bad Request"},       {401, "Unauthorized"},
        {403, "Forbidden"},         {404, "Not Found"},
        {405, "Method Not Allowed"}, {408, "Request Timeout"},
        {409, "Conflict"},          {410, "Gone"},
        {411, "Length Required"},   {412, "Precondition Failed"},
        {416, "Range Not Satisfiable"}, {429, "Too Many Requests"},
        {500, "Internal Server Error"}, {501, "Not Implemented"},
        {502, "Bad Gateway"},       {503, "Service Unavailable"},
        {504, "Gateway Timeout"},
    };
    const char *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].status == status)
            name = names[i].name;
    if (name)
        snprintf(text, cap, "%d (%s)", status, name);
    else
        snprintf(text, cap, "%d", status);
    return text;
}

/* What messages call this request. */
static const char *what_of(const struct http_request *q, buf *text)
{
    if (q->what)
        return q->what;
    buf_init(text, MAX_URL);
    http_add_shown(text, q->url);
    return buf_str(text);
}

static const char *header_of(const struct http_response *r, const char *name, size_t *len)
{
    const size_t n = strlen(name);
    const char *found = NULL;
    for (const char *line = buf_str(&r->headers); *line;) {
        const size_t all = strcspn(line, "\n");
        if (all > n && line[n] == ':' && !strncasecmp(line, name, n)) {
            const char *v = line + n + 1;
            size_t left = all - n - 1;
            while (left && (*v == ' ' || *v == '\t'))
                v++, left--;
            while (left && (unsigned char)v[left - 1] <= ' ')
                left--;
            found = v;
            *len = left;
        }
        line += all + (line[all] == '\n');
    }
    return found;
}

bool http_header(const struct http_response *r, const char *name, char *out, size_t cap)
{
    size_t len = 0;
    const char *v = header_of(r, name, &len);
    if (!v || len >= cap)
        return false;
    memcpy(out, v, len);
    out[len] = '\0';
    return true;
}

/* The server's own words: the first line of plain text, or the first "message" of a JSON object. */
static void server_words(const struct http_response *r, char *out, size_t cap)
{
    const char *s = buf_str(&r->body);
    out[0] = '\0';
    while (*s == ' ' || *s == '\n' || *s == '\r' || *s == '\t')
        s++;
    if (*s == '<' || !*s)
        return;
    if (*s == '{') {
        s = strstr(s, "\"message\"");
        if (!s)
            return;
        s += strlen("\"message\"");
        s += strspn(s, " :\n\t");
        if (*s++ != '"')
            return;
    }
    size_t n = 0;
    for (; *s && *s != '\n' && *s != '"' && n + 1 < cap; s++)
        if ((unsigned char)*s >= ' ' && *s != '\\')
            out[n++] = *s;
    out[n] = '\0';
}

spt_status http_status_error(const struct http_request *q, const struct http_response *r,
                             spt_err *err)
{
    char number[64], words[200];
    buf text = {0};
    const spt_status code = r->status == 404 || r->status == 410   ? SPT_E_NOTFOUND
                            : r->status == 401 || r->status == 403 ? SPT_E_CONFIG
                                                                   : SPT_E_IO;
    server_words(r, words, sizeof words);
    const char *what = what_of(q, &text);
    err_set(err, code, "%s: the server answered %s%s%s", what,
            http_status_text(r->status, number, sizeof number), words[0] ? ": " : "", words);
    buf_release(&text);
    return code;
}

/* --- clients -------------------------------------------------------------------------------- */

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_ready;

static void init_curl(void)
{
    curl_ready = curl_global_init(CURL_GLOBAL_DEFAULT);
}

spt_status http_client_new(http_client **out, spt_err *err)
{
    pthread_once(&curl_once, init_curl);
    if (curl_ready)
        return err_set(err, SPT_E_IO, "libcurl cannot start: %s", curl_easy_strerror(curl_ready));
    http_client *c = mem_zalloc(1, sizeof *c);
    if (!c)
        return err_nomem(err, sizeof *c);
    c->multi = curl_multi_init();
    if (!c->multi) {
        mem_free(c);
        return err_set(err, SPT_E_NOMEM, "libcurl is out of memory");
    }
    curl_multi_setopt(c->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_NOTHING);
    c->retries = number_from("SPT_HTTP_RETRIES", 7, 0, 1000);
    c->timeout_s = number_from("SPT_HTTP_TIMEOUT", 30, 1, 86400);
    *out = c;
    return SPT_OK;
}

void http_client_free(http_client *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < c->idle_count; i++)
        curl_easy_cleanup(c->idle[i]);
    curl_multi_cleanup(c->multi);
    mem_free(c);
}

void http_response_init(struct http_response *r)
{
    *r = (struct http_response){.total = UINT64_MAX};
    buf_init(&r->body, MAX_BODY);
    buf_init(&r->headers, MAX_HEADERS);
    buf_init(&r->url, MAX_URL);
}

void http_response_release(struct http_response *r)
{
    buf_release(&r->body);
    buf_release(&r->headers);
    buf_release(&r->url);
}

/* --- receiving ------------------------------------------------------------------------------ */

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    const size_t len = size * n;
    if (len >= 5 && !strncasecmp(line, "HTTP/", 5)) {
        buf_clear(&t->r->headers); /* of an interim answer, or of an earlier try */
        return len;
    }
    size_t text = len;
    while (text && (line[text - 1] == '\n' || line[text - 1] == '\r'))
        text--;
    if (text && !memchr(line, '\0', text)) {
        buf_add(&t->r->headers, line, text);
        buf_addc(&t->r->headers, '\n');
    }
    t->failed = buf_status(&t->r->headers, "the headers of an answer", &t->why);
    return t->failed ? 0 : len;
}

static int status_of(const struct transfer *t)
{
    long status = 0;
    curl_easy_getinfo(t->easy, CURLINFO_RESPONSE_CODE, &status);
    return (int)status;
}

static bool is_head(const struct transfer *t)
{
    return t->q->method && !strcmp(t->q->method, "HEAD");
}

static bool is_get(const struct transfer *t)
{
    return t->as_get || (t->q->method ? !strcmp(t->q->method, "GET") : !t->q->has_body && !t->q->body);
}

static spt_status odd_range(struct transfer *t)
{
    t->failed = err_set(&t->why, SPT_E_IO, "the server sent another range than the one asked for");
    return t->failed;
}

/* Digits only, so that nothing wraps; at most 18 of them. */
static bool take_number(const char **p, uint64_t *out)
{
    const size_t n = strspn(*p, "0123456789");
    *out = strtoull(*p, NULL, 10);
    *p += n;
    return n > 0 && n <= 18;
}

/* "bytes 5-9/100", or a star for the whole when it is not known. */
static bool parse_content_range(const char *p, uint64_t *first, uint64_t *last, uint64_t *total)
{
    *total = UINT64_MAX;
    if (strncasecmp(p, "bytes ", 6))
        return false;
    p += 6;
    if (!take_number(&p, first) || *p++ != '-' || !take_number(&p, last) || *p++ != '/')
        return false;
    return !strcmp(p, "*") || (take_number(&p, total) && !*p);
}

static spt_status read_content_range(struct transfer *t)
{
    char text[128];
    uint64_t first, last, total;
    if (!http_header(t->r, "Content-Range", text, sizeof text) ||
        !parse_content_range(text, &first, &last, &total) || first != t->at || last < first ||
        last >= total || (t->q->ranged && last > t->q->last))
        return odd_range(t);
    if (t->resumed && t->r->total != UINT64_MAX && total != t->r->total)
        return odd_range(t);
    t->r->total = total;
    t->end = t->q->ranged && t->q->last < total ? t->q->last + 1 : total;
    t->r->partial = true;
    return SPT_OK;
}

static void note_validator(struct transfer *t)
{
    char tag[sizeof t->validator];
    t->validator[0] = '\0';
    if (http_header(t->r, "ETag", tag, sizeof tag) && tag[0] == '"')
        memcpy(t->validator, tag, sizeof tag);
    else if (http_header(t->r, "Last-Modified", tag, sizeof tag))
        memcpy(t->validator, tag, sizeof tag);
}

static void start_over(struct transfer *t, uint64_t from)
{
    t->at = from;
    buf_clear(&t->r->body);
}

/* The first bytes of an answer's body are here: what are they? */
static spt_status begin_body(struct transfer *t)
{
    const int status = status_of(t);
    curl_off_t length = -1;
    t->body_begun = true;
    t->deliver = status / 100 == 2;
    if (!t->deliver) {
        buf_clear(&t->r->body);
        return SPT_OK;
    }
    if (status == 206)
        return read_content_range(t);
    t->r->partial = false;
    curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    t->r->total = length >= 0 ? (uint64_t)length : UINT64_MAX;
    t->end = t->r->total;
    start_over(t, 0); /* everything, from the start, whatever was asked for */
    t->start = 0;
    return SPT_OK;
}

static spt_status deliver(struct transfer *t, const char *p, size_t n)
{
    const struct http_request *q = t->q;
    if (q->sink)
        return q->sink(q->sink_ctx, t->at, p, n, &t->why);
    const size_t max = q->max_body ? q->max_body : MAX_BODY;
    if (n > max - (t->r->body.len < max ? t->r->body.len : max))
        return err_set(&t->why, SPT_E_FORMAT, "more than %zu bytes", max);
    t->r->body.max = max;
    buf_add(&t->r->body, p, n);
    return buf_status(&t->r->body, "the answer", &t->why);
}

static size_t on_body(char *p, size_t size, size_t n, void *ctx)
{
    struct transfer *t = ctx;
    (void)size;
    if (!t->body_begun && begin_body(t))
        return 0;
    if (!t->deliver) {
        const size_t room = t->r->body.len < MAX_ERROR_BODY ? MAX_ERROR_BODY - t->r->body.len : 0;
        buf_add(&t->r->body, p, n < room ? n : room);
        return n;
    }
    t->failed = deliver(t, p, n);
    if (t->failed)
        return 0;
    t->at += n;
    t->gained |= t->at > t->farthest;
    t->farthest = t->at > t->farthest ? t->at : t->farthest;
    t->r->size += n;
    return n;
}

/* --- sending -------------------------------------------------------------------------------- */

static bool add_line(struct transfer *t, const char *line)
{
    struct curl_slist *more = curl_slist_append(t->lines, line);
    if (more)
        t->lines = more;
    return more != NULL;
}

static bool add_lines(struct transfer *t)
{
    const struct http_request *q = t->q;
    char line[512];
    bool ok = add_line(t, "Expect:"); /* no "100-continue" round trip */
    for (size_t i = 0; ok && i < q->header_count; i++)
        ok = add_line(t, q->headers[i]);
    t->resumed = is_get(t) && t->at > t->start;
    if (ok && (q->ranged || t->resumed)) {
        if (q->ranged && q->last != UINT64_MAX)
            snprintf(line, sizeof line, "Range: bytes=%llu-%llu", (unsigned long long)t->at,
                     (unsigned long long)q->last);
        else
            snprintf(line, sizeof line, "Range: bytes=%llu-", (unsigned long long)t->at);
        ok = add_line(t, line);
    }
    if (ok && t->resumed) {
        snprintf(line, sizeof line, "If-Range: %s", t->validator);
        ok = add_line(t, line);
    }
    if (ok && t->send_bearer) {
        buf secret;
        buf_init(&secret, MAX_HEADERS);
        buf_addf(&secret, "Authorization: Bearer %s", q->bearer);
        ok = !secret.st && add_line(t, buf_str(&secret));
        if (secret.data)
            memset(secret.data, 0, secret.len);
        buf_release(&secret);
    }
    return ok;
}

/* libcurl knows its certificates; these variables are what other programs obey as well. */
static void set_certificates(CURL *e)
{
    const char *file = os_getenv("SSL_CERT_FILE"), *dir = os_getenv("SSL_CERT_DIR");
    if (!file || !*file)
        file = os_getenv("CURL_CA_BUNDLE");
    if (file && *file)
        curl_easy_setopt(e, CURLOPT_CAINFO, file);
    if (dir && *dir)
        curl_easy_setopt(e, CURLOPT_CAPATH, dir);
}

static spt_status set_options(struct transfer *t, spt_err *err)
{
    CURL *e = t->easy;
    const struct http_request *q = t->q;
    CURLcode bad = CURLE_OK;
    curl_easy_reset(e);
    curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    bad |= curl_easy_setopt(e, CURLOPT_PROTOCOLS_STR, "http,https");
    bad |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYPEER, 1L);
    bad |= curl_easy_setopt(e, CURLOPT_SSL_VERIFYHOST, 2L);
    bad |= curl_easy_setopt(e, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    bad |= curl_easy_setopt(e, CURLOPT_URL, buf_str(&t->r->url));
    bad |= curl_easy_setopt(e, CURLOPT_USERAGENT, "spt/" SPT_VERSION);
    bad |= curl_easy_setopt(e, CURLOPT_HTTPHEADER, t->lines);
    bad |= curl_easy_setopt(e, CURLOPT_PRIVATE, t);
    set_certificates(e);
    curl_easy_setopt(e, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(e, CURLOPT_ERRORBUFFER, t->curl_text);
    curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(e, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(e, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 1L << 17);
    curl_easy_setopt(e, CURLOPT_CONNECTTIMEOUT_MS, q->impatient ? 1000L : 20000L);
    if (is_head(t)) {
        curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
    } else if (!t->as_get && (q->body || q->has_body)) {
        curl_easy_setopt(e, CURLOPT_POST, 1L);
        curl_easy_setopt(e, CURLOPT_POSTFIELDS, q->body ? q->body : "");
        curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_size);
    }
    if (!is_head(t) && !t->as_get && q->method)
        bad |= curl_easy_setopt(e, CURLOPT_CUSTOMREQUEST, q->method);
    return bad ? err_set(err, SPT_E_IO, "libcurl refuses the request") : SPT_OK;
}

static CURL *take_handle(http_client *c)
{
    return c->idle_count ? c->idle[--c->idle_count] : curl_easy_init();
}

/* The transfer's handle goes back to the client. */
static void let_go(struct transfer *t)
{
    http_client *c = t->client;
    if (t->easy) {
        curl_multi_remove_handle(c->multi, t->easy);
        curl_easy_reset(t->easy); /* forgets our buffers */
        if (c->idle_count < MAX_HANDLES)
            c->idle[c->idle_count++] = t->easy;
        else
            curl_easy_cleanup(t->easy);
    }
    curl_slist_free_all(t->lines);
    t->easy = NULL;
    t->lines = NULL;
}

static spt_status begin_try(struct transfer *t, spt_err *err)
{
    t->body_begun = t->deliver = t->gained = false;
    t->heard = 0;
    t->heard_at = os_monotonic_ns();
    t->failed = SPT_OK;
    t->curl_text[0] = '\0';
    buf_clear(&t->r->headers);
    t->r->tries++;
    if (t->q->bearer && !t->redirects && !is_https(t->q->url) && !http_is_loopback(t->q->url))
        return err_set(err, SPT_E_USAGE, "a token is never sent over plain http");
    t->easy = take_handle(t->client);
    if (!t->easy || !add_lines(t))
        return err_set(err, SPT_E_NOMEM, "libcurl is out of memory");
    TRY(set_options(t, err));
    const CURLMcode m = curl_multi_add_handle(t->client->multi, t->easy);
    if (m)
        return err_set(err, m == CURLM_OUT_OF_MEMORY ? SPT_E_NOMEM : SPT_E_IO, "libcurl: %s",
                       curl_multi_strerror(m));
    t->phase = RUNNING;
    return SPT_OK;
}

/* --- the end of a try ----------------------------------------------------------------------- */

static spt_status try_again(struct transfer *t, const char *cause, int limit, int64_t wait_ms,
                            spt_err *err)
{
    buf text = {0};
    uint64_t random = 0;
    if (t->gained)
        t->failures = 0;
    t->failures++;
    if (t->q->once)
        limit = 0;
    if (t->failures > limit || t->r->tries >= MAX_TRIES) {
        if (t->r->tries > 1)
            err_set(err, SPT_E_IO, "%s (given up after %d tries)", cause, t->r->tries);
        else
            err_set(err, SPT_E_IO, "%s", cause);
        return SPT_E_IO;
    }
    os_random(&random, sizeof random);
    int64_t ms = http_backoff_ms(t->failures, random);
    ms = wait_ms > ms ? wait_ms : ms;
    const char *what = what_of(t->q, &text);
    log_info("%s: %s; trying again in %.1f s (%d of %d)", what, cause, (double)ms / 1000,
             t->failures, limit);
    buf_release(&text);
    if (!is_get(t) || !t->validator[0])
        start_over(t, t->start);
    t->due = os_monotonic_ns() + ms * MS;
    t->phase = WAITING;
    return SPT_OK;
}

/* How often to try again after this; 0: never. */
static int curl_limit(CURLcode rc, int retries)
{
    switch (rc) {
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
        return retries < CONNECT_TRIES ? retries : CONNECT_TRIES;
    case CURLE_OPERATION_TIMEDOUT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE:
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_WEIRD_SERVER_REPLY:
        return retries;
    default:
        return 0;
    }
}

static spt_status curl_failed(struct transfer *t, CURLcode rc, spt_err *err)
{
    char cause[CURL_ERROR_SIZE + 80];
    const char *text = t->curl_text[0] ? t->curl_text : curl_easy_strerror(rc);
    long asked = 0; /* bytes of the request: then what came is the server's fault, not the URL's */
    curl_easy_getinfo(t->easy, CURLINFO_REQUEST_SIZE, &asked);
    if (rc == CURLE_UNSUPPORTED_PROTOCOL && asked > 0)
        return err_set(err, SPT_E_IO, "the server's answer is not HTTP");
    /* libcurl calls a line beyond its 100 KB "out of memory", later versions "too large" (100). */
    if ((rc == CURLE_OUT_OF_MEMORY || (int)rc == 100) && asked > 0 && !t->body_begun)
        return err_set(err, SPT_E_IO, "the headers of the server's answer are too long");
    if (rc == CURLE_OUT_OF_MEMORY)
        return err_set(err, SPT_E_NOMEM, "libcurl is out of memory");
    if (rc == CURLE_URL_MALFORMAT || rc == CURLE_UNSUPPORTED_PROTOCOL)
        return err_set(err, SPT_E_USAGE, "not a URL that can be fetched");
    if (rc == CURLE_PEER_FAILED_VERIFICATION)
        return err_set(err, SPT_E_IO,
                       "the server's certificate is not trusted: %s (certificates come from the "
                       "system, or from the file in SSL_CERT_FILE)",
                       text);
    if (rc == CURLE_SSL_CACERT_BADFILE)
        return err_set(err, SPT_E_IO, "%s (the file comes from SSL_CERT_FILE or CURL_CA_BUNDLE)",
                       text);
    snprintf(cause, sizeof cause, "%s%s", rc == CURLE_OPERATION_TIMEDOUT ? "stalled: " : "", text);
    return try_again(t, cause, t->q->impatient ? 0 : curl_limit(rc, t->client->retries), 0, err);
}

static bool may_retry(int status)
{
    return status == 408 || status == 429 || status == 500 || (status >= 502 && status <= 504);
}

static int64_t retry_after_ms(const struct http_response *r)
{
    char text[32];
    if (!http_header(r, "Retry-After", text, sizeof text) ||
        strspn(text, "0123456789") != strlen(text) || strlen(text) > 6 || !text[0])
        return 0;
    const int s = (int)strtol(text, NULL, 10);
    return (s > RETRY_AFTER_MAX ? RETRY_AFTER_MAX : s) * (int64_t)1000;
}

static bool same_part(CURLU *a, CURLU *b, CURLUPart part)
{
    char *x = NULL, *y = NULL;
    const unsigned flags = part == CURLUPART_PORT ? CURLU_DEFAULT_PORT : 0;
    const bool same = !curl_url_get(a, part, &x, flags) && !curl_url_get(b, part, &y, flags) &&
                      !strcasecmp(x, y);
    curl_free(x);
    curl_free(y);
    return same;
}

/* The URL of the answer plus its Location. */
static spt_status resolve(struct transfer *t, const char *location, spt_err *err)
{
    CURLU *old = curl_url(), *new = curl_url();
    char *text = NULL;
    spt_status st = SPT_OK;
    if (!old || !new || curl_url_set(old, CURLUPART_URL, buf_str(&t->r->url), 0) ||
        curl_url_set(new, CURLUPART_URL, buf_str(&t->r->url), 0) ||
        curl_url_set(new, CURLUPART_URL, location, 0) ||
        curl_url_get(new, CURLUPART_URL, &text, 0))
        st = err_set(err, SPT_E_IO, "the server redirects to an address that cannot be read");
    else if (!is_https(text) && strncasecmp(text, "http://", 7))
        st = err_set(err, SPT_E_IO,
                     "the server redirects to an address that is neither http nor https");
    else if (!is_https(text) && is_https(buf_str(&t->r->url)))
        st = err_set(err, SPT_E_IO, "the server redirects from https to an address that is not");
    if (!st) {
        t->send_bearer = t->send_bearer && same_part(old, new, CURLUPART_SCHEME) &&
                         same_part(old, new, CURLUPART_HOST) &&
                         same_part(old, new, CURLUPART_PORT);
        buf_clear(&t->r->url);
        buf_adds(&t->r->url, text);
        st = buf_status(&t->r->url, "a redirect", err);
    }
    curl_free(text);
    curl_url_cleanup(old);
    curl_url_cleanup(new);
    return st;
}

static bool wants_redirect(const struct transfer *t, int status, const char *location)
{
    if (t->q->follow == HTTP_NO_FOLLOW || status < 301 || status > 308 ||
        (status > 303 && status < 307))
        return false;
    const bool relative = !strstr(location, "://") && strncmp(location, "//", 2);
    return t->q->follow == HTTP_FOLLOW || relative;
}

static spt_status redirect(struct transfer *t, int status, const char *location, spt_err *err)
{
    if (++t->redirects > MAX_REDIRECTS)
        return err_set(err, SPT_E_IO, "more than %d redirects", MAX_REDIRECTS);
    TRY(resolve(t, location, err));
    if (status == 303 || (status < 303 && (t->q->body || t->q->has_body)))
        t->as_get = true;
    buf_clear(&t->r->body);
    t->r->tries--;
    t->phase = READY;
    return SPT_OK;
}

static void finish(struct transfer *t, int status)
{
    char text[128];
    curl_off_t length = -1;
    if (!t->body_begun && status / 100 == 2) { /* an empty body, or HEAD */
        curl_easy_getinfo(t->easy, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        t->r->total = length >= 0 ? (uint64_t)length : UINT64_MAX;
    }
    t->r->status = status;
    if (http_header(t->r, "Date", text, sizeof text)) {
        const time_t when = curl_getdate(text, NULL);
        t->r->date = when > 0 ? (int64_t)when : 0;
    }
    t->phase = DONE;
}

static spt_status answered(struct transfer *t, spt_err *err)
{
    const int status = status_of(t);
    char cause[128], number[64], location[8192];
    TRY(buf_status(&t->r->headers, "headers", err)); /* none is missing */
    if (may_retry(status)) {
        snprintf(cause, sizeof cause, "the server answered %s",
                 http_status_text(status, number, sizeof number));
        return try_again(t, cause, t->client->retries, retry_after_ms(t->r), err);
    }
    if (status / 100 == 3 && http_header(t->r, "Location", location, sizeof location) &&
        wants_redirect(t, status, location))
        return redirect(t, status, location, err);
    if (t->resumed && (status == 412 || status == 416)) {
        t->validator[0] = '\0';
        return try_again(t, "the file changed", t->client->retries, 0, err);
    }
    if (t->deliver && t->end != UINT64_MAX && t->at < t->end) {
        note_validator(t); /* a shorter piece than asked for: the rest in another request */
        return try_again(t, "the server sent a part only", t->client->retries, 0, err);
    }
    finish(t, status);
    return SPT_OK;
}

static spt_status end_try(struct transfer *t, CURLcode rc, spt_err *err)
{
    spt_status st;
    if (t->failed) {
        if (err)
            *err = t->why;
        st = t->failed;
    } else if (rc) {
        if (t->deliver)
            note_validator(t);
        st = curl_failed(t, rc, err);
    } else {
        st = answered(t, err);
    }
    let_go(t);
    return st;
}

/* --- the loop ------------------------------------------------------------------------------- */

static spt_status name_failure(const struct transfer *t, spt_status st, spt_err *err)
{
    buf text = {0};
    const char *what = what_of(t->q, &text);
    if (st && st != SPT_E_INTERRUPTED)
        st = err_wrap(err, st, "%s", what);
    buf_release(&text);
    return st;
}

static spt_status collect(http_client *c, size_t *running, spt_err *err)
{
    int left;
    for (CURLMsg *m; (m = curl_multi_info_read(c->multi, &left));) {
        char *p = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &p);
        struct transfer *t = (struct transfer *)(void *)p;
        --*running;
        TRY(name_failure(t, end_try(t, m->data.result, err), err));
    }
    return SPT_OK;
}

/* Starts what may run; *next: when the earliest of the waiting wants to go on. */
static spt_status start_some(struct transfer *t, size_t count, size_t parallel, size_t *running,
                             int64_t *next, bool *all_done, spt_err *err)
{
    const int64_t now = os_monotonic_ns();
    *next = INT64_MAX;
    *all_done = true;
    for (size_t i = 0; i < count; i++) {
        if (t[i].phase == DONE)
            continue;
        *all_done = false;
        if (t[i].phase == WAITING && t[i].due <= now)
            t[i].phase = READY;
        if (t[i].phase == WAITING && t[i].due < *next)
            *next = t[i].due;
        if (t[i].phase != READY || *running == parallel)
            continue;
        TRY(name_failure(&t[i], begin_try(&t[i], err), err));
        ++*running;
    }
    return SPT_OK;
}

static spt_status tell(const struct transfer *t, size_t count, spt_err *err)
{
    for (size_t i = 0; i < count; i++)
        if (t[i].q->progress && t[i].phase != DONE &&
            !t[i].q->progress(t[i].q->progress_ctx, t[i].at - t[i].start, t[i].r->total))
            return err_set(err, SPT_E_INTERRUPTED, "interrupted");
    return SPT_OK;
}

/* libcurl's own speed limit looks at the mean of some seconds, and at its own clock. */
static bool stalled(struct transfer *t, int64_t now)
{
    curl_off_t up = 0, down = 0;
    long head = 0;
    curl_easy_getinfo(t->easy, CURLINFO_SIZE_UPLOAD_T, &up);
    curl_easy_getinfo(t->easy, CURLINFO_SIZE_DOWNLOAD_T, &down);
    curl_easy_getinfo(t->easy, CURLINFO_HEADER_SIZE, &head);
    const uint64_t heard = (uint64_t)up + (uint64_t)down + (uint64_t)head;
    if (heard != t->heard) {
        t->heard = heard;
        t->heard_at = now;
    }
    const int limit = t->q->timeout_s ? t->q->timeout_s : t->client->timeout_s;
    return now - t->heard_at > limit * 1000 * MS;
}

static spt_status end_stalled(struct transfer *t, size_t count, size_t *running, spt_err *err)
{
    const int64_t now = os_monotonic_ns();
    for (size_t i = 0; i < count; i++) {
        if (t[i].phase != RUNNING || !stalled(&t[i], now))
            continue;
        snprintf(t[i].curl_text, sizeof t[i].curl_text, "no byte for %lld s",
                 (long long)((now - t[i].heard_at) / (1000 * MS)));
        --*running;
        TRY(name_failure(&t[i], end_try(&t[i], CURLE_OPERATION_TIMEDOUT, err), err));
    }
    return SPT_OK;
}

static spt_status loop(http_client *c, struct transfer *t, size_t count, size_t parallel,
                       spt_err *err)
{
    size_t running = 0;
    int64_t told = 0;
    for (;;) {
        int64_t next;
        bool done;
        TRY(start_some(t, count, parallel, &running, &next, &done, err));
        if (done)
            return SPT_OK;
        const int64_t now = os_monotonic_ns();
        int64_t wait = next == INT64_MAX ? POLL_MS * MS : next - now;
        wait = wait > POLL_MS * MS ? POLL_MS * MS : wait < 0 ? 0 : wait;
        if (running) {
            int still;
            CURLMcode m = curl_multi_perform(c->multi, &still);
            const size_t before = running;
            if (!m)
                TRY(collect(c, &running, err));
            if (!m && running == before)
                m = curl_multi_poll(c->multi, NULL, 0, (int)(wait / MS) + 1, NULL);
            if (m)
                return err_set(err, m == CURLM_OUT_OF_MEMORY ? SPT_E_NOMEM : SPT_E_IO,
                               "libcurl: %s", curl_multi_strerror(m));
        } else if (wait) {
            os_sleep_ns(wait);
        }
        if (now - told > POLL_MS * MS) {
            TRY(tell(t, count, err));
            TRY(end_stalled(t, count, &running, err));
            told = now;
        }
    }
}

spt_status http_run_all(http_client *c, const struct http_request *q, struct http_response *r,
                        size_t count, size_t parallel, spt_err *err)
{
    if (!count)
        return SPT_OK;
    struct transfer *t = mem_zalloc(count, sizeof *t);
    if (!t)
        return err_nomem(err, count * sizeof *t);
    spt_status st = SPT_OK;
    for (size_t i = 0; i < count && !st; i++) {
        t[i].q = &q[i];
        t[i].r = &r[i];
        t[i].client = c;
        t[i].start = t[i].at = t[i].farthest = q[i].ranged ? q[i].first : 0;
        t[i].end = UINT64_MAX;
        t[i].send_bearer = q[i].bearer && q[i].bearer[0];
        r[i].status = r[i].tries = 0;
        r[i].size = 0;
        r[i].total = UINT64_MAX;
        r[i].partial = false;
        r[i].date = 0;
        buf_clear(&r[i].body);
        buf_clear(&r[i].headers);
        buf_clear(&r[i].url);
        buf_adds(&r[i].url, q[i].url);
        st = buf_status(&r[i].url, "a URL", err);
    }
    if (!parallel)
        parallel = http_parallel();
    if (parallel > MAX_HANDLES)
        parallel = MAX_HANDLES;
    if (!st)
        st = loop(c, t, count, parallel, err);
    for (size_t i = 0; i < count; i++)
        let_go(&t[i]);
    mem_free(t);
    return st;
}

spt_status http_run(http_client *c, const struct http_request *q, struct http_response *r,
                    spt_err *err)
{
    return http_run_all(c, q, r, 1, 1, err);
}

const char *http_library_version(void)
{
    return curl_version_info(CURLVERSION_NOW)->version;
}
