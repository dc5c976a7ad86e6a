/* golden/initializers: the reference's initialisers with fixed keys. Copies and draws bit for bit,
 * averages within 1e-6. */
#include "support/test.h"

#include <stdio.h>
#include <string.h>

#include "fs/fs.h"
#include "prompt/init.h"
#include "store/npy.h"

static char path[1024];

static const char *golden_file(const char *name)
{
    snprintf(path, sizeof path, "%s/initializers/%s", test_golden_dir(), name);
    return path;
}

static float *load(const char *file, int64_t *rows, int64_t *width)
{
    store *s = NULL;
    spt_err err = {0};
    EXPECT_OK(npy_open(file, NULL, &s, &err), &err);
    const struct store_info *t = store_at(s, 0);
    EXPECT_EQ_I64(t->shape.rank, 2);
    float *out = mem_alloc(t->elements, sizeof *out);
    EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
    *rows = t->shape.dim[0];
    *width = t->shape.dim[1];
    store_close(s);
    return out;
}

struct table {
    float *rows;
    int64_t V, E;
};

static spt_status embed(void *ctx, const int32_t *ids, int64_t n, float *out, spt_err *err)
{
    const struct table *t = ctx;
    (void)err;
    for (int64_t i = 0; i < n; i++) {
        EXPECT_TRUE(ids[i] >= 0 && ids[i] < t->V);
        memcpy(out + i * t->E, t->rows + ids[i] * t->E, (size_t)t->E * sizeof *out);
    }
    return SPT_OK;
}

static void compare(const char *what, const float *got, const float *want, size_t n, double tol)
{
    for (size_t i = 0; i < n; i++) {
        const double d = (double)got[i] - (double)want[i];
        if (tol > 0 ? !((d < 0 ? -d : d) <= tol) : memcmp(&got[i], &want[i], sizeof *got) != 0)
            fail_msg("%s: element %zu is %.9g, wanted %.9g", what, i, (double)got[i],
                     (double)want[i]);
    }
}

static struct table big, small;
static vocab *t5;

static void run_case(const char *name, const struct prompt_init *init, int64_t seed,
                     const struct table *t, double tol)
{
    int64_t P, E;
    spt_err err = {0};
    char file[200];
    snprintf(file, sizeof file, "%s.npy", name);
    float *want = load(golden_file(file), &P, &E);
    float *got = mem_alloc((size_t)(P * E), sizeof *got);
    const struct rng_key { uint32_t w[2]; } key = {{0, (uint32_t)seed}};
    const struct prompt_init_env env = {embed, (void *)(uintptr_t)t, t ? t->V : 0, t5};
    EXPECT_OK(prompt_init_run(init, &env, key.w, P, E, got, &err), &err);
    compare(name, got, want, (size_t)(P * E), tol);
    mem_free(got);
    mem_free(want);
}

static void uniform_draws_are_equal(void **state)
{
    static const struct { const char *name; int64_t seed; float scale; } c[] = {
        {"uniform0.5.key0.3x4", 0, 0.5f},           {"uniform0.5.key0.100x4", 0, 0.5f},
        {"uniform0.5.key42.5x7", 42, 0.5f},         {"uniform0.5.key2147483653.10x8", 2147483653, 0.5f},
        {"uniform0.01.key0.3x4", 0, 0.01f},         {"uniform0.01.key0.100x4", 0, 0.01f},
        {"uniform0.01.key42.5x7", 42, 0.01f},       {"uniform0.01.key2147483653.10x8", 2147483653, 0.01f},
    };
    if (!test_golden_dir())
        skip();
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        const struct prompt_init init = {.kind = PROMPT_INIT_UNIFORM, .scale = c[i].scale};
        run_case(c[i].name, &init, c[i].seed, NULL, 0);
    }
}

static void sampled_rows_are_equal(void **state)
{
    static const struct { const char *name; int64_t seed, population; bool small; } c[] = {
        {"sampled_pop5000.key0.100x4", 0, 5000, false},
        {"sampled_pop5000.key42.20x4", 42, 5000, false},
        {"sampled_popNone.key7.20x4", 7, 0, false},
        {"sampled_pop3.key1.5x4", 1, 3, false},
        {"sampled_pop5000.key3.2000x4", 3, 5000, false},
        {"sampled_pop100.small.key5.8x6", 5, 100, true},
        {"sampled_popNone.small.key5.75x6", 5, 0, true},
    };
    if (!test_golden_dir() || !big.rows)
        skip();
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        const struct prompt_init init = {.kind = PROMPT_INIT_SAMPLED, .population = c[i].population};
        run_case(c[i].name, &init, c[i].seed, c[i].small ? &small : &big, 0);
    }
}

