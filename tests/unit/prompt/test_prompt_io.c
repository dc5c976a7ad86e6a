/* prompt/: files of every kind, provenance, findings, run directories. */
#include "support/test.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "store/npy.h"

static char warning[512];
static int warnings;

static void keep_warning(void *ctx, enum log_level level, const char *line)
{
    if (level == LOG_WARNING) {
        warnings++;
        snprintf(warning, sizeof warning, "%s", line);
    }
}

static float value(int64_t i, int64_t j)
{
    return (float)(i * 100 + j - 150) / 64;
}

/* A prompt with every field of its use set. */
static struct prompt *sample(int64_t P, int64_t E)
{
    static const char *const labels[] = {"billing", "praise", "\"quoted\" \xce\xbb"};
    spt_err err = {0};
    struct prompt_use u;
    struct prompt *p = NULL;
    float *rows = malloc((size_t)(P * E) * sizeof *rows);
    for (int64_t i = 0; i < P; i++)
        for (int64_t j = 0; j < E; j++)
            rows[i * E + j] = value(i, j);
    prompt_use_init(&u);
#define SET(field, key, what) EXPECT_OK(prompt_set_text(&u.field, "the " what " {text}\n", &err), &err);
    PROMPT_TEXT_MAP(SET)
#undef SET
    int64_t n = 7;
#define SET(field, key, what) u.field = n++;
    PROMPT_NUMBER_MAP(SET)
#undef SET
    EXPECT_OK(prompt_set_labels(&u, labels, 3, &err), &err);
    EXPECT_OK(prompt_new(P, E, rows, &u, &p, &err), &err);
    prompt_use_release(&u);
    free(rows);
    return p;
}

static void same_rows(const struct prompt *a, const struct prompt *b)
{
    EXPECT_EQ_I64(a->P, b->P);
    EXPECT_EQ_I64(a->E, b->E);
    EXPECT_TRUE(!memcmp(a->rows, b->rows, (size_t)(a->P * a->E) * sizeof *a->rows));
}

static void same_use(const struct prompt_use *a, const struct prompt_use *b)
{
#define SAME(field, key, what) EXPECT_STR(a->field, b->field);
    PROMPT_TEXT_MAP(SAME)
#undef SAME
#define SAME(field, key, what) EXPECT_EQ_I64(a->field, b->field);
    PROMPT_NUMBER_MAP(SAME)
#undef SAME
    EXPECT_EQ_I64(a->label_count, b->label_count);
    for (size_t i = 0; i < a->label_count; i++)
        EXPECT_STR(a->labels[i], b->labels[i]);
    EXPECT_EQ_I64(a->combine, b->combine);
    EXPECT_EQ_I64(a->side, b->side);
}

static struct prompt *read_back(const char *path)
{
    spt_err err = {0};
    struct prompt *p = NULL;
    EXPECT_OK(prompt_read(path, NULL, &p, &err), &err);
    return p;
}

static void safetensors_keeps_everything(void **state)
{
    const char *dir = test_tmpdir();
    const char *path = test_path(dir, "p.safetensors");
    spt_err err = {0};
    struct prompt_dropped lost;
    struct prompt *p = sample(3, 8);
    p->use.combine = T5_SUFFIX;
    EXPECT_OK(prompt_write(p, path, PROMPT_SAFETENSORS, NULL, &lost, &err), &err);
    EXPECT_EQ_I64(lost.count, 0);
    struct prompt *q = read_back(path);
    same_rows(p, q);
    same_use(&p->use, &q->use);
    EXPECT_STR(q->source, path);
    EXPECT_STR(q->kind, "safetensors");
    prompt_free(p);
    prompt_free(q);
}

