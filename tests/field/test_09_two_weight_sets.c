/* Field case 09: a directory with more than one set of weights gives the numbers of one of them. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "support/t5ref.h"

static const struct t5ref_opts plain = {OPS_GELU_TANH, true, false, "lm_head.weight", false};
static struct tiny_t5 a, b;
static double want[T5REF_PAIRS];

static int setup(void **state)
{
    (void)state;
    tiny_t5_make(&a, &tiny_t5_default, 7);
    tiny_t5_make(&b, &tiny_t5_default, 8);
    t5ref_scores(&a, &plain, want);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tiny_t5_free(&a);
    tiny_t5_free(&b);
    return 0;
}

static const char *new_dir(void)
{
    const char *dir = test_tmpdir();
    test_write(test_path(dir, "config.json"), tiny_t5_config, strlen(tiny_t5_config));
    return dir;
}

static void single_and_stale_index(void **state)
{
    (void)state;
    const char *dir = new_dir();
    tiny_t5_write_sharded(&b, dir, 20);
    tiny_t5_write(&a, dir, NULL);
    t5ref_expect(dir, want, 5e-6); /* both whole */
    remove(test_path(dir, "model-00002-of-00002.safetensors"));
    t5ref_expect(dir, want, 5e-6);
}

static void stray_shard(void **state)
{
    (void)state;
    const char *dir = new_dir();
    tiny_t5_write_sharded(&a, dir, 20);
    tiny_t5_write_part(&b, dir, "model-00003-of-00003.safetensors", 0, 9);
    t5ref_expect(dir, want, 5e-6);
}

static void shard_has_extra(void **state)
{
    (void)state;
    const char *dir = new_dir();
    tiny_t5_write_sharded(&a, dir, 20);
    const struct store_tensor first = a.t[0];
    a.t[0] = b.t[0];
    tiny_t5_write_part(&a, dir, "model-00002-of-00002.safetensors", 0, a.count);
    a.t[0] = first;
    t5ref_expect(dir, want, 5e-6);
}

static void git_lfs_pointer(void **state)
{
    (void)state;
    static const char pointer[] = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    double out[T5REF_PAIRS];
    spt_err err = {0};
    const char *dir = new_dir();
    tiny_t5_write(&a, dir, NULL);
    test_write(test_path(dir, "pytorch_model.bin"), pointer, sizeof pointer - 1);
    t5ref_expect(dir, want, 5e-6);
    test_write(test_path(dir, "model.safetensors"), pointer, sizeof pointer - 1);
    EXPECT_STATUS(t5ref_scores_of_dir(dir, "ref", OPS_FLOAT32, out, &err), SPT_E_FORMAT);
    EXPECT_EQ_I64(spt_status_exit_code(err.code), 4);
    EXPECT_MSG(&err, "Git LFS pointer, the weights were not downloaded");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(single_and_stale_index),
        cmocka_unit_test(stray_shard),
        cmocka_unit_test(shard_has_extra),
        cmocka_unit_test(git_lfs_pointer),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
