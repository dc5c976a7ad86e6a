/* prompt/neighbors.c and prompt/init.c beyond the recorded cases. */
#include "support/test.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "prompt/neighbors.h"

struct table {
    int64_t E;
    const float *rows;
    int fail_after;
};

static spt_status embed(void *ctx, const int32_t *ids, int64_t n, float *out, spt_err *err)
{
    struct table *t = ctx;
    if (t->fail_after && !--t->fail_after)
        return err_set(err, SPT_E_IO, "the disk is gone");
    for (int64_t i = 0; i < n; i++)
        memcpy(out + i * t->E, t->rows + ids[i] * t->E, (size_t)t->E * sizeof *out);
    return SPT_OK;
}

static struct prompt *make(int64_t P, int64_t E, const float *rows)
{
    struct prompt *p = NULL;
    spt_err err = {0};
    EXPECT_OK(prompt_new(P, E, rows, NULL, &p, &err), &err);
    return p;
}

static void a_small_table_by_hand(void **state)
{
    static const float rows[] = {1, 0, 0, 2, 3, 3, -1, 0, 0, 0, 1, 0}; /* ids 0 .. 5 */
    const float mine[] = {5, 0, 0, 0};
    struct table t = {2, rows, 0};
    const struct prompt_init_env env = {.embed = embed, .ctx = &t, .rows = 6};
    struct prompt *p = make(2, 2, mine);
    struct neighbor out[2 * 6];
    spt_err err = {0};
    EXPECT_OK(neighbors_find(p, &env, NEIGHBOR_COSINE, 6, out, &err), &err);
    static const int32_t by_cosine[] = {0, 5, 2, 1, 4, 3}; /* 0 and 5 tie, 1 and 4 tie at zero */
    for (int i = 0; i < 6; i++)
        EXPECT_EQ_I64(out[i].id, by_cosine[i]);
    EXPECT_NEAR(out[2].value, sqrt(0.5), 1e-12);
    EXPECT_EQ_F64(out[5].value, -1);
    for (int i = 0; i < 6; i++) { /* a zero row is near to nothing: ids in order */
        EXPECT_EQ_I64(out[6 + i].id, i);
        EXPECT_EQ_F64(out[6 + i].value, 0);
    }
    EXPECT_OK(neighbors_find(p, &env, NEIGHBOR_L2, 2, out, &err), &err);
    EXPECT_EQ_I64(out[0].id, 2);
    EXPECT_NEAR(out[0].value, sqrt(13), 1e-12);
    EXPECT_EQ_I64(out[1].id, 0);
    EXPECT_EQ_I64(out[2].id, 4); /* of the zero row: itself, then the first at distance 1 */
    EXPECT_EQ_I64(out[3].id, 0);
    EXPECT_STATUS(neighbors_find(p, &env, NEIGHBOR_L2, 0, out, &err), SPT_E_USAGE);
    EXPECT_STATUS(neighbors_find(p, &env, NEIGHBOR_L2, 7, out, &err), SPT_E_USAGE);
    prompt_free(p);
}

static void blocks_equal_a_full_sort(void **state)
{
    enum { V = 1500, E = 5, P = 3, K = 20 };
    static float rows[V * E], mine[P * E];
    srand(3);
    for (int i = 0; i < V * E; i++)
        rows[i] = (float)(rand() % 7 - 3); /* many exact ties */
    for (int i = 0; i < P * E; i++)
        mine[i] = (float)(rand() % 7 - 3);
    struct table t = {E, rows, 0};
    const struct prompt_init_env env = {.embed = embed, .ctx = &t, .rows = V};
    struct prompt *p = make(P, E, mine);
    struct neighbor out[P * K];
    spt_err err = {0};
    EXPECT_OK(neighbors_find(p, &env, NEIGHBOR_L2, K, out, &err), &err);
    for (int i = 0; i < P; i++) {
        bool used[V] = {0};
        for (int k = 0; k < K; k++) {
            int best = -1;
            double least = INFINITY;
            for (int v = 0; v < V; v++) {
                double d = 0;
                for (int j = 0; j < E; j++)
                    d += pow((double)mine[i * E + j] - (double)rows[v * E + j], 2);
                if (!used[v] && sqrt(d) < least)
                    least = sqrt(d), best = v;
            }
            used[best] = true;
            EXPECT_EQ_I64(out[i * K + k].id, best);
        }
    }
    t.fail_after = 2;
    EXPECT_STATUS(neighbors_find(p, &env, NEIGHBOR_L2, K, out, &err), SPT_E_IO);
    prompt_free(p);
}

