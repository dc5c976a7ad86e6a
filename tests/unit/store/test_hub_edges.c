/* store/hub*.c at their edges: names, variables, caches that others left half done or damaged, and a hub
 * that answers what no hub should. Each refusal by its status and its words. */
#define _GNU_SOURCE
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/fs.h"
#include "os/os.h"
#include "store/hub_internal.h"
#include "support/server.h"

#define COMMIT "0123456789abcdef0123456789abcdef01234567"
#define SNAPSHOT "snapshots/" COMMIT "/"

static void clear_environment(const char *cache)
{
    static const char *const name[] = {
        "HF_HOME", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME", "HF_TOKEN", "HUGGING_FACE_HUB_TOKEN",
        "HF_TOKEN_PATH", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_IMPLICIT_TOKEN",
        "HF_HUB_DISABLE_SYMLINKS", "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT", "HF_HUB_CACHE"};
    for (size_t i = 0; i < sizeof name / sizeof *name; i++)
        unsetenv(name[i]);
    setenv("HOME", "/nonexistent/home", 1);
    if (cache)
        setenv("HF_HUB_CACHE", cache, 1);
}

static void put(const char *cache, const char *below, const char *text)
{
    spt_err err;
    char path[6000], dir[6000];
    snprintf(path, sizeof path, "%s/%s", cache, below);
    snprintf(dir, sizeof dir, "%s", path);
    *strrchr(dir, '/') = '\0';
    EXPECT_OK(fs_make_dirs(dir, &err), &err);
    test_write(path, text, strlen(text));
}

struct question {
    const char *text;
    struct hub_opts o;
    char found[6000];
};

static spt_status find(void *ctx, spt_err *err)
{
    struct question *q = ctx;
    buf path;
    buf_init(&path, 65536);
    const spt_status st = hub_find(q->text, &q->o, &path, err);
    if (!st)
        snprintf(q->found, sizeof q->found, "%s", buf_str(&path));
    buf_release(&path);
    return st;
}

static void expect_at(int line, const char *text, unsigned need, spt_status want, const char *part)
{
    spt_err err = {0};
    struct question q = {.text = text, .o.need = need};
    const spt_status got = find(&q, &err);
    if (got != want || !strstr(want ? err.msg : q.found, part))
        fail_msg("line %d: %s, need %u: %s \"%s\", wanted %s with \"%s\"", line, text, need,
                 spt_status_text(got), got ? err.msg : q.found, spt_status_text(want), part);
}
#define EXPECT(text, need, want, part) expect_at(__LINE__, text, need, want, part)

/* --- names and variables ------------------------------------------------------------------------ */

static void names_at_the_edges_of_their_alphabet(void **state)
{
    (void)state;
    static const char *const no[] = {"org/na`me", "org/na{me", "org/na@[x]", "org/n[ame", "org/na^me",
                                     "org/n@{", "org/n@[", "org/n@`", "org/n@:", "org/n@a=b", "org/n@a,b",
                                     "or:g/n", "org/na:me", "org/name@a\\b"};
    static const char *const yes[] = {"AZ/az", "a/Z09_", "org/n@aZ09-_./+x", "o/n@A"};
    for (size_t i = 0; i < sizeof no / sizeof *no; i++)
        if (hub_is_name(no[i]))
            fail_msg("\"%s\" is no name", no[i]);
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++)
        if (!hub_is_name(yes[i]))
            fail_msg("\"%s\" is a name", yes[i]);
    char text[1400];
    for (size_t n = 199; n <= 202; n++) {
        snprintf(text, sizeof text, "org/n@%0*d", (int)n, 0);
        EXPECT_EQ_I64(hub_is_name(text), n <= 200);
    }
    snprintf(text, sizeof text, "org/n@%0600d", 0);
    EXPECT_TRUE(!hub_is_name(text));
    snprintf(text, sizeof text, "org/%0600d", 0);
    EXPECT_TRUE(!hub_is_name(text));
    EXPECT_TRUE(hub_is_commit(COMMIT));
    EXPECT_TRUE(!hub_is_commit("0123456789abcdef0123456789abcdef0123456g"));
    EXPECT_TRUE(!hub_is_commit("0123456789abcdef0123456789abcdef0123456"));
    buf b;
    buf_init(&b, 100);
    hub_add_repo("org/n@main", &b);
    EXPECT_STR(buf_str(&b), "org/n");
    buf_release(&b);
}

static void expect_cache(const char *want)
{
    spt_err err = {0};
    buf b;
    buf_init(&b, 1000);
    const spt_status st = hub_cache_dir(&b, &err);
    if (st != (want ? SPT_OK : SPT_E_CONFIG) || (want && strcmp(buf_str(&b), want)))
        fail_msg("%s \"%s\", wanted \"%s\"", spt_status_text(st), st ? err.msg : buf_str(&b),
                 want ? want : "a refusal");
    if (!want)
        EXPECT_MSG(&err, "neither HF_HUB_CACHE nor HOME is set");
    buf_release(&b);
}

