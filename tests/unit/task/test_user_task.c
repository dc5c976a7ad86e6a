/* task/: tasks of users: tables with templates, hooks, what a wrong definition is told. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "task/cache.h"
#include "task/pipeline.h"
#include "task/user_task.h"

static vocab *bytes;
static const char *dir; /* of all files */

static int open_all(void **state)
{
    spt_err err;
    struct vocab_opts o;
    dir = test_tmpdir();
    vocab_opts_init(&o);
    o.rule = VOCAB_BYTES;
    return vocab_open("bytes", &o, &bytes, &err) != SPT_OK;
}

static int close_all(void **state)
{
    vocab_close(bytes);
    return 0;
}

static const char *put(const char *name, const char *text)
{
    const char *path = test_path(dir, name);
    spt_err err;
    EXPECT_OK(fs_write_all(path, text, strlen(text), &err), &err);
    return path;
}

static task_registry *fresh(void)
{
    task_registry *r;
    spt_err err;
    EXPECT_OK(task_registry_new(&r, &err), &err);
    return r;
}

static const char *const labels[] = {"negative", "positive"};
static const struct task_word words[] = {{"0", "negative"}, {"1", "positive"}};
static const char *const accuracy[] = {"accuracy", "f1"};

static struct user_task reviews(const struct task_file *file, size_t files)
{
    return (struct user_task){.name = "reviews",
                              .file = file,
                              .files = files,
                              .input = "review: {text}",
                              .target = "{label}",
                              .label = labels,
                              .labels = 2,
                              .word = words,
                              .words = 2,
                              .metric = accuracy,
                              .metrics = 2};
}

static pipeline *stream(const task_registry *r, const char *name, const char *split, uint64_t shard,
                        uint64_t shards)
{
    spt_err err;
    pipeline *p;
    const struct pipeline_options o = {.name = name,
                                       .split = split,
                                       .vocabulary = bytes,
                                       .epochs = 1,
                                       .shard = shard,
                                       .shards = shards};
    EXPECT_OK(pipeline_open(r, &o, &p, &err), &err);
    return p;
}

/* inputs=targets|inputs=targets|... */
static const char *texts(pipeline *p)
{
    static char all[4096];
    struct task_example e;
    struct field_text in, out;
    spt_err err;
    bool more = true;
    all[0] = 0;
    while (more) {
        EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
        if (!more)
            break;
        EXPECT_OK(record_text(e.fields, "inputs_pretokenized", &in, &err), &err);
        EXPECT_OK(record_text(e.fields, "targets_pretokenized", &out, &err), &err);
        EXPECT_EQ_I64(e.input_len, in.len + 1);
        snprintf(all + strlen(all), sizeof all - strlen(all), "%.*s=%.*s|", (int)in.len, in.s,
                 (int)out.len, out.s);
    }
    pipeline_close(p);
    return all;
}

static void tables_become_examples(void **state)
{
    task_registry *r = fresh();
    spt_err err;
    const struct task_file file[] = {
        {"train", put("a.tsv", "text\tlabel\nbad film\t0\ngood one\t1\nso so\t0\nfine\t1\n")},
        {"validation",
         put("b.jsonl", "{\"text\": \"x\", \"label\": 1}\n{\"label\": 0, \"text\": \"y\"}\n")},
        {"test", put("c.csv", "label,text\npositive,\"a, b\"\n")}};
    struct user_task u = reviews(file, 3);
    const size_t before = task_count(r);
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    EXPECT_EQ_I64(task_count(r), before + 1);
    const struct task *t = task_find(r, "reviews");
    EXPECT_TRUE(t && task_has_files(t) && task_has_split(t, "train[:2]"));
    EXPECT_TRUE(!task_has_split(t, "dev"));
    for (size_t i = 1; i < task_count(r); i++)
        EXPECT_TRUE(strcmp(task_at(r, i - 1)->name, task_at(r, i)->name) < 0);
    EXPECT_STR(texts(stream(r, "reviews", "train", 0, 1)),
               "review: bad film=negative|review: good one=positive|review: so so=negative|review: "
               "fine=positive|");
    EXPECT_STR(texts(stream(r, "reviews", "validation", 0, 1)),
               "review: x=positive|review: y=negative|");
    EXPECT_STR(texts(stream(r, "reviews", "test", 0, 1)), "review: a, b=positive|");
    EXPECT_STR(texts(stream(r, "reviews", "train[1:3]", 0, 1)),
               "review: good one=positive|review: so so=negative|");
    EXPECT_STR(texts(stream(r, "reviews", "train[50%:]", 0, 1)),
               "review: so so=negative|review: fine=positive|");
    EXPECT_STR(texts(stream(r, "reviews", "train", 1, 2)),
               "review: good one=positive|review: fine=positive|");
    const struct pipeline_options o = {.split = "train[:3]", .vocabulary = bytes};
    uint64_t n;
    EXPECT_OK(pipeline_count(t, &o, &n, &err), &err);
    EXPECT_EQ_I64(n, 3);
    task_registry_free(r);
}

