/* Bars C1 and C2 over content that comes from elsewhere, on the server of tests/server: every kind of
 * credentials for buckets, files and locks written there, models of the hub, and files of the web.
 *
 * The standard suite fails one allocation of every eighth distinct stack of calls; SPT_TEST_SLOW=1 of every
 * one, SPT_TEST_FULL=1 all allocations, and system calls in ten kinds. */
#define _GNU_SOURCE
#include "support/flows.h"
#include "support/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/hub.h"

static struct test_server server, tls;
static const char *dir, *cache;
static bool has_keys;
static char secure[128];

static int setup(void **state)
{
    static char bucket[600], key[600], cert[600], command[3000], made[1600];
    (void)state;
    dir = test_tmpdir();
    cache = test_tmpdir();
    test_write(test_path(dir, "small"), "hello", 5);
    test_write(test_path(dir, "empty"), "", 0);
    snprintf(bucket, sizeof bucket, "data=%s", dir);
    snprintf(key, sizeof key, "%s/k.pem", dir);
    snprintf(cert, sizeof cert, "%s/c.pem", dir);
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey rsa:2048 -nodes -days 3 -keyout k.pem -out c.pem "
             "-subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 2>/dev/null",
             dir);
    has_keys = !system(command);
    static const char plain[] = "{\"type\": \"authorized_user\", \"client_id\": \"c\", \"client_secret\": "
                                "\"s\", \"refresh_token\": \"r\"}";
    test_write(test_path(dir, "plain.json"), plain, sizeof plain - 1);
    static char repos[600];
    snprintf(repos, sizeof repos, "%s/repos", test_tmpdir());
    snprintf(made, sizeof made,
             "d=%s/org/t5/main; mkdir -p $d && echo '{}' >$d/config.json && echo x >$d/spiece.model && "
             "head -c 12000 /dev/zero >$d/model.safetensors", repos);
    EXPECT_EQ_I64(system(made), 0);
    test_server_start(&server, (const char *[]){"--bucket", bucket, "--empty-bucket", "w", "--key", key,
                                                "--hub", repos, NULL});
    snprintf(command, sizeof command,
             "python3 -c 'import json, sys; d, p = sys.argv[1:]; t = \"http://127.0.0.1:\" + p + \"/token\"\n"
             "json.dump({\"type\": \"service_account\", \"client_email\": \"robot@example.com\", \"other\": [1],"
             " \"private_key\": open(d + \"/k.pem\").read(), \"private_key_id\": \"1\", \"token_uri\": t},"
             " open(d + \"/service.json\", \"w\"))\n"
             "json.dump({\"type\": \"authorized_user\", \"client_id\": \"c\", \"token_uri\": t, "
             "\"client_secret\": \"client-secret\", \"refresh_token\": \"refresh-secret\"}, "
             "open(d + \"/application_default_credentials.json\", \"w\"))' %s %d",
             dir, server.port);
    has_keys = has_keys && !system(command);
    if (has_keys) {
        setenv("SSL_CERT_FILE", cert, 1);
        test_server_start(&tls, (const char *[]){"--files", dir, "--tls", cert, key, NULL});
        snprintf(secure, sizeof secure, "https://localhost:%d/files/small", tls.port);
    }
    setenv("CLOUDSDK_API_ENDPOINT_OVERRIDES_STORAGE", server.url, 1);
    setenv("SPT_HTTP_RETRIES", "1", 1);
    setenv("SPT_HTTP_TIMEOUT", "5", 1);
    setenv("SPT_LEASE_SECONDS", "60", 1);
    setenv("HF_ENDPOINT", server.url, 1);
    unsetenv("HF_HUB_OFFLINE");
    unsetenv("HF_TOKEN");
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fs_release();
    test_server_stop(&server);
    if (has_keys)
        test_server_stop(&tls);
    return 0;
}

/* --- who we are ----------------------------------------------------------------------------- */

enum who { SOMEBODY, SERVICE, USER, MACHINE, USER_OF_GOOGLE };

static void become(enum who who)
{
    char host[64];
    snprintf(host, sizeof host, "127.0.0.1:%d", server.port);
    unsetenv("STORAGE_EMULATOR_HOST");
    unsetenv("GOOGLE_APPLICATION_CREDENTIALS");
    unsetenv("CLOUDSDK_CONFIG");
    unsetenv("GCE_METADATA_HOST");
    unsetenv("HOME");
    setenv("NO_GCE_CHECK", "true", 1);
    if (who == SOMEBODY)
        setenv("STORAGE_EMULATOR_HOST", host, 1);
    else if (who == SERVICE)
        setenv("GOOGLE_APPLICATION_CREDENTIALS", test_path(dir, "service.json"), 1);
    else if (who == USER)
        setenv("CLOUDSDK_CONFIG", dir, 1);
    else if (who == USER_OF_GOOGLE)
        setenv("GOOGLE_APPLICATION_CREDENTIALS", test_path(dir, "plain.json"), 1);
    else
        setenv("GCE_METADATA_HOST", host, 1);
    fs_release();
}

