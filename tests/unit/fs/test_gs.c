/* gs:// against the server of tests/server: names, listings, reading through the cache, uploads,
 * logs, locks, directories that appear with their manifest; with faults. */
#define _GNU_SOURCE
#include "support/quick_clock.h"
#include "support/server.h"
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "codec/crc.h"
#include "fs/fs.h"
#include "fs/remote.h"
#include "fs/savedir.h"
#include "os/os.h"

enum { BIG = 5 * 1048576 + 12345 };

static struct test_server server;
static const char *dir, *cache;
static unsigned char *big;

static int setup(void **state)
{
    char bucket[600];
    big = test_noise(BIG, 7);
    dir = test_tmpdir();
    cache = test_tmpdir();
    test_write(test_path(dir, "big"), big, BIG);
    test_write(test_path(dir, "small"), "hello", 5);
    test_write(test_path(dir, "empty"), "", 0);
    snprintf(bucket, sizeof bucket, "data=%s", dir);
    test_server_start(&server, (const char *[]){"--bucket", bucket, "--empty-bucket", "w", "--page", "7",
                                                NULL});
    setenv("STORAGE_EMULATOR_HOST", server.host, 1);
    setenv("SPT_HTTP_TIMEOUT", "2", 1);
    setenv("SPT_LEASE_SECONDS", "1", 1);
    test_quick_clock(200);
    spt_err err;
    EXPECT_OK(fs_set_cache(cache, NULL, &err), &err);
    return 0;
}

static int teardown(void **state)
{
    fs_release();
    test_server_stop(&server);
    free(big);
    return 0;
}

static void faults(const char *json)
{
    test_server_control(&server, "clear", NULL);
    test_server_control(&server, "faults", json);
}

static void fresh_cache(void)
{
    spt_err err;
    cache = test_tmpdir();
    EXPECT_OK(fs_set_cache(cache, NULL, &err), &err);
}

static void put(const char *bucket, const char *name, const char *text)
{
    char what[600];
    snprintf(what, sizeof what, "put?bucket=%s&name=%s", bucket, name);
    test_server_control(&server, what, text);
}

static void expect_text(const char *path, const char *want)
{
    spt_err err;
    char *p;
    size_t n;
    EXPECT_OK(fs_read_all(path, 1 << 20, &p, &n, &err), &err);
    EXPECT_STR(p, want);
    EXPECT_EQ_I64(n, strlen(want));
    mem_free(p);
}

