/* decode/logits: log-softmax accuracy, top-k and top-p against sorting, and the probabilities that
 * Hugging Face's samplers leave (golden/hf/sampling). */
#include "support/golden.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "decode/logits.h"
#include "decode/logits_kernels.h"
#include "random/distributions.h"

static void normalizer_is_accurate(void **state)
{
    enum { MAX = 3001 };
    static float x[MAX];
    static const int64_t sizes[] = {1, 2, 15, 16, 17, 63, 64, 65, 1000, MAX};
    rng_normal(rng_key_of(5), MAX, x);
    for (int i = 0; i < MAX; i++)
        x[i] *= 8;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        const int64_t V = sizes[s];
        double max = -INFINITY, sum = 0;
        for (int64_t i = 0; i < V; i++)
            max = fmax(max, (double)x[i]);
        for (int64_t i = 0; i < V; i++)
            sum += exp((double)x[i] - max);
        const struct logits_norm n = logits_normalizer(x, V);
        EXPECT_EQ_F64(n.max, max);
        EXPECT_NEAR(n.lse, log(sum), 2e-7);
    }
}

/* The variants for instruction sets agree bit for bit. */
static void variants_agree(void **state)
{
    enum { MAX = 1000 };
    static float x[MAX], a[MAX], b[MAX];
    const struct logits_kernels *base = &logits_kernels_base, *other[2] = {base, base};
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        other[0] = &logits_kernels_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
        other[1] = &logits_kernels_avx512;
    rng_normal(rng_key_of(3), MAX, x);
    for (int i = 0; i < MAX; i++)
        x[i] = i % 50 == 49 ? -INFINITY : x[i] * 20;
    for (int v = 0; v < 2; v++)
        for (int64_t V = 1; V < MAX; V += V < 200 ? 1 : 37) {
            const float max = base->max(x, V);
            EXPECT_EQ_F64(other[v]->max(x, V), max);
            EXPECT_EQ_F64(other[v]->sum_exp(x, V, max, a), base->sum_exp(x, V, max, b));
            assert_memory_equal(a, b, (size_t)V * sizeof *a);
            for (int64_t i = 0; i < V; i++) /* within two units in the last place */
                EXPECT_TRUE(fabs((double)a[i] - exp((double)(x[i] - max))) <=
                            2.4e-7 * (double)a[i] + 2e-38);
            memcpy(a, x, sizeof x);
            memcpy(b, x, sizeof x);
            other[v]->shift(a, V, max, 3.7f);
            base->shift(b, V, max, 3.7f);
            assert_memory_equal(a, b, (size_t)V * sizeof *a);
            int64_t from = 0, found = 0, above = 0;
            for (int64_t i = 0; i < V; i++)
                above += ((x[i] - max) - 3.7f) + 1.5f > -30.0f;
            for (;; from++, found++) {
                from = other[v]->next_above(x, V, from, max, 3.7f, 1.5f, -30.0f);
                if (from == V)
                    break;
                EXPECT_TRUE(((x[from] - max) - 3.7f) + 1.5f > -30.0f);
            }
            EXPECT_EQ_I64(found, above);
            EXPECT_TRUE(!other[v]->has_nan(x, V));
        }
}

static void constant_shift_changes_nothing(void **state)
{
    float x[40], y[40];
    for (int i = 0; i < 40; i++) {
        x[i] = (float)(i % 7);
        y[i] = x[i] + 1024;
    }
    const struct logits_norm a = logits_normalizer(x, 40), b = logits_normalizer(y, 40);
    EXPECT_EQ_F64(a.lse, b.lse);
    logits_log_softmax(x, 40, a);
    logits_log_softmax(y, 40, b);
    assert_memory_equal(x, y, sizeof x);
}

