/* task/prepare: data sets from publishers' files; what raw_squad and raw_mrqa make of theirs; failing
 * memory and system calls leave nothing half-done. */
#include "support/test.h"

#include "task/prepare_internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fs/fs.h"
#include "task/prepare.h"
#include "task/raw_glue.h"
#include "task/raw_qa.h"
#include "task/tfds.h"

/* --- the table -------------------------------------------------------------------------------- */

static void table_is_consistent(void **state)
{
    EXPECT_EQ_I64(prepare_count(), 38);
    for (size_t i = 0; i < prepare_count(); i++) {
        const struct prepare_set *s = prepare_at(i), *found;
        const char *version;
        char name[100];
        spt_err err;
        snprintf(name, sizeof name, "%s:%s", s->name, s->version[0]);
        EXPECT_OK(prepare_find(name, &found, &version, &err), &err);
        EXPECT_TRUE(found == s && version == s->version[0]);
        EXPECT_TRUE(prepare_splits(s) >= 1 && prepare_sources(s) >= 1 && prepare_features(s) >= 3);
        for (size_t k = 0; k < prepare_splits(s); k++)
            EXPECT_TRUE((size_t)s->split[k].source < prepare_sources(s));
        for (size_t k = 0; k < prepare_sources(s); k++) {
            buf path;
            buf_init(&path, 1000);
            EXPECT_EQ_I64(strlen(s->source[k].sha256), 64);
            EXPECT_TRUE(s->source[k].size > 0);
            EXPECT_OK(prepare_mirror_path(&s->source[k], &path, &err), &err);
            EXPECT_TRUE(!strpbrk(buf_str(&path), "?&") && path_base(buf_str(&path))[0]);
            buf_release(&path);
        }
    }
}

/* Numbers that TFDS 4.9.10 gives (ShardConfig.calculate_number_shards). */
static void shards_as_tfds(void **state)
{
    static const struct {
        uint64_t bytes, records, shards;
    } c[] = {
        {0, 1, 1},
        {67108847, 1, 1},
        {133169152, 1000, 1},
        {134217728, 1000, 2},
        {134217728, 1, 1},
        {247463936, 2500000, 4},
        {1048576000, 5, 4},
        {1073741824, 5000, 16},
        {3221225472, 5000, 32},
        {42949672960, 600, 512},
        {68719476736, 1023, 512},
        {68719476736, 1024, 1024},
        {1099511627776, 1000000, 1024},
        {1100585369600, 1000000, 2048},
        {3221225472000, 1000000, 3072},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++)
        EXPECT_EQ_I64(tfds_shard_count(c[i].bytes, c[i].records), c[i].shards);
}

/* --- SQuAD and MRQA --------------------------------------------------------------------------- */

struct source {
    const char *text;
    size_t left, piece;
};

static spt_status give(void *ctx, void *p, size_t n, size_t *got, spt_err *err)
{
    struct source *s = ctx;
    *got = s->left < n ? s->left : n;
    if (*got > s->piece)
        *got = s->piece;
    memcpy(p, s->text, *got);
    s->text += *got;
    s->left -= *got;
    return SPT_OK;
}

static spt_status list(void *ctx, const char *key, record *r, spt_err *err)
{
    const struct field_text *t;
    size_t n;
    struct field_text context;
    EXPECT_OK(record_text(r, "context", &context, err), err);
    buf_addf(ctx, "%s [%s]", key, context.s);
    const char *lists[] = {"answers/text", "answers"};
    for (size_t i = 0; i < 2; i++)
        if (record_find(r, lists[i]) && !record_texts(r, lists[i], &t, &n, NULL))
            for (size_t k = 0; k < n; k++)
                buf_addf(ctx, " %s", t[k].s);
    buf_addc(ctx, '\n');
    return SPT_OK;
}

static spt_status ignore(void *ctx, const char *key, record *r, spt_err *err)
{
    (void)ctx, (void)key, (void)r, (void)err;
    return SPT_OK;
}

static void squad(const char *text, bool v2, spt_status status, const char *want)
{
    for (size_t piece = 1; piece < 100; piece += piece) {
        struct source s = {text, strlen(text), piece};
        spt_err err = {0};
        buf out;
        buf_init(&out, 10000);
        const spt_status st = raw_squad_stream(v2, "f.json", give, &s, list, &out, &err);
        if (st != status)
            fail_msg("%s: %s (%s)", text, spt_status_text(st), err.msg);
        if (status)
            EXPECT_MSG(&err, want);
        else
            EXPECT_STR(buf_str(&out), want);
        buf_release(&out);
    }
}

