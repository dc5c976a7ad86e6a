/* store/spill: any number of records in order of their keys, in little memory. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "store/spill.h"

static uint64_t next(uint64_t *s)
{
    *s = *s * 6364136223846793005u + 1442695040888963407u;
    return *s >> 33;
}

/* Keys of few values, so that many are equal; the record says key and number. */
static void check(size_t n, size_t budget, size_t keys)
{
    char dir[512];
    spill *s;
    spt_err err;
    uint64_t seed = n + budget;
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), "spill"));
    EXPECT_OK(spill_new(dir, "train", budget, &s, &err), &err);
    uint64_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        uint8_t key[SPILL_KEY] = {0};
        char text[64];
        const uint64_t k = next(&seed) % keys;
        for (int b = 0; b < 8; b++)
            key[b] = (uint8_t)(k >> (56 - 8 * b));
        const int len = snprintf(text, sizeof text, "%llu %zu", (unsigned long long)k, i);
        bytes += (uint64_t)len;
        EXPECT_OK(spill_add(s, key, text, (size_t)len, &err), &err);
    }
    EXPECT_EQ_I64(spill_count(s), n);
    EXPECT_EQ_I64(spill_bytes(s), bytes);
    EXPECT_OK(spill_sort(s, &err), &err);
    long long last = -1, last_i = -1;
    for (size_t i = 0;; i++) {
        const uint8_t *key;
        const void *data;
        size_t size;
        char text[64] = "";
        EXPECT_OK(spill_next(s, &key, &data, &size, &err), &err);
        if (!data) {
            EXPECT_EQ_I64(i, n);
            break;
        }
        EXPECT_TRUE(size < sizeof text);
        memcpy(text, data, size);
        char *end;
        const long long k = strtoll(text, &end, 10), number = strtoll(end, NULL, 10);
        EXPECT_TRUE(k > last || (k == last && number > last_i));
        last = k;
        last_i = number;
    }
    spill_close(s);
    fs_names names = {0}; /* nothing is left */
    if (fs_is_dir(dir)) {
        EXPECT_OK(fs_list(dir, &names, &err), &err);
        EXPECT_EQ_I64(names.count, 0);
        fs_names_free(&names);
    }
}

static void sorted(void **state)
{
    check(0, 100, 10);
    check(1, 0, 10);
    check(1000, 1 << 20, 50); /* in memory */
    check(1000, 500, 50);
    check(1000, 0, 1000);   /* every record a run: several merges */
    check(20000, 3000, 7);
}

static void bounded(void **state)
{
    spill *s;
    spt_err err;
    static char record[1000];
    fault_install();
    EXPECT_OK(spill_new(test_path(test_tmpdir(), "bound"), "x", 1 << 20, &s, &err), &err);
    for (size_t i = 0; i < 40000; i++) { /* 40 MB */
        uint8_t key[SPILL_KEY] = {(uint8_t)(i * 7), (uint8_t)(i >> 3)};
        EXPECT_OK(spill_add(s, key, record, sizeof record, &err), &err);
    }
    EXPECT_OK(spill_sort(s, &err), &err);
    for (const void *data = s; data;) {
        const uint8_t *key;
        size_t size;
        EXPECT_OK(spill_next(s, &key, &data, &size, &err), &err);
    }
    EXPECT_TRUE(fault_peak_bytes() < 6 << 20);
    spill_close(s);
    fault_remove();
}

static spt_status whole(void *ctx, spt_err *err)
{
    spill *s;
    const void *data = "";
    TRY(spill_new(ctx, "t", 40, &s, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; i < 20 && !st; i++) {
        uint8_t key[SPILL_KEY] = {(uint8_t)(i * 7)};
        st = spill_add(s, key, "abcdefgh", 8, err);
    }
    if (!st)
        st = spill_sort(s, err);
    while (!st && data) {
        const uint8_t *key;
        size_t size;
        st = spill_next(s, &key, &data, &size, err);
    }
    spill_close(s);
    return st;
}

static void faults(void **state)
{
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), "faults"));
    EXPECT_TRUE(fault_every_alloc(whole, dir) > 20);
    EXPECT_TRUE(fault_every_syscall(whole, dir, 28 /* ENOSPC */) > 20);
    EXPECT_TRUE(fault_every_syscall(whole, dir, FAULT_SHORT) > 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sorted),
        cmocka_unit_test(bounded),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
