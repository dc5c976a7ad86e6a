/* golden/initializers: the reference's initialisers with fixed keys. Copies and draws bit for bit,
 * averages within 1e-6. Cases, seeds and shapes come from golden.json. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "prompt/init.h"
#include "store/npy.h"
#include "text/json.h"

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

/* --- golden.json: every case of "settings" / "cases", and the module.* arrays ----------------- */

struct recorded { /* one case */
    char name[160];
    struct prompt_init init, fallback;
    bool has_fallback, small;
    int64_t seed;
    char text[8][200], file[400];
    const char *texts[8];
};

static void read_string(json_reader *r, char *out, size_t cap)
{
    buf b;
    spt_err err = {0};
    buf_init(&b, cap - 1);
    EXPECT_OK(json_read_text(r, &b, &err), &err);
    snprintf(out, cap, "%s", buf_str(&b));
    buf_release(&b);
}

/* "sampled, population 5000", "uniform 0.5", "flax uniform() with its default scale 1e-2" */
static void read_fallback(const char *text, struct recorded *c)
{
    const char *digits = strpbrk(text, "0123456789");
    c->has_fallback = strncmp(text, "flax", 4) != 0;
    if (!strncmp(text, "sampled", 7))
        c->fallback = (struct prompt_init){
            .kind = PROMPT_INIT_SAMPLED, .population = digits ? strtoll(digits, NULL, 10) : 0};
    else if (c->has_fallback)
        c->fallback = (struct prompt_init){
            .kind = PROMPT_INIT_UNIFORM, .scale = digits ? strtof(digits, NULL) : 0.01f};
}

static void read_texts(json_reader *r, struct recorded *c)
{
    struct json_event item;
    bool more;
    spt_err err = {0};
    EXPECT_OK(json_enter_array(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_item(r, &more, &item, &err), &err);
        if (!more)
            return;
        EXPECT_TRUE(c->init.text_count < 8 && item.len < 200);
        char *to = c->text[c->init.text_count++];
        to[json_unescape(&item, to)] = 0;
    }
}

static void read_case(json_reader *r, struct recorded *c)
{
    struct json_event key, v;
    bool more;
    double scale;
    char text[200];
    spt_err err = {0};
    EXPECT_OK(json_enter_object(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(r, &more, &key, &err), &err);
        if (!more)
            break;
        if (json_is(&key, "seed")) {
            EXPECT_OK(json_read_i64(r, &c->seed, &err), &err);
        } else if (json_is(&key, "scale")) {
            EXPECT_OK(json_read_f64(r, &scale, &err), &err);
            c->init.scale = (float)scale;
        } else if (json_is(&key, "population_size")) {
            EXPECT_OK(json_next(r, &v, &err), &err);
            c->init.kind = PROMPT_INIT_SAMPLED;
            if (v.kind == JSON_NUMBER)
                EXPECT_OK(json_to_i64(&v, &c->init.population, &err), &err);
        } else if (json_is(&key, "texts")) {
            c->init.kind = PROMPT_INIT_LABELS;
            read_texts(r, c);
        } else if (json_is(&key, "text")) {
            c->init.kind = PROMPT_INIT_STRING;
            read_string(r, c->text[c->init.text_count++], sizeof c->text[0]);
        } else if (json_is(&key, "file")) {
            c->init.kind = PROMPT_INIT_FILE;
            read_string(r, c->file, sizeof c->file);
        } else if (json_is(&key, "fallback")) {
            read_string(r, text, sizeof text);
            read_fallback(text, c);
        } else if (json_is(&key, "table")) {
            read_string(r, text, sizeof text);
            c->small = !strcmp(text, "small_table");
        } else {
            EXPECT_OK(json_skip(r, &err), &err);
        }
    }
}

/* "shared/data/x (note)" below the shared directory. */
static const char *shared_file(const char *text)
{
    static char full[1024];
    const size_t n = strcspn(text, " ");
    snprintf(full, sizeof full, "%s/%.*s", test_shared_dir(), (int)(n - 7), text + 7);
    return full;
}

static void run_recorded(struct recorded *c)
{
    const bool texts = c->init.kind == PROMPT_INIT_LABELS || c->init.kind == PROMPT_INIT_STRING;
    const struct table *t = c->small ? &small : &big;
    char file[1024];
    for (int i = 0; i < 8; i++)
        c->texts[i] = c->text[i];
    c->init.texts = c->texts;
    c->init.fallback = c->has_fallback ? &c->fallback : NULL;
    if (c->init.kind == PROMPT_INIT_FILE) {
        snprintf(file, sizeof file, "%s", shared_file(c->file));
        c->init.file = file;
    }
    EXPECT_TRUE(!texts || t5);
    run_case(c->name, &c->init, c->seed, c->init.kind == PROMPT_INIT_UNIFORM ? NULL : t,
             c->init.kind == PROMPT_INIT_LABELS ? 1e-6 : 0);
}

