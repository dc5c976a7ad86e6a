/* Every task and mixture of the upstream tree, spelled out from a few tables: configurations, name
 * patterns, members. The digests of spec/data.md (names sorted and hashed) are the test. */
#include <stdio.h>
#include <string.h>

#include "task/registry_internal.h"

/* --- configurations ----------------------------------------------------------------------- */

// clang-format off
#define ENTAIL {"entailment", "not_entailment"}
#define NLI3 {"entailment", "neutral", "contradiction"}

/* GLUE in the order of the reference, then SuperGLUE. */
static const struct task_config glue[] = {
    {.name = "cola", .prefix = "cola", .field = {"sentence"},
     .classes = {"unacceptable", "acceptable"}, .metrics = METRIC_MATTHEWS},
    {.name = "sst2", .prefix = "sst2", .field = {"sentence"}, .classes = {"negative", "positive"},
     .metrics = METRIC_ACCURACY},
    {.name = "mrpc", .prefix = "mrpc", .field = {"sentence1", "sentence2"},
     .classes = {"not_equivalent", "equivalent"}, .metrics = METRIC_F1 | METRIC_ACCURACY},
    {.name = "qqp", .prefix = "qqp", .field = {"question1", "question2"},
     .classes = {"not_duplicate", "duplicate"}, .metrics = METRIC_F1 | METRIC_ACCURACY},
    {.name = "stsb", .prefix = "stsb", .field = {"sentence1", "sentence2"},
     .metrics = METRIC_PEARSON | METRIC_SPEARMAN, .answer = ANSWER_FLOAT},
    {.name = "mnli", .prefix = "mnli", .field = {"hypothesis", "premise"}, .classes = NLI3,
     .metrics = METRIC_ACCURACY},
    {.name = "mnli_mismatched", .prefix = "mnli", .field = {"hypothesis", "premise"},
     .classes = NLI3, .metrics = METRIC_ACCURACY},
    {.name = "mnli_matched", .prefix = "mnli", .field = {"hypothesis", "premise"}, .classes = NLI3,
     .metrics = METRIC_ACCURACY},
    {.name = "qnli", .prefix = "qnli", .field = {"question", "sentence"}, .classes = ENTAIL,
     .metrics = METRIC_ACCURACY},
    {.name = "rte", .prefix = "rte", .field = {"sentence1", "sentence2"}, .classes = ENTAIL,
     .metrics = METRIC_ACCURACY},
    {.name = "wnli", .prefix = "wnli", .field = {"sentence1", "sentence2"},
     .classes = {"not_entailment", "entailment"}, .metrics = METRIC_ACCURACY},
    {.name = "ax", .prefix = "mnli", .field = {"hypothesis", "premise"}, .classes = NLI3},
};

static const struct task_config super_glue[] = {
    {.name = "boolq", .prefix = "boolq", .field = {"passage", "question"},
     .classes = {"False", "True"}, .metrics = METRIC_ACCURACY},
    {.name = "cb", .prefix = "cb", .field = {"hypothesis", "premise"},
     .classes = {"entailment", "contradiction", "neutral"},
     .metrics = METRIC_MEAN_F1 | METRIC_ACCURACY},
    {.name = "copa", .prefix = "copa", .field = {"choice1", "choice2", "premise", "question"},
     .classes = {"choice1", "choice2"}, .metrics = METRIC_ACCURACY},
    {.name = "multirc", .prefix = "multirc", .field = {"question", "answer", "paragraph"},
     .classes = {"False", "True"}, .metrics = METRIC_MULTIRC, .answer = ANSWER_MULTIRC},
    {.name = "record", .prefix = "record", .metrics = METRIC_RECORD, .answer = ANSWER_RECORD},
    {.name = "rte", .prefix = "rte", .field = {"hypothesis", "premise"}, .classes = ENTAIL,
     .metrics = METRIC_ACCURACY},
    {.name = "wic", .prefix = "wic", .field = {"sentence1", "sentence2", "word"},
     .classes = {"False", "True"}, .metrics = METRIC_ACCURACY},
    {.name = "axb", .prefix = "rte", .field = {"sentence2", "sentence1"},
     .shown = {"hypothesis", "premise"}, .classes = ENTAIL},
    {.name = "axg", .prefix = "rte", .field = {"hypothesis", "premise"}, .classes = ENTAIL},
};

