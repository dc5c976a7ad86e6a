/* From settings to a trainer that is ready for its first step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/init_prompt.h"
#include "run/prompt_session.h"
#include "run/ranks.h"
#include "run/train_internal.h"

static spt_status parse_normalize(const char *text, struct t5_loss_opts *o, spt_err *err)
{
    static const struct {
        const char *name;
        enum t5_normalize rule;
    } rules[] = {{"none", T5_NORM_NONE},
                 {"real-tokens", T5_NORM_REAL_TOKENS},
                 {"all-tokens", T5_NORM_ALL_TOKENS},
                 {"per-sequence", T5_NORM_PER_SEQUENCE}};
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (!strcmp(rules[i].name, text)) {
            o->normalize = rules[i].rule;
            return SPT_OK;
        }
    char *end;
    o->normalize = T5_NORM_NUMBER;
    o->factor = strtof(text, &end);
    if (*end || end == text || !(o->factor > 0))
        return err_set(err, SPT_E_USAGE,
                       "--normalize: \"%s\" is none of none, real-tokens, all-tokens, per-sequence "
                       "or a positive number",
                       text);
    return SPT_OK;
}

/* A score that is never computed would choose no prompt, and the run would end without a best one. */
static spt_status check_metric(const struct trainer *t, spt_err *err)
{
    const char *name = t->plan.metric;
    const size_t K = t->task.labels ? label_set_count(t->task.labels) : 0;
    if (!strcmp(name, "exact-match"))
        return SPT_OK;
    if (!strcmp(name, "loss"))
        return !t->plan.generate ? SPT_OK
                                 : err_set(err, SPT_E_CONFIG,
                                           "--metric loss is not computed for decoded answers: "
                                           "take another metric, or labels and --by rank");
    if (!K)
        return err_set(err, SPT_E_CONFIG,
                       "--metric %s needs a label set: give --labels, or --metric exact-match", name);
    if (!strcmp(name, "f1") && K != 2)
        return err_set(err, SPT_E_CONFIG,
                       "--metric f1 is for two labels, there are %zu: take macro-f1", K);
    return SPT_OK;
}

/* Labels found in the training data make it a classification; without them answers are decoded.
 * Whoever asks for decoding and names no labels has texts as targets. */
static spt_status choose_labels(struct trainer *t, spt_err *err)
{
    if (!t->task.labels && strcmp(t->s->by, "generate") && labels_found(t->train)) {
        t->task.labels_hint = ", or give --by generate if the targets are free text";
        TRY(task_text_set_labels(&t->task, t->s, examples_labels(t->train), "the training data",
                                 err));
    }
    t->plan.generate = !strcmp(t->s->by, "generate") || !t->task.labels;
    if (!strcmp(t->s->by, "rank") && !t->task.labels)
        return err_set(err, SPT_E_CONFIG, "--by rank needs a label set: give --labels");
    t->plan.metric = strcmp(t->s->metric, "auto") ? t->s->metric
                     : t->task.labels             ? "accuracy"
                                                  : "exact-match";
    return check_metric(t, err);
}

static spt_status load_data(struct trainer *t, spt_err *err)
{
    const struct settings *s = t->s;
    if (!s->train || !s->train[0])
        return err_set(err, SPT_E_USAGE, "--train FILE is missing");
    TRY(dataset_load(s, &t->task, s->train, DATASET_TRAIN, "train", &t->train, err));
    TRY(choose_labels(t, err));
    if (s->eval && s->eval[0])
        TRY(dataset_load(s, &t->task, s->eval, DATASET_LABELED, "eval", &t->eval, err));
    else if (s->patience > 0)
        return err_set(err, SPT_E_CONFIG, "--patience needs --eval FILE");
    return SPT_OK;
}

static int64_t default_steps(const struct trainer *t)
{
    const int64_t epochs_24 = 24 * t->plan.steps_per_epoch;
    return epochs_24 < 300 ? 300 : epochs_24 > 3000 ? 3000 : epochs_24;
}

