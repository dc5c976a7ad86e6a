/* task/: prepared data sets written and read back, raw archives, tasks and mixtures as streams. */
#include "support/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "task/cache.h"
#include "task/pipeline.h"
#include "task/tf_example.h"
#include "task/tf_order.h"
#include "task/tfds.h"
#include "task/tfds_write.h"

static task_registry *registry;
static vocab *bytes;

static int open_all(void **state)
{
    spt_err err;
    struct vocab_opts o;
    vocab_opts_init(&o);
    o.rule = VOCAB_BYTES;
    return task_registry_new(&registry, &err) || vocab_open("bytes", &o, &bytes, &err);
}

static int close_all(void **state)
{
    vocab_close(bytes);
    task_registry_free(registry);
    return 0;
}

/* n rows of SST-2 in a split; sentences "s0 ", "s1 ", ... */
static void add_rows(tfds_writer *w, const char *split, size_t n, size_t first)
{
    record r = {0};
    spt_err err;
    for (size_t i = 0; i < n; i++) {
        char sentence[32], key[32];
        snprintf(sentence, sizeof sentence, "s%zu ", first + i);
        snprintf(key, sizeof key, "%zu", i);
        record_clear(&r);
        EXPECT_OK(record_set_str(&r, "sentence", sentence, &err), &err);
        EXPECT_OK(record_set_int(&r, "label", (int64_t)(i % 2), &err), &err);
        EXPECT_OK(record_set_int(&r, "idx", (int64_t)i, &err), &err);
        EXPECT_OK(tfds_writer_add(w, split, &r, key, &err), &err);
    }
    record_release(&r);
}

static void write_sst2(const char *dir, size_t train, size_t shards)
{
    tfds_writer *w;
    spt_err err;
    EXPECT_OK(tfds_writer_new(dir, "glue/sst2:2.0.0", &w, &err), &err);
    add_rows(w, "train", train, 0);
    add_rows(w, "validation", 10, 1000);
    EXPECT_OK(tfds_writer_commit(w, shards, &err), &err);
}

