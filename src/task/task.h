/* Tasks and mixtures of the upstream tree, as data.
 *
 * A task says where its examples come from, how their text is formatted, what happens to ids, how
 * answers become values and which metrics compare them. The registry holds every name of
 * prompt_tuning, its SPoT, recycling and perceptron modules (738 tasks and 131 mixtures), and the
 * base names of t5 (with mt5_ and byt5_ in front). Names are public, members and rates are the
 * reference's, its defects included where they are visible (spec/data.md 1.8).
 *
 *   task_registry_new(&r, err);
 *   const struct task *t = task_find(r, "taskless_glue_sst2_v200_examples");
 *   task_format(t, &raw, position, emit, ctx, err);      -- texts: inputs, targets, kept fields
 *   task_answer(t, text, len, &example, false, &value, err);
 *   task_score(t, targets, predictions, n, add, ctx, err);
 *
 * A registry is filled (task_registry_new, then additions) and immutable from then on; formatting
 * is pure apart from the given position. */
#ifndef SPT_TASK_TASK_H
#define SPT_TASK_TASK_H

#include "task/record.h"

enum task_vocabulary { TASK_T5, TASK_MT5, TASK_BYT5 };

enum task_module {
    MODULE_T5,
    MODULE_DATA,
    MODULE_SPOT,
    MODULE_RECYCLING,
    MODULE_PERCEPTRON,
    MODULE_USER /* added by a configuration or a plug-in */
};

/* how inputs and targets are written (spec/data.md 2) */
enum task_text_kind {
    TEXT_FIELDS, /* "PREFIX f1: v1 f2: v2", targets = class name */
    TEXT_STSB,
    TEXT_RECORD,
    TEXT_RECORD_FIRST, /* one example per query */
    TEXT_WSC,
    TEXT_DPR,
    TEXT_SQUAD,
    TEXT_MRQA,
    TEXT_SUMMARY,       /* "summarize: ..." */
    TEXT_NAMED_SUMMARY, /* "aeslc summarize: ..." */
    TEXT_NLI,
    TEXT_VERBALIZED, /* the text as it is, targets = a verbaliser */
    TEXT_PLAIN,      /* targets = text, inputs empty (C4) */
    TEXT_USER        /* templates or code: struct user_task */
};

/* what follows tokenisation for C4 tasks */
enum task_noise {
    NOISE_NONE,
    NOISE_PREFIX_LM,
    NOISE_RANDOM_LABEL,
    NOISE_TOKEN_DELETION,
    NOISE_TEXT_INFILLING,
    NOISE_SPAN_CORRUPTION
};

enum task_answer_kind {
    ANSWER_TEXT,  /* identity */
    ANSWER_CLASS, /* index in the class list, else -1 */
    ANSWER_FLOAT, /* STS-B */
    ANSWER_MULTIRC,
    ANSWER_RECORD,
    ANSWER_QA,
    ANSWER_WSC,
    ANSWER_RANK, /* rank classification: scores, not texts */
    ANSWER_NONE, /* no postprocessing, no metrics */
    ANSWER_CODE  /* a plug-in's */
};

/* a set of bits */
enum task_metric {
    METRIC_ACCURACY = 1,
    METRIC_F1 = 2, /* f1_score_with_invalid */
    METRIC_MATTHEWS = 4,
    METRIC_PEARSON = 8,
    METRIC_SPEARMAN = 16,
    METRIC_MEAN_F1 = 32, /* mean_Nclass_f1 */
    METRIC_MULTIRC = 64, /* f1 over answers, exact_match over questions */
    METRIC_SQUAD = 128,
    METRIC_RECORD = 256, /* SQuAD on the first example of each group */
    METRIC_ROUGE = 512,
    METRIC_RANK = 1024,
    METRIC_RANK_NORMED = 2048, /* length-normalised; keys get "normed_" beside METRIC_RANK */
    METRIC_BLEU = 4096,
    METRIC_EDIT = 8192, /* edit distance in words */
    METRIC_CODE = 16384 /* a plug-in's */
};

