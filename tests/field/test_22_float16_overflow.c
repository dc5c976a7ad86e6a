/* Field case 22: float16 weights, all in range, whose activations pass 65,504. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "support/t5ref.h"

static const struct t5ref_opts plain = {OPS_GELU_TANH, true, false, "lm_head.weight", false};

static void scale_by(struct tiny_t5 *m, const char *name, float by)
{
    float *v = tiny_t5_values(m, name);
    for (int64_t i = 0; i < m->c.width * m->c.ff; i++)
        v[i] *= by;
}

static void computed_in_float32(void **state)
{
    (void)state;
    struct tiny_t5 m, h;
    static uint16_t half[TINY_MAX][1024];
    double want[T5REF_PAIRS], wide[T5REF_PAIRS], narrow[T5REF_PAIRS], bf16[T5REF_PAIRS];
    spt_err err = {0};
    const char *f32 = test_tmpdir(), *f16 = test_tmpdir();
    tiny_t5_make(&m, &tiny_t5_default, 7);
    scale_by(&m, "encoder.block.0.layer.1.DenseReluDense.wi_1.weight", 3000);
    scale_by(&m, "encoder.block.0.layer.1.DenseReluDense.wo.weight", 20000);
    scale_by(&m, "decoder.block.1.layer.2.DenseReluDense.wo.weight", 60000);
    for (size_t i = 0; i < m.count; i++) {
        size_t n, bytes;
        float *v = (float *)m.t[i].view.data;
        EXPECT_OK(tensor_size(DT_F32, &m.t[i].view.shape, &n, &bytes, &err), &err);
        for (size_t k = 0; k < n; k++) {
            half[i][k] = f32_to_f16(v[k]);
            v[k] = f16_to_f32(half[i][k]);
            EXPECT_TRUE(isfinite(v[k]));
        }
    }
    t5ref_scores(&m, &plain, want);
    tiny_t5_write(&m, f32, tiny_t5_config);
    h = m;
    for (size_t i = 0; i < h.count; i++) {
        h.t[i].view.dtype = DT_F16;
        h.t[i].view.data = half[i];
    }
    tiny_t5_write(&h, f16, tiny_t5_config);
    t5ref_expect(f32, want, 5e-5);
    EXPECT_OK(t5ref_scores_of_dir(f32, NULL, OPS_FLOAT32, wide, &err), &err);
    EXPECT_OK(t5ref_scores_of_dir(f16, NULL, OPS_FLOAT32, narrow, &err), &err);
    assert_memory_equal(wide, narrow, sizeof wide);
    EXPECT_OK(t5ref_scores_of_dir(f16, NULL, OPS_BFLOAT16, bf16, &err), &err);
    for (int b = 0; b < T5REF_PAIRS; b++)
        EXPECT_NEAR(bf16[b], want[b], 0.05);
    tiny_t5_free(&m);
}

static void infinite_weight_is_refused(void **state)
{
    (void)state;
    struct tiny_t5 m;
    double out[T5REF_PAIRS];
    spt_err err = {0};
    const char *dir = test_tmpdir();
    tiny_t5_make(&m, &tiny_t5_default, 7);
    tiny_t5_values(&m, "encoder.block.1.layer.1.DenseReluDense.wo.weight")[3 * 12 + 5] = INFINITY;
    tiny_t5_write(&m, dir, tiny_t5_config);
    EXPECT_STATUS(t5ref_scores_of_dir(dir, NULL, OPS_FLOAT32, out, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "encoder.block.1.layer.1.DenseReluDense.wo.weight");
    EXPECT_MSG(&err, "[3, 5]");
    tiny_t5_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(computed_in_float32),
        cmocka_unit_test(infinite_weight_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