static void names(void **state)
{
    spt_err err;
    struct fs_info info;
    static const char *const bad[] = {"gs://", "gs:///x", "gs://UPPER/x", "gs://a b/x", "gs://a?b/x"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_STATUS(fs_stat(bad[i], &info, &err), SPT_E_USAGE);
    static const char *const unknown[] = {"s3://bucket/x", "hdfs://host/x", "http://host/x", "gcs://b/x"};
    for (size_t i = 0; i < sizeof unknown / sizeof *unknown; i++) {
        EXPECT_STATUS(fs_stat(unknown[i], &info, &err), SPT_E_USAGE);
        EXPECT_MSG(&err, "gs://bucket/path, and https:// for reading");
    }
    EXPECT_STATUS(fs_write_all("https://host/x", "a", 1, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "can be read, not listed or written");
    buf b;
    buf_init(&b, 1000);
    EXPECT_OK(path_join(&b, "gs://b/run", "state-1", &err), &err);
    EXPECT_STR(buf_str(&b), "gs://b/run/state-1");
    EXPECT_OK(path_join(&b, "/x", "gs://b/run", &err), &err);
    EXPECT_STR(buf_str(&b), "gs://b/run");
    buf_release(&b);
    EXPECT_TRUE(path_is_absolute("gs://b/x") && path_is_absolute("/x") && !path_is_absolute("x/y:/z"));
}

static void looking(void **state)
{
    spt_err err;
    struct fs_info info;
    faults("[]");
    EXPECT_OK(fs_stat("gs://data/small", &info, &err), &err);
    EXPECT_EQ_I64(info.size, 5);
    EXPECT_TRUE(info.is_file && !info.is_dir && info.inode);
    EXPECT_STATUS(fs_stat("gs://data/none", &info, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "gs://data/none");
    EXPECT_STATUS(fs_stat("gs://nowhere/none", &info, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there is no bucket gs://nowhere");
    EXPECT_TRUE(fs_is_dir("gs://data") && fs_is_dir("gs://data/"));
    EXPECT_TRUE(!fs_exists("gs://nowhere"));
    char name[64];
    for (int i = 0; i < 30; i++) { /* more than four pages of seven */
        snprintf(name, sizeof name, "list/d%02d/x", i % 11);
        put("w", name, "1");
        snprintf(name, sizeof name, "list/f%02d", i);
        put("w", name, "2");
    }
    put("w", "list/", "");
    EXPECT_TRUE(fs_is_dir("gs://w/list") && fs_is_dir("gs://w/list/") && !fs_is_dir("gs://w/lis"));
    fs_names n;
    EXPECT_OK(fs_list("gs://w/list", &n, &err), &err);
    EXPECT_EQ_I64(n.count, 41);
    EXPECT_STR(n.name[0], "d00");
    EXPECT_STR(n.name[40], "f29");
    fs_names_free(&n);
    EXPECT_STATUS(fs_list("gs://w/none", &n, &err), SPT_E_NOTFOUND);
    EXPECT_STATUS(fs_list("gs://nowhere/none", &n, &err), SPT_E_NOTFOUND);
    EXPECT_OK(fs_make_dirs("gs://w/made/deep", &err), &err);
    EXPECT_TRUE(fs_is_dir("gs://w/made/deep") && fs_is_dir("gs://w/made"));
    EXPECT_OK(fs_list("gs://w/made/deep", &n, &err), &err);
    EXPECT_EQ_I64(n.count, 0);
    fs_names_free(&n);
    EXPECT_STATUS(fs_map("gs://w/list", &(fs_mapping){0}, &err), SPT_E_IO);
    EXPECT_MSG(&err, "is a directory");
    EXPECT_OK(fs_remove_tree("gs://w/list", &err), &err);
    EXPECT_TRUE(!fs_exists("gs://w/list"));
    EXPECT_OK(fs_remove_tree("gs://w/list", &err), &err); /* absent is fine */
}

static void whole(const char *path)
{
    spt_err err;
    fs_mapping m;
    EXPECT_OK(fs_map(path, &m, &err), &err);
    EXPECT_EQ_I64(m.size, BIG);
    EXPECT_TRUE(!memcmp(m.bytes, big, BIG));
    fs_unmap(&m);
}

static void reading(void **state)
{
    spt_err err;
    faults("[]");
    expect_text("gs://data/small", "hello");
    expect_text("gs://data/empty", "");
    char *p;
    size_t n;
    EXPECT_STATUS(fs_read_all("gs://data/small", 4, &p, &n, &err), SPT_E_FORMAT);
    EXPECT_STATUS(fs_read_all("gs://data/none", 4, &p, &n, &err), SPT_E_NOTFOUND);
    fs_mapping m;
    EXPECT_OK(fs_map("gs://data/empty", &m, &err), &err);
    EXPECT_EQ_I64(m.size, 0);
    fs_unmap(&m);
    whole("gs://data/big");
    faults("[]");
    whole("gs://data/big"); /* from the cache: only its generation is asked for */
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 0);
    EXPECT_EQ_I64(test_server_count(&server, "GET"), 1);
    /* ranges: what is needed and no more */
    fresh_cache();
    faults("[]");
    fs_file *f;
    unsigned char b[100];
    EXPECT_OK(fs_open("gs://data/big", &f, &err), &err);
    EXPECT_EQ_I64(fs_size(f), BIG);
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 0);
    EXPECT_OK(fs_read_at(f, 3 * 1048576 - 50, b, 100, &err), &err);
    EXPECT_TRUE(!memcmp(b, big + 3 * 1048576 - 50, 100));
    EXPECT_OK(fs_read_at(f, 2 * 1048576, b, 100, &err), &err); /* is there already */
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 1);
    char *log = test_server_log(&server);
    EXPECT_TRUE(strstr(log, "bytes=2097152-4194303") != NULL);
    mem_free(log);
    EXPECT_STATUS(fs_read_at(f, BIG - 50, b, 100, &err), SPT_E_FORMAT);
    fs_close(f);
    EXPECT_OK(fs_map_lazily("gs://data/big", &m, &err), &err);
    EXPECT_OK(fs_need(&m, BIG - 10, 10, &err), &err);
    EXPECT_TRUE(!memcmp(m.bytes + BIG - 10, big + BIG - 10, 10));
    fs_unmap(&m);
    whole("gs://data/big"); /* the rest comes, the whole is checked */
    fs_stream *s;
    size_t got, at = 0;
    fresh_cache();
    EXPECT_OK(fs_stream_open("gs://data/big", &s, &err), &err);
    EXPECT_TRUE(fs_stream_can_rewind(s));
    for (int round = 0; round < 2; round++) {
        at = 0;
        unsigned char *all = malloc(BIG);
        do {
            EXPECT_OK(fs_stream_read(s, all + at, BIG - at < 70000 ? BIG - at : 70000, &got, &err), &err);
            at += got;
        } while (got);
        EXPECT_EQ_I64(at, BIG);
        EXPECT_TRUE(!memcmp(all, big, BIG));
        EXPECT_OK(fs_stream_rewind(s, &err), &err);
        free(all);
    }
    fs_stream_close(s);
    setenv("SPT_NO_MMAP", "1", 1);
    whole("gs://data/big");
    unsetenv("SPT_NO_MMAP");
}

static void reading_with_faults(void **state)
{
    const char *const rules[] = {
        "[{\"path\": \"media\", \"do\": \"drop\", \"after\": 300000, \"count\": 3}]",
        "[{\"path\": \"media\", \"do\": \"truncate\", \"after\": 1500000, \"count\": 2}]",
        "[{\"path\": \"media\", \"do\": \"stall\", \"after\": 1000, \"seconds\": 20}]",
        "[{\"do\": \"status\", \"status\": 503, \"count\": 6}]",
        "[{\"do\": \"delay\", \"seconds\": 0.2, \"count\": 2}, {\"do\": \"drop\", \"count\": 3}]",
        "[{\"path\": \"media\", \"do\": \"corrupt\", \"after\": 77}]", /* found by the CRC, asked for again */
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        fresh_cache();
        faults(rules[i]);
        whole("gs://data/big");
        faults(rules[i]);
        expect_text("gs://data/small", "hello");
    }
    spt_err err;
    fs_mapping m;
    fresh_cache();
    faults("[{\"path\": \"media\", \"do\": \"corrupt\", \"after\": 77, \"count\": -1}]");
    EXPECT_STATUS(fs_map("gs://data/big", &m, &err), SPT_E_IO);
    EXPECT_MSG(&err, "CRC-32C");
    EXPECT_MSG(&err, "gs://data/big");
    char *p;
    size_t n;
    EXPECT_STATUS(fs_read_all("gs://data/big", BIG, &p, &n, &err), SPT_E_IO);
    EXPECT_MSG(&err, "CRC-32C");
    faults("[]");
    whole("gs://data/big");
}

/* One clear error, and the new content for who starts again. */
static void overwritten(void **state)
{
    spt_err err;
    unsigned char b[10];
    fs_mapping m;
    char *text = malloc(3000001);
    memset(text, 'a', 3000000);
    text[3000000] = '\0';
    put("w", "gone", text);
    faults("[]");
    EXPECT_OK(fs_map_lazily("gs://w/gone", &m, &err), &err);
    EXPECT_OK(fs_need(&m, 0, 10, &err), &err);
    memset(text, 'b', 3000000);
    put("w", "gone", text);
    EXPECT_STATUS(fs_need(&m, 2999990, 10, &err), SPT_E_IO);
    EXPECT_MSG(&err, "gs://w/gone was overwritten or deleted while it was read");
    EXPECT_OK(fs_need(&m, 0, 10, &err), &err); /* what is here stays readable */
    fs_unmap(&m);
    fs_file *f;
    EXPECT_OK(fs_open("gs://w/gone", &f, &err), &err);
    EXPECT_OK(fs_read_at(f, 2999990, b, 10, &err), &err);
    EXPECT_TRUE(!memcmp(b, "bbbbbbbbbb", 10));
    EXPECT_OK(fs_remove_tree("gs://w/gone", &err), &err);
    EXPECT_STATUS(fs_read_at(f, 0, b, 10, &err), SPT_E_IO);
    EXPECT_MSG(&err, "overwritten or deleted");
    fs_close(f);
    free(text);
}

/* Damage of a cached file is found and mended; so are rubbish and cut files. */
static void damaged_cache(void **state)
{
    static const char *const scripts[] = {
        "f=$(find %s -type f); printf X | dd of=$f bs=1 seek=2000000 conv=notrunc status=none",
        "f=$(find %s -type f); truncate -s 100 $f",
        "f=$(find %s -type f); : >$f",
        "f=$(find %s -type f); head -c 9000000 /dev/urandom >$f",
        ("f=$(find %s -type f); s=$(stat -c %%s $f); printf XXXX | dd of=$f bs=1 seek=$((s - 4000)) "
         "conv=notrunc status=none"),
        "f=$(find %s -type f); rm $f",
    };
    faults("[]");
    for (size_t i = 0; i < sizeof scripts / sizeof *scripts; i++) {
        char command[1500];
        fresh_cache();
        whole("gs://data/big");
        snprintf(command, sizeof command, scripts[i], cache);
        EXPECT_EQ_I64(system(command), 0);
        whole("gs://data/big");
        whole("gs://data/big");
    }
}

static void limits(void **state)
{
    spt_err err;
    char name[64], command[600];
    char *text = malloc(1000001);
    memset(text, 'x', 1000000);
    text[1000000] = '\0';
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "many/%d", i);
        put("w", name, text);
    }
    cache = test_tmpdir();
    EXPECT_OK(fs_set_cache(cache, "5M", &err), &err);
    faults("[]");
    fs_mapping kept, m;
    EXPECT_OK(fs_map("gs://w/many/0", &kept, &err), &err);
    for (int i = 0; i < 8; i++) {
        snprintf(name, sizeof name, "gs://w/many/%d", i);
        EXPECT_OK(fs_map(name, &m, &err), &err);
        fs_unmap(&m);
        if (i == 4) { /* used again: not among the oldest any more */
            EXPECT_OK(fs_map("gs://w/many/1", &m, &err), &err);
            fs_unmap(&m);
        }
    }
    snprintf(command, sizeof command, "test $(du -s --apparent-size -B1000000 %s | cut -f1) -le 6", cache);
    EXPECT_EQ_I64(system(command), 0);
    EXPECT_TRUE(kept.bytes[999999] == 'x'); /* whoever has it open keeps it */
    fs_unmap(&kept);
    faults("[]");
    EXPECT_OK(fs_map("gs://w/many/7", &m, &err), &err);
    fs_unmap(&m);
    EXPECT_OK(fs_map("gs://w/many/1", &m, &err), &err);
    fs_unmap(&m);
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 0);
    EXPECT_OK(fs_map("gs://w/many/2", &m, &err), &err);
    fs_unmap(&m);
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 1);
    EXPECT_OK(fs_set_cache(cache = test_tmpdir(), "0", &err), &err);
    EXPECT_OK(fs_map("gs://w/many/7", &m, &err), &err);
    EXPECT_TRUE(m.bytes[5] == 'x');
    fs_unmap(&m);
    snprintf(command, sizeof command, "test -z \"$(find %s -type f)\"", cache);
    EXPECT_EQ_I64(system(command), 0);
    EXPECT_STATUS(fs_set_cache(NULL, "much", &err), SPT_E_USAGE);
    EXPECT_STATUS(fs_set_cache("gs://w/cache", NULL, &err), SPT_E_USAGE);
    EXPECT_OK(fs_set_cache("/proc/nothing", NULL, &err), &err);
    EXPECT_STATUS(fs_map("gs://w/many/7", &m, &err), SPT_E_IO);
    EXPECT_MSG(&err, "--cache-dir");
    fresh_cache();
    free(text);
}

