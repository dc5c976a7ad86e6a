/* Servers that lie, and caches that somebody else has been at: every answer here is an error that says what
 * is wrong, soon, with bounded memory, and nothing outside the cache is touched. */
#define _GNU_SOURCE
#include "support/quick_clock.h"
#include "support/server.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "codec/crc.h"
#include "fs/fs.h"
#include "fs/http.h"
#include "fs/savedir.h"
#include "os/os.h"

enum { BIG = 5 * 1048576 + 12345 };

static struct test_server server, tls;
static bool has_tls;
static const char *dir, *cache;
static unsigned char *big;
static spt_err err;
static struct fs_info info;
static fs_names names;
static fs_mapping map;

static int setup(void **state)
{
    char bucket[600], command[3000];
    big = test_noise(BIG, 7);
    dir = test_tmpdir();
    test_write(test_path(dir, "big"), big, BIG);
    test_write(test_path(dir, "small"), "hello", 5);
    snprintf(bucket, sizeof bucket, "data=%s", dir);
    test_server_start(&server, (const char *[]){"--bucket", bucket, "--files", dir, "--empty-bucket",
                                                "w", NULL});
    const char *own = test_tmpdir();
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey rsa:2048 -nodes -days 3 -keyout k.pem -out c.pem "
             "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null",
             own);
    has_tls = system(command) == 0;
    if (has_tls) {
        static char cert[600], key[600];
        snprintf(cert, sizeof cert, "%s/c.pem", own);
        snprintf(key, sizeof key, "%s/k.pem", own);
        setenv("SSL_CERT_FILE", cert, 1);
        test_server_start(&tls, (const char *[]){"--files", dir, "--tls", cert, key, NULL});
        snprintf(tls.url, sizeof tls.url, "https://localhost:%d", tls.port);
    }
    setenv("STORAGE_EMULATOR_HOST", server.host, 1);
    setenv("SPT_HTTP_TIMEOUT", "2", 1);
    setenv("SPT_HTTP_RETRIES", "2", 1);
    test_quick_clock(200);
    return 0;
}

static int teardown(void **state)
{
    fs_release();
    test_server_stop(&server);
    test_server_stop(&tls);
    free(big);
    return 0;
}

static void faults(const struct test_server *s, const char *json)
{
    test_server_control(s, "clear", NULL);
    test_server_control(s, "faults", json);
}

static void fresh_cache(void)
{
    cache = test_tmpdir();
    EXPECT_OK(fs_set_cache(cache, NULL, &err), &err);
}

static void shell(const char *format, ...)
{
    char command[2000];
    va_list ap;
    va_start(ap, format);
    vsnprintf(command, sizeof command, format, ap);
    va_end(ap);
    if (system(command) != 0)
        fail_msg("%s", command);
}

/* "https://localhost:PORT/files/<path>" */
static const char *secure(const char *path)
{
    static char url[600];
    snprintf(url, sizeof url, "%s/files/%s", tls.url, path);
    return url;
}

static void expect_big(const char *path)
{
    EXPECT_OK(fs_map(path, &map, &err), &err);
    EXPECT_EQ_I64(map.size, BIG);
    EXPECT_TRUE(!memcmp(map.bytes, big, BIG));
    fs_unmap(&map);
}

/* --- sizes ---------------------------------------------------------------------------------- */

