/* The boundary files of tools/make-boundary: ok_* is accepted, bad_* refused, with the status and
 * offset that expected.txt records; ok_* cut short at every length is refused. A newcomer adds a case by
 * adding a file. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/msgpack.h"
#include "fs/fs.h"
#include "store/archive.h"
#include "store/t5x_checkpoint.h"
#include "store/tfrecord.h"
#include "store/zarr.h"
#include "support/memfs.h"

typedef spt_status (*reader)(const void *p, size_t n, spt_err *err);

static spt_status read_msgpack(const void *p, size_t n, spt_err *err)
{
    msgpack_reader r = msgpack_read(p, n);
    msgpack_token t;
    while (msgpack_next(&r, &t))
        ;
    return msgpack_status(&r, "msgpack", err);
}

static void put(const char *path, const void *p, size_t n)
{
    const int fd = os_open(path, OS_WRITE | OS_CREATE | OS_TRUNC);
    EXPECT_TRUE(fd >= 0 && os_write(fd, p, n) == (int64_t)n);
    os_close(fd);
}

static spt_status read_tfrecord(const void *p, size_t n, spt_err *err)
{
    tfrecord_reader *r = NULL;
    const void *data;
    size_t size;
    memfs *m = memfs_new();
    memfs_use(m);
    put("/r", p, n);
    spt_status st = tfrecord_open("/r", &r, err);
    while (!st && !(st = tfrecord_next(r, &data, &size, err)) && data)
        ;
    tfrecord_close(r);
    memfs_use(NULL);
    memfs_free(m);
    return st;
}

/* Metadata, and behind a NUL the first chunk. */
static spt_status read_zarr(const void *p, size_t n, spt_err *err)
{
    const char *nul = n ? memchr(p, 0, n) : NULL;
    const size_t json = nul ? (size_t)(nul - (const char *)p) : n;
    zarr_array a;
    TRY(zarr_parse(p, json, ".zarray", &a, err));
    if (!nul)
        return SPT_OK;
    memfs *m = memfs_new();
    memfs_use(m);
    EXPECT_EQ_I64(os_mkdir("/a"), 0);
    put("/a/0", nul + 1, n - json - 1);
    char *out = mem_alloc(a.bytes, 1);
    const spt_status st = zarr_read("/a", &a, ZARR_MISSING_WEIGHTS, out, err);
    mem_free(out);
    memfs_use(NULL);
    memfs_free(m);
    return st;
}

static spt_status read_t5x(const void *p, size_t n, spt_err *err)
{
    t5x_reader *r;
    TRY(t5x_open_mem(p, n, NULL, &r, err));
    spt_status st = SPT_OK;
    for (size_t i = 0; !st && i < t5x_count(r); i++) {
        struct t5x_value v;
        const struct t5x_leaf *l = t5x_leaf_at(r, i);
        if (l->kind == T5X_NIL || l->in_zarr)
            continue;
        st = t5x_read(r, l, &v, err);
        if (!st)
            t5x_release(&v);
    }
    t5x_close(r);
    return st;
}

/* Every member to its end; a file that is of another kind counts as refused. */
static spt_status read_archive(enum archive_kind kind, const void *p, size_t n, spt_err *err)
{
    archive *a = NULL;
    memfs *m = memfs_new();
    memfs_use(m);
    put("/a", p, n);
    spt_status st = archive_open("/a", &a, err);
    if (!st && archive_kind(a) != kind)
        st = err_set(err, SPT_E_FORMAT, "another kind of file");
    for (size_t i = 0; !st && i < archive_count(a); i++) {
        archive_stream *s = NULL;
        char block[100];
        st = archive_read(a, i, &s, err);
        for (size_t got = 1; !st && got;)
            st = archive_stream_read(s, block, sizeof block, &got, err);
        archive_stream_close(s);
    }
    archive_close(a);
    memfs_use(NULL);
    memfs_free(m);
    return st;
}

static spt_status read_zip(const void *p, size_t n, spt_err *err)
{
    return read_archive(ARCHIVE_ZIP, p, n, err);
}

static spt_status read_tar(const void *p, size_t n, spt_err *err)
{
    return read_archive(ARCHIVE_TAR, p, n, err);
}