static void decoder_prompts_have_their_own_name(void **state)
{
    const char *path = test_path(test_tmpdir(), "d.safetensors");
    spt_err err = {0};
    struct prompt *p = sample(2, 4), *q = NULL;
    const struct prompt_read_opts decoder = {.side = PROMPT_DECODER};
    p->use.side = PROMPT_DECODER;
    EXPECT_OK(prompt_write(p, path, PROMPT_SAFETENSORS, NULL, NULL, &err), &err);
    EXPECT_OK(prompt_read(path, &decoder, &q, &err), &err);
    EXPECT_EQ_I64(q->use.side, PROMPT_DECODER);
    same_rows(p, q);
    EXPECT_STATUS(prompt_write(p, test_path(test_tmpdir(), "x"), PROMPT_PEFT, NULL, NULL, &err),
                  SPT_E_CONFIG);
    prompt_free(p);
    prompt_free(q);
}

static void npy_says_what_it_drops(void **state)
{
    const char *path = test_path(test_tmpdir(), "p.npy");
    spt_err err = {0};
    struct prompt_dropped lost;
    char text[1024];
    struct prompt *p = sample(5, 8);
    EXPECT_OK(prompt_write(p, path, PROMPT_NPY, NULL, &lost, &err), &err);
    prompt_dropped_text(&lost, text, sizeof text);
    EXPECT_TRUE(strstr(text, "input template") && strstr(text, "label set") &&
                strstr(text, " and seed") && strstr(text, "step"));
    struct prompt *q = read_back(path);
    same_rows(p, q);
    EXPECT_TRUE(!q->use.input_template && !q->use.labels && q->use.step == -1);
    prompt_dropped_text(&(struct prompt_dropped){0}, text, sizeof text);
    EXPECT_STR(text, "");
    prompt_free(p);
    prompt_free(q);
}

static void t5x_numpy_checkpoints_are_found(void **state)
{
    const char *dir = test_path(test_tmpdir(), "run");
    spt_err err = {0};
    struct prompt_dropped lost;
    char text[1024], deep[1024];
    struct prompt *p = sample(2, 4);
    p->use.step = 9;
    EXPECT_OK(prompt_write(p, dir, PROMPT_T5X_NUMPY, NULL, &lost, &err), &err);
    prompt_dropped_text(&lost, text, sizeof text);
    EXPECT_TRUE(!strstr(text, "step") && strstr(text, "seed"));
    p->rows[0] = 5;
    snprintf(deep, sizeof deep, "%s/numpy_checkpoints/checkpoint_120", dir);
    EXPECT_OK(prompt_write(p, deep, PROMPT_T5X_NUMPY, NULL, &lost, &err), &err);
    static const char *const below[] = {"", "/numpy_checkpoints", "/numpy_checkpoints/checkpoint_120",
                                        ("/numpy_checkpoints/checkpoint_120/"
                                         "encoder.prompt.prompt.prompt")};
    for (size_t i = 0; i < sizeof below / sizeof *below; i++) {
        snprintf(deep, sizeof deep, "%s%s", dir, below[i]);
        struct prompt *q = read_back(deep);
        same_rows(p, q); /* the latest step */
        EXPECT_EQ_I64(q->use.step, 120);
        prompt_free(q);
    }
    prompt_free(p);
}

static void peft_directories_round_trip(void **state)
{
    const char *dir = test_path(test_tmpdir(), "adapter");
    spt_err err = {0};
    struct prompt *p = sample(4, 8), *q = NULL;
    for (int submodules = 1; submodules <= 2; submodules++) {
        const struct prompt_write_opts o = {
            .num_heads = 2, .num_layers = 2, .peft_submodules = submodules};
        EXPECT_OK(prompt_write(p, dir, PROMPT_PEFT, &o, NULL, &err), &err);
        q = read_back(dir);
        same_rows(p, q);
        same_use(&p->use, &q->use); /* from the metadata, which PEFT ignores */
        EXPECT_STR(q->kind, "peft");
        prompt_free(q);
    }
    prompt_free(p);
}