static void expecting(void **state)
{
    spt_err err;
    char name[32][64];
    char key[40];
    const char *path[33];
    for (int i = 0; i < 32; i++) {
        snprintf(key, sizeof key, "z/%02d", i);
        put("w", key, key);
        snprintf(name[i], sizeof name[i], "gs://w/z/%02d", i);
        path[i] = name[i];
    }
    path[32] = "gs://w/z/none";
    fresh_cache();
    faults("[]");
    EXPECT_TRUE(!fs_is_near("gs://w/z") && fs_is_near("/tmp"));
    EXPECT_OK(fs_expect_below("gs://w/z", &err), &err);
    EXPECT_OK(fs_expect(path, 33, &err), &err);
    EXPECT_EQ_I64(test_server_count(&server, "alt=media"), 32);
    test_server_control(&server, "clear", NULL);
    for (int i = 0; i < 32; i++)
        expect_text(path[i], path[i] + strlen("gs://w/"));
    EXPECT_TRUE(!fs_exists("gs://w/z/none"));
    EXPECT_EQ_I64(test_server_count(&server, "GET"), 1); /* the question whether "none" is a directory */
    /* What we change ourselves is seen at once; who lists sees everything. */
    EXPECT_OK(fs_write_all("gs://w/z/none", "new", 3, &err), &err);
    expect_text("gs://w/z/none", "new");
    EXPECT_OK(fs_expect_below("gs://w/z", &err), &err);
    put("w", "z/other", "other");
    fs_names n;
    EXPECT_OK(fs_list("gs://w/z", &n, &err), &err);
    fs_names_free(&n);
    expect_text("gs://w/z/other", "other");
    EXPECT_OK(fs_expect((const char *const[]){"/tmp/nothing"}, 1, &err), &err);
}