static void where_the_cache_is(void **state)
{
    (void)state;
    clear_environment(NULL);
    expect_cache("/nonexistent/home/.cache/huggingface/hub");
    setenv("XDG_CACHE_HOME", "/x/", 1), expect_cache("/x/huggingface/hub");
    setenv("HF_HOME", "/h///", 1), expect_cache("/h/hub");
    setenv("HUGGINGFACE_HUB_CACHE", "/old", 1), expect_cache("/old");
    setenv("HF_HUB_CACHE", "~/c", 1), expect_cache("/nonexistent/home/c");
    setenv("HF_HUB_CACHE", "~", 1), expect_cache("/nonexistent/home");
    setenv("HF_HUB_CACHE", "~x/c", 1), expect_cache("~x/c");
    setenv("HF_HUB_CACHE", "/", 1), expect_cache("/");
    setenv("HF_HUB_CACHE", "", 1), expect_cache("/old");
    unsetenv("HOME");
    setenv("HF_HUB_CACHE", "~/c", 1), expect_cache("~/c");
    clear_environment(NULL);
    unsetenv("HOME");
    expect_cache(NULL);
    EXPECT("t5-small", HUB_MODEL, SPT_OK, "t5-small"); /* nothing to look into: a path */
    EXPECT("org/t5", HUB_MODEL, SPT_E_CONFIG, "neither HF_HUB_CACHE nor HOME is set");

    static const char *const yes[] = {"1", "on", "yes", "true", "TRUE", "Yes"},
                            *const no[] = {"0", "off", "", "2", "tru", "truer"};
    for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
        setenv("TRANSFORMERS_OFFLINE", yes[i], 1);
        EXPECT_TRUE(hub_offline());
        setenv("TRANSFORMERS_OFFLINE", no[i], 1);
        EXPECT_TRUE(!hub_offline());
    }
}

static void paths_beyond_every_limit(void **state)
{
    (void)state;
    enum { LONG = 70000 };
    char *text = malloc(LONG + 1);
    EXPECT_TRUE(text != NULL);
    memset(text, 'a', LONG);
    text[0] = '/';
    text[LONG] = '\0';
    clear_environment(text);
    setenv("HF_HUB_OFFLINE", "1", 1);
    spt_err err = {0};
    struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
    EXPECT_TRUE(find(&q, &err) != SPT_OK);
    EXPECT_MSG(&err, "the hub's cache");
    text[HUB_PATH - 20] = '\0'; /* the cache fits, what is below does not */
    setenv("HF_HUB_CACHE", text, 1);
    EXPECT_TRUE(find(&q, &err) != SPT_OK);
    EXPECT_MSG(&err, "path");
    free(text);
}

/* --- the cache ----------------------------------------------------------------------------------- */

static void index_says(const char *cache, const char *text, spt_status want, const char *part, size_t files)
{
    spt_err err = {0};
    char path[6000];
    fs_names names = {0};
    put(cache, "index.json", text);
    snprintf(path, sizeof path, "%s/index.json", cache);
    const spt_status got = hub_index_files(path, &names, &err);
    if (got != want || (got && (!strstr(err.msg, part) || !strstr(err.msg, "index.json"))) ||
        names.count != files)
        fail_msg("%s: %s \"%s\", %zu files", text, spt_status_text(got), err.msg, names.count);
    fs_names_free(&names);
}

static void indices(void **state)
{
    (void)state;
    char cache[4096], text[2000];
    snprintf(cache, sizeof cache, "%s", test_tmpdir());
    index_says(cache, "{}", SPT_OK, "", 0);
    index_says(cache, "{\"metadata\": {\"total_size\": NaN}, \"weight_map\": {}}", SPT_OK, "", 0);
    index_says(cache, "{\"weight_map\": {\"a\": \"x\", \"b\": \"x\", \"c\": \"y\", \"d\": \"xy\"}}", SPT_OK, "", 3);
    static const char *const bad[] = {"[]", "{\"weight_map\": []}", "{\"weight_map\": {\"a\"}}", "{\"a\"",
                                      "{\"metadata\": {\"a\"}}", "{\"weight_map\": {\"a\": }}", ""};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        index_says(cache, bad[i], SPT_E_FORMAT, "line 1", 0);
    static const char *const odd[] = {"1", "null", "\"\"", "\"a/b\"", "\".a\"", "\"\\u0061\"", "{}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        snprintf(text, sizeof text, "{\"weight_map\": {\"k\": \"fine\", \"a\": %s}}", odd[i]);
        index_says(cache, text, SPT_E_FORMAT, "weight_map names no plain file", 0);
    }
    snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%0511d\"}}", 0);
    index_says(cache, text, SPT_OK, "", 1);
    snprintf(text, sizeof text, "{\"weight_map\": {\"a\": \"%0512d\"}}", 0);
    index_says(cache, text, SPT_E_FORMAT, "weight_map names no plain file", 0);
    fs_names names = {0};
    spt_err err = {0};
    EXPECT_STATUS(hub_index_files("/nonexistent/index.json", &names, &err), SPT_E_NOTFOUND);
}

#define REPO "models--org--t5/"

