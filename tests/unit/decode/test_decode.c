/* decode/decode: options that are refused before a model is loaded, names, empty batches. */
#include "support/test.h"
#include "support/toy_steps.h"

#include <math.h>
#include <string.h>

static struct decode_opts opts(enum decode_method method)
{
    struct decode_opts o = decode_opts_default(method);
    o.max_len = 8;
    return o;
}

static void expect_refused(const struct decode_opts *o, int64_t V, const char *part)
{
    spt_err err;
    EXPECT_STATUS(decode_check(o, V, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, part);
}

static void impossible_options_are_refused(void **state)
{
    static const int64_t off[2] = {3, 3};
    spt_err err;
    struct decode_opts o = decode_opts_default(DECODE_GREEDY);
    expect_refused(&o, 0, "maximum length");
    for (int m = 0; m < DECODE_METHOD_COUNT; m++) {
        o = opts((enum decode_method)m);
        EXPECT_OK(decode_check(&o, 0, &err), &err);
        o.max_len = -1;
        expect_refused(&o, 0, "maximum length");
    }
    o = opts(DECODE_SAMPLE);
    o.temperature = -1;
    expect_refused(&o, 0, "temperature -1");
    o.temperature = NAN;
    expect_refused(&o, 0, "temperature");
    o = opts(DECODE_SAMPLE);
    o.top_p = 1.5;
    expect_refused(&o, 0, "top-p 1.5");
    o.top_p = 0;
    expect_refused(&o, 0, "top-p 0");
    o = opts(DECODE_SAMPLE);
    o.top_k = -2;
    expect_refused(&o, 0, "top-k");
    o = opts(DECODE_SAMPLE_T5X);
    o.top_p = 0.5; /* topk is 1 by default */
    expect_refused(&o, 0, "not both");
    o = opts(DECODE_BEAM_T5X);
    o.beams = 0;
    expect_refused(&o, 0, "beams 0");
    o.beams = 600;
    EXPECT_OK(decode_check(&o, 0, &err), &err);
    expect_refused(&o, 1000, "vocabulary");
    o = opts(DECODE_BEAM_HF);
    o.beams = 2;
    o.n = 3;
    expect_refused(&o, 0, "beams");
    o = opts(DECODE_BEAM_T5X);
    o.repetition_penalty = 1.2;
    expect_refused(&o, 0, "beam_search has no");
    o = opts(DECODE_GREEDY);
    o.min_len = 9;
    expect_refused(&o, 0, "minimum length");
    o = opts(DECODE_GREEDY);
    o.n = 2;
    expect_refused(&o, 0, "greedy");
    o = opts(DECODE_GREEDY);
    o.stop = (struct decode_ids){1, off, NULL};
    expect_refused(&o, 0, "stop sequence");
    o = opts(DECODE_GREEDY);
    o.repetition_penalty = 0;
    expect_refused(&o, 0, "repetition penalty");
}

static void names(void **state)
{
    for (int m = 0; m < DECODE_METHOD_COUNT; m++) {
        enum decode_method got;
        EXPECT_TRUE(decode_method_from_name(decode_method_name((enum decode_method)m), &got));
        EXPECT_EQ_I64(got, m);
    }
    enum decode_method none;
    EXPECT_TRUE(!decode_method_from_name("beam", &none));
}

static void empty_batches(void **state)
{
    struct toy t = {.V = 8};
    const struct decode_stepper s = toy_stepper(&t);
    for (int m = 0; m < DECODE_METHOD_COUNT; m++) {
        const struct decode_opts o = opts((enum decode_method)m);
        struct decode_out out = {0};
        spt_err err;
        EXPECT_OK(decode_run(&s, &(struct decode_batch){.B = 0}, &o, &out, &err), &err);
        EXPECT_EQ_I64(out.B, 0);
        decode_out_release(&out);
        decode_out_release(&out);
    }
    EXPECT_EQ_I64(t.steps, 0);
}

static int64_t steps_allowed;

static bool step_by_step(void)
{
    return steps_allowed-- <= 0;
}

/* A signal ends every search before its next step, and nothing is left of it. */
static void interrupted_between_steps(void **state)
{
    for (int m = 0; m < DECODE_METHOD_COUNT; m++) {
        for (int64_t k = 0; k < 3; k++) {
            struct toy t = {.V = 8, .seed = 3, .eos_bonus = -100};
            const struct decode_stepper s = toy_stepper(&t);
            struct decode_opts o = opts((enum decode_method)m);
            struct decode_out out = {0};
            spt_err err;
            o.interrupted = step_by_step;
            steps_allowed = k;
            fault_install();
            EXPECT_STATUS(decode_run(&s, &(struct decode_batch){.B = 2}, &o, &out, &err),
                          SPT_E_INTERRUPTED);
            fault_remove();
            EXPECT_EQ_I64(t.steps, k);
            EXPECT_TRUE(!out.tokens);
        }
    }
}

static void rows_to_plan_for(void **state)
{
    struct decode_opts o = opts(DECODE_BEAM_HF);
    o.beams = 4;
    EXPECT_EQ_I64(decode_rows(&o, 8), 32);
    o = opts(DECODE_SAMPLE);
    o.n = 3;
    EXPECT_EQ_I64(decode_rows(&o, 8), 24);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(impossible_options_are_refused),
        cmocka_unit_test(names),
        cmocka_unit_test(empty_batches),
        cmocka_unit_test(interrupted_between_steps),
        cmocka_unit_test(rows_to_plan_for),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