static void squad_articles(void **state)
{
    squad("{\"data\": [], \"version\": \"1.1\"}", false, SPT_OK, "");
    squad("{\"version\": \"data\", \"x\": [[{\"data\": [1]}]], \"data\": [{\"title\": \"]}\\\"\", \"paragraphs\": "
          "[{\"context\": \"c {\", \"qas\": [{\"id\": \"q1\", \"question\": \"?\", \"answers\": [{\"text\": "
          "\"x\", \"answer_start\": 3}, {\"text\": \"y\", \"answer_start\": 4}]}]}]}, {\"paragraphs\": "
          "[{\"context\": \"d\", \"qas\": [{\"id\": \"q2\", \"question\": \"?\", \"answers\": []}]}]}]}",
          false, SPT_OK, "q1 [c {] x y\nq2 [d]\n");
    squad("{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"id\": \"q\", \"question\": \"?\", "
          "\"answers\": []}]}]}]}",
          true, SPT_E_FORMAT, "f.json: article 1: question q has no is_impossible");
    squad("{\"data\": [{\"paragraphs\": [{\"qas\": []}]}]}", false, SPT_E_FORMAT, "'context' is missing");
    squad("{\"data\": {\"a\": 1}}", false, SPT_E_FORMAT, "'data' is an object, wanted an array");
    squad("{\"version\": 1}", false, SPT_E_FORMAT, "'data' is missing");
    squad("[1]", false, SPT_E_FORMAT, "wanted an object");
    squad("", false, SPT_E_FORMAT, "f.json");
    squad("{\"data\": [{\"paragraphs\": []}]} x", false, SPT_E_FORMAT, "f.json");
    squad("{\"data\": [{\"paragraphs\": []}] \"x\": 1}", false, SPT_E_FORMAT, "f.json");
    squad("{\"data\": [{\"paragraphs\": []} {\"paragraphs\": []}]}", false, SPT_E_FORMAT, "f.json");
    squad("{\"data\": [{\"paragraphs\": [}]]}", false, SPT_E_FORMAT, "article 1");
}

static void squad_cut_short(void **state)
{
    static const char text[] = "{\"data\": [{\"title\": \"t\", \"paragraphs\": [{\"context\": \"c\", \"qas\": "
                               "[{\"id\": \"q\", \"question\": \"?\", \"answers\": []}]}]}], \"v\": 1}";
    for (size_t n = 0; n + 1 < sizeof text - 1; n++) {
        struct source s = {text, n, 7};
        spt_err err;
        buf out;
        buf_init(&out, 10000);
        EXPECT_STATUS(raw_squad_stream(false, "f", give, &s, list, &out, &err), SPT_E_FORMAT);
        buf_release(&out);
    }
}

static void mrqa_lines(void **state)
{
    static const char text[] =
        "{\"header\": {\"dataset\": \"Mini\", \"split\": \"dev\"}}\n"
        "{\"context\": \" \xe2\x80\x83 two words \\n\", \"context_tokens\": [[\"two\", 3]], \"qas\": [{\"qid\": "
        "\"7\", \"question\": \" who? \", \"question_tokens\": [], \"detected_answers\": [], \"answers\": "
        "[\" kept \"]}]}\n";
    struct source s = {text, strlen(text), 5};
    spt_err err = {0};
    buf out;
    buf_init(&out, 10000);
    EXPECT_OK(raw_mrqa_stream("test", "f", give, &s, list, &out, &err), &err);
    EXPECT_STR(buf_str(&out), "test+Mini_7 [two words]  kept \n");
    buf_release(&out);
    for (size_t n = 1; n + 1 < sizeof text - 1; n++) {
        struct source cut = {text, n, 11};
        buf_init(&out, 10000);
        const spt_status st = raw_mrqa_stream("test", "f", give, &cut, list, &out, &err);
        const size_t header = strcspn(text, "\n"); /* alone, with or without its line end */
        EXPECT_TRUE(st == SPT_E_FORMAT || n == header || n == header + 1);
        buf_release(&out);
    }
}