static void sizes_of_objects(void **state)
{
    static const char *const size[] = {"18446744073709551615", "18446744073709027328",
                                       "99999999999999999999", "4611686018427387904",
                                       "1125899906842624", "5497558138881"};
    char rule[600];
    fresh_cache();
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        snprintf(rule, sizeof rule,
                 "[{\"path\": \"small\\\\?fields\", \"do\": \"status\", \"status\": 200, \"count\": -1, "
                 "\"body\": \"{\\\"generation\\\": \\\"5\\\", \\\"size\\\": \\\"%s\\\"}\"}]", size[i]);
        faults(&server, rule);
        EXPECT_STATUS(fs_map("gs://data/small", &map, &err), SPT_E_IO);
        EXPECT_MSG(&err, "which nothing has");
        EXPECT_STATUS(fs_stat("gs://data/small", &info, &err), SPT_E_IO);
    }
    /* The largest that a store can have costs little before its content does not come. */
    fs_release();
    fault_install();
    fresh_cache();
    snprintf(rule, sizeof rule,
             "[{\"path\": \"small\\\\?fields\", \"do\": \"status\", \"status\": 200, \"count\": -1, "
             "\"body\": \"{\\\"generation\\\": \\\"5\\\", \\\"size\\\": \\\"5497558138880\\\"}\"},"
             " {\"path\": \"media\", \"do\": \"status\", \"status\": 403, \"count\": -1}]");
    test_quick_clock(200);
    faults(&server, rule);
    fault_reset_peak();
    fs_file *f = NULL;
    char b[10];
    spt_status st = fs_open("gs://data/small", &f, &err);
    if (!st)
        st = fs_read_at(f, 0, b, 10, &err);
    EXPECT_STATUS(st, SPT_E_CONFIG);
    EXPECT_TRUE(fault_peak_bytes() < (size_t)64 << 20);
    if (f)
        fs_close(f);
    fs_release();
    fault_remove();
    test_quick_clock(200);
}

static void sizes_on_the_web(void **state)
{
    static const char *const range[] = {"bytes 0-0/*", "bytes 0-0/18446744073709551614",
                                        "bytes 0-0/18446744073709551616", "bytes 0-0/-1",
                                        "bytes 0--2/*", "bytes 0-0/5497558138881", "bytes 0-0/0",
                                        "bytes 0-0/7x"};
    char rule[900];
    if (!has_tls)
        skip();
    for (size_t i = 0; i < sizeof range / sizeof *range; i++) {
        fresh_cache();
        snprintf(rule, sizeof rule,
                 "[{\"method\": \"HEAD\", \"do\": \"status\", \"status\": 405, \"count\": -1},"
                 " {\"do\": \"status\", \"status\": 206, \"body\": \"t\", \"count\": -1,"
                 "  \"headers\": {\"Content-Range\": \"%s\", \"ETag\": \"\\\"s\\\"\"}}]", range[i]);
        faults(&tls, rule);
        EXPECT_STATUS(fs_map(secure("big"), &map, &err), SPT_E_IO);
        EXPECT_STATUS(fs_stat(secure("big"), &info, &err), SPT_E_IO);
    }
    fresh_cache();
    faults(&tls, "[{\"method\": \"HEAD\", \"do\": \"raw\", \"count\": -1, \"text\": \"HTTP/1.1 200 OK\\r\\n"
                 "Content-Length: 9223372036854775807\\r\\nAccept-Ranges: bytes\\r\\n\\r\\n\"}]");
    EXPECT_STATUS(fs_map(secure("big"), &map, &err), SPT_E_IO);
    EXPECT_MSG(&err, "which nothing has");
    faults(&tls, "[]");
    expect_big(secure("big"));
}

/* --- listings ------------------------------------------------------------------------------- */

static void listing_says(const char *body)
{
    char rule[1200];
    buf text;
    buf_init(&text, 1000);
    for (const char *p = body; *p; p++)
        *p == '"' || *p == '\\' ? buf_addf(&text, "\\%c", *p) : buf_addc(&text, *p);
    snprintf(rule, sizeof rule, "[{\"method\": \"GET\", \"path\": \"/o\\\\?maxResults\", \"do\": "
             "\"status\", \"status\": 200, \"count\": -1, \"body\": \"%s\"}]", buf_str(&text));
    buf_release(&text);
    faults(&server, rule);
}

