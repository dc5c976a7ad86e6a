/* store/hub: names, the cache, and a whole fetch under every failing allocation and system call. The
 * protocol itself is tested by tests/cli/test_hub.sh. */
#define _DEFAULT_SOURCE
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/hub.h"
#include "support/server.h"

static void names(void **state)
{
    (void)state;
    static const char *const yes[] = {
        "google/t5-small-lm-adapt", "a/b", "org/name@main", "org/name@refs/pr/2",
        "Org_1/x.y-z@0123456789012345678901234567890123456789", "o/n@v1.0+a"};
    static const char *const no[] = {
        "", "t5-small", "/org/name", "./org/name", "../name", "org/name/x", "org/", "/name", "org//name",
        "org/na me", "org/.name", "org/name.", "org/-name", "-org/name", "org/na--me", "org/na..me",
        "org/name@", "org/name@/x", "org/name@x/", "org/name@../x", "org/name@a//b", "org/name@.x",
        "org/name@a b", "gs://a/b", "https://host/x", "org/prompt.npy", "org/model.safetensors",
        "org/\xc3\xa4", "run/table.tsv"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!hub_is_name(yes[i]))
            fail_msg("\"%s\" is a name", yes[i]);
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (hub_is_name(no[i]))
            fail_msg("\"%s\" is no name", no[i]);
    char longest[400] = "org/";
    memset(longest + 4, 'a', 96);
    EXPECT_TRUE(hub_is_name(longest));
    longest[100] = 'a';
    EXPECT_TRUE(!hub_is_name(longest));
}

