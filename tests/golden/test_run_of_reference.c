/* The runs that the reference's own programs made (golden/run_of_reference), repeated with the same
 * gin files and overrides on the same checkpoint and the same 64 + 16 rows, which our writer puts into
 * TFDS form: batches and initial prompt bit for bit, losses, prompts, files and their names, scalars,
 * the T5X checkpoint tensor by tensor, evaluation and inference files.
 *
 * Everything happens in a temporary directory where the relative paths of the recorded config.gin
 * mean the same, so its text can be compared, too. */
#define _XOPEN_SOURCE 700 /* realpath, setenv, symlink */

#include "support/golden_model.h"
#include "support/server.h"
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <spt/spt.h>

#include "fs/fs.h"
#include "store/store.h"
#include "store/t5x_checkpoint.h"
#include "task/tfds_write.h"

#define CASE "run_of_reference"
#define TASK "taskless_glue_sst2_v200_examples"
#define TINY "upstream/test_t5_1_1_tiny/checkpoint_3"
#define PROMPT_NAME "encoder.prompt.prompt.prompt"

static char golden[4096], start[4096];
static size_t compared;

/* --- the directory ----------------------------------------------------------------------------- */

static void add_rows(tfds_writer *w, const char *table, const char *split, int64_t most)
{
    spt_err err = {0};
    char *text;
    size_t size;
    EXPECT_OK(fs_read_all(table, 64 << 20, &text, &size, &err), &err);
    char *p = text;
    for (int64_t i = 0; i < most; i++) {
        char *tab = strchr(p, '\t'), *end = strchr(p, '\n');
        record r = {0};
        EXPECT_TRUE(tab && end && tab < end);
        EXPECT_OK(record_set_text(&r, "sentence", p, (size_t)(tab - p), &err), &err);
        EXPECT_OK(record_set_int(&r, "label", tab[1] - '0', &err), &err);
        EXPECT_OK(record_set_int(&r, "idx", i, &err), &err);
        EXPECT_OK(tfds_writer_add(w, split, &r, NULL, &err), &err);
        record_release(&r);
        p = end + 1;
    }
    mem_free(text);
}

/* False: the recorded run or its inputs are not here. */
static bool prepare(void)
{
    const char *shared = test_shared_dir(), *g = test_golden_dir();
    char path[8192];
    spt_err err = {0};
    if (!shared || !g)
        return false;
    char *all = realpath(g, NULL);
    EXPECT_TRUE(all && strlen(all) + sizeof CASE + 1 < sizeof golden);
    snprintf(golden, sizeof golden, "%.*s/%s", (int)sizeof golden - 64, all, CASE);
    setenv("SPT_GOLDEN", all, 1);
    free(all);
    if (!fs_is_dir(golden))
        return false;
    EXPECT_TRUE(getcwd(start, sizeof start) != NULL);
    char *data = realpath(shared, NULL);
    EXPECT_TRUE(data != NULL);
    const char *dir = test_tmpdir();
    snprintf(path, sizeof path, "%s/configs", start);
    setenv("SPT_CONFIGS", path, 1);
    snprintf(path, sizeof path, "%s/data/upstream", data);
    EXPECT_TRUE(!symlink(path, test_path(dir, "upstream")));
    tfds_writer *w;
    EXPECT_OK(tfds_writer_new(test_path(dir, "tfds"), "glue/sst2:2.0.0", &w, &err), &err);
    snprintf(path, sizeof path, "%s/data/sst2/train.tsv", data);
    add_rows(w, path, "train", 64);
    snprintf(path, sizeof path, "%s/data/sst2/dev.tsv", data);
    add_rows(w, path, "validation", 16);
    EXPECT_OK(tfds_writer_commit(w, 1, &err), &err);
    EXPECT_TRUE(!chdir(dir));
    free(data);
    return true;
}

static bool ready;

static void need(void)
{
    if (!ready) {
        print_message("skipped: %s/%s is not here\n", "golden", CASE);
        skip();
    }
}

/* --- running ------------------------------------------------------------------------------------ */