static const struct task_config nli_sets[] = {
    {.name = "anli_r1", .field = {"hypothesis", "context"}, .classes = NLI3},
    {.name = "anli_r2", .field = {"hypothesis", "context"}, .classes = NLI3},
    {.name = "anli_r3", .field = {"hypothesis", "context"}, .classes = NLI3},
    {.name = "doc_nli", .field = {"hypothesis", "premise"},
     .classes = {"not_entailment", "entailment"}},
    {.name = "snli", .field = {"hypothesis", "premise"}, .classes = NLI3},
};
// clang-format on

#define COUNT(a) (sizeof(a) / sizeof *(a))

static const struct task_config *find_config(const struct task_config *set, size_t n,
                                             const char *name)
{
    for (size_t i = 0; i < n; i++)
        if (strcmp(set[i].name, name) == 0)
            return &set[i];
    return NULL;
}

static const struct task_config *glue_config(const char *name)
{
    return find_config(glue, COUNT(glue), name);
}

static const struct task_config *super_glue_config(const char *name)
{
    return find_config(super_glue, COUNT(super_glue), name);
}

const struct task_config *task_config_find(const char *group, const char *name)
{
    return strcmp(group, "glue") == 0         ? glue_config(name)
           : strcmp(group, "super_glue") == 0 ? super_glue_config(name)
                                              : NULL;
}

/* --- splits ------------------------------------------------------------------------------- */

static const struct task_split only_test[] = {{"test", "test"}};
static const struct task_split only_train[] = {{"train", "train"}};
static const struct task_split only_validation[] = {{"validation", "validation"}};
static const struct task_split validation_test[] = {{"validation", "validation"}, {"test", "test"}};
static const struct task_split train_test[] = {{"train", "train"}, {"test", "test"}};
static const struct task_split test_as_validation[] = {{"validation", "test"}};

/* --- GLUE and SuperGLUE ------------------------------------------------------------------- */

static struct task classification(struct task_builder *b, const struct task_config *k,
                                  const char *dataset)
{
    struct task t = {.module = MODULE_DATA,
                     .config = k,
                     .text = TEXT_FIELDS,
                     .sentinel = -1,
                     .cached = true,
                     .answer = k->answer ? k->answer : ANSWER_CLASS,
                     .metrics = k->metrics,
                     .text_negatives = true};
    if (strcmp(k->name, "stsb") == 0)
        t.text = TEXT_STSB;
    if (strcmp(k->name, "record") == 0)
        t.text = TEXT_RECORD;
    if (strncmp(k->name, "ax", 2) == 0) {
        t.split = only_test;
        t.splits = 1;
    }
    t.dataset = registry_keep_text(b->r, dataset);
    if (!t.dataset)
        b->st = SPT_E_NOMEM;
    return t;
}

/* The plain form of t5, the _examples form, and the taskless and task_index forms with and without
 * _examples. */
static void forms(struct task_builder *b, struct task t, const char *name, const char *metric,
                  int index,
                  bool plain_examples)
{
    for (int e = 0; e < 2; e++) {
        struct task k = t;
        k.examples = e;
        k.text_metric = e ? metric : NULL;
        const char *suffix = e ? "_examples" : "";
        if (e && plain_examples)
            task_add(b, &k, "%s%s", name, suffix);
        k.drop_first = true;
        task_add(b, &k, "taskless_%s%s", name, suffix);
        k.sentinel = index;
        task_add(b, &k, "task_index_%s%s", name, suffix);
    }
}

static const int glue_index[] = {0, 6, 2, 4, 7, 1, 1, 1, 3, 5, 8, 1};
static const int super_glue_index[] = {0, 1, 2, 3, 4, 5, 6, 5, 5};

static void add_glue(struct task_builder *b)
{
    static const struct {
        const char *tag, *version;
    } versions[] = {{"v002", "1.0.0"}, {"v200", "2.0.0"}};
    for (size_t v = 0; v < 2; v++) {
        const char *tag = versions[v].tag;
        for (size_t i = 0; i < COUNT(glue); i++) {
            char name[TASK_NAME], dataset[TASK_NAME];
            snprintf(name, sizeof name, "glue_%s_%s", glue[i].name, tag);
            snprintf(dataset, sizeof dataset, "glue/%s:%s", glue[i].name, versions[v].version);
            struct task t = classification(b, &glue[i], dataset);
            forms(b, t, name, glue[i].name, glue_index[i], true);
            t.module = MODULE_T5;
            if (v == 0)
                task_add(b, &t, "%s", name);
        }
        struct task_members m = {0};
        task_member(&m, 1, "glue_mnli_%s_examples", tag);
        task_member(&m, 1, "glue_mnli_mismatched_%s_examples", tag);
        task_member(&m, 1, "glue_mnli_matched_%s_examples", tag);
        task_mix(b, MODULE_DATA, m.item, m.n, "glue_mnli_and_dev_%s_examples", tag);
        task_mix(b, MODULE_DATA, m.item, m.n, "taskless_glue_mnli_and_dev_%s_examples", tag);
        task_mix(b, MODULE_DATA, m.item, m.n, "task_index_glue_mnli_and_dev_%s_examples", tag);
    }
    static const struct task_named_rate proportional[] = {
        {"glue_cola_v002", 8551},      {"glue_sst2_v002", 67349}, {"glue_mrpc_v002", 3668},
        {"glue_qqp_v002", 363849},     {"glue_stsb_v002", 5749},  {"glue_mnli_v002", 392702},
        {"glue_qnli_v002", 104743},    {"glue_rte_v002", 2490},   {"glue_mnli_mismatched_v002", 0},
        {"glue_mnli_matched_v002", 0}, {"glue_ax_v002", 0}};
    task_mix(b, MODULE_T5, proportional, COUNT(proportional), "glue_v002_proportional");
}

