/* fs/: whole files, ranges, streams, durable writing, logs; faults in each call. */
#include "support/test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fs/fs.h"

static const char *dir;

static int setup(void **state)
{
    dir = test_tmpdir();
    return 0;
}

static void whole_files(void **state)
{
    spt_err err;
    const char *p = test_path(dir, "a");
    EXPECT_OK(fs_write_all(p, "hello", 5, &err), &err);
    fs_mapping m;
    EXPECT_OK(fs_map(p, &m, &err), &err);
    EXPECT_EQ_I64(m.size, 5);
    EXPECT_TRUE(!memcmp(m.bytes, "hello", 5));
    fs_unmap(&m);
    char *data;
    size_t n;
    EXPECT_OK(fs_read_all(p, 5, &data, &n, &err), &err);
    EXPECT_STR(data, "hello");
    mem_free(data);
    EXPECT_STATUS(fs_read_all(p, 4, &data, &n, &err), SPT_E_FORMAT);
    EXPECT_STATUS(fs_map(test_path(dir, "none"), &m, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "none");
    EXPECT_STATUS(fs_map(dir, &m, &err), SPT_E_IO);
    EXPECT_OK(fs_write_all(test_path(dir, "empty"), "", 0, &err), &err);
    EXPECT_OK(fs_map(test_path(dir, "empty"), &m, &err), &err);
    EXPECT_EQ_I64(m.size, 0);
    fs_unmap(&m);
    EXPECT_STATUS(fs_map("s3://bucket/x", &m, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "s3");
}

static void mapped_files_have_names(void **state)
{
    spt_err err;
    fs_mapping m[3];
    char name[3][1024];
    for (int i = 0; i < 3; i++) {
        snprintf(name[i], sizeof name[i], "%s", test_path(dir, i ? i == 1 ? "m1" : "m2" : "m0"));
        EXPECT_OK(fs_write_all(name[i], "0123456789", 10, &err), &err);
        EXPECT_OK(fs_map(name[i], &m[i], &err), &err);
    }
    EXPECT_STR(fs_mapped_at(m[0].bytes), name[0]);
    EXPECT_STR(fs_mapped_at(m[1].bytes + 9), name[1]);
    EXPECT_TRUE(fs_mapped_at(m[1].bytes + 10) == NULL || fs_mapped_at(m[1].bytes + 10) != name[1]);
    EXPECT_TRUE(!fs_mapped_at(NULL));
    EXPECT_TRUE(!fs_mapped_at(name));
    const void *gone = m[1].bytes;
    fs_unmap(&m[1]);
    EXPECT_TRUE(!fs_mapped_at(gone));
    EXPECT_STR(fs_mapped_at(m[2].bytes), name[2]);
    EXPECT_OK(fs_map(name[1], &m[1], &err), &err); /* its slot serves again */
    EXPECT_STR(fs_mapped_at(m[1].bytes), name[1]);
    for (int i = 0; i < 3; i++)
        fs_unmap(&m[i]);
    /* More files than places: still mapped, without a name; a long name keeps its end. */
    enum { MANY = 600 };
    static fs_mapping many[MANY];
    for (int i = 0; i < MANY; i++)
        EXPECT_OK(fs_map(name[0], &many[i], &err), &err);
    EXPECT_TRUE(!fs_mapped_at(many[MANY - 1].bytes));
    for (int i = 0; i < MANY; i++)
        fs_unmap(&many[i]);
    char deep[512];
    memset(deep, 'd', sizeof deep);
    snprintf(deep, sizeof deep, "%s/", dir);
    for (size_t n = strlen(deep); n < 300; n += 2)
        memcpy(deep + n, "./", 3);
    strcat(deep, "m0");
    EXPECT_OK(fs_map(deep, &m[0], &err), &err);
    const char *kept = fs_mapped_at(m[0].bytes);
    EXPECT_TRUE(kept && strlen(kept) < 300 && !strcmp(kept + strlen(kept) - 4, "./m0"));
    fs_unmap(&m[0]);
}

static void ranges(void **state)
{
    spt_err err;
    const char *p = test_path(dir, "r");
    EXPECT_OK(fs_write_all(p, "0123456789", 10, &err), &err);
    fs_file *f;
    EXPECT_OK(fs_open(p, &f, &err), &err);
    char b[4];
    EXPECT_OK(fs_read_at(f, 6, b, 4, &err), &err);
    EXPECT_TRUE(!memcmp(b, "6789", 4));
    EXPECT_STATUS(fs_read_at(f, 7, b, 4, &err), SPT_E_FORMAT);
    EXPECT_EQ_I64(err.offset, 7);
    EXPECT_STATUS(fs_read_at(f, UINT64_MAX, b, 4, &err), SPT_E_FORMAT);
    fs_close(f);
}

static void trees(void **state)
{
    spt_err err;
    const char *deep = test_path(dir, "x/y/z");
    EXPECT_OK(fs_make_dirs(deep, &err), &err);
    EXPECT_OK(fs_make_dirs(deep, &err), &err);
    EXPECT_OK(fs_write_all(test_path(dir, "x/b"), "1", 1, &err), &err);
    EXPECT_OK(fs_write_all(test_path(dir, "x/a"), "1", 1, &err), &err);
    fs_names n;
    EXPECT_OK(fs_list(test_path(dir, "x"), &n, &err), &err);
    EXPECT_EQ_I64(n.count, 3);
    EXPECT_STR(n.name[0], "a");
    EXPECT_STR(n.name[2], "y");
    fs_names_free(&n);
    EXPECT_STATUS(fs_make_dirs(test_path(dir, "x/a/b"), &err), SPT_E_IO);
    EXPECT_OK(fs_remove_tree(test_path(dir, "x"), &err), &err);
    EXPECT_TRUE(!fs_exists(test_path(dir, "x")));
    EXPECT_OK(fs_remove_tree(test_path(dir, "x"), &err), &err);
}

static void logs_are_cut_to_the_recorded_length(void **state)
{
    spt_err err;
    const char *p = test_path(dir, "log");
    fs_log *l;
    EXPECT_OK(fs_log_open(p, UINT64_MAX, &l, &err), &err);
    EXPECT_OK(fs_log_append(l, "one\ntwo\n", 8, &err), &err);
    EXPECT_OK(fs_log_sync(l, &err), &err);
    fs_log_close(l);
    EXPECT_OK(fs_log_open(p, 4, &l, &err), &err);
    EXPECT_OK(fs_log_append(l, "2\n", 2, &err), &err);
    EXPECT_EQ_I64(fs_log_size(l), 6);
    fs_log_close(l);
    char *data;
    size_t n;
    EXPECT_OK(fs_read_all(p, 100, &data, &n, &err), &err);
    EXPECT_STR(data, "one\n2\n");
    mem_free(data);
    EXPECT_STATUS(fs_log_open(p, 7, &l, &err), SPT_E_FORMAT);
}

static void temporaries_of_the_dead_are_removed(void **state)
{
    spt_err err;
    const char *d = test_tmpdir();
    fs_writer *w;
    EXPECT_OK(fs_create(test_path(d, "a"), &w, &err), &err); /* as if the process died here */
    EXPECT_OK(fs_write_all(test_path(d, "b.tmp-12"), "x", 1, &err), &err);
    fs_names n;
    EXPECT_OK(fs_remove_temporaries(d, &err), &err);
    EXPECT_OK(fs_list(d, &n, &err), &err);
    EXPECT_EQ_I64(n.count, 1);
    EXPECT_STR(n.name[0], "b.tmp-12");
    fs_names_free(&n);
    fs_abort(w);
}

static spt_status read_file(void *ctx, spt_err *err)
{
    char p[8];
    size_t got;
    fs_stream *s;
    TRY(fs_stream_open(ctx, &s, err));
    const spt_status st = fs_stream_read(s, p, sizeof p, &got, err);
    fs_stream_close(s);
    return st;
}

static spt_status replace_file(void *ctx, spt_err *err)
{
    return fs_write_all(ctx, "new", 3, err);
}

static void faults_leave_old_or_new(void **state)
{
    spt_err err;
    static char p[1024];
    strcpy(p, test_path(dir, "faulty"));
    EXPECT_OK(fs_write_all(p, "old", 3, &err), &err);
    EXPECT_TRUE(fault_every_alloc(replace_file, p) > 2);
    EXPECT_TRUE(fault_every_syscall(replace_file, p, ENOSPC) > 5);
    EXPECT_TRUE(fault_every_syscall(replace_file, p, EIO) > 5);
    EXPECT_TRUE(fault_every_syscall(read_file, p, EAGAIN) > 2); /* not a pipe: nothing to wait for */
    /* Whatever failed, the file holds a whole content. */
    char *data;
    size_t size;
    EXPECT_OK(fs_read_all(p, 10, &data, &size, &err), &err);
    EXPECT_STR(data, "new");
    mem_free(data);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_files),
        cmocka_unit_test(mapped_files_have_names),
        cmocka_unit_test(ranges),
        cmocka_unit_test(trees),
        cmocka_unit_test(logs_are_cut_to_the_recorded_length),
        cmocka_unit_test(temporaries_of_the_dead_are_removed),
        cmocka_unit_test(faults_leave_old_or_new),
    };
    return cmocka_run_group_tests(tests, setup, NULL);
}