static spt_status pronouns(void *ctx, const char *key, record *r, spt_err *err)
{
    const struct field_text *t;
    struct field_text s, p;
    int64_t label;
    size_t n;
    EXPECT_OK(record_text(r, "sentence", &s, err), err);
    EXPECT_OK(record_text(r, "pronoun", &p, err), err);
    EXPECT_OK(record_texts(r, "candidates", &t, &n, err), err);
    EXPECT_OK(record_int(r, "label", &label, err), err);
    EXPECT_EQ_I64(n, 2);
    buf_addf(ctx, "%s %s|%s|%s|%s|%lld\n", key, s.s, p.s, t[0].s, t[1].s, (long long)label);
    return SPT_OK;
}

static void pronoun_lines(void **state)
{
    static const struct {
        const char *text, *want;
    } c[] = {
        {"A met B.\nhe\nA,B\nB\n\nC ran. \n she\n C , D \nC\n\n", "0 A met B.|he|A|B|1\n1 C ran.|she|C|D|0\n"},
        {"A met B.\nhe\nA,B\nB", "0 A met B.|he|A|B|1\n"},
        {"", ""},
        {"\nhe\n", ""},
        {"A met B.\nhe\nA,B\nC\n", "line 4: \"C\" is none of the candidates"},
        {"A met B.\nhe\nA\nA\n", "line 4: \"A\" are not two candidates"},
        {"A met B.\nhe\nA,B,C\nA\n\n", "line 5: \"A,B,C\" are not two candidates"},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct source s = {c[i].text, strlen(c[i].text), 3};
        spt_err err = {0};
        buf out;
        buf_init(&out, 10000);
        const spt_status st = raw_dpr_stream("f", give, &s, pronouns, &out, &err);
        EXPECT_TRUE((st == SPT_E_FORMAT) == (i > 3));
        if (st)
            EXPECT_MSG(&err, c[i].want);
        else
            EXPECT_STR(buf_str(&out), c[i].want);
        buf_release(&out);
    }
}

/* --- labels ------------------------------------------------------------------------------- */

static spt_status take_label(void *ctx, record *r, spt_err *err)
{
    const struct record_field *f = record_find(r, "label");
    buf_addf(ctx, "%g ", f->kind == FIELD_FLOAT ? f->u.floats[0] : (double)f->u.ints[0]);
    return SPT_OK;
}