static void add_wsc(struct task_builder *b)
{
    struct task t = {.module = MODULE_DATA,
                     .dataset = "super_glue/wsc.fixed:1.0.2",
                     .split = validation_test,
                     .splits = 2,
                     .text = TEXT_WSC,
                     .sentinel = -1,
                     .cached = true,
                     .answer = ANSWER_WSC,
                     .metrics = METRIC_ACCURACY,
                     .text_negatives = true};
    struct task train = t;
    train.split = only_train;
    train.splits = 1;
    train.positive_only = true;
    train.answer = ANSWER_NONE;
    train.metrics = 0;
    forms(b, t, "super_glue_wsc_v102_simple_eval", "wsc", 7, true);
    forms(b, train, "super_glue_wsc_v102_simple_train", NULL, 7, false);
    t.module = train.module = MODULE_T5;
    task_add(b, &t, "super_glue_wsc_v102_simple_eval");
    task_add(b, &train, "super_glue_wsc_v102_simple_train");
    static const struct task_named_rate plain[] = {{"super_glue_wsc_v102_simple_train", 1},
                                              {"super_glue_wsc_v102_simple_eval_examples", 1}};
    task_mix(b, MODULE_DATA, plain, 2, "super_glue_wsc_and_dev_v102_simple_examples");
    static const char *const kinds[] = {"taskless_", "task_index_"};
    static const char *const suffix[] = {"", "_examples"};
    for (size_t k = 0; k < 2; k++)
        for (size_t e = 0; e < 2; e++) {
            struct task_members m = {0};
            task_member(&m, 1, "%ssuper_glue_wsc_v102_simple_train%s", kinds[k], suffix[e]);
            task_member(&m, 1, "%ssuper_glue_wsc_v102_simple_eval%s", kinds[k], suffix[e]);
            task_mix(b, MODULE_DATA, m.item, m.n, "%ssuper_glue_wsc_and_dev_v102_simple%s", kinds[k],
                suffix[e]);
        }
}

static void add_dpr(struct task_builder *b)
{
    struct task t = {.module = MODULE_DATA,
                     .dataset = "definite_pronoun_resolution:1.1.0",
                     .split = train_test,
                     .splits = 2,
                     .text = TEXT_DPR,
                     .sentinel = -1,
                     .sentinel_late = true,
                     .cached = true,
                     .answer = ANSWER_TEXT,
                     .metrics = METRIC_ACCURACY,
                     .text_negatives = true};
    forms(b, t, "dpr_v001_simple", "dpr", 7, false);
    t.module = MODULE_T5;
    task_add(b, &t, "dpr_v001_simple");
}