/* One example per candidate, or one of all. */
enum task_rank { RANK_NONE, RANK_EVAL, RANK_FEWSHOT };

enum { TASK_MAX_FIELDS = 4, TASK_MAX_CLASSES = 3 };

/* A row of the formatting table. */
struct task_config {
    const char *name;                       /* "sst2" */
    const char *prefix;                     /* first word of the inputs */
    const char *field[TASK_MAX_FIELDS + 1]; /* in order of appearance */
    const char *classes[TASK_MAX_CLASSES + 1];
    const char *shown[TASK_MAX_FIELDS + 1]; /* names in the text where they differ (axb) */
    unsigned metrics;
    enum task_answer_kind answer;
};

struct task_split {
    const char *name;   /* as asked for: "validation" */
    const char *source; /* split or slice of the data set: "train[-1000:]" */
};

struct task {
    const char *name;
    enum task_module module;
    enum task_vocabulary vocabulary;
    const char *dataset; /* TFDS: "glue/sst2:2.0.0" */
    const struct task_split *split;
    size_t splits; /* 0: all splits of the data set, under their own names */
    enum task_text_kind text;
    const struct task_config *config; /* NULL where the text has no table row */
    const char *text_name;            /* TEXT_MRQA, NAMED_SUMMARY, NLI: word in front, or NULL */
    const char *from, *to;            /* summaries: source and target fields */
    const char *verbalizer[TASK_MAX_CLASSES + 1]; /* instead of the classes */
    bool drop_first;                              /* taskless */
    bool positive_only;                           /* WSC training */
    int sentinel;       /* task index, or -1; its id is vocabulary size - 1 - index */
    bool sentinel_late; /* behind the cache */
    enum task_rank rank;
    bool perceptron; /* rank-2 targets with is_correct; its own converter */
    bool cached;     /* has a cache placeholder */
    enum task_noise noise;
    enum task_answer_kind answer;
    const char *translate_from, *translate_to; /* answers, word by word (glue_transfer) */
    bool examples;                             /* predictions keep their texts */
    unsigned metrics;                          /* enum task_metric */
    const char *text_metric;                   /* name of the text metric, or NULL */
    bool text_negatives;                       /* also "negative samples" */
    const struct task_user *user;              /* TEXT_USER: see task/user_task.h */
};

struct task_member {
    const char *name; /* of a task or mixture */
    double rate;
};

struct mixture {
    const char *name;
    enum task_module module;
    const struct task_member *member; /* as registered; data and evaluation sort tasks by name */
    size_t members;
};

/* Rows of "glue" and "super_glue"; NULL when unknown. */
const struct task_config *task_config_find(const char *group, const char *name);

typedef struct task_registry task_registry;
spt_status task_registry_new(task_registry **out, spt_err *err);
void task_registry_free(task_registry *r); /* accepts NULL */
size_t task_count(const task_registry *r);
const struct task *task_at(const task_registry *r, size_t i); /* sorted by name */
size_t mixture_count(const task_registry *r);
const struct mixture *mixture_at(const task_registry *r, size_t i);
const struct task *task_find(const task_registry *r, const char *name); /* NULL: unknown */
const struct mixture *mixture_find(const task_registry *r, const char *name);
/* Names near a wrong one, for messages: up to 3, comma separated. */
void task_suggest(const task_registry *r, const char *name, buf *out);

/* One task of a mixture (or a task by itself) with its rate; sorted by name, distinct, sub-mixtures
 * flattened as in SeqIO. Free *out with mem_free. SPT_E_CONFIG for unknown names. */
struct task_rate {
    const struct task *task;
    double rate;
};
spt_status task_members(const task_registry *r, const char *name, struct task_rate **out, size_t *n,
                        spt_err *err);