static void formats_follow_the_name(void **state)
{
    enum prompt_format f;
    spt_err err = {0};
    const struct { const char *name; enum prompt_format f; } c[] = {
        {"a/b.npy", PROMPT_NPY},
        {"b.safetensors", PROMPT_SAFETENSORS},
        {"run/numpy_checkpoints/checkpoint_5", PROMPT_T5X_NUMPY},
        {"run/numpy_checkpoints/", PROMPT_T5X_NUMPY},
        {"new_adapter/", PROMPT_PEFT},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        EXPECT_OK(prompt_format_of(c[i].name, &f, &err), &err);
        EXPECT_EQ_I64(f, c[i].f);
    }
    EXPECT_STATUS(prompt_format_of("no/such.bin", &f, &err), SPT_E_USAGE);
    EXPECT_MSG(&err, "checkpoint_<step>");
}

static void a_run_directory_means_its_best_prompt(void **state)
{
    const char *dir = test_tmpdir();
    spt_err err = {0};
    char name[PROMPT_NAME_TEXT];
    struct prompt *p = sample(2, 4), *q = NULL;
    EXPECT_STATUS(prompt_read(dir, NULL, &q, &err), SPT_E_FORMAT);
    for (int step = 20; step <= 120; step += 50) {
        p->rows[0] = (float)step;
        EXPECT_OK(prompt_write(p, test_path(dir, prompt_file_name(step, name)), PROMPT_SAFETENSORS,
                               NULL, NULL, &err), &err);
    }
    test_write(test_path(dir, "prompt-999.safetensors.tmp-1"), "x", 1);
    q = read_back(dir); /* no best.json: the highest step */
    EXPECT_EQ_F64(q->rows[0], 120);
    prompt_free(q);
    const struct prompt_best best = {"prompt-70.safetensors", 70, "accuracy", 0.75};
    EXPECT_OK(prompt_best_write(dir, &best, &err), &err);
    q = read_back(dir);
    EXPECT_EQ_F64(q->rows[0], 70);
    prompt_free(q);
    static const char *const bad[] = {"{\"prompt\": \"../x\"}", "{\"prompt\": \"\"}", "{}", "[]",
                                      "{\"prompt\": 3}", "{\"prompt\": \".x\"}"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        test_write(test_path(dir, PROMPT_BEST_FILE), bad[i], strlen(bad[i]));
        EXPECT_STATUS(prompt_read(dir, NULL, &q, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, PROMPT_BEST_FILE);
    }
    prompt_free(p);
}

/* What cannot be looked at is not absent: another prompt must not be taken for the best one. */
static spt_status find_best(void *dir, spt_err *err)
{
    buf path;
    buf_init(&path, 1000);
    spt_status st = prompt_best_path(dir, &path, err);
    if (!st && !strstr(buf_str(&path), "prompt-20."))
        st = err_set(err, SPT_E_USAGE, "%s is not the best prompt", buf_str(&path));
    buf_release(&path);
    return st;
}

static void failures_do_not_change_the_best_prompt(void **state)
{
    char dir[400], name[PROMPT_NAME_TEXT];
    spt_err err = {0};
    struct prompt *p = sample(2, 4);
    strcpy(dir, test_tmpdir());
    for (int step = 20; step <= 70; step += 50)
        EXPECT_OK(prompt_write(p, test_path(dir, prompt_file_name(step, name)), PROMPT_SAFETENSORS,
                               NULL, NULL, &err), &err);
    const struct prompt_best best = {"prompt-20.safetensors", 20, "accuracy", 0.75};
    EXPECT_OK(prompt_best_write(dir, &best, &err), &err);
    EXPECT_TRUE(fault_every_alloc(find_best, dir) > 1);
    EXPECT_TRUE(fault_every_syscall(find_best, dir, EIO) > 2);
    prompt_free(p);
}

/* --- refusals (field case 08) --------------------------------------------------------------- */

static void write_npy(const char *path, enum dtype t, struct tensor_shape shape, const void *data)
{
    spt_err err = {0};
    const struct tensor_view v = {t, shape, data};
    EXPECT_OK(npy_write(path, &v, &err), &err);
}

static void odd_arrays_are_refused_by_name(void **state)
{
    const char *dir = test_tmpdir(), *path = test_path(dir, "x.npy");
    static float a[256 * 8];
    struct prompt *p = NULL;
    spt_err err = {0};
    for (int i = 0; i < 256 * 8; i++)
        a[i] = 1;
    write_npy(path, DT_F32, shape_2d(256, 5), a);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "transposed");
    EXPECT_STATUS(prompt_read(path, &(struct prompt_read_opts){.width = 256}, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "transposed");
    EXPECT_MSG(&err, "x.npy");
    EXPECT_OK(prompt_read(path, &(struct prompt_read_opts){.width = 5}, &p, &err), &err);
    prompt_free(p);
    EXPECT_OK(prompt_read(path, &(struct prompt_read_opts){.any_shape = true}, &p, &err), &err);
    prompt_free(p);
    EXPECT_STATUS(prompt_read(path, &(struct prompt_read_opts){.width = 6}, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "width 6");
    write_npy(path, DT_F32, (struct tensor_shape){3, {1, 4, 8}}, a);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "[1, 4, 8]");
    write_npy(path, DT_F32, shape_2d(0, 8), a);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "no rows");
    write_npy(path, DT_F32, (struct tensor_shape){0, {0}}, a);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    a[2 * 8 + 7] = NAN;
    write_npy(path, DT_F32, shape_2d(4, 8), a);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "row 2, column 7");
    double d[8] = {0, 0, 0, 0, 0, 1e300};
    write_npy(path, DT_F64, shape_2d(2, 4), d);
    EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "row 1, column 1");
    EXPECT_STATUS(prompt_read(test_path(dir, "absent"), NULL, &p, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "absent");
    EXPECT_TRUE(p == NULL || true);
}

