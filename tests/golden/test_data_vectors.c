/* All vectors of tests/fixtures/data_vectors.jsonl: text formats, tokens, features, answers,
 * metrics, files, orders, registry. One JSON object per line: id, kind, input, expect. */
#include "support/test.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "codec/crc.h"
#include "codec/digest.h"
#include "fs/fs.h"
#include "metric/class_metrics.h"
#include "metric/text_metrics.h"
#include "random/philox.h"
#include "store/tfrecord.h"
#include "support/json_tree.h"
#include "task/convert.h"
#include "task/eval_files.h"
#include "task/noise.h"
#include "task/raw_glue.h"
#include "task/task.h"
#include "task/tf_example.h"
#include "task/tf_order.h"
#include "task/tfds.h"
#include "vocab/vocab.h"

static task_registry *registry;
static vocab *t5, *bytes;

/* --- comparing ---------------------------------------------------------------------------- */

static bool wrong(const char *what, const char *got, const char *want)
{
    print_message("  %s is \"%s\", wanted \"%s\"\n", what, got, want);
    return false;
}

static bool same_text(const char *what, const char *got, size_t len, const struct jnode *want)
{
    if (want && want->text && want->len == len && memcmp(got, want->text, len) == 0)
        return true;
    return wrong(what, got, want && want->text ? want->text : "(none)");
}

static bool same_number(const char *what, double got, const struct jnode *want)
{
    const double w = json_number(want);
    char a[40], b[40];
    if ((isnan(got) && isnan(w)) || fabs(got - w) <= 1e-9 * fmax(1, fabs(w)))
        return true;
    snprintf(a, sizeof a, "%.17g", got);
    snprintf(b, sizeof b, "%.17g", w);
    return wrong(what, a, b);
}

static bool same_ids(const char *what, const int32_t *got, size_t n, const struct jnode *want)
{
    bool ok = want && want->children == n;
    for (size_t i = 0; ok && i < n; i++)
        ok = got[i] == json_int(json_item(want, i));
    if (!ok)
        print_message("  %s: %zu ids differ from the %zu wanted\n", what, n,
                      want ? want->children : 0);
    return ok;
}

static size_t read_ids(const struct jnode *list, int32_t *out)
{
    size_t n = 0;
    for (const struct jnode *k = list ? list->child : NULL; k; k = k->next)
        out[n++] = (int32_t)json_int(k);
    return n;
}

/* --- records from and against JSON -------------------------------------------------------- */

static void set_field(record *r, const char *name, const struct jnode *v)
{
    spt_err err;
    char *kept = record_alloc(r, strlen(name) + 1);
    memcpy(kept, name, strlen(name) + 1);
    if (v->kind == JSON_STRING) {
        EXPECT_OK(record_set_text(r, kept, v->text, v->len, &err), &err);
    } else if (v->kind == JSON_NUMBER && strpbrk(v->text, ".eE")) {
        EXPECT_OK(record_set_float(r, kept, json_number(v), &err), &err);
    } else if (v->kind == JSON_NUMBER || v->kind == JSON_TRUE || v->kind == JSON_FALSE) {
        EXPECT_OK(record_set_int(r, kept, json_int(v), &err), &err);
    } else if (v->kind == JSON_ARRAY) {
        struct field_text list[64];
        int64_t ints[64];
        size_t n = 0;
        const bool texts = !v->child || v->child->kind == JSON_STRING;
        for (const struct jnode *k = v->child; k; k = k->next, n++) {
            list[n] = (struct field_text){k->text, k->len};
            ints[n] = json_int(k);
        }
        EXPECT_OK(texts ? record_set_texts(r, kept, list, n, &err)
                        : record_set_ints(r, kept, ints, n, &err),
                  &err);
    } else {
        for (const struct jnode *k = v->child; k; k = k->next) {
            char full[100];
            snprintf(full, sizeof full, "%s/%s", name, k->key);
            set_field(r, full, k);
        }
    }
}

static void set_fields(record *r, const struct jnode *object)
{
    record_clear(r);
    for (const struct jnode *n = object->child; n; n = n->next)
        set_field(r, n->key, n);
}

static bool same_field(const char *name, const record *r, const struct jnode *want)
{
    const struct record_field *f = record_find(r, name);
    if (want->kind == JSON_OBJECT) {
        bool ok = true;
        for (const struct jnode *k = want->child; k; k = k->next) {
            char full[100];
            snprintf(full, sizeof full, "%s/%s", name, k->key);
            ok &= same_field(full, r, k);
        }
        return ok;
    }
    if (!f)
        return wrong(name, "(absent)", want->text ? want->text : "present");
    if (want->kind == JSON_STRING)
        return f->kind == FIELD_TEXT && same_text(name, f->u.text[0].s, f->u.text[0].len, want);
    if (want->kind != JSON_ARRAY)
        return same_number(name, f->kind == FIELD_INT ? (double)f->u.ints[0] : f->u.floats[0],
                           want);
    bool ok = f->count == want->children;
    for (size_t i = 0; ok && i < f->count; i++)
        ok = same_text(name, f->u.text[i].s, f->u.text[i].len, json_item(want, i));
    return ok || wrong(name, "(another list)", "a list");
}

struct comparing {
    const struct jnode *want; /* next object */
    bool ok, list;
    size_t seen;
};