static void clear_environment(const char *cache)
{
    static const char *const name[] = {"HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME",
                                       "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_TOKEN_PATH",
                                       "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        unsetenv(name[i]);
    setenv("HOME", test_tmpdir(), 1);
    setenv("HF_HUB_CACHE", cache, 1);
}

static void put(const char *cache, const char *below, const char *text)
{
    spt_err err;
    char path[4096], dir[4096];
    snprintf(path, sizeof path, "%s/models--org--t5/%s", cache, below);
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = '\0';
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    test_write(path, text, strlen(text));
}

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SNAPSHOT "snapshots/" COMMIT "/"

struct question {
    const char *text;
    struct hub_opts o;
    buf path;
};

static spt_status find(void *ctx, spt_err *err)
{
    struct question *q = ctx;
    buf_init(&q->path, 65536);
    const spt_status st = hub_find(q->text, &q->o, &q->path, err);
    buf_release(&q->path);
    return st;
}

static spt_status list(void *ctx, spt_err *err)
{
    struct hub_list l;
    (void)ctx;
    TRY(hub_list_cache(&l, err));
    hub_list_release(&l);
    return SPT_OK;
}

static void expect(unsigned need, const char *text, spt_status want, const char *part)
{
    spt_err err = {0};
    struct hub_opts o = {.need = need};
    buf path;
    buf_init(&path, 65536);
    const spt_status got = hub_find(text, &o, &path, &err);
    if (got != want || !strstr(want ? err.msg : buf_str(&path), part))
        fail_msg("%s, need %u: %s \"%s\", wanted %s with \"%s\"", text, need, spt_status_text(got),
                 got ? err.msg : buf_str(&path), spt_status_text(want), part);
    buf_release(&path);
}

static void cache(void **state)
{
    (void)state;
    const char *dir = test_path(test_tmpdir(), "cache");
    char text[5000];
    spt_err err;
    snprintf(text, sizeof text, "%s", dir);
    dir = text;
    clear_environment(dir);
    setenv("HF_HUB_OFFLINE", "1", 1);
    expect(HUB_MODEL, "org/t5", SPT_E_NOTFOUND, "has nothing of revision main");
    put(dir, "refs/main", COMMIT);
    put(dir, "refs/refs/pr/2", COMMIT "\n");
    expect(HUB_MODEL, "org/t5", SPT_E_NOTFOUND, "has not config.json");
    put(dir, SNAPSHOT "config.json", "{}");
    expect(HUB_MODEL, "org/t5", SPT_E_NOTFOUND, "has not all of the weights");
    put(dir, SNAPSHOT "pytorch_model.bin.index.json", "{\"weight_map\": {\"a\": \"x-1\", \"b\": \"x-2\"}}");
    put(dir, SNAPSHOT "x-1", "");
    expect(HUB_MODEL, "org/t5", SPT_E_NOTFOUND, "has not all of the weights");
    put(dir, SNAPSHOT "x-2", "");
    expect(HUB_MODEL, "org/t5", SPT_OK, "/models--org--t5/snapshots/" COMMIT);
    expect(HUB_MODEL, "org/t5@refs/pr/2", SPT_OK, COMMIT);
    expect(HUB_MODEL, "org/t5@" COMMIT, SPT_OK, COMMIT);
    expect(HUB_MODEL, "org/t5@v2", SPT_E_NOTFOUND, "nothing of revision v2");
    put(dir, SNAPSHOT "pytorch_model.bin.index.json", "{\"weight_map\": {\"a\": \"../../x\"}}");
    expect(HUB_MODEL, "org/t5", SPT_E_FORMAT, "no plain file");
    put(dir, SNAPSHOT "model.safetensors", "x"); /* taken before the index */
    expect(HUB_MODEL, "org/t5", SPT_OK, COMMIT);
    expect(HUB_MODEL | HUB_VOCAB, "org/t5", SPT_E_NOTFOUND, "has not a vocabulary");
    put(dir, ".no_exist/" COMMIT "/spiece.model", "");
    expect(HUB_VOCAB, "org/t5", SPT_E_NOTFOUND, "has not a vocabulary");
    put(dir, ".no_exist/" COMMIT "/tokenizer.json", "");
    expect(HUB_VOCAB, "org/t5", SPT_OK, COMMIT); /* there is none to wait for */
    put(dir, SNAPSHOT "tokenizer_config.json", "{\"tokenizer_class\": \"ByT5Tokenizer\"}");
    expect(HUB_ANY, "org/t5", SPT_OK, COMMIT);
    expect(HUB_ADAPTER, "org/t5", SPT_E_NOTFOUND, "has not adapter_config.json");
    put(dir, SNAPSHOT "adapter_config.json", "{}");
    expect(HUB_ANY, "org/t5", SPT_E_NOTFOUND, "has not the adapter's weights");
    put(dir, SNAPSHOT "adapter_model.bin", "x");
    expect(HUB_ANY, "org/t5", SPT_OK, COMMIT);
    put(dir, "refs/main", "not a commit");
    expect(HUB_MODEL, "org/t5", SPT_E_NOTFOUND, "has nothing of revision main");
    put(dir, "refs/main", COMMIT);

    struct hub_list l;
    EXPECT_OK(hub_list_cache(&l, &err), &err);
    EXPECT_EQ_I64(l.count, 1);
    EXPECT_STR(l.entry[0].name, "org/t5");
    EXPECT_STR(l.entry[0].refs, "main, refs/pr/2");
    EXPECT_STR(l.entry[0].commit, COMMIT);
    hub_list_release(&l);

    struct question q = {.text = "org/t5", .o.need = HUB_ANY};
    fault_install();
    EXPECT_TRUE(fault_every_alloc(find, &q) > 5);
    EXPECT_TRUE(fault_every_alloc(list, NULL) > 5);
    fault_every_syscall(list, NULL, EIO);
    fault_remove();
}

/* --- a whole fetch ----------------------------------------------------------------------------- */

static char base[5000];
static int number; /* of the cache: each run has its own */

static spt_status fetch(void *ctx, spt_err *err)
{
    char dir[6000];
    snprintf(dir, sizeof dir, "%s/cache-%d", base, number++);
    setenv("HF_HUB_CACHE", dir, 1);
    return find(ctx, err);
}

/* The cache is usable whatever happened: a second try on it succeeds. */
static spt_status again(void *ctx, spt_err *err)
{
    return find(ctx, err);
}

/* Another process holds the lock of a file, and the caller has had enough. */
static bool waited;

static int held(int fd)
{
    (void)fd;
    waited = true;
    return -EWOULDBLOCK;
}

static bool enough(void *ctx, const struct hub_progress *p)
{
    (void)ctx, (void)p;
    return !waited;
}

static void stop_waiting(void)
{
    struct question q = {.text = "org/t5", .o = {.need = HUB_ANY, .progress = enough}};
    struct os_ops busy = *os_get();
    spt_err err = {0};
    busy.lock = held;
    os_set(&busy);
    EXPECT_STATUS(fetch(&q, &err), SPT_E_INTERRUPTED);
    EXPECT_MSG(&err, "interrupted while waiting for");
    os_set(NULL);
}

static void fetching(void **state)
{
    (void)state;
    char repos[6000], command[13000];
    snprintf(base, sizeof base, "%s", test_tmpdir());
    clear_environment(base);
    snprintf(repos, sizeof repos, "%s/repos", base);
    snprintf(command, sizeof command,
             "d=%s/org/t5/main; mkdir -p $d && echo '{}' >$d/config.json && "
             "head -c 12000 /dev/zero >$d/model.safetensors && echo x >$d/spiece.model",
             repos);
    EXPECT_EQ_I64(system(command), 0);
    const char *const options[] = {"--hub", repos, NULL};
    struct test_server server;
    test_server_start(&server, options);
    setenv("HF_ENDPOINT", server.url, 1);
    setenv("SPT_HTTP_RETRIES", "0", 1);
    setenv("SPT_HTTP_TIMEOUT", "300", 1); /* a busy machine is no fault */
    struct question q = {.text = "org/t5", .o.need = HUB_ANY};
    spt_err err;
    EXPECT_OK(fetch(&q, &err), &err);
    stop_waiting();
    fault_install();
    fault_set_after(again);
    EXPECT_TRUE(fault_every_alloc(fetch, &q) > 50);
    EXPECT_TRUE(fault_every_syscall(fetch, &q, EIO) > 20);
    fault_set_after(NULL);
    fault_remove();
    test_server_stop(&server);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names), cmocka_unit_test(cache),
                                       cmocka_unit_test(fetching)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
