/* The public tiny checkpoint (vocabulary of 32,128): beam search vectors of spec/t5x.md
 * section 8.6. EOS is never reached, so that live sequences with raw log probabilities come back.
 */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "decode/decode_model.h"
#include "support/golden_model.h"

enum { P = 3, E = 4, LEN = 5 };
static const int32_t tokens[] = {10, 20, 30, 1, 0, 0, 5, 100, 1, 0, 0, 0};

struct vector {
    int64_t beams;
    int32_t best[2][LEN];
    double scores[2][4]; /* ascending */
};
static const struct vector vectors[] = {
    {1,
     {{31899, 30209, 1520, 24029, 24029}, {27216, 1520, 31899, 30209, 18864}},
     {{-37.057482575}, {-37.333058926}}},
    {4,
     {{27216, 24029, 27216, 1520, 31899}, {27216, 19246, 31899, 30209, 30702}},
     {{-36.919192067, -36.894244562, -36.744732986, -36.694261381},
      {-37.010132669, -37.000216651, -36.922214957, -36.905400569}}},
};

static void vectors_on(ops *o, const char *isa, void *ctx)
{
    static const int32_t nothing[2 * LEN];
    const char *shared = test_shared_dir();
    char path[512];
    t5_source *src = NULL;
    t5_model *m = NULL;
    decode_model *d = NULL;
    spt_err err;
    float prompt[P * E];
    if (!shared)
        skip();
    snprintf(path, sizeof path, "%s/data/upstream/test_t5_1_1_tiny/checkpoint_3", shared);
    EXPECT_OK(t5_source_open(path, &(struct t5_source_opts){.max_distance = 8}, &src, &err), &err);
    EXPECT_OK(t5_model_new(o, src, false, &m, &err), &err);
    for (int i = 0; i < P * E; i++)
        prompt[i] = (float)(0.1 * (i / E + 1) - 0.05 * (i % E));
    const struct t5_prompts prompts = {.enc = prompt, .count = 1, .P = P};
    struct test_batch batch;
    batch_pack(&batch, 2, 6, tokens, LEN, nothing, nothing, NULL);
    const struct decode_model_plan plan = {
        .examples = 2, .enc_rows = batch_plan(&batch.b, P, 0).rows, .rows = 8, .max_len = LEN};
    EXPECT_OK(decode_model_new(m, &plan, &d, &err), &err);
    for (size_t v = 0; v < sizeof vectors / sizeof *vectors; v++) {
        struct decode_opts opts = decode_opts_default(DECODE_BEAM_T5X);
        struct decode_out out = {0};
        opts.beams = opts.n = vectors[v].beams;
        opts.max_len = LEN;
        EXPECT_OK(decode_model_run(d, &prompts, &batch.b, 0, 2, &opts, NULL, 0, &out, &err), &err);
        for (int64_t b = 0; b < 2; b++) {
            const int32_t *best = out.tokens + (b * out.n + out.n - 1) * LEN;
            for (int i = 0; i < LEN; i++)
                EXPECT_EQ_I64(best[i], vectors[v].best[b][i]);
            for (int64_t i = 0; i < out.n; i++)
                EXPECT_NEAR(out.score[b * out.n + i], vectors[v].scores[b][i], 1e-6);
        }
        decode_out_release(&out);
    }
    decode_model_free(d);
    t5_model_free(m);
    t5_source_close(src);
    batch_free(&batch);
}

static void beams(void **state)
{
    golden_every_isa(vectors_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(beams)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