static void caches_of_every_kind(void **state)
{
    (void)state;
    char c[4096];
    spt_err err = {0};
    snprintf(c, sizeof c, "%s", test_tmpdir());
    clear_environment(c);
    setenv("HF_HUB_OFFLINE", "1", 1);
    put(c, REPO "refs/main", "0123456789abcdef0123456789abcdef0123456z"); /* 40 letters, no commit */
    EXPECT("org/t5", HUB_MODEL, SPT_E_NOTFOUND, "has nothing of revision main");
    put(c, REPO "refs/dir/x", COMMIT);
    EXPECT("org/t5@dir", HUB_MODEL, SPT_E_NOTFOUND, "has nothing of revision dir");
    put(c, REPO "refs/main", COMMIT " \r\n");
    put(c, REPO SNAPSHOT "config.json/x", ""); /* a directory of this name is no file */
    EXPECT("org/t5", HUB_MODEL, SPT_E_NOTFOUND, "has not config.json");
    fs_remove_tree(test_path(c, REPO SNAPSHOT "config.json"), NULL);
    put(c, REPO SNAPSHOT "config.json", "{\"tokenizer_class\": \"ByT5Tokenizer\"}");
    put(c, REPO SNAPSHOT "pytorch_model.bin/x", "");
    EXPECT("org/t5", HUB_MODEL, SPT_E_NOTFOUND, "has not all of the weights");
    put(c, REPO SNAPSHOT "model.safetensors.index.json", "{\"weight_map\": {\"a\": \"s\", \"b\": \"t\"}}");
    put(c, REPO SNAPSHOT "s", "");
    put(c, REPO SNAPSHOT "t", "");
    EXPECT("org/t5", HUB_ANY, SPT_OK, COMMIT);
    EXPECT("org/t5@" COMMIT, HUB_ANY, SPT_OK, COMMIT);
    struct question q = {.text = "org/t5", .o.need = HUB_ANY};
    fault_every_alloc(find, &q); /* the vocabulary by config.json, the weights by an index */
    q.o.refresh = true;          /* offline: what is there */
    EXPECT_OK(find(&q, &err), &err);
    fault_every_alloc(find, &q);
    q = (struct question){.text = "org/t5@" COMMIT, .o = {.need = HUB_MODEL, .refresh = true}};
    unsetenv("HF_HUB_OFFLINE"); /* a commit cannot become another one: nobody is asked */
    EXPECT_OK(find(&q, &err), &err);
    setenv("HF_HUB_OFFLINE", "1", 1);
    put(c, REPO SNAPSHOT "config.json", "{}");
    put(c, REPO SNAPSHOT "tokenizer_config.json", "{\"tokenizer_class\": \"T5Tokenizer\"}");
    EXPECT("org/t5", HUB_VOCAB, SPT_E_NOTFOUND, "has not a vocabulary");
    put(c, REPO ".no_exist/" COMMIT "/spiece.model", "");
    put(c, REPO ".no_exist/" COMMIT "/tokenizer.json", "");
    q = (struct question){.text = "org/t5", .o.need = HUB_VOCAB};
    EXPECT_OK(find(&q, &err), &err);
    fault_every_alloc(find, &q);
    put(c, REPO SNAPSHOT "tokenizer.json", "{}");
    fault_every_alloc(find, &q);
    EXPECT_TRUE(!unlink(test_path(c, REPO SNAPSHOT "model.safetensors.index.json")));
    put(c, REPO SNAPSHOT "adapter_config.json", "{}");
    put(c, REPO SNAPSHOT "adapter_model.safetensors", "");
    q.o.need = HUB_ANY;
    EXPECT_OK(find(&q, &err), &err);
    fault_every_alloc(find, &q);
    q.o.need = HUB_ADAPTER;
    EXPECT_OK(find(&q, &err), &err);
    /* a name without an organisation is looked for, not fetched */
    EXPECT("t5-small", HUB_MODEL, SPT_E_NOTFOUND, "to fetch a model, give its whole name");
    EXPECT("table.tsv", HUB_MODEL, SPT_OK, "table.tsv");
    put(c, "models--t5-small/refs/main", COMMIT);
    put(c, "models--t5-small/" SNAPSHOT "config.json", "{}");
    put(c, "models--t5-small/" SNAPSHOT "model.safetensors", "");
    EXPECT("t5-small", HUB_MODEL, SPT_OK, "models--t5-small/snapshots");
}

/* --- the list ------------------------------------------------------------------------------------- */

static const char *const listed_refs[] = {"deep/a/b, main", ""};

/* Complete, or a failure: never a list that lacks something. */
static spt_status whole_list(void *ctx, spt_err *err)
{
    struct hub_list l;
    (void)ctx;
    TRY(hub_list_cache(&l, err));
    EXPECT_EQ_I64(l.count, 2);
    for (size_t i = 0; i < 2; i++) {
        EXPECT_STR(l.entry[i].name, i ? "t5-small" : "org/t5");
        EXPECT_STR(l.entry[i].commit, COMMIT);
        EXPECT_STR(l.entry[i].refs, listed_refs[i]);
        EXPECT_EQ_I64(l.entry[i].bytes, i ? 2 : 5);
        EXPECT_EQ_I64(l.entry[i].files, i ? 1 : 2);
    }
    hub_list_release(&l);
    return SPT_OK;
}

static void lists_are_whole(void **state)
{
    (void)state;
    char c[4096];
    spt_err err = {0};
    snprintf(c, sizeof c, "%s", test_tmpdir());
    clear_environment(c);
    EXPECT_OK(fs_make_dirs(test_path(c, "models--"), &err), &err); /* no name */
    EXPECT_OK(fs_make_dirs(test_path(c, "models--empty"), &err), &err);
    put(c, "datasets--org--x/" SNAPSHOT "a", "x");
    put(c, REPO "refs/main", COMMIT "\n");
    put(c, REPO "refs/other", "fedcba9876543210fedcba9876543210fedcba98");
    put(c, REPO "refs/deep/a/b", COMMIT);
    put(c, REPO SNAPSHOT "config.json", "{}");
    put(c, REPO SNAPSHOT "below/it", "abc");
    put(c, REPO "snapshots/not-a-commit/x", "");
    put(c, "models--t5-small/" SNAPSHOT "config.json", "{}");
    EXPECT_TRUE(!symlink("../../blobs/gone", test_path(c, REPO SNAPSHOT "gone")));
    EXPECT_OK(whole_list(NULL, &err), &err);
    fault_every_alloc(whole_list, NULL);
}

/* --- a hub that says odd things -------------------------------------------------------------------- */

static struct test_server server;
static char base[4096];
static int number;

static void fresh(void)
{
    char dir[5000];
    snprintf(dir, sizeof dir, "%s/cache-%d", base, number++);
    setenv("HF_HUB_CACHE", dir, 1);
}

