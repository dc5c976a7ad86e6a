/* golden/hf/generate and generate_16: what transformers' generate() returned for the mini models:
 * greedy and beam search with every option, token for token, on every backend. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/decode_model.h"
#include "support/golden_model.h"
#include "text/json.h"

enum { MAX_ROWS = 32, MAX_LEN = 32 };
/* golden.json: a search of its own reproduces the scores within 1.2e-6; our logits add 1e-5. */
#define TOL_SCORE 1e-5

struct expected {
    char name[80];
    struct decode_opts opts;
    bool v1_0;
    int32_t seq[MAX_ROWS][MAX_LEN]; /* without the start token, 0 behind the end */
    int64_t rows;
    double score[MAX_ROWS];
    int64_t scores;
    int32_t bad_word;
};

static int64_t to_i64(const struct json_event *ev)
{
    int64_t v = 0;
    spt_err err;
    EXPECT_OK(json_to_i64(ev, &v, &err), &err);
    return v;
}

static double to_f64(const struct json_event *ev)
{
    double v = 0;
    spt_err err;
    EXPECT_OK(json_to_f64(ev, &v, &err), &err);
    return v;
}

static struct json_event next(json_reader *r)
{
    struct json_event ev;
    spt_err err;
    EXPECT_OK(json_next(r, &ev, &err), &err);
    return ev;
}

static void read_args(json_reader *r, struct expected *e)
{
    struct decode_opts *o = &e->opts;
    bool more;
    struct json_event key, v;
    spt_err err;
    *o = decode_opts_default(DECODE_GREEDY);
    EXPECT_OK(json_enter_object(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(r, &more, &key, &err), &err);
        if (!more)
            return;
        v = next(r);
        if (json_is(&key, "max_new_tokens"))
            o->max_len = to_i64(&v);
        else if (json_is(&key, "max_length")) /* counts the start token */
            o->max_len = to_i64(&v) - 1;
        else if (json_is(&key, "min_length"))
            o->min_len = to_i64(&v) - 1;
        else if (json_is(&key, "min_new_tokens"))
            o->min_len = to_i64(&v);
        else if (json_is(&key, "num_beams")) {
            o->method = DECODE_BEAM_HF;
            o->beams = to_i64(&v);
        } else if (json_is(&key, "num_return_sequences"))
            o->n = to_i64(&v);
        else if (json_is(&key, "length_penalty"))
            o->length_penalty = to_f64(&v);
        else if (json_is(&key, "early_stopping"))
            o->early_stopping = v.kind == JSON_STRING ? DECODE_EARLY_NEVER
                                : v.kind == JSON_TRUE ? DECODE_EARLY_TRUE
                                                      : DECODE_EARLY_FALSE;
        else if (json_is(&key, "repetition_penalty"))
            o->repetition_penalty = to_f64(&v);
        else if (json_is(&key, "no_repeat_ngram_size"))
            o->no_repeat_ngram = to_i64(&v);
        else if (json_is(&key, "forced_eos_token_id"))
            o->forced_eos = true;
        else if (json_is(&key, "bad_words_ids")) { /* [[474]] */
            next(r);
            v = next(r);
            e->bad_word = (int32_t)to_i64(&v);
            EXPECT_EQ_I64(next(r).kind, JSON_ARRAY_END);
            EXPECT_EQ_I64(next(r).kind, JSON_ARRAY_END);
        } else if (!json_is(&key, "do_sample"))
            fail_msg("%s: unknown argument %.*s", e->name, (int)key.len, key.text);
    }
}

static void read_sequences(json_reader *r, struct expected *e)
{
    EXPECT_EQ_I64(next(r).kind, JSON_ARRAY);
    while (next(r).kind == JSON_ARRAY) {
        struct json_event v;
        for (int64_t i = -1; (v = next(r)).kind == JSON_NUMBER; i++) {
            EXPECT_TRUE(i < MAX_LEN && e->rows < MAX_ROWS);
            if (i < 0)
                EXPECT_EQ_I64(to_i64(&v), 0);
            else
                e->seq[e->rows][i] = (int32_t)to_i64(&v);
        }
        e->rows++;
    }
}

static void read_case(json_reader *r, const struct json_event *name, struct expected *e)
{
    bool more;
    struct json_event key, v;
    spt_err err;
    memset(e, 0, sizeof *e);
    snprintf(e->name, sizeof e->name, "%.*s", (int)name->len, name->text);
    e->v1_0 = strstr(e->name, "v1_0") != NULL;
    EXPECT_OK(json_enter_object(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(r, &more, &key, &err), &err);
        if (!more)
            return;
        if (json_is(&key, "args")) {
            read_args(r, e);
        } else if (json_is(&key, "sequences")) {
            read_sequences(r, e);
        } else if (json_is(&key, "sequences_scores")) {
            EXPECT_EQ_I64(next(r).kind, JSON_ARRAY);
            while ((v = next(r)).kind == JSON_NUMBER)
                e->score[e->scores++] = to_f64(&v);
        } else {
            EXPECT_OK(json_skip(r, &err), &err);
        }
    }
}

