/* From settings to a trainer that is ready for its first step. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "fs/fs.h"
#include "prompt/prompt_io.h"
#include "run/init_prompt.h"
#include "run/plain_code.h"
#include "run/prompt_session.h"
#include "run/ranks.h"
#include "run/train/train_internal.h"

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
static spt_status check_metric(const struct training *a, spt_err *err)
{
    const char *name = a->metric;
    const size_t K = a->task.labels ? label_set_count(a->task.labels) : 0;
    TRY(code_check(a->s, err));
    if (!strcmp(name, "exact-match") || names_code(name))
        return SPT_OK;
    if (!strcmp(name, "loss"))
        return !a->generate ? SPT_OK
                            : err_set(err, SPT_E_CONFIG,
                                      "--metric loss is not computed for decoded answers: take "
                                      "another metric, or labels and --by rank");
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
static spt_status choose_labels(struct training *a, spt_err *err)
{
    const struct settings *s = a->s;
    if (!a->task.labels && strcmp(s->by, "generate") && labels_found(a->train)) {
        a->task.labels_hint = ", or give --by generate if the targets are free text";
        TRY(task_text_set_labels(&a->task, s, examples_labels(a->train), "the training data",
                                 err));
    }
    a->generate = !strcmp(s->by, "generate") || !a->task.labels;
    if (!strcmp(s->by, "rank") && !a->task.labels)
        return err_set(err, SPT_E_CONFIG, "--by rank needs a label set: give --labels");
    a->metric = strcmp(s->metric, "auto") ? s->metric
                : a->task.labels          ? "accuracy"
                                          : "exact-match";
    return check_metric(a, err);
}

/* Labels come from the training data: where that differs between ranks, the evaluation data would be
 * blamed. st: how loading went. */
static spt_status same_training_data(const struct training *a, spt_status st, spt_err *err)
{
    char hex[33] = "";
    buf text;
    if (comm_size(a->s->comm) == 1)
        return st;
    buf_init(&text, 1 << 16);
    if (!st)
        st = dataset_hash(a->train, hex, err);
    buf_addf(&text, "training data = %s (%zu examples)\n", hex,
             a->train ? examples_count(a->train) : 0);
    if (!st)
        st = buf_status(&text, "training data", err);
    st = ranks_same_text(a->s->comm, &text, st, err);
    buf_release(&text);
    return st;
}

static spt_status load_data(struct training *a, spt_err *err)
{
    const struct settings *s = a->s;
    if (!s->train || !s->train[0])
        return err_set(err, SPT_E_USAGE, "--train FILE is missing");
    const spt_status loaded =
        dataset_load(s, &a->task, s->train, DATASET_TRAIN, "train", &a->train, err);
    TRY(same_training_data(a, loaded, err));
    TRY(choose_labels(a, err));
    if (s->eval && s->eval[0])
        return dataset_load(s, &a->task, s->eval, DATASET_LABELED, "eval", &a->eval, err);
    for (size_t i = 0; i < a->runs; i++)
        if (a->run[i].s->patience > 0)
            return err_set(err, SPT_E_CONFIG, "--patience needs --eval FILE");
    return SPT_OK;
}

static int64_t default_steps(const struct trainer *t)
{
    const int64_t epochs_24 = 24 * t->plan.steps_per_epoch;
    return epochs_24 < 300 ? 300 : epochs_24 > 3000 ? 3000 : epochs_24;
}