static void add_super_glue(struct task_builder *b)
{
    for (size_t i = 0; i < COUNT(super_glue); i++) {
        char name[TASK_NAME], dataset[TASK_NAME];
        snprintf(name, sizeof name, "super_glue_%s_v102", super_glue[i].name);
        snprintf(dataset, sizeof dataset, "super_glue/%s:1.0.2", super_glue[i].name);
        struct task t = classification(b, &super_glue[i], dataset);
        forms(b, t, name, super_glue[i].name, super_glue_index[i], true);
        t.module = MODULE_T5;
        task_add(b, &t, "%s", name);
    }
    add_dpr(b);
    add_wsc(b);
    static const struct task_named_rate proportional[] = {{"dpr_v001_simple", 1322},
                                                     {"super_glue_wsc_v102_simple_train", 259},
                                                     {"super_glue_wsc_v102_simple_eval", 0},
                                                     {"super_glue_boolq_v102", 9427},
                                                     {"super_glue_cb_v102", 250},
                                                     {"super_glue_copa_v102", 400},
                                                     {"super_glue_multirc_v102", 27243},
                                                     {"super_glue_record_v102", 138854},
                                                     {"super_glue_rte_v102", 2490},
                                                     {"super_glue_wic_v102", 5428},
                                                     {"super_glue_axb_v102", 0},
                                                     {"super_glue_axg_v102", 0}};
    task_mix(b, MODULE_T5, proportional, COUNT(proportional), "super_glue_v102_proportional");
    if (b->vocabulary != TASK_T5)
        return;
    static const struct task_named_rate weighted[] = {
        {"task_index_super_glue_wsc_v102_simple_train", 259},
        {"task_index_super_glue_wsc_v102_simple_eval_examples", 0},
        {"task_index_super_glue_boolq_v102_examples", 9427},
        {"task_index_super_glue_cb_v102_examples", 250},
        {"task_index_super_glue_copa_v102_examples", 400},
        {"task_index_super_glue_multirc_v102_examples", 27243},
        {"task_index_super_glue_record_v102_examples", 138854},
        {"task_index_super_glue_rte_v102_examples", 2490},
        {"task_index_super_glue_wic_v102_examples", 5428},
        {"task_index_dpr_v001_simple_examples", 1322}};
    task_mix(b, MODULE_DATA, weighted, COUNT(weighted) - 1,
        "task_index_super_glue_v102_examples_proportional");
    task_mix(b, MODULE_DATA, weighted, COUNT(weighted),
        "task_index_super_glue_with_dpr_v102_examples_proportional");
}

/* --- transfer between GLUE tasks ---------------------------------------------------------- */

static void add_transfer(struct task_builder *b)
{
    static const char *const kinds[] = {"", "taskless_", "task_index_"};
    static const struct {
        const char *src, *tgt, *from, *to;
        int index;
    } pairs[] = {{"qqp", "mrpc", "duplicate", "equivalent", 2},
                 {"mrpc", "qqp", "equivalent", "duplicate", 4}};
    for (size_t i = 0; i < 2; i++)
        for (size_t k = 0; k < 3; k++)
            for (int e = 0; e < 2; e++) {
                const char *suffix = e ? "_examples" : "", *src = pairs[i].src, *tgt = pairs[i].tgt;
                char dataset[TASK_NAME];
                snprintf(dataset, sizeof dataset, "glue/%s:1.0.0", tgt);
                struct task t = classification(b, glue_config(tgt), dataset);
                t.split = only_validation;
                t.splits = 1;
                t.drop_first = k > 0;
                t.sentinel = k == 2 ? pairs[i].index : -1;
                t.translate_from = pairs[i].from;
                t.translate_to = pairs[i].to;
                t.examples = e;
                t.text_metric = e ? tgt : NULL;
                task_add(b, &t, "%sglue_%s_from_%s_v002%s", kinds[k], tgt, src, suffix);
                struct task_members m = {0};
                task_member(&m, 1, "%sglue_%s_v002%s", kinds[k], src, suffix);
                task_member(&m, 1, "%sglue_%s_from_%s_v002%s", kinds[k], tgt, src, suffix);
                task_mix(b, MODULE_DATA, m.item, m.n, "%sglue_%s_from_%s_zeroshot_v002%s", kinds[k], tgt,
                    src, suffix);
            }
}

/* --- questions, summaries, C4 ------------------------------------------------------------- */

static struct task question_task(struct task_builder *b, enum task_text_kind text,
                                 const char *dataset)
{
    struct task t = {.module = MODULE_DATA,
                     .text = text,
                     .sentinel = -1,
                     .cached = true,
                     .answer = ANSWER_QA,
                     .metrics = METRIC_SQUAD,
                     .text_negatives = true};
    t.dataset = registry_keep_text(b->r, dataset);
    if (!t.dataset)
        b->st = SPT_E_NOMEM;
    return t;
}