struct decoders {
    t5_model *m[2]; /* 1.1, 1.0 */
    decode_model *d[2];
    struct test_batch batch;
    int cases;
};

static void check_case(struct decoders *ds, struct expected *e, const char *isa)
{
    static const int64_t off[2] = {0, 1};
    struct decode_out out = {0};
    spt_err err;
    if (e->bad_word)
        e->opts.bad_words = (struct decode_ids){1, off, &e->bad_word};
    EXPECT_OK(decode_model_run(ds->d[e->v1_0], NULL, &ds->batch.b, 0, ds->batch.b.B, &e->opts, NULL,
                               0, &out, &err),
              &err);
    EXPECT_EQ_I64(e->rows, out.B * out.n);
    for (int64_t i = 0; i < e->rows; i++)
        for (int64_t j = 0; j < out.len; j++)
            if (out.tokens[i * out.len + j] != e->seq[i][j])
                fail_msg("%s %s: row %d, token %d: %d, wanted %d", isa, e->name, (int)i, (int)j,
                         out.tokens[i * out.len + j], e->seq[i][j]);
    for (int64_t i = 0; i < e->scores; i++)
        EXPECT_NEAR(out.score[i], e->score[i], TOL_SCORE);
    decode_out_release(&out);
    ds->cases++;
}

/* All cases of an object that the reader is about to enter. */
static void check_cases(struct decoders *ds, json_reader *r, const char *isa)
{
    static struct expected e;
    bool more;
    struct json_event key;
    spt_err err;
    EXPECT_OK(json_enter_object(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(r, &more, &key, &err), &err);
        if (!more)
            return;
        read_case(r, &key, &e);
        check_case(ds, &e, isa);
    }
}

static void open_decoders(struct decoders *ds, ops *o)
{
    const struct golden_array ids = golden_npy("hf/forward", "a.input_ids.npy");
    const struct golden_array mask = golden_npy("hf/forward", "a.attention_mask.npy");
    const int64_t B = ids.dim[0], L = ids.dim[1];
    int32_t *enc = calloc((size_t)(B * L), sizeof *enc), *none = calloc((size_t)B, sizeof *none);
    for (int64_t b = 0; b < B; b++)
        for (int64_t i = 0, n = 0; i < L; i++)
            if (mask.i32[b * L + i])
                enc[b * L + n++] = ids.i32[b * L + i];
    batch_pack(&ds->batch, B, L, enc, 1, none, none, NULL);
    free(enc);
    free(none);
    for (int v = 0; v < 2; v++) {
        const struct decode_model_plan plan = {.examples = B,
                                               .enc_rows = batch_plan(&ds->batch.b, 0, 0).rows,
                                               .rows = 4 * B,
                                               .max_len = 24};
        spt_err err;
        ds->m[v] = golden_model_hf(o, v ? "mini_model_v1_0" : "mini_model", v, false);
        EXPECT_OK(decode_model_new(ds->m[v], &plan, &ds->d[v], &err), &err);
    }
}

static void all_cases_on(ops *o, const char *isa, void *ctx)
{
    struct decoders ds = {0};
    json_reader r;
    bool more;
    struct json_event key;
    size_t len;
    spt_err err;
    open_decoders(&ds, o);
    const char *text = golden_text("hf/generate", "generate.json", &len);
    json_open(&r, text, len, JSON_PYTHON_NAN);
    EXPECT_OK(json_enter_object(&r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(&r, &more, &key, &err), &err);
        if (!more)
            break;
        if (json_is(&key, "cases"))
            check_cases(&ds, &r, isa);
        else
            EXPECT_OK(json_skip(&r, &err), &err);
    }
    json_close(&r);
    EXPECT_EQ_I64(ds.cases, 27);
    text = golden_text("hf/generate_16", "generate.json", &len);
    json_open(&r, text, len, JSON_PYTHON_NAN);
    check_cases(&ds, &r, isa);
    json_close(&r);
    EXPECT_EQ_I64(ds.cases, 47);
    for (int v = 0; v < 2; v++) {
        decode_model_free(ds.d[v]);
        t5_model_free(ds.m[v]);
    }
    batch_free(&ds.batch);
}

static void all_cases(void **state)
{
    golden_every_isa(all_cases_on, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(all_cases)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