/* Rows come back after the end, and a mixture draws from both. */
static void epochs_and_mixtures(void **state)
{
    task_registry *r = fresh();
    spt_err err;
    const struct task_file a = {"train", put("m1.tsv", "one\tA\ntwo\tB\n")};
    const struct task_file b = {"train", put("m2.tsv", "three\tA\n")};
    struct user_task u = {.name = "zz:a", .file = &a, .files = 1, .input = "{1}", .target = "{2}"};
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    u.name = "zz:b";
    u.file = &b;
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    const struct task_member m[] = {{"zz:a", 2}, {"zz:b", 1}};
    EXPECT_OK(task_registry_add_mixture(r, "zz:mix", m, 2, &err), &err);
    EXPECT_STATUS(task_registry_add_mixture(r, "zz:mix", m, 2, &err), SPT_E_CONFIG);
    EXPECT_STATUS(task_registry_add_mixture(r, "zz:a", m, 2, &err), SPT_E_CONFIG);
    EXPECT_STATUS(task_registry_add_mixture(r, "zz:none", m, 0, &err), SPT_E_CONFIG);
    const struct task_member wrong[] = {{"zz:a", NAN}};
    EXPECT_STATUS(task_registry_add_mixture(r, "zz:nan", wrong, 1, &err), SPT_E_CONFIG);
    const struct pipeline_options o = {
        .name = "zz:mix", .split = "train", .vocabulary = bytes, .shuffle = true, .seed = 3};
    pipeline *p;
    struct task_example e;
    bool more;
    size_t of_a = 0;
    EXPECT_OK(pipeline_open(r, &o, &p, &err), &err);
    for (size_t i = 0; i < 300; i++) {
        EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
        EXPECT_TRUE(more);
        of_a += strcmp(e.task->name, "zz:a") == 0;
    }
    EXPECT_TRUE(of_a > 160 && of_a < 240);
    pipeline_close(p);
    task_registry_free(r);
}

static double scores[8];
static char keys[200];

static spt_status note(void *ctx, const char *key, double value, spt_err *err)
{
    size_t n = 0;
    for (const char *p = keys; *p; p++)
        n += *p == ' ';
    scores[n] = value;
    snprintf(keys + strlen(keys), sizeof keys - strlen(keys), "%s ", key);
    return SPT_OK;
}

static void score(const struct task *t, const char *const *target, const char *const *answer,
                  size_t n)
{
    struct task_value v[2][8];
    record example = {0}, scratch = {0};
    spt_err err;
    keys[0] = 0;
    for (size_t i = 0; i < n; i++) {
        EXPECT_OK(
            task_answer(t, target[i], strlen(target[i]), &example, true, &scratch, &v[0][i], &err),
            &err);
        EXPECT_OK(
            task_answer(t, answer[i], strlen(answer[i]), &example, false, &scratch, &v[1][i], &err),
            &err);
    }
    EXPECT_OK(task_score(t, v[0], v[1], n, note, NULL, &err), &err);
    record_release(&example);
    record_release(&scratch);
}