static void zero_rows_are_warned_about(void **state)
{
    const char *path = test_path(test_tmpdir(), "z.npy");
    float a[3 * 4] = {1, 0, 0, 0};
    a[11] = 2;
    write_npy(path, DT_F32, shape_2d(3, 4), a);
    warnings = 0;
    log_set_sink(keep_warning, NULL);
    struct prompt *p = read_back(path);
    log_set_sink(NULL, NULL);
    EXPECT_EQ_I64(warnings, 1);
    EXPECT_TRUE(strstr(warning, "1 of 3") && strstr(warning, "row 1"));
    prompt_free(p);
    write_npy(path, DT_F32, (struct tensor_shape){1, {12}}, a);
    p = read_back(path); /* rank 1: one row */
    EXPECT_EQ_I64(p->P, 1);
    EXPECT_EQ_I64(p->E, 12);
    prompt_free(p);
}

static void released_prompts_are_read(void **state)
{
    const char *shared = test_shared_dir();
    static const struct { const char *name; double least, most; } c[] = {
        {"sst2", 344, 2177}, {"mrpc", 316, 1473}, {"rte", 235, 2004}};
    char path[1024];
    if (!shared)
        skip();
    for (size_t k = 0; k < 3; k++) {
        snprintf(path, sizeof path, "%s/data/upstream/pretrained_prompts/t5_1_1_lm100k_base/%s.npy",
                 shared, c[k].name);
        if (!fs_exists(path))
            skip();
        struct prompt *p = read_back(path);
        EXPECT_EQ_I64(p->P, 100);
        EXPECT_EQ_I64(p->E, 768);
        double least = INFINITY, most = 0;
        for (int64_t i = 0; i < p->P; i++) {
            double s = 0;
            for (int64_t j = 0; j < p->E; j++)
                s += (double)p->rows[i * p->E + j] * (double)p->rows[i * p->E + j];
            least = fmin(least, sqrt(s));
            most = fmax(most, sqrt(s));
        }
        EXPECT_TRUE(fabs(least - c[k].least) < 1 && fabs(most - c[k].most) < 1);
        prompt_free(p);
    }
}