/* Rows in the order of TFDS (R182: keys 6 5 4 0 8 3 1 9 7 2 of a split "train" of ten). */
static void written_data_sets_read_back(void **state)
{
    static const int64_t order[] = {6, 5, 4, 0, 8, 3, 1, 9, 7, 2};
    const char *dir = test_path(test_tmpdir(), "order");
    tfds *d;
    tfds_reader *r;
    record rec = {0};
    spt_err err;
    bool more;
    uint64_t n;
    write_sst2(dir, 10, 1);
    EXPECT_OK(tfds_open(dir, "glue/sst2:2.0.0", &d, &err), &err);
    EXPECT_EQ_I64(tfds_splits(d), 2);
    EXPECT_OK(tfds_examples(d, "train[:-3]", &n, &err), &err);
    EXPECT_EQ_I64(n, 7);
    EXPECT_OK(tfds_read(d, "train[2:]", &r, &err), &err);
    for (size_t i = 2; i < 10; i++) {
        int64_t idx, label;
        EXPECT_OK(tfds_next(r, &rec, &more, &err), &err);
        EXPECT_TRUE(more);
        EXPECT_OK(record_int(&rec, "idx", &idx, &err), &err);
        EXPECT_OK(record_int(&rec, "label", &label, &err), &err);
        EXPECT_EQ_I64(idx, order[i]);
        EXPECT_EQ_I64(label, idx % 2);
    }
    EXPECT_OK(tfds_next(r, &rec, &more, &err), &err);
    EXPECT_TRUE(!more);
    tfds_reader_close(r);
    EXPECT_STATUS(tfds_read(d, "dev", &r, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "it has train, validation");
    EXPECT_STATUS(tfds_read(d, "train[:11]", &r, &err), SPT_E_CONFIG);
    EXPECT_STATUS(tfds_read(d, "train[x:]", &r, &err), SPT_E_CONFIG);
    EXPECT_OK(tfds_examples(d, "train[10%:50%]", &n, &err), &err);
    EXPECT_EQ_I64(n, 4);
    record_release(&rec);
    tfds_close(d);
    EXPECT_STATUS(tfds_open(dir, "glue/cola:2.0.0", &d, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "glue/cola/2.0.0/dataset_info.json");
    EXPECT_STATUS(tfds_open(dir, "glue/sst2", &d, &err), SPT_E_CONFIG);
    EXPECT_STATUS(tfds_open(dir, "../glue/sst2:2.0.0", &d, &err), SPT_E_CONFIG);
}

/* Blocks of 16 records of up to 16 files in turn. */
static void shards_interleave(void **state)
{
    const char *dir = test_path(test_tmpdir(), "shards");
    record rec = {0};
    tfds *d;
    tfds_reader *r;
    spt_err err;
    tfds_writer *w;
    bool more, seen[100] = {false};
    EXPECT_OK(tfds_writer_new(dir, "plain:1.0.0", &w, &err), &err);
    for (int64_t i = 0; i < 100; i++) {
        record_clear(&rec);
        EXPECT_OK(record_set_int(&rec, "n", i, &err), &err);
        EXPECT_OK(tfds_writer_add(w, "train", &rec, NULL, &err), &err);
    }
    EXPECT_OK(tfds_writer_commit(w, 3, &err), &err);
    EXPECT_OK(tfds_open(dir, "plain:1.0.0", &d, &err), &err);
    EXPECT_OK(tfds_read(d, "train", &r, &err), &err);
    static const int64_t starts[] = {0, 33, 67, 16, 49, 83, 32, 65, 99}; /* 33 + 34 + 33 */
    for (size_t i = 0; i < 100; i++) {
        int64_t n;
        EXPECT_OK(tfds_next(r, &rec, &more, &err), &err);
        EXPECT_TRUE(more);
        EXPECT_OK(record_int(&rec, "n", &n, &err), &err);
        EXPECT_TRUE(n >= 0 && n < 100 && !seen[n]);
        seen[n] = true;
        if (i % 16 == 0 && i < 96)
            EXPECT_EQ_I64(n, starts[i / 16]);
    }
    EXPECT_OK(tfds_next(r, &rec, &more, &err), &err);
    EXPECT_TRUE(!more);
    tfds_reader_close(r);
    tfds_close(d);
    record_release(&rec);
}

static void damage_is_named(void **state)
{
    const char *dir = test_path(test_tmpdir(), "damage");
    const char *shard = test_path(dir, "glue/sst2/2.0.0/glue-train.tfrecord-00000-of-00001");
    const char *info = test_path(dir, "glue/sst2/2.0.0/dataset_info.json");
    char *data;
    size_t size;
    spt_err err;
    tfds *d;
    tfds_reader *r;
    record rec = {0};
    bool more = true;
    write_sst2(dir, 5, 1);
    EXPECT_OK(fs_read_all(shard, 1 << 20, &data, &size, &err), &err);
    EXPECT_OK(tfds_open(dir, "glue/sst2:2.0.0", &d, &err), &err);
    for (size_t cut = 0; cut < size; cut++) {
        test_write(shard, data, cut);
        spt_status st = tfds_read(d, "train", &r, &err);
        while (!st && more)
            st = tfds_next(r, &rec, &more, &err);
        EXPECT_STATUS(st, SPT_E_FORMAT);
        EXPECT_MSG(&err, "glue-train.tfrecord-00000-of-00001");
        more = true;
        tfds_reader_close(r);
    }
    data[14] ^= 1;
    test_write(shard, data, size);
    EXPECT_OK(tfds_read(d, "train", &r, &err), &err);
    EXPECT_STATUS(tfds_next(r, &rec, &more, &err), SPT_E_FORMAT);
    tfds_reader_close(r);
    tfds_close(d);
    mem_free(data);
    EXPECT_OK(fs_read_all(info, 1 << 20, &data, &size, &err), &err);
    for (size_t cut = 0; cut + 1 < size; cut++) {
        test_write(info, data, cut);
        EXPECT_STATUS(tfds_open(dir, "glue/sst2:2.0.0", &d, &err), SPT_E_FORMAT);
        EXPECT_MSG(&err, "dataset_info.json");
    }
    mem_free(data);
    record_release(&rec);
}

/* --- streams ---------------------------------------------------------------------------------- */

static struct pipeline_options options(const char *name, const char *split, const char *dir)
{
    return (struct pipeline_options){
        .name = name, .split = split, .tfds_dir = dir, .vocabulary = bytes, .epochs = 1};
}

static void expect_text(const struct task_example *e, const char *field, const char *want)
{
    struct field_text t;
    spt_err err;
    EXPECT_OK(record_text(e->fields, field, &t, &err), &err);
    EXPECT_STR(t.s, want);
}

static void tasks_stream(void **state)
{
    const char *dir = test_path(test_tmpdir(), "stream");
    struct pipeline_options o = options("task_index_glue_sst2_v200_examples", "validation", dir);
    struct task_example e;
    pipeline *p;
    spt_err err;
    bool more;
    write_sst2(dir, 20, 1);
    o.max_input = 6;
    EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
    EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
    EXPECT_TRUE(more); /* key 3 comes first in a validation split (R183) */
    expect_text(&e, "inputs_pretokenized", "sentence: s1003 ");
    expect_text(&e, "targets_pretokenized", "positive");
    EXPECT_EQ_I64(e.input_len, 6);
    EXPECT_EQ_I64(e.input[0], 258 - 6); /* the task's sentinel */
    EXPECT_EQ_I64(e.input[1], 's' + 3);
    EXPECT_EQ_I64(e.input[5], 1);
    EXPECT_EQ_I64(e.target_len, 9);
    EXPECT_OK(pipeline_skip(p, 9, &err), &err);
    EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
    EXPECT_TRUE(!more);
    EXPECT_STATUS(pipeline_skip(p, 1, &err), SPT_E_FORMAT);
    pipeline_close(p);
    o.name = "glue_sst2_v300";
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "did you mean glue_sst2_v002");
    o = options("glue_cola_v002", "train", dir);
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "glue/cola/1.0.0");
}