static void names_of_listings(void **state)
{
    static const char *const bad[] = {
        "{\"items\": [{\"name\": \"x\", \"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"items\": [{\"name\": \"\", \"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"items\": [{\"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"items\": [{\"name\": \"other/dir/x\", \"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"items\": [{\"name\": \"some/dirx\", \"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"items\": [{\"name\": \"some/dir/a\\u0000b\", \"generation\": \"1\", \"size\": \"1\"}]}",
        "{\"prefixes\": [\"y/\"]}",
        "{\"prefixes\": [\"some/dir/y\"]}",
    };
    fresh_cache();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        listing_says(bad[i]);
        EXPECT_STATUS(fs_list("gs://w/some/dir", &names, &err), SPT_E_IO);
        EXPECT_MSG(&err, "nothing that lies below");
        EXPECT_STATUS(fs_remove_tree("gs://w/some/dir", &err), SPT_E_IO);
        EXPECT_STATUS(savedir_sweep("gs://w/some/dir", "state-", "MANIFEST", &err), SPT_E_IO);
        EXPECT_STATUS(fs_expect_below("gs://w/some/dir", &err), SPT_E_IO);
        if (i < 6)
            EXPECT_STATUS(fs_rename("gs://w/some/dir", "gs://w/to", &err), SPT_E_IO);
        EXPECT_EQ_I64(test_server_count(&server, "DELETE /storage/v1/b/w/o/x"), 0);
        EXPECT_EQ_I64(test_server_count(&server, "DELETE /storage/v1/b/w/o/other"), 0);
    }
    listing_says("{\"items\": [{\"name\": \"some/dir/x\", \"generation\": \"1\", \"size\": \"1\"}], "
                 "\"prefixes\": [\"some/dir/y/\"]}");
    EXPECT_OK(fs_list("gs://w/some/dir", &names, &err), &err);
    EXPECT_EQ_I64(names.count, 2);
    fs_names_free(&names);
    listing_says("{\"items\": [{\"name\": \"some/dir/x/y\", \"generation\": \"1\", \"size\": \"1\"}]}");
    EXPECT_STATUS(fs_list("gs://w/some/dir", &names, &err), SPT_E_IO); /* it is below a prefix */
    fs_release();
}

static void endless_listings(void **state)
{
    fresh_cache();
    listing_says("{\"nextPageToken\": \"again\"}");
    EXPECT_STATUS(fs_list("gs://w/dir", &names, &err), SPT_E_IO);
    EXPECT_MSG(&err, "comes to no end");
    EXPECT_EQ_I64(test_server_count(&server, "maxResults"), 2);
    listing_says("{\"nextPageToken\": \"again\", \"items\": [{\"name\": \"dir/x\", \"generation\": \"1\","
                 " \"size\": \"1\"}]}");
    EXPECT_STATUS(fs_list("gs://w/dir", &names, &err), SPT_E_IO);
    EXPECT_MSG(&err, "comes to no end");
    /* A new name for every page, and nothing on it. */
    test_server_control(&server, "endless?kind=empty", NULL);
    EXPECT_STATUS(fs_list("gs://w/dir", &names, &err), SPT_E_IO);
    EXPECT_MSG(&err, "comes to no end");
    EXPECT_TRUE(test_server_count(&server, "maxResults") <= LISTING_MAX_EMPTY + 2);
    /* Names without end. */
    faults(&server, "[]");
    test_server_control(&server, "endless?kind=names", NULL);
    fs_release();
    fault_install();
    fresh_cache();
    test_quick_clock(200);
    fault_reset_peak();
    EXPECT_STATUS(fs_list("gs://w/dir", &names, &err), SPT_E_IO);
    EXPECT_MSG(&err, "names, or 256 MB of them");
    EXPECT_TRUE(fault_peak_bytes() < (size_t)450 << 20);
    fs_release();
    fault_remove();
    test_quick_clock(200);
    faults(&server, "[]");
    test_server_control(&server, "endless?kind=none", NULL);
}

static void endless_copies(void **state)
{
    fresh_cache();
    test_server_control(&server, "put?bucket=w&name=from", "content");
    faults(&server, "[{\"path\": \"rewriteTo\", \"do\": \"status\", \"status\": 200, \"count\": -1, "
                    "\"body\": \"{\\\"done\\\": false, \\\"rewriteToken\\\": \\\"more\\\", "
                    "\\\"totalBytesRewritten\\\": \\\"1\\\"}\"}]");
    EXPECT_STATUS(fs_rename("gs://w/from", "gs://w/to", &err), SPT_E_IO);
    EXPECT_MSG(&err, "stopped half way");
    faults(&server, "[]");
    EXPECT_TRUE(fs_exists("gs://w/from"));
}

