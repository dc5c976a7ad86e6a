/* fs/http.h against the server of tests/server with its faults. */
#define _GNU_SOURCE
#include "support/quick_clock.h"
#include "support/server.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/http.h"
#include "os/os.h"

enum { BIG = 1000003 };

static struct test_server server;
static const char *dir;
static unsigned char *big;
static http_client *client;

static char *logged;

static void sink_log(void *ctx, enum log_level level, const char *line)
{
    const size_t n = logged ? strlen(logged) : 0;
    logged = realloc(logged, n + strlen(line) + 2);
    sprintf(logged + n, "%s\n", line);
}

static int setup(void **state)
{
    spt_err err;
    setenv("SPT_HTTP_TIMEOUT", "1", 1);
    big = test_noise(BIG, 1);
    dir = test_tmpdir();
    test_write(test_path(dir, "big"), big, BIG);
    test_write(test_path(dir, "small"), "hello", 5);
    test_write(test_path(dir, "empty"), "", 0);
    test_server_start(&server, (const char *[]){"--files", dir, "--empty-bucket", "b", NULL});
    test_quick_clock(0);
    log_set_sink(sink_log, NULL);
    EXPECT_OK(http_client_new(&client, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    http_client_free(client);
    test_server_stop(&server);
    free(big);
    free(logged);
    return 0;
}

/* A rotating URL on the server. */
static const char *at(const char *path)
{
    static char url[8][512];
    static int k;
    snprintf(url[k = (k + 1) % 8], sizeof url[0], "%s%s", server.url, path);
    return url[k];
}

static void faults(const char *json)
{
    test_server_control(&server, "clear", NULL);
    test_server_control(&server, "faults", json);
}

static struct http_response r;

static spt_status run(struct http_request q, spt_err *err)
{
    http_response_release(&r);
    http_response_init(&r);
    return http_run(client, &q, &r, err);
}

static void expect_big(struct http_request q)
{
    spt_err err;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.status, 200 + 6 * (r.partial ? 1 : 0));
    EXPECT_EQ_I64(r.body.len, BIG);
    EXPECT_TRUE(!memcmp(r.body.data, big, BIG));
}

static void plain(void **state)
{
    spt_err err;
    faults("[]");
    EXPECT_OK(run((struct http_request){.url = at("/files/small")}, &err), &err);
    EXPECT_EQ_I64(r.status, 200);
    EXPECT_STR(buf_str(&r.body), "hello");
    EXPECT_EQ_I64(r.total, 5);
    EXPECT_TRUE(r.date > 1500000000);
    char text[64];
    EXPECT_TRUE(http_header(&r, "etag", text, sizeof text) && text[0] == '"');
    EXPECT_TRUE(!http_header(&r, "X-None", text, sizeof text));
    EXPECT_TRUE(!http_header(&r, "etag", text, 3));
    EXPECT_OK(run((struct http_request){.url = at("/files/empty")}, &err), &err);
    EXPECT_EQ_I64(r.status, 200);
    EXPECT_EQ_I64(r.body.len, 0);
    EXPECT_EQ_I64(r.total, 0);
    EXPECT_OK(run((struct http_request){.url = at("/files/big"), .method = "HEAD"}, &err), &err);
    EXPECT_EQ_I64(r.total, BIG);
    EXPECT_EQ_I64(r.body.len, 0);
    const struct http_request none = {.url = at("/files/none?secret=1"), .what = NULL};
    EXPECT_OK(run(none, &err), &err);
    EXPECT_EQ_I64(r.status, 404);
    EXPECT_STATUS(http_status_error(&none, &r, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "404 (Not Found): no such file");
    EXPECT_TRUE(!strstr(err.msg, "secret"));
    EXPECT_STATUS(run((struct http_request){.url = at("/files/big"), .max_body = 1000}, &err),
                  SPT_E_FORMAT);
    expect_big((struct http_request){.url = at("/files/big?chunked=1")});
    EXPECT_STATUS(run((struct http_request){.url = "ftp://127.0.0.1/x"}, &err), SPT_E_USAGE);
    EXPECT_STATUS(run((struct http_request){.url = "http://"}, &err), SPT_E_USAGE);
}

static void ranges(void **state)
{
    spt_err err;
    faults("[]");
    struct http_request q = {.url = at("/files/big"), .ranged = true, .first = 1000, .last = 1999};
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.status, 206);
    EXPECT_TRUE(r.partial);
    EXPECT_EQ_I64(r.body.len, 1000);
    EXPECT_EQ_I64(r.total, BIG);
    EXPECT_TRUE(!memcmp(r.body.data, big + 1000, 1000));
    q.first = BIG - 10;
    q.last = UINT64_MAX;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.body.len, 10);
    q.first = BIG;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.status, 416);
    q = (struct http_request){.url = at("/files/big?noranges=1"), .ranged = true, .first = 5, .last = 9};
    expect_big(q); /* everything, and it says so */
    EXPECT_TRUE(!r.partial);
}