static void answers_are_scored(void **state)
{
    static const char *const seven[] = {"a", "b", "c", "d", "e", "f", "g"};
    static const char *const metric[] = {"mean_multiclass_f1", "accuracy"};
    task_registry *r = fresh();
    spt_err err;
    const struct task_file file = {"train", "absent.tsv"};
    struct user_task u = {.name = "seven",
                          .file = &file,
                          .files = 1,
                          .input = "{1}",
                          .target = "{2}",
                          .label = seven,
                          .labels = 7,
                          .metric = metric,
                          .metrics = 2};
    EXPECT_OK(task_registry_add(r, &u, &err), &err); /* files are opened when they are needed */
    const char *const answer[] = {"a", "b", "c", "g", "f", "f", "??"};
    score(task_find(r, "seven"), seven, answer, 7);
    EXPECT_STR(keys, "mean_7class_f1 accuracy ");
    /* a, b, c: 1; f: 2/3; d, e, g: 0 */
    EXPECT_TRUE(fabs(scores[0] - 100 * (3 + 2.0 / 3) / 7) < 1e-9);
    EXPECT_TRUE(fabs(scores[1] - 100 * 4.0 / 7) < 1e-9);
    static const char *const number[] = {"pearson_corrcoef"};
    u = (struct user_task){.name = "num",
                           .file = &file,
                           .files = 1,
                           .input = "{1}",
                           .target = "{2}",
                           .postprocessor = "number",
                           .metric = number,
                           .metrics = 1};
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    const char *const x[] = {"1", "2", "4"}, *const y[] = {"10", "20", "40"};
    score(task_find(r, "num"), x, y, 3);
    EXPECT_TRUE(fabs(scores[0] - 100) < 1e-9);
    static const char *const text[] = {"bleu", "edit_distance", "accuracy"};
    u = (struct user_task){.name = "txt",
                           .file = &file,
                           .files = 1,
                           .input = "{1}",
                           .target = "{2}",
                           .metric = text,
                           .metrics = 3};
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    const char *const t[] = {"a b c d e f"}, *const p[] = {"a b c x y"};
    score(task_find(r, "txt"), t, p, 1);
    EXPECT_STR(keys, "accuracy bleu min_edit max_edit mean_edit median_edit sum_edit ");
    EXPECT_TRUE(scores[0] == 0);
    EXPECT_TRUE(fabs(scores[1] - 32.555630133216134) < 1e-9); /* spec/data.md M156 */
    task_registry_free(r);
}

static void accepted_answers(void **state)
{
    static const char *const squad[] = {"squad"};
    task_registry *r = fresh();
    spt_err err;
    const struct task_file file = {"validation",
                                   put("qa.tsv", "q\ta\twho\nx?\tParis|||the city Paris\tParis\n")};
    struct user_task u = {.name = "qa",
                          .file = &file,
                          .files = 1,
                          .input = "question: {q}",
                          .target = "{who}",
                          .answers = "{a}",
                          .metric = squad,
                          .metrics = 1};
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    pipeline *p = stream(r, "qa", "validation", 0, 1);
    struct task_example e;
    struct task_value v[2];
    record scratch = {0};
    bool more;
    EXPECT_OK(pipeline_next(p, &e, &more, &err), &err);
    EXPECT_OK(task_answer(e.task, "Paris", 5, e.fields, true, &scratch, &v[0], &err), &err);
    EXPECT_EQ_I64(v[0].text_count, 2);
    EXPECT_OK(task_answer(e.task, "city paris", 10, e.fields, false, &scratch, &v[1], &err), &err);
    keys[0] = 0;
    EXPECT_OK(task_score(e.task, &v[0], &v[1], 1, note, NULL, &err), &err);
    EXPECT_STR(keys, "em f1 ");
    EXPECT_TRUE(scores[0] == 100 && scores[1] == 100);
    record_release(&scratch);
    pipeline_close(p);
    task_registry_free(r);
}

/* --- wrong definitions and rows ----------------------------------------------------------------
 */