static void add_questions(struct task_builder *b)
{
    static const char *const ood[] = {"bio_asq",    "drop", "duo_rc", "race", "relation_extraction",
                                      "textbook_qa"};
    static const char *const id[] = {"news_qa", "trivia_qa", "search_qa", "hotpot_qa",
                                     "natural_questions"};
    struct task t = question_task(b, TEXT_SQUAD, "squad/v1.1:3.0.0");
    if (b->vocabulary == TASK_T5) {
        struct task plain = t;
        plain.module = MODULE_T5;
        task_add(b, &plain, "squad_v010_allanswers");
    }
    t.examples = true;
    t.text_metric = "squad";
    task_add(b, &t, "squad_v010_allanswers_examples");
    struct task_members all = {0};
    task_member(&all, 1, "squad_v010_allanswers_examples");
    for (size_t i = 0; i < COUNT(ood) + COUNT(id); i++) {
        const bool out = i < COUNT(ood);
        const char *name = out ? ood[i] : id[i - COUNT(ood)];
        char dataset[TASK_NAME];
        snprintf(dataset, sizeof dataset, "mrqa/%s:1.0.0", name);
        t = question_task(b, TEXT_MRQA, dataset);
        t.examples = true;
        t.text_metric = name;
        t.split = out ? test_as_validation : NULL;
        t.splits = out;
        task_add(b, &t, "mrqa_%s_v100_examples", name);
        if (!out)
            continue;
        struct task_members m = {0};
        task_member(&m, 1, "squad_v010_allanswers_examples");
        task_member(&m, 1, "mrqa_%s_v100_examples", name);
        task_member(&all, 1, "mrqa_%s_v100_examples", name);
        task_mix(b, MODULE_DATA, m.item, m.n, "squad_to_%s_examples", name);
    }
    task_mix(b, MODULE_DATA, all.item, all.n, "squad_to_mrqa_examples");
}

static struct task summary_task(enum task_text_kind text, const char *dataset, const char *from,
                                const char *to)
{
    return (struct task){.module = MODULE_DATA,
                         .text = text,
                         .dataset = dataset,
                         .from = from,
                         .to = to,
                         .sentinel = -1,
                         .cached = true,
                         .answer = ANSWER_TEXT,
                         .metrics = METRIC_ROUGE};
}

static void add_summaries(struct task_builder *b)
{
    struct task x = summary_task(TEXT_SUMMARY, "xsum:1.1.0", "document", "summary");
    struct task c = summary_task(TEXT_SUMMARY, "cnn_dailymail:3.1.0", "article", "highlights");
    x.examples = c.examples = true;
    x.text_metric = "xsum";
    c.text_metric = "cnn_dailymail";
    task_add(b, &x, "xsum_v110_examples");
    task_add(b, &c, "cnn_dailymail_v310_examples");
    if (b->vocabulary != TASK_T5)
        return;
    c = summary_task(TEXT_SUMMARY, "cnn_dailymail:3.4.0", "article", "highlights");
    c.module = MODULE_T5;
    task_add(b, &c, "cnn_dailymail_v002");
}

static void add_c4(struct task_builder *b)
{
    static const struct {
        const char *name;
        enum task_noise noise;
        enum task_module module;
    } rows[] = {{"c4_v220_bart_text_infilling", NOISE_TEXT_INFILLING, MODULE_DATA},
                {"c4_v220_bart_token_deletion", NOISE_TOKEN_DELETION, MODULE_DATA},
                {"c4_v220_prefix_lm", NOISE_PREFIX_LM, MODULE_T5},
                {"c4_v220_span_corruption", NOISE_SPAN_CORRUPTION, MODULE_T5},
                {"c4_v220_random_positive_negative_targets", NOISE_RANDOM_LABEL, MODULE_RECYCLING}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        const struct task t = {.module = rows[i].module,
                               .dataset = "c4/en:2.2.0",
                               .text = TEXT_PLAIN,
                               .sentinel = -1,
                               .cached = true,
                               .noise = rows[i].noise,
                               .answer = ANSWER_NONE};
        task_add(b, &t, "%s", rows[i].name);
    }
}

/* --- SPoT --------------------------------------------------------------------------------- */

static void add_spot_glue(struct task_builder *b)
{
    static const char *const names[] = {"cola", "sst2", "mrpc", "qqp",
                                        "stsb", "qnli", "rte",  "wnli"};
    static const struct {
        const char *name, *config;
        struct task_split split[1];
    } mnli[] = {{"mnli_train", "mnli", {{"train", "train"}}},
                {"mnli_validation_matched", "mnli", {{"validation", "validation_matched"}}},
                {"mnli_validation_mismatched", "mnli", {{"validation", "validation_mismatched"}}}};
    char dataset[TASK_NAME];
    for (size_t i = 0; i < COUNT(names); i++) {
        snprintf(dataset, sizeof dataset, "glue/%s:2.0.0", names[i]);
        struct task t = classification(b, glue_config(names[i]), dataset);
        t.module = MODULE_SPOT;
        task_add(b, &t, "spot_glue_%s_v200", names[i]);
    }
    struct task_members m = {0};
    for (size_t i = 0; i < COUNT(mnli); i++) {
        struct task t = classification(b, glue_config("mnli"), "glue/mnli:2.0.0");
        t.module = MODULE_SPOT;
        t.split = mnli[i].split;
        t.splits = 1;
        task_add(b, &t, "spot_glue_%s_v200", mnli[i].name);
        task_member(&m, 1, "spot_glue_%s_v200", mnli[i].name);
    }
    task_mix(b, MODULE_SPOT, m.item, m.n, "spot_glue_mnli_and_dev_v200");
}