/* What TFDS's ClassLabel takes, and numbers of classes; -1 is none. */
static void labels_are_classes(void **state)
{
    static const struct {
        const char *group, *config, *split, *text;
        bool ok;
        const char *want;
    } c[] = {
        {"glue", "sst2", "train", "sentence\tlabel\nx\t1\ny\tnegative\nz\t-1\n", true, "1 0 -1 "},
        {"glue", "sst2", "train", "sentence\tlabel\nx\t1\ny\t7\n", false,
         "f: line 3: the label '7' is no class of sst2"},
        {"glue", "sst2", "dev", "sentence\tlabel\nx\t2\n", false, "line 2: the label '2' is no"},
        {"glue", "sst2", "train", "sentence\tlabel\nx\t-2\n", false, "'-2' is no class"},
        {"glue", "sst2", "train", "sentence\tlabel\nx\t99999999999999999999\n", false,
         "line 2: the label '99999999999999999999' is neither"},
        {"glue", "sst2", "train", "sentence\tlabel\nx\t1.0\n", false, "neither a class nor"},
        {"glue", "cola", "train", "a\t5\t\tx\n", false, "line 1: the label '5' is no class of cola"},
        {"glue", "cola", "train", "a\t1\t\tx\n", true, "1 "},
        {"glue", "mnli", "train", "sentence1\tsentence2\tgold_label\na\tb\t2\nc\td\tneutral\n", true,
         "2 1 "},
        {"glue", "stsb", "train", "sentence1\tsentence2\tscore\na\tb\t4.5\n", true, "4.5 "},
        {"glue", "stsb", "train", "sentence1\tsentence2\tscore\na\tb\tnan\n", false,
         "line 2: the score 'nan' is no number"},
        {"glue", "stsb", "train", "sentence1\tsentence2\tscore\na\tb\tinf\n", false, "'inf'"},
        {"glue", "stsb", "train", "sentence1\tsentence2\tscore\na\tb\t1e60\n", false, "'1e60'"},
        {"glue", "stsb", "train", "sentence1\tsentence2\tscore\na\tb\t0x10\n", false, "'0x10'"},
        {"super_glue", "cb", "train", "{\"premise\": \"a\", \"hypothesis\": \"b\", \"idx\": 0, \"label\": 2}\n",
         true, "2 "},
        {"super_glue", "cb", "train", "{\"premise\": \"a\", \"hypothesis\": \"b\", \"idx\": 0, \"label\": 3}\n",
         false, "f: line 1: the label '3' is no class of cb"},
        {"super_glue", "cb", "train", "\n{\"premise\": \"a\", \"hypothesis\": \"b\", \"idx\": 0, \"label\": true}\n",
         false, "f: line 2: the label true is no class of cb"},
        {"super_glue", "cb", "train", "{\"premise\": \"a\", \"hypothesis\": \"b\", \"idx\": 0, \"label\": 1.5}\n",
         false, "the label '1.5' is no class of cb"},
        {"super_glue", "cb", "train", "{\"premise\": \"a\", \"hypothesis\": \"b\", \"idx\": 0, \"label\": [1]}\n",
         false, "the label is an array, wanted a class of cb"},
        {"super_glue", "boolq", "train", "{\"question\": \"a\", \"passage\": \"b\", \"idx\": 0, \"label\": 5}\n",
         false, "the label '5' is no class of boolq"},
        {"super_glue", "boolq", "train", "{\"question\": \"a\", \"passage\": \"b\", \"idx\": 0, \"label\": true}\n",
         true, "1 "},
        {"super_glue", "copa", "train",
         "{\"premise\": \"a\", \"choice1\": \"b\", \"choice2\": \"c\", \"question\": \"d\", \"idx\": 0, \"label\": true}\n",
         true, "1 "},
        {"super_glue", "wsc", "train",
         "{\"text\": \"a b\", \"target\": {\"span1_text\": \"a\", \"span1_index\": 0, \"span2_text\": \"b\", "
         "\"span2_index\": 1}, \"idx\": 0, \"label\": \"True\"}\n",
         true, "1 "},
    };
    for (size_t i = 0; i < sizeof c / sizeof *c; i++) {
        struct source s = {c[i].text, strlen(c[i].text), 9};
        spt_err err = {0};
        buf out;
        buf_init(&out, 1000);
        const spt_status st = raw_glue_stream(c[i].group, c[i].config, c[i].split, "f", give, &s,
                                              take_label, &out, &err);
        if ((st == SPT_OK) != c[i].ok || (st && st != SPT_E_FORMAT))
            fail_msg("%s: %s: %s", c[i].text, spt_status_text(st), err.msg);
        if (st)
            EXPECT_MSG(&err, c[i].want);
        else
            EXPECT_STR(buf_str(&out), c[i].want);
        buf_release(&out);
    }
}

/* --- whole ------------------------------------------------------------------------------------ */

static char dir[512];

static spt_status nowhere(void *ctx, const struct prepare_source *s, buf *path, spt_err *err)
{
    return err_set(err, SPT_E_NOTFOUND, "no %s", s->file);
}

static spt_status prepare(const char *name, const char *from, spt_err *err)
{
    const struct prepare_set *set;
    const char *version;
    struct prepare_result r;
    TRY(prepare_find(name, &set, &version, err));
    const struct prepare_options o = {
        .out = dir, .version = version, .from = from, .fetch = nowhere};
    return prepare_run(set, &o, &r, err);
}

static void write_sst2(const char *below)
{
    char path[700];
    static const char *const split[] = {"train", "dev", "test"};
    snprintf(path, sizeof path, "%s/SST-2", below);
    spt_err err;
    EXPECT_OK(fs_make_dirs(path, &err), &err);
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/SST-2/%s.tsv", below, split[i]);
        static const char text[] = "sentence\tlabel\ngood \t1\nbad \t0\n";
        test_write(path, text, sizeof text - 1);
    }
}

static spt_status whole(void *ctx, spt_err *err)
{
    char there[700];
    snprintf(there, sizeof there, "%s/glue", dir);
    TRY(fs_remove_tree(there, err));
    const spt_status st = prepare("glue/sst2", ctx, err);
    struct fs_info info;
    if (st && fs_stat(there, &info, NULL) == SPT_OK) { /* whatever failed: a whole one, or none */
        spt_err why;
        tfds *d = NULL;
        snprintf(there, sizeof there, "%s/glue/sst2/2.0.0", dir);
        if (fs_stat(there, &info, NULL) == SPT_OK && !tfds_open(dir, "glue/sst2:2.0.0", &d, &why))
            EXPECT_EQ_I64(tfds_splits(d), 3);
        tfds_close(d);
    }
    return st;
}