/* Dropped, cut and stalled transfers continue where they stopped. */
static void resumes(void **state)
{
    const char *const rules[] = {
        "[{\"do\": \"drop\", \"count\": 4}]",
        "[{\"do\": \"drop\", \"after\": 300000}]",
        "[{\"do\": \"truncate\", \"after\": 999999}]",
        "[{\"do\": \"truncate\", \"after\": 100000, \"count\": 5}]",
        "[{\"do\": \"stall\", \"after\": 5000, \"seconds\": 20}]",
        "[{\"do\": \"stall\", \"after\": 0, \"seconds\": 20}]",
        "[{\"do\": \"status\", \"status\": 503, \"count\": 3}]",
        ("[{\"do\": \"status\", \"status\": 429, \"headers\": {\"Retry-After\": \"7\"}},"
         " {\"do\": \"status\", \"status\": 408}, {\"do\": \"status\", \"status\": 500}]"),
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        faults(rules[i]);
        (void)test_slept_ns();
        expect_big((struct http_request){.url = at("/files/big")});
        EXPECT_TRUE(r.tries > 1);
        const int64_t slept = test_slept_ns();
        EXPECT_TRUE(slept >= 200000000);
        if (strstr(rules[i], "Retry-After"))
            EXPECT_TRUE(slept >= 7000000000);
        faults(rules[i]);
        expect_big((struct http_request){.url = at("/files/big?noetag=1")}); /* starts over */
        faults(rules[i]);
        expect_big((struct http_request){.url = at("/files/big?noranges=1")});
    }
    faults("[{\"do\": \"truncate\", \"after\": 400000}]");
    expect_big((struct http_request){.url = at("/files/big")});
    EXPECT_EQ_I64(r.size, BIG); /* no byte twice */
    char *log = test_server_log(&server);
    EXPECT_TRUE(strstr(log, "bytes=400000-") != NULL);
    mem_free(log);
    /* within a range as well */
    spt_err err;
    faults("[{\"do\": \"truncate\", \"after\": 1500}]");
    EXPECT_OK(run((struct http_request){.url = at("/files/big"), .ranged = true, .first = 7, .last = 9006},
                  &err), &err);
    EXPECT_EQ_I64(r.body.len, 9000);
    EXPECT_TRUE(!memcmp(r.body.data, big + 7, 9000));
    log = test_server_log(&server);
    EXPECT_TRUE(strstr(log, "bytes=1507-9006") != NULL);
    mem_free(log);
}

/* A file that changes while a transfer is broken off starts over; nothing is mixed. */
static void changed_between(void **state)
{
    const char *path = test_path(dir, "changing");
    test_write(path, big, BIG);
    /* replaced while the transfer stalls */
    faults("[{\"do\": \"stall\", \"after\": 600000, \"seconds\": 20}]");
    spt_err err;
    test_write(test_path(dir, "other"), big + 1, BIG - 1);
    struct http_request q = {.url = at("/files/changing")};
    http_response_release(&r);
    http_response_init(&r);
    char command[1200];
    snprintf(command, sizeof command, "(sleep 0.4; mv %s %s) &",
             test_path(dir, "other"), path);
    EXPECT_EQ_I64(system(command), 0);
    EXPECT_OK(http_run(client, &q, &r, &err), &err);
    EXPECT_EQ_I64(r.body.len, BIG - 1);
    EXPECT_TRUE(!memcmp(r.body.data, big + 1, BIG - 1));
}

