/* From settings and a prompt's provenance to examples: which template, labels and lengths are in
 * force, and the checks of the label set that come before any work. */
#ifndef SPT_RUN_DATASET_H
#define SPT_RUN_DATASET_H

#include "data/batch.h"
#include "prompt/prompt.h"
#include "run/engine.h"

/* The text side of a task: what is put into the model and what is expected from it. */
struct task_text {
    text_template *input, *target; /* NULL: the column found by name or number */
    label_set *labels;             /* NULL: free text */
    struct label_report report;    /* ids of the labels; empty without labels */
    const char *labels_from;       /* "--labels", "the prompt", "the training data" */
    const char *labels_hint;       /* what else to do about a label that is none of them, or NULL */
    int64_t max_input, max_target;
    struct data_encoder encoder;
    bool owns_encoder;
    char delimiter; /* 0: the kind's own */
    bool of_prompt; /* there is a prompt; what no option says comes from it */
    float *prior; /* [labels] log-likelihoods for an input without content (--calibrate), or NULL */
};

/* Options win over what the prompt says (NULL: nothing), which wins over the defaults; an option
 * that differs from the prompt is warned about (field case 27; an error with --strict). Labels are
 * checked with the vocabulary (issue "field cases"): an error there is SPT_E_CONFIG. */
spt_status task_text_open(const struct engine *e, const struct settings *s,
                          const struct prompt *prompt, struct task_text *out, spt_err *err);
void task_text_close(struct task_text *t);
/* Takes a label set found in data over (copied) and checks it. */
spt_status task_text_set_labels(struct task_text *t, const struct settings *s,
                                const label_set *labels, const char *from, spt_err *err);

/* The labels found in the examples read as classes rather than as free text. */
bool labels_found(const examples *x);

enum dataset_role {
    DATASET_TRAIN,   /* targets; labels are found when none are given; texts are not kept */
    DATASET_EXAMINE, /* the same with texts kept */
    DATASET_LABELED, /* targets that must be among the labels */
    DATASET_TARGETS, /* targets of any text (score) */
    DATASET_INPUTS   /* inputs; targets where the file has them */
};
/* Options for one file; `t` must outlive what is opened with them. */
struct examples_options dataset_options(const struct settings *s, const struct task_text *t,
                                        const char *path, enum dataset_role role);
/* Loads a file into memory and logs its counts. `name` is for the log ("train", "eval"). */
spt_status dataset_load(const struct settings *s, const struct task_text *t, const char *path,
                        enum dataset_role role, const char *name, examples **out, spt_err *err);

/* A plain text as an example: put into the input template (which must have one column), encoded,
 * cut, end mark added. Starts all-zero; the example is valid until the next call. */
struct line_encoder {
    buf text;
    struct id_list ids;
};
spt_status line_encode(struct line_encoder *l, const struct task_text *t, const char *text,
                       size_t len, struct example *out, bool *cut, spt_err *err);
void line_encoder_release(struct line_encoder *l);

/* A hash of the tokenised examples: what a model sees, whatever the file looks like. */
spt_status dataset_hash(const examples *x, char hex[33], spt_err *err);

#endif
