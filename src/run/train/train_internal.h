/* A training run in pieces: train_setup.c opens everything and restores, train.c is the loop,
 * train_save.c makes it durable, train_report.c tells about it. `spt sweep` (sweep_cmd.c) is the same
 * with several prompts. */
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

/* What will be done for one prompt; fixed before its first step. */
struct train_plan {
    int64_t P, E;
    int64_t steps, steps_per_epoch, batch;
    int64_t eval_every, save_every;
    enum prompt_init_kind init;
    char init_text[160];
};

/* Exchanges between ranks, of steps. */
struct exchanged {
    int64_t steps;
    int64_t gradients; /* exchanges of the gradient: one a step */
    int64_t sums;      /* of ranks that hold one model together */
    int64_t sent, received; /* bytes of this rank */
    int64_t wait_ns;        /* sending, receiving, and waiting for slower ranks */
};

/* What a run takes, known before a weight is read: the passes of a few steps and of an evaluation run
 * over operations that only count (ops/count.h). Bytes. */
struct train_cost {
    double process; /* resident now: program, vocabulary, data, prompt */
    double weights, activations, gradients, optimiser, scratch, evaluation;
    double total;      /* the peak: of the sum of these, or of loading */
    double operations; /* useful ones of a step */
    double seconds;    /* of a step, by the speed of this machine; 0: not asked for */
    double exchange;   /* seconds of its exchanges, by --bandwidth */
    /* What the first rank tells the others in the steps that were counted. */
    struct exchanged counted;
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

/* One prompt in training. */
struct trainer {
    struct training *all;
    const struct settings *s;
    const char *name; /* of a sweep's member; "" otherwise */
    struct train_plan plan;
    uint32_t seed;
    struct rng_key trainer_key; /* dropout keys are folded from it */
    struct t5_loss_opts loss_opts;
    struct prompt *prompt;
    optim *optim;
    struct lr_schedule lr;
    train_order *order;
    batch batch;
    const uint32_t *which; /* examples of the step */
    float *sum;            /* [P, E] its gradient */
    struct train_state state;
    ckpt *ck;
    struct train_logs logs;
    int64_t evaluated_step, saved_step; /* -1: never in this process */
    double last_score;
    bool evaluation_owed; /* a signal cut short the evaluation of this step */
    bool left;            /* finished or failed: no longer in the batch */
    spt_status st;        /* why it failed: SPT_E_NONFINITE */
    spt_err err;
};

/* The prompts that are trained together over one frozen model; `spt train` trains one. Results of
 * a prompt do not depend on the others. */
struct training {
    const struct settings *s; /* of the command: what all have in common */
    struct run_output *out;
    comm *ranks, *data; /* who holds the model, who shares the data: of the settings; while counting,
                           ones that only count */
    unsigned reasons;   /* why to stop, as any rank saw it in the last step */
    struct exchanged exchanged;
    struct engine engine;
    struct task_text task;
    examples *train, *eval;
    const char *metric;
    bool generate;
    bool remat, absorb;     /* absorb: cross-attention without keys and values */
    int64_t micro_rows;     /* that the storage is made for; an evaluation's, too */
    int64_t rows_in_flight; /* encoder rows of the largest range */
    double step_seconds;    /* 0: not measured */
    struct train_cost cost;
    struct evaluator evaluator;
    struct gradient gradient;
    struct gradient_part *part; /* [runs] */
    struct train_times {
        int64_t data, gradient, optimiser, logs, evaluation, saving; /* ns */
        int64_t steps, evaluations;
    } spent; /* in this process */
    struct ops_profile_line stepped[OPS_PROFILE_KINDS], evaluated[OPS_PROFILE_KINDS]; /* --profile */
    int64_t started_ns, last_progress_ns;
    int64_t examples_done; /* in this process, for the rate */
    struct trainer *run;   /* [runs] */
    size_t runs;
};

/* What one run is, for train_open. */
struct train_member {
    const struct settings *s;
    const char *name;
};

/* Everything up to the first step; restores with --resume. Runs that are finished have left.
 * s: what all members have in common; with one member its settings. */
spt_status train_open(struct training *a, const struct settings *s, const struct train_member *m,
                      size_t n, struct run_output *out, spt_err *err);
/* The same without run directories: what `spt check`, `spt plan` and --dry-run do. */
spt_status train_open_plan(struct training *a, const struct settings *s,
                           const struct train_member *m, size_t n, struct run_output *out,
                           spt_err *err);
/* Loads the weights and computes the gradient of a step or two, whose time becomes
 * step_seconds; nothing is changed or written. After train_open_plan. */
spt_status train_try_step(struct training *a, spt_err *err);
void train_close(struct training *a);
/* Closes the directory of a run that is finished or has failed: it no longer takes part. */
void train_leave(struct trainer *t);
/* Trains until every run is finished or has failed. With one run its failure is the status; several
 * keep theirs in st and err. */
spt_status train_loop(struct training *a, spt_err *err);

/* Encoder rows in flight for this setting of --micro-rows. */
void train_set_rows(struct training *a, int64_t micro_rows);
spt_status train_make_storage(struct training *a, spt_err *err);
void train_drop_storage(struct training *a);
unsigned train_uses(const struct training *a); /* of enum t5_uses */
/* Fills a->cost after train_open_plan; with --memory it first chooses rows in flight and recomputing
 * so that the run fits, or says what would (SPT_E_NOMEM). */
spt_status train_count(struct training *a, spt_err *err);
/* Adds the seconds of a step: measures the machine for a moment. After train_count. */
spt_status train_count_seconds(struct training *a, spt_err *err);

/* The sums over the examples of the next batch of every run that has not left (rulings 3), into its
 * sum; a->part has their losses, in the order of the runs. */
spt_status train_gradient(struct training *a, spt_err *err);

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

/* The seed of the newest state in a run directory; false when there is none. */
bool train_saved_seed(const char *dir, uint32_t *seed);

/* Where the time went (--profile), as lines and with --json as an event. */
spt_status train_tell_profile(struct training *a, spt_err *err);
/* The member "exchange" of an open object; `name` is that of the time. */
void train_exchange_json(const struct exchanged *x, int64_t ranks, int64_t partitions,
                         const char *name, double time, json_writer *w);
/* Several ranks: refuses when program, settings, data, base, step or prompt differ between them. */
spt_status train_compare_ranks(const struct trainer *t, spt_err *err);

void train_tell_end(struct trainer *t, const struct prompt *best);
void train_tell_plan(const struct training *a);
/* The same as members of the open object. */
void train_plan_json(const struct training *a, json_writer *w);
/* The line of progress, after a step of all runs. */
void train_tell_step(struct training *a);
spt_status train_log_step(struct trainer *t, const struct t5_loss *loss, float lr,
                          const uint32_t *which, size_t n, spt_err *err);
spt_status train_log_eval(struct trainer *t, const struct figures *f, bool improved, spt_err *err);

#endif
