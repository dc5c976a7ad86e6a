/* One model in every container gives the same parameters, bit for bit (golden/hf), and the T5X
 * side likewise (golden/tiny_forward against golden/t5x_checkpoint). */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/source.h"

static t5_source *open_golden(const char *name)
{
    char path[1024];
    t5_source *s = NULL;
    spt_err err = {0};
    snprintf(path, sizeof path, "%s/%s", test_golden_dir(), name);
    EXPECT_OK(t5_source_open(path, NULL, &s, &err), &err);
    return s;
}

/* Values as float32; with `halve`, rounded to bfloat16 first. */
static float *values(t5_source *s, const char *name, size_t *n, bool halve)
{
    struct t5_param p = {0};
    spt_err err = {0};
    size_t bytes;
    EXPECT_OK(t5_source_param(s, name, &p, &err), &err);
    EXPECT_OK(tensor_size(p.m.view.dtype, &p.m.view.shape, n, &bytes, &err), &err);
    float *v = malloc(*n * sizeof *v);
    assert_non_null(v);
    tensor_to_f32(&p.m.view, 0, *n, v);
    for (size_t i = 0; halve && i < *n; i++)
        v[i] = bf16_to_f32(f32_to_bf16(v[i]));
    t5_source_release(s, &p);
    return v;
}

static void expect_equal(const char *a, const char *b, bool halve)
{
    t5_source *x = open_golden(a), *y = open_golden(b);
    EXPECT_EQ_I64(t5_source_count(x), t5_source_count(y));
    for (size_t i = 0; i < t5_source_count(x); i++) {
        size_t n, m;
        const char *name = t5_source_name(x, i);
        EXPECT_STR(t5_source_name(y, i), name);
        float *u = values(x, name, &n, halve), *v = values(y, name, &m, false);
        EXPECT_EQ_I64(n, m);
        if (memcmp(u, v, n * sizeof *u))
            fail_msg("%s and %s differ in %s", a, b, name);
        free(u);
        free(v);
    }
    char hx[33], hy[33];
    spt_err err = {0};
    EXPECT_OK(t5_source_hash(x, hx, &err), &err);
    EXPECT_OK(t5_source_hash(y, hy, &err), &err);
    if (!halve)
        EXPECT_STR(hx, hy);
    t5_source_close(x);
    t5_source_close(y);
}

static bool have(const char *name)
{
    char path[1024];
    if (!test_golden_dir())
        return false;
    snprintf(path, sizeof path, "%s/%s", test_golden_dir(), name);
    FILE *f = fopen(path, "r");
    if (f)
        fclose(f);
    return f != NULL;
}

static void containers_of_t5_1_1(void **state)
{
    (void)state;
    if (!have("hf/mini_model"))
        skip();
    expect_equal("hf/mini_model", "hf/mini_model_sharded", false);
    expect_equal("hf/mini_model", "hf/mini_model_bin", false);
    expect_equal("hf/mini_model", "hf/mini_model_bin_sharded", false);
    expect_equal("hf/mini_model", "hf/mini_model_bf16", true);
}

static void containers_of_t5_1_0(void **state)
{
    (void)state;
    if (!have("hf/mini_model_v1_0"))
        skip();
    expect_equal("hf/mini_model_v1_0", "hf/mini_model_v1_0_bin", false);
    t5_source *s = open_golden("hf/mini_model_v1_0");
    const struct t5_config *c = t5_source_config(s);
    EXPECT_TRUE(!c->gated && c->act == OPS_RELU && c->head_is_embedding && c->scale_logits);
    t5_source_close(s);
}

static void t5x_checkpoint_equals_its_parameters(void **state)
{
    (void)state;
    if (!have("t5x_checkpoint/legacy/checkpoint_100"))
        skip();
    expect_equal("tiny_forward/params.safetensors", "t5x_checkpoint/legacy/checkpoint_100", false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(containers_of_t5_1_1),
        cmocka_unit_test(containers_of_t5_1_0),
        cmocka_unit_test(t5x_checkpoint_equals_its_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