static spt_status compare_record(void *ctx, record *r, spt_err *err)
{
    struct comparing *c = ctx;
    const struct jnode *want = c->list ? json_item(c->want, c->seen) : c->want;
    c->seen++;
    for (const struct jnode *n = want ? want->child : NULL; n; n = n->next)
        if (strcmp(n->key, "taskless_inputs") != 0)
            c->ok &= same_field(n->key, r, n);
    const struct jnode *taskless = json_get(want, "taskless_inputs");
    if (taskless) {
        struct field_text t;
        EXPECT_OK(record_text(r, "inputs", &t, err), err);
        text_drop_first(&t.s, &t.len);
        c->ok &= same_text("taskless_inputs", t.s, t.len, taskless);
    }
    return SPT_OK;
}

/* --- formats ------------------------------------------------------------------------------ */

static const struct task *task_of(const char *name)
{
    static const struct {
        const char *vector, *task;
    } names[] = {
        {"dpr", "taskless_dpr_v001_simple"},
        {"wsc_simple", "super_glue_wsc_v102_simple_eval"},
        {"squad", "squad_v010_allanswers"},
        {"mrqa", "mrqa_news_qa_v100_examples"},
        {"spot_mrqa (task_name=news_qa)", "spot_mrqa_news_qa_v100"},
        {"xsum", "xsum_v110_examples"},
        {"spot_aeslc", "spot_aeslc_v100"},
        {"spot_snli", "spot_snli_v110"},
        {"pr:imdb (negative_positive)", "pr:imdb_v100_negative_positive_verbalizers_train"}};
    char full[120];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i].vector, name) == 0)
            return task_find(registry, names[i].task);
    snprintf(full, sizeof full, "%s_%s", name, strncmp(name, "glue", 4) == 0 ? "v002" : "v102");
    return task_find(registry, full);
}

static bool run_format(const struct jnode *in, const struct jnode *want)
{
    const char *name = json_get(in, "task")->text;
    const struct jnode *example = json_get(in, "example");
    struct comparing c = {.want = want, .ok = true, .list = want->kind == JSON_ARRAY};
    record raw = {0};
    spt_err err;
    if (example->kind == JSON_STRING) {
        EXPECT_OK(task_format_tsv_qa(example->text, example->len, &raw, &err), &err);
        EXPECT_OK(compare_record(&c, &raw, &err), &err);
    } else {
        const struct task *t = task_of(name);
        if (!t)
            return wrong("task", "(unknown)", name);
        struct task plain = *t;
        plain.drop_first = false;
        set_fields(&raw, example);
        EXPECT_OK(task_format(&plain, &raw, 0, compare_record, &c, &err), &err);
    }
    record_release(&raw);
    return c.ok && c.seen == (c.list ? want->children : 1);
}