static const char *const common[] = {
    "--gin_file=prompt_tuning/configs/models/t5_1_1_base_prompt.gin",
    "--gin_file=prompt_tuning/configs/test/t5_1_1_tiny_prompt.gin",
    "--tfds_data_dir=tfds",
    "--gin.MIXTURE_OR_TASK_NAME='" TASK "'",
    "--gin.TASK_FEATURE_LENGTHS={'inputs': 48, 'targets': 8}",
    "--gin.PROMPT_LENGTH=5",
    "--gin.ACTIVATION_DTYPE='float32'",
    "--gin.relative_position_biases.RelativePositionBiases.num_buckets=4",
    "--gin.relative_position_biases.RelativePositionBiases.max_distance=8",
    "--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file='upstream/t5_vocab'",
    "--gin.seqio.SentencePieceVocabulary.extra_ids=100",
};
enum { COMMON = sizeof common / sizeof *common, MAX_WORDS = 64 };

static spt_status run(const char *command, const char *const *more, spt_err *err)
{
    char *words[MAX_WORDS];
    int n = 0, taken = 0;
    spt_job *job;
    for (size_t i = 0; i < COMMON; i++)
        words[n++] = (char *)(uintptr_t)common[i];
    for (; *more; more++)
        words[n++] = (char *)(uintptr_t)*more;
    EXPECT_OK(spt_job_new(command, &job, err), err);
    spt_status st = spt_job_args(job, n, words, &taken, err);
    EXPECT_TRUE(st || taken);
    if (!st)
        st = spt_job_run(job, NULL, err);
    spt_job_free(job);
    return st;
}

static const char *const train_flags[] = {
    "--gin_file=prompt_tuning/configs/runs/prompt_finetune.gin",
    "--gin.MODEL_DIR='model_dir'",
    "--gin.INITIAL_CHECKPOINT_PATH='" TINY "'",
    "--gin.BATCH_SIZE=8",
    "--gin.EVAL_PERIOD=5",
    "--gin.EVAL_STEPS=2",
    "--gin.RANDOM_SEED=42",
    "--gin.USE_CACHED_TASKS=False",
    "--gin.train/utils.DatasetConfig.seed=7",
    "--gin.utils.SaveCheckpointConfig.period=5",
    "--gin.utils.SaveCheckpointConfig.keep=None",
    "--gin.train.use_orbax=False",
    "--gin.DROPOUT_RATE=0.1",
    NULL, /* TRAIN_STEPS */
    NULL,
};

static spt_status train(const char *steps, spt_err *err)
{
    const char *flags[sizeof train_flags / sizeof *train_flags];
    memcpy(flags, train_flags, sizeof flags);
    flags[sizeof flags / sizeof *flags - 2] = steps;
    return run("train", flags, err);
}

/* --- comparing ------------------------------------------------------------------------------------ */

static char *read_text(const char *dir, const char *name, size_t *size)
{
    char path[8192], *text;
    spt_err err = {0};
    size_t n;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    EXPECT_OK(fs_read_all(path, 64 << 20, &text, &n, &err), &err);
    if (size)
        *size = n;
    return text;
}

static void same_file(const char *mine, const char *theirs)
{
    size_t a, b;
    char *x = read_text(".", mine, &a), *y = read_text(golden, theirs, &b);
    if (a != b || memcmp(x, y, a))
        fail_msg("%s differs from the recorded %s", mine, theirs);
    compared += a;
    mem_free(x);
    mem_free(y);
}

/* Event files: time, host and process are masked (rulings 25). */
static void mask(char *name)
{
    char *p = strstr(name, "events.out.tfevents.");
    if (p)
        snprintf(p, 7, "EVENTS");
    p = strstr(name, ".backup-");
    if (p) {
        const char *rest = strchr(p, '/');
        EXPECT_TRUE(rest != NULL);
        memmove(p + 7, rest, strlen(rest) + 1);
    }
}

struct paths {
    char name[1024][192];
    size_t n;
};