/* A choice of the run, by its longest target; masks of dropout need the plain way. */
static spt_status choose_cross_attention(struct trainer *t, int64_t longest_target, spt_err *err)
{
    const struct settings *s = t->s;
    const bool asked = !strcmp(s->cross_attention, "absorbed");
    const int64_t rows = longest_target + (!strcmp(s->side, "decoder") ? t->plan.P : 0);
    if (asked && s->dropout > 0)
        return err_set(err, SPT_E_CONFIG,
                       "--cross-attention absorbed does not go with dropout: its masks differ by "
                       "head; use plain or auto");
    t->plan.absorb = asked || (!strcmp(s->cross_attention, "auto") && !(s->dropout > 0) &&
                               t5_absorb_pays(&t->engine.config, rows));
    return SPT_OK;
}

void train_set_rows(struct trainer *t, int64_t micro_rows)
{
    struct train_plan *p = &t->plan;
    const int64_t longest = examples_counts(t->train).longest_input + p->P;
    const int64_t all = p->batch * longest, several = t->s->micro_batch * longest;
    p->micro_rows = micro_rows;
    p->rows_in_flight = several ? several : micro_rows > longest ? micro_rows : longest;
    if (p->rows_in_flight > all)
        p->rows_in_flight = all;
}

static spt_status make_plan(struct trainer *t, spt_err *err)
{
    const struct settings *s = t->s;
    struct train_plan *p = &t->plan;
    const int64_t n = (int64_t)examples_count(t->train);
    p->E = t->engine.config.width;
    p->init = prompt_init_choice(s, t->task.labels != NULL);
    TRY(prompt_init_check(s, p->init, t->task.labels != NULL, err));
    TRY(prompt_length(s, p->init, p->E, &p->P, err));
    p->batch = s->batch < n ? s->batch : n;
    p->steps_per_epoch = (n + p->batch - 1) / p->batch;
    p->steps = s->steps        ? s->steps
               : s->epochs > 0 ? (int64_t)ceil(s->epochs * (double)p->steps_per_epoch)
                               : default_steps(t);
    p->eval_every = s->eval_every ? s->eval_every : (p->steps + 19) / 20;
    p->save_every = s->save_every ? s->save_every : p->eval_every;
    const struct examples_counts c = examples_counts(t->train);
    p->remat = s->remat;
    train_set_rows(t, s->micro_rows);
    return choose_cross_attention(t, c.longest_target, err);
}

static spt_status make_prompt(struct trainer *t, spt_err *err)
{
    struct train_plan *plan = &t->plan;
    float *rows = mem_alloc_aligned((size_t)(plan->P * plan->E), sizeof *rows);
    if (!rows)
        return err_nomem(err, (size_t)(plan->P * plan->E) * sizeof *rows);
    spt_status st = prompt_start(t->s, &t->engine, t->task.labels, plan->init, plan->P, t->seed,
                                 rows, plan->init_text, sizeof plan->init_text, err);
    if (!st)
        st = prompt_new(plan->P, plan->E, rows, NULL, &t->prompt, err);
    mem_free_aligned(rows);
    TRY(st);
    prompt_place(t->s, &t->prompt->use);
    return SPT_OK;
}

spt_status train_use_settings(struct trainer *t, spt_err *err)
{
    buf text;
    buf_init(&text, 1 << 20);
    spt_status st = settings_text_seeded(t->s, t->seed, &text, err);
    if (!st)
        st = prompt_set_text(&t->prompt->use.settings, buf_str(&text), err);
    buf_release(&text);
    t->prompt->use.seed = t->seed;
    return st;
}