/* --- the cache ------------------------------------------------------------------------------ */

static const char tamper[] = /* changes byte 2,000,000 and makes the block's CRC agree */
    "import sys, struct\n"
    "sys.path.insert(0, 'tests/server')\n"
    "from crc32c import crc32c\n"
    "f = open(sys.argv[1], 'r+b')\n"
    "f.seek(2000000); b = f.read(1); f.seek(2000000); f.write(bytes([b[0] ^ 1]))\n"
    "f.seek(1 << 20); crc = crc32c(f.read(1 << 20))\n"
    "f.seek(0, 2); f.seek(f.tell() - 6 * 8 + 8); f.write(struct.pack('<II', crc, 1))\n";

static void tampered_copy(void **state)
{
    fresh_cache();
    faults(&server, "[]");
    const char *script = test_path(test_tmpdir(), "tamper.py");
    test_write(script, tamper, sizeof tamper - 1);
    expect_big("gs://data/big");
    for (int i = 0; i < 2; i++) {
        shell("python3 %s $(find %s/objects -type f)", script, cache);
        faults(&server, "[]");
        expect_big("gs://data/big");
        EXPECT_TRUE(test_server_count(&server, "alt=media") > 0);
        faults(&server, "[]");
        expect_big("gs://data/big"); /* mended */
        EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 0);
    }
    /* A damaged block whose replacement is damaged, too. */
    shell("f=$(find %s/objects -type f); printf X | dd of=$f bs=1 seek=3000000 conv=notrunc status=none",
          cache);
    faults(&server, "[{\"path\": \"media\", \"do\": \"corrupt\", \"after\": 7}]");
    expect_big("gs://data/big");
    EXPECT_TRUE(test_server_count(&server, "alt=media") > 1);
}

static void links_in_the_cache(void **state)
{
    const char *home = test_tmpdir();
    char precious[600];
    snprintf(precious, sizeof precious, "%s/precious", home);
    fresh_cache();
    faults(&server, "[]");
    expect_big("gs://data/big");
    test_write(precious, "do not touch", 12);
    shell("f=$(find %s/objects -type f); rm $f; ln -s %s $f", cache, precious);
    EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_IO);
    EXPECT_MSG(&err, "is a link or no file");
    shell("test \"$(cat %s)\" = 'do not touch'", precious);
    shell("f=$(find %s/objects -type l); rm $f; mkfifo $f", cache);
    EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_IO);
    EXPECT_MSG(&err, "is a link or no file");
    shell("f=$(find %s/objects -type p); rm $f; mkdir $f", cache);
    EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_IO);
    shell("f=$(find %s/objects -mindepth 2 -type d); rmdir $f; ln -s %s/none $f", cache, home);
    EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_IO);
    shell("test ! -e %s/none", home);
    shell("rm $(find %s/objects -type l)", cache);
    expect_big("gs://data/big");
    /* Looking at the sizes of all neither waits for a FIFO nor follows a link. */
    shell("mkdir -p %s/objects/zz && mkfifo %s/objects/zz/a && ln -s %s %s/objects/zz/b", cache, cache,
          precious, cache);
    EXPECT_OK(fs_set_cache(cache, "1K", &err), &err);
    EXPECT_OK(fs_map("gs://data/small", &map, &err), &err);
    fs_unmap(&map);
    shell("test -e %s", precious);
    /* The same for parts of downloads. */
    fs_log *l;
    char part[600];
    snprintf(part, sizeof part, "%s/x.part", home);
    shell("ln -s %s %s", precious, part);
    EXPECT_STATUS(fs_log_open_own(part, 0, &l, &err), SPT_E_IO);
    shell("test \"$(cat %s)\" = 'do not touch' && rm %s && mkfifo %s", precious, part, part);
    EXPECT_STATUS(fs_log_open_own(part, UINT64_MAX, &l, &err), SPT_E_IO);
    shell("rm %s", part);
    EXPECT_OK(fs_log_open_own(part, UINT64_MAX, &l, &err), &err);
    fs_log_close(l);
}