static bool run_pad(const struct jnode *in, const struct jnode *want)
{
    buf b;
    buf_init(&b, 1 << 16);
    text_pad_punctuation(&b, in->text, in->len);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

static bool run_drop(const struct jnode *in, const struct jnode *want)
{
    const char *s = in->text;
    size_t len = in->len;
    text_drop_first(&s, &len);
    return same_text("text", s, len, want);
}

/* --- tokens ------------------------------------------------------------------------------- */

static bool run_encode(const vocab *v, const struct jnode *in, const struct jnode *want)
{
    struct vocab_ids ids = {0};
    spt_err err;
    EXPECT_OK(vocab_encode(v, in->text, in->len, &ids, &err), &err);
    const bool ok = same_ids("ids", ids.id, ids.count, want);
    vocab_ids_release(&ids);
    return ok;
}

static bool run_decode(const vocab *v, const struct jnode *in, const struct jnode *want)
{
    int32_t id[64];
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    EXPECT_OK(vocab_decode(v, id, read_ids(in, id), &b, &err), &err);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

static bool run_t5_encode(const struct jnode *in, const struct jnode *want)
{
    return run_encode(t5, in, want);
}
static bool run_t5_decode(const struct jnode *in, const struct jnode *want)
{
    return run_decode(t5, in, want);
}
static bool run_byte_encode(const struct jnode *in, const struct jnode *want)
{
    return run_encode(bytes, in, want);
}
static bool run_byte_decode(const struct jnode *in, const struct jnode *want)
{
    return run_decode(bytes, in, want);
}

/* Text -> drop_first -> ids -> sentinel -> cut -> EOS. */
static bool pipeline_side(const struct task *t, const struct jnode *in, const char *name,
                          const struct jnode *want)
{
    const struct jnode *text = json_get(in, name), *limit = json_get(json_get(in, "lengths"), name);
    struct vocab_ids ids = {0};
    spt_err err;
    const bool inputs = strcmp(name, "inputs") == 0;
    const char *s = text->text;
    size_t len = text->len;
    if (inputs && t->drop_first)
        text_drop_first(&s, &len);
    int32_t all[256];
    size_t n = 0;
    if (inputs && t->sentinel >= 0)
        all[n++] = vocab_size(t5) - 1 - t->sentinel;
    EXPECT_OK(vocab_encode(t5, s, len, &ids, &err), &err);
    memcpy(all + n, ids.id, ids.count * sizeof *all);
    n += ids.count;
    if (limit && n > (size_t)json_int(limit) - 1)
        n = (size_t)json_int(limit) - 1;
    all[n++] = 1;
    vocab_ids_release(&ids);
    return same_ids(name, all, n, json_get(want, name));
}

static bool run_pipeline(const struct jnode *in, const struct jnode *want)
{
    const struct task *t = task_find(registry, json_get(in, "task")->text);
    return t && pipeline_side(t, in, "inputs", want) && pipeline_side(t, in, "targets", want);
}

/* --- features ----------------------------------------------------------------------------- */

static bool run_features(const struct jnode *in, const struct jnode *want)
{
    int32_t inputs[32], targets[32], a[32] = {0}, b[32], c[32], d[32];
    const size_t n = read_ids(json_get(in, "inputs"), inputs);
    const size_t m = read_ids(json_get(in, "targets"), targets);
    const struct jnode *lengths = json_get(in, "lengths"),
                       *only = json_get(in, "loss_on_targets_only");
    const bool has_inputs = json_get(lengths, "inputs") != NULL;
    const size_t li = has_inputs ? (size_t)json_int(json_get(lengths, "inputs")) : 0;
    const size_t lt = (size_t)json_int(json_get(lengths, "targets"));
    spt_err err;
    size_t len = lt;
    if (only) {
        const struct decoder_features f = {a, b, c, d};
        len = li + lt;
        EXPECT_OK(
            convert_prefix_lm(inputs, n, li, targets, m, lt, only->kind == JSON_TRUE, &f, &err),
            &err);
    } else if (has_inputs) {
        const struct encdec_features f = {d, a, b, c};
        EXPECT_OK(convert_encdec(inputs, n, li, targets, m, lt, &f, &err), &err);
        if (!same_ids("encoder", d, li, json_get(want, "encoder_input_tokens")))
            return false;
    } else {
        const struct decoder_features f = {a, b, c, NULL};
        EXPECT_OK(convert_lm(targets, m, lt, &f, &err), &err);
    }
    return same_ids("target", a, len, json_get(want, "decoder_target_tokens")) &&
           same_ids("input", b, len, json_get(want, "decoder_input_tokens")) &&
           same_ids("weights", c, len, json_get(want, "decoder_loss_weights")) &&
           (!only || same_ids("causal", d, len, json_get(want, "decoder_causal_attention")));
}

/* --- answers ------------------------------------------------------------------------------ */

static bool run_class(const struct jnode *in, const struct jnode *want)
{
    const char *classes[TASK_MAX_CLASSES + 1] = {0};
    const struct jnode *labels = json_get(in, "labels"), *text = json_get(in, "text");
    for (size_t i = 0; i < labels->children; i++)
        classes[i] = json_item(labels, i)->text;
    return same_number("class", (double)text_to_class(text->text, text->len, classes), want);
}

static bool run_float(const struct jnode *in, const struct jnode *want)
{
    return same_number("number", text_to_float(in->text, in->len), want);
}

static bool run_wsc(const struct jnode *in, const struct jnode *want)
{
    const struct jnode *p = json_get(in, "prediction"), *r = json_get(in, "referent");
    int64_t got;
    spt_err err;
    EXPECT_OK(text_same_referent(p->text, p->len, r->text, r->len, &got, &err), &err);
    return same_number("verdict", (double)got, want);
}

static bool run_multirc(const struct jnode *in, const struct jnode *want)
{
    const struct task *t = task_find(registry, "super_glue_multirc_v102");
    const struct jnode *p = json_get(in, "prediction"), *g = json_get(in, "target");
    struct task_value value;
    record example = {0}, scratch = {0};
    spt_err err;
    set_field(&example, "idx/question", json_get(in, "idx/question"));
    EXPECT_OK(task_answer(t, p->text, p->len, &example, false, &scratch, &value, &err), &err);
    bool ok = same_number("prediction", (double)value.label,
                          json_get(json_get(want, "prediction"), "value"));
    EXPECT_OK(task_answer(t, g->text, g->len, &example, true, &scratch, &value, &err), &err);
    ok &= same_number("target", (double)value.label, json_get(json_get(want, "target"), "value"));
    ok &= same_number("group", (double)value.group[0], json_get(json_get(want, "target"), "group"));
    record_release(&example);
    record_release(&scratch);
    return ok;
}

static bool run_translate(const struct jnode *in, const struct jnode *want)
{
    const struct task *t = task_find(registry, "glue_mrpc_from_qqp_v002");
    record example = {0}, scratch = {0};
    bool ok = true;
    for (size_t i = 0; i < in->children; i++) {
        const struct jnode *text = json_item(in, i);
        struct task_value value;
        spt_err err;
        EXPECT_OK(task_answer(t, text->text, text->len, &example, false, &scratch, &value, &err),
                  &err);
        ok &= same_text("text", value.text.s, value.text.len, json_item(want, i));
    }
    record_release(&scratch);
    return ok;
}

static bool run_strip(const struct jnode *in, const struct jnode *want)
{
    bool ok = true;
    for (size_t i = 0; i < in->children; i++) {
        const char *s = json_item(in, i)->text;
        size_t len = json_item(in, i)->len;
        text_strip_extra_id_0(&s, &len);
        ok &= same_text("text", s, len, json_item(want, i));
    }
    return ok;
}

/* --- metrics ------------------------------------------------------------------------------ */

struct scored {
    const struct jnode *want;
    size_t matched;
    bool ok;
};

static spt_status check_score(void *ctx, const char *key, double value, spt_err *err)
{
    struct scored *s = ctx;
    const struct jnode *want = json_get(s->want, key);
    if (!want)
        return SPT_OK; /* a task may report more than the vector's metric */
    s->matched++;
    s->ok &= same_number(key, value, want);
    return SPT_OK;
}

/* The task whose metrics include the vector's, and how its values are written. */
static struct task metric_task(const char *name)
{
    static const struct {
        const char *prefix;
        unsigned metrics;
        enum task_answer_kind answer;
        const char *config, *group;
    } rows[] = {
        {"accuracy", METRIC_ACCURACY, ANSWER_CLASS, "sst2", "glue"},
        {"f1_score_with_invalid", METRIC_F1, ANSWER_CLASS, "mrpc", "glue"},
        {"mean_multiclass_f1(3)", METRIC_MEAN_F1, ANSWER_CLASS, "cb", "super_glue"},
        {"matthews", METRIC_MATTHEWS, ANSWER_CLASS, "cola", "glue"},
        {"pearson", METRIC_PEARSON, ANSWER_FLOAT, "stsb", "glue"},
        {"spearman", METRIC_SPEARMAN, ANSWER_FLOAT, "stsb", "glue"},
        {"multirc", METRIC_MULTIRC, ANSWER_MULTIRC, "multirc", "super_glue"},
        {"squad", METRIC_SQUAD, ANSWER_QA, NULL, NULL},
        {"record", METRIC_RECORD, ANSWER_RECORD, "record", "super_glue"},
        {"rouge", METRIC_ROUGE, ANSWER_TEXT, NULL, NULL},
        {"rank_classification(num_classes=2)", METRIC_RANK, ANSWER_RANK, "sst2", "glue"},
        {"rank_classification(num_classes=2,", METRIC_RANK_NORMED, ANSWER_RANK, "sst2", "glue"},
        {"rank_classification(num_classes=3)", METRIC_RANK, ANSWER_RANK, "cb", "super_glue"},
        {"rank_classification(num_classes=None)", METRIC_RANK, ANSWER_RANK, NULL, NULL},
    };
    struct task t = {.name = name};
    for (size_t i = 0; i < sizeof rows / sizeof *rows && !t.metrics; i++) {
        if (strncmp(name, rows[i].prefix, strlen(rows[i].prefix)) != 0)
            continue;
        t.metrics = rows[i].metrics;
        t.answer = rows[i].answer;
        t.config = rows[i].config ? task_config_find(rows[i].group, rows[i].config) : NULL;
        t.text = strstr(name, "None") ? TEXT_RECORD_FIRST : TEXT_FIELDS;
    }
    return t;
}

static void read_value(const struct task *t, const struct jnode *n, bool target,
                       struct task_value *out, struct field_text *texts)
{
    *out = (struct task_value){.label = -1};
    const struct jnode *value = json_get(n, "value"), *group = json_get(n, "group");
    const struct jnode *v = value ? value : n;
    if (t->answer == ANSWER_RANK) {
        out->rank_index[0] = json_int(json_item(json_item(n, 0), 0));
        out->rank_index[1] = json_int(json_item(json_item(n, 0), 1));
        out->rank_correct = json_int(json_item(n, 1)) != 0;
        out->rank_length = json_int(json_item(n, 3));
        return;
    }
    if (v->kind == JSON_ARRAY) {
        for (size_t i = 0; i < v->children; i++)
            texts[i] = (struct field_text){json_item(v, i)->text, json_item(v, i)->len};
        out->texts = texts;
        out->text_count = v->children;
    } else if (v->kind == JSON_STRING) {
        out->text = (struct field_text){v->text, v->len};
    } else {
        out->label = json_int(v);
        out->number = json_number(v);
    }
    if (group && group->kind == JSON_ARRAY) {
        out->group[0] = json_int(json_item(group, 0));
        out->group[1] = json_int(json_item(group, 1));
    } else if (group) {
        out->group[0] = json_int(group);
    }
}

static bool run_bleu(const struct jnode *in, const struct jnode *want)
{
    struct text_ref target[8], prediction[8];
    struct text_refs refs[8];
    const struct jnode *t = json_get(in, "targets"), *p = json_get(in, "predictions");
    double got;
    spt_err err;
    for (size_t i = 0; i < t->children; i++) {
        target[i] = (struct text_ref){json_item(t, i)->text, json_item(t, i)->len};
        prediction[i] = (struct text_ref){json_item(p, i)->text, json_item(p, i)->len};
        refs[i] = (struct text_refs){&target[i], 1};
    }
    EXPECT_OK(metric_bleu(refs, prediction, t->children, &got, &err), &err);
    return same_number("bleu", got, json_get(want, "bleu"));
}

static bool run_metric(const struct jnode *in, const struct jnode *want)
{
    const char *name = json_get(in, "metric")->text;
    if (strcmp(name, "bleu") == 0)
        return run_bleu(in, want);
    static struct task_value target[64], prediction[64];
    static struct field_text texts[64][8];
    struct task t = metric_task(name);
    const struct jnode *targets = json_get(in, "targets"), *scores = json_get(in, "scores");
    const struct jnode *predictions = scores ? scores : json_get(in, "predictions");
    const size_t n = targets->children;
    if (!scores && targets->child->kind == JSON_STRING && t.answer == ANSWER_CLASS)
        t.answer = ANSWER_TEXT;
    for (size_t i = 0; i < n; i++) {
        read_value(&t, json_item(targets, i), true, &target[i], texts[i]);
        if (scores)
            prediction[i] = (struct task_value){.score = json_number(json_item(scores, i))};
        else
            read_value(&t, json_item(predictions, i), false, &prediction[i], texts[i + 32]);
    }
    struct scored s = {.want = want, .ok = true};
    spt_err err;
    EXPECT_OK(task_score(&t, target, prediction, n, check_score, &s, &err), &err);
    return s.ok && s.matched == want->children;
}

static bool run_squad_normal(const struct jnode *in, const struct jnode *want)
{
    buf b;
    spt_err err;
    buf_init(&b, 1 << 16);
    EXPECT_OK(metric_squad_normalize(in->text, in->len, &b, &err), &err);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

static bool run_trivia_normal(const struct jnode *in, const struct jnode *want)
{
    buf b;
    spt_err err;
    buf_init(&b, 1 << 16);
    EXPECT_OK(metric_trivia_normalize(in->text, in->len, &b, &err), &err);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

/* The tokens themselves are inside the metric: the text scores 100 against them, written out. */
static bool run_rouge_tokens(const struct jnode *in, const struct jnode *want)
{
    buf b;
    spt_err err;
    struct rouge_scores r;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < want->children; i++)
        buf_addf(&b, "%s%s", i ? " " : "", json_item(want, i)->text);
    const struct text_ref t = {in->text, in->len}, p = {buf_str(&b), b.len};
    EXPECT_OK(metric_rouge(&t, &p, 1, &r, &err), &err);
    buf_release(&b);
    return fabs(r.rouge1 - 100) < 1e-9 && fabs(r.rougeLsum - 100) < 1e-9;
}

static bool run_bleu_tokens(const struct jnode *in, const struct jnode *want)
{
    char a[200], b[200];
    spt_err err;
    double v;
    snprintf(a, sizeof a, "%s one two three four", in->text);
    snprintf(b, sizeof b, "%s one two three four", want->text);
    const struct text_ref t = {a, strlen(a)}, p = {b, strlen(b)};
    const struct text_refs refs = {&t, 1};
    EXPECT_OK(metric_bleu(&refs, &p, 1, &v, &err), &err);
    return fabs(v - 100) < 1e-9;
}

/* --- samples ------------------------------------------------------------------------------ */

static struct field_text text_of(const struct jnode *n)
{
    return (struct field_text){n->text, n->len};
}

static bool run_samples(const struct jnode *in, const struct jnode *want)
{
    struct text_example e[8];
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < in->children; i++) {
        const struct jnode *k = json_item(in, i);
        e[i] = (struct text_example){text_of(json_item(k, 0)), text_of(json_item(k, 1)),
                                     text_of(json_item(k, 2))};
    }
    EXPECT_OK(text_samples(e, in->children, &b, &err), &err);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

static bool run_qa_sample(const struct jnode *in, const struct jnode *want)
{
    const struct field_text c = text_of(json_get(in, "context")),
                            q = text_of(json_get(in, "question"));
    const struct field_text p = text_of(json_get(in, "prediction"));
    const struct jnode *answers = json_get(in, "answers");
    struct field_text a[8];
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    for (size_t i = 0; i < answers->children; i++)
        a[i] = text_of(json_item(answers, i));
    EXPECT_OK(text_qa_sample(&c, &q, a, answers->children, &p, &b, &err), &err);
    const bool ok = same_text("text", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

/* --- bytes -------------------------------------------------------------------------------- */

static size_t from_hex(const char *s, uint8_t *out)
{
    size_t n = 0;
    for (; s[0] && s[1]; s += 2) {
        const char two[3] = {s[0], s[1], 0};
        out[n++] = (uint8_t)strtoul(two, NULL, 16);
    }
    return n;
}

static bool same_hex(const char *what, const void *p, size_t n, const struct jnode *want)
{
    char hex[2048];
    for (size_t i = 0; i < n; i++)
        snprintf(hex + 2 * i, 3, "%02x", ((const uint8_t *)p)[i]);
    hex[2 * n] = 0;
    return same_text(what, hex, 2 * n, want);
}

static bool run_crc(const struct jnode *in, const struct jnode *want)
{
    uint8_t data[100];
    char text[16];
    const uint32_t crc = crc32c(data, from_hex(in->text, data));
    snprintf(text, sizeof text, "%08x", crc);
    if (!same_text("crc32c", text, 8, json_get(want, "crc32c")))
        return false;
    snprintf(text, sizeof text, "%08x", crc32c_mask(crc));
    return same_text("masked", text, 8, json_get(want, "masked"));
}

static bool run_frame(const struct jnode *in, const struct jnode *want)
{
    uint8_t data[100];
    buf b;
    buf_init(&b, 1 << 16);
    tfrecord_frame(&b, data, from_hex(in->text, data));
    const bool ok = same_hex("record", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

/* Written as wanted, and read back as it was. */
static bool run_example(const struct jnode *in, const struct jnode *want)
{
    record r = {0}, back = {0};
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    for (const struct jnode *n = in->child; n; n = n->next)
        set_field(&r, n->key, json_item(json_get(n, n->child->key), 0));
    EXPECT_OK(tf_example_write(&r, &b, &err), &err);
    bool ok = same_hex("message", buf_str(&b), b.len, want);
    EXPECT_OK(tf_example_read(buf_str(&b), b.len, &back, &err), &err);
    for (const struct jnode *n = in->child; n; n = n->next)
        ok &= same_field(n->key, &back, json_item(json_get(n, n->child->key), 0));
    record_release(&r);
    record_release(&back);
    buf_release(&b);
    return ok;
}

/* --- data sets ---------------------------------------------------------------------------- */

static bool run_write_order(const struct jnode *in, const struct jnode *want)
{
    const char *key[32];
    uint32_t which[32];
    spt_err err;
    const struct jnode *keys = json_get(in, "keys");
    for (size_t i = 0; i < keys->children; i++)
        key[i] = json_item(keys, i)->text;
    EXPECT_OK(tfds_write_order(json_get(in, "split")->text, key, keys->children, which, &err),
              &err);
    bool ok = keys->children == want->children;
    for (size_t i = 0; ok && i < want->children; i++)
        ok = which[i] == json_int(json_item(want, i));
    return ok;
}

static bool run_slice(const struct jnode *in, const struct jnode *want)
{
    const struct jnode *slices = json_get(in, "slices");
    bool ok = true;
    for (size_t i = 0; i < slices->children; i++) {
        uint64_t from, to;
        spt_err err;
        EXPECT_OK(tfds_slice(json_item(slices, i)->text,
                             (uint64_t)json_int(json_get(in, "num_examples")), &from, &to, &err),
                  &err);
        ok &= same_number("from", (double)from, json_item(json_item(want, i), 0));
        ok &= same_number("to", (double)to, json_item(json_item(want, i), 1));
    }
    return ok;
}

static bool run_tsv(const struct jnode *in, const struct jnode *want)
{
    glue_tsv *g;
    record r = {0};
    spt_err err;
    struct comparing c = {.want = want, .ok = true, .list = true};
    EXPECT_OK(glue_tsv_new(json_get(in, "config")->text, json_get(in, "split")->text, &g, &err),
              &err);
    for (const char *line = json_get(in, "text")->text; *line;) {
        const size_t n = strcspn(line, "\n");
        bool have;
        EXPECT_OK(glue_tsv_line(g, line, n, &r, &have, &err), &err);
        if (have)
            compare_record(&c, &r, &err);
        line += n + (line[n] == '\n');
    }
    glue_tsv_free(g);
    record_release(&r);
    return c.ok && c.seen == want->children;
}

static bool run_jsonl(const struct jnode *in, const struct jnode *want)
{
    const struct jnode *line = json_get(in, "line");
    spt_err err;
    struct comparing c = {.want = want, .ok = true, .list = want->kind == JSON_ARRAY};
    EXPECT_OK(super_glue_line(json_get(in, "config")->text, line->text, line->len, compare_record,
                              &c, &err),
              &err);
    return c.ok && c.seen == (c.list ? want->children : 1);
}

/* --- registry and files ------------------------------------------------------------------- */

static bool run_mapping(const struct jnode *in, const struct jnode *want)
{
    const char *name[32], *alias[32];
    int64_t number[32];
    spt_err err;
    const struct jnode *tasks = json_get(in, "tasks"), *aliases = json_get(in, "aliases");
    for (size_t i = 0; i < tasks->children; i++) {
        name[i] = json_item(tasks, i)->text;
        const struct jnode *a = json_get(aliases, name[i]);
        alias[i] = a ? a->text : NULL;
    }
    EXPECT_OK(task_mapping(name, alias, tasks->children, number, &err), &err);
    bool ok = true;
    for (size_t i = 0; i < tasks->children; i++)
        ok &= same_number(name[i], (double)number[i], json_get(want, name[i]));
    return ok;
}

static bool run_rate(const struct jnode *in, const struct jnode *want)
{
    return same_number("rate",
                       task_rate_num_examples(json_number(json_get(in, "num_examples")),
                                              json_number(json_get(in, "maximum")),
                                              json_number(json_get(in, "temperature")),
                                              json_number(json_get(in, "scale"))),
                       want);
}

static bool run_metrics_line(const struct jnode *in, const struct jnode *want)
{
    struct metric_entry e[8];
    size_t n = 0;
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    for (const struct jnode *k = json_get(in, "metrics")->child; k; k = k->next, n++) {
        const bool text = k->kind == JSON_STRING && strcmp(k->text, "nan") != 0;
        e[n] = (struct metric_entry){k->key, text ? k->text : NULL, json_number(k)};
    }
    EXPECT_OK(metrics_line(json_int(json_get(in, "step")), e, n, &b, &err), &err);
    const bool ok = same_text("line", buf_str(&b), b.len - 1, want);
    buf_release(&b);
    return ok;
}

static bool run_names(const struct jnode *in, const struct jnode *want)
{
    bool ok = true;
    const struct jnode *steps = json_get(in, "steps");
    for (size_t i = 0; i < steps->children; i++) {
        buf b;
        spt_err err;
        buf_init(&b, 1000);
        EXPECT_OK(
            inference_name(json_get(in, "task")->text, json_int(json_item(steps, i)), &b, &err),
            &err);
        ok &= same_text("name", buf_str(&b), b.len, json_item(want, i));
        buf_release(&b);
    }
    return ok;
}

static bool run_inference_line(const struct jnode *in, const struct jnode *want)
{
    record r = {0};
    spt_err err;
    buf b;
    buf_init(&b, 1 << 16);
    set_fields(&r, json_get(in, "input"));
    const struct jnode *output = json_get(in, "output");
    const struct inference_line l = {.input = &r,
                                     .target = json_get(in, "target")->text,
                                     .output = output->text,
                                     .output_len = output->len,
                                     .prediction = json_get(in, "prediction")->text};
    EXPECT_OK(inference_line_write(&l, &b, &err), &err);
    const bool ok = same_text("line", buf_str(&b), b.len - 1, want);
    record_release(&r);
    buf_release(&b);
    return ok;
}

static bool run_summary(const struct jnode *in, const struct jnode *want)
{
    int64_t v[64];
    size_t n = 0;
    spt_err err;
    buf b;
    buf_init(&b, 1000);
    for (const struct jnode *k = json_get(in, "int32_array")->child; k; k = k->next)
        v[n++] = json_int(k);
    EXPECT_OK(ndarray_summary(v, n, &b, &err), &err);
    const bool ok = same_text("summary", buf_str(&b), b.len, want);
    buf_release(&b);
    return ok;
}

static bool same_digest(const char *what, const buf *names, const struct jnode *want)
{
    uint8_t d[SHA256_SIZE];
    sha256_of(buf_str(names), names->len, d);
    return same_hex(what, d, sizeof d, want);
}

static bool run_registry(const struct jnode *in, const struct jnode *want)
{
    static const char *const modules[] = {"t5", "data", "spot", "recycling", "perceptron"};
    const char *module = json_get(in, "module")->text;
    size_t m = 0, tasks = 0, mixtures = 0;
    while (strcmp(modules[m], module) != 0)
        m++;
    buf t, x;
    buf_init(&t, 1 << 20);
    buf_init(&x, 1 << 20);
    for (size_t i = 0; i < task_count(registry); i++)
        if ((size_t)task_at(registry, i)->module == m)
            buf_addf(&t, "%s%s", tasks++ ? "\n" : "", task_at(registry, i)->name);
    for (size_t i = 0; i < mixture_count(registry); i++)
        if ((size_t)mixture_at(registry, i)->module == m)
            buf_addf(&x, "%s%s", mixtures++ ? "\n" : "", mixture_at(registry, i)->name);
    bool ok = same_number("tasks", (double)tasks, json_get(want, "tasks"));
    ok &= same_number("mixtures", (double)mixtures, json_get(want, "mixtures"));
    ok &= same_digest("tasks", &t, json_get(want, "tasks_sha256"));
    ok &= same_digest("mixtures", &x, json_get(want, "mixtures_sha256"));
    buf_release(&t);
    buf_release(&x);
    return ok;
}

/* --- noise and orders --------------------------------------------------------------------- */

static bool run_sentinels(const struct jnode *in, const struct jnode *want)
{
    int32_t token[32], mask_ids[32], out[32];
    bool mask[32];
    const size_t n = read_ids(json_get(in, "tokens"), token);
    read_ids(json_get(in, "mask"), mask_ids);
    for (size_t i = 0; i < n; i++)
        mask[i] = mask_ids[i] != 0;
    const int32_t size = (int32_t)json_int(json_get(in, "vocab_size"));
    size_t k = noise_to_sentinels(token, mask, n, true, size, out);
    if (!same_ids("inputs", out, k, json_get(want, "inputs")))
        return false;
    k = noise_to_sentinels(token, mask, n, false, size, out);
    return same_ids("targets", out, k, json_get(want, "nonnoise_span_to_unique_sentinel"));
}

static bool run_prefix(const struct jnode *in, const struct jnode *want)
{
    int32_t token[32], out[32];
    bool mask[32];
    const size_t n = read_ids(json_get(in, "tokens"), token);
    for (size_t i = 0; i < n; i++)
        mask[i] = i < (size_t)json_int(json_get(in, "num_input_tokens"));
    size_t k = noise_keep(token, mask, n, true, out);
    if (!same_ids("inputs", out, k, json_get(want, "inputs")))
        return false;
    k = noise_keep(token, mask, n, false, out);
    return same_ids("targets", out, k, json_get(want, "targets"));
}

static bool run_span_lengths(const struct jnode *in, const struct jnode *want)
{
    int64_t tokens, targets;
    noise_span_lengths(json_int(json_get(in, "inputs_length")),
                       json_number(json_get(in, "noise_density")),
                       json_number(json_get(in, "mean_noise_span_length")), &tokens, &targets);
    return same_number("tokens", (double)tokens, json_item(want, 0)) &&
           same_number("targets", (double)targets, json_item(want, 1));
}

/* One epoch of shuffling the elements of a list. */
static bool shuffle_epoch_equals(tf_shuffle *s, const struct jnode *elements,
                                 const struct jnode *want)
{
    size_t at = 0, got = 0;
    uint64_t e;
    bool ok = true;
    for (;;) {
        while (at < elements->children && tf_shuffle_wants(s))
            tf_shuffle_push(s, (uint64_t)json_int(json_item(elements, at++)));
        if (!tf_shuffle_pop(s, &e))
            break;
        ok &= same_number("element", (double)e, json_item(want, got++));
    }
    return ok && got == want->children;
}

static bool run_shuffle(const struct jnode *in, const struct jnode *want)
{
    tf_shuffle *s;
    spt_err err;
    uint32_t values[32];
    size_t n = 0;
    EXPECT_OK(tf_shuffle_new((size_t)json_int(json_get(in, "buffer_size")),
                             json_int(json_get(in, "seed")), &s, &err),
              &err);
    for (const struct jnode *k =
             json_get(json_get(in, "random_values") ? in : NULL, "random_values")
                 ? json_get(in, "random_values")->child
                 : NULL;
         k; k = k->next)
        values[n++] = (uint32_t)json_int(k);
    if (n)
        tf_shuffle_use_values(s, values, n);
    const struct jnode *elements = json_get(in, "elements"), *epochs = json_get(in, "epochs");
    bool ok = true;
    for (size_t i = 0; i < (epochs ? (size_t)json_int(epochs) : 1); i++) {
        if (i)
            tf_shuffle_restart(s);
        ok &= shuffle_epoch_equals(s, elements, epochs ? json_item(want, i) : want);
    }
    tf_shuffle_free(s);
    return ok;
}

struct interleaving {
    const struct jnode *files, *want;
    size_t seen;
    bool ok;
};

static spt_status check_interleave(void *ctx, size_t file, uint64_t at, spt_err *err)
{
    struct interleaving *i = ctx;
    i->ok &= same_number("record", json_number(json_item(json_item(i->files, file), at)),
                         json_item(i->want, i->seen++));
    return SPT_OK;
}

static bool run_interleave(const struct jnode *in, const struct jnode *want)
{
    struct interleaving i = {json_get(in, "files"), want, 0, true};
    uint64_t count[16];
    spt_err err;
    for (size_t k = 0; k < i.files->children; k++)
        count[k] = json_item(i.files, k)->children;
    EXPECT_OK(
        tf_interleave(count, i.files->children, (size_t)json_int(json_get(in, "cycle_length")),
                      (size_t)json_int(json_get(in, "block_length")), check_interleave, &i, &err),
        &err);
    return i.ok && i.seen == want->children;
}

static bool run_choices(const struct jnode *in, const struct jnode *want)
{
    const struct jnode *weights = json_get(in, "weights");
    double w[8];
    tf_choices c;
    bool ok = true;
    for (size_t i = 0; i < weights->children; i++)
        w[i] = json_number(json_item(weights, i));
    tf_choices_init(&c, json_int(json_get(in, "seed")));
    for (size_t i = 0; i < want->children; i++)
        ok &= same_number("choice", (double)tf_choices_next(&c, w, weights->children),
                          json_item(want, i));
    return ok;
}

static bool run_philox(const struct jnode *in, const struct jnode *want)
{
    uint32_t counter[4], key[2], out[4];
    for (size_t i = 0; i < 4; i++)
        counter[i] = (uint32_t)json_int(json_item(json_get(in, "counter"), i));
    for (size_t i = 0; i < 2; i++)
        key[i] = (uint32_t)json_int(json_item(json_get(in, "key"), i));
    philox_block(counter, key, out);
    bool ok = true;
    for (size_t i = 0; i < 4; i++) {
        char text[16];
        snprintf(text, sizeof text, "%08x", out[i]);
        ok &= same_text("word", text, 8, json_item(want, i));
    }
    return ok;
}

/* --- the loop ----------------------------------------------------------------------------- */

static const struct {
    const char *kind;
    bool (*run)(const struct jnode *in, const struct jnode *want);
    bool needs_t5;
} kinds[] = {
    {"format", run_format, false},
    {"pad_punctuation", run_pad, false},
    {"remove_first_text_token", run_drop, false},
    {"t5_encode", run_t5_encode, true},
    {"t5_decode", run_t5_decode, true},
    {"byte_encode", run_byte_encode, false},
    {"byte_decode", run_byte_decode, false},
    {"pipeline", run_pipeline, true},
    {"encdec", run_features, false},
    {"lm", run_features, false},
    {"prefixlm", run_features, false},
    {"string_label_to_class_id", run_class, false},
    {"string_to_float", run_float, false},
    {"wsc_simple_post", run_wsc, false},
    {"multirc_post", run_multirc, false},
    {"qqp_to_mrpc", run_translate, false},
    {"remove_extra_id_0", run_strip, false},
    {"metric", run_metric, false},
    {"normalize_squad", run_squad_normal, false},
    {"normalize_trivia_qa", run_trivia_normal, false},
    {"rouge_tokenize", run_rouge_tokens, false},
    {"bleu_intl_tokenize", run_bleu_tokens, false},
    {"format_classification", run_samples, false},
    {"format_qa", run_qa_sample, false},
    {"masked_crc32c", run_crc, false},
    {"tfrecord_frame", run_frame, false},
    {"tf_example_wire", run_example, false},
    {"tfds_write_order", run_write_order, false},
    {"tfds_slice", run_slice, false},
    {"philox4x32_10", run_philox, false},
    {"task_mapping", run_mapping, false},
    {"rate_num_examples", run_rate, false},
    {"metrics_jsonl_line", run_metrics_line, false},
    {"inference_filename", run_names, false},
    {"inference_jsonl_line", run_inference_line, false},
    {"ndarray_summary", run_summary, false},
    {"noise_span_to_unique_sentinel", run_sentinels, false},
    {"prefix_lm_split", run_prefix, false},
    {"random_spans_helper", run_span_lengths, false},
    {"shuffle_buffer", run_shuffle, false},
    {"tf_shuffle_order", run_shuffle, false},
    {"interleave", run_interleave, false},
    {"tf_mixture_choices", run_choices, false},
    {"glue_tsv", run_tsv, false},
    {"super_glue_jsonl", run_jsonl, false},
    {"registry_digest", run_registry, false},
};

static void every_vector(void **state)
{
    char *text;
    size_t size, ran = 0, skipped = 0, failed = 0;
    spt_err err;
    EXPECT_OK(fs_read_all("tests/fixtures/data_vectors.jsonl", 1 << 20, &text, &size, &err), &err);
    for (char *line = text, *next; *line; line = next) {
        next = line + strcspn(line, "\n");
        struct jnode *v = json_tree(line, (size_t)(next - line));
        next += *next == '\n';
        const char *kind = json_get(v, "kind")->text;
        size_t k = 0;
        while (k < sizeof kinds / sizeof *kinds && strcmp(kinds[k].kind, kind) != 0)
            k++;
        if (k == sizeof kinds / sizeof *kinds)
            fail_msg("%s: no test for vectors of kind %s", json_get(v, "id")->text, kind);
        if (kinds[k].needs_t5 && !t5) {
            skipped++;
        } else if (ran++, !kinds[k].run(json_get(v, "input"), json_get(v, "expect"))) {
            print_message("%s (%s) differs\n", json_get(v, "id")->text, kind);
            failed++;
        }
        json_tree_free(v);
    }
    print_message("golden: data vectors: %zu of 220 ran, %zu need the T5 vocabulary, %zu differ\n",
                  ran, skipped, failed);
    EXPECT_EQ_I64(ran + skipped, 220);
    EXPECT_EQ_I64(failed, 0);
    mem_free(text);
}

static int open_all(void **state)
{
    spt_err err;
    const char *shared = test_shared_dir();
    struct vocab_opts o;
    vocab_opts_init(&o);
    EXPECT_OK(task_registry_new(&registry, &err), &err);
    o.rule = VOCAB_BYTES;
    EXPECT_OK(vocab_open("bytes", &o, &bytes, &err), &err);
    if (!shared)
        return 0;
    vocab_opts_init(&o);
    o.rule = VOCAB_SEQIO;
    if (vocab_open(test_path(shared, "data/upstream/t5_vocab"), &o, &t5, &err))
        t5 = NULL;
    return 0;
}

static int close_all(void **state)
{
    vocab_close(t5);
    vocab_close(bytes);
    task_registry_free(registry);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(every_vector)};
    return cmocka_run_group_tests(tests, open_all, close_all);
}