/* A choice of the run, by its longest target; masks of dropout need the plain way. */
static spt_status choose_cross_attention(struct training *a, spt_err *err)
{
    const struct settings *s = a->s;
    const bool asked = !strcmp(s->cross_attention, "absorbed");
    const bool automatic = !strcmp(s->cross_attention, "auto") && !(s->dropout > 0);
    if (asked && s->dropout > 0)
        return err_set(err, SPT_E_CONFIG,
                       "--cross-attention absorbed does not go with dropout: its masks differ by "
                       "head; use plain or auto");
    a->absorb = asked;
    for (size_t i = 0; automatic && i < a->runs; i++) {
        const int64_t P = !strcmp(s->side, "decoder") ? a->run[i].plan.P : 0;
        const bool pays = t5_absorb_pays(&a->engine.config,
                                         examples_counts(a->train).longest_target + P);
        if (i && pays != a->absorb)
            return err_set(err, SPT_E_CONFIG,
                           "--cross-attention auto would differ between these lengths of a decoder "
                           "prompt: give plain or absorbed");
        a->absorb = pays;
    }
    return SPT_OK;
}

void train_set_rows(struct training *a, int64_t micro_rows)
{
    const int64_t input = examples_counts(a->train).longest_input;
    int64_t longest = 0, all = 0;
    for (size_t i = 0; i < a->runs; i++) {
        const struct train_plan *p = &a->run[i].plan;
        longest = input + p->P > longest ? input + p->P : longest;
        all += p->batch * (input + p->P);
    }
    const int64_t several = a->s->micro_batch * longest;
    a->micro_rows = micro_rows;
    a->rows_in_flight = several ? several : micro_rows > longest ? micro_rows : longest;
    if (a->rows_in_flight > all)
        a->rows_in_flight = all;
}

static spt_status make_plan(struct trainer *t, spt_err *err)
{
    const struct settings *s = t->s;
    struct train_plan *p = &t->plan;
    const int64_t n = (int64_t)examples_count(t->all->train);
    const bool labels = t->all->task.labels != NULL;
    p->E = t->all->engine.config.width;
    p->init = prompt_init_choice(s, labels);
    TRY(prompt_init_check(s, p->init, labels, err));
    TRY(prompt_length(s, p->init, p->E, &p->P, err));
    p->batch = s->batch < n ? s->batch : n;
    p->steps_per_epoch = (n + p->batch - 1) / p->batch;
    p->steps = s->steps        ? s->steps
               : s->epochs > 0 ? (int64_t)ceil(s->epochs * (double)p->steps_per_epoch)
                               : default_steps(t);
    p->eval_every = s->eval_every ? s->eval_every : (p->steps + 19) / 20;
    p->save_every = s->save_every ? s->save_every : p->eval_every;
    return SPT_OK;
}

static spt_status make_prompt(struct trainer *t, spt_err *err)
{
    struct train_plan *plan = &t->plan;
    float *rows = mem_alloc_aligned((size_t)(plan->P * plan->E), sizeof *rows);
    if (!rows)
        return err_nomem(err, (size_t)(plan->P * plan->E) * sizeof *rows);
    spt_status st =
        prompt_start(t->s, &t->all->engine, t->all->task.labels, plan->init, plan->P, t->seed,
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
        {&u->input_template, examples_input_template(t->all->train)},
        {&u->target_template, examples_target_template(t->all->train)},
        {&u->base_hash, t->all->engine.base_hash[0] ? t->all->engine.base_hash : NULL},
        {&u->base_name, t->all->engine.base_name},
        {&u->vocab_hash, vocab_hash(t->all->engine.vocab)},
        {&u->vocab_rule, vocab_rule_name(t->all->engine.vocab)},
        {&u->compute, engine_compute_name(&t->all->engine)},
        {&u->initialiser, t->plan.init_text},
        {&u->program, "spt " SPT_VERSION},
    };
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++)
        TRY(prompt_set_text(fields[i].field, fields[i].value, err));
    TRY(train_use_settings(t, err));
    u->max_input = t->all->task.max_input;
    u->max_target = t->all->task.max_target;
    if (!t->all->task.labels)
        return SPT_OK;
    const size_t K = label_set_count(t->all->task.labels);
    const char **labels = mem_alloc(K, sizeof *labels);
    if (!labels)
        return err_nomem(err, K * sizeof *labels);
    for (size_t i = 0; i < K; i++)
        labels[i] = label_set_text(t->all->task.labels, i);
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
        .count = examples_count(t->all->train),
        .batch = (size_t)t->plan.batch,
        .seed = t->seed,
    };
    return train_order_new(&o, &t->order, err);
}