static void writing(void **state)
{
    spt_err err;
    faults("[]");
    EXPECT_OK(fs_write_all("gs://w/a/b c/\xc3\xa9?#", "text", 4, &err), &err);
    expect_text("gs://w/a/b c/\xc3\xa9?#", "text");
    EXPECT_OK(fs_write_all("gs://w/a/b c/\xc3\xa9?#", "new text", 8, &err), &err);
    expect_text("gs://w/a/b c/\xc3\xa9?#", "new text");
    EXPECT_OK(fs_write_all("gs://w/none", "", 0, &err), &err);
    expect_text("gs://w/none", "");
    EXPECT_STATUS(fs_write_all("gs://nowhere/x", "a", 1, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there is no bucket gs://nowhere");
    EXPECT_STATUS(fs_write_all("gs://w", "a", 1, &err), SPT_E_USAGE);
    static const char *const rules[] = {
        "[]",
        "[{\"method\": \"POST\", \"do\": \"lost\"}]", /* done, but the answer is lost */
        "[{\"method\": \"POST\", \"do\": \"drop\", \"count\": 2}]",
        "[{\"method\": \"POST\", \"do\": \"status\", \"status\": 503, \"count\": 3}]",
        "[{\"method\": \"PUT\", \"do\": \"lost\"}, {\"method\": \"PUT\", \"do\": \"lost\", \"skip\": 1}]",
        "[{\"method\": \"PUT\", \"do\": \"drop\", \"after\": 3000000}]",
        "[{\"method\": \"PUT\", \"do\": \"drop\", \"after\": 12000000, \"skip\": 1}]",
        "[{\"method\": \"PUT\", \"do\": \"status\", \"status\": 500, \"count\": 3}]",
    };
    enum { SIZE = 20 * 1048576 + 77 };
    unsigned char *p = malloc(SIZE);
    for (size_t i = 0; i < SIZE; i++)
        p[i] = big[i % BIG];
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        faults(rules[i]);
        EXPECT_OK(fs_write_all("gs://w/small", rules[i], strlen(rules[i]), &err), &err);
        faults(rules[i]);
        EXPECT_OK(fs_write_all("gs://w/large", p, SIZE, &err), &err);
        faults(rules[i]);
        fs_writer *w;
        EXPECT_OK(fs_create("gs://w/pieces", &w, &err), &err);
        for (size_t at = 0; at < SIZE; at += 1000000)
            EXPECT_OK(fs_write(w, p + at, SIZE - at < 1000000 ? SIZE - at : 1000000, &err), &err);
        EXPECT_OK(fs_commit(w, &err), &err);
        faults("[]");
        expect_text("gs://w/small", rules[i]);
        static const char *const large[] = {"gs://w/large", "gs://w/pieces"};
        for (size_t k = 0; k < 2; k++) {
            fs_mapping m;
            EXPECT_OK(fs_map(large[k], &m, &err), &err);
            EXPECT_EQ_I64(m.size, SIZE);
            EXPECT_TRUE(!memcmp(m.bytes, p, SIZE));
            fs_unmap(&m);
        }
        EXPECT_OK(fs_remove_tree("gs://w/large", &err), &err);
    }
    /* Given up: nothing is there. */
    fs_writer *w;
    EXPECT_OK(fs_create("gs://w/given-up", &w, &err), &err);
    EXPECT_OK(fs_write(w, p, SIZE, &err), &err);
    fs_abort(w);
    EXPECT_TRUE(!fs_exists("gs://w/given-up"));
    faults("[{\"method\": \"PUT\", \"do\": \"status\", \"status\": 503, \"count\": -1}]");
    EXPECT_STATUS(fs_write_all("gs://w/given-up", p, SIZE, &err), SPT_E_IO);
    faults("[]");
    EXPECT_TRUE(!fs_exists("gs://w/given-up"));
    /* Another writer in between is told, and its content stays. */
    EXPECT_OK(fs_create("gs://w/two", &w, &err), &err);
    EXPECT_OK(fs_write(w, "mine", 4, &err), &err);
    put("w", "two", "theirs");
    EXPECT_STATUS(fs_commit(w, &err), SPT_E_IO);
    EXPECT_MSG(&err, "changed by another writer");
    expect_text("gs://w/two", "theirs");
    free(p);
}

static void moving(void **state)
{
    spt_err err;
    faults("[]");
    put("w", "old/a", "1");
    put("w", "old/sub/b", "2");
    put("w", "old/z", "3");
    EXPECT_OK(fs_rename("gs://w/old", "gs://w/new", &err), &err);
    EXPECT_TRUE(!fs_exists("gs://w/old"));
    expect_text("gs://w/new/a", "1");
    expect_text("gs://w/new/sub/b", "2");
    EXPECT_OK(fs_rename("gs://w/new/z", "gs://w/new/y", &err), &err);
    expect_text("gs://w/new/y", "3");
    EXPECT_TRUE(!fs_exists("gs://w/new/z"));
    EXPECT_STATUS(fs_rename("gs://w/absent", "gs://w/x", &err), SPT_E_NOTFOUND);
    EXPECT_STATUS(fs_rename("gs://w/new", "/tmp/x", &err), SPT_E_USAGE);
    EXPECT_OK(fs_write_all("gs://w/copy/large", big, BIG, &err), &err); /* copied in two calls */
    EXPECT_OK(fs_rename("gs://w/copy", "gs://w/moved", &err), &err);
    whole("gs://w/moved/large");
    EXPECT_OK(fs_remove_tree("gs://w/new", &err), &err);
}

static void logs(void **state)
{
    spt_err err;
    static const char *const rules[] = {
        "[]", "[{\"path\": \"compose\", \"do\": \"lost\"}]",
        "[{\"path\": \"compose\", \"do\": \"status\", \"status\": 501, \"count\": -1}]",
        "[{\"do\": \"status\", \"status\": 503, \"count\": 4}]",
        "[{\"method\": \"POST\", \"do\": \"lost\", \"skip\": 1}]",
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++) {
        fs_log *l;
        fs_names n;
        faults("[]");
        EXPECT_OK(fs_log_open("gs://w/logs/l", UINT64_MAX, &l, &err), &err);
        EXPECT_EQ_I64(fs_log_size(l), 0);
        faults(rules[i]);
        EXPECT_OK(fs_log_append(l, "one\n", 4, &err), &err);
        EXPECT_OK(fs_log_sync(l, &err), &err);
        EXPECT_OK(fs_log_append(l, "two\n", 4, &err), &err);
        EXPECT_OK(fs_log_sync(l, &err), &err);
        EXPECT_OK(fs_log_sync(l, &err), &err);
        EXPECT_OK(fs_log_append(l, "three\n", 6, &err), &err);
        EXPECT_EQ_I64(fs_log_size(l), 14);
        fs_log_close(l);
        faults("[]");
        expect_text("gs://w/logs/l", "one\ntwo\nthree\n");
        EXPECT_OK(fs_list("gs://w/logs", &n, &err), &err);
        EXPECT_EQ_I64(n.count, 1); /* no segment is left */
        fs_names_free(&n);
        put("w", "logs/l.segment-00000000000000000014", "left by a run that died");
        EXPECT_OK(fs_log_open("gs://w/logs/l", 8, &l, &err), &err);
        EXPECT_EQ_I64(fs_log_size(l), 8);
        EXPECT_OK(fs_log_append(l, "3\n", 2, &err), &err);
        fs_log_close(l);
        expect_text("gs://w/logs/l", "one\ntwo\n3\n");
        EXPECT_STATUS(fs_log_open("gs://w/logs/l", 11, &l, &err), SPT_E_FORMAT);
        EXPECT_OK(fs_list("gs://w/logs", &n, &err), &err);
        EXPECT_EQ_I64(n.count, 1);
        fs_names_free(&n);
        EXPECT_OK(fs_log_open("gs://w/logs/l", 0, &l, &err), &err);
        fs_log_close(l);
        expect_text("gs://w/logs/l", "");
        EXPECT_OK(fs_remove_tree("gs://w/logs/l", &err), &err);
    }
}

static savedir *begin_save(const char *final)
{
    spt_err err;
    savedir *d;
    EXPECT_OK(savedir_begin("gs://w/run/tmp.1", final, "MANIFEST", &d, &err), &err);
    EXPECT_OK(savedir_mkdir(d, "sub", &err), &err);
    EXPECT_OK(savedir_file(d, "sub/x", "x", 1, &err), &err);
    EXPECT_OK(savedir_file(d, "MANIFEST", "m", 1, &err), &err);
    EXPECT_OK(savedir_file(d, "state", "s", 1, &err), &err);
    return d;
}

/* Files go up behind savedir_file's back. */
static bool comes(const char *path)
{
    for (int i = 0; i < 500 && !fs_exists(path); i++)
        os_sleep_ns(10000000);
    return fs_exists(path);
}

static void directories(void **state)
{
    spt_err err;
    faults("[]");
    EXPECT_TRUE(!savedir_is_whole("gs://w/run") && savedir_is_whole("/tmp"));
    savedir *d = begin_save("gs://w/run/state-1");
    EXPECT_TRUE(comes("gs://w/run/state-1/state") && !fs_exists("gs://w/run/state-1/MANIFEST"));
    EXPECT_OK(savedir_publish(d, &err), &err);
    expect_text("gs://w/run/state-1/MANIFEST", "m");
    EXPECT_TRUE(!fs_exists("gs://w/run/state-1/.unfinished"));
    char *log = test_server_log(&server);
    mem_free(log);
    /* The name is taken: everything waits elsewhere; it is an error unless it is free in the end. */
    d = begin_save("gs://w/run/state-1");
    EXPECT_TRUE(comes("gs://w/run/tmp.1/state"));
    EXPECT_STATUS(savedir_publish(d, &err), SPT_E_IO);
    EXPECT_MSG(&err, "exists already");
    EXPECT_TRUE(!fs_exists("gs://w/run/tmp.1"));
    d = begin_save("gs://w/run/state-1");
    EXPECT_OK(fs_rename("gs://w/run/state-1", "gs://w/run/trash", &err), &err);
    EXPECT_OK(savedir_publish(d, &err), &err);
    expect_text("gs://w/run/state-1/sub/x", "x");
    EXPECT_TRUE(!fs_exists("gs://w/run/tmp.1"));
    d = begin_save("gs://w/run/state-2");
    savedir_abort(d);
    EXPECT_TRUE(!fs_exists("gs://w/run/state-2"));
    /* Many files, some large, arrive all; one that fails is the save's failure, and the rest goes. */
    static char large[9 << 20];
    char name[40];
    EXPECT_OK(savedir_begin("gs://w/run/tmp.3", "gs://w/run/many", "MANIFEST", &d, &err), &err);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "part.%d/0", i);
        memset(large, 'a' + i % 26, sizeof large);
        EXPECT_OK(savedir_file(d, name, large, i % 13 == 5 ? sizeof large : 1000, &err), &err);
    }
    EXPECT_OK(savedir_file(d, "MANIFEST", "m", 1, &err), &err);
    EXPECT_OK(savedir_publish(d, &err), &err);
    for (int i = 0; i < 40; i++) {
        snprintf(name, sizeof name, "gs://w/run/many/part.%d/0", i);
        struct fs_info info;
        EXPECT_OK(fs_stat(name, &info, &err), &err);
        EXPECT_EQ_I64((int64_t)info.size, i % 13 == 5 ? (int64_t)sizeof large : 1000);
    }
    EXPECT_OK(fs_remove_tree("gs://w/run/many", &err), &err);
    EXPECT_TRUE(!fs_exists("gs://w/run/many"));
    faults("[{\"method\": \"POST\", \"path\": \"/upload/\", \"skip\": 10, \"do\": \"status\", \"status\": "
           "403, \"body\": \"{}\"}]");
    EXPECT_OK(savedir_begin("gs://w/run/tmp.4", "gs://w/run/many", "MANIFEST", &d, &err), &err);
    spt_status st = SPT_OK;
    for (int i = 0; i < 40 && !st; i++) {
        snprintf(name, sizeof name, "part.%d/0", i);
        st = savedir_file(d, name, large, 1000, &err);
    }
    if (!st)
        st = savedir_file(d, "MANIFEST", "m", 1, &err);
    const spt_status end = savedir_publish(d, &err);
    EXPECT_TRUE(end != SPT_OK && (!st || st == SPT_E_CONFIG));
    faults("[]");
    EXPECT_TRUE(!fs_exists("gs://w/run/many"));
    /* Without a manifest nothing is visible before its time. */
    EXPECT_OK(savedir_begin("gs://w/run/tmp.2", "gs://w/run/npy", NULL, &d, &err), &err);
    EXPECT_OK(savedir_file(d, "prompt", "p", 1, &err), &err);
    EXPECT_TRUE(!fs_exists("gs://w/run/npy"));
    EXPECT_OK(savedir_publish(d, &err), &err);
    expect_text("gs://w/run/npy/prompt", "p");
    EXPECT_TRUE(!fs_exists("gs://w/run/tmp.2"));
    /* What died: swept by the mark; strangers and finished ones stay. */
    put("w", "run/state-3/.unfinished", "");
    put("w", "run/state-3/state", "half");
    put("w", "run/state-4/state", "a stranger's");
    put("w", "run/state-1/.unfinished", "");
    EXPECT_OK(savedir_sweep("gs://w/run", "state-", "MANIFEST", &err), &err);
    EXPECT_TRUE(!fs_exists("gs://w/run/state-3") && fs_exists("gs://w/run/state-4/state"));
    EXPECT_TRUE(fs_exists("gs://w/run/state-1/MANIFEST"));
    EXPECT_TRUE(!fs_exists("gs://w/run/state-1/.unfinished"));
    EXPECT_OK(savedir_sweep("/tmp", "state-", "MANIFEST", &err), &err);
    /* The manifest is the last object of a directory that appears. */
    test_server_control(&server, "clear", NULL);
    d = begin_save("gs://w/run/state-9");
    faults("[{\"method\": \"POST\", \"do\": \"status\", \"status\": 403, \"count\": -1}]");
    EXPECT_STATUS(savedir_publish(d, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "storage.objects.create");
    faults("[]");
    EXPECT_TRUE(!fs_exists("gs://w/run/state-9"));
}