static void gives_up(void **state)
{
    spt_err err;
    faults("[{\"do\": \"status\", \"status\": 503, \"count\": -1}]");
    EXPECT_STATUS(run((struct http_request){.url = at("/files/big?key=secret"), .what = "the file"}, &err),
                  SPT_E_IO);
    EXPECT_MSG(&err, "the file: the server answered 503 (Service Unavailable) (given up after 8 tries)");
    EXPECT_EQ_I64(test_server_count(&server, "GET /files/big"), 8);
    EXPECT_TRUE(!logged || !strstr(logged, "secret"));
    faults("[{\"do\": \"status\", \"status\": 503, \"count\": -1}]");
    EXPECT_STATUS(run((struct http_request){.url = at("/files/big"), .once = true}, &err), SPT_E_IO);
    EXPECT_EQ_I64(r.tries, 1);
    faults("[{\"do\": \"status\", \"status\": 403, \"count\": -1, \"body\": \"no\"}]");
    EXPECT_OK(run((struct http_request){.url = at("/files/big")}, &err), &err);
    EXPECT_EQ_I64(r.tries, 1); /* not worth another try */
    EXPECT_STATUS(run((struct http_request){.url = "http://127.0.0.1:9/x?a=secret"}, &err), SPT_E_IO);
    EXPECT_EQ_I64(r.tries, 4);
    EXPECT_MSG(&err, "http://127.0.0.1:9/x: ");
    EXPECT_TRUE(!strstr(err.msg, "secret"));
    EXPECT_TRUE(!logged || !strstr(logged, "secret"));
    EXPECT_STATUS(run((struct http_request){.url = "http://127.0.0.1:9/", .impatient = true}, &err),
                  SPT_E_IO);
    EXPECT_EQ_I64(r.tries, 1);
}

static void redirects(void **state)
{
    spt_err err;
    char url[600];
    faults("[]");
    EXPECT_OK(run((struct http_request){.url = at("/files/small?redirect=3")}, &err), &err);
    EXPECT_STR(buf_str(&r.body), "hello");
    EXPECT_EQ_I64(r.tries, 1);
    EXPECT_STATUS(run((struct http_request){.url = at("/files/small?redirect=11")}, &err), SPT_E_IO);
    EXPECT_MSG(&err, "redirects");
    EXPECT_OK(run((struct http_request){.url = at("/files/small?redirect=1"), .follow = HTTP_NO_FOLLOW},
                  &err), &err);
    EXPECT_EQ_I64(r.status, 302);
    EXPECT_OK(run((struct http_request){.url = at("/files/small?redirect=2"),
                                        .follow = HTTP_FOLLOW_RELATIVE}, &err), &err);
    EXPECT_EQ_I64(r.status, 200);
    /* The same host keeps the token, another one does not get it. */
    struct http_request q = {.url = at("/files/small?redirect=1"), .bearer = "token-1234"};
    EXPECT_OK(run(q, &err), &err);
    char *log = test_server_log(&server);
    EXPECT_TRUE(strstr(log, "Bearer token-1234") != NULL);
    mem_free(log);
    snprintf(url, sizeof url, "%s/files/small?redirect=http://localhost:%d/files/small", server.url,
             server.port);
    q.url = url;
    test_server_control(&server, "clear", NULL);
    EXPECT_OK(run(q, &err), &err);
    EXPECT_STR(buf_str(&r.body), "hello");
    log = test_server_log(&server);
    const char *first = strstr(log, "Bearer token-1234");
    EXPECT_TRUE(first && !strstr(first + 1, "Bearer token-1234"));
    mem_free(log);
    q.follow = HTTP_FOLLOW_RELATIVE;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.status, 302);
    EXPECT_STATUS(run((struct http_request){.url = "http://198.51.100.7/x", .bearer = "t"}, &err),
                  SPT_E_USAGE);
    EXPECT_MSG(&err, "never sent over plain http");
    EXPECT_STATUS(run((struct http_request){.url = at("/files/small?redirect=file:///etc/passwd")}, &err),
                  SPT_E_IO);
}