/* Returns the examples of a step. */
static int64_t plan_gradient(struct training *a)
{
    struct gradient *g = &a->gradient;
    *g = (struct gradient){.model = a->engine.model,
                           .comm = a->data,
                           .loss = a->run[0].loss_opts,
                           .E = a->engine.config.width,
                           .prompts = (int64_t)a->runs,
                           .rows_in_flight = a->rows_in_flight,
                           .micro_batch = a->s->micro_batch,
                           .remat = a->remat,
                           .absorb = a->absorb};
    int64_t n = 0;
    for (size_t i = 0; i < a->runs; i++) {
        const struct train_plan *p = &a->run[i].plan;
        g->P = p->P > g->P ? p->P : g->P;
        g->least_P = !i || p->P < g->least_P ? p->P : g->least_P;
        n += p->batch;
    }
    return n;
}

/* The run of the longest prompt: what is planned for it holds for all. */
static const struct trainer *longest_run(const struct training *a)
{
    const struct trainer *t = a->run;
    for (size_t i = 1; i < a->runs; i++)
        t = a->run[i].plan.P > t->plan.P ? &a->run[i] : t;
    return t;
}

static struct evaluate_opts evaluation_opts(const struct training *a)
{
    struct evaluate_opts o = evaluate_opts_of(a->s, &a->task);
    o.generate = a->generate;
    o.micro_rows = a->micro_rows;
    return o;
}

spt_status train_make_storage(struct training *a, spt_err *err)
{
    const struct prompt *longest = longest_run(a)->prompt;
    const int64_t n = plan_gradient(a);
    TRY(gradient_open(&a->gradient, n, examples_counts(a->train).longest_target,
                      longest->use.side == PROMPT_DECODER, a->s->dropout > 0, err));
    if (!a->eval)
        return SPT_OK;
    const struct evaluate_opts o = evaluation_opts(a);
    const struct examples_counts c = examples_counts(a->eval);
    return evaluator_open(&a->engine, &a->task, c.longest_input, c.longest_target, &o, longest,
                          &a->evaluator, err);
}

/* Seed and loss: what can be wrong before anything is opened. */
static spt_status begin_run(struct training *a, struct trainer *t, const struct train_member *m,
                            spt_err *err)
{
    const struct settings *s = m->s;
    *t = (struct trainer){.all = a, .s = s, .name = m->name};
    t->evaluated_step = t->saved_step = -1;
    t->state.best_step = -1;
    t->last_score = NAN;
    TRY(ranks_take_u32(s->comm, &t->seed, prompt_seed(s, &t->seed, err), err));
    t->trainer_key = rng_split_at(rng_key_of(t->seed), 2, 1, RNG_CLASSIC);
    t->loss_opts = (struct t5_loss_opts){.z_loss = (float)s->z_loss,
                                         .label_smoothing = (float)s->label_smoothing};
    return parse_normalize(s->normalize, &t->loss_opts, err);
}

static spt_status make_run(struct trainer *t, spt_err *err)
{
    const size_t PE = (size_t)(t->plan.P * t->plan.E);
    TRY(make_prompt(t, err));
    TRY(make_optimiser(t, err));
    TRY(make_order(t, err));
    t->sum = mem_alloc_aligned(PE, sizeof *t->sum);
    return t->sum ? SPT_OK : err_nomem(err, PE * sizeof *t->sum);
}

/* Names the member in front of what is wrong with it. */
static spt_status of_run(const struct trainer *t, spt_status st, spt_err *err)
{
    return st && t->name[0] ? err_wrap(err, st, "%s", t->name) : st;
}

