/* The one HTTP client, over libcurl: buckets, https:// files, model hubs and downloads use it.
 *
 *     http_client *c = NULL;
 *     struct http_response r;
 *     TRY(http_client_new(&c, err));
 *     const struct http_request q = {.url = "https://host/file", .what = "the model"};
 *     http_response_init(&r);
 *     st = http_run(c, &q, &r, err);
 *     if (!st && r.status == 404) ...                 any final status is an answer, not a failure
 *     if (!st && r.status / 100 != 2) st = http_status_error(&q, &r, err);
 *     use(buf_str(&r.body), r.body.len);
 *     http_response_release(&r);
 *     http_client_free(c);
 *
 * What it does for every request:
 * - 408, 429, 500, 502, 503, 504, dropped, cut and stalled transfers are tried again, with
 *   exponential backoff and jitter (0.5 s doubling to 32 s; Retry-After is obeyed up to 60 s). A
 *   try that brought bytes beyond the farthest so far starts counting anew. When the limit is
 *   reached: SPT_E_IO that names the last cause.
 * - A GET that broke off continues with a Range request when the server gave a strong ETag or a
 *   Last-Modified time (sent as If-Range, so that a changed file starts over instead of mixing).
 * - A body is complete: its length is checked against Content-Length (chunked ones by their end).
 * - TLS is verified, always, against the system's certificates, or the file in SSL_CERT_FILE or
 *   CURL_CA_BUNDLE. Proxies come from the usual variables (https_proxy, no_proxy, ...).
 * - Redirects (at most 10): to https or from loopback only; `bearer` is dropped when scheme, host
 *   or port change. It is never sent over plain http, except to loopback addresses.
 * - Error messages never hold a query string, a user name in a URL, or `bearer`.
 *
 * Variables: SPT_HTTP_TIMEOUT (seconds without a byte until a transfer counts as stalled, 30),
 * SPT_HTTP_RETRIES (tries after the first, 7), SPT_HTTP_PARALLEL (connections at a time, 8).
 *
 * libcurl allocates and calls the system behind our back (rulings 26); its failures become
 * SPT_E_NOMEM or SPT_E_IO. */
#ifndef SPT_FS_HTTP_H
#define SPT_FS_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

/* Connections kept open between requests. Used by one thread at a time; make one per thread. */
typedef struct http_client http_client;
spt_status http_client_new(http_client **out, spt_err *err);
void http_client_free(http_client *c); /* accepts NULL */

/* Receives the body of a 2xx answer in order. `offset` counts from the start of the file (of the
 * resource, not of the requested range) and usually grows without gaps; when a transfer had to start
 * over it falls back to where the request began, and the receiver forgets what it had. Anything but
 * SPT_OK ends the request with that status. */
typedef spt_status (*http_sink_fn)(void *ctx, uint64_t offset, const void *p, size_t n,
                                   spt_err *err);
/* Called now and then, at least once a second while waiting: bytes of the body so far, and the whole
 * (UINT64_MAX: unknown). False cancels: SPT_E_INTERRUPTED. */
typedef bool (*http_progress_fn)(void *ctx, uint64_t done, uint64_t total);

enum http_follow {
    HTTP_FOLLOW,          /* all redirects */
    HTTP_FOLLOW_RELATIVE, /* those that name no host (a renamed repository); others are the answer */
    HTTP_NO_FOLLOW,       /* a 3xx is the answer */
};

struct http_request {
    const char *url;    /* http:// or https:// */
    const char *method; /* NULL: GET, or POST when there is a body. HEAD has no body */
    const char *what;   /* for messages and the log ("the model's config.json"); NULL: the URL */
    const char *const *headers; /* "Name: value", without Authorization and Range */
    size_t header_count;
    const char *bearer; /* token for "Authorization: Bearer", or NULL */
    const void *body;   /* sent with Content-Length; must outlive the call */
    size_t body_size;
    bool has_body;      /* an empty body that still counts as one (PUT of nothing) */
    bool ranged;        /* bytes first..last (inclusive; last may be UINT64_MAX) of the file */
    uint64_t first, last;
    enum http_follow follow;
    http_sink_fn sink; /* NULL: the body lands in response.body, at most max_body bytes of it */
    void *sink_ctx;
    size_t max_body;   /* 0: 16 MiB; a longer body is SPT_E_FORMAT */
    http_progress_fn progress; /* NULL: none */
    void *progress_ctx;
    bool once;         /* never try again (libcurl itself still repeats what a connection that had been in
                          use dropped without a byte of answer) */
    bool impatient;    /* give up on connecting after one second (looking whether a host exists) */
    int timeout_s;     /* stall limit of this request in seconds; 0: the general one */
};

struct http_response {
    int status;      /* of the final answer */
    buf body;        /* without a sink, or of an answer that is not 2xx (at most 64 KiB then) */
    buf headers;     /* of the final answer, one "Name: value\n" per line; http_header() */
    uint64_t size;   /* bytes of the body received by this request (all pieces together) */
    uint64_t total;  /* size of the whole file by Content-Range or Content-Length; UINT64_MAX: unknown */
    bool partial;    /* a 206: the server honours ranges */
    buf url;         /* where the answer came from, after redirects; may hold signatures: never log */
    int64_t date;    /* Date of the server, seconds since 1970; 0 when absent */
    int tries;       /* requests sent, redirects not counted */
};
void http_response_init(struct http_response *r);
void http_response_release(struct http_response *r); /* accepts an initialised or all-zero object */

/* SPT_OK with any final status; SPT_E_IO: no answer, after all tries; SPT_E_NOMEM; SPT_E_USAGE: a URL
 * that cannot be; SPT_E_FORMAT: body over max_body; or what the sink returned. */
spt_status http_run(http_client *c, const struct http_request *q, struct http_response *r,
                    spt_err *err);
/* Several at a time, at most `parallel` (0: the default). Stops at the first failure, which is what
 * it returns; the answers r[i] (initialised) are then partly there. */
spt_status http_run_all(http_client *c, const struct http_request *q, struct http_response *r,
                        size_t count, size_t parallel, spt_err *err);

/* Value of a header (any case) of the final answer, copied into `out`; false when absent. */
bool http_header(const struct http_response *r, const char *name, char *out, size_t cap);
/* SPT_E_NOTFOUND for 404 and 410, SPT_E_CONFIG for 401 and 403, else SPT_E_IO: "<what>: the server
 * answered 403 (Forbidden)" and the first line of a plain-text or JSON "message" when there is one. */
spt_status http_status_error(const struct http_request *q, const struct http_response *r,
                             spt_err *err);
/* "404 (Not Found)" into text; returns it. */
const char *http_status_text(int status, char *text, size_t cap);

/* --- text --- */

/* Appends s with everything but unreserved characters as %XX; '/' stays when `keep_slash`. */
void http_add_escaped(buf *out, const char *s, bool keep_slash);
/* The URL without query, fragment and user: what may be shown. */
void http_add_shown(buf *out, const char *url);
/* Is this URL's host a loopback address or "localhost"? */
bool http_is_loopback(const char *url);
/* Milliseconds to wait before try number `n` (1: the first repetition): 500 * 2^(n-1), at most
 * 32,000, times a factor in [0.5, 1) drawn from `random`. */
int64_t http_backoff_ms(int n, uint64_t random);
/* Connections at a time by default. */
size_t http_parallel(void);
const char *http_library_version(void); /* "8.5.0" */

#endif