static void refused(struct user_task u, const char *message)
{
    task_registry *r = fresh();
    spt_err err;
    EXPECT_STATUS(task_registry_add(r, &u, &err), SPT_E_CONFIG);
    EXPECT_MSG(&err, message);
    EXPECT_TRUE(!task_find(r, u.name) || task_find(r, u.name)->module != MODULE_USER);
    task_registry_free(r);
}

static void wrong_definitions_are_explained(void **state)
{
    const struct task_file file[] = {{"train", "a"}, {"train", "b"}};
    static const char *const twice[] = {"a", "a"};
    static const char *const strange[] = {"accuracy", "wonder"};
    static const char *const pearson[] = {"pearson_corrcoef"};
#define CHANGE(message, ...)                                                                       \
    do {                                                                                           \
        struct user_task u = reviews(file, 1);                                                     \
        __VA_ARGS__;                                                                               \
        refused(u, message);                                                                       \
    } while (0)
    CHANGE("has no data", u.files = 0);
    CHANGE("two files for split 'train'", u.files = 2);
    CHANGE("needs input", u.input = NULL);
    CHANGE("needs target", u.target = NULL);
    CHANGE("names no column", u.input = "text");
    CHANGE("task reviews: input", u.input = "{text");
    CHANGE("label 'a' twice", u.label = twice);
    CHANGE("there is no metric 'wonder' (there are accuracy", u.metric = strange);
    CHANGE("needs postprocessor 'number'", u.metric = pearson; u.metrics = 1);
    CHANGE("no postprocessor 'x'", u.postprocessor = "x");
    CHANGE("no preprocessor 'x' (plug-ins bring them", u.preprocessor = "x");
    CHANGE("needs labels", u.labels = 0; u.postprocessor = "label");
    CHANGE("of two labels", u.labels = 1);
    CHANGE("exists already", u.name = "glue_cola_v002");
    CHANGE("cannot name a task", u.name = "a/b");
    CHANGE("cannot name a task", u.name = "..");
    CHANGE("needs a name", u.name = "");
}

static void expect_row_error(const char *file, const char *message, spt_status want)
{
    task_registry *r = fresh();
    spt_err err;
    const struct task_file f = {"train", file};
    struct user_task u = reviews(&f, 1);
    pipeline *p = NULL;
    struct task_example e;
    bool more = true;
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    const struct pipeline_options o = {
        .name = "reviews", .split = "train", .vocabulary = bytes, .epochs = 1, .tfds_dir = dir};
    spt_status st = pipeline_open(r, &o, &p, &err);
    while (!st && more)
        st = pipeline_next(p, &e, &more, &err);
    EXPECT_STATUS(st, want);
    EXPECT_MSG(&err, message);
    pipeline_close(p);
    task_registry_free(r);
}

static void wrong_rows_are_named(void **state)
{
    expect_row_error(put("r1.tsv", "text\tlabel\na\t0\n\nb\t7\n"),
                     "r1.tsv: line 4: the target '7' is none of the 2 labels of task reviews",
                     SPT_E_FORMAT);
    expect_row_error(put("r2.tsv", "text\tclass\na\t0\n"), "label", SPT_E_CONFIG);
    expect_row_error(put("r3.jsonl", "{\"text\":\"a\",\"label\":0}\n{\"text\":null,\"label\":1}\n"),
                     "r3.jsonl: line 2", SPT_E_FORMAT);
    expect_row_error("nowhere.tsv", "task reviews: needs nowhere.tsv: neither that nor",
                     SPT_E_NOTFOUND);
    put("below.tsv", "text\tlabel\na\t9\n");
    expect_row_error("below.tsv", "below.tsv: line 2: the target '9'", SPT_E_FORMAT);
    expect_row_error(put("r4.tsv", ""), "r4.tsv", SPT_E_FORMAT);
}

/* --- hooks -------------------------------------------------------------------------------------
 */