spt_status train_open_plan(struct training *a, const struct settings *s,
                           const struct train_member *m, size_t n, struct run_output *out,
                           spt_err *err)
{
    a->s = s;
    a->out = out;
    a->ranks = s->part;
    a->data = s->data_ranks;
    a->started_ns = os_monotonic_ns();
    a->remat = s->remat;
    a->run = mem_zalloc(n, sizeof *a->run);
    a->part = mem_zalloc(n, sizeof *a->part);
    if (!a->run || !a->part)
        return err_nomem(err, n * sizeof *a->run);
    for (a->runs = 0; a->runs < n; a->runs++)
        TRY(of_run(&a->run[a->runs], begin_run(a, &a->run[a->runs], &m[a->runs], err), err));
    TRY(engine_open(s, &a->engine, err));
    TRY(task_text_open(&a->engine, s, NULL, &a->task, err));
    TRY(load_data(a, err));
    for (size_t i = 0; i < n; i++)
        TRY(of_run(&a->run[i], make_plan(&a->run[i], err), err));
    train_set_rows(a, s->micro_rows);
    TRY(choose_cross_attention(a, err));
    for (size_t i = 0; i < n; i++)
        TRY(of_run(&a->run[i], make_run(&a->run[i], err), err));
    return train_count(a, err);
}

unsigned train_uses(const struct training *a)
{
    bool absorb = a->absorb;
    const struct evaluate_opts o = evaluation_opts(a);
    for (size_t i = 0; a->eval && i < a->runs; i++)
        absorb = absorb || evaluate_absorbs(&o, &a->engine.config, &a->task,
                                            prompts_of(a->run[i].prompt).P_dec);
    return T5_BACKWARD | (absorb ? T5_ABSORB : 0);
}

static spt_status load_weights(struct training *a, spt_err *err)
{
    return engine_load_model(&a->engine, a->s, train_uses(a), err);
}

/* Whether best.json speaks of this prompt, whose state somebody may have removed. */
static bool is_best_prompt(void *ctx, const char *name)
{
    const struct trainer *t = ctx;
    buf path;
    buf_init(&path, 65536);
    const spt_status st = prompt_best_path(t->s->out, &path, NULL);
    const bool yes = st ? st != SPT_E_NOTFOUND : !strcmp(path_base(buf_str(&path)), name);
    buf_release(&path);
    return yes;
}

/* The run directory, by the rank that writes: locked, and free of what a crash left. */
static spt_status open_run(struct trainer *t, spt_err *err)
{
    const struct ckpt_opts opts = {
        .keep = (size_t)t->s->keep,
        .keep_best = true,
        .lower_is_better = figure_lower_is_better(t->all->metric),
        .spare = is_best_prompt,
        .ctx = t,
    };
    TRY(ckpt_open(t->s->out, &opts, &t->ck, err));
    return fs_remove_temporaries(t->s->out, err);
}

/* Restores what the directory holds. *fresh: nothing. Writes nothing but best.json again. */
static spt_status restore_run(struct trainer *t, bool *fresh, spt_err *err)
{
    const struct settings *s = t->s;
    const spt_status st = train_restore(t, err);
    *fresh = st == SPT_E_NOTFOUND;
    if (st && !*fresh)
        return st;
    TRY(train_compare_ranks(t, err));
    if (*fresh)
        return SPT_OK;
    if (!t->evaluation_owed && (t->state.step >= t->plan.steps || t->state.stopped_early)) {
        log_info("%s already holds the finished run (step %lld of %lld): nothing to train", s->out,
                 (long long)t->state.step, (long long)t->plan.steps);
        if (t->ck)
            ckpt_tidy(t->ck, t->state.step);
        return SPT_OK;
    }
    if (!t->all->s->resume)
        return err_set(err, SPT_E_CONFIG,
                       "%s holds a run at step %lld: give --resume to continue it, or another --out",
                       s->out, (long long)t->state.step);
    log_info("%s%sresuming at step %lld", t->name, t->name[0] ? ": " : "", (long long)t->state.step);
    return SPT_OK;
}