static void add_spot(struct task_builder *b)
{
    static const char *const mrqa[] = {"squad",     "news_qa",   "trivia_qa",
                                       "search_qa", "hotpot_qa", "natural_questions"};
    static const char *const nli[][2] = {{"anli/r1:0.1.0", "v010"},
                                         {"anli/r2:0.1.0", "v010"},
                                         {"anli/r3:0.1.0", "v010"},
                                         {"doc_nli:1.0.0", "v100"},
                                         {"snli:1.1.0", "v110"}};
    static const struct {
        const char *name, *version, *dataset, *from, *to;
    } summaries[] = {{"aeslc", "v100", "aeslc:1.0.0", "email_body", "subject_line"},
                     {"billsum", "v300", "billsum:3.0.0", "text", "summary"},
                     {"gigaword", "v120", "gigaword:1.2.0", "document", "summary"},
                     {"cnn_dailymail", "v320", "cnn_dailymail:3.2.0", "article", "highlights"},
                     {"multi_news", "v100", "multi_news:1.0.0", "document", "summary"},
                     {"samsum", "v100", "samsum:1.0.0", "dialogue", "summary"},
                     {"newsroom", "v100", "newsroom:1.0.0", "text", "summary"}};
    add_spot_glue(b);
    for (size_t i = 0; i < COUNT(mrqa); i++) {
        char dataset[TASK_NAME];
        snprintf(dataset, sizeof dataset, "mrqa/%s:1.0.0", mrqa[i]);
        struct task t = question_task(b, TEXT_MRQA, dataset);
        t.module = MODULE_SPOT;
        t.text_name = mrqa[i];
        task_add(b, &t, "spot_mrqa_%s_v100", mrqa[i]);
    }
    for (size_t i = 0; i < COUNT(nli_sets); i++) {
        const struct task t = {.module = MODULE_SPOT,
                               .dataset = nli[i][0],
                               .text = TEXT_NLI,
                               .config = &nli_sets[i],
                               .text_name = nli_sets[i].name,
                               .sentinel = -1,
                               .cached = true,
                               .answer = ANSWER_TEXT,
                               .metrics = METRIC_ACCURACY};
        task_add(b, &t, "spot_%s_%s", nli_sets[i].name, nli[i][1]);
    }
    for (size_t i = 0; i < COUNT(summaries); i++) {
        struct task t = summary_task(TEXT_NAMED_SUMMARY, summaries[i].dataset, summaries[i].from,
                                     summaries[i].to);
        t.module = MODULE_SPOT;
        t.text_name = summaries[i].name;
        task_add(b, &t, "spot_%s_%s", summaries[i].name, summaries[i].version);
    }
}

/* --- recycling ---------------------------------------------------------------------------- */

static const struct task_split held_1000[] = {{"train", "train[:-1000]"},
                                              {"validation", "train[-1000:]"}};
static const struct task_split held_10000[] = {{"train", "train[:-10000]"},
                                               {"validation", "train[-10000:]"}};

static struct task recycled(struct task_builder *b, const struct task_config *k,
                            const char *dataset)
{
    struct task t = classification(b, k, dataset);
    t.module = MODULE_RECYCLING;
    t.cached = false;
    t.drop_first = true;
    return t;
}

/* Turns a generative task into scoring of all candidates. */
static struct task ranked(struct task t, enum task_rank rank, unsigned metrics)
{
    t.rank = rank;
    t.answer = ANSWER_RANK;
    t.metrics = metrics;
    return t;
}

static struct task with_splits(struct task t, const struct task_split *split, size_t n)
{
    t.split = split;
    t.splits = n;
    return t;
}

