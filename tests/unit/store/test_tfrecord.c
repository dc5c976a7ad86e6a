/* store/tfrecord: round trips, every flipped byte, truncation at every length, lengths that lie. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "codec/crc.h"
#include "codec/gzip.h"
#include "store/tfrecord.h"

static const char *const texts[] = {"first", "", "a longer third record"};

static void build(buf *b)
{
    for (int i = 0; i < 3; i++)
        tfrecord_frame(b, texts[i], strlen(texts[i]));
}

static spt_status read_all(const char *path, size_t *records, spt_err *err)
{
    tfrecord_reader *r;
    const void *data;
    size_t n;
    spt_status st = tfrecord_open(path, &r, err);
    if (st)
        return st;
    for (*records = 0; !(st = tfrecord_next(r, &data, &n, err)) && data; ++*records)
        if (*records < 3)
            EXPECT_TRUE(n == strlen(texts[*records]) && !memcmp(data, texts[*records], n));
    EXPECT_EQ_I64(tfrecord_index(r), *records);
    if (st) { /* sticky */
        spt_err again;
        EXPECT_STATUS(tfrecord_next(r, &data, &n, &again), st);
    }
    tfrecord_close(r);
    return st;
}

static void plain_and_gzip(void **state)
{
    spt_err err;
    buf b, z;
    size_t records;
    const char *path = test_path(test_tmpdir(), "r");
    buf_init(&b, 1000);
    buf_init(&z, 1000);
    build(&b);
    test_write(path, b.data, b.len);
    EXPECT_OK(read_all(path, &records, &err), &err);
    EXPECT_EQ_I64(records, 3);
    EXPECT_OK(gzip_encode(b.data, b.len, 1, &z, &err), &err);
    test_write(path, z.data, z.len);
    EXPECT_OK(read_all(path, &records, &err), &err);
    EXPECT_EQ_I64(records, 3);
    test_write(path, z.data, z.len - 3);
    EXPECT_STATUS(read_all(path, &records, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, path);
    test_write(path, "", 0);
    EXPECT_OK(read_all(path, &records, &err), &err);
    EXPECT_EQ_I64(records, 0);
    EXPECT_STATUS(read_all(test_path(test_tmpdir(), "none"), &records, &err), SPT_E_NOTFOUND);
    buf_release(&b);
    buf_release(&z);
}

static void damage_names_file_and_record(void **state)
{
    spt_err err;
    buf b;
    size_t records;
    const char *path = test_path(test_tmpdir(), "d");
    buf_init(&b, 1000);
    build(&b);
    for (size_t i = 0; i < b.len; i++) {
        b.data[i] ^= 0x10;
        test_write(path, b.data, b.len);
        EXPECT_STATUS(read_all(path, &records, &err), SPT_E_FORMAT);
        EXPECT_EQ_I64(records, i < 21 ? 0 : i < 37 ? 1 : 2);
        char part[40];
        snprintf(part, sizeof part, "record %zu at byte %d", records,
                 records == 0 ? 0 : records == 1 ? 21 : 37);
        EXPECT_MSG(&err, part);
        EXPECT_MSG(&err, path);
        b.data[i] ^= 0x10;
    }
    for (size_t n = 0; n < b.len; n++) {
        test_write(path, b.data, n);
        const bool whole = n == 0 || n == 21 || n == 37;
        EXPECT_STATUS(read_all(path, &records, &err), whole ? SPT_OK : SPT_E_FORMAT);
        if (!whole)
            EXPECT_MSG(&err, "ends inside");
    }
    buf_release(&b);
}

static void a_lie_about_length_allocates_nothing(void **state)
{
    static const uint64_t lengths[] = {(uint64_t)1 << 30, ((uint64_t)1 << 30) + 1, UINT32_MAX,
                                       INT64_MAX, UINT64_MAX, UINT64_MAX - 15};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char head[12];
        spt_err err;
        size_t records, offset = 0, n;
        const void *data;
        const char *path = test_path(test_tmpdir(), "lie");
        for (int k = 0; k < 8; k++)
            head[k] = (unsigned char)(lengths[i] >> (8 * k));
        const uint32_t crc = crc32c_mask(crc32c(head, 8));
        for (int k = 0; k < 4; k++)
            head[8 + k] = (unsigned char)(crc >> (8 * k));
        test_write(path, head, sizeof head);
        fault_install();
        EXPECT_STATUS(read_all(path, &records, &err), SPT_E_FORMAT);
        EXPECT_TRUE(fault_peak_bytes() < 1 << 20);
        fault_remove();
        EXPECT_STATUS(tfrecord_parse(head, 12, &offset, &data, &n, "mem", &err), SPT_E_FORMAT);
        EXPECT_EQ_I64(offset, 0);
    }
}

