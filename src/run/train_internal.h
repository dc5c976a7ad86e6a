/* A training run in pieces: train_setup.c opens everything and restores, train.c is the loop,
 * train_save.c makes it durable, train_report.c tells about it. */
#ifndef SPT_RUN_TRAIN_INTERNAL_H
#define SPT_RUN_TRAIN_INTERNAL_H

#include "ckpt/ckpt.h"
#include "optim/optim.h"
#include "optim/schedule.h"
#include "ops/profile.h"
#include "random/threefry.h"
#include "report/events.h"
#include "run/commands.h"
#include "run/evaluate.h"
#include "text/json.h"

/* What will be done; fixed before the first step. */
struct train_plan {
    int64_t P, E;
    int64_t steps, steps_per_epoch, batch;
    int64_t eval_every, save_every;
    int64_t micro_rows;     /* that the storage is made for; an evaluation's, too */
    int64_t rows_in_flight; /* encoder rows of the largest range */
    bool remat;
    bool absorb;            /* cross-attention without keys and values */
    double step_seconds;    /* 0: not measured */
    const char *metric;
    enum prompt_init_kind init;
    char init_text[160];
    bool generate;
};

/* What a run takes, known before a weight is read: the passes of a few steps and of an evaluation run
 * over operations that only count (ops/count.h). Bytes. */
struct train_cost {
    double process; /* resident now: program, vocabulary, data, prompt */
    double weights, activations, gradients, optimiser, scratch, evaluation;
    double total;      /* the peak: of the sum of these, or of loading */
    double operations; /* useful ones of a step */
    double seconds;    /* of a step, by the speed of this machine; 0: not asked for */
};

/* Everything that changes from step to step, besides prompt and optimiser: part of the checkpoint.
 */
struct train_state {
    int64_t step;
    struct batch_position position;
    int64_t best_step; /* -1: no evaluation yet */
    double best_score;
    int64_t without_improvement; /* evaluations since the best one */
    bool stopped_early;
};

struct train_logs {
    fs_log *train, *eval;           /* train.jsonl, eval.jsonl */
    events_writer *events, *scores; /* train/, inference_eval/ */
};

struct trainer {
    const struct settings *s;
    struct run_output *out;
    struct engine engine;
    struct task_text task;
    examples *train, *eval;
    struct train_plan plan;
    struct train_cost cost;
    uint32_t seed;
    struct rng_key trainer_key; /* dropout keys are folded from it */
    struct t5_loss_opts loss_opts;
    struct prompt *prompt;
    optim *optim;
    struct lr_schedule lr;
    train_order *order;
    batch batch;
    struct evaluator evaluator;
    struct gradient gradient;
    struct train_state state;
    ckpt *ck;
    struct train_logs logs;
    struct train_times {
        int64_t data, gradient, optimiser, logs, evaluation, saving; /* ns */
        int64_t steps, evaluations;
    } spent; /* in this process */
    struct ops_profile_line stepped[OPS_PROFILE_KINDS], evaluated[OPS_PROFILE_KINDS]; /* --profile */
    int64_t started_ns, last_progress_ns;
    int64_t examples_done;              /* in this process, for the rate */
    int64_t evaluated_step, saved_step; /* -1: never in this process */
    double last_score;
    bool evaluation_owed; /* a signal cut short the evaluation of this step */
};

/* Everything up to the first step; restores with --resume. *nothing_to_do: the run is finished. */
spt_status train_open(struct trainer *t, const struct settings *s, struct run_output *out,
                      bool *nothing_to_do, spt_err *err);
/* The same without a run directory: what `spt check` and --dry-run do. */
spt_status train_open_plan(struct trainer *t, const struct settings *s, struct run_output *out,
                           spt_err *err);
/* Loads the weights and computes the gradient of a step or two, whose time becomes
 * plan.step_seconds; nothing is changed or written. After train_open_plan. */
spt_status train_try_step(struct trainer *t, spt_err *err);
void train_close(struct trainer *t);

/* Encoder rows in flight for this setting of --micro-rows. */
void train_set_rows(struct trainer *t, int64_t micro_rows);
spt_status train_make_storage(struct trainer *t, spt_err *err);
void train_drop_storage(struct trainer *t);
unsigned train_uses(const struct trainer *t); /* of enum t5_uses */
/* Fills t->cost after train_open_plan; with --memory it first chooses rows in flight and recomputing
 * so that the run fits, or says what would (SPT_E_NOMEM). */
spt_status train_count(struct trainer *t, spt_err *err);
/* Adds the seconds of a step: measures the machine for a moment. After train_count. */
spt_status train_count_seconds(struct trainer *t, spt_err *err);

/* The sum over a step's examples (rulings 3) into t->gradient.sum; *loss holds the sums of the
 * batch. */
spt_status train_gradient(struct trainer *t, const uint32_t *which, size_t n, struct t5_loss *loss,
                          spt_err *err);

/* Durable state of the current step, its logs cut to length, and best.json. */
spt_status train_save(struct trainer *t, spt_err *err);
/* Restores the newest valid state of the run directory; SPT_E_NOTFOUND when there is none. */
spt_status train_restore(struct trainer *t, spt_err *err);
spt_status train_open_logs(struct trainer *t, spt_err *err);
/* What is written once at the end: the prompt in the reference's numpy form, --save-full. */
spt_status train_finish(struct trainer *t, spt_err *err);
/* Settings and seed of the prompt's provenance. */
spt_status train_use_settings(struct trainer *t, spt_err *err);
/* A fingerprint of what must not change between a run and its continuation, as text lines. */
spt_status train_identity(const struct trainer *t, buf *out, spt_err *err);

/* Where the time went (--profile), as lines and with --json as an event. */
spt_status train_tell_profile(struct trainer *t, spt_err *err);
/* Several ranks: refuses when program, settings, data, base, step or prompt differ between them. */
spt_status train_compare_ranks(const struct trainer *t, spt_err *err);

void train_tell_end(struct trainer *t, const struct prompt *best);
void train_tell_plan(const struct trainer *t);
/* The same as members of the open object. */
void train_plan_json(const struct trainer *t, json_writer *w);
void train_tell_step(struct trainer *t, const struct t5_loss *loss, bool last);
spt_status train_log_step(struct trainer *t, const struct t5_loss *loss, float lr,
                          const uint32_t *which, size_t n, spt_err *err);
spt_status train_log_eval(struct trainer *t, const struct figures *f, bool improved, spt_err *err);

#endif