static void add_imdb(struct task_builder *b)
{
    static const struct {
        const char *tag, *verb[2];
    } rows[] = {{"0_1", {"0", "1"}}, {"negative_positive", {"negative", "positive"}}};
    for (size_t i = 0; i < 2; i++) {
        const struct task t = {.module = MODULE_RECYCLING,
                               .dataset = "imdb_reviews/plain_text:1.0.0",
                               .text = TEXT_VERBALIZED,
                               .sentinel = -1,
                               .answer = ANSWER_CLASS,
                               .verbalizer = {rows[i].verb[0], rows[i].verb[1]},
                               .metrics = METRIC_ACCURACY};
        char base[TASK_NAME];
        snprintf(base, sizeof base, "pr:imdb_v100_%s_verbalizers", rows[i].tag);
        struct task k = with_splits(t, held_1000, 2);
        task_add(b, &k, "%s_train", base);
        k = with_splits(t, test_as_validation, 1);
        task_add(b, &k, "%s_test", base);
        k = ranked(k, RANK_EVAL, METRIC_RANK | (i == 0 ? (unsigned)METRIC_RANK_NORMED : 0));
        task_add(b, &k, "%s_test_rc", base);
        struct task_members m = {0};
        task_member(&m, 1, "%s_train", base);
        task_member(&m, 1, "%s_test", base);
        task_member(&m, 1, "%s_test_rc", base);
        task_mix(b, MODULE_RECYCLING, m.item, 3, "%s", base);
        task_mix(b, MODULE_RECYCLING, m.item + 1, 2, "%s_eval", base);
    }
}

static void add_qqp(struct task_builder *b)
{
    static const struct {
        const char *tag, *verb[2];
    } rows[] = {{"not_duplicate_duplicate", {"not_duplicate", "duplicate"}},
                {"0_1", {"0", "1"}},
                {"unique_duplicate", {"unique", "duplicate"}},
                {"not_spc_duplicate_duplicate", {"not duplicate", "duplicate"}}};
    for (size_t i = 0; i < COUNT(rows); i++) {
        struct task t = recycled(b, glue_config("qqp"), "glue/qqp:2.0.0");
        t.verbalizer[0] = rows[i].verb[0];
        t.verbalizer[1] = rows[i].verb[1];
        char base[TASK_NAME];
        snprintf(base, sizeof base, "pr:glue_qqp_v200_%s_verbalizers", rows[i].tag);
        struct task k = with_splits(t, held_10000, 2);
        task_add(b, &k, "%s_training", base);
        k = with_splits(t, only_validation, 1);
        task_add(b, &k, "%s_test", base);
        const struct task rc = ranked(k, RANK_EVAL, METRIC_RANK);
        const struct task normed = ranked(k, RANK_EVAL, METRIC_RANK_NORMED);
        task_add(b, &rc, "%s_rc", base);
        task_add(b, &normed, "%s_rc_normed", base);
        struct task_members m = {0};
        task_member(&m, 1, "%s_rc", base);
        task_member(&m, 1, "%s_rc_normed", base);
        task_member(&m, 1, "%s_test", base);
        task_member(&m, 1, "%s_training", base);
        task_mix(b, MODULE_RECYCLING, m.item, 4, "%s", base);
        task_mix(b, MODULE_RECYCLING, m.item, 3, "%s_eval", base);
    }
}

static void add_recycling(struct task_builder *b)
{
    add_imdb(b);
    add_qqp(b);
    struct task t = recycled(b, super_glue_config("record"), "super_glue/record:1.0.2");
    struct task k = with_splits(t, held_10000, 2);
    task_add(b, &k, "pr:super_glue_record_v102_training");
    k = with_splits(t, only_validation, 1);
    task_add(b, &k, "pr:super_glue_record_v102_test");
    k = ranked(k, RANK_EVAL, METRIC_RANK | METRIC_RANK_NORMED);
    k.text = TEXT_RECORD_FIRST;
    task_add(b, &k, "pr:super_glue_record_v102_rc");
    static const struct task_named_rate record_set[] = {{"pr:super_glue_record_v102_training", 1},
                                                   {"pr:super_glue_record_v102_test", 1},
                                                   {"pr:super_glue_record_v102_rc", 1}};
    task_mix(b, MODULE_RECYCLING, record_set, 3, "pr:super_glue_record_v102");
    task_mix(b, MODULE_RECYCLING, record_set + 1, 2, "pr:super_glue_record_v102_eval");
    t = recycled(b, glue_config("sst2"), "glue/sst2:2.0.0");
    k = with_splits(t, held_1000, 2);
    task_add(b, &k, "pr:glue_sst2_v200_train");
    k = with_splits(t, only_validation, 1);
    task_add(b, &k, "pr:glue_sst2_v200_test");
    k = ranked(k, RANK_EVAL, METRIC_RANK);
    task_add(b, &k, "pr:glue_sst2_v200_test_rc");
    static const struct task_named_rate sst2[] = {{"pr:glue_sst2_v200_train", 1},
                                             {"pr:glue_sst2_v200_test", 1},
                                             {"pr:glue_sst2_v200_test_rc", 1}};
    task_mix(b, MODULE_RECYCLING, sst2, 3, "pr:glue_sst2_v200");
    task_mix(b, MODULE_RECYCLING, sst2 + 1, 2, "pr:glue_sst2_v200_eval");
}

