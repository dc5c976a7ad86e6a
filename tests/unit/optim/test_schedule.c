/* optim/schedule: the table of spec/t5x.md section 5, and what is refused. */
#include "support/test.h"

#include <math.h>
#include <string.h>

#include "optim/schedule.h"

static const int64_t at[7] = {0, 1, 500, 1000, 2000, 40000, 1100000};

/* The table was computed in float64; T5X computes in float32 where 1 - x cancels. */
static void expect_table(const struct lr_schedule *s, const double want[7], double tol)
{
    for (int i = 0; i < 7; i++) {
        const double got = (double)lr_at(s, at[i]);
        if (!(fabs(got - want[i]) <= tol * want[i]))
            fail_msg("step %lld: %.9g, wanted %.9g", (long long)at[i], got, want[i]);
    }
}

static struct lr_schedule schedule_of(const char *factors, double base, int64_t warmup)
{
    struct lr_schedule s = lr_schedule_default();
    spt_err err;
    EXPECT_OK(lr_schedule_parse(&s, factors, &err), &err);
    s.base_learning_rate = base;
    s.warmup_steps = warmup;
    EXPECT_OK(lr_schedule_check(&s, &err), &err);
    return s;
}

static void table_of_the_reference(void **state)
{
    const struct lr_schedule d = lr_schedule_default();
    expect_table(&d,
                 (double[]){1e-8, 1.58113883e-05, 0.00790569415, 0.0158113883, 0.0111803399, 0.0025,
                            0.000476731295},
                 3e-7);
    struct lr_schedule s = schedule_of("constant * rsqrt_decay", 1, 10000);
    expect_table(&s, (double[]){0.01, 0.01, 0.01, 0.01, 0.01, 0.005, 0.000953462589}, 3e-7);
    s = schedule_of("constant * rsqrt_normalized_decay", 0.01, 1000);
    expect_table(
        &s, (double[]){0.01, 0.01, 0.01, 0.01, 0.00707106781, 0.00158113883, 0.000301511345}, 3e-7);
    s = schedule_of("constant * decay_every", 0.3, 1000);
    expect_table(&s, (double[]){0.3, 0.3, 0.3, 0.3, 0.3, 0.075, 1e-8}, 3e-7);
    s = schedule_of("constant*linear_warmup*\tcosine_decay ", 1e-3, 1000);
    const double cosine[7] = {1e-8, 1e-6, 5e-4, 1e-3, 0.00099975328, 0.00066936896, 2.46719817e-07};
    expect_table(&s, cosine, 3e-4);
    s = schedule_of("linear_decay", 1, 1000);
    s.decay_factor = 1e-5;
    expect_table(&s, (double[]){1e-8, 0.001, 0.5, 1, 0.99, 0.61, 1e-8}, 3e-7);
}

static void offsets_shift_the_step(void **state)
{
    struct lr_schedule s = lr_schedule_default();
    const float want = lr_at(&s, 500);
    s.step_offset = 1100000;
    EXPECT_EQ_F64(lr_at(&s, 1100500), want);
    EXPECT_EQ_F64(lr_at(&s, 7), lr_at(&s, 1100000));
}

static void constants(void **state)
{
    const struct lr_schedule s = lr_schedule_constant(0.3);
    EXPECT_EQ_F64(lr_at(&s, 0), 0.3f);
    EXPECT_EQ_F64(lr_at(&s, 1100000), 0.3f);
    const struct lr_schedule zero = lr_schedule_constant(0);
    EXPECT_EQ_F64(lr_at(&zero, 3), 0);
}

static void unknown_factors_are_named(void **state)
{
    struct lr_schedule s = lr_schedule_default();
    spt_err err;
    EXPECT_STATUS(lr_schedule_parse(&s, "constant * warm", &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "'warm'");
    EXPECT_STATUS(lr_schedule_parse(&s, "", &err), SPT_E_CONFIG);
    EXPECT_STATUS(lr_schedule_parse(&s, "constant *", &err), SPT_E_CONFIG);
    EXPECT_STATUS(lr_schedule_parse(&s, "constant constant", &err), SPT_E_CONFIG);
    EXPECT_EQ_I64(s.factors, 3); /* untouched */
    EXPECT_EQ_I64(s.factor[2], LR_RSQRT_DECAY);
    char many[LR_MAX_FACTORS * 9 + 10] = "constant";
    for (int i = 0; i < LR_MAX_FACTORS; i++)
        memcpy(many + 8 + 9 * i, "*constant", 10);
    EXPECT_STATUS(lr_schedule_parse(&s, many, &err), SPT_E_CONFIG);
}

static void divisors_are_checked(void **state)
{
    struct lr_schedule s = lr_schedule_default();
    spt_err err;
    s.warmup_steps = 0;
    EXPECT_STATUS(lr_schedule_check(&s, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "warmup_steps");
    EXPECT_OK(lr_schedule_parse(&s, "constant", &err), &err);
    EXPECT_OK(lr_schedule_check(&s, &err), &err);
    EXPECT_OK(lr_schedule_parse(&s, "decay_every", &err), &err);
    s.steps_per_decay = 0;
    EXPECT_STATUS(lr_schedule_check(&s, &err), SPT_E_CONFIG);
    s = lr_schedule_constant(NAN);
    EXPECT_STATUS(lr_schedule_check(&s, &err), SPT_E_CONFIG);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_of_the_reference),
        cmocka_unit_test(offsets_shift_the_step),
        cmocka_unit_test(constants),
        cmocka_unit_test(unknown_factors_are_named),
        cmocka_unit_test(divisors_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