static spt_status twice(void *ctx, const record *raw, int64_t position, record *out,
                        task_emit_fn emit, void *emit_ctx, spt_err *err)
{
    struct field_text text;
    TRY(record_text(raw, "text", &text, err));
    for (int i = 0; i < 2; i++) {
        record_clear(out);
        TRY(record_set_text(out, "inputs", text.s, text.len, err));
        TRY(record_set_str(out, "targets", ctx, err));
        TRY(emit(emit_ctx, out, err));
    }
    return SPT_OK;
}

static spt_status length_of(void *ctx, const char *text, size_t len, const record *example,
                            bool is_target, record *scratch, struct task_value *out, spt_err *err)
{
    out->label = (int64_t)len;
    return SPT_OK;
}

static spt_status mean_length(void *ctx, const struct task_value *target,
                              const struct task_value *prediction, size_t n, task_score_fn add,
                              void *add_ctx, spt_err *err)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)prediction[i].label;
    return add(add_ctx, "mean_length", sum / (double)n, err);
}

static void hooks_run(void **state)
{
    static const char *const metric[] = {"test.mean_length", "accuracy"};
    task_registry *r = fresh();
    spt_err err;
    struct task_hook h = {
        .kind = HOOK_PREPROCESSOR, .name = "test.twice", .ctx = "same", .run.preprocess = twice};
    EXPECT_OK(task_registry_add_hook(r, &h, &err), &err);
    EXPECT_STATUS(task_registry_add_hook(r, &h, &err), SPT_E_CONFIG);
    h = (struct task_hook){
        .kind = HOOK_POSTPROCESSOR, .name = "test.length", .run.answer = length_of};
    EXPECT_OK(task_registry_add_hook(r, &h, &err), &err);
    h = (struct task_hook){
        .kind = HOOK_METRIC, .name = "test.mean_length", .run.score = mean_length};
    EXPECT_OK(task_registry_add_hook(r, &h, &err), &err);
    h.name = "bleu";
    EXPECT_STATUS(task_registry_add_hook(r, &h, &err), SPT_E_CONFIG);
    const struct task_file file = {
        "train", put("h.jsonl", "{\"text\":\"a\",\"x\":null}\n{\"text\":\"b\"}\n")};
    struct user_task u = {.name = "hooked",
                          .file = &file,
                          .files = 1,
                          .preprocessor = "test.twice",
                          .postprocessor = "test.length",
                          .metric = metric,
                          .metrics = 2};
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    EXPECT_STR(texts(stream(r, "hooked", "train", 0, 1)), "a=same|a=same|b=same|b=same|");
    const char *const t[] = {"ab", "abc"}, *const p[] = {"xy", "x"};
    score(task_find(r, "hooked"), t, p, 2);
    EXPECT_STR(keys, "accuracy mean_length ");
    EXPECT_TRUE(scores[0] == 50 && scores[1] == 1.5);
    task_registry_free(r);
}

static void caches_hold_user_tasks(void **state)
{
    static const char *const split[] = {"train"};
    task_registry *r = fresh();
    spt_err err;
    const struct task_file file = {"train", put("k.tsv", "text\tlabel\nbad\t0\ngood\t1\n")};
    struct user_task u = reviews(&file, 1);
    EXPECT_OK(task_registry_add(r, &u, &err), &err);
    const char *root = test_path(dir, "caches");
    struct pipeline_options o = {
        .name = "reviews", .split = "train", .vocabulary = bytes, .epochs = 1};
    uint64_t n;
    EXPECT_OK(cache_write(task_find(r, "reviews"), &o, split, 1, root, 1, &n, &err), &err);
    EXPECT_EQ_I64(n, 2);
    fs_remove_tree(file.path, &err);
    pipeline *p;
    o.use_cached = true;
    o.cache_dir = &root;
    o.cache_dirs = 1;
    EXPECT_OK(pipeline_open(r, &o, &p, &err), &err);
    EXPECT_STR(texts(p), "review: bad=negative|review: good=positive|");
    task_registry_free(r);
}

static spt_status add_one(void *ctx, spt_err *err)
{
    const struct task_file file = {"train", "x.tsv"};
    struct user_task u = reviews(&file, 1);
    task_registry *r = NULL;
    spt_status st = task_registry_new(&r, err);
    if (!st)
        st = task_registry_add(r, &u, err);
    task_registry_free(r);
    return st;
}