/* Hash of the next n examples. */
static uint64_t run(pipeline *p, size_t n)
{
    uint64_t h = 1469598103934665603u;
    struct task_example e;
    bool more;
    spt_err err;
    for (size_t i = 0; i < n; i++) {
        EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
        EXPECT_TRUE(more);
        for (size_t k = 0; k < e.input_len; k++)
            h = (h ^ (uint64_t)e.input[k]) * 1099511628211u;
    }
    return h;
}

static void shuffled_runs_repeat_and_resume(void **state)
{
    const char *dir = test_path(test_tmpdir(), "shuffle");
    struct pipeline_options o = options("taskless_glue_sst2_v200", "train", dir);
    pipeline *a, *b;
    spt_err err;
    write_sst2(dir, 50, 2);
    o.shuffle = true;
    o.epochs = 0;
    o.seed = 3;
    EXPECT_OK(pipeline_open(registry, &o, &a, &err), &err);
    EXPECT_OK(pipeline_open(registry, &o, &b, &err), &err);
    const uint64_t first = run(a, 70), rest = run(a, 200);
    EXPECT_TRUE(run(b, 70) == first && run(b, 200) == rest);
    pipeline_close(b);
    EXPECT_OK(pipeline_open(registry, &o, &b, &err), &err);
    EXPECT_OK(pipeline_skip(b, 70, &err), &err);
    EXPECT_TRUE(run(b, 200) == rest);
    pipeline_close(b);
    o.seed = 4;
    EXPECT_OK(pipeline_open(registry, &o, &b, &err), &err);
    EXPECT_TRUE(run(b, 70) != first);
    pipeline_close(a);
    pipeline_close(b);
    /* Parts of two readers are everything, once. */
    o.shuffle = false;
    o.epochs = 1;
    o.shards = 2;
    size_t total = 0;
    for (o.shard = 0; o.shard < 2; o.shard++) {
        struct task_example e;
        bool more = true;
        EXPECT_OK(pipeline_open(registry, &o, &a, &err), &err);
        for (; more; total += more)
            EXPECT_OK(pipeline_next(a, &e, &more, &err), &err);
        pipeline_close(a);
    }
    EXPECT_EQ_I64(total, 50);
    o.shard = 2;
    EXPECT_STATUS(pipeline_open(registry, &o, &a, &err), SPT_E_CONFIG);
}

