/* Options of decoding: which search they choose, and what is refused before anything is opened. */
#include "support/test.h"

#include <string.h>

#include "run/generate.h"

struct word {
    const char *option, *value;
};

static spt_status check(const struct word *w, size_t n, spt_err *err)
{
    struct settings s;
    spt_status st = settings_init(&s, "infer", err);
    for (size_t i = 0; !st && i < n; i++)
        st = settings_set(&s, w[i].option, w[i].value, err);
    if (!st)
        st = generation_check(&s, err);
    settings_release(&s);
    return st;
}

static void test_refused(void **ctx)
{
    (void)ctx;
    static const struct {
        struct word w[3];
        spt_status want;
        const char *part;
    } cases[] = {
        {{{"top-p", "0"}}, SPT_E_CONFIG, "top-p"},
        {{{"decode", "sample-t5x"}, {"top-p", "0"}}, SPT_E_CONFIG, "top-p"},
        {{{"decode", "sample-t5x"}, {"top-p", "0.5"}, {"top-k", "5"}}, SPT_E_CONFIG, "topp"},
        {{{"temperature", "-1"}}, SPT_E_USAGE, "temperature"},
        {{{"max-output", "0"}}, SPT_E_USAGE, "max-output"},
        {{{"beams", "0"}}, SPT_E_USAGE, "beams"},
        {{{"beams", "2"}, {"n-best", "3"}}, SPT_E_CONFIG, "results"},
        {{{"decode", "greedy"}, {"beams", "2"}}, SPT_E_USAGE, "--beams means nothing"},
        {{{"decode", "beam"}, {"min-length", "2"}}, SPT_E_USAGE, "--min-length means nothing"},
        {{{"decode", "beam-hf"}, {"force-prefix", "x"}}, SPT_E_USAGE, "--force-prefix"},
        {{{"beams", "2"}, {"temperature", "1"}}, SPT_E_USAGE, "--temperature means nothing"},
        {{{"repetition-penalty", "0"}}, SPT_E_CONFIG, "repetition"},
        {{{"min-length", "70"}}, SPT_E_CONFIG, "minimum length"},
        {{{"samples", "0"}}, SPT_E_USAGE, "samples"},
        {{{"decode", "nonsense"}}, SPT_E_USAGE, "none of"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t n = 0;
        spt_err err = {0};
        while (n < 3 && cases[i].w[n].option)
            n++;
        const spt_status st = check(cases[i].w, n, &err);
        if (st != cases[i].want || !strstr(err.msg, cases[i].part))
            fail_msg("case %zu: %s (%s)", i, spt_status_text(st), err.msg);
    }
}

/* Name of the search that options choose, opened over the demo model. */
static void chosen(const char *command, const struct word *w, size_t n, enum decode_method want,
                   int64_t beams, int64_t results)
{
    struct settings s;
    struct engine e;
    struct generation g;
    spt_err err = {0};
    EXPECT_OK(settings_init(&s, command, &err), &err);
    EXPECT_OK(settings_set(&s, "model", "demo/t5-mini", &err), &err);
    for (size_t i = 0; i < n; i++)
        EXPECT_OK(settings_set(&s, w[i].option, w[i].value, &err), &err);
    EXPECT_OK(engine_open(&s, &e, &err), &err);
    EXPECT_OK(generation_open(&s, &e, &g, &err), &err);
    EXPECT_EQ_I64(g.opts.method, want);
    EXPECT_EQ_I64(g.opts.beams, beams);
    EXPECT_EQ_I64(g.opts.n, results);
    generation_close(&g);
    engine_close(&e);
    settings_release(&s);
}

static void test_chosen(void **ctx)
{
    (void)ctx;
    chosen("infer", NULL, 0, DECODE_GREEDY, 1, 1);
    chosen("train", NULL, 0, DECODE_GREEDY, 1, 1);
    chosen("infer", (struct word[]){{"beams", "3"}}, 1, DECODE_BEAM_T5X, 3, 1);
    chosen("infer", (struct word[]){{"n-best", "2"}}, 1, DECODE_BEAM_T5X, 4, 2);
    chosen("eval", (struct word[]){{"length-penalty", "2"}}, 1, DECODE_BEAM_HF, 4, 1);
    chosen("eval", (struct word[]){{"samples", "5"}, {"seed", "1"}}, 2, DECODE_SAMPLE, 1, 5);
    /* The reference's inference: its beam search with one beam. */
    chosen("infer", (struct word[]){{"mode", "predict"}}, 1, DECODE_BEAM_T5X, 1, 1);
    chosen("infer", (struct word[]){{"mode", "predict"}, {"beams", "4"}}, 2, DECODE_BEAM_T5X, 4, 1);
}

static void test_vocabulary_limits(void **ctx)
{
    (void)ctx;
    struct settings s;
    struct engine e;
    struct generation g;
    spt_err err = {0};
    EXPECT_OK(settings_init(&s, "infer", &err), &err);
    EXPECT_OK(settings_set(&s, "model", "demo/t5-mini", &err), &err);
    EXPECT_OK(settings_set(&s, "max-output", "2", &err), &err);
    EXPECT_OK(settings_set(&s, "force-prefix", "two words and more", &err), &err);
    EXPECT_OK(engine_open(&s, &e, &err), &err);
    EXPECT_STATUS(generation_open(&s, &e, &g, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "--force-prefix has");
    EXPECT_OK(settings_set(&s, "force-prefix", "", &err), &err);
    e.config.vocab = 7; /* beams > vocabulary */
    EXPECT_OK(settings_set(&s, "decode", "beam", &err), &err);
    EXPECT_STATUS(generation_open(&s, &e, &g, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "beams 4");
    engine_close(&e);
    settings_release(&s);
}

static void test_stops(void **ctx)
{
    (void)ctx;
    char *stop[] = {(char *)"bb", (char *)"c"};
    const struct generation g = {.stop = stop, .stops = 2};
    EXPECT_EQ_I64(generation_cut(&g, "aabbc", 5), 2);
    EXPECT_EQ_I64(generation_cut(&g, "acbb", 4), 1);
    EXPECT_EQ_I64(generation_cut(&g, "aaa", 3), 3);
    EXPECT_EQ_I64(generation_cut(&g, "", 0), 0);
}

/* The one option that collects its values. */
static spt_status two_plugins(void *ctx, spt_err *err)
{
    struct settings s;
    (void)ctx;
    TRY(settings_init(&s, "train", err));
    spt_status st = settings_set(&s, "plugin", "a.so", err);
    if (!st)
        st = settings_set(&s, "plugin", "b.so", err);
    if (!st)
        EXPECT_STR(s.plugin, "a.so\nb.so");
    settings_release(&s);
    return st;
}

static void test_options_without_memory(void **state)
{
    (void)state;
    EXPECT_TRUE(fault_every_alloc(two_plugins, NULL) > 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_chosen),
        cmocka_unit_test(test_vocabulary_limits),
        cmocka_unit_test(test_stops),
        cmocka_unit_test(test_options_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