/* The prompt's provenance: all that a later command needs to use it as it was trained. */
static spt_status fill_use(struct trainer *t, spt_err *err)
{
    struct prompt_use *u = &t->prompt->use;
    const struct {
        char **field;
        const char *value;
    } fields[] = {
        {&u->input_template, examples_input_template(t->train)},
        {&u->target_template, examples_target_template(t->train)},
        {&u->base_hash, t->engine.base_hash[0] ? t->engine.base_hash : NULL},
        {&u->base_name, t->engine.base_name},
        {&u->vocab_hash, vocab_hash(t->engine.vocab)},
        {&u->vocab_rule, vocab_rule_name(t->engine.vocab)},
        {&u->compute, engine_compute_name(&t->engine)},
        {&u->initialiser, t->plan.init_text},
        {&u->program, "spt " SPT_VERSION},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        TRY(prompt_set_text(fields[i].field, fields[i].value, err));
    TRY(train_use_settings(t, err));
    u->max_input = t->task.max_input;
    u->max_target = t->task.max_target;
    if (!t->task.labels)
        return SPT_OK;
    const size_t K = label_set_count(t->task.labels);
    const char **labels = mem_alloc(K, sizeof *labels);
    if (!labels)
        return err_nomem(err, K * sizeof *labels);
    for (size_t i = 0; i < K; i++)
        labels[i] = label_set_text(t->task.labels, i);
    const spt_status st = prompt_set_labels(u, labels, K, err);
    mem_free(labels);
    return st;
}

static spt_status make_optimiser(struct trainer *t, spt_err *err)
{
    const struct settings *s = t->s;
    struct optim_config cfg = optim_config_prompt_tuning();
    if (!optim_kind_from_name(s->optimizer, &cfg.kind))
        return err_set(err, SPT_E_USAGE, "--optimizer: \"%s\" is unknown", s->optimizer);
    cfg.adafactor.weight_decay_rate = s->weight_decay;
    cfg.adamw.weight_decay = s->weight_decay;
    cfg.global_norm_clip = s->clip_norm;
    const struct optim_param param = {t->prompt->use.side == PROMPT_DECODER ? PROMPT_T5X_DECODER
                                                                            : PROMPT_T5X_ENCODER,
                                      shape_2d(t->plan.P, t->plan.E), NULL};
    TRY(optim_new(&cfg, &param, 1, &t->optim, err));
    t->lr = lr_schedule_default();
    t->lr.base_learning_rate = s->lr;
    t->lr.warmup_steps = s->warmup;
    t->lr.min_learning_rate = 0;
    TRY(lr_schedule_parse(&t->lr, s->schedule, err));
    return lr_schedule_check(&t->lr, err);
}

static spt_status make_order(struct trainer *t, spt_err *err)
{
    const struct train_order_options o = {
        .count = examples_count(t->train),
        .batch = (size_t)t->plan.batch,
        .seed = t->seed,
    };
    return train_order_new(&o, &t->order, err);
}

spt_status train_make_storage(struct trainer *t, spt_err *err)
{
    struct gradient *g = &t->gradient;
    g->model = t->engine.model;
    g->comm = t->s->data_ranks;
    g->loss = t->loss_opts;
    g->P = t->plan.P;
    g->E = t->plan.E;
    g->rows_in_flight = t->plan.rows_in_flight;
    g->micro_batch = t->s->micro_batch;
    g->remat = t->plan.remat;
    g->absorb = t->plan.absorb;
    TRY(gradient_open(g, t->plan.batch, examples_counts(t->train).longest_target,
                      t->prompt->use.side == PROMPT_DECODER, t->s->dropout > 0, err));
    if (!t->eval)
        return SPT_OK;
    struct evaluate_opts o = evaluate_opts_of(t->s, &t->task);
    o.generate = t->plan.generate;
    o.micro_rows = t->plan.micro_rows;
    const struct examples_counts c = examples_counts(t->eval);
    return evaluator_open(&t->engine, &t->task, c.longest_input, c.longest_target, &o, t->prompt,
                          &t->evaluator, err);
}

spt_status train_open_plan(struct trainer *t, const struct settings *s, struct run_output *out,
                           spt_err *err)
{
    t->s = s;
    t->out = out;
    t->started_ns = os_monotonic_ns();
    t->evaluated_step = t->saved_step = -1;
    t->state.best_step = -1;
    t->last_score = NAN;
    TRY(ranks_take_u32(s->comm, &t->seed, prompt_seed(s, &t->seed, err), err));
    t->trainer_key = rng_split_at(rng_key_of(t->seed), 2, 1, RNG_CLASSIC);
    t->loss_opts = (struct t5_loss_opts){.z_loss = (float)s->z_loss,
                                         .label_smoothing = (float)s->label_smoothing};
    TRY(parse_normalize(s->normalize, &t->loss_opts, err));
    TRY(engine_open(s, &t->engine, err));
    TRY(task_text_open(&t->engine, s, NULL, &t->task, err));
    TRY(load_data(t, err));
    TRY(make_plan(t, err));
    TRY(make_prompt(t, err));
    TRY(make_optimiser(t, err));
    TRY(make_order(t, err));
    return train_count(t, err);
}

unsigned train_uses(const struct trainer *t)
{
    return T5_BACKWARD | (t->plan.absorb ? T5_ABSORB : 0);
}

static spt_status load_weights(struct trainer *t, spt_err *err)
{
    return engine_load_model(&t->engine, t->s, train_uses(t), err);
}

/* The run directory, by the rank that writes: locked, and free of what a crash left. */
static spt_status open_run(struct trainer *t, spt_err *err)
{
    const struct ckpt_opts opts = {
        .keep = (size_t)t->s->keep,
        .keep_best = true,
        .lower_is_better = figure_lower_is_better(t->plan.metric),
    };
    TRY(ckpt_open(t->s->out, &opts, &t->ck, err));
    return fs_remove_temporaries(t->s->out, err);
}

spt_status train_open(struct trainer *t, const struct settings *s, struct run_output *out,
                      bool *nothing_to_do, spt_err *err)
{
    if (!s->out || !s->out[0])
        return err_set(err, SPT_E_USAGE, "--out DIR is missing");
    TRY(train_open_plan(t, s, out, err));
    TRY(strict_status(s, err));
    /* The directory is tried before minutes are spent on weights. */
    TRY(comm_agree(s->comm, comm_leads(s->comm) ? open_run(t, err) : SPT_OK, err));
    TRY(load_weights(t, err));
    TRY(fill_use(t, err));
    TRY(train_make_storage(t, err));
    TRY(strict_status(s, err));
    const spt_status st = train_restore(t, err);
    if (st && st != SPT_E_NOTFOUND)
        return st;
    TRY(train_compare_ranks(t, err));
    if (!st) {
        if (!t->evaluation_owed && (t->state.step >= t->plan.steps || t->state.stopped_early)) {
            log_info("%s already holds the finished run (step %lld of %lld): nothing to train",
                     s->out, (long long)t->state.step, (long long)t->plan.steps);
            if (t->ck)
                ckpt_tidy(t->ck, t->state.step);
            *nothing_to_do = true;
            return SPT_OK;
        }
        if (!s->resume)
            return err_set(err, SPT_E_CONFIG,
                           "%s holds a run at step %lld: give --resume to continue it, or another "
                           "--out",
                           s->out, (long long)t->state.step);
        log_info("resuming at step %lld", (long long)t->state.step);
    }
    TRY(train_open_logs(t, err));
    if (st == SPT_E_NOTFOUND && s->resume)
        log_info("%s holds no run yet: starting one", s->out);
    return st == SPT_E_NOTFOUND ? train_save(t, err) : SPT_OK;
}

spt_status train_try_step(struct trainer *t, spt_err *err)
{
    TRY(load_weights(t, err));
    TRY(train_make_storage(t, err));
    /* The first one also pays for what is made once; a second one is worth its time if short. */
    for (int i = 0; i < 2 && (i == 0 || t->plan.step_seconds < 5); i++) {
        const uint32_t *which;
        size_t n;
        struct t5_loss loss;
        TRY(train_order_next(t->order, &which, &n, err));
        const int64_t started = os_monotonic_ns();
        TRY(train_gradient(t, which, n, &loss, err));
        t->plan.step_seconds = (double)(os_monotonic_ns() - started) / 1e9;
    }
    return SPT_OK;
}

static void close_logs(struct train_logs *l)
{
    fs_log_close(l->train);
    fs_log_close(l->eval);
    events_close(l->events);
    events_close(l->scores);
}

void train_drop_storage(struct trainer *t)
{
    evaluator_close(&t->evaluator);
    gradient_close(&t->gradient);
}

void train_close(struct trainer *t)
{
    close_logs(&t->logs);
    ckpt_close(t->ck);
    train_drop_storage(t);
    batch_release(&t->batch);
    train_order_free(t->order);
    optim_free(t->optim);
    prompt_free(t->prompt);
    examples_free(t->train);
    examples_free(t->eval);
    task_text_close(&t->task);
    engine_close(&t->engine);
    *t = (struct trainer){0};
}