static spt_status one_article(void *ctx, spt_err *err)
{
    struct source s = {ctx, strlen(ctx), 1000};
    buf out;
    buf_init(&out, 10000);
    const spt_status st = raw_squad_stream(false, "f.json", give, &s, ignore, &out, err);
    buf_release(&out);
    return st;
}

static spt_status ignore_row(void *ctx, record *r, spt_err *err)
{
    (void)ctx, (void)r, (void)err;
    return SPT_OK;
}

static spt_status mrpc_rows(void *ctx, spt_err *err)
{
    static const char rows[] = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t12\t34\ta\tb\n"
                               "0\t5\t6\tc\td\n",
                      ids[] = "12\t34\n";
    struct source s = {rows, sizeof rows - 1, 1000}, i = {ids, sizeof ids - 1, 1000};
    (void)ctx;
    return mrpc_stream("dev", "f.txt", give, &s, give, &i, ignore_row, NULL, err);
}

static spt_status wrong_digest(void *ctx, spt_err *err)
{
    const spt_status st = prepare_verify(ctx, "00", err);
    EXPECT_TRUE(st != SPT_OK);
    return st == SPT_E_NOMEM ? st : SPT_OK;
}

static void faults(void **state)
{
    char from[512];
    EXPECT_TRUE(fault_every_alloc(one_article,
                                  "{\"data\": [{\"paragraphs\": [{\"context\": \"c\", \"qas\": [{\"id\": "
                                  "\"q\", \"question\": \"?\", \"answers\": []}]}]}]}") > 3);
    EXPECT_TRUE(fault_every_alloc(mrpc_rows, NULL) > 5);
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), "out"));
    snprintf(from, sizeof from, "%s", test_path(test_tmpdir(), "from"));
    write_sst2(from);
    EXPECT_TRUE(fault_every_alloc(wrong_digest, (void *)(uintptr_t)test_path(from, "SST-2/dev.tsv")) > 0);
    EXPECT_TRUE(fault_every_alloc(whole, from) > 50);
    EXPECT_TRUE(fault_every_syscall(whole, from, 5 /* EIO */) > 30);
    EXPECT_TRUE(fault_every_syscall(whole, from, 28 /* ENOSPC */) > 30);
    EXPECT_TRUE(fault_every_syscall(whole, from, FAULT_SHORT) > 30);
}

static void refusals(void **state)
{
    spt_err err = {0};
    char from[512], path[700];
    snprintf(dir, sizeof dir, "%s", test_path(test_tmpdir(), "refused"));
    snprintf(from, sizeof from, "%s", test_path(test_tmpdir(), "other"));
    EXPECT_STATUS(prepare("glue/sst2", NULL, &err), SPT_E_NOTFOUND);
    EXPECT_MSG(&err, "no SST-2.zip");
    EXPECT_STATUS(prepare("glue/sst2", "/nonexistent", &err), SPT_E_NOTFOUND);
    EXPECT_STATUS(prepare("glue/nothing", from, &err), SPT_E_CONFIG);
    write_sst2(from);
    snprintf(path, sizeof path, "%s/SST-2/dev.tsv", from);
    test_write(path, "sentence\tlabel\n", 15);
    EXPECT_STATUS(prepare("glue/sst2", from, &err), SPT_E_FORMAT);
    EXPECT_MSG(&err, "no examples for split validation");
    EXPECT_TRUE(!fs_exists(dir)); /* not even empty folders */
    test_write(path, "sentence\tlabel\nx\t1\n", 19);
    EXPECT_OK(prepare("glue/sst2", from, &err), &err);
    EXPECT_OK(prepare("glue/sst2", from, &err), &err); /* is there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(table_is_consistent), cmocka_unit_test(shards_as_tfds), cmocka_unit_test(squad_articles),
        cmocka_unit_test(squad_cut_short),     cmocka_unit_test(mrqa_lines), cmocka_unit_test(pronoun_lines),
        cmocka_unit_test(labels_are_classes),
        cmocka_unit_test(refusals),            cmocka_unit_test(faults),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
