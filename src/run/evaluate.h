/* Answers of a prompt for a set of examples, and their metrics. Used by training and by `spt eval`,
 * so that both give the same numbers. An answer never depends on its batch mates (rulings 1). */
#ifndef SPT_RUN_EVALUATE_H
#define SPT_RUN_EVALUATE_H

#include "run/answer_progress.h"
#include "run/dataset.h"
#include "run/generate.h"
#include "run/gradient.h"

struct evaluate_opts {
    int64_t batch, micro_rows;
    bool generate; /* decoding; else rank classification over the labels */
    bool length_normalize;
    int64_t max_output;
    const struct generation *generation; /* NULL: greedy, without scores */
    const char *cross_attention;         /* "auto", "plain", "absorbed": of ranking */
};
struct evaluate_opts evaluate_opts_of(const struct settings *s, const struct task_text *t);
/* Whether labels of t are ranked with absorbed cross-attention behind a decoder prompt of P_dec rows:
 * the model then needs T5_ABSORB. A matter of the labels, not of the examples. */
bool evaluate_absorbs(const struct evaluate_opts *o, const struct t5_config *c,
                      const struct task_text *t, int64_t P_dec);

/* One decoded answer of an example. */
struct decoded {
    char *text;
    float score;
    int32_t tokens; /* ids, end mark included */
    int32_t *id;    /* [tokens] */
};

/* One row per example, in input order. */
struct answers {
    size_t n;
    size_t labels;   /* K, 0 without a label set */
    int32_t *label;  /* [n] index of the answer in the label set, -1: outside */
    int32_t *target; /* [n] index of the target, -1: none or outside */
    float *score;    /* [n, K] log-likelihoods of the labels; NULL when generated */
    float *prob; /* [n, K] their probabilities (per token, calibrated, as asked); NULL likewise */
    char **text; /* [n] decoded text (the best); NULL when ranked */
    size_t results;      /* decoded answers per example */
    struct decoded *all; /* [n, results], best first, samples in their order; NULL when ranked */
    float *target_score; /* [n] log-likelihood of the target; NULL unless targets were scored */
};
void answers_release(struct answers *a);
/* The best of an example's decoded answers. */
const struct decoded *answers_best(const struct answers *a, size_t i);

/* Storage for passes over the examples, planned once; reused by every evaluation of a run. */
struct evaluator {
    const struct engine *engine;
    const struct task_text *task;
    struct evaluate_opts opts;
    t5_acts *kept[2]; /* plain and absorbed cross-attention; NULL: not needed yet */
    t5_acts *acts;    /* the one at work */
    int64_t score_rows; /* decoder rows that it takes */
    struct decode_model *decoder; /* made when it is first needed */
    int64_t decoder_P;
    int64_t rows, dec_rows, examples; /* what acts holds */
    int64_t pass_rows;                /* encoder rows of one pass */
    int64_t longest;                  /* decoder rows of the longest target */
    uint64_t first_number; /* of the first example, for sampling: its place in the file */
    struct rng_key chain; /* the reference's sampling: split once per batch; starts as the seed's */
    struct answer_progress *progress; /* NULL: not told */
    const struct prompt_mix *mix; /* while evaluate_mixed runs */
    const int32_t *prompt_of, *task_of;
};
/* longest_*: ids of the longest input and target that will come, end mark included. */
spt_status evaluator_open(const struct engine *e, const struct task_text *t, int64_t longest_input,
                          int64_t longest_target, const struct evaluate_opts *o,
                          const struct prompt *prompt, struct evaluator *out, spt_err *err);
void evaluator_close(struct evaluator *v);

/* Sets t->prior: what the labels get for `text` put into the template. */
spt_status evaluate_prior(struct evaluator *v, const struct t5_prompts *prompts,
                          struct task_text *t, const char *text, spt_err *err);

/* Answers for every example. SPT_E_INTERRUPTED when a stop was asked for. */
spt_status evaluate(struct evaluator *v, const struct t5_prompts *prompts, const examples *x,
                    struct answers *out, spt_err *err);

/* Several prompts over one base, each with its own labels. Examples say which they use; those of
 * prompts of one shape (rows, side, place) share batches, and the bits of an example are those it
 * has when its prompt runs alone. */
struct prompt_mix {
    size_t count;
    const struct prompt *const *prompt;  /* [count] */
    const struct task_text *const *task; /* [count] */
    const int32_t *of;                   /* [n] of the examples */
};
/* evaluator_open with the prompt of the most rows. `score` has one row of K columns per example, K
 * being the largest label set. */
spt_status evaluate_mixed(struct evaluator *v, const struct prompt_mix *mix, const examples *x,
                          struct answers *out, spt_err *err);

/* Log-likelihood of each example's own target, [n]. */
spt_status evaluate_targets(struct evaluator *v, const struct t5_prompts *prompts,
                            const examples *x, float *score, spt_err *err);

enum { FIGURES_MORE = 8 };

/* Figures in percent, NaN where a metric does not apply. */
struct figures {
    size_t n;
    size_t classes; /* labels counted by the F1 figures */
    size_t outside; /* answers outside the label set */
    double accuracy, macro_f1, f1, exact_match;
    double loss; /* mean negative log-likelihood of the targets, or NaN */
    size_t more; /* scores of a plug-in's metric (plain_code.h) */
    struct {
        char name[48];
        double value;
    } score[FIGURES_MORE];
};
/* confusion: [K, K + 1] or NULL. */
void figures_of(const struct answers *a, const examples *x, const struct task_text *t,
                struct figures *out, uint64_t *confusion);
/* Value and direction of a metric by its option name; a plug-in's is its first score, the higher the
 * better. */
double figure_value(const struct figures *f, const char *metric);
bool figure_lower_is_better(const char *metric);
/* Strictly better; NaN never is. */
bool figure_is_better(const char *metric, double a, double b);

#endif
