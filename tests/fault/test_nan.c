/* Bar N5: one not-a-number in any tensor of the base stops training before the first step, with a
 * message that names the tensor; an infinity that only shows in the sums stops the first step. No
 * checkpoint is written. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include <spt/spt.h>

#include "fs/fs.h"
#include "support/tiny_t5.h"

static spt_status train(const char *model, const char *data, const char *out, spt_err *err)
{
    static const char *const fixed[][2] = {{"vocab", "bytes"}, {"length", "3"},  {"batch", "2"},
                                           {"steps", "2"},     {"seed", "5"},    {"threads", "1"},
                                           {"init", "uniform"}, {"save-every", "1"}};
    spt_job *job;
    EXPECT_OK(spt_job_new("train", &job, err), err);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        EXPECT_OK(spt_job_set(job, fixed[i][0], fixed[i][1], err), err);
    EXPECT_OK(spt_job_set(job, "model", model, err), err);
    EXPECT_OK(spt_job_set(job, "train", data, err), err);
    EXPECT_OK(spt_job_set(job, "out", out, err), err);
    const spt_status st = spt_job_run(job, NULL, err);
    spt_job_free(job);
    return st;
}

static void planted_in_every_tensor(void **state)
{
    (void)state;
    const char *dir = test_tmpdir();
    char data[256], model[300], out[300], config[600];
    struct t5_config c = tiny_t5_default;
    struct tiny_t5 m;
    spt_err err = {0};
    c.vocab = 384;
    snprintf(data, sizeof data, "%s/train.tsv", dir);
    static const char rows[] = "text\tlabel\nab c\tx\nd\ty\nef\tx\nggg\ty\n";
    test_write(data, rows, sizeof rows - 1);
    snprintf(config, sizeof config, "%s", tiny_t5_config);
    memcpy(strstr(config, "\"vocab_size\": 96") + 14, "384", 3); /* "96," becomes "384" */
    char *rest = strstr(config, "\"vocab_size\": 384") + 17;
    memmove(rest + 1, rest, strlen(rest) + 1);
    *rest = ',';
    tiny_t5_make(&m, &c, 3);
    size_t stopped = 0;
    for (size_t i = 0; i <= m.count; i++) { /* the last time nothing is planted */
        size_t n = 1;
        float *values = i < m.count ? (float *)m.t[i].view.data : NULL, *kept = NULL;
        for (int k = 0; values && k < m.t[i].view.shape.rank; k++)
            n *= (size_t)m.t[i].view.shape.dim[k];
        if (values) {
            kept = mem_alloc(1, sizeof *kept);
            *kept = values[n - 1];
            values[n - 1] = NAN;
        }
        snprintf(model, sizeof model, "%s/model%zu", dir, i);
        snprintf(out, sizeof out, "%s/run%zu", dir, i);
        EXPECT_OK(fs_make_dirs(model, &err), &err);
        tiny_t5_write(&m, model, config);
        const spt_status st = train(model, data, out, &err);
        if (!values) {
            EXPECT_OK(st, &err);
            break;
        }
        if (st != SPT_E_FORMAT && st != SPT_E_NONFINITE)
            fail_msg("NaN in %s: %s (%s)", m.t[i].name, spt_status_text(st), err.msg);
        EXPECT_MSG(&err, m.t[i].name);
        EXPECT_TRUE(!fs_exists(test_path(out, "state-1")));
        stopped++;
        values[n - 1] = *kept;
        mem_free(kept);
    }
    /* Finite weights whose sums are not: seen in the step. */
    float *head = tiny_t5_values(&m, "lm_head.weight");
    for (int64_t k = 0; k < c.vocab * c.width; k++)
        head[k] = 3e38f;
    snprintf(model, sizeof model, "%s/large", dir);
    snprintf(out, sizeof out, "%s/run-large", dir);
    EXPECT_OK(fs_make_dirs(model, &err), &err);
    tiny_t5_write(&m, model, config);
    EXPECT_STATUS(train(model, data, out, &err), SPT_E_NONFINITE);
    EXPECT_MSG(&err, "step 1: ");
    EXPECT_MSG(&err, "not finite");
    EXPECT_TRUE(fs_exists(test_path(out, "state-0")) && !fs_exists(test_path(out, "state-1")));
    print_message("N5: %zu of %zu tensors with NaN stopped before a step\n", stopped, m.count);
    tiny_t5_free(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(planted_in_every_tensor)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