static int start_hub(void **state)
{
    (void)state;
    char repos[4200], command[9000];
    snprintf(base, sizeof base, "%s", test_tmpdir());
    clear_environment(base);
    snprintf(repos, sizeof repos, "%s/repos", base);
    snprintf(command, sizeof command,
             "d=%s/org; mkdir -p $d/t5/main $d/shards/main $d/none/main $d/bin/main $d/byt5/main && cd $d && "
             "echo '{}' >t5/main/config.json && head -c 12000 /dev/zero >t5/main/model.safetensors && "
             "echo x >t5/main/sentencepiece.model && cp -r t5/main/. shards/main && "
             "cd shards/main && rm model.safetensors && echo s >model-1.safetensors && "
             "echo '{\"weight_map\": {\"a\": \"model-1.safetensors\"}}' >model.safetensors.index.json && cd ../.. && "
             "echo '{}' >none/main/config.json && cp none/main/config.json bin/main/adapter_config.json && "
             "echo w >bin/main/adapter_model.bin && cp none/main/config.json byt5/main && "
             "echo p >byt5/main/pytorch_model.bin && mkdir -p ada/main && cp none/main/config.json ada/main/adapter_config.json && "
             "echo s >ada/main/adapter_model.safetensors", repos);
    EXPECT_EQ_I64(system(command), 0);
    static const char *options[] = {"--hub", NULL, "--hub-token", "good", NULL};
    options[1] = repos;
    test_server_start(&server, options);
    setenv("HF_ENDPOINT", server.url, 1);
    setenv("SPT_HTTP_RETRIES", "0", 1);
    setenv("SPT_HTTP_TIMEOUT", "300", 1);
    return 0;
}

static int stop_hub(void **state)
{
    (void)state;
    test_server_stop(&server);
    return 0;
}

/* One answer to the first request whose path matches, then what the hub says. */
static void answer(const char *path, const char *method, int status, const char *headers, const char *body)
{
    char rule[9000];
    snprintf(rule, sizeof rule,
             "[{\"path\": \"%s\", \"method\": \"%s\", \"do\": \"status\", \"status\": %d, "
             "\"headers\": {%s}, \"body\": \"%s\"}]", path, method, status, headers, body);
    test_server_control(&server, "faults", rule);
    fresh();
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *token;
        int status;
        const char *headers;
        spt_status want;
        const char *part;
    } of[] = {
        {NULL, 404, "\"X-Error-Code\": \"EntryNotFound\"", SPT_E_NOTFOUND, "has no file config.json at revision main"},
        {NULL, 404, "\"X-Error-Code\": \"RevisionNotFound\"", SPT_E_NOTFOUND, "has no revision \"main\""},
        {NULL, 404, "", SPT_E_NOTFOUND, "has no model of this name (a private one needs a token"},
        {"good", 404, "", SPT_E_NOTFOUND, "has no model of this name that the token may see"},
        {NULL, 401, "", SPT_E_NOTFOUND, "has no model of this name (a private"},
        {"good", 401, "", SPT_E_CONFIG, "does not accept the token"},
        {"good", 401, "\"X-Error-Code\": \"RepoNotFound\"", SPT_E_NOTFOUND, "that the token may see"},
        {NULL, 403, "\"X-Error-Code\": \"GatedRepo\"", SPT_E_CONFIG, "accept its terms on"},
        {"good", 403, "\"X-Error-Code\": \"GatedRepo\"", SPT_E_CONFIG, "the token has no access"},
        {"good", 403, "", SPT_E_CONFIG, "the token has no access"},
        {NULL, 403, "", SPT_E_CONFIG, "the server answered 403"},
        {NULL, 410, "", SPT_E_NOTFOUND, "the server answered 410"},
        {NULL, 500, "", SPT_E_IO, "the server answered 500"},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        if (of[i].token)
            setenv("HF_TOKEN", of[i].token, 1);
        else
            unsetenv("HF_TOKEN");
        answer("/resolve/.*config.json", "HEAD", of[i].status, of[i].headers, "");
        spt_err err = {0};
        struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
        const spt_status st = find(&q, &err);
        if (st != of[i].want || !strstr(err.msg, of[i].part))
            fail_msg("%d %s: %s \"%s\", wanted \"%s\"", of[i].status, of[i].headers, spt_status_text(st), err.msg,
                     of[i].part);
    }
    unsetenv("HF_TOKEN");
    char want[300];
    answer("/resolve/.*config.json", "HEAD", 404, "\"X-Error-Code\": \"RevisionNotFound\"", "");
    snprintf(want, sizeof want, "org/t5 on %s has no revision \"main\"", strstr(server.url, "://") + 3);
    EXPECT("org/t5", HUB_MODEL, SPT_E_NOTFOUND, want);
    answer("/resolve/.*config.json", "GET", 404, "\"X-Error-Code\": \"EntryNotFound\"", "");
    EXPECT("org/t5", HUB_MODEL, SPT_E_NOTFOUND, "has no file config.json");
}