static void cache_far_away(void **state)
{
    EXPECT_OK(fs_set_cache(NULL, NULL, &err), &err);
    setenv("SPT_CACHE_DIR", "gs://a/b", 1);
    buf b;
    buf_init(&b, 1000);
    EXPECT_STATUS(fs_cache_dir(&b, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "gs://a/b: the cache is a local directory");
    EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_USAGE);
    EXPECT_TRUE(access("gs:", F_OK) != 0);
    unsetenv("SPT_CACHE_DIR");
    buf_release(&b);
}

/* --- transfers ------------------------------------------------------------------------------ */

/* The same first bytes again and again are no progress. */
static void no_progress(void **state)
{
    http_client *c;
    struct http_response r;
    char url[200];
    EXPECT_OK(http_client_new(&c, &err), &err);
    snprintf(url, sizeof url, "%s/files/big?noetag=1", server.url);
    const struct http_request q = {.url = url};
    faults(&server, "[{\"do\": \"truncate\", \"after\": 1000, \"count\": -1}]");
    http_response_init(&r);
    EXPECT_STATUS(http_run(c, &q, &r, &err), SPT_E_IO);
    EXPECT_MSG(&err, "given up after 3 tries");
    EXPECT_EQ_I64(test_server_count(&server, "GET /files/big"), 3);
    /* With an ETag every try goes on behind the last one: that is some. */
    snprintf(url, sizeof url, "%s/files/big", server.url);
    faults(&server, "[{\"do\": \"truncate\", \"after\": 1000, \"count\": 10}]");
    EXPECT_OK(http_run(c, &q, &r, &err), &err);
    EXPECT_TRUE(r.tries > 10);
    http_response_release(&r);
    http_client_free(c);
}

static bool stop_now;
static bool asked(void)
{
    return stop_now;
}

static void *press(void *arg)
{
    usleep(300000);
    stop_now = true;
    return NULL;
}

static void stopping(void **state)
{
    static const char *const rule[] = {
        "[{\"path\": \"media\", \"do\": \"stall\", \"after\": 2, \"seconds\": 60, \"count\": -1}]",
        "[{\"path\": \"media\", \"do\": \"status\", \"status\": 503, \"count\": -1}]"};
    char *p;
    size_t n;
    uint64_t thread;
    os_set(NULL);
    setenv("SPT_HTTP_TIMEOUT", "60", 1);
    setenv("SPT_HTTP_RETRIES", "7", 1);
    fs_release(); /* clients know the old limits */
    fresh_cache();
    fs_set_stop(asked);
    for (int i = 0; i < 4; i++) {
        stop_now = false;
        faults(&server, rule[i % 2]);
        EXPECT_EQ_I64(os_thread_start(&thread, press, NULL), 0);
        const int64_t began = os_monotonic_ns();
        const spt_status st = i < 2 ? fs_map("gs://data/big", &map, &err)
                                    : fs_read_all("gs://data/small", 100, &p, &n, &err);
        EXPECT_STATUS(st, SPT_E_INTERRUPTED);
        EXPECT_TRUE(os_monotonic_ns() - began < 3000000000);
        os_thread_join(thread);
    }
    EXPECT_OK(fs_write_all("gs://w/saved", "x", 1, &err), &err); /* a save goes on */
    EXPECT_OK(fs_stat("gs://w/saved", &info, &err), &err);
    fs_set_stop(NULL);
    setenv("SPT_HTTP_TIMEOUT", "2", 1);
    setenv("SPT_HTTP_RETRIES", "2", 1);
    fs_release();
    test_quick_clock(200);
}