/* The mixture {qqp for training, mrpc for evaluation}: members without the split are left out. */
static void mixtures_take_the_members_with_the_split(void **state)
{
    const char *dir = test_path(test_tmpdir(), "mixture");
    struct pipeline_options o = options("glue_mrpc_from_qqp_zeroshot_v002", "train", dir);
    struct task_example e;
    pipeline *p;
    spt_err err;
    bool more;
    record r = {0};
    static const char *const names[2][3] = {{"glue/qqp:1.0.0", "question1", "question2"},
                                            {"glue/mrpc:1.0.0", "sentence1", "sentence2"}};
    for (size_t k = 0; k < 2; k++) {
        tfds_writer *w;
        EXPECT_OK(tfds_writer_new(dir, names[k][0], &w, &err), &err);
        for (int64_t i = 0; i < 6; i++) {
            record_clear(&r);
            EXPECT_OK(record_set_str(&r, names[k][1], "a", &err), &err);
            EXPECT_OK(record_set_str(&r, names[k][2], "b", &err), &err);
            EXPECT_OK(record_set_int(&r, "label", i % 2, &err), &err);
            EXPECT_OK(tfds_writer_add(w, i < 3 ? "train" : "validation", &r, NULL, &err), &err);
        }
        EXPECT_OK(tfds_writer_commit(w, 1, &err), &err);
    }
    EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
    size_t n = 0;
    for (more = true; more; n += more) {
        EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
        if (more)
            EXPECT_STR(e.task->name, "glue_qqp_v002");
    }
    EXPECT_EQ_I64(n, 3);
    pipeline_close(p);
    o.split = "validation";
    o.epochs = 0;
    EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
    size_t mrpc = 0;
    for (size_t i = 0; i < 400; i++) {
        EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
        mrpc += strcmp(e.task->name, "glue_mrpc_from_qqp_v002") == 0;
    }
    EXPECT_TRUE(mrpc > 150 && mrpc < 250); /* rates 1 : 1 */
    pipeline_close(p);
    o.split = "test";
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_CONFIG);
    record_release(&r);
}

static void members_have_rates(void **state)
{
    struct task_rate *t;
    size_t n;
    spt_err err;
    EXPECT_OK(
        task_members(registry, "task_index_super_glue_v102_examples_proportional", &t, &n, &err),
        &err);
    EXPECT_EQ_I64(n, 9);
    EXPECT_STR(t[0].task->name, "task_index_super_glue_boolq_v102_examples");
    EXPECT_EQ_F64(t[0].rate, 9427);
    mem_free(t);
    EXPECT_OK(task_members(registry, "glue_sst2_v002", &t, &n, &err), &err);
    EXPECT_EQ_I64(n, 1);
    mem_free(t);
    /* Every member of every mixture exists. */
    for (size_t i = 0; i < mixture_count(registry); i++) {
        EXPECT_OK(task_members(registry, mixture_at(registry, i)->name, &t, &n, &err), &err);
        mem_free(t);
    }
}

/* --- C4 objectives -------------------------------------------------------------------------- */

