/* Tensors of one store under other names, and tensors that are made; every allocation fails once. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "store/safetensors.h"
#include "store/store_alias.h"

static float two[6] = {1, 2, 3, 4, 5, 6};

static store *inner(spt_err *err)
{
    const char *dir = test_tmpdir();
    char path[4096];
    snprintf(path, sizeof path, "%s", test_path(dir, "in.safetensors"));
    const struct store_tensor t[] = {{"a", {DT_F32, shape_1d(6), two}},
                                     {"b", {DT_F32, shape_2d(2, 3), two}}};
    store *s;
    EXPECT_OK(safetensors_write(path, t, 2, NULL, 0, err), err);
    EXPECT_OK(store_open(path, NULL, &s, err), err);
    return s;
}

static spt_status fill(void *ctx, size_t i, float *out, spt_err *err)
{
    (void)err;
    for (size_t k = 0; k < 4; k++)
        out[k] = (float)i + *(float *)ctx;
    return SPT_OK;
}

static void names_and_values(void **state)
{
    (void)state;
    spt_err err;
    float base = 10, got[6];
    store *in = inner(&err), *s;
    size_t b;
    EXPECT_TRUE(store_find(in, "b", &b));
    const struct store_alias list[] = {{.name = "target/x", .index = b},
                                       {.name = "target/made", .made = true, .shape = shape_1d(4)}};
    EXPECT_OK(store_alias_open(in, list, 2, fill, &base, &s, &err), &err);
    size_t i;
    EXPECT_EQ_I64((int64_t)store_count(s), 2);
    EXPECT_TRUE(!store_find(s, "a", &i) && !store_find(s, "b", &i));
    EXPECT_TRUE(store_find(s, "target/x", &i));
    EXPECT_EQ_I64(store_at(s, i)->shape.dim[1], 3);
    EXPECT_OK(store_read_f32(s, i, got, &err), &err);
    EXPECT_TRUE(!memcmp(got, two, sizeof two));
    EXPECT_TRUE(store_find(s, "target/made", &i));
    EXPECT_OK(store_read_f32(s, i, got, &err), &err);
    EXPECT_TRUE(got[0] == 11 && got[3] == 11);
    EXPECT_EQ_I64((int64_t)store_file_count(s), 0);
    store_close(s);
    const struct store_alias twice[] = {{.name = "x", .index = 0}, {.name = "x", .index = 1}};
    EXPECT_STATUS(store_alias_open(inner(&err), twice, 2, fill, &base, &s, &err), SPT_E_FORMAT);
}

static spt_status open_one(void *ctx, spt_err *err)
{
    store *in, *s;
    float got[4], base = 1;
    const struct store_alias list[] = {{.name = "m", .made = true, .shape = shape_1d(4)},
                                       {.name = "x", .index = 0}};
    TRY(store_open(ctx, NULL, &in, err));
    TRY(store_alias_open(in, list, 2, fill, &base, &s, err));
    static const size_t both[] = {0, 1};
    spt_status st = store_expect(s, both, 2, err);
    size_t i = 0;
    if (!st && store_find(s, "m", &i))
        st = store_read_f32(s, i, got, err);
    store_close(s);
    return st;
}

static void every_allocation_fails(void **state)
{
    (void)state;
    spt_err err;
    store *s = inner(&err);
    char path[4096];
    snprintf(path, sizeof path, "%s", store_path(s));
    store_close(s);
    fault_every_alloc(open_one, path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(names_and_values),
                                       cmocka_unit_test(every_allocation_fails)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