static void recorded_checkpoints_and_adapters_are_read(void **state)
{
    const char *golden = test_golden_dir();
    static const char *const adapters[] = {"sub1", "sub2", "sub1_bin", "sub1_legacy_bin"};
    char path[1024];
    spt_err err = {0};
    int found = 0;
    if (!golden)
        skip();
    for (size_t i = 0; i < sizeof adapters / sizeof *adapters; i++) {
        snprintf(path, sizeof path, "%s/hf/peft_prompt/%s", golden, adapters[i]);
        if (!fs_exists(path))
            continue;
        struct prompt *p = NULL;
        EXPECT_OK(prompt_read(path, NULL, &p, &err), &err);
        EXPECT_STR(p->kind, "peft");
        prompt_free(p);
        found++;
    }
    print_message("%d recorded adapters\n", found);
    EXPECT_TRUE(found > 0);
}

/* --- findings ------------------------------------------------------------------------------- */

static void differences_name_both(void **state)
{
    static const char *const same[] = {"praise", "\"quoted\" \xce\xbb", "billing"};
    static const char *const other[] = {"praise", "billing", "refund"};
    struct prompt *p = sample(2, 4);
    struct prompt_want w;
    struct prompt_findings f;
    prompt_want_init(&w);
    prompt_check_use(p, &w, &f);
    EXPECT_EQ_I64(f.count, 0); /* nothing known, nothing wrong */
    w.input_template = p->use.input_template;
    w.base_hash = p->use.base_hash;
    w.labels = same;
    w.label_count = 3;
    w.max_input = p->use.max_input;
    prompt_check_use(p, &w, &f);
    EXPECT_EQ_I64(f.count, 0);
    w.input_template = "{text}";
    w.base_hash = "0123";
    w.base_name = "other-base";
    w.labels = other;
    w.max_input++;
    w.vocab_hash = "99";
    w.compute = "bfloat16";
    w.has_combine = true;
    w.combine = T5_SUFFIX;
    prompt_check_use(p, &w, &f);
    EXPECT_EQ_I64(f.count, 7);
    for (size_t i = 0; i < f.count; i++)
        switch (f.item[i].kind) {
        case PROMPT_OTHER_TEMPLATE:
            EXPECT_TRUE(strstr(f.item[i].text, "\"{text}\"") && strstr(f.item[i].text, "input templ"));
            break;
        case PROMPT_OTHER_BASE:
            EXPECT_TRUE(strstr(f.item[i].text, "0123 (other-base)"));
            break;
        case PROMPT_OTHER_LABELS:
            EXPECT_TRUE(strstr(f.item[i].text, "{praise, billing, refund}"));
            break;
        default:
            EXPECT_TRUE(strstr(f.item[i].text, "was trained with"));
        }
    prompt_free(p);
}

static void endless_texts_fit(void **state)
{
    struct prompt *p = sample(1, 4);
    struct prompt_want w;
    struct prompt_findings f;
    spt_err err = {0};
    char *text = malloc(100000);
    memset(text, 'x', 99999);
    text[99999] = 0;
    const char *labels[64];
    for (int i = 0; i < 64; i++)
        labels[i] = text + 99900;
    EXPECT_OK(prompt_set_text(&p->use.input_template, text, &err), &err);
    EXPECT_OK(prompt_set_labels(&p->use, labels, 64, &err), &err);
    prompt_want_init(&w);
    w.input_template = "y";
    w.labels = labels;
    w.label_count = 63;
    prompt_check_use(p, &w, &f);
    EXPECT_EQ_I64(f.count, 2);
    EXPECT_TRUE(strlen(f.item[0].text) < sizeof f.item[0].text);
    prompt_free(p);
    free(text);
}

/* --- damage and faults ---------------------------------------------------------------------- */

