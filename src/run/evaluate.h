/* Answers of a prompt for a set of examples, and their metrics. Used by training and by `spt eval`,
 * so that both give the same numbers. An answer never depends on its batch mates (rulings 1). */
#ifndef SPT_RUN_EVALUATE_H
#define SPT_RUN_EVALUATE_H

#include "run/dataset.h"

struct evaluate_opts {
    int64_t batch, micro_rows;
    bool generate; /* greedy decoding; else rank classification over the labels */
    bool length_normalize;
    int64_t max_output;
};
struct evaluate_opts evaluate_opts_of(const struct settings *s, const struct task_text *t);

/* One row per example, in input order. */
struct answers {
    size_t n;
    size_t labels;   /* K, 0 without a label set */
    int32_t *label;  /* [n] index of the answer in the label set, -1: outside */
    int32_t *target; /* [n] index of the target, -1: none or outside */
    float *score;    /* [n, K] log-likelihoods of the labels; NULL when generated */
    char **text;     /* [n] decoded text; NULL when ranked */
    float *target_score; /* [n] log-likelihood of the target; NULL unless targets were scored */
};
void answers_release(struct answers *a);

/* The prompt's matrix as the model wants it; points into p (NULL: no prompt). */
struct t5_prompts prompts_of(const struct prompt *p);

/* Storage for passes over the examples, planned once; reused by every evaluation of a run. */
struct evaluator {
    const struct engine *engine;
    const struct task_text *task;
    struct evaluate_opts opts;
    t5_acts *acts;
    int64_t rows, dec_rows, examples; /* what acts holds */
};
/* longest_*: ids of the longest input and target that will come, end mark included. */
spt_status evaluator_open(const struct engine *e, const struct task_text *t, int64_t longest_input,
                          int64_t longest_target, const struct evaluate_opts *o,
                          const struct prompt *prompt, struct evaluator *out, spt_err *err);
void evaluator_close(struct evaluator *v);

/* Answers for every example. SPT_E_INTERRUPTED when a stop was asked for. */
spt_status evaluate(struct evaluator *v, const struct t5_prompts *prompts, const examples *x,
                    struct answers *out, spt_err *err);
/* Log-likelihood of each example's own target, [n]. */
spt_status evaluate_targets(struct evaluator *v, const struct t5_prompts *prompts,
                            const examples *x, float *score, spt_err *err);

/* Figures in percent, NaN where a metric does not apply. */
struct figures {
    size_t n;
    size_t classes; /* labels counted by the F1 figures */
    size_t outside; /* answers outside the label set */
    double accuracy, macro_f1, f1, exact_match;
    double loss; /* mean negative log-likelihood of the targets, or NaN */
};
/* confusion: [K, K + 1] or NULL. */
void figures_of(const struct answers *a, const examples *x, const struct task_text *t,
                struct figures *out, uint64_t *confusion);
/* Value and direction of a metric by its option name. */
double figure_value(const struct figures *f, const char *metric);
bool figure_lower_is_better(const char *metric);

#endif