/* --- perceptron --------------------------------------------------------------------------- */

#define HELD(n)                                                                                    \
    {                                                                                              \
        {"train", "train[:-" #n "]"},                                                              \
        {                                                                                          \
            "validation", "train[-" #n ":]"                                                        \
        }                                                                                          \
    }

static const struct {
    const char *group, *config;
    struct task_split split[2];
} perceptron_rows[] = {{"glue", "cola", HELD(500)},        {"glue", "sst2", HELD(2000)},
                       {"glue", "mrpc", HELD(200)},        {"glue", "qqp", HELD(5000)},
                       {"glue", "qnli", HELD(3000)},       {"glue", "rte", HELD(200)},
                       {"super_glue", "boolq", HELD(400)}, {"super_glue", "cb", HELD(50)},
                       {"super_glue", "copa", HELD(50)},   {"super_glue", "rte", HELD(200)},
                       {"super_glue", "wic", HELD(400)}};

static void add_perceptron_pair(struct task_builder *b, struct task t, const char *base,
                                const char *config, bool perceptron, const struct task_split *split)
{
    static const char *const labels[2][2] = {{"Generation Valid", "Generation Test"},
                                             {"Perceptron Validation", "Perceptron Test"}};
    char metric[2][TASK_NAME];
    t.examples = true;
    t.perceptron = perceptron;
    t.rank = perceptron ? RANK_FEWSHOT : RANK_NONE;
    for (int i = 0; i < 2; i++) {
        snprintf(metric[i], sizeof metric[i], "%s %s", config, labels[perceptron][i]);
        t.text_metric = registry_keep_text(b->r, metric[i]);
        if (!t.text_metric)
            b->st = SPT_E_NOMEM;
        t.split = i == 0 ? split : only_validation;
        t.splits = i == 0 ? 2 : 1;
        task_add(b, &t, "%s_%s_%s", base, perceptron ? "perceptron" : "generation",
            i == 0 ? "train" : "test");
    }
}

static void add_perceptron(struct task_builder *b)
{
    for (size_t i = 0; i < COUNT(perceptron_rows); i++) {
        const char *config = perceptron_rows[i].config;
        const bool super = perceptron_rows[i].group[0] == 's';
        const struct task_split *split = perceptron_rows[i].split;
        char base[TASK_NAME], dataset[TASK_NAME];
        snprintf(base, sizeof base, "%s_%s_%s", perceptron_rows[i].group, config,
                 super ? "v102" : "v200");
        snprintf(dataset, sizeof dataset, "%s/%s:%s", perceptron_rows[i].group, config,
                 super ? "1.0.2" : "2.0.0");
        struct task t =
            classification(b, super ? super_glue_config(config) : glue_config(config), dataset);
        t.module = MODULE_PERCEPTRON;
        t.cached = false;
        t.drop_first = true;
        add_perceptron_pair(b, t, base, config, true, split);
        add_perceptron_pair(b, t, base, config, false, split);
        struct task k = ranked(with_splits(t, split + 1, 1), RANK_EVAL, METRIC_RANK);
        task_add(b, &k, "%s_rank_classification_validation", base);
        k.split = only_validation;
        task_add(b, &k, "%s_rank_classification_test", base);
        struct task_members m = {0};
        task_member(&m, 1, "%s_perceptron_train", base);
        task_member(&m, 1, "%s_perceptron_test", base);
        task_mix(b, MODULE_PERCEPTRON, m.item, m.n, "%s_perceptron", base);
        m = (struct task_members){0};
        task_member(&m, 1, "%s_rank_classification_validation", base);
        task_member(&m, 1, "%s_rank_classification_test", base);
        task_member(&m, 1, "%s_generation_train", base);
        task_member(&m, 1, "%s_generation_test", base);
        task_mix(b, MODULE_PERCEPTRON, m.item, m.n, "%s_generation", base);
    }
}

void task_table_add(struct task_builder *b)
{
    add_glue(b);
    add_super_glue(b);
    add_transfer(b);
    add_questions(b);
    add_summaries(b);
    if (b->vocabulary > 0)
        return;
    add_c4(b);
    add_spot(b);
    add_recycling(b);
    add_perceptron(b);
}
