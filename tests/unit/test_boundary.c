/* The boundary files of tools/make-boundary: ok_* is accepted, bad_* refused, with the status and
 * offset that expected.txt records; ok_* cut short at every length is refused. A newcomer adds a case by
 * adding a file. */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/msgpack.h"
#include "codec/protobuf.h"
#include "fs/fs.h"
#include "gin/gin.h"
#include "store/archive.h"
#include "store/npy.h"
#include "store/safetensors.h"
#include "store/t5x_checkpoint.h"
#include "store/tfrecord.h"
#include "store/zarr.h"
#include "support/memfs.h"
#include "text/json.h"
#include "vocab/spm_validate.h"

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

static spt_status tfrecord_at(const char *path, spt_err *err)
{
    tfrecord_reader *r = NULL;
    const void *data;
    size_t size;
    spt_status st = tfrecord_open(path, &r, err);
    while (!st && !(st = tfrecord_next(r, &data, &size, err)) && data)
        ;
    tfrecord_close(r);
    return st;
}

static spt_status read_tfrecord(const void *p, size_t n, spt_err *err)
{
    memfs *m = memfs_new();
    memfs_use(m);
    put("/r", p, n);
    const spt_status st = tfrecord_at("/r", err);
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
    const spt_status st = out ? zarr_read("/a", &a, ZARR_MISSING_WEIGHTS, out, err)
                              : err_nomem(err, a.bytes);
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
static spt_status archive_at(const char *path, enum archive_kind kind, spt_err *err)
{
    archive *a = NULL;
    spt_status st = archive_open(path, &a, err);
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
    return st;
}

static spt_status read_archive(enum archive_kind kind, const void *p, size_t n, spt_err *err)
{
    memfs *m = memfs_new();
    memfs_use(m);
    put("/a", p, n);
    const spt_status st = archive_at("/a", kind, err);
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

/* Every tensor, and every byte of it. */
static spt_status load_all(store *s, spt_err *err)
{
    spt_status st = SPT_OK;
    unsigned sum = 0;
    for (size_t i = 0; !st && i < store_count(s); i++) {
        struct store_data d = {0};
        st = store_load(s, i, &d, err);
        for (size_t k = 0; !st && k < store_at(s, i)->bytes; k++)
            sum += ((const unsigned char *)d.view.data)[k];
        if (!st)
            store_release(s, &d);
    }
    store_close(s);
    return st || sum == (unsigned)-1 ? st : SPT_OK;
}

static spt_status read_safetensors(const void *p, size_t n, spt_err *err)
{
    store *s;
    TRY(safetensors_open_mem(p, n, &s, err));
    return load_all(s, err);
}

static spt_status read_npy(const void *p, size_t n, spt_err *err)
{
    store *s;
    TRY(npy_open_mem(p, n, NULL, &s, err));
    return load_all(s, err);
}

static spt_status read_json(const void *p, size_t n, spt_err *err)
{
    json_reader r;
    struct json_event ev;
    json_open(&r, p, n, 0);
    spt_status st = json_next(&r, &ev, err);
    while (!st && ev.kind != JSON_END)
        st = json_next(&r, &ev, err);
    json_close(&r);
    return st;
}

static spt_status read_sentencepiece(const void *p, size_t n, spt_err *err)
{
    struct spm_model m = {0};
    const spt_status st = spm_model_parse(p, n, &m, err);
    spm_model_release(&m);
    return st;
}

/* Parsed, checked as a whole, and a configurable called. */
static spt_status read_gin(const void *p, size_t n, spt_err *err)
{
    static const gin_def defs[] = {
        {"fx", "pair", GIN_FUNCTION, "left=None, right=None", true, NULL},
        {"fx", "kw", GIN_FUNCTION, "**kwargs", true, NULL},
        {"fx.mod", "dyn", GIN_CLASS, "a=1, b=(1, 2), c='x'", false, NULL},
    };
    gin_registry *r = NULL;
    gin_config *c = NULL;
    gin_value v;
    spt_status st = gin_registry_new(&r, err);
    if (!st)
        st = gin_registry_add(r, defs, sizeof defs / sizeof *defs, err);
    if (!st)
        st = gin_config_new(r, &c, err);
    if (!st)
        st = gin_parse_string(c, p, n, err);
    if (!st)
        st = gin_finalize(c, err);
    if (!st)
        st = gin_call(c, "pair", NULL, 0, &v, err);
    gin_config_free(c);
    gin_registry_free(r);
    return st;
}

/* A prefix may be a whole message when it ends where a field does. */
static bool field_ends_at(const char *p, size_t n, size_t k)
{
    cursor c = cursor_make(p, n);
    pb_field f;
    while (pb_next(&c, &f) && cursor_offset(&c) < k)
        ;
    return cursor_offset(&c) == k;
}

/* Nothing can be said of it beforehand: half a number is a number. */
static bool open_at(const char *format, const char *p, size_t n, size_t k)
{
    if (!strcmp(format, "json"))
        return n && !strchr("{[\" \t", p[0]);
    return !strcmp(format, "sentencepiece") && field_ends_at(p, n, k);
}

/* Is the file, cut to k bytes, still a whole one? */
static bool whole_at(const char *format, const char *p, size_t n, size_t k)
{
    size_t at = 0, size;
    const void *data = p;
    if (!strcmp(format, "zarr")) /* the metadata alone */
        return memchr(p, 0, n) && k == strlen(p);
    if (!strcmp(format, "json")) /* white space behind */
        return k && strspn(p + k, " \t\r\n") == n - k && !strchr("{[,:", p[k - 1]);
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
        const spt_status want = !strcmp(format, "gin") ? SPT_E_CONFIG : SPT_E_FORMAT;
        if (open_at(format, p, n, k) || want == SPT_E_CONFIG)
            EXPECT_TRUE(!st || st == want);
        else if (st != (whole_at(format, p, n, k) ? SPT_OK : SPT_E_FORMAT))
            fail_msg("%s/%s cut to %zu of %zu bytes: %s", format, name, k, n, spt_status_text(st));
    }
}

struct content {
    reader read;
    const char *p;
    size_t n;
};

static spt_status read_again(void *ctx, spt_err *err)
{
    const struct content *c = ctx;
    return c->read(c->p, c->n, err);
}

static void run(const char *format, reader read, size_t at_least)
{
    char dir[64], file[400];
    fs_names names;
    spt_err err;
    buf seen;
    size_t count = 0;
    int64_t allocations = 0;
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
        if (st != (ok ? SPT_OK : !strcmp(format, "gin") ? SPT_E_CONFIG : SPT_E_FORMAT))
            fail_msg("%s: %s (%s)", file, spt_status_text(st), err.msg);
        if (!ok)
            EXPECT_TRUE(err.msg[0]);
        buf_addf(&seen, "%s %llu\n", name, (unsigned long long)err.offset);
        if (ok)
            check_truncations(format, read, name, p, n);
        if (ok && n < 4096)
            allocations += fault_every_alloc(read_again, &(struct content){read, p, n});
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
    print_message("boundary: %s, %zu files, %lld allocations failed\n", format, count,
                  (long long)allocations);
}

/* --- on a real file system, with calls that fail -------------------------------------------- */

static spt_status disk_archive(void *path, spt_err *err)
{
    return archive_at(path, strstr(path, "/zip/") ? ARCHIVE_ZIP : ARCHIVE_TAR, err);
}

static spt_status disk_tfrecord(void *path, spt_err *err)
{
    return tfrecord_at(path, err);
}

static spt_status disk_store(void *path, spt_err *err)
{
    store *s;
    const bool npy = strstr(path, "/npy/") != NULL;
    TRY(npy ? npy_open(path, NULL, &s, err) : safetensors_open(path, NULL, &s, err));
    return load_all(s, err);
}

static spt_status disk_t5x(void *path, spt_err *err)
{
    char *p;
    size_t n;
    TRY(fs_read_all(path, 1 << 20, &p, &n, err));
    const spt_status st = read_t5x(p, n, err);
    mem_free(p);
    return st;
}

static void calls_fail(void **state)
{
    (void)state;
    static const struct {
        const char *format;
        fault_case read;
    } of[] = {{"zip", disk_archive}, {"tar", disk_archive},  {"tfrecord", disk_tfrecord},
              {"npy", disk_store},   {"safetensors", disk_store}, {"t5x", disk_t5x}};
    static const int kinds[] = {EIO, FAULT_SHORT, FAULT_EOF, EINTR, ENOMEM};
    int64_t calls = 0;
    for (size_t f = 0; f < sizeof of / sizeof *of; f++) {
        char dir[64], file[400];
        fs_names names;
        spt_err err;
        snprintf(dir, sizeof dir, "tests/boundary/%s", of[f].format);
        EXPECT_OK(fs_list(dir, &names, &err), &err);
        for (size_t i = 0; i < names.count; i++) {
            if (strncmp(names.name[i], "ok_", 3) != 0)
                continue;
            snprintf(file, sizeof file, "%s/%s", dir, names.name[i]);
            for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
                calls += fault_every_syscall(of[f].read, file, kinds[k]);
        }
        fs_names_free(&names);
    }
    print_message("boundary: %lld calls failed\n", (long long)calls);
    EXPECT_TRUE(calls > 1000);
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

static void safetensors(void **state)
{
    run("safetensors", read_safetensors, 60);
}

static void npy(void **state)
{
    run("npy", read_npy, 40);
}

static void json(void **state)
{
    run("json", read_json, 40);
}

static void sentencepiece(void **state)
{
    run("sentencepiece", read_sentencepiece, 40);
}

static void gin(void **state)
{
    run("gin", read_gin, 120);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors),
        cmocka_unit_test(npy),
        cmocka_unit_test(json),
        cmocka_unit_test(sentencepiece),
        cmocka_unit_test(gin),
        cmocka_unit_test(msgpack),
        cmocka_unit_test(zarr),
        cmocka_unit_test(tfrecord),
        cmocka_unit_test(t5x),
        cmocka_unit_test(zip),
        cmocka_unit_test(tar),
        cmocka_unit_test(calls_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