static void skipping_and_rewinding(void **state)
{
    spt_err err;
    tfrecord_reader *r;
    tfrecord_writer *w;
    const void *data;
    size_t n;
    const char *path = test_path(test_tmpdir(), "many");
    static char big[200000];
    EXPECT_OK(tfrecord_create(path, &w, &err), &err);
    for (int i = 0; i < 100; i++) {
        memset(big, i, sizeof big);
        EXPECT_OK(tfrecord_add(w, big, (size_t)i * 2000, &err), &err);
    }
    EXPECT_TRUE(!fs_exists(path));
    EXPECT_OK(tfrecord_commit(w, &err), &err);
    EXPECT_OK(tfrecord_open(path, &r, &err), &err);
    for (int round = 0; round < 2; round++) {
        EXPECT_OK(tfrecord_skip(r, 97, &err), &err);
        EXPECT_EQ_I64(tfrecord_index(r), 97);
        EXPECT_OK(tfrecord_next(r, &data, &n, &err), &err);
        EXPECT_TRUE(n == 97 * 2000 && *(const char *)data == 97);
        EXPECT_OK(tfrecord_rewind(r, &err), &err);
        EXPECT_EQ_I64(tfrecord_offset(r), 0);
    }
    EXPECT_STATUS(tfrecord_skip(r, 101, &err), SPT_E_NOTFOUND);
    tfrecord_close(r);
    tfrecord_close(NULL);
    EXPECT_OK(tfrecord_create(path, &w, &err), &err);
    tfrecord_abort(w);
    EXPECT_TRUE(fs_exists(path)); /* the old one */
}

static spt_status every_call(void *ctx, spt_err *err)
{
    size_t records;
    tfrecord_writer *w;
    TRY(tfrecord_create(ctx, &w, err));
    for (int i = 0; i < 3; i++) {
        const spt_status st = tfrecord_add(w, texts[i], strlen(texts[i]), err);
        if (st) {
            tfrecord_abort(w);
            return st;
        }
    }
    TRY(tfrecord_commit(w, err));
    return read_all(ctx, &records, err);
}

/* A reader that could be opened knows its file's name. */
static spt_status damaged(void *ctx, spt_err *err)
{
    tfrecord_reader *r;
    const void *data;
    size_t n;
    spt_err why = {0};
    TRY(tfrecord_open(ctx, &r, err));
    EXPECT_STATUS(tfrecord_next(r, &data, &n, &why), SPT_E_FORMAT);
    EXPECT_MSG(&why, ctx);
    tfrecord_close(r);
    return SPT_OK;
}

static void faults(void **state)
{
    char *path = mem_strdup(test_path(test_tmpdir(), "faults"));
    EXPECT_TRUE(fault_every_alloc(every_call, path) > 4);
    test_write(path, "0123456789abcdef", 16);
    EXPECT_TRUE(fault_every_alloc(damaged, path) > 1);
    EXPECT_TRUE(fault_every_syscall(every_call, path, 5) > 8);
    mem_free(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_and_gzip),
        cmocka_unit_test(damage_names_file_and_record),
        cmocka_unit_test(a_lie_about_length_allocates_nothing),
        cmocka_unit_test(skipping_and_rewinding),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