struct collected {
    unsigned char *bytes;
    uint64_t next;
    int restarts, calls;
    spt_status refuse;
};

static spt_status collect(void *ctx, uint64_t offset, const void *p, size_t n, spt_err *err)
{
    struct collected *c = ctx;
    c->calls++;
    if (c->refuse)
        return err_set(err, c->refuse, "enough");
    c->restarts += offset != c->next && c->next;
    memcpy(c->bytes + offset, p, n);
    c->next = offset + n;
    return SPT_OK;
}

static bool cancel(void *ctx, uint64_t done, uint64_t total)
{
    return false;
}

static void sinks(void **state)
{
    spt_err err;
    struct collected c = {.bytes = calloc(1, BIG)};
    struct http_request q = {.url = at("/files/big"), .sink = collect, .sink_ctx = &c};
    faults("[{\"do\": \"truncate\", \"after\": 123456}]");
    EXPECT_OK(run(q, &err), &err);
    EXPECT_TRUE(!memcmp(c.bytes, big, BIG));
    EXPECT_EQ_I64(c.restarts, 0);
    EXPECT_EQ_I64(r.body.len, 0);
    q.url = at("/files/big?noetag=1");
    faults("[{\"do\": \"truncate\", \"after\": 123456}]");
    c.next = 0;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_TRUE(!memcmp(c.bytes, big, BIG));
    EXPECT_EQ_I64(c.restarts, 1);
    c.refuse = SPT_E_FORMAT;
    EXPECT_STATUS(run(q, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "enough");
    q = (struct http_request){.url = at("/files/none"), .sink = collect, .sink_ctx = &c};
    c.calls = 0;
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(c.calls, 0); /* an error's body is no content */
    EXPECT_STR(buf_str(&r.body), "no such file");
    faults("[{\"do\": \"stall\", \"after\": 10, \"seconds\": 5}]");
    EXPECT_STATUS(run((struct http_request){.url = at("/files/big"), .progress = cancel}, &err),
                  SPT_E_INTERRUPTED);
    free(c.bytes);
}

static void many(void **state)
{
    enum { N = 40 };
    spt_err err;
    struct http_request q[N];
    struct http_response a[N];
    faults("[{\"do\": \"truncate\", \"after\": 1000, \"count\": 4}, {\"do\": \"status\", \"status\": 503,"
           "\"count\": 5}, {\"do\": \"drop\", \"count\": 4}]");
    for (size_t i = 0; i < N; i++) {
        q[i] = (struct http_request){.url = at("/files/big"), .ranged = true, .first = i * 25000,
                                     .last = i * 25000 + 24999};
        q[i].url = strdup(q[i].url);
        http_response_init(&a[i]);
    }
    EXPECT_OK(http_run_all(client, q, a, N, 6, &err), &err);
    for (size_t i = 0; i < N; i++) {
        EXPECT_EQ_I64(a[i].body.len, 25000);
        EXPECT_TRUE(!memcmp(a[i].body.data, big + i * 25000, 25000));
        http_response_release(&a[i]);
        http_response_init(&a[i]);
    }
    char *last = (char *)q[20].url;
    q[20].url = at("/files/none");
    q[21].max_body = 3;
    EXPECT_STATUS(http_run_all(client, q, a, N, 0, &err), SPT_E_FORMAT);
    q[20].url = last;
    for (size_t i = 0; i < N; i++) {
        free((char *)q[i].url);
        http_response_release(&a[i]);
    }
}

static void bodies(void **state)
{
    spt_err err;
    static const char text[] = "some bytes";
    const char *const headers[] = {"Content-Type: text/plain"};
    struct http_request q = {.url = at("/upload/storage/v1/b/b/o?uploadType=media&name=x"),
                             .headers = headers, .header_count = 1, .body = text, .body_size = 10};
    faults("[{\"do\": \"status\", \"status\": 503}, {\"do\": \"drop\", \"count\": 2}]");
    EXPECT_OK(run(q, &err), &err);
    EXPECT_EQ_I64(r.status, 200);
    EXPECT_TRUE(r.tries > 1); /* libcurl itself repeats what a used connection dropped */
    EXPECT_OK(run((struct http_request){.url = at("/storage/v1/b/b/o/x?alt=media")}, &err), &err);
    EXPECT_STR(buf_str(&r.body), "some bytes");
    EXPECT_OK(run((struct http_request){.url = at("/storage/v1/b/b/o/x"), .method = "DELETE"}, &err), &err);
    EXPECT_EQ_I64(r.status, 204);
}

static spt_status whole_case(void *ctx, spt_err *err)
{
    http_client *c = NULL;
    struct http_response a;
    const struct http_request q = {.url = ctx, .bearer = "secret", .what = NULL};
    http_response_init(&a);
    spt_status st = http_client_new(&c, err);
    if (!st)
        st = http_run(c, &q, &a, err);
    if (!st)
        EXPECT_EQ_I64(a.body.len, 5);
    http_client_free(c);
    http_response_release(&a);
    return st;
}

static void out_of_memory(void **state)
{
    faults("[]");
    EXPECT_TRUE(fault_every_alloc(whole_case, (void *)at("/files/small")) > 3);
    test_quick_clock(0);
}

static void texts(void **state)
{
    buf b;
    buf_init(&b, 1000);
    http_add_escaped(&b, "a b/c\xc3\xa9?#%", true);
    EXPECT_STR(buf_str(&b), "a%20b/c%C3%A9%3F%23%25");
    buf_clear(&b);
    http_add_escaped(&b, "a/b", false);
    EXPECT_STR(buf_str(&b), "a%2Fb");
    static const char *const shown[][2] = {
        {"https://h/p?x=1#f", "https://h/p"},
        {"https://me:pw@h:8/p", "https://h:8/p"},
        {"https://a@b@h", "https://h"},
        {"https://h/a@b", "https://h/a@b"},
        {"h/p?x", "h/p"},
    };
    for (size_t i = 0; i < sizeof shown / sizeof *shown; i++) {
        buf_clear(&b);
        http_add_shown(&b, shown[i][0]);
        EXPECT_STR(buf_str(&b), shown[i][1]);
    }
    buf_release(&b);
    static const char *const loopback[] = {"http://localhost/x", "http://LOCALHOST:8/", "http://127.0.0.1",
                                           "http://127.9.9.9:1/x", "http://[::1]:5/x"};
    static const char *const away[] = {"http://localhost.evil/", "http://127.0.0.1.evil.com/",
                                       "http://localhost@evil/", "http://evil/localhost",
                                       "http://127.0.0.1\\@evil/", "http://[::2]/", "http://10.0.0.1/"};
    for (size_t i = 0; i < sizeof loopback / sizeof *loopback; i++)
        EXPECT_TRUE(http_is_loopback(loopback[i]));
    for (size_t i = 0; i < sizeof away / sizeof *away; i++)
        EXPECT_TRUE(!http_is_loopback(away[i]));
    for (int n = 1; n < 40; n++) {
        const int64_t whole = n < 7 ? 500 << (n - 1) : 32000;
        EXPECT_TRUE(http_backoff_ms(n, 0) == whole / 2);
        for (uint64_t x = 1; x < UINT64_MAX / 3; x *= 3)
            EXPECT_TRUE(http_backoff_ms(n, x) >= whole / 2 && http_backoff_ms(n, x) < whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts),      cmocka_unit_test(plain),     cmocka_unit_test(ranges),
        cmocka_unit_test(resumes),    cmocka_unit_test(changed_between),
        cmocka_unit_test(gives_up),   cmocka_unit_test(redirects), cmocka_unit_test(sinks),
        cmocka_unit_test(many),       cmocka_unit_test(bodies),    cmocka_unit_test(out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