static void write_texts(const char *dir, size_t n)
{
    tfds_writer *w;
    record r = {0};
    spt_err err;
    EXPECT_OK(tfds_writer_new(dir, "c4/en:2.2.0", &w, &err), &err);
    for (size_t i = 0; i < n; i++) {
        char text[200] = "";
        for (size_t k = 0; k < 190 + i; k++)
            text[k] = (char)('a' + k % 26);
        record_clear(&r);
        EXPECT_OK(record_set_str(&r, "text", text, &err), &err);
        EXPECT_OK(tfds_writer_add(w, "train", &r, NULL, &err), &err);
    }
    EXPECT_OK(tfds_writer_commit(w, 1, &err), &err);
    record_release(&r);
}

static size_t count_at_least(const int32_t *id, size_t n, int32_t limit)
{
    size_t k = 0;
    for (size_t i = 0; i < n; i++)
        k += id[i] >= limit;
    return k;
}

/* Properties that every objective must have, whatever the random numbers. */
static void objectives_keep_their_promises(void **state)
{
    const char *dir = test_path(test_tmpdir(), "c4");
    static const char *const names[] = {"c4_v220_prefix_lm", "c4_v220_bart_token_deletion",
                                        "c4_v220_bart_text_infilling", "c4_v220_span_corruption",
                                        "c4_v220_random_positive_negative_targets"};
    spt_err err;
    write_texts(dir, 5);
    for (size_t k = 0; k < 5; k++) {
        struct pipeline_options o = options(names[k], "train", dir);
        struct task_example e;
        pipeline *p;
        bool more = true;
        size_t n = 0;
        EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_USAGE);
        o.max_input = o.max_target = 64;
        EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
        for (;; n++) {
            EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
            if (!more)
                break;
            EXPECT_TRUE(e.input_len >= 1 && e.input_len <= 64 && e.input[e.input_len - 1] == 1);
            EXPECT_TRUE(e.target_len >= 1 && e.target_len <= 64);
            EXPECT_EQ_I64(e.target[e.target_len - 1], 1);
            /* bytes vocabulary: sentinels are 258, 257, ... which no ASCII text uses */
            const size_t in = count_at_least(e.input, e.input_len, 200);
            const size_t out = count_at_least(e.target, e.target_len, 200);
            EXPECT_TRUE(k != 2 && k != 3 ? in == 0 : in >= 1 || e.input_len < 4);
            EXPECT_TRUE(k == 3 ? out >= in : out == 0); /* targets start with what is kept */
            if (k == 0)
                EXPECT_TRUE(e.input_len + e.target_len <= 65);
            if (k == 4)
                EXPECT_EQ_I64(e.target_len, 9);
        }
        EXPECT_TRUE(n >= 13);
        pipeline_close(p);
    }
}

/* --- offline cache --------------------------------------------------------------------------- */

/* A cache gives the examples of the data set, with their fields, in some order. */
static void caches_hold_the_same_examples(void **state)
{
    const char *dir = test_path(test_tmpdir(), "cached"), *root = test_path(test_tmpdir(), "root");
    static const char *const splits[] = {"train", "validation"};
    const char *const roots[] = {test_path(test_tmpdir(), "none"), root};
    struct pipeline_options o = options("task_index_glue_sst2_v200_examples", "train", dir);
    const struct task *t = task_find(registry, o.name);
    struct task_example e;
    pipeline *p;
    spt_err err;
    bool more;
    uint64_t examples, sum[2] = {0, 0};
    write_sst2(dir, 37, 1);
    o.use_cached = true;
    o.cache_dir = roots;
    o.cache_dirs = 2;
    o.max_input = 12;
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "no offline cache in 2 cache directories");
    EXPECT_OK(cache_write(t, &o, splits, 2, root, 4, &examples, &err), &err);
    EXPECT_EQ_I64(examples, 47);
    EXPECT_STATUS(cache_write(t, &o, splits, 2, root, 4, &examples, &err), SPT_E_CONFIG);
    for (int cached = 0; cached < 2; cached++) {
        size_t n = 0;
        o.use_cached = cached;
        EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
        for (;; n++) {
            EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
            if (!more)
                break;
            int64_t idx;
            struct field_text text;
            uint64_t h = 1469598103934665603u; /* of one example; sums do not depend on order */
            EXPECT_OK(record_int(e.fields, "idx", &idx, &err), &err);
            EXPECT_OK(record_text(e.fields, "inputs_pretokenized", &text, &err), &err);
            h = (h ^ (uint64_t)idx) * 1099511628211u + text.len;
            for (size_t i = 0; i < e.input_len; i++)
                h = (h ^ (uint64_t)e.input[i]) * 1099511628211u;
            for (size_t i = 0; i < e.target_len; i++)
                h = (h ^ (uint64_t)e.target[i]) * 1099511628211u;
            sum[cached] += h;
        }
        EXPECT_EQ_I64(n, 37);
        pipeline_close(p);
    }
    EXPECT_TRUE(sum[0] == sum[1]);
    o.split = "test";
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, "no split 'test'");
    EXPECT_STATUS(cache_write(task_find(registry, "pr:glue_sst2_v200_train"), &o, splits, 1, root,
                              4, &examples, &err),
                  SPT_E_CONFIG);
}