static void texts_are_equal(void **state)
{
    static const char *const labels[] = {"True", "False", "entailment", "not_entailment",
                                         "negative", "positive", "antidisestablishmentarianism"};
    static const char *const string[] = {"Classify the sentiment of this movie review:"};
    const struct prompt_init sampled = {.kind = PROMPT_INIT_SAMPLED, .population = 5000};
    const struct prompt_init uniform = {.kind = PROMPT_INIT_UNIFORM, .scale = 0.5f};
    if (!test_golden_dir() || !big.rows || !t5)
        skip();
    struct prompt_init i = {.kind = PROMPT_INIT_LABELS, .texts = labels, .text_count = 7};
    i.fallback = &sampled;
    run_case("class_labels.fallback_sampled.key11.12x4", &i, 11, &big, 1e-6);
    i.fallback = NULL;
    run_case("class_labels.fallback_default.key11.12x4", &i, 11, &big, 1e-6);
    i.fallback = &uniform;
    run_case("class_labels.too_many.key12.3x4", &i, 12, &big, 1e-6);
    i = (struct prompt_init){.kind = PROMPT_INIT_STRING, .texts = string, .text_count = 1};
    i.fallback = &sampled;
    run_case("string.key13.4x4", &i, 13, &big, 0);
    run_case("string.key13.20x4", &i, 13, &big, 0);
    i.fallback = NULL;
    run_case("string.fallback_default.key13.20x4", &i, 13, &big, 0);
}

static void file_is_equal_and_its_shape_must_be(void **state)
{
    const char *shared = test_shared_dir();
    char file[1024];
    if (!test_golden_dir() || !shared)
        skip();
    snprintf(file, sizeof file, "%s/data/upstream/prompt_5x256.npy", shared);
    if (!fs_exists(file))
        skip();
    const struct prompt_init init = {.kind = PROMPT_INIT_FILE, .file = file};
    run_case("from_file.key0.5x256", &init, 0, NULL, 0);
    float out[4 * 256];
    const uint32_t key[2] = {0, 0};
    spt_err err = {0};
    EXPECT_STATUS(prompt_init_run(&init, NULL, key, 4, 256, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "5 rows");
    EXPECT_STATUS(prompt_init_run(&init, NULL, key, 5, 128, out, &err), SPT_E_FORMAT);
}

static void module_keys_are_equal(void **state)
{
    if (!test_golden_dir())
        skip();
    for (int k = 0; k < 8; k++) {
        const bool eval = k & 1, legacy = k & 2;
        const int seed = k & 4 ? 42 : 0;
        char name[120];
        uint32_t key[2];
        int64_t P, E;
        spt_err err = {0};
        const struct prompt_key_opts o = {.legacy = legacy, .eval = eval};
        snprintf(name, sizeof name, "module.uniform0.5.%s.seed%d.%s.npy", eval ? "eval" : "train",
                 seed, legacy ? "legacy" : "lazy");
        prompt_init_key((uint64_t)seed, &o, key);
        float *want = load(golden_file(name), &P, &E);
        float *got = mem_alloc((size_t)(P * E), sizeof *got);
        const struct prompt_init init = {.kind = PROMPT_INIT_UNIFORM, .scale = 0.5f};
        EXPECT_OK(prompt_init_run(&init, NULL, key, P, E, got, &err), &err);
        compare(name, got, want, (size_t)(P * E), 0);
        mem_free(got);
        mem_free(want);
    }
}

static int load_tables(void **state)
{
    const char *shared = test_shared_dir();
    struct vocab_opts o;
    spt_err err = {0};
    if (!test_golden_dir() || !fs_exists(golden_file("small_table.npy")))
        return 0;
    small.rows = load(golden_file("small_table.npy"), &small.V, &small.E);
    if (!shared)
        return 0;
    snprintf(path, sizeof path, "%s/data/upstream/tiny_embeddings_32128x4.npy", shared);
    big.rows = load(path, &big.V, &big.E);
    vocab_opts_init(&o);
    o.rule = VOCAB_PLAIN;
    snprintf(path, sizeof path, "%s/data/upstream/t5_vocab", shared);
    return vocab_open(path, &o, &t5, &err) != SPT_OK;
}

static int free_tables(void **state)
{
    mem_free(small.rows);
    mem_free(big.rows);
    vocab_close(t5);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(uniform_draws_are_equal),
        cmocka_unit_test(sampled_rows_are_equal),
        cmocka_unit_test(texts_are_equal),
        cmocka_unit_test(file_is_equal_and_its_shape_must_be),
        cmocka_unit_test(module_keys_are_equal),
    };
    return cmocka_run_group_tests(tests, load_tables, free_tables);
}