static void walk(const char *dir, const char *below, struct paths *out)
{
    char path[8192];
    spt_err err = {0};
    fs_names names;
    snprintf(path, sizeof path, "%s%s%s", dir, *below ? "/" : "", below);
    EXPECT_OK(fs_list(path, &names, &err), &err);
    for (size_t i = 0; i < names.count; i++) {
        char one[4096], full[8192];
        snprintf(one, sizeof one, "%s%s%s", below, *below ? "/" : "", names.name[i]);
        snprintf(full, sizeof full, "%s/%s", dir, one);
        if (fs_is_dir(full)) {
            walk(dir, one, out);
        } else {
            EXPECT_TRUE(out->n < 1024 && strlen(one) < 192);
            memcpy(out->name[out->n], one, strlen(one) + 1);
            mask(out->name[out->n++]);
        }
    }
    fs_names_free(&names);
}

static int by_text(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void same_files(const char *dir, const char *listing)
{
    static struct paths mine, theirs;
    mine.n = theirs.n = 0;
    walk(dir, "", &mine);
    char *text = read_text(golden, listing, NULL);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *name = strrchr(line, ' ') + 1;
        snprintf(theirs.name[theirs.n], sizeof theirs.name[0], "%s", name);
        mask(theirs.name[theirs.n++]);
    }
    qsort(mine.name, mine.n, sizeof mine.name[0], by_text);
    qsort(theirs.name, theirs.n, sizeof theirs.name[0], by_text);
    for (size_t i = 0; i < mine.n && i < theirs.n; i++)
        EXPECT_STR(mine.name[i], theirs.name[i]);
    EXPECT_EQ_I64(mine.n, theirs.n);
    mem_free(text);
}

static void read_prompt(const char *dir, const char *name, float *out, size_t n)
{
    char path[8192];
    spt_err err = {0};
    store *s;
    snprintf(path, sizeof path, "%s/%s", dir, name);
    EXPECT_OK(store_open(path, NULL, &s, &err), &err);
    EXPECT_EQ_I64(store_at(s, 0)->elements, n);
    EXPECT_OK(store_read_f32(s, 0, out, &err), &err);
    store_close(s);
}

static double cosine(const float *a, const float *b, size_t n)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < n; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

static void near_prompt(const char *mine, const char *theirs)
{
    float a[20], b[20];
    read_prompt(".", mine, a, 20);
    read_prompt(golden, theirs, b, 20);
    const double c = cosine(a, b, 20);
    if (!(c >= 0.9999))
        fail_msg("%s: cosine %.7f to the recorded prompt", mine, c);
}

/* --- event files ------------------------------------------------------------------------------------ */

static uint64_t varint(const unsigned char **p)
{
    uint64_t v = 0;
    for (int shift = 0;; shift += 7) {
        const unsigned char c = *(*p)++;
        v |= (uint64_t)(c & 127) << shift;
        if (!(c & 128))
            return v;
    }
}

/* Field of a message: bytes of length-delimited fields, or the number. */
static bool field(const unsigned char **p, const unsigned char *end, unsigned *number,
                  const unsigned char **bytes, uint64_t *value)
{
    if (*p >= end)
        return false;
    const uint64_t key = varint(p);
    *number = (unsigned)(key >> 3);
    *bytes = NULL;
    switch (key & 7) {
    case 0: *value = varint(p); return true;
    case 1: *p += 8; return true;
    case 5: *p += 4; return true;
    default:
        *value = varint(p);
        *bytes = *p;
        *p += *value;
        return true;
    }
}

struct scalar {
    char tag[128];
    int64_t step;
    float value;
    bool text;
};

static void read_value(const unsigned char *p, const unsigned char *end, struct scalar *s)
{
    unsigned number;
    const unsigned char *b, *t;
    uint64_t n, m;
    while (field(&p, end, &number, &b, &n)) {
        if (number == 1)
            snprintf(s->tag, sizeof s->tag, "%.*s", (int)n, (const char *)b);
        if (number != 8)
            continue;
        s->text = true;
        for (const unsigned char *q = b; field(&q, b + n, &number, &t, &m);)
            if (number == 4 && t && m == 4) {
                memcpy(&s->value, t, 4);
                s->text = false;
            }
    }
}

