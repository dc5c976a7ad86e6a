#define _GNU_SOURCE
#include "support/test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fs/fs.h"
#include "model/hash_cache.h"

static char cache[1024];

static const char *cache_only(const char *name)
{
    return !strcmp(name, "SPT_CACHE_DIR") ? cache : NULL;
}

static const char *nothing(const char *name)
{
    (void)name;
    return NULL;
}

static void use_env(const char *(*env)(const char *))
{
    static struct os_ops ops;
    ops = os_real;
    ops.getenv = env;
    os_set(&ops);
}

/* A sparse file with one tensor of this many bytes. */
static const char *big_file(long bytes)
{
    char header[128] = {0};
    const char *path = test_path(test_tmpdir(), "x.safetensors");
    const int n = snprintf(header + 8, sizeof header - 8,
                           "{\"a\":{\"dtype\":\"U8\",\"shape\":[%ld],\"data_offsets\":[0,%ld]}}",
                           bytes, bytes);
    header[0] = (char)n;
    test_write(path, header, 8 + (size_t)n);
    EXPECT_EQ_I64(truncate(path, 8 + n + bytes), 0);
    return path;
}

static store *open_file(const char *path)
{
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(store_open(path, NULL, &s, &err), &err);
    EXPECT_EQ_I64(store_file_count(s), 1);
    return s;
}

static const char some[33] = "00112233445566778899aabbccddeeff";

static void remembers_large_files(void **state)
{
    (void)state;
    char hex[33] = "x";
    snprintf(cache, sizeof cache, "%s/a/b", test_tmpdir());
    const char *path = big_file(70 << 20);
    use_env(cache_only);
    store *s = open_file(path);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, "");
    hash_cache_put(s, some);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, some);
    store_close(s);
    s = open_file(path);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, some);
    store_close(s);
    const struct timespec times[2] = {{1000, 0}, {1000, 1}}; /* written again: another mtime */
    EXPECT_EQ_I64(utimensat(AT_FDCWD, path, times, 0), 0);
    s = open_file(path);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, "");
    store_close(s);
    s = open_file(big_file(70 << 20)); /* equal size, other inode */
    hash_cache_get(s, hex);
    EXPECT_STR(hex, "");
    store_close(s);
    os_set(NULL);
}

static void small_files_and_no_home(void **state)
{
    (void)state;
    char hex[33];
    snprintf(cache, sizeof cache, "%s/c", test_tmpdir());
    use_env(cache_only);
    store *s = open_file(big_file(1000));
    hash_cache_put(s, some);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, "");
    EXPECT_TRUE(!fs_exists(cache));
    store_close(s);
    s = open_file(big_file(70 << 20));
    use_env(nothing);
    hash_cache_put(s, some);
    hash_cache_get(s, hex);
    EXPECT_STR(hex, "");
    store_close(s);
    os_set(NULL);
}

static void damaged_entries_are_ignored(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "00112233445566778899aabbccddeef",
                                        "00112233445566778899aabbccddeeff0",
                                        "00112233445566778899AABBCCDDEEFF"};
    char hex[33];
    snprintf(cache, sizeof cache, "%s/d", test_tmpdir());
    use_env(cache_only);
    store *s = open_file(big_file(70 << 20));
    hash_cache_put(s, some);
    fs_names names = {0};
    spt_err err = {0};
    EXPECT_OK(fs_list(cache, &names, &err), &err);
    EXPECT_EQ_I64(names.count, 1);
    for (size_t i = 0; i < 4; i++) {
        test_write(test_path(cache, names.name[0]), texts[i], strlen(texts[i]));
        hash_cache_get(s, hex);
        EXPECT_STR(hex, "");
    }
    fs_names_free(&names);
    store_close(s);
    os_set(NULL);
}

static spt_status put_and_get(void *ctx, spt_err *err)
{
    char hex[33];
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    hash_cache_put(s, some);
    hash_cache_get(s, hex);
    store_close(s);
    return hex[0] && strcmp(hex, some) != 0 ? SPT_E_INTERNAL : SPT_OK;
}

static void failures_are_harmless(void **state)
{
    (void)state;
    char path[1024], old[1024] = "";
    snprintf(path, sizeof path, "%s", big_file(70 << 20));
    snprintf(cache, sizeof cache, "%s/e", test_tmpdir());
    if (getenv("SPT_CACHE_DIR"))
        snprintf(old, sizeof old, "%s", getenv("SPT_CACHE_DIR"));
    setenv("SPT_CACHE_DIR", cache, 1);
    EXPECT_TRUE(fault_every_alloc(put_and_get, path) > 5);
    EXPECT_TRUE(fault_every_syscall(put_and_get, path, ENOSPC) > 5);
    if (old[0])
        setenv("SPT_CACHE_DIR", old, 1);
    else
        unsetenv("SPT_CACHE_DIR");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(remembers_large_files),
        cmocka_unit_test(small_files_and_no_home),
        cmocka_unit_test(damaged_entries_are_ignored),
        cmocka_unit_test(failures_are_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