/* More tasks than the registry has room for, one of them scored. */
static spt_status many_scored(void *ctx, spt_err *err)
{
    static const char *const text[] = {"bleu", "edit_distance", "accuracy"};
    const struct task_file file = {"train", "absent.tsv"};
    struct user_task u = {.file = &file, .files = 1, .input = "{1}", .target = "{2}", .metric = text, .metrics = 3};
    struct task_value v[2];
    record example = {0}, scratch = {0};
    task_registry *r;
    char name[32] = "";
    (void)ctx;
    TRY(task_registry_new(&r, err));
    spt_status st = SPT_OK;
    for (int i = 0; i < 1100 && !st; i++) {
        snprintf(name, sizeof name, "mine_%d", i);
        u.name = name;
        st = task_registry_add(r, &u, err);
    }
    const struct task *t = st ? NULL : task_find(r, name);
    if (t)
        st = task_answer(t, "a b", 3, &example, true, &scratch, &v[0], err);
    if (!st)
        st = task_answer(t, "a c", 3, &example, false, &scratch, &v[1], err);
    if (!st)
        st = task_score(t, &v[0], &v[1], 1, note, NULL, err);
    record_release(&example);
    record_release(&scratch);
    task_registry_free(r);
    return st;
}

/* More mixtures than the registry has room for. */
static spt_status many_mixtures(void *ctx, spt_err *err)
{
    const struct task_member member = {"glue_cola_v002", 1};
    task_registry *r;
    char name[32];
    (void)ctx;
    TRY(task_registry_new(&r, err));
    spt_status st = SPT_OK;
    const size_t more = mixture_count(r) + 1; /* arrays double */
    for (size_t i = 0; i < more && !st; i++) {
        snprintf(name, sizeof name, "mixed_%zu", i);
        st = task_registry_add_mixture(r, name, &member, 1, err);
    }
    task_registry_free(r);
    return st;
}

static spt_status count_score(void *ctx, const char *key, double value, spt_err *err)
{
    (void)key, (void)value, (void)err;
    ++*(size_t *)ctx;
    return SPT_OK;
}

/* Two values for every task that scores groups or candidates. */
static spt_status scored_by_groups(void *ctx, spt_err *err)
{
    const task_registry *r = ctx;
    static const unsigned wanted[] = {METRIC_MULTIRC, METRIC_RANK};
    size_t scored = 0;
    struct task_value target[2] = {{.rank_correct = true, .rank_length = 1},
                                   {.group = {1}, .rank_index = {0, 1}}};
    struct task_value prediction[2] = {{.score = 1}, {.label = 0}};
    spt_status st = SPT_OK;
    for (size_t k = 0; k < 2 && !st; k++) {
        size_t i = 0;
        while (!(task_at(r, i)->metrics & wanted[k]))
            i++;
        st = task_score(task_at(r, i), target, prediction, 2, count_score, &scored, err);
    }
    return st;
}

static void every_allocation_can_fail(void **state)
{
    task_registry *r = fresh();
    EXPECT_TRUE(fault_every_alloc(scored_by_groups, r) > 4);
    task_registry_free(r);
    EXPECT_TRUE(fault_every_alloc_stack(many_mixtures, NULL, 4) > 2);
    EXPECT_TRUE(fault_every_alloc_stack(many_scored, NULL, 4) > 2);
    EXPECT_TRUE(fault_every_alloc(add_one, NULL) > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(tables_become_examples),
        cmocka_unit_test(epochs_and_mixtures),
        cmocka_unit_test(answers_are_scored),
        cmocka_unit_test(accepted_answers),
        cmocka_unit_test(wrong_definitions_are_explained),
        cmocka_unit_test(wrong_rows_are_named),
        cmocka_unit_test(hooks_run),
        cmocka_unit_test(caches_hold_user_tasks),
        cmocka_unit_test(every_allocation_can_fail),
    };
    return cmocka_run_group_tests(tests, open_all, close_all);
}