static size_t read_events(const char *dir, struct scalar *out, size_t cap)
{
    spt_err err = {0};
    fs_names names;
    size_t n = 0, size;
    EXPECT_OK(fs_list(dir, &names, &err), &err);
    EXPECT_EQ_I64(names.count, 1);
    char *text = read_text(dir, names.name[0], &size);
    const unsigned char *p = (const unsigned char *)text, *end = p + size;
    while (p < end) {
        uint64_t len, value;
        unsigned number;
        const unsigned char *bytes, *v;
        memcpy(&len, p, 8);
        const unsigned char *m = p + 12, *stop = m + len;
        struct scalar s = {0};
        bool has = false;
        while (field(&m, stop, &number, &bytes, &value)) {
            if (number == 2)
                s.step = (int64_t)value;
            for (const unsigned char *q = bytes; number == 5 && field(&q, bytes + value, &number, &v, &len);)
                if (number == 1) {
                    read_value(v, v + len, &s);
                    has = true;
                }
        }
        if (has) {
            EXPECT_TRUE(n < cap);
            out[n++] = s;
        }
        p = stop + 4;
    }
    mem_free(text);
    fs_names_free(&names);
    return n;
}

/* Every recorded tag at every step; what is not a duration within tol. */
static void same_scalars(const char *dir, const char *recorded, double tol)
{
    static struct scalar mine[512];
    const size_t n = read_events(dir, mine, 512);
    char key[512];
    size_t found = 0, wanted = 0;
    for (int i = 0;; i++) {
        const char *tag = golden_key(CASE, "scalars.json", recorded, i);
        if (!tag)
            break;
        char escaped[256], name[256];
        size_t o = 0;
        snprintf(name, sizeof name, "%s", tag);
        for (const char *q = name; *q && o < sizeof escaped - 1; q++)
            escaped[o++] = *q == '/' ? '\\' : *q;
        escaped[o] = '\0';
        for (char *q = name; *q; q++)
            *q = *q == '\\' ? '/' : *q;
        for (int k = 0;; k++) {
            snprintf(key, sizeof key, "%s/%s/%d/0", recorded, escaped, k);
            if (!golden_has(CASE, "scalars.json", key))
                break;
            const int64_t step = (int64_t)golden_number(CASE, "scalars.json", key);
            snprintf(key, sizeof key, "%s/%s/%d/1", recorded, escaped, k);
            const char *value = golden_value(CASE, "scalars.json", key);
            const struct scalar *s = NULL;
            for (size_t j = 0; j < n && !s; j++)
                if (!strcmp(mine[j].tag, name) && mine[j].step == step)
                    s = &mine[j];
            if (!s)
                fail_msg("%s: no \"%s\" at step %lld", dir, name, (long long)step);
            wanted++;
            found++;
            EXPECT_EQ_I64(s->text, !strcmp(value, "text"));
            if (!s->text && (strncmp(name, "timing/", 7) || !strcmp(name, "timing/seqs")))
                EXPECT_NEAR((double)s->value, strtod(value, NULL), tol);
        }
    }
    EXPECT_TRUE(wanted > 2);
    EXPECT_EQ_I64(n, found); /* and nothing else */
    print_message("%s: %zu scalars and texts\n", dir, found);
}

/* --- the tests ------------------------------------------------------------------------------------ */

/* Lines of the recorded text without the module that the recording itself had loaded. */
static void same_config(const char *mine, const char *theirs)
{
    char *a = read_text(".", mine, NULL), *b = read_text(golden, theirs, NULL);
    char *extra = strstr(b, "import sst_local\n");
    EXPECT_TRUE(extra != NULL);
    const char *rest = strchr(extra, '\n') + 1;
    memmove(extra, rest, strlen(rest) + 1);
    if (strcmp(a, b)) {
        size_t i = 0;
        while (a[i] == b[i])
            i++;
        while (i && a[i - 1] != '\n')
            i--;
        fail_msg("%s: \"%.*s\", recorded \"%.*s\"", mine, (int)strcspn(a + i, "\n"), a + i,
                 (int)strcspn(b + i, "\n"), b + i);
    }
    mem_free(a);
    mem_free(b);
}