static spt_status start_run(struct trainer *t, bool fresh, spt_err *err)
{
    if (!fresh && !t->evaluation_owed &&
        (t->state.step >= t->plan.steps || t->state.stopped_early))
        return SPT_OK;
    TRY(train_open_logs(t, err));
    if (fresh && t->all->s->resume && !t->name[0])
        log_info("%s holds no run yet: starting one", t->s->out);
    return fresh ? train_save(t, err) : SPT_OK;
}

/* All directories are looked at before any of them is written to. */
static spt_status start_runs(struct training *a, spt_err *err)
{
    bool *fresh = mem_zalloc(a->runs, sizeof *fresh);
    spt_status st = fresh ? SPT_OK : err_nomem(err, a->runs);
    for (size_t i = 0; !st && i < a->runs; i++)
        st = restore_run(&a->run[i], &fresh[i], err);
    for (size_t i = 0; !st && i < a->runs; i++)
        st = start_run(&a->run[i], fresh[i], err);
    mem_free(fresh);
    return st;
}

spt_status train_open(struct training *a, const struct settings *s, const struct train_member *m,
                      size_t n, struct run_output *out, spt_err *err)
{
    if (!s->out || !s->out[0])
        return err_set(err, SPT_E_USAGE, "--out DIR is missing");
    TRY(train_open_plan(a, s, m, n, out, err));
    TRY(strict_status(s, err));
    /* The directories are tried before minutes are spent on weights. */
    for (size_t i = 0; i < n; i++)
        TRY(comm_agree(s->comm, comm_leads(s->comm) ? open_run(&a->run[i], err) : SPT_OK, err));
    TRY(load_weights(a, err));
    for (size_t i = 0; i < n; i++)
        TRY(fill_use(&a->run[i], err));
    TRY(train_make_storage(a, err));
    TRY(strict_status(s, err));
    return start_runs(a, err);
}

spt_status train_try_step(struct training *a, spt_err *err)
{
    TRY(load_weights(a, err));
    TRY(train_make_storage(a, err));
    /* The first one also pays for what is made once; a second one is worth its time if short. */
    for (int i = 0; i < 2 && (i == 0 || a->step_seconds < 5); i++) {
        const int64_t started = os_monotonic_ns();
        TRY(train_gradient(a, err));
        /* Of several runs each is told in its first step. */
        if (a->runs == 1 && a->part[0].st)
            return err_set(err, a->part[0].st, "%s", a->part[0].err.msg);
        a->step_seconds = (double)(os_monotonic_ns() - started) / 1e9;
    }
    return SPT_OK;
}

static void close_logs(struct train_logs *l)
{
    fs_log_close(l->train);
    fs_log_close(l->eval);
    events_close(l->events);
    events_close(l->scores);
    *l = (struct train_logs){0};
}

void train_drop_storage(struct training *a)
{
    evaluator_close(&a->evaluator);
    gradient_close(&a->gradient);
}

void train_leave(struct trainer *t)
{
    close_logs(&t->logs);
    ckpt_close(t->ck);
    t->ck = NULL;
    batch_release(&t->batch);
    t->batch = (batch){0};
    mem_free_aligned(t->sum);
    t->sum = NULL;
    t->left = true;
}

static void close_run(struct trainer *t)
{
    train_leave(t);
    train_order_free(t->order);
    optim_free(t->optim);
    prompt_free(t->prompt);
}

void train_close(struct training *a)
{
    for (size_t i = 0; i < a->runs; i++)
        close_run(&a->run[i]);
    train_drop_storage(a);
    examples_free(a->train);
    examples_free(a->eval);
    task_text_close(&a->task);
    engine_close(&a->engine);
    mem_free(a->run);
    mem_free(a->part);
    *a = (struct training){0};
}
