#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "store/hf_dir.h"
#include "support/tiny_t5.h"

static char story[4096];

static void note(void *ctx, enum log_level level, const char *line)
{
    (void)ctx;
    const size_t n = strlen(story);
    snprintf(story + n, sizeof story - n, "%s%s\n", level == LOG_WARNING ? "warning: " : "", line);
}

static int start_story(void **state)
{
    (void)state;
    story[0] = '\0';
    log_set_sink(note, NULL);
    return 0;
}

static void expect_values(const char *dir, struct tiny_t5 *m)
{
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(store_open(dir, NULL, &s, &err), &err);
    EXPECT_STR(store_kind(s), "hf_dir");
    EXPECT_EQ_I64(store_count(s), m->count);
    for (size_t i = 0; i < m->count; i++) {
        size_t at;
        struct store_data d = {0};
        EXPECT_TRUE(store_find(s, m->t[i].name, &at));
        EXPECT_OK(store_load(s, at, &d, &err), &err);
        EXPECT_TRUE(shape_equal(&d.view.shape, &m->t[i].view.shape));
        assert_memory_equal(d.view.data, m->t[i].view.data, store_at(s, at)->bytes);
        store_release(s, &d);
    }
    store_close(s);
}

static void expect_refused(const char *dir, spt_status want, const char *part)
{
    store *s = NULL;
    spt_err err = {0};
    EXPECT_STATUS(store_open(dir, NULL, &s, &err), want);
    EXPECT_MSG(&err, part);
}

static void one_set_is_taken_whole(void **state)
{
    (void)state;
    struct tiny_t5 a, b;
    const char *dir = test_tmpdir();
    tiny_t5_make(&a, &tiny_t5_default, 1);
    tiny_t5_make(&b, &tiny_t5_default, 2);
    tiny_t5_write_sharded(&a, dir, 20);
    expect_values(dir, &a);
    EXPECT_TRUE(strstr(story, "model.safetensors.index.json") && !strstr(story, "warning"));
    /* a third shard that the index does not know */
    tiny_t5_write_part(&b, dir, "model-00003-of-00003.safetensors", 0, 9);
    expect_values(dir, &a);
    /* a shard that also holds a tensor of the other shard, with other values */
    struct store_tensor first = a.t[0];
    a.t[0] = b.t[0];
    tiny_t5_write_part(&a, dir, "model-00002-of-00002.safetensors", 0, a.count);
    a.t[0] = first;
    expect_values(dir, &a);
    /* a single file beside the index wins, whole, even when the index is stale */
    tiny_t5_write(&b, dir, NULL);
    remove(test_path(dir, "model-00002-of-00002.safetensors"));
    start_story(state);
    expect_values(dir, &b);
    EXPECT_TRUE(strstr(story, "warning: "));
    EXPECT_TRUE(strstr(story, "taken from model.safetensors; not used: model.safetensors.index.json"));
    tiny_t5_free(&a);
    tiny_t5_free(&b);
}

static void git_lfs_pointers(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:0000\n"
                                  "size 990345064\n";
    struct tiny_t5 a;
    const char *dir = test_tmpdir();
    tiny_t5_make(&a, &tiny_t5_default, 1);
    tiny_t5_write(&a, dir, NULL);
    test_write(test_path(dir, "pytorch_model.bin"), pointer, sizeof pointer - 1);
    expect_values(dir, &a);
    test_write(test_path(dir, "model.safetensors"), pointer, sizeof pointer - 1);
    expect_refused(dir, SPT_E_FORMAT, "Git LFS pointer, the weights were not downloaded");
    expect_refused(dir, SPT_E_FORMAT, "model.safetensors");
    remove(test_path(dir, "model.safetensors"));
    expect_refused(dir, SPT_E_FORMAT, "pytorch_model.bin");
    dir = test_tmpdir();
    tiny_t5_write_sharded(&a, dir, 3);
    test_write(test_path(dir, "model-00002-of-00002.safetensors"), pointer, sizeof pointer - 1);
    expect_refused(dir, SPT_E_FORMAT, "model-00002-of-00002.safetensors: this is a Git LFS pointer");
    test_write(test_path(dir, "model.safetensors.index.json"), pointer, sizeof pointer - 1);
    expect_refused(dir, SPT_E_FORMAT, "index.json: this is a Git LFS pointer");
    tiny_t5_free(&a);
}