static void trains_as_the_reference_did(void **state)
{
    (void)state;
    need();
    spt_err err = {0};
    float mine[20], theirs[20];
    EXPECT_OK(train("--gin.TRAIN_STEPS=13", &err), &err);
    same_files("model_dir", "listing.train.txt");
    same_config("model_dir/config.gin", "train_run/config.gin");
    same_file("model_dir/model-info.txt", "train_run/model-info.txt");
    read_prompt(".", "model_dir/numpy_checkpoints/checkpoint_3/" PROMPT_NAME, mine, 20);
    read_prompt(golden, "train_run/numpy_checkpoints/checkpoint_3/" PROMPT_NAME, theirs, 20);
    EXPECT_TRUE(!memcmp(mine, theirs, sizeof mine));
    near_prompt("model_dir/numpy_checkpoints/checkpoint_8/" PROMPT_NAME,
                "train_run/numpy_checkpoints/checkpoint_8/" PROMPT_NAME);
    near_prompt("model_dir/numpy_checkpoints/checkpoint_13/" PROMPT_NAME,
                "train_run/numpy_checkpoints/checkpoint_13/" PROMPT_NAME);
}

static void scalars_are_those_of_the_reference(void **state)
{
    (void)state;
    need();
    same_scalars("model_dir/train",
                 "train_run\\train\\events.out.tfevents.1795443347.host.11424.0.v2", 1e-4);
    same_scalars("model_dir/training_eval/" TASK,
                 "train_run\\training_eval\\" TASK
                 "\\events.out.tfevents.1795443347.host.11424.1.v2",
                 1e-4);
    same_scalars("model_dir/inference_eval/" TASK,
                 "train_run\\inference_eval\\" TASK
                 "\\events.out.tfevents.1795443357.host.11424.2.v2",
                 1e-9);
}

static void evaluation_files_are_those_of_the_reference(void **state)
{
    (void)state;
    need();
    same_file("model_dir/inference_eval/" TASK "-000008.jsonl",
              "train_run/inference_eval/" TASK "-000008.jsonl");
    same_file("model_dir/inference_eval/" TASK "-000013.jsonl",
              "train_run/inference_eval/" TASK "-000013.jsonl");
    /* Sampled texts are drawn; the rest of the lines is fixed. */
    char *a = read_text("model_dir/inference_eval", TASK "-metrics.jsonl", NULL);
    static const char *const begin[] = {"{\"step\": 8, \"accuracy\": 0.0, \"sst2 samples\": \"",
                                        "{\"step\": 13, \"accuracy\": 0.0, \"sst2 samples\": \""};
    const char *line = a;
    for (int i = 0; i < 2; i++) {
        EXPECT_TRUE(!strncmp(line, begin[i], strlen(begin[i])));
        EXPECT_TRUE(strstr(line, "\", \"sst2 negative samples\": \"example: sentence: ") != NULL);
        line = strchr(line, '\n') + 1;
    }
    EXPECT_STR(line, "");
    mem_free(a);
}