static void facts(void **state)
{
    (void)state;
    static const struct {
        const char *headers, *part; /* part NULL: accepted */
    } of[] = {
        {"\"ETag\": \"W/\\\"abc\\\"\", \"X-Linked-Size\": \"3\"", NULL},
        {"\"ETag\": \"aZ09-_.z\", \"X-Linked-Size\": \"3\"", NULL},
        {"\"X-Linked-Etag\": \"abc\", \"ETag\": \"../x\", \"X-Linked-Size\": \"3\"", NULL},
        {"\"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"\\\"\\\"\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"..\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a/b\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a`\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a{\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a[\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a:\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"a b\", \"X-Linked-Size\": \"3\"", "has no usable ETag"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"\"", "has no size"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"-1\"", "has no size"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"3x\"", "has no size"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"1234567890123456789\"", "has no size"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"3\", \"X-Repo-Commit\": \"" COMMIT "\"", "came from commit " COMMIT},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"2\"", "more than the 2 bytes that the hub named"},
        {"\"ETag\": \"abc\", \"X-Linked-Size\": \"4\"", "3 bytes arrived, the hub named 4"},
        {"\"ETag\": \"0123456789012345678901234567890123456789\", \"X-Linked-Size\": \"3\"", "the checksum is"},
        {"\"ETag\": \"01234567890123456789012345678901234567890123456789012345678901234\", \"X-Linked-Size\": \"3\"", NULL},
    };
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        answer("/resolve/.*config.json", "HEAD", 200, of[i].headers, "");
        spt_err err = {0};
        struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
        const spt_status st = find(&q, &err);
        if (st != (of[i].part ? SPT_E_FORMAT : SPT_OK) || (of[i].part && !strstr(err.msg, of[i].part)))
            fail_msg("%s: %s \"%s\", wanted \"%s\"", of[i].headers, spt_status_text(st), err.msg,
                     of[i].part ? of[i].part : "");
        if (!st) /* a file of three bytes, whatever its ETag said */
            EXPECT_TRUE(fs_exists(test_path(q.found, "config.json")));
    }
    char headers[1400];
    snprintf(headers, sizeof headers, "\"ETag\": \"%0511d\", \"X-Linked-Size\": \"3\"", 0);
    answer("/resolve/.*config.json", "HEAD", 200, headers, "");
    EXPECT("org/t5", HUB_MODEL, SPT_E_IO, ""); /* a name that no file system has */
    snprintf(headers, sizeof headers, "\"ETag\": \"%0600d\", \"X-Linked-Size\": \"3\"", 0);
    answer("/resolve/.*config.json", "HEAD", 200, headers, "");
    EXPECT("org/t5", HUB_MODEL, SPT_E_FORMAT, "has no usable ETag");
    answer("/resolve/.*config.json", "HEAD", 302, "\"ETag\": \"abc\", \"Location\": \"http://127.0.0.1:1/x\"", "");
    EXPECT("org/t5", HUB_MODEL, SPT_E_FORMAT, "has no size"); /* the length of the answer is not the file's */
}

static void listings(void **state)
{
    (void)state;
    static const char whole[] =
        "{\\\"x\\\": [1, {\\\"y\\\": null}], \\\"sha\\\": \\\"" COMMIT "\\\", \\\"siblings\\\": "
        "[{\\\"size\\\": 5, \\\"rfilename\\\": \\\"config.json\\\"}, {}, {\\\"rfilename\\\": 7}, "
        "{\\\"rfilename\\\": \\\"a\\\\\\\\u0041\\\"}, {\\\"rfilename\\\": \\\"a/config.json\\\"}]}";
    answer("/api/models/", "GET", 200, "", whole);
    EXPECT("org/none", HUB_MODEL, SPT_E_FORMAT, "has no weights that spt reads");
    char cut[sizeof whole];
    for (size_t n = 0; n + 1 < sizeof whole; n += 7) {
        memcpy(cut, whole, sizeof whole);
        cut[n] = '\0';
        if (n && cut[n - 1] == '\\')
            continue;
        answer("/api/models/", "GET", 200, "", cut);
        EXPECT("org/none", HUB_MODEL, SPT_E_FORMAT, "the answer of");
    }
    static const char *const odd[] = {
        "[]", "{}", "{\\\"sha\\\": \\\"main\\\"}", "{\\\"sha\\\": 7}", "{\\\"siblings\\\": {}}",
        "{\\\"siblings\\\": [7]}", "{\\\"siblings\\\": [[]]}", "{\\\"siblings\\\": [{7}]}",
        "{\\\"siblings\\\": [{\\\"a\\\": tru}]}", "{\\\"siblings\\\": [{\\\"rfilename\\\": tru}]}", "{\\\"b\\\": tru}",
        "{\\\"x\\\": NaN, \\\"sha\\\": \\\"" COMMIT "\\\", \\\"siblings\\\": []}"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        answer("/api/models/", "GET", 200, "", odd[i]);
        EXPECT("org/none", HUB_MODEL, SPT_E_FORMAT, "the answer of");
    }
    char body[3000];
    snprintf(body, sizeof body, "{\\\"sha\\\": \\\"%0600d\\\"}", 0);
    answer("/api/models/", "GET", 200, "", body);
    EXPECT_TRUE(find(&(struct question){.text = "org/none", .o.need = HUB_MODEL}, NULL) != SPT_OK);
    snprintf(body, sizeof body, "{\\\"sha\\\": \\\"" COMMIT "\\\", \\\"siblings\\\": [{\\\"rfilename\\\": \\\"%0600d\\\"}]}", 0);
    answer("/api/models/", "GET", 200, "", body);
    EXPECT("org/none", HUB_MODEL, SPT_E_FORMAT, "is no model: it has no config.json");
}

static void what_is_chosen(void **state)
{
    (void)state;
    test_server_control(&server, "clear", "");
    fresh(), EXPECT("org/none", HUB_MODEL, SPT_E_FORMAT, "no weights that spt reads");
    fresh(), EXPECT("org/none", HUB_ADAPTER, SPT_E_FORMAT, "is no PEFT adapter");
    fresh(), EXPECT("org/bin", HUB_ADAPTER, SPT_OK, "models--org--bin");
    fresh(), EXPECT("org/ada", HUB_ADAPTER, SPT_OK, "models--org--ada");
    fresh(), EXPECT("org/bin", HUB_ANY, SPT_OK, "models--org--bin");
    fresh(), EXPECT("org/bin", HUB_MODEL, SPT_E_FORMAT, "is no model: it has no config.json");
    fresh(), EXPECT("org/byt5", HUB_ANY, SPT_OK, "models--org--byt5"); /* no vocabulary: noted */
    fresh(), EXPECT("org/t5", HUB_VOCAB, SPT_OK, "models--org--t5");
    fresh();
    struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
    spt_err err = {0};
    EXPECT_OK(find(&q, &err), &err);
    char commit[100] = "org/t5@";
    strcat(commit, strrchr(q.found, '/') + 1);
    fresh(), EXPECT(commit, HUB_MODEL, SPT_OK, "models--org--t5");
    EXPECT_TRUE(!fs_exists(test_path(getenv("HF_HUB_CACHE"), REPO "refs")));
}

/* What is not there is noted where it may be asked for again. */
static void what_is_absent(void **state)
{
    (void)state;
    static const struct {
        const char *text, *name;
        unsigned need;
        bool noted;
    } of[] = {{"org/byt5", "byt5", HUB_ANY, true}, {"org/byt5", "byt5", HUB_MODEL | HUB_VOCAB, true},
              {"org/byt5", "byt5", HUB_MODEL, false}, {"org/bin", "bin", HUB_ANY, false}};
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        char path[9000];
        spt_err err = {0};
        struct question q = {.text = of[i].text, .o.need = of[i].need};
        test_server_control(&server, "clear", "");
        fresh();
        EXPECT_OK(find(&q, &err), &err);
        static const char *const file[] = {"spiece.model", "tokenizer.json"};
        for (size_t k = 0; k < 2; k++) {
            snprintf(path, sizeof path, "%s/models--org--%s/.no_exist/%s/%s", getenv("HF_HUB_CACHE"), of[i].name,
                     strrchr(q.found, '/') + 1, file[k]);
            if (fs_exists(path) != of[i].noted)
                fail_msg("%s, need %u: %s", of[i].text, of[i].need, path);
        }
    }
}

static spt_status fetch(void *ctx, spt_err *err)
{
    fresh();
    return find(ctx, err);
}

/* The blobs are there and are looked through; nothing links them. */
static spt_status link_again(void *ctx, spt_err *err)
{
    TRY(fs_remove_tree(test_path(getenv("HF_HUB_CACHE"), "models--org--bin/snapshots"), err));
    return find(ctx, err);
}

static void fetching_with_failures(void **state)
{
    (void)state;
    test_server_control(&server, "clear", "");
    static const struct {
        const char *text;
        unsigned need;
    } of[] = {{"org/shards", HUB_MODEL | HUB_VOCAB}, {"org/bin", HUB_ANY}, {"org/byt5", HUB_ANY}};
    setenv("HF_TOKEN", "good", 1);
    for (size_t i = 0; i < sizeof of / sizeof *of; i++) {
        struct question q = {.text = of[i].text, .o.need = of[i].need};
        fault_set_after(find); /* the cache serves whatever happened before */
        EXPECT_TRUE(fault_every_alloc_stack(fetch, &q, 1) > 20);
        fault_set_after(NULL);
    }
    struct question q = {.text = "org/bin", .o.need = HUB_ANY};
    fresh();
    spt_err err = {0};
    EXPECT_OK(find(&q, &err), &err);
    test_server_control(&server, "clear", "");
    EXPECT_TRUE(fault_every_alloc(link_again, &q) > 20);
    EXPECT_EQ_I64(test_server_count(&server, "GET /org/bin/resolve"), 0); /* not for want of memory either */
    unsetenv("HF_TOKEN");
}

static void expect_token(const char *want)
{
    test_server_control(&server, "clear", "");
    fresh();
    spt_err err = {0};
    struct question q = {.text = "org/t5", .o.need = HUB_VOCAB};
    const spt_status st = find(&q, &err);
    char *log = test_server_log(&server);
    char part[200];
    snprintf(part, sizeof part, "\"auth\": %s%s%s", want ? "\"Bearer " : "null", want ? want : "", want ? "\"" : "");
    if ((want && strcmp(want, "good") ? st != SPT_E_CONFIG : st != SPT_OK) || !strstr(log, part))
        fail_msg("%s %s: %s %s", want ? want : "no token", spt_status_text(st), err.msg, log);
    mem_free(log);
}

static void tokens(void **state)
{
    (void)state;
    char home[4200];
    snprintf(home, sizeof home, "%s/home", base);
    put(home, "token", "\n good\r\n");
    put(home, "bad", "bad");
    put(home, "huggingface/token", "good");
    put(home, ".cache/huggingface/token", "good");
    put(home, "empty", " \n");
    expect_token(NULL); /* HOME is nowhere */
    setenv("HOME", home, 1), expect_token("good");
    setenv("XDG_CACHE_HOME", home, 1), expect_token("good");
    setenv("HF_HOME", test_path(home, ""), 1), expect_token("good");
    setenv("HF_TOKEN_PATH", test_path(home, "bad"), 1), expect_token("bad");
    setenv("HF_TOKEN_PATH", test_path(home, "empty"), 1), expect_token(NULL);
    setenv("HF_TOKEN_PATH", test_path(home, "absent"), 1), expect_token(NULL);
    setenv("HUGGING_FACE_HUB_TOKEN", "good", 1), expect_token("good");
    setenv("HF_TOKEN", "bad", 1), expect_token("bad");
    setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "yes", 1), expect_token(NULL);
    unsetenv("HF_HUB_DISABLE_IMPLICIT_TOKEN");
    setenv("HF_TOKEN", "   ", 1), expect_token(NULL);
    static const char *const odd[] = {"a\x7f", "a\001b", "\xc3\xa4"};
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) {
        fresh(), setenv("HF_TOKEN", odd[i], 1);
        EXPECT("org/t5", HUB_VOCAB, SPT_E_CONFIG, "characters that no token has");
    }
    char *large = malloc(6000);
    memset(large, 'x', 5999), large[5999] = '\0';
    put(home, "large", large);
    free(large);
    clear_environment(NULL);
    fresh(), setenv("HF_TOKEN_PATH", test_path(home, "large"), 1);
    EXPECT_TRUE(find(&(struct question){.text = "org/t5", .o.need = HUB_VOCAB}, NULL) != SPT_OK);
    clear_environment(NULL);
    unsetenv("HOME"); /* no variable says where a token could be */
    expect_token(NULL);
    static const char *const seconds[] = {"", "x", "0.5", "nan", "100000", "30", "30.5", "-3"};
    for (size_t i = 0; i < sizeof seconds / sizeof *seconds; i++) {
        setenv("HF_HUB_ETAG_TIMEOUT", seconds[i], 1); /* odd ones do not count */
        expect_token(NULL);
    }
    clear_environment(NULL);
}

/* --- parts, locks, interruptions -------------------------------------------------------------------- */

static bool give_up(void *ctx, const struct hub_progress *p)
{
    int *left = ctx;
    EXPECT_TRUE(p->done <= p->total && p->before <= p->total && p->seconds >= 0);
    return (*left)-- > 0;
}

/* The name of the blob of the model's weights. */
static void blob_of(const char *found, char *out, size_t cap)
{
    char link[600];
    const ssize_t n = readlink(test_path(found, "model.safetensors"), link, sizeof link - 1);
    EXPECT_TRUE(n > 0);
    link[n] = '\0';
    snprintf(out, cap, "%s", strrchr(link, '/') + 1);
}

static void parts_that_were_left(void **state)
{
    (void)state;
    char blob[600], below[900];
    spt_err err = {0};
    struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
    test_server_control(&server, "clear", "");
    fresh();
    EXPECT_OK(find(&q, &err), &err);
    blob_of(q.found, blob, sizeof blob);
    for (int kind = 0; kind < 4; kind++) {
        static const size_t size[] = {5000, 12000, 12000, 13000};
        char text[13001];
        memset(text, kind == 2 ? 'x' : 'z', sizeof text);
        fresh();
        snprintf(below, sizeof below, REPO "blobs/%s.incomplete", blob);
        put(getenv("HF_HUB_CACHE"), below, "");
        if (kind == 1)
            memset(text, 0, sizeof text); /* whole, and right */
        test_write(test_path(getenv("HF_HUB_CACHE"), below), text, size[kind]);
        test_server_control(&server, "clear", "");
        EXPECT_OK(find(&q, &err), &err);
        struct fs_info info;
        EXPECT_OK(fs_stat(test_path(q.found, "model.safetensors"), &info, &err), &err);
        EXPECT_EQ_I64(info.size, 12000);
        /* right: nothing is asked for; damaged: what is left is fetched, then all of it */
        EXPECT_EQ_I64(test_server_count(&server, "GET /cdn/"), kind == 1 ? 0 : kind == 0 ? 2 : 1);
    }
    /* damage without a part: it is not fetched twice */
    fresh();
    test_server_control(&server, "clear", "");
    test_server_control(&server, "faults", "[{\"path\": \"/cdn/\", \"do\": \"corrupt\", \"after\": 5000, \"count\": -1}]");
    EXPECT("org/t5", HUB_MODEL, SPT_E_FORMAT, "the checksum is");
    EXPECT_EQ_I64(test_server_count(&server, "GET /cdn/"), 1);
    /* a damaged part, and damage again: neither is left */
    fresh();
    put(getenv("HF_HUB_CACHE"), below, "zz");
    test_server_control(&server, "faults", "[{\"path\": \"/cdn/\", \"do\": \"corrupt\", \"after\": 11000, \"count\": -1}]");
    EXPECT("org/t5", HUB_MODEL, SPT_E_FORMAT, "the checksum is");
    EXPECT_TRUE(!fs_exists(test_path(getenv("HF_HUB_CACHE"), below)));
}

static struct hub_progress seen;

static bool look(void *ctx, const struct hub_progress *p)
{
    (void)ctx;
    seen = *p;
    return true;
}

static char fetched[300];

static void keep_figures(void *ctx, enum log_level level, const char *line)
{
    (void)ctx, (void)level;
    if (strstr(line, " MB fetched in "))
        snprintf(fetched, sizeof fetched, "%s", line);
}

/* Blobs without a snapshot are used, and counted as what was there before. */
static void blobs_that_are_there(void **state)
{
    (void)state;
    spt_err err = {0};
    char path[9000], blob[600];
    struct question q = {.text = "org/t5", .o = {.need = HUB_MODEL, .progress = look}};
    test_server_control(&server, "clear", "");
    fresh();
    EXPECT_OK(find(&q, &err), &err);
    EXPECT_EQ_I64(test_server_count(&server, "GET /cdn/"), 1);
    EXPECT_EQ_I64(seen.before, 0);
    EXPECT_EQ_I64(seen.total, 12003);
    EXPECT_TRUE(seen.done <= 12003);
    blob_of(q.found, blob, sizeof blob);
    for (int part = 0; part < 3; part++) { /* the small file is fetched anew, the large one not or in part */
        char link[600];
        const ssize_t n = readlink(test_path(q.found, "config.json"), link, sizeof link - 1);
        EXPECT_TRUE(n > 0);
        link[n] = '\0';
        snprintf(path, sizeof path, "%s/%s", q.found, link);
        EXPECT_EQ_I64(unlink(path), 0);
        EXPECT_OK(fs_remove_tree(q.found, &err), &err);
        snprintf(path, sizeof path, "%s/" REPO "blobs/%s", getenv("HF_HUB_CACHE"), blob);
        static const char zeros[13000];
        if (part) {
            EXPECT_EQ_I64(unlink(path), 0);
            strcat(path, ".incomplete");
            test_write(path, zeros, part == 1 ? 7000 : 13000);
        }
        test_server_control(&server, "clear", "");
        seen = (struct hub_progress){0};
        fetched[0] = '\0';
        log_set_sink(keep_figures, NULL);
        EXPECT_OK(find(&q, &err), &err);
        log_set_sink(NULL, NULL);
        EXPECT_TRUE(strstr(fetched, "org/t5: 0.0 MB fetched in ") != NULL);
        EXPECT_EQ_I64(test_server_count(&server, "GET /cdn/"), part != 0);
        EXPECT_EQ_I64(seen.before, part == 1 ? 7000 : 12000);
        EXPECT_EQ_I64(seen.total, 12003);
    }
}

/* A branch that moved on is followed only where that is asked for. */
static void refreshing(void **state)
{
    (void)state;
    spt_err err = {0};
    char path[9000], first[6000];
    struct question q = {.text = "org/byt5", .o.need = HUB_MODEL};
    test_server_control(&server, "clear", "");
    fresh();
    EXPECT_OK(find(&q, &err), &err);
    snprintf(first, sizeof first, "%s", q.found);
    snprintf(path, sizeof path, "%s/repos/org/byt5/main/config.json", base);
    test_write(path, "{\"x\": 1}\n", 9);
    test_server_control(&server, "clear", "");
    EXPECT_OK(find(&q, &err), &err);
    EXPECT_STR(q.found, first);
    EXPECT_EQ_I64(test_server_count(&server, "GET /"), 0);
    EXPECT_EQ_I64(unlink(test_path(first, "config.json")), 0); /* completed as it is: by its commit */
    snprintf(path, sizeof path, "GET /api/models/org/byt5/revision/%s", strrchr(first, '/') + 1);
    find(&q, &err);
    EXPECT_EQ_I64(test_server_count(&server, path), 1);
    EXPECT_EQ_I64(test_server_count(&server, "GET /api/models/org/byt5/revision/main"), 0);
    test_write(test_path(first, "config.json"), "{}\n", 3);
    test_server_control(&server, "clear", "");
    q.o.refresh = true;
    EXPECT_OK(find(&q, &err), &err);
    EXPECT_EQ_I64(test_server_count(&server, "GET /api/models/org/byt5/revision/main"), 1);
    EXPECT_TRUE(strcmp(q.found, first) != 0);
    struct fs_info info;
    EXPECT_OK(fs_stat(test_path(q.found, "config.json"), &info, &err), &err);
    EXPECT_EQ_I64(info.size, 9);
    EXPECT_OK(fs_stat(test_path(first, "config.json"), &info, &err), &err);
    EXPECT_EQ_I64(info.size, 3);
}

static void interrupted(void **state)
{
    (void)state;
    char blob[600], path[7000];
    spt_err err = {0};
    int left = 0;
    struct question q = {.text = "org/t5", .o.need = HUB_MODEL};
    test_server_control(&server, "clear", "");
    fresh();
    EXPECT_OK(find(&q, &err), &err);
    blob_of(q.found, blob, sizeof blob);
    /* another process holds the lock of the weights */
    fresh();
    snprintf(path, sizeof path, "%s/.locks/models--org--t5", getenv("HF_HUB_CACHE"));
    EXPECT_OK(fs_make_dirs(path, &err), &err);
    snprintf(path + strlen(path), sizeof path - strlen(path), "/%s.lock", blob);
    const int fd = os_open(path, OS_READ | OS_WRITE | OS_CREATE);
    EXPECT_TRUE(fd >= 0 && os_lock(fd) == 0);
    left = 1000;
    q.o.progress = give_up;
    q.o.ctx = &left;
    struct question waits = q;
    int none = 2;
    waits.o.ctx = &none;
    EXPECT_STATUS(find(&waits, &err), SPT_E_INTERRUPTED);
    EXPECT_MSG(&err, "interrupted");
    os_close(fd);
    EXPECT_OK(find(&q, &err), &err);
    EXPECT_TRUE(left < 1000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_at_the_edges_of_their_alphabet),
        cmocka_unit_test(where_the_cache_is),
        cmocka_unit_test(paths_beyond_every_limit),
        cmocka_unit_test(indices),
        cmocka_unit_test(caches_of_every_kind),
        cmocka_unit_test(lists_are_whole),
    };
    const struct CMUnitTest with_hub[] = {
        cmocka_unit_test(refusals),
        cmocka_unit_test(facts),
        cmocka_unit_test(listings),
        cmocka_unit_test(what_is_chosen),
        cmocka_unit_test(what_is_absent),
        cmocka_unit_test(fetching_with_failures),
        cmocka_unit_test(tokens),
        cmocka_unit_test(parts_that_were_left),
        cmocka_unit_test(interrupted),
        cmocka_unit_test(refreshing),
        cmocka_unit_test(blobs_that_are_there),
    };
    const int a = cmocka_run_group_tests(tests, NULL, NULL);
    return a + cmocka_run_group_tests(with_hub, start_hub, stop_hub);
}