/* seqio's rate_num_examples. maximum 0: none. */
double task_rate_num_examples(double examples, double maximum, double temperature, double scale);
/* Numbers names from 0 in byte order; alias[i] (may be NULL) takes the number of its target. */
spt_status task_mapping(const char *const *name, const char *const *alias, size_t n,
                        int64_t *number, spt_err *err);

/* --- text --------------------------------------------------------------------------------- */

/* Appends: a space before and behind every ASCII punctuation character, then runs of white space
 * become one space. */
void text_pad_punctuation(buf *out, const char *s, size_t len);
/* Runs of white space (TAB LF FF CR SPACE) become one space. */
void text_collapse(buf *out, const char *s, size_t len);
/* What remains behind the first space; the whole text when there is none. */
void text_drop_first(const char **s, size_t *len);

/* Without Unicode's white space at both ends (Python's str.strip). */
struct field_text text_strip(const char *s, size_t len);

typedef spt_status (*task_emit_fn)(void *ctx, record *r, spt_err *err);
/* Raw example -> zero or more records with texts `inputs` and `targets` and the fields that are
 * passed through. `position`: number of the example in its stream (rank classification). The record
 * given to emit may be changed but not kept. */
spt_status task_format(const struct task *t, const record *raw, int64_t position, task_emit_fn emit,
                       void *ctx, spt_err *err);
/* A line of TAB separated id, context, question, answer, answers ("|||" between them). */
spt_status task_format_tsv_qa(const char *line, size_t len, record *out, spt_err *err);

/* --- answers and scores ------------------------------------------------------------------- */

struct task_value {
    int64_t label; /* class index, WSC verdict, MultiRC value */
    double number; /* ANSWER_FLOAT */
    struct field_text text;
    const struct field_text *texts; /* accepted answers (targets of QA, ReCoRD) */
    size_t text_count;
    int64_t group[2]; /* MultiRC: idx/question; ReCoRD: idx/passage, idx/query */
    /* rank classification targets */
    int64_t rank_index[2];
    bool rank_correct;
    int64_t rank_length;
    double score;
};

/* What a text means for this task. For targets the text is targets_pretokenized; `example` holds
 * the passed-through fields. Texts in *out point into `text`, `example` or `scratch`. */
spt_status task_answer(const struct task *t, const char *text, size_t len, const record *example,
                       bool is_target, record *scratch, struct task_value *out, spt_err *err);
/* Python's float(): white space around it, underscores between digits, inf, nan; else -1.0. */
double text_to_float(const char *s, size_t len);
int64_t text_to_class(const char *s, size_t len, const char *const *classes);
/* wsc_simple: -1 empty, 1 same referent, 0 not. */
spt_status text_same_referent(const char *prediction, size_t len, const char *referent,
                              size_t referent_len, int64_t *out, spt_err *err);
/* A leading <extra_id_0> and white space in front are dropped. */
void text_strip_extra_id_0(const char **s, size_t *len);

typedef spt_status (*task_score_fn)(void *ctx, const char *key, double value, spt_err *err);
/* All metrics of the task, in the reference's order, as percentages. */
spt_status task_score(const struct task *t, const struct task_value *target,
                      const struct task_value *prediction, size_t n, task_score_fn add, void *ctx,
                      spt_err *err);

/* --- text metrics ------------------------------------------------------------------------- */

struct text_example {
    struct field_text input, target, prediction;
};
/* "example: I\n\ntarget: T\n\nprediction: P\n\n" per example, dedented as Python does. */
spt_status text_samples(const struct text_example *e, size_t n, buf *out, spt_err *err);
/* "context: ...\nquestion: ...\nanswers: a; b\nprediction: ..." */
spt_status text_qa_sample(const struct field_text *context, const struct field_text *question,
                          const struct field_text *answers, size_t n,
                          const struct field_text *prediction, buf *out, spt_err *err);

#endif