/* Leaf by leaf: the frozen ones to the bit. */
static void checkpoint_is_the_one_of_the_reference(void **state)
{
    (void)state;
    need();
    spt_err err = {0};
    t5x_reader *a, *b;
    char path[8192];
    size_t frozen = 0;
    snprintf(path, sizeof path, "%s/train_run/checkpoint_13", golden);
    EXPECT_OK(t5x_open("model_dir/checkpoint_13", &a, &err), &err);
    EXPECT_OK(t5x_open(path, &b, &err), &err);
    EXPECT_EQ_I64(t5x_step(a), 13);
    EXPECT_EQ_I64(t5x_count(a), t5x_count(b));
    for (size_t i = 0; i < t5x_count(b); i++) {
        const struct t5x_leaf *x = t5x_leaf_at(a, i), *y = t5x_leaf_at(b, i);
        struct t5x_value v, w;
        size_t n, bytes;
        EXPECT_STR(x->name, y->name);
        EXPECT_EQ_I64(x->kind, y->kind);
        if (y->kind == T5X_NIL)
            continue;
        EXPECT_EQ_I64(x->dtype, y->dtype);
        EXPECT_EQ_I64(x->in_zarr, y->in_zarr);
        EXPECT_TRUE(shape_equal(&x->shape, &y->shape));
        EXPECT_OK(tensor_size(y->dtype, &y->shape, &n, &bytes, &err), &err);
        EXPECT_OK(t5x_read(a, x, &v, &err), &err);
        EXPECT_OK(t5x_read(b, y, &w, &err), &err);
        if (!strstr(y->name, "prompt/prompt")) {
            EXPECT_TRUE(!memcmp(v.view.data, w.view.data, bytes));
            frozen++;
        } else if (y->dtype == DT_F32) {
            float *p = malloc(2 * n * sizeof *p);
            tensor_to_f32(&v.view, 0, n, p);
            tensor_to_f32(&w.view, 0, n, p + n);
            /* Ten steps amplify rounding: 1.5e-4 in the prompt, 2e-3 in squares of gradients. */
            const double tol = !strncmp(y->name, "target/", 7) ? 1e-3 : 1e-2;
            for (size_t k = 0; k < n; k++)
                EXPECT_NEAR(p[k], p[n + k], tol);
            free(p);
        }
        t5x_release(&v);
        t5x_release(&w);
    }
    print_message("%zu leaves, %zu frozen ones bit for bit\n", t5x_count(b), frozen);
    t5x_close(a);
    t5x_close(b);
}

static void evaluates_as_the_reference_did(void **state)
{
    (void)state;
    need();
    spt_err err = {0};
    /* The recorded prompt at the place that the recorded command names. */
    char *text, path[8192];
    size_t size;
    snprintf(path, sizeof path, "train_run/numpy_checkpoints/checkpoint_13/" PROMPT_NAME);
    text = read_text(golden, path, &size);
    EXPECT_OK(fs_make_dirs("recorded", &err), &err);
    test_write("recorded/prompt", text, size);
    mem_free(text);
    static const char *const flags[] = {
        "--gin_file=prompt_tuning/configs/runs/prompt_eval.gin",
        "--gin.EVAL_OUTPUT_DIR='eval_dir'",
        "--gin.PROMPT_FILE='recorded/prompt'",
        "--gin.CHECKPOINT_PATH='" TINY "'",
        "--gin.utils.DatasetConfig.batch_size=6",
        "--gin.utils.DatasetConfig.split='validation'",
        "--gin.utils.RestoreCheckpointConfig.dtype='float32'",
        "--gin.evaluate.use_orbax=False",
        NULL,
    };
    EXPECT_OK(run("eval", flags, &err), &err);
    same_files("eval_dir", "listing.eval.txt");
    same_file("eval_dir/inference_eval/" TASK "-000003.jsonl",
              "eval_run/inference_eval/" TASK "-000003.jsonl");
    same_file("eval_dir/model-info.txt", "eval_run/model-info.txt");
    same_file("eval_dir/eval." TASK ".ckpt", "eval_run/eval." TASK ".ckpt");
    same_scalars("eval_dir/inference_eval/" TASK,
                 "eval_run\\inference_eval\\" TASK
                 "\\events.out.tfevents.1795443396.host.11679.0.v2",
                 1e-9);
}

/* Lines equal up to the number behind `key`, which is near. */
static void near_lines(const char *name, const char *key)
{
    char *a = read_text("infer_dir", name, NULL), *b;
    char path[512];
    size_t lines = 0;
    snprintf(path, sizeof path, "infer_run/%s", name);
    b = read_text(golden, path, NULL);
    for (char *x = a, *y = b; *x || *y; lines++) {
        const size_t n = strcspn(x, "\n"), m = strcspn(y, "\n");
        x[n] = y[m] = '\0';
        char *p = key ? strstr(x, key) : NULL, *q = key ? strstr(y, key) : NULL;
        if (key) {
            EXPECT_TRUE(p && q);
            EXPECT_NEAR(strtod(p + strlen(key), NULL), strtod(q + strlen(key), NULL), 1e-5);
            *p = *q = '\0';
        }
        EXPECT_STR(x, y);
        x += n + 1;
        y += m + 1;
    }
    EXPECT_EQ_I64(lines, 16);
    mem_free(a);
    mem_free(b);
}