static void range_ignored(void **state)
{
    if (!has_tls)
        skip();
    unsigned char b[100];
    fs_file *f;
    fresh_cache();
    /* It says "Accept-Ranges: bytes" and sends everything all the same. */
    char rule[400];
    snprintf(rule, sizeof rule,
             "[{\"method\": \"HEAD\", \"do\": \"raw\", \"count\": -1, \"text\": \"HTTP/1.1 200 OK\\r\\n"
             "Content-Length: %d\\r\\nAccept-Ranges: bytes\\r\\n\\r\\n\"}]", BIG);
    faults(&tls, rule);
    expect_big(secure("big?noranges=1&noetag=1"));
    EXPECT_OK(fs_open(secure("big?noranges=1&noetag=1"), &f, &err), &err);
    EXPECT_OK(fs_read_at(f, 3 * 1048576 + 5, b, 100, &err), &err);
    EXPECT_TRUE(!memcmp(b, big + 3 * 1048576 + 5, 100));
    EXPECT_OK(fs_read_at(f, 5, b, 100, &err), &err);
    EXPECT_TRUE(!memcmp(b, big + 5, 100));
    fs_close(f);
    /* More than it announced. */
    faults(&tls, "[{\"method\": \"HEAD\", \"do\": \"raw\", \"count\": -1, \"text\": \"HTTP/1.1 200 OK\\r\\n"
                 "Content-Length: 1000\\r\\nAccept-Ranges: none\\r\\n\\r\\n\"}]");
    EXPECT_STATUS(fs_map(secure("big?noranges=1&noetag=1"), &map, &err), SPT_E_IO);
    EXPECT_MSG(&err, "more than the 1000 bytes that it announced");
}

static void odd_answers(void **state)
{
    static const struct {
        const char *rule, *text;
    } c[] = {
        {"[{\"do\": \"raw\", \"piece\": \"\\u0000\\u00ff\", \"times\": 500, \"count\": -1}]", "is not HTTP"},
        {"[{\"do\": \"raw\", \"text\": \"HTTP/1.1 200 OK\\r\\nX: \", \"piece\": "
         "\"yyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyyy\", \"times\": "
         "20000, \"count\": -1}]", "headers of the server's answer are too long"},
        {"[{\"do\": \"status\", \"status\": 302, \"headers\": {\"Location\": \"file:///etc/passwd\"}, "
         "\"count\": -1}]", "redirects to an address that is neither http nor https"},
        {"[{\"do\": \"status\", \"status\": 302, \"headers\": {\"Location\": \"gopher://127.0.0.1/x\"}, "
         "\"count\": -1}]", "redirects to an address that is neither http nor https"},
        {"[{\"do\": \"raw\", \"text\": \"HTTP/1.1 418 X\\r\\nContent-Length: 20\\r\\n\\r\\n"
         "\\u001b[31mred\\u009b31m\\u007f\\u00ff\\u00fe\\u00c2\\u009b31m\\u00c3\\u00a9.\", \"count\": -1}]",
         "answered 418: [31mred?31m???"},
    };
    fresh_cache();
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        faults(&server, c[i].rule);
        EXPECT_STATUS(fs_map("gs://data/big", &map, &err), SPT_E_IO);
        EXPECT_MSG(&err, c[i].text);
        for (const unsigned char *p = (unsigned char *)err.msg; *p; p++)
            EXPECT_TRUE(*p >= 0x20 && *p != 0x7f && (*p < 0x80 || (*p != 0x9b && *p != 0xff)));
    }
    faults(&server, "[]");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sizes_of_objects), cmocka_unit_test(sizes_on_the_web),
        cmocka_unit_test(names_of_listings), cmocka_unit_test(endless_listings),
        cmocka_unit_test(endless_copies),   cmocka_unit_test(tampered_copy),
        cmocka_unit_test(links_in_the_cache), cmocka_unit_test(cache_far_away),
        cmocka_unit_test(no_progress),      cmocka_unit_test(stopping),
        cmocka_unit_test(range_ignored),    cmocka_unit_test(odd_answers),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