/* --- raw archives
 * --------------------------------------------------------------------------------- */

/* Reads all that the options ask for. */
static spt_status stream_all(const struct pipeline_options *o, spt_err *err)
{
    task_registry *r = NULL;
    pipeline *p = NULL;
    struct task_example e;
    bool more = true;
    spt_status st = task_registry_new(&r, err);
    if (!st)
        st = pipeline_open(r, o, &p, err);
    while (!st && more)
        st = pipeline_next(p, &e, &more, err);
    pipeline_close(p);
    task_registry_free(r);
    return st;
}

static spt_status raw_run(void *ctx, spt_err *err)
{
    struct pipeline_options o = options("glue_sst2_v002", "train", NULL);
    o.raw_dir = ctx;
    return stream_all(&o, err);
}

static void raw_archives_have_the_order_of_tfds(void **state)
{
    const char *dir = test_path(test_tmpdir(), "raw");
    struct pipeline_options o = options("glue_sst2_v002", "train", NULL);
    buf b;
    spt_err err;
    pipeline *p;
    struct task_example e;
    bool more;
    uint64_t n;
    buf_init(&b, 1 << 20);
    EXPECT_OK(fs_make_dirs(test_path(dir, "SST-2"), &err), &err);
    buf_adds(&b, "sentence\tlabel\n");
    for (int i = 0; i < 10; i++)
        buf_addf(&b, "s%d \t%d\n", i, i % 2);
    test_write(test_path(dir, "SST-2/train.tsv"), buf_str(&b), b.len);
    buf_release(&b);
    o.raw_dir = dir;
    EXPECT_OK(pipeline_count(task_find(registry, o.name), &o, &n, &err), &err);
    EXPECT_EQ_I64(n, 10);
    EXPECT_OK(pipeline_open(registry, &o, &p, &err), &err);
    EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
    expect_text(&e, "inputs_pretokenized", "sst2 sentence: s6 ");
    pipeline_close(p);
    EXPECT_TRUE(fault_every_alloc(raw_run, (void *)(uintptr_t)dir) > 20);
    o.name = "pr:glue_sst2_v200_train"; /* its own slices */
    o.split = "validation";
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_CONFIG); /* 1,000 of 10 */
    o.split = "test";
    EXPECT_STATUS(pipeline_open(registry, &o, &p, &err), SPT_E_CONFIG);
}

/* --- faults
 * ------------------------------------------------------------------------------------------ */

static spt_status stream_validation(const char *name, const char *dir, spt_err *err)
{
    const struct pipeline_options o = options(name, "validation", dir);
    return stream_all(&o, err);
}

static spt_status fault_run(void *ctx, spt_err *err)
{
    return stream_validation("taskless_glue_sst2_v200_examples", ctx, err);
}

/* An index in front of 16 ids: the array was full. */
static spt_status with_index(void *ctx, spt_err *err)
{
    return stream_validation("task_index_glue_sst2_v200_examples", ctx, err);
}