static void infers_as_the_reference_did(void **state)
{
    (void)state;
    need();
    static const char *const modes[] = {"predict", "score", "predict_with_aux"};
    for (int i = 0; i < 3; i++) {
        char mode[64];
        spt_err err = {0};
        snprintf(mode, sizeof mode, "--gin.infer.mode='%s'", modes[i]);
        const char *const flags[] = {
            "--gin_file=prompt_tuning/configs/models/decoding/beam_search.gin",
            "--gin_file=prompt_tuning/configs/runs/prompt_infer.gin",
            "--gin.INFER_OUTPUT_DIR='infer_dir'",
            "--gin.PROMPT_FILE='recorded/prompt'",
            "--gin.CHECKPOINT_PATH='" TINY "'",
            "--gin.utils.DatasetConfig.batch_size=6",
            "--gin.utils.DatasetConfig.split='validation'",
            "--gin.utils.RestoreCheckpointConfig.dtype='float32'",
            "--gin.infer.checkpoint_period=2",
            "--gin.infer.use_orbax=False",
            mode,
            NULL,
        };
        EXPECT_OK(run("infer", flags, &err), &err);
    }
    same_files("infer_dir", "listing.infer.txt");
    same_file("infer_dir/model-info.txt", "infer_run/model-info.txt");
    near_lines(TASK "-predict.jsonl-00000-of-00001", NULL);
    near_lines(TASK "-predict_with_aux.jsonl-00000-of-00001", "\"scores\": ");
    near_lines(TASK "-score.jsonl-00000-of-00001", "\"score\": ");
}

/* The finished directory with more steps: a checkpoint of step 13 is written once more beside a
 * backup, and step 16 follows. */
static void continues_as_the_reference_did(void **state)
{
    (void)state;
    need();
    spt_err err = {0};
    EXPECT_OK(train("--gin.TRAIN_STEPS=13", &err), &err); /* finished: no error, nothing done */
    same_files("model_dir", "listing.train.txt");
    EXPECT_OK(train("--gin.TRAIN_STEPS=16", &err), &err);
    same_files("model_dir", "listing.resume.txt");
    near_prompt("model_dir/numpy_checkpoints/checkpoint_16/" PROMPT_NAME,
                "resume_numpy_checkpoint_16/" PROMPT_NAME);
}

/* save_dataset: two runs of 5 steps are one of 10, to the bit, although only one checkpoint is kept
 * and the frozen weights are read from it. */
static void continues_to_the_same_bits(void **state)
{
    (void)state;
    need();
    static const char *const steps[] = {"--gin.TRAIN_STEPS=13", "--gin.TRAIN_STEPS=8",
                                        "--gin.TRAIN_STEPS=13"};
    static const char *const dirs[] = {"'whole'", "'parts'", "'parts'"};
    spt_err err = {0};
    size_t a, b;
    for (int i = 0; i < 3; i++) {
        const char *flags[sizeof train_flags / sizeof *train_flags + 3];
        char dir[64];
        const size_t n = sizeof train_flags / sizeof *train_flags - 2;
        memcpy(flags, train_flags, n * sizeof *flags);
        snprintf(dir, sizeof dir, "--gin.MODEL_DIR=%s", dirs[i]);
        flags[n] = dir;
        flags[n + 1] = steps[i];
        flags[n + 2] = "--gin.utils.SaveCheckpointConfig.save_dataset=True";
        flags[n + 3] = "--gin.utils.SaveCheckpointConfig.keep=1";
        flags[n + 4] = NULL;
        EXPECT_OK(run("train", flags, &err), &err);
    }
    char *x = read_text("whole/numpy_checkpoints/checkpoint_13", PROMPT_NAME, &a);
    char *y = read_text("parts/numpy_checkpoints/checkpoint_13", PROMPT_NAME, &b);
    EXPECT_TRUE(a == b && !memcmp(x, y, a));
    EXPECT_TRUE(!fs_exists("parts/checkpoint_8") && fs_exists("parts/checkpoint_13"));
    mem_free(x);
    mem_free(y);
}