static void unusable_rows_are_noticed(void **state)
{
    float x[50] = {0};
    for (int i = 0; i < 50; i++) {
        x[i] = NAN;
        EXPECT_TRUE(!logits_usable(x, 50));
        EXPECT_TRUE(isnan(logits_normalizer(x, 50).lse));
        x[i] = -INFINITY;
        EXPECT_TRUE(logits_usable(x, 50) == (i < 49));
    }
    x[7] = INFINITY;
    EXPECT_TRUE(!logits_usable(x, 50));
    x[7] = 1;
    EXPECT_TRUE(logits_usable(x, 50));
    EXPECT_EQ_F64(logits_log_prob(logits_normalizer(x, 50), x[7]), 0);
}

static void argmax_takes_the_lowest_index(void **state)
{
    float x[100] = {0};
    x[33] = x[34] = x[99] = 2;
    EXPECT_EQ_I64(logits_argmax(x, 100), 33);
    x[12] = NAN;
    EXPECT_EQ_I64(logits_argmax(x, 100), 33);
    EXPECT_EQ_I64(logits_argmax(x, 1), 0);
}

static int descending(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x < y) - (x > y);
}

static void top_k_keeps_ties(void **state)
{
    enum { V = 200 };
    float x[V], y[V], sorted[V], heap[V];
    rng_normal(rng_key_of(6), V, x);
    for (int i = 0; i < V; i++)
        x[i] = floorf(x[i] * 8) / 8; /* many equals */
    memcpy(sorted, x, sizeof x);
    qsort(sorted, V, sizeof *sorted, descending);
    for (int64_t k = 1; k <= V + 1; k++) {
        memcpy(y, x, sizeof x);
        logits_top_k(y, V, k, -1e7f, heap);
        for (int i = 0; i < V; i++)
            EXPECT_EQ_F64(y[i], k >= V || x[i] >= sorted[k - 1] ? x[i] : -1e7f);
    }
}

static void top_p_vector_of_t5x(void **state)
{
    float x[4] = {-1.2f, -1e7f, -2.3f, -0.51f};
    struct logits_scratch *s = NULL;
    spt_err err;
    EXPECT_OK(logits_scratch_new(4, &s, &err), &err);
    for (int i = 0; i < 4; i++)
        x[i] /= 1.4f;
    logits_top_p(x, 4, 0.7, LOGITS_KEEP_TIES, -1e7f, s);
    EXPECT_EQ_F64(x[0], -0.85714293f);
    EXPECT_EQ_F64(x[1], -1e7f);
    EXPECT_EQ_F64(x[2], -1e7f);
    EXPECT_EQ_F64(x[3], -0.36428571f);
    logits_scratch_free(s);
}

/* Against sorting: the smallest prefix of the sorted probabilities that reaches p. */
static void top_p_is_a_sorted_prefix(void **state)
{
    enum { V = 777 };
    static float x[V], y[V];
    struct logits_scratch *s = NULL;
    spt_err err;
    EXPECT_OK(logits_scratch_new(V, &s, &err), &err);
    rng_normal(rng_key_of(7), V, x);
    for (int i = 0; i < V; i++)
        x[i] *= 3;
    for (double p = 0.01; p < 1; p += 0.03) {
        double sum = 0, mass = 0, above = 0;
        float least = INFINITY;
        memcpy(y, x, sizeof x);
        logits_top_p(y, V, p, LOGITS_CUT_TIES, -INFINITY, s);
        for (int i = 0; i < V; i++)
            sum += exp((double)x[i]);
        for (int i = 0; i < V; i++)
            if (y[i] == x[i]) {
                mass += exp((double)x[i]) / sum;
                least = fminf(least, x[i]);
            }
        for (int i = 0; i < V; i++) {
            EXPECT_TRUE(y[i] == x[i] || (y[i] == -INFINITY && x[i] <= least));
            above += x[i] > least ? exp((double)x[i]) / sum : 0;
        }
        EXPECT_TRUE(mass >= p - 1e-6 && above < p + 1e-6);
    }
    logits_scratch_free(s);
}