static spt_status corrupted_spans(void *ctx, spt_err *err)
{
    struct pipeline_options o = options("c4_v220_span_corruption", "train", ctx);
    struct task_example e;
    pipeline *p = NULL;
    bool more;
    o.max_input = o.max_target = 64;
    spt_status st = pipeline_open(registry, &o, &p, err);
    if (!st)
        st = pipeline_next(p, &e, &more, err);
    pipeline_close(p);
    return st;
}

static spt_status shards_alone(void *ctx, spt_err *err)
{
    tfds *d;
    tfds_reader *r = NULL;
    TRY(tfds_open_shards(ctx, "validation", 1, &d, err));
    const spt_status st = tfds_read(d, "validation", &r, err);
    tfds_reader_close(r);
    tfds_close(d);
    return st;
}

static spt_status visit(void *ctx, size_t file, uint64_t at, spt_err *err)
{
    (void)file, (void)at, (void)err;
    ++*(size_t *)ctx;
    return SPT_OK;
}

static spt_status interleaved(void *ctx, spt_err *err)
{
    const uint64_t count[] = {2, 0, 3};
    size_t n = 0;
    (void)ctx;
    TRY(tf_interleave(count, 3, 2, 1, visit, &n, err));
    return n == 5 ? SPT_OK : err_set(err, SPT_E_INTERNAL, "%zu of 5", n);
}

static spt_status fault_write(void *ctx, spt_err *err)
{
    static const char *const key[] = {"2", "0", "1"};
    char there[600];
    tfds_writer *w = NULL;
    record r = {0};
    snprintf(there, sizeof there, "%s/glue/x/1.0.0", (char *)ctx);
    TRY(fs_remove_tree(there, err));
    spt_status st = tfds_writer_new(ctx, "glue/x:1.0.0", &w, err);
    if (!st)
        tfds_writer_budget(w, 20); /* every record a run of its own */
    for (int64_t i = 0; i < 3 && !st; i++) {
        st = record_set_int(&r, "idx", i, err);
        if (!st)
            st = record_set_str(&r, "text", "abc", err);
        if (!st)
            st = tfds_writer_add(w, "train", &r, key[i], err);
    }
    if (st)
        tfds_writer_abort(w);
    else
        st = tfds_writer_commit(w, 1, err);
    record_release(&r);
    return st;
}

static void faults(void **state)
{
    char dir[512];
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), "faults"));
    write_sst2(dir, 4, 1);
    EXPECT_TRUE(fault_every_alloc(fault_run, dir) > 20);
    EXPECT_TRUE(fault_every_alloc(with_index, dir) > 20);
    const char *texts = test_path(test_tmpdir(), "c4");
    write_texts(texts, 1);
    EXPECT_TRUE(fault_every_alloc(corrupted_spans, (void *)(uintptr_t)texts) > 20);
    EXPECT_TRUE(fault_every_syscall(fault_run, dir, 5 /* EIO */) > 3);
    EXPECT_TRUE(fault_every_alloc(shards_alone, dir) > 3);
    EXPECT_TRUE(fault_every_alloc(interleaved, NULL) > 0);
    EXPECT_TRUE(fault_every_alloc(fault_write, dir) > 10);
    EXPECT_TRUE(fault_every_syscall(fault_write, dir, 28 /* ENOSPC */) > 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(written_data_sets_read_back),
        cmocka_unit_test(shards_interleave),
        cmocka_unit_test(damage_is_named),
        cmocka_unit_test(tasks_stream),
        cmocka_unit_test(shuffled_runs_repeat_and_resume),
        cmocka_unit_test(mixtures_take_the_members_with_the_split),
        cmocka_unit_test(members_have_rates),
        cmocka_unit_test(objectives_keep_their_promises),
        cmocka_unit_test(caches_hold_the_same_examples),
        cmocka_unit_test(raw_archives_have_the_order_of_tfds),
        cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