static void stats_by_hand(void **state)
{
    const float mine[] = {3, 4, 6, 8, 0, 1}, start[] = {3, 4, 0, 0, 1, 0};
    struct prompt *p = make(3, 2, mine);
    struct prompt_row_stats s[3];
    prompt_stats(p, start, s);
    EXPECT_EQ_F64(s[0].norm, 5);
    EXPECT_EQ_I64(s[0].twin, 1);
    EXPECT_EQ_F64(s[0].twin_cosine, 1);
    EXPECT_EQ_F64(s[0].drift, 0);
    EXPECT_EQ_F64(s[1].drift, 10);
    EXPECT_EQ_F64(s[1].drift_cosine, 0);
    EXPECT_NEAR(s[2].drift, sqrt(2), 1e-12);
    EXPECT_EQ_I64(s[2].twin, 0);
    prompt_stats(p, NULL, s);
    EXPECT_TRUE(isnan(s[0].drift));
    prompt_free(p);
    p = make(1, 2, mine);
    prompt_stats(p, NULL, s);
    EXPECT_EQ_I64(s[0].twin, -1);
    prompt_free(p);
}

static void initialisers_refuse_what_they_cannot_do(void **state)
{
    float out[8], rows[8] = {0};
    struct table t = {2, rows, 0};
    const uint32_t key[2] = {0, 1};
    spt_err err = {0};
    vocab *bytes = NULL;
    const char *texts[] = {""};
    const struct prompt_init_env env = {.embed = embed, .ctx = &t, .rows = 4}, none = {0};
    struct prompt_init i;
    prompt_init_defaults(&i);
    EXPECT_STATUS(prompt_init_run(&i, &none, key, 0, 2, out, &err), SPT_E_CONFIG);
    EXPECT_STATUS(prompt_init_run(&i, &none, key, INT64_MAX, INT64_MAX, out, &err), SPT_E_FORMAT);
    i.kind = PROMPT_INIT_SAMPLED;
    EXPECT_STATUS(prompt_init_run(&i, &none, key, 2, 2, out, &err), SPT_E_USAGE);
    i.population = -1;
    EXPECT_STATUS(prompt_init_run(&i, &env, key, 2, 2, out, &err), SPT_E_CONFIG);
    i.kind = PROMPT_INIT_LABELS;
    EXPECT_STATUS(prompt_init_run(&i, &env, key, 2, 2, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "vocabulary");
    EXPECT_OK(vocab_open("bytes", NULL, &bytes, &err), &err);
    struct prompt_init_env with = env;
    with.vocab = bytes;
    EXPECT_STATUS(prompt_init_run(&i, &with, key, 2, 2, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "no text");
    i.texts = texts;
    i.text_count = 1;
    EXPECT_STATUS(prompt_init_run(&i, &with, key, 2, 2, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "no pieces");
    texts[0] = "a"; /* id 100, the table has 4 rows */
    EXPECT_STATUS(prompt_init_run(&i, &with, key, 2, 2, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "id 100");
    i.fallback = &i;
    EXPECT_STATUS(prompt_init_run(&i, &with, key, 2, 2, out, &err), SPT_E_CONFIG);
    i.kind = PROMPT_INIT_FILE;
    EXPECT_STATUS(prompt_init_run(&i, &with, key, 2, 2, out, &err), SPT_E_USAGE);
    vocab_close(bytes);
}

static void descriptions_say_what_fills_what(void **state)
{
    char text[300];
    const char *texts[] = {"a", "b"};
    struct prompt_init i;
    prompt_init_defaults(&i);
    prompt_init_text(&i, 10, text, sizeof text);
    EXPECT_STR(text, "uniform in [0, 0.5)");
    EXPECT_EQ_I64(prompt_init_filled(&i, 10), 10);
    const struct prompt_init sampled = {.kind = PROMPT_INIT_SAMPLED, .population = 5000};
    i = (struct prompt_init){.kind = PROMPT_INIT_LABELS, .texts = texts, .text_count = 2,
                             .fallback = &sampled};
    prompt_init_text(&i, 10, text, sizeof text);
    EXPECT_STR(text, "class labels (2 of 10 rows), rest sampled from the first 5000 embeddings");
    EXPECT_EQ_I64(prompt_init_filled(&i, 1), 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_table_by_hand),
        cmocka_unit_test(blocks_equal_a_full_sort),
        cmocka_unit_test(stats_by_hand),
        cmocka_unit_test(initialisers_refuse_what_they_cannot_do),
        cmocka_unit_test(descriptions_say_what_fills_what),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