/* Is the file, cut to k bytes, still a whole one? */
static bool whole_at(const char *format, const char *p, size_t n, size_t k)
{
    size_t at = 0, size;
    const void *data = p;
    if (!strcmp(format, "zarr")) /* the metadata alone */
        return memchr(p, 0, n) && k == strlen(p);
    if (!strcmp(format, "tar")) /* one of the two blocks at the end is enough */
        return n >= 1024 && p[0] != 0x1f && k >= n - 512 && memcmp(p + n - 1024, p + n - 512, 512) == 0;
    if (strcmp(format, "tfrecord"))
        return false;
    if (n > 1 && p[0] == 0x1f)
        return k == 0;
    while (at < k && !tfrecord_parse(p, n, &at, &data, &size, "", NULL))
        ;
    return at == k;
}

static void check_truncations(const char *format, reader read, const char *name, const char *p,
                              size_t n)
{
    spt_err err;
    for (size_t k = 0; k < n; k++) {
        char *cut = malloc(k ? k : 1); /* exact, so that sanitizers see a read beyond */
        memcpy(cut, p, k);
        const spt_status st = read(cut, k, &err);
        free(cut);
        if (st != (whole_at(format, p, n, k) ? SPT_OK : SPT_E_FORMAT))
            fail_msg("%s/%s cut to %zu of %zu bytes: %s", format, name, k, n, spt_status_text(st));
    }
}

static void run(const char *format, reader read, size_t at_least)
{
    char dir[64], file[400];
    fs_names names;
    spt_err err;
    buf seen;
    size_t count = 0;
    snprintf(dir, sizeof dir, "tests/boundary/%s", format);
    EXPECT_OK(fs_list(dir, &names, &err), &err);
    buf_init(&seen, 1 << 20);
    for (size_t i = 0; i < names.count; i++) {
        const char *name = names.name[i];
        char *p;
        size_t n;
        if (!strcmp(name, "expected.txt"))
            continue;
        snprintf(file, sizeof file, "%s/%s", dir, name);
        EXPECT_OK(fs_read_all(file, 1 << 20, &p, &n, &err), &err);
        err = (spt_err){0};
        fault_install();
        const spt_status st = read(p, n, &err);
        if (fault_peak_bytes() > 16 * n + (1 << 20))
            fail_msg("%s: %zu bytes of heap for %zu", file, fault_peak_bytes(), n);
        fault_remove();
        const bool ok = !strncmp(name, "ok_", 3);
        EXPECT_TRUE(ok || !strncmp(name, "bad_", 4));
        if (st != (ok ? SPT_OK : SPT_E_FORMAT))
            fail_msg("%s: %s (%s)", file, spt_status_text(st), err.msg);
        if (!ok)
            EXPECT_TRUE(err.msg[0]);
        buf_addf(&seen, "%s %llu\n", name, (unsigned long long)err.offset);
        if (ok)
            check_truncations(format, read, name, p, n);
        mem_free(p);
        count++;
    }
    fs_names_free(&names);
    snprintf(file, sizeof file, "%s/expected.txt", dir);
    if (getenv("SPT_TEST_REWRITE"))
        test_write(file, seen.data, seen.len);
    char *want;
    size_t n;
    EXPECT_OK(fs_read_all(file, 1 << 20, &want, &n, &err), &err);
    EXPECT_STR(buf_str(&seen), want);
    mem_free(want);
    buf_release(&seen);
    if (count < at_least)
        fail_msg("%s: only %zu files", dir, count);
    print_message("boundary: %s, %zu files\n", format, count);
}

static void msgpack(void **state)
{
    run("msgpack", read_msgpack, 40);
}

static void zarr(void **state)
{
    run("zarr", read_zarr, 40);
}

static void tfrecord(void **state)
{
    run("tfrecord", read_tfrecord, 40);
}

static void t5x(void **state)
{
    run("t5x", read_t5x, 40);
}

static void zip(void **state)
{
    run("zip", read_zip, 60);
}

static void tar(void **state)
{
    run("tar", read_tar, 40);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(msgpack),
        cmocka_unit_test(zarr),
        cmocka_unit_test(tfrecord),
        cmocka_unit_test(t5x),
        cmocka_unit_test(zip),
        cmocka_unit_test(tar),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