/* --- in buckets ------------------------------------------------------------------------------------- */

static void copy_names(const char *dir, struct paths *out)
{
    out->n = 0;
    walk(dir, "", out);
    qsort(out->name, out->n, sizeof out->name[0], by_text);
}

/* The same training with MODEL_DIR, TFDS_DATA_DIR, checkpoint and vocabulary in buckets: the same files,
 * the same bytes, but for times (event files, config.gin's paths). */
static void trains_in_buckets_to_the_same_bytes(void **state)
{
    (void)state;
    need();
    static struct paths local, bucket;
    struct test_server server;
    spt_err err = {0};
    char here[4096], tfds[5000], up[5000], dump[5000];
    EXPECT_TRUE(getcwd(here, sizeof here) != NULL);
    snprintf(tfds, sizeof tfds, "tfds=%s/tfds", here);
    snprintf(up, sizeof up, "upstream=%s/upstream", here);
    EXPECT_TRUE(!chdir(start));
    test_server_start(&server, (const char *[]){"--bucket", tfds, "--bucket", up, "--empty-bucket",
                                                "runs", NULL});
    EXPECT_TRUE(!chdir(here));
    setenv("STORAGE_EMULATOR_HOST", server.host, 1);
    setenv("SPT_CACHE_DIR", "cache", 1);
    const char *flags[sizeof train_flags / sizeof *train_flags + 8];
    size_t n = 0;
    for (; train_flags[n]; n++)
        flags[n] = train_flags[n];
    flags[n++] = "--gin.TRAIN_STEPS=13";
    flags[n++] = "--tfds_data_dir=gs://tfds";
    flags[n++] = "--gin.MODEL_DIR='gs://runs/a/model_dir'";
    flags[n++] = "--gin.INITIAL_CHECKPOINT_PATH='gs://upstream/test_t5_1_1_tiny/checkpoint_3'";
    flags[n++] = "--gin.seqio.SentencePieceVocabulary.sentencepiece_model_file='gs://upstream/t5_vocab'";
    flags[n] = NULL;
    test_server_control(&server, "faults",
                        "[{\"do\": \"status\", \"status\": 503, \"skip\": 30, \"count\": 2},"
                        " {\"method\": \"POST\", \"do\": \"lost\", \"skip\": 10}]");
    EXPECT_OK(run("train", flags, &err), &err);
    snprintf(dump, sizeof dump, "dump?bucket=runs&dir=%s/dump", here);
    test_server_control(&server, dump, NULL);
    copy_names("model_dir", &local);
    copy_names("dump/a/model_dir", &bucket);
    for (size_t i = 0; i < local.n && i < bucket.n; i++)
        EXPECT_STR(bucket.name[i], local.name[i]);
    EXPECT_EQ_I64(bucket.n, local.n);
    size_t same = 0;
    for (size_t i = 0; i < local.n; i++) {
        size_t a, b;
        if (strstr(local.name[i], "EVENTS") || strstr(local.name[i], "config.gin"))
            continue;
        char *x = read_text("model_dir", local.name[i], &a);
        char *y = read_text("dump/a/model_dir", local.name[i], &b);
        if (a != b || memcmp(x, y, a))
            fail_msg("%s differs between disk and bucket", local.name[i]);
        same++;
        mem_free(x);
        mem_free(y);
    }
    EXPECT_TRUE(same > 20);
    fs_release();
    unsetenv("STORAGE_EMULATOR_HOST");
    test_server_stop(&server);
}

int main(void)
{
    ready = prepare();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(trains_as_the_reference_did),
        cmocka_unit_test(scalars_are_those_of_the_reference),
        cmocka_unit_test(evaluation_files_are_those_of_the_reference),
        cmocka_unit_test(checkpoint_is_the_one_of_the_reference),
        cmocka_unit_test(evaluates_as_the_reference_did),
        cmocka_unit_test(infers_as_the_reference_did),
        cmocka_unit_test(trains_in_buckets_to_the_same_bytes),
        cmocka_unit_test(continues_as_the_reference_did),
        cmocka_unit_test(continues_to_the_same_bits),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
