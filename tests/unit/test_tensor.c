/* tensor/: conversions, shapes, and the one function that sizes tensors. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "tensor/tensor.h"

static void f16_round_trips_every_value(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = f16_to_f32((uint16_t)h);
        if (isnan(f))
            EXPECT_TRUE(isnan(f16_to_f32(f32_to_f16(f))));
        else
            EXPECT_EQ_I64(f32_to_f16(f), h);
    }
    EXPECT_EQ_F64(f16_to_f32(0x3c00), 1.0);
    EXPECT_EQ_F64(f16_to_f32(0x0001), 0x1p-24);
    EXPECT_EQ_I64(f32_to_f16(65519.0f), 0x7bff);
    EXPECT_EQ_I64(f32_to_f16(65520.0f), 0x7c00);
}

static void bf16_rounds_to_even(void **state)
{
    for (uint32_t h = 0; h < 65536; h++) {
        const float f = bf16_to_f32((uint16_t)h);
        if (isnan(f))
            EXPECT_TRUE(isnan(bf16_to_f32(f32_to_bf16(f))));
        else
            EXPECT_EQ_I64(f32_to_bf16(f), h);
    }
    EXPECT_EQ_I64(f32_to_bf16(1.00390625f), 0x3f80); /* half way, even below */
    EXPECT_EQ_I64(f32_to_bf16(1.01171875f), 0x3f82); /* half way, even above */
}

static void size_is_checked(void **state)
{
    size_t n, bytes;
    spt_err err;
    struct tensor_shape s = {.rank = 2, .dim = {INT64_MAX, 4}};
    EXPECT_STATUS(tensor_size(DT_F32, &s, &n, &bytes, &err), SPT_E_FORMAT);
    s.dim[0] = -1;
    EXPECT_STATUS(tensor_size(DT_F32, &s, &n, &bytes, &err), SPT_E_FORMAT);
    s = shape_2d(3, 0);
    EXPECT_OK(tensor_size(DT_F32, &s, &n, &bytes, &err), &err);
    EXPECT_EQ_I64(n, 0);
    s = (struct tensor_shape){0};
    EXPECT_OK(tensor_size(DT_F64, &s, &n, &bytes, &err), &err);
    EXPECT_EQ_I64(bytes, 8);
    s = (struct tensor_shape){.rank = 3, .dim = {INT64_MAX, INT64_MAX, 0}};
    EXPECT_OK(tensor_size(DT_F32, &s, &n, &bytes, &err), &err);
    EXPECT_EQ_I64(n, 0);
}

static void unaligned_views_convert(void **state)
{
    unsigned char raw[1 + 8];
    const double d = 0.1;
    memcpy(raw + 1, &d, sizeof d);
    const struct tensor_view v = {DT_F64, shape_1d(1), raw + 1};
    float out;
    tensor_to_f32(&v, 0, 1, &out);
    EXPECT_EQ_F64(out, 0.1f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(f16_round_trips_every_value),
        cmocka_unit_test(bf16_rounds_to_even),
        cmocka_unit_test(size_is_checked),
        cmocka_unit_test(unaligned_views_convert),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