static void locks(void **state)
{
    spt_err err;
    fs_lock *l, *other = NULL;
    char holder[100];
    faults("[]");
    os_set(NULL); /* leases need time that passes */
    EXPECT_OK(fs_lock_take("gs://w/lock", "process 1 on here\n", &l, holder, sizeof holder, &err), &err);
    EXPECT_STR(holder, "");
    EXPECT_STATUS(fs_lock_take("gs://w/lock", "process 2\n", &other, holder, sizeof holder, &err),
                  SPT_E_CONFIG); /* it is renewed */
    EXPECT_STR(holder, "process 1 on here");
    EXPECT_OK(fs_lock_check(l, &err), &err);
    fs_lock_release(l);
    EXPECT_TRUE(!fs_exists("gs://w/lock"));
    /* Left by a process that died: taken over when its lease has run out. */
    put("w", "lock", "process 3 on there\nlease 1\n");
    EXPECT_OK(fs_lock_take("gs://w/lock", "process 4\n", &l, holder, sizeof holder, &err), &err);
    EXPECT_OK(fs_lock_check(l, &err), &err);
    put("w", "lock", "somebody else's\nlease 1\n"); /* lost */
    for (int i = 0; i < 100 && !fs_lock_check(l, NULL); i++)
        usleep(50000);
    EXPECT_STATUS(fs_lock_check(l, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "was lost");
    fs_lock_release(l);
    expect_text("gs://w/lock", "somebody else's\nlease 1\n"); /* not ours to remove */
    EXPECT_STATUS(fs_lock_take("gs://nowhere/lock", "x\n", &l, holder, sizeof holder, &err),
                  SPT_E_NOTFOUND);
    test_quick_clock(200);
}

/* Emulators that do not know ifGenerationMatch let anybody replace anything. */
static void locks_without_preconditions(void **state)
{
    spt_err err;
    fs_lock *l, *other = NULL;
    char holder[100];
    faults("[]");
    os_set(NULL);
    test_server_control(&server, "preconditions?ignore=1", NULL);
    EXPECT_OK(fs_lock_take("gs://w/weak", "process 1 on here\n", &l, holder, sizeof holder, &err),
              &err);
    for (int i = 0; i < 2; i++) {
        EXPECT_STATUS(
            fs_lock_take("gs://w/weak", "process 2\n", &other, holder, sizeof holder, &err),
            SPT_E_CONFIG);
        EXPECT_STR(holder, "process 1 on here");
    }
    EXPECT_OK(fs_lock_check(l, &err), &err);
    put("w", "weak", "somebody else's\nlease 1\n"); /* who came within the same instant */
    for (int i = 0; i < 100 && !fs_lock_check(l, NULL); i++)
        usleep(50000);
    EXPECT_STATUS(fs_lock_check(l, &err), SPT_E_CONFIG);
    fs_lock_release(l);
    expect_text("gs://w/weak", "somebody else's\nlease 1\n");
    /* Left over: its lease runs out. */
    EXPECT_OK(fs_lock_take("gs://w/weak", "process 4\n", &l, holder, sizeof holder, &err), &err);
    put("w", "weak", "somebody else's\nlease 1\n");
    fs_lock_release(l); /* before it was noticed */
    expect_text("gs://w/weak", "somebody else's\nlease 1\n");
    test_server_control(&server, "preconditions?ignore=0", NULL);
    test_quick_clock(200);
}

/* Emulators answer 404 without saying what is missing. */
static void missing_buckets_are_named(void **state)
{
    spt_err err;
    fs_lock *l;
    char holder[100], *text;
    size_t n;
    faults("[]");
    test_server_control(&server, "clear", NULL);
    test_server_control(&server, "bare?on=1", NULL);
    EXPECT_STATUS(fs_read_all("gs://nowhere/a", 100, &text, &n, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there is no bucket gs://nowhere");
    EXPECT_STATUS(fs_write_all("gs://nowhere/a", "x", 1, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there is no bucket gs://nowhere");
    EXPECT_STATUS(fs_lock_take("gs://nowhere/lock", "x\n", &l, holder, sizeof holder, &err),
                  SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "there is no bucket gs://nowhere");
    for (int i = 0; i < 3; i++) {
        EXPECT_STATUS(fs_read_all("gs://w/absent", 100, &text, &n, &err), SPT_E_NOTFOUND);
        EXPECT_MSG(&err, "gs://w/absent");
    }
    const int of_bucket = test_server_count(&server, "GET /storage/v1/b/w");
    EXPECT_EQ_I64(of_bucket - test_server_count(&server, "GET /storage/v1/b/w/"), 1);
    test_server_control(&server, "bare?on=0", NULL);
}

static void crc_join(void **state)
{
    for (size_t n = 0; n < 3000; n += 97)
        EXPECT_EQ_I64(remote_crc_join(crc32c(big, n), crc32c(big + n, 5000 - n), 5000 - n),
                      crc32c(big, 5000));
    static const struct {
        const char *text;
        bool ok;
        uint64_t value;
    } sizes[] = {{"0", true, 0},         {"12", true, 12},     {"5K", true, 5120},
                 {"1T", true, (uint64_t)1 << 40}, {"", false, 0},        {"K", false, 0},
                 {"5k", false, 0},       {"5KB", false, 0},    {"-1", false, 0},
                 {"99999999999999999999", false, 0}, {"99999999999T", false, 0}};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        uint64_t v = 0;
        EXPECT_TRUE(remote_parse_size(sizes[i].text, &v) == sizes[i].ok);
        EXPECT_TRUE(v == sizes[i].value);
    }
}

static spt_status read_case(void *ctx, spt_err *err)
{
    fs_mapping m = {0};
    char *text = NULL;
    size_t n = 0;
    struct fs_info info;
    fs_names names = {0};
    spt_status st = fs_set_cache(cache, NULL, err);
    if (!st)
        st = fs_remove_tree(cache, err);
    if (!st)
        st = fs_stat("gs://data/small", &info, err);
    if (!st)
        st = fs_map("gs://data/small", &m, err);
    fs_unmap(&m);
    if (!st)
        st = fs_map("gs://data/small", &m, err); /* from the cache */
    fs_unmap(&m);
    if (!st)
        st = fs_expect_below("gs://data", err);
    if (!st)
        st = fs_read_all("gs://data/small", 100, &text, &n, err);
    mem_free(text);
    if (!st)
        st = fs_list("gs://data", &names, err);
    fs_names_free(&names);
    fs_release();
    return st;
}

/* Pages of seven: all of them, or an error. */
static spt_status list_case(void *ctx, spt_err *err)
{
    fs_names names = {0};
    (void)ctx;
    const spt_status st = fs_list("gs://w/pages", &names, err);
    if (!st)
        EXPECT_EQ_I64(names.count, 20);
    fs_names_free(&names);
    fs_release();
    return st;
}

/* Copied in two calls: to the end, or an error that says why. */
static spt_status move_case(void *ctx, spt_err *err)
{
    (void)ctx;
    TRY(fs_write_all("gs://w/parts/from", big, BIG, err));
    fault_mark_thread(true);
    const spt_status st = fs_rename("gs://w/parts/from", "gs://w/parts/to", err);
    fault_mark_thread(false);
    fs_release();
    return st;
}

static spt_status write_case(void *ctx, spt_err *err)
{
    savedir *d = NULL;
    fs_log *l = NULL;
    spt_status st = fs_remove_tree("gs://w/oom", err);
    if (!st)
        st = fs_write_all("gs://w/oom/file", "abc", 3, err);
    if (!st)
        st = fs_log_open("gs://w/oom/log", UINT64_MAX, &l, err);
    if (!st)
        st = fs_log_append(l, "abc", 3, err);
    if (!st)
        st = fs_log_sync(l, err);
    fs_log_close(l);
    if (!st)
        st = savedir_begin("gs://w/oom/tmp", "gs://w/oom/state-1", "MANIFEST", &d, err);
    if (!st) {
        st = savedir_file(d, "x", "x", 1, err);
        if (!st)
            st = savedir_file(d, "MANIFEST", "m", 1, err);
        if (st)
            savedir_abort(d);
        else
            st = savedir_publish(d, err);
    }
    fs_release();
    return st;
}

static void out_of_memory(void **state)
{
    faults("[]");
    fs_release();
    cache = test_tmpdir();
    EXPECT_TRUE(fault_every_alloc(read_case, NULL) > 20);
    EXPECT_TRUE(fault_every_alloc(write_case, NULL) > 20);
    for (int i = 0; i < 20; i++) {
        char name[32];
        snprintf(name, sizeof name, "pages/f%02d", i);
        put("w", name, "x");
    }
    EXPECT_TRUE(fault_every_alloc_stack(list_case, NULL, 1) > 20);
    EXPECT_TRUE(fault_every_syscall(read_case, NULL, 5 /* EIO */) > 10);
    EXPECT_TRUE(fault_every_syscall(read_case, NULL, 28 /* ENOSPC */) > 10);
    test_quick_clock(200);
}

static void moving_out_of_memory(void **state)
{
    faults("[]");
    fs_release();
    cache = test_tmpdir();
    fault_only_marked(true); /* how many allocations an upload has varies */
    EXPECT_TRUE(fault_every_alloc(move_case, NULL) > 20);
    fault_only_marked(false);
    whole("gs://w/parts/to");
    test_quick_clock(200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names),
        cmocka_unit_test(looking),
        cmocka_unit_test(reading),
        cmocka_unit_test(reading_with_faults),
        cmocka_unit_test(overwritten),
        cmocka_unit_test(damaged_cache),
        cmocka_unit_test(limits),
        cmocka_unit_test(expecting),
        cmocka_unit_test(writing),
        cmocka_unit_test(moving),
        cmocka_unit_test(logs),
        cmocka_unit_test(directories),
        cmocka_unit_test(locks),
        cmocka_unit_test(locks_without_preconditions),
        cmocka_unit_test(missing_buckets_are_named),
        cmocka_unit_test(crc_join),
        cmocka_unit_test(out_of_memory),
        cmocka_unit_test(moving_out_of_memory),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