static void bad_indices(void **state)
{
    (void)state;
    static const struct {
        const char *index, *part;
        spt_status st;
    } bad[] = {
        {"", "byte", SPT_E_FORMAT},
        {"[]", "object", SPT_E_FORMAT},
        {"{}", "no weight_map", SPT_E_FORMAT},
        {"{\"weight_map\": []}", "object", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": 1}}", "not a file name", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"..\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"../m.safetensors\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"/etc/passwd\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"a\\\\b\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"a\\u0000b\"}}", "plain file", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"gone.safetensors\"}}", "gone.safetensors",
         SPT_E_NOTFOUND},
        {"{\"weight_map\": {\"stranger\": \"part.safetensors\"}}",
         "tensor 'stranger' is not in part.safetensors", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"part.safetensors\", \"shared.weight\": "
         "\"part.safetensors\"}}",
         "twice", SPT_E_FORMAT},
        {"{\"weight_map\": {\"shared.weight\": \"part.safetensors\"}} x", "byte", SPT_E_FORMAT},
        {"{\"weight_map\": {}, \"weight_map\": {}}", "twice", SPT_E_FORMAT},
    };
    struct tiny_t5 a;
    const char *dir = test_tmpdir();
    tiny_t5_make(&a, &tiny_t5_default, 1);
    tiny_t5_write_part(&a, dir, "part.safetensors", 0, a.count);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        test_write(test_path(dir, "model.safetensors.index.json"), bad[i].index,
                   strlen(bad[i].index));
        expect_refused(dir, bad[i].st, bad[i].part);
    }
    tiny_t5_free(&a);
}

static void directories_without_weights(void **state)
{
    (void)state;
    const char *dir = test_tmpdir();
    expect_refused(dir, SPT_E_FORMAT, "no weights in this directory");
    test_write(test_path(dir, "config.json"), "{}", 2);
    expect_refused(dir, SPT_E_NOTFOUND, "neither model.safetensors nor pytorch_model.bin");
    test_write(test_path(dir, "tf_model.h5"), "x", 1);
    expect_refused(dir, SPT_E_FORMAT, "tf_model.h5");
    expect_refused(test_path(dir, "absent"), SPT_E_NOTFOUND, "absent");
}

static void refused_files(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *part;
    } files[] = {
        {"", 0, "empty"},
        {"GGUF\3\0\0\0", 8, "GGUF"},
        {"\x89HDF\r\n\x1a\n", 8, "HDF5"},
        {"\x1f\x8b\x08\0", 4, "gzip"},
        {"version https://git-lfs.github.com/spec/v1\n", 43, "Git LFS pointer"},
        {"hello", 5, "68 65 6c 6c"},
        {"x", 1, "not a tensor file"},
        {"0123456789", 10, "not a tensor file"},
        {"\5\0\0\0\0\0\0\0[1,2]", 13, "not a tensor file"},
        {"\5\0\0\0\0\0\0\0{1,2}", 13, "safetensors header"},
    };
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const char *path = test_path(test_tmpdir(), "file");
        test_write(path, files[i].bytes, files[i].size);
        expect_refused(path, SPT_E_FORMAT, files[i].part);
    }
    const char *named = test_path(test_tmpdir(), "x.safetensors");
    test_write(named, "\5\0\0\0\0\0\0\0[1,2]", 13);
    expect_refused(named, SPT_E_FORMAT, "does not begin with '{'");
    char tar[512] = "model/";
    memcpy(tar + 257, "ustar", 5);
    const char *path = test_path(test_tmpdir(), "file");
    test_write(path, tar, sizeof tar);
    expect_refused(path, SPT_E_FORMAT, "tar archive");
}

static spt_status read_case(void *ctx, spt_err *err)
{
    store *s = NULL;
    TRY(store_open(ctx, NULL, &s, err));
    float out[96 * 8];
    size_t i;
    const spt_status st =
        store_find(s, "shared.weight", &i) ? store_read_f32(s, i, out, err) : SPT_E_INTERNAL;
    store_close(s);
    return st;
}

static void faults(void **state)
{
    (void)state;
    struct tiny_t5 a;
    char dir[1024];
    log_set_sink(NULL, NULL);
    tiny_t5_make(&a, &tiny_t5_default, 1);
    snprintf(dir, sizeof dir, "%s", test_tmpdir());
    tiny_t5_write_sharded(&a, dir, 20);
    EXPECT_TRUE(fault_every_alloc(read_case, dir) > 20);
    EXPECT_TRUE(fault_every_syscall(read_case, dir, EIO) > 10);
    tiny_t5_write(&a, dir, NULL);
    EXPECT_TRUE(fault_every_alloc(read_case, dir) > 10);
    EXPECT_TRUE(fault_every_syscall(read_case, dir, EACCES) > 5);
    tiny_t5_free(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_set_is_taken_whole, start_story),
        cmocka_unit_test_setup(git_lfs_pointers, start_story),
        cmocka_unit_test_setup(bad_indices, start_story),
        cmocka_unit_test_setup(directories_without_weights, start_story),
        cmocka_unit_test_setup(refused_files, start_story),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