static spt_status read_as(void *ctx, spt_err *err)
{
    char *text = NULL;
    size_t n = 0;
    (void)ctx;
    spt_status st = fs_set_cache(cache, NULL, err);
    if (!st)
        st = fs_read_all("gs://data/small", 100, &text, &n, err);
    mem_free(text);
    fs_release();
    return st;
}

/* --- what is written, and what is empty ---------------------------------------------------------- */

static spt_status written(void *ctx, spt_err *err)
{
    fs_writer *w = NULL;
    fs_lock *l = NULL;
    char holder[256], *text = NULL;
    size_t n = 0;
    (void)ctx;
    /* A lock whose holder could not give it back would last as long as its lease. */
    spt_status st = fs_remove_tree("gs://w/lock", err);
    if (!st)
        st = fs_set_cache(cache, NULL, err);
    if (!st)
        st = fs_create("gs://w/new", &w, err);
    if (!st) {
        st = fs_write(w, "abc", 3, err);
        if (st)
            fs_abort(w);
        else
            st = fs_commit(w, err);
    }
    if (!st)
        st = fs_lock_take("gs://w/lock", "a test\n", &l, holder, sizeof holder, err);
    if (!st)
        st = fs_lock_check(l, err);
    fs_lock_release(l);
    if (!st)
        st = fs_read_all("gs://data/empty", 100, &text, &n, err);
    mem_free(text);
    fs_release();
    return st;
}

/* --- the web -------------------------------------------------------------------------------------- */

static spt_status read_https(void *ctx, spt_err *err)
{
    fs_mapping m = {0};
    struct fs_info info;
    (void)ctx;
    spt_status st = fs_set_cache(cache, NULL, err);
    if (!st)
        st = fs_remove_tree(cache, err);
    if (!st)
        st = fs_stat(secure, &info, err);
    if (!st)
        st = fs_map(secure, &m, err);
    fs_unmap(&m);
    fs_release();
    return st;
}

/* --- the hub of models -------------------------------------------------------------------------- */

static int number; /* of the cache: each run has its own */

static spt_status find_on_hub(void *ctx, spt_err *err)
{
    buf path;
    const struct hub_opts o = {.need = HUB_ANY};
    (void)ctx;
    buf_init(&path, 1 << 16);
    const spt_status st = hub_find("org/t5", &o, &path, err);
    buf_release(&path);
    return st;
}

static spt_status fetch(void *ctx, spt_err *err)
{
    char at[600];
    snprintf(at, sizeof at, "%s/hub-%d", dir, number++);
    setenv("HF_HUB_CACHE", at, 1);
    return find_on_hub(ctx, err);
}

/* --- all of it ------------------------------------------------------------------------------------- */

static spt_status as_service(void *ctx, spt_err *err)
{
    become(SERVICE);
    return read_as(ctx, err);
}

static spt_status as_user(void *ctx, spt_err *err)
{
    become(USER);
    return read_as(ctx, err);
}

static spt_status as_machine(void *ctx, spt_err *err)
{
    become(MACHINE);
    return read_as(ctx, err);
}

/* Whose tokens come from the public service: nothing gets there from here. */
static spt_status as_user_of_google(void *ctx, spt_err *err)
{
    setenv("https_proxy", "http://127.0.0.1:1", 1);
    become(USER_OF_GOOGLE);
    const spt_status st = read_as(ctx, err);
    unsetenv("https_proxy");
    return st == SPT_E_IO ? SPT_OK : st;
}

static spt_status as_somebody(void *ctx, spt_err *err)
{
    become(SOMEBODY);
    return written(ctx, err);
}

static const struct flow flows[] = {
    {"files and a lock in a bucket", as_somebody, as_somebody},
    {"a model of the hub", fetch, find_on_hub},
    {"bucket as a machine", as_machine, as_machine},
    {"bucket as a user", as_user, as_user},
    {"bucket as a user of Google", as_user_of_google, as_user_of_google},
    {"bucket as a service", as_service, as_service},
    {"a file of the web", read_https, read_https},
};
enum { FLOWS = sizeof flows / sizeof *flows, WITHOUT_KEYS = 2 };

static void every_allocation(void **state)
{
    (void)state;
    flows_every_allocation(flows, has_keys ? FLOWS : WITHOUT_KEYS, 8);
}

static void every_system_call(void **state)
{
    (void)state;
    flows_every_system_call(flows, has_keys ? FLOWS : WITHOUT_KEYS, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_allocation),
        cmocka_unit_test(every_system_call),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