static void top_p_ties(void **state)
{
    struct logits_scratch *s = NULL;
    spt_err err;
    EXPECT_OK(logits_scratch_new(4, &s, &err), &err);
    float x[4] = {1, 1, 1, 1}, y[4] = {1, 1, 1, 1};
    logits_top_p(x, 4, 0.45, LOGITS_KEEP_TIES, -1e7f, s);
    logits_top_p(y, 4, 0.45, LOGITS_CUT_TIES, -INFINITY, s);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ_F64(x[i], 1);
        EXPECT_TRUE(y[i] == (i < 2 ? 1 : -INFINITY));
    }
    float tiny[4] = {0, -200, -300, 1};
    logits_top_p(tiny, 4, 1e-9, LOGITS_CUT_TIES, -INFINITY, s); /* the best one always stays */
    EXPECT_TRUE(tiny[3] == 1 && tiny[0] == -INFINITY);
    logits_scratch_free(s);
}

static spt_status build(void *ctx, spt_err *err)
{
    struct logits_scratch *s = NULL;
    TRY(logits_scratch_new(100, &s, err));
    logits_scratch_free(s);
    return SPT_OK;
}

static void every_allocation_may_fail(void **state)
{
    EXPECT_EQ_I64(fault_every_alloc(build, NULL), 3);
}

/* Row 2 has 30 exact ties at the top, which the reference cuts in an unspecified order: sorted
 * probabilities are compared. */
static void hugging_face_warpers(void **state)
{
    enum { V = 512 };
    static const struct {
        const char *name;
        float temperature;
        int64_t k;
        double p;
    } cases[] = {{"temperature_0_7", 0.7f, 0, 0},
                 {"top_k_20", 1, 20, 0},
                 {"top_p_0_9", 1, 0, 0.9},
                 {"all_three", 0.7f, 20, 0.9},
                 {"temperature_top_p", 0.7f, 0, 0.9}};
    const struct golden_array logits = golden_npy_shaped("hf/sampling", "logits.npy", 2, 5, V);
    struct logits_scratch *s = NULL;
    spt_err err;
    float x[V], heap[V], want[V];
    char file[64];
    EXPECT_OK(logits_scratch_new(V, &s, &err), &err);
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        snprintf(file, sizeof file, "%s.probs.npy", cases[c].name);
        const struct golden_array probs = golden_npy_shaped("hf/sampling", file, 2, 5, V);
        for (int r = 0; r < 5; r++) {
            for (int i = 0; i < V; i++)
                x[i] = logits.f32[r * V + i] / cases[c].temperature;
            if (cases[c].k)
                logits_top_k(x, V, cases[c].k, -INFINITY, heap);
            if (cases[c].p > 0)
                logits_top_p(x, V, cases[c].p, LOGITS_CUT_TIES, -INFINITY, s);
            logits_log_softmax(x, V, logits_normalizer(x, V));
            memcpy(want, probs.f32 + r * V, sizeof want);
            for (int i = 0; i < V; i++)
                x[i] = expf(x[i]);
            qsort(x, V, sizeof *x, descending);
            qsort(want, V, sizeof *want, descending);
            for (int i = 0; i < V; i++)
                if (!(fabsf(x[i] - want[i]) <= 1e-6f))
                    fail_msg("%s, row %d, rank %d: %.9g, wanted %.9g", cases[c].name, r, i,
                             (double)x[i], (double)want[i]);
        }
    }
    logits_scratch_free(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(normalizer_is_accurate),
        cmocka_unit_test(variants_agree),
        cmocka_unit_test(constant_shift_changes_nothing),
        cmocka_unit_test(unusable_rows_are_noticed),
        cmocka_unit_test(argmax_takes_the_lowest_index),
        cmocka_unit_test(top_k_keeps_ties),
        cmocka_unit_test(top_p_vector_of_t5x),
        cmocka_unit_test(top_p_is_a_sorted_prefix),
        cmocka_unit_test(top_p_ties),
        cmocka_unit_test(every_allocation_may_fail),
        cmocka_unit_test(hugging_face_warpers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