static json_reader golden_json(char **text)
{
    json_reader r;
    size_t size;
    spt_err err = {0};
    EXPECT_OK(fs_read_all(golden_file("golden.json"), 1 << 26, text, &size, &err), &err);
    json_open(&r, *text, size, 0);
    return r;
}

/* Enters the object under `name` of the object that comes next. */
static void enter(json_reader *r, const char *name)
{
    struct json_event key;
    bool more;
    spt_err err = {0};
    EXPECT_OK(json_enter_object(r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(r, &more, &key, &err), &err);
        EXPECT_TRUE(more);
        if (json_is(&key, name))
            return;
        EXPECT_OK(json_skip(r, &err), &err);
    }
}

static void every_recorded_case_is_equal(void **state)
{
    char *text;
    struct json_event key;
    bool more;
    spt_err err = {0};
    int n = 0;
    if (!test_golden_dir() || !big.rows)
        skip();
    json_reader r = golden_json(&text);
    enter(&r, "settings");
    enter(&r, "cases");
    EXPECT_OK(json_enter_object(&r, &err), &err);
    for (;;) {
        struct recorded c = {0};
        EXPECT_OK(json_next_key(&r, &more, &key, &err), &err);
        if (!more)
            break;
        EXPECT_TRUE(key.len < sizeof c.name);
        c.name[json_unescape(&key, c.name)] = 0;
        read_case(&r, &c);
        run_recorded(&c);
        n++;
    }
    print_message("%d recorded initialisers agree\n", n);
    EXPECT_TRUE(n > 0);
    json_close(&r);
    mem_free(text);
}

/* "module.uniform0.5.train.seed0.lazy.npy" */
static bool run_module(const char *name)
{
    float scale;
    char mode[16], how[16];
    long long seed;
    uint32_t key[2];
    int64_t P, E;
    spt_err err = {0};
    if (sscanf(name, "module.uniform%f.%15[a-z].seed%lld.%15[a-z].npy", &scale, mode, &seed, how) != 4)
        return false;
    const struct prompt_key_opts o = {.legacy = !strcmp(how, "legacy"), .eval = !strcmp(mode, "eval")};
    prompt_init_key((uint64_t)seed, &o, key);
    float *want = load(golden_file(name), &P, &E);
    float *got = mem_alloc((size_t)(P * E), sizeof *got);
    const struct prompt_init init = {.kind = PROMPT_INIT_UNIFORM, .scale = scale};
    EXPECT_OK(prompt_init_run(&init, NULL, key, P, E, got, &err), &err);
    compare(name, got, want, (size_t)(P * E), 0);
    mem_free(got);
    mem_free(want);
    return true;
}

static void module_keys_are_equal(void **state)
{
    char *text, name[200];
    struct json_event key;
    bool more;
    spt_err err = {0};
    int n = 0;
    if (!test_golden_dir())
        skip();
    json_reader r = golden_json(&text);
    enter(&r, "arrays");
    EXPECT_OK(json_enter_object(&r, &err), &err);
    for (;;) {
        EXPECT_OK(json_next_key(&r, &more, &key, &err), &err);
        if (!more)
            break;
        EXPECT_TRUE(key.len < sizeof name);
        name[json_unescape(&key, name)] = 0;
        n += run_module(name);
        EXPECT_OK(json_skip(&r, &err), &err);
    }
    print_message("%d prompts of whole modules agree\n", n);
    EXPECT_TRUE(n > 0);
    json_close(&r);
    mem_free(text);
}

static void a_file_of_another_shape_is_refused(void **state)
{
    float out[4 * 256];
    const uint32_t key[2] = {0, 0};
    spt_err err = {0};
    char file[1024];
    if (!test_shared_dir())
        skip();
    snprintf(file, sizeof file, "%s/data/upstream/prompt_5x256.npy", test_shared_dir());
    if (!fs_exists(file))
        skip();
    const struct prompt_init init = {.kind = PROMPT_INIT_FILE, .file = file};
    EXPECT_STATUS(prompt_init_run(&init, NULL, key, 4, 256, out, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "5 rows");
    EXPECT_STATUS(prompt_init_run(&init, NULL, key, 5, 128, out, &err), SPT_E_FORMAT);
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
        cmocka_unit_test(every_recorded_case_is_equal),
        cmocka_unit_test(module_keys_are_equal),
        cmocka_unit_test(a_file_of_another_shape_is_refused),
    };
    return cmocka_run_group_tests(tests, load_tables, free_tables);
}