static void damaged_metadata_is_named(void **state)
{
    static const struct { const char *meta, *part; } c[] = {
        {"\"spt.format\":\"1\",\"spt.step\":\"x\"", "step"},
        {"\"spt.format\":\"1\",\"spt.step\":\"-4\"", "step"},
        {"\"spt.format\":\"1\",\"spt.labels\":\"[1]\"", "label"},
        {"\"spt.format\":\"1\",\"spt.labels\":\"[\"", ""},
        {"\"spt.format\":\"1\",\"spt.labels\":\"[\\\"a\\\\u0000\\\"]\"", "NUL"},
        {"\"spt.format\":\"1\",\"spt.combine\":\"sideways\"", "sideways"},
        {"\"spt.format\":\"1\",\"spt.side\":\"top\"", "top"},
    };
    const char *path = test_path(test_tmpdir(), "m.safetensors");
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        char file[1024] = {0};
        spt_err err = {0};
        struct prompt *p = NULL;
        const int n = snprintf(file + 8, sizeof file - 8,
                               "{\"__metadata__\":{%s},\"prompt\":{\"dtype\":\"F32\",\"shape\":[1,2],"
                               "\"data_offsets\":[0,8]}}", c[i].meta);
        file[0] = (char)(n & 255);
        file[1] = (char)(n >> 8);
        test_write(path, file, 8 + (size_t)n + 8);
        EXPECT_STATUS(prompt_read(path, NULL, &p, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, c[i].part);
        EXPECT_MSG(&err, "m.safetensors");
    }
}

static void every_cut_is_refused(void **state)
{
    const char *path = test_path(test_tmpdir(), "t.safetensors");
    char *bytes = NULL;
    size_t size = 0;
    spt_err err = {0};
    struct prompt *p = sample(2, 4), *q = NULL;
    EXPECT_OK(prompt_serialize(p, &bytes, &size, &err), &err);
    EXPECT_EQ_I64((size - 2 * 4 * 4) % 8, 0);
    for (size_t n = 0; n < size; n++) {
        test_write(path, bytes, n);
        EXPECT_TRUE(prompt_read(path, NULL, &q, &err) != SPT_OK);
    }
    mem_free(bytes);
    prompt_free(p);
}

struct fault { const char *dir; };

static spt_status round_trip(void *ctx, spt_err *err)
{
    static const enum prompt_format formats[] = {PROMPT_NPY, PROMPT_SAFETENSORS, PROMPT_PEFT};
    static const char *const names[] = {"f.npy", "f.safetensors", "adapter"};
    static const char *const labels[] = {"a", "b"};
    const struct fault *f = ctx;
    float rows[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    struct prompt *p = NULL, *q = NULL;
    TRY(prompt_new(2, 4, rows, NULL, &p, err));
    spt_status st = prompt_set_text(&p->use.input_template, "{text}", err);
    if (!st)
        st = prompt_set_labels(&p->use, labels, 2, err);
    for (size_t i = 0; i < 3 && !st; i++) {
        st = prompt_write(p, test_path(f->dir, names[i]), formats[i], NULL, NULL, err);
        if (!st)
            st = prompt_read(test_path(f->dir, names[i]), NULL, &q, err);
        prompt_free(q);
        q = NULL;
    }
    prompt_free(p);
    return st;
}

static void faults_are_survived(void **state)
{
    struct fault f = {test_tmpdir()};
    EXPECT_TRUE(fault_every_alloc(round_trip, &f) > 30);
    EXPECT_TRUE(fault_every_syscall(round_trip, &f, EIO) > 30);
    EXPECT_TRUE(fault_every_syscall(round_trip, &f, ENOSPC) > 30);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(safetensors_keeps_everything),
        cmocka_unit_test(decoder_prompts_have_their_own_name),
        cmocka_unit_test(npy_says_what_it_drops),
        cmocka_unit_test(t5x_numpy_checkpoints_are_found),
        cmocka_unit_test(peft_directories_round_trip),
        cmocka_unit_test(formats_follow_the_name),
        cmocka_unit_test(a_run_directory_means_its_best_prompt),
        cmocka_unit_test(failures_do_not_change_the_best_prompt),
        cmocka_unit_test(odd_arrays_are_refused_by_name),
        cmocka_unit_test(zero_rows_are_warned_about),
        cmocka_unit_test(released_prompts_are_read),
        cmocka_unit_test(recorded_checkpoints_and_adapters_are_read),
        cmocka_unit_test(differences_name_both),
        cmocka_unit_test(endless_texts_fit),
        cmocka_unit_test(damaged_metadata_is_named),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(faults_are_survived),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
